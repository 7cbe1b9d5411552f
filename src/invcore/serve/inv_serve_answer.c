/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_serve_answer.c: requests become replies. Consecutive changes, of one message or of several,
 * are judged by one call of the store, which makes records of up to 32 of them; a read, a batch or
 * anything else between them ends such a run, so that requests take effect in the order they came.
 */
#include "inv_serve_loop.h"

#define PLAIN_REPLY_BYTES (INV_WIRE_REPLY_HEAD_BYTES + INV_WIRE_LEVEL_BYTES)

static uint8_t *out_of(inv_serve_loop *loop) { return loop->out + loop->message.bytes; }

static void wrote(inv_serve_loop *loop, const uint8_t *end) {
    loop->message.bytes = (size_t)(end - loop->out);
    INV_ASSERT(loop->message.bytes <= INV_SERVE_OUT_BYTES);
}

/* Whether a reply with `bytes` more than the plain ones have fits the message. */
static bool fits(const inv_serve_loop *loop, uint64_t bytes) {
    return loop->message.bytes + PLAIN_REPLY_BYTES + bytes <= INV_WIRE_REPLY_BYTES_MAX;
}

/* What the head of a reply says that shows `lsn` and observed `observed`; it waits for that, unless
 * relaxed. */
static inv_wire_answer answer_of(inv_serve_loop *loop, uint64_t lsn, uint64_t observed,
                                 bool relaxed) {
    bool durable = observed <= inv_wal_durable(&loop->store->wal);
    if (!relaxed) durable = durable || loop->durability == INV_DURABLE || loop->message.to_disk;
    if (loop->durability == INV_MEMORY) durable = false;
    if (!relaxed) loop->message.lsn = inv_max_u64(loop->message.lsn, observed);
    return (inv_wire_answer){lsn, loop->epoch << 1 | (durable ? 1 : 0)};
}

static void put_code(inv_serve_loop *loop, const inv_wire_request *request, int code,
                     uint64_t lsn, uint64_t figure) {
    if (code == INV_BUSY) {
        figure = loop->serve->options.busy_retry_ms;
        inv_serve_count(&loop->busy, 1);
    }
    wrote(loop, inv_wire_put_code(out_of(loop), request, answer_of(loop, lsn, lsn, false), code,
                                  figure));
}

static void put_refusal(inv_serve_loop *loop, const inv_wire_request *request,
                        inv_wire_refusal refusal) {
    if (refusal.path == NULL) {
        put_code(loop, request, refusal.code, 0, 0);
        return;
    }
    wrote(loop, inv_wire_put_refusal(out_of(loop), request, answer_of(loop, 0, 0, false),
                                     &refusal));
}

static void put_bad(inv_serve_loop *loop, const inv_wire_request *request, const char *path,
                    uint32_t index, uint64_t figure, uint64_t limit) {
    put_refusal(loop, request,
                (inv_wire_refusal){.code = INV_BAD_REQUEST,
                                   .path = path,
                                   .index = index,
                                   .has_figure = limit != 0,
                                   .figure = (int64_t)figure,
                                   .limit = (int64_t)limit});
}

static void put_too_long(inv_serve_loop *loop, const inv_wire_request *request, uint64_t bytes) {
    put_refusal(loop, request,
                (inv_wire_refusal){.code = INV_LIMIT_EXCEEDED,
                                   .path = "reply",
                                   .has_figure = true,
                                   .figure = (int64_t)bytes,
                                   .limit = INV_WIRE_REPLY_BYTES_MAX});
}

/* ---- names ----------------------------------------------------------------------------------- */

static inv_text location_name(inv_serve_loop *loop, uint32_t number) {
    uint32_t length = loop->location_lengths[number];
    if (INV_UNLIKELY(length == 0)) {
        char text[INV_SKU_BYTES_MAX];
        if (!inv_store_name(loop->store, INV_NAME_LOCATION, number, text, &length)) length = 0;
        INV_ASSERT(length <= INV_LOCATION_BYTES_MAX);
        memcpy(loop->location_names[number], text, length);
        loop->location_lengths[number] = (uint8_t)length;
    }
    return (inv_text){loop->location_names[number], length};
}

