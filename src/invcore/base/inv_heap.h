/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_heap.h: a heap over large chunks, so that tables of a few hundred KiB lie together on huge
 * pages. A lookup in a table of 100 M rows misses the address cache of the processor on small pages
 * nearly every time, and waits about twice as long for its line then (docs/performance.md).
 *
 * Two-level segregated fit (Masmano, Ripoll, Crespo, Real, "TLSF: a new dynamic memory allocator
 * for real-time systems", 2004): constant time, free neighbours are joined at once, 16 bytes a
 * block.
 *
 * THREADS: any; one lock. MEMORY: chunks of 4 to 64 MiB from the function given, each given back
 * when nothing in it is used; within a chunk, pages of 2 MiB that become free are dropped. Arrays
 * of 4,096 stripes grow at about the same time, so a whole generation of them would lie idle behind
 * the next one otherwise. Rejected: the C library's heap (small pages unless the whole process
 * is told otherwise); blocks of powers of two (a third of a grown array would be waste).
 *
 * PACKING. Arrays that grew leave holes too small for the next ones: a quarter of the memory after
 * a load. When nothing is taken any more, inv_heap_pack chooses chunks that are to be left. Nothing
 * new is put there; their owner moves what can move (inv_heap_leaves says what lies there) into new
 * memory, one block behind the other, and what becomes free goes back to the system. A round leaves
 * an eighth of the heap, and rounds go on until each chunk has had its turn.
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
#define INV_HEAP_HOLES_SHARE 16u /* heaps and chunks are packed from this part (1/16) of holes on */
#define INV_HEAP_ROUND_SHARE 8u  /* part of the used bytes that one round of packing moves */

typedef struct inv_heap_block inv_heap_block;
typedef struct inv_heap_chunk inv_heap_chunk;

/* All fields under `lock`; the last ones are of the one thread that packs. */
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
    inv_heap_chunk *chunks;     /* newest first */
    uint64_t used_bytes;        /* in blocks handed out, headers included */
    uint64_t chunk_count, chunks_made;
    uint64_t taken_bytes;       /* ever handed out */
    bool packing;               /* a round has begun */
    uint64_t pack_until;        /* chunks made after this one are not packed now */
    uint64_t taken_seen;        /* taken_bytes at the last inv_heap_pack */
    uint64_t taken_packed;      /* taken_bytes when packing last ended, or found nothing to do */
} inv_heap;

/* drop: the contents of these whole pages of INV_HEAP_PAGE_BYTES are not needed any more; their
 * memory may go back to the system until they are used again. */
void inv_heap_init(inv_heap *heap, void *(*map)(void *context, size_t bytes),
                   void (*unmap)(void *context, void *chunk, size_t bytes),
                   void (*drop)(void *context, void *pages, size_t bytes), void *context);

/* `bytes` zeros (1 to INV_HEAP_BLOCK_BYTES_MAX), 64-byte aligned; memory that was never used before
 * is not touched. NULL: no memory, nothing has changed. */
void *inv_heap_alloc(inv_heap *heap, size_t bytes);
void inv_heap_free(inv_heap *heap, void *pointer);

/* Ends a round of packing and begins the next one, if there is one. Returns whether it did: the
 * caller then replaces the blocks that inv_heap_leaves and calls again. Packing begins when a call
 * finds that nothing was taken since the one before (so call it every second or so), that enough
 * was since the last packing, and that there are holes enough. A chunk is walked under the lock
 * (about 1,000 blocks); no other step is longer. One thread at a time. */
bool inv_heap_pack(inv_heap *heap);
bool inv_heap_leaves(inv_heap *heap, const void *pointer);

/* Walks the chunk a live block lies in: sizes, links back, joined neighbours, classes. NULL or what
 * is broken (static text). */
const char *inv_heap_check(inv_heap *heap, const void *pointer);

/* Gives every chunk back; no block is in use any more. */
void inv_heap_deinit(inv_heap *heap);

#endif
