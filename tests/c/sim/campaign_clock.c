/* SPDX-License-Identifier: Apache-2.0
 *
 * campaign_clock.c: campaign 17. A store lives through whatever clocks do: the wall clock is set
 * by an hour, a day, to 1970 and back, repeats a second, runs 500 ppm fast or slow; the process is
 * frozen, between calls and between any two readings inside one; the machine sleeps, or is paused
 * so that only the wall clock knows; it is closed or loses power, and starts again under an
 * earlier, a far later or the right wall clock, with a boot clock that begins anew.
 *
 * THE ORACLE knows the true time, which no clock of the store shows, and keeps one figure: where
 * engine time must stand. It follows from the contract alone (SEMANTICS.md section 5): it runs
 * with the time that the machine counts, resumes at a durable time after a restart and takes the
 * downtime, clamped, in one step when the grace is over. From this follow
 *
 *   0 early expiries   a hold is alive as long as its deadline is after that time;
 *   0 lost             when the timekeeper is done, none is alive whose deadline has come, and the
 *                      units of all that are alive are exactly what is held;
 *   lag in bounds      what the store says its lag is, is what has passed since the timekeeper ran,
 *                      and 0 when it is done;
 *   reports            drift, alarms and what a restart found are what was done to the clocks.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/invcore/base/inv_env.h"
#include "../../../src/invcore/invcore.h"
#include "campaign.h"
#include "world.h"

#define START_UNIX_MS 1700000000000ull
#define SECOND_US 1000000ull
#define HOUR_MS 3600000ll
#define DAY_MS (24 * HOUR_MS)
#define ALARM_MS 2000
#define HOLD_COUNT_MAX 48u
#define SKU_COUNT 5u
#define STEP_COUNT 120u
#define PPM_MAX 500u
#define TURN_COUNT_MAX 10000u

typedef struct true_clock { /* what the world does; the store sees two figures of it */
    uint64_t true_us;       /* since the beginning, in the world outside */
    uint64_t counted_us;    /* of it, what the machine counts: all but its pauses */
    uint64_t boot_ms;       /* what the boot clock shows less: it begins anew with the machine */
    uint64_t wall_us;       /* the wall clock at true time `wall_since_us` */
    uint64_t wall_since_us;
    int64_t wall_ppm;       /* it gains so much */
    uint64_t jump_us;       /* the process is frozen for so long ... */
    uint64_t jump_reading;  /* ... before this reading, counted from 1 = the next; 0: never */
} true_clock;

typedef enum hold_state { UNUSED, ALIVE, COMMITTED, RELEASED } hold_state;

typedef struct sim_hold {
    hold_state state;    /* what was done to it; ALIVE ones die by their deadline */
    uint64_t deadline_ms;
    uint32_t skus[2], sku_count;
} sim_hold;

typedef struct clock_run {
    uint64_t seed, random, entropy; /* three streams */
    true_clock clock;
    inv_env *env;
    inv_memory *memory;
    inv_store *store;
    inv_options options;
    campaign_report *report;

    /* where engine time must stand: at engine_ms when the machine had counted anchor_ms */
    uint64_t engine_ms, anchor_ms;
    uint64_t slewed_ms;  /* and so much later, by correction; as the store says, within bounds */
    int64_t lead_ms;     /* the most that the wall clock was ahead since opening */
    uint64_t pending_ms; /* downtime to come when the grace is over */
    uint64_t grace_until_ms;
    uint64_t now_ms;     /* announced last; everything due by then has expired */
    uint64_t frozen_ms;  /* while it was opened */

    /* what a power cut leaves at least */
    uint64_t acked_ms, acked_lsn; /* time and end of the last change that was acknowledged */
    uint64_t seen_ms;            /* announced before the last sync: the log knows to the second */
    uint64_t safe_pending_ms;
    uint64_t ticked_us;  /* true time of a tick that is safe */
    bool honest;         /* since then the wall clock has moved as the world did, but for its ppm */

    uint64_t alarms;     /* as the store says */
    uint64_t departures; /* what was done to the wall clock since opening that may raise one */
    sim_hold holds[HOLD_COUNT_MAX];
    uint32_t hold_count;
    char problem[1000];
} clock_run;

static const char *const sku_names[SKU_COUNT] = {"A", "B", "C", "D", "E"};

