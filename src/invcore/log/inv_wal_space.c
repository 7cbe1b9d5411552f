/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wal_space.c: see the header for files and states. All but what opening uses is the
 * housekeeper's alone.
 */
#include "inv_wal_space.h"

#include <stdlib.h>

#define PREPARE_PIECE_BYTES (1ull << 20)
#define PACE_SHARE 2u /* what is not urgent waits this many times as long as a piece of it took */
#define RETRY_MS_MIN 1000u /* after an attempt that should not have failed, doubled each time */
#define RETRY_MS_MAX 30000u
#define LISTED_MAX 16u /* reserve files looked at; more of them are looked at the next time */
#define FIRST_TICK_BYTES 512u /* more than the tick that opening logs takes */
#define SPARE "spare-"
#define RESERVE "reserve-"

static const inv_wal_segment *last_ready(const inv_wal *wal) {
    uint64_t ready = atomic_load_explicit(&((inv_wal *)wal)->ready, memory_order_relaxed);
    return &wal->ring[(ready - 1) % INV_WAL_RING];
}

/* Segments ready behind the current one. */
static uint64_t segments_ahead(const inv_wal *wal) {
    return atomic_load_explicit(&((inv_wal *)wal)->ready, memory_order_relaxed) - 1 -
           atomic_load_explicit(&((inv_wal *)wal)->current, memory_order_acquire);
}

static bool ring_is_full(const inv_wal *wal) {
    return atomic_load_explicit(&((inv_wal *)wal)->ready, memory_order_relaxed) -
               atomic_load_explicit(&((inv_wal *)wal)->released, memory_order_relaxed) + 1 >=
           INV_WAL_RING;
}

/* ---- reserve files --------------------------------------------------------------------------- */

#define RESERVES_ALL ((1u << INV_WAL_RESERVE_COUNT) - 1)

static uint32_t reserves_of(const inv_wal *wal) {
    return atomic_load_explicit(&((inv_wal *)wal)->reserves, memory_order_relaxed);
}

static void reserve_name(char out[INV_FILE_NAME_MAX + 1], uint32_t index) {
    inv_wal_segment_name(out, RESERVE, index + 1);
}

static uint32_t lowest(uint32_t bits) { return (uint32_t)__builtin_ctz(bits); }

typedef struct listed {
    uint64_t numbers[LISTED_MAX], sizes[LISTED_MAX];
    uint32_t count;
} listed;

static bool list_reserve(void *argument, const char *name, uint64_t size) {
    listed *list = argument;
    char own[INV_FILE_NAME_MAX + 1];
    size_t prefix = strlen(RESERVE);
    if (strncmp(name, RESERVE, prefix) != 0 || list->count == LISTED_MAX) return true;
    uint64_t number = strtoull(name + prefix, NULL, 16);
    inv_wal_segment_name(own, RESERVE, number);
    if (strcmp(own, name) != 0) return true; /* not one of ours */
    list->numbers[list->count] = number;
    list->sizes[list->count++] = size;
    return true;
}

inv_result inv_wal_keep_reserves(const inv_env *env, uint64_t segment_bytes,
                                 uint32_t *out_reserves, inv_error *error) {
    const inv_storage *storage = &env->storage;
    listed list = {.count = 0};
    *out_reserves = 0;
    inv_result result = storage->list(storage->context, list_reserve, &list, error);
    if (result != INV_OK) return result;
    for (uint32_t i = 0; i < list.count; i++) {
        uint64_t number = list.numbers[i];
        if (number >= 1 && number <= INV_WAL_RESERVE_COUNT && list.sizes[i] == segment_bytes) {
            *out_reserves |= 1u << (number - 1);
            continue;
        }
        char name[INV_FILE_NAME_MAX + 1];
        inv_error ignored = {0};
        inv_wal_segment_name(name, RESERVE, number);
        result = storage->remove(storage->context, name, &ignored);
        (void)result; /* it stays a stranger, and is tried again next time */
    }
    return INV_OK;
}

/* ---- promotion ------------------------------------------------------------------------------- */

/* Gives a prepared and mapped file its header and its name. Everything is durable on return.
 * *out_full: INV_DISK_FULL because the directory has no room for the name; nothing has changed. */
