/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_finalize.c: the gate from one file format to the next (inv_format.h, RELIABILITY.md 2.10).
 *
 * ORDER. The gate entry is durable before STATE says the new format, and STATE before anybody
 * writes something of it: so a reader who does not know the format meets the gate, or STATE, or the
 * header of a snapshot behind it, before anything it would misread. A crash in between leaves the
 * gate in the log, and replaying it puts the format in force.
 */
#include "inv_store.h"

/* Logs the gate, once an opening: two callers, or one that comes again after INV_BUSY, wait for the
 * same. *out_lsn 0: the format is in force already. */
static inv_result log_gate(inv_store *store, inv_format format, uint64_t *out_lsn) {
    uint8_t blob[INV_FORMAT_GATE_BYTES];
    inv_lane *lane;
    inv_result result;
    *out_lsn = 0;
    if (!inv_store_enter(store, &lane, &result)) return result;
    inv_lock_take(&store->gate_lock);
    if (inv_format_is_older(inv_wal_format(&store->wal), format)) {
        inv_format_encode_gate(blob, format);
        if (store->gate_lsn == 0)
            result = inv_run_note(store, lane, INV_ENTRY_FORMAT_GATE, blob, sizeof blob,
                                  &store->gate_lsn);
        *out_lsn = store->gate_lsn;
    }
    inv_lock_give(&store->gate_lock);
    inv_lane_give(lane);
    return result;
}

static inv_result open_gate(inv_store *store, inv_format format, uint32_t timeout_ms,
                            inv_error *error) {
    uint64_t lsn;
    inv_result result = log_gate(store, format, &lsn);
    if (result != INV_OK || lsn == 0) return result;
    result = inv_store_barrier(store, lsn, timeout_ms);
    if (result != INV_OK) return result;
    result = inv_wal_write_format(&store->wal, format, error);
    if (result == INV_OK) return INV_OK;
    inv_wal_fail(&store->wal, error);
    return INV_STORE_FAILED;
}

inv_result inv_store_finalize(inv_store *store, uint32_t timeout_ms, inv_format *out_format,
                              inv_error *error) {
    inv_error ignored = {0};
    if (error == NULL) error = &ignored;
    memset(error, 0, sizeof *error);
    if (store->options.read_only)
        return inv_fail(error, INV_FORBIDDEN, 0, "read_only: a store opened so writes nothing");
    if (store->wal.in_memory)
        return inv_fail(error, INV_BAD_REQUEST, 0, "durability memory keeps nothing");
    atomic_fetch_add_explicit(&store->parked, 1, memory_order_seq_cst); /* see wait_durable */
    inv_result result = open_gate(store, inv_format_newest(), timeout_ms, error);
    if (result == INV_OK && out_format != NULL) *out_format = inv_wal_format(&store->wal);
    atomic_fetch_sub_explicit(&store->parked, 1, memory_order_release);
    return result;
}
