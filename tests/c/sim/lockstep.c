/* SPDX-License-Identifier: Apache-2.0
 *
 * lockstep.c: one mutex, one condition, one job at a time.
 */
#include "lockstep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEADLOCK_SECONDS 20

static void *helper_main(void *argument) {
    lockstep *helper = argument;
    pthread_mutex_lock(&helper->mutex);
    while (!helper->ending) {
        if (helper->job == NULL) {
            pthread_cond_wait(&helper->changed, &helper->mutex);
            continue;
        }
        void (*job)(void *) = helper->job;
        void *job_argument = helper->argument;
        pthread_mutex_unlock(&helper->mutex);
        job(job_argument);
        pthread_mutex_lock(&helper->mutex);
        helper->job = NULL;
        pthread_cond_broadcast(&helper->changed);
    }
    pthread_mutex_unlock(&helper->mutex);
    return NULL;
}

void lockstep_init(lockstep *helper) {
    memset(helper, 0, sizeof *helper);
    pthread_mutex_init(&helper->mutex, NULL);
    pthread_cond_init(&helper->changed, NULL);
}

void lockstep_deinit(lockstep *helper) {
    if (helper->started) {
        pthread_mutex_lock(&helper->mutex);
        helper->ending = true;
        pthread_cond_broadcast(&helper->changed);
        pthread_mutex_unlock(&helper->mutex);
        pthread_join(helper->thread, NULL);
    }
    pthread_cond_destroy(&helper->changed);
    pthread_mutex_destroy(&helper->mutex);
}

void lockstep_run(lockstep *helper, void (*job)(void *argument), void *argument,
                  const char *what) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += DEADLOCK_SECONDS;
    pthread_mutex_lock(&helper->mutex);
    if (!helper->started) {
        if (pthread_create(&helper->thread, NULL, helper_main, helper) != 0) abort();
        helper->started = true;
    }
    helper->argument = argument;
    helper->job = job;
    pthread_cond_broadcast(&helper->changed);
    while (helper->job != NULL) {
        if (pthread_cond_timedwait(&helper->changed, &helper->mutex, &until) == 0) continue;
        if (helper->job == NULL) break;
        printf("VIOLATION: deadlock: %s\n", what);
        fflush(stdout);
        _Exit(1);
    }
    pthread_mutex_unlock(&helper->mutex);
}
