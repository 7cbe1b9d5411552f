/* SPDX-License-Identifier: Apache-2.0
 *
 * world.c: opening, calling and bookkeeping of world.h. Comparing is in world_compare.c, inventing
 * commands in world_commands.c.
 */
#include "world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/invcore/store/inv_snapshot.h"
#include "../pack_always.h"
#include "world_names.h"

#define BUSY_ROUND_COUNT_MAX 64u

uint64_t world_random(uint64_t *state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

uint32_t world_below(uint64_t *state, uint32_t bound) {
    return bound == 0 ? 0 : (uint32_t)(world_random(state) % bound);
}

bool world_chance(uint64_t *state, uint32_t one_in) { return world_below(state, one_in) == 0; }

bool world_problem(world *w, const char *format, ...) {
    if (!world_ok(w)) return false;
    va_list arguments;
    va_start(arguments, format);
    int used = snprintf(w->problem, sizeof w->problem, "seed %" PRIu64 ": ", w->seed);
    vsnprintf(w->problem + used, sizeof w->problem - (size_t)used, format, arguments);
    va_end(arguments);
    return false;
}

static void *world_grow(void *array, uint32_t *capacity, uint32_t wanted, size_t item_bytes) {
    if (wanted <= *capacity) return array;
    uint32_t capacity_new = *capacity == 0 ? 64 : *capacity * 2;
    array = realloc(array, capacity_new * item_bytes);
    if (array == NULL) abort();
    *capacity = capacity_new;
    return array;
}

static void push_change(world *w, uint64_t lsn, bool group_end) {
    uint64_t last_lsn = w->change_count > 0 ? w->changes[w->change_count - 1].lsn : 0;
    if (w->change_count == 0 || lsn > last_lsn) {
        w->changes = world_grow(w->changes, &w->change_capacity, w->change_count + 1,
                                sizeof *w->changes);
        w->change_count++;
    }
    world_change *change = &w->changes[w->change_count - 1];
    change->lsn = lsn;
    change->group_end = group_end;
    change->state = w->state;
    change->hash = oracle_hash(&w->state);
}

void world_init(world *w, uint64_t seed) {
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->random = seed * 0xd1342543de82ef95ull + 1;
    w->entropy = seed ^ 0x5bd1e995973f1a27ull;
    w->clock_ms = WORLD_CLOCK_START_MS;
    w->memory = inv_memory_create();
    if (w->memory == NULL) abort();
    inv_options_init(&w->options);
    w->options.stripe_bits = 2;
    w->options.segment_bytes = 16384;
    w->options.segments_ahead_max = 1;
    w->options.snapshot_log_bytes = 3u << 10; /* several in each run */
    push_change(w, 0, true);
}

void world_deinit(world *w) {
    world_abandon(w);
    inv_memory_destroy(w->memory);
    free(w->changes);
    free(w->accepted);
    free(w->pending);
    w->memory = NULL;
    w->changes = NULL;
    w->accepted = NULL;
    w->pending = NULL;
}

/* ---- the environment ------------------------------------------------------------------------- */
static bool fill_entropy(void *context, void *buffer, size_t bytes) {
    unsigned char *out = buffer;
    for (size_t i = 0; i < bytes; i++) out[i] = (unsigned char)world_random(context);
    return true;
}

inv_env *world_env(const world *w, inv_memory *memory, uint64_t entropy_seed) {
    inv_env *env = inv_env_create();
    uint64_t *entropy = malloc(sizeof *entropy);
    if (env == NULL || entropy == NULL) abort();
    *entropy = entropy_seed;
    inv_env_use_memory(env, memory);
    inv_env_use_manual_clock(env, w->clock_ms);
    env->entropy.context = entropy;
    env->entropy.fill = fill_entropy;
    /* Small windows, so that every recovery fills some; in every second one on two threads. An
     * allocator of a campaign counts calls, so it stays on one. */
    env->snapshot_stripes = 1;
    env->replay_part_entries = 1 + (uint32_t)(entropy_seed >> 1) % 4;
    env->digest_bytes = 512 << entropy_seed % 6;
    if (entropy_seed % 2 == 0 || w->allocator.alloc != NULL) env->threads.start = NULL;
    if (w->allocator.alloc != NULL) env->allocator = w->allocator;
    pack_always(&env->allocator);
    return env;
}

static void env_drop(inv_env *env) {
    if (env == NULL) return;
    free(env->entropy.context);
    inv_env_destroy(env);
}

inv_result world_open(world *w, inv_error *error) {
    w->env = world_env(w, w->memory, world_random(&w->entropy));
    w->env->yield = w->yield;
    w->env->yield_context = w->yield_context;
    memset(error, 0, sizeof *error);
    inv_result result = inv_store_open(w->env, &w->options, &w->store, error);
    if (result != INV_OK) {
        env_drop(w->env);
        w->env = NULL;
        w->store = NULL;
    }
    return result;
}

void world_abandon(world *w) {
    if (w->store != NULL) inv_store_destroy(w->store);
    env_drop(w->env);
    w->store = NULL;
    w->env = NULL;
}

void world_recovered_drop(world_recovered *recovered) {
    if (recovered->store != NULL) inv_store_destroy(recovered->store);
    env_drop(recovered->env);
    memset(recovered, 0, sizeof *recovered);
}

/* ---- one call -------------------------------------------------------------------------------- */
static void choice_read(inv_store *store, const inv_reply *reply, world_outcome *outcome) {
    world_numbers numbers;
    memset(&outcome->choice, 0, sizeof outcome->choice);
    outcome->choice.deadline_unix_ms = reply->expires_at_unix_ms;
    if (reply->code != INV_OK || outcome->command.kind != INV_CMD_RESERVE) return;
    if (!world_numbers_read(store, &numbers)) return;
    uint32_t count = reply->line_count < reply->lines_max ? reply->line_count : reply->lines_max;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t sku = world_numbers_sku(&numbers, reply->lines[i].sku);
        uint32_t location = world_numbers_location(&numbers, reply->lines[i].location);
        if (sku == ORACLE_NONE || location == ORACLE_NONE) continue;
        outcome->choice.taken[sku][location] += (int32_t)reply->lines[i].held;
    }
}

