/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_snapshot_load.c: a snapshot back into an empty store.
 *
 * The footer's index tells where the blocks are; what belongs to no stripe is read first, since
 * holds need the names of their sellers. Then two threads (where there are two) take ranges of
 * whole stripes, each range from its beginning to its end, so that a stripe is built by one of
 * them. The id index is shared, under its shards' locks.
 *
 * Every block is checked before anything in it is looked at. What passes the checksums was written
 * by inv_snapshot_copy.c; the bounds are checked all the same, since a file may come from anywhere.
 */
#include "inv_snapshot.h"

#define RANGE_BLOCKS 8u /* a range has at least so many blocks, if there are more */
#define FETCH_HOLDS 32u /* whose index slots are fetched together */

typedef struct block_range {
    uint64_t first, end;
} block_range;

typedef struct loading {
    inv_store *store;
    inv_snap_file file;
    uint64_t *floors;
    inv_snap_clock clock;
    bool has_clock;
    block_range *ranges;
    uint64_t range_count;
    _Atomic uint64_t range_next;
    _Atomic uint64_t skus, rows, holds, ended;
    _Atomic uint32_t failed; /* one of the threads has filled `error` */
    inv_lock error_lock;
    inv_error error;
    inv_result result;
} loading;

typedef struct stripe_load { /* the stripe a thread is at */
    uint32_t stripe;         /* INV_SNAP_GLOBAL: none yet */
    uint32_t skus, rows, names, policies, holds, ended; /* that are to come */
    uint32_t named, name_bytes, row_count;              /* that have come */
    uint64_t lsn_last;                                  /* of the last ended hold */
    uint64_t digest;
} stripe_load;

static void fail_with(loading *load, inv_result result, const inv_error *error) {
    inv_lock_take(&load->error_lock);
    if (load->result == INV_OK) {
        load->error = *error;
        load->result = result;
    }
    inv_lock_give(&load->error_lock);
    atomic_store_explicit(&load->failed, 1, memory_order_release);
}

static inv_result corrupt(const loading *load, const inv_snap_block *block, const char *what,
                          inv_error *error) {
    error->offset = block->offset;
    return inv_fail(error, INV_LOG_CORRUPT, 0, "%s: block at offset %llu: %s", load->file.name,
                    (unsigned long long)block->offset, what);
}

/* ---- a stripe's sections --------------------------------------------------------------------- */

/* All of the stripe has come, and it is what was copied. */
static bool finish_stripe(inv_store *store, const stripe_load *at) {
    if (at->stripe == INV_SNAP_GLOBAL) return true;
    if (at->skus != 0 || at->rows != at->row_count || at->names != at->name_bytes ||
        at->policies != 0 || at->holds != 0 || at->ended != 0)
        return false;
    store->stripes[at->stripe].digest = inv_digest_stripe(store, at->stripe);
    return store->stripes[at->stripe].digest == at->digest;
}

static inv_result load_stripe(loading *load, stripe_load *at, const inv_snap_section *section) {
    inv_store *store = load->store;
    const uint8_t *in = section->payload;
    if (section->bytes != INV_SNAP_STRIPE_BYTES || section->count != 1 ||
        section->stripe >= store->stripe_count || !finish_stripe(store, at))
        return INV_LOG_CORRUPT;
    *at = (stripe_load){.stripe = section->stripe,
                        .skus = inv_load_u32(in + 8),
                        .rows = inv_load_u32(in + 12),
                        .names = inv_load_u32(in + 16),
                        .policies = inv_load_u32(in + 20),
                        .holds = inv_load_u32(in + 24),
                        .ended = inv_load_u32(in + 28),
                        .digest = inv_load_u64(in + 32)};
    inv_stripe *stripe = &store->stripes[at->stripe];
    if (load->floors[at->stripe] != 0 || at->ended > at->holds) return INV_LOG_CORRUPT;
    load->floors[at->stripe] = inv_load_u64(in);
    atomic_store_explicit(&stripe->lsn_touched, load->floors[at->stripe], memory_order_relaxed);
    atomic_fetch_add_explicit(&load->skus, at->skus, memory_order_relaxed);
    atomic_fetch_add_explicit(&load->rows, at->rows, memory_order_relaxed);
    atomic_fetch_add_explicit(&load->holds, at->holds, memory_order_relaxed);
    atomic_fetch_add_explicit(&load->ended, at->ended, memory_order_relaxed);
    return inv_table_make_room(&stripe->table, &store->lanes, at->skus, at->names, at->rows);
}

