/* SPDX-License-Identifier: Apache-2.0
 *
 * test_walk.c: walks of rows and reservations, also while others write, and reading the log of a
 * closed store: whole, torn and damaged.
 */
#include <pthread.h>

#include "shop.h"
#include "../../src/invcore/base/inv_crc32c.h"
#include "../../src/invcore/base/inv_env.h"
#include "../../src/invcore/base/inv_line_op.h"
#include "../../src/invcore/log/inv_wal_format.h"

#define ROOM_MAX 70000u
#define THREAD_COUNT 2u
#define COMMIT_COUNT 50000u

static shop s;

/* ---- columns --------------------------------------------------------------------------------- */

static struct {
    uint32_t sku[ROOM_MAX];
    uint16_t location[ROOM_MAX], seller[ROOM_MAX];
    int64_t figures[8][ROOM_MAX];
    uint64_t lsn[ROOM_MAX];
} row_columns;

static inv_walk_rows rows_of(uint32_t room_count) {
    inv_walk_rows rows = {.room_count = room_count,
                          .sku = row_columns.sku,
                          .location = row_columns.location,
                          .seller = row_columns.seller,
                          .on_hand = row_columns.figures[0],
                          .held = row_columns.figures[1],
                          .allocated = row_columns.figures[2],
                          .reserved = row_columns.figures[3],
                          .available = row_columns.figures[4],
                          .available_to_promise = row_columns.figures[5],
                          .safety_stock = row_columns.figures[6],
                          .short_qty = row_columns.figures[7],
                          .lsn = row_columns.lsn};
    return rows;
}

static struct {
    uint8_t id[ROOM_MAX][INV_ID_BYTES_MAX];
    uint8_t id_length[ROOM_MAX], id_is_uuid[ROOM_MAX], state[ROOM_MAX];
    uint16_t seller[ROOM_MAX], line_index[ROOM_MAX], line_count[ROOM_MAX], location[ROOM_MAX];
    uint32_t account[ROOM_MAX], sku[ROOM_MAX];
    uint64_t times[3][ROOM_MAX];
    int64_t figures[5][ROOM_MAX];
} hold_columns;

static inv_walk_holds holds_of(uint32_t room_count) {
    inv_walk_holds holds = {.room_count = room_count,
                            .id = hold_columns.id,
                            .id_length = hold_columns.id_length,
                            .id_is_uuid = hold_columns.id_is_uuid,
                            .state = hold_columns.state,
                            .seller = hold_columns.seller,
                            .account = hold_columns.account,
                            .expires_at_unix_ms = hold_columns.times[0],
                            .ended_at_unix_ms = hold_columns.times[1],
                            .lsn = hold_columns.times[2],
                            .units = hold_columns.figures[0],
                            .line_index = hold_columns.line_index,
                            .line_count = hold_columns.line_count,
                            .sku = hold_columns.sku,
                            .location = hold_columns.location,
                            .qty = hold_columns.figures[1],
                            .held = hold_columns.figures[2],
                            .allocated = hold_columns.figures[3],
                            .shipped = hold_columns.figures[4]};
    return holds;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Every figure of a row, against what a read by name says. */
static void check_row(const inv_walk_rows *rows, uint32_t i) {
    inv_line line = {.sku_number = rows->sku[i], .location_number = rows->location[i]};
    inv_stock_level level;
    CHECK_EQ(inv_store_availability(s.store, shop_text(NULL), &line, &level), INV_OK);
    CHECK(level.known);
    CHECK_EQ(rows->on_hand[i], level.on_hand);
    CHECK_EQ(rows->held[i], level.held);
    CHECK_EQ(rows->allocated[i], level.allocated);
    CHECK_EQ(rows->reserved[i], level.reserved);
    CHECK_EQ(rows->available[i], level.available);
    CHECK_EQ(rows->available_to_promise[i], level.available_to_promise);
    CHECK_EQ(rows->safety_stock[i], level.safety_stock);
    CHECK_EQ(rows->short_qty[i], level.short_qty);
    CHECK_EQ(rows->lsn[i], level.lsn);
}

/* Walks all in pieces of room_count; returns the rows there were. */
static uint64_t walk_all_rows(uint32_t room_count) {
    inv_walk walk = {0};
    uint64_t total = 0;
    while (!walk.done) {
        inv_walk_rows rows = rows_of(room_count);
        if (!CHECK_EQ(inv_store_walk_rows(s.store, &walk, &rows), INV_OK)) return total;
        for (uint32_t i = 0; i < rows.count; i++) {
            bool same = i > 0 && rows.sku[i] == rows.sku[i - 1];
            check_row(&rows, i);
            CHECK(!same || rows.location[i] > rows.location[i - 1]);
            CHECK(!same || rows.lsn[i] == rows.lsn[i - 1]);
            CHECK(rows.lsn[i] <= walk.lsn);
        }
        total += rows.count;
    }
    CHECK_EQ(inv_store_wait(s.store, walk.lsn, 0), INV_OK);
    return total;
}

INV_TEST(every_row_is_given_once_with_all_its_figures) {
    char sku[16];
    shop_start(&s, true);
    CHECK_EQ(walk_all_rows(1), 0); /* nothing there: done at once */
    for (uint32_t i = 0; i < 100; i++) {
        (void)snprintf(sku, sizeof sku, "S%u", i);
        CHECK_EQ(shop_receive(&s, sku, "W1", 10 + i), INV_OK);
        if (i % 3 == 0) CHECK_EQ(shop_receive(&s, sku, "W2", 3), INV_OK);
        if (i % 3 == 0) CHECK_EQ(shop_receive(&s, sku, "W3", 4), INV_OK);
    }
    CHECK_EQ(shop_reserve(&s, "r1", "S1", "W1", 5, 0), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r3", "S3", "W2", 2, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r3"), INV_OK);
    CHECK_EQ(shop_policy(&s, "S6", "W2", 2), INV_OK);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "S3", "W2", -3), INV_OK); /* short now */
    for (uint32_t room = 3; room < 12; room++) CHECK_EQ(walk_all_rows(room), 168);
    CHECK_EQ(walk_all_rows(ROOM_MAX), 168);
    shop_end(&s);
}

