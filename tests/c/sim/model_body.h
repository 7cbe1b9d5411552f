/* SPDX-License-Identifier: Apache-2.0
 *
 * model_body.h: campaign 1, shared by sim_model.c (must pass) and planted_model.c (must fail with a
 * planted bug). Random commands against the naive oracle, in one thread, under a manual clock:
 * every code and figure equal, invariants and all rows and reservations compared at intervals, the
 * store closed (or its power cut) and opened again now and then. A share of the commands comes as
 * batches of one kind (inv_store_execute_batch), whose rows the same oracle judges.
 */
#ifndef MODEL_BODY_H
#define MODEL_BODY_H

#include "../../../src/invcore/store/inv_snapshot.h"
#include "../inv_test.h"
#include "../pack_always.h"
#include "compare.h"

#define BATCH_COUNT_MAX 64u
#define ROW_COUNT_MAX 100u /* of a batch by columns: more than three runs */
#define COLUMNS_PERCENT 25u
#define START_MS 1700000000000ull
#define GRACE_MS 1000u

typedef struct sim_run {
    gen g;
    model m;
    inv_env *env;
    inv_memory *memory; /* NULL in memory mode */
    inv_store *store;
    inv_options options;
    uint64_t seed;
    uint64_t clock_ms;
    uint64_t step;
    uint32_t ids_compared;
    uint64_t code_counts[70];
    char text[COMPARE_TEXT_BYTES];
} sim_run;

/* Big and reused: one batch with room for every line of every reply. */
static struct {
    model_command commands[BATCH_COUNT_MAX];
    model_reply expected[BATCH_COUNT_MAX];
    gen_spelled spelled[BATCH_COUNT_MAX];
    inv_command flat[BATCH_COUNT_MAX];
    inv_reply replies[BATCH_COUNT_MAX];
    inv_reply_line lines[BATCH_COUNT_MAX][MODEL_PLACE_COUNT_MAX];
} batch;

static bool run_failed(const sim_run *run, const char *what) {
    fprintf(stderr, "seed %" PRIu64 ", step %" PRIu64 ": %s: %s\n", run->seed, run->step, what,
            run->text);
    CHECK(!"the store agrees with the model");
    return false;
}

static bool run_result(sim_run *run, const char *what, inv_result result) {
    if (result == INV_OK) return true;
    snprintf(run->text, sizeof run->text, "%s", inv_result_name(result));
    return run_failed(run, what);
}

/* ---- driving the loops by hand --------------------------------------------------------------- */

/* One thread has nobody to wait for: log space is made and synced before and after every batch. */
static bool run_settle(sim_run *run) {
    bool more = true;
    if (run->memory == NULL) /* only packs */
        return run_result(run, "prepare", inv_store_prepare(run->store, &more));
    if (!run_result(run, "flush", inv_store_flush(run->store))) return false;
    while (more) {
        if (!run_result(run, "prepare", inv_store_prepare(run->store, &more))) return false;
        /* A snapshot goes on while others change what it has copied and what it has not. */
        bool copying = run->store->snapshot->phase != INV_SNAPSHOT_IDLE;
        if (copying && !run->store->wal.preparing && gen_chance(&run->g, 40)) break;
    }
    return true;
}

/* Moves the clock and lets everything due expire, in pieces of random size. */
static bool run_advance(sim_run *run, uint64_t ms) {
    run->clock_ms += ms;
    inv_env_set_clock(run->env, run->clock_ms);
    bool more = true;
    for (uint32_t i = 0; more; i++) {
        uint32_t count = gen_chance(&run->g, 20) ? 1 + gen_below(&run->g, 3) : 4096;
        if (!run_result(run, "advance", inv_store_advance(run->store, count, &more))) return false;
        if (!run_settle(run)) return false;
        if (i > 1000000) return run_result(run, "advance never ends", INV_BUSY);
    }
    inv_metrics metrics;
    inv_store_metrics(run->store, &metrics);
    if (metrics.now_unix_ms > run->clock_ms || metrics.now_unix_ms < run->m.now_ms) {
        snprintf(run->text, sizeof run->text,
                 "engine time %" PRIu64 ", clock %" PRIu64 ", before %" PRIu64,
                 metrics.now_unix_ms, run->clock_ms, run->m.now_ms);
        return run_failed(run, "engine time left its bounds");
    }
    model_advance(&run->m, metrics.now_unix_ms);
    return true;
}

