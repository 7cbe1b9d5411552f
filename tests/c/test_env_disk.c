/* SPDX-License-Identifier: Apache-2.0
 *
 * test_env_disk.c: writes that go past the page cache, what happens where the system refuses them,
 * and files that are cut. openat, pwrite and fdatasync of this program stand in front of the C
 * library's: they count, and fail on request, only where the test says so.
 */
#undef _FORTIFY_SOURCE /* its inline openat could not be replaced */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_DIRECT */
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../src/invcore/base/inv_env.h"
#include "inv_test.h"

#define ALIGN 4096u
#define DIRECT_BYTES (64u << 10) /* from here on a write is worth going past the cache */
#define ROOM_BYTES (1u << 20)
#define NEVER UINT32_MAX

/* ---- system calls that count and fail -------------------------------------------------------- */

typedef struct calls {
    uint32_t direct_opens, plain_opens; /* for writing */
    uint32_t direct_writes, plain_writes, syncs;
    int refuse_open;          /* errno of opens with O_DIRECT; 0: the system decides */
    int refuse_write;         /* errno of the direct write number refuse_write_at */
    uint32_t refuse_write_at; /* from 0 */
    uint64_t write_bytes_max; /* of one call; 0: any */
    int refuse_sync;
} calls;

static calls seen;
static int direct_fd; /* the one open with O_DIRECT, for writing; -1: none */

int openat(int directory, const char *name, int flags, ...) {
    mode_t mode = 0;
    if ((flags & O_CREAT) != 0) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    bool writes = (flags & O_ACCMODE) == O_WRONLY, direct = writes && (flags & O_DIRECT) != 0;
    seen.direct_opens += direct;
    seen.plain_opens += writes && !direct;
    if (direct && seen.refuse_open != 0) {
        errno = seen.refuse_open;
        return -1;
    }
    int fd = (int)syscall(SYS_openat, directory, name, flags, mode);
    if (direct) direct_fd = fd;
    else if (fd >= 0 && fd == direct_fd) direct_fd = -1; /* closed, and its number used again */
    return fd;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
    bool direct = fd == direct_fd;
    if (direct && seen.refuse_write != 0 && seen.direct_writes == seen.refuse_write_at) {
        errno = seen.refuse_write;
        return -1;
    }
    seen.direct_writes += direct;
    seen.plain_writes += !direct;
    if (seen.write_bytes_max != 0 && size > seen.write_bytes_max) size = seen.write_bytes_max;
    return (ssize_t)syscall(SYS_pwrite64, fd, bytes, size, offset);
}

int fdatasync(int fd) {
    seen.syncs++;
    if (seen.refuse_sync != 0) {
        errno = seen.refuse_sync;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static void begin_calls(void) {
    seen = (calls){.refuse_write_at = NEVER};
    direct_fd = -1;
}

/* ---- a directory ----------------------------------------------------------------------------- */

static inv_env *env;
static inv_error error;
static char path[256];
static uint8_t *room; /* ROOM_BYTES of noise, aligned */

static void begin_directory(void) {
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/inv-test-XXXXXX",
             base != NULL && base[0] == '/' ? base : "/tmp");
    CHECK(mkdtemp(path) != NULL);
    env = inv_env_create();
    CHECK_EQ(inv_env_use_directory(env, path, false, &error), INV_OK);
    room = aligned_alloc(ALIGN, ROOM_BYTES);
    if (room == NULL) abort();
    inv_test_rng rng = inv_test_rng_of(1);
    inv_test_rng_fill(&rng, room, ROOM_BYTES);
    begin_calls();
}

static void end_directory(void) {
    DIR *stream = opendir(path);
    inv_env_destroy(env);
    free(room);
    if (!CHECK(stream != NULL)) return;
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;)
        if (entry->d_name[0] != '.') (void)unlinkat(dirfd(stream), entry->d_name, 0);
    (void)closedir(stream);
    (void)rmdir(path);
}

static inv_result write_at(uint64_t offset, const uint8_t *bytes, uint64_t size, bool synced) {
    return env->storage.write(env->storage.context, "snap", offset, bytes, size, synced, &error);
}

