/* SPDX-License-Identifier: Apache-2.0
 *
 * test_store.c: the store through its public calls: every limit at the limit and one beyond it,
 * the codes of stock changes and reservations, and everything about keys.
 */
#include "shop.h"

static shop s;

#define TTL_MS_DEFAULT (10ull * 60 * 1000)
#define TTL_MS_MAX (30ull * 24 * 3600 * 1000)

/* ---- limits ------------------------------------------------------------------------------- */

static char long_text[300];

static inv_text text_of(uint32_t bytes) {
    memset(long_text, 'x', sizeof long_text);
    inv_text text = {long_text, bytes};
    return text;
}

INV_TEST(texts_at_their_limits_and_one_beyond) {
    shop_start(&s, true);
    static const struct {
        uint32_t limit;
        size_t offset; /* of the text in inv_command; 0 = the line's sku, 1 = its location */
    } cases[] = {{INV_SKU_BYTES_MAX, 0},
                 {INV_LOCATION_BYTES_MAX, 1},
                 {INV_SELLER_BYTES_MAX, offsetof(inv_command, seller)},
                 {INV_ACCOUNT_BYTES_MAX, offsetof(inv_command, account)},
                 {INV_ID_BYTES_MAX, offsetof(inv_command, op_id)},
                 {INV_REASON_BYTES_MAX, offsetof(inv_command, reason)},
                 {INV_REFERENCE_BYTES_MAX, offsetof(inv_command, reference)}};
    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (uint32_t beyond = 0; beyond <= 1; beyond++) {
            inv_line line = shop_line("A", "W", 1);
            inv_command command = shop_command(INV_CMD_RECEIVE, NULL, &line, 1);
            inv_text text = text_of(cases[i].limit + beyond);
            if (cases[i].offset == 0) line.sku = text;
            else if (cases[i].offset == 1) line.location = text;
            else memcpy((char *)&command + cases[i].offset, &text, sizeof text);
            int code = shop_do(&s, &command);
            CHECK_EQ(code, beyond ? INV_BAD_REQUEST : INV_OK);
            if (beyond) CHECK(s.reply.field != NULL);
        }
    }
    inv_line line = shop_line("A", "W", 1);
    inv_command command = shop_command(INV_CMD_RESERVE, NULL, &line, 1);
    command.id = text_of(INV_ID_BYTES_MAX);
    CHECK_EQ(shop_do(&s, &command), INV_OK);
    command.id = text_of(INV_ID_BYTES_MAX + 1);
    CHECK_EQ(shop_do(&s, &command), INV_BAD_REQUEST);
    command.id = text_of(0);
    CHECK_EQ(shop_do(&s, &command), INV_BAD_REQUEST);
    command.id = shop_text(NULL);
    CHECK_EQ(shop_do(&s, &command), INV_BAD_REQUEST);
    shop_end(&s);
}

INV_TEST(text_must_be_utf8) {
    static const char *const bad[] = {
        "\x80",             /* a continuation alone */
        "\xC3",             /* cut off */
        "\xC3(",            /* no continuation */
        "\xC0\x80",         /* overlong */
        "\xE0\x80\x80",     /* overlong */
        "\xF0\x80\x80\x80", /* overlong */
        "\xED\xA0\x80",     /* a surrogate */
        "\xF4\x90\x80\x80", /* beyond U+10FFFF */
        "\xFF",
        ""};
    static const char *const good[] = {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x8E\x81",
                                       "\xED\x9F\xBF", "\xF4\x8F\xBF\xBF"};
    shop_start(&s, true);
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ(shop_receive(&s, bad[i], "W", 1), INV_BAD_REQUEST);
        CHECK_EQ(shop_receive(&s, "A", bad[i], 1), INV_BAD_REQUEST);
        CHECK_EQ(shop_reserve(&s, bad[i], "A", "W", 1, 0), INV_BAD_REQUEST);
        inv_line line = shop_line("A", "W", 1);
        inv_command command = shop_command(INV_CMD_RECEIVE, "op", &line, 1);
        if (bad[i][0] == 0) continue;
        command.op_id = shop_text(bad[i]);
        CHECK_EQ(shop_do(&s, &command), INV_BAD_REQUEST);
        command = shop_command(INV_CMD_RECEIVE, NULL, &line, 1);
        command.reference = shop_text(bad[i]);
        CHECK_EQ(shop_do(&s, &command), INV_BAD_REQUEST);
    }
    for (uint32_t i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK_EQ(shop_receive(&s, good[i], good[i], 1), INV_OK);
        CHECK_EQ(shop_reserve(&s, good[i], good[i], good[i], 1, 0), INV_OK);
    }
    shop_end(&s);
}

