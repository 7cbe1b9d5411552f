/* SPDX-License-Identifier: Apache-2.0
 *
 * campaign_engine.c: campaign 2, the whole engine in one thread under virtual time. Clients send,
 * lose replies and ask again; the loop takes several requests a call; flusher, timekeeper and
 * housekeeper are turned by hand; the scheduler draws who is next. Two phases:
 *
 *   SAFETY    storage calls and allocations fail at random, the disk fills, the process is closed,
 *             killed or loses its power (also while it opens). Always true: nothing that was
 *             acknowledged is lost, every answer is the oracle's, no request acts twice, damage is
 *             never reported where there is none.
 *   LIVENESS  all faults end. Within LIVENESS_ROUNDS_MAX turns of the loops every client must have
 *             its answer, durable; time must have caught up and expired all that is due; a snapshot
 *             must be taken, however often it failed before; closing and opening give it all back.
 *
 * What campaign_crash.c does at every storage call with all mixtures of sectors is drawn at random
 * here; this one is there for what needs a long run: faults upon faults, and getting well again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "campaign.h"
#include "world.h"

#define CLIENT_COUNT 6u
#define STEP_COUNT 150u
#define STEADY_STEP_COUNT 600u /* of a seed whose process lives long enough to fill segments */
#define OPEN_TRIES_MAX 12u
#define LIVENESS_ROUNDS_MAX 24u
#define LIVENESS_ROUND_MS 2000u /* all rounds together: longer than a full disk is left alone */
#define SNAPSHOT_ROUNDS_MAX 120u
#define LONG_WAIT_MS (11u * 60 * 1000) /* longer than a failed snapshot is put off */
#define TWICE_ONE_IN 64u /* seeds that run a second time: the same must happen */

typedef enum client_phase { CLIENT_IDLE, CLIENT_SENDING, CLIENT_WAITING } client_phase;

typedef struct client {
    client_phase phase;
    oracle_command command;
    uint64_t observed_lsn; /* of the answer it waits for */
} client;

typedef enum ending { END_CLOSE, END_KILL, END_POWER_CUT } ending;

typedef struct engine {
    world w;
    campaign_report *report;
    client clients[CLIENT_COUNT];
    uint64_t chance; /* of faults: apart from what the clients do */
    uint32_t storage_one_in, memory_one_in; /* calls that fail; 0: none */
    bool faults; /* the safety phase */
    bool steady; /* hardly ever restarted */
    uint64_t epoch; /* of the last opening */
    inv_allocator real;
    int64_t bytes_out; /* given and not yet taken back */
} engine;

/* ---- faults ---------------------------------------------------------------------------------- */
static inv_result on_storage(void *argument, uint64_t call, const char *what, const char *name,
                             bool after) {
    engine *e = argument;
    (void)call;
    (void)what;
    (void)name;
    if (after || !e->faults || e->storage_one_in == 0) return INV_OK;
    if (!world_chance(&e->chance, e->storage_one_in)) return INV_OK;
    e->report->faults++;
    return world_chance(&e->chance, 3) ? INV_DISK_FULL : INV_IO_ERROR;
}

static void *fail_or_alloc(void *context, size_t bytes) {
    engine *e = context;
    if (e->faults && e->memory_one_in != 0 && world_chance(&e->chance, e->memory_one_in)) {
        e->report->faults++;
        return NULL;
    }
    void *pointer = e->real.alloc(e->real.context, bytes);
    if (pointer != NULL) e->bytes_out += (int64_t)bytes;
    return pointer;
}

static void give_back(void *context, void *pointer, size_t bytes) {
    engine *e = context;
    e->bytes_out -= (int64_t)bytes;
    e->real.free(e->real.context, pointer, bytes);
}

/* Looking at everything is the test's business: it is not to fail. */
static bool compare(engine *e, const char *when) {
    bool faults = e->faults;
    e->faults = false;
    bool ok = world_compare(&e->w, when);
    e->faults = faults;
    return ok;
}

/* ---- ending and opening again ---------------------------------------------------------------- */

