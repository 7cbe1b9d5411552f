/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_hold.h: reservations, what remains of ended ones, and the index that finds them by id.
 *
 *   id index: 2^n shards          slab: chunks of 4 KiB, each owned by one stripe
 *   +-------------+------+        +--------+------+------+-- 63 slots of 64 bytes --+
 *   | fingerprint | ref  | -----> | header | hold | hold | ...                      |
 *   +-------------+------+        +--------+------+------+--------------------------+
 *
 * A hold lives with its home stripe: the lowest stripe of its lines. It is one cache line. The
 * usual single-line one has its line inside, as long as all its units are in one state; others keep
 * a block of lines. An ended one stays where it is as a tombstone, without its lines (an expired
 * one keeps them: a late commit may take the units again), in its stripe's queue of ended ones,
 * oldest first.
 *
 * An op_id of another call is a hold that was born ended (INV_HOLD_OP), in a name space of its own.
 *
 * LOCKS. A hold's fields: its home stripe's lock; except id, seller, kind and the chunk's stripe
 * number, which do not change while it is in the index and may be read under its index shard's
 * lock. Rank: stripes, then one index shard. A chunk belongs to its stripe's lock.
 *
 * Estimate: 64 bytes + 8/0.6 bytes of index + 1/63 of chunk header = 79 bytes a live reservation.
 * Rejected: shrinking tombstones to 48 bytes (a second slab, and the index to be rewritten at the
 * end of every reservation, for a fifth of the memory of ended ones).
 */
#ifndef INV_HOLD_H
#define INV_HOLD_H

#include "../base/inv_digest.h"
#include "../base/inv_lane.h"
#include "../base/inv_line_op.h"
#include "../base/inv_pool.h"

#define INV_HOLD_TEXT 1u    /* kind: the id is text */
#define INV_HOLD_OP 2u      /* kind: an op_id */
#define INV_HOLD_NO_BODY 4u /* kind: a tombstone for an id that was never reserved */

/* A repeat of the call that ended a reservation is a replay, whatever state it is in. */
#define INV_ENDED_BY_RELEASE 1u
#define INV_ENDED_BY_CANCEL 2u
#define INV_COMMITTED_WHOLE 4u /* by a commit of all that was left; also while it lives */

typedef struct inv_hold {
    uint8_t id[16]; /* a UUID's bytes; text: 8 bytes hash, 4 reference of the text, 4 length */
    uint64_t lsn;   /* end of the entry that changed it last */
    uint64_t deadline_ms; /* HELD: deadline; ended: when it ended. With next, prev: the inv_timer */
    inv_ref next, prev;   /* links of the timer while held, of the queue once ended */
    uint32_t sku;         /* inline line; reference of the block; low half of the units */
    uint32_t qty;         /* inline line; high half of the units */
    uint32_t account;
    uint32_t body_hash;
    uint16_t location; /* inline line; an op: its entry kind */
    uint16_t seller;
    uint16_t line_count : 13; /* at most INV_LINE_COUNT_MAX */
    uint16_t ended_by : 3;    /* ended: INV_ENDED_BY_* */
    uint8_t state : 4;        /* inv_state; an op: INV_STATE_NONE */
    uint8_t block : 1;        /* the lines are in a block */
    uint8_t free_line : 1;    /* inline line: the caller named no location */
    uint8_t units : 1;        /* ended, lines gone: sku and qty are one 64-bit sum of units */
    uint8_t gone : 1;         /* out of the index: freed when its turn in the queue comes */
    uint8_t kind;             /* INV_HOLD_*; with id and seller all an index lookup reads */
} inv_hold;
_Static_assert(sizeof(inv_hold) == 64, "a reservation is one cache line");

typedef struct inv_hold_line {
    uint32_t sku, qty, held, allocated, shipped;
    uint16_t location;
    uint8_t flags; /* INV_LINE_FREE */
    uint8_t pad;
} inv_hold_line;
_Static_assert(sizeof(inv_hold_line) == 24, "a line is 24 bytes");

