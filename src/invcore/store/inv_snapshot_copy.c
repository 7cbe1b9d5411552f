/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_snapshot_copy.c: one stripe under its lock into a buffer, and from there into blocks.
 *
 * Under the lock is nothing but memcpy: the arrays of the table, and the chunks of holds as they
 * are. 24,000 rows and 2,400 holds are 600 KB, a tenth of a millisecond. Texts of ids are read
 * afterwards: they do not change while the hold is there, and none is destroyed while a snapshot
 * copies (inv_time.c forgets nothing meanwhile).
 */
#include <stdlib.h>

#include "inv_snapshot.h"

#define CHUNK_BYTES (64u * INV_GRANULE_BYTES)
#define SYNC_EVERY_BYTES (64u << 20)
/* While others wait for the disk: what the disk does in about 0.2 ms, as much as a sync of theirs.
 * */
#define BLOCK_BYTES_SERVING (128u << 10)
_Static_assert(BLOCK_BYTES_SERVING >= INV_SNAP_ITEM_BYTES_MAX + 64, "one item at least");

/* ---- buffers --------------------------------------------------------------------------------- */

/* At least `bytes`; what was in it may be lost. */
static bool have_room(const inv_env *env, inv_snapshot_buffer *buffer, size_t bytes) {
    if (buffer->room >= bytes) return true;
    inv_env_free(env, buffer->bytes, buffer->room);
    buffer->room = 0;
    size_t wanted = bytes + bytes / 4 + 4096;
    buffer->bytes = inv_env_alloc(env, wanted);
    if (buffer->bytes != NULL) buffer->room = wanted;
    return buffer->bytes != NULL;
}

static bool append_index(const inv_env *env, inv_snapshot *snapshot) {
    size_t used = (size_t)snapshot->totals.block_count * sizeof(inv_snap_block);
    if (snapshot->index.room < used + sizeof(inv_snap_block)) {
        inv_snapshot_buffer larger = {0};
        if (!have_room(env, &larger, 2 * used + sizeof(inv_snap_block))) return false;
        if (used > 0) memcpy(larger.bytes, snapshot->index.bytes, used);
        inv_env_free(env, snapshot->index.bytes, snapshot->index.room);
        snapshot->index = larger;
    }
    memcpy(snapshot->index.bytes + used, &snapshot->head, sizeof(inv_snap_block));
    snapshot->totals.block_count++;
    return true;
}

/* ---- blocks and sections --------------------------------------------------------------------- */

static inline uint8_t *payload_of(inv_snapshot *snapshot) {
    return snapshot->block + INV_SNAP_BLOCK_HEADER_BYTES;
}

static void close_section(inv_snapshot *snapshot) {
    if (snapshot->section_at == UINT32_MAX) return;
    uint8_t *header = payload_of(snapshot) + snapshot->section_at;
    uint32_t padded = (uint32_t)inv_align_u64(snapshot->head.payload_bytes, 8);
    memset(payload_of(snapshot) + snapshot->head.payload_bytes, 0,
           padded - snapshot->head.payload_bytes);
    snapshot->head.payload_bytes = padded;
    inv_put_u32(header + 12, padded - snapshot->section_at - INV_SNAP_SECTION_BYTES);
    snapshot->section_at = UINT32_MAX;
}

