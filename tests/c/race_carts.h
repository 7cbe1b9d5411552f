/* SPDX-License-Identifier: Apache-2.0
 *
 * race_carts.h: campaign 14, overlapping carts of up to 256 lines in adverse orders: nobody ever
 * sees a part of one, and everybody gets on.
 *
 * SKUs come in pairs that every cart takes together, one unit each. Stops divide the run into laps:
 * carts are only taken in even ones and only ended in odd ones. So within a lap what is reserved of
 * a SKU moves one way, and a reader that looks at one of a pair and then at the other knows which
 * may be larger: a cart seen at the first is there at the second (taking), one seen gone at the
 * first is gone at the second (ending). Readers also look at whole carts by id.
 */
#ifndef RACE_CARTS_H
#define RACE_CARTS_H

#include "race_base.h"

#define CARTS_PAIR_COUNT 160u
#define CARTS_SKU_COUNT (2 * CARTS_PAIR_COUNT)
#define CARTS_LINES_MAX 256u
#define CARTS_A_LAP 24u /* of a thread */
#define CARTS_READER_COUNT 2u

typedef struct race_lap_carts race_lap_carts;

typedef struct lap_cart {
    bool taken;
    uint32_t line_count;
    uint16_t pairs[CARTS_LINES_MAX / 2];
} lap_cart;

typedef struct lap_worker {
    race_lap_carts *all;
    uint32_t index;
    pthread_t thread;
    inv_test_rng rng;
    uint64_t taken, refused;
    lap_cart carts[CARTS_A_LAP];
    inv_line lines[CARTS_LINES_MAX];
} lap_worker;

typedef struct lap_reader {
    race_lap_carts *all;
    pthread_t thread;
    inv_test_rng rng;
    uint64_t pair_reads, cart_reads, carts_seen;
    inv_reply_line lines[CARTS_LINES_MAX];
} lap_reader;

struct race_lap_carts {
    race_world world;
    uint32_t skus[CARTS_SKU_COUNT];
    uint32_t place;
    uint32_t thread_count;
    uint32_t lap_count;
    pthread_barrier_t barrier;
    _Atomic uint32_t lap; /* that runs now; UINT32_MAX: a stop */
    _Atomic bool over;
    lap_worker workers[RACE_THREAD_COUNT_MAX];
    lap_reader readers[CARTS_READER_COUNT];
};

RACE_HELPER uint64_t lap_id(uint32_t worker, uint32_t lap, uint32_t cart) {
    return ((uint64_t)worker + 1) << 48 | (uint64_t)(lap / 2) << 16 | cart;
}

/* A window over the pairs, its lines upwards, downwards or shuffled. */
RACE_HELPER void lap_fill(lap_worker *worker, lap_cart *cart) {
    inv_test_rng *rng = &worker->rng;
    uint32_t pairs = 1 + (uint32_t)inv_test_rng_below(rng, CARTS_LINES_MAX / 2);
    if (inv_test_rng_below(rng, 2) == 0) pairs = 1 + (uint32_t)inv_test_rng_below(rng, 3);
    uint32_t first = (uint32_t)inv_test_rng_below(rng, CARTS_PAIR_COUNT);
    uint64_t order = inv_test_rng_below(rng, 3);
    cart->line_count = 2 * pairs;
    for (uint32_t i = 0; i < pairs; i++) {
        cart->pairs[i] = (uint16_t)((first + i) % CARTS_PAIR_COUNT);
        for (uint32_t k = 0; k < 2; k++)
            worker->lines[2 * i + k] = race_line(worker->all->skus[2 * cart->pairs[i] + k],
                                                 (uint16_t)worker->all->place, 1);
    }
    for (uint32_t i = cart->line_count - 1; order > 0 && i > 0; i--) {
        uint32_t j = cart->line_count - 1 - i;
        if (order == 1) j = (uint32_t)inv_test_rng_below(rng, i + 1);
        if (order == 2 && j >= i) break; /* turned round */
        inv_line swapped = worker->lines[i];
        worker->lines[i] = worker->lines[j];
        worker->lines[j] = swapped;
    }
}

