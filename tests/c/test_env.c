/* SPDX-License-Identifier: Apache-2.0
 *
 * test_env.c: the seam to the outside world. The first half runs every storage test twice, over a
 * real directory and over memory, because the engine must not be able to tell them apart. The
 * second half is about what only one of them has: power cuts, hooks, clones; a full file system,
 * permissions, symbolic links.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/invcore/base/inv_env.h"
#include "inv_test.h"

#define SEGMENT_BYTES 16384u

/* ---- a world: an environment over one kind of storage ---------------------------------------- */

typedef enum world_kind { WORLD_DIRECTORY, WORLD_MEMORY, WORLD_COUNT } world_kind;

typedef struct world {
    world_kind kind;
    inv_env *env;
    inv_env *other; /* a second environment over the same storage */
    inv_memory *memory;
    char path[256];
} world;

static void make_path(char *path, size_t size) {
    const char *base = getenv("TMPDIR");
    snprintf(path, size, "%s/inv-test-XXXXXX", base != NULL && base[0] == '/' ? base : "/tmp");
    CHECK(mkdtemp(path) != NULL);
}

static void remove_directory(const char *path) {
    DIR *stream = opendir(path);
    if (stream == NULL) return;
    for (struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(dirfd(stream), entry->d_name, 0);
    (void)closedir(stream);
    (void)rmdir(path);
}

static bool world_open(world *w, world_kind kind) {
    memset(w, 0, sizeof *w);
    w->kind = kind;
    w->env = inv_env_create();
    w->other = inv_env_create();
    if (kind == WORLD_MEMORY) {
        w->memory = inv_memory_create();
        inv_env_use_memory(w->env, w->memory);
        inv_env_use_memory(w->other, w->memory);
        return true;
    }
    make_path(w->path, sizeof w->path);
    inv_error error = {0};
    return CHECK_EQ(inv_env_use_directory(w->env, w->path, false, &error), INV_OK) &&
           CHECK_EQ(inv_env_use_directory(w->other, w->path, false, &error), INV_OK);
}

static void world_close(world *w) {
    inv_env_destroy(w->env);
    inv_env_destroy(w->other);
    inv_memory_destroy(w->memory);
    if (w->kind == WORLD_DIRECTORY) remove_directory(w->path);
}

/* Storage calls with the context filled in; errors go to `last_error`. */
static inv_error last_error;

static inv_result prepare(const inv_env *env, const char *name, uint64_t offset, uint64_t bytes) {
    return env->storage.prepare(env->storage.context, name, offset, bytes, &last_error);
}
static inv_result put(const inv_env *env, const char *name, uint64_t offset, const char *text,
                      bool synced) {
    return env->storage.write(env->storage.context, name, offset, text, strlen(text), synced,
                              &last_error);
}
static bool map_staged; /* how map_file maps: every test of the directory runs both ways */
static inv_result map_file(const inv_env *env, const char *name, inv_segment_map *map) {
    return env->storage.map(env->storage.context, name, map_staged, map, &last_error);
}
static void unmap_file(const inv_env *env, inv_segment_map *map) {
    env->storage.unmap(env->storage.context, map);
}
static inv_result sync_map(const inv_env *env, const inv_segment_map *map, uint64_t offset,
                           uint64_t bytes) {
    return env->storage.sync(env->storage.context, map, offset, bytes, &last_error);
}
static inv_result get(const inv_env *env, const char *name, uint64_t offset, void *buffer,
                      uint64_t bytes, uint64_t *out_read) {
    return env->storage.read(env->storage.context, name, offset, buffer, bytes, out_read,
                             &last_error);
}
static inv_result rename_file(const inv_env *env, const char *source, const char *target) {
    return env->storage.rename(env->storage.context, source, target, &last_error);
}
static inv_result remove_file(const inv_env *env, const char *name) {
    return env->storage.remove(env->storage.context, name, &last_error);
}
static inv_result sync_names(const inv_env *env) {
    return env->storage.sync_directory(env->storage.context, &last_error);
}
static inv_result lock_storage(const inv_env *env) {
    return env->storage.lock(env->storage.context, &last_error);
}
static void unlock_storage(const inv_env *env) { env->storage.unlock(env->storage.context); }

/* The start of a file as text; "(none)" when it does not exist. Static: one at a time. */
static const char *text_of(const inv_env *env, const char *name) {
    static char text[64];
    uint64_t read = 0;
    memset(text, 0, sizeof text);
    if (get(env, name, 0, text, sizeof text - 1, &read) != INV_OK) return "(none)";
    return text;
}

typedef struct listing {
    uint32_t count, stop_after;
    uint64_t bytes;
    char names[256]; /* joined, in the order they came */
} listing;

static bool visit_file(void *argument, const char *name, uint64_t size) {
    listing *seen = (listing *)argument;
    seen->count++;
    seen->bytes += size;
    snprintf(seen->names + strlen(seen->names), sizeof seen->names - strlen(seen->names), "%s ",
             name);
    return seen->count != seen->stop_after;
}

static listing list_files(const inv_env *env) {
    listing seen = {0};
    CHECK_EQ(env->storage.list(env->storage.context, visit_file, &seen, &last_error), INV_OK);
    return seen;
}

/* ---- the same for both kinds ----------------------------------------------------------------- */

static void second_opener_is_refused(world *w) {
    CHECK_EQ(lock_storage(w->env), INV_OK);
    CHECK_EQ(lock_storage(w->other), INV_STORE_LOCKED);
    CHECK_EQ(lock_storage(w->env), INV_STORE_LOCKED);
    unlock_storage(w->env);
    CHECK_EQ(lock_storage(w->other), INV_OK);
    CHECK_EQ(lock_storage(w->env), INV_STORE_LOCKED);
    unlock_storage(w->other);
    CHECK_EQ(lock_storage(w->env), INV_OK);
    CHECK_EQ(list_files(w->env).count, 0); /* the lock is not a store file */
    unlock_storage(w->env);
    unlock_storage(w->env); /* giving back what is free does nothing */
}

static void written_bytes_are_read_back(world *w) {
    CHECK_EQ(put(w->env, "STATE", 0, "hello", true), INV_OK);
    CHECK_TEXT(text_of(w->env, "STATE"), "hello");
    CHECK_EQ(put(w->env, "STATE", 3, "LOW tide", false), INV_OK);
    CHECK_TEXT(text_of(w->other, "STATE"), "helLOW tide");
    CHECK_EQ(put(w->env, "STATE", 0, "J", true), INV_OK);
    CHECK_TEXT(text_of(w->env, "STATE"), "JelLOW tide");
    /* A write beyond the end leaves zeros between. */
    CHECK_EQ(put(w->env, "HINT", 5000, "x", true), INV_OK);
    char bytes[5001];
    uint64_t read = 0;
    CHECK_EQ(get(w->env, "HINT", 0, bytes, sizeof bytes, &read), INV_OK);
    CHECK_EQ(read, 5001);
    for (int i = 0; i < 5000; i++) CHECK_EQ(bytes[i], 0);
    CHECK_EQ(bytes[5000], 'x');
}

static void reads_stop_at_the_end_of_the_file(world *w) {
    char bytes[64];
    uint64_t read = 99;
    CHECK_EQ(put(w->env, "a", 0, "0123456789", true), INV_OK);
    CHECK_EQ(get(w->env, "a", 8, bytes, 64, &read), INV_OK);
    CHECK_EQ(read, 2);
    CHECK_EQ(get(w->env, "a", 10, bytes, 64, &read), INV_OK);
    CHECK_EQ(read, 0);
    CHECK_EQ(get(w->env, "a", 1u << 20, bytes, 64, &read), INV_OK);
    CHECK_EQ(read, 0);
    CHECK_EQ(get(w->env, "a", 0, bytes, 0, &read), INV_OK);
    CHECK_EQ(read, 0);
    read = 99;
    CHECK_EQ(get(w->env, "absent", 0, bytes, 64, &read), INV_IO_ERROR);
    CHECK_EQ(last_error.code, INV_IO_ERROR);
    CHECK_EQ(last_error.os_errno, ENOENT);
    CHECK(strstr(last_error.message, "'absent'") != NULL);
    CHECK_EQ(read, 99); /* out_ parameters are set only on success */
}

static void reads_of_any_alignment_agree(world *w) {
    enum { BYTES = 3 * 4096 + 777 };
    inv_test_rng rng = inv_test_rng_of(10);
    uint8_t *content = (uint8_t *)malloc(BYTES), *buffer = (uint8_t *)malloc(BYTES + 64);
    REQUIRE(content != NULL && buffer != NULL);
    inv_test_rng_fill(&rng, content, BYTES);
    CHECK_EQ(w->env->storage.write(w->env->storage.context, "blob", 0, content, BYTES, true,
                                   &last_error),
             INV_OK);
    for (uint64_t round = 0; round < inv_test_scaled(150); round++) {
        uint64_t offset = inv_test_rng_below(&rng, BYTES);
        uint64_t bytes = inv_test_rng_below(&rng, BYTES);
        uint64_t shift = inv_test_rng_below(&rng, 64), read = 0;
        CHECK_EQ(get(w->env, "blob", offset, buffer + shift, bytes, &read), INV_OK);
        CHECK_EQ(read, inv_min_u64(bytes, BYTES - offset));
        CHECK(memcmp(buffer + shift, content + offset, (size_t)read) == 0);
    }
    free(content);
    free(buffer);
}

static void big_files_are_read_in_one_call(world *w) {
    /* More than one bounce buffer, not a multiple of it, at an odd offset. */
    const uint64_t piece = 1u << 20, total = 2 * piece + 12345;
    CHECK_EQ(prepare(w->env, "big", 0, piece), INV_OK);
    CHECK_EQ(prepare(w->env, "big", piece, piece), INV_OK);
    CHECK_EQ(prepare(w->env, "big", 2 * piece, 12345), INV_OK);
    CHECK_EQ(put(w->env, "big", piece - 2, "seam", true), INV_OK);
    CHECK_EQ(put(w->env, "big", total - 3, "end", true), INV_OK);
    char *buffer = (char *)malloc(total);
    uint64_t read = 0;
    REQUIRE(buffer != NULL);
    CHECK_EQ(get(w->env, "big", 1, buffer, total, &read), INV_OK);
    CHECK_EQ(read, total - 1);
    CHECK(memcmp(buffer + piece - 3, "seam", 4) == 0);
    CHECK(memcmp(buffer + total - 4, "end", 3) == 0);
    CHECK_EQ(buffer[0], 0);
    free(buffer);
}

static void prepared_files_are_zero_and_start_anew(world *w) {
    CHECK_EQ(put(w->env, "spare-1", 0, "old content", true), INV_OK);
    CHECK_EQ(prepare(w->env, "spare-1", 0, 4), INV_OK);
    listing seen = list_files(w->env);
    CHECK_EQ(seen.count, 1);
    CHECK_EQ(seen.bytes, 4); /* truncated, not just overwritten */
    CHECK_EQ(prepare(w->env, "spare-1", 4, 6000), INV_OK);
    char bytes[6100];
    uint64_t read = 0;
    CHECK_EQ(get(w->env, "spare-1", 0, bytes, sizeof bytes, &read), INV_OK);
    CHECK_EQ(read, 6004);
    for (uint64_t i = 0; i < read; i++) CHECK_EQ(bytes[i], 0);
    /* A later piece zeroes what is there. */
    CHECK_EQ(put(w->env, "spare-1", 100, "dirt", true), INV_OK);
    CHECK_EQ(prepare(w->env, "spare-1", 50, 100), INV_OK);
    CHECK_EQ(get(w->env, "spare-1", 0, bytes, sizeof bytes, &read), INV_OK);
    CHECK_EQ(read, 6004);
    for (uint64_t i = 0; i < read; i++) CHECK_EQ(bytes[i], 0);
    CHECK_EQ(prepare(w->env, "absent", 4096, 4096), INV_IO_ERROR);
    CHECK_EQ(last_error.os_errno, ENOENT);
    CHECK_EQ(list_files(w->env).count, 1);
}

static void mapped_segments_are_written_and_synced(world *w) {
    inv_segment_map map = {0};
    CHECK_EQ(map_file(w->env, "absent", &map), INV_IO_ERROR);
    CHECK_EQ(last_error.os_errno, ENOENT);
    CHECK(map.bytes == NULL);
    CHECK_EQ(put(w->env, "empty", 0, "", true), INV_OK);
    CHECK_EQ(map_file(w->env, "empty", &map), INV_IO_ERROR);
    REQUIRE_EQ(prepare(w->env, "wal-1", 0, SEGMENT_BYTES), INV_OK);
    REQUIRE_EQ(map_file(w->env, "wal-1", &map), INV_OK);
    CHECK_EQ(map.size, SEGMENT_BYTES);
    CHECK_EQ((uintptr_t)map.bytes % 16, 0);
    for (uint32_t i = 0; i < SEGMENT_BYTES; i++) CHECK_EQ(map.bytes[i], 0);
    memcpy(map.bytes, "record", 6);
    memcpy(map.bytes + SEGMENT_BYTES - 3, "end", 3);
    CHECK_EQ(sync_map(w->env, &map, 0, 6), INV_OK);
    CHECK_EQ(sync_map(w->env, &map, SEGMENT_BYTES - 3, 3), INV_OK);
    CHECK_EQ(sync_map(w->env, &map, SEGMENT_BYTES, 0), INV_OK);
    /* Renaming and even removing a mapped file leaves the map alone. */
    CHECK_EQ(rename_file(w->env, "wal-1", "wal-2"), INV_OK);
    memcpy(map.bytes + 6, "er", 2);
    CHECK_EQ(sync_map(w->env, &map, 0, 8), INV_OK);
    CHECK_TEXT(text_of(w->env, "wal-2"), "recorder");
    CHECK_EQ(remove_file(w->env, "wal-2"), INV_OK);
    CHECK_EQ(sync_names(w->env), INV_OK);
    map.bytes[0] = 'R';
    CHECK_EQ(sync_map(w->env, &map, 0, 1), INV_OK);
    CHECK_EQ(map.bytes[0], 'R');
    unmap_file(w->env, &map);
    CHECK(map.bytes == NULL && map.handle == NULL);
    unmap_file(w->env, &map); /* what is not mapped is not unmapped */
    CHECK_TEXT(text_of(w->env, "wal-2"), "(none)");
}

static void names_can_be_listed_renamed_and_removed(world *w) {
    CHECK_EQ(put(w->env, "b.tmp", 0, "bb", true), INV_OK);
    CHECK_EQ(put(w->env, "a", 0, "a", true), INV_OK);
    listing seen = list_files(w->env);
    CHECK_EQ(seen.count, 2);
    CHECK_EQ(seen.bytes, 3);
    CHECK(strstr(seen.names, "b.tmp ") != NULL && strstr(seen.names, "a ") != NULL);
    listing first = {.stop_after = 1};
    CHECK_EQ(w->env->storage.list(w->env->storage.context, visit_file, &first, NULL), INV_OK);
    CHECK_EQ(first.count, 1);
    CHECK_EQ(rename_file(w->env, "b.tmp", "a"), INV_OK); /* replaces */
    CHECK_TEXT(text_of(w->env, "a"), "bb");
    CHECK_TEXT(text_of(w->env, "b.tmp"), "(none)");
    CHECK_EQ(rename_file(w->env, "a", "a"), INV_OK);
    CHECK_TEXT(text_of(w->env, "a"), "bb");
    CHECK_EQ(rename_file(w->env, "b.tmp", "c"), INV_IO_ERROR);
    CHECK_EQ(last_error.os_errno, ENOENT);
    CHECK_EQ(remove_file(w->env, "b.tmp"), INV_IO_ERROR);
    CHECK_EQ(last_error.os_errno, ENOENT);
    CHECK_EQ(remove_file(w->env, "a"), INV_OK);
    CHECK_EQ(list_files(w->env).count, 0);
    char longest[INV_FILE_NAME_MAX + 1];
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    CHECK_EQ(put(w->env, longest, 0, "long", true), INV_OK);
    CHECK_TEXT(text_of(w->env, longest), "long");
    CHECK_EQ(list_files(w->env).count, 1);
    CHECK_EQ(sync_names(w->env), INV_OK);
}

/* After a power cut that loses all it can (memory), or a plain reopening (directory), everything
 * that was synced is there. */
static void synced_state_survives(world *w) {
    inv_segment_map map = {0};
    CHECK_EQ(put(w->env, "STATE", 0, "state", true), INV_OK);
    REQUIRE_EQ(prepare(w->env, "wal-1.tmp", 0, SEGMENT_BYTES), INV_OK);
    CHECK_EQ(rename_file(w->env, "wal-1.tmp", "wal-1"), INV_OK);
    CHECK_EQ(sync_names(w->env), INV_OK);
    REQUIRE_EQ(map_file(w->env, "wal-1", &map), INV_OK);
    memcpy(map.bytes, "one", 3);
    CHECK_EQ(sync_map(w->env, &map, 0, 3), INV_OK);
    unmap_file(w->env, &map);
    if (w->memory != NULL) inv_memory_power_cut(w->memory, 0);
    CHECK_TEXT(text_of(w->other, "STATE"), "state");
    CHECK_TEXT(text_of(w->other, "wal-1"), "one");
    listing seen = list_files(w->other);
    CHECK_EQ(seen.count, 2);
    CHECK_EQ(seen.bytes, SEGMENT_BYTES + 5);
}

static const struct {
    const char *name;
    void (*run)(world *w);
} storage_tests[] = {
    {"second_opener_is_refused", second_opener_is_refused},
    {"written_bytes_are_read_back", written_bytes_are_read_back},
    {"reads_stop_at_the_end_of_the_file", reads_stop_at_the_end_of_the_file},
    {"reads_of_any_alignment_agree", reads_of_any_alignment_agree},
    {"big_files_are_read_in_one_call", big_files_are_read_in_one_call},
    {"prepared_files_are_zero_and_start_anew", prepared_files_are_zero_and_start_anew},
    {"mapped_segments_are_written_and_synced", mapped_segments_are_written_and_synced},
    {"names_can_be_listed_renamed_and_removed", names_can_be_listed_renamed_and_removed},
    {"synced_state_survives", synced_state_survives},
};

static void run_storage_tests(world_kind kind) {
    for (size_t i = 0; i < sizeof storage_tests / sizeof storage_tests[0]; i++) {
        world w;
        uint64_t before = atomic_load(&inv_test_all.failure_count);
        if (world_open(&w, kind)) storage_tests[i].run(&w);
        world_close(&w);
        if (atomic_load(&inv_test_all.failure_count) != before)
            fprintf(stderr, "  in %s\n", storage_tests[i].name);
    }
}

INV_TEST(directory_storage) { run_storage_tests(WORLD_DIRECTORY); }
INV_TEST(directory_storage_staged) {
    map_staged = true;
    run_storage_tests(WORLD_DIRECTORY);
    map_staged = false;
}
INV_TEST(memory_storage) { run_storage_tests(WORLD_MEMORY); }

INV_TEST(staged_bytes_reach_the_file_with_a_sync_of_them_only) {
    world w;
    inv_segment_map map = {0};
    char first[5] = "", last[5] = "";
    uint64_t read = 0;
    REQUIRE(world_open(&w, WORLD_DIRECTORY));
    REQUIRE_EQ(prepare(w.env, "wal-1", 0, SEGMENT_BYTES), INV_OK);
    map_staged = true;
    REQUIRE_EQ(map_file(w.env, "wal-1", &map), INV_OK);
    map_staged = false;
    memcpy(map.bytes, "head", 4);
    memcpy(map.bytes + SEGMENT_BYTES - 4, "tail", 4);
    CHECK_EQ(sync_map(w.env, &map, 0, 2), INV_OK);
    CHECK_EQ(get(w.env, "wal-1", 0, first, 4, &read), INV_OK);
    CHECK(memcmp(first, "he\0\0", 4) == 0);
    CHECK_EQ(get(w.env, "wal-1", SEGMENT_BYTES - 4, last, 4, &read), INV_OK);
    CHECK(memcmp(last, "\0\0\0\0", 4) == 0);
    CHECK_EQ(sync_map(w.env, &map, SEGMENT_BYTES - 4, 4), INV_OK);
    CHECK_EQ(get(w.env, "wal-1", SEGMENT_BYTES - 4, last, 4, &read), INV_OK);
    CHECK(memcmp(last, "tail", 4) == 0);
    unmap_file(w.env, &map);
    world_close(&w);
}

/* ---- only a directory ------------------------------------------------------------------------ */

INV_TEST(directory_is_created_private) {
    char base[200], path[256], file[300];
    struct stat status;
    inv_error error = {0};
    make_path(base, sizeof base);
    snprintf(path, sizeof path, "%s/store", base);
    inv_env *env = inv_env_create();
    CHECK(!inv_env_has_storage(env));
    CHECK_EQ(inv_env_use_directory(env, path, true, &error), INV_IO_ERROR);
    CHECK_EQ(error.os_errno, ENOENT);
    CHECK(strstr(error.message, "/store'") != NULL);
    CHECK(stat(path, &status) != 0); /* read-only created nothing */
    REQUIRE_EQ(inv_env_use_directory(env, path, false, &error), INV_OK);
    CHECK(inv_env_has_storage(env));
    REQUIRE_EQ(stat(path, &status), 0);
    CHECK_EQ(status.st_mode & 07777, 0700);
    CHECK_EQ(put(env, "STATE", 0, "x", true), INV_OK);
    CHECK_EQ(lock_storage(env), INV_OK);
    snprintf(file, sizeof file, "%s/STATE", path);
    REQUIRE_EQ(stat(file, &status), 0);
    CHECK_EQ(status.st_mode & 07777, 0600);
    snprintf(file, sizeof file, "%s/LOCK", path);
    REQUIRE_EQ(stat(file, &status), 0);
    CHECK_EQ(status.st_mode & 07777, 0600);
    CHECK_EQ(inv_env_use_directory(env, path, false, &error), INV_OK); /* lets go of the first */
    CHECK_EQ(lock_storage(env), INV_OK);
    CHECK_EQ(inv_env_use_directory(env, file, false, &error), INV_IO_ERROR);
    CHECK_EQ(error.os_errno, ENOTDIR);
    inv_env_destroy(env);
    snprintf(file, sizeof file, "%s/no/store", base);
    env = inv_env_create();
    CHECK_EQ(inv_env_use_directory(env, file, false, &error), INV_IO_ERROR);
    CHECK_EQ(error.os_errno, ENOENT);
    CHECK(!inv_env_has_storage(env));
    inv_env_destroy(env);
    remove_directory(path);
    remove_directory(base);
}

INV_TEST(read_only_directory_changes_nothing) {
    world w;
    inv_error error = {0};
    inv_segment_map map = {0};
    if (!world_open(&w, WORLD_DIRECTORY)) return;
    inv_env *reader = inv_env_create(), *second = inv_env_create();
    REQUIRE_EQ(inv_env_use_directory(reader, w.path, true, &error), INV_OK);
    REQUIRE_EQ(inv_env_use_directory(second, w.path, true, &error), INV_OK);
    CHECK_EQ(lock_storage(reader), INV_OK); /* no lock file yet: nothing to lock, none created */
    unlock_storage(reader);
    CHECK_EQ(put(w.env, "STATE", 0, "x", true), INV_OK);
    CHECK_EQ(lock_storage(w.env), INV_OK);
    CHECK_EQ(lock_storage(reader), INV_STORE_LOCKED); /* a writer is in */
    unlock_storage(w.env);
    CHECK_EQ(lock_storage(reader), INV_OK);
    CHECK_EQ(lock_storage(second), INV_OK); /* readers share */
    CHECK_EQ(lock_storage(w.env), INV_STORE_LOCKED);
    CHECK_TEXT(text_of(reader, "STATE"), "x");
    CHECK_EQ(put(reader, "STATE", 0, "y", true), INV_IO_ERROR);
    CHECK_EQ(last_error.os_errno, EROFS);
    CHECK_EQ(prepare(reader, "wal-1", 0, 4096), INV_IO_ERROR);
    CHECK_EQ(map_file(reader, "STATE", &map), INV_IO_ERROR);
    CHECK_EQ(rename_file(reader, "STATE", "b"), INV_IO_ERROR);
    CHECK_EQ(remove_file(reader, "STATE"), INV_IO_ERROR);
    CHECK_EQ(sync_names(reader), INV_IO_ERROR);
    listing seen = list_files(reader);
    CHECK_EQ(seen.count, 1);
    CHECK_TEXT(text_of(w.env, "STATE"), "x");
    inv_env_destroy(reader);
    inv_env_destroy(second);
    world_close(&w);
}

INV_TEST(symbolic_links_and_strangers_are_left_alone) {
    world w;
    if (!world_open(&w, WORLD_DIRECTORY)) return;
    int fd = open(w.path, O_RDONLY | O_DIRECTORY);
    REQUIRE(fd >= 0);
    CHECK_EQ(put(w.env, "real", 0, "r", true), INV_OK);
    CHECK_EQ(symlinkat("real", fd, "wal-1"), 0);
    CHECK_EQ(mkdirat(fd, "sub", 0700), 0);
    CHECK_EQ(symlinkat("real", fd, "not_ours"), 0);
    int stranger = openat(fd, "under_score", O_WRONLY | O_CREAT, 0600);
    CHECK(stranger >= 0);
    CHECK_EQ(close(stranger), 0);
    listing seen = list_files(w.env);
    CHECK_EQ(seen.count, 1);
    CHECK_TEXT(seen.names, "real ");
    CHECK_EQ(put(w.env, "wal-1", 0, "through", true), INV_IO_ERROR);
    CHECK_EQ(last_error.os_errno, ELOOP);
    CHECK_TEXT(text_of(w.env, "wal-1"), "(none)");
    CHECK_TEXT(text_of(w.env, "real"), "r");
    CHECK_EQ(unlinkat(fd, "sub", AT_REMOVEDIR), 0);
    CHECK_EQ(close(fd), 0);
    world_close(&w);
}

/* procfs refuses O_DIRECT, and one of its files refuses to be read at all. */
INV_TEST(reading_falls_back_where_the_page_cache_cannot_be_passed) {
    inv_env *env = inv_env_create();
    inv_error error = {0};
    if (inv_env_use_directory(env, "/proc/self", true, &error) != INV_OK) {
        printf("note: no procfs here: reading without O_DIRECT not tested\n");
        inv_env_destroy(env);
        return;
    }
    char whole[4096] = "", tail[4096] = "";
    uint64_t whole_bytes = 0, tail_bytes = 0;
    CHECK_EQ(get(env, "cmdline", 0, whole, sizeof whole, &whole_bytes), INV_OK);
    CHECK(whole_bytes > 1 && whole_bytes < sizeof whole);
    CHECK_TEXT(whole, inv_test_all.program);
    CHECK_EQ(get(env, "cmdline", 1, tail, sizeof tail, &tail_bytes), INV_OK);
    CHECK_EQ(tail_bytes, whole_bytes - 1);
    CHECK(memcmp(whole + 1, tail, (size_t)tail_bytes) == 0);
    CHECK_EQ(get(env, "mem", 0, tail, 16, &tail_bytes), INV_IO_ERROR); /* page 0 of this process */
    CHECK(last_error.os_errno != 0);
    CHECK(strstr(last_error.message, "'mem'") != NULL);
    inv_env_destroy(env);
}

/* Runs in a child of its own: a file system of 256 KiB in a private mount name space. */
static void fill_a_small_file_system(const char *path) {
    inv_error error = {0};
    inv_segment_map map = {0};
    inv_env *env = inv_env_create();
    REQUIRE_EQ(inv_env_use_directory(env, path, false, &error), INV_OK);
    REQUIRE_EQ(prepare(env, "wal-1", 0, 64 << 10), INV_OK);
    REQUIRE_EQ(prepare(env, "wal-1", 64 << 10, 64 << 10), INV_OK);
    REQUIRE_EQ(prepare(env, "spare-1", 0, 1 << 20), INV_DISK_FULL);
    CHECK_EQ(last_error.os_errno, ENOSPC);
    CHECK_EQ(last_error.code, INV_DISK_FULL);
    CHECK(strstr(last_error.message, "'spare-1'") != NULL);
    char text[4097];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    CHECK_EQ(put(env, "STATE", 0, text, true), INV_DISK_FULL);
    /* The prepared segment does not notice. */
    REQUIRE_EQ(map_file(env, "wal-1", &map), INV_OK);
    memset(map.bytes, 7, (size_t)map.size);
    CHECK_EQ(sync_map(env, &map, 0, map.size), INV_OK);
    unmap_file(env, &map);
    CHECK_EQ(remove_file(env, "spare-1"), INV_OK);
    CHECK_EQ(put(env, "STATE", 0, text, true), INV_OK);
    inv_env_destroy(env);
}

INV_TEST(full_file_system_is_disk_full) {
    char path[256];
    make_path(path, sizeof path);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) _exit(77);
        (void)mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
        if (mount("none", path, "tmpfs", 0, "size=256k,mode=0700") != 0) _exit(77);
        fill_a_small_file_system(path);
        _exit(atomic_load(&inv_test_all.failure_count) == 0 ? 0 : 1);
    }
    int status = 0;
    REQUIRE_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) printf("note: may not mount here: real ENOSPC not tested\n");
    else CHECK_EQ(WEXITSTATUS(status), 0);
    remove_directory(path);
}

