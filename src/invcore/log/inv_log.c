/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_log.c: the log of a closed store as records and entries, for people and programs who want to
 * know what happened. Reads only, applies nothing, decides nothing: the verdict on the log's end is
 * inv_wal_reader's, the decoding inv_effect's.
 *
 * The lock is given back as soon as the chain of segments is known. Nobody ever changes a record of
 * a segment in a chain: an opener begins a new segment and removes void ones (after a crash also
 * such as this reader would have looked into). And snapshots trim the log. A segment that is gone
 * when its turn comes is INV_IO_ERROR. Rejected: keeping the lock (a service could not start while
 * somebody reads its log).
 */
#include "inv_effect.h"
#include "inv_log_names.h"
#include "inv_wal_reader.h"

#include <stdio.h>

#include "../base/inv_env.h"

struct inv_log {
    inv_env *env;
    inv_wal_chain chain;
    inv_log_names names;
    inv_wal_scanner scanner;
    inv_wal_record record; /* given last; its payload lies in the scanner */
    inv_effect effect;     /* decoded last; its texts lie in the payload */
    inv_log_record shown;
    uint64_t payload_at; /* of the next entry */
    inv_error failure;   /* code 0: none yet */
    bool ended;
    inv_log_line lines[INV_EFFECT_LINE_COUNT_MAX];
};

/* Segments prepared behind the end of a store that was closed: there is nothing in them, and the
 * next opener removes them. */
static void leave_out_prepared(inv_wal_chain *chain) {
    uint64_t end_lsn = chain->state.clean_lsn;
    while (end_lsn != 0 && chain->link_count > 1 &&
           chain->links[chain->link_count - 1].header.base_lsn >= end_lsn)
        chain->link_count--;
}

static inv_result load_chain(inv_log *log, inv_error *error) {
    const inv_storage *storage = &log->env->storage;
    inv_result result = storage->lock(storage->context, error);
    if (result != INV_OK) return result;
    result = inv_wal_chain_load(&log->chain, log->env, error);
    storage->unlock(storage->context);
    if (result == INV_OK) leave_out_prepared(&log->chain);
    if (result == INV_OK && !log->chain.exists)
        result = inv_fail(error, INV_IO_ERROR, 2 /* ENOENT */, "there is no store to read");
    return result;
}

inv_result inv_log_open(inv_env *env, inv_log **out_log, inv_error *error) {
    inv_error ignored = {0};
    if (error == NULL) error = &ignored;
    memset(error, 0, sizeof *error);
    if (!inv_env_has_storage(env))
        return inv_fail(error, INV_BAD_REQUEST, 0, "env: has no storage, so there is no log");
    inv_log *log = inv_env_alloc(env, sizeof *log);
    if (log == NULL) return inv_fail(error, INV_NO_MEMORY, 0, "no memory for a log reader");
    log->env = env;
    inv_result result = load_chain(log, error);
    if (result == INV_OK) result = inv_log_names_open(&log->names, &log->chain, error);
    if (result != INV_OK) {
        inv_log_close(log);
        return result;
    }
    inv_wal_scan_begin(&log->scanner, &log->chain, &(inv_wal_range){0});
    *out_log = log;
    return INV_OK;
}

void inv_log_close(inv_log *log) {
    if (log == NULL) return;
    inv_env *env = log->env;
    inv_wal_scan_end(&log->scanner);
    inv_log_names_close(&log->names);
    inv_wal_chain_free(&log->chain);
    inv_env_free(env, log, sizeof *log);
}

inv_result inv_log_next_name(inv_log *log, inv_log_name *out, bool *out_more, inv_error *error) {
    inv_error ignored = {0};
    if (error == NULL) error = &ignored;
    memset(error, 0, sizeof *error);
    return inv_log_names_next(&log->names, out, out_more, error);
}

/* Remembers a failure, so that it is given again. */
static inv_result fail_for_good(inv_log *log, inv_result result, inv_error *error) {
    log->failure = *error;
    log->failure.code = (int)result;
    return result;
}

static inv_result fail_again(const inv_log *log, inv_error *error) {
    *error = log->failure;
    return (inv_result)log->failure.code;
}

static inv_result corrupt_record(inv_log *log, const char *what, inv_error *error) {
    error->segment = log->shown.segment;
    error->offset = log->shown.offset;
    error->lsn = log->shown.lsn;
    error->lsn_end = log->shown.lsn_end;
    return fail_for_good(
        log,
        inv_fail(error, INV_LOG_CORRUPT, 0, "segment %llu offset %llu: record at lsn %llu: %s",
                 (unsigned long long)error->segment, (unsigned long long)error->offset,
                 (unsigned long long)error->lsn, what),
        error);
}