static inv_result load_skus(loading *load, stripe_load *at, const inv_snap_section *section) {
    inv_table *table = &load->store->stripes[at->stripe].table;
    if (section->count > at->skus || section->count > section->bytes / INV_SNAP_SKU_BYTES)
        return INV_LOG_CORRUPT;
    at->skus -= section->count;
    for (uint32_t i = 0; i < section->count; i++) {
        const uint8_t *in = section->payload + (size_t)i * INV_SNAP_SKU_BYTES;
        inv_sku sku = {.hash = inv_load_u32(in),
                       .seller = inv_load_u16(in + 4),
                       .name_length = in[6],
                       .flags = in[7]};
        if (sku.seller >= inv_names_count(&load->store->sellers) ||
            !inv_table_load_sku(table, &sku, inv_load_u16(in + 8)))
            return INV_LOG_CORRUPT;
    }
    return INV_OK;
}

/* As many names as the section has; what is left of its bytes is padding. */
static inv_result load_names(loading *load, stripe_load *at, const inv_snap_section *section) {
    inv_table *table = &load->store->stripes[at->stripe].table;
    uint32_t bytes = 0;
    if (at->skus != 0 || section->count > table->sku_count - at->named) return INV_LOG_CORRUPT;
    for (uint32_t i = 0; i < section->count; i++)
        bytes += inv_table_sku(table, at->named + i)->name_length;
    if (bytes > section->bytes || bytes > at->names - at->name_bytes) return INV_LOG_CORRUPT;
    if (bytes > 0) memcpy(table->names->at + at->name_bytes, section->payload, bytes);
    at->named += section->count;
    at->name_bytes += bytes;
    return INV_OK;
}

static inv_result load_rows(loading *load, stripe_load *at, const inv_snap_section *section) {
    inv_table *table = &load->store->stripes[at->stripe].table;
    if (section->count > at->rows - at->row_count || table->rows_live != at->rows ||
        section->count > section->bytes / INV_SNAP_ROW_BYTES)
        return INV_LOG_CORRUPT;
    if (section->count > 0)
        memcpy(table->rows->at + at->row_count, section->payload,
               (size_t)section->count * INV_SNAP_ROW_BYTES);
    at->row_count += section->count;
    return INV_OK;
}

static inv_result load_policies(loading *load, stripe_load *at, const inv_snap_section *section) {
    inv_store *store = load->store;
    if (section->count > at->policies || section->count > section->bytes / INV_SNAP_POLICY_BYTES)
        return INV_LOG_CORRUPT;
    at->policies -= section->count;
    for (uint32_t i = 0; i < section->count; i++) {
        const uint8_t *in = section->payload + (size_t)i * INV_SNAP_POLICY_BYTES;
        inv_result result =
            inv_table_load_policy(&store->stripes[at->stripe].table, &store->lanes,
                                  inv_load_u32(in), inv_load_u16(in + 4), inv_load_u32(in + 8));
        if (result != INV_OK) return result;
    }
    return INV_OK;
}

/* ---- holds ----------------------------------------------------------------------------------- */

typedef struct hold_item { /* one in a section */
    const uint8_t *in, *lines;
    inv_hold_key key;
    uint32_t line_count;
} hold_item;

/* The hold at *at of a section; false: malformed. */
static bool next_hold(const loading *load, const inv_snap_section *section, uint32_t *at,
                      hold_item *out) {
    inv_store *store = load->store;
    if (section->bytes - *at < INV_SNAP_HOLD_BYTES) return false;
    const uint8_t *in = section->payload + *at;
    uint32_t text_bytes = inv_load_u16(in + 6), seller = inv_load_u16(in + 42);
    uint32_t text_room = (uint32_t)inv_align_u64(text_bytes, 8);
    out->in = in;
    out->line_count = (in[3] & 8) != 0 ? inv_load_u16(in + 4) : 0;
    uint32_t bytes =
        INV_SNAP_HOLD_BYTES + text_room + out->line_count * (uint32_t)INV_SNAP_LINE_BYTES;
    if (bytes > section->bytes - *at || text_bytes > INV_ID_BYTES_MAX ||
        out->line_count > INV_LINE_COUNT_MAX || seller >= inv_names_count(&store->sellers) ||
        ((in[0] & INV_HOLD_TEXT) != 0) != (text_bytes != 0))
        return false;
    out->lines = in + INV_SNAP_HOLD_BYTES + text_room;
    out->key = (inv_hold_key){.seller = seller,
                              .op = (in[0] & INV_HOLD_OP) != 0,
                              .no_body = (in[0] & INV_HOLD_NO_BODY) != 0};
    if (text_bytes > 0)
        out->key.text = (inv_text){(const char *)in + INV_SNAP_HOLD_BYTES, text_bytes};
    else
        memcpy(out->key.uuid, in + 48, 16);
    out->key.hash = inv_hold_hash(store->key, inv_seller_tweak_of(store, seller), out->key.op,
                                  out->key.text, out->key.uuid);
    *at += bytes;
    return true;
}

