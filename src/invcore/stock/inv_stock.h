/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_stock.h: the rules of stock. Pure functions of copied rows: no lock, no clock, no I/O, no
 * memory. Source of every formula: SEMANTICS.md sections 1 to 3.
 */
#ifndef INV_STOCK_H
#define INV_STOCK_H

#include "../base/inv_line_op.h"
#include "inv_row.h"

/* reserved = held + allocated: everything promised. */
static inline int64_t inv_stock_reserved(inv_row row) {
    return (int64_t)row.held + (int64_t)row.allocated;
}

/* available = on_hand - reserved, not clamped (negative: the row is short). */
static inline int64_t inv_stock_available(inv_row row) {
    return (int64_t)row.on_hand - inv_stock_reserved(row);
}

/* short = max(0, reserved - on_hand): promises that reality broke. */
static inline int64_t inv_stock_short(inv_row row) {
    int64_t available = inv_stock_available(row);
    return available < 0 ? -available : 0;
}

/* available_to_promise = max(0, available - safety_stock): what a reserve decides by. */
static inline int64_t inv_stock_promisable(inv_row row, uint32_t safety_stock) {
    int64_t left = inv_stock_available(row) - (int64_t)safety_stock;
    return left > 0 ? left : 0;
}

/* What a line's operation adds to the counters, in units of its quantity: -1, 0 or 1. The one table
 * of effects: live code and replay both go through inv_stock_apply and inv_stock_apply_hold. */
typedef struct inv_stock_delta {
    int8_t on_hand, held, allocated, shipped;
} inv_stock_delta;
extern const inv_stock_delta inv_stock_deltas[INV_OP_COUNT];

/* Applies one line to a row. False, the row unchanged, if a counter would leave 0..INV_QTY_MAX. */
INV_MUST_USE bool inv_stock_apply(inv_row *row, uint8_t op, uint32_t qty);

/* on_hand + delta for adjust, receive, issue: false when it would leave 0..INV_QTY_MAX. */
static inline bool inv_stock_in_range(int64_t value) { return value >= 0 && value <= INV_QTY_MAX; }

#endif
