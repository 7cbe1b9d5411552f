/* SPDX-License-Identifier: Apache-2.0
 *
 * test_store_found.c: defects a review found, each once a way to lose, double or stop something.
 * They stay here so that none comes back.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../src/invcore/stock/inv_hold.h"
#include "shop.h"

static shop s;

/* Each line of a change was looked for from the first line of its hold: ending a cart of 4,096 kept
 * its stripes locked for up to 30 ms. It is looked for behind the one before, and then in the rest.
 */
INV_TEST(lines_of_a_change_are_found_in_any_order) {
    enum { LINES = 7 };
    inv_test_rng rng = inv_test_rng_of(5);
    for (uint32_t round = 0; round < 500; round++) {
        inv_hold_line lines[LINES];
        uint32_t next = 0, wanted[LINES] = {0};
        memset(lines, 0, sizeof lines);
        for (uint32_t i = 0; i < LINES; i++) /* SKUs at two places, one of them free as well */
            lines[i] = (inv_hold_line){.sku = i / 3,
                                       .location = (uint16_t)(i % 3 == 0),
                                       .flags = i % 3 == 2 ? INV_LINE_FREE : 0,
                                       .qty = 1000,
                                       .held = 1000};
        for (uint32_t i = 0; i < 3 * LINES; i++) {
            uint32_t at = round == 0 ? i % LINES
                          : round == 1 ? LINES - 1 - i % LINES
                                       : (uint32_t)inv_test_rng_below(&rng, LINES);
            inv_change_line change = {.sku = lines[at].sku,
                                      .qty = i + 1,
                                      .location = lines[at].location,
                                      .flags = lines[at].flags};
            CHECK(inv_hold_apply(lines, LINES, &next, &change, -1, 1, 0));
            CHECK_EQ(next, at);
            wanted[at] += i + 1;
            change.sku = 99; /* there is no such line, wherever it begins */
            CHECK(!inv_hold_apply(lines, LINES, &next, &change, -1, 1, 0));
            CHECK_EQ(next, at);
        }
        for (uint32_t i = 0; i < LINES; i++) {
            CHECK_EQ(lines[i].allocated, wanted[i]);
            CHECK_EQ(lines[i].held, 1000 - wanted[i]);
        }
    }
    inv_change_line change = {.sku = 0};
    uint32_t next = 5;
    CHECK(!inv_hold_apply(NULL, 0, &next, &change, -1, 0, 0));
}

static void uuid_v7(char out[37], uint64_t unix_ms, uint32_t number) {
    snprintf(out, 37, "%08x-%04x-7000-8000-%012x", (uint32_t)(unix_ms >> 16),
             (uint32_t)(unix_ms & 0xffff), number);
}

/* The names lock and an index shard were once taken in both orders: two batches with references
 * stopped each other for good. */
typedef struct booker {
    inv_store *store;
    const char *sku;
    uint32_t number;
    _Atomic uint32_t batches;
} booker;

static void *book(void *argument) {
    booker *me = argument;
    char ids[8][32];
    inv_line line = shop_line(me->sku, NULL, 1);
    for (uint32_t n = 0; n < 4000; n++) {
        inv_command commands[8];
        inv_reply replies[8];
        memset(replies, 0, sizeof replies);
        for (uint32_t k = 0; k < 8; k++) {
            snprintf(ids[k], sizeof ids[k], "%u-%u-%u", me->number, n, k);
            commands[k] = shop_command(INV_CMD_RESERVE, ids[k], &line, 1);
            commands[k].reference = shop_text("PO-1");
        }
        if (inv_store_execute(me->store, commands, 8, replies) != INV_OK) return NULL;
        atomic_fetch_add(&me->batches, 1);
    }
    return NULL;
}

INV_TEST(batches_with_references_do_not_stop_each_other) {
    shop_init(&s, false);
    s.options.stripe_bits = 4;
    CHECK_EQ(shop_open(&s), INV_OK);
    booker bookers[4];
    pthread_t threads[4];
    static const char *const skus[] = {"A", "B", "C", "D"};
    for (uint32_t i = 0; i < 4; i++)
        CHECK_EQ(shop_receive(&s, skus[i], "W", 1000000), INV_OK);
    for (uint32_t i = 0; i < 4; i++) {
        bookers[i] = (booker){.store = s.store, .sku = skus[i], .number = i};
        CHECK_EQ(pthread_create(&threads[i], NULL, book, &bookers[i]), 0);
    }
    for (uint32_t i = 0; i < 4; i++) pthread_join(threads[i], NULL); /* ctest's time-out judges */
    for (uint32_t i = 0; i < 4; i++) CHECK_EQ(atomic_load(&bookers[i].batches), 4000);
    shop_end(&s);
}

