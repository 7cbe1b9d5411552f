/* SPDX-License-Identifier: Apache-2.0
 *
 * invcore.h: the one public header of the inventory engine.
 *
 * WHAT IT IS. Exact stock for every (sku, location) and atomic reservations with a TTL, kept in
 * memory, every change in a write-ahead log. This page is the manual: concepts first, then each
 * call with its errors. What the operations mean is docs/semantics (SEMANTICS.md of the project).
 *
 * A STORE is opened over an environment (inv_env: clock, storage, allocator, entropy, threads). It
 * keeps no thread of its own: opening a long log replays it with a second one, which is joined
 * before inv_store_open returns. Its owner runs three loops, each on a thread of its own until
 * inv_store_stop(): inv_store_run_flusher (group commit), inv_store_run_timekeeper (expiry) and
 * inv_store_run_housekeeper (prepares log segments ahead of need, takes snapshots). A simulator
 * calls inv_store_flush, inv_store_advance and inv_store_prepare by hand instead.
 *
 * A CHANGE is an inv_command; inv_store_execute() judges an array of them in order and fills one
 * inv_reply each. It never waits for the disk. Before a reply is shown to anybody the caller waits
 * for reply.observed_lsn with inv_store_wait(): refusals and replays observed somebody's change
 * too.
 *
 * AN LSN is a byte position in the log stream, always an END: everything below it is included.
 *
 * THREADS. Any thread may call any operation at any time; inv_store_close() refuses new calls,
 * waits for those inside, and frees nothing; inv_store_destroy() frees and must be the last call.
 *
 * ERRORS. Every fallible call returns an inv_result. Rules that say no are results with nothing
 * changed. Failures of the world come with details in a caller-owned inv_error.
 */
#ifndef INVCORE_H
#define INVCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define INV_MUST_USE __attribute__((warn_unused_result))
#else
#define INV_MUST_USE
#endif

/* ---- limits: each one is named, documented and tested at the limit and one beyond ------------ */
#define INV_SKU_BYTES_MAX 128u
#define INV_LOCATION_BYTES_MAX 64u
#define INV_SELLER_BYTES_MAX 64u
#define INV_ACCOUNT_BYTES_MAX 64u
#define INV_ID_BYTES_MAX 64u
#define INV_REASON_BYTES_MAX 64u
#define INV_REFERENCE_BYTES_MAX 128u
#define INV_LOCATION_COUNT_MAX 65535u
#define INV_SELLER_COUNT_MAX 65535u
#define INV_QTY_MAX 2147483647
#define INV_LINE_COUNT_MAX 4096u
#define INV_TTL_MS_MAX (30ull * 24 * 3600 * 1000)
#define INV_ALTERNATIVE_COUNT_MAX 8u
#define INV_LOCATION_NONE 0xFFFFu   /* as a location number: none given, the engine chooses */
#define INV_NUMBER_NONE 0xFFFFFFFFu /* as a sku or account number: no such name */

/* ---- result codes: the numbers of SEMANTICS.md section 7 (23, 55 and 65 are additions) ------- */
typedef enum inv_result {
    INV_OK = 0,
    INV_REPLAYED = 1,
    INV_INSUFFICIENT = 10,
    INV_EXPIRED = 11,
    INV_ALREADY_COMMITTED = 12,
    INV_ALREADY_RELEASED = 13,
    INV_ALREADY_CANCELLED = 14,
    INV_ALREADY_SHIPPED = 15,
    INV_CLOSED = 16,
    INV_CAS_FAILED = 17,
    INV_AS_OF_UNKNOWN = 18,
    INV_PREEMPTED = 19,
    INV_UNKNOWN_RESERVATION = 20,
    INV_UNKNOWN_SKU = 21,
    INV_UNKNOWN_LOCATION = 22,
    INV_EVENTS_TRIMMED = 23, /* events asked for are no longer in the log */
    INV_BAD_REQUEST = 30,
    INV_IDEMPOTENCY_MISMATCH = 31,
    INV_OVER_COMMIT = 32,
    INV_QTY_OUT_OF_RANGE = 33,
    INV_LIMIT_EXCEEDED = 34,
    INV_STALE_ID = 35,
    INV_UNAUTHENTICATED = 40,
    INV_FORBIDDEN = 41,
    INV_RATE_LIMITED = 50,
    INV_BUSY = 51,
    INV_LAGGING = 52,
    INV_NOT_LEADER = 53,
    INV_DISK_FULL = 54,
    INV_NO_MEMORY = 55, /* the allocator said no: nothing was applied */
    INV_STORE_CLOSED = 60,
    INV_STORE_FAILED = 61,
    INV_LOG_CORRUPT = 62,
    INV_STORE_LOCKED = 63,
    INV_FORMAT_UNKNOWN = 64,
    INV_IO_ERROR = 65 /* on open, before there is a store: the system said no (os_errno) */
} inv_result;

/* Name of a code as HTTP bodies and logs show it ("INSUFFICIENT"); "UNKNOWN_CODE" for others. */
const char *inv_result_name(int code);

/* Details of a failure of the world. Zero it before use; filled only on failure. */
typedef struct inv_error {
    int code;         /* the inv_result */
    int os_errno;     /* 0 when the operating system had no part in it */
    uint64_t lsn;     /* position the failure is about, or 0 */
    uint64_t lsn_end; /* end of the affected range, or 0 */
    uint64_t segment; /* log segment number, or 0 */
    uint64_t offset;  /* byte offset in that segment's file */
    char message[256];
} inv_error;

/* Text from outside: UTF-8, not terminated. bytes == NULL means "not given". */
typedef struct inv_text {
    const char *bytes;
    uint32_t length;
} inv_text;

/* ---- environment ----------------------------------------------------------------------------- */
typedef struct inv_env inv_env;       /* clock, storage, allocator, entropy of one store */
typedef struct inv_memory inv_memory; /* a disk in memory that survives its stores */

/* The real world: CLOCK_BOOTTIME and CLOCK_REALTIME, malloc, getrandom, no storage yet (memory
 * mode). NULL when out of memory. The environment must outlive every store opened over it. */
inv_env *inv_env_create(void);
void inv_env_destroy(inv_env *env);

/* Store files live in this directory, created with mode 0700 if absent (its parent must exist).
 * INV_IO_ERROR with os_errno when that fails, INV_NO_MEMORY. With read_only nothing is created. */
INV_MUST_USE inv_result inv_env_use_directory(inv_env *env, const char *path, bool read_only,
                                              inv_error *error);

