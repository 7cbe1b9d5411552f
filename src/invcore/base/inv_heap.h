/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_heap.h: a heap over large chunks, so that tables of a few hundred KiB lie together on huge
 * pages. A lookup in a table of 100 M rows misses the address cache of the processor on small pages
 * nearly every time, and waits about twice as long for its line then (docs/performance.md).
 *
 * Two-level segregated fit (Masmano, Ripoll, Crespo, Real, "TLSF: a new dynamic memory allocator for
 * real-time systems", 2004): constant time, free neighbours are joined at once, 16 bytes a block.
 *
 * THREADS: any; one lock. MEMORY: chunks of 4 to 64 MiB from the function given, each given back
 * when nothing in it is used; within a chunk, pages of 2 MiB that become free are dropped. Arrays of
 * 4,096 stripes grow at about the same time, so a whole generation of them would lie idle behind the
 * next one otherwise. Rejected: the C library's heap (small pages unless the whole process
 * is told otherwise); blocks of powers of two (a third of a grown array would be waste).
 */
#ifndef INV_HEAP_H
#define INV_HEAP_H

#include "inv_lock.h"

#define INV_HEAP_CLASS_BITS 4u /* 16 classes to each doubling of size */
#define INV_HEAP_CLASSES (1u << INV_HEAP_CLASS_BITS)
#define INV_HEAP_DOUBLINGS 21u /* of 64 bytes: up to 64 MiB */
#define INV_HEAP_CHUNK_BYTES_MIN ((size_t)4 << 20)
#define INV_HEAP_CHUNK_BYTES_MAX ((size_t)64 << 20)
#define INV_HEAP_PAGE_BYTES ((size_t)2 << 20)
#define INV_HEAP_BLOCK_BYTES_MAX ((size_t)16 << 20) /* of one allocation */

typedef struct inv_heap_block inv_heap_block;

/* All fields under `lock`. */
typedef struct inv_heap {
    void *(*map)(void *context, size_t bytes); /* a chunk of zeros, 64-byte aligned, or NULL */
    void (*unmap)(void *context, void *chunk, size_t bytes);
    void (*drop)(void *context, void *pages, size_t bytes);
    void *context;
    inv_lock lock;
    uint32_t doublings;                   /* bit d set: classes[d] is not 0 */
    uint32_t classes[INV_HEAP_DOUBLINGS]; /* bit c set: free[d][c] is not empty */
    inv_heap_block *free[INV_HEAP_DOUBLINGS][INV_HEAP_CLASSES];
    uintptr_t fresh, fresh_end; /* of the newest chunk, never handed out: still zero */
    size_t chunk_bytes;         /* of the next chunk */
    uint64_t used_bytes; /* in blocks handed out, headers included */
    uint64_t chunk_count;
} inv_heap;

/* drop: the contents of these whole pages of INV_HEAP_PAGE_BYTES are not needed any more; their
 * memory may go back to the system until they are used again. */
void inv_heap_init(inv_heap *heap, void *(*map)(void *context, size_t bytes),
                   void (*unmap)(void *context, void *chunk, size_t bytes),
                   void (*drop)(void *context, void *pages, size_t bytes), void *context);

/* `bytes` zeros (1 to INV_HEAP_BLOCK_BYTES_MAX), 64-byte aligned; memory that was never used before is
 * not touched. NULL: no memory, nothing has changed. */
void *inv_heap_alloc(inv_heap *heap, size_t bytes);
void inv_heap_free(inv_heap *heap, void *pointer);

/* Walks the chunk a live block lies in: sizes, links back, joined neighbours, classes. NULL or what
 * is broken (static text). */
const char *inv_heap_check(inv_heap *heap, const void *pointer);

/* Gives every chunk back; no block is in use any more. */
void inv_heap_deinit(inv_heap *heap);

#endif
