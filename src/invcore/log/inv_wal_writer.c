/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wal_writer.c: see the header for the protocol.
 *
 * Costs, estimated for one appender: credit two atomic adds (2 x 6 ns), one compare-and-swap on the
 * tail (6 ns), CRC of payload and header (about 15 ns for 100 bytes), the copy; in interval mode
 * one write-protect fault per 4 KiB page after each sync (about 1 us, shared by 80 reserves). One
 * group: in durable mode one write of its bytes, and one fdatasync.
 */
#include "inv_wal_writer.h"

#include <stdio.h>

#include "../base/inv_crc32c.h"
#include "inv_wal_space.h"

#define HINT_INTERVAL_MS 10u

void inv_wal_segment_name(char out[INV_FILE_NAME_MAX + 1], const char *prefix, uint64_t number) {
    (void)snprintf(out, INV_FILE_NAME_MAX + 1, "%s%016llx", prefix, (unsigned long long)number);
}

void inv_wal_init_memory(inv_wal *wal, const inv_env *env, inv_lanes *lanes) {
    memset(wal, 0, sizeof *wal);
    wal->env = env;
    wal->lanes = lanes;
    wal->in_memory = true;
    wal->epoch = 1;
    atomic_store_explicit(&wal->tail, INV_WAL_LSN_FIRST, memory_order_release);
    atomic_store_explicit(&wal->durable, INV_WAL_LSN_FIRST, memory_order_release);
}

/* ---- segments of the past -------------------------------------------------------------------- */

/* past_lock is held, or nobody else knows the log yet. */
static void remember(inv_wal *wal, uint64_t number, uint64_t base) {
    if (wal->past_count == wal->past_room) {
        uint32_t room = wal->past_room == 0 ? 64 : wal->past_room * 2;
        inv_wal_past *larger = inv_env_alloc(wal->env, room * sizeof(inv_wal_past));
        if (larger == NULL) {
            wal->past_incomplete = true;
            return;
        }
        if (wal->past_count > 0) memcpy(larger, wal->past, wal->past_count * sizeof(inv_wal_past));
        inv_env_free(wal->env, wal->past, wal->past_room * sizeof(inv_wal_past));
        wal->past = larger;
        wal->past_room = room;
    }
    wal->past[wal->past_count++] = (inv_wal_past){number, base};
}

static bool trim_locked(inv_wal *wal, uint64_t lsn, const char *to) {
    const inv_storage *storage = &wal->env->storage;
    uint64_t released = atomic_load_explicit(&wal->released, memory_order_relaxed);
    uint64_t mapped = wal->ring[released % INV_WAL_RING].number; /* this and later ones */
    if (wal->past_incomplete || wal->past_count < 2 || wal->past[1].base > lsn ||
        wal->past[0].number >= mapped)
        return false;
    char name[INV_FILE_NAME_MAX + 1];
    inv_error ignored = {0};
    inv_wal_segment_name(name, "wal-", wal->past[0].number);
    if (storage->rename(storage->context, name, to, &ignored) != INV_OK) return false;
    wal->past_count--;
    memmove(wal->past, wal->past + 1, wal->past_count * sizeof(inv_wal_past));
    return true;
}

/* File and list change together: a reader that misses a file finds out why. */
bool inv_wal_trim_one(inv_wal *wal, uint64_t lsn, const char *to) {
    inv_lock_take(&wal->past_lock);
    bool trimmed = trim_locked(wal, lsn, to);
    inv_lock_give(&wal->past_lock);
    return trimmed;
}

inv_result inv_wal_know(inv_wal *wal, const inv_wal_past *past, uint32_t past_count) {
    for (uint32_t i = 0; i < past_count; i++) remember(wal, past[i].number, past[i].base);
    return wal->past_incomplete ? INV_NO_MEMORY : INV_OK;
}

