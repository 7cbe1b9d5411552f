/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_corrupt_all.c: every byte of a small segment set to every other value (of that one in eight,
 * for all of it --full --states 4177920). Opening must refuse or show the same state; never another
 * one.
 */
#include "campaign.h"

static const campaign_part part = {
    .name = "values", .title = "every byte, every value", .unit = "trials",
    .run = campaign_corrupt_all_values, .units = campaign_count_trials,
    .print = campaign_print_trials, .one_round = true};

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT, .states = 16384 * 255 / 8};
    campaign_options_read(&options, argc, argv);
    return campaign_main(&part, 1, &options);
}
