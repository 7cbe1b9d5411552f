/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_judge_stock.c: receive, issue, adjust, count and policies: changes of one row, which may
 * bring a new SKU, location and row with them.
 */
#include "inv_judge.h"

/* Decides a stock change against the row there is (zeros if there is none). Sets op and qty. */
static int decide_stock(inv_run *run, inv_job *job, inv_row row, uint8_t *op, uint32_t *qty) {
    const inv_command *command = job->command;
    const inv_job_line *line = &job->lines[0];
    int64_t amount = command->lines[0].qty, after = row.on_hand;
    bool unknown = line->place == INV_NUMBER_NONE;
    *op = INV_OP_ADD;
    *qty = line->qty;
    switch (command->kind) {
    case INV_CMD_ISSUE:
        if (unknown) return INV_UNKNOWN_SKU;
        *op = INV_OP_SUB;
        if (inv_stock_available(row) < amount) {
            int64_t there = inv_stock_available(row);
            inv_add_short_line(run, job, line, there > 0 ? there : 0);
            return INV_INSUFFICIENT;
        }
        return INV_OK;
    case INV_CMD_ADJUST:
        if (unknown && amount < 0) return INV_UNKNOWN_SKU;
        if (amount < 0) *op = INV_OP_SUB;
        after += amount;
        if (command->strict && amount < 0 && after >= 0 && after < inv_stock_reserved(row)) {
            int64_t there = inv_stock_available(row);
            inv_add_short_line(run, job, line, there > 0 ? there : 0);
            return INV_INSUFFICIENT;
        }
        break;
    case INV_CMD_SET_ON_HAND:
        if (command->if_on_hand != row.on_hand) {
            job->reply->figure = row.on_hand;
            return INV_CAS_FAILED;
        }
        after = amount;
        *op = amount == row.on_hand ? INV_OP_NONE : amount > row.on_hand ? INV_OP_ADD : INV_OP_SUB;
        *qty = (uint32_t)(amount > row.on_hand ? amount - row.on_hand : row.on_hand - amount);
        break;
    case INV_CMD_SET_POLICY:
        *op = INV_OP_SET_SAFETY;
        *qty = (uint32_t)command->safety_stock;
        break;
    default:
        after += amount;
        break;
    }
    if (inv_stock_in_range(after)) return INV_OK;
    job->reply->field = command->kind == INV_CMD_ADJUST ? "delta" : "qty";
    job->reply->figure = after;
    job->reply->limit = after < 0 ? 0 : INV_QTY_MAX;
    return INV_QTY_OUT_OF_RANGE;
}

/* Memory and names for a change that may bring a new SKU, location and row. */
static inv_result open_row(inv_run *run, inv_job *job, uint32_t *out_reference) {
    inv_store *store = run->store;
    inv_job_line *line = &job->lines[0];
    inv_table *table = &inv_judge_stripe(run, line->stripe)->table;
    bool new_sku = line->place == INV_NUMBER_NONE;
    inv_result result = INV_OK;
    inv_run_touch(run, line->stripe);
    if (new_sku) result = inv_table_reserve_sku(table, &store->lanes, line->sku.length);
    if (result == INV_OK && line->location != INV_LOCATION_NONE)
        result = inv_table_reserve_row(table, &store->lanes, line->place);
    if (result == INV_OK && job->command->kind == INV_CMD_SET_POLICY)
        result = inv_table_reserve_policy(table, &store->lanes);
    if (result == INV_OK) result = inv_intern_all(run, job, out_reference);
    if (result == INV_OK && line->location == INV_LOCATION_UNKNOWN)
        result = inv_intern(run, &store->locations, INV_NAME_LOCATION,
                            job->command->lines[0].location, &line->location);
    if (result == INV_LIMIT_EXCEEDED) {
        job->reply->field =
            new_sku && table->sku_count >= INV_TABLE_SKU_COUNT_MAX ? "lines[].sku" : "locations";
        job->reply->limit = INV_LOCATION_COUNT_MAX;
    }
    return result;
}

/* Adds the SKU of a line to its stripe and logs its name. Memory has been reserved. */
void inv_judge_add_sku(inv_run *run, inv_job *job, inv_job_line *line) {
    inv_table *table = &inv_judge_stripe(run, line->stripe)->table;
    line->place = inv_table_add_sku(table, line->hash, (uint16_t)job->seller, line->sku);
    line->number = inv_sku_number(run->store, line->stripe, line->place);
    inv_effect effect = {.kind = INV_ENTRY_NAME,
                         .seller = (uint16_t)job->seller,
                         .account = line->number,
                         .body_hash = INV_NAME_SKU,
                         .reason = INV_NUMBER_NONE,
                         .reference = INV_NUMBER_NONE,
                         .blob = line->sku};
    job->end_offset = inv_run_encode(run, &effect);
}

