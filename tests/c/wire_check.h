/* SPDX-License-Identifier: Apache-2.0
 *
 * wire_check.h: what holds of whatever is decoded, for the tests and the fuzz target of the wire.
 * Every function returns NULL, or what is wrong.
 */
#ifndef WIRE_CHECK_H
#define WIRE_CHECK_H

#include <stdlib.h>

#include "../../src/invcore/wire/inv_wire_client.h"

#define WIRE_LINES (INV_WIRE_LINE_COUNT_MAX + INV_LINE_COUNT_MAX)

/* Touched by every byte that is read: a sanitizer then sees a read outside. */
static volatile uint8_t wire_sum;

typedef struct wire_bench { /* an arena for one message, and room to write */
    inv_wire_arena arena;
    uint8_t *room;
} wire_bench;

static inline void wire_reset(wire_bench *bench) {
    bench->arena.request_count = bench->arena.command_count = bench->arena.line_count = 0;
}

static inline void wire_create(wire_bench *bench) {
    bench->arena = (inv_wire_arena){
        .requests = malloc(INV_WIRE_REQUEST_COUNT_MAX * sizeof(inv_wire_request)),
        .commands = malloc(INV_WIRE_REQUEST_COUNT_MAX * sizeof(inv_command)),
        .lines = malloc(WIRE_LINES * sizeof(inv_line)),
        .request_max = INV_WIRE_REQUEST_COUNT_MAX,
        .command_max = INV_WIRE_REQUEST_COUNT_MAX,
        .line_max = WIRE_LINES};
    bench->room = malloc(INV_WIRE_REQUEST_HEAD_BYTES + 2 * INV_WIRE_MESSAGE_BYTES_MAX);
    wire_reset(bench);
}

static inline void wire_destroy(wire_bench *bench) {
    free(bench->arena.requests);
    free(bench->arena.commands);
    free(bench->arena.lines);
    free(bench->room);
}

static inline bool wire_inside(const void *at, size_t bytes, const uint8_t *message, size_t size) {
    const uint8_t *from = at;
    if (from == NULL) return true;
    if (from < message || bytes > size || from + bytes > message + size) return false;
    for (size_t i = 0; i < bytes; i++) wire_sum ^= from[i];
    return true;
}

static inline bool wire_text_inside(inv_text text, const uint8_t *message, size_t size) {
    return wire_inside(text.bytes, text.length, message, size);
}

static inline const char *wire_check_lines(const inv_command *command, const uint8_t *message,
                                           size_t size) {
    if (command->line_count > INV_LINE_COUNT_MAX) return "a command of too many lines";
    for (uint32_t i = 0; i < command->line_count; i++)
        if (!wire_text_inside(command->lines[i].sku, message, size) ||
            !wire_text_inside(command->lines[i].location, message, size))
            return "a line outside of the message";
    return NULL;
}

static inline const char *wire_check_command(const inv_command *command, const uint8_t *message,
                                             size_t size) {
    const inv_text texts[] = {command->seller, command->account, command->id,
                              command->op_id,  command->reason,  command->reference};
    for (uint32_t i = 0; i < 6; i++)
        if (!wire_text_inside(texts[i], message, size)) return "a text outside of the message";
    if (command->kind < INV_CMD_RESERVE || command->kind > INV_CMD_SET_POLICY)
        return "a command of no kind";
    if (command->id_is_uuid && command->id.length != 16) return "a UUID of another length";
    if (command->op_id_is_uuid && command->op_id.length != 16) return "a UUID of another length";
    return wire_check_lines(command, message, size);
}

static inline const char *wire_check_batch(const inv_wire_request *request, const uint8_t *message,
                                           size_t size) {
    const inv_wire_batch *batch = &request->batch;
    size_t n = batch->count;
    if (n > INV_WIRE_ROW_COUNT_MAX) return "a batch of too many rows";
    if (!wire_inside(batch->ids, 16 * n, message, size) ||
        !wire_inside(batch->skus, 4 * n, message, size) ||
        !wire_inside(batch->locations, 2 * n, message, size) ||
        !wire_inside(batch->qtys, 8 * n, message, size) ||
        !wire_inside(batch->ttls, 4 * n, message, size))
        return "a column outside of the message";
    if (!wire_text_inside(batch->account, message, size) ||
        !wire_text_inside(batch->seller, message, size) ||
        !wire_text_inside(batch->reason, message, size))
        return "a text outside of the message";
    return NULL;
}

