/* SPDX-License-Identifier: Apache-2.0
 *
 * campaign_io.c: campaigns 6 and 7. One fixed scenario is run again and again; in run n the nth
 * storage call (or allocation) fails, once or from then on, until a run passes without a fault. The
 * policy that is checked (RELIABILITY.md section 2.6):
 *
 *   - a failed sync of the log makes the store STORE_FAILED for good: no answer is acknowledged
 *     after it, nothing is synced again, every call says so;
 *   - whatever failed, what is left on the disk recovers to a state with all that was acknowledged;
 *   - a store that did not fail has applied exactly what it said, and works when the fault is over;
 *   - memory refused changes nothing and loses nothing: every byte is given back in the end.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "campaign.h"
#include "world.h"

#define IO_STEP_COUNT 44u
#define RUN_COUNT_MAX 200000u

typedef struct fault {
    uint64_t nth; /* 0: never */
    bool persistent;
    inv_result code;
    uint64_t calls;
    bool fired, healed;
    char what[32], name[INV_FILE_NAME_MAX + 1];
    bool log_sync_failed;
    uint64_t log_syncs_after; /* syncs asked for although one has failed */
} fault;

typedef struct io_run {
    world w;
    campaign_report *report;
    fault fault;
    bool poisoned;
    uint64_t durable_at_failure;
} io_run;

static inv_result on_call(void *argument, uint64_t call, const char *what, const char *name,
                          bool after) {
    fault *f = argument;
    (void)call;
    if (after) return INV_OK;
    f->calls++;
    bool log_sync = strcmp(what, "sync") == 0;
    if (log_sync && f->log_sync_failed) f->log_syncs_after++;
    bool now = f->nth != 0 && !f->healed &&
               (f->calls == f->nth || (f->persistent && f->calls > f->nth));
    if (!now) return INV_OK;
    if (!f->fired) {
        snprintf(f->what, sizeof f->what, "%s", what);
        snprintf(f->name, sizeof f->name, "%s", name);
    }
    f->fired = true;
    f->log_sync_failed = f->log_sync_failed || log_sync;
    return f->code;
}

static inv_metrics disk_metrics(const world *w) {
    inv_metrics metrics;
    memset(&metrics, 0, sizeof metrics);
    inv_store_metrics(w->store, &metrics);
    return metrics;
}

static bool run_problem(io_run *r, const char *problem) {
    return world_problem(&r->w, "%s fault %s at call %" PRIu64 " (%s '%s'): %s",
                         r->fault.persistent ? "persistent" : "single",
                         inv_result_name((int)r->fault.code), r->fault.nth, r->fault.what,
                         r->fault.name, problem);
}

/* A failed store must refuse everything but close, and must not touch the disk again. */
static bool check_poisoned(io_run *r) {
    world *w = &r->w;
    oracle_command command;
    world_outcome outcome;
    inv_stock_level level;
    int code = INV_OK;
    bool more = false;
    inv_line line = {.sku = {"MUG", 3}, .location = {"LON", 3}};
    memset(&level, 0, sizeof level);
    uint64_t calls = r->fault.calls;
    w->allow_busy = true;
    if (!world_make_command(w, UINT32_MAX, false, &command)) return true;
    if (world_call(w->store, &command, 1, &outcome, &code) != 0 || code != INV_STORE_FAILED)
        return run_problem(r, "a failed store still judges commands");
    if (inv_store_flush(w->store) != INV_STORE_FAILED)
        return run_problem(r, "a failed store still flushes");
    if (inv_store_prepare(w->store, &more) != INV_STORE_FAILED)
        return run_problem(r, "a failed store still prepares segments");
    if (inv_store_advance(w->store, 4, &more) != INV_STORE_FAILED)
        return run_problem(r, "a failed store still expires");
    if (inv_store_availability(w->store, (inv_text){NULL, 0}, &line, &level) != INV_STORE_FAILED)
        return run_problem(r, "a failed store still answers reads");
    if (r->fault.calls != calls) return run_problem(r, "a failed store touches the disk");
    return true;
}