/* ---- clocks, memory, entropy ----------------------------------------------------------------- */

INV_TEST(real_clocks_run) {
    inv_env *env = inv_env_create();
    uint64_t before_ns = env->clock.mono_ns(env->clock.context);
    uint64_t before_ms = env->clock.mono_ms(env->clock.context);
    (void)usleep(3000);
    uint64_t after_ns = env->clock.mono_ns(env->clock.context);
    uint64_t after_ms = env->clock.mono_ms(env->clock.context);
    CHECK(after_ns - before_ns >= 3000000);
    CHECK(after_ms - before_ms >= 2);
    CHECK(after_ns / 1000000 - after_ms <= 1000 || after_ms - after_ns / 1000000 <= 1000);
    CHECK(env->clock.wall_unix_ms(env->clock.context) > 1600000000000ull); /* after 2020 */
    inv_env_set_clock(env, 5); /* no manual clock: nothing to set */
    CHECK(env->clock.wall_unix_ms(env->clock.context) > 1600000000000ull);
    inv_env_destroy(env);
}

INV_TEST(manual_clock_moves_only_forward) {
    inv_env *env = inv_env_create();
    inv_env_use_manual_clock(env, 1000000);
    const inv_clock *clock = &env->clock;
    uint64_t mono_ms = clock->mono_ms(clock->context);
    CHECK_EQ(clock->wall_unix_ms(clock->context), 1000000);
    CHECK_EQ(clock->mono_ns(clock->context), mono_ms * 1000000);
    CHECK(mono_ms != 1000000); /* the two clocks must be told apart */
    inv_env_set_clock(env, 1000250);
    CHECK_EQ(clock->wall_unix_ms(clock->context), 1000250);
    CHECK_EQ(clock->mono_ms(clock->context), mono_ms + 250);
    inv_env_set_clock(env, 999999);
    inv_env_set_clock(env, 1000250);
    CHECK_EQ(clock->wall_unix_ms(clock->context), 1000250);
    inv_env_use_manual_clock(env, 77); /* a new start */
    CHECK_EQ(clock->wall_unix_ms(clock->context), 77);
    CHECK_EQ(clock->mono_ms(clock->context), mono_ms);
    inv_env_destroy(env);
}

