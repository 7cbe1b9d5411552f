/* SPDX-License-Identifier: Apache-2.0
 *
 * model.c: the naive oracle of model.h. Every rule stands once, in the words of SEMANTICS.md, with
 * the cheapest data structure that can express it: this file is meant to be slow and right.
 */
#include "model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TTL_MS_DEFAULT (10ull * 60 * 1000)

static void *model_grow(void *array, uint32_t *capacity, uint32_t wanted, size_t item_bytes) {
    if (wanted <= *capacity) return array;
    uint32_t capacity_new = *capacity == 0 ? 256 : *capacity;
    while (capacity_new < wanted) capacity_new *= 2;
    uint8_t *bytes = realloc(array, capacity_new * item_bytes);
    if (bytes == NULL) abort();
    memset(bytes + *capacity * item_bytes, 0, (capacity_new - *capacity) * item_bytes);
    *capacity = capacity_new;
    return bytes;
}

static void *model_copy(const void *source, size_t bytes) {
    void *copy = malloc(bytes == 0 ? 1 : bytes);
    if (copy == NULL) abort();
    return memcpy(copy, source, bytes);
}

void model_init(model *m, uint32_t sku_count, uint32_t location_count, uint64_t now_ms) {
    memset(m, 0, sizeof *m);
    if (sku_count > MODEL_SKU_COUNT_MAX || location_count > MODEL_LOCATION_COUNT_MAX) abort();
    m->sku_count = sku_count;
    m->location_count = location_count;
    m->now_ms = now_ms;
    for (uint32_t i = 0; i < location_count; i++) m->location_rank[i] = MODEL_NONE;
}

void model_clear(model *m) {
    for (uint32_t i = 0; i < m->hold_count; i++) {
        free(m->holds[i].body);
        free(m->holds[i].places);
    }
    for (uint32_t i = 0; i < m->op_count; i++) free(m->ops[i].body);
    free(m->holds);
    free(m->ops);
    free(m->live);
    memset(m, 0, sizeof *m);
}

static model_hold *model_hold_at(model *m, uint32_t id) {
    if (id >= m->hold_count) {
        m->holds = model_grow(m->holds, &m->hold_capacity, id + 1, sizeof *m->holds);
        m->hold_count = id + 1;
    }
    return &m->holds[id];
}

static model_op *model_op_at(model *m, uint32_t op_id) {
    if (op_id >= m->op_count) {
        m->ops = model_grow(m->ops, &m->op_capacity, op_id + 1, sizeof *m->ops);
        m->op_count = op_id + 1;
    }
    return &m->ops[op_id];
}

model_place model_sum(const model_hold *hold) {
    model_place sum;
    memset(&sum, 0, sizeof sum);
    for (uint32_t i = 0; i < hold->place_count; i++) {
        sum.qty += hold->places[i].qty;
        sum.held += hold->places[i].held;
        sum.allocated += hold->places[i].allocated;
        sum.shipped += hold->places[i].shipped;
    }
    return sum;
}

static uint8_t hold_state(const model_hold *hold) {
    if (!hold->known) return INV_STATE_NONE;
    model_place sum = model_sum(hold);
    if (sum.held > 0) return INV_STATE_HELD;
    if (sum.allocated > 0) return INV_STATE_ALLOCATED;
    if (sum.shipped > 0) return INV_STATE_SHIPPED;
    return hold->ended_as;
}

uint8_t model_state(const model *m, uint32_t id) {
    return id < m->hold_count ? hold_state(&m->holds[id]) : (uint8_t)INV_STATE_NONE;
}

int64_t model_promise(const model_row *row, bool use_safety_stock) {
    int64_t available = row->on_hand - row->held - row->allocated;
    if (!use_safety_stock) available -= row->safety_stock;
    return row->known && available > 0 ? available : 0;
}

