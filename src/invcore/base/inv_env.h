/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_env.h: the seam. Everything the outside world gives the engine goes through these tables:
 * clock, storage, allocator, entropy, threads, and (in test builds) yield points.
 *
 * inv_env_posix.c and inv_env_mem.c implement it; all fault campaigns stand on it. No other file of
 * the core calls clock_gettime, open, mmap, fdatasync, getrandom, malloc or
 * pthread_create.
 *
 * STORAGE speaks of named files in one flat directory. Rules every implementation keeps:
 *  - names are at most INV_FILE_NAME_MAX bytes of [a-zA-Z0-9.-]; the directory is theirs alone;
 *  - what was written is durable only after sync (mapped segment) or `synced` write; a created,
 *    renamed or removed NAME is durable only after sync_directory;
 *  - every call may fail; after a failed sync nothing about the unsynced bytes is known, and the
 *    caller must not ask again (the second answer would be a lie);
 *  - calls on different files may come from different threads at once.
 */
#ifndef INV_ENV_H
#define INV_ENV_H

#include "inv_base.h"

#define INV_FILE_NAME_MAX 47u
#define INV_SECTOR_BYTES 512u

typedef struct inv_clock {
    void *context;
    uint64_t (*mono_ms)(void *context);      /* counts suspend; never runs backwards */
    uint64_t (*mono_ns)(void *context);      /* the same clock, for measuring durations */
    uint64_t (*wall_unix_ms)(void *context); /* may jump: a witness, never followed */
} inv_clock;

/* A mapped log segment. `bytes` may be written by the store anywhere in [0, size). */
typedef struct inv_segment_map {
    uint8_t *bytes;
    uint64_t size;
    void *handle; /* the implementation's own */
} inv_segment_map;

typedef struct inv_storage {
    void *context; /* NULL context and NULL functions: there is no storage (memory mode) */

    /* Exclusive use of the directory for this handle until unlock. INV_STORE_LOCKED. */
    inv_result (*lock)(void *context, inv_error *error);
    void (*unlock)(void *context);

    /* Calls visit(argument, name, size) for every file, in no order; stops when it returns false.
     */
    inv_result (*list)(void *context,
                       bool (*visit)(void *argument, const char *name, uint64_t size),
                       void *argument, inv_error *error);

    /* Writes `bytes` zero bytes at `offset` of file `name`, creating it (truncated) at offset 0,
     * and makes the data durable. Called in pieces of at most 1 MiB, so that the caller can pace
     * them. INV_DISK_FULL, INV_IO_ERROR. */
    inv_result (*prepare)(void *context, const char *name, uint64_t offset, uint64_t bytes,
                          inv_error *error);

    /* Maps a fully prepared file, all zeros still, for writing. staged: what is stored reaches the
     * file only with a sync that covers it, so that the memory can be ordinary memory; else it is
     * in the page cache at once (it outlives the process), its pages resident. */
    inv_result (*map)(void *context, const char *name, bool staged, inv_segment_map *out_map,
                      inv_error *error);
    void (*unmap)(void *context, inv_segment_map *map);

    /* Makes [offset, offset + bytes) of a mapped segment durable (and may make more durable). */
    inv_result (*sync)(void *context, const inv_segment_map *map, uint64_t offset, uint64_t bytes,
                       inv_error *error);

    /* Reads up to `bytes` bytes; *out_read is fewer only at the end of the file. The page cache is
     * not trusted after an unclean stop: implementations read from the device where they can. */
    inv_result (*read)(void *context, const char *name, uint64_t offset, void *buffer,
                       uint64_t bytes, uint64_t *out_read, inv_error *error);

    /* The same, out of the page cache and without a lock that a writer of the file may want: for
     * what was synced while this process has had the file. Reading from the device would have a
     * segment that is being written flushed first, and its writer wait. */
    inv_result (*read_cached)(void *context, const char *name, uint64_t offset, void *buffer,
                              uint64_t bytes, uint64_t *out_read, inv_error *error);

    /* Overwrites bytes of a small file, creating it if absent; synced = durable on return. */
    inv_result (*write)(void *context, const char *name, uint64_t offset, const void *bytes,
                        uint64_t size, bool synced, inv_error *error);

    inv_result (*rename)(void *context, const char *source, const char *target, inv_error *error);
    inv_result (*remove)(void *context, const char *name, inv_error *error);
    inv_result (*sync_directory)(void *context, inv_error *error);

    /* Cuts a file that nobody needs any more to `bytes`, if it is longer; it is not mapped.
     * Removing
     * 64 MiB at once holds up every sync of others for 15 ms, while its blocks are freed. */
    inv_result (*shrink)(void *context, const char *name, uint64_t bytes, inv_error *error);

    /* Bytes and new files that would fit now, as far as the system knows: quotas may allow less. */
    inv_result (*room)(void *context, uint64_t *out_bytes, uint64_t *out_files, inv_error *error);
} inv_storage;

typedef struct inv_allocator {
    void *context;
    void *(*alloc)(void *context, size_t bytes); /* zero-filled, 64-byte aligned; NULL: no memory */
    void (*free)(void *context, void *pointer, size_t bytes); /* bytes as given to alloc */
    /* Packing (inv_heap.h), for one thread; NULL: there is nothing to pack. pack ends a round and
     * begins the next: whether it did. leaves: this block is to be replaced in this round. */
    bool (*pack)(void *context);
    bool (*leaves)(void *context, const void *pointer, size_t bytes);
} inv_allocator;