uint32_t world_call(inv_store *store, const oracle_command *commands, uint32_t count,
                    world_outcome *outcomes, int *out_code) {
    world_wire wires[WORLD_CALL_COUNT_MAX];
    inv_command sent[WORLD_CALL_COUNT_MAX];
    inv_reply replies[WORLD_CALL_COUNT_MAX];
    inv_reply_line lines[WORLD_CALL_COUNT_MAX][WORLD_REPLY_LINE_COUNT];
    memset(replies, 0, sizeof replies);
    memset(lines, 0, sizeof lines);
    memset(sent, 0, sizeof sent);
    for (uint32_t i = 0; i < count; i++) {
        world_wire_build(&wires[i], &commands[i]);
        sent[i] = wires[i].command;
        replies[i].lines = lines[i];
        replies[i].lines_max = WORLD_REPLY_LINE_COUNT;
    }
    *out_code = (int)inv_store_try_execute(store, sent, count, replies);
    uint32_t judged = 0;
    for (uint32_t i = 0; i < count; i++) {
        int code = replies[i].code;
        if (code == INV_BUSY || code == INV_DISK_FULL || code == INV_NO_MEMORY ||
            code == INV_STORE_FAILED || code == INV_STORE_CLOSED) {
            *out_code = code; /* BUSY marks the rest; one without memory hurts no other */
            continue;
        }
        world_outcome *outcome = &outcomes[judged++];
        outcome->index = i;
        outcome->command = commands[i];
        choice_read(store, &replies[i], outcome);
        outcome->reply = replies[i];
        outcome->reply.lines = NULL;
        outcome->group_end = false;
        outcome->pended = false;
    }
    /* Commands that name their SKUs share a record; one that finds them by its id may end it. */
    bool one_record = true;
    for (uint32_t i = 0; i < judged; i++)
        one_record = one_record && (outcomes[i].command.kind == INV_CMD_RESERVE ||
                                    outcomes[i].command.hold == ORACLE_NONE);
    uint64_t lsn_max = 0;
    for (uint32_t i = 0; i < judged; i++)
        if (outcomes[i].reply.code == INV_OK) lsn_max = inv_max_u64(lsn_max, outcomes[i].reply.lsn);
    for (uint32_t i = 0; i < judged; i++)
        outcomes[i].group_end = !one_record || outcomes[i].reply.lsn == lsn_max;
    return judged;
}

