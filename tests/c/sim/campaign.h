/* SPDX-License-Identifier: Apache-2.0
 *
 * campaign.h: the fault campaigns as functions, so that the programs (sim_*.c), which demand that
 * they pass, and the planted-bug runner (planted_*.c), which demands that they fail, share them.
 *
 * A campaign stops at its first violation and says in `problem` what it was and by which seed it is
 * repeated. It prints nothing itself.
 */
#ifndef CAMPAIGN_H
#define CAMPAIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAMPAIGN_SEED_DEFAULT 20240229ull

typedef struct campaign_options {
    uint64_t seed;        /* of the first scenario; the next ones count on from it */
    uint64_t states;      /* crash: distinct states wanted. corrupt, io: upper bound of trials */
    double seconds;       /* stop after this long even so; 0 = no limit */
    bool full;            /* the long form: exhaustive where the short one samples */
    bool stop_on_time;    /* running out of seconds is fine (planted-bug runs) */
    const char *program;  /* argv[0] */
    const char *part;     /* of a program with several campaigns: only this one; NULL: all */
} campaign_options;

typedef struct campaign_report {
    uint64_t scenarios, commands, acks, refused, replayed, expired;
    uint64_t points;           /* places where the power was cut (crash) */
    uint64_t states;           /* distinct crash states recovered */
    uint64_t states_repeated;  /* the same bytes again, judged against newer acknowledgements */
    uint64_t recovery_points;  /* of the points: inside a recovery */
    uint64_t garbage_states, rotations, generations, overlapped, retries;
    uint64_t unsynced_max;     /* most unsynced sectors at one point */
    uint64_t from_snapshot;    /* recoveries: over a snapshot */
    uint64_t from_fuzzy;       /* recoveries: over one that was copied while others wrote */
    uint64_t from_reserve;     /* recoveries on a full disk, over a segment of the reserve */
    uint64_t exhaustive_points;/* points of which every mixture was tried */
    uint64_t trials;           /* corrupt, io */
    uint64_t refused_opens, identical, prefixes;
    uint64_t accepted;         /* refused ones that went on where a loss was accepted */
    uint64_t injected, survived, poisoned;
    double seconds;
    uint64_t seed_next;        /* first seed not used; 0: only options.seed was */
    uint64_t seed_failed;      /* repeats the violation; 0: options.seed does */
    uint64_t liveness_rounds_max, faults, restarts; /* engine */
    uint64_t duplicates, stale, mismatches, forgotten; /* retry */
    char problem[1100];        /* empty = no violation */
} campaign_report;

/* One campaign of a program. */
typedef struct campaign_part {
    const char *name;  /* --part NAME */
    const char *title; /* in its verdict */
    const char *unit;  /* what `units` counts */
    void (*run)(const campaign_options *options, campaign_report *report);
    uint64_t (*units)(const campaign_report *report);
    void (*print)(const campaign_report *report);
    bool one_round;    /* runs under one seed: repeated with the next ones while there is time */
} campaign_part;

/* Campaign 3: power cuts at every storage call and yield point, by mixtures of unsynced sectors. */
void campaign_crash(const campaign_options *options, campaign_report *report);

/* Campaign 2: the whole engine, its clients and their restarts in one thread. */
void campaign_engine(const campaign_options *options, campaign_report *report);

/* Campaign 15: requests that come twice, late, in another order, after a restart, or changed. */
void campaign_retry(const campaign_options *options, campaign_report *report);

/* Campaign 4 and part of 5: damaged bytes and damaged files. */
void campaign_corrupt_bytes(const campaign_options *options, campaign_report *report);
void campaign_corrupt_all_values(const campaign_options *options, campaign_report *report);
void campaign_corrupt_snapshots(const campaign_options *options, campaign_report *report);
void campaign_corrupt_files(const campaign_options *options, campaign_report *report);

/* Campaigns 6 and 7: the nth storage call fails; the nth allocation fails; the disk is full. */
void campaign_io_errors(const campaign_options *options, campaign_report *report);
void campaign_no_memory(const campaign_options *options, campaign_report *report);
void campaign_disk_full(const campaign_options *options, campaign_report *report);

/* Campaign 17: what clocks do, while running and across restarts. `states` are seeds. */
void campaign_clock(const campaign_options *options, campaign_report *report);

/* Helpers shared by the mains. */
void campaign_options_read(campaign_options *options, int argc, char **argv);
double campaign_now_seconds(void);
uint64_t campaign_count_states(const campaign_report *report);
uint64_t campaign_count_trials(const campaign_report *report);
uint64_t campaign_count_injected(const campaign_report *report);
uint64_t campaign_count_scenarios(const campaign_report *report);

/* Figures of a campaign in words, above its verdict. */
void campaign_print_crash(const campaign_report *report);
void campaign_print_trials(const campaign_report *report);

/* Runs the parts (all, or the one that was asked for), prints figures, verdicts and the line that
 * tools/campaign.py counts by; returns the exit status. */
int campaign_main(const campaign_part *parts, uint32_t part_count,
                  const campaign_options *options);

/* Prints the last line of every C test program and returns the exit status. */
int campaign_finish(uint64_t passed, uint64_t failed);

#endif
