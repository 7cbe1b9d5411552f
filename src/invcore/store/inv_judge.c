/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_judge.c: what a command means (SEMANTICS.md sections 2, 3, 7). Runs under the locks of its
 * run.
 *
 * Every function here follows one order: known id, then what the rules say, then memory and names
 * (the last things that may say no), then apply and encode, which can't fail. So a refusal leaves
 * no trace.
 */
#include "inv_store.h"

#include "../base/inv_crc32c.h"

/* ---- small tools
 * ----------------------------------------------------------------------------------- */

static inv_stripe *stripe_of(const inv_run *run, uint32_t index) {
    return &run->store->stripes[index];
}

static int need_stripe(inv_run *run, uint32_t stripe) {
    inv_run_want_stripe(run, stripe);
    return INV_NEED_STRIPES;
}

/* Finds an id. INV_OK: *out_ref is 0 or a hold whose home is locked. */
static int find_hold(inv_run *run, const inv_hold_key *key, inv_ref *out_ref) {
    inv_store *store = run->store;
    inv_hold_shard *shard = inv_holds_shard(&store->holds, key->hash);
    inv_lock_take(&shard->lock);
    inv_ref ref = inv_holds_find_locked(&store->holds, shard, key);
    uint32_t home = ref == 0 ? 0 : inv_hold_stripe(&store->holds, ref);
    inv_lock_give(&shard->lock);
    if (ref != 0 && !inv_run_has(run, home)) return need_stripe(run, home);
    *out_ref = ref;
    return INV_OK;
}