INV_TEST(quantities_at_their_limits_and_one_beyond) {
    static const int64_t bad[] = {0, -1, (int64_t)INV_QTY_MAX + 1, INT64_MAX, INT64_MIN};
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", INV_QTY_MAX), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W", 1), INV_QTY_OUT_OF_RANGE);
    CHECK_EQ(s.reply.limit, INV_QTY_MAX);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "A", "W", 1), INV_QTY_OUT_OF_RANGE);
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ(shop_receive(&s, "A", "W", bad[i]), INV_BAD_REQUEST);
        CHECK_EQ(shop_stock(&s, INV_CMD_ISSUE, NULL, "A", "W", bad[i]), INV_BAD_REQUEST);
        CHECK_EQ(shop_reserve(&s, "r", "A", "W", bad[i], 0), INV_BAD_REQUEST);
    }
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "A", "W", 0), INV_BAD_REQUEST);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "A", "W", -(int64_t)INV_QTY_MAX - 1),
             INV_BAD_REQUEST);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "A", "W", INT64_MIN), INV_BAD_REQUEST);
    CHECK_EQ(shop_count(&s, "A", "W", INV_QTY_MAX, -1), INV_BAD_REQUEST);
    CHECK_EQ(shop_count(&s, "A", "W", INV_QTY_MAX, (int64_t)INV_QTY_MAX + 1), INV_BAD_REQUEST);
    CHECK_EQ(shop_policy(&s, "A", "W", -1), INV_BAD_REQUEST);
    CHECK_EQ(shop_policy(&s, "A", "W", (int64_t)INV_QTY_MAX + 1), INV_BAD_REQUEST);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", INV_QTY_MAX, 0), INV_OK);
    CHECK(shop_figures(&s, "A", "W", INV_QTY_MAX, INV_QTY_MAX, 0));
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "A", "W", -INV_QTY_MAX), INV_OK);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "A", "W", -1), INV_QTY_OUT_OF_RANGE);
    CHECK_EQ(shop_policy(&s, "A", "W", INV_QTY_MAX), INV_OK);
    CHECK_EQ(shop_count(&s, "A", "W", 0, 0), INV_OK);
    shop_end(&s);
}

INV_TEST(equal_lines_may_not_sum_beyond_the_limit) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", INV_QTY_MAX), INV_OK);
    inv_line lines[3] = {shop_line("A", "W", INV_QTY_MAX), shop_line("A", "W", 1),
                         shop_line("A", "W", INV_QTY_MAX)};
    int code = shop_cart(&s, "r", lines, 3, 0);
    CHECK(code == INV_BAD_REQUEST || code == INV_QTY_OUT_OF_RANGE || code == INV_INSUFFICIENT);
    CHECK(shop_figures(&s, "A", "W", INV_QTY_MAX, 0, 0));
    shop_end(&s);
}

INV_TEST(lines_at_their_limit_and_one_beyond) {
    static inv_line lines[INV_LINE_COUNT_MAX + 1];
    static char names[INV_LINE_COUNT_MAX + 1][16];
    shop_init(&s, true);
    s.options.segment_bytes = 4u << 20;
    CHECK_EQ(shop_open(&s), INV_OK);
    for (uint32_t i = 0; i <= INV_LINE_COUNT_MAX; i++) {
        snprintf(names[i], sizeof names[i], "S%u", i);
        lines[i] = shop_line(names[i], "W", 1);
        inv_command receive = shop_command(INV_CMD_RECEIVE, NULL, &lines[i], 1);
        if (!CHECK_EQ(shop_do(&s, &receive), INV_OK)) break;
    }
    CHECK_EQ(shop_cart(&s, "many", lines, INV_LINE_COUNT_MAX + 1, 0), INV_LIMIT_EXCEEDED);
    CHECK_EQ(s.reply.limit, INV_LINE_COUNT_MAX);
    CHECK_EQ(shop_cart(&s, "many", lines, 0, 0), INV_BAD_REQUEST);
    CHECK_EQ(shop_cart(&s, "many", lines, INV_LINE_COUNT_MAX, 0), INV_OK);
    CHECK_EQ(s.reply.line_count, INV_LINE_COUNT_MAX);
    CHECK_EQ(shop_cart(&s, "again", lines, INV_LINE_COUNT_MAX, 0), INV_INSUFFICIENT);
    CHECK_EQ(s.reply.line_count, INV_LINE_COUNT_MAX); /* every short line, not the first */
    shop_reopen(&s, true);
    CHECK_EQ(shop_state(&s, "many"), INV_STATE_HELD);
    CHECK_EQ(s.reply.line_count, INV_LINE_COUNT_MAX);
    CHECK_EQ(shop_by_id(&s, INV_CMD_SHIP, "many"), INV_OK);
    CHECK(shop_figures(&s, "S4095", "W", 0, 0, 0));
    CHECK(shop_figures(&s, "S4096", "W", 1, 0, 0));
    shop_end(&s);
}

