/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_digest.c: is what the log rebuilds what was there? (base/inv_digest.h says what one is.)
 *
 *     stripe     keeps the digest of what it holds, under its lock, change by change
 *     record     carries what its changes added, as the run that wrote it saw it (inv_run.c)
 *     flusher    sums the records in the order of the log, and every 16 MiB logs the sum: DIGEST
 *     replay     finds a DIGEST and compares it with what it has rebuilt
 *     snapshot   has each stripe's digest in its copy; loading compares
 *     verify     makes each stripe's digest anew from what is there, and compares
 *
 * So live code that changes memory otherwise than it logs, a bit that flips in a row, and replay
 * that does otherwise than live code are found; which of them it was is for a person to find out.
 *
 * A DIGEST is the sum of all records below it, so these must have been copied when it is written.
 * Its range is claimed like any other; if somebody was still copying just then, it is written
 * without saying anything, and the next flush tries again.
 *
 * Cost for the flusher: 56 bytes of each record are read, which the sync is about to read anyway.
 */
#include "inv_store.h"

#define DIGEST_EVERY_BYTES (16ull << 20)

/* ---- of what is there ------------------------------------------------------------------------ */

typedef struct hold_sum {
    const inv_holds *holds;
    uint64_t sum;
} hold_sum;

static bool add_hold(void *argument, inv_ref ref, inv_hold *hold) {
    hold_sum *state = argument;
    (void)ref;
    state->sum += inv_digest_hold(state->holds, hold);
    return true;
}

uint64_t inv_digest_stripe(const inv_store *store, uint32_t index) {
    const inv_stripe *stripe = &store->stripes[index];
    hold_sum state = {&store->holds, 0};
    for (uint32_t place = 0; place < stripe->table.sku_count; place++) {
        uint32_t count, sku = inv_sku_number(store, index, place);
        uint32_t name_hash = inv_table_sku(&stripe->table, place)->hash;
        const inv_row *rows = inv_table_rows_of(&stripe->table, place, &count);
        for (uint32_t i = 0; i < count; i++) state.sum += inv_digest_row(sku, name_hash, rows[i]);
        state.sum += inv_table_digest_policies(&stripe->table, place, sku);
    }
    inv_hold_walk(&store->holds, &stripe->home, add_hold, &state);
    return state.sum;
}

uint64_t inv_digest_sum(const inv_store *store) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < store->stripe_count; i++) sum += store->stripes[i].digest;
    return sum;
}

/* ---- of the log: flusher --------------------------------------------------------------------- */

void inv_digest_begin(inv_store *store) {
    uint64_t tail = atomic_load_explicit(&store->wal.tail, memory_order_relaxed);
    store->digest = (inv_digest){
        .sum = inv_digest_sum(store), .walked_lsn = tail, .tried_lsn = tail, .logged_lsn = tail};
}

/* Adds the records up to `end`, which have all been copied. */
static void walk(inv_store *store, uint64_t end) {
    inv_digest *digest = &store->digest;
    while (digest->walked_lsn < end) {
        inv_wal_record record;
        inv_wal_look(&store->wal, digest->walked_lsn, &record);
        if (record.type == INV_WAL_CHANGES) digest->sum += inv_load_u64(record.payload + 8);
        digest->walked_lsn += inv_wal_record_bytes(record.payload_bytes);
    }
}

/* Claims a place and says what the sum is there, unless somebody is still copying below it. */
static void log_digest(inv_store *store) {
    inv_digest *digest = &store->digest;
    uint8_t payload[INV_WAL_CHANGES_PREFIX_BYTES + INV_EFFECT_HEADER_BYTES +
                    INV_EFFECT_DIGEST_BYTES + 16];
    uint8_t blob[INV_EFFECT_DIGEST_BYTES];
    inv_effect effect = {.kind = INV_ENTRY_DIGEST,
                         .reason = INV_NUMBER_NONE,
                         .reference = INV_NUMBER_NONE,
                         .blob = {(const char *)blob, sizeof blob}};
    uint64_t bytes = INV_WAL_CHANGES_PREFIX_BYTES + inv_effect_bytes(&effect);
    uint64_t credit = inv_wal_record_bytes(bytes);
    INV_ASSERT(bytes + 8 <= sizeof payload);
    if (inv_wal_credit_take(&store->wal, credit, INV_WAL_FREEING) != INV_OK) return;
    inv_lane *lane = inv_lane_claim(&store->lanes);
    uint64_t now = atomic_load_explicit(&store->now_ms, memory_order_acquire);
    uint64_t lsn = inv_wal_claim(&store->wal, lane, bytes);
    bool known = inv_wal_prefix(&store->wal) == lsn; /* its own floor is there */
    if (known) walk(store, lsn);
    inv_put_u64(blob, known ? digest->sum : 0);
    inv_put_u64(blob + 8, known ? digest->logged_lsn : 0);
    inv_put_u64(payload, now);
    inv_put_u64(payload + 8, 0);
    (void)inv_effect_encode(payload + INV_WAL_CHANGES_PREFIX_BYTES, &effect);
    inv_wal_copy(&store->wal, lane, lsn, payload, (uint32_t)bytes);
    inv_lane_give(lane);
    inv_wal_credit_give(&store->wal, credit);
    digest->tried_lsn = lsn + credit;
    if (known) digest->logged_lsn = lsn + credit;
}

inv_result inv_digest_flush(inv_store *store, bool closing, bool *out_synced) {
    inv_digest *digest = &store->digest;
    *out_synced = false;
    if (inv_wal_failed(&store->wal)) return INV_STORE_FAILED;
    if (store->wal.in_memory) return INV_OK;
    uint64_t tail = atomic_load_explicit(&store->wal.tail, memory_order_acquire);
    uint64_t every = store->env->digest_bytes != 0 ? store->env->digest_bytes : DIGEST_EVERY_BYTES;
    bool due = tail - digest->logged_lsn >= every && tail - digest->tried_lsn >= every / 16;
    if (due || (closing && tail > digest->logged_lsn)) log_digest(store);
    uint64_t prefix = inv_wal_prefix(&store->wal);
    walk(store, prefix); /* before it is durable: then segments are given back */
    return inv_wal_flush(&store->wal, prefix, out_synced);
}

/* ---- of a log that is replayed --------------------------------------------------------------- */

inv_result inv_digest_check(const inv_store *store, const inv_effect *effect,
                            uint64_t *out_before_lsn) {
    const uint8_t *blob = (const uint8_t *)effect->blob.bytes;
    *out_before_lsn = 0;
    if (blob == NULL || effect->blob.length != INV_EFFECT_DIGEST_BYTES) return INV_LOG_CORRUPT;
    *out_before_lsn = inv_load_u64(blob + 8);
    bool says = *out_before_lsn != 0;
    return !says || inv_load_u64(blob) == inv_digest_sum(store) ? INV_OK : INV_LOG_CORRUPT;
}
