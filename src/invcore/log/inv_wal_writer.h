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
 * appenders. What a full disk means is told in inv_wal_space.h.
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
#define INV_WAL_RESERVE_COUNT 2u /* reserve files: prepared segments kept for a full disk */

/* What a claim is for, and so what it may use beyond the ordinary. */
typedef enum inv_wal_class {
    INV_WAL_ORDINARY = 0, /* whatever may be asked again later */
    INV_WAL_SETTLING,     /* keeps a promise (commit, ship, cancel): the reserve segments */
    INV_WAL_FREEING       /* release, expiry, ticks, marks: and the reserved part of the window */
} inv_wal_class;

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
    _Atomic uint32_t followers; /* readers parked on it: woken like those, but nobody hurries */
    _Atomic uint32_t flusher_asleep;
    _Atomic uint32_t failed; /* set once, never cleared */
    uint8_t pad3[INV_CACHE_LINE - 28];

    _Atomic uint64_t current;  /* sequence of the segment being appended to; ring[current % RING] */
    _Atomic uint64_t ready;    /* sequences below this are prepared */
    _Atomic uint64_t released; /* sequences below this are durable and unmapped */
    _Atomic uint64_t space_end;    /* claims may use the log up to here; 0: nobody may, read-only */
    _Atomic uint64_t ordinary_end; /* ... ordinary ones; 0: they are refused */
    _Atomic uint32_t disk_state;   /* inv_disk_state; the housekeeper writes */
    inv_wal_segment ring[INV_WAL_RING];

    /* Housekeeper only. */
    inv_wal_state state;
    inv_lock state_lock; /* STATE is written by prepare and by close */
    uint64_t preparing_number, preparing_bytes;
    bool preparing;
    bool no_room;        /* the last attempt to prepare a file found the disk full */
    uint64_t pause_until_ns;
    uint64_t retry_wait_ms, retry_mono_ms; /* after a failure that could not be foreseen */
    _Atomic uint32_t reserves; /* bit i: the file of reserve i + 1 is there */
    _Atomic uint64_t disk_full_count, disk_read_only_count, disk_recovered_count;
    uint64_t rate_tail, rate_mono_ms, rate_bytes_s;
    inv_lock past_lock; /* the three below: the housekeeper changes them, readers look */
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
    uint32_t reserves; /* bit i: the file of reserve i + 1 is there, of segment_bytes */
} inv_wal_config;

/* Memory mode. */
void inv_wal_init_memory(inv_wal *wal, const inv_env *env, inv_lanes *lanes);

/* Starts a log whose next record goes to `base`: writes a new segment after `prev` (number, end,
 * crc) holding the `relog_bytes` of records in `relog` (already re-headed, ending at base +
 * relog_bytes), makes all of it durable and STATE with it. On a full disk a reserve file becomes
 * that segment. On failure nothing of the old log has been touched. */
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
 * be appended. INV_BUSY: the disk is behind; INV_DISK_FULL: a full disk, and not for this class;
 * INV_STORE_FAILED. */
INV_MUST_USE inv_result inv_wal_credit_take(inv_wal *wal, uint64_t bytes, inv_wal_class class);
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

/* One group commit, up to `prefix` (inv_wal_prefix, asked before). INV_OK (*out_synced: something
 * was synced), INV_STORE_FAILED. */
INV_MUST_USE inv_result inv_wal_flush(inv_wal *wal, uint64_t prefix, bool *out_synced);

/* Type and payload of the record at lsn, as it stands in memory. For the flusher: it lies below the
 * prefix and is not durable yet. */
void inv_wal_look(const inv_wal *wal, uint64_t lsn, inv_wal_record *out);

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
 * now. A full disk is not a failure here but a state (inv_wal_space.h), left by later calls. */
INV_MUST_USE inv_result inv_wal_prepare(inv_wal *wal, bool *out_more);

/* An inv_disk_state. */
static inline uint32_t inv_wal_disk_state(const inv_wal *wal) {
    return atomic_load_explicit(&((inv_wal *)wal)->disk_state, memory_order_acquire);
}

/* Would a snapshot now, with those that begin at newest_lsn and older_lsn there, have segments of a
 * log on a full disk removed? */
bool inv_wal_wants_snapshot(const inv_wal *wal, uint64_t newest_lsn, uint64_t older_lsn);

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

/* Takes the oldest segment out of the log if all of it lies below `lsn`: from here on its file is
 * called `to`, and the caller's to remove. For the housekeeper. */
bool inv_wal_trim_one(inv_wal *wal, uint64_t lsn, const char *to);

/* ---- for readers of the log of an open store; they share no lock with the append path -------- */

/* The chain of a store that is opened to be read only. INV_NO_MEMORY. */
INV_MUST_USE inv_result inv_wal_know(inv_wal *wal, const inv_wal_past *past, uint32_t past_count);

typedef struct inv_wal_place {
    uint64_t number, base; /* of a segment; number 0: there is none */
    uint64_t end_lsn;      /* the base of the one after it; UINT64_MAX: it is the newest */
    uint64_t oldest_lsn;   /* the log there is begins here */
    uint64_t oldest_end_lsn;
} inv_wal_place;

/* The segment that has the byte at lsn, or (number 0: the lsn is older than the log) none. */
inv_wal_place inv_wal_find(inv_wal *wal, uint64_t lsn);

/* Sleeps until more than lsn is durable, the log fails or inv_wal_nudge is called, at most
 * timeout_ms; may wake for no reason. Makes no group commit come sooner. The caller has looked at
 * what it waits for after it loaded `seen` out of `group`. */
void inv_wal_follow(inv_wal *wal, uint32_t seen, uint64_t lsn, uint32_t timeout_ms);
void inv_wal_nudge(inv_wal *wal); /* wakes whoever waits on `group`, for them to look again */
static inline uint64_t inv_wal_capacity(const inv_wal *wal) {
    return wal->segment_bytes - INV_WAL_HEADER_BYTES;
}
/* Space a rotation may waste, twice: the record that did not fit, and the SEAL's minimum. */
static inline uint64_t inv_wal_rotation_slack(const inv_wal *wal) {
    return inv_min_u64(inv_wal_capacity(wal) / 4, 1u << 20);
}

void inv_wal_segment_name(char out[INV_FILE_NAME_MAX + 1], const char *prefix, uint64_t number);

#endif
