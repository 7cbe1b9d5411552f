/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wire_client.c: requests are written with all their positions; those at the end that nobody
 * gave are cut off again, and the head of the array says how many were left.
 */
#include "inv_wire_client.h"

/* A request being written: its array has at most 15 values, so its head is one byte. */
typedef struct request_writer {
    uint8_t *start, *at;
    uint8_t *needed_end; /* behind the last position that was given */
    uint32_t count, needed_count;
} request_writer;

static void need(request_writer *w) {
    w->needed_end = w->at;
    w->needed_count = w->count;
}

static void add(request_writer *w, uint8_t *at, bool given) {
    w->at = at;
    w->count++;
    if (given) need(w);
}

static void add_uint(request_writer *w, uint64_t number) {
    add(w, inv_msgpack_put_uint(w->at, number), true);
}

/* Position nil where `given` is false. */
static void add_int(request_writer *w, int64_t number, bool given) {
    add(w, given ? inv_msgpack_put_int(w->at, number) : inv_msgpack_put_nil(w->at), given);
}

static void add_text(request_writer *w, inv_text text) {
    bool given = text.bytes != NULL;
    add(w, given ? inv_msgpack_put_str(w->at, text.bytes, text.length) : inv_msgpack_put_nil(w->at),
        given);
}

static void add_id(request_writer *w, inv_text id, bool is_uuid) {
    if (is_uuid) add(w, inv_msgpack_put_bin(w->at, id.bytes, id.length), true);
    else add_text(w, id);
}

static uint8_t *put_sku(uint8_t *out, const inv_line *line) {
    return line->sku.bytes != NULL ? inv_msgpack_put_str(out, line->sku.bytes, line->sku.length)
                                   : inv_msgpack_put_uint(out, line->sku_number);
}

static uint8_t *put_location(uint8_t *out, const inv_line *line) {
    if (line->location.bytes != NULL)
        return inv_msgpack_put_str(out, line->location.bytes, line->location.length);
    return line->location_number == INV_LOCATION_NONE
               ? inv_msgpack_put_nil(out)
               : inv_msgpack_put_uint(out, line->location_number);
}

static void add_row(request_writer *w, const inv_line *line) {
    add(w, put_sku(w->at, line), true);
    add(w, put_location(w->at, line), true);
}

static void add_lines(request_writer *w, const inv_command *command) {
    if (command->kind != INV_CMD_RESERVE && !command->partial) {
        add(w, inv_msgpack_put_nil(w->at), false);
        return;
    }
    uint8_t *at = inv_msgpack_put_array(w->at, command->line_count);
    for (uint32_t i = 0; i < command->line_count; i++) {
        at = inv_msgpack_put_array(at, 3);
        at = put_sku(at, &command->lines[i]);
        at = put_location(at, &command->lines[i]);
        at = inv_msgpack_put_int(at, command->lines[i].qty);
    }
    add(w, at, true);
}

static void add_ask(request_writer *w, const inv_wire_ask *ask) {
    if (ask == NULL || (!ask->asks_durability && ask->deadline_ms == 0 && ask->min_lsn == 0)) {
        add(w, inv_msgpack_put_nil(w->at), false);
        return;
    }
    uint8_t *at = inv_msgpack_put_array(w->at, 3);
    at = ask->asks_durability ? inv_msgpack_put_uint(at, ask->durability)
                              : inv_msgpack_put_nil(at);
    at = ask->deadline_ms != 0 ? inv_msgpack_put_uint(at, ask->deadline_ms)
                               : inv_msgpack_put_nil(at);
    at = ask->min_lsn != 0 ? inv_msgpack_put_uint(at, ask->min_lsn) : inv_msgpack_put_nil(at);
    add(w, at, true);
}

static void begin(request_writer *w, uint8_t *out, uint64_t correlation, uint8_t op,
                  const inv_wire_ask *ask) {
    *w = (request_writer){.start = out, .at = out + 1};
    add_uint(w, INV_WIRE_VERSION);
    add_uint(w, correlation);
    add_uint(w, op);
    add_ask(w, ask);
}

static uint8_t *finish(request_writer *w) {
    INV_ASSERT(w->needed_count < 16);
    (void)inv_msgpack_put_array(w->start, w->needed_count);
    return w->needed_end;
}

static uint32_t flags_of(const inv_command *command) {
    return (command->use_safety_stock ? INV_WIRE_USE_SAFETY_STOCK : 0) |
           (command->rehold ? INV_WIRE_REHOLD : 0) |
           (command->keep_rest ? INV_WIRE_KEEP_REST : 0) |
           (command->shorten ? INV_WIRE_SHORTEN : 0) |
           (command->tombstone ? INV_WIRE_TOMBSTONE : 0) |
           (command->strict ? INV_WIRE_STRICT : 0);
}

static void add_flags(request_writer *w, uint32_t flags) { add_int(w, flags, flags != 0); }

static void add_who(request_writer *w, const inv_command *command) {
    add_text(w, command->account);
    add_text(w, command->seller);
}

static void add_why(request_writer *w, const inv_command *command) {
    add_text(w, command->reason);
    add_text(w, command->reference);
}

static void add_ttl(request_writer *w, uint64_t ttl_ms) {
    add_int(w, (int64_t)ttl_ms, ttl_ms != 0);
}

static void add_reserve(request_writer *w, uint8_t op, const inv_command *command) {
    add_id(w, command->id, command->id_is_uuid);
    if (op == INV_WIRE_RESERVE) {
        add_row(w, command->lines);
        add_int(w, command->lines->qty, true);
    } else {
        add_lines(w, command);
    }
    add_ttl(w, command->ttl_ms);
    add_who(w, command);
    add_flags(w, flags_of(command));
    add_why(w, command);
}

