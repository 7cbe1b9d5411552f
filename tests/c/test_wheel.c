/* SPDX-License-Identifier: Apache-2.0
 *
 * test_wheel.c: the timing wheel against a sorted array of deadlines (campaign 16).
 *
 * Both get the same operations: add, cancel, take with work budgets from 1 up, at times that jump
 * from a millisecond to weeks. Checked after each: the timer handed out is armed in the model and
 * has the earliest deadline there; time never passes a deadline not handed out; inv_wheel_next
 * keeps its contract. inv_wheel_check runs after random steps. INV_TEST_SCALE multiplies the
 * operations (5 million by default, and 10 million with the crowds).
 */
#include <stdlib.h>
#include <time.h>

#include "../../src/invcore/stock/inv_wheel.h"
#include "inv_test.h"

#define TIMERS_MAX 512u
#define AHEAD_MAX_MS 0xFFFFFFFFull
#define DAY_MS 86400000ull

#define ROUND_OPERATIONS 1000000u /* of a round, under one seed */

/* Once wheel and model differ nothing more can be learned, and the loops below might not end. */
#define MUST(condition)                    \
    do {                                   \
        if (!CHECK(condition)) stop_all(); \
    } while (0)
#define MUST_EQ(actual, expected)                    \
    do {                                             \
        if (!CHECK_EQ(actual, expected)) stop_all(); \
    } while (0)

_Noreturn static void stop_all(void) {
    fflush(stdout);
    fprintf(stderr, "stopped at the first difference\n0 passed, 1 failed\n");
    exit(1);
}

static inv_test_rng rng; /* of the test that runs */
static uint64_t roll(uint64_t bound) { return inv_test_rng_below(&rng, bound); }

static void *test_alloc(void *context, size_t bytes) {
    (void)context;
    void *pointer = NULL;
    if (posix_memalign(&pointer, INV_CACHE_LINE, bytes) != 0) return NULL;
    return memset(pointer, 0, bytes);
}
static void test_free(void *context, void *pointer, size_t bytes) {
    (void)context;
    (void)bytes;
    free(pointer);
}
static const inv_env test_env = {.allocator = {NULL, test_alloc, test_free}};

/* ---- wheel and model side by side ------------------------------------------------------------ */

typedef struct twin {
    inv_pool pool;
    inv_wheel wheel;
    inv_ref refs[TIMERS_MAX];        /* the timers, armed or not */
    uint64_t deadlines[TIMERS_MAX];  /* of the armed ones; 0 = not armed */
    uint64_t sorted[TIMERS_MAX];     /* deadlines of the armed ones, ascending */
    uint32_t armed_count;
    uint64_t now_ms;                 /* the latest time asked for */
    uint64_t operations;
} twin;

