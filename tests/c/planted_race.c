/* SPDX-License-Identifier: Apache-2.0
 *
 * planted_race.c: proof that the races can fail. Each planted bug of locking runs in a process of
 * its own, since its finder may hang or an assertion may end it; it counts as caught when that
 * process reports a problem, dies by an assertion or stops making progress. Without a bug the same
 * races must pass.
 */
#include "planted.h"
#include "race_body.h"
#include "race_carts.h"
#include "race_hot.h"

#define CHILD_SECONDS_MAX 120u

static const char *find_deadlock(void) { return race_adverse_carts(4, 40000, 2000); }

static const char *find_oversell(void) {
    const char *problem = race_one_unit(2, 20000);
    return problem != NULL ? problem : race_everything(false, 4, 200000);
}

static const char *find_torn_read(void) { return race_readers(300); }

static const char *find_oversell_by_books(void) {
    uint64_t attempts = 0;
    return race_hot_rows(false, 4, 2000000, &attempts);
}

static const char *find_part_of_a_cart(void) {
    uint64_t carts = 0;
    return race_whole_carts(false, 4, 6000, 5000, &carts);
}

static const char *find_deadlock_of_carts(void) {
    uint64_t carts = 0;
    return race_whole_carts(false, 4, 40000, 2000, &carts);
}

typedef struct planted_case {
    const char *name;
    const char *campaign;
    inv_plant plant;
    const char *(*find)(void);
} planted_case;

static const planted_case cases[] = {
    {"unsorted stripe locks", "test_race", INV_PLANT_UNSORTED_LOCKS, find_deadlock},
    {"no stripe lock", "test_race", INV_PLANT_NO_STRIPE_LOCK, find_oversell},
    {"seqlock without second check", "test_race", INV_PLANT_SEQLOCK_NO_RECHECK, find_torn_read},
    {"unsorted stripe locks", "carts", INV_PLANT_UNSORTED_LOCKS, find_deadlock_of_carts},
    {"no stripe lock", "hot", INV_PLANT_NO_STRIPE_LOCK, find_oversell_by_books},
    {"a cart's rows visible one by one", "carts", INV_PLANT_CART_IN_PIECES, find_part_of_a_cart},
};

static void find(void *argument, char *out_text) {
    const planted_case *planted = argument;
    const char *problem = planted->find();
    if (problem != NULL) snprintf(out_text, PLANTED_TEXT_BYTES, "%s", problem);
}

static void plant(planted_case planted) {
    planted_run clean = planted_try(INV_PLANT_NONE, find, &planted, CHILD_SECONDS_MAX);
    planted_run run = planted_try((int)planted.plant, find, &planted, CHILD_SECONDS_MAX);
    if (!CHECK(!clean.found)) printf("nothing planted: %s\n", clean.how);
    CHECK(planted_say((int)planted.plant, planted.name, planted.campaign, &run));
}

INV_TEST(unsorted_stripe_locks) { plant(cases[0]); }
INV_TEST(no_stripe_lock) { plant(cases[1]); }
INV_TEST(seqlock_without_second_check) { plant(cases[2]); }
INV_TEST(unsorted_stripe_locks_by_carts) { plant(cases[3]); }
INV_TEST(no_stripe_lock_by_books) { plant(cases[4]); }
INV_TEST(cart_in_pieces) { plant(cases[5]); }

INV_TEST_MAIN()
