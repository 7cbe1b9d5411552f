/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_hot.c: what does one SKU that everybody wants cost, against load that spreads? Memory mode.
 * One JSON line a row:
 *
 *   row 9    two threads, all their reserves and ends on one SKU, against the same two threads on
 *            all SKUs: ratio of the rates
 *   row 17   one thread: refusals of a sold-out SKU that has --reservations live holds, against the
 *            steady state of row 1 (reserves with the ends of older ones): ratio of the rates
 *
 * The sides take turns in one store, PAIRS times each in --seconds, so that a machine that gets
 * slower meanwhile does so for all. The figure is the median of the pairs' ratios; the rates beside
 * it are medians too. A refusal is asked for at a random location of the SKU, with a new id, by the
 * same call as a reserve of row 1; whole_answer_rate is that of single commands, whose answers hold
 * the short line, the alternatives and the time to try again. The store is a tenth of row 1's full
 * size: the rate it is held against is the higher one.
 *
 * Usage: bench_hot [--row N]... [--skus N] [--locations N] [--reservations N] [--ended N]
 *                  [--seconds N] [--batch N] [--smoke]
 */
#include "bench_common.h"

#define THREAD_COUNT 2u
#define PAIRS 10u

/* One thread's turn. */
typedef struct hot_turn {
    bench *load;
    double seconds;
    double rate; /* reserves a second, their ends included in the time */
} hot_turn;

static void *run_turn(void *argument) {
    hot_turn *turn = argument;
    bench *b = turn->load;
    uint64_t made = b->made, start_ns = now_ns();
    uint64_t deadline_ns = start_ns + (uint64_t)(turn->seconds * 1e9);
    while (now_ns() < deadline_ns) {
        bench_reserve_batch(b, b->flags->batch, false);
        bench_end_batch(b, b->flags->batch, false);
    }
    turn->rate = (double)(b->made - made) / ((double)(now_ns() - start_ns) / 1e9);
    return NULL;
}

/* All threads at once; the sum of their rates. */
static double run_turns(bench *const *loads, double seconds) {
    hot_turn turns[THREAD_COUNT];
    pthread_t threads[THREAD_COUNT];
    double rate = 0;
    for (uint32_t i = 0; i < THREAD_COUNT; i++) {
        turns[i] = (hot_turn){loads[i], seconds, 0};
        if (pthread_create(&threads[i], NULL, run_turn, &turns[i]) != 0) die("threads", "none");
    }
    for (uint32_t i = 0; i < THREAD_COUNT; i++) {
        pthread_join(threads[i], NULL);
        rate += turns[i].rate;
    }
    return rate;
}

/* The figures of one row: ratios of pairs of turns, and the rates they come from. */
typedef struct hot_pairs {
    double ratios[PAIRS], hot_rates[PAIRS], base_rates[PAIRS];
} hot_pairs;

static void add_pair(hot_pairs *pairs, uint32_t i, double hot_rate, double base_rate) {
    pairs->hot_rates[i] = hot_rate;
    pairs->base_rates[i] = base_rate;
    pairs->ratios[i] = hot_rate / base_rate;
}

static void print_pairs(hot_pairs *pairs, bench_line line, const char *hot_name,
                        const char *base_name, const bench_flags *flags, const char *and_more) {
    line.figure = median_of(pairs->ratios, PAIRS); /* sorts them */
    line.seconds = flags->seconds;
    line.unit = "x";
    line.durability = "memory";
    char more[512];
    snprintf(more, sizeof more,
             ", \"ratio_low\": %.3f, \"ratio_high\": %.3f, \"%s\": %.0f, \"%s\": %.0f, "
             "\"pairs\": %u, \"skus\": %u, \"locations\": %u, \"live\": %" PRIu64
             ", \"batch\": %u%s",
             pairs->ratios[0], pairs->ratios[PAIRS - 1], hot_name,
             median_of(pairs->hot_rates, PAIRS), base_name, median_of(pairs->base_rates, PAIRS),
             PAIRS, flags->skus, flags->locations, flags->reservations, flags->batch, and_more);
    print_line(&line, more);
}

/* ---- row 9 ----------------------------------------------------------------------------------- */

static void hot_row(const bench_flags *flags) {
    bench *owner = bench_create(flags), *hot[THREAD_COUNT], *uniform[THREAD_COUNT];
    bench_flags one_sku = *flags;
    one_sku.skus = 1;
    bench_open(owner, INV_MEMORY, NULL);
    bench_fill(owner);
    for (uint32_t i = 0; i < THREAD_COUNT; i++) {
        hot[i] = bench_join(owner, &one_sku, 1 + i, 0);
        uniform[i] = bench_join(owner, flags, 1 + THREAD_COUNT + i, 0);
        for (uint64_t n = 0; n < flags->reservations / THREAD_COUNT; n += flags->batch) {
            bench_reserve_batch(hot[i], flags->batch, false);
            bench_reserve_batch(uniform[i], flags->batch, false);
        }
    }
    hot_pairs pairs;
    double turn_seconds = flags->seconds / PAIRS / 2;
    for (uint32_t i = 0; i < PAIRS; i++) {
        double hot_rate = run_turns(hot, turn_seconds);
        add_pair(&pairs, i, hot_rate, run_turns(uniform, turn_seconds));
    }
    bench_line line = {.row = 9,
                       .variant = "",
                       .what = "one hot SKU, all load of 2 threads on it, against uniform load",
                       .must = 0.8,
                       .aim = 1};
    for (uint32_t i = 0; i < THREAD_COUNT; i++)
        line.commands += hot[i]->commands + uniform[i]->commands;
    print_pairs(&pairs, line, "hot_rate", "uniform_rate", flags, "");
    for (uint32_t i = 0; i < THREAD_COUNT; i++) {
        bench_destroy(hot[i]);
        bench_destroy(uniform[i]);
    }
    bench_destroy(owner);
}

