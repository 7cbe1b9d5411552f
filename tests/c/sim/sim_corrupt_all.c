/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_corrupt_all.c: every byte of a small segment set to every other value. Opening must refuse or
 * show the same state; never another one.
 */
#include <inttypes.h>
#include <stdio.h>

#include "campaign.h"

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT, .states = 16384 * 255};
    campaign_report report;
    campaign_options_read(&options, argc, argv);
    campaign_corrupt_all_values(&options, &report);
    printf("%" PRIu64 " trials: %" PRIu64 " refused, %" PRIu64 " identical, %" PRIu64
           " cut to a proven prefix, %" PRIu64 " of a sample went on with the loss accepted; %.0f"
           " trials/s\n",
           report.trials, report.refused_opens, report.identical, report.prefixes,
           report.accepted, report.seconds > 0 ? (double)report.trials / report.seconds : 0);
    bool ok = campaign_verdict("every byte, every value", &report);
    return campaign_finish(ok, !ok);
}