/* Store files live in `memory`, shared by every environment that names it. */
void inv_env_use_memory(inv_env *env, inv_memory *memory);

/* Time stands still at start_unix_ms and moves only by inv_env_set_clock (never backwards). The
 * wall clock of such an environment shows the same, plus wall_offset_ms (at first 0), but never
 * below 0: a wall clock that somebody set. */
void inv_env_use_manual_clock(inv_env *env, uint64_t start_unix_ms);
void inv_env_set_clock(inv_env *env, uint64_t now_unix_ms);
void inv_env_set_wall_offset(inv_env *env, int64_t wall_offset_ms);

/* A disk in memory: keeps a volatile and a durable image of every 512-byte sector and of every
 * name. power_cut() throws away what was never synced, keeping each unsynced sector and name change
 * with probability 1/2 by `seed` (seed 0: loses all of it). set_capacity limits the bytes it can
 * hold (0: no limit); what does not fit fails with INV_DISK_FULL. The caller must have closed or
 * abandoned (inv_store_destroy) the stores on it before power_cut. */
inv_memory *inv_memory_create(void);
void inv_memory_destroy(inv_memory *memory);
void inv_memory_power_cut(inv_memory *memory, uint64_t seed);
void inv_memory_set_capacity(inv_memory *memory, uint64_t bytes);

/* ---- opening --------------------------------------------------------------------------------- */
typedef struct inv_store inv_store;

typedef enum inv_durability {
    INV_DURABLE = 0,  /* a reply waits until what it observed is synced */
    INV_INTERVAL = 1, /* ... until it is in the page cache; synced every interval_ms */
    INV_MEMORY = 2    /* no log at all: nothing survives the process */
} inv_durability;

typedef struct inv_options {
    inv_durability durability;
    uint32_t interval_ms;        /* 1 to 10,000; default 10 */
    uint64_t segment_bytes;      /* 4 MiB to 1 GiB in products (tests: 16 KiB up); default 64 MiB */
    uint64_t id_retention_ms;    /* how long ended ids are known; default 24 h */
    uint64_t ended_ids_max;      /* ... and how many; default 32 M */
    uint64_t default_ttl_ms;     /* default 10 min */
    uint64_t restart_grace_ms;   /* default 10 s */
    uint64_t downtime_ms_max;    /* clamp of downtime counted against a ttl; default 24 h */
    bool clock_slew; /* engine time closes up to a wall clock that is ahead, by at most 0.5 %;
                        default off: it is compared and reported, never followed */
    uint32_t stripe_bits;        /* stripes = 2^bits, 0 to 12; default 12; fixed at creation */
    uint32_t segments_ahead_max; /* prepared segments kept ready, 1 to 8; default 8 */
    uint64_t snapshot_log_bytes; /* of new log after which a snapshot is taken; 0: only when asked
                                    for; at most 1 PiB; default 1 GiB */
    uint64_t consumer_log_bytes_max; /* a consumer further behind is cut off rather than kept log
                                        for; at most 1 PiB; default 4 GiB */
    bool read_only;              /* recover in memory, write nothing, refuse changes */
    uint64_t upto_lsn;           /* with read_only: the state at this lsn; 0: at the log's end */
    uint64_t accept_loss_lsn;    /* an operator's word that a log damaged here ends here, whatever
                                    durable history follows; 0: no such word */
} inv_options;

void inv_options_init(inv_options *options);

/* A version of the file formats, and the must-understand features that come with it. */
typedef struct inv_format {
    uint16_t major, minor;
    uint64_t features; /* bits */
} inv_format;

/* What opening found. */
typedef struct inv_recovery {
    uint64_t records_replayed;
    uint64_t records_skipped; /* of them of a type this release does not know and may skip */
    uint64_t entries_replayed;
    uint64_t digests_checked;    /* what was rebuilt was compared so often with what was there */
    uint64_t lsn_first;          /* first lsn of the log read */
    uint64_t lsn_end;            /* end of the last record applied */
    uint64_t torn_bytes_dropped; /* bytes after the end that were no whole record; 0 = clean end */
    uint64_t torn_records_dropped; /* whole records found beyond a hole: void, never acknowledged */
    uint64_t relogged_bytes;       /* ambiguous tail written again into the new segment */
    uint64_t durable_proven;       /* highest lsn proven durable by hints, headers, seals */
    uint64_t epoch;
    uint64_t segments_read;
    uint64_t snapshot_lsn;     /* start of the snapshot that was loaded; 0: none */
    uint64_t snapshot_end_lsn; /* the state can be built from here on */
    uint64_t snapshot_bytes;
    uint64_t snapshots_damaged; /* newer ones that could not be read */
    uint64_t loss_lsn_end; /* durable history that was given up: [lsn_end, this); 0: none */
    uint64_t downtime_ms; /* counted against ttls when the grace is over */
    int64_t wall_difference_ms; /* what the wall clock says has passed since the log ended; 0 for a
                                   new store. Clamped, not as it is, it is part of downtime_ms */
    bool clock_alarm; /* it went back by more than 2 s, or the downtime was above downtime_ms_max */
    uint64_t duration_ns;
    inv_format format;   /* in force */
    bool created;        /* a new store */
    bool clean_shutdown; /* the store was closed properly */
} inv_recovery;

/* Opens or creates a store in the environment's storage (none: memory mode). Recovers first.
 * INV_BAD_REQUEST (options; message names the field), INV_STORE_LOCKED (another process or handle),
 * INV_LOG_CORRUPT (segment, offset, lsn range), INV_FORMAT_UNKNOWN, INV_DISK_FULL, INV_IO_ERROR,
 * INV_NO_MEMORY. On success, *out_store is open and its first log segment is ready. Opening needs a
 * new segment: on a full disk one of the reserve becomes it, and the store opens INV_DISK_REFUSING;
 * INV_DISK_FULL when there is none (read_only opens even then). */
INV_MUST_USE inv_result inv_store_open(inv_env *env, const inv_options *options,
                                       inv_store **out_store, inv_error *error);

/* Refuses new calls (INV_STORE_CLOSED), waits for those inside, stops the loops, syncs all, writes
 * the clean-shutdown mark, releases the directory lock. The loops must have been told to stop or be
 * run by other threads. Idempotent. INV_STORE_FAILED when the last sync failed. */
INV_MUST_USE inv_result inv_store_close(inv_store *store, inv_error *error);

/* Frees everything. An open store is abandoned as by a crash: nothing is synced. */
void inv_store_destroy(inv_store *store);

void inv_store_recovery(const inv_store *store, inv_recovery *out);

