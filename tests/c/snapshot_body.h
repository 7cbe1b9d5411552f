/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot_body.h: a store that was snapshotted while it changed must come back as it was, and as
 * the whole log alone would bring it back. For test_snapshot.c, and planted_snapshot.c with bugs
 * planted. Digests of everything in a store are compared: rows, policies, reservations with their
 * lines, ended ones in their order, names.
 *
 * Every command is followed by one step of a snapshot, which copies one stripe; so most snapshots
 * hold stripes from before and after most commands. Ids are forgotten all the time.
 */
#ifndef SNAPSHOT_BODY_H
#define SNAPSHOT_BODY_H

#include <stdlib.h>

#include "../../src/invcore/store/inv_snapshot.h"
#include "pack_always.h"
#include "shop.h"

#define SKUS 24u
#define NEVER (1ull << 40)

static shop s;
static uint64_t id_count; /* few: they are given out again while a snapshot copies */

/* ---- digest of a store ----------------------------------------------------------------------- */

typedef struct digest {
    uint64_t rows, holds, ended, names, sum;
} digest;

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size) {
    const uint8_t *in = bytes;
    for (size_t i = 0; i < size; i++) hash = (hash ^ in[i]) * 0x100000001b3ull;
    return hash;
}

static uint64_t hash_hold(const inv_store *store, const inv_hold *hold) {
    inv_hold_line inline_line, *lines = inv_hold_lines(&store->holds, hold, &inline_line);
    inv_text text = inv_hold_text(&store->holds, hold);
    uint64_t facts[] = {hold->lsn,         hold->deadline_ms, hold->account,
                        hold->body_hash,   hold->seller,      hold->line_count,
                        hold->ended_by,    hold->state,       hold->kind,
                        hold->gone,        hold->units,       inv_hold_units(&store->holds, hold)};
    uint64_t hash = hash_bytes(14695981039346656037ull, facts, sizeof facts);
    if (text.bytes != NULL) hash = hash_bytes(hash, text.bytes, text.length);
    else hash = hash_bytes(hash, hold->id, 16);
    for (uint32_t i = 0; lines != NULL && i < hold->line_count; i++)
        hash = hash_bytes(hash, &lines[i], sizeof lines[i]);
    return inv_mix64(hash);
}

typedef struct hold_sum {
    const inv_store *store;
    digest *out;
} hold_sum;

static bool add_hold(void *argument, inv_ref ref, inv_hold *hold) {
    hold_sum *sum = argument;
    (void)ref;
    sum->out->sum += hash_hold(sum->store, hold);
    sum->out->holds++;
    return true;
}

static void add_names(digest *out, const inv_names *names) {
    for (uint32_t i = 0; i < inv_names_count(names); i++) {
        inv_text text;
        CHECK(inv_names_text(names, i, &text));
        out->sum += inv_mix64(hash_bytes(i + names->tweak * 77, text.bytes, text.length));
        out->names++;
    }
}

static digest digest_of(inv_store *store) {
    digest out = {0};
    hold_sum sum = {store, &out};
    for (uint32_t i = 0; i < store->stripe_count; i++) {
        inv_stripe *stripe = &store->stripes[i];
        for (uint32_t place = 0; place < stripe->table.sku_count; place++) {
            uint32_t count;
            const inv_row *rows = inv_table_rows_of(&stripe->table, place, &count);
            inv_text name = inv_table_name(&stripe->table, place);
            uint64_t hash = hash_bytes(inv_sku_number(store, i, place), name.bytes, name.length);
            for (uint32_t k = 0; k < count; k++) {
                uint32_t safety = inv_table_safety_stock(&stripe->table, place, rows[k]);
                hash = hash_bytes(hash, &rows[k], sizeof rows[k]);
                hash = hash_bytes(hash, &safety, sizeof safety);
            }
            out.rows += count;
            out.sum += inv_mix64(hash);
        }
        inv_hold_walk(&store->holds, &stripe->home, add_hold, &sum);
        uint64_t order = i;
        for (inv_ref ref = stripe->home.ended_first; ref != 0;
             ref = inv_hold_at(&store->holds, ref)->next) {
            uint64_t lsn = inv_hold_at(&store->holds, ref)->lsn;
            order = hash_bytes(order, &lsn, sizeof lsn);
            out.ended++;
        }
        out.sum += inv_mix64(order);
    }
    add_names(&out, &store->locations);
    add_names(&out, &store->sellers);
    add_names(&out, &store->accounts);
    add_names(&out, &store->reasons);
    out.sum += store->reference_next;
    return out;
}

