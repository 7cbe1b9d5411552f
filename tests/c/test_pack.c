/* SPDX-License-Identifier: Apache-2.0
 *
 * test_pack.c: the housekeeper packs the tables of a store over a real heap (inv_heap.c). What is
 * freed is overwritten at once, so that whoever still looks at an old array sees nonsense.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* mincore, MADV_NOHUGEPAGE */
#endif
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../src/invcore/base/inv_heap.h"
#include "../../src/invcore/store/inv_store.h"
#include "shop.h"

#define LOCATIONS 3u
#define SKUS_MAX 150000u
#define NAMES_AT_ONCE 1000u
#define STRIPE_BITS 8u
#define STEP_STRIPES 64u /* of inv_pack.c */
#define ASK_EVERY_MS 500u

/* ---- a heap as the allocator ----------------------------------------------------------------- */

#define CHUNKS_MAX 64u
#define PAGE_BYTES 4096u /* of mincore: no Linux has smaller ones */

typedef struct memory {
    inv_heap heap;
    uint8_t *chunks[CHUNKS_MAX]; /* NULL: none */
    size_t chunk_bytes[CHUNKS_MAX];
    uint64_t asked;
    bool empty; /* nothing is to be had */
} memory;

static memory m;

/* Aligned to huge pages, but on small ones: what is touched can be counted. */
static void *chunk_map(void *context, size_t bytes) {
    (void)context;
    uint8_t *start = mmap(NULL, bytes + INV_HEAP_PAGE_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) abort();
    size_t head = (size_t)(-(uintptr_t)start % INV_HEAP_PAGE_BYTES);
    if (head > 0) (void)munmap(start, head);
    (void)munmap(start + head + bytes, INV_HEAP_PAGE_BYTES - head);
    (void)madvise(start + head, bytes, MADV_NOHUGEPAGE);
    for (uint32_t i = 0; i < CHUNKS_MAX; i++) {
        if (m.chunks[i] != NULL) continue;
        m.chunks[i] = start + head;
        m.chunk_bytes[i] = bytes;
        return start + head;
    }
    abort();
}

static void chunk_unmap(void *context, void *chunk, size_t bytes) {
    (void)context;
    (void)munmap(chunk, bytes);
    for (uint32_t i = 0; i < CHUNKS_MAX; i++)
        if (m.chunks[i] == chunk) m.chunks[i] = NULL;
}

static void chunk_drop(void *context, void *pages, size_t bytes) {
    (void)context;
    (void)madvise(pages, bytes, MADV_DONTNEED);
}

/* What the heap costs: pages that are there, used or not. */
static uint64_t resident(void) {
    static unsigned char there[INV_HEAP_CHUNK_BYTES_MAX / PAGE_BYTES];
    uint64_t pages = 0, page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    for (uint32_t i = 0; i < CHUNKS_MAX; i++) {
        if (m.chunks[i] == NULL) continue;
        CHECK_EQ(mincore(m.chunks[i], m.chunk_bytes[i], there), 0);
        for (size_t k = 0; k < m.chunk_bytes[i] / page_bytes; k++) pages += there[k] & 1;
    }
    return pages * page_bytes;
}

static void *take(void *context, size_t bytes) {
    (void)context;
    if (m.empty) return NULL;
    if (bytes >= 1024 && bytes <= INV_HEAP_BLOCK_BYTES_MAX)
        return inv_heap_alloc(&m.heap, bytes);
    void *block = aligned_alloc(INV_CACHE_LINE, (bytes + 64) & ~(size_t)63);
    if (block == NULL) abort();
    return memset(block, 0, (bytes + 64) & ~(size_t)63);
}

static void give(void *context, void *pointer, size_t bytes) {
    (void)context;
    memset(pointer, 0xEE, bytes);
    if (bytes >= 1024 && bytes <= INV_HEAP_BLOCK_BYTES_MAX) inv_heap_free(&m.heap, pointer);
    else free(pointer);
}

