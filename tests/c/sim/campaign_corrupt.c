/* SPDX-License-Identifier: Apache-2.0
 *
 * campaign_corrupt.c: campaign 4 (every byte of every file, to other values) and the part of
 * campaign 5 that damages whole files. Three disks are damaged:
 *
 *     clean     closed properly: everything is proven durable, no shorter history may be accepted
 *     killed    the process died, the page cache survived: HINT proves everything
 *     bare      as killed, without HINT: the last group's records prove all groups before it
 *
 * Whatever is damaged, opening must refuse (LOG_CORRUPT, FORMAT_UNKNOWN) or show a state of the
 * history that covers the proven part. A damaged byte within a record must never go unnoticed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/invcore/log/inv_snap_format.h"
#include "campaign.h"
#include "world.h"

#define FILE_COUNT_LIMIT 32u
#define VALUES_WHOLE (16384u * 255) /* of one segment; asked for fewer, it samples all of it */
#define TRIALS_WHOLE 1000000u /* about what a campaign tries; asked for fewer, it samples all */
#define LAST_GROUP_BYTES 1400u /* spans sectors, so that losing one leaves records of the group */

typedef enum disk_kind { DISK_CLEAN, DISK_KILLED, DISK_BARE } disk_kind;

typedef struct damage_file {
    char name[INV_FILE_NAME_MAX + 1];
    uint64_t size;
    uint64_t used; /* segments: end of the last byte that is not zero, 8-aligned */
} damage_file;

typedef struct damage {
    world w;
    const campaign_options *options;
    campaign_report *report;
    inv_memory *disk; /* intact */
    disk_kind kind;
    damage_file files[FILE_COUNT_LIMIT];
    uint32_t file_count;
    uint64_t floor_lsn; /* nothing below may be dropped */
    uint64_t random;
    uint32_t one_in; /* trial is made */
    double deadline;
} damage;

/* What a trial may end in, beyond a refusal. */
typedef enum expectation {
    MAY_BE_IDENTICAL, /* the damage may lie where nothing is looked at */
    MUST_BE_NOTICED,  /* identical is a violation, a proven prefix is not */
    MUST_BE_REFUSED,
    MUST_BE_IDENTICAL
} expectation;

static bool out_of_time(const damage *d) {
    return (d->options->seconds > 0 && campaign_now_seconds() >= d->deadline) ||
           d->report->trials >= d->options->states;
}

static const char *kind_name(disk_kind kind) {
    return kind == DISK_CLEAN ? "clean" : kind == DISK_KILLED ? "killed" : "bare";
}

/* What fsck says of a damaged disk is what opening says, and a loss can be accepted where it says:
 * the store goes on from a state it once had. */
static bool agree(damage *d, inv_memory *disk, const world_verdict *opened, const char *what) {
    inv_memory *copy = inv_memory_clone(disk);
    world_recovered env = {world_env(&d->w, copy, 1), NULL};
    inv_fsck_report found;
    inv_error error;
    inv_result result = inv_fsck(env.env, NULL, NULL, &found, &error);
    world_recovered_drop(&env);
    bool same = result == INV_FORMAT_UNKNOWN ? opened->result == result
                                             : result == INV_OK &&
                                                   found.ok == (opened->result == INV_OK);
    if (same && found.ok) same = found.lsn_end == opened->recovery.lsn_end;
    if (!same)
        world_problem(&d->w, "%s disk, %s: fsck says %s (%s), opening %s (%s)", kind_name(d->kind),
                      what, result == INV_OK && found.ok ? "ok" : inv_result_name(result),
                      found.problem, inv_result_name(opened->result), opened->error.message);
    if (same && result == INV_OK && !found.ok && found.accept_loss_lsn != 0) {
        world_verdict verdict;
        uint64_t limit = found.accept_loss_lsn;
        d->w.options.accept_loss_lsn = limit;
        inv_memory_settle(copy);
        world_recover(&d->w, copy, false, limit, &verdict, NULL);
        d->w.options.accept_loss_lsn = 0;
        same = verdict.result == INV_OK && verdict.problem[0] == '\0' &&
               verdict.recovery.lsn_end == limit;
        if (!same)
            world_problem(&d->w, "%s disk, %s: loss accepted at lsn %" PRIu64 ": %s (%s) %s",
                          kind_name(d->kind), what, limit, inv_result_name(verdict.result),
                          verdict.error.message, verdict.problem);
        if (same) d->report->accepted++;
    }
    inv_memory_destroy(copy);
    return same;
}