/* The file is `before` bytes of noise from the room's start, then `size` of `bytes`. */
static bool holds(uint64_t before, const uint8_t *bytes, uint64_t size) {
    uint8_t *found = malloc(before + size + 1);
    uint64_t read = 0;
    if (found == NULL) abort();
    bool same = env->storage.read(env->storage.context, "snap", 0, found, before + size + 1, &read,
                                  &error) == INV_OK &&
                read == before + size && memcmp(found, room, before) == 0 &&
                memcmp(found + before, bytes, size) == 0;
    free(found);
    return same;
}

/* Whether this file system writes past its cache; one that does not (an old tmpfs) says EINVAL. */
static bool is_direct_here(void) {
    bool direct = write_at(0, room, DIRECT_BYTES, false) == INV_OK && seen.direct_writes > 0 &&
                  seen.plain_writes == 0;
    if (!direct) printf("note: no O_DIRECT in %s: only the way around it is tested\n", path);
    begin_calls();
    return direct;
}

/* ---- past the cache -------------------------------------------------------------------------- */

INV_TEST(much_at_once_goes_past_the_cache) {
    begin_directory();
    bool direct = is_direct_here();
    for (uint32_t synced = 0; synced < 2; synced++) {
        const uint64_t sizes[] = {DIRECT_BYTES, DIRECT_BYTES + ALIGN, ROOM_BYTES / 2};
        for (uint32_t i = 0; i < 3; i++) {
            uint64_t before = i * DIRECT_BYTES;
            const uint8_t *bytes = room + ROOM_BYTES / 2;
            CHECK_EQ(env->storage.write(env->storage.context, "snap", 0, room, before, false,
                                        &error),
                     INV_OK);
            begin_calls();
            CHECK_EQ(write_at(before, bytes, sizes[i], synced != 0), INV_OK);
            CHECK_EQ(seen.direct_opens, 1);
            CHECK_EQ(seen.plain_opens, direct ? 0 : 1);
            CHECK_EQ(seen.syncs, synced);
            CHECK(holds(before, bytes, sizes[i]));
            CHECK_EQ(env->storage.remove(env->storage.context, "snap", &error), INV_OK);
        }
    }
    end_directory();
}

/* Too little, or an offset, an address or a size that no device takes: not even asked. */
INV_TEST(what_the_device_would_not_take_goes_the_plain_way) {
    const struct {
        uint64_t offset, shift, size;
    } writes[] = {{0, 0, DIRECT_BYTES - ALIGN},
                  {0, 0, DIRECT_BYTES + 512},
                  {0, 64, DIRECT_BYTES},
                  {512, 0, DIRECT_BYTES},
                  {ALIGN / 2, ALIGN / 2, 2 * DIRECT_BYTES}};
    begin_directory();
    for (uint32_t i = 0; i < sizeof writes / sizeof writes[0]; i++) {
        const uint8_t *bytes = room + ROOM_BYTES / 2 + writes[i].shift;
        CHECK_EQ(write_at(0, room, writes[i].offset, false), INV_OK);
        begin_calls();
        CHECK_EQ(write_at(writes[i].offset, bytes, writes[i].size, true), INV_OK);
        CHECK_EQ(seen.direct_opens, 0);
        CHECK_EQ(seen.plain_opens, 1);
        CHECK_EQ(seen.syncs, 1);
        CHECK(holds(writes[i].offset, bytes, writes[i].size));
        CHECK_EQ(env->storage.remove(env->storage.context, "snap", &error), INV_OK);
    }
    end_directory();
}

INV_TEST(short_writes_go_on) {
    begin_directory();
    for (uint32_t refused = 0; refused < 2; refused++) {
        begin_calls();
        seen.write_bytes_max = ALIGN;
        seen.refuse_open = refused ? EINVAL : 0;
        CHECK_EQ(write_at(0, room, 2 * DIRECT_BYTES, true), INV_OK);
        CHECK_EQ(seen.direct_writes + seen.plain_writes, 2 * DIRECT_BYTES / ALIGN);
        CHECK_EQ(seen.syncs, 1);
        CHECK(holds(0, room, 2 * DIRECT_BYTES));
    }
    end_directory();
}

