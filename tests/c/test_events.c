/* SPDX-License-Identifier: Apache-2.0
 *
 * test_events.c: events of an open store: types and contents, positions, borders of segments, logs
 * that were recovered and written again, damage, trimming; consumers over crashes, at their limits
 * and beyond.
 */
#include <pthread.h>
#include <time.h>

#include "shop.h"
#include "../../src/invcore/base/inv_env.h"
#include "../../src/invcore/base/inv_line_op.h"
#include "../../src/invcore/store/inv_events.h"

#define SEEN_MAX 200000u

static shop s;

typedef struct position {
    uint64_t lsn;
    uint32_t index;
    uint8_t type;
} position;

static position seen[SEEN_MAX];
static uint32_t seen_count;

/* ---- reading --------------------------------------------------------------------------------- */

static inv_events *open_after(uint64_t lsn, uint32_t index) {
    inv_error error = {0};
    inv_events *events = NULL;
    if (inv_events_open(s.store, lsn, index, &events, &error) != INV_OK)
        fprintf(stderr, "events: %s\n", error.message);
    return events;
}

/* The next event; false: there is none yet, or something failed. */
static inv_result next_event(inv_events *events, inv_event *out, bool *out_more,
                             inv_error *error) {
    bool ready = true;
    for (;;) {
        inv_result result = inv_events_next(events, out, out_more, error);
        if (result != INV_OK || *out_more || !ready) return result;
        result = inv_events_fill(events, 0, &ready, error);
        if (result != INV_OK) return result;
    }
}

/* Remembers all there are from a position on; returns how it ended. */
static inv_result read_all(uint64_t lsn, uint32_t index) {
    inv_error error = {0};
    inv_event event;
    bool more = true;
    seen_count = 0;
    inv_events *events = NULL;
    inv_result result = inv_events_open(s.store, lsn, index, &events, &error);
    while (result == INV_OK && more && seen_count < SEEN_MAX) {
        result = next_event(events, &event, &more, &error);
        if (result == INV_OK && more)
            seen[seen_count++] = (position){event.lsn, event.index, event.type};
    }
    inv_events_close(events);
    return result;
}

static void check_order(void) {
    for (uint32_t i = 1; i < seen_count; i++) {
        bool same = seen[i].lsn == seen[i - 1].lsn;
        CHECK(same ? seen[i].index == seen[i - 1].index + 1
                   : seen[i].lsn > seen[i - 1].lsn && seen[i].index == 0);
    }
}

static inv_event expect_event(inv_events *events, uint8_t type) {
    inv_error error = {0};
    inv_event event = {0};
    bool more = false;
    if (!CHECK_EQ(next_event(events, &event, &more, &error), INV_OK))
        fprintf(stderr, "next: %s\n", error.message);
    CHECK(more);
    CHECK_EQ(event.type, type);
    return event;
}

static void expect_none(inv_events *events) {
    inv_error error = {0};
    inv_event event;
    bool more = true;
    CHECK_EQ(next_event(events, &event, &more, &error), INV_OK);
    CHECK(!more);
}

static bool is_line(const inv_event *event, uint32_t i, uint8_t op, uint32_t qty, int64_t on_hand,
                    int64_t held, int64_t allocated) {
    const inv_event_line *line = &event->lines[i];
    return i < event->line_count && line->op == op && line->qty == qty &&
           line->on_hand_delta == on_hand && line->held_delta == held &&
           line->allocated_delta == allocated;
}

static bool is_text(inv_text text, const char *expected) {
    return text.bytes != NULL && text.length == strlen(expected) &&
           memcmp(text.bytes, expected, text.length) == 0;
}

/* ---- what an event says ---------------------------------------------------------------------- */

