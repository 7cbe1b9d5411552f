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
} campaign_options;

typedef struct campaign_report {
    uint64_t scenarios, commands, acks, refused, replayed, expired;
    uint64_t points;           /* places where the power was cut (crash) */
    uint64_t states;           /* distinct crash states recovered */
    uint64_t states_repeated;  /* the same bytes again, judged against newer acknowledgements */
    uint64_t recovery_points;  /* of the points: inside a recovery */
    uint64_t garbage_states, rotations, generations, overlapped, retries;
    uint64_t unsynced_max;     /* most unsynced sectors at one point */
    uint64_t from_snapshot, from_fuzzy; /* recoveries: over a snapshot; one copied while others wrote */
    uint64_t from_reserve;     /* recoveries on a full disk, over a segment of the reserve */
    uint64_t exhaustive_points;/* points of which every mixture was tried */
    uint64_t trials;           /* corrupt, io */
    uint64_t refused_opens, identical, prefixes;
    uint64_t accepted;         /* refused ones that went on where a loss was accepted */
    uint64_t injected, survived, poisoned;
    double seconds;
    char problem[1100];        /* empty = no violation */
} campaign_report;

/* Campaign 3: power cuts at every storage call and yield point, by mixtures of unsynced sectors. */
void campaign_crash(const campaign_options *options, campaign_report *report);

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

/* The figures of a crash campaign. */
void campaign_print_crash(const campaign_report *report);

/* Prints the last line of every C test program and returns the exit status. */
int campaign_finish(uint64_t passed, uint64_t failed);
/* One campaign: its name, figures (by the caller) and verdict; true when it passed. */
bool campaign_verdict(const char *name, const campaign_report *report);

#endif