/* 4,096 lines, one of them split over two places: one place too many. */
INV_TEST(places_at_their_limit_and_one_beyond) {
    static inv_line lines[INV_LINE_COUNT_MAX];
    static char names[INV_LINE_COUNT_MAX][16];
    shop_init(&s, true);
    s.options.segment_bytes = 4u << 20;
    s.options.stripe_bits = 0;
    CHECK_EQ(shop_open(&s), INV_OK);
    for (uint32_t i = 0; i < INV_LINE_COUNT_MAX; i++) {
        snprintf(names[i], sizeof names[i], "S%u", i);
        lines[i] = shop_line(names[i], "W", 1);
        inv_command receive = shop_command(INV_CMD_RECEIVE, NULL, &lines[i], 1);
        if (!CHECK_EQ(shop_do(&s, &receive), INV_OK)) break;
    }
    CHECK_EQ(shop_receive(&s, names[0], "W2", 1), INV_OK);
    CHECK_EQ(shop_receive(&s, names[4000], "W2", 1), INV_OK);
    for (uint32_t late = 0; late < 2; late++) { /* the split comes first, or near the end */
        uint32_t split = late ? 4000 : 0;
        const char *id = late ? "late" : "early";
        lines[split] = shop_line(names[split], NULL, 2);
        CHECK_EQ(shop_cart(&s, id, lines, INV_LINE_COUNT_MAX, 0), INV_LIMIT_EXCEEDED);
        CHECK_EQ(shop_cart(&s, id, lines, INV_LINE_COUNT_MAX - 1, 0), INV_OK);
        CHECK_EQ(s.reply.line_count, INV_LINE_COUNT_MAX);
        CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, id), INV_OK);
        CHECK_EQ(shop_level(&s, names[7], "W").held, 0);
        lines[split] = shop_line(names[split], "W", 1);
    }
    shop_end(&s);
}

INV_TEST(a_stock_change_has_exactly_one_line) {
    shop_start(&s, true);
    inv_line lines[2] = {shop_line("A", "W", 1), shop_line("B", "W", 1)};
    for (uint8_t kind = INV_CMD_RECEIVE; kind <= INV_CMD_SET_POLICY; kind++) {
        inv_command command = shop_command(kind, NULL, lines, 0);
        CHECK_EQ(shop_do(&s, &command), INV_BAD_REQUEST);
        command.line_count = 2;
        CHECK_EQ(shop_do(&s, &command), INV_BAD_REQUEST);
        inv_line nowhere = shop_line("A", NULL, 1);
        command = shop_command(kind, NULL, &nowhere, 1);
        if (kind != INV_CMD_SET_POLICY) CHECK_EQ(shop_do(&s, &command), INV_BAD_REQUEST);
        inv_line nothing = shop_line(NULL, "W", 1);
        nothing.sku_number = 12345; /* no such number */
        command = shop_command(kind, NULL, &nothing, 1);
        CHECK_EQ(shop_do(&s, &command), INV_UNKNOWN_SKU);
    }
    inv_command unknown = shop_command(12, NULL, lines, 1);
    CHECK_EQ(shop_do(&s, &unknown), INV_BAD_REQUEST);
    unknown.kind = 0;
    CHECK_EQ(shop_do(&s, &unknown), INV_BAD_REQUEST);
    shop_end(&s);
}

INV_TEST(ttls_at_their_limits_and_one_beyond) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 10), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r0", "A", "W", 1, 0), INV_OK);
    CHECK_EQ(s.reply.expires_at_unix_ms, SHOP_START_MS + TTL_MS_DEFAULT);
    CHECK_EQ(shop_reserve(&s, "r1", "A", "W", 1, 1), INV_OK);
    CHECK_EQ(s.reply.expires_at_unix_ms, SHOP_START_MS + 1);
    CHECK_EQ(shop_reserve(&s, "r2", "A", "W", 1, TTL_MS_MAX), INV_OK);
    CHECK_EQ(s.reply.expires_at_unix_ms, SHOP_START_MS + TTL_MS_MAX);
    CHECK_EQ(shop_reserve(&s, "r3", "A", "W", 1, TTL_MS_MAX + 1), INV_BAD_REQUEST);
    CHECK_EQ(s.reply.limit, TTL_MS_MAX);
    inv_command extend = shop_command(INV_CMD_EXTEND, "r0", NULL, 0);
    CHECK_EQ(shop_do(&s, &extend), INV_BAD_REQUEST);
    extend.ttl_ms = TTL_MS_MAX + 1;
    CHECK_EQ(shop_do(&s, &extend), INV_BAD_REQUEST);
    extend.ttl_ms = TTL_MS_MAX;
    CHECK_EQ(shop_do(&s, &extend), INV_OK);
    shop_advance(&s, 1);
    CHECK_EQ(shop_state(&s, "r1"), INV_STATE_EXPIRED);
    shop_advance(&s, TTL_MS_MAX - 2);
    CHECK_EQ(shop_state(&s, "r2"), INV_STATE_HELD);
    shop_advance(&s, 1);
    CHECK_EQ(shop_state(&s, "r2"), INV_STATE_EXPIRED);
    CHECK(shop_figures(&s, "A", "W", 10, 0, 0));
    shop_end(&s);
}

