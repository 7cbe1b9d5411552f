/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_recover.c: opening a store: find the log, replay its effects, give the verdict on its end,
 * begin a new segment. Decides nothing about stock and reads no clock while replaying.
 *
 * ORDER (each step durable before the next): epoch + 1 in STATE; replay; a new segment that says
 * where the log ends and holds the ambiguous tail once more; STATE; a tick. Void segments and
 * spares are deleted last. A crash anywhere leaves something this code opens to the same state.
 */
#include "inv_store.h"

typedef struct replay {
    inv_store *store;
    uint64_t engine_ms;   /* highest decision time seen */
    inv_effect_tick tick; /* the last one */
    uint64_t tick_ms;     /* engine time of it */
    bool ticked;
} replay;

/* ---- replay
 * ------------------------------------------------------------------------------------------ */

static void key_of(const inv_store *store, const inv_effect_id *id, uint16_t seller, bool op,
                   inv_hold_key *out) {
    memset(out, 0, sizeof *out);
    out->text = id->text;
    memcpy(out->uuid, id->uuid, 16);
    out->seller = seller;
    out->op = op;
    out->hash =
        inv_hold_hash(store->key, inv_seller_tweak_of(store, seller), op, id->text, id->uuid);
}

/* A new hold under an id. An ended one of the same id was forgotten live, so it goes first. */
static inv_result open_hold(inv_store *store, const inv_hold_key *key, uint32_t stripe,
                            inv_ref *out_ref) {
    inv_hold_shard *shard = inv_holds_shard(&store->holds, key->hash);
    inv_ref old = inv_holds_find_locked(&store->holds, shard, key);
    if (old != 0) {
        inv_hold *hold = inv_hold_at(&store->holds, old);
        if (hold->state == INV_STATE_HELD || hold->state == INV_STATE_ALLOCATED)
            return INV_LOG_CORRUPT;
        inv_holds_remove_locked(&store->holds, shard, key->hash, old);
        hold->gone = 1;
    }
    inv_result result = inv_holds_reserve_locked(&store->holds, shard);
    if (result != INV_OK) return result;
    *out_ref = inv_apply_create_locked(store, key, stripe, shard);
    return *out_ref == 0 ? INV_NO_MEMORY : INV_OK;
}

static inv_result replay_name(inv_store *store, const inv_effect *effect) {
    uint32_t number = effect->account, place_number;
    inv_names *names = NULL;
    inv_ref node;
    if (effect->blob.bytes == NULL) return INV_LOG_CORRUPT;
    switch (effect->body_hash) {
    case INV_NAME_SKU: {
        if (effect->seller >= inv_names_count(&store->sellers) || effect->blob.length < 1 ||
            effect->blob.length > INV_SKU_BYTES_MAX)
            return INV_LOG_CORRUPT;
        uint64_t hash = inv_siphash13(store->key, inv_seller_tweak_of(store, effect->seller),
                                      effect->blob.bytes, effect->blob.length);
        uint32_t stripe = (uint32_t)hash & (store->stripe_count - 1);
        inv_table *table = &store->stripes[stripe].table;
        if (number != inv_sku_number(store, stripe, table->sku_count)) return INV_LOG_CORRUPT;
        inv_result result = inv_table_reserve_sku(table, &store->lanes, effect->blob.length);
        if (result != INV_OK) return result;
        (void)inv_table_add_sku(table, hash, effect->seller, effect->blob);
        return INV_OK;
    }
    case INV_NAME_LOCATION:
        names = &store->locations;
        break;
    case INV_NAME_SELLER:
        names = &store->sellers;
        break;
    case INV_NAME_ACCOUNT:
        names = &store->accounts;
        break;
    case INV_NAME_REASON:
        names = &store->reasons;
        break;
    case INV_NAME_REFERENCE:
        if (number >= store->reference_next) store->reference_next = number + 1;
        return INV_OK;
    default:
        return INV_FORMAT_UNKNOWN;
    }
    if (number != inv_names_count(names)) return INV_LOG_CORRUPT;
    inv_result result = inv_names_prepare(names, effect->blob, 0, &node, &place_number);
    if (result != INV_OK) return result == INV_NO_MEMORY ? result : INV_LOG_CORRUPT;
    inv_names_publish(names, node);
    return INV_OK;
}

