/* SPDX-License-Identifier: Apache-2.0
 *
 * campaign_crash.c: campaign 3. A scenario is a small store driven by one seed; at every storage
 * call (before and after), at every yield point (where the library is built with them) and after
 * every step the disk is cloned: a crash POINT. Each point is turned into crash STATES: mixtures of
 * old and new versions of the unsynced sectors, prefixes of the unsynced name changes, garbage in
 * sectors that never held anything durable. Each state is recovered and must equal the history up
 * to some lsn that covers every acknowledgement given before the point.
 *
 * Points are judged after the step they were taken in, when all its answers are known; what counts
 * is the acknowledgement bound at the moment of the point. Then the scenario goes on from one of
 * its own crash states (a new generation), so that logs with several epochs and re-logged tails are
 * cut as well.
 *
 * TWO APPENDERS. At a yield point of one appender a second one (lockstep.h) runs a whole command on
 * other stripes, and sometimes a group commit: crash states then lack the older record or hold half
 * of it while the younger one is whole.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/invcore/log/inv_wal_format.h"
#include "campaign.h"
#include "lockstep.h"
#include "seen.h"
#include "world.h"
#include "../../../src/invcore/store/inv_snapshot.h"

#define POINT_COUNT_MAX 512u
#define MIXTURE_SECTOR_MAX 256u
#define EXHAUSTIVE_SECTORS_MAX 12u
#define STATES_PER_POINT 16u
#define GENERATION_COUNT 3u
#define STEP_COUNT 60u

typedef struct crash_point {
    inv_memory *disk;
    uint64_t acked_lsn;
    uint64_t exact_lsn; /* the recovery the point lies in ended here; UINT64_MAX: it lies in none */
    const char *what;
} crash_point;

typedef struct crash {
    world w;
    const campaign_options *options;
    campaign_report *report;
    seen states;
    lockstep helper;
    uint64_t random; /* of the choice of mixtures: apart from the scenario's own */
    double deadline;
    crash_point points[POINT_COUNT_MAX];
    uint32_t point_count;
    bool in_hook, appending, flushing;
    bool full; /* the disk is full: commands go one by one, and may be refused */
    uint32_t busy_skus; /* SKUs on the stripes of the call under way */
    bool busy_known;    /* it locks no others: what is found by an id may be homed anywhere */
    world_outcome second[WORLD_CALL_COUNT_MAX]; /* of the second appender in this step */
    uint32_t second_count;
    bool second_busy;
} crash;

/* ---- points ---------------------------------------------------------------------------------- */
static void take_point(crash *c, inv_memory *disk, const char *what) {
    if (c->point_count == POINT_COUNT_MAX || !world_ok(&c->w)) return;
    crash_point *point = &c->points[c->point_count];
    point->disk = inv_memory_clone(disk);
    if (point->disk == NULL) return;
    inv_memory_set_hook(point->disk, NULL, NULL);
    point->acked_lsn = c->w.acked_lsn;
    point->exact_lsn = UINT64_MAX;
    point->what = what;
    c->point_count++;
}

static inv_result on_storage(void *argument, uint64_t call, const char *what, const char *name,
                             bool after) {
    crash *c = argument;
    (void)call;
    (void)name;
    if (after && strcmp(what, "rename") == 0) c->report->rotations++;
    take_point(c, c->w.memory, what);
    return INV_OK;
}

/* ---- mixtures -------------------------------------------------------------------------------- */
typedef struct mixture {
    uint8_t keep[MIXTURE_SECTOR_MAX]; /* 0 durable, 1 volatile, 2 garbage */
    uint64_t names_kept;
} mixture;

static int keep_sector(void *argument, uint64_t i) {
    const mixture *mix = argument;
    return mix->keep[i % MIXTURE_SECTOR_MAX];
}

