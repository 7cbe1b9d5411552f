/* SPDX-License-Identifier: Apache-2.0
 *
 * world.h: one small store on a disk in memory, driven command by command, with its history.
 *
 * A world knows what the store must hold after every change, in lsn order (the history), and which
 * lsn it was told is safe (acked_lsn). Campaigns cut the power, damage bytes or fail calls, open
 * what is left with world_recover, and compare with the history. Everything random comes from the
 * world's seed, so a failing run is repeated by its seed.
 */
#ifndef WORLD_H
#define WORLD_H

#include "../../../src/invcore/base/inv_env.h"
#include "oracle.h"

#define WORLD_CALL_COUNT_MAX 4u
#define WORLD_REPLY_LINE_COUNT 32u
#define WORLD_CLOCK_START_MS 1700000000000ull

/* ---- randomness ------------------------------------------------------------------------------ */
uint64_t world_random(uint64_t *state);
uint32_t world_below(uint64_t *state, uint32_t bound);
bool world_chance(uint64_t *state, uint32_t one_in);

/* ---- one command and its answer -------------------------------------------------------------- */
typedef struct world_outcome {
    oracle_command command;
    inv_reply reply; /* without lines */
    oracle_choice choice;
    bool group_end;  /* the last change of its call: a record holds all of a call or nothing */
    bool pended;     /* its answer is on file already */
    uint32_t index;  /* of its command in the call */
} world_outcome;

typedef struct world_change {
    uint64_t lsn;
    uint64_t hash;
    bool group_end;
    oracle_state state; /* after it */
} world_change;

typedef struct world_accepted {
    oracle_command command;
    uint64_t lsn;
} world_accepted;

typedef struct world_pending {
    uint64_t observed_lsn; /* what the engine says to wait for */
    uint64_t required_lsn; /* what the answer really depended on */
} world_pending;

typedef struct world {
    uint64_t seed;
    uint64_t random;
    uint64_t entropy;
    uint64_t clock_ms;
    inv_memory *memory;
    inv_env *env;
    inv_store *store;
    inv_options options;
    void (*yield)(void *context, int point); /* given to the environment when the store opens */
    void *yield_context;
    inv_allocator allocator; /* used instead of the environment's own when alloc is set */

    oracle_state state;
    world_change *changes; /* [0] is the empty store */
    uint32_t change_count, change_capacity;
    world_accepted *accepted;
    uint32_t accepted_count, accepted_capacity;
    world_pending *pending;
    uint32_t pending_count, pending_capacity;
    uint64_t acked_lsn;
    uint64_t sku_lsn[ORACLE_SKU_COUNT];
    uint64_t hold_lsn[ORACLE_HOLD_COUNT_MAX];
    uint32_t hold_next, op_next;
    uint32_t stripe_of_sku[ORACLE_SKU_COUNT];
    bool allow_busy; /* a BUSY or a failure of the store is the driver's business, no violation */

    uint64_t commands, refused, replayed, expired, acks;
    char problem[1024]; /* the first violation; empty = none */
} world;

/* An empty world; options have small segments and few stripes. No store is open yet. */
void world_init(world *w, uint64_t seed);
void world_deinit(world *w);

/* An environment over `memory` with the world's clock and deterministic entropy. */
inv_env *world_env(const world *w, inv_memory *memory, uint64_t entropy_seed);

/* Opens the world's store over its memory; the history is left alone. */
inv_result world_open(world *w, inv_error *error);
/* Drops the store as a crash does: nothing is synced, the disk stays. */
void world_abandon(world *w);

/* Records the first violation, with the seed. Returns false for `return world_problem(...)`. */
bool world_problem(world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline bool world_ok(const world *w) { return w->problem[0] == '\0'; }

/* ---- commands -------------------------------------------------------------------------------- */
/* Makes up a command for the present state. Only SKUs whose bit is set in sku_mask are touched;
 * `simple`: a stock change without an id or a single-line reserve (for a second appender).
 * False when there is nothing to do with that mask. */
bool world_make_command(world *w, uint32_t sku_mask, bool simple, oracle_command *out);

/* Bits of the SKUs a command touches, by the present state. */
uint32_t world_command_skus(const world *w, const oracle_command *command);
/* The mask widened to all SKUs that share a stripe with one in it. */
uint32_t world_stripe_skus(const world *w, uint32_t sku_mask);

/* Sends commands in one call; fills the outcomes of those that were judged and says how many (the
 * others were BUSY, always the last ones, or refused by the world: code in *out_code). The history
 * does not move yet. Any thread. */
uint32_t world_call(inv_store *store, const oracle_command *commands, uint32_t count,
                    world_outcome *outcomes, int *out_code);

/* Files the answer among those to wait for. */
void world_pend(world *w, const world_outcome *outcome);

/* Checks answers against the oracle, files them and moves the history, in lsn order. */
bool world_integrate(world *w, const world_outcome *const *outcomes, uint32_t count);

/* world_call and world_integrate for one caller. True unless something is wrong. */
bool world_execute(world *w, const oracle_command *commands, uint32_t count);

/* After an inv_store_advance: takes over what expired. complete: nothing due may be left. */
bool world_take_expired(world *w, bool complete);

/* Moves the clock and expires in steps of at most `step` holds. */
bool world_advance(world *w, uint64_t ms, uint32_t step);

/* Asks for every answer on file whether it may be shown (wait with time-out 0). */
bool world_poll_acks(world *w);

/* Reads one SKU and files the answer. */
bool world_read(world *w);

/* Prepares log segments until no more is wanted. */
bool world_prepare_all(world *w);

/* Fills rows and finds out which SKUs share a stripe. */
bool world_stock_up(world *w);

/* ---- comparing ------------------------------------------------------------------------------- */
/* Reads all figures of a store back. False (with *out_problem) when it refuses to answer. */
bool world_observe(const world *w, inv_store *store, oracle_state *out, const char **out_problem);

/* Compares the running store with the oracle, invariants included. */
bool world_compare(world *w, const char *when);

typedef struct world_verdict {
    inv_result result;   /* of opening */
    inv_error error;
    inv_recovery recovery;
    uint64_t lsn_end;    /* of the recovered part of the history */
    uint32_t index;      /* of the history entry it equals, ORACLE_NONE = equals none */
    bool whole_groups;   /* that entry ends a call */
    uint64_t hash;
    char problem[700];   /* empty: a prefix of the history, invariants hold */
} world_verdict;

/* Opens whatever is on `disk`, compares it with the history and drops it again. The history counts
 * up to lsn_limit only: where an earlier recovery has ended the log, the same positions were given
 * to records of a new epoch. `keep` (may be NULL) receives the open store and its environment
 * instead of having them destroyed. */
typedef struct world_recovered {
    inv_env *env;
    inv_store *store;
} world_recovered;
void world_recover(const world *w, inv_memory *disk, bool read_only, uint64_t lsn_limit,
                   world_verdict *out, world_recovered *keep);
void world_recovered_drop(world_recovered *recovered);

/* The last history entry at or below lsn. */
uint32_t world_history_at(const world *w, uint64_t lsn);

/* Forgets what a crash took: the history ends with entry `index`, which is durable. */
void world_rewind(world *w, uint32_t index, uint64_t lsn_end);

/* Number of files on the disk whose names start with prefix. */
uint32_t world_file_count(const world *w, inv_memory *disk, const char *prefix);

#endif