/* Opens the damaged disk and files the verdict. */
static bool judge_opened(damage *d, inv_memory *disk, bool read_only, expectation expected,
                         const char *what) {
    world_verdict verdict;
    bool asked = world_chance(&d->random, d->options->full ? 4 : 32);
    inv_memory *before = asked ? inv_memory_clone(disk) : NULL;
    world_recover(&d->w, disk, read_only, UINT64_MAX, &verdict, NULL);
    d->report->trials++;
    bool agreed = !asked || agree(d, before, &verdict, what);
    if (asked) inv_memory_destroy(before);
    if (!agreed) return false;
    const char *kind = kind_name(d->kind);
    if (verdict.result != INV_OK) {
        d->report->refused_opens++;
        if (verdict.result != INV_LOG_CORRUPT && verdict.result != INV_FORMAT_UNKNOWN)
            return world_problem(&d->w, "%s disk, %s: opening answers %s (%s)", kind, what,
                                 inv_result_name(verdict.result), verdict.error.message);
        if (expected == MUST_BE_IDENTICAL)
            return world_problem(&d->w, "%s disk, %s: refused (%s), but a copy or nothing is lost",
                                 kind, what, verdict.error.message);
        return true;
    }
    if (verdict.problem[0] != '\0')
        return world_problem(&d->w, "%s disk, %s: another state was accepted: %s", kind, what,
                             verdict.problem);
    if (expected == MUST_BE_REFUSED)
        return world_problem(&d->w, "%s disk, %s: accepted up to lsn %" PRIu64, kind, what,
                             verdict.recovery.lsn_end);
    if (verdict.index == d->w.change_count - 1) {
        d->report->identical++;
        if (expected != MUST_BE_NOTICED || verdict.recovery.torn_bytes_dropped > 0) return true;
        return world_problem(&d->w, "%s disk, %s: the damage went unnoticed", kind, what);
    }
    d->report->prefixes++;
    if (verdict.recovery.lsn_end < d->floor_lsn || expected == MUST_BE_IDENTICAL)
        return world_problem(&d->w,
                             "%s disk, %s: cut to lsn %" PRIu64 ", though %" PRIu64 " is proven",
                             kind, what, verdict.recovery.lsn_end, d->floor_lsn);
    return true;
}

static bool judge_damage(damage *d, inv_memory *disk, expectation expected, const char *what) {
    return judge_opened(d, disk, true, expected, what);
}

/* ---- the disks ------------------------------------------------------------------------------- */
static bool run_commands(damage *d, uint64_t until_lsn, uint32_t flush_one_in) {
    world *w = &d->w;
    inv_metrics metrics = {0};
    for (uint32_t i = 0; i < 4096; i++) {
        oracle_command command;
        inv_store_metrics(w->store, &metrics);
        if (metrics.lsn_appended >= until_lsn) break;
        if (!world_make_command(w, UINT32_MAX, false, &command)) continue;
        if (!world_execute(w, &command, 1)) return false;
        if (flush_one_in == 0) continue;
        if (world_chance(&w->random, flush_one_in) && inv_store_flush(w->store) != INV_OK)
            return world_problem(w, "flush");
        if (w->options.snapshot_log_bytes > 0 && !world_prepare_all(w)) return false;
        if (world_chance(&w->random, 30) && !world_advance(w, 500, 8)) return false;
    }
    return true;
}

static bool add_file(void *argument, const char *name, uint64_t size) {
    damage *d = argument;
    if (d->file_count == FILE_COUNT_LIMIT) return false;
    damage_file *file = &d->files[d->file_count++];
    snprintf(file->name, sizeof file->name, "%s", name);
    file->size = size;
    return true;
}