inv_wal_place inv_wal_find(inv_wal *wal, uint64_t lsn) {
    inv_wal_place found = {.end_lsn = UINT64_MAX, .oldest_end_lsn = UINT64_MAX};
    inv_lock_take(&wal->past_lock);
    const inv_wal_past *past = wal->past;
    uint32_t low = 0, high = wal->past_count; /* the first that begins beyond lsn lies in here */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (past[middle].base <= lsn) low = middle + 1;
        else high = middle;
    }
    if (wal->past_count > 0) found.oldest_lsn = past[0].base;
    if (wal->past_count > 1) found.oldest_end_lsn = past[1].base;
    if (low > 0) {
        found.number = past[low - 1].number;
        found.base = past[low - 1].base;
        if (low < wal->past_count) found.end_lsn = past[low].base;
    }
    inv_lock_give(&wal->past_lock);
    return found;
}

void inv_wal_publish_segment(inv_wal *wal, uint64_t number, uint64_t base,
                             const inv_segment_map *map) {
    uint64_t sequence = atomic_load_explicit(&wal->ready, memory_order_relaxed);
    inv_wal_segment *segment = &wal->ring[sequence % INV_WAL_RING];
    segment->number = number;
    segment->base = base;
    segment->limit = base + map->size - INV_WAL_HEADER_BYTES;
    segment->map = *map;
    inv_lock_take(&wal->past_lock);
    remember(wal, number, base);
    inv_lock_give(&wal->past_lock);
    /* release: pairs with the acquire of `ready` in rotate() and of the ends in credit_take */
    atomic_store_explicit(&wal->ready, sequence + 1, memory_order_release);
    inv_wal_offer_space(wal);
}

/* state_lock is held, and given back. */
static inv_result write_next_state(inv_wal *wal, inv_wal_state next, inv_error *error) {
    const inv_storage *storage = &wal->env->storage;
    uint8_t slot[INV_STATE_SLOT_BYTES];
    next.sequence++;
    next.epoch = wal->epoch;
    inv_wal_encode_state(slot, &next);
    inv_result result =
        storage->write(storage->context, "STATE", (next.sequence & 1) * INV_STATE_SLOT_BYTES, slot,
                       sizeof slot, true, error);
    if (result == INV_OK) wal->state = next;
    inv_lock_give(&wal->state_lock);
    return result;
}

inv_result inv_wal_write_state(inv_wal *wal, uint64_t segment_highest, uint64_t clean_lsn,
                               inv_error *error) {
    inv_lock_take(&wal->state_lock);
    inv_wal_state next = wal->state;
    next.segment_highest = inv_max_u64(next.segment_highest, segment_highest);
    next.clean_lsn = clean_lsn;
    return write_next_state(wal, next, error);
}

inv_result inv_wal_write_snapshot(inv_wal *wal, uint64_t snapshot_lsn, inv_error *error) {
    inv_lock_take(&wal->state_lock);
    inv_wal_state next = wal->state;
    next.snapshot_lsn = inv_max_u64(next.snapshot_lsn, snapshot_lsn);
    return write_next_state(wal, next, error);
}

inv_format inv_wal_format(inv_wal *wal) {
    if (wal->in_memory) return inv_format_newest();
    inv_lock_take(&wal->state_lock);
    inv_format format = wal->state.format;
    inv_lock_give(&wal->state_lock);
    return format;
}

inv_result inv_wal_write_format(inv_wal *wal, inv_format format, inv_error *error) {
    inv_lock_take(&wal->state_lock);
    inv_wal_state next = wal->state;
    next.format = inv_format_join(next.format, format);
    return write_next_state(wal, next, error);
}

static void init_wal(inv_wal *wal, const inv_env *env, inv_lanes *lanes,
                     const inv_wal_config *config) {
    memset(wal, 0, sizeof *wal);
    wal->env = env;
    wal->lanes = lanes;
    wal->identity = config->identity;
    wal->seed = inv_wal_seed(config->identity.uuid);
    wal->state = config->state;
    wal->epoch = config->state.epoch;
    wal->segment_bytes = config->segment_bytes;
    wal->staged = config->staged;
    wal->segments_ahead_max = config->segments_ahead_max;
    atomic_store_explicit(&wal->reserves, config->reserves, memory_order_relaxed);
    wal->window = inv_min_u64(INV_WAL_WINDOW_BYTES, inv_wal_capacity(wal) / 2);
    wal->window_reserved = inv_min_u64(INV_WAL_WINDOW_RESERVED, wal->window / 4);
    wal->rate_mono_ms = env->clock.mono_ms(env->clock.context);
    for (uint32_t i = 0; i < config->past_count; i++)
        remember(wal, config->past[i].number, config->past[i].base);
}

