/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_heap.c: two-level segregated fit.
 *
 *     chunk:  | chunk header 48 | block | block | ... | end 16 |
 *     block:  | size, flags 8 | block before 8 | payload, 64-byte aligned ... |
 *
 * Sizes are multiples of 64 and count the header, so that with a chunk header of 48 bytes every
 * payload is aligned. `before` is valid while the block before is free; a free block keeps the links
 * of its class in its payload. The end is a block of size 0 that is never free.
 *
 * A size's class is its highest bit and the four below. Taking looks for a class whose smallest
 * block fits, in two bit scans; what is left of it goes back. Giving joins the block with its free
 * neighbours, so no two free blocks ever touch.
 */
#include "inv_heap.h"

#define BLOCK_ALIGN 64u
#define BLOCK_HEADER_BYTES 16u
#define CHUNK_HEADER_BYTES 48u
#define END_BYTES 16u
#define FREE 1ull        /* flags in the low bits of size */
#define BEFORE_FREE 2ull
#define FIRST 4ull       /* of its chunk: its size alone says whether the chunk is one free block */
#define FLAGS 63ull

struct inv_heap_block {
    uint64_t size;                 /* bytes to the next block, and flags */
    inv_heap_block *before;        /* valid if BEFORE_FREE */
    inv_heap_block *next, *prev;   /* valid if FREE: others of the class */
};

typedef struct heap_chunk {
    size_t bytes;
    uint8_t pad[CHUNK_HEADER_BYTES - sizeof(size_t)];
} heap_chunk;

_Static_assert(sizeof(heap_chunk) % BLOCK_ALIGN == BLOCK_ALIGN - BLOCK_HEADER_BYTES,
               "payloads are aligned");
_Static_assert(sizeof(inv_heap_block) <= BLOCK_ALIGN, "links fit into the smallest block");
_Static_assert((uint64_t)BLOCK_ALIGN << (INV_HEAP_DOUBLINGS - 1) >= INV_HEAP_CHUNK_BYTES_MAX,
               "a whole chunk has a class");

typedef struct heap_class {
    uint32_t doubling, index;
} heap_class;

static uint64_t size_of(const inv_heap_block *block) { return block->size & ~FLAGS; }

static inv_heap_block *block_after(const inv_heap_block *block) {
    return (inv_heap_block *)((uintptr_t)block + size_of(block));
}

/* The class a free block of this size belongs to. */
static heap_class class_of(uint64_t size) {
    uint64_t units = size / BLOCK_ALIGN;
    uint32_t doubling = 63u - (uint32_t)__builtin_clzll(units);
    uint64_t fraction = doubling >= INV_HEAP_CLASS_BITS
                            ? units >> (doubling - INV_HEAP_CLASS_BITS)
                            : units << (INV_HEAP_CLASS_BITS - doubling);
    return (heap_class){doubling, (uint32_t)fraction & (INV_HEAP_CLASSES - 1)};
}

static void list_add(inv_heap *heap, inv_heap_block *block) {
    heap_class class = class_of(size_of(block));
    inv_heap_block **first = &heap->free[class.doubling][class.index];
    block->prev = NULL;
    block->next = *first;
    if (*first != NULL) (*first)->prev = block;
    *first = block;
    heap->classes[class.doubling] |= 1u << class.index;
    heap->doublings |= 1u << class.doubling;
}

static void list_remove(inv_heap *heap, inv_heap_block *block) {
    heap_class class = class_of(size_of(block));
    if (block->next != NULL) block->next->prev = block->prev;
    if (block->prev != NULL) {
        block->prev->next = block->next;
        return;
    }
    INV_ASSERT(heap->free[class.doubling][class.index] == block);
    heap->free[class.doubling][class.index] = block->next;
    if (block->next != NULL) return;
    heap->classes[class.doubling] &= ~(1u << class.index);
    if (heap->classes[class.doubling] == 0) heap->doublings &= ~(1u << class.doubling);
}

/* Makes a range a free block; what lies before it is used. first: FIRST or 0. */
static void give_range(inv_heap *heap, inv_heap_block *block, uint64_t size, uint64_t first) {
    block->size = size | FREE | first;
    inv_heap_block *after = block_after(block);
    after->size |= BEFORE_FREE;
    after->before = block;
    list_add(heap, block);
}