static inv_text name_of(void *context, inv_name_kind kind, uint32_t number) {
    inv_serve_loop *loop = context;
    uint32_t length = 0;
    if (kind == INV_NAME_LOCATION && number < INV_LOCATION_COUNT_MAX)
        return location_name(loop, number);
    if (!inv_store_name(loop->store, kind, number, loop->sku_name, &length)) length = 0;
    return (inv_text){loop->sku_name, length};
}

/* ---- changes of one -------------------------------------------------------------------------- */

static bool is_late(const inv_serve_loop *loop, const inv_wire_request *request) {
    if (INV_LIKELY(request->deadline_ms == 0)) return false;
    const inv_clock *clock = &loop->store->env->clock;
    return clock->mono_ms(clock->context) - loop->received_ms > request->deadline_ms;
}

/* Lines to make room for: a free line may be served at several places. What does not fit is asked
 * for again. */
static uint32_t lines_wanted(const inv_command *command) {
    if (command->line_count <= 1) return INV_SERVE_LINES_USUAL;
    return (uint32_t)inv_min_u64(2ull * command->line_count + INV_SERVE_LINES_USUAL,
                                 INV_LINE_COUNT_MAX);
}

/* Judges the commands from request `index` on, as far as they follow one another. */
static inv_result judge_run(inv_serve_loop *loop, uint32_t index) {
    const inv_wire_arena *arena = &loop->arena;
    uint32_t first = arena->requests[index].command, count = 0, lines = 0;
    for (uint32_t i = index; i < arena->request_count && count < INV_SERVE_RUN_COMMANDS; i++) {
        inv_wire_request *request = &arena->requests[i];
        if (request->refusal.code != INV_OK) continue; /* one that is gone leaves a gap */
        if (!inv_wire_is_command(request->op) || request->command != first + count) break;
        if (i > index && is_late(loop, request)) break;
        uint32_t wanted = lines_wanted(&arena->commands[first + count]);
        if (lines + wanted > INV_SERVE_RUN_LINES) break;
        loop->replies[count].lines = loop->reply_lines + lines;
        loop->replies[count].lines_max = wanted;
        lines += wanted;
        count++;
    }
    INV_ASSERT(count > 0);
    loop->run_first = first;
    loop->run_count = count;
    return inv_store_try_execute(loop->store, &arena->commands[first], count, loop->replies);
}

/* Lines that did not fit. A success changed something: then the reservation is read, and may have
 * gone on since. A refusal changed nothing: then the command is judged again, with room. */
static inv_result fetch_lines(inv_serve_loop *loop, const inv_command *command, inv_reply *reply) {
    inv_reply more = {.lines = loop->cart_lines, .lines_max = INV_LINE_COUNT_MAX};
    if (reply->code > INV_REPLAYED) {
        inv_result result = inv_store_try_execute(loop->store, command, 1, &more);
        if (result == INV_OK) *reply = more;
        return result;
    }
    if (inv_store_reservation(loop->store, command->seller, command->id, command->id_is_uuid,
                              &more) != INV_OK ||
        more.line_count < reply->line_count)
        return INV_OK; /* ended meanwhile: what came with the answer must do */
    reply->lines = more.lines;
    reply->line_count = more.line_count;
    reply->lines_max = more.lines_max;
    reply->observed_lsn = inv_max_u64(reply->observed_lsn, more.observed_lsn);
    return INV_OK;
}

static void put_reply(inv_serve_loop *loop, const inv_wire_request *request,
                      const inv_reply *reply) {
    const inv_wire_namer namer = {loop, name_of};
    uint64_t observed = reply->observed_lsn;
    uint64_t lsn = reply->code <= INV_REPLAYED ? reply->lsn : observed;
    if (reply->code == INV_BUSY || reply->code == INV_STORE_CLOSED) {
        put_code(loop, request, reply->code, 0, 0);
        return;
    }
    bool with_lines = fits(loop, inv_wire_reply_room(reply));
    wrote(loop, inv_wire_put_reply(out_of(loop), request, answer_of(loop, lsn, observed, false),
                                   reply, &namer, with_lines));
}

