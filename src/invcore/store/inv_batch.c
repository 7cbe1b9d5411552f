/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_batch.c: many commands of one kind as columns. Rows are judged in array order, in runs of up
 * to 32, and each gets a code; one bad row hurts no other.
 */
#include <stdio.h>

#include "inv_batch.h"

static inv_result refuse_batch(inv_error *error, const char *field) {
    error->code = INV_BAD_REQUEST;
    snprintf(error->message, sizeof error->message, "%s: empty, too long or not UTF-8", field);
    return INV_BAD_REQUEST;
}

static inv_result check_texts(const inv_batch *batch, inv_error *error) {
    if (batch->seller.bytes != NULL && !inv_text_fits(batch->seller, INV_SELLER_BYTES_MAX))
        return refuse_batch(error, "seller");
    if (batch->account.length > 0 && !inv_text_fits(batch->account, INV_ACCOUNT_BYTES_MAX))
        return refuse_batch(error, "account");
    if (batch->reason.length > 0 && !inv_text_fits(batch->reason, INV_REASON_BYTES_MAX))
        return refuse_batch(error, "reason");
    return INV_OK;
}

static bool has_ttl(uint8_t kind) { return kind == INV_CMD_RESERVE || kind == INV_CMD_EXTEND; }

static bool is_stock_change(uint8_t kind) {
    return inv_batch_has_line(kind) && kind != INV_CMD_RESERVE;
}

static void fill_command(const inv_batch *batch, size_t row, inv_command *command,
                         inv_line *line) {
    memset(command, 0, sizeof *command);
    command->kind = batch->kind;
    command->seller = batch->seller;
    command->account = batch->account;
    command->reason = batch->reason;
    if (batch->ids != NULL) {
        inv_text id = {(const char *)batch->ids + 16 * row, 16};
        bool op = is_stock_change(batch->kind);
        *(op ? &command->op_id : &command->id) = id;
        *(op ? &command->op_id_is_uuid : &command->id_is_uuid) = true;
    }
    if (has_ttl(batch->kind)) command->ttl_ms = inv_batch_ttl(batch, row);
    if (!inv_batch_has_line(batch->kind)) return;
    memset(line, 0, sizeof *line);
    line->sku_number = batch->skus[row];
    line->location_number = batch->locations[row];
    line->qty = batch->qtys[row];
    command->lines = line;
    command->line_count = 1;
}

/* REPLAYED says that the promise stands. */
static uint8_t code_of(uint8_t kind, const inv_reply *reply) {
    if (reply->code != INV_REPLAYED || kind != INV_CMD_RESERVE) return (uint8_t)reply->code;
    switch (reply->state) {
    case INV_STATE_EXPIRED:
        return INV_EXPIRED;
    case INV_STATE_RELEASED:
        return INV_ALREADY_RELEASED;
    case INV_STATE_CANCELLED:
        return INV_ALREADY_CANCELLED;
    default:
        return INV_REPLAYED;
    }
}

/* Rows [from, from + count), at most a run of them, as commands. INV_BUSY: the log is behind, and
 * the last rows have that code. */
static inv_result judge_rows(inv_store *store, const inv_batch *batch, size_t from, size_t count,
                             bool may_wait, uint8_t *codes, uint64_t *observed_lsn) {
    inv_command commands[INV_RUN_COMMAND_MAX];
    inv_line lines[INV_RUN_COMMAND_MAX];
    inv_reply replies[INV_RUN_COMMAND_MAX];
    size_t rows[INV_RUN_COMMAND_MAX], n = 0;
    for (size_t row = from; row < from + count; row++) {
        fill_command(batch, row, &commands[n], &lines[n]);
        codes[row] = INV_BAD_REQUEST; /* a ttl of 0 means "default" in a command, nothing here */
        if (has_ttl(batch->kind) && commands[n].ttl_ms == 0) continue;
        memset(&replies[n], 0, sizeof replies[n]);
        rows[n++] = row;
    }
    if (n == 0) return INV_OK;
    inv_result result = may_wait ? inv_store_execute(store, commands, n, replies)
                                 : inv_store_try_execute(store, commands, n, replies);
    for (size_t i = 0; i < n; i++) {
        codes[rows[i]] = code_of(batch->kind, &replies[i]);
        *observed_lsn = inv_max_u64(*observed_lsn, replies[i].observed_lsn);
    }
    return result == INV_OK && replies[n - 1].code == INV_BUSY ? INV_BUSY : result;
}

/* One run the short way; *out_done rows have their code. While the log is behind: waits if it may,
 * else INV_BUSY. */
static inv_result run_rows(inv_store *store, inv_batch_view *view, size_t from, bool may_wait,
                           uint8_t *codes, uint32_t *out_done, uint64_t *observed_lsn) {
    for (;;) {
        inv_lane *lane;
        inv_result result;
        if (!inv_store_enter(store, &lane, &result)) return result;
        inv_run *run = inv_run_of(store, lane);
        *out_done = 0;
        if (run != NULL) { /* else: the long way will say so */
            run->store = store;
            run->lane = lane;
            result = inv_batch_run(run, view, from, codes, out_done, observed_lsn);
        }
        inv_lane_give(lane);
        if (result != INV_BUSY || !may_wait) return result;
        inv_wal_credit_wait(&store->wal);
    }
}

/* Judges some rows from `from` on; *out_done says how many. */
static inv_result judge_some(inv_store *store, inv_batch_view *view, size_t from, bool may_wait,
                             uint8_t *codes, size_t *out_done, uint64_t *observed_lsn) {
    uint32_t rows = inv_batch_run_rows(view->batch, from), done = 0;
    inv_batch_resolve(store, view);
    if (view->short_way) {
        inv_result result = run_rows(store, view, from, may_wait, codes, &done, observed_lsn);
        *out_done = done;
        if (result == INV_STORE_CLOSED || result == INV_STORE_FAILED || result == INV_BUSY ||
            done == rows)
            return result;
        /* One row that needs the long way; if it was the first, the next ones may be like it. */
        from += done;
        rows = done > 0 ? 1 : rows;
    }
    *out_done = done + rows;
    return judge_rows(store, view->batch, from, rows, may_wait, codes, observed_lsn);
}

static inv_result run_batch(inv_store *store, const inv_batch *batch, bool may_wait,
                            uint8_t *out_codes, uint64_t *out_observed_lsn, inv_error *error) {
    inv_batch_view view = {.batch = batch};
    *out_observed_lsn = 0;
    inv_result result = check_texts(batch, error);
    for (size_t at = 0, done; at < batch->count && result == INV_OK; at += done) {
        result = judge_some(store, &view, at, may_wait, out_codes, &done, out_observed_lsn);
        if (result != INV_OK) memset(out_codes + at + done, result, batch->count - at - done);
    }
    return result == INV_BUSY ? INV_OK : result; /* the rows say so */
}

inv_result inv_store_execute_batch(inv_store *store, const inv_batch *batch, uint8_t *out_codes,
                                   uint64_t *out_observed_lsn, inv_error *error) {
    return run_batch(store, batch, true, out_codes, out_observed_lsn, error);
}

inv_result inv_store_try_execute_batch(inv_store *store, const inv_batch *batch,
                                       uint8_t *out_codes, uint64_t *out_observed_lsn,
                                       inv_error *error) {
    return run_batch(store, batch, false, out_codes, out_observed_lsn, error);
}