static bool run_compare_all(sim_run *run) {
    if (!run_settle(run)) return false;
    const char *problem = gen_learn_numbers(&run->g, run->store);
    if (problem == NULL) problem = model_check(&run->m);
    if (problem != NULL) {
        snprintf(run->text, sizeof run->text, "%s", problem);
        return run_failed(run, "numbers or model");
    }
    if (!compare_check(&run->g, run->store, run->text)) return run_failed(run, "invariants");
    if (!compare_rows(&run->g, run->store, run->text)) return run_failed(run, "rows");
    return true;
}

static bool run_compare_ids(sim_run *run, uint32_t first) {
    if (compare_holds(&run->g, run->store, first, run->g.id_next + 4, run->text)) return true;
    return run_failed(run, "reservations");
}

/* ---- opening again --------------------------------------------------------------------------- */

static bool run_open(sim_run *run) {
    inv_error error;
    memset(&error, 0, sizeof error);
    inv_result result = inv_store_open(run->env, &run->options, &run->store, &error);
    if (result == INV_OK) return true;
    snprintf(run->text, sizeof run->text, "%s: %.200s", inv_result_name(result), error.message);
    return run_failed(run, "open");
}

/* Everything was flushed, so a proper close and a power cut must come to the same. */
static bool run_reopen(sim_run *run) {
    if (!run_settle(run)) return false;
    bool power_cut = gen_chance(&run->g, 40);
    if (!power_cut) {
        inv_error error;
        memset(&error, 0, sizeof error);
        if (!run_result(run, "close", inv_store_close(run->store, &error))) return false;
    }
    inv_store_destroy(run->store);
    run->store = NULL;
    if (power_cut) inv_memory_power_cut(run->memory, gen_random(&run->g));
    run->clock_ms += gen_below(&run->g, 3) * 1000; /* downtime */
    inv_env_set_clock(run->env, run->clock_ms);
    if (!run_open(run)) return false;
    inv_recovery recovery;
    inv_store_recovery(run->store, &recovery);
    if (recovery.created || recovery.clean_shutdown == power_cut) {
        snprintf(run->text, sizeof run->text, "created %d, clean_shutdown %d, power cut %d",
                 recovery.created, recovery.clean_shutdown, power_cut);
        return run_failed(run, "recovery");
    }
    gen_forget_numbers(&run->g);
    inv_metrics metrics;
    inv_store_metrics(run->store, &metrics);
    /* Engine time resumes at the last logged time: nothing that died may be alive again, nothing
     * that lived may be dead. */
    uint64_t before_ms = run->m.now_ms;
    run->m.now_ms = metrics.now_unix_ms;
    if (!run_compare_all(run) || !run_compare_ids(run, 0)) return false;
    if (metrics.now_unix_ms > before_ms) {
        snprintf(run->text, sizeof run->text, "%" PRIu64 " after %" PRIu64, metrics.now_unix_ms,
                 before_ms);
        return run_failed(run, "engine time after opening");
    }
    if (!run_advance(run, GRACE_MS) || !run_advance(run, 1)) return false;
    if (run->m.now_ms != run->clock_ms) {
        snprintf(run->text, sizeof run->text, "engine time %" PRIu64 ", clock %" PRIu64,
                 run->m.now_ms, run->clock_ms);
        return run_failed(run, "downtime is not counted after the grace");
    }
    return run_compare_all(run);
}

/* ---- batches --------------------------------------------------------------------------------- */

static void run_print(const sim_run *run, uint32_t index) {
    printf("seed %" PRIu64 ", step %" PRIu64 ", command %u of its batch: ", run->seed, run->step,
           index);
    model_print_command(&run->m, &batch.commands[index]);
    fflush(stdout);
}

