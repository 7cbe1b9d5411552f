/* SPDX-License-Identifier: Apache-2.0
 *
 * race_body.h: the bodies of the races, shared by test_race.c (must pass) and planted_race.c (must
 * fail with a planted bug). Each returns NULL, or text that says what was found; a body that stops
 * making progress ends the process with RACE_EXIT_STALLED, since stuck threads can't be stopped.
 */
#ifndef RACE_BODY_H
#define RACE_BODY_H

#include "race_base.h"

/* ---- one unit, many takers ------------------------------------------------------------------- */

RACE_HELPER void race_act_unit(race_runner *runner, uint64_t round) {
    char id[16];
    race_id(round * RACE_THREAD_COUNT_MAX + runner->index, id);
    inv_line line = race_line(runner->rounds->sku, runner->index % 2 ? 0 : INV_LOCATION_NONE, 1);
    inv_command command = race_reserve(id, &line, 1, 3600000);
    runner->code = race_do(&runner->rounds->world, &command, NULL);
}

RACE_HELPER const char *race_one_unit(uint32_t thread_count, uint64_t round_count) {
    static race_rounds rounds;
    race_rounds_open(&rounds, thread_count, race_act_unit);
    race_world *w = &rounds.world;
    for (uint64_t round = 1; round <= round_count && !atomic_load(&w->problem.found); round++) {
        race_receive(w, rounds.sku, 0, 1);
        race_round(&rounds, round);
        uint32_t winners = race_count(&rounds, INV_OK);
        if (winners != 1 || race_count(&rounds, INV_INSUFFICIENT) != thread_count - 1)
            race_report(&w->problem, "round %" PRIu64 ": %u of %u threads got the one unit", round,
                        winners, thread_count);
        for (uint32_t i = 0; i < thread_count && winners == 1; i++) {
            char id[16];
            if (rounds.runners[i].code != INV_OK) continue;
            race_id(round * RACE_THREAD_COUNT_MAX + i, id);
            inv_command ship = race_by_id(INV_CMD_SHIP, id);
            race_must(w, &ship);
        }
    }
    return race_rounds_close(&rounds);
}

/* ---- one key, many senders: one effect ------------------------------------------------------- */

RACE_HELPER void race_act_same(race_runner *runner, uint64_t round) {
    race_world *w = &runner->rounds->world;
    char id[16];
    race_id(round, id);
    inv_line line = race_line(runner->rounds->sku, 0, 1);
    inv_command command = race_reserve(id, &line, 1, 3600000);
    if (round % 4 == 1) { /* the same receipt */
        command = race_stock(INV_CMD_RECEIVE, &line);
        command.op_id.bytes = id;
        command.op_id.length = 16;
        command.op_id_is_uuid = true;
    } else if (round % 4 == 3) { /* the id of the round before: who ends it? */
        race_id(round - 1, id);
        command = race_by_id(runner->index % 2 ? INV_CMD_RELEASE : INV_CMD_SHIP, id);
    } else if (round % 4 == 0) { /* a hold made before the round: everybody commits */
        command = race_by_id(INV_CMD_COMMIT, id);
    }
    runner->code = race_do(w, &command, NULL);
}

RACE_HELPER void race_same_judge(race_rounds *rounds, uint64_t round) {
    race_world *w = &rounds->world;
    uint32_t all = rounds->thread_count, ok = race_count(rounds, INV_OK);
    uint32_t again = race_count(rounds, INV_REPLAYED);
    if (round % 4 != 3) {
        if (ok != 1 || again != all - 1)
            race_report(&w->problem, "round %" PRIu64 ": %u effects, %u replays of %u", round, ok,
                        again, all);
        return;
    }
    /* Either a ship or a release won; its equals are replays, the others come too late. */
    uint32_t late = race_count(rounds, INV_ALREADY_SHIPPED);
    late += race_count(rounds, INV_ALREADY_RELEASED);
    if (ok != 1 || ok + again + late != all || late == 0)
        race_report(&w->problem, "round %" PRIu64 ": ship or release: %u, %u, %u of %u", round, ok,
                    again, late, all);
}

RACE_HELPER const char *race_same_key(uint32_t thread_count, uint64_t round_count) {
    static race_rounds rounds;
    race_rounds_open(&rounds, thread_count, race_act_same);
    race_world *w = &rounds.world;
    race_receive(w, rounds.sku, 0, 1000000);
    for (uint64_t round = 1; round <= round_count && !atomic_load(&w->problem.found); round++) {
        char id[16];
        race_id(round, id);
        inv_line line = race_line(rounds.sku, 0, 1);
        inv_command hold = race_reserve(id, &line, 1, 3600000);
        if (round % 4 == 0) race_must(w, &hold);
        race_round(&rounds, round);
        race_same_judge(&rounds, round);
        inv_command cancel = race_by_id(INV_CMD_CANCEL, id);
        if (round % 4 == 0) race_must(w, &cancel);
    }
    inv_stock_level level = race_level(w, rounds.sku, 0);
    if (level.reserved != 0)
        race_report(&w->problem, "%" PRId64 " units are still promised", level.reserved);
    return race_rounds_close(&rounds);
}