INV_TEST(every_change_is_an_event_and_nothing_else_is) {
    shop_start(&s, true);
    inv_events *events = open_after(0, INV_EVENT_INDEX_ALL);
    REQUIRE(events != NULL);
    expect_none(events); /* ticks only */
    inv_line line = shop_line("TEE", "LON", 10);
    inv_command command = shop_command(INV_CMD_RECEIVE, "po-7", &line, 1);
    command.reason = shop_text("delivery");
    command.reference = shop_text("DN-1");
    CHECK_EQ(shop_do(&s, &command), INV_OK);
    inv_event event = expect_event(events, INV_EVENT_STOCK_RECEIVED);
    CHECK_EQ(event.lsn, s.reply.lsn);
    CHECK_EQ(event.now_unix_ms, s.clock_ms);
    CHECK(is_text(event.op_id, "po-7") && event.id.bytes == NULL);
    CHECK(is_text(event.reference, "DN-1") && event.reason != INV_NUMBER_NONE);
    CHECK(event.line_count == 1 && is_line(&event, 0, INV_OP_ADD, 10, 10, 0, 0));
    CHECK_EQ(event.expires_at_unix_ms, 0);
    char name[INV_SKU_BYTES_MAX];
    uint32_t length;
    CHECK(inv_store_name(s.store, INV_NAME_SKU, event.lines[0].sku, name, &length));
    CHECK(is_text((inv_text){name, length}, "TEE"));

    CHECK_EQ(shop_reserve(&s, "cart", "TEE", "LON", 4, 60000), INV_OK);
    event = expect_event(events, INV_EVENT_RESERVATION_HELD);
    CHECK(is_text(event.id, "cart") && event.reference.bytes == NULL);
    CHECK(is_line(&event, 0, INV_OP_HOLD, 4, 0, 4, 0));
    CHECK_EQ(event.expires_at_unix_ms, s.clock_ms + 60000);
    CHECK_EQ(event.state, INV_STATE_HELD);
    shop_advance(&s, 10);
    CHECK_EQ(shop_by_id(&s, INV_CMD_EXTEND, "cart"), INV_OK);
    event = expect_event(events, INV_EVENT_RESERVATION_EXTENDED);
    CHECK(event.line_count == 0 && event.expires_at_unix_ms == s.clock_ms + 60000);

    /* Three of four committed, the fourth given back: two events of one entry. */
    CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "cart", "c1", "TEE", "LON", 3, false), INV_OK);
    event = expect_event(events, INV_EVENT_RESERVATION_COMMITTED);
    CHECK(event.index == 0 && is_text(event.op_id, "c1"));
    CHECK(event.line_count == 1 && is_line(&event, 0, INV_OP_COMMIT, 3, 0, -3, 3));
    uint64_t lsn = event.lsn;
    event = expect_event(events, INV_EVENT_RESERVATION_RELEASED);
    CHECK(event.index == 1 && event.lsn == lsn && is_text(event.id, "cart"));
    CHECK(event.line_count == 1 && is_line(&event, 0, INV_OP_RELEASE, 1, 0, -1, 0));
    CHECK_EQ(event.state, INV_STATE_ALLOCATED);

    CHECK_EQ(shop_by_id(&s, INV_CMD_SHIP, "cart"), INV_OK);
    event = expect_event(events, INV_EVENT_RESERVATION_SHIPPED);
    CHECK(event.whole && is_line(&event, 0, INV_OP_SHIP_ALLOCATED, 3, -3, 0, -3));
    CHECK_EQ(shop_reserve(&s, "late", "TEE", "LON", 1, 1000), INV_OK);
    (void)expect_event(events, INV_EVENT_RESERVATION_HELD);
    shop_advance(&s, 1000);
    event = expect_event(events, INV_EVENT_RESERVATION_EXPIRED);
    CHECK(is_line(&event, 0, INV_OP_EXPIRE, 1, 0, -1, 0));
    command = shop_command(INV_CMD_COMMIT, "late", NULL, 0);
    command.rehold = true;
    CHECK_EQ(shop_do(&s, &command), INV_OK);
    event = expect_event(events, INV_EVENT_RESERVATION_COMMITTED);
    CHECK(is_line(&event, 0, INV_OP_REHOLD, 1, 0, 0, 1));
    CHECK_EQ(shop_by_id(&s, INV_CMD_CANCEL, "late"), INV_OK);
    event = expect_event(events, INV_EVENT_RESERVATION_CANCELLED);
    CHECK(is_line(&event, 0, INV_OP_CANCEL_ALLOCATED, 1, 0, 0, -1));
    CHECK_EQ(shop_reserve(&s, "off", "TEE", "LON", 1, 1000), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "off"), INV_OK);
    (void)expect_event(events, INV_EVENT_RESERVATION_HELD);
    (void)expect_event(events, INV_EVENT_RESERVATION_RELEASED);
    command = shop_command(INV_CMD_RELEASE, "never", NULL, 0);
    command.tombstone = true;
    CHECK_EQ(shop_do(&s, &command), INV_OK);
    event = expect_event(events, INV_EVENT_RESERVATION_TOMBSTONED);
    CHECK(is_text(event.id, "never") && event.line_count == 0);
    CHECK_EQ(shop_stock(&s, INV_CMD_ISSUE, NULL, "TEE", "LON", 2), INV_OK);
    event = expect_event(events, INV_EVENT_STOCK_ISSUED);
    CHECK(event.op_id.bytes == NULL && is_line(&event, 0, INV_OP_SUB, 2, -2, 0, 0));
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "TEE", "LON", 5), INV_OK);
    (void)expect_event(events, INV_EVENT_STOCK_ADJUSTED);
    CHECK_EQ(shop_count(&s, "TEE", "LON", 10, 10), INV_OK);
    event = expect_event(events, INV_EVENT_STOCK_COUNTED);
    CHECK(is_line(&event, 0, INV_OP_NONE, 0, 0, 0, 0));
    CHECK_EQ(shop_policy(&s, "TEE", NULL, 2), INV_OK);
    event = expect_event(events, INV_EVENT_POLICY_CHANGED);
    CHECK(is_line(&event, 0, INV_OP_SET_SAFETY, 2, 0, 0, 0));
    CHECK_EQ(event.lines[0].location, INV_LOCATION_NONE);
    CHECK_EQ(shop_reserve(&s, "no", "TEE", "LON", 1000, 0), INV_INSUFFICIENT);
    shop_advance(&s, 5000); /* ticks */
    expect_none(events);
    inv_events_close(events);
    for (uint8_t type = 1; type <= INV_EVENT_POLICY_CHANGED; type++)
        CHECK(strchr(inv_event_type_name(type), '.') != NULL);
    CHECK_TEXT(inv_event_type_name(0), "unknown");
    shop_end(&s);
}

INV_TEST(only_what_is_durable_is_shown) {
    shop_start(&s, true);
    inv_events *events = open_after(0, INV_EVENT_INDEX_ALL);
    inv_line line = shop_line("TEE", "LON", 10);
    inv_command command = shop_command(INV_CMD_RECEIVE, NULL, &line, 1);
    memset(&s.reply, 0, sizeof s.reply);
    CHECK_EQ(inv_store_execute(s.store, &command, 1, &s.reply), INV_OK);
    expect_none(events);
    shop_settle(&s);
    (void)expect_event(events, INV_EVENT_STOCK_RECEIVED);
    expect_none(events);
    inv_events_close(events);
    shop_end(&s);
}

