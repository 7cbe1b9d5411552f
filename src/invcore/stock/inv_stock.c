/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_stock.c: the table of effects and the one function that applies it to a row.
 */
#include "inv_stock.h"

/* clang-format off */
/*                              on_hand held allocated shipped */
const inv_stock_delta inv_stock_deltas[INV_OP_COUNT] = {
    [INV_OP_NONE] =             { 0,  0,  0,  0},
    [INV_OP_HOLD] =             { 0,  1,  0,  0},
    [INV_OP_COMMIT] =           { 0, -1,  1,  0},
    [INV_OP_SHIP_HELD] =        {-1, -1,  0,  1},
    [INV_OP_SHIP_ALLOCATED] =   {-1,  0, -1,  1},
    [INV_OP_RELEASE] =          { 0, -1,  0,  0},
    [INV_OP_CANCEL_ALLOCATED] = { 0,  0, -1,  0},
    [INV_OP_EXPIRE] =           { 0, -1,  0,  0},
    [INV_OP_REHOLD] =           { 0,  0,  1,  0},
    [INV_OP_ADD] =              { 1,  0,  0,  0},
    [INV_OP_SUB] =              {-1,  0,  0,  0},
    [INV_OP_SET_SAFETY] =       { 0,  0,  0,  0},
};
/* clang-format on */

bool inv_stock_apply(inv_row *row, uint8_t op, uint32_t qty) {
    inv_stock_delta delta = inv_stock_deltas[op];
    int64_t on_hand = (int64_t)row->on_hand + delta.on_hand * (int64_t)qty;
    int64_t held = (int64_t)row->held + delta.held * (int64_t)qty;
    int64_t allocated = (int64_t)row->allocated + delta.allocated * (int64_t)qty;
    if (!inv_stock_in_range(on_hand) || !inv_stock_in_range(held) || !inv_stock_in_range(allocated))
        return false;
    row->on_hand = (uint32_t)on_hand;
    row->held = (uint32_t)held;
    row->allocated = (uint32_t)allocated;
    return true;
}
