/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_recover.c: opening a store: find the log, replay its effects, give the verdict on its end,
 * begin a new segment. Decides nothing about stock and reads no clock while replaying.
 *
 * ORDER (each step durable before the next): epoch + 1 in STATE; the newest snapshot that is whole;
 * replay of the log behind it; a new segment that says where the log ends and holds the ambiguous
 * tail once more; STATE; a tick. What an earlier run left
 * unfinished is deleted before the new segment, which needs the room; void segments are deleted
 * last. A crash anywhere leaves something this code opens to the same state.
 */
#include "../log/inv_wal_space.h"
#include "inv_events.h"
#include "inv_replay.h"
#include "inv_snapshot.h"

#include <stdio.h>

#define QUEUE_FROM_ENTRIES 4096u /* a shorter log is replayed one by one: no queue to be made */
#define SHARED_HOLDS 65536u /* wheels for at least so many are built by two threads */

typedef struct replay {
    inv_store *store;
    inv_replay_queue *queue;    /* NULL: not yet, or no memory: entries are applied one by one */
    inv_replay_failure failure; /* where the log stopped making sense */
    uint64_t engine_ms;         /* highest decision time seen */
    inv_effect_tick tick;       /* the last one */
    uint64_t tick_ms;           /* engine time of it */
    uint64_t upto_lsn;          /* entries behind it are left out; UINT64_MAX: none */
    bool ticked;
    uint64_t digest_lsn; /* of the last DIGEST looked at: where the one before it stood */
    inv_format format;                   /* in force by what was read so far */
    char unknown[INV_EFFECT_WHAT_BYTES]; /* what of the failed entry nobody here knows */
} replay;

/* ---- replay ---------------------------------------------------------------------------------- */

/* Every number an entry names must be known before it is used; SKUs are looked at with their stripe
 * (inv_replay_apply). */
static bool numbers_known(const inv_store *store, const inv_effect *effect) {
    if (effect->kind == INV_ENTRY_CLOCK_TICK || effect->kind == INV_ENTRY_FORMAT_GATE ||
        effect->kind == INV_ENTRY_DIGEST)
        return true;
    if (effect->kind == INV_ENTRY_NAME)
        return effect->body_hash != INV_NAME_SKU ||
               effect->seller < inv_names_count(&store->sellers);
    if (effect->seller >= inv_names_count(&store->sellers) ||
        effect->account >= inv_names_count(&store->accounts))
        return false;
    for (uint32_t i = 0; i < effect->line_count; i++)
        if (effect->lines[i].location != INV_LOCATION_NONE &&
            effect->lines[i].location >= inv_names_count(&store->locations))
            return false;
    return true;
}

/* A reservation of several lines that lives in another stripe than this line. */
static bool is_elsewhere(replay *state, const inv_effect *effect, uint64_t hash) {
    inv_store *store = state->store;
    if (!inv_replay_queue_may_be_cart(state->queue, hash)) return false;
    inv_hold_key key;
    inv_replay_key(effect, hash, &key);
    inv_ref ref = inv_holds_find(&store->holds, &key);
    return ref != 0 &&
           inv_hold_stripe(&store->holds, ref) != inv_sku_stripe(store, effect->lines[0].sku);
}

/* Does an entry touch one stripe alone, and one id? */
static bool may_wait(replay *state, const inv_effect *effect, uint64_t hash) {
    switch (effect->kind) {
    case INV_ENTRY_NAME:
        return effect->body_hash == INV_NAME_SKU && effect->blob.length >= 1 &&
               effect->blob.length <= INV_SKU_BYTES_MAX;
    case INV_ENTRY_RECEIVE:
    case INV_ENTRY_ISSUE:
    case INV_ENTRY_ADJUST:
    case INV_ENTRY_COUNT:
    case INV_ENTRY_POLICY:
        return effect->line_count == 1;
    case INV_ENTRY_RESERVE:
        if (effect->line_count > 1) inv_replay_queue_note_cart(state->queue, hash);
        return effect->line_count == 1 && effect->id.present && !effect->op_id.present;
    case INV_ENTRY_COMMIT:
    case INV_ENTRY_SHIP:
    case INV_ENTRY_RELEASE:
    case INV_ENTRY_CANCEL:
    case INV_ENTRY_EXPIRE:
        return effect->line_count == 1 && effect->id.present && !effect->op_id.present &&
               !is_elsewhere(state, effect, hash);
    default: /* EXTEND names no line, so its stripe is known by its id only */
        return false;
    }
}

static inv_result replay_tick(replay *state, const inv_effect *effect,
                              const inv_replay_place *place) {
    inv_store *store = state->store;
    const inv_effect_tick before = state->tick;
    if (!inv_effect_decode_tick(effect->blob, &state->tick)) return INV_LOG_CORRUPT;
    /* Live code forgets after the tick is logged, and a late commit may come in between: it has
     * finished forgetting by the next tick. */
    if (state->ticked) inv_forget(store, before.window_start_ms, before.forgotten_lsn);
    state->ticked = true;
    state->tick_ms = place->time_ms;
    inv_mark_ended(store, place->record_end, place->time_ms);
    atomic_store_explicit(&store->ids_lsn, place->record_end, memory_order_relaxed);
    return INV_OK;
}