/* A free block of at least `size`, out of its list; NULL: there is none. */
static inv_heap_block *take_fit(inv_heap *heap, uint64_t size) {
    heap_class class = class_of(size);
    /* The next class up, unless this size is the smallest of its own. */
    uint64_t step = class.doubling > INV_HEAP_CLASS_BITS
                        ? (uint64_t)BLOCK_ALIGN << (class.doubling - INV_HEAP_CLASS_BITS)
                        : BLOCK_ALIGN;
    class = class_of(size + step - BLOCK_ALIGN);
    uint32_t fits = heap->classes[class.doubling] & (UINT32_MAX << class.index);
    if (fits == 0) {
        uint32_t larger = heap->doublings & (uint32_t)(UINT64_MAX << (class.doubling + 1));
        if (larger == 0) return NULL;
        class.doubling = (uint32_t)__builtin_ctz(larger);
        fits = heap->classes[class.doubling];
    }
    inv_heap_block *block = heap->free[class.doubling][__builtin_ctz(fits)];
    INV_ASSERT(size_of(block) >= size);
    list_remove(heap, block);
    return block;
}

static bool add_chunk(inv_heap *heap, uint64_t size) {
    uint64_t least = size * 2 + CHUNK_HEADER_BYTES + END_BYTES; /* whatever its class rounds to */
    while (heap->chunk_bytes < least) heap->chunk_bytes *= 2;
    INV_ASSERT(heap->chunk_bytes <= 2 * INV_HEAP_CHUNK_BYTES_MAX);
    heap_chunk *chunk = heap->map(heap->context, heap->chunk_bytes);
    if (chunk == NULL) return false;
    INV_ASSERT((uintptr_t)chunk % BLOCK_ALIGN == 0);
    chunk->bytes = heap->chunk_bytes;
    uint64_t room = chunk->bytes - CHUNK_HEADER_BYTES - END_BYTES;
    inv_heap_block *block = (inv_heap_block *)((uintptr_t)chunk + CHUNK_HEADER_BYTES);
    uint64_t usable = room / BLOCK_ALIGN * BLOCK_ALIGN;
    ((inv_heap_block *)((uintptr_t)block + usable))->size = 0;
    heap->fresh = (uintptr_t)block + sizeof *block;
    heap->fresh_end = (uintptr_t)block + usable;
    give_range(heap, block, usable, FIRST);
    heap->chunk_count++;
    if (heap->chunk_bytes < INV_HEAP_CHUNK_BYTES_MAX) heap->chunk_bytes *= 2;
    if (heap->chunk_bytes > INV_HEAP_CHUNK_BYTES_MAX) heap->chunk_bytes = INV_HEAP_CHUNK_BYTES_MAX;
    return true;
}

void inv_heap_init(inv_heap *heap, void *(*map)(void *context, size_t bytes),
                   void (*unmap)(void *context, void *chunk, size_t bytes),
                   void (*drop)(void *context, void *pages, size_t bytes), void *context) {
    memset(heap, 0, sizeof *heap);
    heap->map = map;
    heap->unmap = unmap;
    heap->drop = drop;
    heap->context = context;
    heap->chunk_bytes = INV_HEAP_CHUNK_BYTES_MIN;
}

void *inv_heap_alloc(inv_heap *heap, size_t bytes) {
    INV_ASSERT(bytes > 0 && bytes <= INV_HEAP_BLOCK_BYTES_MAX);
    uint64_t size = inv_align_u64(bytes + BLOCK_HEADER_BYTES, BLOCK_ALIGN);
    inv_lock_take(&heap->lock);
    inv_heap_block *block = take_fit(heap, size);
    if (block == NULL && add_chunk(heap, size)) block = take_fit(heap, size);
    if (block == NULL) {
        inv_lock_give(&heap->lock);
        return NULL;
    }
    uint64_t left = size_of(block) - size, first = block->size & FIRST;
    INV_ASSERT((block->size & FLAGS) == (FREE | first));
    block_after(block)->size &= ~BEFORE_FREE;
    block->size = size | first;
    if (left > 0) give_range(heap, block_after(block), left, 0);
    heap->used_bytes += size;
    /* Bytes at or above `fresh` are zero. It stays above the header and links of what is left. */
    uintptr_t payload = (uintptr_t)block + BLOCK_HEADER_BYTES, dirty_end = payload + bytes;
    uintptr_t links_end = (uintptr_t)block + size + sizeof *block;
    if ((uintptr_t)block < heap->fresh_end && links_end > heap->fresh) {
        if (dirty_end > heap->fresh)
            dirty_end = heap->fresh > payload ? heap->fresh : payload;
        heap->fresh = links_end;
    }
    inv_lock_give(&heap->lock);
    memset((void *)payload, 0, dirty_end - payload);
    return (void *)payload;
}