INV_TEST(memory_is_zero_and_aligned) {
    inv_env *env = inv_env_create();
    const size_t sizes[] = {0, 1, 63, 64, 65, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20};
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            uint8_t *block = (uint8_t *)inv_env_alloc(env, sizes[i]);
            REQUIRE(block != NULL);
            CHECK_EQ((uintptr_t)block % 64, 0);
            for (size_t byte = 0; byte < sizes[i]; byte += byte < 70 ? 1 : 997)
                CHECK_EQ(block[byte], 0);
            if (sizes[i] > 0) CHECK_EQ(block[sizes[i] - 1], 0);
            memset(block, 0xee, sizes[i]); /* dirty for the next round */
            inv_env_free(env, block, sizes[i]);
        }
    }
    CHECK(inv_env_alloc(env, SIZE_MAX) == NULL);
    CHECK(inv_env_alloc(env, SIZE_MAX / 2) == NULL);
    CHECK(inv_env_alloc(env, (size_t)1 << 50) == NULL);
    inv_env_free(env, NULL, 8);
    /* Untouched memory costs nothing: more of it than this machine may have. */
    uint8_t *huge = (uint8_t *)inv_env_alloc(env, (size_t)1 << 31);
    REQUIRE(huge != NULL);
    CHECK_EQ((uintptr_t)huge % (2 << 20), 0);
    huge[((size_t)1 << 31) - 1] = 1;
    inv_env_free(env, huge, (size_t)1 << 31);
    inv_env_destroy(env);
    inv_env_destroy(NULL);
}