static inline const char *wire_check_names(const inv_wire_request *request, const uint8_t *message,
                                           size_t size) {
    const uint8_t *at = request->names.at;
    if (request->names.count > INV_WIRE_NAME_COUNT_MAX) return "too many names";
    if (request->op > INV_WIRE_LOCATION_IDS)
        return wire_inside(at, request->names.count * (request->op == INV_WIRE_SKU_NAMES ? 4u : 2u),
                           message, size)
                   ? NULL
                   : "numbers outside of the message";
    for (uint32_t i = 0; i < request->names.count; i++) {
        inv_text name;
        at = inv_wire_names(request, at, 1, &name);
        if (!wire_text_inside(name, message, size)) return "a name outside of the message";
    }
    return NULL;
}

static inline const char *wire_check_request(const inv_wire_request *request,
                                             const inv_wire_arena *arena, const uint8_t *message,
                                             size_t size) {
    if (request->refusal.code != INV_OK)
        return request->refusal.path == NULL ? "a refusal without a path" : NULL;
    if (inv_wire_is_command(request->op)) {
        if (request->command >= arena->command_count) return "a command that is not there";
        return wire_check_command(&arena->commands[request->command], message, size);
    }
    if (inv_wire_is_batch(request->op) || request->op == INV_WIRE_AVAILABILITY_BATCH)
        return wire_check_batch(request, message, size);
    switch (request->op) {
    case INV_WIRE_SKU_IDS:
    case INV_WIRE_LOCATION_IDS:
    case INV_WIRE_SKU_NAMES:
    case INV_WIRE_LOCATION_NAMES:
        return wire_check_names(request, message, size);
    case INV_WIRE_AVAILABILITY:
    case INV_WIRE_AVAILABILITY_SKU:
        return wire_text_inside(request->row.line.sku, message, size) &&
                       wire_text_inside(request->row.line.location, message, size) &&
                       wire_text_inside(request->row.seller, message, size)
                   ? NULL
                   : "a text outside of the message";
    case INV_WIRE_RESERVATION:
        return wire_text_inside(request->reservation.id, message, size) &&
                       wire_text_inside(request->reservation.seller, message, size)
                   ? NULL
                   : "a text outside of the message";
    case INV_WIRE_HELLO:
        return wire_text_inside(request->client, message, size) ? NULL : "a client outside";
    case INV_WIRE_PING:
    case INV_WIRE_BARRIER:
        return NULL;
    default:
        return "an operation that is none";
    }
}

/* Decodes a message into the empty arena and looks at all of it. A message with broken framing must
 * leave no command behind. */
static inline const char *wire_check_message(wire_bench *bench, const uint8_t *message,
                                             size_t size) {
    inv_wire_arena *arena = &bench->arena;
    wire_reset(bench);
    uint32_t count = inv_wire_decode(message, size, arena), commands = 0;
    if (count < 1 || count != arena->request_count || count > INV_WIRE_REQUEST_COUNT_MAX)
        return "a message of no requests, or too many";
    for (uint32_t i = 0; i < count; i++) {
        const inv_wire_request *request = &arena->requests[i];
        const char *wrong = wire_check_request(request, arena, message, size);
        if (wrong != NULL) return wrong;
        commands += request->refusal.code == INV_OK && inv_wire_is_command(request->op);
        const inv_wire_answer answer = {7, 3};
        uint8_t *end = inv_wire_put_refusal(bench->room, request, answer, &request->refusal);
        inv_msgpack_reader reader = {bench->room, end};
        inv_wire_reply reply;
        if ((size_t)(end - bench->room) > INV_WIRE_REPLY_HEAD_BYTES) return "a refusal too long";
        if (!inv_wire_next_reply(&reader, &reply) || reader.at != end) return "no reply";
    }
    return commands == arena->command_count ? NULL : "a command without its request";
}

#endif