static bool note_result(io_run *r, inv_result result, const char *what) {
    if (result == INV_OK || result == INV_BUSY || result == INV_DISK_FULL) return true;
    if (result != INV_STORE_FAILED) return run_problem(r, what);
    if (!r->fault.fired) return run_problem(r, "the store failed without a fault");
    if (r->poisoned) return true;
    inv_metrics metrics;
    memset(&metrics, 0, sizeof metrics);
    inv_store_metrics(r->w.store, &metrics);
    r->poisoned = true;
    r->durable_at_failure = metrics.lsn_durable;
    r->report->poisoned++;
    return check_poisoned(r);
}

static bool io_step(io_run *r, bool compare) {
    world *w = &r->w;
    uint32_t pick = world_below(&w->random, 20);
    bool ok = true, more = false;
    if (pick < 9) {
        oracle_command commands[2];
        if (!world_make_command(w, UINT32_MAX, false, &commands[0])) return true;
        ok = world_execute(w, commands, 1);
    } else if (pick < 14) {
        ok = note_result(r, inv_store_flush(w->store), "flush");
        if (ok && !r->poisoned && r->fault.log_sync_failed)
            ok = run_problem(r, "a sync of the log failed and the flush did not say so");
    } else if (pick < 17) {
        ok = note_result(r, inv_store_prepare(w->store, &more), "prepare");
    } else if (pick < 19) {
        w->clock_ms += 1 + world_below(&w->random, 4000);
        inv_env_set_clock(w->env, w->clock_ms);
        for (uint32_t i = 0; ok && !r->poisoned && i < 64; i++) {
            inv_result result = inv_store_advance(w->store, 8, &more);
            ok = note_result(r, result, "advance");
            if (ok && !r->poisoned) ok = world_take_expired(w, result == INV_OK && !more);
            if (!more || result != INV_OK) break;
        }
    } else {
        ok = world_read(w);
    }
    if (ok) ok = world_poll_acks(w);
    return ok && (!compare || r->poisoned || world_compare(w, "with a fault"));
}

/* What the disk holds must cover what was acknowledged, however the power goes now. */
static bool check_disk(io_run *r) {
    world *w = &r->w;
    inv_memory_set_hook(w->memory, NULL, NULL);
    for (uint32_t k = 0; k < 4; k++) {
        world_verdict verdict;
        inv_memory *disk = inv_memory_clone(w->memory);
        if (disk == NULL) abort();
        inv_memory_set_hook(disk, NULL, NULL);
        if (k < 3) inv_memory_power_cut(disk, k == 0 ? 0 : world_random(&w->random));
        else inv_memory_set_capacity(disk, 0); /* the process is restarted, nothing is cut */
        world_recover(w, disk, false, UINT64_MAX, &verdict, NULL);
        inv_memory_destroy(disk);
        r->report->states++;
        if (verdict.problem[0] != '\0') return run_problem(r, verdict.problem);
        if (!verdict.whole_groups) return run_problem(r, "half of a call's record was recovered");
        if (verdict.recovery.lsn_end < w->acked_lsn)
            return run_problem(r, "an acknowledged command is lost");
    }
    return true;
}

static bool io_open(io_run *r) {
    inv_error error;
    inv_result result = world_open(&r->w, &error);
    if (result == INV_OK) return true;
    r->report->refused_opens++;
    if (!r->fault.fired) return run_problem(r, "opening failed without a fault");
    /* The code of a failed sync may have become the plain "the system said no". */
    if (result != r->fault.code && result != INV_IO_ERROR) {
        char text[120];
        snprintf(text, sizeof text, "opening answers %s", inv_result_name(result));
        return run_problem(r, text);
    }
    check_disk(r);
    return false;
}