static bool pack(void *context) {
    (void)context;
    m.asked++;
    return inv_heap_pack(&m.heap);
}

static bool leaves(void *context, const void *pointer, size_t bytes) {
    (void)context;
    return bytes >= 1024 && bytes <= INV_HEAP_BLOCK_BYTES_MAX && inv_heap_leaves(&m.heap, pointer);
}

/* ---- a store in it, and what it must hold ---------------------------------------------------- */

static shop s;
static inv_allocator usual;
static uint16_t on_hand[SKUS_MAX][LOCATIONS];
static uint32_t sku_count;

static void names_of(uint32_t sku, uint32_t location, char out[2][48]) {
    snprintf(out[0], 48, "SKU-%u-of-a-catalogue-with-long-names", sku);
    snprintf(out[1], 48, "L%u", location);
}

static void receive(inv_test_rng *rng) {
    char names[2][48];
    uint32_t sku = (uint32_t)inv_test_rng_below(rng, sku_count);
    uint32_t location = (uint32_t)inv_test_rng_below(rng, LOCATIONS);
    names_of(sku, location, names);
    CHECK_EQ(shop_receive(&s, names[0], names[1], 1), INV_OK);
    on_hand[sku][location]++;
}

static void name_skus(uint32_t from, uint32_t count) {
    static char bytes[NAMES_AT_ONCE][2][48];
    static inv_text names[NAMES_AT_ONCE];
    static uint32_t numbers[NAMES_AT_ONCE];
    uint64_t lsn;
    size_t bad;
    for (uint32_t i = 0; i < count; i++) {
        names_of(from + i, 0, bytes[i]);
        names[i] = shop_text(bytes[i][0]);
    }
    CHECK_EQ(inv_store_numbers(s.store, INV_NAME_SKU, shop_text(NULL), names, count, true, numbers,
                               &lsn, &bad),
             INV_OK);
}

/* Arrays of all stripes grow in turns, by an eighth each time, and leave holes of all sizes. */
static void begin_store(inv_test_rng *rng) {
    memset(&m, 0, sizeof m);
    inv_heap_init(&m.heap, chunk_map, chunk_unmap, chunk_drop, &m);
    memset(on_hand, 0, sizeof on_hand);
    sku_count = (uint32_t)inv_min_u64(SKUS_MAX, 75000 + inv_test_scaled(75000));
    shop_init(&s, false);
    usual = s.env->allocator;
    s.env->allocator = (inv_allocator){NULL, take, give, pack, leaves};
    s.options.stripe_bits = STRIPE_BITS;
    CHECK_EQ(shop_open(&s), INV_OK);
    for (uint32_t from = 0; from < sku_count; from += NAMES_AT_ONCE) {
        name_skus(from, (uint32_t)inv_min_u64(NAMES_AT_ONCE, sku_count - from));
        for (uint32_t i = 0; i < NAMES_AT_ONCE; i++) receive(rng);
    }
}

static bool is_as_it_was(uint32_t sku, uint32_t location) {
    char names[2][48];
    inv_stock_level level;
    names_of(sku, location, names);
    inv_line line = shop_line(names[0], names[1], 0);
    inv_result result = inv_store_availability(s.store, shop_text(NULL), &line, &level);
    return result == INV_OK && level.on_hand == on_hand[sku][location];
}

static void check_all(void) {
    for (uint32_t sku = 0; sku < sku_count; sku++)
        for (uint32_t location = 0; location < LOCATIONS; location++)
            if (!is_as_it_was(sku, location)) CHECK(!"a row is not what it was");
    for (uint32_t i = 0; i < s.store->stripe_count; i++)
        CHECK_EQ(atomic_load(&s.store->stripes[i].sequence) % 2, 0);
    shop_check(&s);
}

static void end_store(void) {
    inv_env *env = s.env;
    shop_shut(&s);
    env->allocator = usual;
    inv_env_destroy(env);
    CHECK_EQ(m.heap.used_bytes, 0);
    inv_heap_deinit(&m.heap);
    for (uint32_t i = 0; i < CHUNKS_MAX; i++) CHECK(m.chunks[i] == NULL);
}

