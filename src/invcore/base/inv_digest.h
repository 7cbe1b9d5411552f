/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_digest.h: what digests are made with. A stripe's digest is what it holds, as one number: the
 * sum (modulo 2^64) of a hash of each stock row with a figure in it, of each policy, of each line
 * of a live reservation. A sum knows no order, so stripes and threads each keep their own and
 * records carry what they added; and what changes a row changes it by the row's new hash minus its
 * old one. It is there to find what no checksum of bytes can: a bit that flipped in memory, code
 * that applies to memory what it did not log. It is no defence against an adversary.
 *
 * A hash is inv_mix64 of a sum of 64-bit words, each times an odd constant of its own (the products
 * do not wait for each other: about 5 ns each). Byte by byte: docs/log-format.md.
 *
 * Not in it: ended reservations and op_ids (they are forgotten without a record), the lsn of a
 * reservation (it is known after the record's bytes are), names but through the hash of the SKU's.
 */
#ifndef INV_DIGEST_H
#define INV_DIGEST_H

#include "inv_hash.h"

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

#endif