/* ---- row 17 ---------------------------------------------------------------------------------- */

/* Issues what is left of the load's first SKU, so that nothing of it can be promised. */
static void sell_out(bench *b) {
    for (uint32_t i = 0; i < b->flags->locations; i++) {
        inv_stock_level level;
        inv_text no_seller = {NULL, 0};
        inv_line line = {.sku_number = b->skus[0], .location_number = b->locations[i]};
        inv_result result = inv_store_availability(b->store, no_seller, &line, &level);
        if (result != INV_OK) die("availability", inv_result_name(result));
        if (level.available_to_promise == 0) continue;
        b->batch_skus[0] = b->skus[0];
        b->batch_locations[0] = b->locations[i];
        b->batch_qtys[0] = level.available_to_promise;
        inv_batch issue = {.kind = INV_CMD_ISSUE,
                           .count = 1,
                           .skus = b->batch_skus,
                           .locations = b->batch_locations,
                           .qtys = b->batch_qtys};
        bench_execute(b, &issue, INV_OK);
    }
    bench_one_unit_each(b);
}

/* Refusals a second: by code alone, or (`commands` given) with whole answers. */
static double run_refusals(bench *b, bench_commands *commands, double seconds) {
    uint32_t batch = b->flags->batch;
    uint64_t refused = 0, start_ns = now_ns();
    uint64_t deadline_ns = start_ns + (uint64_t)(seconds * 1e9);
    while (now_ns() < deadline_ns) {
        for (uint32_t i = 0; i < batch; i++) bench_next_reserve(b, i);
        if (commands == NULL) bench_send_reserves(b, batch, INV_INSUFFICIENT);
        else bench_send_commands(b, commands, batch, INV_INSUFFICIENT);
        refused += batch;
    }
    return (double)refused / ((double)(now_ns() - start_ns) / 1e9);
}

static void refusal_row(const bench_flags *flags) {
    static bench_commands commands;
    bench_flags all = *flags, one_sku = *flags;
    all.skus = flags->skus + 1; /* the last one is sold out */
    one_sku.skus = 1;
    bench *owner = bench_create(&all);
    bench_open(owner, INV_MEMORY, NULL);
    bench_fill(owner);
    bench *steady = bench_join(owner, flags, 1, 0);
    bench *sold_out = bench_join(owner, &one_sku, 2, flags->skus);
    bench_warm_up(steady);
    for (uint64_t live = 0; live < flags->reservations; live += flags->batch)
        bench_reserve_batch(sold_out, flags->batch, false);
    sell_out(sold_out);
    hot_pairs pairs;
    double answer_rates[PAIRS], turn_seconds = flags->seconds / PAIRS / 3;
    for (uint32_t i = 0; i < PAIRS; i++) {
        double refusal_rate = run_refusals(sold_out, NULL, turn_seconds);
        answer_rates[i] = run_refusals(sold_out, &commands, turn_seconds);
        uint64_t made = steady->made, start_ns = now_ns();
        bench_steady(steady, turn_seconds);
        double seconds = (double)(now_ns() - start_ns) / 1e9;
        add_pair(&pairs, i, refusal_rate, (double)(steady->made - made) / seconds);
    }
    bench_line line = {.row = 17,
                       .variant = "",
                       .what = "refusals of a sold-out SKU with live holds, against row 1's rate",
                       .must = 1,
                       .aim = 1.5,
                       .commands = steady->commands + sold_out->commands};
    char more[64];
    snprintf(more, sizeof more, ", \"whole_answer_rate\": %.0f", median_of(answer_rates, PAIRS));
    print_pairs(&pairs, line, "refusal_rate", "reserve_rate", flags, more);
    bench_destroy(sold_out);
    bench_destroy(steady);
    bench_destroy(owner);
}

int main(int argc, char **argv) {
    static bench_flags flags = {.skus = 1000000,
                                .locations = 10,
                                .reservations = 1000000,
                                .ended = 1000000,
                                .seconds = 20,
                                .batch = 1024,
                                .rows = {[9] = true, [17] = true}};
    static const bench_flags smoke = {.skus = 1000,
                                      .locations = 3,
                                      .reservations = 10000,
                                      .ended = 10000,
                                      .seconds = 0.4,
                                      .batch = 1024};
    bench_read_flags(argc, argv, &smoke, &flags);
    if (flags.rows[9]) hot_row(&flags);
    if (flags.rows[17]) refusal_row(&flags);
    return 0;
}