/* The fault is over: a store that did not fail must work again, and one that failed must not. */
static bool io_finish(io_run *r) {
    world *w = &r->w;
    inv_error error;
    memset(&error, 0, sizeof error);
    r->fault.healed = true;
    if (r->poisoned) {
        uint64_t acked_lsn = w->acked_lsn;
        if (!check_poisoned(r) || !world_poll_acks(w)) return false;
        if (w->acked_lsn > inv_max_u64(acked_lsn, r->durable_at_failure))
            return run_problem(r, "acknowledged after the failure");
        if (r->fault.log_syncs_after > 0) return run_problem(r, "a sync was asked for again");
        if (inv_store_close(w->store, &error) != INV_STORE_FAILED)
            return run_problem(r, "closing a failed store reports success");
        if (r->fault.log_syncs_after > 0) return run_problem(r, "closing syncs a failed log");
    } else {
        if (r->fault.log_sync_failed) {
            if (inv_store_flush(w->store) != INV_STORE_FAILED)
                return run_problem(r, "a failed sync was forgotten");
            r->report->poisoned++;
        } else {
            w->allow_busy = false;
            oracle_command command;
            memset(&command, 0, sizeof command);
            command = (oracle_command){.kind = INV_CMD_RECEIVE, .hold = ORACLE_NONE,
                                       .op = ORACLE_NONE, .line_count = 1};
            command.lines[0] = (oracle_line){1, 1, 5};
            /* A disk that says it has room and has none is asked again, after 30 s at most. */
            w->clock_ms += 30000;
            inv_env_set_clock(w->env, w->clock_ms);
            if (!world_prepare_all(w) || !world_advance(w, 1, 64)) return false;
            if (disk_metrics(w).disk_state != INV_DISK_OK)
                return run_problem(r, "the disk has room again and changes are still refused");
            if (!world_execute(w, &command, 1)) return false;
            if (inv_store_flush(w->store) != INV_OK || !world_poll_acks(w))
                return run_problem(r, "the store does not work after the fault");
            if (w->pending_count > 0) return run_problem(r, "flushed, but not acknowledged");
            if (!world_compare(w, "after the fault")) return false;
            r->report->survived++;
        }
    }
    world_abandon(w);
    return check_disk(r);
}

/* One run. True when nothing is wrong; *out_fired tells whether there was a fault at all. */
static bool io_run_once(io_run *r, const campaign_options *options, const fault *plan,
                        bool *out_fired) {
    world *w = &r->w;
    campaign_report *report = r->report;
    memset(r, 0, sizeof *r);
    r->report = report;
    r->fault = *plan;
    world_init(w, options->seed);
    inv_memory_set_hook(w->memory, on_call, &r->fault);
    w->allow_busy = true;
    bool ok = io_open(r);
    if (ok) {
        for (uint32_t i = 0; ok && i < IO_STEP_COUNT && !r->poisoned; i++) {
            if (i == 0) ok = world_stock_up(w);
            ok = ok && io_step(r, options->full || i % 4 == 0);
        }
        ok = ok && io_finish(r);
    } else {
        ok = world_ok(w);
    }
    *out_fired = r->fault.fired;
    r->report->injected += r->fault.fired;
    r->report->trials++;
    r->report->commands += w->commands;
    r->report->acks += w->acks;
    if (!world_ok(w)) snprintf(r->report->problem, sizeof r->report->problem, "%s", w->problem);
    inv_memory_set_hook(w->memory, NULL, NULL);
    world_abandon(w);
    world_deinit(w);
    return ok && r->report->problem[0] == '\0';
}

static void campaign_begin(const campaign_options *options, campaign_report *report,
                           io_run **out_run, double *out_began) {
    (void)options;
    memset(report, 0, sizeof *report);
    *out_began = campaign_now_seconds();
    *out_run = calloc(1, sizeof **out_run);
    if (*out_run == NULL) abort();
    (*out_run)->report = report;
}

