/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_snap_reader.c: the frame of a snapshot.
 */
#include "inv_snap_reader.h"

#include <stdlib.h>

static bool visit_file(void *argument, const char *name, uint64_t size) {
    inv_snap_list *list = argument;
    size_t prefix = strlen(INV_SNAP_PREFIX);
    char own[INV_FILE_NAME_MAX + 1];
    if (strncmp(name, INV_SNAP_PREFIX, prefix) != 0) return true;
    uint64_t lsn = strtoull(name + prefix, NULL, 16);
    inv_snap_name(own, lsn);
    if (lsn == 0 || strcmp(own, name) != 0) return true;
    uint32_t at = list->count < INV_SNAP_LIST_MAX ? list->count++ : INV_SNAP_LIST_MAX - 1;
    if (at == INV_SNAP_LIST_MAX - 1 && list->start_lsns[at] > lsn) return true;
    for (; at > 0 && list->start_lsns[at - 1] < lsn; at--) {
        list->start_lsns[at] = list->start_lsns[at - 1];
        list->bytes[at] = list->bytes[at - 1];
    }
    list->start_lsns[at] = lsn;
    list->bytes[at] = size;
    return true;
}

inv_result inv_snap_find(const inv_env *env, inv_snap_list *out, inv_error *error) {
    memset(out, 0, sizeof *out);
    return env->storage.list(env->storage.context, visit_file, out, error);
}

static inv_result read_exactly(const inv_snap_file *file, uint64_t offset, void *out,
                               uint64_t bytes, inv_error *error) {
    const inv_storage *storage = &file->env->storage;
    uint64_t got = 0;
    inv_result result =
        storage->read(storage->context, file->name, offset, out, bytes, &got, error);
    if (result == INV_OK && got != bytes)
        result = inv_fail(error, INV_LOG_CORRUPT, 0, "%s: ends before its end", file->name);
    return result;
}

static inv_result check_header(inv_snap_file *file, const inv_wal_identity *identity,
                               uint64_t start_lsn, inv_error *error) {
    uint8_t bytes[INV_SNAP_HEADER_BYTES];
    inv_snap_header header;
    inv_result result = read_exactly(file, 0, bytes, sizeof bytes, error);
    if (result != INV_OK) return result;
    result = inv_snap_decode_header(bytes, &header);
    if (result == INV_FORMAT_UNKNOWN)
        return inv_format_refuse(error, file->name, header.format);
    if (result != INV_OK)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "%s: the header is damaged", file->name);
    if (memcmp(header.identity.uuid, identity->uuid, 16) != 0 || header.start_lsn != start_lsn ||
        header.identity.stripe_bits != identity->stripe_bits)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "%s: belongs to another store or another name",
                        file->name);
    file->format = header.format;
    return INV_OK;
}

static inv_result read_footer(inv_snap_file *file, uint64_t file_bytes, uint64_t start_lsn,
                              inv_error *error) {
    uint8_t trailer[INV_SNAP_TRAILER_BYTES];
    uint64_t offset = 0, bytes = 0;
    if (file_bytes < INV_SNAP_HEADER_BYTES + INV_SNAP_TRAILER_BYTES)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "%s: too short", file->name);
    inv_result result =
        read_exactly(file, file_bytes - sizeof trailer, trailer, sizeof trailer, error);
    if (result != INV_OK) return result;
    if (!inv_snap_decode_trailer(trailer, file->seed, &offset, &bytes) || offset > file_bytes ||
        bytes != file_bytes - INV_SNAP_TRAILER_BYTES - offset)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "%s: the trailer is damaged", file->name);
    file->footer_bytes = inv_env_alloc(file->env, bytes + 1);
    if (file->footer_bytes == NULL)
        return inv_fail(error, INV_NO_MEMORY, 0, "%s: no memory", file->name);
    file->footer_room = bytes + 1;
    result = read_exactly(file, offset, file->footer_bytes, bytes, error);
    if (result != INV_OK) return result;
    if (!inv_snap_decode_footer(file->footer_bytes, bytes, &file->footer) ||
        file->footer.start_lsn != start_lsn || file->footer.end_lsn < start_lsn)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "%s: the footer is damaged", file->name);
    return INV_OK;
}

inv_result inv_snap_open(inv_snap_file *file, const inv_env *env, const inv_wal_identity *identity,
                         uint64_t start_lsn, uint64_t bytes, inv_error *error) {
    memset(file, 0, sizeof *file);
    file->env = env;
    file->seed = inv_wal_seed(identity->uuid);
    inv_snap_name(file->name, start_lsn);
    inv_result result = check_header(file, identity, start_lsn, error);
    return result == INV_OK ? read_footer(file, bytes, start_lsn, error) : result;
}

void inv_snap_close(inv_snap_file *file) {
    if (file->env != NULL) inv_env_free(file->env, file->footer_bytes, file->footer_room);
    file->footer_bytes = NULL;
}

inv_result inv_snap_read_block(const inv_snap_file *file, const inv_snap_block *block,
                               uint8_t *buffer, inv_error *error) {
    const inv_storage *storage = &file->env->storage;
    uint64_t bytes = inv_snap_block_room(block), got = 0;
    inv_result result = INV_LOG_CORRUPT;
    if (bytes <= INV_SNAP_BLOCK_BYTES_MAX)
        result = storage->read(storage->context, file->name, block->offset, buffer, bytes, &got,
                               error);
    if (result == INV_OK && !inv_snap_check_block(buffer, got, file->seed, block))
        result = INV_LOG_CORRUPT;
    if (result != INV_LOG_CORRUPT) return result;
    error->offset = block->offset;
    return inv_fail(error, result, 0, "%s: the block at offset %llu is damaged", file->name,
                    (unsigned long long)block->offset);
}
