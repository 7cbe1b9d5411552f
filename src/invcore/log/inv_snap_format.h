/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_snap_format.h: a snapshot on disk, format 1.0, offset by offset. All integers are
 * little-endian. This header is the specification; docs/snapshot-format.md tells it in words.
 *
 * A FILE snap-<16 hex digits of its start lsn> is complete and was read back before it got that
 * name; what is being written is called snap-unfinished, and deleted on opening.
 *
 *     +--------+-------+-------+ ... +--------+--------+---------+
 *     | header | block | block |     | block  | footer | trailer |
 *     +--------+-------+-------+ ... +--------+--------+---------+
 *     4096 B   stripes, ascending    global   index    32 B
 *
 * WHAT IT SAYS. Every stripe was copied under its lock, one after the other, while others went on:
 * each is exact as of its own lsn. `start` is where the log stood before the first was copied,
 * `end` after the last. With the log from `start` on, applying to each stripe what ends after its
 * lsn, the state at any position from `end` on can be built, at none before. No id is forgotten
 * between `start` and the copy of the last stripe, so within it an id is one reservation.
 * Everything up to `end` was durable before the file got its name.
 *
 * BLOCKS and the footer begin at multiples of 4,096; what is between them is zero. Blocks hold
 * sections; a section does not straddle blocks, an item (a SKU, a row, a hold) no sections. A
 * stripe's sections come together, STRIPE first, in the order of their kinds; the sections SKUS,
 * NAMES, ROWS, POLICIES, HOLDS may be repeated. A stripe that was never touched has none. The
 * blocks after the last stripe's hold what belongs to no stripe.
 */
#ifndef INV_SNAP_FORMAT_H
#define INV_SNAP_FORMAT_H

#include "../base/inv_env.h"
#include "inv_effect.h"
#include "inv_wal_format.h"

#define INV_SNAP_PREFIX "snap-"
#define INV_SNAP_UNFINISHED "snap-unfinished"

/* Header, 4,096 bytes:
 *    0 magic "INVSNAP\1"   8 u16 major  10 u16 minor  12 u32 header bytes
 *   16 uuid               32 hash key   48 u64 creation of the store, unix ms
 *   56 u32 stripe bits    60 u32 zero   64 u64 start lsn   72 u64 epoch
 *   80 u64 wall clock, unix ms (information only)
 *   88 u64 features that must be understood   96 u64 features that may be ignored
 *  104 zero             4092 u32 CRC-32C of 0..4091 */
#define INV_SNAP_MAGIC "INVSNAP\1"
#define INV_SNAP_HEADER_BYTES 4096u

typedef struct inv_snap_header {
    inv_format format; /* in force when it was begun */
    inv_wal_identity identity;
    uint64_t start_lsn, epoch, wall_unix_ms;
} inv_snap_header;

/* Block header, 32 bytes, then the payload, padded with zeros:
 *    0 magic "BLCK"   4 u32 sequence, from 0   8 u32 payload bytes
 *   12 u32 stripe of the first section, 0xFFFFFFFF: global
 *   16 u32 flags: bit 0 the first section is a STRIPE (or global): reading can begin here
 *   20 u32 CRC-32C of payload and padding   24 u32 zero
 *   28 u32 CRC-32C of 0..27, seeded from the store's uuid */
#define INV_SNAP_BLOCK_MAGIC "BLCK"
#define INV_SNAP_BLOCK_HEADER_BYTES 32u
#define INV_SNAP_BLOCK_BYTES_MAX (1u << 20) /* header included */
#define INV_SNAP_BLOCK_ALIGN 4096u
#define INV_SNAP_BLOCK_BEGINS 1u
#define INV_SNAP_GLOBAL 0xFFFFFFFFu

typedef struct inv_snap_block { /* as in the header and in the footer's index */
    uint64_t offset;            /* in the file; not in the block's header */
    uint32_t sequence, payload_bytes, stripe, flags, crc;
} inv_snap_block;