/* Why the store failed (INV_STORE_FAILED): the first cause; code 0 when it has not. */
void inv_store_failure(inv_store *store, inv_error *out);

/* ---- the loops ------------------------------------------------------------------------------- */
/* Each runs until inv_store_stop() or a failure of the store; the threads belong to the caller. */
void inv_store_run_flusher(inv_store *store);
void inv_store_run_timekeeper(inv_store *store);
void inv_store_run_housekeeper(inv_store *store);
void inv_store_stop(inv_store *store); /* tells the loops to end; inv_store_close does it too */

/* One step of each, for simulators and manual clocks. flush: one group commit. advance: expires at
 * most expire_count_max holds due by the clock's now and says whether more wait. prepare: does one
 * bounded piece of segment preparation and says whether more is wanted. On a full disk advance may
 * answer INV_DISK_FULL: nothing can be logged, so time waits; prepare finds out when it is over. */
INV_MUST_USE inv_result inv_store_flush(inv_store *store);
INV_MUST_USE inv_result inv_store_advance(inv_store *store, uint32_t expire_count_max,
                                          bool *out_more);
INV_MUST_USE inv_result inv_store_prepare(inv_store *store, bool *out_more);

/* Has the housekeeper take a snapshot from now on and waits for it and for the trimming of the log
 * (at most timeout_ms; INV_BUSY: it goes on without the caller). INV_FORBIDDEN (read_only),
 * INV_BAD_REQUEST (memory mode), INV_DISK_FULL, INV_IO_ERROR, INV_NO_MEMORY (*error says where; the
 * store goes on), INV_STORE_CLOSED, INV_STORE_FAILED. */
INV_MUST_USE inv_result inv_store_snapshot(inv_store *store, uint32_t timeout_ms, inv_error *error);

/* Puts the newest format this release knows in force: logs a gate to it, waits until that is
 * durable (at most timeout_ms; INV_BUSY: call again), and says so in STATE. Until then the files
 * can be read by the release before, from then on they can't. *out_format (may be NULL) is what is
 * in force then. Idempotent: nothing is written when it is in force already, as in every store of a
 * release that knows one format only. INV_FORBIDDEN (read_only), INV_BAD_REQUEST (memory mode),
 * INV_DISK_FULL, INV_NO_MEMORY, INV_STORE_CLOSED, INV_STORE_FAILED. */
INV_MUST_USE inv_result inv_store_finalize(inv_store *store, uint32_t timeout_ms,
                                           inv_format *out_format, inv_error *error);

/* ---- changes --------------------------------------------------------------------------------- */
typedef enum inv_command_kind {
    INV_CMD_RESERVE = 1,
    INV_CMD_COMMIT = 2,
    INV_CMD_SHIP = 3,
    INV_CMD_RELEASE = 4,
    INV_CMD_CANCEL = 5,
    INV_CMD_EXTEND = 6,
    INV_CMD_RECEIVE = 7,
    INV_CMD_ISSUE = 8,
    INV_CMD_ADJUST = 9,
    INV_CMD_SET_ON_HAND = 10,
    INV_CMD_SET_POLICY = 11
} inv_command_kind;

/* A line asked for. Text wins over the number; sku text NULL = sku_number; location text NULL =
 * location_number, INV_LOCATION_NONE = no location given. */
typedef struct inv_line {
    inv_text sku;
    inv_text location;
    uint32_t sku_number;
    uint16_t location_number;
    int64_t qty; /* adjust: signed delta; set_on_hand: the counted figure (0 allowed) */
} inv_line;

typedef struct inv_command {
    uint8_t kind;   /* inv_command_kind */
    bool partial;   /* commit, ship, release, cancel: lines name a part; else all that is left */
    bool keep_rest; /* commit with lines: final=False, the rest stays held */
    bool rehold;    /* commit: if_expired="rehold" */
    bool shorten;   /* extend: may bring the deadline nearer */
    bool tombstone; /* release: remember an unknown id */
    bool strict;    /* adjust: refuse to break promises */
    bool use_safety_stock; /* reserve: may go into safety stock */
    bool id_is_uuid;       /* id.bytes points at the 16 bytes of a UUID */
    bool op_id_is_uuid;
    inv_text seller;       /* not given: "default" */
    inv_text account;      /* not given: "" */
    inv_text id;           /* reservation_id of reserve, commit, ship, release, cancel, extend */
    inv_text op_id;        /* idempotency key of everything else and of partial calls; optional */
    inv_text reason;       /* optional */
    inv_text reference;    /* optional document number */
    const inv_line *lines; /* reserve 1..4096; stock changes exactly 1; partial calls 1..4096 */
    uint32_t line_count;
    uint64_t ttl_ms;      /* reserve: 0 = default; extend: 1..INV_TTL_MS_MAX */
    int64_t if_on_hand;   /* set_on_hand: compare with this (required) */
    int64_t safety_stock; /* set_policy */
} inv_command;

typedef enum inv_state {
    INV_STATE_NONE = 0,
    INV_STATE_HELD = 1,
    INV_STATE_BACKORDERED = 2,
    INV_STATE_ALLOCATED = 3,
    INV_STATE_SHIPPED = 4,
    INV_STATE_RELEASED = 5,
    INV_STATE_CANCELLED = 6,
    INV_STATE_EXPIRED = 7,
    INV_STATE_CANCELLED_SHORT = 8,
    INV_STATE_PREEMPTED = 9
} inv_state;

/* One line of an answer: a line of a reservation at one place, or (INSUFFICIENT, OVER_COMMIT) a
 * line that is short. */
typedef struct inv_reply_line {
    uint32_t sku;      /* number, INV_NUMBER_NONE if unknown */
    uint16_t location; /* number, INV_LOCATION_NONE for a free short line or an unknown location */
    uint8_t closed;
    uint8_t alternative_count;
    uint32_t line_index; /* of the request's line (equal lines: the first of them) */
    uint32_t qty;        /* asked for at this place (short: requested, all equal lines together) */
    uint32_t held;
    uint32_t allocated;
    uint32_t shipped;
    uint32_t backordered;
    int64_t available_to_promise; /* short lines: what is there; OVER_COMMIT: what remains */
    uint16_t alternatives[INV_ALTERNATIVE_COUNT_MAX]; /* locations that could serve the line */
} inv_reply_line;

/* One stock row as a caller sees it. Figures are units; now and lsn say as of when. */
typedef struct inv_stock_level {
    uint32_t sku;
    uint16_t location;
    bool known; /* a row exists */
    int64_t on_hand;
    int64_t held;
    int64_t allocated;
    int64_t reserved;
    int64_t unsellable;
    int64_t available;
    int64_t available_to_promise;
    int64_t safety_stock;
    int64_t short_qty;
    int64_t backordered;
    int64_t incoming;
    uint64_t lsn;
    uint64_t now_unix_ms;
} inv_stock_level;