INV_TEST(locations_at_their_limit_and_one_beyond) {
    shop_start(&s, false);
    uint32_t number = 0;
    uint64_t lsn;
    size_t bad;
    for (uint32_t i = 0; i < INV_LOCATION_COUNT_MAX; i++) {
        char bytes[16];
        snprintf(bytes, sizeof bytes, "L%u", i);
        inv_text name = shop_text(bytes);
        inv_result result = inv_store_numbers(s.store, INV_NAME_LOCATION, shop_text(NULL), &name,
                                              1, true, &number, &lsn, &bad);
        if (!CHECK_EQ(result, INV_OK) || !CHECK_EQ(number, i)) break;
    }
    inv_text name = shop_text("one too many");
    CHECK_EQ(inv_store_numbers(s.store, INV_NAME_LOCATION, shop_text(NULL), &name, 1, true,
                               &number, &lsn, &bad),
             INV_LIMIT_EXCEEDED);
    CHECK_EQ(shop_receive(&s, "A", "one too many", 1), INV_LIMIT_EXCEEDED);
    CHECK_EQ(shop_receive(&s, "A", "L65534", 1), INV_OK);
    shop_end(&s);
}

/* ---- codes -------------------------------------------------------------------------------- */

INV_TEST(unknown_things) {
    shop_start(&s, true);
    inv_stock_level level;
    inv_line line = shop_line("A", "W", 1);
    CHECK_EQ(inv_store_availability(s.store, shop_text(NULL), &line, &level), INV_UNKNOWN_SKU);
    CHECK_EQ(shop_stock(&s, INV_CMD_ISSUE, NULL, "A", "W", 1), INV_UNKNOWN_SKU);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "A", "W", -1), INV_UNKNOWN_SKU);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 1, 0), INV_INSUFFICIENT);
    CHECK_EQ(s.lines[0].sku, INV_NUMBER_NONE);
    CHECK_EQ(s.lines[0].available_to_promise, 0);
    CHECK_EQ(shop_reserve(&s, "r", "A", NULL, 1, 0), INV_INSUFFICIENT);
    static const uint8_t kinds[] = {INV_CMD_COMMIT, INV_CMD_SHIP, INV_CMD_RELEASE, INV_CMD_CANCEL,
                                    INV_CMD_EXTEND};
    for (uint32_t i = 0; i < sizeof kinds; i++)
        CHECK_EQ(shop_by_id(&s, kinds[i], "nobody"), INV_UNKNOWN_RESERVATION);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    CHECK_EQ(shop_receive(&s, "B", "X", 5), INV_OK);
    CHECK(shop_figures(&s, "A", "X", 0, 0, 0)); /* a known SKU without a row: zeros */
    CHECK(!shop_level(&s, "A", "X").known);
    CHECK_EQ(shop_stock(&s, INV_CMD_ISSUE, NULL, "A", "X", 1), INV_INSUFFICIENT);
    CHECK_EQ(shop_reserve(&s, "r", "A", "nowhere", 1, 0), INV_INSUFFICIENT);
    CHECK_EQ(s.lines[0].location, INV_LOCATION_NONE);
    shop_end(&s);
}

INV_TEST(adjusting_and_counting) {
    shop_start(&s, true);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "A", "W", 10), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 6, 0), INV_OK);
    inv_line line = shop_line("A", "W", -5);
    inv_command strict = shop_command(INV_CMD_ADJUST, NULL, &line, 1);
    strict.strict = true;
    CHECK_EQ(shop_do(&s, &strict), INV_INSUFFICIENT);
    line.qty = -4;
    CHECK_EQ(shop_do(&s, &strict), INV_OK);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "A", "W", -5), INV_OK); /* truth wins */
    CHECK_EQ(s.reply.level.short_qty, 5);
    CHECK_EQ(s.reply.level.available, 0);
    CHECK_EQ(s.reply.level.available_to_promise, 0);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "A", "W", -2), INV_QTY_OUT_OF_RANGE);
    CHECK_EQ(shop_count(&s, "A", "W", 2, 4), INV_CAS_FAILED);
    CHECK_EQ(s.reply.figure, 1);
    CHECK_EQ(shop_count(&s, "A", "W", 1, 7), INV_OK);
    CHECK_EQ(s.reply.level.on_hand, 7);
    CHECK_EQ(shop_count(&s, "new", "W", 0, 3), INV_OK); /* creates what did not exist */
    CHECK_EQ(shop_by_id(&s, INV_CMD_SHIP, "r"), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 1, 0, 0));
    shop_end(&s);
}

INV_TEST(issuing_goes_into_safety_stock_but_not_into_promises) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 10), INV_OK);
    CHECK_EQ(shop_policy(&s, "A", "W", 8), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 2, 0), INV_OK);
    CHECK_EQ(shop_stock(&s, INV_CMD_ISSUE, NULL, "A", "W", 9), INV_INSUFFICIENT);
    CHECK_EQ(shop_stock(&s, INV_CMD_ISSUE, NULL, "A", "W", 8), INV_OK);
    CHECK_EQ(s.reply.level.on_hand, 2);
    CHECK_EQ(s.reply.level.available_to_promise, 0);
    shop_end(&s);
}

