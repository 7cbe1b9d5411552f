/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_msgpack.c: every head byte of msgpack, and the skipping of values without recursion.
 */
#include "inv_msgpack.h"

/* What a head byte from 0xC0 to 0xDF begins. `head_bytes` follow it: a number, or a length. */
typedef struct head_form {
    uint8_t type;       /* inv_msgpack_type */
    uint8_t head_bytes; /* of the number behind the head byte */
    uint8_t tail_bytes; /* of a kind with a fixed size, behind that */
    bool is_signed;
} head_form;

#define NONE 0xFF

static const head_form forms[32] = {
    {INV_MSGPACK_NIL, 0, 0, false},   /* C0 nil */
    {NONE, 0, 0, false},              /* C1 never used */
    {INV_MSGPACK_BOOL, 0, 0, false},  /* C2 false */
    {INV_MSGPACK_BOOL, 0, 0, false},  /* C3 true */
    {INV_MSGPACK_BIN, 1, 0, false},   /* C4 bin 8 */
    {INV_MSGPACK_BIN, 2, 0, false},   /* C5 bin 16 */
    {INV_MSGPACK_BIN, 4, 0, false},   /* C6 bin 32 */
    {INV_MSGPACK_OTHER, 1, 1, false}, /* C7 ext 8: length, type, bytes */
    {INV_MSGPACK_OTHER, 2, 1, false}, /* C8 ext 16 */
    {INV_MSGPACK_OTHER, 4, 1, false}, /* C9 ext 32 */
    {INV_MSGPACK_OTHER, 0, 4, false}, /* CA float 32 */
    {INV_MSGPACK_OTHER, 0, 8, false}, /* CB float 64 */
    {INV_MSGPACK_UINT, 1, 0, false},  /* CC uint 8 */
    {INV_MSGPACK_UINT, 2, 0, false},  /* CD uint 16 */
    {INV_MSGPACK_UINT, 4, 0, false},  /* CE uint 32 */
    {INV_MSGPACK_UINT, 8, 0, false},  /* CF uint 64 */
    {INV_MSGPACK_UINT, 1, 0, true},   /* D0 int 8 */
    {INV_MSGPACK_UINT, 2, 0, true},   /* D1 int 16 */
    {INV_MSGPACK_UINT, 4, 0, true},   /* D2 int 32 */
    {INV_MSGPACK_UINT, 8, 0, true},   /* D3 int 64 */
    {INV_MSGPACK_OTHER, 0, 2, false}, /* D4 fixext 1: type, bytes */
    {INV_MSGPACK_OTHER, 0, 3, false}, /* D5 fixext 2 */
    {INV_MSGPACK_OTHER, 0, 5, false}, /* D6 fixext 4 */
    {INV_MSGPACK_OTHER, 0, 9, false}, /* D7 fixext 8 */
    {INV_MSGPACK_OTHER, 0, 17, false}, /* D8 fixext 16 */
    {INV_MSGPACK_STR, 1, 0, false},   /* D9 str 8 */
    {INV_MSGPACK_STR, 2, 0, false},   /* DA str 16 */
    {INV_MSGPACK_STR, 4, 0, false},   /* DB str 32 */
    {INV_MSGPACK_ARRAY, 2, 0, false}, /* DC array 16 */
    {INV_MSGPACK_ARRAY, 4, 0, false}, /* DD array 32 */
    {INV_MSGPACK_MAP, 2, 0, false},   /* DE map 16 */
    {INV_MSGPACK_MAP, 4, 0, false},   /* DF map 32 */
};

/* The number of 1, 2, 4 or 8 bytes, highest first, at p. */
static uint64_t big_number(const uint8_t *p, uint32_t bytes) {
    uint64_t number = 0;
    for (uint32_t i = 0; i < bytes; i++) number = number << 8 | p[i];
    return number;
}

