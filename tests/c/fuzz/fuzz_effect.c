/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_effect.c: the decoders that stand alone: entries of the log, ticks, record and segment
 * headers, STATE, HINT, sections, footers and trailers of snapshots. What an entry decodes to must
 * encode to an entry that decodes to the same.
 */
#include <string.h>

#include "../../../src/invcore/log/inv_effect.h"
#include "../../../src/invcore/log/inv_snap_format.h"
#include "../../../src/invcore/log/inv_wal_format.h"
#include "fuzz.h"

const char *const fuzz_name = "decoders";
const uint64_t fuzz_inputs_default = 1000000;

static bool same_text(inv_text a, inv_text b) {
    return a.length == b.length && (a.bytes == NULL) == (b.bytes == NULL) &&
           (a.length == 0 || memcmp(a.bytes, b.bytes, a.length) == 0);
}

static bool same_id(const inv_effect_id *a, const inv_effect_id *b) {
    if (a->present != b->present || !a->present) return a->present == b->present;
    if (a->text.bytes != NULL) return same_text(a->text, b->text);
    return b->text.bytes == NULL && memcmp(a->uuid, b->uuid, 16) == 0;
}

static bool same_effect(const inv_effect *a, const inv_effect *b) {
    return a->kind == b->kind && a->state == b->state && a->whole == b->whole &&
           a->line_count == b->line_count && a->seller == b->seller && a->account == b->account &&
           a->body_hash == b->body_hash && a->deadline_ms == b->deadline_ms &&
           same_id(&a->id, &b->id) && same_id(&a->op_id, &b->op_id) && a->reason == b->reason &&
           a->reference == b->reference && same_text(a->blob, b->blob) &&
           (a->line_count == 0 ||
            memcmp(a->lines, b->lines, a->line_count * sizeof a->lines[0]) == 0);
}

static void entries(const uint8_t *data, size_t size) {
    static uint8_t again[2 * FUZZ_INPUT_BYTES_MAX];
    static _Alignas(8) uint8_t aligned[FUZZ_INPUT_BYTES_MAX];
    if (size > sizeof aligned) return;
    memcpy(aligned, data, size);
    for (uint64_t at = 0; at < size;) {
        inv_effect effect, twice;
        inv_effect_tick tick;
        uint64_t bytes = inv_effect_decode(aligned + at, size - at, &effect);
        if (bytes == 0) return;
        if (bytes > size - at) fuzz_fail("an entry of more bytes than there are");
        if (effect.kind == INV_ENTRY_CLOCK_TICK) (void)inv_effect_decode_tick(effect.blob, &tick);
        uint64_t needed = inv_effect_bytes(&effect);
        if (needed > sizeof again) fuzz_fail("an entry that grows");
        uint64_t written = inv_effect_encode(again, &effect);
        if (written != needed || inv_effect_decode(again, written, &twice) != written)
            fuzz_fail("an entry of kind %u does not come back whole", effect.kind);
        if (!same_effect(&effect, &twice))
            fuzz_fail("an entry of kind %u comes back as another", effect.kind);
        at += bytes;
    }
}

static void headers(const uint8_t *data, size_t size) {
    static uint8_t page[2 * INV_WAL_HEADER_BYTES];
    inv_wal_segment_header header;
    inv_wal_state state;
    inv_wal_record record;
    inv_snap_header snapshot;
    uint64_t durable = 0, epoch = 0;
    memset(page, 0, sizeof page);
    memcpy(page, data, size < sizeof page ? size : sizeof page);
    inv_result results[] = {inv_wal_decode_segment_header(page, &header),
                            inv_wal_decode_state(page, &state),
                            inv_snap_decode_header(page, &snapshot)};
    for (uint32_t i = 0; i < 3; i++)
        if (results[i] != INV_OK && results[i] != INV_LOG_CORRUPT &&
            results[i] != INV_FORMAT_UNKNOWN)
            fuzz_fail("a header answers %s", inv_result_name(results[i]));
    if (size >= INV_HINT_BYTES) (void)inv_wal_decode_hint(page, 7, &durable, &epoch);
    if (size >= INV_WAL_RECORD_HEADER_BYTES &&
        inv_wal_decode_record(data, size, 7, 4096, 1, &record) &&
        inv_wal_record_bytes(record.payload_bytes) > size)
        fuzz_fail("a record of more bytes than there are");
}

