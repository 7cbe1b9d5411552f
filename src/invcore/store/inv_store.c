/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_store.c: a store's life, its loops, reads, names and figures. Changes go through inv_run.c.
 */
#include "inv_events.h"
#include "inv_snapshot.h"
#include "inv_store.h"

#include <stdio.h>

#define FLUSHER_SLEEP_MS 2u
#define TICK_SLEEP_MS 1u
#define HOUSEKEEPER_SLEEP_MS 5u
#define SEQLOCK_TRIES 8u

/* ---- life ------------------------------------------------------------------------------------ */

void inv_options_init(inv_options *options) {
    memset(options, 0, sizeof *options);
    options->durability = INV_DURABLE;
    options->interval_ms = 10;
    options->segment_bytes = 64ull << 20;
    options->id_retention_ms = 24ull * 3600 * 1000;
    options->snapshot_log_bytes = 1ull << 30;
    options->consumer_log_bytes_max = 4ull << 30;
    options->ended_ids_max = 32ull << 20;
    options->default_ttl_ms = 600000;
    options->restart_grace_ms = 10000;
    options->downtime_ms_max = 24ull * 3600 * 1000;
    options->stripe_bits = 12;
    options->segments_ahead_max = 8;
}

static inv_result out_of_range(inv_error *error, const char *field, uint64_t low, uint64_t high) {
    return inv_fail(error, INV_BAD_REQUEST, 0, "%s must be %llu to %llu", field,
                    (unsigned long long)low, (unsigned long long)high);
}

static inv_result check_options(const inv_options *options, inv_error *error) {
    if (options->interval_ms < 1 || options->interval_ms > 10000)
        return out_of_range(error, "interval_ms", 1, 10000);
    if (options->segment_bytes < INV_WAL_SEGMENT_BYTES_MIN ||
        options->segment_bytes > INV_WAL_SEGMENT_BYTES_MAX || options->segment_bytes % 4096 != 0)
        return out_of_range(error, "segment_bytes (a multiple of 4096)", INV_WAL_SEGMENT_BYTES_MIN,
                            INV_WAL_SEGMENT_BYTES_MAX);
    if (options->id_retention_ms < 1 || options->id_retention_ms > 365ull * 24 * 3600 * 1000)
        return out_of_range(error, "id_retention_ms", 1, 365ull * 24 * 3600 * 1000);
    if (options->default_ttl_ms < 1 || options->default_ttl_ms > INV_TTL_MS_MAX)
        return out_of_range(error, "default_ttl_ms", 1, INV_TTL_MS_MAX);
    if (options->restart_grace_ms > 3600000)
        return out_of_range(error, "restart_grace_ms", 0, 3600000);
    if (options->downtime_ms_max > INV_TTL_MS_MAX)
        return out_of_range(error, "downtime_ms_max", 0, INV_TTL_MS_MAX);
    if (options->ended_ids_max < 1 || options->ended_ids_max > 1ull << 31)
        return out_of_range(error, "ended_ids_max", 1, 1ull << 31);
    if (options->snapshot_log_bytes > 1ull << 50)
        return out_of_range(error, "snapshot_log_bytes", 0, 1ull << 50);
    if (options->upto_lsn != 0 && !options->read_only)
        return inv_fail(error, INV_BAD_REQUEST, 0, "upto_lsn goes with read_only");
    if (options->accept_loss_lsn != 0 && options->read_only)
        return inv_fail(error, INV_BAD_REQUEST, 0, "accept_loss_lsn does not go with read_only");
    if (options->consumer_log_bytes_max > 1ull << 50)
        return out_of_range(error, "consumer_log_bytes_max", 0, 1ull << 50);
    if (options->stripe_bits > 12) return out_of_range(error, "stripe_bits", 0, 12);
    if (options->segments_ahead_max < 1 || options->segments_ahead_max > 8)
        return out_of_range(error, "segments_ahead_max", 1, 8);
    return INV_OK;
}

uint64_t inv_seller_tweak(const inv_store *store, inv_text seller) {
    return inv_siphash13(store->key, 0x73656C6C6572ull, seller.bytes, seller.length);
}

/* The names every store has from the beginning; never logged. */
static inv_result add_built_in(inv_names *names, const char *text) {
    inv_ref node;
    uint32_t number;
    inv_result result = inv_names_prepare(names, inv_text_of(text), 0, &node, &number);
    if (result == INV_OK) inv_names_publish(names, node);
    return result;
}

static inv_result init_names(inv_store *store) {
    inv_lanes *lanes = &store->lanes;
    inv_result result = inv_names_init(&store->locations, lanes, &store->pool, store->key,
                                       INV_NAME_LOCATION, INV_LOCATION_COUNT_MAX);
    if (result == INV_OK)
        result = inv_names_init(&store->sellers, lanes, &store->pool, store->key, INV_NAME_SELLER,
                                INV_SELLER_COUNT_MAX);
    if (result == INV_OK)
        result = inv_names_init(&store->accounts, lanes, &store->pool, store->key, INV_NAME_ACCOUNT,
                                INV_NUMBER_NONE);
    if (result == INV_OK)
        result = inv_names_init(&store->reasons, lanes, &store->pool, store->key, INV_NAME_REASON,
                                INV_NUMBER_NONE);
    if (result == INV_OK) result = add_built_in(&store->sellers, "default");
    if (result == INV_OK) result = add_built_in(&store->accounts, "");
    return result;
}

