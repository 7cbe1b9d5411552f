/* SPDX-License-Identifier: Apache-2.0
 *
 * disk.c: the store whose files are mutated, and the opening of what became of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/invcore/invcore.h"
#include "fuzz.h"

static bool fill_entropy(void *context, void *buffer, size_t bytes) {
    (void)context;
    memset(buffer, 0x5A, bytes); /* the same keys: inputs mean the same in every process */
    return true;
}

inv_env *fuzz_env(inv_memory *disk) {
    inv_env *env = inv_env_create();
    if (env == NULL) abort();
    if (disk != NULL) inv_env_use_memory(env, disk);
    inv_env_use_manual_clock(env, FUZZ_START_MS);
    env->entropy.fill = fill_entropy;
    env->threads.start = NULL;
    env->snapshot_stripes = 1;
    env->replay_part_entries = 2;
    return env;
}

static inv_options small_options(bool with_snapshot) {
    inv_options options;
    inv_options_init(&options);
    options.stripe_bits = 2;
    options.segment_bytes = FUZZ_SEGMENT_BYTES;
    options.segments_ahead_max = 1;
    options.snapshot_log_bytes = with_snapshot ? 4096 : 0;
    return options;
}

static void settle(inv_store *store) {
    bool more = true;
    if (inv_store_flush(store) != INV_OK) abort();
    while (more)
        if (inv_store_prepare(store, &more) != INV_OK) abort();
}

static void send(inv_store *store, inv_command *command) {
    inv_reply reply;
    memset(&reply, 0, sizeof reply);
    if (inv_store_execute(store, command, 1, &reply) != INV_OK) abort();
    settle(store);
}

static inv_text text_of(const char *bytes) { return (inv_text){bytes, (uint32_t)strlen(bytes)}; }

/* Entries of every kind: names, carts, parts under an op_id, ends, counts, policies, expiry. */
static void use_store(inv_store *store, inv_env *env) {
    static const char *const skus[] = {"TEE", "MUG", "CAP", "BAG"};
    static const char *const places[] = {"LON", "PAR", "OSL"};
    for (uint32_t i = 0; i < 60; i++) {
        char id[24], op[24];
        snprintf(id, sizeof id, "cart-%u", i);
        snprintf(op, sizeof op, "op-%u", i);
        inv_line lines[2] = {{.sku = text_of(skus[i % 4]), .location = text_of(places[i % 3]),
                              .qty = 20},
                             {.sku = text_of(skus[(i + 1) % 4]), .qty = 1}};
        inv_command stock = {.kind = INV_CMD_RECEIVE, .lines = lines, .line_count = 1,
                             .op_id = text_of(op), .reason = text_of("delivery"),
                             .reference = text_of("po-7"), .account = text_of("anna")};
        if (i % 7 == 5) stock.kind = INV_CMD_ISSUE;
        if (i % 11 == 7) stock.kind = INV_CMD_SET_POLICY;
        stock.safety_stock = i % 3;
        send(store, &stock);
        lines[0].qty = 1 + i % 3;
        inv_command reserve = {.kind = INV_CMD_RESERVE, .id = text_of(id), .lines = lines,
                               .line_count = 1 + i % 2, .ttl_ms = i % 5 == 0 ? 40 : 3600000};
        send(store, &reserve);
        static const uint8_t ends[] = {INV_CMD_COMMIT, INV_CMD_SHIP, INV_CMD_RELEASE,
                                       INV_CMD_CANCEL, INV_CMD_EXTEND};
        inv_command end = {.kind = ends[i % 5], .id = text_of(id), .ttl_ms = 7200000};
        if (i % 4 == 1) {
            end.partial = end.keep_rest = true;
            end.kind = INV_CMD_COMMIT;
            end.op_id = text_of(id);
            end.lines = lines;
            end.line_count = 1;
        }
        if (i % 3 != 0) send(store, &end);
        inv_env_set_clock(env, FUZZ_START_MS + 100ull * i);
        bool more = true;
        for (uint32_t k = 0; more && k < 64; k++)
            if (inv_store_advance(store, 8, &more) != INV_OK) abort();
        settle(store);
    }
}