typedef struct inv_hold_chunk {   /* granule 0 of a chunk */
    uint64_t free_slots;          /* bit i: slot i is free; bit 0 never */
    uint64_t number;              /* from 1, by age: chunks of a stripe are linked newest first */
    inv_ref all_next, all_prev;   /* chunks of the stripe */
    inv_ref room_next, room_prev; /* of them, those with a free slot; valid while in that list */
    uint16_t stripe;
    uint8_t in_room_list;
} inv_hold_chunk;

typedef struct inv_hold_home { /* one a stripe, under its lock */
    inv_ref all_chunks;
    inv_ref room_chunks;
    inv_ref next_slot; /* the slot the next hold will take, 0 = in a new chunk; for prefetching */
    inv_ref ended_first, ended_last; /* queue of ended ones, oldest lsn first */
    uint32_t live_count;
    uint32_t ended_count;
    uint32_t held_count;  /* those with a timer */
    uint32_t chunk_drops; /* chunks given back so far: a walk's reference may be stale */
} inv_hold_home;

/* Slots of a shard: fingerprint << 32 | reference, 0 = free, at most 3/4 of them used. Written
 * under the shard's lock, atomically: inv_holds_guess reads without it. Replaced arrays are
 * retired. */
typedef struct inv_hold_slots {
    uint32_t mask, pad;
    uint64_t at[];
} inv_hold_slots;

#define INV_SHARD_BITS_MAX 12u
#define INV_SHARD_COUNT_MAX (1u << INV_SHARD_BITS_MAX)

typedef struct inv_hold_shard {
    inv_lock lock;
    uint32_t count;
    inv_hold_slots *slots; /* NULL: none yet */
} inv_hold_shard;

typedef struct inv_holds {
    const inv_env *env;
    inv_pool *pool;
    inv_lanes *lanes;
    inv_hold_shard *shards;
    uint32_t shard_bits;
    _Atomic uint32_t probe_max;
    _Atomic uint64_t ended_total; /* in all queues */
    _Atomic uint64_t chunk_total; /* ever made: the number of the newest */
} inv_holds;

/* An id as asked for. */
typedef struct inv_hold_key {
    uint64_t hash;
    inv_text text; /* bytes NULL: a UUID */
    uint8_t uuid[16];
    uint32_t seller; /* INV_NUMBER_NONE: an unknown seller, nothing of his is known */
    bool op;
    bool no_body; /* for creating: INV_HOLD_NO_BODY */
} inv_hold_key;

INV_MUST_USE inv_result inv_holds_init(inv_holds *holds, inv_pool *pool, inv_lanes *lanes,
                                       uint32_t shard_bits);
void inv_holds_deinit(inv_holds *holds);

static inline inv_hold *inv_hold_at(const inv_holds *holds, inv_ref ref) {
    return (inv_hold *)inv_pool_at(holds->pool, ref);
}
static inline uint32_t inv_hold_stripe(const inv_holds *holds, inv_ref ref) {
    const inv_hold_chunk *chunk = (const inv_hold_chunk *)inv_pool_at(holds->pool, ref & ~63u);
    return __atomic_load_n(&chunk->stripe, __ATOMIC_RELAXED); /* also by inv_holds_guess's users */
}

/* ---- id index -------------------------------------------------------------------------------- */
static inline uint32_t inv_holds_shard_index(const inv_holds *holds, uint64_t hash) {
    return holds->shard_bits == 0 ? 0 : (uint32_t)(hash >> (64 - holds->shard_bits));
}
static inline inv_hold_shard *inv_holds_shard(const inv_holds *holds, uint64_t hash) {
    return &holds->shards[inv_holds_shard_index(holds, hash)];
}
/* Under the shard's lock: */
inv_ref inv_holds_find_locked(inv_holds *holds, const inv_hold_shard *shard,
                              const inv_hold_key *key);
/* Room for one more; INV_NO_MEMORY. */
INV_MUST_USE inv_result inv_holds_reserve_locked(inv_holds *holds, inv_hold_shard *shard);
void inv_holds_insert_locked(inv_holds *holds, inv_hold_shard *shard, uint64_t hash, inv_ref ref);
void inv_holds_remove_locked(inv_holds *holds, inv_hold_shard *shard, uint64_t hash, inv_ref ref);

