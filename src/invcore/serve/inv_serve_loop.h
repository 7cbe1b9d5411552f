/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_serve_loop.h: what a loop is made of; private to serve/.
 */
#ifndef INV_SERVE_LOOP_H
#define INV_SERVE_LOOP_H

#include "../store/inv_store.h"
#include "../wire/inv_msgpack.h"
#include "../wire/inv_wire.h"
#include "inv_serve.h"

#define INV_SERVE_TURN_MESSAGES 512u       /* drained before anything is answered */
#define INV_SERVE_TURN_BYTES (4u << 20)    /* ... unless they are long */
#define INV_SERVE_RUN_COMMANDS 256u        /* judged by one call; the store cuts it into records */
#define INV_SERVE_RUN_LINES 8192u          /* lines of their answers */
#define INV_SERVE_LINES_USUAL 8u           /* lines an answer is given room for, if not a cart's */
#define INV_SERVE_PARKED_MAX 65536u        /* reply messages */
#define INV_SERVE_STUCK_MAX 65536u         /* ... whose peer has no room */
#define INV_SERVE_STUCK_BYTES_MAX (64u << 20)
#define INV_SERVE_OUT_BYTES (INV_WIRE_REPLY_BYTES_MAX + INV_WIRE_REQUEST_COUNT_MAX * 512u)

typedef struct inv_serve_received {
    inv_zmq_message identity, body;
    uint32_t first, count; /* its requests in the arena */
} inv_serve_received;

/* A reply message on its way. */
typedef struct inv_serve_parked {
    inv_zmq_message identity, body;
    uint64_t lsn;      /* to be safe before it leaves */
    uint64_t since_ms; /* stuck: since when */
    uint32_t requests, bytes;
} inv_serve_parked;

typedef struct inv_serve_queue { /* first in, first out, in the order of lsn */
    inv_serve_parked *entries;
    uint32_t capacity, head, count;
    uint64_t lsn_last;
} inv_serve_queue;

/* The message whose replies are being made. */
typedef struct inv_serve_message {
    size_t bytes;   /* of loop->out used so far */
    uint64_t lsn;   /* highest that a reply observed and waits for */
    bool to_disk;   /* one of its requests asks for more than the server's durability */
} inv_serve_message;

struct inv_serve_loop {
    inv_serve *serve;
    inv_store *store;
    const inv_zmq *zmq;
    void *socket;
    int event_fd;
    uint8_t durability;
    uint64_t epoch;
    _Atomic uint64_t wanted_lsn; /* ring when it is safe; 0: nothing. Loop sets, watcher clears */

    inv_wire_arena arena;
    inv_serve_received *received; /* of this turn */
    uint32_t received_count;
    uint64_t received_ms;

    inv_reply *replies;          /* of the run judged last: commands [run_first, + run_count) */
    inv_reply_line *reply_lines; /* INV_SERVE_RUN_LINES */
    inv_reply_line *cart_lines;  /* INV_LINE_COUNT_MAX: of one answer with many */
    uint32_t run_first, run_count;

    uint8_t *out; /* INV_SERVE_OUT_BYTES */
    inv_serve_message message;
    void *batch_room;
    inv_batch_level *batch_levels;
    inv_text *names; /* INV_WIRE_NAME_COUNT_MAX */
    uint32_t *numbers;
    inv_stock_level *levels; /* INV_SKU_ROW_COUNT_MAX */

    uint8_t *location_lengths; /* by number; 0: not looked up yet */
    char (*location_names)[INV_LOCATION_BYTES_MAX];
    char sku_name[INV_SKU_BYTES_MAX];

    inv_serve_queue parked; /* wait as the server's durability says */
    inv_serve_queue synced; /* wait for the disk in interval mode */
    inv_serve_queue stuck;  /* safe; their peers take no more at the moment */
    uint64_t requests_in_flight, bytes_in_flight, stuck_bytes;
    uint64_t stopping_since_ms;

    _Atomic uint64_t messages, requests, replies_sent, busy, refused_messages, dropped_gone,
        dropped_stuck, requests_parked, bytes_parked;
};

struct inv_serve {
    inv_store *store;
    inv_zmq zmq;
    inv_serve_options options;
    inv_serve_loop *loops[INV_SERVE_LOOP_COUNT_MAX];
    uint32_t loop_count;
    _Atomic uint32_t bell; /* rises when a loop begins to wait: futex */
    _Atomic uint32_t stopping, watch_ends;
};

/* Written by the loop alone. */
static inline void inv_serve_count(_Atomic uint64_t *counter, uint64_t more) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

/* Refuses what asks for more durability than a store in memory has. Before any of the turn's
 * requests is answered: a run of changes goes over several messages. */
void inv_serve_refuse_asks(inv_serve_loop *loop, uint32_t first, uint32_t count);

/* Makes the replies of a message in loop->out; loop->message says how they must wait.
 * INV_STORE_FAILED: none may leave. */
INV_MUST_USE inv_result inv_serve_answer(inv_serve_loop *loop, const inv_serve_received *received);

#endif