inv_result inv_log_next(inv_log *log, inv_log_record *out, bool *out_more, inv_error *error) {
    inv_error ignored = {0};
    inv_wal_record *record = &log->record;
    if (error == NULL) error = &ignored;
    if (log->failure.code != 0) return fail_again(log, error);
    memset(error, 0, sizeof *error);
    bool more = false;
    if (!log->ended && log->chain.link_count > 0) {
        inv_result result = inv_wal_scan_next(&log->scanner, record, &more, error);
        if (result != INV_OK) return fail_for_good(log, result, error);
    }
    log->ended = !more;
    *out_more = more;
    if (!more) return INV_OK;
    const inv_wal_link *link = inv_wal_scan_link(&log->scanner);
    log->shown = (inv_log_record){
        .kind = record->type,
        .lsn = record->lsn,
        .lsn_end = record->lsn + inv_wal_record_bytes(record->payload_bytes),
        .epoch = link->header.epoch,
        .segment = link->header.number,
        .offset = INV_WAL_HEADER_BYTES + (record->lsn - link->header.base_lsn)};
    log->payload_at = record->payload_bytes;
    if (record->type == INV_WAL_CHANGES) {
        if (record->payload_bytes < INV_WAL_CHANGES_PREFIX_BYTES)
            return corrupt_record(log, "payload too short", error);
        log->shown.now_unix_ms = inv_load_u64(record->payload);
        log->payload_at = INV_WAL_CHANGES_PREFIX_BYTES;
    }
    *out = log->shown;
    return INV_OK;
}

/* ---- entries --------------------------------------------------------------------------------- */

/* Is the id of this kind of entry an op_id? (A stock change has no reservation.) */
static bool is_stock(uint8_t kind) {
    return kind == INV_ENTRY_RECEIVE || kind == INV_ENTRY_ISSUE || kind == INV_ENTRY_ADJUST ||
           kind == INV_ENTRY_COUNT || kind == INV_ENTRY_POLICY;
}

static inv_text id_text(const inv_effect_id *id) {
    inv_text text = id->text;
    if (id->present && text.bytes == NULL) text = (inv_text){(const char *)id->uuid, 16};
    return text;
}

static void show_ids(const inv_effect *effect, inv_log_entry *out) {
    const inv_effect_id *op_id = is_stock(effect->kind) ? &effect->id : &effect->op_id;
    if (!is_stock(effect->kind)) {
        out->id = id_text(&effect->id);
        out->id_is_uuid = effect->id.present && effect->id.text.bytes == NULL;
    }
    out->op_id = id_text(op_id);
    out->op_id_is_uuid = op_id->present && op_id->text.bytes == NULL;
}

/* A gate to a format nobody here knows is refused like what may follow it. */
static bool show_gate(const inv_effect *effect, inv_log_entry *out) {
    return inv_format_decode_gate(effect->blob, &out->format) && inv_format_is_known(out->format);
}

/* False: not what the format says. */
static bool show_blob(const inv_effect *effect, inv_log_entry *out) {
    inv_effect_tick tick;
    if (effect->kind == INV_ENTRY_NAME) {
        if (effect->blob.bytes == NULL || effect->blob.length > INV_SKU_BYTES_MAX) return false;
        out->name_kind = (uint8_t)effect->body_hash;
        out->number = effect->account;
        out->account = 0; /* the field held the number */
        out->name = effect->blob;
    }
    if (effect->kind == INV_ENTRY_CLOCK_TICK) {
        if (!inv_effect_decode_tick(effect->blob, &tick)) return false;
        out->wall_unix_ms = tick.wall_unix_ms;
        out->window_start_ms = tick.window_start_ms;
    }
    return effect->kind != INV_ENTRY_FORMAT_GATE || show_gate(effect, out);
}

/* An entry that can't be shown: damaged, or newer than we are. */
static inv_result refuse_entry(inv_log *log, const inv_log_entry *shown, inv_error *error) {
    const inv_wal_record *record = &log->record;
    char what[INV_EFFECT_WHAT_BYTES];
    bool unknown = inv_effect_unknown(record->payload + log->payload_at,
                                      record->payload_bytes - log->payload_at, what);
    if (!unknown && shown->format.major != 0) { /* a gate, and a whole one */
        (void)snprintf(what, sizeof what, "a gate to format %u.%u, feature bits 0x%llx",
                       shown->format.major, shown->format.minor,
                       (unsigned long long)shown->format.features);
        unknown = true;
    }
    if (!unknown) return corrupt_record(log, "an entry is malformed", error);
    inv_format newest = inv_format_newest();
    error->segment = log->shown.segment;
    error->offset = log->shown.offset;
    error->lsn = log->shown.lsn;
    return fail_for_good(
        log,
        inv_fail(error, INV_FORMAT_UNKNOWN, 0,
                 "segment %llu offset %llu: record at lsn %llu: %s, which this release (format "
                 "%u.%u) does not know",
                 (unsigned long long)error->segment, (unsigned long long)error->offset,
                 (unsigned long long)error->lsn, what, newest.major, newest.minor),
        error);
}

