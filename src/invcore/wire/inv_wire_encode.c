/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wire_encode.c: replies become bytes. The caller has made sure of room, so nothing here looks
 * for the end of the buffer; the bounds are in inv_wire.h and held by tests at their worst.
 */
#include "inv_msgpack.h"
#include "inv_wire.h"

#define HEAD_VALUES 5u
#define LEVEL_FIGURES 11u
#define PATH_BYTES_MAX 64u

/* version, correlation, code, lsn, mark: of a reply that has `more` values behind them. */
static uint8_t *put_head(uint8_t *out, const inv_wire_request *request, int code,
                         inv_wire_answer answer, uint32_t more) {
    out = inv_msgpack_put_array(out, HEAD_VALUES + more);
    out = inv_msgpack_put_uint(out, INV_WIRE_VERSION);
    out = request->has_correlation ? inv_msgpack_put_uint(out, request->correlation)
                                   : inv_msgpack_put_nil(out);
    out = inv_msgpack_put_uint(out, (uint64_t)code);
    out = inv_msgpack_put_uint(out, answer.lsn);
    return inv_msgpack_put_uint(out, answer.mark);
}

/* 0 stands for "none". */
static uint8_t *put_uint_or_nil(uint8_t *out, uint64_t number) {
    return number == 0 ? inv_msgpack_put_nil(out) : inv_msgpack_put_uint(out, number);
}

static uint8_t *put_text(uint8_t *out, inv_text text) {
    return inv_msgpack_put_str(out, text.bytes, text.length);
}

static uint8_t *put_name(uint8_t *out, const inv_wire_namer *namer, inv_name_kind kind,
                         uint32_t number) {
    return put_text(out, namer->name(namer->context, kind, number));
}

static uint8_t *put_location(uint8_t *out, const inv_wire_namer *namer, uint16_t location) {
    if (location == INV_LOCATION_NONE) return inv_msgpack_put_nil(out);
    return put_name(out, namer, INV_NAME_LOCATION, location);
}

/* ---- refusals with a path -------------------------------------------------------------------- */

/* Requests of one row have its fields in positions of their own, not in lines. */
static bool has_one_row(uint8_t op) {
    return op == INV_WIRE_RESERVE || (op >= INV_WIRE_RECEIVE && op <= INV_WIRE_SET_POLICY);
}

/* The path with its index; "lines[]." goes where there are no lines. */
static uint8_t *put_path(uint8_t *out, const inv_wire_request *request, const char *path,
                         uint32_t index) {
    static const char prefix[] = "lines[].";
    char text[PATH_BYTES_MAX + 16], digits[10];
    uint32_t length = 0, count = 0;
    if (path == NULL) path = "";
    if (has_one_row(request->op) && strncmp(path, prefix, sizeof prefix - 1) == 0)
        path += sizeof prefix - 1;
    for (; *path != '\0' && length < PATH_BYTES_MAX; path++) {
        text[length++] = *path;
        if (path[0] != '[' || path[1] != ']') continue;
        do digits[count++] = (char)('0' + index % 10);
        while ((index /= 10) != 0);
        while (count > 0) text[length++] = digits[--count];
    }
    return inv_msgpack_put_str(out, text, length);
}

uint8_t *inv_wire_put_refusal(uint8_t *out, const inv_wire_request *request, inv_wire_answer answer,
                              const inv_wire_refusal *refusal) {
    bool unknown = refusal->code == INV_UNKNOWN_LOCATION;
    out = put_head(out, request, refusal->code, answer, unknown ? 1 : 3);
    out = put_path(out, request, refusal->path, refusal->index);
    if (unknown) return out;
    if (!refusal->has_figure) return inv_msgpack_put_nil(inv_msgpack_put_nil(out));
    out = inv_msgpack_put_int(out, refusal->figure);
    return inv_msgpack_put_int(out, refusal->limit);
}

uint8_t *inv_wire_put_code(uint8_t *out, const inv_wire_request *request, inv_wire_answer answer,
                           int code, uint64_t figure) {
    bool busy = code == INV_BUSY || code == INV_RATE_LIMITED;
    bool lagging = code == INV_LAGGING;
    out = put_head(out, request, code, answer, busy || lagging ? 1 : 0);
    if (busy) return put_uint_or_nil(out, figure);
    return lagging ? inv_msgpack_put_uint(out, figure) : out;
}