/* Ids forgotten for their number were stale only until the next tick, or until a restart. */
INV_TEST(an_id_forgotten_for_its_number_stays_stale) {
    static char ids[4][37];
    shop_init(&s, true);
    s.options.ended_ids_max = 1;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W", 100), INV_OK);
    shop_advance(&s, 1000);
    for (uint32_t i = 0; i < 4; i++) {
        uuid_v7(ids[i], s.clock_ms, i);
        CHECK_EQ(shop_reserve(&s, ids[i], "A", "W", 5, 60000), INV_OK);
        CHECK_EQ(shop_by_id(&s, INV_CMD_SHIP, ids[i]), INV_OK);
        shop_advance(&s, 10);
    }
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(shop_reserve(&s, ids[0], "A", "W", 5, 60000), INV_STALE_ID);
        if (i == 0) shop_advance(&s, 1100);
        if (i == 1) shop_reopen(&s, false);
    }
    CHECK(shop_figures(&s, "A", "W", 80, 0, 0));
    shop_end(&s);
}

/* So does an op_id: the receipt came in twice when its second copy was late enough. */
INV_TEST(no_effect_under_an_op_id_once_forgotten) {
    shop_init(&s, true);
    s.options.id_retention_ms = 5000;
    CHECK_EQ(shop_open(&s), INV_OK);
    shop_advance(&s, 1000);
    inv_line line = shop_line("A", "W", 5);
    inv_command receive = shop_command(INV_CMD_RECEIVE, NULL, &line, 1);
    inv_command part = shop_command(INV_CMD_COMMIT, "cart", &line, 1);
    char ids[2][37];
    for (uint32_t i = 0; i < 2; i++) uuid_v7(ids[i], s.clock_ms, i);
    receive.op_id = shop_text(ids[0]);
    part.op_id = shop_text(ids[1]);
    part.partial = part.keep_rest = true;
    CHECK_EQ(shop_do(&s, &receive), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W", 95), INV_OK);
    CHECK_EQ(shop_reserve(&s, "cart", "A", "W", 20, 3600000), INV_OK);
    CHECK_EQ(shop_do(&s, &part), INV_OK);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(shop_do(&s, &receive), i == 0 ? INV_REPLAYED : INV_STALE_ID);
        CHECK_EQ(shop_do(&s, &part), i == 0 ? INV_REPLAYED : INV_STALE_ID);
        if (i == 0) shop_advance(&s, 8000);
        if (i == 1) shop_reopen(&s, true);
    }
    CHECK(shop_figures(&s, "A", "W", 100, 15, 5));
    shop_end(&s);
}

/* A located and a free line may take from one line of the hold: once three changes of it, though
 * two were paid for, and with enough lines an abort. */
INV_TEST(a_part_takes_a_line_in_one_piece) {
    shop_init(&s, true);
    s.options.segment_bytes = 4u << 20;
    CHECK_EQ(shop_open(&s), INV_OK);
    static char names[1500][8];
    static inv_line lines[1501];
    for (uint32_t i = 0; i < 1500; i++) {
        snprintf(names[i], sizeof names[i], "L%u", i);
        CHECK_EQ(shop_receive(&s, "A", names[i], 3), INV_OK);
        lines[i] = shop_line("A", names[i], 3);
        if (i % 64 == 63) shop_settle(&s);
    }
    CHECK_EQ(shop_cart(&s, "big", lines, 1500, 60000), INV_OK);
    for (uint32_t i = 0; i < 1500; i++) lines[i].qty = 1;
    inv_command part = shop_command(INV_CMD_COMMIT, "big", lines, 1500);
    part.partial = part.keep_rest = true;
    CHECK_EQ(shop_do(&s, &part), INV_OK);
    for (uint32_t i = 0; i < 1500; i++) lines[i].qty = 2;
    lines[1500] = shop_line("A", NULL, 1500);
    part = shop_command(INV_CMD_SHIP, "big", lines, 1501);
    part.partial = true;
    CHECK_EQ(shop_do(&s, &part), INV_OK);
    CHECK(shop_figures(&s, "A", "L1499", 0, 0, 0));
    shop_reopen(&s, true);
    CHECK_EQ(shop_state(&s, "big"), INV_STATE_SHIPPED);
    shop_end(&s);
}