/* ---- positions ------------------------------------------------------------------------------- */

/* A batch of commands in one record, so that positions lie in the middle of one. */
static void one_record(uint32_t count) {
    inv_command commands[32];
    inv_line lines[32];
    inv_reply replies[32];
    memset(replies, 0, sizeof replies);
    for (uint32_t i = 0; i < count; i++) {
        lines[i] = shop_line("TEE", "LON", 1);
        commands[i] = shop_command(INV_CMD_RECEIVE, NULL, &lines[i], 1);
        if (i % 3 == 0) commands[i].reference = shop_text("DN");
    }
    CHECK_EQ(inv_store_execute(s.store, commands, count, replies), INV_OK);
    shop_settle(&s);
}

INV_TEST(reading_goes_on_behind_any_position) {
    char id[24];
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "TEE", "LON", 1), INV_OK);
    for (uint32_t i = 0; i < 20; i++) {
        one_record(1 + i);
        (void)snprintf(id, sizeof id, "cart-%u", i);
        CHECK_EQ(shop_reserve(&s, id, "TEE", "LON", 2, 0), INV_OK);
        CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, id, NULL, "TEE", "LON", 1, false), INV_OK);
    }
    CHECK_EQ(read_all(0, INV_EVENT_INDEX_ALL), INV_OK);
    check_order();
    static position all[1000];
    uint32_t count = seen_count;
    REQUIRE_EQ(count, 1 + 210 + 60);
    memcpy(all, seen, count * sizeof all[0]);
    for (uint32_t i = 0; i < count; i++) {
        CHECK_EQ(read_all(all[i].lsn, all[i].index), INV_OK);
        CHECK_EQ(seen_count, count - i - 1);
        CHECK(memcmp(seen, all + i + 1, seen_count * sizeof seen[0]) == 0);
        uint32_t behind = i + 1;
        while (behind < count && all[behind].lsn == all[i].lsn) behind++;
        CHECK_EQ(read_all(all[i].lsn, INV_EVENT_INDEX_ALL), INV_OK);
        CHECK_EQ(seen_count, count - behind);
        CHECK_EQ(read_all(all[i].lsn - 1, INV_EVENT_INDEX_ALL), INV_OK);
        CHECK(seen_count > count - behind && seen[0].lsn == all[i].lsn && seen[0].index == 0);
    }
    uint64_t tail = atomic_load_explicit(&s.store->wal.tail, memory_order_relaxed);
    CHECK_EQ(read_all(tail, INV_EVENT_INDEX_ALL), INV_OK);
    CHECK_EQ(seen_count, 0);
    CHECK_EQ(read_all(tail + 1, INV_EVENT_INDEX_ALL), INV_BAD_REQUEST);
    /* The log begins behind it: nothing is missing. */
    CHECK_EQ(read_all(1, INV_EVENT_INDEX_ALL), INV_OK);
    CHECK_EQ(seen_count, count);
    shop_end(&s);
}

INV_TEST(a_store_in_memory_has_no_events) {
    inv_error error = {0};
    inv_events *events = NULL;
    shop_start(&s, false);
    CHECK_EQ(inv_events_open(s.store, 0, INV_EVENT_INDEX_ALL, &events, &error), INV_BAD_REQUEST);
    CHECK(strstr(error.message, "memory") != NULL);
    CHECK_EQ(inv_store_consumer_open(s.store, shop_text("a"), 0, &error), INV_BAD_REQUEST);
    shop_end(&s);
}

/* ---- segments -------------------------------------------------------------------------------- */

/* Fills at least `bytes` of log with receipts; returns how many. */
static uint32_t fill(uint64_t bytes) {
    uint64_t end = atomic_load_explicit(&s.store->wal.tail, memory_order_relaxed) + bytes;
    uint32_t count = 0;
    while (atomic_load_explicit(&s.store->wal.tail, memory_order_relaxed) < end) {
        CHECK_EQ(shop_receive(&s, "TEE", "LON", 1), INV_OK);
        count++;
    }
    return count;
}

INV_TEST(borders_of_segments_are_no_gap) {
    shop_init(&s, true);
    s.options.segment_bytes = 16u << 10;
    CHECK_EQ(shop_open(&s), INV_OK);
    inv_events *live = open_after(0, INV_EVENT_INDEX_ALL);
    uint32_t count = 0, followed = 0;
    for (uint32_t round = 0; round < 30; round++) {
        uint32_t more = fill(3000);
        for (uint32_t i = 0; i < more; i++, followed++)
            (void)expect_event(live, INV_EVENT_STOCK_RECEIVED);
        expect_none(live);
        count += more;
    }
    inv_events_close(live);
    CHECK_EQ(read_all(0, INV_EVENT_INDEX_ALL), INV_OK);
    CHECK_EQ(seen_count, count);
    check_order();
    shop_end(&s);
}

/* Crashes that leave a tail which is not proven durable have it written again: PAD where a SEAL
 * was, the older segment void from there on. Nothing is told twice, and nothing is lost. */