RACE_HELPER void lap_take(lap_worker *worker, uint32_t lap) {
    race_world *w = &worker->all->world;
    for (uint32_t i = 0; i < CARTS_A_LAP && !atomic_load(&w->problem.found); i++) {
        lap_cart *cart = &worker->carts[i];
        char id[16];
        lap_fill(worker, cart);
        race_id(lap_id(worker->index, lap, i), id);
        inv_command reserve = race_reserve(id, worker->lines, cart->line_count, 3600000);
        int code = race_do(w, &reserve, NULL);
        cart->taken = code == INV_OK;
        worker->taken += cart->taken;
        worker->refused += !cart->taken;
        if (code != INV_OK && code != INV_INSUFFICIENT)
            race_report(&w->problem, "cart: %s", inv_result_name(code));
    }
}

RACE_HELPER void lap_end(lap_worker *worker, uint32_t lap) {
    race_world *w = &worker->all->world;
    for (uint32_t n = CARTS_A_LAP; n-- > 0 && !atomic_load(&w->problem.found);) {
        char id[16];
        if (!worker->carts[n].taken) continue;
        race_id(lap_id(worker->index, lap, n), id);
        inv_command commit = race_by_id(INV_CMD_COMMIT, id);
        inv_command release = race_by_id(INV_CMD_RELEASE, id);
        inv_command cancel = race_by_id(INV_CMD_CANCEL, id);
        bool committed = inv_test_rng_below(&worker->rng, 2) == 0;
        if (committed) race_must(w, &commit);
        race_must(w, committed ? &cancel : &release);
        worker->carts[n].taken = false;
    }
}

RACE_HELPER void *lap_work(void *argument) {
    lap_worker *worker = argument;
    for (uint32_t lap = 0; lap < worker->all->lap_count; lap++) {
        if (lap % 2 == 0) lap_take(worker, lap);
        else lap_end(worker, lap);
        pthread_barrier_wait(&worker->all->barrier);
        pthread_barrier_wait(&worker->all->barrier);
    }
    return NULL;
}

/* By name: such a read takes no lock when it can do without. */
RACE_HELPER int64_t lap_reserved(race_lap_carts *all, uint32_t sku) {
    char bytes[16];
    inv_line line = race_line(0, 0, 0);
    line.sku = (inv_text){bytes, (uint32_t)snprintf(bytes, sizeof bytes, "S%u", sku)};
    line.location = (inv_text){"L0", 2};
    return race_read(&all->world, &line).reserved;
}

RACE_HELPER void lap_read_pair(lap_reader *reader, uint32_t lap) {
    race_lap_carts *all = reader->all;
    uint32_t pair = (uint32_t)inv_test_rng_below(&reader->rng, CARTS_PAIR_COUNT);
    uint32_t first = (uint32_t)inv_test_rng_below(&reader->rng, 2);
    int64_t before = lap_reserved(all, 2 * pair + first);
    int64_t after = lap_reserved(all, 2 * pair + 1 - first);
    if (atomic_load(&all->lap) != lap) return; /* a stop came in between */
    reader->pair_reads++;
    if (lap % 2 == 0 ? after < before : after > before)
        race_report(&all->world.problem,
                    "part of a cart was seen: %" PRId64 " units of one, then %" PRId64
                    " of the other (%s)",
                    before, after, lap % 2 == 0 ? "taking" : "ending");
}

/* A cart by its id: not there, or with all its lines in one state. */
RACE_HELPER void lap_read_cart(lap_reader *reader, uint32_t lap) {
    race_lap_carts *all = reader->all;
    char bytes[16];
    inv_text id = {bytes, 16}, seller = {NULL, 0};
    inv_reply reply;
    memset(&reply, 0, sizeof reply);
    reply.lines = reader->lines;
    reply.lines_max = CARTS_LINES_MAX;
    race_id(lap_id((uint32_t)inv_test_rng_below(&reader->rng, all->thread_count), lap,
                   (uint32_t)inv_test_rng_below(&reader->rng, CARTS_A_LAP)),
            bytes);
    inv_result result = inv_store_reservation(all->world.store, seller, id, true, &reply);
    reader->cart_reads++;
    if (result != INV_OK) return; /* not yet taken, or refused */
    if (reply.state != INV_STATE_HELD && reply.state != INV_STATE_ALLOCATED) return;
    reader->carts_seen++;
    uint64_t units = 0;
    for (uint32_t i = 0; i < reply.line_count && i < reply.lines_max; i++) {
        bool held = reply.state == INV_STATE_HELD;
        units += held ? reader->lines[i].held : reader->lines[i].allocated;
    }
    if (reply.line_count % 2 != 0 || units != reply.line_count || reply.units != units)
        race_report(&all->world.problem, "a cart of %u lines has %" PRIu64 " units in one state",
                    reply.line_count, units);
}

