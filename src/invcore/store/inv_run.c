/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_run.c: a run of up to 32 commands becomes at most one record.
 *
 *   prepare (form, keys)        no lock
 *   credit                      the only step that may fail for want of disk
 *   lock stripes, ascending     stripe times and the record's time are read here
 *   judge each: decide, apply, encode aside
 *   claim the log range         from here on the change has its place
 *   publish: lsn_touched, sequences even, names; unlock
 *   copy the record, floor idle
 *
 * A command that turns out to need a stripe the run does not hold (a replay homed elsewhere, a cart
 * by id) ends the run before it; it is then run alone, with what it asked for, until it has all it
 * needs.
 */
#include "inv_store.h"

inv_run *inv_run_of(inv_store *store, inv_lane *lane) {
    if (INV_UNLIKELY(lane->scratch == NULL))
        lane->scratch = inv_env_alloc(store->env, sizeof(inv_run));
    return lane->scratch;
}

void inv_run_reset(inv_run *run, inv_store *store, inv_lane *lane) {
    run->store = store;
    run->lane = lane;
    run->job_count = run->line_used = 0;
    run->bytes = run->digest = 0;
    run->payload_bytes = INV_WAL_CHANGES_PREFIX_BYTES;
    run->stripe_count = run->touched_count = run->pending_count = run->patch_count = 0;
    run->names_locked = run->alone = false;
    run->need_change_max = 0;
}

void inv_run_want_stripe(inv_run *run, uint32_t stripe) {
    uint64_t bit = 1ull << (stripe % 64);
    if (run->locked_bits[stripe / 64] & bit) return;
    run->locked_bits[stripe / 64] |= bit;
    run->stripes[run->stripe_count++] = (uint16_t)stripe;
}

/* Ascending, by insertion for a few and by scanning the bits for many. */
static void sort_stripes(inv_run *run) {
    if (INV_PLANTED(INV_PLANT_UNSORTED_LOCKS)) return;
    if (run->stripe_count > 8) {
        uint32_t count = 0;
        for (uint32_t word = 0; word < INV_STRIPE_COUNT_MAX / 64; word++)
            for (uint64_t bits = run->locked_bits[word]; bits != 0; bits &= bits - 1)
                run->stripes[count++] = (uint16_t)(word * 64 + (uint32_t)__builtin_ctzll(bits));
        INV_ASSERT(count == run->stripe_count);
        return;
    }
    for (uint32_t i = 1; i < run->stripe_count; i++) {
        uint16_t stripe = run->stripes[i];
        uint32_t at = i;
        for (; at > 0 && run->stripes[at - 1] > stripe; at--)
            run->stripes[at] = run->stripes[at - 1];
        run->stripes[at] = stripe;
    }
}

void inv_run_lock(inv_run *run) {
    inv_store *store = run->store;
    sort_stripes(run);
    if (!INV_PLANTED(INV_PLANT_NO_STRIPE_LOCK))
        for (uint32_t i = 0; i < run->stripe_count; i++) {
            inv_lock_take(&store->stripes[run->stripes[i]].lock);
            INV_YIELD(store->env, INV_YIELD_IN_LOCKING);
        }
    run->now_ms = atomic_load_explicit(&store->now_ms, memory_order_acquire);
    run->time_ms = run->now_ms;
    for (uint32_t i = 0; i < run->stripe_count; i++)
        run->time_ms =
            inv_min_u64(run->time_ms, inv_stripe_time(store, run->stripes[i], run->now_ms));
}

/* Takes stripes asked for after the first `from` were locked; all of them are higher. */
void inv_run_lock_more(inv_run *run, uint32_t from) {
    for (uint32_t i = from + 1; i < run->stripe_count; i++) {
        uint16_t stripe = run->stripes[i];
        uint32_t at = i;
        for (; at > from && run->stripes[at - 1] > stripe; at--)
            run->stripes[at] = run->stripes[at - 1];
        run->stripes[at] = stripe;
    }
    for (uint32_t i = from; i < run->stripe_count; i++) {
        INV_ASSERT(i == 0 || run->stripes[i] > run->stripes[i - 1]);
        inv_lock_take(&run->store->stripes[run->stripes[i]].lock);
    }
}

