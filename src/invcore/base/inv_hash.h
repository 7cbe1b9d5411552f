/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_hash.h: SipHash-1-3 (Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012; 1
 * compression and 3 finalization rounds, as in Rust's and Ruby's hash tables) for names and ids
 * that outsiders choose, keyed with 128 secret bits; and a finalizer for keys nobody outside can
 * choose.
 */
#ifndef INV_HASH_H
#define INV_HASH_H

#include "inv_base.h"

typedef struct inv_hash_key {
    uint64_t k0, k1;
} inv_hash_key;

#define INV_SIP_ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define INV_SIP_ROUND              \
    do {                           \
        v0 += v1;                  \
        v1 = INV_SIP_ROTL(v1, 13); \
        v1 ^= v0;                  \
        v0 = INV_SIP_ROTL(v0, 32); \
        v2 += v3;                  \
        v3 = INV_SIP_ROTL(v3, 16); \
        v3 ^= v2;                  \
        v0 += v3;                  \
        v3 = INV_SIP_ROTL(v3, 21); \
        v3 ^= v0;                  \
        v2 += v1;                  \
        v1 = INV_SIP_ROTL(v1, 17); \
        v1 ^= v2;                  \
        v2 = INV_SIP_ROTL(v2, 32); \
    } while (0)

/* Hash of `size` bytes; `tweak` separates name spaces (seller, kind) under one key. */
static inline uint64_t inv_siphash13(inv_hash_key key, uint64_t tweak, const void *bytes,
                                     size_t size) {
    const uint8_t *p = (const uint8_t *)bytes;
    uint64_t v0 = key.k0 ^ 0x736f6d6570736575ull, v1 = key.k1 ^ 0x646f72616e646f6dull;
    uint64_t v2 = key.k0 ^ 0x6c7967656e657261ull, v3 = key.k1 ^ 0x7465646279746573ull;
    uint64_t last = (uint64_t)size << 56;
    size_t left = size;
    v3 ^= tweak;
    INV_SIP_ROUND;
    v0 ^= tweak;
    for (; left >= 8; left -= 8, p += 8) {
        uint64_t m = inv_load_u64(p);
        v3 ^= m;
        INV_SIP_ROUND;
        v0 ^= m;
    }
    for (size_t i = 0; i < left; i++) last |= (uint64_t)p[i] << (8 * i);
    v3 ^= last;
    INV_SIP_ROUND;
    v0 ^= last;
    v2 ^= 0xff;
    INV_SIP_ROUND;
    INV_SIP_ROUND;
    INV_SIP_ROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

/* Bijective 64-bit mixer (Stafford's variant 13 of the MurmurHash3 finalizer), for our own numbers.
 */
static inline uint64_t inv_mix64(uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebull;
    x ^= x >> 31;
    return x;
}

#endif