inv_result inv_store_init_parts(inv_store *store) {
    const inv_wal_identity *identity = &store->identity;
    store->stripe_bits = identity->stripe_bits;
    store->stripe_count = 1u << store->stripe_bits;
    store->key.k0 = inv_load_u64(identity->hash_key);
    store->key.k1 = inv_load_u64(identity->hash_key + 8);
    store->default_seller_tweak = inv_seller_tweak(store, inv_text_of("default"));
    uint64_t capacity = store->options.segment_bytes - INV_WAL_HEADER_BYTES;
    store->record_bytes_max = inv_min_u64(INV_RECORD_BYTES_MAX, capacity / 8);
    inv_result result = inv_pool_init(&store->pool, store->env);
    if (result == INV_OK) result = inv_lanes_init(&store->lanes, store->env);
    if (result == INV_OK)
        result = inv_holds_init(
            &store->holds, &store->pool, &store->lanes,
            store->stripe_bits < INV_SHARD_BITS_MAX ? store->stripe_bits : INV_SHARD_BITS_MAX);
    if (result != INV_OK) return result;
    store->stripes = inv_env_alloc(store->env, store->stripe_count * sizeof(inv_stripe));
    store->next_due = inv_env_alloc(store->env, store->stripe_count * sizeof(_Atomic uint64_t));
    if (store->stripes == NULL || store->next_due == NULL) return INV_NO_MEMORY;
    for (uint32_t i = 0; i < store->stripe_count; i++)
        atomic_store_explicit(&store->next_due[i], INV_WHEEL_NEVER, memory_order_relaxed);
    return init_names(store);
}

static inv_result open_in_memory(inv_store *store, inv_error *error) {
    const inv_env *env = store->env;
    inv_wal_identity *identity = &store->identity;
    if (!env->entropy.fill(env->entropy.context, identity->hash_key, 16))
        return inv_fail(error, INV_IO_ERROR, 0, "no entropy for a new store");
    inv_drift_begin(store);
    identity->created_unix_ms = store->drift.wall_start_ms;
    identity->stripe_bits = store->options.stripe_bits;
    inv_result result = inv_store_init_parts(store);
    if (result != INV_OK) return inv_fail(error, result, 0, "no memory for the store");
    inv_wal_init_memory(&store->wal, store->env, &store->lanes);
    inv_time_start(store, identity->created_unix_ms, 0, false);
    store->recovery.created = true;
    return INV_OK;
}

inv_result inv_store_open(inv_env *env, const inv_options *options, inv_store **out_store,
                          inv_error *error) {
    inv_error ignored = {0};
    if (error == NULL) error = &ignored;
    memset(error, 0, sizeof *error);
    inv_result result = check_options(options, error);
    if (result != INV_OK) return result;
    bool in_memory = options->durability == INV_MEMORY;
    if (in_memory == inv_env_has_storage(env))
        return inv_fail(error, INV_BAD_REQUEST, 0,
                        in_memory ? "durability memory keeps nothing: it takes no storage"
                                  : "durability needs a storage");
    inv_store *store = inv_env_alloc(env, sizeof *store);
    if (store == NULL) return inv_fail(error, INV_NO_MEMORY, 0, "no memory for the store");
    store->env = env;
    store->options = *options;
    if (in_memory) {
        result = open_in_memory(store, error);
    } else {
        result = env->storage.lock(env->storage.context, error);
        store->locked = result == INV_OK;
        if (result == INV_OK) result = inv_recover(store, error);
    }
    if (result != INV_OK) {
        if (error->code == 0) (void)inv_fail(error, result, 0, "%s", inv_result_name(result));
        inv_store_destroy(store);
        return result;
    }
    *out_store = store;
    return INV_OK;
}

void inv_store_stop(inv_store *store) {
    atomic_store_explicit(&store->stop, 1, memory_order_release);
    inv_wal_wake(&store->wal);
}

/* Waits until no call is inside, nobody waits for the disk, and the loops have ended. */
static void drain(inv_store *store) {
    while (inv_lanes_busy(&store->lanes)) inv_cpu_yield();
    while (atomic_load_explicit(&store->parked, memory_order_acquire) != 0) {
        bool synced;
        inv_result result = inv_digest_flush(store, false, &synced); /* the loops may be gone */
        if (result != INV_OK) inv_wal_fail(&store->wal, &store->wal.failure);
        inv_cpu_yield();
    }
}

static inv_result close_log(inv_store *store, inv_error *error) {
    bool synced;
    inv_result result = INV_OK;
    if (store->wal.in_memory) return INV_OK;
    inv_lock_take(&store->time_lock);
    inv_lane *lane = inv_lane_claim(&store->lanes);
    uint64_t now = atomic_load_explicit(&store->now_ms, memory_order_relaxed);
    if (!inv_wal_failed(&store->wal))
        result = inv_time_tick(store, lane, now, store->downtime_pending_ms);
    inv_lane_give(lane);
    if (result == INV_BUSY || result == INV_DISK_FULL) result = INV_OK; /* only the time is older */
    inv_lock_give(&store->time_lock);
    if (result == INV_OK) result = inv_digest_flush(store, true, &synced);
    if (result == INV_OK)
        result = inv_wal_write_state(&store->wal, 0, inv_wal_durable(&store->wal), error);
    if (result != INV_OK && error != NULL && error->code == 0) *error = store->wal.failure;
    return result;
}

inv_result inv_store_close(inv_store *store, inv_error *error) {
    if (atomic_exchange_explicit(&store->closing, 1, memory_order_seq_cst) != 0) {
        /* Somebody else closes or has closed: the caller may rely on it when this returns. */
        while (!atomic_load_explicit(&store->closed, memory_order_acquire)) inv_cpu_yield();
        return INV_OK;
    }
    inv_wal_nudge(&store->wal); /* whoever waits for events hears of it */
    while (inv_lanes_busy(&store->lanes)) inv_cpu_yield();
    inv_store_stop(store);
    while (atomic_load_explicit(&store->loops, memory_order_acquire) != 0) {
        inv_wal_wake(&store->wal);
        inv_cpu_yield();
    }
    drain(store);
    inv_result result = store->options.read_only ? INV_OK : close_log(store, error);
    if (store->locked) store->env->storage.unlock(store->env->storage.context);
    store->locked = false;
    atomic_store_explicit(&store->closed, true, memory_order_release);
    return result;
}

