/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_judge_reserve.c: reserve, all or nothing over any rows. The plan is made before the id is
 * looked for, so that the index shard is held only from finding the id absent to inserting it.
 */
#include "inv_judge.h"

static int64_t promisable_at(const inv_run *run, const inv_job *job, const inv_job_line *line,
                             inv_row row) {
    uint32_t safety =
        job->command->use_safety_stock
            ? 0
            : inv_table_safety_stock(&inv_judge_stripe(run, line->stripe)->table, line->place, row);
    return inv_stock_promisable(row, safety);
}

/* Units the located lines of this cart take from a row of the free line's SKU. The located lines of
 * the same SKU stand right before the free one, sorted by location. */
static int64_t taken_at(const inv_job *job, uint32_t line, uint32_t location) {
    for (uint32_t i = line; i-- > 0;) {
        const inv_job_line *other = &job->lines[i];
        if (other->stripe != job->lines[line].stripe || other->place != job->lines[line].place)
            break;
        if (other->location == location) return other->qty;
    }
    return 0;
}

/* What is there for a line, the located lines of the cart served first. */
static int64_t available_for(const inv_run *run, const inv_job *job, uint32_t index) {
    const inv_job_line *line = &job->lines[index];
    if (line->place == INV_NUMBER_NONE || line->location == INV_LOCATION_UNKNOWN) return 0;
    const inv_table *table = &inv_judge_stripe(run, line->stripe)->table;
    if (line->location != INV_LOCATION_NONE) {
        const inv_row *row = inv_table_row(table, line->place, line->location);
        return row == NULL ? 0 : promisable_at(run, job, line, inv_row_load(row));
    }
    uint32_t count;
    int64_t sum = 0;
    const inv_row *rows = inv_table_rows_of(table, line->place, &count);
    for (uint32_t i = 0; i < count; i++) {
        inv_row row = inv_row_load(&rows[i]);
        int64_t left = promisable_at(run, job, line, row) - taken_at(job, index, row.location);
        if (left > 0) sum += left;
    }
    return sum;
}

static void place_at(inv_run *run, uint32_t *count, const inv_job_line *line, uint16_t location,
                     uint32_t qty, uint8_t flags) {
    inv_change_line *change = &run->changes[*count];
    change->sku = line->number;
    change->qty = qty;
    change->location = location;
    change->op = INV_OP_HOLD;
    change->flags = flags;
    run->change_index[(*count)++] = line->line_index;
}

/* May one more line be placed? Locations added since the credit was taken may need more of it. */
static int room_for_change(inv_run *run, const inv_job *job, uint32_t count) {
    if (count == INV_LINE_COUNT_MAX) return INV_LIMIT_EXCEEDED;
    if (count < job->change_max) return INV_OK;
    run->need_change_max = 2 * job->change_max + 8;
    return INV_NEED_STRIPES;
}

/* Places every line: `priority` takes a free line's units from its rows in order of first use of
 * the location, splitting as needed. INV_OK, INV_INSUFFICIENT, INV_LIMIT_EXCEEDED or
 * INV_NEED_STRIPES. */
static int plan(inv_run *run, inv_job *job, uint32_t *out_count) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < job->line_count; i++) {
        const inv_job_line *line = &job->lines[i];
        if (available_for(run, job, i) < line->qty) return INV_INSUFFICIENT;
        if (line->location != INV_LOCATION_NONE) {
            int room = room_for_change(run, job, count);
            if (room != INV_OK) return room;
            place_at(run, &count, line, (uint16_t)line->location, line->qty, 0);
            continue;
        }
        uint32_t row_count, left = line->qty;
        const inv_row *rows =
            inv_table_rows_of(&inv_judge_stripe(run, line->stripe)->table, line->place, &row_count);
        for (uint32_t r = 0; r < row_count && left > 0; r++) {
            inv_row row = inv_row_load(&rows[r]);
            int64_t there = promisable_at(run, job, line, row) - taken_at(job, i, row.location);
            if (there <= 0) continue;
            int room = room_for_change(run, job, count);
            if (room != INV_OK) return room;
            uint32_t take = there < left ? (uint32_t)there : left;
            place_at(run, &count, line, row.location, take, INV_LINE_FREE);
            left -= take;
        }
        INV_ASSERT(left == 0);
    }
    *out_count = count;
    return INV_OK;
}

/* Placed lines in the order of the request, as users expect to read them. */
static void order_changes(inv_run *run, uint32_t count) {
    for (uint32_t gap = count / 2; gap > 0; gap /= 2)
        for (uint32_t i = gap; i < count; i++) {
            inv_change_line change = run->changes[i];
            uint32_t index = run->change_index[i], at = i;
            for (; at >= gap && (run->change_index[at - gap] > index ||
                                 (run->change_index[at - gap] == index &&
                                  run->changes[at - gap].location > change.location));
                 at -= gap) {
                run->changes[at] = run->changes[at - gap];
                run->change_index[at] = run->change_index[at - gap];
            }
            run->changes[at] = change;
            run->change_index[at] = index;
        }
}

