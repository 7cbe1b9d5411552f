/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_apply.c: effects to state. Live commands and replay both go through here, so that what a
 * restart rebuilds is what was there. Nothing here decides, reads a clock or writes the log.
 *
 * Live code has reserved every piece of memory before (inv_judge.c), so INV_NO_MEMORY can only
 * happen in replay; and its figures are right, so INV_LOG_CORRUPT is an assertion there.
 */
#include "inv_store.h"

/* ---- rows ------------------------------------------------------------------------------------ */

inv_result inv_apply_row(inv_store *store, const inv_change_line *line) {
    inv_stripe *stripe = &store->stripes[inv_sku_stripe(store, line->sku)];
    uint32_t place = inv_sku_place(store, line->sku);
    if (place >= stripe->table.sku_count) return INV_LOG_CORRUPT;
    inv_row *row = NULL;
    if (line->location != INV_LOCATION_NONE) {
        row = inv_table_row(&stripe->table, place, line->location);
        if (row == NULL) {
            inv_result result = inv_table_reserve_row(&stripe->table, &store->lanes, place);
            if (result != INV_OK) return result;
            row = inv_table_add_row(&stripe->table, place, line->location);
        }
    }
    if (line->op == INV_OP_SET_SAFETY) {
        inv_result result = inv_table_reserve_policy(&stripe->table, &store->lanes);
        if (result != INV_OK) return result;
        stripe->digest -= inv_table_digest_policies(&stripe->table, place, line->sku);
        inv_table_set_safety_stock(&stripe->table, place, line->location, line->qty);
        stripe->digest += inv_table_digest_policies(&stripe->table, place, line->sku);
        return INV_OK;
    }
    if (row == NULL) return INV_LOG_CORRUPT;
    inv_row after = inv_row_load(row);
    if (!inv_stock_apply(&after, line->op, line->qty)) return INV_LOG_CORRUPT;
    inv_put_row(store, line->sku, row, after);
    return INV_OK;
}

inv_result inv_apply_rows(inv_store *store, inv_run *run, const inv_effect *effect) {
    for (uint32_t i = 0; i < effect->line_count; i++) {
        inv_run_touch(run, inv_sku_stripe(store, effect->lines[i].sku));
        inv_result result = inv_apply_row(store, &effect->lines[i]);
        if (result != INV_OK) return result;
        INV_YIELD(store->env, INV_YIELD_IN_APPLY);
    }
    return INV_OK;
}

/* ---- timers ---------------------------------------------------------------------------------- */

inv_result inv_apply_reserve_wheel(inv_store *store, uint32_t stripe_index) {
    inv_stripe *stripe = &store->stripes[stripe_index];
    if (INV_LIKELY(stripe->wheel != NULL)) return INV_OK;
    inv_wheel *wheel = inv_env_alloc(store->env, sizeof(inv_wheel));
    if (wheel == NULL) return INV_NO_MEMORY;
    inv_wheel_init(wheel, 0);
    __atomic_store_n(&stripe->wheel, wheel, __ATOMIC_RELAXED); /* read ahead by prefetch_run */
    return INV_OK;
}

static void publish_next_due(inv_store *store, uint32_t stripe_index) {
    uint64_t next = inv_wheel_next(store->stripes[stripe_index].wheel, &store->pool);
    /* release: whoever derives a stripe's time from it sees the expiries that moved it */
    atomic_store_explicit(&store->next_due[stripe_index], next, memory_order_release);
}

void inv_arm(inv_store *store, uint32_t stripe_index, inv_ref ref) {
    inv_stripe *stripe = &store->stripes[stripe_index];
    stripe->home.held_count++;
    if (store->replaying) return; /* wheels are built when the replay is over */
    uint64_t next = atomic_load_explicit(&store->next_due[stripe_index], memory_order_relaxed);
    uint64_t armed_ms = inv_hold_at(&store->holds, ref)->deadline_ms;
    /* Not the earliest: the next thing to do stays what it was, and when. */
    if (stripe->wheel->count > 0 && armed_ms >= next &&
        armed_ms - stripe->wheel->now_ms <= UINT32_MAX) {
        inv_wheel_add(stripe->wheel, &store->pool, ref);
        return;
    }
    uint64_t now = atomic_load_explicit(&store->now_ms, memory_order_acquire);
    /* The clock may have moved since the deadline was decided: the wheel goes no further than that.
     */
    uint64_t deadline = inv_hold_at(&store->holds, ref)->deadline_ms;
    uint64_t time = inv_min_u64(inv_stripe_time(store, stripe_index, now), deadline - 1);
    uint32_t work = 1;
    if (stripe->wheel->count == 0)
        inv_wheel_init(stripe->wheel, time);
    else /* to the stripe's time: nothing is due up to there, so this does no step */
        INV_ASSERT(inv_wheel_take(stripe->wheel, &store->pool, time, &work) == 0);
    inv_wheel_add(stripe->wheel, &store->pool, ref);
    publish_next_due(store, stripe_index);
}

