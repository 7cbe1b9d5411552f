/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_common.h: what the C benches share: a store filled with generated stock, a load of reserves
 * and ends over it, flags, and the JSON line of a figure (its fields are in bench/README.md).
 *
 * A `bench` is one load: a random sequence, an id space and the batches it sends. bench_create
 * makes the load that owns environment and store; bench_join makes another one over the same store,
 * with ids of its own, so that two loads can take turns or run on two threads. A load belongs to
 * one thread at a time.
 *
 * Everything is static inline: each bench is one program from one file.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

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
#define NAME_BATCH_COUNT 256u
#define ON_HAND 2000000000 /* never runs out: commits take it for good */
#define TTL_LONG_MS (24ull * 3600 * 1000)
#define TTL_SHORT_MS 4000u
#define PATH_BYTES 512u
#define ROWS_MAX 32u
#define SKUS_MAX 1000000000u
#define LOCATIONS_MAX 1024u

typedef struct bench_flags {
    uint32_t skus, locations;
    uint64_t reservations; /* live ones */
    uint64_t ended;        /* ended ids kept, and made before the clock starts */
    double seconds;        /* of the timed run, or of each phase of it */
    uint32_t batch;        /* commands a call */
    uint32_t rate;         /* requests a second offered, open loop */
    bool rows[ROWS_MAX];
    char dir[PATH_BYTES];
} bench_flags;

typedef struct bench {
    const bench_flags *flags;
    inv_env *env;
    inv_store *store;
    bool owner;         /* of environment, store and numbers */
    bool threaded;      /* flusher, timekeeper and housekeeper on threads of their own */
    pthread_t loops[3]; /* the owner's, when threaded */
    uint32_t *skus;     /* numbers */
    uint16_t *locations;
    uint64_t random;
    uint64_t made;  /* reservations so far: number n has the id of n */
    uint64_t ended; /* all below have been ended, or left to expire */
    uint64_t lsn;   /* observed by the last reply */
    uint64_t commands;
    uint64_t reserve_ns;     /* inside reserve calls, by the clock on the wall */
    uint64_t reserve_cpu_ns; /* ... by this thread's processor time */
    uint32_t batch_skus[BATCH_COUNT_MAX];
    uint16_t batch_locations[BATCH_COUNT_MAX];
    int64_t batch_qtys[BATCH_COUNT_MAX];
    uint32_t batch_ttls_ms[BATCH_COUNT_MAX];
    char ids[BATCH_COUNT_MAX][16];
    char release_ids[BATCH_COUNT_MAX][16], commit_ids[BATCH_COUNT_MAX][16];
    uint8_t codes[BATCH_COUNT_MAX];
} bench;

/* The batch of a load as single commands: for benches that look at whole answers. */
typedef struct bench_commands {
    inv_command reserves[BATCH_COUNT_MAX];
    inv_line lines[BATCH_COUNT_MAX];
    inv_reply replies[BATCH_COUNT_MAX];
    inv_reply_line shown[BATCH_COUNT_MAX]; /* one line of each answer */
} bench_commands;

/* What stands on every line. must and aim are limits of figure; 0: it has none. */
typedef struct bench_line {
    uint32_t row;
    const char *variant; /* tells lines of one row apart; "" when there is one */
    const char *what;
    double figure;
    const char *unit;
    const char *durability;
    double must, aim;
    uint64_t commands;
    double seconds;
} bench_line;

/* ---- the process ----------------------------------------------------------------------------- */

static const char *bench_program = "bench";
/* The directory of the store under way, removed when a run fails too. */
static char work_dir[PATH_BYTES];

