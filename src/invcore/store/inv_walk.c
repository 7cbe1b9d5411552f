/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_walk.c: everything in a store, a piece a call, into arrays of the caller. What a walk
 * promises is told in invcore.h.
 *
 * Stripe by stripe, under the stripe's lock, which is given back after INV_WALK_STEP things looked
 * at. A place in a stripe survives that: SKUs are only ever added at the end, and a reservation
 * stays in its slot for life (inv_hold_walk_next finds the chunk again). A stripe is never held
 * together with another lock. Rejected: one consistent image of all stripes (it stops the store, or
 * needs a second copy of it); callbacks under the lock.
 */
#include "inv_store.h"

#define CALL_LOOKS_MAX (1u << 20) /* SKUs, rows and slots looked at in one call */

typedef struct walk_step { /* what happened under one hold of a stripe's lock */
    uint32_t looks;
    uint32_t needed; /* places the piece looked at last takes */
    bool is_full;    /* it did not fit */
    bool stripe_done;
} walk_step;

/* Does the piece that takes step->needed places fit? */
static bool fits(walk_step *step, uint32_t room, uint32_t count) {
    step->is_full = step->needed > room - count;
    return !step->is_full;
}

static void observe(inv_walk *walk, const inv_stripe *stripe) {
    walk->lsn = inv_max_u64(walk->lsn,
                            atomic_load_explicit(&stripe->lsn_touched, memory_order_relaxed));
}

/* Goes on with the next stripe, or with this one after letting others have it. */
static void move_on(const inv_store *store, inv_walk *walk, const walk_step *step) {
    if (!step->stripe_done) {
        inv_cpu_yield(); /* the lock is not fair: whoever sleeps on it gets a chance to take it */
        return;
    }
    walk->stripe++;
    walk->place = walk->slot = walk->chunk_drops = 0;
    walk->chunk_number = 0;
    walk->done = walk->stripe >= store->stripe_count;
}

/* What a call returns: a first piece that does not fit never will. */
static inv_result outcome(const walk_step *step, uint32_t count, uint32_t *out_room_needed) {
    if (!step->is_full || count > 0) return INV_OK;
    *out_room_needed = step->needed;
    return INV_LIMIT_EXCEEDED;
}

/* ---- stock rows ------------------------------------------------------------------------------ */

static void put_row(inv_walk_rows *out, const inv_stock_level *level, uint16_t seller) {
    uint32_t i = out->count++;
    out->sku[i] = level->sku;
    out->location[i] = level->location;
    out->seller[i] = seller;
    out->on_hand[i] = level->on_hand;
    out->held[i] = level->held;
    out->allocated[i] = level->allocated;
    out->reserved[i] = level->reserved;
    out->available[i] = level->available;
    out->available_to_promise[i] = level->available_to_promise;
    out->safety_stock[i] = level->safety_stock;
    out->short_qty[i] = level->short_qty;
    out->lsn[i] = level->lsn;
}

/* Under the stripe's lock: SKUs from walk->place on. */
static void step_rows(const inv_store *store, inv_walk *walk, inv_walk_rows *out,
                      walk_step *step) {
    const inv_stripe *stripe = &store->stripes[walk->stripe];
    const inv_table *table = &stripe->table;
    uint64_t lsn = atomic_load_explicit(&stripe->lsn_touched, memory_order_relaxed);
    while (step->looks < INV_WALK_STEP && walk->place < table->sku_count) {
        uint32_t place = walk->place;
        const inv_row *rows = inv_table_rows_of(table, place, &step->needed);
        if (!fits(step, out->room_count, out->count)) break;
        for (uint32_t i = 0; i < step->needed; i++) {
            inv_stock_level level;
            inv_fill_level(store, walk->stripe, place, rows[i].location, &rows[i], lsn, 0, &level);
            put_row(out, &level, inv_table_sku(table, place)->seller);
        }
        step->looks += 1 + step->needed;
        walk->place++;
    }
    step->stripe_done = walk->place >= table->sku_count;
    observe(walk, stripe);
}

inv_result inv_store_walk_rows(inv_store *store, inv_walk *walk, inv_walk_rows *out) {
    inv_lane *lane;
    inv_result result;
    walk_step step = {0};
    out->count = out->room_needed = 0;
    if (out->room_count == 0) return INV_BAD_REQUEST;
    if (!inv_store_enter(store, &lane, &result)) return result;
    walk->stripe_count = store->stripe_count;
    for (uint32_t looks = 0; looks < CALL_LOOKS_MAX && !walk->done && !step.is_full;) {
        inv_stripe *stripe = &store->stripes[walk->stripe];
        step = (walk_step){0};
        inv_lock_take(&stripe->lock);
        step_rows(store, walk, out, &step);
        inv_lock_give(&stripe->lock);
        if (!step.is_full) move_on(store, walk, &step);
        looks += 1 + step.looks;
    }
    inv_lane_give(lane);
    return outcome(&step, out->count, &out->room_needed);
}

/* ---- reservations ---------------------------------------------------------------------------- */

