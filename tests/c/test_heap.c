/* SPDX-License-Identifier: Apache-2.0
 *
 * test_heap.c: the heap against a list of what it has handed out, each block filled with its own
 * pattern; and a map function that counts and fails on request.
 */
#include <stdlib.h>

#include "../../src/invcore/base/inv_heap.h"
#include "inv_test.h"

#define BLOCKS 600u
#define MAP_FAILS_NEVER UINT64_MAX

typedef struct source { /* of chunks */
    uint64_t chunks, bytes, calls, fail_at, dropped;
} source;

static void *source_map(void *context, size_t bytes) {
    source *from = context;
    if (from->calls++ == from->fail_at) return NULL;
    from->chunks++;
    from->bytes += bytes;
    void *chunk = aligned_alloc(INV_HEAP_PAGE_BYTES, bytes);
    if (chunk == NULL) abort();
    memset(chunk, 0, bytes);
    return chunk;
}

static void source_unmap(void *context, void *chunk, size_t bytes) {
    source *from = context;
    from->chunks--;
    from->bytes -= bytes;
    free(chunk);
}

/* Whole pages; and what is dropped is lost. */
static void source_drop(void *context, void *pages, size_t bytes) {
    source *from = context;
    CHECK((uintptr_t)pages % INV_HEAP_PAGE_BYTES == 0 && bytes % INV_HEAP_PAGE_BYTES == 0);
    from->dropped += bytes;
    memset(pages, 0, bytes);
}

typedef struct owned {
    uint8_t *bytes;
    size_t size;
    uint8_t pattern;
} owned;

/* What check_whole looks at. */
static void fill(owned *block) {
    for (size_t i = 0; i < block->size; i += 61) block->bytes[i] = block->pattern;
    block->bytes[block->size - 1] = block->pattern;
}

static void check_whole(const owned *block) {
    CHECK(block->bytes[0] == block->pattern && block->bytes[block->size - 1] == block->pattern);
    for (size_t i = 0; i < block->size; i += 61)
        if (block->bytes[i] != block->pattern) CHECK(!"another block wrote here");
}

static size_t some_size(inv_test_rng *rng) {
    uint64_t doubling = inv_test_rng_below(rng, 19); /* up to 512 KiB, small ones as often */
    return 1 + inv_test_rng_below(rng, (uint64_t)1 << (doubling + 1));
}

INV_TEST(blocks_never_overlap) {
    for (uint64_t seed = 1; seed <= 8; seed++) {
        inv_test_rng rng = inv_test_rng_of(seed);
        source from = {.fail_at = MAP_FAILS_NEVER};
        static owned blocks[BLOCKS];
        inv_heap heap;
        memset(blocks, 0, sizeof blocks);
        inv_heap_init(&heap, source_map, source_unmap, source_drop, &from);
        for (uint32_t round = 0; round < 30000; round++) {
            owned *block = &blocks[inv_test_rng_below(&rng, BLOCKS)];
            if (block->bytes == NULL) {
                block->size = some_size(&rng);
                block->pattern = (uint8_t)(round * 7 + 1);
                block->bytes = inv_heap_alloc(&heap, block->size);
                CHECK(block->bytes != NULL && (uintptr_t)block->bytes % 64 == 0);
                size_t zeros = 0;
                while (zeros < block->size && block->bytes[zeros] == 0) zeros++;
                CHECK_EQ(zeros, block->size);
                fill(block);
            } else {
                check_whole(block);
                if (round % 64 == 0) CHECK(inv_heap_check(&heap, block->bytes) == NULL);
                inv_heap_free(&heap, block->bytes);
                block->bytes = NULL;
            }
        }
        uint64_t wanted = 0;
        for (uint32_t i = 0; i < BLOCKS; i++) wanted += blocks[i].bytes ? blocks[i].size : 0;
        CHECK(heap.used_bytes >= wanted && heap.used_bytes <= wanted + BLOCKS * 79);
        for (uint32_t i = 0; i < BLOCKS; i++)
            if (blocks[i].bytes != NULL) inv_heap_free(&heap, blocks[i].bytes);
        CHECK(heap.used_bytes == 0 && from.chunks == 1);
        inv_heap_deinit(&heap);
        CHECK(from.chunks == 0 && from.bytes == 0);
    }
}

