/* SPDX-License-Identifier: Apache-2.0
 *
 * world_names.h: how the worlds of world.h spell their numbers. Private to world*.c.
 */
#ifndef WORLD_NAMES_H
#define WORLD_NAMES_H

#include "world.h"

/* A command as the store wants it; texts point into the struct, so it must not be copied. */
typedef struct world_wire {
    inv_command command;
    inv_line lines[ORACLE_LINE_COUNT_MAX];
    char id[INV_ID_BYTES_MAX];
    char op_id[INV_ID_BYTES_MAX];
    char reference[INV_REFERENCE_BYTES_MAX];
} world_wire;

inv_text world_sku_name(uint32_t sku);
inv_text world_location_name(uint32_t location);

/* Even numbers are UUIDs, odd ones texts of several lengths. Returns whether it is a UUID. */
bool world_id_text(uint32_t number, char prefix, char out[INV_ID_BYTES_MAX], inv_text *out_text);

void world_wire_build(world_wire *wire, const oracle_command *command);

/* Numbers of all names in one store; INV_NUMBER_NONE where unknown. */
typedef struct world_numbers {
    uint32_t skus[ORACLE_SKU_COUNT];
    uint32_t locations[ORACLE_LOCATION_COUNT];
} world_numbers;

bool world_numbers_read(inv_store *store, world_numbers *out);
uint32_t world_numbers_sku(const world_numbers *numbers, uint32_t sku);
uint32_t world_numbers_location(const world_numbers *numbers, uint32_t location);

#endif
