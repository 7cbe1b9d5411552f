/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_names.h: names to numbers for locations, sellers, accounts and reasons, each text kept once.
 * (SKU names live with their stripe, inv_table.h.)
 *
 * Lookups are lock-free: open addressing over references to immutable nodes; arrays are replaced
 * whole and retired (inv_lane.h). Inserts happen under the store's names lock, in two steps:
 * `prepare` takes all memory and the number; `publish` makes the name visible. In between the
 * caller claims the log range of the NAME entry, so that nobody can log a use of the number at a
 * lower lsn.
 */
#ifndef INV_NAMES_H
#define INV_NAMES_H

#include "../base/inv_hash.h"
#include "../base/inv_lane.h"
#include "../base/inv_pool.h"

typedef struct inv_name_node {
    uint32_t number;
    uint32_t length;
    char text[];
} inv_name_node;

typedef struct inv_names_index {
    uint32_t mask;
    _Atomic uint32_t slots[]; /* references, 0 = free; at most 3/4 full */
} inv_names_index;

typedef struct inv_names_list {
    uint32_t room;
    _Atomic uint32_t refs[]; /* by number */
} inv_names_list;

typedef struct inv_names {
    inv_lanes *lanes;
    inv_pool *pool;
    inv_hash_key key;
    uint64_t tweak; /* kind of name: other kinds hash otherwise */
    uint32_t count_max;
    _Atomic uint32_t count;
    inv_names_index *_Atomic index;
    inv_names_list *_Atomic list;
} inv_names;

INV_MUST_USE inv_result inv_names_init(inv_names *names, inv_lanes *lanes, inv_pool *pool,
                                       inv_hash_key key, uint64_t tweak, uint32_t count_max);
void inv_names_deinit(inv_names *names);

/* Number of a name, INV_NUMBER_NONE if unknown. The caller holds a lane. */
uint32_t inv_names_find(const inv_names *names, inv_text text);

/* Node for a new name with the next number, not yet visible. INV_LIMIT_EXCEEDED, INV_NO_MEMORY. The
 * caller holds the names lock and has looked for the name under it. `pending` = names prepared but
 * not published yet. */
INV_MUST_USE inv_result inv_names_prepare(inv_names *names, inv_text text, uint32_t pending,
                                          inv_ref *out_node, uint32_t *out_number);
void inv_names_publish(inv_names *names, inv_ref node);
void inv_names_discard(inv_names *names, inv_ref node);
/* A name read back, which must have the next number. INV_LOG_CORRUPT, INV_NO_MEMORY. */
INV_MUST_USE inv_result inv_names_restore(inv_names *names, uint32_t number, inv_text text);

/* Text of a number; false if there is none. Valid as long as the store. The caller holds a lane. */
bool inv_names_text(const inv_names *names, uint32_t number, inv_text *out);

static inline uint32_t inv_names_count(const inv_names *names) {
    return atomic_load_explicit(&((inv_names *)names)->count, memory_order_acquire);
}

#endif