INV_TEST(entropy_differs) {
    inv_env *env = inv_env_create();
    uint8_t a[1000] = {0}, b[1000] = {0};
    CHECK(env->entropy.fill(env->entropy.context, a, sizeof a));
    CHECK(env->entropy.fill(env->entropy.context, b, sizeof b));
    CHECK(memcmp(a, b, sizeof a) != 0);
    CHECK(a[999] != 0 || a[998] != 0 || a[997] != 0 || a[996] != 0);
    CHECK(env->entropy.fill(env->entropy.context, a, 0));
    inv_env_destroy(env);
}

/* ---- only memory: power cuts ----------------------------------------------------------------- */

/* Keeps the sectors whose bit is set; garbage where the bit of the upper half is. */
static int keep_by_mask(void *argument, uint64_t i) {
    uint64_t mask = *(const uint64_t *)argument;
    if (i >= 32) return 0;
    if (mask >> (32 + i) & 1) return 2;
    return (int)(mask >> i & 1);
}

static void cut(inv_memory *memory, uint64_t mask, uint64_t names_kept) {
    inv_memory_cut(memory, keep_by_mask, &mask, names_kept);
}

/* A memory with a synced, mapped segment "wal" and one environment over it. */
static inv_env *segment_world(inv_memory **out_memory, inv_segment_map *out_map) {
    *out_memory = inv_memory_create();
    inv_env *env = inv_env_create();
    inv_env_use_memory(env, *out_memory);
    CHECK_EQ(prepare(env, "wal", 0, SEGMENT_BYTES), INV_OK);
    CHECK_EQ(sync_names(env), INV_OK);
    CHECK_EQ(map_file(env, "wal", out_map), INV_OK);
    CHECK_EQ(inv_memory_unsynced_sectors(*out_memory), 0);
    CHECK_EQ(inv_memory_unsynced_names(*out_memory), 0);
    return env;
}