/* ---- what an answer depended on -------------------------------------------------------------- */
static uint64_t accepted_lsn(const world *w, const oracle_command *command) {
    for (uint32_t i = w->accepted_count; i-- > 0;)
        if (w->accepted[i].command.op == command->op) return w->accepted[i].lsn;
    return 0;
}

static uint64_t required_lsn(const world *w, const world_outcome *outcome) {
    const oracle_command *command = &outcome->command;
    int code = outcome->reply.code;
    if (code == INV_OK) return outcome->reply.lsn;
    if (command->retry && command->op != ORACLE_NONE) return accepted_lsn(w, command);
    if (command->hold != ORACLE_NONE && code != INV_INSUFFICIENT) return w->hold_lsn[command->hold];
    if (code == INV_BAD_REQUEST) return 0;
    /* A refusal for want of stock saw the rows of some of its lines; which of several SKUs it
     * stopped at is its business, so only a single one is held against it. */
    uint32_t skus = world_command_skus(w, command);
    if (skus == 0 || (skus & (skus - 1)) != 0) return 0;
    return w->sku_lsn[__builtin_ctz(skus)];
}

void world_pend(world *w, const world_outcome *outcome) {
    if (outcome->pended) return;
    w->pending = world_grow(w->pending, &w->pending_capacity, w->pending_count + 1,
                            sizeof *w->pending);
    w->pending[w->pending_count++] =
        (world_pending){outcome->reply.observed_lsn, required_lsn(w, outcome)};
}

bool world_poll_acks(world *w) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->pending_count; i++) {
        world_pending pending = w->pending[i];
        inv_result result = inv_store_wait(w->store, pending.observed_lsn, 0);
        if (result == INV_OK) {
            w->acks++;
            w->acked_lsn = inv_max_u64(w->acked_lsn, pending.observed_lsn);
            w->acked_lsn = inv_max_u64(w->acked_lsn, pending.required_lsn);
        } else if (result == INV_BUSY || w->allow_busy) {
            w->pending[kept++] = pending;
        } else {
            return world_problem(w, "inv_store_wait answers %s", inv_result_name(result));
        }
    }
    w->pending_count = kept;
    return true;
}

/* ---- the history ----------------------------------------------------------------------------- */
static bool judge_one(world *w, const world_outcome *outcome) {
    const oracle_command *command = &outcome->command;
    char text[160];
    world_pend(w, outcome); /* before later changes of the same call move what it depended on */
    oracle_describe(command, text, sizeof text);
    inv_result predicted = oracle_predict(&w->state, command);
    int code = outcome->reply.code;
    if (!oracle_code_fits(&w->state, command, predicted, code))
        return world_problem(w, "%s: answer %s, expected %s", text, inv_result_name(code),
                             inv_result_name(predicted));
    w->commands++;
    if (code != INV_OK) {
        if (code == INV_REPLAYED) w->replayed++;
        else w->refused++;
        return true;
    }
    if (command->kind == INV_CMD_RESERVE) {
        const char *wrong = oracle_choice_problem(command, &outcome->choice);
        if (wrong != NULL) return world_problem(w, "%s: %s", text, wrong);
    }
    uint64_t last_lsn = w->changes[w->change_count - 1].lsn;
    if (outcome->reply.observed_lsn < outcome->reply.lsn)
        return world_problem(w, "%s: observed_lsn below its own lsn", text);
    oracle_apply(&w->state, command, &outcome->choice);
    if (outcome->reply.lsn <= last_lsn) {
        if (oracle_hash(&w->state) != w->changes[w->change_count - 1].hash)
            return world_problem(w, "%s: a change without an lsn of its own", text);
        return true;
    }
    const oracle_state *before = &w->changes[w->change_count - 1].state;
    for (uint32_t sku = 0; sku < ORACLE_SKU_COUNT; sku++) /* an extend moves no row */
        if (memcmp(before->rows[sku], w->state.rows[sku], sizeof before->rows[sku]) != 0)
            w->sku_lsn[sku] = outcome->reply.lsn;
    if (command->hold != ORACLE_NONE) w->hold_lsn[command->hold] = outcome->reply.lsn;
    push_change(w, outcome->reply.lsn, outcome->group_end);
    w->accepted = world_grow(w->accepted, &w->accepted_capacity, w->accepted_count + 1,
                             sizeof *w->accepted);
    w->accepted[w->accepted_count++] = (world_accepted){*command, outcome->reply.lsn};
    return true;
}