static inline void drop_dir(void) {
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

static inline _Noreturn void die(const char *what, const char *why) {
    fprintf(stderr, "%s: %s: %s\n", bench_program, what, why);
    drop_dir();
    exit(1);
}

static inline void make_dir(const bench_flags *flags) {
    const char *base = flags->dir[0] != 0 ? flags->dir : getenv("TMPDIR");
    snprintf(work_dir, PATH_BYTES, "%.480s/%.20s.XXXXXX", base != NULL ? base : "/tmp",
             bench_program);
    if (mkdtemp(work_dir) == NULL) die(work_dir, "cannot be created");
}

static inline uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static inline uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static inline uint64_t resident_bytes(void) {
    unsigned long long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL) return 0;
    if (fscanf(file, "%llu %llu", &pages, &resident) != 2) resident = 0;
    fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Processor time of all threads so far: on a shared machine it tells waiting from working. */
static inline double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static inline int compare_doubles(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static inline double median_of(double *figures, uint32_t count) {
    qsort(figures, count, sizeof *figures, compare_doubles);
    return count % 2 == 1 ? figures[count / 2]
                          : (figures[count / 2 - 1] + figures[count / 2]) / 2;
}

/* `more` is further fields, each with a comma before it, or "". */
static inline const char *limit_text(double limit, char out[static 32]) {
    if (limit == 0) return "null";
    snprintf(out, 32, "%g", limit);
    return out;
}

static inline void print_line(const bench_line *line, const char *more) {
    char must[32], aim[32];
    printf("{\"row\": %u, \"variant\": \"%s\", \"what\": \"%s\", \"figure\": %.3f, "
           "\"unit\": \"%s\", \"durability\": \"%s\", \"must\": %s, \"aim\": %s, "
           "\"commands\": %" PRIu64 ", \"seconds\": %.3f%s}\n",
           line->row, line->variant, line->what, line->figure, line->unit, line->durability,
           limit_text(line->must, must), limit_text(line->aim, aim), line->commands, line->seconds,
           more);
    fflush(stdout);
}

/* ---- flags ----------------------------------------------------------------------------------- */

static inline bool bench_number_flag(bench_flags *out, const char *name, const char *value) {
    if (strcmp(name, "--skus") == 0) out->skus = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--locations") == 0)
        out->locations = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--reservations") == 0) out->reservations = strtoull(value, NULL, 10);
    else if (strcmp(name, "--ended") == 0) out->ended = strtoull(value, NULL, 10);
    else if (strcmp(name, "--seconds") == 0) out->seconds = strtod(value, NULL);
    else if (strcmp(name, "--batch") == 0) out->batch = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--rate") == 0) out->rate = (uint32_t)strtoul(value, NULL, 10);
    else return false;
    return true;
}

/* Reads the command line over the full sizes in `out`; --smoke puts the sizes of `smoke` there.
 * Without --row all rows of `out` are run. */
static inline void bench_read_flags(int argc, char **argv, const bench_flags *smoke,
                                    bench_flags *out) {
    bool rows[ROWS_MAX] = {false}, any_row = false;
    const char *slash = strrchr(argv[0], '/');
    bench_program = slash != NULL ? slash + 1 : argv[0];
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--smoke") == 0) {
            bench_flags tiny = *smoke;
            memcpy(tiny.rows, out->rows, sizeof tiny.rows);
            memcpy(tiny.dir, out->dir, sizeof tiny.dir);
            *out = tiny;
            continue;
        }
        const char *name = argv[i], *value = i + 1 < argc ? argv[++i] : NULL;
        if (value == NULL) die(name, "no such flag, or its value is missing");
        if (strcmp(name, "--dir") == 0) snprintf(out->dir, PATH_BYTES, "%s", value);
        else if (strcmp(name, "--row") == 0) {
            unsigned long row = strtoul(value, NULL, 10);
            if (row >= ROWS_MAX || !out->rows[row]) die(value, "not a row of this bench");
            rows[row] = any_row = true;
        } else if (!bench_number_flag(out, name, value)) die(name, "unknown flag");
    }
    if (any_row) memcpy(out->rows, rows, sizeof rows);
    if (out->skus == 0 || out->skus > SKUS_MAX || out->locations == 0 ||
        out->locations > LOCATIONS_MAX || out->batch == 0 || out->batch > BATCH_COUNT_MAX ||
        out->ended == 0 || out->seconds <= 0)
        die("flags", "out of range");
}

/* ---- random numbers and ids ------------------------------------------------------------------ */

static inline uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

static inline uint64_t bench_random(bench *b) { return mix(b->random += 0x9E3779B97F4A7C15ull); }

static inline uint32_t bench_below(bench *b, uint32_t below) {
    return (uint32_t)(((bench_random(b) >> 32) * below) >> 32);
}

/* Id of reservation n: random to look at, a version 4 UUID, and found again without a list. */
static inline void bench_id(uint64_t n, char out[16]) {
    uint64_t words[2] = {mix(n * 2 + 1), mix(n ^ 0xD1342543DE82EF95ull)};
    memcpy(out, words, 16);
    out[6] = (char)((out[6] & 0x0F) | 0x40);
    out[8] = (char)((out[8] & 0x3F) | 0x80);
}

/* 6 of 10 are released, 2 committed, 2 expire. */
static inline uint32_t bench_fate(uint64_t n) { return (uint32_t)(mix(n + 99) % 10); }
static inline bool bench_expires(uint64_t n) { return bench_fate(n) >= 8; }

