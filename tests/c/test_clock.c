/* SPDX-License-Identifier: Apache-2.0
 *
 * test_clock.c: engine time beside a wall clock that is set, drifts and goes back; what is
 * compared, reported and, only when asked for, corrected. The whole under random faults is
 * sim_clock.
 */
#include "../../src/invcore/base/inv_env.h"
#include "shop.h"

#define HOUR_MS 3600000
#define DAY_MS (24 * (int64_t)HOUR_MS)
#define TTL_MS 60000u

static inv_metrics figures(shop *s) {
    inv_metrics metrics;
    memset(&metrics, 0, sizeof metrics);
    inv_store_metrics(s->store, &metrics);
    return metrics;
}

static inv_recovery found(const shop *s) {
    inv_recovery recovery;
    memset(&recovery, 0, sizeof recovery);
    inv_store_recovery(s->store, &recovery);
    return recovery;
}

static void one_hold(shop *s) {
    CHECK_EQ(shop_receive(s, "TEE", "LON", 10), INV_OK);
    CHECK_EQ(shop_reserve(s, "cart", "TEE", "LON", 4, TTL_MS), INV_OK);
}

/* ---- while running -------------------------------------------------------------------------- */

INV_TEST(wall_offset_of_a_manual_clock) {
    inv_env *env = inv_env_create();
    const inv_clock *clock = &env->clock;
    inv_env_set_wall_offset(env, 5); /* no manual clock: nothing to set */
    inv_env_use_manual_clock(env, 1000000);
    uint64_t mono_ms = clock->mono_ms(clock->context);
    inv_env_set_wall_offset(env, -400);
    CHECK_EQ(clock->wall_unix_ms(clock->context), 999600);
    inv_env_set_wall_offset(env, DAY_MS);
    inv_env_set_clock(env, 1000007);
    CHECK_EQ(clock->wall_unix_ms(clock->context), 1000007 + DAY_MS);
    CHECK_EQ(clock->mono_ms(clock->context), mono_ms + 7);
    inv_env_set_wall_offset(env, -1000007);
    CHECK_EQ(clock->wall_unix_ms(clock->context), 0);
    inv_env_set_wall_offset(env, INT64_MIN); /* never below 1970 */
    CHECK_EQ(clock->wall_unix_ms(clock->context), 0);
    inv_env_use_manual_clock(env, 77); /* a new start, the wall clock is right again */
    CHECK_EQ(clock->wall_unix_ms(clock->context), 77);
    inv_env_destroy(env);
}

INV_TEST(no_step_of_the_wall_clock_is_obeyed) {
    static const int64_t steps_ms[] = {HOUR_MS, -HOUR_MS, DAY_MS, -DAY_MS, -(int64_t)SHOP_START_MS,
                                       -1000, 3650 * DAY_MS};
    for (uint32_t durable = 0; durable < 2; durable++)
        for (size_t i = 0; i < sizeof steps_ms / sizeof steps_ms[0]; i++) {
            static shop s;
            shop_start(&s, durable == 1);
            one_hold(&s);
            inv_env_set_wall_offset(s.env, steps_ms[i]);
            shop_advance(&s, TTL_MS - 1);
            CHECK_EQ(shop_state(&s, "cart"), INV_STATE_HELD);
            inv_metrics metrics = figures(&s);
            CHECK_EQ(metrics.now_unix_ms, SHOP_START_MS + TTL_MS - 1);
            CHECK_EQ(metrics.lag_ms, 0);
            CHECK_EQ(metrics.clock_drift_ms,
                     steps_ms[i] < -(int64_t)SHOP_START_MS + (int64_t)TTL_MS
                         ? -(int64_t)(SHOP_START_MS + TTL_MS - 1) + (int64_t)(TTL_MS - 1)
                         : steps_ms[i]);
            CHECK_EQ(metrics.clock_alarms, steps_ms[i] != -1000);
            CHECK_EQ(metrics.clock_slewed_ms, 0);
            CHECK_EQ(metrics.wall_offset_ms, metrics.clock_drift_ms);
            shop_advance(&s, 1);
            CHECK_EQ(shop_state(&s, "cart"), INV_STATE_EXPIRED);
            CHECK_EQ(s.reply.ended_at_unix_ms, SHOP_START_MS + TTL_MS);
            shop_end(&s);
        }
}

