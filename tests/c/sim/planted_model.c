/* SPDX-License-Identifier: Apache-2.0
 *
 * planted_model.c: proof that campaign 1 can fail by its batches alone: bugs planted in their short
 * way (inv_batch_run.c), where no single call comes by. Each runs in a process of its own, since an
 * assertion of the core may end it; without a bug the same runs must pass.
 */
#include "../planted.h"
#include "model_body.h"

#define STEPS 5000u
#define SEEDS 3u

static bool model_agrees(bool durable) {
    uint64_t code_counts[70] = {0};
    for (uint64_t i = 0; i < SEEDS; i++)
        if (!run_one(inv_test_all.seed + i, durable, STEPS, code_counts)) return false;
    return true;
}

static void find(void *argument, char *out_text) {
    const bool *durable = argument;
    if (!model_agrees(*durable)) snprintf(out_text, PLANTED_TEXT_BYTES, "the model disagrees");
}

static void plant(const char *name, inv_plant bug) {
    for (uint32_t i = 0; i < 2; i++) {
        bool durable = i == 1;
        planted_run clean = planted_try(INV_PLANT_NONE, find, &durable, 0);
        planted_run run = planted_try((int)bug, find, &durable, 0);
        CHECK(!clean.found);
        CHECK(planted_say((int)bug, name, "model", &run));
    }
}

INV_TEST(a_batch_that_trusts_its_ids_to_be_new) {
    plant("ids not looked for", INV_PLANT_BATCH_ID_UNCHECKED);
}
INV_TEST(a_batch_that_does_not_touch_its_stripes) {
    plant("stripes not touched", INV_PLANT_BATCH_NO_TOUCH);
}

INV_TEST_MAIN()