static void mixture_random(crash *c, mixture *mix, uint64_t sectors, uint64_t names) {
    uint32_t density = world_below(&c->random, 4); /* of 4: how many are kept */
    uint32_t hole = world_below(&c->random, (uint32_t)sectors + 1);
    bool one_hole = world_chance(&c->random, 4);
    for (uint64_t i = 0; i < sectors && i < MIXTURE_SECTOR_MAX; i++) {
        mix->keep[i] = one_hole ? i != hole : world_below(&c->random, 4) <= density;
        if (density == 0 && !one_hole) mix->keep[i] = world_chance(&c->random, 4);
    }
    mix->names_kept = world_below(&c->random, (uint32_t)names + 1);
}

typedef struct name_list {
    char names[64][INV_FILE_NAME_MAX + 1];
    uint32_t count;
} name_list;

static bool list_name(void *argument, const char *name, uint64_t size) {
    name_list *list = argument;
    (void)size;
    if (list->count < 64)
        snprintf(list->names[list->count++], sizeof list->names[0], "%s", name);
    return true;
}

static int name_order(const void *a, const void *b) { return strcmp(a, b); }

static bool is_zero(const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != 0) return false;
    return true;
}

/* Where the records of a segment's durable image end. A record may end in zero bytes, so a sector
 * of zeros can still be part of one. Headers are believed: a torn one makes the answer larger. */
static uint64_t records_end(const uint8_t *bytes, uint64_t size) {
    uint64_t at = INV_WAL_HEADER_BYTES;
    if (bytes == NULL || size < INV_WAL_HEADER_BYTES) return 0;
    uint64_t base_lsn = inv_load_u64(bytes + 40);
    while (at + INV_WAL_RECORD_HEADER_BYTES <= size && bytes[at] == INV_WAL_MARKER &&
           inv_load_u64(bytes + at + 8) == base_lsn + (at - INV_WAL_HEADER_BYTES))
        at += inv_wal_record_bytes(inv_load_u32(bytes + at + 4));
    return at;
}

/* Which unsynced sectors may hold garbage after a cut: those whose durable version says nothing
 * (the fault model promises that a device leaves old bytes alone). False when the order of sectors
 * is not certain. */
static bool garbage_allowed(crash *c, const inv_memory *disk, uint64_t sectors, uint8_t *allowed) {
    static const mixture none = {{0}, UINT64_MAX};
    mixture all = {{0}, UINT64_MAX};
    memset(all.keep, 1, sizeof all.keep);
    inv_memory *old = inv_memory_clone(disk), *new = inv_memory_clone(disk);
    if (old == NULL || new == NULL) abort();
    mixture old_mix = none;
    inv_memory_cut(old, keep_sector, &old_mix, UINT64_MAX);
    inv_memory_cut(new, keep_sector, &all, UINT64_MAX);
    name_list list = {.count = 0};
    inv_env *env = world_env(&c->w, new, 1);
    inv_error error = {0};
    bool ok = env->storage.list(env->storage.context, list_name, &list, &error) == INV_OK;
    free(env->entropy.context);
    inv_env_destroy(env);
    qsort(list.names, list.count, sizeof list.names[0], name_order);
    uint64_t i = 0;
    for (uint32_t k = 0; ok && k < list.count; k++) {
        uint64_t old_size = 0, new_size = 0;
        const uint8_t *before = inv_memory_file(old, list.names[k], &old_size);
        const uint8_t *after = inv_memory_file(new, list.names[k], &new_size);
        bool hint = strcmp(list.names[k], "HINT") == 0;
        bool segment = strncmp(list.names[k], "wal-", 4) == 0;
        uint64_t taken = segment ? records_end(before, old_size) : 0;
        for (uint64_t at = 0; after != NULL && at < new_size; at += INV_SECTOR_BYTES) {
            size_t size = (size_t)inv_min_u64(INV_SECTOR_BYTES, new_size - at);
            bool had = before != NULL && at + size <= old_size;
            if (had && memcmp(before + at, after + at, size) == 0) continue;
            if (i < MIXTURE_SECTOR_MAX)
                allowed[i] = hint || !had || (at >= taken && is_zero(before + at, size));
            i++;
        }
    }
    inv_memory_destroy(old);
    inv_memory_destroy(new);
    return ok && i == sectors;
}

