/* SPDX-License-Identifier: Apache-2.0
 *
 * gen.c: random commands and their spellings (gen.h). Deterministic from its seed.
 */
#include "gen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECENT_COUNT 96u /* ids among which most later calls choose */

static uint64_t mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

uint64_t gen_random(gen *g) {
    g->random += 0x9E3779B97F4A7C15ull;
    return mix(g->random);
}

uint32_t gen_below(gen *g, uint32_t below) {
    return (uint32_t)(((gen_random(g) >> 32) * below) >> 32);
}

bool gen_chance(gen *g, uint32_t percent) { return gen_below(g, 100) < percent; }

static void gen_names(gen *g) {
    static const char *const stems[] = {"TEE-RED-L", "\xC3\xA9tag\xC3\xA8re", "85123A", "x",
                                        "\xE8\x8C\xB6\xE5\xA3\xB6", "MUG 7", "a/b?c=d"};
    for (uint32_t i = 0; i < g->options.sku_count; i++) {
        uint32_t text = i / g->options.seller_count;
        int bytes = snprintf(g->sku_text[i], INV_SKU_BYTES_MAX, "%s#%u", stems[text % 7], text);
        g->sku_text_bytes[i] = (uint32_t)bytes;
        if (text % 11 == 5) { /* some names of the greatest length */
            memset(g->sku_text[i] + bytes, '.', INV_SKU_BYTES_MAX - (uint32_t)bytes);
            g->sku_text_bytes[i] = INV_SKU_BYTES_MAX;
        }
    }
    for (uint32_t i = 0; i < g->options.location_count; i++) {
        int bytes = snprintf(g->location_text[i], INV_LOCATION_BYTES_MAX, "L%u-%s", i,
                             stems[(i * 3) % 7]);
        g->location_text_bytes[i] = (uint32_t)bytes;
        if (i % 5 == 4) {
            memset(g->location_text[i] + bytes, '_', INV_LOCATION_BYTES_MAX - (uint32_t)bytes);
            g->location_text_bytes[i] = INV_LOCATION_BYTES_MAX;
        }
    }
}

void gen_init(gen *g, model *m, const gen_options *options, uint64_t seed) {
    memset(g, 0, sizeof *g);
    g->options = *options;
    g->m = m;
    g->random = mix(seed);
    g->salt = mix(seed ^ 0x5EED);
    gen_names(g);
    gen_forget_numbers(g);
}

inv_text gen_seller(const gen *g, uint32_t index) {
    static const char *const sellers[] = {NULL, "second seller"};
    inv_text text = {NULL, 0};
    const char *name = sellers[index % g->options.seller_count];
    if (name == NULL) return text;
    text.bytes = name;
    text.length = (uint32_t)strlen(name);
    return text;
}

/* ---- which command --------------------------------------------------------------------------- */

static uint32_t gen_seller_pick(gen *g) { return gen_below(g, g->options.seller_count); }

static uint32_t gen_sku(gen *g, uint32_t seller) {
    uint32_t sellers = g->options.seller_count;
    return gen_below(g, g->options.sku_count / sellers) * sellers + seller;
}

/* A fresh index that belongs to the seller. */
static uint32_t gen_fresh(gen *g, uint32_t *next, uint32_t seller) {
    uint32_t index = *next + (seller + g->options.seller_count - *next % g->options.seller_count) %
                                 g->options.seller_count;
    *next = index + 1;
    return index;
}

static uint32_t gen_recent(gen *g, uint32_t next, uint32_t window) {
    if (next == 0) return 0;
    uint32_t back = gen_below(g, next < window ? next : window);
    return next - 1 - back;
}

/* An id some call may speak of: mostly recent, often live, now and then unknown. */
static uint32_t gen_known_id(gen *g) {
    uint32_t die = gen_below(g, 100);
    if (die < 40 && g->m->live_count > 0) return g->m->live[gen_below(g, g->m->live_count)];
    if (die < 97) return gen_recent(g, g->id_next, RECENT_COUNT);
    return g->id_next + gen_below(g, 8);
}