/* Every number an entry names must be known before it is used. */
static bool numbers_known(const inv_store *store, const inv_effect *effect) {
    if (effect->seller >= inv_names_count(&store->sellers) ||
        effect->account >= inv_names_count(&store->accounts))
        return false;
    for (uint32_t i = 0; i < effect->line_count; i++) {
        const inv_change_line *line = &effect->lines[i];
        uint32_t place = inv_sku_place(store, line->sku);
        if (place >= store->stripes[inv_sku_stripe(store, line->sku)].table.sku_count) return false;
        if (line->location != INV_LOCATION_NONE &&
            line->location >= inv_names_count(&store->locations))
            return false;
    }
    return true;
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

static inv_result replay_op(inv_store *store, const inv_effect *effect, const inv_effect_id *id,
                            uint32_t stripe, uint64_t time_ms, uint64_t lsn) {
    inv_hold_key key;
    inv_ref ref;
    key_of(store, id, effect->seller, true, &key);
    inv_result result = open_hold(store, &key, stripe, &ref);
    if (result != INV_OK) return result;
    inv_apply_op(store, effect, ref, time_ms);
    inv_hold_at(&store->holds, ref)->lsn = lsn;
    return INV_OK;
}

static inv_result replay_hold(inv_store *store, const inv_effect *effect, uint64_t time_ms,
                              uint64_t lsn, uint64_t record_end) {
    bool fresh = effect->kind == INV_ENTRY_RESERVE || effect->kind == INV_ENTRY_TOMBSTONE;
    inv_hold_key key;
    inv_ref ref = 0;
    inv_result result = INV_OK;
    if (!effect->id.present || (effect->kind == INV_ENTRY_RESERVE && effect->line_count == 0))
        return INV_LOG_CORRUPT;
    key_of(store, &effect->id, effect->seller, false, &key);
    if (fresh)
        result = open_hold(store, &key, lowest_stripe(store, effect, key.hash), &ref);
    else
        ref = inv_holds_find(&store->holds, &key);
    if (result != INV_OK) return result;
    if (ref == 0) return INV_LOG_CORRUPT;
    result = inv_apply_rows(store, NULL, effect);
    if (result == INV_OK) result = inv_apply_hold(store, effect, ref, time_ms);
    if (result != INV_OK) return result;
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    if (hold->state != effect->state) return INV_LOG_CORRUPT;
    hold->lsn = lsn;
    uint32_t home = inv_hold_stripe(&store->holds, ref);
    touch(store, home, record_end);
    if (effect->op_id.present) return replay_op(store, effect, &effect->op_id, home, time_ms, lsn);
    return INV_OK;
}

static inv_result replay_entry(replay *state, const inv_effect *effect, uint64_t time_ms,
                               uint64_t lsn, uint64_t record_end) {
    inv_store *store = state->store;
    const inv_effect_tick before = state->tick;
    inv_result result;
    if (effect->kind != INV_ENTRY_NAME && effect->kind != INV_ENTRY_CLOCK_TICK) {
        if (!numbers_known(store, effect)) return INV_LOG_CORRUPT;
        for (uint32_t i = 0; i < effect->line_count; i++)
            touch(store, inv_sku_stripe(store, effect->lines[i].sku), record_end);
    }
    switch (effect->kind) {
    case INV_ENTRY_NAME:
        return replay_name(store, effect);
    case INV_ENTRY_CLOCK_TICK:
        if (!inv_effect_decode_tick(effect->blob, &state->tick)) return INV_LOG_CORRUPT;
        /* Live code forgets after the tick is logged, and a late commit may come in between: it has
         * finished forgetting by the next tick. */
        if (state->ticked) inv_forget(store, before.window_start_ms, before.forgotten_lsn);
        state->ticked = true;
        state->tick_ms = time_ms;
        inv_mark_ended(store, record_end, time_ms);
        atomic_store_explicit(&store->ids_lsn, record_end, memory_order_relaxed);
        return INV_OK;
    case INV_ENTRY_RESERVE:
    case INV_ENTRY_COMMIT:
    case INV_ENTRY_SHIP:
    case INV_ENTRY_RELEASE:
    case INV_ENTRY_CANCEL:
    case INV_ENTRY_EXTEND:
    case INV_ENTRY_EXPIRE:
    case INV_ENTRY_TOMBSTONE:
        return replay_hold(store, effect, time_ms, lsn, record_end);
    case INV_ENTRY_RECEIVE:
    case INV_ENTRY_ISSUE:
    case INV_ENTRY_ADJUST:
    case INV_ENTRY_COUNT:
    case INV_ENTRY_POLICY:
        if (effect->line_count != 1) return INV_LOG_CORRUPT;
        result = inv_apply_rows(store, NULL, effect);
        if (result != INV_OK || !effect->id.present) return result;
        return replay_op(store, effect, &effect->id, inv_sku_stripe(store, effect->lines[0].sku),
                         time_ms, lsn);
    default:
        return INV_FORMAT_UNKNOWN;
    }
}

static inv_result replay_record(void *argument, const inv_wal_record *record, inv_error *error) {
    replay *state = argument;
    inv_recovery *found = &state->store->recovery;
    uint64_t record_end = record->lsn + inv_wal_record_bytes(record->payload_bytes);
    found->records_replayed++;
    if (record->type != INV_WAL_CHANGES) return INV_OK;
    if (record->payload_bytes < INV_WAL_CHANGES_PREFIX_BYTES)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "record at lsn %llu: payload too short",
                        (unsigned long long)record->lsn);
    uint64_t time_ms = inv_load_u64(record->payload), at = INV_WAL_CHANGES_PREFIX_BYTES;
    state->engine_ms = inv_max_u64(state->engine_ms, time_ms);
    while (at < record->payload_bytes) {
        inv_effect effect;
        uint64_t bytes =
            inv_effect_decode(record->payload + at, record->payload_bytes - at, &effect);
        inv_result result = INV_LOG_CORRUPT;
        at += bytes;
        if (bytes != 0)
            result = replay_entry(state, &effect, time_ms,
                                  record->lsn + INV_WAL_RECORD_HEADER_BYTES + at, record_end);
        if (result != INV_OK)
            return inv_fail(error, result, 0,
                            "record at lsn %llu: entry of kind %u at offset %llu does not apply",
                            (unsigned long long)record->lsn, effect.kind,
                            (unsigned long long)(at - bytes));
        found->entries_replayed++;
    }
    return INV_OK;
}