/* Fields of a body that differ (IDEMPOTENCY_MISMATCH), bits of inv_reply.mismatch. */
#define INV_FIELD_LINES 1u
#define INV_FIELD_ACCOUNT 2u
#define INV_FIELD_TTL_MS 4u
#define INV_FIELD_BODY 8u  /* an ended one: only the hash of the body is kept */
#define INV_FIELD_KIND 16u /* the op_id belongs to another kind of call */

typedef struct inv_reply {
    int code;                    /* inv_result */
    uint8_t state;               /* inv_state of the reservation after the call */
    bool reheld;                 /* commit after expiry took the units again */
    uint64_t lsn;                /* end of the change's own entry; replay: of the last change */
    uint64_t observed_lsn;       /* wait for this before anybody sees the reply */
    uint64_t now_unix_ms;        /* engine time of the decision */
    uint64_t expires_at_unix_ms; /* deadline while held, else 0 */
    uint64_t ended_at_unix_ms;   /* when it ended (EXPIRED: expired_at), else 0 */
    uint64_t units;              /* units of an ended reservation; else of all its lines */
    uint64_t retry_after_ms;     /* 0 = not known */
    const char *field; /* BAD_REQUEST, QTY_OUT_OF_RANGE, LIMIT_EXCEEDED: path, static text */
    int64_t figure;    /* offending figure; CAS_FAILED: the actual figure */
    int64_t limit;
    uint32_t mismatch;     /* INV_FIELD_* bits */
    uint32_t line_index;   /* BAD_REQUEST in lines[...]: which */
    inv_stock_level level; /* stock changes: the row after it */
    uint32_t line_count;   /* lines there are; min(line_count, lines_max) are filled in */
    uint32_t lines_max;    /* set by the caller */
    inv_reply_line *lines; /* caller's array of lines_max, may be NULL when lines_max is 0 */
} inv_reply;

/* Judges commands in array order. Replies hold the outcome one by one; one bad command hurts no
 * other. Returns INV_OK when every command was judged; INV_STORE_CLOSED or INV_STORE_FAILED (also
 * set in every reply not judged) otherwise. Waits for log credit when the disk is behind, so
 * callers release their own locks (the GIL) first or use try_execute, which answers INV_BUSY
 * instead. */
inv_result inv_store_execute(inv_store *store, const inv_command *commands, size_t count,
                             inv_reply *replies);
inv_result inv_store_try_execute(inv_store *store, const inv_command *commands, size_t count,
                                 inv_reply *replies);

/* ---- batches --------------------------------------------------------------------------------- */
/* Commands of one kind as columns of `count` rows; columns a kind has no use for may be NULL.
 *
 *   kind                            skus, locations, qtys   ids                    ttl
 *   RESERVE                         yes (see inv_line)      reservation ids        yes
 *   RECEIVE, ISSUE, ADJUST          yes                     op_ids, or NULL: none  -
 *   COMMIT, SHIP, RELEASE, CANCEL   -                       reservation ids        -
 *   EXTEND                          -                       reservation ids        yes
 */
typedef struct inv_batch {
    uint8_t kind; /* inv_command_kind, one of the above */
    size_t count;
    inv_text seller, account, reason; /* of every row; as in inv_command */
    const uint32_t *skus;             /* SKU numbers */
    const uint16_t *locations;        /* numbers; INV_LOCATION_NONE (reserve): none given */
    const int64_t *qtys;              /* adjust: signed */
    const uint8_t *ids;               /* 16 bytes a row: UUIDs, or any 16 bytes */
    const uint32_t *ttls_ms;          /* one a row; NULL: ttl_ms for all */
    uint64_t ttl_ms;
} inv_batch;

/* Judges the rows in array order, as inv_store_execute would one after the other, and sets one code
 * a row; one bad row hurts no other. A replayed RESERVE is INV_REPLAYED only while its promise
 * stands, else INV_EXPIRED, INV_ALREADY_RELEASED or INV_ALREADY_CANCELLED. Before anybody sees the
 * codes the caller waits for *out_observed_lsn. INV_OK: every row has its code. INV_BAD_REQUEST:
 * seller, account or reason can't be one (the message names it), nothing was judged.
 * INV_STORE_CLOSED, INV_STORE_FAILED: rows not judged have that code. */
INV_MUST_USE inv_result inv_store_execute_batch(inv_store *store, const inv_batch *batch,
                                                uint8_t *out_codes, uint64_t *out_observed_lsn,
                                                inv_error *error);
/* As above, and never waits for log credit: from the first row that would have to on, rows have the
 * code INV_BUSY, and none of them was applied. */
INV_MUST_USE inv_result inv_store_try_execute_batch(inv_store *store, const inv_batch *batch,
                                                    uint8_t *out_codes, uint64_t *out_observed_lsn,
                                                    inv_error *error);

/* One row of availability in a batch: 48 bytes. */
typedef struct inv_batch_level {
    int64_t on_hand, held, allocated, available_to_promise, safety_stock;
    uint8_t known; /* 1: the row exists; else all figures are 0 */
    uint8_t pad[7];
} inv_batch_level;

/* Stock of `count` rows by number; each is read at one moment, not all at the same. The caller
 * waits for *out_observed_lsn. INV_STORE_CLOSED. */
INV_MUST_USE inv_result inv_store_availability_batch(inv_store *store, const uint32_t *skus,
                                                     const uint16_t *locations, size_t count,
                                                     inv_batch_level *out_levels,
                                                     uint64_t *out_observed_lsn);

/* Waits until lsn is as safe as the store's durability promises. timeout_ms 0 = only look.
 * INV_OK; INV_BUSY = not yet; INV_STORE_FAILED. barrier waits for the disk in every mode. */
INV_MUST_USE inv_result inv_store_wait(inv_store *store, uint64_t lsn, uint32_t timeout_ms);
INV_MUST_USE inv_result inv_store_barrier(inv_store *store, uint64_t lsn, uint32_t timeout_ms);

/* ---- reads
 * ---------------------------------------------------------------------------------------- */
/* One row. INV_OK (zeros at a location without a row), INV_UNKNOWN_SKU, INV_BAD_REQUEST. The caller
 * waits for level.lsn; on INV_UNKNOWN_SKU too. `line` names sku and location as in a command. */