/* Can the request be sent again without acting twice? */
static bool may_ask_again(const oracle_command *command) {
    return command->op != ORACLE_NONE ||
           (command->hold != ORACLE_NONE && !command->partial); /* an id: its end is a replay */
}

static void clients_lose_connection(engine *e) {
    for (uint32_t i = 0; i < CLIENT_COUNT; i++) {
        client *c = &e->clients[i];
        if (c->phase != CLIENT_WAITING) continue;
        c->phase = may_ask_again(&c->command) ? CLIENT_SENDING : CLIENT_IDLE;
    }
}

/* An opening that failed may have ended the log, at a place it could not tell any more, and given
 * the positions behind it to records of its own: then the state says which part of the history was
 * found. Never less than what was acknowledged, or comparing fails. */
static uint32_t history_found(engine *e, uint64_t lsn_end) {
    world *w = &e->w;
    static _Thread_local oracle_state found;
    const char *problem = NULL;
    uint32_t index = world_history_at(w, lsn_end), least = world_history_at(w, w->acked_lsn);
    if (!world_observe(w, w->store, &found, &problem)) return index;
    uint64_t hash = oracle_hash(&found);
    for (uint32_t i = index + 1; i-- > least;)
        if (w->changes[i].hash == hash) return i;
    return index;
}

static bool check_opened(engine *e, bool failed_before) {
    world *w = &e->w;
    inv_recovery recovery;
    inv_store_recovery(w->store, &recovery);
    if (recovery.epoch <= e->epoch)
        return world_problem(w, "epoch %" PRIu64 " after %" PRIu64, recovery.epoch, e->epoch);
    e->epoch = recovery.epoch;
    if (recovery.created && w->change_count > 1)
        return world_problem(w, "a store with a history was created anew");
    if (recovery.created) return true;
    if (recovery.snapshots_damaged != 0)
        return world_problem(w, "a snapshot had its name before it was whole");
    if (recovery.lsn_end < w->acked_lsn)
        return world_problem(w, "acknowledged up to lsn %" PRIu64 ", found up to %" PRIu64,
                             w->acked_lsn, recovery.lsn_end);
    bool faults = e->faults;
    e->faults = false;
    uint32_t index = failed_before ? history_found(e, recovery.lsn_end)
                                   : world_history_at(w, recovery.lsn_end);
    e->faults = faults;
    if (!w->changes[index].group_end) return world_problem(w, "half of a call's record was found");
    world_rewind(w, index, failed_before ? w->changes[index].lsn : recovery.lsn_end);
    w->acked_lsn = inv_max_u64(w->acked_lsn, w->changes[index].lsn);
    return compare(e, "after opening");
}

/* Opening may fail while there are faults, but only by saying that the world did. */
static bool open_again(engine *e) {
    world *w = &e->w;
    bool faults = e->faults, failed = false;
    inv_result result = INV_IO_ERROR;
    inv_error error;
    for (uint32_t i = 0; result != INV_OK && i < OPEN_TRIES_MAX; i++) {
        if (i == OPEN_TRIES_MAX / 2) { /* the operator has made room */
            e->faults = false;
            inv_memory_set_capacity(w->memory, 0);
        }
        result = world_open(w, &error);
        bool of_the_world = result == INV_IO_ERROR || result == INV_DISK_FULL ||
                            result == INV_NO_MEMORY || result == INV_STORE_FAILED;
        if (result != INV_OK && (!of_the_world || !e->faults))
            return world_problem(w, "opening answers %s: %s", inv_result_name(result),
                                 error.message);
        failed = failed || result != INV_OK;
        if (result != INV_OK && world_chance(&e->chance, 2))
            inv_memory_power_cut(w->memory, world_random(&e->chance));
    }
    e->faults = faults;
    e->report->restarts++;
    return check_opened(e, failed);
}