/* ---- reservations ---------------------------------------------------------------------------- */

/* Answers to a reserve speak of its own lines; those of a replay are the first request's. */
static bool names_own_lines(const inv_wire_request *request, const inv_reply *reply) {
    bool reserve = request->op == INV_WIRE_RESERVE || request->op == INV_WIRE_RESERVE_LINES;
    return reserve && reply->code != INV_REPLAYED;
}

static uint32_t lines_of(const inv_reply *reply) {
    return reply->line_count < reply->lines_max ? reply->line_count : reply->lines_max;
}

static uint8_t *put_sku(uint8_t *out, const inv_reply_line *line, bool own,
                        const inv_wire_namer *namer) {
    if (own || line->sku == INV_NUMBER_NONE) return inv_msgpack_put_uint(out, line->line_index);
    return put_name(out, namer, INV_NAME_SKU, line->sku);
}

static uint8_t *put_lines(uint8_t *out, const inv_wire_request *request, const inv_reply *reply,
                          const inv_wire_namer *namer, bool with_lines) {
    uint32_t count = lines_of(reply);
    bool own = names_own_lines(request, reply);
    if (!with_lines) return inv_msgpack_put_nil(out);
    out = inv_msgpack_put_array(out, count);
    for (uint32_t i = 0; i < count; i++) {
        const inv_reply_line *line = &reply->lines[i];
        out = inv_msgpack_put_array(out, 7);
        out = put_sku(out, line, own, namer);
        out = put_location(out, namer, line->location);
        out = inv_msgpack_put_uint(out, line->qty);
        out = inv_msgpack_put_uint(out, line->held);
        out = inv_msgpack_put_uint(out, line->allocated);
        out = inv_msgpack_put_uint(out, line->shipped);
        out = inv_msgpack_put_uint(out, line->backordered);
    }
    return out;
}

static uint8_t *put_reservation(uint8_t *out, const inv_wire_request *request,
                                inv_wire_answer answer, const inv_reply *reply,
                                const inv_wire_namer *namer, bool with_lines) {
    out = put_head(out, request, reply->code, answer, 7);
    out = inv_msgpack_put_uint(out, reply->state);
    out = put_lines(out, request, reply, namer, with_lines);
    out = inv_msgpack_put_uint(out, reply->units);
    out = put_uint_or_nil(out, reply->expires_at_unix_ms);
    out = put_uint_or_nil(out, reply->ended_at_unix_ms);
    out = inv_msgpack_put_uint(out, reply->now_unix_ms);
    return inv_msgpack_put_uint(out, reply->reheld ? 1 : 0);
}

/* EXPIRED, ALREADY_*, PREEMPTED: what has become of the reservation. */
static uint8_t *put_wrong_state(uint8_t *out, const inv_wire_request *request,
                                inv_wire_answer answer, const inv_reply *reply,
                                const inv_wire_namer *namer, bool with_lines) {
    out = put_head(out, request, reply->code, answer, 6);
    out = inv_msgpack_put_uint(out, reply->state);
    out = put_lines(out, request, reply, namer, with_lines);
    out = inv_msgpack_put_uint(out, reply->units);
    out = put_uint_or_nil(out, reply->ended_at_unix_ms);
    out = inv_msgpack_put_uint(out, reply->lsn);
    return inv_msgpack_put_uint(out, reply->now_unix_ms);
}

/* INSUFFICIENT, CLOSED, OVER_COMMIT: every line that is short, or of which less remains. */
static uint8_t *put_short(uint8_t *out, const inv_wire_request *request, const inv_reply *reply,
                          const inv_wire_namer *namer, bool with_lines) {
    uint32_t count = lines_of(reply);
    bool over = reply->code == INV_OVER_COMMIT, own = has_one_row(request->op);
    own = own || names_own_lines(request, reply) || over;
    if (!with_lines) return inv_msgpack_put_nil(out);
    out = inv_msgpack_put_array(out, count);
    for (uint32_t i = 0; i < count; i++) {
        const inv_reply_line *line = &reply->lines[i];
        out = inv_msgpack_put_array(out, over ? 4 : 6);
        out = put_sku(out, line, own, namer);
        out = put_location(out, namer, line->location);
        out = inv_msgpack_put_uint(out, line->qty);
        out = inv_msgpack_put_int(out, line->available_to_promise);
        if (over) continue;
        out = inv_msgpack_put_bool(out, line->closed != 0);
        uint32_t others = line->alternative_count;
        if (others > INV_ALTERNATIVE_COUNT_MAX) others = INV_ALTERNATIVE_COUNT_MAX;
        out = inv_msgpack_put_array(out, others);
        for (uint32_t k = 0; k < others; k++)
            out = put_name(out, namer, INV_NAME_LOCATION, line->alternatives[k]);
    }
    return out;
}

