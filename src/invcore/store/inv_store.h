/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_store.h: the composition, private to this floor. Here the parts meet:
 *
 *     command -> rules -> effects -> claim log range -> apply -> publish -> (group commit) -> reply
 *
 *     inv_store.c      open, close, loops, reads, names, metrics
 *     inv_run.c        a run of up to 32 commands: credit, locks, one record; the only lock holder
 *                      beside time
 *     inv_job.c        a command's form: limits, texts, keys; before any lock
 *     inv_judge*.c     what a command means: decides and, if it may, applies
 *     inv_apply.c      effects to state: the one piece of code that live commands and replay share
 *     inv_batch*.c     arrays of commands, in numpy's columns
 *     inv_time.c       expiry, clock ticks, forgetting ended ids
 *     inv_drift.c      the wall clock, compared and reported
 *     inv_recover.c    opening, with inv_replay*.c
 *     inv_snapshot*.c  the state in a file, and the log trimmed by it
 *     inv_digest.c     the state as a number, logged and compared
 *     inv_events.c     the log as events, with inv_consumers.c
 *     inv_check.c      proof; inv_walk.c all there is, in pieces; inv_pack.c memory given back
 *
 * LOCK RANK: stripes ascending, then the names lock (kept to the end of a run), then one index
 * shard (a run of a batch: all of its shards, ascending), then the log tail. Nothing is interned
 * while a shard is held.
 *
 * TIME. T = now_ms, announced by the timekeeper. A stripe's time is min(T, next_due - 1): it waits
 * until every hold homed there with deadline <= T has been expired and logged. So no code here
 * compares a deadline with a clock: a hold in state HELD is alive.
 */
#ifndef INV_STORE_H
#define INV_STORE_H

#include "../base/inv_hash.h"
#include "../base/inv_lane.h"
#include "../base/inv_pool.h"
#include "../log/inv_effect.h"
#include "../log/inv_wal_reader.h"
#include "../log/inv_wal_writer.h"
#include "../stock/inv_hold.h"
#include "../stock/inv_names.h"
#include "../stock/inv_stock.h"
#include "../stock/inv_table.h"
#include "../stock/inv_wheel.h"

#define INV_STRIPE_COUNT_MAX 4096u
#define INV_RUN_COMMAND_MAX 32u
#define INV_RECORD_BYTES_MAX (256u << 10)
#define INV_EXPIRE_HOLD_MAX 64u /* of one EXPIRE record */
#define INV_EXPIRE_LINE_MAX 512u
#define INV_TICK_MS 1000u
#define INV_CMD_NAME 100u /* internal: intern a name */
#define INV_LOCATION_UNKNOWN 0xFFFFFFFEu
#define INV_NEED_STRIPES \
    (-1) /* judge: cut the run here, run this command alone with more stripes */

typedef struct inv_stripe {
    _Alignas(INV_CACHE_LINE) inv_lock lock;
    _Atomic uint32_t sequence;    /* odd while rows change; written under lock */
    _Atomic uint64_t lsn_touched; /* end of the last record that touched it; written under lock */
    inv_table table;              /* under lock, but see inv_table_peek */
    inv_hold_home home;           /* under lock */
    inv_wheel *wheel;             /* under lock; NULL until first used */
    uint64_t digest;              /* under lock: of its rows, policies, live reservations */
} inv_stripe;
_Static_assert(sizeof(inv_stripe) == 2 * INV_CACHE_LINE, "a stripe is two cache lines");

typedef struct inv_job_line {
    inv_text sku;
    uint64_t hash; /* of the SKU's name; unused when it came as a number */
    uint32_t stripe;
    uint32_t place;      /* in the stripe, INV_NUMBER_NONE: unknown; found under the lock */
    uint32_t number;     /* the SKU number, or INV_NUMBER_NONE */
    uint32_t location;   /* number, INV_LOCATION_NONE: none given, INV_LOCATION_UNKNOWN */
    uint32_t qty;        /* units, absolute */
    uint32_t line_index; /* of the request */
} inv_job_line;

typedef struct inv_job { /* a command whose form is right */
    const inv_command *command;
    inv_reply *reply;
    inv_text seller_text, account_text;
    uint64_t seller_tweak;
    uint32_t seller, account, reason; /* numbers, INV_NUMBER_NONE: not known yet */
    inv_hold_key id, op;
    bool has_id, has_op, done;
    inv_job_line *lines;
    uint32_t line_count;
    uint32_t change_max; /* lines its entry may have, paid for in the credit */
    uint64_t bytes;      /* worst case in the record */
    uint64_t ttl_ms;
    uint32_t body_hash;
    uint64_t body_lines, body_extra; /* what it is a hash of, beside the command's own fields */
    inv_ref seen;                    /* a hold shown in the answer without being changed */
    uint32_t seen_patches;           /* patches there were by then */
    uint64_t end_offset;             /* of its entry in the payload; 0 = none */
} inv_job;