/* ---- a store --------------------------------------------------------------------------------- */

static inline void *run_flusher(void *store) {
    inv_store_run_flusher(store);
    return NULL;
}
static inline void *run_timekeeper(void *store) {
    inv_store_run_timekeeper(store);
    return NULL;
}
static inline void *run_housekeeper(void *store) {
    inv_store_run_housekeeper(store);
    return NULL;
}

static inline bench *bench_create(const bench_flags *flags) {
    bench *b = calloc(1, sizeof *b);
    if (b == NULL) die("memory", "none");
    b->flags = flags;
    b->random = 20240229;
    b->owner = true;
    b->env = inv_env_create();
    b->skus = calloc(flags->skus, sizeof *b->skus);
    b->locations = calloc(flags->locations, sizeof *b->locations);
    if (b->env == NULL || b->skus == NULL || b->locations == NULL) die("memory", "none");
    return b;
}

static inline void bench_one_unit_each(bench *b) {
    for (uint32_t i = 0; i < BATCH_COUNT_MAX; i++) b->batch_qtys[i] = 1;
}

/* Another load over the owner's store: load_number (1, 2, ...) keeps its ids apart; it uses
 * flags->skus SKUs of the owner from first_sku on. */
static inline bench *bench_join(const bench *owner, const bench_flags *flags, uint64_t load_number,
                                uint32_t first_sku) {
    bench *b = calloc(1, sizeof *b);
    if (b == NULL) die("memory", "none");
    b->flags = flags;
    b->random = 20240229 + load_number;
    b->env = owner->env;
    b->store = owner->store;
    b->threaded = owner->threaded;
    b->skus = owner->skus + first_sku;
    b->locations = owner->locations;
    b->made = b->ended = load_number << 40;
    bench_one_unit_each(b);
    return b;
}

