/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_corrupt.c: damaged bytes and damaged files. --full tries every value of every byte.
 */
#include <inttypes.h>
#include <stdio.h>

#include "campaign.h"

static void print_figures(const campaign_report *report) {
    printf("%" PRIu64 " trials: %" PRIu64 " refused, %" PRIu64 " identical, %" PRIu64
           " cut to a proven prefix; %.0f trials/s\n",
           report->trials, report->refused_opens, report->identical, report->prefixes,
           report->seconds > 0 ? (double)report->trials / report->seconds : 0);
}

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT, .states = 10000000};
    campaign_report bytes, files;
    campaign_options_read(&options, argc, argv);
    campaign_corrupt_bytes(&options, &bytes);
    print_figures(&bytes);
    bool bytes_ok = campaign_verdict("damaged bytes", &bytes);
    campaign_corrupt_files(&options, &files);
    print_figures(&files);
    bool files_ok = campaign_verdict("damaged files", &files);
    return campaign_finish((uint64_t)bytes_ok + files_ok, (uint64_t)!bytes_ok + !files_ok);
}
