/* SPDX-License-Identifier: Apache-2.0
 *
 * driver.c: runs a fuzz target (fuzz.h) over mutations drawn from a seed. A round is ROUND_INPUTS
 * inputs under one seed, each a valid one changed at a few places or two of them put together; the
 * seed of the round that crashes, hangs or grows is printed on the way out.
 *
 *     fuzz_x [--seed N] [--states N] [--seconds S]     N inputs, or as many as S seconds allow
 *     fuzz_x --corpus DIR                              writes valid inputs for libFuzzer to DIR
 */
#ifndef INV_LIBFUZZER

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../inv_test.h"
#include "../sim/campaign.h"
#include "fuzz.h"

#define ROUND_INPUTS 256u
#define INPUT_SECONDS_MAX 1.0
#define RSS_KIB_MAX (512l << 10)
#define CORPUS_FILES 64u

/* ---- the last words -------------------------------------------------------------------------- */
static char last_words[300]; /* made before the round, so that a handler only has to write it */

static void on_signal(int number) {
    ssize_t written = write(STDOUT_FILENO, last_words, strlen(last_words));
    (void)written;
    signal(number, SIG_DFL);
    raise(number);
}

static void watch_signals(void) {
    static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) signal(numbers[i], on_signal);
}

/* ---- mutations ------------------------------------------------------------------------------- */
static void mutate_number(uint64_t *random, uint8_t *bytes, size_t size) {
    static const uint64_t figures[] = {0,          1,          0x7F,       0xFF,       0x7FFF,
                                       0xFFFF,     0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1ull << 32,
                                       1ull << 63, UINT64_MAX, 4096,       40,         36};
    size_t width = (size_t)1 << fuzz_below(random, 4);
    if (size < width) return;
    size_t at = fuzz_below(random, (uint32_t)(size - width + 1));
    uint64_t figure = figures[fuzz_below(random, sizeof figures / sizeof figures[0])];
    if (fuzz_below(random, 2) == 0) { /* a small step up or down */
        memcpy(&figure, bytes + at, width);
        figure += fuzz_below(random, 17) - 8ull;
    }
    memcpy(bytes + at, &figure, width);
}

static size_t move_bytes(uint64_t *random, uint8_t *bytes, size_t size, bool insert) {
    size_t at = fuzz_below(random, (uint32_t)size), count = 1 + fuzz_below(random, 64);
    if (!insert) {
        if (at + count > size) count = size - at;
        memmove(bytes + at, bytes + at + count, size - at - count);
        return size - count;
    }
    if (size + count > FUZZ_INPUT_BYTES_MAX) return size;
    memmove(bytes + at + count, bytes + at, size - at);
    return size + count; /* the bytes there twice */
}

static size_t mutate(uint64_t *random, uint8_t *bytes, size_t size) {
    uint32_t changes = fuzz_below(random, 8);
    for (uint32_t i = 0; i < changes && size > 0; i++) {
        uint32_t at = fuzz_below(random, (uint32_t)size);
        switch (fuzz_below(random, 8)) {
        case 0:
        case 1: bytes[at] ^= (uint8_t)(1u << fuzz_below(random, 8)); break;
        case 2: bytes[at] = (uint8_t)fuzz_random(random); break;
        case 3:
        case 4: mutate_number(random, bytes, size); break;
        case 5: size = move_bytes(random, bytes, size, fuzz_below(random, 2) == 0); break;
        case 6: memset(bytes + at, 0, size - at < 32 ? size - at : 32); break;
        default:
            if (fuzz_below(random, 4) == 0) size = at;
            break;
        }
    }
    return size;
}

static size_t make_input(uint64_t *random, uint8_t *bytes) {
    size_t size = fuzz_make_input(random, bytes, FUZZ_INPUT_BYTES_MAX);
    if (fuzz_below(random, 4) == 0) { /* the end of another one instead of its own */
        static uint8_t other[FUZZ_INPUT_BYTES_MAX];
        size_t other_size = fuzz_make_input(random, other, sizeof other);
        size_t at = fuzz_below(random, (uint32_t)(size < other_size ? size : other_size));
        memcpy(bytes + at, other + at, other_size - at);
        size = other_size;
    }
    return mutate(random, bytes, size);
}

/* ---- rounds ---------------------------------------------------------------------------------- */
static void run_round(const campaign_options *options, uint64_t seed) {
    static uint8_t bytes[FUZZ_INPUT_BYTES_MAX];
    uint64_t random = seed * 0x9E3779B97F4A7C15ull + 1;
    snprintf(last_words, sizeof last_words,
             "%s: VIOLATION: it crashed, hung or said so above\nrepeat: %s --seed %" PRIu64
             " --states %u\n",
             fuzz_name, options->program, seed, ROUND_INPUTS);
    alarm(60);
    for (uint32_t i = 0; i < ROUND_INPUTS; i++) {
        size_t size = make_input(&random, bytes);
        uint8_t *exact = malloc(size > 0 ? size : 1); /* so that a read beyond its end is seen */
        if (exact == NULL) abort();
        memcpy(exact, bytes, size);
        double began = inv_test_now_seconds();
        LLVMFuzzerTestOneInput(exact, size);
        if (inv_test_now_seconds() - began > 10 * INPUT_SECONDS_MAX)
            fuzz_fail("an input of %zu bytes took longer than %.0f s", size,
                      10 * INPUT_SECONDS_MAX); /* ten: the machine may be shared */
        free(exact);
    }
    alarm(0);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    if (usage.ru_maxrss > RSS_KIB_MAX)
        fuzz_fail("%ld KiB of memory at one time", usage.ru_maxrss);
#endif
}

static int write_corpus(const char *directory) {
    static uint8_t bytes[FUZZ_INPUT_BYTES_MAX];
    uint64_t random = 1;
    for (uint32_t i = 0; i < CORPUS_FILES; i++) {
        char path[600];
        size_t size = fuzz_make_input(&random, bytes, sizeof bytes);
        snprintf(path, sizeof path, "%s/made-%03u", directory, i);
        FILE *file = fopen(path, "wb");
        if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
            perror(path);
            return 1;
        }
    }
    printf("%u inputs in %s\n", CORPUS_FILES, directory);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--corpus") == 0) return write_corpus(argv[2]);
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT, .states = fuzz_inputs_default};
    campaign_options_read(&options, argc, argv);
    double began = campaign_now_seconds();
    uint64_t inputs = 0, seed = options.seed;
    watch_signals();
    while (inputs < options.states &&
           (options.seconds <= 0 || campaign_now_seconds() - began < options.seconds)) {
        run_round(&options, seed++);
        inputs += ROUND_INPUTS;
    }
    double seconds = campaign_now_seconds() - began;
    printf("%s: no violation, %" PRIu64 " inputs, %.0f a second\n", fuzz_name, inputs,
           seconds > 0 ? (double)inputs / seconds : 0);
    inv_test_units(inputs, "inputs", options.seed, seed);
    return campaign_finish(1, 0);
}

#endif
