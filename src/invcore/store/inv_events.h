/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_events.h: the log of an open store as events, and the consumers whose positions are kept;
 * private to the core.
 *
 *     inv_events.c     from a position on: segment files, records, entries, events
 *     inv_consumers.c  positions on disk, and what they keep of the log
 *
 * A reader knows the segments from the writer's list and reads their files through the storage,
 * never further than what is durable; so it shares nothing with appenders but two words that it
 * looks at.
 *
 * LOCK RANK: trim_lock, then one consumer's lock, then names_lock of the consumers. None is held
 * together with any lock of inv_store.h, except past_lock inside trim_lock.
 */
#ifndef INV_EVENTS_H
#define INV_EVENTS_H

#include "inv_store.h"

/* A consumer's file, "consumer-<name>": two slots of 4,096 bytes written alternately, each write
 * synced before the next, so that at most one can be torn. It gets its name when the first slot is
 * synced. A slot:
 *    0 magic "INVCONS\1"   8 u16 major  10 u16 minor  12 u32 slot bytes
 *   16 uuid of the store  32 u64 sequence            40 u64 lsn
 *   48 u32 index          52 u32 flags: bit 0 cut off
 *   56 name, 32 bytes, zeros behind it               88 zero
 * 4092 u32 CRC-32C of 0..4091, seeded from the uuid */
#define INV_CONSUMER_PREFIX "consumer-"
#define INV_CONSUMER_UNFINISHED "newconsumer" /* has no name yet; overwritten by the next one */
#define INV_CONSUMER_SLOT_BYTES 4096u

typedef struct inv_consumer {
    inv_lock lock; /* whoever changes anything here, and writes the file */
    _Atomic uint32_t state; /* inv_consumer_state, or CONSUMER_BEGUN; written under lock */
    _Atomic uint64_t lsn;   /* acknowledged; written under lock, as all below */
    _Atomic uint64_t keep_lsn; /* entries that end above it are still wanted */
    _Atomic uint32_t resets;   /* a reader from before a reset has lost its place */
    uint32_t index;
    uint64_t sequence;
    char name[INV_CONSUMER_NAME_BYTES_MAX + 1]; /* under names_lock too */
} inv_consumer;

typedef struct inv_consumers {
    inv_lock trim_lock;  /* a position is placed, or log is trimmed by all positions */
    inv_lock names_lock; /* who there is */
    _Atomic uint64_t cut_off_total;
    inv_consumer all[INV_CONSUMER_COUNT_MAX];
} inv_consumers;

/* Reads the files there are, at opening, when the end of the log is known and before it goes on.
 * INV_NO_MEMORY, INV_IO_ERROR, INV_LIMIT_EXCEEDED. */
INV_MUST_USE inv_result inv_consumers_load(inv_store *store, inv_error *error);
/* ... and when its segments are known: who is behind them is cut off. */
void inv_consumers_begin(inv_store *store);
void inv_consumers_free(inv_store *store);
void inv_consumers_figures(inv_store *store, inv_metrics *out);

/* Takes the oldest segment out of the log (inv_wal_trim_one) if all of it lies below lsn and no
 * consumer needs it; cuts off those that are too far behind to be waited for. For the housekeeper.
 * False: none was taken. */
bool inv_consumers_trim_one(inv_store *store, uint64_t lsn, const char *to);

/* Why a consumer has no events, INV_OK if it has. */
INV_MUST_USE inv_result inv_consumer_ask(inv_store *store, const inv_consumer *consumer,
                                         inv_error *error);

/* What is durable for certain, and so may be shown. */
static inline uint64_t inv_events_limit(const inv_store *store) {
    return store->options.read_only ? store->proven_lsn : inv_wal_durable(&store->wal);
}

/* Counts the caller in, so that close() waits for it. Call inv_events_leave if INV_OK. */
INV_MUST_USE inv_result inv_events_enter(inv_store *store, inv_error *error);
void inv_events_leave(inv_store *store);

/* INV_EVENTS_TRIMMED, worded for whoever asked for what is behind lsn. */
INV_MUST_USE inv_result inv_events_trimmed(const char *who, uint64_t lsn, uint64_t oldest_lsn,
                                           inv_error *error);

/* Is there all of the log behind lsn, and does it reach so far? lsn 0: from the oldest there is. */
INV_MUST_USE inv_result inv_events_check_position(inv_store *store, uint64_t lsn,
                                                  inv_error *error);

/* A reader that asks `consumer` (NULL: none) before it reads. */
INV_MUST_USE inv_result inv_events_make(inv_store *store, inv_consumer *consumer,
                                        uint64_t after_lsn, uint32_t after_index,
                                        inv_events **out_events, inv_error *error);

#endif
