/* SPDX-License-Identifier: Apache-2.0
 *
 * pack_always.h: an allocator whose memory is always to be left, so that every step of the
 * housekeeper moves the arrays of some stripes.
 */
#ifndef PACK_ALWAYS_H
#define PACK_ALWAYS_H

#include "../../src/invcore/base/inv_env.h"

static inline bool pack_always_pack(void *context) {
    (void)context;
    return true;
}

static inline bool pack_always_leaves(void *context, const void *pointer, size_t bytes) {
    (void)context;
    (void)pointer;
    (void)bytes;
    return true;
}

static inline void pack_always(inv_allocator *allocator) {
    allocator->pack = pack_always_pack;
    allocator->leaves = pack_always_leaves;
}

#endif