/* ---- refused --------------------------------------------------------------------------------- */

/* No O_DIRECT at all, or only once it writes, or in the middle: the plain way writes all of it. */
INV_TEST(where_it_is_refused_the_plain_way_writes_all) {
    begin_directory();
    bool direct = is_direct_here();
    for (uint32_t way = 0; way < 4; way++) {
        const uint8_t *bytes = room + way * DIRECT_BYTES;
        begin_calls();
        if (way == 0) seen.refuse_open = EINVAL;
        if (way == 1) seen.refuse_open = EOPNOTSUPP;
        seen.refuse_write = way >= 2 ? EINVAL : 0;
        seen.refuse_write_at = way == 2 ? 0 : 3;
        seen.write_bytes_max = way == 3 ? 2 * ALIGN : 0;
        CHECK_EQ(write_at(0, bytes, DIRECT_BYTES, true), INV_OK);
        CHECK_EQ(seen.direct_opens, 1);
        CHECK_EQ(seen.plain_opens, 1);
        if (direct) CHECK_EQ(seen.direct_writes, way == 3 ? 3 : 0);
        CHECK_EQ(seen.plain_writes, way == 3 ? DIRECT_BYTES / (2 * ALIGN) : 1);
        CHECK_EQ(seen.syncs, 1);
        uint64_t read = 0;
        uint8_t *found = malloc(DIRECT_BYTES);
        if (found == NULL) abort();
        CHECK_EQ(env->storage.read(env->storage.context, "snap", 0, found, DIRECT_BYTES, &read,
                                   &error),
                 INV_OK);
        CHECK(read == DIRECT_BYTES && memcmp(found, bytes, DIRECT_BYTES) == 0);
        free(found);
    }
    end_directory();
}

/* A write that failed is not tried again another way: what is on the disk is not known then. */
INV_TEST(a_failure_is_no_refusal) {
    const struct {
        int os_errno;
        inv_result result;
    } failures[] = {{EIO, INV_IO_ERROR}, {ENOSPC, INV_DISK_FULL}, {EDQUOT, INV_DISK_FULL}};
    begin_directory();
    bool direct = is_direct_here();
    for (uint32_t i = 0; direct && i < 3; i++) {
        begin_calls();
        seen.write_bytes_max = ALIGN;
        seen.refuse_write = failures[i].os_errno;
        seen.refuse_write_at = 2;
        error = (inv_error){0};
        CHECK_EQ(write_at(0, room, DIRECT_BYTES, true), failures[i].result);
        CHECK_EQ(error.os_errno, failures[i].os_errno);
        CHECK(strstr(error.message, "cannot write 'snap'") != NULL);
        CHECK_EQ(seen.plain_opens + seen.plain_writes + seen.syncs, 0);
    }
    for (uint32_t plain = 0; plain < 2; plain++) { /* a sync is asked for once, either way */
        begin_calls();
        seen.refuse_open = plain ? EINVAL : 0;
        seen.refuse_sync = EIO;
        CHECK_EQ(write_at(0, room, DIRECT_BYTES, true), INV_IO_ERROR);
        CHECK_EQ(error.os_errno, EIO);
        CHECK_EQ(seen.syncs, 1);
    }
    end_directory();
}

/* ---- files that are cut ---------------------------------------------------------------------- */

typedef struct listed {
    uint32_t count;
    uint64_t bytes;
} listed;

static bool visit(void *argument, const char *name, uint64_t size) {
    listed *found = argument;
    (void)name;
    found->count++;
    found->bytes += size;
    return true;
}

static listed list(const inv_env *of) {
    listed found = {0};
    CHECK_EQ(of->storage.list(of->storage.context, visit, &found, &error), INV_OK);
    return found;
}

static inv_result shrink(const inv_env *of, const char *name, uint64_t bytes) {
    return of->storage.shrink(of->storage.context, name, bytes, &error);
}

