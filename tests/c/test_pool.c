/* SPDX-License-Identifier: Apache-2.0
 *
 * test_pool.c: the pool against a map of who owns which granule.
 *
 * The allocator below counts, fails the n-th call on request, hands out one shared region for the
 * test of the reference limit, and checks that every free names the size of its alloc.
 */
#include <pthread.h>
#include <stdlib.h>

#include "../../src/invcore/base/inv_pool.h"
#include "inv_test.h"

static inv_test_rng rng; /* of the test that runs */
static uint64_t roll(uint64_t bound) { return inv_test_rng_below(&rng, bound); }

#define MAP_REGIONS 192u
#define MAP_GRANULES (MAP_REGIONS << INV_REGION_GRANULE_BITS)
#define REGION_GRANULES (1u << INV_REGION_GRANULE_BITS)
#define TABLE_BYTES ((uint64_t)INV_REGION_COUNT_MAX * sizeof(void *))

/* ---- allocator ------------------------------------------------------------------------------- */

typedef struct test_allocator {
    pthread_mutex_t mutex;
    uint64_t calls;       /* of alloc, from 1 */
    uint64_t fail_from;   /* calls from this one on fail; 0 = none */
    uint64_t fail_count;  /* how many fail before memory is back */
    uint64_t live_bytes;
    void *shared_region;  /* if set, every region is this one: addresses nobody touches */
} test_allocator;

static void *test_alloc(void *context, size_t bytes) {
    test_allocator *allocator = context;
    pthread_mutex_lock(&allocator->mutex);
    uint64_t call = ++allocator->calls;
    bool fails = allocator->fail_from != 0 && call >= allocator->fail_from &&
                 call - allocator->fail_from < allocator->fail_count;
    if (!fails) allocator->live_bytes += bytes;
    pthread_mutex_unlock(&allocator->mutex);
    if (fails) return NULL;
    if (allocator->shared_region != NULL && allocator->calls > 1) return allocator->shared_region;
    void *pointer = NULL;
    if (posix_memalign(&pointer, INV_CACHE_LINE, bytes) != 0) abort();
    memset(pointer, 0, bytes);
    return pointer;
}

static void test_free(void *context, void *pointer, size_t bytes) {
    test_allocator *allocator = context;
    pthread_mutex_lock(&allocator->mutex);
    CHECK(allocator->live_bytes >= bytes);
    allocator->live_bytes -= bytes;
    pthread_mutex_unlock(&allocator->mutex);
    if (pointer != allocator->shared_region) free(pointer);
}

static inv_env env_over(test_allocator *allocator) {
    inv_env env;
    memset(&env, 0, sizeof(env));
    env.allocator = (inv_allocator){.context = allocator, .alloc = test_alloc, .free = test_free};
    return env;
}

#define TEST_ALLOCATOR {.mutex = PTHREAD_MUTEX_INITIALIZER}

/* ---- single cases ---------------------------------------------------------------------------- */

INV_TEST(class_for) {
    CHECK_EQ(inv_pool_class_for(0), 0);
    CHECK_EQ(inv_pool_class_for(1), 0);
    for (uint32_t class = 0; class < INV_POOL_CLASS_COUNT; class++) {
        size_t limit = (size_t)INV_GRANULE_BYTES << class;
        CHECK_EQ(inv_pool_class_for(limit), class);
        CHECK_EQ(inv_pool_class_for(limit - 1), class);
        CHECK_EQ(inv_pool_class_for(limit + 1), class + 1);
    }
}