INV_TEST(a_stripe_of_more_rows_than_a_step_is_given_whole) {
    char sku[16];
    shop_init(&s, false);
    s.options.stripe_bits = 0;
    CHECK_EQ(shop_open(&s), INV_OK);
    for (uint32_t i = 0; i < 2 * INV_WALK_STEP + 10; i++) {
        (void)snprintf(sku, sizeof sku, "S%u", i);
        CHECK_EQ(shop_receive(&s, sku, "W1", 1 + i), INV_OK);
    }
    CHECK_EQ(walk_all_rows(INV_WALK_STEP - 1), 2 * INV_WALK_STEP + 10);
    CHECK_EQ(walk_all_rows(ROOM_MAX), 2 * INV_WALK_STEP + 10);
    shop_end(&s);
}

INV_TEST(a_sku_that_does_not_fit_is_refused_and_fits_at_the_limit) {
    char location[16];
    shop_start(&s, false);
    for (uint32_t i = 0; i < INV_SKU_ROW_COUNT_MAX; i++) {
        (void)snprintf(location, sizeof location, "W%u", i);
        if (!CHECK_EQ(shop_receive(&s, "A", location, 1), INV_OK)) break;
    }
    inv_walk walk = {0};
    inv_walk_rows rows = rows_of(INV_SKU_ROW_COUNT_MAX - 1);
    inv_result result = INV_OK;
    while (result == INV_OK && !walk.done) result = inv_store_walk_rows(s.store, &walk, &rows);
    CHECK_EQ(result, INV_LIMIT_EXCEEDED);
    CHECK_EQ(rows.room_needed, INV_SKU_ROW_COUNT_MAX);
    CHECK_EQ(rows.count, 0);
    rows = rows_of(INV_SKU_ROW_COUNT_MAX); /* the same cursor goes on */
    CHECK_EQ(inv_store_walk_rows(s.store, &walk, &rows), INV_OK);
    CHECK_EQ(rows.count, INV_SKU_ROW_COUNT_MAX);
    CHECK_EQ(rows.room_needed, 0);
    rows = rows_of(0);
    CHECK_EQ(inv_store_walk_rows(s.store, &walk, &rows), INV_BAD_REQUEST);
    shop_end(&s);
}

INV_TEST(a_closed_store_is_not_walked) {
    shop_start(&s, true);
    inv_walk walk = {0};
    inv_walk_rows rows = rows_of(10);
    inv_walk_holds holds = holds_of(10);
    CHECK_EQ(inv_store_close(s.store, NULL), INV_OK);
    CHECK_EQ(inv_store_walk_rows(s.store, &walk, &rows), INV_STORE_CLOSED);
    CHECK_EQ(inv_store_walk_reservations(s.store, &walk, true, &holds), INV_STORE_CLOSED);
    inv_store_destroy(s.store);
    s.store = NULL;
    shop_end(&s);
}

/* ---- reservations ---------------------------------------------------------------------------- */

