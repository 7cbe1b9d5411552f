/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_snapshot.c: when a snapshot is taken, and its steps up to the trimming of the log.
 */
#include "inv_events.h"
#include "inv_snapshot.h"

#define RETRY_MS_MIN 1000u /* after a failure, doubled each time */
#define RETRY_MS_MAX (10u * 60 * 1000)
#define SHRINK_BYTES (4u << 20) /* of a file that goes: a step is a millisecond */
#define WAIT_STEP_MS 100u /* whoever waits looks so often whether the store still is open */
#define PACE_SHARE 6u /* while others write, this many times as long as a step took is waited */
/* ... unless the log has grown by a greater part of this than the snapshot has come to: replay must
 * not become longer, and ids wait to be forgotten. A part of snapshot_log_bytes. */
#define PACE_LOG_PART 4u
#define PACE_LOG_BYTES_MIN (64ull << 20)

static uint64_t mono_ns(const inv_store *store) {
    return store->env->clock.mono_ns(store->env->clock.context);
}
static uint64_t mono_ms(const inv_store *store) {
    return store->env->clock.mono_ms(store->env->clock.context);
}

static void free_buffers(inv_store *store) {
    inv_snapshot *snapshot = store->snapshot;
    const inv_env *env = store->env;
    inv_snapshot_buffer *buffers[] = {&snapshot->copy.bytes, &snapshot->copy.lines,
                                      &snapshot->copy.order, &snapshot->index};
    for (uint32_t i = 0; i < 4; i++) {
        inv_env_free(env, buffers[i]->bytes, buffers[i]->room);
        *buffers[i] = (inv_snapshot_buffer){0};
    }
    inv_env_free(env, snapshot->block_memory, INV_SNAP_BUFFER_BYTES);
    snapshot->block_memory = NULL;
}

void inv_snapshot_free(inv_store *store) {
    if (store->snapshot == NULL) return;
    free_buffers(store);
    inv_env_free(store->env, store->snapshot, sizeof *store->snapshot);
    store->snapshot = NULL;
}

/* ---- time stands for ids while stripes are copied -------------------------------------------- */

static uint64_t begin_copying(inv_store *store) {
    inv_lock_take(&store->time_lock);
    store->snapshot_copying = true;
    uint64_t start = atomic_load_explicit(&store->wal.tail, memory_order_acquire);
    inv_lock_give(&store->time_lock);
    return start;
}

