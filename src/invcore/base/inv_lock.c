/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_lock.c: the slow half of the lock, and the futex calls.
 *
 * Guarantees: mutual exclusion, no lost wake-up, no allocation, no failure. The algorithm is the
 * third mutex of U. Drepper, "Futexes Are Tricky" (2011):
 *
 *     take:  0 -> 1 by compare-and-swap                     (header, uncontended)
 *            else spin a little, trying 0 -> 1
 *            else swap in 2 and sleep while it stays 2, until the swap returned 0
 *     give:  swap in 0; wake one sleeper if it was 2        (header)
 *
 * A thread that slept takes the lock as 2 although it may be the last: it cannot know, and one wake
 * too many is cheap while one too few is a hang.
 *
 * Why not pthread_mutex_t: 40 bytes instead of 4 in each of thousands of stripes, needs an init,
 * and zero-filled memory would be a lock by luck only. Why no fairness: a hand-over costs a context
 * switch per critical section, and ours last less than a microsecond.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall() */
#endif
#include "inv_lock.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* About 2 microseconds of pauses: longer than a usual critical section, shorter than a sleep and
 * wake-up, and short enough not to matter when the holder was preempted. */
#define SPIN_COUNT_MAX 64u

_Static_assert(sizeof(inv_lock) == 4, "the kernel's futex word is the lock");

void inv_lock_take_slow(inv_lock *lock) {
    for (uint32_t spin = 0; spin < SPIN_COUNT_MAX; spin++) {
        /* Looking before swapping keeps the line shared while the holder works. */
        if (atomic_load_explicit(&lock->word, memory_order_relaxed) == 0 && inv_lock_try(lock))
            return;
        inv_cpu_pause();
    }
    /* acquire: pairs with the release exchange of inv_lock_give */
    while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire) != 0) {
        /* Returns at once if the word is no longer 2; any other reason to return is harmless too,
         * because the swap above decides. */
        (void)syscall(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, 2u, NULL, NULL, 0);
    }
}

void inv_lock_wake_one(inv_lock *lock) {
    /* The lock is already free, so its memory may be gone by now if the next holder destroyed it:
     * then this wakes nobody or somebody in vain, both allowed. It does not touch the word. */
    (void)syscall(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void inv_futex_wait(_Atomic uint32_t *word, uint32_t seen, uint32_t timeout_ms) {
    if (timeout_ms == 0) return;
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ms / 1000),
                               .tv_nsec = (long)(timeout_ms % 1000) * 1000000L};
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, &timeout, NULL, 0);
}

void inv_futex_wake_all(_Atomic uint32_t *word) {
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void inv_cpu_yield(void) { (void)sched_yield(); }
