/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_effect.h: one entry = one change, as bytes. Entries carry effects, not requests: replay
 * applies them and never decides again. An entry in a lane's buffer IS its bytes on disk.
 *
 *    0 u8 kind      1 u8 flags        2 u16 line count    4 u16 seller number
 *    6 u8 state: of the reservation after the change
 *    7 u8 more flags: 1 the call named no lines
 *    8 u32 account number            12 u32 body hash
 *   16 u32 deadline, ms after the record's decision time (0: none, or unchanged)
 *   20 id, 16 bytes (see inv_effect_id)
 *   36 lines, 12 bytes each (inv_change_line)
 *   then, 4-aligned and in this order, what the flags announce:
 *      ID_TEXT     u8 length, text
 *      OP_ID       u8 length (16: a UUID's bytes when OP_ID_UUID is set, else text), bytes
 *      NOTE        u32 reason number, u32 reference number (INV_NUMBER_NONE: none)
 *      BLOB        u16 length, bytes: NAME: the text; CLOCK_TICK: inv_effect_tick
 *
 * A single-line reserve under a UUID is 48 bytes. NAME: account = the number, body hash = the kind
 * of name (inv_name_kind), seller = the seller of a SKU. Every length is checked against the bytes
 * there are before it is used; inv_effect_decode is safe on any input.
 *
 * All of an entry must be understood: a kind, flag or operation that is not named here makes
 * inv_effect_decode fail, and inv_effect_unknown tells it from damage.
 */
#ifndef INV_EFFECT_H
#define INV_EFFECT_H

#include "../base/inv_line_op.h"
#include "inv_wal_format.h"

#define INV_EFFECT_HEADER_BYTES 36u
#define INV_EFFECT_ID_TEXT 1u
#define INV_EFFECT_OP_ID 2u
#define INV_EFFECT_OP_ID_UUID 4u
#define INV_EFFECT_NOTE 8u
#define INV_EFFECT_BLOB 16u
#define INV_EFFECT_HAS_ID 32u /* the id field says something (a stock change may have no op_id) */
#define INV_EFFECT_FLAGS_KNOWN 63u
#define INV_EFFECT_WHAT_BYTES 64u
/* A line may be moved in two parts (the held one and the allocated one), hence twice the limit. */
#define INV_EFFECT_LINE_COUNT_MAX (2u * INV_LINE_COUNT_MAX)
/* Worst case of one entry beside its lines and blob. */
#define INV_EFFECT_TAIL_BYTES_MAX (INV_EFFECT_HEADER_BYTES + 2 * 68 + 8)

/* An id inside the engine: a UUID's 16 bytes, or text (its bytes stay the caller's). */
typedef struct inv_effect_id {
    uint8_t uuid[16];
    inv_text text; /* bytes == NULL: it is a UUID, or there is none (present == false) */
    bool present;
} inv_effect_id;

typedef struct inv_effect {
    uint8_t kind;
    uint8_t state;
    bool whole; /* commit, ship, release, cancel of all that was left */
    uint16_t line_count;
    uint16_t seller;
    uint32_t account;
    uint32_t body_hash;
    uint32_t deadline_ms; /* relative to the record's decision time */
    inv_effect_id id;
    inv_effect_id op_id;
    uint32_t reason, reference; /* INV_NUMBER_NONE: none */
    inv_text blob;
    const inv_change_line *lines;
} inv_effect;

#define INV_EFFECT_TICK_BYTES 40u
/* CLOCK_TICK blob. */
typedef struct inv_effect_tick {
    uint64_t wall_unix_ms;        /* of the machine's clock at the record's decision time */
    uint64_t window_start_ms;     /* ended ids before this engine time may be forgotten */
    uint64_t forgotten_lsn;       /* every ended id whose last change is at or below is forgotten */
    uint64_t downtime_pending_ms; /* downtime not yet added: the grace is running */
    uint64_t stale_before_ms;     /* a UUIDv7 made before this may have been forgotten */
} inv_effect_tick;

/* DIGEST blob: u64 digest of all there is, as of the record's start; u64 lsn: end of the DIGEST
 * before it, or where this run of the store began to write. Both 0: it says nothing. */
#define INV_EFFECT_DIGEST_BYTES 16u
#define INV_EFFECT_MARK_BYTES 16u /* SNAPSHOT_MARK blob: u64 start lsn, u64 end lsn */
/* OPERATOR_ACT blob: u64 what, and of an accepted loss: u64 from lsn, u64 to lsn. */
#define INV_EFFECT_ACT_BYTES 24u
#define INV_ACT_ACCEPT_LOSS 1u

uint64_t inv_effect_bytes(const inv_effect *effect);

/* Writes the entry at `out` (room for inv_effect_bytes) and returns the bytes written. */
uint64_t inv_effect_encode(uint8_t *out, const inv_effect *effect);

/* Decodes the entry at `bytes`; *out points into it. Returns its bytes, 0 when it is malformed or
 * has something in it that this code does not know; out->kind is set if there is one. */
uint64_t inv_effect_decode(const uint8_t *bytes, uint64_t available, inv_effect *out);

/* Why not? True: something this code does not know, said in a few words: it is of a newer format.
 */
bool inv_effect_unknown(const uint8_t *bytes, uint64_t available,
                        char out_what[INV_EFFECT_WHAT_BYTES]);

void inv_effect_encode_tick(uint8_t out[INV_EFFECT_TICK_BYTES], const inv_effect_tick *tick);
bool inv_effect_decode_tick(inv_text blob, inv_effect_tick *out);

#endif