static bool restart(engine *e, ending how) {
    world *w = &e->w;
    inv_error error;
    memset(&error, 0, sizeof error);
    if (how == END_CLOSE) {
        inv_result result = inv_store_close(w->store, &error);
        if (result != INV_OK && !e->faults)
            return world_problem(w, "closing answers %s", inv_result_name(result));
        if (result == INV_OK) w->acked_lsn = w->changes[w->change_count - 1].lsn;
    }
    world_abandon(w);
    if (how == END_POWER_CUT)
        inv_memory_power_cut(w->memory, world_chance(&e->chance, 3) ? 0 : world_random(&e->chance));
    w->pending_count = 0;
    clients_lose_connection(e);
    return open_again(e);
}

/* What a loop answers. A failed store is left, as its supervisor would. */
static bool take_result(engine *e, inv_result result, const char *what) {
    if (result == INV_OK || result == INV_BUSY) return true;
    if (!e->faults)
        return world_problem(&e->w, "%s answers %s without a fault", what, inv_result_name(result));
    if (result == INV_NO_MEMORY || result == INV_DISK_FULL) return true;
    if (result != INV_STORE_FAILED)
        return world_problem(&e->w, "%s answers %s", what, inv_result_name(result));
    return restart(e, world_chance(&e->chance, 2) ? END_KILL : END_POWER_CUT);
}

/* ---- clients --------------------------------------------------------------------------------- */
static bool same_target(const oracle_command *a, const oracle_command *b) {
    return (a->hold != ORACLE_NONE && a->hold == b->hold) ||
           (a->op != ORACLE_NONE && a->op == b->op);
}

/* A request of its own, about nothing that another client waits for: which of two comes first is
 * the scheduler's choice, and the oracle hears of it only afterwards. */
static void client_think(engine *e, client *c) {
    if (!world_make_command(&e->w, UINT32_MAX, false, &c->command)) return;
    for (uint32_t i = 0; i < CLIENT_COUNT; i++)
        if (e->clients[i].phase != CLIENT_IDLE &&
            same_target(&e->clients[i].command, &c->command))
            return;
    c->phase = CLIENT_SENDING;
}

static bool was_accepted(const world *w, const oracle_command *command) {
    for (uint32_t i = 0; i < w->accepted_count; i++) {
        const oracle_command *earlier = &w->accepted[i].command;
        bool by_op = command->op != ORACLE_NONE && earlier->op == command->op;
        bool by_id = command->kind == INV_CMD_RESERVE && earlier->kind == INV_CMD_RESERVE &&
                     earlier->hold == command->hold;
        if (by_op || by_id) return true;
    }
    return false;
}

/* Says whether the request still makes sense, and whether it is a repetition. A part that was never
 * done names units that may have become others meanwhile: the client thinks again. */
static bool client_prepare(engine *e, client *c) {
    bool repeated = c->command.retry;
    c->command.retry = was_accepted(&e->w, &c->command);
    if (c->command.retry) return true;
    return !repeated && !c->command.partial;
}

static void client_answered(engine *e, client *c, const world_outcome *outcome) {
    c->phase = CLIENT_WAITING;
    c->observed_lsn = outcome->reply.observed_lsn;
    if (!e->faults || !world_chance(&e->w.random, 8)) return;
    c->phase = may_ask_again(&c->command) ? CLIENT_SENDING : CLIENT_IDLE; /* the reply is lost */
    e->report->retries += c->phase == CLIENT_SENDING;
}

/* One turn of the loop: what several clients sent, in one call. */
static bool serve(engine *e) {
    world *w = &e->w;
    client *senders[WORLD_CALL_COUNT_MAX];
    oracle_command commands[WORLD_CALL_COUNT_MAX];
    world_outcome outcomes[WORLD_CALL_COUNT_MAX];
    const world_outcome *pointers[WORLD_CALL_COUNT_MAX];
    uint32_t count = 0, first = world_below(&w->random, CLIENT_COUNT);
    uint32_t most = 1 + world_below(&w->random, WORLD_CALL_COUNT_MAX);
    for (uint32_t i = 0; i < CLIENT_COUNT && count < most; i++) {
        client *c = &e->clients[(first + i) % CLIENT_COUNT];
        if (c->phase != CLIENT_SENDING) continue;
        bool first_time = c->observed_lsn == 0 && !c->command.retry;
        if (!first_time && !client_prepare(e, c)) {
            c->phase = CLIENT_IDLE;
            c->observed_lsn = 0;
            continue;
        }
        senders[count] = c;
        commands[count++] = c->command;
        c->observed_lsn = UINT64_MAX; /* sent: from now on it is asked again */
    }
    if (count == 0) return true;
    int code = INV_OK;
    uint32_t judged = world_call(w->store, commands, count, outcomes, &code);
    for (uint32_t i = 0; i < judged; i++) pointers[i] = &outcomes[i];
    if (!world_integrate(w, pointers, judged)) return false;
    for (uint32_t i = 0; i < judged; i++) {
        client *sender = senders[outcomes[i].index];
        client_answered(e, sender, &outcomes[i]);
    }
    /* The disk has room again, but the store learns it when the next segment is prepared. */
    if (code == INV_DISK_FULL) code = INV_BUSY;
    return take_result(e, (inv_result)code, "a call");
}

