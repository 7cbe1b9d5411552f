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

INV_TEST_MAIN()