static int file_order(const void *a, const void *b) {
    return strcmp(((const damage_file *)a)->name, ((const damage_file *)b)->name);
}

static void list_files(damage *d) {
    world_recovered env = {world_env(&d->w, d->disk, 1), NULL};
    inv_error error = {0};
    d->file_count = 0;
    if (env.env->storage.list(env.env->storage.context, add_file, d, &error) != INV_OK)
        world_problem(&d->w, "the files cannot be listed");
    world_recovered_drop(&env);
    qsort(d->files, d->file_count, sizeof d->files[0], file_order);
    for (uint32_t i = 0; i < d->file_count; i++) {
        uint64_t size = 0;
        const uint8_t *bytes = inv_memory_file(d->disk, d->files[i].name, &size);
        while (size > 0 && bytes != NULL && bytes[size - 1] == 0) size--;
        d->files[i].used = inv_align_u64(size, 8);
    }
}

static bool is_segment(const damage_file *file) { return strncmp(file->name, "wal-", 4) == 0; }
static bool is_snapshot(const damage_file *file) {
    return strncmp(file->name, INV_SNAP_PREFIX, 5) == 0 &&
           strcmp(file->name, INV_SNAP_UNFINISHED) != 0;
}

static void remove_file(damage *d, inv_memory *disk, const char *name) {
    world_recovered env = {world_env(&d->w, disk, 1), NULL};
    inv_error error = {0};
    if (env.env->storage.remove(env.env->storage.context, name, &error) != INV_OK)
        world_problem(&d->w, "%s cannot be removed", name);
    world_recovered_drop(&env);
    inv_memory_settle(disk);
}

/* Builds a disk of the kind whose log reaches log_bytes beyond its start. snapshot_log_bytes 0:
 * there is nothing but the log. */
static bool build(damage *d, uint64_t seed, disk_kind kind, uint64_t log_bytes,
                  uint64_t snapshot_log_bytes) {
    world *w = &d->w;
    inv_error error;
    inv_metrics metrics = {0};
    world_init(w, seed);
    w->options.snapshot_log_bytes = snapshot_log_bytes;
    d->kind = kind;
    d->random = seed ^ 0x7F4A7C15ull;
    if (world_open(w, &error) != INV_OK) return world_problem(w, "open: %s", error.message);
    if (!world_prepare_all(w) || !world_stock_up(w)) return false;
    if (!run_commands(d, log_bytes, 5)) return false;
    if (inv_store_flush(w->store) != INV_OK || !world_prepare_all(w))
        return world_problem(w, "flush or prepare");
    inv_store_metrics(w->store, &metrics);
    d->floor_lsn = metrics.lsn_durable;
    if (!run_commands(d, metrics.lsn_durable + LAST_GROUP_BYTES, 0)) return false;
    w->clock_ms += 1000; /* HINT is written at most every 10 ms */
    inv_env_set_clock(w->env, w->clock_ms);
    for (uint32_t i = 0; i < 2; i++) /* an idle group writes the final HINT */
        if (inv_store_flush(w->store) != INV_OK) return world_problem(w, "flush");
    if (!world_compare(w, "before the damage")) return false;
    if (kind == DISK_CLEAN && inv_store_close(w->store, &error) != INV_OK)
        return world_problem(w, "close: %s", error.message);
    world_abandon(w);
    inv_memory_settle(w->memory);
    if (kind == DISK_BARE) remove_file(d, w->memory, "HINT");
    else d->floor_lsn = w->changes[w->change_count - 1].lsn;
    d->disk = w->memory;
    list_files(d);
    inv_memory *copy = inv_memory_clone(d->disk);
    bool ok = judge_damage(d, copy, MUST_BE_IDENTICAL, "undamaged");
    inv_memory_destroy(copy);
    return ok && world_ok(w);
}

/* ---- single bytes ---------------------------------------------------------------------------- */
static expectation byte_expectation(const damage_file *file, uint64_t offset) {
    if (strcmp(file->name, "HINT") == 0) return MUST_BE_IDENTICAL;
    if (is_snapshot(file)) return MUST_BE_IDENTICAL; /* there is an older one, or all of the log */
    if (!is_segment(file)) return MAY_BE_IDENTICAL;
    if (offset < 4096) return MUST_BE_IDENTICAL; /* the other copy of the header stands */
    return offset < file->used ? MUST_BE_NOTICED : MAY_BE_IDENTICAL;
}