/* ---- after the replay
 * ---------------------------------------------------------------------------------- */

typedef struct arming {
    inv_store *store;
    uint32_t stripe;
    inv_result result;
} arming;

static bool arm_again(void *argument, inv_ref ref, inv_hold *hold) {
    arming *state = argument;
    inv_store *store = state->store;
    if (hold->state != INV_STATE_HELD || (hold->kind & INV_HOLD_OP)) return true;
    state->result = inv_apply_reserve_wheel(store, state->stripe);
    if (state->result != INV_OK) return false;
    inv_wheel *wheel = store->stripes[state->stripe].wheel;
    inv_wheel_add(wheel, &store->pool, ref);
    return true;
}

/* The lowest deadline of a stripe: its wheel must begin before it. */
static bool lowest_deadline(void *argument, inv_ref ref, inv_hold *hold) {
    uint64_t *lowest = argument;
    (void)ref;
    if (hold->state == INV_STATE_HELD && (hold->kind & INV_HOLD_OP) == 0)
        *lowest = inv_min_u64(*lowest, hold->deadline_ms);
    return true;
}

/* Builds wheels from deadlines. A hold may be due already: it died before the crash could log it.
 */
static inv_result build_wheels(inv_store *store, uint64_t engine_ms) {
    for (uint32_t i = 0; i < store->stripe_count; i++) {
        inv_stripe *stripe = &store->stripes[i];
        uint64_t lowest = UINT64_MAX;
        if (stripe->home.held_count == 0) continue;
        inv_hold_walk(&store->holds, &stripe->home, lowest_deadline, &lowest);
        arming state = {store, i, inv_apply_reserve_wheel(store, i)};
        if (state.result != INV_OK) return state.result;
        stripe->home.held_count = 0;
        inv_wheel_init(stripe->wheel, inv_min_u64(engine_ms, lowest - 1));
        inv_hold_walk(&store->holds, &stripe->home, arm_again, &state);
        if (state.result != INV_OK) return state.result;
        stripe->home.held_count = (uint32_t)stripe->wheel->count;
        atomic_store_explicit(&store->next_due[i], inv_wheel_next(stripe->wheel, &store->pool),
                              memory_order_release);
    }
    return INV_OK;
}

