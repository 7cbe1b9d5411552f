/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_time.c: time moves here and nowhere else. One step (inv_store_advance): announce T, expire
 * what is due stripe by stripe, log a tick each second.
 *
 * T runs with the monotonic clock from an anchor set on opening; what the wall clock does meanwhile
 * is looked at (inv_drift.c), not obeyed. After a restart T resumes at the last logged time; the
 * downtime, all that the wall clock is asked for, is added in one step when the grace is over.
 *
 * EXPIRY. A stripe with something due is locked, up to 64 holds are taken from its wheel, the
 * stripes of their lines are locked too (all are higher: home is the lowest), one record is
 * written, all is unlocked. Others come in between, and see a stripe whose time has not yet reached
 * those deadlines.
 *
 * FORGETTING. A tick says from when on ended ids are remembered, and is logged before any is
 * forgotten.
 */
#include "inv_store.h"

#define WHEEL_WORK 512u   /* wheel steps of one lock hold */
#define SWEEP_SHARE 1024u /* holds a stripe may have expired in one call */
#define EXCESS_EXACT_MAX 4096u /* ids beyond ended_ids_max that a tick finds one by one */
#define EXCESS_STEP_MAX 65536u /* ... when no mark helps */
#define FORGET_STRIPES 16u /* of which ended ids are forgotten together */
#define FORGET_ROUNDS 16u  /* ids of each in one lock hold */
#define FORGET_TICK_MIN 65536u /* ids that a tick lets go, some 10 ms */
#define FORGET_TICK_MS 100u    /* from one tick to the next while more are to go */

void inv_time_start(inv_store *store, uint64_t engine_ms, uint64_t downtime_ms, bool grace) {
    store->anchor_engine_ms = engine_ms;
    store->anchor_mono_ms = store->drift.mono_start_ms;
    store->downtime_pending_ms = downtime_ms;
    store->grace_until_ms = engine_ms + (grace ? store->options.restart_grace_ms : 0);
    store->tick_last_ms = engine_ms;
    atomic_store_explicit(&store->now_ms, engine_ms, memory_order_release);
    atomic_store_explicit(&store->wall_offset_ms,
                          store->drift.wall_start_ms - engine_ms - downtime_ms,
                          memory_order_relaxed);
}

static uint64_t clock_at(const inv_store *store, uint64_t mono_ms) {
    return store->anchor_engine_ms + (mono_ms - store->anchor_mono_ms) +
           inv_drift_slewed_ms(&store->drift, mono_ms);
}

uint64_t inv_time_clock_ms(const inv_store *store) {
    const inv_clock *clock = &store->env->clock;
    if (INV_PLANTED(INV_PLANT_EXPIRY_BY_WALL))
        return store->anchor_engine_ms +
               (clock->wall_unix_ms(clock->context) - store->drift.wall_start_ms);
    return clock_at(store, clock->mono_ms(clock->context));
}

/* ---- forgetting ------------------------------------------------------------------------------ */

uint64_t inv_seller_tweak_of(const inv_store *store, uint32_t seller) {
    inv_text text;
    if (seller == 0) return store->default_seller_tweak;
    bool known = inv_names_text(&store->sellers, seller, &text);
    INV_ASSERT(known);
    return inv_seller_tweak(store, text);
}

static uint64_t hash_of(const inv_store *store, const inv_hold *hold) {
    return inv_hold_hash(store->key, inv_seller_tweak_of(store, hold->seller),
                         (hold->kind & INV_HOLD_OP) != 0, inv_hold_text(&store->holds, hold),
                         hold->id);
}

static void forget_one(inv_store *store, inv_stripe *stripe, uint64_t hash) {
    inv_ref ref = inv_hold_dequeue_ended(&store->holds, &stripe->home);
    if (!inv_hold_at(&store->holds, ref)->gone) {
        inv_hold_shard *shard = inv_holds_shard(&store->holds, hash);
        inv_lock_take(&shard->lock);
        inv_holds_remove_locked(&store->holds, shard, hash, ref);
        inv_lock_give(&shard->lock);
    }
    inv_hold_destroy(&store->holds, &stripe->home, ref);
}

/* The oldest ended id of each of these locked stripes goes, if it may. Each is a chain of lines
 * that no cache holds, so all stripes take each step together. Returns whether any went. */
