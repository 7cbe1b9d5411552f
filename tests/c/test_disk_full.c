/* SPDX-License-Identifier: Apache-2.0
 *
 * test_disk_full.c: the reserve files, and every way between the states of a full disk
 * (inv_wal_space.h). The disk is one in memory with a capacity, or one whose calls fail by a hook.
 */
#include <errno.h>

#include "../../src/invcore/log/inv_wal_space.h"
#include "../../src/invcore/store/inv_snapshot.h"
#include "shop.h"

static shop s;

#define SEGMENT (256u << 10)
#define TTL_MS (25ull * 24 * 3600 * 1000) /* of holds that outlive the ticks of a reserve */
#define RESERVE_1 "reserve-0000000000000001"
#define RESERVE_2 "reserve-0000000000000002"

static inv_metrics figures(void) {
    inv_metrics metrics;
    memset(&metrics, 0, sizeof metrics);
    inv_store_metrics(s.store, &metrics);
    return metrics;
}

static uint64_t disk_state(void) { return figures().disk_state; }

static bool add_size(void *argument, const char *name, uint64_t size) {
    (void)name;
    *(uint64_t *)argument += size;
    return true;
}

static uint64_t disk_bytes(void) {
    inv_error error = {0};
    uint64_t bytes = 0;
    CHECK_EQ(s.env->storage.list(s.env->storage.context, add_size, &bytes, &error), INV_OK);
    return bytes;
}

static uint64_t size_of(const char *name) {
    uint64_t size = 0;
    return inv_memory_file(s.memory, name, &size) == NULL ? 0 : size;
}

static void prepare(uint32_t times) {
    bool more;
    for (uint32_t i = 0; i < times; i++) {
        CHECK_EQ(inv_store_flush(s.store), INV_OK);
        CHECK_EQ(inv_store_prepare(s.store, &more), INV_OK);
    }
}

static void fill_reserve(void) {
    prepare(8);
    CHECK_EQ(figures().reserve_segments, 2);
}

/* Others have taken all room but `bytes`. */
static void leave_room(uint64_t bytes) { inv_memory_set_capacity(s.memory, disk_bytes() + bytes); }

/* A shop with stock and holds r0.. r99, the reserve filled. */
static void begin(void) {
    shop_init(&s, true);
    s.options.snapshot_log_bytes = 0;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W", 10000), INV_OK);
    for (uint32_t i = 0; i < 100; i++) {
        char id[16];
        snprintf(id, sizeof id, "r%u", i);
        CHECK_EQ(shop_reserve(&s, id, "A", "W", 1, TTL_MS), INV_OK);
    }
    fill_reserve();
}

/* Sells until the disk is full: the last segment that could be prepared is the current one. */
static void fill_disk(void) {
    leave_room(1000);
    int code = INV_OK;
    for (uint32_t i = 0; code == INV_OK && i < 100000; i++) code = shop_receive(&s, "A", "W", 1);
    CHECK_EQ(code, INV_DISK_FULL);
    CHECK_EQ(disk_state(), INV_DISK_REFUSING);
}

/* Commits until nothing is accepted any more. */
static uint32_t use_up_reserve(void) {
    uint32_t ticks = 0;
    bool more;
    while (disk_state() == INV_DISK_REFUSING && ticks < 100000) {
        s.clock_ms += 1000;
        inv_env_set_clock(s.env, s.clock_ms);
        CHECK_EQ(inv_store_advance(s.store, 64, &more), INV_OK);
        leave_room(1000);
        prepare(1);
        ticks++;
    }
    CHECK_EQ(disk_state(), INV_DISK_READ_ONLY);
    return ticks;
}

/* ---- the files ---------------------------------------------------------------------------- */

INV_TEST(two_files_are_kept_and_not_made_by_opening) {
    shop_init(&s, true);
    inv_error error;
    CHECK_EQ(inv_store_open(s.env, &s.options, &s.store, &error), INV_OK);
    CHECK_EQ(size_of(RESERVE_1), 0);
    CHECK_EQ(figures().reserve_segments, 0);
    fill_reserve();
    CHECK_EQ(size_of(RESERVE_1), SEGMENT);
    CHECK_EQ(size_of(RESERVE_2), SEGMENT);
    uint64_t size, sum = 0;
    const uint8_t *bytes = inv_memory_file(s.memory, RESERVE_2, &size);
    for (uint64_t i = 0; i < size; i++) sum += bytes[i];
    CHECK_EQ(sum, 0);
    uint64_t before = disk_bytes();
    prepare(20);
    CHECK_EQ(disk_bytes(), before);
    shop_reopen(&s, true); /* all of it survives a power cut, and is not made again */
    CHECK_EQ(figures().reserve_segments, 2);
    CHECK_EQ(disk_state(), INV_DISK_OK);
    shop_end(&s);
}