static bool try_byte(damage *d, uint8_t *bytes, const damage_file *file, uint64_t offset,
                     uint8_t value) {
    char what[120];
    uint8_t original = bytes[offset];
    if (d->one_in > 1 && !world_chance(&d->random, d->one_in)) return true;
    snprintf(what, sizeof what, "%s byte %" PRIu64 " set from %02x to %02x", file->name, offset,
             original, value);
    bytes[offset] = value;
    bool ok = judge_damage(d, d->disk, byte_expectation(file, offset), what);
    bytes[offset] = original;
    return ok;
}

/* All other values where records are (long form) or one-bit changes of each byte; long runs of
 * zeros and the upper part of headers are sampled. */
static bool try_values(damage *d, uint8_t *bytes, const damage_file *file, uint64_t offset) {
    uint64_t block = is_segment(file) ? 2048 : 4096; /* a header copy, a STATE slot */
    bool records = is_segment(file) && offset >= 4096;
    bool fields = offset % block < 160 || offset % block >= block - 8;
    bool matters = offset < file->used && (records || fields);
    if (!matters && !world_chance(&d->random, d->options->full ? 8 : 128)) return true;
    bool all = d->options->full || (matters && world_chance(&d->random, 32));
    if (all) {
        for (uint32_t delta = 1; delta < 256; delta++)
            if (!try_byte(d, bytes, file, offset, (uint8_t)(bytes[offset] ^ delta))) return false;
        return true;
    }
    for (uint32_t bit = 0; bit < 8; bit++)
        if (!try_byte(d, bytes, file, offset, (uint8_t)(bytes[offset] ^ (1u << bit)))) return false;
    return true;
}

/* Where to begin: short runs that are cut off by their time reach all places together. */
static uint64_t first_place(damage *d, uint64_t count) {
    return d->options->seconds > 0 ? world_random(&d->random) % count : 0;
}

static bool damage_bytes(damage *d) {
    uint32_t first_file = (uint32_t)first_place(d, d->file_count);
    for (uint32_t i = 0; i < d->file_count; i++) {
        const damage_file *file = &d->files[(first_file + i) % d->file_count];
        uint64_t size = 0;
        uint8_t *bytes = inv_memory_file(d->disk, file->name, &size);
        if (bytes == NULL) return world_problem(&d->w, "%s is not there", file->name);
        uint64_t first = size == 0 ? 0 : first_place(d, size);
        for (uint64_t k = 0; k < size && !out_of_time(d); k++)
            if (!try_values(d, bytes, file, (first + k) % size)) return false;
    }
    return true;
}

/* ---- whole files ----------------------------------------------------------------------------- */
typedef bool (*damage_step)(damage *d, inv_memory *disk, const damage_file *file, uint64_t argument,
                            expectation *out_expected, char *what, size_t what_bytes);

static bool try_step(damage *d, damage_step step, const damage_file *file, uint64_t argument) {
    char what[200] = "";
    expectation expected = MAY_BE_IDENTICAL;
    if (d->one_in > 1 && !world_chance(&d->random, d->one_in)) return true;
    inv_memory *disk = inv_memory_clone(d->disk);
    if (disk == NULL) abort();
    bool applies = step(d, disk, file, argument, &expected, what, sizeof what);
    inv_memory_settle(disk);
    bool ok = !applies || judge_damage(d, disk, expected, what);
    inv_memory_destroy(disk);
    return ok && world_ok(&d->w);
}

static bool step_truncate(damage *d, inv_memory *disk, const damage_file *file, uint64_t argument,
                          expectation *out_expected, char *what, size_t what_bytes) {
    (void)d;
    snprintf(what, what_bytes, "%s truncated to %" PRIu64, file->name, argument);
    *out_expected = is_segment(file)    ? MUST_BE_REFUSED
                    : is_snapshot(file) ? MUST_BE_IDENTICAL
                                        : MAY_BE_IDENTICAL;
    return inv_memory_truncate(disk, file->name, argument);
}

