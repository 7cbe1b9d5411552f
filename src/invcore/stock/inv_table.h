/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_table.h: the SKUs and stock rows of one stripe.
 *
 *     index: hash -> SKU      skus: 24 bytes each      rows: 16 bytes each, one run a SKU
 *     +----+----+----+        +------------------+     +-----+-----+-----+--
 *     | fp,n |  | ..|  ---->  | run, name, hash  | --> | LON | NYC | PAR |  sorted by location
 *     +----+----+----+        +--------+---------+     +-----+-----+-----+--
 *                                      |               names: each text once
 *                                      +-------------> "TEE-RED-LMUG..."
 *
 * Four arrays a stripe, grown by an eighth (rows, skus, names) or doubled (index), and packed when
 * growing has ended. A run that
 * outgrows its room moves to the end of the rows; when the end is reached the rows are rebuilt
 * without the holes. No growth touches another stripe; the longest hold is one rebuild (about 0.1
 * ms for 24,000 rows).
 *
 * A SKU number is (place in the stripe << stripe_bits) | stripe: it says where to look without a
 * directory, and holds for the store's life.
 *
 * THREADS. Writers hold the stripe lock and have made its sequence odd. Readers without the lock
 * (inv_table_peek) load every shared word atomically, check every offset against the array they
 * hold (arrays carry their size), and must validate the sequence afterwards. Replaced arrays are
 * retired. Rejected: chunked runs (two more loads a row), a free list of runs (loading in location
 * order left 80 % of the rows in holes), one global table (one lock, or one growth, for all).
 */
#ifndef INV_TABLE_H
#define INV_TABLE_H

#include "../base/inv_hash.h"
#include "../base/inv_lane.h"
#include "inv_row.h"

#define INV_TABLE_SKU_COUNT_MAX ((1u << 20) - 2) /* a stripe */
#define INV_SKU_POLICY 1u

typedef struct inv_sku {
    uint64_t run;         /* offset << 32 | room << 16 | count, in rows; one atomic word */
    uint32_t name_offset; /* these five never change once published */
    uint32_t hash;        /* upper half of the name's hash */
    uint16_t seller;
    uint8_t name_length;
    uint8_t flags; /* INV_SKU_POLICY; under the lock only */
    uint32_t spare;
} inv_sku;
_Static_assert(sizeof(inv_sku) == 24, "a SKU is 24 bytes beside its name and rows");

typedef struct inv_policy { /* rare, so beside the rows; under the lock only */
    uint32_t sku;           /* place in the stripe + 1; 0 = free slot */
    uint16_t location;      /* INV_LOCATION_NONE: of the whole SKU */
    uint16_t pad;
    uint32_t safety_stock;
} inv_policy;

typedef struct inv_table_index {
    uint32_t mask, pad;
    uint32_t slots[]; /* upper 12 bits of the hash << 20 | place + 1; 0 = free */
} inv_table_index;
typedef struct inv_table_skus {
    uint64_t room, pad;
    inv_sku at[];
} inv_table_skus;
typedef struct inv_table_rows {
    uint64_t room, pad;
    inv_row at[];
} inv_table_rows;
typedef struct inv_table_names {
    uint64_t room;
    char at[];
} inv_table_names;
typedef struct inv_table_policies {
    uint32_t room; /* a power of two */
    uint32_t count;
    inv_policy at[]; /* by place and location */
} inv_table_policies;

typedef struct inv_table {
    inv_table_index *index; /* shared words: loaded and stored atomically */
    inv_table_skus *skus;
    inv_table_rows *rows;
    inv_table_names *names;
    uint32_t sku_count;
    uint32_t names_used;
    uint32_t rows_used; /* end of the used part */
    uint32_t rows_live; /* rows there are */
    inv_table_policies *policies; /* NULL: none; under the lock only */
} inv_table;

/* Place of a SKU in this stripe, INV_NUMBER_NONE if unknown. hash: the name's 64-bit hash. */
uint32_t inv_table_find(const inv_table *table, uint64_t hash, uint16_t seller, inv_text name);

/* Takes the memory that adding a SKU with this name needs / one row to a SKU (INV_NUMBER_NONE: to
 * one that is about to be added). After INV_OK that one add can't fail. INV_NO_MEMORY,
 * INV_LIMIT_EXCEEDED. */
INV_MUST_USE inv_result inv_table_reserve_sku(inv_table *table, inv_lanes *lanes,
                                              uint32_t name_length);
INV_MUST_USE inv_result inv_table_reserve_row(inv_table *table, inv_lanes *lanes, uint32_t place);
INV_MUST_USE inv_result inv_table_reserve_policy(inv_table *table, inv_lanes *lanes);