static bool over(const campaign_options *options, double began) {
    return options->seconds > 0 && campaign_now_seconds() - began > options->seconds;
}

void campaign_io_errors(const campaign_options *options, campaign_report *report) {
    static const inv_result codes[] = {INV_IO_ERROR, INV_DISK_FULL};
    io_run *r;
    double began;
    campaign_begin(options, report, &r, &began);
    uint64_t seed_count = options->full ? 20 : 4;
    campaign_options each = *options;
    for (uint32_t form = 0; form < 4 * seed_count && report->problem[0] == '\0'; form++) {
        each.seed = options->seed + form / 4;
        report->seed_failed = each.seed; /* if one of the next runs fails */
        bool fired = true;
        for (uint64_t nth = 1; fired && nth < RUN_COUNT_MAX && !over(options, began); nth++) {
            fault plan = {.nth = nth, .persistent = (form & 1) != 0, .code = codes[form / 2 % 2]};
            if (!io_run_once(r, &each, &plan, &fired)) break;
        }
    }
    report->seed_next = options->seed + seed_count;
    free(r);
    report->seconds = campaign_now_seconds() - began;
}

/* ---- memory ---------------------------------------------------------------------------------- */
typedef struct meter {
    uint64_t nth; /* allocation that fails, counted from 1 while armed; 0: none */
    bool persistent, armed;
    uint64_t calls;
    bool fired;
    int64_t bytes_out; /* given and not yet taken back */
    inv_allocator real;
} meter;

static void *meter_alloc(void *context, size_t bytes) {
    meter *m = context;
    if (m->armed) {
        m->calls++;
        if (m->nth != 0 && (m->calls == m->nth || (m->persistent && m->calls > m->nth))) {
            m->fired = true;
            return NULL;
        }
    }
    void *pointer = m->real.alloc(m->real.context, bytes);
    if (pointer != NULL) m->bytes_out += (int64_t)bytes;
    return pointer;
}

static void meter_free(void *context, void *pointer, size_t bytes) {
    meter *m = context;
    m->bytes_out -= (int64_t)bytes;
    m->real.free(m->real.context, pointer, bytes);
}

static bool memory_problem(world *w, const meter *m, const char *problem) {
    return world_problem(w, "%s allocation failure %" PRIu64 ": %s",
                         m->persistent ? "persistent" : "single", m->nth, problem);
}

/* Many SKUs make tables and pools grow, so that allocations happen long after opening. */
static bool memory_steps(world *w, meter *m) {
    for (uint32_t i = 0; i < 400; i++) {
        char sku[24];
        inv_line line = {.sku_number = INV_NUMBER_NONE, .location_number = INV_LOCATION_NONE,
                         .qty = 1};
        int length = snprintf(sku, sizeof sku, "filler-%u", i);
        line.sku = (inv_text){sku, (uint32_t)length};
        line.location = (inv_text){"LON", 3};
        inv_command command = {.kind = INV_CMD_RECEIVE, .lines = &line, .line_count = 1};
        inv_reply reply;
        memset(&reply, 0, sizeof reply);
        (void)inv_store_try_execute(w->store, &command, 1, &reply);
        if (reply.code == INV_BUSY) {
            if (inv_store_flush(w->store) != INV_OK) return memory_problem(w, m, "flush");
            if (!world_prepare_all(w)) return false;
        } else if (reply.code != INV_OK && !(reply.code == INV_NO_MEMORY && m->fired)) {
            return memory_problem(w, m, inv_result_name(reply.code));
        }
        inv_stock_level level;
        memset(&level, 0, sizeof level);
        inv_result result =
            inv_store_availability(w->store, (inv_text){NULL, 0}, &line, &level);
        bool there = result == INV_OK && level.on_hand == 1;
        if (there != (reply.code == INV_OK))
            return memory_problem(w, m, "the change is not what the answer says");
        oracle_command own;
        if (i % 5 == 0 && world_make_command(w, UINT32_MAX, false, &own) &&
            !world_execute(w, &own, 1))
            return false;
        if (i % 100 != 0) continue;
        m->armed = false; /* the check needs memory of its own */
        if (!world_compare(w, "short of memory")) return false;
        m->armed = true;
    }
    return true;
}

