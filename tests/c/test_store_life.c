/* SPDX-License-Identifier: Apache-2.0
 *
 * test_store_life.c: the life of a reservation (the tables of SEMANTICS.md section 2), time to the
 * millisecond, opening again, and the store as a whole.
 */
#include "shop.h"

static shop s;

#define TTL_MS_MAX (30ull * 24 * 3600 * 1000)

/* ---- the wrong order ---------------------------------------------------------------------- */

/* Brings reservation `id` of four units into a state. */
static void make_state(inv_state state, const char *id) {
    CHECK_EQ(shop_reserve(&s, id, "A", "W", 4, state == INV_STATE_EXPIRED ? 10 : 0), INV_OK);
    if (state == INV_STATE_ALLOCATED) CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, id), INV_OK);
    if (state == INV_STATE_SHIPPED) CHECK_EQ(shop_by_id(&s, INV_CMD_SHIP, id), INV_OK);
    if (state == INV_STATE_RELEASED) CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, id), INV_OK);
    if (state == INV_STATE_CANCELLED) CHECK_EQ(shop_by_id(&s, INV_CMD_CANCEL, id), INV_OK);
    if (state == INV_STATE_EXPIRED) shop_advance(&s, 10);
    CHECK_EQ(shop_state(&s, id), state);
}

INV_TEST(the_table_of_wrong_orders) {
    static const struct {
        inv_state state;
        int commit, ship, release, cancel, extend, reserve;
    } table[] = {
        {INV_STATE_HELD, INV_OK, INV_OK, INV_OK, INV_OK, INV_OK, INV_REPLAYED},
        {INV_STATE_ALLOCATED, INV_REPLAYED, INV_OK, INV_ALREADY_COMMITTED, INV_OK,
         INV_ALREADY_COMMITTED, INV_REPLAYED},
        {INV_STATE_SHIPPED, INV_ALREADY_SHIPPED, INV_REPLAYED, INV_ALREADY_SHIPPED,
         INV_ALREADY_SHIPPED, INV_ALREADY_SHIPPED, INV_REPLAYED},
        {INV_STATE_RELEASED, INV_ALREADY_RELEASED, INV_ALREADY_RELEASED, INV_REPLAYED,
         INV_ALREADY_RELEASED, INV_ALREADY_RELEASED, INV_REPLAYED},
        {INV_STATE_CANCELLED, INV_ALREADY_CANCELLED, INV_ALREADY_CANCELLED, INV_ALREADY_CANCELLED,
         INV_REPLAYED, INV_ALREADY_CANCELLED, INV_REPLAYED},
        {INV_STATE_EXPIRED, INV_EXPIRED, INV_EXPIRED, INV_EXPIRED, INV_EXPIRED, INV_EXPIRED,
         INV_REPLAYED},
    };
    for (uint32_t reopened = 0; reopened < 2; reopened++) {
        shop_start(&s, true);
        CHECK_EQ(shop_receive(&s, "A", "W", 10000), INV_OK);
        for (uint32_t i = 0; i < sizeof table / sizeof *table; i++) {
            const int wanted[] = {table[i].commit, table[i].ship,   table[i].release,
                                  table[i].cancel, table[i].extend, table[i].reserve};
            static const uint8_t kinds[] = {INV_CMD_COMMIT, INV_CMD_SHIP,   INV_CMD_RELEASE,
                                            INV_CMD_CANCEL, INV_CMD_EXTEND, INV_CMD_RESERVE};
            for (uint32_t j = 0; j < 6; j++) {
                char id[16];
                snprintf(id, sizeof id, "r-%u-%u", i, j);
                make_state(table[i].state, id);
                if (reopened) shop_reopen(&s, j % 2 == 0);
                uint64_t ttl_ms = table[i].state == INV_STATE_EXPIRED ? 10 : 0;
                int code = kinds[j] == INV_CMD_RESERVE
                               ? shop_reserve(&s, id, "A", "W", 4, ttl_ms)
                               : shop_by_id(&s, kinds[j], id);
                if (!CHECK_EQ(code, wanted[j]))
                    fprintf(stderr, "state %d, call %u, reopened %u\n", table[i].state, kinds[j],
                            reopened);
            }
        }
        shop_end(&s);
    }
}