const inv_memory *fuzz_disk(bool with_snapshot) {
    static inv_memory *disks[2];
    if (disks[with_snapshot] != NULL) return disks[with_snapshot];
    inv_memory *disk = inv_memory_create();
    if (disk == NULL) abort();
    inv_env *env = fuzz_env(disk);
    inv_options options = small_options(with_snapshot);
    inv_store *store;
    inv_error error = {0};
    if (inv_store_open(env, &options, &store, &error) != INV_OK) abort();
    use_store(store, env);
    inv_store_destroy(store);
    inv_env_destroy(env);
    inv_memory_settle(disk);
    disks[with_snapshot] = disk;
    return disk;
}

typedef struct last_name {
    const char *prefix;
    char *out;
    bool found;
} last_name;

static bool look_at_name(void *argument, const char *name, uint64_t size) {
    last_name *last = argument;
    (void)size;
    if (strncmp(name, last->prefix, strlen(last->prefix)) != 0) return true;
    if (last->found && strcmp(name, last->out) < 0) return true;
    snprintf(last->out, INV_FILE_NAME_MAX + 1, "%s", name);
    last->found = true;
    return true;
}

bool fuzz_last_file(const inv_memory *disk, const char *prefix, char out[INV_FILE_NAME_MAX + 1]) {
    last_name last = {prefix, out, false};
    inv_memory *copy = inv_memory_clone(disk);
    if (copy == NULL) abort();
    inv_env *env = fuzz_env(copy);
    inv_error error = {0};
    if (env->storage.list(env->storage.context, look_at_name, &last, &error) != INV_OK) abort();
    inv_env_destroy(env);
    inv_memory_destroy(copy);
    return last.found;
}

/* ---- opening --------------------------------------------------------------------------------- */
static void read_log(inv_memory *disk) {
    inv_env *env = fuzz_env(disk);
    inv_log *log = NULL;
    inv_error error = {0};
    if (inv_log_open(env, &log, &error) == INV_OK) {
        inv_log_name name;
        inv_log_record record;
        inv_log_entry entry;
        bool more = true;
        while (inv_log_next_name(log, &name, &more, &error) == INV_OK && more) {}
        while (inv_log_next(log, &record, &more, &error) == INV_OK && more)
            while (inv_log_next_entry(log, &entry, &more, &error) == INV_OK && more) {}
        inv_log_close(log);
    }
    inv_env_destroy(env);
}

static void look_at_all(inv_store *store) {
    static uint32_t skus[256];
    static uint16_t locations[256], sellers[256];
    static int64_t figures[8][256];
    static uint64_t lsns[256];
    inv_walk walk;
    inv_walk_rows rows = {.room_count = 256, .sku = skus, .location = locations, .seller = sellers,
                          .on_hand = figures[0], .held = figures[1], .allocated = figures[2],
                          .reserved = figures[3], .available = figures[4],
                          .available_to_promise = figures[5], .safety_stock = figures[6],
                          .short_qty = figures[7], .lsn = lsns};
    memset(&walk, 0, sizeof walk);
    for (uint32_t i = 0; !walk.done && i < 4096; i++)
        if (inv_store_walk_rows(store, &walk, &rows) != INV_OK) break;
}

void fuzz_open(inv_memory *disk, bool forged) {
    inv_memory_settle(disk);
    read_log(disk);
    inv_env *env = fuzz_env(disk);
    inv_options options = small_options(false);
    options.read_only = true;
    inv_store *store;
    inv_error error = {0};
    inv_result result = inv_store_open(env, &options, &store, &error);
    if (result == INV_OK) {
        inv_check_report report;
        memset(&report, 0, sizeof report);
        if (inv_store_check(store, &report) != INV_OK || (!report.ok && !forged))
            fuzz_fail("opened, but not in order: %s", report.problem);
        look_at_all(store);
        inv_store_destroy(store);
    } else if (result != INV_LOG_CORRUPT && result != INV_FORMAT_UNKNOWN) {
        fuzz_fail("opening answers %s: %s", inv_result_name(result), error.message);
    }
    inv_env_destroy(env);
    inv_memory_destroy(disk);
}