inv_result inv_snapshot_write_block(inv_store *store, inv_snapshot *snapshot, inv_error *error) {
    const inv_storage *storage = &store->env->storage;
    inv_snap_block *head = &snapshot->head;
    close_section(snapshot);
    if (head->payload_bytes == 0) return INV_OK;
    head->offset = snapshot->file_bytes;
    head->sequence = (uint32_t)snapshot->totals.block_count;
    inv_snap_encode_block(snapshot->block, store->wal.seed, head);
    uint64_t bytes = inv_snap_block_room(head), used = inv_snap_block_bytes(head);
    memset(snapshot->block + used, 0, bytes - used);
    /* Others who sync wait for what is unsynced, and for a sync of this: neither much nor often. */
    snapshot->unsynced_bytes += bytes;
    bool synced = snapshot->unsynced_bytes >= SYNC_EVERY_BYTES;
    if (synced) snapshot->unsynced_bytes = 0;
    inv_result result = storage->write(storage->context, INV_SNAP_UNFINISHED, snapshot->file_bytes,
                                       snapshot->block, bytes, synced, error);
    if (result != INV_OK) return result;
    if (!append_index(store->env, snapshot))
        return inv_fail(error, INV_NO_MEMORY, 0, "no memory for the index of a snapshot");
    snapshot->file_bytes += bytes;
    *head = (inv_snap_block){0};
    snapshot->block_bytes = snapshot->serving ? BLOCK_BYTES_SERVING : INV_SNAP_BLOCK_BYTES_MAX;
    return INV_OK;
}

static bool is_open(inv_snapshot *snapshot, uint32_t kind, uint32_t stripe) {
    if (snapshot->section_at == UINT32_MAX) return false;
    const uint8_t *header = payload_of(snapshot) + snapshot->section_at;
    return inv_load_u32(header) == kind && inv_load_u32(header + 4) == stripe;
}

/* Place for 1 to `count` items of `bytes` each in a section of this kind, in this block or the
 * next; *out_count: for how many. */
static inv_result put_items(inv_store *store, inv_snapshot *snapshot, uint32_t kind,
                            uint32_t stripe, uint32_t bytes, uint32_t count, uint32_t *out_count,
                            uint8_t **out, inv_error *error) {
    inv_snap_block *head = &snapshot->head;
    uint32_t room = snapshot->block_bytes - INV_SNAP_BLOCK_HEADER_BYTES - 8; /* for padding */
    bool open = is_open(snapshot, kind, stripe);
    uint8_t *header;
    if (!open) close_section(snapshot); /* its padding counts, too */
    if (head->payload_bytes + bytes + (open ? 0 : INV_SNAP_SECTION_BYTES) > room) {
        inv_result result = inv_snapshot_write_block(store, snapshot, error);
        if (result != INV_OK) return result;
        open = false;
    }
    if (!open) {
        if (head->payload_bytes == 0) {
            bool global = kind == INV_SNAP_NAME_LIST || kind == INV_SNAP_CLOCK;
            head->stripe = global ? INV_SNAP_GLOBAL : stripe;
            head->flags = global || kind == INV_SNAP_STRIPE ? INV_SNAP_BLOCK_BEGINS : 0;
        }
        snapshot->section_at = head->payload_bytes;
        header = payload_of(snapshot) + snapshot->section_at;
        inv_put_u32(header, kind);
        inv_put_u32(header + 4, stripe);
        inv_put_u32(header + 8, 0);
        inv_put_u32(header + 12, 0);
        head->payload_bytes += INV_SNAP_SECTION_BYTES;
    }
    header = payload_of(snapshot) + snapshot->section_at;
    uint32_t fit = (room - head->payload_bytes) / bytes;
    *out_count = fit < count ? fit : count;
    INV_ASSERT(*out_count > 0);
    inv_put_u32(header + 8, inv_load_u32(header + 8) + *out_count);
    *out = payload_of(snapshot) + head->payload_bytes;
    head->payload_bytes += *out_count * bytes;
    return INV_OK;
}

static inv_result put_item(inv_store *store, inv_snapshot *snapshot, uint32_t kind, uint32_t stripe,
                           uint32_t bytes, uint8_t **out, inv_error *error) {
    uint32_t count;
    return put_items(store, snapshot, kind, stripe, bytes, 1, &count, out, error);
}

/* ---- under the lock -------------------------------------------------------------------------- */

