/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wire_decode.c: a message becomes requests, in one pass.
 *
 * A cursor walks the values of one request. Each get_* takes one position: it reads a value of the
 * type that belongs there, or refuses the request with the path of the position and leaves the
 * cursor in front of that value. The rest of a refused request is skipped, so that what follows it
 * is found; the skipping finds whether the framing holds. Broken framing ends the message: every
 * request begun so far is refused, and the arena forgets its commands.
 */
#include "inv_msgpack.h"
#include "inv_wire.h"

typedef struct cursor {
    inv_msgpack_reader reader;
    uint64_t left; /* values of the request still to come */
    inv_wire_request *request;
    inv_wire_arena *arena;
    bool broken; /* the reader stands at a token that is none */
} cursor;

/* ---- refusals -------------------------------------------------------------------------------- */

static bool refuse_at(cursor *c, uint8_t code, const char *path, uint32_t index) {
    if (c->request->refusal.code == INV_OK)
        c->request->refusal = (inv_wire_refusal){.code = code, .path = path, .index = index};
    return false;
}

static bool refuse(cursor *c, const char *path) { return refuse_at(c, INV_BAD_REQUEST, path, 0); }

static bool refuse_figure(cursor *c, uint8_t code, const char *path, uint64_t figure,
                          uint64_t limit) {
    if (c->request->refusal.code != INV_OK) return false;
    c->request->refusal = (inv_wire_refusal){.code = code,
                                             .path = path,
                                             .has_figure = true,
                                             .figure = (int64_t)inv_min_u64(figure, INT64_MAX),
                                             .limit = (int64_t)limit};
    return false;
}

static bool broken(cursor *c) {
    c->broken = true;
    return false;
}

/* ---- values ---------------------------------------------------------------------------------- */

static bool token(cursor *c, inv_msgpack_token *out) {
    return INV_LIKELY(inv_msgpack_read(&c->reader, out)) || broken(c);
}

/* The token at the next position; *out_given false: nothing is there, or nil. */
static bool position(cursor *c, inv_msgpack_token *out, bool *out_given) {
    *out_given = false;
    if (c->left == 0) return true;
    if (!token(c, out)) return false;
    c->left--;
    *out_given = out->type != INV_MSGPACK_NIL;
    return true;
}

/* As position(), of one type. A value of another one is put back. */
static bool typed(cursor *c, inv_msgpack_type type, const char *path, bool required,
                  inv_msgpack_token *out, bool *out_given) {
    const uint8_t *at = c->reader.at;
    if (!position(c, out, out_given)) return false;
    if (!*out_given) return !required || refuse(c, path);
    if (INV_LIKELY(out->type == type)) return true;
    c->reader.at = at;
    c->left++;
    return refuse(c, path);
}

static inv_text text_of(const inv_msgpack_token *found) {
    return (inv_text){(const char *)found->bytes, (uint32_t)found->number};
}

static bool get_text(cursor *c, const char *path, inv_text *out) {
    inv_msgpack_token found;
    bool given;
    if (!typed(c, INV_MSGPACK_STR, path, false, &found, &given)) return false;
    if (given) *out = text_of(&found);
    return true;
}

static bool get_uint(cursor *c, const char *path, bool required, uint64_t least, uint64_t most,
                     uint64_t *out, bool *out_given) {
    inv_msgpack_token found;
    if (!typed(c, INV_MSGPACK_UINT, path, required, &found, out_given)) return false;
    if (!*out_given) return true;
    if (found.number < least) return refuse_figure(c, INV_BAD_REQUEST, path, found.number, least);
    if (found.number > most) return refuse_figure(c, INV_BAD_REQUEST, path, found.number, most);
    *out = found.number;
    return true;
}

/* A whole number that fits 64 bits with sign; its range is the engine's business. */
static bool int_of(cursor *c, const inv_msgpack_token *found, const char *path, uint32_t index,
                   uint64_t limit, int64_t *out) {
    if (found->type != INV_MSGPACK_UINT && found->type != INV_MSGPACK_INT)
        return refuse_at(c, INV_BAD_REQUEST, path, index);
    if (found->type == INV_MSGPACK_UINT && found->number > INT64_MAX) {
        (void)refuse_figure(c, INV_BAD_REQUEST, path, found->number, limit);
        c->request->refusal.index = index;
        return false;
    }
    *out = (int64_t)found->number;
    return true;
}

