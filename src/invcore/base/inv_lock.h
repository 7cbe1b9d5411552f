/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_lock.h: a 4-byte lock with a short spin, then a futex; and the futex word waiters park on.
 *
 *     0 free    1 held    2 held, somebody sleeps
 *
 * Uncontended: one compare-and-swap to take, one exchange to give back. Not fair, not recursive.
 * Zero-filled memory is a free lock. The futex calls themselves live in inv_lock.c.
 */
#ifndef INV_LOCK_H
#define INV_LOCK_H

#include <stdatomic.h>

#include "inv_base.h"

typedef struct inv_lock {
    _Atomic uint32_t word;
} inv_lock;

/* Told of each take and give by code compiled with INV_LOCK_WATCH, which only bench/bench_hold.c is
 * linked with; in every other build there is nothing here. */
#ifdef INV_LOCK_WATCH
void inv_lock_watch_taken(const inv_lock *lock);
void inv_lock_watch_given(const inv_lock *lock);
#else
#define inv_lock_watch_taken(lock) ((void)0)
#define inv_lock_watch_given(lock) ((void)0)
#endif

void inv_lock_take_slow(inv_lock *lock);
void inv_lock_wake_one(inv_lock *lock);

static inline bool inv_lock_try(inv_lock *lock) {
    uint32_t expected = 0;
    return atomic_compare_exchange_strong_explicit(&lock->word, &expected, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

static inline void inv_lock_take(inv_lock *lock) {
    if (INV_UNLIKELY(!inv_lock_try(lock))) inv_lock_take_slow(lock);
    inv_lock_watch_taken(lock);
}

static inline void inv_lock_give(inv_lock *lock) {
    inv_lock_watch_given(lock);
    /* release: pairs with the acquire of the next taker. 2 = a sleeper may wait */
    if (INV_UNLIKELY(atomic_exchange_explicit(&lock->word, 0, memory_order_release) == 2))
        inv_lock_wake_one(lock);
}

static inline bool inv_lock_is_held(const inv_lock *lock) {
    return atomic_load_explicit(&((inv_lock *)lock)->word, memory_order_relaxed) != 0;
}
static inline bool inv_lock_has_sleeper(const inv_lock *lock) {
    return atomic_load_explicit(&((inv_lock *)lock)->word, memory_order_relaxed) == 2;
}

/* Sleeps while *word == seen, at most timeout_ms; may wake for no reason. */
void inv_futex_wait(_Atomic uint32_t *word, uint32_t seen, uint32_t timeout_ms);
void inv_futex_wake_all(_Atomic uint32_t *word);

/* Gives the processor away once (a waiter spins on a condition another thread is about to meet). */
void inv_cpu_yield(void);
static inline void inv_cpu_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

#endif