static void expect_alarms(shop *s, int64_t offset_ms, uint64_t alarms) {
    inv_env_set_wall_offset(s->env, offset_ms);
    shop_advance(s, 1000);
    inv_metrics metrics = figures(s);
    CHECK_EQ(metrics.clock_drift_ms, offset_ms);
    CHECK_EQ(metrics.clock_alarms, alarms);
}

INV_TEST(alarm_of_each_departure) {
    static shop s;
    shop_start(&s, true);
    expect_alarms(&s, 2000, 0); /* above 2 s, not at */
    expect_alarms(&s, 2001, 1);
    expect_alarms(&s, 2001, 1);
    expect_alarms(&s, 2500, 1); /* not 2 s further */
    expect_alarms(&s, 4001, 1);
    expect_alarms(&s, 4002, 2);
    expect_alarms(&s, 0, 2); /* coming back is none */
    expect_alarms(&s, 2001, 3); /* but going again is */
    expect_alarms(&s, -2000, 3);
    expect_alarms(&s, -2001, 4);
    expect_alarms(&s, -HOUR_MS, 5);
    expect_alarms(&s, HOUR_MS, 6);
    expect_alarms(&s, HOUR_MS + 2000, 6);
    shop_end(&s);
}

INV_TEST(compared_once_a_second) {
    static shop s;
    shop_start(&s, false);
    inv_env_set_wall_offset(s.env, HOUR_MS);
    shop_advance(&s, 999);
    CHECK_EQ(figures(&s).clock_drift_ms, 0);
    shop_advance(&s, 1);
    CHECK_EQ(figures(&s).clock_drift_ms, HOUR_MS);
    shop_end(&s);
}

/* Each second a tick, with both clocks, also while nothing happens but a hold lives. */
INV_TEST(a_tick_each_second) {
    static shop s;
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "TEE", "LON", 10), INV_OK);
    CHECK_EQ(shop_reserve(&s, "cart", "TEE", "LON", 4, HOUR_MS), INV_OK);
    inv_env_set_wall_offset(s.env, -HOUR_MS);
    for (uint32_t i = 0; i < 600; i++) shop_advance(&s, 100);
    shop_shut(&s);
    inv_log *log = NULL;
    inv_error error;
    memset(&error, 0, sizeof error);
    REQUIRE_EQ(inv_log_open(s.env, &log, &error), INV_OK);
    uint32_t ticks = 0;
    uint64_t last_ms = 0;
    inv_log_record record;
    inv_log_entry entry;
    bool more = true, more_entries;
    while (CHECK_EQ(inv_log_next(log, &record, &more, &error), INV_OK) && more)
        while (CHECK_EQ(inv_log_next_entry(log, &entry, &more_entries, &error), INV_OK) &&
               more_entries) {
            if (entry.wall_unix_ms == 0) continue;
            if (ticks > 0) CHECK(record.now_unix_ms - last_ms <= 1000);
            CHECK_EQ(entry.wall_unix_ms, record.now_unix_ms - (ticks > 0 ? HOUR_MS : 0));
            last_ms = record.now_unix_ms;
            ticks++;
        }
    CHECK_EQ(ticks, 1 + 60 + 1); /* opening, running, closing */
    inv_log_close(log);
    shop_end(&s);
}

/* ---- correction ----------------------------------------------------------------------------- */