static uint64_t below(clock_run *r, uint64_t bound) {
    return bound == 0 ? 0 : world_random(&r->random) % bound;
}

static bool wrong(clock_run *r, const char *format, ...) {
    if (r->problem[0] != '\0') return false;
    va_list arguments;
    int used = snprintf(r->problem, sizeof r->problem, "seed %" PRIu64 ": ", r->seed);
    va_start(arguments, format);
    vsnprintf(r->problem + used, sizeof r->problem - (size_t)used, format, arguments);
    va_end(arguments);
    return false;
}

/* ---- the clocks ----------------------------------------------------------------------------- */

static uint64_t wall_us(const true_clock *c) {
    int64_t passed_us = (int64_t)(c->true_us - c->wall_since_us);
    return c->wall_us + (uint64_t)(passed_us + passed_us / 1000000 * c->wall_ppm);
}

/* From here on the wall clock shows something else or runs at another rate. */
static void set_wall(true_clock *c, uint64_t unix_us, int64_t ppm) {
    c->wall_us = unix_us;
    c->wall_since_us = c->true_us;
    c->wall_ppm = ppm;
}

static void step_wall(true_clock *c, int64_t ms) {
    uint64_t now_us = wall_us(c);
    bool before_1970 = ms < 0 && now_us < (uint64_t)-ms * 1000;
    set_wall(c, before_1970 ? 0 : now_us + (uint64_t)ms * 1000, c->wall_ppm);
}

static void pass(true_clock *c, uint64_t us, bool counted) {
    c->true_us += us;
    if (counted) c->counted_us += us;
}

static void read_one(true_clock *c) {
    if (c->jump_reading == 0 || --c->jump_reading > 0) return;
    pass(c, c->jump_us, true);
}
static uint64_t sim_mono_ns(void *context) {
    const true_clock *c = context;
    return (c->counted_us - c->boot_ms * 1000) * 1000;
}
static uint64_t sim_mono_ms(void *context) {
    read_one(context);
    return sim_mono_ns(context) / 1000000;
}
static uint64_t sim_wall_unix_ms(void *context) {
    read_one(context);
    return wall_us(context) / 1000;
}

static bool fill_entropy(void *context, void *buffer, size_t bytes) {
    unsigned char *out = buffer;
    for (size_t i = 0; i < bytes; i++) out[i] = (unsigned char)world_random(context);
    return true;
}

/* ---- the oracle ----------------------------------------------------------------------------- */

/* Where engine time would stand if it were looked at now. */
static uint64_t clock_ms(const clock_run *r) {
    return r->engine_ms + (r->clock.counted_us / 1000 - r->anchor_ms) + r->slewed_ms;
}

static inv_metrics metrics_of(const clock_run *r) {
    inv_metrics metrics;
    memset(&metrics, 0, sizeof metrics);
    inv_store_metrics(r->store, &metrics);
    return metrics;
}

static bool near(int64_t a, int64_t b, uint64_t most) {
    return (uint64_t)(a > b ? a - b : b - a) <= most;
}

static bool is_due(const clock_run *r, const sim_hold *hold) {
    return hold->deadline_ms <= r->now_ms;
}

static bool check_hold(clock_run *r, uint32_t index) {
    static const uint8_t states[] = {INV_STATE_NONE, INV_STATE_HELD, INV_STATE_ALLOCATED,
                                     INV_STATE_RELEASED};
    const sim_hold *hold = &r->holds[index];
    inv_reply_line lines[2];
    inv_reply reply = {.lines = lines, .lines_max = 2};
    char id[16];
    int length = snprintf(id, sizeof id, "h%u", index);
    int code = (int)inv_store_reservation(r->store, (inv_text){NULL, 0},
                                          (inv_text){id, (uint32_t)length}, false, &reply);
    uint8_t want = states[hold->state];
    if (hold->state == ALIVE && is_due(r, hold)) want = INV_STATE_EXPIRED;
    r->report->states++;
    if (code != INV_OK) return wrong(r, "hold %u is lost: %s", index, inv_result_name(code));
    if (reply.state != want)
        return wrong(r, "hold %u is %s: state %u, not %u; due at %" PRIu64 ", it is %" PRIu64,
                     index, reply.state == INV_STATE_EXPIRED ? "expired early" : "wrong",
                     reply.state, want, hold->deadline_ms, r->now_ms);
    if (want == INV_STATE_HELD && reply.expires_at_unix_ms != hold->deadline_ms)
        return wrong(r, "hold %u has another deadline", index);
    return true;
}

