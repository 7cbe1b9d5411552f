/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_retry.c: campaign 15, requests that come twice, late, reordered, changed, after a restart.
 */
#include <inttypes.h>
#include <stdio.h>

#include "campaign.h"

static uint64_t count_requests(const campaign_report *report) { return report->commands; }

static void print(const campaign_report *report) {
    printf("%" PRIu64 " seeds, %" PRIu64 " requests, %" PRIu64 " of them under a known id: %" PRIu64
           " replayed, %" PRIu64 " with another body, %" PRIu64 " stale, %" PRIu64
           " forgotten and new; %" PRIu64 " restarts, %" PRIu64 " expired\n",
           report->scenarios, report->commands, report->duplicates, report->replayed,
           report->mismatches, report->stale, report->forgotten, report->restarts,
           report->expired);
}

static const campaign_part part = {
    .name = "retry", .title = "retries", .unit = "requests", .run = campaign_retry,
    .units = count_requests, .print = print};

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT, .states = 200000};
    campaign_options_read(&options, argc, argv);
    return campaign_main(&part, 1, &options);
}