static bool same(const char *what, const digest *a, const digest *b) {
    if (memcmp(a, b, sizeof *a) == 0) return true;
    fprintf(stderr,
            "%s: rows %" PRIu64 " and %" PRIu64 ", holds %" PRIu64 " and %" PRIu64
            ", ended %" PRIu64 " and %" PRIu64 ", names %" PRIu64 " and %" PRIu64 "\n",
            what, a->rows, b->rows, a->holds, b->holds, a->ended, b->ended, a->names, b->names);
    return false;
}

/* ---- a life of a shop ------------------------------------------------------------------------ */

static bool is_copying(void) { return s.store->snapshot->phase != INV_SNAPSHOT_IDLE; }

/* Syncs, prepares what the log needs, and goes one step with a snapshot. */
static void settle_once(void) {
    bool more = true;
    CHECK_EQ(inv_store_flush(s.store), INV_OK);
    while (more) {
        CHECK_EQ(inv_store_prepare(s.store, &more), INV_OK);
        if (is_copying() && !s.store->wal.preparing) break;
    }
}

static int run_command(const inv_command *command) {
    memset(&s.reply, 0, sizeof s.reply);
    s.reply.lines = s.lines;
    s.reply.lines_max = SHOP_LINE_COUNT_MAX;
    CHECK_EQ(inv_store_execute(s.store, command, 1, &s.reply), INV_OK);
    settle_once();
    return s.reply.code;
}

static void pass_time(uint64_t ms) {
    bool more = true;
    s.clock_ms += ms;
    inv_env_set_clock(s.env, s.clock_ms);
    while (more) {
        CHECK_EQ(inv_store_advance(s.store, 16, &more), INV_OK);
        settle_once();
    }
}

/* Ends a snapshot under way, and forgets all that opening would: a tick at this very time. */
static void come_to_rest(void) {
    do {
        while (is_copying()) settle_once();
        pass_time(1000);
    } while (is_copying());
}

static inv_text numbered(char out[64], const char *prefix, uint64_t number) {
    snprintf(out, 64, "%s-%" PRIu64, prefix, number);
    return shop_text(out);
}

/* One random command or a step of time. */
static void live(inv_test_rng *rng) {
    static const char *const places[] = {"LON", "NYC", "PAR", "BER"};
    static const char *const accounts[] = {"", "web", "shop"};
    char sku_names[3][64], id[64], op[64], uuid[37];
    inv_line lines[3];
    inv_command command;
    memset(&command, 0, sizeof command);
    uint32_t line_count = 1 + (uint32_t)inv_test_rng_below(rng, 3);
    for (uint32_t i = 0; i < 3; i++) {
        lines[i] = shop_line(NULL, NULL, 1 + (int64_t)inv_test_rng_below(rng, 3));
        lines[i].sku = numbered(sku_names[i], "SKU", inv_test_rng_below(rng, SKUS) * 3 + i);
        if (inv_test_rng_below(rng, 3) > 0)
            lines[i].location = shop_text(places[inv_test_rng_below(rng, 4)]);
    }
    uint64_t number = inv_test_rng_below(rng, id_count);
    command.id = numbered(id, "cart", number);
    if (number % 3 == 0) {
        snprintf(uuid, sizeof uuid, "00000000-0000-4000-8000-%012" PRIx64, number);
        command.id = shop_text(uuid);
    }
    command.account = shop_text(accounts[inv_test_rng_below(rng, 3)]);
    command.lines = lines;
    uint64_t pick = inv_test_rng_below(rng, 100);
    if (pick < 20) {
        command.kind = pick < 14 ? INV_CMD_RECEIVE : pick < 17 ? INV_CMD_ADJUST : INV_CMD_ISSUE;
        command.id = shop_text(NULL);
        command.line_count = 1;
        lines[0].qty = pick < 14 ? 1 + (int64_t)inv_test_rng_below(rng, 30) : 1;
        if (lines[0].location.bytes == NULL) lines[0].location = shop_text("LON");
        if (pick % 2 == 0) command.op_id = numbered(op, "op", inv_test_rng_below(rng, id_count));
        if (pick % 5 == 0) command.reason = shop_text(pick == 0 ? "damage" : "found");
    } else if (pick < 23) {
        command = shop_command(INV_CMD_SET_POLICY, NULL, lines, 1);
        command.safety_stock = (int64_t)inv_test_rng_below(rng, 4);
    } else if (pick < 60) {
        command.kind = INV_CMD_RESERVE;
        command.line_count = line_count;
        command.ttl_ms = 1 + inv_test_rng_below(rng, 8000);
    } else if (pick < 90) {
        static const uint8_t ends[] = {INV_CMD_COMMIT, INV_CMD_RELEASE, INV_CMD_SHIP,
                                       INV_CMD_CANCEL, INV_CMD_EXTEND};
        command.kind = ends[inv_test_rng_below(rng, 5)];
        command.lines = NULL;
        command.ttl_ms = command.kind == INV_CMD_EXTEND ? 4000 : 0;
    } else {
        pass_time(1 + inv_test_rng_below(rng, 1500));
        return;
    }
    (void)run_command(&command);
}