INV_TEST(recovered_logs_are_read_across) {
    shop_init(&s, true);
    s.options.segment_bytes = 16u << 10;
    inv_test_rng rng = inv_test_rng_of(7);
    CHECK_EQ(shop_open(&s), INV_OK);
    uint64_t relogged = 0, checked = 0;
    static position before[SEEN_MAX];
    uint32_t before_count = 0;
    uint64_t rounds = inv_test_scaled(60);
    for (uint64_t round = 0; round < rounds; round++) {
        (void)fill(1 + inv_test_rng_below(&rng, 9000));
        uint64_t durable = inv_wal_durable(&s.store->wal);
        /* Not synced: some of it survives a cut. */
        for (uint32_t i = 0; i < inv_test_rng_below(&rng, 20); i++) {
            inv_line line = shop_line("TEE", "LON", 1);
            inv_command command = shop_command(INV_CMD_RECEIVE, NULL, &line, 1);
            memset(&s.reply, 0, sizeof s.reply);
            CHECK_EQ(inv_store_execute(s.store, &command, 1, &s.reply), INV_OK);
        }
        inv_store_destroy(s.store);
        inv_memory_power_cut(s.memory, inv_test_rng_below(&rng, 4));
        REQUIRE_EQ(shop_open(&s), INV_OK);
        inv_recovery recovery;
        inv_store_recovery(s.store, &recovery);
        relogged += recovery.relogged_bytes;
        CHECK(recovery.lsn_end >= durable);
        CHECK_EQ(read_all(0, INV_EVENT_INDEX_ALL), INV_OK);
        check_order();
        CHECK_EQ(seen_count, shop_level(&s, "TEE", "LON").on_hand);
        CHECK(seen_count >= before_count);
        CHECK(memcmp(seen, before, before_count * sizeof seen[0]) == 0);
        before_count = seen_count;
        memcpy(before, seen, seen_count * sizeof seen[0]);
        checked++;
    }
    CHECK(relogged > 0 && checked == rounds);
    shop_end(&s);
}

INV_TEST(a_closed_log_shows_what_is_proven) {
    shop_start(&s, true);
    uint32_t count = fill(5000);
    shop_shut(&s);
    s.options.read_only = true;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(read_all(0, INV_EVENT_INDEX_ALL), INV_OK);
    CHECK_EQ(seen_count, count);
    inv_error error = {0};
    CHECK_EQ(inv_store_consumer_open(s.store, shop_text("a"), 0, &error), INV_FORBIDDEN);
    shop_end(&s);
}

/* ---- damage ---------------------------------------------------------------------------------- */

INV_TEST(damage_is_named_and_not_passed_over) {
    shop_init(&s, true);
    s.options.segment_bytes = 16u << 10;
    inv_test_rng rng = inv_test_rng_of(11);
    CHECK_EQ(shop_open(&s), INV_OK);
    (void)fill(40000);
    CHECK_EQ(read_all(0, INV_EVENT_INDEX_ALL), INV_OK);
    static position all[SEEN_MAX];
    uint32_t count = seen_count;
    memcpy(all, seen, count * sizeof all[0]);
    uint64_t found = 0, durable = inv_wal_durable(&s.store->wal);
    for (uint32_t round = 0; round < 400; round++) {
        char name[INV_FILE_NAME_MAX + 1];
        uint64_t size, number = 1 + inv_test_rng_below(&rng, 3);
        inv_wal_segment_name(name, "wal-", number);
        uint8_t *bytes = inv_memory_file(s.memory, name, &size);
        REQUIRE(bytes != NULL);
        uint64_t at = inv_test_rng_below(&rng, size);
        uint8_t bit = (uint8_t)(1u << inv_test_rng_below(&rng, 8));
        uint64_t base = INV_WAL_LSN_FIRST + (number - 1) * (size - INV_WAL_HEADER_BYTES);
        bytes[at] ^= bit;
        inv_result result = read_all(0, INV_EVENT_INDEX_ALL);
        bytes[at] ^= bit;
        /* One of two header copies may be lost; behind the durable end nothing can be damaged. */
        bool matters = at >= INV_WAL_HEADER_BYTES && base + at - INV_WAL_HEADER_BYTES < durable;
        CHECK_EQ(result, matters ? INV_LOG_CORRUPT : INV_OK);
        CHECK(memcmp(seen, all, seen_count * sizeof seen[0]) == 0);
        CHECK(matters || seen_count == count);
        found += matters;
    }
    CHECK(found > 100);
    shop_end(&s);
}

/* ---- trimming -------------------------------------------------------------------------------- */

static void snapshot_now(void) {
    bool more = true;
    atomic_fetch_add_explicit(&s.store->snapshot_wanted, 1, memory_order_acq_rel);
    for (uint32_t i = 0; more && i < 100000; i++) {
        CHECK_EQ(inv_store_flush(s.store), INV_OK);
        CHECK_EQ(inv_store_prepare(s.store, &more), INV_OK);
    }
    CHECK_EQ(atomic_load_explicit(&s.store->snapshot_wanted, memory_order_relaxed),
             atomic_load_explicit(&s.store->snapshot_done, memory_order_relaxed));
}

static uint64_t oldest(void) { return inv_wal_find(&s.store->wal, 0).oldest_lsn; }

static void start_small(uint64_t consumer_log_bytes_max) {
    shop_init(&s, true);
    s.options.segment_bytes = 16u << 10;
    s.options.snapshot_log_bytes = 0;
    s.options.consumer_log_bytes_max = consumer_log_bytes_max;
    CHECK_EQ(shop_open(&s), INV_OK);
}

