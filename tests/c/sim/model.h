/* SPDX-License-Identifier: Apache-2.0
 *
 * model.h: the naive oracle. Plain arrays, linear searches, no locks, no log: so simple that it can
 * be read beside SEMANTICS.md and believed. It predicts the code and the figures of every command.
 *
 * The model speaks in small numbers: SKUs, locations, accounts, reservation ids and op_ids are
 * indices into its arrays. Who drives it (gen.h) decides how each is spelled for the real store.
 * A seller is part of the spelling: the same text under two sellers is two indices.
 *
 * Ended ids are remembered for ever: drivers open their stores with a retention that long.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "../../../src/invcore/invcore.h"

#define MODEL_SKU_COUNT_MAX 64u
#define MODEL_LOCATION_COUNT_MAX 16u
#define MODEL_LINE_COUNT_MAX 48u   /* lines of one command */
#define MODEL_PLACE_COUNT_MAX 512u /* places of one reservation: every line split over many rows */
#define MODEL_NONE UINT32_MAX

/* A line as asked for, or summed: location MODEL_NONE = the engine chooses. */
typedef struct model_line {
    uint32_t sku;
    uint32_t location;
    uint32_t line_index; /* of the request: the first of equal ones */
    int64_t qty;
} model_line;

/* Units of a reservation at one row. */
typedef struct model_place {
    uint32_t sku;
    uint32_t location;
    uint32_t line_index; /* of the request */
    bool chosen; /* for a free line: the engine chose the place */
    int64_t qty; /* at first */
    int64_t held;
    int64_t allocated;
    int64_t shipped;
    int64_t lapsed; /* held when the deadline came: what a rehold takes again */
} model_place;

typedef struct model_row {
    bool known;
    int64_t on_hand;
    int64_t held;
    int64_t allocated;
    int64_t safety_stock;
} model_row;

typedef struct model_hold {
    bool known;
    bool tombstone;    /* released before it was ever reserved */
    uint8_t ended_as;  /* state once nothing is held, allocated or shipped */
    bool committed_whole; /* by a commit that named no lines */
    uint8_t ended_by;  /* kind of the call that left nothing open; 0: none, or the deadline */
    bool use_safety_stock;
    uint32_t account;
    uint64_t ttl_ms;
    uint64_t deadline_ms;
    uint64_t ended_at_ms;
    model_line *body;  /* sorted and summed */
    uint32_t body_count;
    model_place *places;
    uint32_t place_count;
    uint32_t live_index; /* place in model.live, MODEL_NONE when nothing is held */
} model_hold;

typedef struct model_command {
    uint8_t kind; /* inv_command_kind */
    bool partial, keep_rest, rehold, shorten, tombstone, strict, use_safety_stock;
    uint32_t account;
    uint32_t id;
    uint32_t op_id; /* MODEL_NONE = not given */
    uint64_t ttl_ms;
    int64_t if_on_hand;
    int64_t safety_stock;
    uint32_t line_count;
    model_line lines[MODEL_LINE_COUNT_MAX];
} model_command;

typedef struct model_op {
    model_command *body; /* lines sorted and summed, only as many as there are; NULL = unknown */
} model_op;

/* What the store must answer. */
typedef struct model_reply {
    int code;
    int code_other; /* another code that is as right, 0 = none */
    uint8_t state;
    bool reheld;
    bool has_level; /* level holds the row after a stock change */
    bool has_state;
    uint64_t expires_at_ms;
    uint64_t ended_at_ms;
    int64_t figure; /* CAS_FAILED: the actual figure */
    model_row level;
    uint32_t line_count; /* success: places; INSUFFICIENT and OVER_COMMIT: what is short */
    model_place lines[MODEL_PLACE_COUNT_MAX];
    uint32_t short_count;
    model_line short_lines[MODEL_LINE_COUNT_MAX]; /* qty: requested */
    int64_t short_available[MODEL_LINE_COUNT_MAX];
} model_reply;

typedef struct model {
    uint64_t now_ms;
    uint32_t sku_count;
    uint32_t location_count;
    bool sku_known[MODEL_SKU_COUNT_MAX];
    int64_t sku_safety[MODEL_SKU_COUNT_MAX]; /* for rows that come later */
    /* Order of first use, MODEL_NONE = never used: free lines are served in this order. */
    uint32_t location_rank[MODEL_LOCATION_COUNT_MAX];
    uint32_t location_rank_next;
    model_row rows[MODEL_SKU_COUNT_MAX][MODEL_LOCATION_COUNT_MAX];
    int64_t received[MODEL_SKU_COUNT_MAX]; /* receipts + adjustments - issues - ships */
    model_hold *holds;
    uint32_t hold_count;
    uint32_t hold_capacity;
    model_op *ops;
    uint32_t op_count;
    uint32_t op_capacity;
    uint32_t *live; /* ids with held units */
    uint32_t live_count;
    uint32_t live_capacity;
    uint64_t expired_count;
} model;

void model_init(model *m, uint32_t sku_count, uint32_t location_count, uint64_t now_ms);
void model_clear(model *m);

/* Judges one command at the model's time, applies it and says what the answer must be. */
void model_judge(model *m, const model_command *command, model_reply *out);

/* Moves the time: every hold with deadline <= now_ms dies. */
void model_advance(model *m, uint64_t now_ms);

/* State of an id as SEMANTICS.md section 2 defines it; INV_STATE_NONE when unknown. */
uint8_t model_state(const model *m, uint32_t id);

/* Sum of what is held, allocated, shipped over all places. */
model_place model_sum(const model_hold *hold);

/* What reserve may promise of a row. */
int64_t model_promise(const model_row *row, bool use_safety_stock);

/* NULL, or what is wrong with the model itself: rows against holds, conservation. */
const char *model_check(const model *m);

void model_print_command(const model *m, const model_command *command);

#endif