static int64_t gen_qty(gen *g, uint32_t below) {
    if (g->options.edges && gen_below(g, 400) == 0) {
        static const int64_t edges[] = {0, -1, INV_QTY_MAX, (int64_t)INV_QTY_MAX + 1, INT64_MIN,
                                        INT64_MAX};
        return edges[gen_below(g, 6)];
    }
    return 1 + gen_below(g, below);
}

static void gen_line(gen *g, uint32_t seller, uint32_t free_percent, uint32_t qty_below,
                     model_line *out) {
    memset(out, 0, sizeof *out);
    out->sku = gen_sku(g, seller);
    out->location =
        gen_chance(g, free_percent) ? MODEL_NONE : gen_below(g, g->options.location_count);
    out->qty = gen_qty(g, qty_below);
}

static uint64_t gen_ttl(gen *g) {
    uint32_t die = gen_below(g, 100);
    if (g->options.long_ttls && die < 70) return INV_TTL_MS_MAX - gen_below(g, 1000);
    if (die < 30) return 1 + gen_below(g, 60);
    if (die < 70) return 1 + gen_below(g, 3000);
    if (die < 90) return 1 + gen_below(g, 120000);
    return die < 97 ? 0 : INV_TTL_MS_MAX;
}

/* The same body as a known reservation: lines in another order, one of them maybe in two parts; now
 * and then something is changed, which the store must notice. */
static void gen_reserve_again(gen *g, uint32_t id, model_command *out) {
    const model_hold *hold = &g->m->holds[id];
    out->id = id;
    out->ttl_ms = hold->ttl_ms;
    out->account = hold->account;
    out->use_safety_stock = hold->use_safety_stock;
    for (uint32_t i = 0; i < hold->body_count; i++) {
        model_line line = hold->body[hold->body_count - 1 - i];
        if (line.qty > 1 && line.qty < INV_QTY_MAX && out->line_count + 2 < MODEL_LINE_COUNT_MAX &&
            hold->body_count < MODEL_LINE_COUNT_MAX / 2 && gen_chance(g, 20)) {
            out->lines[out->line_count] = line;
            out->lines[out->line_count++].qty = 1;
            line.qty -= 1;
        }
        out->lines[out->line_count++] = line;
    }
    uint32_t die = gen_below(g, 10);
    if (die == 0) out->ttl_ms = hold->ttl_ms == 77 ? 78 : 77;
    if (die == 1) out->account = (hold->account + 1) % GEN_ACCOUNT_COUNT;
    if (die == 2 && out->lines[0].qty < INV_QTY_MAX) out->lines[0].qty += 1;
}

static void gen_reserve(gen *g, model_command *out) {
    uint32_t known = gen_known_id(g);
    if (gen_chance(g, 12) && known < g->m->hold_count && g->m->holds[known].body_count > 0) {
        gen_reserve_again(g, known, out);
        return;
    }
    uint32_t seller = gen_seller_pick(g);
    out->id = gen_fresh(g, &g->id_next, seller);
    if (gen_chance(g, 2)) { /* an id the others have used, or released before it was reserved */
        out->id = known;
        seller = known % g->options.seller_count;
    }
    out->ttl_ms = gen_ttl(g);
    out->account = gen_below(g, GEN_ACCOUNT_COUNT);
    out->use_safety_stock = gen_chance(g, 4);
    out->line_count = gen_chance(g, 70) ? 1 : 1 + gen_below(g, g->options.cart_lines_max);
    for (uint32_t i = 0; i < out->line_count; i++)
        gen_line(g, seller, 40, gen_chance(g, 90) ? 5 : 60, &out->lines[i]);
}

