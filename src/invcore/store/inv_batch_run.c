/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_batch_run.c: the short way of a batch: runs of rows that need nothing special. A reserve of
 * one line under a new id, which fits or is refused; the whole commit, ship, release or cancel of a
 * reservation of one line; a receive, issue or adjust without op_id of a known SKU. Nothing is
 * interned, no stripe is found out late, nothing is undone.
 *
 * Any other row (a replay, a cart, a line to be split, a figure that would leave its range) ends
 * the run before it and goes the long way (inv_batch.c). So every rule stands in inv_judge_*.c;
 * here is only the case where they all say yes, made of the same pieces (inv_stock_apply,
 * inv_apply_hold, inv_run_encode), and the tests hold both ways against each other.
 *
 * Memory latency is the cost: a reserve touches about ten lines that no cache holds. So a run goes
 * over its rows step by step, each step fetching ahead what the next one reads, and the first steps
 * of the next two runs are done meanwhile. Steps that read what a lock guards come after the locks.
 *
 *     two runs ahead     hash of the id, its shard, the stripe
 *     one run ahead      slot of the index, SKU, free slot, wheel
 *     just before        the row; ends: the hold
 *     under the locks    the timer's slot | its neighbours, the queue of ended ones | judge
 */
#include "inv_batch.h"
#include "inv_judge.h"

#define ROW_LONG_WAY (-1)
#define ENTRY_BYTES (INV_EFFECT_HEADER_BYTES + sizeof(inv_change_line) + 8) /* with a reason */

static bool has_id(uint8_t kind) { return kind == INV_CMD_RESERVE || !inv_batch_has_line(kind); }

void inv_batch_resolve(inv_store *store, inv_batch_view *view) {
    const inv_batch *batch = view->batch;
    switch (batch->kind) {
    case INV_CMD_RESERVE:
    case INV_CMD_COMMIT:
    case INV_CMD_SHIP:
    case INV_CMD_RELEASE:
    case INV_CMD_CANCEL:
        if (batch->reason.length > 0) return;
        break;
    case INV_CMD_RECEIVE:
    case INV_CMD_ISSUE:
    case INV_CMD_ADJUST:
        if (batch->ids != NULL) return;
        break;
    default:
        return;
    }
    if (view->short_way || store->options.read_only) return;
    view->seller = view->account = 0;
    view->reason = INV_NUMBER_NONE;
    view->seller_tweak = store->default_seller_tweak;
    if (batch->seller.bytes != NULL) {
        view->seller = inv_names_find(&store->sellers, batch->seller);
        view->seller_tweak = inv_seller_tweak(store, batch->seller);
    }
    if (batch->account.length > 0)
        view->account = inv_names_find(&store->accounts, batch->account);
    if (batch->reason.length > 0) view->reason = inv_names_find(&store->reasons, batch->reason);
    view->short_way = view->seller != INV_NUMBER_NONE && view->account != INV_NUMBER_NONE &&
                      (view->reason != INV_NUMBER_NONE || batch->reason.length == 0);
}

/* ---- ahead, without locks -------------------------------------------------------------------- */

static inline inv_batch_hint *hints_of(inv_batch_view *view, uint32_t ahead) {
    return view->hints[(view->turn + ahead) % INV_BATCH_AHEAD];
}

/* Step 1: hash of the id; its shard, the stripe. */
static void look_at_ids(const inv_store *store, inv_batch_view *view, size_t from, uint32_t ahead) {
    const inv_batch *batch = view->batch;
    inv_batch_hint *hints = hints_of(view, ahead);
    uint32_t count = inv_batch_run_rows(batch, from);
    inv_text none = {NULL, 0};
    for (uint32_t i = 0; i < count; i++) {
        if (has_id(batch->kind)) {
            memcpy(hints[i].id, batch->ids + 16 * (from + i), 16);
            hints[i].hash =
                inv_hold_hash(store->key, view->seller_tweak, false, none, hints[i].id);
            INV_PREFETCH(inv_holds_shard(&store->holds, hints[i].hash));
        }
        if (!inv_batch_has_line(batch->kind)) continue;
        hints[i].sku = INV_BATCH_CELL(batch->skus, from + i);
        hints[i].stripe = inv_sku_stripe(store, hints[i].sku);
        const char *stripe = (const char *)&store->stripes[hints[i].stripe];
        INV_PREFETCH(stripe);
        INV_PREFETCH(stripe + INV_CACHE_LINE);
    }
}

