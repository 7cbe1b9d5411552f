/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_snapshot.h: snapshots of a store that goes on, private to the core.
 *
 *     inv_snapshot.c        when, and the steps: copy, settle, verify, publish, trim
 *     inv_snapshot_copy.c   one stripe under its lock into a buffer, and from there into blocks
 *     inv_snapshot_load.c   back into an empty store, on two threads
 *
 * The file is specified in log/inv_snap_format.h. Everything is done in steps of the housekeeper: a
 * step copies some stripes and writes a block of at most 1 MiB, or reads one back, or removes one
 * file. A failure on the way is not the store's: what was written is removed, and it is tried again
 * later, less and less often. (A failed write of STATE is the store's, as ever.)
 *
 * LOCKS. A stripe's, for the time of a memcpy of it. time_lock at the beginning and the end of
 * copying, so that no id is forgotten in between (inv_snap_format.h says why).
 */
#ifndef INV_SNAPSHOT_H
#define INV_SNAPSHOT_H

#include "../log/inv_snap_reader.h"
#include "inv_store.h"

/* ---- writing --------------------------------------------------------------------------------- */
typedef enum inv_snapshot_phase {
    INV_SNAPSHOT_IDLE = 0,
    INV_SNAPSHOT_COPY,    /* stripe after stripe */
    INV_SNAPSHOT_SETTLE,  /* until all that was copied is durable; then the footer */
    INV_SNAPSHOT_VERIFY,  /* block after block is read back from the disk */
    INV_SNAPSHOT_PUBLISH, /* name, directory, STATE, the mark in the log */
    INV_SNAPSHOT_TRIM     /* older snapshots and segments, one a step */
} inv_snapshot_phase;

typedef struct inv_snapshot_buffer {
    uint8_t *bytes;
    size_t room;
} inv_snapshot_buffer;

/* One stripe as it was under its lock. The parts lie in `bytes` one after the other. */
typedef struct inv_stripe_copy {
    inv_snapshot_buffer bytes, lines, order;
    uint64_t lsn, digest;
    size_t rows_at, names_at, policies_at, chunks_at; /* SKUs are at 0 */
    uint32_t sku_count, rows_used, rows_live, name_bytes, policy_room, policy_count;
    uint32_t chunk_count, line_count, hold_count, ended_count;
} inv_stripe_copy;

typedef struct inv_snapshot {
    inv_snapshot_phase phase;
    uint64_t start_lsn, end_lsn, began_ns;
    uint32_t stripe; /* the next one to be copied */
    inv_stripe_copy copy;
    void *block_memory;
    uint8_t *block; /* the one being filled: an inv_snap_buffer */
    inv_snap_block head;
    uint32_t section_at; /* of the open section in the block; 0: none is open */
    uint64_t file_bytes; /* written so far */
    uint64_t unsynced_bytes;
    inv_snapshot_buffer index; /* of inv_snap_block, those written */
    inv_snap_footer totals;
    inv_snap_clock clock;
    uint64_t verified; /* blocks read back */
    uint64_t shrink_bytes; /* of a file that is being removed, piece by piece: what is left of it */
    uint32_t answers;  /* who asked for a snapshot up to this number gets this one */
    uint64_t tail_paced; /* of the log at the last step: does anybody write? */
    bool serving;        /* somebody did: steps are short, and there are pauses between them */
    uint32_t block_bytes; /* how large the block under way may become */
    uint64_t pause_until_ns;
    uint64_t retry_mono_ms, retry_wait_ms;
    inv_error failure; /* of the last one that failed */
} inv_snapshot;

/* One step for the housekeeper; *out_more: another one can follow at once. Fails only as the store
 * fails. */
INV_MUST_USE inv_result inv_snapshot_step(inv_store *store, bool *out_more);
void inv_snapshot_free(inv_store *store);
/* How long the housekeeper may sleep before it asks for the next step, at most most_ms. */
uint32_t inv_snapshot_pause_ms(const inv_store *store, uint32_t most_ms);

/* ---- inv_snapshot_copy.c --------------------------------------------------------------------- */
/* Copies a stripe under its lock and encodes it. INV_NO_MEMORY, or what writing a block gave. */
INV_MUST_USE inv_result inv_snapshot_put_stripe(inv_store *store, inv_snapshot *snapshot,
                                                uint32_t stripe, inv_error *error);
/* What belongs to no stripe. */
INV_MUST_USE inv_result inv_snapshot_put_globals(inv_store *store, inv_snapshot *snapshot,
                                                 inv_error *error);
/* Writes the block under way, if anything is in it. */
INV_MUST_USE inv_result inv_snapshot_write_block(inv_store *store, inv_snapshot *snapshot,
                                                 inv_error *error);

/* ---- loading --------------------------------------------------------------------------------- */
typedef struct inv_snapshot_found {
    uint64_t start_lsn, end_lsn, bytes;
    inv_format format;
    inv_snap_clock clock;
    uint64_t *floors; /* by stripe: the lsn it is exact as of; inv_env_alloc, the caller frees */
} inv_snapshot_found;

/* Loads into a store whose parts are empty. INV_LOG_CORRUPT (error->message says what),
 * INV_IO_ERROR, INV_FORMAT_UNKNOWN, INV_NO_MEMORY; the parts are to be made anew then. */
INV_MUST_USE inv_result inv_snapshot_load(inv_store *store, uint64_t start_lsn, uint64_t bytes,
                                          inv_snapshot_found *out, inv_error *error);

#endif