INV_TEST(slewed_forward_by_half_a_percent) {
    static shop s;
    shop_init(&s, true);
    s.options.clock_slew = true;
    CHECK_EQ(shop_open(&s), INV_OK);
    inv_env_set_wall_offset(s.env, 10000);
    shop_advance(&s, 1000); /* the first comparison plans the second that follows */
    CHECK_EQ(figures(&s).clock_slewed_ms, 0);
    one_hold(&s);
    uint64_t began_ms = figures(&s).now_unix_ms;
    for (uint32_t i = 1; i <= TTL_MS - 300; i++) {
        shop_advance(&s, 1);
        inv_metrics metrics = figures(&s);
        CHECK_EQ(metrics.clock_slewed_ms, i / 200);
        if (!CHECK_EQ(metrics.now_unix_ms, began_ms + i + i / 200)) break;
        CHECK_EQ(metrics.lag_ms, 0);
    }
    /* 59.7 s and 298 ms more: the hold dies 300 ms before the other clock says so, not earlier. */
    CHECK_EQ(shop_state(&s, "cart"), INV_STATE_HELD);
    shop_advance(&s, 1);
    CHECK_EQ(shop_state(&s, "cart"), INV_STATE_HELD);
    shop_advance(&s, 1);
    CHECK_EQ(shop_state(&s, "cart"), INV_STATE_EXPIRED);
    for (uint32_t i = 0; i < 3000; i++) shop_advance(&s, 1000);
    inv_metrics metrics = figures(&s);
    CHECK_EQ(metrics.clock_slewed_ms, 10000); /* all of it, and then no more */
    CHECK_EQ(metrics.clock_drift_ms, 0);
    CHECK_EQ(metrics.clock_alarms, 1);
    CHECK_EQ(metrics.now_unix_ms, s.clock_ms + 10000);
    inv_env_set_wall_offset(s.env, -HOUR_MS); /* never back, never slower */
    for (uint32_t i = 0; i < 100; i++) shop_advance(&s, 1000);
    CHECK_EQ(figures(&s).now_unix_ms, s.clock_ms + 10000);
    CHECK_EQ(figures(&s).clock_slewed_ms, 10000);
    shop_end(&s);
}

/* A plan is for one second: a freeze does not run it on. */
INV_TEST(slewed_no_further_than_compared) {
    static shop s;
    shop_init(&s, false);
    s.options.clock_slew = true;
    CHECK_EQ(shop_open(&s), INV_OK);
    inv_env_set_wall_offset(s.env, 3);
    shop_advance(&s, 1000);
    shop_advance(&s, 10 * HOUR_MS);
    CHECK_EQ(figures(&s).clock_slewed_ms, 3);
    inv_env_set_wall_offset(s.env, HOUR_MS);
    shop_advance(&s, 1000);
    inv_env_set_wall_offset(s.env, 0); /* it was wrong, and is set right while we are frozen */
    shop_advance(&s, 10 * HOUR_MS);
    CHECK_EQ(figures(&s).clock_slewed_ms, 3 + 5);
    CHECK_EQ(figures(&s).clock_drift_ms, -8);
    shop_end(&s);
}

/* ---- freezes -------------------------------------------------------------------------------- */

/* A clock that stands still but for one jump, at the nth reading from now. */
typedef struct jumping {
    inv_clock real;
    uint64_t jump_ms, reads_left;
    uint64_t jumped_ms;
} jumping;

static uint64_t jumped(jumping *clock) {
    if (clock->reads_left > 0 && --clock->reads_left == 0) clock->jumped_ms += clock->jump_ms;
    return clock->jumped_ms;
}
static uint64_t jumping_mono_ms(void *context) {
    jumping *clock = context;
    return clock->real.mono_ms(clock->real.context) + jumped(clock);
}
static uint64_t jumping_wall_unix_ms(void *context) {
    jumping *clock = context;
    return clock->real.wall_unix_ms(clock->real.context) + jumped(clock);
}

