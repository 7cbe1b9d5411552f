/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_corrupt.c: damaged bytes, files and snapshots. Of its trials every second
 * is made, or all with --states 1000000; --full tries every value of every byte.
 */
#include "campaign.h"

static const campaign_part parts[] = {
    {.name = "bytes", .title = "damaged bytes", .unit = "trials", .run = campaign_corrupt_bytes,
     .units = campaign_count_trials, .print = campaign_print_trials, .one_round = true},
    {.name = "files", .title = "damaged files", .unit = "trials", .run = campaign_corrupt_files,
     .units = campaign_count_trials, .print = campaign_print_trials, .one_round = true},
    {.name = "snapshots", .title = "damaged snapshots", .unit = "trials",
     .run = campaign_corrupt_snapshots, .units = campaign_count_trials,
     .print = campaign_print_trials, .one_round = true},
};

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT, .states = 500000};
    campaign_options_read(&options, argc, argv);
    return campaign_main(parts, sizeof parts / sizeof parts[0], &options);
}
