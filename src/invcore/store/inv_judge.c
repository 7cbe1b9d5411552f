/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_judge.c: what a command means (SEMANTICS.md sections 2, 3, 7), the part that all of them
 * share: finding ids, names, op_ids, answers. Runs under the locks of its run.
 *
 * Every judge follows one order: known id, then what the rules say, then memory and names (the last
 * things that may say no), then apply and encode, which can't fail. So a refusal leaves no trace.
 */
#include "inv_judge.h"

#include "../base/inv_crc32c.h"

int inv_need_stripe(inv_run *run, uint32_t stripe) {
    inv_run_want_stripe(run, stripe);
    return INV_NEED_STRIPES;
}

/* Finds an id. INV_OK: *out_ref is 0 or a hold whose home is locked. */
int inv_find_hold(inv_run *run, const inv_hold_key *key, inv_ref *out_ref) {
    inv_store *store = run->store;
    inv_hold_shard *shard = inv_holds_shard(&store->holds, key->hash);
    inv_lock_take(&shard->lock);
    inv_ref ref = inv_holds_find_locked(&store->holds, shard, key);
    uint32_t home = ref == 0 ? 0 : inv_hold_stripe(&store->holds, ref);
    inv_lock_give(&shard->lock);
    if (ref != 0 && !inv_run_has(run, home)) return inv_need_stripe(run, home);
    *out_ref = ref;
    return INV_OK;
}

/* Number of a name, those that earlier commands of this run are about to publish included. */
static uint32_t find_name(const inv_run *run, const inv_names *names, inv_text text) {
    for (uint32_t i = 0; i < run->pending_count; i++) {
        if (run->pending[i].names != names) continue;
        const inv_name_node *node = inv_pool_at(&run->store->pool, run->pending[i].node);
        inv_text known = {node->text, node->length};
        if (inv_text_equal(known, text)) return node->number;
    }
    return inv_names_find(names, text);
}

void inv_resolve_line(inv_run *run, const inv_job *job, inv_job_line *line) {
    const inv_table *table = &inv_judge_stripe(run, line->stripe)->table;
    if (line->sku.bytes != NULL) {
        line->place = job->seller == INV_NUMBER_NONE
                          ? INV_NUMBER_NONE
                          : inv_table_find(table, line->hash, (uint16_t)job->seller, line->sku);
        line->number = line->place == INV_NUMBER_NONE
                           ? INV_NUMBER_NONE
                           : inv_sku_number(run->store, line->stripe, line->place);
        return;
    }
    line->place = inv_sku_place(run->store, line->number);
    if (line->place >= table->sku_count || inv_table_sku(table, line->place)->seller != job->seller)
        line->place = line->number = INV_NUMBER_NONE;
}

/* Names that were unknown before the locks were taken may have come into being since: by an earlier
 * command of this run, or by another call. */
static void look_again(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    if (job->seller == INV_NUMBER_NONE)
        job->id.seller = job->op.seller = job->seller =
            find_name(run, &store->sellers, job->seller_text);
    if (job->account == INV_NUMBER_NONE)
        job->account = find_name(run, &store->accounts, job->account_text);
    for (uint32_t i = 0; i < job->line_count; i++) {
        inv_job_line *line = &job->lines[i];
        inv_text text = job->command->lines[line->line_index].location;
        if (line->location != INV_LOCATION_UNKNOWN || text.bytes == NULL) continue;
        uint32_t number = find_name(run, &store->locations, text);
        if (number != INV_NUMBER_NONE) line->location = number;
    }
}

/* Numbers of names new to the store are known only after intern_all: the body is hashed again then.
 */
void inv_hash_body(inv_job *job) {
    job->body_hash = inv_body_hash(job->body_lines, job->ttl_ms, job->account, job->command->kind,
                                   job->body_extra);
}

uint32_t inv_body_hash(uint64_t lines, uint64_t ttl_ms, uint32_t account, uint8_t kind,
                       uint64_t extra) {
    uint64_t words[5] = {lines, ttl_ms, account, kind, extra};
    return inv_crc32c(0, words, sizeof words);
}