static bool run_batch(sim_run *run, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        gen_command(&run->g, &batch.commands[i]);
        model_judge(&run->m, &batch.commands[i], &batch.expected[i]);
        gen_spell(&run->g, &batch.commands[i], &batch.spelled[i]);
        batch.flat[i] = batch.spelled[i].command;
        memset(&batch.replies[i], 0xA5, sizeof batch.replies[i]); /* nothing may be left unset */
        batch.replies[i].lines = batch.lines[i];
        batch.replies[i].lines_max = MODEL_PLACE_COUNT_MAX;
    }
    inv_result result = inv_store_execute(run->store, batch.flat, count, batch.replies);
    if (!run_result(run, "execute", result) || !run_settle(run)) return false;
    const char *problem = gen_learn_numbers(&run->g, run->store);
    if (problem != NULL) {
        snprintf(run->text, sizeof run->text, "%s", problem);
        return run_failed(run, "numbers");
    }
    for (uint32_t i = 0; i < count; i++) {
        const inv_reply *reply = &batch.replies[i];
        run->code_counts[(uint32_t)reply->code % 70]++;
        if (!compare_reply(&run->g, &batch.commands[i], &batch.expected[i], reply, run->text)) {
            run_print(run, i);
            return run_failed(run, "reply");
        }
        if (!run_result(run, "wait", inv_store_wait(run->store, reply->observed_lsn, 0)))
            return false;
    }
    return true;
}

/* ---- batches by columns ---------------------------------------------------------------------- */

static struct {
    model_command commands[ROW_COUNT_MAX];
    model_reply expected[ROW_COUNT_MAX];
    uint32_t skus[ROW_COUNT_MAX];
    uint16_t locations[ROW_COUNT_MAX];
    int64_t qtys[ROW_COUNT_MAX];
    uint8_t ids[ROW_COUNT_MAX][16];
    uint32_t ttls_ms[ROW_COUNT_MAX];
    uint8_t codes[ROW_COUNT_MAX];
} columns;

static void run_fill_row(sim_run *run, uint32_t row) {
    const model_command *command = &columns.commands[row];
    const model_line *line = &command->lines[0];
    bool reserve = command->kind == INV_CMD_RESERVE;
    if (command->id != MODEL_NONE) gen_raw_id(&run->g, command->id, columns.ids[row]);
    columns.ttls_ms[row] = (uint32_t)command->ttl_ms;
    columns.skus[row] = INV_NUMBER_NONE;
    columns.locations[row] = INV_LOCATION_NONE;
    columns.qtys[row] = line->qty;
    if (!reserve && command->id != MODEL_NONE) return;
    columns.skus[row] = run->g.sku_number[line->sku];
    if (line->location == MODEL_NONE) return;
    uint32_t number = run->g.location_number[line->location];
    columns.locations[row] = number == INV_NUMBER_NONE ? 0xFFFE : (uint16_t)number;
}

/* What a batch says of a row: a replayed reserve is one only while its promise stands. */
static int run_row_code(uint8_t kind, const model_reply *expected, int code) {
    if (kind != INV_CMD_RESERVE || code != INV_REPLAYED) return code;
    switch (expected->state) {
    case INV_STATE_EXPIRED:
        return INV_EXPIRED;
    case INV_STATE_RELEASED:
        return INV_ALREADY_RELEASED;
    case INV_STATE_CANCELLED:
        return INV_ALREADY_CANCELLED;
    default:
        return INV_REPLAYED;
    }
}

