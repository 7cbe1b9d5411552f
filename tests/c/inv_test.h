/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_test.h: the whole test harness of the C suite. One program per module:
 *
 *     #include "inv_test.h"
 *     INV_TEST(adds_up) { CHECK_EQ(1 + 1, 2); }
 *     INV_TEST_MAIN()
 *
 * Usage of a test program: `test_x [seed [part-of-a-test-name]]`. Everything random comes from
 * inv_test_rng, which is derived from that one seed (fixed unless given), so that a failing run is
 * repeated by one command; the seed is printed before the first failure. The last line is
 * "N passed, N failed" and the exit status is 0 only when nothing failed.
 *
 * CHECK notes a failure and goes on; REQUIRE notes it and returns from the (void) function. Both
 * may be used from any thread. The state is one weak object, so a program of several files that
 * all include this header still counts in one place.
 */
#ifndef INV_TEST_H
#define INV_TEST_H

#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INV_TEST_SEED_DEFAULT 20240229ull
#define INV_TEST_PRINTED_MAX 20u /* a check failing in a loop must not bury the first message */

#define INV_TEST_HELPER static inline __attribute__((unused))

typedef struct inv_test_case {
    const char *name;
    void (*run)(void);
    struct inv_test_case *next;
} inv_test_case;

typedef struct inv_test_state {
    inv_test_case *first, *last; /* in the order of the source */
    uint64_t seed;
    const char *program;
    const char *filter;             /* part of the names of the tests that run */
    const char *current;            /* name of the test that runs */
    _Atomic uint64_t failure_count; /* failed checks of the current test, from all threads */
    _Atomic bool seed_printed;
} inv_test_state;

__attribute__((weak)) inv_test_state inv_test_all;

INV_TEST_HELPER void inv_test_register(inv_test_case *test) {
    if (inv_test_all.last != NULL) inv_test_all.last->next = test;
    else inv_test_all.first = test;
    inv_test_all.last = test;
}

#define INV_TEST(test_name)                                                             \
    static void test_name(void);                                                        \
    static inv_test_case test_name##_case = {#test_name, test_name, NULL};              \
    __attribute__((constructor)) static void test_name##_register(void) {               \
        inv_test_register(&test_name##_case);                                           \
    }                                                                                   \
    static void test_name(void)

/* Counts a failure; true if it should still be printed. */
INV_TEST_HELPER bool inv_test_failed(const char *file, int line) {
    if (!atomic_exchange_explicit(&inv_test_all.seed_printed, true, memory_order_relaxed))
        fprintf(stderr, "seed %" PRIu64 " (repeat: %s %" PRIu64 "%s%s)\n", inv_test_all.seed,
                inv_test_all.program, inv_test_all.seed, inv_test_all.filter[0] != 0 ? " " : "",
                inv_test_all.filter);
    uint64_t earlier =
        atomic_fetch_add_explicit(&inv_test_all.failure_count, 1, memory_order_relaxed);
    if (earlier >= INV_TEST_PRINTED_MAX) return false;
    fprintf(stderr, "%s:%d: %s: ", file, line, inv_test_all.current ? inv_test_all.current : "-");
    return true;
}

INV_TEST_HELPER bool inv_test_check(bool ok, const char *text, const char *file, int line) {
    if (!ok && inv_test_failed(file, line)) fprintf(stderr, "failed: %s\n", text);
    return ok;
}

INV_TEST_HELPER bool inv_test_check_equal(uint64_t actual, uint64_t expected, const char *text,
                                          const char *file, int line) {
    if (actual != expected && inv_test_failed(file, line))
        fprintf(stderr, "failed: %s: got %" PRId64 " (0x%" PRIx64 "), want %" PRId64
                        " (0x%" PRIx64 ")\n",
                text, (int64_t)actual, actual, (int64_t)expected, expected);
    return actual == expected;
}

INV_TEST_HELPER bool inv_test_check_text(const char *actual, const char *expected,
                                         const char *text, const char *file, int line) {
    bool ok = actual != NULL && expected != NULL && strcmp(actual, expected) == 0;
    if (!ok && inv_test_failed(file, line))
        fprintf(stderr, "failed: %s: got \"%s\", want \"%s\"\n", text,
                actual ? actual : "(null)", expected ? expected : "(null)");
    return ok;
}

#define CHECK(condition) inv_test_check((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQ(actual, expected)                                                        \
    inv_test_check_equal((uint64_t)(actual), (uint64_t)(expected), #actual " == " #expected, \
                         __FILE__, __LINE__)
