/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_snapshot.c: opening a store whose newest snapshot holds bytes of any kind. An input is a
 * mode byte and the whole file. The older snapshot is removed, so that the mutated one counts; the
 * log before it is gone by itself.
 */
#include <string.h>

#include "../../../src/invcore/base/inv_crc32c.h"
#include "../../../src/invcore/log/inv_snap_format.h"
#include "fuzz.h"

const char *const fuzz_name = "snapshot";
const uint64_t fuzz_inputs_default = 3000;

/* Checksums of header, blocks, index, footer and trailer that fit, where they were at first. */
static void reseal(uint8_t *file, uint64_t size, uint64_t footer_at, uint64_t block_count,
                   uint32_t seed) {
    uint8_t *footer = file + footer_at;
    inv_put_u32(file + 4092, inv_crc32c(0, file, 4092));
    for (uint64_t i = 0; i < block_count; i++) {
        uint8_t *index = footer + INV_SNAP_FOOTER_BYTES + i * INV_SNAP_INDEX_BYTES;
        uint64_t at = inv_load_u64(index);
        if (at % 8 != 0 || at + INV_SNAP_BLOCK_HEADER_BYTES > footer_at) continue;
        uint8_t *block = file + at;
        uint64_t padded = inv_align_u64(inv_load_u32(block + 8), 8);
        if (padded > footer_at - at - INV_SNAP_BLOCK_HEADER_BYTES) continue;
        uint32_t crc = inv_crc32c(0, block + INV_SNAP_BLOCK_HEADER_BYTES, padded);
        inv_put_u32(block + 20, crc);
        inv_put_u32(block + 28, inv_crc32c(seed, block, 28));
        memcpy(index + 8, block + 4, 16); /* sequence, payload bytes, stripe, flags */
        inv_put_u32(index + 24, crc);
    }
    uint64_t footer_bytes = inv_snap_footer_bytes(block_count);
    inv_put_u32(footer + footer_bytes - 8, inv_crc32c(0, footer, footer_bytes - 8));
    uint8_t *trailer = file + size - INV_SNAP_TRAILER_BYTES;
    inv_put_u32(trailer + 20, inv_crc32c(seed, trailer, 20));
}

static void remove_older(inv_memory *disk, const char *newest) {
    char name[INV_FILE_NAME_MAX + 1];
    inv_env *env = fuzz_env(disk);
    inv_error error = {0};
    inv_result result = env->storage.rename(env->storage.context, newest, "kept", &error);
    while (result == INV_OK && fuzz_last_file(disk, INV_SNAP_PREFIX, name))
        result = env->storage.remove(env->storage.context, name, &error);
    if (result == INV_OK)
        result = env->storage.rename(env->storage.context, "kept", newest, &error);
    if (result != INV_OK) fuzz_fail("the older snapshots cannot be removed");
    inv_env_destroy(env);
    inv_memory_settle(disk);
}

/* The disk with one snapshot; made once. */
static const inv_memory *base_disk(char out_name[INV_FILE_NAME_MAX + 1]) {
    static inv_memory *disk;
    static char name[INV_FILE_NAME_MAX + 1];
    if (disk == NULL) {
        disk = inv_memory_clone(fuzz_disk(true));
        if (disk == NULL || !fuzz_last_file(disk, INV_SNAP_PREFIX, name))
            fuzz_fail("there is no snapshot");
        remove_older(disk, name);
    }
    memcpy(out_name, name, sizeof name);
    return disk;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char name[INV_FILE_NAME_MAX + 1];
    const inv_memory *base = base_disk(name);
    if (size < 1) return 0;
    inv_memory *disk = inv_memory_clone(base);
    uint64_t room = 0, footer_at = 0, footer_bytes = 0;
    uint8_t *file = disk == NULL ? NULL : inv_memory_file(disk, name, &room);
    inv_snap_header header;
    inv_snap_footer footer;
    if (file == NULL || inv_snap_decode_header(file, &header) != INV_OK)
        fuzz_fail("the snapshot is not one");
    uint32_t seed = inv_wal_seed(header.identity.uuid);
    if (!inv_snap_decode_trailer(file + room - INV_SNAP_TRAILER_BYTES, seed, &footer_at,
                                 &footer_bytes) ||
        !inv_snap_decode_footer(file + footer_at, footer_bytes, &footer))
        fuzz_fail("the snapshot is not one");
    uint64_t bytes = inv_min_u64(size - 1, room);
    memcpy(file, data + 1, bytes);
    bool forged = (data[0] & FUZZ_RESEAL) != 0;
    if (forged) reseal(file, room, footer_at, footer.block_count, seed);
    else if (bytes < room) inv_memory_truncate(disk, name, bytes);
    fuzz_open(disk, forged);
    return 0;
}

size_t fuzz_make_input(uint64_t *random, uint8_t *out, size_t room) {
    char name[INV_FILE_NAME_MAX + 1];
    inv_memory *disk = inv_memory_clone(base_disk(name));
    uint64_t size = 0;
    const uint8_t *file = disk == NULL ? NULL : inv_memory_file(disk, name, &size);
    if (file == NULL || size + 1 > room) fuzz_fail("the snapshot is too large for an input");
    out[0] = fuzz_below(random, 4) != 0; /* FUZZ_RESEAL */
    memcpy(out + 1, file, size);
    inv_memory_destroy(disk);
    return (size_t)size + 1;
}