static bool check_units(clock_run *r, uint32_t sku) {
    int64_t held = 0, allocated = 0;
    for (uint32_t i = 0; i < r->hold_count; i++)
        for (uint32_t k = 0; k < r->holds[i].sku_count; k++) {
            if (r->holds[i].skus[k] != sku) continue;
            held += r->holds[i].state == ALIVE && !is_due(r, &r->holds[i]);
            allocated += r->holds[i].state == COMMITTED;
        }
    inv_line line = {.sku = {sku_names[sku], 1}, .location = {"LON", 3}};
    inv_stock_level level;
    memset(&level, 0, sizeof level);
    if (inv_store_availability(r->store, (inv_text){NULL, 0}, &line, &level) != INV_OK)
        return wrong(r, "no availability of %s", sku_names[sku]);
    if (level.held != held || level.allocated != allocated)
        return wrong(r, "%s: held %" PRId64 ", allocated %" PRId64 ", not %" PRId64 ", %" PRId64,
                     sku_names[sku], level.held, level.allocated, held, allocated);
    return true;
}

static bool check_all(clock_run *r) {
    bool ok = true;
    for (uint32_t i = 0; ok && i < r->hold_count; i++) ok = check_hold(r, i);
    for (uint32_t sku = 0; ok && sku < SKU_COUNT; sku++) ok = check_units(r, sku);
    return ok;
}

/* At any moment: only the timekeeper moves time; the lag is what the clock has gone on since. */
static bool check_lag(clock_run *r) {
    inv_metrics m = metrics_of(r);
    uint64_t ran_ms = r->clock.counted_us / 1000 - r->anchor_ms;
    if (m.clock_slewed_ms < r->slewed_ms) return wrong(r, "slewed back");
    if (m.clock_slewed_ms > (r->options.clock_slew ? ran_ms / 200 : 0))
        return wrong(r, "slewed %" PRIu64 " ms in %" PRIu64, m.clock_slewed_ms, ran_ms);
    r->slewed_ms = m.clock_slewed_ms;
    /* Up to the wall clock, give or take what is planned before it is looked at again. */
    int64_t lead_ms = m.clock_drift_ms + (int64_t)m.clock_slewed_ms;
    if (lead_ms > r->lead_ms) r->lead_ms = lead_ms;
    if ((int64_t)m.clock_slewed_ms > r->lead_ms + 10)
        return wrong(r, "slewed %" PRIu64 " ms, the wall clock was ahead by at most %" PRId64,
                     m.clock_slewed_ms, r->lead_ms);
    if (m.now_unix_ms != r->now_ms)
        return wrong(r, "time is %" PRIu64 ", not %" PRIu64, m.now_unix_ms, r->now_ms);
    if (m.lag_ms != clock_ms(r) - r->now_ms)
        return wrong(r, "lag is %" PRIu64 ", not %" PRIu64, m.lag_ms, clock_ms(r) - r->now_ms);
    /* 500 ppm may raise alarms of their own, one each 2 s of drift. */
    if (m.clock_alarms < r->alarms ||
        m.clock_alarms > r->departures + ran_ms / 1000000 * PPM_MAX / ALARM_MS + 1)
        return wrong(r, "%" PRIu64 " alarms by %" PRIu64 " departures in %" PRIu64 " ms",
                     m.clock_alarms, r->departures, ran_ms);
    r->alarms = m.clock_alarms;
    return true;
}

/* ---- turning the loops ---------------------------------------------------------------------- */

static bool settle(clock_run *r) {
    bool more = true;
    if (inv_store_flush(r->store) != INV_OK) return wrong(r, "flush fails");
    while (more)
        if (inv_store_prepare(r->store, &more) != INV_OK) return wrong(r, "prepare fails");
    r->seen_ms = r->now_ms;
    r->safe_pending_ms = r->pending_ms;
    return true;
}

/* The timekeeper runs until nothing is due. */
static bool turn(clock_run *r) {
    bool more = true;
    for (uint32_t i = 0; more; i++) {
        if (i == TURN_COUNT_MAX) return wrong(r, "the sweep does not end");
        if (inv_store_advance(r->store, 1 + (uint32_t)below(r, 8), &more) != INV_OK)
            return wrong(r, "advance fails");
        if (more && !settle(r)) return false;
    }
    return true;
}

