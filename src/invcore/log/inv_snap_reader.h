/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_snap_reader.h: the snapshots of a store, and blocks of one of them, each checked before it is
 * given out. Reads only. What the blocks mean is the business of store/inv_snapshot_load.c.
 */
#ifndef INV_SNAP_READER_H
#define INV_SNAP_READER_H

#include "inv_snap_format.h"

#define INV_SNAP_LIST_MAX 64u
typedef struct inv_snap_list { /* newest first; of more than fit only the newest */
    uint32_t count;
    uint64_t start_lsns[INV_SNAP_LIST_MAX], bytes[INV_SNAP_LIST_MAX];
} inv_snap_list;

INV_MUST_USE inv_result inv_snap_find(const inv_env *env, inv_snap_list *out, inv_error *error);

typedef struct inv_snap_file {
    const inv_env *env;
    char name[INV_FILE_NAME_MAX + 1];
    uint32_t seed;
    inv_format format;
    inv_snap_footer footer;
    uint8_t *footer_bytes; /* for inv_snap_decode_index */
    uint64_t footer_room;
} inv_snap_file;

/* Reads and checks header, footer and index. INV_LOG_CORRUPT (the message says what),
 * INV_FORMAT_UNKNOWN, INV_IO_ERROR, INV_NO_MEMORY. To be closed either way. */
INV_MUST_USE inv_result inv_snap_open(inv_snap_file *file, const inv_env *env,
                                      const inv_wal_identity *identity, uint64_t start_lsn,
                                      uint64_t bytes, inv_error *error);
void inv_snap_close(inv_snap_file *file);

/* A block of the index, whole, into an inv_snap_buffer; the payload stands behind
 * INV_SNAP_BLOCK_HEADER_BYTES. INV_LOG_CORRUPT, INV_IO_ERROR. From several threads at once. */
INV_MUST_USE inv_result inv_snap_read_block(const inv_snap_file *file, const inv_snap_block *block,
                                            uint8_t *buffer, inv_error *error);

#endif
