/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wal_writer.h: append and sync. Many appenders, one flusher, group commit.
 *
 *   appender                                      flusher
 *   --------                                      -------
 *   credit_take   (may say no; nothing applied)   T = tail (acquire)
 *   ... decide and apply under stripe locks ...   prefix = min(T, floors of busy lanes)
 *   floor = tail; CAS tail s -> e (release)       sync [durable, prefix), older segment first
 *   ... give the stripe locks back ...            durable = prefix (release), wake
 *   copy payload, header; floor = idle (release)
 *
 * The flusher loads the tail FIRST and the floors after: an appender whose claim it sees has
 * published its floor before; one it does not see is above T. That order is what makes the prefix
 * complete.
 *
 * After credit_take nothing can fail: the window (bytes not yet durable) and the prepared space are
 * both paid for, so a change that is applied always gets its record. A sync that fails poisons the
 * log for good (fail-stop): it is never asked again.
 *
 * SEGMENTS are prepared ahead by inv_wal_prepare (a background thread): written full of zeros,
 * synced, headed, mapped, renamed into place, directory and STATE synced, and only then offered to
 * appenders.
 *
 * In memory mode (no storage) an append only moves the tail.
 */
#ifndef INV_WAL_WRITER_H
#define INV_WAL_WRITER_H

#include "../base/inv_lane.h"
#include "inv_wal_format.h"

#define INV_WAL_RING \
    16u /* segment descriptors: at most 8 ready, the rest full but not yet durable */
#define INV_WAL_WINDOW_BYTES (32ull << 20)   /* appended but not durable, at most */
#define INV_WAL_WINDOW_RESERVED (4ull << 20) /* of it, kept for expiry, ticks and releases */

typedef struct inv_wal_segment {
    uint64_t number, base, limit; /* lsn range [base, limit) */
    inv_segment_map map;
} inv_wal_segment;

typedef struct inv_wal_past { /* a segment of the chain on disk */
    uint64_t number, base;
} inv_wal_past;

typedef struct inv_wal {
    const inv_env *env;
    inv_lanes *lanes;
    bool in_memory;
    inv_wal_identity identity;
    uint32_t seed;
    uint64_t epoch;
    uint64_t segment_bytes;
    bool staged; /* segments are mapped so; constant */
    uint64_t window, window_reserved;
    uint32_t segments_ahead_max;
    uint8_t pad0[INV_CACHE_LINE];

    _Atomic uint64_t tail; /* next lsn to be claimed */
    uint8_t pad1[INV_CACHE_LINE - 8];
    _Atomic uint64_t credit; /* worst-case bytes of claims under way */
    uint8_t pad2[INV_CACHE_LINE - 8];
    _Atomic uint64_t durable; /* everything below is synced */
    _Atomic uint32_t group;   /* futex word: groups made durable (and failures) */
    _Atomic uint32_t waiters; /* callers parked on it */
    _Atomic uint32_t flusher_asleep;
    _Atomic uint32_t failed; /* set once, never cleared */
    uint8_t pad3[INV_CACHE_LINE - 24];

    _Atomic uint64_t current;  /* sequence of the segment being appended to; ring[current % RING] */
    _Atomic uint64_t ready;    /* sequences below this are prepared */
    _Atomic uint64_t released; /* sequences below this are durable and unmapped */
    _Atomic uint64_t space_end; /* limit of the last ready segment */
    _Atomic uint32_t space_low; /* the next segment could not be prepared (disk full) */
    inv_wal_segment ring[INV_WAL_RING];

    /* Housekeeper only. */
    inv_wal_state state;
    inv_lock state_lock; /* STATE is written by prepare and by close */
    uint64_t preparing_number, preparing_bytes;
    bool preparing;
    uint64_t rate_tail, rate_mono_ms, rate_bytes_s;
    inv_wal_past *past; /* all segments there are, oldest first */
    uint32_t past_count, past_room;
    bool past_incomplete; /* there was no memory to remember one: nothing is trimmed any more */

    /* Flusher only. */
    uint64_t hint_mono_ms;
    _Atomic uint64_t groups, syncs, sync_ns_total, sync_ns_max, segment_waits;

    inv_lock failure_lock;
    inv_error failure; /* the first cause; under failure_lock, read after `failed` */
} inv_wal;

typedef struct inv_wal_config {
    inv_wal_identity identity;
    inv_wal_state state; /* as last written, epoch already raised */
    uint64_t segment_bytes;
    uint32_t segments_ahead_max;
    bool staged; /* nobody is answered before a sync: see inv_storage.map */
    const inv_wal_past *past; /* of the chain the new segment continues, oldest first */
    uint32_t past_count;
} inv_wal_config;

/* Memory mode. */
void inv_wal_init_memory(inv_wal *wal, const inv_env *env, inv_lanes *lanes);

