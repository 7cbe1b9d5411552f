/* SPDX-License-Identifier: Apache-2.0
 *
 * gen.h: random commands for the model and their spelling for the store.
 *
 * The model knows indices; the store knows texts, UUIDs and numbers. One index has several
 * spellings (a UUID as 16 bytes or in any letter case, a SKU as text or number), and every command
 * picks one at random: that alone tests that they are the same thing.
 *
 * Index i of a SKU, a reservation id or an op_id belongs to seller i % seller_count; the text comes
 * from i / seller_count, so that sellers use the same texts for different things.
 */
#ifndef GEN_H
#define GEN_H

#include "model.h"

#define GEN_ACCOUNT_COUNT 3u

typedef struct gen_options {
    uint32_t sku_count;      /* of all sellers */
    uint32_t location_count;
    uint32_t seller_count;   /* 1 or 2 */
    uint32_t cart_lines_max; /* at most MODEL_LINE_COUNT_MAX */
    bool edges;              /* extreme quantities and malformed requests too */
    bool long_ttls;          /* hold far longer than the driver's steps of time */
} gen_options;

typedef struct gen {
    gen_options options;
    model *m;
    uint64_t random; /* state of the generator */
    uint64_t salt;   /* makes the texts of one seed differ from those of another */
    uint32_t id_next;
    uint32_t op_next;
    uint32_t sku_number[MODEL_SKU_COUNT_MAX]; /* INV_NUMBER_NONE until known */
    uint32_t location_number[MODEL_LOCATION_COUNT_MAX];
    char sku_text[MODEL_SKU_COUNT_MAX][INV_SKU_BYTES_MAX];
    uint32_t sku_text_bytes[MODEL_SKU_COUNT_MAX];
    char location_text[MODEL_LOCATION_COUNT_MAX][INV_LOCATION_BYTES_MAX];
    uint32_t location_text_bytes[MODEL_LOCATION_COUNT_MAX];
} gen;

/* Room for one spelled command. */
typedef struct gen_spelled {
    inv_command command;
    char id[INV_ID_BYTES_MAX];
    char op_id[INV_ID_BYTES_MAX];
    inv_line lines[MODEL_LINE_COUNT_MAX];
} gen_spelled;

void gen_init(gen *g, model *m, const gen_options *options, uint64_t seed);

uint64_t gen_random(gen *g);
/* A whole number from 0 to below - 1. */
uint32_t gen_below(gen *g, uint32_t below);
bool gen_chance(gen *g, uint32_t percent);

/* One random command, chosen with an eye on the model so that interesting states are met. */
void gen_command(gen *g, model_command *out);

/* A command that may be a row of a batch: an id that is a UUID, one line if any, no options. All of
 * one kind, seller and account. Stock changes: at names the store has numbers for; is there any? */
bool gen_has_names(const gen *g, uint32_t seller);
void gen_row(gen *g, uint8_t kind, uint32_t seller, uint32_t account, model_command *out);

/* Milliseconds to let pass: mostly few, now and then hours. */
uint64_t gen_step_ms(gen *g);

/* The command in one of its spellings. The texts live in *out and in *g. */
void gen_spell(gen *g, const model_command *command, gen_spelled *out);

/* Spells a reservation id: returns its length in bytes, sets *out_is_uuid for 16 raw bytes. */
uint32_t gen_spell_id(gen *g, uint32_t id, char *out, bool *out_is_uuid);

/* The 16 bytes of an id that gen_row has chosen. */
void gen_raw_id(const gen *g, uint32_t id, uint8_t out[16]);

inv_text gen_seller(const gen *g, uint32_t index);
inv_text gen_account(uint32_t index);

/* Learns the numbers the store gave to names; call after commands that may create some. NULL, or
 * what is wrong: locations must be numbered in the order of their first use. */
const char *gen_learn_numbers(gen *g, inv_store *store);

/* All numbers are learned anew, as after opening the store again. */
void gen_forget_numbers(gen *g);

#endif