static inv_result fill_lines(inv_store *store, inv_hold *hold, const hold_item *item) {
    hold->line_count = 0; /* nothing to be unfolded into the block */
    inv_result result = inv_hold_make_block(&store->holds, hold, item->line_count);
    if (result != INV_OK) return result;
    inv_hold_line *lines = inv_hold_lines(&store->holds, hold, NULL);
    for (uint32_t i = 0; i < item->line_count; i++) {
        const uint8_t *in = item->lines + (size_t)i * INV_SNAP_LINE_BYTES;
        lines[i] = (inv_hold_line){.sku = inv_load_u32(in),
                                   .qty = inv_load_u32(in + 4),
                                   .held = inv_load_u32(in + 8),
                                   .allocated = inv_load_u32(in + 12),
                                   .shipped = inv_load_u32(in + 16),
                                   .location = inv_load_u16(in + 20),
                                   .flags = in[22]};
    }
    return INV_OK;
}

/* A hold as it was; in the index unless it was out of it. */
static inv_result load_hold(loading *load, stripe_load *at, const hold_item *item) {
    inv_store *store = load->store;
    inv_hold_home *home = &store->stripes[at->stripe].home;
    const uint8_t *in = item->in;
    inv_ref ref = inv_hold_create(&store->holds, home, at->stripe, &item->key);
    if (ref == 0) return INV_NO_MEMORY;
    inv_hold *hold = inv_hold_at(&store->holds, ref);
    if (item->line_count > 0) {
        inv_result result = fill_lines(store, hold, item);
        if (result != INV_OK) return result;
    } else {
        hold->sku = inv_load_u32(in + 24);
        hold->line_count = inv_load_u16(in + 4) & 0x1FFFu;
    }
    hold->state = in[1] & 15u;
    hold->ended_by = in[2] & 7u;
    hold->free_line = in[3] & 1u;
    hold->units = (in[3] >> 1) & 1u;
    hold->gone = (in[3] >> 2) & 1u;
    hold->lsn = inv_load_u64(in + 8);
    hold->deadline_ms = inv_load_u64(in + 16);
    hold->qty = inv_load_u32(in + 28);
    hold->account = inv_load_u32(in + 32);
    hold->body_hash = inv_load_u32(in + 36);
    hold->location = inv_load_u16(in + 40);
    bool lives = !item->key.op &&
                 (hold->state == INV_STATE_HELD || hold->state == INV_STATE_ALLOCATED);
    if (lives != (at->ended == 0)) return INV_LOG_CORRUPT;
    if (lives) {
        home->live_count++;
        if (hold->state == INV_STATE_HELD) home->held_count++;
    } else {
        if (hold->lsn < at->lsn_last) return INV_LOG_CORRUPT;
        at->lsn_last = hold->lsn;
        at->ended--;
        inv_hold_enqueue_ended(&store->holds, home, ref);
    }
    if (hold->gone) return lives ? INV_LOG_CORRUPT : INV_OK;
    inv_hold_shard *shard = inv_holds_shard(&store->holds, item->key.hash);
    inv_lock_take(&shard->lock);
    inv_result result = inv_holds_reserve_locked(&store->holds, shard);
    if (result == INV_OK) inv_holds_insert_locked(&store->holds, shard, item->key.hash, ref);
    inv_lock_give(&shard->lock);
    return result;
}

static inv_result load_holds(loading *load, stripe_load *at, const inv_snap_section *section) {
    hold_item items[FETCH_HOLDS];
    uint32_t offset = 0;
    if (section->count > at->holds) return INV_LOG_CORRUPT;
    at->holds -= section->count;
    for (uint32_t left = section->count, count; left > 0; left -= count) {
        count = left < FETCH_HOLDS ? left : FETCH_HOLDS;
        inv_lane *lane = inv_lane_claim(&load->store->lanes); /* pins the slots looked at */
        bool well_formed = true;
        for (uint32_t i = 0; i < count && well_formed; i++) {
            well_formed = next_hold(load, section, &offset, &items[i]);
            if (well_formed) inv_holds_prefetch(&load->store->holds, items[i].key.hash);
        }
        inv_lane_give(lane);
        if (!well_formed) return INV_LOG_CORRUPT;
        for (uint32_t i = 0; i < count; i++) {
            inv_result result = load_hold(load, at, &items[i]);
            if (result != INV_OK) return result;
        }
    }
    return INV_OK;
}

