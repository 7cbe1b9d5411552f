/* SPDX-License-Identifier: Apache-2.0
 *
 * campaign.c: command line, clock and verdict lines of the campaign programs.
 */
#include "campaign.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../inv_test.h"

double campaign_now_seconds(void) { return inv_test_now_seconds(); }

uint64_t campaign_count_states(const campaign_report *report) { return report->states; }
uint64_t campaign_count_trials(const campaign_report *report) { return report->trials; }
uint64_t campaign_count_injected(const campaign_report *report) { return report->injected; }
uint64_t campaign_count_scenarios(const campaign_report *report) { return report->scenarios; }

static void usage(const char *program) {
    fprintf(stderr, "usage: %s [--seed N] [--states N] [--seconds S] [--part NAME] [--full]\n",
            program);
    exit(2);
}

void campaign_options_read(campaign_options *options, int argc, char **argv) {
    bool states_given = false;
    options->program = argv[0];
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
        } else if (strcmp(argv[i], "--part") == 0) {
            options->part = value;
        } else {
            usage(argv[0]);
        }
        i++;
    }
    if (!states_given && options->seconds > 0) options->states = UINT64_MAX;
    else if (!states_given) options->states = inv_test_scaled(options->states);
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

void campaign_print_trials(const campaign_report *report) {
    printf("%" PRIu64 " trials: %" PRIu64 " refused, %" PRIu64 " identical, %" PRIu64
           " cut to a proven prefix, %" PRIu64 " of a sample went on with the loss accepted; %.0f"
           " trials/s\n",
           report->trials, report->refused_opens, report->identical, report->prefixes,
           report->accepted,
           report->seconds > 0 ? (double)report->trials / report->seconds : 0);
}

static bool verdict(const campaign_part *part, const campaign_options *options,
                    const campaign_report *report) {
    if (report->problem[0] == '\0') {
        printf("%s: no violation, %.1f s\n", part->title, report->seconds);
        return true;
    }
    uint64_t seed = report->seed_failed != 0 ? report->seed_failed : options->seed;
    printf("%s: VIOLATION: %s\n", part->title, report->problem);
    printf("repeat: %s --seed %" PRIu64 " --part %s%s\n", options->program, seed, part->name,
           options->full ? " --full" : "");
    return false;
}

/* A part that works under one seed gets the next ones while there is time. */
static bool run_part(const campaign_part *part, const campaign_options *options) {
    campaign_options round = *options;
    double began = campaign_now_seconds();
    uint64_t units = 0;
    bool ok = true, more = true;
    for (; ok && more; round.seed++) {
        campaign_report report;
        if (options->seconds > 0) round.seconds = began + options->seconds - campaign_now_seconds();
        part->run(&round, &report);
        if (part->print != NULL) part->print(&report);
        units += part->units(&report);
        ok = verdict(part, &round, &report);
        if (report.seed_next > round.seed) round.seed = report.seed_next - 1;
        more = part->one_round && options->seconds > 0 &&
               campaign_now_seconds() < began + options->seconds;
        fflush(stdout);
    }
    inv_test_units(units, part->unit, options->seed, round.seed);
    return ok;
}

int campaign_main(const campaign_part *parts, uint32_t part_count,
                  const campaign_options *options) {
    uint64_t passed = 0, failed = 0;
    for (uint32_t i = 0; i < part_count; i++) {
        if (options->part != NULL && strcmp(options->part, parts[i].name) != 0) continue;
        bool ok = run_part(&parts[i], options);
        passed += ok;
        failed += !ok;
    }
    if (passed + failed == 0) {
        fprintf(stderr, "%s: there is no part %s\n", options->program, options->part);
        return 2;
    }
    return campaign_finish(passed, failed);
}

int campaign_finish(uint64_t passed, uint64_t failed) {
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