/* What is given back is one block again: the same chunk serves it all once more. */
INV_TEST(neighbours_are_joined) {
    source from = {.fail_at = MAP_FAILS_NEVER};
    inv_heap heap;
    void *blocks[64];
    inv_heap_init(&heap, source_map, source_unmap, source_drop, &from);
    for (uint32_t order = 0; order < 3; order++) {
        for (uint32_t i = 0; i < 64; i++) blocks[i] = inv_heap_alloc(&heap, 60000);
        CHECK(from.chunks == 1);
        for (uint32_t i = 0; i < 64; i++)
            inv_heap_free(&heap, blocks[order == 0 ? i : order == 1 ? 63 - i : i * 37 % 64]);
        void *all = inv_heap_alloc(&heap, 3900000);
        CHECK(all != NULL && from.chunks == 1);
        inv_heap_free(&heap, all);
    }
    inv_heap_deinit(&heap);
}

/* A page is dropped when, and only when, the last block on it goes. */
INV_TEST(free_pages_are_dropped_once) {
    source from = {.fail_at = MAP_FAILS_NEVER};
    inv_heap heap;
    void *blocks[60];
    inv_heap_init(&heap, source_map, source_unmap, source_drop, &from);
    void *first = inv_heap_alloc(&heap, INV_HEAP_BLOCK_BYTES_MAX); /* a chunk of 32 MiB or more */
    void *keeper = inv_heap_alloc(&heap, 64);
    inv_heap_free(&heap, first);
    uint64_t dropped = from.dropped;
    CHECK(dropped >= INV_HEAP_BLOCK_BYTES_MAX - INV_HEAP_PAGE_BYTES);
    for (uint32_t i = 0; i < 60; i++) blocks[i] = inv_heap_alloc(&heap, 200000);
    for (uint32_t i = 0; i < 60; i += 2) inv_heap_free(&heap, blocks[i]);
    CHECK_EQ(from.dropped, dropped);
    for (uint32_t i = 1; i < 60; i += 2) inv_heap_free(&heap, blocks[i]);
    uint64_t again = from.dropped - dropped;
    CHECK(again >= 60 * 200000 - 2 * INV_HEAP_PAGE_BYTES && again <= 60 * 200100);
    inv_heap_free(&heap, keeper);
    inv_heap_deinit(&heap);
}

/* ---- packing -------------------------------------------------------------------------------- */

/* Packs to the end, moving what lies in the chunks to be left, but for one block in `pinned`.
 * Returns the rounds it took. */
static uint32_t pack_all(inv_heap *heap, owned *blocks, uint32_t count, uint32_t pinned) {
    uint32_t rounds = 0;
    while (inv_heap_pack(heap)) {
        CHECK(++rounds < 100);
        for (uint32_t i = 0; i < count; i++) {
            owned *block = &blocks[i];
            if (block->bytes == NULL || (pinned != 0 && i % pinned == 0)) continue;
            if (!inv_heap_leaves(heap, block->bytes)) continue;
            uint8_t *moved = inv_heap_alloc(heap, block->size);
            CHECK(moved != NULL && !inv_heap_leaves(heap, moved));
            memcpy(moved, block->bytes, block->size);
            inv_heap_free(heap, block->bytes);
            block->bytes = moved;
            if (i % 16 == 0) CHECK(inv_heap_check(heap, moved) == NULL);
        }
    }
    return rounds;
}

/* Grows `count` arrays by eighths in random turns, as the stripes of a store do. */
static void grow_all(inv_heap *heap, inv_test_rng *rng, owned *blocks, uint32_t count) {
    for (uint32_t turn = 0; turn < count * 32; turn++) {
        uint32_t i = (uint32_t)inv_test_rng_below(rng, count);
        owned next = {.pattern = (uint8_t)(i * 5 + 1)};
        next.size = blocks[i].bytes == NULL ? 2000 + i : blocks[i].size + blocks[i].size / 8;
        next.bytes = inv_heap_alloc(heap, next.size);
        CHECK(next.bytes != NULL);
        fill(&next);
        if (blocks[i].bytes != NULL) inv_heap_free(heap, blocks[i].bytes);
        blocks[i] = next;
    }
}