INV_TEST(parts_more_than_remains_and_the_rest) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 10), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 8, 60000), INV_OK);
    CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "r", "c1", "A", "W", 9, true), INV_OVER_COMMIT);
    CHECK_EQ(s.reply.line_count, 1);
    CHECK_EQ(s.lines[0].available_to_promise, 8);
    CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "r", "c1", "B", "W", 1, true), INV_OVER_COMMIT);
    CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "r", "c1", "A", "W", 2, true), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 10, 6, 2));
    CHECK_EQ(s.reply.state, INV_STATE_HELD);
    CHECK_EQ(s.reply.expires_at_unix_ms, SHOP_START_MS + 60000); /* the old deadline */
    CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "r", "c1", "A", "W", 2, true), INV_REPLAYED);
    CHECK_EQ(shop_part(&s, INV_CMD_SHIP, "r", "s1", "A", "W", 1, false), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 9, 6, 1));
    CHECK_EQ(shop_part(&s, INV_CMD_RELEASE, "r", "l1", "A", NULL, 1, false), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 9, 5, 1));
    CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "r", "c2", "A", "W", 3, false), INV_OK); /* final */
    CHECK(shop_figures(&s, "A", "W", 9, 0, 4));
    CHECK_EQ(s.reply.state, INV_STATE_ALLOCATED);
    shop_reopen(&s, true);
    CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "r", "c2", "A", "W", 3, false), INV_REPLAYED);
    CHECK_EQ(shop_part(&s, INV_CMD_CANCEL, "r", "x1", "A", "W", 5, false), INV_OVER_COMMIT);
    CHECK_EQ(shop_by_id(&s, INV_CMD_CANCEL, "r"), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 9, 0, 0));
    CHECK_EQ(shop_state(&s, "r"), INV_STATE_SHIPPED); /* a part was shipped */
    shop_end(&s);
}

INV_TEST(a_part_that_ended_the_reservation_is_replayed) {
    static char names[8][4];
    inv_line lines[8];
    shop_start(&s, true);
    for (uint32_t i = 0; i < 8; i++) { /* in several stripes */
        snprintf(names[i], sizeof names[i], "S%u", i);
        CHECK_EQ(shop_receive(&s, names[i], "W", 2), INV_OK);
        lines[i] = shop_line(names[i], "W", 2);
    }
    static const uint8_t kinds[] = {INV_CMD_SHIP, INV_CMD_RELEASE, INV_CMD_CANCEL};
    for (uint32_t i = 0; i < 3; i++) {
        char id[8], op_id[8];
        snprintf(id, sizeof id, "r%u", i);
        snprintf(op_id, sizeof op_id, "o%u", i);
        for (uint32_t j = 0; j < 8; j++) CHECK_EQ(shop_receive(&s, names[j], "W", 2), INV_OK);
        CHECK_EQ(shop_cart(&s, id, lines, 8, 0), INV_OK);
        inv_command part = shop_command(kinds[i], id, lines, 8);
        part.partial = true;
        part.op_id = shop_text(op_id);
        CHECK_EQ(shop_do(&s, &part), INV_OK);
        CHECK_EQ(shop_do(&s, &part), INV_REPLAYED);
        part.line_count = 7;
        CHECK_EQ(shop_do(&s, &part), INV_IDEMPOTENCY_MISMATCH);
        part.line_count = 8;
        shop_reopen(&s, true);
        CHECK_EQ(shop_do(&s, &part), INV_REPLAYED);
    }
    shop_end(&s);
}

INV_TEST(the_answer_to_a_shipment_says_what_left) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W1", 2), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W2", 2), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", NULL, 3, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_SHIP, "r"), INV_OK);
    CHECK_EQ(s.reply.line_count, 2);
    CHECK_EQ(s.lines[0].shipped + s.lines[1].shipped, 3);
    shop_end(&s);
}

INV_TEST(the_rest_of_a_part_commit_lapses_alone) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 10), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 8, 1000), INV_OK);
    CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "r", "c", "A", "W", 3, true), INV_OK);
    shop_advance(&s, 1000);
    CHECK(shop_figures(&s, "A", "W", 10, 0, 3));
    CHECK_EQ(shop_state(&s, "r"), INV_STATE_ALLOCATED);
    CHECK_EQ(shop_by_id(&s, INV_CMD_SHIP, "r"), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 7, 0, 0));
    shop_end(&s);
}

