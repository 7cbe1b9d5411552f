/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_serve.c: the turns of a loop.
 *
 *     poll (socket, eventfd) -> receive what is there -> answer all -> send what is safe -> arm
 *
 * Three queues of reply messages. `parked` waits as the server's durability says, in the order of
 * lsn: a message that observed less than the one before waits for as much, so the head says all.
 * `synced` is for requests that want the disk where the server does not wait for it. `stuck` has
 * what is safe and found its peer's queue full: tried again each turn, for stuck_ms_max, within
 * bounds of its own, so that peers who do not read take no room from those who do.
 *
 * Messages are libzmq's own from end to end: short ones and identities live inside the entry.
 */
#include <errno.h>
#include <sys/eventfd.h>

#include "inv_serve_loop.h"

#define ZMQ_DONTWAIT 1
#define ZMQ_SNDMORE 2
#define ZMQ_POLLIN 1
#define ZMQ_ETERM (156384712 + 53)

#define POLL_MS 100      /* between two looks whether to stop */
#define POLL_WAITING_MS 1 /* when only time helps: a peer's queue, the disk in interval mode */
#define STUCK_FAILURES 256u /* of one turn */
#define SEND_TRIES 16u   /* interrupted ones */
/* Stopping: requests that come so long after nothing is under way are not read. */
#define QUIET_MS 250u
#define WATCH_MS 100u

/* ---- creation -------------------------------------------------------------------------------- */

void inv_serve_options_init(inv_serve_options *options) {
    *options = (inv_serve_options){.version = "",
                                   .message_bytes_max = INV_WIRE_MESSAGE_BYTES_DEFAULT,
                                   .silence_ms_max = 30000,
                                   .requests_in_flight_max = 262144,
                                   .reply_bytes_in_flight_max = 64u << 20,
                                   .busy_retry_ms = 5,
                                   .stuck_ms_max = 1000,
                                   .stop_ms_max = 10000};
}

static inv_result check_options(const inv_serve_options *options, inv_error *error) {
    if (options->message_bytes_max < INV_WIRE_MESSAGE_BYTES_MIN ||
        options->message_bytes_max > INV_WIRE_MESSAGE_BYTES_MAX)
        return inv_fail(error, INV_BAD_REQUEST, 0, "message_bytes_max: %u to %u",
                        INV_WIRE_MESSAGE_BYTES_MIN, INV_WIRE_MESSAGE_BYTES_MAX);
    if (options->requests_in_flight_max < 1 || options->requests_in_flight_max > 1u << 24)
        return inv_fail(error, INV_BAD_REQUEST, 0, "requests_in_flight_max: 1 to %u", 1u << 24);
    if (options->reply_bytes_in_flight_max < 65536)
        return inv_fail(error, INV_BAD_REQUEST, 0, "reply_bytes_in_flight_max: at least 65536");
    if (options->version == NULL || strlen(options->version) > 64)
        return inv_fail(error, INV_BAD_REQUEST, 0, "version: at most 64 bytes");
    return INV_OK;
}

inv_result inv_serve_create(inv_store *store, const inv_zmq *zmq, const inv_serve_options *options,
                            inv_serve **out_serve, inv_error *error) {
    inv_result result = check_options(options, error);
    if (result != INV_OK) return result;
    inv_serve *serve = inv_env_alloc(store->env, sizeof *serve);
    if (serve == NULL) return inv_fail(error, INV_NO_MEMORY, 0, "out of memory for the server");
    memset(serve, 0, sizeof *serve);
    serve->store = store;
    serve->zmq = *zmq;
    serve->options = *options;
    *out_serve = serve;
    return INV_OK;
}

typedef struct piece { /* of a loop's memory */
    void **where;
    size_t bytes;
} piece;

#define PIECE_COUNT 18u

