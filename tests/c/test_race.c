/* SPDX-License-Identifier: Apache-2.0
 *
 * test_race.c: many threads on few rows (campaigns 12 and 14). What each race looks for stands in
 * race_body.h; planted_race.c proves that they can find it.
 *
 * 8 threads with 2 M commands each are the bulk of it; INV_TEST_SCALE makes it smaller or larger.
 */
#include "race_body.h"

static void race_expect(const char *problem) {
    if (problem != NULL) fprintf(stderr, "found: %s\n", problem);
    CHECK(problem == NULL);
}

INV_TEST(one_unit_has_one_taker) {
    for (uint32_t threads = 2; threads <= 8; threads *= 2)
        race_expect(race_one_unit(threads, inv_test_scaled(10000)));
}

INV_TEST(one_key_has_one_effect) {
    race_expect(race_same_key(2, inv_test_scaled(10000)));
    race_expect(race_same_key(8, inv_test_scaled(4000)));
}

INV_TEST(one_tombstone_ends_an_id) { race_expect(race_tombstones(8, inv_test_scaled(4000))); }

INV_TEST(one_op_id_belongs_to_one_call) {
    race_expect(race_one_op(2, inv_test_scaled(6000)));
    race_expect(race_one_op(8, inv_test_scaled(3000)));
}

INV_TEST(nothing_is_lost_or_promised_twice) {
    race_expect(race_everything(false, 8, inv_test_scaled(2000000)));
}

INV_TEST(nothing_is_lost_with_a_log) {
    race_expect(race_everything(true, 4, inv_test_scaled(60000)));
}

INV_TEST(the_shortest_ttls) { race_expect(race_short_ttls(8, inv_test_scaled(60000))); }

INV_TEST(carts_in_adverse_orders_never_block) {
    /* One second is the promise; a machine shared with others gets some more. */
    race_expect(race_adverse_carts(8, inv_test_scaled(60000), 5000));
}

INV_TEST(reads_are_never_torn) { race_expect(race_readers(inv_test_scaled(400))); }

INV_TEST_MAIN()