INV_TEST(rehold_takes_the_units_again_or_says_why_not) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r1", "A", "W", 3, 1000), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r2", "A", "W", 2, 1000), INV_OK);
    shop_advance(&s, 1000);
    CHECK_EQ(shop_reserve(&s, "thief", "A", "W", 4, 0), INV_OK);
    inv_command commit = shop_command(INV_CMD_COMMIT, "r1", NULL, 0);
    commit.rehold = true;
    CHECK_EQ(shop_do(&s, &commit), INV_INSUFFICIENT);
    CHECK(shop_figures(&s, "A", "W", 5, 4, 0));
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "thief"), INV_OK);
    CHECK_EQ(shop_do(&s, &commit), INV_OK);
    CHECK(s.reply.reheld);
    CHECK_EQ(s.reply.state, INV_STATE_ALLOCATED);
    CHECK(shop_figures(&s, "A", "W", 5, 0, 3));
    CHECK_EQ(shop_do(&s, &commit), INV_REPLAYED);
    shop_reopen(&s, true);
    CHECK(shop_figures(&s, "A", "W", 5, 0, 3));
    commit.id = shop_text("r2");
    CHECK_EQ(shop_do(&s, &commit), INV_OK); /* also after opening again */
    CHECK(s.reply.reheld);
    CHECK(shop_figures(&s, "A", "W", 5, 0, 5));
    shop_end(&s);
}

/* ---- time --------------------------------------------------------------------------------- */

INV_TEST(deadlines_are_exact_to_the_millisecond) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 1000), INV_OK);
    static const uint64_t ttls[] = {1,     2,     255,   256,     257,     511,      65535,
                                    65536, 65537, 99999, 3600000, 16777216, 16777217, 86400000};
    for (uint32_t i = 0; i < sizeof ttls / sizeof *ttls; i++) {
        uint64_t start_ms = s.clock_ms;
        char id[16];
        snprintf(id, sizeof id, "r%u", i);
        CHECK_EQ(shop_reserve(&s, id, "A", "W", 1, ttls[i]), INV_OK);
        CHECK_EQ(s.reply.expires_at_unix_ms, start_ms + ttls[i]);
        CHECK_EQ(s.reply.now_unix_ms, start_ms);
        if (ttls[i] > 1) shop_advance(&s, ttls[i] - 1);
        CHECK_EQ(shop_state(&s, id), INV_STATE_HELD);
        CHECK_EQ(shop_level(&s, "A", "W").held, 1);
        shop_advance(&s, 1);
        CHECK_EQ(shop_state(&s, id), INV_STATE_EXPIRED);
        CHECK_EQ(s.reply.ended_at_unix_ms, start_ms + ttls[i]);
        CHECK_EQ(shop_level(&s, "A", "W").held, 0);
        CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, id), INV_EXPIRED);
    }
    shop_end(&s);
}

INV_TEST(extend_never_shortens_unless_told_to) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 1, 10000), INV_OK);
    inv_command extend = shop_command(INV_CMD_EXTEND, "r", NULL, 0);
    extend.ttl_ms = 5000;
    CHECK_EQ(shop_do(&s, &extend), INV_OK);
    CHECK_EQ(s.reply.expires_at_unix_ms, SHOP_START_MS + 10000);
    extend.shorten = true;
    CHECK_EQ(shop_do(&s, &extend), INV_OK);
    CHECK_EQ(s.reply.expires_at_unix_ms, SHOP_START_MS + 5000);
    shop_advance(&s, 4999);
    extend.shorten = false;
    CHECK_EQ(shop_do(&s, &extend), INV_OK);
    CHECK_EQ(s.reply.expires_at_unix_ms, SHOP_START_MS + 9999);
    shop_reopen(&s, true);
    shop_advance(&s, 4999);
    CHECK_EQ(shop_state(&s, "r"), INV_STATE_HELD);
    CHECK_EQ(s.reply.expires_at_unix_ms, SHOP_START_MS + 9999);
    shop_advance(&s, 20000);
    CHECK_EQ(shop_do(&s, &extend), INV_EXPIRED);
    shop_end(&s);
}