/* ---- a full disk ----------------------------------------------------------------------------- */
static bool add_size(void *argument, const char *name, uint64_t size) {
    (void)name;
    *(uint64_t *)argument += size;
    return true;
}

/* No segment fits any more, and sometimes (no snapshot either) nothing at all. */
static void fill_disk(crash *c) {
    world *w = &c->w;
    const inv_storage *storage = &w->env->storage;
    uint64_t bytes = 0;
    inv_error error = {0};
    if (storage->list(storage->context, add_size, &bytes, &error) != INV_OK) return;
    c->full = true;
    inv_memory_set_capacity(w->memory, bytes + 1 + world_below(&w->random, 16000));
}

static void free_disk(crash *c) {
    c->full = false;
    inv_memory_set_capacity(c->w.memory, 0);
}

/* A store with a reserve opens on a full disk; without one it may need room. */
static void recover_full(crash *c, inv_memory *disk, uint64_t exact_lsn, world_verdict *verdict,
                         world_recovered *recovered) {
    bool reserve = world_file_count(&c->w, disk, "reserve-") > 0;
    world_recover(&c->w, disk, false, exact_lsn, verdict, recovered);
    if (verdict->result != INV_DISK_FULL || reserve) return;
    inv_memory_set_capacity(disk, 0);
    world_recover(&c->w, disk, false, exact_lsn, verdict, recovered);
}

/* ---- judging one state ----------------------------------------------------------------------- */
static bool judge_disk(crash *c, inv_memory *disk, const crash_point *point, uint32_t depth);

static const char *verdict_problem(const crash *c, const world_verdict *verdict,
                                   const crash_point *point) {
    static _Thread_local char text[900];
    if (verdict->problem[0] != '\0') return verdict->problem;
    if (!verdict->whole_groups) return "half of a call's record was recovered";
    if (verdict->recovery.snapshots_damaged != 0)
        return "a snapshot had its name before it was whole";
    c->report->from_snapshot += verdict->recovery.snapshot_lsn != 0;
    c->report->from_fuzzy +=
        verdict->recovery.snapshot_end_lsn > verdict->recovery.snapshot_lsn;
    if (verdict->recovery.lsn_end < point->acked_lsn) {
        snprintf(text, sizeof text,
                 "acknowledged up to lsn %" PRIu64 ", recovered up to %" PRIu64 " only (%s)",
                 point->acked_lsn, verdict->recovery.lsn_end, "an acknowledged command is lost");
        return text;
    }
    if (point->exact_lsn != UINT64_MAX && world_history_at(&c->w, verdict->lsn_end) !=
                                     world_history_at(&c->w, point->exact_lsn)) {
        snprintf(text, sizeof text,
                 "a recovery cut short and repeated gives lsn %" PRIu64 ", undisturbed %" PRIu64,
                 verdict->lsn_end, point->exact_lsn);
        return text;
    }
    return NULL;
}

/* The same request again must be a replay that changes nothing, whatever crash came in between. */
static bool retry_after_recovery(crash *c, inv_store *store, const world_verdict *verdict) {
    world *w = &c->w;
    if (w->accepted_count == 0) return true;
    const world_accepted *earlier = &w->accepted[world_below(&c->random, w->accepted_count)];
    if (earlier->lsn > verdict->lsn_end) return true;
    if (earlier->command.op == ORACLE_NONE && earlier->command.kind != INV_CMD_RESERVE) return true;
    oracle_command command = earlier->command;
    command.retry = true;
    world_outcome outcome;
    int code = INV_OK;
    const oracle_state *state = &w->changes[verdict->index].state;
    uint32_t judged = world_call(store, &command, 1, &outcome, &code);
    bool waits = code == INV_BUSY || code == INV_DISK_FULL; /* for want of a segment */
    bool more = waits;
    for (uint32_t i = 0; more && i < 64; i++)
        if (inv_store_flush(store) != INV_OK || inv_store_prepare(store, &more) != INV_OK)
            return world_problem(w, "flush or prepare after recovery");
    if (waits) judged = world_call(store, &command, 1, &outcome, &code);
    if (judged != 1)
        return world_problem(w, "a retry after recovery is not judged: %s", inv_result_name(code));
    c->report->retries++;
    if (oracle_code_fits(state, &command, INV_REPLAYED, outcome.reply.code)) return true;
    char text[160];
    oracle_describe(&command, text, sizeof text);
    return world_problem(w, "%s after recovery to lsn %" PRIu64 " answers %s", text,
                         verdict->lsn_end, inv_result_name(outcome.reply.code));
}

