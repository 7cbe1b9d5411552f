/* SPDX-License-Identifier: Apache-2.0
 *
 * seen.h: a set of crash states by their 64-bit hash, with what each one recovered to.
 */
#ifndef SEEN_H
#define SEEN_H

#include <stdbool.h>
#include <stdint.h>

typedef struct seen_entry {
    uint64_t key; /* 0 = free */
    uint64_t lsn_end;
} seen_entry;

typedef struct seen {
    seen_entry *entries;
    uint64_t count, capacity;
} seen;

void seen_deinit(seen *set);
/* The entry of a key; *out_new tells that it was just put there (lsn_end 0). The pointer holds
 * until the next call. */
seen_entry *seen_find(seen *set, uint64_t key, bool *out_new);

#endif
