/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_format.h: which version of the file formats a store is in, and which this code knows.
 *
 * One version covers all files of a store: STATE, segments, snapshots. Each file's header says the
 * version and the must-understand features that were in force when it was written; a FORMAT_GATE
 * entry says from where in the log on a newer one may be used.
 *
 * READER. A major version or a must-understand feature bit this code does not know is refused
 * (INV_FORMAT_UNKNOWN), whatever else is in the file. A minor version says nothing a reader needs.
 *
 * WRITER. A release writes the format before its newest, into new stores too, until it is told to
 * finalize (inv_finalize.c): till then the release before can open the store, from then on it
 * refuses. What is in force is the newest of STATE, segment headers, the snapshot and gates.
 */
#ifndef INV_FORMAT_H
#define INV_FORMAT_H

#include "../base/inv_base.h"

#define INV_FORMAT_MAJOR 1u /* the newest that this code reads and writes */
#define INV_FORMAT_MINOR 0u
#define INV_FORMAT_FEATURES 0ull /* must-understand bits that it understands */

/* FORMAT_GATE blob: 0 u16 major  2 u16 minor  4 u32 zero  8 u64 features that must be understood */
#define INV_FORMAT_GATE_BYTES 16u

inv_format inv_format_newest(void);
/* What is written until a gate: the newest but one, or the first there ever was. */
inv_format inv_format_before_gate(void);

bool inv_format_is_known(inv_format format);
bool inv_format_is_older(inv_format one, inv_format other);
/* The newer version, with the features of both. */
inv_format inv_format_join(inv_format one, inv_format other);

/* INV_FORMAT_UNKNOWN, with what the file called `where` is and what this code knows. */
inv_result inv_format_refuse(inv_error *error, const char *where, inv_format found);

void inv_format_encode_gate(uint8_t out[INV_FORMAT_GATE_BYTES], inv_format format);
bool inv_format_decode_gate(inv_text blob, inv_format *out);

#endif