RACE_HELPER void *lap_read(void *argument) {
    lap_reader *reader = argument;
    race_lap_carts *all = reader->all;
    for (uint64_t i = 0; !atomic_load(&all->over) && !atomic_load(&all->world.problem.found); i++) {
        uint32_t lap = atomic_load(&all->lap);
        if (lap == UINT32_MAX) sched_yield();
        else if (i % 4 == 0) lap_read_cart(reader, lap);
        else lap_read_pair(reader, lap);
    }
    return NULL;
}

/* Everybody stands: the rows must be the sum of the carts that were taken. */
RACE_HELPER void lap_compare(race_lap_carts *all) {
    static int64_t units[CARTS_PAIR_COUNT];
    memset(units, 0, sizeof units);
    for (uint32_t i = 0; i < all->thread_count; i++)
        for (uint32_t n = 0; n < CARTS_A_LAP; n++) {
            const lap_cart *cart = &all->workers[i].carts[n];
            for (uint32_t k = 0; cart->taken && k < cart->line_count / 2; k++)
                units[cart->pairs[k]]++;
        }
    for (uint32_t sku = 0; sku < CARTS_SKU_COUNT; sku++) {
        inv_stock_level level = race_level(&all->world, all->skus[sku], (uint16_t)all->place);
        if (level.reserved != units[sku / 2] || level.short_qty != 0)
            race_report(&all->world.problem,
                        "sku %u: %" PRId64 " reserved, %" PRId64 " in the carts that were taken",
                        sku, level.reserved, units[sku / 2]);
    }
}

/* carts: taken and refused, in all. *out_carts says how many there were. */
RACE_HELPER const char *race_whole_carts(bool durable, uint32_t thread_count, uint64_t carts,
                                         uint64_t stall_ms, uint64_t *out_carts) {
    static race_lap_carts all;
    memset(&all, 0, sizeof all);
    race_open(&all.world, durable, 8);
    race_watch_start(&all.world, stall_ms);
    race_names(&all.world, INV_NAME_SKU, CARTS_SKU_COUNT, all.skus);
    race_names(&all.world, INV_NAME_LOCATION, 1, &all.place);
    for (uint32_t i = 0; i < CARTS_SKU_COUNT; i++) /* a few run out: carts fail at a late line */
        race_receive(&all.world, all.skus[i], (uint16_t)all.place, i % 37 == 0 ? 40 : 100000);
    all.thread_count = thread_count;
    all.lap_count = 2 * (1 + (uint32_t)(carts / (thread_count * CARTS_A_LAP)));
    pthread_barrier_init(&all.barrier, NULL, thread_count + 1);
    for (uint32_t i = 0; i < thread_count; i++) {
        all.workers[i].all = &all;
        all.workers[i].index = i;
        all.workers[i].rng = inv_test_rng_of(700 + i);
        race_spawn(&all.workers[i].thread, lap_work, &all.workers[i]);
    }
    for (uint32_t i = 0; i < CARTS_READER_COUNT; i++) {
        all.readers[i].all = &all;
        all.readers[i].rng = inv_test_rng_of(800 + i);
        race_spawn(&all.readers[i].thread, lap_read, &all.readers[i]);
    }
    for (uint32_t lap = 0; lap < all.lap_count; lap++) {
        pthread_barrier_wait(&all.barrier);
        atomic_store(&all.lap, UINT32_MAX);
        lap_compare(&all);
        atomic_store(&all.lap, lap + 1);
        pthread_barrier_wait(&all.barrier);
    }
    atomic_store(&all.over, true);
    uint64_t pair_reads = 0, carts_seen = 0, refused = 0;
    for (uint32_t i = 0; i < thread_count; i++) {
        pthread_join(all.workers[i].thread, NULL);
        *out_carts += all.workers[i].taken + all.workers[i].refused;
        refused += all.workers[i].refused;
    }
    for (uint32_t i = 0; i < CARTS_READER_COUNT; i++) {
        pthread_join(all.readers[i].thread, NULL);
        pair_reads += all.readers[i].pair_reads;
        carts_seen += all.readers[i].carts_seen;
    }
    race_watch_stop(&all.world);
    pthread_barrier_destroy(&all.barrier);
    printf("carts: %" PRIu64 " in all, %" PRIu64 " refused; %" PRIu64 " pairs and %" PRIu64
           " whole carts read meanwhile, longest pause %" PRIu64 " ms\n",
           *out_carts, refused, pair_reads, carts_seen, atomic_load(&all.world.gap_ms_max));
    return race_close(&all.world);
}

#endif
