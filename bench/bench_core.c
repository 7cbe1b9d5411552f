/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_core.c: how fast is the core itself, through inv_store_execute, with numbers instead of
 * texts? One JSON line a row of the table in docs:
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
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "../src/invcore/invcore.h"

#define BATCH_COUNT_MAX 1024u
#define ON_HAND 1000000
#define TTL_LONG_MS (24ull * 3600 * 1000)
#define TTL_SHORT_MS 4000u
#define PATH_BYTES 512u

typedef struct bench_flags {
    uint32_t skus, locations;
    uint64_t reservations, ended;
    double seconds;
    uint32_t batch;
    bool smoke;
    bool rows[32];
    char dir[PATH_BYTES];
} bench_flags;

typedef struct bench {
    const bench_flags *flags;
    inv_env *env;
    inv_store *store;
    pthread_t loops[3];
    bool threaded;      /* flusher, timekeeper and housekeeper on threads of their own */
    uint32_t *skus;     /* numbers */
    uint16_t *locations;
    uint64_t random;
    uint64_t made;      /* reservations so far: number n has the id of n */
    uint64_t ended;     /* all below have been ended, or left to expire */
    uint64_t lsn;       /* observed by the last reply */
    uint64_t commands;
    uint64_t reserve_ns; /* inside reserve calls, by the clock on the wall */
    uint64_t reserve_cpu_ns; /* ... by this thread's processor time */
    uint32_t batch_skus[BATCH_COUNT_MAX];
    uint16_t batch_locations[BATCH_COUNT_MAX];
    int64_t batch_qtys[BATCH_COUNT_MAX];
    uint32_t batch_ttls_ms[BATCH_COUNT_MAX];
    char ids[BATCH_COUNT_MAX][16], release_ids[BATCH_COUNT_MAX][16], commit_ids[BATCH_COUNT_MAX][16];
    uint8_t codes[BATCH_COUNT_MAX];
} bench;

/* The directory of the store under way, removed when a run fails too. */
static char work_dir[PATH_BYTES];

static void drop_dir(void) {
    DIR *open_dir = work_dir[0] == 0 ? NULL : opendir(work_dir);
    if (open_dir == NULL) return;
    for (struct dirent *entry; (entry = readdir(open_dir)) != NULL;) {
        char path[PATH_BYTES + 300];
        if (entry->d_name[0] == '.' && strlen(entry->d_name) < 3) continue;
        snprintf(path, sizeof path, "%s/%s", work_dir, entry->d_name);
        unlink(path);
    }
    closedir(open_dir);
    rmdir(work_dir);
    work_dir[0] = 0;
}