INV_TEST(each_unsynced_sector_is_decided_alone) {
    inv_memory *memory;
    inv_segment_map map;
    inv_env *env = segment_world(&memory, &map);
    memset(map.bytes, 'a', 3 * 512);
    CHECK_EQ(sync_map(env, &map, 0, 3 * 512), INV_OK);
    memset(map.bytes, 'b', 2 * 512);     /* sectors 0 and 1 */
    map.bytes[10 * 512 + 7] = 'c';       /* and 10 */
    map.bytes[2 * 512] = 'a';            /* the same byte again: nothing to sync */
    CHECK_EQ(inv_memory_unsynced_sectors(memory), 3);
    for (uint64_t mask = 0; mask < 8; mask++) {
        inv_memory *clone = inv_memory_clone(memory);
        cut(clone, mask, 0);
        CHECK_EQ(inv_memory_unsynced_sectors(clone), 0);
        uint64_t size = 0;
        const uint8_t *bytes = inv_memory_file(clone, "wal", &size);
        REQUIRE(bytes != NULL);
        CHECK_EQ(size, SEGMENT_BYTES);
        CHECK_EQ(bytes[0], mask & 1 ? 'b' : 'a');
        CHECK_EQ(bytes[511], mask & 1 ? 'b' : 'a');
        CHECK_EQ(bytes[512], mask & 2 ? 'b' : 'a');
        CHECK_EQ(bytes[1024], 'a');
        CHECK_EQ(bytes[10 * 512 + 7], mask & 4 ? 'c' : 0);
        inv_memory_destroy(clone);
    }
    inv_memory *clone = inv_memory_clone(memory);
    cut(clone, 2ull << 32, 0); /* sector 1 in flight */
    uint64_t size = 0;
    const uint8_t *bytes = inv_memory_file(clone, "wal", &size);
    REQUIRE(bytes != NULL);
    CHECK_EQ(bytes[511], 'a');
    CHECK_EQ(bytes[1024], 'a');
    CHECK(memcmp(bytes + 512, bytes + 1024, 512) != 0);
    CHECK(memcmp(bytes + 512, map.bytes + 512, 512) != 0);
    inv_memory_destroy(clone);
    /* The original never noticed. */
    CHECK_EQ(inv_memory_unsynced_sectors(memory), 3);
    CHECK_EQ(map.bytes[0], 'b');
    inv_env_destroy(env);
    inv_memory_destroy(memory);
}

INV_TEST(sync_covers_its_range_only) {
    inv_memory *memory;
    inv_segment_map map;
    inv_env *env = segment_world(&memory, &map);
    memset(map.bytes, 'x', 4 * 512);
    CHECK_EQ(sync_map(env, &map, 700, 400), INV_OK); /* sectors 1 and 2 */
    CHECK_EQ(inv_memory_unsynced_sectors(memory), 2);
    unmap_file(env, &map);
    inv_memory_power_cut(memory, 0);
    uint64_t size = 0;
    const uint8_t *bytes = inv_memory_file(memory, "wal", &size);
    REQUIRE(bytes != NULL);
    CHECK_EQ(bytes[0], 0);
    CHECK_EQ(bytes[512], 'x');
    CHECK_EQ(bytes[1535], 'x');
    CHECK_EQ(bytes[1536], 0);
    inv_env_destroy(env);
    inv_memory_destroy(memory);
}

INV_TEST(names_survive_as_a_prefix) {
    inv_memory *memory = inv_memory_create();
    inv_env *env = inv_env_create();
    inv_env_use_memory(env, memory);
    CHECK_EQ(put(env, "old", 0, "old", true), INV_OK);
    CHECK_EQ(put(env, "kept", 0, "kept", true), INV_OK);
    CHECK_EQ(sync_names(env), INV_OK);
    /* Four unsynced changes. */
    CHECK_EQ(put(env, "new.tmp", 0, "new", true), INV_OK);
    CHECK_EQ(rename_file(env, "new.tmp", "old"), INV_OK);
    CHECK_EQ(remove_file(env, "kept"), INV_OK);
    CHECK_EQ(put(env, "kept", 0, "again", true), INV_OK);
    CHECK_EQ(inv_memory_unsynced_names(memory), 4);
    const char *const expected[5][3] = {{"old", "kept", "(none)"},
                                        {"old", "kept", "new"},
                                        {"new", "kept", "(none)"},
                                        {"new", "(none)", "(none)"},
                                        {"new", "again", "(none)"}};
    uint64_t hashes[5];
    for (uint64_t kept = 0; kept < 5; kept++) {
        inv_memory *clone = inv_memory_clone(memory);
        inv_env *reader = inv_env_create();
        inv_env_use_memory(reader, clone);
        cut(clone, 0, kept);
        CHECK_TEXT(text_of(reader, "old"), expected[kept][0]);
        CHECK_TEXT(text_of(reader, "kept"), expected[kept][1]);
        CHECK_TEXT(text_of(reader, "new.tmp"), expected[kept][2]);
        CHECK_EQ(inv_memory_unsynced_names(clone), 0);
        hashes[kept] = inv_memory_hash(clone);
        for (uint64_t other = 0; other < kept; other++) CHECK(hashes[kept] != hashes[other]);
        inv_env_destroy(reader);
        inv_memory_destroy(clone);
    }
    /* Without a directory sync a new name is gone and a removed one back, with its content. */
    inv_memory_power_cut(memory, 0);
    CHECK_TEXT(text_of(env, "kept"), "kept");
    CHECK_TEXT(text_of(env, "old"), "old");
    CHECK_EQ(inv_memory_hash(memory), hashes[0]);
    inv_env_destroy(env);
    inv_memory_destroy(memory);
}

INV_TEST(removed_file_comes_back_with_its_durable_content_only) {
    inv_memory *memory;
    inv_segment_map map;
    inv_env *env = segment_world(&memory, &map);
    memcpy(map.bytes, "synced", 6);
    CHECK_EQ(sync_map(env, &map, 0, 6), INV_OK);
    memcpy(map.bytes, "UNSYNC", 6);
    unmap_file(env, &map);
    CHECK_EQ(remove_file(env, "wal"), INV_OK);
    CHECK_EQ(inv_memory_unsynced_sectors(memory), 1);
    inv_memory *clone = inv_memory_clone(memory);
    inv_memory_power_cut(memory, 0);
    CHECK_TEXT(text_of(env, "wal"), "synced");
    inv_env_use_memory(env, clone);
    CHECK_EQ(sync_names(env), INV_OK); /* now it is gone for good */
    CHECK_EQ(inv_memory_unsynced_sectors(clone), 0);
    inv_memory_power_cut(clone, 3);
    CHECK_TEXT(text_of(env, "wal"), "(none)");
    CHECK_EQ(list_files(env).count, 0);
    inv_env_destroy(env);
    inv_memory_destroy(memory);
    inv_memory_destroy(clone);
}

INV_TEST(sizes_follow_the_sectors_kept) {
    inv_memory *memory = inv_memory_create();
    inv_env *env = inv_env_create();
    inv_env_use_memory(env, memory);
    CHECK_EQ(put(env, "f", 0, "0123456789", true), INV_OK);
    CHECK_EQ(sync_names(env), INV_OK);
    CHECK_EQ(put(env, "f", 1020, "ABCDEF", false), INV_OK); /* grows through sectors 0, 1, 2 */
    CHECK_EQ(inv_memory_unsynced_sectors(memory), 3);
    const uint64_t sizes[8] = {10, 512, 1024, 1024, 1026, 1026, 1026, 1026};
    for (uint64_t mask = 0; mask < 8; mask++) {
        inv_memory *clone = inv_memory_clone(memory);
        cut(clone, mask, 0);
        uint64_t size = 0;
        const uint8_t *bytes = inv_memory_file(clone, "f", &size);
        REQUIRE(bytes != NULL);
        CHECK_EQ(size, sizes[mask]);
        CHECK(memcmp(bytes, "0123456789", 10) == 0);
        if (size > 1020) CHECK_EQ(bytes[1020], mask & 2 ? 'A' : 0);
        if (size > 1024) CHECK_EQ(bytes[1025], mask & 4 ? 'F' : 0);
        inv_memory_destroy(clone);
    }
    inv_env_destroy(env);
    inv_memory_destroy(memory);
}

static inv_result fail_second(void *argument, uint64_t call, const char *what, const char *name,
                              bool after) {
    (void)argument, (void)what, (void)name, (void)after;
    return call == 2 ? INV_IO_ERROR : INV_OK;
}

