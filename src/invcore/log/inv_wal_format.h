/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wal_format.h: the write-ahead log on disk, format 1.0, offset by offset. All integers are
 * little-endian. This header is the specification; docs/log-format.md tells it in words.
 *
 * FILES of a store (one flat directory):
 *     LOCK    empty, flock'ed by the owner
 *     STATE   two slots of 4 KiB, written alternately, each write synced before the next
 *     HINT    32 bytes, overwritten unsynced: a durable lsn that was true when written
 *     wal-<16 hex digits>    segments, fixed size, written full of zeros before use
 *     spare-<16 hex digits>  a segment under preparation; deleted on opening
 *     reserve-<16 hex digits>  1 and 2: prepared segments kept for a full disk (inv_wal_space.h)
 *     snap-<16 hex digits>   snapshots (inv_snap_format.h)
 *
 * LSN. Position in the stream of records. A segment holds [base, base + size - 4096); the byte at
 * lsn x lies at file offset 4096 + x - base. The stream begins at INV_WAL_LSN_FIRST; 0 means
 * "none".
 *
 *     +--------+--------+ ... +------+   segment N            +--------+--- segment N+1
 *     | header | record | rec | SEAL |   SEAL fills the end   | header | record ...
 *     +--------+--------+ ... +------+                        +--------+---
 *     4096 B   base                  base + capacity ========= base of N+1
 *
 * CHAIN. Every header names the segment before it and where that one ended. Two kinds:
 *   - planned (prev_exact = 0): promoted ahead of need; says where the previous one WILL end (its
 *     full capacity). It proves nothing.
 *   - recovered (prev_exact = 1): written by recovery, which never appends to an old segment: the
 *     previous one ended exactly here, all before it is durable, all after it is void.
 * The newest segment's chain, followed backwards, is the log; other wal- files are void.
 *
 * A RECORD IS VALID at lsn x if all of: marker; start lsn == x; epoch == its segment's epoch;
 * reserved zero; header CRC (seeded from the store's UUID); payload length within its limit and the
 * segment; payload CRC over payload and padding. Records do not straddle segments; after every
 * record either nothing or at least 40 bytes are left, so that a SEAL always fits.
 *
 * PAYLOAD of a CHANGES record: decision time, digest delta, then entries to the end. The entry
 * layout is in inv_effect.h.
 */
#ifndef INV_WAL_FORMAT_H
#define INV_WAL_FORMAT_H

#include "inv_format.h"

#define INV_WAL_HEADER_BYTES 4096u
#define INV_WAL_HEADER_COPY_BYTES 2048u
#define INV_WAL_SEGMENT_BYTES_MIN 16384u
#define INV_WAL_SEGMENT_BYTES_MAX (1ull << 30)
#define INV_WAL_RECORD_ALIGN 8u
#define INV_WAL_RECORD_HEADER_BYTES 40u
#define INV_WAL_PAYLOAD_BYTES_MAX (1u << 20)
#define INV_WAL_LSN_FIRST 4096u

/* Segment header, 2,048 bytes, twice (offsets 0 and 2048):
 *    0 magic "INVWAL\0\1"      8 u16 major   10 u16 minor   12 u32 header bytes (4096)
 *   16 store uuid, 16 bytes   32 u64 segment number        40 u64 base lsn
 *   48 u64 epoch              56 u64 previous segment (0 = none)
 *   64 u64 previous end lsn   72 u64 previous end offset in its file
 *   80 u32 running CRC-32C of the previous segment's records up to its end (0 when planned)
 *   84 u32 flags: bit 0 prev_exact
 *   88 u64 segment bytes      96 u32 record alignment     100 u32 stripe bits
 *  104 u64 features that must be understood   112 u64 features that may be ignored
 *  120 u64 wall clock at creation, unix ms (information only)
 *  128 hash key, 16 bytes    144 u64 creation of the store, unix ms
 *  152 zero                 2044 u32 CRC-32C of bytes 0..2043 */
#define INV_WAL_MAGIC "INVWAL\0\1"
#define INV_WAL_FLAG_PREV_EXACT 1u

typedef struct inv_wal_identity { /* what every file of one store agrees on */
    uint8_t uuid[16];
    uint8_t hash_key[16];
    uint64_t created_unix_ms;
    uint32_t stripe_bits;
} inv_wal_identity;

typedef struct inv_wal_segment_header {
    inv_format format; /* in force when it was promoted */
    inv_wal_identity identity;
    uint64_t number, base_lsn, epoch;
    uint64_t prev_number, prev_end_lsn, prev_end_offset;
    uint32_t prev_crc;
    bool prev_exact;
    uint64_t segment_bytes;
    uint64_t wall_unix_ms;
} inv_wal_segment_header;

/* STATE slot, 4,096 bytes (offset 0 or 4096 by sequence & 1):
 *    0 magic "INVSTATE"    8 u16 major  10 u16 minor  12 u32 slot bytes
 *   16 uuid               32 u64 sequence            40 u64 epoch
 *   48 u64 highest segment ever promoted             56 u64 newest snapshot lsn (0 = none)
 *   64 u64 clean-shutdown end lsn (0 = not clean)    72 u32 stripe bits  76 u32 zero
 *   80 hash key           96 u64 creation, unix ms
 *  104 u64 features that must be understood         112 u64 features that may be ignored
 *  120 zero             4092 u32 CRC-32C of 0..4091 */
#define INV_STATE_MAGIC "INVSTATE"
#define INV_STATE_SLOT_BYTES 4096u

typedef struct inv_wal_state {
    inv_format format; /* in force */
    inv_wal_identity identity;
    uint64_t sequence, epoch, segment_highest, snapshot_lsn, clean_lsn;
} inv_wal_state;

/* HINT, 32 bytes: 0 magic "INVHINT1"  8 u64 durable lsn  16 u64 epoch  24 u32 zero
 * 28 u32 CRC-32C of 0..27 seeded from the uuid */
#define INV_HINT_MAGIC "INVHINT1"
#define INV_HINT_BYTES 32u

/* Record header, 40 bytes:
 *    0 u8 marker 0xE7   1 u8 type   2 u16 flags   4 u32 payload length
 *    8 u64 start lsn   16 u64 durable hint        24 u32 epoch (low 32 bits)
 *   28 u32 CRC-32C of payload and padding         32 u32 zero
 *   36 u32 CRC-32C of bytes 0..35, seeded from the store's uuid */
#define INV_WAL_MARKER 0xE7u
/* Record flags. Bits 2 to 7 must be understood by every reader, whatever the type; bits 8 to 15 may
 * be ignored. */
#define INV_WAL_MUST_UNDERSTAND 1u /* a reader that does not know the type refuses, else it skips */
#define INV_WAL_BATCH_END 2u       /* 0: the record takes effect together with the one behind it */
#define INV_WAL_FLAGS_KNOWN 3u
#define INV_WAL_FLAGS_STRICT 0x00FFu

typedef enum inv_wal_type {
    INV_WAL_CHANGES = 1, /* payload: 8 bytes decision time, 8 bytes digest delta, entries */
    INV_WAL_PAD = 2,     /* zeros; stands where an older segment's SEAL was, after a re-log */
    INV_WAL_SEAL = 3     /* zeros to the end of the segment */
} inv_wal_type;

#define INV_WAL_CHANGES_PREFIX_BYTES 16u

/* Entry kinds, all of SEMANTICS.md numbered now. Those this release does not write are reserved: a
 * reader refuses them (must be understood). */
typedef enum inv_entry_kind {
    INV_ENTRY_RESERVE = 1,
    INV_ENTRY_COMMIT = 2,
    INV_ENTRY_SHIP = 3,
    INV_ENTRY_RELEASE = 4,
    INV_ENTRY_CANCEL = 5,
    INV_ENTRY_EXTEND = 6,
    INV_ENTRY_MOVE = 7,
    INV_ENTRY_REPLACE = 8,
    INV_ENTRY_EXPIRE = 9,
    INV_ENTRY_PREEMPT = 10,
    INV_ENTRY_TOMBSTONE = 11,
    INV_ENTRY_RECEIVE = 12,
    INV_ENTRY_ISSUE = 13,
    INV_ENTRY_ADJUST = 14,
    INV_ENTRY_COUNT_OPEN = 15,
    INV_ENTRY_COUNT = 16,
    INV_ENTRY_UNSELLABLE = 17,
    INV_ENTRY_TRANSFER = 18,
    INV_ENTRY_RECEIVE_TRANSFER = 19,
    INV_ENTRY_EXPECT = 20,
    INV_ENTRY_POLICY = 21,
    INV_ENTRY_QUEUE = 22,
    INV_ENTRY_PROMOTE = 23,
    INV_ENTRY_SHORTAGE_CANCEL = 24,
    INV_ENTRY_CLOSE_LOCATION = 25,
    INV_ENTRY_OPEN_LOCATION = 26,
    INV_ENTRY_NAME = 27,
    INV_ENTRY_CLOCK_TICK = 28,
    INV_ENTRY_DIGEST = 29,
    INV_ENTRY_SNAPSHOT_MARK = 30,
    INV_ENTRY_FORMAT_GATE = 31,
    INV_ENTRY_OPERATOR_ACT = 32
} inv_entry_kind;

/* Seed of header CRCs: another store's bytes never validate. */
uint32_t inv_wal_seed(const uint8_t uuid[16]);

void inv_wal_encode_segment_header(uint8_t out[INV_WAL_HEADER_BYTES],
                                   const inv_wal_segment_header *header);
/* Reads either copy. INV_LOG_CORRUPT when both are damaged, INV_FORMAT_UNKNOWN for a version or a
 * feature this code does not know: then out->format says which, and nothing else does. */
INV_MUST_USE inv_result inv_wal_decode_segment_header(const uint8_t bytes[INV_WAL_HEADER_BYTES],
                                                      inv_wal_segment_header *out);
void inv_wal_encode_state(uint8_t out[INV_STATE_SLOT_BYTES], const inv_wal_state *state);
/* As above. */
INV_MUST_USE inv_result inv_wal_decode_state(const uint8_t bytes[INV_STATE_SLOT_BYTES],
                                             inv_wal_state *out);
void inv_wal_encode_hint(uint8_t out[INV_HINT_BYTES], uint32_t seed, uint64_t durable,
                         uint64_t epoch);
bool inv_wal_decode_hint(const uint8_t bytes[INV_HINT_BYTES], uint32_t seed, uint64_t *out_durable,
                         uint64_t *out_epoch);

typedef struct inv_wal_record {
    uint8_t type;
    uint16_t flags;
    uint32_t payload_bytes;
    uint64_t lsn; /* start */
    uint64_t hint;
    uint32_t epoch;
    const uint8_t *payload;
} inv_wal_record;

/* Bytes a record with this payload takes in the log. */
static inline uint64_t inv_wal_record_bytes(uint64_t payload_bytes) {
    return INV_WAL_RECORD_HEADER_BYTES + inv_align_u64(payload_bytes, INV_WAL_RECORD_ALIGN);
}

/* Writes the 40 header bytes; record->payload must already be where it belongs, padding zeroed. */
void inv_wal_encode_record_header(uint8_t *out, uint32_t seed, const inv_wal_record *record,
                                  uint32_t payload_crc);

/* Decides whether a valid record starts at `bytes` (`available` bytes up to the end of the
 * segment). */
bool inv_wal_decode_record(const uint8_t *bytes, uint64_t available, uint32_t seed, uint64_t lsn,
                           uint32_t epoch, inv_wal_record *out);

#endif