/* A read after a change is at least as new as the change it shows: nobody hears of it too soon. */
static bool run_see_row(sim_run *run, uint32_t row) {
    inv_reply_line lines[1];
    inv_reply reply;
    inv_stock_level level;
    memset(&reply, 0, sizeof reply);
    memset(&level, 0, sizeof level);
    reply.lines = lines;
    reply.lines_max = 1;
    inv_text seller = gen_seller(&run->g, columns.commands[row].id);
    inv_text id = {(const char *)columns.ids[row], 16};
    inv_result result = inv_store_reservation(run->store, seller, id, true, &reply);
    if (!run_result(run, "a reserved row", result)) return false;
    inv_line line = {.sku_number = columns.skus[row], .location_number = lines[0].location};
    result = inv_store_availability(run->store, seller, &line, &level);
    if (!run_result(run, "its stock", result)) return false;
    if (level.lsn >= reply.lsn) return true;
    snprintf(run->text, sizeof run->text, "row %u: changed at lsn %" PRIu64 ", read as of %" PRIu64,
             row, reply.lsn, level.lsn);
    return run_failed(run, "a read is older than what it shows");
}

static bool run_columns(sim_run *run, uint32_t count) {
    static const uint8_t kinds[] = {INV_CMD_RESERVE, INV_CMD_RESERVE, INV_CMD_RESERVE,
                                    INV_CMD_COMMIT,  INV_CMD_SHIP,    INV_CMD_RELEASE,
                                    INV_CMD_CANCEL,  INV_CMD_EXTEND,  INV_CMD_RECEIVE,
                                    INV_CMD_RECEIVE, INV_CMD_ISSUE,   INV_CMD_ADJUST};
    uint32_t seller = gen_below(&run->g, run->g.options.seller_count), last = ROW_COUNT_MAX;
    uint32_t usable = sizeof kinds - (gen_has_names(&run->g, seller) ? 0 : 4);
    uint8_t kind = kinds[gen_below(&run->g, usable)];
    bool by_id = kind != INV_CMD_RESERVE && kind <= INV_CMD_EXTEND;
    bool stock = kind != INV_CMD_RESERVE && !by_id;
    uint32_t account = by_id ? 0 : gen_below(&run->g, GEN_ACCOUNT_COUNT);
    for (uint32_t i = 0; i < count; i++) {
        gen_row(&run->g, kind, seller, account, &columns.commands[i]);
        model_judge(&run->m, &columns.commands[i], &columns.expected[i]);
        run_fill_row(run, i);
    }
    memset(columns.codes, 0xA5, sizeof columns.codes);
    inv_batch rows = {.kind = kind,
                      .count = count,
                      .seller = gen_seller(&run->g, seller),
                      .account = gen_account(account),
                      .skus = columns.skus,
                      .locations = columns.locations,
                      .qtys = columns.qtys,
                      .ids = stock ? NULL : columns.ids[0],
                      .ttls_ms = columns.ttls_ms};
    if (stock && gen_chance(&run->g, 50)) rows.reason = (inv_text){"count", 5};
    uint64_t lsn = 0;
    inv_error error;
    memset(&error, 0, sizeof error);
    inv_result result = inv_store_execute_batch(run->store, &rows, columns.codes, &lsn, &error);
    if (!run_result(run, "execute_batch", result) || !run_settle(run)) return false;
    for (uint32_t i = 0; i < count; i++) {
        const model_reply *expected = &columns.expected[i];
        int code = columns.codes[i];
        run->code_counts[(uint32_t)code % 70]++;
        if (kind == INV_CMD_RESERVE && code == INV_OK) last = i;
        if (code == run_row_code(kind, expected, expected->code)) continue;
        if (expected->code_other != 0 && code == run_row_code(kind, expected, expected->code_other))
            continue;
        printf("row %u: ", i);
        model_print_command(&run->m, &columns.commands[i]);
        fflush(stdout);
        snprintf(run->text, sizeof run->text, "row %u: expected %s, got %s", i,
                 inv_result_name(expected->code), inv_result_name(code));
        return run_failed(run, "row of a batch");
    }
    if (last < ROW_COUNT_MAX && !run_see_row(run, last)) return false;
    return run_result(run, "wait", inv_store_wait(run->store, lsn, 0));
}

