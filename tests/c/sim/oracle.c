/* SPDX-License-Identifier: Apache-2.0
 *
 * oracle.c: the naive twin of oracle.h. Every loop walks whole arrays: it is meant to be obviously
 * right beside SEMANTICS.md, and the arrays are small.
 */
#include "oracle.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define EACH_PLACE(sku, location)                           \
    for (uint32_t sku = 0; sku < ORACLE_SKU_COUNT; sku++)   \
        for (uint32_t location = 0; location < ORACLE_LOCATION_COUNT; location++)

int64_t oracle_promise(const oracle_row *row) {
    int64_t promise = row->on_hand - row->held - row->allocated - row->safety_stock;
    return promise > 0 ? promise : 0;
}

bool oracle_hold_is_live(const oracle_hold *hold) {
    return hold->state == INV_STATE_HELD || hold->state == INV_STATE_ALLOCATED;
}

static int64_t hold_units(const oracle_hold *hold, char which) {
    int64_t units = 0;
    EACH_PLACE(sku, location) {
        const oracle_place *place = &hold->places[sku][location];
        units += which == 'h' ? place->held : which == 'a' ? place->allocated : place->shipped;
    }
    return units;
}

void oracle_hold_settle(oracle_hold *hold, inv_state ended_as) {
    if (hold_units(hold, 'h') > 0) {
        hold->state = INV_STATE_HELD;
        return;
    }
    hold->deadline_unix_ms = 0;
    if (hold_units(hold, 'a') > 0) {
        hold->state = INV_STATE_ALLOCATED;
        return;
    }
    hold->state = hold_units(hold, 's') > 0 ? INV_STATE_SHIPPED : (uint64_t)ended_as;
    memset(hold->places, 0, sizeof hold->places);
}

/* Fixed lines first, then free ones out of what is left: whether all of them fit is independent of
 * which places a free line gets. */
static inv_result predict_reserve(const oracle_state *state, const oracle_command *command) {
    int64_t left[ORACLE_SKU_COUNT][ORACLE_LOCATION_COUNT];
    EACH_PLACE(sku, location) left[sku][location] = oracle_promise(&state->rows[sku][location]);
    int64_t asked_free[ORACLE_SKU_COUNT] = {0};
    for (uint32_t i = 0; i < command->line_count; i++) {
        const oracle_line *line = &command->lines[i];
        if (line->location == ORACLE_ANY_LOCATION) {
            asked_free[line->sku] += line->qty;
        } else {
            left[line->sku][line->location] -= line->qty;
            if (left[line->sku][line->location] < 0) return INV_INSUFFICIENT;
        }
    }
    for (uint32_t sku = 0; sku < ORACLE_SKU_COUNT; sku++) {
        int64_t total = 0;
        for (uint32_t i = 0; i < ORACLE_LOCATION_COUNT; i++) total += left[sku][i];
        if (asked_free[sku] > total) return INV_INSUFFICIENT;
    }
    return INV_OK;
}

static inv_result predict_ended(const oracle_hold *hold) {
    switch ((inv_state)hold->state) {
    case INV_STATE_NONE: return INV_UNKNOWN_RESERVATION;
    case INV_STATE_SHIPPED: return INV_ALREADY_SHIPPED;
    case INV_STATE_RELEASED: return INV_ALREADY_RELEASED;
    case INV_STATE_CANCELLED: return INV_ALREADY_CANCELLED;
    case INV_STATE_EXPIRED: return INV_EXPIRED;
    case INV_STATE_HELD:
    case INV_STATE_ALLOCATED: return INV_OK;
    case INV_STATE_BACKORDERED:
    case INV_STATE_CANCELLED_SHORT:
    case INV_STATE_PREEMPTED: break;
    }
    return INV_STORE_FAILED;
}

/* Units of the reservation that the call may take at a place. */
static int64_t takeable(const oracle_hold *hold, const oracle_command *command, uint32_t sku,
                        uint32_t location) {
    const oracle_place *place = &hold->places[sku][location];
    bool soft = command->kind == INV_CMD_COMMIT || command->kind == INV_CMD_RELEASE;
    return soft ? place->held : (int64_t)place->held + place->allocated;
}

static inv_result predict_ship(const oracle_state *state, const oracle_command *command) {
    const oracle_hold *hold = &state->holds[command->hold];
    EACH_PLACE(sku, location) {
        int64_t units = takeable(hold, command, sku, location);
        if (command->partial) {
            units = 0;
            for (uint32_t i = 0; i < command->line_count; i++) {
                const oracle_line *line = &command->lines[i];
                if (line->sku == sku && line->location == location) units += line->qty;
            }
        }
        if (units > state->rows[sku][location].on_hand) return INV_INSUFFICIENT;
    }
    return INV_OK;
}

