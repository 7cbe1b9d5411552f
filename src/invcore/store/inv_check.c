/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_check.c: walks everything with every stripe locked and proves the invariants of SEMANTICS.md
 * section 8: per row held and allocated are the sums of the lines of live reservations; timers are
 * the held reservations; every id is in the index once; every counter in range; every queue whole.
 *
 * It stops the store while it walks (about 50 ns a row and 200 ns a reservation) and needs 8 bytes
 * a row.
 */
#include "inv_store.h"

#include <stdio.h>

typedef struct row_sums {
    uint32_t held, allocated;
} row_sums;

typedef struct check {
    inv_store *store;
    inv_check_report *report;
    row_sums **sums; /* per stripe, by position in its rows */
    uint32_t stripe;
    uint64_t held, ended, live, gone;
} check;

static void problem(check *state, const char *what, uint32_t stripe, uint32_t sku) {
    inv_check_report *report = state->report;
    if (report->problem_count++ == 0)
        (void)snprintf(report->problem, sizeof report->problem, "%s (stripe %u, sku number %u)",
                       what, stripe, sku);
}

static void check_index(check *state, inv_ref ref, const inv_hold *hold) {
    inv_store *store = state->store;
    inv_hold_key key = {.text = inv_hold_text(&store->holds, hold),
                        .seller = hold->seller,
                        .op = (hold->kind & INV_HOLD_OP) != 0};
    memcpy(key.uuid, hold->id, 16);
    key.hash = inv_hold_hash(store->key, inv_seller_tweak_of(store, hold->seller), key.op, key.text,
                             key.uuid);
    if (inv_holds_find(&store->holds, &key) != ref)
        problem(state, "a reservation is not found by its id", state->stripe, hold->sku);
}

static void add_line(check *state, const inv_hold_line *line) {
    inv_store *store = state->store;
    uint32_t stripe = inv_sku_stripe(store, line->sku), place = inv_sku_place(store, line->sku);
    inv_table *table = &store->stripes[stripe].table;
    inv_row *row = place < table->sku_count ? inv_table_row(table, place, line->location) : NULL;
    if (row == NULL) {
        problem(state, "a line stands for a row that does not exist", stripe, line->sku);
        return;
    }
    if (stripe < state->stripe) problem(state, "home is not the lowest stripe", stripe, line->sku);
    if ((uint64_t)line->held + line->allocated + line->shipped > line->qty)
        problem(state, "a line has more units than were asked for", stripe, line->sku);
    row_sums *sums = &state->sums[stripe][row - table->rows->at];
    sums->held += line->held;
    sums->allocated += line->allocated;
}

static bool check_hold(void *argument, inv_ref ref, inv_hold *hold) {
    check *state = argument;
    inv_hold_line inline_line;
    bool live = hold->state == INV_STATE_HELD || hold->state == INV_STATE_ALLOCATED;
    if (hold->gone) {
        state->gone++;
        state->ended++;
        return true;
    }
    check_index(state, ref, hold);
    if (!live) {
        state->ended++;
        return true;
    }
    state->live++;
    state->held += hold->state == INV_STATE_HELD;
    const inv_hold_line *lines = inv_hold_lines(&state->store->holds, hold, &inline_line);
    if (lines == NULL) {
        problem(state, "a live reservation has no lines", state->stripe, hold->sku);
        return true;
    }
    if (inv_state_of(lines, hold->line_count, INV_STATE_RELEASED) != hold->state)
        problem(state, "a state does not follow from its lines", state->stripe, lines[0].sku);
    if (hold->state == INV_STATE_HELD && hold->prev == 0)
        problem(state, "a held reservation has no timer", state->stripe, lines[0].sku);
    for (uint32_t i = 0; i < hold->line_count; i++) add_line(state, &lines[i]);
    return true;
}

static void check_rows(check *state, uint32_t index) {
    inv_store *store = state->store;
    const inv_table *table = &store->stripes[index].table;
    inv_check_report *report = state->report;
    for (uint32_t place = 0; place < table->sku_count; place++) {
        uint32_t count, sku = inv_sku_number(store, index, place);
        const inv_row *rows = inv_table_rows_of(table, place, &count);
        for (uint32_t i = 0; i < count; i++) {
            const row_sums *sums = &state->sums[index][&rows[i] - table->rows->at];
            if (rows[i].held != sums->held)
                problem(state, "held is not the sum of its reservations", index, sku);
            if (rows[i].allocated != sums->allocated)
                problem(state, "allocated is not the sum of its reservations", index, sku);
            report->on_hand += rows[i].on_hand;
            report->held += rows[i].held;
            report->allocated += rows[i].allocated;
        }
        report->rows += count;
    }
    report->skus += table->sku_count;
}