static model_row *model_row_create(model *m, uint32_t sku, uint32_t location) {
    model_row *row = &m->rows[sku][location];
    m->sku_known[sku] = true;
    if (m->location_rank[location] == MODEL_NONE)
        m->location_rank[location] = m->location_rank_next++;
    if (!row->known) {
        row->known = true;
        row->safety_stock = m->sku_safety[sku];
    }
    return row;
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* By SKU, located lines before free ones, by location: the order they are served in. */
static bool line_before(const model_line *a, const model_line *b) {
    if (a->sku != b->sku) return a->sku < b->sku;
    if (a->location == b->location) return a->line_index < b->line_index;
    if (a->location == MODEL_NONE) return false;
    if (b->location == MODEL_NONE) return true;
    return a->location < b->location;
}

static uint32_t lines_merge(const model_command *command, model_line *out) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < command->line_count; i++) {
        model_line line = command->lines[i];
        line.line_index = i;
        uint32_t j = 0;
        while (j < count && (out[j].sku != line.sku || out[j].location != line.location)) j++;
        if (j < count) {
            out[j].qty += line.qty;
        } else {
            out[count++] = line;
        }
    }
    for (uint32_t i = 1; i < count; i++) {
        for (uint32_t j = i; j > 0 && line_before(&out[j], &out[j - 1]); j--) {
            model_line swapped = out[j];
            out[j] = out[j - 1];
            out[j - 1] = swapped;
        }
    }
    return count;
}

static bool lines_equal(const model_line *a, uint32_t a_count, const model_line *b,
                        uint32_t b_count) {
    if (a_count != b_count) return false;
    for (uint32_t i = 0; i < a_count; i++) {
        if (a[i].sku != b[i].sku || a[i].location != b[i].location || a[i].qty != b[i].qty)
            return false;
    }
    return true;
}

/* Locations of a SKU in order of first use in the store; those never used come last. */
static uint32_t locations_in_order(const model *m, uint32_t *out) {
    for (uint32_t i = 0; i < m->location_count; i++) {
        uint32_t j = i;
        while (j > 0 && m->location_rank[out[j - 1]] > m->location_rank[i]) {
            out[j] = out[j - 1];
            j--;
        }
        out[j] = i;
    }
    return m->location_count;
}

/* ---- live holds ------------------------------------------------------------------------------ */

/* Called after every change of a hold: keeps the list of ids with held units. */
static void live_update(model *m, uint32_t id) {
    model_hold *hold = &m->holds[id];
    bool live = model_sum(hold).held > 0;
    bool listed = hold->live_index != MODEL_NONE;
    if (live && !listed) {
        m->live = model_grow(m->live, &m->live_capacity, m->live_count + 1, sizeof *m->live);
        hold->live_index = m->live_count;
        m->live[m->live_count++] = id;
    } else if (!live && listed) {
        uint32_t last = m->live[--m->live_count];
        m->live[hold->live_index] = last;
        m->holds[last].live_index = hold->live_index;
        hold->live_index = MODEL_NONE;
    }
}

static void hold_end(model *m, model_hold *hold, inv_state ended_as, uint8_t ended_by) {
    model_place sum = model_sum(hold);
    if (sum.held + sum.allocated > 0) return;
    hold->ended_as = (uint8_t)ended_as;
    hold->ended_by = ended_by;
    hold->ended_at_ms = m->now_ms;
}

void model_advance(model *m, uint64_t now_ms) {
    if (now_ms < m->now_ms) abort();
    m->now_ms = now_ms;
    for (uint32_t i = 0; i < m->live_count;) {
        uint32_t id = m->live[i];
        model_hold *hold = &m->holds[id];
        if (hold->deadline_ms > now_ms) {
            i++;
            continue;
        }
        for (uint32_t j = 0; j < hold->place_count; j++) {
            model_place *place = &hold->places[j];
            m->rows[place->sku][place->location].held -= place->held;
            place->lapsed = place->held;
            place->held = 0;
        }
        hold_end(m, hold, INV_STATE_EXPIRED, 0);
        if (model_sum(hold).allocated == 0) hold->ended_at_ms = hold->deadline_ms;
        m->expired_count++;
        live_update(m, id); /* takes it out of the list: the same i again */
    }
}

/* ---- planning -------------------------------------------------------------------------------- */

typedef struct model_plan {
    uint32_t place_count;
    model_place places[MODEL_PLACE_COUNT_MAX];
    model_row rows[MODEL_SKU_COUNT_MAX][MODEL_LOCATION_COUNT_MAX]; /* scratch copy */
} model_plan;