/* Points inside a recovery: the hook of the disk that is being recovered fills this list. */
typedef struct inner_points {
    crash *c;
    inv_memory *disk;
    inv_memory *clones[48];
    uint32_t count;
} inner_points;

static inv_result on_inner_storage(void *argument, uint64_t call, const char *what,
                                   const char *name, bool after) {
    inner_points *inner = argument;
    (void)call;
    (void)what;
    (void)name;
    (void)after;
    if (inner->count < 48 && world_chance(&inner->c->random, 2)) {
        inv_memory *clone = inv_memory_clone(inner->disk);
        if (clone != NULL) {
            inv_memory_set_hook(clone, NULL, NULL);
            inner->clones[inner->count++] = clone;
        }
    }
    return INV_OK;
}

static bool judge_inner(crash *c, inner_points *inner, const crash_point *point,
                        uint64_t exact_lsn, uint32_t depth) {
    bool ok = true;
    for (uint32_t i = 0; i < inner->count; i++) {
        crash_point again = *point;
        again.what = "inside a recovery";
        again.exact_lsn = exact_lsn;
        uint64_t sectors = inv_memory_unsynced_sectors(inner->clones[i]);
        uint64_t names = inv_memory_unsynced_names(inner->clones[i]);
        uint64_t new_before = c->report->states;
        for (uint32_t k = 0; ok && k < 3; k++) {
            mixture mix = {{0}, k == 0 ? 0 : UINT64_MAX};
            if (k == 1) memset(mix.keep, 1, sizeof mix.keep);
            if (k == 2) mixture_random(c, &mix, sectors, names);
            inv_memory *disk = inv_memory_clone(inner->clones[i]);
            if (disk == NULL) abort();
            inv_memory_cut(disk, keep_sector, &mix, mix.names_kept);
            ok = judge_disk(c, disk, &again, depth + 1);
        }
        if (c->report->states > new_before) {
            c->report->points++;
            c->report->recovery_points++;
        }
        inv_memory_destroy(inner->clones[i]);
    }
    return ok;
}

/* Recovers a state not seen before; sometimes cuts the recovery itself, and again after it. */
static bool recover_new(crash *c, inv_memory *disk, uint64_t key, const crash_point *point,
                        uint32_t depth) {
    world_verdict verdict;
    world_recovered recovered;
    inner_points inner = {.c = c, .disk = disk};
    bool inspect = depth < 2 && world_chance(&c->random, depth == 0 ? 24 : 60);
    if (inspect) inv_memory_set_hook(disk, on_inner_storage, &inner);
    recover_full(c, disk, point->exact_lsn, &verdict, &recovered);
    c->report->from_reserve += verdict.result == INV_OK &&
                               inv_wal_disk_state(&recovered.store->wal) != INV_DISK_OK;
    inv_memory_set_hook(disk, NULL, NULL);
    inv_memory_set_capacity(disk, 0); /* what follows is about what is there */
    bool is_new = false; /* filed before the states within this recovery ask for it */
    seen_find(&c->states, key, &is_new)->lsn_end = verdict.recovery.lsn_end;
    const char *problem = verdict_problem(c, &verdict, point);
    bool ok = problem == NULL;
    if (!ok)
        world_problem(&c->w, "crash point '%s' (%" PRIu64 " steps in): %s", point->what,
                      c->w.commands, problem);
    if (ok && world_chance(&c->random, 8)) ok = retry_after_recovery(c, recovered.store, &verdict);
    world_recovered_drop(&recovered);
    if (inspect) {
        ok = judge_inner(c, &inner, point, verdict.lsn_end, depth) && ok;
        if (ok) { /* recovery promised that what it found is durable now: cut everything else */
            crash_point again = *point;
            again.what = "after a recovery";
            again.exact_lsn = verdict.lsn_end;
            inv_memory *copy = inv_memory_clone(disk);
            if (copy == NULL) abort();
            inv_memory_power_cut(copy, world_chance(&c->random, 2) ? 0 : world_random(&c->random));
            ok = judge_disk(c, copy, &again, depth + 1);
        }
    }
    return ok;
}