/* Names some places of the reservation, whole or in part; rarely more than there is. */
static void gen_part(gen *g, model_command *out) {
    if (out->id >= g->m->hold_count || g->m->holds[out->id].place_count == 0) return;
    const model_hold *hold = &g->m->holds[out->id];
    out->partial = true;
    for (uint32_t i = 0; i < hold->place_count && out->line_count < MODEL_LINE_COUNT_MAX; i++) {
        const model_place *place = &hold->places[i];
        int64_t open = place->held + place->allocated;
        if (i + 1 < hold->place_count && !gen_chance(g, 60)) continue;
        model_line *line = &out->lines[out->line_count++];
        memset(line, 0, sizeof *line);
        line->sku = place->sku;
        line->location = gen_chance(g, place->chosen ? 50 : 10) ? MODEL_NONE : place->location;
        line->qty = open > 1 ? 1 + gen_below(g, (uint32_t)open) : 1;
        if (gen_chance(g, 5)) line->qty += 1 + open;
        if (line->qty > INV_QTY_MAX) line->qty = INV_QTY_MAX;
    }
}

static void gen_by_id(gen *g, uint8_t kind, model_command *out) {
    out->kind = kind;
    out->id = gen_known_id(g);
    if (out->id >= g->id_next) g->id_next = out->id + 1;
    if (kind == INV_CMD_EXTEND) {
        out->ttl_ms = gen_ttl(g);
        if (out->ttl_ms == 0 && !g->options.edges) out->ttl_ms = 1;
        out->shorten = gen_chance(g, 30);
        return;
    }
    if (gen_chance(g, 30)) gen_part(g, out);
    out->keep_rest = kind == INV_CMD_COMMIT && out->partial && gen_chance(g, 50);
    out->rehold = kind == INV_CMD_COMMIT && !out->partial && gen_chance(g, 30);
    out->tombstone = kind == INV_CMD_RELEASE && !out->partial && gen_chance(g, 30);
}

static void gen_stock(gen *g, uint8_t kind, model_command *out) {
    uint32_t seller = gen_seller_pick(g);
    model_line *line = &out->lines[0];
    out->kind = kind;
    out->line_count = 1;
    out->account = gen_below(g, GEN_ACCOUNT_COUNT);
    gen_line(g, seller, 0, kind == INV_CMD_RECEIVE ? 40 : 12, line);
    const model_row *row = &g->m->rows[line->sku][line->location];
    if (kind == INV_CMD_ADJUST && gen_chance(g, 75) && line->qty > 0 && line->qty < INV_QTY_MAX)
        line->qty = -line->qty;
    if (kind == INV_CMD_ADJUST) out->strict = gen_chance(g, 40);
    if (kind == INV_CMD_SET_ON_HAND) {
        out->if_on_hand = gen_chance(g, 80) ? row->on_hand : row->on_hand + 1;
        line->qty = gen_chance(g, 10) ? row->on_hand : gen_below(g, 60);
    }
    if (kind == INV_CMD_SET_POLICY) {
        line->qty = 0;
        if (gen_chance(g, 30)) line->location = MODEL_NONE;
        out->safety_stock = gen_chance(g, 40) ? 0 : gen_below(g, 6);
    }
}

/* Stock changes start with receipts of a location, so that its number is certain. */
static bool gen_location_fresh(const gen *g, const model_command *command) {
    uint32_t location = command->lines[0].location;
    return location != MODEL_NONE && g->m->location_rank[location] == MODEL_NONE;
}

static void gen_op_id(gen *g, model_command *out) {
    bool by_id = out->kind <= INV_CMD_EXTEND;
    if ((by_id && !out->partial) || gen_chance(g, 40)) return;
    uint32_t sellers = g->options.seller_count;
    uint32_t seller = (by_id ? out->id : out->lines[0].sku) % sellers;
    out->op_id = gen_fresh(g, &g->op_next, seller);
    if (!gen_chance(g, 15)) return;
    uint32_t known = gen_recent(g, g->op_next, RECENT_COUNT);
    if (known >= g->m->op_count || g->m->ops[known].body == NULL) return;
    const model_command *body = g->m->ops[known].body;
    if (known % sellers != seller || gen_chance(g, 80)) { /* mostly the same body once more */
        memcpy(out, body, offsetof(model_command, lines) + body->line_count * sizeof *body->lines);
        if (gen_chance(g, 10)) out->account = (out->account + 1) % GEN_ACCOUNT_COUNT;
        if (gen_chance(g, 10)) out->lines[0].qty = out->lines[0].qty == 3 ? 4 : 3;
    }
    out->op_id = known;
}

