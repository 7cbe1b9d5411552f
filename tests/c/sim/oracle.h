/* SPDX-License-Identifier: Apache-2.0
 *
 * oracle.h: what the crash campaigns compare a recovered store with.
 *
 * A snapshot is a fixed-size plain array of rows and reservations: it can be copied by assignment,
 * hashed and printed. oracle_predict says what the store must answer; oracle_apply does the EFFECT
 * of an accepted command, taking from the answer only what the engine was free to choose (the
 * places of a free line, the deadline). model.h, which predicts every figure of every answer, is
 * the oracle of the random driver; this one is smaller because it is copied after each change.
 *
 * Figures are kept per (reservation, row): which line of a cart a unit belongs to does not matter
 * to any promise, so it is not compared.
 */
#ifndef ORACLE_H
#define ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../../src/invcore/invcore.h"

#define ORACLE_SKU_COUNT 8u
#define ORACLE_LOCATION_COUNT 3u
#define ORACLE_HOLD_COUNT_MAX 160u
#define ORACLE_LINE_COUNT_MAX 8u
#define ORACLE_ANY_LOCATION UINT32_MAX
#define ORACLE_NONE UINT32_MAX

typedef struct oracle_row {
    int64_t on_hand;
    int64_t held;
    int64_t allocated;
    int64_t safety_stock;
} oracle_row;

typedef struct oracle_place {
    int32_t held;
    int32_t allocated;
    int32_t shipped;
} oracle_place;

/* An ended reservation keeps its state only: its places and its deadline are zero. */
typedef struct oracle_hold {
    uint64_t state; /* inv_state; NONE = the id is unknown */
    uint64_t deadline_unix_ms;
    oracle_place places[ORACLE_SKU_COUNT][ORACLE_LOCATION_COUNT];
} oracle_hold;

typedef struct oracle_state {
    oracle_row rows[ORACLE_SKU_COUNT][ORACLE_LOCATION_COUNT];
    oracle_hold holds[ORACLE_HOLD_COUNT_MAX];
} oracle_state;

typedef struct oracle_line {
    uint32_t sku;
    uint32_t location; /* ORACLE_ANY_LOCATION = the engine chooses */
    int64_t qty;
} oracle_line;

typedef struct oracle_command {
    uint8_t kind;      /* inv_command_kind */
    bool partial;
    bool keep_rest;
    bool shorten;
    bool retry;        /* the same bytes were accepted before */
    uint32_t hold;     /* index of the reservation id, or ORACLE_NONE */
    uint32_t op;       /* index of the op_id, or ORACLE_NONE */
    uint32_t line_count;
    uint32_t reference_bytes; /* length of the reference given: makes records of any size */
    uint64_t ttl_ms;
    int64_t if_on_hand;
    int64_t safety_stock;
    oracle_line lines[ORACLE_LINE_COUNT_MAX];
} oracle_command;

/* What the engine was free to choose, read from its answer. */
typedef struct oracle_choice {
    uint64_t deadline_unix_ms;
    int32_t taken[ORACLE_SKU_COUNT][ORACLE_LOCATION_COUNT]; /* reserve: units held by place */
} oracle_choice;

/* The code the store must answer with. A retry is predicted as INV_REPLAYED. */
inv_result oracle_predict(const oracle_state *state, const oracle_command *command);

/* Does `code` fit the prediction? Calls on an ended reservation leave a choice of codes, all of
 * which change nothing; everything else must match exactly. */
bool oracle_code_fits(const oracle_state *state, const oracle_command *command,
                      inv_result predicted, int code);

/* NULL, or why the places the engine chose do not serve the lines asked for. */
const char *oracle_choice_problem(const oracle_command *command, const oracle_choice *choice);

/* The effect of an accepted command. */
void oracle_apply(oracle_state *state, const oracle_command *command, const oracle_choice *choice);

/* The deadline of a reservation passed: what was held is free again. */
void oracle_expire(oracle_state *state, uint32_t hold);

bool oracle_hold_is_live(const oracle_hold *hold);
int64_t oracle_promise(const oracle_row *row);

/* Sets state from what is left, as SEMANTICS.md section 2 orders it, and forgets an ended one. */
void oracle_hold_settle(oracle_hold *hold, inv_state ended_as);

/* NULL, or the first broken invariant of SEMANTICS.md section 8 within the snapshot itself. */
const char *oracle_problem(const oracle_state *state);

uint64_t oracle_hash(const oracle_state *state);

/* Writes the first few differences as text ("row 2/1 held 3 is 5; ..."). */
void oracle_difference(const oracle_state *expected, const oracle_state *found, char *out,
                       size_t out_bytes);

/* A short text of a command, for traces. */
void oracle_describe(const oracle_command *command, char *out, size_t out_bytes);

#endif