INV_TEST(a_trimmed_position_is_an_error_that_names_the_oldest) {
    start_small(0);
    inv_error error = {0};
    inv_events *slow = open_after(0, INV_EVENT_INDEX_ALL), *events = NULL;
    (void)fill(40000);
    (void)expect_event(slow, INV_EVENT_STOCK_RECEIVED);
    snapshot_now();
    (void)fill(40000);
    snapshot_now();
    CHECK(oldest() > INV_WAL_LSN_FIRST);
    inv_event event;
    bool more = true;
    inv_result result = INV_OK;
    for (uint32_t i = 0; result == INV_OK && i < SEEN_MAX; i++)
        result = next_event(slow, &event, &more, &error);
    CHECK_EQ(result, INV_EVENTS_TRIMMED);
    CHECK_EQ(error.lsn_end, oldest());
    CHECK(error.lsn < oldest() && error.lsn > INV_WAL_LSN_FIRST);
    inv_events_close(slow);
    CHECK_EQ(inv_events_open(s.store, oldest() - 1, INV_EVENT_INDEX_ALL, &events, &error),
             INV_EVENTS_TRIMMED);
    CHECK(error.lsn == oldest() - 1 && error.lsn_end == oldest());
    CHECK_EQ(inv_events_open(s.store, oldest(), 0, &events, &error), INV_EVENTS_TRIMMED);
    CHECK_EQ(read_all(oldest(), INV_EVENT_INDEX_ALL), INV_OK);
    uint32_t rest = seen_count;
    CHECK_EQ(read_all(0, INV_EVENT_INDEX_ALL), INV_OK);
    CHECK(rest > 0 && seen_count == rest);
    shop_end(&s);
}

/* ---- consumers ------------------------------------------------------------------------------- */

static inv_result consumer_do(inv_result (*call)(inv_store *, inv_text, uint64_t, inv_error *),
                              const char *name, uint64_t lsn) {
    inv_error error = {0};
    return call(s.store, shop_text(name), lsn, &error);
}

static inv_result acknowledge(const char *name, uint64_t lsn, uint32_t index) {
    inv_error error = {0};
    return inv_store_consumer_acknowledge(s.store, shop_text(name), lsn, index, &error);
}

static inv_result remove_consumer(const char *name) {
    inv_error error = {0};
    return inv_store_consumer_remove(s.store, shop_text(name), &error);
}

static inv_consumer_info info_of(const char *name) {
    inv_consumer_info all[INV_CONSUMER_COUNT_MAX];
    uint32_t count = inv_store_consumers(s.store, all);
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(all[i].name, name) == 0) return all[i];
    return (inv_consumer_info){.state = INV_CONSUMER_NONE};
}

INV_TEST(names_and_numbers_of_consumers) {
    char name[40];
    static const char *const good[] = {"a", "0", "search-index", "a.b", "a-",
                                       "abcdefghijklmnopqrstuvwxyz012345"};
    static const char *const bad[] = {"", "-a", ".a", "A", "a_b", "a b", "a/b", "\xc3\xa4",
                                      "abcdefghijklmnopqrstuvwxyz0123456"};
    shop_start(&s, true);
    for (uint32_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CHECK_EQ(consumer_do(inv_store_consumer_open, good[i], 0), INV_OK);
        CHECK_EQ(consumer_do(inv_store_consumer_open, good[i], 0), INV_OK); /* again */
    }
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_EQ(consumer_do(inv_store_consumer_open, bad[i], 0), INV_BAD_REQUEST);
    uint32_t count = sizeof good / sizeof good[0];
    for (; count < INV_CONSUMER_COUNT_MAX; count++) {
        (void)snprintf(name, sizeof name, "n%u", count);
        CHECK_EQ(consumer_do(inv_store_consumer_open, name, 0), INV_OK);
    }
    CHECK_EQ(consumer_do(inv_store_consumer_open, "one-more", 0), INV_LIMIT_EXCEEDED);
    shop_reopen(&s, true);
    inv_consumer_info all[INV_CONSUMER_COUNT_MAX];
    CHECK_EQ(inv_store_consumers(s.store, all), INV_CONSUMER_COUNT_MAX);
    CHECK_EQ(consumer_do(inv_store_consumer_open, "one-more", 0), INV_LIMIT_EXCEEDED);
    CHECK_EQ(remove_consumer("a.b"), INV_OK);
    CHECK_EQ(remove_consumer("a.b"), INV_BAD_REQUEST);
    CHECK_EQ(acknowledge("a.b", 4096, 0), INV_BAD_REQUEST);
    CHECK_EQ(consumer_do(inv_store_consumer_reset, "a.b", 0), INV_BAD_REQUEST);
    CHECK_EQ(consumer_do(inv_store_consumer_open, "one-more", 0), INV_OK);
    shop_reopen(&s, true);
    CHECK_EQ(info_of("a.b").state, INV_CONSUMER_NONE);
    CHECK_EQ(info_of("one-more").state, INV_CONSUMER_LIVE);
    shop_end(&s);
}