/* ---- one id, released before and while it is reserved ---------------------------------------- */

RACE_HELPER void race_act_tombstone(race_runner *runner, uint64_t round) {
    char id[16];
    race_id(round, id);
    inv_line line = race_line(runner->rounds->sku, 0, 1);
    inv_command command = race_by_id(INV_CMD_RELEASE, id);
    command.tombstone = true;
    if (runner->index % 2) command = race_reserve(id, &line, 1, 3600000);
    runner->code = race_do(&runner->rounds->world, &command, NULL);
}

RACE_HELPER const char *race_tombstones(uint32_t thread_count, uint64_t round_count) {
    static race_rounds rounds;
    race_rounds_open(&rounds, thread_count, race_act_tombstone);
    race_world *w = &rounds.world;
    race_receive(w, rounds.sku, 0, 1000000);
    for (uint64_t round = 1; round <= round_count && !atomic_load(&w->problem.found); round++) {
        race_round(&rounds, round);
        uint32_t known = race_count(&rounds, INV_OK) + race_count(&rounds, INV_REPLAYED) +
                         race_count(&rounds, INV_ALREADY_RELEASED);
        if (known != thread_count || race_count(&rounds, INV_OK) < 1 ||
            race_count(&rounds, INV_OK) > 2)
            race_report(&w->problem, "round %" PRIu64 ": %u effects, %u codes that may be", round,
                        race_count(&rounds, INV_OK), known);
    }
    inv_stock_level level = race_level(w, rounds.sku, 0);
    if (level.reserved != 0)
        race_report(&w->problem, "%" PRId64 " units are still promised", level.reserved);
    return race_rounds_close(&rounds);
}

/* ---- one op_id, many calls: one of them has it ----------------------------------------------- */

/* Every thread uses the op_id of the round for something of its own: a receipt, or a part
 * commit of its cart. */
RACE_HELPER void race_act_op(race_runner *runner, uint64_t round) {
    race_rounds *rounds = runner->rounds;
    char op_id[16], id[16];
    race_id(round | 1ull << 50, op_id);
    race_id(round * RACE_THREAD_COUNT_MAX + runner->index, id);
    inv_line lines[2] = {race_line(rounds->skus[2 * runner->index], 0, 1),
                         race_line(rounds->skus[2 * runner->index + 1], 0, 1)};
    inv_command command = race_stock(INV_CMD_RECEIVE, &lines[0]);
    if (round % 2 == 0) {
        command = race_by_id(INV_CMD_COMMIT, id);
        command.partial = command.keep_rest = true;
        command.lines = lines;
        command.line_count = 2;
    }
    command.op_id.bytes = op_id;
    command.op_id.length = 16;
    command.op_id_is_uuid = true;
    runner->code = race_do(&rounds->world, &command, NULL);
}

RACE_HELPER const char *race_one_op(uint32_t thread_count, uint64_t round_count) {
    static race_rounds rounds;
    race_rounds_open(&rounds, thread_count, race_act_op);
    race_world *w = &rounds.world;
    for (uint32_t i = 0; i < 2 * thread_count; i++) race_receive(w, rounds.skus[i], 0, 1000);
    for (uint64_t round = 1; round <= round_count && !atomic_load(&w->problem.found); round++) {
        for (uint32_t step = 0; step < 2; step++) { /* the carts, before and after */
            for (uint32_t i = 0; i < thread_count && round % 2 == 0; i++) {
                char id[16];
                race_id(round * RACE_THREAD_COUNT_MAX + i, id);
                inv_line lines[2] = {race_line(rounds.skus[2 * i], 0, 1),
                                     race_line(rounds.skus[2 * i + 1], 0, 1)};
                inv_command hold = race_reserve(id, lines, 2, 3600000);
                inv_command cancel = race_by_id(INV_CMD_CANCEL, id);
                race_must(w, step == 0 ? &hold : &cancel);
            }
            if (step == 0) race_round(&rounds, round);
        }
        uint32_t ok = race_count(&rounds, INV_OK);
        if (ok != 1 || race_count(&rounds, INV_IDEMPOTENCY_MISMATCH) != thread_count - 1)
            race_report(&w->problem, "round %" PRIu64 ": %u of %u calls had the op_id", round, ok,
                        thread_count);
    }
    return race_rounds_close(&rounds);
}

/* ---- everything at once ---------------------------------------------------------------------- */

#define RACE_SKU_COUNT 50u
#define RACE_PLACE_COUNT 4u
#define RACE_RING_COUNT 2048u
#define RACE_RUN_COUNT_MAX 16u
#define RACE_ROW_COUNT_MAX 80u /* of a batch: more than two runs */
#define RACE_CART_LINES_MAX 8u

typedef struct race_stress race_stress;