inv_result inv_log_next_entry(inv_log *log, inv_log_entry *out, bool *out_more,
                              inv_error *error) {
    inv_error ignored = {0};
    const inv_wal_record *record = &log->record;
    if (error == NULL) error = &ignored;
    if (log->failure.code != 0) return fail_again(log, error);
    memset(error, 0, sizeof *error);
    *out_more = !log->ended && log->payload_at < record->payload_bytes;
    if (!*out_more) return INV_OK;
    memset(out, 0, sizeof *out);
    uint64_t bytes = inv_effect_decode(record->payload + log->payload_at,
                                       record->payload_bytes - log->payload_at, &log->effect);
    const inv_effect *effect = &log->effect;
    if (bytes == 0 || !show_blob(effect, out))
        return refuse_entry(log, out, error);
    log->payload_at += bytes;
    show_ids(effect, out);
    out->kind = effect->kind;
    out->state = effect->state;
    out->whole = effect->whole;
    out->seller = effect->seller;
    if (effect->kind != INV_ENTRY_NAME) out->account = effect->account;
    out->reason = effect->reason;
    out->reference = effect->reference;
    out->lsn_end = record->lsn + INV_WAL_RECORD_HEADER_BYTES + log->payload_at;
    if (effect->deadline_ms != 0)
        out->expires_at_unix_ms = log->shown.now_unix_ms + effect->deadline_ms;
    out->line_count = effect->line_count;
    out->lines = log->lines;
    for (uint32_t i = 0; i < effect->line_count; i++) {
        const inv_change_line *line = &effect->lines[i];
        log->lines[i] = (inv_log_line){line->sku, line->qty, line->location, line->op,
                                       (line->flags & INV_LINE_FREE) != 0};
    }
    return INV_OK;
}

void inv_log_tail_of(const inv_log *log, inv_log_tail *out) {
    const inv_wal_verdict *verdict = &log->scanner.verdict;
    *out = (inv_log_tail){verdict->end_lsn, verdict->durable, verdict->torn_bytes,
                          verdict->void_records, verdict->skipped};
}

/* ---- names of numbers ------------------------------------------------------------------------ */

const char *inv_log_entry_name(uint8_t kind) {
    switch ((inv_entry_kind)kind) {
    case INV_ENTRY_RESERVE: return "RESERVE";
    case INV_ENTRY_COMMIT: return "COMMIT";
    case INV_ENTRY_SHIP: return "SHIP";
    case INV_ENTRY_RELEASE: return "RELEASE";
    case INV_ENTRY_CANCEL: return "CANCEL";
    case INV_ENTRY_EXTEND: return "EXTEND";
    case INV_ENTRY_MOVE: return "MOVE";
    case INV_ENTRY_REPLACE: return "REPLACE";
    case INV_ENTRY_EXPIRE: return "EXPIRE";
    case INV_ENTRY_PREEMPT: return "PREEMPT";
    case INV_ENTRY_TOMBSTONE: return "TOMBSTONE";
    case INV_ENTRY_RECEIVE: return "RECEIVE";
    case INV_ENTRY_ISSUE: return "ISSUE";
    case INV_ENTRY_ADJUST: return "ADJUST";
    case INV_ENTRY_COUNT_OPEN: return "COUNT_OPEN";
    case INV_ENTRY_COUNT: return "COUNT";
    case INV_ENTRY_UNSELLABLE: return "UNSELLABLE";
    case INV_ENTRY_TRANSFER: return "TRANSFER";
    case INV_ENTRY_RECEIVE_TRANSFER: return "RECEIVE_TRANSFER";
    case INV_ENTRY_EXPECT: return "EXPECT";
    case INV_ENTRY_POLICY: return "POLICY";
    case INV_ENTRY_QUEUE: return "QUEUE";
    case INV_ENTRY_PROMOTE: return "PROMOTE";
    case INV_ENTRY_SHORTAGE_CANCEL: return "SHORTAGE_CANCEL";
    case INV_ENTRY_CLOSE_LOCATION: return "CLOSE_LOCATION";
    case INV_ENTRY_OPEN_LOCATION: return "OPEN_LOCATION";
    case INV_ENTRY_NAME: return "NAME";
    case INV_ENTRY_CLOCK_TICK: return "CLOCK_TICK";
    case INV_ENTRY_DIGEST: return "DIGEST";
    case INV_ENTRY_SNAPSHOT_MARK: return "SNAPSHOT_MARK";
    case INV_ENTRY_FORMAT_GATE: return "FORMAT_GATE";
    case INV_ENTRY_OPERATOR_ACT: return "OPERATOR_ACT";
    }
    return "UNKNOWN";
}

const char *inv_log_op_name(uint8_t op) {
    switch ((inv_line_op)op) {
    case INV_OP_NONE: return "NONE";
    case INV_OP_HOLD: return "HOLD";
    case INV_OP_COMMIT: return "COMMIT";
    case INV_OP_SHIP_HELD: return "SHIP_HELD";
    case INV_OP_SHIP_ALLOCATED: return "SHIP_ALLOCATED";
    case INV_OP_RELEASE: return "RELEASE";
    case INV_OP_CANCEL_ALLOCATED: return "CANCEL_ALLOCATED";
    case INV_OP_EXPIRE: return "EXPIRE";
    case INV_OP_REHOLD: return "REHOLD";
    case INV_OP_ADD: return "ADD";
    case INV_OP_SUB: return "SUB";
    case INV_OP_SET_SAFETY: return "SET_SAFETY";
    case INV_OP_COUNT: break;
    }
    return "UNKNOWN";
}
