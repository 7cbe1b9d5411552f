/* SPDX-License-Identifier: Apache-2.0
 *
 * planted_log.c: proof that the fault campaigns can fail. Each bug of log and time is planted in
 * turn and the campaign that is there to find it must report a violation; with no bug planted the
 * same campaigns, of the same size, must report none.
 *
 * Each run is a process of its own: a planted bug may well trip an assertion of the core, which
 * ends the process. That counts as caught, and the line says so.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../src/invcore/base/inv_base.h"
#include "campaign.h"

#define EXIT_CAUGHT 10
#define EXIT_PASSED 0

typedef void (*campaign)(const campaign_options *options, campaign_report *report);

typedef struct planted {
    int bug;
    const char *name;
    campaign run;
    const char *campaign_name;
    uint64_t states;
} planted;

static const planted list[] = {
    {INV_PLANT_ACK_BEFORE_SYNC, "acknowledge before sync", campaign_crash, "crash", 10000},
    {INV_PLANT_SYNC_RETRY, "retry a failed sync", campaign_io_errors, "io errors", 0},
    /* Needs a void record to fit behind a new one: rarer than the others, so it gets more states. */
    {INV_PLANT_APPEND_RECOVERED, "append to a recovered segment", campaign_crash, "crash", 300000},
    {INV_PLANT_APPLY_BEFORE_CREDIT, "apply before credit", campaign_disk_full, "full disk", 0},
    {INV_PLANT_RESERVE_FOR_ALL, "reserve segments used by new reserves", campaign_disk_full,
     "full disk", 0},
    {INV_PLANT_REFUSAL_NO_WAIT, "refusal not waiting", campaign_crash, "crash", 10000},
    {INV_PLANT_HEADER_CRC_IGNORED, "ignore header CRC", campaign_corrupt_bytes, "damaged bytes",
     60000},
    {INV_PLANT_PREFIX_FROM_TAIL, "prefix computed from tail alone", campaign_crash, "crash", 10000},
    {INV_PLANT_SNAPSHOT_FLOORS, "replay onto a snapshot applies twice", campaign_crash, "crash",
     10000},
    {INV_PLANT_SNAPSHOT_NO_SETTLE, "a snapshot of what is not durable", campaign_crash, "crash",
     30000},
    {INV_PLANT_EXPIRY_BY_WALL, "expiry by wall clock", campaign_clock, "clocks", 100},
    {INV_PLANT_DOWNTIME_TRUSTED, "downtime not clamped", campaign_clock, "clocks", 100},
    {INV_PLANT_NONE, "nothing", campaign_crash, "crash", 10000},
    {INV_PLANT_NONE, "nothing", campaign_io_errors, "io errors", 0},
    {INV_PLANT_NONE, "nothing", campaign_disk_full, "full disk", 0},
    {INV_PLANT_NONE, "nothing", campaign_corrupt_bytes, "damaged bytes", 60000},
    {INV_PLANT_NONE, "nothing", campaign_clock, "clocks", 100},
};

static void child(const planted *plan, uint64_t seed, int pipe_out) {
    campaign_options options = {.seed = seed, .states = plan->states};
    campaign_report report;
    inv_planted_bug = plan->bug;
    plan->run(&options, &report);
    size_t length = strlen(report.problem);
    ssize_t written = write(pipe_out, report.problem, length);
    (void)written;
    _exit(length > 0 ? EXIT_CAUGHT : EXIT_PASSED);
}

/* Runs one plan in a process of its own; fills what it reported. */
static int run_plan(const planted *plan, uint64_t seed, char *out_problem, size_t out_bytes) {
    int ends[2];
    if (pipe(ends) != 0) abort();
    fflush(stdout);
    pid_t process = fork();
    if (process < 0) abort();
    if (process == 0) {
        close(ends[0]);
        child(plan, seed, ends[1]);
    }
    close(ends[1]);
    size_t used = 0;
    for (;;) {
        ssize_t got = read(ends[0], out_problem + used, out_bytes - 1 - used);
        if (got <= 0) break;
        used += (size_t)got;
    }
    out_problem[used] = '\0';
    close(ends[0]);
    int status = 0;
    if (waitpid(process, &status, 0) != process) abort();
    return status;
}

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT};
    campaign_options_read(&options, argc, argv);
    uint64_t passed = 0, failed = 0;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        const planted *plan = &list[i];
        char problem[1200];
        int status = run_plan(plan, options.seed, problem, sizeof problem);
        bool ended = WIFEXITED(status);
        bool found = !ended || WEXITSTATUS(status) == EXIT_CAUGHT;
        bool ok = found == (plan->bug != INV_PLANT_NONE);
        if (plan->bug == INV_PLANT_NONE)
            printf("%s: nothing planted, campaign %s%s%s\n", ok ? "passed" : "FALSE ALARM",
                   plan->campaign_name, found ? ": " : "", ended ? problem : "it died");
        else
            printf("%s: %s (campaign %s%s%s)\n", found ? "caught" : "MISSED", plan->name,
                   plan->campaign_name, found ? ": " : "",
                   ended ? problem : "an assertion of the core");
        if (ok) passed++;
        else failed++;
        fflush(stdout);
    }
    return campaign_finish(passed, failed);
}