/* Section header, 16 bytes, then `bytes` bytes, a multiple of 8:
 *    0 u32 kind   4 u32 stripe (names: the kind of name)   8 u32 items   12 u32 bytes
 * STRIPE, 40 bytes: 0 u64 lsn  8 u32 SKUs  12 u32 rows  16 u32 bytes of names  20 u32 policies
 *   24 u32 holds  28 u32 of them ended (they come first, oldest lsn first)
 *   32 u64 digest of what the stripe holds (inv_digest.h)
 * SKUS, 12 bytes each: 0 u32 hash of the name  4 u16 seller  6 u8 name length  7 u8 flags
 *   8 u16 rows  10 u16 zero. In order of their place.
 * NAMES: the names of the stripe's SKUs one after the other; padding at the section's end.
 * ROWS, 16 bytes each: inv_row.h. SKU by SKU, sorted by location.
 * POLICIES, 12 bytes each: 0 u32 place of the SKU  4 u16 location (0xFFFF: the whole SKU)
 *   6 u16 zero  8 u32 safety stock
 * HOLDS: 64 bytes each, then the text of the id padded to 8, then 24 bytes a line:
 *    0 u8 kind  1 u8 state  2 u8 ended by  3 u8 flags: 1 free line, 2 units, 4 gone, 8 lines follow
 *    4 u16 lines  6 u16 text bytes (0: the id is a UUID)   8 u64 lsn  16 u64 deadline or end
 *   24 u32 sku  28 u32 qty  32 u32 account  36 u32 body hash  40 u16 location  42 u16 seller
 *   44 u32 zero  48 the UUID, or zero
 *   line: 0 u32 sku  4 u32 qty  8 u32 held  12 u32 allocated  16 u32 shipped  20 u16 location
 *   22 u8 flags  23 u8 zero
 * NAME_LIST: 0 u32 number  4 u16 length  6 the bytes, one name behind the other; padding at the end
 * CLOCK, 80 bytes: 0 u64 engine ms  8 u64 of the last tick  16 the tick (inv_effect.h, 40 bytes)
 *   56 u32 next reference number  60 u32 zero  64 zero */
#define INV_SNAP_SECTION_BYTES 16u
#define INV_SNAP_STRIPE_BYTES 40u
#define INV_SNAP_SKU_BYTES 12u
#define INV_SNAP_ROW_BYTES 16u
#define INV_SNAP_POLICY_BYTES 12u
#define INV_SNAP_HOLD_BYTES 64u
#define INV_SNAP_LINE_BYTES 24u
#define INV_SNAP_CLOCK_BYTES 80u
/* The largest item: a hold with a text id and as many lines as there may be. */
#define INV_SNAP_ITEM_BYTES_MAX \
    (INV_SNAP_HOLD_BYTES + INV_ID_BYTES_MAX + INV_LINE_COUNT_MAX * INV_SNAP_LINE_BYTES)

typedef enum inv_snap_kind {
    INV_SNAP_STRIPE = 1,
    INV_SNAP_SKUS = 2,
    INV_SNAP_NAMES = 3,
    INV_SNAP_ROWS = 4,
    INV_SNAP_POLICIES = 5,
    INV_SNAP_HOLDS = 6,
    INV_SNAP_NAME_LIST = 7,
    INV_SNAP_CLOCK = 8
} inv_snap_kind;

typedef struct inv_snap_section {
    uint32_t kind, stripe, count, bytes;
    const uint8_t *payload;
} inv_snap_section;

/* Footer: 64 bytes, then 32 bytes a block of the index, then u32 CRC-32C of all of it, u32 zero:
 *    0 magic "INVSNAPF"   8 u64 start lsn  16 u64 end lsn  24 u64 blocks
 *   32 u64 SKUs  40 u64 rows  48 u64 holds  56 u64 of them ended
 *   index: 0 u64 offset  8 u32 sequence  12 u32 payload bytes  16 u32 stripe  20 u32 flags
 *   24 u32 CRC  28 u32 zero
 * Trailer, the last 32 bytes: 0 u64 offset of the footer   8 u64 bytes of the footer
 *   16 u32 zero  20 u32 CRC-32C of 0..19, seeded from the uuid   24 magic "INVSNEND" */