INV_TEST(positions_move_forward_and_last) {
    shop_start(&s, true);
    CHECK_EQ(consumer_do(inv_store_consumer_open, "web", 0), INV_OK);
    CHECK_EQ(info_of("web").lsn, INV_WAL_LSN_FIRST);
    (void)fill(2000);
    CHECK_EQ(read_all(0, INV_EVENT_INDEX_ALL), INV_OK);
    uint64_t third = seen[2].lsn, durable = inv_wal_durable(&s.store->wal);
    CHECK_EQ(acknowledge("web", third, 0), INV_OK);
    CHECK_EQ(acknowledge("web", seen[1].lsn, 0), INV_OK); /* behind: nothing moves */
    CHECK_EQ(info_of("web").lsn, third);
    CHECK_EQ(acknowledge("web", durable + 1, 0), INV_BAD_REQUEST);
    shop_reopen(&s, true);
    inv_consumer_info info = info_of("web");
    CHECK(info.lsn == third && info.index == 0 && info.state == INV_CONSUMER_LIVE);
    CHECK_EQ(info.lag_bytes, inv_wal_durable(&s.store->wal) - third);
    inv_error error = {0};
    inv_events *events = NULL;
    CHECK_EQ(inv_events_open_consumer(s.store, shop_text("web"), &events, &error), INV_OK);
    CHECK_EQ(expect_event(events, INV_EVENT_STOCK_RECEIVED).lsn, seen[3].lsn);
    CHECK_EQ(consumer_do(inv_store_consumer_reset, "web", seen[1].lsn), INV_OK);
    bool ready;
    inv_event event;
    bool more = true;
    while (more) CHECK_EQ(inv_events_next(events, &event, &more, &error), INV_OK);
    CHECK_EQ(inv_events_fill(events, 0, &ready, &error), INV_BAD_REQUEST);
    inv_events_close(events);
    CHECK_EQ(inv_events_open_consumer(s.store, shop_text("web"), &events, &error), INV_OK);
    CHECK_EQ(expect_event(events, INV_EVENT_STOCK_RECEIVED).lsn, third);
    inv_events_close(events);
    CHECK_EQ(inv_events_open_consumer(s.store, shop_text("none"), &events, &error),
             INV_BAD_REQUEST);
    shop_end(&s);
}

INV_TEST(log_is_kept_for_the_slowest) {
    start_small(1ull << 30);
    CHECK_EQ(consumer_do(inv_store_consumer_open, "fast", 0), INV_OK);
    CHECK_EQ(consumer_do(inv_store_consumer_open, "slow", 0), INV_OK);
    for (uint32_t round = 0; round < 3; round++) {
        (void)fill(40000);
        CHECK_EQ(acknowledge("fast", inv_wal_durable(&s.store->wal), INV_EVENT_INDEX_ALL), INV_OK);
        snapshot_now();
    }
    CHECK_EQ(oldest(), INV_WAL_LSN_FIRST);
    CHECK_EQ(read_all(0, INV_EVENT_INDEX_ALL), INV_OK);
    /* Between two events of the entry that ends where a segment does, that segment is needed. */
    uint64_t border = inv_wal_find(&s.store->wal, 0).oldest_end_lsn;
    CHECK_EQ(acknowledge("slow", border, 0), INV_OK);
    snapshot_now();
    CHECK_EQ(oldest(), INV_WAL_LSN_FIRST);
    CHECK_EQ(acknowledge("slow", border, INV_EVENT_INDEX_ALL), INV_OK);
    snapshot_now();
    CHECK_EQ(oldest(), border);
    CHECK_EQ(remove_consumer("slow"), INV_OK);
    snapshot_now();
    CHECK(oldest() > border);
    inv_metrics metrics;
    inv_store_metrics(s.store, &metrics);
    CHECK(metrics.consumers == 1 && metrics.consumers_cut_off == 0);
    shop_end(&s);
}

/* The lag is exactly what may be, and one byte more. */
static void check_limit(uint64_t beyond) {
    start_small(0);
    CHECK_EQ(consumer_do(inv_store_consumer_open, "slow", 0), INV_OK);
    (void)fill(40000);
    snapshot_now();
    (void)fill(40000);
    snapshot_now(); /* limit 0: cut off */
    CHECK_EQ(info_of("slow").state, INV_CONSUMER_CUT_OFF);
    CHECK_EQ(consumer_do(inv_store_consumer_reset, "slow", 0), INV_OK);
    uint64_t from = info_of("slow").lsn;
    CHECK(from == oldest() && info_of("slow").state == INV_CONSUMER_LIVE);
    (void)fill(40000);
    /* The log must not move between looking at the lag and trimming: trim by hand. */
    CHECK_EQ(inv_store_flush(s.store), INV_OK);
    uint64_t lag = inv_wal_durable(&s.store->wal) - from;
    s.store->options.consumer_log_bytes_max = lag - beyond;
    bool trimmed = inv_consumers_trim_one(s.store, inv_wal_durable(&s.store->wal), "gone");
    CHECK_EQ(trimmed, beyond > 0);
    CHECK_EQ(info_of("slow").state, beyond > 0 ? INV_CONSUMER_CUT_OFF : INV_CONSUMER_LIVE);
    inv_metrics metrics;
    inv_store_metrics(s.store, &metrics);
    CHECK_EQ(metrics.consumers_cut_off, 1 + beyond);
    CHECK_EQ(metrics.consumer_lag_bytes, beyond > 0 ? 0 : lag);
}

INV_TEST(at_the_limit_a_consumer_is_waited_for) {
    check_limit(0);
    shop_end(&s);
}

INV_TEST(one_byte_beyond_it_is_cut_off_loudly_and_durably) {
    check_limit(1);
    inv_error ignored = {0}; /* or the cut below brings back what was trimmed */
    CHECK_EQ(s.env->storage.sync_directory(s.env->storage.context, &ignored), INV_OK);
    uint64_t from = info_of("slow").lsn;
    for (uint32_t round = 0; round < 2; round++) {
        inv_error error = {0};
        inv_events *events = NULL;
        CHECK_EQ(inv_events_open_consumer(s.store, shop_text("slow"), &events, &error),
                 INV_EVENTS_TRIMMED);
        CHECK(error.lsn == from && error.lsn_end == oldest() && oldest() > from);
        CHECK_EQ(acknowledge("slow", inv_wal_durable(&s.store->wal), 0), INV_EVENTS_TRIMMED);
        inv_store_destroy(s.store); /* not even synced */
        inv_memory_power_cut(s.memory, 0);
        CHECK_EQ(shop_open(&s), INV_OK);
    }
    CHECK_EQ(info_of("slow").state, INV_CONSUMER_CUT_OFF);
    CHECK_EQ(consumer_do(inv_store_consumer_reset, "slow", from), INV_EVENTS_TRIMMED);
    CHECK_EQ(consumer_do(inv_store_consumer_reset, "slow", 0), INV_OK);
    CHECK_EQ(info_of("slow").lsn, oldest());
    shop_end(&s);
}