/* The same, and it must have come to where the clock stands. A freeze that was to come at one of
 * its readings has come then; what it saw of it, only the second turn tells for certain. */
static bool advance(clock_run *r) {
    bool frozen = r->clock.jump_reading > 0;
    if (frozen && !turn(r)) return false;
    r->clock.jump_reading = 0;
    if (r->pending_ms > 0 && clock_ms(r) >= r->grace_until_ms) {
        r->engine_ms += r->pending_ms;
        r->pending_ms = 0;
    }
    if (!turn(r)) return false;
    uint64_t slewed_ms = metrics_of(r).clock_slewed_ms, before_ms = r->now_ms;
    r->now_ms = clock_ms(r) + (slewed_ms - r->slewed_ms);
    if (r->now_ms < before_ms) return wrong(r, "time runs backwards");
    return check_lag(r) && (!frozen || settle(r));
}

/* Long enough for a comparison and a tick, which is safe: the log knows what the wall clock did. */
static bool run_a_second(clock_run *r) {
    pass(&r->clock, 1001 * 1000 + below(r, 1000), true);
    r->clock.jump_reading = 0;
    if (!advance(r) || !settle(r)) return false;
    r->honest = true;
    r->ticked_us = r->clock.true_us;
    return true;
}

/* ---- commands ------------------------------------------------------------------------------- */

static int execute(clock_run *r, inv_command *command, uint32_t index, inv_reply *reply) {
    char id[16];
    int length = snprintf(id, sizeof id, "h%u", index);
    memset(reply, 0, sizeof *reply);
    if (command->kind <= INV_CMD_EXTEND) command->id = (inv_text){id, (uint32_t)length};
    r->report->commands++;
    inv_result result = inv_store_execute(r->store, command, 1, reply);
    if (result != INV_OK || !settle(r)) return (int)INV_STORE_FAILED;
    if (reply->code == INV_OK && reply->lsn > r->acked_lsn) { /* an extension may change nothing */
        r->acked_ms = r->now_ms;
        r->acked_lsn = reply->lsn;
    }
    return reply->code;
}

static uint64_t any_ttl_ms(clock_run *r) {
    static const uint64_t spans_ms[] = {20,      1000,    5000,     60000,
                                        600000, 3600000, 86400000, INV_TTL_MS_MAX};
    return 1 + below(r, spans_ms[below(r, sizeof spans_ms / sizeof spans_ms[0])]);
}

static bool reserve(clock_run *r) {
    if (r->hold_count == HOLD_COUNT_MAX) return true;
    uint32_t index = r->hold_count, first = (uint32_t)below(r, SKU_COUNT);
    sim_hold *hold = &r->holds[index];
    *hold = (sim_hold){.state = ALIVE,
                       .skus = {first, (first + 1) % SKU_COUNT},
                       .sku_count = 1 + (uint32_t)below(r, 2)};
    inv_line lines[2];
    for (uint32_t i = 0; i < hold->sku_count; i++)
        lines[i] = (inv_line){
            .sku = {sku_names[hold->skus[i]], 1}, .location = {"LON", 3}, .qty = 1};
    inv_command command = {.kind = INV_CMD_RESERVE,
                           .lines = lines,
                           .line_count = hold->sku_count,
                           .ttl_ms = any_ttl_ms(r)};
    inv_reply reply;
    int code = execute(r, &command, index, &reply);
    if (code != INV_OK) return wrong(r, "reserve: %s", inv_result_name(code));
    hold->deadline_ms = r->now_ms + command.ttl_ms;
    if (reply.expires_at_unix_ms != hold->deadline_ms)
        return wrong(r, "deadline %" PRIu64 ", not %" PRIu64, reply.expires_at_unix_ms,
                     hold->deadline_ms);
    r->hold_count++;
    return true;
}