/* The downtime is added once, whatever happens at the end of the grace. */
INV_TEST(downtime_is_counted_once) {
    shop_init(&s, true);
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    shop_reopen(&s, true);
    for (uint32_t i = 0; i < 2; i++) {
        s.clock_ms += 3600000;
        inv_env_set_clock(s.env, s.clock_ms);
        shop_reopen(&s, true);
        shop_advance(&s, 10000); /* the grace ends, the step is taken, the power goes */
        CHECK_EQ(shop_receive(&s, "A", "W", 1), INV_OK);
    }
    inv_metrics metrics;
    inv_store_metrics(s.store, &metrics);
    CHECK(metrics.now_unix_ms <= s.clock_ms);
    shop_end(&s);
}

INV_TEST(a_smaller_segment_size_opens_a_long_tail) {
    shop_init(&s, true);
    s.options.segment_bytes = 64u << 20;
    CHECK_EQ(shop_open(&s), INV_OK);
    shop_settle(&s);
    CHECK_EQ(shop_receive(&s, "A", "W", 1000000), INV_OK);
    static char ids[64][16];
    static inv_command commands[64];
    static inv_reply replies[64];
    inv_line line = shop_line("A", "W", 1);
    for (uint32_t n = 0; n < 900; n++) { /* some 4 MiB that nobody has flushed */
        for (uint32_t i = 0; i < 64; i++) {
            snprintf(ids[i], sizeof ids[i], "r%u-%u", n, i);
            commands[i] = shop_command(INV_CMD_RESERVE, ids[i], &line, 1);
        }
        memset(replies, 0, sizeof replies);
        CHECK_EQ(inv_store_execute(s.store, commands, 64, replies), INV_OK);
    }
    s.options.segment_bytes = 4u << 20;
    inv_store_destroy(s.store); /* the process died, the page cache lives */
    s.store = NULL;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(shop_level(&s, "A", "W").held, 57600);
    shop_end(&s);
}

INV_TEST(a_repeated_whole_commit_is_a_replay) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 10), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 10, 60000), INV_OK);
    inv_line line = shop_line("A", "W", 3);
    inv_command part = shop_command(INV_CMD_RELEASE, "r", &line, 1);
    part.partial = true;
    CHECK_EQ(shop_do(&s, &part), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r"), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r"), INV_REPLAYED);
    shop_reopen(&s, true);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r"), INV_REPLAYED);
    CHECK(shop_figures(&s, "A", "W", 10, 0, 7));
    shop_end(&s);
}

INV_TEST(a_replay_in_the_same_batch_knows_its_lsn) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 10), INV_OK);
    inv_line line = shop_line("A", "W", 1);
    inv_command commands[2] = {shop_command(INV_CMD_RESERVE, "r", &line, 1),
                               shop_command(INV_CMD_RESERVE, "r", &line, 1)};
    inv_reply replies[2];
    memset(replies, 0, sizeof replies);
    CHECK_EQ(inv_store_execute(s.store, commands, 2, replies), INV_OK);
    CHECK_EQ(replies[0].code, INV_OK);
    CHECK_EQ(replies[1].code, INV_REPLAYED);
    CHECK_EQ(replies[1].lsn, replies[0].lsn);
    shop_end(&s);
}

/* Somebody else's new number was once given out before its name was durable. */
INV_TEST(a_number_found_waits_for_its_name) {
    shop_start(&s, true);
    inv_text name = shop_text("A"), seller = {NULL, 0};
    uint32_t number = 0;
    uint64_t made = 0, found = 0;
    size_t bad = 0;
    CHECK_EQ(inv_store_numbers(s.store, INV_NAME_SKU, seller, &name, 1, true, &number, &made, &bad),
             INV_OK);
    CHECK_EQ(
        inv_store_numbers(s.store, INV_NAME_SKU, seller, &name, 1, false, &number, &found, &bad),
        INV_OK);
    CHECK(made > 0 && found >= made);
    CHECK_EQ(inv_store_wait(s.store, found, 0), INV_BUSY);
    shop_end(&s);
}

/* In interval mode a wait for what nobody has written yet once had no end. */
INV_TEST(a_wait_ends_with_its_time_out) {
    shop_init(&s, true);
    s.options.durability = INV_INTERVAL;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(inv_store_wait(s.store, UINT64_MAX, 0), INV_BUSY);
    shop_end(&s);
}

/* A wheel that nothing has moved for weeks: what is armed then lies beyond its reach, and it has to
 * be moved first. */