static bool step_delete(damage *d, inv_memory *disk, const damage_file *file, uint64_t argument,
                        expectation *out_expected, char *what, size_t what_bytes) {
    (void)argument;
    snprintf(what, what_bytes, "%s deleted", file->name);
    bool needed = is_segment(file) || strcmp(file->name, "STATE") == 0;
    *out_expected = needed              ? MUST_BE_REFUSED
                    : is_snapshot(file) ? MUST_BE_IDENTICAL
                                        : MAY_BE_IDENTICAL;
    remove_file(d, disk, file->name);
    return true;
}

static bool step_sector(damage *d, inv_memory *disk, const damage_file *file, uint64_t argument,
                        expectation *out_expected, char *what, size_t what_bytes) {
    uint64_t size = 0, at = argument / 2 * INV_SECTOR_BYTES;
    bool garbage = (argument & 1) != 0;
    uint8_t *bytes = inv_memory_file(disk, file->name, &size);
    if (bytes == NULL || at >= size) return false;
    uint64_t end = inv_min_u64(at + INV_SECTOR_BYTES, size);
    snprintf(what, what_bytes, "%s sector at %" PRIu64 " %s", file->name, at,
             garbage ? "of garbage" : "zeroed");
    for (uint64_t i = at; i < end; i++)
        bytes[i] = garbage ? (uint8_t)world_random(&d->random) : 0;
    bool in_records = is_segment(file) && at >= 4096 && at < file->used;
    *out_expected = in_records ? MUST_BE_NOTICED
                    : is_segment(file) && at < 4096 ? MUST_BE_IDENTICAL
                                                    : MAY_BE_IDENTICAL;
    return true;
}

static bool step_zero(damage *d, inv_memory *disk, const damage_file *file, uint64_t argument,
                      expectation *out_expected, char *what, size_t what_bytes) {
    uint64_t size = 0;
    uint8_t *bytes = inv_memory_file(disk, file->name, &size);
    if (bytes == NULL) return false;
    /* Without HINT nothing proves the last groups when all their records are gone at once. */
    if (d->kind == DISK_BARE && argument != 0) return false;
    uint64_t half = size / 2;
    uint64_t from = argument == 2 ? half : 0, to = argument == 1 ? half : size;
    snprintf(what, what_bytes, "%s zeroed in [%" PRIu64 ", %" PRIu64 ")", file->name, from, to);
    memset(bytes + from, 0, (size_t)(to - from));
    bool whole = argument == 0 && (is_segment(file) || strcmp(file->name, "STATE") == 0);
    *out_expected = whole ? MUST_BE_REFUSED : MAY_BE_IDENTICAL;
    return true;
}

/* The content of files[argument] over this one; swap: both ways. */
static bool copy_over(inv_memory *disk, const damage_file *file, const damage_file *other,
                      bool swap) {
    uint64_t size = 0, other_size = 0;
    uint8_t *bytes = inv_memory_file(disk, file->name, &size);
    uint8_t *source = inv_memory_file(disk, other->name, &other_size);
    if (bytes == NULL || source == NULL || size != other_size || bytes == source) return false;
    for (uint64_t i = 0; i < size; i++) {
        uint8_t former = bytes[i];
        bytes[i] = source[i];
        if (swap) source[i] = former;
    }
    return true;
}

static bool step_copy(damage *d, inv_memory *disk, const damage_file *file, uint64_t argument,
                      expectation *out_expected, char *what, size_t what_bytes) {
    const damage_file *other = &d->files[argument / 2];
    bool swap = (argument & 1) != 0;
    snprintf(what, what_bytes, "%s %s %s", file->name, swap ? "swapped with" : "is a copy of",
             other->name);
    *out_expected = is_segment(file) && is_segment(other) ? MUST_BE_REFUSED : MAY_BE_IDENTICAL;
    return copy_over(disk, file, other, swap);
}