inv_result inv_wal_start(inv_wal *wal, const inv_env *env, inv_lanes *lanes,
                         const inv_wal_config *config, const inv_wal_segment_header *header,
                         const uint8_t *relog, uint64_t relog_bytes, inv_error *error) {
    init_wal(wal, env, lanes, config);
    INV_ASSERT(header->segment_bytes >= INV_WAL_HEADER_BYTES + relog_bytes);
    inv_segment_map map;
    inv_result result = inv_wal_first_segment(wal, header, relog, relog_bytes, &map, error);
    if (result != INV_OK) return result;
    uint64_t tail = header->base_lsn + relog_bytes;
    atomic_store_explicit(&wal->tail, tail, memory_order_release);
    atomic_store_explicit(&wal->durable, tail, memory_order_release);
    inv_wal_publish_segment(wal, header->number, header->base_lsn, &map);
    wal->rate_tail = tail;
    return INV_OK;
}

#ifdef INV_PLANTED_BUGS
inv_result inv_wal_resume(inv_wal *wal, const inv_env *env, inv_lanes *lanes,
                          const inv_wal_config *config, const inv_wal_segment_header *last,
                          uint64_t end_lsn, inv_error *error) {
    char name[INV_FILE_NAME_MAX + 1];
    inv_segment_map map;
    init_wal(wal, env, lanes, config);
    wal->epoch = last->epoch;
    inv_wal_segment_name(name, "wal-", last->number);
    inv_result result = env->storage.map(env->storage.context, name, false, &map, error);
    if (result != INV_OK) return result;
    atomic_store_explicit(&wal->tail, end_lsn, memory_order_release);
    atomic_store_explicit(&wal->durable, end_lsn, memory_order_release);
    inv_wal_publish_segment(wal, last->number, last->base_lsn, &map);
    wal->rate_tail = end_lsn;
    return INV_OK;
}
#endif

void inv_wal_unmap_below(inv_wal *wal, uint64_t below) {
    const inv_storage *storage = &wal->env->storage;
    uint64_t sequence = atomic_load_explicit(&wal->released, memory_order_relaxed);
    for (; sequence < below; sequence++)
        storage->unmap(storage->context, &wal->ring[sequence % INV_WAL_RING].map);
    atomic_store_explicit(&wal->released, sequence, memory_order_release);
}

void inv_wal_deinit(inv_wal *wal) {
    if (wal->env == NULL) return;
    if (!wal->in_memory)
        inv_wal_unmap_below(wal, atomic_load_explicit(&wal->ready, memory_order_acquire));
    inv_env_free(wal->env, wal->past, wal->past_room * sizeof(inv_wal_past));
    wal->past = NULL;
    wal->past_count = wal->past_room = 0;
}

/* ---- credit ---------------------------------------------------------------------------------- */

/* The prepared space does not do. Housekeeping goes on, so who may use what it brings is to ask
 * again. */
static inv_result refuse_space(inv_wal *wal, inv_wal_class class) {
    uint32_t state = inv_wal_disk_state(wal);
    if (state == INV_DISK_READ_ONLY || (state == INV_DISK_REFUSING && class == INV_WAL_ORDINARY))
        return INV_DISK_FULL;
    atomic_fetch_add_explicit(&wal->segment_waits, 1, memory_order_relaxed);
    return INV_BUSY;
}

inv_result inv_wal_credit_take(inv_wal *wal, uint64_t bytes, inv_wal_class class) {
    if (inv_wal_failed(wal)) return INV_STORE_FAILED;
    if (wal->in_memory) return INV_OK;
    /* The sum first, the tail after: a claim that has left the sum has already moved the tail. */
    uint64_t used = atomic_fetch_add_explicit(&wal->credit, bytes, memory_order_acq_rel) + bytes;
    uint64_t wanted = atomic_load_explicit(&wal->tail, memory_order_acquire) + used;
    uint64_t window =
        class == INV_WAL_FREEING ? wal->window : wal->window - wal->window_reserved;
    uint64_t space = atomic_load_explicit(
        class == INV_WAL_ORDINARY ? &wal->ordinary_end : &wal->space_end, memory_order_acquire);
    bool fits_window = wanted <= inv_wal_durable(wal) + window;
    bool fits_space = wanted + inv_wal_rotation_slack(wal) <= space;
    if (INV_LIKELY(fits_window && fits_space)) return INV_OK;
    atomic_fetch_sub_explicit(&wal->credit, bytes, memory_order_acq_rel);
    if (!fits_window) inv_wal_wake(wal);
    return fits_space ? INV_BUSY : refuse_space(wal, class);
}