/* One run with allocation `nth` failing. Returns false when something is wrong. */
static bool memory_run_once(const campaign_options *options, meter *m, campaign_report *report) {
    world *w = calloc(1, sizeof *w);
    if (w == NULL) abort();
    inv_error error;
    world_init(w, options->seed);
    inv_env *plain = inv_env_create();
    if (plain == NULL) abort();
    m->real = plain->allocator;
    w->allocator = (inv_allocator){.context = m, .alloc = meter_alloc, .free = meter_free};
    w->allow_busy = true;
    m->armed = true;
    inv_result result = world_open(w, &error);
    if (result == INV_OK) {
        bool ok = world_stock_up(w) && memory_steps(w, m);
        m->armed = false;
        w->allow_busy = false;
        ok = ok && world_prepare_all(w) && inv_store_flush(w->store) == INV_OK;
        ok = ok && world_poll_acks(w) && world_compare(w, "with memory again");
        if (ok && inv_store_close(w->store, &error) != INV_OK)
            memory_problem(w, m, "closing failed");
        report->survived += ok;
    } else {
        report->refused_opens++;
        if (result != INV_NO_MEMORY || !m->fired)
            memory_problem(w, m, inv_result_name(result));
    }
    m->armed = false;
    world_abandon(w);
    if (m->bytes_out != 0) memory_problem(w, m, "memory was not given back");
    world_verdict verdict;
    world_recover(w, w->memory, false, UINT64_MAX, &verdict, NULL);
    if (verdict.problem[0] != '\0') memory_problem(w, m, verdict.problem);
    if (verdict.result == INV_OK && verdict.recovery.lsn_end < w->acked_lsn)
        memory_problem(w, m, "an acknowledged command is lost");
    if (m->bytes_out != 0) memory_problem(w, m, "recovery did not give its memory back");
    report->trials++;
    report->injected += m->fired;
    report->commands += w->commands;
    bool ok = world_ok(w);
    if (!ok) snprintf(report->problem, sizeof report->problem, "%s", w->problem);
    world_deinit(w);
    free(w);
    inv_env_destroy(plain);
    return ok;
}

void campaign_no_memory(const campaign_options *options, campaign_report *report) {
    double began = campaign_now_seconds();
    memset(report, 0, sizeof *report);
    for (uint32_t form = 0; form < 2 && report->problem[0] == '\0'; form++) {
        bool fired = true;
        for (uint64_t nth = 1; fired && nth < RUN_COUNT_MAX && !over(options, began); nth++) {
            meter m = {.nth = nth, .persistent = form == 1};
            if (!memory_run_once(options, &m, report)) break;
            fired = m.fired;
        }
    }
    report->seconds = campaign_now_seconds() - began;
}

/* ---- a full disk ----------------------------------------------------------------------------- */
static uint64_t disk_bytes(const world *w, inv_memory *disk);

static bool add_size(void *argument, const char *name, uint64_t size) {
    (void)name;
    *(uint64_t *)argument += size;
    return true;
}

static uint64_t disk_bytes(const world *w, inv_memory *disk) {
    uint64_t bytes = 0;
    world_recovered env = {world_env(w, disk, 1), NULL};
    inv_error error = {0};
    if (env.env->storage.list(env.env->storage.context, add_size, &bytes, &error) != INV_OK)
        bytes = 0;
    world_recovered_drop(&env);
    return bytes;
}

/* The disk stays full: whatever the store frees, others take. */
static void keep_full(world *w) {
    inv_memory_set_capacity(w->memory, disk_bytes(w, w->memory) + 1024);
}

