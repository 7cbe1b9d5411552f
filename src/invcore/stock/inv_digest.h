/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_digest.h: what a stripe holds, as one number: the sum (modulo 2^64) of a hash of each stock row
 * with a figure in it, of each policy and of each line of a live reservation. A sum knows no order,
 * so stripes and threads each keep their own and records carry what they added; and what changes one
 * row changes it by the row's new hash minus its old one. It is there to find what no checksum of
 * bytes can: a bit that flipped in memory, code that applies to memory what it did not log. It is no
 * defence against an adversary.
 *
 * A hash is inv_mix64 of a sum of 64-bit words, each times an odd constant of its own (the products
 * do not wait for each other: about 5 ns each). Byte by byte: docs/log-format.md.
 *
 * Not in it: ended reservations and op_ids (they are forgotten without a record), the lsn of a
 * reservation (it is known after the record's bytes are), names but through the hash of the SKU's.
 */
#ifndef INV_DIGEST_H
#define INV_DIGEST_H

#include "inv_hold.h"
#include "inv_row.h"

/* The first 64 bits after the point of the square roots of 2, 3, 5, 7, 11, 13, 17, 19, made odd. */
#define INV_DIGEST_M0 0x6A09E667F3BCC909ull
#define INV_DIGEST_M1 0xBB67AE8584CAA73Bull
#define INV_DIGEST_M2 0x3C6EF372FE94F82Bull
#define INV_DIGEST_M3 0xA54FF53A5F1D36F1ull
#define INV_DIGEST_M4 0x510E527FADE682D1ull
#define INV_DIGEST_M5 0x9B05688C2B3E6C1Full
#define INV_DIGEST_M6 0x1F83D9ABFB41BD6Bull
#define INV_DIGEST_M7 0x5BE0CD19137E2179ull

#define INV_DIGEST_ROW 1u
#define INV_DIGEST_POLICY 2u
#define INV_DIGEST_LINE 3u

/* name_hash: inv_sku.hash. */
static inline uint64_t inv_digest_row(uint32_t sku, uint32_t name_hash, inv_row row) {
    if ((row.on_hand | row.held | row.allocated) == 0) return 0; /* as if it were not there */
    return inv_mix64(INV_DIGEST_ROW + (sku | (uint64_t)name_hash << 32) * INV_DIGEST_M0 +
                     (row.on_hand | (uint64_t)row.held << 32) * INV_DIGEST_M1 +
                     (row.allocated | (uint64_t)row.location << 32) * INV_DIGEST_M2);
}

static inline uint64_t inv_digest_policy(uint32_t sku, uint16_t location, uint32_t safety_stock) {
    return inv_mix64(INV_DIGEST_POLICY + (sku | (uint64_t)location << 32) * INV_DIGEST_M0 +
                     safety_stock * INV_DIGEST_M1);
}

/* 0 unless it is a reservation that holds or has allocated something. */
static inline uint64_t inv_digest_hold(const inv_holds *holds, const inv_hold *hold) {
    if ((hold->state != INV_STATE_HELD && hold->state != INV_STATE_ALLOCATED) ||
        (hold->kind & INV_HOLD_OP) != 0)
        return 0;
    /* Of a text the keyed hash and the length; where its bytes lie is this process's own matter. */
    bool text = (hold->kind & INV_HOLD_TEXT) != 0;
    uint64_t id = text ? inv_load_u32(hold->id + 12) : inv_load_u64(hold->id + 8);
    uint64_t head = hold->seller | (uint64_t)hold->state << 16 | (uint64_t)hold->kind << 24 |
                    (uint64_t)hold->account << 32;
    uint64_t body =
        hold->body_hash | (uint64_t)hold->line_count << 32 | (uint64_t)hold->ended_by << 48;
    uint64_t deadline_ms = hold->state == INV_STATE_HELD ? hold->deadline_ms : 0;
    uint64_t base = INV_DIGEST_LINE + inv_load_u64(hold->id) * INV_DIGEST_M0 + id * INV_DIGEST_M1 +
                    head * INV_DIGEST_M2 + body * INV_DIGEST_M3 + deadline_ms * INV_DIGEST_M4;
    inv_hold_line inline_line;
    const inv_hold_line *lines = inv_hold_lines(holds, hold, &inline_line);
    uint64_t sum = 0;
    for (uint32_t i = 0; lines != NULL && i < hold->line_count; i++) {
        const inv_hold_line *line = &lines[i];
        uint64_t place = line->shipped | (uint64_t)line->location << 32 |
                         (uint64_t)(line->flags & INV_LINE_FREE) << 48;
        sum += inv_mix64(base + (line->sku | (uint64_t)line->qty << 32) * INV_DIGEST_M5 +
                         (line->held | (uint64_t)line->allocated << 32) * INV_DIGEST_M6 +
                         place * INV_DIGEST_M7);
    }
    return sum;
}

#endif
