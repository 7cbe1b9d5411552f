/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_effect.c: entries to bytes and back. Pure; no allocation; safe on any bytes.
 */
#include "inv_effect.h"

#include <stdio.h>

static uint64_t counted_bytes(uint32_t length) { return inv_align_u64(1 + (uint64_t)length, 4); }

static uint32_t op_id_length(const inv_effect_id *op_id) {
    return op_id->text.bytes != NULL ? op_id->text.length : 16;
}

uint64_t inv_effect_bytes(const inv_effect *effect) {
    uint64_t bytes = INV_EFFECT_HEADER_BYTES + 12ull * effect->line_count;
    if (effect->id.text.bytes != NULL) bytes += counted_bytes(effect->id.text.length);
    if (effect->op_id.present) bytes += counted_bytes(op_id_length(&effect->op_id));
    if (effect->reason != INV_NUMBER_NONE || effect->reference != INV_NUMBER_NONE) bytes += 8;
    if (effect->blob.bytes != NULL) bytes += inv_align_u64(2 + (uint64_t)effect->blob.length, 4);
    return bytes;
}

/* Writes length and bytes, zero padding to 4; returns the bytes written. */
static uint64_t put_counted(uint8_t *out, const void *bytes, uint32_t length) {
    uint64_t total = counted_bytes(length);
    inv_put_u32(out + total - 4, 0);
    out[0] = (uint8_t)length;
    memcpy(out + 1, bytes, length);
    return total;
}

uint64_t inv_effect_encode(uint8_t *out, const inv_effect *effect) {
    uint8_t flags = 0;
    uint64_t at = INV_EFFECT_HEADER_BYTES;
    out[0] = effect->kind;
    inv_put_u16(out + 2, effect->line_count);
    inv_put_u16(out + 4, effect->seller);
    out[6] = effect->state;
    out[7] = effect->whole;
    inv_put_u32(out + 8, effect->account);
    inv_put_u32(out + 12, effect->body_hash);
    inv_put_u32(out + 16, effect->deadline_ms);
    if (effect->id.present && effect->id.text.bytes == NULL)
        memcpy(out + 20, effect->id.uuid, 16);
    else
        memset(out + 20, 0, 16);
    if (effect->id.present) flags |= INV_EFFECT_HAS_ID;
    if (effect->line_count > 0) memcpy(out + at, effect->lines, 12ull * effect->line_count);
    at += 12ull * effect->line_count;
    if (effect->id.text.bytes != NULL) {
        flags |= INV_EFFECT_ID_TEXT;
        at += put_counted(out + at, effect->id.text.bytes, effect->id.text.length);
    }
    if (effect->op_id.present) {
        bool uuid = effect->op_id.text.bytes == NULL;
        flags |= INV_EFFECT_OP_ID;
        if (uuid) flags |= INV_EFFECT_OP_ID_UUID;
        at += put_counted(
            out + at,
            uuid ? (const void *)effect->op_id.uuid : (const void *)effect->op_id.text.bytes,
            op_id_length(&effect->op_id));
    }
    if (effect->reason != INV_NUMBER_NONE || effect->reference != INV_NUMBER_NONE) {
        flags |= INV_EFFECT_NOTE;
        inv_put_u32(out + at, effect->reason);
        inv_put_u32(out + at + 4, effect->reference);
        at += 8;
    }
    if (effect->blob.bytes != NULL) {
        uint64_t total = inv_align_u64(2 + (uint64_t)effect->blob.length, 4);
        flags |= INV_EFFECT_BLOB;
        inv_put_u32(out + at + total - 4, 0);
        inv_put_u16(out + at, (uint16_t)effect->blob.length);
        memcpy(out + at + 2, effect->blob.bytes, effect->blob.length);
        at += total;
    }
    out[1] = flags;
    return at;
}

