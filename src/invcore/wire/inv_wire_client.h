/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wire_client.h: the other end of the wire: commands to requests, replies to their fields. For
 * load generators and tests in C; pure functions, as inv_wire.h.
 */
#ifndef INV_WIRE_CLIENT_H
#define INV_WIRE_CLIENT_H

#include "inv_msgpack.h"
#include "inv_wire.h"

/* What `ask` says; NULL where it is taken: nothing special. */
typedef struct inv_wire_ask {
    bool asks_durability;
    uint8_t durability;
    uint32_t deadline_ms; /* 0: none */
    uint64_t min_lsn;     /* 0: none */
} inv_wire_ask;

/* Bytes that a request takes at most without its lines, and each line; a column: its bytes and
 * INV_MSGPACK_HEAD_BYTES_MAX. */
#define INV_WIRE_REQUEST_HEAD_BYTES 768u
#define INV_WIRE_REQUEST_LINE_BYTES 256u

/* A request of one command, op RESERVE to SET_POLICY; returns where it ends. Trailing positions
 * that are not given are left out. */
uint8_t *inv_wire_put_command(uint8_t *out, uint64_t correlation, uint8_t op,
                              const inv_wire_ask *ask, const inv_command *command);

/* ... of a batch, op RESERVE_BATCH to EXTEND_BATCH, or AVAILABILITY_BATCH. */
uint8_t *inv_wire_put_batch(uint8_t *out, uint64_t correlation, uint8_t op,
                            const inv_wire_ask *ask, const inv_batch *batch);

/* ... of AVAILABILITY, or without location AVAILABILITY_SKU. */
uint8_t *inv_wire_put_availability(uint8_t *out, uint64_t correlation, const inv_wire_ask *ask,
                                   const inv_line *line, inv_text seller, bool relaxed);

/* ... without any fields: HELLO, PING, BARRIER. */
uint8_t *inv_wire_put_plain(uint8_t *out, uint64_t correlation, uint8_t op);

/* One reply of a message of them. */
typedef struct inv_wire_reply {
    uint64_t correlation, lsn, mark;
    bool has_correlation;
    uint8_t code;
    uint64_t value_count;    /* values behind `mark` */
    inv_msgpack_reader body; /* ... and where they are */
} inv_wire_reply;

/* The next reply of a message. False at its end (*reader is at its end then), and when what is
 * there is no reply. */
INV_MUST_USE bool inv_wire_next_reply(inv_msgpack_reader *reader, inv_wire_reply *out);

#endif
