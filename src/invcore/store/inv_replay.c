/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_replay.c: what one entry of the log does. It decides nothing about stock and reads no clock.
 *
 * THREADS. Entries in windows are applied by two threads at once, of different stripes: a stripe's
 * rows, names, holds and queue are touched by one thread only. The id index is shared, under the
 * locks of its shards, and so are pool, heap and lanes. A hold of another stripe is touched in one
 * case: an ended one whose id is given out again; no other entry with that id is under way then.
 */
#include "inv_replay.h"

#define STEP_ENTRIES 64u /* fetched together: their lines stay in the first-level cache */

static bool is_stock(uint8_t kind) {
    return kind == INV_ENTRY_RECEIVE || kind == INV_ENTRY_ISSUE || kind == INV_ENTRY_ADJUST ||
           kind == INV_ENTRY_COUNT || kind == INV_ENTRY_POLICY;
}

uint64_t inv_replay_hash(const inv_store *store, const inv_effect *effect) {
    if (effect->kind == INV_ENTRY_NAME ? effect->body_hash != INV_NAME_SKU : !effect->id.present)
        return 0;
    uint64_t tweak = inv_seller_tweak_of(store, effect->seller);
    if (effect->kind == INV_ENTRY_NAME)
        return inv_siphash13(store->key, tweak, effect->blob.bytes, effect->blob.length);
    return inv_hold_hash(store->key, tweak, is_stock(effect->kind), effect->id.text,
                         effect->id.uuid);
}

static void key_of(const inv_effect_id *id, uint16_t seller, bool op, uint64_t hash,
                   inv_hold_key *out) {
    *out = (inv_hold_key){.hash = hash, .text = id->text, .seller = seller, .op = op};
    memcpy(out->uuid, id->uuid, 16);
}

void inv_replay_key(const inv_effect *effect, uint64_t hash, inv_hold_key *out) {
    key_of(&effect->id, effect->seller, false, hash, out);
}

/* ---- applying -------------------------------------------------------------------------------- */

/* Replaying onto a snapshot: is this change in the stripe already? It is exact as of its floor. */
static inline bool is_in_copy(const inv_store *store, uint32_t stripe,
                              const inv_replay_place *place) {
    uint64_t at = INV_PLANTED(INV_PLANT_SNAPSHOT_START) ? place->record_lsn : place->record_end;
    return INV_UNLIKELY(store->replay_floors != NULL) && at <= store->replay_floors[stripe] &&
           !INV_PLANTED(INV_PLANT_SNAPSHOT_FLOORS);
}

static inv_result replay_rows(inv_store *store, const inv_effect *effect,
                              const inv_replay_place *place) {
    for (uint32_t i = 0; i < effect->line_count; i++) {
        if (is_in_copy(store, inv_sku_stripe(store, effect->lines[i].sku), place)) continue;
        inv_result result = inv_apply_row(store, &effect->lines[i]);
        if (result != INV_OK) return result;
    }
    return INV_OK;
}

/* A new hold under an id. An ended one of the same id was forgotten live, so it goes first. */
static inv_result open_hold(inv_store *store, const inv_hold_key *key, uint32_t stripe,
                            inv_ref *out_ref) {
    inv_hold_shard *shard = inv_holds_shard(&store->holds, key->hash);
    inv_result result = INV_OK;
    inv_lock_take(&shard->lock);
    inv_ref old = inv_holds_find_locked(&store->holds, shard, key);
    if (old != 0) {
        inv_hold *hold = inv_hold_at(&store->holds, old);
        if (hold->state == INV_STATE_HELD || hold->state == INV_STATE_ALLOCATED) {
            result = INV_LOG_CORRUPT;
        } else {
            inv_holds_remove_locked(&store->holds, shard, key->hash, old);
            hold->gone = 1;
        }
    }
    if (result == INV_OK) result = inv_holds_reserve_locked(&store->holds, shard);
    if (result == INV_OK) {
        *out_ref = inv_apply_create_locked(store, key, stripe, shard);
        if (*out_ref == 0) result = INV_NO_MEMORY;
    }
    inv_lock_give(&shard->lock);
    return result;
}

static inv_result replay_sku_name(inv_store *store, const inv_effect *effect, uint64_t hash,
                                  const inv_replay_place *place) {
    uint32_t stripe = (uint32_t)hash & (store->stripe_count - 1);
    inv_table *table = &store->stripes[stripe].table;
    if (is_in_copy(store, stripe, place)) return INV_OK;
    if (effect->account != inv_sku_number(store, stripe, table->sku_count)) return INV_LOG_CORRUPT;
    inv_result result = inv_table_reserve_sku(table, &store->lanes, effect->blob.length);
    if (result != INV_OK) return result;
    (void)inv_table_add_sku(table, hash, effect->seller, effect->blob);
    return INV_OK;
}