/* One block of each class: small classes share regions, so that little data needs little memory. */
INV_TEST(first_blocks) {
    test_allocator allocator = TEST_ALLOCATOR;
    inv_env env = env_over(&allocator);
    inv_pool pool;
    CHECK_EQ(inv_pool_init(&pool, &env), INV_OK);
    CHECK_EQ(inv_pool_bytes(&pool), TABLE_BYTES);
    uint64_t handed_out = 0;
    for (uint32_t class = 0; class < INV_POOL_CLASS_COUNT; class++) {
        inv_ref ref = inv_pool_alloc(&pool, class);
        CHECK(ref != 0);
        CHECK_EQ(ref & ((1u << class) - 1), 0);
        const uint8_t *block = inv_pool_at(&pool, ref);
        size_t bytes = (size_t)INV_GRANULE_BYTES << class;
        for (size_t i = 0; i < bytes; i++) CHECK(block[i] == 0);
        handed_out += bytes;
        CHECK_EQ(inv_pool_blocks_bytes(&pool), handed_out);
    }
    /* 11 chunks of 64 KiB, blocks of 128 KiB to 1 MiB: two regions; 2 MiB: a third. */
    CHECK_EQ(inv_pool_bytes(&pool), TABLE_BYTES + 3 * (uint64_t)INV_REGION_BYTES);
    CHECK_EQ(inv_pool_bytes(&pool), allocator.live_bytes);
    inv_pool_deinit(&pool);
    CHECK_EQ(allocator.live_bytes, 0);
    inv_pool_deinit(&pool); /* a second time is harmless */
}

/* Freed blocks come back first, last freed first, within their class; memory does not grow. */
INV_TEST(reuse) {
    test_allocator allocator = TEST_ALLOCATOR;
    inv_env env = env_over(&allocator);
    inv_pool pool;
    CHECK_EQ(inv_pool_init(&pool, &env), INV_OK);
    inv_ref refs[300];
    for (uint32_t class = 0; class < 8; class++) {
        for (uint32_t i = 0; i < 300; i++) refs[i] = inv_pool_alloc(&pool, class);
        uint64_t bytes_before = inv_pool_bytes(&pool);
        for (uint32_t i = 0; i < 300; i++) inv_pool_free(&pool, refs[i], class);
        inv_ref other = inv_pool_alloc(&pool, class + 1);
        for (uint32_t i = 0; i < 300; i++) CHECK(other != refs[i]);
        inv_pool_free(&pool, other, class + 1);
        for (uint32_t i = 300; i-- > 0;) CHECK_EQ(inv_pool_alloc(&pool, class), refs[i]);
        CHECK(inv_pool_bytes(&pool) <= bytes_before + INV_REGION_BYTES);
        for (uint32_t i = 0; i < 300; i++) inv_pool_free(&pool, refs[i], class);
        CHECK_EQ(inv_pool_blocks_bytes(&pool), 0);
    }
    inv_pool_deinit(&pool);
    CHECK_EQ(allocator.live_bytes, 0);
}

/* ---- random blocks against an ownership map -------------------------------------------------- */

typedef struct live_block {
    inv_ref ref;
    uint32_t class;
    uint64_t stamp;
} live_block;

enum { GRANULE_FRESH = 0, GRANULE_OWNED = 1, GRANULE_FREE = 2 };

/* Marks the granules of a new block; each must belong to nobody, and all have the same history. */
static void map_take(uint8_t *map, const inv_pool *pool, inv_ref ref, uint32_t class) {
    CHECK(ref != 0);
    CHECK(ref + (1u << class) <= MAP_GRANULES);
    CHECK_EQ(ref & ((1u << class) - 1), 0);
    CHECK((ref & (REGION_GRANULES - 1)) + (1u << class) <= REGION_GRANULES);
    uint8_t history = map[ref];
    const uint64_t *words = inv_pool_at(pool, ref);
    for (uint32_t i = 0; i < 1u << class; i++) {
        CHECK(map[ref + i] != GRANULE_OWNED);
        CHECK_EQ(map[ref + i], history); /* a block never changes class */
        if (history == GRANULE_FRESH)
            for (uint32_t word = 0; word < 8; word++) CHECK(words[i * 8 + word] == 0);
        map[ref + i] = GRANULE_OWNED;
    }
}

static void stamp_write(const inv_pool *pool, const live_block *block) {
    uint64_t *words = inv_pool_at(pool, block->ref);
    for (uint32_t i = 0; i < 1u << block->class; i++)
        words[i * 8] = words[i * 8 + 7] = block->stamp;
}
static void stamp_check(const inv_pool *pool, const live_block *block) {
    const uint64_t *words = inv_pool_at(pool, block->ref);
    for (uint32_t i = 0; i < 1u << block->class; i++) {
        CHECK_EQ(words[i * 8], block->stamp);
        CHECK_EQ(words[i * 8 + 7], block->stamp);
    }
}

