/* SPDX-License-Identifier: Apache-2.0
 *
 * race_base.h: what the races of race_body.h stand on: a store with its loops, a watchdog,
 * commands, and rounds in which all threads do one thing at the same moment.
 *
 * Nothing here waits for a fixed time where a condition can be waited for.
 */
#ifndef RACE_BASE_H
#define RACE_BASE_H

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include "inv_test.h"
#include "pack_always.h"
#include "../../src/invcore/invcore.h"
#ifdef INV_YIELD_POINTS
#include "../../src/invcore/base/inv_env.h"
#endif

#define RACE_THREAD_COUNT_MAX 16u
#define RACE_EXIT_STALLED 7
#define RACE_TEXT_BYTES 256u
#define RACE_LINE_COUNT_MAX 512u

#define RACE_HELPER static inline __attribute__((unused))

/* ---- the first problem any thread found ------------------------------------------------------ */

typedef struct race_problem {
    pthread_mutex_t mutex;
    _Atomic bool found;
    char text[RACE_TEXT_BYTES];
} race_problem;

RACE_HELPER void race_report(race_problem *problem, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
RACE_HELPER void race_report(race_problem *problem, const char *format, ...) {
    pthread_mutex_lock(&problem->mutex);
    if (!atomic_load(&problem->found)) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(problem->text, sizeof problem->text, format, arguments);
        va_end(arguments);
        atomic_store(&problem->found, true);
    }
    pthread_mutex_unlock(&problem->mutex);
}

/* ---- a store with its loops ------------------------------------------------------------------ */

typedef struct race_world {
    inv_env *env;
    inv_memory *memory; /* NULL in memory mode */
    inv_store *store;
    pthread_t loops[3];
    race_problem problem;
    _Atomic uint64_t progress; /* calls made by anybody: the watchdog looks at it */
    _Atomic bool watched;
    _Atomic uint64_t gap_ms_max; /* longest time without progress */
    pthread_t watchdog;
    uint64_t stall_ms;
} race_world;

RACE_HELPER uint64_t race_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

RACE_HELPER void race_sleep_ms(uint32_t ms) {
    struct timespec span = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&span, NULL);
}

RACE_HELPER void *race_flusher(void *store) {
    inv_store_run_flusher(store);
    return NULL;
}
RACE_HELPER void *race_timekeeper(void *store) {
    inv_store_run_timekeeper(store);
    return NULL;
}
RACE_HELPER void *race_housekeeper(void *store) {
    inv_store_run_housekeeper(store);
    return NULL;
}

RACE_HELPER void race_spawn(pthread_t *thread, void *(*run)(void *), void *argument) {
    if (pthread_create(thread, NULL, run, argument) != 0) abort();
}

#ifdef INV_YIELD_POINTS
/* Lets another thread in between two steps of a read: few cores would seldom do it. */
RACE_HELPER void race_yield(void *context, int point) {
    (void)context;
    static _Thread_local uint32_t turn;
    bool eighth = point == INV_YIELD_IN_READ && ++turn % 8 == 0;
    bool often = point == INV_YIELD_IN_APPLY && ++turn % 64 == 0;
    if (eighth || often) sched_yield();
}
#endif

RACE_HELPER void race_open(race_world *w, bool durable, uint32_t stripe_bits) {
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->problem.mutex, NULL);
    w->env = inv_env_create();
    pack_always(&w->env->allocator);
#ifdef INV_YIELD_POINTS
    w->env->yield = race_yield;
#endif
    inv_options options;
    inv_options_init(&options);
    options.stripe_bits = stripe_bits;
    options.durability = durable ? INV_DURABLE : INV_MEMORY;
    options.segment_bytes = 4u << 20;
    if (durable) {
        w->memory = inv_memory_create();
        inv_env_use_memory(w->env, w->memory);
    }
    inv_error error;
    memset(&error, 0, sizeof error);
    if (inv_store_open(w->env, &options, &w->store, &error) != INV_OK) {
        fprintf(stderr, "open: %s\n", error.message);
        abort();
    }
    race_spawn(&w->loops[0], race_flusher, w->store);
    race_spawn(&w->loops[1], race_timekeeper, w->store);
    race_spawn(&w->loops[2], race_housekeeper, w->store);
}