static bool forget_round(inv_store *store, inv_stripe *stripes, uint32_t count,
                         uint64_t window_start_ms, uint64_t lsn) {
    uint64_t hashes[FORGET_STRIPES];
    bool goes[FORGET_STRIPES], any = false;
    for (uint32_t i = 0; i < count; i++) {
        inv_ref first = stripes[i].home.ended_first;
        goes[i] = first != 0;
        if (first == 0) continue;
        INV_PREFETCH(inv_hold_at(&store->holds, first));
        INV_PREFETCH(inv_hold_at(&store->holds, first & ~63u));
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!goes[i]) continue;
        const inv_hold *oldest = inv_hold_at(&store->holds, stripes[i].home.ended_first);
        goes[i] = oldest->deadline_ms < window_start_ms || oldest->lsn <= lsn;
        if (!goes[i]) continue;
        hashes[i] = hash_of(store, oldest);
        inv_holds_prefetch(&store->holds, hashes[i]);
        if (oldest->next != 0) INV_PREFETCH(inv_hold_at(&store->holds, oldest->next));
    }
    for (uint32_t i = 0; i < count; i++)
        if (goes[i]) {
            forget_one(store, &stripes[i], hashes[i]);
            store->forgotten_total++;
            any = true;
        }
    return any;
}

void inv_forget(inv_store *store, uint64_t window_start_ms, uint64_t lsn) {
    for (uint32_t from = 0; from < store->stripe_count; from += FORGET_STRIPES) {
        inv_stripe *stripes = &store->stripes[from];
        uint32_t left = store->stripe_count - from;
        uint32_t count = left < FORGET_STRIPES ? left : FORGET_STRIPES;
        for (bool more = true; more;) {
            for (uint32_t i = 0; i < count; i++) inv_lock_take(&stripes[i].lock);
            for (uint32_t round = 0; round < FORGET_ROUNDS && more; round++)
                more = forget_round(store, stripes, count, window_start_ms, lsn);
            for (uint32_t i = 0; i < count; i++) inv_lock_give(&stripes[i].lock);
        }
    }
}

typedef struct oldest_ended { /* a stripe's queue while the oldest of all are looked for */
    uint64_t lsn, ended_ms;
    inv_ref ref;
    uint32_t stripe;
} oldest_ended;

static void sift_down(oldest_ended *heap, uint32_t count, uint32_t at) {
    for (;;) {
        uint32_t least = at, left = 2 * at + 1;
        if (left < count && heap[left].lsn < heap[least].lsn) least = left;
        if (left + 1 < count && heap[left + 1].lsn < heap[least].lsn) least = left + 1;
        if (least == at) return;
        oldest_ended swap = heap[at];
        heap[at] = heap[least];
        heap[least] = swap;
        at = least;
    }
}

static bool look_at(inv_store *store, uint32_t stripe, inv_ref ref, oldest_ended *out) {
    if (ref == 0) return false;
    const inv_hold *hold = inv_hold_at(&store->holds, ref);
    *out = (oldest_ended){hold->lsn, hold->deadline_ms, ref, stripe};
    return true;
}

void inv_mark_ended(inv_store *store, uint64_t lsn, uint64_t now_ms) {
    uint64_t total = store->forgotten_total +
                     atomic_load_explicit(&store->holds.ended_total, memory_order_relaxed);
    uint64_t apart = store->options.ended_ids_max / INV_ENDED_MARKS;
    if (store->mark_count > 0 &&
        total < store->marks[store->mark_count - 1].ended_total + inv_max_u64(apart, 1))
        return;
    if (store->mark_count == INV_ENDED_MARKS) {
        store->mark_count--;
        memmove(store->marks, store->marks + 1, store->mark_count * sizeof store->marks[0]);
    }
    store->marks[store->mark_count++] = (inv_ended_mark){lsn, now_ms, total};
}

/* For many: the last mark before which at most `excess` ids ended. False: there is none. */
static bool find_mark(const inv_store *store, uint64_t excess, uint64_t *lsn, uint64_t *window_ms) {
    bool found = false;
    for (uint32_t i = 0; i < store->mark_count; i++) {
        const inv_ended_mark *mark = &store->marks[i];
        if (mark->ended_total <= store->forgotten_total) continue;
        if (mark->ended_total > store->forgotten_total + excess) break;
        *lsn = mark->lsn;
        *window_ms = inv_max_u64(*window_ms, mark->now_ms + 1);
        found = true;
    }
    return found;
}