static inv_result promote(inv_wal *wal, const inv_wal_segment_header *header, const char *source,
                          const inv_segment_map *map, uint64_t used_bytes, bool *out_full,
                          inv_error *error) {
    const inv_storage *storage = &wal->env->storage;
    char name[INV_FILE_NAME_MAX + 1];
    inv_wal_segment_name(name, "wal-", header->number);
    inv_wal_encode_segment_header(map->bytes, header);
    *out_full = false;
    inv_result result =
        storage->sync(storage->context, map, 0, INV_WAL_HEADER_BYTES + used_bytes, error);
    if (result != INV_OK) return result;
    result = storage->rename(storage->context, source, name, error);
    *out_full = result == INV_DISK_FULL;
    if (result == INV_OK && !INV_PLANTED(INV_PLANT_NO_DIRECTORY_SYNC))
        result = storage->sync_directory(storage->context, error);
    if (result == INV_OK) result = inv_wal_write_state(wal, header->number, 0, error);
    return result;
}

/* The next segment of a log that runs, out of a prepared file. *out_full as above. */
static inv_result append_segment(inv_wal *wal, const char *source, bool *out_full,
                                 inv_error *error) {
    const inv_storage *storage = &wal->env->storage;
    const inv_wal_segment *last = last_ready(wal);
    inv_segment_map map;
    inv_wal_segment_header header = {
        .format = inv_wal_format(wal),
        .identity = wal->identity,
        .number = last->number + 1,
        .base_lsn = last->limit,
        .epoch = wal->epoch,
        .prev_number = last->number,
        .prev_end_lsn = last->limit,
        .prev_end_offset = last->map.size,
        .segment_bytes = wal->segment_bytes,
        .wall_unix_ms = wal->env->clock.wall_unix_ms(wal->env->clock.context)};
    *out_full = false;
    inv_result result = storage->map(storage->context, source, wal->staged, &map, error);
    if (result != INV_OK) return result;
    result = promote(wal, &header, source, &map, 0, out_full, error);
    if (result != INV_OK) {
        storage->unmap(storage->context, &map);
        return result;
    }
    inv_wal_publish_segment(wal, header.number, header.base_lsn, &map);
    return INV_OK;
}

static inv_result take_reserve(inv_wal *wal, inv_error *error) {
    char name[INV_FILE_NAME_MAX + 1];
    uint32_t reserves = reserves_of(wal);
    bool full = false;
    if (reserves == 0 || ring_is_full(wal)) return INV_OK;
    reserve_name(name, lowest(reserves));
    inv_result result = append_segment(wal, name, &full, error);
    if (full) return INV_OK;
    if (result == INV_OK)
        atomic_store_explicit(&wal->reserves, reserves & (reserves - 1), memory_order_relaxed);
    return result;
}

/* ---- the state of the disk ------------------------------------------------------------------- */

/* With less than this left nothing is claimed any more: the largest claim there is (an expiry, of
 * two records), and what a rotation may waste. */
static uint64_t least_bytes(const inv_wal *wal) { return 2 * inv_wal_rotation_slack(wal) + 256; }

/* Segments that must be ready before a full disk is over. */
static uint64_t ahead_to_leave(const inv_wal *wal) {
    return inv_min_u64(2, wal->segments_ahead_max);
}

void inv_wal_offer_space(inv_wal *wal) {
    uint32_t state = inv_wal_disk_state(wal);
    uint64_t limit = last_ready(wal)->limit;
    bool ordinary = state == INV_DISK_OK || INV_PLANTED(INV_PLANT_RESERVE_FOR_ALL);
    /* release: pairs with the acquires of credit_take; who sees the end sees the segments and, if
     * it is 0, the state */
    atomic_store_explicit(&wal->space_end, state == INV_DISK_READ_ONLY ? 0 : limit,
                          memory_order_release);
    atomic_store_explicit(&wal->ordinary_end, ordinary ? limit : 0, memory_order_release);
}

static void move_to(inv_wal *wal, uint32_t state) {
    uint32_t before = inv_wal_disk_state(wal);
    if (state == before) return;
    if (before == INV_DISK_OK)
        atomic_fetch_add_explicit(&wal->disk_full_count, 1, memory_order_relaxed);
    if (state == INV_DISK_READ_ONLY)
        atomic_fetch_add_explicit(&wal->disk_read_only_count, 1, memory_order_relaxed);
    if (state == INV_DISK_OK)
        atomic_fetch_add_explicit(&wal->disk_recovered_count, 1, memory_order_relaxed);
    atomic_store_explicit(&wal->disk_state, state, memory_order_release);
    inv_wal_offer_space(wal);
}