typedef struct race_worker {
    race_stress *stress;
    uint32_t index;
    pthread_t thread;
    inv_test_rng rng;
    uint64_t ids;       /* made so far by this thread */
    int64_t came, went; /* units received; shipped and issued */
    uint64_t codes[70];
    /* One run of commands with all it points at. */
    inv_command commands[RACE_RUN_COUNT_MAX];
    inv_reply replies[RACE_RUN_COUNT_MAX];
    inv_line lines[RACE_RUN_COUNT_MAX][RACE_CART_LINES_MAX];
    inv_reply_line reply_lines[RACE_RUN_COUNT_MAX][64];
    char ids_bytes[RACE_RUN_COUNT_MAX][16];
    /* One batch. */
    uint32_t row_skus[RACE_ROW_COUNT_MAX];
    uint16_t row_places[RACE_ROW_COUNT_MAX];
    int64_t row_qtys[RACE_ROW_COUNT_MAX];
    uint32_t row_ttls_ms[RACE_ROW_COUNT_MAX];
    uint8_t row_codes[RACE_ROW_COUNT_MAX];
    char row_ids[RACE_ROW_COUNT_MAX][16];
} race_worker;

struct race_stress {
    race_world world;
    uint32_t skus[RACE_SKU_COUNT];
    uint32_t places[RACE_PLACE_COUNT];
    uint32_t thread_count;
    uint64_t slice_count;      /* stops at which everything is compared */
    uint64_t slice_commands;   /* per thread, between two stops */
    pthread_barrier_t barrier; /* threads and the judge */
    _Atomic uint64_t ring[RACE_RING_COUNT]; /* numbers of ids anybody may act on */
    race_worker workers[RACE_THREAD_COUNT_MAX];
};

RACE_HELPER void race_make_reserve(race_worker *worker, uint32_t at) {
    race_stress *stress = worker->stress;
    inv_test_rng *rng = &worker->rng;
    uint64_t number = ((uint64_t)worker->index + 1) << 40 | worker->ids++;
    uint32_t count = 1;
    if (inv_test_rng_below(rng, 3) == 0)
        count += (uint32_t)inv_test_rng_below(rng, RACE_CART_LINES_MAX);
    for (uint32_t i = 0; i < count && i < RACE_CART_LINES_MAX; i++) {
        uint64_t place = inv_test_rng_below(rng, RACE_PLACE_COUNT * 2);
        uint16_t location = place < RACE_PLACE_COUNT ? (uint16_t)stress->places[place]
                                                     : (uint16_t)INV_LOCATION_NONE;
        worker->lines[at][i] = race_line(stress->skus[inv_test_rng_below(rng, RACE_SKU_COUNT)],
                                         location, 1 + (int64_t)inv_test_rng_below(rng, 3));
    }
    if (count > RACE_CART_LINES_MAX) count = RACE_CART_LINES_MAX;
    race_id(number, worker->ids_bytes[at]);
    worker->commands[at] = race_reserve(worker->ids_bytes[at], worker->lines[at], count,
                                        1 + inv_test_rng_below(rng, 200));
    atomic_store_explicit(&stress->ring[inv_test_rng_below(rng, RACE_RING_COUNT)], number,
                          memory_order_relaxed);
}

RACE_HELPER void race_make_later(race_worker *worker, uint32_t at) {
    static const uint8_t kinds[] = {INV_CMD_COMMIT, INV_CMD_COMMIT, INV_CMD_SHIP, INV_CMD_SHIP,
                                    INV_CMD_RELEASE, INV_CMD_CANCEL, INV_CMD_EXTEND};
    inv_test_rng *rng = &worker->rng;
    uint64_t slot = inv_test_rng_below(rng, RACE_RING_COUNT);
    uint64_t number = atomic_load_explicit(&worker->stress->ring[slot], memory_order_relaxed);
    race_id(number, worker->ids_bytes[at]);
    worker->commands[at] =
        race_by_id(kinds[inv_test_rng_below(rng, sizeof kinds)], worker->ids_bytes[at]);
    worker->commands[at].ttl_ms = 1 + inv_test_rng_below(rng, 200);
    worker->commands[at].tombstone =
        worker->commands[at].kind == INV_CMD_RELEASE && inv_test_rng_below(rng, 4) == 0;
}

/* Units in: every line of stock comes through here, so that the judge can count it. */
RACE_HELPER void race_make_stock(race_worker *worker, uint32_t at) {
    inv_test_rng *rng = &worker->rng;
    uint32_t sku = worker->stress->skus[inv_test_rng_below(rng, RACE_SKU_COUNT)];
    uint32_t place = worker->stress->places[inv_test_rng_below(rng, RACE_PLACE_COUNT)];
    bool issue = inv_test_rng_below(rng, 3) == 0;
    worker->lines[at][0] =
        race_line(sku, (uint16_t)place, 1 + (int64_t)inv_test_rng_below(rng, issue ? 2 : 8));
    worker->commands[at] =
        race_stock(issue ? INV_CMD_ISSUE : INV_CMD_RECEIVE, &worker->lines[at][0]);
}

