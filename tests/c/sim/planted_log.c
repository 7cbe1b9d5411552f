/* SPDX-License-Identifier: Apache-2.0
 *
 * planted_log.c: proof that the fault campaigns can fail. Each bug of log and time is planted in
 * turn and the campaign that is there to find it must report a violation; with no bug planted the
 * same campaigns, of the same size, must report none.
 *
 * Each run is a process of its own: a planted bug may well trip an assertion of the core, which
 * ends the process. That counts as caught, and the line says so.
 */
#include "../planted.h"
#include "campaign.h"

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
    {INV_PLANT_SYNC_RETRY, "retry a failed sync", campaign_io_errors, "io", 0},
    /* Needs a void record to fit behind a new one: rarer than the others, so it has more states. */
    {INV_PLANT_APPEND_RECOVERED, "append to a recovered segment", campaign_crash, "crash", 300000},
    {INV_PLANT_APPLY_BEFORE_CREDIT, "apply before credit", campaign_disk_full, "full", 0},
    {INV_PLANT_RESERVE_FOR_ALL, "reserve segments used by new reserves", campaign_disk_full,
     "full", 0},
    {INV_PLANT_REFUSAL_NO_WAIT, "refusal not waiting", campaign_crash, "crash", 10000},
    {INV_PLANT_HEADER_CRC_IGNORED, "ignore header CRC", campaign_corrupt_bytes, "bytes",
     60000},
    {INV_PLANT_PREFIX_FROM_TAIL, "prefix computed from tail alone", campaign_crash, "crash", 10000},
    {INV_PLANT_SNAPSHOT_FLOORS, "replay onto a snapshot applies twice", campaign_crash, "crash",
     10000},
    {INV_PLANT_SNAPSHOT_NO_SETTLE, "a snapshot of what is not durable", campaign_crash, "crash",
     30000},
    {INV_PLANT_EXPIRY_BY_WALL, "expiry by wall clock", campaign_clock, "clock", 100},
    {INV_PLANT_DOWNTIME_TRUSTED, "downtime not clamped", campaign_clock, "clock", 100},
    {INV_PLANT_NONE, "nothing", campaign_clock, "clock", 100},
    {INV_PLANT_NO_DIRECTORY_SYNC, "missing directory fsync after rename", campaign_crash, "crash",
     30000},
    {INV_PLANT_EPOCH_UNSAVED, "epoch not persisted before use", campaign_crash, "crash", 30000},
    {INV_PLANT_EPOCH_SAME, "LSN reused without a new epoch", campaign_engine, "engine", 300},
    {INV_PLANT_HINT_AHEAD, "hint ahead of truth", campaign_crash, "crash", 10000},
    {INV_PLANT_HINT_IN_STATE, "HINT and STATE in one slot", campaign_crash, "crash", 30000},
    {INV_PLANT_READ_NO_WAIT, "read not waiting for durability", campaign_crash, "crash", 10000},
    {INV_PLANT_SEGMENT_END, "off-by-one at segment end", campaign_engine, "engine", 300},
    {INV_PLANT_SNAPSHOT_START, "snapshot filter comparing the record's start", campaign_crash,
     "crash", 30000},
    {INV_PLANT_NOT_ARMED, "holds not armed again after opening", campaign_engine, "engine", 300},
    {INV_PLANT_SNAPSHOT_GIVES_UP, "no second try of a snapshot", campaign_engine, "engine", 300},
    {INV_PLANT_OP_ID_LEFT, "an op_id left behind by a refusal", campaign_engine, "engine", 600},
    {INV_PLANT_TOMBSTONE_EARLY, "tombstone dropped early", campaign_retry, "retry", 20000},
    {INV_PLANT_OP_ID_LOST, "the dedup entry lost in a restart", campaign_retry, "retry", 20000},
    {INV_PLANT_OP_ID_NEVER_STALE, "a forgotten op_id acts again", campaign_retry, "retry", 20000},
    {INV_PLANT_NONE, "nothing", campaign_retry, "retry", 20000},
    {INV_PLANT_NONE, "nothing", campaign_engine, "engine", 100},
    {INV_PLANT_NONE, "nothing", campaign_crash, "crash", 10000},
    {INV_PLANT_NONE, "nothing", campaign_io_errors, "io", 0},
    {INV_PLANT_NONE, "nothing", campaign_disk_full, "full", 0},
    {INV_PLANT_NONE, "nothing", campaign_corrupt_bytes, "bytes", 60000},
};

typedef struct planted_job {
    const planted *plan;
    uint64_t seed;
} planted_job;

static void find(void *argument, char *out_text) {
    const planted_job *job = argument;
    campaign_options options = {.seed = job->seed, .states = job->plan->states};
    campaign_report report;
    job->plan->run(&options, &report);
    snprintf(out_text, PLANTED_TEXT_BYTES, "%s", report.problem);
}

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT};
    campaign_options_read(&options, argc, argv);
    uint64_t passed = 0, failed = 0;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        planted_job job = {&list[i], options.seed};
        if (options.part != NULL && strcmp(options.part, list[i].campaign_name) != 0) continue;
        planted_run run = planted_try(list[i].bug, find, &job, 0);
        bool ok = planted_say(list[i].bug, list[i].name, list[i].campaign_name, &run);
        passed += ok;
        failed += !ok;
    }
    return campaign_finish(passed, failed);
}