/* Everything a loop works in, in one list: to be allocated, and freed, by one walk. */
static void pieces_of(inv_serve_loop *loop, piece out[PIECE_COUNT]) {
    inv_wire_arena *arena = &loop->arena;
    const piece pieces[PIECE_COUNT] = {
        {(void **)&arena->requests, arena->request_max * sizeof *arena->requests},
        {(void **)&arena->commands, arena->command_max * sizeof *arena->commands},
        {(void **)&arena->lines, arena->line_max * sizeof *arena->lines},
        {(void **)&loop->received, INV_SERVE_TURN_MESSAGES * sizeof *loop->received},
        {(void **)&loop->replies, INV_SERVE_RUN_COMMANDS * sizeof *loop->replies},
        {(void **)&loop->reply_lines, INV_SERVE_RUN_LINES * sizeof *loop->reply_lines},
        {(void **)&loop->cart_lines, INV_LINE_COUNT_MAX * sizeof *loop->cart_lines},
        {(void **)&loop->out, INV_SERVE_OUT_BYTES},
        {(void **)&loop->batch_room, INV_WIRE_BATCH_ROOM(INV_WIRE_ROW_COUNT_MAX)},
        {(void **)&loop->batch_levels, INV_WIRE_ROW_COUNT_MAX * sizeof *loop->batch_levels},
        {(void **)&loop->names, INV_WIRE_NAME_COUNT_MAX * sizeof *loop->names},
        {(void **)&loop->numbers, INV_WIRE_NAME_COUNT_MAX * sizeof *loop->numbers},
        {(void **)&loop->levels, INV_SKU_ROW_COUNT_MAX * sizeof *loop->levels},
        {(void **)&loop->location_lengths, INV_LOCATION_COUNT_MAX + 1},
        {(void **)&loop->location_names, (INV_LOCATION_COUNT_MAX + 1) * INV_LOCATION_BYTES_MAX},
        {(void **)&loop->parked.entries, loop->parked.capacity * sizeof(inv_serve_parked)},
        {(void **)&loop->synced.entries, loop->synced.capacity * sizeof(inv_serve_parked)},
        {(void **)&loop->stuck.entries, loop->stuck.capacity * sizeof(inv_serve_parked)},
    };
    memcpy(out, pieces, sizeof pieces);
}

static inv_serve_parked *entry_at(const inv_serve_queue *queue, uint32_t index) {
    return &queue->entries[(queue->head + index) % queue->capacity];
}

static void close_both(const inv_serve_loop *loop, inv_zmq_message *identity,
                       inv_zmq_message *body) {
    (void)loop->zmq->msg_close(identity);
    (void)loop->zmq->msg_close(body);
}

static void forget_queue(inv_serve_loop *loop, inv_serve_queue *queue) {
    for (uint32_t i = 0; queue->entries != NULL && i < queue->count; i++) {
        inv_serve_parked *entry = entry_at(queue, i);
        close_both(loop, &entry->identity, &entry->body);
    }
    queue->count = 0;
}

static void destroy_loop(inv_serve_loop *loop) {
    piece pieces[PIECE_COUNT];
    const inv_env *env = loop->store->env;
    forget_queue(loop, &loop->parked);
    forget_queue(loop, &loop->synced);
    forget_queue(loop, &loop->stuck);
    pieces_of(loop, pieces);
    for (uint32_t i = 0; i < PIECE_COUNT; i++)
        inv_env_free(env, *pieces[i].where, pieces[i].bytes);
    inv_env_free(env, loop, sizeof *loop);
}

void inv_serve_destroy(inv_serve *serve) {
    if (serve == NULL) return;
    for (uint32_t i = 0; i < serve->loop_count; i++) destroy_loop(serve->loops[i]);
    inv_env_free(serve->store->env, serve, sizeof *serve);
}

