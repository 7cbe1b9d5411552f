/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_lines.c: what does a line of memory cost that no cache holds? It is the price that rows 1
 * to 4, 14 and 17 are made of: an operation on a random SKU touches about ten such lines.
 *
 * Row 19, no target. An area of `skus` x `locations` lines of 64 bytes (1 GiB in full size), on
 * pages of 4 KiB and on huge ones. "one after another": each read says where the next line is.
 * "fetched ahead": the lines are known before, and each is prefetched 24 reads early. Processor
 * time of one thread by the reads. Not counted: making the area.
 */
#include <sys/mman.h>

#include "bench_common.h"

#define LINE_BYTES 64u
#define AHEAD 24u
#define PLAN_COUNT 4096u /* reads planned at a time; a power of two */
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

static volatile uint64_t read_sum; /* so that no read is left out */

typedef struct area {
    uint8_t *mapped, *lines;
    size_t mapped_bytes;
    uint32_t count;
} area;

static uint64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t *line_at(const area *a, uint64_t i) {
    return (uint64_t *)(void *)(a->lines + i * LINE_BYTES);
}

/* Every line names the next one of a single random cycle through all (Sattolo's shuffle). */
static area area_of(uint32_t count, bool huge) {
    area a = {.count = count, .mapped_bytes = (size_t)count * LINE_BYTES + HUGE_PAGE_BYTES};
    a.mapped = mmap(NULL, a.mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                    0);
    if (a.mapped == MAP_FAILED) die("memory", "none");
    uintptr_t start = (uintptr_t)a.mapped + HUGE_PAGE_BYTES - 1;
    a.lines = (uint8_t *)(start & ~(HUGE_PAGE_BYTES - 1));
    (void)madvise(a.mapped, a.mapped_bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    for (uint32_t i = 0; i < count; i++) *line_at(&a, i) = i;
    for (uint32_t i = count - 1; i > 0; i--) {
        uint64_t *one = line_at(&a, i), *other = line_at(&a, mix(i) % i), swap = *one;
        *one = *other;
        *other = swap;
    }
    return a;
}

static uint64_t read_chain(const area *a, double seconds) {
    uint64_t reads = 0, at = 0, end_ns = now_ns() + (uint64_t)(seconds * 1e9);
    for (; now_ns() < end_ns; reads += PLAN_COUNT)
        for (uint32_t i = 0; i < PLAN_COUNT; i++) at = *line_at(a, at);
    read_sum += at;
    return reads;
}

static uint64_t read_plan(const area *a, double seconds) {
    static uint32_t plan[PLAN_COUNT];
    uint64_t reads = 0, sum = 0, random = 1, end_ns = now_ns() + (uint64_t)(seconds * 1e9);
    for (; now_ns() < end_ns; reads += PLAN_COUNT) {
        for (uint32_t i = 0; i < PLAN_COUNT; i++) plan[i] = (uint32_t)(mix(random++) % a->count);
        for (uint32_t i = 0; i < PLAN_COUNT; i++) {
            __builtin_prefetch(line_at(a, plan[(i + AHEAD) % PLAN_COUNT]));
            sum += *line_at(a, plan[i]);
        }
    }
    read_sum += sum;
    return reads;
}

static void measure(const bench_flags *flags, bool huge) {
    area a = area_of(flags->skus * flags->locations, huge);
    for (uint32_t ahead = 0; ahead < 2; ahead++) {
        char variant[64];
        snprintf(variant, sizeof variant, "%s, %s pages",
                 ahead ? "fetched ahead" : "one after another", huge ? "huge" : "small");
        bench_line line = {.row = 19,
                           .variant = variant,
                           .what = "a line of memory that no cache holds",
                           .unit = "ns",
                           .durability = "-"};
        uint64_t start_ns = cpu_ns();
        line.commands = (ahead ? read_plan : read_chain)(&a, flags->seconds / 4);
        line.seconds = (double)(cpu_ns() - start_ns) / 1e9;
        line.figure = line.seconds * 1e9 / (double)line.commands;
        print_line(&line, "");
    }
    munmap(a.mapped, a.mapped_bytes);
}

int main(int argc, char **argv) {
    static bench_flags flags = {.skus = 1000000,
                                .locations = 16,
                                .seconds = 8,
                                .ended = 1,
                                .batch = 1,
                                .rows = {[19] = true}};
    static const bench_flags smoke = {
        .skus = 1000, .locations = 16, .seconds = 0.2, .ended = 1, .batch = 1};
    bench_read_flags(argc, argv, &smoke, &flags);
    measure(&flags, false);
    measure(&flags, true);
    return 0;
}