static void copy_table(const inv_table *table, inv_stripe_copy *copy) {
    uint8_t *out = copy->bytes.bytes;
    if (copy->sku_count > 0) memcpy(out, table->skus->at, copy->sku_count * sizeof(inv_sku));
    if (copy->rows_used > 0)
        memcpy(out + copy->rows_at, table->rows->at, copy->rows_used * sizeof(inv_row));
    if (copy->name_bytes > 0) memcpy(out + copy->names_at, table->names->at, copy->name_bytes);
    if (copy->policy_room > 0)
        memcpy(out + copy->policies_at, table->policies->at,
               copy->policy_room * sizeof(inv_policy));
}

/* Chunks as they are; lines of blocks beside them. A copied hold with a block says in `next` which
 * line of `lines` is its first. False: a buffer is too small; the counts say what is needed. */
static bool copy_holds(inv_store *store, const inv_hold_home *home, inv_stripe_copy *copy) {
    uint32_t chunk_room = (uint32_t)((copy->bytes.room - copy->chunks_at) / CHUNK_BYTES);
    uint32_t line_room = (uint32_t)(copy->lines.room / sizeof(inv_hold_line));
    copy->chunk_count = copy->line_count = 0;
    for (inv_ref ref = home->all_chunks; ref != 0;) {
        const inv_hold_chunk *chunk = inv_pool_at(&store->pool, ref);
        uint32_t number = copy->chunk_count++;
        uint8_t *out = copy->bytes.bytes + copy->chunks_at + (size_t)number * CHUNK_BYTES;
        ref = chunk->all_next;
        if (ref != 0) INV_PREFETCH(inv_pool_at(&store->pool, ref));
        if (number >= chunk_room) continue;
        memcpy(out, chunk, CHUNK_BYTES);
        for (uint64_t used = ~chunk->free_slots & ~1ull; used != 0; used &= used - 1) {
            inv_hold *hold = (inv_hold *)(void *)(out + 64 * (size_t)__builtin_ctzll(used));
            if (!hold->block) continue;
            uint32_t first = copy->line_count;
            copy->line_count += hold->line_count;
            if (copy->line_count > line_room) continue;
            memcpy(copy->lines.bytes + first * sizeof(inv_hold_line),
                   inv_pool_at(&store->pool, hold->sku), hold->line_count * sizeof(inv_hold_line));
            hold->next = first;
        }
    }
    return copy->chunk_count <= chunk_room && copy->line_count <= line_room;
}

/* Everything of a stripe at one moment. False: no memory. */
static bool copy_stripe(inv_store *store, uint32_t index, inv_stripe_copy *copy) {
    inv_stripe *stripe = &store->stripes[index];
    const inv_table *table = &stripe->table;
    size_t wanted = 0, lines_wanted = 0;
    for (;;) {
        if (!have_room(store->env, &copy->bytes, wanted) ||
            !have_room(store->env, &copy->lines, lines_wanted))
            return false;
        inv_lock_take(&stripe->lock);
        copy->lsn = atomic_load_explicit(&stripe->lsn_touched, memory_order_relaxed);
        copy->sku_count = table->sku_count;
        copy->rows_used = table->rows_used;
        copy->rows_live = table->rows_live;
        copy->name_bytes = table->names_used;
        copy->policy_room = table->policies == NULL ? 0 : table->policies->room;
        copy->policy_count = table->policies == NULL ? 0 : table->policies->count;
        copy->digest = stripe->digest;
        copy->rows_at = copy->sku_count * sizeof(inv_sku);
        copy->rows_at = (size_t)inv_align_u64(copy->rows_at, 16);
        copy->names_at = copy->rows_at + copy->rows_used * sizeof(inv_row);
        copy->policies_at = (size_t)inv_align_u64(copy->names_at + copy->name_bytes, 16);
        copy->chunks_at = (size_t)inv_align_u64(
            copy->policies_at + copy->policy_room * sizeof(inv_policy), INV_CACHE_LINE);
        bool fits = copy->bytes.room >= copy->chunks_at;
        if (fits) fits = copy_holds(store, &stripe->home, copy);
        if (fits) copy_table(table, copy);
        inv_lock_give(&stripe->lock);
        if (fits) return true;
        wanted = copy->chunks_at + ((size_t)copy->chunk_count + 1) * CHUNK_BYTES;
        lines_wanted = ((size_t)copy->line_count + 1) * sizeof(inv_hold_line);
    }
}