inv_result inv_store_availability(inv_store *store, inv_text seller, const inv_line *line,
                                  inv_stock_level *out);

/* All rows of a SKU at one lsn: fills min(*out_count, levels_max), sets *out_count to all there are
 * and *out_total to sums of clamped rows. */
inv_result inv_store_availability_sku(inv_store *store, inv_text seller, const inv_line *line,
                                      inv_stock_level *levels, uint32_t levels_max,
                                      uint32_t *out_count, inv_stock_level *out_total);

/* A reservation by id: state, lines, deadline, lsn as in a reply (code INV_OK or
 * INV_UNKNOWN_RESERVATION, INV_BAD_REQUEST). The caller waits for out->observed_lsn. */
inv_result inv_store_reservation(inv_store *store, inv_text seller, inv_text id, bool id_is_uuid,
                                 inv_reply *out);

/* Names and numbers. A number holds for the store's life. */
typedef enum inv_name_kind {
    INV_NAME_SKU = 1,
    INV_NAME_LOCATION = 2,
    INV_NAME_SELLER = 3,
    INV_NAME_ACCOUNT = 4,
    INV_NAME_REASON = 5,
    INV_NAME_REFERENCE = 6 /* written to the log only: not kept in memory */
} inv_name_kind;

/* Numbers of names (INV_NUMBER_NONE where unknown and create is false). create logs new ones; the
 * caller waits for *out_lsn. seller matters for skus only. INV_BAD_REQUEST: out_bad_index. */
inv_result inv_store_numbers(inv_store *store, inv_name_kind kind, inv_text seller,
                             const inv_text *names, size_t count, bool create,
                             uint32_t *out_numbers, uint64_t *out_lsn, size_t *out_bad_index);
/* As above, and never waits for log credit: INV_BUSY where it would have to. Some names may be
 * known by then. */
inv_result inv_store_try_numbers(inv_store *store, inv_name_kind kind, inv_text seller,
                                 const inv_text *names, size_t count, bool create,
                                 uint32_t *out_numbers, uint64_t *out_lsn, size_t *out_bad_index);

/* Text of a number: copies at most INV_SKU_BYTES_MAX bytes; false if there is no such number. */
bool inv_store_name(inv_store *store, inv_name_kind kind, uint32_t number, char *out_bytes,
                    uint32_t *out_length);

/* ---- proof and figures
 * ------------------------------------------------------------------------------ */
typedef struct inv_check_report {
    bool ok;
    uint64_t skus;
    uint64_t rows;
    uint64_t holds; /* live reservations */
    uint64_t ended; /* remembered ids */
    uint64_t timers;
    uint64_t problem_count;
    uint64_t lsn;
    int64_t on_hand, held, allocated; /* totals */
    char problem[256];                /* the first broken invariant */
} inv_check_report;

/* Walks everything with every stripe locked and verifies the invariants of SEMANTICS.md section 8.
 */
INV_MUST_USE inv_result inv_store_check(inv_store *store, inv_check_report *out);

/* Is there room for the log? The store moves from one to the other by itself. */
typedef enum inv_disk_state {
    INV_DISK_OK = 0,
    INV_DISK_REFUSING = 1, /* full: only release, commit, ship, cancel, expiry and time are logged,
                              on what is prepared and two reserve segments; all else is
                              INV_DISK_FULL */
    INV_DISK_READ_ONLY = 2 /* ... and that is used up: every change is INV_DISK_FULL, time waits */
} inv_disk_state;

typedef struct inv_metrics {
    uint64_t lsn_appended, lsn_durable;
    uint64_t commands, records, groups, syncs, sync_ns_total, sync_ns_max;
    uint64_t reserved_ok, refused, replayed, expired, ended_ids, live_holds;
    uint64_t now_unix_ms;  /* engine time: the lowest of all stripes */
    uint64_t lag_ms;       /* of engine time behind the clock */
    uint64_t id_window_ms; /* effective idempotency window */
    int64_t clock_drift_ms; /* the wall clock has moved away from the engine's since opening: ahead
                               (+) or behind (-); compared once a second */
    uint64_t clock_alarms;  /* times that this grew by more than 2 s; recovery.clock_alarm is one */
    uint64_t clock_slewed_ms; /* engine time gained by clock_slew since opening */
    int64_t wall_offset_ms;   /* wall clock minus engine time at the last tick, pending downtime
                                 taken off: what to add to a deadline to show it by the wall */
    uint64_t segments_ready, segment_waits, probe_max, bytes_in_use;
    uint64_t snapshots, snapshot_failures; /* taken and failed since opening */
    uint64_t snapshot_lsn;                 /* start of the newest; 0: none */
    uint64_t snapshot_bytes, snapshot_ns;  /* of the last one taken; 0: none since opening */
    uint64_t consumers;                    /* there are, those cut off included */
    uint64_t consumers_cut_off;            /* since opening */
    uint64_t consumer_lag_bytes;           /* of the one furthest behind that is not cut off */
    uint64_t disk_state;           /* inv_disk_state */
    uint64_t disk_full_count;      /* times it left INV_DISK_OK since opening */
    uint64_t disk_read_only_count; /* times it came to INV_DISK_READ_ONLY */
    uint64_t disk_recovered_count; /* times it came back to INV_DISK_OK */
    uint64_t reserve_segments;     /* log segments kept for a full disk that are there; usually 2 */
} inv_metrics;

void inv_store_metrics(inv_store *store, inv_metrics *out);

/* ---- walks: everything there is, piece by piece, into the caller's arrays ----------------------
 *
 * A cursor is plain figures and belongs to the caller: zero it to begin, copy or drop it at will;
 * nothing is allocated and nothing has to be closed. It is good for one kind of walk of one open
 * store. Each call goes on where the last one stopped, a stripe at a time, and holds a stripe's
 * lock for at most INV_WALK_STEP rows or lines and the one SKU or reservation that reaches them.
 *
 * WHAT IS PROMISED. The rows of one SKU, and the lines of one reservation, are given by one call
 * and are of one moment; `lsn` says which. A SKU or reservation that is there from the first call
 * to the last is given exactly once. One that comes or goes in between may be missing, and an id
 * that ends, is forgotten and is used again is another reservation. The walk as a whole is no
 * snapshot while others write: two SKUs may be of two moments. Stop writing, or open the store
 * read-only, for a snapshot.
 *
 * DURABILITY. Before anybody is shown what a call gave, the caller waits for walk.lsn. */
#define INV_WALK_STEP 4096u
#define INV_SKU_ROW_COUNT_MAX 65535u /* rows one SKU can have: what an array must hold for sure */

