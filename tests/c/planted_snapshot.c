/* SPDX-License-Identifier: Apache-2.0
 *
 * planted_snapshot.c: proof that the tests of snapshots can fail: bugs planted in copying,
 * replaying and trimming. Each run is its own process, since an assertion of the core may end it.
 */
#include "planted.h"
#include "snapshot_body.h"

static void find(void *argument, char *out_text) {
    (void)argument;
    if (inv_planted_bug != INV_PLANT_NONE)
        inv_test_all.failure_count = INV_TEST_PRINTED_MAX; /* quiet */
    uint64_t before = inv_test_all.failure_count;
    snapshot_and_log_are_the_store();
    log_is_trimmed_and_two_are_kept();
    id_is_one_reservation();
    if (inv_test_all.failure_count != before)
        snprintf(out_text, PLANTED_TEXT_BYTES, "the store came back as another");
}

static void plant(const char *name, inv_plant bug) {
    planted_run run = planted_try((int)bug, find, NULL, 0);
    CHECK(planted_say((int)bug, name, "test_snapshot", &run));
}

INV_TEST(nothing_planted) { plant("nothing", INV_PLANT_NONE); }
INV_TEST(replay_that_applies_twice) {
    plant("what a stripe's copy holds is applied again", INV_PLANT_SNAPSHOT_FLOORS);
}
INV_TEST(ids_forgotten_while_copying) {
    plant("ids are forgotten while stripes are copied", INV_PLANT_SNAPSHOT_FORGETS);
}
INV_TEST(trimming_by_the_newest) {
    plant("the log is trimmed by the newest snapshot", INV_PLANT_SNAPSHOT_TRIM_ALL);
}

INV_TEST(replay_that_compares_starts) {
    plant("a record that begins where a stripe's copy ends is left out", INV_PLANT_SNAPSHOT_START);
}

/* ---- a digest that can not be told: the library with planted bugs has yield points ---------- */

static uint32_t flushes;

/* A group commit while a record is claimed and not yet copied. */
static void flush_in_between(void *context, int point) {
    (void)context;
    if (point != INV_YIELD_BEFORE_COPY || flushes == 0) return;
    flushes--;
    CHECK_EQ(inv_store_flush(s.store), INV_OK);
}

INV_TEST(a_digest_says_nothing_while_somebody_copies) {
    inv_test_rng rng = inv_test_rng_of(5);
    begin(5, 0);
    const inv_digest *told = &s.store->digest;
    s.env->digest_bytes = 256;
    for (uint32_t i = 0; i < 20; i++) live(&rng);
    CHECK_EQ(told->tried_lsn, told->logged_lsn);
    s.env->yield = flush_in_between;
    for (uint32_t i = 0; i < 40 && told->tried_lsn == told->logged_lsn; i++) {
        flushes = 1;
        CHECK_EQ(shop_receive(&s, "MUG", "LON", 1), INV_OK);
    }
    s.env->yield = NULL;
    CHECK(told->tried_lsn > told->logged_lsn);
    for (uint32_t i = 0; i < 40; i++) live(&rng); /* the next one says it */
    CHECK_EQ(told->tried_lsn, told->logged_lsn);
    CHECK_EQ(told->sum, inv_digest_sum(s.store));
    shop_shut(&s);
    CHECK_EQ(shop_open(&s), INV_OK);
    shop_end(&s);
}

INV_TEST_MAIN()