typedef struct inv_pending_name {
    inv_names *names;
    inv_ref node;
    uint32_t number;
} inv_pending_name;

typedef struct inv_patch { /* a hold whose lsn is known once the range is claimed */
    inv_ref ref;
    uint32_t end_offset;
} inv_patch;

/* One run: lives in a lane's scratch. */
typedef struct inv_run {
    struct inv_store *store;
    inv_lane *lane;
    uint32_t job_count;
    uint32_t line_used;
    uint64_t now_ms;  /* T when the locks were taken */
    uint64_t time_ms; /* decision time of the record: the lowest of its stripes */
    uint64_t bytes;   /* credit */
    uint64_t payload_bytes;
    uint64_t digest; /* minus what the touched stripes had when the record began */
    uint32_t stripe_count;
    uint32_t touched_count;
    uint32_t pending_count;
    uint32_t patch_count;
    bool names_locked;
    bool alone; /* one command, stripes may be added */
    uint32_t need_change_max;
    uint16_t stripes[INV_STRIPE_COUNT_MAX];
    uint16_t touched[INV_STRIPE_COUNT_MAX];
    uint64_t locked_bits[INV_STRIPE_COUNT_MAX / 64];
    uint64_t touched_bits[INV_STRIPE_COUNT_MAX / 64];
    inv_job jobs[INV_RUN_COMMAND_MAX];
    uint16_t shards[INV_RUN_COMMAND_MAX]; /* index shards a batch has locked, ascending */
    inv_pending_name pending[INV_RUN_COMMAND_MAX * 6];
    inv_patch patches[INV_EXPIRE_HOLD_MAX + 2 * INV_RUN_COMMAND_MAX];
    inv_job_line lines[INV_LINE_COUNT_MAX + INV_RUN_COMMAND_MAX];
    inv_change_line changes[INV_EFFECT_LINE_COUNT_MAX];
    uint32_t change_index[INV_EFFECT_LINE_COUNT_MAX]; /* request line of each change */
    inv_hold_line work[INV_LINE_COUNT_MAX]; /* lines of a hold while a partial call is decided */
    inv_ref expired[INV_EXPIRE_HOLD_MAX];
    uint8_t payload[INV_RECORD_BYTES_MAX + 64];
} inv_run;

#define INV_ENDED_MARKS 256u
typedef struct inv_ended_mark { /* at some tick: ids ended until then have at most this lsn */
    uint64_t lsn, now_ms;
    uint64_t ended_total; /* since the store was opened, forgotten ones included */
} inv_ended_mark;

#define INV_CLOCK_ALARM_MS 2000 /* what the wall clock may differ by before it is worth an alarm */
typedef struct inv_drift { /* inv_drift.c; under time_lock */
    uint64_t mono_start_ms, wall_start_ms; /* both clocks when the store was opened */
    uint64_t looked_ms;  /* mono clock of the last comparison */
    int64_t drift_ms;    /* at it: wall clock ahead (+) or behind (-) since opening */
    int64_t alarmed_ms;  /* the drift that the last alarm was about, or nearer to zero */
    uint64_t alarms;     /* since opening */
    uint64_t slewed_ms;  /* engine time gained by correction, the plan in force not included */
    uint64_t slew_ms;    /* the plan: so much is to be gained ... */
    uint64_t slew_from_ms; /* ... from this mono time on, 1 ms every 200 */
} inv_drift;

typedef struct inv_digest { /* inv_digest.c; flusher */
    uint64_t sum;           /* of all there is, as of walked_lsn */
    uint64_t walked_lsn;
    uint64_t tried_lsn;  /* end of the last DIGEST */
    uint64_t logged_lsn; /* ... that said something; at first where the log began to be written */
} inv_digest;

