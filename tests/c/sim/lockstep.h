/* SPDX-License-Identifier: Apache-2.0
 *
 * lockstep.h: a second thread that runs exactly one job while the first one waits for it. Two
 * appenders can then be in the middle of their work at once, in an order that the seed decides: it
 * is deterministic, and each has the thread-local state of a real thread.
 */
#ifndef LOCKSTEP_H
#define LOCKSTEP_H

#include <pthread.h>
#include <stdbool.h>

typedef struct lockstep {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    void (*job)(void *argument); /* NULL = idle */
    void *argument;
    bool ending;
    bool started;
} lockstep;

void lockstep_init(lockstep *helper);
void lockstep_deinit(lockstep *helper);

/* Runs job(argument) on the helper and waits. A job that does not end within 20 s is a deadlock of
 * the code under test: says so with `what` and ends the program, as the thread can't be freed. */
void lockstep_run(lockstep *helper, void (*job)(void *argument), void *argument, const char *what);

#endif
