/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_engine.c: campaign 2, the whole engine with its clients, faults and restarts in one thread.
 */
#include <inttypes.h>
#include <stdio.h>

#include "campaign.h"

static void print(const campaign_report *report) {
    printf("%" PRIu64 " seeds, %" PRIu64 " commands (%" PRIu64 " refused, %" PRIu64
           " replayed), %" PRIu64 " acknowledged, %" PRIu64 " expired, %" PRIu64 " faults, %" PRIu64
           " openings, %" PRIu64 " requests asked again; well again after at most %" PRIu64
           " rounds\n",
           report->scenarios, report->commands, report->refused, report->replayed, report->acks,
           report->expired, report->faults, report->restarts, report->retries,
           report->liveness_rounds_max);
}

static const campaign_part part = {
    .name = "engine", .title = "the whole engine", .unit = "seeds", .run = campaign_engine,
    .units = campaign_count_scenarios, .print = print};

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT, .states = 2000};
    campaign_options_read(&options, argc, argv);
    return campaign_main(&part, 1, &options);
}