/* The lsn up to which the `excess` oldest ended ids reach. Only the timekeeper takes from the
 * queues, so a reference read under the lock stays one of the queue (a late commit may revive one:
 * then this stops). */
static void find_excess(inv_store *store, uint64_t excess, uint64_t *lsn, uint64_t *window_ms) {
    size_t bytes = store->stripe_count * sizeof(oldest_ended);
    oldest_ended *heap = inv_env_alloc(store->env, bytes);
    uint32_t count = 0;
    if (heap == NULL) return; /* tried again at the next tick */
    for (uint32_t i = 0; i < store->stripe_count; i++) {
        inv_lock_take(&store->stripes[i].lock);
        count += look_at(store, i, store->stripes[i].home.ended_first, &heap[count]);
        inv_lock_give(&store->stripes[i].lock);
    }
    for (uint32_t i = count; i-- > 0;) sift_down(heap, count, i);
    for (; excess > 0 && count > 0; excess--) {
        inv_stripe *stripe = &store->stripes[heap[0].stripe];
        *lsn = inv_max_u64(*lsn, heap[0].lsn);
        *window_ms = inv_max_u64(*window_ms, heap[0].ended_ms + 1);
        inv_lock_take(&stripe->lock);
        const inv_hold *hold = inv_hold_at(&store->holds, heap[0].ref);
        inv_ref next = hold->lsn == heap[0].lsn ? hold->next : 0;
        if (!look_at(store, heap[0].stripe, next, &heap[0])) heap[0] = heap[--count];
        inv_lock_give(&stripe->lock);
        sift_down(heap, count, 0);
    }
    inv_env_free(store->env, heap, bytes);
}

/* ---- ticks ----------------------------------------------------------------------------------- */

/* Between two ticks: by as much more than a tick may leave behind when it goes by marks. */
static bool must_forget(const inv_store *store) {
    uint64_t most = store->options.ended_ids_max;
    return !store->snapshot_copying &&
           atomic_load_explicit(&((inv_store *)store)->holds.ended_total, memory_order_relaxed) >
               most + most / (INV_ENDED_MARKS / 4);
}

/* How many ids a tick may let go: time stands still while it does. More than have ended since the
 * last one, or it would never come to an end of them. */
static uint64_t forget_most(const inv_store *store, uint64_t total) {
    uint64_t ended = store->forgotten_total + total - store->ended_at_tick;
    return inv_max_u64(FORGET_TICK_MIN, 2 * ended);
}

/* window_ms, or as far before it as marks say that no more than `most` ids ended. */
static uint64_t limit_window(const inv_store *store, uint64_t window_ms, uint64_t most) {
    uint64_t limit_ms = 0;
    for (uint32_t i = 0; i < store->mark_count; i++) {
        const inv_ended_mark *mark = &store->marks[i];
        if (mark->ended_total <= store->forgotten_total) continue;
        if (limit_ms != 0 && mark->ended_total > store->forgotten_total + most)
            return inv_min_u64(window_ms, limit_ms);
        limit_ms = mark->now_ms + 1;
    }
    return window_ms;
}

/* What ids this tick lets go. window_start for STALE_ID also covers those forgotten for their
 * number. */
static void decide_forgetting(inv_store *store, uint64_t now, inv_effect_tick *tick) {
    uint64_t retention = store->options.id_retention_ms;
    uint64_t total = atomic_load_explicit(&store->holds.ended_total, memory_order_relaxed);
    uint64_t most = forget_most(store, total), wanted_ms = now > retention ? now - retention : 0;
    store->ended_at_tick = store->forgotten_total + total;
    tick->window_start_ms = limit_window(store, wanted_ms, most);
    tick->forgotten_lsn = 0;
    store->forget_behind = tick->window_start_ms < wanted_ms && !store->snapshot_copying;
    if (store->snapshot_copying && !INV_PLANTED(INV_PLANT_SNAPSHOT_FORGETS)) {
        tick->window_start_ms = 0;
        tick->stale_before_ms =
            atomic_load_explicit(&store->window_start_ms, memory_order_relaxed);
        return;
    }
    /* What was once forgotten for its number stays forgotten: this window never moves back. */
    uint64_t stale_before = inv_max_u64(
        tick->window_start_ms, atomic_load_explicit(&store->window_start_ms, memory_order_relaxed));
    /* Few are found one by one; many as far as a mark says, so that a tick stays short. */
    uint64_t excess =
        inv_min_u64(most, total - inv_min_u64(total, store->options.ended_ids_max));
    if (excess > 0 && (excess <= EXCESS_EXACT_MAX ||
                       !find_mark(store, excess, &tick->forgotten_lsn, &stale_before)))
        find_excess(store, inv_min_u64(excess, EXCESS_STEP_MAX), &tick->forgotten_lsn,
                    &stale_before);
    tick->stale_before_ms = stale_before;
    if (INV_PLANTED(INV_PLANT_TOMBSTONE_EARLY)) tick->window_start_ms = now - retention / 4;
}