INV_TEST(what_is_no_reserve_is_dropped_or_left_alone) {
    begin();
    shop_shut(&s);
    inv_error error = {0};
    const inv_storage *storage = &s.env->storage;
    static const char *const names[] = {"reserve-0000000000000003", "reserve-000000000000000A",
                                        "reserve-1", "reserved"};
    for (uint32_t i = 0; i < 4; i++)
        CHECK_EQ(storage->write(storage->context, names[i], 0, "x", 1, true, &error), INV_OK);
    inv_memory_truncate(s.memory, RESERVE_1, SEGMENT - 1);
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(size_of(names[0]), 0); /* a number beyond two */
    for (uint32_t i = 1; i < 4; i++) CHECK_EQ(size_of(names[i]), 1);
    CHECK_EQ(size_of(RESERVE_2), SEGMENT);
    fill_reserve();
    CHECK_EQ(size_of(RESERVE_1), SEGMENT);
    shop_shut(&s);
    s.options.segment_bytes = SEGMENT / 2;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(figures().reserve_segments, 0);
    fill_reserve();
    CHECK_EQ(size_of(RESERVE_1), SEGMENT / 2);
    shop_end(&s);
}

/* ---- the states --------------------------------------------------------------------------- */

INV_TEST(what_goes_on_and_what_is_refused) {
    inv_line line = shop_line("A", "W", 1);
    begin();
    fill_disk();
    CHECK_EQ(shop_reserve(&s, "new", "A", "W", 1, 0), INV_DISK_FULL);
    CHECK_EQ(shop_reserve(&s, "r1", "A", "W", 1, TTL_MS), INV_DISK_FULL); /* a replay too */
    CHECK_EQ(shop_receive(&s, "A", "W", 1), INV_DISK_FULL);
    CHECK_EQ(shop_stock(&s, INV_CMD_ISSUE, NULL, "A", "W", 1), INV_DISK_FULL);
    CHECK_EQ(shop_stock(&s, INV_CMD_ADJUST, NULL, "A", "W", -1), INV_DISK_FULL);
    CHECK_EQ(shop_policy(&s, "A", "W", 3), INV_DISK_FULL);
    CHECK_EQ(shop_by_id(&s, INV_CMD_EXTEND, "r1"), INV_DISK_FULL);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r1"), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_SHIP, "r1"), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "r2"), INV_OK);
    CHECK_EQ(shop_by_id(&s, INV_CMD_CANCEL, "r3"), INV_OK);
    CHECK_EQ(shop_part(&s, INV_CMD_SHIP, "r4", "op", "A", "W", 1, false), INV_OK);
    CHECK_EQ(shop_level(&s, "A", "W").held, 96);
    /* In one call each gets its own answer, whatever stands before it. */
    inv_command mixed[] = {shop_command(INV_CMD_RESERVE, "new", &line, 1),
                           shop_command(INV_CMD_RELEASE, "r5", NULL, 0),
                           shop_command(INV_CMD_RECEIVE, NULL, &line, 1),
                           shop_command(INV_CMD_COMMIT, "", NULL, 0), /* malformed */
                           shop_command(INV_CMD_COMMIT, "r6", NULL, 0),
                           shop_command(INV_CMD_RESERVE, "new2", &line, 1)};
    static const int wanted[] = {INV_DISK_FULL,   INV_OK, INV_DISK_FULL,
                                 INV_BAD_REQUEST, INV_OK, INV_DISK_FULL};
    inv_reply replies[6];
    memset(replies, 0, sizeof replies);
    CHECK_EQ(inv_store_execute(s.store, mixed, 6, replies), INV_OK);
    for (uint32_t i = 0; i < 6; i++) CHECK_EQ(replies[i].code, wanted[i]);
    CHECK_EQ(shop_state(&s, "r6"), INV_STATE_ALLOCATED);
    CHECK_EQ(shop_state(&s, "new"), INV_STATE_NONE);
    /* Holds lapse. */
    shop_advance(&s, TTL_MS);
    CHECK_EQ(shop_level(&s, "A", "W").held, 0);
    CHECK_EQ(figures().now_unix_ms, s.clock_ms);
    shop_reopen(&s, true);
    CHECK_EQ(shop_state(&s, "r6"), INV_STATE_ALLOCATED);
    CHECK_EQ(shop_level(&s, "A", "W").held, 0);
    inv_memory_set_capacity(s.memory, 0);
    shop_end(&s);
}