static void size_loop(inv_serve_loop *loop) {
    uint32_t most = loop->serve->options.requests_in_flight_max;
    uint32_t parked = most < INV_SERVE_PARKED_MAX ? most : INV_SERVE_PARKED_MAX;
    loop->arena.request_max = loop->arena.command_max = 2 * INV_WIRE_REQUEST_COUNT_MAX;
    loop->arena.line_max = 2 * INV_WIRE_LINE_COUNT_MAX + INV_LINE_COUNT_MAX;
    loop->parked.capacity = parked;
    loop->synced.capacity = loop->durability == INV_INTERVAL ? parked : 1;
    loop->stuck.capacity = parked < INV_SERVE_STUCK_MAX ? parked : INV_SERVE_STUCK_MAX;
}

inv_result inv_serve_add_loop(inv_serve *serve, void *socket, int event_fd,
                              inv_serve_loop **out_loop, inv_error *error) {
    const inv_env *env = serve->store->env;
    piece pieces[PIECE_COUNT];
    inv_recovery recovery;
    if (serve->loop_count == INV_SERVE_LOOP_COUNT_MAX)
        return inv_fail(error, INV_LIMIT_EXCEEDED, 0, "loops: at most %u",
                        INV_SERVE_LOOP_COUNT_MAX);
    inv_serve_loop *loop = inv_env_alloc(env, sizeof *loop);
    if (loop == NULL) return inv_fail(error, INV_NO_MEMORY, 0, "out of memory for a loop");
    memset(loop, 0, sizeof *loop);
    inv_store_recovery(serve->store, &recovery);
    loop->serve = serve;
    loop->store = serve->store;
    loop->zmq = &serve->zmq;
    loop->socket = socket;
    loop->event_fd = event_fd;
    loop->durability = (uint8_t)serve->store->options.durability;
    loop->epoch = recovery.epoch;
    size_loop(loop);
    pieces_of(loop, pieces);
    bool whole = true;
    for (uint32_t i = 0; i < PIECE_COUNT; i++) {
        *pieces[i].where = inv_env_alloc(env, pieces[i].bytes);
        whole = whole && *pieces[i].where != NULL;
    }
    if (!whole) {
        destroy_loop(loop);
        return inv_fail(error, INV_NO_MEMORY, 0, "out of memory for a loop");
    }
    memset(loop->location_lengths, 0, INV_LOCATION_COUNT_MAX + 1);
    serve->loops[serve->loop_count++] = loop;
    *out_loop = loop;
    return INV_OK;
}

/* ---- queues ---------------------------------------------------------------------------------- */

static void push(inv_serve_queue *queue, const inv_serve_parked *entry) {
    INV_ASSERT(queue->count < queue->capacity);
    inv_serve_parked *place = entry_at(queue, queue->count++);
    *place = *entry; /* a message of libzmq may be moved as long as only one place is used */
    queue->lsn_last = place->lsn = inv_max_u64(queue->lsn_last, entry->lsn);
}

static void pop(inv_serve_queue *queue) {
    queue->head = (queue->head + 1) % queue->capacity;
    queue->count--;
    if (queue->count == 0) queue->lsn_last = 0;
}

static uint64_t now_ms(const inv_serve_loop *loop) {
    const inv_clock *clock = &loop->store->env->clock;
    return clock->mono_ms(clock->context);
}

/* ---- sending --------------------------------------------------------------------------------- */

typedef enum sent { SENT, PEER_GONE, PEER_FULL } sent;

static sent send_part(inv_serve_loop *loop, inv_zmq_message *part, int flags) {
    for (uint32_t i = 0; i < SEND_TRIES; i++) {
        if (loop->zmq->msg_send(part, loop->socket, flags | ZMQ_DONTWAIT) >= 0) return SENT;
        int code = loop->zmq->error();
        if (code == EAGAIN) return PEER_FULL;
        if (code != EINTR) return PEER_GONE;
    }
    return PEER_FULL;
}

/* The identity decides: after it the body is taken, or falls with the connection. */
static sent send_reply(inv_serve_loop *loop, inv_serve_parked *entry) {
    sent outcome = send_part(loop, &entry->identity, ZMQ_SNDMORE);
    if (outcome == SENT && send_part(loop, &entry->body, 0) != SENT) outcome = PEER_GONE;
    return outcome;
}

