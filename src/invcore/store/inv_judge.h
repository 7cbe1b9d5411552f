/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_judge.h: what the judges of commands share; private to them. Every function here runs under
 * the locks of its run. Results are codes of inv_result or INV_NEED_STRIPES.
 */
#ifndef INV_JUDGE_H
#define INV_JUDGE_H

#include "inv_store.h"

/* The answer shows this hold as it is, perhaps as an earlier command of the run has left it. */
static inline void inv_note_seen(const inv_run *run, inv_job *job, inv_ref ref) {
    job->seen = ref;
    job->seen_patches = run->patch_count;
}

static inline inv_stripe *inv_judge_stripe(const inv_run *run, uint32_t index) {
    return &run->store->stripes[index];
}

/* A sum that does not depend on the order of lines nor on how a line was split over places. */
static inline uint64_t inv_line_sum(uint32_t sku, uint32_t location, uint32_t qty) {
    return (inv_mix64(((uint64_t)sku << 17 | location) + 0x9E3779B97F4A7C15ull) | 1) * qty;
}

/* ---- ids and names --------------------------------------------------------------------------- */
int inv_need_stripe(inv_run *run, uint32_t stripe);
int inv_find_hold(inv_run *run, const inv_hold_key *key, inv_ref *out_ref);
void inv_resolve_line(inv_run *run, const inv_job *job, inv_job_line *line);
void inv_hash_body(inv_job *job);
/* Hash of what a call asked for: what tells a replay from another request under its id. */
uint32_t inv_body_hash(uint64_t lines, uint64_t ttl_ms, uint32_t account, uint8_t kind,
                       uint64_t extra);
/* A UUIDv7 that says it was made when ids have already been forgotten, but after the store began.
 */
bool inv_id_is_stale(const inv_store *store, const inv_hold_key *key);
inv_result inv_intern(inv_run *run, inv_names *names, inv_name_kind kind, inv_text text,
                      uint32_t *number);
/* Has the job names that inv_intern_all would have to make known? */
static inline bool inv_must_intern(const inv_job *job) {
    return job->seller == INV_NUMBER_NONE || job->account == INV_NUMBER_NONE ||
           (job->reason == INV_NUMBER_NONE && job->command->reason.length > 0) ||
           job->command->reference.length > 0;
}
inv_result inv_intern_all(inv_run *run, inv_job *job, uint32_t *out_reference);
void inv_effect_id_of(inv_effect_id *out, const inv_hold_key *key);
void inv_write_entry(inv_run *run, inv_job *job, inv_effect *effect, inv_ref hold, inv_ref op);
/* A deadline is written as 32 bits of ms after the record's time: can this one not be? */
static inline bool inv_deadline_too_far(const inv_run *run, uint64_t time_ms, uint64_t ttl_ms) {
    return time_ms + ttl_ms - run->time_ms > UINT32_MAX - 86400000u;
}
int inv_too_far_apart(const inv_run *run, const inv_job *job, uint64_t time_ms);

/* ---- answers --------------------------------------------------------------------------------- */
inv_reply_line *inv_add_reply_line(inv_reply *reply);
void inv_answer_lines(const inv_hold_line *lines, uint32_t count, bool expired, inv_reply *reply);
void inv_add_short_line(inv_run *run, inv_job *job, const inv_job_line *line, int64_t there);

/* ---- op_ids: a call that carries one acts once ----------------------------------------------- */
uint8_t inv_entry_kind_of(uint8_t command_kind);
/* What a whole call does to the held or the allocated units of a line. */
static inline uint8_t inv_whole_op(uint8_t command_kind, bool allocated) {
    if (allocated)
        return command_kind == INV_CMD_SHIP ? INV_OP_SHIP_ALLOCATED : INV_OP_CANCEL_ALLOCATED;
    return command_kind == INV_CMD_COMMIT ? INV_OP_COMMIT
           : command_kind == INV_CMD_SHIP ? INV_OP_SHIP_HELD
                                          : INV_OP_RELEASE;
}
int inv_known_op(inv_run *run, inv_job *job, uint8_t kind, inv_ref *out_op);
inv_result inv_open_op(inv_run *run, inv_job *job, uint32_t home, inv_ref *out_op);
void inv_close_op(inv_run *run, const inv_job *job, uint32_t home, inv_ref op);

/* ---- lines (inv_judge_lines.c) --------------------------------------------------------------- */
bool inv_merge_lines(inv_job *job);

/* ---- judges ---------------------------------------------------------------------------------- */
int inv_judge_reserve(inv_run *run, inv_job *job);
int inv_judge_moves(inv_run *run, inv_job *job);
int inv_judge_extend(inv_run *run, inv_job *job);
int inv_judge_stock(inv_run *run, inv_job *job);
int inv_judge_name(inv_run *run, inv_job *job);

#endif