/* Ends the store; returns what was found, or what the store says about itself. */
RACE_HELPER const char *race_close(race_world *w) {
    static char text[RACE_TEXT_BYTES];
    inv_check_report report;
    inv_error error;
    memset(&report, 0, sizeof report);
    memset(&error, 0, sizeof error);
    inv_result checked = inv_store_check(w->store, &report);
    if (checked != INV_OK || !report.ok)
        race_report(&w->problem, "check: %s: %.180s", inv_result_name(checked), report.problem);
    inv_store_stop(w->store);
    for (uint32_t i = 0; i < 3; i++) pthread_join(w->loops[i], NULL);
    inv_result closed = inv_store_close(w->store, &error);
    if (closed != INV_OK) race_report(&w->problem, "close: %s", inv_result_name(closed));
    inv_store_destroy(w->store);
    inv_env_destroy(w->env);
    if (w->memory != NULL) inv_memory_destroy(w->memory);
    memcpy(text, w->problem.text, sizeof text);
    return atomic_load(&w->problem.found) ? text : NULL;
}

/* Ends the process when nobody made a call for stall_ms: threads in a deadlock can't be joined. */
RACE_HELPER void *race_watch(void *argument) {
    race_world *w = argument;
    uint64_t seen = atomic_load(&w->progress), since_ms = race_now_ms();
    while (atomic_load(&w->watched)) {
        race_sleep_ms(5);
        uint64_t now_ms = race_now_ms(), progress = atomic_load(&w->progress);
        uint64_t gap_ms = now_ms - since_ms;
        if (gap_ms > atomic_load(&w->gap_ms_max)) atomic_store(&w->gap_ms_max, gap_ms);
        if (progress != seen) {
            seen = progress;
            since_ms = now_ms;
        } else if (gap_ms > w->stall_ms) {
            fprintf(stderr, "no progress for %" PRIu64 " ms: deadlock\n", gap_ms);
            fflush(NULL);
            _exit(RACE_EXIT_STALLED);
        }
    }
    return NULL;
}

RACE_HELPER void race_watch_start(race_world *w, uint64_t stall_ms) {
    w->stall_ms = stall_ms;
    atomic_store(&w->watched, true);
    race_spawn(&w->watchdog, race_watch, w);
}

RACE_HELPER void race_watch_stop(race_world *w) {
    atomic_store(&w->watched, false);
    pthread_join(w->watchdog, NULL);
}

/* ---- commands -------------------------------------------------------------------------------- */

/* Id number n (below 2^56) as the 16 bytes of a version 4 UUID. */
RACE_HELPER void race_id(uint64_t n, char out[16]) {
    inv_test_rng rng = {n * 2 + 1};
    uint64_t high = inv_test_rng_u64(&rng), low = n << 8 | 0x80; /* low keeps them distinct */
    memcpy(out, &high, 8);
    memcpy(out + 8, &low, 8);
    out[6] = (char)((out[6] & 0x0F) | 0x40);
}

RACE_HELPER inv_line race_line(uint32_t sku, uint16_t location, int64_t qty) {
    inv_line line;
    memset(&line, 0, sizeof line);
    line.sku_number = sku;
    line.location_number = location;
    line.qty = qty;
    return line;
}

RACE_HELPER inv_command race_by_id(uint8_t kind, const char id[16]) {
    inv_command command;
    memset(&command, 0, sizeof command);
    command.kind = kind;
    command.id.bytes = id;
    command.id.length = 16;
    command.id_is_uuid = true;
    return command;
}

RACE_HELPER inv_command race_reserve(const char id[16], const inv_line *lines, uint32_t count,
                                     uint64_t ttl_ms) {
    inv_command command = race_by_id(INV_CMD_RESERVE, id);
    command.lines = lines;
    command.line_count = count;
    command.ttl_ms = ttl_ms;
    return command;
}

RACE_HELPER inv_command race_stock(uint8_t kind, const inv_line *line) {
    inv_command command;
    memset(&command, 0, sizeof command);
    command.kind = kind;
    command.lines = line;
    command.line_count = 1;
    return command;
}

/* One command, its code; the reply's lines go to `lines` when given. */
RACE_HELPER int race_do(race_world *w, const inv_command *command, inv_reply *reply) {
    inv_reply own;
    if (reply == NULL) {
        memset(&own, 0, sizeof own);
        reply = &own;
    }
    inv_result result = inv_store_execute(w->store, command, 1, reply);
    atomic_fetch_add_explicit(&w->progress, 1, memory_order_relaxed);
    if (result != INV_OK) race_report(&w->problem, "execute: %s", inv_result_name(result));
    return result != INV_OK ? (int)result : reply->code;
}

RACE_HELPER void race_must(race_world *w, const inv_command *command) {
    int code = race_do(w, command, NULL);
    if (code != INV_OK)
        race_report(&w->problem, "command of kind %d: %s", command->kind, inv_result_name(code));
}

