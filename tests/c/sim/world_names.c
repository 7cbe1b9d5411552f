/* SPDX-License-Identifier: Apache-2.0
 *
 * world_names.c: texts of the worlds. Names and ids have several lengths on purpose: records then
 * end at every offset within a sector.
 */
#include "world_names.h"

#include <stdio.h>
#include <string.h>

static const char *const sku_names[ORACLE_SKU_COUNT] = {
    "TEE-RED-L", "MUG", "A-RATHER-LONG-ARTICLE-CODE-OF-A-SUPPLIER-0000000000000000000-0017",
    "lamp",      "\xC3\x9C" "ber-1", "S", "POSTER-A2-MATTE", "X-42"};
static const char *const location_names[ORACLE_LOCATION_COUNT] = {"LON", "warehouse-north", "B"};

inv_text world_sku_name(uint32_t sku) { return inv_text_of(sku_names[sku]); }
inv_text world_location_name(uint32_t location) { return inv_text_of(location_names[location]); }

bool world_id_text(uint32_t number, char prefix, char out[INV_ID_BYTES_MAX], inv_text *out_text) {
    if (number % 2 == 0) {
        /* Version 4, so that no time is read out of it. */
        uint64_t mix = number ^ ((uint64_t)(unsigned char)prefix << 32);
        uint64_t high = world_random(&mix), low = world_random(&mix);
        memcpy(out, &high, 8);
        memcpy(out + 8, &low, 8);
        out[6] = (char)((out[6] & 0x0F) | 0x40);
        out[8] = (char)((out[8] & 0x3F) | 0x80);
        *out_text = (inv_text){out, 16};
        return true;
    }
    const char *format = number % 7 == 0   ? "%c-a-long-reservation-id-as-some-shops-make-them-%06u"
                         : number % 3 == 0 ? "%c%u"
                                           : "%c-order-%06u";
    int length = snprintf(out, INV_ID_BYTES_MAX, format, prefix, number);
    *out_text = (inv_text){out, (uint32_t)length};
    return false;
}

void world_wire_build(world_wire *wire, const oracle_command *command) {
    memset(wire, 0, sizeof *wire);
    inv_command *out = &wire->command;
    out->kind = command->kind;
    out->partial = command->partial;
    out->keep_rest = command->keep_rest;
    out->shorten = command->shorten;
    out->ttl_ms = command->ttl_ms;
    out->if_on_hand = command->if_on_hand;
    out->safety_stock = command->safety_stock;
    if (command->hold != ORACLE_NONE)
        out->id_is_uuid = world_id_text(command->hold, 'r', wire->id, &out->id);
    if (command->op != ORACLE_NONE)
        out->op_id_is_uuid = world_id_text(command->op, 'o', wire->op_id, &out->op_id);
    if (command->reference_bytes > 0) {
        for (uint32_t i = 0; i < command->reference_bytes; i++)
            wire->reference[i] = (char)('a' + (i + command->reference_bytes) % 26);
        out->reference = (inv_text){wire->reference, command->reference_bytes};
    }
    out->lines = wire->lines;
    out->line_count = command->line_count;
    for (uint32_t i = 0; i < command->line_count; i++) {
        const oracle_line *line = &command->lines[i];
        wire->lines[i].sku = world_sku_name(line->sku);
        wire->lines[i].sku_number = INV_NUMBER_NONE;
        wire->lines[i].location_number = INV_LOCATION_NONE;
        if (line->location != ORACLE_ANY_LOCATION)
            wire->lines[i].location = world_location_name(line->location);
        wire->lines[i].qty = line->qty;
    }
}

bool world_numbers_read(inv_store *store, world_numbers *out) {
    inv_text texts[ORACLE_SKU_COUNT];
    uint64_t lsn = 0;
    size_t bad_index = 0;
    for (uint32_t i = 0; i < ORACLE_SKU_COUNT; i++) texts[i] = world_sku_name(i);
    if (inv_store_numbers(store, INV_NAME_SKU, (inv_text){NULL, 0}, texts, ORACLE_SKU_COUNT, false,
                          out->skus, &lsn, &bad_index) != INV_OK)
        return false;
    for (uint32_t i = 0; i < ORACLE_LOCATION_COUNT; i++) texts[i] = world_location_name(i);
    return inv_store_numbers(store, INV_NAME_LOCATION, (inv_text){NULL, 0}, texts,
                             ORACLE_LOCATION_COUNT, false, out->locations, &lsn,
                             &bad_index) == INV_OK;
}

uint32_t world_numbers_sku(const world_numbers *numbers, uint32_t sku) {
    for (uint32_t i = 0; i < ORACLE_SKU_COUNT; i++)
        if (numbers->skus[i] == sku) return i;
    return ORACLE_NONE;
}

uint32_t world_numbers_location(const world_numbers *numbers, uint32_t location) {
    for (uint32_t i = 0; i < ORACLE_LOCATION_COUNT; i++)
        if (numbers->locations[i] == location) return i;
    return ORACLE_NONE;
}
