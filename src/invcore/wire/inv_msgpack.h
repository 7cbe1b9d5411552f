/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_msgpack.h: the part of msgpack that the wire needs, bounded.
 *
 * READING. A reader is two pointers. A token is one value without its children: a number, a text
 * with its bytes, the head of an array. A token is whole or refused: every length is checked
 * against the bytes left, and so is every count, since a child takes at least a byte. Nothing is
 * allocated, nothing recurses; skipping a value keeps one count for each level, and there are at
 * most INV_MSGPACK_DEPTH_MAX. A refused token leaves the reader where the token begins.
 *
 * WRITING. The caller has made sure of room: INV_MSGPACK_HEAD_BYTES_MAX for a number or a head, as
 * many more as a text has. Numbers take the fewest bytes.
 *
 * UTF-8 is not looked at here: the engine checks every text that it is given.
 */
#ifndef INV_MSGPACK_H
#define INV_MSGPACK_H

#include "../base/inv_base.h"

#define INV_MSGPACK_DEPTH_MAX 4u      /* of arrays and maps in one another */
#define INV_MSGPACK_HEAD_BYTES_MAX 9u /* of the longest number */

typedef enum inv_msgpack_type {
    INV_MSGPACK_NIL = 0,
    INV_MSGPACK_BOOL = 1,  /* number: 0 or 1 */
    INV_MSGPACK_UINT = 2,  /* number */
    INV_MSGPACK_INT = 3,   /* a negative one: number has its bits */
    INV_MSGPACK_STR = 4,   /* number bytes at `bytes` */
    INV_MSGPACK_BIN = 5,   /* the same */
    INV_MSGPACK_ARRAY = 6, /* number of values that follow */
    INV_MSGPACK_MAP = 7,   /* number of values that follow: twice the pairs */
    INV_MSGPACK_OTHER = 8  /* float, ext: skipped whole */
} inv_msgpack_type;

typedef struct inv_msgpack_token {
    inv_msgpack_type type;
    uint64_t number;
    const uint8_t *bytes;
} inv_msgpack_token;

typedef struct inv_msgpack_reader {
    const uint8_t *at;
    const uint8_t *end;
} inv_msgpack_reader;

/* Any token; false: it is none, or not whole. */
INV_MUST_USE bool inv_msgpack_read_any(inv_msgpack_reader *reader, inv_msgpack_token *out);

/* The next token. What is most of every request is read here. */
INV_MUST_USE static inline bool inv_msgpack_read(inv_msgpack_reader *reader,
                                                 inv_msgpack_token *out) {
    if (INV_UNLIKELY(reader->at == reader->end)) return false;
    uint8_t head = *reader->at;
    out->bytes = NULL;
    if (head < 0x80) {
        *out = (inv_msgpack_token){INV_MSGPACK_UINT, head, NULL};
        reader->at++;
        return true;
    }
    if (head >= 0xA0 && head < 0xC0 && (size_t)(reader->end - reader->at) > (head & 0x1Fu)) {
        *out = (inv_msgpack_token){INV_MSGPACK_STR, head & 0x1Fu, reader->at + 1};
        reader->at += 1 + (head & 0x1Fu);
        return true;
    }
    if (head == 0xC0) {
        *out = (inv_msgpack_token){INV_MSGPACK_NIL, 0, NULL};
        reader->at++;
        return true;
    }
    return inv_msgpack_read_any(reader, out);
}

/* Skips `count` values, each inside `depth` arrays or maps; false: one is broken or too deep, and
 * the reader stands where the token begins that is. */
INV_MUST_USE bool inv_msgpack_skip(inv_msgpack_reader *reader, uint64_t count, uint32_t depth);

/* ---- writing: each returns where the next one goes ------------------------------------------- */

static inline uint8_t *inv_msgpack_put_byte(uint8_t *out, uint8_t byte) {
    *out = byte;
    return out + 1;
}

/* `head` and `bytes` of a number, the highest first. */
static inline uint8_t *inv_msgpack_put_big(uint8_t *out, uint8_t head, uint64_t number,
                                           uint32_t bytes) {
    uint64_t big = __builtin_bswap64(number << (64 - 8 * bytes));
    *out = head;
    memcpy(out + 1, &big, bytes);
    return out + 1 + bytes;
}

static inline uint8_t *inv_msgpack_put_uint(uint8_t *out, uint64_t number) {
    if (INV_LIKELY(number < 0x80)) return inv_msgpack_put_byte(out, (uint8_t)number);
    if (number <= UINT8_MAX) return inv_msgpack_put_big(out, 0xCC, number, 1);
    if (number <= UINT16_MAX) return inv_msgpack_put_big(out, 0xCD, number, 2);
    if (number <= UINT32_MAX) return inv_msgpack_put_big(out, 0xCE, number, 4);
    return inv_msgpack_put_big(out, 0xCF, number, 8);
}

static inline uint8_t *inv_msgpack_put_int(uint8_t *out, int64_t number) {
    if (INV_LIKELY(number >= 0)) return inv_msgpack_put_uint(out, (uint64_t)number);
    if (number >= -32) return inv_msgpack_put_byte(out, (uint8_t)number);
    if (number >= INT8_MIN) return inv_msgpack_put_big(out, 0xD0, (uint64_t)number, 1);
    if (number >= INT16_MIN) return inv_msgpack_put_big(out, 0xD1, (uint64_t)number, 2);
    if (number >= INT32_MIN) return inv_msgpack_put_big(out, 0xD2, (uint64_t)number, 4);
    return inv_msgpack_put_big(out, 0xD3, (uint64_t)number, 8);
}

static inline uint8_t *inv_msgpack_put_nil(uint8_t *out) { return inv_msgpack_put_byte(out, 0xC0); }

static inline uint8_t *inv_msgpack_put_bool(uint8_t *out, bool value) {
    return inv_msgpack_put_byte(out, value ? 0xC3 : 0xC2);
}

static inline uint8_t *inv_msgpack_put_array(uint8_t *out, uint32_t count) {
    if (count < 16) return inv_msgpack_put_byte(out, (uint8_t)(0x90 | count));
    if (count <= UINT16_MAX) return inv_msgpack_put_big(out, 0xDC, count, 2);
    return inv_msgpack_put_big(out, 0xDD, count, 4);
}

/* Only the head: the bytes follow. */
static inline uint8_t *inv_msgpack_put_bin_head(uint8_t *out, uint32_t length) {
    if (length <= UINT8_MAX) return inv_msgpack_put_big(out, 0xC4, length, 1);
    if (length <= UINT16_MAX) return inv_msgpack_put_big(out, 0xC5, length, 2);
    return inv_msgpack_put_big(out, 0xC6, length, 4);
}

static inline uint8_t *inv_msgpack_put_bin(uint8_t *out, const void *bytes, uint32_t length) {
    out = inv_msgpack_put_bin_head(out, length);
    if (length > 0) memcpy(out, bytes, length);
    return out + length;
}

static inline uint8_t *inv_msgpack_put_str(uint8_t *out, const char *bytes, uint32_t length) {
    if (length < 32) out = inv_msgpack_put_byte(out, (uint8_t)(0xA0 | length));
    else if (length <= UINT8_MAX) out = inv_msgpack_put_big(out, 0xD9, length, 1);
    else if (length <= UINT16_MAX) out = inv_msgpack_put_big(out, 0xDA, length, 2);
    else out = inv_msgpack_put_big(out, 0xDB, length, 4);
    if (length > 0) memcpy(out, bytes, length);
    return out + length;
}

#endif