/* ---- what belongs to no stripe --------------------------------------------------------------- */

static inv_result load_name_list(loading *load, const inv_snap_section *section) {
    inv_names *names = inv_store_names(load->store, section->stripe);
    uint32_t at = 0;
    if (names == NULL) return INV_LOG_CORRUPT;
    for (uint32_t i = 0; i < section->count; i++) {
        if (section->bytes - at < 6) return INV_LOG_CORRUPT;
        const uint8_t *in = section->payload + at;
        inv_text text = {(const char *)in + 6, inv_load_u16(in + 4)};
        uint32_t number = inv_load_u32(in);
        if (text.length > section->bytes - at - 6) return INV_LOG_CORRUPT;
        at += 6 + text.length;
        if (number < inv_names_count(names)) continue; /* every store has it from the beginning */
        inv_result result = inv_names_restore(names, number, text);
        if (result != INV_OK) return result;
    }
    return INV_OK;
}

static inv_result load_clock(loading *load, const inv_snap_section *section) {
    if (section->bytes != INV_SNAP_CLOCK_BYTES || load->has_clock) return INV_LOG_CORRUPT;
    inv_snap_decode_clock(section->payload, &load->clock);
    load->has_clock = true;
    return INV_OK;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static inv_result load_section(loading *load, stripe_load *at, const inv_snap_section *section) {
    if (section->kind < INV_SNAP_STRIPE || section->kind > INV_SNAP_CLOCK)
        return INV_FORMAT_UNKNOWN;
    if (section->kind == INV_SNAP_NAME_LIST) return load_name_list(load, section);
    if (section->kind == INV_SNAP_CLOCK) return load_clock(load, section);
    if (section->kind == INV_SNAP_STRIPE) return load_stripe(load, at, section);
    if (at->stripe == INV_SNAP_GLOBAL || section->stripe != at->stripe) return INV_LOG_CORRUPT;
    switch (section->kind) {
    case INV_SNAP_SKUS:
        return load_skus(load, at, section);
    case INV_SNAP_NAMES:
        return load_names(load, at, section);
    case INV_SNAP_ROWS:
        return load_rows(load, at, section);
    case INV_SNAP_POLICIES:
        return load_policies(load, at, section);
    case INV_SNAP_HOLDS:
        return load_holds(load, at, section);
    default:
        return INV_LOG_CORRUPT;
    }
}

static inv_result load_block(loading *load, stripe_load *at, const inv_snap_block *block,
                             uint8_t *buffer, inv_error *error) {
    inv_result result = inv_snap_read_block(&load->file, block, buffer, error);
    if (result != INV_OK) return result;
    const uint8_t *payload = buffer + INV_SNAP_BLOCK_HEADER_BYTES;
    for (uint32_t offset = 0; offset < block->payload_bytes;) {
        inv_snap_section section;
        if (!inv_snap_next_section(payload, block->payload_bytes, &offset, &section))
            return corrupt(load, block, "a section is malformed", error);
        result = load_section(load, at, &section);
        if (result == INV_LOG_CORRUPT)
            return corrupt(load, block, "a section contradicts what came before", error);
        if (result == INV_FORMAT_UNKNOWN)
            return inv_fail(error, result, 0,
                            "%s: a section of kind %u, which this release (format %u.%u) does not "
                            "know",
                            load->file.name, section.kind, INV_FORMAT_MAJOR, INV_FORMAT_MINOR);
        if (result != INV_OK) return inv_fail(error, result, 0, "%s: no memory", load->file.name);
    }
    return INV_OK;
}

static inv_result load_blocks(loading *load, block_range range, uint8_t *buffer,
                              inv_error *error) {
    stripe_load at = {.stripe = INV_SNAP_GLOBAL};
    inv_snap_block block;
    for (uint64_t i = range.first; i < range.end; i++) {
        inv_snap_decode_index(load->file.footer_bytes, i, &block);
        if (atomic_load_explicit(&load->failed, memory_order_acquire) != 0) return INV_OK;
        inv_result result = load_block(load, &at, &block, buffer, error);
        if (result != INV_OK) return result;
    }
    if (!finish_stripe(load->store, &at))
        return corrupt(load, &block, "a stripe is incomplete, or not what was copied", error);
    return INV_OK;
}

/* Takes ranges until there are none left: either thread. */
static void load_ranges(void *argument) {
    loading *load = argument;
    const inv_env *env = load->store->env;
    inv_error error = {0};
    void *memory = inv_env_alloc(env, INV_SNAP_BUFFER_BYTES);
    inv_result result = INV_OK;
    if (memory == NULL) result = inv_fail(&error, INV_NO_MEMORY, 0, "no memory for a block");
    while (result == INV_OK) {
        uint64_t next = atomic_fetch_add_explicit(&load->range_next, 1, memory_order_relaxed);
        if (next >= load->range_count) break;
        result = load_blocks(load, load->ranges[next], inv_snap_buffer(memory), &error);
    }
    if (result != INV_OK) fail_with(load, result, &error);
    inv_env_free(env, memory, INV_SNAP_BUFFER_BYTES);
}

/* Ranges of whole stripes; the global blocks are loaded here. */
static inv_result plan(loading *load, uint8_t *buffer, inv_error *error) {
    inv_snap_block block;
    for (uint64_t i = 0; i < load->file.footer.block_count; i++) {
        inv_snap_decode_index(load->file.footer_bytes, i, &block);
        if (block.stripe == INV_SNAP_GLOBAL) {
            inv_result result = load_blocks(load, (block_range){i, i + 1}, buffer, error);
            if (result != INV_OK) return result;
            continue;
        }
        block_range *last = load->range_count == 0 ? NULL : &load->ranges[load->range_count - 1];
        bool begins = (block.flags & INV_SNAP_BLOCK_BEGINS) != 0;
        if (last == NULL || (begins && last->end - last->first >= RANGE_BLOCKS)) {
            load->ranges[load->range_count++] = (block_range){i, i + 1};
        } else if (last->end == i) {
            last->end++;
        } else {
            return corrupt(load, &block, "stands behind what belongs to no stripe", error);
        }
    }
    if (!load->has_clock)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "%s: has no clock", load->file.name);
    return INV_OK;
}