#define CHECK_TEXT(actual, expected) \
    inv_test_check_text((actual), (expected), #actual " == " #expected, __FILE__, __LINE__)
#define REQUIRE(condition)             \
    do {                               \
        if (!CHECK(condition)) return; \
    } while (0)
#define REQUIRE_EQ(actual, expected)             \
    do {                                         \
        if (!CHECK_EQ(actual, expected)) return; \
    } while (0)

/* ---- randomness: splitmix64, one stream per (seed, stream number) ---------------------------- */
typedef struct inv_test_rng {
    uint64_t state;
} inv_test_rng;

INV_TEST_HELPER uint64_t inv_test_rng_u64(inv_test_rng *rng) {
    uint64_t x = rng->state += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* A stream of its own for a test, a thread or a round; equal seeds and numbers, equal values. */
INV_TEST_HELPER inv_test_rng inv_test_rng_of(uint64_t stream) {
    inv_test_rng rng = {inv_test_all.seed};
    rng.state = inv_test_rng_u64(&rng) ^ (stream * 0xd1342543de82ef95ull);
    return rng;
}

/* A number in [0, bound), 0 when bound is 0. The bias is below bound / 2^64. */
INV_TEST_HELPER uint64_t inv_test_rng_below(inv_test_rng *rng, uint64_t bound) {
    return bound == 0 ? 0 : inv_test_rng_u64(rng) % bound;
}

INV_TEST_HELPER void inv_test_rng_fill(inv_test_rng *rng, void *buffer, size_t size) {
    uint8_t *bytes = (uint8_t *)buffer;
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)inv_test_rng_u64(rng);
}

/* ---- length of runs: INV_TEST_SCALE=10 for a long one, 0.1 under valgrind -------------------- */
INV_TEST_HELPER double inv_test_scale(void) {
    const char *text = getenv("INV_TEST_SCALE");
    double scale = text != NULL ? strtod(text, NULL) : 1.0;
    return scale > 0 ? scale : 1.0;
}

INV_TEST_HELPER uint64_t inv_test_scaled(uint64_t count) {
    double scaled = (double)count * inv_test_scale();
    return scaled < 1 ? 1 : (uint64_t)scaled;
}

/* ---- campaigns: INV_TEST_SECONDS=600 repeats rounds under new seeds for so long -------------- */
INV_TEST_HELPER double inv_test_now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

typedef struct inv_test_rounds {
    uint64_t seed_first;
    uint64_t wanted, begun;
    double until_seconds; /* 0: as many as wanted */
} inv_test_rounds;

INV_TEST_HELPER inv_test_rounds inv_test_rounds_of(uint64_t wanted) {
    const char *text = getenv("INV_TEST_SECONDS");
    double seconds = text != NULL ? strtod(text, NULL) : 0;
    return (inv_test_rounds){.seed_first = inv_test_all.seed,
                             .wanted = wanted,
                             .until_seconds = seconds > 0 ? inv_test_now_seconds() + seconds : 0};
}

/* Begins another round, under a seed of its own; false: enough of them, or one has failed (its
 * seed is then the one that is named and that repeats it first). */
INV_TEST_HELPER bool inv_test_again(inv_test_rounds *rounds) {
    if (atomic_load_explicit(&inv_test_all.failure_count, memory_order_relaxed) > 0) return false;
    bool over = rounds->until_seconds > 0 ? inv_test_now_seconds() >= rounds->until_seconds
                                          : rounds->begun >= rounds->wanted;
    inv_test_all.seed = rounds->seed_first + (over ? 0 : rounds->begun);
    rounds->begun += !over;
    return !over;
}

/* The line that tools/campaign.py counts by. seed_next: the first seed that was not used. */
INV_TEST_HELPER void inv_test_units(uint64_t count, const char *unit, uint64_t seed_first,
                                    uint64_t seed_next) {
    printf("units: %" PRIu64 " %s, seeds %" PRIu64 " to %" PRIu64 "\n", count, unit, seed_first,
           seed_next - 1);
}

INV_TEST_HELPER int inv_test_run_all(int argc, char **argv) {
    inv_test_all.filter = argc > 2 ? argv[2] : "";
    uint64_t passed = 0, failed = 0;
    inv_test_all.program = argc > 0 ? argv[0] : "test";
    inv_test_all.seed = argc > 1 ? strtoull(argv[1], NULL, 0) : INV_TEST_SEED_DEFAULT;
    for (inv_test_case *test = inv_test_all.first; test != NULL; test = test->next) {
        if (strstr(test->name, inv_test_all.filter) == NULL) continue;
        inv_test_all.current = test->name;
        atomic_store_explicit(&inv_test_all.failure_count, 0, memory_order_relaxed);
        test->run();
        uint64_t failures =
            atomic_load_explicit(&inv_test_all.failure_count, memory_order_relaxed);
        if (failures == 0) passed++;
        else failed++;
        if (failures > 0)
            fprintf(stderr, "FAILED %s: %" PRIu64 " checks\n", test->name, failures);
    }
    fflush(stderr);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}

#define INV_TEST_MAIN() \
    int main(int argc, char **argv) { return inv_test_run_all(argc, argv); }

#endif