RACE_HELPER void race_book(race_worker *worker, uint32_t at) {
    const inv_command *command = &worker->commands[at];
    const inv_reply *reply = &worker->replies[at];
    if (reply->code >= 0 && reply->code < 70) worker->codes[reply->code]++;
    if (reply->code != INV_OK) return;
    if (command->kind == INV_CMD_RECEIVE) worker->came += command->lines[0].qty;
    if (command->kind == INV_CMD_ISSUE) worker->went += command->lines[0].qty;
    if (command->kind != INV_CMD_SHIP) return;
    if (reply->line_count > reply->lines_max)
        race_report(&worker->stress->world.problem, "%u lines shipped", reply->line_count);
    for (uint32_t i = 0; i < reply->line_count && i < reply->lines_max; i++)
        worker->went += reply->lines[i].shipped;
}

/* A row of a batch: a new id or one that anybody may act on, the same one twice at times. */
RACE_HELPER void race_make_row(race_worker *worker, uint8_t kind, uint32_t at) {
    race_stress *stress = worker->stress;
    inv_test_rng *rng = &worker->rng;
    uint64_t place = inv_test_rng_below(rng, RACE_PLACE_COUNT * 2);
    uint64_t slot = inv_test_rng_below(rng, RACE_RING_COUNT);
    uint64_t number = atomic_load_explicit(&stress->ring[slot], memory_order_relaxed);
    worker->row_skus[at] = stress->skus[inv_test_rng_below(rng, RACE_SKU_COUNT)];
    worker->row_places[at] = place < RACE_PLACE_COUNT ? (uint16_t)stress->places[place]
                                                      : (uint16_t)INV_LOCATION_NONE;
    worker->row_qtys[at] = 1 + (int64_t)inv_test_rng_below(rng, 3);
    worker->row_ttls_ms[at] = 1 + (uint32_t)inv_test_rng_below(rng, 200);
    if (kind == INV_CMD_RESERVE && inv_test_rng_below(rng, 10) > 0) {
        number = ((uint64_t)worker->index + 1) << 40 | worker->ids++;
        atomic_store_explicit(&stress->ring[slot], number, memory_order_relaxed);
    }
    race_id(number, worker->row_ids[at]);
    if (at > 0 && inv_test_rng_below(rng, 20) == 0)
        memcpy(worker->row_ids[at], worker->row_ids[at - 1], 16);
}

/* Units of a reservation that only whole calls have touched, once it is shipped: all it had. */
RACE_HELPER void race_book_row(race_worker *worker, uint8_t kind, uint32_t at) {
    race_stress *stress = worker->stress;
    inv_reply reply;
    memset(&reply, 0, sizeof reply);
    worker->codes[worker->row_codes[at] % 70]++;
    if (worker->row_codes[at] != INV_OK) return;
    if (kind == INV_CMD_RECEIVE) worker->came += worker->row_qtys[at];
    if (kind == INV_CMD_ISSUE) worker->went += worker->row_qtys[at];
    if (kind != INV_CMD_SHIP) return;
    inv_text id = {worker->row_ids[at], 16}, no_seller = {NULL, 0};
    inv_result found = inv_store_reservation(stress->world.store, no_seller, id, true, &reply);
    if (found != INV_OK || reply.state != INV_STATE_SHIPPED)
        race_report(&stress->world.problem, "a shipped row: %s, state %u", inv_result_name(found),
                    reply.state);
    worker->went += (int64_t)reply.units;
}

RACE_HELPER uint32_t race_batch(race_worker *worker) {
    static const uint8_t kinds[] = {INV_CMD_RESERVE, INV_CMD_RESERVE, INV_CMD_RESERVE,
                                    INV_CMD_COMMIT,  INV_CMD_SHIP,    INV_CMD_RELEASE,
                                    INV_CMD_CANCEL,  INV_CMD_RECEIVE, INV_CMD_ISSUE};
    race_world *w = &worker->stress->world;
    uint32_t count = 1 + (uint32_t)inv_test_rng_below(&worker->rng, RACE_ROW_COUNT_MAX);
    inv_batch batch;
    inv_error error;
    uint64_t lsn = 0;
    memset(&batch, 0, sizeof batch);
    memset(&error, 0, sizeof error);
    batch.kind = kinds[inv_test_rng_below(&worker->rng, sizeof kinds)];
    batch.count = count;
    batch.skus = worker->row_skus;
    batch.locations = worker->row_places;
    batch.qtys = worker->row_qtys;
    batch.ttls_ms = worker->row_ttls_ms;
    bool stock = batch.kind == INV_CMD_RECEIVE || batch.kind == INV_CMD_ISSUE;
    batch.ids = stock ? NULL : (const uint8_t *)worker->row_ids;
    for (uint32_t i = 0; i < count; i++) race_make_row(worker, batch.kind, i);
    inv_result result = inv_store_execute_batch(w->store, &batch, worker->row_codes, &lsn, &error);
    if (result != INV_OK) race_report(&w->problem, "batch: %s", inv_result_name(result));
    for (uint32_t i = 0; i < count; i++) race_book_row(worker, batch.kind, i);
    return count;
}