static inv_result answer_command(inv_serve_loop *loop, uint32_t index) {
    const inv_wire_request *request = &loop->arena.requests[index];
    if (request->command - loop->run_first >= loop->run_count) {
        inv_result result = judge_run(loop, index);
        if (result == INV_STORE_FAILED) return result;
    }
    inv_reply *reply = &loop->replies[request->command - loop->run_first];
    if (reply->code == INV_STORE_FAILED) return INV_STORE_FAILED;
    if (INV_UNLIKELY(reply->line_count > reply->lines_max) &&
        fetch_lines(loop, &loop->arena.commands[request->command], reply) == INV_STORE_FAILED)
        return INV_STORE_FAILED;
    put_reply(loop, request, reply);
    return INV_OK;
}

/* ---- reads ----------------------------------------------------------------------------------- */

/* LAGGING was answered: the log does not reach up to what the reader wants. */
static bool lags(inv_serve_loop *loop, const inv_wire_request *request, uint64_t lsn) {
    uint64_t tail = atomic_load_explicit(&loop->store->wal.tail, memory_order_acquire);
    if (lsn <= tail) return false;
    put_code(loop, request, INV_LAGGING, tail, lsn - tail);
    return true;
}

static void put_read_refusal(inv_serve_loop *loop, const inv_wire_request *request,
                             inv_result code, uint64_t lsn) {
    inv_text seller = request->row.seller, sku = request->row.line.sku;
    if (code != INV_BAD_REQUEST)
        put_code(loop, request, code, lsn, 0);
    else if (seller.bytes != NULL && !inv_text_fits(seller, INV_SELLER_BYTES_MAX))
        put_bad(loop, request, "seller", 0, seller.length, INV_SELLER_BYTES_MAX);
    else if (sku.bytes != NULL && !inv_text_fits(sku, INV_SKU_BYTES_MAX))
        put_bad(loop, request, "sku", 0, sku.length, INV_SKU_BYTES_MAX);
    else
        put_bad(loop, request, "location", 0, request->row.line.location.length,
                INV_LOCATION_BYTES_MAX);
}

static void answer_availability(inv_serve_loop *loop, const inv_wire_request *request) {
    const inv_wire_namer namer = {loop, name_of};
    bool relaxed = (request->flags & INV_WIRE_RELAXED) != 0;
    bool whole_sku = request->op == INV_WIRE_AVAILABILITY_SKU;
    inv_stock_level level;
    uint32_t count = 0;
    inv_result code =
        whole_sku ? inv_store_availability_sku(loop->store, request->row.seller,
                                               &request->row.line, loop->levels,
                                               INV_SKU_ROW_COUNT_MAX, &count, &level)
                  : inv_store_availability(loop->store, request->row.seller, &request->row.line,
                                           &level);
    uint64_t bytes = (uint64_t)count * INV_WIRE_LEVEL_BYTES;
    INV_ASSERT(count <= INV_SKU_ROW_COUNT_MAX);
    if (code != INV_OK)
        put_read_refusal(loop, request, code, level.lsn);
    else if (!fits(loop, bytes))
        put_too_long(loop, request, bytes);
    else
        wrote(loop, inv_wire_put_level(out_of(loop), request,
                                       answer_of(loop, level.lsn, level.lsn, relaxed), &level,
                                       loop->levels, count, &namer));
}

static void answer_reservation(inv_serve_loop *loop, const inv_wire_request *request) {
    inv_reply reply = {.lines = loop->cart_lines, .lines_max = INV_LINE_COUNT_MAX};
    reply.code = inv_store_reservation(loop->store, request->reservation.seller,
                                       request->reservation.id, request->reservation.id_is_uuid,
                                       &reply);
    if (reply.code == INV_BAD_REQUEST)
        reply.figure = reply.field[0] == 's' ? request->reservation.seller.length
                                             : request->reservation.id.length;
    put_reply(loop, request, &reply);
}

