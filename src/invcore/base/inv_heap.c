/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_heap.c: two-level segregated fit.
 *
 *     chunk:  | chunk header 48 | block | block | ... | end 16 |   (a list, newest first)
 *     block:  | size, flags 8 | block before 8 | payload, 64-byte aligned ... |
 *
 * Sizes are multiples of 64 and count the header, so that with a chunk header of 48 bytes every
 * payload is aligned. `before` is valid while the block before is free; a free block keeps the
 * links of its class in its payload. The end is a block of size 0 that is never free.
 *
 * A size's class is its highest bit and the four below. Taking looks for a class whose smallest
 * block fits, in two bit scans; what is left of it goes back. Giving joins the block with its free
 * neighbours, so no two free blocks ever touch.
 *
 * In a chunk that is being left every block has the flag LEAVING, and its free blocks are in no
 * class: they are joined and dropped as ever, but nobody is given them.
 */
#include "inv_heap.h"

#define BLOCK_ALIGN 64u
#define BLOCK_HEADER_BYTES 16u
#define CHUNK_HEADER_BYTES 48u
#define END_BYTES 16u
#define FREE 1ull        /* flags in the low bits of size */
#define BEFORE_FREE 2ull
#define FIRST 4ull       /* of its chunk: its size alone says whether the chunk is one free block */
#define LEAVING 8ull     /* every block of its chunk has it */
#define FLAGS 63ull

struct inv_heap_block {
    uint64_t size;                 /* bytes to the next block, and flags */
    inv_heap_block *before;        /* valid if BEFORE_FREE */
    inv_heap_block *next, *prev;   /* valid if FREE: others of the class */
};

struct inv_heap_chunk {
    size_t bytes;
    inv_heap_chunk *next, *prev;
    uint64_t number; /* the first one made is 1 */
    bool leaving;
    uint8_t pad[CHUNK_HEADER_BYTES - 2 * sizeof(uint64_t) - 2 * sizeof(void *) - 1];
};
typedef inv_heap_chunk heap_chunk;

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