/* Takes the disk over. */
static bool judge_disk(crash *c, inv_memory *disk, const crash_point *point, uint32_t depth) {
    bool is_new = false, ok = true;
    uint64_t key = inv_memory_hash(disk) ^ (c->w.seed * 0x9E3779B97F4A7C15ull);
    uint64_t lsn_end = seen_find(&c->states, key, &is_new)->lsn_end;
    if (is_new) {
        c->report->states++;
        ok = recover_new(c, disk, key, point, depth);
    } else {
        c->report->states_repeated++;
        if (lsn_end < point->acked_lsn)
            ok = world_problem(&c->w,
                               "crash point '%s': acknowledged up to lsn %" PRIu64
                               ", but the disk still recovers up to %" PRIu64,
                               point->what, point->acked_lsn, lsn_end);
    }
    inv_memory_destroy(disk);
    return ok;
}

/* ---- all states of one point ----------------------------------------------------------------- */
static bool judge_mixture(crash *c, const crash_point *point, mixture *mix) {
    inv_memory *disk = inv_memory_clone(point->disk);
    if (disk == NULL) abort();
    inv_memory_cut(disk, keep_sector, mix, mix->names_kept);
    return judge_disk(c, disk, point, 0);
}

static bool judge_all_mixtures(crash *c, const crash_point *point, uint64_t sectors,
                               uint64_t names) {
    bool ok = true;
    for (uint64_t kept = 0; ok && kept <= names; kept++) {
        for (uint64_t bits = 0; ok && bits < 1ull << sectors; bits++) {
            mixture mix = {.names_kept = kept};
            for (uint64_t i = 0; i < sectors; i++) mix.keep[i] = bits >> i & 1;
            ok = judge_mixture(c, point, &mix);
        }
    }
    c->report->exhaustive_points++;
    return ok;
}

static bool judge_some_mixtures(crash *c, const crash_point *point, uint64_t sectors,
                                uint64_t names) {
    bool ok = true;
    for (uint32_t k = 0; ok && k < STATES_PER_POINT; k++) {
        mixture mix = {.names_kept = names};
        if (k >= 4) mixture_random(c, &mix, sectors, names);
        else memset(mix.keep, k & 1, sizeof mix.keep);
        if (k == 2 || k == 3) mix.names_kept = 0;
        ok = judge_mixture(c, point, &mix);
    }
    return ok;
}

static bool judge_garbage(crash *c, const crash_point *point, uint64_t sectors, uint64_t names) {
    uint8_t allowed[MIXTURE_SECTOR_MAX] = {0};
    if (sectors == 0 || sectors > MIXTURE_SECTOR_MAX) return true;
    if (!garbage_allowed(c, point->disk, sectors, allowed)) return true;
    bool ok = true;
    for (uint32_t k = 0; ok && k < 4; k++) {
        mixture mix = {.names_kept = names};
        mixture_random(c, &mix, sectors, names);
        uint32_t count = 0;
        for (uint64_t i = 0; i < sectors; i++) {
            if (!allowed[i] || !world_chance(&c->random, 3)) continue;
            mix.keep[i] = 2;
            count++;
        }
        if (count == 0) continue;
        uint64_t states = c->report->states;
        ok = judge_mixture(c, point, &mix);
        c->report->garbage_states += c->report->states - states;
    }
    return ok;
}