/* Takes the shard's lock around find. */
inv_ref inv_holds_find(inv_holds *holds, const inv_hold_key *key);

/* Fetch ahead without locks: the slot of an id; the slot a new hold will take and its chunk's
 * header. The words read here are written under locks by others, hence the atomics; a stale one
 * costs only a miss. */
static inline void inv_holds_prefetch(const inv_holds *holds, uint64_t hash) {
    const inv_hold_shard *shard = inv_holds_shard(holds, hash);
    const inv_hold_slots *slots = __atomic_load_n(&shard->slots, __ATOMIC_ACQUIRE);
    if (slots != NULL) INV_PREFETCH(&slots->at[(uint32_t)hash & slots->mask]);
}
/* Which hold an id may be, by its fingerprint alone, without a lock: to fetch ahead, not to rely
 * on. 0: none seen. The caller has a lane, which pins the slots. */
inv_ref inv_holds_guess(const inv_holds *holds, uint64_t hash);
/* The hold and its chunk's header. */
static inline void inv_holds_prefetch_hold(const inv_holds *holds, uint64_t hash) {
    inv_ref ref = inv_holds_guess(holds, hash);
    if (ref == 0) return;
    INV_PREFETCH(inv_pool_at(holds->pool, ref));
    INV_PREFETCH(inv_pool_at(holds->pool, ref & ~63u));
}
/* The last of the queue, which the next one that ends is linked to; under the lock. */
static inline void inv_hold_prefetch_ended(const inv_holds *holds, const inv_hold_home *home) {
    if (home->ended_last != 0) INV_PREFETCH(inv_pool_at(holds->pool, home->ended_last));
}
static inline void inv_hold_prefetch_room(const inv_holds *holds, const inv_hold_home *home) {
    inv_ref slot = __atomic_load_n(&home->next_slot, __ATOMIC_ACQUIRE);
    if (slot == 0) return;
    INV_PREFETCH(inv_pool_at(holds->pool, slot & ~63u));
    INV_PREFETCH(inv_pool_at(holds->pool, slot));
}

/* ---- slab (under the home stripe's lock) ----------------------------------------------------- */
/* A slot of the stripe, all fields zero, the id stored (a text's bytes are copied). 0: no memory.
 */
inv_ref inv_hold_create(inv_holds *holds, inv_hold_home *home, uint32_t stripe,
                        const inv_hold_key *key);
/* Frees the slot, its text and its lines. It is not in the index, the wheel or the queue. */
void inv_hold_destroy(inv_holds *holds, inv_hold_home *home, inv_ref ref);

/* Hash of a stored id, given the hash tweak of its seller (inv_hold_hash below). */
uint64_t inv_hold_hash(inv_hash_key key, uint64_t seller_tweak, bool op, inv_text text,
                       const uint8_t uuid[16]);
inv_text inv_hold_text(const inv_holds *holds, const inv_hold *hold); /* bytes NULL: a UUID */

/* ---- lines (under the home stripe's lock) ---------------------------------------------------- */
/* The lines: those of the block, or the inline one unfolded into *inline_line. line_count of them,
 * NULL when they are gone. */
inv_hold_line *inv_hold_lines(const inv_holds *holds, const inv_hold *hold,
                              inv_hold_line *inline_line);
/* A block for `count` lines (inside a fresh hold, or unfolding its inline line). INV_NO_MEMORY. */
INV_MUST_USE inv_result inv_hold_make_block(inv_holds *holds, inv_hold *hold, uint32_t count);
/* Drops the lines of an ended hold and keeps the sum of its units. */
void inv_hold_drop_lines(inv_holds *holds, inv_hold *hold);
uint64_t inv_hold_units(const inv_holds *holds, const inv_hold *hold);

/* Applies one line of a change to the hold's lines: finds (sku, location, free), which no two lines
 * share, and moves its units by the table of effects. *next is where it looks first, 0 before the
 * first line of a change: lines of a change mostly stand in the order of the hold's, and looking
 * from the front for each of 4,096 took up to 30 ms with all their stripes locked. False if there
 * is no such line or a figure would leave its range. */
