/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_base.h: the ground every module stands on: result helpers, assertions, alignment.
 *
 * ASSERTIONS say "we are wrong". They are active in every build. A failed one prints the condition
 * and the place and aborts the process: a restart costs less than a wrong figure in the log. Bytes
 * from outside (log, wire, Python) must never be able to trip one.
 */
#ifndef INV_BASE_H
#define INV_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../invcore.h"

#define INV_CACHE_LINE 64u
#define INV_LIKELY(x) __builtin_expect(!!(x), 1)
#define INV_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define INV_PREFETCH(p) __builtin_prefetch((p), 1, 3)

#define INV_ASSERT(condition)                                                              \
    do {                                                                                   \
        if (INV_UNLIKELY(!(condition))) inv_assert_failed(#condition, __FILE__, __LINE__); \
    } while (0)

/* Writes one line to standard error, then abort(). */
_Noreturn void inv_assert_failed(const char *condition, const char *file, int line);

/* Fills *error (may be NULL) and returns code: `return inv_fail(error, INV_X, errno, "...", ...)`.
 */
inv_result inv_fail(inv_error *error, inv_result code, int os_errno, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Planted bugs: compiled in only for the suite that proves the campaigns can fail. */
typedef enum inv_plant {
    INV_PLANT_NONE = 0,
    INV_PLANT_ACK_BEFORE_SYNC,     /* inv_store_wait answers before the sync */
    INV_PLANT_REFUSAL_NO_WAIT,     /* a refusal's observed_lsn is 0 */
    INV_PLANT_APPLY_BEFORE_CREDIT, /* the change is applied before log space is certain */
    INV_PLANT_SYNC_RETRY,          /* a failed sync is tried again and believed */
    INV_PLANT_APPEND_RECOVERED,    /* the recovered segment is appended to */
    INV_PLANT_UNSORTED_LOCKS,      /* stripe locks taken in the order of the lines */
    INV_PLANT_NO_STRIPE_LOCK,      /* the stripe lock is not taken at all */
    INV_PLANT_HEADER_CRC_IGNORED,  /* the reader believes any header */
    INV_PLANT_SEQLOCK_NO_RECHECK,  /* a read does not look at the sequence again */
    INV_PLANT_PREFIX_FROM_TAIL,    /* the flusher ignores appenders still copying */
    INV_PLANT_BATCH_ID_UNCHECKED,  /* a batch's short way takes every id for a new one */
    INV_PLANT_BATCH_NO_TOUCH,      /* ... leaves sequence and lsn of a stripe alone */
    INV_PLANT_SNAPSHOT_FLOORS,     /* replay onto a snapshot applies what is in it already */
    INV_PLANT_SNAPSHOT_FORGETS,    /* ids are forgotten while stripes are copied */
    INV_PLANT_SNAPSHOT_NO_SETTLE,  /* a snapshot does not wait for the log to be durable */
    INV_PLANT_SNAPSHOT_TRIM_ALL,   /* the log is trimmed by the newest snapshot, not the older */
    INV_PLANT_RESERVE_FOR_ALL,     /* new reserves use the segments kept for a full disk */
    INV_PLANT_NEXT_FORMAT,         /* no bug: the next release, which knows one format more */
    INV_PLANT_GATE_UNCHECKED,      /* a gate to a format nobody here knows is passed */
    INV_PLANT_EXPIRY_BY_WALL,      /* engine time runs with the wall clock */
    INV_PLANT_DOWNTIME_TRUSTED,    /* the wall clock's word for the downtime is not clamped */
    INV_PLANT_NO_DIRECTORY_SYNC,   /* a segment's new name is not made durable */
    INV_PLANT_EPOCH_UNSAVED,       /* the epoch is used before STATE has it */
    INV_PLANT_EPOCH_SAME,          /* lsns are given out again under the old epoch ... */
    INV_PLANT_HINT_AHEAD,          /* a record calls durable what is not */
    INV_PLANT_HINT_IN_STATE,       /* the hint is written, unsynced, into STATE's slots */
    INV_PLANT_READ_NO_WAIT,        /* the lsn of an availability is 0 */
    INV_PLANT_SEGMENT_END,         /* off by one: no room is left for a SEAL */
    INV_PLANT_SNAPSHOT_START,      /* replay onto a snapshot compares where a record starts */
    INV_PLANT_TOMBSTONE_EARLY,     /* ended ids go before the published window is over */
    INV_PLANT_OP_ID_LOST,          /* what an op_id did comes back without it */
    INV_PLANT_OP_ID_NEVER_STALE,   /* a forgotten op_id of version 7 acts again */
    INV_PLANT_OP_ID_LEFT,          /* a call refused for want of memory leaves its op_id behind */
    INV_PLANT_NOT_ARMED,           /* after opening, holds never expire */
    INV_PLANT_SNAPSHOT_GIVES_UP,   /* after a failure no snapshot is tried again */
    INV_PLANT_CART_IN_PIECES       /* a cart's rows become visible one by one */
} inv_plant;

#ifdef INV_PLANTED_BUGS
extern int inv_planted_bug; /* the inv_plant in force; set by the test before the store opens */
#define INV_PLANTED(bug) (inv_planted_bug == (bug))
#else
#define INV_PLANTED(bug) 0
#endif

static inline uint64_t inv_min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t inv_max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static inline uint64_t inv_align_u64(uint64_t value, uint64_t power) {
    return (value + power - 1) & ~(power - 1);
}

/* Little-endian loads and stores for bytes on disk (the host is little-endian; checked here). */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian hosts only");
static inline uint16_t inv_load_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t inv_load_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t inv_load_u64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline void inv_put_u16(uint8_t *p, uint16_t v) { memcpy(p, &v, 2); }
static inline void inv_put_u32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }
static inline void inv_put_u64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }

static inline inv_text inv_text_of(const char *terminated) {
    inv_text text = {terminated, terminated ? (uint32_t)strlen(terminated) : 0};
    return text;
}
static inline bool inv_text_equal(inv_text a, inv_text b) {
    return a.length == b.length && memcmp(a.bytes, b.bytes, a.length) == 0;
}

#endif