INV_TEST(sizes_follow_the_sectors_kept_of_a_truncated_file) {
    inv_memory *memory = inv_memory_create();
    inv_env *env = inv_env_create();
    inv_env_use_memory(env, memory);
    char text[1301];
    memset(text, 'd', 1300);
    text[1300] = '\0';
    CHECK_EQ(put(env, "f", 0, text, true), INV_OK);
    CHECK_EQ(sync_names(env), INV_OK);
    inv_memory_set_hook(memory, fail_second, NULL);
    CHECK_EQ(prepare(env, "f", 0, 600), INV_IO_ERROR); /* truncated and zeroed, not synced */
    CHECK_EQ(list_files(env).bytes, 600);
    CHECK_EQ(inv_memory_unsynced_sectors(memory), 3);
    const uint64_t sizes[8] = {1300, 1300, 1300, 1300, 1024, 1024, 600, 600};
    for (uint64_t mask = 0; mask < 8; mask++) {
        inv_memory *clone = inv_memory_clone(memory);
        cut(clone, mask, 0);
        uint64_t size = 0;
        const uint8_t *bytes = inv_memory_file(clone, "f", &size);
        REQUIRE(bytes != NULL);
        CHECK_EQ(size, sizes[mask]);
        CHECK_EQ(bytes[0], mask & 1 ? 0 : 'd');
        CHECK_EQ(bytes[512], mask & 2 ? 0 : 'd');
        if (size > 600) CHECK_EQ(bytes[700], mask & 2 ? 0 : 'd');
        if (size > 1024) CHECK_EQ(bytes[1024], 'd');
        inv_memory_destroy(clone);
    }
    inv_env_destroy(env);
    inv_memory_destroy(memory);
}

INV_TEST(power_cut_by_seed_is_repeatable_and_varies) {
    inv_memory *memory;
    inv_segment_map map;
    inv_env *env = segment_world(&memory, &map);
    memset(map.bytes, 'z', SEGMENT_BYTES);
    uint64_t sector_count = SEGMENT_BYTES / 512, kept_total = 0, different = 0, last = 0;
    CHECK_EQ(inv_memory_unsynced_sectors(memory), sector_count);
    for (uint64_t seed = 0; seed < 40; seed++) {
        inv_memory *first = inv_memory_clone(memory), *second = inv_memory_clone(memory);
        inv_memory_power_cut(first, seed);
        inv_memory_power_cut(second, seed);
        CHECK_EQ(inv_memory_hash(first), inv_memory_hash(second));
        different += inv_memory_hash(first) != last;
        last = inv_memory_hash(first);
        uint64_t size = 0, kept = 0;
        const uint8_t *bytes = inv_memory_file(first, "wal", &size);
        REQUIRE(bytes != NULL);
        for (uint64_t i = 0; i < size / 512; i++) kept += bytes[i * 512] == 'z';
        if (seed == 0) CHECK_EQ(kept, 0);
        kept_total += kept;
        inv_memory_destroy(first);
        inv_memory_destroy(second);
    }
    CHECK_EQ(different, 40);
    CHECK(kept_total > 39 * sector_count / 3 && kept_total < 39 * sector_count * 2 / 3);
    inv_env_destroy(env);
    inv_memory_destroy(memory);
}

INV_TEST(power_cut_drops_lock_and_maps) {
    inv_memory *memory;
    inv_segment_map map, fresh;
    inv_env *env = segment_world(&memory, &map);
    CHECK_EQ(lock_storage(env), INV_OK);
    inv_memory *clone = inv_memory_clone(memory);
    inv_env *other = inv_env_create();
    inv_env_use_memory(other, clone);
    CHECK_EQ(lock_storage(other), INV_OK); /* a clone is locked by nobody */
    inv_memory_power_cut(memory, 1);
    CHECK_EQ(lock_storage(env), INV_OK);
    unmap_file(env, &map); /* harmless: the cut took the map already */
    CHECK_EQ(map_file(env, "wal", &fresh), INV_OK);
    CHECK(inv_memory_truncate(memory, "wal", 100) == false); /* mapped */
    unmap_file(env, &fresh);
    CHECK(inv_memory_truncate(memory, "wal", 100));
    CHECK_EQ(list_files(env).bytes, 100);
    CHECK(!inv_memory_truncate(memory, "absent", 100));
    inv_env_destroy(env);
    inv_env_destroy(other);
    inv_memory_destroy(memory);
    inv_memory_destroy(clone);
}

/* ---- only memory: capacity, hooks, direct access --------------------------------------------- */

INV_TEST(capacity_is_disk_full_and_changes_nothing) {
    inv_memory *memory = inv_memory_create();
    inv_env *env = inv_env_create();
    inv_env_use_memory(env, memory);
    inv_memory_set_capacity(memory, 10000);
    CHECK_EQ(prepare(env, "wal", 0, 8000), INV_OK);
    CHECK_EQ(prepare(env, "spare", 0, 2001), INV_DISK_FULL);
    CHECK_EQ(last_error.os_errno, ENOSPC);
    CHECK_EQ(list_files(env).count, 1);
    CHECK_EQ(inv_memory_unsynced_names(memory), 1);
    CHECK_EQ(prepare(env, "spare", 0, 2000), INV_OK);
    CHECK_EQ(put(env, "spare", 1990, "0123456789", true), INV_OK);  /* overwriting needs no room */
    CHECK_EQ(put(env, "spare", 1991, "0123456789", true), INV_DISK_FULL);
    CHECK_EQ(list_files(env).bytes, 10000);
    CHECK_EQ(prepare(env, "wal", 0, 8000), INV_OK); /* preparing again reuses its own room */
    CHECK_EQ(remove_file(env, "spare"), INV_OK);
    CHECK_EQ(put(env, "wal", 9999, "x", true), INV_OK);
    inv_memory_set_capacity(memory, 0);
    CHECK_EQ(put(env, "wal", 50000, "x", true), INV_OK);
    inv_env_destroy(env);
    inv_memory_destroy(memory);
}

INV_TEST(room_is_what_still_fits) {
    inv_memory *memory = inv_memory_create();
    inv_env *env = inv_env_create();
    uint64_t bytes = 0, files = 0;
    inv_error error = {0};
    inv_env_use_memory(env, memory);
    CHECK_EQ(env->storage.room(env->storage.context, &bytes, &files, &error), INV_OK);
    CHECK(bytes == UINT64_MAX && files == UINT64_MAX);
    inv_memory_set_capacity(memory, 10000);
    CHECK_EQ(prepare(env, "wal", 0, 8000), INV_OK);
    CHECK_EQ(env->storage.room(env->storage.context, &bytes, &files, &error), INV_OK);
    CHECK_EQ(bytes, 2000);
    inv_memory_set_capacity(memory, 5000); /* others took it */
    CHECK_EQ(env->storage.room(env->storage.context, &bytes, &files, &error), INV_OK);
    CHECK_EQ(bytes, 0);
    inv_env_destroy(env);
    inv_memory_destroy(memory);

    env = inv_env_create();
    CHECK_EQ(inv_env_use_directory(env, ".", true, &error), INV_OK);
    CHECK_EQ(env->storage.room(env->storage.context, &bytes, &files, &error), INV_OK);
    CHECK(bytes > 0 && files > 0);
    inv_env_destroy(env);
}

typedef struct hook_record {
    inv_memory *memory;
    uint64_t fail_call; /* fails this one, 0 = none */
    inv_result fail_with;
    uint64_t calls, before_count, after_count;
    uint64_t torn_states; /* states seen with unsynced sectors, from within the hook */
    char log[512];
} hook_record;

static inv_result note_call(void *argument, uint64_t call, const char *what, const char *name,
                            bool after) {
    hook_record *record = (hook_record *)argument;
    record->calls = call;
    record->before_count += !after;
    record->after_count += after;
    /* A hook may look at the disk and clone it. */
    inv_memory *clone = inv_memory_clone(record->memory);
    record->torn_states += inv_memory_unsynced_sectors(clone) > 0;
    inv_memory_destroy(clone);
    if (!after)
        snprintf(record->log + strlen(record->log), sizeof record->log - strlen(record->log),
                 "%s:%s ", what, name);
    return !after && call == record->fail_call ? record->fail_with : INV_OK;
}