static void answer_availability_batch(inv_serve_loop *loop, const inv_wire_request *request) {
    uint32_t count = request->batch.count, bytes = count * (uint32_t)sizeof(inv_batch_level);
    uint64_t lsn = 0;
    inv_batch batch;
    if (!fits(loop, bytes)) {
        put_too_long(loop, request, bytes);
        return;
    }
    inv_wire_align_batch(request, loop->batch_room, &batch);
    inv_result code = inv_store_availability_batch(loop->store, batch.skus, batch.locations, count,
                                                   loop->batch_levels, &lsn);
    if (code != INV_OK) {
        put_code(loop, request, code, 0, 0);
        return;
    }
    bool relaxed = (request->flags & INV_WIRE_RELAXED) != 0;
    uint8_t *end = inv_wire_put_bin_head(out_of(loop), request, answer_of(loop, lsn, lsn, relaxed),
                                         bytes);
    if (bytes > 0) memcpy(end, loop->batch_levels, bytes);
    wrote(loop, end + bytes);
}

/* ---- batches of changes ---------------------------------------------------------------------- */

static const char *path_of_text(const inv_error *error) {
    return error->message[0] == 's' ? "seller" : error->message[0] == 'a' ? "account" : "reason";
}

static void count_busy_rows(inv_serve_loop *loop, const uint8_t *codes, uint32_t count) {
    uint64_t busy = 0;
    for (uint32_t i = 0; i < count; i++) busy += codes[i] == INV_BUSY;
    if (busy > 0) inv_serve_count(&loop->busy, busy);
}

static inv_result answer_batch(inv_serve_loop *loop, const inv_wire_request *request) {
    uint32_t count = request->batch.count;
    uint8_t codes[INV_WIRE_ROW_COUNT_MAX];
    inv_error error = {0};
    inv_batch batch;
    uint64_t lsn = 0;
    if (!fits(loop, count)) {
        put_too_long(loop, request, count);
        return INV_OK;
    }
    inv_wire_align_batch(request, loop->batch_room, &batch);
    inv_result result = inv_store_try_execute_batch(loop->store, &batch, codes, &lsn, &error);
    if (result == INV_STORE_FAILED) return result;
    if (result == INV_BAD_REQUEST) {
        put_refusal(loop, request,
                    (inv_wire_refusal){.code = INV_BAD_REQUEST, .path = path_of_text(&error)});
        return INV_OK;
    }
    count_busy_rows(loop, codes, count);
    uint8_t *end = inv_wire_put_bin_head(out_of(loop), request, answer_of(loop, lsn, lsn, false),
                                         count);
    if (count > 0) memcpy(end, codes, count);
    wrote(loop, end + count);
    return INV_OK;
}

/* ---- names and numbers ----------------------------------------------------------------------- */

static void put_numbers(inv_serve_loop *loop, const inv_wire_request *request, uint64_t lsn) {
    uint32_t count = request->names.count;
    bool skus = request->op == INV_WIRE_SKU_IDS;
    uint8_t *end = inv_wire_put_bin_head(out_of(loop), request, answer_of(loop, lsn, lsn, false),
                                         count * (skus ? 4u : 2u));
    for (uint32_t i = 0; i < count; i++, end += skus ? 4 : 2) {
        if (skus) inv_put_u32(end, loop->numbers[i]);
        else inv_put_u16(end, (uint16_t)loop->numbers[i]);
    }
    wrote(loop, end);
}

static void put_unknown_location(inv_serve_loop *loop, const inv_wire_request *request,
                                 uint32_t index, uint64_t lsn) {
    const inv_wire_refusal refusal = {.code = INV_UNKNOWN_LOCATION, .path = "names[]",
                                      .index = index};
    wrote(loop, inv_wire_put_refusal(out_of(loop), request, answer_of(loop, lsn, lsn, false),
                                     &refusal));
}