typedef struct inv_store {
    inv_env *env;
    inv_options options;
    inv_wal_identity identity;
    inv_hash_key key;
    uint32_t stripe_count, stripe_bits;
    uint64_t record_bytes_max;
    inv_stripe *stripes;
    _Atomic uint64_t
        *next_due; /* by stripe: no hold homed there is due before; written under lock */
    inv_pool pool;
    inv_lanes lanes;
    inv_holds holds;
    inv_names locations, sellers, accounts, reasons;
    inv_lock names_lock;
    uint32_t reference_next; /* under names_lock */
    inv_wal wal;
    uint64_t default_seller_tweak;

    _Atomic uint64_t now_ms;          /* T */
    _Atomic uint64_t window_start_ms; /* ended ids from before may be forgotten */
    _Atomic uint64_t ids_lsn; /* lsn of the last tick that forgot some: observed by "unknown" */
    uint64_t forgotten_lsn;   /* timekeeper */
    inv_lock time_lock;       /* one advance at a time; guards the fields below */
    uint64_t anchor_engine_ms, anchor_mono_ms; /* T = anchor_engine + (mono - anchor_mono) + slew */
    inv_drift drift;
    uint64_t grace_until_ms, downtime_pending_ms;
    uint64_t tick_last_ms, tick_last_tail;
    inv_effect_tick tick_last;
    bool snapshot_copying; /* no id is forgotten meanwhile */
    bool forget_behind; /* the last tick let go fewer than are past the window */
    uint64_t ended_at_tick; /* since the store was opened, forgotten ones included */
    uint64_t forgotten_total; /* ended ids let go since the store was opened */
    uint32_t mark_count;
    inv_ended_mark marks[INV_ENDED_MARKS]; /* oldest first */
    _Atomic uint64_t
        wall_offset_ms;    /* wall clock minus engine time at the last tick (modulo 2^64) */
    uint32_t sweep_stripe; /* where the last bounded advance stopped */

    bool packing;           /* housekeeper: a round of packing has begun */
    uint32_t pack_left;     /* housekeeper: stripes it has not come to */
    uint64_t pack_asked_ms; /* housekeeper: when it last asked for one */

    struct inv_snapshot *snapshot; /* housekeeper; NULL: this store takes none */
    _Atomic uint64_t snapshot_lsn; /* start of the newest there is; 0: none. Housekeeper writes */
    uint64_t snapshot_older_lsn;   /* of the one before, if it is known to be whole; housekeeper */
    _Atomic uint64_t snapshot_bytes, snapshot_ns; /* of the last one taken */
    _Atomic uint64_t snapshots, snapshot_failures;
    _Atomic uint32_t snapshot_wanted, snapshot_done; /* asked for; answered: futex */
    _Atomic uint32_t snapshot_good; /* ... and the last that was answered by a snapshot */

    inv_digest digest;

    struct inv_consumers *consumers; /* NULL: there is no log */
    uint64_t proven_lsn; /* opened to be read only: the log's records up to here are durable */

    inv_lock gate_lock;
    uint64_t gate_lsn; /* under gate_lock: end of the gate logged since opening; 0: none */

    const uint64_t *replay_floors; /* by stripe, while a log is replayed onto a snapshot */
    uint64_t replay_fuzzy_lsn;     /* below it names may be there already */

    _Atomic uint32_t stop;    /* loops: end */
    _Atomic uint32_t closing; /* calls: refuse */
    _Atomic uint32_t parked;  /* callers waiting for the disk, outside any lane */
    _Atomic uint32_t loops;   /* loops running */
    _Atomic bool closed;
    bool locked, replaying;
    inv_recovery recovery;
} inv_store;

/* ---- small things shared by the floor -------------------------------------------------------- */
static inline uint32_t inv_sku_stripe(const inv_store *store, uint32_t sku) {
    return sku & (store->stripe_count - 1);
}
static inline uint32_t inv_sku_place(const inv_store *store, uint32_t sku) {
    return sku >> store->stripe_bits;
}
static inline uint32_t inv_sku_number(const inv_store *store, uint32_t stripe, uint32_t place) {
    return place << store->stripe_bits | stripe;
}
static inline uint64_t inv_stripe_time(const inv_store *store, uint32_t stripe, uint64_t now_ms) {
    uint64_t due = atomic_load_explicit(&store->next_due[stripe], memory_order_acquire);
    return due > now_ms ? now_ms : due - 1;
}
/* Changes a row of a SKU, and the stripe's digest with it. */
static inline void inv_put_row(inv_store *store, uint32_t sku, inv_row *row, inv_row after) {
    inv_stripe *stripe = &store->stripes[inv_sku_stripe(store, sku)];
    uint32_t name_hash = inv_table_sku(&stripe->table, inv_sku_place(store, sku))->hash;
    stripe->digest -= inv_digest_row(sku, name_hash, inv_row_load(row));
    stripe->digest += inv_digest_row(sku, name_hash, after);
    inv_row_store(row, after);
}
uint64_t inv_seller_tweak(const inv_store *store, inv_text seller);
uint64_t inv_seller_tweak_of(const inv_store *store, uint32_t seller); /* by number */

