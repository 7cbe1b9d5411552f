/* SPDX-License-Identifier: Apache-2.0
 *
 * test_digest.c: the state as a number: kept by the stripes, told by records, logged, and compared
 * by replay, by loading a snapshot and by verify. A bit is flipped in memory in every way that
 * matters.
 */
#include "snapshot_body.h"

static void live_some(inv_test_rng *rng, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) live(rng);
}

/* A disk as a crash or a close leaves it, opened by another process. */
static inv_recovery reopened(digest *out, inv_result expected, inv_error *error) {
    inv_recovery recovery = {0};
    if (!CHECK_EQ(open_copy(NULL, &recovery, out, error), expected))
        fprintf(stderr, "%s\n", error->message);
    return recovery;
}

static uint64_t sum_of_stripes(void) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s.store->stripe_count; i++) {
        CHECK_EQ(inv_digest_stripe(s.store, i), s.store->stripes[i].digest);
        sum += s.store->stripes[i].digest;
    }
    return sum;
}

INV_TEST(stripes_records_and_log_agree) {
    for (uint64_t seed = 1; seed <= 12; seed++) {
        inv_test_rng rng = inv_test_rng_of(seed);
        begin(seed, seed % 2 == 0 ? 6000 : 0);
        CHECK_EQ(inv_digest_sum(s.store), 0); /* of nothing */
        for (uint32_t i = 0; i < 30; i++) {
            live_some(&rng, 20);
            CHECK_EQ(s.store->digest.sum, sum_of_stripes()); /* the flusher's, of the records */
            CHECK_EQ(s.store->digest.walked_lsn, inv_wal_durable(&s.store->wal));
        }
        digest before = digest_of(s.store), after;
        inv_error error;
        bool killed = seed % 3 == 0;
        if (!killed) {
            come_to_rest();
            before = digest_of(s.store);
            shop_shut(&s);
        }
        inv_memory_settle(s.memory);
        inv_recovery recovery = reopened(&after, INV_OK, &error);
        CHECK(recovery.digests_checked > 0);
        if (!killed) CHECK(same("closed and opened", &before, &after));
        if (killed)
            shop_end(&s);
        else {
            inv_env_destroy(s.env);
            inv_memory_destroy(s.memory);
        }
    }
}

/* Nothing is written twice for nothing. */
INV_TEST(a_store_that_did_nothing_logs_none) {
    shop_start(&s, true);
    uint64_t logged = s.store->digest.logged_lsn;
    for (uint32_t i = 0; i < 5; i++) CHECK_EQ(inv_store_flush(s.store), INV_OK);
    CHECK_EQ(s.store->digest.logged_lsn, logged);
    CHECK_EQ(shop_receive(&s, "MUG", "LON", 5), INV_OK);
    for (uint32_t i = 0; i < 5; i++) CHECK_EQ(inv_store_flush(s.store), INV_OK);
    CHECK_EQ(s.store->digest.logged_lsn, logged); /* 16 MiB are not full */
    CHECK_EQ(s.store->digest.walked_lsn, inv_wal_durable(&s.store->wal));
    shop_shut(&s);
    inv_recovery recovery;
    CHECK_EQ(shop_open(&s), INV_OK);
    inv_store_recovery(s.store, &recovery);
    CHECK_EQ(recovery.digests_checked, 1); /* of the close */
    shop_end(&s);
}

/* ---- faults ---------------------------------------------------------------------------------- */

/* Some row with units on hand: where it lies. */
static inv_row *some_row(const char *sku_prefix) {
    for (uint32_t i = 0; i < s.store->stripe_count; i++) {
        inv_table *table = &s.store->stripes[i].table;
        for (uint32_t place = 0; place < table->sku_count; place++) {
            uint32_t count;
            inv_row *rows = inv_table_rows_of(table, place, &count);
            inv_text name = inv_table_name(table, place);
            if (name.length < strlen(sku_prefix) ||
                memcmp(name.bytes, sku_prefix, strlen(sku_prefix)) != 0)
                continue;
            for (uint32_t k = 0; k < count; k++)
                if (rows[k].on_hand > 0) return &rows[k];
        }
    }
    return NULL;
}

static void flip_a_bit(inv_row *row) {
    inv_row flipped = inv_row_load(row);
    flipped.on_hand ^= 1u << 20;
    inv_row_store(row, flipped);
}

static inv_hold *the_hold(const char *id) {
    for (uint32_t i = 0; i < s.store->stripe_count; i++) {
        inv_hold_place at = {0};
        inv_ref ref;
        while ((ref = inv_hold_walk_next(&s.store->holds, &s.store->stripes[i].home, &at)) != 0) {
            inv_text text = inv_hold_text(&s.store->holds, inv_hold_at(&s.store->holds, ref));
            if (text.length == strlen(id) && memcmp(text.bytes, id, text.length) == 0)
                return inv_hold_at(&s.store->holds, ref);
        }
    }
    return NULL;
}