static uint64_t bytes_left(const inv_wal *wal) {
    return last_ready(wal)->limit -
           atomic_load_explicit(&((inv_wal *)wal)->tail, memory_order_acquire);
}

/* One step of the states, after something was prepared, or was not. */
static inv_result judge_disk(inv_wal *wal, inv_error *error) {
    if (inv_wal_disk_state(wal) == INV_DISK_OK) {
        if (segments_ahead(wal) > 0 || !wal->no_room) return INV_OK;
        move_to(wal, INV_DISK_REFUSING); /* before a reserve is offered to anybody */
    }
    if (segments_ahead(wal) == 0 &&
        bytes_left(wal) < inv_wal_capacity(wal) / 2 + least_bytes(wal)) {
        inv_result result = take_reserve(wal, error);
        if (result != INV_OK) return result;
    }
    uint64_t ahead = segments_ahead(wal);
    if (ahead == 0 && bytes_left(wal) < least_bytes(wal))
        move_to(wal, INV_DISK_READ_ONLY);
    else if (ahead >= ahead_to_leave(wal) && reserves_of(wal) == RESERVES_ALL)
        move_to(wal, INV_DISK_OK);
    else
        move_to(wal, INV_DISK_REFUSING);
    return INV_OK;
}

bool inv_wal_wants_snapshot(const inv_wal *wal, uint64_t newest_lsn, uint64_t older_lsn) {
    if (inv_wal_disk_state(wal) == INV_DISK_OK || wal->past_count == 0) return false;
    uint64_t released = atomic_load_explicit(&((inv_wal *)wal)->released, memory_order_relaxed);
    /* It can't go, nor later ones. */
    const inv_wal_segment *mapped = &wal->ring[released % INV_WAL_RING];
    return wal->past[0].number < mapped->number && older_lsn < mapped->base &&
           newest_lsn < atomic_load_explicit(&((inv_wal *)wal)->tail, memory_order_relaxed);
}

/* ---- preparation ----------------------------------------------------------------------------- */

/* Segments to keep ready: what two seconds at the present rate fill, at least one. */
static uint64_t segments_wanted(inv_wal *wal) {
    const inv_clock *clock = &wal->env->clock;
    uint64_t now = clock->mono_ms(clock->context);
    uint64_t tail = atomic_load_explicit(&wal->tail, memory_order_relaxed);
    if (now >= wal->rate_mono_ms + 100) {
        uint64_t rate = (tail - wal->rate_tail) * 1000 / (now - wal->rate_mono_ms);
        wal->rate_bytes_s = (3 * wal->rate_bytes_s + rate) / 4;
        wal->rate_tail = tail;
        wal->rate_mono_ms = now;
    }
    if (inv_wal_disk_state(wal) != INV_DISK_OK) return ahead_to_leave(wal);
    uint64_t wanted = 1 + 2 * wal->rate_bytes_s / inv_wal_capacity(wal);
    return inv_min_u64(wanted, wal->segments_ahead_max);
}

/* Does a file of this size fit, as far as the system knows? */
static bool room_is_there(const inv_wal *wal, uint64_t file_bytes) {
    const inv_storage *storage = &wal->env->storage;
    uint64_t bytes = 0, files = 0;
    inv_error ignored = {0};
    inv_result result = storage->room(storage->context, &bytes, &files, &ignored);
    return result != INV_OK || (bytes >= file_bytes && files >= 1); /* else: trying tells */
}

static bool may_try(const inv_wal *wal) {
    const inv_clock *clock = &wal->env->clock;
    if (wal->retry_wait_ms > 0 && clock->mono_ms(clock->context) < wal->retry_mono_ms) return false;
    return room_is_there(wal, wal->segment_bytes);
}

static void spare_name(const inv_wal *wal, char out[INV_FILE_NAME_MAX + 1]) {
    inv_wal_segment_name(out, SPARE, wal->preparing_number);
}

/* The disk is full: gives back what was taken. */
static void give_back(inv_wal *wal) {
    const inv_storage *storage = &wal->env->storage;
    char spare[INV_FILE_NAME_MAX + 1];
    inv_error ignored = {0};
    spare_name(wal, spare);
    inv_result result = storage->remove(storage->context, spare, &ignored);
    (void)result; /* there may be none, or opening deletes it */
    wal->preparing = false;
    wal->no_room = true;
}