static uint64_t hold_lines_sum(const inv_store *store, const inv_hold *hold) {
    inv_hold_line inline_line, *lines = inv_hold_lines(&store->holds, hold, &inline_line);
    uint64_t sum = 0;
    for (uint32_t i = 0; lines != NULL && i < hold->line_count; i++)
        sum += inv_line_sum(
            lines[i].sku, (lines[i].flags & INV_LINE_FREE) ? INV_LOCATION_NONE : lines[i].location,
            lines[i].qty);
    return sum;
}

/* The same id again: the first answer, or which fields differ. */
static int replay_reserve(inv_run *run, inv_job *job, inv_ref ref, uint64_t lines,
                          bool comparable) {
    const inv_hold *hold = inv_hold_at(&run->store->holds, ref);
    inv_fill_reservation(run->store, ref, job->reply);
    inv_note_seen(run, job, ref);
    if (hold->kind & INV_HOLD_NO_BODY) return INV_ALREADY_RELEASED;
    if (comparable && hold->body_hash == job->body_hash) return INV_REPLAYED;
    if (hold->state == INV_STATE_HELD || hold->state == INV_STATE_ALLOCATED) {
        bool same_lines = comparable && lines == hold_lines_sum(run->store, hold);
        if (!same_lines) job->reply->mismatch |= INV_FIELD_LINES;
        if (job->account != hold->account) job->reply->mismatch |= INV_FIELD_ACCOUNT;
        /* Nothing else is in a body of this release but the ttl and whether safety stock is used.
         */
        if (job->reply->mismatch == 0) job->reply->mismatch = INV_FIELD_TTL_MS;
    } else {
        job->reply->mismatch = INV_FIELD_BODY;
    }
    return INV_IDEMPOTENCY_MISMATCH;
}

bool inv_id_is_stale(const inv_store *store, const inv_hold_key *key) {
    if (key->text.bytes != NULL || key->uuid[6] >> 4 != 7) return false;
    uint64_t wall_ms = 0;
    for (uint32_t i = 0; i < 6; i++) wall_ms = wall_ms << 8 | key->uuid[i];
    uint64_t offset =
        atomic_load_explicit(&((inv_store *)store)->wall_offset_ms, memory_order_relaxed);
    uint64_t engine_ms = wall_ms - offset;
    return wall_ms >= store->identity.created_unix_ms && (int64_t)engine_ms >= 0 &&
           engine_ms <
               atomic_load_explicit(&((inv_store *)store)->window_start_ms, memory_order_acquire);
}

static int refuse_short(inv_run *run, inv_job *job) {
    job->reply->line_count = 0;
    for (uint32_t i = 0; i < job->line_count; i++) {
        int64_t there = available_for(run, job, i);
        if (there < job->lines[i].qty) inv_add_short_line(run, job, &job->lines[i], there);
    }
    if (INV_PLANTED(INV_PLANT_REFUSAL_NO_WAIT)) job->reply->observed_lsn = 0;
    return INV_INSUFFICIENT;
}

/* Home, lowest and highest time of the stripes of a job's lines. */
static uint32_t home_and_times(const inv_run *run, const inv_job *job, uint64_t *out_low,
                               uint64_t *out_high) {
    uint32_t home = INV_NUMBER_NONE;
    *out_low = UINT64_MAX;
    *out_high = 0;
    for (uint32_t i = 0; i < job->line_count; i++) {
        uint32_t stripe = job->lines[i].stripe;
        uint64_t time = inv_stripe_time(run->store, stripe, run->now_ms);
        *out_low = inv_min_u64(*out_low, time);
        *out_high = inv_max_u64(*out_high, time);
        if (stripe < home) home = stripe;
    }
    return home;
}

/* Takes what a new reservation needs, the shard locked; names are interned already (the names lock
 * ranks before a shard). The hold is in the index, not yet filled. */
static inv_result open_hold(inv_run *run, inv_job *job, uint32_t home, uint32_t line_count,
                            inv_hold_shard *shard, inv_ref *out_ref) {
    inv_store *store = run->store;
    inv_result result = inv_holds_reserve_locked(&store->holds, shard);
    if (result == INV_OK) result = inv_apply_reserve_wheel(store, home);
    if (result != INV_OK) return result;
    *out_ref = inv_apply_create_locked(store, &job->id, home, shard);
    if (*out_ref == 0) return INV_NO_MEMORY;
    if (line_count == 1) return INV_OK;
    result = inv_hold_make_block(&store->holds, inv_hold_at(&store->holds, *out_ref), line_count);
    if (result == INV_OK) return INV_OK;
    inv_holds_remove_locked(&store->holds, shard, job->id.hash, *out_ref);
    inv_hold_destroy(&store->holds, &store->stripes[home].home, *out_ref);
    return result;
}