/* Time is kept per stripe: where a dead hold still counts, time has not reached its deadline. */
INV_TEST(no_stripe_sees_a_dead_hold_of_its_own) {
    shop_init(&s, true);
    s.options.stripe_bits = 6;
    CHECK_EQ(shop_open(&s), INV_OK);
    static char names[200][8];
    for (uint32_t i = 0; i < 200; i++) {
        snprintf(names[i], sizeof names[i], "S%u", i);
        CHECK_EQ(shop_receive(&s, names[i], "W", 1), INV_OK);
        CHECK_EQ(shop_reserve(&s, names[i], names[i], "W", 1, 500 + i % 5), INV_OK);
    }
    s.clock_ms += 502;
    inv_env_set_clock(s.env, s.clock_ms);
    bool more = true;
    for (uint32_t step = 0; more && step < 10000; step++) {
        CHECK_EQ(inv_store_advance(s.store, 1, &more), INV_OK);
        shop_settle(&s);
        inv_stock_level level = shop_level(&s, names[step % 200], "W");
        uint64_t deadline_ms = SHOP_START_MS + 500 + step % 200 % 5;
        if (level.held > 0) CHECK(level.now_unix_ms < deadline_ms);
        else CHECK(level.now_unix_ms + 1 >= deadline_ms); /* of equal deadlines, one goes first */
    }
    CHECK(!more);
    inv_metrics metrics;
    inv_store_metrics(s.store, &metrics);
    CHECK_EQ(metrics.now_unix_ms, s.clock_ms);
    CHECK_EQ(metrics.expired, 120);
    CHECK_EQ(metrics.live_holds, 80);
    shop_end(&s);
}

INV_TEST(a_cart_over_many_stripes_dies_as_one) {
    shop_init(&s, true);
    s.options.stripe_bits = 6;
    CHECK_EQ(shop_open(&s), INV_OK);
    static char names[100][8];
    inv_line lines[100];
    for (uint32_t i = 0; i < 100; i++) {
        snprintf(names[i], sizeof names[i], "S%u", i);
        CHECK_EQ(shop_receive(&s, names[i], "W", 3), INV_OK);
        lines[i] = shop_line(names[i], i % 2 ? "W" : NULL, 2);
    }
    CHECK_EQ(shop_cart(&s, "cart", lines, 100, 700), INV_OK);
    CHECK_EQ(s.reply.expires_at_unix_ms, SHOP_START_MS + 700);
    CHECK_EQ(shop_cart(&s, "cart2", lines, 100, 700), INV_INSUFFICIENT);
    CHECK_EQ(s.reply.line_count, 100);
    shop_advance(&s, 699);
    for (uint32_t i = 0; i < 100; i++) CHECK_EQ(shop_level(&s, names[i], "W").held, 2);
    shop_advance(&s, 1);
    for (uint32_t i = 0; i < 100; i++) CHECK_EQ(shop_level(&s, names[i], "W").held, 0);
    CHECK_EQ(shop_cart(&s, "cart2", lines, 100, 700), INV_OK);
    shop_reopen(&s, true);
    for (uint32_t i = 0; i < 100; i++) CHECK_EQ(shop_level(&s, names[i], "W").held, 2);
    CHECK_EQ(shop_by_id(&s, INV_CMD_SHIP, "cart2"), INV_OK);
    for (uint32_t i = 0; i < 100; i++) CHECK_EQ(shop_level(&s, names[i], "W").on_hand, 1);
    shop_end(&s);
}