RACE_HELPER uint32_t race_singles(race_worker *worker) {
    race_stress *stress = worker->stress;
    uint32_t count = 1 + (uint32_t)inv_test_rng_below(&worker->rng, RACE_RUN_COUNT_MAX);
    memset(worker->replies, 0, count * sizeof worker->replies[0]);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t die = inv_test_rng_below(&worker->rng, 100);
        if (die < 45) race_make_reserve(worker, i);
        else if (die < 88) race_make_later(worker, i);
        else race_make_stock(worker, i);
        worker->replies[i].lines = worker->reply_lines[i];
        worker->replies[i].lines_max = 64;
    }
    inv_result result =
        inv_store_execute(stress->world.store, worker->commands, count, worker->replies);
    if (result != INV_OK)
        race_report(&stress->world.problem, "execute: %s", inv_result_name(result));
    for (uint32_t i = 0; i < count; i++) race_book(worker, i);
    return count;
}

RACE_HELPER void *race_work(void *argument) {
    race_worker *worker = argument;
    race_stress *stress = worker->stress;
    for (uint64_t slice = 0; slice < stress->slice_count; slice++) {
        for (uint64_t done = 0; done < stress->slice_commands;) {
            bool batch = inv_test_rng_below(&worker->rng, 8) == 0; /* about a third of the rows */
            uint32_t count = batch ? race_batch(worker) : race_singles(worker);
            atomic_fetch_add_explicit(&stress->world.progress, count, memory_order_relaxed);
            done += count;
            if (atomic_load(&stress->world.problem.found)) break;
        }
        pthread_barrier_wait(&stress->barrier);
        pthread_barrier_wait(&stress->barrier);
    }
    return NULL;
}

/* At a stop: nothing lost, nothing made up, nothing promised twice. Expiry goes on meanwhile. */
RACE_HELPER void race_judge(race_stress *stress) {
    race_world *w = &stress->world;
    inv_check_report report;
    memset(&report, 0, sizeof report);
    inv_result checked = inv_store_check(w->store, &report);
    if (checked != INV_OK || !report.ok) {
        race_report(&w->problem, "check: %s: %.180s", inv_result_name(checked), report.problem);
        return;
    }
    int64_t expected = 0;
    for (uint32_t i = 0; i < stress->thread_count; i++)
        expected += stress->workers[i].came - stress->workers[i].went;
    if (report.on_hand != expected)
        race_report(&w->problem, "on_hand %" PRId64 ", received less gone %" PRId64,
                    report.on_hand, expected);
    for (uint32_t i = 0; i < RACE_SKU_COUNT; i++) {
        for (uint32_t j = 0; j < RACE_PLACE_COUNT; j++) {
            inv_stock_level level =
                race_level(w, stress->skus[i], (uint16_t)stress->places[j]);
            if (level.reserved > level.on_hand || level.on_hand < 0 || level.short_qty != 0)
                race_report(&w->problem, "sku %u: %" PRId64 " promised of %" PRId64, i,
                            level.reserved, level.on_hand);
        }
    }
    atomic_fetch_add_explicit(&w->progress, 1, memory_order_relaxed);
}

/* Short deadlines: soon after the last command nothing may be held any more. */
RACE_HELPER void race_await_expiry(race_world *w) {
    inv_check_report report;
    uint64_t until_ms = race_now_ms() + 10000;
    do {
        race_sleep_ms(20);
        atomic_fetch_add_explicit(&w->progress, 1, memory_order_relaxed);
        memset(&report, 0, sizeof report);
        inv_result checked = inv_store_check(w->store, &report);
        if (checked != INV_OK) race_report(&w->problem, "check: %s", inv_result_name(checked));
    } while ((report.held > 0 || report.timers > 0) && race_now_ms() < until_ms);
    if (report.held != 0 || report.timers != 0)
        race_report(&w->problem, "%" PRId64 " units held after their deadline", report.held);
}

RACE_HELPER void race_print_codes(const race_stress *stress) {
    printf("codes:");
    for (uint32_t code = 0; code < 70; code++) {
        uint64_t count = 0;
        for (uint32_t i = 0; i < stress->thread_count; i++)
            count += stress->workers[i].codes[code];
        if (count > 0) printf(" %s %" PRIu64, inv_result_name((int)code), count);
    }
    printf("\n");
}

