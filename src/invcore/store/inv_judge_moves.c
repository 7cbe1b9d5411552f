/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_judge_moves.c: commit, ship, release, cancel, extend: units of a reservation change their
 * state. Whole calls and parts become a list of changes, which is tried on the rows and undone if
 * one row says no; only then is anything else touched.
 */
#include "inv_judge.h"

/* Applies run->changes to the rows one after the other. With `promise` each must be covered by what
 * may be promised. Returns how many went through; the caller undoes them if that is fewer than all.
 */
static uint32_t try_rows(inv_run *run, uint32_t count, bool promise) {
    inv_store *store = run->store;
    for (uint32_t i = 0; i < count; i++) {
        const inv_change_line *change = &run->changes[i];
        uint32_t stripe = inv_sku_stripe(store, change->sku);
        uint32_t place = inv_sku_place(store, change->sku);
        inv_row *row =
            inv_table_row(&inv_judge_stripe(run, stripe)->table, place, change->location);
        INV_ASSERT(row != NULL);
        inv_row after = inv_row_load(row);
        uint32_t safety =
            inv_table_safety_stock(&inv_judge_stripe(run, stripe)->table, place, after);
        if (promise && inv_stock_promisable(after, safety) < change->qty) return i;
        if (!inv_stock_apply(&after, change->op, change->qty)) return i;
        inv_run_touch(run, stripe);
        inv_put_row(store, change->sku, row, after);
    }
    return count;
}

static void undo_rows(inv_run *run, uint32_t count) {
    inv_store *store = run->store;
    for (uint32_t i = count; i-- > 0;) {
        const inv_change_line *change = &run->changes[i];
        inv_stock_delta delta = inv_stock_deltas[change->op];
        inv_row *row =
            inv_table_row(&inv_judge_stripe(run, inv_sku_stripe(store, change->sku))->table,
                          inv_sku_place(store, change->sku), change->location);
        inv_row after = inv_row_load(row);
        after.on_hand -= (uint32_t)(delta.on_hand * (int64_t)change->qty);
        after.held -= (uint32_t)(delta.held * (int64_t)change->qty);
        after.allocated -= (uint32_t)(delta.allocated * (int64_t)change->qty);
        inv_put_row(store, change->sku, row, after);
    }
}

static void add_change(inv_run *run, uint32_t *count, const inv_hold_line *line, uint8_t op,
                       uint32_t qty) {
    INV_ASSERT(*count < INV_EFFECT_LINE_COUNT_MAX);
    inv_change_line *change = &run->changes[(*count)++];
    change->sku = line->sku;
    change->qty = qty;
    change->location = line->location;
    change->op = op;
    change->flags = line->flags & INV_LINE_FREE;
}

/* The answer of a call that finds nothing it may do, by the state it finds. */
static int wrong_order(uint8_t state) {
    switch (state) {
    case INV_STATE_ALLOCATED:
        return INV_ALREADY_COMMITTED;
    case INV_STATE_SHIPPED:
        return INV_ALREADY_SHIPPED;
    case INV_STATE_CANCELLED:
        return INV_ALREADY_CANCELLED;
    case INV_STATE_EXPIRED:
        return INV_EXPIRED;
    case INV_STATE_PREEMPTED:
        return INV_PREEMPTED;
    default:
        return INV_ALREADY_RELEASED;
    }
}

/* Whole calls: what a line gives. Sets run->changes; returns their count. */
static uint32_t whole_changes(inv_run *run, uint8_t kind, const inv_hold_line *lines,
                              uint32_t line_count) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < line_count; i++) {
        const inv_hold_line *line = &lines[i];
        if (line->held > 0)
            add_change(run, &count, line, inv_whole_op(kind, false), line->held);
        if (line->allocated > 0 && (kind == INV_CMD_SHIP || kind == INV_CMD_CANCEL))
            add_change(run, &count, line, inv_whole_op(kind, true), line->allocated);
    }
    return count;
}

