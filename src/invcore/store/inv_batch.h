/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_batch.h: what the two ways of a batch share (inv_batch.c, inv_batch_run.c); private to them.
 */
#ifndef INV_BATCH_H
#define INV_BATCH_H

#include "inv_store.h"

#define INV_BATCH_AHEAD 3u /* runs looked at: the one judged and two more */

/* A row, as far as it is known before the locks. Id and SKU are read once, into here: a caller who
 * writes to his columns meanwhile gets other rows, but never one that is half one, half another. */
typedef struct inv_batch_hint {
    uint64_t hash;   /* of its id */
    uint8_t id[16];
    uint32_t sku;    /* reserve: its number */
    uint32_t stripe; /* of its SKU, or home of its hold (INV_NUMBER_NONE: no hold) */
    inv_ref ref;     /* ends: its hold; 0 = none */
} inv_batch_hint;

typedef struct inv_batch_view { /* a batch on its way */
    const inv_batch *batch;
    bool short_way; /* what all rows share is known: the fields below */
    uint32_t seller, account, reason; /* numbers; reason may be none */
    uint64_t seller_tweak;
    size_t looked_from; /* hints[turn] are of the run from here on, the next of the run after it */
    uint32_t turn;
    inv_batch_hint hints[INV_BATCH_AHEAD][INV_RUN_COMMAND_MAX];
} inv_batch_view;

/* Kinds whose rows name a SKU and a location; the others name a hold. */
static inline bool inv_batch_has_line(uint8_t kind) {
    return kind == INV_CMD_RESERVE || kind == INV_CMD_RECEIVE || kind == INV_CMD_ISSUE ||
           kind == INV_CMD_ADJUST;
}

/* A cell of a column: read once and atomically, since the caller may write to it meanwhile; what
 * was checked is then what is used. */
#define INV_BATCH_CELL(column, row) __atomic_load_n(&(column)[row], __ATOMIC_RELAXED)

static inline uint64_t inv_batch_ttl(const inv_batch *batch, size_t row) {
    return batch->ttls_ms != NULL ? INV_BATCH_CELL(batch->ttls_ms, row) : batch->ttl_ms;
}

static inline uint32_t inv_batch_run_rows(const inv_batch *batch, size_t from) {
    size_t left = batch->count > from ? batch->count - from : 0;
    return left < INV_RUN_COMMAND_MAX ? (uint32_t)left : INV_RUN_COMMAND_MAX;
}

/* Looks up what all rows share and says whether they may go the short way (yet). */
void inv_batch_resolve(inv_store *store, inv_batch_view *view);

/* Judges rows from `from` on, a run of them at most, until one needs the long way; *out_done says
 * how many have their code. INV_BUSY: the log is behind; INV_STORE_FAILED, INV_DISK_FULL. */
inv_result inv_batch_run(inv_run *run, inv_batch_view *view, size_t from, uint8_t *codes,
                         uint32_t *out_done, uint64_t *observed_lsn);

#endif
