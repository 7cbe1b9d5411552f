/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_pool.h: one address space of 64-byte granules with 32-bit references.
 *
 *     reference:  | region (16 bits) | granule in region (15 bits) |   0 = none, top bit always 0
 *     region:     2 MiB = 32,768 granules (one huge page); at most 65,536 regions = 128 GiB
 *
 * Blocks are 2^class granules, class 0 (64 B) to 15 (2 MiB), aligned to their size within a region.
 * Freed blocks go to the free list of their class and are handed out again; they are never given
 * back to the system and never change class, so a stale reader may look at them (it must validate
 * by other means).
 *
 * References halve the size of links and index slots; a block's address is one table look-up away
 * (the table is 8 bytes per 2 MiB, so it stays in the first-level cache).
 *
 * THREADS: any; one small lock per class, taken by alloc and free only. inv_pool_at is lock-free.
 * MEMORY: taken from the allocator in whole regions, handed to classes in chunks of 64 KiB or one
 * block (inv_pool.c draws it). inv_pool_touch_ahead, called from a background thread, keeps touched
 * regions ready; alloc never touches fresh memory when that keeps up. Rejected: malloc per object
 * (8-byte pointers, 16-byte headers, no locality); a reserved 128 GiB mapping (not portable to
 * limits on virtual memory).
 */
#ifndef INV_POOL_H
#define INV_POOL_H

#include "inv_env.h"
#include "inv_lock.h"

#define INV_GRANULE_BYTES 64u
#define INV_REGION_GRANULE_BITS 15u
#define INV_REGION_BYTES (INV_GRANULE_BYTES << INV_REGION_GRANULE_BITS)
#define INV_REGION_COUNT_MAX 65536u
#define INV_POOL_CLASS_COUNT 16u

typedef uint32_t inv_ref; /* 0 = none */

#define INV_POOL_CHUNK_CLASS 10u /* classes up to this one share chunks of 64 KiB */
#define INV_POOL_AHEAD_MAX 16u   /* touched regions kept ready at most */

/* One size class on its own cache line. All fields are written under `lock`. */
typedef struct inv_pool_class {
    inv_lock lock;
    inv_ref free_head;    /* links through the first 4 bytes of a free block */
    inv_ref bump;         /* next never-used block; 0 = none */
    inv_ref bump_end;     /* end of the chunk `bump` walks through */
    _Atomic uint64_t block_count; /* blocks handed out; read without the lock by metrics */
    uint8_t pad[INV_CACHE_LINE - sizeof(inv_lock) - 3 * sizeof(inv_ref) - sizeof(uint64_t)];
} inv_pool_class;
_Static_assert(sizeof(inv_pool_class) == INV_CACHE_LINE, "a class is one cache line");

/* Three groups of fields: read by every inv_pool_at and never written after init; written when the
 * pool grows; the classes. No two of them share a cache line, so look-ups never wait for writers.
 * */
typedef struct inv_pool {
    _Alignas(INV_CACHE_LINE) const inv_env *env;
    uint8_t *_Atomic *regions;   /* INV_REGION_COUNT_MAX entries; written once each */

    /* Written under grow_lock, which is taken inside a class lock, never around one. */
    _Alignas(INV_CACHE_LINE) inv_lock grow_lock;
    _Atomic uint32_t region_count;              /* regions in the table */
    inv_ref spare_chunks[INV_POOL_CLASS_COUNT]; /* one unused piece of each size, or 0 */
    uint32_t ahead_count;                       /* entries of `ahead` */
    uint32_t region_count_seen;                 /* region_count at the last inv_pool_touch_ahead */
    uint8_t *ahead[INV_POOL_AHEAD_MAX];         /* touched regions not yet in the table */

    _Alignas(INV_CACHE_LINE) inv_pool_class classes[INV_POOL_CLASS_COUNT];
} inv_pool;

/* INV_NO_MEMORY. */
INV_MUST_USE inv_result inv_pool_init(inv_pool *pool, const inv_env *env);
void inv_pool_deinit(inv_pool *pool);

/* A block of 2^class granules, NOT zeroed (fresh ones are zero). 0 when out of memory: nothing has
 * changed then, and a later call may succeed. A block that was freed before is handed out in O(1).
 * */
inv_ref inv_pool_alloc(inv_pool *pool, uint32_t class_index);
void inv_pool_free(inv_pool *pool, inv_ref ref, uint32_t class_index);

/* Smallest class whose blocks hold `bytes`; bytes at most INV_REGION_BYTES. */
static inline uint32_t inv_pool_class_for(size_t bytes) {
    size_t granules = (bytes + INV_GRANULE_BYTES - 1) / INV_GRANULE_BYTES;
    return granules <= 1 ? 0 : 64u - (uint32_t)__builtin_clzll(granules - 1);
}

/* Address of a reference. Valid as long as the pool. */
static inline void *inv_pool_at(const inv_pool *pool, inv_ref ref) {
    uint8_t *region = __atomic_load_n((uint8_t **)&pool->regions[ref >> INV_REGION_GRANULE_BITS],
                                      __ATOMIC_RELAXED);
    return region + (size_t)(ref & ((1u << INV_REGION_GRANULE_BITS) - 1)) * INV_GRANULE_BYTES;
}

/* Takes regions from the allocator ahead of need and touches each of their pages: twice as many as
 * were used up since the last call and one more, at most INV_POOL_AHEAD_MAX. For one background
 * thread, every few milliseconds under load; without it the pool works, but pays page faults. */
void inv_pool_touch_ahead(inv_pool *pool);

/* Bytes taken from the allocator, the table of regions and regions kept ready included. */
uint64_t inv_pool_bytes(const inv_pool *pool);

/* Bytes in blocks handed out and not freed, for metrics. */
uint64_t inv_pool_blocks_bytes(const inv_pool *pool);

#endif