/* The entry has left, or nobody is there for it. */
static void finish(inv_serve_loop *loop, inv_serve_parked *entry, sent outcome) {
    inv_serve_count(outcome == SENT        ? &loop->replies_sent
                    : outcome == PEER_GONE ? &loop->dropped_gone
                                           : &loop->dropped_stuck,
                    1);
    close_both(loop, &entry->identity, &entry->body);
}

/* What is stuck counts against bounds of its own only. */
static void set_aside(inv_serve_loop *loop, inv_serve_parked *entry) {
    inv_serve_queue *stuck = &loop->stuck;
    if (stuck->count == stuck->capacity ||
        loop->stuck_bytes + entry->bytes > INV_SERVE_STUCK_BYTES_MAX) {
        finish(loop, entry, PEER_FULL);
        return;
    }
    loop->stuck_bytes += entry->bytes;
    entry->since_ms = now_ms(loop);
    push(stuck, entry);
}

/* An entry that waits for nothing any more. */
static void send_or_set_aside(inv_serve_loop *loop, inv_serve_parked *entry) {
    loop->requests_in_flight -= entry->requests;
    loop->bytes_in_flight -= entry->bytes;
    sent outcome = send_reply(loop, entry);
    if (INV_LIKELY(outcome != PEER_FULL)) finish(loop, entry, outcome);
    else set_aside(loop, entry);
}

/* Each of the stuck gets a turn; a turn of the loop ends after so many that still find no room. */
static void retry_stuck(inv_serve_loop *loop) {
    inv_serve_queue *stuck = &loop->stuck;
    uint32_t failures = 0;
    for (uint32_t left = stuck->count; left > 0 && failures < STUCK_FAILURES; left--) {
        inv_serve_parked entry = *entry_at(stuck, 0);
        pop(stuck);
        sent outcome = send_reply(loop, &entry);
        failures += outcome == PEER_FULL;
        if (outcome == PEER_FULL &&
            now_ms(loop) - entry.since_ms <= loop->serve->options.stuck_ms_max) {
            push(stuck, &entry);
            continue;
        }
        loop->stuck_bytes -= entry.bytes;
        finish(loop, &entry, outcome);
    }
}

