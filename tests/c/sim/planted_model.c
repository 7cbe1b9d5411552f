/* SPDX-License-Identifier: Apache-2.0
 *
 * planted_model.c: proof that campaign 1 can fail by its batches alone: bugs planted in their short
 * way (inv_batch_run.c), where no single call comes by. Each runs in a process of its own, since an
 * assertion of the core may end it; without a bug the same runs must pass.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "../../../src/invcore/base/inv_base.h"
#include "model_body.h"

#define STEPS 5000u
#define SEEDS 3u
#define EXIT_FOUND 3

static bool model_agrees(bool durable) {
    uint64_t code_counts[70] = {0};
    for (uint64_t i = 0; i < SEEDS; i++)
        if (!run_one(inv_test_all.seed + i, durable, STEPS, code_counts)) return false;
    return true;
}

/* Wait status of the runs in a child. */
static int run_child(inv_plant plant, bool durable) {
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) abort();
    if (child == 0) {
        inv_planted_bug = (int)plant;
        bool agrees = model_agrees(durable);
        fflush(NULL);
        _exit(agrees ? 0 : EXIT_FOUND);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) abort();
    return status;
}

static void planted_run(const char *name, inv_plant plant) {
    for (uint32_t durable = 0; durable < 2; durable++) {
        CHECK_EQ(run_child(INV_PLANT_NONE, durable == 1), 0);
        bool caught = run_child(plant, durable == 1) != 0;
        CHECK(caught);
        printf("%s: %s, %s\n", caught ? "caught" : "NOT CAUGHT", name,
               durable == 1 ? "durable" : "memory");
    }
}

INV_TEST(a_batch_that_trusts_its_ids_to_be_new) {
    planted_run("ids not looked for", INV_PLANT_BATCH_ID_UNCHECKED);
}
INV_TEST(a_batch_that_does_not_touch_its_stripes) {
    planted_run("stripes not touched", INV_PLANT_BATCH_NO_TOUCH);
}

INV_TEST_MAIN()