typedef struct inv_walk {
    uint64_t lsn;          /* wait for this before showing what was given so far */
    bool done;             /* everything has been given */
    uint32_t stripe;       /* how far it is: `stripe` of `stripe_count` */
    uint32_t stripe_count; /* 0 before the first call */
    uint32_t place;        /* the engine's own, as all below. Of rows: the next SKU */
    uint32_t slot;         /* of reservations: the last one given */
    uint32_t chunk_drops;
    uint64_t chunk_number;
} inv_walk;

/* Columns of stock rows: arrays of room_count places each, filled from 0. Figures are units. */
typedef struct inv_walk_rows {
    uint32_t room_count; /* places in each array, at least 1 */
    uint32_t count;      /* out: rows given */
    uint32_t room_needed; /* out, INV_LIMIT_EXCEEDED only: rows of the SKU that did not fit */
    uint32_t *sku;        /* numbers */
    uint16_t *location;
    uint16_t *seller;
    int64_t *on_hand;
    int64_t *held;
    int64_t *allocated;
    int64_t *reserved;
    int64_t *available;
    int64_t *available_to_promise;
    int64_t *safety_stock;
    int64_t *short_qty;
    uint64_t *lsn; /* the moment: every change of the SKU up to it is in, and none after it */
} inv_walk_rows;

/* Fills in the rows of as many whole SKUs as fit, by stripe and SKU number, sorted by location
 * number within a SKU. SKUs without rows are left out. INV_OK: go on until walk->done (count may be
 * 0 before: a call looks at about a million things at most). INV_LIMIT_EXCEEDED: the next SKU alone
 * has more rows than fit; nothing was given, and the next call tries it again. INV_BAD_REQUEST:
 * room_count is 0. INV_STORE_CLOSED, INV_STORE_FAILED. */
INV_MUST_USE inv_result inv_store_walk_rows(inv_store *store, inv_walk *walk, inv_walk_rows *out);

/* Columns of reservations: one place a line. One whose lines are no longer known (ended, or a
 * tombstone) takes one place with line_count 0, sku INV_NUMBER_NONE and location
 * INV_LOCATION_NONE. */
typedef struct inv_walk_holds {
    uint32_t room_count;
    uint32_t count;
    uint32_t room_needed;            /* as above: lines of the reservation that did not fit */
    uint8_t (*id)[INV_ID_BYTES_MAX]; /* a UUID's 16 bytes, or text */
    uint8_t *id_length;              /* bytes; 16 for a UUID */
    uint8_t *id_is_uuid;             /* 0 or 1 */
    uint8_t *state;                  /* inv_state */
    uint16_t *seller;                /* numbers */
    uint32_t *account;
    uint64_t *expires_at_unix_ms; /* deadline while held, else 0 */
    uint64_t *ended_at_unix_ms;   /* when it ended, 0 while it lives */
    uint64_t *lsn;                /* end of the entry that changed it last */
    int64_t *units;               /* of the whole reservation */
    uint16_t *line_index, *line_count;
    uint32_t *sku; /* of the line, as all below */
    uint16_t *location;
    int64_t *qty;
    int64_t *held;
    int64_t *allocated;
    int64_t *shipped;
} inv_walk_holds;

/* Fills in as many whole reservations as fit: live ones, and with `ended` also those that ended and
 * whose ids are still known. Results as inv_store_walk_rows; a reservation has at most
 * INV_LINE_COUNT_MAX lines. */
INV_MUST_USE inv_result inv_store_walk_reservations(inv_store *store, inv_walk *walk, bool ended,
                                                    inv_walk_holds *out);

/* ---- events: the log of an open store, change by change ----------------------------------------
 *
 * Every change that is durable, in the order of the log: what a reader is given stays true,
 * whatever happens to the machine. Reading takes no lock that a change may want, and it makes no
 * group commit come sooner or later. docs/events.md says what each type means.
 *
 * AN EVENT is (lsn, index): the end of the log entry that it is of, and which of that entry's
 * events. An entry has one, except a commit that gives the rest back: its committed units are event
 * 0, its released ones event 1. The same position gives the same event, whoever reads it from
 * where.
 *
 * A READER belongs to one thread at a time, and needs memory for one log record at its largest (1
 * MiB). inv_events_next takes from what is in memory; when that has come to its end,
 * inv_events_fill reads on, and waits if there is nothing more yet. */
typedef struct inv_events inv_events;

typedef enum inv_event_type {
    INV_EVENT_RESERVATION_HELD = 1,
    INV_EVENT_RESERVATION_COMMITTED = 2,
    INV_EVENT_RESERVATION_SHIPPED = 3,
    INV_EVENT_RESERVATION_RELEASED = 4,
    INV_EVENT_RESERVATION_CANCELLED = 5,
    INV_EVENT_RESERVATION_EXTENDED = 6,
    INV_EVENT_RESERVATION_EXPIRED = 7,
    INV_EVENT_RESERVATION_TOMBSTONED = 8, /* released before it was ever reserved */
    INV_EVENT_STOCK_RECEIVED = 9,
    INV_EVENT_STOCK_ISSUED = 10,
    INV_EVENT_STOCK_ADJUSTED = 11,
    INV_EVENT_STOCK_COUNTED = 12,
    INV_EVENT_POLICY_CHANGED = 13
} inv_event_type;

#define INV_EVENT_INDEX_ALL 0xFFFFFFFFu /* of a position: behind all events of that entry */

typedef struct inv_event_line {
    uint32_t sku;      /* number */
    uint32_t qty;      /* units; a policy: the safety stock from now on */
    uint16_t location; /* INV_LOCATION_NONE: a policy of the whole SKU */
    uint8_t op;        /* inv_log_op_name says what it is */
    int64_t on_hand_delta, held_delta, allocated_delta; /* what it did to the row */
} inv_event_line;

/* Texts and lines are valid until the next call on the reader. */
typedef struct inv_event {
    uint8_t type;  /* inv_event_type */
    uint8_t state; /* inv_state of the reservation after the whole entry */
    bool whole;    /* commit, ship, release, cancel: of all that was left */
    bool id_is_uuid;
    bool op_id_is_uuid;
    uint16_t seller;     /* numbers: inv_store_name knows them */
    uint32_t account;
    uint32_t reason;     /* INV_NUMBER_NONE: none */
    uint32_t index;
    uint64_t lsn;
    uint64_t now_unix_ms; /* engine time of the decision */
    uint64_t expires_at_unix_ms; /* a deadline this set, else 0 */
    inv_text id;                 /* of the reservation; bytes NULL: none */
    inv_text op_id;
    inv_text reference;
    uint32_t line_count;
    const inv_event_line *lines;
} inv_event;