/* Cut to a size within a sector, to whole ones, to the size it has, and to nothing: what is left is
 * as it was, what grows again is zeros, and the name stays until it is removed. */
static void files_are_cut(const inv_env *of) {
    const inv_storage *storage = &of->storage;
    static uint8_t bytes[20000], found[20000];
    const uint64_t sizes[] = {20000, 12345, 12345, 8192, 1, 0};
    inv_test_rng rng = inv_test_rng_of(2);
    inv_test_rng_fill(&rng, bytes, sizeof bytes);
    CHECK_EQ(storage->write(storage->context, "old", 0, bytes, sizeof bytes, true, &error), INV_OK);
    CHECK_EQ(storage->write(storage->context, "other", 0, bytes, 100, true, &error), INV_OK);
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t read = 99999;
        CHECK_EQ(shrink(of, "old", sizes[i]), INV_OK);
        CHECK(list(of).count == 2 && list(of).bytes == sizes[i] + 100);
        CHECK_EQ(storage->read(storage->context, "old", 0, found, sizeof found, &read, &error),
                 INV_OK);
        CHECK(read == sizes[i] && memcmp(found, bytes, read) == 0);
    }
    CHECK_EQ(storage->write(storage->context, "old", 5000, "x", 1, true, &error), INV_OK);
    uint64_t read = 0;
    CHECK_EQ(storage->read(storage->context, "old", 0, found, sizeof found, &read, &error), INV_OK);
    CHECK_EQ(read, 5001);
    for (uint32_t i = 0; i < 5000; i++) CHECK_EQ(found[i], 0);
    error = (inv_error){0};
    CHECK_EQ(shrink(of, "absent", 0), INV_IO_ERROR);
    CHECK(error.os_errno == ENOENT && strstr(error.message, "'absent'") != NULL);
    CHECK(list(of).count == 2);
    CHECK_EQ(storage->remove(storage->context, "old", &error), INV_OK);
}

INV_TEST(files_of_a_directory_are_cut) {
    begin_directory();
    files_are_cut(env);
    CHECK_EQ(write_at(0, room, DIRECT_BYTES, true), INV_OK);
    inv_env *reader = inv_env_create();
    CHECK_EQ(inv_env_use_directory(reader, path, true, &error), INV_OK);
    CHECK_EQ(shrink(reader, "snap", 0), INV_IO_ERROR);
    CHECK_EQ(error.os_errno, EROFS);
    CHECK(holds(0, room, DIRECT_BYTES));
    inv_env_destroy(reader);
    end_directory();
}

static int keep_none(void *argument, uint64_t i) {
    (void)argument;
    (void)i;
    return 0;
}

/* In memory it is durable at once, and its room is there for others. */
INV_TEST(files_in_memory_are_cut) {
    inv_memory *memory = inv_memory_create();
    inv_env *of = inv_env_create();
    inv_env_use_memory(of, memory);
    files_are_cut(of);
    static const uint8_t bytes[8192] = {1};
    const inv_storage *storage = &of->storage;
    inv_memory_set_capacity(memory, 10000);
    CHECK_EQ(storage->write(storage->context, "a", 0, bytes, 8192, true, &error), INV_OK);
    CHECK_EQ(storage->sync_directory(storage->context, &error), INV_OK);
    CHECK_EQ(storage->write(storage->context, "b", 0, bytes, 8192, false, &error), INV_DISK_FULL);
    CHECK_EQ(shrink(of, "a", 512), INV_OK);
    CHECK_EQ(storage->write(storage->context, "b", 0, bytes, 8192, false, &error), INV_OK);
    inv_memory_cut(memory, keep_none, NULL, 0);
    uint64_t size = 0;
    CHECK(inv_memory_file(memory, "a", &size) != NULL);
    CHECK_EQ(size, 512);
    CHECK(inv_memory_file(memory, "b", &size) == NULL);
    inv_env_destroy(of);
    inv_memory_destroy(memory);
}

INV_TEST_MAIN()