/* Step 2: slot of the index; SKU, free slot, wheel. What is read here may be stale (arrays are
 * pinned by the lane, references by the pool): it only says what to fetch. */
static void look_at_places(const inv_store *store, inv_batch_view *view, size_t from,
                           uint32_t ahead) {
    const inv_batch *batch = view->batch;
    const inv_batch_hint *hints = hints_of(view, ahead);
    uint32_t count = inv_batch_run_rows(batch, from);
    for (uint32_t i = 0; i < count; i++) {
        if (has_id(batch->kind)) inv_holds_prefetch(&store->holds, hints[i].hash);
        if (!inv_batch_has_line(batch->kind)) continue;
        const inv_stripe *stripe = &store->stripes[hints[i].stripe];
        inv_table_prefetch_sku(&stripe->table, inv_sku_place(store, hints[i].sku));
        if (batch->kind != INV_CMD_RESERVE) continue;
        inv_hold_prefetch_room(&store->holds, &stripe->home);
        inv_wheel_prefetch(__atomic_load_n(&stripe->wheel, __ATOMIC_RELAXED));
    }
}

/* Step 3: the row; the hold. */
static void look_at_rows(inv_store *store, inv_batch_view *view, size_t from, uint32_t ahead) {
    const inv_batch *batch = view->batch;
    const inv_batch_hint *hints = hints_of(view, ahead);
    uint32_t count = inv_batch_run_rows(batch, from);
    for (uint32_t i = 0; i < count; i++)
        if (inv_batch_has_line(batch->kind))
            inv_table_prefetch_row(&store->stripes[hints[i].stripe].table,
                                   inv_sku_place(store, hints[i].sku),
                                   INV_BATCH_CELL(batch->locations, from + i));
        else
            inv_holds_prefetch_hold(&store->holds, hints[i].hash);
}

/* Before run `from` is judged all its steps are done, and the first ones of the runs behind it. */
static void look_ahead(inv_store *store, inv_batch_view *view, size_t from) {
    if (view->looked_from != from || from == 0) {
        look_at_ids(store, view, from, 0);
        look_at_ids(store, view, from + INV_RUN_COMMAND_MAX, 1);
        look_at_places(store, view, from, 0);
        look_at_rows(store, view, from, 0);
    }
    look_at_ids(store, view, from + 2 * INV_RUN_COMMAND_MAX, 2);
    look_at_places(store, view, from + INV_RUN_COMMAND_MAX, 1);
}

static void key_of(const inv_batch_view *view, const inv_batch_hint *hint, inv_hold_key *out) {
    *out = (inv_hold_key){.hash = hint->hash, .seller = view->seller};
    memcpy(out->uuid, hint->id, 16);
}

/* ---- locks ----------------------------------------------------------------------------------- */

/* The stripes of a run. An end is looked for by its fingerprint alone, without a lock: if that was
 * another hold, or it moves before the stripes are locked, its row goes the long way. */
static void want_stripes(inv_run *run, const inv_batch_view *view, uint32_t count,
                         const inv_batch_hint *hints) {
    inv_store *store = run->store;
    for (uint32_t i = 0; i < count; i++) {
        if (inv_batch_has_line(view->batch->kind)) {
            inv_run_want_stripe(run, hints[i].stripe);
            continue;
        }
        inv_ref ref = inv_holds_guess(&store->holds, hints[i].hash);
        uint32_t home = ref == 0 ? 0 : inv_hold_stripe(&store->holds, ref);
        if (ref != 0 && home < store->stripe_count) inv_run_want_stripe(run, home);
    }
}

/* All shards of a run, ascending: nobody who holds one waits for a second otherwise. Taken one by
 * one a row's cold stores would have to be finished before the next row's lock; so all rows of a
 * run wait together. */