/* A reservation of the walk, at places [i, i + line_count), against what a read by id says. */
static void check_hold(const inv_walk_holds *holds, uint32_t i) {
    inv_text id = {(const char *)holds->id[i], holds->id_length[i]};
    memset(&s.reply, 0, sizeof s.reply);
    s.reply.lines = s.lines;
    s.reply.lines_max = SHOP_LINE_COUNT_MAX;
    if (!CHECK_EQ(inv_store_reservation(s.store, shop_text(NULL), id, holds->id_is_uuid[i] != 0,
                                        &s.reply),
                  INV_OK))
        return;
    CHECK_EQ(holds->line_count[i], s.reply.line_count);
    if (s.reply.line_count == 0) CHECK_EQ(holds->sku[i], INV_NUMBER_NONE);
    if (s.reply.line_count == 0) CHECK_EQ(holds->location[i], INV_LOCATION_NONE);
    for (uint32_t k = 0; k < s.reply.line_count || k == 0; k++) {
        CHECK_EQ(holds->state[i + k], s.reply.state);
        CHECK_EQ(holds->lsn[i + k], s.reply.lsn);
        CHECK_EQ(holds->units[i + k], s.reply.units);
        CHECK_EQ(holds->expires_at_unix_ms[i + k], s.reply.expires_at_unix_ms);
        CHECK_EQ(holds->ended_at_unix_ms[i + k], s.reply.ended_at_unix_ms);
        if (k >= s.reply.line_count) break;
        CHECK_EQ(holds->line_index[i + k], k);
        CHECK_EQ(holds->sku[i + k], s.lines[k].sku);
        CHECK_EQ(holds->location[i + k], s.lines[k].location);
        CHECK_EQ(holds->qty[i + k], s.lines[k].qty);
        CHECK_EQ(holds->held[i + k], s.lines[k].held);
        CHECK_EQ(holds->allocated[i + k], s.lines[k].allocated);
        CHECK_EQ(holds->shipped[i + k], s.lines[k].shipped);
    }
}

/* Counts reservations by state; index 0 counts places. */
static void walk_all_holds(uint32_t room_count, bool ended, uint32_t counts[10]) {
    inv_walk walk = {0};
    memset(counts, 0, 10 * sizeof counts[0]);
    while (!walk.done) {
        inv_walk_holds holds = holds_of(room_count);
        if (!CHECK_EQ(inv_store_walk_reservations(s.store, &walk, ended, &holds), INV_OK)) return;
        for (uint32_t i = 0; i < holds.count; i++) {
            counts[0]++;
            CHECK(holds.lsn[i] <= walk.lsn);
            if (holds.line_index[i] != 0) continue;
            counts[holds.state[i]]++;
            check_hold(&holds, i);
        }
    }
    CHECK_EQ(inv_store_wait(s.store, walk.lsn, 0), INV_OK);
}

static void fill_with_reservations(void) {
    static const char *uuid = "0190b3c0-1111-7abc-8def-0123456789ab";
    inv_line cart[3] = {shop_line("A", "W1", 1), shop_line("B", "W1", 2), shop_line("C", "W2", 3)};
    CHECK_EQ(shop_receive(&s, "A", "W1", 100), INV_OK);
    CHECK_EQ(shop_stock(&s, INV_CMD_RECEIVE, "po-1", "B", "W1", 100), INV_OK); /* an op_id */
    CHECK_EQ(shop_receive(&s, "C", "W2", 100), INV_OK);
    CHECK_EQ(shop_reserve(&s, "held", "A", "W1", 5, 0), INV_OK);
    CHECK_EQ(shop_reserve(&s, uuid, "A", "W1", 5, 0), INV_OK);
    CHECK_EQ(shop_cart(&s, "cart", cart, 3, 0), INV_OK);
    CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "cart", "c-1", "B", "W1", 1, true), INV_OK);
    CHECK_EQ(shop_cart(&s, "order", cart, 3, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "order"), INV_OK);
    CHECK_EQ(shop_cart(&s, "sent", cart, 3, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_SHIP, "sent"), INV_OK);
    CHECK_EQ(shop_reserve(&s, "given back", "B", "W1", 7, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "given back"), INV_OK);
    CHECK_EQ(shop_reserve(&s, "lapsed", "B", "W1", 7, 1000), INV_OK);
    CHECK_EQ(shop_cart(&s, "lapsed cart", cart, 3, 1000), INV_OK);
    inv_command grave = shop_command(INV_CMD_RELEASE, "never made", NULL, 0);
    grave.tombstone = true;
    CHECK_EQ(shop_do(&s, &grave), INV_OK);
    shop_advance(&s, 1000);
}

