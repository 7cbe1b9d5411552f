/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_pool.c: blocks of 64 bytes to 2 MiB with 32-bit references.
 *
 * GUARANTEES. A block handed out overlaps no other block handed out, is aligned to its size within
 * its region, and stays mapped until inv_pool_deinit. Reference 0 is never handed out. When memory
 * runs out, inv_pool_alloc returns 0 and nothing has changed. Freed blocks come back first, in
 * O(1).
 *
 * HOW. Memory moves down three steps and never back up:
 *
 *     allocator --2 MiB regions--> spare chunks --chunks--> class (bump) --blocks--> caller
 *                                                             ^  free list  <--blocks--'
 *
 * A class takes one chunk when its free list and its bump range are empty, and cuts blocks off it
 * one after the other. A chunk is 64 KiB for classes 0 to 10 and a single block for the larger
 * ones, so fifteen classes in use share a first region or two instead of taking one each, and a
 * store with little data touches only the pages it uses.
 *
 * A region is cut in halves until a half has the size asked for; the other halves are the spare
 * chunks. The smallest spare that fits is cut first. Cutting a piece of size s for a chunk of size
 * c leaves one piece of each size c to s/2, and happens only when none of these was there:
 * therefore one reference per size holds all spares, and at most one 2 MiB less 64 KiB is ever
 * unused.
 *
 *     region 0:  | never used | 64 KiB | 128 KiB | 256 KiB |   512 KiB   |        1 MiB        |
 *
 * The first chunk of region 0 stays unused, because its first block would have reference 0; an
 * allocator that maps memory pays nothing for it. The table of regions is one zeroed allocation of
 * 512 KiB, of which only the first entries are ever touched.
 *
 * LOCKS. Class lock, then grow lock. The allocator is called under both, which is why
 * inv_pool_touch_ahead exists: regions it prepared are taken over without calling the allocator.
 *
 * MEMORY ORDER. Entries of the table are written once, relaxed. A reader of inv_pool_at got its
 * reference from the thread that allocated the block, by a lock or a release store of its own; that
 * publication also covers the entry. Links in free blocks are relaxed atomic accesses, since a
 * stale reader may look at the block while it is freed.
 *
 * REJECTED. Coalescing of free blocks: blocks would change class under stale readers. Per-thread
 * caches: the engine allocates under stripe locks, where the class lock is rarely contended;
 * measure first. An own region per class: 15 MiB for an empty store.
 */
#include "inv_pool.h"

#define INV_POOL_PAGE_BYTES 4096u
#define INV_POOL_TABLE_BYTES (INV_REGION_COUNT_MAX * sizeof(uint8_t *))
#define INV_POOL_REGION_CLASS (INV_POOL_CLASS_COUNT - 1u)

_Static_assert(INV_POOL_REGION_CLASS == INV_REGION_GRANULE_BITS, "largest block = one region");
_Static_assert((uint64_t)INV_REGION_COUNT_MAX << INV_REGION_GRANULE_BITS == (uint64_t)1 << 31,
               "references leave their top bit free");
_Static_assert(sizeof(uint8_t *_Atomic) == sizeof(uint8_t *), "inv_pool_at reads plain pointers");
_Static_assert(INV_POOL_CHUNK_CLASS <= INV_POOL_REGION_CLASS, "a chunk fits into a region");

static uint32_t class_granules(uint32_t class_index) { return (uint32_t)1 << class_index; }

/* The link of a free block is its first 4 bytes. */
static inv_ref link_load(const inv_pool *pool, inv_ref ref) {
    return __atomic_load_n((inv_ref *)inv_pool_at(pool, ref), __ATOMIC_RELAXED);
}
static void link_store(const inv_pool *pool, inv_ref ref, inv_ref next) {
    __atomic_store_n((inv_ref *)inv_pool_at(pool, ref), next, __ATOMIC_RELAXED);
}

inv_result inv_pool_init(inv_pool *pool, const inv_env *env) {
    INV_ASSERT(pool != NULL);
    INV_ASSERT(env != NULL);
    void *table = inv_env_alloc(env, INV_POOL_TABLE_BYTES);
    if (table == NULL) return INV_NO_MEMORY;
    memset(pool, 0, sizeof(*pool));
    pool->env = env;
    pool->regions = table;
    return INV_OK;
}

