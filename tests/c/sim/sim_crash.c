/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_crash.c: the crash campaign on the library as it ships: power cuts at every storage call and
 * between commands. planted_crash.c runs the same campaign, larger, on the build with yield points,
 * where two appenders overlap.
 */
#include "campaign.h"

static const campaign_part part = {
    .name = "crash", .title = "power cuts", .unit = "states", .run = campaign_crash,
    .units = campaign_count_states, .print = campaign_print_crash};

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT, .states = 25000};
    campaign_options_read(&options, argc, argv);
    return campaign_main(&part, 1, &options);
}
