/* SPDX-License-Identifier: Apache-2.0
 *
 * compare.c: store against model (compare.h).
 */
#include "compare.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct line_sums {
    int64_t held[MODEL_SKU_COUNT_MAX][MODEL_LOCATION_COUNT_MAX];
    int64_t allocated[MODEL_SKU_COUNT_MAX][MODEL_LOCATION_COUNT_MAX];
    int64_t shipped[MODEL_SKU_COUNT_MAX][MODEL_LOCATION_COUNT_MAX];
} line_sums;

static bool differs(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool differs(char *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, COMPARE_TEXT_BYTES, format, arguments);
    va_end(arguments);
    return false;
}

static bool same(char *text, const char *what, int64_t expected, int64_t actual) {
    if (expected == actual) return true;
    return differs(text, "%s: expected %" PRId64 ", got %" PRId64, what, expected, actual);
}

static uint32_t index_of(const uint32_t *numbers, uint32_t count, uint32_t number) {
    for (uint32_t i = 0; i < count; i++)
        if (numbers[i] == number) return i;
    return MODEL_NONE;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static int64_t clamp(int64_t value) { return value > 0 ? value : 0; }

static bool compare_level(const model_row *row, const inv_stock_level *level, char *text) {
    int64_t reserved = row->held + row->allocated;
    return same(text, "level.known", row->known, level->known) &&
           same(text, "level.on_hand", row->on_hand, level->on_hand) &&
           same(text, "level.held", row->held, level->held) &&
           same(text, "level.allocated", row->allocated, level->allocated) &&
           same(text, "level.reserved", reserved, level->reserved) &&
           same(text, "level.unsellable", 0, level->unsellable) &&
           same(text, "level.available", clamp(row->on_hand - reserved), level->available) &&
           same(text, "level.available_to_promise", model_promise(row, false),
                level->available_to_promise) &&
           same(text, "level.safety_stock", row->safety_stock, level->safety_stock) &&
           same(text, "level.short", clamp(reserved - row->on_hand), level->short_qty) &&
           same(text, "level.backordered", 0, level->backordered) &&
           same(text, "level.incoming", 0, level->incoming);
}

static bool compare_sku(gen *g, inv_store *store, uint32_t sku, char *text) {
    inv_line line;
    memset(&line, 0, sizeof line);
    line.sku.bytes = g->sku_text[sku];
    line.sku.length = g->sku_text_bytes[sku];
    line.location_number = INV_LOCATION_NONE;
    inv_stock_level levels[MODEL_LOCATION_COUNT_MAX], total;
    uint32_t count = 0;
    memset(levels, 0, sizeof levels);
    memset(&total, 0, sizeof total);
    inv_result result = inv_store_availability_sku(store, gen_seller(g, sku), &line, levels,
                                                   MODEL_LOCATION_COUNT_MAX, &count, &total);
    const model *m = g->m;
    if (!m->sku_known[sku]) return same(text, "unknown sku", INV_UNKNOWN_SKU, (int)result);
    if (!same(text, "availability_sku", INV_OK, (int)result)) return false;
    uint32_t known = 0;
    int64_t on_hand = 0, promise = 0, available = 0, short_qty = 0;
    for (uint32_t i = 0; i < m->location_count; i++) {
        const model_row *row = &m->rows[sku][i];
        int64_t free_units = row->on_hand - row->held - row->allocated;
        if (!row->known) continue;
        known++;
        on_hand += row->on_hand;
        promise += model_promise(row, false);
        available += clamp(free_units);
        short_qty += clamp(-free_units);
    }
    for (uint32_t i = 0; i < count && i < MODEL_LOCATION_COUNT_MAX; i++) {
        uint32_t location =
            index_of(g->location_number, m->location_count, levels[i].location);
        if (location == MODEL_NONE) return differs(text, "a row at an unknown location");
        if (!compare_level(&m->rows[sku][location], &levels[i], text)) return false;
    }
    return same(text, "rows of the sku", known, count) &&
           same(text, "total.on_hand", on_hand, total.on_hand) &&
           same(text, "total.available_to_promise", promise, total.available_to_promise) &&
           same(text, "total.available", available, total.available) &&
           same(text, "total.short", short_qty, total.short_qty);
}

static bool compare_one_row(gen *g, inv_store *store, uint32_t sku, uint32_t location, char *text) {
    inv_line line;
    memset(&line, 0, sizeof line);
    line.sku.bytes = g->sku_text[sku];
    line.sku.length = g->sku_text_bytes[sku];
    line.location.bytes = g->location_text[location];
    line.location.length = g->location_text_bytes[location];
    inv_stock_level level;
    memset(&level, 0, sizeof level);
    inv_result result = inv_store_availability(store, gen_seller(g, sku), &line, &level);
    if (!g->m->sku_known[sku]) return same(text, "unknown sku", INV_UNKNOWN_SKU, (int)result);
    if (!same(text, "availability", INV_OK, (int)result)) return false;
    model_row row = g->m->rows[sku][location];
    if (!row.known) row.safety_stock = level.safety_stock; /* a policy for rows to come: either */
    return compare_level(&row, &level, text) &&
           same(text, "level.now", (int64_t)g->m->now_ms, (int64_t)level.now_unix_ms);
}

bool compare_rows(gen *g, inv_store *store, char *text) {
    char inner[COMPARE_TEXT_BYTES - 32];
    char whole[COMPARE_TEXT_BYTES];
    for (uint32_t i = 0; i < g->options.sku_count; i++) {
        bool equal = compare_sku(g, store, i, whole);
        for (uint32_t j = 0; equal && j < g->options.location_count; j++)
            equal = compare_one_row(g, store, i, j, whole);
        if (equal) continue;
        memcpy(inner, whole, sizeof inner);
        inner[sizeof inner - 1] = 0;
        return differs(text, "sku %u: %s", i, inner);
    }
    return true;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static bool sum_actual(const gen *g, const inv_reply *actual, line_sums *sums, char *text) {
    for (uint32_t i = 0; i < actual->line_count; i++) {
        const inv_reply_line *line = &actual->lines[i];
        uint32_t sku = index_of(g->sku_number, g->options.sku_count, line->sku);
        uint32_t location =
            index_of(g->location_number, g->options.location_count, line->location);
        if (sku == MODEL_NONE || location == MODEL_NONE)
            return differs(text, "line %u names sku %u, location %u", i, line->sku,
                           line->location);
        sums->held[sku][location] += line->held;
        sums->allocated[sku][location] += line->allocated;
        sums->shipped[sku][location] += line->shipped;
        if (line->backordered != 0) return differs(text, "line %u is backordered", i);
    }
    return true;
}

static bool compare_lines(const gen *g, const model_reply *expected, const inv_reply *actual,
                          char *text) {
    static _Thread_local line_sums a, b;
    size_t bytes = g->options.sku_count * sizeof a.held[0];
    memset(a.held, 0, bytes), memset(a.allocated, 0, bytes), memset(a.shipped, 0, bytes);
    memset(b.held, 0, bytes), memset(b.allocated, 0, bytes), memset(b.shipped, 0, bytes);
    if (actual->line_count > actual->lines_max) return differs(text, "more lines than room");
    if (!sum_actual(g, actual, &b, text)) return false;
    for (uint32_t i = 0; i < expected->line_count; i++) {
        const model_place *place = &expected->lines[i];
        a.held[place->sku][place->location] += place->held;
        a.allocated[place->sku][place->location] += place->allocated;
        a.shipped[place->sku][place->location] += place->shipped;
    }
    for (uint32_t i = 0; i < g->options.sku_count; i++) {
        for (uint32_t j = 0; j < g->options.location_count; j++) {
            if (a.held[i][j] == b.held[i][j] && a.allocated[i][j] == b.allocated[i][j] &&
                a.shipped[i][j] == b.shipped[i][j])
                continue;
            return differs(text,
                           "sku %u location %u: expected held %" PRId64 " allocated %" PRId64
                           " shipped %" PRId64 ", got %" PRId64 " %" PRId64 " %" PRId64,
                           i, j, a.held[i][j], a.allocated[i][j], a.shipped[i][j], b.held[i][j],
                           b.allocated[i][j], b.shipped[i][j]);
        }
    }
    return true;
}

/* Each short line once, by index of the first equal line, with what was asked and what is there. */
static bool compare_short(const gen *g, const model_reply *expected, const inv_reply *actual,
                          char *text) {
    if (!same(text, "short lines", expected->short_count, actual->line_count)) return false;
    for (uint32_t i = 0; i < expected->short_count; i++) {
        const model_line *line = &expected->short_lines[i];
        uint32_t j = 0;
        while (j < actual->line_count && actual->lines[j].line_index != line->line_index) j++;
        if (j == actual->line_count)
            return differs(text, "line %u of the request is short, the answer does not say so",
                           line->line_index);
        const inv_reply_line *found = &actual->lines[j];
        if (!same(text, "short qty", line->qty, found->qty) ||
            !same(text, "short available_to_promise", expected->short_available[i],
                  found->available_to_promise))
            return false;
        for (uint32_t k = 0; k < found->alternative_count; k++) {
            uint32_t location = index_of(g->location_number, g->options.location_count,
                                         found->alternatives[k]);
            if (location == MODEL_NONE || location == line->location)
                return differs(text, "alternative %u is no other location", k);
        }
    }
    return true;
}

/* ---- replies --------------------------------------------------------------------------------- */

static bool promise_stands(uint8_t state) {
    return state == INV_STATE_HELD || state == INV_STATE_ALLOCATED || state == INV_STATE_SHIPPED;
}

static bool compare_state(const model_reply *expected, const inv_reply *actual, char *text) {
    if (!same(text, "state", expected->state, actual->state)) return false;
    if (!same(text, "expires_at", (int64_t)expected->expires_at_ms,
              (int64_t)actual->expires_at_unix_ms))
        return false;
    if (promise_stands(expected->state)) return true;
    return same(text, "ended_at", (int64_t)expected->ended_at_ms,
                (int64_t)actual->ended_at_unix_ms);
}

bool compare_reply(const gen *g, const model_command *command, const model_reply *expected,
                   const inv_reply *actual, char *text) {
    if (expected->code != actual->code &&
        (expected->code_other == 0 || expected->code_other != actual->code))
        return differs(text, "code: expected %s, got %s (field %s, figure %" PRId64 ")",
                       inv_result_name(expected->code), inv_result_name(actual->code),
                       actual->field == NULL ? "-" : actual->field, actual->figure);
    if (actual->code != INV_BAD_REQUEST &&
        !same(text, "now", (int64_t)g->m->now_ms, (int64_t)actual->now_unix_ms))
        return false;
    bool success = actual->code == INV_OK || actual->code == INV_REPLAYED;
    if (expected->has_state && !compare_state(expected, actual, text)) return false;
    if (expected->has_level && !compare_level(&expected->level, &actual->level, text))
        return false;
    if (actual->code == INV_CAS_FAILED)
        return same(text, "figure", expected->figure, actual->figure);
    if (actual->code == INV_IDEMPOTENCY_MISMATCH && actual->mismatch == 0)
        return differs(text, "a mismatch that names no field");
    if (!same(text, "reheld", expected->reheld, actual->reheld)) return false;
    /* Replays of what has ended tell the state; their lines are in the log. */
    bool ended = expected->state == INV_STATE_SHIPPED && actual->code == INV_REPLAYED;
    if (success && expected->has_state && promise_stands(expected->state) && !ended)
        return compare_lines(g, expected, actual, text);
    bool short_lines = actual->code == INV_INSUFFICIENT || actual->code == INV_OVER_COMMIT;
    if (short_lines && expected->short_count > 0)
        return compare_short(g, expected, actual, text);
    (void)command;
    return true;
}

bool compare_holds(gen *g, inv_store *store, uint32_t id_first, uint32_t id_end, char *text) {
    static _Thread_local inv_reply_line lines[MODEL_PLACE_COUNT_MAX];
    static _Thread_local model_reply expected;
    char spelled[INV_ID_BYTES_MAX];
    for (uint32_t id = id_first; id < id_end; id++) {
        inv_reply reply;
        memset(&reply, 0, sizeof reply);
        reply.lines = lines;
        reply.lines_max = MODEL_PLACE_COUNT_MAX;
        bool is_uuid;
        inv_text key = {spelled, gen_spell_id(g, id, spelled, &is_uuid)};
        inv_result result =
            inv_store_reservation(store, gen_seller(g, id), key, is_uuid, &reply);
        uint8_t state = model_state(g->m, id);
        inv_result wanted = state == INV_STATE_NONE ? INV_UNKNOWN_RESERVATION : INV_OK;
        if (result != wanted || reply.code != (int)wanted)
            return differs(text, "id %u: expected %s, got %s and %s", id, inv_result_name(wanted),
                           inv_result_name(result), inv_result_name(reply.code));
        if (state == INV_STATE_NONE) continue;
        const model_hold *hold = &g->m->holds[id];
        expected.state = state;
        expected.expires_at_ms = state == INV_STATE_HELD ? hold->deadline_ms : 0;
        expected.ended_at_ms = hold->ended_at_ms;
        expected.line_count = hold->place_count;
        if (hold->place_count > 0)
            memcpy(expected.lines, hold->places, hold->place_count * sizeof *hold->places);
        char inner[COMPARE_TEXT_BYTES];
        bool equal = compare_state(&expected, &reply, inner);
        if (equal && promise_stands(state) && state != INV_STATE_SHIPPED)
            equal = compare_lines(g, &expected, &reply, inner);
        if (!equal) return differs(text, "id %u: %.200s", id, inner);
    }
    return true;
}

bool compare_check(const gen *g, inv_store *store, char *text) {
    inv_check_report report;
    memset(&report, 0, sizeof report);
    inv_result result = inv_store_check(store, &report);
    if (result != INV_OK || !report.ok)
        return differs(text, "check: %s, %" PRIu64 " problems, first: %.150s",
                       inv_result_name(result), report.problem_count, report.problem);
    int64_t on_hand = 0, held = 0, allocated = 0;
    uint64_t rows = 0, skus = 0;
    for (uint32_t i = 0; i < g->options.sku_count; i++) {
        skus += g->m->sku_known[i];
        for (uint32_t j = 0; j < g->options.location_count; j++) {
            const model_row *row = &g->m->rows[i][j];
            rows += row->known;
            on_hand += row->on_hand;
            held += row->held;
            allocated += row->allocated;
        }
    }
    return same(text, "check.skus", (int64_t)skus, (int64_t)report.skus) &&
           same(text, "check.rows", (int64_t)rows, (int64_t)report.rows) &&
           same(text, "check.timers", g->m->live_count, (int64_t)report.timers) &&
           same(text, "check.on_hand", on_hand, report.on_hand) &&
           same(text, "check.held", held, report.held) &&
           same(text, "check.allocated", allocated, report.allocated);
}
