/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_core.c: how fast is the core itself, through inv_store_execute_batch, with numbers
 * instead of texts? One JSON line a row of the table in docs:
 *
 *   row 1   reserves a second, memory mode, one core
 *   row 2   the same with the log, on a directory, every reply waited for in the end
 *   row 12  bytes of a live single-line reservation, all indexes
 *   row 14  single-line reserves replayed a second on opening
 *
 * Rows 1 and 2 hold a steady state: --reservations holds stay live, every batch of new ones (random
 * SKU, random place, random 16-byte id) is paired with as many ends of old ones: 6 of 10 released,
 * 2 committed, 2 left to expire. The figure counts the reserves only, over the whole time, ends and
 * expiries included; reserve_call_rate counts the time inside the reserve calls alone. Filling the
 * store comes before the clock starts, so memory is warm: ended ids are kept up to --ended, and
 * that many are made before the timed run.
 *
 * Usage: bench_core [--row N]... [--skus N] [--locations N] [--reservations N] [--seconds N]
 *                   [--ended N] [--batch N] [--dir PATH] [--smoke]
 */
#include "bench_common.h"

static void print_row(uint32_t row, const char *what, double figure, const char *unit,
                      const char *durability, double must, double aim, uint64_t commands,
                      double seconds, const char *more) {
    bench_line line = {row, "", what, figure, unit, durability, must, aim, commands, seconds};
    print_line(&line, more);
}

/* ---- rows 1 and 2 ---------------------------------------------------------------------------- */

static void steady_row(const bench_flags *flags, uint32_t row, const char *dir) {
    bench *b = bench_create(flags);
    bench_open(b, dir == NULL ? INV_MEMORY : INV_DURABLE, dir);
    bench_fill(b);
    uint64_t live = bench_warm_up(b);
    inv_metrics before, after;
    inv_store_metrics(b->store, &before);
    b->commands = b->reserve_ns = b->reserve_cpu_ns = 0;
    double cpu = cpu_seconds();
    uint64_t made = b->made, start_ns = now_ns();
    bench_steady(b, flags->seconds);
    bench_settle(b); /* only what is durable counts */
    double seconds = (double)(now_ns() - start_ns) / 1e9;
    cpu = cpu_seconds() - cpu;
    made = b->made - made;
    inv_store_metrics(b->store, &after);
    char more[512];
    snprintf(more, sizeof more,
             ", \"skus\": %u, \"locations\": %u, \"live\": %" PRIu64 ", \"ended_ids_max\": %" PRIu64
             ", \"batch\": %u, \"reserves\": %" PRIu64 ", \"expired\": %" PRIu64
             ", \"command_rate\": %.0f, \"reserve_call_rate\": %.0f, \"reserve_cpu_rate\": %.0f"
             ", \"log_bytes\": %" PRIu64
             ", \"syncs\": %" PRIu64 ", \"segment_waits\": %" PRIu64
             ", \"resident_bytes\": %" PRIu64 ", \"cpu_seconds\": %.3f",
             flags->skus, flags->locations, live, flags->ended, flags->batch, made,
             after.expired - before.expired, (double)b->commands / seconds,
             (double)made / ((double)b->reserve_ns / 1e9),
             (double)made / ((double)b->reserve_cpu_ns / 1e9),
             after.lsn_appended - before.lsn_appended, after.syncs - before.syncs,
             after.segment_waits - before.segment_waits, resident_bytes(), cpu);
    if (row == 1)
        print_row(1, "C core, batch reserve, one core, warm memory", (double)made / seconds,
                  "reserves/s", "memory", 4e6, 8e6, b->commands, seconds, more);
    else
        print_row(2, "C core, batch reserve, everything logged", (double)made / seconds,
                  "reserves/s", "durable", 2.5e6, 4e6, b->commands, seconds, more);
    bench_destroy(b);
}

/* ---- row 12 ---------------------------------------------------------------------------------- */

