/* SPDX-License-Identifier: Apache-2.0
 *
 * shop.h: a small store for unit tests: a manual clock, loops turned by hand, and one-line calls
 * with C strings. Every call settles (syncs, prepares segments), so reopening loses nothing.
 */
#ifndef SHOP_H
#define SHOP_H

#include "inv_test.h"
#include "../../src/invcore/invcore.h"

#define SHOP_START_MS 1700000000000ull
#define SHOP_LINE_COUNT_MAX 4200u
#define SHOP_HELPER static inline __attribute__((unused))

typedef struct shop {
    inv_env *env;
    inv_memory *memory;
    inv_store *store;
    inv_options options;
    uint64_t clock_ms;
    inv_reply reply; /* of the last command */
    inv_reply_line lines[SHOP_LINE_COUNT_MAX];
} shop;

SHOP_HELPER inv_text shop_text(const char *terminated) {
    inv_text text = {terminated, terminated == NULL ? 0 : (uint32_t)strlen(terminated)};
    return text;
}

/* ---- opening ------------------------------------------------------------------------------ */

/* Options may be changed between shop_init and shop_open. */
SHOP_HELPER void shop_init(shop *s, bool durable) {
    memset(s, 0, sizeof *s);
    s->clock_ms = SHOP_START_MS;
    s->env = inv_env_create();
    if (durable) {
        s->memory = inv_memory_create();
        inv_env_use_memory(s->env, s->memory);
    }
    inv_env_use_manual_clock(s->env, s->clock_ms);
    inv_options_init(&s->options);
    s->options.durability = durable ? INV_DURABLE : INV_MEMORY;
    s->options.segment_bytes = 256u << 10;
    s->options.segments_ahead_max = 1;
    s->options.stripe_bits = 4;
}

SHOP_HELPER void shop_settle(shop *s) {
    bool more = s->memory != NULL;
    if (more) CHECK_EQ(inv_store_flush(s->store), INV_OK);
    while (more)
        if (!CHECK_EQ(inv_store_prepare(s->store, &more), INV_OK)) return;
}

SHOP_HELPER inv_result shop_open(shop *s) {
    inv_error error;
    memset(&error, 0, sizeof error);
    inv_result result = inv_store_open(s->env, &s->options, &s->store, &error);
    if (result == INV_OK) {
        shop_settle(s);
    } else {
        s->store = NULL;
        fprintf(stderr, "open: %s\n", error.message);
    }
    return result;
}

SHOP_HELPER void shop_start(shop *s, bool durable) {
    shop_init(s, durable);
    CHECK_EQ(shop_open(s), INV_OK);
}

/* Moves the clock and lets everything due expire. */
SHOP_HELPER void shop_advance(shop *s, uint64_t ms) {
    s->clock_ms += ms;
    inv_env_set_clock(s->env, s->clock_ms);
    bool more = true;
    for (uint32_t i = 0; more && i < 1000000; i++) {
        if (!CHECK_EQ(inv_store_advance(s->store, 4096, &more), INV_OK)) return;
        shop_settle(s);
    }
    CHECK(!more);
}

SHOP_HELPER void shop_check(shop *s) {
    inv_check_report report;
    memset(&report, 0, sizeof report);
    CHECK_EQ(inv_store_check(s->store, &report), INV_OK);
    if (!CHECK(report.ok)) fprintf(stderr, "check: %s\n", report.problem);
}

SHOP_HELPER void shop_shut(shop *s) {
    inv_error error;
    memset(&error, 0, sizeof error);
    if (s->store == NULL) return;
    CHECK_EQ(inv_store_close(s->store, &error), INV_OK);
    inv_store_destroy(s->store);
    s->store = NULL;
}

/* Closes (or crashes: everything was synced) and opens again over the same disk. */
SHOP_HELPER void shop_reopen(shop *s, bool crash) {
    shop_settle(s);
    if (crash) {
        inv_store_destroy(s->store);
        inv_memory_power_cut(s->memory, 0);
    } else {
        shop_shut(s);
    }
    if (!CHECK_EQ(shop_open(s), INV_OK)) exit(1); /* nothing that follows would make sense */
}

SHOP_HELPER void shop_end(shop *s) {
    if (s->store != NULL) shop_check(s);
    shop_shut(s);
    inv_env_destroy(s->env);
    if (s->memory != NULL) inv_memory_destroy(s->memory);
}

/* ---- commands ----------------------------------------------------------------------------- */

SHOP_HELPER int shop_do(shop *s, const inv_command *command) {
    memset(&s->reply, 0xA5, sizeof s->reply);
    s->reply.lines = s->lines;
    s->reply.lines_max = SHOP_LINE_COUNT_MAX;
    inv_result result = inv_store_execute(s->store, command, 1, &s->reply);
    if (result != INV_OK) return (int)result;
    shop_settle(s);
    CHECK_EQ(inv_store_wait(s->store, s->reply.observed_lsn, 0), INV_OK);
    return s->reply.code;
}

SHOP_HELPER inv_line shop_line(const char *sku, const char *location, int64_t qty) {
    inv_line line;
    memset(&line, 0, sizeof line);
    line.sku = shop_text(sku);
    line.location = shop_text(location);
    line.location_number = INV_LOCATION_NONE;
    line.qty = qty;
    return line;
}

SHOP_HELPER inv_command shop_command(uint8_t kind, const char *id, const inv_line *lines,
                                     uint32_t count) {
    inv_command command;
    memset(&command, 0, sizeof command);
    command.kind = kind;
    if (kind <= INV_CMD_EXTEND) command.id = shop_text(id);
    else command.op_id = shop_text(id);
    command.lines = lines;
    command.line_count = count;
    return command;
}

