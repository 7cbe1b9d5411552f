/* SPDX-License-Identifier: Apache-2.0
 *
 * world_commands.c: makes up commands that are likely to succeed, with refusals mixed in.
 *
 * A partial call names a place only where the reservation has units of one kind, and a cart never
 * mixes fixed and free lines of one SKU: there the choice of units is the engine's, and the model
 * campaign checks it line by line.
 */
#include <stdlib.h>
#include <string.h>

#include "../../../src/invcore/store/inv_store.h"
#include "world_names.h"

static uint32_t random_sku(world *w, uint32_t sku_mask) {
    uint32_t skus[ORACLE_SKU_COUNT];
    uint32_t count = 0;
    for (uint32_t i = 0; i < ORACLE_SKU_COUNT; i++)
        if ((sku_mask >> i & 1) != 0) skus[count++] = i;
    return count == 0 ? ORACLE_NONE : skus[world_below(&w->random, count)];
}

uint32_t world_command_skus(const world *w, const oracle_command *command) {
    uint32_t mask = 0;
    for (uint32_t i = 0; i < command->line_count; i++) mask |= 1u << command->lines[i].sku;
    if (command->hold == ORACLE_NONE || command->kind == INV_CMD_RESERVE) return mask;
    const oracle_hold *hold = &w->state.holds[command->hold];
    for (uint32_t sku = 0; sku < ORACLE_SKU_COUNT; sku++)
        for (uint32_t i = 0; i < ORACLE_LOCATION_COUNT; i++) {
            const oracle_place *place = &hold->places[sku][i];
            if (place->held + place->allocated + place->shipped > 0) mask |= 1u << sku;
        }
    return mask;
}

uint32_t world_stripe_skus(const world *w, uint32_t sku_mask) {
    uint32_t mask = 0;
    for (uint32_t i = 0; i < ORACLE_SKU_COUNT; i++)
        for (uint32_t j = 0; j < ORACLE_SKU_COUNT; j++)
            if ((sku_mask >> i & 1) != 0 && w->stripe_of_sku[i] == w->stripe_of_sku[j])
                mask |= 1u << j;
    return mask;
}

static void command_clear(oracle_command *out, inv_command_kind kind) {
    memset(out, 0, sizeof *out);
    out->kind = (uint8_t)kind;
    out->hold = ORACLE_NONE;
    out->op = ORACLE_NONE;
}

/* Ids whose reserve was refused or lost in a crash are used again, as a client would; never by a
 * second appender, since the first may be about to take that very id. */
static uint32_t new_hold(world *w, bool simple) {
    if (!simple && w->hold_next > 0 && world_chance(&w->random, 4)) {
        uint32_t i = world_below(&w->random, w->hold_next);
        if (w->state.holds[i].state == INV_STATE_NONE) return i;
    }
    return w->hold_next < ORACLE_HOLD_COUNT_MAX ? w->hold_next++ : ORACLE_NONE;
}

static bool make_reserve(world *w, uint32_t sku_mask, bool simple, oracle_command *out) {
    command_clear(out, INV_CMD_RESERVE);
    out->hold = new_hold(w, simple);
    if (out->hold == ORACLE_NONE) return false;
    uint32_t wanted = simple ? 1 : 1 + world_below(&w->random, world_chance(&w->random, 2) ? 1 : 8);
    bool free_sku[ORACLE_SKU_COUNT];
    for (uint32_t i = 0; i < ORACLE_SKU_COUNT; i++) free_sku[i] = world_chance(&w->random, 3);
    for (uint32_t i = 0; i < wanted && i < ORACLE_LINE_COUNT_MAX; i++) {
        uint32_t sku = random_sku(w, sku_mask);
        oracle_line *line = &out->lines[out->line_count++];
        line->sku = sku;
        line->location = free_sku[sku] ? ORACLE_ANY_LOCATION
                                       : world_below(&w->random, ORACLE_LOCATION_COUNT);
        line->qty = 1 + world_below(&w->random, world_chance(&w->random, 12) ? 400 : 6);
    }
    out->ttl_ms = 1 + world_below(&w->random, world_chance(&w->random, 3) ? 3000 : 60000);
    if (!simple && world_chance(&w->random, 6))
        out->reference_bytes = 1 + world_below(&w->random, INV_REFERENCE_BYTES_MAX);
    return true;
}

static bool make_stock(world *w, uint32_t sku_mask, bool simple, oracle_command *out) {
    static const inv_command_kind kinds[] = {INV_CMD_RECEIVE, INV_CMD_RECEIVE, INV_CMD_ISSUE,
                                             INV_CMD_ADJUST,  INV_CMD_ADJUST,  INV_CMD_SET_ON_HAND,
                                             INV_CMD_SET_POLICY};
    command_clear(out, kinds[world_below(&w->random, simple ? 5 : 7)]);
    oracle_line *line = &out->lines[0];
    out->line_count = 1;
    line->sku = random_sku(w, sku_mask);
    line->location = world_below(&w->random, ORACLE_LOCATION_COUNT);
    line->qty = 1 + world_below(&w->random, 60);
    const oracle_row *row = &w->state.rows[line->sku][line->location];
    if (out->kind == INV_CMD_ADJUST && world_chance(&w->random, 2)) line->qty = -line->qty;
    if (out->kind == INV_CMD_SET_ON_HAND) {
        line->qty = world_below(&w->random, 120);
        out->if_on_hand = world_chance(&w->random, 5) ? row->on_hand + 1 : row->on_hand;
    }
    if (out->kind == INV_CMD_SET_POLICY) {
        line->qty = 0;
        out->safety_stock = world_below(&w->random, 8);
    }
    if (!simple && out->kind != INV_CMD_SET_POLICY && world_chance(&w->random, 2))
        out->op = w->op_next++;
    if (!simple && world_chance(&w->random, 5))
        out->reference_bytes = 1 + world_below(&w->random, INV_REFERENCE_BYTES_MAX);
    return true;
}