void inv_wal_credit_give(inv_wal *wal, uint64_t bytes) {
    if (!wal->in_memory) atomic_fetch_sub_explicit(&wal->credit, bytes, memory_order_acq_rel);
}

/* Sleeps until the group number moves, a failure included. */
static void park(inv_wal *wal, uint32_t seen, uint32_t timeout_ms) {
    atomic_fetch_add_explicit(&wal->waiters, 1, memory_order_seq_cst);
    inv_wal_wake(wal);
    inv_futex_wait(&wal->group, seen, timeout_ms);
    atomic_fetch_sub_explicit(&wal->waiters, 1, memory_order_relaxed);
}

void inv_wal_credit_wait(inv_wal *wal) {
    park(wal, atomic_load_explicit(&wal->group, memory_order_acquire), 10);
}

/* ---- append ---------------------------------------------------------------------------------- */

static uint8_t *address_of(const inv_wal_segment *segment, uint64_t lsn) {
    INV_ASSERT(lsn >= segment->base && lsn < segment->limit);
    return segment->map.bytes + INV_WAL_HEADER_BYTES + (lsn - segment->base);
}

/* Fills [lsn, limit) with a SEAL and makes the next segment current. The caller has claimed the
 * range. */
static void rotate(inv_wal *wal, uint64_t sequence, uint64_t lsn) {
    inv_wal_segment *segment = &wal->ring[sequence % INV_WAL_RING];
    uint64_t rest = segment->limit - lsn;
    uint8_t *out = address_of(segment, lsn);
    INV_ASSERT(rest >= INV_WAL_RECORD_HEADER_BYTES);
    inv_wal_record seal = {.type = INV_WAL_SEAL,
                           .flags = INV_WAL_MUST_UNDERSTAND | INV_WAL_BATCH_END,
                           .payload_bytes = (uint32_t)(rest - INV_WAL_RECORD_HEADER_BYTES),
                           .lsn = lsn,
                           .hint = inv_wal_durable(wal),
                           .epoch = (uint32_t)wal->epoch};
    INV_ASSERT(seal.payload_bytes <= INV_WAL_PAYLOAD_BYTES_MAX);
    /* The payload is the zeros that preparation wrote. */
    uint32_t crc = inv_crc32c(0, out + INV_WAL_RECORD_HEADER_BYTES, seal.payload_bytes);
    inv_wal_encode_record_header(out, wal->seed, &seal, crc);
    INV_YIELD(wal->env, INV_YIELD_IN_ROTATION);
    INV_ASSERT(atomic_load_explicit(&wal->ready, memory_order_acquire) > sequence + 1);
    INV_ASSERT(wal->ring[(sequence + 1) % INV_WAL_RING].base == segment->limit);
    atomic_store_explicit(&wal->current, sequence + 1, memory_order_release);
}

