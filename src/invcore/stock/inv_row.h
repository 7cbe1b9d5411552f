/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_row.h: the stock row, 16 bytes, what is kept for one (sku, location).
 *
 *     0 u32 on_hand    4 u32 held    8 u32 allocated    12 u16 location    14 u16 flags
 *
 * Rows are read by seqlock readers while a writer under the stripe lock changes them, so they are
 * loaded and stored as two 64-bit atomics. Everybody works on a copy.
 */
#ifndef INV_ROW_H
#define INV_ROW_H

#include "../base/inv_digest.h"

#define INV_ROW_POLICY 1u /* a policy of this row or its SKU lies in the stripe's side table */

typedef struct inv_row {
    uint32_t on_hand;   /* units; at most INV_QTY_MAX, as all counters */
    uint32_t held;      /* units under live holds */
    uint32_t allocated; /* units of committed orders that have not left */
    uint16_t location;  /* number; rows of a SKU are sorted by it */
    uint16_t flags;     /* INV_ROW_*; those of later releases: closed, queue, unsellable */
} inv_row;
_Static_assert(sizeof(inv_row) == 16, "a row is 16 bytes");

static inline inv_row inv_row_load(const inv_row *row) {
    uint64_t words[2];
    /* acquire: the seqlock reader's form (its second look at the sequence comes after) */
    words[0] = __atomic_load_n((const uint64_t *)(const void *)row, __ATOMIC_ACQUIRE);
    words[1] = __atomic_load_n((const uint64_t *)(const void *)row + 1, __ATOMIC_ACQUIRE);
    inv_row copy;
    memcpy(&copy, words, sizeof copy);
    return copy;
}

static inline void inv_row_store(inv_row *row, inv_row value) {
    uint64_t words[2];
    memcpy(words, &value, sizeof words);
    /* release: after the odd sequence, before the even one */
    __atomic_store_n((uint64_t *)(void *)row, words[0], __ATOMIC_RELEASE);
    __atomic_store_n((uint64_t *)(void *)row + 1, words[1], __ATOMIC_RELEASE);
}

/* name_hash: inv_sku.hash. */
static inline uint64_t inv_digest_row(uint32_t sku, uint32_t name_hash, inv_row row) {
    if ((row.on_hand | row.held | row.allocated) == 0) return 0; /* as if it were not there */
    return inv_mix64(INV_DIGEST_ROW + (sku | (uint64_t)name_hash << 32) * INV_DIGEST_M0 +
                     (row.on_hand | (uint64_t)row.held << 32) * INV_DIGEST_M1 +
                     (row.allocated | (uint64_t)row.location << 32) * INV_DIGEST_M2);
}

#endif