static inv_result predict_on_hold(const oracle_state *state, const oracle_command *command) {
    const oracle_hold *hold = &state->holds[command->hold];
    inv_result ended = predict_ended(hold);
    if (ended != INV_OK) return ended;
    bool held = hold->state == INV_STATE_HELD;
    if (command->partial) {
        for (uint32_t i = 0; i < command->line_count; i++) {
            const oracle_line *line = &command->lines[i];
            if (line->qty > takeable(hold, command, line->sku, line->location))
                return INV_OVER_COMMIT;
        }
    }
    if (command->kind == INV_CMD_SHIP) return predict_ship(state, command);
    if (command->kind == INV_CMD_CANCEL) return INV_OK;
    if (held) return INV_OK;
    return command->kind == INV_CMD_COMMIT ? INV_REPLAYED : INV_ALREADY_COMMITTED;
}

static inv_result predict_stock(const oracle_state *state, const oracle_command *command) {
    const oracle_line *line = &command->lines[0];
    const oracle_row *row = &state->rows[line->sku][line->location];
    switch ((inv_command_kind)command->kind) {
    case INV_CMD_ISSUE:
        return line->qty <= row->on_hand - row->held - row->allocated ? INV_OK : INV_INSUFFICIENT;
    case INV_CMD_ADJUST: return row->on_hand + line->qty < 0 ? INV_QTY_OUT_OF_RANGE : INV_OK;
    case INV_CMD_SET_ON_HAND:
        return row->on_hand == command->if_on_hand ? INV_OK : INV_CAS_FAILED;
    case INV_CMD_RECEIVE:
    case INV_CMD_SET_POLICY: return INV_OK;
    case INV_CMD_RESERVE:
    case INV_CMD_COMMIT:
    case INV_CMD_SHIP:
    case INV_CMD_RELEASE:
    case INV_CMD_CANCEL:
    case INV_CMD_EXTEND: break;
    }
    return INV_BAD_REQUEST;
}

inv_result oracle_predict(const oracle_state *state, const oracle_command *command) {
    if (command->retry) return INV_REPLAYED;
    switch ((inv_command_kind)command->kind) {
    case INV_CMD_RESERVE: return predict_reserve(state, command);
    case INV_CMD_COMMIT:
    case INV_CMD_SHIP:
    case INV_CMD_RELEASE:
    case INV_CMD_CANCEL:
    case INV_CMD_EXTEND: return predict_on_hold(state, command);
    case INV_CMD_RECEIVE:
    case INV_CMD_ISSUE:
    case INV_CMD_ADJUST:
    case INV_CMD_SET_ON_HAND:
    case INV_CMD_SET_POLICY: return predict_stock(state, command);
    }
    return INV_BAD_REQUEST;
}

bool oracle_code_fits(const oracle_state *state, const oracle_command *command,
                      inv_result predicted, int code) {
    if (code == (int)predicted) return true;
    if (code == INV_OK) return false;
    if (command->hold == ORACLE_NONE) {
        /* Nothing was ever recorded for the SKU: the engine says so rather than "too few". */
        return code == INV_UNKNOWN_SKU &&
               (predicted == INV_INSUFFICIENT || predicted == INV_QTY_OUT_OF_RANGE);
    }
    /* The order of checks between "it has ended", "it is a replay" and "that is too much" is the
     * subject of the model campaign; here only "nothing changed" matters. */
    bool refused = predicted != INV_OK;
    bool about_state = code == INV_REPLAYED || code == INV_EXPIRED || code == INV_OVER_COMMIT ||
                       (code >= INV_ALREADY_COMMITTED && code <= INV_ALREADY_SHIPPED);
    return refused && about_state && state->holds[command->hold].state != INV_STATE_NONE;
}

const char *oracle_choice_problem(const oracle_command *command, const oracle_choice *choice) {
    int64_t spare[ORACLE_SKU_COUNT][ORACLE_LOCATION_COUNT];
    int64_t asked_free[ORACLE_SKU_COUNT] = {0};
    EACH_PLACE(sku, location) spare[sku][location] = choice->taken[sku][location];
    for (uint32_t i = 0; i < command->line_count; i++) {
        const oracle_line *line = &command->lines[i];
        if (line->location == ORACLE_ANY_LOCATION) asked_free[line->sku] += line->qty;
        else spare[line->sku][line->location] -= line->qty;
    }
    for (uint32_t sku = 0; sku < ORACLE_SKU_COUNT; sku++) {
        int64_t total = 0;
        for (uint32_t i = 0; i < ORACLE_LOCATION_COUNT; i++) {
            if (spare[sku][i] < 0) return "a line with a location was not served there";
            total += spare[sku][i];
        }
        if (total != asked_free[sku]) return "free lines got another quantity than asked";
    }
    return NULL;
}