INV_TEST(a_batch_on_a_full_disk) {
    uint8_t ids[40 * 16], codes[40];
    uint32_t skus[40];
    uint16_t locations[40];
    int64_t qtys[40];
    uint64_t lsn;
    inv_error error = {0};
    inv_text sku = shop_text("A");
    size_t bad;
    begin();
    CHECK_EQ(inv_store_numbers(s.store, INV_NAME_SKU, shop_text(NULL), &sku, 1, false, skus, &lsn,
                               &bad),
             INV_OK);
    for (uint32_t i = 0; i < 40; i++) {
        memset(ids + 16 * i, (int)i + 1, 16);
        ids[16 * i + 6] = 0x40;
        ids[16 * i + 8] = 0x80;
        skus[i] = skus[0];
        locations[i] = INV_LOCATION_NONE;
        qtys[i] = 1;
    }
    inv_batch batch = {.kind = INV_CMD_RESERVE,
                       .count = 20,
                       .ids = ids,
                       .skus = skus,
                       .locations = locations,
                       .qtys = qtys,
                       .ttl_ms = 3600000};
    CHECK_EQ(inv_store_execute_batch(s.store, &batch, codes, &lsn, &error), INV_OK);
    for (uint32_t i = 0; i < 20; i++) CHECK_EQ(codes[i], INV_OK);
    shop_settle(&s);
    fill_disk();
    batch.count = 40;
    CHECK_EQ(inv_store_execute_batch(s.store, &batch, codes, &lsn, &error), INV_OK);
    for (uint32_t i = 0; i < 40; i++) CHECK_EQ(codes[i], INV_DISK_FULL);
    static const uint8_t kinds[] = {INV_CMD_COMMIT, INV_CMD_SHIP};
    for (uint32_t k = 0; k < 2; k++) {
        inv_batch ends = {.kind = kinds[k], .count = 20, .ids = ids};
        CHECK_EQ(inv_store_execute_batch(s.store, &ends, codes, &lsn, &error), INV_OK);
        for (uint32_t i = 0; i < 20; i++) CHECK_EQ(codes[i], INV_OK);
        shop_settle(&s);
    }
    inv_memory_set_capacity(s.memory, 0);
    shop_end(&s);
}

INV_TEST(through_all_states_and_back) {
    begin();
    fill_disk();
    CHECK_EQ(figures().disk_full_count, 1);
    uint32_t ticks = use_up_reserve();
    CHECK(ticks > SEGMENT / 200); /* two segments of ticks, and no fewer */
    CHECK_EQ(figures().reserve_segments, 0);
    CHECK_EQ(figures().disk_read_only_count, 1);

    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "r10"), INV_DISK_FULL);
    CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r10"), INV_DISK_FULL);
    CHECK_EQ(shop_receive(&s, "A", "W", 1), INV_DISK_FULL);
    CHECK_EQ(shop_state(&s, "r10"), INV_STATE_HELD);
    CHECK_EQ(shop_level(&s, "A", "W").held, 100);
    shop_check(&s);

    /* Time waits, but for what may lie between two ticks. */
    inv_metrics before = figures();
    bool more;
    s.clock_ms += TTL_MS;
    inv_env_set_clock(s.env, s.clock_ms);
    CHECK_EQ(inv_store_advance(s.store, 64, &more), INV_DISK_FULL);
    inv_metrics after = figures();
    CHECK(after.now_unix_ms <= before.now_unix_ms + 1000);
    CHECK_EQ(after.lsn_appended, before.lsn_appended);
    CHECK(after.lag_ms >= TTL_MS - 2000);
    CHECK_EQ(shop_state(&s, "r10"), INV_STATE_HELD);

    /* Room for one segment: promises are kept again, and time catches up. */
    leave_room(SEGMENT + 1000);
    prepare(2);
    CHECK_EQ(disk_state(), INV_DISK_REFUSING);
    CHECK_EQ(shop_receive(&s, "A", "W", 1), INV_DISK_FULL);
    shop_advance(&s, 0);
    CHECK_EQ(figures().now_unix_ms, s.clock_ms);
    CHECK_EQ(shop_state(&s, "r10"), INV_STATE_EXPIRED);

    /* One reserve is not enough to leave, the second one is. */
    leave_room(SEGMENT + 1000);
    prepare(4);
    CHECK_EQ(figures().reserve_segments, 1);
    CHECK_EQ(disk_state(), INV_DISK_REFUSING);
    CHECK_EQ(figures().disk_recovered_count, 0);
    leave_room(SEGMENT + 1000);
    prepare(4);
    CHECK_EQ(disk_state(), INV_DISK_OK);
    CHECK_EQ(figures().disk_recovered_count, 1);
    CHECK_EQ(figures().disk_full_count, 1);
    CHECK_EQ(shop_receive(&s, "A", "W", 1), INV_OK);
    inv_memory_set_capacity(s.memory, 0);
    shop_reopen(&s, true);
    CHECK_EQ(shop_state(&s, "r10"), INV_STATE_EXPIRED);
    shop_end(&s);
}