static void use_jumping(shop *s, jumping *clock) {
    *clock = (jumping){.real = s->env->clock, .jump_ms = 600000};
    s->env->clock.context = clock;
    s->env->clock.mono_ms = jumping_mono_ms;
    s->env->clock.wall_unix_ms = jumping_wall_unix_ms;
    /* mono_ns only measures durations here, and takes no reading */
    s->env->clock.mono_ns = NULL;
}

static uint64_t no_ns(void *context) {
    (void)context;
    return 0;
}

/* Stopped for ten minutes between any two readings of the clocks, in a step or while opening: that
 * is no drift and no alarm, and what is due by then is gone, what is not lives. */
INV_TEST(a_freeze_between_two_readings) {
    for (uint64_t reading = 1; reading <= 8; reading++)
        for (uint32_t opening = 0; opening < 2; opening++) {
            static shop s;
            jumping clock;
            shop_init(&s, true);
            s.options.restart_grace_ms = 0;
            use_jumping(&s, &clock);
            s.env->clock.mono_ns = no_ns;
            CHECK_EQ(shop_open(&s), INV_OK);
            one_hold(&s);
            CHECK_EQ(shop_reserve(&s, "long", "TEE", "LON", 1, 700000), INV_OK);
            clock.reads_left = reading;
            if (opening == 1)
                shop_reopen(&s, false);
            else
                shop_advance(&s, 1000);
            shop_advance(&s, 1000);
            shop_advance(&s, 1000);
            inv_metrics metrics = figures(&s);
            CHECK_EQ(metrics.clock_alarms, 0);
            CHECK_EQ(metrics.clock_drift_ms, 0);
            CHECK_EQ(metrics.lag_ms, 0);
            CHECK_EQ(metrics.now_unix_ms, s.clock_ms + clock.jumped_ms);
            CHECK_EQ(shop_state(&s, "long"), INV_STATE_HELD);
            CHECK_EQ(shop_state(&s, "cart"),
                     clock.jumped_ms > 0 ? INV_STATE_EXPIRED : INV_STATE_HELD);
            shop_end(&s);
        }
}

INV_TEST(a_freeze_of_ten_minutes) {
    static shop s;
    shop_start(&s, true);
    one_hold(&s);
    CHECK_EQ(shop_reserve(&s, "long", "TEE", "LON", 1, 700000), INV_OK);
    inv_env_set_clock(s.env, s.clock_ms += 600000);
    inv_metrics metrics = figures(&s);
    CHECK_EQ(metrics.lag_ms, 600000); /* said, until the timekeeper has run */
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "cart"), INV_OK); /* time has not moved for it */
    CHECK_EQ(shop_reserve(&s, "late", "TEE", "LON", 1, 1), INV_OK);
    shop_advance(&s, 0);
    CHECK_EQ(figures(&s).lag_ms, 0);
    CHECK_EQ(shop_state(&s, "cart"), INV_STATE_ALLOCATED);
    CHECK_EQ(shop_state(&s, "late"), INV_STATE_EXPIRED);
    CHECK_EQ(shop_state(&s, "long"), INV_STATE_HELD);
    shop_advance(&s, 99999);
    CHECK_EQ(shop_state(&s, "long"), INV_STATE_HELD);
    shop_advance(&s, 1);
    CHECK_EQ(shop_state(&s, "long"), INV_STATE_EXPIRED);
    shop_end(&s);
}

/* ---- across a restart ----------------------------------------------------------------------- */

typedef struct restart_case {
    int64_t step_ms; /* of the wall clock, while nobody runs */
    uint64_t down_ms;
    uint64_t counted_ms;
    bool alarm;
} restart_case;

