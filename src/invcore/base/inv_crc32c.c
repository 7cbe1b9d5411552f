/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_crc32c.c: CRC-32C three times: SSE 4.2, ARMv8, and tables.
 *
 * Guarantees: all three give the same result for every seed, size and alignment, read nothing
 * outside the buffer, and keep no state: any thread may call them at any time.
 *
 * How. The instruction folds 8 bytes into the CRC every 3 cycles (its latency), which makes a log
 * record of 40 to 64 bytes a matter of 5 to 8 instructions. Only long buffers (payloads, snapshot
 * blocks, recovery) have room for more: three independent thirds of a 768-byte stride are folded at
 * once and joined. Without its two complements a CRC is linear: with S(x) = x after 256 zero bytes,
 *
 *     crc(state, A B C) = S(S(crc(state, A)) ^ crc(0, B)) ^ crc(0, C)
 *
 * The portable version is slicing-by-8 (Kounavis, Berry, "A Systematic Approach to Building High
 * Performance Software-based CRC Generators", 2005).
 *
 * Tables are linear too: the entry of a byte is the xor of the entries of its bits. So the source
 * holds eight constants a table and the compiler builds the other 248: read-only data, no start-up
 * code, no race about who fills them in.
 *
 * Rejected: joining by carry-less multiplication (a second instruction set to detect, and no faster
 * at our sizes); IFUNC (not in every libc).
 */
#include "inv_crc32c.h"

#if defined(__aarch64__)
#include <stdatomic.h>
#include <sys/auxv.h>
#endif

#define ENTRY(i, b0, b1, b2, b3, b4, b5, b6, b7)                                     \
    ((((i) & 1u) ? b0 : 0u) ^ (((i) & 2u) ? b1 : 0u) ^ (((i) & 4u) ? b2 : 0u) ^      \
     (((i) & 8u) ? b3 : 0u) ^ (((i) & 16u) ? b4 : 0u) ^ (((i) & 32u) ? b5 : 0u) ^    \
     (((i) & 64u) ? b6 : 0u) ^ (((i) & 128u) ? b7 : 0u))
#define ENTRIES_4(i, ...)                                                            \
    ENTRY(i, __VA_ARGS__), ENTRY((i) + 1u, __VA_ARGS__), ENTRY((i) + 2u, __VA_ARGS__), \
        ENTRY((i) + 3u, __VA_ARGS__)
#define ENTRIES_16(i, ...)                                                           \
    ENTRIES_4(i, __VA_ARGS__), ENTRIES_4((i) + 4u, __VA_ARGS__),                     \
        ENTRIES_4((i) + 8u, __VA_ARGS__), ENTRIES_4((i) + 12u, __VA_ARGS__)
#define ENTRIES_64(i, ...)                                                           \
    ENTRIES_16(i, __VA_ARGS__), ENTRIES_16((i) + 16u, __VA_ARGS__),                  \
        ENTRIES_16((i) + 32u, __VA_ARGS__), ENTRIES_16((i) + 48u, __VA_ARGS__)
/* Arguments: the table's entries for the bytes 1, 2, 4, ... 128. */
#define TABLE(...)                                                                   \
    { ENTRIES_64(0u, __VA_ARGS__), ENTRIES_64(64u, __VA_ARGS__),                     \
      ENTRIES_64(128u, __VA_ARGS__), ENTRIES_64(192u, __VA_ARGS__) }

/* slice_table[k][b]: the CRC of byte b followed by k zero bytes, from state 0. */
static const uint32_t slice_table[8][256] = {
    TABLE(0xf26b8303u, 0xe13b70f7u, 0xc79a971fu, 0x8ad958cfu,
          0x105ec76fu, 0x20bd8edeu, 0x417b1dbcu, 0x82f63b78u),
    TABLE(0x13a29877u, 0x274530eeu, 0x4e8a61dcu, 0x9d14c3b8u,
          0x3fc5f181u, 0x7f8be302u, 0xff17c604u, 0xfbc3faf9u),
    TABLE(0xa541927eu, 0x4f6f520du, 0x9edea41au, 0x38513ec5u,
          0x70a27d8au, 0xe144fb14u, 0xc76580d9u, 0x8b277743u),
    TABLE(0xdd45aab8u, 0xbf672381u, 0x7b2231f3u, 0xf64463e6u,
          0xe964b13du, 0xd725148bu, 0xaba65fe7u, 0x52a0c93fu),
    TABLE(0x38116facu, 0x7022df58u, 0xe045beb0u, 0xc5670b91u,
          0x8f2261d3u, 0x1ba8b557u, 0x37516aaeu, 0x6ea2d55cu),
    TABLE(0xef306b19u, 0xdb8ca0c3u, 0xb2f53777u, 0x6006181fu,
          0xc00c303eu, 0x85f4168du, 0x0e045bebu, 0x1c08b7d6u),
    TABLE(0x68032cc8u, 0xd0065990u, 0xa5e0c5d1u, 0x4e2dfd53u,
          0x9c5bfaa6u, 0x3d5b83bdu, 0x7ab7077au, 0xf56e0ef4u),
    TABLE(0x493c7d27u, 0x9278fa4eu, 0x211d826du, 0x423b04dau,
          0x847609b4u, 0x0d006599u, 0x1a00cb32u, 0x34019664u),
};

uint32_t inv_crc32c_portable(uint32_t seed, const void *bytes, size_t size) {
    const uint8_t *p = (const uint8_t *)bytes;
    uint32_t crc = ~seed;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t word = inv_load_u64(p) ^ crc;
        crc = slice_table[7][word & 0xff] ^ slice_table[6][(word >> 8) & 0xff] ^
              slice_table[5][(word >> 16) & 0xff] ^ slice_table[4][(word >> 24) & 0xff] ^
              slice_table[3][(word >> 32) & 0xff] ^ slice_table[2][(word >> 40) & 0xff] ^
              slice_table[1][(word >> 48) & 0xff] ^ slice_table[0][word >> 56];
    }
    for (; size > 0; size--, p++) crc = (crc >> 8) ^ slice_table[0][(crc ^ *p) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)

#define HAS_HARDWARE 1
#define HARDWARE __attribute__((target("sse4.2")))

HARDWARE static inline uint32_t fold_8(uint32_t crc, uint64_t word) {
    return (uint32_t)__builtin_ia32_crc32di(crc, word);
}
HARDWARE static inline uint32_t fold_4(uint32_t crc, uint32_t word) {
    return __builtin_ia32_crc32si(crc, word);
}
HARDWARE static inline uint32_t fold_1(uint32_t crc, uint8_t byte) {
    return __builtin_ia32_crc32qi(crc, byte);
}
static inline bool hardware_is_present(void) {
#if defined(__SSE4_2__)
    return true;
#else
    /* One load and one test of what the compiler's runtime wrote before main: no race, no cache
     * of our own needed. */
    return __builtin_cpu_supports("sse4.2") != 0;
#endif
}

#elif defined(__aarch64__)

#define HAS_HARDWARE 1
#define HARDWARE
#define AARCH64_HWCAP_CRC32 (1ul << 7) /* HWCAP_CRC32 of asm/hwcap.h */

/* Assembly and not intrinsics: those need a compiler flag, which would let the compiler use the
 * instructions elsewhere in this file too. */
static inline uint32_t fold_8(uint32_t crc, uint64_t word) {
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(word));
    return crc;
}
static inline uint32_t fold_4(uint32_t crc, uint32_t word) {
    __asm__(".arch_extension crc\n\tcrc32cw %w0, %w0, %w1" : "+r"(crc) : "r"(word));
    return crc;
}
static inline uint32_t fold_1(uint32_t crc, uint8_t byte) {
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)byte));
    return crc;
}
static inline bool hardware_is_present(void) {
    /* getauxval walks a list, so its answer is kept: 0 not asked yet, 1 yes, 2 no. Threads that ask
     * at once write the same value; relaxed, because nothing else hangs on it. */
    static _Atomic uint32_t answer;
    uint32_t known = atomic_load_explicit(&answer, memory_order_relaxed);
    if (INV_UNLIKELY(known == 0)) {
        known = (getauxval(AT_HWCAP) & AARCH64_HWCAP_CRC32) != 0 ? 1 : 2;
        atomic_store_explicit(&answer, known, memory_order_relaxed);
    }
    return known == 1;
}