/* ---- inv_job.c: form ------------------------------------------------------------------------- */
bool inv_text_is_utf8(inv_text text);
/* 1 to max bytes of UTF-8. */
static inline bool inv_text_fits(inv_text text, uint32_t max) {
    return text.length >= 1 && text.length <= max && inv_text_is_utf8(text);
}
/* Reads an id: 16 bytes, the text of a UUID v4 or v7, or other text. False: empty, too long, not
 * UTF-8. */
bool inv_parse_id(inv_text text, bool is_uuid, inv_hold_key *out);
/* Checks and resolves a command; a malformed one gets its reply and is done. The seller and account
 * of the job are set in any case. */
void inv_job_prepare(inv_run *run, inv_job *job, const inv_command *command, inv_reply *reply);

/* What a command may use of the log on a full disk. A late commit that takes its units again goes
 * on too: the goods are paid for. */
static inline inv_wal_class inv_command_class(uint8_t kind) {
    return kind == INV_CMD_RELEASE ? INV_WAL_FREEING
           : kind == INV_CMD_COMMIT || kind == INV_CMD_SHIP || kind == INV_CMD_CANCEL
               ? INV_WAL_SETTLING
               : INV_WAL_ORDINARY;
}

/* ---- inv_run.c ------------------------------------------------------------------------------- */
void inv_run_reset(inv_run *run, inv_store *store, inv_lane *lane);
inv_run *inv_run_of(inv_store *store, inv_lane *lane); /* the lane's scratch; NULL: no memory */
void inv_run_want_stripe(inv_run *run, uint32_t stripe);
void inv_run_lock(inv_run *run);
void inv_run_lock_more(inv_run *run, uint32_t from);
static inline bool inv_run_has(const inv_run *run, uint32_t stripe) {
    return (run->locked_bits[stripe / 64] >> (stripe % 64) & 1) != 0;
}
/* Claims the log range for what is in the payload, publishes, unlocks, copies. Returns the record's
 * end (0: nothing was written). */
uint64_t inv_run_finish(inv_run *run);
/* Writes the payload as a record of its own while the locks are kept (expiry of more than fits in
 * one). */
void inv_run_emit(inv_run *run);
/* The highest lsn among the stripes held: what an answer that changed nothing has observed. */
uint64_t inv_run_observed_lsn(const inv_run *run);
/* Marks a stripe as being written (sequence odd). It must be locked. */
void inv_run_touch(inv_run *run, uint32_t stripe);
/* Appends an entry to the payload; returns its end offset in the payload. */
uint64_t inv_run_encode(inv_run *run, const inv_effect *effect);
/* Logs an entry that is about no stock, as a record of its own; *out_lsn is its end. INV_BUSY,
 * INV_DISK_FULL, INV_STORE_FAILED, INV_NO_MEMORY. */
INV_MUST_USE inv_result inv_run_note(inv_store *store, inv_lane *lane, uint8_t kind,
                                     const void *blob, uint32_t blob_bytes, uint64_t *out_lsn);
inv_result inv_execute(inv_store *store, const inv_command *commands, size_t count,
                       inv_reply *replies, bool may_wait);

/* ---- inv_judge.c ----------------------------------------------------------------------------- */
/* Decides a job under its locks and applies it. Returns its code or INV_NEED_STRIPES. */
int inv_judge(inv_run *run, inv_job *job);
void inv_fill_level(const inv_store *store, uint32_t stripe, uint32_t place, uint32_t location,
                    const inv_row *row, uint64_t lsn, uint64_t now_ms, inv_stock_level *out);
void inv_fill_reservation(const inv_store *store, inv_ref ref, inv_reply *reply);

/* ---- inv_apply.c ----------------------------------------------------------------------------- */
/* Row effect of a line. Live code has reserved the memory before. INV_LOG_CORRUPT: a counter would
 * leave its range, an unknown SKU; INV_NO_MEMORY (replay only). */
INV_MUST_USE inv_result inv_apply_row(inv_store *store, const inv_change_line *line);
/* Of all lines of an entry, live. */
INV_MUST_USE inv_result inv_apply_rows(inv_store *store, inv_run *run, const inv_effect *effect);
/* A new hold for an id, in the index. The shard is locked and has room. 0: no memory. */
inv_ref inv_apply_create_locked(inv_store *store, const inv_hold_key *key, uint32_t stripe,
                                inv_hold_shard *shard);