/* The wall clock when engine time was `now`, which was announced some time ago: what has passed
 * since is in no record yet, so a restart must find it as downtime. `now` has pending_ms to come;
 * the anchor, until the step is logged, still has all of it to come. */
static uint64_t wall_at(const inv_store *store, uint64_t now, uint64_t pending_ms) {
    uint64_t mono_ms, wall_ms;
    bool together = inv_drift_read(&store->env->clock, &mono_ms, &wall_ms);
    uint64_t clock_ms = clock_at(store, mono_ms) + store->downtime_pending_ms;
    uint64_t since_ms = clock_ms > now + pending_ms ? clock_ms - now - pending_ms : 0;
    if (!together) return wall_ms; /* less downtime, never more */
    return wall_ms - inv_min_u64(wall_ms, since_ms);
}

inv_result inv_time_tick(inv_store *store, inv_lane *lane, uint64_t now,
                         uint64_t downtime_pending_ms) {
    inv_run *run = inv_run_of(store, lane);
    uint64_t credit = inv_wal_record_bytes(INV_WAL_CHANGES_PREFIX_BYTES + INV_EFFECT_HEADER_BYTES +
                                           INV_EFFECT_TICK_BYTES + 8);
    inv_result result =
        run == NULL ? INV_NO_MEMORY : inv_wal_credit_take(&store->wal, credit, INV_WAL_FREEING);
    if (result != INV_OK) return result;
    inv_effect_tick tick = {.wall_unix_ms = wall_at(store, now, downtime_pending_ms),
                            .downtime_pending_ms = downtime_pending_ms};
    decide_forgetting(store, now, &tick);
    uint8_t blob[INV_EFFECT_TICK_BYTES];
    inv_effect_encode_tick(blob, &tick);
    inv_effect effect = {.kind = INV_ENTRY_CLOCK_TICK,
                         .reason = INV_NUMBER_NONE,
                         .reference = INV_NUMBER_NONE,
                         .blob = {(const char *)blob, sizeof blob}};
    inv_run_reset(run, store, lane);
    run->time_ms = now;
    (void)inv_run_encode(run, &effect);
    uint64_t end = inv_run_finish(run);
    inv_wal_credit_give(&store->wal, credit);
    store->tick_last = tick;
    store->tick_last_ms = now;
    store->tick_last_tail = end;
    atomic_store_explicit(&store->wall_offset_ms, tick.wall_unix_ms - now - downtime_pending_ms,
                          memory_order_relaxed);
    /* Whoever finds an id unknown from here on has observed this tick. */
    atomic_store_explicit(&store->ids_lsn, end, memory_order_release);
    atomic_store_explicit(&store->window_start_ms, tick.stale_before_ms, memory_order_release);
    inv_mark_ended(store, end, now);
    inv_forget(store, tick.window_start_ms, tick.forgotten_lsn);
    return INV_OK;
}

/* ---- expiry ---------------------------------------------------------------------------------- */