static bool end_or_extend(clock_run *r) {
    static const uint8_t kinds[] = {INV_CMD_COMMIT, INV_CMD_RELEASE, INV_CMD_EXTEND};
    if (r->hold_count == 0) return true;
    uint32_t index = (uint32_t)below(r, r->hold_count);
    sim_hold *hold = &r->holds[index];
    if (hold->state != ALIVE) return check_hold(r, index);
    inv_command command = {.kind = kinds[below(r, 3)]};
    if (command.kind == INV_CMD_EXTEND) command.ttl_ms = any_ttl_ms(r);
    inv_reply reply;
    int code = execute(r, &command, index, &reply);
    if (code != (is_due(r, hold) ? INV_EXPIRED : INV_OK))
        return wrong(r, "command %u on hold %u, due at %" PRIu64 ", at %" PRIu64 ": %s",
                     command.kind, index, hold->deadline_ms, r->now_ms, inv_result_name(code));
    if (code != INV_OK) return true;
    if (command.kind == INV_CMD_COMMIT) hold->state = COMMITTED;
    if (command.kind == INV_CMD_RELEASE) hold->state = RELEASED;
    if (command.kind == INV_CMD_EXTEND)
        hold->deadline_ms = inv_max_u64(hold->deadline_ms, r->now_ms + command.ttl_ms);
    return true;
}

/* ---- what happens to the wall clock --------------------------------------------------------- */

static int64_t any_wall_step_ms(clock_run *r) {
    int64_t to_1970_ms = -(int64_t)(wall_us(&r->clock) / 1000) + (int64_t)below(r, 100000);
    int64_t to_right_ms =
        (int64_t)(START_UNIX_MS + r->clock.true_us / 1000) - (int64_t)(wall_us(&r->clock) / 1000);
    const int64_t steps_ms[] = {HOUR_MS, -HOUR_MS, DAY_MS,     -DAY_MS,
                                -1000,   1000,     to_1970_ms, to_right_ms,
                                to_right_ms};
    return steps_ms[below(r, sizeof steps_ms / sizeof steps_ms[0])];
}

/* How much further from zero it went. */
static int64_t departed_ms(int64_t from_ms, int64_t to_ms) {
    if (to_ms > 0) return to_ms - (from_ms > 0 ? from_ms : 0);
    return (from_ms < 0 ? from_ms : 0) - to_ms;
}

/* The wall clock moves away from the machine's, by a step or because only the machine is paused.
 * The next comparison must find by how much. */
static bool wall_event(clock_run *r) {
    bool told = below(r, 2) == 0;
    if (told && !run_a_second(r)) return false;
    int64_t before_ms = metrics_of(r).clock_drift_ms;
    uint64_t counted_us = r->clock.counted_us, shown_us = wall_us(&r->clock);
    if (below(r, 4) == 0)
        pass(&r->clock, 1 + below(r, 600 * SECOND_US), false);
    else
        step_wall(&r->clock, any_wall_step_ms(r));
    r->report->trials++;
    r->departures++;
    r->honest = false;
    if (!told) return true;
    uint64_t alarms = r->alarms, slewed_ms = r->slewed_ms;
    if (!run_a_second(r)) return false;
    int64_t moved_ms = (int64_t)(wall_us(&r->clock) / 1000) - (int64_t)(shown_us / 1000) -
                       (int64_t)((r->clock.counted_us - counted_us) / 1000) -
                       (int64_t)(r->slewed_ms - slewed_ms);
    inv_metrics m = metrics_of(r);
    if (!near(m.clock_drift_ms - before_ms, moved_ms, 5))
        return wrong(r, "the wall clock moved by %" PRId64 ", the drift from %" PRId64
                        " to %" PRId64, moved_ms, before_ms, m.clock_drift_ms);
    if (departed_ms(before_ms, m.clock_drift_ms) > ALARM_MS && m.clock_alarms == alarms)
        return wrong(r, "no alarm of a drift from %" PRId64 " to %" PRId64, before_ms,
                     m.clock_drift_ms);
    return true;
}

static bool change_rate(clock_run *r) {
    set_wall(&r->clock, wall_us(&r->clock), (int64_t)below(r, 2 * PPM_MAX + 1) - PPM_MAX);
    r->report->trials++;
    return true;
}

/* Time passes and nobody runs: moments, a freeze, a sleep. The timekeeper may come only later. */
static bool let_pass(clock_run *r) {
    static const uint64_t most_us[] = {1000,           50000,            3 * SECOND_US,
                                       60 * SECOND_US, 600 * SECOND_US,  600 * SECOND_US,
                                       21600 * SECOND_US};
    uint32_t pick = (uint32_t)below(r, sizeof most_us / sizeof most_us[0]);
    pass(&r->clock, below(r, most_us[below(r, pick + 1)]) + 1, true);
    return check_lag(r) && (below(r, 4) == 0 || advance(r));
}