/* Effects of an entry on its hold (RESERVE: a fresh one with a block if it needs one). */
INV_MUST_USE inv_result inv_apply_hold(inv_store *store, const inv_effect *effect, inv_ref ref,
                                       uint64_t time_ms);
/* Remembers an op_id: a hold born ended. */
void inv_apply_op(inv_store *store, const inv_effect *effect, inv_ref ref, uint64_t time_ms);
INV_MUST_USE inv_result inv_apply_reserve_wheel(inv_store *store, uint32_t stripe);
void inv_arm(inv_store *store, uint32_t stripe, inv_ref ref);
void inv_disarm(inv_store *store, uint32_t stripe, inv_ref ref);
uint8_t inv_state_of(const inv_hold_line *lines, uint32_t line_count, uint8_t ended_as);

/* ---- inv_time.c ------------------------------------------------------------------------------ */
/* Engine time begins to run, from the moment of inv_drift_begin. */
void inv_time_start(inv_store *store, uint64_t engine_ms, uint64_t downtime_ms, bool grace);
/* What T would be if it were announced now: where the clock stands. Under time_lock. */
uint64_t inv_time_clock_ms(const inv_store *store);
/* Logs a tick at engine time now_ms; the caller holds time_lock (or is alone). */
INV_MUST_USE inv_result inv_time_tick(inv_store *store, inv_lane *lane, uint64_t now_ms,
                                      uint64_t downtime_pending_ms);
/* Forgets ended ids: those that ended before window_start_ms or whose last change is at or below
 * lsn. A tick says which; live code and replay forget the same. */
void inv_forget(inv_store *store, uint64_t window_start_ms, uint64_t lsn);
/* Remembers, at the tick that ends at lsn, how many ids have ended so far. */
void inv_mark_ended(inv_store *store, uint64_t lsn, uint64_t now_ms);

/* ---- inv_drift.c ----------------------------------------------------------------------------- */
/* Both clocks at one moment. False: it can't be had, the two readings may be far apart. */
bool inv_drift_read(const inv_clock *clock, uint64_t *out_mono_ms, uint64_t *out_wall_ms);
/* Reads both clocks, once, on opening: the moment from which time runs and drift is counted. */
void inv_drift_begin(inv_store *store);
/* Compares them if a second has passed, and plans the correction until the next comparison. */
void inv_drift_look(inv_store *store);
/* Engine time gained by correction up to mono_ms. */
uint64_t inv_drift_slewed_ms(const inv_drift *drift, uint64_t mono_ms);

/* ---- inv_digest.c ---------------------------------------------------------------------------- */
/* Of one stripe, made anew from what is there; of all, as the stripes keep it. */
uint64_t inv_digest_stripe(const inv_store *store, uint32_t stripe);
uint64_t inv_digest_sum(const inv_store *store);
/* The log behind the present tail is about to be written; nobody is at work yet. */
void inv_digest_begin(inv_store *store);
/* A group commit, with a DIGEST before it if one is due, or if something was logged since the last
 * one and this is the last commit. INV_STORE_FAILED. */
INV_MUST_USE inv_result inv_digest_flush(inv_store *store, bool closing, bool *out_synced);
/* Compares what was replayed with a DIGEST; *out_before_lsn: where the one before it stood, 0: it
 * says nothing. INV_LOG_CORRUPT: it is not the same. */
INV_MUST_USE inv_result inv_digest_check(const inv_store *store, const inv_effect *effect,
                                         uint64_t *out_before_lsn);

/* ---- inv_pack.c ------------------------------------------------------------------------------ */
/* One short step of packing, if there is anything to pack; for the housekeeper alone. */
void inv_pack_step(inv_store *store);

/* ---- inv_recover.c --------------------------------------------------------------------------- */
INV_MUST_USE inv_result inv_recover(inv_store *store, inv_error *error);

/* ---- inv_store.c ----------------------------------------------------------------------------- */
/* Everything that needs the identity (hash key, stripes): called by recovery once it is known. */
INV_MUST_USE inv_result inv_store_init_parts(inv_store *store);
/* The names of a kind; NULL: they are not kept in one list. */
inv_names *inv_store_names(inv_store *store, uint32_t kind);
void inv_store_free_parts(inv_store *store);
bool inv_store_enter(inv_store *store, inv_lane **out_lane, inv_result *out_result);

#endif