static _Noreturn void die(const char *what, const char *why) {
    fprintf(stderr, "bench_core: %s: %s\n", what, why);
    drop_dir();
    exit(1);
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

static uint64_t bench_random(bench *b) { return mix(b->random += 0x9E3779B97F4A7C15ull); }

static uint32_t bench_below(bench *b, uint32_t below) {
    return (uint32_t)(((bench_random(b) >> 32) * below) >> 32);
}

/* Id of reservation n: random to look at, a version 4 UUID, and found again without a list. */
static void bench_id(uint64_t n, char out[16]) {
    uint64_t words[2] = {mix(n * 2 + 1), mix(n ^ 0xD1342543DE82EF95ull)};
    memcpy(out, words, 16);
    out[6] = (char)((out[6] & 0x0F) | 0x40);
    out[8] = (char)((out[8] & 0x3F) | 0x80);
}

/* 6 of 10 are released, 2 committed, 2 expire. */
static uint32_t bench_fate(uint64_t n) { return (uint32_t)(mix(n + 99) % 10); }
static bool bench_expires(uint64_t n) { return bench_fate(n) >= 8; }

/* ---- a store --------------------------------------------------------------------------------- */

static void *run_flusher(void *store) {
    inv_store_run_flusher(store);
    return NULL;
}
static void *run_timekeeper(void *store) {
    inv_store_run_timekeeper(store);
    return NULL;
}
static void *run_housekeeper(void *store) {
    inv_store_run_housekeeper(store);
    return NULL;
}

static bench *bench_create(const bench_flags *flags) {
    bench *b = calloc(1, sizeof *b);
    if (b == NULL) die("memory", "none");
    b->flags = flags;
    b->random = 20240229;
    b->env = inv_env_create();
    b->skus = calloc(flags->skus, sizeof *b->skus);
    b->locations = calloc(flags->locations, sizeof *b->locations);
    if (b->env == NULL || b->skus == NULL || b->locations == NULL) die("memory", "none");
    return b;
}

static void bench_open(bench *b, inv_durability durability, const char *dir) {
    inv_options options;
    inv_error error;
    memset(&error, 0, sizeof error);
    inv_options_init(&options);
    options.durability = durability;
    options.ended_ids_max = b->flags->ended;
    if (dir != NULL && inv_env_use_directory(b->env, dir, false, &error) != INV_OK)
        die(dir, error.message);
    if (inv_store_open(b->env, &options, &b->store, &error) != INV_OK) die("open", error.message);
    b->threaded = durability != INV_MEMORY;
    void *(*const loops[3])(void *) = {run_flusher, run_timekeeper, run_housekeeper};
    for (uint32_t i = 0; b->threaded && i < 3; i++)
        if (pthread_create(&b->loops[i], NULL, loops[i], b->store) != 0) die("threads", "none");
}

static void bench_close(bench *b) {
    inv_error error;
    memset(&error, 0, sizeof error);
    inv_store_stop(b->store);
    for (uint32_t i = 0; b->threaded && i < 3; i++) pthread_join(b->loops[i], NULL);
    if (inv_store_close(b->store, &error) != INV_OK) die("close", error.message);
    inv_store_destroy(b->store);
    b->store = NULL;
}

static void bench_destroy(bench *b) {
    if (b->store != NULL) bench_close(b);
    inv_env_destroy(b->env);
    free(b->skus);
    free(b->locations);
    free(b);
}

/* ---- filling --------------------------------------------------------------------------------- */

static void bench_execute(bench *b, const inv_batch *batch) {
    inv_error error;
    memset(&error, 0, sizeof error);
    inv_result result = inv_store_execute_batch(b->store, batch, b->codes, &b->lsn, &error);
    if (result != INV_OK) die("execute", inv_result_name(result));
    for (size_t i = 0; i < batch->count; i++)
        if (b->codes[i] != INV_OK) die("row refused", inv_result_name(b->codes[i]));
    b->commands += batch->count;
}

static void bench_names(bench *b, inv_name_kind kind, char letter, uint32_t count, uint32_t *out) {
    static char bytes[256][16];
    inv_text names[256], no_seller = {NULL, 0};
    for (uint32_t done = 0; done < count;) {
        uint32_t some = count - done < 256 ? count - done : 256;
        for (uint32_t i = 0; i < some; i++) {
            int length = snprintf(bytes[i], sizeof bytes[i], "%c%011u", letter, done + i);
            names[i].bytes = bytes[i];
            names[i].length = (uint32_t)length;
        }
        size_t bad = 0;
        inv_result result = inv_store_numbers(b->store, kind, no_seller, names, some, true,
                                              out + done, &b->lsn, &bad);
        if (result != INV_OK) die("names", inv_result_name(result));
        done += some;
    }
}

static void bench_fill(bench *b) {
    const bench_flags *flags = b->flags;
    uint32_t numbers[INV_LOCATION_COUNT_MAX > 1024 ? 1024 : INV_LOCATION_COUNT_MAX];
    bench_names(b, INV_NAME_SKU, 'S', flags->skus, b->skus);
    bench_names(b, INV_NAME_LOCATION, 'L', flags->locations, numbers);
    for (uint32_t i = 0; i < flags->locations; i++) b->locations[i] = (uint16_t)numbers[i];
    inv_batch batch = {.kind = INV_CMD_RECEIVE,
                       .skus = b->batch_skus,
                       .locations = b->batch_locations,
                       .qtys = b->batch_qtys};
    for (uint32_t i = 0; i < BATCH_COUNT_MAX; i++) b->batch_qtys[i] = ON_HAND;
    for (uint32_t i = 0; i < flags->skus; i++) {
        for (uint32_t j = 0; j < flags->locations; j++) {
            b->batch_skus[batch.count] = b->skus[i];
            b->batch_locations[batch.count++] = b->locations[j];
            bool last = i + 1 == flags->skus && j + 1 == flags->locations;
            if (batch.count < BATCH_COUNT_MAX && !last) continue;
            bench_execute(b, &batch);
            batch.count = 0;
        }
    }
    for (uint32_t i = 0; i < BATCH_COUNT_MAX; i++) b->batch_qtys[i] = 1;
}

/* ---- the work -------------------------------------------------------------------------------- */

static void bench_reserve_batch(bench *b, uint32_t count, bool may_expire) {
    for (uint32_t i = 0; i < count; i++) {
        uint64_t n = b->made++;
        bench_id(n, b->ids[i]);
        b->batch_skus[i] = b->skus[bench_below(b, b->flags->skus)];
        b->batch_locations[i] = b->locations[bench_below(b, b->flags->locations)];
        b->batch_ttls_ms[i] = TTL_LONG_MS;
        if (may_expire && bench_expires(n))
            b->batch_ttls_ms[i] = 1 + bench_below(b, TTL_SHORT_MS);
    }
    inv_batch batch = {.kind = INV_CMD_RESERVE,
                       .count = count,
                       .skus = b->batch_skus,
                       .locations = b->batch_locations,
                       .qtys = b->batch_qtys,
                       .ids = (const uint8_t *)b->ids,
                       .ttls_ms = b->batch_ttls_ms};
    uint64_t start_ns = now_ns(), start_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    bench_execute(b, &batch);
    b->reserve_cpu_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_cpu_ns;
    b->reserve_ns += now_ns() - start_ns;
}

/* Ends the oldest `count` reservations, but for those that expire by themselves. */
static void bench_end_batch(bench *b, uint32_t count, bool may_expire) {
    inv_batch release = {.kind = INV_CMD_RELEASE, .ids = (const uint8_t *)b->release_ids};
    inv_batch commit = {.kind = INV_CMD_COMMIT, .ids = (const uint8_t *)b->commit_ids};
    for (uint32_t i = 0; i < count; i++) {
        uint64_t n = b->ended++;
        if (may_expire && bench_expires(n)) continue;
        if (bench_fate(n) >= 6)
            bench_id(n, b->commit_ids[commit.count++]);
        else
            bench_id(n, b->release_ids[release.count++]);
    }
    bench_execute(b, &release);
    bench_execute(b, &commit);
}

/* With threads of its own the store expires by itself. */
static void bench_expire(bench *b) {
    bool more = !b->threaded;
    while (more)
        if (inv_store_advance(b->store, 4096, &more) != INV_OK) die("advance", "failed");
}

static void bench_settle(bench *b) {
    if (!b->threaded) return;
    inv_result result = INV_BUSY;
    while (result == INV_BUSY) result = inv_store_wait(b->store, b->lsn, 1000);
    if (result != INV_OK) die("wait", inv_result_name(result));
}

/* Makes ended ids up to what is kept, then live ones: from there on memory is used again. */
static uint64_t bench_warm_up(bench *b) {
    const bench_flags *flags = b->flags;
    uint32_t batch = flags->batch;
    uint64_t live = flags->reservations + flags->reservations / 4; /* a fifth of them expires */
    for (uint64_t i = 0; i < flags->ended; i += batch) {
        bench_reserve_batch(b, batch, true);
        bench_end_batch(b, batch, true);
        if (i / batch % 16 == 0) bench_expire(b);
    }
    while (b->made - b->ended < live) {
        bench_reserve_batch(b, batch, true);
        bench_expire(b);
    }
    bench_settle(b);
    return live;
}

static uint64_t resident_bytes(void) {
    unsigned long long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL) return 0;
    if (fscanf(file, "%llu %llu", &pages, &resident) != 2) resident = 0;
    fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Processor time of all threads so far: on a shared machine it tells waiting from working. */
static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void print_row(uint32_t row, const char *what, double figure, const char *unit,
                      const char *durability, double must, double aim, uint64_t commands,
                      double seconds, const char *more) {
    printf("{\"row\": %u, \"what\": \"%s\", \"figure\": %.1f, \"unit\": \"%s\", "
           "\"durability\": \"%s\", \"must\": %.0f, \"aim\": %.0f, \"commands\": %" PRIu64
           ", \"seconds\": %.3f%s}\n",
           row, what, figure, unit, durability, must, aim, commands, seconds, more);
    fflush(stdout);
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
    uint64_t made = b->made, start_ns = now_ns(), deadline_ns, rounds = 0;
    deadline_ns = start_ns + (uint64_t)(flags->seconds * 1e9);
    while (now_ns() < deadline_ns) {
        bench_reserve_batch(b, flags->batch, true);
        bench_end_batch(b, flags->batch, true);
        if (rounds++ % 16 == 0) bench_expire(b);
    }
    bench_settle(b); /* only what is durable counts */
    double seconds = (double)(now_ns() - start_ns) / 1e9;
    cpu = cpu_seconds() - cpu;
    made = b->made - made;
    inv_store_metrics(b->store, &after);
    char more[512];
    snprintf(more, sizeof more,
             ", \"skus\": %u, \"locations\": %u, \"live\": %" PRIu64 ", \"ended_ids_max\": %" PRIu64
             ", \"batch\": %u, \"reserves\": %" PRIu64 ", \"expired\": %" PRIu64
             ", \"command_rate\": %.0f, \"reserve_call_rate\": %.0f, \"reserve_cpu_rate\": %.0f, \"log_bytes\": %" PRIu64
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

static void make_dir(const bench_flags *flags) {
    const char *base = flags->dir[0] != 0 ? flags->dir : getenv("TMPDIR");
    snprintf(work_dir, PATH_BYTES, "%.480s/bench_core.XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(work_dir) == NULL) die(work_dir, "cannot be created");
}

static void read_flags(int argc, char **argv, bench_flags *out) {
    bool any_row = false;
    memset(out, 0, sizeof *out);
    out->skus = 10000000;
    out->locations = 10;
    out->reservations = 10000000;
    out->ended = 4000000;
    out->seconds = 60;
    out->batch = 1024;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--smoke") == 0) {
            out->smoke = true;
            out->skus = 1000;
            out->locations = 3;
            out->reservations = 20000;
            out->ended = 10000;
            out->seconds = 0.3;
            continue;
        }
        if (strcmp(argv[i], "--skus") == 0) out->skus = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--locations") == 0)
            out->locations = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--reservations") == 0)
            out->reservations = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--ended") == 0) out->ended = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--seconds") == 0) out->seconds = strtod(value, NULL);
        else if (strcmp(argv[i], "--batch") == 0) out->batch = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--dir") == 0) snprintf(out->dir, PATH_BYTES, "%s", value);
        else if (strcmp(argv[i], "--row") == 0) {
            out->rows[strtoul(value, NULL, 10) % 32] = true;
            any_row = true;
        } else die(argv[i], "unknown flag");
        i++;
    }
    if (!any_row) out->rows[1] = out->rows[2] = out->rows[12] = out->rows[14] = true;
    if (out->skus == 0 || out->locations == 0 || out->locations > 1024 || out->batch == 0 ||
        out->batch > BATCH_COUNT_MAX || out->ended == 0)
        die("flags", "out of range");
}

int main(int argc, char **argv) {
    static bench_flags flags;
    read_flags(argc, argv, &flags);
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