/* ---- encoding -------------------------------------------------------------------------------- */

static bool is_ended(const inv_hold *hold) {
    return (hold->kind & INV_HOLD_OP) != 0 ||
           (hold->state != INV_STATE_HELD && hold->state != INV_STATE_ALLOCATED);
}

static int by_lsn(const void *a, const void *b) {
    const inv_hold *x = *(inv_hold *const *)a, *y = *(inv_hold *const *)b;
    return x->lsn < y->lsn ? -1 : x->lsn > y->lsn;
}

/* The holds of the copy in the order they are written: ended ones as they stand in the queue. */
static inv_hold **ordered_holds(const inv_env *env, inv_stripe_copy *copy) {
    size_t most = (size_t)copy->chunk_count * 63;
    if (!have_room(env, &copy->order, (2 * most + 1) * sizeof(inv_hold *))) return NULL;
    inv_hold **order = (inv_hold **)(void *)copy->order.bytes, **live = order + most;
    uint32_t ended_count = 0, live_count = 0;
    for (uint32_t i = 0; i < copy->chunk_count; i++) {
        uint8_t *chunk = copy->bytes.bytes + copy->chunks_at + (size_t)i * CHUNK_BYTES;
        const inv_hold_chunk *header = (const inv_hold_chunk *)(void *)chunk;
        for (uint64_t used = ~header->free_slots & ~1ull; used != 0; used &= used - 1) {
            inv_hold *hold = (inv_hold *)(void *)(chunk + 64 * (size_t)__builtin_ctzll(used));
            if (is_ended(hold))
                order[ended_count++] = hold;
            else
                live[live_count++] = hold;
        }
    }
    qsort(order, ended_count, sizeof order[0], by_lsn);
    memmove(order + ended_count, live, live_count * sizeof order[0]);
    copy->ended_count = ended_count;
    copy->hold_count = ended_count + live_count;
    return order;
}

static inv_result put_stripe_section(inv_store *store, inv_snapshot *snapshot, uint32_t stripe,
                                     inv_error *error) {
    const inv_stripe_copy *copy = &snapshot->copy;
    uint8_t *out;
    inv_result result = put_item(store, snapshot, INV_SNAP_STRIPE, stripe, INV_SNAP_STRIPE_BYTES,
                                 &out, error);
    if (result != INV_OK) return result;
    memset(out, 0, INV_SNAP_STRIPE_BYTES);
    inv_put_u64(out, copy->lsn);
    inv_put_u32(out + 8, copy->sku_count);
    inv_put_u32(out + 12, copy->rows_live);
    inv_put_u32(out + 16, copy->name_bytes);
    inv_put_u32(out + 20, copy->policy_count);
    inv_put_u32(out + 24, copy->hold_count);
    inv_put_u32(out + 28, copy->ended_count);
    inv_put_u64(out + 32, copy->digest);
    return INV_OK;
}

static inline uint32_t rows_of(const inv_sku *sku) { return (uint32_t)sku->run & 0xFFFFu; }