static uint32_t lock_shards(inv_run *run, uint32_t count, const inv_batch_hint *hints) {
    inv_holds *holds = &run->store->holds;
    uint64_t bits[INV_SHARD_COUNT_MAX / 64] = {0};
    uint32_t shard_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t shard = inv_holds_shard_index(holds, hints[i].hash);
        bits[shard / 64] |= 1ull << (shard % 64);
    }
    for (uint32_t word = 0; word < INV_SHARD_COUNT_MAX / 64; word++)
        for (; bits[word] != 0; bits[word] &= bits[word] - 1) {
            uint32_t shard = word * 64 + (uint32_t)__builtin_ctzll(bits[word]);
            inv_lock_take(&holds->shards[shard].lock);
            run->shards[shard_count++] = (uint16_t)shard;
        }
    return shard_count;
}

static void unlock_shards(inv_run *run, uint32_t shard_count) {
    for (uint32_t i = 0; i < shard_count; i++)
        inv_lock_give(&run->store->holds.shards[run->shards[i]].lock);
}

/* ---- reserve --------------------------------------------------------------------------------- */

static void fetch_for_reserve(const inv_run *run, const inv_batch_view *view, size_t from,
                              uint32_t count, const inv_batch_hint *hints) {
    const inv_store *store = run->store;
    for (uint32_t i = 0; i < count; i++) {
        const inv_wheel *wheel = store->stripes[hints[i].stripe].wheel;
        if (wheel != NULL)
            inv_wheel_prefetch_slot(wheel, run->now_ms + inv_batch_ttl(view->batch, from + i));
    }
    for (uint32_t i = 0; i < count; i++) {
        const inv_wheel *wheel = store->stripes[hints[i].stripe].wheel;
        if (wheel != NULL)
            inv_wheel_prefetch_first(wheel, &store->pool,
                                     run->now_ms + inv_batch_ttl(view->batch, from + i));
    }
}

/* The row that can serve a line alone. ROW_LONG_WAY: it may take several. */
static int choose_row(const inv_table *table, uint32_t place, uint32_t location, int64_t qty,
                      inv_row **out_row) {
    uint32_t count = 1;
    bool given = location != INV_LOCATION_NONE;
    inv_row *rows = given ? inv_table_row(table, place, location)
                          : inv_table_rows_of(table, place, &count);
    for (uint32_t i = 0; rows != NULL && i < count; i++) {
        inv_row row = inv_row_load(&rows[i]);
        int64_t there = inv_stock_promisable(row, inv_table_safety_stock(table, place, row));
        *out_row = &rows[i];
        if (there >= qty) return INV_OK;
        if (there > 0 && !given) return ROW_LONG_WAY;
    }
    return INV_INSUFFICIENT;
}

/* A new hold for a new id, in the index, not yet filled. */
static int open_hold(inv_store *store, const inv_hold_key *key, uint32_t home, int code,
                     inv_ref *out_ref) {
    inv_hold_shard *shard = inv_holds_shard(&store->holds, key->hash);
    if (inv_holds_find_locked(&store->holds, shard, key) != 0 &&
        !INV_PLANTED(INV_PLANT_BATCH_ID_UNCHECKED))
        code = ROW_LONG_WAY;
    else if (inv_id_is_stale(store, key))
        code = INV_STALE_ID;
    if (code == INV_OK) code = inv_holds_reserve_locked(&store->holds, shard);
    if (code == INV_OK) code = inv_apply_reserve_wheel(store, home);
    if (code == INV_OK) {
        *out_ref = inv_apply_create_locked(store, key, home, shard);
        if (*out_ref == 0) code = INV_NO_MEMORY;
    }
    return code;
}

/* Logs and applies a change of a hold with one line; its row is done. */
static void change_hold(inv_run *run, inv_effect *effect, const inv_hold_key *key, inv_ref ref) {
    effect->reason = effect->reference = INV_NUMBER_NONE;
    inv_effect_id_of(&effect->id, key);
    inv_result result = inv_apply_hold(run->store, effect, ref, run->time_ms);
    INV_ASSERT(result == INV_OK);
    effect->state = inv_hold_at(&run->store->holds, ref)->state;
    run->patches[run->patch_count++] = (inv_patch){ref, (uint32_t)inv_run_encode(run, effect)};
}