/* Sends what is safe by now, from the head. INV_OK, INV_BUSY: some must wait; INV_STORE_FAILED. */
static inv_result release(inv_serve_loop *loop, inv_serve_queue *queue, bool on_disk) {
    while (queue->count > 0) {
        uint64_t lsn = entry_at(queue, 0)->lsn;
        inv_result safe = on_disk ? inv_store_barrier(loop->store, lsn, 0)
                                  : inv_store_wait(loop->store, lsn, 0);
        if (safe != INV_OK) return safe;
        inv_serve_parked entry = *entry_at(queue, 0);
        pop(queue);
        send_or_set_aside(loop, &entry);
    }
    return INV_OK;
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* Frames after the second are thrown away. True: there were some. */
static bool drop_more(inv_serve_loop *loop, inv_zmq_message *body) {
    bool more = false;
    while (loop->zmq->msg_more(body)) { /* they are all there: a message comes whole */
        more = true;
        if (loop->zmq->msg_recv(body, loop->socket, ZMQ_DONTWAIT) < 0) break;
    }
    return more;
}

/* INV_BUSY: there is nothing more. */
static inv_result receive_one(inv_serve_loop *loop, inv_serve_received *out, bool *out_one_frame) {
    const inv_zmq *zmq = loop->zmq;
    (void)zmq->msg_init(&out->identity);
    (void)zmq->msg_init(&out->body);
    if (zmq->msg_recv(&out->identity, loop->socket, ZMQ_DONTWAIT) < 0) {
        int code = zmq->error();
        close_both(loop, &out->identity, &out->body);
        return code == ZMQ_ETERM ? INV_STORE_CLOSED : INV_BUSY;
    }
    bool has_body = zmq->msg_more(&out->identity) != 0 &&
                    zmq->msg_recv(&out->body, loop->socket, ZMQ_DONTWAIT) >= 0;
    *out_one_frame = has_body && !drop_more(loop, &out->body);
    return INV_OK;
}

static void refuse_requests(inv_serve_loop *loop, const inv_serve_received *received,
                            uint8_t code) {
    for (uint32_t i = received->first; i < received->first + received->count; i++)
        loop->arena.requests[i].refusal = (inv_wire_refusal){.code = code};
}

/* Room for the answers of one more message, whichever queue it will be in. */
static bool has_room(const inv_serve_loop *loop, uint32_t requests) {
    const inv_serve_options *options = &loop->serve->options;
    uint32_t before = loop->received_count;
    return loop->requests_in_flight + requests <= options->requests_in_flight_max &&
           loop->bytes_in_flight <= options->reply_bytes_in_flight_max &&
           loop->parked.count + before < loop->parked.capacity &&
           (loop->durability != INV_INTERVAL ||
            loop->synced.count + before < loop->synced.capacity);
}

/* Decodes, and decides whether there is room for its answers. What is refused here waits for
 * nothing, and so for no place in a queue. */
static void admit(inv_serve_loop *loop, inv_serve_received *received, bool one_frame) {
    inv_wire_arena *arena = &loop->arena;
    received->first = arena->request_count;
    received->count = 1;
    if (one_frame)
        received->count = inv_wire_decode(loop->zmq->msg_data(&received->body),
                                          loop->zmq->msg_size(&received->body), arena);
    else
        inv_wire_refuse_message(&arena->requests[arena->request_count++]);
    const inv_wire_refusal *refusal = &arena->requests[received->first].refusal;
    if (refusal->code != INV_OK && refusal->path != NULL && refusal->path[0] == 'm')
        inv_serve_count(&loop->refused_messages, 1);
    inv_serve_count(&loop->messages, 1);
    inv_serve_count(&loop->requests, received->count);
    inv_serve_refuse_asks(loop, received->first, received->count);
    if (atomic_load_explicit(&loop->serve->stopping, memory_order_relaxed) != 0)
        refuse_requests(loop, received, INV_STORE_CLOSED);
    else if (!has_room(loop, received->count))
        refuse_requests(loop, received, INV_BUSY);
    loop->requests_in_flight += received->count;
}

/* Takes in what is there, within the bounds of a turn. */
static inv_result receive(inv_serve_loop *loop) {
    inv_result result = INV_OK;
    uint64_t bytes = 0;
    loop->arena.request_count = loop->arena.command_count = loop->arena.line_count = 0;
    loop->received_count = loop->run_count = 0;
    loop->received_ms = now_ms(loop);
    while (loop->received_count < INV_SERVE_TURN_MESSAGES && bytes < INV_SERVE_TURN_BYTES &&
           inv_wire_has_room(&loop->arena)) {
        inv_serve_received *received = &loop->received[loop->received_count];
        bool one_frame;
        result = receive_one(loop, received, &one_frame);
        if (result != INV_OK) break;
        bytes += loop->zmq->msg_size(&received->body);
        admit(loop, received, one_frame);
        loop->received_count++;
    }
    return result == INV_BUSY ? INV_OK : result;
}

/* ---- answering ------------------------------------------------------------------------------- */

/* The replies made in loop->out go on their way. */
static void park(inv_serve_loop *loop, inv_serve_received *received) {
    const inv_serve_message *made = &loop->message;
    inv_serve_parked entry = {.identity = received->identity,
                              .lsn = made->lsn,
                              .requests = received->count,
                              .bytes = (uint32_t)made->bytes};
    (void)loop->zmq->msg_close(&received->body);
    loop->bytes_in_flight += entry.bytes;
    if (loop->zmq->msg_init_size(&entry.body, made->bytes) != 0) { /* out of memory: unanswered */
        (void)loop->zmq->msg_init(&entry.body);
        loop->requests_in_flight -= entry.requests;
        loop->bytes_in_flight -= entry.bytes;
        finish(loop, &entry, PEER_FULL);
        return;
    }
    memcpy(loop->zmq->msg_data(&entry.body), loop->out, made->bytes);
    if (made->lsn == 0) send_or_set_aside(loop, &entry);
    else push(made->to_disk ? &loop->synced : &loop->parked, &entry);
}

/* INV_STORE_FAILED: nothing more may be said. */
static inv_result answer_all(inv_serve_loop *loop) {
    inv_result result = INV_OK;
    for (uint32_t i = 0; i < loop->received_count; i++) {
        inv_serve_received *received = &loop->received[i];
        if (result == INV_OK) result = inv_serve_answer(loop, received);
        if (result == INV_OK) park(loop, received);
        else close_both(loop, &received->identity, &received->body);
    }
    return result;
}

/* ---- turns ----------------------------------------------------------------------------------- */

/* Asks the watcher to ring when the head of the queue is safe. */
static void arm(inv_serve_loop *loop) {
    if (loop->parked.count == 0 || loop->durability != INV_DURABLE) return;
    uint64_t lsn = entry_at(&loop->parked, 0)->lsn;
    if (atomic_exchange_explicit(&loop->wanted_lsn, lsn, memory_order_acq_rel) != 0) return;
    atomic_fetch_add_explicit(&loop->serve->bell, 1, memory_order_release);
    inv_futex_wake_all(&loop->serve->bell);
}

static long poll_ms(const inv_serve_loop *loop) {
    if (loop->durability == INV_INTERVAL && loop->parked.count > 0) return 0; /* microseconds */
    return loop->stuck.count > 0 || loop->synced.count > 0 ? POLL_WAITING_MS : POLL_MS;
}

static void publish_counts(inv_serve_loop *loop) {
    atomic_store_explicit(&loop->requests_parked, loop->requests_in_flight, memory_order_relaxed);
    atomic_store_explicit(&loop->bytes_parked, loop->bytes_in_flight, memory_order_relaxed);
}

/* Stopping, and all is answered: nothing is under way, and nothing came for a while. */
static bool is_done(inv_serve_loop *loop) {
    if (atomic_load_explicit(&loop->serve->stopping, memory_order_acquire) == 0) return false;
    uint64_t now = now_ms(loop);
    if (loop->stopping_since_ms == 0) loop->stopping_since_ms = now;
    uint64_t took_ms = now - loop->stopping_since_ms;
    if (took_ms > loop->serve->options.stop_ms_max) return true;
    return took_ms >= QUIET_MS && loop->parked.count == 0 && loop->synced.count == 0 &&
           loop->stuck.count == 0;
}

static inv_result turn(inv_serve_loop *loop) {
    inv_zmq_pollitem items[2] = {{.socket = loop->socket, .events = ZMQ_POLLIN},
                                 {.fd = loop->event_fd, .events = ZMQ_POLLIN}};
    uint64_t rings = 0;
    long wait_ms = poll_ms(loop);
    loop->received_count = 0;
    if (loop->zmq->poll(items, 2, wait_ms) < 0 && loop->zmq->error() == ZMQ_ETERM)
        return INV_STORE_CLOSED;
    if (items[1].revents != 0) (void)eventfd_read(loop->event_fd, &rings);
    inv_result result = receive(loop);
    if (result == INV_OK) result = answer_all(loop);
    if (result != INV_OK) return result;
    retry_stuck(loop);
    result = release(loop, &loop->parked, false);
    if (result == INV_OK || result == INV_BUSY) result = release(loop, &loop->synced, true);
    arm(loop);
    publish_counts(loop);
    return result == INV_BUSY ? INV_OK : result;
}

inv_result inv_serve_run(inv_serve_loop *loop) {
    inv_result result = INV_OK;
    while (result == INV_OK && !is_done(loop)) {
        result = turn(loop);
        if (inv_wal_failed(&loop->store->wal)) result = INV_STORE_FAILED;
    }
    return result;
}

void inv_serve_stop(inv_serve *serve) {
    atomic_store_explicit(&serve->stopping, 1, memory_order_release);
    for (uint32_t i = 0; i < serve->loop_count; i++)
        (void)eventfd_write(serve->loops[i]->event_fd, 1);
}

void inv_serve_counts_of(const inv_serve_loop *loop, inv_serve_counts *out) {
    inv_serve_loop *l = (inv_serve_loop *)loop;
    *out = (inv_serve_counts){
        .messages = atomic_load_explicit(&l->messages, memory_order_relaxed),
        .requests = atomic_load_explicit(&l->requests, memory_order_relaxed),
        .replies = atomic_load_explicit(&l->replies_sent, memory_order_relaxed),
        .busy = atomic_load_explicit(&l->busy, memory_order_relaxed),
        .refused_messages = atomic_load_explicit(&l->refused_messages, memory_order_relaxed),
        .dropped_gone = atomic_load_explicit(&l->dropped_gone, memory_order_relaxed),
        .dropped_stuck = atomic_load_explicit(&l->dropped_stuck, memory_order_relaxed),
        .requests_parked = atomic_load_explicit(&l->requests_parked, memory_order_relaxed),
        .reply_bytes_parked = atomic_load_explicit(&l->bytes_parked, memory_order_relaxed)};
}

/* ---- the watcher ----------------------------------------------------------------------------- */

/* Lowest lsn that a loop waits for; 0: none does. */
static uint64_t wanted(const inv_serve *serve) {
    uint64_t lowest = 0;
    for (uint32_t i = 0; i < serve->loop_count; i++) {
        uint64_t lsn = atomic_load_explicit(&serve->loops[i]->wanted_lsn, memory_order_acquire);
        if (lsn != 0 && (lowest == 0 || lsn < lowest)) lowest = lsn;
    }
    return lowest;
}

/* Rings where `lsn` is enough. */
static void ring(inv_serve *serve, uint64_t lsn) {
    for (uint32_t i = 0; i < serve->loop_count; i++) {
        inv_serve_loop *loop = serve->loops[i];
        uint64_t wants = atomic_load_explicit(&loop->wanted_lsn, memory_order_acquire);
        if (wants == 0 || wants > lsn) continue;
        atomic_store_explicit(&loop->wanted_lsn, 0, memory_order_release);
        (void)eventfd_write(loop->event_fd, 1); /* fails only when full: it rings anyway */
    }
}

void inv_serve_watch(inv_serve *serve) {
    inv_wal *wal = &serve->store->wal;
    while (atomic_load_explicit(&serve->watch_ends, memory_order_acquire) == 0) {
        uint32_t seen = atomic_load_explicit(&serve->bell, memory_order_acquire);
        uint64_t durable = inv_wal_durable(wal), lowest = wanted(serve);
        if (inv_wal_failed(wal)) { /* the loops see it, too */
            ring(serve, UINT64_MAX);
            inv_futex_wait(&serve->bell, seen, WATCH_MS);
        } else if (lowest == 0) {
            inv_futex_wait(&serve->bell, seen, WATCH_MS);
        } else if (lowest <= durable) {
            ring(serve, durable);
        } else {
            /* Any progress, not that of the lowest: another loop may begin to wait for less. */
            inv_result result = inv_store_wait(serve->store, durable + 1, WATCH_MS);
            (void)result; /* not yet, or failed: the next look sees it */
        }
    }
}

void inv_serve_end_watch(inv_serve *serve) {
    atomic_store_explicit(&serve->watch_ends, 1, memory_order_release);
    atomic_fetch_add_explicit(&serve->bell, 1, memory_order_release);
    inv_futex_wake_all(&serve->bell);
}