void inv_pool_deinit(inv_pool *pool) {
    INV_ASSERT(pool != NULL);
    if (pool->regions == NULL) return; /* never initialised, or the table could not be had */
    uint32_t region_count = atomic_load_explicit(&pool->region_count, memory_order_relaxed);
    for (uint32_t i = 0; i < region_count; i++) {
        uint8_t *region = atomic_load_explicit(&pool->regions[i], memory_order_relaxed);
        INV_ASSERT(region != NULL);
        inv_env_free(pool->env, region, INV_REGION_BYTES);
    }
    for (uint32_t i = 0; i < pool->ahead_count; i++)
        inv_env_free(pool->env, pool->ahead[i], INV_REGION_BYTES);
    inv_env_free(pool->env, (void *)pool->regions, INV_POOL_TABLE_BYTES);
    memset(pool, 0, sizeof(*pool));
}

/* Enters one more region into the table, a touched one if there is one. False: no memory left, or
 * the table is full. */
static bool region_add_locked(inv_pool *pool, uint32_t *out_region_index) {
    uint32_t index = atomic_load_explicit(&pool->region_count, memory_order_relaxed);
    if (index == INV_REGION_COUNT_MAX) return false;
    uint8_t *region;
    if (pool->ahead_count > 0)
        region = pool->ahead[--pool->ahead_count];
    else
        region = inv_env_alloc(pool->env, INV_REGION_BYTES);
    if (region == NULL) return false;
    INV_ASSERT(((uintptr_t)region & (INV_GRANULE_BYTES - 1)) == 0);
    atomic_store_explicit(&pool->regions[index], region, memory_order_relaxed);
    /* release: pairs with the acquire in inv_pool_free, which checks a reference by it */
    atomic_store_explicit(&pool->region_count, index + 1, memory_order_release);
    *out_region_index = index;
    return true;
}

/* Cuts `piece` of size `piece_class` down to `chunk_class`; the upper halves become spares. */
static inv_ref spare_cut_locked(inv_pool *pool, inv_ref piece, uint32_t piece_class,
                                uint32_t chunk_class) {
    INV_ASSERT(piece_class >= chunk_class);
    while (piece_class > chunk_class) {
        piece_class--;
        INV_ASSERT(pool->spare_chunks[piece_class] == 0);
        pool->spare_chunks[piece_class] = piece + class_granules(piece_class);
    }
    return piece;
}

/* One unused chunk, or 0 when out of memory. */
static inv_ref chunk_take_locked(inv_pool *pool, uint32_t chunk_class) {
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t piece_class = chunk_class; piece_class < INV_POOL_REGION_CLASS;
             piece_class++) {
            inv_ref piece = pool->spare_chunks[piece_class];
            if (piece == 0) continue;
            pool->spare_chunks[piece_class] = 0;
            return spare_cut_locked(pool, piece, piece_class, chunk_class);
        }
        uint32_t region_index;
        if (!region_add_locked(pool, &region_index)) return 0;
        inv_ref region_ref = region_index << INV_REGION_GRANULE_BITS;
        if (region_index > 0)
            return spare_cut_locked(pool, region_ref, INV_POOL_REGION_CLASS, chunk_class);
        /* Region 0 gives all but its first chunk to the spares: look there again. A block of a
         * whole region finds nothing there and takes region 1 in the second round. */
        (void)spare_cut_locked(pool, 0, INV_POOL_REGION_CLASS, INV_POOL_CHUNK_CLASS);
    }
    return 0;
}

/* Gives the class a new bump range. False: out of memory. */
static bool class_refill_locked(inv_pool *pool, uint32_t class_index) {
    inv_pool_class *class = &pool->classes[class_index];
    INV_ASSERT(class->bump == 0);
    INV_ASSERT(class->free_head == 0);
    uint32_t chunk_class =
        class_index > INV_POOL_CHUNK_CLASS ? class_index : INV_POOL_CHUNK_CLASS;
    inv_lock_take(&pool->grow_lock);
    inv_ref chunk = chunk_take_locked(pool, chunk_class);
    inv_lock_give(&pool->grow_lock);
    if (chunk == 0) return false;
    INV_ASSERT((chunk & (class_granules(chunk_class) - 1)) == 0);
    class->bump = chunk;
    class->bump_end = chunk + class_granules(chunk_class);
    return true;
}

/* Adds to the counter of a class. Only the holder of its lock writes it, so no read-modify-write is
 * needed; it is atomic for the readers of inv_pool_blocks_bytes. */
static void block_count_add_locked(inv_pool_class *class, uint64_t delta) {
    uint64_t count = atomic_load_explicit(&class->block_count, memory_order_relaxed);
    atomic_store_explicit(&class->block_count, count + delta, memory_order_relaxed);
}

