/* SPDX-License-Identifier: Apache-2.0
 *
 * test_store_peers.c: cases other systems learned the hard way, said in our terms, each a test of
 * its own. OH = on hand, R = reserved (held + allocated), A = available.
 */
#include "shop.h"

static shop s;

/* ---- ledgers ------------------------------------------------------------------------------ */

INV_TEST(commit_again_moves_nothing_and_another_amount_is_a_conflict) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 20), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 10, 0), INV_OK);
    CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "r", "c", "A", "W", 10, false), INV_OK);
    CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "r", "c", "A", "W", 10, false), INV_REPLAYED);
    CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "r", "c", "A", "W", 9, false),
             INV_IDEMPOTENCY_MISMATCH);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r"), INV_REPLAYED);
    CHECK(shop_figures(&s, "A", "W", 20, 0, 10));
    shop_end(&s);
}

INV_TEST(four_ways_to_be_too_late_are_four_answers) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 20), INV_OK);
    CHECK_EQ(shop_reserve(&s, "committed", "A", "W", 1, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "committed"), INV_OK);
    CHECK_EQ(shop_reserve(&s, "released", "A", "W", 1, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "released"), INV_OK);
    CHECK_EQ(shop_reserve(&s, "expired", "A", "W", 1, 1000), INV_OK);
    shop_advance(&s, 1000);
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "unknown"), INV_UNKNOWN_RESERVATION);
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "committed"), INV_ALREADY_COMMITTED);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "released"), INV_ALREADY_RELEASED);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "expired"), INV_EXPIRED);
    CHECK_EQ(s.reply.ended_at_unix_ms, SHOP_START_MS + 1000);
    CHECK(shop_figures(&s, "A", "W", 20, 0, 1));
    shop_end(&s);
}

INV_TEST(four_reservations_lapse_one_by_one_with_no_call_in_between) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 100), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r10", "A", "W", 10, 3600000), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r11", "A", "W", 11, 1000), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r12", "A", "W", 12, 2000), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r13", "A", "W", 13, 3000), INV_OK);
    static const int64_t reserved[] = {46, 35, 23, 10};
    for (uint32_t i = 0; i < 4; i++) {
        if (i > 0) shop_advance(&s, 1000);
        CHECK_EQ(shop_level(&s, "A", "W").reserved, reserved[i]);
    }
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r10"), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r11"), INV_EXPIRED);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r12"), INV_EXPIRED);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r13"), INV_EXPIRED);
    CHECK(shop_figures(&s, "A", "W", 100, 0, 10));
    shop_end(&s);
}

INV_TEST(one_invalid_line_fails_the_whole_and_is_named) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 20), INV_OK);
    inv_line lines[2] = {shop_line("A", "W", 15), shop_line("A", "W", 0)};
    CHECK_EQ(shop_cart(&s, "r1", lines, 2, 0), INV_BAD_REQUEST);
    CHECK_EQ(s.reply.line_index, 1);
    CHECK(s.reply.field != NULL);
    CHECK_EQ(shop_reserve(&s, "r2", "A", "W", 15, 0), INV_OK);
    CHECK_EQ(shop_available(&s, "A", "W"), 5);
    shop_end(&s);
}

INV_TEST(an_exact_repeat_answers_even_if_it_could_not_be_done_today) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 5, 0), INV_OK);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "A", "W", -5), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 5, 0), INV_REPLAYED);
    CHECK_EQ(s.reply.state, INV_STATE_HELD);
    CHECK(shop_figures(&s, "A", "W", 0, 5, 0));
    shop_end(&s);
}

INV_TEST(a_refused_id_is_not_found) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 2), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 3, 0), INV_INSUFFICIENT);
    CHECK_EQ(shop_state(&s, "r"), INV_STATE_NONE);
    CHECK(shop_figures(&s, "A", "W", 2, 0, 0));
    CHECK_EQ(shop_receive(&s, "A", "W", 1), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 3, 0), INV_OK); /* judged afresh */
    shop_end(&s);
}