INV_TEST(leaving_wants_two_segments_where_two_may_be_ready) {
    begin();
    shop_shut(&s);
    s.options.segments_ahead_max = 8;
    CHECK_EQ(shop_open(&s), INV_OK);
    fill_reserve();
    fill_disk();
    for (uint32_t files = 1; files <= 4; files++) { /* two segments, and what the reserve gave */
        uint64_t missing = 2 - figures().reserve_segments;
        bool enough = s.store->wal.ready - s.store->wal.current - 1 + (files > 0) >= 2 + missing;
        leave_room(SEGMENT + 1000);
        prepare(3);
        if (disk_state() == INV_DISK_OK) break;
        CHECK(!enough);
    }
    CHECK_EQ(disk_state(), INV_DISK_OK);
    CHECK(s.store->wal.ready - s.store->wal.current - 1 >= 2);
    CHECK_EQ(figures().reserve_segments, 2);
    inv_memory_set_capacity(s.memory, 0);
    shop_end(&s);
}

/* A short shortage: nothing of the reserve is taken while the current segment has room. */
INV_TEST(a_short_shortage_takes_no_reserve) {
    shop_init(&s, true);
    s.options.segment_bytes = 8u << 20; /* a rotation may waste 1 MiB: half of this is well more */
    s.options.snapshot_log_bytes = 0;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(shop_receive(&s, "A", "W", 10), INV_OK);
    prepare(40);
    CHECK_EQ(figures().reserve_segments, 2);
    /* As if the segment behind the current one had never been ready. */
    leave_room(1000);
    while (s.store->wal.current + 1 < s.store->wal.ready)
        (void)shop_receive(&s, "A", "W", 1);
    prepare(1);
    CHECK_EQ(disk_state(), INV_DISK_REFUSING);
    CHECK_EQ(figures().reserve_segments, 2);
    CHECK_EQ(shop_receive(&s, "A", "W", 1), INV_DISK_FULL);
    leave_room((8u << 20) + 1000);
    prepare(20);
    CHECK_EQ(disk_state(), INV_DISK_OK);
    inv_memory_set_capacity(s.memory, 0);
    shop_end(&s);
}

/* ---- no inodes, quotas, directories ------------------------------------------------------- */

typedef struct refusal {
    const char *call, *prefix;
    uint32_t count; /* refused so far */
    bool on;
} refusal;

static inv_result refuse_call(void *argument, uint64_t call, const char *what, const char *name,
                              bool after) {
    refusal *plan = argument;
    (void)call;
    if (after || !plan->on || strcmp(what, plan->call) != 0 ||
        strncmp(name, plan->prefix, strlen(plan->prefix)) != 0)
        return INV_OK;
    plan->count++;
    return INV_DISK_FULL;
}

