/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_clock.c: campaign 17, clocks that are set, drift, stop and begin anew. One seed is one life
 * of a store; `sim_clock --states 50000` is the long run, `sim_clock --seed N --states 1` repeats
 * one.
 */
#include <inttypes.h>
#include <stdio.h>

#include "campaign.h"

static void print(const campaign_report *report) {
    printf("%" PRIu64 " seeds, %" PRIu64 " commands, %" PRIu64 " restarts, %" PRIu64
           " events of the wall clock, %" PRIu64 " freezes inside a call, %" PRIu64
           " holds looked at, %" PRIu64 " expired\n",
           report->scenarios, report->commands, report->generations, report->trials,
           report->injected, report->states, report->expired);
}

static const campaign_part part = {
    .name = "clock", .title = "clocks", .unit = "seeds", .run = campaign_clock,
    .units = campaign_count_scenarios, .print = print};

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT, .states = 1000};
    campaign_options_read(&options, argc, argv);
    return campaign_main(&part, 1, &options);
}
