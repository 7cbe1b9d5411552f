/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_log_names.h: the names that a trimmed log does not tell any more, private to inv_log.c.
 */
#ifndef INV_LOG_NAMES_H
#define INV_LOG_NAMES_H

#include "inv_snap_reader.h"
#include "inv_wal_reader.h"

typedef struct inv_log_name_sku {
    uint16_t seller;
    uint8_t length;
} inv_log_name_sku;

typedef struct inv_log_names { /* file.env NULL: there are none, or they have all been given */
    inv_snap_file file;
    void *memory;
    uint8_t *buffer;                        /* of a block */
    uint64_t block;                         /* the next one */
    uint32_t payload_at, payload_bytes;     /* of the block in the buffer */
    inv_snap_section section;               /* under way */
    uint32_t at, left;                      /* in it: bytes gone, names to come */
    inv_log_name_sku *skus;                 /* of the stripe under way */
    uint32_t sku_count, sku_next, sku_room, stripe, stripe_bits;
} inv_log_names;

/* A log that begins at its beginning has none to be told. Fails as inv_snap_open does, when no
 * snapshot can be read. To be closed either way. */
INV_MUST_USE inv_result inv_log_names_open(inv_log_names *names, const inv_wal_chain *chain,
                                           inv_error *error);
void inv_log_names_close(inv_log_names *names);
INV_MUST_USE inv_result inv_log_names_next(inv_log_names *names, inv_log_name *out, bool *out_more,
                                           inv_error *error);

#endif