/* As after a long sleep of the machine: some stripes are weeks behind when the next calls come. */
INV_TEST(a_jump_of_weeks_while_stripes_lag) {
    static char names[40][8], ids[30][8];
    inv_line lines[30];
    inv_command commands[30];
    inv_reply replies[30];
    shop_init(&s, true);
    s.options.stripe_bits = 6;
    CHECK_EQ(shop_open(&s), INV_OK);
    for (uint32_t i = 0; i < 40; i++) {
        snprintf(names[i], sizeof names[i], "S%u", i);
        CHECK_EQ(shop_receive(&s, names[i], "W", 10), INV_OK);
        if (i < 10) CHECK_EQ(shop_reserve(&s, names[i], names[i], "W", 1, 1), INV_OK);
    }
    bool more = false;
    s.clock_ms += 40ull * 24 * 3600 * 1000;
    inv_env_set_clock(s.env, s.clock_ms);
    CHECK_EQ(inv_store_advance(s.store, 1, &more), INV_OK);
    CHECK(more);
    for (uint32_t i = 0; i < 30; i++) {
        snprintf(ids[i], sizeof ids[i], "r%u", i);
        lines[i] = shop_line(names[i], "W", 1);
        commands[i] = shop_command(INV_CMD_RESERVE, ids[i], &lines[i], 1);
        commands[i].ttl_ms = TTL_MS_MAX;
    }
    memset(replies, 0, sizeof replies);
    CHECK_EQ(inv_store_execute(s.store, commands, 30, replies), INV_OK);
    for (uint32_t i = 0; i < 30; i++) {
        CHECK_EQ(replies[i].code, INV_OK);
        CHECK_EQ(replies[i].expires_at_unix_ms, replies[i].now_unix_ms + TTL_MS_MAX);
    }
    uint64_t now_ms = s.clock_ms;
    shop_settle(&s);
    shop_advance(&s, 0);
    shop_reopen(&s, true);
    uint32_t on_time = 0; /* those on a stripe that lagged lived and died by its time */
    for (uint32_t i = 0; i < 30; i++) {
        if (replies[i].now_unix_ms != now_ms) continue;
        CHECK_EQ(shop_state(&s, ids[i]), INV_STATE_HELD);
        on_time++;
    }
    CHECK(on_time > 0 && on_time < 30);
    shop_end(&s);
}

INV_TEST(downtime_counts_after_the_grace) {
    shop_init(&s, true);
    s.options.restart_grace_ms = 10000;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r1", "A", "W", 1, 60000), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r2", "A", "W", 1, 60000), INV_OK);
    shop_shut(&s);
    s.clock_ms += 120000;
    inv_env_set_clock(s.env, s.clock_ms);
    CHECK_EQ(shop_open(&s), INV_OK);
    shop_advance(&s, 0);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r1"), INV_OK); /* it ran out meanwhile, yet */
    shop_advance(&s, 9000);
    CHECK_EQ(shop_state(&s, "r2"), INV_STATE_HELD);
    shop_advance(&s, 2000);
    CHECK_EQ(shop_state(&s, "r2"), INV_STATE_EXPIRED);
    CHECK(shop_figures(&s, "A", "W", 5, 0, 1));
    inv_metrics metrics;
    inv_store_metrics(s.store, &metrics);
    CHECK_EQ(metrics.now_unix_ms, s.clock_ms);
    shop_end(&s);
}

/* ---- the store itself --------------------------------------------------------------------- */

INV_TEST(everything_is_there_after_opening_again) {
    for (uint32_t crash = 0; crash < 2; crash++) {
        shop_start(&s, true);
        CHECK_EQ(shop_receive(&s, "A", "W1", 10), INV_OK);
        CHECK_EQ(shop_receive(&s, "A", "W2", 10), INV_OK);
        CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, "adj", "A", "W1", -1), INV_OK);
        CHECK_EQ(shop_count(&s, "A", "W2", 10, 12), INV_OK);
        CHECK_EQ(shop_reserve(&s, "held", "A", NULL, 11, 60000), INV_OK);
        CHECK_EQ(shop_reserve(&s, "part", "A", "W2", 4, 60000), INV_OK);
        CHECK_EQ(shop_part(&s, INV_CMD_COMMIT, "part", "c", "A", "W2", 1, true), INV_OK);
        CHECK_EQ(shop_part(&s, INV_CMD_SHIP, "part", "s", "A", "W2", 1, false), INV_OK);
        shop_reopen(&s, crash == 1);
        inv_recovery recovery;
        inv_store_recovery(s.store, &recovery);
        CHECK(!recovery.created);
        CHECK_EQ(recovery.clean_shutdown, crash == 0);
        CHECK(recovery.entries_replayed >= 8);
        CHECK(shop_figures(&s, "A", "W1", 9, 9, 0));
        CHECK(shop_figures(&s, "A", "W2", 11, 5, 0));
        CHECK_EQ(shop_state(&s, "held"), INV_STATE_HELD);
        CHECK_EQ(shop_units_at(&s, "W1"), 9);
        CHECK_EQ(shop_units_at(&s, "W2"), 2);
        CHECK_EQ(shop_state(&s, "part"), INV_STATE_HELD);
        CHECK_EQ(s.reply.line_count, 1);
        CHECK_EQ(s.lines[0].held, 3);
        CHECK_EQ(s.lines[0].shipped, 1);
        CHECK_EQ(shop_reserve(&s, "held", "A", NULL, 11, 60000), INV_REPLAYED);
        CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, "adj", "A", "W1", -1), INV_REPLAYED);
        shop_advance(&s, 80000);
        CHECK(shop_figures(&s, "A", "W1", 9, 0, 0));
        CHECK(shop_figures(&s, "A", "W2", 11, 0, 0));
        CHECK_EQ(shop_state(&s, "part"), INV_STATE_SHIPPED);
        shop_end(&s);
    }
}