uint64_t inv_wal_claim(inv_wal *wal, inv_lane *lane, uint64_t payload_bytes) {
    uint64_t need = inv_wal_record_bytes(payload_bytes);
    if (wal->in_memory) return atomic_fetch_add_explicit(&wal->tail, need, memory_order_acq_rel);
    INV_ASSERT(payload_bytes <= INV_WAL_PAYLOAD_BYTES_MAX);
    for (;;) {
        uint64_t sequence = atomic_load_explicit(&wal->current, memory_order_acquire);
        inv_wal_segment *segment = &wal->ring[sequence % INV_WAL_RING];
        uint64_t start = atomic_load_explicit(&wal->tail, memory_order_acquire);
        /* Becomes visible with the release of the compare-and-swap; an older value is only lower.
         */
        atomic_store_explicit(&lane->append_floor, start, memory_order_relaxed);
        INV_YIELD(wal->env, INV_YIELD_BEFORE_TAIL);
        if (start < segment->base || start >= segment->limit) { /* a rotation is under way */
            inv_cpu_yield();
            continue;
        }
        uint64_t end = start + need;
        bool fits = end == segment->limit ||
                    (end < segment->limit && segment->limit - end >= INV_WAL_RECORD_HEADER_BYTES);
        if (INV_PLANTED(INV_PLANT_SEGMENT_END)) fits = end <= segment->limit;
        if (!fits) end = segment->limit;
        if (!atomic_compare_exchange_strong_explicit(&wal->tail, &start, end, memory_order_acq_rel,
                                                     memory_order_relaxed))
            continue;
        if (fits) {
            /* A record that ends at the limit leaves no room for a SEAL: the next segment follows.
             */
            if (end == segment->limit) {
                INV_ASSERT(atomic_load_explicit(&wal->ready, memory_order_acquire) > sequence + 1);
                atomic_store_explicit(&wal->current, sequence + 1, memory_order_release);
            }
            return start;
        }
        rotate(wal, sequence, start);
    }
}

/* The segment that holds lsn; it can't be released while the caller's floor is at or below lsn. */
static const inv_wal_segment *segment_of(const inv_wal *wal, uint64_t lsn) {
    uint64_t sequence = atomic_load_explicit(&((inv_wal *)wal)->current, memory_order_acquire);
    for (;; sequence--) {
        const inv_wal_segment *segment = &wal->ring[sequence % INV_WAL_RING];
        if (lsn >= segment->base && lsn < segment->limit) return segment;
        INV_ASSERT(sequence > 0);
    }
}

void inv_wal_copy(inv_wal *wal, inv_lane *lane, uint64_t lsn, uint8_t *payload,
                  uint32_t payload_bytes) {
    if (wal->in_memory) return;
    uint64_t padded = inv_align_u64(payload_bytes, INV_WAL_RECORD_ALIGN);
    uint8_t *out = address_of(segment_of(wal, lsn), lsn);
    inv_wal_record record = {.type = INV_WAL_CHANGES,
                             .flags = INV_WAL_MUST_UNDERSTAND | INV_WAL_BATCH_END,
                             .payload_bytes = payload_bytes,
                             .lsn = lsn,
                             .hint = INV_PLANTED(INV_PLANT_HINT_AHEAD) ? lsn : inv_wal_durable(wal),
                             .epoch = (uint32_t)wal->epoch};
    memset(payload + payload_bytes, 0, padded - payload_bytes);
    INV_YIELD(wal->env, INV_YIELD_BEFORE_COPY);
    memcpy(out + INV_WAL_RECORD_HEADER_BYTES, payload, padded);
    INV_YIELD(wal->env, INV_YIELD_MID_COPY);
    inv_wal_encode_record_header(out, wal->seed, &record, inv_crc32c(0, payload, padded));
    INV_YIELD(wal->env, INV_YIELD_BEFORE_IDLE);
    /* release: pairs with inv_wal_prefix, so that the flusher sees the bytes */
    atomic_store_explicit(&lane->append_floor, INV_LANE_IDLE, memory_order_release);
    inv_lane_count(lane, INV_COUNT_RECORDS, 1);
}

uint64_t inv_wal_prefix(const inv_wal *wal) {
    uint64_t prefix = atomic_load_explicit(&((inv_wal *)wal)->tail, memory_order_acquire);
    if (wal->in_memory || INV_PLANTED(INV_PLANT_PREFIX_FROM_TAIL)) return prefix;
    uint32_t used = atomic_load_explicit(&wal->lanes->used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++) {
        uint64_t floor =
            atomic_load_explicit(&wal->lanes->lanes[i].append_floor, memory_order_acquire);
        if (floor < prefix) prefix = floor;
    }
    return prefix;
}

void inv_wal_look(const inv_wal *wal, uint64_t lsn, inv_wal_record *out) {
    const uint8_t *bytes = address_of(segment_of(wal, lsn), lsn);
    INV_ASSERT(bytes[0] == INV_WAL_MARKER && inv_load_u64(bytes + 8) == lsn);
    *out = (inv_wal_record){.type = bytes[1],
                            .payload_bytes = inv_load_u32(bytes + 4),
                            .lsn = lsn,
                            .payload = bytes + INV_WAL_RECORD_HEADER_BYTES};
}

