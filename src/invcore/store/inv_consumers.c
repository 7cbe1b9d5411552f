/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_consumers.c: named positions in the log that last, and what they keep of it.
 *
 * An acknowledgement is one write of 4 KiB, synced, whatever the consumer has read. It takes the
 * consumer's own lock and no other; trimming looks at positions without it.
 *
 * What is acknowledged only moves forward. A torn write leaves the slot before it, so after a crash
 * a consumer may be told events again that it was acknowledging, and never fewer than all others.
 * Not even the mark "cut off" has to survive: whose position is older than the log has missed
 * something, and is told so (see inv_consumers_begin).
 *
 * Rejected: positions in the log itself (a consumer that does nothing but read would make the log
 * grow, and snapshots would have to carry them), one file for all (a sync of one is a wait of all).
 */
#include "inv_events.h"

#include <stdio.h>

#include "../base/inv_crc32c.h"

#define CONSUMER_MAGIC "INVCONS\1"
#define CONSUMER_MAJOR 1u
#define CONSUMER_CUT_OFF_FLAG 1u
#define CONSUMER_NAME_ROOM 32u
#define CONSUMER_BEGUN 100u /* a state of its own: has a place, but no file yet */

_Static_assert(sizeof INV_CONSUMER_PREFIX - 1 + INV_CONSUMER_NAME_BYTES_MAX <= INV_FILE_NAME_MAX,
               "a consumer's file has a name that storage takes");
_Static_assert(CONSUMER_NAME_ROOM >= INV_CONSUMER_NAME_BYTES_MAX, "a name fits its slot");

/* ---- a slot ---------------------------------------------------------------------------------- */

typedef struct slot {
    uint64_t sequence, lsn;
    uint32_t index;
    bool cut_off;
} slot;

static void encode_slot(uint8_t out[INV_CONSUMER_SLOT_BYTES], const inv_store *store,
                        const char *name, const slot *from) {
    memset(out, 0, INV_CONSUMER_SLOT_BYTES);
    memcpy(out, CONSUMER_MAGIC, 8);
    inv_put_u16(out + 8, CONSUMER_MAJOR);
    inv_put_u32(out + 12, INV_CONSUMER_SLOT_BYTES);
    memcpy(out + 16, store->identity.uuid, 16);
    inv_put_u64(out + 32, from->sequence);
    inv_put_u64(out + 40, from->lsn);
    inv_put_u32(out + 48, from->index);
    inv_put_u32(out + 52, from->cut_off ? CONSUMER_CUT_OFF_FLAG : 0);
    memcpy(out + 56, name, strlen(name));
    inv_put_u32(out + INV_CONSUMER_SLOT_BYTES - 4,
                inv_crc32c(inv_wal_seed(store->identity.uuid), out, INV_CONSUMER_SLOT_BYTES - 4));
}

static bool decode_slot(const uint8_t *bytes, const inv_store *store, const char *name,
                        slot *out) {
    uint8_t shown[CONSUMER_NAME_ROOM] = {0};
    uint32_t crc =
        inv_crc32c(inv_wal_seed(store->identity.uuid), bytes, INV_CONSUMER_SLOT_BYTES - 4);
    memcpy(shown, name, strlen(name));
    if (memcmp(bytes, CONSUMER_MAGIC, 8) != 0 || inv_load_u16(bytes + 8) != CONSUMER_MAJOR ||
        inv_load_u32(bytes + INV_CONSUMER_SLOT_BYTES - 4) != crc ||
        memcmp(bytes + 16, store->identity.uuid, 16) != 0 ||
        memcmp(bytes + 56, shown, sizeof shown) != 0)
        return false;
    *out = (slot){.sequence = inv_load_u64(bytes + 32),
                  .lsn = inv_load_u64(bytes + 40),
                  .index = inv_load_u32(bytes + 48),
                  .cut_off = (inv_load_u32(bytes + 52) & CONSUMER_CUT_OFF_FLAG) != 0};
    return true;
}

