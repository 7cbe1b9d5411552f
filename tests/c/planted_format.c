/* SPDX-License-Identifier: Apache-2.0
 *
 * planted_format.c: the gate between two releases. With INV_PLANT_NEXT_FORMAT this code is the next
 * release, which knows format 2.0; without, it is this one. Both open one store in turns: before
 * the gate either can, after it only the newer one.
 */
#include "../../src/invcore/log/inv_snap_reader.h"
#include "../../src/invcore/store/inv_snapshot.h"
#include "shop.h"

static shop s;

static void be(inv_plant release) { inv_planted_bug = (int)release; }
static void be_this_release(void) { be(INV_PLANT_NONE); }
static void be_the_next_release(void) { be(INV_PLANT_NEXT_FORMAT); }

static inv_format in_force(void) {
    inv_recovery recovery;
    inv_store_recovery(s.store, &recovery);
    return recovery.format;
}

/* Opens as this release must: not at all. */
static void check_refused(const char *message) {
    inv_error error;
    memset(&error, 0, sizeof error);
    inv_store *store = NULL;
    be_this_release();
    CHECK_EQ(inv_store_open(s.env, &s.options, &store, &error), INV_FORMAT_UNKNOWN);
    if (!CHECK(strstr(error.message, message) != NULL)) fprintf(stderr, "%s\n", error.message);
    if (!CHECK(strstr(error.message, "format 1.0") != NULL))
        fprintf(stderr, "%s\n", error.message);
    if (store != NULL) inv_store_destroy(store);
}

static void check_stock(int64_t on_hand) {
    CHECK_EQ(shop_level(&s, "TEE", "LON").on_hand, on_hand);
}

/* The flusher is turned by hand, so the first call comes back before the gate is durable. */
static inv_result finalize(inv_format *out) {
    inv_error error;
    memset(&error, 0, sizeof error);
    inv_result result = inv_store_finalize(s.store, 0, out, &error);
    if (result != INV_BUSY) return result;
    CHECK_EQ(inv_wal_format(&s.store->wal).major, 1); /* not before it is durable */
    uint64_t tail = s.store->wal.tail;
    CHECK_EQ(inv_store_finalize(s.store, 0, out, &error), INV_BUSY);
    CHECK_EQ(s.store->wal.tail, tail); /* logged once */
    shop_settle(&s);
    return inv_store_finalize(s.store, 0, out, &error);
}

static void crash(void) {
    inv_store_destroy(s.store);
    s.store = NULL;
    inv_memory_power_cut(s.memory, 0);
}

/* A store with something in it, last written by the next release, not finalized. */
static void start(void) {
    be_this_release();
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "TEE", "LON", 5), INV_OK);
    shop_shut(&s);
    be_the_next_release();
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(in_force().major, 1);
    CHECK_EQ(shop_receive(&s, "TEE", "LON", 5), INV_OK);
}

INV_TEST(one_format_needs_no_gate) {
    inv_format format = {0};
    be_this_release();
    shop_start(&s, true);
    shop_settle(&s);
    uint64_t tail = s.store->wal.tail;
    CHECK_EQ(finalize(&format), INV_OK);
    CHECK(format.major == 1 && format.minor == 0 && format.features == 0);
    CHECK_EQ(s.store->wal.tail, tail);
    shop_end(&s);
}

INV_TEST(who_may_not_finalize) {
    inv_error error;
    be_this_release();
    shop_start(&s, false);
    CHECK_EQ(inv_store_finalize(s.store, 0, NULL, &error), INV_BAD_REQUEST);
    shop_end(&s);
    shop_start(&s, true);
    shop_shut(&s);
    s.options.read_only = true;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(inv_store_finalize(s.store, 0, NULL, &error), INV_FORBIDDEN);
    shop_end(&s);
}

INV_TEST(a_store_of_the_next_release_is_of_this_format) {
    be_the_next_release();
    shop_start(&s, true);
    CHECK_EQ(in_force().major, 1);
    shop_shut(&s);
    be_this_release();
    CHECK_EQ(shop_open(&s), INV_OK);
    shop_end(&s);
}

INV_TEST(before_the_gate_the_release_before_opens_it) {
    start();
    shop_settle(&s);
    crash();
    be_this_release();
    CHECK_EQ(shop_open(&s), INV_OK);
    check_stock(10);
    CHECK_EQ(shop_receive(&s, "TEE", "LON", 5), INV_OK);
    shop_shut(&s);
    be_the_next_release();
    CHECK_EQ(shop_open(&s), INV_OK);
    check_stock(15);
    shop_end(&s);
}

INV_TEST(after_the_gate_it_refuses) {
    inv_format format = {0};
    start();
    CHECK_EQ(finalize(&format), INV_OK);
    CHECK(format.major == 2 && format.features == 1);
    uint64_t tail = s.store->wal.tail;
    CHECK_EQ(finalize(&format), INV_OK); /* again: nothing to be done */
    CHECK(format.major == 2 && s.store->wal.tail == tail);
    CHECK_EQ(shop_receive(&s, "TEE", "LON", 5), INV_OK);
    shop_shut(&s);
    check_refused("STATE: format 2.0");
    be_the_next_release();
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK(in_force().major == 2 && in_force().features == 1);
    CHECK_EQ(finalize(&format), INV_OK);
    check_stock(15);
    shop_end(&s);
}