static inv_result replay_name(inv_store *store, const inv_effect *effect, uint64_t hash,
                              const inv_replay_place *place) {
    uint32_t number = effect->account;
    if (effect->blob.bytes == NULL) return INV_LOG_CORRUPT;
    if (effect->body_hash == INV_NAME_SKU) {
        if (effect->blob.length < 1 || effect->blob.length > INV_SKU_BYTES_MAX)
            return INV_LOG_CORRUPT;
        return replay_sku_name(store, effect, hash, place);
    }
    if (effect->body_hash == INV_NAME_REFERENCE) {
        if (number >= store->reference_next) store->reference_next = number + 1;
        return INV_OK;
    }
    inv_names *names = inv_store_names(store, effect->body_hash);
    if (names == NULL) return INV_LOG_CORRUPT; /* inv_effect_decode has let no other pass */
    if (number < inv_names_count(names) && place->record_end <= store->replay_fuzzy_lsn)
        return INV_OK; /* the snapshot has it */
    return inv_names_restore(names, number, effect->blob);
}

static void touch(inv_store *store, uint32_t stripe, uint64_t record_end) {
    atomic_store_explicit(&store->stripes[stripe].lsn_touched, record_end, memory_order_relaxed);
}

static uint32_t lowest_stripe(const inv_store *store, const inv_effect *effect, uint64_t hash) {
    uint32_t lowest =
        effect->line_count == 0 ? (uint32_t)hash & (store->stripe_count - 1) : store->stripe_count;
    for (uint32_t i = 0; i < effect->line_count; i++) {
        uint32_t stripe = inv_sku_stripe(store, effect->lines[i].sku);
        if (stripe < lowest) lowest = stripe;
    }
    return lowest;
}

/* An op_id: of a stock change (its id) or of a part of a reservation. */
static inv_result replay_op(inv_store *store, const inv_effect *effect, const inv_effect_id *id,
                            uint64_t hash, uint32_t stripe, const inv_replay_place *place) {
    inv_hold_key key;
    inv_ref ref;
    if (is_in_copy(store, stripe, place) || INV_PLANTED(INV_PLANT_OP_ID_LOST)) return INV_OK;
    key_of(id, effect->seller, true, hash, &key);
    inv_result result = open_hold(store, &key, stripe, &ref);
    if (result != INV_OK) return result;
    inv_apply_op(store, effect, ref, place->time_ms);
    inv_hold_at(&store->holds, ref)->lsn = place->lsn;
    return INV_OK;
}

static inv_result replay_hold(inv_store *store, const inv_effect *effect, uint64_t hash,
                              const inv_replay_place *place) {
    bool fresh = effect->kind == INV_ENTRY_RESERVE || effect->kind == INV_ENTRY_TOMBSTONE;
    inv_hold_key key;
    inv_ref ref = 0;
    inv_result result = INV_OK;
    if (!effect->id.present || (effect->kind == INV_ENTRY_RESERVE && effect->line_count == 0))
        return INV_LOG_CORRUPT;
    key_of(&effect->id, effect->seller, false, hash, &key);
    key.no_body = effect->kind == INV_ENTRY_TOMBSTONE;
    uint32_t home = fresh ? lowest_stripe(store, effect, hash) : 0;
    if (fresh && !is_in_copy(store, home, place))
        result = open_hold(store, &key, home, &ref);
    else if (!fresh)
        ref = inv_holds_find(&store->holds, &key);
    if (result != INV_OK) return result;
    if (ref == 0 && !fresh) return INV_LOG_CORRUPT;
    if (ref != 0) home = inv_hold_stripe(&store->holds, ref);
    /* The line is none of a hold that lives elsewhere, unless that is a cart: those come alone. */
    if (place->stripe != INV_NUMBER_NONE && home != place->stripe) return INV_LOG_CORRUPT;
    result = replay_rows(store, effect, place);
    if (result != INV_OK || is_in_copy(store, home, place)) return result; /* its op_id too */
    result = inv_apply_hold(store, effect, ref, place->time_ms);
    if (result != INV_OK) return result;
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    if (hold->state != effect->state) return INV_LOG_CORRUPT;
    hold->lsn = place->lsn;
    touch(store, home, place->record_end);
    if (!effect->op_id.present) return INV_OK;
    uint64_t op_hash = inv_hold_hash(store->key, inv_seller_tweak_of(store, effect->seller), true,
                                     effect->op_id.text, effect->op_id.uuid);
    return replay_op(store, effect, &effect->op_id, op_hash, home, place);
}

