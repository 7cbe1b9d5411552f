/* SPDX-License-Identifier: Apache-2.0
 *
 * race_hot.h: campaign 12, many threads on a few rows that never have enough. Every thread keeps
 * its own books of what it was told; nobody adjusts downwards, so at every moment
 *
 *     on_hand = available + reserved, nothing below 0, reserved <= on_hand
 *     accepted - given back - shipped = reserved        (all threads' books against the rows)
 *     accepted - given back <= received                 no unit promised twice
 *
 * A checker reads the rows all the while; the books are compared at stops. Most reserves come as
 * batches (inv_batch_run.c), some one by one and as carts over two rows.
 */
#ifndef RACE_HOT_H
#define RACE_HOT_H

#include "race_base.h"

#define HOT_SKU_COUNT 6u
#define HOT_ROW_COUNT 48u /* of a batch: more than one run */
#define HOT_SLICE_COUNT 4u
#define HOT_TTL_MS 3600000u /* nothing expires: every unit that comes back does so by a call */

typedef struct race_hot race_hot;

typedef struct hot_books { /* units, by SKU */
    int64_t accepted, given_back, shipped, received;
} hot_books;

typedef struct hot_worker {
    race_hot *hot;
    uint32_t index;
    pthread_t thread;
    inv_test_rng rng;
    uint64_t ids, attempts;
    hot_books books[HOT_SKU_COUNT];
    uint32_t skus[HOT_ROW_COUNT]; /* index; the batch has numbers */
    uint32_t numbers[HOT_ROW_COUNT];
    uint16_t places[HOT_ROW_COUNT];
    int64_t qtys[HOT_ROW_COUNT];
    uint8_t codes[HOT_ROW_COUNT];
    char row_ids[HOT_ROW_COUNT][16];
} hot_worker;

struct race_hot {
    race_world world;
    uint32_t skus[HOT_SKU_COUNT];
    uint32_t place;
    uint32_t thread_count;
    uint64_t slice_attempts; /* of a thread between two stops */
    pthread_barrier_t barrier;
    _Atomic bool over;
    hot_worker workers[RACE_THREAD_COUNT_MAX];
};

RACE_HELPER void hot_receive(hot_worker *worker, uint32_t sku) {
    race_hot *hot = worker->hot;
    int64_t qty = 1 + (int64_t)inv_test_rng_below(&worker->rng, 16);
    race_receive(&hot->world, hot->skus[sku], (uint16_t)hot->place, qty);
    worker->books[sku].received += qty;
}

/* One batch over the rows picked; the codes say what happened. */
RACE_HELPER void hot_batch(hot_worker *worker, uint8_t kind, uint32_t count) {
    race_world *w = &worker->hot->world;
    uint64_t lsn;
    inv_error error;
    memset(&error, 0, sizeof error);
    inv_batch batch = {.kind = kind,
                       .count = count,
                       .skus = worker->numbers,
                       .locations = worker->places,
                       .qtys = worker->qtys,
                       .ids = (const uint8_t *)worker->row_ids[0],
                       .ttl_ms = HOT_TTL_MS};
    inv_result result = inv_store_execute_batch(w->store, &batch, worker->codes, &lsn, &error);
    atomic_fetch_add_explicit(&w->progress, 1, memory_order_relaxed);
    if (result != INV_OK) race_report(&w->problem, "batch: %s", inv_result_name(result));
}

RACE_HELPER void hot_fill_row(hot_worker *worker, uint32_t at, uint32_t sku, int64_t qty) {
    worker->skus[at] = sku;
    worker->numbers[at] = worker->hot->skus[sku];
    worker->places[at] = (uint16_t)worker->hot->place;
    worker->qtys[at] = qty;
}

/* Keeps the rows that were accepted, in front. */
RACE_HELPER uint32_t hot_book_reserves(hot_worker *worker) {
    race_problem *problem = &worker->hot->world.problem;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < HOT_ROW_COUNT; i++) {
        if (worker->codes[i] != INV_OK && worker->codes[i] != INV_INSUFFICIENT)
            race_report(problem, "reserve: %s", inv_result_name(worker->codes[i]));
        if (worker->codes[i] != INV_OK) continue;
        worker->books[worker->skus[i]].accepted += worker->qtys[i];
        memmove(worker->row_ids[kept], worker->row_ids[i], 16);
        hot_fill_row(worker, kept++, worker->skus[i], worker->qtys[i]);
    }
    return kept;
}