static bool run_steps(sim_run *run, uint64_t step_count) {
    uint64_t compared = 0, reopened = 0;
    while (run->step < step_count) {
        bool by_columns = gen_chance(&run->g, COLUMNS_PERCENT);
        uint32_t most = by_columns ? ROW_COUNT_MAX : BATCH_COUNT_MAX;
        uint32_t count = gen_chance(&run->g, 30) ? 1 : 1 + gen_below(&run->g, most);
        if (!(by_columns ? run_columns(run, count) : run_batch(run, count))) return false;
        run->step += count;
        if (gen_chance(&run->g, 60) && !run_advance(run, gen_step_ms(&run->g))) return false;
        if (run->step - compared >= 1000) {
            uint32_t ids = run->g.id_next;
            compared = run->step;
            if (!run_compare_all(run)) return false;
            if (!run_compare_ids(run, ids > 600 ? ids - 600 : 0)) return false;
        }
        if (run->memory != NULL && run->step - reopened >= 3000) {
            reopened = run->step;
            if (!run_reopen(run)) return false;
        }
    }
    return run_compare_all(run) && run_compare_ids(run, 0);
}

static void run_options(sim_run *run, bool durable) {
    inv_options_init(&run->options);
    run->options.durability = durable ? INV_DURABLE : INV_MEMORY;
    run->options.segment_bytes = 256u * 1024;
    run->options.segments_ahead_max = 4;
    run->options.stripe_bits = gen_below(&run->g, 9);
    run->options.restart_grace_ms = GRACE_MS;
    run->options.snapshot_log_bytes = 8192ull << gen_below(&run->g, 8);
    run->options.id_retention_ms = 364ull * 24 * 3600 * 1000; /* the model never forgets */
}

/* Shapes differ from seed to seed: few rows under contention, many, one seller or two. */
static void run_shape(uint64_t seed, gen_options *out) {
    inv_test_rng rng = {seed * 31 + 7};
    memset(out, 0, sizeof *out);
    out->seller_count = 1 + (uint32_t)inv_test_rng_below(&rng, 2);
    out->sku_count = out->seller_count * (1 + (uint32_t)inv_test_rng_below(&rng, 20));
    out->location_count = 1 + (uint32_t)inv_test_rng_below(&rng, MODEL_LOCATION_COUNT_MAX);
    out->cart_lines_max = 2 + (uint32_t)inv_test_rng_below(&rng, 30);
    out->edges = true;
    out->long_ttls = inv_test_rng_below(&rng, 3) == 0;
}

static bool run_one(uint64_t seed, bool durable, uint64_t step_count, uint64_t *code_counts) {
    static sim_run run;
    gen_options shape;
    memset(&run, 0, sizeof run);
    run.seed = seed;
    run.clock_ms = START_MS;
    run_shape(seed, &shape);
    model_init(&run.m, shape.sku_count, shape.location_count, START_MS);
    gen_init(&run.g, &run.m, &shape, seed);
    run_options(&run, durable);
    run.env = inv_env_create();
    run.env->replay_part_entries = (uint32_t)(seed % 8); /* windows of all sizes; 0: the usual */
    run.env->digest_bytes = 512 << seed % 6;
    run.env->snapshot_stripes = 1 + (uint32_t)(seed % 16);
    if (durable) {
        run.memory = inv_memory_create();
        inv_env_use_memory(run.env, run.memory);
    }
    inv_env_use_manual_clock(run.env, START_MS);
    pack_always(&run.env->allocator);
    bool ok = run_open(&run) && run_settle(&run) && run_advance(&run, 0) &&
              run_steps(&run, step_count);
    if (run.store != NULL) {
        inv_error error;
        memset(&error, 0, sizeof error);
        inv_result closed = inv_store_close(run.store, &error);
        if (ok) CHECK_EQ(closed, INV_OK);
        inv_store_destroy(run.store);
    }
    for (uint32_t i = 0; i < 70; i++) code_counts[i] += run.code_counts[i];
    inv_env_destroy(run.env);
    if (run.memory != NULL) inv_memory_destroy(run.memory);
    model_clear(&run.m);
    return ok;
}

#endif