static void unlock(inv_run *run) {
    for (uint32_t i = 0; i < run->stripe_count; i++) {
        uint32_t stripe = run->stripes[i];
        run->locked_bits[stripe / 64] = 0;
        if (!INV_PLANTED(INV_PLANT_NO_STRIPE_LOCK))
            inv_lock_give(&run->store->stripes[stripe].lock);
    }
    run->stripe_count = 0;
}

void inv_run_touch(inv_run *run, uint32_t stripe_index) {
    uint64_t bit = 1ull << (stripe_index % 64);
    if (run->touched_bits[stripe_index / 64] & bit) return;
    INV_ASSERT(inv_run_has(run, stripe_index));
    run->touched_bits[stripe_index / 64] |= bit;
    run->touched[run->touched_count++] = (uint16_t)stripe_index;
    inv_stripe *stripe = &run->store->stripes[stripe_index];
    uint32_t sequence = atomic_load_explicit(&stripe->sequence, memory_order_relaxed);
    run->digest -= stripe->digest;
    if (INV_PLANTED(INV_PLANT_CART_IN_PIECES)) return;
    /* odd: readers wait. The data stores that follow are releases, so none is seen before this. */
    atomic_store_explicit(&stripe->sequence, sequence + 1, memory_order_relaxed);
}

uint64_t inv_run_encode(inv_run *run, const inv_effect *effect) {
    INV_ASSERT(run->payload_bytes + inv_effect_bytes(effect) <= INV_RECORD_BYTES_MAX);
    run->payload_bytes += inv_effect_encode(run->payload + run->payload_bytes, effect);
    return run->payload_bytes;
}

/* An answer that shows a hold which an earlier command of this run changed: its lsn is that
 * change's. */
static void patch_seen(const inv_run *run, const inv_job *job, uint64_t payload_lsn) {
    for (uint32_t i = 0; i < job->seen_patches; i++)
        if (run->patches[i].ref == job->seen)
            job->reply->lsn = payload_lsn + run->patches[i].end_offset;
}

/* Now that the lsn is known: into holds and replies. */
static void patch_lsns(inv_run *run, uint64_t payload_lsn, uint64_t end) {
    inv_store *store = run->store;
    for (uint32_t i = 0; i < run->patch_count; i++)
        inv_hold_at(&store->holds, run->patches[i].ref)->lsn =
            payload_lsn + run->patches[i].end_offset;
    for (uint32_t i = 0; i < run->job_count; i++) {
        inv_job *job = &run->jobs[i];
        if (job->end_offset != 0) {
            job->reply->lsn = payload_lsn + job->end_offset;
            job->reply->level.lsn = job->reply->lsn;
        }
        if (job->end_offset == 0 && job->seen != 0) patch_seen(run, job, payload_lsn);
        /* A refusal may have seen what an earlier command of the run changed. */
        if (!job->done) job->reply->observed_lsn = end;
    }
}

/* What the record adds to the digest of all. */
static uint64_t take_digest(inv_run *run) {
    uint64_t now = 0, before = run->digest;
    for (uint32_t i = 0; i < run->touched_count; i++)
        now += run->store->stripes[run->touched[i]].digest;
    run->digest = 0 - now;
    return now + before;
}

/* Claims the range of the record in the payload; *out_end: where it ends. */
static uint64_t claim(inv_run *run, uint64_t *out_end) {
    inv_put_u64(run->payload, run->time_ms);
    inv_put_u64(run->payload + 8, take_digest(run));
    uint64_t start = inv_wal_claim(&run->store->wal, run->lane, run->payload_bytes);
    *out_end = start + inv_wal_record_bytes(run->payload_bytes);
    patch_lsns(run, start + INV_WAL_RECORD_HEADER_BYTES, *out_end);
    return start;
}

void inv_run_emit(inv_run *run) {
    uint64_t end, start = claim(run, &end);
    inv_wal_copy(&run->store->wal, run->lane, start, run->payload, (uint32_t)run->payload_bytes);
    run->payload_bytes = INV_WAL_CHANGES_PREFIX_BYTES;
    run->patch_count = 0;
}