void gen_command(gen *g, model_command *out) {
    memset(out, 0, offsetof(model_command, lines));
    out->op_id = MODEL_NONE;
    out->id = MODEL_NONE;
    uint32_t die = gen_below(g, 100);
    if (die < 36) {
        out->kind = INV_CMD_RESERVE;
        gen_reserve(g, out);
        return;
    }
    static const struct {
        uint32_t below;
        uint8_t kind;
    } by_id[] = {{47, INV_CMD_COMMIT}, {57, INV_CMD_SHIP}, {65, INV_CMD_RELEASE},
                 {71, INV_CMD_CANCEL}, {76, INV_CMD_EXTEND}};
    static const struct {
        uint32_t below;
        uint8_t kind;
    } stock[] = {{88, INV_CMD_RECEIVE}, {91, INV_CMD_ISSUE}, {95, INV_CMD_ADJUST},
                 {98, INV_CMD_SET_ON_HAND}, {100, INV_CMD_SET_POLICY}};
    for (uint32_t i = 0; i < 5 && out->kind == 0; i++)
        if (die < by_id[i].below) gen_by_id(g, by_id[i].kind, out);
    for (uint32_t i = 0; i < 5 && out->kind == 0; i++) {
        if (die >= stock[i].below) continue;
        gen_stock(g, stock[i].kind, out);
        if (gen_location_fresh(g, out)) {
            memset(out, 0, offsetof(model_command, lines));
            out->op_id = out->id = MODEL_NONE;
            gen_stock(g, INV_CMD_RECEIVE, out);
        }
    }
    gen_op_id(g, out);
}

static bool gen_is_uuid(const gen *g, uint32_t id) { return id / g->options.seller_count % 4 < 2; }

/* An id some call may speak of that is a UUID of this seller's, or a fresh one. */
static uint32_t gen_row_id(gen *g, uint32_t seller, bool known) {
    for (uint32_t i = 0; known && i < 32; i++) {
        uint32_t id = gen_known_id(g);
        if (id % g->options.seller_count != seller || !gen_is_uuid(g, id)) continue;
        if (model_state(g->m, id) == INV_STATE_NONE && !gen_chance(g, 5)) continue;
        if (id >= g->id_next) g->id_next = id + 1;
        return id;
    }
    for (;;) {
        uint32_t id = gen_fresh(g, &g->id_next, seller);
        if (gen_is_uuid(g, id)) return id;
    }
}

bool gen_has_names(const gen *g, uint32_t seller) {
    if (g->m->location_rank_next == 0) return false;
    for (uint32_t sku = seller; sku < g->options.sku_count; sku += g->options.seller_count)
        if (g->m->sku_known[sku]) return true;
    return false;
}

static void gen_stock_row(gen *g, uint32_t seller, model_command *out) {
    model_line *line = &out->lines[0];
    out->id = MODEL_NONE;
    out->line_count = 1;
    do {
        gen_line(g, seller, 0, out->kind == INV_CMD_RECEIVE ? 40 : 12, line);
    } while (!g->m->sku_known[line->sku] || g->m->location_rank[line->location] == MODEL_NONE);
    if (out->kind == INV_CMD_ADJUST && gen_chance(g, 50) && line->qty > 0) line->qty = -line->qty;
}

void gen_row(gen *g, uint8_t kind, uint32_t seller, uint32_t account, model_command *out) {
    memset(out, 0, offsetof(model_command, lines));
    out->kind = kind;
    out->op_id = MODEL_NONE;
    out->account = account;
    bool reserve = kind == INV_CMD_RESERVE;
    if (kind == INV_CMD_RECEIVE || kind == INV_CMD_ISSUE || kind == INV_CMD_ADJUST) {
        gen_stock_row(g, seller, out);
        return;
    }
    out->id = gen_row_id(g, seller, !reserve || gen_chance(g, 10));
    if (reserve || kind == INV_CMD_EXTEND) out->ttl_ms = gen_ttl(g);
    if ((reserve || kind == INV_CMD_EXTEND) && out->ttl_ms == 0) out->ttl_ms = 1; /* no default */
    if (!reserve) return;
    const model_hold *hold = out->id < g->m->hold_count ? &g->m->holds[out->id] : NULL;
    out->line_count = 1;
    gen_line(g, seller, 40, gen_chance(g, 90) ? 5 : 60, &out->lines[0]);
    if (hold == NULL || hold->body_count != 1 || gen_chance(g, 20)) return;
    out->ttl_ms = hold->ttl_ms; /* the same body again */
    out->lines[0] = hold->body[0];
}