/* A reader under way learns it too, although what it reads next is there. */
INV_TEST(a_reader_of_a_consumer_cut_off_is_told) {
    start_small(0);
    inv_error error = {0};
    inv_events *events = NULL;
    CHECK_EQ(consumer_do(inv_store_consumer_open, "slow", 0), INV_OK);
    CHECK_EQ(inv_events_open_consumer(s.store, shop_text("slow"), &events, &error), INV_OK);
    uint32_t count = fill(40000);
    for (uint32_t i = 0; i < count; i++) (void)expect_event(events, INV_EVENT_STOCK_RECEIVED);
    snapshot_now();
    snapshot_now();
    CHECK_EQ(info_of("slow").state, INV_CONSUMER_CUT_OFF);
    inv_event event;
    bool more = true, ready;
    while (more) CHECK_EQ(inv_events_next(events, &event, &more, &error), INV_OK);
    CHECK_EQ(inv_events_fill(events, 0, &ready, &error), INV_EVENTS_TRIMMED);
    inv_events_close(events);
    shop_end(&s);
}

INV_TEST(a_damaged_file_is_no_position_and_does_not_stop_the_shop) {
    shop_start(&s, true);
    CHECK_EQ(consumer_do(inv_store_consumer_open, "web", 0), INV_OK);
    CHECK_EQ(consumer_do(inv_store_consumer_open, "one", 0), INV_OK);
    (void)fill(1000);
    uint64_t lsn = inv_wal_durable(&s.store->wal);
    CHECK_EQ(acknowledge("one", lsn, 7), INV_OK); /* sequence 3, in the slot behind */
    shop_shut(&s);
    uint64_t size;
    uint8_t *web = inv_memory_file(s.memory, "consumer-web", &size);
    uint8_t *one = inv_memory_file(s.memory, "consumer-one", &size);
    REQUIRE(web != NULL && one != NULL && size == 8192);
    web[40] ^= 1;
    web[4096 + 48] ^= 128;
    one[4096] ^= 1;
    inv_memory_settle(s.memory);
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(info_of("web").state, INV_CONSUMER_DAMAGED);
    inv_consumer_info info = info_of("one"); /* the older slot stands */
    CHECK(info.state == INV_CONSUMER_LIVE && info.lsn == INV_WAL_LSN_FIRST);
    CHECK_EQ(acknowledge("web", lsn, 0), INV_LOG_CORRUPT);
    CHECK_EQ(consumer_do(inv_store_consumer_reset, "web", lsn), INV_OK);
    shop_reopen(&s, true);
    CHECK(info_of("web").state == INV_CONSUMER_LIVE && info_of("web").lsn == lsn);
    shop_end(&s);
}

/* ---- crashes --------------------------------------------------------------------------------- */

typedef struct stop {
    uint64_t at;
} stop;

static inv_result stop_at(void *argument, uint64_t call, const char *what, const char *name,
                          bool after) {
    stop *where = argument;
    (void)what;
    (void)name;
    (void)after;
    return call >= where->at ? INV_IO_ERROR : INV_OK;
}

/* A life of a consumer that ends at each storage call in turn: what was acknowledged is there. */
INV_TEST(a_crash_anywhere_keeps_what_was_acknowledged) {
    for (uint64_t at = 1; at < 40; at++) {
        for (uint64_t seed = 0; seed < 6; seed++) {
            shop_start(&s, true);
            (void)fill(1500);
            CHECK_EQ(read_all(0, INV_EVENT_INDEX_ALL), INV_OK);
            stop where = {at};
            inv_memory_set_hook(s.memory, stop_at, &where);
            bool made = consumer_do(inv_store_consumer_open, "web", 0) == INV_OK, removed = false;
            uint64_t sure = INV_WAL_LSN_FIRST, perhaps = sure;
            for (uint32_t i = 0; made && sure == perhaps && i < 8; i++) {
                perhaps = seen[i].lsn;
                if (acknowledge("web", perhaps, INV_EVENT_INDEX_ALL) == INV_OK) sure = perhaps;
            }
            bool removing = made && sure == perhaps && seed % 2 == 0;
            if (removing) removed = remove_consumer("web") == INV_OK;
            inv_memory_set_hook(s.memory, NULL, NULL);
            inv_store_destroy(s.store);
            inv_memory_power_cut(s.memory, seed);
            REQUIRE_EQ(shop_open(&s), INV_OK);
            inv_consumer_info info = info_of("web");
            CHECK(info.state != INV_CONSUMER_DAMAGED && info.state != INV_CONSUMER_CUT_OFF);
            if (made && !removing) CHECK_EQ(info.state, INV_CONSUMER_LIVE);
            if (removed) CHECK_EQ(info.state, INV_CONSUMER_NONE);
            if (info.state == INV_CONSUMER_LIVE) CHECK(info.lsn == sure || info.lsn == perhaps);
            CHECK_EQ(consumer_do(inv_store_consumer_open, "web", 0), INV_OK);
            shop_end(&s);
        }
    }
}

/* ---- threads --------------------------------------------------------------------------------- */

static void *run_loop(void *argument) {
    void (*loop)(inv_store *) = *(void (**)(inv_store *))argument;
    loop(s.store);
    return NULL;
}

