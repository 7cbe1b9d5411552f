/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_io.c: failing storage calls, failing allocations, a full disk.
 */
#include <inttypes.h>
#include <stdio.h>

#include "campaign.h"

static void print_errors(const campaign_report *report) {
    printf("%" PRIu64 " runs, %" PRIu64 " faults: %" PRIu64 " refused opens, %" PRIu64
           " failed stores, %" PRIu64 " went on; %" PRIu64 " recoveries\n",
           report->trials, report->injected, report->refused_opens, report->poisoned,
           report->survived, report->states);
}

static void print_memory(const campaign_report *report) {
    printf("%" PRIu64 " runs, %" PRIu64 " failed allocations: %" PRIu64 " refused opens, %" PRIu64
           " went on\n",
           report->trials, report->injected, report->refused_opens, report->survived);
}

static const campaign_part parts[] = {
    {.name = "errors", .title = "failing storage calls", .unit = "faults",
     .run = campaign_io_errors, .units = campaign_count_injected, .print = print_errors,
     .one_round = true},
    {.name = "memory", .title = "failing allocations", .unit = "faults",
     .run = campaign_no_memory, .units = campaign_count_injected, .print = print_memory,
     .one_round = true},
    {.name = "full", .title = "full disk", .unit = "runs", .run = campaign_disk_full,
     .units = campaign_count_trials, .one_round = true},
};

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT};
    campaign_options_read(&options, argc, argv);
    return campaign_main(parts, sizeof parts / sizeof parts[0], &options);
}