INV_TEST(a_closed_store_refuses) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    inv_error error;
    memset(&error, 0, sizeof error);
    CHECK_EQ(inv_store_close(s.store, &error), INV_OK);
    CHECK_EQ(inv_store_close(s.store, &error), INV_OK); /* idempotent */
    inv_line line = shop_line("A", "W", 1);
    inv_command command = shop_command(INV_CMD_RECEIVE, NULL, &line, 1);
    inv_reply reply;
    inv_stock_level level;
    memset(&reply, 0, sizeof reply);
    CHECK_EQ(inv_store_execute(s.store, &command, 1, &reply), INV_STORE_CLOSED);
    CHECK_EQ(reply.code, INV_STORE_CLOSED);
    CHECK_EQ(inv_store_availability(s.store, shop_text(NULL), &line, &level), INV_STORE_CLOSED);
    inv_store_destroy(s.store);
    s.store = NULL;
    shop_end(&s);
}

INV_TEST(one_directory_has_one_owner) {
    shop_start(&s, true);
    inv_store *second = NULL;
    inv_error error;
    memset(&error, 0, sizeof error);
    inv_env *env = inv_env_create();
    inv_env_use_memory(env, s.memory);
    inv_env_use_manual_clock(env, SHOP_START_MS);
    CHECK_EQ(inv_store_open(env, &s.options, &second, &error), INV_STORE_LOCKED);
    CHECK_EQ(error.code, INV_STORE_LOCKED);
    CHECK(error.message[0] != 0);
    inv_env_destroy(env);
    shop_end(&s);
}

INV_TEST(options_out_of_range_are_named) {
    static const struct {
        size_t offset;
        uint32_t bytes;
        uint64_t value;
    } bad[] = {{offsetof(inv_options, interval_ms), 4, 0},
               {offsetof(inv_options, interval_ms), 4, 10001},
               {offsetof(inv_options, segment_bytes), 8, 1000},
               {offsetof(inv_options, segment_bytes), 8, (1ull << 30) + (1ull << 20)},
               {offsetof(inv_options, stripe_bits), 4, 13},
               {offsetof(inv_options, segments_ahead_max), 4, 0},
               {offsetof(inv_options, segments_ahead_max), 4, 9},
               {offsetof(inv_options, default_ttl_ms), 8, TTL_MS_MAX + 1}};
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        shop_init(&s, true);
        s.options.durability = INV_INTERVAL;
        memcpy((char *)&s.options + bad[i].offset, &bad[i].value, bad[i].bytes);
        if (!CHECK_EQ(shop_open(&s), INV_BAD_REQUEST)) fprintf(stderr, "case %u\n", i);
        shop_end(&s);
    }
}

INV_TEST(nothing_is_safe_before_the_sync) {
    shop_start(&s, true);
    inv_line line = shop_line("A", "W", 1);
    inv_command command = shop_command(INV_CMD_RECEIVE, NULL, &line, 1);
    inv_reply reply;
    memset(&reply, 0, sizeof reply);
    CHECK_EQ(inv_store_execute(s.store, &command, 1, &reply), INV_OK);
    CHECK_EQ(inv_store_wait(s.store, reply.observed_lsn, 0), INV_BUSY);
    CHECK_EQ(inv_store_barrier(s.store, reply.observed_lsn, 0), INV_BUSY);
    command.kind = INV_CMD_ISSUE;
    line.qty = 5;
    inv_reply refusal;
    memset(&refusal, 0, sizeof refusal);
    CHECK_EQ(inv_store_execute(s.store, &command, 1, &refusal), INV_OK);
    CHECK_EQ(refusal.code, INV_INSUFFICIENT); /* it saw the receipt, so it waits for it too */
    CHECK_EQ(inv_store_wait(s.store, refusal.observed_lsn, 0), INV_BUSY);
    inv_stock_level level = shop_level(&s, "A", "W");
    CHECK_EQ(inv_store_wait(s.store, level.lsn, 0), INV_BUSY);
    CHECK_EQ(inv_store_flush(s.store), INV_OK);
    CHECK_EQ(inv_store_wait(s.store, reply.observed_lsn, 0), INV_OK);
    CHECK_EQ(inv_store_wait(s.store, refusal.observed_lsn, 0), INV_OK);
    CHECK_EQ(inv_store_barrier(s.store, level.lsn, 0), INV_OK);
    shop_end(&s);
}