INV_TEST(a_hold_armed_weeks_after_the_last_one_keeps_its_deadline) {
    const uint64_t day_ms = 24ull * 3600 * 1000;
    static const uint8_t ids[2][16] = {{1}, {2}};
    shop_init(&s, true);
    s.options.stripe_bits = 0; /* one wheel for all */
    s.options.id_retention_ms = 300 * day_ms;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W", 10), INV_OK);
    CHECK_EQ(shop_reserve(&s, "first", "A", "W", 1, 30 * day_ms), INV_OK);
    shop_advance(&s, 25 * day_ms);
    uint32_t sku = 0;
    uint64_t lsn = 0;
    size_t bad = 0;
    inv_text name = shop_text("A");
    CHECK_EQ(inv_store_numbers(s.store, INV_NAME_SKU, shop_text(NULL), &name, 1, false, &sku, &lsn,
                               &bad),
             INV_OK);
    const uint32_t skus[2] = {sku, sku}, ttls_ms[2] = {(uint32_t)(30 * day_ms), 1000};
    const uint16_t locations[2] = {0, 0};
    const int64_t qtys[2] = {2, 4};
    uint8_t codes[2];
    inv_batch batch = {.kind = INV_CMD_RESERVE, .count = 2, .skus = skus, .locations = locations,
                       .qtys = qtys, .ids = ids[0], .ttls_ms = ttls_ms};
    inv_error error;
    CHECK_EQ(inv_store_execute_batch(s.store, &batch, codes, &lsn, &error), INV_OK);
    CHECK_EQ(codes[0], INV_OK);
    CHECK_EQ(codes[1], INV_OK);
    shop_settle(&s);
    shop_check(&s);
    shop_advance(&s, 999);
    CHECK(shop_figures(&s, "A", "W", 10, 7, 0));
    shop_advance(&s, 1);
    CHECK(shop_figures(&s, "A", "W", 10, 3, 0));
    shop_advance(&s, 5 * day_ms - 1001);
    CHECK(shop_figures(&s, "A", "W", 10, 3, 0));
    shop_advance(&s, 1);
    CHECK(shop_figures(&s, "A", "W", 10, 2, 0));
    shop_advance(&s, 25 * day_ms - 1);
    CHECK(shop_figures(&s, "A", "W", 10, 2, 0));
    shop_advance(&s, 1);
    CHECK(shop_figures(&s, "A", "W", 10, 0, 0));
    shop_end(&s);
}

/* The file system takes the first bytes of a group and refuses the rest: the store stops, promises
 * nothing of it, and what opens again is whole. */
INV_TEST(a_sync_that_fails_half_way_loses_nothing_promised) {
    char path[] = "/tmp/inv-found-XXXXXX", command[64];
    struct rlimit old, low;
    inv_error error;
    memset(&error, 0, sizeof error);
    shop_init(&s, false);
    s.options.durability = INV_DURABLE;
    REQUIRE(mkdtemp(path) != NULL);
    REQUIRE_EQ(inv_env_use_directory(s.env, path, false, &error), INV_OK);
    REQUIRE_EQ(shop_open(&s), INV_OK);
    bool more = true;
    while (more) REQUIRE_EQ(inv_store_prepare(s.store, &more), INV_OK);
    inv_line line = shop_line("A", "W", 1);
    inv_command receive = shop_command(INV_CMD_RECEIVE, NULL, &line, 1);
    for (uint32_t i = 0; i < 301; i++) {
        CHECK_EQ(inv_store_execute(s.store, &receive, 1, &s.reply), INV_OK);
        CHECK_EQ(s.reply.code, INV_OK);
        if (i == 0) CHECK_EQ(inv_store_flush(s.store), INV_OK);
    }
    uint64_t lsn = s.reply.observed_lsn;
    signal(SIGXFSZ, SIG_IGN);
    REQUIRE_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    low.rlim_cur = 16384; /* in the middle of what is to be written */
    REQUIRE_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
    CHECK_EQ(inv_store_flush(s.store), INV_STORE_FAILED);
    REQUIRE_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
    CHECK_EQ(inv_store_wait(s.store, lsn, 0), INV_STORE_FAILED);
    CHECK_EQ(inv_store_close(s.store, &error), INV_STORE_FAILED);
    inv_store_destroy(s.store);
    REQUIRE_EQ(shop_open(&s), INV_OK);
    inv_stock_level level = shop_level(&s, "A", "W");
    CHECK(level.on_hand >= 1 && level.on_hand < 301); /* what was on file, no record in part */
    shop_end(&s);
    snprintf(command, sizeof command, "rm -r %s", path);
    CHECK_EQ(system(command), 0);
}

INV_TEST_MAIN()