/* Whose answer is safe now? */
static bool deliver(engine *e) {
    world *w = &e->w;
    if (!world_poll_acks(w)) return false;
    for (uint32_t i = 0; i < CLIENT_COUNT; i++) {
        client *c = &e->clients[i];
        if (c->phase != CLIENT_WAITING) continue;
        if (inv_store_wait(w->store, c->observed_lsn, 0) != INV_OK) continue;
        w->acked_lsn = inv_max_u64(w->acked_lsn, c->observed_lsn);
        c->phase = CLIENT_IDLE;
        c->observed_lsn = 0;
    }
    return true;
}

/* ---- the loops ------------------------------------------------------------------------------- */
static bool tick(engine *e) {
    static const uint32_t spans[] = {1, 60, 900, 4000, 30000};
    world *w = &e->w;
    w->clock_ms += 1 + world_below(&w->random, spans[world_below(&w->random, 5)]);
    inv_env_set_clock(w->env, w->clock_ms);
    bool more = true;
    for (uint32_t i = 0; more && i < 8; i++) {
        inv_result result = inv_store_advance(w->store, 1 + world_below(&w->random, 8), &more);
        bool faults = e->faults;
        e->faults = false;
        bool ok = result == INV_STORE_FAILED || world_take_expired(w, result == INV_OK && !more);
        e->faults = faults;
        if (!ok) return false;
        if (result != INV_OK) return take_result(e, result, "advance");
    }
    return true;
}

static bool prepare_some(engine *e) {
    bool more = true;
    uint32_t steps = 1 + world_below(&e->w.random, 6);
    inv_result result = INV_OK;
    for (uint32_t i = 0; more && result == INV_OK && i < steps; i++)
        result = inv_store_prepare(e->w.store, &more);
    return take_result(e, result, "prepare");
}

static uint64_t disk_room(engine *e) {
    uint64_t sectors = inv_memory_unsynced_sectors(e->w.memory);
    return (40000 + world_below(&e->chance, 60000)) + sectors * INV_SECTOR_BYTES;
}

static bool step(engine *e) {
    world *w = &e->w;
    uint32_t pick = world_below(&w->random, 100);
    if (pick < 50) {
        client *c = &e->clients[world_below(&w->random, CLIENT_COUNT)];
        if (c->phase == CLIENT_IDLE) client_think(e, c);
        return serve(e);
    }
    if (pick < 64) return take_result(e, inv_store_flush(w->store), "flush");
    if (pick < 76) return prepare_some(e);
    if (pick < 84) return tick(e);
    if (pick < 92) return deliver(e);
    if (pick < 95) return world_read(w);
    if (pick < 97) {
        inv_memory_set_capacity(w->memory, world_chance(&e->chance, 2) ? 0 : disk_room(e));
        return true;
    }
    if (e->steady && !world_chance(&e->chance, 20)) return true;
    return restart(e, (ending)world_below(&e->chance, 3));
}

/* ---- getting well ---------------------------------------------------------------------------- */
static uint32_t clients_busy(const engine *e) {
    uint32_t busy = 0;
    for (uint32_t i = 0; i < CLIENT_COUNT; i++) busy += e->clients[i].phase != CLIENT_IDLE;
    return busy;
}