static uint32_t sorted_lower_bound(const twin *t, uint64_t deadline_ms) {
    uint32_t low = 0, high = t->armed_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (t->sorted[middle] < deadline_ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void model_add(twin *t, uint32_t index, uint64_t deadline_ms) {
    uint32_t at = sorted_lower_bound(t, deadline_ms);
    memmove(t->sorted + at + 1, t->sorted + at, (t->armed_count - at) * sizeof(t->sorted[0]));
    t->sorted[at] = deadline_ms;
    t->armed_count++;
    t->deadlines[index] = deadline_ms;
}

static void model_remove(twin *t, uint32_t index) {
    uint32_t at = sorted_lower_bound(t, t->deadlines[index]);
    MUST(at < t->armed_count && t->sorted[at] == t->deadlines[index]);
    t->armed_count--;
    memmove(t->sorted + at, t->sorted + at + 1, (t->armed_count - at) * sizeof(t->sorted[0]));
    t->deadlines[index] = 0;
}

/* The model's index is kept in the granule, where a hold would keep its own fields. */
static uint32_t *index_at(twin *t, inv_ref ref) { return inv_pool_at(&t->pool, ref); }

static twin *twin_create(void) {
    twin *t = test_alloc(NULL, sizeof(*t));
    MUST(t != NULL);
    MUST_EQ(inv_pool_init(&t->pool, &test_env), INV_OK);
    for (uint32_t i = 0; i < TIMERS_MAX; i++) {
        t->refs[i] = inv_pool_alloc(&t->pool, 0);
        *index_at(t, t->refs[i]) = i;
    }
    return t;
}

static void twin_destroy(twin *t) {
    inv_pool_deinit(&t->pool);
    free(t);
}

static void twin_restart(twin *t, uint64_t now_ms) {
    MUST_EQ(t->armed_count, 0);
    inv_wheel_init(&t->wheel, now_ms);
    t->now_ms = now_ms;
}

/* What must hold after every step. */
static uint64_t next_checked(const twin *t) {
    uint64_t next_ms = inv_wheel_next(&t->wheel, &t->pool);
    MUST_EQ(t->wheel.count, t->armed_count);
    if (t->armed_count == 0) {
        MUST_EQ(next_ms, INV_WHEEL_NEVER);
        return next_ms;
    }
    uint64_t first_ms = t->sorted[0], cursor_ms = t->wheel.now_ms + 1;
    MUST(first_ms > t->wheel.now_ms);
    MUST(next_ms > t->wheel.now_ms);
    MUST(next_ms <= first_ms);
    /* Exact within the block of 256 ms, unless a cascade may be under way at its first ms. */
    if (first_ms >> 8 == cursor_ms >> 8 && (cursor_ms & 255) != 0) MUST_EQ(next_ms, first_ms);
    return next_ms;
}

static void wheel_checked(const twin *t) {
    uint64_t found = 0;
    const char *broken = inv_wheel_check(&t->wheel, &t->pool, &found);
    if (broken != NULL) fprintf(stderr, "inv_wheel_check: %s\n", broken);
    MUST(broken == NULL);
    MUST_EQ(found, t->armed_count);
}

static void twin_add(twin *t, uint32_t index, uint64_t deadline_ms) {
    uint64_t next_before_ms = inv_wheel_next(&t->wheel, &t->pool);
    bool later = t->armed_count > 0 && deadline_ms >= t->sorted[0];
    inv_timer *timer = inv_timer_at(&t->pool, t->refs[index]);
    MUST_EQ(timer->prev, 0);
    timer->deadline_ms = deadline_ms;
    inv_wheel_add(&t->wheel, &t->pool, t->refs[index]);
    MUST(timer->prev != 0);
    model_add(t, index, deadline_ms);
    uint64_t next_ms = next_checked(t);
    if (later) MUST_EQ(next_ms, next_before_ms);
    t->operations++;
}

static void twin_cancel(twin *t, uint32_t index) {
    uint64_t next_before_ms = inv_wheel_next(&t->wheel, &t->pool);
    inv_wheel_cancel(&t->wheel, &t->pool, t->refs[index]);
    MUST_EQ(inv_timer_at(&t->pool, t->refs[index])->prev, 0);
    model_remove(t, index);
    MUST(next_checked(t) >= next_before_ms);
    t->operations++;
}

/* One call of take; returns whether there is more to do. */
static bool twin_take(twin *t, uint64_t now_ms, uint32_t work, uint32_t *out_used) {
    uint64_t next_before_ms = inv_wheel_next(&t->wheel, &t->pool);
    uint64_t wheel_before_ms = t->wheel.now_ms;
    uint32_t left = work;
    inv_ref ref = inv_wheel_take(&t->wheel, &t->pool, now_ms, &left);
    MUST(left <= work);
    *out_used = work - left;
    if (ref != 0) {
        uint32_t index = *index_at(t, ref);
        MUST(index < TIMERS_MAX && t->refs[index] == ref);
        MUST(t->deadlines[index] != 0);
        MUST(t->deadlines[index] <= now_ms);
        MUST_EQ(t->deadlines[index], t->sorted[0]);
        MUST_EQ(inv_timer_at(&t->pool, ref)->prev, 0);
        MUST(*out_used > 0);
        model_remove(t, index);
    } else if (left > 0) {
        MUST_EQ(t->wheel.now_ms, now_ms > wheel_before_ms ? now_ms : wheel_before_ms);
        MUST(t->armed_count == 0 || t->sorted[0] > now_ms);
    }
    MUST(t->wheel.now_ms >= wheel_before_ms);
    MUST(t->wheel.now_ms <= now_ms || t->wheel.now_ms == wheel_before_ms);
    MUST(next_checked(t) >= next_before_ms); /* derived time never runs backwards */
    /* Below next there is nothing to do: bringing the wheel up to derived time is free. */
    if (now_ms < next_before_ms) MUST_EQ(*out_used, 0);
    t->operations++;
    return ref != 0 || left == 0;
}

/* Takes until nothing is due; returns the steps it took. */
static uint64_t twin_drain(twin *t, uint64_t now_ms) {
    uint64_t used_all = 0;
    uint32_t used;
    bool more = true;
    while (more) {
        more = twin_take(t, now_ms, roll(4) == 0 ? 1 + (uint32_t)roll(3) : 1000, &used);
        used_all += used;
    }
    return used_all;
}

/* ---- random operations ----------------------------------------------------------------------- */

/* A distance from 1 to 2^32 - 1 that likes the borders of levels. */
static uint64_t adversarial_distance(void) {
    static const uint64_t borders[] = {1, 256, 65536, 1ull << 24,
                                       1ull << 32, 512, 131072, 1ull << 25};
    uint64_t distance_ms;
    switch (roll(6)) {
    case 0: distance_ms = 1 + roll(300); break;
    case 1: distance_ms = borders[roll(8)] + roll(5) - 2; break;
    case 2: distance_ms = roll((uint64_t)1 << (1 + roll(32))); break;
    case 3: distance_ms = borders[roll(8)] * (1 + roll(255)) + roll(3) - 1; break;
    case 4: distance_ms = AHEAD_MAX_MS - roll(3); break;
    default: distance_ms = 1 + roll(100000); break;
    }
    if (distance_ms < 1 || distance_ms > (uint64_t)1 << 62) distance_ms = 1;
    return distance_ms > AHEAD_MAX_MS ? AHEAD_MAX_MS : distance_ms;
}

/* A deadline the wheel accepts: by distance, on an absolute border, or equal to another one. */
static uint64_t adversarial_deadline(const twin *t) {
    uint64_t now_ms = t->wheel.now_ms, deadline_ms = now_ms + adversarial_distance();
    if (roll(4) == 0) {
        uint64_t border_ms = (uint64_t)1 << (8 * (1 + roll(4)));
        deadline_ms = (deadline_ms & ~(border_ms - 1)) + roll(3) - 1;
    } else if (roll(5) == 0 && t->armed_count > 0) {
        deadline_ms = t->sorted[roll(t->armed_count)];
    }
    if (deadline_ms <= now_ms) deadline_ms = now_ms + 1;
    if (deadline_ms - now_ms > AHEAD_MAX_MS) deadline_ms = now_ms + AHEAD_MAX_MS;
    return deadline_ms;
}

static uint64_t random_time(const twin *t) {
    uint64_t first_ms = t->armed_count > 0 ? t->sorted[0] : t->now_ms;
    switch (roll(10)) {
    case 0: return t->now_ms + roll(400);
    case 1: return first_ms;
    case 2: return first_ms - (first_ms > 0);
    case 3: return (first_ms | 0xFF) + roll(2);
    case 4: return inv_wheel_next(&t->wheel, &t->pool) == INV_WHEEL_NEVER
                       ? t->now_ms : inv_wheel_next(&t->wheel, &t->pool) - roll(2);
    case 5: return (t->now_ms | (((uint64_t)1 << (8 * (1 + roll(3)))) - 1)) + roll(2);
    case 6: return t->now_ms + roll(40) * 1000;
    case 7: return roll(8) == 0 ? t->now_ms + adversarial_distance() : t->now_ms;
    case 8: return t->now_ms - inv_min_u64(t->now_ms, roll(1000)); /* back: does nothing */
    default: return t->now_ms + roll(3);
    }
}

/* Percentages of one episode: they decide whether the wheel is nearly empty or nearly full. */
typedef struct step_mix {
    uint64_t timer_percent; /* steps that add or cancel; the others take */
    uint64_t add_percent;   /* chance that an unarmed timer picked is added, an armed one kept */
} step_mix;

static void random_step(twin *t, step_mix mix) {
    if (roll(100) < mix.timer_percent) {
        uint32_t index = (uint32_t)roll(TIMERS_MAX);
        bool add = roll(100) < mix.add_percent;
        if (t->deadlines[index] == 0 && add)
            twin_add(t, index, adversarial_deadline(t));
        else if (t->deadlines[index] != 0 && !add)
            twin_cancel(t, index);
        return;
    }
    uint64_t now_ms = random_time(t);
    if (now_ms > t->now_ms) t->now_ms = now_ms;
    uint32_t work = (uint32_t)roll(roll(2) == 0 ? 4 : 200), used;
    while (twin_take(t, now_ms, work, &used) && roll(8) != 0) continue;
}

/* Rounds under one seed each. Returns the operations that were made. */
static uint64_t random_round(void) {
    static const uint64_t starts[] = {0, 1, 255, 256, AHEAD_MAX_MS - 1, AHEAD_MAX_MS,
                                      AHEAD_MAX_MS + 1, (1ull << 40) - 300, 1764000000000ull,
                                      (1ull << 60) - 5};
    rng = inv_test_rng_of(1);
    twin *t = twin_create();
    while (t->operations < ROUND_OPERATIONS) {
        uint64_t start_ms = roll(2) ? starts[roll(sizeof(starts) / sizeof(starts[0]))]
                                    : roll((uint64_t)1 << (1 + roll(50)));
        twin_restart(t, start_ms + roll(3));
        step_mix mix = {50 + roll(48), 20 + roll(78)};
        uint64_t episode = 200 + roll(20000);
        for (uint64_t step = 0; step < episode; step++) {
            random_step(t, mix);
            if (roll(64) == 0) wheel_checked(t);
        }
        wheel_checked(t);
        (void)twin_drain(t, t->now_ms + AHEAD_MAX_MS);
        wheel_checked(t);
    }
    uint64_t operations = t->operations;
    twin_destroy(t);
    return operations;
}

INV_TEST(random_operations) {
    inv_test_rounds rounds = inv_test_rounds_of(inv_test_scaled(5));
    uint64_t operations = 0;
    while (inv_test_again(&rounds)) operations += random_round();
    inv_test_units(operations, "operations", rounds.seed_first, rounds.seed_first + rounds.begun);
}

/* ---- single cases ---------------------------------------------------------------------------- */

/* Every border distance from every kind of start, alone in the wheel: comes at its time, not
 * before. */
INV_TEST(level_borders) {
    rng = inv_test_rng_of(2);
    static const uint64_t centers[] = {0, 256, 65536, 1ull << 24, 1ull << 32};
    twin *t = twin_create();
    for (uint32_t s = 0; s < 5; s++) {
        for (uint64_t shift = 0; shift < 5; shift++) {
            for (uint32_t c = 0; c < 5; c++) {
                for (uint64_t d = 0; d < 5; d++) {
                    uint64_t start_ms = 3 * centers[s] + (1ull << 33) + shift - 2;
                    uint64_t distance_ms = centers[c] + d - 2;
                    if (distance_ms < 1 || distance_ms > AHEAD_MAX_MS) continue;
                    uint32_t used;
                    twin_restart(t, start_ms);
                    twin_add(t, 0, start_ms + distance_ms);
                    MUST(!twin_take(t, start_ms + distance_ms - 1, 20, &used));
                    MUST_EQ(t->wheel.now_ms, start_ms + distance_ms - 1);
                    wheel_checked(t);
                    MUST(twin_take(t, start_ms + distance_ms, 20, &used));
                    MUST_EQ(t->armed_count, 0);
                }
            }
        }
    }
    twin_destroy(t);
}

/* 497 days (2^32 ticks of 10 ms, where 32-bit clocks wrap) with a few timers alive at any time,
 * each re-armed when it comes: the work is that of the timers, not of the time that passes. */
INV_TEST(days_497) {
    rng = inv_test_rng_of(3);
    twin *t = twin_create();
    twin_restart(t, 12345);
    uint64_t end_ms = 12345 + 497 * DAY_MS, used_all = 0, added = 0;
    while (t->now_ms < end_ms) {
        for (uint32_t i = 0; i < 8; i++) {
            if (t->deadlines[i] != 0) continue;
            twin_add(t, i, t->wheel.now_ms + 1 + roll(30 * DAY_MS / (1u << roll(12))));
            added++;
        }
        t->now_ms += 1 + roll(6 * 3600000);
        used_all += twin_drain(t, t->now_ms);
        MUST_EQ(t->wheel.now_ms, t->now_ms);
    }
    /* At most: a slot visited and a move for each of three levels, a slot visited, handed out. */
    MUST(used_all <= added * 8);
    wheel_checked(t);
    (void)twin_drain(t, t->now_ms + AHEAD_MAX_MS);
    /* An empty wheel crosses a century in one call and no step. */
    uint32_t used;
    MUST(!twin_take(t, t->now_ms + 36525 * DAY_MS, 1, &used));
    MUST_EQ(used, 0);
    twin_destroy(t);
}

/* The top level goes round: from each of its 256 places, four times over, with timers that reach
 * as far as any may, so that the cursor's own slot holds what is due now and what is due an epoch
 * later. */
INV_TEST(top_level_goes_round) {
    const uint64_t slot_ms = (uint64_t)1 << 24;
    rng = inv_test_rng_of(8);
    twin *t = twin_create();
    twin_restart(t, ((uint64_t)1 << 40) - 2 * slot_ms + 3); /* over digits 4 and 5 too */
    uint32_t next = 0;
    for (uint32_t round = 0; round < 4 * 256; round++) {
        uint64_t start_ms = (t->now_ms / slot_ms + 1) * slot_ms;
        for (uint32_t edge = 0; edge < 3; edge++) { /* the ms before a slot, its first, the next */
            t->now_ms = start_ms - 1 + edge;
            (void)twin_drain(t, t->now_ms);
            MUST_EQ(t->wheel.now_ms, t->now_ms);
            for (uint32_t i = 0; i < 2; i++, next = (next + 1) % TIMERS_MAX) {
                if (t->deadlines[next] != 0) twin_cancel(t, next);
                twin_add(t, next, t->now_ms + AHEAD_MAX_MS - (i == 0 ? 0 : roll(2 * slot_ms)));
            }
            wheel_checked(t);
        }
        uint32_t used; /* half way through the move of a slot */
        t->now_ms += roll(slot_ms / 2);
        (void)twin_take(t, t->now_ms, 1, &used);
        wheel_checked(t);
    }
    (void)twin_drain(t, t->now_ms + AHEAD_MAX_MS);
    MUST_EQ(t->armed_count, 0);
    twin_destroy(t);
}

/* A timer on the top level with one step of work a call: on each level its slot is visited and it
 * is moved, then the last slot is visited and it is handed out. */
INV_TEST(steps_counted) {
    twin *t = twin_create();
    twin_restart(t, 0);
    twin_add(t, 0, 0x05040302);
    uint32_t used;
    MUST(twin_take(t, 0x05040302, 0, &used)); /* no work, no change */
    MUST_EQ(t->armed_count, 1);
    MUST_EQ(t->wheel.now_ms, 0);
    for (uint32_t call = 1; call <= 8; call++) {
        MUST(twin_take(t, 0x05040302, 1, &used));
        MUST_EQ(used, 1);
        MUST_EQ(t->armed_count, call < 8);
    }
    MUST(!twin_take(t, 0x05040302, 1, &used));
    MUST_EQ(used, 0);
    twin_destroy(t);
}

/* Between any two steps of a cascade, timers are added before, in and after its slot, and
 * cancelled. */
INV_TEST(add_in_half_cascade) {
    rng = inv_test_rng_of(4);
    for (uint32_t level = 1; level <= 3; level++) {
        uint64_t slot_ms = (uint64_t)1 << (8 * level), start_ms = 7 * slot_ms;
        twin *t = twin_create();
        twin_restart(t, start_ms + 1);
        for (uint32_t i = 0; i < 100; i++)
            twin_add(t, i, start_ms + 2 * slot_ms + roll(i % 3 == 0 ? 4 : slot_ms));
        uint64_t now_ms = start_ms + 2 * slot_ms + 2;
        for (uint32_t i = 100; i < 400; i++) {
            uint32_t used;
            bool more = twin_take(t, now_ms, (uint32_t)roll(3), &used);
            wheel_checked(t);
            twin_add(t, i, t->wheel.now_ms + 1 + (roll(2) ? roll(5) : roll(AHEAD_MAX_MS)));
            wheel_checked(t);
            uint32_t victim = (uint32_t)roll(i);
            if (t->deadlines[victim] != 0) twin_cancel(t, victim);
            wheel_checked(t);
            if (!more) now_ms += roll(slot_ms / 64);
        }
        (void)twin_drain(t, now_ms + AHEAD_MAX_MS);
        MUST_EQ(t->armed_count, 0);
        twin_destroy(t);
    }
}

/* inv_wheel_check must itself be able to find what it is for. */
INV_TEST(check_finds) {
    rng = inv_test_rng_of(5);
    twin *t = twin_create();
    twin_restart(t, 1000);
    for (uint32_t i = 0; i < 10; i++) twin_add(t, i, 0x1400 + i / 5 * 100000);
    uint32_t used; /* the wheel stands before a slot that is due to be moved down */
    MUST(!twin_take(t, 0x13FF, 1, &used));
    inv_timer *timer = inv_timer_at(&t->pool, t->refs[3]);
    uint64_t found;
    inv_wheel good = t->wheel;
    inv_timer good_timer = *timer;
    for (uint32_t kind = 0; kind < 11; kind++) {
        switch (kind) {
        case 0: t->wheel.count++; break;
        case 1: t->wheel.count--; break;
        case 2: t->wheel.occupied[2][3] ^= 8; break;
        case 3: t->wheel.summary ^= 1u << 5; break;
        case 4: timer->deadline_ms += 256; break;
        case 5: timer->prev = t->refs[9]; break;
        case 6: timer->next = t->refs[4]; break; /* a circle */
        case 7: timer->next = 0x7FFFFFFF; break;
        case 8: timer->deadline_ms += AHEAD_MAX_MS; break;
        case 9: timer->deadline_ms -= 1; break;
        default: t->wheel.now_ms = 0x1400; break;
        }
        MUST(inv_wheel_check(&t->wheel, &t->pool, &found) != NULL);
        t->wheel = good;
        *timer = good_timer;
        MUST(inv_wheel_check(&t->wheel, &t->pool, &found) == NULL);
    }
    (void)twin_drain(t, 1000000);
    twin_destroy(t);
}

/* ---- a million equal deadlines --------------------------------------------------------------- */

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

typedef struct crowd {
    inv_pool pool;
    inv_wheel wheel;
    inv_ref *refs;
    uint32_t count;
    double add_seconds;
} crowd;

static void crowd_add_all(crowd *c, uint64_t deadline_ms) {
    for (uint32_t i = 0; i < c->count; i++)
        inv_timer_at(&c->pool, c->refs[i])->deadline_ms = deadline_ms;
    double before = seconds_now();
    for (uint32_t i = 0; i < c->count; i++) inv_wheel_add(&c->wheel, &c->pool, c->refs[i]);
    c->add_seconds = seconds_now() - before;
}

/* Takes with a budget per call until nothing is due; counts calls and timers. */
static uint64_t crowd_take_all(crowd *c, uint64_t now_ms, uint32_t budget, uint32_t *out_taken) {
    uint64_t calls = 0;
    uint32_t taken = 0, work;
    do {
        work = budget;
        for (;;) {
            inv_ref ref = inv_wheel_take(&c->wheel, &c->pool, now_ms, &work);
            if (ref == 0) break;
            /* One equal deadline: time may not reach it before the last of them is out. */
            MUST(c->wheel.now_ms < now_ms);
            taken++;
        }
        calls++;
    } while (work == 0);
    *out_taken = taken;
    return calls;
}

INV_TEST(million_equal_deadlines) {
    rng = inv_test_rng_of(6);
    crowd *c = test_alloc(NULL, sizeof(*c));
    c->count = 1000000;
    c->refs = calloc(c->count, sizeof(inv_ref));
    MUST_EQ(inv_pool_init(&c->pool, &test_env), INV_OK);
    for (uint32_t i = 0; i < c->count; i++) MUST((c->refs[i] = inv_pool_alloc(&c->pool, 0)) != 0);
    uint64_t start_ms = 5;
    inv_wheel_init(&c->wheel, start_ms);
    static const uint64_t distances[] = {100, 40000, 600000, 86400000};
    for (uint32_t level = 0; level < 4; level++) {
        uint64_t deadline_ms = (start_ms | 0xFFFFFFFF) + 1 + distances[level];
        MUST(inv_wheel_take(&c->wheel, &c->pool, (start_ms | 0xFFFFFFFF) + 1,
                             &(uint32_t){1}) == 0);
        crowd_add_all(c, deadline_ms);
        MUST_EQ(c->wheel.count, c->count);
        uint32_t taken, budget = level == 1 ? 7 : 256;
        double before = seconds_now();
        uint64_t calls = crowd_take_all(c, deadline_ms - 1, budget, &taken);
        MUST_EQ(taken, 0);
        MUST_EQ(c->wheel.now_ms, deadline_ms - 1);
        calls += crowd_take_all(c, deadline_ms + 3, budget, &taken);
        double take_seconds = seconds_now() - before;
        MUST_EQ(taken, c->count);
        MUST_EQ(c->wheel.count, 0);
        /* Each timer is moved once per level at least and handed out; no call did more than its
         * budget, and none was wasted. */
        uint64_t steps_min = (uint64_t)c->count * 2 * (level > 0) + c->count * (level == 0);
        uint64_t steps_max = (uint64_t)c->count * (level + 1) + 2 * level + 4;
        MUST(calls >= steps_min / budget);
        MUST(calls <= steps_max / budget + 3);
        printf("  %u timers, level %u: add %.0f ns, take %.0f ns each\n", c->count, level,
               c->add_seconds * 1e9 / c->count, take_seconds * 1e9 / c->count);
        start_ms = c->wheel.now_ms;
    }
    inv_pool_deinit(&c->pool);
    free(c->refs);
    free(c);
}

/* While a budget runs out inside a cascade, cancelling half of what is left must be exact. */
INV_TEST(cancel_in_half_cascade) {
    rng = inv_test_rng_of(7);
    crowd *c = test_alloc(NULL, sizeof(*c));
    c->count = 200000;
    c->refs = calloc(c->count, sizeof(inv_ref));
    MUST_EQ(inv_pool_init(&c->pool, &test_env), INV_OK);
    for (uint32_t i = 0; i < c->count; i++) MUST((c->refs[i] = inv_pool_alloc(&c->pool, 0)) != 0);
    inv_wheel_init(&c->wheel, 0);
    crowd_add_all(c, 1ull << 24);
    uint32_t work = c->count / 2 + 1, taken;
    MUST(inv_wheel_take(&c->wheel, &c->pool, 1ull << 25, &work) == 0);
    MUST_EQ(work, 0);
    MUST_EQ(c->wheel.now_ms, (1ull << 24) - 1);
    MUST_EQ(inv_wheel_next(&c->wheel, &c->pool), 1ull << 24);
    double before = seconds_now();
    for (uint32_t i = 0; i < c->count; i += 2) inv_wheel_cancel(&c->wheel, &c->pool, c->refs[i]);
    double cancel_seconds = seconds_now() - before;
    uint64_t found;
    MUST(inv_wheel_check(&c->wheel, &c->pool, &found) == NULL);
    MUST_EQ(found, c->count / 2);
    (void)crowd_take_all(c, 1ull << 25, 1000, &taken);
    MUST_EQ(taken, c->count / 2);
    for (uint32_t i = 0; i < c->count; i++) MUST(inv_timer_at(&c->pool, c->refs[i])->prev == 0);
    printf("  cancel %.0f ns each\n", cancel_seconds * 2e9 / c->count);
    inv_pool_deinit(&c->pool);
    free(c->refs);
    free(c);
}

INV_TEST_MAIN()