INV_TEST(hook_sees_every_change_before_and_after) {
    inv_memory *memory = inv_memory_create();
    inv_env *env = inv_env_create();
    inv_env_use_memory(env, memory);
    hook_record record = {.memory = memory};
    inv_memory_set_hook(memory, note_call, &record);
    inv_segment_map map;
    CHECK_EQ(lock_storage(env), INV_OK);
    CHECK_EQ(prepare(env, "w", 0, 1024), INV_OK);
    CHECK_EQ(rename_file(env, "w", "v"), INV_OK);
    CHECK_EQ(sync_names(env), INV_OK);
    CHECK_EQ(map_file(env, "v", &map), INV_OK);
    map.bytes[0] = 1;
    CHECK_EQ(sync_map(env, &map, 0, 1), INV_OK);
    unmap_file(env, &map);
    CHECK_EQ(put(env, "s", 0, "state", true), INV_OK);
    CHECK_EQ(put(env, "h", 0, "hint", false), INV_OK);
    CHECK_EQ(remove_file(env, "v"), INV_OK);
    CHECK_EQ(list_files(env).count, 2);
    CHECK_TEXT(record.log, "prepare:w prepare-sync:w rename:w sync_directory: map:v sync:v "
                           "write:s write-sync:s write:h remove:v ");
    CHECK_EQ(record.calls, 10);
    CHECK_EQ(record.before_count, 10);
    CHECK_EQ(record.after_count, 10);
    CHECK(record.torn_states >= 6); /* between the halves of synced calls too */
    inv_memory_set_hook(memory, NULL, NULL);
    CHECK_EQ(put(env, "h", 0, "hint", false), INV_OK);
    CHECK_EQ(record.calls, 10);
    inv_env_destroy(env);
    inv_memory_destroy(memory);
}

INV_TEST(hook_makes_calls_fail_without_effect) {
    static const inv_result codes[3] = {INV_IO_ERROR, INV_DISK_FULL, INV_NO_MEMORY};
    for (int i = 0; i < 3; i++) {
        inv_memory *memory = inv_memory_create();
        inv_env *env = inv_env_create();
        inv_env_use_memory(env, memory);
        CHECK_EQ(put(env, "a", 0, "before", true), INV_OK);
        CHECK_EQ(sync_names(env), INV_OK);
        uint64_t hash = inv_memory_hash(memory);
        hook_record record = {.memory = memory, .fail_call = 1, .fail_with = codes[i]};
        inv_segment_map map = {0};
        inv_memory_set_hook(memory, note_call, &record);
        CHECK_EQ(put(env, "a", 0, "after!", true), codes[i]);
        CHECK_EQ(last_error.code, codes[i]);
        CHECK(last_error.os_errno != 0);
        inv_memory_set_hook(memory, note_call, &record); /* counts from 1 again */
        CHECK_EQ(remove_file(env, "a"), codes[i]);
        inv_memory_set_hook(memory, note_call, &record);
        CHECK_EQ(rename_file(env, "a", "b"), codes[i]);
        inv_memory_set_hook(memory, note_call, &record);
        CHECK_EQ(prepare(env, "c", 0, 100), codes[i]);
        inv_memory_set_hook(memory, note_call, &record);
        CHECK_EQ(map_file(env, "a", &map), codes[i]);
        inv_memory_set_hook(memory, note_call, &record);
        CHECK_EQ(sync_names(env), codes[i]);
        CHECK_EQ(record.before_count, 6);
        CHECK_EQ(record.after_count, 0);
        CHECK_EQ(inv_memory_unsynced_sectors(memory), 0);
        CHECK_EQ(inv_memory_unsynced_names(memory), 0);
        CHECK_EQ(inv_memory_hash(memory), hash);
        CHECK_TEXT(text_of(env, "a"), "before");
        inv_env_destroy(env);
        inv_memory_destroy(memory);
    }
}

INV_TEST(second_sync_after_a_failed_one_lies) {
    inv_memory *memory;
    inv_segment_map map;
    inv_env *env = segment_world(&memory, &map);
    hook_record record = {.memory = memory, .fail_call = 1, .fail_with = INV_IO_ERROR};
    memcpy(map.bytes, "lost", 4);
    inv_memory_set_hook(memory, note_call, &record);
    CHECK_EQ(sync_map(env, &map, 0, 4), INV_IO_ERROR);
    CHECK_EQ(last_error.os_errno, EIO);
    memcpy(map.bytes + 512, "later", 5);
    CHECK_EQ(sync_map(env, &map, 0, 1024), INV_OK); /* says yes, as Linux does */
    CHECK(memcmp(map.bytes, "lost", 4) == 0);       /* and shows the bytes */
    inv_memory *clone = inv_memory_clone(memory);
    unmap_file(env, &map);
    char bytes[1024];
    uint64_t read = 0;
    CHECK_EQ(get(env, "wal", 0, bytes, 1024, &read), INV_OK); /* from the device: not there */
    CHECK_EQ(bytes[0], 0);
    CHECK(memcmp(bytes + 512, "later", 5) == 0);
    inv_memory_power_cut(clone, 0);
    inv_env_use_memory(env, clone);
    CHECK_EQ(get(env, "wal", 0, bytes, 1024, &read), INV_OK);
    CHECK_EQ(bytes[0], 0);
    CHECK(memcmp(bytes + 512, "later", 5) == 0);
    inv_env_destroy(env);
    inv_memory_destroy(memory);
    inv_memory_destroy(clone);
}

INV_TEST(failed_half_of_a_synced_write_leaves_it_torn) {
    inv_memory *memory = inv_memory_create();
    inv_env *env = inv_env_create();
    inv_env_use_memory(env, memory);
    CHECK_EQ(put(env, "STATE", 0, "old", true), INV_OK);
    CHECK_EQ(sync_names(env), INV_OK);
    hook_record record = {.memory = memory, .fail_call = 2, .fail_with = INV_IO_ERROR};
    inv_memory_set_hook(memory, note_call, &record);
    CHECK_EQ(put(env, "STATE", 0, "new", true), INV_IO_ERROR);
    CHECK_EQ(inv_memory_unsynced_sectors(memory), 1);
    inv_memory *clone = inv_memory_clone(memory);
    cut(clone, 1, 0);
    inv_env_use_memory(env, clone);
    CHECK_TEXT(text_of(env, "STATE"), "new"); /* it may have got there */
    cut(memory, 0, 0);
    inv_env_use_memory(env, memory);
    CHECK_TEXT(text_of(env, "STATE"), "old"); /* or not */
    inv_env_destroy(env);
    inv_memory_destroy(memory);
    inv_memory_destroy(clone);
}

INV_TEST(direct_changes_reach_both_images_and_no_clone) {
    inv_memory *memory;
    inv_segment_map map;
    inv_env *env = segment_world(&memory, &map);
    unmap_file(env, &map);
    uint64_t size = 0;
    CHECK(inv_memory_file(memory, "absent", &size) == NULL);
    uint8_t *bytes = inv_memory_file(memory, "wal", &size);
    REQUIRE(bytes != NULL);
    uint64_t clean_hash = inv_memory_hash(memory);
    inv_memory *clone = inv_memory_clone(memory);
    for (uint32_t i = 0; i < 20; i++) { /* the same pointer stays good */
        bytes[i * 600] ^= 0x55;
        CHECK_EQ(inv_memory_unsynced_sectors(memory), 1);
        inv_memory_settle(memory);
        CHECK_EQ(inv_memory_unsynced_sectors(memory), 0);
        CHECK(inv_memory_hash(memory) != clean_hash);
        CHECK_EQ(inv_memory_hash(clone), clean_hash);
        inv_memory *flipped = inv_memory_clone(memory);
        inv_memory_power_cut(flipped, 0);
        CHECK_EQ(inv_memory_hash(flipped), inv_memory_hash(memory));
        bytes[i * 600] ^= 0x55;
        inv_memory_settle(memory);
        CHECK_EQ(inv_memory_hash(memory), clean_hash);
        CHECK(inv_memory_hash(flipped) != clean_hash);
        inv_memory_destroy(flipped);
    }
    CHECK(inv_memory_truncate(memory, "wal", 1000));
    CHECK(inv_memory_truncate(memory, "wal", 2000)); /* and zeros where bytes were cut off */
    CHECK_EQ(list_files(env).bytes, 2000);
    inv_memory_power_cut(memory, 0);
    CHECK_EQ(list_files(env).bytes, 2000);
    inv_env_destroy(env);
    inv_memory_destroy(memory);
    inv_memory_destroy(clone);
}

/* ---- only memory: random operations against a plain model ------------------------------------ */

enum { MODEL_NAMES = 5, MODEL_BYTES = 4096, MODEL_STEPS = 60 };

/* A file by identity, as inodes are: names point to it. The plainest model that can be written:
 * whole arrays, copied. */
typedef struct model_file {
    uint64_t size, durable_size;
    uint8_t bytes[MODEL_BYTES], durable[MODEL_BYTES];
} model_file;

typedef struct model {
    model_file files[MODEL_STEPS];
    uint32_t file_count;
    int names[MODEL_NAMES];         /* index into files, -1 = no such name */
    int durable_names[MODEL_NAMES]; /* as of the last sync of the directory */
} model;

static const char *const model_names[MODEL_NAMES] = {"a", "b", "c.tmp", "wal-1", "STATE"};