/* Replaces those arrays that lie in memory to be left (inv_allocator.leaves), with little room to
 * grow. For a writer, like adding. INV_NO_MEMORY: some stay where they are. */
INV_MUST_USE inv_result inv_table_pack(inv_table *table, inv_lanes *lanes);

/* Loading a snapshot: room in an empty table for this much and a little more; then every SKU with
 * the length of its name and the number of its rows (false: there is no room for it), whose bytes
 * the caller puts to table->names->at and table->rows->at in the same order. */
INV_MUST_USE inv_result inv_table_make_room(inv_table *table, inv_lanes *lanes, uint32_t sku_count,
                                            uint32_t name_bytes, uint32_t row_count);
INV_MUST_USE bool inv_table_load_sku(inv_table *table, const inv_sku *sku, uint32_t row_count);
INV_MUST_USE inv_result inv_table_load_policy(inv_table *table, inv_lanes *lanes, uint32_t place,
                                              uint16_t location, uint32_t safety_stock);

uint32_t inv_table_add_sku(inv_table *table, uint64_t hash, uint16_t seller, inv_text name);

/* The row of a SKU at a location; NULL if none. Valid until the next add. */
inv_row *inv_table_row(const inv_table *table, uint32_t place, uint32_t location);
inv_row *inv_table_add_row(inv_table *table, uint32_t place, uint16_t location);

/* All rows of a SKU, sorted by location. */
inv_row *inv_table_rows_of(const inv_table *table, uint32_t place, uint32_t *out_count);

static inline const inv_sku *inv_table_sku(const inv_table *table, uint32_t place) {
    return &table->skus->at[place];
}
inv_text inv_table_name(const inv_table *table, uint32_t place);

/* Safety stock in force for a row (its own, else the SKU's, else 0). */
uint32_t inv_table_safety_stock(const inv_table *table, uint32_t place, inv_row row);
/* Sets it for one row, or (INV_LOCATION_NONE) for the SKU and every row that has its own. Needs
 * reserve_policy. */
void inv_table_set_safety_stock(inv_table *table, uint32_t place, uint16_t location,
                                uint32_t safety_stock);

/* Lock-free look at one row. INV_OK: *out_row found. INV_UNKNOWN_SKU, INV_UNKNOWN_LOCATION (no
 * row). INV_BUSY: the arrays moved under us; look again. The result counts only if the stripe's
 * sequence has not changed since before the call. location INV_NUMBER_NONE = just look for the SKU.
 */
inv_result inv_table_peek(const inv_table *table, uint64_t hash, uint16_t seller, inv_text name,
                          uint32_t place_known, uint32_t location, inv_row *out_row,
                          uint32_t *out_place);

/* Fetch ahead, without any lock, what a later look will touch. Steps of a run: index slot or SKU,
 * then row. */
static inline void inv_table_prefetch_name(const inv_table *table, uint64_t hash) {
    const inv_table_index *index = __atomic_load_n(&table->index, __ATOMIC_ACQUIRE);
    if (index != NULL) INV_PREFETCH(&index->slots[(uint32_t)(hash >> 32) & index->mask]);
}
static inline void inv_table_prefetch_sku(const inv_table *table, uint32_t place) {
    const inv_table_skus *skus = __atomic_load_n(&table->skus, __ATOMIC_ACQUIRE);
    if (skus != NULL) INV_PREFETCH(&skus->at[place]);
}
static inline void inv_table_prefetch_row(const inv_table *table, uint32_t place,
                                          uint32_t location) {
    const inv_table_skus *skus = __atomic_load_n(&table->skus, __ATOMIC_ACQUIRE);
    const inv_table_rows *rows = __atomic_load_n(&table->rows, __ATOMIC_ACQUIRE);
    if (skus == NULL || rows == NULL || place >= skus->room) return;
    uint64_t run = __atomic_load_n(&skus->at[place].run, __ATOMIC_RELAXED);
    uint32_t count = (uint32_t)run & 0xFFFFu;
    const inv_row *first = &rows->at[run >> 32];
    if (location < count) { /* where the search looks first */
        INV_PREFETCH(&first[location]);
        return;
    }
    const char *line = (const char *)first; /* 10 rows lie on three lines */
    INV_PREFETCH(line);
    INV_PREFETCH(line + INV_CACHE_LINE);
    INV_PREFETCH(line + 2 * INV_CACHE_LINE);
}

/* Digest of the policies of one SKU (its number is `sku`). */
uint64_t inv_table_digest_policies(const inv_table *table, uint32_t place, uint32_t sku);

/* Proves the arrays consistent; NULL or what is broken (static text). */
const char *inv_table_check(const inv_table *table);

void inv_table_free(inv_table *table, const inv_lanes *lanes);

#endif