static void delete_files(inv_store *store, const inv_wal_chain *chain) {
    const inv_storage *storage = &store->env->storage;
    char name[INV_FILE_NAME_MAX + 1];
    inv_error ignored = {0};
    inv_result result;
    for (uint64_t i = 0; i < chain->void_count; i++) {
        inv_wal_segment_name(name, "wal-", chain->void_numbers[i]);
        result = storage->remove(storage->context, name, &ignored);
        (void)result; /* what is left behind is void, and tried again next time */
    }
    for (uint64_t i = 0; i < chain->spare_count; i++) {
        inv_wal_segment_name(name, "spare-", chain->spare_numbers[i]);
        result = storage->remove(storage->context, name, &ignored);
        (void)result;
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
    state->epoch++;
    state->sequence++;
    state->clean_lsn = 0;
    inv_wal_encode_state(slot, state);
    inv_result result =
        storage->write(storage->context, "STATE", (state->sequence & 1) * INV_STATE_SLOT_BYTES,
                       slot, sizeof slot, true, error);
    if (result != INV_OK) return result;
    return chain->exists ? INV_OK : storage->sync_directory(storage->context, error);
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
    inv_wal_segment_header header = {.identity = store->identity,
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
    inv_wal_config config = {.identity = store->identity,
                             .state = *state,
                             .segment_bytes = store->options.segment_bytes,
                             .segments_ahead_max = store->options.segments_ahead_max,
                             .staged = store->options.durability == INV_DURABLE};
#ifdef INV_PLANTED_BUGS
    for (uint64_t i = 0; i < chain->link_count && INV_PLANTED(INV_PLANT_APPEND_RECOVERED); i++) {
        if (chain->links[i].header.number != verdict->end_number) continue;
        inv_env_free(env, relog, relog_bytes);
        return inv_wal_resume(&store->wal, env, &store->lanes, &config, &chain->links[i].header,
                              verdict->end_lsn, error);
    }
#endif
    if (result == INV_OK)
        result = inv_wal_start(&store->wal, env, &store->lanes, &config, &header, relog,
                               relog_bytes, error);
    inv_env_free(env, relog, relog_bytes);
    store->recovery.relogged_bytes = relog_bytes;
    return result;
}

static void report(inv_store *store, const inv_wal_chain *chain, const inv_wal_verdict *verdict) {
    inv_recovery *found = &store->recovery;
    found->lsn_first = chain->link_count == 0 ? INV_WAL_LSN_FIRST : chain->links[0].header.base_lsn;
    found->lsn_end = verdict->end_lsn;
    found->torn_bytes_dropped = verdict->torn_bytes;
    found->torn_records_dropped = verdict->void_records;
    found->durable_proven = verdict->durable;
    found->segments_read = chain->link_count;
    found->created = !chain->exists;
    found->clean_shutdown = chain->exists && chain->state.clean_lsn != 0;
}

/* Engine time resumes where the log ended; the time since is downtime, clamped, never negative. */
static void resume_time(inv_store *store, const replay *state, bool exists) {
    const inv_clock *clock = &store->env->clock;
    uint64_t wall = clock->wall_unix_ms(clock->context);
    if (!exists || !state->ticked) {
        inv_time_start(store, inv_max_u64(state->engine_ms, exists ? 0 : wall), 0, false);
        return;
    }
    /* What ran between the last tick and the last record is in the engine time already. */
    uint64_t stopped = state->tick.wall_unix_ms + (state->engine_ms - state->tick_ms);
    uint64_t down = wall > stopped ? wall - stopped : 0;
    down = inv_min_u64(down + state->tick.downtime_pending_ms, store->options.downtime_ms_max);
    store->recovery.downtime_ms = down;
    inv_time_start(store, state->engine_ms, down, true);
    atomic_store_explicit(&store->window_start_ms, state->tick.stale_before_ms,
                          memory_order_relaxed);
}

static inv_result replay_log(inv_store *store, const inv_wal_chain *chain, replay *state,
                             inv_wal_verdict *verdict, inv_error *error) {
    verdict->end_lsn = verdict->relog_lsn = verdict->durable = INV_WAL_LSN_FIRST;
    if (chain->link_count == 0) return INV_OK;
    store->replaying = true;
    inv_result result = inv_wal_scan(chain, replay_record, state, verdict, error);
    if (result == INV_OK && state->ticked)
        inv_forget(store, state->tick.window_start_ms, state->tick.forgotten_lsn);
    store->replaying = false;
    if (result == INV_OK) result = build_wheels(store, state->engine_ms);
    return result;
}

static inv_result first_tick(inv_store *store) {
    inv_lane *lane = inv_lane_claim(&store->lanes);
    uint64_t now = atomic_load_explicit(&store->now_ms, memory_order_relaxed);
    inv_result result = inv_time_tick(store, lane, now, store->downtime_pending_ms);
    inv_lane_give(lane);
    return result;
}

inv_result inv_recover(inv_store *store, inv_error *error) {
    const inv_clock *clock = &store->env->clock;
    inv_wal_chain chain;
    inv_wal_verdict verdict = {0};
    inv_wal_state wal_state;
    replay state = {.store = store};
    uint64_t began = clock->mono_ns(clock->context);
    bool read_only = store->options.read_only;
    inv_result result = inv_wal_chain_load(&chain, store->env, error);
    if (result == INV_OK && !chain.exists && read_only)
        result = inv_fail(error, INV_IO_ERROR, 2, "there is no store to read");
    if (result == INV_OK && !chain.exists) result = new_identity(store, error);
    if (result == INV_OK && chain.exists) store->identity = chain.state.identity;
    if (result == INV_OK) result = inv_store_init_parts(store);
    if (result == INV_OK && !read_only) result = claim_epoch(store, &chain, &wal_state, error);
    if (result == INV_OK) result = replay_log(store, &chain, &state, &verdict, error);
    if (result == INV_OK) {
        report(store, &chain, &verdict);
        resume_time(store, &state, chain.exists);
    }
    if (result == INV_OK && read_only) {
        inv_wal_init_memory(&store->wal, store->env, &store->lanes);
        atomic_store_explicit(&store->wal.tail, verdict.end_lsn, memory_order_release);
        atomic_store_explicit(&store->wal.durable, verdict.end_lsn, memory_order_release);
    } else if (result == INV_OK) {
        result = begin_segment(store, &chain, &wal_state, &verdict, error);
        if (result == INV_OK) result = first_tick(store);
        if (result == INV_BUSY && INV_PLANTED(INV_PLANT_APPEND_RECOVERED)) result = INV_OK;
        bool synced;
        if (result == INV_OK) result = inv_wal_flush(&store->wal, &synced);
        if (result == INV_STORE_FAILED) { /* there is no store yet that could fail */
            *error = store->wal.failure;
            error->code = result = INV_IO_ERROR;
        }
        if (result == INV_OK) delete_files(store, &chain);
    }
    inv_wal_chain_free(&chain);
    store->recovery.epoch = store->wal.epoch;
    store->recovery.duration_ns = clock->mono_ns(clock->context) - began;
    return result;
}