static void sections(const uint8_t *data, size_t size) {
    inv_snap_section section;
    inv_snap_footer footer;
    uint32_t at = 0;
    while (inv_snap_next_section(data, (uint32_t)size, &at, &section))
        if (section.payload < data || section.bytes > size || at > size)
            fuzz_fail("a section of more bytes than there are");
    (void)inv_snap_decode_footer(data, size, &footer);
    if (size < INV_SNAP_TRAILER_BYTES) return;
    uint64_t offset = 0, bytes = 0;
    (void)inv_snap_decode_trailer(data + size - INV_SNAP_TRAILER_BYTES, 7, &offset, &bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > FUZZ_INPUT_BYTES_MAX) return 0;
    uint8_t mode = data[0] % 3;
    if (mode == 0) entries(data + 1, size - 1);
    if (mode == 1) headers(data + 1, size - 1);
    if (mode == 2) sections(data + 1, size - 1);
    return 0;
}

static size_t make_section(uint64_t *random, uint8_t *out) {
    size_t used = 0;
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t items = fuzz_below(random, 4), bytes = 16 * items;
        inv_put_u32(out + used, 1 + fuzz_below(random, 8));
        inv_put_u32(out + used + 4, fuzz_below(random, 4));
        inv_put_u32(out + used + 8, items);
        inv_put_u32(out + used + 12, bytes);
        memset(out + used + INV_SNAP_SECTION_BYTES, 0x11, bytes);
        used += INV_SNAP_SECTION_BYTES + bytes;
    }
    return used;
}

size_t fuzz_make_input(uint64_t *random, uint8_t *out, size_t room) {
    size_t used = 1;
    (void)room;
    out[0] = (uint8_t)fuzz_below(random, 6); /* entries are worth half of the time */
    if (out[0] >= 3) out[0] = 0;
    if (out[0] == 1) {
        inv_wal_segment_header header = {.number = 1, .base_lsn = 4096, .segment_bytes = 16384};
        inv_wal_state state = {.epoch = 3, .segment_highest = 2, .sequence = 5};
        if (fuzz_below(random, 2) == 0) inv_wal_encode_segment_header(out + 1, &header);
        else inv_wal_encode_state(out + 1, &state);
        return 1 + INV_WAL_HEADER_BYTES;
    }
    if (out[0] == 2) return 1 + make_section(random, out + 1);
    for (uint32_t i = 0; i < 1 + fuzz_below(random, 4); i++) {
        inv_change_line lines[6];
        memset(lines, 0, sizeof lines);
        for (uint32_t k = 0; k < 6; k++)
            lines[k] = (inv_change_line){.sku = fuzz_below(random, 9000), .qty = 1 + k,
                                         .location = (uint16_t)fuzz_below(random, 4),
                                         .op = INV_OP_HOLD};
        inv_effect effect = {.kind = (uint8_t)(1 + fuzz_below(random, 30)),
                             .state = (uint8_t)fuzz_below(random, 10),
                             .whole = fuzz_below(random, 2) == 0,
                             .line_count = (uint16_t)fuzz_below(random, 7),
                             .account = fuzz_below(random, 3),
                             .body_hash = fuzz_below(random, 7),
                             .deadline_ms = fuzz_below(random, 100000),
                             .reason = INV_NUMBER_NONE,
                             .reference = INV_NUMBER_NONE,
                             .lines = lines};
        effect.id.present = fuzz_below(random, 4) != 0;
        if (effect.id.present && fuzz_below(random, 2) == 0)
            effect.id.text = (inv_text){"cart-1", 6};
        effect.op_id.present = fuzz_below(random, 3) == 0;
        if (effect.op_id.present && fuzz_below(random, 2) == 0)
            effect.op_id.text = (inv_text){"op-1", 4};
        if (fuzz_below(random, 3) == 0) effect.reason = effect.reference = 5;
        if (fuzz_below(random, 3) == 0) effect.blob = (inv_text){"TEE-RED-L", 9};
        used += inv_effect_encode(out + used, &effect);
    }
    return used;
}