/* The system says that there is room, and every new file is refused: no inodes, or a quota. */
static void without_new_files(const char *call, const char *prefix) {
    refusal plan = {.call = call, .prefix = prefix, .on = true};
    begin();
    inv_memory_set_hook(s.memory, refuse_call, &plan);
    int code = INV_OK;
    for (uint32_t i = 0; code == INV_OK && i < 100000; i++) code = shop_receive(&s, "A", "W", 1);
    CHECK_EQ(code, INV_DISK_FULL);
    CHECK_EQ(disk_state(), INV_DISK_REFUSING);
    CHECK_EQ(size_of("spare-0000000000000003"), 0); /* what was begun is given back */
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "r10"), INV_OK);
    /* Attempts become rarer. */
    plan.count = 0;
    prepare(100);
    CHECK_EQ(plan.count, 0);
    for (uint32_t i = 0; i < 300; i++) {
        s.clock_ms += 1000;
        inv_env_set_clock(s.env, s.clock_ms);
        prepare(2);
    }
    CHECK(plan.count >= 10 && plan.count <= 20);
    CHECK_EQ(disk_state(), INV_DISK_REFUSING);
    plan.on = false;
    s.clock_ms += 30000;
    inv_env_set_clock(s.env, s.clock_ms);
    prepare(6);
    CHECK_EQ(disk_state(), INV_DISK_OK);
    CHECK_EQ(shop_receive(&s, "A", "W", 1), INV_OK);
    inv_memory_set_hook(s.memory, NULL, NULL);
    shop_reopen(&s, true);
    shop_end(&s);
}

INV_TEST(no_inodes_are_a_full_disk) { without_new_files("prepare", "spare-"); }
INV_TEST(a_quota_met_while_syncing_is_a_full_disk) { without_new_files("prepare-sync", "spare-"); }
INV_TEST(a_directory_without_room_is_a_full_disk) { without_new_files("rename", "spare-"); }

/* Not even the reserve can get its name: the store stands, it does not fail. */
INV_TEST(no_room_for_any_name) {
    refusal plan = {.call = "rename", .prefix = "", .on = true};
    begin();
    inv_memory_set_hook(s.memory, refuse_call, &plan);
    int code = INV_OK;
    for (uint32_t i = 0; code == INV_OK && i < 100000; i++) code = shop_receive(&s, "A", "W", 1);
    CHECK_EQ(code, INV_DISK_FULL);
    CHECK_EQ(disk_state(), INV_DISK_REFUSING);
    bool more;
    for (uint32_t i = 0; disk_state() == INV_DISK_REFUSING && i < 10000; i++) {
        s.clock_ms += 1000;
        inv_env_set_clock(s.env, s.clock_ms);
        inv_result result = inv_store_advance(s.store, 64, &more);
        CHECK(result == INV_OK || result == INV_DISK_FULL);
        prepare(1);
    }
    CHECK_EQ(disk_state(), INV_DISK_READ_ONLY);
    CHECK_EQ(figures().reserve_segments, 2);
    CHECK_EQ(size_of(RESERVE_1), SEGMENT);
    plan.on = false;
    prepare(1);
    CHECK_EQ(disk_state(), INV_DISK_REFUSING);
    s.clock_ms += 30000;
    inv_env_set_clock(s.env, s.clock_ms);
    prepare(6);
    CHECK_EQ(disk_state(), INV_DISK_OK);
    inv_memory_set_hook(s.memory, NULL, NULL);
    shop_reopen(&s, true);
    shop_end(&s);
}

/* ---- opening ------------------------------------------------------------------------------ */