static void plan_take(const model_line *line, uint32_t location, int64_t qty, model_plan *plan) {
    if (plan->place_count == MODEL_PLACE_COUNT_MAX) abort();
    model_place *place = &plan->places[plan->place_count++];
    memset(place, 0, sizeof *place);
    place->sku = line->sku;
    place->location = location;
    place->line_index = line->line_index;
    place->chosen = line->location == MODEL_NONE;
    place->qty = qty;
    place->held = qty;
    plan->rows[line->sku][location].held += qty;
}

/* Serves one summed line from the scratch rows; what could be had goes to *out_available. */
static bool plan_line(const model *m, model_plan *plan, const model_line *line, bool use_safety,
                      int64_t *out_available) {
    model_row *rows = plan->rows[line->sku];
    if (line->location != MODEL_NONE) {
        *out_available = model_promise(&rows[line->location], use_safety);
        /* Served or short: what it asks for is not there for the free lines that come after it. */
        plan_take(line, line->location, line->qty, plan);
        return *out_available >= line->qty;
    }
    uint32_t order[MODEL_LOCATION_COUNT_MAX];
    uint32_t count = locations_in_order(m, order);
    *out_available = 0;
    for (uint32_t i = 0; i < count; i++)
        *out_available += model_promise(&rows[order[i]], use_safety);
    if (*out_available < line->qty) return false;
    int64_t missing = line->qty;
    for (uint32_t i = 0; i < count && missing > 0; i++) {
        int64_t promise = model_promise(&rows[order[i]], use_safety);
        int64_t qty = promise < missing ? promise : missing;
        if (qty > 0) plan_take(line, order[i], qty, plan);
        missing -= qty;
    }
    return true;
}

/* All or nothing: the plan, or every short line with what is available for it. */
static bool plan_lines(const model *m, const model_line *lines, uint32_t count, bool use_safety,
                       model_plan *plan, model_reply *out) {
    plan->place_count = 0;
    memcpy(plan->rows, m->rows, m->sku_count * sizeof plan->rows[0]);
    out->short_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        int64_t available;
        if (plan_line(m, plan, &lines[i], use_safety, &available)) continue;
        out->short_available[out->short_count] = available;
        out->short_lines[out->short_count++] = lines[i];
    }
    return out->short_count == 0;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void answer_hold(const model_hold *hold, int code, model_reply *out) {
    out->code = code;
    out->has_state = true;
    out->state = hold_state(hold);
    out->expires_at_ms = out->state == INV_STATE_HELD ? hold->deadline_ms : 0;
    out->ended_at_ms = hold->ended_at_ms;
    out->line_count = hold->place_count;
    if (hold->place_count > 0)
        memcpy(out->lines, hold->places, hold->place_count * sizeof *hold->places);
}

static int answer_ended(const model_hold *hold) {
    if (hold->ended_as == INV_STATE_RELEASED) return INV_ALREADY_RELEASED;
    return hold->ended_as == INV_STATE_CANCELLED ? INV_ALREADY_CANCELLED : INV_EXPIRED;
}

/* Places in the order of the request; those of one free line in order of location. */
static void places_order(const model *m, model_place *places, uint32_t count) {
    for (uint32_t i = 1; i < count; i++) {
        for (uint32_t j = i; j > 0; j--) {
            const model_place *a = &places[j - 1], *b = &places[j];
            if (a->line_index < b->line_index ||
                (a->line_index == b->line_index &&
                 m->location_rank[a->location] <= m->location_rank[b->location]))
                break;
            model_place swapped = places[j];
            places[j] = places[j - 1];
            places[j - 1] = swapped;
        }
    }
}

/* ---- reserve --------------------------------------------------------------------------------- */