/* Every ended reservation is in its stripe's queue, once, in the order of its lsns. */
static void check_queue(check *state, uint32_t index, uint64_t ended) {
    const inv_hold_home *home = &state->store->stripes[index].home;
    uint64_t count = 0, last = 0;
    for (inv_ref ref = home->ended_first; ref != 0 && count <= home->ended_count; count++) {
        const inv_hold *hold = inv_hold_at(&state->store->holds, ref);
        if (hold->lsn < last) problem(state, "ended ids are out of order", index, 0);
        last = hold->lsn;
        ref = hold->next;
    }
    if (count != home->ended_count || count != ended)
        problem(state, "the queue of ended ids is not what has ended", index, 0);
}

static void check_stripe(check *state, uint32_t index) {
    inv_stripe *stripe = &state->store->stripes[index];
    uint64_t held = state->held, live = state->live, ended = state->ended, timers = 0;
    const char *broken = inv_table_check(&stripe->table);
    state->stripe = index;
    if (broken != NULL) problem(state, broken, index, 0);
    if (inv_digest_stripe(state->store, index) != stripe->digest)
        problem(state, "the digest is not of what is there", index, 0);
    if (stripe->wheel != NULL) {
        broken = inv_wheel_check(stripe->wheel, &state->store->pool, &timers);
        if (broken != NULL) problem(state, broken, index, 0);
    }
    inv_hold_walk(&state->store->holds, &stripe->home, check_hold, state);
    if (state->held - held != timers || timers != stripe->home.held_count)
        problem(state, "timers are not the held reservations", index, 0);
    if (state->live - live != stripe->home.live_count)
        problem(state, "live reservations are miscounted", index, 0);
    check_queue(state, index, state->ended - ended);
    state->report->timers += timers;
    state->report->lsn = inv_max_u64(
        state->report->lsn, atomic_load_explicit(&stripe->lsn_touched, memory_order_relaxed));
}

static uint64_t indexed_ids(inv_store *store) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < 1u << store->holds.shard_bits; i++) {
        inv_hold_shard *shard = &store->holds.shards[i];
        inv_lock_take(&shard->lock);
        count += shard->count;
        inv_lock_give(&shard->lock);
    }
    return count;
}

static size_t sums_bytes(const inv_stripe *stripe) {
    return (stripe->table.rows_used + 1ull) * sizeof(row_sums);
}

inv_result inv_store_check(inv_store *store, inv_check_report *out) {
    check state = {.store = store, .report = out};
    inv_lane *lane;
    inv_result result;
    memset(out, 0, sizeof *out);
    if (!inv_store_enter(store, &lane, &result)) return result;
    state.sums = inv_env_alloc(store->env, store->stripe_count * sizeof(row_sums *));
    if (state.sums == NULL) {
        inv_lane_give(lane);
        return INV_NO_MEMORY;
    }
    for (uint32_t i = 0; i < store->stripe_count; i++) inv_lock_take(&store->stripes[i].lock);
    for (uint32_t i = 0; i < store->stripe_count && result == INV_OK; i++) {
        state.sums[i] = inv_env_alloc(store->env, sums_bytes(&store->stripes[i]));
        if (state.sums[i] == NULL) result = INV_NO_MEMORY;
    }
    if (result == INV_OK) {
        for (uint32_t i = 0; i < store->stripe_count; i++) check_stripe(&state, i);
        for (uint32_t i = 0; i < store->stripe_count; i++) check_rows(&state, i);
        out->holds = state.live;
        out->ended = state.ended;
        if (indexed_ids(store) != state.live + state.ended - state.gone)
            problem(&state, "the id index does not hold every id once", 0, 0);
        out->ok = out->problem_count == 0;
    }
    for (uint32_t i = 0; i < store->stripe_count; i++) {
        inv_env_free(store->env, state.sums[i], sums_bytes(&store->stripes[i]));
        inv_lock_give(&store->stripes[i].lock);
    }
    inv_env_free(store->env, state.sums, store->stripe_count * sizeof(row_sums *));
    inv_lane_give(lane);
    return result;
}