static void begin(uint64_t seed, uint64_t log_bytes) {
    shop_init(&s, true);
    s.options.stripe_bits = 3;
    s.options.id_retention_ms = seed % 2 == 0 ? 4000 : NEVER / 1024;
    s.options.ended_ids_max = seed % 2 == 0 ? 1000 : 60;
    id_count = 400;
    if (seed % 3 == 0) {
        id_count = 12;
        s.options.ended_ids_max = 2;
    }
    s.options.snapshot_log_bytes = log_bytes;
    s.options.segment_bytes = 64u << 10;
    s.env->snapshot_stripes = 1;
    s.env->replay_part_entries = (uint32_t)(seed % 4);
    s.env->digest_bytes = 256 << seed % 5;
    pack_always(&s.env->allocator);
    CHECK_EQ(shop_open(&s), INV_OK);
}

static void ask_for_one(void) {
    inv_error error;
    CHECK_EQ(inv_store_snapshot(s.store, 0, &error), INV_BUSY); /* nobody does it but this thread */
}

/* Opens a copy of the disk, after something was done to it. */
static inv_result open_copy(void (*change)(inv_env *env, inv_memory *memory), inv_recovery *out,
                            digest *out_digest, inv_error *error) {
    inv_memory *memory = inv_memory_clone(s.memory);
    inv_env *env = inv_env_create();
    inv_env_use_memory(env, memory);
    inv_env_use_manual_clock(env, s.clock_ms);
    if (change != NULL) change(env, memory);
    inv_store *store = NULL;
    memset(error, 0, sizeof *error);
    inv_result result = inv_store_open(env, &s.options, &store, error);
    if (result == INV_OK) {
        inv_check_report report;
        memset(&report, 0, sizeof report);
        inv_store_recovery(store, out);
        *out_digest = digest_of(store);
        CHECK_EQ(inv_store_check(store, &report), INV_OK);
        if (!CHECK(report.ok)) fprintf(stderr, "check: %s\n", report.problem);
        inv_store_destroy(store);
    }
    inv_env_destroy(env);
    inv_memory_destroy(memory);
    return result;
}

static inv_snap_list snapshots_on(inv_env *env) {
    inv_snap_list list;
    inv_error error = {0};
    CHECK_EQ(inv_snap_find(env, &list, &error), INV_OK);
    return list;
}

static void remove_snapshots(inv_env *env, inv_memory *memory) {
    (void)memory;
    inv_snap_list list = snapshots_on(env);
    for (uint32_t i = 0; i < list.count; i++) {
        char name[INV_FILE_NAME_MAX + 1];
        inv_error error = {0};
        inv_snap_name(name, list.start_lsns[i]);
        CHECK_EQ(env->storage.remove(env->storage.context, name, &error), INV_OK);
    }
}

