/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz.c: what targets need under either engine.
 */
#include "fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

uint64_t fuzz_random(uint64_t *random) {
    uint64_t x = *random += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

uint32_t fuzz_below(uint64_t *random, uint32_t bound) {
    return bound == 0 ? 0 : (uint32_t)(fuzz_random(random) % bound);
}

void fuzz_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("VIOLATION: ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    fflush(stdout);
    abort();
}