static void free_one(inv_pool *pool, uint8_t *map, live_block *block) {
    stamp_check(pool, block);
    memset(map + block->ref, GRANULE_FREE, 1u << block->class);
    inv_pool_free(pool, block->ref, block->class);
}

INV_TEST(random_blocks) {
    rng = inv_test_rng_of(4);
    enum { LIVE_MAX = 4000 };
    test_allocator allocator = TEST_ALLOCATOR;
    inv_env env = env_over(&allocator);
    inv_pool pool;
    CHECK_EQ(inv_pool_init(&pool, &env), INV_OK);
    uint8_t *map = calloc(MAP_GRANULES, 1);
    live_block *live = calloc(LIVE_MAX, sizeof(*live));
    uint32_t live_count = 0;
    uint64_t live_bytes = 0;
    uint64_t steps = inv_test_scaled(200000);
    for (uint64_t step = 0; step < steps; step++) {
        /* Small classes most of the time; all of them now and then. */
        uint32_t class = (uint32_t)(roll(64) == 0 ? roll(INV_POOL_CLASS_COUNT) : roll(6));
        uint64_t bytes = (uint64_t)INV_GRANULE_BYTES << class;
        bool room = live_count < LIVE_MAX && live_bytes + bytes < 40 * INV_REGION_BYTES;
        if (room && roll(100) < 52) {
            live_block *block = &live[live_count++];
            *block = (live_block){inv_pool_alloc(&pool, class), class, step + 1};
            map_take(map, &pool, block->ref, class);
            stamp_write(&pool, block);
            live_bytes += bytes;
        } else if (live_count > 0) {
            uint32_t i = (uint32_t)roll(live_count);
            live_bytes -= (uint64_t)INV_GRANULE_BYTES << live[i].class;
            free_one(&pool, map, &live[i]);
            live[i] = live[--live_count];
        }
        if (step % 5000 == 0) CHECK_EQ(inv_pool_blocks_bytes(&pool), live_bytes);
        if (step % 20000 == 0) inv_pool_touch_ahead(&pool);
    }
    CHECK_EQ(map[0], GRANULE_FRESH); /* reference 0 means none */
    while (live_count > 0) free_one(&pool, map, &live[--live_count]);
    CHECK_EQ(inv_pool_blocks_bytes(&pool), 0);
    CHECK_EQ(inv_pool_bytes(&pool), allocator.live_bytes);
    inv_pool_deinit(&pool);
    CHECK_EQ(allocator.live_bytes, 0);
    free(live);
    free(map);
}

/* ---- memory runs out ------------------------------------------------------------------------- */

/* Allocates blocks of many classes; a refused one must come when memory is back. Returns the number
 * of refusals. */
static uint32_t scenario(inv_pool *pool) {
    uint32_t refusals = 0;
    for (uint32_t i = 0; i < 60; i++) {
        uint32_t class = i * 7 % INV_POOL_CLASS_COUNT;
        uint64_t handed_out = inv_pool_blocks_bytes(pool);
        inv_ref ref = inv_pool_alloc(pool, class);
        for (uint32_t tries = 0; ref == 0; tries++) {
            refusals++;
            CHECK(tries < 4);
            CHECK_EQ(inv_pool_blocks_bytes(pool), handed_out);
            ref = inv_pool_alloc(pool, class);
        }
        memset(inv_pool_at(pool, ref), 0x5A, (size_t)INV_GRANULE_BYTES << class);
        if (i % 5 == 0) inv_pool_free(pool, ref, class);
        if (i % 16 == 15) inv_pool_touch_ahead(pool);
    }
    return refusals;
}