INV_TEST(downtime_by_the_wall_clock_within_limits) {
    static const restart_case cases[] = {
        {0, 0, 0, false},
        {0, 30000, 30000, false},
        {-1000, 30000, 29000, false}, /* a leap second */
        {-30000, 30000, 0, false},
        {-32000, 30000, 0, false}, /* 2 s back: clamped, no alarm yet */
        {-32001, 30000, 0, true},
        {-DAY_MS, 30000, 0, true},
        {-(int64_t)SHOP_START_MS, 30000, 0, true}, /* 1970 */
        {DAY_MS - 30000, 30000, (uint64_t)DAY_MS, false},
        {DAY_MS - 29999, 30000, (uint64_t)DAY_MS, true},
        {3650 * DAY_MS, 30000, (uint64_t)DAY_MS, true},
        {0, 2 * (uint64_t)DAY_MS, (uint64_t)DAY_MS, true}, /* really that long */
    };
    for (uint32_t crash = 0; crash < 2; crash++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            const restart_case *c = &cases[i];
            static shop s;
            shop_start(&s, true);
            CHECK_EQ(shop_receive(&s, "TEE", "LON", 10), INV_OK);
            CHECK_EQ(shop_reserve(&s, "cart", "TEE", "LON", 4, 20 * (uint64_t)DAY_MS), INV_OK);
            uint64_t wall_ms = s.clock_ms;
            shop_settle(&s);
            inv_store_destroy(s.store);
            if (crash == 1) inv_memory_power_cut(s.memory, 0);
            s.clock_ms += c->down_ms;
            inv_env_set_clock(s.env, s.clock_ms);
            inv_env_set_wall_offset(s.env, c->step_ms);
            wall_ms = s.env->clock.wall_unix_ms(s.env->clock.context) - wall_ms;
            CHECK_EQ(shop_open(&s), INV_OK);
            inv_recovery recovery = found(&s);
            CHECK_EQ(recovery.wall_difference_ms, wall_ms);
            CHECK_EQ(recovery.downtime_ms, c->counted_ms);
            CHECK_EQ(recovery.clock_alarm, c->alarm);
            CHECK_EQ(figures(&s).clock_alarms, c->alarm);
            CHECK_EQ(figures(&s).clock_drift_ms, 0); /* drift counts from here */
            CHECK_EQ(figures(&s).now_unix_ms, SHOP_START_MS);
            shop_advance(&s, 9999);
            CHECK_EQ(figures(&s).now_unix_ms, SHOP_START_MS + 9999);
            shop_advance(&s, 1);
            CHECK_EQ(figures(&s).now_unix_ms, SHOP_START_MS + 10000 + c->counted_ms);
            CHECK_EQ(shop_state(&s, "cart"), INV_STATE_HELD);
            CHECK_EQ(figures(&s).clock_alarms, c->alarm);
            shop_end(&s);
        }
}

/* Dying again and again within the grace: what was found so far is kept, all of it within the
 * limit, and an earlier wall clock takes nothing back. */
INV_TEST(downtime_of_several_restarts) {
    static shop s;
    shop_init(&s, true);
    s.options.downtime_ms_max = 100000;
    CHECK_EQ(shop_open(&s), INV_OK);
    one_hold(&s);
    static const int64_t downs_ms[] = {30000, 40000, -3 * HOUR_MS, 29000, 5000};
    static const uint64_t counted_ms[] = {30000, 70000, 70000, 99000, 100000};
    int64_t offset_ms = 0;
    for (uint32_t i = 0; i < 5; i++) {
        offset_ms += downs_ms[i];
        inv_env_set_wall_offset(s.env, offset_ms);
        shop_reopen(&s, true); /* closing would log the new wall clock */
        CHECK_EQ(found(&s).downtime_ms, counted_ms[i]);
        CHECK_EQ(found(&s).clock_alarm, i == 2 || i == 4);
        shop_advance(&s, 9000);
        CHECK_EQ(shop_state(&s, "cart"), INV_STATE_HELD);
    }
    CHECK_EQ(figures(&s).now_unix_ms, SHOP_START_MS + 5 * 9000);
    shop_advance(&s, 1000);
    CHECK_EQ(figures(&s).now_unix_ms, SHOP_START_MS + 46000 + 100000);
    CHECK_EQ(shop_state(&s, "cart"), INV_STATE_EXPIRED);
    shop_end(&s);
}