INV_TEST(reservations_of_every_state_are_given_as_a_read_shows_them) {
    uint32_t counts[10];
    shop_start(&s, true);
    fill_with_reservations();
    for (uint32_t room = 3; room < 20; room++) {
        walk_all_holds(room, false, counts);
        CHECK_EQ(counts[INV_STATE_HELD], 3);
        CHECK_EQ(counts[INV_STATE_ALLOCATED], 1);
        CHECK_EQ(counts[0], 2 + 3 + 3); /* places: two of one line, two of three */
        walk_all_holds(room, true, counts);
        CHECK_EQ(counts[INV_STATE_HELD], 3);
        CHECK_EQ(counts[INV_STATE_ALLOCATED], 1);
        CHECK_EQ(counts[INV_STATE_SHIPPED], 1);
        CHECK_EQ(counts[INV_STATE_RELEASED], 2); /* one of them was never made */
        CHECK_EQ(counts[INV_STATE_EXPIRED], 2);
    }
    shop_reopen(&s, true);
    walk_all_holds(ROOM_MAX, true, counts);
    CHECK_EQ(counts[INV_STATE_HELD] + counts[INV_STATE_ALLOCATED], 4);
    shop_end(&s);
}

INV_TEST(a_reservation_that_does_not_fit_is_refused_and_fits_at_the_limit) {
    static inv_line cart[INV_LINE_COUNT_MAX];
    static char skus[INV_LINE_COUNT_MAX][8];
    shop_init(&s, false);
    s.options.segment_bytes = 4u << 20; /* room for a record of that many lines */
    CHECK_EQ(shop_open(&s), INV_OK);
    for (uint32_t i = 0; i < INV_LINE_COUNT_MAX; i++) {
        (void)snprintf(skus[i], sizeof skus[i], "S%u", i);
        cart[i] = shop_line(skus[i], "W1", 1);
        CHECK_EQ(shop_receive(&s, skus[i], "W1", 1), INV_OK);
    }
    CHECK_EQ(shop_cart(&s, "big", cart, INV_LINE_COUNT_MAX, 0), INV_OK);
    inv_walk walk = {0};
    inv_walk_holds holds = holds_of(INV_LINE_COUNT_MAX - 1);
    CHECK_EQ(inv_store_walk_reservations(s.store, &walk, false, &holds), INV_LIMIT_EXCEEDED);
    CHECK_EQ(holds.room_needed, INV_LINE_COUNT_MAX);
    CHECK_EQ(holds.count, 0);
    holds = holds_of(INV_LINE_COUNT_MAX);
    CHECK_EQ(inv_store_walk_reservations(s.store, &walk, false, &holds), INV_OK);
    CHECK_EQ(holds.count, INV_LINE_COUNT_MAX);
    check_hold(&holds, 0);
    holds = holds_of(0);
    CHECK_EQ(inv_store_walk_reservations(s.store, &walk, false, &holds), INV_BAD_REQUEST);
    shop_end(&s);
}

/* The name of a SKU of that stripe, of two. */
static void name_in_stripe(uint32_t stripe, char out[16]) {
    inv_text name = {out, 0};
    uint32_t number = stripe + 1;
    uint64_t lsn;
    size_t bad;
    for (uint32_t i = 0; number % 2 != stripe; i++) {
        name.length = (uint32_t)snprintf(out, 16, "S%u-%u", stripe, i);
        if (!CHECK_EQ(inv_store_numbers(s.store, INV_NAME_SKU, shop_text(NULL), &name, 1, true,
                                        &number, &lsn, &bad),
                      INV_OK))
            return;
    }
}

/* Reservations of one SKU in 40 chunks. Between two calls the newest ones, where the walk stands,
 * lapse and are forgotten, and their chunks go to a SKU of the other stripe. Those that live from
 * first to last are given once each. */
INV_TEST(chunks_that_go_in_the_middle_of_a_walk_lose_nobody) {
    enum { COUNT = 63 * 40, SURVIVOR_STEP = 300, ROOM = 7 };
    static uint8_t seen[COUNT];
    char id[16], sku[2][16];
    shop_init(&s, false);
    s.options.stripe_bits = 1;
    s.options.ended_ids_max = 1;
    CHECK_EQ(shop_open(&s), INV_OK);
    for (uint32_t i = 0; i < 2; i++) {
        name_in_stripe(i, sku[i]);
        CHECK_EQ(shop_receive(&s, sku[i], "W", 100000), INV_OK);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        (void)snprintf(id, sizeof id, "r%u", i);
        uint64_t ttl_ms = i % SURVIVOR_STEP == 0 ? 0 : 1000 + 20ull * (COUNT - i);
        CHECK_EQ(shop_reserve(&s, id, sku[0], "W", 1, ttl_ms), INV_OK);
    }
    memset(seen, 0, sizeof seen);
    inv_walk walk = {0};
    uint32_t fresh = 0, calls = 0;
    for (; !walk.done; calls++) {
        inv_walk_holds holds = holds_of(ROOM);
        REQUIRE_EQ(inv_store_walk_reservations(s.store, &walk, false, &holds), INV_OK);
        for (uint32_t i = 0; i < holds.count; i++) {
            unsigned number = COUNT;
            hold_columns.id[i][holds.id_length[i]] = 0;
            if (sscanf((const char *)holds.id[i], "r%u", &number) == 1 && number < COUNT)
                CHECK_EQ(seen[number]++, 0);
        }
        if (walk.stripe != 0) continue;
        shop_advance(&s, 1500); /* 75 lapse: one chunk; a tick forgets them */
        for (uint32_t i = 0; i < 63; i++) {
            (void)snprintf(id, sizeof id, "new%u", fresh++);
            CHECK_EQ(shop_reserve(&s, id, sku[1], "W", 1, 0), INV_OK);
        }
    }
    CHECK(calls > 20);
    for (uint32_t i = 0; i < COUNT; i += SURVIVOR_STEP) CHECK_EQ(seen[i], 1);
    shop_end(&s);
}

