/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_wire.c: messages of the wire. Whatever the bytes are, what is decoded lies inside them and
 * is one of the protocol's forms, each of its requests can be answered, and a message that is
 * refused as a whole leaves no command. What the client's side writes of a decoded command is
 * decoded to it.
 */
#include <string.h>

#include "fuzz.h"
#include "wire_check.h"

const char *const fuzz_name = "wire";
const uint64_t fuzz_inputs_default = 300000;

static wire_bench bench, twice;

static bool same_text(inv_text a, inv_text b) {
    return (a.bytes == NULL) == (b.bytes == NULL) && a.length == b.length &&
           (a.length == 0 || memcmp(a.bytes, b.bytes, a.length) == 0);
}

static void comes_back(const inv_wire_request *request) {
    const inv_command *command = &bench.arena.commands[request->command];
    uint8_t *again = inv_wire_put_command(bench.room, request->correlation, request->op, NULL,
                                          command);
    wire_reset(&twice);
    (void)inv_wire_decode(bench.room, (size_t)(again - bench.room), &twice.arena);
    const inv_wire_request *second = &twice.arena.requests[0];
    if (twice.arena.request_count != 1 || second->refusal.code != INV_OK)
        fuzz_fail("operation %u does not come back", request->op);
    const inv_command *other = &twice.arena.commands[0];
    if (other->kind != command->kind || other->line_count != command->line_count ||
        other->ttl_ms != command->ttl_ms || other->partial != command->partial ||
        !same_text(other->id, command->id) || !same_text(other->op_id, command->op_id) ||
        !same_text(other->seller, command->seller) ||
        !same_text(other->reference, command->reference))
        fuzz_fail("operation %u comes back as another", request->op);
    for (uint32_t i = 0; i < command->line_count; i++)
        if (other->lines[i].qty != command->lines[i].qty ||
            other->lines[i].location_number != command->lines[i].location_number ||
            !same_text(other->lines[i].sku, command->lines[i].sku))
            fuzz_fail("line %u of operation %u comes back as another", i, request->op);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (bench.room == NULL) {
        wire_create(&bench);
        wire_create(&twice);
    }
    const char *wrong = wire_check_message(&bench, data, size);
    if (wrong != NULL) fuzz_fail("%s", wrong);
    for (uint32_t i = 0; i < bench.arena.request_count && i < 8; i++) {
        const inv_wire_request *request = &bench.arena.requests[i];
        if (request->refusal.code == INV_OK && inv_wire_is_command(request->op))
            comes_back(request);
    }
    return 0;
}

static inv_text some_text(uint64_t *random) {
    static const char *const texts[] = {"", "TEE-RED-L", "LON", "web", "cart-1",
                                        "0190a5b2-c3d4-7123-8a4b-5c6d7e8f9001"};
    uint32_t which = fuzz_below(random, 8);
    return which > 5 ? (inv_text){NULL, 0} : inv_text_of(texts[which]);
}

static uint8_t *make_command(uint64_t *random, uint8_t *out) {
    inv_line lines[4];
    uint8_t op = (uint8_t)(1 + fuzz_below(random, INV_WIRE_SET_POLICY));
    for (uint32_t i = 0; i < 4; i++)
        lines[i] = (inv_line){.sku = inv_text_of("TEE"), .location = some_text(random),
                              .location_number = (uint16_t)fuzz_below(random, 65536),
                              .qty = (int64_t)fuzz_below(random, 100) - 10};
    const inv_command command = {.kind = inv_wire_command_kind(op),
                                 .partial = fuzz_below(random, 3) == 0,
                                 .id = inv_text_of("cart-1"),
                                 .op_id = some_text(random),
                                 .account = some_text(random),
                                 .seller = some_text(random),
                                 .reason = some_text(random),
                                 .reference = some_text(random),
                                 .ttl_ms = 1 + fuzz_below(random, 100000),
                                 .if_on_hand = 3,
                                 .lines = lines,
                                 .line_count = 1 + fuzz_below(random, 4)};
    return inv_wire_put_command(out, fuzz_below(random, 100000), op, NULL, &command);
}

static uint8_t *make_batch(uint64_t *random, uint8_t *out) {
    static const uint64_t zeros[64];
    uint8_t op = (uint8_t)(INV_WIRE_RESERVE_BATCH + fuzz_below(random, 10));
    const inv_batch batch = {.count = fuzz_below(random, 8),
                             .ids = (const uint8_t *)zeros,
                             .skus = (const uint32_t *)zeros,
                             .locations = (const uint16_t *)zeros,
                             .qtys = (const int64_t *)zeros,
                             .ttls_ms = fuzz_below(random, 2) == 0 ? NULL : (const uint32_t *)zeros,
                             .ttl_ms = 1000,
                             .seller = some_text(random)};
    return inv_wire_put_batch(out, fuzz_below(random, 100), op, NULL, &batch);
}

size_t fuzz_make_input(uint64_t *random, uint8_t *out, size_t room) {
    uint8_t *at = out;
    (void)room;
    for (uint32_t i = 0; i < 1 + fuzz_below(random, 3); i++) {
        uint32_t which = fuzz_below(random, 8);
        if (which < 5) at = make_command(random, at);
        else if (which < 7) at = make_batch(random, at);
        else at = inv_wire_put_plain(at, i, (uint8_t)(INV_WIRE_HELLO + fuzz_below(random, 3)));
    }
    return (size_t)(at - out);
}
