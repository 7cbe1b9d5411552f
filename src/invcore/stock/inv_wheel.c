/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wheel.c: timers in four levels of 256 slots.
 *
 * GUARANTEES. Every armed timer is handed out exactly once, never before its deadline, in order of
 * deadline (any order within one millisecond). Each call does bounded work and can be continued at
 * any later time; in between, timers may be added and cancelled freely. Caller: whoever holds the
 * lock of the stripe that owns the wheel; nothing here locks, allocates or reads a clock.
 *
 * HOW. The cursor is now_ms + 1, the first millisecond not fully handed out. A time has four 8-bit
 * digits (and an epoch of 2^32 ms above them):
 *
 *     time    | epoch ... | digit 3 | digit 2 | digit 1 | digit 0 |
 *     level                 4.66 h    65.5 s    256 ms    1 ms      per slot
 *
 * A timer lives at the level of the highest digit in which its deadline differs from the cursor, in
 * the slot of that digit of its deadline. All timers of a level therefore share the cursor's higher
 * digits and lie before all timers of the next level: the next thing to do is always the first
 * occupied slot of the lowest occupied level, and that is three bit scans away, however far.
 * Only level 3 goes round: its slots up to the cursor's digit belong to the next epoch.
 *
 * The cursor moves only to such slots (to the START of the slot's range) or to the end of the
 * advance, if no slot starts before. When it arrives at the start of a slot of level 1 to 3, that
 * slot is "pending": its timers are one digit too high now. They are moved down, one step each,
 * before anything else happens, and while any is left the cursor stays. A slot of level 0 is handed
 * out, one step each, while the cursor stays likewise.
 *
 * So there is no state of a half-done cascade to keep: at the start of a block (low digits of the
 * cursor zero) exactly one slot can be pending, and it is so while it is occupied. A timer added in
 * the meantime is placed by the same cursor and never lands in the pending slot. For levels 1 and 2
 * that is plain (the digit would not differ); at level 3 it could only be a timer of the next
 * epoch, with a deadline of at least cursor + 2^32, beyond what inv_wheel_add accepts.
 *
 * COST. A timer is touched once to arm and once per level to come down: at most 3 moves, each two
 * cache lines (itself and a neighbour). Moving a timer looks one ahead along the list.
 *
 * REJECTED. Placing by distance (deadline - now) instead of by digit: levels then overlap in time,
 * the next event needs all levels to be compared, and next could fall when a later timer is added.
 * A list of due timers outside the slots: one more place to keep in order and to cancel from.
 */
#include "inv_wheel.h"

#define INV_WHEEL_DIGIT_BITS 8u
#define INV_WHEEL_WORDS (INV_WHEEL_SLOTS / 64u)
#define INV_WHEEL_TOP (INV_WHEEL_LEVELS - 1u)
#define INV_TIMER_FIRST 0x80000000u             /* in prev: first of a slot */

_Static_assert(1u << INV_WHEEL_DIGIT_BITS == INV_WHEEL_SLOTS, "a digit picks a slot");
_Static_assert(INV_WHEEL_LEVELS * INV_WHEEL_DIGIT_BITS == 32, "four digits span the reach");
_Static_assert(INV_WHEEL_LEVELS * INV_WHEEL_WORDS <= 32, "the summary has a bit per word");
_Static_assert(INV_WHEEL_LEVELS * INV_WHEEL_SLOTS <= 0x400, "a slot number fits prev & 0x3FF");
_Static_assert(INV_TIMER_OFFSET + sizeof(inv_timer) <= INV_GRANULE_BYTES, "one granule a timer");

/* A place in the wheel. */
typedef struct wheel_place {
    uint32_t level;
    uint32_t slot;
} wheel_place;

static uint64_t wheel_cursor(const inv_wheel *wheel) { return wheel->now_ms + 1; }

static uint32_t time_digit(uint64_t time_ms, uint32_t level) {
    return (uint32_t)(time_ms >> (level * INV_WHEEL_DIGIT_BITS)) & (INV_WHEEL_SLOTS - 1);
}

/* Where a deadline belongs while the cursor is at `cursor_ms`. */
static wheel_place place_of(uint64_t deadline_ms, uint64_t cursor_ms) {
    uint64_t differing = deadline_ms ^ cursor_ms;
    uint32_t top_bit = 63u - (uint32_t)__builtin_clzll(differing | 1);
    uint32_t level = top_bit / INV_WHEEL_DIGIT_BITS;
    if (level > INV_WHEEL_TOP) level = INV_WHEEL_TOP; /* the next epoch */
    return (wheel_place){level, time_digit(deadline_ms, level)};
}

static bool slot_is_occupied(const inv_wheel *wheel, wheel_place place) {
    return wheel->slots[place.level][place.slot] != 0;
}

static void slot_mark(inv_wheel *wheel, wheel_place place) {
    uint32_t word = place.slot / 64;
    wheel->occupied[place.level][word] |= (uint64_t)1 << (place.slot % 64);
    wheel->summary |= (uint32_t)1 << (place.level * INV_WHEEL_WORDS + word);
}

static void slot_unmark(inv_wheel *wheel, wheel_place place) {
    uint32_t word = place.slot / 64;
    wheel->occupied[place.level][word] &= ~((uint64_t)1 << (place.slot % 64));
    if (wheel->occupied[place.level][word] == 0)
        wheel->summary &= ~((uint32_t)1 << (place.level * INV_WHEEL_WORDS + word));
}

/* Puts a timer in front of its slot, as seen from the cursor. */
static void slot_push(inv_wheel *wheel, const inv_pool *pool, inv_ref ref, inv_timer *timer) {
    wheel_place place = place_of(timer->deadline_ms, wheel_cursor(wheel));
    inv_ref old_first = wheel->slots[place.level][place.slot];
    timer->next = old_first;
    timer->prev = INV_TIMER_FIRST | (place.level * INV_WHEEL_SLOTS + place.slot);
    wheel->slots[place.level][place.slot] = ref;
    if (old_first != 0)
        inv_timer_at(pool, old_first)->prev = ref;
    else
        slot_mark(wheel, place);
}

/* Takes the first timer out of an occupied slot. Its successor has to be written anyway; the one
 * after it is fetched ahead, because a list that is taken from is taken from again. */
static inv_ref slot_pop(inv_wheel *wheel, const inv_pool *pool, wheel_place place,
                        inv_timer **out_timer) {
    inv_ref ref = wheel->slots[place.level][place.slot];
    INV_ASSERT(ref != 0);
    inv_timer *timer = inv_timer_at(pool, ref);
    INV_ASSERT(timer->prev == (INV_TIMER_FIRST | (place.level * INV_WHEEL_SLOTS + place.slot)));
    inv_ref next = timer->next;
    wheel->slots[place.level][place.slot] = next;
    if (next != 0) {
        inv_timer *successor = inv_timer_at(pool, next);
        successor->prev = timer->prev;
        if (successor->next != 0) INV_PREFETCH(inv_timer_at(pool, successor->next));
    } else {
        slot_unmark(wheel, place);
    }
    *out_timer = timer;
    return ref;
}

/* Whether a slot above level 0 starts exactly at the cursor and still has timers to be moved down.
 * Its level is that of the cursor's lowest digit that is not zero (level 3 if all are). */
static bool cascade_pending(const inv_wheel *wheel, wheel_place *out_place) {
    uint64_t cursor_ms = wheel_cursor(wheel);
    if (time_digit(cursor_ms, 0) != 0) return false;
    uint32_t level = (uint32_t)__builtin_ctzll(cursor_ms) / INV_WHEEL_DIGIT_BITS;
    if (level > INV_WHEEL_TOP) level = INV_WHEEL_TOP;
    *out_place = (wheel_place){level, time_digit(cursor_ms, level)};
    return slot_is_occupied(wheel, *out_place);
}

/* First occupied slot of level 3 in the order of time: beyond the cursor's digit, then from 0 up to
 * and including it. The cursor's own slot is last: when it is not pending it is an epoch ahead. */
static uint32_t top_level_first(const inv_wheel *wheel, uint32_t digit) {
    const uint64_t *words = wheel->occupied[INV_WHEEL_TOP];
    uint32_t from = digit + 1; /* 256: nothing beyond */
    for (uint32_t word = from / 64; word < INV_WHEEL_WORDS; word++) {
        uint64_t bits = words[word];
        if (word == from / 64) bits &= UINT64_MAX << (from % 64);
        if (bits != 0) return word * 64 + (uint32_t)__builtin_ctzll(bits);
    }
    for (uint32_t word = 0; word < INV_WHEEL_WORDS; word++)
        if (words[word] != 0) return word * 64 + (uint32_t)__builtin_ctzll(words[word]);
    INV_ASSERT(!"level 3 has an occupied slot");
    return 0;
}

/* Start of the first occupied slot. Requires timers, and no cascade pending. */
static uint64_t next_slot_start(const inv_wheel *wheel) {
    INV_ASSERT(wheel->summary != 0);
    uint64_t cursor_ms = wheel_cursor(wheel);
    uint32_t summary_bit = (uint32_t)__builtin_ctz(wheel->summary);
    uint32_t level = summary_bit / INV_WHEEL_WORDS;
    uint32_t word = summary_bit % INV_WHEEL_WORDS;
    uint32_t shift = level * INV_WHEEL_DIGIT_BITS;
    uint64_t block_ms = cursor_ms >> shift >> INV_WHEEL_DIGIT_BITS << INV_WHEEL_DIGIT_BITS << shift;
    if (level < INV_WHEEL_TOP) {
        uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(wheel->occupied[level][word]);
        return block_ms + ((uint64_t)slot << shift);
    }
    uint32_t digit = time_digit(cursor_ms, level);
    uint32_t slot = top_level_first(wheel, digit);
    uint64_t epoch_ms = slot <= digit ? INV_WHEEL_AHEAD_MAX_MS + 1 : 0;
    return block_ms + epoch_ms + ((uint64_t)slot << shift);
}

void inv_wheel_init(inv_wheel *wheel, uint64_t now_ms) {
    INV_ASSERT(wheel != NULL);
    INV_ASSERT(now_ms <= INV_WHEEL_TIME_MAX_MS);
    memset(wheel, 0, sizeof(*wheel));
    wheel->now_ms = now_ms;
}

void inv_wheel_add(inv_wheel *wheel, const inv_pool *pool, inv_ref ref) {
    INV_ASSERT(ref != 0 && (ref & INV_TIMER_FIRST) == 0);
    inv_timer *timer = inv_timer_at(pool, ref);
    INV_ASSERT(timer->deadline_ms > wheel->now_ms);
    INV_ASSERT(timer->deadline_ms - wheel->now_ms <= INV_WHEEL_AHEAD_MAX_MS);
    slot_push(wheel, pool, ref, timer);
    wheel->count++;
}

void inv_wheel_prefetch_slot(const inv_wheel *wheel, uint64_t deadline_ms) {
    wheel_place place = place_of(deadline_ms, wheel_cursor(wheel));
    INV_PREFETCH(&wheel->slots[place.level][place.slot]);
}

void inv_wheel_prefetch_first(const inv_wheel *wheel, const inv_pool *pool, uint64_t deadline_ms) {
    wheel_place place = place_of(deadline_ms, wheel_cursor(wheel));
    inv_ref first = wheel->slots[place.level][place.slot];
    if (first != 0) INV_PREFETCH(inv_timer_at(pool, first));
}

void inv_wheel_prefetch_neighbours(const inv_pool *pool, inv_ref ref) {
    const inv_timer *timer = inv_timer_at(pool, ref);
    if (timer->next != 0) INV_PREFETCH(inv_timer_at(pool, timer->next));
    if (timer->prev != 0 && (timer->prev & INV_TIMER_FIRST) == 0)
        INV_PREFETCH(inv_timer_at(pool, timer->prev));
}

void inv_wheel_cancel(inv_wheel *wheel, const inv_pool *pool, inv_ref ref) {
    INV_ASSERT(ref != 0);
    inv_timer *timer = inv_timer_at(pool, ref);
    INV_ASSERT(timer->prev != 0);
    INV_ASSERT(wheel->count > 0);
    if (timer->prev & INV_TIMER_FIRST) {
        uint32_t number = timer->prev & (INV_WHEEL_LEVELS * INV_WHEEL_SLOTS - 1);
        wheel_place place = {number / INV_WHEEL_SLOTS, number % INV_WHEEL_SLOTS};
        INV_ASSERT(wheel->slots[place.level][place.slot] == ref);
        wheel->slots[place.level][place.slot] = timer->next;
        if (timer->next == 0) slot_unmark(wheel, place);
    } else {
        inv_timer *before = inv_timer_at(pool, timer->prev);
        INV_ASSERT(before->next == ref);
        before->next = timer->next;
    }
    if (timer->next != 0) inv_timer_at(pool, timer->next)->prev = timer->prev;
    timer->next = 0;
    timer->prev = 0;
    wheel->count--;
}

/* Moves timers of the pending slot down, at most *work of them. */
static void cascade(inv_wheel *wheel, const inv_pool *pool, wheel_place pending, uint32_t *work) {
    for (; *work > 0 && slot_is_occupied(wheel, pending); (*work)--) {
        inv_timer *timer;
        inv_ref ref = slot_pop(wheel, pool, pending, &timer);
        INV_ASSERT(timer->deadline_ms >= wheel_cursor(wheel));
        slot_push(wheel, pool, ref, timer);
        INV_ASSERT((timer->prev & 0x3FF) / INV_WHEEL_SLOTS < pending.level);
    }
}

inv_ref inv_wheel_take(inv_wheel *wheel, const inv_pool *pool, uint64_t now_ms, uint32_t *work) {
    INV_ASSERT(wheel != NULL && pool != NULL && work != NULL);
    INV_ASSERT(now_ms <= INV_WHEEL_TIME_MAX_MS);
    while (wheel->now_ms < now_ms && *work > 0) {
        wheel_place pending;
        if (cascade_pending(wheel, &pending)) {
            cascade(wheel, pool, pending, work);
            continue;
        }
        wheel_place due = {0, time_digit(wheel_cursor(wheel), 0)};
        if (slot_is_occupied(wheel, due)) {
            inv_timer *timer;
            inv_ref ref = slot_pop(wheel, pool, due, &timer);
            INV_ASSERT(timer->deadline_ms == wheel_cursor(wheel));
            timer->next = 0;
            timer->prev = 0;
            wheel->count--;
            (*work)--;
            return ref;
        }
        /* Nothing at the cursor: on to the next slot, or to the end of the advance. */
        uint64_t next_ms = wheel->summary == 0 ? INV_WHEEL_NEVER : next_slot_start(wheel);
        INV_ASSERT(next_ms > wheel_cursor(wheel));
        if (next_ms > now_ms) {
            wheel->now_ms = now_ms;
            break;
        }
        wheel->now_ms = next_ms - 1;
        (*work)--;
    }
    return 0;
}

uint64_t inv_wheel_next(const inv_wheel *wheel, const inv_pool *pool) {
    (void)pool; /* the slots alone tell; walking a slot's list would have no bound */
    wheel_place pending;
    if (wheel->summary == 0) return INV_WHEEL_NEVER;
    if (cascade_pending(wheel, &pending)) return wheel_cursor(wheel);
    return next_slot_start(wheel);
}

/* What is wrong with one timer of a slot, apart from its links; NULL if nothing. */
static const char *timer_check(const inv_wheel *wheel, const inv_timer *timer, wheel_place place,
                               bool pending) {
    uint64_t cursor_ms = wheel_cursor(wheel);
    if (timer->deadline_ms < cursor_ms) return "a deadline has passed and is still armed";
    if (timer->deadline_ms - wheel->now_ms > INV_WHEEL_AHEAD_MAX_MS)
        return "a deadline is beyond the reach of the wheel";
    if (pending) {
        uint64_t slot_ms = (uint64_t)1 << (place.level * INV_WHEEL_DIGIT_BITS);
        if (timer->deadline_ms - cursor_ms >= slot_ms) return "a deadline is not in its slot";
        return NULL;
    }
    wheel_place right = place_of(timer->deadline_ms, cursor_ms);
    if (right.level != place.level || right.slot != place.slot)
        return "a deadline is not in its slot";
    return NULL;
}

/* Walks one slot and adds its timers to *found, which never exceeds the wheel's count: a list that
 * runs in a circle ends there. */
static const char *slot_check(const inv_wheel *wheel, const inv_pool *pool, wheel_place place,
                              bool pending, uint64_t *found) {
    uint32_t region_count = atomic_load_explicit(&((inv_pool *)pool)->region_count,
                                                 memory_order_acquire);
    inv_ref expected_prev = INV_TIMER_FIRST | (place.level * INV_WHEEL_SLOTS + place.slot);
    for (inv_ref ref = wheel->slots[place.level][place.slot]; ref != 0;) {
        if (ref >> INV_REGION_GRANULE_BITS >= region_count) return "a link leaves the pool";
        if (*found == wheel->count) return "more timers are linked than counted";
        (*found)++;
        const inv_timer *timer = inv_timer_at(pool, ref);
        if (timer->prev != expected_prev) return "a link back is wrong";
        const char *broken = timer_check(wheel, timer, place, pending);
        if (broken != NULL) return broken;
        expected_prev = ref;
        ref = timer->next;
    }
    return NULL;
}

const char *inv_wheel_check(const inv_wheel *wheel, const inv_pool *pool, uint64_t *out_count) {
    INV_ASSERT(wheel != NULL && pool != NULL && out_count != NULL);
    wheel_place pending = {0, 0};
    bool any_pending = cascade_pending(wheel, &pending);
    *out_count = 0;
    for (uint32_t level = 0; level < INV_WHEEL_LEVELS; level++) {
        for (uint32_t slot = 0; slot < INV_WHEEL_SLOTS; slot++) {
            wheel_place place = {level, slot};
            bool bit = (wheel->occupied[level][slot / 64] >> (slot % 64)) & 1;
            if (bit != slot_is_occupied(wheel, place)) return "an occupancy bit is wrong";
            bool is_pending = any_pending && level == pending.level && slot == pending.slot;
            const char *broken = slot_check(wheel, pool, place, is_pending, out_count);
            if (broken != NULL) return broken;
        }
        for (uint32_t word = 0; word < INV_WHEEL_WORDS; word++) {
            bool bit = (wheel->summary >> (level * INV_WHEEL_WORDS + word)) & 1;
            if (bit != (wheel->occupied[level][word] != 0)) return "a summary bit is wrong";
        }
    }
    if (*out_count != wheel->count) return "fewer timers are linked than counted";
    return NULL;
}