INV_TEST(read_only_changes_nothing) {
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    CHECK_EQ(shop_reserve(&s, "r", "A", "W", 2, 1000), INV_OK);
    shop_shut(&s);
    s.options.read_only = true;
    inv_error error;
    memset(&error, 0, sizeof error);
    CHECK_EQ(inv_store_open(s.env, &s.options, &s.store, &error), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 5, 2, 0));
    CHECK_EQ(shop_state(&s, "r"), INV_STATE_HELD);
    inv_line line = shop_line("A", "W", 1);
    inv_command command = shop_command(INV_CMD_RECEIVE, NULL, &line, 1);
    inv_reply reply;
    memset(&reply, 0, sizeof reply);
    inv_result result = inv_store_execute(s.store, &command, 1, &reply);
    CHECK(result != INV_OK || reply.code != INV_OK);
    CHECK(shop_figures(&s, "A", "W", 5, 2, 0));
    CHECK_EQ(inv_store_close(s.store, &error), INV_OK);
    inv_store_destroy(s.store);
    s.options.read_only = false;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK(shop_figures(&s, "A", "W", 5, 2, 0));
    shop_end(&s);
}

INV_TEST(names_and_numbers) {
    shop_start(&s, true);
    inv_text names[3] = {shop_text("A"), shop_text("B"), shop_text("A")};
    uint32_t numbers[3];
    uint64_t lsn;
    size_t bad = 99;
    CHECK_EQ(inv_store_numbers(s.store, INV_NAME_SKU, shop_text(NULL), names, 3, false, numbers,
                               &lsn, &bad),
             INV_OK);
    CHECK_EQ(numbers[0], INV_NUMBER_NONE);
    CHECK_EQ(inv_store_numbers(s.store, INV_NAME_SKU, shop_text(NULL), names, 3, true, numbers,
                               &lsn, &bad),
             INV_OK);
    CHECK_EQ(numbers[0], numbers[2]);
    CHECK(numbers[0] != numbers[1]);
    shop_reopen(&s, false);
    char bytes[INV_SKU_BYTES_MAX];
    uint32_t length = 0;
    CHECK(inv_store_name(s.store, INV_NAME_SKU, numbers[1], bytes, &length));
    CHECK(length == 1 && bytes[0] == 'B');
    CHECK(!inv_store_name(s.store, INV_NAME_SKU, 100, bytes, &length));
    names[1] = shop_text("\xFF");
    CHECK_EQ(inv_store_numbers(s.store, INV_NAME_SKU, shop_text(NULL), names, 3, true, numbers,
                               &lsn, &bad),
             INV_BAD_REQUEST);
    CHECK_EQ(bad, 1);
    shop_end(&s);
}

INV_TEST(every_code_has_its_name) {
    CHECK_TEXT(inv_result_name(INV_OK), "OK");
    CHECK_TEXT(inv_result_name(INV_INSUFFICIENT), "INSUFFICIENT");
    CHECK_TEXT(inv_result_name(INV_IDEMPOTENCY_MISMATCH), "IDEMPOTENCY_MISMATCH");
    CHECK_TEXT(inv_result_name(INV_IO_ERROR), "IO_ERROR");
    CHECK_TEXT(inv_result_name(99), "UNKNOWN_CODE");
    CHECK_TEXT(inv_result_name(-1), "UNKNOWN_CODE");
}

/* ---- crowds -------------------------------------------------------------------------------- */

/* Reserves `count` one-unit holds of a SKU under numbered ids; ends them too, if asked. */
static void crowd(const char *sku, const char *prefix, uint32_t count, uint64_t ttl_ms,
                  bool release) {
    for (uint32_t i = 0; i < count; i++) {
        char id[32];
        snprintf(id, sizeof id, "%s-%u", prefix, i);
        CHECK_EQ(shop_reserve(&s, id, sku, "W", 1, ttl_ms), INV_OK);
        if (release) CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, id), INV_OK);
    }
}

