/* SPDX-License-Identifier: Apache-2.0
 *
 * seen.c: open addressing, doubled at half load. Keys are hashes already.
 */
#include "seen.h"

#include <stdlib.h>

static seen_entry *slot_of(seen_entry *entries, uint64_t capacity, uint64_t key) {
    uint64_t i = (key ^ (key >> 32)) & (capacity - 1);
    while (entries[i].key != 0 && entries[i].key != key) i = (i + 1) & (capacity - 1);
    return &entries[i];
}

static void grow(seen *set) {
    uint64_t capacity_new = set->capacity == 0 ? 4096 : set->capacity * 2;
    seen_entry *entries_new = calloc(capacity_new, sizeof *entries_new);
    if (entries_new == NULL) abort();
    for (uint64_t i = 0; i < set->capacity; i++)
        if (set->entries[i].key != 0)
            *slot_of(entries_new, capacity_new, set->entries[i].key) = set->entries[i];
    free(set->entries);
    set->entries = entries_new;
    set->capacity = capacity_new;
}

void seen_deinit(seen *set) {
    free(set->entries);
    *set = (seen){NULL, 0, 0};
}

seen_entry *seen_find(seen *set, uint64_t key, bool *out_new) {
    if (key == 0) key = 1;
    if (set->count * 2 >= set->capacity) grow(set);
    seen_entry *entry = slot_of(set->entries, set->capacity, key);
    *out_new = entry->key == 0;
    if (*out_new) {
        *entry = (seen_entry){key, 0};
        set->count++;
    }
    return entry;
}