RACE_HELPER const char *race_everything(bool durable, uint32_t thread_count,
                                        uint64_t commands_a_thread) {
    static race_stress stress;
    memset(&stress, 0, sizeof stress);
    race_open(&stress.world, durable, durable ? 6 : 4);
    race_watch_start(&stress.world, 10000);
    race_names(&stress.world, INV_NAME_SKU, RACE_SKU_COUNT, stress.skus);
    race_names(&stress.world, INV_NAME_LOCATION, RACE_PLACE_COUNT, stress.places);
    stress.thread_count = thread_count;
    stress.slice_count = 5;
    stress.slice_commands = commands_a_thread / stress.slice_count + 1;
    pthread_barrier_init(&stress.barrier, NULL, thread_count + 1);
    for (uint32_t i = 0; i < thread_count; i++) {
        stress.workers[i].stress = &stress;
        stress.workers[i].index = i;
        stress.workers[i].rng = inv_test_rng_of(100 + i);
        race_spawn(&stress.workers[i].thread, race_work, &stress.workers[i]);
    }
    for (uint64_t slice = 0; slice < stress.slice_count; slice++) {
        pthread_barrier_wait(&stress.barrier);
        race_judge(&stress);
        pthread_barrier_wait(&stress.barrier);
    }
    for (uint32_t i = 0; i < thread_count; i++) pthread_join(stress.workers[i].thread, NULL);
    if (!atomic_load(&stress.world.problem.found)) race_await_expiry(&stress.world);
    race_watch_stop(&stress.world);
    pthread_barrier_destroy(&stress.barrier);
    race_print_codes(&stress);
    return race_close(&stress.world);
}

/* ---- the shortest ttls ----------------------------------------------------------------------- */

typedef struct race_blinker {
    race_world *world;
    uint32_t sku, index;
    uint64_t count;
    pthread_t thread;
} race_blinker;

/* Holds that are over almost before they are made: time moves on while they are being made. */
RACE_HELPER void *race_blink(void *argument) {
    race_blinker *blinker = argument;
    race_world *w = blinker->world;
    for (uint64_t i = 0; i < blinker->count && !atomic_load(&w->problem.found); i++) {
        char id[16];
        race_id(((uint64_t)blinker->index + 1) << 40 | i, id);
        inv_line line = race_line(blinker->sku, 0, 1);
        inv_command reserve = race_reserve(id, &line, 1, 1);
        inv_command extend = race_by_id(INV_CMD_EXTEND, id);
        extend.ttl_ms = 1;
        extend.shorten = true;
        int code = race_do(w, &reserve, NULL);
        if (code != INV_OK && code != INV_INSUFFICIENT)
            race_report(&w->problem, "reserve: %s", inv_result_name(code));
        code = race_do(w, &extend, NULL);
        if (code != INV_OK && code != INV_EXPIRED && code != INV_UNKNOWN_RESERVATION)
            race_report(&w->problem, "extend: %s", inv_result_name(code));
    }
    return NULL;
}

RACE_HELPER const char *race_short_ttls(uint32_t thread_count, uint64_t count) {
    static race_world world;
    race_blinker blinkers[RACE_THREAD_COUNT_MAX];
    uint32_t sku, location;
    race_open(&world, false, 2);
    race_watch_start(&world, 10000);
    race_names(&world, INV_NAME_SKU, 1, &sku);
    race_names(&world, INV_NAME_LOCATION, 1, &location);
    race_receive(&world, sku, 0, 1000000);
    for (uint32_t i = 0; i < thread_count; i++) {
        blinkers[i] = (race_blinker){.world = &world, .sku = sku, .index = i, .count = count};
        race_spawn(&blinkers[i].thread, race_blink, &blinkers[i]);
    }
    for (uint32_t i = 0; i < thread_count; i++) pthread_join(blinkers[i].thread, NULL);
    race_await_expiry(&world);
    race_watch_stop(&world);
    return race_close(&world);
}

/* ---- carts in adverse orders ----------------------------------------------------------------- */

#define RACE_CART_SKU_COUNT 320u
#define RACE_BIG_CART_LINES_MAX 256u

typedef struct race_carts race_carts;

typedef struct race_carter {
    race_carts *carts;
    uint32_t index;
    pthread_t thread;
    uint64_t cart_count;
    uint64_t taken, refused;
    inv_line lines[RACE_BIG_CART_LINES_MAX];
} race_carter;

struct race_carts {
    race_world world;
    uint32_t skus[RACE_CART_SKU_COUNT];
    uint32_t place;
    race_carter carters[RACE_THREAD_COUNT_MAX];
};

/* Overlapping windows of the SKUs: upwards, downwards or shuffled. */
RACE_HELPER uint32_t race_fill_cart(race_carter *carter, inv_test_rng *rng) {
    const race_carts *carts = carter->carts;
    uint32_t count = 2 + (uint32_t)inv_test_rng_below(rng, RACE_BIG_CART_LINES_MAX - 1);
    if (inv_test_rng_below(rng, 2) == 0) count = 2 + (uint32_t)inv_test_rng_below(rng, 6);
    uint64_t first = inv_test_rng_below(rng, RACE_CART_SKU_COUNT);
    uint64_t order = inv_test_rng_below(rng, 3);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t at = first + (order == 1 ? count - 1 - i : i);
        carter->lines[i] = race_line(carts->skus[at % RACE_CART_SKU_COUNT],
                                     (uint16_t)carts->place, 1);
    }
    for (uint32_t i = count - 1; order == 2 && i > 0; i--) {
        uint64_t j = inv_test_rng_below(rng, i + 1);
        inv_line swapped = carter->lines[i];
        carter->lines[i] = carter->lines[j];
        carter->lines[j] = swapped;
    }
    return count;
}