/* Names an entry will refer to. They may be refused (limits, memory), so they come before any
 * change. */
inv_result inv_intern(inv_run *run, inv_names *names, inv_name_kind kind, inv_text text,
                      uint32_t *number) {
    inv_store *store = run->store;
    if (!run->names_locked) inv_lock_take(&store->names_lock);
    run->names_locked = true;
    uint32_t pending = 0;
    *number = find_name(run, names, text);
    for (uint32_t i = 0; i < run->pending_count; i++) pending += run->pending[i].names == names;
    if (*number != INV_NUMBER_NONE) return INV_OK;
    inv_pending_name *name = &run->pending[run->pending_count];
    inv_result result = inv_names_prepare(names, text, pending, &name->node, &name->number);
    if (result != INV_OK) return result;
    name->names = names;
    run->pending_count++;
    *number = name->number;
    inv_effect effect = {.kind = INV_ENTRY_NAME,
                         .account = name->number,
                         .body_hash = kind,
                         .reason = INV_NUMBER_NONE,
                         .reference = INV_NUMBER_NONE,
                         .blob = text};
    (void)inv_run_encode(run, &effect);
    return INV_OK;
}

inv_result inv_intern_all(inv_run *run, inv_job *job, uint32_t *out_reference) {
    inv_store *store = run->store;
    const inv_command *command = job->command;
    inv_result result = INV_OK;
    *out_reference = INV_NUMBER_NONE;
    if (job->seller == INV_NUMBER_NONE)
        result = inv_intern(run, &store->sellers, INV_NAME_SELLER, job->seller_text, &job->seller);
    if (result == INV_OK && job->account == INV_NUMBER_NONE)
        result =
            inv_intern(run, &store->accounts, INV_NAME_ACCOUNT, job->account_text, &job->account);
    if (result == INV_OK && job->reason == INV_NUMBER_NONE && command->reason.length > 0)
        result = inv_intern(run, &store->reasons, INV_NAME_REASON, command->reason, &job->reason);
    if (result != INV_OK || command->reference.length == 0) return result;
    /* A reference is written once and not kept in memory: its number is the next one. */
    if (!run->names_locked) inv_lock_take(&store->names_lock);
    run->names_locked = true;
    *out_reference = store->reference_next++;
    inv_effect effect = {.kind = INV_ENTRY_NAME,
                         .account = *out_reference,
                         .body_hash = INV_NAME_REFERENCE,
                         .reason = INV_NUMBER_NONE,
                         .reference = INV_NUMBER_NONE,
                         .blob = command->reference};
    (void)inv_run_encode(run, &effect);
    return INV_OK;
}

void inv_effect_id_of(inv_effect_id *out, const inv_hold_key *key) {
    out->present = true;
    out->text = key->text;
    memcpy(out->uuid, key->uuid, 16);
}

static void patch_later(inv_run *run, inv_ref ref, uint64_t end_offset) {
    INV_ASSERT(run->patch_count < sizeof run->patches / sizeof run->patches[0]);
    run->patches[run->patch_count].ref = ref;
    run->patches[run->patch_count++].end_offset = (uint32_t)end_offset;
}

/* Writes the entry of a job whose effects have been applied. */
void inv_write_entry(inv_run *run, inv_job *job, inv_effect *effect, inv_ref hold, inv_ref op) {
    job->end_offset = inv_run_encode(run, effect);
    if (hold != 0) patch_later(run, hold, job->end_offset);
    if (op != 0) patch_later(run, op, job->end_offset);
}

/* Stripes further apart than 19
 * days (a clock that jumped, with expiries still to be swept) can't share a record: alone first,
 * and if it is the cart's own stripes, later. */
int inv_too_far_apart(const inv_run *run, const inv_job *job, uint64_t time_ms) {
    if (!inv_deadline_too_far(run, time_ms, job->ttl_ms)) return INV_OK;
    return run->alone ? INV_BUSY : INV_NEED_STRIPES;
}