/* From here on the log may be of a newer format. */
static inv_result replay_gate(replay *state, const inv_effect *effect) {
    inv_format format;
    if (!inv_format_decode_gate(effect->blob, &format)) return INV_LOG_CORRUPT;
    if (!inv_format_is_known(format) && !INV_PLANTED(INV_PLANT_GATE_UNCHECKED)) {
        (void)snprintf(state->unknown, sizeof state->unknown,
                       "a gate to format %u.%u, feature bits 0x%llx", format.major, format.minor,
                       (unsigned long long)format.features);
        return INV_FORMAT_UNKNOWN;
    }
    state->format = inv_format_join(state->format, format);
    return INV_OK;
}

/* While parts of the state are ahead of the log, there is nothing to compare with. */
static inv_result replay_digest(replay *state, const inv_effect *effect,
                                const inv_replay_place *place) {
    inv_store *store = state->store;
    if (place->record_lsn < store->replay_fuzzy_lsn) return INV_OK;
    inv_result result = inv_digest_check(store, effect, &state->digest_lsn);
    store->recovery.digests_checked += result == INV_OK && state->digest_lsn != 0;
    return result;
}

static bool note_known(void *argument, inv_ref ref, inv_hold *hold) {
    replay *state = argument;
    inv_store *store = state->store;
    (void)ref;
    if (hold->line_count == 1) return true; /* it lives with its line */
    inv_replay_queue_note_cart(
        state->queue, inv_hold_hash(store->key, inv_seller_tweak_of(store, hold->seller),
                                    (hold->kind & INV_HOLD_OP) != 0,
                                    inv_hold_text(&store->holds, hold), hold->id));
    return true;
}

/* From here on entries wait in windows. Of the reservations there are by now it knows the carts. */
static void begin_queue(replay *state) {
    inv_store *store = state->store;
    state->queue = inv_replay_queue_create(store);
    for (uint32_t i = 0; state->queue != NULL && i < store->stripe_count; i++)
        inv_hold_walk(&store->holds, &store->stripes[i].home, note_known, state);
}

/* Applies an entry, or has it wait for others to be applied with. */
static inv_result replay_entry(replay *state, const inv_effect *effect, inv_replay_place *place) {
    inv_store *store = state->store;
    bool tick = effect->kind == INV_ENTRY_CLOCK_TICK;
    bool gate = effect->kind == INV_ENTRY_FORMAT_GATE;
    bool digest = effect->kind == INV_ENTRY_DIGEST;
    bool known = numbers_known(store, effect);
    uint64_t hash = known && !tick && !gate && !digest ? inv_replay_hash(store, effect) : 0;
    if (state->queue != NULL && known && may_wait(state, effect, hash)) {
        place->stripe = effect->kind == INV_ENTRY_NAME
                            ? (uint32_t)hash & (store->stripe_count - 1)
                            : inv_sku_stripe(store, effect->lines[0].sku);
        inv_replay_queue_put(state->queue, effect, hash, place);
        return INV_OK;
    }
    if (state->queue != NULL) state->failure = inv_replay_queue_drain(state->queue);
    if (state->failure.result != INV_OK) return state->failure.result;
    inv_result result = !known   ? INV_LOG_CORRUPT
                        : tick   ? replay_tick(state, effect, place)
                        : gate   ? replay_gate(state, effect)
                        : digest ? replay_digest(state, effect, place)
                                 : inv_replay_apply(store, effect, hash, place);
    if (result != INV_OK)
        state->failure = (inv_replay_failure){result, effect->kind, *place};
    return result;
}

/* The end of what is wanted of the log; UINT64_MAX: all of it. */
static uint64_t limit_of(const inv_store *store) {
    const inv_options *options = &store->options;
    uint64_t limit = inv_max_u64(options->upto_lsn, options->accept_loss_lsn);
    return limit == 0 ? UINT64_MAX : limit;
}

static inv_result replay_record(void *argument, const inv_wal_record *record, inv_error *error) {
    replay *state = argument;
    inv_recovery *found = &state->store->recovery;
    inv_replay_place place = {
        .record_lsn = record->lsn,
        .record_end = record->lsn + inv_wal_record_bytes(record->payload_bytes),
        .stripe = INV_NUMBER_NONE};
    if (state->queue == NULL && (found->entries_replayed >= QUEUE_FROM_ENTRIES ||
                                 state->store->env->replay_part_entries != 0))
        begin_queue(state);
    found->records_replayed++;
    if (record->type != INV_WAL_CHANGES) return INV_OK;
    if (record->payload_bytes < INV_WAL_CHANGES_PREFIX_BYTES)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "record at lsn %llu: payload too short",
                        (unsigned long long)record->lsn);
    uint64_t at = INV_WAL_CHANGES_PREFIX_BYTES;
    place.time_ms = inv_load_u64(record->payload);
    state->engine_ms = inv_max_u64(state->engine_ms, place.time_ms);
    while (at < record->payload_bytes) {
        inv_effect effect;
        effect.kind = 0; /* of an entry too short to have one */
        uint64_t bytes =
            inv_effect_decode(record->payload + at, record->payload_bytes - at, &effect);
        place.offset = (uint32_t)at;
        place.stripe = INV_NUMBER_NONE;
        at += bytes;
        place.lsn = record->lsn + INV_WAL_RECORD_HEADER_BYTES + at;
        if (bytes == 0) {
            bool unknown = inv_effect_unknown(record->payload + place.offset,
                                              record->payload_bytes - place.offset, state->unknown);
            inv_result why = unknown ? INV_FORMAT_UNKNOWN : INV_LOG_CORRUPT;
            state->failure = (inv_replay_failure){why, effect.kind, place};
            return why;
        }
        if (place.lsn > state->upto_lsn) break;
        inv_result result = replay_entry(state, &effect, &place);
        if (result != INV_OK) return result;
        found->entries_replayed++;
    }
    bool failed = state->queue != NULL && inv_replay_queue_has_failed(state->queue);
    return failed ? INV_LOG_CORRUPT : INV_OK;
}