/* Opens a store that was down for a minute and turns it each second, with nothing synced, as often
 * as `seconds_max` and until the log has no room for another tick. Returns for how many it had.
 * There is no hold, so that nothing but ticks needs room. */
static uint32_t fill_with_ticks(shop *s, uint64_t grace_ms, uint32_t seconds_max) {
    shop_init(s, true);
    s->options.segment_bytes = 16384;
    s->options.restart_grace_ms = grace_ms;
    CHECK_EQ(shop_open(s), INV_OK);
    inv_store_destroy(s->store);
    inv_memory_power_cut(s->memory, 0);
    inv_env_set_clock(s->env, s->clock_ms += TTL_MS);
    CHECK_EQ(shop_open(s), INV_OK);
    for (uint32_t i = 0; i < seconds_max; i++) {
        bool more = false;
        inv_env_set_clock(s->env, s->clock_ms += 1000);
        CHECK_EQ(inv_store_advance(s->store, 100, &more), INV_OK);
        if (more) return i;
    }
    return seconds_max;
}

/* The step of downtime needs a record. Without room it waits, and the caller is told to come again.
 */
INV_TEST(downtime_waits_for_room) {
    static shop s;
    uint32_t room = fill_with_ticks(&s, HOUR_MS, 3000);
    REQUIRE(room > 10 && room < 3000);
    shop_end(&s);
    REQUIRE_EQ(fill_with_ticks(&s, room * 1000 + 500, room), room);
    bool more = false;
    inv_env_set_clock(s.env, s.clock_ms += 500);
    CHECK_EQ(inv_store_advance(s.store, 100, &more), INV_OK);
    CHECK(more);
    CHECK_EQ(figures(&s).now_unix_ms, s.clock_ms - TTL_MS);
    shop_settle(&s);
    shop_advance(&s, 0);
    CHECK_EQ(figures(&s).now_unix_ms, s.clock_ms);
    shop_end(&s);
}

/* ---- the first moment ----------------------------------------------------------------------- */

typedef struct refusal {
    uint64_t nth;
    bool fired;
} refusal;

static inv_result refuse_nth(void *argument, uint64_t call, const char *what, const char *name,
                             bool after) {
    refusal *fault = argument;
    (void)what;
    (void)name;
    if (after || call != fault->nth) return INV_OK;
    fault->fired = true;
    return INV_IO_ERROR;
}

/* A store that died while it was made has no tick to resume from: it begins at the wall clock,
 * like a new one, and not in 1970. */
INV_TEST(a_store_that_died_while_it_was_made) {
    bool fired = true;
    uint64_t unmade = 0;
    for (uint64_t nth = 1; fired; nth++) {
        static shop s;
        refusal fault = {nth, false};
        shop_init(&s, true);
        inv_memory_set_hook(s.memory, refuse_nth, &fault);
        inv_error error;
        memset(&error, 0, sizeof error);
        inv_result result = inv_store_open(s.env, &s.options, &s.store, &error);
        fired = fault.fired;
        inv_memory_set_hook(s.memory, NULL, NULL);
        if (result == INV_OK) inv_store_destroy(s.store);
        unmade += result != INV_OK;
        inv_memory_power_cut(s.memory, nth);
        inv_env_set_clock(s.env, s.clock_ms += 5);
        REQUIRE_EQ(shop_open(&s), INV_OK);
        uint64_t now_ms = figures(&s).now_unix_ms;
        CHECK(now_ms == SHOP_START_MS || now_ms == SHOP_START_MS + 5);
        shop_advance(&s, 20000);
        CHECK_EQ(figures(&s).now_unix_ms, SHOP_START_MS + 20005);
        shop_end(&s);
    }
    CHECK(unmade > 3);
}

INV_TEST_MAIN()
