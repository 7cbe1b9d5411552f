/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_env_name.h: the one rule for file names that all implementations of storage share, so that a
 * name accepted in memory is accepted on disk. For inv_env_*.c only.
 */
#ifndef INV_ENV_NAME_H
#define INV_ENV_NAME_H

#include "inv_env.h"

#define INV_ENV_LOCK_NAME "LOCK" /* the directory lock's file: never listed, never a store file */

/* 1 to INV_FILE_NAME_MAX bytes of [a-zA-Z0-9.-], no leading dot, not the lock's own name. */
static inline bool inv_env_name_is_valid(const char *name) {
    if (name == NULL || name[0] == '\0' || name[0] == '.') return false;
    for (uint32_t i = 0; name[i] != '\0'; i++) {
        char c = name[i];
        bool allowed = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '.' || c == '-';
        if (!allowed || i >= INV_FILE_NAME_MAX) return false;
    }
    return strcmp(name, INV_ENV_LOCK_NAME) != 0;
}

#endif
