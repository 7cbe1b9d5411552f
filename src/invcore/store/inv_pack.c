/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_pack.c: after a load the arrays of the stripes are moved together (inv_heap.h), a few stripes
 * a step and a pause between two steps. Each is moved as it would be grown: under its lock, its
 * sequence odd, the old arrays retired. Nobody waits longer than for one growth.
 */
#include "inv_store.h"

#define PACK_EVERY_MS 500u /* how often it is asked whether there is anything to pack */
#define PACK_STRIPES 64u   /* of one step */

static void pack_stripe(inv_store *store, inv_stripe *stripe) {
    inv_lock_take(&stripe->lock);
    uint32_t sequence = atomic_load_explicit(&stripe->sequence, memory_order_relaxed);
    /* As inv_run_touch and inv_run_finish do; the stripe's lsn stays, nothing has changed. */
    atomic_store_explicit(&stripe->sequence, sequence + 1, memory_order_relaxed);
    inv_result result = inv_table_pack(&stripe->table, &store->lanes);
    (void)result; /* without memory it stays where it is, until the next time */
    atomic_store_explicit(&stripe->sequence, sequence + 2, memory_order_release);
    inv_lock_give(&stripe->lock);
}

void inv_pack_step(inv_store *store) {
    const inv_allocator *allocator = &store->env->allocator;
    const inv_clock *clock = &store->env->clock;
    if (allocator->pack == NULL) return;
    if (store->pack_left == 0) {
        uint64_t now = clock->mono_ms(clock->context);
        if (!store->packing && now < store->pack_asked_ms + PACK_EVERY_MS) return;
        store->pack_asked_ms = now;
        store->packing = allocator->pack(allocator->context);
        if (!store->packing) return;
        store->pack_left = store->stripe_count;
    }
    for (uint32_t i = 0; i < PACK_STRIPES && store->pack_left > 0; i++)
        pack_stripe(store, &store->stripes[--store->pack_left]);
}