static bool get_int(cursor *c, const char *path, int64_t *out) {
    const uint8_t *at = c->reader.at;
    inv_msgpack_token found;
    bool given;
    if (!position(c, &found, &given)) return false;
    if (!given) return refuse(c, path);
    if (INV_LIKELY(int_of(c, &found, path, 0, INV_QTY_MAX, out))) return true;
    c->reader.at = at;
    c->left++;
    return false;
}

/* A UUID's bytes, or text. */
static bool get_id(cursor *c, const char *path, bool required, inv_text *out, bool *out_is_uuid) {
    const uint8_t *at = c->reader.at;
    inv_msgpack_token found;
    bool given;
    if (!position(c, &found, &given)) return false;
    if (!given) return !required || refuse(c, path);
    if (found.type == INV_MSGPACK_BIN && found.number != 16)
        return refuse_figure(c, INV_BAD_REQUEST, path, found.number, 16);
    if (found.type == INV_MSGPACK_BIN || found.type == INV_MSGPACK_STR) {
        *out = text_of(&found);
        *out_is_uuid = found.type == INV_MSGPACK_BIN;
        return true;
    }
    c->reader.at = at;
    c->left++;
    return refuse(c, path);
}

/* A name, or a number up to `most`. False: neither. */
static bool name_of(cursor *c, const inv_msgpack_token *found, const char *path, uint32_t index,
                    uint64_t most, inv_text *out_text, uint64_t *out_number) {
    if (found->type == INV_MSGPACK_STR) {
        *out_text = text_of(found);
        return true;
    }
    *out_number = found->number;
    if (found->type == INV_MSGPACK_UINT && found->number <= most) return true;
    if (found->type != INV_MSGPACK_UINT) return refuse_at(c, INV_BAD_REQUEST, path, index);
    (void)refuse_figure(c, INV_BAD_REQUEST, path, found->number, most);
    c->request->refusal.index = index;
    return false;
}

static bool sku_of(cursor *c, const inv_msgpack_token *found, const char *path, uint32_t index,
                   inv_line *out) {
    uint64_t number = INV_NUMBER_NONE;
    bool ok = name_of(c, found, path, index, INV_NUMBER_NONE, &out->sku, &number);
    out->sku_number = (uint32_t)number;
    return ok;
}

static bool location_of(cursor *c, const inv_msgpack_token *found, const char *path, uint32_t index,
                        inv_line *out) {
    uint64_t number = INV_LOCATION_NONE;
    bool ok = found->type == INV_MSGPACK_NIL ||
              name_of(c, found, path, index, INV_LOCATION_NONE, &out->location, &number);
    out->location_number = (uint16_t)number;
    return ok;
}