static void give_back(oracle_state *state, oracle_place *place, uint32_t sku, uint32_t location,
                      int32_t held, int32_t allocated) {
    place->held -= held;
    place->allocated -= allocated;
    state->rows[sku][location].held -= held;
    state->rows[sku][location].allocated -= allocated;
}

/* Takes `units` of one place as the call's kind says. Callers that name a part do so only where the
 * place has units of one kind, so the order between held and allocated does not show. */
static void take_units(oracle_state *state, const oracle_command *command, uint32_t sku,
                       uint32_t location, int32_t units) {
    oracle_place *place = &state->holds[command->hold].places[sku][location];
    oracle_row *row = &state->rows[sku][location];
    int32_t held = units < place->held ? units : place->held;
    int32_t allocated = units - held;
    give_back(state, place, sku, location, held, allocated);
    if (command->kind == INV_CMD_COMMIT) {
        place->allocated += units;
        row->allocated += units;
    } else if (command->kind == INV_CMD_SHIP) {
        place->shipped += units;
        row->on_hand -= units;
    }
}

static void apply_on_hold(oracle_state *state, const oracle_command *command) {
    oracle_hold *hold = &state->holds[command->hold];
    if (command->partial) {
        for (uint32_t i = 0; i < command->line_count; i++) {
            const oracle_line *line = &command->lines[i];
            take_units(state, command, line->sku, line->location, (int32_t)line->qty);
        }
        if (command->kind == INV_CMD_COMMIT && !command->keep_rest) {
            EACH_PLACE(sku, location) {
                oracle_place *place = &hold->places[sku][location];
                give_back(state, place, sku, location, place->held, 0);
            }
        }
    } else {
        EACH_PLACE(sku, location) {
            int64_t units = takeable(hold, command, sku, location);
            if (units > 0) take_units(state, command, sku, location, (int32_t)units);
        }
    }
    oracle_hold_settle(hold, command->kind == INV_CMD_CANCEL ? INV_STATE_CANCELLED
                                                             : INV_STATE_RELEASED);
}

static void apply_reserve(oracle_state *state, const oracle_command *command,
                          const oracle_choice *choice) {
    oracle_hold *hold = &state->holds[command->hold];
    memset(hold, 0, sizeof *hold);
    hold->state = INV_STATE_HELD;
    hold->deadline_unix_ms = choice->deadline_unix_ms;
    EACH_PLACE(sku, location) {
        hold->places[sku][location].held = choice->taken[sku][location];
        state->rows[sku][location].held += choice->taken[sku][location];
    }
}

void oracle_apply(oracle_state *state, const oracle_command *command, const oracle_choice *choice) {
    oracle_row *row = &state->rows[command->lines[0].sku % ORACLE_SKU_COUNT]
                                  [command->lines[0].location % ORACLE_LOCATION_COUNT];
    switch ((inv_command_kind)command->kind) {
    case INV_CMD_RESERVE: apply_reserve(state, command, choice); break;
    case INV_CMD_COMMIT:
    case INV_CMD_SHIP:
    case INV_CMD_RELEASE:
    case INV_CMD_CANCEL: apply_on_hold(state, command); break;
    case INV_CMD_EXTEND:
        state->holds[command->hold].deadline_unix_ms = choice->deadline_unix_ms;
        break;
    case INV_CMD_RECEIVE: row->on_hand += command->lines[0].qty; break;
    case INV_CMD_ISSUE: row->on_hand -= command->lines[0].qty; break;
    case INV_CMD_ADJUST: row->on_hand += command->lines[0].qty; break;
    case INV_CMD_SET_ON_HAND: row->on_hand = command->lines[0].qty; break;
    case INV_CMD_SET_POLICY: row->safety_stock = command->safety_stock; break;
    }
}

void oracle_expire(oracle_state *state, uint32_t hold_index) {
    oracle_hold *hold = &state->holds[hold_index];
    EACH_PLACE(sku, location) {
        oracle_place *place = &hold->places[sku][location];
        give_back(state, place, sku, location, place->held, 0);
    }
    oracle_hold_settle(hold, INV_STATE_EXPIRED);
}