/* ---- shops -------------------------------------------------------------------------------- */

INV_TEST(listed_order_takes_the_second_warehouse_first_when_it_is_listed_first) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W2", 3), INV_OK); /* used first, so first in order */
    CHECK_EQ(shop_receive(&s, "A", "W1", 4), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", NULL, 5, 0), INV_OK);
    CHECK_EQ(shop_units_at(&s, "W2"), 3);
    CHECK_EQ(shop_units_at(&s, "W1"), 2);
    shop_end(&s);
}

INV_TEST(a_split_has_one_deadline_and_leaves_on_hand_alone) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W1", 3), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W2", 2), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", NULL, 5, 5000), INV_OK);
    CHECK_EQ(s.reply.expires_at_unix_ms, SHOP_START_MS + 5000);
    CHECK_EQ(s.reply.line_count, 2);
    CHECK(shop_figures(&s, "A", "W1", 3, 3, 0));
    CHECK(shop_figures(&s, "A", "W2", 2, 2, 0));
    shop_end(&s);
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W1", 3), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", NULL, 5, 5000), INV_INSUFFICIENT);
    CHECK(shop_figures(&s, "A", "W1", 3, 0, 0));
    shop_end(&s);
}

INV_TEST(a_row_that_a_count_left_short_ships_only_what_is_there) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 80), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r30", "A", "W", 30, 0), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r50", "A", "W", 50, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r30"), INV_OK);
    CHECK_EQ(shop_count(&s, "A", "W", 80, 20), INV_OK);
    CHECK_EQ(s.reply.level.short_qty, 60);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r50"), INV_OK); /* the promise stands */
    CHECK(shop_figures(&s, "A", "W", 20, 0, 80));
    CHECK_EQ(shop_by_id(&s, INV_CMD_SHIP, "r50"), INV_INSUFFICIENT);
    CHECK(shop_figures(&s, "A", "W", 20, 0, 80));
    CHECK_EQ(shop_part(&s, INV_CMD_SHIP, "r50", "s", "A", "W", 20, false), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 0, 0, 60));
    shop_end(&s);
}

INV_TEST(one_second_past_is_gone_and_one_to_go_is_held) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 2), INV_OK);
    CHECK_EQ(shop_reserve(&s, "past", "A", "W", 1, 9000), INV_OK);
    CHECK_EQ(shop_reserve(&s, "to-go", "A", "W", 1, 11000), INV_OK);
    shop_advance(&s, 10000);
    CHECK_EQ(shop_state(&s, "past"), INV_STATE_EXPIRED);
    CHECK_EQ(shop_state(&s, "to-go"), INV_STATE_HELD);
    CHECK_EQ(shop_available(&s, "A", "W"), 1);
    shop_end(&s);
}

INV_TEST(stock_of_another_sku_does_not_count) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "L1", 4), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "L2", 4), INV_OK);
    CHECK_EQ(shop_receive(&s, "B", "L1", 50), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "L2", 2, 0), INV_OK);
    inv_stock_level total = shop_level(&s, "A", NULL);
    CHECK_EQ(total.available, 6);
    CHECK_EQ(total.on_hand, 8);
    CHECK_EQ(total.reserved, 2);
    CHECK_EQ(shop_reserve(&s, "r7", "A", NULL, 7, 0), INV_INSUFFICIENT);
    CHECK_EQ(s.reply.line_count, 1);
    CHECK_EQ(s.lines[0].available_to_promise, 6);
    CHECK_EQ(shop_reserve(&s, "r3", "A", "L1", 5, 0), INV_INSUFFICIENT);
    CHECK_EQ(shop_reserve(&s, "r6", "A", NULL, 6, 0), INV_OK);
    CHECK_EQ(shop_units_at(&s, "L1"), 4);
    CHECK_EQ(shop_units_at(&s, "L2"), 2);
    shop_end(&s);
}