static bool is_settling(const oracle_command *command) {
    return command->kind == INV_CMD_RELEASE || command->kind == INV_CMD_CANCEL ||
           command->kind == INV_CMD_COMMIT || command->kind == INV_CMD_SHIP;
}

/* One random command, under the rules of the state that the disk is in. *out_code: its code, or why
 * it was not judged. */
static bool try_one(io_run *r, oracle_command *command, int *out_code) {
    world *w = &r->w;
    world_outcome outcome;
    const world_outcome *pointer = &outcome;
    *out_code = INV_OK;
    if (w->hold_next + 8 >= ORACLE_HOLD_COUNT_MAX) w->hold_next = ORACLE_HOLD_COUNT_MAX;
    if (!world_make_command(w, UINT32_MAX, false, command)) return true;
    uint64_t state = disk_metrics(w).disk_state; /* only prepare moves it */
    uint32_t judged = world_call(w->store, command, 1, &outcome, out_code);
    if (!world_integrate(w, &pointer, judged)) return false;
    bool ordinary = !is_settling(command);
    if (judged == 1 && state != INV_DISK_OK && (ordinary || state == INV_DISK_READ_ONLY))
        return run_problem(r, "a change that may wait was accepted on a full disk");
    if (*out_code == INV_DISK_FULL && !ordinary && state != INV_DISK_READ_ONLY)
        return run_problem(r, "a promise can't be kept although there is a reserve");
    return true;
}

/* Fills the log until a command that may wait is refused with `wanted`; compares after refusals. */
static bool fill_until(io_run *r, int wanted) {
    world *w = &r->w;
    for (uint32_t i = 0; i < 4096; i++) {
        oracle_command command;
        int code = INV_OK;
        if (!try_one(r, &command, &code)) return false;
        if (code == INV_OK) continue;
        if (!world_compare(w, "after a refusal for want of log space")) return false;
        if (code == wanted && !is_settling(&command)) return true;
        if (code != INV_BUSY && code != wanted) return run_problem(r, inv_result_name(code));
        if (inv_store_flush(w->store) != INV_OK) return run_problem(r, "flush on a full disk");
        bool more = false;
        if (wanted == INV_DISK_FULL && inv_store_prepare(w->store, &more) != INV_OK)
            return run_problem(r, "prepare on a full disk");
    }
    return run_problem(r, "the log never fills");
}

static bool release_one(io_run *r) {
    world *w = &r->w;
    for (uint32_t i = 0; i < w->hold_next && i < ORACLE_HOLD_COUNT_MAX; i++) {
        if (w->state.holds[i].state != INV_STATE_HELD) continue;
        oracle_command command = {.kind = INV_CMD_RELEASE, .hold = i, .op = ORACLE_NONE};
        world_outcome outcome;
        const world_outcome *pointer = &outcome;
        int code = INV_OK;
        if (world_call(w->store, &command, 1, &outcome, &code) != 1)
            return run_problem(r, "a release is refused on a full disk");
        return world_integrate(w, &pointer, 1);
    }
    return true;
}

static bool flush_and_prepare(io_run *r) {
    bool more = false;
    if (inv_store_flush(r->w.store) != INV_OK) return run_problem(r, "flush on a full disk");
    return inv_store_prepare(r->w.store, &more) == INV_OK
               ? true
               : run_problem(r, "prepare on a full disk");
}

static bool fill_reserve(io_run *r) {
    for (uint32_t i = 0; i < 64 && disk_metrics(&r->w).reserve_segments < 2; i++)
        if (!flush_and_prepare(r)) return false;
    return disk_metrics(&r->w).reserve_segments == 2 ? true
                                                     : run_problem(r, "the reserve is not filled");
}

/* What is on the full disk, after a power cut, must open: with a reserve on that very disk, else
 * with room made. */