static bool verify_finds(const char *what) {
    inv_check_report report;
    memset(&report, 0, sizeof report);
    CHECK_EQ(inv_store_check(s.store, &report), INV_OK);
    return !report.ok && strstr(report.problem, what) != NULL;
}

/* In a row that nobody touches any more: the log is right, and verify finds the row. */
INV_TEST(a_bit_that_flips_is_found_by_verify) {
    begin(2, 0);
    CHECK_EQ(shop_receive(&s, "QUIET", "LON", 5), INV_OK);
    settle_once();
    inv_check_report report;
    memset(&report, 0, sizeof report);
    CHECK_EQ(inv_store_check(s.store, &report), INV_OK);
    CHECK(report.ok);
    inv_row *row = some_row("QUIET");
    if (CHECK(row != NULL)) flip_a_bit(row);
    CHECK(verify_finds("the digest is not of what is there"));
    shop_shut(&s);
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(shop_level(&s, "QUIET", "LON").on_hand, 5);
    shop_end(&s);
}

/* In a row that is changed afterwards: the log goes on from what was not there. */
INV_TEST(a_bit_that_flips_is_found_by_replay) {
    for (uint32_t way = 0; way < 3; way++) {
        inv_test_rng rng = inv_test_rng_of(7);
        inv_error error;
        digest state, before;
        begin(7, 0);
        s.env->digest_bytes = 4096;
        live_some(&rng, 100);
        come_to_rest();
        CHECK_EQ(shop_receive(&s, "HOT", "LON", 5), INV_OK);
        settle_once();
        before = digest_of(s.store);
        uint64_t lsn = s.reply.lsn;
        inv_row *row = some_row("HOT");
        if (!CHECK(row != NULL)) return;
        flip_a_bit(row);
        CHECK_EQ(shop_receive(&s, "HOT", "LON", 1), INV_OK);
        if (way == 1) live_some(&rng, 100);
        if (way == 2) pass_time(1000);
        CHECK(verify_finds("the digest is not of what is there"));
        shop_shut(&s);
        (void)reopened(&state, INV_LOG_CORRUPT, &error);
        CHECK(strstr(error.message, "is not what was there") != NULL);
        CHECK(error.lsn > lsn);
        /* What is right of it can be read, and gone on from, as far as it is right. */
        s.options.read_only = true;
        s.options.upto_lsn = lsn;
        (void)reopened(&state, INV_OK, &error);
        CHECK(same("before the flip", &before, &state));
        s.options.read_only = false;
        s.options.upto_lsn = 0;
        memset(&error, 0, sizeof error);
        CHECK_EQ(inv_store_open(s.env, &s.options, &s.store, &error), INV_LOG_CORRUPT);
        uint64_t digest_lsn = error.lsn;
        s.options.accept_loss_lsn = lsn;
        CHECK_EQ(inv_store_open(s.env, &s.options, &s.store, &error), INV_BAD_REQUEST);
        s.options.accept_loss_lsn = digest_lsn;
        if (!CHECK_EQ(inv_store_open(s.env, &s.options, &s.store, &error), INV_OK)) return;
        s.options.accept_loss_lsn = 0;
        shop_settle(&s);
        CHECK_EQ(shop_receive(&s, "HOT", "LON", 1), INV_OK);
        shop_shut(&s);
        CHECK_EQ(shop_open(&s), INV_OK);
        shop_end(&s);
    }
}

/* A copy of a flipped row is no snapshot: the log, or an older one, is better. */
INV_TEST(a_bit_that_flips_is_found_by_loading) {
    for (uint32_t holds = 0; holds < 2; holds++) {
        inv_test_rng rng = inv_test_rng_of(11);
        inv_error error;
        digest state, before;
        begin(11, 0);
        live_some(&rng, 200);
        CHECK_EQ(shop_receive(&s, "QUIET", "LON", 5), INV_OK);
        CHECK_EQ(shop_reserve(&s, "paid-for", "QUIET", "LON", 2, 60000), INV_OK);
        CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "paid-for"), INV_OK);
        come_to_rest();
        before = digest_of(s.store);
        inv_row *row = some_row("QUIET");
        if (!CHECK(row != NULL)) return;
        if (holds == 0) flip_a_bit(row);
        if (holds == 1) {
            inv_hold *hold = the_hold("paid-for");
            if (!CHECK(hold != NULL)) return;
            hold->account ^= 1;
        }
        ask_for_one();
        while (is_copying() || atomic_load(&s.store->snapshots) == 0) settle_once();
        inv_store_destroy(s.store);
        s.store = NULL;
        inv_memory_settle(s.memory);
        inv_recovery recovery = reopened(&state, INV_OK, &error);
        CHECK_EQ(recovery.snapshots_damaged, 1);
        CHECK_EQ(recovery.snapshot_lsn, 0);
        CHECK(same("before the flip", &before, &state));
        inv_env_destroy(s.env);
        inv_memory_destroy(s.memory);
    }
}

INV_TEST_MAIN()
