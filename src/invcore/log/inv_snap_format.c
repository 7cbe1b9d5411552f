/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_snap_format.c: bytes of a snapshot's frame, to and fro. No state, no I/O; safe on any input.
 */
#include "inv_snap_format.h"

#include <stdio.h>

#include "../base/inv_crc32c.h"

void inv_snap_encode_header(uint8_t out[INV_SNAP_HEADER_BYTES], const inv_snap_header *header) {
    memset(out, 0, INV_SNAP_HEADER_BYTES);
    memcpy(out, INV_SNAP_MAGIC, 8);
    inv_put_u16(out + 8, header->format.major);
    inv_put_u16(out + 10, header->format.minor);
    inv_put_u32(out + 12, INV_SNAP_HEADER_BYTES);
    memcpy(out + 16, header->identity.uuid, 16);
    memcpy(out + 32, header->identity.hash_key, 16);
    inv_put_u64(out + 48, header->identity.created_unix_ms);
    inv_put_u32(out + 56, header->identity.stripe_bits);
    inv_put_u64(out + 64, header->start_lsn);
    inv_put_u64(out + 72, header->epoch);
    inv_put_u64(out + 80, header->wall_unix_ms);
    inv_put_u64(out + 88, header->format.features);
    inv_put_u32(out + 4092, inv_crc32c(0, out, 4092));
}

inv_result inv_snap_decode_header(const uint8_t bytes[INV_SNAP_HEADER_BYTES],
                                  inv_snap_header *out) {
    if (memcmp(bytes, INV_SNAP_MAGIC, 8) != 0) return INV_LOG_CORRUPT;
    if (inv_load_u32(bytes + 4092) != inv_crc32c(0, bytes, 4092)) return INV_LOG_CORRUPT;
    memset(out, 0, sizeof *out);
    out->format = (inv_format){inv_load_u16(bytes + 8), inv_load_u16(bytes + 10),
                               inv_load_u64(bytes + 88)};
    if (!inv_format_is_known(out->format)) return INV_FORMAT_UNKNOWN;
    memcpy(out->identity.uuid, bytes + 16, 16);
    memcpy(out->identity.hash_key, bytes + 32, 16);
    out->identity.created_unix_ms = inv_load_u64(bytes + 48);
    out->identity.stripe_bits = inv_load_u32(bytes + 56);
    out->start_lsn = inv_load_u64(bytes + 64);
    out->epoch = inv_load_u64(bytes + 72);
    out->wall_unix_ms = inv_load_u64(bytes + 80);
    return INV_OK;
}

void inv_snap_encode_block(uint8_t *out, uint32_t seed, inv_snap_block *block) {
    uint64_t padded = inv_align_u64(block->payload_bytes, 8);
    block->crc = inv_crc32c(0, out + INV_SNAP_BLOCK_HEADER_BYTES, padded);
    memcpy(out, INV_SNAP_BLOCK_MAGIC, 4);
    inv_put_u32(out + 4, block->sequence);
    inv_put_u32(out + 8, block->payload_bytes);
    inv_put_u32(out + 12, block->stripe);
    inv_put_u32(out + 16, block->flags);
    inv_put_u32(out + 20, block->crc);
    inv_put_u32(out + 24, 0);
    inv_put_u32(out + 28, inv_crc32c(seed, out, 28));
}

bool inv_snap_check_block(const uint8_t *bytes, uint64_t available, uint32_t seed,
                          const inv_snap_block *block) {
    if (available < inv_snap_block_bytes(block)) return false;
    return memcmp(bytes, INV_SNAP_BLOCK_MAGIC, 4) == 0 &&
           inv_load_u32(bytes + 28) == inv_crc32c(seed, bytes, 28) &&
           inv_load_u32(bytes + 4) == block->sequence &&
           inv_load_u32(bytes + 8) == block->payload_bytes &&
           inv_load_u32(bytes + 12) == block->stripe && inv_load_u32(bytes + 16) == block->flags &&
           inv_load_u32(bytes + 20) == block->crc &&
           inv_crc32c(0, bytes + INV_SNAP_BLOCK_HEADER_BYTES,
                      inv_align_u64(block->payload_bytes, 8)) == block->crc;
}

bool inv_snap_next_section(const uint8_t *payload, uint32_t payload_bytes, uint32_t *at,
                           inv_snap_section *out) {
    if (payload_bytes - *at < INV_SNAP_SECTION_BYTES) return false;
    const uint8_t *header = payload + *at;
    out->kind = inv_load_u32(header);
    out->stripe = inv_load_u32(header + 4);
    out->count = inv_load_u32(header + 8);
    out->bytes = inv_load_u32(header + 12);
    out->payload = header + INV_SNAP_SECTION_BYTES;
    if (out->bytes % 8 != 0 || out->bytes > payload_bytes - *at - INV_SNAP_SECTION_BYTES)
        return false;
    *at += INV_SNAP_SECTION_BYTES + out->bytes;
    return true;
}