void inv_store_free_parts(inv_store *store) {
    const inv_env *env = store->env;
    for (uint32_t i = 0; store->stripes != NULL && i < store->stripe_count; i++) {
        inv_table_free(&store->stripes[i].table, &store->lanes);
        inv_env_free(env, store->stripes[i].wheel, sizeof(inv_wheel));
    }
    inv_names_deinit(&store->locations);
    inv_names_deinit(&store->sellers);
    inv_names_deinit(&store->accounts);
    inv_names_deinit(&store->reasons);
    inv_holds_deinit(&store->holds);
    for (uint32_t i = 0; store->lanes.lanes != NULL && i < INV_LANE_COUNT; i++)
        inv_env_free(env, store->lanes.lanes[i].scratch, sizeof(inv_run));
    inv_lanes_deinit(&store->lanes);
    if (store->pool.env != NULL) inv_pool_deinit(&store->pool);
    inv_env_free(env, store->stripes, store->stripe_count * sizeof(inv_stripe));
    inv_env_free(env, store->next_due, store->stripe_count * sizeof(_Atomic uint64_t));
    store->stripes = NULL;
    store->next_due = NULL;
    memset(&store->pool, 0, sizeof store->pool);
}

void inv_store_destroy(inv_store *store) {
    if (store == NULL) return;
    const inv_env *env = store->env;
    inv_wal_deinit(&store->wal);
    inv_snapshot_free(store);
    inv_consumers_free(store);
    inv_store_free_parts(store);
    if (store->locked) env->storage.unlock(env->storage.context);
    inv_env_free(env, store, sizeof *store);
}

void inv_store_failure(inv_store *store, inv_error *out) {
    inv_lock_take(&store->wal.failure_lock);
    *out = store->wal.failure;
    inv_lock_give(&store->wal.failure_lock);
}

void inv_store_recovery(const inv_store *store, inv_recovery *out) { *out = store->recovery; }

/* ---- entering -------------------------------------------------------------------------------- */

bool inv_store_enter(inv_store *store, inv_lane **out_lane, inv_result *out_result) {
    *out_result = INV_STORE_CLOSED;
    if (atomic_load_explicit(&store->closing, memory_order_acquire)) return false;
    inv_lane *lane = inv_lane_claim(&store->lanes);
    /* seq_cst against close(): either it sees this lane busy or we see it closing */
    if (atomic_load_explicit(&store->closing, memory_order_seq_cst) == 0 &&
        !inv_wal_failed(&store->wal)) {
        *out_lane = lane;
        *out_result = INV_OK;
        return true;
    }
    if (inv_wal_failed(&store->wal)) *out_result = INV_STORE_FAILED;
    inv_lane_give(lane);
    return false;
}

static inv_result refuse_all(inv_reply *replies, size_t count, inv_result code) {
    for (size_t i = 0; i < count; i++) {
        replies[i].code = code;
        replies[i].field = "read_only";
        replies[i].observed_lsn = 0;
        replies[i].line_count = 0;
    }
    return INV_OK;
}

inv_result inv_store_execute(inv_store *store, const inv_command *commands, size_t count,
                             inv_reply *replies) {
    if (store->options.read_only) return refuse_all(replies, count, INV_FORBIDDEN);
    return inv_execute(store, commands, count, replies, true);
}

