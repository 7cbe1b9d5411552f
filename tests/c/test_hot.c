/* SPDX-License-Identifier: Apache-2.0
 *
 * test_hot.c: campaign 12, conservation on hot rows (race_hot.h), and campaign 14, whole carts
 * (race_carts.h). planted_race.c proves that they can fail. INV_TEST_SCALE and INV_TEST_SECONDS
 * make them longer.
 */
#include "race_carts.h"
#include "race_hot.h"

#define ROUND_ATTEMPTS 4000000u /* of one store: what it remembers of ended ids stays small */
#define ROUND_CARTS 20000u

static void expect(const char *problem) {
    if (problem != NULL) fprintf(stderr, "found: %s\n", problem);
    CHECK(problem == NULL);
}

INV_TEST(hot_rows_are_never_oversold) {
    inv_test_rounds rounds = inv_test_rounds_of(inv_test_scaled(6));
    uint64_t attempts = 0;
    uint64_t each = inv_test_scale() < 0.2 ? inv_test_scaled(ROUND_ATTEMPTS) : ROUND_ATTEMPTS;
    while (inv_test_again(&rounds)) {
        bool durable = rounds.begun % 5 == 0;
        expect(race_hot_rows(durable, durable ? 4 : 8, durable ? each / 8 : each, &attempts));
    }
    inv_test_units(attempts, "attempts", rounds.seed_first, rounds.seed_first + rounds.begun);
}

INV_TEST(carts_are_seen_whole) {
    inv_test_rounds rounds = inv_test_rounds_of(inv_test_scaled(10));
    uint64_t carts = 0;
    uint64_t each = inv_test_scale() < 0.2 ? inv_test_scaled(ROUND_CARTS) : ROUND_CARTS;
    while (inv_test_again(&rounds)) {
        bool durable = rounds.begun % 5 == 0;
        /* One second is the promise; a machine shared with others gets some more. */
        expect(race_whole_carts(durable, rounds.begun % 2 == 0 ? 4 : 8, each, 5000, &carts));
    }
    inv_test_units(carts, "carts", rounds.seed_first, rounds.seed_first + rounds.begun);
}

INV_TEST_MAIN()