static bool judge_point(crash *c, const crash_point *point) {
    uint64_t sectors = inv_memory_unsynced_sectors(point->disk);
    uint64_t names = inv_memory_unsynced_names(point->disk);
    uint64_t states = c->report->states;
    c->report->unsynced_max = inv_max_u64(c->report->unsynced_max, sectors);
    uint64_t bound = c->options->full ? EXHAUSTIVE_SECTORS_MAX : 4;
    bool ok = sectors <= bound ? judge_all_mixtures(c, point, sectors, names)
                               : judge_some_mixtures(c, point, sectors, names);
    if (ok && world_chance(&c->random, 3)) ok = judge_garbage(c, point, sectors, names);
    if (c->report->states > states) c->report->points++;
    return ok;
}

static bool judge_points(crash *c) {
    bool ok = world_ok(&c->w);
    for (uint32_t i = 0; i < c->point_count; i++) {
        if (ok) ok = judge_point(c, &c->points[i]);
        inv_memory_destroy(c->points[i].disk);
    }
    c->point_count = 0;
    return ok;
}

/* ---- the second appender --------------------------------------------------------------------- */
typedef struct second_job {
    crash *c;
    oracle_command command;
    bool flush;
} second_job;

static void run_second(void *argument) {
    second_job *job = argument;
    crash *c = job->c;
    int code = INV_OK;
    world_outcome *outcome = &c->second[c->second_count];
    if (world_call(c->w.store, &job->command, 1, outcome, &code) == 1) {
        c->second_count++;
        c->report->overlapped++;
        world_pend(&c->w, outcome);
        outcome->pended = true;
    }
    take_point(c, c->w.memory, "second appender done");
    if (job->flush && inv_store_flush(c->w.store) != INV_OK)
        world_problem(&c->w, "flush beside an appender failed");
}

static void on_yield(void *context, int point) {
    static const char *const names[] = {"?",           "before tail", "before copy", "mid copy",
                                        "before idle", "before sync", "before publish",
                                        "in rotation"};
    crash *c = context;
    if (point <= 0 || point > INV_YIELD_IN_ROTATION) return; /* reads write nothing */
    take_point(c, c->w.memory, names[point]);
    if (c->in_hook) return;
    bool may_append = (c->appending && point <= INV_YIELD_BEFORE_IDLE) ||
                      (c->flushing && point == INV_YIELD_BEFORE_SYNC);
    if (!may_append || c->second_count == WORLD_CALL_COUNT_MAX) return;
    if (point == INV_YIELD_BEFORE_TAIL && !c->busy_known) return; /* stripes are locked here */
    if (!world_chance(&c->w.random, point == INV_YIELD_BEFORE_TAIL ? 6 : 3)) return;
    second_job job = {.c = c, .flush = c->appending && world_chance(&c->w.random, 2)};
    uint32_t free_skus = ~world_stripe_skus(&c->w, c->busy_skus) & ((1u << ORACLE_SKU_COUNT) - 1);
    if (!world_make_command(&c->w, free_skus, true, &job.command)) return;
    if (point == INV_YIELD_BEFORE_TAIL && job.command.hold != ORACLE_NONE) return;
    c->in_hook = true;
    lockstep_run(&c->helper, run_second, &job, names[point]);
    world_poll_acks(&c->w);
    take_point(c, c->w.memory, names[point]);
    c->in_hook = false;
}

/* ---- steps ----------------------------------------------------------------------------------- */
static void step_integrate(crash *c, const world_outcome *own, uint32_t own_count) {
    const world_outcome *all[2 * WORLD_CALL_COUNT_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < own_count; i++) all[count++] = &own[i];
    for (uint32_t i = 0; i < c->second_count; i++) all[count++] = &c->second[i];
    if (world_ok(&c->w)) world_integrate(&c->w, all, count);
    c->second_count = 0;
}

static bool step_flush(crash *c) {
    c->flushing = true;
    c->busy_skus = 0;
    inv_result result = inv_store_flush(c->w.store);
    c->flushing = false;
    step_integrate(c, NULL, 0);
    if (result != INV_OK)
        return world_problem(&c->w, "flush answers %s", inv_result_name(result));
    return world_poll_acks(&c->w);
}

