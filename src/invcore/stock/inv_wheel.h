/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wheel.h: hierarchical timing wheel (Varghese and Lauck, 1987): 4 levels of 256 slots, ticks
 * of 1 ms, 2^32 ms = 49.7 days ahead, exact by cascading. Knows nothing about stock.
 *
 *     level 0: 256 slots of 1 ms | level 1: of 256 ms | level 2: of 65.5 s | level 3: of 4.66 h
 *
 * A timer is an inv_timer inside a pool granule, always at INV_TIMER_OFFSET, linked by references,
 * so that a link is 4 bytes. One wheel belongs to one stripe; its caller holds that stripe's lock.
 * The caller gives the time and takes expired timers one by one; work per call is bounded.
 * Rejected: a heap (log n and poor locality), the kernel's non-cascading wheel (rounds by an
 * eighth).
 */
#ifndef INV_WHEEL_H
#define INV_WHEEL_H

#include "../base/inv_pool.h"

#define INV_WHEEL_LEVELS 4u
#define INV_WHEEL_SLOTS 256u
#define INV_TIMER_OFFSET 24u
#define INV_WHEEL_NEVER UINT64_MAX
#define INV_WHEEL_AHEAD_MAX_MS 0xFFFFFFFFull    /* from its time to a deadline */
#define INV_WHEEL_TIME_MAX_MS (UINT64_MAX >> 1) /* keeps sums of times from wrapping */

typedef struct inv_timer {
    uint64_t deadline_ms; /* engine time */
    inv_ref next;         /* 0 = last of its slot */
    inv_ref prev;         /* 0 = not armed; top bit set: first of slot (prev & 0x3FF), which is
                           * level * 256 + slot */
} inv_timer;
_Static_assert(sizeof(inv_timer) == 16, "a timer is 16 bytes");

/* 4 KiB of slots and 128 bytes of bitmaps; allocated by its owner, zeroed, then inv_wheel_init.
 * Every field is under the lock of the stripe that owns the wheel. Nothing else is state: a cascade
 * or a take that ran out of work is recognised by its slot still being occupied (inv_wheel.c). */
typedef struct inv_wheel {
    uint64_t now_ms;      /* everything with deadline <= now_ms has been taken */
    uint64_t count;       /* timers armed, due ones not yet taken included */
    uint32_t summary;     /* bit level * 4 + word set: occupied[level][word] is not 0 */
    uint32_t pad;
    uint64_t occupied[INV_WHEEL_LEVELS][INV_WHEEL_SLOTS / 64]; /* bit set: slot is not empty */
    inv_ref slots[INV_WHEEL_LEVELS][INV_WHEEL_SLOTS];          /* first timer of each slot */
} inv_wheel;

static inline inv_timer *inv_timer_at(const inv_pool *pool, inv_ref ref) {
    return (inv_timer *)(void *)((uint8_t *)inv_pool_at(pool, ref) + INV_TIMER_OFFSET);
}

void inv_wheel_init(inv_wheel *wheel, uint64_t now_ms);

/* Arms the timer whose deadline_ms is set. Requires now_ms < deadline_ms <= now_ms + 2^32 - 1
 * (asserted), nothing more: also right between two calls of a take that ran out of work. O(1). */
void inv_wheel_add(inv_wheel *wheel, const inv_pool *pool, inv_ref ref);

/* Disarms an armed timer (also one that is due but not yet taken). O(1). Sets prev to 0. */
void inv_wheel_cancel(inv_wheel *wheel, const inv_pool *pool, inv_ref ref);

/* Fetch ahead what arming or disarming will touch; under the wheel's lock. In this order: the wheel
 * itself (NULL is fine), the slot of a deadline, the timer that is first there now. */
static inline void inv_wheel_prefetch(const inv_wheel *wheel) {
    INV_PREFETCH(wheel); /* the bitmaps behind it are touched only when a slot fills or empties */
}
void inv_wheel_prefetch_slot(const inv_wheel *wheel, uint64_t deadline_ms);
void inv_wheel_prefetch_first(const inv_wheel *wheel, const inv_pool *pool, uint64_t deadline_ms);
/* The links of an armed timer's neighbours. */
void inv_wheel_prefetch_neighbours(const inv_pool *pool, inv_ref ref);

/* Moves towards now_ms and returns the next expired timer (deadline_ms <= now_ms), disarmed, or 0.
 * Does at most *work steps (a slot visited, a timer moved or handed out is one) and subtracts what
 * it did; returns 0 with *work == 0 when it ran out: call again. When it returns 0 with work left,
 * wheel->now_ms == now_ms and nothing due is left. Timers come out in order of deadline. now_ms at
 * or below wheel->now_ms: returns 0. Empty slots cost nothing, however long the time jumped over.
 * */
inv_ref inv_wheel_take(inv_wheel *wheel, const inv_pool *pool, uint64_t now_ms, uint32_t *work);

/* A time T with: no armed timer has deadline <= T - 1, i.e. a lower bound of the next deadline: the
 * deadline itself when that lies in the 256 ms block of now_ms + 1, else the start of the slot it
 * is in; so also the earliest time at which inv_wheel_take has something to do (a cascade counts).
 * INV_WHEEL_NEVER when empty. O(1). Always > wheel->now_ms (now_ms + 1 while half cascaded).
 *
 * For a fixed set of timers T never decreases while the wheel moves, and adding a timer with a
 * later deadline than the earliest armed one does not change it. A new earliest deadline may lower
 * it, but not below wheel->now_ms + 1: who derives a clock from T (min(clock, T - 1)) first brings
 * the wheel to that clock by inv_wheel_take, which does no step then, and then adds. */
uint64_t inv_wheel_next(const inv_wheel *wheel, const inv_pool *pool);

/* Walks everything: links, slots, bitmaps, deadlines in their slot's range. Returns NULL or what is
 * broken (static text); *out_count = timers found. */
const char *inv_wheel_check(const inv_wheel *wheel, const inv_pool *pool, uint64_t *out_count);

#endif