#define INV_SNAP_FOOTER_MAGIC "INVSNAPF"
#define INV_SNAP_TRAILER_MAGIC "INVSNEND"
#define INV_SNAP_FOOTER_BYTES 64u
#define INV_SNAP_INDEX_BYTES 32u
#define INV_SNAP_TRAILER_BYTES 32u

typedef struct inv_snap_footer {
    uint64_t start_lsn, end_lsn, block_count, skus, rows, holds, ended;
} inv_snap_footer;

typedef struct inv_snap_clock {
    uint64_t engine_ms, tick_ms;
    inv_effect_tick tick;
    uint32_t reference_next;
} inv_snap_clock;

void inv_snap_encode_header(uint8_t out[INV_SNAP_HEADER_BYTES], const inv_snap_header *header);
/* INV_LOG_CORRUPT; INV_FORMAT_UNKNOWN: a version or feature this code does not know: then
 * out->format says which, and nothing else does. */
INV_MUST_USE inv_result inv_snap_decode_header(const uint8_t bytes[INV_SNAP_HEADER_BYTES],
                                               inv_snap_header *out);

/* The payload stands behind the header, padding zeroed; block->crc is filled. */
void inv_snap_encode_block(uint8_t *out, uint32_t seed, inv_snap_block *block);
/* Is this the block, whole? `available` bytes from its header on. */
bool inv_snap_check_block(const uint8_t *bytes, uint64_t available, uint32_t seed,
                          const inv_snap_block *block);
static inline uint64_t inv_snap_block_bytes(const inv_snap_block *block) {
    return INV_SNAP_BLOCK_HEADER_BYTES + inv_align_u64(block->payload_bytes, 8);
}
/* In the file, up to where the next one begins. */
static inline uint64_t inv_snap_block_room(const inv_snap_block *block) {
    return inv_align_u64(inv_snap_block_bytes(block), INV_SNAP_BLOCK_ALIGN);
}

/* A buffer for a block that the disk can read and write without a copy: the place for it in
 * INV_SNAP_BUFFER_BYTES of memory. */
#define INV_SNAP_BUFFER_BYTES (INV_SNAP_BLOCK_BYTES_MAX + INV_SNAP_BLOCK_ALIGN)
static inline uint8_t *inv_snap_buffer(void *memory) {
    return (uint8_t *)memory +
           (INV_SNAP_BLOCK_ALIGN - (uintptr_t)memory % INV_SNAP_BLOCK_ALIGN) % INV_SNAP_BLOCK_ALIGN;
}

/* The section at *at of a payload, and moves *at behind it; false: malformed. */
bool inv_snap_next_section(const uint8_t *payload, uint32_t payload_bytes, uint32_t *at,
                           inv_snap_section *out);

static inline uint64_t inv_snap_footer_bytes(uint64_t block_count) {
    return INV_SNAP_FOOTER_BYTES + block_count * INV_SNAP_INDEX_BYTES + 8;
}
void inv_snap_encode_footer(uint8_t *out, const inv_snap_footer *footer,
                            const inv_snap_block *blocks);
bool inv_snap_decode_footer(const uint8_t *bytes, uint64_t available, inv_snap_footer *out);
void inv_snap_decode_index(const uint8_t *footer_bytes, uint64_t number, inv_snap_block *out);

void inv_snap_encode_trailer(uint8_t out[INV_SNAP_TRAILER_BYTES], uint32_t seed, uint64_t offset,
                             uint64_t bytes);
bool inv_snap_decode_trailer(const uint8_t bytes[INV_SNAP_TRAILER_BYTES], uint32_t seed,
                             uint64_t *out_offset, uint64_t *out_bytes);

void inv_snap_encode_clock(uint8_t out[INV_SNAP_CLOCK_BYTES], const inv_snap_clock *clock);
void inv_snap_decode_clock(const uint8_t bytes[INV_SNAP_CLOCK_BYTES], inv_snap_clock *out);

/* The name of the snapshot with this start lsn. */
void inv_snap_name(char out[INV_FILE_NAME_MAX + 1], uint64_t start_lsn);

#endif