/* ---- names ----------------------------------------------------------------------------------- */

static bool is_name(const char *bytes, size_t length) {
    if (length < 1 || length > INV_CONSUMER_NAME_BYTES_MAX) return false;
    for (size_t i = 0; i < length; i++) {
        char c = bytes[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!plain && (i == 0 || (c != '.' && c != '-'))) return false;
    }
    return true;
}

static inv_result check_name(inv_text name, inv_error *error) {
    if (name.bytes != NULL && is_name(name.bytes, name.length)) return INV_OK;
    return inv_fail(error, INV_BAD_REQUEST, 0,
                    "name must be 1 to %u of a-z, 0-9, '.' and '-', the first a letter or digit",
                    INV_CONSUMER_NAME_BYTES_MAX);
}

static void file_name(char out[INV_FILE_NAME_MAX + 1], const char *name) {
    (void)snprintf(out, INV_FILE_NAME_MAX + 1, INV_CONSUMER_PREFIX "%s", name);
}

static inline uint32_t state_of(const inv_consumer *consumer) {
    return atomic_load_explicit(&((inv_consumer *)consumer)->state, memory_order_acquire);
}

static bool is_called(const inv_consumer *consumer, inv_text name) {
    return consumer->name[0] != '\0' && strlen(consumer->name) == name.length &&
           memcmp(consumer->name, name.bytes, name.length) == 0;
}

/* The consumer of that name; `begin`: else a free place, which it has from now on. */
static inv_consumer *find(inv_store *store, inv_text name, bool begin) {
    inv_consumers *consumers = store->consumers;
    inv_consumer *found = NULL, *free_one = NULL;
    inv_lock_take(&consumers->names_lock);
    for (uint32_t i = 0; i < INV_CONSUMER_COUNT_MAX && found == NULL; i++) {
        inv_consumer *one = &consumers->all[i];
        if (is_called(one, name)) found = one;
        else if (one->name[0] == '\0' && free_one == NULL) free_one = one;
    }
    if (found == NULL && begin && free_one != NULL) {
        found = free_one;
        memcpy(found->name, name.bytes, name.length);
        found->name[name.length] = '\0';
        atomic_store_explicit(&found->state, CONSUMER_BEGUN, memory_order_release);
    }
    inv_lock_give(&consumers->names_lock);
    return found;
}

/* Gives the place of a consumer back; its lock is held. */
static void forget(inv_store *store, inv_consumer *consumer) {
    inv_lock_take(&store->consumers->names_lock);
    atomic_store_explicit(&consumer->state, INV_CONSUMER_NONE, memory_order_release);
    memset(consumer->name, 0, sizeof consumer->name);
    inv_lock_give(&store->consumers->names_lock);
    atomic_fetch_add_explicit(&consumer->resets, 1, memory_order_release);
}

/* ---- positions ------------------------------------------------------------------------------- */

/* In memory; lock held, and trim_lock where it may go back. */
static void place(inv_consumer *consumer, uint64_t lsn, uint32_t index, uint32_t state) {
    bool between = index != INV_EVENT_INDEX_ALL; /* of the entry that ends there more is wanted */
    consumer->index = index;
    atomic_store_explicit(&consumer->lsn, lsn, memory_order_release);
    atomic_store_explicit(&consumer->keep_lsn, lsn - (between && lsn > 0 ? 1 : 0),
                          memory_order_release);
    atomic_store_explicit(&consumer->state, state, memory_order_release);
}

/* Writes the slot that is not the newest. `made`: the file has its name already. */
static inv_result write_slot(inv_store *store, inv_consumer *consumer, uint64_t lsn,
                             uint32_t index, bool cut_off, bool made, inv_error *error) {
    const inv_storage *storage = &store->env->storage;
    uint8_t bytes[INV_CONSUMER_SLOT_BYTES];
    char name[INV_FILE_NAME_MAX + 1];
    slot next = {consumer->sequence + 1, lsn, index, cut_off};
    file_name(name, consumer->name);
    encode_slot(bytes, store, consumer->name, &next);
    inv_result result = storage->write(
        storage->context, made ? name : INV_CONSUMER_UNFINISHED,
        (next.sequence & 1) * INV_CONSUMER_SLOT_BYTES, bytes, sizeof bytes, true, error);
    if (result == INV_OK) consumer->sequence = next.sequence;
    return result;
}