static inline void bench_open(bench *b, inv_durability durability, const char *dir) {
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

static inline void bench_close(bench *b) {
    inv_error error;
    memset(&error, 0, sizeof error);
    inv_store_stop(b->store);
    for (uint32_t i = 0; b->threaded && i < 3; i++) pthread_join(b->loops[i], NULL);
    if (inv_store_close(b->store, &error) != INV_OK) die("close", error.message);
    inv_store_destroy(b->store);
    b->store = NULL;
}

/* A joined load goes before its owner. */
static inline void bench_destroy(bench *b) {
    if (b->owner) {
        if (b->store != NULL) bench_close(b);
        inv_env_destroy(b->env);
        free(b->skus);
        free(b->locations);
    }
    free(b);
}

/* ---- filling --------------------------------------------------------------------------------- */

static inline void bench_execute(bench *b, const inv_batch *batch, inv_result expected) {
    inv_error error;
    memset(&error, 0, sizeof error);
    inv_result result = inv_store_execute_batch(b->store, batch, b->codes, &b->lsn, &error);
    if (result != INV_OK) die("execute", inv_result_name(result));
    for (size_t i = 0; i < batch->count; i++)
        if (b->codes[i] != expected) die("a row's code", inv_result_name(b->codes[i]));
    b->commands += batch->count;
}

static inline void bench_names(bench *b, inv_name_kind kind, char letter, uint32_t count,
                               uint32_t *out) {
    char bytes[NAME_BATCH_COUNT][16];
    inv_text names[NAME_BATCH_COUNT], no_seller = {NULL, 0};
    for (uint32_t done = 0; done < count;) {
        uint32_t some = count - done < NAME_BATCH_COUNT ? count - done : NAME_BATCH_COUNT;
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

static inline void bench_fill(bench *b) {
    const bench_flags *flags = b->flags;
    uint32_t numbers[LOCATIONS_MAX];
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
            bench_execute(b, &batch, INV_OK);
            batch.count = 0;
        }
    }
    bench_one_unit_each(b);
}

/* ---- the work -------------------------------------------------------------------------------- */

/* The next reserve of the batch: a new id, a random SKU and location. */
static inline void bench_next_reserve(bench *b, uint32_t i) {
    bench_id(b->made++, b->ids[i]);
    b->batch_skus[i] = b->skus[bench_below(b, b->flags->skus)];
    b->batch_locations[i] = b->locations[bench_below(b, b->flags->locations)];
    b->batch_ttls_ms[i] = TTL_LONG_MS;
}

/* The reserves of the batch in one call; every row must get the expected code. */
static inline void bench_send_reserves(bench *b, uint32_t count, inv_result expected) {
    inv_batch batch = {.kind = INV_CMD_RESERVE,
                       .count = count,
                       .skus = b->batch_skus,
                       .locations = b->batch_locations,
                       .qtys = b->batch_qtys,
                       .ids = (const uint8_t *)b->ids,
                       .ttls_ms = b->batch_ttls_ms};
    uint64_t start_ns = now_ns(), start_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    bench_execute(b, &batch, expected);
    b->reserve_cpu_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_cpu_ns;
    b->reserve_ns += now_ns() - start_ns;
}

static inline void bench_reserve_batch(bench *b, uint32_t count, bool may_expire) {
    for (uint32_t i = 0; i < count; i++) {
        uint64_t n = b->made;
        bench_next_reserve(b, i);
        if (may_expire && bench_expires(n))
            b->batch_ttls_ms[i] = 1 + bench_below(b, TTL_SHORT_MS);
    }
    bench_send_reserves(b, count, INV_OK);
}

/* The reserves of the batch as single commands, in one call of inv_store_execute. */
static inline void bench_send_commands(bench *b, bench_commands *c, uint32_t count,
                                       inv_result expected) {
    for (uint32_t i = 0; i < count; i++) {
        c->lines[i] = (inv_line){.sku_number = b->batch_skus[i],
                                 .location_number = b->batch_locations[i],
                                 .qty = b->batch_qtys[i]};
        c->reserves[i] = (inv_command){.kind = INV_CMD_RESERVE,
                                       .lines = &c->lines[i],
                                       .line_count = 1,
                                       .id = {b->ids[i], sizeof b->ids[i]},
                                       .id_is_uuid = true,
                                       .ttl_ms = b->batch_ttls_ms[i]};
        c->replies[i].lines = &c->shown[i];
        c->replies[i].lines_max = 1;
    }
    inv_result result = inv_store_execute(b->store, c->reserves, count, c->replies);
    if (result != INV_OK) die("execute", inv_result_name(result));
    for (uint32_t i = 0; i < count; i++)
        if (c->replies[i].code != (int)expected)
            die("an answer", inv_result_name(c->replies[i].code));
    b->lsn = c->replies[count - 1].observed_lsn;
    b->commands += count;
}

/* Ends the oldest `count` reservations, but for those that expire by themselves. */
static inline void bench_end_batch(bench *b, uint32_t count, bool may_expire) {
    inv_batch release = {.kind = INV_CMD_RELEASE, .ids = (const uint8_t *)b->release_ids};
    inv_batch commit = {.kind = INV_CMD_COMMIT, .ids = (const uint8_t *)b->commit_ids};
    for (uint32_t i = 0; i < count; i++) {
        uint64_t n = b->ended++;
        if (may_expire && bench_expires(n)) continue;
        if (bench_fate(n) >= 6) bench_id(n, b->commit_ids[commit.count++]);
        else bench_id(n, b->release_ids[release.count++]);
    }
    inv_batch ship = commit;
    ship.kind = INV_CMD_SHIP; /* or the orders would pile up and take new memory */
    bench_execute(b, &release, INV_OK);
    bench_execute(b, &commit, INV_OK);
    bench_execute(b, &ship, INV_OK);
}

/* With threads of its own the store expires by itself. */
static inline void bench_expire(bench *b) {
    bool more = !b->threaded;
    while (more)
        if (inv_store_advance(b->store, 4096, &more) != INV_OK) die("advance", "failed");
}

static inline void bench_settle(bench *b) {
    if (!b->threaded) return;
    inv_result result = INV_BUSY;
    while (result == INV_BUSY) result = inv_store_wait(b->store, b->lsn, 1000);
    if (result != INV_OK) die("wait", inv_result_name(result));
}

/* Makes ended ids up to what is kept, then live ones: from there on memory is used again. */
static inline uint64_t bench_warm_up(bench *b) {
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

/* The steady state of rows 1 and 2: each batch of reserves with as many ends of old ones. */
static inline void bench_steady(bench *b, double seconds) {
    uint64_t deadline_ns = now_ns() + (uint64_t)(seconds * 1e9);
    for (uint64_t rounds = 0; now_ns() < deadline_ns; rounds++) {
        bench_reserve_batch(b, b->flags->batch, true);
        bench_end_batch(b, b->flags->batch, true);
        if (rounds % 16 == 0) bench_expire(b);
    }
}

#endif /* BENCH_COMMON_H */