/* A store that has met a full disk comes back to normal by itself, though not at once. */
static bool disk_is_well(engine *e) {
    world *w = &e->w;
    inv_metrics metrics;
    inv_store_metrics(w->store, &metrics);
    for (uint32_t i = 0; metrics.disk_state != INV_DISK_OK; i++) {
        if (i == LIVENESS_ROUNDS_MAX)
            return world_problem(w, "disk_state is %" PRIu64 " after %u rounds with room",
                                 metrics.disk_state, i);
        if (!take_result(e, inv_store_flush(w->store), "flush") || !world_prepare_all(w))
            return false;
        if (!world_advance(w, LIVENESS_ROUND_MS, 64)) return false;
        inv_store_metrics(w->store, &metrics);
    }
    return true;
}

static bool all_are_answered(engine *e) {
    world *w = &e->w;
    uint32_t rounds = 0;
    for (; clients_busy(e) > 0; rounds++) {
        if (rounds == LIVENESS_ROUNDS_MAX)
            return world_problem(w, "%u clients have no answer after %u rounds without a fault",
                                 clients_busy(e), rounds);
        if (!serve(e) || !take_result(e, inv_store_flush(w->store), "flush")) return false;
        if (!world_prepare_all(w) || !deliver(e)) return false;
    }
    e->report->liveness_rounds_max = inv_max_u64(e->report->liveness_rounds_max, rounds);
    if (inv_store_flush(w->store) != INV_OK || !world_poll_acks(w))
        return world_problem(w, "flush without a fault");
    if (w->pending_count > 0) return world_problem(w, "flushed, but not everything is durable");
    return compare(e, "when all are answered");
}

static bool time_catches_up(engine *e) {
    world *w = &e->w;
    inv_metrics metrics;
    if (!world_advance(w, LONG_WAIT_MS, 64) || !world_advance(w, 1, 64)) return false;
    inv_store_metrics(w->store, &metrics);
    if (metrics.now_unix_ms != w->clock_ms || metrics.lag_ms != 0)
        return world_problem(w, "engine time %" PRIu64 ", clock %" PRIu64 ", lag %" PRIu64,
                             metrics.now_unix_ms, w->clock_ms, metrics.lag_ms);
    return compare(e, "when time has caught up");
}

static bool a_snapshot_is_taken(engine *e) {
    world *w = &e->w;
    inv_metrics before, now;
    inv_store_metrics(w->store, &before);
    for (uint32_t i = 0; i < SNAPSHOT_ROUNDS_MAX; i++) {
        oracle_command command = {.kind = INV_CMD_RECEIVE, .hold = ORACLE_NONE, .op = w->op_next++,
                                  .line_count = 1, .reference_bytes = 100};
        command.lines[0] = (oracle_line){i % ORACLE_SKU_COUNT, i % ORACLE_LOCATION_COUNT, 1};
        if (!world_execute(w, &command, 1)) return false;
        if (inv_store_flush(w->store) != INV_OK || !world_prepare_all(w))
            return world_problem(w, "flush or prepare without a fault");
        inv_store_metrics(w->store, &now);
        if (now.snapshots > before.snapshots) return true;
    }
    return world_problem(w, "no snapshot after %u changes without a fault", SNAPSHOT_ROUNDS_MAX);
}

static bool get_well(engine *e) {
    world *w = &e->w;
    e->faults = false;
    w->allow_busy = false;
    inv_memory_set_capacity(w->memory, 0);
    inv_error failure;
    inv_store_failure(w->store, &failure); /* a fault nobody was told of yet */
    if (failure.code != 0 && !restart(e, END_KILL)) return false;
    if (!take_result(e, inv_store_flush(w->store), "flush") || !world_prepare_all(w)) return false;
    if (!disk_is_well(e) || !all_are_answered(e) || !time_catches_up(e) || !a_snapshot_is_taken(e))
        return false;
    if (!restart(e, END_CLOSE)) return false;
    inv_recovery recovery;
    inv_store_recovery(w->store, &recovery);
    if (!recovery.clean_shutdown || recovery.torn_bytes_dropped != 0)
        return world_problem(w, "closed properly, but opening does not find it so");
    return true;
}