static inv_result answer_ids(inv_serve_loop *loop, const inv_wire_request *request) {
    inv_name_kind kind = request->op == INV_WIRE_SKU_IDS ? INV_NAME_SKU : INV_NAME_LOCATION;
    uint32_t count = request->names.count;
    inv_text seller = request->names.seller;
    uint64_t lsn = 0;
    size_t bad = 0;
    if (!fits(loop, 4ull * count)) {
        put_too_long(loop, request, 4ull * count);
        return INV_OK;
    }
    if (seller.bytes != NULL && !inv_text_fits(seller, INV_SELLER_BYTES_MAX)) {
        put_bad(loop, request, "seller", 0, seller.length, INV_SELLER_BYTES_MAX);
        return INV_OK;
    }
    (void)inv_wire_names(request, request->names.at, count, loop->names);
    inv_result code = inv_store_try_numbers(
        loop->store, kind, seller, loop->names, count, (request->flags & INV_WIRE_CREATE) != 0,
        loop->numbers, &lsn, &bad);
    if (code == INV_STORE_FAILED) return code;
    if (code == INV_BAD_REQUEST)
        put_bad(loop, request, "names[]", (uint32_t)bad, loop->names[bad].length,
                kind == INV_NAME_SKU ? INV_SKU_BYTES_MAX : INV_LOCATION_BYTES_MAX);
    else if (code == INV_LIMIT_EXCEEDED)
        put_refusal(loop, request,
                    (inv_wire_refusal){.code = INV_LIMIT_EXCEEDED,
                                       .path = "names[]",
                                       .index = (uint32_t)bad,
                                       .has_figure = true,
                                       .figure = INV_LOCATION_COUNT_MAX,
                                       .limit = INV_LOCATION_COUNT_MAX});
    else if (code != INV_OK)
        put_code(loop, request, code, 0, 0);
    else {
        for (uint32_t i = 0; kind == INV_NAME_LOCATION && i < count; i++)
            if (loop->numbers[i] == INV_NUMBER_NONE) {
                put_unknown_location(loop, request, i, lsn);
                return INV_OK;
            }
        put_numbers(loop, request, lsn);
    }
    return INV_OK;
}

static void answer_names(inv_serve_loop *loop, const inv_wire_request *request) {
    bool skus = request->op == INV_WIRE_SKU_NAMES;
    inv_name_kind kind = skus ? INV_NAME_SKU : INV_NAME_LOCATION;
    uint64_t bytes = (uint64_t)request->names.count * (INV_SKU_BYTES_MAX + 2);
    if (!fits(loop, bytes)) {
        put_too_long(loop, request, bytes);
        return;
    }
    uint8_t *end = inv_wire_put_names_head(out_of(loop), request, answer_of(loop, 0, 0, false),
                                           request->names.count);
    for (uint32_t i = 0; i < request->names.count; i++) {
        const uint8_t *at = request->names.at + (size_t)i * (skus ? 4 : 2);
        inv_text name = name_of(loop, kind, skus ? inv_load_u32(at) : inv_load_u16(at));
        if (name.length == 0) { /* what was begun is written over */
            put_bad(loop, request, "numbers[]", i, 0, 0);
            return;
        }
        end = inv_msgpack_put_str(end, name.bytes, name.length);
    }
    wrote(loop, end);
}

/* ---- the server ------------------------------------------------------------------------------ */

static void answer_hello(inv_serve_loop *loop, const inv_wire_request *request) {
    const inv_serve_options *options = &loop->serve->options;
    inv_wire_hello hello = {
        .server = inv_text_of(options->version),
        .durability = loop->durability,
        .interval_ms = loop->durability == INV_INTERVAL ? loop->store->options.interval_ms : 0,
        .now_unix_ms = atomic_load_explicit(&loop->store->now_ms, memory_order_acquire),
        .message_bytes_max = options->message_bytes_max,
        .silence_ms_max = options->silence_ms_max};
    uint64_t tail = atomic_load_explicit(&loop->store->wal.tail, memory_order_acquire);
    inv_store_uuid(loop->store, hello.store_uuid);
    wrote(loop, inv_wire_put_hello(out_of(loop), request, answer_of(loop, tail, tail, true),
                                   &hello));
}