static bool is_wanted(const inv_hold *hold, bool ended) {
    if ((hold->kind & INV_HOLD_OP) != 0 || hold->gone) return false;
    return ended || hold->state == INV_STATE_HELD || hold->state == INV_STATE_ALLOCATED;
}

/* What all lines of a reservation have in common. */
static void put_hold(const inv_store *store, const inv_hold *hold, const inv_reply *shown,
                     inv_walk_holds *out) {
    uint32_t i = out->count;
    inv_text text = inv_hold_text(&store->holds, hold);
    bool is_uuid = text.bytes == NULL;
    out->id_is_uuid[i] = is_uuid;
    out->id_length[i] = is_uuid ? 16 : (uint8_t)text.length;
    memcpy(out->id[i], is_uuid ? (const char *)hold->id : text.bytes, out->id_length[i]);
    out->state[i] = shown->state;
    out->seller[i] = hold->seller;
    out->account[i] = hold->account;
    out->expires_at_unix_ms[i] = shown->expires_at_unix_ms;
    out->ended_at_unix_ms[i] = shown->ended_at_unix_ms;
    out->lsn[i] = shown->lsn;
    out->units[i] = (int64_t)shown->units;
    out->line_count[i] = (uint16_t)shown->line_count;
    out->line_index[i] = 0;
    out->sku[i] = INV_NUMBER_NONE;
    out->location[i] = INV_LOCATION_NONE;
    out->qty[i] = out->held[i] = out->allocated[i] = out->shipped[i] = 0;
}

static void put_line(const inv_hold_line *line, uint32_t line_index, bool expired,
                     inv_walk_holds *out) {
    uint32_t i = out->count;
    out->line_index[i] = (uint16_t)line_index;
    out->sku[i] = line->sku;
    out->location[i] = line->location;
    out->qty[i] = line->qty;
    out->held[i] = expired ? 0 : line->held; /* an expired one remembers there what lapsed */
    out->allocated[i] = line->allocated;
    out->shipped[i] = line->shipped;
}

/* A reservation as inv_store_reservation shows it; false if it does not fit. */
static bool put_reservation(const inv_store *store, inv_ref ref, inv_walk_holds *out,
                            walk_step *step) {
    const inv_hold *hold = inv_hold_at(&store->holds, ref);
    inv_hold_line inline_line;
    const inv_hold_line *lines = inv_hold_lines(&store->holds, hold, &inline_line);
    inv_reply shown = {0}; /* no room for lines: it counts them */
    inv_fill_reservation(store, ref, &shown);
    step->needed = lines == NULL ? 1 : hold->line_count;
    if (!fits(step, out->room_count, out->count)) return false;
    for (uint32_t i = 0; i < step->needed; i++) {
        put_hold(store, hold, &shown, out);
        if (lines != NULL) put_line(&lines[i], i, hold->state == INV_STATE_EXPIRED, out);
        out->count++;
    }
    return true;
}

/* Under the stripe's lock: slots after walk->slot. */
static void step_holds(const inv_store *store, inv_walk *walk, bool ended, inv_walk_holds *out,
                       walk_step *step) {
    const inv_stripe *stripe = &store->stripes[walk->stripe];
    inv_hold_place place = {walk->chunk_number, walk->slot, walk->chunk_drops};
    while (step->looks < INV_WALK_STEP && !step->stripe_done) {
        inv_ref ref = inv_hold_walk_next(&store->holds, &stripe->home, &place);
        step->stripe_done = ref == 0;
        step->looks++;
        if (ref != 0 && is_wanted(inv_hold_at(&store->holds, ref), ended)) {
            if (!put_reservation(store, ref, out, step)) break;
            step->looks += step->needed;
        }
        walk->chunk_number = place.chunk_number;
        walk->slot = place.slot;
        walk->chunk_drops = place.chunk_drops;
    }
    observe(walk, stripe);
}

inv_result inv_store_walk_reservations(inv_store *store, inv_walk *walk, bool ended,
                                       inv_walk_holds *out) {
    inv_lane *lane;
    inv_result result;
    walk_step step = {0};
    out->count = out->room_needed = 0;
    if (out->room_count == 0) return INV_BAD_REQUEST;
    if (!inv_store_enter(store, &lane, &result)) return result;
    walk->stripe_count = store->stripe_count;
    for (uint32_t looks = 0; looks < CALL_LOOKS_MAX && !walk->done && !step.is_full;) {
        inv_stripe *stripe = &store->stripes[walk->stripe];
        step = (walk_step){0};
        inv_lock_take(&stripe->lock);
        step_holds(store, walk, ended, out, &step);
        inv_lock_give(&stripe->lock);
        if (!step.is_full) move_on(store, walk, &step);
        looks += 1 + step.looks;
    }
    /* An id that was not given may have been forgotten by this tick. */
    walk->lsn =
        inv_max_u64(walk->lsn, atomic_load_explicit(&store->ids_lsn, memory_order_acquire));
    inv_lane_give(lane);
    return outcome(&step, out->count, &out->room_needed);
}