/* sku and location of a request with one row. */
static bool get_row(cursor *c, bool with_location, bool location_required, inv_line *out) {
    const uint8_t *at = c->reader.at;
    inv_msgpack_token found;
    bool given;
    if (!position(c, &found, &given)) return false;
    if (!given) return refuse(c, "sku");
    if (!sku_of(c, &found, "sku", 0, out)) goto put_back;
    out->location_number = INV_LOCATION_NONE;
    if (!with_location) return true;
    at = c->reader.at;
    if (!position(c, &found, &given)) return false;
    if (!given) return !location_required || refuse(c, "location");
    if (!location_of(c, &found, "location", 0, out)) goto put_back;
    if (!location_required || out->location.bytes != NULL ||
        out->location_number != INV_LOCATION_NONE)
        return true;
    return refuse(c, "location");
put_back:
    c->reader.at = at;
    c->left++;
    return false;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static bool get_line(cursor *c, uint32_t index, inv_line *out) {
    inv_msgpack_token found;
    if (!token(c, &found)) return false;
    if (found.type != INV_MSGPACK_ARRAY || found.number != 3)
        return refuse_at(c, INV_BAD_REQUEST, "lines[]", index);
    memset(out, 0, sizeof *out);
    if (!token(c, &found) || !sku_of(c, &found, "lines[].sku", index, out)) return false;
    if (!token(c, &found) || !location_of(c, &found, "lines[].location", index, out)) return false;
    return token(c, &found) && int_of(c, &found, "lines[].qty", index, INV_QTY_MAX, &out->qty);
}

/* The array of lines into the arena. Whatever is wrong in it, the cursor goes back to its head. */
static bool get_lines(cursor *c, bool required, inv_command *command) {
    const uint8_t *at = c->reader.at;
    inv_wire_arena *arena = c->arena;
    inv_line *lines = arena->lines + arena->line_count;
    inv_msgpack_token found;
    bool given;
    if (!typed(c, INV_MSGPACK_ARRAY, "lines", required, &found, &given)) return false;
    if (!given) return true;
    bool ok = found.number <= INV_LINE_COUNT_MAX ||
              refuse_figure(c, INV_LIMIT_EXCEEDED, "lines", found.number, INV_LINE_COUNT_MAX);
    INV_ASSERT(!ok || arena->line_count + found.number <= arena->line_max);
    for (uint32_t i = 0; ok && i < found.number; i++) ok = get_line(c, i, &lines[i]);
    if (!ok) {
        if (c->broken) return false;
        c->reader.at = at;
        c->left++;
        return false;
    }
    command->lines = lines;
    command->line_count = (uint32_t)found.number;
    command->partial = command->kind != INV_CMD_RESERVE;
    arena->line_count += command->line_count;
    return true;
}

/* ---- what many operations share -------------------------------------------------------------- */

static bool get_flags(cursor *c, uint8_t mask) {
    inv_msgpack_token found;
    bool given;
    if (!typed(c, INV_MSGPACK_UINT, "flags", false, &found, &given)) return false;
    if (!given) return true;
    if (found.number & ~(uint64_t)mask)
        return refuse_figure(c, INV_BAD_REQUEST, "flags", found.number, mask);
    c->request->flags = (uint8_t)found.number;
    return true;
}

static bool get_ttl(cursor *c, bool required, uint64_t *out) {
    bool given;
    const uint8_t *at = c->reader.at;
    inv_msgpack_token found;
    if (!position(c, &found, &given)) return false;
    if (!given) return !required || refuse(c, "ttl_ms");
    int64_t value = 0;
    if (!int_of(c, &found, "ttl_ms", 0, INV_TTL_MS_MAX, &value)) {
        c->reader.at = at;
        c->left++;
        return false;
    }
    int64_t limit = value < 1 ? 1 : (int64_t)INV_TTL_MS_MAX; /* 0 means "default" to the engine */
    if (value < 1 || value > limit) {
        c->request->refusal = (inv_wire_refusal){.code = INV_BAD_REQUEST,
                                                 .has_figure = true,
                                                 .path = "ttl_ms",
                                                 .figure = value,
                                                 .limit = limit};
        return false;
    }
    *out = (uint64_t)value;
    return true;
}

static bool get_who(cursor *c, inv_command *command) {
    return get_text(c, "account", &command->account) && get_text(c, "seller", &command->seller);
}

static bool get_why(cursor *c, inv_command *command) {
    return get_text(c, "reason", &command->reason) &&
           get_text(c, "reference", &command->reference);
}

static bool get_op_id(cursor *c, inv_command *command) {
    return get_id(c, "op_id", false, &command->op_id, &command->op_id_is_uuid);
}

static bool get_reservation_id(cursor *c, inv_command *command) {
    return get_id(c, "reservation_id", true, &command->id, &command->id_is_uuid);
}

/* ---- changes of one -------------------------------------------------------------------------- */

static bool decode_reserve(cursor *c, inv_command *command) {
    inv_wire_arena *arena = c->arena;
    inv_line *line = &arena->lines[arena->line_count];
    INV_ASSERT(arena->line_count < arena->line_max);
    memset(line, 0, sizeof *line);
    if (!get_reservation_id(c, command) || !get_row(c, true, false, line) ||
        !get_int(c, "qty", &line->qty) || !get_ttl(c, false, &command->ttl_ms) ||
        !get_who(c, command) || !get_flags(c, INV_WIRE_USE_SAFETY_STOCK) || !get_why(c, command))
        return false;
    command->lines = line;
    command->line_count = 1;
    arena->line_count++;
    return true;
}

static bool decode_reserve_lines(cursor *c, inv_command *command) {
    return get_reservation_id(c, command) && get_lines(c, true, command) &&
           get_ttl(c, false, &command->ttl_ms) && get_who(c, command) &&
           get_flags(c, INV_WIRE_USE_SAFETY_STOCK) && get_why(c, command);
}

static bool decode_by_id(cursor *c, inv_command *command, uint8_t mask) {
    return get_reservation_id(c, command) && get_flags(c, mask) &&
           get_lines(c, false, command) && get_op_id(c, command) && get_who(c, command) &&
           get_why(c, command);
}

static bool decode_extend(cursor *c, inv_command *command) {
    return get_reservation_id(c, command) && get_flags(c, INV_WIRE_SHORTEN) &&
           get_ttl(c, true, &command->ttl_ms) && get_who(c, command) && get_why(c, command);
}

static bool decode_stock(cursor *c, inv_command *command, uint8_t op) {
    inv_wire_arena *arena = c->arena;
    inv_line *line = &arena->lines[arena->line_count];
    INV_ASSERT(arena->line_count < arena->line_max);
    memset(line, 0, sizeof *line);
    if (!get_row(c, true, op != INV_WIRE_SET_POLICY, line)) return false;
    const char *figure = op == INV_WIRE_ADJUST ? "delta" : "qty";
    if (op == INV_WIRE_SET_POLICY ? !get_int(c, "safety_stock", &command->safety_stock)
                                  : !get_int(c, figure, &line->qty))
        return false;
    if (op == INV_WIRE_SET_ON_HAND && !get_int(c, "if_on_hand", &command->if_on_hand)) return false;
    if (!get_op_id(c, command) || !get_flags(c, op == INV_WIRE_ADJUST ? INV_WIRE_STRICT : 0) ||
        !get_who(c, command) || !get_why(c, command))
        return false;
    command->lines = line;
    command->line_count = 1;
    arena->line_count++;
    return true;
}

static void set_flags(inv_command *command, uint8_t flags) {
    command->use_safety_stock = (flags & INV_WIRE_USE_SAFETY_STOCK) != 0;
    command->rehold = (flags & INV_WIRE_REHOLD) != 0;
    command->keep_rest = (flags & INV_WIRE_KEEP_REST) != 0;
    command->shorten = (flags & INV_WIRE_SHORTEN) != 0;
    command->tombstone = (flags & INV_WIRE_TOMBSTONE) != 0;
    command->strict = (flags & INV_WIRE_STRICT) != 0;
}

static bool decode_command(cursor *c, uint8_t op) {
    inv_wire_arena *arena = c->arena;
    inv_command *command = &arena->commands[arena->command_count];
    bool ok = false;
    INV_ASSERT(arena->command_count < arena->command_max);
    memset(command, 0, sizeof *command);
    command->kind = inv_wire_command_kind(op);
    switch (op) {
    case INV_WIRE_RESERVE:
        ok = decode_reserve(c, command);
        break;
    case INV_WIRE_RESERVE_LINES:
        ok = decode_reserve_lines(c, command);
        break;
    case INV_WIRE_COMMIT:
        ok = decode_by_id(c, command, INV_WIRE_REHOLD | INV_WIRE_KEEP_REST);
        break;
    case INV_WIRE_SHIP:
    case INV_WIRE_CANCEL:
        ok = decode_by_id(c, command, 0);
        break;
    case INV_WIRE_RELEASE:
        ok = decode_by_id(c, command, INV_WIRE_TOMBSTONE);
        break;
    case INV_WIRE_EXTEND:
        ok = decode_extend(c, command);
        break;
    default:
        ok = decode_stock(c, command, op);
        break;
    }
    if (!ok) return false;
    set_flags(command, c->request->flags);
    c->request->command = arena->command_count++;
    return true;
}

/* ---- reads and names ------------------------------------------------------------------------- */

static bool decode_availability(cursor *c, bool one_row) {
    inv_wire_request *request = c->request;
    memset(&request->row, 0, sizeof request->row);
    return get_row(c, one_row, one_row, &request->row.line) && get_flags(c, INV_WIRE_RELAXED) &&
           get_text(c, "seller", &request->row.seller);
}

static bool decode_reservation(cursor *c) {
    inv_wire_request *request = c->request;
    memset(&request->reservation, 0, sizeof request->reservation);
    return get_id(c, "reservation_id", true, &request->reservation.id,
                  &request->reservation.id_is_uuid) &&
           get_text(c, "seller", &request->reservation.seller);
}

static bool decode_names(cursor *c, bool skus) {
    inv_wire_request *request = c->request;
    const uint8_t *head = c->reader.at;
    inv_msgpack_token found;
    bool given;
    memset(&request->names, 0, sizeof request->names);
    if (!typed(c, INV_MSGPACK_ARRAY, "names", true, &found, &given)) return false;
    request->names.at = c->reader.at;
    request->names.count = (uint32_t)inv_min_u64(found.number, UINT32_MAX);
    bool ok = found.number <= INV_WIRE_NAME_COUNT_MAX ||
              refuse_figure(c, INV_LIMIT_EXCEEDED, "names", found.number, INV_WIRE_NAME_COUNT_MAX);
    for (uint32_t i = 0; ok && i < request->names.count; i++) {
        inv_msgpack_token name;
        ok = token(c, &name) &&
             (name.type == INV_MSGPACK_STR || refuse_at(c, INV_BAD_REQUEST, "names[]", i));
    }
    if (!ok) {
        if (c->broken) return false;
        c->reader.at = head;
        c->left++;
        return false;
    }
    request->names.bytes = (uint32_t)(c->reader.at - request->names.at);
    return get_flags(c, INV_WIRE_CREATE) &&
           (!skus || get_text(c, "seller", &request->names.seller));
}

/* A column of values of `width` bytes; *count: how many, UINT32_MAX at first: this one says. */
static bool get_column(cursor *c, const char *path, uint32_t width, bool required,
                       const uint8_t **out, uint32_t most, uint32_t *count) {
    inv_msgpack_token found;
    bool given;
    if (!typed(c, INV_MSGPACK_BIN, path, required, &found, &given)) return false;
    if (!given) return true;
    uint64_t rows = found.number / width;
    if (found.number % width != 0) return refuse(c, path);
    if (rows > most) return refuse_figure(c, INV_LIMIT_EXCEEDED, path, rows, most);
    if (*count == UINT32_MAX) *count = (uint32_t)rows;
    if (rows != *count) return refuse_figure(c, INV_BAD_REQUEST, path, rows, *count);
    *out = found.bytes;
    return true;
}

static bool decode_numbers(cursor *c, uint32_t width) {
    inv_wire_request *request = c->request;
    memset(&request->names, 0, sizeof request->names);
    request->names.count = UINT32_MAX;
    return get_column(c, "numbers", width, true, &request->names.at, INV_WIRE_NAME_COUNT_MAX,
                      &request->names.count);
}

/* ---- batches --------------------------------------------------------------------------------- */

/* A number for all rows, or a column of them. */
static bool get_ttls(cursor *c, inv_wire_batch *batch) {
    inv_msgpack_token found = {INV_MSGPACK_NIL, 0, NULL};
    inv_msgpack_reader ahead = c->reader;
    if (c->left > 0 && inv_msgpack_read(&ahead, &found) && found.type == INV_MSGPACK_BIN)
        return get_column(c, "ttl_ms", 4, true, &batch->ttls, INV_WIRE_ROW_COUNT_MAX,
                          &batch->count);
    return get_ttl(c, true, &batch->ttl_ms);
}

static bool get_row_columns(cursor *c, inv_wire_batch *batch, const char *qty_path) {
    return get_column(c, "sku_ids", 4, true, &batch->skus, INV_WIRE_ROW_COUNT_MAX,
                      &batch->count) &&
           get_column(c, "location_ids", 2, true, &batch->locations, INV_WIRE_ROW_COUNT_MAX,
                      &batch->count) &&
           get_column(c, qty_path, 8, true, &batch->qtys, INV_WIRE_ROW_COUNT_MAX, &batch->count);
}

static bool get_ids(cursor *c, inv_wire_batch *batch, const char *path, bool required) {
    return get_column(c, path, 16, required, &batch->ids, INV_WIRE_ROW_COUNT_MAX, &batch->count);
}

static bool decode_batch(cursor *c, uint8_t op) {
    inv_wire_batch *batch = &c->request->batch;
    memset(batch, 0, sizeof *batch);
    batch->count = UINT32_MAX;
    bool ok;
    switch (op) {
    case INV_WIRE_RESERVE_BATCH:
        ok = get_ids(c, batch, "reservation_ids", true) && get_row_columns(c, batch, "qty") &&
             get_ttls(c, batch);
        break;
    case INV_WIRE_RECEIVE_BATCH:
    case INV_WIRE_ISSUE_BATCH:
    case INV_WIRE_ADJUST_BATCH:
        ok = get_ids(c, batch, "op_ids", false) &&
             get_row_columns(c, batch, op == INV_WIRE_ADJUST_BATCH ? "delta" : "qty");
        break;
    case INV_WIRE_EXTEND_BATCH:
        ok = get_ids(c, batch, "reservation_ids", true) && get_ttls(c, batch);
        break;
    default:
        ok = get_ids(c, batch, "reservation_ids", true);
        break;
    }
    bool stock = op >= INV_WIRE_RECEIVE_BATCH && op <= INV_WIRE_ADJUST_BATCH;
    return ok && get_text(c, "account", &batch->account) &&
           get_text(c, "seller", &batch->seller) &&
           (!stock || get_text(c, "reason", &batch->reason));
}

static bool decode_availability_batch(cursor *c) {
    inv_wire_batch *batch = &c->request->batch;
    memset(batch, 0, sizeof *batch);
    batch->count = UINT32_MAX;
    return get_column(c, "sku_ids", 4, true, &batch->skus, INV_WIRE_ROW_COUNT_MAX,
                      &batch->count) &&
           get_column(c, "location_ids", 2, true, &batch->locations, INV_WIRE_ROW_COUNT_MAX,
                      &batch->count) &&
           get_flags(c, INV_WIRE_RELAXED);
}

/* ---- a request ------------------------------------------------------------------------------- */

static bool is_read(uint8_t op) {
    return (op >= INV_WIRE_AVAILABILITY && op <= INV_WIRE_RESERVATION) ||
           op == INV_WIRE_AVAILABILITY_BATCH;
}

/* The values of `ask`: whatever is wrong, it goes back to its head. */
static bool decode_ask(cursor *c) {
    inv_wire_request *request = c->request;
    const uint8_t *head = c->reader.at;
    uint64_t after, value = 0;
    inv_msgpack_token found;
    bool given;
    if (!typed(c, INV_MSGPACK_ARRAY, "ask", false, &found, &given)) return false;
    if (!given) return true;
    if (found.number > 3) {
        c->reader.at = head;
        c->left++;
        return refuse_figure(c, INV_BAD_REQUEST, "ask", found.number, 3);
    }
    after = c->left;
    c->left = found.number;
    bool ok = get_uint(c, "ask.durability", false, 0, INV_MEMORY, &value, &given);
    request->asks_durability = ok && given;
    request->durability = (uint8_t)value;
    value = 0;
    ok = ok && get_uint(c, "ask.deadline_ms", false, 1, INV_WIRE_DEADLINE_MS_MAX, &value, &given);
    request->deadline_ms = (uint32_t)value;
    ok = ok && get_uint(c, "ask.min_lsn", false, 0, UINT64_MAX, &request->min_lsn, &given);
    if (ok && given && !is_read(request->op)) ok = refuse(c, "ask.min_lsn");
    c->left = after;
    if (ok || c->broken) return ok;
    c->reader.at = head;
    c->left++;
    return false;
}

static bool decode_body(cursor *c, uint8_t op) {
    inv_wire_request *request = c->request;
    bool given;
    switch (op) {
    case INV_WIRE_AVAILABILITY:
        return decode_availability(c, true);
    case INV_WIRE_AVAILABILITY_SKU:
        return decode_availability(c, false);
    case INV_WIRE_RESERVATION:
        return decode_reservation(c);
    case INV_WIRE_SKU_IDS:
    case INV_WIRE_LOCATION_IDS:
        return decode_names(c, op == INV_WIRE_SKU_IDS);
    case INV_WIRE_SKU_NAMES:
        return decode_numbers(c, 4);
    case INV_WIRE_LOCATION_NAMES:
        return decode_numbers(c, 2);
    case INV_WIRE_AVAILABILITY_BATCH:
        return decode_availability_batch(c);
    case INV_WIRE_HELLO:
        request->client = (inv_text){NULL, 0};
        return get_text(c, "client", &request->client) &&
               (request->client.length <= INV_WIRE_CLIENT_BYTES_MAX ||
                refuse_figure(c, INV_BAD_REQUEST, "client", request->client.length,
                              INV_WIRE_CLIENT_BYTES_MAX));
    case INV_WIRE_PING:
        return true;
    case INV_WIRE_BARRIER:
        request->barrier.lsn = 0;
        if (!get_uint(c, "lsn", false, 0, UINT64_MAX, &request->barrier.lsn, &given)) return false;
        request->barrier.given = given;
        return true;
    default:
        return inv_wire_is_command(op) ? decode_command(c, op) : decode_batch(c, op);
    }
}

static bool is_op(uint64_t op) {
    return (op >= INV_WIRE_RESERVE && op <= INV_WIRE_SET_POLICY) ||
           (op >= INV_WIRE_AVAILABILITY && op <= INV_WIRE_RESERVATION) ||
           (op >= INV_WIRE_SKU_IDS && op <= INV_WIRE_LOCATION_NAMES) ||
           (op >= INV_WIRE_RESERVE_BATCH && op <= INV_WIRE_AVAILABILITY_BATCH) ||
           (op >= INV_WIRE_HELLO && op <= INV_WIRE_BARRIER);
}

/* The version; a value that is none is passed over, so that the correlation is found behind it. */
static bool decode_version(cursor *c) {
    inv_msgpack_reader ahead = c->reader;
    inv_msgpack_token found;
    bool given;
    if (c->left > 0 && !inv_msgpack_read(&ahead, &found)) return broken(c);
    if (c->left > 0 && found.type != INV_MSGPACK_UINT) {
        if (!inv_msgpack_skip(&c->reader, 1, 1)) return broken(c);
        c->left--;
        return refuse(c, "version");
    }
    if (!typed(c, INV_MSGPACK_UINT, "version", true, &found, &given)) return false;
    return found.number == INV_WIRE_VERSION ||
           refuse_figure(c, INV_BAD_REQUEST, "version", found.number, INV_WIRE_VERSION);
}

static bool decode_head(cursor *c) {
    inv_wire_request *request = c->request;
    inv_msgpack_token found;
    bool given, ok = decode_version(c);
    if (c->broken) return false;
    if (!typed(c, INV_MSGPACK_UINT, "correlation", true, &found, &given)) return false;
    request->correlation = found.number;
    request->has_correlation = true;
    if (!ok || !typed(c, INV_MSGPACK_UINT, "op", true, &found, &given)) return false;
    if (!is_op(found.number))
        return refuse_figure(c, INV_BAD_REQUEST, "op", found.number, INV_WIRE_OP_MAX);
    request->op = (uint8_t)found.number;
    return true;
}

/* A request of `count` values. False: the framing is broken. */
static bool decode_request(cursor *c, uint64_t count) {
    inv_wire_arena *arena = c->arena;
    uint32_t commands = arena->command_count, lines = arena->line_count;
    c->left = count;
    bool ok = decode_head(c) && decode_ask(c) && decode_body(c, c->request->op);
    if (c->broken) return false;
    if (ok && c->left > 0)
        ok = refuse_figure(c, INV_BAD_REQUEST, "positions", count, count - c->left);
    if (ok) return true;
    arena->command_count = commands;
    arena->line_count = lines;
    return inv_msgpack_skip(&c->reader, c->left, 1) || broken(c);
}

/* ---- a message ------------------------------------------------------------------------------- */

bool inv_wire_has_room(const inv_wire_arena *arena) {
    return arena->request_max - arena->request_count >= INV_WIRE_REQUEST_COUNT_MAX &&
           arena->command_max - arena->command_count >= INV_WIRE_REQUEST_COUNT_MAX &&
           arena->line_max - arena->line_count >= INV_WIRE_LINE_COUNT_MAX + INV_LINE_COUNT_MAX;
}

static void refuse_all(inv_wire_request *requests, uint32_t count, uint8_t code, const char *path,
                       uint64_t figure, uint64_t limit) {
    for (uint32_t i = 0; i < count; i++)
        requests[i].refusal = (inv_wire_refusal){.code = code,
                                                 .path = path,
                                                 .has_figure = true,
                                                 .figure = (int64_t)figure,
                                                 .limit = (int64_t)limit};
}

static inv_wire_request *begin_request(inv_wire_arena *arena) {
    inv_wire_request *request = &arena->requests[arena->request_count++];
    request->correlation = 0;
    request->has_correlation = request->asks_durability = false;
    request->op = INV_WIRE_NONE;
    request->flags = 0;
    request->deadline_ms = 0;
    request->min_lsn = 0;
    request->refusal = (inv_wire_refusal){.code = INV_OK};
    return request;
}

uint32_t inv_wire_decode(const uint8_t *message, size_t bytes, inv_wire_arena *arena) {
    const uint32_t commands = arena->command_count, lines = arena->line_count;
    inv_wire_request *requests = arena->requests + arena->request_count;
    cursor c = {.reader = {message, message + bytes}, .arena = arena};
    uint32_t count = 0;
    const char *path = NULL;
    INV_ASSERT(inv_wire_has_room(arena));
    while (path == NULL && (c.reader.at < c.reader.end || count == 0)) {
        const uint8_t *at = c.reader.at;
        inv_msgpack_token found;
        if (count == INV_WIRE_REQUEST_COUNT_MAX) {
            path = "requests";
            break;
        }
        c.request = begin_request(arena);
        count++;
        if (!inv_msgpack_read(&c.reader, &found)) {
            c.broken = true;
        } else if (found.type != INV_MSGPACK_ARRAY) {
            (void)refuse(&c, "request");
            c.reader.at = at;
            c.broken = !inv_msgpack_skip(&c.reader, 1, 0);
        } else {
            (void)decode_request(&c, found.number);
        }
        if (c.broken) path = "message";
        else if (arena->line_count - lines > INV_WIRE_LINE_COUNT_MAX) path = "message.lines";
    }
    if (path == NULL) return count;
    if (c.broken)
        refuse_all(requests, count, INV_BAD_REQUEST, path, (uint64_t)(c.reader.at - message),
                   bytes);
    else if (count == INV_WIRE_REQUEST_COUNT_MAX && path[0] == 'r')
        refuse_all(requests, count, INV_LIMIT_EXCEEDED, path, INV_WIRE_REQUEST_COUNT_MAX + 1,
                   INV_WIRE_REQUEST_COUNT_MAX);
    else
        refuse_all(requests, count, INV_LIMIT_EXCEEDED, path, arena->line_count - lines,
                   INV_WIRE_LINE_COUNT_MAX);
    arena->command_count = commands;
    arena->line_count = lines;
    return count;
}

void inv_wire_refuse_message(inv_wire_request *out) {
    inv_wire_arena arena = {.requests = out, .request_max = 1};
    (void)begin_request(&arena);
    out->refusal = (inv_wire_refusal){.code = INV_BAD_REQUEST, .path = "message"};
}

const uint8_t *inv_wire_names(const inv_wire_request *request, const uint8_t *at, uint32_t count,
                              inv_text *out) {
    inv_msgpack_reader reader = {at, request->names.at + request->names.bytes};
    for (uint32_t i = 0; i < count; i++) {
        inv_msgpack_token found = {INV_MSGPACK_NIL, 0, NULL};
        bool ok = inv_msgpack_read(&reader, &found);
        INV_ASSERT(ok && found.type == INV_MSGPACK_STR); /* they were all read once */
        out[i] = text_of(&found);
    }
    return reader.at;
}

/* ---- operations as the engine names them ----------------------------------------------------- */

uint8_t inv_wire_command_kind(uint8_t op) {
    static const uint8_t singles[] = {
        0,           INV_CMD_RESERVE, INV_CMD_RESERVE, INV_CMD_COMMIT,      INV_CMD_SHIP,
        INV_CMD_RELEASE, INV_CMD_CANCEL, INV_CMD_EXTEND, INV_CMD_RECEIVE, INV_CMD_ISSUE,
        INV_CMD_ADJUST,  INV_CMD_SET_ON_HAND, INV_CMD_SET_POLICY};
    static const uint8_t batches[] = {INV_CMD_RESERVE, INV_CMD_RECEIVE, INV_CMD_ISSUE,
                                      INV_CMD_ADJUST,  INV_CMD_COMMIT,  INV_CMD_SHIP,
                                      INV_CMD_RELEASE, INV_CMD_CANCEL,  INV_CMD_EXTEND};
    if (inv_wire_is_command(op)) return singles[op];
    return inv_wire_is_batch(op) ? batches[op - INV_WIRE_RESERVE_BATCH] : 0;
}

static const void *copy_column(const uint8_t *column, size_t bytes, uint8_t **room) {
    if (column == NULL) return NULL;
    const void *copy = *room;
    if (bytes > 0) memcpy(*room, column, bytes);
    *room += inv_align_u64(bytes, 8);
    return copy;
}

void inv_wire_align_batch(const inv_wire_request *request, void *room, inv_batch *out) {
    const inv_wire_batch *batch = &request->batch;
    uint8_t *next = room;
    size_t count = batch->count;
    *out = (inv_batch){.kind = inv_wire_command_kind(request->op),
                       .count = count,
                       .seller = batch->seller,
                       .account = batch->account,
                       .reason = batch->reason,
                       .ids = batch->ids,
                       .ttl_ms = batch->ttl_ms};
    out->qtys = copy_column(batch->qtys, 8 * count, &next);
    out->skus = copy_column(batch->skus, 4 * count, &next);
    out->ttls_ms = copy_column(batch->ttls, 4 * count, &next);
    out->locations = copy_column(batch->locations, 2 * count, &next);
}