/* Makes a range a free block; what lies before it is used. flags: FIRST, LEAVING or 0. */
static void give_range(inv_heap *heap, inv_heap_block *block, uint64_t size, uint64_t flags) {
    block->size = size | FREE | flags;
    inv_heap_block *after = block_after(block);
    after->size |= BEFORE_FREE;
    after->before = block;
    if ((flags & LEAVING) == 0) list_add(heap, block);
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
    chunk->number = ++heap->chunks_made;
    chunk->next = heap->chunks;
    if (chunk->next != NULL) chunk->next->prev = chunk;
    heap->chunks = chunk;
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
    heap->taken_bytes += size;
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

typedef struct whole_pages {
    uintptr_t start, end; /* none: both the same */
} whole_pages;

/* The pages inside a free block: its header and links, and the next block's header, are outside. */
static whole_pages pages_inside(const inv_heap_block *block) {
    uintptr_t start =
        (uintptr_t)inv_align_u64((uintptr_t)block + sizeof *block, INV_HEAP_PAGE_BYTES);
    uintptr_t end = (uintptr_t)block_after(block) & ~(INV_HEAP_PAGE_BYTES - 1);
    return (whole_pages){start, start < end ? end : start};
}

/* Drops the pages that the range [from, to) has just made free, inside the free block around it. */
static void drop_pages(const inv_heap *heap, const inv_heap_block *block, uintptr_t from,
                       uintptr_t to) {
    whole_pages pages = pages_inside(block);
    from &= ~(INV_HEAP_PAGE_BYTES - 1);
    to = (uintptr_t)inv_align_u64(to, INV_HEAP_PAGE_BYTES);
    if (from < pages.start) from = pages.start;
    if (to > pages.end) to = pages.end;
    if (from < to) heap->drop(heap->context, (void *)from, to - from);
}

static void unlink_chunk(inv_heap *heap, heap_chunk *chunk) {
    if (chunk->next != NULL) chunk->next->prev = chunk->prev;
    if (chunk->prev != NULL)
        chunk->prev->next = chunk->next;
    else
        heap->chunks = chunk->next;
    heap->chunk_count--;
}

void inv_heap_free(inv_heap *heap, void *pointer) {
    inv_heap_block *block = (inv_heap_block *)((uintptr_t)pointer - BLOCK_HEADER_BYTES);
    inv_lock_take(&heap->lock);
    uint64_t size = size_of(block);
    uintptr_t from = (uintptr_t)block, to = from + size;
    INV_ASSERT((block->size & FREE) == 0 && size > 0 && heap->used_bytes >= size);
    heap->used_bytes -= size;
    inv_heap_block *after = block_after(block);
    bool leaving = (block->size & LEAVING) != 0;
    if (after->size & FREE) {
        size += size_of(after);
        if (!leaving) list_remove(heap, after);
    }
    if (block->size & BEFORE_FREE) {
        inv_heap_block *before = block->before;
        size += size_of(before);
        if (!leaving) list_remove(heap, before);
        block = before;
    }
    uint64_t flags = block->size & (FIRST | LEAVING);
    heap_chunk *gone = NULL;
    give_range(heap, block, size, flags);
    /* A chunk that is one free block goes back, but not the last one. */
    if ((flags & FIRST) != 0 && size_of(block_after(block)) == 0 && heap->chunk_count > 1) {
        if (!leaving) list_remove(heap, block);
        gone = (heap_chunk *)((uintptr_t)block - CHUNK_HEADER_BYTES);
        unlink_chunk(heap, gone);
        if (heap->fresh_end == (uintptr_t)block + size) heap->fresh = heap->fresh_end = 0;
    } else {
        drop_pages(heap, block, from, to);
    }
    inv_lock_give(&heap->lock);
    if (gone != NULL) heap->unmap(heap->context, gone, gone->bytes);
}

void inv_heap_deinit(inv_heap *heap) {
    if (heap->chunks == NULL) return;
    INV_ASSERT(heap->used_bytes == 0 && heap->chunk_count == 1);
    heap->unmap(heap->context, heap->chunks, heap->chunks->bytes);
    heap->chunks = NULL;
    heap->chunk_count = 0;
}

/* ---- packing --------------------------------------------------------------------------------- */

static inv_heap_block *first_block(heap_chunk *chunk) {
    return (inv_heap_block *)((uintptr_t)chunk + CHUNK_HEADER_BYTES);
}

/* Bytes in use, and free ones that are not whole pages: those are dropped. */
static void measure_chunk(heap_chunk *chunk, uint64_t *used, uint64_t *holes) {
    const inv_heap_block *block = first_block(chunk);
    *used = *holes = 0;
    for (; size_of(block) != 0; block = block_after(block)) {
        if ((block->size & FREE) == 0) {
            *used += size_of(block);
            continue;
        }
        whole_pages pages = pages_inside(block);
        *holes += size_of(block) - (pages.end - pages.start);
    }
}

static bool is_worth_leaving(uint64_t used, uint64_t holes) {
    return holes > used / INV_HEAP_HOLES_SHARE && used > 0;
}

static void set_leaving(inv_heap *heap, heap_chunk *chunk, bool leaving) {
    chunk->leaving = leaving;
    for (inv_heap_block *block = first_block(chunk); size_of(block) != 0;
         block = block_after(block)) {
        bool is_free = (block->size & FREE) != 0;
        if (is_free && leaving) list_remove(heap, block);
        block->size ^= LEAVING;
        if (is_free && !leaving) list_add(heap, block);
    }
}

/* A chunk, with the lock taken; or NULL, without. Between two chunks others have their turn. */
static heap_chunk *chunk_before(inv_heap *heap, uint64_t number) {
    inv_lock_take(&heap->lock);
    heap_chunk *chunk = heap->chunks;
    while (chunk != NULL && chunk->number >= number) chunk = chunk->next;
    if (chunk == NULL) inv_lock_give(&heap->lock);
    return chunk;
}

/* Whether to begin: see inv_heap_pack. */
static bool wants_packing(inv_heap *heap) {
    uint64_t used_all = 0, holes_all = 0, number = UINT64_MAX, taken;
    inv_lock_take(&heap->lock);
    taken = heap->taken_bytes;
    bool quiet = taken == heap->taken_seen;
    bool changed = taken - heap->taken_packed > heap->used_bytes / INV_HEAP_ROUND_SHARE;
    heap->taken_seen = taken;
    inv_lock_give(&heap->lock);
    if (!quiet || !changed) return false;
    for (heap_chunk *chunk; (chunk = chunk_before(heap, number)) != NULL;) {
        uint64_t used, holes;
        measure_chunk(chunk, &used, &holes);
        used_all += used;
        holes_all += holes;
        number = chunk->number;
        inv_lock_give(&heap->lock);
    }
    inv_lock_take(&heap->lock);
    heap->taken_packed = taken;
    heap->pack_until = heap->chunks_made;
    inv_lock_give(&heap->lock);
    return is_worth_leaving(used_all, holes_all);
}

/* Chooses the chunks of a round, from the newest that has not had its turn; false: none is left. */
static bool begin_round(inv_heap *heap) {
    uint64_t chosen = 0, enough = 0, number = heap->pack_until + 1;
    for (heap_chunk *chunk;
         chosen <= enough && (chunk = chunk_before(heap, number)) != NULL;) {
        uint64_t used, holes;
        measure_chunk(chunk, &used, &holes);
        if (is_worth_leaving(used, holes)) {
            set_leaving(heap, chunk, true);
            chosen += used;
        }
        number = chunk->number;
        enough = heap->used_bytes / INV_HEAP_ROUND_SHARE;
        inv_lock_give(&heap->lock);
    }
    heap->pack_until = number - 1;
    return chosen > 0;
}

static void end_round(inv_heap *heap) {
    uint64_t number = UINT64_MAX;
    for (heap_chunk *chunk; (chunk = chunk_before(heap, number)) != NULL;) {
        number = chunk->number;
        if (chunk->leaving) set_leaving(heap, chunk, false);
        inv_lock_give(&heap->lock);
    }
}

bool inv_heap_pack(inv_heap *heap) {
    if (heap->packing)
        end_round(heap);
    else if (!wants_packing(heap))
        return false;
    heap->packing = begin_round(heap);
    if (!heap->packing) { /* what was moved meanwhile is no reason to begin again */
        inv_lock_take(&heap->lock);
        heap->taken_packed = heap->taken_bytes;
        inv_lock_give(&heap->lock);
    }
    return heap->packing;
}

bool inv_heap_leaves(inv_heap *heap, const void *pointer) {
    const inv_heap_block *block =
        (const inv_heap_block *)((uintptr_t)pointer - BLOCK_HEADER_BYTES);
    inv_lock_take(&heap->lock);
    bool leaves = (block->size & LEAVING) != 0;
    inv_lock_give(&heap->lock);
    return leaves;
}

/* ---- proof ----------------------------------------------------------------------------------- */

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
        bool listed = (block->size & LEAVING) == 0;
        if (is_free && is_listed(heap, block) != listed) return "a free block is not in its class";
        if (size_of(after) != 0 && ((after->size ^ block->size) & LEAVING) != 0)
            return "a block is not left with its chunk";
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