INV_TEST(packing_closes_the_holes_that_growing_left) {
    enum { COUNT = 1000 };
    static owned blocks[COUNT];
    for (uint32_t pinned = 0; pinned <= 50; pinned += 50) {
        inv_test_rng rng = inv_test_rng_of(pinned + 1);
        source from = {.fail_at = MAP_FAILS_NEVER};
        inv_heap heap;
        memset(blocks, 0, sizeof blocks);
        inv_heap_init(&heap, source_map, source_unmap, source_drop, &from);
        CHECK(!inv_heap_pack(&heap)); /* there is nothing */
        grow_all(&heap, &rng, blocks, COUNT);
        uint64_t bytes_before = from.bytes, used = heap.used_bytes, dropped = from.dropped;
        CHECK(!inv_heap_pack(&heap)); /* it only now saw that something was taken */
        CHECK(bytes_before > used + used / 8);
        CHECK(pack_all(&heap, blocks, COUNT, pinned) > 0);
        CHECK_EQ(heap.used_bytes, used);
        if (pinned == 0) CHECK(from.bytes - used < (bytes_before - used) / 4);
        CHECK(from.dropped > dropped + 10 * INV_HEAP_PAGE_BYTES); /* pinned: pages still go */
        for (uint32_t i = 0; i < COUNT; i++) {
            check_whole(&blocks[i]);
            CHECK(!inv_heap_leaves(&heap, blocks[i].bytes));
            if (i % 16 == 0) CHECK(inv_heap_check(&heap, blocks[i].bytes) == NULL);
        }
        CHECK(!inv_heap_pack(&heap)); /* what it moved itself is no reason to begin again */
        CHECK(!inv_heap_pack(&heap));
        /* A block taken between two calls: not quiet. And then too little was taken. */
        owned one = {.size = 100000};
        one.bytes = inv_heap_alloc(&heap, one.size);
        CHECK(!inv_heap_pack(&heap));
        CHECK(!inv_heap_pack(&heap));
        inv_heap_free(&heap, one.bytes);
        for (uint32_t i = 0; i < COUNT; i++) inv_heap_free(&heap, blocks[i].bytes);
        CHECK(heap.used_bytes == 0 && from.chunks == 1);
        inv_heap_deinit(&heap);
        CHECK(from.chunks == 0 && from.bytes == 0);
    }
}

/* Others take and give while rounds go on; a heap may end in the middle of one. */
INV_TEST(packing_in_the_middle_of_everything) {
    for (uint64_t seed = 1; seed <= 6; seed++) {
        inv_test_rng rng = inv_test_rng_of(seed);
        source from = {.fail_at = MAP_FAILS_NEVER};
        static owned blocks[BLOCKS];
        inv_heap heap;
        uint32_t rounds = 0;
        memset(blocks, 0, sizeof blocks);
        inv_heap_init(&heap, source_map, source_unmap, source_drop, &from);
        grow_all(&heap, &rng, blocks, BLOCKS);
        (void)inv_heap_pack(&heap);
        rounds += inv_heap_pack(&heap);
        for (uint32_t step = 0; step < 20000; step++) {
            owned *block = &blocks[inv_test_rng_below(&rng, BLOCKS)];
            if (block->bytes != NULL) {
                check_whole(block);
                inv_heap_free(&heap, block->bytes);
                block->bytes = NULL;
            }
            if (inv_test_rng_below(&rng, 8) > 0) {
                block->size = some_size(&rng);
                block->pattern = (uint8_t)(step * 7 + 1);
                block->bytes = inv_heap_alloc(&heap, block->size);
                CHECK(block->bytes != NULL && !inv_heap_leaves(&heap, block->bytes));
                fill(block);
                if (step % 64 == 0) CHECK(inv_heap_check(&heap, block->bytes) == NULL);
            }
            if (step % 50 == 0) rounds += inv_heap_pack(&heap);
        }
        CHECK(rounds > 1);
        for (uint32_t i = 0; i < BLOCKS; i++)
            if (blocks[i].bytes != NULL) inv_heap_free(&heap, blocks[i].bytes);
        CHECK(heap.used_bytes == 0 && from.chunks == 1);
        inv_heap_deinit(&heap);
        CHECK(from.chunks == 0);
    }
}

INV_TEST(limits_and_no_memory) {
    source from = {.fail_at = 0};
    inv_heap heap;
    inv_heap_init(&heap, source_map, source_unmap, source_drop, &from);
    CHECK(inv_heap_alloc(&heap, 1) == NULL); /* nothing has changed: it works when there is some */
    CHECK(heap.used_bytes == 0 && heap.chunk_count == 0);
    void *small = inv_heap_alloc(&heap, 1);
    from.fail_at = from.calls;
    CHECK(inv_heap_alloc(&heap, INV_HEAP_BLOCK_BYTES_MAX) == NULL);
    void *large = inv_heap_alloc(&heap, INV_HEAP_BLOCK_BYTES_MAX);
    CHECK(small != NULL && large != NULL);
    CHECK(inv_heap_check(&heap, small) == NULL && inv_heap_check(&heap, large) == NULL);
    inv_heap_free(&heap, large);
    CHECK(from.chunks == 1);
    inv_heap_free(&heap, small);
    inv_heap_deinit(&heap);
    CHECK(from.bytes == 0);
}

INV_TEST_MAIN()