/* Does a whole call find exactly its own result? */
static bool is_own_result(uint8_t kind, const inv_hold *hold, const inv_hold_line *lines) {
    switch (kind) {
    case INV_CMD_COMMIT:
        if (hold->state != INV_STATE_ALLOCATED) return false;
        if (hold->ended_by & INV_COMMITTED_WHOLE) return true;
        for (uint32_t i = 0; i < hold->line_count; i++)
            if (lines[i].allocated + lines[i].shipped != lines[i].qty) return false;
        return true;
    case INV_CMD_SHIP:
        return hold->state == INV_STATE_SHIPPED;
    case INV_CMD_RELEASE:
        return hold->state == INV_STATE_RELEASED ||
               (hold->state == INV_STATE_SHIPPED && (hold->ended_by & INV_ENDED_BY_RELEASE));
    default:
        return hold->state == INV_STATE_CANCELLED ||
               (hold->state == INV_STATE_SHIPPED && (hold->ended_by & INV_ENDED_BY_CANCEL));
    }
}

/* Takes `qty` of a requested line from one line of the hold (a working copy). */
static uint32_t take_part(uint8_t kind, inv_hold_line *line, uint32_t qty) {
    uint32_t held = 0, allocated = 0;
    if (kind == INV_CMD_SHIP) { /* committed units leave first */
        allocated = line->allocated < qty ? line->allocated : qty;
        held = line->held < qty - allocated ? line->held : qty - allocated;
    } else {
        held = line->held < qty ? line->held : qty;
        if (kind == INV_CMD_CANCEL) /* the softer promise goes first */
            allocated = line->allocated < qty - held ? line->allocated : qty - held;
    }
    line->held -= held;
    line->allocated -= allocated;
    return held + allocated;
}

/* What the working copy has less than the line, as changes: at most two a line, however many of the
 * asked lines took from it. */
static void emit_taken(inv_run *run, uint32_t *count, uint8_t kind, const inv_hold_line *line,
                       const inv_hold_line *left) {
    if (line->held > left->held)
        add_change(run, count, line, inv_whole_op(kind, false), line->held - left->held);
    if (line->allocated > left->allocated)
        add_change(run, count, line, inv_whole_op(kind, true), line->allocated - left->allocated);
}

static bool is_asked(const inv_job_line *asked, const inv_hold_line *line) {
    return line->sku == asked->number &&
           (asked->location == INV_LOCATION_NONE || asked->location == line->location);
}

/* Partial calls: equal lines are one, those with a location come first (merge_lines), each is
 * served from the lines of the reservation in their order. INV_OK with run->changes, or
 * INV_OVER_COMMIT with what remains. */
static int part_changes(inv_run *run, inv_job *job, const inv_hold *hold,
                        const inv_hold_line *lines, uint32_t *out_count) {
    uint8_t kind = job->command->kind;
    uint32_t count = 0, n = hold->line_count;
    job->reply->line_count = 0;
    memcpy(run->work, lines, n * sizeof lines[0]);
    for (uint32_t i = 0; i < job->line_count; i++) {
        inv_job_line *asked = &job->lines[i];
        uint32_t left = asked->qty;
        for (uint32_t k = 0; k < n && left > 0; k++)
            if (is_asked(asked, &run->work[k])) left -= take_part(kind, &run->work[k], left);
        if (left == 0) continue;
        inv_reply_line *out = inv_add_reply_line(job->reply);
        if (out == NULL) continue;
        out->sku = asked->number;
        out->location =
            asked->location < INV_LOCATION_NONE ? (uint16_t)asked->location : INV_LOCATION_NONE;
        out->line_index = asked->line_index;
        out->qty = asked->qty;
        out->available_to_promise = asked->qty - left;
    }
    if (job->reply->line_count > 0) return INV_OVER_COMMIT;
    for (uint32_t i = 0; i < n; i++) {
        emit_taken(run, &count, kind, &lines[i], &run->work[i]);
        if (kind == INV_CMD_COMMIT && !job->command->keep_rest && run->work[i].held > 0)
            add_change(run, &count, &lines[i], INV_OP_RELEASE, run->work[i].held);
    }
    *out_count = count;
    return INV_OK;
}