/* Reads a counted text at *at; false when it does not fit or is empty. */
static bool take_counted(const uint8_t *bytes, uint64_t available, uint64_t *at, inv_text *out) {
    if (*at >= available) return false;
    uint32_t length = bytes[*at];
    if (length == 0 || length > INV_ID_BYTES_MAX || counted_bytes(length) > available - *at)
        return false;
    out->bytes = (const char *)bytes + *at + 1;
    out->length = length;
    *at += counted_bytes(length);
    return true;
}

/* Does this release read entries of this kind? The others are numbered for later ones. */
static inline bool is_known_kind(uint8_t kind) {
    const uint64_t known =
        1ull << INV_ENTRY_RESERVE | 1ull << INV_ENTRY_COMMIT | 1ull << INV_ENTRY_SHIP |
        1ull << INV_ENTRY_RELEASE | 1ull << INV_ENTRY_CANCEL | 1ull << INV_ENTRY_EXTEND |
        1ull << INV_ENTRY_EXPIRE | 1ull << INV_ENTRY_TOMBSTONE | 1ull << INV_ENTRY_RECEIVE |
        1ull << INV_ENTRY_ISSUE | 1ull << INV_ENTRY_ADJUST | 1ull << INV_ENTRY_COUNT |
        1ull << INV_ENTRY_POLICY | 1ull << INV_ENTRY_NAME | 1ull << INV_ENTRY_CLOCK_TICK |
        1ull << INV_ENTRY_DIGEST | 1ull << INV_ENTRY_SNAPSHOT_MARK | 1ull << INV_ENTRY_FORMAT_GATE |
        1ull << INV_ENTRY_OPERATOR_ACT;
    return kind < 64 && (known >> kind & 1) != 0;
}

static inline bool is_known_name_kind(uint32_t kind) {
    return kind >= INV_NAME_SKU && kind <= INV_NAME_REFERENCE;
}

uint64_t inv_effect_decode(const uint8_t *bytes, uint64_t available, inv_effect *out) {
    if (available < INV_EFFECT_HEADER_BYTES) return 0;
    uint8_t flags = bytes[1];
    uint64_t at = INV_EFFECT_HEADER_BYTES;
    memset(out, 0, sizeof *out);
    out->kind = bytes[0];
    out->line_count = inv_load_u16(bytes + 2);
    out->seller = inv_load_u16(bytes + 4);
    out->state = bytes[6];
    out->whole = bytes[7] != 0;
    out->account = inv_load_u32(bytes + 8);
    out->body_hash = inv_load_u32(bytes + 12);
    out->deadline_ms = inv_load_u32(bytes + 16);
    out->reason = out->reference = INV_NUMBER_NONE;
    if ((flags & ~INV_EFFECT_FLAGS_KNOWN) != 0 || bytes[7] > 1) return 0;
    if (!is_known_kind(out->kind)) return 0;
    if (out->kind == INV_ENTRY_NAME && !is_known_name_kind(out->body_hash)) return 0;
    if (out->line_count > INV_EFFECT_LINE_COUNT_MAX) return 0;
    if (12ull * out->line_count > available - at) return 0;
    out->lines = (const inv_change_line *)(const void *)(bytes + at);
    at += 12ull * out->line_count;
    out->id.present = (flags & INV_EFFECT_HAS_ID) != 0;
    memcpy(out->id.uuid, bytes + 20, 16);
    if ((flags & INV_EFFECT_ID_TEXT) && !take_counted(bytes, available, &at, &out->id.text))
        return 0;
    if (flags & INV_EFFECT_OP_ID) {
        inv_text text;
        if (!take_counted(bytes, available, &at, &text)) return 0;
        out->op_id.present = true;
        if (flags & INV_EFFECT_OP_ID_UUID) {
            if (text.length != 16) return 0;
            memcpy(out->op_id.uuid, text.bytes, 16);
        } else {
            out->op_id.text = text;
        }
    }
    if (flags & INV_EFFECT_NOTE) {
        if (available - at < 8) return 0;
        out->reason = inv_load_u32(bytes + at);
        out->reference = inv_load_u32(bytes + at + 4);
        at += 8;
    }
    if (flags & INV_EFFECT_BLOB) {
        if (available - at < 2) return 0;
        uint32_t length = inv_load_u16(bytes + at);
        if (inv_align_u64(2 + (uint64_t)length, 4) > available - at) return 0;
        out->blob.bytes = (const char *)bytes + at + 2;
        out->blob.length = length;
        at += inv_align_u64(2 + (uint64_t)length, 4);
    }
    for (uint32_t i = 0; i < out->line_count; i++)
        if (out->lines[i].op >= INV_OP_COUNT || out->lines[i].qty > INV_QTY_MAX ||
            (out->lines[i].flags & ~INV_LINE_FREE) != 0)
            return 0;
    return at;
}