static void judge_reserve(model *m, const model_command *command, model_reply *out) {
    model_hold *hold = model_hold_at(m, command->id);
    model_line lines[MODEL_LINE_COUNT_MAX];
    uint32_t count = lines_merge(command, lines);
    uint64_t ttl_ms = command->ttl_ms == 0 ? TTL_MS_DEFAULT : command->ttl_ms;
    if (hold->known && hold->tombstone) {
        answer_hold(hold, INV_ALREADY_RELEASED, out);
        return;
    }
    if (hold->known) {
        bool same = lines_equal(lines, count, hold->body, hold->body_count) &&
                    hold->ttl_ms == ttl_ms && hold->account == command->account &&
                    hold->use_safety_stock == command->use_safety_stock;
        answer_hold(hold, same ? INV_REPLAYED : INV_IDEMPOTENCY_MISMATCH, out);
        return;
    }
    static _Thread_local model_plan plan;
    if (!plan_lines(m, lines, count, command->use_safety_stock, &plan, out)) {
        out->code = INV_INSUFFICIENT;
        return;
    }
    hold->known = true;
    hold->account = command->account;
    hold->use_safety_stock = command->use_safety_stock;
    hold->ttl_ms = ttl_ms;
    hold->deadline_ms = m->now_ms + ttl_ms;
    hold->live_index = MODEL_NONE;
    hold->body_count = count;
    hold->body = model_copy(lines, count * sizeof *lines);
    hold->place_count = plan.place_count;
    hold->places = model_copy(plan.places, plan.place_count * sizeof *plan.places);
    places_order(m, hold->places, hold->place_count);
    for (uint32_t i = 0; i < hold->place_count; i++)
        m->rows[hold->places[i].sku][hold->places[i].location].held += hold->places[i].held;
    live_update(m, command->id);
    answer_hold(hold, INV_OK, out);
}

/* ---- later calls by id ----------------------------------------------------------------------- */

/* Is all of every line committed (or even shipped)? */
static bool hold_is_whole(const model_hold *hold) {
    for (uint32_t i = 0; i < hold->place_count; i++)
        if (hold->places[i].allocated + hold->places[i].shipped != hold->places[i].qty)
            return false;
    return true;
}

/* INV_OK = there is something to do, else the answer (SEMANTICS section 2, "the same again", "the
 * wrong order"): a whole call that finds exactly its own result is a replay. */
static int judge_order(const model_hold *hold, uint8_t kind) {
    model_place sum = model_sum(hold);
    bool open = sum.held > 0;
    if (kind == INV_CMD_SHIP || kind == INV_CMD_CANCEL) open = open || sum.allocated > 0;
    if (open) return INV_OK;
    if (sum.allocated > 0)
        return kind == INV_CMD_COMMIT && (hold->committed_whole || hold_is_whole(hold))
                   ? INV_REPLAYED
                   : INV_ALREADY_COMMITTED;
    if (sum.shipped > 0) {
        bool own = kind == INV_CMD_SHIP || (kind == INV_CMD_RELEASE && hold->ended_by == kind) ||
                   (kind == INV_CMD_CANCEL && hold->ended_by == kind);
        return own ? INV_REPLAYED : INV_ALREADY_SHIPPED;
    }
    if (kind == INV_CMD_RELEASE && hold->ended_as == INV_STATE_RELEASED) return INV_REPLAYED;
    if (kind == INV_CMD_CANCEL && hold->ended_as == INV_STATE_CANCELLED) return INV_REPLAYED;
    return answer_ended(hold);
}

/* The answer of a call that comes too late, whatever it is. */
static int order_code(const model_hold *hold) {
    model_place sum = model_sum(hold);
    if (sum.allocated > 0) return INV_ALREADY_COMMITTED;
    return sum.shipped > 0 ? INV_ALREADY_SHIPPED : answer_ended(hold);
}

/* A partial call without an op_id that finds nothing open: exactly what was committed or shipped is
 * its own result. (A shipped one may have forgotten its lines; either answer is right then.) */
static void judge_own_part(const model_hold *hold, const model_command *command,
                           model_reply *out) {
    bool commit = command->kind == INV_CMD_COMMIT;
    int64_t open[MODEL_SKU_COUNT_MAX] = {0};
    model_place sum = model_sum(hold);
    if (command->op_id != MODEL_NONE || (!commit && command->kind != INV_CMD_SHIP)) return;
    if (sum.held > 0 || (commit ? sum.allocated == 0 : sum.allocated > 0 || sum.shipped == 0))
        return;
    for (uint32_t i = 0; i < hold->place_count; i++)
        open[hold->places[i].sku] += commit ? hold->places[i].allocated : hold->places[i].shipped;
    for (uint32_t i = 0; i < command->line_count; i++)
        open[command->lines[i].sku] -= command->lines[i].qty;
    for (uint32_t i = 0; i < MODEL_SKU_COUNT_MAX; i++)
        if (open[i] != 0) return;
    if (!commit) out->code_other = out->code;
    out->code = INV_REPLAYED;
}