RACE_HELPER void *race_cart_loop(void *argument) {
    race_carter *carter = argument;
    race_world *w = &carter->carts->world;
    inv_test_rng rng = inv_test_rng_of(500 + carter->index);
    for (uint64_t i = 0; i < carter->cart_count && !atomic_load(&w->problem.found); i++) {
        char id[16];
        race_id(((uint64_t)carter->index + 1) << 40 | i, id);
        uint32_t count = race_fill_cart(carter, &rng);
        inv_command reserve = race_reserve(id, carter->lines, count, 3600000);
        int code = race_do(w, &reserve, NULL);
        inv_command commit = race_by_id(INV_CMD_COMMIT, id);
        inv_command end =
            race_by_id(inv_test_rng_below(&rng, 2) ? INV_CMD_CANCEL : INV_CMD_RELEASE, id);
        if (code == INV_INSUFFICIENT) {
            carter->refused++;
            code = race_do(w, &end, NULL); /* a refused cart leaves nothing behind */
            if (code != INV_UNKNOWN_RESERVATION)
                race_report(&w->problem, "a refused cart: %s", inv_result_name(code));
            continue;
        }
        carter->taken++;
        if (code != INV_OK) race_report(&w->problem, "cart: %s", inv_result_name(code));
        if (end.kind == INV_CMD_CANCEL) race_must(w, &commit);
        race_must(w, &end);
    }
    return NULL;
}

/* stall_ms: without a call by anybody for so long the threads are in a deadlock. */
RACE_HELPER const char *race_adverse_carts(uint32_t thread_count, uint64_t cart_count,
                                           uint64_t stall_ms) {
    static race_carts carts;
    memset(&carts, 0, sizeof carts);
    race_open(&carts.world, false, 8);
    race_watch_start(&carts.world, stall_ms);
    race_names(&carts.world, INV_NAME_SKU, RACE_CART_SKU_COUNT, carts.skus);
    race_names(&carts.world, INV_NAME_LOCATION, 1, &carts.place);
    for (uint32_t i = 0; i < RACE_CART_SKU_COUNT; i++) /* too few for all: some carts fail late */
        race_receive(&carts.world, carts.skus[i], (uint16_t)carts.place, 2 + i % 3);
    for (uint32_t i = 0; i < thread_count; i++) {
        carts.carters[i].carts = &carts;
        carts.carters[i].index = i;
        carts.carters[i].cart_count = cart_count / thread_count;
        race_spawn(&carts.carters[i].thread, race_cart_loop, &carts.carters[i]);
    }
    uint64_t taken = 0, refused = 0;
    for (uint32_t i = 0; i < thread_count; i++) {
        pthread_join(carts.carters[i].thread, NULL);
        taken += carts.carters[i].taken;
        refused += carts.carters[i].refused;
    }
    race_watch_stop(&carts.world);
    for (uint32_t i = 0; i < RACE_CART_SKU_COUNT; i++) {
        inv_stock_level level = race_level(&carts.world, carts.skus[i], (uint16_t)carts.place);
        if (level.reserved != 0 || level.on_hand != 2 + i % 3)
            race_report(&carts.world.problem, "sku %u: a part of a cart was left behind", i);
    }
    printf("carts: %" PRIu64 " taken, %" PRIu64 " refused, longest pause %" PRIu64 " ms\n", taken,
           refused, atomic_load(&carts.world.gap_ms_max));
    return race_close(&carts.world);
}

/* ---- readers beside writers ------------------------------------------------------------------ */

#define RACE_PAIR_UNITS 20000

typedef struct race_pairs {
    race_world world;
    uint32_t sku;
    uint32_t places[2];
    uint64_t laps; /* of the writer */
    _Atomic bool over;
    _Atomic uint64_t reads;
} race_pairs;

/* Moves a constant sum of units from held to allocated, at both places at once. */
RACE_HELPER void *race_pair_write(void *argument) {
    race_pairs *pairs = argument;
    race_world *w = &pairs->world;
    for (uint64_t lap = 1; lap <= pairs->laps && !atomic_load(&w->problem.found); lap++) {
        char id[16];
        race_id(lap, id);
        inv_line whole[2], part[2];
        for (uint32_t i = 0; i < 2; i++) {
            whole[i] = race_line(pairs->sku, (uint16_t)pairs->places[i], RACE_PAIR_UNITS);
            part[i] = race_line(pairs->sku, (uint16_t)pairs->places[i], 7);
            race_receive(w, pairs->sku, (uint16_t)pairs->places[i], RACE_PAIR_UNITS);
        }
        inv_command reserve = race_reserve(id, whole, 2, 3600000);
        race_must(w, &reserve);
        inv_command commit = race_by_id(INV_CMD_COMMIT, id);
        commit.partial = commit.keep_rest = true;
        commit.lines = part;
        commit.line_count = 2;
        for (int64_t left = RACE_PAIR_UNITS; left >= 7 && !atomic_load(&w->problem.found);
             left -= 7)
            race_must(w, &commit);
        inv_command ship = race_by_id(INV_CMD_SHIP, id);
        race_must(w, &ship);
    }
    return NULL;
}