static bool step_rename(damage *d, inv_memory *disk, const damage_file *file, uint64_t argument,
                        expectation *out_expected, char *what, size_t what_bytes) {
    char target[INV_FILE_NAME_MAX + 1];
    if (!is_segment(file)) return false;
    snprintf(target, sizeof target, "wal-%016" PRIx64, 100 + argument);
    snprintf(what, what_bytes, "%s renamed to %s", file->name, target);
    world_recovered env = {world_env(&d->w, disk, 1), NULL};
    inv_error error = {0};
    inv_result result =
        env.env->storage.rename(env.env->storage.context, file->name, target, &error);
    world_recovered_drop(&env);
    *out_expected = MUST_BE_REFUSED;
    return result == INV_OK;
}

static bool every_file(damage *d, damage_step step, uint64_t argument_count) {
    for (uint32_t i = 0; i < d->file_count; i++)
        for (uint64_t k = 0; k < argument_count; k++)
            if (!try_step(d, step, &d->files[i], k)) return false;
    return true;
}

static bool damage_files(damage *d) {
    for (uint32_t i = 0; i < d->file_count; i++) {
        const damage_file *file = &d->files[i];
        for (uint64_t size = 0; size < file->size && !out_of_time(d); size++) {
            bool edge = size < 64 || size + 64 > file->size || size % INV_SECTOR_BYTES < 2;
            if (!d->options->full && !edge && !world_chance(&d->random, 16)) continue;
            if (!try_step(d, step_truncate, file, size)) return false;
        }
    }
    return every_file(d, step_delete, 1) && every_file(d, step_zero, 3) &&
           every_file(d, step_sector, 2 * 16384 / INV_SECTOR_BYTES) &&
           every_file(d, step_copy, 2ull * d->file_count) && every_file(d, step_rename, 2);
}

/* Both STATE slots at once must refuse; one of them must not matter or refuse. */
static bool damage_state_slots(damage *d) {
    for (uint32_t slots = 1; slots <= 3; slots++) {
        for (uint32_t k = 0; k < 64; k++) {
            uint64_t size = 0;
            char what[80];
            inv_memory *disk = inv_memory_clone(d->disk);
            uint8_t *bytes = inv_memory_file(disk, "STATE", &size);
            if (bytes == NULL || size < 8192) return world_problem(&d->w, "STATE is short");
            for (uint32_t slot = 0; slot < 2; slot++)
                if ((slots >> slot & 1) != 0)
                    bytes[slot * 4096 + world_below(&d->random, 4096)] ^=
                        (uint8_t)(1 + world_below(&d->random, 255));
            snprintf(what, sizeof what, "STATE slots %s damaged",
                     slots == 3 ? "A and B" : slots == 2 ? "B" : "A");
            bool ok = judge_damage(d, disk, slots == 3 ? MUST_BE_REFUSED : MAY_BE_IDENTICAL, what);
            inv_memory_destroy(disk);
            if (!ok) return false;
        }
    }
    return true;
}

/* Segments of another store with equal settings: in place of each of ours, and behind our last. */
static bool damage_foreign(damage *d, damage *other) {
    for (uint32_t i = 0; i < d->file_count; i++) {
        const damage_file *file = &d->files[i];
        char what[120];
        uint64_t size = 0, other_size = 0;
        inv_memory *disk = inv_memory_clone(d->disk);
        uint8_t *bytes = inv_memory_file(disk, file->name, &size);
        const uint8_t *source = inv_memory_file(other->disk, file->name, &other_size);
        bool applies = bytes != NULL && source != NULL && size == other_size;
        if (applies) memcpy(bytes, source, (size_t)size);
        snprintf(what, sizeof what, "%s comes from another store", file->name);
        bool hint = strcmp(file->name, "HINT") == 0;
        bool ok = !applies ||
                  judge_damage(d, disk, hint ? MAY_BE_IDENTICAL : MUST_BE_REFUSED, what);
        inv_memory_destroy(disk);
        if (!ok) return false;
    }
    return true;
}

/* ---- campaigns ------------------------------------------------------------------------------- */
static void drop(damage *d) {
    if (!world_ok(&d->w))
        snprintf(d->report->problem, sizeof d->report->problem, "%s", d->w.problem);
    d->report->commands += d->w.commands;
    d->report->scenarios++;
    world_deinit(&d->w);
    d->disk = NULL;
}