/* Ten minutes between two readings of a step of the timekeeper. */
static bool freeze_inside(clock_run *r) {
    r->clock.jump_us = 600 * SECOND_US;
    r->clock.jump_reading = 1 + below(r, 10);
    pass(&r->clock, below(r, 1500) * 1000, true);
    r->report->injected++;
    return advance(r);
}

/* ---- restarts ------------------------------------------------------------------------------- */

static bool open_store(clock_run *r) {
    inv_error error = {0};
    inv_options options = r->options;
    uint64_t began_ms = r->clock.counted_us / 1000;
    /* Before or after the moment from which time runs? With no grace nobody needs to know. */
    if (r->clock.jump_reading > 0) options.restart_grace_ms = 0;
    inv_result result = inv_store_open(r->env, &options, &r->store, &error);
    if (result != INV_OK) return wrong(r, "cannot open: %s", error.message);
    r->clock.jump_reading = 0;
    inv_metrics m = metrics_of(r);
    inv_recovery found;
    inv_store_recovery(r->store, &found);
    /* Some stripe may be behind: its expiries were not on the disk. The clock is what resumed, and
     * then ran for as long as a freeze or none of it. */
    r->engine_ms = m.now_unix_ms + m.lag_ms;
    r->anchor_ms = r->clock.counted_us / 1000;
    r->frozen_ms = r->anchor_ms - began_ms;
    r->now_ms = r->engine_ms - r->frozen_ms;
    r->slewed_ms = 0;
    r->lead_ms = 0;
    r->pending_ms = found.downtime_ms;
    r->grace_until_ms = r->engine_ms + options.restart_grace_ms;
    r->alarms = r->departures = found.clock_alarm;
    if (m.clock_alarms != found.clock_alarm || m.clock_drift_ms != 0)
        return wrong(r, "drift is not counted from opening");
    return settle(r);
}

typedef struct ending { /* what was true when it ended */
    uint64_t clock_ms, now_ms, safe_ms;
    uint64_t lag_ms; /* not announced, so it counts as downtime */
    uint64_t pending_ms, true_us, ticked_us;
    uint64_t wall_ms;
    bool honest, clean;
} ending;

static bool check_downtime(clock_run *r, const ending *end) {
    inv_recovery found;
    inv_store_recovery(r->store, &found);
    uint64_t most_ms = r->options.downtime_ms_max;
    uint64_t down_ms = found.wall_difference_ms > 0 ? (uint64_t)found.wall_difference_ms : 0;
    down_ms += end->pending_ms;
    bool alarm = found.wall_difference_ms < -ALARM_MS || down_ms > most_ms;
    if (found.downtime_ms != inv_min_u64(down_ms, most_ms) || found.clock_alarm != alarm)
        return wrong(r, "downtime %" PRIu64 "%s of %" PRId64 " and %" PRIu64 " before",
                     found.downtime_ms, found.clock_alarm ? " with an alarm" : "",
                     found.wall_difference_ms, end->pending_ms);
    uint64_t least_ms = end->clean ? end->now_ms : end->safe_ms;
    if (r->engine_ms < least_ms || r->now_ms > end->now_ms)
        return wrong(r, "resumed at %" PRIu64 " to %" PRIu64 ", not %" PRIu64 " to %" PRIu64,
                     r->now_ms, r->engine_ms, least_ms, end->now_ms);
    return true;
}

/* Under a wall clock that was right all the while nothing is gained and nothing is lost: engine
 * time with its downtime stands where it would without the restart, but for what 500 ppm make. */
static bool check_continuity(clock_run *r, const ending *end) {
    uint64_t gone_ms = (r->clock.true_us - end->true_us) / 1000;
    uint64_t unsure_ms = (r->clock.true_us - end->ticked_us) / 1000;
    uint64_t most_off_ms = unsure_ms * PPM_MAX / 1000000 + 5;
    if (r->options.clock_slew) most_off_ms += (end->true_us - end->ticked_us) / 1000 / 200;
    if (gone_ms + end->pending_ms + unsure_ms + end->lag_ms > r->options.downtime_ms_max / 2)
        return true; /* perhaps clamped: check_downtime has looked */
    int64_t want_ms = (int64_t)(end->clock_ms + end->pending_ms + gone_ms);
    int64_t is_ms = (int64_t)(clock_ms(r) + r->pending_ms);
    if (!near(is_ms, want_ms, most_off_ms))
        return wrong(r, "after a restart it is %" PRId64 ", not %" PRId64 " (+-%" PRIu64 ")", is_ms,
                     want_ms, most_off_ms);
    return true;
}