uint64_t inv_run_finish(inv_run *run) {
    inv_store *store = run->store;
    uint64_t start = 0, end = 0;
    bool wrote = run->payload_bytes > INV_WAL_CHANGES_PREFIX_BYTES;
    if (wrote) start = claim(run, &end);
    for (uint32_t i = 0; i < run->pending_count; i++)
        inv_names_publish(run->pending[i].names, run->pending[i].node);
    if (run->names_locked) inv_lock_give(&store->names_lock);
    run->names_locked = false;
    for (uint32_t i = 0; i < run->touched_count; i++) {
        inv_stripe *stripe = &store->stripes[run->touched[i]];
        uint32_t sequence = atomic_load_explicit(&stripe->sequence, memory_order_relaxed);
        run->touched_bits[run->touched[i] / 64] = 0;
        INV_ASSERT((sequence & 1) != 0 || INV_PLANTED(INV_PLANT_NO_STRIPE_LOCK) ||
                   INV_PLANTED(INV_PLANT_CART_IN_PIECES));
        if (wrote) atomic_store_explicit(&stripe->lsn_touched, end, memory_order_release);
        if (INV_PLANTED(INV_PLANT_CART_IN_PIECES)) continue;
        /* release: a reader that sees it even sees all of the change */
        atomic_store_explicit(&stripe->sequence, sequence + 1, memory_order_release);
    }
    run->touched_count = 0;
    unlock(run);
    if (wrote)
        inv_wal_copy(&store->wal, run->lane, start, run->payload, (uint32_t)run->payload_bytes);
    return end;
}

inv_result inv_run_note(inv_store *store, inv_lane *lane, uint8_t kind, const void *blob,
                        uint32_t blob_bytes, uint64_t *out_lsn) {
    inv_run *run = inv_run_of(store, lane);
    inv_effect effect = {.kind = kind,
                         .reason = INV_NUMBER_NONE,
                         .reference = INV_NUMBER_NONE,
                         .blob = {blob, blob_bytes}};
    uint64_t credit =
        inv_wal_record_bytes(INV_WAL_CHANGES_PREFIX_BYTES + inv_effect_bytes(&effect));
    inv_result result =
        run == NULL ? INV_NO_MEMORY : inv_wal_credit_take(&store->wal, credit, INV_WAL_FREEING);
    if (result != INV_OK) return result;
    inv_run_reset(run, store, lane);
    run->time_ms = atomic_load_explicit(&store->now_ms, memory_order_relaxed);
    (void)inv_run_encode(run, &effect);
    *out_lsn = inv_run_finish(run);
    inv_wal_credit_give(&store->wal, credit);
    return INV_OK;
}

/* ---- executing ------------------------------------------------------------------------------- */

static void refuse(inv_reply *reply, inv_result result) {
    reply->code = result;
    reply->line_count = 0;
    reply->observed_lsn = 0;
}

/* Prepares commands from `at` on until the run is full; returns how many commands it covers. On a
 * full disk those that are refused and those that are not are in runs of their own. */
static size_t gather(inv_run *run, const inv_command *commands, size_t count, inv_reply *replies) {
    inv_store *store = run->store;
    size_t covered = 0;
    bool apart = inv_wal_disk_state(&store->wal) != INV_DISK_OK;
    bool ordinary = inv_command_class(commands[0].kind) == INV_WAL_ORDINARY;
    while (covered < count && run->job_count < INV_RUN_COMMAND_MAX) {
        const inv_command *command = &commands[covered];
        if (apart && ordinary != (inv_command_class(command->kind) == INV_WAL_ORDINARY)) break;
        uint32_t lines = command->line_count <= INV_LINE_COUNT_MAX ? command->line_count : 0;
        if (run->line_used + lines > INV_LINE_COUNT_MAX + INV_RUN_COMMAND_MAX) break;
        inv_job *job = &run->jobs[run->job_count];
        inv_job_prepare(run, job, command, &replies[covered]);
        if (!job->done && run->job_count > 0 &&
            inv_wal_record_bytes(run->payload_bytes + run->bytes + job->bytes) >
                store->record_bytes_max) {
            run->line_used -= job->line_count;
            break;
        }
        covered++;
        if (!job->done) run->bytes += job->bytes;
        run->job_count++;
    }
    return covered;
}