/* Which bit of which of the snapshots, newest first, is damaged. */
static struct {
    uint32_t file_count;
    uint64_t offset;
} damage;

static void damage_snapshots(inv_env *env, inv_memory *memory) {
    inv_snap_list list = snapshots_on(env);
    for (uint32_t i = 0; i < damage.file_count && i < list.count; i++) {
        char name[INV_FILE_NAME_MAX + 1];
        uint64_t size;
        inv_snap_name(name, list.start_lsns[i]);
        uint8_t *bytes = inv_memory_file(memory, name, &size);
        CHECK(bytes != NULL && size == list.bytes[i]);
        bytes[damage.offset % size] ^= 1;
    }
    inv_memory_settle(memory);
}

/* ---- the same by snapshot, by log, and alive ------------------------------------------------- */

SHOP_HELPER void snapshot_and_log_are_the_store(void) {
    uint64_t fuzzy = 0, over = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        inv_test_rng rng = inv_test_rng_of(seed);
        begin(seed, 0);
        uint64_t before = inv_test_rng_below(&rng, 500), after = inv_test_rng_below(&rng, 200);
        for (uint64_t i = 0; i < before; i++) live(&rng);
        ask_for_one();
        for (uint64_t i = 0; i < after; i++) live(&rng);
        bool unfinished = is_copying() && s.store->snapshot->phase != INV_SNAPSHOT_TRIM;
        if (!unfinished) come_to_rest();
        digest alive = digest_of(s.store), loaded, replayed;
        inv_store_destroy(s.store);
        s.store = NULL;
        inv_memory_power_cut(s.memory, 0);
        inv_recovery recovery;
        inv_error error;
        CHECK_EQ(open_copy(NULL, &recovery, &loaded, &error), INV_OK);
        over += recovery.snapshot_lsn != 0;
        fuzzy += recovery.snapshot_end_lsn > recovery.snapshot_lsn;
        CHECK(!unfinished || recovery.snapshot_lsn == 0);
        if (!unfinished && !CHECK(same("alive and over the snapshot", &alive, &loaded)))
            fprintf(stderr, "seed %" PRIu64 "\n", seed);
        CHECK_EQ(open_copy(remove_snapshots, &recovery, &replayed, &error), INV_OK);
        CHECK(recovery.snapshot_lsn == 0);
        if (!CHECK(same("over the snapshot and by the log", &loaded, &replayed)))
            fprintf(stderr, "seed %" PRIu64 "\n", seed);
        shop_end(&s);
    }
    CHECK(over > 40 && fuzzy > 30);
}

/* Snapshot after snapshot, reopened over each: what is not needed any more goes, and the store
 * comes back from the second newest when the newest is damaged, wherever. */