/* The failure of the entry that comes first in the log, whoever met another one first. */
static inv_result fail_at(const inv_wal_chain *chain, const replay *state,
                          const inv_replay_failure *failure, inv_error *error) {
    uint64_t lsn = failure->place.record_lsn;
    inv_format newest = inv_format_newest();
    memset(error, 0, sizeof *error);
    error->lsn = lsn;
    for (uint64_t i = 0; i < chain->link_count; i++) {
        const inv_wal_segment_header *header = &chain->links[i].header;
        if (header->base_lsn > lsn) continue;
        error->segment = header->number;
        error->offset = INV_WAL_HEADER_BYTES + (lsn - header->base_lsn);
    }
    if (failure->result == INV_FORMAT_UNKNOWN)
        return inv_fail(error, INV_FORMAT_UNKNOWN, 0,
                        "segment %llu offset %llu: record at lsn %llu: %s, which this release "
                        "(format %u.%u) does not know",
                        (unsigned long long)error->segment, (unsigned long long)error->offset,
                        (unsigned long long)lsn, state->unknown, newest.major, newest.minor);
    if (failure->kind == INV_ENTRY_DIGEST && state->digest_lsn != 0)
        return inv_fail(error, INV_LOG_CORRUPT, 0,
                        "record at lsn %llu: what the log rebuilds is not what was there when it "
                        "was written; it went wrong behind lsn %llu",
                        (unsigned long long)lsn, (unsigned long long)state->digest_lsn);
    return inv_fail(error, failure->result, 0,
                    "record at lsn %llu: entry of kind %u at offset %u does not apply",
                    (unsigned long long)lsn, failure->kind, failure->place.offset);
}

/* ---- after the replay ------------------------------------------------------------------------ */

typedef struct arming {
    inv_store *store;
    uint32_t stripe;
} arming;

static bool arm_again(void *argument, inv_ref ref, inv_hold *hold) {
    arming *state = argument;
    inv_store *store = state->store;
    if (hold->state != INV_STATE_HELD || (hold->kind & INV_HOLD_OP)) return true;
    if (INV_PLANTED(INV_PLANT_NOT_ARMED)) return true;
    inv_wheel_add(store->stripes[state->stripe].wheel, &store->pool, ref);
    return true;
}

/* Of a stripe: its wheel must begin before the lowest and reach to the highest. */
typedef struct deadlines {
    uint64_t lowest, highest;
} deadlines;

static bool note_deadline(void *argument, inv_ref ref, inv_hold *hold) {
    deadlines *seen = argument;
    (void)ref;
    if (hold->state != INV_STATE_HELD || (hold->kind & INV_HOLD_OP) != 0) return true;
    seen->lowest = inv_min_u64(seen->lowest, hold->deadline_ms);
    seen->highest = inv_max_u64(seen->highest, hold->deadline_ms);
    return true;
}

/* Builds a wheel from deadlines. A hold may be due already: it died before the crash could log it.
 * INV_LOG_CORRUPT: no live store could have had these deadlines.
 */
static inv_result build_wheel(inv_store *store, uint32_t index, uint64_t engine_ms) {
    inv_stripe *stripe = &store->stripes[index];
    deadlines seen = {UINT64_MAX, 0};
    if (stripe->home.held_count == 0) return INV_OK;
    inv_hold_walk(&store->holds, &stripe->home, note_deadline, &seen);
    uint64_t begin_ms = inv_min_u64(engine_ms, seen.lowest - 1);
    if (seen.lowest == 0 || seen.highest < seen.lowest || begin_ms > INV_WHEEL_TIME_MAX_MS ||
        seen.highest - begin_ms > INV_WHEEL_AHEAD_MAX_MS)
        return INV_LOG_CORRUPT;
    inv_result result = inv_apply_reserve_wheel(store, index);
    if (result != INV_OK) return result;
    arming state = {store, index};
    inv_wheel_init(stripe->wheel, begin_ms);
    inv_hold_walk(&store->holds, &stripe->home, arm_again, &state);
    stripe->home.held_count = (uint32_t)stripe->wheel->count;
    atomic_store_explicit(&store->next_due[index], inv_wheel_next(stripe->wheel, &store->pool),
                          memory_order_release);
    return INV_OK;
}

typedef struct wheels { /* of all stripes, taken one by one by whoever is free */
    inv_store *store;
    uint64_t engine_ms;
    _Atomic uint32_t next; /* stripe */
    _Atomic int result;    /* an inv_result; not INV_OK: some stripe has no wheel */
} wheels;