static void answer_barrier(inv_serve_loop *loop, const inv_wire_request *request) {
    uint64_t tail = atomic_load_explicit(&loop->store->wal.tail, memory_order_acquire);
    uint64_t lsn = request->barrier.given ? request->barrier.lsn : tail;
    if (lags(loop, request, lsn)) return;
    put_code(loop, request, INV_OK, lsn, 0);
}

/* ---- a message ------------------------------------------------------------------------------- */

static inv_result answer_request(inv_serve_loop *loop, uint32_t index) {
    inv_wire_request *request = &loop->arena.requests[index];
    bool judged = request->refusal.code == INV_OK && inv_wire_is_command(request->op) &&
                  request->command - loop->run_first < loop->run_count;
    if (!judged && request->refusal.code == INV_OK && is_late(loop, request))
        request->refusal.code = INV_BUSY;
    if (request->refusal.code != INV_OK) {
        put_refusal(loop, request, request->refusal);
        return INV_OK;
    }
    if (INV_LIKELY(inv_wire_is_command(request->op))) return answer_command(loop, index);
    if (inv_wire_is_batch(request->op)) return answer_batch(loop, request);
    if (request->min_lsn > 0 && lags(loop, request, request->min_lsn)) return INV_OK;
    switch ((inv_wire_op)request->op) {
    case INV_WIRE_AVAILABILITY:
    case INV_WIRE_AVAILABILITY_SKU:
        answer_availability(loop, request);
        return INV_OK;
    case INV_WIRE_RESERVATION:
        answer_reservation(loop, request);
        return INV_OK;
    case INV_WIRE_SKU_IDS:
    case INV_WIRE_LOCATION_IDS:
        return answer_ids(loop, request);
    case INV_WIRE_SKU_NAMES:
    case INV_WIRE_LOCATION_NAMES:
        answer_names(loop, request);
        return INV_OK;
    case INV_WIRE_AVAILABILITY_BATCH:
        answer_availability_batch(loop, request);
        return INV_OK;
    case INV_WIRE_HELLO:
        answer_hello(loop, request);
        return INV_OK;
    case INV_WIRE_PING:
        put_code(loop, request, INV_OK, 0, 0);
        return INV_OK;
    case INV_WIRE_BARRIER:
        answer_barrier(loop, request);
        return INV_OK;
    default: /* inv_wire_decode lets no other pass */
        INV_ASSERT(false);
        return INV_OK;
    }
}

void inv_serve_refuse_asks(inv_serve_loop *loop, uint32_t first, uint32_t count) {
    if (loop->durability != INV_MEMORY) return;
    for (uint32_t i = first; i < first + count; i++) {
        inv_wire_request *request = &loop->arena.requests[i];
        if (request->refusal.code != INV_OK || !request->asks_durability ||
            request->durability == INV_MEMORY)
            continue;
        request->refusal = (inv_wire_refusal){.code = INV_BAD_REQUEST,
                                              .path = "ask.durability",
                                              .has_figure = true,
                                              .figure = request->durability,
                                              .limit = INV_MEMORY};
    }
}

/* One request that asks for more than the server does by itself makes its message wait for the
 * disk. */
static bool wants_disk(const inv_serve_loop *loop, const inv_serve_received *received) {
    if (loop->durability != INV_INTERVAL) return false;
    for (uint32_t i = received->first; i < received->first + received->count; i++) {
        const inv_wire_request *request = &loop->arena.requests[i];
        if (request->refusal.code != INV_OK) continue;
        if (request->op == INV_WIRE_BARRIER) return true;
        if (request->asks_durability && request->durability == INV_DURABLE) return true;
    }
    return false;
}

inv_result inv_serve_answer(inv_serve_loop *loop, const inv_serve_received *received) {
    loop->message = (inv_serve_message){.to_disk = wants_disk(loop, received)};
    for (uint32_t i = received->first; i < received->first + received->count; i++) {
        inv_result result = answer_request(loop, i);
        if (result == INV_STORE_FAILED) return result;
    }
    return INV_OK;
}
