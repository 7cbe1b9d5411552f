/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_replay.h: replaying the log, private to opening a store.
 *
 *     inv_recover.c        reads records, takes entries out of them, in log order
 *     inv_replay_queue.c   windows of entries, applied by one or two threads
 *     inv_replay.c         what an entry does
 *
 * Memory latency is the cost of replay, and two processors hide twice as much of it as one. So an
 * entry that touches one stripe alone (nearly all do) waits in a window until there are many; then
 * its lines are fetched step by step, as in inv_batch_run.c, and it is applied. Stripes are dealt
 * out to parts; a part is applied by one thread at a time, in log order. What is built is what one
 * thread going through the log would build.
 *
 * Everything else (a cart, a part under an op_id, a tick, the name of a location) is applied alone,
 * when all before it is done.
 */
#ifndef INV_REPLAY_H
#define INV_REPLAY_H

#include "inv_store.h"

#define INV_REPLAY_PARTS 8u           /* stripe modulo this is the part */
#define INV_REPLAY_WINDOWS 4u         /* one is filled while the others are applied */
#define INV_REPLAY_PART_ENTRIES 128u  /* of one window */
#define INV_REPLAY_TEXT_BYTES 32768u  /* of one window: ids and names that are texts */

/* Where an entry stands. */
typedef struct inv_replay_place {
    uint64_t time_ms;    /* decision time of the record */
    uint64_t lsn;        /* end of the entry */
    uint64_t record_lsn; /* start of the record */
    uint64_t record_end;
    uint32_t offset; /* of the entry in the record's payload */
    uint32_t stripe; /* the only one it may touch; INV_NUMBER_NONE: any, nobody else is at work */
} inv_replay_place;

/* An entry in a window: its effect without what entries of one stripe do not have. */
typedef struct inv_replay_entry {
    inv_replay_place place;
    uint64_t hash; /* of the id; NAME: of the name */
    inv_change_line line;
    uint32_t account, body_hash, deadline_ms;
    uint32_t text_at;     /* in the window's texts, when there is a text */
    uint16_t text_length; /* 0: the id is a UUID, or there is none */
    uint16_t seller;
    uint8_t kind, state;
    bool whole, has_id;
    uint8_t uuid[16];
} inv_replay_entry;
_Static_assert(sizeof(inv_replay_entry) == 104, "an entry of a window is small");

typedef struct inv_replay_failure {
    inv_result result; /* INV_OK: none */
    uint8_t kind;
    inv_replay_place place;
} inv_replay_failure;

/* ---- inv_replay.c ---------------------------------------------------------------------------- */
/* Hash of the id of an entry, 0 without one; of a SKU's name. The seller is known. */
uint64_t inv_replay_hash(const inv_store *store, const inv_effect *effect);
/* The reservation that an entry is about. */
void inv_replay_key(const inv_effect *effect, uint64_t hash, inv_hold_key *out);

/* Applies an entry of any kind but CLOCK_TICK; hash is inv_replay_hash of it. */
INV_MUST_USE inv_result inv_replay_apply(inv_store *store, const inv_effect *effect, uint64_t hash,
                                         const inv_replay_place *place);

/* Applies entries of one part of a window in order; *out_failed is the first that could not be
 * (then those behind it are not applied). */
INV_MUST_USE inv_result inv_replay_apply_part(inv_store *store, const inv_replay_entry *entries,
                                              uint32_t count, const char *texts,
                                              uint32_t *out_failed);

/* ---- inv_replay_queue.c (all but the part work by the opening thread only) ------------------- */
typedef struct inv_replay_queue inv_replay_queue;

/* NULL: no memory. */
inv_replay_queue *inv_replay_queue_create(inv_store *store);
/* Ends the second thread, if there is one, and frees. */
void inv_replay_queue_destroy(inv_replay_queue *queue);

/* Puts an entry of one stripe into the window. Entries of one id that are under way together are in
 * one part, so that they keep their order; else those before are finished first. */
void inv_replay_queue_put(inv_replay_queue *queue, const inv_effect *effect, uint64_t hash,
                          const inv_replay_place *place);

/* Returns when everything put so far is applied: the first failure in log order, if any. */
inv_replay_failure inv_replay_queue_drain(inv_replay_queue *queue);

/* True once some entry could not be applied: no use going on. */
bool inv_replay_queue_has_failed(const inv_replay_queue *queue);

/* Ids of reservations of several lines. An id that was noted always may be one; another one may be
 * taken for one, by its hash. */
void inv_replay_queue_note_cart(inv_replay_queue *queue, uint64_t hash);
bool inv_replay_queue_may_be_cart(const inv_replay_queue *queue, uint64_t hash);

#endif