/* An int of `bytes` bytes: those that are not negative are UINT, as if written so. */
static void sign(inv_msgpack_token *out, uint32_t bytes) {
    uint32_t shift = 64 - 8 * bytes;
    int64_t number = (int64_t)(out->number << shift) >> shift;
    out->type = number < 0 ? INV_MSGPACK_INT : INV_MSGPACK_UINT;
    out->number = (uint64_t)number;
}

/* A text or a container whose `number` is known: are its bytes, or as many as it has children,
 * there? */
static bool is_whole(inv_msgpack_reader *reader, const uint8_t *at, inv_msgpack_token *out) {
    size_t left = (size_t)(reader->end - at);
    if (out->type == INV_MSGPACK_MAP) out->number *= 2;
    if (out->number > left) return false;
    if (out->type == INV_MSGPACK_STR || out->type == INV_MSGPACK_BIN) {
        out->bytes = at;
        at += out->number;
    }
    reader->at = at;
    return true;
}

static bool read_form(inv_msgpack_reader *reader, head_form form, inv_msgpack_token *out) {
    const uint8_t *at = reader->at + 1;
    size_t left = (size_t)(reader->end - at);
    if (left < form.head_bytes) return false;
    out->type = (inv_msgpack_type)form.type;
    out->number = big_number(at, form.head_bytes);
    at += form.head_bytes;
    left -= form.head_bytes;
    switch (out->type) {
    case INV_MSGPACK_NIL:
    case INV_MSGPACK_BOOL:
        out->number = reader->at[0] & 1;
        break;
    case INV_MSGPACK_UINT:
    case INV_MSGPACK_INT:
        if (form.is_signed) sign(out, form.head_bytes);
        break;
    case INV_MSGPACK_OTHER: /* number: bytes of an ext's value, at most 4 GiB - 1 */
        if (out->number + form.tail_bytes > left) return false;
        at += out->number + form.tail_bytes;
        break;
    case INV_MSGPACK_STR:
    case INV_MSGPACK_BIN:
    case INV_MSGPACK_ARRAY:
    case INV_MSGPACK_MAP:
        return is_whole(reader, at, out);
    }
    reader->at = at;
    return true;
}

bool inv_msgpack_read_any(inv_msgpack_reader *reader, inv_msgpack_token *out) {
    if (reader->at == reader->end) return false;
    uint8_t head = *reader->at;
    out->bytes = NULL;
    if (head >= 0xE0) { /* -32 to -1 */
        *out = (inv_msgpack_token){INV_MSGPACK_INT, (uint64_t)(int64_t)(int8_t)head, NULL};
        reader->at++;
        return true;
    }
    if (head < 0x80) {
        *out = (inv_msgpack_token){INV_MSGPACK_UINT, head, NULL};
        reader->at++;
        return true;
    }
    if (head >= 0xC0) {
        head_form form = forms[head - 0xC0];
        return form.type != NONE && read_form(reader, form, out);
    }
    bool text = head >= 0xA0;
    out->type = text ? INV_MSGPACK_STR : head >= 0x90 ? INV_MSGPACK_ARRAY : INV_MSGPACK_MAP;
    out->number = head & (text ? 0x1F : 0x0F);
    return is_whole(reader, reader->at + 1, out);
}

bool inv_msgpack_skip(inv_msgpack_reader *reader, uint64_t count, uint32_t depth) {
    uint64_t left[INV_MSGPACK_DEPTH_MAX + 1]; /* values still to come, level by level */
    uint32_t level = depth;
    INV_ASSERT(depth <= INV_MSGPACK_DEPTH_MAX);
    left[level] = count;
    for (;;) { /* each turn reads a byte or goes up */
        while (left[level] == 0) {
            if (level == depth) return true;
            level--;
        }
        const uint8_t *at = reader->at;
        inv_msgpack_token token;
        left[level]--;
        if (!inv_msgpack_read(reader, &token)) return false;
        if (token.type != INV_MSGPACK_ARRAY && token.type != INV_MSGPACK_MAP) continue;
        if (level == INV_MSGPACK_DEPTH_MAX) {
            reader->at = at;
            return false;
        }
        left[++level] = token.number;
    }
}