static int reserve_row(inv_run *run, const inv_batch_view *view, size_t row,
                       const inv_batch_hint *hint) {
    inv_store *store = run->store;
    const inv_batch *batch = view->batch;
    uint32_t sku = hint->sku, location = INV_BATCH_CELL(batch->locations, row);
    int64_t qty = INV_BATCH_CELL(batch->qtys, row);
    uint64_t ttl_ms = inv_batch_ttl(batch, row);
    if (qty < 1 || qty > INV_QTY_MAX || ttl_ms < 1 || ttl_ms > INV_TTL_MS_MAX)
        return INV_BAD_REQUEST;
    inv_table *table = &store->stripes[hint->stripe].table;
    uint32_t place = inv_sku_place(store, sku);
    inv_row *found = NULL;
    int code = INV_INSUFFICIENT;
    if (place < table->sku_count && inv_table_sku(table, place)->seller == view->seller)
        code = choose_row(table, place, location, qty, &found);
    if (code == ROW_LONG_WAY) return code;
    uint64_t time = inv_stripe_time(store, hint->stripe, run->now_ms);
    if (inv_deadline_too_far(run, time, ttl_ms)) return ROW_LONG_WAY;
    inv_hold_key key;
    inv_ref ref = 0;
    key_of(view, hint, &key);
    code = open_hold(store, &key, hint->stripe, code, &ref);
    if (code != INV_OK) return code;

    if (!INV_PLANTED(INV_PLANT_BATCH_NO_TOUCH))
        inv_run_touch(run, hint->stripe); /* before the time is read: see touch_and_look */
    uint64_t now = atomic_load_explicit(&store->now_ms, memory_order_acquire);
    uint64_t deadline = inv_stripe_time(store, hint->stripe, now) + ttl_ms - run->time_ms;
    INV_ASSERT(deadline > 0 && deadline <= UINT32_MAX);
    inv_row after = inv_row_load(found);
    inv_change_line line = {.sku = sku,
                            .qty = (uint32_t)qty,
                            .location = after.location,
                            .op = INV_OP_HOLD,
                            .flags = location == INV_LOCATION_NONE ? INV_LINE_FREE : 0};
    bool applied = inv_stock_apply(&after, line.op, line.qty);
    INV_ASSERT(applied);
    inv_put_row(store, line.sku, found, after);
    inv_effect effect = {
        .kind = INV_ENTRY_RESERVE,
        .line_count = 1,
        .seller = (uint16_t)view->seller,
        .account = view->account,
        .body_hash = inv_body_hash(inv_line_sum(sku, location, line.qty), ttl_ms, view->account,
                                   INV_CMD_RESERVE, 0),
        .deadline_ms = (uint32_t)deadline,
        .lines = &line};
    change_hold(run, &effect, &key, ref);
    return INV_OK;
}

/* ---- ends ------------------------------------------------------------------------------------ */

/* The holds again, now that they can't go away, and what their ends will touch. */
static void fetch_for_end(inv_run *run, const inv_batch_view *view, uint32_t count,
                          inv_batch_hint *hints) {
    inv_store *store = run->store;
    for (uint32_t i = 0; i < count; i++) {
        inv_hold_key key;
        key_of(view, &hints[i], &key);
        hints[i].ref = inv_holds_find_locked(
            &store->holds, inv_holds_shard(&store->holds, key.hash), &key);
        uint32_t home = hints[i].ref == 0 ? INV_NUMBER_NONE
                                          : inv_hold_stripe(&store->holds, hints[i].ref);
        hints[i].stripe = home;
        if (hints[i].ref == 0 || !inv_run_has(run, home)) continue;
        const inv_hold *hold = inv_hold_at(&store->holds, hints[i].ref);
        if (hold->block) continue;
        inv_table_prefetch_sku(&store->stripes[home].table, inv_sku_place(store, hold->sku));
        if (hold->state == INV_STATE_HELD) {
            inv_wheel_prefetch(store->stripes[home].wheel);
            inv_wheel_prefetch_neighbours(&store->pool, hints[i].ref);
        }
        inv_hold_prefetch_ended(&store->holds, &store->stripes[home].home);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (hints[i].ref == 0 || !inv_run_has(run, hints[i].stripe)) continue;
        const inv_hold *hold = inv_hold_at(&store->holds, hints[i].ref);
        if (!hold->block)
            inv_table_prefetch_row(&store->stripes[hints[i].stripe].table,
                                   inv_sku_place(store, hold->sku), hold->location);
    }
}