inv_result inv_store_try_execute(inv_store *store, const inv_command *commands, size_t count,
                                 inv_reply *replies) {
    if (store->options.read_only) return refuse_all(replies, count, INV_FORBIDDEN);
    return inv_execute(store, commands, count, replies, false);
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* An lsn nobody has given out yet can't become safe once the store closes. */
static bool never_comes(inv_store *store, uint64_t lsn) {
    return atomic_load_explicit(&store->closing, memory_order_seq_cst) != 0 &&
           lsn > atomic_load_explicit(&store->wal.tail, memory_order_acquire);
}

/* Counts the caller as parked, so that close() answers it before the store is gone. */
static inv_result wait_durable(inv_store *store, uint64_t lsn, uint32_t timeout_ms) {
    if (inv_wal_durable(&store->wal) >= lsn) return INV_OK;
    atomic_fetch_add_explicit(&store->parked, 1, memory_order_seq_cst);
    inv_result result =
        never_comes(store, lsn) ? INV_STORE_CLOSED : inv_wal_wait(&store->wal, lsn, timeout_ms);
    atomic_fetch_sub_explicit(&store->parked, 1, memory_order_release);
    return result;
}

/* The page cache covers it once every appender below is done copying: microseconds. */
static inv_result wait_copied(inv_store *store, uint64_t lsn, uint32_t timeout_ms) {
    const inv_clock *clock = &store->env->clock;
    inv_result result = INV_OK;
    uint64_t began = 0;
    atomic_fetch_add_explicit(&store->parked, 1, memory_order_seq_cst);
    for (uint32_t spin = 1; result == INV_OK && inv_wal_prefix(&store->wal) < lsn; spin++) {
        if (inv_wal_failed(&store->wal)) result = INV_STORE_FAILED;
        if (never_comes(store, lsn)) result = INV_STORE_CLOSED;
        if (spin % 1024 == 0) {
            uint64_t now = clock->mono_ns(clock->context) / 1000000;
            if (began == 0) began = now;
            if (now - began >= timeout_ms) result = INV_BUSY;
        }
        inv_cpu_yield();
    }
    atomic_fetch_sub_explicit(&store->parked, 1, memory_order_release);
    return result != INV_OK ? result : inv_wal_failed(&store->wal) ? INV_STORE_FAILED : INV_OK;
}

inv_result inv_store_wait(inv_store *store, uint64_t lsn, uint32_t timeout_ms) {
    switch (store->options.durability) {
    case INV_MEMORY:
        return INV_OK;
    case INV_INTERVAL:
        return wait_copied(store, lsn, timeout_ms);
    case INV_DURABLE:
        break;
    }
    return wait_durable(store, lsn, timeout_ms);
}

inv_result inv_store_barrier(inv_store *store, uint64_t lsn, uint32_t timeout_ms) {
    return store->wal.in_memory ? INV_OK : wait_durable(store, lsn, timeout_ms);
}

/* ---- loops ----------------------------------------------------------------------------------- */

static bool stopped(const inv_store *store) {
    return atomic_load_explicit(&((inv_store *)store)->stop, memory_order_acquire) != 0 ||
           inv_wal_failed(&store->wal);
}

static void loop_begin(inv_store *store) {
    atomic_fetch_add_explicit(&store->loops, 1, memory_order_acq_rel);
}
static void loop_end(inv_store *store) {
    atomic_fetch_sub_explicit(&store->loops, 1, memory_order_release);
}

/* A sleep that nobody ends early but the clock. */
static void nap(uint32_t milliseconds) {
    _Atomic uint32_t word = 0;
    inv_futex_wait(&word, 0, milliseconds);
}

inv_result inv_store_flush(inv_store *store) {
    bool synced;
    return inv_digest_flush(store, false, &synced);
}

void inv_store_run_flusher(inv_store *store) {
    bool interval = store->options.durability == INV_INTERVAL;
    uint32_t sleep_ms = interval ? store->options.interval_ms : FLUSHER_SLEEP_MS;
    loop_begin(store);
    while (!stopped(store) && !store->wal.in_memory) {
        bool synced = false;
        if (inv_digest_flush(store, false, &synced) != INV_OK) break;
        if (!synced || interval) inv_wal_flusher_sleep(&store->wal, sleep_ms);
    }
    loop_end(store);
}

/* The clock is announced between two steps, so a step is short: a ms. */
#define ADVANCE_HOLDS 1024u
#define ADVANCE_WAIT_MS 20u
#define ADVANCE_NAP_MS 1u /* between two steps: 1 M holds go in 1 to 2 s, and others get through */

/* A crowd that expires at once writes faster than the disk: everybody who waits for his own record
 * would wait for all of theirs too. So a step begins when the one before it is on disk. */
static void pace(inv_store *store) {
    if (store->options.durability != INV_DURABLE) return;
    uint64_t tail = atomic_load_explicit(&store->wal.tail, memory_order_acquire);
    inv_result result = inv_wal_wait(&store->wal, tail, ADVANCE_WAIT_MS);
    (void)result; /* not yet, or failed: the next step sees it */
    nap(ADVANCE_NAP_MS);
}

void inv_store_run_timekeeper(inv_store *store) {
    uint64_t expired = 0;
    loop_begin(store);
    while (!stopped(store)) {
        bool more;
        inv_result result = inv_store_advance(store, ADVANCE_HOLDS, &more);
        if (result == INV_STORE_CLOSED || result == INV_STORE_FAILED) break;
        if (more) pace(store);
        uint64_t before = expired;
        expired = inv_lanes_sum(&store->lanes, INV_COUNT_EXPIRED);
        if (!more || expired == before) nap(TICK_SLEEP_MS); /* nothing due, or the log is behind */
    }
    loop_end(store);
}

inv_result inv_store_prepare(inv_store *store, bool *out_more) {
    inv_lane *lane;
    inv_result result;
    *out_more = false;
    if (!inv_store_enter(store, &lane, &result)) return result;
    inv_lane_give(lane); /* preparation may take long and looks at nothing that is retired */
    inv_pool_touch_ahead(&store->pool);
    inv_pack_step(store);
    if (store->options.read_only) return INV_OK;
    result = inv_wal_prepare(&store->wal, out_more);
    if (result == INV_OK && store->snapshot != NULL) result = inv_snapshot_step(store, out_more);
    return result;
}

void inv_store_run_housekeeper(inv_store *store) {
    loop_begin(store);
    while (!stopped(store)) {
        bool more;
        if (inv_store_prepare(store, &more) != INV_OK) break;
        if (!more) nap(inv_snapshot_pause_ms(store, HOUSEKEEPER_SLEEP_MS));
    }
    loop_end(store);
}

/* ---- reads ----------------------------------------------------------------------------------- */

typedef struct lookup { /* a SKU and a location as asked for */
    inv_text sku;
    uint64_t hash;
    uint32_t seller, stripe, place, location;
    bool location_given;
} lookup;

static inv_result look_up(inv_store *store, inv_text seller, const inv_line *line, lookup *out) {
    uint64_t tweak = store->default_seller_tweak;
    out->seller = 0;
    if (seller.bytes != NULL) {
        if (!inv_text_fits(seller, INV_SELLER_BYTES_MAX)) return INV_BAD_REQUEST;
        out->seller = inv_names_find(&store->sellers, seller);
        tweak = inv_seller_tweak(store, seller);
    }
    out->sku = line->sku;
    out->place = INV_NUMBER_NONE;
    if (line->sku.bytes != NULL) {
        if (!inv_text_fits(line->sku, INV_SKU_BYTES_MAX)) return INV_BAD_REQUEST;
        out->hash = inv_siphash13(store->key, tweak, line->sku.bytes, line->sku.length);
        out->stripe = (uint32_t)out->hash & (store->stripe_count - 1);
    } else {
        out->hash = 0;
        out->stripe = inv_sku_stripe(store, line->sku_number);
        out->place = inv_sku_place(store, line->sku_number);
    }
    out->location_given =
        line->location.bytes != NULL || line->location_number != INV_LOCATION_NONE;
    out->location = line->location_number;
    if (line->location.bytes != NULL) {
        if (!inv_text_fits(line->location, INV_LOCATION_BYTES_MAX)) return INV_BAD_REQUEST;
        out->location = inv_names_find(&store->locations, line->location);
    }
    return INV_OK;
}

/* Under the stripe's lock: the place of the SKU, checked against its seller. */
static uint32_t place_locked(const inv_store *store, const lookup *what) {
    const inv_table *table = &store->stripes[what->stripe].table;
    if (what->seller == INV_NUMBER_NONE) return INV_NUMBER_NONE;
    if (what->place == INV_NUMBER_NONE)
        return inv_table_find(table, what->hash, (uint16_t)what->seller, what->sku);
    if (what->place >= table->sku_count ||
        inv_table_sku(table, what->place)->seller != what->seller)
        return INV_NUMBER_NONE;
    return what->place;
}

static inv_result read_locked(inv_store *store, const lookup *what, inv_stock_level *out) {
    inv_stripe *stripe = &store->stripes[what->stripe];
    inv_lock_take(&stripe->lock);
    uint32_t place = place_locked(store, what);
    const inv_row *found = place == INV_NUMBER_NONE || what->location >= INV_LOCATION_NONE
                               ? NULL
                               : inv_table_row(&stripe->table, place, what->location);
    inv_row row = found == NULL ? (inv_row){0} : inv_row_load(found);
    uint64_t now = atomic_load_explicit(&store->now_ms, memory_order_acquire);
    inv_fill_level(store, what->stripe, place, what->location, found == NULL ? NULL : &row,
                   atomic_load_explicit(&stripe->lsn_touched, memory_order_relaxed),
                   inv_stripe_time(store, what->stripe, now), out);
    inv_lock_give(&stripe->lock);
    return place == INV_NUMBER_NONE ? INV_UNKNOWN_SKU : INV_OK;
}

/* One try of the seqlock read. INV_BUSY: a writer came in between, or the row has a policy aside.
 */
static inv_result read_once(inv_store *store, const lookup *what, inv_stock_level *out) {
    inv_stripe *stripe = &store->stripes[what->stripe];
    inv_row row = {0};
    uint32_t place = INV_NUMBER_NONE;
    uint32_t before = atomic_load_explicit(&stripe->sequence, memory_order_acquire);
    if (before & 1) return INV_BUSY;
    inv_result result = inv_table_peek(&stripe->table, what->hash, (uint16_t)what->seller,
                                       what->sku, what->place, what->location, &row, &place);
    INV_YIELD(store->env, INV_YIELD_IN_READ);
    uint64_t lsn = atomic_load_explicit(&stripe->lsn_touched, memory_order_acquire);
    uint64_t now = atomic_load_explicit(&store->now_ms, memory_order_acquire);
    uint64_t time = inv_stripe_time(store, what->stripe, now);
    /* The data loads above are acquires, so this one is not seen before them. */
    if (atomic_load_explicit(&stripe->sequence, memory_order_relaxed) != before &&
        !INV_PLANTED(INV_PLANT_SEQLOCK_NO_RECHECK))
        return INV_BUSY;
    if (result == INV_BUSY || (row.flags & INV_ROW_POLICY)) return INV_BUSY;
    inv_fill_level(store, what->stripe, place, what->location, result == INV_OK ? &row : NULL, lsn,
                   time, out);
    return result == INV_UNKNOWN_SKU ? result : INV_OK;
}

inv_result inv_store_availability(inv_store *store, inv_text seller, const inv_line *line,
                                  inv_stock_level *out) {
    inv_lane *lane;
    inv_result result;
    lookup what;
    memset(out, 0, sizeof *out);
    if (!inv_store_enter(store, &lane, &result)) return result;
    result = look_up(store, seller, line, &what);
    if (result == INV_OK && !what.location_given) result = INV_BAD_REQUEST;
    if (result == INV_OK) {
        result = INV_BUSY;
        bool lock_free = line->sku.bytes != NULL && what.seller != INV_NUMBER_NONE;
        for (uint32_t i = 0; lock_free && i < SEQLOCK_TRIES && result == INV_BUSY; i++)
            result = read_once(store, &what, out);
        if (result == INV_BUSY) result = read_locked(store, &what, out);
    }
    if (INV_PLANTED(INV_PLANT_READ_NO_WAIT)) out->lsn = 0;
    inv_lane_give(lane);
    return result;
}

/* Steps of a batch of reads: what a later one will touch, for all rows together. */
static void prefetch_rows(const inv_store *store, const uint32_t *skus,
                          const uint16_t *locations, size_t count) {
    for (size_t i = 0; i < count; i++)
        INV_PREFETCH(&store->stripes[inv_sku_stripe(store, skus[i])]);
    for (size_t i = 0; i < count; i++)
        inv_table_prefetch_sku(&store->stripes[inv_sku_stripe(store, skus[i])].table,
                               inv_sku_place(store, skus[i]));
    for (size_t i = 0; i < count; i++)
        inv_table_prefetch_row(&store->stripes[inv_sku_stripe(store, skus[i])].table,
                               inv_sku_place(store, skus[i]), locations[i]);
}

static void read_number(inv_store *store, uint32_t sku, uint16_t location, inv_batch_level *out,
                        uint64_t *observed_lsn) {
    inv_stripe *stripe = &store->stripes[inv_sku_stripe(store, sku)];
    lookup what = {.stripe = inv_sku_stripe(store, sku),
                   .place = inv_sku_place(store, sku),
                   .location = location};
    inv_stock_level level = {0};
    inv_result result = INV_BUSY;
    for (uint32_t i = 0; i < SEQLOCK_TRIES && result == INV_BUSY; i++)
        result = read_once(store, &what, &level);
    if (result == INV_BUSY) {
        inv_lock_take(&stripe->lock);
        uint32_t sku_count = stripe->table.sku_count;
        if (what.place < sku_count)
            what.seller = inv_table_sku(&stripe->table, what.place)->seller;
        inv_lock_give(&stripe->lock);
        (void)read_locked(store, &what, &level);
    }
    *observed_lsn = inv_max_u64(*observed_lsn, level.lsn);
    *out = (inv_batch_level){.on_hand = level.on_hand,
                             .held = level.held,
                             .allocated = level.allocated,
                             .available_to_promise = level.available_to_promise,
                             .safety_stock = level.safety_stock,
                             .known = level.known};
}

inv_result inv_store_availability_batch(inv_store *store, const uint32_t *skus,
                                        const uint16_t *locations, size_t count,
                                        inv_batch_level *out_levels, uint64_t *out_observed_lsn) {
    *out_observed_lsn = 0;
    for (size_t at = 0; at < count;) {
        inv_lane *lane;
        inv_result result;
        size_t piece = count - at < INV_RUN_COMMAND_MAX ? count - at : INV_RUN_COMMAND_MAX;
        if (!inv_store_enter(store, &lane, &result)) return result;
        prefetch_rows(store, skus + at, locations + at, piece);
        for (size_t i = at; i < at + piece; i++)
            read_number(store, skus[i], locations[i], &out_levels[i], out_observed_lsn);
        inv_lane_give(lane);
        at += piece;
    }
    return INV_OK;
}

static void add_level(inv_stock_level *total, const inv_stock_level *level) {
    total->on_hand += level->on_hand;
    total->held += level->held;
    total->allocated += level->allocated;
    total->reserved += level->reserved;
    total->unsellable += level->unsellable;
    total->available += level->available;
    total->available_to_promise += level->available_to_promise;
    total->safety_stock += level->safety_stock;
    total->short_qty += level->short_qty;
    total->backordered += level->backordered;
    total->incoming += level->incoming;
}

inv_result inv_store_availability_sku(inv_store *store, inv_text seller, const inv_line *line,
                                      inv_stock_level *levels, uint32_t levels_max,
                                      uint32_t *out_count, inv_stock_level *out_total) {
    inv_lane *lane;
    inv_result result;
    lookup what;
    *out_count = 0;
    memset(out_total, 0, sizeof *out_total);
    if (!inv_store_enter(store, &lane, &result)) return result;
    result = look_up(store, seller, line, &what);
    if (result != INV_OK) {
        inv_lane_give(lane);
        return result;
    }
    inv_stripe *stripe = &store->stripes[what.stripe];
    inv_lock_take(&stripe->lock);
    uint32_t place = place_locked(store, &what), count = 0;
    uint64_t lsn = atomic_load_explicit(&stripe->lsn_touched, memory_order_relaxed);
    uint64_t now = atomic_load_explicit(&store->now_ms, memory_order_acquire);
    uint64_t time = inv_stripe_time(store, what.stripe, now);
    const inv_row *rows =
        place == INV_NUMBER_NONE ? NULL : inv_table_rows_of(&stripe->table, place, &count);
    inv_fill_level(store, what.stripe, place, INV_LOCATION_NONE, NULL, lsn, time, out_total);
    out_total->known = place != INV_NUMBER_NONE;
    for (uint32_t i = 0; i < count; i++) {
        inv_stock_level level;
        inv_fill_level(store, what.stripe, place, rows[i].location, &rows[i], lsn, time, &level);
        add_level(out_total, &level);
        if (i < levels_max) levels[i] = level;
    }
    *out_count = count;
    inv_lock_give(&stripe->lock);
    inv_lane_give(lane);
    return place == INV_NUMBER_NONE ? INV_UNKNOWN_SKU : INV_OK;
}

static inv_result read_reservation(inv_store *store, const inv_hold_key *key, inv_reply *out) {
    inv_hold_shard *shard = inv_holds_shard(&store->holds, key->hash);
    for (;;) { /* until the home we locked is the home it has */
        inv_lock_take(&shard->lock);
        inv_ref ref = inv_holds_find_locked(&store->holds, shard, key);
        uint32_t home = ref == 0 ? 0 : inv_hold_stripe(&store->holds, ref);
        inv_lock_give(&shard->lock);
        out->observed_lsn = atomic_load_explicit(&store->ids_lsn, memory_order_acquire);
        if (ref == 0) return INV_UNKNOWN_RESERVATION;
        inv_stripe *stripe = &store->stripes[home];
        inv_lock_take(&stripe->lock);
        bool same = inv_holds_find(&store->holds, key) == ref;
        if (same) {
            inv_fill_reservation(store, ref, out);
            uint64_t now = atomic_load_explicit(&store->now_ms, memory_order_acquire);
            out->now_unix_ms = inv_stripe_time(store, home, now);
            out->observed_lsn =
                inv_max_u64(out->observed_lsn,
                            atomic_load_explicit(&stripe->lsn_touched, memory_order_relaxed));
        }
        inv_lock_give(&stripe->lock);
        if (same) return INV_OK;
    }
}

inv_result inv_store_reservation(inv_store *store, inv_text seller, inv_text id, bool id_is_uuid,
                                 inv_reply *out) {
    inv_lane *lane;
    inv_result result;
    inv_hold_key key;
    inv_reply_line *lines = out->lines;
    uint32_t lines_max = out->lines_max;
    memset(out, 0, sizeof *out);
    out->lines = lines;
    out->lines_max = lines_max;
    if (!inv_store_enter(store, &lane, &result)) return result;
    bool seller_ok = seller.bytes == NULL || inv_text_fits(seller, INV_SELLER_BYTES_MAX);
    if (!seller_ok || !inv_parse_id(id, id_is_uuid, &key)) {
        out->field = seller_ok ? "reservation_id" : "seller";
        out->limit = INV_ID_BYTES_MAX;
        result = INV_BAD_REQUEST;
    } else {
        key.seller = seller.bytes == NULL ? 0 : inv_names_find(&store->sellers, seller);
        uint64_t tweak =
            seller.bytes == NULL ? store->default_seller_tweak : inv_seller_tweak(store, seller);
        key.hash = inv_hold_hash(store->key, tweak, false, key.text, key.uuid);
        result = read_reservation(store, &key, out);
    }
    out->code = result;
    inv_lane_give(lane);
    return result;
}

/* ---- names ----------------------------------------------------------------------------------- */

static void name_command(inv_name_kind kind, inv_text seller, inv_text name, inv_line *line,
                         inv_command *command) {
    memset(line, 0, sizeof *line);
    memset(command, 0, sizeof *command);
    line->sku_number = INV_NUMBER_NONE;
    line->location_number = INV_LOCATION_NONE;
    command->kind = INV_CMD_NAME;
    command->seller = seller;
    command->lines = line;
    command->line_count = 1;
    switch (kind) {
    case INV_NAME_SKU:
        line->sku = name;
        break;
    case INV_NAME_LOCATION:
        line->location = name;
        break;
    case INV_NAME_SELLER:
        command->seller = name;
        break;
    case INV_NAME_REASON:
        command->reason = name;
        break;
    case INV_NAME_ACCOUNT:
    case INV_NAME_REFERENCE:
        command->account = name;
        break;
    }
}

inv_names *inv_store_names(inv_store *store, uint32_t kind) {
    switch (kind) {
    case INV_NAME_LOCATION:
        return &store->locations;
    case INV_NAME_SELLER:
        return &store->sellers;
    case INV_NAME_ACCOUNT:
        return &store->accounts;
    case INV_NAME_REASON:
        return &store->reasons;
    default: /* SKUs are with their stripes, references are numbers only */
        return NULL;
    }
}

static uint32_t find_number(inv_store *store, inv_name_kind kind, inv_text seller, inv_text name) {
    inv_line line = {.sku = name, .location_number = INV_LOCATION_NONE};
    lookup what;
    const inv_names *names = inv_store_names(store, kind);
    if (names != NULL) return inv_names_find(names, name);
    if (kind != INV_NAME_SKU) return INV_NUMBER_NONE;
    if (look_up(store, seller, &line, &what) != INV_OK) return INV_NUMBER_NONE;
    inv_lock_take(&store->stripes[what.stripe].lock);
    uint32_t place = place_locked(store, &what);
    inv_lock_give(&store->stripes[what.stripe].lock);
    return place == INV_NUMBER_NONE ? place : inv_sku_number(store, what.stripe, place);
}

static uint32_t name_bytes_max(inv_name_kind kind) {
    return kind == INV_NAME_SKU ? INV_SKU_BYTES_MAX : INV_LOCATION_BYTES_MAX;
}

static inv_result find_numbers(inv_store *store, inv_name_kind kind, inv_text seller,
                               const inv_text *names, size_t count, bool create, bool may_wait,
                               uint32_t *out_numbers, uint64_t *out_lsn, size_t *out_bad_index) {
    inv_line lines[INV_RUN_COMMAND_MAX];
    inv_command commands[INV_RUN_COMMAND_MAX];
    inv_reply replies[INV_RUN_COMMAND_MAX];
    *out_lsn = 0;
    for (size_t i = 0; i < count; i++) {
        if (inv_text_fits(names[i], name_bytes_max(kind)) && kind != INV_NAME_REFERENCE) continue;
        *out_bad_index = i;
        return INV_BAD_REQUEST;
    }
    for (size_t at = 0; at < count;) {
        inv_lane *lane;
        inv_result result;
        size_t piece = 0, missing = 0, where[INV_RUN_COMMAND_MAX];
        if (!inv_store_enter(store, &lane, &result)) return result;
        for (; at + piece < count && piece < INV_RUN_COMMAND_MAX; piece++) {
            out_numbers[at + piece] = find_number(store, kind, seller, names[at + piece]);
            if (out_numbers[at + piece] != INV_NUMBER_NONE || !create) continue;
            name_command(kind, seller, names[at + piece], &lines[missing], &commands[missing]);
            memset(&replies[missing], 0, sizeof replies[missing]);
            where[missing++] = at + piece;
        }
        inv_lane_give(lane);
        /* A number found may be younger than the last sync: it holds only once its name is durable.
         */
        *out_lsn =
            inv_max_u64(*out_lsn, atomic_load_explicit(&store->wal.tail, memory_order_acquire));
        at += piece;
        if (missing == 0) continue;
        result = may_wait ? inv_store_execute(store, commands, missing, replies)
                          : inv_store_try_execute(store, commands, missing, replies);
        if (result != INV_OK) return result;
        for (size_t i = 0; i < missing; i++) {
            if (replies[i].code != INV_OK) {
                *out_bad_index = where[i];
                return replies[i].code;
            }
            *out_lsn = inv_max_u64(*out_lsn, replies[i].observed_lsn);
            if (!inv_store_enter(store, &lane, &result)) return result;
            out_numbers[where[i]] = find_number(store, kind, seller, names[where[i]]);
            inv_lane_give(lane);
        }
    }
    return INV_OK;
}

inv_result inv_store_numbers(inv_store *store, inv_name_kind kind, inv_text seller,
                             const inv_text *names, size_t count, bool create,
                             uint32_t *out_numbers, uint64_t *out_lsn, size_t *out_bad_index) {
    return find_numbers(store, kind, seller, names, count, create, true, out_numbers, out_lsn,
                        out_bad_index);
}

inv_result inv_store_try_numbers(inv_store *store, inv_name_kind kind, inv_text seller,
                                 const inv_text *names, size_t count, bool create,
                                 uint32_t *out_numbers, uint64_t *out_lsn, size_t *out_bad_index) {
    return find_numbers(store, kind, seller, names, count, create, false, out_numbers, out_lsn,
                        out_bad_index);
}

bool inv_store_name(inv_store *store, inv_name_kind kind, uint32_t number, char *out_bytes,
                    uint32_t *out_length) {
    inv_text text = {NULL, 0};
    bool found = false;
    /* Also while closing: names stay until the store is destroyed, and answers already given need
     * them. */
    inv_lane *lane = inv_lane_claim(&store->lanes);
    if (kind == INV_NAME_SKU) {
        inv_stripe *stripe = &store->stripes[inv_sku_stripe(store, number)];
        uint32_t place = inv_sku_place(store, number);
        inv_lock_take(&stripe->lock);
        found = place < stripe->table.sku_count;
        if (found) {
            text = inv_table_name(&stripe->table, place);
            memcpy(out_bytes, text.bytes, text.length);
        }
        inv_lock_give(&stripe->lock);
    } else {
        const inv_names *names = inv_store_names(store, kind);
        found = names != NULL && inv_names_text(names, number, &text);
        if (found) memcpy(out_bytes, text.bytes, text.length);
    }
    *out_length = text.length;
    inv_lane_give(lane);
    return found;
}

/* ---- figures --------------------------------------------------------------------------------- */

static void stripe_figures(inv_store *store, inv_metrics *out) {
    uint64_t now = atomic_load_explicit(&store->now_ms, memory_order_acquire), lowest = now;
    for (uint32_t i = 0; i < store->stripe_count; i++) {
        inv_stripe *stripe = &store->stripes[i];
        inv_lock_take(&stripe->lock);
        out->live_holds += stripe->home.live_count;
        inv_lock_give(&stripe->lock);
        lowest = inv_min_u64(lowest, inv_stripe_time(store, i, now));
    }
    uint64_t clock_ms = inv_time_clock_ms(store);
    out->now_unix_ms = lowest;
    out->lag_ms = clock_ms > lowest ? clock_ms - lowest : 0;
    out->id_window_ms =
        now - inv_min_u64(now, atomic_load_explicit(&store->window_start_ms, memory_order_acquire));
}

void inv_store_metrics(inv_store *store, inv_metrics *out) {
    inv_wal *wal = &store->wal;
    const inv_clock *clock = &store->env->clock;
    memset(out, 0, sizeof *out);
    inv_lock_take(&store->time_lock);
    stripe_figures(store, out);
    out->clock_drift_ms = store->drift.drift_ms;
    out->clock_alarms = store->drift.alarms;
    out->clock_slewed_ms = inv_drift_slewed_ms(&store->drift, clock->mono_ms(clock->context));
    out->wall_offset_ms =
        (int64_t)atomic_load_explicit(&store->wall_offset_ms, memory_order_relaxed);
    inv_lock_give(&store->time_lock);
    out->lsn_appended = atomic_load_explicit(&wal->tail, memory_order_acquire);
    out->lsn_durable = inv_wal_durable(wal);
    out->commands = inv_lanes_sum(&store->lanes, INV_COUNT_COMMANDS);
    out->records = inv_lanes_sum(&store->lanes, INV_COUNT_RECORDS);
    out->reserved_ok = inv_lanes_sum(&store->lanes, INV_COUNT_RESERVED);
    out->refused = inv_lanes_sum(&store->lanes, INV_COUNT_REFUSED);
    out->replayed = inv_lanes_sum(&store->lanes, INV_COUNT_REPLAYED);
    out->expired = inv_lanes_sum(&store->lanes, INV_COUNT_EXPIRED);
    out->groups = atomic_load_explicit(&wal->groups, memory_order_relaxed);
    out->syncs = atomic_load_explicit(&wal->syncs, memory_order_relaxed);
    out->sync_ns_total = atomic_load_explicit(&wal->sync_ns_total, memory_order_relaxed);
    out->sync_ns_max = atomic_load_explicit(&wal->sync_ns_max, memory_order_relaxed);
    out->segment_waits = atomic_load_explicit(&wal->segment_waits, memory_order_relaxed);
    out->segments_ready = atomic_load_explicit(&wal->ready, memory_order_relaxed) -
                          atomic_load_explicit(&wal->current, memory_order_relaxed);
    out->ended_ids = atomic_load_explicit(&store->holds.ended_total, memory_order_relaxed);
    out->probe_max = atomic_load_explicit(&store->holds.probe_max, memory_order_relaxed);
    out->bytes_in_use = inv_pool_bytes(&store->pool);
    out->disk_state = inv_wal_disk_state(wal);
    out->disk_full_count = atomic_load_explicit(&wal->disk_full_count, memory_order_relaxed);
    out->disk_read_only_count =
        atomic_load_explicit(&wal->disk_read_only_count, memory_order_relaxed);
    out->disk_recovered_count =
        atomic_load_explicit(&wal->disk_recovered_count, memory_order_relaxed);
    out->reserve_segments = (uint64_t)__builtin_popcount(
        atomic_load_explicit(&wal->reserves, memory_order_relaxed));
    out->snapshots = atomic_load_explicit(&store->snapshots, memory_order_relaxed);
    out->snapshot_failures = atomic_load_explicit(&store->snapshot_failures, memory_order_relaxed);
    out->snapshot_lsn = atomic_load_explicit(&store->snapshot_lsn, memory_order_relaxed);
    out->snapshot_bytes = atomic_load_explicit(&store->snapshot_bytes, memory_order_relaxed);
    out->snapshot_ns = atomic_load_explicit(&store->snapshot_ns, memory_order_relaxed);
    inv_consumers_figures(store, out);
}