static bool step_commands(crash *c) {
    world *w = &c->w;
    oracle_command commands[WORLD_CALL_COUNT_MAX];
    uint32_t count = 0, wanted = world_chance(&w->random, 3) ? WORLD_CALL_COUNT_MAX : 1;
    if (c->full) wanted = 1;
    c->busy_skus = 0;
    c->busy_known = true;
    for (uint32_t attempt = 0; attempt < 12 && count < wanted; attempt++) {
        if (!world_make_command(w, UINT32_MAX, false, &commands[count])) continue;
        bool again = false; /* a maker does not know what an earlier command of the call leaves */
        for (uint32_t i = 0; i < count; i++)
            again = again || (commands[i].hold != ORACLE_NONE &&
                              commands[i].hold == commands[count].hold);
        if (again) continue;
        c->busy_skus |= world_command_skus(w, &commands[count]);
        bool by_id = commands[count].kind != INV_CMD_RESERVE && commands[count].hold != ORACLE_NONE;
        c->busy_known = c->busy_known && !by_id && !commands[count].retry;
        count++;
    }
    world_outcome own[WORLD_CALL_COUNT_MAX];
    int code = INV_OK;
    c->appending = true;
    uint32_t judged = count == 0 ? 0 : world_call(w->store, commands, count, own, &code);
    c->appending = false;
    step_integrate(c, own, judged);
    if (!world_ok(w)) return false;
    if (code == INV_BUSY || (code == INV_DISK_FULL && c->full))
        return step_flush(c) && world_prepare_all(w);
    return code == INV_OK ? true : world_problem(w, "a call answers %s", inv_result_name(code));
}

static bool step_time(crash *c) {
    if (inv_wal_disk_state(&c->w.store->wal) == INV_DISK_READ_ONLY) return true; /* it waits */
    static const uint32_t spans[] = {1, 40, 700, 1500, 9000, 30000};
    uint64_t ms = 1 + world_below(&c->w.random, spans[world_below(&c->w.random, 6)]);
    return world_advance(&c->w, ms, 1 + world_below(&c->w.random, 6));
}

static bool step_prepare(crash *c) {
    bool more = false;
    return inv_store_prepare(c->w.store, &more) == INV_OK ? true : world_problem(&c->w, "prepare");
}

static bool step(crash *c) {
    world *w = &c->w;
    bool ok = true;
    uint32_t pick = world_below(&w->random, 40);
    if (c->full && world_chance(&w->random, 16)) {
        free_disk(c);
        ok = world_prepare_all(w);
    } else if (!c->full && world_chance(&w->random, 24)) {
        fill_disk(c);
    }
    if (!ok) return false;
    /* A generation is short: a snapshot goes on at every step, or there would be none. */
    if (w->store->snapshot->phase != INV_SNAPSHOT_IDLE) {
        ok = step_prepare(c);
        take_point(c, w->memory, "a step of a snapshot");
        if (!judge_points(c) || !ok) return false;
    }
    if (pick < 29) {
        ok = step_commands(c);
    } else if (pick < 33) {
        ok = step_flush(c);
    } else if (pick < 35) {
        ok = step_prepare(c);
    } else if (pick < 38) {
        ok = step_time(c);
    } else {
        ok = world_read(w);
    }
    if (ok && world_chance(&w->random, 4)) ok = world_poll_acks(w);
    if (ok && world_chance(&w->random, 6)) ok = world_compare(w, "while running");
    take_point(c, w->memory, "between steps");
    return judge_points(c) && ok;
}

/* ---- generations ----------------------------------------------------------------------------- */
/* Opens the store; points taken meanwhile must all lead to where this opening leads. */
static bool open_generation(crash *c) {
    world *w = &c->w;
    inv_error error;
    inv_recovery recovery;
    inv_result result = world_open(w, &error);
    if (result == INV_DISK_FULL && world_file_count(w, w->memory, "reserve-") == 0) {
        free_disk(c);
        result = world_open(w, &error);
    }
    if (result != INV_OK)
        return world_problem(w, "opening answers %s: %s", inv_result_name(result), error.message);
    inv_store_recovery(w->store, &recovery);
    for (uint32_t i = 0; i < c->point_count; i++)
        c->points[i].exact_lsn = recovery.created ? UINT64_MAX : recovery.lsn_end;
    c->report->generations++;
    if (!recovery.created) {
        if (recovery.lsn_end < w->acked_lsn)
            return world_problem(w, "reopened without an acknowledged command");
        uint32_t index = world_history_at(w, recovery.lsn_end);
        /* Points of the past are judged by the whole history; the future goes on from here. */
        bool ok = judge_points(c);
        world_rewind(w, index, recovery.lsn_end);
        w->acked_lsn = inv_max_u64(w->acked_lsn, w->changes[index].lsn);
        return ok && world_compare(w, "after reopening");
    }
    return judge_points(c);
}