static uint32_t random_live_hold(world *w, uint32_t sku_mask) {
    for (uint32_t attempt = 0; attempt < 12 && w->hold_next > 0; attempt++) {
        uint32_t i = world_below(&w->random, w->hold_next);
        oracle_command probe;
        command_clear(&probe, INV_CMD_COMMIT);
        probe.hold = i;
        if (!oracle_hold_is_live(&w->state.holds[i])) continue;
        if ((world_command_skus(w, &probe) & ~sku_mask) == 0) return i;
    }
    return ORACLE_NONE;
}

/* Names up to two places of the reservation; false when there is none that may be named. */
static bool make_partial(world *w, oracle_command *out) {
    const oracle_hold *hold = &w->state.holds[out->hold];
    bool soft = out->kind == INV_CMD_COMMIT || out->kind == INV_CMD_RELEASE;
    uint32_t start = world_below(&w->random, ORACLE_SKU_COUNT * ORACLE_LOCATION_COUNT);
    for (uint32_t i = 0; i < ORACLE_SKU_COUNT * ORACLE_LOCATION_COUNT && out->line_count < 2; i++) {
        uint32_t at = (start + i) % (ORACLE_SKU_COUNT * ORACLE_LOCATION_COUNT);
        uint32_t sku = at / ORACLE_LOCATION_COUNT, location = at % ORACLE_LOCATION_COUNT;
        const oracle_place *place = &hold->places[sku][location];
        int32_t units = soft ? place->held : place->held + place->allocated;
        if (units == 0 || (!soft && place->held > 0 && place->allocated > 0)) continue;
        int64_t qty = 1 + world_below(&w->random, (uint32_t)units);
        if (world_chance(&w->random, 10)) qty = units + 1;
        out->lines[out->line_count++] = (oracle_line){sku, location, qty};
    }
    out->partial = out->line_count > 0;
    return out->partial;
}

static bool make_on_hold(world *w, uint32_t sku_mask, oracle_command *out) {
    static const inv_command_kind kinds[] = {INV_CMD_COMMIT, INV_CMD_COMMIT,  INV_CMD_SHIP,
                                             INV_CMD_SHIP,   INV_CMD_RELEASE, INV_CMD_CANCEL,
                                             INV_CMD_EXTEND};
    command_clear(out, kinds[world_below(&w->random, 7)]);
    if (world_chance(&w->random, 10) && w->hold_next > 0 && sku_mask == UINT32_MAX)
        out->hold = world_below(&w->random, w->hold_next); /* ended and unknown ones, too */
    else
        out->hold = random_live_hold(w, sku_mask);
    if (out->hold == ORACLE_NONE) return false;
    if (out->kind == INV_CMD_EXTEND) {
        out->ttl_ms = 1 + world_below(&w->random, 40000);
        out->shorten = world_chance(&w->random, 2);
        return true;
    }
    if (oracle_hold_is_live(&w->state.holds[out->hold]) && world_chance(&w->random, 3) &&
        make_partial(w, out)) {
        out->op = w->op_next++;
        out->keep_rest = out->kind == INV_CMD_COMMIT && world_chance(&w->random, 2);
    }
    return true;
}

static bool make_retry(world *w, uint32_t sku_mask, oracle_command *out) {
    if (w->accepted_count == 0) return false;
    const world_accepted *earlier = &w->accepted[world_below(&w->random, w->accepted_count)];
    *out = earlier->command;
    if (out->op == ORACLE_NONE && out->kind != INV_CMD_RESERVE) return false;
    if ((world_command_skus(w, out) & ~sku_mask) != 0) return false;
    out->retry = true;
    return true;
}

bool world_make_command(world *w, uint32_t sku_mask, bool simple, oracle_command *out) {
    uint32_t all = (1u << ORACLE_SKU_COUNT) - 1;
    if ((sku_mask & all) == 0) return false;
    if (simple) {
        if (world_chance(&w->random, 2)) return make_stock(w, sku_mask, true, out);
        return make_reserve(w, sku_mask, true, out);
    }
    uint32_t pick = world_below(&w->random, 20);
    if (pick < 8) return make_reserve(w, sku_mask, false, out);
    if (pick < 14 && make_on_hold(w, sku_mask, out)) return true;
    if (pick == 19 && make_retry(w, sku_mask, out)) return true;
    return make_stock(w, sku_mask, false, out);
}

bool world_stock_up(world *w) {
    for (uint32_t sku = 0; sku < ORACLE_SKU_COUNT; sku++) {
        oracle_command command;
        command_clear(&command, INV_CMD_RECEIVE);
        command.line_count = 1;
        command.lines[0] = (oracle_line){sku, sku % ORACLE_LOCATION_COUNT,
                                         20 + world_below(&w->random, 60)};
        if (!world_execute(w, &command, 1)) return false;
        const inv_text name = world_sku_name(sku);
        uint32_t number;
        uint64_t lsn;
        size_t bad;
        if (inv_store_numbers(w->store, INV_NAME_SKU, (inv_text){NULL, 0}, &name, 1, false, &number,
                              &lsn, &bad) != INV_OK)
            return world_problem(w, "a SKU that was received has no number");
        w->stripe_of_sku[sku] = inv_sku_stripe(w->store, number);
    }
    return true;
}