INV_TEST(two_open_sources_give_five_and_two_of_seven) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "eu-1", 5), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "eu-2", 3), INV_OK);
    CHECK_EQ(shop_available(&s, "A", NULL), 8);
    CHECK_EQ(shop_reserve(&s, "r", "A", NULL, 7, 0), INV_OK);
    CHECK_EQ(shop_units_at(&s, "eu-1"), 5);
    CHECK_EQ(shop_units_at(&s, "eu-2"), 2);
    shop_end(&s);
}

INV_TEST(releasing_two_of_five_leaves_five_of_eight) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 8), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 5, 0), INV_OK);
    CHECK_EQ(shop_part(&s, INV_CMD_RELEASE, "r", "p", "A", "W", 2, false), INV_OK);
    CHECK_EQ(shop_available(&s, "A", "W"), 5);
    CHECK_EQ(shop_part(&s, INV_CMD_RELEASE, "r", "p", "A", "W", 2, false), INV_REPLAYED);
    CHECK_EQ(shop_available(&s, "A", "W"), 5);
    shop_end(&s);
}

INV_TEST(safety_stock_of_five_on_eight_gives_three) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 8), INV_OK);
    CHECK_EQ(shop_policy(&s, "A", "W", 5), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r4", "A", "W", 4, 0), INV_INSUFFICIENT);
    CHECK_EQ(s.lines[0].available_to_promise, 3);
    CHECK_EQ(shop_reserve(&s, "r3", "A", "W", 3, 0), INV_OK);
    shop_end(&s);
}

INV_TEST(a_shipment_posted_twice_moves_stock_once) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 8), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 5, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_SHIP, "r"), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_SHIP, "r"), INV_REPLAYED);
    CHECK(shop_figures(&s, "A", "W", 3, 0, 0));
    shop_end(&s);
}

INV_TEST(setting_the_same_figure_moves_nothing) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 8), INV_OK);
    CHECK_EQ(shop_count(&s, "A", "W", 8, 8), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 8, 0, 0));
    CHECK_EQ(shop_count(&s, "A", "W", 7, 9), INV_CAS_FAILED);
    CHECK_EQ(s.reply.figure, 8);
    CHECK_EQ(shop_count(&s, "A", "W", 8, 6), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 6, 0, 0));
    shop_end(&s);
}

INV_TEST(the_life_of_five_units) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 3, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r"), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 5, 0, 3));
    CHECK_EQ(shop_part(&s, INV_CMD_CANCEL, "r", "c", "A", "W", 1, false), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 5, 0, 2));
    CHECK_EQ(shop_part(&s, INV_CMD_SHIP, "r", "s", "A", "W", 2, false), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 3, 0, 0));
    CHECK_EQ(shop_state(&s, "r"), INV_STATE_SHIPPED);
    CHECK_EQ(shop_receive(&s, "A", "W", 2), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 5, 0, 0));
    shop_end(&s);
}

INV_TEST(a_threshold_of_two_leaves_one_of_three) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 3), INV_OK);
    CHECK_EQ(shop_policy(&s, "A", NULL, 2), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 2, 0), INV_INSUFFICIENT);
    CHECK_EQ(s.reply.line_count, 1);
    CHECK_EQ(s.lines[0].qty, 2);
    CHECK_EQ(s.lines[0].available_to_promise, 1);
    shop_end(&s);
}