static void add_by_id(request_writer *w, uint8_t op, const inv_command *command) {
    add_id(w, command->id, command->id_is_uuid);
    add_flags(w, flags_of(command));
    if (op == INV_WIRE_EXTEND) {
        add_ttl(w, command->ttl_ms);
    } else {
        add_lines(w, command);
        add_id(w, command->op_id, command->op_id_is_uuid);
    }
    add_who(w, command);
    add_why(w, command);
}

static void add_stock(request_writer *w, uint8_t op, const inv_command *command) {
    add_row(w, command->lines);
    add_int(w, op == INV_WIRE_SET_POLICY ? command->safety_stock : command->lines->qty, true);
    if (op == INV_WIRE_SET_ON_HAND) add_int(w, command->if_on_hand, true);
    add_id(w, command->op_id, command->op_id_is_uuid);
    add_flags(w, flags_of(command));
    add_who(w, command);
    add_why(w, command);
}

uint8_t *inv_wire_put_command(uint8_t *out, uint64_t correlation, uint8_t op,
                              const inv_wire_ask *ask, const inv_command *command) {
    request_writer w;
    INV_ASSERT(inv_wire_is_command(op));
    begin(&w, out, correlation, op, ask);
    if (op <= INV_WIRE_RESERVE_LINES) add_reserve(&w, op, command);
    else if (op <= INV_WIRE_EXTEND) add_by_id(&w, op, command);
    else add_stock(&w, op, command);
    return finish(&w);
}

static void add_column(request_writer *w, const void *column, size_t bytes) {
    if (column == NULL) add(w, inv_msgpack_put_nil(w->at), false);
    else add(w, inv_msgpack_put_bin(w->at, column, (uint32_t)bytes), true);
}

uint8_t *inv_wire_put_batch(uint8_t *out, uint64_t correlation, uint8_t op,
                            const inv_wire_ask *ask, const inv_batch *batch) {
    request_writer w;
    bool read = op == INV_WIRE_AVAILABILITY_BATCH;
    bool rows = read || op <= INV_WIRE_ADJUST_BATCH;
    bool ttl = op == INV_WIRE_RESERVE_BATCH || op == INV_WIRE_EXTEND_BATCH;
    INV_ASSERT(inv_wire_is_batch(op) || read);
    begin(&w, out, correlation, op, ask);
    if (!read) add_column(&w, batch->ids, 16 * batch->count);
    if (rows) {
        add_column(&w, batch->skus, 4 * batch->count);
        add_column(&w, batch->locations, 2 * batch->count);
        if (!read) add_column(&w, batch->qtys, 8 * batch->count);
    }
    if (ttl && batch->ttls_ms != NULL) add_column(&w, batch->ttls_ms, 4 * batch->count);
    else if (ttl) add_ttl(&w, batch->ttl_ms);
    if (read) return finish(&w);
    add_text(&w, batch->account);
    add_text(&w, batch->seller);
    if (rows && !ttl) add_text(&w, batch->reason);
    return finish(&w);
}

uint8_t *inv_wire_put_availability(uint8_t *out, uint64_t correlation, const inv_wire_ask *ask,
                                   const inv_line *line, inv_text seller, bool relaxed) {
    request_writer w;
    bool row = line->location.bytes != NULL || line->location_number != INV_LOCATION_NONE;
    begin(&w, out, correlation, row ? INV_WIRE_AVAILABILITY : INV_WIRE_AVAILABILITY_SKU, ask);
    if (row) add_row(&w, line);
    else add(&w, put_sku(w.at, line), true);
    add_flags(&w, relaxed ? INV_WIRE_RELAXED : 0);
    add_text(&w, seller);
    return finish(&w);
}

uint8_t *inv_wire_put_plain(uint8_t *out, uint64_t correlation, uint8_t op) {
    request_writer w;
    begin(&w, out, correlation, op, NULL);
    return finish(&w);
}

/* ---- replies --------------------------------------------------------------------------------- */

static bool next_uint(inv_msgpack_reader *reader, uint64_t *out) {
    inv_msgpack_token found;
    if (!inv_msgpack_read(reader, &found) || found.type != INV_MSGPACK_UINT) return false;
    *out = found.number;
    return true;
}

bool inv_wire_next_reply(inv_msgpack_reader *reader, inv_wire_reply *out) {
    inv_msgpack_reader r = *reader;
    inv_msgpack_token found;
    uint64_t version, code;
    if (!inv_msgpack_read(&r, &found) || found.type != INV_MSGPACK_ARRAY || found.number < 5)
        return false;
    out->value_count = found.number - 5;
    if (!next_uint(&r, &version) || version != INV_WIRE_VERSION) return false;
    if (!inv_msgpack_read(&r, &found)) return false;
    if (found.type != INV_MSGPACK_UINT && found.type != INV_MSGPACK_NIL) return false;
    out->has_correlation = found.type == INV_MSGPACK_UINT;
    out->correlation = found.number;
    if (!next_uint(&r, &code) || code > UINT8_MAX) return false;
    out->code = (uint8_t)code;
    if (!next_uint(&r, &out->lsn) || !next_uint(&r, &out->mark)) return false;
    out->body = r;
    if (!inv_msgpack_skip(&r, out->value_count, 1)) return false;
    out->body.end = r.at;
    *reader = r;
    return true;
}