INV_TEST(no_memory) {
    for (uint64_t count = 1; count <= 3; count += 2) {
        uint32_t refusals_all = 0;
        for (uint64_t n = 1;; n++) {
            test_allocator allocator = TEST_ALLOCATOR;
            allocator.fail_from = n;
            allocator.fail_count = count;
            inv_env env = env_over(&allocator);
            inv_pool pool;
            uint32_t tries = 0;
            while (inv_pool_init(&pool, &env) != INV_OK) CHECK(++tries <= count);
            CHECK_EQ(tries, n == 1 ? count : 0);
            refusals_all += scenario(&pool);
            CHECK_EQ(inv_pool_bytes(&pool), allocator.live_bytes);
            inv_pool_deinit(&pool);
            CHECK_EQ(allocator.live_bytes, 0);
            if (allocator.calls < n) break; /* nothing failed: every call site has had its turn */
        }
        CHECK(refusals_all > 0);
    }
}

/* All regions there may be, none of them touched: the last reference, and one beyond. */
INV_TEST(reference_limit) {
    test_allocator allocator = TEST_ALLOCATOR;
    CHECK(posix_memalign(&allocator.shared_region, INV_CACHE_LINE, INV_REGION_BYTES) == 0);
    memset(allocator.shared_region, 0, INV_REGION_BYTES);
    inv_env env = env_over(&allocator);
    inv_pool pool;
    CHECK_EQ(inv_pool_init(&pool, &env), INV_OK);
    /* Region 0 is not handed out whole. */
    for (uint32_t i = 1; i < INV_REGION_COUNT_MAX; i++)
        CHECK_EQ(inv_pool_alloc(&pool, INV_POOL_CLASS_COUNT - 1), i << INV_REGION_GRANULE_BITS);
    CHECK_EQ(inv_pool_alloc(&pool, INV_POOL_CLASS_COUNT - 1), 0);
    CHECK_EQ(inv_pool_alloc(&pool, INV_POOL_CLASS_COUNT - 1), 0);
    inv_pool_touch_ahead(&pool); /* nothing left to prepare */
    CHECK_EQ(inv_pool_bytes(&pool), TABLE_BYTES + ((uint64_t)1 << 37));
    /* The spares of region 0 serve the other classes, then they are refused too. */
    CHECK(inv_pool_alloc(&pool, INV_POOL_CLASS_COUNT - 2) != 0);
    CHECK_EQ(inv_pool_alloc(&pool, INV_POOL_CLASS_COUNT - 2), 0);
    for (uint32_t i = 0; i < 15 * REGION_GRANULES / 32; i++) CHECK(inv_pool_alloc(&pool, 0) != 0);
    CHECK_EQ(inv_pool_alloc(&pool, 0), 0);
    inv_pool_deinit(&pool);
    CHECK_EQ(allocator.live_bytes, 0);
    free(allocator.shared_region);
}

