/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_crash.c: the crash campaign on the library as it ships: power cuts at every storage call and
 * between commands. planted_crash.c runs the same campaign, larger, on the build with yield points,
 * where two appenders overlap.
 */
#include <inttypes.h>
#include <stdio.h>

#include "campaign.h"

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT, .states = 25000};
    campaign_report report;
    campaign_options_read(&options, argc, argv);
    campaign_crash(&options, &report);
    campaign_print_crash(&report);
    bool ok = campaign_verdict("power cuts", &report);
    return campaign_finish(ok, !ok);
}