static void build_some(void *argument) {
    wheels *all = argument;
    for (;;) {
        uint32_t index = atomic_fetch_add_explicit(&all->next, 1, memory_order_relaxed);
        if (index >= all->store->stripe_count) return;
        inv_result result = build_wheel(all->store, index, all->engine_ms);
        if (result == INV_OK) continue;
        atomic_store_explicit(&all->result, (int)result, memory_order_relaxed);
        return;
    }
}

/* Many holds are worth a second thread here too. */
static inv_result build_wheels(inv_store *store, uint64_t engine_ms) {
    const inv_threads *threads = &store->env->threads;
    wheels all = {.store = store, .engine_ms = engine_ms};
    uint64_t held = 0;
    void *thread = NULL;
    for (uint32_t i = 0; i < store->stripe_count; i++) held += store->stripes[i].home.held_count;
    if (threads->start != NULL && (held >= SHARED_HOLDS || store->env->replay_part_entries != 0))
        thread = threads->start(threads->context, build_some, &all);
    build_some(&all);
    if (thread != NULL) threads->join(threads->context, thread);
    return (inv_result)atomic_load_explicit(&all.result, memory_order_relaxed);
}

/* ---- the snapshot ---------------------------------------------------------------------------- */

static inv_result empty_parts(inv_store *store, inv_error *error) {
    inv_store_free_parts(store);
    inv_result result = inv_store_init_parts(store);
    return result == INV_OK ? result : inv_fail(error, result, 0, "no memory for the store");
}

/* Loads the newest snapshot that is whole, of a state not behind upto_lsn, and that the log reaches
 * back to; *out->start_lsn 0: there is none, and the log begins at its beginning. A damaged one is
 * not the end while an older one and its log are there. */
static inv_result load_snapshot(inv_store *store, const inv_wal_chain *chain, uint64_t upto_lsn,
                                inv_snapshot_found *out, uint64_t *out_proven, inv_error *error) {
    inv_snap_list list;
    inv_error first = {0};
    uint64_t earliest = 0; /* state that can be had from a snapshot, of those behind upto_lsn */
    inv_result result = inv_snap_find(store->env, &list, error);
    if (result != INV_OK || chain->link_count == 0) return result;
    uint64_t log_begins = chain->links[0].header.base_lsn;
    for (uint32_t i = 0; i < list.count && list.start_lsns[i] >= log_begins; i++) {
        memset(error, 0, sizeof *error);
        result = inv_snapshot_load(store, list.start_lsns[i], list.bytes[i], out, error);
        if (result == INV_NO_MEMORY || result == INV_FORMAT_UNKNOWN) return result;
        if (result == INV_OK && out->end_lsn <= upto_lsn) return INV_OK;
        if (result != INV_OK && store->recovery.snapshots_damaged++ == 0) first = *error;
        if (result == INV_OK) {
            earliest = out->end_lsn;
            *out_proven = inv_max_u64(*out_proven, out->end_lsn);
            inv_env_free(store->env, out->floors, store->stripe_count * sizeof(uint64_t));
        }
        *out = (inv_snapshot_found){0};
        result = empty_parts(store, error);
        if (result != INV_OK) return result;
    }
    memset(error, 0, sizeof *error);
    if (log_begins == INV_WAL_LSN_FIRST) return INV_OK;
    if (earliest != 0)
        return inv_fail(error, INV_BAD_REQUEST, 0,
                        "upto_lsn: no state before lsn %llu can be built any more",
                        (unsigned long long)earliest);
    *error = first;
    return inv_fail(error, INV_LOG_CORRUPT, 0,
                    "no snapshot can be read, and the log begins at lsn %llu only (%.120s)",
                    (unsigned long long)log_begins,
                    first.code == 0 ? "there is none" : first.message);
}

static void begin_behind(inv_store *store, const inv_snapshot_found *found, replay *state) {
    if (found->start_lsn == 0) return;
    state->engine_ms = found->clock.engine_ms;
    state->tick = found->clock.tick;
    state->tick_ms = found->clock.tick_ms;
    state->ticked = true;
    state->format = inv_format_join(state->format, found->format);
    store->replay_floors = found->floors;
    store->replay_fuzzy_lsn = found->end_lsn;
    store->snapshot_lsn = found->start_lsn;
    store->recovery.snapshot_lsn = found->start_lsn;
    store->recovery.snapshot_end_lsn = found->end_lsn;
    store->recovery.snapshot_bytes = found->bytes;
}

static void delete_numbered(inv_store *store, const char *prefix, uint64_t number) {
    const inv_storage *storage = &store->env->storage;
    char name[INV_FILE_NAME_MAX + 1];
    inv_error ignored = {0};
    inv_wal_segment_name(name, prefix, number);
    inv_result result = storage->remove(storage->context, name, &ignored);
    (void)result; /* what is left behind is nobody's, and tried again next time */
}

/* Never part of the log. */
static void delete_unfinished(inv_store *store, const inv_wal_chain *chain) {
    const inv_storage *storage = &store->env->storage;
    inv_error ignored = {0};
    for (uint64_t i = 0; i < chain->spare_count; i++)
        delete_numbered(store, "spare-", chain->spare_numbers[i]);
    inv_result result = storage->remove(storage->context, INV_SNAP_UNFINISHED, &ignored);
    (void)result; /* hardly ever is there one */
}

