/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_log.c: opening a store whose first segment holds bytes of any kind, and reading it with
 * inv_log. An input is a mode byte and the bytes of the records.
 */
#include <string.h>

#include "../../../src/invcore/base/inv_crc32c.h"
#include "../../../src/invcore/log/inv_wal_format.h"
#include "fuzz.h"

#define SEGMENT_NAME "wal-0000000000000001"

const char *const fuzz_name = "log";
const uint64_t fuzz_inputs_default = 6000;

/* The records again, each with checksums that fit, as long as their lengths make sense. */
static void reseal(uint8_t *segment, uint64_t size) {
    inv_wal_segment_header header;
    if (inv_wal_decode_segment_header(segment, &header) != INV_OK) return;
    uint32_t seed = inv_wal_seed(header.identity.uuid);
    for (uint64_t at = INV_WAL_HEADER_BYTES; at + INV_WAL_RECORD_HEADER_BYTES <= size;) {
        uint8_t *record = segment + at;
        uint64_t payload = inv_load_u32(record + 4), bytes = inv_wal_record_bytes(payload);
        if (record[0] != INV_WAL_MARKER || payload > size || at + bytes > size) return;
        inv_put_u32(record + 28, inv_crc32c(0, record + INV_WAL_RECORD_HEADER_BYTES,
                                            bytes - INV_WAL_RECORD_HEADER_BYTES));
        inv_put_u32(record + 36, inv_crc32c(seed, record, 36));
        at += bytes;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const inv_memory *base = fuzz_disk(false);
    if (size < 1) return 0;
    inv_memory *disk = inv_memory_clone(base);
    uint64_t room = 0;
    uint8_t *segment = disk == NULL ? NULL : inv_memory_file(disk, SEGMENT_NAME, &room);
    if (segment == NULL) fuzz_fail("the first segment is not there");
    uint64_t bytes = inv_min_u64(size - 1, room - INV_WAL_HEADER_BYTES);
    memset(segment + INV_WAL_HEADER_BYTES, 0, room - INV_WAL_HEADER_BYTES);
    memcpy(segment + INV_WAL_HEADER_BYTES, data + 1, bytes);
    bool forged = (data[0] & FUZZ_RESEAL) != 0;
    if (forged) reseal(segment, room);
    fuzz_open(disk, forged);
    return 0;
}

size_t fuzz_make_input(uint64_t *random, uint8_t *out, size_t room) {
    inv_memory *disk = inv_memory_clone(fuzz_disk(false));
    uint64_t size = 0;
    const uint8_t *segment =
        disk == NULL ? NULL : inv_memory_file(disk, SEGMENT_NAME, &size);
    if (segment == NULL) fuzz_fail("the first segment is not there");
    uint64_t bytes = inv_min_u64(size - INV_WAL_HEADER_BYTES, room - 1);
    out[0] = fuzz_below(random, 4) != 0; /* FUZZ_RESEAL */
    memcpy(out + 1, segment + INV_WAL_HEADER_BYTES, bytes);
    inv_memory_destroy(disk);
    return (size_t)bytes + 1;
}