/* A partial call without an op_id that finds nothing open: its own result again? */
static bool is_own_part(const inv_job *job, const inv_hold *hold, const inv_hold_line *lines) {
    uint8_t kind = job->command->kind;
    if (lines == NULL || (kind != INV_CMD_COMMIT && kind != INV_CMD_SHIP)) return false;
    if (hold->state != (kind == INV_CMD_COMMIT ? INV_STATE_ALLOCATED : INV_STATE_SHIPPED))
        return false;
    uint64_t asked_sum = 0, there_sum = 0;
    for (uint32_t i = 0; i < job->line_count; i++)
        asked_sum += inv_line_sum(job->lines[i].number, 0, job->lines[i].qty);
    for (uint32_t i = 0; i < hold->line_count; i++)
        there_sum += inv_line_sum(lines[i].sku, 0,
                                  kind == INV_CMD_COMMIT ? lines[i].allocated : lines[i].shipped);
    return asked_sum == there_sum;
}

/* All a decision about a hold reads and writes must be locked, and paid for in the credit. */
static int need_all_of(inv_run *run, inv_job *job, const inv_hold *hold,
                       const inv_hold_line *lines) {
    bool missing = false;
    for (uint32_t i = 0; lines != NULL && i < hold->line_count; i++) {
        uint32_t stripe = inv_sku_stripe(run->store, lines[i].sku);
        if (inv_run_has(run, stripe)) continue;
        inv_run_want_stripe(run, stripe);
        missing = true;
    }
    if (job->change_max < 2u * hold->line_count) {
        run->need_change_max = 2u * hold->line_count;
        missing = true;
    }
    return missing ? INV_NEED_STRIPES : INV_OK;
}

/* Lines that kept a whole call from happening: ship without the units there, rehold of what is
 * gone. */
static int refuse_rows(inv_run *run, inv_job *job, uint32_t count, bool promise) {
    job->reply->line_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const inv_change_line *change = &run->changes[i];
        uint32_t stripe = inv_sku_stripe(run->store, change->sku);
        uint32_t place = inv_sku_place(run->store, change->sku);
        const inv_table *table = &inv_judge_stripe(run, stripe)->table;
        inv_row row = inv_row_load(inv_table_row(table, place, change->location));
        uint32_t safety = inv_table_safety_stock(table, place, row);
        int64_t there = promise ? inv_stock_promisable(row, safety) : row.on_hand;
        if (there >= change->qty && i + 1 < count) continue;
        if (there >= change->qty && job->reply->line_count > 0) continue;
        inv_job_line line = {.stripe = stripe,
                             .place = place,
                             .number = change->sku,
                             .location = change->location,
                             .qty = change->qty,
                             .line_index = i};
        inv_add_short_line(run, job, &line, there);
    }
    return INV_INSUFFICIENT;
}

/* Applies, logs and answers a change of a hold that moves no units. */
static int change_hold(inv_run *run, inv_job *job, inv_effect *effect, inv_ref ref,
                       uint32_t home) {
    inv_effect_id_of(&effect->id, &job->id);
    inv_run_touch(run, home);
    inv_result result = inv_apply_hold(run->store, effect, ref, run->time_ms);
    INV_ASSERT(result == INV_OK);
    inv_write_entry(run, job, effect, ref, 0);
    inv_fill_reservation(run->store, ref, job->reply);
    return INV_OK;
}

static int remember_unknown(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    uint32_t home = (uint32_t)job->id.hash & (store->stripe_count - 1), reference;
    if (!inv_run_has(run, home)) return inv_need_stripe(run, home);
    inv_result result = inv_intern_all(run, job, &reference);
    if (result != INV_OK) return result;
    job->id.seller = job->seller; /* part of the id, and perhaps new */
    job->id.no_body = true; /* not set later: others read a hold's kind without its stripe */
    inv_hold_shard *shard = inv_holds_shard(&store->holds, job->id.hash);
    inv_lock_take(&shard->lock);
    result = inv_holds_reserve_locked(&store->holds, shard);
    bool raced = inv_holds_find_locked(&store->holds, shard, &job->id) != 0;
    inv_ref ref = 0;
    if (result == INV_OK && !raced) ref = inv_apply_create_locked(store, &job->id, home, shard);
    inv_lock_give(&shard->lock);
    if (raced) return INV_NEED_STRIPES;
    if (result != INV_OK) return result;
    if (ref == 0) return INV_NO_MEMORY;
    inv_effect effect = {.kind = INV_ENTRY_TOMBSTONE,
                         .state = INV_STATE_RELEASED,
                         .seller = (uint16_t)job->seller,
                         .account = job->account,
                         .reason = job->reason,
                         .reference = reference};
    return change_hold(run, job, &effect, ref, home);
}