/* Segments outside the chain, and those behind the one that the new segment continues: prepared,
 * but not come to. On a full disk the log lives on their room. */
static void delete_void(inv_store *store, const inv_wal_chain *chain,
                        const inv_wal_verdict *verdict) {
    bool is_void = false;
    for (uint64_t i = 0; i < chain->void_count; i++)
        delete_numbered(store, "wal-", chain->void_numbers[i]);
    for (uint64_t i = 0; i < chain->link_count; i++) {
        uint64_t number = chain->links[i].header.number;
        if (is_void) delete_numbered(store, "wal-", number);
        is_void = is_void || number == verdict->relog_number;
    }
}

static inv_result new_identity(inv_store *store, inv_error *error) {
    inv_wal_identity *identity = &store->identity;
    const inv_env *env = store->env;
    if (!env->entropy.fill(env->entropy.context, identity->uuid, 16) ||
        !env->entropy.fill(env->entropy.context, identity->hash_key, 16))
        return inv_fail(error, INV_IO_ERROR, 0, "no entropy for a new store");
    identity->created_unix_ms = env->clock.wall_unix_ms(env->clock.context);
    identity->stripe_bits = store->options.stripe_bits;
    return INV_OK;
}

/* The epoch and the identity, durable before anything is written under them. */
static inv_result claim_epoch(inv_store *store, const inv_wal_chain *chain, inv_wal_state *state,
                              inv_error *error) {
    const inv_storage *storage = &store->env->storage;
    uint8_t slot[INV_STATE_SLOT_BYTES];
    *state = chain->state;
    state->identity = store->identity;
    if (chain->link_count > 0)
        state->epoch = inv_max_u64(state->epoch, chain->links[chain->link_count - 1].header.epoch);
    if (!INV_PLANTED(INV_PLANT_EPOCH_SAME) || state->epoch == 0) state->epoch++;
    if (INV_PLANTED(INV_PLANT_EPOCH_UNSAVED)) return INV_OK;
    state->sequence++;
    /* The clean-shutdown mark stays: it proves how far the log was durable, and an opening that
     * refuses must not take away the proof. It goes with the first segment of this epoch. */
    if (!chain->exists) state->format = inv_format_before_gate();
    inv_wal_encode_state(slot, state);
    inv_result result =
        storage->write(storage->context, "STATE", (state->sequence & 1) * INV_STATE_SLOT_BYTES,
                       slot, sizeof slot, true, error);
    if (result != INV_OK) return result;
    return chain->exists ? INV_OK : storage->sync_directory(storage->context, error);
}

/* The segments whose records stand. The caller frees as many as the chain has links. */
static inv_result list_past(const inv_wal_chain *chain, const inv_wal_verdict *verdict,
                            inv_wal_past **out_past, uint32_t *out_count, inv_error *error) {
    inv_wal_past *past = NULL;
    *out_count = 0;
    if (chain->link_count > 0) {
        past = inv_env_alloc(chain->env, (size_t)chain->link_count * sizeof(inv_wal_past));
        if (past == NULL) return inv_fail(error, INV_NO_MEMORY, 0, "no memory for segments");
    }
    for (uint64_t i = 0; i < chain->link_count; i++) {
        const inv_wal_segment_header *link = &chain->links[i].header;
        past[(*out_count)++] = (inv_wal_past){link->number, link->base_lsn};
        if (link->number == verdict->relog_number) break; /* what follows is void now */
    }
    *out_past = past;
    return INV_OK;
}

/* The log of a store that only is read, for whoever wants its events. */
static inv_result know_log(inv_store *store, const inv_wal_chain *chain,
                           const inv_wal_verdict *verdict, inv_error *error) {
    inv_wal_past *past = NULL;
    uint32_t past_count = 0;
    store->proven_lsn = inv_min_u64(verdict->relog_lsn, store->recovery.lsn_end);
    inv_result result = list_past(chain, verdict, &past, &past_count, error);
    if (result == INV_OK) result = inv_wal_know(&store->wal, past, past_count);
    inv_env_free(store->env, past, (size_t)chain->link_count * sizeof(inv_wal_past));
    return result == INV_OK ? result : inv_fail(error, result, 0, "no memory for segments");
}