/* STATE as it was some time ago: what a crash between a gate and STATE leaves. */
static void put_state(const uint8_t *bytes, uint64_t size) {
    uint64_t now_size;
    uint8_t *state = inv_memory_file(s.memory, "STATE", &now_size);
    if (!CHECK(state != NULL && now_size == size)) return;
    memcpy(state, bytes, size);
    inv_memory_settle(s.memory);
}

/* The gate is durable, STATE does not say it yet. */
INV_TEST(a_crash_between_gate_and_state) {
    uint8_t before[2 * INV_STATE_SLOT_BYTES];
    uint64_t size;
    inv_format format;
    start();
    shop_settle(&s);
    const uint8_t *state = inv_memory_file(s.memory, "STATE", &size);
    CHECK_EQ(size, sizeof before);
    memcpy(before, state, sizeof before);
    CHECK_EQ(finalize(&format), INV_OK);
    crash();
    put_state(before, sizeof before);
    check_refused("a gate to format 2.0, feature bits 0x1");
    check_refused("a gate to format 2.0, feature bits 0x1"); /* refusing changed nothing */
    be_the_next_release();
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(in_force().major, 2); /* replaying the gate put it in force, in STATE too */
    check_stock(10);
    crash();
    check_refused("STATE: format 2.0");
    be_the_next_release();
    CHECK_EQ(shop_open(&s), INV_OK);
    crash();
    put_state(before, sizeof before); /* headers of segments say it as well */
    check_refused("wal-0000000000000");
    be_the_next_release();
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(in_force().major, 2);
    shop_end(&s);
}

static void take_snapshot(void) {
    bool more = true;
    atomic_fetch_add(&s.store->snapshot_wanted, 1);
    for (uint32_t i = 0; more && i < 100000; i++) {
        CHECK_EQ(inv_store_flush(s.store), INV_OK);
        CHECK_EQ(inv_store_prepare(s.store, &more), INV_OK);
        more |= s.store->snapshot->phase != INV_SNAPSHOT_IDLE;
    }
    CHECK_EQ(s.store->snapshot_failures, 0);
}

INV_TEST(snapshots_say_the_format_too) {
    inv_format format;
    inv_error error;
    inv_snap_list list;
    inv_snap_file file;
    start();
    CHECK_EQ(finalize(&format), INV_OK);
    CHECK_EQ(shop_receive(&s, "TEE", "LON", 5), INV_OK);
    shop_settle(&s);
    take_snapshot();
    CHECK_EQ(inv_snap_find(s.env, &list, &error), INV_OK);
    CHECK_EQ(list.count, 1);
    memset(&error, 0, sizeof error);
    CHECK_EQ(inv_snap_open(&file, s.env, &s.store->identity, list.start_lsns[0], list.bytes[0],
                           &error),
             INV_OK);
    CHECK(file.format.major == 2 && file.format.features == 1);
    inv_snap_close(&file);
    be_this_release();
    CHECK_EQ(inv_snap_open(&file, s.env, &s.store->identity, list.start_lsns[0], list.bytes[0],
                           &error),
             INV_FORMAT_UNKNOWN);
    CHECK(strstr(error.message, "format 2.0 with feature bits 0x1") != NULL);
    inv_snap_close(&file);
    be_the_next_release();
    shop_reopen(&s, true);
    CHECK_EQ(in_force().major, 2);
    check_stock(15);
    shop_end(&s);
}

/* The log of a closed store is read up to the gate. */
INV_TEST(reading_the_log_ends_at_the_gate) {
    inv_format format;
    inv_log *log = NULL;
    inv_error error;
    bool seen = false;
    uint8_t before[2 * INV_STATE_SLOT_BYTES];
    uint64_t size;
    start();
    shop_settle(&s);
    memcpy(before, inv_memory_file(s.memory, "STATE", &size), sizeof before);
    CHECK_EQ(finalize(&format), INV_OK);
    crash();
    put_state(before, sizeof before);
    for (int release = 0; release < 2; release++) {
        inv_log_record record;
        inv_log_entry entry;
        bool more = true, more_entries = true;
        inv_result result = INV_OK;
        if (release == 0) be_this_release();
        else be_the_next_release();
        CHECK_EQ(inv_log_open(s.env, &log, &error), INV_OK);
        while (result == INV_OK && more) {
            result = inv_log_next(log, &record, &more, &error);
            more_entries = more;
            while (result == INV_OK && more_entries) {
                result = inv_log_next_entry(log, &entry, &more_entries, &error);
                seen |= result == INV_OK && more_entries && entry.format.major == 2;
            }
        }
        CHECK_EQ(result, release == 0 ? INV_FORMAT_UNKNOWN : INV_OK);
        CHECK_EQ(seen, release == 1);
        inv_log_close(log);
    }
    be_the_next_release();
    CHECK_EQ(shop_open(&s), INV_OK);
    shop_end(&s);
}

/* The test of the gate can fail: a reader that passes it opens what it must not. */
INV_TEST(a_reader_that_passes_the_gate_is_seen) {
    uint8_t before[2 * INV_STATE_SLOT_BYTES];
    uint64_t size;
    inv_format format;
    start();
    shop_settle(&s);
    memcpy(before, inv_memory_file(s.memory, "STATE", &size), sizeof before);
    CHECK_EQ(finalize(&format), INV_OK);
    crash();
    put_state(before, sizeof before);
    be(INV_PLANT_GATE_UNCHECKED);
    s.options.read_only = true;
    CHECK_EQ(shop_open(&s), INV_OK);
    shop_end(&s);
}

INV_TEST_MAIN()
