/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wal_format.c: bytes of headers, to and fro. No state, no I/O; safe on any input.
 */
#include "inv_wal_format.h"

#include "../base/inv_crc32c.h"

uint32_t inv_wal_seed(const uint8_t uuid[16]) { return inv_crc32c(0x1A75EEDu, uuid, 16); }

void inv_wal_encode_segment_header(uint8_t out[INV_WAL_HEADER_BYTES],
                                   const inv_wal_segment_header *header) {
    memset(out, 0, INV_WAL_HEADER_BYTES);
    memcpy(out, INV_WAL_MAGIC, 8);
    inv_put_u16(out + 8, header->format.major);
    inv_put_u16(out + 10, header->format.minor);
    inv_put_u32(out + 12, INV_WAL_HEADER_BYTES);
    memcpy(out + 16, header->identity.uuid, 16);
    inv_put_u64(out + 32, header->number);
    inv_put_u64(out + 40, header->base_lsn);
    inv_put_u64(out + 48, header->epoch);
    inv_put_u64(out + 56, header->prev_number);
    inv_put_u64(out + 64, header->prev_end_lsn);
    inv_put_u64(out + 72, header->prev_end_offset);
    inv_put_u32(out + 80, header->prev_crc);
    inv_put_u32(out + 84, header->prev_exact ? INV_WAL_FLAG_PREV_EXACT : 0);
    inv_put_u64(out + 88, header->segment_bytes);
    inv_put_u32(out + 96, INV_WAL_RECORD_ALIGN);
    inv_put_u32(out + 100, header->identity.stripe_bits);
    inv_put_u64(out + 104, header->format.features);
    inv_put_u64(out + 120, header->wall_unix_ms);
    memcpy(out + 128, header->identity.hash_key, 16);
    inv_put_u64(out + 144, header->identity.created_unix_ms);
    inv_put_u32(out + 2044, inv_crc32c(0, out, 2044));
    memcpy(out + INV_WAL_HEADER_COPY_BYTES, out, INV_WAL_HEADER_COPY_BYTES);
}

/* Of a segment header and of a STATE slot alike: these places hold in every version. */
static inv_format load_format(const uint8_t *bytes) {
    return (inv_format){inv_load_u16(bytes + 8), inv_load_u16(bytes + 10),
                        inv_load_u64(bytes + 104)};
}

static inv_result decode_segment_copy(const uint8_t *bytes, inv_wal_segment_header *out) {
    if (memcmp(bytes, INV_WAL_MAGIC, 8) != 0) return INV_LOG_CORRUPT;
    if (inv_load_u32(bytes + 2044) != inv_crc32c(0, bytes, 2044)) return INV_LOG_CORRUPT;
    memset(out, 0, sizeof *out);
    out->format = load_format(bytes);
    if (!inv_format_is_known(out->format)) return INV_FORMAT_UNKNOWN;
    memcpy(out->identity.uuid, bytes + 16, 16);
    memcpy(out->identity.hash_key, bytes + 128, 16);
    out->identity.stripe_bits = inv_load_u32(bytes + 100);
    out->identity.created_unix_ms = inv_load_u64(bytes + 144);
    out->number = inv_load_u64(bytes + 32);
    out->base_lsn = inv_load_u64(bytes + 40);
    out->epoch = inv_load_u64(bytes + 48);
    out->prev_number = inv_load_u64(bytes + 56);
    out->prev_end_lsn = inv_load_u64(bytes + 64);
    out->prev_end_offset = inv_load_u64(bytes + 72);
    out->prev_crc = inv_load_u32(bytes + 80);
    out->prev_exact = (inv_load_u32(bytes + 84) & INV_WAL_FLAG_PREV_EXACT) != 0;
    out->segment_bytes = inv_load_u64(bytes + 88);
    out->wall_unix_ms = inv_load_u64(bytes + 120);
    if (inv_load_u32(bytes + 96) != INV_WAL_RECORD_ALIGN || out->identity.stripe_bits > 12 ||
        out->segment_bytes < INV_WAL_SEGMENT_BYTES_MIN ||
        out->segment_bytes > INV_WAL_SEGMENT_BYTES_MAX || out->number == 0 ||
        out->prev_number >= out->number || out->base_lsn < INV_WAL_LSN_FIRST)
        return INV_LOG_CORRUPT;
    return INV_OK;
}

inv_result inv_wal_decode_segment_header(const uint8_t bytes[INV_WAL_HEADER_BYTES],
                                         inv_wal_segment_header *out) {
    inv_result first = decode_segment_copy(bytes, out);
    if (first == INV_OK || first == INV_FORMAT_UNKNOWN) return first;
    return decode_segment_copy(bytes + INV_WAL_HEADER_COPY_BYTES, out);
}