static inv_result put_table(inv_store *store, inv_snapshot *snapshot, uint32_t stripe,
                            inv_error *error) {
    const inv_stripe_copy *copy = &snapshot->copy;
    const inv_sku *skus = (const inv_sku *)(const void *)copy->bytes.bytes;
    const uint8_t *names = copy->bytes.bytes + copy->names_at;
    const uint8_t *rows = copy->bytes.bytes + copy->rows_at;
    const inv_policy *policies =
        (const inv_policy *)(const void *)(copy->bytes.bytes + copy->policies_at);
    inv_result result = INV_OK;
    uint8_t *out;
    for (uint32_t i = 0; i < copy->sku_count && result == INV_OK; i++) {
        result = put_item(store, snapshot, INV_SNAP_SKUS, stripe, INV_SNAP_SKU_BYTES, &out, error);
        if (result != INV_OK) break;
        inv_put_u32(out, skus[i].hash);
        inv_put_u16(out + 4, skus[i].seller);
        out[6] = skus[i].name_length;
        out[7] = skus[i].flags;
        inv_put_u16(out + 8, (uint16_t)rows_of(&skus[i]));
        inv_put_u16(out + 10, 0);
    }
    for (uint32_t i = 0; i < copy->sku_count && result == INV_OK; i++) {
        result = put_item(store, snapshot, INV_SNAP_NAMES, stripe, skus[i].name_length, &out,
                          error);
        if (result == INV_OK) memcpy(out, names + skus[i].name_offset, skus[i].name_length);
    }
    for (uint32_t i = 0; i < copy->sku_count && result == INV_OK; i++) {
        const uint8_t *run = rows + (skus[i].run >> 32) * INV_SNAP_ROW_BYTES;
        for (uint32_t left = rows_of(&skus[i]), count; left > 0; left -= count) {
            result = put_items(store, snapshot, INV_SNAP_ROWS, stripe, INV_SNAP_ROW_BYTES, left,
                               &count, &out, error);
            if (result != INV_OK) break;
            memcpy(out, run, (size_t)count * INV_SNAP_ROW_BYTES);
            run += (size_t)count * INV_SNAP_ROW_BYTES;
        }
    }
    for (uint32_t i = 0; i < copy->policy_room && result == INV_OK; i++) {
        if (policies[i].sku == 0) continue;
        result = put_item(store, snapshot, INV_SNAP_POLICIES, stripe, INV_SNAP_POLICY_BYTES, &out,
                          error);
        if (result != INV_OK) break;
        inv_put_u32(out, policies[i].sku - 1);
        inv_put_u16(out + 4, policies[i].location);
        inv_put_u16(out + 6, 0);
        inv_put_u32(out + 8, policies[i].safety_stock);
    }
    return result;
}

static void encode_lines(uint8_t *out, const inv_hold_line *lines, uint32_t count) {
    for (uint32_t i = 0; i < count; i++, out += INV_SNAP_LINE_BYTES) {
        inv_put_u32(out, lines[i].sku);
        inv_put_u32(out + 4, lines[i].qty);
        inv_put_u32(out + 8, lines[i].held);
        inv_put_u32(out + 12, lines[i].allocated);
        inv_put_u32(out + 16, lines[i].shipped);
        inv_put_u16(out + 20, lines[i].location);
        out[22] = lines[i].flags;
        out[23] = 0;
    }
}

static inv_result put_hold(inv_store *store, inv_snapshot *snapshot, uint32_t stripe,
                           const inv_hold *hold, inv_error *error) {
    const inv_hold_line *lines = (const inv_hold_line *)(const void *)snapshot->copy.lines.bytes;
    inv_text text = inv_hold_text(&store->holds, hold);
    uint32_t text_room = text.bytes == NULL ? 0 : (uint32_t)inv_align_u64(text.length, 8);
    uint32_t line_count = hold->block ? hold->line_count : 0;
    uint8_t *out;
    inv_result result =
        put_item(store, snapshot, INV_SNAP_HOLDS, stripe,
                 INV_SNAP_HOLD_BYTES + text_room + line_count * INV_SNAP_LINE_BYTES, &out, error);
    if (result != INV_OK) return result;
    memset(out, 0, INV_SNAP_HOLD_BYTES + text_room);
    out[0] = hold->kind;
    out[1] = hold->state;
    out[2] = (uint8_t)hold->ended_by;
    out[3] = (uint8_t)(hold->free_line | hold->units << 1 | hold->gone << 2 | hold->block << 3);
    inv_put_u16(out + 4, hold->line_count);
    inv_put_u64(out + 8, hold->lsn);
    inv_put_u64(out + 16, hold->deadline_ms);
    inv_put_u32(out + 24, hold->block ? 0 : hold->sku);
    inv_put_u32(out + 28, hold->qty);
    inv_put_u32(out + 32, hold->account);
    inv_put_u32(out + 36, hold->body_hash);
    inv_put_u16(out + 40, hold->location);
    inv_put_u16(out + 42, hold->seller);
    if (text.bytes == NULL) {
        memcpy(out + 48, hold->id, 16);
    } else {
        inv_put_u16(out + 6, (uint16_t)text.length);
        memcpy(out + INV_SNAP_HOLD_BYTES, text.bytes, text.length);
    }
    encode_lines(out + INV_SNAP_HOLD_BYTES + text_room, lines + (line_count > 0 ? hold->next : 0),
                 line_count);
    return INV_OK;
}