/* Stripes a job is known to need before any lock. A hold's home is looked up; its lines are read
 * later. */
static void want_stripes(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    for (uint32_t i = 0; i < job->line_count; i++) inv_run_want_stripe(run, job->lines[i].stripe);
    if (!job->has_id || job->command->kind == INV_CMD_RESERVE) return;
    inv_hold_shard *shard = inv_holds_shard(&store->holds, job->id.hash);
    inv_lock_take(&shard->lock);
    inv_ref ref = inv_holds_find_locked(&store->holds, shard, &job->id);
    uint32_t home = ref == 0 ? (uint32_t)job->id.hash & (store->stripe_count - 1)
                             : inv_hold_stripe(&store->holds, ref);
    inv_lock_give(&shard->lock);
    inv_run_want_stripe(run, home);
}

/* Memory latency is the cost of a run: every command walks stripe -> SKU -> row and shard -> slot,
 * each a miss. So all commands take each step together before any lock. What is read here may be
 * stale (arrays are pinned by the lane, references by the pool): it only says what to fetch. */
static void prefetch_run(const inv_run *run) {
    const inv_store *store = run->store;
    for (uint32_t i = 0; i < run->line_used; i++) {
        const char *stripe = (const char *)&store->stripes[run->lines[i].stripe];
        for (size_t at = 0; at < sizeof(inv_stripe); at += INV_CACHE_LINE)
            INV_PREFETCH(stripe + at);
        INV_PREFETCH(&store->next_due[run->lines[i].stripe]);
    }
    for (uint32_t i = 0; i < run->job_count; i++)
        if (run->jobs[i].has_id) INV_PREFETCH(inv_holds_shard(&store->holds, run->jobs[i].id.hash));
    for (uint32_t i = 0; i < run->line_used; i++) {
        const inv_job_line *line = &run->lines[i];
        const inv_stripe *stripe = &store->stripes[line->stripe];
        if (line->sku.bytes == NULL)
            inv_table_prefetch_sku(&stripe->table, inv_sku_place(store, line->number));
        else
            inv_table_prefetch_name(&stripe->table, line->hash);
        inv_hold_prefetch_room(&store->holds, &stripe->home);
        inv_wheel_prefetch(__atomic_load_n(&stripe->wheel, __ATOMIC_RELAXED));
    }
    for (uint32_t i = 0; i < run->job_count; i++)
        if (run->jobs[i].has_id) inv_holds_prefetch(&store->holds, run->jobs[i].id.hash);
    for (uint32_t i = 0; i < run->job_count; i++)
        if (run->jobs[i].has_id && run->jobs[i].command->kind != INV_CMD_RESERVE)
            inv_holds_prefetch_hold(&run->store->holds, run->jobs[i].id.hash);
    for (uint32_t i = 0; i < run->line_used; i++) {
        const inv_job_line *line = &run->lines[i];
        const inv_stripe *stripe = &store->stripes[line->stripe];
        if (line->sku.bytes == NULL)
            inv_table_prefetch_row(&stripe->table, inv_sku_place(store, line->number),
                                   line->location);
    }
}

/* One command has nobody to share a wait with; but what it needs of ids, holds and the wheel can
 * come while it walks to its row. */
static void prefetch_one(const inv_run *run) {
    const inv_store *store = run->store;
    const inv_job *job = &run->jobs[0];
    if (job->has_id) inv_holds_prefetch(&store->holds, job->id.hash);
    if (job->line_count == 0) return;
    const inv_stripe *stripe = &store->stripes[job->lines[0].stripe];
    INV_PREFETCH(&store->next_due[job->lines[0].stripe]);
    if (job->lines[0].sku.bytes != NULL)
        inv_table_prefetch_name(&stripe->table, job->lines[0].hash);
    if (job->command->kind != INV_CMD_RESERVE) return;
    inv_hold_prefetch_room(&store->holds, &stripe->home);
    inv_wheel_prefetch(__atomic_load_n(&stripe->wheel, __ATOMIC_RELAXED));
}