static damage *damage_create(const campaign_options *options, campaign_report *report) {
    damage *d = calloc(1, sizeof *d);
    if (d == NULL) abort();
    d->options = options;
    d->report = report;
    d->deadline = campaign_now_seconds() + options->seconds;
    if (options->states < TRIALS_WHOLE && !options->full)
        d->one_in = (uint32_t)(TRIALS_WHOLE / inv_max_u64(options->states, 1));
    return d;
}

void campaign_corrupt_bytes(const campaign_options *options, campaign_report *report) {
    double began = campaign_now_seconds();
    memset(report, 0, sizeof *report);
    damage *d = damage_create(options, report);
    for (uint32_t kind = DISK_CLEAN; kind <= DISK_BARE && report->problem[0] == '\0'; kind++) {
        /* One segment nearly full, so that the whole of it is records. */
        if (build(d, options->seed + kind, (disk_kind)kind, 4096 + 9000, 0)) damage_bytes(d);
        drop(d);
    }
    free(d);
    report->seconds = campaign_now_seconds() - began;
}

/* The first segment of a cleanly closed store: each of its bytes, each other value. */
static bool damage_all_values(damage *d) {
    const damage_file *file = d->files;
    while (!is_segment(file) || file->used <= 4096) file++;
    uint64_t size = 0;
    uint8_t *bytes = inv_memory_file(d->disk, file->name, &size);
    if (bytes == NULL) return world_problem(&d->w, "%s is not there", file->name);
    uint64_t first = first_place(d, size);
    for (uint64_t k = 0; k < size && !out_of_time(d); k++) {
        uint64_t offset = (first + k) % size;
        for (uint32_t delta = 1; delta < 256; delta++)
            if (!try_byte(d, bytes, file, offset, (uint8_t)(bytes[offset] ^ delta))) return false;
    }
    return true;
}

void campaign_corrupt_all_values(const campaign_options *options, campaign_report *report) {
    double began = campaign_now_seconds();
    memset(report, 0, sizeof *report);
    damage *d = damage_create(options, report);
    d->one_in = options->full ? 1 : (uint32_t)(VALUES_WHOLE / inv_max_u64(options->states, 1));
    if (build(d, options->seed + 40, DISK_CLEAN, 4096 + 700, 0)) damage_all_values(d);
    drop(d);
    free(d);
    report->seconds = campaign_now_seconds() - began;
}

/* Bytes of snapshots (in CI of a third of their places, one bit each time), then whole files. The
 * store must come back whole every time: over the other snapshot, or by the log. */
static bool damage_snapshots(damage *d) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < d->file_count; i++) {
        const damage_file *file = &d->files[i];
        if (!is_snapshot(file)) continue;
        found++;
        uint64_t size = 0;
        uint8_t *bytes = inv_memory_file(d->disk, file->name, &size);
        if (bytes == NULL) return world_problem(&d->w, "%s is not there", file->name);
        for (uint64_t offset = 0; offset < size && !out_of_time(d); offset++) {
            if (!d->options->full && !world_chance(&d->random, 3)) continue;
            for (uint32_t k = 0; k < (d->options->full ? 255 : 8); k++) {
                uint8_t delta = (uint8_t)(d->options->full ? k + 1 : 1u << k);
                if (!try_byte(d, bytes, file, offset, bytes[offset] ^ delta)) return false;
            }
        }
        for (uint64_t cut = 0; cut < size && !out_of_time(d);
             cut += 1 + world_below(&d->random, 64))
            if (!try_step(d, step_truncate, file, cut)) return false;
        if (!try_step(d, step_delete, file, 0)) return false;
        for (uint64_t k = 0; k < 3; k++)
            if (!try_step(d, step_zero, file, k)) return false;
    }
    return found == 0 ? world_problem(&d->w, "there is no snapshot to be damaged") : true;
}