static void pass_time(uint64_t ms) {
    s.clock_ms += ms;
    inv_env_set_clock(s.env, s.clock_ms);
}

/* Asks as the housekeeper does until a round begins; false: it does not. */
static bool begin_packing(void) {
    for (uint32_t i = 0; i < 4 && !s.store->packing; i++) {
        pass_time(ASK_EVERY_MS);
        inv_pack_step(s.store);
    }
    return s.store->packing;
}

/* ---- tests ----------------------------------------------------------------------------------- */

INV_TEST(packing_closes_the_holes_and_loses_nothing) {
    inv_test_rng rng = inv_test_rng_of(1);
    uint32_t steps = 0;
    begin_store(&rng);
    uint64_t before = resident();
    REQUIRE(begin_packing());
    while (s.store->packing && CHECK(steps < 1000)) {
        uint32_t left = s.store->pack_left;
        uint64_t asked = m.asked;
        inv_pack_step(s.store);
        steps++;
        if (left > 0) { /* in the middle of a round: so many stripes, and nobody is asked */
            CHECK_EQ(s.store->pack_left, left - STEP_STRIPES);
            CHECK_EQ(m.asked, asked);
        } else { /* the next round needs no time to have passed */
            CHECK_EQ(m.asked, asked + 1);
        }
        for (uint32_t i = 0; i < 20; i++) receive(&rng);
        if (steps % 16 == 0) check_all();
    }
    CHECK(steps >= s.store->stripe_count / STEP_STRIPES);
    check_all();
    CHECK(resident() < before - before / 16); /* what the holes cost went back to the system */
    end_store();
}

/* Nothing is looked at while there is nothing to pack, and asked no more than twice a second. */
INV_TEST(packing_is_asked_for_twice_a_second) {
    inv_test_rng rng = inv_test_rng_of(2);
    begin_store(&rng);
    m.asked = 0;
    for (uint32_t i = 0; i < 100; i++) {
        inv_pack_step(s.store);
        inv_heap_free(&m.heap, inv_heap_alloc(&m.heap, 2000)); /* never quiet: no round begins */
        pass_time(ASK_EVERY_MS / 10);
    }
    CHECK_EQ(m.asked, 10);
    CHECK_EQ(s.store->pack_left, 0);
    s.env->allocator.pack = NULL; /* an allocator that knows no packing */
    pass_time(10 * ASK_EVERY_MS);
    inv_pack_step(s.store);
    CHECK(m.asked == 10 && !s.store->packing);
    check_all();
    end_store();
}

/* Tables stay where they are when nothing is to be had, and the round still ends. */
INV_TEST(packing_without_memory_changes_nothing) {
    inv_test_rng rng = inv_test_rng_of(3);
    begin_store(&rng);
    REQUIRE(begin_packing());
    uint64_t used = m.heap.used_bytes, lsn = 0;
    static const void *rows[1u << STRIPE_BITS];
    for (uint32_t i = 0; i < s.store->stripe_count; i++) {
        rows[i] = s.store->stripes[i].table.rows;
        lsn += atomic_load(&s.store->stripes[i].lsn_touched);
    }
    m.empty = true;
    for (uint32_t i = 0; i < 1000 && s.store->packing; i++) inv_pack_step(s.store);
    m.empty = false;
    CHECK(!s.store->packing);
    CHECK_EQ(m.heap.used_bytes, used);
    for (uint32_t i = 0; i < s.store->stripe_count; i++) {
        CHECK(rows[i] == s.store->stripes[i].table.rows);
        lsn -= atomic_load(&s.store->stripes[i].lsn_touched);
    }
    CHECK_EQ(lsn, 0);
    check_all();
    for (uint32_t i = 0; i < 1000; i++) receive(&rng);
    check_all();
    end_store();
}

INV_TEST_MAIN()