static void end_copying(inv_store *store) {
    inv_snapshot *snapshot = store->snapshot;
    inv_lock_take(&store->time_lock);
    store->snapshot_copying = false;
    snapshot->clock = (inv_snap_clock){
        .engine_ms = atomic_load_explicit(&store->now_ms, memory_order_relaxed),
        .tick_ms = store->tick_last_ms,
        .tick = store->tick_last};
    snapshot->clock.tick.window_start_ms = 0; /* it has been forgotten already */
    snapshot->clock.tick.forgotten_lsn = 0;
    inv_lock_give(&store->time_lock);
    inv_lock_take(&store->names_lock);
    snapshot->clock.reference_next = store->reference_next;
    inv_lock_give(&store->names_lock);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static inv_result write_header(inv_store *store, inv_error *error) {
    inv_snapshot *snapshot = store->snapshot;
    const inv_storage *storage = &store->env->storage;
    uint8_t *bytes = snapshot->block;
    const inv_snap_header header = {
        .format = inv_wal_format(&store->wal),
        .identity = store->identity,
        .start_lsn = snapshot->start_lsn,
        .epoch = store->wal.epoch,
        .wall_unix_ms = store->env->clock.wall_unix_ms(store->env->clock.context)};
    inv_snap_encode_header(bytes, &header);
    snapshot->file_bytes = INV_SNAP_HEADER_BYTES;
    return storage->write(storage->context, INV_SNAP_UNFINISHED, 0, bytes, INV_SNAP_HEADER_BYTES,
                          false, error);
}

static inv_result begin(inv_store *store, inv_error *error) {
    inv_snapshot *snapshot = store->snapshot;
    const inv_storage *storage = &store->env->storage;
    inv_error ignored = {0};
    inv_result result = storage->remove(storage->context, INV_SNAP_UNFINISHED, &ignored);
    (void)result; /* hardly ever is there one */
    snapshot->block_memory = inv_env_alloc(store->env, INV_SNAP_BUFFER_BYTES);
    if (snapshot->block_memory == NULL)
        return inv_fail(error, INV_NO_MEMORY, 0, "no memory for a block of a snapshot");
    snapshot->block = inv_snap_buffer(snapshot->block_memory);
    snapshot->head = (inv_snap_block){0};
    snapshot->section_at = UINT32_MAX;
    snapshot->totals = (inv_snap_footer){0};
    snapshot->stripe = 0;
    snapshot->verified = 0;
    snapshot->unsynced_bytes = 0;
    snapshot->block_bytes = INV_SNAP_BLOCK_BYTES_MAX;
    snapshot->began_ns = mono_ns(store);
    snapshot->start_lsn = begin_copying(store);
    snapshot->phase = INV_SNAPSHOT_COPY;
    return write_header(store, error);
}

/* Stripes until a block is written. */
static inv_result copy_some(inv_store *store, inv_error *error) {
    inv_snapshot *snapshot = store->snapshot;
    uint64_t written = snapshot->totals.block_count;
    uint32_t most = store->env->snapshot_stripes == 0 ? UINT32_MAX : store->env->snapshot_stripes;
    inv_result result = INV_OK;
    while (result == INV_OK && snapshot->stripe < store->stripe_count &&
           snapshot->totals.block_count == written && most-- > 0)
        result = inv_snapshot_put_stripe(store, snapshot, snapshot->stripe++, error);
    if (result != INV_OK || snapshot->stripe < store->stripe_count) return result;
    end_copying(store);
    result = inv_snapshot_put_globals(store, snapshot, error);
    snapshot->end_lsn = atomic_load_explicit(&store->wal.tail, memory_order_acquire);
    snapshot->phase = INV_SNAPSHOT_SETTLE;
    return result;
}

/* Footer and trailer, once nothing of what was copied can be lost any more. */
static inv_result settle(inv_store *store, bool *out_waits, inv_error *error) {
    inv_snapshot *snapshot = store->snapshot;
    const inv_storage *storage = &store->env->storage;
    *out_waits = inv_wal_durable(&store->wal) < snapshot->end_lsn &&
                 !INV_PLANTED(INV_PLANT_SNAPSHOT_NO_SETTLE);
    if (*out_waits) return INV_OK;
    uint64_t bytes = inv_snap_footer_bytes(snapshot->totals.block_count);
    uint8_t *footer = inv_env_alloc(store->env, bytes + INV_SNAP_TRAILER_BYTES);
    if (footer == NULL)
        return inv_fail(error, INV_NO_MEMORY, 0, "no memory for the footer of a snapshot");
    snapshot->totals.start_lsn = snapshot->start_lsn;
    snapshot->totals.end_lsn = snapshot->end_lsn;
    inv_snap_encode_footer(footer, &snapshot->totals,
                           (const inv_snap_block *)(const void *)snapshot->index.bytes);
    inv_snap_encode_trailer(footer + bytes, store->wal.seed, snapshot->file_bytes, bytes);
    inv_result result =
        storage->write(storage->context, INV_SNAP_UNFINISHED, snapshot->file_bytes, footer,
                       bytes + INV_SNAP_TRAILER_BYTES, true, error);
    inv_env_free(store->env, footer, bytes + INV_SNAP_TRAILER_BYTES);
    snapshot->file_bytes += bytes + INV_SNAP_TRAILER_BYTES;
    snapshot->phase = INV_SNAPSHOT_VERIFY;
    return result;
}

/* Reads [offset, offset + bytes) of the unfinished file into the block buffer. */
static inv_result read_back(inv_store *store, uint64_t offset, uint64_t bytes, inv_error *error) {
    const inv_storage *storage = &store->env->storage;
    uint64_t got = 0;
    inv_result result = storage->read(storage->context, INV_SNAP_UNFINISHED, offset,
                                      store->snapshot->block, bytes, &got, error);
    if (result == INV_OK && got != bytes)
        result = inv_fail(error, INV_IO_ERROR, 0, "snapshot: %llu of %llu bytes are there",
                          (unsigned long long)got, (unsigned long long)bytes);
    return result;
}

static inv_result not_what_was_written(const inv_snapshot *snapshot, uint64_t offset,
                                       inv_error *error) {
    error->offset = offset;
    return inv_fail(error, INV_IO_ERROR, 0,
                    "snapshot at lsn %llu: offset %llu is not what was written",
                    (unsigned long long)snapshot->start_lsn, (unsigned long long)offset);
}

/* Header, footer and trailer. */
static inv_result verify_frame(inv_store *store, inv_error *error) {
    inv_snapshot *snapshot = store->snapshot;
    const inv_storage *storage = &store->env->storage;
    inv_snap_header header;
    inv_result result = read_back(store, 0, INV_SNAP_HEADER_BYTES, error);
    if (result == INV_OK && inv_snap_decode_header(snapshot->block, &header) != INV_OK)
        result = not_what_was_written(snapshot, 0, error);
    if (result != INV_OK) return result;
    uint64_t bytes = inv_snap_footer_bytes(snapshot->totals.block_count) + INV_SNAP_TRAILER_BYTES;
    uint64_t at = snapshot->file_bytes - bytes, offset, footer_bytes, got = 0;
    uint8_t *end = inv_env_alloc(store->env, bytes);
    if (end == NULL)
        return inv_fail(error, INV_NO_MEMORY, 0, "no memory for the footer of a snapshot");
    inv_snap_footer footer;
    result = storage->read(storage->context, INV_SNAP_UNFINISHED, at, end, bytes, &got, error);
    if (result == INV_OK &&
        (got != bytes ||
         !inv_snap_decode_trailer(end + bytes - INV_SNAP_TRAILER_BYTES, store->wal.seed, &offset,
                                  &footer_bytes) ||
         offset != at || !inv_snap_decode_footer(end, footer_bytes, &footer)))
        result = not_what_was_written(snapshot, at, error);
    inv_env_free(store->env, end, bytes);
    return result;
}

/* One block; after the last, all else. */
static inv_result verify_one(inv_store *store, inv_error *error) {
    inv_snapshot *snapshot = store->snapshot;
    if (snapshot->verified < snapshot->totals.block_count) {
        const inv_snap_block *block =
            (const inv_snap_block *)(const void *)snapshot->index.bytes + snapshot->verified++;
        uint64_t bytes = inv_snap_block_room(block);
        inv_result result = read_back(store, block->offset, bytes, error);
        if (result == INV_OK &&
            !inv_snap_check_block(snapshot->block, bytes, store->wal.seed, block))
            result = not_what_was_written(snapshot, block->offset, error);
        return result;
    }
    snapshot->phase = INV_SNAPSHOT_PUBLISH;
    return verify_frame(store, error);
}

/* The mark says in the log which snapshot there is. Without credit the log goes without it. */
static void log_mark(inv_store *store) {
    inv_snapshot *snapshot = store->snapshot;
    inv_lane *lane = inv_lane_claim(&store->lanes);
    uint8_t blob[INV_EFFECT_MARK_BYTES];
    uint64_t ignored;
    inv_put_u64(blob, snapshot->start_lsn);
    inv_put_u64(blob + 8, snapshot->end_lsn);
    inv_result result =
        inv_run_note(store, lane, INV_ENTRY_SNAPSHOT_MARK, blob, sizeof blob, &ignored);
    (void)result;
    inv_lane_give(lane);
}

/* From the rename on the file is a snapshot; from STATE on the log needs it no longer to begin at
 * its first lsn. *out_fatal: STATE or the directory could not be written. */
static inv_result publish(inv_store *store, bool *out_fatal, inv_error *error) {
    inv_snapshot *snapshot = store->snapshot;
    const inv_storage *storage = &store->env->storage;
    char name[INV_FILE_NAME_MAX + 1];
    inv_snap_name(name, snapshot->start_lsn);
    inv_result result = storage->rename(storage->context, INV_SNAP_UNFINISHED, name, error);
    if (result != INV_OK) return result;
    *out_fatal = true;
    result = storage->sync_directory(storage->context, error);
    if (result == INV_OK)
        result = inv_wal_write_snapshot(&store->wal, snapshot->start_lsn, error);
    if (result != INV_OK) return result;
    log_mark(store);
    if (snapshot->start_lsn != store->snapshot_lsn) /* else it has just replaced the newest */
        store->snapshot_older_lsn = store->snapshot_lsn;
    atomic_store_explicit(&store->snapshot_lsn, snapshot->start_lsn, memory_order_release);
    atomic_store_explicit(&store->snapshot_bytes, snapshot->file_bytes, memory_order_relaxed);
    atomic_store_explicit(&store->snapshot_ns, mono_ns(store) - snapshot->began_ns,
                          memory_order_relaxed);
    atomic_fetch_add_explicit(&store->snapshots, 1, memory_order_relaxed);
    free_buffers(store);
    snapshot->retry_wait_ms = 0;
    snapshot->phase = INV_SNAPSHOT_TRIM;
    return INV_OK;
}

/* Goes on removing a file, of a snapshot or a segment: its name is that of an unfinished snapshot,
 * so that the next opening ends what a crash leaves of it. */
static bool shrink_more(inv_store *store) {
    const inv_storage *storage = &store->env->storage;
    inv_snapshot *snapshot = store->snapshot;
    inv_error ignored = {0};
    uint64_t left = snapshot->shrink_bytes;
    left = left > SHRINK_BYTES ? left - SHRINK_BYTES : 0;
    snapshot->shrink_bytes = left;
    if (left > 0 &&
        storage->shrink(storage->context, INV_SNAP_UNFINISHED, left, &ignored) == INV_OK)
        return true;
    snapshot->shrink_bytes = 0;
    return storage->remove(storage->context, INV_SNAP_UNFINISHED, &ignored) == INV_OK;
}

/* Removes a piece of what is no longer needed: of a snapshot but the newest two, or a segment that
 * lies below the older of them. False: there is nothing left. */
static bool trim_one(inv_store *store) {
    const inv_storage *storage = &store->env->storage;
    inv_snap_list found;
    inv_error ignored = {0};
    if (store->snapshot->shrink_bytes > 0) return shrink_more(store);
    if (inv_snap_find(store->env, &found, &ignored) != INV_OK) return false;
    uint64_t newest = store->snapshot_lsn, older = store->snapshot_older_lsn;
    for (uint32_t i = 0; i < found.count; i++) {
        if (found.start_lsns[i] == newest || found.start_lsns[i] == older) continue;
        if (older == 0 && found.start_lsns[i] < newest) continue; /* not loaded, but a last hope */
        char name[INV_FILE_NAME_MAX + 1];
        inv_snap_name(name, found.start_lsns[i]);
        inv_result result = storage->rename(storage->context, name, INV_SNAP_UNFINISHED, &ignored);
        if (result != INV_OK) continue;
        store->snapshot->shrink_bytes = found.bytes[i];
        return true;
    }
    if (INV_PLANTED(INV_PLANT_SNAPSHOT_TRIM_ALL)) older = newest;
    if (older == 0 || !inv_consumers_trim_one(store, older, INV_SNAP_UNFINISHED)) return false;
    store->snapshot->shrink_bytes = store->wal.segment_bytes;
    return true;
}

/* By itself it waits after a failure; whoever asks for one gets an attempt. */
static bool is_due(inv_store *store) {
    uint64_t tail = atomic_load_explicit(&store->wal.tail, memory_order_relaxed);
    if (atomic_load_explicit(&store->snapshot_wanted, memory_order_acquire) !=
        atomic_load_explicit(&store->snapshot_done, memory_order_relaxed))
        return true;
    if (mono_ms(store) < store->snapshot->retry_mono_ms) return false;
    uint64_t base = inv_max_u64(store->snapshot_lsn, INV_WAL_LSN_FIRST);
    return store->options.snapshot_log_bytes > 0 &&
           (tail - base >= store->options.snapshot_log_bytes ||
            inv_wal_wants_snapshot(&store->wal, store->snapshot_lsn, store->snapshot_older_lsn));
}

/* Copying is one half of the work, reading back the other. */
static bool is_late(const inv_store *store, uint64_t tail) {
    const inv_snapshot *snapshot = store->snapshot;
    uint64_t done = 1000;
    if (snapshot->phase == INV_SNAPSHOT_COPY)
        done = snapshot->stripe * 500ull / store->stripe_count;
    if (snapshot->phase == INV_SNAPSHOT_VERIFY)
        done = 500 + snapshot->verified * 500 / inv_max_u64(1, snapshot->totals.block_count);
    uint64_t all =
        inv_max_u64(PACE_LOG_BYTES_MIN, store->options.snapshot_log_bytes / PACE_LOG_PART);
    return (tail - snapshot->start_lsn) / (all / 1000) > done;
}

/* Tells who asked for one up to this number what became of it. */
static void answer(inv_store *store, uint32_t wanted, bool good) {
    if (good) atomic_store_explicit(&store->snapshot_good, wanted, memory_order_relaxed);
    atomic_store_explicit(&store->snapshot_done, wanted, memory_order_release);
    inv_futex_wake_all(&store->snapshot_done);
}

static void give_up(inv_store *store, inv_result why, const inv_error *error) {
    inv_snapshot *snapshot = store->snapshot;
    const inv_storage *storage = &store->env->storage;
    inv_error ignored = {0};
    if (snapshot->phase == INV_SNAPSHOT_COPY) end_copying(store);
    inv_result result = storage->remove(storage->context, INV_SNAP_UNFINISHED, &ignored);
    (void)result; /* the next attempt or opening does it */
    free_buffers(store);
    snapshot->phase = INV_SNAPSHOT_IDLE;
    inv_lock_take(&store->wal.failure_lock);
    snapshot->failure = *error;
    snapshot->failure.code = (int)why;
    inv_lock_give(&store->wal.failure_lock);
    uint64_t wait = snapshot->retry_wait_ms == 0 ? RETRY_MS_MIN : snapshot->retry_wait_ms * 2;
    snapshot->retry_wait_ms = inv_min_u64(wait, RETRY_MS_MAX);
    snapshot->retry_mono_ms = mono_ms(store) + snapshot->retry_wait_ms;
    if (INV_PLANTED(INV_PLANT_SNAPSHOT_GIVES_UP)) snapshot->retry_mono_ms = UINT64_MAX;
    atomic_fetch_add_explicit(&store->snapshot_failures, 1, memory_order_relaxed);
    answer(store, snapshot->answers, false);
}

inv_result inv_snapshot_step(inv_store *store, bool *out_more) {
    inv_snapshot *snapshot = store->snapshot;
    inv_error error = {0};
    inv_result result = INV_OK;
    bool waits = false, fatal = false;
    if (snapshot->phase == INV_SNAPSHOT_IDLE && !is_due(store)) return INV_OK;
    uint64_t began = mono_ns(store);
    if (began < snapshot->pause_until_ns) return INV_OK;
    switch (snapshot->phase) {
    case INV_SNAPSHOT_IDLE:
        snapshot->answers = atomic_load_explicit(&store->snapshot_wanted, memory_order_acquire);
        result = begin(store, &error);
        break;
    case INV_SNAPSHOT_COPY:
        result = copy_some(store, &error);
        break;
    case INV_SNAPSHOT_SETTLE:
        result = settle(store, &waits, &error);
        break;
    case INV_SNAPSHOT_VERIFY:
        result = verify_one(store, &error);
        break;
    case INV_SNAPSHOT_PUBLISH:
        result = publish(store, &fatal, &error);
        break;
    case INV_SNAPSHOT_TRIM:
        if (trim_one(store)) break;
        snapshot->phase = INV_SNAPSHOT_IDLE;
        answer(store, snapshot->answers, true);
        break;
    }
    if (result != INV_OK && fatal) {
        inv_wal_fail(&store->wal, &error);
        return INV_STORE_FAILED;
    }
    if (result != INV_OK) give_up(store, result, &error);
    *out_more |= snapshot->phase != INV_SNAPSHOT_IDLE && !waits;
    /* While others write they come first. */
    uint64_t tail = atomic_load_explicit(&store->wal.tail, memory_order_relaxed);
    uint64_t now = mono_ns(store);
    snapshot->serving = tail != snapshot->tail_paced;
    snapshot->tail_paced = tail;
    bool waits_for_others = snapshot->serving && !is_late(store, tail);
    snapshot->pause_until_ns = waits_for_others ? now + PACE_SHARE * (now - began) : now;
    return INV_OK;
}

uint32_t inv_snapshot_pause_ms(const inv_store *store, uint32_t most_ms) {
    const inv_snapshot *snapshot = store->snapshot;
    if (snapshot == NULL || snapshot->phase == INV_SNAPSHOT_IDLE) return most_ms;
    uint64_t now = mono_ns(store);
    uint64_t left_ns = snapshot->pause_until_ns > now ? snapshot->pause_until_ns - now : 0;
    return (uint32_t)inv_min_u64(most_ms, inv_max_u64(1, (left_ns + 999999) / 1000000));
}

/* ---- on demand ------------------------------------------------------------------------------- */

static inv_result wait_for_snapshot(inv_store *store, uint32_t wanted, uint32_t timeout_ms) {
    uint64_t began = mono_ms(store);
    for (;;) {
        uint32_t done = atomic_load_explicit(&store->snapshot_done, memory_order_acquire);
        if ((int32_t)(done - wanted) >= 0) return INV_OK;
        if (inv_wal_failed(&store->wal)) return INV_STORE_FAILED;
        if (atomic_load_explicit(&store->closing, memory_order_acquire) != 0)
            return INV_STORE_CLOSED;
        uint64_t waited = mono_ms(store) - began;
        if (waited >= timeout_ms) return INV_BUSY;
        uint64_t left = inv_min_u64(timeout_ms - waited, WAIT_STEP_MS);
        inv_futex_wait(&store->snapshot_done, done, (uint32_t)left);
    }
}

inv_result inv_store_snapshot(inv_store *store, uint32_t timeout_ms, inv_error *error) {
    inv_error ignored = {0};
    if (error == NULL) error = &ignored;
    memset(error, 0, sizeof *error);
    if (store->options.read_only)
        return inv_fail(error, INV_FORBIDDEN, 0, "read_only: a store opened so writes nothing");
    if (store->wal.in_memory)
        return inv_fail(error, INV_BAD_REQUEST, 0, "durability memory keeps nothing");
    inv_lane *lane;
    inv_result result;
    if (!inv_store_enter(store, &lane, &result)) return result;
    inv_lane_give(lane);
    uint32_t wanted =
        atomic_fetch_add_explicit(&store->snapshot_wanted, 1, memory_order_acq_rel) + 1;
    atomic_fetch_add_explicit(&store->parked, 1, memory_order_seq_cst); /* see wait_durable */
    result = wait_for_snapshot(store, wanted, timeout_ms);
    uint32_t good = atomic_load_explicit(&store->snapshot_good, memory_order_acquire);
    if (result == INV_OK && (int32_t)(good - wanted) < 0) {
        inv_lock_take(&store->wal.failure_lock);
        *error = store->snapshot->failure;
        inv_lock_give(&store->wal.failure_lock);
        result = (inv_result)error->code;
    }
    atomic_fetch_sub_explicit(&store->parked, 1, memory_order_release);
    return result;
}
