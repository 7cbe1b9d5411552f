/* SPDX-License-Identifier: Apache-2.0
 *
 * planted_snapshot.c: proof that the tests of snapshots can fail: bugs planted in copying, replaying
 * and trimming. Each run is a process of its own, since an assertion of the core may end it.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot_body.h"

#define EXIT_FOUND 3

/* Wait status of a child that runs both with a bug. */
static int run_child(inv_plant plant) {
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) abort();
    if (child == 0) {
        inv_planted_bug = (int)plant;
        if (plant != INV_PLANT_NONE) inv_test_all.failure_count = INV_TEST_PRINTED_MAX; /* quiet */
        uint64_t before = inv_test_all.failure_count;
        snapshot_and_log_are_the_store();
        log_is_trimmed_and_two_are_kept();
        id_is_one_reservation();
        fflush(NULL);
        _exit(inv_test_all.failure_count == before ? 0 : EXIT_FOUND);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) abort();
    return status;
}

static void planted_run(const char *name, inv_plant plant) {
    bool caught = run_child(plant) != 0;
    CHECK(caught);
    printf("%s: %s\n", caught ? "caught" : "NOT CAUGHT", name);
}

INV_TEST(nothing_planted) { CHECK_EQ(run_child(INV_PLANT_NONE), 0); }
INV_TEST(replay_that_applies_twice) {
    planted_run("what a stripe's copy holds is applied again", INV_PLANT_SNAPSHOT_FLOORS);
}
INV_TEST(ids_forgotten_while_copying) {
    planted_run("ids are forgotten while stripes are copied", INV_PLANT_SNAPSHOT_FORGETS);
}
INV_TEST(trimming_by_the_newest) {
    planted_run("the log is trimmed by the newest snapshot", INV_PLANT_SNAPSHOT_TRIM_ALL);
}

INV_TEST_MAIN()