const char *oracle_problem(const oracle_state *state) {
    oracle_row sums[ORACLE_SKU_COUNT][ORACLE_LOCATION_COUNT];
    memset(sums, 0, sizeof sums);
    for (uint32_t i = 0; i < ORACLE_HOLD_COUNT_MAX; i++) {
        EACH_PLACE(sku, location) {
            sums[sku][location].held += state->holds[i].places[sku][location].held;
            sums[sku][location].allocated += state->holds[i].places[sku][location].allocated;
        }
    }
    EACH_PLACE(sku, location) {
        const oracle_row *row = &state->rows[sku][location];
        if (row->on_hand < 0) return "a row's on_hand is negative";
        if (row->held != sums[sku][location].held) return "a row's held is not the sum of holds";
        if (row->allocated != sums[sku][location].allocated)
            return "a row's allocated is not the sum of reservations";
    }
    return NULL;
}

static uint64_t hash_words(uint64_t hash, const void *bytes, size_t size) {
    const unsigned char *at = bytes;
    for (size_t i = 0; i + 4 <= size; i += 4) {
        uint32_t word;
        memcpy(&word, at + i, 4);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15ull;
        hash ^= hash >> 29;
    }
    return hash;
}

uint64_t oracle_hash(const oracle_state *state) {
    uint64_t hash = hash_words(0x243F6A8885A308D3ull, state->rows, sizeof state->rows);
    for (uint32_t i = 0; i < ORACLE_HOLD_COUNT_MAX; i++) {
        if (state->holds[i].state == INV_STATE_NONE) continue;
        hash = hash_words(hash ^ i, &state->holds[i], sizeof state->holds[i]);
    }
    return hash;
}

typedef struct text_sink {
    char *out;
    size_t bytes;
    size_t used;
    unsigned count;
} text_sink;

__attribute__((format(printf, 2, 3))) static void put(text_sink *sink, const char *format, ...) {
    if (sink->count++ >= 6 || sink->used >= sink->bytes) return;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(sink->out + sink->used, sink->bytes - sink->used, format, arguments);
    va_end(arguments);
    if (length > 0) sink->used += (size_t)length;
}

static void put_hold(text_sink *sink, uint32_t i, const oracle_hold *want, const oracle_hold *got) {
    if (memcmp(want, got, sizeof *want) == 0) return;
    put(sink, "hold %u: state %" PRIu64 " is %" PRIu64 ", deadline %" PRIu64 " is %" PRIu64 "; ", i,
        want->state, got->state, want->deadline_unix_ms, got->deadline_unix_ms);
    EACH_PLACE(sku, location) {
        const oracle_place *a = &want->places[sku][location];
        const oracle_place *b = &got->places[sku][location];
        if (memcmp(a, b, sizeof *a) == 0) continue;
        put(sink, "hold %u at %u/%u held %d is %d, allocated %d is %d, shipped %d is %d; ", i, sku,
            location, a->held, b->held, a->allocated, b->allocated, a->shipped, b->shipped);
    }
}

void oracle_difference(const oracle_state *expected, const oracle_state *found, char *out,
                       size_t out_bytes) {
    text_sink sink = {out, out_bytes, 0, 0};
    out[0] = '\0';
    EACH_PLACE(sku, location) {
        const oracle_row *a = &expected->rows[sku][location];
        const oracle_row *b = &found->rows[sku][location];
        if (memcmp(a, b, sizeof *a) == 0) continue;
        put(&sink,
            "row %u/%u: on_hand %" PRId64 " is %" PRId64 ", held %" PRId64 " is %" PRId64
            ", allocated %" PRId64 " is %" PRId64 ", safety %" PRId64 " is %" PRId64 "; ",
            sku, location, a->on_hand, b->on_hand, a->held, b->held, a->allocated, b->allocated,
            a->safety_stock, b->safety_stock);
    }
    for (uint32_t i = 0; i < ORACLE_HOLD_COUNT_MAX; i++)
        put_hold(&sink, i, &expected->holds[i], &found->holds[i]);
    if (sink.count == 0) put(&sink, "no difference");
}

void oracle_describe(const oracle_command *command, char *out, size_t out_bytes) {
    static const char *const names[] = {"?",       "reserve", "commit", "ship",        "release",
                                        "cancel",  "extend",  "receive", "issue",      "adjust",
                                        "set_on_hand", "set_policy"};
    text_sink sink = {out, out_bytes, 0, 0};
    put(&sink, "%s%s%s%s", names[command->kind < 12 ? command->kind : 0],
        command->retry ? " (retry)" : "", command->partial ? " part" : "",
        command->keep_rest ? " keep_rest" : "");
    if (command->hold != ORACLE_NONE) put(&sink, " hold %u", command->hold);
    for (uint32_t i = 0; i < command->line_count && i < 3; i++)
        put(&sink, " %u/%d x %" PRId64, command->lines[i].sku, (int)command->lines[i].location,
            command->lines[i].qty);
    if (command->line_count > 3) put(&sink, " ... %u lines", command->line_count);
}