/* ---- stock ----------------------------------------------------------------------------------- */

static uint8_t *put_figures(uint8_t *out, const inv_stock_level *level) {
    const int64_t figures[LEVEL_FIGURES] = {
        level->on_hand,   level->held,         level->allocated,
        level->reserved,  level->available,    level->available_to_promise,
        level->safety_stock, level->short_qty, level->backordered,
        level->incoming,  level->unsellable};
    for (uint32_t i = 0; i < LEVEL_FIGURES; i++) out = inv_msgpack_put_int(out, figures[i]);
    return out;
}

static uint8_t *put_level(uint8_t *out, const inv_stock_level *level) {
    return put_figures(inv_msgpack_put_array(out, LEVEL_FIGURES), level);
}

static uint8_t *put_stock_change(uint8_t *out, const inv_wire_request *request,
                                 inv_wire_answer answer, const inv_reply *reply) {
    bool policy = request->op == INV_WIRE_SET_POLICY;
    out = put_head(out, request, reply->code, answer, policy ? 1 : 2);
    if (!policy) out = put_level(out, &reply->level);
    return inv_msgpack_put_uint(out, reply->now_unix_ms);
}

uint8_t *inv_wire_put_level(uint8_t *out, const inv_wire_request *request, inv_wire_answer answer,
                            const inv_stock_level *level, const inv_stock_level *rows,
                            uint32_t count, const inv_wire_namer *namer) {
    bool whole_sku = request->op == INV_WIRE_AVAILABILITY_SKU;
    out = put_head(out, request, INV_OK, answer, whole_sku ? 3 : 2);
    out = put_level(out, level);
    out = inv_msgpack_put_uint(out, level->now_unix_ms);
    if (!whole_sku) return out;
    out = inv_msgpack_put_array(out, count);
    for (uint32_t i = 0; i < count; i++) {
        out = inv_msgpack_put_array(out, 1 + LEVEL_FIGURES);
        out = put_location(out, namer, rows[i].location);
        out = put_figures(out, &rows[i]);
    }
    return out;
}

/* ---- a command's reply ----------------------------------------------------------------------- */

size_t inv_wire_reply_room(const inv_reply *reply) {
    bool is_short = reply->code == INV_INSUFFICIENT || reply->code == INV_CLOSED;
    size_t line_bytes = is_short ? INV_WIRE_SHORT_LINE_BYTES : INV_WIRE_REPLY_LINE_BYTES;
    return INV_WIRE_REPLY_HEAD_BYTES + INV_WIRE_LEVEL_BYTES + line_bytes * lines_of(reply);
}