inv_result inv_snapshot_put_stripe(inv_store *store, inv_snapshot *snapshot, uint32_t stripe,
                                   inv_error *error) {
    inv_stripe_copy *copy = &snapshot->copy;
    inv_hold **order = NULL;
    if (copy_stripe(store, stripe, copy)) order = ordered_holds(store->env, copy);
    if (order == NULL) return inv_fail(error, INV_NO_MEMORY, 0, "no memory to copy a stripe");
    if (copy->lsn == 0) return INV_OK; /* never touched */
    inv_result result = put_stripe_section(store, snapshot, stripe, error);
    if (result == INV_OK) result = put_table(store, snapshot, stripe, error);
    for (uint32_t i = 0; i < copy->hold_count && result == INV_OK; i++)
        result = put_hold(store, snapshot, stripe, order[i], error);
    snapshot->totals.skus += copy->sku_count;
    snapshot->totals.rows += copy->rows_live;
    snapshot->totals.holds += copy->hold_count;
    snapshot->totals.ended += copy->ended_count;
    return result;
}

/* ---- what belongs to no stripe --------------------------------------------------------------- */

static inv_result put_names(inv_store *store, inv_snapshot *snapshot, uint32_t kind,
                            const inv_names *names, inv_error *error) {
    uint32_t count = inv_names_count(names);
    uint8_t *out;
    inv_result result = INV_OK;
    for (uint32_t number = 0; number < count && result == INV_OK; number++) {
        inv_text text;
        inv_lane *lane = inv_lane_claim(&store->lanes);
        bool known = inv_names_text(names, number, &text); /* the node itself is never freed */
        inv_lane_give(lane);
        INV_ASSERT(known);
        result = put_item(store, snapshot, INV_SNAP_NAME_LIST, kind, 6 + text.length, &out, error);
        if (result != INV_OK) break;
        inv_put_u32(out, number);
        inv_put_u16(out + 4, (uint16_t)text.length);
        memcpy(out + 6, text.bytes, text.length);
    }
    return result;
}

inv_result inv_snapshot_put_globals(inv_store *store, inv_snapshot *snapshot, inv_error *error) {
    uint8_t *out;
    inv_result result = inv_snapshot_write_block(store, snapshot, error);
    if (result == INV_OK)
        result = put_names(store, snapshot, INV_NAME_LOCATION, &store->locations, error);
    if (result == INV_OK)
        result = put_names(store, snapshot, INV_NAME_SELLER, &store->sellers, error);
    if (result == INV_OK)
        result = put_names(store, snapshot, INV_NAME_ACCOUNT, &store->accounts, error);
    if (result == INV_OK)
        result = put_names(store, snapshot, INV_NAME_REASON, &store->reasons, error);
    if (result == INV_OK)
        result =
            put_item(store, snapshot, INV_SNAP_CLOCK, 0, INV_SNAP_CLOCK_BYTES, &out, error);
    if (result != INV_OK) return result;
    inv_snap_encode_clock(out, &snapshot->clock);
    return inv_snapshot_write_block(store, snapshot, error);
}