void inv_fill_level(const inv_store *store, uint32_t stripe, uint32_t place, uint32_t location,
                    const inv_row *row, uint64_t lsn, uint64_t now_ms, inv_stock_level *out) {
    const inv_table *table = &store->stripes[stripe].table;
    memset(out, 0, sizeof *out);
    out->sku = place == INV_NUMBER_NONE ? INV_NUMBER_NONE : inv_sku_number(store, stripe, place);
    out->location = location < INV_LOCATION_NONE ? (uint16_t)location : INV_LOCATION_NONE;
    out->lsn = lsn;
    out->now_unix_ms = now_ms;
    if (row == NULL) return;
    int64_t available = inv_stock_available(*row);
    out->known = true;
    out->on_hand = row->on_hand;
    out->held = row->held;
    out->allocated = row->allocated;
    out->reserved = inv_stock_reserved(*row);
    out->available = available > 0 ? available : 0;
    out->short_qty = inv_stock_short(*row);
    out->safety_stock = inv_table_safety_stock(table, place, *row);
    out->available_to_promise = inv_stock_promisable(*row, (uint32_t)out->safety_stock);
}

inv_reply_line *inv_add_reply_line(inv_reply *reply) {
    inv_reply_line *line =
        reply->line_count < reply->lines_max ? &reply->lines[reply->line_count] : NULL;
    reply->line_count++;
    if (line != NULL) memset(line, 0, sizeof *line);
    return line;
}

void inv_answer_lines(const inv_hold_line *lines, uint32_t count, bool expired, inv_reply *reply) {
    reply->line_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        inv_reply_line *out = inv_add_reply_line(reply);
        if (out == NULL) continue;
        out->sku = lines[i].sku;
        out->location = lines[i].location;
        out->line_index = i;
        out->qty = lines[i].qty;
        out->held = expired ? 0 : lines[i].held; /* an expired one remembers there what lapsed */
        out->allocated = lines[i].allocated;
        out->shipped = lines[i].shipped;
    }
}

void inv_fill_reservation(const inv_store *store, inv_ref ref, inv_reply *reply) {
    const inv_hold *hold = inv_hold_at(&store->holds, ref);
    inv_hold_line inline_line, *lines = inv_hold_lines(&store->holds, hold, &inline_line);
    bool expired = hold->state == INV_STATE_EXPIRED;
    reply->state = hold->state;
    reply->lsn = hold->lsn;
    reply->units = inv_hold_units(&store->holds, hold);
    reply->expires_at_unix_ms = hold->state == INV_STATE_HELD ? hold->deadline_ms : 0;
    reply->ended_at_unix_ms =
        hold->state == INV_STATE_HELD || hold->state == INV_STATE_ALLOCATED ? 0 : hold->deadline_ms;
    reply->line_count = 0;
    if (lines != NULL) inv_answer_lines(lines, hold->line_count, expired, reply);
}

/* A line that is short: what was asked, what is there, and who else could serve it. */
void inv_add_short_line(inv_run *run, inv_job *job, const inv_job_line *line, int64_t there) {
    inv_reply_line *out = inv_add_reply_line(job->reply);
    if (out == NULL) return;
    out->sku = line->number;
    out->location =
        line->location < INV_LOCATION_NONE ? (uint16_t)line->location : INV_LOCATION_NONE;
    out->line_index = line->line_index;
    out->qty = line->qty;
    out->available_to_promise = there;
    if (line->place == INV_NUMBER_NONE || line->location == INV_LOCATION_NONE) return;
    const inv_table *table = &inv_judge_stripe(run, line->stripe)->table;
    uint32_t count;
    const inv_row *rows = inv_table_rows_of(table, line->place, &count);
    if (count > 64) count = 64;
    for (uint32_t i = 0; i < count && out->alternative_count < INV_ALTERNATIVE_COUNT_MAX; i++) {
        inv_row row = inv_row_load(&rows[i]);
        uint32_t safety = inv_table_safety_stock(table, line->place, row);
        if (row.location != line->location && inv_stock_promisable(row, safety) >= line->qty)
            out->alternatives[out->alternative_count++] = row.location;
    }
}