/* ---- while others write ---------------------------------------------------------------------- */

/* Each thread commits single units of a cart of its own: one at W1 and one at W2 in one call. So
 * held + allocated of a row never changes, and the two rows of the SKU are always alike. */
static void *commit_unit_by_unit(void *argument) {
    const char *id = argument;
    inv_line lines[2] = {shop_line("A", "W1", 1), shop_line("A", "W2", 1)};
    inv_reply_line reply_lines[4];
    for (uint32_t i = 0; i < COMMIT_COUNT; i++) {
        inv_reply reply = {.lines = reply_lines, .lines_max = 4};
        inv_command command = shop_command(INV_CMD_COMMIT, id, lines, 2);
        command.partial = command.keep_rest = true;
        CHECK_EQ(inv_store_execute(s.store, &command, 1, &reply), INV_OK);
        if (!CHECK_EQ(reply.code, INV_OK)) break;
    }
    return NULL;
}

static int64_t walk_rows_once(void) {
    inv_walk walk = {0};
    int64_t allocated = 0;
    while (!walk.done) {
        inv_walk_rows rows = rows_of(2);
        if (!CHECK_EQ(inv_store_walk_rows(s.store, &walk, &rows), INV_OK)) return -1;
        if (rows.count == 0) continue;
        CHECK_EQ(rows.count, 2);
        CHECK_EQ(rows.held[0] + rows.allocated[0], THREAD_COUNT * COMMIT_COUNT);
        CHECK_EQ(rows.held[1], rows.held[0]);
        CHECK_EQ(rows.allocated[1], rows.allocated[0]);
        allocated = rows.allocated[0];
    }
    return allocated;
}

static void walk_holds_once(void) {
    inv_walk walk = {0};
    uint32_t places = 0;
    while (!walk.done) {
        inv_walk_holds holds = holds_of(4);
        if (!CHECK_EQ(inv_store_walk_reservations(s.store, &walk, false, &holds), INV_OK)) return;
        places += holds.count;
        for (uint32_t i = 0; i + 1 < holds.count; i += 2) {
            CHECK_EQ(holds.held[i], holds.held[i + 1]);
            CHECK_EQ(holds.held[i] + holds.allocated[i], COMMIT_COUNT);
        }
    }
    CHECK_EQ(places, 2 * THREAD_COUNT);
}