uint64_t gen_step_ms(gen *g) {
    uint32_t die = gen_below(g, 1000);
    if (die < 500) return gen_below(g, 4);
    if (die < 950) return gen_below(g, 400);
    if (die < 998) return gen_below(g, 60000);
    return gen_below(g, 8 * 3600 * 1000);
}

/* ---- spelling -------------------------------------------------------------------------------- */

void gen_raw_id(const gen *g, uint32_t id, uint8_t out[16]) {
    uint64_t text = id / g->options.seller_count;
    uint64_t high = mix(g->salt ^ text), low = mix(g->salt + 7 * text + 1);
    memcpy(out, &high, 8);
    memcpy(out + 8, &low, 8);
    out[6] = (uint8_t)((out[6] & 0x0F) | 0x40); /* version 4: never stale */
    out[8] = (uint8_t)((out[8] & 0x3F) | 0x80);
}

static uint32_t spell_uuid(gen *g, uint32_t id, char *out, bool *out_is_uuid) {
    uint8_t bytes[16];
    gen_raw_id(g, id, bytes);
    *out_is_uuid = gen_chance(g, 50);
    if (*out_is_uuid) {
        memcpy(out, bytes, 16);
        return 16;
    }
    uint32_t letters = gen_below(g, 3); /* lower case, upper case, mixed */
    uint32_t length = 0;
    for (uint32_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) out[length++] = '-';
        for (uint32_t half = 0; half < 2; half++) {
            uint32_t digit = half == 0 ? bytes[i] >> 4 : bytes[i] & 15;
            bool upper = letters == 1 || (letters == 2 && gen_chance(g, 50));
            out[length++] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[digit];
        }
    }
    return length;
}

uint32_t gen_spell_id(gen *g, uint32_t id, char *out, bool *out_is_uuid) {
    uint64_t text = id / g->options.seller_count;
    *out_is_uuid = false;
    switch (text % 4) {
    case 0:
    case 1:
        return spell_uuid(g, id, out, out_is_uuid);
    case 2: { /* short text, 16 bytes long at times: not to be taken for a UUID's bytes */
        int length = snprintf(out, INV_ID_BYTES_MAX, "cart-%llu%s", (unsigned long long)text,
                              text % 8 == 2 ? "" : "........");
        return (uint32_t)(length > 16 ? 16 : length);
    }
    default: { /* the longest, and one that differs from a UUID in a single letter */
        char number[32];
        int length = snprintf(number, sizeof number, "%llu", (unsigned long long)text);
        uint32_t bytes = text % 8 == 3 ? INV_ID_BYTES_MAX : 36;
        memset(out, text % 8 == 3 ? 'Z' : 'g', bytes);
        memcpy(out, number, (uint32_t)length);
        if (bytes == 36) out[8] = out[13] = out[18] = out[23] = '-';
        return bytes;
    }
    }
}

static void spell_line(gen *g, const model_line *line, inv_line *out) {
    memset(out, 0, sizeof *out);
    out->qty = line->qty;
    out->location_number = INV_LOCATION_NONE;
    if (g->sku_number[line->sku] != INV_NUMBER_NONE && gen_chance(g, 50)) {
        out->sku_number = g->sku_number[line->sku];
    } else {
        out->sku.bytes = g->sku_text[line->sku];
        out->sku.length = g->sku_text_bytes[line->sku];
    }
    if (line->location == MODEL_NONE) return;
    if (g->location_number[line->location] != INV_NUMBER_NONE && gen_chance(g, 50)) {
        out->location_number = (uint16_t)g->location_number[line->location];
    } else {
        out->location.bytes = g->location_text[line->location];
        out->location.length = g->location_text_bytes[line->location];
    }
}

