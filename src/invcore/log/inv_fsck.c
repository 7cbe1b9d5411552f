/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_fsck.c: every file of a closed store is looked at, whether opening would need it or not, and
 * what opening would say. Reads only. Nothing is replayed: whoever wants the counters proven too
 * opens the store read-only and checks it (inv_store_check).
 */
#include <stdio.h>

#include "inv_snap_reader.h"
#include "inv_wal_reader.h"

typedef struct fsck {
    const inv_env *env;
    inv_fsck_visit visit;
    void *argument;
    inv_fsck_report *report;
    inv_wal_chain chain;
    inv_snap_list list;
    uint64_t whole_end[INV_SNAP_LIST_MAX]; /* of the snapshots in the list; 0: damaged */
    inv_result result;
} fsck;

static void tell(fsck *f, inv_fsck_kind kind, const char *name, const inv_fsck_item *item) {
    inv_fsck_item told = *item;
    told.kind = (uint8_t)kind;
    told.name = name;
    if (told.problem == NULL) told.problem = "";
    told.ok = told.problem[0] == '\0';
    if (f->visit != NULL && !f->visit(f->argument, &told)) f->result = INV_BUSY;
}

/* ---- STATE ----------------------------------------------------------------------------------- */

static void look_at_state(fsck *f) {
    static const char *const names[] = {"STATE slot A", "STATE slot B"};
    const inv_storage *storage = &f->env->storage;
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t bytes[INV_STATE_SLOT_BYTES];
        inv_wal_state slot;
        inv_error error = {0};
        uint64_t got = 0;
        memset(bytes, 0, sizeof bytes);
        inv_result result = storage->read(storage->context, "STATE", i * INV_STATE_SLOT_BYTES,
                                          bytes, sizeof bytes, &got, &error);
        bool unused = result == INV_OK;
        for (uint32_t k = 0; k < sizeof bytes && unused; k++) unused = bytes[k] == 0;
        if (result == INV_OK && !unused && inv_wal_decode_state(bytes, &slot) != INV_OK)
            result = inv_fail(&error, INV_LOG_CORRUPT, 0, "damaged; the other slot stands for it");
        inv_fsck_item item = {.bytes = got, .problem = error.message};
        if (result == INV_OK && !unused) {
            item.epoch = slot.epoch;
            item.lsn = slot.snapshot_lsn;
            item.lsn_end = slot.clean_lsn;
        }
        tell(f, INV_FSCK_STATE, names[i], &item);
    }
}

/* ---- snapshots ------------------------------------------------------------------------------- */

static inv_result read_blocks(fsck *f, const inv_snap_file *file, inv_error *error) {
    uint8_t *memory = inv_env_alloc(f->env, INV_SNAP_BUFFER_BYTES);
    inv_result result = INV_OK;
    if (memory == NULL) return inv_fail(error, INV_NO_MEMORY, 0, "no memory for a block");
    for (uint64_t i = 0; i < file->footer.block_count && result == INV_OK; i++) {
        inv_snap_block block;
        inv_snap_decode_index(file->footer_bytes, i, &block);
        result = inv_snap_read_block(file, &block, inv_snap_buffer(memory), error);
    }
    inv_env_free(f->env, memory, INV_SNAP_BUFFER_BYTES);
    return result;
}

static void look_at_snapshot(fsck *f, uint32_t index) {
    inv_snap_file file;
    inv_error error = {0};
    uint64_t lsn = f->list.start_lsns[index];
    inv_result result = inv_snap_open(&file, f->env, &f->chain.state.identity, lsn,
                                      f->list.bytes[index], &error);
    if (result == INV_OK) result = read_blocks(f, &file, &error);
    f->whole_end[index] = result == INV_OK ? file.footer.end_lsn : 0;
    f->report->snapshots++;
    f->report->snapshots_damaged += result != INV_OK;
    if (result == INV_NO_MEMORY) f->result = result;
    const inv_fsck_item item = {.bytes = f->list.bytes[index],
                                .lsn = lsn,
                                .lsn_end = f->whole_end[index],
                                .records = result == INV_OK ? file.footer.block_count : 0,
                                .problem = result == INV_OK ? "" : error.message};
    tell(f, INV_FSCK_SNAPSHOT, file.name, &item);
    inv_snap_close(&file);
}

/* ---- segments -------------------------------------------------------------------------------- */

static inv_result skip_record(void *argument, const inv_wal_record *record, inv_error *error) {
    (void)argument;
    (void)record;
    (void)error;
    return INV_OK;
}

static void look_at_segment(fsck *f, uint64_t index) {
    const inv_wal_link *link = &f->chain.links[index];
    const inv_wal_segment_header *header = &link->header;
    bool last = index + 1 == f->chain.link_count;
    const inv_wal_range range = {.from_lsn = header->base_lsn,
                                 .upto_lsn = last ? 0 : link->end_lsn};
    inv_wal_verdict verdict = {.end_lsn = header->base_lsn};
    inv_error error = {0};
    inv_result result = INV_OK;
    if (header->base_lsn < link->end_lsn)
        result = inv_wal_scan(&f->chain, &range, skip_record, NULL, &verdict, &error);
    if (result == INV_OK && link->end_exact && verdict.end_lsn < link->end_lsn)
        result = inv_fail(&error, INV_LOG_CORRUPT, 0, "records end at lsn %llu, not at %llu",
                          (unsigned long long)verdict.end_lsn, (unsigned long long)link->end_lsn);
    f->report->segments++;
    f->report->segments_damaged += result != INV_OK;
    if (result == INV_NO_MEMORY) f->result = result;
    char name[INV_FILE_NAME_MAX + 1];
    (void)snprintf(name, sizeof name, "wal-%016llx", (unsigned long long)header->number);
    const inv_fsck_item item = {.bytes = header->segment_bytes,
                                .lsn = header->base_lsn,
                                .lsn_end = verdict.end_lsn,
                                .records = verdict.records,
                                .epoch = header->epoch,
                                .problem = result == INV_OK ? "" : error.message};
    tell(f, INV_FSCK_SEGMENT, name, &item);
}