RACE_HELPER bool race_pair_row_ok(const inv_stock_level *level) {
    bool whole = level->reserved == 0 || level->reserved == RACE_PAIR_UNITS;
    return whole && level->reserved == level->held + level->allocated && level->held >= 0 &&
           level->allocated >= 0 && level->reserved <= level->on_hand &&
           level->available == level->on_hand - level->reserved && level->short_qty == 0 &&
           (level->on_hand == 0 || level->on_hand == RACE_PAIR_UNITS);
}

/* All changes of this store have one writer, so one lsn has one set of figures. */
RACE_HELPER bool race_same_figures(const inv_stock_level *a, const inv_stock_level *b) {
    return a->lsn != b->lsn || (a->on_hand == b->on_hand && a->held == b->held &&
                                a->allocated == b->allocated);
}

RACE_HELPER void *race_row_read(void *argument) {
    race_pairs *pairs = argument;
    inv_stock_level last[2];
    uint64_t lsn = 0, reads = 0;
    memset(last, 0, sizeof last);
    while (!atomic_load(&pairs->over) && !atomic_load(&pairs->world.problem.found)) {
        /* By name: such a read takes no lock when it can do without. */
        inv_line line = race_line(0, 0, 0);
        line.sku = (inv_text){"S0", 2};
        line.location = (inv_text){reads % 2 ? "L1" : "L0", 2};
        inv_stock_level level = race_read(&pairs->world, &line);
        if (!race_pair_row_ok(&level))
            race_report(&pairs->world.problem,
                        "torn read: on_hand %" PRId64 " held %" PRId64 " allocated %" PRId64,
                        level.on_hand, level.held, level.allocated);
        if (!race_same_figures(&level, &last[reads % 2]))
            race_report(&pairs->world.problem, "torn read: two figures at lsn %" PRIu64,
                        level.lsn);
        if (level.lsn < lsn) race_report(&pairs->world.problem, "lsn ran backwards");
        last[reads++ % 2] = level;
        lsn = level.lsn;
    }
    atomic_fetch_add(&pairs->reads, reads);
    return NULL;
}

RACE_HELPER void *race_sku_read(void *argument) {
    race_pairs *pairs = argument;
    inv_text no_seller = {NULL, 0};
    uint64_t reads = 0;
    while (!atomic_load(&pairs->over) && !atomic_load(&pairs->world.problem.found)) {
        inv_line line = race_line(pairs->sku, INV_LOCATION_NONE, 0);
        inv_stock_level levels[2], total;
        uint32_t count = 0;
        memset(levels, 0, sizeof levels);
        memset(&total, 0, sizeof total);
        inv_result result = inv_store_availability_sku(pairs->world.store, no_seller, &line,
                                                       levels, 2, &count, &total);
        reads++;
        if (result != INV_OK || count != 2 || !race_pair_row_ok(&levels[0]) ||
            !race_pair_row_ok(&levels[1]) || levels[0].held != levels[1].held ||
            levels[0].allocated != levels[1].allocated ||
            total.on_hand != levels[0].on_hand + levels[1].on_hand)
            race_report(&pairs->world.problem,
                        "two rows at one lsn: held %" PRId64 " and %" PRId64, levels[0].held,
                        levels[1].held);
    }
    atomic_fetch_add(&pairs->reads, reads);
    return NULL;
}

RACE_HELPER const char *race_readers(uint64_t laps) {
    static race_pairs pairs;
    memset(&pairs, 0, sizeof pairs);
    race_open(&pairs.world, false, 4);
    race_watch_start(&pairs.world, 10000);
    race_names(&pairs.world, INV_NAME_SKU, 1, &pairs.sku);
    race_names(&pairs.world, INV_NAME_LOCATION, 2, pairs.places);
    for (uint32_t i = 0; i < 2; i++) { /* both rows exist from the start */
        inv_line line = race_line(pairs.sku, (uint16_t)pairs.places[i], RACE_PAIR_UNITS);
        race_receive(&pairs.world, pairs.sku, (uint16_t)pairs.places[i], RACE_PAIR_UNITS);
        inv_command issue = race_stock(INV_CMD_ISSUE, &line);
        race_must(&pairs.world, &issue);
    }
    pairs.laps = laps;
    pthread_t writer, readers[3];
    race_spawn(&writer, race_pair_write, &pairs);
    race_spawn(&readers[0], race_row_read, &pairs);
    race_spawn(&readers[1], race_row_read, &pairs);
    race_spawn(&readers[2], race_sku_read, &pairs);
    pthread_join(writer, NULL);
    atomic_store(&pairs.over, true);
    for (uint32_t i = 0; i < 3; i++) pthread_join(readers[i], NULL);
    race_watch_stop(&pairs.world);
    printf("readers: %" PRIu64 " reads\n", atomic_load(&pairs.reads));
    return race_close(&pairs.world);
}

#endif