void inv_disarm(inv_store *store, uint32_t stripe_index, inv_ref ref) {
    inv_stripe *stripe = &store->stripes[stripe_index];
    INV_ASSERT(stripe->home.held_count > 0);
    stripe->home.held_count--;
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    if (store->replaying || hold->prev == 0) return; /* prev 0: the wheel has handed it out */
    inv_wheel_cancel(stripe->wheel, &store->pool, ref);
    publish_next_due(store, stripe_index);
}

/* ---- holds ----------------------------------------------------------------------------------- */

uint8_t inv_state_of(const inv_hold_line *lines, uint32_t line_count, uint8_t ended_as) {
    bool allocated = false, shipped = false;
    for (uint32_t i = 0; i < line_count; i++) {
        if (lines[i].held > 0) return INV_STATE_HELD;
        allocated |= lines[i].allocated > 0;
        shipped |= lines[i].shipped > 0;
    }
    return allocated ? INV_STATE_ALLOCATED : shipped ? INV_STATE_SHIPPED : ended_as;
}

/* How a reservation with nothing held, allocated or shipped has ended, by what ended it. */
static uint8_t ended_as(uint8_t kind) {
    switch (kind) {
    case INV_ENTRY_CANCEL:
        return INV_STATE_CANCELLED;
    case INV_ENTRY_EXPIRE:
        return INV_STATE_EXPIRED;
    default:
        return INV_STATE_RELEASED;
    }
}

inv_ref inv_apply_create_locked(inv_store *store, const inv_hold_key *key, uint32_t stripe,
                                inv_hold_shard *shard) {
    inv_ref ref = inv_hold_create(&store->holds, &store->stripes[stripe].home, stripe, key);
    if (ref != 0) inv_holds_insert_locked(&store->holds, shard, key->hash, ref);
    return ref;
}

static inv_result fill_lines(inv_store *store, inv_hold *hold, const inv_effect *effect) {
    const inv_change_line *changes = effect->lines;
    if (effect->line_count == 1) {
        hold->line_count = 1;
        hold->sku = changes->sku;
        hold->qty = changes->qty;
        hold->location = changes->location;
        hold->free_line = (changes->flags & INV_LINE_FREE) != 0;
        return INV_OK;
    }
    inv_result result = inv_hold_make_block(&store->holds, hold, effect->line_count);
    if (result != INV_OK) return result;
    inv_hold_line *lines = inv_hold_lines(&store->holds, hold, NULL);
    for (uint32_t i = 0; i < effect->line_count; i++) {
        lines[i].sku = changes[i].sku;
        lines[i].qty = lines[i].held = changes[i].qty;
        lines[i].location = changes[i].location;
        lines[i].flags = changes[i].flags & INV_LINE_FREE;
    }
    return INV_OK;
}

static void end_hold(inv_store *store, inv_ref ref, uint8_t by, uint64_t time_ms) {
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    inv_hold_home *home = &store->stripes[inv_hold_stripe(&store->holds, ref)].home;
    hold->deadline_ms = time_ms;
    if (hold->state != INV_STATE_EXPIRED) inv_hold_drop_lines(&store->holds, hold);
    inv_hold_enqueue_ended(&store->holds, home, ref);
    hold->ended_by = by == INV_ENTRY_RELEASE  ? INV_ENDED_BY_RELEASE
                     : by == INV_ENTRY_CANCEL ? INV_ENDED_BY_CANCEL
                                              : 0;
    INV_ASSERT(home->live_count > 0);
    home->live_count--;
}

/* A late commit brings an expired one back: it leaves the queue of ended ones. */
static void revive(inv_store *store, inv_ref ref) {
    inv_hold_home *home = &store->stripes[inv_hold_stripe(&store->holds, ref)].home;
    inv_hold_unqueue_ended(&store->holds, home, ref);
    home->live_count++;
}

/* The lines of an expired hold keep in `held` what lapsed: a late commit may take that much again.
 */
static void remember_lapsed(inv_hold_line *lines, uint32_t line_count, const inv_effect *effect) {
    for (uint32_t i = 0, next = 0; i < effect->line_count; i++) {
        bool found = inv_hold_apply(lines, line_count, &next, &effect->lines[i], 1, 0, 0);
        INV_ASSERT(found);
    }
}