static void model_check(const inv_env *env, const model *m, bool durable) {
    uint8_t bytes[MODEL_BYTES + 1];
    for (int i = 0; i < MODEL_NAMES; i++) {
        int file_index = durable ? m->durable_names[i] : m->names[i];
        uint64_t read = 0;
        inv_result result = get(env, model_names[i], 0, bytes, sizeof bytes, &read);
        CHECK_EQ(result, file_index < 0 ? INV_IO_ERROR : INV_OK);
        if (result != INV_OK || file_index < 0) continue;
        const model_file *file = &m->files[file_index];
        CHECK_EQ(read, durable ? file->durable_size : file->size);
        CHECK(memcmp(bytes, durable ? file->durable : file->bytes, (size_t)read) == 0);
    }
}

static void model_sync(model_file *file) {
    file->durable_size = file->size;
    memcpy(file->durable, file->bytes, MODEL_BYTES);
}

static model_file *model_open(model *m, uint64_t name_index) {
    if (m->names[name_index] < 0) m->names[name_index] = (int)m->file_count++;
    return &m->files[m->names[name_index]];
}

static void model_write(const inv_env *env, model_file *file, const char *name,
                        inv_test_rng *rng) {
    uint64_t offset = inv_test_rng_below(rng, MODEL_BYTES - 700);
    uint64_t size = 1 + inv_test_rng_below(rng, 700);
    bool synced = inv_test_rng_below(rng, 2) == 0;
    uint8_t bytes[700];
    inv_test_rng_fill(rng, bytes, (size_t)size);
    CHECK_EQ(env->storage.write(env->storage.context, name, offset, bytes, size, synced,
                                &last_error),
             INV_OK);
    memcpy(file->bytes + offset, bytes, (size_t)size);
    file->size = inv_max_u64(file->size, offset + size);
    if (synced) model_sync(file);
}

/* One byte through a map, its sector synced or not. */
static void model_store(const inv_env *env, model_file *file, const char *name,
                        inv_test_rng *rng) {
    inv_segment_map map;
    REQUIRE_EQ(map_file(env, name, &map), INV_OK);
    uint64_t at = inv_test_rng_below(rng, map.size), sector = at / 512 * 512;
    map.bytes[at] = file->bytes[at] = (uint8_t)inv_test_rng_u64(rng);
    if (inv_test_rng_below(rng, 2) == 0) {
        CHECK_EQ(sync_map(env, &map, at, 1), INV_OK);
        memcpy(file->durable + sector, file->bytes + sector, 512);
        file->durable_size = file->size;
    }
    unmap_file(env, &map);
}

static void model_step(const inv_env *env, model *m, inv_test_rng *rng) {
    uint64_t i = inv_test_rng_below(rng, MODEL_NAMES), j = inv_test_rng_below(rng, MODEL_NAMES);
    uint64_t bytes = 1 + inv_test_rng_below(rng, MODEL_BYTES);
    inv_result expected = m->names[i] < 0 ? INV_IO_ERROR : INV_OK;
    model_file *file;
    switch (inv_test_rng_below(rng, 7)) {
    case 0:
        CHECK_EQ(prepare(env, model_names[i], 0, bytes), INV_OK);
        file = model_open(m, i);
        file->size = bytes;
        memset(file->bytes, 0, MODEL_BYTES);
        model_sync(file);
        break;
    case 1:
        CHECK_EQ(rename_file(env, model_names[i], model_names[j]), expected);
        if (expected != INV_OK || i == j) break;
        m->names[j] = m->names[i];
        m->names[i] = -1;
        break;
    case 2:
        CHECK_EQ(remove_file(env, model_names[i]), expected);
        m->names[i] = -1;
        break;
    case 3:
        CHECK_EQ(sync_names(env), INV_OK);
        memcpy(m->durable_names, m->names, sizeof m->names);
        break;
    case 4:
        if (expected == INV_OK) model_store(env, model_open(m, i), model_names[i], rng);
        break;
    default: model_write(env, model_open(m, i), model_names[i], rng); break;
    }
}

static model *model_create(void) {
    model *m = (model *)calloc(1, sizeof *m);
    for (int i = 0; m != NULL && i < MODEL_NAMES; i++) m->names[i] = m->durable_names[i] = -1;
    return m;
}

static int keep_all(void *argument, uint64_t i) {
    (void)argument, (void)i;
    return 1;
}

/* What is durable must come out of a cut that keeps nothing, whatever sharing went on before; what
 * is volatile out of one that keeps all. Clones must not feel what happens to their originals. */
INV_TEST(random_operations_on_memory_follow_the_model) {
    for (uint64_t round = 0; round < inv_test_scaled(60); round++) {
        inv_test_rng rng = inv_test_rng_of(100 + round);
        inv_memory *memory = inv_memory_create();
        inv_env *env = inv_env_create(), *reader = inv_env_create();
        inv_env_use_memory(env, memory);
        model *m = model_create();
        REQUIRE(m != NULL);
        for (int step = 0; step < MODEL_STEPS; step++) {
            inv_memory *nothing = inv_memory_clone(memory), *all = inv_memory_clone(nothing);
            uint64_t hash = inv_memory_hash(nothing);
            inv_env_use_memory(reader, all);
            model_check(reader, m, false);
            inv_memory_cut(all, keep_all, NULL, UINT64_MAX);
            model_check(reader, m, false);
            CHECK_EQ(inv_memory_unsynced_sectors(all) + inv_memory_unsynced_names(all), 0);
            cut(nothing, 0, 0);
            inv_env_use_memory(reader, nothing);
            model_check(reader, m, true);
            CHECK_EQ(inv_memory_hash(nothing), hash);
            model_step(env, m, &rng);
            CHECK_EQ(inv_memory_hash(nothing), hash);
            inv_memory_destroy(nothing);
            inv_memory_destroy(all);
        }
        model_check(env, m, false);
        inv_memory_settle(memory);
        inv_memory_power_cut(memory, 0);
        model_check(env, m, false);
        free(m);
        inv_env_destroy(env);
        inv_env_destroy(reader);
        inv_memory_destroy(memory);
    }
}

INV_TEST(random_operations_on_a_directory_follow_the_model) {
    inv_test_rng rng = inv_test_rng_of(99);
    world w;
    if (!world_open(&w, WORLD_DIRECTORY)) return;
    model *m = model_create();
    REQUIRE(m != NULL);
    for (int step = 0; step < MODEL_STEPS; step++) {
        model_step(w.env, m, &rng);
        model_check(w.other, m, false);
    }
    free(m);
    world_close(&w);
}

/* ---- threads: mapped bytes are written while they are synced and cloned ---------------------- */

typedef struct writer_state {
    inv_segment_map map;
    _Atomic bool stop;
    _Atomic uint64_t written; /* bytes complete, as the log's prefix */
} writer_state;

static void *write_records(void *argument) {
    writer_state *state = (writer_state *)argument;
    uint8_t record[40];
    for (uint64_t i = 0; !atomic_load_explicit(&state->stop, memory_order_relaxed); i++) {
        uint64_t at = i % (SEGMENT_BYTES / sizeof record) * sizeof record;
        memset(record, (int)(i % 251 + 1), sizeof record);
        memcpy(state->map.bytes + at, record, sizeof record);
        /* release: pairs with the acquire of the syncing thread */
        atomic_store_explicit(&state->written, at + sizeof record, memory_order_release);
    }
    return NULL;
}

INV_TEST(sync_and_clone_beside_a_writer) {
    inv_memory *memory;
    writer_state state = {.written = 0};
    inv_env *env = segment_world(&memory, &state.map);
    pthread_t writer;
    REQUIRE_EQ(pthread_create(&writer, NULL, write_records, &state), 0);
    for (uint64_t i = 0; i < inv_test_scaled(300); i++) {
        uint64_t written = atomic_load_explicit(&state.written, memory_order_acquire);
        CHECK_EQ(sync_map(env, &state.map, 0, written), INV_OK);
        CHECK_EQ(put(env, "HINT", 0, "hint", i % 2 == 0), INV_OK);
        (void)inv_memory_unsynced_sectors(memory);
        inv_memory *clone = inv_memory_clone(memory);
        inv_memory_power_cut(clone, i);
        inv_memory_destroy(clone);
    }
    atomic_store_explicit(&state.stop, true, memory_order_relaxed);
    REQUIRE_EQ(pthread_join(writer, NULL), 0);
    CHECK_EQ(sync_map(env, &state.map, 0, SEGMENT_BYTES), INV_OK);
    CHECK_EQ(inv_memory_unsynced_sectors(memory), 0); /* HINT always had the same bytes */
    CHECK_EQ(inv_memory_unsynced_names(memory), 1);
    unmap_file(env, &state.map);
    inv_env_destroy(env);
    inv_memory_destroy(memory);
}

INV_TEST_MAIN()