static inv_result begin_segment(inv_store *store, const inv_wal_chain *chain,
                                const inv_wal_state *state, const inv_wal_verdict *verdict,
                                inv_error *error) {
    const inv_env *env = store->env;
    uint64_t relog_bytes = verdict->end_lsn - verdict->relog_lsn;
    uint64_t segment_bytes = store->options.segment_bytes;
    /* Beside what is written again there must be room for the tick, with all the slack credit asks
     * for; the segment that follows is prepared only later. */
    uint64_t slack = inv_min_u64((segment_bytes - INV_WAL_HEADER_BYTES) / 4, 1u << 20);
    uint64_t least = 2 * INV_WAL_HEADER_BYTES + relog_bytes + 2 * slack + store->record_bytes_max;
    if (relog_bytes > 0 && segment_bytes < least) segment_bytes = inv_align_u64(least, 4096);
    uint8_t *relog = relog_bytes == 0 ? NULL : inv_env_alloc(env, relog_bytes);
    if (relog_bytes > 0 && relog == NULL)
        return inv_fail(error, INV_NO_MEMORY, 0, "no memory for the tail of the log");
    inv_result result = INV_OK;
    if (relog_bytes > 0)
        result =
            inv_wal_relog(chain, verdict->relog_lsn, verdict->end_lsn, state->epoch, relog, error);
    inv_wal_segment_header header = {.format = state->format,
                                     .identity = store->identity,
                                     .number = chain->number_highest + 1,
                                     .base_lsn = INV_WAL_LSN_FIRST,
                                     .epoch = state->epoch,
                                     .segment_bytes = segment_bytes,
                                     .wall_unix_ms = env->clock.wall_unix_ms(env->clock.context)};
    for (uint64_t i = 0; i < chain->link_count; i++) {
        const inv_wal_segment_header *link = &chain->links[i].header;
        if (link->number != verdict->relog_number) continue;
        header.base_lsn = header.prev_end_lsn = verdict->relog_lsn;
        header.prev_number = link->number;
        header.prev_end_offset = INV_WAL_HEADER_BYTES + (verdict->relog_lsn - link->base_lsn);
        header.prev_crc = verdict->end_crc;
        header.prev_exact = true;
    }
    uint32_t reserves = 0;
    if (result == INV_OK) {
        delete_unfinished(store, chain);
        result = inv_wal_keep_reserves(env, store->options.segment_bytes, &reserves, error);
    }
    inv_wal_past *past = NULL;
    uint32_t past_count = 0;
    size_t past_bytes = (size_t)chain->link_count * sizeof(inv_wal_past);
    if (result == INV_OK) result = list_past(chain, verdict, &past, &past_count, error);
    inv_wal_config config = {.identity = store->identity,
                             .state = *state,
                             .segment_bytes = store->options.segment_bytes,
                             .segments_ahead_max = store->options.segments_ahead_max,
                             .staged = store->options.durability == INV_DURABLE,
                             .past = past,
                             .past_count = past_count,
                             .reserves = reserves};
#ifdef INV_PLANTED_BUGS
    for (uint64_t i = 0; i < chain->link_count && INV_PLANTED(INV_PLANT_APPEND_RECOVERED); i++) {
        if (chain->links[i].header.number != verdict->end_number) continue;
        inv_env_free(env, relog, relog_bytes);
        result = inv_wal_resume(&store->wal, env, &store->lanes, &config, &chain->links[i].header,
                                verdict->end_lsn, error);
        inv_env_free(env, past, past_bytes);
        return result;
    }
#endif
    if (result == INV_OK)
        result = inv_wal_start(&store->wal, env, &store->lanes, &config, &header, relog,
                               relog_bytes, error);
    inv_env_free(env, past, past_bytes);
    inv_env_free(env, relog, relog_bytes);
    store->recovery.relogged_bytes = relog_bytes;
    return result;
}

/* In force by what STATE and the segments say. */
static inv_format format_of_files(const inv_wal_chain *chain) {
    inv_format format = chain->exists ? chain->state.format : inv_format_before_gate();
    for (uint64_t i = 0; i < chain->link_count; i++)
        format = inv_format_join(format, chain->links[i].header.format);
    return format;
}

static void report(inv_store *store, const inv_wal_chain *chain, const inv_wal_verdict *verdict) {
    inv_recovery *found = &store->recovery;
    found->lsn_first = inv_max_u64(INV_WAL_LSN_FIRST, found->snapshot_lsn);
    found->lsn_end = inv_min_u64(verdict->end_lsn, limit_of(store));
    found->records_skipped = verdict->skipped;
    found->torn_bytes_dropped = verdict->torn_bytes;
    found->torn_records_dropped = verdict->void_records;
    found->durable_proven = verdict->durable;
    found->segments_read = chain->link_count;
    found->created = !chain->exists;
    found->clean_shutdown = chain->exists && chain->state.clean_lsn != 0;
}

/* Engine time resumes where the log ended. The time since is downtime: the wall clock is the only
 * one that can tell, so it is believed within limits, and what is beyond them is said. */
static void resume_time(inv_store *store, const replay *state) {
    inv_recovery *found = &store->recovery;
    inv_drift_begin(store);
    uint64_t wall = store->drift.wall_start_ms;
    if (!state->ticked) { /* a new store, or one that never got as far as its first tick */
        inv_time_start(store, inv_max_u64(state->engine_ms, wall), 0, false);
        return;
    }
    /* What ran between the last tick and the last record is in the engine time already. */
    uint64_t stopped = state->tick.wall_unix_ms + (state->engine_ms - state->tick_ms);
    found->wall_difference_ms = (int64_t)(wall - stopped);
    uint64_t down = wall > stopped ? wall - stopped : 0;
    if (INV_PLANTED(INV_PLANT_DOWNTIME_TRUSTED)) down = wall - stopped;
    down += state->tick.downtime_pending_ms;
    found->clock_alarm = found->wall_difference_ms < -INV_CLOCK_ALARM_MS ||
                         down > store->options.downtime_ms_max;
    store->drift.alarms += found->clock_alarm;
    if (!INV_PLANTED(INV_PLANT_DOWNTIME_TRUSTED))
        down = inv_min_u64(down, store->options.downtime_ms_max);
    found->downtime_ms = down;
    inv_time_start(store, state->engine_ms, down, true);
    atomic_store_explicit(&store->window_start_ms, state->tick.stale_before_ms,
                          memory_order_relaxed);
}