static void bytes_row(const bench_flags *flags) {
    bench_flags own = *flags;
    own.skus = flags->skus < 1000000 ? flags->skus : 1000000;
    own.locations = 1;
    bench *b = bench_create(&own);
    bench_open(b, INV_MEMORY, NULL);
    bench_fill(b);
    inv_metrics before, after;
    inv_store_metrics(b->store, &before);
    uint64_t resident = resident_bytes(), start_ns = now_ns();
    while (b->made < flags->reservations) bench_reserve_batch(b, flags->batch, false);
    double seconds = (double)(now_ns() - start_ns) / 1e9;
    inv_store_metrics(b->store, &after);
    double made = (double)b->made;
    double in_use = (double)(after.bytes_in_use - before.bytes_in_use) / made;
    double in_memory = ((double)resident_bytes() - (double)resident) / made;
    char more[256];
    snprintf(more, sizeof more,
             ", \"live\": %" PRIu64 ", \"bytes_in_use\": %.1f, \"resident_bytes\": %.1f",
             after.live_holds, in_use, in_memory);
    print_row(12, "bytes a live single-line reservation, all indexes",
              in_use > in_memory ? in_use : in_memory, "bytes", "memory", 96, 80, b->made, seconds,
              more);
    bench_destroy(b);
}

/* ---- row 14 ---------------------------------------------------------------------------------- */

static void replay_row(const bench_flags *flags, const char *dir) {
    bench_flags own = *flags;
    own.skus = flags->skus < 1000000 ? flags->skus : 1000000;
    own.locations = 1;
    bench *b = bench_create(&own);
    bench_open(b, INV_DURABLE, dir);
    bench_fill(b);
    while (b->made < flags->reservations) bench_reserve_batch(b, flags->batch, false);
    bench_settle(b);
    bench_close(b);
    uint64_t start_ns = now_ns();
    bench_open(b, INV_DURABLE, dir);
    double seconds = (double)(now_ns() - start_ns) / 1e9;
    inv_recovery recovery;
    inv_store_recovery(b->store, &recovery);
    double inside = (double)recovery.duration_ns / 1e9;
    inv_metrics metrics;
    inv_store_metrics(b->store, &metrics);
    if (metrics.live_holds != b->made) die("replay", "reservations are missing");
    char more[256];
    snprintf(more, sizeof more,
             ", \"entries\": %" PRIu64 ", \"log_bytes\": %" PRIu64 ", \"seconds_inside\": %.3f",
             recovery.entries_replayed, recovery.lsn_end - recovery.lsn_first, inside);
    print_row(14, "replay of single-line reserve effects on opening",
              (double)recovery.entries_replayed / seconds, "entries/s", "durable", 5e6, 10e6,
              b->made, seconds, more);
    bench_destroy(b);
}

/* ---- flags ----------------------------------------------------------------------------------- */

int main(int argc, char **argv) {
    static bench_flags flags = {.skus = 10000000,
                                .locations = 10,
                                .reservations = 10000000,
                                .ended = 4000000,
                                .seconds = 60,
                                .batch = 1024,
                                .rows = {[1] = true, [2] = true, [12] = true, [14] = true}};
    static const bench_flags smoke = {.skus = 1000,
                                      .locations = 3,
                                      .reservations = 20000,
                                      .ended = 10000,
                                      .seconds = 0.3,
                                      .batch = 1024};
    bench_read_flags(argc, argv, &smoke, &flags);
    if (flags.rows[1]) steady_row(&flags, 1, NULL);
    if (flags.rows[2]) {
        make_dir(&flags);
        steady_row(&flags, 2, work_dir);
        drop_dir();
    }
    if (flags.rows[12]) bytes_row(&flags);
    if (flags.rows[14]) {
        make_dir(&flags);
        replay_row(&flags, work_dir);
        drop_dir();
    }
    return 0;
}