/* A hold that ends drops its lines, but the answer of the call that ended it shows them. */
static void keep_lines(inv_run *run, const inv_hold *hold) {
    if (hold->block)
        memcpy(run->work, inv_hold_lines(&run->store->holds, hold, NULL),
               hold->line_count * sizeof run->work[0]);
}

static void answer_kept_lines(inv_run *run, inv_job *job, const inv_hold *hold,
                              const inv_effect *effect) {
    for (uint32_t i = 0, next = 0; i < effect->line_count; i++) {
        inv_stock_delta delta = inv_stock_deltas[effect->lines[i].op];
        bool moved = inv_hold_apply(run->work, hold->line_count, &next, &effect->lines[i],
                                    delta.held, delta.allocated, delta.shipped);
        INV_ASSERT(moved);
    }
    inv_answer_lines(run->work, hold->line_count, false, job->reply);
}

/* Applies run->changes to rows and hold, and logs them; all of it, or nothing and why. `promise`:
 * the rows must be able to promise the units anew. */
static int move_units(inv_run *run, inv_job *job, inv_ref ref, uint32_t count, bool promise) {
    inv_store *store = run->store;
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    uint32_t home = inv_hold_stripe(&store->holds, ref), reference;
    bool whole = count == 1 && !hold->block && run->changes[0].qty == hold->qty;
    inv_ref op;
    inv_result result = inv_open_op(run, job, home, &op);
    if (result != INV_OK) return result == INV_BUSY ? INV_NEED_STRIPES : (int)result;
    uint32_t done = try_rows(run, count, promise);
    if (done < count) {
        undo_rows(run, done);
        inv_close_op(run, job, home, op);
        return refuse_rows(run, job, count, promise);
    }
    if (!whole) result = inv_hold_make_block(&store->holds, hold, hold->line_count);
    if (result == INV_OK) result = inv_intern_all(run, job, &reference);
    if (result != INV_OK) {
        undo_rows(run, count);
        inv_close_op(run, job, home, op);
        return result;
    }
    inv_hash_body(job);
    inv_effect effect = {.kind = inv_entry_kind_of(job->command->kind),
                         .whole = !job->command->partial,
                         .line_count = (uint16_t)count,
                         .seller = (uint16_t)job->seller,
                         .account = job->account,
                         .body_hash = job->body_hash,
                         .reason = job->reason,
                         .reference = reference,
                         .lines = run->changes};
    inv_effect_id_of(&effect.id, &job->id);
    if (op != 0) inv_effect_id_of(&effect.op_id, &job->op);
    inv_run_touch(run, home);
    keep_lines(run, hold);
    result = inv_apply_hold(store, &effect, ref, run->time_ms);
    INV_ASSERT(result == INV_OK);
    if (op != 0) inv_apply_op(store, &effect, op, run->time_ms);
    effect.state = hold->state;
    inv_write_entry(run, job, &effect, ref, op);
    inv_fill_reservation(store, ref, job->reply);
    if (hold->units) answer_kept_lines(run, job, hold, &effect);
    return INV_OK;
}

/* commit(if_expired="rehold") of an expired one: take what lapsed again, committed. */
static int rehold(inv_run *run, inv_job *job, inv_ref ref, const inv_hold_line *lines) {
    const inv_hold *hold = inv_hold_at(&run->store->holds, ref);
    uint32_t count = 0;
    for (uint32_t i = 0; i < hold->line_count; i++) {
        uint32_t lapsed = hold->block ? lines[i].held : lines[i].qty;
        if (lapsed > 0) add_change(run, &count, &lines[i], INV_OP_REHOLD, lapsed);
    }
    int code = move_units(run, job, ref, count, true);
    if (code == INV_OK) job->reply->reheld = true;
    return code;
}

