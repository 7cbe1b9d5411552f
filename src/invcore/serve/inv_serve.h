/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_serve.h: the server's native loop: from a ROUTER socket to the store and back. docs/wire.md
 * is what it speaks.
 *
 *     socket -> drain -> decode all -> judge (runs of changes together, reads, batches)
 *            -> encode -> park until what was observed is safe -> socket
 *
 * libzmq is not linked. The caller gives a table of its functions, and sockets that belong to him:
 * he makes, binds and closes them; while inv_serve_run runs, nobody else touches the loop's socket.
 *
 * THREADS. One for each loop (inv_serve_run) and one for all (inv_serve_watch), all the caller's.
 * The watcher waits for the disk and rings an eventfd of each loop that waits, once for each group
 * commit.
 *
 * A LOOP NEVER WAITS for one request while others could go: not for log credit (BUSY), not for the
 * disk (the reply is parked), not for a peer whose queue is full (its reply is set aside, tried
 * again, and dropped and counted after a while). What is parked is bounded in messages, requests
 * and bytes; beyond, a message is answered BUSY at once, with nothing of it applied.
 */
#ifndef INV_SERVE_H
#define INV_SERVE_H

#include "../invcore.h"

#ifdef __cplusplus
extern "C" {
#endif

#define INV_SERVE_LOOP_COUNT_MAX 16u

typedef struct inv_zmq_message { /* zmq_msg_t */
    _Alignas(8) unsigned char bytes[64];
} inv_zmq_message;

typedef struct inv_zmq_pollitem { /* zmq_pollitem_t */
    void *socket;
    int fd;
    short events;
    short revents;
} inv_zmq_pollitem;

/* The functions of libzmq (4.3.4 or later) of the same names. */
typedef struct inv_zmq {
    int (*msg_init)(inv_zmq_message *message);
    int (*msg_init_size)(inv_zmq_message *message, size_t size);
    int (*msg_recv)(inv_zmq_message *message, void *socket, int flags);
    int (*msg_send)(inv_zmq_message *message, void *socket, int flags);
    int (*msg_close)(inv_zmq_message *message);
    void *(*msg_data)(inv_zmq_message *message);
    size_t (*msg_size)(const inv_zmq_message *message);
    int (*msg_more)(const inv_zmq_message *message);
    int (*poll)(inv_zmq_pollitem *items, int count, long timeout_ms);
    int (*error)(void); /* zmq_errno */
} inv_zmq;

typedef struct inv_serve_options {
    const char *version;            /* told in HELLO; at most 64 bytes, stays */
    uint64_t message_bytes_max;     /* as the sockets have it; told in HELLO */
    uint64_t silence_ms_max;        /* told in HELLO */
    uint32_t requests_in_flight_max; /* of a loop; 1 to 16 M */
    uint64_t reply_bytes_in_flight_max; /* of a loop */
    uint32_t busy_retry_ms;         /* told with BUSY */
    uint32_t stuck_ms_max;          /* a reply its peer takes no room for is dropped after that */
    uint32_t stop_ms_max;           /* stopping takes at most that long */
} inv_serve_options;

void inv_serve_options_init(inv_serve_options *options);

/* Counters of a loop since it was made. */
typedef struct inv_serve_counts {
    uint64_t messages, requests, replies; /* messages received; requests in them; messages sent */
    uint64_t busy;            /* requests refused for want of room here or in the log */
    uint64_t refused_messages; /* broken framing, more than one frame, too many requests or lines */
    uint64_t dropped_gone;    /* reply messages whose peer was gone */
    uint64_t dropped_stuck;   /* ... whose peer did not read */
    uint64_t requests_parked, reply_bytes_parked; /* now */
} inv_serve_counts;

typedef struct inv_serve inv_serve;
typedef struct inv_serve_loop inv_serve_loop;

/* Serves an open store, which must outlive it. INV_BAD_REQUEST (options), INV_NO_MEMORY. */
INV_MUST_USE inv_result inv_serve_create(inv_store *store, const inv_zmq *zmq,
                                         const inv_serve_options *options, inv_serve **out_serve,
                                         inv_error *error);
/* Its threads have come back. NULL is fine. */
void inv_serve_destroy(inv_serve *serve);

/* A loop over a bound ROUTER socket; event_fd: a non-blocking eventfd of its own. All loops are
 * made before the first thread runs. INV_LIMIT_EXCEEDED, INV_NO_MEMORY. */
INV_MUST_USE inv_result inv_serve_add_loop(inv_serve *serve, void *socket, int event_fd,
                                           inv_serve_loop **out_loop, inv_error *error);

/* Serves until inv_serve_stop, and until all that was under way is answered. INV_OK;
 * INV_STORE_FAILED: the store has failed; what was parked is not answered, and the process should
 * end with status 74 at once. INV_STORE_CLOSED: libzmq's context was terminated. */
inv_result inv_serve_run(inv_serve_loop *loop);

/* Watches the disk until inv_serve_end_watch: once, on a thread of its own. */
void inv_serve_watch(inv_serve *serve);

/* From now on requests are answered STORE_CLOSED; loops end when they have answered what is under
 * way. Any thread, also a signal's. */
void inv_serve_stop(inv_serve *serve);

/* After all loops have come back. */
void inv_serve_end_watch(inv_serve *serve);

void inv_serve_counts_of(const inv_serve_loop *loop, inv_serve_counts *out);

#ifdef __cplusplus
}
#endif
#endif