static void resolve_line(inv_run *run, const inv_job *job, inv_job_line *line) {
    const inv_table *table = &stripe_of(run, line->stripe)->table;
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

/* A sum that does not depend on the order of lines nor on how a line was split over places. */
static uint64_t line_sum(uint32_t sku, uint32_t location, uint32_t qty) {
    return (inv_mix64(((uint64_t)sku << 17 | location) + 0x9E3779B97F4A7C15ull) | 1) * qty;
}

/* Numbers of names new to the store are known only after intern_all: the body is hashed again then.
 */
static void hash_body(inv_job *job) {
    uint64_t words[5] = {job->body_lines, job->ttl_ms, job->account, job->command->kind,
                         job->body_extra};
    job->body_hash = inv_crc32c(0, words, sizeof words);
}

/* Names an entry will refer to. They may be refused (limits, memory), so they come before any
 * change. */
static inv_result intern(inv_run *run, inv_names *names, inv_name_kind kind, inv_text text,
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

static inv_result intern_all(inv_run *run, inv_job *job, uint32_t *out_reference) {
    inv_store *store = run->store;
    const inv_command *command = job->command;
    inv_result result = INV_OK;
    *out_reference = INV_NUMBER_NONE;
    if (job->seller == INV_NUMBER_NONE)
        result = intern(run, &store->sellers, INV_NAME_SELLER, job->seller_text, &job->seller);
    if (result == INV_OK && job->account == INV_NUMBER_NONE)
        result = intern(run, &store->accounts, INV_NAME_ACCOUNT, job->account_text, &job->account);
    if (result == INV_OK && job->reason == INV_NUMBER_NONE && command->reason.length > 0)
        result = intern(run, &store->reasons, INV_NAME_REASON, command->reason, &job->reason);
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

static void effect_id(inv_effect_id *out, const inv_hold_key *key) {
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
static void log_entry(inv_run *run, inv_job *job, inv_effect *effect, inv_ref hold, inv_ref op) {
    job->end_offset = inv_run_encode(run, effect);
    if (hold != 0) patch_later(run, hold, job->end_offset);
    if (op != 0) patch_later(run, op, job->end_offset);
}

/* ---- answers
 * --------------------------------------------------------------------------------------- */

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

static inv_reply_line *add_reply_line(inv_reply *reply) {
    inv_reply_line *line =
        reply->line_count < reply->lines_max ? &reply->lines[reply->line_count] : NULL;
    reply->line_count++;
    if (line != NULL) memset(line, 0, sizeof *line);
    return line;
}

static void fill_lines(const inv_hold_line *lines, uint32_t count, bool expired, inv_reply *reply) {
    reply->line_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        inv_reply_line *out = add_reply_line(reply);
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
    if (lines != NULL) fill_lines(lines, hold->line_count, expired, reply);
}

/* A line that is short: what was asked, what is there, and who else could serve it. */
static void add_short_line(inv_run *run, inv_job *job, const inv_job_line *line, int64_t there) {
    inv_reply_line *out = add_reply_line(job->reply);
    if (out == NULL) return;
    out->sku = line->number;
    out->location =
        line->location < INV_LOCATION_NONE ? (uint16_t)line->location : INV_LOCATION_NONE;
    out->line_index = line->line_index;
    out->qty = line->qty;
    out->available_to_promise = there;
    if (line->place == INV_NUMBER_NONE || line->location == INV_LOCATION_NONE) return;
    const inv_table *table = &stripe_of(run, line->stripe)->table;
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

/* ---- trying changes on rows
 * -------------------------------------------------------------------------- */

/* Applies run->changes to the rows one after the other. With `promise` each must be covered by what
 * may be promised. Returns how many went through; the caller undoes them if that is fewer than all.
 */
static uint32_t try_rows(inv_run *run, uint32_t count, bool promise) {
    inv_store *store = run->store;
    for (uint32_t i = 0; i < count; i++) {
        const inv_change_line *change = &run->changes[i];
        uint32_t stripe = inv_sku_stripe(store, change->sku);
        uint32_t place = inv_sku_place(store, change->sku);
        inv_row *row = inv_table_row(&stripe_of(run, stripe)->table, place, change->location);
        INV_ASSERT(row != NULL);
        inv_row after = inv_row_load(row);
        uint32_t safety = inv_table_safety_stock(&stripe_of(run, stripe)->table, place, after);
        if (promise && inv_stock_promisable(after, safety) < change->qty) return i;
        if (!inv_stock_apply(&after, change->op, change->qty)) return i;
        inv_run_touch(run, stripe);
        inv_row_store(row, after);
    }
    return count;
}

static void undo_rows(inv_run *run, uint32_t count) {
    inv_store *store = run->store;
    for (uint32_t i = count; i-- > 0;) {
        const inv_change_line *change = &run->changes[i];
        inv_stock_delta delta = inv_stock_deltas[change->op];
        inv_row *row = inv_table_row(&stripe_of(run, inv_sku_stripe(store, change->sku))->table,
                                     inv_sku_place(store, change->sku), change->location);
        inv_row after = inv_row_load(row);
        after.on_hand -= (uint32_t)(delta.on_hand * (int64_t)change->qty);
        after.held -= (uint32_t)(delta.held * (int64_t)change->qty);
        after.allocated -= (uint32_t)(delta.allocated * (int64_t)change->qty);
        inv_row_store(row, after);
    }
}

static void add_change(inv_run *run, uint32_t *count, const inv_hold_line *line, uint8_t op,
                       uint32_t qty) {
    INV_ASSERT(*count < INV_EFFECT_LINE_COUNT_MAX);
    inv_change_line *change = &run->changes[(*count)++];
    change->sku = line->sku;
    change->qty = qty;
    change->location = line->location;
    change->op = op;
    change->flags = line->flags & INV_LINE_FREE;
}

/* ---- reserve
 * --------------------------------------------------------------------------------------- */

/* Order of two texts, bytes first, then length. */
static int text_order(inv_text a, inv_text b) {
    int order = memcmp(a.bytes, b.bytes, a.length < b.length ? a.length : b.length);
    return order != 0 ? order : a.length < b.length ? -1 : a.length > b.length;
}

/* Order of two unknown locations by their names (a number that is none has no name). */
static int unknown_order(const inv_job *job, const inv_job_line *a, const inv_job_line *b) {
    inv_text left = job->command->lines[a->line_index].location;
    inv_text right = job->command->lines[b->line_index].location;
    if (left.bytes == NULL || right.bytes == NULL)
        return (left.bytes != NULL) - (right.bytes != NULL);
    return text_order(left, right);
}

/* Order of the rows two lines stand for; 0: the same row. */
static int row_order(const inv_job *job, const inv_job_line *a, const inv_job_line *b) {
    if (a->stripe != b->stripe) return a->stripe < b->stripe ? -1 : 1;
    if (a->place != b->place) return a->place < b->place ? -1 : 1;
    if (a->place == INV_NUMBER_NONE) {
        if (a->sku.bytes == NULL || b->sku.bytes == NULL)
            return (a->sku.bytes != NULL) - (b->sku.bytes != NULL);
        int order = text_order(a->sku, b->sku);
        if (order != 0) return order;
    }
    if (a->location != b->location) return a->location < b->location ? -1 : 1;
    return a->location == INV_LOCATION_UNKNOWN ? unknown_order(job, a, b) : 0;
}

static bool line_before(const inv_job *job, const inv_job_line *a, const inv_job_line *b) {
    int order = row_order(job, a, b);
    return order != 0 ? order < 0 : a->line_index < b->line_index;
}

/* Shell sort (gaps of Ciura, 2001): in place, no memory, fast enough for 4,096 lines. */
static void sort_lines(const inv_job *job) {
    inv_job_line *lines = job->lines;
    uint32_t count = job->line_count;
    static const uint32_t gaps[] = {1750, 701, 301, 132, 57, 23, 10, 4, 1};
    for (uint32_t g = 0; g < sizeof gaps / sizeof gaps[0]; g++)
        for (uint32_t gap = gaps[g], i = gap; i < count; i++) {
            inv_job_line line = lines[i];
            uint32_t at = i;
            for (; at >= gap && line_before(job, &line, &lines[at - gap]); at -= gap)
                lines[at] = lines[at - gap];
            lines[at] = line;
        }
}

/* Sorts lines by SKU, located ones first, and sums equal ones. False: a sum is out of range. */
static bool merge_lines(inv_job *job) {
    uint32_t count = 0;
    sort_lines(job);
    for (uint32_t i = 0; i < job->line_count; i++) {
        inv_job_line *last = count > 0 ? &job->lines[count - 1] : NULL;
        if (last == NULL || row_order(job, last, &job->lines[i]) != 0) {
            job->lines[count++] = job->lines[i];
            continue;
        }
        uint64_t sum = (uint64_t)last->qty + job->lines[i].qty;
        if (sum > INV_QTY_MAX) {
            job->reply->field = "lines[].qty";
            job->reply->line_index = job->lines[i].line_index;
            job->reply->figure = (int64_t)sum;
            job->reply->limit = INV_QTY_MAX;
            return false;
        }
        last->qty = (uint32_t)sum;
    }
    job->line_count = count;
    return true;
}

static int64_t promisable_at(const inv_run *run, const inv_job *job, const inv_job_line *line,
                             inv_row row) {
    uint32_t safety =
        job->command->use_safety_stock
            ? 0
            : inv_table_safety_stock(&stripe_of(run, line->stripe)->table, line->place, row);
    return inv_stock_promisable(row, safety);
}

/* Units the located lines of this cart take from a row of the free line's SKU. The located lines of
 * the same SKU stand right before the free one, sorted by location. */
static int64_t taken_at(const inv_job *job, uint32_t line, uint32_t location) {
    for (uint32_t i = line; i-- > 0;) {
        const inv_job_line *other = &job->lines[i];
        if (other->stripe != job->lines[line].stripe || other->place != job->lines[line].place)
            break;
        if (other->location == location) return other->qty;
    }
    return 0;
}

/* What is there for a line, the located lines of the cart served first. */
static int64_t available_for(const inv_run *run, const inv_job *job, uint32_t index) {
    const inv_job_line *line = &job->lines[index];
    if (line->place == INV_NUMBER_NONE || line->location == INV_LOCATION_UNKNOWN) return 0;
    const inv_table *table = &stripe_of(run, line->stripe)->table;
    if (line->location != INV_LOCATION_NONE) {
        const inv_row *row = inv_table_row(table, line->place, line->location);
        return row == NULL ? 0 : promisable_at(run, job, line, inv_row_load(row));
    }
    uint32_t count;
    int64_t sum = 0;
    const inv_row *rows = inv_table_rows_of(table, line->place, &count);
    for (uint32_t i = 0; i < count; i++) {
        inv_row row = inv_row_load(&rows[i]);
        int64_t left = promisable_at(run, job, line, row) - taken_at(job, index, row.location);
        if (left > 0) sum += left;
    }
    return sum;
}

static void place_at(inv_run *run, uint32_t *count, const inv_job_line *line, uint16_t location,
                     uint32_t qty, uint8_t flags) {
    inv_change_line *change = &run->changes[*count];
    change->sku = line->number;
    change->qty = qty;
    change->location = location;
    change->op = INV_OP_HOLD;
    change->flags = flags;
    run->change_index[(*count)++] = line->line_index;
}

/* May one more line be placed? Locations added since the credit was taken may need more of it. */
static int room_for_change(inv_run *run, const inv_job *job, uint32_t count) {
    if (count == INV_LINE_COUNT_MAX) return INV_LIMIT_EXCEEDED;
    if (count < job->change_max) return INV_OK;
    run->need_change_max = 2 * job->change_max + 8;
    return INV_NEED_STRIPES;
}

/* Places every line: `priority` takes a free line's units from its rows in order of first use of
 * the location, splitting as needed. INV_OK, INV_INSUFFICIENT, INV_LIMIT_EXCEEDED or
 * INV_NEED_STRIPES. */
static int plan(inv_run *run, inv_job *job, uint32_t *out_count) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < job->line_count; i++) {
        const inv_job_line *line = &job->lines[i];
        if (available_for(run, job, i) < line->qty) return INV_INSUFFICIENT;
        if (line->location != INV_LOCATION_NONE) {
            int room = room_for_change(run, job, count);
            if (room != INV_OK) return room;
            place_at(run, &count, line, (uint16_t)line->location, line->qty, 0);
            continue;
        }
        uint32_t row_count, left = line->qty;
        const inv_row *rows =
            inv_table_rows_of(&stripe_of(run, line->stripe)->table, line->place, &row_count);
        for (uint32_t r = 0; r < row_count && left > 0; r++) {
            inv_row row = inv_row_load(&rows[r]);
            int64_t there = promisable_at(run, job, line, row) - taken_at(job, i, row.location);
            if (there <= 0) continue;
            int room = room_for_change(run, job, count);
            if (room != INV_OK) return room;
            uint32_t take = there < left ? (uint32_t)there : left;
            place_at(run, &count, line, row.location, take, INV_LINE_FREE);
            left -= take;
        }
        INV_ASSERT(left == 0);
    }
    *out_count = count;
    return INV_OK;
}

/* Placed lines in the order of the request, as users expect to read them. */
static void order_changes(inv_run *run, uint32_t count) {
    for (uint32_t gap = count / 2; gap > 0; gap /= 2)
        for (uint32_t i = gap; i < count; i++) {
            inv_change_line change = run->changes[i];
            uint32_t index = run->change_index[i], at = i;
            for (; at >= gap && (run->change_index[at - gap] > index ||
                                 (run->change_index[at - gap] == index &&
                                  run->changes[at - gap].location > change.location));
                 at -= gap) {
                run->changes[at] = run->changes[at - gap];
                run->change_index[at] = run->change_index[at - gap];
            }
            run->changes[at] = change;
            run->change_index[at] = index;
        }
}

static uint64_t hold_lines_sum(const inv_store *store, const inv_hold *hold) {
    inv_hold_line inline_line, *lines = inv_hold_lines(&store->holds, hold, &inline_line);
    uint64_t sum = 0;
    for (uint32_t i = 0; lines != NULL && i < hold->line_count; i++)
        sum += line_sum(lines[i].sku,
                        (lines[i].flags & INV_LINE_FREE) ? INV_LOCATION_NONE : lines[i].location,
                        lines[i].qty);
    return sum;
}

/* The same id again: the first answer, or which fields differ. */
static int replay_reserve(inv_run *run, inv_job *job, inv_ref ref, uint64_t lines,
                          bool comparable) {
    const inv_hold *hold = inv_hold_at(&run->store->holds, ref);
    inv_fill_reservation(run->store, ref, job->reply);
    if (hold->kind & INV_HOLD_NO_BODY) return INV_ALREADY_RELEASED;
    if (comparable && hold->body_hash == job->body_hash) return INV_REPLAYED;
    if (hold->state == INV_STATE_HELD || hold->state == INV_STATE_ALLOCATED) {
        bool same_lines = comparable && lines == hold_lines_sum(run->store, hold);
        if (!same_lines) job->reply->mismatch |= INV_FIELD_LINES;
        if (job->account != hold->account) job->reply->mismatch |= INV_FIELD_ACCOUNT;
        /* Nothing else is in a body of this release but the ttl and whether safety stock is used.
         */
        if (job->reply->mismatch == 0) job->reply->mismatch = INV_FIELD_TTL_MS;
    } else {
        job->reply->mismatch = INV_FIELD_BODY;
    }
    return INV_IDEMPOTENCY_MISMATCH;
}

/* A UUIDv7 that says it was made when ids have already been forgotten, but after the store began.
 */
static bool is_stale(const inv_store *store, const inv_hold_key *key) {
    if (key->text.bytes != NULL || key->uuid[6] >> 4 != 7) return false;
    uint64_t wall_ms = 0;
    for (uint32_t i = 0; i < 6; i++) wall_ms = wall_ms << 8 | key->uuid[i];
    uint64_t offset =
        atomic_load_explicit(&((inv_store *)store)->wall_offset_ms, memory_order_relaxed);
    uint64_t engine_ms = wall_ms - offset;
    return wall_ms >= store->identity.created_unix_ms && (int64_t)engine_ms >= 0 &&
           engine_ms <
               atomic_load_explicit(&((inv_store *)store)->window_start_ms, memory_order_acquire);
}

static int refuse_short(inv_run *run, inv_job *job) {
    job->reply->line_count = 0;
    for (uint32_t i = 0; i < job->line_count; i++) {
        int64_t there = available_for(run, job, i);
        if (there < job->lines[i].qty) add_short_line(run, job, &job->lines[i], there);
    }
    if (INV_PLANTED(INV_PLANT_REFUSAL_NO_WAIT)) job->reply->observed_lsn = 0;
    return INV_INSUFFICIENT;
}

/* Home, lowest and highest time of the stripes of a job's lines. */
static uint32_t home_and_times(const inv_run *run, const inv_job *job, uint64_t *out_low,
                               uint64_t *out_high) {
    uint32_t home = INV_NUMBER_NONE;
    *out_low = UINT64_MAX;
    *out_high = 0;
    for (uint32_t i = 0; i < job->line_count; i++) {
        uint32_t stripe = job->lines[i].stripe;
        uint64_t time = inv_stripe_time(run->store, stripe, run->now_ms);
        *out_low = inv_min_u64(*out_low, time);
        *out_high = inv_max_u64(*out_high, time);
        if (stripe < home) home = stripe;
    }
    return home;
}

/* Takes what a new reservation needs, the shard locked. The hold is in the index, not yet filled.
 */
static inv_result open_hold(inv_run *run, inv_job *job, uint32_t home, uint32_t line_count,
                            inv_hold_shard *shard, inv_ref *out_ref, uint32_t *out_reference) {
    inv_store *store = run->store;
    inv_result result = inv_holds_reserve_locked(&store->holds, shard);
    if (result == INV_OK) result = inv_apply_reserve_wheel(store, home);
    if (result == INV_OK) result = intern_all(run, job, out_reference);
    if (result != INV_OK) return result;
    *out_ref = inv_apply_create_locked(store, &job->id, home, shard);
    if (*out_ref == 0) return INV_NO_MEMORY;
    if (line_count == 1) return INV_OK;
    result = inv_hold_make_block(&store->holds, inv_hold_at(&store->holds, *out_ref), line_count);
    if (result == INV_OK) return INV_OK;
    inv_holds_remove_locked(&store->holds, shard, job->id.hash, *out_ref);
    inv_hold_destroy(&store->holds, &store->stripes[home].home, *out_ref);
    return result;
}

/* The time a deadline counts from: the highest of the job's stripes, read once all of them are odd,
 * so that no reader has seen a later time there than the one this decision is made at. */
static uint64_t touch_and_look(inv_run *run, const inv_job *job) {
    uint64_t high = 0;
    for (uint32_t i = 0; i < job->line_count; i++) inv_run_touch(run, job->lines[i].stripe);
    uint64_t now = atomic_load_explicit(&run->store->now_ms, memory_order_acquire);
    for (uint32_t i = 0; i < job->line_count; i++)
        high = inv_max_u64(high, inv_stripe_time(run->store, job->lines[i].stripe, now));
    return high;
}

/* A deadline is written as 32 bits of ms after the record's time. Stripes further apart than 19
 * days (a clock that jumped, with expiries still to be swept) can't share a record: alone first,
 * and if it is the cart's own stripes, later. */
static int too_far_apart(const inv_run *run, const inv_job *job, uint64_t time_ms) {
    if (time_ms + job->ttl_ms - run->time_ms <= UINT32_MAX - 86400000u) return INV_OK;
    return run->alone ? INV_BUSY : INV_NEED_STRIPES;
}

static void answer_reserved(inv_run *run, inv_job *job, inv_ref ref, uint32_t count) {
    inv_reply *reply = job->reply;
    inv_fill_reservation(run->store, ref, reply);
    for (uint32_t i = 0; i < count && i < reply->lines_max; i++)
        reply->lines[i].line_index = run->change_index[i];
}

static int judge_reserve(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    uint64_t lines = 0, low, high;
    uint32_t count = 0, reference;
    bool comparable = job->account != INV_NUMBER_NONE;
    for (uint32_t i = 0; i < job->line_count; i++) resolve_line(run, job, &job->lines[i]);
    if (job->line_count > 1 && !merge_lines(job)) return INV_BAD_REQUEST;
    for (uint32_t i = 0; i < job->line_count; i++) {
        const inv_job_line *line = &job->lines[i];
        if (line->place == INV_NUMBER_NONE || line->location == INV_LOCATION_UNKNOWN)
            comparable = false;
        lines += line_sum(line->number, line->location, line->qty);
    }
    uint32_t home = home_and_times(run, job, &low, &high);
    job->reply->now_unix_ms = low;
    job->body_lines = lines;
    job->body_extra = job->command->use_safety_stock;
    hash_body(job);
    int code = too_far_apart(run, job, high);
    if (code != INV_OK) return code;
    code = plan(run, job, &count);
    if (code == INV_NEED_STRIPES) return code;

    inv_hold_shard *shard = inv_holds_shard(&store->holds, job->id.hash);
    inv_lock_take(&shard->lock);
    inv_ref ref = inv_holds_find_locked(&store->holds, shard, &job->id);
    if (ref != 0) {
        uint32_t stripe = inv_hold_stripe(&store->holds, ref);
        inv_lock_give(&shard->lock);
        if (!inv_run_has(run, stripe)) return need_stripe(run, stripe);
        return replay_reserve(run, job, ref, lines, comparable);
    }
    if (is_stale(store, &job->id)) code = INV_STALE_ID;
    if (code != INV_OK) {
        inv_lock_give(&shard->lock);
        if (code == INV_LIMIT_EXCEEDED) {
            job->reply->field = "lines";
            job->reply->limit = INV_LINE_COUNT_MAX;
        }
        return code == INV_INSUFFICIENT ? refuse_short(run, job) : code;
    }
    inv_result result = open_hold(run, job, home, count, shard, &ref, &reference);
    inv_lock_give(&shard->lock);
    if (result != INV_OK) return result;

    if (count > 1) order_changes(run, count);
    hash_body(job);
    uint64_t deadline = touch_and_look(run, job) + job->ttl_ms - run->time_ms;
    INV_ASSERT(deadline > 0 && deadline <= UINT32_MAX);
    inv_effect effect = {.kind = INV_ENTRY_RESERVE,
                         .state = INV_STATE_HELD,
                         .line_count = (uint16_t)count,
                         .seller = (uint16_t)job->seller,
                         .account = job->account,
                         .body_hash = job->body_hash,
                         .deadline_ms = (uint32_t)deadline,
                         .reason = job->reason,
                         .reference = reference,
                         .lines = run->changes};
    effect_id(&effect.id, &job->id);
    result = inv_apply_rows(store, run, &effect);
    INV_ASSERT(result == INV_OK);
    result = inv_apply_hold(store, &effect, ref, run->time_ms);
    INV_ASSERT(result == INV_OK);
    log_entry(run, job, &effect, ref, 0);
    answer_reserved(run, job, ref, count);
    return INV_OK;
}

/* ---- commit, ship, release, cancel
 * ------------------------------------------------------------------- */

/* The answer of a call that finds nothing it may do, by the state it finds. */
static int wrong_order(uint8_t state) {
    switch (state) {
    case INV_STATE_ALLOCATED:
        return INV_ALREADY_COMMITTED;
    case INV_STATE_SHIPPED:
        return INV_ALREADY_SHIPPED;
    case INV_STATE_CANCELLED:
        return INV_ALREADY_CANCELLED;
    case INV_STATE_EXPIRED:
        return INV_EXPIRED;
    case INV_STATE_PREEMPTED:
        return INV_PREEMPTED;
    default:
        return INV_ALREADY_RELEASED;
    }
}

static uint8_t entry_kind_of(uint8_t command_kind) {
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

/* Whole calls: what a line gives. Sets run->changes; returns their count. */
static uint32_t whole_changes(inv_run *run, uint8_t kind, const inv_hold_line *lines,
                              uint32_t line_count) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < line_count; i++) {
        const inv_hold_line *line = &lines[i];
        if (line->held > 0)
            add_change(run, &count, line,
                       kind == INV_CMD_COMMIT ? INV_OP_COMMIT
                       : kind == INV_CMD_SHIP ? INV_OP_SHIP_HELD
                                              : INV_OP_RELEASE,
                       line->held);
        if (line->allocated > 0 && (kind == INV_CMD_SHIP || kind == INV_CMD_CANCEL))
            add_change(run, &count, line,
                       kind == INV_CMD_SHIP ? INV_OP_SHIP_ALLOCATED : INV_OP_CANCEL_ALLOCATED,
                       line->allocated);
    }
    return count;
}

/* Does a whole call find exactly its own result? */
static bool is_own_result(uint8_t kind, const inv_hold *hold, const inv_hold_line *lines) {
    switch (kind) {
    case INV_CMD_COMMIT:
        if (hold->state != INV_STATE_ALLOCATED) return false;
        for (uint32_t i = 0; i < hold->line_count; i++)
            if (lines[i].allocated + lines[i].shipped != lines[i].qty) return false;
        return true;
    case INV_CMD_SHIP:
        return hold->state == INV_STATE_SHIPPED;
    case INV_CMD_RELEASE:
        return hold->state == INV_STATE_RELEASED ||
               (hold->state == INV_STATE_SHIPPED && hold->prev == INV_ENTRY_RELEASE);
    default:
        return hold->state == INV_STATE_CANCELLED ||
               (hold->state == INV_STATE_SHIPPED && hold->prev == INV_ENTRY_CANCEL);
    }
}

/* Takes `qty` of a requested line from one line of the hold (a working copy). */
static uint32_t take_part(inv_run *run, uint32_t *count, uint8_t kind, inv_hold_line *line,
                          uint32_t qty) {
    uint32_t held = 0, allocated = 0;
    if (kind == INV_CMD_SHIP) { /* committed units leave first */
        allocated = line->allocated < qty ? line->allocated : qty;
        held = line->held < qty - allocated ? line->held : qty - allocated;
    } else {
        held = line->held < qty ? line->held : qty;
        if (kind == INV_CMD_CANCEL) /* the softer promise goes first */
            allocated = line->allocated < qty - held ? line->allocated : qty - held;
    }
    if (held > 0)
        add_change(run, count, line,
                   kind == INV_CMD_COMMIT ? INV_OP_COMMIT
                   : kind == INV_CMD_SHIP ? INV_OP_SHIP_HELD
                                          : INV_OP_RELEASE,
                   held);
    if (allocated > 0)
        add_change(run, count, line,
                   kind == INV_CMD_SHIP ? INV_OP_SHIP_ALLOCATED : INV_OP_CANCEL_ALLOCATED,
                   allocated);
    line->held -= held;
    line->allocated -= allocated;
    return held + allocated;
}

static bool is_asked(const inv_job_line *asked, const inv_hold_line *line) {
    return line->sku == asked->number &&
           (asked->location == INV_LOCATION_NONE || asked->location == line->location);
}

/* Partial calls: equal lines are one, those with a location come first (merge_lines), each is
 * served from the lines of the reservation in their order. INV_OK with run->changes, or
 * INV_OVER_COMMIT with what remains. */
static int part_changes(inv_run *run, inv_job *job, const inv_hold *hold,
                        const inv_hold_line *lines, uint32_t *out_count) {
    uint8_t kind = job->command->kind;
    uint32_t count = 0, n = hold->line_count;
    job->reply->line_count = 0;
    memcpy(run->work, lines, n * sizeof lines[0]);
    for (uint32_t i = 0; i < job->line_count; i++) {
        inv_job_line *asked = &job->lines[i];
        uint32_t left = asked->qty;
        for (uint32_t k = 0; k < n && left > 0; k++)
            if (is_asked(asked, &run->work[k]))
                left -= take_part(run, &count, kind, &run->work[k], left);
        if (left == 0) continue;
        inv_reply_line *out = add_reply_line(job->reply);
        if (out == NULL) continue;
        out->sku = asked->number;
        out->location =
            asked->location < INV_LOCATION_NONE ? (uint16_t)asked->location : INV_LOCATION_NONE;
        out->line_index = asked->line_index;
        out->qty = asked->qty;
        out->available_to_promise = asked->qty - left;
    }
    if (job->reply->line_count > 0) return INV_OVER_COMMIT;
    if (kind == INV_CMD_COMMIT && !job->command->keep_rest)
        for (uint32_t i = 0; i < n; i++)
            if (run->work[i].held > 0)
                add_change(run, &count, &run->work[i], INV_OP_RELEASE, run->work[i].held);
    *out_count = count;
    return INV_OK;
}

/* A partial call without an op_id that finds nothing open: its own result again? */
static bool is_own_part(const inv_job *job, const inv_hold *hold, const inv_hold_line *lines) {
    uint8_t kind = job->command->kind;
    if (lines == NULL || (kind != INV_CMD_COMMIT && kind != INV_CMD_SHIP)) return false;
    if (hold->state != (kind == INV_CMD_COMMIT ? INV_STATE_ALLOCATED : INV_STATE_SHIPPED))
        return false;
    uint64_t asked_sum = 0, there_sum = 0;
    for (uint32_t i = 0; i < job->line_count; i++)
        asked_sum += line_sum(job->lines[i].number, 0, job->lines[i].qty);
    for (uint32_t i = 0; i < hold->line_count; i++)
        there_sum += line_sum(lines[i].sku, 0,
                              kind == INV_CMD_COMMIT ? lines[i].allocated : lines[i].shipped);
    return asked_sum == there_sum;
}

/* All a decision about a hold reads and writes must be locked, and paid for in the credit. */
static int need_all_of(inv_run *run, inv_job *job, const inv_hold *hold,
                       const inv_hold_line *lines) {
    bool missing = false;
    for (uint32_t i = 0; lines != NULL && i < hold->line_count; i++) {
        uint32_t stripe = inv_sku_stripe(run->store, lines[i].sku);
        if (inv_run_has(run, stripe)) continue;
        inv_run_want_stripe(run, stripe);
        missing = true;
    }
    if (job->change_max < 2u * hold->line_count) {
        run->need_change_max = 2u * hold->line_count;
        missing = true;
    }
    return missing ? INV_NEED_STRIPES : INV_OK;
}

/* Lines that kept a whole call from happening: ship without the units there, rehold of what is
 * gone. */
static int refuse_rows(inv_run *run, inv_job *job, uint32_t count, bool promise) {
    job->reply->line_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const inv_change_line *change = &run->changes[i];
        uint32_t stripe = inv_sku_stripe(run->store, change->sku);
        uint32_t place = inv_sku_place(run->store, change->sku);
        const inv_table *table = &stripe_of(run, stripe)->table;
        inv_row row = inv_row_load(inv_table_row(table, place, change->location));
        uint32_t safety = inv_table_safety_stock(table, place, row);
        int64_t there = promise ? inv_stock_promisable(row, safety) : row.on_hand;
        if (there >= change->qty && i + 1 < count) continue;
        if (there >= change->qty && job->reply->line_count > 0) continue;
        inv_job_line line = {.stripe = stripe,
                             .place = place,
                             .number = change->sku,
                             .location = change->location,
                             .qty = change->qty,
                             .line_index = i};
        add_short_line(run, job, &line, there);
    }
    return INV_INSUFFICIENT;
}

static int known_op(inv_run *run, inv_job *job, uint8_t kind, inv_ref *out_op) {
    int code = find_hold(run, &job->op, out_op);
    if (code != INV_OK || *out_op == 0) return code;
    const inv_hold *op = inv_hold_at(&run->store->holds, *out_op);
    job->reply->lsn = op->lsn;
    if (op->location != kind)
        job->reply->mismatch = INV_FIELD_KIND;
    else if (op->body_hash != job->body_hash)
        job->reply->mismatch = INV_FIELD_BODY;
    return job->reply->mismatch != 0 ? INV_IDEMPOTENCY_MISMATCH : INV_REPLAYED;
}

/* A slot for the op_id of a call that is about to succeed. */
static inv_result open_op(inv_run *run, inv_job *job, uint32_t home, inv_ref *out_op) {
    inv_store *store = run->store;
    *out_op = 0;
    if (!job->has_op) return INV_OK;
    if (job->seller == INV_NUMBER_NONE) { /* the seller's number is part of the id */
        inv_result known =
            intern(run, &store->sellers, INV_NAME_SELLER, job->seller_text, &job->seller);
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

static void close_op(inv_run *run, const inv_job *job, uint32_t home, inv_ref op) {
    inv_store *store = run->store;
    if (op == 0) return;
    inv_hold_shard *shard = inv_holds_shard(&store->holds, job->op.hash);
    inv_lock_take(&shard->lock);
    inv_holds_remove_locked(&store->holds, shard, job->op.hash, op);
    inv_lock_give(&shard->lock);
    inv_hold_destroy(&store->holds, &store->stripes[home].home, op);
}

static int remember_unknown(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    uint32_t home = (uint32_t)job->id.hash & (store->stripe_count - 1), reference;
    if (!inv_run_has(run, home)) return need_stripe(run, home);
    if (job->seller == INV_NUMBER_NONE) { /* the seller's number is part of the id */
        inv_result known =
            intern(run, &store->sellers, INV_NAME_SELLER, job->seller_text, &job->seller);
        if (known != INV_OK) return known;
        job->id.seller = job->seller;
    }
    inv_hold_shard *shard = inv_holds_shard(&store->holds, job->id.hash);
    inv_lock_take(&shard->lock);
    inv_result result = inv_holds_reserve_locked(&store->holds, shard);
    bool raced = inv_holds_find_locked(&store->holds, shard, &job->id) != 0;
    if (result == INV_OK && !raced) result = intern_all(run, job, &reference);
    inv_ref ref = 0;
    if (result == INV_OK && !raced) ref = inv_apply_create_locked(store, &job->id, home, shard);
    inv_lock_give(&shard->lock);
    if (raced) return INV_NEED_STRIPES;
    if (result != INV_OK) return result;
    if (ref == 0) return INV_NO_MEMORY;
    inv_effect effect = {.kind = INV_ENTRY_TOMBSTONE,
                         .state = INV_STATE_RELEASED,
                         .seller = (uint16_t)job->seller,
                         .account = job->account,
                         .reason = job->reason,
                         .reference = reference};
    effect_id(&effect.id, &job->id);
    inv_run_touch(run, home);
    result = inv_apply_hold(store, &effect, ref, run->time_ms);
    INV_ASSERT(result == INV_OK);
    log_entry(run, job, &effect, ref, 0);
    inv_fill_reservation(store, ref, job->reply);
    return INV_OK;
}

/* A hold that ends drops its lines, but the answer of the call that ended it shows them. */
static void keep_lines(inv_run *run, const inv_hold *hold) {
    if (hold->block)
        memcpy(run->work, inv_hold_lines(&run->store->holds, hold, NULL),
               hold->line_count * sizeof run->work[0]);
}

static void answer_kept_lines(inv_run *run, inv_job *job, const inv_hold *hold,
                              const inv_effect *effect) {
    for (uint32_t i = 0; i < effect->line_count; i++) {
        inv_stock_delta delta = inv_stock_deltas[effect->lines[i].op];
        bool moved = inv_hold_apply(run->work, hold->line_count, &effect->lines[i], delta.held,
                                    delta.allocated, delta.shipped);
        INV_ASSERT(moved);
    }
    fill_lines(run->work, hold->line_count, false, job->reply);
}

/* Applies run->changes to rows and hold, and logs them; all of it, or nothing and why. `promise`:
 * the rows must be able to promise the units anew. */
static int move_units(inv_run *run, inv_job *job, inv_ref ref, uint32_t count, bool promise) {
    inv_store *store = run->store;
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    uint32_t home = inv_hold_stripe(&store->holds, ref), reference;
    bool whole = count == 1 && !hold->block && run->changes[0].qty == hold->qty;
    inv_ref op;
    inv_result result = open_op(run, job, home, &op);
    if (result != INV_OK) return result == INV_BUSY ? INV_NEED_STRIPES : (int)result;
    uint32_t done = try_rows(run, count, promise);
    if (done < count) {
        undo_rows(run, done);
        close_op(run, job, home, op);
        return refuse_rows(run, job, count, promise);
    }
    if (!whole) result = inv_hold_make_block(&store->holds, hold, hold->line_count);
    if (result == INV_OK) result = intern_all(run, job, &reference);
    if (result != INV_OK) {
        undo_rows(run, count);
        close_op(run, job, home, op);
        return result;
    }
    hash_body(job);
    inv_effect effect = {.kind = entry_kind_of(job->command->kind),
                         .line_count = (uint16_t)count,
                         .seller = (uint16_t)job->seller,
                         .account = job->account,
                         .body_hash = job->body_hash,
                         .reason = job->reason,
                         .reference = reference,
                         .lines = run->changes};
    effect_id(&effect.id, &job->id);
    if (op != 0) effect_id(&effect.op_id, &job->op);
    inv_run_touch(run, home);
    keep_lines(run, hold);
    result = inv_apply_hold(store, &effect, ref, run->time_ms);
    INV_ASSERT(result == INV_OK);
    if (op != 0) inv_apply_op(store, &effect, op, run->time_ms);
    effect.state = hold->state;
    log_entry(run, job, &effect, ref, op);
    inv_fill_reservation(store, ref, job->reply);
    if (hold->units) answer_kept_lines(run, job, hold, &effect);
    return INV_OK;
}

/* commit(if_expired="rehold") of an expired one: take what lapsed again, committed. */
static int rehold(inv_run *run, inv_job *job, inv_ref ref, const inv_hold_line *lines) {
    const inv_hold *hold = inv_hold_at(&run->store->holds, ref);
    uint32_t count = 0;
    for (uint32_t i = 0; i < hold->line_count; i++) {
        uint32_t lapsed = hold->block ? lines[i].held : lines[i].qty;
        if (lapsed > 0) add_change(run, &count, &lines[i], INV_OP_REHOLD, lapsed);
    }
    int code = move_units(run, job, ref, count, true);
    if (code == INV_OK) job->reply->reheld = true;
    return code;
}

static int judge_moves(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    const inv_command *command = job->command;
    uint8_t kind = command->kind;
    inv_ref ref = 0, op = 0;
    inv_hold_line inline_line;
    int code = find_hold(run, &job->id, &ref);
    if (code != INV_OK) return code;
    if (ref == 0) {
        if (kind == INV_CMD_RELEASE && command->tombstone && !command->partial)
            return remember_unknown(run, job);
        return INV_UNKNOWN_RESERVATION;
    }
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    inv_hold_line *lines = inv_hold_lines(&store->holds, hold, &inline_line);
    code = need_all_of(run, job, hold, lines);
    if (code != INV_OK) return code;
    for (uint32_t i = 0; i < job->line_count; i++) resolve_line(run, job, &job->lines[i]);
    if (job->line_count > 1 && !merge_lines(job)) return INV_BAD_REQUEST;
    uint64_t sum = job->id.hash;
    for (uint32_t i = 0; i < job->line_count; i++)
        sum += line_sum(job->lines[i].number, job->lines[i].location, job->lines[i].qty);
    job->body_lines = sum;
    job->body_extra = command->keep_rest;
    hash_body(job);
    if (job->has_op) {
        code = known_op(run, job, entry_kind_of(kind), &op);
        if (code == INV_NEED_STRIPES) return code;
        uint64_t lsn = job->reply->lsn;
        if (op != 0) inv_fill_reservation(store, ref, job->reply);
        if (op != 0) job->reply->lsn = lsn;
        if (op != 0) return code;
    }
    uint32_t count = 0;
    bool live = hold->state == INV_STATE_HELD || hold->state == INV_STATE_ALLOCATED;
    bool may =
        hold->state == INV_STATE_HELD || (live && (kind == INV_CMD_SHIP || kind == INV_CMD_CANCEL));
    inv_fill_reservation(store, ref, job->reply);
    if (!may) {
        if (hold->state == INV_STATE_EXPIRED && kind == INV_CMD_COMMIT && command->rehold &&
            !command->partial)
            return rehold(run, job, ref, lines);
        bool replay = command->partial ? !job->has_op && is_own_part(job, hold, lines)
                                       : is_own_result(kind, hold, lines);
        return replay ? INV_REPLAYED : wrong_order(hold->state);
    }
    if (command->partial) {
        code = part_changes(run, job, hold, lines, &count);
        if (code != INV_OK) return code;
    } else {
        count = whole_changes(run, kind, lines, hold->line_count);
    }
    INV_ASSERT(count > 0);
    return move_units(run, job, ref, count, false);
}

static int judge_extend(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    inv_ref ref = 0;
    uint32_t reference;
    int code = find_hold(run, &job->id, &ref);
    if (code != INV_OK) return code;
    if (ref == 0) return INV_UNKNOWN_RESERVATION;
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    uint32_t home = inv_hold_stripe(&store->holds, ref);
    code = too_far_apart(run, job, inv_stripe_time(store, home, run->now_ms));
    if (code != INV_OK) return code;
    inv_run_touch(run, home); /* as in touch_and_look */
    uint64_t now = atomic_load_explicit(&store->now_ms, memory_order_acquire);
    uint64_t time = inv_stripe_time(store, home, now);
    uint64_t deadline = time + job->ttl_ms;
    job->reply->now_unix_ms = time;
    inv_fill_reservation(store, ref, job->reply);
    if (hold->state != INV_STATE_HELD) return wrong_order(hold->state);
    if (deadline == hold->deadline_ms || (deadline < hold->deadline_ms && !job->command->shorten))
        return INV_OK; /* the deadline stands; nothing to log */
    inv_result result = intern_all(run, job, &reference);
    if (result != INV_OK) return result;
    INV_ASSERT(deadline - run->time_ms <= UINT32_MAX);
    inv_effect effect = {.kind = INV_ENTRY_EXTEND,
                         .state = INV_STATE_HELD,
                         .seller = (uint16_t)job->seller,
                         .account = job->account,
                         .deadline_ms = (uint32_t)(deadline - run->time_ms),
                         .reason = job->reason,
                         .reference = reference};
    effect_id(&effect.id, &job->id);
    inv_run_touch(run, home);
    result = inv_apply_hold(store, &effect, ref, run->time_ms);
    INV_ASSERT(result == INV_OK);
    log_entry(run, job, &effect, ref, 0);
    inv_fill_reservation(store, ref, job->reply);
    return INV_OK;
}

/* ---- stock changes
 * ----------------------------------------------------------------------------------- */

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
            add_short_line(run, job, line, there > 0 ? there : 0);
            return INV_INSUFFICIENT;
        }
        return INV_OK;
    case INV_CMD_ADJUST:
        if (unknown && amount < 0) return INV_UNKNOWN_SKU;
        if (amount < 0) *op = INV_OP_SUB;
        after += amount;
        if (command->strict && amount < 0 && after >= 0 && after < inv_stock_reserved(row)) {
            int64_t there = inv_stock_available(row);
            add_short_line(run, job, line, there > 0 ? there : 0);
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
    inv_table *table = &stripe_of(run, line->stripe)->table;
    bool new_sku = line->place == INV_NUMBER_NONE;
    inv_result result = INV_OK;
    inv_run_touch(run, line->stripe);
    if (new_sku) result = inv_table_reserve_sku(table, &store->lanes, line->sku.length);
    if (result == INV_OK && line->location != INV_LOCATION_NONE)
        result = inv_table_reserve_row(table, &store->lanes, line->place);
    if (result == INV_OK && job->command->kind == INV_CMD_SET_POLICY)
        result = inv_table_reserve_policy(table, &store->lanes);
    if (result == INV_OK) result = intern_all(run, job, out_reference);
    if (result == INV_OK && line->location == INV_LOCATION_UNKNOWN)
        result = intern(run, &store->locations, INV_NAME_LOCATION, job->command->lines[0].location,
                        &line->location);
    if (result == INV_LIMIT_EXCEEDED) {
        job->reply->field =
            new_sku && table->sku_count >= INV_TABLE_SKU_COUNT_MAX ? "lines[].sku" : "locations";
        job->reply->limit = INV_LOCATION_COUNT_MAX;
    }
    return result;
}

/* Adds the SKU of a line to its stripe and logs its name. Memory has been reserved. */
static void add_sku(inv_run *run, inv_job *job, inv_job_line *line) {
    inv_table *table = &stripe_of(run, line->stripe)->table;
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
    inv_stripe *stripe = stripe_of(run, line->stripe);
    const inv_row *found = line->place == INV_NUMBER_NONE || line->location >= INV_LOCATION_NONE
                               ? NULL
                               : inv_table_row(&stripe->table, line->place, line->location);
    inv_row row = found == NULL ? (inv_row){0} : inv_row_load(found);
    inv_fill_level(run->store, line->stripe, line->place, line->location,
                   found == NULL ? NULL : &row,
                   atomic_load_explicit(&stripe->last_lsn, memory_order_relaxed),
                   inv_stripe_time(run->store, line->stripe, run->now_ms), &job->reply->level);
}

static void stock_body(inv_job *job) {
    const inv_job_line *line = &job->lines[0];
    const inv_command *command = job->command;
    job->body_lines = line_sum(line->number, line->location, 1); /* the figure may be 0 */
    job->body_lines ^= inv_mix64((uint64_t)command->lines[0].qty);
    job->body_extra = (uint64_t)command->if_on_hand << 1 | command->strict;
    job->body_extra ^= (uint64_t)command->safety_stock << 33;
    hash_body(job);
}

static int judge_stock(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    inv_job_line *line = &job->lines[0];
    inv_stripe *stripe = stripe_of(run, line->stripe);
    uint8_t kind = entry_kind_of(job->command->kind), op_code;
    uint32_t qty, reference;
    inv_ref op = 0;
    resolve_line(run, job, line);
    job->reply->now_unix_ms = inv_stripe_time(store, line->stripe, run->now_ms);
    stock_body(job);
    if (job->has_op) {
        int code = known_op(run, job, kind, &op);
        if (code == INV_NEED_STRIPES) return code;
        if (op != 0) {
            uint64_t lsn = job->reply->lsn;
            answer_stock(run, job, line);
            job->reply->lsn = lsn;
            return code;
        }
    }
    if (line->sku.bytes == NULL && line->place == INV_NUMBER_NONE) return INV_UNKNOWN_SKU;
    const inv_row *found = line->place == INV_NUMBER_NONE || line->location >= INV_LOCATION_NONE
                               ? NULL
                               : inv_table_row(&stripe->table, line->place, line->location);
    inv_row row = found == NULL ? (inv_row){0} : inv_row_load(found);
    int code = decide_stock(run, job, row, &op_code, &qty);
    if (code != INV_OK) return code;
    inv_result result = open_op(run, job, line->stripe, &op);
    if (result != INV_OK) return result == INV_BUSY ? INV_NEED_STRIPES : (int)result;
    result = open_row(run, job, &reference);
    if (result != INV_OK) {
        close_op(run, job, line->stripe, op);
        return result;
    }
    if (line->place == INV_NUMBER_NONE) add_sku(run, job, line);
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
    if (op != 0) effect_id(&effect.id, &job->op);
    result = inv_apply_rows(store, run, &effect);
    INV_ASSERT(result == INV_OK);
    if (op != 0) inv_apply_op(store, &effect, op, run->time_ms);
    log_entry(run, job, &effect, op, 0);
    answer_stock(run, job, line);
    return INV_OK;
}

/* Internal: makes sure that a SKU and a location have numbers. */
static int judge_name(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    inv_job_line *line = &job->lines[0];
    inv_result result = INV_OK;
    uint32_t reference;
    resolve_line(run, job, line);
    bool new_sku = line->sku.bytes != NULL && line->place == INV_NUMBER_NONE;
    if (new_sku) {
        inv_run_touch(run, line->stripe);
        result = inv_table_reserve_sku(&stripe_of(run, line->stripe)->table, &store->lanes,
                                       line->sku.length);
    }
    if (result == INV_OK) result = intern_all(run, job, &reference);
    if (result == INV_OK && line->location == INV_LOCATION_UNKNOWN) {
        result = intern(run, &store->locations, INV_NAME_LOCATION, job->command->lines[0].location,
                        &line->location);
        job->end_offset = run->payload_bytes;
    }
    if (result != INV_OK) return result;
    if (new_sku) add_sku(run, job, line);
    job->reply->level.sku = line->number;
    job->reply->level.location = (uint16_t)line->location;
    job->reply->figure = job->account;
    return INV_OK;
}

int inv_judge(inv_run *run, inv_job *job) {
    look_again(run, job);
    switch (job->command->kind) {
    case INV_CMD_RESERVE:
        return judge_reserve(run, job);
    case INV_CMD_COMMIT:
    case INV_CMD_SHIP:
    case INV_CMD_RELEASE:
    case INV_CMD_CANCEL:
        return judge_moves(run, job);
    case INV_CMD_EXTEND:
        return judge_extend(run, job);
    case INV_CMD_NAME:
        return judge_name(run, job);
    default:
        return judge_stock(run, job);
    }
}