/* Events behind (after_lsn, after_index); after_lsn 0: all that the log still has. INV_BAD_REQUEST
 * (there is no log, or it does not reach so far), INV_EVENTS_TRIMMED (error->lsn to lsn_end is
 * gone: lsn_end is the oldest position there is), INV_NO_MEMORY, INV_STORE_CLOSED,
 * INV_STORE_FAILED. */
INV_MUST_USE inv_result inv_events_open(inv_store *store, uint64_t after_lsn, uint32_t after_index,
                                        inv_events **out_events, inv_error *error);
/* Frees it; the store may be gone by now, its environment not. NULL is fine. */
void inv_events_close(inv_events *events);

/* The next event in memory; *out_more false: inv_events_fill has to read on. INV_LOG_CORRUPT,
 * INV_FORMAT_UNKNOWN (an entry of a kind this release does not know). */
INV_MUST_USE inv_result inv_events_next(inv_events *events, inv_event *out, bool *out_more,
                                        inv_error *error);

/* Reads on; waits at most timeout_ms until there is something. *out_ready: ask for the next (which
 * may still find that there is none among what was read). May return early with neither.
 * INV_EVENTS_TRIMMED (also: the reader's consumer was cut off), INV_LOG_CORRUPT (damage below what
 * was durable), INV_IO_ERROR, INV_STORE_CLOSED, INV_STORE_FAILED. */
INV_MUST_USE inv_result inv_events_fill(inv_events *events, uint32_t timeout_ms, bool *out_ready,
                                        inv_error *error);

/* How far the events given so far and those left out go: all events at or below are behind. */
uint64_t inv_events_lsn(const inv_events *events);

const char *inv_event_type_name(uint8_t type); /* "reservation.held"; "unknown" for others */

/* The store's own UUID: part of what makes an event's name unique in the world. */
void inv_store_uuid(const inv_store *store, uint8_t out_uuid[16]);

/* ---- consumers: readers whose position is kept on disk ------------------------------------------
 *
 * Log that a consumer has not acknowledged is not trimmed, until that consumer is more than
 * consumer_log_bytes_max behind what is durable: then it is cut off, durably, and whatever it asks
 * for is INV_EVENTS_TRIMMED until inv_store_consumer_reset. */
#define INV_CONSUMER_COUNT_MAX 64u
#define INV_CONSUMER_NAME_BYTES_MAX 32u /* a-z, 0-9, '.', '-'; the first one a letter or digit */

typedef enum inv_consumer_state {
    INV_CONSUMER_NONE = 0,
    INV_CONSUMER_LIVE = 1,
    INV_CONSUMER_CUT_OFF = 2,
    INV_CONSUMER_DAMAGED = 3 /* its file can't be read, or does not fit the log: to be reset */
} inv_consumer_state;

typedef struct inv_consumer_info {
    uint8_t state;
    char name[INV_CONSUMER_NAME_BYTES_MAX + 1];
    uint64_t lsn; /* acknowledged so far */
    uint32_t index;
    uint64_t lag_bytes; /* of log that is durable and not acknowledged */
} inv_consumer_info;

/* Makes the consumer `name` behind after_lsn (as in inv_events_open), unless there is one. Durable
 * on return. INV_BAD_REQUEST, INV_EVENTS_TRIMMED, INV_LIMIT_EXCEEDED (64 there are), INV_FORBIDDEN
 * (read_only), INV_DISK_FULL, INV_IO_ERROR, INV_STORE_CLOSED, INV_STORE_FAILED. */
INV_MUST_USE inv_result inv_store_consumer_open(inv_store *store, inv_text name, uint64_t after_lsn,
                                                inv_error *error);
/* All events up to the position are done with. Durable on return. A position behind the one there
 * is changes nothing. INV_BAD_REQUEST (no such consumer; not durable yet), INV_EVENTS_TRIMMED (cut
 * off), INV_LOG_CORRUPT (damaged), and as above. */
INV_MUST_USE inv_result inv_store_consumer_acknowledge(inv_store *store, inv_text name,
                                                       uint64_t lsn, uint32_t index,
                                                       inv_error *error);
/* Places it anew, forward or back; the only way on for one that was cut off. */
INV_MUST_USE inv_result inv_store_consumer_reset(inv_store *store, inv_text name,
                                                 uint64_t after_lsn, inv_error *error);
INV_MUST_USE inv_result inv_store_consumer_remove(inv_store *store, inv_text name,
                                                  inv_error *error);
/* Fills in all there are, at most INV_CONSUMER_COUNT_MAX, in no order; returns how many. */
uint32_t inv_store_consumers(inv_store *store, inv_consumer_info out[INV_CONSUMER_COUNT_MAX]);

/* As inv_events_open, from the consumer's position. */
INV_MUST_USE inv_result inv_events_open_consumer(inv_store *store, inv_text name,
                                                 inv_events **out_events, inv_error *error);

/* ---- the log of a closed store -----------------------------------------------------------------
 *
 * Reads records in lsn order, and the entries of each. Nothing is written. The store's lock is held
 * only while the list of segments is read: a store opened later begins a segment of its own and
 * never changes what is read here. One reader belongs to one thread at a time; it needs memory for
 * one segment file. */
typedef struct inv_log inv_log;

typedef enum inv_log_kind { /* of a record */
    INV_LOG_CHANGES = 1,
    INV_LOG_PAD = 2, /* fills a place; no entries */
    INV_LOG_SEAL = 3 /* end of a segment; no entries. Any other: unknown, but may be skipped */
} inv_log_kind;

typedef struct inv_log_record {
    uint8_t kind; /* inv_log_kind */
    uint64_t lsn; /* of its first byte */
    uint64_t lsn_end;
    uint64_t now_unix_ms; /* engine time of the decision; 0 unless INV_LOG_CHANGES */
    uint64_t epoch;       /* counts the openings of the store */
    uint64_t segment;     /* the file wal-<number in 16 hex digits> */
    uint64_t offset;      /* of the record in that file */
} inv_log_record;

typedef struct inv_log_line {
    uint32_t sku; /* number */
    uint32_t qty; /* units */
    uint16_t location;
    uint8_t op; /* inv_log_op_name says what it is */
    bool free;  /* the caller named no location, the engine chose */
} inv_log_line;

/* One change. Numbers are those of NAME entries that came before; seller 0 is "default" and account
 * 0 is "" from the beginning. Texts and lines are valid until the next call on the reader. */