typedef struct inv_entropy {
    void *context;
    bool (*fill)(void *context, void *buffer, size_t bytes);
} inv_entropy;

/* One thread beside the caller's, for work inside one call: opening replays a long log with it. */
typedef struct inv_threads {
    void *context;
    /* Begins run(argument) on a thread of its own. NULL: none is to be had, the caller goes
     * without. start itself is NULL in an environment without threads. */
    void *(*start)(void *context, void (*run)(void *argument), void *argument);
    void (*join)(void *context, void *thread); /* waits for its end, once for each start */
} inv_threads;

struct inv_env {
    inv_clock clock;
    inv_storage storage;
    inv_allocator allocator;
    inv_entropy entropy;
    inv_threads threads;
    uint32_t replay_part_entries; /* tests: entries of a part of a replay window, so that a short
                                     log fills windows and starts the thread; 0: the usual 128 */
    uint32_t snapshot_stripes; /* tests: stripes that one step of a snapshot copies, so that others
                                  come in between; 0: as many as fill a block */
    uint64_t digest_bytes; /* tests: of log from one DIGEST to the next; 0: the usual 16 MiB */
    void (*yield)(void *context, int point); /* NULL in products; called at INV_YIELD points */
    void *yield_context;
    void *owned[4]; /* what inv_env_use_* allocated, freed by inv_env_destroy */
};

static inline bool inv_env_has_storage(const inv_env *env) { return env->storage.write != NULL; }

static inline void *inv_env_alloc(const inv_env *env, size_t bytes) {
    return env->allocator.alloc(env->allocator.context, bytes);
}
static inline void inv_env_free(const inv_env *env, void *pointer, size_t bytes) {
    if (pointer != NULL) env->allocator.free(env->allocator.context, pointer, bytes);
}

/* Yield points: each atomic step another thread could come between. Only test builds call out. */
#ifdef INV_YIELD_POINTS
#define INV_YIELD(env, point)                                                  \
    do {                                                                       \
        if ((env)->yield != NULL) (env)->yield((env)->yield_context, (point)); \
    } while (0)
#else
#define INV_YIELD(env, point) ((void)0)
#endif

enum {
    INV_YIELD_BEFORE_TAIL = 1, /* appender: floor stored, tail not yet claimed */
    INV_YIELD_BEFORE_COPY,     /* appender: tail claimed, bytes not yet copied */
    INV_YIELD_MID_COPY,        /* appender: payload copied, header not yet */
    INV_YIELD_BEFORE_IDLE,     /* appender: bytes copied, slot not yet idle */
    INV_YIELD_BEFORE_SYNC,     /* flusher: prefix known, not yet synced */
    INV_YIELD_BEFORE_PUBLISH,  /* flusher: synced, durable lsn not yet published */
    INV_YIELD_IN_ROTATION,     /* appender: segment sealed, next one not yet current */
    INV_YIELD_IN_LOCKING,      /* run: one stripe lock taken, the next not yet */
    INV_YIELD_IN_READ,         /* seqlock reader: row read, lsn and sequence not yet */
    INV_YIELD_IN_APPLY         /* run: one row of a cart changed, the next not yet */
};

/* Storage in memory (inv_env_mem.c), beyond the public inv_memory_* calls, for the simulator.
 *
 * Model: every file has a volatile image and, per 512-byte sector, a durable image; the set of
 * names likewise has a volatile and a durable version. A crash state = for each sector whose two
 * images differ, one of them; for each unsynced name change, done or undone (in order: a prefix).
 */

/* Called before (after = false) and after every storage call that changes something (prepare, map,
 * sync, write, rename, remove, sync_directory, shrink); `call` counts them from 1. Returning
 * anything but INV_OK before a call makes it fail with that result (out of `error`), having done
 * nothing. NULL: no hook. */
typedef inv_result (*inv_memory_hook)(void *argument, uint64_t call, const char *what,
                                      const char *name, bool after);
void inv_memory_set_hook(inv_memory *memory, inv_memory_hook hook, void *argument);

/* A deep copy of the disk as it is, both images. NULL when out of memory. */
inv_memory *inv_memory_clone(const inv_memory *memory);

/* Number of sectors whose images differ, and of unsynced name changes. */
uint64_t inv_memory_unsynced_sectors(const inv_memory *memory);
uint64_t inv_memory_unsynced_names(const inv_memory *memory);

/* Cuts the power: sector i of the unsynced ones (in order of name, then offset) keeps its volatile
 * image if keep_sector(argument, i) says so, else falls back to the durable one; keep_sector may
 * return 2 for garbage (pseudo-random bytes of `i`: a sector in flight). The first names_kept
 * unsynced name changes are done, the others undone. Afterwards both images are equal and nothing
 * is locked or mapped. */
void inv_memory_cut(inv_memory *memory, int (*keep_sector)(void *argument, uint64_t i),
                    void *argument, uint64_t names_kept);

/* 64-bit hash of names and durable images: tells crash states apart. */
uint64_t inv_memory_hash(const inv_memory *memory);

/* Direct access for corruption campaigns: the volatile bytes of a file, NULL if absent; a change
 * made through it is made in both images by inv_memory_settle. truncate sets both images' size. */
uint8_t *inv_memory_file(inv_memory *memory, const char *name, uint64_t *out_size);
void inv_memory_settle(inv_memory *memory);
bool inv_memory_truncate(inv_memory *memory, const char *name, uint64_t bytes);

#endif
