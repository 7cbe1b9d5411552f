/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_env_posix.c: the real world behind inv_env: Linux clocks, memory, entropy, threads and a
 * directory.
 *
 * This is the only file of the core that calls clock_gettime, open, mmap, fdatasync, getrandom,
 * pthread_create or an allocator for the engine (inv_env_mem.c, a disk made of memory, allocates
 * that disk itself).
 *
 * Guarantees
 *  - INV_OK from prepare, sync or a synced write means fdatasync said so for exactly those bytes.
 *    A sync is asked for once; whatever it answers is final, EINTR included, because the kernel
 *    reports a failed writeback once and then forgets the bytes.
 *  - A name is durable after sync_directory; the directory itself as soon as inv_env_use_directory
 *    returns (its parent is synced).
 *  - read looks at the device, not at the page cache, wherever the file system can do that.
 *  - Files are 0600, the directory 0700, symbolic links are never followed inside it, and no
 *    descriptor leaks into an executed child.
 *  - Every failure names the call, the file and the directory, and carries errno.
 *
 * All calls may come from any thread. One lock, `guard`, protects the descriptor of the directory
 * lock and nothing else; the kernel orders the rest.
 *
 * Rejected: keeping descriptors of all files (segments are opened once each, STATE rarely, HINT at
 * most a hundred times a second); fallocate instead of writing zeros (the first real write then
 * changes metadata, and its sync costs a journal commit); msync (fdatasync covers mapped pages);
 * fcntl locks (any close of the file in the process drops them, and a second opener in the same
 * process is not refused).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_DIRECT, CLOCK_BOOTTIME, MAP_POPULATE */
#endif
#include "inv_env.h"
#include "inv_heap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h> /* renameat; /proc/locks */
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "inv_env_name.h"
#include "inv_lock.h"

#define FILE_MODE 0600
#define DIRECTORY_MODE 0700
#define DIRECT_ALIGN 4096u            /* satisfies O_DIRECT on every block size in use */
#define DIRECT_BYTES_MIN (64u << 10) /* smaller writes are not worth it */
#define BOUNCE_BYTES_MAX (1u << 20)
#define ZERO_PAGE_BYTES 4096u
#define ZERO_VECTOR_COUNT_MAX 256u    /* one pwritev writes up to 1 MiB of zeros */
#define HUGE_PAGE_BYTES (2u << 20)
#define HEAP_BLOCK_BYTES_MIN 1024u
#define MAPPED_BLOCK_BYTES_MIN (2u << 20)
#define HUGE_PAGES_FROM_BYTES (16u << 20) /* a small store keeps to small pages */
#define TOUCH_BYTES (1u << 20) /* of staged memory, touched ahead at a time */
#define MAPPING_ROUND_BYTES (64u << 10) /* a multiple of every page size Linux uses */

/* Slots of inv_env.owned. */
enum { OWNED_DIRECTORY = 0, OWNED_MANUAL_CLOCK = 1, OWNED_MAPPINGS = 2 };

/* ---- clocks ---------------------------------------------------------------------------------- */