static int end_row(inv_run *run, const inv_batch_view *view, const inv_batch_hint *hint) {
    inv_store *store = run->store;
    uint8_t kind = view->batch->kind;
    if (hint->ref == 0) return INV_UNKNOWN_RESERVATION;
    if (!inv_run_has(run, hint->stripe)) return ROW_LONG_WAY;
    inv_hold *hold = inv_hold_at(&store->holds, hint->ref);
    if (hold->block || hold->line_count != 1 || hold->kind != 0) return ROW_LONG_WAY;
    bool allocated = hold->state == INV_STATE_ALLOCATED;
    if (!(hold->state == INV_STATE_HELD ||
          (allocated && (kind == INV_CMD_SHIP || kind == INV_CMD_CANCEL))))
        return ROW_LONG_WAY;
    inv_change_line line = {.sku = hold->sku,
                            .qty = hold->qty,
                            .location = hold->location,
                            .op = inv_whole_op(kind, allocated),
                            .flags = hold->free_line ? INV_LINE_FREE : 0};
    inv_row *found = inv_table_row(&store->stripes[hint->stripe].table,
                                   inv_sku_place(store, hold->sku), hold->location);
    INV_ASSERT(found != NULL);
    inv_row after = inv_row_load(found);
    if (!inv_stock_apply(&after, line.op, line.qty)) return ROW_LONG_WAY;
    inv_run_touch(run, hint->stripe);
    inv_put_row(store, line.sku, found, after);
    inv_hold_key key;
    key_of(view, hint, &key);
    inv_effect effect = {.kind = inv_entry_kind_of(kind),
                         .whole = true,
                         .line_count = 1,
                         .seller = (uint16_t)view->seller,
                         .account = view->account,
                         .body_hash = inv_body_hash(key.hash, 0, view->account, kind, 0),
                         .lines = &line};
    change_hold(run, &effect, &key, hint->ref);
    return INV_OK;
}

/* ---- stock ----------------------------------------------------------------------------------- */

static int stock_row(inv_run *run, const inv_batch_view *view, size_t row,
                     const inv_batch_hint *hint) {
    inv_store *store = run->store;
    uint8_t kind = view->batch->kind;
    uint32_t sku = hint->sku, location = INV_BATCH_CELL(view->batch->locations, row);
    int64_t amount = INV_BATCH_CELL(view->batch->qtys, row);
    bool adjust = kind == INV_CMD_ADJUST, minus = kind == INV_CMD_ISSUE || (adjust && amount < 0);
    if (amount == 0 || amount > INV_QTY_MAX || amount < (adjust ? -(int64_t)INV_QTY_MAX : 1) ||
        location == INV_LOCATION_NONE)
        return INV_BAD_REQUEST;
    inv_table *table = &store->stripes[hint->stripe].table;
    uint32_t place = inv_sku_place(store, sku), qty = (uint32_t)(amount < 0 ? -amount : amount);
    if (place >= table->sku_count || inv_table_sku(table, place)->seller != view->seller)
        return INV_UNKNOWN_SKU;
    if (location >= inv_names_count(&store->locations)) return INV_UNKNOWN_LOCATION;
    inv_row *found = inv_table_row(table, place, location);
    inv_row after = found == NULL ? (inv_row){0} : inv_row_load(found);
    if (kind == INV_CMD_ISSUE && inv_stock_available(after) < amount) return INV_INSUFFICIENT;
    if (!inv_stock_in_range(after.on_hand + (minus ? -(int64_t)qty : qty)))
        return INV_QTY_OUT_OF_RANGE;
    inv_run_touch(run, hint->stripe);
    if (found == NULL) {
        inv_result result = inv_table_reserve_row(table, &store->lanes, place);
        if (result != INV_OK) return result;
        found = inv_table_add_row(table, place, (uint16_t)location);
        after = inv_row_load(found);
    }
    inv_change_line line = {.sku = sku,
                            .qty = qty,
                            .location = (uint16_t)location,
                            .op = minus ? INV_OP_SUB : INV_OP_ADD};
    bool applied = inv_stock_apply(&after, line.op, qty);
    INV_ASSERT(applied);
    inv_put_row(store, line.sku, found, after);
    uint64_t lines = inv_line_sum(sku, location, 1) ^ inv_mix64((uint64_t)amount);
    inv_effect effect = {.kind = inv_entry_kind_of(kind),
                         .line_count = 1,
                         .seller = (uint16_t)view->seller,
                         .account = view->account,
                         .body_hash = inv_body_hash(lines, 0, view->account, kind, 0),
                         .reason = view->reason,
                         .reference = INV_NUMBER_NONE,
                         .lines = &line};
    (void)inv_run_encode(run, &effect);
    return INV_OK;
}