/* Numbers of SKUs "S0".. and locations "L0"..: equal to their index in a fresh store. */
RACE_HELPER void race_names(race_world *w, inv_name_kind kind, uint32_t count, uint32_t *out) {
    inv_text no_seller = {NULL, 0};
    for (uint32_t i = 0; i < count; i++) {
        char bytes[24];
        int length = snprintf(bytes, sizeof bytes, "%c%u", kind == INV_NAME_SKU ? 'S' : 'L', i);
        inv_text name = {bytes, (uint32_t)length};
        uint64_t lsn;
        size_t bad;
        inv_result result =
            inv_store_numbers(w->store, kind, no_seller, &name, 1, true, &out[i], &lsn, &bad);
        if (result != INV_OK) race_report(&w->problem, "numbers: %s", inv_result_name(result));
    }
}

RACE_HELPER void race_receive(race_world *w, uint32_t sku, uint16_t location, int64_t qty) {
    inv_line line = race_line(sku, location, qty);
    inv_command command = race_stock(INV_CMD_RECEIVE, &line);
    race_must(w, &command);
}

RACE_HELPER inv_stock_level race_read(race_world *w, const inv_line *line) {
    inv_stock_level level;
    inv_text no_seller = {NULL, 0};
    memset(&level, 0, sizeof level);
    inv_result result = inv_store_availability(w->store, no_seller, line, &level);
    if (result != INV_OK) race_report(&w->problem, "availability: %s", inv_result_name(result));
    return level;
}

RACE_HELPER inv_stock_level race_level(race_world *w, uint32_t sku, uint16_t location) {
    inv_line line = race_line(sku, location, 0);
    return race_read(w, &line);
}

/* ---- rounds: all threads do one thing at the same moment ------------------------------------- */

typedef struct race_rounds race_rounds;

typedef struct race_runner {
    race_rounds *rounds;
    uint32_t index;
    pthread_t thread;
    int code; /* of the last round */
} race_runner;

struct race_rounds {
    race_world world;
    uint32_t thread_count;
    _Atomic uint64_t go;   /* number of the round that may run */
    _Atomic uint32_t done; /* threads through with it */
    _Atomic bool over;
    uint32_t sku;         /* skus[0] */
    uint32_t skus[2 * RACE_THREAD_COUNT_MAX];
    void (*act)(race_runner *runner, uint64_t round);
    race_runner runners[RACE_THREAD_COUNT_MAX];
};

/* Threads spin to the start, so that they meet inside the store and not in the scheduler. */
RACE_HELPER void *race_round_loop(void *argument) {
    race_runner *runner = argument;
    race_rounds *rounds = runner->rounds;
    for (uint64_t round = 1;; round++) {
        for (uint32_t spin = 0; atomic_load_explicit(&rounds->go, memory_order_acquire) < round;) {
            if (atomic_load(&rounds->over)) return NULL;
            if (++spin > 200) sched_yield();
        }
        rounds->act(runner, round);
        atomic_fetch_add_explicit(&rounds->done, 1, memory_order_acq_rel);
    }
}

RACE_HELPER void race_rounds_open(race_rounds *rounds, uint32_t thread_count,
                                  void (*act)(race_runner *, uint64_t)) {
    memset(rounds, 0, sizeof *rounds);
    race_open(&rounds->world, false, 4);
    race_watch_start(&rounds->world, 10000);
    race_names(&rounds->world, INV_NAME_SKU, 2 * thread_count, rounds->skus);
    rounds->sku = rounds->skus[0];
    uint32_t location;
    race_names(&rounds->world, INV_NAME_LOCATION, 1, &location);
    rounds->thread_count = thread_count;
    rounds->act = act;
    for (uint32_t i = 0; i < thread_count; i++) {
        rounds->runners[i].rounds = rounds;
        rounds->runners[i].index = i;
        race_spawn(&rounds->runners[i].thread, race_round_loop, &rounds->runners[i]);
    }
}

RACE_HELPER void race_round(race_rounds *rounds, uint64_t round) {
    atomic_store(&rounds->done, 0);
    atomic_store_explicit(&rounds->go, round, memory_order_release);
    for (uint32_t spin = 0; atomic_load(&rounds->done) < rounds->thread_count;)
        if (++spin > 200) sched_yield();
}

RACE_HELPER uint32_t race_count(const race_rounds *rounds, int code) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < rounds->thread_count; i++) count += rounds->runners[i].code == code;
    return count;
}

RACE_HELPER const char *race_rounds_close(race_rounds *rounds) {
    atomic_store(&rounds->over, true);
    for (uint32_t i = 0; i < rounds->thread_count; i++)
        pthread_join(rounds->runners[i].thread, NULL);
    race_watch_stop(&rounds->world);
    return race_close(&rounds->world);
}

#endif