/* Drops the pages that the range [from, to) has just made free, inside the free block around it. The
 * block's header and links, and the next block's header, stay. */
static void drop_pages(const inv_heap *heap, const inv_heap_block *block, uintptr_t from,
                       uintptr_t to) {
    uintptr_t low = (uintptr_t)inv_align_u64((uintptr_t)block + sizeof *block, INV_HEAP_PAGE_BYTES);
    uintptr_t high = (uintptr_t)block_after(block) & ~(INV_HEAP_PAGE_BYTES - 1);
    from &= ~(INV_HEAP_PAGE_BYTES - 1);
    to = (uintptr_t)inv_align_u64(to, INV_HEAP_PAGE_BYTES);
    if (from < low) from = low;
    if (to > high) to = high;
    if (from < to) heap->drop(heap->context, (void *)from, to - from);
}

void inv_heap_free(inv_heap *heap, void *pointer) {
    inv_heap_block *block = (inv_heap_block *)((uintptr_t)pointer - BLOCK_HEADER_BYTES);
    inv_lock_take(&heap->lock);
    uint64_t size = size_of(block);
    uintptr_t from = (uintptr_t)block, to = from + size;
    INV_ASSERT((block->size & FREE) == 0 && size > 0 && heap->used_bytes >= size);
    heap->used_bytes -= size;
    inv_heap_block *after = block_after(block);
    if (after->size & FREE) {
        size += size_of(after);
        list_remove(heap, after);
    }
    if (block->size & BEFORE_FREE) {
        inv_heap_block *before = block->before;
        size += size_of(before);
        list_remove(heap, before);
        block = before;
    }
    uint64_t first = block->size & FIRST;
    heap_chunk *gone = NULL;
    give_range(heap, block, size, first);
    /* A chunk that is one free block goes back, but not the last one. */
    if (first != 0 && block_after(block)->size == BEFORE_FREE && heap->chunk_count > 1) {
        list_remove(heap, block);
        heap->chunk_count--;
        gone = (heap_chunk *)((uintptr_t)block - CHUNK_HEADER_BYTES);
        if (heap->fresh_end == (uintptr_t)block + size) heap->fresh = heap->fresh_end = 0;
    } else {
        drop_pages(heap, block, from, to);
    }
    inv_lock_give(&heap->lock);
    if (gone != NULL) heap->unmap(heap->context, gone, gone->bytes);
}

void inv_heap_deinit(inv_heap *heap) {
    if (heap->chunk_count == 0) return;
    INV_ASSERT(heap->used_bytes == 0 && heap->chunk_count == 1);
    uint32_t doubling = (uint32_t)__builtin_ctz(heap->doublings);
    inv_heap_block *block =
        heap->free[doubling][__builtin_ctz(heap->classes[doubling])];
    heap_chunk *chunk = (heap_chunk *)((uintptr_t)block - CHUNK_HEADER_BYTES);
    heap->unmap(heap->context, chunk, chunk->bytes);
    heap->chunk_count = 0;
}

static bool is_listed(const inv_heap *heap, const inv_heap_block *block) {
    heap_class class = class_of(size_of(block));
    const inv_heap_block *other = heap->free[class.doubling][class.index];
    while (other != NULL && other != block) other = other->next;
    return other == block;
}

static const char *check_from(const inv_heap *heap, const inv_heap_block *block) {
    while (size_of(block) != 0) {
        const inv_heap_block *after = block_after(block);
        bool is_free = (block->size & FREE) != 0;
        if (is_free != ((after->size & BEFORE_FREE) != 0)) return "a neighbour's flag is wrong";
        if (is_free && after->before != block) return "a link back is wrong";
        if (is_free && (after->size & FREE) != 0) return "two free blocks touch";
        if (is_free && !is_listed(heap, block)) return "a free block is not in its class";
        block = after;
    }
    return NULL;
}

const char *inv_heap_check(inv_heap *heap, const void *pointer) {
    inv_lock_take(&heap->lock);
    const char *broken =
        check_from(heap, (const inv_heap_block *)((uintptr_t)pointer - BLOCK_HEADER_BYTES));
    inv_lock_give(&heap->lock);
    return broken;
}