/* Ends a generation: by a clean close, or by a crash into a random mixture. */
static bool end_generation(crash *c) {
    world *w = &c->w;
    if (!judge_points(c)) return false;
    if (world_chance(&w->random, 3)) {
        inv_error error;
        memset(&error, 0, sizeof error);
        inv_result result = inv_store_close(w->store, &error);
        if (result != INV_OK)
            return world_problem(w, "closing answers %s", inv_result_name(result));
        w->acked_lsn = inv_max_u64(w->acked_lsn, w->changes[w->change_count - 1].lsn);
        w->pending_count = 0;
        take_point(c, w->memory, "closed");
        if (!judge_points(c)) return false;
    }
    world_abandon(w);
    inv_memory_set_hook(w->memory, NULL, NULL);
    mixture mix;
    memset(&mix, 0, sizeof mix);
    mixture_random(c, &mix, inv_memory_unsynced_sectors(w->memory),
                   inv_memory_unsynced_names(w->memory));
    inv_memory_cut(w->memory, keep_sector, &mix, mix.names_kept);
    inv_memory_set_hook(w->memory, on_storage, c);
    w->pending_count = 0;
    return true;
}

static bool enough(const crash *c) {
    if (c->report->states >= c->options->states) return true;
    return c->options->seconds > 0 && campaign_now_seconds() >= c->deadline;
}

static bool run_scenario(crash *c, uint64_t seed) {
    world *w = &c->w;
    world_init(w, seed);
    c->random = seed * 0xBF58476D1CE4E5B9ull + 3;
    w->options.segment_bytes = world_chance(&w->random, 3) ? 32768 : 16384;
    w->yield = on_yield;
    w->yield_context = c;
    inv_memory_set_hook(w->memory, on_storage, c);
    c->full = false;
    bool ok = true;
    for (uint32_t g = 0; ok && g < GENERATION_COUNT && !enough(c); g++) {
        ok = open_generation(c);
        /* Durable, so that every location has its number: a second appender never waits for the
         * lock of names that the first one holds. */
        if (ok && g == 0) ok = world_stock_up(w) && step_flush(c);
        for (uint32_t i = 0; ok && i < STEP_COUNT && !enough(c); i++) ok = step(c);
        ok = ok && world_compare(w, "at the end of a generation") && end_generation(c);
    }
    judge_points(c); /* only frees them when something is wrong */
    campaign_report *report = c->report;
    report->scenarios++;
    report->commands += w->commands;
    report->acks += w->acks;
    report->refused += w->refused;
    report->replayed += w->replayed;
    report->expired += w->expired;
    if (!world_ok(w)) snprintf(report->problem, sizeof report->problem, "%s", w->problem);
    world_abandon(w);
    world_deinit(w);
    return ok && world_ok(w);
}

void campaign_crash(const campaign_options *options, campaign_report *report) {
    crash *c = calloc(1, sizeof *c);
    if (c == NULL) abort();
    memset(report, 0, sizeof *report);
    c->options = options;
    c->report = report;
    double began = campaign_now_seconds();
    c->deadline = began + options->seconds;
    lockstep_init(&c->helper);
    for (uint64_t i = 0; !enough(c); i++) {
        report->seed_next = options->seed + i + 1;
        if (run_scenario(c, options->seed + i)) continue;
        report->seed_failed = options->seed + i;
        break;
    }
    lockstep_deinit(&c->helper);
    seen_deinit(&c->states);
    free(c);
    report->seconds = campaign_now_seconds() - began;
}