SHOP_HELPER void log_is_trimmed_and_two_are_kept(void) {
    uint64_t fell_back = 0, refused = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        inv_test_rng rng = inv_test_rng_of(seed);
        begin(seed, 20000);
        for (uint32_t round = 0; round < 8; round++) {
            for (uint32_t i = 0; i < 400; i++) live(&rng);
            come_to_rest();
            inv_snap_list list = snapshots_on(s.env);
            /* A power cut may have undone the end of an older one; the next snapshot ends it. */
            if (s.store->snapshots > 0) CHECK(list.count <= 2);
            bool trimmed = s.store->wal.past[0].base != INV_WAL_LSN_FIRST;
            const inv_wal *wal = &s.store->wal;
            uint64_t mapped = wal->ring[wal->released % INV_WAL_RING].number;
            uint64_t older = s.store->snapshot_older_lsn;
            if (older != 0 && wal->past_count >= 2) /* trimmed in this life: nothing more can go */
                CHECK(wal->past[1].base > older || wal->past[0].number >= mapped);
            digest alive = digest_of(s.store), back;
            inv_recovery recovery;
            inv_error error;
            if (round % 2 == 0) shop_shut(&s);
            else inv_store_destroy(s.store);
            s.store = NULL;
            inv_memory_power_cut(s.memory, seed);
            for (uint32_t i = 0; i < 40 && list.count == 2; i++) {
                damage.file_count = 1;
                damage.offset = i < 8 ? i * 800 : inv_test_rng_below(&rng, list.bytes[0]);
                CHECK_EQ(open_copy(damage_snapshots, &recovery, &back, &error), INV_OK);
                CHECK(same("alive and over a snapshot", &alive, &back));
                CHECK(recovery.snapshot_lsn == list.start_lsns[recovery.snapshots_damaged]);
                fell_back += recovery.snapshots_damaged;
            }
            damage.file_count = 2;
            damage.offset = 100;
            inv_result result = open_copy(damage_snapshots, &recovery, &back, &error);
            if (result == INV_OK) { /* the cut has undone the removal of what was older */
                CHECK(recovery.snapshots_damaged >= (list.count < 2 ? list.count : 2));
                CHECK(same("by the rest", &alive, &back));
            } else {
                CHECK_EQ(result, INV_LOG_CORRUPT);
                CHECK(trimmed && strstr(error.message, "no snapshot can be read") != NULL);
                refused++;
            }
            if (!CHECK_EQ(shop_open(&s), INV_OK)) return; /* a planted bug */
            digest opened = digest_of(s.store);
            if (!CHECK(same("alive and reopened", &alive, &opened)))
                fprintf(stderr, "seed %" PRIu64 " round %u\n", seed, round);
        }
        shop_end(&s);
    }
    CHECK(fell_back > 200 && refused > 3);
}

/* An id that has ended in a stripe already copied is used again in one that is not. Were it
 * forgotten in between, the snapshot would hold it twice. */
SHOP_HELPER void id_is_one_reservation(void) {
    const char *low = NULL, *high = NULL;
    static char names[200][64];
    begin(1, 0);
    s.options.ended_ids_max = 1;
    shop_shut(&s);
    CHECK_EQ(shop_open(&s), INV_OK);
    for (uint32_t i = 0; i < 200; i++) { /* some in each of the 8 stripes */
        inv_text name = numbered(names[i], "S", i);
        uint32_t number = 0;
        uint64_t lsn;
        size_t bad;
        CHECK_EQ(shop_receive(&s, names[i], "LON", 9), INV_OK);
        CHECK_EQ(inv_store_numbers(s.store, INV_NAME_SKU, shop_text(NULL), &name, 1, false,
                                   &number, &lsn, &bad),
                 INV_OK);
        uint32_t stripe = inv_sku_stripe(s.store, number);
        if (stripe == 0) low = names[i];
        if (stripe == s.store->stripe_count - 1) high = names[i];
    }
    if (!CHECK(low != NULL && high != NULL)) return;
    CHECK_EQ(shop_reserve(&s, "X", low, "LON", 1, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "X"), INV_OK);
    CHECK_EQ(shop_reserve(&s, "Y", low, "LON", 1, 0), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "Y"), INV_OK);
    ask_for_one();
    while (s.store->snapshot->stripe < 2) settle_once();
    pass_time(1000);
    CHECK(s.store->snapshot->phase == INV_SNAPSHOT_COPY);
    inv_line line = shop_line(high, "LON", 1);
    inv_command again = shop_command(INV_CMD_RESERVE, "X", &line, 1);
    CHECK_EQ(run_command(&again), INV_IDEMPOTENCY_MISMATCH); /* it is known */
    come_to_rest();
    CHECK_EQ(run_command(&again), INV_OK); /* now it is forgotten */
    inv_command end = shop_command(INV_CMD_RELEASE, "X", NULL, 0);
    CHECK_EQ(run_command(&end), INV_OK);
    come_to_rest();
    digest alive = digest_of(s.store), back;
    inv_store_destroy(s.store);
    s.store = NULL;
    inv_memory_power_cut(s.memory, 0);
    inv_recovery recovery;
    inv_error error;
    if (CHECK_EQ(open_copy(NULL, &recovery, &back, &error), INV_OK))
        CHECK(recovery.snapshot_lsn != 0 && same("alive and back", &alive, &back));
    shop_end(&s);
}

#endif
