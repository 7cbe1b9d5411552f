/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz.h: what a fuzz target is, campaign 21. Each fuzz_*.c defines one target and the maker of its
 * valid inputs; the corpus is made, not stored. Two engines run it:
 *
 *     fuzz_driver.c   a seeded mutator in plain C, in every build: CI has its share with gcc
 *     libFuzzer       cmake -DINV_FUZZ=ON with clang; start it on what `fuzz_x --corpus DIR` writes
 *
 * A target must neither crash nor hang nor grow, whatever the bytes; where it finds a property
 * broken it says so with fuzz_fail. Checksums would keep nearly all mutations out, so inputs of
 * sealed formats begin with a mode byte: FUZZ_RESEAL has the target make them right again after the
 * mutation, as an attacker or a bug in the writer would.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../../src/invcore/base/inv_env.h"

#define FUZZ_INPUT_BYTES_MAX (128u << 10)
#define FUZZ_RESEAL 1u /* bit of the mode byte */

extern const char *const fuzz_name;
extern const uint64_t fuzz_inputs_default; /* of the plain driver, before INV_TEST_SCALE */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Writes a valid input, another one for each state of *random; returns its bytes. */
size_t fuzz_make_input(uint64_t *random, uint8_t *out, size_t room);

_Noreturn void fuzz_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t fuzz_random(uint64_t *random);
uint32_t fuzz_below(uint64_t *random, uint32_t bound);

/* ---- a small store on a disk in memory (fuzz_disk.c) ----------------------------------------- */
#define FUZZ_SEGMENT_BYTES 16384u
#define FUZZ_START_MS 1700000000000ull

/* A disk with a store that was used a while and abandoned; with_snapshot: its last snapshot stands
 * for the log before it. Made once, never freed. */
const inv_memory *fuzz_disk(bool with_snapshot);

/* Name of the file of the disk that begins with `prefix` and comes last; false: there is none. */
bool fuzz_last_file(const inv_memory *disk, const char *prefix, char out[INV_FILE_NAME_MAX + 1]);

/* Opens the disk read-only, walks it and reads its log. The store must be refused with a code for
 * what is on a disk, or open; and be in order, unless its checksums were forged: against that they
 * do not guard, and inv_store_check reports what is broken. Takes the disk over. */
void fuzz_open(inv_memory *disk, bool forged);

/* Manual clock, fixed entropy, one thread; NULL: memory mode. */
inv_env *fuzz_env(inv_memory *disk);

#endif
