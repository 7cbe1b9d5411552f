/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_io.c: failing storage calls, failing allocations, a full disk.
 */
#include <inttypes.h>
#include <stdio.h>

#include "campaign.h"

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT};
    campaign_report errors, memory, full;
    campaign_options_read(&options, argc, argv);
    campaign_io_errors(&options, &errors);
    printf("%" PRIu64 " runs, %" PRIu64 " faults: %" PRIu64 " refused opens, %" PRIu64
           " failed stores, %" PRIu64 " went on; %" PRIu64 " recoveries\n",
           errors.trials, errors.injected, errors.refused_opens, errors.poisoned, errors.survived,
           errors.states);
    bool errors_ok = campaign_verdict("failing storage calls", &errors);
    campaign_no_memory(&options, &memory);
    printf("%" PRIu64 " runs, %" PRIu64 " failed allocations: %" PRIu64 " refused opens, %" PRIu64
           " went on\n",
           memory.trials, memory.injected, memory.refused_opens, memory.survived);
    bool memory_ok = campaign_verdict("failing allocations", &memory);
    campaign_disk_full(&options, &full);
    printf("%" PRIu64 " runs\n", full.trials);
    bool full_ok = campaign_verdict("full disk", &full);
    uint64_t passed = (uint64_t)errors_ok + memory_ok + full_ok;
    return campaign_finish(passed, 3 - passed);
}
