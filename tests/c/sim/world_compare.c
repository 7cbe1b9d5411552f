/* SPDX-License-Identifier: Apache-2.0
 *
 * world_compare.c: reads a store back through the public API and compares it with the history.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "world_names.h"

static const inv_text seller_default = {NULL, 0};

static bool observe_rows(inv_store *store, oracle_state *out, const char **out_problem) {
    for (uint32_t sku = 0; sku < ORACLE_SKU_COUNT; sku++) {
        for (uint32_t location = 0; location < ORACLE_LOCATION_COUNT; location++) {
            inv_line line = {.sku = world_sku_name(sku), .location = world_location_name(location)};
            inv_stock_level level;
            memset(&level, 0, sizeof level);
            inv_result result = inv_store_availability(store, seller_default, &line, &level);
            if (result == INV_UNKNOWN_SKU) continue;
            if (result != INV_OK) {
                *out_problem = "availability refuses to answer";
                return false;
            }
            out->rows[sku][location] = (oracle_row){level.on_hand, level.held, level.allocated,
                                                    level.safety_stock};
        }
    }
    return true;
}

static bool observe_lines(const inv_reply *reply, const world_numbers *numbers, oracle_hold *out) {
    if (reply->line_count > reply->lines_max) return false;
    for (uint32_t i = 0; i < reply->line_count; i++) {
        const inv_reply_line *line = &reply->lines[i];
        uint32_t sku = world_numbers_sku(numbers, line->sku);
        uint32_t location = world_numbers_location(numbers, line->location);
        if (sku == ORACLE_NONE || location == ORACLE_NONE) return false;
        oracle_place *place = &out->places[sku][location];
        place->held += (int32_t)line->held;
        place->allocated += (int32_t)line->allocated;
        place->shipped += (int32_t)line->shipped;
    }
    return true;
}

bool world_observe(const world *w, inv_store *store, oracle_state *out, const char **out_problem) {
    world_numbers numbers;
    memset(out, 0, sizeof *out);
    if (!world_numbers_read(store, &numbers)) {
        *out_problem = "the numbers of names cannot be read";
        return false;
    }
    if (!observe_rows(store, out, out_problem)) return false;
    for (uint32_t i = 0; i < w->hold_next; i++) {
        char bytes[INV_ID_BYTES_MAX];
        inv_text id;
        inv_reply_line lines[WORLD_REPLY_LINE_COUNT];
        inv_reply reply;
        memset(&reply, 0, sizeof reply);
        reply.lines = lines;
        reply.lines_max = WORLD_REPLY_LINE_COUNT;
        bool is_uuid = world_id_text(i, 'r', bytes, &id);
        inv_result result = inv_store_reservation(store, seller_default, id, is_uuid, &reply);
        if (result == INV_UNKNOWN_RESERVATION) continue;
        if (result != INV_OK) {
            *out_problem = "reservation refuses to answer";
            return false;
        }
        out->holds[i].state = reply.state;
        if (!oracle_hold_is_live(&out->holds[i])) continue;
        if (reply.state == INV_STATE_HELD)
            out->holds[i].deadline_unix_ms = reply.expires_at_unix_ms;
        if (!observe_lines(&reply, &numbers, &out->holds[i])) {
            *out_problem = "a reservation names a line that never was";
            return false;
        }
    }
    return true;
}

bool world_compare(world *w, const char *when) {
    static _Thread_local oracle_state found;
    const char *problem = "";
    inv_check_report report;
    char text[512];
    if (!world_observe(w, w->store, &found, &problem))
        return world_problem(w, "%s: %s", when, problem);
    if (oracle_hash(&found) != oracle_hash(&w->state)) {
        oracle_difference(&w->state, &found, text, sizeof text);
        return world_problem(w, "%s: the store differs from the oracle: %s", when, text);
    }
    problem = oracle_problem(&w->state);
    if (problem != NULL) return world_problem(w, "%s: the oracle itself: %s", when, problem);
    memset(&report, 0, sizeof report);
    inv_result result = inv_store_check(w->store, &report);
    if (result != INV_OK || !report.ok)
        return world_problem(w, "%s: check says %s: %s", when, inv_result_name(result),
                             report.problem);
    return true;
}

/* Which entry of the history the store equals; also says what differs from the one it should. */
static void match_history(const world *w, inv_store *store, world_verdict *out) {
    static _Thread_local oracle_state found;
    const char *problem = "";
    char text[512];
    if (!world_observe(w, store, &found, &problem)) {
        snprintf(out->problem, sizeof out->problem, "%s", problem);
        return;
    }
    out->hash = oracle_hash(&found);
    uint32_t index = world_history_at(w, out->lsn_end);
    out->whole_groups = w->changes[index].group_end;
    if (w->changes[index].hash == out->hash) {
        out->index = index;
        return;
    }
    uint32_t other = w->change_count;
    while (other-- > 0 && w->changes[other].hash != out->hash) {}
    oracle_difference(&w->changes[index].state, &found, text, sizeof text);
    snprintf(out->problem, sizeof out->problem,
             "recovered to lsn %" PRIu64 " (history entry %u), but the state equals entry %d: %s",
             out->lsn_end, index, (int)other, text);
}

void world_recover(const world *w, inv_memory *disk, bool read_only, uint64_t lsn_limit,
                   world_verdict *out, world_recovered *keep) {
    memset(out, 0, sizeof *out);
    out->index = ORACLE_NONE;
    world_recovered recovered = {world_env(w, disk, w->seed + 77), NULL};
    inv_options options = w->options;
    options.read_only = read_only;
    out->result = inv_store_open(recovered.env, &options, &recovered.store, &out->error);
    if (out->result != INV_OK) {
        recovered.store = NULL;
        snprintf(out->problem, sizeof out->problem, "opening answers %s: %s",
                 inv_result_name(out->result), out->error.message);
        world_recovered_drop(&recovered);
        if (keep != NULL) *keep = recovered;
        return;
    }
    inv_store_recovery(recovered.store, &out->recovery);
    out->lsn_end = inv_min_u64(out->recovery.lsn_end, lsn_limit);
    match_history(w, recovered.store, out);
    inv_check_report report;
    memset(&report, 0, sizeof report);
    inv_result result = inv_store_check(recovered.store, &report);
    if (out->problem[0] == '\0' && (result != INV_OK || !report.ok))
        snprintf(out->problem, sizeof out->problem, "check of the recovered store: %s: %s",
                 inv_result_name(result), report.problem);
    if (keep != NULL) *keep = recovered;
    else world_recovered_drop(&recovered);
}

typedef struct file_counter {
    const char *prefix;
    uint32_t count;
} file_counter;

static bool count_file(void *argument, const char *name, uint64_t size) {
    file_counter *counter = argument;
    (void)size;
    if (strncmp(name, counter->prefix, strlen(counter->prefix)) == 0) counter->count++;
    return true;
}

uint32_t world_file_count(const world *w, inv_memory *disk, const char *prefix) {
    file_counter counter = {prefix, 0};
    world_recovered env = {world_env(w, disk, 1), NULL};
    inv_error error;
    memset(&error, 0, sizeof error);
    if (env.env->storage.list(env.env->storage.context, count_file, &counter, &error) != INV_OK)
        counter.count = 0;
    world_recovered_drop(&env);
    return counter.count;
}