INV_TEST(safety_stock_of_a_whole_sku_reaches_later_rows) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W1", 10), INV_OK);
    CHECK_EQ(shop_policy(&s, "A", "W1", 3), INV_OK);
    CHECK_EQ(s.reply.level.safety_stock, 3);
    CHECK_EQ(shop_policy(&s, "A", NULL, 4), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W2", 10), INV_OK);
    CHECK_EQ(s.reply.level.safety_stock, 4);
    CHECK_EQ(s.reply.level.available_to_promise, 6);
    CHECK_EQ(shop_level(&s, "A", "W1").safety_stock, 4);
    CHECK_EQ(shop_policy(&s, "A", "W2", 0), INV_OK);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_EQ(shop_level(&s, "A", "W1").available_to_promise, 6);
        CHECK_EQ(shop_level(&s, "A", "W2").available_to_promise, 10);
        shop_reopen(&s, i == 0);
    }
    CHECK_EQ(shop_receive(&s, "A", "W3", 10), INV_OK);
    CHECK_EQ(s.reply.level.safety_stock, 4);
    CHECK_EQ(shop_policy(&s, "fresh", NULL, 2), INV_OK);
    CHECK_EQ(shop_receive(&s, "fresh", "W1", 2), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "fresh", NULL, 1, 0), INV_INSUFFICIENT);
    inv_line line = shop_line("fresh", NULL, 2);
    inv_command reserve = shop_command(INV_CMD_RESERVE, "r", &line, 1);
    reserve.use_safety_stock = true;
    CHECK_EQ(shop_do(&s, &reserve), INV_OK);
    shop_end(&s);
}

INV_TEST(a_refusal_lists_every_short_line) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W1", 3), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W2", 9), INV_OK);
    CHECK_EQ(shop_receive(&s, "B", "W1", 1), INV_OK);
    inv_line lines[5] = {shop_line("B", NULL, 2), shop_line("A", "W1", 2),
                         shop_line("none", NULL, 1), shop_line("A", "W1", 2),
                         shop_line("A", "W2", 1)};
    CHECK_EQ(shop_cart(&s, "r", lines, 5, 0), INV_INSUFFICIENT);
    CHECK_EQ(s.reply.line_count, 3);
    bool seen[5] = {false};
    for (uint32_t i = 0; i < s.reply.line_count && i < 5; i++) {
        uint32_t index = s.lines[i].line_index;
        if (!CHECK(index < 5)) continue;
        seen[index] = true;
        if (index != 1) continue;
        CHECK_EQ(s.lines[i].qty, 4); /* equal lines together */
        CHECK_EQ(s.lines[i].available_to_promise, 3);
        CHECK_EQ(s.lines[i].alternative_count, 1); /* W2 has nine */
    }
    CHECK(seen[0] && seen[1] && seen[2] && !seen[3] && !seen[4]);
    CHECK(shop_figures(&s, "A", "W2", 9, 0, 0));
    shop_end(&s);
}

INV_TEST(equal_lines_at_an_unknown_location_are_one) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W1", 3), INV_OK);
    inv_line lines[3] = {shop_line("A", "W9", 2), shop_line("A", "W8", 1),
                         shop_line("A", "W9", 2)};
    CHECK_EQ(shop_cart(&s, "r", lines, 3, 0), INV_INSUFFICIENT);
    CHECK_EQ(s.reply.line_count, 2);
    for (uint32_t i = 0; i < 2; i++)
        CHECK_EQ(s.lines[i].qty, s.lines[i].line_index == 0 ? 4 : 1);
    shop_end(&s);
}

INV_TEST(located_lines_are_served_before_free_ones) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W1", 3), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W2", 3), INV_OK);
    inv_line lines[2] = {shop_line("A", NULL, 3), shop_line("A", "W1", 3)};
    CHECK_EQ(shop_cart(&s, "r", lines, 2, 0), INV_OK);
    CHECK(shop_figures(&s, "A", "W1", 3, 3, 0));
    CHECK(shop_figures(&s, "A", "W2", 3, 3, 0));
    shop_end(&s);
}

INV_TEST(one_bad_command_of_a_run_hurts_no_other) {
    shop_start(&s, true);
    inv_line good = shop_line("A", "W", 2), bad = shop_line("A", "W", -2);
    inv_command commands[4] = {shop_command(INV_CMD_RECEIVE, "o1", &good, 1),
                               shop_command(INV_CMD_RECEIVE, "o2", &bad, 1),
                               shop_command(INV_CMD_RESERVE, "r1", &good, 1),
                               shop_command(INV_CMD_RESERVE, "r2", &good, 1)};
    inv_reply replies[4];
    memset(replies, 0, sizeof replies);
    CHECK_EQ(inv_store_execute(s.store, commands, 4, replies), INV_OK);
    shop_settle(&s);
    CHECK_EQ(replies[0].code, INV_OK);
    CHECK_EQ(replies[1].code, INV_BAD_REQUEST);
    CHECK_EQ(replies[2].code, INV_OK);
    CHECK_EQ(replies[3].code, INV_INSUFFICIENT);
    CHECK(replies[0].lsn < replies[2].lsn);
    CHECK(replies[3].observed_lsn >= replies[2].lsn);
    CHECK_EQ(inv_store_execute(s.store, commands, 0, replies), INV_OK);
    shop_end(&s);
}