void inv_snap_encode_footer(uint8_t *out, const inv_snap_footer *footer,
                            const inv_snap_block *blocks) {
    uint64_t bytes = inv_snap_footer_bytes(footer->block_count);
    memcpy(out, INV_SNAP_FOOTER_MAGIC, 8);
    inv_put_u64(out + 8, footer->start_lsn);
    inv_put_u64(out + 16, footer->end_lsn);
    inv_put_u64(out + 24, footer->block_count);
    inv_put_u64(out + 32, footer->skus);
    inv_put_u64(out + 40, footer->rows);
    inv_put_u64(out + 48, footer->holds);
    inv_put_u64(out + 56, footer->ended);
    for (uint64_t i = 0; i < footer->block_count; i++) {
        uint8_t *entry = out + INV_SNAP_FOOTER_BYTES + i * INV_SNAP_INDEX_BYTES;
        inv_put_u64(entry, blocks[i].offset);
        inv_put_u32(entry + 8, blocks[i].sequence);
        inv_put_u32(entry + 12, blocks[i].payload_bytes);
        inv_put_u32(entry + 16, blocks[i].stripe);
        inv_put_u32(entry + 20, blocks[i].flags);
        inv_put_u32(entry + 24, blocks[i].crc);
        inv_put_u32(entry + 28, 0);
    }
    inv_put_u32(out + bytes - 8, inv_crc32c(0, out, bytes - 8));
    inv_put_u32(out + bytes - 4, 0);
}

bool inv_snap_decode_footer(const uint8_t *bytes, uint64_t available, inv_snap_footer *out) {
    if (available < INV_SNAP_FOOTER_BYTES + 8 || memcmp(bytes, INV_SNAP_FOOTER_MAGIC, 8) != 0)
        return false;
    out->start_lsn = inv_load_u64(bytes + 8);
    out->end_lsn = inv_load_u64(bytes + 16);
    out->block_count = inv_load_u64(bytes + 24);
    out->skus = inv_load_u64(bytes + 32);
    out->rows = inv_load_u64(bytes + 40);
    out->holds = inv_load_u64(bytes + 48);
    out->ended = inv_load_u64(bytes + 56);
    if (out->block_count > available / INV_SNAP_INDEX_BYTES ||
        inv_snap_footer_bytes(out->block_count) != available)
        return false;
    return inv_load_u32(bytes + available - 8) == inv_crc32c(0, bytes, available - 8);
}

void inv_snap_decode_index(const uint8_t *footer_bytes, uint64_t number, inv_snap_block *out) {
    const uint8_t *entry = footer_bytes + INV_SNAP_FOOTER_BYTES + number * INV_SNAP_INDEX_BYTES;
    out->offset = inv_load_u64(entry);
    out->sequence = inv_load_u32(entry + 8);
    out->payload_bytes = inv_load_u32(entry + 12);
    out->stripe = inv_load_u32(entry + 16);
    out->flags = inv_load_u32(entry + 20);
    out->crc = inv_load_u32(entry + 24);
}

void inv_snap_encode_trailer(uint8_t out[INV_SNAP_TRAILER_BYTES], uint32_t seed, uint64_t offset,
                             uint64_t bytes) {
    inv_put_u64(out, offset);
    inv_put_u64(out + 8, bytes);
    inv_put_u32(out + 16, 0);
    inv_put_u32(out + 20, inv_crc32c(seed, out, 20));
    memcpy(out + 24, INV_SNAP_TRAILER_MAGIC, 8);
}

bool inv_snap_decode_trailer(const uint8_t bytes[INV_SNAP_TRAILER_BYTES], uint32_t seed,
                             uint64_t *out_offset, uint64_t *out_bytes) {
    if (memcmp(bytes + 24, INV_SNAP_TRAILER_MAGIC, 8) != 0 ||
        inv_load_u32(bytes + 20) != inv_crc32c(seed, bytes, 20))
        return false;
    *out_offset = inv_load_u64(bytes);
    *out_bytes = inv_load_u64(bytes + 8);
    return true;
}

void inv_snap_encode_clock(uint8_t out[INV_SNAP_CLOCK_BYTES], const inv_snap_clock *clock) {
    memset(out, 0, INV_SNAP_CLOCK_BYTES);
    inv_put_u64(out, clock->engine_ms);
    inv_put_u64(out + 8, clock->tick_ms);
    inv_effect_encode_tick(out + 16, &clock->tick);
    inv_put_u32(out + 56, clock->reference_next);
}

void inv_snap_decode_clock(const uint8_t bytes[INV_SNAP_CLOCK_BYTES], inv_snap_clock *out) {
    inv_text tick = {(const char *)bytes + 16, INV_EFFECT_TICK_BYTES};
    out->engine_ms = inv_load_u64(bytes);
    out->tick_ms = inv_load_u64(bytes + 8);
    bool decoded = inv_effect_decode_tick(tick, &out->tick);
    INV_ASSERT(decoded); /* its length is right, and that is all it checks */
    out->reference_next = inv_load_u32(bytes + 56);
}

void inv_snap_name(char out[INV_FILE_NAME_MAX + 1], uint64_t start_lsn) {
    (void)snprintf(out, INV_FILE_NAME_MAX + 1, INV_SNAP_PREFIX "%016llx",
                   (unsigned long long)start_lsn);
}
