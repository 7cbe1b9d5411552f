/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_names.c: nodes come from the pool and are never freed before the store; a node is complete
 * before its reference is published (release), so a reader that finds it (acquire) sees its text.
 */
#include "inv_names.h"

#define FIRST_SLOTS 64u

static uint32_t node_class(uint32_t length) {
    return inv_pool_class_for(sizeof(inv_name_node) + length);
}

static inv_names_index *index_create(inv_lanes *lanes, uint32_t slots) {
    inv_names_index *index =
        inv_lanes_alloc(lanes, sizeof(inv_names_index) + slots * sizeof(uint32_t));
    if (index != NULL) index->mask = slots - 1;
    return index;
}

static inv_names_list *list_create(inv_lanes *lanes, uint32_t room) {
    inv_names_list *list = inv_lanes_alloc(lanes, sizeof(inv_names_list) + room * sizeof(uint32_t));
    if (list != NULL) list->room = room;
    return list;
}

inv_result inv_names_init(inv_names *names, inv_lanes *lanes, inv_pool *pool, inv_hash_key key,
                          uint64_t tweak, uint32_t count_max) {
    memset(names, 0, sizeof *names);
    names->lanes = lanes;
    names->pool = pool;
    names->key = key;
    names->tweak = tweak;
    names->count_max = count_max;
    inv_names_index *index = index_create(lanes, FIRST_SLOTS);
    inv_names_list *list = list_create(lanes, FIRST_SLOTS);
    atomic_store_explicit(&names->index, index, memory_order_release);
    atomic_store_explicit(&names->list, list, memory_order_release);
    return index != NULL && list != NULL ? INV_OK : INV_NO_MEMORY;
}

void inv_names_deinit(inv_names *names) {
    if (names->lanes == NULL) return;
    inv_lanes_free(names->lanes, atomic_load_explicit(&names->index, memory_order_relaxed));
    inv_lanes_free(names->lanes, atomic_load_explicit(&names->list, memory_order_relaxed));
}

static uint32_t hash_of(const inv_names *names, inv_text text) {
    return (uint32_t)inv_siphash13(names->key, names->tweak, text.bytes, text.length);
}

uint32_t inv_names_find(const inv_names *names, inv_text text) {
    /* acquire: pairs with the release of publish */
    inv_names_index *index =
        atomic_load_explicit(&((inv_names *)names)->index, memory_order_acquire);
    for (uint32_t slot = hash_of(names, text) & index->mask;; slot = (slot + 1) & index->mask) {
        inv_ref ref = atomic_load_explicit(&index->slots[slot], memory_order_acquire);
        if (ref == 0) return INV_NUMBER_NONE;
        const inv_name_node *node = inv_pool_at(names->pool, ref);
        if (node->length == text.length && memcmp(node->text, text.bytes, text.length) == 0)
            return node->number;
    }
}

static void index_insert(inv_names_index *index, uint32_t hash, inv_ref ref) {
    uint32_t slot = hash & index->mask;
    while (atomic_load_explicit(&index->slots[slot], memory_order_relaxed) != 0)
        slot = (slot + 1) & index->mask;
    atomic_store_explicit(&index->slots[slot], ref, memory_order_release);
}

/* Room for one more name than `count` in both arrays, else larger copies of them. */
static inv_result grow(inv_names *names, uint32_t count) {
    inv_names_index *index = atomic_load_explicit(&names->index, memory_order_relaxed);
    inv_names_list *list = atomic_load_explicit(&names->list, memory_order_relaxed);
    if (list->room <= count) {
        inv_names_list *larger = list_create(names->lanes, list->room * 2);
        if (larger == NULL) return INV_NO_MEMORY;
        for (uint32_t i = 0; i < list->room; i++)
            atomic_store_explicit(&larger->refs[i],
                                  atomic_load_explicit(&list->refs[i], memory_order_relaxed),
                                  memory_order_relaxed);
        atomic_store_explicit(&names->list, larger, memory_order_release);
        inv_lanes_retire(names->lanes, list);
    }
    if (count + 1 > (index->mask + 1) / 4 * 3) {
        inv_names_index *larger = index_create(names->lanes, (index->mask + 1) * 2);
        if (larger == NULL) return INV_NO_MEMORY;
        for (uint32_t i = 0; i <= index->mask; i++) {
            inv_ref ref = atomic_load_explicit(&index->slots[i], memory_order_relaxed);
            if (ref == 0) continue;
            const inv_name_node *node = inv_pool_at(names->pool, ref);
            inv_text text = {node->text, node->length};
            index_insert(larger, hash_of(names, text), ref);
        }
        atomic_store_explicit(&names->index, larger, memory_order_release);
        inv_lanes_retire(names->lanes, index);
    }
    return INV_OK;
}

inv_result inv_names_prepare(inv_names *names, inv_text text, uint32_t pending, inv_ref *out_node,
                             uint32_t *out_number) {
    uint32_t number = atomic_load_explicit(&names->count, memory_order_relaxed) + pending;
    if (number >= names->count_max) return INV_LIMIT_EXCEEDED;
    inv_result result = grow(names, number);
    if (result != INV_OK) return result;
    inv_ref ref = inv_pool_alloc(names->pool, node_class(text.length));
    if (ref == 0) return INV_NO_MEMORY;
    inv_name_node *node = inv_pool_at(names->pool, ref);
    node->number = number;
    node->length = text.length;
    memcpy(node->text, text.bytes, text.length);
    *out_node = ref;
    *out_number = number;
    return INV_OK;
}

void inv_names_publish(inv_names *names, inv_ref ref) {
    const inv_name_node *node = inv_pool_at(names->pool, ref);
    inv_text text = {node->text, node->length};
    INV_ASSERT(node->number == atomic_load_explicit(&names->count, memory_order_relaxed));
    inv_names_list *list = atomic_load_explicit(&names->list, memory_order_relaxed);
    atomic_store_explicit(&list->refs[node->number], ref, memory_order_release);
    atomic_store_explicit(&names->count, node->number + 1, memory_order_release);
    index_insert(atomic_load_explicit(&names->index, memory_order_relaxed), hash_of(names, text),
                 ref);
}

void inv_names_discard(inv_names *names, inv_ref ref) {
    const inv_name_node *node = inv_pool_at(names->pool, ref);
    inv_pool_free(names->pool, ref, node_class(node->length));
}

inv_result inv_names_restore(inv_names *names, uint32_t number, inv_text text) {
    inv_ref node;
    uint32_t next;
    if (number != inv_names_count(names)) return INV_LOG_CORRUPT;
    inv_result result = inv_names_prepare(names, text, 0, &node, &next);
    if (result != INV_OK) return result == INV_NO_MEMORY ? result : INV_LOG_CORRUPT;
    inv_names_publish(names, node);
    return INV_OK;
}

bool inv_names_text(const inv_names *names, uint32_t number, inv_text *out) {
    if (number >= inv_names_count(names)) return false;
    inv_names_list *list = atomic_load_explicit(&((inv_names *)names)->list, memory_order_acquire);
    inv_ref ref = atomic_load_explicit(&list->refs[number], memory_order_acquire);
    const inv_name_node *node = inv_pool_at(names->pool, ref);
    out->bytes = node->text;
    out->length = node->length;
    return true;
}