/* Moves up to qty units of one place as the kind says; returns how many. */
static int64_t place_move(model *m, model_place *place, uint8_t kind, int64_t qty) {
    model_row *row = &m->rows[place->sku][place->location];
    bool with_allocated = kind == INV_CMD_SHIP || kind == INV_CMD_CANCEL;
    /* A shipment takes what was committed for it first; a cancellation what is only held. */
    int64_t from_allocated = 0, from_held;
    if (kind == INV_CMD_SHIP) {
        from_allocated = place->allocated < qty ? place->allocated : qty;
        from_held = place->held < qty - from_allocated ? place->held : qty - from_allocated;
    } else {
        from_held = place->held < qty ? place->held : qty;
        if (with_allocated)
            from_allocated =
                place->allocated < qty - from_held ? place->allocated : qty - from_held;
    }
    place->held -= from_held;
    place->allocated -= from_allocated;
    row->held -= from_held;
    row->allocated -= from_allocated;
    if (kind == INV_CMD_COMMIT) {
        place->allocated += from_held;
        row->allocated += from_held;
    } else if (kind == INV_CMD_SHIP) {
        place->shipped += from_held + from_allocated;
        row->on_hand -= from_held + from_allocated;
        m->received[place->sku] -= from_held + from_allocated;
    }
    return from_held + from_allocated;
}

static bool place_matches(const model_place *place, const model_line *line) {
    return place->sku == line->sku &&
           (line->location == MODEL_NONE || line->location == place->location);
}

/* Takes the named lines from a hold, equal ones as one, those with a location first, each from the
 * lines of the reservation in their order; false when more is asked than remains (then undone by
 * the caller). */
static bool lines_move(model *m, model_hold *hold, const model_command *command,
                       model_reply *out) {
    model_line lines[MODEL_LINE_COUNT_MAX];
    uint32_t count = lines_merge(command, lines);
    for (uint32_t i = 0; i < count; i++) {
        int64_t missing = lines[i].qty;
        for (uint32_t j = 0; j < hold->place_count && missing > 0; j++) {
            if (place_matches(&hold->places[j], &lines[i]))
                missing -= place_move(m, &hold->places[j], command->kind, missing);
        }
        if (missing == 0) continue;
        out->short_lines[out->short_count] = lines[i];
        out->short_available[out->short_count++] = lines[i].qty - missing;
    }
    return out->short_count == 0;
}

static void all_move(model *m, model_hold *hold, uint8_t kind) {
    for (uint32_t i = 0; i < hold->place_count; i++)
        place_move(m, &hold->places[i], kind, INT64_MAX);
}

static bool rows_broken(const model *m, const model_hold *hold) {
    for (uint32_t i = 0; i < hold->place_count; i++)
        if (m->rows[hold->places[i].sku][hold->places[i].location].on_hand < 0) return true;
    return false;
}

/* The change itself; on a refusal everything is put back as it was. */
static int judge_move(model *m, model_hold *hold, const model_command *command,
                      model_reply *out) {
    size_t places_bytes = hold->place_count * sizeof *hold->places;
    model_place *places = model_copy(hold->places, places_bytes);
    static _Thread_local model_row rows[MODEL_SKU_COUNT_MAX][MODEL_LOCATION_COUNT_MAX];
    int64_t received[MODEL_SKU_COUNT_MAX];
    size_t rows_bytes = m->sku_count * sizeof rows[0];
    memcpy(rows, m->rows, rows_bytes);
    memcpy(received, m->received, sizeof received);
    int code = INV_OK;
    if (command->partial) {
        if (!lines_move(m, hold, command, out)) code = INV_OVER_COMMIT;
    } else {
        all_move(m, hold, command->kind);
    }
    if (code == INV_OK && command->kind == INV_CMD_SHIP && rows_broken(m, hold))
        code = INV_INSUFFICIENT;
    if (code != INV_OK) {
        memcpy(hold->places, places, places_bytes);
        memcpy(m->rows, rows, rows_bytes);
        memcpy(m->received, received, sizeof received);
    } else if (command->kind == INV_CMD_COMMIT && command->partial && !command->keep_rest) {
        all_move(m, hold, INV_CMD_RELEASE);
    }
    free(places);
    return code;
}

