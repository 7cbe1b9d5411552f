/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_corrupt.c: damaged bytes, files and snapshots. --full tries every value of every byte.
 */
#include <inttypes.h>
#include <stdio.h>

#include "campaign.h"

static void print_figures(const campaign_report *report) {
    printf("%" PRIu64 " trials: %" PRIu64 " refused, %" PRIu64 " identical, %" PRIu64
           " cut to a proven prefix, %" PRIu64 " of a sample went on with the loss accepted; %.0f"
           " trials/s\n",
           report->trials, report->refused_opens, report->identical, report->prefixes,
           report->accepted, report->seconds > 0 ? (double)report->trials / report->seconds : 0);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(const campaign_options *options, campaign_report *report);
    } parts[] = {{"damaged bytes", campaign_corrupt_bytes},
                 {"damaged files", campaign_corrupt_files},
                 {"damaged snapshots", campaign_corrupt_snapshots}};
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT, .states = 10000000};
    uint64_t passed = 0, failed = 0;
    campaign_options_read(&options, argc, argv);
    for (uint32_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        campaign_report report;
        parts[i].run(&options, &report);
        print_figures(&report);
        bool ok = campaign_verdict(parts[i].name, &report);
        passed += ok;
        failed += !ok;
    }
    return campaign_finish(passed, failed);
}
