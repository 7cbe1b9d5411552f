/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_line_op.h: what one line of a change does to one stock row. The numbers are bytes on disk
 * (inv_wal_format.h) and the rows of the one table of effects (inv_stock.c) that live code and
 * replay share. Never renumber; gaps belong to operations of later releases.
 */
#ifndef INV_LINE_OP_H
#define INV_LINE_OP_H

#include "inv_base.h"

typedef enum inv_line_op {
    INV_OP_NONE = 0,             /* moves nothing: a count that found what was there */
    INV_OP_HOLD = 1,             /* held + */
    INV_OP_COMMIT = 2,           /* held -, allocated + */
    INV_OP_SHIP_HELD = 3,        /* held -, on_hand -, shipped + */
    INV_OP_SHIP_ALLOCATED = 4,   /* allocated -, on_hand -, shipped + */
    INV_OP_RELEASE = 5,          /* held - */
    INV_OP_CANCEL_ALLOCATED = 6, /* allocated - */
    INV_OP_EXPIRE = 7,           /* held - */
    INV_OP_REHOLD = 8,           /* allocated +: an expired hold taken again and committed */
    INV_OP_ADD = 9,              /* on_hand + */
    INV_OP_SUB = 10,             /* on_hand - */
    INV_OP_SET_SAFETY = 11, /* safety_stock = qty; location INV_LOCATION_NONE = the whole SKU */
    INV_OP_COUNT            /* one more than the last: not an operation */
} inv_line_op;

#define INV_LINE_FREE 1u /* inv_change_line.flags: the caller named no location, the engine chose \
                          */

/* One line of a change, exactly as on disk: 12 bytes, little-endian, 4-aligned. */
typedef struct inv_change_line {
    uint32_t sku;      /* number */
    uint32_t qty;      /* units, at most INV_QTY_MAX */
    uint16_t location; /* number */
    uint8_t op;        /* inv_line_op */
    uint8_t flags;     /* INV_LINE_FREE */
} inv_change_line;
_Static_assert(sizeof(inv_change_line) == 12, "a line is 12 bytes on disk");

#endif