static inv_result refuse_state(inv_store *store, const inv_consumer *consumer, inv_error *error) {
    uint64_t lsn = atomic_load_explicit(&((inv_consumer *)consumer)->lsn, memory_order_acquire);
    switch (state_of(consumer)) {
    case INV_CONSUMER_LIVE:
        return INV_OK;
    case INV_CONSUMER_CUT_OFF: {
        inv_wal_place there = inv_wal_find(&store->wal, lsn);
        uint64_t missed_to = inv_max_u64(lsn, there.oldest_lsn);
        return inv_events_trimmed("consumer: cut off, to be reset", lsn, missed_to, error);
    }
    case INV_CONSUMER_DAMAGED:
        return inv_fail(error, INV_LOG_CORRUPT, 0,
                        "consumer: its file can't be read or does not fit the log; reset it");
    default:
        return inv_fail(error, INV_BAD_REQUEST, 0, "name is that of no consumer");
    }
}

inv_result inv_consumer_ask(inv_store *store, const inv_consumer *consumer, inv_error *error) {
    return refuse_state(store, consumer, error);
}

/* ---- opening the store ----------------------------------------------------------------------- */

typedef struct listing {
    inv_consumers *consumers;
    uint32_t count;
} listing;

static bool visit_file(void *argument, const char *name, uint64_t size) {
    listing *list = argument;
    const char *rest = name + sizeof INV_CONSUMER_PREFIX - 1;
    (void)size;
    if (strncmp(name, INV_CONSUMER_PREFIX, sizeof INV_CONSUMER_PREFIX - 1) != 0 ||
        !is_name(rest, strlen(rest)))
        return true;
    if (list->count < INV_CONSUMER_COUNT_MAX)
        memcpy(list->consumers->all[list->count].name, rest, strlen(rest) + 1);
    list->count++;
    return true;
}

/* The newer of the slots that are whole. False: none is. */
static bool newest_slot(const inv_store *store, const char *name, const uint8_t *bytes,
                        slot *out) {
    slot one;
    bool found = false;
    for (uint32_t i = 0; i < 2; i++) {
        if (!decode_slot(bytes + i * INV_CONSUMER_SLOT_BYTES, store, name, &one)) continue;
        if (!found || one.sequence > out->sequence) *out = one;
        found = true;
    }
    return found;
}

static inv_result load_one(inv_store *store, inv_consumer *consumer, inv_error *error) {
    const inv_storage *storage = &store->env->storage;
    uint8_t bytes[2 * INV_CONSUMER_SLOT_BYTES] = {0};
    char name[INV_FILE_NAME_MAX + 1];
    uint64_t got = 0;
    slot newest = {0};
    file_name(name, consumer->name);
    inv_result result =
        storage->read(storage->context, name, 0, bytes, sizeof bytes, &got, error);
    if (result != INV_OK) return result;
    uint32_t state = INV_CONSUMER_DAMAGED;
    if (newest_slot(store, consumer->name, bytes, &newest))
        state = newest.cut_off ? INV_CONSUMER_CUT_OFF : INV_CONSUMER_LIVE;
    consumer->sequence = newest.sequence;
    /* What it has read was lost, and an operator has accepted that: durably, before the log goes on
     * to where it stands. */
    if (state == INV_CONSUMER_LIVE && newest.lsn > store->recovery.lsn_end) {
        state = INV_CONSUMER_CUT_OFF;
        if (!store->options.read_only)
            result = write_slot(store, consumer, newest.lsn, newest.index, true, true, error);
    }
    place(consumer, newest.lsn, newest.index, state);
    return result;
}