/* In lsn order over the callers; a refusal stays right after what its own caller did before. */
bool world_integrate(world *w, const world_outcome *const *outcomes, uint32_t count) {
    uint64_t keys[4 * WORLD_CALL_COUNT_MAX];
    if (count > 4 * WORLD_CALL_COUNT_MAX) abort();
    for (uint32_t i = 0; i < count; i++) {
        bool first = i == 0 || outcomes[i]->pended != outcomes[i - 1]->pended; /* of its caller */
        keys[i] = first ? 0 : keys[i - 1];
        if (outcomes[i]->reply.code == INV_OK)
            keys[i] = inv_max_u64(keys[i], outcomes[i]->reply.lsn);
    }
    for (uint32_t round = 0; round < count; round++) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < count; i++)
            if (keys[i] < keys[best]) best = i;
        keys[best] = UINT64_MAX;
        if (!judge_one(w, outcomes[best])) return false;
    }
    return true;
}

bool world_execute(world *w, const oracle_command *commands, uint32_t count) {
    uint32_t sent = 0;
    for (uint32_t round = 0; sent < count && round < BUSY_ROUND_COUNT_MAX; round++) {
        world_outcome outcomes[WORLD_CALL_COUNT_MAX];
        const world_outcome *pointers[WORLD_CALL_COUNT_MAX];
        int code = INV_OK;
        uint32_t judged = world_call(w->store, commands + sent, count - sent, outcomes, &code);
        for (uint32_t i = 0; i < judged; i++) pointers[i] = &outcomes[i];
        if (!world_integrate(w, pointers, judged)) return false;
        sent += judged;
        if (code == INV_OK) continue;
        if (w->allow_busy) return true;
        if (code != INV_BUSY)
            return world_problem(w, "a call answers %s", inv_result_name(code));
        inv_result flushed = inv_store_flush(w->store);
        if (flushed != INV_OK)
            return world_problem(w, "flush answers %s", inv_result_name(flushed));
        if (!world_prepare_all(w)) return false;
    }
    return sent == count ? true : world_problem(w, "BUSY for ever");
}

/* ---- time ------------------------------------------------------------------------------------ */
typedef struct expiry {
    uint64_t lsn;
    uint32_t hold;
} expiry;

static int expiry_order(const void *a, const void *b) {
    const expiry *left = a, *right = b;
    return left->lsn < right->lsn ? -1 : left->lsn > right->lsn;
}

static bool expired_by_store(world *w, uint32_t hold, expiry *out, bool *out_expired) {
    char bytes[INV_ID_BYTES_MAX];
    inv_text id;
    inv_reply reply;
    memset(&reply, 0, sizeof reply);
    bool is_uuid = world_id_text(hold, 'r', bytes, &id);
    inv_result result =
        inv_store_reservation(w->store, (inv_text){NULL, 0}, id, is_uuid, &reply);
    if (result != INV_OK)
        return world_problem(w, "reservation %u answers %s", hold, inv_result_name(result));
    *out_expired = reply.state != INV_STATE_HELD;
    *out = (expiry){reply.lsn, hold};
    return true;
}

bool world_take_expired(world *w, bool complete) {
    expiry list[ORACLE_HOLD_COUNT_MAX];
    uint32_t count = 0;
    inv_metrics metrics;
    inv_store_metrics(w->store, &metrics);
    for (uint32_t i = 0; i < w->hold_next; i++) {
        const oracle_hold *hold = &w->state.holds[i];
        if (hold->state != INV_STATE_HELD) continue;
        bool expired = false;
        if (!expired_by_store(w, i, &list[count], &expired)) return false;
        if (!expired) {
            if (complete && hold->deadline_unix_ms <= metrics.now_unix_ms)
                return world_problem(w, "hold %u outlived its deadline", i);
            continue;
        }
        if (hold->deadline_unix_ms > w->clock_ms)
            return world_problem(w, "hold %u expired before its deadline", i);
        count++;
    }
    qsort(list, count, sizeof *list, expiry_order);
    for (uint32_t i = 0; i < count; i++) {
        oracle_hold *hold = &w->state.holds[list[i].hold];
        for (uint32_t sku = 0; sku < ORACLE_SKU_COUNT; sku++)
            for (uint32_t j = 0; j < ORACLE_LOCATION_COUNT; j++)
                if (hold->places[sku][j].held > 0) w->sku_lsn[sku] = list[i].lsn;
        w->hold_lsn[list[i].hold] = list[i].lsn;
        if (list[i].lsn <= w->changes[w->change_count - 1].lsn)
            return world_problem(w, "hold %u expired at an lsn of the past", list[i].hold);
        oracle_expire(&w->state, list[i].hold);
        push_change(w, list[i].lsn, true);
        w->expired++;
    }
    return true;
}