void inv_wal_encode_state(uint8_t out[INV_STATE_SLOT_BYTES], const inv_wal_state *state) {
    memset(out, 0, INV_STATE_SLOT_BYTES);
    memcpy(out, INV_STATE_MAGIC, 8);
    inv_put_u16(out + 8, state->format.major);
    inv_put_u16(out + 10, state->format.minor);
    inv_put_u32(out + 12, INV_STATE_SLOT_BYTES);
    memcpy(out + 16, state->identity.uuid, 16);
    inv_put_u64(out + 32, state->sequence);
    inv_put_u64(out + 40, state->epoch);
    inv_put_u64(out + 48, state->segment_highest);
    inv_put_u64(out + 56, state->snapshot_lsn);
    inv_put_u64(out + 64, state->clean_lsn);
    inv_put_u32(out + 72, state->identity.stripe_bits);
    memcpy(out + 80, state->identity.hash_key, 16);
    inv_put_u64(out + 96, state->identity.created_unix_ms);
    inv_put_u64(out + 104, state->format.features);
    inv_put_u32(out + 4092, inv_crc32c(0, out, 4092));
}

inv_result inv_wal_decode_state(const uint8_t bytes[INV_STATE_SLOT_BYTES], inv_wal_state *out) {
    if (memcmp(bytes, INV_STATE_MAGIC, 8) != 0) return INV_LOG_CORRUPT;
    if (inv_load_u32(bytes + 4092) != inv_crc32c(0, bytes, 4092)) return INV_LOG_CORRUPT;
    memset(out, 0, sizeof *out);
    out->format = load_format(bytes);
    if (!inv_format_is_known(out->format)) return INV_FORMAT_UNKNOWN;
    memcpy(out->identity.uuid, bytes + 16, 16);
    memcpy(out->identity.hash_key, bytes + 80, 16);
    out->identity.stripe_bits = inv_load_u32(bytes + 72);
    out->identity.created_unix_ms = inv_load_u64(bytes + 96);
    out->sequence = inv_load_u64(bytes + 32);
    out->epoch = inv_load_u64(bytes + 40);
    out->segment_highest = inv_load_u64(bytes + 48);
    out->snapshot_lsn = inv_load_u64(bytes + 56);
    out->clean_lsn = inv_load_u64(bytes + 64);
    return out->identity.stripe_bits > 12 ? INV_LOG_CORRUPT : INV_OK;
}

void inv_wal_encode_hint(uint8_t out[INV_HINT_BYTES], uint32_t seed, uint64_t durable,
                         uint64_t epoch) {
    memcpy(out, INV_HINT_MAGIC, 8);
    inv_put_u64(out + 8, durable);
    inv_put_u64(out + 16, epoch);
    inv_put_u32(out + 24, 0);
    inv_put_u32(out + 28, inv_crc32c(seed, out, 28));
}

bool inv_wal_decode_hint(const uint8_t bytes[INV_HINT_BYTES], uint32_t seed, uint64_t *out_durable,
                         uint64_t *out_epoch) {
    if (memcmp(bytes, INV_HINT_MAGIC, 8) != 0) return false;
    if (inv_load_u32(bytes + 28) != inv_crc32c(seed, bytes, 28)) return false;
    *out_durable = inv_load_u64(bytes + 8);
    *out_epoch = inv_load_u64(bytes + 16);
    return true;
}

void inv_wal_encode_record_header(uint8_t *out, uint32_t seed, const inv_wal_record *record,
                                  uint32_t payload_crc) {
    uint8_t header[INV_WAL_RECORD_HEADER_BYTES];
    header[0] = INV_WAL_MARKER;
    header[1] = record->type;
    inv_put_u16(header + 2, record->flags);
    inv_put_u32(header + 4, record->payload_bytes);
    inv_put_u64(header + 8, record->lsn);
    inv_put_u64(header + 16, record->hint);
    inv_put_u32(header + 24, record->epoch);
    inv_put_u32(header + 28, payload_crc);
    inv_put_u32(header + 32, 0);
    inv_put_u32(header + 36, inv_crc32c(seed, header, 36));
    memcpy(out, header, sizeof header);
}

bool inv_wal_decode_record(const uint8_t *bytes, uint64_t available, uint32_t seed, uint64_t lsn,
                           uint32_t epoch, inv_wal_record *out) {
    if (available < INV_WAL_RECORD_HEADER_BYTES) return false;
    if (bytes[0] != INV_WAL_MARKER || inv_load_u64(bytes + 8) != lsn) return false;
    if (inv_load_u32(bytes + 36) != inv_crc32c(seed, bytes, 36) &&
        !INV_PLANTED(INV_PLANT_HEADER_CRC_IGNORED))
        return false;
    out->type = bytes[1];
    out->flags = inv_load_u16(bytes + 2);
    out->payload_bytes = inv_load_u32(bytes + 4);
    out->lsn = lsn;
    out->hint = inv_load_u64(bytes + 16);
    out->epoch = inv_load_u32(bytes + 24);
    out->payload = bytes + INV_WAL_RECORD_HEADER_BYTES;
    if (out->epoch != epoch || inv_load_u32(bytes + 32) != 0) return false;
    if (out->payload_bytes > INV_WAL_PAYLOAD_BYTES_MAX) return false;
    if (inv_wal_record_bytes(out->payload_bytes) > available) return false;
    uint64_t padded = inv_align_u64(out->payload_bytes, INV_WAL_RECORD_ALIGN);
    return inv_load_u32(bytes + 28) == inv_crc32c(0, out->payload, padded);
}