inv_result inv_consumers_load(inv_store *store, inv_error *error) {
    const inv_storage *storage = &store->env->storage;
    store->consumers = inv_env_alloc(store->env, sizeof *store->consumers);
    if (store->consumers == NULL)
        return inv_fail(error, INV_NO_MEMORY, 0, "no memory for consumers");
    listing list = {store->consumers, 0};
    inv_result result = storage->list(storage->context, visit_file, &list, error);
    if (result != INV_OK) return result;
    if (list.count > INV_CONSUMER_COUNT_MAX)
        return inv_fail(error, INV_LIMIT_EXCEEDED, 0, "consumers have %u files, at most %u can be",
                        list.count, INV_CONSUMER_COUNT_MAX);
    for (uint32_t i = 0; i < list.count && result == INV_OK; i++)
        result = load_one(store, &store->consumers->all[i], error);
    return result;
}

void inv_consumers_begin(inv_store *store) {
    for (uint32_t i = 0; i < INV_CONSUMER_COUNT_MAX; i++) {
        inv_consumer *one = &store->consumers->all[i];
        uint64_t keep = atomic_load_explicit(&one->keep_lsn, memory_order_relaxed);
        inv_wal_place there = inv_wal_find(&store->wal, keep);
        if (state_of(one) == INV_CONSUMER_LIVE && there.number == 0 && keep < there.oldest_lsn)
            atomic_store_explicit(&one->state, INV_CONSUMER_CUT_OFF, memory_order_release);
    }
}

void inv_consumers_free(inv_store *store) {
    inv_env_free(store->env, store->consumers, sizeof *store->consumers);
    store->consumers = NULL;
}

/* ---- trimming -------------------------------------------------------------------------------- */

static uint64_t lag_of(const inv_store *store, uint64_t lsn) {
    uint64_t limit = inv_events_limit(store);
    return limit > lsn ? limit - lsn : 0;
}

/* trim_lock is held. If its mark can't be written it is cut off all the same on opening. */
static void cut_off(inv_store *store, inv_consumer *consumer) {
    inv_error ignored = {0};
    inv_lock_take(&consumer->lock);
    uint64_t lsn = atomic_load_explicit(&consumer->lsn, memory_order_relaxed);
    bool still = state_of(consumer) == INV_CONSUMER_LIVE &&
                 lag_of(store, lsn) > store->options.consumer_log_bytes_max;
    if (still) {
        inv_result result =
            write_slot(store, consumer, lsn, consumer->index, true, true, &ignored);
        (void)result;
        atomic_store_explicit(&consumer->state, INV_CONSUMER_CUT_OFF, memory_order_release);
        atomic_fetch_add_explicit(&store->consumers->cut_off_total, 1, memory_order_relaxed);
    }
    inv_lock_give(&consumer->lock);
}

/* What may be trimmed, so that everybody who can be waited for finds the rest. trim_lock held. */
static uint64_t lowest_needed(inv_store *store, uint64_t lsn) {
    uint64_t oldest_end = inv_wal_find(&store->wal, 0).oldest_end_lsn;
    if (oldest_end > lsn) return lsn; /* nothing would go: nobody needs to be asked */
    for (uint32_t i = 0; i < INV_CONSUMER_COUNT_MAX; i++) {
        inv_consumer *one = &store->consumers->all[i];
        if (state_of(one) != INV_CONSUMER_LIVE) continue;
        if (atomic_load_explicit(&one->keep_lsn, memory_order_acquire) >= oldest_end) continue;
        uint64_t at = atomic_load_explicit(&one->lsn, memory_order_acquire);
        if (lag_of(store, at) > store->options.consumer_log_bytes_max) cut_off(store, one);
        if (state_of(one) == INV_CONSUMER_LIVE)
            lsn = inv_min_u64(lsn, atomic_load_explicit(&one->keep_lsn, memory_order_acquire));
    }
    return lsn;
}