#endif

#if defined(HAS_HARDWARE)

#define THIRD_BYTES 256u
#define STRIDE_BYTES (3u * THIRD_BYTES)

/* shift_table[k][b]: state b << 8k after THIRD_BYTES zero bytes. */
static const uint32_t shift_table[4][256] = {
    TABLE(0xdcb17aa4u, 0xbc8e83b9u, 0x7cf17183u, 0xf9e2e306u,
          0xf629b0fdu, 0xe9bf170bu, 0xd69258e7u, 0xa8c8c73fu),
    TABLE(0x547df88fu, 0xa8fbf11eu, 0x541b94cdu, 0xa837299au,
          0x558225c5u, 0xab044b8au, 0x53e4e1e5u, 0xa7c9c3cau),
    TABLE(0x4a7ff165u, 0x94ffe2cau, 0x2c13b365u, 0x582766cau,
          0xb04ecd94u, 0x6571edd9u, 0xcae3dbb2u, 0x902bc195u),
    TABLE(0x25bbf5dbu, 0x4b77ebb6u, 0x96efd76cu, 0x2833d829u,
          0x5067b052u, 0xa0cf60a4u, 0x4472b7b9u, 0x88e56f72u),
};

static inline uint32_t shift_third(uint32_t crc) {
    return shift_table[0][crc & 0xff] ^ shift_table[1][(crc >> 8) & 0xff] ^
           shift_table[2][(crc >> 16) & 0xff] ^ shift_table[3][crc >> 24];
}

HARDWARE static uint32_t crc32c_hardware(uint32_t seed, const void *bytes, size_t size) {
    const uint8_t *p = (const uint8_t *)bytes;
    uint32_t crc = ~seed;
    for (; INV_UNLIKELY(size >= STRIDE_BYTES); size -= STRIDE_BYTES, p += STRIDE_BYTES) {
        uint32_t second = 0, third = 0;
        for (size_t i = 0; i < THIRD_BYTES; i += 8) {
            crc = fold_8(crc, inv_load_u64(p + i));
            second = fold_8(second, inv_load_u64(p + THIRD_BYTES + i));
            third = fold_8(third, inv_load_u64(p + 2 * THIRD_BYTES + i));
        }
        crc = shift_third(shift_third(crc) ^ second) ^ third;
    }
    for (; size >= 8; size -= 8, p += 8) crc = fold_8(crc, inv_load_u64(p));
    if (size >= 4) {
        crc = fold_4(crc, inv_load_u32(p));
        size -= 4;
        p += 4;
    }
    for (; size > 0; size--, p++) crc = fold_1(crc, *p);
    return ~crc;
}

#endif

uint32_t inv_crc32c(uint32_t seed, const void *bytes, size_t size) {
#if defined(HAS_HARDWARE)
    if (INV_LIKELY(hardware_is_present())) return crc32c_hardware(seed, bytes, size);
#endif
    return inv_crc32c_portable(seed, bytes, size);
}