bool world_advance(world *w, uint64_t ms, uint32_t step) {
    w->clock_ms += ms;
    inv_env_set_clock(w->env, w->clock_ms);
    bool more = true;
    for (uint32_t round = 0; more && round < 4096; round++) {
        uint64_t expired = w->expired;
        inv_result result = inv_store_advance(w->store, step, &more);
        bool waits = result == INV_DISK_FULL &&
                     inv_wal_disk_state(&w->store->wal) == INV_DISK_READ_ONLY;
        if (result != INV_OK && !waits)
            return world_problem(w, "advance answers %s", inv_result_name(result));
        if (waits) return world_take_expired(w, false);
        if (!world_take_expired(w, !more)) return false;
        if (!more || w->expired > expired) continue;
        /* More is due, but nothing could be logged: time waits for the disk. */
        result = inv_store_flush(w->store);
        if (result != INV_OK)
            return world_problem(w, "flush answers %s", inv_result_name(result));
        if (!world_prepare_all(w)) return false;
    }
    return more ? world_problem(w, "advance never ends") : true;
}

bool world_prepare_all(world *w) {
    bool more = true;
    for (uint32_t round = 0; more && round < 64; round++) {
        inv_result result = inv_store_prepare(w->store, &more);
        if (result != INV_OK && !w->allow_busy)
            return world_problem(w, "prepare answers %s", inv_result_name(result));
        if (result != INV_OK) break;
        /* A snapshot goes on while others change what it has copied and what it has not. */
        bool full = inv_wal_disk_state(&w->store->wal) != INV_DISK_OK; /* steps lead out of it */
        bool copying = w->store->snapshot != NULL && w->store->snapshot->phase != INV_SNAPSHOT_IDLE;
        if (copying && !full && !w->store->wal.preparing && world_chance(&w->random, 3)) break;
    }
    return true;
}

bool world_read(world *w) {
    uint32_t sku = world_below(&w->random, ORACLE_SKU_COUNT);
    inv_line line = {.sku = world_sku_name(sku), .location = world_location_name(0)};
    inv_stock_level level;
    memset(&level, 0, sizeof level);
    inv_result result = inv_store_availability(w->store, (inv_text){NULL, 0}, &line, &level);
    if (result != INV_OK && result != INV_UNKNOWN_SKU && !w->allow_busy)
        return world_problem(w, "availability answers %s", inv_result_name(result));
    if (result != INV_OK) return true;
    w->pending = world_grow(w->pending, &w->pending_capacity, w->pending_count + 1,
                            sizeof *w->pending);
    w->pending[w->pending_count++] = (world_pending){level.lsn, w->sku_lsn[sku]};
    return true;
}

/* ---- after a crash --------------------------------------------------------------------------- */
uint32_t world_history_at(const world *w, uint64_t lsn) {
    uint32_t index = w->change_count - 1;
    while (index > 0 && w->changes[index].lsn > lsn) index--;
    return index;
}

void world_rewind(world *w, uint32_t index, uint64_t lsn_end) {
    w->change_count = index + 1;
    w->state = w->changes[index].state;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->accepted_count; i++)
        if (w->accepted[i].lsn <= lsn_end) w->accepted[kept++] = w->accepted[i];
    w->accepted_count = kept;
    w->pending_count = 0;
    for (uint32_t i = 0; i < ORACLE_SKU_COUNT; i++)
        w->sku_lsn[i] = inv_min_u64(w->sku_lsn[i], lsn_end);
    for (uint32_t i = 0; i < ORACLE_HOLD_COUNT_MAX; i++)
        w->hold_lsn[i] = w->state.holds[i].state == INV_STATE_NONE
                             ? 0
                             : inv_min_u64(w->hold_lsn[i], lsn_end);
}
