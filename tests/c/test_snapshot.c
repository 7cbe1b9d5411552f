/* SPDX-License-Identifier: Apache-2.0
 *
 * test_snapshot.c: snapshots of a store that goes on (snapshot_body.h), and what may go wrong.
 */
#include <pthread.h>

#include "snapshot_body.h"

INV_TEST(a_snapshot_and_the_log_are_the_store) { snapshot_and_log_are_the_store(); }
INV_TEST(within_a_snapshot_an_id_is_one_reservation) { id_is_one_reservation(); }
INV_TEST(the_log_is_trimmed_and_two_are_kept) { log_is_trimmed_and_two_are_kept(); }

/* Items of all lengths: every block is filled to its brim, whatever stands there. */
INV_TEST(blocks_of_items_of_all_lengths) {
    enum { NAMES = 4096, ROUNDS = 40 };
    static char texts[NAMES][64];
    static inv_text names[NAMES];
    static uint32_t numbers[NAMES];
    inv_test_rng rng = inv_test_rng_of(11);
    shop_init(&s, true);
    s.options.stripe_bits = 12; /* many sections, of which some end where a block does */
    s.options.segment_bytes = 16u << 20;
    s.options.snapshot_log_bytes = 0;
    CHECK_EQ(shop_open(&s), INV_OK);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < NAMES; i++) {
            uint32_t length = (uint32_t)snprintf(texts[i], sizeof texts[i], "%u-%u-", round, i);
            uint32_t more = (uint32_t)inv_test_rng_below(&rng, 40);
            memset(texts[i] + length, 'x', more);
            names[i] = (inv_text){texts[i], length + more};
        }
        uint64_t lsn;
        size_t bad;
        CHECK_EQ(inv_store_numbers(s.store, INV_NAME_SKU, shop_text(NULL), names, NAMES, true,
                                   numbers, &lsn, &bad),
                 INV_OK);
        ask_for_one();
        shop_settle(&s);
        CHECK_EQ(s.store->snapshot_failures, 0);
    }
    shop_reopen(&s, true);
    inv_recovery recovery;
    inv_store_recovery(s.store, &recovery);
    CHECK(recovery.snapshot_lsn != 0 && recovery.snapshots_damaged == 0);
    inv_check_report report;
    memset(&report, 0, sizeof report);
    CHECK_EQ(inv_store_check(s.store, &report), INV_OK);
    CHECK_EQ(report.skus, NAMES * ROUNDS);
    shop_end(&s);
}

/* ---- which there are ------------------------------------------------------------------------- */

typedef struct file {
    char name[INV_FILE_NAME_MAX + 1];
    uint64_t bytes;
} file;

typedef struct directory {
    uint32_t count;
    file files[4 * INV_SNAP_LIST_MAX];
} directory;

static inv_result list_directory(void *context,
                                 bool (*visit)(void *argument, const char *name, uint64_t size),
                                 void *argument, inv_error *error) {
    const directory *all = context;
    (void)error;
    for (uint32_t i = 0; i < all->count; i++)
        if (!visit(argument, all->files[i].name, all->files[i].bytes)) break;
    return INV_OK;
}

/* Snapshots 1 to `count`, and names that only look like one, in random order. */
static void make_directory(directory *all, uint32_t count, inv_test_rng *rng) {
    static const char *const others[] = {
        INV_SNAP_PREFIX "0000000000000000", INV_SNAP_PREFIX "00000000000fffff0", /* too long */
        INV_SNAP_PREFIX "fffff0", INV_SNAP_PREFIX "00000000000FFFFF", INV_SNAP_UNFINISHED,
        "wal-0000000000fffff0"};
    uint32_t other_count = sizeof others / sizeof others[0];
    for (all->count = 0; all->count < count + other_count; all->count++) {
        uint32_t at = (uint32_t)inv_test_rng_below(rng, all->count + 1), number = all->count + 1;
        all->files[all->count] = all->files[at];
        file *made = &all->files[at];
        made->bytes = number;
        if (number <= count) inv_snap_name(made->name, 1000ull * number);
        else snprintf(made->name, sizeof made->name, "%s", others[number - count - 1]);
    }
}