static bool end_store(clock_run *r, ending *end) {
    bool clean = below(r, 2) == 0;
    *end = (ending){.clock_ms = clock_ms(r),
                    .now_ms = r->now_ms,
                    .lag_ms = clock_ms(r) - r->now_ms,
                    .safe_ms = inv_max_u64(r->acked_ms, r->seen_ms - 999),
                    .pending_ms = r->safe_pending_ms,
                    .true_us = r->clock.true_us,
                    .ticked_us = r->ticked_us,
                    .wall_ms = wall_us(&r->clock) / 1000,
                    .honest = r->honest,
                    .clean = clean};
    if (end->clean) { /* its last tick knows the wall clock */
        inv_error error = {0};
        end->pending_ms = r->pending_ms;
        end->ticked_us = r->clock.true_us;
        end->honest = true;
        if (inv_store_close(r->store, &error) != INV_OK)
            return wrong(r, "cannot close: %s", error.message);
        inv_store_destroy(r->store);
    } else {
        /* The downtime that was to come has come, but that is not on the disk: it comes again. */
        if (r->safe_pending_ms > 0 && r->pending_ms == 0) end->clock_ms -= r->safe_pending_ms;
        inv_store_destroy(r->store);
        inv_memory_power_cut(r->memory, below(r, 3) == 0 ? 0 : world_random(&r->random));
    }
    r->store = NULL;
    return true;
}

/* What was never synced may have survived the cut, ticks and steps too. */
static void see_what_survived(clock_run *r, ending *end) {
    inv_recovery found;
    inv_store_recovery(r->store, &found);
    int64_t down_ms = found.wall_difference_ms > 0 ? found.wall_difference_ms : 0;
    if (end->clean || end->pending_ms == 0) return;
    if (found.downtime_ms != (uint64_t)down_ms + end->pending_ms &&
        found.downtime_ms == inv_min_u64((uint64_t)down_ms, r->options.downtime_ms_max)) {
        end->clock_ms += end->pending_ms;
        end->pending_ms = 0;
    }
}

static bool restart(clock_run *r) {
    ending end;
    if (r->memory == NULL) return true;
    if (below(r, 2) == 0 && !run_a_second(r)) return false;
    if (!end_store(r, &end)) return false;
    pass(&r->clock, below(r, 3) == 0 ? below(r, 2 * 86400 * SECOND_US) : below(r, SECOND_US), true);
    bool right = below(r, 2) == 0;
    if (!right) {
        step_wall(&r->clock, any_wall_step_ms(r));
        r->report->trials++;
    }
    if (below(r, 2) == 0) r->clock.boot_ms = r->clock.counted_us / 1000 - 1000 - below(r, 90000);
    if (below(r, 4) == 0) {
        r->clock.jump_us = 600 * SECOND_US;
        r->clock.jump_reading = 1 + below(r, 20);
    }
    r->report->generations++;
    uint64_t opened_us = r->clock.true_us;
    if (!open_store(r)) return false;
    see_what_survived(r, &end);
    if (!check_downtime(r, &end)) return false;
    /* A tick of 1970 can't say that it was later than its clock by more than that clock shows. */
    bool honest = right && end.honest && end.wall_ms > (uint64_t)DAY_MS;
    if (honest && !check_continuity(r, &end)) return false;
    r->honest = true; /* the first tick knows the wall clock */
    r->ticked_us = opened_us;
    return advance(r) && check_all(r);
}

/* ---- one seed ------------------------------------------------------------------------------- */