static uint32_t stripe_of(const char *sku) {
    uint32_t number = 0;
    uint64_t lsn;
    size_t bad;
    inv_text name = shop_text(sku);
    CHECK_EQ(inv_store_numbers(s.store, INV_NAME_SKU, shop_text(NULL), &name, 1, false, &number,
                               &lsn, &bad),
             INV_OK);
    return number & ((1u << s.options.stripe_bits) - 1);
}

/* Holds that die together on one SKU do not keep the others' deadlines waiting: in one call that
 * can't expire them all, every other stripe has its turn. */
INV_TEST(a_crowd_on_one_sku_delays_no_other) {
    shop_start(&s, false);
    static const char *const others[] = {"B", "C", "D", "E", "F", "G", "H", "I"};
    CHECK_EQ(shop_receive(&s, "CROWD", "W", 100000), INV_OK);
    crowd("CROWD", "crowd", 3000, 1000, false);
    for (uint32_t i = 0; i < 8; i++) {
        char id[32];
        snprintf(id, sizeof id, "other-%u", i);
        CHECK_EQ(shop_receive(&s, others[i], "W", 1), INV_OK);
        CHECK_EQ(shop_reserve(&s, id, others[i], "W", 1, 1000), INV_OK);
    }
    s.clock_ms += 1000;
    inv_env_set_clock(s.env, s.clock_ms);
    bool more = false;
    CHECK_EQ(inv_store_advance(s.store, 2500, &more), INV_OK);
    CHECK(more);
    inv_metrics metrics;
    inv_store_metrics(s.store, &metrics);
    CHECK(metrics.expired >= 1024 && metrics.expired < 3000);
    for (uint32_t i = 0; i < 8; i++) {
        char id[32];
        snprintf(id, sizeof id, "other-%u", i);
        if (stripe_of(others[i]) == stripe_of("CROWD")) continue; /* it waits with the crowd */
        CHECK_EQ(shop_state(&s, id), INV_STATE_EXPIRED);
    }
    shop_advance(&s, 0);
    inv_store_metrics(s.store, &metrics);
    CHECK_EQ(metrics.expired, 3008);
    shop_end(&s);
}

/* Far more ended ids than are kept, at once: a tick goes by its marks, lets none go that is to be
 * kept, and the next one is down to the limit. */
INV_TEST(many_ended_ids_go_by_marks) {
    for (uint32_t reopened = 0; reopened < 2; reopened++) {
        shop_init(&s, reopened == 1);
        s.options.ended_ids_max = 20000;
        CHECK_EQ(shop_open(&s), INV_OK);
        CHECK_EQ(shop_receive(&s, "A", "W", 100000), INV_OK);
        inv_metrics metrics;
        crowd("A", "first", 3000, 0, true);
        shop_advance(&s, 1000); /* each tick leaves a mark: 3,000, 12,000 and 15,000 ended */
        crowd("A", "second", 9000, 0, true);
        shop_advance(&s, 1000);
        crowd("A", "third", 3000, 0, true);
        shop_advance(&s, 1000);
        inv_store_metrics(s.store, &metrics);
        CHECK_EQ(metrics.ended_ids, 15000);
        crowd("A", "fourth", 12000, 0, true);
        if (reopened == 1) {
            shop_reopen(&s, true); /* its marks come from the log; closing was a tick */
        } else {
            shop_advance(&s, 1000);
            inv_store_metrics(s.store, &metrics);
            CHECK_EQ(metrics.ended_ids, 24000); /* as far as the first mark, not the second */
            CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "first-2999"), INV_UNKNOWN_RESERVATION);
            CHECK_EQ(shop_state(&s, "second-0"), INV_STATE_RELEASED);
        }
        shop_advance(&s, 1000);
        inv_store_metrics(s.store, &metrics);
        CHECK_EQ(metrics.ended_ids, 20000); /* few: exactly */
        CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "second-3999"), INV_UNKNOWN_RESERVATION);
        CHECK_EQ(shop_state(&s, "second-4000"), INV_STATE_RELEASED);
        shop_end(&s);
    }
}

INV_TEST_MAIN()