static uint8_t *put_error(uint8_t *out, const inv_wire_request *request, inv_wire_answer answer,
                          const inv_reply *reply, const inv_wire_namer *namer, bool with_lines) {
    const inv_wire_refusal refusal = {.code = (uint8_t)reply->code,
                                      .path = reply->field,
                                      .index = reply->line_index,
                                      .has_figure = reply->figure != 0 || reply->limit != 0,
                                      .figure = reply->figure,
                                      .limit = reply->limit};
    switch ((inv_result)reply->code) {
    case INV_INSUFFICIENT:
    case INV_CLOSED:
        out = put_head(out, request, reply->code, answer, 2);
        out = put_short(out, request, reply, namer, with_lines);
        return put_uint_or_nil(out, reply->retry_after_ms);
    case INV_OVER_COMMIT:
        out = put_head(out, request, reply->code, answer, 1);
        return put_short(out, request, reply, namer, with_lines);
    case INV_EXPIRED:
    case INV_ALREADY_COMMITTED:
    case INV_ALREADY_RELEASED:
    case INV_ALREADY_CANCELLED:
    case INV_ALREADY_SHIPPED:
    case INV_PREEMPTED:
        return put_wrong_state(out, request, answer, reply, namer, with_lines);
    case INV_CAS_FAILED:
    case INV_AS_OF_UNKNOWN:
        return inv_msgpack_put_int(put_head(out, request, reply->code, answer, 1), reply->figure);
    case INV_BAD_REQUEST:
    case INV_QTY_OUT_OF_RANGE:
    case INV_LIMIT_EXCEEDED:
        return inv_wire_put_refusal(out, request, answer, &refusal);
    case INV_IDEMPOTENCY_MISMATCH:
        return inv_msgpack_put_uint(put_head(out, request, reply->code, answer, 1),
                                    reply->mismatch);
    case INV_UNKNOWN_LOCATION:
        return put_text(put_head(out, request, reply->code, answer, 1), inv_text_of("location"));
    case INV_OK:
    case INV_REPLAYED:
    case INV_UNKNOWN_RESERVATION:
    case INV_UNKNOWN_SKU:
    case INV_EVENTS_TRIMMED:
    case INV_STALE_ID:
    case INV_UNAUTHENTICATED:
    case INV_FORBIDDEN:
    case INV_RATE_LIMITED:
    case INV_BUSY:
    case INV_LAGGING:
    case INV_NOT_LEADER:
    case INV_DISK_FULL:
    case INV_NO_MEMORY:
    case INV_STORE_CLOSED:
    case INV_STORE_FAILED:
    case INV_LOG_CORRUPT:
    case INV_STORE_LOCKED:
    case INV_FORMAT_UNKNOWN:
    case INV_IO_ERROR:
        break;
    }
    return inv_wire_put_code(out, request, answer, reply->code, reply->retry_after_ms);
}

uint8_t *inv_wire_put_reply(uint8_t *out, const inv_wire_request *request, inv_wire_answer answer,
                            const inv_reply *reply, const inv_wire_namer *namer, bool with_lines) {
    if (reply->code > INV_REPLAYED)
        return put_error(out, request, answer, reply, namer, with_lines);
    if (request->op >= INV_WIRE_RECEIVE && request->op <= INV_WIRE_SET_POLICY)
        return put_stock_change(out, request, answer, reply);
    return put_reservation(out, request, answer, reply, namer, with_lines);
}

/* ---- the rest -------------------------------------------------------------------------------- */

uint8_t *inv_wire_put_bin_head(uint8_t *out, const inv_wire_request *request,
                               inv_wire_answer answer, uint32_t bytes) {
    return inv_msgpack_put_bin_head(put_head(out, request, INV_OK, answer, 1), bytes);
}

uint8_t *inv_wire_put_names_head(uint8_t *out, const inv_wire_request *request,
                                 inv_wire_answer answer, uint32_t count) {
    return inv_msgpack_put_array(put_head(out, request, INV_OK, answer, 1), count);
}

uint8_t *inv_wire_put_hello(uint8_t *out, const inv_wire_request *request, inv_wire_answer answer,
                            const inv_wire_hello *hello) {
    const uint64_t limits[] = {hello->message_bytes_max, INV_WIRE_REQUEST_COUNT_MAX,
                               INV_WIRE_LINE_COUNT_MAX,  INV_LINE_COUNT_MAX,
                               INV_WIRE_ROW_COUNT_MAX,   INV_WIRE_NAME_COUNT_MAX,
                               INV_WIRE_REPLY_BYTES_MAX, hello->silence_ms_max};
    const uint32_t count = sizeof limits / sizeof limits[0];
    out = put_head(out, request, INV_OK, answer, 7);
    out = put_text(out, hello->server);
    out = inv_msgpack_put_bin(out, hello->store_uuid, 16);
    out = inv_msgpack_put_uint(out, hello->durability);
    out = inv_msgpack_put_uint(out, hello->interval_ms);
    out = inv_msgpack_put_uint(out, hello->now_unix_ms);
    out = inv_msgpack_put_array(out, count);
    for (uint32_t i = 0; i < count; i++) out = inv_msgpack_put_uint(out, limits[i]);
    return inv_msgpack_put_array(out, 0); /* features: none yet */
}