static bool reopen_full(io_run *r, bool must) {
    world *w = &r->w;
    world_verdict verdict;
    inv_memory *disk = inv_memory_clone(w->memory);
    if (disk == NULL) abort();
    inv_memory_power_cut(disk, world_random(&w->random));
    world_recover(w, disk, false, UINT64_MAX, &verdict, NULL);
    if (verdict.result == INV_DISK_FULL && !must) {
        inv_memory_set_capacity(disk, 0);
        world_recover(w, disk, false, UINT64_MAX, &verdict, NULL);
    }
    inv_memory_destroy(disk);
    r->report->states++;
    if (verdict.problem[0] != '\0') return run_problem(r, verdict.problem);
    if (verdict.recovery.lsn_end < w->acked_lsn)
        return run_problem(r, "an acknowledged command is lost on a full disk");
    return true;
}

/* Time and promises kept use the reserve up. */
static bool drain_reserve(io_run *r) {
    world *w = &r->w;
    for (uint32_t i = 0; i < 4096; i++) {
        if (disk_metrics(w).disk_state == INV_DISK_READ_ONLY) return true;
        keep_full(w);
        if (i % 5 == 0 && !release_one(r)) return false;
        w->clock_ms += 1000;
        inv_env_set_clock(w->env, w->clock_ms);
        bool more = true;
        for (uint32_t k = 0; k < 64 && more; k++) {
            inv_result result = inv_store_advance(w->store, 4, &more);
            if (result != INV_OK && result != INV_BUSY)
                return run_problem(r, "time stands still although there is a reserve");
            if (!world_take_expired(w, result == INV_OK && !more)) return false;
            if (!flush_and_prepare(r)) return false;
            if (disk_metrics(w).disk_state == INV_DISK_READ_ONLY) break;
        }
        oracle_command command;
        int code;
        if (!try_one(r, &command, &code) || !flush_and_prepare(r)) return false;
        if (i % 16 == 0 && !reopen_full(r, disk_metrics(w).reserve_segments > 0)) return false;
    }
    return run_problem(r, "the reserve never ends");
}

/* Nothing is written and nothing moves; everything can be read. */
static bool check_read_only(io_run *r) {
    world *w = &r->w;
    inv_metrics before = disk_metrics(w);
    bool more = false;
    for (uint32_t i = 0; i < 40; i++) {
        oracle_command command;
        int code = INV_DISK_FULL;
        if (!try_one(r, &command, &code)) return false;
        if (code != INV_DISK_FULL && code != INV_OK) return run_problem(r, inv_result_name(code));
    }
    w->clock_ms += 100000;
    inv_env_set_clock(w->env, w->clock_ms);
    for (uint32_t i = 0; i < 4; i++)
        if (inv_store_advance(w->store, 64, &more) != INV_DISK_FULL)
            return run_problem(r, "time is logged although nothing can be");
    if (!flush_and_prepare(r) || !world_take_expired(w, false)) return false;
    inv_metrics after = disk_metrics(w);
    if (after.lsn_appended != before.lsn_appended || after.expired != before.expired)
        return run_problem(r, "a read-only store writes");
    if (after.now_unix_ms > before.now_unix_ms + 1000)
        return run_problem(r, "time runs on although no tick is logged");
    return world_compare(w, "read-only") && reopen_full(r, false);
}

/* Room comes back: first for one segment, then without limit. */
static bool leave_read_only(io_run *r) {
    world *w = &r->w;
    inv_memory_set_capacity(w->memory, disk_bytes(w, w->memory) + w->options.segment_bytes);
    for (uint32_t i = 0; i < 8 && disk_metrics(w).disk_state == INV_DISK_READ_ONLY; i++)
        if (!flush_and_prepare(r)) return false;
    if (disk_metrics(w).disk_state != INV_DISK_REFUSING)
        return run_problem(r, "one segment of room and the store is not refusing");
    if (!release_one(r)) return false;
    inv_memory_set_capacity(w->memory, 0);
    if (!world_prepare_all(w)) return false;
    inv_metrics after = disk_metrics(w);
    if (after.disk_state != INV_DISK_OK || after.reserve_segments != 2)
        return run_problem(r, "no way out of a full disk");
    if (after.disk_recovered_count != after.disk_full_count)
        return run_problem(r, "comings and goings are miscounted");
    return true;
}