/* The same units at the same places, committed at once, if they are still there: a new promise, so
 * safety stock counts again. */
static void judge_rehold(model *m, model_hold *hold, model_reply *out) {
    for (uint32_t i = 0; i < hold->place_count; i++) {
        const model_place *place = &hold->places[i];
        int64_t wanted = 0;
        for (uint32_t j = 0; j < hold->place_count; j++)
            if (hold->places[j].sku == place->sku && hold->places[j].location == place->location)
                wanted += hold->places[j].lapsed;
        if (wanted > model_promise(&m->rows[place->sku][place->location], false)) {
            out->code = INV_INSUFFICIENT;
            return;
        }
    }
    for (uint32_t i = 0; i < hold->place_count; i++) {
        model_place *place = &hold->places[i];
        m->rows[place->sku][place->location].allocated += place->lapsed;
        place->allocated = place->lapsed;
        place->lapsed = 0;
    }
    hold->ended_at_ms = 0;
    hold->committed_whole = true;
    answer_hold(hold, INV_OK, out);
    out->reheld = true;
}

static void judge_extend(model *m, const model_command *command, model_hold *hold,
                         model_reply *out) {
    uint64_t deadline_ms = m->now_ms + command->ttl_ms;
    if (deadline_ms > hold->deadline_ms || command->shorten) hold->deadline_ms = deadline_ms;
    answer_hold(hold, INV_OK, out);
}

static void judge_by_id(model *m, const model_command *command, model_reply *out) {
    model_hold *hold = model_hold_at(m, command->id);
    if (!hold->known && command->kind == INV_CMD_RELEASE && command->tombstone) {
        hold->known = hold->tombstone = true;
        hold->live_index = MODEL_NONE;
        hold->ended_as = INV_STATE_RELEASED;
        hold->ended_at_ms = m->now_ms;
        answer_hold(hold, INV_OK, out);
        return;
    }
    if (!hold->known) {
        out->code = INV_UNKNOWN_RESERVATION;
        return;
    }
    int code = judge_order(hold, command->kind);
    if (command->partial && code != INV_OK) {
        answer_hold(hold, code == INV_REPLAYED ? order_code(hold) : code, out);
        judge_own_part(hold, command, out);
        return;
    }
    if (code == INV_EXPIRED && command->kind == INV_CMD_COMMIT && command->rehold) {
        judge_rehold(m, hold, out);
        return;
    }
    if (code == INV_OK && command->kind == INV_CMD_EXTEND) {
        judge_extend(m, command, hold, out);
        return;
    }
    if (code == INV_OK) {
        code = judge_move(m, hold, command, out);
        if (code == INV_OK && command->kind == INV_CMD_COMMIT && !command->partial)
            hold->committed_whole = true;
        bool cancelled = command->kind == INV_CMD_CANCEL;
        if (code == INV_OK)
            hold_end(m, hold, cancelled ? INV_STATE_CANCELLED : INV_STATE_RELEASED,
                     command->kind);
        live_update(m, command->id);
    }
    answer_hold(hold, code, out);
}

/* ---- stock changes --------------------------------------------------------------------------- */

static void answer_level(const model *m, const model_line *line, model_reply *out) {
    out->code = INV_OK;
    out->has_level = true;
    out->level = m->rows[line->sku][line->location];
}

static void judge_on_hand(model *m, const model_line *line, int64_t delta, model_reply *out) {
    int64_t on_hand = m->rows[line->sku][line->location].on_hand + delta;
    if (on_hand < 0 || on_hand > INV_QTY_MAX) {
        out->code = INV_QTY_OUT_OF_RANGE;
        return;
    }
    model_row_create(m, line->sku, line->location)->on_hand = on_hand;
    m->received[line->sku] += delta;
    answer_level(m, line, out);
}

static void judge_issue(model *m, const model_line *line, model_reply *out) {
    model_row *row = &m->rows[line->sku][line->location];
    if (!m->sku_known[line->sku]) {
        out->code = INV_UNKNOWN_SKU;
    } else if (model_promise(row, true) < line->qty) {
        out->code = INV_INSUFFICIENT;
        out->short_lines[0] = *line;
        out->short_available[0] = model_promise(row, true);
        out->short_count = 1;
    } else {
        judge_on_hand(m, line, -line->qty, out);
    }
}