typedef struct inv_log_entry {
    uint8_t kind;  /* inv_log_entry_name says what it is */
    uint8_t state; /* inv_state of the reservation afterwards, INV_STATE_NONE: not about one */
    bool whole;    /* commit, ship, release, cancel: of all that was left */
    bool id_is_uuid;
    bool op_id_is_uuid;
    uint16_t seller;
    uint32_t account;
    uint32_t reason, reference; /* INV_NUMBER_NONE: none */
    uint64_t lsn_end;           /* the lsn an answer gave for this change */
    uint64_t expires_at_unix_ms; /* a deadline this entry set, else 0 */
    inv_text id;                 /* reservation; bytes NULL: none */
    inv_text op_id;
    uint8_t name_kind; /* NAME: an inv_name_kind, else 0 */
    uint32_t number;   /* NAME: from now on the number of `name` */
    inv_text name;
    uint64_t wall_unix_ms;    /* CLOCK_TICK: the machine's clock at now_unix_ms */
    uint64_t window_start_ms; /* CLOCK_TICK: ids that ended before this engine time are forgotten */
    inv_format format;        /* FORMAT_GATE: in force from here on; major 0: none */
    uint32_t line_count;
    const inv_log_line *lines;
} inv_log_entry;

/* How the log ended; known once inv_log_next has said that there is no more. */
typedef struct inv_log_tail {
    uint64_t lsn_end;      /* end of the last valid record */
    uint64_t durable;      /* highest lsn proven durable */
    uint64_t torn_bytes;   /* bytes beyond it that are no whole record; 0 = clean end */
    uint64_t torn_records; /* whole records beyond a hole: void, never acknowledged */
    uint64_t skipped_records; /* of a type this release does not know and may skip */
} inv_log_tail;

/* Opens the log of the store in the environment's storage (use inv_env_use_directory with
 * read_only). INV_STORE_LOCKED: it is open; INV_LOG_CORRUPT, INV_FORMAT_UNKNOWN, INV_NO_MEMORY,
 * INV_IO_ERROR (os_errno ENOENT: there is no store), INV_BAD_REQUEST (no storage). */
INV_MUST_USE inv_result inv_log_open(inv_env *env, inv_log **out_log, inv_error *error);
void inv_log_close(inv_log *log); /* NULL is fine */

/* A name the log begins with, because what told it has been trimmed: it stands in a snapshot. */
typedef struct inv_log_name {
    uint8_t kind;    /* an inv_name_kind */
    uint16_t seller; /* of a SKU */
    uint32_t number;
    inv_text text; /* until the next call on the reader */
} inv_log_name;

/* The next of them; *out_more false: there are no more (none at all unless the log was trimmed). To
 * be asked before the first record, by whoever wants to know names. Some are told by NAME entries
 * again. INV_LOG_CORRUPT, INV_IO_ERROR, INV_NO_MEMORY. */
INV_MUST_USE inv_result inv_log_next_name(inv_log *log, inv_log_name *out, bool *out_more,
                                          inv_error *error);

/* The next record; *out_more false: there are no more. INV_LOG_CORRUPT with segment, offset and lsn
 * range when what follows the records given so far is damaged below what was durable;
 * INV_FORMAT_UNKNOWN, INV_IO_ERROR, INV_NO_MEMORY. A failure is final: it is repeated. */
INV_MUST_USE inv_result inv_log_next(inv_log *log, inv_log_record *out, bool *out_more,
                                     inv_error *error);

/* The next entry of the record given last; *out_more false: it has no more. INV_LOG_CORRUPT: the
 * record is whole but its entry is none; INV_FORMAT_UNKNOWN: it has something in it that this
 * release does not know; final too. */
INV_MUST_USE inv_result inv_log_next_entry(inv_log *log, inv_log_entry *out, bool *out_more,
                                           inv_error *error);

void inv_log_tail_of(const inv_log *log, inv_log_tail *out);

/* ---- the files of a closed store ------------------------------------------------------------- */

typedef enum inv_fsck_kind {
    INV_FSCK_STATE = 1,
    INV_FSCK_SNAPSHOT,
    INV_FSCK_SEGMENT
} inv_fsck_kind;

/* What was found of one file, or of half of STATE. */
typedef struct inv_fsck_item {
    uint8_t kind;
    bool ok;
    const char *name;    /* until the visit returns, as problem */
    const char *problem; /* "": none */
    uint64_t bytes;
    uint64_t lsn, lsn_end; /* STATE: newest snapshot, clean end (0: none); else where the records
                              or the snapshot's copy begin and end, as far as they are whole */
    uint64_t records;      /* of a snapshot: blocks */
    uint64_t epoch;        /* STATE, segments */
} inv_fsck_item;

typedef struct inv_fsck_report {
    bool ok;               /* opening succeeds, with everything that was ever durable */
    uint64_t lsn_end;      /* where the log ends, or is whole to */
    uint64_t durable;      /* highest lsn proven durable */
    uint64_t torn_bytes, torn_records; /* beyond the end: dropped on opening, never acknowledged */
    uint64_t snapshot_lsn; /* of the one that opening begins from; 0: none */
    uint64_t snapshots, snapshots_damaged;
    uint64_t segments, segments_damaged; /* a damaged one below snapshot_lsn does no harm */
    uint64_t segments_void;              /* files outside the chain: removed on opening */
    uint64_t accept_loss_lsn; /* not ok: what inv_options.accept_loss_lsn may be, 0: no help */
    char problem[256];        /* not ok: why opening refuses */
} inv_fsck_report;

/* Called for each; false: stop (inv_fsck answers INV_BUSY). */
typedef bool (*inv_fsck_visit)(void *argument, const inv_fsck_item *item);

/* Looks at all files of the store in the environment's storage, changes nothing, replays nothing.
 * INV_OK also when it finds damage (the report says so). INV_STORE_LOCKED: it is open;
 * INV_FORMAT_UNKNOWN, INV_NO_MEMORY, INV_IO_ERROR (os_errno ENOENT: there is no store),
 * INV_BAD_REQUEST (no storage). `visit` may be NULL. */
INV_MUST_USE inv_result inv_fsck(inv_env *env, inv_fsck_visit visit, void *argument,
                                 inv_fsck_report *out, inv_error *error);

/* "RESERVE", "NAME", ...; "HOLD", "COMMIT", ...: upper case, "UNKNOWN" for others. */
const char *inv_log_entry_name(uint8_t kind);
const char *inv_log_op_name(uint8_t op);

#ifdef __cplusplus
}
#endif
#endif /* INVCORE_H */