/* Where in a segment the log begins that the newest snapshot needs; its size if nowhere. */
static uint64_t needed_from(const damage *d, const uint8_t *bytes, uint64_t size) {
    inv_wal_segment_header header;
    if (inv_wal_decode_segment_header(bytes, &header) != INV_OK) abort();
    uint64_t start = 0; /* of the newest snapshot */
    for (uint32_t i = 0; i < d->file_count; i++)
        if (is_snapshot(&d->files[i]))
            start = inv_max_u64(start, strtoull(d->files[i].name + 5, NULL, 16));
    if (start <= header.base_lsn) return 0;
    return inv_min_u64(INV_WAL_HEADER_BYTES + (start - header.base_lsn), size);
}

/* The log below the newest snapshot's start: that it is damaged or gone must stop nobody, not even
 * who goes on writing in the same segment. */
static bool damage_below_snapshots(damage *d) {
    uint64_t tried = 0;
    for (uint32_t i = 0; i < d->file_count; i++) {
        const damage_file *file = &d->files[i];
        uint64_t size = 0;
        const uint8_t *intact = inv_memory_file(d->disk, file->name, &size);
        if (!is_segment(file)) continue;
        uint64_t needed = needed_from(d, intact, size);
        for (uint64_t offset = INV_WAL_HEADER_BYTES; offset < needed && !out_of_time(d);
             offset += 1 + world_below(&d->random, d->options->full ? 8 : 64)) {
            char what[120];
            inv_memory *disk = inv_memory_clone(d->disk);
            snprintf(what, sizeof what, "%s damaged at %" PRIu64 ", below the snapshot",
                     file->name, offset);
            inv_memory_file(disk, file->name, &size)[offset] ^=
                (uint8_t)(1 + world_below(&d->random, 255));
            inv_memory_settle(disk);
            bool ok = judge_opened(d, disk, false, MUST_BE_IDENTICAL, what);
            inv_memory_destroy(disk);
            if (!ok) return false;
            tried++;
        }
        if (needed < size) continue; /* all of it is below: it may be gone, oldest first */
        inv_memory *disk = inv_memory_clone(d->disk);
        remove_file(d, disk, file->name);
        bool ok = judge_opened(d, disk, false, MUST_BE_IDENTICAL, "a segment below is gone");
        inv_memory_destroy(disk);
        if (!ok) return false;
    }
    return tried == 0 && !out_of_time(d) ? world_problem(&d->w, "no log lies below") : true;
}

void campaign_corrupt_snapshots(const campaign_options *options, campaign_report *report) {
    double began = campaign_now_seconds();
    memset(report, 0, sizeof *report);
    damage *d = damage_create(options, report);
    for (uint32_t kind = DISK_CLEAN; kind <= DISK_BARE && report->problem[0] == '\0'; kind++) {
        /* The newest begins in the first of two segments, or in the last, with the log trimmed. */
        uint64_t log_bytes = 4096 + (kind == DISK_KILLED ? 20000 : 12000);
        if (build(d, options->seed + 30 + kind, (disk_kind)kind, log_bytes, 2048))
            (void)(damage_below_snapshots(d) && damage_snapshots(d));
        drop(d);
    }
    free(d);
    report->seconds = campaign_now_seconds() - began;
}

void campaign_corrupt_files(const campaign_options *options, campaign_report *report) {
    double began = campaign_now_seconds();
    memset(report, 0, sizeof *report);
    damage *d = damage_create(options, report), *other = damage_create(options, report);
    for (uint32_t kind = DISK_CLEAN; kind <= DISK_BARE && report->problem[0] == '\0'; kind++) {
        /* Two segments and a half: the last one is in the middle, with one prepared behind it. */
        uint64_t log_bytes = 4096 + 2 * 12288 + 5000;
        bool ok = build(d, options->seed + 10 + kind, (disk_kind)kind, log_bytes, 0) &&
                  damage_files(d) && damage_state_slots(d);
        if (ok && build(other, options->seed + 20 + kind, (disk_kind)kind, log_bytes, 0))
            damage_foreign(d, other);
        if (other->w.memory != NULL) drop(other);
        drop(d);
    }
    free(other);
    free(d);
    report->seconds = campaign_now_seconds() - began;
}