INV_TEST(asking_for_five_of_every_spread) {
    static const struct {
        int64_t first, second; /* -1: no such place */
        bool served;
    } spreads[] = {{-1, -1, false}, {0, -1, false}, {1, -1, false}, {0, 0, false}, {1, 1, false},
                   {5, -1, true},   {5, 0, true},   {0, 5, true},   {2, 3, true},  {2, 5, true},
                   {5, 2, true},    {5, 5, true}};
    for (uint32_t i = 0; i < sizeof spreads / sizeof *spreads; i++) {
        shop_start(&s, false);
        CHECK_EQ(shop_receive(&s, "other", "W1", 9), INV_OK);
        CHECK_EQ(shop_receive(&s, "other", "W2", 9), INV_OK);
        if (spreads[i].first >= 0) CHECK_EQ(shop_policy(&s, "A", "W1", 0), INV_OK);
        if (spreads[i].second >= 0) CHECK_EQ(shop_policy(&s, "A", "W2", 0), INV_OK);
        if (spreads[i].first > 0)
            CHECK_EQ(shop_receive(&s, "A", "W1", spreads[i].first), INV_OK);
        if (spreads[i].second > 0)
            CHECK_EQ(shop_receive(&s, "A", "W2", spreads[i].second), INV_OK);
        int code = shop_reserve(&s, "r", "A", NULL, 5, 0);
        CHECK_EQ(code, spreads[i].served ? INV_OK : INV_INSUFFICIENT);
        CHECK_EQ(shop_units_at(&s, "W1") + shop_units_at(&s, "W2"), spreads[i].served ? 5 : 0);
        if (!spreads[i].served) CHECK_EQ(s.reply.line_count, 1);
        shop_end(&s);
    }
}

INV_TEST(the_second_place_fills_what_the_first_lacks) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W1", 10), INV_OK);
    CHECK_EQ(shop_receive(&s, "B", "W1", 10), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W2", 20), INV_OK);
    inv_line lines[2] = {shop_line("A", NULL, 15), shop_line("B", NULL, 5)};
    CHECK_EQ(shop_cart(&s, "r", lines, 2, 0), INV_OK);
    CHECK(shop_figures(&s, "A", "W1", 10, 10, 0));
    CHECK(shop_figures(&s, "A", "W2", 20, 5, 0));
    CHECK(shop_figures(&s, "B", "W1", 10, 5, 0));
    shop_end(&s);
}

/* ---- back offices ------------------------------------------------------------------------- */

INV_TEST(releasing_where_nothing_is_held_is_an_error) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "nobody"), INV_UNKNOWN_RESERVATION);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 5, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r"), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "r"), INV_ALREADY_COMMITTED);
    CHECK(shop_figures(&s, "A", "W", 5, 0, 5));
    shop_end(&s);
}

INV_TEST(issuing_promised_units_works_only_after_the_release) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 100), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 50, 0), INV_OK);
    CHECK_EQ(shop_stock(&s, INV_CMD_ISSUE, NULL, "A", "W", 100), INV_INSUFFICIENT);
    CHECK(shop_figures(&s, "A", "W", 100, 50, 0));
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "r"), INV_OK);
    CHECK_EQ(shop_stock(&s, INV_CMD_ISSUE, NULL, "A", "W", 100), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 0, 0, 0));
    shop_end(&s);
}

INV_TEST(twenty_takers_of_ten_units) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 10), INV_OK);
    inv_line line = shop_line("A", "W", 1);
    inv_command commands[20];
    inv_reply replies[20];
    char ids[20][8];
    uint32_t taken = 0, refused = 0;
    memset(replies, 0, sizeof replies);
    for (uint32_t i = 0; i < 20; i++) {
        snprintf(ids[i], sizeof ids[i], "id%u", i);
        commands[i] = shop_command(INV_CMD_RESERVE, ids[i], &line, 1);
    }
    CHECK_EQ(inv_store_execute(s.store, commands, 20, replies), INV_OK);
    for (uint32_t i = 0; i < 20; i++) {
        taken += replies[i].code == INV_OK;
        refused += replies[i].code == INV_INSUFFICIENT;
    }
    CHECK_EQ(taken, 10);
    CHECK_EQ(refused, 10);
    shop_settle(&s);
    shop_end(&s);
}

INV_TEST_MAIN()