bool inv_effect_unknown(const uint8_t *bytes, uint64_t available,
                        char out_what[INV_EFFECT_WHAT_BYTES]) {
    out_what[0] = 0;
    if (available < INV_EFFECT_HEADER_BYTES) return false;
    uint32_t flags = (uint32_t)(bytes[1] & ~INV_EFFECT_FLAGS_KNOWN) | (bytes[7] & ~1u) << 8;
    uint32_t line_count = inv_load_u16(bytes + 2), name_kind = inv_load_u32(bytes + 12);
    if (!is_known_kind(bytes[0]))
        (void)snprintf(out_what, INV_EFFECT_WHAT_BYTES, "an entry of kind %u", bytes[0]);
    else if (flags != 0)
        (void)snprintf(out_what, INV_EFFECT_WHAT_BYTES, "flag bits 0x%x of an entry", flags);
    else if (bytes[0] == INV_ENTRY_NAME && !is_known_name_kind(name_kind))
        (void)snprintf(out_what, INV_EFFECT_WHAT_BYTES, "a name of kind %u", name_kind);
    if (out_what[0] != 0) return true;
    if (line_count > INV_EFFECT_LINE_COUNT_MAX ||
        12ull * line_count > available - INV_EFFECT_HEADER_BYTES)
        return false; /* what stands there is no lines */
    for (uint32_t i = 0; i < line_count && out_what[0] == 0; i++) {
        const inv_change_line *line = (const inv_change_line *)(const void *)(
            bytes + INV_EFFECT_HEADER_BYTES + 12ull * i);
        if (line->op >= INV_OP_COUNT)
            (void)snprintf(out_what, INV_EFFECT_WHAT_BYTES, "a line with operation %u", line->op);
        else if ((line->flags & ~INV_LINE_FREE) != 0)
            (void)snprintf(out_what, INV_EFFECT_WHAT_BYTES, "flag bits 0x%x of a line",
                           line->flags & ~INV_LINE_FREE);
    }
    return out_what[0] != 0;
}

void inv_effect_encode_tick(uint8_t out[INV_EFFECT_TICK_BYTES], const inv_effect_tick *tick) {
    inv_put_u64(out, tick->wall_unix_ms);
    inv_put_u64(out + 8, tick->window_start_ms);
    inv_put_u64(out + 16, tick->forgotten_lsn);
    inv_put_u64(out + 24, tick->downtime_pending_ms);
    inv_put_u64(out + 32, tick->stale_before_ms);
}

bool inv_effect_decode_tick(inv_text blob, inv_effect_tick *out) {
    const uint8_t *bytes = (const uint8_t *)blob.bytes;
    if (bytes == NULL || blob.length != INV_EFFECT_TICK_BYTES) return false;
    out->wall_unix_ms = inv_load_u64(bytes);
    out->window_start_ms = inv_load_u64(bytes + 8);
    out->forgotten_lsn = inv_load_u64(bytes + 16);
    out->downtime_pending_ms = inv_load_u64(bytes + 24);
    out->stale_before_ms = inv_load_u64(bytes + 32);
    return true;
}