uint64_t inv_run_observed_lsn(const inv_run *run) {
    uint64_t observed = atomic_load_explicit(&run->store->ids_lsn, memory_order_acquire);
    for (uint32_t i = 0; i < run->stripe_count; i++)
        observed = inv_max_u64(
            observed, atomic_load_explicit(&run->store->stripes[run->stripes[i]].lsn_touched,
                                           memory_order_relaxed));
    return observed;
}

static void count_outcome(inv_run *run, const inv_job *job) {
    inv_lane_count(run->lane, INV_COUNT_COMMANDS, 1);
    if (job->reply->code == INV_OK && job->command->kind == INV_CMD_RESERVE)
        inv_lane_count(run->lane, INV_COUNT_RESERVED, 1);
    else if (job->reply->code == INV_REPLAYED)
        inv_lane_count(run->lane, INV_COUNT_REPLAYED, 1);
    else if (job->reply->code != INV_OK)
        inv_lane_count(run->lane, INV_COUNT_REFUSED, 1);
}

/* Judges jobs under the locks. Returns how many were judged (fewer: the next one needs more
 * stripes). */
static uint32_t judge_all(inv_run *run) {
    uint64_t observed = inv_run_observed_lsn(run);
    for (uint32_t i = 0; i < run->job_count; i++) {
        inv_job *job = &run->jobs[i];
        if (job->done) continue;
        job->reply->observed_lsn = observed;
        job->reply->now_unix_ms = run->time_ms;
        int code = inv_judge(run, job);
        if (code == INV_NEED_STRIPES) {
            run->job_count = i;
            return i;
        }
        job->reply->code = code;
        /* A tick may have let the id go since the locks were taken, if its home is not locked. */
        if (code == INV_UNKNOWN_RESERVATION || code == INV_STALE_ID)
            job->reply->observed_lsn = inv_max_u64(
                observed, atomic_load_explicit(&run->store->ids_lsn, memory_order_acquire));
    }
    return run->job_count;
}

/* That of the command with the least claim; a malformed one writes nothing. */
static inv_wal_class class_of(const inv_run *run) {
    inv_wal_class least = INV_WAL_FREEING;
    for (uint32_t i = 0; i < run->job_count; i++) {
        inv_wal_class class = inv_command_class(run->jobs[i].command->kind);
        if (!run->jobs[i].done && class < least) least = class;
    }
    return least;
}

/* On a full disk some commands are refused and others are not: one answer each, nobody waits. */
static void refuse_run(inv_run *run) {
    for (uint32_t i = 0; i < run->job_count; i++)
        if (!run->jobs[i].done) refuse(run->jobs[i].reply, INV_DISK_FULL);
}

/* One command whose stripes are found out step by step. Every round either judges it or learns
 * more: the set of stripes asked for only grows, unless the reservation itself changed meanwhile.
 */
static inv_result run_alone(inv_run *run, const inv_command *command, inv_reply *reply) {
    inv_store *store = run->store;
    uint32_t more_count = 0;
    for (;;) {
        uint32_t need = run->need_change_max;
        inv_run_reset(run, store, run->lane);
        run->alone = true;
        run->need_change_max = need;
        run->stripe_count = more_count; /* asked for in the round before; their bits are set */
        (void)gather(run, command, 1, reply);
        if (run->jobs[0].done) {
            for (uint32_t i = 0; i < run->stripe_count; i++)
                run->locked_bits[run->stripes[i] / 64] = 0;
            return INV_OK;
        }
        uint64_t credit = inv_wal_record_bytes(run->bytes + run->payload_bytes);
        inv_result result = inv_wal_credit_take(&store->wal, credit, class_of(run));
        if (result != INV_OK) {
            for (uint32_t i = 0; i < run->stripe_count; i++)
                run->locked_bits[run->stripes[i] / 64] = 0;
            if (result != INV_DISK_FULL) return result;
            refuse_run(run);
            return INV_OK;
        }
        want_stripes(run, &run->jobs[0]);
        inv_run_lock(run);
        uint32_t locked = run->stripe_count;
        if (judge_all(run) == 1) {
            (void)inv_run_finish(run);
            inv_wal_credit_give(&store->wal, credit);
            count_outcome(run, &run->jobs[0]);
            return INV_OK;
        }
        /* inv_judge has added to the set what it wants: give back the locks and keep the set. Names
         * it took before it found that it was raced are logged and published. */
        more_count = run->stripe_count;
        run->stripe_count = locked;
        (void)inv_run_finish(run);
        for (uint32_t i = 0; i < more_count; i++)
            run->locked_bits[run->stripes[i] / 64] |= 1ull << (run->stripes[i] % 64);
        inv_wal_credit_give(&store->wal, credit);
    }
}