static void give_up(inv_wal *wal) {
    const inv_clock *clock = &wal->env->clock;
    give_back(wal);
    if (!room_is_there(wal, wal->segment_bytes)) return; /* asking will tell when to try again */
    uint64_t wait = wal->retry_wait_ms == 0 ? RETRY_MS_MIN : 2 * wal->retry_wait_ms;
    wal->retry_wait_ms = inv_min_u64(wait, RETRY_MS_MAX);
    wal->retry_mono_ms = clock->mono_ms(clock->context) + wal->retry_wait_ms;
}

/* Begins a file if one is wanted and there is room for it. */
static bool begin_spare(inv_wal *wal, bool segment_wanted) {
    bool reserve_wanted = reserves_of(wal) != RESERVES_ALL;
    if ((!segment_wanted && !reserve_wanted) || ring_is_full(wal)) return false;
    wal->no_room = !may_try(wal);
    if (wal->no_room) return false;
    wal->preparing = true;
    wal->preparing_number = last_ready(wal)->number + 1;
    wal->preparing_bytes = 0;
    return true;
}

/* A spare that is complete becomes a reserve. */
static inv_result finish_reserve(inv_wal *wal, const char *spare, bool *out_full,
                                 inv_error *error) {
    const inv_storage *storage = &wal->env->storage;
    char name[INV_FILE_NAME_MAX + 1];
    uint32_t reserves = reserves_of(wal), index = lowest(RESERVES_ALL & ~reserves);
    reserve_name(name, index);
    inv_result result = storage->rename(storage->context, spare, name, error);
    *out_full = result == INV_DISK_FULL;
    if (result == INV_OK) result = storage->sync_directory(storage->context, error);
    if (result == INV_OK)
        atomic_store_explicit(&wal->reserves, reserves | 1u << index, memory_order_relaxed);
    return result;
}

/* A spare that is complete becomes what is wanted most. */
static inv_result finish_spare(inv_wal *wal, const char *spare, bool segment_wanted,
                               inv_error *error) {
    bool full = false, as_segment = segment_wanted || reserves_of(wal) == RESERVES_ALL;
    inv_result result = as_segment ? append_segment(wal, spare, &full, error)
                                   : finish_reserve(wal, spare, &full, error);
    if (full) {
        give_up(wal);
        return INV_OK;
    }
    wal->preparing = false;
    wal->retry_wait_ms = 0;
    return result;
}

static uint64_t mono_ns(const inv_wal *wal) {
    return wal->env->clock.mono_ns(wal->env->clock.context);
}

static inv_result prepare_piece(inv_wal *wal, bool segment_wanted, inv_error *error) {
    const inv_storage *storage = &wal->env->storage;
    char spare[INV_FILE_NAME_MAX + 1];
    spare_name(wal, spare);
    uint64_t piece = inv_min_u64(PREPARE_PIECE_BYTES, wal->segment_bytes - wal->preparing_bytes);
    uint64_t began = mono_ns(wal);
    inv_result result =
        storage->prepare(storage->context, spare, wal->preparing_bytes, piece, error);
    wal->pause_until_ns = mono_ns(wal) + PACE_SHARE * (mono_ns(wal) - began);
    if (result == INV_DISK_FULL) {
        give_up(wal);
        return INV_OK;
    }
    if (result != INV_OK) return result;
    wal->preparing_bytes += piece;
    if (wal->preparing_bytes < wal->segment_bytes) return INV_OK;
    return finish_spare(wal, spare, segment_wanted, error);
}

static void release_full_segments(inv_wal *wal) {
    uint64_t current = atomic_load_explicit(&wal->current, memory_order_acquire);
    uint64_t below = atomic_load_explicit(&wal->released, memory_order_relaxed);
    uint64_t durable = inv_wal_durable(wal);
    while (below < current && wal->ring[below % INV_WAL_RING].limit <= durable) below++;
    /* One full segment stays mapped: an appender may just have loaded it as current. */
    if (below > 0) inv_wal_unmap_below(wal, below - 1);
}

/* Is another piece wanted at once? A reserve can wait for the next turn of the housekeeper, unless
 * it is what ends a full disk. */