static inv_result load_all(loading *load, inv_error *error) {
    const inv_snap_footer *footer = &load->file.footer;
    const inv_threads *threads = &load->store->env->threads;
    const inv_env *env = load->store->env;
    size_t range_bytes = (size_t)(footer->block_count + 1) * sizeof(block_range);
    void *memory = inv_env_alloc(env, INV_SNAP_BUFFER_BYTES);
    load->ranges = inv_env_alloc(env, range_bytes);
    inv_result result = INV_OK;
    if (memory == NULL || load->ranges == NULL)
        result = inv_fail(error, INV_NO_MEMORY, 0, "%s: no memory", load->file.name);
    if (result == INV_OK) result = plan(load, inv_snap_buffer(memory), error);
    inv_env_free(env, memory, INV_SNAP_BUFFER_BYTES);
    if (result == INV_OK) {
        void *thread = NULL;
        if (threads->start != NULL && load->range_count > 1)
            thread = threads->start(threads->context, load_ranges, load);
        load_ranges(load);
        if (thread != NULL) threads->join(threads->context, thread);
        result = load->result;
        if (result != INV_OK) *error = load->error;
    }
    inv_env_free(env, load->ranges, range_bytes);
    if (result == INV_OK &&
        (atomic_load(&load->skus) != footer->skus || atomic_load(&load->rows) != footer->rows ||
         atomic_load(&load->holds) != footer->holds || atomic_load(&load->ended) != footer->ended))
        result = inv_fail(error, INV_LOG_CORRUPT, 0, "%s: the footer counts otherwise",
                          load->file.name);
    return result;
}

inv_result inv_snapshot_load(inv_store *store, uint64_t start_lsn, uint64_t bytes,
                             inv_snapshot_found *out, inv_error *error) {
    loading load = {.store = store};
    size_t floor_bytes = store->stripe_count * sizeof(uint64_t);
    inv_result result =
        inv_snap_open(&load.file, store->env, &store->identity, start_lsn, bytes, error);
    if (result == INV_OK) {
        load.floors = inv_env_alloc(store->env, floor_bytes);
        if (load.floors == NULL)
            result = inv_fail(error, INV_NO_MEMORY, 0, "%s: no memory", load.file.name);
    }
    if (result == INV_OK) result = load_all(&load, error);
    uint64_t end_lsn = load.file.footer.end_lsn;
    inv_format format = load.file.format;
    inv_snap_close(&load.file);
    if (result != INV_OK) {
        inv_env_free(store->env, load.floors, floor_bytes);
        return result;
    }
    store->reference_next = load.clock.reference_next;
    *out = (inv_snapshot_found){start_lsn, end_lsn, bytes, format, load.clock, load.floors};
    return INV_OK;
}