/* Starts a log whose next record goes to `base`: writes a new segment after `prev` (number, end,
 * crc) holding the `relog_bytes` of records in `relog` (already re-headed, ending at base +
 * relog_bytes), makes all of it durable and STATE with it. On failure nothing of the old log has
 * been touched. */
INV_MUST_USE inv_result inv_wal_start(inv_wal *wal, const inv_env *env, inv_lanes *lanes,
                                      const inv_wal_config *config,
                                      const inv_wal_segment_header *header, const uint8_t *relog,
                                      uint64_t relog_bytes, inv_error *error);
#ifdef INV_PLANTED_BUGS
/* The planted bug: goes on in the segment recovery has just read, after its last valid record. */
INV_MUST_USE inv_result inv_wal_resume(inv_wal *wal, const inv_env *env, inv_lanes *lanes,
                                       const inv_wal_config *config,
                                       const inv_wal_segment_header *last, uint64_t end_lsn,
                                       inv_error *error);
#endif
void inv_wal_deinit(inv_wal *wal);

/* The only step that may say no. INV_OK: `bytes` of record (inv_wal_record_bytes, worst case) may
 * be appended. INV_BUSY: the disk is behind; INV_DISK_FULL; INV_STORE_FAILED. Privileged claims
 * (expiry, ticks, releases) may use the reserved part of window and space. */
INV_MUST_USE inv_result inv_wal_credit_take(inv_wal *wal, uint64_t bytes, bool privileged);
void inv_wal_credit_give(inv_wal *wal, uint64_t bytes);
/* Parks until credit may be there again (at most 10 ms). */
void inv_wal_credit_wait(inv_wal *wal);

/* Claims the lsn range of one record and returns its start. The lane's floor holds the prefix back
 * until inv_wal_copy. Requires credit; never fails. */
uint64_t inv_wal_claim(inv_wal *wal, inv_lane *lane, uint64_t payload_bytes);

/* Writes the record claimed at lsn and gives the floor back. `payload` has room for 7 zero bytes
 * more. */
void inv_wal_copy(inv_wal *wal, inv_lane *lane, uint64_t lsn, uint8_t *payload,
                  uint32_t payload_bytes);

/* One group commit. INV_OK (*out_synced: something was synced), INV_STORE_FAILED. */
INV_MUST_USE inv_result inv_wal_flush(inv_wal *wal, bool *out_synced);

/* Everything below is copied completely. */
uint64_t inv_wal_prefix(const inv_wal *wal);

static inline uint64_t inv_wal_durable(const inv_wal *wal) {
    return atomic_load_explicit(&((inv_wal *)wal)->durable, memory_order_acquire);
}
static inline bool inv_wal_failed(const inv_wal *wal) {
    return INV_UNLIKELY(atomic_load_explicit(&((inv_wal *)wal)->failed, memory_order_acquire));
}

/* Waits until lsn is durable or timeout_ms have passed. */
INV_MUST_USE inv_result inv_wal_wait(inv_wal *wal, uint64_t lsn, uint32_t timeout_ms);

/* Sleeps until somebody needs a group commit, at most timeout_ms. */
void inv_wal_flusher_sleep(inv_wal *wal, uint32_t timeout_ms);
void inv_wal_wake(inv_wal *wal);

/* One bounded piece of preparation (at most 1 MiB written and synced); *out_more: more is wanted
 * now. A full disk is not a failure here: space_low is set and the next call tries again. */
INV_MUST_USE inv_result inv_wal_prepare(inv_wal *wal, bool *out_more);

/* Poisons the log: every later call that needs it answers INV_STORE_FAILED. The first cause stays.
 */
void inv_wal_fail(inv_wal *wal, const inv_error *cause);

/* Writes STATE; clean_lsn 0 = running. */
INV_MUST_USE inv_result inv_wal_write_state(inv_wal *wal, uint64_t segment_highest,
                                            uint64_t clean_lsn, inv_error *error);
/* The same, with the lsn of the newest snapshot. */
INV_MUST_USE inv_result inv_wal_write_snapshot(inv_wal *wal, uint64_t snapshot_lsn,
                                               inv_error *error);
/* The same, with a newer format; the gate to it is durable. From here on headers say it. */
INV_MUST_USE inv_result inv_wal_write_format(inv_wal *wal, inv_format format, inv_error *error);
inv_format inv_wal_format(inv_wal *wal); /* in force */

/* Removes the oldest segment if all of it lies below `lsn`. For the housekeeper. */
bool inv_wal_trim_one(inv_wal *wal, uint64_t lsn);

void inv_wal_segment_name(char out[INV_FILE_NAME_MAX + 1], const char *prefix, uint64_t number);

#endif