inv_text gen_account(uint32_t index) {
    static const char *const accounts[GEN_ACCOUNT_COUNT] = {NULL, "web", "shop \xE2\x82\xAC"};
    inv_text text = {NULL, 0};
    if (accounts[index] == NULL) return text;
    text.bytes = accounts[index];
    text.length = (uint32_t)strlen(accounts[index]);
    return text;
}

void gen_spell(gen *g, const model_command *command, gen_spelled *out) {
    inv_command *spelled = &out->command;
    memset(spelled, 0, sizeof *spelled);
    spelled->kind = command->kind;
    spelled->partial = command->partial;
    spelled->keep_rest = command->keep_rest;
    spelled->rehold = command->rehold;
    spelled->shorten = command->shorten;
    spelled->tombstone = command->tombstone;
    spelled->strict = command->strict;
    spelled->use_safety_stock = command->use_safety_stock;
    spelled->ttl_ms = command->ttl_ms;
    spelled->if_on_hand = command->if_on_hand;
    spelled->safety_stock = command->safety_stock;
    spelled->account = gen_account(command->account);
    if (command->id != MODEL_NONE) {
        spelled->id.length = gen_spell_id(g, command->id, out->id, &spelled->id_is_uuid);
        spelled->id.bytes = out->id;
        spelled->seller = gen_seller(g, command->id);
    } else {
        spelled->seller = gen_seller(g, command->lines[0].sku);
    }
    if (command->op_id != MODEL_NONE) {
        /* The same texts as reservation ids have: the two kinds of key must not meet. */
        spelled->op_id.length = gen_spell_id(g, command->op_id, out->op_id,
                                             &spelled->op_id_is_uuid);
        spelled->op_id.bytes = out->op_id;
    }
    for (uint32_t i = 0; i < command->line_count; i++)
        spell_line(g, &command->lines[i], &out->lines[i]);
    spelled->lines = command->line_count > 0 ? out->lines : NULL;
    spelled->line_count = command->line_count;
}

/* ---- numbers --------------------------------------------------------------------------------- */

void gen_forget_numbers(gen *g) {
    for (uint32_t i = 0; i < g->options.sku_count; i++) g->sku_number[i] = INV_NUMBER_NONE;
    for (uint32_t i = 0; i < g->options.location_count; i++)
        g->location_number[i] = INV_NUMBER_NONE;
}

static bool learn(inv_store *store, inv_name_kind kind, inv_text seller, const char *bytes,
                  uint32_t length, uint32_t *number) {
    uint64_t lsn;
    size_t bad;
    inv_text name = {bytes, length};
    if (*number != INV_NUMBER_NONE) return true;
    return inv_store_numbers(store, kind, seller, &name, 1, false, number, &lsn, &bad) == INV_OK;
}

const char *gen_learn_numbers(gen *g, inv_store *store) {
    inv_text no_seller = {NULL, 0};
    for (uint32_t i = 0; i < g->options.sku_count; i++) {
        if (!g->m->sku_known[i]) continue;
        if (!learn(store, INV_NAME_SKU, gen_seller(g, i), g->sku_text[i], g->sku_text_bytes[i],
                   &g->sku_number[i]) ||
            g->sku_number[i] == INV_NUMBER_NONE)
            return "a SKU in use has no number";
    }
    for (uint32_t i = 0; i < g->options.location_count; i++) {
        if (g->m->location_rank[i] == MODEL_NONE) continue;
        if (!learn(store, INV_NAME_LOCATION, no_seller, g->location_text[i],
                   g->location_text_bytes[i], &g->location_number[i]) ||
            g->location_number[i] == INV_NUMBER_NONE)
            return "a location in use has no number";
        for (uint32_t j = 0; j < i; j++) {
            if (g->m->location_rank[j] == MODEL_NONE) continue;
            bool first = g->m->location_rank[j] < g->m->location_rank[i];
            if (first != (g->location_number[j] < g->location_number[i]))
                return "locations are not numbered in order of first use";
        }
    }
    return NULL;
}