INV_TEST(rows_of_a_sku_are_of_one_moment_while_others_write) {
    static char ids[THREAD_COUNT][8];
    pthread_t threads[THREAD_COUNT];
    shop_start(&s, false);
    CHECK_EQ(shop_receive(&s, "A", "W1", THREAD_COUNT * COMMIT_COUNT), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W2", THREAD_COUNT * COMMIT_COUNT), INV_OK);
    inv_line cart[2] = {shop_line("A", "W1", COMMIT_COUNT), shop_line("A", "W2", COMMIT_COUNT)};
    for (uint32_t i = 0; i < THREAD_COUNT; i++) {
        (void)snprintf(ids[i], sizeof ids[i], "r%u", i);
        CHECK_EQ(shop_cart(&s, ids[i], cart, 2, 0), INV_OK);
    }
    for (uint32_t i = 0; i < THREAD_COUNT; i++)
        REQUIRE_EQ(pthread_create(&threads[i], NULL, commit_unit_by_unit, ids[i]), 0);
    int64_t last = 0;
    while (last >= 0 && last < THREAD_COUNT * COMMIT_COUNT) {
        int64_t allocated = walk_rows_once();
        walk_holds_once();
        if (!CHECK(allocated >= last)) break; /* a later walk is of a later moment */
        last = allocated;
    }
    for (uint32_t i = 0; i < THREAD_COUNT; i++) pthread_join(threads[i], NULL);
    CHECK_EQ(walk_rows_once(), THREAD_COUNT * COMMIT_COUNT);
    shop_end(&s);
}

/* ---- the log --------------------------------------------------------------------------------- */

typedef struct log_summary {
    inv_log_tail tail;
    inv_error error;
    inv_result result;
    uint64_t records, entries, names, lines;
    uint64_t last_lsn_end;
    uint64_t reserve_lsn; /* of the last RESERVE */
    int64_t received;     /* units */
} log_summary;

static void read_entries(inv_log *log, const inv_log_record *record, log_summary *out) {
    inv_log_entry entry;
    bool more = true;
    for (;;) {
        out->result = inv_log_next_entry(log, &entry, &more, &out->error);
        if (out->result != INV_OK || !more) return;
        out->entries++;
        out->lines += entry.line_count;
        CHECK(entry.lsn_end > record->lsn && entry.lsn_end <= record->lsn_end);
        if (entry.name_kind != 0) {
            out->names++;
            CHECK_TEXT(inv_log_entry_name(entry.kind), "NAME");
            CHECK(entry.name.length > 0);
        }
        if (entry.kind == INV_ENTRY_RECEIVE) {
            CHECK_EQ(entry.line_count, 1);
            CHECK_TEXT(inv_log_op_name(entry.lines[0].op), "ADD");
            CHECK(entry.id.bytes == NULL);
            out->received += entry.lines[0].qty;
        }
        if (entry.kind == INV_ENTRY_RESERVE) {
            CHECK_EQ(entry.state, INV_STATE_HELD);
            CHECK(entry.id.bytes != NULL);
            CHECK_EQ(entry.expires_at_unix_ms, record->now_unix_ms + s.options.default_ttl_ms);
            out->reserve_lsn = entry.lsn_end;
        }
    }
}

/* Reads all of the log on s.memory. */
static log_summary read_log(void) {
    log_summary found;
    inv_log_record record;
    inv_log *log = NULL;
    bool more = true;
    memset(&found, 0, sizeof found);
    found.result = inv_log_open(s.env, &log, &found.error);
    if (found.result != INV_OK) return found;
    for (;;) {
        found.result = inv_log_next(log, &record, &more, &found.error);
        if (found.result != INV_OK || !more) break;
        found.records++;
        if (found.last_lsn_end != 0) CHECK_EQ(record.lsn, found.last_lsn_end);
        found.last_lsn_end = record.lsn_end;
        CHECK((record.now_unix_ms == 0) == (record.kind != INV_LOG_CHANGES));
        read_entries(log, &record, &found);
        if (found.result != INV_OK) break;
    }
    if (found.result != INV_OK) { /* a failure is repeated, whatever is asked */
        inv_error again = {0};
        inv_log_entry entry;
        CHECK_EQ(inv_log_next(log, &record, &more, &again), found.result);
        CHECK_TEXT(again.message, found.error.message);
        CHECK_EQ(inv_log_next_entry(log, &entry, &more, &again), found.result);
    } else {
        CHECK_EQ(inv_log_next(log, &record, &more, NULL), INV_OK); /* the end stays the end */
        CHECK(!more);
    }
    inv_log_tail_of(log, &found.tail);
    inv_log_close(log);
    return found;
}

static void write_a_little(uint32_t reserve_count) {
    char id[16];
    CHECK_EQ(shop_receive(&s, "A", "W1", 1000), INV_OK);
    CHECK_EQ(shop_receive(&s, "B", "W2", 500), INV_OK);
    for (uint32_t i = 0; i < reserve_count; i++) {
        (void)snprintf(id, sizeof id, "r%u", i);
        CHECK_EQ(shop_reserve(&s, id, "A", "W1", 1, 0), INV_OK);
    }
}

INV_TEST(the_log_of_a_closed_store_is_read_record_by_record) {
    shop_start(&s, true);
    write_a_little(20);
    uint64_t reserve_lsn = s.reply.lsn;
    CHECK_EQ(read_log().result, INV_STORE_LOCKED);
    shop_shut(&s);
    log_summary found = read_log();
    CHECK_EQ(found.result, INV_OK);
    CHECK_EQ(found.names, 4); /* A, W1, B, W2 */
    CHECK_EQ(found.received, 1500);
    CHECK_EQ(found.reserve_lsn, reserve_lsn);
    CHECK_EQ(found.tail.lsn_end, found.last_lsn_end);
    CHECK_EQ(found.tail.torn_bytes, 0);
    CHECK_EQ(found.tail.durable, found.tail.lsn_end);
    CHECK_EQ(shop_open(&s), INV_OK); /* the reader kept no lock */
    shop_end(&s);
}

INV_TEST(the_log_goes_over_segments_and_openings) {
    shop_init(&s, true);
    s.options.segment_bytes = 32u << 10;
    CHECK_EQ(shop_open(&s), INV_OK);
    write_a_little(600);
    inv_recovery recovery;
    shop_reopen(&s, true);
    inv_store_recovery(s.store, &recovery);
    CHECK(recovery.segments_read > 2);
    CHECK_EQ(shop_receive(&s, "A", "W1", 7), INV_OK);
    shop_shut(&s);
    log_summary found = read_log();
    CHECK_EQ(found.result, INV_OK);
    CHECK_EQ(found.received, 1507);
    CHECK_EQ(found.names, 4);
    CHECK_EQ(found.lines, 2 + 600 + 1);
    shop_end(&s);
}

INV_TEST(without_a_store_there_is_no_log) {
    shop_init(&s, true);
    log_summary found = read_log();
    CHECK_EQ(found.result, INV_IO_ERROR);
    CHECK_EQ(found.error.os_errno, 2);
    shop_end(&s);
    shop_init(&s, false);
    CHECK_EQ(read_log().result, INV_BAD_REQUEST);
    shop_end(&s);
    inv_log_close(NULL);
}

static uint8_t *segment_bytes_of(uint64_t number) {
    char name[32];
    uint64_t size = 0;
    (void)snprintf(name, sizeof name, "wal-%016" PRIx64, number);
    uint8_t *bytes = inv_memory_file(s.memory, name, &size);
    CHECK(bytes != NULL);
    return bytes;
}

/* The first record of the log that carries a RESERVE. */
static inv_log_record find_reserve(void) {
    inv_log *log = NULL;
    inv_log_record record = {0};
    inv_log_entry entry;
    bool more = true, inner, found = false;
    CHECK_EQ(inv_log_open(s.env, &log, NULL), INV_OK);
    while (!found && inv_log_next(log, &record, &more, NULL) == INV_OK && more)
        while (inv_log_next_entry(log, &entry, &inner, NULL) == INV_OK && inner)
            found |= entry.kind == INV_ENTRY_RESERVE;
    CHECK(found);
    inv_log_close(log);
    return record;
}

INV_TEST(a_flipped_byte_is_named_by_segment_and_offset) {
    shop_start(&s, true);
    write_a_little(20);
    shop_shut(&s);
    inv_log_record record = find_reserve();
    segment_bytes_of(record.segment)[record.offset + 60] ^= 1;
    inv_memory_settle(s.memory);
    log_summary found = read_log();
    CHECK_EQ(found.result, INV_LOG_CORRUPT);
    CHECK_EQ(found.error.segment, record.segment);
    CHECK_EQ(found.error.offset, record.offset);
    CHECK_EQ(found.error.lsn, record.lsn);
    CHECK(found.error.lsn_end > record.lsn);
    CHECK_EQ(found.last_lsn_end, record.lsn); /* what is before it was given */
    shop_end(&s);
}

/* Wherever the damage lies: what is before it is given, it is named, and nothing is made up. */
INV_TEST(no_flipped_byte_of_a_record_goes_unseen) {
    shop_start(&s, true);
    write_a_little(20);
    shop_shut(&s);
    log_summary whole = read_log();
    uint8_t *first = segment_bytes_of(1) + INV_WAL_HEADER_BYTES;
    uint64_t log_bytes = whole.tail.lsn_end - INV_WAL_LSN_FIRST;
    REQUIRE(whole.result == INV_OK && log_bytes > 1000);
    for (uint64_t at = 0; at < log_bytes; at += 5) {
        first[at] ^= 0x10;
        inv_memory_settle(s.memory);
        log_summary found = read_log();
        CHECK_EQ(found.result, INV_LOG_CORRUPT);
        CHECK(found.records < whole.records);
        CHECK(found.error.offset <= INV_WAL_HEADER_BYTES + at);
        first[at] ^= 0x10;
    }
    inv_memory_settle(s.memory);
    CHECK_EQ(read_log().records, whole.records);
    shop_end(&s);
}

/* Writes `value` at an offset of a reserve's entry, in a record whose checksums are right, and
 * reads the log. */
static void check_forged_entry(uint32_t offset, uint16_t value, inv_result expected,
                               const char *message) {
    shop_start(&s, true);
    write_a_little(20);
    shop_shut(&s);
    inv_log_record record = find_reserve();
    uint8_t *bytes = segment_bytes_of(record.segment), *at = bytes + record.offset;
    inv_wal_segment_header header;
    REQUIRE_EQ(inv_wal_decode_segment_header(bytes, &header), INV_OK);
    inv_wal_record raw;
    uint32_t seed = inv_wal_seed(header.identity.uuid);
    REQUIRE(inv_wal_decode_record(at, record.lsn_end - record.lsn, seed, record.lsn,
                                  (uint32_t)record.epoch, &raw));
    uint8_t *entry = at + INV_WAL_RECORD_HEADER_BYTES + INV_WAL_CHANGES_PREFIX_BYTES;
    inv_put_u16(entry + offset, value);
    uint64_t padded = record.lsn_end - record.lsn - INV_WAL_RECORD_HEADER_BYTES;
    inv_wal_encode_record_header(at, seed, &raw,
                                 inv_crc32c(0, at + INV_WAL_RECORD_HEADER_BYTES, padded));
    inv_memory_settle(s.memory);
    log_summary found = read_log();
    CHECK_EQ(found.result, expected);
    CHECK_EQ(found.error.segment, record.segment);
    CHECK_EQ(found.error.offset, record.offset);
    CHECK(strstr(found.error.message, message) != NULL);
    shop_end(&s);
}

INV_TEST(a_malformed_entry_is_named_too) {
    check_forged_entry(2, 0xFFFF, INV_LOG_CORRUPT, "malformed"); /* more lines than bytes */
}
INV_TEST(an_entry_of_a_newer_format_is_refused) {
    check_forged_entry(0, 0xFF01, INV_FORMAT_UNKNOWN, "flag bits 0xc0 of an entry");
    check_forged_entry(0, 40, INV_FORMAT_UNKNOWN, "an entry of kind 40");
    check_forged_entry(46, 0x0063, INV_FORMAT_UNKNOWN, "a line with operation 99");
    check_forged_entry(46, 0x0201, INV_FORMAT_UNKNOWN, "flag bits 0x2 of a line");
}

INV_TEST(a_torn_tail_ends_the_log_and_is_said) {
    shop_start(&s, true);
    write_a_little(20);
    inv_store_destroy(s.store); /* a crash: no clean-shutdown mark */
    s.store = NULL;
    inv_memory_power_cut(s.memory, 0);
    log_summary whole = read_log();
    CHECK_EQ(whole.result, INV_OK);
    CHECK_EQ(whole.tail.torn_bytes, 0);
    inv_log_record record = find_reserve();
    uint8_t *bytes = segment_bytes_of(record.segment);
    memset(bytes + record.offset + (whole.tail.lsn_end - record.lsn), 0xAB, 100);
    inv_memory_settle(s.memory);
    log_summary torn = read_log();
    CHECK_EQ(torn.result, INV_OK);
    CHECK_EQ(torn.records, whole.records);
    CHECK_EQ(torn.tail.lsn_end, whole.tail.lsn_end);
    CHECK(torn.tail.torn_bytes >= 100 && torn.tail.torn_bytes < 108);
    shop_end(&s);
}

static inv_allocator real_allocator;
static uint32_t allocations_left;

static void *alloc_some(void *context, size_t bytes) {
    if (allocations_left == 0) return NULL;
    allocations_left--;
    return real_allocator.alloc(context, bytes);
}

INV_TEST(no_memory_is_a_result_at_every_allocation) {
    shop_start(&s, true);
    write_a_little(3);
    shop_shut(&s);
    real_allocator = s.env->allocator;
    s.env->allocator.alloc = alloc_some;
    log_summary found = {.result = INV_NO_MEMORY};
    uint32_t count = 0;
    for (; found.result == INV_NO_MEMORY && count < 20; count++) {
        allocations_left = count;
        found = read_log();
    }
    CHECK_EQ(found.result, INV_OK);
    CHECK(count > 3); /* the reader, its list of files, its chain, its segment */
    s.env->allocator = real_allocator;
    shop_end(&s);
}

INV_TEST(kinds_and_operations_have_names) {
    CHECK_TEXT(inv_log_entry_name(0), "UNKNOWN");
    CHECK_TEXT(inv_log_entry_name(INV_ENTRY_OPERATOR_ACT), "OPERATOR_ACT");
    CHECK_TEXT(inv_log_entry_name(INV_ENTRY_OPERATOR_ACT + 1), "UNKNOWN");
    for (uint8_t kind = INV_ENTRY_RESERVE; kind <= INV_ENTRY_OPERATOR_ACT; kind++)
        CHECK(strcmp(inv_log_entry_name(kind), "UNKNOWN") != 0);
    for (uint8_t op = INV_OP_NONE; op < INV_OP_COUNT; op++)
        CHECK(strcmp(inv_log_op_name(op), "UNKNOWN") != 0);
    CHECK_TEXT(inv_log_op_name(INV_OP_COUNT), "UNKNOWN");
}

INV_TEST_MAIN()