static void *write_some(void *argument) {
    uint64_t count = *(uint64_t *)argument;
    for (uint64_t i = 0; i < count; i++) {
        inv_line line = shop_line("TEE", "LON", 1);
        inv_command command = shop_command(INV_CMD_RECEIVE, NULL, &line, 1);
        inv_reply reply;
        memset(&reply, 0, sizeof reply);
        CHECK_EQ(inv_store_execute(s.store, &command, 1, &reply), INV_OK);
        CHECK_EQ(reply.code, INV_OK);
    }
    return NULL;
}

static void *wait_for_one(void *argument) {
    inv_events *events = argument;
    inv_error error = {0};
    inv_event event;
    bool more = false, ready;
    inv_result result = INV_OK;
    while (result == INV_OK && !more) {
        result = inv_events_next(events, &event, &more, &error);
        if (result == INV_OK && !more) result = inv_events_fill(events, 30000, &ready, &error);
    }
    CHECK(more && event.type == INV_EVENT_STOCK_RECEIVED);
    return NULL;
}

/* Nobody else waits for the sync: it wakes the one who waits for its events. */
INV_TEST(a_group_commit_wakes_a_follower) {
    shop_start(&s, true);
    void (*loop)(inv_store *) = inv_store_run_flusher;
    uint64_t one = 1;
    pthread_t flusher, reader;
    inv_events *events = open_after(inv_wal_durable(&s.store->wal), INV_EVENT_INDEX_ALL);
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    pthread_create(&flusher, NULL, run_loop, &loop);
    pthread_create(&reader, NULL, wait_for_one, events);
    _Atomic uint32_t word = 0;
    inv_futex_wait(&word, 0, 200); /* it waits by now, or it will find the event at once */
    (void)write_some(&one);
    pthread_join(reader, NULL);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    CHECK(ended.tv_sec - began.tv_sec < 15);
    inv_events_close(events);
    shop_shut(&s);
    pthread_join(flusher, NULL);
    shop_end(&s);
}

typedef struct follower {
    const char *name;
    uint64_t count, last;
} follower;

/* Follows until the store closes; acknowledges now and then. */
static void *follow(void *argument) {
    follower *me = argument;
    inv_error error = {0};
    inv_events *events = NULL;
    inv_result result = inv_events_open_consumer(s.store, shop_text(me->name), &events, &error);
    while (result == INV_OK) {
        inv_event event;
        bool more, ready;
        result = inv_events_next(events, &event, &more, &error);
        if (result == INV_OK && more) {
            CHECK(event.lsn > me->last);
            me->last = event.lsn;
            if (++me->count % 500 == 0)
                result = inv_store_consumer_acknowledge(s.store, shop_text(me->name), event.lsn,
                                                        event.index, &error);
        } else if (result == INV_OK) {
            result = inv_events_fill(events, 30000, &ready, &error); /* or until it is woken */
        }
    }
    CHECK_EQ(result, INV_STORE_CLOSED);
    inv_events_close(events);
    return NULL;
}

INV_TEST(followers_see_all_while_others_write_and_the_log_is_trimmed) {
    shop_init(&s, true);
    s.options.segment_bytes = 64u << 10;
    s.options.snapshot_log_bytes = 100000;
    s.options.segments_ahead_max = 4;
    REQUIRE_EQ(shop_open(&s), INV_OK);
    void (*loops[])(inv_store *) = {inv_store_run_flusher, inv_store_run_timekeeper,
                                    inv_store_run_housekeeper};
    follower followers[] = {{"a", 0, 0}, {"b", 0, 0}};
    pthread_t threads[7];
    uint64_t each = inv_test_scaled(20000);
    for (uint32_t i = 0; i < 2; i++)
        CHECK_EQ(consumer_do(inv_store_consumer_open, followers[i].name, 0), INV_OK);
    for (uint32_t i = 0; i < 3; i++) pthread_create(&threads[i], NULL, run_loop, &loops[i]);
    for (uint32_t i = 0; i < 2; i++) pthread_create(&threads[3 + i], NULL, follow, &followers[i]);
    for (uint32_t i = 0; i < 2; i++) pthread_create(&threads[5 + i], NULL, write_some, &each);
    for (uint32_t i = 5; i < 7; i++) pthread_join(threads[i], NULL);
    uint64_t tail = atomic_load_explicit(&s.store->wal.tail, memory_order_relaxed);
    CHECK_EQ(inv_store_barrier(s.store, tail, 60000), INV_OK);
    for (uint32_t i = 0; i < 2; i++) { /* until it has all of it */
        inv_consumer_info info = info_of(followers[i].name);
        for (uint32_t k = 0; k < 100000 && info.lag_bytes > 120000; k++) {
            inv_cpu_yield();
            info = info_of(followers[i].name);
        }
        CHECK_EQ(info.state, INV_CONSUMER_LIVE);
    }
    /* What is left is little; a nap lets them come to the end, and then they wait. */
    _Atomic uint32_t word = 0;
    inv_futex_wait(&word, 0, 500);
    inv_error error = {0};
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    CHECK_EQ(inv_store_close(s.store, &error), INV_OK);
    for (uint32_t i = 0; i < 5; i++) pthread_join(threads[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    CHECK(ended.tv_sec - began.tv_sec < 15); /* close() ends their waits */
    for (uint32_t i = 0; i < 2; i++) CHECK_EQ(followers[i].count, 2 * each);
    inv_store_destroy(s.store);
    s.store = NULL;
    shop_end(&s);
}

INV_TEST_MAIN()