/* ---- group commit ---------------------------------------------------------------------------- */

void inv_wal_fail(inv_wal *wal, const inv_error *cause) {
    inv_lock_take(&wal->failure_lock);
    if (wal->failure.code == 0) {
        wal->failure = *cause;
        if (wal->failure.lsn == 0) wal->failure.lsn = inv_wal_durable(wal);
        wal->failure.code = INV_STORE_FAILED;
    }
    inv_lock_give(&wal->failure_lock);
    atomic_store_explicit(&wal->failed, 1, memory_order_release);
    atomic_fetch_add_explicit(&wal->group, 1, memory_order_release);
    inv_futex_wake_all(&wal->group);
}

#ifdef INV_PLANTED_BUGS
static void write_hint_into_state(inv_wal *wal) {
    uint8_t slot[INV_STATE_SLOT_BYTES];
    inv_error ignored = {0};
    inv_lock_take(&wal->state_lock);
    wal->state.sequence++;
    wal->state.clean_lsn = inv_wal_durable(wal);
    inv_wal_encode_state(slot, &wal->state);
    inv_result result = wal->env->storage.write(
        wal->env->storage.context, "STATE", (wal->state.sequence & 1) * INV_STATE_SLOT_BYTES, slot,
        sizeof slot, false, &ignored);
    (void)result;
    inv_lock_give(&wal->state_lock);
}
#endif

/* Never waited for and never trusted alone: a proof that survives a killed process. */
static void write_hint(inv_wal *wal, bool idle) {
    const inv_env *env = wal->env;
    uint64_t now = env->clock.mono_ms(env->clock.context);
    if (!idle && now < wal->hint_mono_ms + HINT_INTERVAL_MS) return;
    uint8_t bytes[INV_HINT_BYTES];
    inv_error error = {0};
    wal->hint_mono_ms = now;
#ifdef INV_PLANTED_BUGS
    if (INV_PLANTED(INV_PLANT_HINT_IN_STATE)) {
        write_hint_into_state(wal);
        return;
    }
#endif
    inv_wal_encode_hint(bytes, wal->seed, inv_wal_durable(wal), wal->epoch);
    inv_result result =
        env->storage.write(env->storage.context, "HINT", 0, bytes, sizeof bytes, false, &error);
    (void)result; /* a hint that can't be written is merely stale */
}

static inv_result sync_range(inv_wal *wal, uint64_t from, uint64_t to, inv_error *error) {
    const inv_env *env = wal->env;
    uint64_t current = atomic_load_explicit(&wal->current, memory_order_acquire);
    uint64_t sequence = atomic_load_explicit(&wal->released, memory_order_acquire);
    for (; sequence <= current; sequence++) { /* older segments first */
        inv_wal_segment *segment = &wal->ring[sequence % INV_WAL_RING];
        uint64_t start = inv_max_u64(from, segment->base);
        uint64_t end = inv_min_u64(to, segment->limit);
        if (start >= end) continue;
        uint64_t began = env->clock.mono_ns(env->clock.context);
        uint64_t offset = INV_WAL_HEADER_BYTES + (start - segment->base);
        inv_result result =
            env->storage.sync(env->storage.context, &segment->map, offset, end - start, error);
        if (result != INV_OK && INV_PLANTED(INV_PLANT_SYNC_RETRY))
            result =
                env->storage.sync(env->storage.context, &segment->map, offset, end - start, error);
        if (result != INV_OK) {
            error->lsn = start;
            error->lsn_end = end;
            error->segment = segment->number;
            return result;
        }
        uint64_t took = env->clock.mono_ns(env->clock.context) - began;
        atomic_fetch_add_explicit(&wal->syncs, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&wal->sync_ns_total, took, memory_order_relaxed);
        if (took > atomic_load_explicit(&wal->sync_ns_max, memory_order_relaxed))
            atomic_store_explicit(&wal->sync_ns_max, took, memory_order_relaxed);
    }
    return INV_OK;
}