INV_TEST(a_run_may_use_a_location_born_in_it) {
    shop_init(&s, true);
    s.options.stripe_bits = 0;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W1", 1), INV_OK);
    CHECK_EQ(shop_receive(&s, "B", "W1", 1), INV_OK);
    inv_line born = shop_line("A", "W2", 1);
    inv_line cart[2] = {shop_line("A", NULL, 2), shop_line("B", "W1", 1)};
    inv_line there = shop_line("A", "W2", 1);
    inv_command commands[3] = {shop_command(INV_CMD_RECEIVE, NULL, &born, 1),
                               shop_command(INV_CMD_RESERVE, "r1", cart, 2),
                               shop_command(INV_CMD_RESERVE, "r2", &there, 1)};
    inv_reply replies[3];
    memset(replies, 0, sizeof replies);
    CHECK_EQ(inv_store_execute(s.store, commands, 3, replies), INV_OK);
    shop_settle(&s);
    CHECK_EQ(replies[1].code, INV_OK);
    CHECK_EQ(replies[2].code, INV_INSUFFICIENT);
    CHECK(shop_figures(&s, "A", NULL, 2, 2, 0));
    CHECK(shop_figures(&s, "B", "W1", 1, 1, 0));
    shop_end(&s);
}

/* ---- keys --------------------------------------------------------------------------------- */

INV_TEST(a_uuid_is_the_same_in_any_spelling) {
    static const char bytes[16] = {0x12, 0x3e, 0x45, 0x67, (char)0xe8, (char)0x9b, 0x42, (char)0xd3,
                                   (char)0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0x00};
    static const char *const lower = "123e4567-e89b-42d3-a456-426614174000";
    static const char *const mixed = "123E4567-e89B-42D3-A456-426614174000";
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    CHECK_EQ(shop_reserve(&s, mixed, "A", "W", 1, 0), INV_OK);
    CHECK_EQ(shop_reserve(&s, lower, "A", "W", 1, 0), INV_REPLAYED);
    inv_line line = shop_line("A", "W", 1);
    inv_command command = shop_command(INV_CMD_RESERVE, NULL, &line, 1);
    command.id.bytes = bytes;
    command.id.length = 16;
    CHECK_EQ(shop_do(&s, &command), INV_BAD_REQUEST); /* as text it is no UTF-8 */
    command.id_is_uuid = true;
    CHECK_EQ(shop_do(&s, &command), INV_REPLAYED);
    shop_reopen(&s, true);
    CHECK_EQ(shop_do(&s, &command), INV_REPLAYED);
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, lower), INV_OK);
    CHECK_EQ(shop_reserve(&s, "123e4567e89b42d3a456426614174000", "A", "W", 1, 0), INV_OK);
    CHECK_EQ(shop_reserve(&s, "Cart-1", "A", "W", 1, 0), INV_OK);
    CHECK_EQ(shop_reserve(&s, "cart-1", "A", "W", 1, 0), INV_OK); /* text is compared whole */
    CHECK(shop_figures(&s, "A", "W", 5, 3, 0));
    shop_end(&s);
}

INV_TEST(sellers_share_nothing) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    inv_line line = shop_line("A", "W", 2);
    inv_command receive = shop_command(INV_CMD_RECEIVE, "op", &line, 1);
    inv_command reserve = shop_command(INV_CMD_RESERVE, "r", &line, 1);
    CHECK_EQ(shop_do(&s, &receive), INV_OK);
    CHECK_EQ(shop_do(&s, &reserve), INV_OK);
    receive.seller = reserve.seller = shop_text("other");
    CHECK_EQ(shop_do(&s, &reserve), INV_INSUFFICIENT);
    CHECK_EQ(shop_do(&s, &receive), INV_OK);
    CHECK_EQ(shop_do(&s, &reserve), INV_OK);
    receive.seller = reserve.seller = shop_text("default"); /* not given means this one */
    CHECK_EQ(shop_do(&s, &receive), INV_REPLAYED);
    CHECK_EQ(shop_do(&s, &reserve), INV_REPLAYED);
    CHECK(shop_figures(&s, "A", "W", 7, 2, 0));
    shop_end(&s);
}

INV_TEST(reservation_ids_and_op_ids_are_separate) {
    shop_start(&s, true);
    CHECK_EQ(shop_stock(&s, INV_CMD_RECEIVE, "same", "A", "W", 5), INV_OK);
    CHECK_EQ(shop_reserve(&s, "same", "A", "W", 2, 0), INV_OK);
    CHECK_EQ(shop_stock(&s, INV_CMD_RECEIVE, "same", "A", "W", 5), INV_REPLAYED);
    CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "same", "same", "A", "W", 2, false),
             INV_IDEMPOTENCY_MISMATCH);
    CHECK(shop_figures(&s, "A", "W", 5, 2, 0));
    shop_end(&s);
}

