/* SPDX-License-Identifier: Apache-2.0
 *
 * compare.h: an answer of the store against the model's, and the whole store against the model.
 *
 * Lines are compared as sums by (sku, location): how a reply orders them is nobody's business.
 */
#ifndef COMPARE_H
#define COMPARE_H

#include "gen.h"

#define COMPARE_TEXT_BYTES 256u

/* True when they agree; else *text says what differs (COMPARE_TEXT_BYTES of room). */
bool compare_reply(const gen *g, const model_command *command, const model_reply *expected,
                   const inv_reply *actual, char *text);

/* Every row of every SKU by availability calls, totals too. */
bool compare_rows(gen *g, inv_store *store, char *text);

/* Reservations id_first to id_end - 1, unknown ones too. */
bool compare_holds(gen *g, inv_store *store, uint32_t id_first, uint32_t id_end, char *text);

/* inv_store_check, and its counts and totals against the model's. */
bool compare_check(const gen *g, inv_store *store, char *text);

#endif