static bool full_disk_once(io_run *r, uint64_t seed) {
    world *w = &r->w;
    inv_error error;
    world_init(w, seed);
    w->options.segments_ahead_max = 1 + (uint32_t)(seed & 1);
    if (world_open(w, &error) != INV_OK) return world_problem(w, "open: %s", error.message);
    if (!world_prepare_all(w) || !world_stock_up(w)) return false;
    w->allow_busy = true;
    if (!fill_until(r, INV_BUSY)) return false; /* the disk is fine, but nobody prepares */
    if (inv_store_flush(w->store) != INV_OK || !world_prepare_all(w))
        return run_problem(r, "flush");
    if (!fill_reserve(r)) return false;
    inv_memory_set_capacity(w->memory, disk_bytes(w, w->memory) + 4096);
    if (!fill_until(r, INV_DISK_FULL)) return false;
    if (disk_metrics(w).disk_state != INV_DISK_REFUSING)
        return run_problem(r, "refused, and the state of the disk does not say so");
    if (inv_store_flush(w->store) != INV_OK || !release_one(r)) return run_problem(r, "release");
    if (!reopen_full(r, true)) return false;
    w->clock_ms += 100000; /* time goes on: holds lapse on a full disk, too */
    inv_env_set_clock(w->env, w->clock_ms);
    bool more = true;
    for (uint32_t i = 0; i < 64 && more; i++) {
        inv_result result = inv_store_advance(w->store, 4, &more);
        if (result != INV_OK && result != INV_BUSY)
            return run_problem(r, "advance on a full disk");
        if (!world_take_expired(w, result == INV_OK && !more)) return false;
        if (!flush_and_prepare(r)) return false;
        keep_full(w);
    }
    if (!world_compare(w, "on a full disk")) return false;
    if (seed % 3 != 0 && (!drain_reserve(r) || !check_read_only(r) || !leave_read_only(r)))
        return false;
    inv_memory_set_capacity(w->memory, 0);
    if (!world_prepare_all(w)) return false;
    w->allow_busy = false;
    if (w->hold_next > ORACLE_HOLD_COUNT_MAX) w->hold_next = ORACLE_HOLD_COUNT_MAX;
    if (!world_advance(w, 1, 64)) return false;
    for (uint32_t i = 0; i < 30; i++) {
        oracle_command command;
        if (world_make_command(w, UINT32_MAX, false, &command) && !world_execute(w, &command, 1))
            return false;
    }
    if (inv_store_flush(w->store) != INV_OK || !world_poll_acks(w))
        return run_problem(r, "no way back from a full disk");
    if (!world_compare(w, "with room again")) return false;
    world_abandon(w);
    return check_disk(r);
}

void campaign_disk_full(const campaign_options *options, campaign_report *report) {
    io_run *r;
    double began;
    campaign_begin(options, report, &r, &began);
    uint64_t rounds = options->full ? 200 : 20;
    for (uint64_t i = 0; i < rounds && report->problem[0] == '\0' && !over(options, began); i++) {
        memset(r, 0, sizeof *r);
        r->report = report;
        snprintf(r->fault.what, sizeof r->fault.what, "full disk");
        full_disk_once(r, options->seed + i);
        report->seed_failed = options->seed + i;
        report->seed_next = options->seed + i + 1;
        report->trials++;
        report->commands += r->w.commands;
        if (!world_ok(&r->w)) snprintf(report->problem, sizeof report->problem, "%s", r->w.problem);
        world_abandon(&r->w);
        world_deinit(&r->w);
    }
    free(r);
    report->seconds = campaign_now_seconds() - began;
}