INV_TEST(same_id_same_body_and_other_body) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 50), INV_OK);
    CHECK_EQ(shop_receive(&s, "B", "W", 50), INV_OK);
    inv_line lines[3] = {shop_line("A", "W", 2), shop_line("B", NULL, 1), shop_line("A", "W", 3)};
    CHECK_EQ(shop_cart(&s, "r", lines, 3, 5000), INV_OK);
    uint64_t lsn = s.reply.lsn;
    inv_line sorted[2] = {shop_line("B", NULL, 1), shop_line("A", "W", 5)};
    CHECK_EQ(shop_cart(&s, "r", sorted, 2, 5000), INV_REPLAYED); /* sorted and summed: the same */
    CHECK_EQ(s.reply.lsn, lsn);
    CHECK_EQ(s.reply.state, INV_STATE_HELD);
    CHECK_EQ(s.reply.expires_at_unix_ms, SHOP_START_MS + 5000);
    sorted[1].qty = 4;
    CHECK_EQ(shop_cart(&s, "r", sorted, 2, 5000), INV_IDEMPOTENCY_MISMATCH);
    CHECK_EQ(s.reply.mismatch & INV_FIELD_LINES, INV_FIELD_LINES);
    sorted[1].qty = 5;
    sorted[0].location = shop_text("W");
    CHECK_EQ(shop_cart(&s, "r", sorted, 2, 5000), INV_IDEMPOTENCY_MISMATCH);
    CHECK_EQ(shop_cart(&s, "r", lines, 3, 5001), INV_IDEMPOTENCY_MISMATCH);
    CHECK_EQ(s.reply.mismatch & INV_FIELD_TTL_MS, INV_FIELD_TTL_MS);
    inv_command command = shop_command(INV_CMD_RESERVE, "r", lines, 3);
    command.ttl_ms = 5000;
    command.account = shop_text("web");
    CHECK_EQ(shop_do(&s, &command), INV_IDEMPOTENCY_MISMATCH);
    CHECK_EQ(s.reply.mismatch & INV_FIELD_ACCOUNT, INV_FIELD_ACCOUNT);
    CHECK(shop_figures(&s, "A", "W", 50, 5, 0));
    CHECK(shop_figures(&s, "B", "W", 50, 1, 0));
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "r"), INV_OK);
    for (uint32_t i = 0; i < 2; i++) { /* ended: only the hash of its body is known */
        CHECK_EQ(shop_cart(&s, "r", lines, 3, 5000), INV_REPLAYED);
        CHECK_EQ(s.reply.state, INV_STATE_RELEASED);
        CHECK_EQ(shop_cart(&s, "r", lines, 2, 5000), INV_IDEMPOTENCY_MISMATCH);
        CHECK_EQ(s.reply.mismatch & INV_FIELD_BODY, INV_FIELD_BODY);
        shop_reopen(&s, i == 0);
    }
    shop_end(&s);
}

INV_TEST(op_ids_replay_and_mismatch) {
    shop_start(&s, true);
    static const uint8_t kinds[] = {INV_CMD_RECEIVE, INV_CMD_ISSUE, INV_CMD_ADJUST};
    static const char *const ops[] = {"op1", "op2", "op3"};
    CHECK_EQ(shop_receive(&s, "A", "W", 50), INV_OK);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(shop_stock(&s, kinds[i], ops[i], "A", "W", 5), INV_OK);
    for (uint32_t again = 0; again < 2; again++) {
        for (uint32_t i = 0; i < 3; i++) {
            CHECK_EQ(shop_stock(&s, kinds[i], ops[i], "A", "W", 5), INV_REPLAYED);
            CHECK_EQ(shop_stock(&s, kinds[i], ops[i], "A", "W", 6), INV_IDEMPOTENCY_MISMATCH);
            CHECK(s.reply.mismatch != 0);
            CHECK_EQ(shop_stock(&s, kinds[i], ops[i], "B", "W", 5), INV_IDEMPOTENCY_MISMATCH);
            CHECK_EQ(shop_stock(&s, kinds[(i + 1) % 3], ops[i], "A", "W", 5),
                     INV_IDEMPOTENCY_MISMATCH);
        }
        CHECK(shop_figures(&s, "A", "W", 55, 0, 0));
        shop_reopen(&s, again == 0);
    }
    inv_line line = shop_line("A", "W", 5);
    inv_command command = shop_command(INV_CMD_RECEIVE, "op1", &line, 1);
    command.reason = shop_text("no part of the body");
    command.reference = shop_text("nor this");
    CHECK_EQ(shop_do(&s, &command), INV_REPLAYED);
    /* A refusal leaves nothing behind: the same key is judged afresh. */
    CHECK_EQ(shop_stock(&s, INV_CMD_ISSUE, "op4", "A", "W", 500), INV_INSUFFICIENT);
    CHECK_EQ(shop_stock(&s, INV_CMD_ISSUE, "op4", "A", "W", 5), INV_OK);
    shop_end(&s);
}