static inv_result replay_log(inv_store *store, const inv_wal_chain *chain, replay *state,
                             inv_wal_verdict *verdict, inv_error *error) {
    verdict->end_lsn = verdict->relog_lsn = verdict->durable = INV_WAL_LSN_FIRST;
    if (chain->link_count == 0) return INV_OK;
    store->replaying = true;
    const inv_wal_range range = {
        store->snapshot_lsn, store->replay_fuzzy_lsn,
        state->upto_lsn == UINT64_MAX ? 0 : state->upto_lsn};
    inv_result result = inv_wal_scan(chain, &range, replay_record, state, verdict, error);
    inv_replay_failure failure = {.result = INV_OK};
    if (state->queue != NULL) failure = inv_replay_queue_drain(state->queue);
    inv_replay_queue_destroy(state->queue);
    if (failure.result == INV_OK) failure = state->failure;
    if (failure.result != INV_OK) return fail_at(chain, state, &failure, error);
    if (result == INV_OK && state->ticked)
        inv_forget(store, state->tick.window_start_ms, state->tick.forgotten_lsn);
    store->replaying = false;
    if (result == INV_OK) result = build_wheels(store, state->engine_ms);
    if (result == INV_LOG_CORRUPT && error->code == 0)
        result = inv_fail(error, result, 0, "a reservation's deadline is out of all bounds");
    return result;
}

static inv_result first_tick(inv_store *store) {
    inv_lane *lane = inv_lane_claim(&store->lanes);
    uint64_t now = atomic_load_explicit(&store->now_ms, memory_order_relaxed);
    inv_result result = inv_time_tick(store, lane, now, store->downtime_pending_ms);
    inv_lane_give(lane);
    return result;
}

/* ---- not all of the log ---------------------------------------------------------------------- */

/* The chain; of a broken one what comes before the break, for who wants no more than that. */
static inv_result load_chain(const inv_store *store, inv_wal_chain *chain, inv_error *error) {
    inv_result result = inv_wal_chain_load(chain, store->env, error);
    if (result != INV_LOG_CORRUPT || limit_of(store) == UINT64_MAX) return result;
    inv_error ignored = {0};
    inv_wal_chain_free(chain);
    result = inv_wal_chain_load_front(chain, store->env, &ignored);
    return result == INV_OK ? INV_OK : (inv_result)error->code;
}

static inv_result no_such_end(const inv_store *store, uint64_t lsn, const char *what,
                              inv_error *error) {
    error->lsn = lsn;
    return inv_fail(error, INV_BAD_REQUEST, 0, "%s: %s at lsn %llu",
                    store->options.upto_lsn != 0 ? "upto_lsn" : "accept_loss_lsn", what,
                    (unsigned long long)lsn);
}

/* Is it a DIGEST that is not of what was replayed up to it? */
static bool contradicts(const inv_store *store, const inv_wal_record *record) {
    inv_effect effect;
    uint64_t ignored, prefix = INV_WAL_CHANGES_PREFIX_BYTES;
    return record->type == INV_WAL_CHANGES && record->payload_bytes > prefix &&
           inv_effect_decode(record->payload + prefix, record->payload_bytes - prefix, &effect) &&
           effect.kind == INV_ENTRY_DIGEST && inv_digest_check(store, &effect, &ignored) != INV_OK;
}

/* A loss is accepted where the log is damaged, nowhere else. `proven`: by snapshots not loaded. */
static inv_result check_loss(inv_store *store, const inv_wal_chain *chain, uint64_t proven,
                             const inv_wal_verdict *verdict, inv_error *error) {
    const inv_wal_range rest = {.from_lsn = verdict->end_lsn, .proven_lsn = proven};
    inv_wal_scanner scanner;
    inv_wal_record record;
    inv_error why = {0};
    bool more = false;
    inv_wal_scan_begin(&scanner, chain, &rest);
    inv_result result = inv_wal_scan_next(&scanner, &record, &more, &why);
    bool damaged = result != INV_OK || (chain->broken && !more) ||
                   (more && contradicts(store, &record));
    store->recovery.loss_lsn_end = inv_max_u64(scanner.verdict.durable, verdict->end_lsn);
    inv_wal_scan_end(&scanner);
    if (result == INV_NO_MEMORY) return inv_fail(error, result, 0, "no memory for a segment");
    return damaged ? INV_OK : no_such_end(store, verdict->end_lsn, "nothing is damaged", error);
}

static inv_result check_limit(inv_store *store, const inv_wal_chain *chain, uint64_t proven,
                              const inv_wal_verdict *verdict, inv_error *error) {
    uint64_t limit = limit_of(store);
    if (limit == UINT64_MAX) return INV_OK;
    if (verdict->end_lsn < limit)
        return no_such_end(store, verdict->end_lsn, "the log ends", error);
    if (store->options.accept_loss_lsn == 0) return INV_OK;
    if (verdict->end_lsn > limit)
        return no_such_end(store, limit, "a whole record lies", error);
    return check_loss(store, chain, proven, verdict, error);
}

/* What speaks of the lost part goes first, durably: a snapshot of it would bring it back into a
 * log that has gone on otherwise. */
