/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_lane.c: claiming, and freeing what nobody can see any more.
 */
#include "inv_lane.h"

_Thread_local uint32_t inv_lane_hint = 0;

_Static_assert(sizeof(inv_lane) % INV_CACHE_LINE == 0, "lanes must not share cache lines");

inv_result inv_lanes_init(inv_lanes *lanes, const inv_env *env) {
    memset(lanes, 0, sizeof *lanes);
    lanes->env = env;
    lanes->lanes = inv_env_alloc(env, INV_LANE_COUNT * sizeof(inv_lane));
    if (lanes->lanes == NULL) return INV_NO_MEMORY;
    for (uint32_t i = 0; i < INV_LANE_COUNT; i++)
        atomic_store_explicit(&lanes->lanes[i].append_floor, INV_LANE_IDLE, memory_order_relaxed);
    atomic_store_explicit(&lanes->epoch, 1, memory_order_release);
    return INV_OK;
}

void *inv_lanes_alloc(const inv_lanes *lanes, size_t bytes) {
    inv_retired *block = inv_env_alloc(lanes->env, bytes + sizeof(inv_retired));
    if (block == NULL) return NULL;
    block->bytes = bytes + sizeof(inv_retired);
    return block + 1;
}

bool inv_lanes_leaves(const inv_lanes *lanes, const void *pointer) {
    const inv_allocator *allocator = &lanes->env->allocator;
    if (pointer == NULL) return false;
    const inv_retired *block = (const inv_retired *)pointer - 1;
    return allocator->leaves(allocator->context, block, block->bytes);
}

void inv_lanes_free(const inv_lanes *lanes, void *pointer) {
    if (pointer == NULL) return;
    inv_retired *block = (inv_retired *)pointer - 1;
    inv_env_free(lanes->env, block, block->bytes);
}

static void free_chain(inv_lanes *lanes, inv_retired *item) {
    while (item != NULL) {
        inv_retired *next = item->next;
        inv_lanes_free(lanes, item + 1);
        item = next;
    }
}

void inv_lanes_deinit(inv_lanes *lanes) {
    if (lanes->lanes == NULL) return;
    free_chain(lanes, lanes->retired);
    inv_env_free(lanes->env, lanes->lanes, INV_LANE_COUNT * sizeof(inv_lane));
    lanes->lanes = NULL;
    lanes->retired = NULL;
}

inv_lane *inv_lane_claim_slow(inv_lanes *lanes, uint32_t hint) {
    for (;;) {
        uint64_t now = atomic_load_explicit(&lanes->epoch, memory_order_acquire);
        for (uint32_t i = 0; i < INV_LANE_COUNT; i++) {
            uint32_t index = (hint + i) % INV_LANE_COUNT;
            inv_lane *lane = &lanes->lanes[index];
            uint64_t expected = 0;
            uint32_t used = atomic_load_explicit(&lanes->used, memory_order_relaxed);
            /* `used` grows before the claim, so that a scan of the used lanes misses no busy one */
            while (used <= index && !atomic_compare_exchange_weak_explicit(
                                        &lanes->used, &used, index + 1, memory_order_seq_cst,
                                        memory_order_relaxed)) {
            }
            if (atomic_compare_exchange_strong_explicit(
                    &lane->epoch, &expected, now, memory_order_seq_cst, memory_order_relaxed)) {
                inv_lane_hint = index;
                return lane;
            }
        }
        inv_cpu_yield(); /* 64 calls inside the core: each leaves in microseconds */
    }
}

uint64_t inv_lanes_sum(const inv_lanes *lanes, inv_counter counter) {
    uint64_t sum = 0;
    uint32_t used = atomic_load_explicit(&((inv_lanes *)lanes)->used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++)
        sum += atomic_load_explicit(&lanes->lanes[i].counters[counter], memory_order_relaxed);
    return sum;
}

bool inv_lanes_busy(const inv_lanes *lanes) {
    uint32_t used = atomic_load_explicit(&((inv_lanes *)lanes)->used, memory_order_seq_cst);
    for (uint32_t i = 0; i < used; i++)
        if (atomic_load_explicit(&lanes->lanes[i].epoch, memory_order_seq_cst) != 0) return true;
    return false;
}

/* The epoch the oldest busy lane entered in. */
static uint64_t oldest_epoch(const inv_lanes *lanes) {
    uint64_t oldest = UINT64_MAX;
    uint32_t used = atomic_load_explicit(&((inv_lanes *)lanes)->used, memory_order_seq_cst);
    for (uint32_t i = 0; i < used; i++) {
        /* seq_cst: pairs with the claim; its acquire half pairs with inv_lane_give, so that the
         * call's reads happen before the free */
        uint64_t epoch = atomic_load_explicit(&lanes->lanes[i].epoch, memory_order_seq_cst);
        if (epoch != 0 && epoch < oldest) oldest = epoch;
    }
    return oldest;
}

void inv_lanes_retire(inv_lanes *lanes, void *pointer) {
    if (pointer == NULL) return;
    inv_retired *item = (inv_retired *)pointer - 1;
    inv_lock_take(&lanes->retire_lock);
    item->epoch = atomic_fetch_add_explicit(&lanes->epoch, 1, memory_order_seq_cst);
    item->next = lanes->retired;
    lanes->retired = item;
    /* The list is newest first: from the first item old enough on, all can go. */
    uint64_t oldest = oldest_epoch(lanes);
    inv_retired **link = &lanes->retired;
    while (*link != NULL && (*link)->epoch >= oldest) link = &(*link)->next;
    inv_retired *freeable = *link;
    *link = NULL;
    inv_lock_give(&lanes->retire_lock);
    free_chain(lanes, freeable);
}