/* What was taken is shipped or given back, whole: a row of a batch must find exactly its own. */
RACE_HELPER void hot_end(hot_worker *worker, uint32_t count) {
    static const uint8_t kinds[] = {INV_CMD_SHIP, INV_CMD_RELEASE, INV_CMD_CANCEL, INV_CMD_COMMIT};
    uint8_t kind = kinds[inv_test_rng_below(&worker->rng, 4)];
    race_problem *problem = &worker->hot->world.problem;
    if (count == 0) return;
    hot_batch(worker, kind, count);
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < count; i++) {
            hot_books *books = &worker->books[worker->skus[i]];
            if (worker->codes[i] != INV_OK)
                race_report(problem, "end %u: %s", kind, inv_result_name(worker->codes[i]));
            if (kind == INV_CMD_SHIP) books->shipped += worker->qtys[i];
            else if (kind != INV_CMD_COMMIT) books->given_back += worker->qtys[i];
        }
        if (kind != INV_CMD_COMMIT) return;
        kind = inv_test_rng_below(&worker->rng, 2) ? INV_CMD_SHIP : INV_CMD_CANCEL;
        hot_batch(worker, kind, count);
    }
}

RACE_HELPER void hot_rows(hot_worker *worker) {
    for (uint32_t i = 0; i < HOT_ROW_COUNT; i++) {
        race_id(((uint64_t)worker->index + 1) << 40 | worker->ids++, worker->row_ids[i]);
        hot_fill_row(worker, i, (uint32_t)inv_test_rng_below(&worker->rng, HOT_SKU_COUNT),
                     1 + (int64_t)inv_test_rng_below(&worker->rng, 3));
    }
    hot_batch(worker, INV_CMD_RESERVE, HOT_ROW_COUNT);
    worker->attempts += HOT_ROW_COUNT;
    hot_end(worker, hot_book_reserves(worker));
}

/* A cart over two rows: both or none. */
RACE_HELPER void hot_cart(hot_worker *worker) {
    race_hot *hot = worker->hot;
    char id[16];
    uint32_t first = (uint32_t)inv_test_rng_below(&worker->rng, HOT_SKU_COUNT);
    uint32_t skus[2] = {first, (first + 1) % HOT_SKU_COUNT};
    inv_line lines[2];
    race_id(((uint64_t)worker->index + 1) << 40 | worker->ids++, id);
    for (uint32_t i = 0; i < 2; i++)
        lines[i] = race_line(hot->skus[skus[i]], (uint16_t)hot->place, 1);
    inv_command reserve = race_reserve(id, lines, 2, HOT_TTL_MS);
    int code = race_do(&hot->world, &reserve, NULL);
    worker->attempts++;
    if (code != INV_OK && code != INV_INSUFFICIENT)
        race_report(&hot->world.problem, "cart: %s", inv_result_name(code));
    if (code != INV_OK) return;
    bool ships = inv_test_rng_below(&worker->rng, 2) == 0;
    inv_command end = race_by_id(ships ? INV_CMD_SHIP : INV_CMD_CANCEL, id);
    race_must(&hot->world, &end);
    for (uint32_t i = 0; i < 2; i++) {
        worker->books[skus[i]].accepted++;
        if (ships) worker->books[skus[i]].shipped++;
        else worker->books[skus[i]].given_back++;
    }
}

RACE_HELPER void *hot_work(void *argument) {
    hot_worker *worker = argument;
    race_hot *hot = worker->hot;
    for (uint32_t slice = 0; slice < HOT_SLICE_COUNT; slice++) {
        uint64_t until = worker->attempts + hot->slice_attempts;
        while (worker->attempts < until && !atomic_load(&hot->world.problem.found)) {
            uint64_t pick = inv_test_rng_below(&worker->rng, 8);
            if (pick == 0)
                hot_receive(worker, (uint32_t)inv_test_rng_below(&worker->rng, HOT_SKU_COUNT));
            else if (pick == 1) hot_cart(worker);
            else hot_rows(worker);
        }
        pthread_barrier_wait(&hot->barrier);
        pthread_barrier_wait(&hot->barrier); /* the books are being compared */
    }
    return NULL;
}