static void begin(clock_run *r, uint64_t seed, campaign_report *report) {
    memset(r, 0, sizeof *r);
    r->seed = seed;
    r->random = seed * 0xd1342543de82ef95ull + 17;
    r->entropy = seed ^ 0x5bd1e995973f1a27ull;
    r->report = report;
    r->clock.counted_us = (1 + below(r, 1u << 20)) * SECOND_US + below(r, SECOND_US);
    set_wall(&r->clock, START_UNIX_MS * 1000, (int64_t)below(r, 2 * PPM_MAX + 1) - PPM_MAX);
    r->env = inv_env_create();
    bool durable = below(r, 8) != 0;
    if (durable) r->memory = inv_memory_create();
    if (r->env == NULL || (durable && r->memory == NULL)) abort();
    if (durable) inv_env_use_memory(r->env, r->memory);
    r->env->clock = (inv_clock){&r->clock, sim_mono_ms, sim_mono_ns, sim_wall_unix_ms};
    r->env->entropy = (inv_entropy){&r->entropy, fill_entropy};
    r->env->threads.start = NULL;
    inv_options_init(&r->options);
    r->options.durability = durable ? INV_DURABLE : INV_MEMORY;
    r->options.segment_bytes = 16384;
    r->options.segments_ahead_max = 1;
    r->options.stripe_bits = 2;
    r->options.id_retention_ms = 365 * (uint64_t)DAY_MS;
    r->options.snapshot_log_bytes = below(r, 2) == 0 ? 6u << 10 : 0;
    r->options.clock_slew = below(r, 4) == 0;
    /* With correction the end of a grace would have to be known to the ms: there is none. */
    r->options.restart_grace_ms = r->options.clock_slew ? 0 : below(r, 20000);
    if (below(r, 3) == 0) r->options.downtime_ms_max = below(r, 7200000);
}

static bool stock_up(clock_run *r) {
    for (uint32_t sku = 0; sku < SKU_COUNT; sku++) {
        inv_line line = {.sku = {sku_names[sku], 1}, .location = {"LON", 3}, .qty = 1000};
        inv_command command = {.kind = INV_CMD_RECEIVE, .lines = &line, .line_count = 1};
        inv_reply reply;
        if (execute(r, &command, 0, &reply) != INV_OK) return wrong(r, "receive fails");
    }
    return true;
}

static bool step(clock_run *r) {
    uint64_t pick = below(r, 100);
    if (pick < 35) return let_pass(r);
    if (pick < 57) return reserve(r);
    if (pick < 75) return end_or_extend(r);
    if (pick < 84) return check_all(r);
    if (pick < 90) return wall_event(r);
    if (pick < 92) return change_rate(r);
    if (pick < 96) return freeze_inside(r);
    return restart(r);
}

/* In the end everything dies that can. */
static bool finish(clock_run *r) {
    for (uint32_t i = 0; i < 31; i++) {
        pass(&r->clock, 86400 * SECOND_US, true);
        if (!advance(r) || !settle(r)) return false;
    }
    if (!check_all(r)) return false;
    inv_check_report check;
    memset(&check, 0, sizeof check);
    if (inv_store_check(r->store, &check) != INV_OK || !check.ok)
        return wrong(r, "invariant: %s", check.problem);
    if (check.timers != 0) return wrong(r, "%" PRIu64 " timers are left", check.timers);
    r->report->expired += metrics_of(r).expired;
    return true;
}

static void one_seed(clock_run *r, uint64_t seed, campaign_report *report) {
    begin(r, seed, report);
    bool ok = open_store(r);
    if (ok && !near((int64_t)clock_ms(r), (int64_t)(wall_us(&r->clock) / 1000), 1))
        ok = wrong(r, "a new store does not begin at the wall clock");
    ok = ok && advance(r) && stock_up(r);
    r->honest = true;
    r->ticked_us = r->clock.true_us;
    for (uint32_t i = 0; ok && i < STEP_COUNT; i++) ok = step(r);
    if (ok) (void)finish(r);
    inv_store_destroy(r->store);
    inv_env_destroy(r->env);
    inv_memory_destroy(r->memory);
    report->scenarios++;
}

void campaign_clock(const campaign_options *options, campaign_report *report) {
    double began = campaign_now_seconds();
    clock_run *r = malloc(sizeof *r);
    if (r == NULL) abort();
    memset(report, 0, sizeof *report);
    for (uint64_t i = 0; i < options->states; i++) {
        if (options->seconds > 0 && campaign_now_seconds() - began > options->seconds) break;
        report->seed_next = options->seed + i + 1;
        one_seed(r, options->seed + i, report);
        if (r->problem[0] == '\0') continue;
        snprintf(report->problem, sizeof report->problem, "%s", r->problem);
        break;
    }
    free(r);
    report->seconds = campaign_now_seconds() - began;
}