static inv_result apply_moves(inv_store *store, const inv_effect *effect, inv_ref ref,
                              uint64_t time_ms) {
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    uint32_t stripe = inv_hold_stripe(&store->holds, ref);
    bool was_held = hold->state == INV_STATE_HELD;
    /* A stripe's time waits for its expiries, so a hold ends at its deadline, not when it is swept.
     */
    uint64_t ended_ms = effect->kind == INV_ENTRY_EXPIRE ? hold->deadline_ms : time_ms;
    bool revived = false;
    bool whole = effect->line_count == 1 && effect->lines[0].qty == hold->qty && !hold->block;
    inv_hold_line inline_line, *lines;
    if (hold->state != INV_STATE_HELD && hold->state != INV_STATE_ALLOCATED) {
        if (hold->state != INV_STATE_EXPIRED || effect->kind != INV_ENTRY_COMMIT)
            return INV_LOG_CORRUPT;
        revive(store, ref);
        revived = true;
    }
    if (!whole && inv_hold_make_block(&store->holds, hold, hold->line_count) != INV_OK)
        return INV_NO_MEMORY;
    lines = inv_hold_lines(&store->holds, hold, &inline_line);
    if (lines == NULL) return INV_LOG_CORRUPT;
    if (revived)
        for (uint32_t i = 0; i < hold->line_count; i++) lines[i].held = 0;
    for (uint32_t i = 0, next = 0; i < effect->line_count; i++) {
        inv_stock_delta delta = inv_stock_deltas[effect->lines[i].op];
        if (!inv_hold_apply(lines, hold->line_count, &next, &effect->lines[i], delta.held,
                            delta.allocated, delta.shipped))
            return INV_LOG_CORRUPT;
    }
    uint8_t state = inv_state_of(lines, hold->line_count, ended_as(effect->kind));
    if (effect->kind == INV_ENTRY_COMMIT && effect->whole) hold->ended_by |= INV_COMMITTED_WHOLE;
    hold->state = state & 15u;
    if (was_held && state != INV_STATE_HELD) {
        inv_disarm(store, stripe, ref);
        hold->deadline_ms = 0;
    }
    if (state == INV_STATE_EXPIRED && hold->block) remember_lapsed(lines, hold->line_count, effect);
    if (state != INV_STATE_HELD && state != INV_STATE_ALLOCATED)
        end_hold(store, ref, effect->kind, ended_ms);
    return INV_OK;
}

static inv_result apply_effect(inv_store *store, const inv_effect *effect, inv_ref ref,
                               uint64_t time_ms) {
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    uint32_t stripe = inv_hold_stripe(&store->holds, ref);
    inv_hold_home *home = &store->stripes[stripe].home;
    inv_result result;
    switch (effect->kind) {
    case INV_ENTRY_RESERVE:
        result = fill_lines(store, hold, effect);
        if (result != INV_OK) return result;
        hold->account = effect->account;
        hold->body_hash = effect->body_hash;
        hold->deadline_ms = time_ms + effect->deadline_ms;
        hold->state = INV_STATE_HELD;
        home->live_count++;
        inv_arm(store, stripe, ref);
        return INV_OK;
    case INV_ENTRY_TOMBSTONE:
        hold->state = INV_STATE_RELEASED;
        home->live_count++;
        end_hold(store, ref, effect->kind, time_ms);
        return INV_OK;
    case INV_ENTRY_EXTEND:
        if (hold->state != INV_STATE_HELD) return INV_LOG_CORRUPT;
        inv_disarm(store, stripe, ref);
        hold->deadline_ms = time_ms + effect->deadline_ms;
        inv_arm(store, stripe, ref);
        return INV_OK;
    default:
        return apply_moves(store, effect, ref, time_ms);
    }
}

inv_result inv_apply_hold(inv_store *store, const inv_effect *effect, inv_ref ref,
                          uint64_t time_ms) {
    const inv_hold *hold = inv_hold_at(&store->holds, ref);
    uint64_t *digest = &store->stripes[inv_hold_stripe(&store->holds, ref)].digest;
    *digest -= inv_digest_hold(&store->holds, hold);
    inv_result result = apply_effect(store, effect, ref, time_ms);
    *digest += inv_digest_hold(&store->holds, hold);
    return result;
}

void inv_apply_op(inv_store *store, const inv_effect *effect, inv_ref ref, uint64_t time_ms) {
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    inv_hold_home *home = &store->stripes[inv_hold_stripe(&store->holds, ref)].home;
    hold->account = effect->account;
    hold->body_hash = effect->body_hash;
    hold->location = effect->kind;
    hold->deadline_ms = time_ms;
    inv_hold_enqueue_ended(&store->holds, home, ref);
}