static void answer_stock(inv_run *run, inv_job *job, const inv_job_line *line) {
    inv_stripe *stripe = inv_judge_stripe(run, line->stripe);
    const inv_row *found = line->place == INV_NUMBER_NONE || line->location >= INV_LOCATION_NONE
                               ? NULL
                               : inv_table_row(&stripe->table, line->place, line->location);
    inv_row row = found == NULL ? (inv_row){0} : inv_row_load(found);
    inv_fill_level(run->store, line->stripe, line->place, line->location,
                   found == NULL ? NULL : &row,
                   atomic_load_explicit(&stripe->lsn_touched, memory_order_relaxed),
                   inv_stripe_time(run->store, line->stripe, run->now_ms), &job->reply->level);
}

static void stock_body(inv_job *job) {
    const inv_job_line *line = &job->lines[0];
    const inv_command *command = job->command;
    job->body_lines = inv_line_sum(line->number, line->location, 1); /* the figure may be 0 */
    job->body_lines ^= inv_mix64((uint64_t)command->lines[0].qty);
    job->body_extra = (uint64_t)command->if_on_hand << 1 | command->strict;
    job->body_extra ^= (uint64_t)command->safety_stock << 33;
    inv_hash_body(job);
}

int inv_judge_stock(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    inv_job_line *line = &job->lines[0];
    inv_stripe *stripe = inv_judge_stripe(run, line->stripe);
    uint8_t kind = inv_entry_kind_of(job->command->kind), op_code;
    uint32_t qty, reference;
    inv_ref op = 0;
    inv_resolve_line(run, job, line);
    job->reply->now_unix_ms = inv_stripe_time(store, line->stripe, run->now_ms);
    stock_body(job);
    if (job->has_op) {
        int code = inv_known_op(run, job, kind, &op);
        if (code == INV_NEED_STRIPES || code == INV_STALE_ID) return code;
        if (op != 0) {
            uint64_t lsn = job->reply->lsn;
            answer_stock(run, job, line);
            job->reply->lsn = lsn;
            return code;
        }
    }
    if (line->sku.bytes == NULL && line->place == INV_NUMBER_NONE) return INV_UNKNOWN_SKU;
    if (line->location == INV_LOCATION_UNKNOWN && job->command->lines[0].location.bytes == NULL)
        return INV_UNKNOWN_LOCATION; /* a number that is no location's has no text to make one of */
    const inv_row *found = line->place == INV_NUMBER_NONE || line->location >= INV_LOCATION_NONE
                               ? NULL
                               : inv_table_row(&stripe->table, line->place, line->location);
    inv_row row = found == NULL ? (inv_row){0} : inv_row_load(found);
    int code = decide_stock(run, job, row, &op_code, &qty);
    if (code != INV_OK) return code;
    inv_result result = inv_open_op(run, job, line->stripe, &op);
    if (result != INV_OK) return result == INV_BUSY ? INV_NEED_STRIPES : (int)result;
    result = open_row(run, job, &reference);
    if (result != INV_OK) {
        if (!INV_PLANTED(INV_PLANT_OP_ID_LEFT)) inv_close_op(run, job, line->stripe, op);
        return result;
    }
    if (line->place == INV_NUMBER_NONE) inv_judge_add_sku(run, job, line);
    stock_body(job); /* with the numbers of a new SKU or location */
    run->changes[0] = (inv_change_line){
        .sku = line->number, .qty = qty, .location = (uint16_t)line->location, .op = op_code};
    inv_effect effect = {.kind = kind,
                         .line_count = 1,
                         .seller = (uint16_t)job->seller,
                         .account = job->account,
                         .body_hash = job->body_hash,
                         .reason = job->reason,
                         .reference = reference,
                         .lines = run->changes};
    if (op != 0) inv_effect_id_of(&effect.id, &job->op);
    result = inv_apply_rows(store, run, &effect);
    INV_ASSERT(result == INV_OK);
    if (op != 0) inv_apply_op(store, &effect, op, run->time_ms);
    inv_write_entry(run, job, &effect, op, 0);
    answer_stock(run, job, line);
    return INV_OK;
}

/* Internal: makes sure that a SKU and a location have numbers. */
int inv_judge_name(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    inv_job_line *line = &job->lines[0];
    inv_result result = INV_OK;
    uint32_t reference;
    inv_resolve_line(run, job, line);
    bool new_sku = line->sku.bytes != NULL && line->place == INV_NUMBER_NONE;
    if (new_sku) {
        inv_run_touch(run, line->stripe);
        result = inv_table_reserve_sku(&inv_judge_stripe(run, line->stripe)->table, &store->lanes,
                                       line->sku.length);
    }
    if (result == INV_OK) result = inv_intern_all(run, job, &reference);
    if (result == INV_OK && line->location == INV_LOCATION_UNKNOWN) {
        result = inv_intern(run, &store->locations, INV_NAME_LOCATION,
                            job->command->lines[0].location, &line->location);
        job->end_offset = run->payload_bytes;
    }
    if (result != INV_OK) return result;
    if (new_sku) inv_judge_add_sku(run, job, line);
    job->reply->level.sku = line->number;
    job->reply->level.location = (uint16_t)line->location;
    job->reply->figure = job->account;
    return INV_OK;
}