/* The time a deadline counts from: the highest of the job's stripes, read once all of them are odd,
 * so that no reader has seen a later time there than the one this decision is made at. */
static uint64_t touch_and_look(inv_run *run, const inv_job *job) {
    uint64_t high = 0;
    for (uint32_t i = 0; i < job->line_count; i++) inv_run_touch(run, job->lines[i].stripe);
    uint64_t now = atomic_load_explicit(&run->store->now_ms, memory_order_acquire);
    for (uint32_t i = 0; i < job->line_count; i++)
        high = inv_max_u64(high, inv_stripe_time(run->store, job->lines[i].stripe, now));
    return high;
}

static void answer_reserved(inv_run *run, inv_job *job, inv_ref ref, uint32_t count) {
    inv_reply *reply = job->reply;
    inv_fill_reservation(run->store, ref, reply);
    for (uint32_t i = 0; i < count && i < reply->lines_max; i++)
        reply->lines[i].line_index = run->change_index[i];
}

int inv_judge_reserve(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    uint64_t lines = 0, low, high;
    uint32_t count = 0, reference = INV_NUMBER_NONE;
    bool comparable = job->account != INV_NUMBER_NONE;
    for (uint32_t i = 0; i < job->line_count; i++) inv_resolve_line(run, job, &job->lines[i]);
    if (job->line_count > 1 && !inv_merge_lines(job)) return INV_BAD_REQUEST;
    for (uint32_t i = 0; i < job->line_count; i++) {
        const inv_job_line *line = &job->lines[i];
        if (line->place == INV_NUMBER_NONE || line->location == INV_LOCATION_UNKNOWN)
            comparable = false;
        lines += inv_line_sum(line->number, line->location, line->qty);
    }
    uint32_t home = home_and_times(run, job, &low, &high);
    job->reply->now_unix_ms = low;
    job->body_lines = lines;
    job->body_extra = job->command->use_safety_stock;
    inv_hash_body(job);
    int code = inv_too_far_apart(run, job, high);
    if (code != INV_OK) return code;
    code = plan(run, job, &count);
    if (code == INV_NEED_STRIPES) return code;

    inv_hold_shard *shard = inv_holds_shard(&store->holds, job->id.hash);
    inv_lock_take(&shard->lock);
    inv_ref ref = inv_holds_find_locked(&store->holds, shard, &job->id);
    if (ref != 0) {
        uint32_t stripe = inv_hold_stripe(&store->holds, ref);
        inv_lock_give(&shard->lock);
        if (!inv_run_has(run, stripe)) return inv_need_stripe(run, stripe);
        return replay_reserve(run, job, ref, lines, comparable);
    }
    if (inv_id_is_stale(store, &job->id)) code = INV_STALE_ID;
    bool keep = code == INV_OK && !inv_must_intern(job);
    if (!keep) inv_lock_give(&shard->lock);
    if (code != INV_OK) {
        if (code == INV_LIMIT_EXCEEDED) {
            job->reply->field = "lines";
            job->reply->limit = INV_LINE_COUNT_MAX;
        }
        return code == INV_INSUFFICIENT ? refuse_short(run, job) : code;
    }
    inv_result result = INV_OK;
    bool raced = false;
    if (!keep) {
        result = inv_intern_all(run, job, &reference);
        if (result != INV_OK) return result;
        job->id.seller = job->seller;
        inv_lock_take(&shard->lock);
        /* The same id may have come in through another stripe meanwhile. */
        raced = inv_holds_find_locked(&store->holds, shard, &job->id) != 0;
    }
    if (!raced) result = open_hold(run, job, home, count, shard, &ref);
    inv_lock_give(&shard->lock);
    if (raced) return INV_NEED_STRIPES;
    if (result != INV_OK) return result;

    if (count > 1) order_changes(run, count);
    inv_hash_body(job);
    uint64_t deadline = touch_and_look(run, job) + job->ttl_ms - run->time_ms;
    INV_ASSERT(deadline > 0 && deadline <= UINT32_MAX);
    inv_effect effect = {.kind = INV_ENTRY_RESERVE,
                         .state = INV_STATE_HELD,
                         .line_count = (uint16_t)count,
                         .seller = (uint16_t)job->seller,
                         .account = job->account,
                         .body_hash = job->body_hash,
                         .deadline_ms = (uint32_t)deadline,
                         .reason = job->reason,
                         .reference = reference,
                         .lines = run->changes};
    inv_effect_id_of(&effect.id, &job->id);
    result = inv_apply_rows(store, run, &effect);
    INV_ASSERT(result == INV_OK);
    result = inv_apply_hold(store, &effect, ref, run->time_ms);
    INV_ASSERT(result == INV_OK);
    inv_write_entry(run, job, &effect, ref, 0);
    answer_reserved(run, job, ref, count);
    return INV_OK;
}