inv_result inv_replay_apply(inv_store *store, const inv_effect *effect, uint64_t hash,
                            const inv_replay_place *place) {
    inv_result result;
    if (effect->kind == INV_ENTRY_NAME) return replay_name(store, effect, hash, place);
    for (uint32_t i = 0; i < effect->line_count; i++) {
        uint32_t stripe = inv_sku_stripe(store, effect->lines[i].sku);
        if (inv_sku_place(store, effect->lines[i].sku) >= store->stripes[stripe].table.sku_count)
            return INV_LOG_CORRUPT;
        if (!is_in_copy(store, stripe, place)) touch(store, stripe, place->record_end);
    }
    switch (effect->kind) {
    case INV_ENTRY_RESERVE:
    case INV_ENTRY_COMMIT:
    case INV_ENTRY_SHIP:
    case INV_ENTRY_RELEASE:
    case INV_ENTRY_CANCEL:
    case INV_ENTRY_EXTEND:
    case INV_ENTRY_EXPIRE:
    case INV_ENTRY_TOMBSTONE:
        return replay_hold(store, effect, hash, place);
    case INV_ENTRY_SNAPSHOT_MARK:
    case INV_ENTRY_OPERATOR_ACT:
        return INV_OK; /* says what there was, changes nothing */
    default:
        if (!is_stock(effect->kind) || effect->line_count != 1) return INV_LOG_CORRUPT;
        result = replay_rows(store, effect, place);
        if (result != INV_OK || !effect->id.present) return result;
        return replay_op(store, effect, &effect->id, hash,
                         inv_sku_stripe(store, effect->lines[0].sku), place);
    }
}

/* ---- fetching ahead -------------------------------------------------------------------------- */

static bool makes_hold(const inv_replay_entry *entry) {
    return entry->kind == INV_ENTRY_RESERVE || is_stock(entry->kind);
}

/* Step 1: the shard, the stripe. */
static void fetch_heads(const inv_store *store, const inv_replay_entry *entries, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const char *stripe = (const char *)&store->stripes[entries[i].place.stripe];
        INV_PREFETCH(stripe);
        INV_PREFETCH(stripe + INV_CACHE_LINE);
        if (entries[i].has_id) INV_PREFETCH(inv_holds_shard(&store->holds, entries[i].hash));
    }
}

/* Step 2: slot of the index; SKU, free slot. */
static void fetch_places(const inv_store *store, const inv_replay_entry *entries, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const inv_stripe *stripe = &store->stripes[entries[i].place.stripe];
        if (entries[i].kind == INV_ENTRY_NAME) {
            inv_table_prefetch_name(&stripe->table, entries[i].hash);
            inv_table_prefetch_sku(&stripe->table, stripe->table.sku_count);
            continue;
        }
        inv_table_prefetch_sku(&stripe->table, inv_sku_place(store, entries[i].line.sku));
        if (!entries[i].has_id) continue;
        inv_holds_prefetch(&store->holds, entries[i].hash);
        if (makes_hold(&entries[i])) inv_hold_prefetch_room(&store->holds, &stripe->home);
    }
}

/* Step 3: the row; the hold, and the one that it will follow in the queue. */
static void fetch_rows(const inv_store *store, const inv_replay_entry *entries, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const inv_stripe *stripe = &store->stripes[entries[i].place.stripe];
        if (entries[i].kind == INV_ENTRY_NAME) continue;
        inv_table_prefetch_row(&stripe->table, inv_sku_place(store, entries[i].line.sku),
                               entries[i].line.location);
        if (!entries[i].has_id || entries[i].kind == INV_ENTRY_RESERVE) continue;
        inv_hold_prefetch_ended(&store->holds, &stripe->home);
        if (!makes_hold(&entries[i])) inv_holds_prefetch_hold(&store->holds, entries[i].hash);
    }
}

static void unpack(const inv_replay_entry *entry, const char *texts, inv_effect *out) {
    inv_text text = {entry->text_length == 0 ? NULL : texts + entry->text_at, entry->text_length};
    bool name = entry->kind == INV_ENTRY_NAME;
    *out = (inv_effect){.kind = entry->kind,
                        .state = entry->state,
                        .whole = entry->whole,
                        .line_count = name ? 0 : 1,
                        .seller = entry->seller,
                        .account = entry->account,
                        .body_hash = entry->body_hash,
                        .deadline_ms = entry->deadline_ms,
                        .lines = &entry->line};
    if (name)
        out->blob = text;
    else
        out->id.text = text;
    out->id.present = entry->has_id;
    memcpy(out->id.uuid, entry->uuid, 16);
}

inv_result inv_replay_apply_part(inv_store *store, const inv_replay_entry *entries, uint32_t count,
                                 const char *texts, uint32_t *out_failed) {
    for (uint32_t from = 0; from < count; from += STEP_ENTRIES) {
        const inv_replay_entry *step = entries + from;
        uint32_t step_count = count - from < STEP_ENTRIES ? count - from : STEP_ENTRIES;
        inv_lane *lane = inv_lane_claim(&store->lanes); /* pins the slots that are looked at */
        fetch_heads(store, step, step_count);
        fetch_places(store, step, step_count);
        fetch_rows(store, step, step_count);
        inv_lane_give(lane);
        for (uint32_t i = 0; i < step_count; i++) {
            inv_effect effect;
            unpack(&step[i], texts, &effect);
            inv_result result = inv_replay_apply(store, &effect, step[i].hash, &step[i].place);
            if (result == INV_OK) continue;
            *out_failed = from + i;
            return result;
        }
    }
    return INV_OK;
}