/* ---- one seed -------------------------------------------------------------------------------- */
static uint64_t fingerprint(const world *w) {
    uint64_t hash = w->commands * 31 + w->acks;
    for (uint32_t i = 0; i < w->change_count; i++)
        hash = (hash ^ w->changes[i].hash ^ w->changes[i].lsn) * 0x9E3779B97F4A7C15ull;
    return hash;
}

static void draw_faults(engine *e) {
    static const uint32_t storage[] = {0, 400, 120, 40};
    static const uint32_t memory[] = {0, 0, 300, 60};
    e->steady = world_chance(&e->chance, 5);
    e->storage_one_in = e->steady ? 0 : storage[world_below(&e->chance, 4)];
    e->memory_one_in = memory[world_below(&e->chance, 4)];
    if (e->memory_one_in == 0) return; /* a counted allocator keeps recovery on one thread */
    e->w.allocator = (inv_allocator){.context = e, .alloc = fail_or_alloc, .free = give_back};
}

static bool live(engine *e) {
    world *w = &e->w;
    if (!open_again(e) || !world_stock_up(w)) return false;
    if (inv_store_flush(w->store) != INV_OK) return world_problem(w, "flush without a fault");
    e->faults = true;
    w->allow_busy = true;
    bool ok = true;
    for (uint32_t i = 0; ok && i < (e->steady ? STEADY_STEP_COUNT : STEP_COUNT); i++) {
        ok = step(e);
        if (ok && i % 25 == 24) ok = compare(e, "with faults");
    }
    return ok && get_well(e);
}

/* True when nothing is wrong; *out_print tells two runs of a seed apart. */
static bool run_seed(engine *e, campaign_report *report, uint64_t seed, uint64_t *out_print) {
    world *w = &e->w;
    memset(e, 0, sizeof *e);
    e->report = report;
    e->chance = seed * 0x94D049BB133111EBull + 5;
    inv_env *plain = inv_env_create();
    if (plain == NULL) abort();
    e->real = plain->allocator;
    world_init(w, seed);
    w->options.segment_bytes = world_chance(&e->chance, 3) ? 65536 : 16384;
    w->options.segments_ahead_max = 1 + world_below(&e->chance, 3);
    draw_faults(e);
    inv_memory_set_hook(w->memory, on_storage, e);
    bool ok = live(e);
    *out_print = fingerprint(w);
    report->commands += w->commands;
    report->acks += w->acks;
    report->refused += w->refused;
    report->replayed += w->replayed;
    report->expired += w->expired;
    world_abandon(w);
    if (e->bytes_out != 0) ok = world_problem(w, "memory was not given back");
    if (!ok) snprintf(report->problem, sizeof report->problem, "%s", w->problem);
    inv_memory_set_hook(w->memory, NULL, NULL);
    world_deinit(w);
    inv_env_destroy(plain);
    return ok;
}

static bool run_twice(engine *e, campaign_report *report, uint64_t seed) {
    uint64_t first = 0, second = 0;
    if (!run_seed(e, report, seed, &first)) return false;
    if (seed % TWICE_ONE_IN != 0) return true;
    if (!run_seed(e, report, seed, &second)) return false;
    if (first == second) return true;
    snprintf(report->problem, sizeof report->problem, "seed %" PRIu64 ": two runs differ", seed);
    return false;
}

void campaign_engine(const campaign_options *options, campaign_report *report) {
    double began = campaign_now_seconds();
    engine *e = calloc(1, sizeof *e);
    if (e == NULL) abort();
    memset(report, 0, sizeof *report);
    for (uint64_t i = 0; i < options->states; i++) {
        if (options->seconds > 0 && campaign_now_seconds() - began >= options->seconds) break;
        report->seed_next = options->seed + i + 1;
        report->scenarios++;
        if (run_twice(e, report, options->seed + i)) continue;
        report->seed_failed = options->seed + i;
        break;
    }
    free(e);
    report->seconds = campaign_now_seconds() - began;
}