/* Stock changes: op_id may be NULL. */
SHOP_HELPER int shop_stock(shop *s, uint8_t kind, const char *op_id, const char *sku,
                           const char *location, int64_t qty) {
    inv_line line = shop_line(sku, location, qty);
    inv_command command = shop_command(kind, op_id, &line, 1);
    return shop_do(s, &command);
}

SHOP_HELPER int shop_receive(shop *s, const char *sku, const char *location, int64_t qty) {
    return shop_stock(s, INV_CMD_RECEIVE, NULL, sku, location, qty);
}

SHOP_HELPER int shop_count(shop *s, const char *sku, const char *location, int64_t if_on_hand,
                           int64_t qty) {
    inv_line line = shop_line(sku, location, qty);
    inv_command command = shop_command(INV_CMD_SET_ON_HAND, NULL, &line, 1);
    command.if_on_hand = if_on_hand;
    return shop_do(s, &command);
}

SHOP_HELPER int shop_policy(shop *s, const char *sku, const char *location, int64_t safety_stock) {
    inv_line line = shop_line(sku, location, 0);
    inv_command command = shop_command(INV_CMD_SET_POLICY, NULL, &line, 1);
    command.safety_stock = safety_stock;
    return shop_do(s, &command);
}

SHOP_HELPER int shop_cart(shop *s, const char *id, const inv_line *lines, uint32_t count,
                          uint64_t ttl_ms) {
    inv_command command = shop_command(INV_CMD_RESERVE, id, lines, count);
    command.ttl_ms = ttl_ms;
    return shop_do(s, &command);
}

SHOP_HELPER int shop_reserve(shop *s, const char *id, const char *sku, const char *location,
                             int64_t qty, uint64_t ttl_ms) {
    inv_line line = shop_line(sku, location, qty);
    return shop_cart(s, id, &line, 1, ttl_ms);
}

SHOP_HELPER int shop_by_id(shop *s, uint8_t kind, const char *id) {
    inv_command command = shop_command(kind, id, NULL, 0);
    command.ttl_ms = kind == INV_CMD_EXTEND ? 60000 : 0;
    return shop_do(s, &command);
}

/* A part of one line; keep_rest matters for commit only. */
SHOP_HELPER int shop_part(shop *s, uint8_t kind, const char *id, const char *op_id,
                          const char *sku, const char *location, int64_t qty, bool keep_rest) {
    inv_line line = shop_line(sku, location, qty);
    inv_command command = shop_command(kind, id, &line, 1);
    command.partial = true;
    command.keep_rest = keep_rest;
    command.op_id = shop_text(op_id);
    return shop_do(s, &command);
}

/* ---- looking ------------------------------------------------------------------------------ */

SHOP_HELPER inv_stock_level shop_level(shop *s, const char *sku, const char *location) {
    inv_stock_level level;
    inv_line line = shop_line(sku, location, 0);
    memset(&level, 0, sizeof level);
    if (location != NULL) {
        CHECK_EQ(inv_store_availability(s->store, shop_text(NULL), &line, &level), INV_OK);
        return level;
    }
    inv_stock_level levels[64];
    uint32_t count = 0;
    CHECK_EQ(inv_store_availability_sku(s->store, shop_text(NULL), &line, levels, 64, &count,
                                        &level),
             INV_OK);
    return level;
}

/* on_hand, held and allocated of a row in one comparison. */
SHOP_HELPER bool shop_figures(shop *s, const char *sku, const char *location, int64_t on_hand,
                              int64_t held, int64_t allocated) {
    inv_stock_level level = shop_level(s, sku, location);
    if (level.on_hand == on_hand && level.held == held && level.allocated == allocated)
        return true;
    fprintf(stderr, "%s at %s: on_hand %" PRId64 " held %" PRId64 " allocated %" PRId64 "\n", sku,
            location == NULL ? "all" : location, level.on_hand, level.held, level.allocated);
    return false;
}

SHOP_HELPER int64_t shop_available(shop *s, const char *sku, const char *location) {
    return shop_level(s, sku, location).available;
}

/* Fills s->reply; INV_STATE_NONE for an unknown id. */
SHOP_HELPER uint8_t shop_state(shop *s, const char *id) {
    memset(&s->reply, 0, sizeof s->reply);
    s->reply.lines = s->lines;
    s->reply.lines_max = SHOP_LINE_COUNT_MAX;
    inv_result result =
        inv_store_reservation(s->store, shop_text(NULL), shop_text(id), false, &s->reply);
    CHECK(result == INV_OK || result == INV_UNKNOWN_RESERVATION);
    return result == INV_OK ? s->reply.state : (uint8_t)INV_STATE_NONE;
}

/* Units of the last reply's lines at a location (by name). */
SHOP_HELPER int64_t shop_units_at(shop *s, const char *location) {
    uint32_t number = INV_NUMBER_NONE;
    uint64_t lsn;
    size_t bad;
    int64_t units = 0;
    inv_text name = shop_text(location);
    CHECK_EQ(inv_store_numbers(s->store, INV_NAME_LOCATION, shop_text(NULL), &name, 1, false,
                               &number, &lsn, &bad),
             INV_OK);
    for (uint32_t i = 0; i < s->reply.line_count && i < s->reply.lines_max; i++)
        if (s->lines[i].location == number) units += s->lines[i].held + s->lines[i].allocated;
    return units;
}

#endif