/* Runs commands from the front; *out_done says how many have their reply. */
static inv_result run_some(inv_run *run, const inv_command *commands, size_t count,
                           inv_reply *replies, size_t *out_done) {
    inv_store *store = run->store;
    inv_run_reset(run, store, run->lane);
    size_t covered = gather(run, commands, count, replies);
    *out_done = covered;
    uint64_t credit = inv_wal_record_bytes(run->bytes + run->payload_bytes);
    if (run->bytes == 0) return INV_OK; /* every form was wrong */
    bool late = INV_PLANTED(INV_PLANT_APPLY_BEFORE_CREDIT);
    inv_result result = INV_OK;
    if (run->job_count > 1)
        prefetch_run(run);
    else
        prefetch_one(run);
    if (!late) result = inv_wal_credit_take(&store->wal, credit, class_of(run));
    if (result == INV_DISK_FULL) {
        refuse_run(run);
        return INV_OK;
    }
    if (result != INV_OK) {
        *out_done = 0;
        return result;
    }
    for (uint32_t i = 0; i < run->job_count; i++)
        if (!run->jobs[i].done) want_stripes(run, &run->jobs[i]);
    inv_run_lock(run);
    uint32_t locked = run->stripe_count;
    uint32_t judged = judge_all(run);
    uint32_t jobs = run->job_count;
    if (late && (result = inv_wal_credit_take(&store->wal, credit, INV_WAL_ORDINARY)) != INV_OK) {
        run->payload_bytes = INV_WAL_CHANGES_PREFIX_BYTES; /* the bug: applied, and no record */
        (void)inv_run_finish(run);
        *out_done = 0;
        return result;
    }
    for (uint32_t i = locked; i < run->stripe_count; i++) /* asked for by the one that was cut */
        run->locked_bits[run->stripes[i] / 64] &= ~(1ull << (run->stripes[i] % 64));
    run->stripe_count = locked;
    (void)inv_run_finish(run);
    inv_wal_credit_give(&store->wal, credit);
    for (uint32_t i = 0; i < jobs; i++)
        if (!run->jobs[i].done) count_outcome(run, &run->jobs[i]);
    if (judged < covered) {
        result = run_alone(run, &commands[judged], &replies[judged]);
        *out_done = result == INV_OK ? judged + 1 : judged;
    }
    return result;
}

static void refuse_rest(inv_reply *replies, size_t from, size_t count, inv_result result) {
    for (size_t i = from; i < count; i++) refuse(&replies[i], result);
}

inv_result inv_execute(inv_store *store, const inv_command *commands, size_t count,
                       inv_reply *replies, bool may_wait) {
    size_t done = 0;
    inv_result result = INV_OK;
    while (done < count) {
        inv_lane *lane;
        if (!inv_store_enter(store, &lane, &result)) break;
        inv_run *run = inv_run_of(store, lane);
        if (run == NULL) {
            inv_lane_give(lane);
            result = INV_NO_MEMORY;
            break;
        }
        run->lane = lane;
        run->store = store;
        while (done < count) {
            size_t some = 0;
            result = run_some(run, commands + done, count - done, replies + done, &some);
            done += some;
            if (result != INV_OK) break;
        }
        inv_lane_give(lane);
        if (result == INV_BUSY && may_wait)
            inv_wal_credit_wait(&store->wal);
        else if (result != INV_OK)
            break;
    }
    if (done == count) return INV_OK;
    refuse_rest(replies, done, count, result);
    return result == INV_STORE_CLOSED || result == INV_STORE_FAILED ? result : INV_OK;
}