/* Bodies are compared by a hash: these once looked alike. */
INV_TEST(bodies_that_differ_in_one_thing) {
    shop_init(&s, true);
    s.options.stripe_bits = 0; /* the first SKU has number 0, the first location too */
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W", 10), INV_OK);
    CHECK_EQ(shop_receive(&s, "B", "X", 10), INV_OK);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, "op1", "A", "W", 3), INV_OK);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, "op1", "A", "W", -2), INV_IDEMPOTENCY_MISMATCH);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, "op1", "A", "W", -3), INV_IDEMPOTENCY_MISMATCH);
    inv_line line = shop_line("A", "W", 0);
    inv_command count = shop_command(INV_CMD_SET_ON_HAND, "op2", &line, 1);
    count.if_on_hand = 13;
    CHECK_EQ(shop_do(&s, &count), INV_OK);
    CHECK_EQ(shop_do(&s, &count), INV_REPLAYED);
    line = shop_line("B", "X", 0);
    CHECK_EQ(shop_do(&s, &count), INV_IDEMPOTENCY_MISMATCH);
    line = shop_line("A", "X", 0);
    CHECK_EQ(shop_do(&s, &count), INV_IDEMPOTENCY_MISMATCH);
    inv_command policy = shop_command(INV_CMD_SET_POLICY, "op3", &line, 1);
    policy.safety_stock = 2;
    CHECK_EQ(shop_do(&s, &policy), INV_OK);
    line = shop_line("B", NULL, 0);
    CHECK_EQ(shop_do(&s, &policy), INV_IDEMPOTENCY_MISMATCH);
    line = shop_line("A", "X", 0);
    policy.safety_stock = 3;
    CHECK_EQ(shop_do(&s, &policy), INV_IDEMPOTENCY_MISMATCH);
    shop_end(&s);
}

INV_TEST(a_tombstone_refuses_a_late_reserve) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    inv_command release = shop_command(INV_CMD_RELEASE, "late", NULL, 0);
    CHECK_EQ(shop_do(&s, &release), INV_UNKNOWN_RESERVATION);
    release.tombstone = true;
    CHECK_EQ(shop_do(&s, &release), INV_OK);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_EQ(shop_reserve(&s, "late", "A", "W", 1, 0), INV_ALREADY_RELEASED);
        CHECK_EQ(shop_do(&s, &release), INV_REPLAYED);
        CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "late"), INV_ALREADY_RELEASED);
        shop_reopen(&s, i == 0);
    }
    CHECK(shop_figures(&s, "A", "W", 5, 0, 0));
    shop_end(&s);
}

INV_TEST(ended_ids_are_forgotten_after_their_time_and_not_before) {
    shop_init(&s, true);
    s.options.id_retention_ms = 10000;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    CHECK_EQ(shop_reserve(&s, "live", "A", "W", 1, TTL_MS_MAX), INV_OK);
    CHECK_EQ(shop_reserve(&s, "ended", "A", "W", 1, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "ended"), INV_OK);
    shop_advance(&s, 9999);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "ended"), INV_ALREADY_RELEASED);
    shop_reopen(&s, true);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "ended"), INV_ALREADY_RELEASED);
    shop_advance(&s, 30000);
    shop_advance(&s, 30000);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "ended"), INV_UNKNOWN_RESERVATION);
    CHECK_EQ(shop_state(&s, "live"), INV_STATE_HELD); /* live ones always */
    CHECK_EQ(shop_reserve(&s, "ended", "A", "W", 1, 0), INV_OK);
    shop_end(&s);
}

INV_TEST(a_uuid_version_7_older_than_the_window_is_stale) {
    shop_init(&s, true);
    s.options.id_retention_ms = 10000;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    inv_line line = shop_line("A", "W", 1);
    inv_command command = shop_command(INV_CMD_RESERVE, NULL, &line, 1);
    char id[16] = {0};
    uint64_t made_ms = SHOP_START_MS + 1000;
    for (uint32_t i = 0; i < 6; i++) id[i] = (char)(made_ms >> (40 - 8 * i));
    id[6] = 0x70;
    id[8] = (char)0x80;
    command.id.bytes = id;
    command.id.length = 16;
    command.id_is_uuid = true;
    shop_advance(&s, 60000);
    CHECK_EQ(shop_do(&s, &command), INV_STALE_ID);
    made_ms = s.clock_ms - 5000; /* inside the window */
    for (uint32_t i = 0; i < 6; i++) id[i] = (char)(made_ms >> (40 - 8 * i));
    CHECK_EQ(shop_do(&s, &command), INV_OK);
    made_ms = SHOP_START_MS - 3600000; /* before the store was created: it may be anybody's */
    for (uint32_t i = 0; i < 6; i++) id[i] = (char)(made_ms >> (40 - 8 * i));
    CHECK_EQ(shop_do(&s, &command), INV_OK);
    shop_end(&s);
}

INV_TEST_MAIN()
