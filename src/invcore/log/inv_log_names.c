/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_log_names.c: the names that a trimmed log does not tell any more, out of the oldest snapshot
 * behind which the log is whole.
 */
#include "inv_log_names.h"

#define ROOM_FIRST 4096u

static void close_names(inv_log_names *names) {
    const inv_env *env = names->file.env;
    if (env == NULL) return;
    inv_env_free(env, names->memory, INV_SNAP_BUFFER_BYTES);
    inv_env_free(env, names->skus, names->sku_room * sizeof *names->skus);
    inv_snap_close(&names->file);
    names->memory = NULL;
    names->skus = NULL;
    names->file.env = NULL;
}

void inv_log_names_close(inv_log_names *names) { close_names(names); }

inv_result inv_log_names_open(inv_log_names *names, const inv_wal_chain *chain, inv_error *error) {
    memset(names, 0, sizeof *names);
    if (chain->link_count == 0 || chain->links[0].header.base_lsn == INV_WAL_LSN_FIRST)
        return INV_OK;
    inv_snap_list list;
    inv_result result = inv_snap_find(chain->env, &list, error);
    if (result != INV_OK) return result;
    result = inv_fail(error, INV_LOG_CORRUPT, 0, "the log was trimmed and there is no snapshot");
    for (uint32_t i = list.count; i-- > 0;) { /* oldest first: its log is all there */
        if (list.start_lsns[i] < chain->links[0].header.base_lsn) continue;
        close_names(names);
        memset(error, 0, sizeof *error);
        result = inv_snap_open(&names->file, chain->env, &chain->state.identity,
                               list.start_lsns[i], list.bytes[i], error);
        if (result == INV_OK) break;
    }
    names->stripe_bits = chain->state.identity.stripe_bits;
    if (result == INV_OK) {
        names->memory = inv_env_alloc(chain->env, INV_SNAP_BUFFER_BYTES);
        if (names->memory == NULL) result = inv_fail(error, INV_NO_MEMORY, 0, "no memory");
        else names->buffer = inv_snap_buffer(names->memory);
    }
    return result;
}

static bool remember_skus(inv_log_names *names, const inv_snap_section *section) {
    const inv_env *env = names->file.env;
    if (section->stripe != names->stripe) {
        names->stripe = section->stripe;
        names->sku_count = names->sku_next = 0;
    }
    while (names->sku_count + section->count > names->sku_room) {
        uint32_t room = names->sku_room == 0 ? ROOM_FIRST : names->sku_room * 2;
        inv_log_name_sku *larger = inv_env_alloc(env, room * sizeof *larger);
        if (larger == NULL) return false;
        if (names->sku_count > 0)
            memcpy(larger, names->skus, names->sku_count * sizeof *larger);
        inv_env_free(env, names->skus, names->sku_room * sizeof *larger);
        names->skus = larger;
        names->sku_room = room;
    }
    for (uint32_t i = 0; i < section->count && (i + 1) * INV_SNAP_SKU_BYTES <= section->bytes;
         i++) {
        const uint8_t *in = section->payload + (size_t)i * INV_SNAP_SKU_BYTES;
        names->skus[names->sku_count++] = (inv_log_name_sku){inv_load_u16(in + 4), in[6]};
    }
    return true;
}

/* The next name of the section under way; false: it has no more. */
static bool take_name(inv_log_names *names, inv_log_name *out) {
    const inv_snap_section *section = &names->section;
    if (names->left == 0) return false;
    if (section->kind == INV_SNAP_NAMES) {
        if (names->sku_next >= names->sku_count) return false;
        inv_log_name_sku sku = names->skus[names->sku_next];
        if (sku.length > section->bytes - names->at) return false;
        *out = (inv_log_name){.kind = INV_NAME_SKU,
                              .seller = sku.seller,
                              .number = names->sku_next++ << names->stripe_bits | section->stripe,
                              .text = {(const char *)section->payload + names->at, sku.length}};
        names->at += sku.length;
    } else {
        if (section->bytes - names->at < 6) return false;
        const uint8_t *in = section->payload + names->at;
        uint32_t length = inv_load_u16(in + 4);
        if (length > section->bytes - names->at - 6) return false;
        *out = (inv_log_name){.kind = (uint8_t)section->stripe,
                              .number = inv_load_u32(in),
                              .text = {(const char *)in + 6, length}};
        names->at += 6 + length;
    }
    names->left--;
    return true;
}

inv_result inv_log_names_next(inv_log_names *names, inv_log_name *out, bool *out_more,
                              inv_error *error) {
    *out_more = false;
    if (names->file.env == NULL) return INV_OK;
    for (;;) {
        if (take_name(names, out)) {
            *out_more = true;
            return INV_OK;
        }
        names->left = names->at = 0;
        if (names->payload_at >= names->payload_bytes) { /* the next block */
            inv_snap_block block;
            if (names->block == names->file.footer.block_count) {
                close_names(names);
                return INV_OK;
            }
            inv_snap_decode_index(names->file.footer_bytes, names->block++, &block);
            inv_result result = inv_snap_read_block(&names->file, &block, names->buffer, error);
            if (result != INV_OK) return result;
            names->payload_at = 0;
            names->payload_bytes = block.payload_bytes;
        }
        if (!inv_snap_next_section(names->buffer + INV_SNAP_BLOCK_HEADER_BYTES,
                                   names->payload_bytes, &names->payload_at, &names->section))
            return inv_fail(error, INV_LOG_CORRUPT, 0, "%s: a section is malformed",
                            names->file.name);
        if (names->section.kind == INV_SNAP_SKUS && !remember_skus(names, &names->section))
            return inv_fail(error, INV_NO_MEMORY, 0, "%s: no memory", names->file.name);
        if (names->section.kind == INV_SNAP_NAMES || names->section.kind == INV_SNAP_NAME_LIST)
            names->left = names->section.count;
    }
}