static inv_result forget_lost(inv_store *store, const inv_snapshot_found *kept,
                              inv_wal_state *state, inv_error *error) {
    const inv_storage *storage = &store->env->storage;
    inv_snap_list list;
    inv_result result = inv_snap_find(store->env, &list, error);
    for (uint32_t i = 0; i < list.count && result == INV_OK; i++) {
        char name[INV_FILE_NAME_MAX + 1];
        if (list.start_lsns[i] <= kept->start_lsn) continue;
        inv_snap_name(name, list.start_lsns[i]);
        result = storage->remove(storage->context, name, error);
    }
    if (result != INV_OK) return result;
    state->snapshot_lsn = kept->start_lsn;
    state->clean_lsn = 0;
    inv_error ignored = {0};
    result = storage->remove(storage->context, "HINT", &ignored);
    (void)result; /* there may be none */
    return storage->sync_directory(storage->context, error);
}

static inv_result log_loss(inv_store *store) {
    uint8_t blob[INV_EFFECT_ACT_BYTES];
    uint64_t ignored;
    inv_put_u64(blob, INV_ACT_ACCEPT_LOSS);
    inv_put_u64(blob + 8, store->recovery.lsn_end);
    inv_put_u64(blob + 16, store->recovery.loss_lsn_end);
    inv_lane *lane = inv_lane_claim(&store->lanes);
    inv_result result =
        inv_run_note(store, lane, INV_ENTRY_OPERATOR_ACT, blob, sizeof blob, &ignored);
    inv_lane_give(lane);
    return result;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* From here on there is a log to write to. */
static inv_result go_on(inv_store *store, const inv_wal_chain *chain, const inv_wal_state *state,
                        const inv_wal_verdict *verdict, inv_error *error) {
    bool synced, lossy = store->options.accept_loss_lsn != 0;
    inv_result result = begin_segment(store, chain, state, verdict, error);
    inv_digest_begin(store);
    if (result == INV_OK) result = first_tick(store);
    if (result == INV_OK && lossy) result = log_loss(store);
    if (result == INV_BUSY && INV_PLANTED(INV_PLANT_APPEND_RECOVERED)) result = INV_OK;
    if (result == INV_OK) result = inv_digest_flush(store, false, &synced);
    if (result == INV_STORE_FAILED) { /* there is no store yet that could fail */
        *error = store->wal.failure;
        error->code = result = INV_IO_ERROR;
    }
    if (result != INV_OK) return result;
    if (!INV_PLANTED(INV_PLANT_APPEND_RECOVERED)) delete_void(store, chain, verdict);
    store->snapshot = inv_env_alloc(store->env, sizeof *store->snapshot);
    return store->snapshot != NULL ? INV_OK
                                   : inv_fail(error, INV_NO_MEMORY, 0, "no memory for snapshots");
}

inv_result inv_recover(inv_store *store, inv_error *error) {
    const inv_clock *clock = &store->env->clock;
    inv_wal_chain chain;
    inv_wal_verdict verdict = {0};
    inv_wal_state wal_state = {0};
    replay state = {.store = store, .upto_lsn = limit_of(store)};
    uint64_t began = clock->mono_ns(clock->context), proven = 0;
    bool read_only = store->options.read_only, lossy = store->options.accept_loss_lsn != 0;
    inv_result result = load_chain(store, &chain, error);
    if (result == INV_OK && !chain.exists && (read_only || lossy))
        result = inv_fail(error, INV_IO_ERROR, 2, "there is no store to read");
    if (result == INV_OK && !chain.exists) result = new_identity(store, error);
    if (result == INV_OK && chain.exists) store->identity = chain.state.identity;
    if (result == INV_OK) result = inv_store_init_parts(store);
    if (result == INV_OK && !read_only) result = claim_epoch(store, &chain, &wal_state, error);
    inv_snapshot_found found = {0};
    if (result == INV_OK)
        result = load_snapshot(store, &chain, limit_of(store), &found, &proven, error);
    if (result == INV_OK) {
        state.format = format_of_files(&chain);
        begin_behind(store, &found, &state);
        result = replay_log(store, &chain, &state, &verdict, error);
    }
    inv_env_free(store->env, found.floors, store->stripe_count * sizeof(uint64_t));
    store->replay_floors = NULL;
    store->replay_fuzzy_lsn = 0;
    if (result == INV_OK) result = check_limit(store, &chain, proven, &verdict, error);
    if (result == INV_OK) {
        wal_state.format = store->recovery.format = state.format;
        report(store, &chain, &verdict);
        resume_time(store, &state);
    }
    if (result == INV_OK && lossy) result = forget_lost(store, &found, &wal_state, error);
    if (result == INV_OK) result = inv_consumers_load(store, error);
    if (result == INV_OK && !read_only)
        result = go_on(store, &chain, &wal_state, &verdict, error);
    if (result == INV_OK && read_only) {
        inv_wal_init_memory(&store->wal, store->env, &store->lanes);
        uint64_t end = store->recovery.lsn_end;
        atomic_store_explicit(&store->wal.tail, end, memory_order_release);
        atomic_store_explicit(&store->wal.durable, end, memory_order_release);
        result = know_log(store, &chain, &verdict, error);
    }
    if (result == INV_OK) inv_consumers_begin(store);
    inv_wal_chain_free(&chain);
    store->recovery.epoch = store->wal.epoch;
    store->recovery.duration_ns = clock->mono_ns(clock->context) - began;
    return result;
}