/* The newest are listed, newest first, in whatever order the directory gives them. */
INV_TEST(of_many_snapshots_the_newest_are_listed) {
    const uint32_t counts[] = {0, 1, INV_SNAP_LIST_MAX - 1, INV_SNAP_LIST_MAX,
                               INV_SNAP_LIST_MAX + 2, 3 * INV_SNAP_LIST_MAX};
    inv_test_rng rng = inv_test_rng_of(12);
    static directory all;
    for (uint32_t round = 0; round < 20 * sizeof counts / sizeof counts[0]; round++) {
        uint32_t count = counts[round / 20];
        make_directory(&all, count, &rng);
        inv_env *env = inv_env_create();
        env->storage.context = &all;
        env->storage.list = list_directory;
        inv_snap_list list;
        inv_error error = {0};
        CHECK_EQ(inv_snap_find(env, &list, &error), INV_OK);
        CHECK_EQ(list.count, inv_min_u64(count, INV_SNAP_LIST_MAX));
        for (uint32_t i = 0; i < list.count; i++) {
            CHECK_EQ(list.start_lsns[i], 1000ull * (count - i));
            CHECK_EQ(list.bytes[i], count - i);
        }
        inv_env_destroy(env);
    }
}

/* ---- failures -------------------------------------------------------------------------------- */

INV_TEST(a_full_disk_is_not_the_stores_failure) {
    inv_test_rng rng = inv_test_rng_of(7);
    begin(2, 1); /* one is due whenever anything was written */
    for (uint32_t i = 0; i < 300; i++) live(&rng);
    while (!is_copying()) live(&rng);
    inv_memory_set_capacity(s.memory, 1);
    for (uint32_t i = 0; i < 400 && s.store->snapshot_failures == 0; i++) settle_once();
    CHECK(!is_copying() && s.store->snapshot->failure.code == INV_DISK_FULL);
    CHECK(!s.store->snapshot_copying);
    uint32_t taken = (uint32_t)s.store->snapshots;
    inv_memory_set_capacity(s.memory, 0);
    uint64_t size;
    CHECK(inv_memory_file(s.memory, INV_SNAP_UNFINISHED, &size) == NULL);
    settle_once();
    CHECK(!is_copying()); /* by itself not so soon */
    ask_for_one();
    settle_once();
    CHECK(is_copying()); /* but for whoever asks */
    while (is_copying()) settle_once();
    CHECK_EQ(s.store->snapshots, taken + 1);
    CHECK_EQ(s.store->snapshot_good, s.store->snapshot_wanted);
    shop_reopen(&s, true);
    inv_recovery recovery;
    inv_store_recovery(s.store, &recovery);
    CHECK(recovery.snapshot_lsn != 0 && recovery.snapshots_damaged == 0);
    shop_end(&s);
}

INV_TEST(who_may_not_ask) {
    inv_error error;
    shop_start(&s, false);
    CHECK_EQ(inv_store_snapshot(s.store, 1000, &error), INV_BAD_REQUEST);
    shop_end(&s);
    shop_start(&s, true);
    shop_shut(&s);
    s.options.read_only = true;
    CHECK_EQ(shop_open(&s), INV_OK);
    CHECK_EQ(inv_store_snapshot(s.store, 1000, &error), INV_FORBIDDEN);
    shop_end(&s);
    shop_init(&s, true);
    s.options.snapshot_log_bytes = 1ull << 50;
    CHECK_EQ(shop_open(&s), INV_OK);
    shop_shut(&s);
    s.options.snapshot_log_bytes++;
    CHECK_EQ(shop_open(&s), INV_BAD_REQUEST);
    shop_end(&s);
}

/* ---- with threads ---------------------------------------------------------------------------- */

static void *run_housekeeper(void *store) {
    inv_store_run_housekeeper(store);
    return NULL;
}
static void *run_flusher(void *store) {
    inv_store_run_flusher(store);
    return NULL;
}

INV_TEST(a_caller_waits_for_the_one_he_asked_for) {
    inv_error error;
    pthread_t loops[2];
    shop_start(&s, true);
    for (uint32_t i = 0; i < 50; i++) {
        char sku[64];
        (void)numbered(sku, "S", i);
        CHECK_EQ(shop_receive(&s, sku, "LON", 5), INV_OK);
    }
    pthread_create(&loops[0], NULL, run_flusher, s.store);
    pthread_create(&loops[1], NULL, run_housekeeper, s.store);
    uint64_t before = 0;
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(inv_store_snapshot(s.store, 60000, &error), INV_OK);
        inv_snap_list list = snapshots_on(s.env);
        CHECK(list.count >= 1 && list.start_lsns[0] >= before);
        before = list.start_lsns[0];
    }
    inv_store_stop(s.store);
    pthread_join(loops[0], NULL);
    pthread_join(loops[1], NULL);
    shop_reopen(&s, true);
    inv_recovery recovery;
    inv_store_recovery(s.store, &recovery);
    CHECK_EQ(recovery.snapshot_lsn, before);
    shop_end(&s);
}

INV_TEST_MAIN()