static bool is_urgent(inv_wal *wal) {
    if (ring_is_full(wal) || wal->no_room) return false;
    return segments_ahead(wal) < segments_wanted(wal) ||
           (inv_wal_disk_state(wal) != INV_DISK_OK && reserves_of(wal) != RESERVES_ALL);
}

inv_result inv_wal_prepare(inv_wal *wal, bool *out_more) {
    *out_more = false;
    if (inv_wal_failed(wal)) return INV_STORE_FAILED;
    if (wal->in_memory) return INV_OK;
    release_full_segments(wal);
    inv_error error = {0};
    inv_result result = INV_OK;
    bool segment_wanted = segments_ahead(wal) < segments_wanted(wal);
    bool now = is_urgent(wal) || mono_ns(wal) >= wal->pause_until_ns;
    if ((wal->preparing && now) || (!wal->preparing && begin_spare(wal, segment_wanted)))
        result = prepare_piece(wal, segment_wanted, &error);
    if (result == INV_OK) result = judge_disk(wal, &error);
    if (result != INV_OK) {
        inv_wal_fail(wal, &error);
        return INV_STORE_FAILED;
    }
    *out_more = is_urgent(wal);
    return INV_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

static inv_result prepare_whole(inv_wal *wal, const char *spare, uint64_t bytes,
                                inv_error *error) {
    const inv_storage *storage = &wal->env->storage;
    inv_result result = INV_OK;
    for (uint64_t at = 0; result == INV_OK && at < bytes; at += PREPARE_PIECE_BYTES)
        result = storage->prepare(storage->context, spare, at,
                                  inv_min_u64(PREPARE_PIECE_BYTES, bytes - at), error);
    return result;
}

/* A reserve that records are about to be written into is none any more: after a crash in between
 * the next opening deletes the file, and has its room. */
static inv_result reserve_to_spare(inv_wal *wal, uint32_t index, const char *spare,
                                   inv_error *error) {
    const inv_storage *storage = &wal->env->storage;
    char name[INV_FILE_NAME_MAX + 1];
    reserve_name(name, index);
    inv_result result = storage->rename(storage->context, name, spare, error);
    return result == INV_OK ? storage->sync_directory(storage->context, error) : result;
}

inv_result inv_wal_first_segment(inv_wal *wal, const inv_wal_segment_header *header,
                                 const uint8_t *relog, uint64_t relog_bytes,
                                 inv_segment_map *out_map, inv_error *error) {
    const inv_storage *storage = &wal->env->storage;
    char source[INV_FILE_NAME_MAX + 1];
    inv_wal_segment_header own = *header;
    uint32_t reserves = reserves_of(wal);
    /* With a reserve, room for the first tick beside the records must do: the next one follows. */
    bool full = false, fits = relog_bytes + inv_wal_rotation_slack(wal) + FIRST_TICK_BYTES <=
                              inv_wal_capacity(wal);
    bool has_reserve = reserves != 0 && fits;
    wal->preparing_number = header->number;
    spare_name(wal, source);
    inv_result result = has_reserve && !room_is_there(wal, header->segment_bytes)
                            ? INV_DISK_FULL
                            : prepare_whole(wal, source, header->segment_bytes, error);
    bool from_reserve = result == INV_DISK_FULL && has_reserve;
    if (from_reserve) {
        give_back(wal);
        own.segment_bytes = wal->segment_bytes;
        result = reserve_to_spare(wal, lowest(reserves), source, error);
    }
    if (result != INV_OK) return result;
    result = storage->map(storage->context, source, wal->staged, out_map, error);
    if (result != INV_OK) return result;
    if (relog_bytes > 0) memcpy(out_map->bytes + INV_WAL_HEADER_BYTES, relog, relog_bytes);
    result = promote(wal, &own, source, out_map, relog_bytes, &full, error);
    if (result != INV_OK) {
        storage->unmap(storage->context, out_map);
        return result;
    }
    if (!from_reserve) return INV_OK;
    atomic_store_explicit(&wal->reserves, reserves & (reserves - 1), memory_order_relaxed);
    atomic_store_explicit(&wal->disk_state, INV_DISK_REFUSING, memory_order_release);
    atomic_fetch_add_explicit(&wal->disk_full_count, 1, memory_order_relaxed);
    return INV_OK;
}