/* Takes due holds of a locked stripe until the record is full; returns how many. */
static uint32_t take_due(inv_run *run, uint32_t home, uint64_t now, uint32_t most, bool *out_more) {
    inv_store *store = run->store;
    inv_stripe *stripe = &store->stripes[home];
    uint32_t count = 0, lines = 0, work = WHEEL_WORK;
    uint64_t bytes = 0;
    *out_more = true;
    while (count < most && lines < INV_EXPIRE_LINE_MAX && bytes < store->record_bytes_max / 2) {
        inv_ref ref = inv_wheel_take(stripe->wheel, &store->pool, now, &work);
        if (ref == 0) {
            *out_more = work == 0;
            break;
        }
        const inv_hold *hold = inv_hold_at(&store->holds, ref);
        INV_ASSERT(hold->state == INV_STATE_HELD && hold->deadline_ms <= now);
        run->expired[count++] = ref;
        lines += hold->line_count;
        bytes += INV_EFFECT_HEADER_BYTES + 68 + 12ull * hold->line_count;
        if (hold->line_count > INV_EXPIRE_LINE_MAX / 8) break; /* a large one is the last */
    }
    return count;
}

static void want_lines(inv_run *run, uint32_t count) {
    inv_store *store = run->store;
    for (uint32_t i = 0; i < count; i++) {
        inv_hold_line inline_line;
        const inv_hold *hold = inv_hold_at(&store->holds, run->expired[i]);
        const inv_hold_line *lines = inv_hold_lines(&store->holds, hold, &inline_line);
        for (uint32_t k = 0; k < hold->line_count; k++)
            if (lines[k].held > 0) inv_run_want_stripe(run, inv_sku_stripe(store, lines[k].sku));
    }
}

static void expire_one(inv_run *run, inv_ref ref) {
    inv_store *store = run->store;
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    inv_hold_line inline_line, *lines = inv_hold_lines(&store->holds, hold, &inline_line);
    uint32_t count = 0;
    for (uint32_t i = 0; i < hold->line_count; i++) {
        if (lines[i].held == 0) continue;
        run->changes[count++] = (inv_change_line){.sku = lines[i].sku,
                                                  .qty = lines[i].held,
                                                  .location = lines[i].location,
                                                  .op = INV_OP_EXPIRE,
                                                  .flags = lines[i].flags & INV_LINE_FREE};
    }
    inv_effect effect = {.kind = INV_ENTRY_EXPIRE,
                         .line_count = (uint16_t)count,
                         .seller = hold->seller,
                         .account = hold->account,
                         .body_hash = hold->body_hash,
                         .reason = INV_NUMBER_NONE,
                         .reference = INV_NUMBER_NONE,
                         .lines = run->changes};
    effect.id.present = true;
    effect.id.text = inv_hold_text(&store->holds, hold);
    memcpy(effect.id.uuid, hold->id, 16);
    if (inv_wal_record_bytes(run->payload_bytes + inv_effect_bytes(&effect)) >
        store->record_bytes_max)
        inv_run_emit(run);
    inv_result result = inv_apply_rows(store, run, &effect);
    INV_ASSERT(result == INV_OK);
    inv_run_touch(run, inv_hold_stripe(&store->holds, ref));
    result = inv_apply_hold(store, &effect, ref, run->time_ms);
    INV_ASSERT(result == INV_OK);
    effect.state = hold->state;
    run->patches[run->patch_count++] = (inv_patch){ref, (uint32_t)inv_run_encode(run, &effect)};
}

/* One lock hold of expiry in a stripe. INV_BUSY: the log is behind; INV_DISK_FULL; time waits. */
static inv_result expire_some(inv_store *store, inv_run *run, uint32_t home, uint64_t now,
                              uint32_t most, uint32_t *out_count, bool *out_more) {
    uint64_t credit = 2 * store->record_bytes_max + 128;
    inv_result result = inv_wal_credit_take(&store->wal, credit, INV_WAL_FREEING);
    *out_count = 0;
    *out_more = true;
    if (result != INV_OK) return result;
    inv_run_reset(run, store, run->lane);
    inv_run_want_stripe(run, home);
    inv_run_lock(run);
    uint32_t count = 0;
    if (store->stripes[home].wheel != NULL) {
        count = take_due(run, home, now, most, out_more);
        want_lines(run, count);
        inv_run_lock_more(run, 1);
        run->time_ms = now; /* of the expiry: at or after every deadline in it */
        for (uint32_t i = 0; i < count; i++) expire_one(run, run->expired[i]);
        atomic_store_explicit(&store->next_due[home],
                              inv_wheel_next(store->stripes[home].wheel, &store->pool),
                              memory_order_release);
    } else {
        *out_more = false;
    }
    (void)inv_run_finish(run);
    inv_wal_credit_give(&store->wal, credit);
    inv_lane_count(run->lane, INV_COUNT_EXPIRED, count);
    *out_count = count;
    return INV_OK;
}

