/* SPDX-License-Identifier: Apache-2.0
 *
 * campaign.c: command line, clock and verdict lines of the campaign programs.
 */
#include "campaign.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../inv_test.h"

double campaign_now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void usage(const char *program) {
    fprintf(stderr, "usage: %s [--seed N] [--states N] [--seconds S] [--full]\n", program);
    exit(2);
}

void campaign_options_read(campaign_options *options, int argc, char **argv) {
    bool states_given = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--full") == 0) {
            options->full = true;
            continue;
        }
        if (value == NULL) usage(argv[0]);
        if (strcmp(argv[i], "--seed") == 0) {
            options->seed = strtoull(value, NULL, 0);
        } else if (strcmp(argv[i], "--states") == 0) {
            options->states = strtoull(value, NULL, 0);
            states_given = true;
        } else if (strcmp(argv[i], "--seconds") == 0) {
            options->seconds = strtod(value, NULL);
        } else {
            usage(argv[0]);
        }
        i++;
    }
    if (!states_given) options->states = inv_test_scaled(options->states);
    printf("seed %" PRIu64 "\n", options->seed);
}

void campaign_print_crash(const campaign_report *report) {
    double rate = report->seconds > 0 ? (double)report->states / report->seconds : 0;
    printf("%" PRIu64 " distinct crash states (%" PRIu64 " repeated, %" PRIu64
           " with garbage) at %" PRIu64 " crash points (%" PRIu64 " inside a recovery, %" PRIu64
           " exhaustive), %.0f states/s\n",
           report->states, report->states_repeated, report->garbage_states, report->points,
           report->recovery_points, report->exhaustive_points, rate);
    printf("%" PRIu64 " scenarios, %" PRIu64 " generations, %" PRIu64 " commands (%" PRIu64
           " refused, %" PRIu64 " replayed), %" PRIu64 " acknowledged, %" PRIu64
           " expired, %" PRIu64 " segments promoted, %" PRIu64 " overlapping appends, %" PRIu64
           " retries after recovery, %" PRIu64 " recoveries over a snapshot (%" PRIu64
           " of them copied while others wrote), %" PRIu64
           " over a reserve segment on a full disk, at most %" PRIu64 " unsynced sectors\n",
           report->scenarios, report->generations, report->commands, report->refused,
           report->replayed, report->acks, report->expired, report->rotations, report->overlapped,
           report->retries, report->from_snapshot, report->from_fuzzy,
           report->from_reserve, report->unsynced_max);
}

bool campaign_verdict(const char *name, const campaign_report *report) {
    bool ok = report->problem[0] == '\0';
    if (ok) printf("%s: no violation, %.1f s\n", name, report->seconds);
    else printf("%s: VIOLATION: %s\n", name, report->problem);
    return ok;
}

int campaign_finish(uint64_t passed, uint64_t failed) {
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
