/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_lane.h: one lane per call in flight. A call claims a lane on entry and gives it back before
 * it waits for the disk. The lane carries everything that is "per thread" in the engine:
 *
 *     epoch         pins memory: what is retired while a lane is busy is freed only after it left
 *     append_floor  the log position below which this call has no unfinished copy (inv_wal_writer)
 *     counters      metrics, summed on read
 *     scratch       the caller's working memory, allocated once per lane
 *
 * Claiming is one compare-and-swap on the lane this thread used last. 64 lanes bound the calls
 * inside the core at once (not those parked for the disk); a 65th yields until one is free.
 *
 * RETIRING. retire() takes memory that other calls may still read, stamps it with the epoch and
 * starts a new one; reclaim frees what every busy lane has entered after. Readers load shared
 * pointers only after claiming. Rejected: hazard pointers (a store and fence per pointer), never
 * freeing (a stripe's old arrays would add up to a second copy).
 */
#ifndef INV_LANE_H
#define INV_LANE_H

#include <stdatomic.h>

#include "inv_env.h"
#include "inv_lock.h"

#define INV_LANE_COUNT 64u
#define INV_LANE_IDLE UINT64_MAX /* append_floor: nothing being copied */

typedef enum inv_counter {
    INV_COUNT_COMMANDS,
    INV_COUNT_RECORDS,
    INV_COUNT_RESERVED,
    INV_COUNT_REFUSED,
    INV_COUNT_REPLAYED,
    INV_COUNT_EXPIRED,
    INV_COUNTER_COUNT
} inv_counter;

typedef struct inv_lane {
    _Atomic uint64_t epoch; /* 0 = free; else the epoch its call entered in */
    uint8_t pad0[INV_CACHE_LINE - 8];
    _Atomic uint64_t append_floor; /* written by the holder, read by the flusher and waiters */
    uint8_t pad1[INV_CACHE_LINE - 8];
    _Atomic uint64_t counters[INV_COUNTER_COUNT]; /* written by the holder, relaxed */
    void *scratch;                                /* owned by the store; used by the holder */
    uint8_t pad2[INV_CACHE_LINE - 8 * INV_COUNTER_COUNT % INV_CACHE_LINE - 8];
} inv_lane;

/* Stands in front of every block of inv_lanes_alloc, so that retiring needs no memory of its own.
 */
typedef struct inv_retired {
    size_t bytes; /* of the whole block, this header included */
    uint64_t epoch;
    struct inv_retired *next;
    uint8_t pad[INV_CACHE_LINE - 24];
} inv_retired;

typedef struct inv_lanes {
    const inv_env *env;
    inv_lane *lanes;
    _Atomic uint64_t epoch; /* starts at 1 */
    _Atomic uint32_t used;  /* lanes ever claimed: what scans have to look at */
    inv_lock retire_lock;
    inv_retired *retired; /* under retire_lock, newest first */
} inv_lanes;

INV_MUST_USE inv_result inv_lanes_init(inv_lanes *lanes, const inv_env *env);
/* Frees everything retired; no call may be inside. Scratch memory is the owner's to free before. */
void inv_lanes_deinit(inv_lanes *lanes);

inv_lane *inv_lane_claim_slow(inv_lanes *lanes, uint32_t hint);
extern _Thread_local uint32_t inv_lane_hint; /* the lane this thread used last: only a guess */

static inline inv_lane *inv_lane_claim(inv_lanes *lanes) {
    uint32_t hint = inv_lane_hint;
    inv_lane *lane = &lanes->lanes[hint];
    uint64_t expected = 0;
    uint64_t now = atomic_load_explicit(&lanes->epoch, memory_order_acquire);
    /* seq_cst: the claim must be visible before any shared pointer is loaded (see reclaim) */
    if (INV_LIKELY(hint < atomic_load_explicit(&lanes->used, memory_order_relaxed)) &&
        atomic_compare_exchange_strong_explicit(&lane->epoch, &expected, now, memory_order_seq_cst,
                                                memory_order_relaxed))
        return lane;
    return inv_lane_claim_slow(lanes, hint);
}

static inline void inv_lane_give(inv_lane *lane) {
    atomic_store_explicit(&lane->epoch, 0, memory_order_release); /* pairs with reclaim's acquire */
}

static inline void inv_lane_count(inv_lane *lane, inv_counter counter, uint64_t amount) {
    uint64_t value = atomic_load_explicit(&lane->counters[counter], memory_order_relaxed);
    atomic_store_explicit(&lane->counters[counter], value + amount, memory_order_relaxed);
}
uint64_t inv_lanes_sum(const inv_lanes *lanes, inv_counter counter);

/* True while any lane is claimed. */
bool inv_lanes_busy(const inv_lanes *lanes);

/* Zeroed memory, 64-byte aligned, that may be retired; NULL: no memory. */
void *inv_lanes_alloc(const inv_lanes *lanes, size_t bytes);

/* Frees it once no lane can still look at it; the caller has already replaced it everywhere. */
void inv_lanes_retire(inv_lanes *lanes, void *pointer);

/* Whether it lies in memory that is being left (inv_allocator.leaves); NULL does not. */
bool inv_lanes_leaves(const inv_lanes *lanes, const void *pointer);

/* Frees it now: nobody else has seen it, or no call is inside. NULL is fine. */
void inv_lanes_free(const inv_lanes *lanes, void *pointer);

#endif