/* After a touch ahead, growing calls the allocator no more; need is learned from use. */
INV_TEST(touch_ahead) {
    test_allocator allocator = TEST_ALLOCATOR;
    inv_env env = env_over(&allocator);
    inv_pool pool;
    CHECK_EQ(inv_pool_init(&pool, &env), INV_OK);
    inv_pool_touch_ahead(&pool);
    CHECK_EQ(allocator.calls, 2); /* the table and one region */
    inv_pool_touch_ahead(&pool);
    CHECK_EQ(allocator.calls, 2);
    CHECK(inv_pool_alloc(&pool, 0) != 0);
    CHECK_EQ(allocator.calls, 2);
    for (uint32_t i = 0; i < 3; i++) CHECK(inv_pool_alloc(&pool, INV_POOL_CLASS_COUNT - 1) != 0);
    CHECK_EQ(allocator.calls, 5);
    inv_pool_touch_ahead(&pool); /* four regions used: nine wanted */
    CHECK_EQ(allocator.calls, 14);
    for (uint32_t i = 0; i < 9; i++) CHECK(inv_pool_alloc(&pool, INV_POOL_CLASS_COUNT - 1) != 0);
    CHECK_EQ(allocator.calls, 14);
    for (uint32_t i = 0; i < 40; i++) CHECK(inv_pool_alloc(&pool, INV_POOL_CLASS_COUNT - 1) != 0);
    inv_pool_touch_ahead(&pool);
    CHECK_EQ(allocator.calls, 14 + 40 + INV_POOL_AHEAD_MAX);
    CHECK_EQ(inv_pool_bytes(&pool), allocator.live_bytes);
    inv_pool_deinit(&pool); /* the unused ones are given back too */
    CHECK_EQ(allocator.live_bytes, 0);
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { THREADS = 4, EXCHANGE_SLOTS = 64 };

typedef struct thread_world {
    inv_pool pool;
    _Atomic uint64_t exchange[EXCHANGE_SLOTS]; /* ref | class << 32: blocks change hands here */
    _Atomic bool done;
    uint64_t steps;
} thread_world;

typedef struct thread_argument {
    thread_world *world;
    uint64_t seed;
} thread_argument;

/* Allocates a block, stamps it with its own reference and puts it into a random slot; what was
 * there (mostly another thread's) is checked and freed. Two owners of one block would break a
 * stamp. */
static void *thread_main(void *pointer) {
    thread_argument *argument = pointer;
    thread_world *world = argument->world;
    uint64_t random = argument->seed;
    for (uint64_t step = 0; step < world->steps; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint32_t class = (uint32_t)(random >> 60) & 7u;
        inv_ref ref = inv_pool_alloc(&world->pool, class);
        if (!CHECK(ref != 0)) return NULL;
        uint64_t stamp = ref | (uint64_t)class << 32;
        uint64_t *words = inv_pool_at(&world->pool, ref);
        for (uint32_t i = 0; i < 8u << class; i++) words[i] = stamp;
        /* acq_rel: publishes the stamp to whoever takes the block out, and sees the other's */
        uint64_t other = atomic_exchange_explicit(
            &world->exchange[(random >> 32) % EXCHANGE_SLOTS], stamp, memory_order_acq_rel);
        if (other == 0) continue;
        uint32_t other_class = (uint32_t)(other >> 32);
        const uint64_t *seen = inv_pool_at(&world->pool, (inv_ref)other);
        for (uint32_t i = 0; i < 8u << other_class; i++)
            if (!CHECK_EQ(seen[i], other)) return NULL;
        inv_pool_free(&world->pool, (inv_ref)other, other_class);
    }
    return NULL;
}

static void *toucher_main(void *pointer) {
    thread_world *world = pointer;
    while (!atomic_load_explicit(&world->done, memory_order_relaxed)) {
        inv_pool_touch_ahead(&world->pool);
        /* Read first what is smaller: the pool only grows, and blocks lie in what it has. */
        uint64_t blocks_bytes = inv_pool_blocks_bytes(&world->pool);
        CHECK(inv_pool_bytes(&world->pool) >= blocks_bytes);
        inv_cpu_yield();
    }
    return NULL;
}

INV_TEST(threads) {
    rng = inv_test_rng_of(8);
    test_allocator allocator = TEST_ALLOCATOR;
    inv_env env = env_over(&allocator);
    thread_world *world = NULL;
    CHECK(posix_memalign((void **)&world, INV_CACHE_LINE, sizeof(*world)) == 0);
    memset(world, 0, sizeof(*world));
    world->steps = inv_test_scaled(50000);
    CHECK_EQ(inv_pool_init(&world->pool, &env), INV_OK);
    pthread_t threads[THREADS], toucher;
    thread_argument arguments[THREADS];
    CHECK(pthread_create(&toucher, NULL, toucher_main, world) == 0);
    for (uint32_t i = 0; i < THREADS; i++) {
        arguments[i] = (thread_argument){world, roll(UINT64_MAX)};
        CHECK(pthread_create(&threads[i], NULL, thread_main, &arguments[i]) == 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    atomic_store_explicit(&world->done, true, memory_order_relaxed);
    CHECK(pthread_join(toucher, NULL) == 0);
    uint64_t left_bytes = 0;
    for (uint32_t i = 0; i < EXCHANGE_SLOTS; i++) {
        uint64_t left = atomic_load_explicit(&world->exchange[i], memory_order_relaxed);
        if (left != 0) left_bytes += (uint64_t)INV_GRANULE_BYTES << (left >> 32);
    }
    CHECK_EQ(inv_pool_blocks_bytes(&world->pool), left_bytes);
    inv_pool_deinit(&world->pool);
    CHECK_EQ(allocator.live_bytes, 0);
    free(world);
}

INV_TEST_MAIN()