int inv_judge_moves(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    const inv_command *command = job->command;
    uint8_t kind = command->kind;
    inv_ref ref = 0, op = 0;
    inv_hold_line inline_line;
    int code = inv_find_hold(run, &job->id, &ref);
    if (code != INV_OK) return code;
    if (ref == 0) {
        if (kind == INV_CMD_RELEASE && command->tombstone && !command->partial)
            return remember_unknown(run, job);
        return INV_UNKNOWN_RESERVATION;
    }
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    inv_hold_line *lines = inv_hold_lines(&store->holds, hold, &inline_line);
    code = need_all_of(run, job, hold, lines);
    if (code != INV_OK) return code;
    for (uint32_t i = 0; i < job->line_count; i++) inv_resolve_line(run, job, &job->lines[i]);
    if (job->line_count > 1 && !inv_merge_lines(job)) return INV_BAD_REQUEST;
    uint64_t sum = job->id.hash;
    for (uint32_t i = 0; i < job->line_count; i++)
        sum += inv_line_sum(job->lines[i].number, job->lines[i].location, job->lines[i].qty);
    job->body_lines = sum;
    job->body_extra = command->keep_rest;
    inv_hash_body(job);
    if (job->has_op) {
        code = inv_known_op(run, job, inv_entry_kind_of(kind), &op);
        if (code == INV_NEED_STRIPES || code == INV_STALE_ID) return code;
        uint64_t lsn = job->reply->lsn;
        if (op != 0) inv_fill_reservation(store, ref, job->reply);
        if (op != 0) job->reply->lsn = lsn;
        if (op != 0) return code;
    }
    uint32_t count = 0;
    bool live = hold->state == INV_STATE_HELD || hold->state == INV_STATE_ALLOCATED;
    bool may =
        hold->state == INV_STATE_HELD || (live && (kind == INV_CMD_SHIP || kind == INV_CMD_CANCEL));
    inv_fill_reservation(store, ref, job->reply);
    if (!may) {
        inv_note_seen(run, job, ref);
        if (hold->state == INV_STATE_EXPIRED && kind == INV_CMD_COMMIT && command->rehold &&
            !command->partial)
            return rehold(run, job, ref, lines);
        bool replay = command->partial ? !job->has_op && is_own_part(job, hold, lines)
                                       : is_own_result(kind, hold, lines);
        return replay ? INV_REPLAYED : wrong_order(hold->state);
    }
    if (command->partial) {
        code = part_changes(run, job, hold, lines, &count);
        if (code != INV_OK) return code;
    } else {
        count = whole_changes(run, kind, lines, hold->line_count);
    }
    INV_ASSERT(count > 0);
    return move_units(run, job, ref, count, false);
}

int inv_judge_extend(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    inv_ref ref = 0;
    uint32_t reference;
    int code = inv_find_hold(run, &job->id, &ref);
    if (code != INV_OK) return code;
    if (ref == 0) return INV_UNKNOWN_RESERVATION;
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    uint32_t home = inv_hold_stripe(&store->holds, ref);
    code = inv_too_far_apart(run, job, inv_stripe_time(store, home, run->now_ms));
    if (code != INV_OK) return code;
    inv_run_touch(run, home); /* as in touch_and_look */
    uint64_t now = atomic_load_explicit(&store->now_ms, memory_order_acquire);
    uint64_t time = inv_stripe_time(store, home, now);
    uint64_t deadline = time + job->ttl_ms;
    job->reply->now_unix_ms = time;
    inv_fill_reservation(store, ref, job->reply);
    if (hold->state != INV_STATE_HELD) return wrong_order(hold->state);
    if (deadline == hold->deadline_ms || (deadline < hold->deadline_ms && !job->command->shorten))
        return INV_OK; /* the deadline stands; nothing to log */
    inv_result result = inv_intern_all(run, job, &reference);
    if (result != INV_OK) return result;
    INV_ASSERT(deadline - run->time_ms <= UINT32_MAX);
    inv_effect effect = {.kind = INV_ENTRY_EXTEND,
                         .state = INV_STATE_HELD,
                         .seller = (uint16_t)job->seller,
                         .account = job->account,
                         .deadline_ms = (uint32_t)(deadline - run->time_ms),
                         .reason = job->reason,
                         .reference = reference};
    return change_hold(run, job, &effect, ref, home);
}