/* *out_more: the downtime is due, but the log had no room for it. */
static uint64_t announce(inv_store *store, inv_lane *lane, bool *out_more) {
    inv_drift_look(store);
    uint64_t now = inv_time_clock_ms(store);
    if (store->downtime_pending_ms > 0 && now >= store->grace_until_ms) {
        /* The step is in the log before anybody sees it: no later record may carry the new time
         * while the last tick still says that the downtime is pending. Without credit it waits. */
        uint64_t stepped = now + store->downtime_pending_ms;
        inv_result result =
            store->options.read_only ? INV_OK : inv_time_tick(store, lane, stepped, 0);
        if (result == INV_BUSY) *out_more = true;
        if (result == INV_OK) {
            store->anchor_engine_ms += store->downtime_pending_ms;
            store->downtime_pending_ms = 0;
            now = stepped;
        }
    }
    /* While the disk is too full even for a tick, time waits: a crash must not take back more of it
     * than what may lie between two ticks. */
    if (inv_wal_disk_state(&store->wal) == INV_DISK_READ_ONLY)
        now = inv_min_u64(now, store->tick_last_ms + INV_TICK_MS);
    now = inv_max_u64(now, atomic_load_explicit(&store->now_ms, memory_order_relaxed));
    atomic_store_explicit(&store->now_ms, now, memory_order_release);
    return now;
}

/* Expires at most `most` holds, stripe by stripe, going on behind where the last call stopped. One
 * stripe gets no more than its share of a call, so that a crowd that dies at once on one SKU delays
 * the time of its own stripe only. */
static inv_result sweep(inv_store *store, inv_lane *lane, uint64_t now, uint32_t most,
                        bool *out_more) {
    inv_run *run = inv_run_of(store, lane);
    if (run == NULL) return INV_NO_MEMORY;
    run->lane = lane;
    uint32_t mask = store->stripe_count - 1, first = store->sweep_stripe;
    for (uint32_t i = 0; i < store->stripe_count; i++) {
        uint32_t stripe = (first + i) & mask;
        uint32_t share = most < SWEEP_SHARE ? most : SWEEP_SHARE;
        bool more = true;
        if (INV_LIKELY(atomic_load_explicit(&store->next_due[stripe], memory_order_acquire) > now))
            continue;
        while (more && share > 0) {
            uint32_t count;
            inv_result result = expire_some(
                store, run, stripe, now, share < INV_EXPIRE_HOLD_MAX ? share : INV_EXPIRE_HOLD_MAX,
                &count, &more);
            if (result != INV_OK) {
                *out_more = true;
                return result;
            }
            share -= count;
            most -= count;
            if (more && inv_lock_has_sleeper(&store->stripes[stripe].lock)) inv_cpu_yield();
        }
        if (more) *out_more = true;
        if (most == 0) {
            store->sweep_stripe = (stripe + 1) & mask;
            *out_more = true;
            return INV_OK;
        }
    }
    return INV_OK;
}

inv_result inv_store_advance(inv_store *store, uint32_t expire_count_max, bool *out_more) {
    inv_lane *lane;
    inv_result result;
    *out_more = false;
    if (!inv_store_enter(store, &lane, &result)) return result;
    inv_lock_take(&store->time_lock);
    uint64_t now = announce(store, lane, out_more);
    result = sweep(store, lane, now, expire_count_max, out_more);
    bool active =
        atomic_load_explicit(&store->wal.tail, memory_order_relaxed) != store->tick_last_tail ||
        store->downtime_pending_ms > 0;
    uint64_t apart_ms = store->forget_behind ? FORGET_TICK_MS : INV_TICK_MS;
    bool due = now >= store->tick_last_ms + apart_ms && (active || !store->wal.in_memory);
    if (result == INV_OK && !store->options.read_only && (due || must_forget(store)))
        result = inv_time_tick(store, lane, now, store->downtime_pending_ms);
    inv_lock_give(&store->time_lock);
    inv_lane_give(lane);
    if (result == INV_BUSY) {
        *out_more = true;
        return INV_OK;
    }
    return result;
}
