/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_model.c: campaign 1, the store against the naive oracle (model_body.h).
 *
 * Run k of a test uses seed + k, so the seed printed with a failure fails in the first run of
 * `sim_model <seed>`. INV_TEST_SCALE multiplies the number of runs, INV_TEST_SECONDS goes on for so
 * long.
 */
#include "model_body.h"

#define RUN_COUNT 24u
#define STEPS_A_RUN 25000u

static void runs(bool durable) {
    uint64_t code_counts[70] = {0};
    uint64_t count = inv_test_scaled(RUN_COUNT);
    inv_test_rounds rounds = inv_test_rounds_of(count);
    while (inv_test_again(&rounds))
        if (!run_one(inv_test_all.seed, durable, STEPS_A_RUN, code_counts)) break;
    count = rounds.begun;
    printf("%s: seeds %" PRIu64 " to %" PRIu64 ", %" PRIu64 " commands:",
           durable ? "durable" : "memory", rounds.seed_first, rounds.seed_first + count - 1,
           count * STEPS_A_RUN);
    for (uint32_t i = 0; i < 70; i++)
        if (code_counts[i] > 0)
            printf(" %s %" PRIu64, inv_result_name((int)i), code_counts[i]);
    printf("\n");
    inv_test_units(count * STEPS_A_RUN, "commands", rounds.seed_first, rounds.seed_first + count);
    /* A generator that stopped meeting a rule would make this campaign blind to it. */
    static const int wanted[] = {INV_OK, INV_REPLAYED, INV_INSUFFICIENT, INV_EXPIRED,
                                 INV_ALREADY_COMMITTED, INV_ALREADY_RELEASED,
                                 INV_ALREADY_CANCELLED, INV_ALREADY_SHIPPED, INV_CAS_FAILED,
                                 INV_UNKNOWN_RESERVATION, INV_UNKNOWN_SKU, INV_BAD_REQUEST,
                                 INV_IDEMPOTENCY_MISMATCH, INV_OVER_COMMIT, INV_QTY_OUT_OF_RANGE};
    for (uint32_t i = 0; i < sizeof wanted / sizeof *wanted && count >= RUN_COUNT; i++)
        if (!CHECK(code_counts[wanted[i]] > 0)) printf("never: %s\n", inv_result_name(wanted[i]));
}

INV_TEST(memory_mode_equals_model) { runs(false); }
INV_TEST(durable_mode_equals_model) { runs(true); }

INV_TEST_MAIN()