INV_TEST(opening_on_a_full_disk_takes_a_reserve) {
    begin();
    leave_room(1000);
    shop_shut(&s);
    CHECK_EQ(shop_open(&s), INV_OK);
    /* The segment that was ready when it was closed is void: its room makes up for the reserve. */
    CHECK_EQ(shop_by_id(&s, INV_CMD_RELEASE, "r10"), INV_OK);
    prepare(8);
    CHECK_EQ(figures().disk_full_count, 1);
    shop_shut(&s);
    /* Others take what is freed: then it takes one each time, and stops when there is none. */
    uint32_t opened = 0;
    for (uint32_t i = 0; i < 8; i++) {
        leave_room(0);
        inv_error error = {0};
        inv_result result = inv_store_open(s.env, &s.options, &s.store, &error);
        if (result != INV_OK) {
            s.store = NULL;
            CHECK_EQ(result, INV_DISK_FULL);
            CHECK_EQ(error.os_errno, ENOSPC);
            break;
        }
        opened++;
        CHECK_EQ(disk_state(), INV_DISK_REFUSING);
        leave_room(0);
        CHECK_EQ(shop_reserve(&s, "new", "A", "W", 1, 0), INV_DISK_FULL);
        CHECK_EQ(shop_by_id(&s, INV_CMD_COMMIT, "r20"), opened == 1 ? INV_OK : INV_REPLAYED);
        leave_room(0);
        inv_store_destroy(s.store);
        inv_memory_power_cut(s.memory, 0);
    }
    CHECK(opened >= 1 && opened <= 3);
    s.options.read_only = true; /* which needs no room */
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(shop_state(&s, "r20"), INV_STATE_ALLOCATED);
    inv_store_destroy(s.store);
    s.options.read_only = false;
    inv_memory_set_capacity(s.memory, 0);
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(disk_state(), INV_DISK_OK);
    CHECK_EQ(shop_state(&s, "r20"), INV_STATE_ALLOCATED);
    fill_reserve();
    shop_end(&s);
}

/* ---- a snapshot makes room ---------------------------------------------------------------- */

INV_TEST(a_snapshot_is_tried_at_once_and_frees_log) {
    begin();
    shop_shut(&s);
    s.options.snapshot_log_bytes = 1ull << 40; /* never by itself, and not forbidden */
    CHECK_EQ(shop_open(&s), INV_OK);
    fill_reserve();
    for (uint32_t i = 0; i < 8000; i++) CHECK_EQ(shop_receive(&s, "A", "W", 1), INV_OK);
    CHECK(s.store->wal.past_count >= 4);
    CHECK_EQ(figures().snapshots, 0);
    leave_room(SEGMENT / 2); /* too little for a segment, enough for a snapshot of this store */
    int code = INV_OK;
    for (uint32_t i = 0; code == INV_OK && i < 100000; i++) {
        inv_line line = shop_line("A", "W", 1);
        inv_command command = shop_command(INV_CMD_RECEIVE, NULL, &line, 1);
        memset(&s.reply, 0, sizeof s.reply);
        CHECK_EQ(inv_store_try_execute(s.store, &command, 1, &s.reply), INV_OK);
        code = s.reply.code;
        if (code != INV_BUSY) continue;
        bool more;
        CHECK_EQ(inv_store_flush(s.store), INV_OK);
        CHECK_EQ(inv_store_prepare(s.store, &more), INV_OK);
        code = INV_OK;
    }
    CHECK_EQ(code, INV_DISK_FULL);
    for (uint32_t i = 0; disk_state() != INV_DISK_OK && i < 200; i++) {
        bool more;
        prepare(1);
        s.clock_ms += 100;
        inv_env_set_clock(s.env, s.clock_ms);
        CHECK_EQ(inv_store_advance(s.store, 64, &more), INV_OK);
    }
    CHECK_EQ(disk_state(), INV_DISK_OK);
    CHECK_EQ(figures().snapshots, 2); /* the log is trimmed by the older of two */
    CHECK_EQ(shop_receive(&s, "A", "W", 1), INV_OK);
    inv_memory_set_capacity(s.memory, 0);
    shop_reopen(&s, true);
    CHECK_EQ(shop_level(&s, "A", "W").held, 100);
    shop_end(&s);
}

/* Nothing is logged between two snapshots of a read-only store: they begin at one lsn, and are one
 * file. The one before must stay the one that the log is trimmed by. */
INV_TEST(two_snapshots_at_one_place_are_one) {
    begin();
    s.store->snapshot_wanted++;
    shop_settle(&s);
    CHECK_EQ(figures().snapshots, 1);
    uint64_t first = figures().snapshot_lsn;
    fill_disk();
    (void)use_up_reserve();
    leave_room(SEGMENT / 2);
    for (uint32_t i = 0; i < 2; i++) {
        s.store->snapshot_wanted++;
        s.store->snapshot->retry_mono_ms = 0;
        shop_settle(&s);
    }
    CHECK_EQ(figures().snapshots, 3);
    CHECK(figures().snapshot_lsn > first);
    CHECK_EQ(s.store->snapshot_older_lsn, first);
    inv_memory_set_capacity(s.memory, 0);
    shop_settle(&s);
    shop_advance(&s, 1);
    shop_end(&s);
}

INV_TEST_MAIN()