INV_MUST_USE bool inv_hold_apply(inv_hold_line *lines, uint32_t line_count, uint32_t *next,
                                 const inv_change_line *change, int held, int allocated,
                                 int shipped);

/* Of a line, given what the reservation says of all its lines. */
static inline uint64_t inv_digest_line(uint64_t base, const inv_hold_line *line) {
    uint64_t place = line->shipped | (uint64_t)line->location << 32 |
                     (uint64_t)(line->flags & INV_LINE_FREE) << 48;
    return inv_mix64(base + (line->sku | (uint64_t)line->qty << 32) * INV_DIGEST_M5 +
                     (line->held | (uint64_t)line->allocated << 32) * INV_DIGEST_M6 +
                     place * INV_DIGEST_M7);
}

/* 0 unless it is a reservation that holds or has allocated something. */
static inline uint64_t inv_digest_hold(const inv_holds *holds, const inv_hold *hold) {
    bool held = hold->state == INV_STATE_HELD;
    if ((!held && hold->state != INV_STATE_ALLOCATED) || (hold->kind & INV_HOLD_OP) != 0) return 0;
    /* Of a text the keyed hash and the length; where its bytes lie is this process's own matter. */
    bool text = (hold->kind & INV_HOLD_TEXT) != 0;
    uint64_t id = text ? inv_load_u32(hold->id + 12) : inv_load_u64(hold->id + 8);
    uint64_t head = hold->seller | (uint64_t)hold->state << 16 | (uint64_t)hold->kind << 24 |
                    (uint64_t)hold->account << 32;
    uint64_t body =
        hold->body_hash | (uint64_t)hold->line_count << 32 | (uint64_t)hold->ended_by << 48;
    uint64_t base = INV_DIGEST_LINE + inv_load_u64(hold->id) * INV_DIGEST_M0 + id * INV_DIGEST_M1 +
                    head * INV_DIGEST_M2 + body * INV_DIGEST_M3 +
                    (held ? hold->deadline_ms : 0) * INV_DIGEST_M4;
    if (INV_LIKELY(!hold->block)) { /* all units are in one state */
        inv_hold_line line = {.sku = hold->sku,
                              .qty = hold->qty,
                              .held = held ? hold->qty : 0,
                              .allocated = held ? 0 : hold->qty,
                              .location = hold->location,
                              .flags = hold->free_line};
        return inv_digest_line(base, &line);
    }
    const inv_hold_line *lines = (const inv_hold_line *)inv_pool_at(holds->pool, hold->sku);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < hold->line_count; i++) sum += inv_digest_line(base, &lines[i]);
    return sum;
}

/* ---- queue of ended ones (under the home stripe's lock) -------------------------------------- */
void inv_hold_enqueue_ended(inv_holds *holds, inv_hold_home *home, inv_ref ref);
inv_ref inv_hold_dequeue_ended(inv_holds *holds, inv_hold_home *home);
/* Takes one out of the middle: a late commit brings it back to life. */
void inv_hold_unqueue_ended(inv_holds *holds, inv_hold_home *home, inv_ref ref);

/* Calls visit for every slot in use of a stripe; stops when it returns false. */
void inv_hold_walk(const inv_holds *holds, const inv_hold_home *home,
                   bool (*visit)(void *argument, inv_ref ref, inv_hold *hold), void *argument);

/* The same, one slot a call, for a walk that gives the lock back in between: it finds its place by
 * the number of its chunk, since that may be gone. All zero: at the beginning. */
typedef struct inv_hold_place {
    uint64_t chunk_number; /* of the last slot given */
    inv_ref slot;
    uint32_t chunk_drops; /* as they were: the same now means that `slot` still is where it was */
} inv_hold_place;

/* The next slot in use; 0: no more in this stripe. Looks at one header for each chunk it passes: at
 * all newer ones if a chunk was given back since the last call. */
inv_ref inv_hold_walk_next(const inv_holds *holds, const inv_hold_home *home,
                           inv_hold_place *place);

#endif