/* ---- a run ----------------------------------------------------------------------------------- */

static void count_rows(inv_lane *lane, uint8_t kind, const uint8_t *codes, uint32_t done) {
    uint32_t ok = 0;
    for (uint32_t i = 0; i < done; i++) ok += codes[i] == INV_OK;
    inv_lane_count(lane, INV_COUNT_COMMANDS, done);
    inv_lane_count(lane, INV_COUNT_REFUSED, done - ok);
    if (kind == INV_CMD_RESERVE) inv_lane_count(lane, INV_COUNT_RESERVED, ok);
}

static int judge_row(inv_run *run, const inv_batch_view *view, size_t row,
                     const inv_batch_hint *hint) {
    switch (view->batch->kind) {
    case INV_CMD_RESERVE:
        return reserve_row(run, view, row, hint);
    case INV_CMD_RECEIVE:
    case INV_CMD_ISSUE:
    case INV_CMD_ADJUST:
        return stock_row(run, view, row, hint);
    default:
        return end_row(run, view, hint);
    }
}

inv_result inv_batch_run(inv_run *run, inv_batch_view *view, size_t from, uint8_t *codes,
                         uint32_t *out_done, uint64_t *observed_lsn) {
    inv_store *store = run->store;
    const inv_batch *batch = view->batch;
    uint32_t count = inv_batch_run_rows(batch, from), done = 0;
    *out_done = 0;
    look_ahead(store, view, from);
    inv_batch_hint *hints = hints_of(view, 0);
    inv_run_reset(run, store, run->lane);
    uint64_t credit = inv_wal_record_bytes(INV_WAL_CHANGES_PREFIX_BYTES + count * ENTRY_BYTES);
    if (credit > store->record_bytes_max) return INV_OK; /* tiny segments: the long way */
    inv_result result = inv_wal_credit_take(&store->wal, credit, inv_command_class(batch->kind));
    if (result != INV_OK) return result;
    want_stripes(run, view, count, hints);
    inv_run_lock(run);
    uint32_t shard_count = has_id(batch->kind) ? lock_shards(run, count, hints) : 0;
    if (batch->kind == INV_CMD_RESERVE) fetch_for_reserve(run, view, from, count, hints);
    if (!inv_batch_has_line(batch->kind)) fetch_for_end(run, view, count, hints);
    for (; done < count; done++) {
        int code = judge_row(run, view, from + done, &hints[done]);
        if (code == ROW_LONG_WAY) break;
        codes[from + done] = (uint8_t)code;
    }
    /* After ids were looked for: who finds one unknown has observed the tick that forgot it. */
    uint64_t observed = inv_run_observed_lsn(run);
    unlock_shards(run, shard_count);
    uint64_t end = inv_run_finish(run);
    inv_wal_credit_give(&store->wal, credit);
    *observed_lsn = inv_max_u64(*observed_lsn, inv_max_u64(observed, end));
    count_rows(run->lane, batch->kind, codes + from, done);
    *out_done = done;
    if (done < count) return INV_OK;
    look_at_rows(store, view, from + count, 1);
    view->turn = (view->turn + 1) % INV_BATCH_AHEAD;
    view->looked_from = from + count;
    return INV_OK;
}