RACE_HELPER void *hot_check(void *argument) {
    race_hot *hot = argument;
    race_problem *problem = &hot->world.problem;
    for (uint64_t i = 0; !atomic_load(&hot->over) && !atomic_load(&problem->found); i++) {
        inv_stock_level level = race_level(&hot->world, hot->skus[i % HOT_SKU_COUNT],
                                           (uint16_t)hot->place);
        bool adds_up = level.on_hand == level.available + level.reserved &&
                       level.reserved == level.held + level.allocated;
        if (!adds_up || level.available < 0 || level.held < 0 || level.allocated < 0 ||
            level.short_qty != 0)
            race_report(problem,
                        "oversold: on_hand %" PRId64 " held %" PRId64 " allocated %" PRId64
                        " available %" PRId64,
                        level.on_hand, level.held, level.allocated, level.available);
        if (i % 64 == 0) sched_yield();
    }
    return NULL;
}

RACE_HELPER void hot_compare(race_hot *hot) {
    for (uint32_t sku = 0; sku < HOT_SKU_COUNT; sku++) {
        hot_books all = {0};
        for (uint32_t i = 0; i < hot->thread_count; i++) {
            const hot_books *books = &hot->workers[i].books[sku];
            all.accepted += books->accepted;
            all.given_back += books->given_back;
            all.shipped += books->shipped;
            all.received += books->received;
        }
        inv_stock_level level = race_level(&hot->world, hot->skus[sku], (uint16_t)hot->place);
        if (level.on_hand != all.received - all.shipped ||
            level.reserved != all.accepted - all.given_back - all.shipped ||
            all.accepted - all.given_back > all.received)
            race_report(&hot->world.problem,
                        "sku %u: on_hand %" PRId64 " reserved %" PRId64 "; received %" PRId64
                        " accepted %" PRId64 " given back %" PRId64 " shipped %" PRId64,
                        sku, level.on_hand, level.reserved, all.received, all.accepted,
                        all.given_back, all.shipped);
    }
}

/* attempts: reserves in all. *out_attempts says how many there were. */
RACE_HELPER const char *race_hot_rows(bool durable, uint32_t thread_count, uint64_t attempts,
                                      uint64_t *out_attempts) {
    static race_hot hot;
    pthread_t checker;
    memset(&hot, 0, sizeof hot);
    race_open(&hot.world, durable, 4);
    race_watch_start(&hot.world, 10000);
    race_names(&hot.world, INV_NAME_SKU, HOT_SKU_COUNT, hot.skus);
    race_names(&hot.world, INV_NAME_LOCATION, 1, &hot.place);
    hot.thread_count = thread_count;
    hot.slice_attempts = attempts / thread_count / HOT_SLICE_COUNT + 1;
    pthread_barrier_init(&hot.barrier, NULL, thread_count + 1);
    for (uint32_t i = 0; i < thread_count; i++) {
        hot.workers[i].hot = &hot;
        hot.workers[i].index = i;
        hot.workers[i].rng = inv_test_rng_of(900 + i);
    }
    for (uint32_t sku = 0; sku < HOT_SKU_COUNT; sku++) hot_receive(&hot.workers[0], sku);
    for (uint32_t i = 0; i < thread_count; i++)
        race_spawn(&hot.workers[i].thread, hot_work, &hot.workers[i]);
    race_spawn(&checker, hot_check, &hot);
    for (uint32_t slice = 0; slice < HOT_SLICE_COUNT; slice++) {
        pthread_barrier_wait(&hot.barrier);
        hot_compare(&hot);
        pthread_barrier_wait(&hot.barrier);
    }
    for (uint32_t i = 0; i < thread_count; i++) {
        pthread_join(hot.workers[i].thread, NULL);
        *out_attempts += hot.workers[i].attempts;
    }
    atomic_store(&hot.over, true);
    pthread_join(checker, NULL);
    race_watch_stop(&hot.world);
    pthread_barrier_destroy(&hot.barrier);
    return race_close(&hot.world);
}

#endif