static void judge_adjust(model *m, const model_line *line, bool strict, model_reply *out) {
    const model_row *row = &m->rows[line->sku][line->location];
    if (!m->sku_known[line->sku] && line->qty < 0) {
        out->code = INV_UNKNOWN_SKU;
    } else if (strict && line->qty < 0 && row->on_hand + line->qty >= 0 &&
               row->on_hand + line->qty < row->held + row->allocated) {
        out->code = INV_INSUFFICIENT;
    } else {
        judge_on_hand(m, line, line->qty, out);
    }
}

static void judge_count(model *m, const model_command *command, model_reply *out) {
    const model_line *line = &command->lines[0];
    const model_row *row = &m->rows[line->sku][line->location];
    if (command->if_on_hand != row->on_hand) {
        out->code = INV_CAS_FAILED;
        out->figure = row->on_hand;
        return;
    }
    judge_on_hand(m, line, line->qty - row->on_hand, out);
}

static void judge_policy(model *m, const model_command *command, model_reply *out) {
    const model_line *line = &command->lines[0];
    if (line->location != MODEL_NONE) {
        model_row_create(m, line->sku, line->location)->safety_stock = command->safety_stock;
        answer_level(m, line, out);
        return;
    }
    m->sku_known[line->sku] = true;
    m->sku_safety[line->sku] = command->safety_stock;
    for (uint32_t i = 0; i < m->location_count; i++)
        if (m->rows[line->sku][i].known) m->rows[line->sku][i].safety_stock = command->safety_stock;
    out->code = INV_OK;
}