inv_result inv_wal_flush(inv_wal *wal, uint64_t prefix, bool *out_synced) {
    *out_synced = false;
    if (inv_wal_failed(wal)) return INV_STORE_FAILED;
    if (wal->in_memory) return INV_OK;
    uint64_t durable = inv_wal_durable(wal);
    if (prefix <= durable) {
        if (wal->hint_mono_ms != UINT64_MAX) write_hint(wal, true);
        wal->hint_mono_ms = UINT64_MAX; /* idle: written once, again after the next group */
        return INV_OK;
    }
    if (wal->hint_mono_ms == UINT64_MAX) wal->hint_mono_ms = 0;
    INV_YIELD(wal->env, INV_YIELD_BEFORE_SYNC);
    inv_error error = {0};
    if (sync_range(wal, durable, prefix, &error) != INV_OK) {
        inv_wal_fail(wal, &error);
        return INV_STORE_FAILED;
    }
    INV_YIELD(wal->env, INV_YIELD_BEFORE_PUBLISH);
    /* release: whoever reads this may tell the world about everything below */
    atomic_store_explicit(&wal->durable, prefix, memory_order_release);
    atomic_fetch_add_explicit(&wal->group, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&wal->waiters, memory_order_seq_cst) != 0 ||
        atomic_load_explicit(&wal->followers, memory_order_seq_cst) != 0)
        inv_futex_wake_all(&wal->group);
    atomic_fetch_add_explicit(&wal->groups, 1, memory_order_relaxed);
    write_hint(wal, false);
    *out_synced = true;
    return INV_OK;
}

inv_result inv_wal_wait(inv_wal *wal, uint64_t lsn, uint32_t timeout_ms) {
    const inv_clock *clock = &wal->env->clock;
    uint64_t began = 0;
    for (;;) {
        if (inv_wal_durable(wal) >= lsn || wal->in_memory) return INV_OK;
        if (INV_PLANTED(INV_PLANT_ACK_BEFORE_SYNC) && inv_wal_prefix(wal) >= lsn) return INV_OK;
        if (inv_wal_failed(wal)) return INV_STORE_FAILED;
        if (timeout_ms == 0) return INV_BUSY;
        uint64_t now = clock->mono_ns(clock->context) / 1000000;
        if (began == 0) began = now;
        if (now - began >= timeout_ms) return INV_BUSY;
        uint32_t seen = atomic_load_explicit(&wal->group, memory_order_acquire);
        if (inv_wal_durable(wal) >= lsn) return INV_OK;
        park(wal, seen, timeout_ms - (uint32_t)(now - began));
    }
}

void inv_wal_follow(inv_wal *wal, uint32_t seen, uint64_t lsn, uint32_t timeout_ms) {
    /* seq_cst against inv_wal_flush: either it sees a follower or we see its group */
    atomic_fetch_add_explicit(&wal->followers, 1, memory_order_seq_cst);
    if (inv_wal_durable(wal) <= lsn && !inv_wal_failed(wal))
        inv_futex_wait(&wal->group, seen, timeout_ms);
    atomic_fetch_sub_explicit(&wal->followers, 1, memory_order_relaxed);
}

void inv_wal_nudge(inv_wal *wal) {
    atomic_fetch_add_explicit(&wal->group, 1, memory_order_seq_cst);
    inv_futex_wake_all(&wal->group);
}

void inv_wal_flusher_sleep(inv_wal *wal, uint32_t timeout_ms) {
    atomic_store_explicit(&wal->flusher_asleep, 1, memory_order_seq_cst);
    /* seq_cst against park(): either it sees us asleep or we see it waiting */
    if (atomic_load_explicit(&wal->waiters, memory_order_seq_cst) == 0 ||
        inv_wal_prefix(wal) == inv_wal_durable(wal))
        inv_futex_wait(&wal->flusher_asleep, 1, timeout_ms);
    atomic_store_explicit(&wal->flusher_asleep, 0, memory_order_relaxed);
}

void inv_wal_wake(inv_wal *wal) {
    if (atomic_load_explicit(&wal->flusher_asleep, memory_order_seq_cst) != 0 &&
        atomic_exchange_explicit(&wal->flusher_asleep, 0, memory_order_acq_rel) != 0)
        inv_futex_wake_all(&wal->flusher_asleep);
}