/* ---- what opening would say ------------------------------------------------------------------ */

/* The log behind a snapshot (start 0: all of it). True: it ends as it should. */
static bool ends_well(fsck *f, uint64_t start_lsn, uint64_t proven_lsn, inv_wal_verdict *out,
                      inv_error *error) {
    const inv_wal_range range = {.from_lsn = start_lsn, .proven_lsn = proven_lsn};
    memset(error, 0, sizeof *error);
    inv_result result = inv_wal_scan(&f->chain, &range, skip_record, NULL, out, error);
    if (result == INV_NO_MEMORY) f->result = result;
    return result == INV_OK && !f->chain.broken;
}

/* Where a loss can be accepted: up to there a state can be built, by this snapshot or by none. */
static void judge_log(fsck *f, const inv_error *chain_error) {
    inv_fsck_report *report = f->report;
    uint64_t begins = f->chain.links[0].header.base_lsn, proven = 0;
    bool found = false;
    for (uint32_t i = 0; i <= f->list.count && report->accept_loss_lsn == 0; i++) {
        bool none = i == f->list.count;
        uint64_t start = none ? 0 : f->list.start_lsns[i], end = none ? 0 : f->whole_end[i];
        if (none ? begins != INV_WAL_LSN_FIRST : end == 0 || start < begins) continue;
        inv_wal_verdict verdict = {0};
        inv_error error;
        proven = inv_max_u64(proven, end);
        bool well = ends_well(f, start, proven, &verdict, &error);
        if (f->result != INV_OK) return;
        if (!found) {
            report->ok = well;
            report->snapshot_lsn = start;
            report->lsn_end = verdict.end_lsn;
            report->durable = verdict.durable;
            report->torn_bytes = verdict.torn_bytes;
            report->torn_records = verdict.void_records;
            const char *why = well ? "" : f->chain.broken ? chain_error->message : error.message;
            (void)snprintf(report->problem, sizeof report->problem, "%s", why);
        }
        found = true;
        if (report->ok) return;
        if (verdict.end_lsn >= end) report->accept_loss_lsn = verdict.end_lsn;
    }
    if (!found)
        (void)snprintf(report->problem, sizeof report->problem,
                       "no snapshot can be read, and the log begins at lsn %llu only",
                       (unsigned long long)begins);
}

static void look_at_all(fsck *f, inv_error *error) {
    inv_fsck_report *report = f->report;
    inv_error broken = {0};
    look_at_state(f);
    f->result = inv_wal_chain_load(&f->chain, f->env, &broken);
    if (f->result == INV_LOG_CORRUPT) {
        inv_wal_chain_free(&f->chain);
        f->result = inv_wal_chain_load_front(&f->chain, f->env, error);
    }
    if (f->result == INV_LOG_CORRUPT) { /* nothing is left to be looked at more closely */
        (void)snprintf(report->problem, sizeof report->problem, "%s", broken.message);
        f->result = INV_OK;
        return;
    }
    if (f->result == INV_OK && !f->chain.exists)
        f->result = inv_fail(error, INV_IO_ERROR, 2 /* ENOENT */, "there is no store to read");
    if (f->result == INV_OK) f->result = inv_snap_find(f->env, &f->list, error);
    for (uint32_t i = 0; i < f->list.count && f->result == INV_OK; i++) look_at_snapshot(f, i);
    for (uint64_t i = 0; i < f->chain.link_count && f->result == INV_OK; i++)
        look_at_segment(f, i);
    report->segments_void = f->chain.void_count;
    if (f->result != INV_OK) return;
    if (f->chain.link_count > 0) judge_log(f, &broken);
    else report->ok = true; /* created, and nothing else yet */
}

inv_result inv_fsck(inv_env *env, inv_fsck_visit visit, void *argument, inv_fsck_report *out,
                    inv_error *error) {
    inv_error ignored = {0};
    if (error == NULL) error = &ignored;
    memset(error, 0, sizeof *error);
    memset(out, 0, sizeof *out);
    if (!inv_env_has_storage(env))
        return inv_fail(error, INV_BAD_REQUEST, 0, "env: has no storage, so there is no store");
    fsck *f = inv_env_alloc(env, sizeof *f);
    if (f == NULL) return inv_fail(error, INV_NO_MEMORY, 0, "no memory for a check of files");
    *f = (fsck){.env = env, .visit = visit, .argument = argument, .report = out};
    inv_result result = env->storage.lock(env->storage.context, error);
    if (result == INV_OK) {
        f->chain.env = env;
        look_at_all(f, error);
        result = f->result;
        inv_wal_chain_free(&f->chain);
        env->storage.unlock(env->storage.context);
    }
    inv_env_free(env, f, sizeof *f);
    if (result == INV_NO_MEMORY)
        return inv_fail(error, result, 0, "no memory for a check of files");
    return result;
}