uint8_t inv_entry_kind_of(uint8_t command_kind) {
    switch (command_kind) {
    case INV_CMD_COMMIT:
        return INV_ENTRY_COMMIT;
    case INV_CMD_SHIP:
        return INV_ENTRY_SHIP;
    case INV_CMD_RELEASE:
        return INV_ENTRY_RELEASE;
    case INV_CMD_CANCEL:
        return INV_ENTRY_CANCEL;
    case INV_CMD_RECEIVE:
        return INV_ENTRY_RECEIVE;
    case INV_CMD_ISSUE:
        return INV_ENTRY_ISSUE;
    case INV_CMD_ADJUST:
        return INV_ENTRY_ADJUST;
    case INV_CMD_SET_ON_HAND:
        return INV_ENTRY_COUNT;
    default:
        return INV_ENTRY_POLICY;
    }
}

int inv_known_op(inv_run *run, inv_job *job, uint8_t kind, inv_ref *out_op) {
    int code = inv_find_hold(run, &job->op, out_op);
    if (code == INV_OK && *out_op == 0 && inv_id_is_stale(run->store, &job->op) &&
        !INV_PLANTED(INV_PLANT_OP_ID_NEVER_STALE))
        return INV_STALE_ID;
    if (code != INV_OK || *out_op == 0) return code;
    const inv_hold *op = inv_hold_at(&run->store->holds, *out_op);
    job->reply->lsn = op->lsn;
    inv_note_seen(run, job, *out_op);
    if (op->location != kind)
        job->reply->mismatch = INV_FIELD_KIND;
    else if (op->body_hash != job->body_hash)
        job->reply->mismatch = INV_FIELD_BODY;
    return job->reply->mismatch != 0 ? INV_IDEMPOTENCY_MISMATCH : INV_REPLAYED;
}

/* A slot for the op_id of a call that is about to succeed. */
inv_result inv_open_op(inv_run *run, inv_job *job, uint32_t home, inv_ref *out_op) {
    inv_store *store = run->store;
    *out_op = 0;
    if (!job->has_op) return INV_OK;
    if (job->seller == INV_NUMBER_NONE) { /* the seller's number is part of the id */
        inv_result known =
            inv_intern(run, &store->sellers, INV_NAME_SELLER, job->seller_text, &job->seller);
        if (known != INV_OK) return known;
    }
    job->op.seller = job->seller;
    inv_hold_shard *shard = inv_holds_shard(&store->holds, job->op.hash);
    inv_lock_take(&shard->lock);
    inv_result result = inv_holds_reserve_locked(&store->holds, shard);
    /* The same op_id may have come in through another stripe since it was looked for. */
    if (result == INV_OK && inv_holds_find_locked(&store->holds, shard, &job->op) != 0)
        result = INV_BUSY;
    if (result == INV_OK) {
        *out_op = inv_apply_create_locked(store, &job->op, home, shard);
        if (*out_op == 0) result = INV_NO_MEMORY;
    }
    inv_lock_give(&shard->lock);
    return result;
}

void inv_close_op(inv_run *run, const inv_job *job, uint32_t home, inv_ref op) {
    inv_store *store = run->store;
    if (op == 0) return;
    inv_hold_shard *shard = inv_holds_shard(&store->holds, job->op.hash);
    inv_lock_take(&shard->lock);
    inv_holds_remove_locked(&store->holds, shard, job->op.hash, op);
    inv_lock_give(&shard->lock);
    inv_hold_destroy(&store->holds, &store->stripes[home].home, op);
}

int inv_judge(inv_run *run, inv_job *job) {
    look_again(run, job);
    switch (job->command->kind) {
    case INV_CMD_RESERVE:
        return inv_judge_reserve(run, job);
    case INV_CMD_COMMIT:
    case INV_CMD_SHIP:
    case INV_CMD_RELEASE:
    case INV_CMD_CANCEL:
        return inv_judge_moves(run, job);
    case INV_CMD_EXTEND:
        return inv_judge_extend(run, job);
    case INV_CMD_NAME:
        return inv_judge_name(run, job);
    default:
        return inv_judge_stock(run, job);
    }
}
