/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_drift.c: the wall clock as a witness. Once a second it is compared with the clock that
 * engine time runs by; what they differ by is published and, above 2 s, an alarm. Engine time never
 * obeys a step of the wall clock. It only closes up to it, if the store was opened so (clock_slew):
 * forward, at most 1 ms every 200, never back.
 *
 * Everything here is the timekeeper's, under time_lock.
 *
 * DRIFT is how far the wall clock has moved away from the store's since opening: positive when it
 * is ahead. It is no verdict on which of them is wrong. Linux disciplines both by the same
 * frequency, so what shows here is steps: somebody set the clock, a leap second, or a pause of the
 * virtual machine that CLOCK_BOOTTIME did not count and the wall clock made good afterwards.
 *
 * AN ALARM is raised when the drift has moved 2 s further away from zero than at the alarm before.
 * Coming back to zero raises none, but the next departure does.
 *
 * Rejected: an alarm each second while they differ (it counts seconds, not events); slewing by all
 * that is due at once after a freeze (a ttl of milliseconds would be cut by seconds).
 */
#include "inv_store.h"

#define LOOK_MS 1000u       /* between two comparisons */
#define LOOK_TRIES 16u      /* for two readings next to each other */
#define LOOK_APART_MS 10u   /* further apart they say nothing about each other */
#define SLEW_EVERY_MS 200u  /* 1 ms of correction: 0.5 % */
#define SLEW_MS_MAX (LOOK_MS / SLEW_EVERY_MS) /* planned ahead: until the next comparison */

/* A process that is stopped each time between the readings gets a pair that is apart. The wall
 * clock is read first, so that such a stop is never counted twice on opening: as downtime by the
 * one and as time that ran by the other. */
bool inv_drift_read(const inv_clock *clock, uint64_t *out_mono_ms, uint64_t *out_wall_ms) {
    for (uint32_t i = 0; i < LOOK_TRIES; i++) {
        uint64_t before_ms = clock->mono_ms(clock->context);
        *out_wall_ms = clock->wall_unix_ms(clock->context);
        *out_mono_ms = clock->mono_ms(clock->context);
        if (*out_mono_ms - before_ms <= LOOK_APART_MS) return true;
    }
    return false;
}

void inv_drift_begin(inv_store *store) {
    inv_drift *drift = &store->drift;
    *drift = (inv_drift){0};
    /* A pair that is apart is taken too: it only moves what drift is counted from. */
    (void)inv_drift_read(&store->env->clock, &drift->mono_start_ms, &drift->wall_start_ms);
    drift->looked_ms = drift->slew_from_ms = drift->mono_start_ms;
}

/* Gained by the plan in force since it was made. */
static uint64_t slewed_of_plan(const inv_drift *drift, uint64_t mono_ms) {
    if (mono_ms <= drift->slew_from_ms) return 0;
    return inv_min_u64(drift->slew_ms, (mono_ms - drift->slew_from_ms) / SLEW_EVERY_MS);
}

uint64_t inv_drift_slewed_ms(const inv_drift *drift, uint64_t mono_ms) {
    return drift->slewed_ms + slewed_of_plan(drift, mono_ms);
}

static int64_t clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

static void raise_alarm(inv_drift *drift) {
    int64_t before = drift->alarmed_ms;
    int64_t nearer = before > 0 ? clamp(drift->drift_ms, 0, before)
                                : clamp(drift->drift_ms, before, 0);
    int64_t away = drift->drift_ms - nearer;
    drift->alarmed_ms = nearer;
    if (away >= -INV_CLOCK_ALARM_MS && away <= INV_CLOCK_ALARM_MS) return;
    drift->alarmed_ms = drift->drift_ms;
    drift->alarms++;
}

void inv_drift_look(inv_store *store) {
    inv_drift *drift = &store->drift;
    const inv_clock *clock = &store->env->clock;
    uint64_t mono_ms, wall_ms;
    if (clock->mono_ms(clock->context) - drift->looked_ms < LOOK_MS) return;
    if (!inv_drift_read(clock, &mono_ms, &wall_ms)) return; /* the next step tries again */
    drift->slewed_ms += slewed_of_plan(drift, mono_ms);
    drift->slew_from_ms = mono_ms;
    drift->looked_ms = mono_ms;
    /* Unsigned differences are right modulo 2^64, and so is their difference, read as signed. */
    drift->drift_ms = (int64_t)((wall_ms - drift->wall_start_ms) -
                                (mono_ms - drift->mono_start_ms) - drift->slewed_ms);
    raise_alarm(drift);
    bool behind = store->options.clock_slew && drift->drift_ms > 0;
    drift->slew_ms = behind ? inv_min_u64((uint64_t)drift->drift_ms, SLEW_MS_MAX) : 0;
}