bool inv_consumers_trim_one(inv_store *store, uint64_t lsn, const char *to) {
    inv_lock_take(&store->consumers->trim_lock);
    bool trimmed = inv_wal_trim_one(&store->wal, lowest_needed(store, lsn), to);
    inv_lock_give(&store->consumers->trim_lock);
    return trimmed;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static inv_result enter(inv_store *store, inv_text name, bool writes, inv_error *error) {
    memset(error, 0, sizeof *error);
    inv_result result = check_name(name, error);
    if (result == INV_OK) result = inv_events_enter(store, error);
    if (result != INV_OK) return result;
    if (!writes || !store->options.read_only) return INV_OK;
    inv_events_leave(store);
    return inv_fail(error, INV_FORBIDDEN, 0, "read_only: a store opened so writes nothing");
}

/* A position in the log that is still all there, from which on it is kept. trim_lock is held. */
static inv_result settle_position(inv_store *store, uint64_t *lsn, inv_error *error) {
    inv_result result = inv_events_check_position(store, *lsn, error);
    if (result != INV_OK) return result;
    if (*lsn > inv_events_limit(store))
        return inv_fail(error, INV_BAD_REQUEST, 0, "lsn is %llu: not durable yet",
                        (unsigned long long)*lsn);
    if (*lsn == 0) *lsn = inv_wal_find(&store->wal, 0).oldest_lsn;
    return INV_OK;
}

/* The consumer's lock is held. Its file, complete or not at all. */
static inv_result make_file(inv_store *store, inv_consumer *consumer, uint64_t lsn,
                            inv_error *error) {
    const inv_storage *storage = &store->env->storage;
    inv_error ignored = {0};
    char name[INV_FILE_NAME_MAX + 1];
    file_name(name, consumer->name);
    inv_result result =
        storage->remove(storage->context, INV_CONSUMER_UNFINISHED, &ignored);
    (void)result; /* hardly ever is there one */
    consumer->sequence = 0;
    /* Both slots: an acknowledgement never needs room on the disk. */
    for (uint32_t i = 0; i < 2; i++) {
        result = write_slot(store, consumer, lsn, INV_EVENT_INDEX_ALL, false, false, error);
        if (result != INV_OK) return result;
    }
    result = storage->rename(storage->context, INV_CONSUMER_UNFINISHED, name, error);
    if (result == INV_OK) result = storage->sync_directory(storage->context, error);
    return result;
}

/* trim_lock and the consumer's lock are held: it has a place but no file. */
static inv_result make_one(inv_store *store, inv_consumer *consumer, uint64_t lsn,
                           inv_error *error) {
    inv_result result = settle_position(store, &lsn, error);
    if (result == INV_OK) result = make_file(store, consumer, lsn, error);
    if (result == INV_OK) place(consumer, lsn, INV_EVENT_INDEX_ALL, INV_CONSUMER_LIVE);
    else forget(store, consumer);
    return result;
}

/* Once: *out_again when the place was given back by somebody else meanwhile. */
static inv_result open_once(inv_store *store, inv_text name, uint64_t after_lsn, bool *out_again,
                            inv_error *error) {
    *out_again = false;
    inv_consumer *consumer = find(store, name, true);
    if (consumer == NULL)
        return inv_fail(error, INV_LIMIT_EXCEEDED, 0, "consumers are %u already: remove one",
                        INV_CONSUMER_COUNT_MAX);
    if (state_of(consumer) != CONSUMER_BEGUN) return INV_OK;
    inv_lock_take(&consumer->lock);
    inv_result result = INV_OK;
    *out_again = !is_called(consumer, name);
    if (!*out_again && state_of(consumer) == CONSUMER_BEGUN)
        result = make_one(store, consumer, after_lsn, error);
    inv_lock_give(&consumer->lock);
    return result;
}

inv_result inv_store_consumer_open(inv_store *store, inv_text name, uint64_t after_lsn,
                                   inv_error *error) {
    inv_error ignored = {0};
    if (error == NULL) error = &ignored;
    memset(error, 0, sizeof *error);
    bool again = true;
    inv_result result = check_name(name, error);
    if (result == INV_OK) result = inv_events_enter(store, error);
    if (result != INV_OK) return result;
    inv_consumer *there = find(store, name, false);
    if (there != NULL && state_of(there) != CONSUMER_BEGUN) {
        inv_events_leave(store);
        return INV_OK;
    }
    inv_events_leave(store);
    result = enter(store, name, true, error);
    if (result != INV_OK) return result;
    /* Makers wait for one another: they share the name of the unfinished file. */
    inv_lock_take(&store->consumers->trim_lock);
    while (again && result == INV_OK) result = open_once(store, name, after_lsn, &again, error);
    inv_lock_give(&store->consumers->trim_lock);
    inv_events_leave(store);
    return result;
}

/* Finds the consumer and takes its lock; INV_BAD_REQUEST: there is none. */
static inv_result take(inv_store *store, inv_text name, inv_consumer **out, inv_error *error) {
    inv_consumer *consumer = find(store, name, false);
    if (consumer != NULL) {
        inv_lock_take(&consumer->lock);
        uint32_t state = state_of(consumer);
        if (is_called(consumer, name) && state != INV_CONSUMER_NONE && state != CONSUMER_BEGUN) {
            *out = consumer;
            return INV_OK;
        }
        inv_lock_give(&consumer->lock);
    }
    return inv_fail(error, INV_BAD_REQUEST, 0, "name is that of no consumer: '%.*s'",
                    (int)name.length, name.bytes);
}

static bool is_behind(const inv_consumer *consumer, uint64_t lsn, uint32_t index) {
    uint64_t at = atomic_load_explicit(&((inv_consumer *)consumer)->lsn, memory_order_relaxed);
    return lsn < at || (lsn == at && index <= consumer->index);
}

inv_result inv_store_consumer_acknowledge(inv_store *store, inv_text name, uint64_t lsn,
                                          uint32_t index, inv_error *error) {
    inv_error ignored = {0};
    if (error == NULL) error = &ignored;
    inv_consumer *consumer;
    inv_result result = enter(store, name, true, error);
    if (result != INV_OK) return result;
    result = take(store, name, &consumer, error);
    if (result != INV_OK) {
        inv_events_leave(store);
        return result;
    }
    result = refuse_state(store, consumer, error);
    if (result == INV_OK && lsn > inv_events_limit(store))
        result = inv_fail(error, INV_BAD_REQUEST, 0, "lsn is %llu: not durable yet",
                          (unsigned long long)lsn);
    if (result == INV_OK && !is_behind(consumer, lsn, index)) {
        result = write_slot(store, consumer, lsn, index, false, true, error);
        if (result == INV_OK) place(consumer, lsn, index, INV_CONSUMER_LIVE);
    }
    inv_lock_give(&consumer->lock);
    inv_events_leave(store);
    return result;
}

/* A file of which no slot can be read gets a whole new one; else the slots go on taking turns. */
static inv_result rewrite(inv_store *store, inv_consumer *consumer, uint64_t lsn,
                          inv_error *error) {
    if (state_of(consumer) == INV_CONSUMER_DAMAGED) return make_file(store, consumer, lsn, error);
    return write_slot(store, consumer, lsn, INV_EVENT_INDEX_ALL, false, true, error);
}

inv_result inv_store_consumer_reset(inv_store *store, inv_text name, uint64_t after_lsn,
                                    inv_error *error) {
    inv_error ignored = {0};
    if (error == NULL) error = &ignored;
    inv_consumer *consumer;
    inv_result result = enter(store, name, true, error);
    if (result != INV_OK) return result;
    inv_lock_take(&store->consumers->trim_lock); /* nothing goes between looking and placing */
    result = take(store, name, &consumer, error);
    if (result == INV_OK) {
        result = settle_position(store, &after_lsn, error);
        if (result == INV_OK) result = rewrite(store, consumer, after_lsn, error);
        if (result == INV_OK) {
            place(consumer, after_lsn, INV_EVENT_INDEX_ALL, INV_CONSUMER_LIVE);
            atomic_fetch_add_explicit(&consumer->resets, 1, memory_order_release);
        }
        inv_lock_give(&consumer->lock);
    }
    inv_lock_give(&store->consumers->trim_lock);
    inv_events_leave(store);
    return result;
}

inv_result inv_store_consumer_remove(inv_store *store, inv_text name, inv_error *error) {
    inv_error ignored = {0};
    if (error == NULL) error = &ignored;
    inv_consumer *consumer;
    inv_result result = enter(store, name, true, error);
    if (result != INV_OK) return result;
    result = take(store, name, &consumer, error);
    if (result == INV_OK) {
        const inv_storage *storage = &store->env->storage;
        char file[INV_FILE_NAME_MAX + 1];
        file_name(file, consumer->name);
        result = storage->remove(storage->context, file, error);
        if (result == INV_OK) {
            forget(store, consumer);
            result = storage->sync_directory(storage->context, error);
        }
        inv_lock_give(&consumer->lock);
    }
    inv_events_leave(store);
    return result;
}

inv_result inv_events_open_consumer(inv_store *store, inv_text name, inv_events **out_events,
                                    inv_error *error) {
    inv_error ignored = {0};
    if (error == NULL) error = &ignored;
    inv_consumer *consumer;
    inv_result result = enter(store, name, false, error);
    if (result != INV_OK) return result;
    result = take(store, name, &consumer, error);
    if (result == INV_OK) {
        result = refuse_state(store, consumer, error);
        if (result == INV_OK)
            result = inv_events_make(
                store, consumer, atomic_load_explicit(&consumer->lsn, memory_order_relaxed),
                consumer->index, out_events, error);
        inv_lock_give(&consumer->lock);
    }
    inv_events_leave(store);
    return result;
}

/* ---- looking --------------------------------------------------------------------------------- */

uint32_t inv_store_consumers(inv_store *store, inv_consumer_info out[INV_CONSUMER_COUNT_MAX]) {
    uint32_t count = 0;
    if (store->consumers == NULL) return 0;
    for (uint32_t i = 0; i < INV_CONSUMER_COUNT_MAX; i++) {
        inv_consumer *one = &store->consumers->all[i];
        uint32_t state = state_of(one);
        if (state == INV_CONSUMER_NONE || state == CONSUMER_BEGUN) continue;
        inv_lock_take(&one->lock);
        state = state_of(one);
        if (state != INV_CONSUMER_NONE && state != CONSUMER_BEGUN) {
            inv_consumer_info *info = &out[count++];
            memset(info, 0, sizeof *info);
            memcpy(info->name, one->name, sizeof info->name);
            info->state = (uint8_t)state;
            info->lsn = atomic_load_explicit(&one->lsn, memory_order_relaxed);
            info->index = one->index;
            info->lag_bytes = lag_of(store, info->lsn);
        }
        inv_lock_give(&one->lock);
    }
    return count;
}

void inv_consumers_figures(inv_store *store, inv_metrics *out) {
    inv_consumers *consumers = store->consumers;
    if (consumers == NULL) return;
    for (uint32_t i = 0; i < INV_CONSUMER_COUNT_MAX; i++) {
        const inv_consumer *one = &consumers->all[i];
        uint32_t state = state_of(one);
        if (state == INV_CONSUMER_NONE || state == CONSUMER_BEGUN) continue;
        out->consumers++;
        if (state != INV_CONSUMER_LIVE) continue;
        uint64_t lsn = atomic_load_explicit(&((inv_consumer *)one)->lsn, memory_order_acquire);
        out->consumer_lag_bytes = inv_max_u64(out->consumer_lag_bytes, lag_of(store, lsn));
    }
    out->consumers_cut_off =
        atomic_load_explicit(&consumers->cut_off_total, memory_order_relaxed);
}