static void judge_stock(model *m, const model_command *command, model_reply *out) {
    const model_line *line = &command->lines[0];
    switch (command->kind) {
    case INV_CMD_RECEIVE:
        judge_on_hand(m, line, line->qty, out);
        break;
    case INV_CMD_ISSUE:
        judge_issue(m, line, out);
        break;
    case INV_CMD_ADJUST:
        judge_adjust(m, line, command->strict, out);
        break;
    case INV_CMD_SET_ON_HAND:
        judge_count(m, command, out);
        break;
    default:
        judge_policy(m, command, out);
        break;
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

static bool command_by_id(uint8_t kind) {
    return kind >= INV_CMD_RESERVE && kind <= INV_CMD_EXTEND;
}

static bool sums_in_range(const model_command *command) {
    for (uint32_t i = 0; i < command->line_count; i++) {
        uint64_t sum = 0;
        for (uint32_t j = 0; j <= i; j++)
            if (command->lines[j].sku == command->lines[i].sku &&
                command->lines[j].location == command->lines[i].location)
                sum += (uint64_t)command->lines[j].qty;
        if (sum > INV_QTY_MAX) return false;
    }
    return true;
}

static bool command_well_formed(const model_command *command) {
    bool by_id = command_by_id(command->kind);
    bool has_lines = !by_id || command->kind == INV_CMD_RESERVE || command->partial;
    if (has_lines && command->line_count == 0) return false;
    if (command->kind == INV_CMD_RESERVE && command->ttl_ms > INV_TTL_MS_MAX) return false;
    if (command->kind == INV_CMD_EXTEND &&
        (command->ttl_ms == 0 || command->ttl_ms > INV_TTL_MS_MAX))
        return false;
    if (by_id && has_lines && !sums_in_range(command)) return false;
    for (uint32_t i = 0; has_lines && i < command->line_count; i++) {
        int64_t qty = command->lines[i].qty;
        if (command->kind == INV_CMD_SET_POLICY) continue;
        if (command->kind == INV_CMD_SET_ON_HAND &&
            (command->if_on_hand < 0 || command->if_on_hand > INV_QTY_MAX))
            return false;
        if (command->kind == INV_CMD_ADJUST && qty < 0 && qty >= -INV_QTY_MAX) continue;
        if (command->kind == INV_CMD_SET_ON_HAND && qty == 0) continue;
        if (qty <= 0 || qty > INV_QTY_MAX) return false;
    }
    return true;
}

/* The fields of a body: reason and reference are none. */
static bool op_equal(const model_command *known, const model_command *command) {
    model_line lines[MODEL_LINE_COUNT_MAX];
    uint32_t count = lines_merge(command, lines);
    bool by_id = command_by_id(command->kind);
    return known->kind == command->kind && known->account == command->account &&
           known->strict == command->strict && known->keep_rest == command->keep_rest &&
           known->if_on_hand == command->if_on_hand &&
           known->safety_stock == command->safety_stock && known->partial == command->partial &&
           (!by_id || known->id == command->id) &&
           lines_equal(known->lines, known->line_count, lines, count);
}

static void op_remember(model *m, const model_command *command) {
    model_command body = *command;
    body.line_count = lines_merge(command, body.lines);
    size_t bytes = offsetof(model_command, lines) + body.line_count * sizeof *body.lines;
    model_op_at(m, command->op_id)->body = model_copy(&body, bytes);
}

void model_judge(model *m, const model_command *command, model_reply *out) {
    /* The arrays at the end are filled up to their counts: clearing them would be slow. */
    memset(out, 0, offsetof(model_reply, lines));
    out->short_count = 0;
    if (!command_well_formed(command)) {
        out->code = INV_BAD_REQUEST;
        return;
    }
    bool by_id = command_by_id(command->kind);
    bool idempotent = command->op_id != MODEL_NONE && (!by_id || command->partial);
    if (idempotent && model_op_at(m, command->op_id)->body != NULL) {
        bool same = op_equal(m->ops[command->op_id].body, command);
        out->code = same ? INV_REPLAYED : INV_IDEMPOTENCY_MISMATCH;
        return;
    }
    if (command->kind == INV_CMD_RESERVE) {
        judge_reserve(m, command, out);
    } else if (by_id) {
        judge_by_id(m, command, out);
    } else {
        judge_stock(m, command, out);
    }
    if (idempotent && out->code == INV_OK) op_remember(m, command);
}

const char *model_check(const model *m) {
    static _Thread_local int64_t held[MODEL_SKU_COUNT_MAX][MODEL_LOCATION_COUNT_MAX];
    static _Thread_local int64_t allocated[MODEL_SKU_COUNT_MAX][MODEL_LOCATION_COUNT_MAX];
    memset(held, 0, sizeof held);
    memset(allocated, 0, sizeof allocated);
    for (uint32_t i = 0; i < m->hold_count; i++) {
        for (uint32_t j = 0; j < m->holds[i].place_count; j++) {
            const model_place *place = &m->holds[i].places[j];
            held[place->sku][place->location] += place->held;
            allocated[place->sku][place->location] += place->allocated;
        }
    }
    for (uint32_t i = 0; i < m->sku_count; i++) {
        int64_t on_hand = 0;
        for (uint32_t j = 0; j < m->location_count; j++) {
            const model_row *row = &m->rows[i][j];
            if (row->held != held[i][j]) return "model: held is not the sum of its holds";
            if (row->allocated != allocated[i][j]) return "model: allocated is not the sum";
            if (row->on_hand < 0) return "model: on_hand is negative";
            on_hand += row->on_hand;
        }
        if (on_hand != m->received[i]) return "model: on_hand is not what came less what went";
    }
    return NULL;
}

void model_print_command(const model *m, const model_command *command) {
    static const char *const names[] = {"?",      "reserve", "commit",  "ship",
                                        "release", "cancel", "extend",  "receive",
                                        "issue",  "adjust",  "set_on_hand", "set_policy"};
    printf("%s id=%d op_id=%d account=%u ttl_ms=%" PRIu64 "%s%s%s%s%s%s%s if_on_hand=%" PRId64
           " safety_stock=%" PRId64 " now=%" PRIu64 "\n",
           names[command->kind], (int)command->id, (int)command->op_id, command->account,
           command->ttl_ms, command->partial ? " partial" : "",
           command->keep_rest ? " keep_rest" : "", command->rehold ? " rehold" : "",
           command->shorten ? " shorten" : "", command->tombstone ? " tombstone" : "",
           command->strict ? " strict" : "", command->use_safety_stock ? " use_safety_stock" : "",
           command->if_on_hand, command->safety_stock, m->now_ms);
    for (uint32_t i = 0; i < command->line_count; i++)
        printf("    line %u: sku %u location %d qty %" PRId64 "\n", i, command->lines[i].sku,
               (int)command->lines[i].location, command->lines[i].qty);
}