inv_ref inv_pool_alloc(inv_pool *pool, uint32_t class_index) {
    INV_ASSERT(pool != NULL && pool->regions != NULL);
    INV_ASSERT(class_index < INV_POOL_CLASS_COUNT);
    inv_pool_class *class = &pool->classes[class_index];
    inv_lock_take(&class->lock);
    inv_ref ref = class->free_head;
    if (ref != 0) {
        inv_ref next = link_load(pool, ref);
        class->free_head = next;
        /* The next caller reads the link of this block; most likely it is cold. */
        if (next != 0) INV_PREFETCH(inv_pool_at(pool, next));
    } else if (class->bump != 0 || class_refill_locked(pool, class_index)) {
        ref = class->bump;
        class->bump += class_granules(class_index);
        if (class->bump == class->bump_end) class->bump = 0;
    }
    if (ref != 0) block_count_add_locked(class, 1);
    inv_lock_give(&class->lock);
    INV_ASSERT((ref & (class_granules(class_index) - 1)) == 0);
    return ref;
}

void inv_pool_free(inv_pool *pool, inv_ref ref, uint32_t class_index) {
    INV_ASSERT(pool != NULL && pool->regions != NULL);
    INV_ASSERT(class_index < INV_POOL_CLASS_COUNT);
    INV_ASSERT(ref != 0);
    INV_ASSERT((ref & (class_granules(class_index) - 1)) == 0);
    INV_ASSERT(ref >> INV_REGION_GRANULE_BITS <
               atomic_load_explicit(&pool->region_count, memory_order_acquire));
    inv_pool_class *class = &pool->classes[class_index];
    inv_lock_take(&class->lock);
    INV_ASSERT(atomic_load_explicit(&class->block_count, memory_order_relaxed) > 0);
    INV_ASSERT(class->free_head != ref); /* the cheap half of finding a double free */
    link_store(pool, ref, class->free_head);
    class->free_head = ref;
    block_count_add_locked(class, UINT64_MAX); /* minus one, in unsigned arithmetic */
    inv_lock_give(&class->lock);
}

/* How many touched regions are wanted now. */
static uint32_t ahead_wanted_locked(inv_pool *pool) {
    uint32_t region_count = atomic_load_explicit(&pool->region_count, memory_order_relaxed);
    uint32_t used = region_count - pool->region_count_seen;
    pool->region_count_seen = region_count;
    uint64_t wanted = inv_min_u64((uint64_t)used * 2 + 1, INV_POOL_AHEAD_MAX);
    return (uint32_t)inv_min_u64(wanted, INV_REGION_COUNT_MAX - region_count);
}

void inv_pool_touch_ahead(inv_pool *pool) {
    INV_ASSERT(pool != NULL && pool->regions != NULL);
    inv_lock_take(&pool->grow_lock);
    uint32_t wanted = ahead_wanted_locked(pool);
    uint32_t present = pool->ahead_count;
    inv_lock_give(&pool->grow_lock);
    for (; present < wanted; present++) {
        /* Allocated and touched outside the lock: this is the slow part nobody should wait for. */
        uint8_t *region = inv_env_alloc(pool->env, INV_REGION_BYTES);
        if (region == NULL) return; /* alloc will find out by itself */
        for (uint32_t offset = 0; offset < INV_REGION_BYTES; offset += INV_POOL_PAGE_BYTES)
            *(volatile uint8_t *)(region + offset) = 0;
        inv_lock_take(&pool->grow_lock);
        bool kept = pool->ahead_count < INV_POOL_AHEAD_MAX;
        if (kept) pool->ahead[pool->ahead_count++] = region;
        inv_lock_give(&pool->grow_lock);
        if (!kept) { /* somebody else touched ahead at the same time */
            inv_env_free(pool->env, region, INV_REGION_BYTES);
            return;
        }
    }
}

uint64_t inv_pool_bytes(const inv_pool *pool) {
    INV_ASSERT(pool != NULL && pool->regions != NULL);
    inv_pool *unlocked = (inv_pool *)pool; /* the lock is not part of what const protects */
    inv_lock_take(&unlocked->grow_lock);
    uint64_t regions = (uint64_t)atomic_load_explicit(&unlocked->region_count,
                                                      memory_order_relaxed) + pool->ahead_count;
    inv_lock_give(&unlocked->grow_lock);
    return INV_POOL_TABLE_BYTES + regions * INV_REGION_BYTES;
}

uint64_t inv_pool_blocks_bytes(const inv_pool *pool) {
    INV_ASSERT(pool != NULL);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < INV_POOL_CLASS_COUNT; i++) {
        uint64_t count = atomic_load_explicit(&pool->classes[i].block_count, memory_order_relaxed);
        bytes += count * class_granules(i) * INV_GRANULE_BYTES;
    }
    return bytes;
}