static uint64_t clock_ns(clockid_t id) {
    struct timespec now;
    int failed = clock_gettime(id, &now);
    INV_ASSERT(failed == 0);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* BOOTTIME and not MONOTONIC: a hold must not outlive its deadline because a laptop slept. */
static uint64_t real_mono_ms(void *context) {
    (void)context;
    return clock_ns(CLOCK_BOOTTIME) / 1000000ull;
}
static uint64_t real_mono_ns(void *context) {
    (void)context;
    return clock_ns(CLOCK_BOOTTIME);
}
static uint64_t real_wall_unix_ms(void *context) {
    struct timespec now;
    (void)context;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    INV_ASSERT(failed == 0);
    if (now.tv_sec < 0) return 0; /* a clock set before 1970 */
    return (uint64_t)now.tv_sec * 1000ull + (uint64_t)now.tv_nsec / 1000000ull;
}

/* What the monotonic clock of a manual clock shows at its start: far from zero and from any unix
 * time, so that mixing up the two clocks shows in the first test. */
#define MANUAL_MONO_START_MS 3600000ull

typedef struct manual_clock {
    uint64_t start_unix_ms;       /* constant */
    _Atomic uint64_t now_unix_ms; /* only grows */
    _Atomic int64_t wall_offset_ms;
} manual_clock;

static uint64_t manual_now_unix_ms(void *context) {
    manual_clock *clock = (manual_clock *)context;
    /* acquire: pairs with the release of inv_env_set_clock; what the caller did before moving the
     * clock is visible to who sees the new time */
    return atomic_load_explicit(&clock->now_unix_ms, memory_order_acquire);
}
static uint64_t manual_wall_unix_ms(void *context) {
    manual_clock *clock = (manual_clock *)context;
    uint64_t now_ms = manual_now_unix_ms(context);
    int64_t offset_ms = atomic_load_explicit(&clock->wall_offset_ms, memory_order_relaxed);
    if (offset_ms < 0 && now_ms < 0 - (uint64_t)offset_ms) return 0;
    return now_ms + (uint64_t)offset_ms;
}
static uint64_t manual_mono_ms(void *context) {
    const manual_clock *clock = (const manual_clock *)context;
    return manual_now_unix_ms(context) - clock->start_unix_ms + MANUAL_MONO_START_MS;
}
static uint64_t manual_mono_ns(void *context) { return manual_mono_ms(context) * 1000000ull; }

void inv_env_use_manual_clock(inv_env *env, uint64_t start_unix_ms) {
    manual_clock *clock = (manual_clock *)env->owned[OWNED_MANUAL_CLOCK];
    if (clock == NULL) clock = (manual_clock *)calloc(1, sizeof *clock);
    INV_ASSERT(clock != NULL); /* 24 bytes while setting up a test: no result to report it in */
    clock->start_unix_ms = start_unix_ms;
    atomic_store_explicit(&clock->wall_offset_ms, 0, memory_order_relaxed);
    atomic_store_explicit(&clock->now_unix_ms, start_unix_ms, memory_order_release);
    env->owned[OWNED_MANUAL_CLOCK] = clock;
    env->clock = (inv_clock){clock, manual_mono_ms, manual_mono_ns, manual_wall_unix_ms};
}

/* Without a manual clock this does nothing: real time cannot be set. */
void inv_env_set_clock(inv_env *env, uint64_t now_unix_ms) {
    manual_clock *clock = (manual_clock *)env->owned[OWNED_MANUAL_CLOCK];
    if (clock == NULL) return;
    uint64_t seen = atomic_load_explicit(&clock->now_unix_ms, memory_order_relaxed);
    while (seen < now_unix_ms) {
        /* release: pairs with the acquire of manual_now_unix_ms */
        if (atomic_compare_exchange_weak_explicit(&clock->now_unix_ms, &seen, now_unix_ms,
                                                  memory_order_release, memory_order_relaxed))
            return;
    }
}

void inv_env_set_wall_offset(inv_env *env, int64_t wall_offset_ms) {
    manual_clock *clock = (manual_clock *)env->owned[OWNED_MANUAL_CLOCK];
    if (clock == NULL) return;
    atomic_store_explicit(&clock->wall_offset_ms, wall_offset_ms, memory_order_relaxed);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static uint64_t mapping_bytes_of(size_t bytes) {
    return inv_align_u64((uint64_t)bytes, MAPPING_ROUND_BYTES);
}

typedef struct posix_mappings {
    _Atomic uint64_t bytes; /* mapped now */
    inv_heap heap;          /* blocks of HEAP_BLOCK_BYTES_MIN to MAPPED_BLOCK_BYTES_MIN */
} posix_mappings;

/* A mapping aligned to huge pages costs nothing until touched, and few TLB misses afterwards. The
 * surplus taken for the alignment is given back at once, so that free needs only the size. The
 * first mappings of an environment stay on small pages: first touching a huge one clears 2 MiB. */
static void *large_alloc(posix_mappings *mappings, size_t bytes) {
    uint64_t wanted = mapping_bytes_of(bytes);
    uint64_t surplus = wanted >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 0;
    uint8_t *start = (uint8_t *)mmap(NULL, wanted + surplus, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return NULL;
    if (surplus > 0) {
        uint64_t head = inv_align_u64((uint64_t)(uintptr_t)start, surplus) -
                        (uint64_t)(uintptr_t)start;
        if (head > 0) (void)munmap(start, head);
        if (surplus - head > 0) (void)munmap(start + head + wanted, surplus - head);
        start += head;
    }
    uint64_t mapped =
        atomic_fetch_add_explicit(&mappings->bytes, wanted, memory_order_relaxed) + wanted;
    if (mapped > HUGE_PAGES_FROM_BYTES) /* a wish: kernels without huge pages refuse it */
        (void)madvise(start, wanted, MADV_HUGEPAGE);
    return start;
}

static void large_free(posix_mappings *mappings, void *pointer, size_t bytes) {
    atomic_fetch_sub_explicit(&mappings->bytes, mapping_bytes_of(bytes), memory_order_relaxed);
    int failed = munmap(pointer, mapping_bytes_of(bytes));
    INV_ASSERT(failed == 0); /* only a wrong pointer or size can fail here */
}

static void *heap_map(void *context, size_t bytes) {
    return large_alloc((posix_mappings *)context, bytes);
}
static void heap_unmap(void *context, void *chunk, size_t bytes) {
    large_free((posix_mappings *)context, chunk, bytes);
}

static void heap_drop(void *context, void *pages, size_t bytes) {
    (void)context;
    (void)madvise(pages, bytes, MADV_DONTNEED); /* a wish */
}

/* Small blocks come from the C library; so do all under a sanitizer, which looks at their edges. */
static bool is_heap_block(size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
    (void)bytes;
    return false;
#else
    return bytes >= HEAP_BLOCK_BYTES_MIN;
#endif
}

static void *real_alloc(void *context, size_t bytes) {
    posix_mappings *mappings = (posix_mappings *)context;
    if (bytes > SIZE_MAX / 2) return NULL; /* the roundings below must not wrap */
    if (bytes >= MAPPED_BLOCK_BYTES_MIN) return large_alloc(mappings, bytes);
    size_t rounded = bytes == 0 ? INV_CACHE_LINE : (size_t)inv_align_u64(bytes, INV_CACHE_LINE);
    if (is_heap_block(bytes)) return inv_heap_alloc(&mappings->heap, bytes);
    void *block = aligned_alloc(INV_CACHE_LINE, rounded);
    if (block != NULL) memset(block, 0, rounded);
    return block;
}

static void real_free(void *context, void *pointer, size_t bytes) {
    posix_mappings *mappings = (posix_mappings *)context;
    if (bytes >= MAPPED_BLOCK_BYTES_MIN)
        large_free(mappings, pointer, bytes);
    else if (is_heap_block(bytes))
        inv_heap_free(&mappings->heap, pointer);
    else
        free(pointer);
}

static bool real_pack(void *context) {
    return inv_heap_pack(&((posix_mappings *)context)->heap);
}

static bool real_leaves(void *context, const void *pointer, size_t bytes) {
    bool in_heap = bytes < MAPPED_BLOCK_BYTES_MIN && is_heap_block(bytes);
    return in_heap && inv_heap_leaves(&((posix_mappings *)context)->heap, pointer);
}

static bool real_entropy(void *context, void *buffer, size_t bytes) {
    (void)context;
    uint8_t *target = (uint8_t *)buffer;
    while (bytes > 0) {
        ssize_t got = getrandom(target, bytes, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        target += got;
        bytes -= (size_t)got;
    }
    return true;
}

/* ---- threads --------------------------------------------------------------------------------- */

typedef struct posix_thread {
    pthread_t id;
    void (*run)(void *argument);
    void *argument;
} posix_thread;

static void *run_thread(void *argument) {
    posix_thread *thread = (posix_thread *)argument;
    thread->run(thread->argument);
    return NULL;
}

/* Signals are the application's: none is delivered to a thread that it does not know of. */
static void *real_start(void *context, void (*run)(void *argument), void *argument) {
    (void)context;
    posix_thread *thread = (posix_thread *)calloc(1, sizeof *thread);
    if (thread == NULL) return NULL;
    *thread = (posix_thread){.run = run, .argument = argument};
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread->id, NULL, run_thread, thread);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed == 0) return thread;
    free(thread);
    return NULL;
}

static void real_join(void *context, void *thread) {
    (void)context;
    int failed = pthread_join(((posix_thread *)thread)->id, NULL);
    INV_ASSERT(failed == 0); /* only a thread that is not ours can fail here */
    free(thread);
}

/* ---- the directory --------------------------------------------------------------------------- */

typedef struct posix_directory {
    int fd;         /* the directory, for openat and fsync; constant */
    bool read_only; /* nothing is created or changed; constant */
    inv_lock guard; /* protects lock_fd and locked */
    bool locked;    /* between lock and unlock */
    int lock_fd;    /* the LOCK file while locked, -1 if there is none to lock (read-only) */
    char path[];    /* as given, for messages */
} posix_directory;

typedef struct posix_map {
    int fd;                           /* of the mapped file: what sync syncs */
    bool staged;                      /* the bytes are ours, sync writes them to the file */
    uint64_t touched_bytes;           /* staged: pages there from the start; only sync changes it */
    char name[INV_FILE_NAME_MAX + 1]; /* for messages */
} posix_map;

static bool is_disk_full(int os_errno) { return os_errno == ENOSPC || os_errno == EDQUOT; }

/* Doing what to which file failed, and why. */
static inv_result fail_file(const posix_directory *directory, inv_error *error, int os_errno,
                            const char *doing, const char *name) {
    inv_result code = is_disk_full(os_errno)  ? INV_DISK_FULL
                      : os_errno == ENOMEM ? INV_NO_MEMORY
                                           : INV_IO_ERROR;
    return inv_fail(error, code, os_errno, "cannot %s '%s' in directory '%s' (errno %d)", doing,
                    name, directory->path, os_errno);
}

/* Returns a descriptor, or -1 and errno. */
static int open_in(int directory_fd, const char *name, int flags) {
    for (;;) {
        int fd = openat(directory_fd, name, flags | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
        if (fd >= 0 || errno != EINTR) return fd;
    }
}

static int open_file(const posix_directory *directory, const char *name, int flags) {
    INV_ASSERT(inv_env_name_is_valid(name));
    return open_in(directory->fd, name, flags);
}

/* Linux closes the descriptor even when close says EINTR: a second close could hit another's. */
static int close_file(int fd) { return close(fd) == 0 || errno == EINTR ? 0 : errno; }

/* The process that has a file locked, as far as the system says; 0: it doesn't. */
static long holder_of(int fd) {
    struct stat status;
    char line[256];
    long holder = 0;
    FILE *locks = fstat(fd, &status) == 0 ? fopen("/proc/locks", "re") : NULL;
    while (locks != NULL && holder == 0 && fgets(line, sizeof line, locks) != NULL) {
        long pid = 0;
        unsigned long long inode = 0; /* 1: FLOCK  ADVISORY  WRITE 4711 08:01:131078 0 EOF */
        if (sscanf(line, "%*d: FLOCK %*s %*s %ld %*x:%*x:%llu", &pid, &inode) == 2 &&
            inode == status.st_ino && pid > 0)
            holder = pid;
    }
    if (locks != NULL) (void)fclose(locks);
    return holder;
}

static inv_result fail_locked(const posix_directory *directory, int fd, int os_errno,
                              inv_error *error) {
    long holder = holder_of(fd);
    if (holder == 0)
        return inv_fail(error, INV_STORE_LOCKED, os_errno,
                        "directory '%s' is in use by another process or handle", directory->path);
    return inv_fail(error, INV_STORE_LOCKED, os_errno, "directory '%s' is in use by process %ld%s",
                    directory->path, holder, holder == (long)getpid() ? ", this one" : "");
}

static inv_result posix_lock(void *context, inv_error *error) {
    posix_directory *directory = (posix_directory *)context;
    inv_result result = INV_OK;
    inv_lock_take(&directory->guard);
    if (directory->locked) {
        result = inv_fail(error, INV_STORE_LOCKED, EWOULDBLOCK,
                          "directory '%s' is in use by another store of this environment",
                          directory->path);
        goto done;
    }
    int flags = directory->read_only ? O_RDONLY : O_RDWR | O_CREAT;
    int fd = open_in(directory->fd, INV_ENV_LOCK_NAME, flags);
    int os_errno = fd < 0 ? errno : 0;
    /* A reader of a copy, or without permission, has no lock file to lock and no one to disturb. */
    bool optional = directory->read_only && (os_errno == ENOENT || os_errno == EACCES);
    if (fd < 0 && !optional) {
        result = fail_file(directory, error, os_errno, "open", INV_ENV_LOCK_NAME);
        goto done;
    }
    /* flock belongs to the open file description: a second open in this process is refused too. */
    int failed = fd < 0 ? 0 : flock(fd, (directory->read_only ? LOCK_SH : LOCK_EX) | LOCK_NB);
    if (failed != 0) {
        os_errno = errno;
        result = os_errno == EWOULDBLOCK
                     ? fail_locked(directory, fd, os_errno, error)
                     : fail_file(directory, error, os_errno, "lock", INV_ENV_LOCK_NAME);
        (void)close_file(fd);
        goto done;
    }
    directory->lock_fd = fd;
    directory->locked = true;
done:
    inv_lock_give(&directory->guard);
    return result;
}

static void posix_unlock(void *context) {
    posix_directory *directory = (posix_directory *)context;
    inv_lock_take(&directory->guard);
    if (directory->lock_fd >= 0) {
        /* Explicitly, because a forked child still holds a copy of the descriptor. */
        (void)flock(directory->lock_fd, LOCK_UN);
        (void)close_file(directory->lock_fd);
    }
    directory->lock_fd = -1;
    directory->locked = false;
    inv_lock_give(&directory->guard);
}

/* Regular files with names the other calls accept; the lock file and strangers are not ours. */
static inv_result posix_list(void *context,
                             bool (*visit)(void *argument, const char *name, uint64_t size),
                             void *argument, inv_error *error) {
    const posix_directory *directory = (const posix_directory *)context;
    int fd = open_in(directory->fd, ".", O_RDONLY | O_DIRECTORY);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (stream == NULL) {
        int os_errno = errno;
        if (fd >= 0) (void)close_file(fd);
        return fail_file(directory, error, os_errno, "list", ".");
    }
    int os_errno = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (entry == NULL) {
            os_errno = errno;
            break;
        }
        if (!inv_env_name_is_valid(entry->d_name)) continue;
        struct stat status;
        if (fstatat(directory->fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT) continue; /* removed while we looked */
            os_errno = errno;
            break;
        }
        if (!S_ISREG(status.st_mode)) continue;
        if (!visit(argument, entry->d_name, (uint64_t)status.st_size)) break;
    }
    (void)closedir(stream);
    return os_errno == 0 ? INV_OK : fail_file(directory, error, os_errno, "list", ".");
}

/* ---- writing --------------------------------------------------------------------------------- */

static const uint8_t zero_page[ZERO_PAGE_BYTES];

/* Returns 0 or an errno. A transfer that is short goes on; one that moves nothing is an error. */
static int write_zeros(int fd, uint64_t offset, uint64_t bytes) {
    struct iovec vectors[ZERO_VECTOR_COUNT_MAX];
    while (bytes > 0) {
        int count = 0;
        uint64_t taken = 0;
        while (taken < bytes && count < (int)ZERO_VECTOR_COUNT_MAX) {
            size_t part = (size_t)inv_min_u64(bytes - taken, ZERO_PAGE_BYTES);
            vectors[count++] = (struct iovec){(void *)(uintptr_t)zero_page, part};
            taken += part;
        }
        ssize_t written = pwritev(fd, vectors, count, (off_t)offset);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return written < 0 ? errno : EIO;
        offset += (uint64_t)written;
        bytes -= (uint64_t)written;
    }
    return 0;
}

static int write_bytes(int fd, uint64_t offset, const uint8_t *bytes, uint64_t size) {
    while (size > 0) {
        ssize_t written = pwrite(fd, bytes, (size_t)size, (off_t)offset);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return written < 0 ? errno : EIO;
        bytes += written;
        offset += (uint64_t)written;
        size -= (uint64_t)written;
    }
    return 0;
}

/* May a read or write of this range go past the page cache without a copy? */
static bool is_direct_range(uint64_t offset, const void *bytes, uint64_t size) {
    return (offset | (uintptr_t)bytes | size) % DIRECT_ALIGN == 0;
}

/* The write's own outcome, then the sync's (asked for once), then that of close. */
static int finish_write(int fd, int os_errno, bool synced) {
    if (os_errno == 0 && synced && fdatasync(fd) != 0) os_errno = errno;
    int close_errno = close_file(fd);
    return os_errno != 0 ? os_errno : close_errno;
}

static inv_result posix_prepare(void *context, const char *name, uint64_t offset, uint64_t bytes,
                                inv_error *error) {
    const posix_directory *directory = (const posix_directory *)context;
    if (directory->read_only) return fail_file(directory, error, EROFS, "prepare", name);
    int fd = open_file(directory, name, O_WRONLY | (offset == 0 ? O_CREAT | O_TRUNC : 0));
    if (fd < 0) return fail_file(directory, error, errno, "open", name);
    int os_errno = finish_write(fd, write_zeros(fd, offset, bytes), true);
    return os_errno == 0 ? INV_OK : fail_file(directory, error, os_errno, "prepare", name);
}

static inv_result posix_write(void *context, const char *name, uint64_t offset, const void *bytes,
                              uint64_t size, bool synced, inv_error *error) {
    const posix_directory *directory = (const posix_directory *)context;
    if (directory->read_only) return fail_file(directory, error, EROFS, "write", name);
    /* Much at once, as of a snapshot, goes past the cache: twice as fast, and others who sync do
     * not wait behind it. Whatever refuses that is asked the plain way. */
    if (size >= DIRECT_BYTES_MIN && is_direct_range(offset, bytes, size)) {
        int direct = open_file(directory, name, O_WRONLY | O_CREAT | O_DIRECT);
        int failed = EINVAL;
        if (direct >= 0) failed = write_bytes(direct, offset, (const uint8_t *)bytes, size);
        if (direct >= 0 && failed != EINVAL) {
            failed = finish_write(direct, failed, synced);
            return failed == 0 ? INV_OK : fail_file(directory, error, failed, "write", name);
        }
        if (direct >= 0) (void)close_file(direct);
    }
    int fd = open_file(directory, name, O_WRONLY | O_CREAT);
    if (fd < 0) return fail_file(directory, error, errno, "open", name);
    int os_errno =
        finish_write(fd, write_bytes(fd, offset, (const uint8_t *)bytes, size), synced);
    return os_errno == 0 ? INV_OK : fail_file(directory, error, os_errno, "write", name);
}

/* ---- mapped segments ------------------------------------------------------------------------- */

/* Has pages of staged memory there before anybody stores to them: a sync does it for the next ones.
 */
static void touch_ahead(posix_map *handle, const inv_segment_map *map, uint64_t from) {
#ifdef MADV_POPULATE_WRITE
    uint64_t to = inv_min_u64(map->size, inv_align_u64(from, TOUCH_BYTES) + TOUCH_BYTES);
    if (!handle->staged || to <= handle->touched_bytes) return;
    (void)madvise(map->bytes + handle->touched_bytes, to - handle->touched_bytes,
                  MADV_POPULATE_WRITE); /* a wish: else the first store pays */
    handle->touched_bytes = to;
#else
    (void)handle, (void)map, (void)from;
#endif
}

/* Returns 0 or an errno; on success *out_map is complete but for its handle. */
static int map_descriptor(int fd, bool staged, inv_segment_map *out_map) {
    struct stat status;
    if (fstat(fd, &status) != 0) return errno;
    if (!S_ISREG(status.st_mode) || status.st_size <= 0) return EINVAL;
    /* POPULATE: a later store must find its page resident, it must not wait for a read. */
    void *bytes = staged ? mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                         : mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_POPULATE, fd, 0);
    if (bytes == MAP_FAILED) return errno;
    out_map->bytes = (uint8_t *)bytes;
    out_map->size = (uint64_t)status.st_size;
    return 0;
}

static inv_result posix_map_file(void *context, const char *name, bool staged,
                                 inv_segment_map *out_map, inv_error *error) {
    const posix_directory *directory = (const posix_directory *)context;
    if (directory->read_only) return fail_file(directory, error, EROFS, "map", name);
    posix_map *handle = (posix_map *)calloc(1, sizeof *handle);
    if (handle == NULL) return fail_file(directory, error, ENOMEM, "map", name);
    int fd = open_file(directory, name, O_RDWR);
    int os_errno = fd < 0 ? errno : 0;
    inv_segment_map map = {NULL, 0, handle};
    if (os_errno == 0) os_errno = map_descriptor(fd, staged, &map);
    if (os_errno != 0) {
        if (fd >= 0) (void)close_file(fd);
        free(handle);
        return fail_file(directory, error, os_errno, "map", name);
    }
    handle->fd = fd;
    handle->staged = staged;
    memcpy(handle->name, name, strlen(name));
    touch_ahead(handle, &map, 0);
    *out_map = map;
    return INV_OK;
}

static void posix_unmap(void *context, inv_segment_map *map) {
    (void)context;
    posix_map *handle = (posix_map *)map->handle;
    if (handle == NULL) return;
    int failed = munmap(map->bytes, (size_t)map->size);
    INV_ASSERT(failed == 0); /* only a map that is not ours can fail here */
    (void)close_file(handle->fd);
    free(handle);
    *map = (inv_segment_map){NULL, 0, NULL};
}

static inv_result posix_sync(void *context, const inv_segment_map *map, uint64_t offset,
                             uint64_t bytes, inv_error *error) {
    const posix_directory *directory = (const posix_directory *)context;
    posix_map *handle = (posix_map *)map->handle;
    INV_ASSERT(handle != NULL);
    INV_ASSERT(offset <= map->size && bytes <= map->size - offset);
    int os_errno = handle->staged ? write_bytes(handle->fd, offset, map->bytes + offset, bytes) : 0;
    /* The whole file: fdatasync has no range, and sync_file_range does not flush the device. */
    if (os_errno == 0 && fdatasync(handle->fd) != 0) os_errno = errno;
    if (os_errno == 0) {
        touch_ahead(handle, map, offset + bytes);
        return INV_OK;
    }
    /* Always IO_ERROR: the space was there when the file was prepared, so ENOSPC here is not a
     * state a caller may wait out. */
    return inv_fail(error, INV_IO_ERROR, os_errno,
                    "cannot sync '%s' in directory '%s' (errno %d)", handle->name, directory->path,
                    os_errno);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Past the page cache, which after a failed sync may show bytes the device never took. False if the
 * file system cannot do it or anything else went wrong: the plain way then finds out what. */
static bool read_direct(int fd, uint64_t offset, uint8_t *target, uint64_t bytes,
                        uint64_t *out_read) {
    struct stat status;
    if (fstat(fd, &status) != 0) return false;
    uint64_t file_bytes = (uint64_t)status.st_size;
    uint64_t end = inv_min_u64(file_bytes, bytes > UINT64_MAX - offset ? UINT64_MAX
                                                                       : offset + bytes);
    if (offset >= end) {
        *out_read = 0;
        return true;
    }
    if (is_direct_range(offset, target, bytes)) {
        uint64_t done = 0;
        while (offset + done < end) {
            ssize_t got = pread(fd, target + done, (size_t)(bytes - done), (off_t)(offset + done));
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) break;
            done += (uint64_t)got;
        }
        *out_read = done;
        return offset + done == end;
    }
    uint64_t first = offset - offset % DIRECT_ALIGN;
    uint64_t bounce_bytes =
        inv_min_u64(inv_align_u64(end - first, DIRECT_ALIGN), BOUNCE_BYTES_MAX);
    uint8_t *bounce = (uint8_t *)aligned_alloc(DIRECT_ALIGN, (size_t)bounce_bytes);
    if (bounce == NULL) return false;
    uint64_t position = offset;
    while (position < end) {
        uint64_t start = position - position % DIRECT_ALIGN;
        uint64_t skip = position - start;
        ssize_t got = pread(fd, bounce, (size_t)bounce_bytes, (off_t)start);
        if (got < 0 && errno == EINTR) continue;
        if (got <= (ssize_t)skip) break;
        uint64_t useful = inv_min_u64((uint64_t)got - skip, end - position);
        memcpy(target + (position - offset), bounce + skip, (size_t)useful);
        position += useful;
    }
    free(bounce);
    *out_read = position - offset;
    return position == end;
}

/* DONTNEED drops clean pages of the range, so that they are read again. */
static void drop_cached(int fd, uint64_t offset, uint64_t bytes) {
    uint64_t first = offset - offset % DIRECT_ALIGN;
    uint64_t span = inv_min_u64(bytes, INT64_MAX / 2) + (offset - first);
    (void)posix_fadvise(fd, (off_t)first, (off_t)inv_align_u64(span, DIRECT_ALIGN),
                        POSIX_FADV_DONTNEED);
}

/* Returns 0 or an errno. */
static int read_plain(int fd, uint64_t offset, uint8_t *target, uint64_t bytes,
                      uint64_t *out_read) {
    uint64_t done = 0;
    while (done < bytes) {
        ssize_t got = pread(fd, target + done, (size_t)(bytes - done), (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno;
        if (got == 0) break;
        done += (uint64_t)got;
    }
    *out_read = done;
    return 0;
}

static inv_result posix_read_cached(void *context, const char *name, uint64_t offset, void *buffer,
                                    uint64_t bytes, uint64_t *out_read, inv_error *error) {
    const posix_directory *directory = (const posix_directory *)context;
    uint64_t read = 0;
    int fd = open_file(directory, name, O_RDONLY);
    if (fd < 0) return fail_file(directory, error, errno, "open", name);
    int os_errno = read_plain(fd, offset, (uint8_t *)buffer, bytes, &read);
    (void)close_file(fd);
    if (os_errno != 0) return fail_file(directory, error, os_errno, "read", name);
    *out_read = read;
    return INV_OK;
}

static inv_result posix_read(void *context, const char *name, uint64_t offset, void *buffer,
                             uint64_t bytes, uint64_t *out_read, inv_error *error) {
    const posix_directory *directory = (const posix_directory *)context;
    uint64_t read = 0;
    int fd = open_file(directory, name, O_RDONLY | O_DIRECT);
    if (fd >= 0) {
        bool direct = read_direct(fd, offset, (uint8_t *)buffer, bytes, &read);
        (void)close_file(fd);
        if (direct) {
            *out_read = read;
            return INV_OK;
        }
    }
    fd = open_file(directory, name, O_RDONLY);
    if (fd < 0) return fail_file(directory, error, errno, "open", name);
    drop_cached(fd, offset, bytes);
    int os_errno = read_plain(fd, offset, (uint8_t *)buffer, bytes, &read);
    (void)close_file(fd);
    if (os_errno != 0) return fail_file(directory, error, os_errno, "read", name);
    *out_read = read;
    return INV_OK;
}

/* ---- names ----------------------------------------------------------------------------------- */

static inv_result posix_rename(void *context, const char *source, const char *target,
                               inv_error *error) {
    const posix_directory *directory = (const posix_directory *)context;
    INV_ASSERT(inv_env_name_is_valid(source));
    INV_ASSERT(inv_env_name_is_valid(target));
    if (directory->read_only) return fail_file(directory, error, EROFS, "rename", source);
    if (renameat(directory->fd, source, directory->fd, target) == 0) return INV_OK;
    return fail_file(directory, error, errno, "rename", source);
}

static inv_result posix_remove(void *context, const char *name, inv_error *error) {
    const posix_directory *directory = (const posix_directory *)context;
    INV_ASSERT(inv_env_name_is_valid(name));
    if (directory->read_only) return fail_file(directory, error, EROFS, "remove", name);
    if (unlinkat(directory->fd, name, 0) == 0) return INV_OK;
    return fail_file(directory, error, errno, "remove", name);
}

static inv_result posix_shrink(void *context, const char *name, uint64_t bytes,
                               inv_error *error) {
    const posix_directory *directory = (const posix_directory *)context;
    if (directory->read_only) return fail_file(directory, error, EROFS, "shrink", name);
    int fd = open_file(directory, name, O_WRONLY);
    if (fd < 0) return fail_file(directory, error, errno, "open", name);
    struct stat found;
    int os_errno = fstat(fd, &found) == 0 ? 0 : errno;
    if (os_errno == 0 && (uint64_t)found.st_size > bytes && ftruncate(fd, (off_t)bytes) != 0)
        os_errno = errno;
    os_errno = finish_write(fd, os_errno, false);
    return os_errno == 0 ? INV_OK : fail_file(directory, error, os_errno, "shrink", name);
}

/* What root may take beyond others is not counted: it is there for repairs. */
static inv_result posix_room(void *context, uint64_t *out_bytes, uint64_t *out_files,
                             inv_error *error) {
    const posix_directory *directory = (const posix_directory *)context;
    struct statvfs status;
    if (fstatvfs(directory->fd, &status) != 0)
        return fail_file(directory, error, errno, "ask for room", ".");
    uint64_t block_bytes = status.f_frsize, blocks = status.f_bavail;
    *out_bytes = blocks > UINT64_MAX / block_bytes ? UINT64_MAX : blocks * block_bytes;
    *out_files = status.f_files == 0 ? UINT64_MAX : status.f_favail; /* 0: it does not count them */
    return INV_OK;
}

static inv_result posix_sync_directory(void *context, inv_error *error) {
    const posix_directory *directory = (const posix_directory *)context;
    if (directory->read_only) return fail_file(directory, error, EROFS, "sync", ".");
    if (fsync(directory->fd) == 0) return INV_OK;
    return fail_file(directory, error, errno, "sync", ".");
}

/* ---- environment ----------------------------------------------------------------------------- */

inv_env *inv_env_create(void) {
    inv_env *env = (inv_env *)calloc(1, sizeof *env);
    posix_mappings *mappings = (posix_mappings *)calloc(1, sizeof *mappings);
    if (env == NULL || mappings == NULL) {
        free(mappings);
        free(env);
        return NULL;
    }
    inv_heap_init(&mappings->heap, heap_map, heap_unmap, heap_drop, mappings);
    env->owned[OWNED_MAPPINGS] = mappings;
    env->clock = (inv_clock){NULL, real_mono_ms, real_mono_ns, real_wall_unix_ms};
    env->allocator = (inv_allocator){mappings, real_alloc, real_free, real_pack, real_leaves};
    env->entropy = (inv_entropy){NULL, real_entropy};
    env->threads = (inv_threads){NULL, real_start, real_join};
    return env;
}

static void directory_destroy(posix_directory *directory) {
    if (directory == NULL) return;
    posix_unlock(directory);
    if (directory->fd >= 0) (void)close_file(directory->fd);
    free(directory);
}

void inv_env_destroy(inv_env *env) {
    if (env == NULL) return;
    directory_destroy((posix_directory *)env->owned[OWNED_DIRECTORY]);
    free(env->owned[OWNED_MANUAL_CLOCK]);
    inv_heap_deinit(&((posix_mappings *)env->owned[OWNED_MAPPINGS])->heap);
    free(env->owned[OWNED_MAPPINGS]);
    free(env);
}

/* The directory's own name must survive a power cut like the files in it. It is synced on every
 * opening, because the process that made the directory may have died before it got here. Only when
 * the directory is an old one may its parent be out of our reach, or of a kind that cannot sync. */
static int sync_parent(int directory_fd, bool created) {
    int parent_fd = open_in(directory_fd, "..", O_RDONLY | O_DIRECTORY);
    if (parent_fd < 0) return created ? errno : 0;
    int os_errno = fsync(parent_fd) == 0 ? 0 : errno;
    (void)close_file(parent_fd);
    bool cannot_sync = os_errno == EINVAL || os_errno == EROFS;
    return !created && cannot_sync ? 0 : os_errno;
}

inv_result inv_env_use_directory(inv_env *env, const char *path, bool read_only,
                                 inv_error *error) {
    INV_ASSERT(path != NULL);
    size_t path_bytes = strlen(path) + 1;
    posix_directory *directory = (posix_directory *)calloc(1, sizeof *directory + path_bytes);
    if (directory == NULL)
        return inv_fail(error, INV_NO_MEMORY, ENOMEM, "no memory to open '%s'", path);
    memcpy(directory->path, path, path_bytes);
    directory->read_only = read_only;
    directory->lock_fd = -1;
    directory->fd = -1;
    bool created = false;
    int os_errno = 0;
    if (!read_only) {
        created = mkdir(path, DIRECTORY_MODE) == 0;
        if (!created && errno != EEXIST) os_errno = errno;
    }
    if (os_errno == 0) {
        /* Links are followed here and only here: the path is the user's, the names are ours. */
        directory->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (directory->fd < 0) os_errno = errno;
    }
    if (os_errno == 0 && !read_only) os_errno = sync_parent(directory->fd, created);
    if (os_errno != 0) {
        directory_destroy(directory);
        return inv_fail(error, INV_IO_ERROR, os_errno, "cannot open directory '%s' (errno %d)",
                        path, os_errno);
    }
    directory_destroy((posix_directory *)env->owned[OWNED_DIRECTORY]);
    env->owned[OWNED_DIRECTORY] = directory;
    env->storage = (inv_storage){directory,     posix_lock,  posix_unlock,   posix_list,
                                 posix_prepare, posix_map_file, posix_unmap, posix_sync,
                                 posix_read,    posix_read_cached, posix_write, posix_rename,
                                 posix_remove,  posix_sync_directory, posix_shrink, posix_room};
    return INV_OK;
}
