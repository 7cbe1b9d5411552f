/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_format.c: versions of the file formats. No state, no I/O.
 *
 * INV_PLANT_NEXT_FORMAT makes this code the next release's, for the test of the gate: it knows one
 * major version and one must-understand feature more.
 */
#include "inv_format.h"

#include <stdio.h>

inv_format inv_format_newest(void) {
    inv_format newest = {INV_FORMAT_MAJOR, INV_FORMAT_MINOR, INV_FORMAT_FEATURES};
    if (INV_PLANTED(INV_PLANT_NEXT_FORMAT)) newest = (inv_format){INV_FORMAT_MAJOR + 1, 0, 1};
    return newest;
}

inv_format inv_format_before_gate(void) {
    /* There is no format before 1.0. The release that brings the next one returns this one here. */
    return (inv_format){INV_FORMAT_MAJOR, INV_FORMAT_MINOR, INV_FORMAT_FEATURES};
}

bool inv_format_is_known(inv_format format) {
    inv_format newest = inv_format_newest();
    return format.major >= 1 && format.major <= newest.major &&
           (format.features & ~newest.features) == 0;
}

bool inv_format_is_older(inv_format one, inv_format other) {
    if (one.major != other.major) return one.major < other.major;
    if (one.minor != other.minor) return one.minor < other.minor;
    return (other.features & ~one.features) != 0;
}

inv_format inv_format_join(inv_format one, inv_format other) {
    bool older = one.major != other.major ? one.major < other.major : one.minor < other.minor;
    inv_format joined = older ? other : one;
    joined.features = one.features | other.features;
    return joined;
}

inv_result inv_format_refuse(inv_error *error, const char *where, inv_format found) {
    inv_format newest = inv_format_newest();
    uint64_t unknown = found.features & ~newest.features;
    if (unknown == 0)
        return inv_fail(error, INV_FORMAT_UNKNOWN, 0,
                        "%s: format %u.%u; this release knows format %u.%u and older", where,
                        found.major, found.minor, newest.major, newest.minor);
    return inv_fail(error, INV_FORMAT_UNKNOWN, 0,
                    "%s: format %u.%u with feature bits 0x%llx that this release (format %u.%u) "
                    "does not know",
                    where, found.major, found.minor, (unsigned long long)unknown, newest.major,
                    newest.minor);
}

void inv_format_encode_gate(uint8_t out[INV_FORMAT_GATE_BYTES], inv_format format) {
    inv_put_u16(out, format.major);
    inv_put_u16(out + 2, format.minor);
    inv_put_u32(out + 4, 0);
    inv_put_u64(out + 8, format.features);
}

bool inv_format_decode_gate(inv_text blob, inv_format *out) {
    const uint8_t *bytes = (const uint8_t *)blob.bytes;
    if (bytes == NULL || blob.length != INV_FORMAT_GATE_BYTES) return false;
    *out = (inv_format){inv_load_u16(bytes), inv_load_u16(bytes + 2), inv_load_u64(bytes + 8)};
    return true;
}
