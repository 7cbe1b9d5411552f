/* SPDX-License-Identifier: Apache-2.0
 *
 * test_serve.c: the server's loop over sockets that are an array. The disk is synced by hand, so a
 * test says when a reply may leave; peers are full or gone by the first letter of their identity.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../src/invcore/base/inv_env.h"
#include "../../src/invcore/serve/inv_serve.h"
#include "../../src/invcore/wire/inv_wire_client.h"
#include "shop.h"

#define FRAMES_MAX 8192
#define WAIT_MS 5000

/* ---- libzmq, as far as the loop knows it ------------------------------------------------------
 * */

typedef struct frame {
    size_t size;
    bool more;
    uint8_t bytes[];
} frame;

typedef struct sent_reply {
    char peer;
    frame *body;
} sent_reply;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static frame *inbox[FRAMES_MAX];
static uint32_t inbox_head, inbox_count;
static sent_reply outbox[FRAMES_MAX];
static uint32_t outbox_count;
static char peer_now;       /* the identity went through; its body follows */
static bool peers_full;     /* of peers 'F' */
static _Atomic int64_t live; /* messages that hold something */
static _Thread_local int last_error;
static void (*on_receive)(void);

static frame **slot_of(inv_zmq_message *message) { return (frame **)(void *)message->bytes; }

static int fake_init(inv_zmq_message *message) {
    *slot_of(message) = NULL;
    return 0;
}

static frame *new_frame(const void *bytes, size_t size, bool more) {
    frame *made = malloc(sizeof *made + size);
    made->size = size;
    made->more = more;
    if (bytes != NULL && size > 0) memcpy(made->bytes, bytes, size);
    atomic_fetch_add(&live, 1);
    return made;
}

static void free_frame(frame *old) {
    if (old != NULL) atomic_fetch_sub(&live, 1);
    free(old);
}

static int fake_init_size(inv_zmq_message *message, size_t size) {
    *slot_of(message) = new_frame(NULL, size, false);
    return 0;
}

static int fake_close(inv_zmq_message *message) {
    free_frame(*slot_of(message));
    *slot_of(message) = NULL;
    return 0;
}

static int fake_recv(inv_zmq_message *message, void *socket, int flags) {
    (void)socket;
    (void)flags;
    pthread_mutex_lock(&mutex);
    bool there = inbox_count > 0;
    if (there) {
        free_frame(*slot_of(message));
        *slot_of(message) = inbox[inbox_head % FRAMES_MAX];
        inbox_head++;
        inbox_count--;
    } else {
        last_error = EAGAIN;
    }
    pthread_mutex_unlock(&mutex);
    if (there && on_receive != NULL) on_receive();
    return there ? 0 : -1;
}

static int fake_send(inv_zmq_message *message, void *socket, int flags) {
    frame *part = *slot_of(message);
    (void)socket;
    pthread_mutex_lock(&mutex);
    if (flags & 2) { /* SNDMORE: the identity */
        peer_now = (char)part->bytes[0];
        last_error = peer_now == 'G' ? EHOSTUNREACH : peer_now == 'F' && peers_full ? EAGAIN : 0;
    } else {
        last_error = 0;
        outbox[outbox_count++] = (sent_reply){peer_now, part};
    }
    bool ok = last_error == 0;
    if (ok) *slot_of(message) = NULL;
    if (ok && (flags & 2)) free_frame(part);
    pthread_mutex_unlock(&mutex);
    return ok ? 0 : -1;
}

static void *fake_data(inv_zmq_message *message) {
    static uint8_t nothing[1];
    frame *held = *slot_of(message);
    return held == NULL ? nothing : held->bytes;
}

static size_t fake_size(const inv_zmq_message *message) {
    const frame *held = *(frame *const *)(const void *)message->bytes;
    return held == NULL ? 0 : held->size;
}

static int fake_more(const inv_zmq_message *message) {
    const frame *held = *(frame *const *)(const void *)message->bytes;
    return held != NULL && held->more;
}

static int fake_poll(inv_zmq_pollitem *items, int count, long timeout_ms) {
    (void)count;
    pthread_mutex_lock(&mutex);
    items[0].revents = inbox_count > 0;
    pthread_mutex_unlock(&mutex);
    struct pollfd watched = {.fd = items[1].fd, .events = POLLIN};
    int wait_ms = items[0].revents || timeout_ms == 0 ? 0 : timeout_ms < 2 ? 1 : 2;
    items[1].revents = poll(&watched, 1, wait_ms) > 0;
    return items[0].revents + items[1].revents;
}

static int fake_error(void) { return last_error; }

static const inv_zmq fake = {fake_init,  fake_init_size, fake_recv, fake_send, fake_close,
                             fake_data,  fake_size,      fake_more, fake_poll, fake_error};

/* ---- a server over it -------------------------------------------------------------------------
 * */

typedef struct rig {
    shop shop;
    inv_serve *serve;
    inv_serve_loop *loop;
    int event_fd;
    pthread_t runner, watcher;
    inv_result result;
} rig;

static void *run(void *argument) {
    rig *r = argument;
    r->result = inv_serve_run(r->loop);
    return NULL;
}

static void *watch(void *argument) {
    inv_serve_watch(((rig *)argument)->serve);
    return NULL;
}

/* NULL options: the usual ones. */
static void rig_start(rig *r, const inv_serve_options *options) {
    inv_serve_options usual;
    inv_error error = {0};
    inv_serve_options_init(&usual);
    inbox_head = inbox_count = outbox_count = 0;
    peers_full = false;
    CHECK_EQ(inv_serve_create(r->shop.store, &fake, options == NULL ? &usual : options, &r->serve,
                              &error),
             INV_OK);
    r->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK_EQ(inv_serve_add_loop(r->serve, NULL, r->event_fd, &r->loop, &error), INV_OK);
    pthread_create(&r->watcher, NULL, watch, r);
    pthread_create(&r->runner, NULL, run, r);
}

static void rig_open(rig *r, inv_durability durability) {
    memset(r, 0, sizeof *r);
    shop_init(&r->shop, durability != INV_MEMORY);
    r->shop.options.durability = durability;
    CHECK_EQ(shop_open(&r->shop), INV_OK);
}

static void nap(void) {
    const struct timespec ms = {.tv_nsec = 1000000};
    nanosleep(&ms, NULL);
}

/* Waits until so many replies have left. */
static bool replies(uint32_t count) {
    for (uint32_t i = 0; i < WAIT_MS; i++) {
        pthread_mutex_lock(&mutex);
        bool enough = outbox_count >= count;
        pthread_mutex_unlock(&mutex);
        if (enough) return true;
        nap();
    }
    return false;
}

/* True if for a while no more than `count` replies have left. */
static bool no_more_than(uint32_t count) {
    for (uint32_t i = 0; i < 30; i++) nap();
    pthread_mutex_lock(&mutex);
    bool ok = outbox_count <= count;
    pthread_mutex_unlock(&mutex);
    return ok;
}

static void rig_join(rig *r) {
    pthread_join(r->runner, NULL);
    inv_serve_end_watch(r->serve);
    pthread_join(r->watcher, NULL);
    inv_serve_destroy(r->serve);
    close(r->event_fd);
    for (uint32_t i = 0; i < outbox_count; i++) free_frame(outbox[i].body);
    outbox_count = 0;
    CHECK_EQ(atomic_load(&live), 0);
    shop_end(&r->shop);
}

/* Stops and frees all; the clock has to move for the loop to see that it is quiet. */
static void rig_stop(rig *r) {
    inv_serve_stop(r->serve);
    for (uint32_t i = 0; i < 6; i++) {
        for (uint32_t k = 0; k < 10; k++) nap();
        inv_env_set_clock(r->shop.env, r->shop.clock_ms += 200);
    }
    rig_join(r);
    CHECK_EQ(r->result, INV_OK);
}

static void deliver(char peer, const void *bytes, size_t size) {
    pthread_mutex_lock(&mutex);
    inbox[(inbox_head + inbox_count++) % FRAMES_MAX] = new_frame(&peer, 1, true);
    inbox[(inbox_head + inbox_count++) % FRAMES_MAX] = new_frame(bytes, size, false);
    pthread_mutex_unlock(&mutex);
}

static uint8_t *put_reserve(uint8_t *out, uint64_t correlation, const char *id, int64_t qty,
                            const inv_wire_ask *ask) {
    const inv_line line = {.sku = inv_text_of("TEE"), .location = inv_text_of("LON"), .qty = qty};
    const inv_command command = {
        .kind = INV_CMD_RESERVE, .id = inv_text_of(id), .lines = &line, .line_count = 1};
    return inv_wire_put_command(out, correlation, INV_WIRE_RESERVE, ask, &command);
}

static void reserve(char peer, uint64_t correlation, const char *id, int64_t qty) {
    uint8_t room[INV_WIRE_REQUEST_HEAD_BYTES];
    uint8_t *end = put_reserve(room, correlation, id, qty, NULL);
    deliver(peer, room, (size_t)(end - room));
}

static void ping(char peer, uint64_t correlation) {
    uint8_t room[INV_WIRE_REQUEST_HEAD_BYTES];
    uint8_t *end = inv_wire_put_plain(room, correlation, INV_WIRE_PING);
    deliver(peer, room, (size_t)(end - room));
}

/* The first reply of message `index` of those that left. */
static inv_wire_reply reply_at(uint32_t index) {
    inv_wire_reply reply = {.code = 255};
    pthread_mutex_lock(&mutex);
    if (index < outbox_count) {
        frame *body = outbox[index].body;
        inv_msgpack_reader reader = {body->bytes, body->bytes + body->size};
        if (!inv_wire_next_reply(&reader, &reply)) reply.code = 254;
    }
    pthread_mutex_unlock(&mutex);
    return reply;
}

static void receive_stock(rig *r, int64_t qty) {
    const inv_line line = {.sku = inv_text_of("TEE"), .location = inv_text_of("LON"), .qty = qty};
    const inv_command command = {.kind = INV_CMD_RECEIVE, .lines = &line, .line_count = 1};
    inv_reply reply = {0};
    CHECK_EQ(inv_store_execute(r->shop.store, &command, 1, &reply), INV_OK);
    CHECK_EQ(reply.code, INV_OK);
    if (r->shop.memory != NULL) CHECK_EQ(inv_store_flush(r->shop.store), INV_OK);
}

/* ---- waiting for the disk ---------------------------------------------------------------------
 * */

INV_TEST(nothing_leaves_before_the_disk_has_it) {
    rig r;
    rig_open(&r, INV_DURABLE);
    receive_stock(&r, 3);
    rig_start(&r, NULL);
    reserve('a', 1, "cart-1", 3);
    reserve('b', 2, "cart-2", 1); /* refused: it has seen cart-1 */
    reserve('c', 3, "cart-1", 3); /* a replay */
    ping('d', 4);
    CHECK(replies(1));
    CHECK(no_more_than(1));
    CHECK_EQ(reply_at(0).correlation, 4); /* which waits for nothing */
    CHECK_EQ(inv_store_flush(r.shop.store), INV_OK);
    CHECK(replies(4));
    const uint8_t codes[] = {INV_OK, INV_INSUFFICIENT, INV_REPLAYED};
    for (uint32_t i = 0; i < 3; i++) {
        inv_wire_reply reply = reply_at(1 + i);
        CHECK_EQ(reply.correlation, 1 + i);
        CHECK_EQ(reply.code, codes[i]);
        CHECK_EQ(reply.mark & 1, 1);
        CHECK_EQ(outbox[1 + i].peer, 'a' + (int)i);
    }
    rig_stop(&r);
}

INV_TEST(interval_mode_does_not_wait_unless_asked) {
    rig r;
    uint8_t room[2 * INV_WIRE_REQUEST_HEAD_BYTES];
    const inv_wire_ask ask = {.asks_durability = true, .durability = INV_DURABLE};
    rig_open(&r, INV_INTERVAL);
    receive_stock(&r, 9);
    rig_start(&r, NULL);
    reserve('a', 1, "cart-1", 1);
    CHECK(replies(1));
    CHECK_EQ(reply_at(0).mark & 1, 0);
    uint8_t *end = put_reserve(room, 2, "cart-2", 1, &ask);
    deliver('a', room, (size_t)(end - room));
    end = inv_wire_put_plain(room, 3, INV_WIRE_BARRIER);
    deliver('a', room, (size_t)(end - room));
    reserve('a', 4, "cart-4", 1); /* overtakes both */
    CHECK(replies(2));
    CHECK(no_more_than(2));
    CHECK_EQ(reply_at(1).correlation, 4);
    CHECK_EQ(inv_store_flush(r.shop.store), INV_OK);
    CHECK(replies(4));
    CHECK_EQ(reply_at(2).correlation, 2);
    CHECK_EQ(reply_at(2).mark & 1, 1);
    CHECK_EQ(reply_at(3).correlation, 3);
    CHECK_EQ(reply_at(3).mark & 1, 1);
    rig_stop(&r);
}

static inv_result (*real_sync)(void *, const inv_segment_map *, uint64_t, uint64_t, inv_error *);
static _Atomic bool sync_fails;

static inv_result failing_sync(void *context, const inv_segment_map *map, uint64_t offset,
                               uint64_t bytes, inv_error *error) {
    if (atomic_load(&sync_fails))
        return inv_fail(error, INV_IO_ERROR, EIO, "the disk is gone");
    return real_sync(context, map, offset, bytes, error);
}

INV_TEST(a_store_that_fails_says_nothing_more) {
    rig r;
    rig_open(&r, INV_DURABLE);
    receive_stock(&r, 3);
    real_sync = r.shop.env->storage.sync;
    r.shop.env->storage.sync = failing_sync;
    rig_start(&r, NULL);
    reserve('a', 1, "cart-1", 1);
    CHECK(no_more_than(0));
    atomic_store(&sync_fails, true);
    CHECK_EQ(inv_store_flush(r.shop.store), INV_STORE_FAILED);
    reserve('a', 2, "cart-2", 1);
    pthread_join(r.runner, NULL); /* by itself */
    CHECK_EQ(r.result, INV_STORE_FAILED);
    CHECK_EQ(outbox_count, 0);
    while (inbox_count > 0) free_frame(inbox[(inbox_head + --inbox_count) % FRAMES_MAX]);
    inv_serve_end_watch(r.serve);
    pthread_join(r.watcher, NULL);
    inv_serve_destroy(r.serve);
    CHECK_EQ(atomic_load(&live), 0);
    close(r.event_fd);
    atomic_store(&sync_fails, false);
    inv_store_destroy(r.shop.store);
    r.shop.store = NULL;
    inv_env_destroy(r.shop.env);
    inv_memory_destroy(r.shop.memory);
}

/* ---- room -------------------------------------------------------------------------------------
 * */

INV_TEST(beyond_the_room_it_is_busy_at_once) {
    rig r;
    inv_serve_options options;
    inv_serve_counts counts;
    inv_serve_options_init(&options);
    options.requests_in_flight_max = 3;
    options.busy_retry_ms = 77;
    rig_open(&r, INV_DURABLE);
    receive_stock(&r, 100);
    rig_start(&r, &options);
    char id[16];
    for (uint32_t i = 0; i < 5; i++) {
        snprintf(id, sizeof id, "cart-%u", i);
        reserve('a', i, id, 1);
    }
    CHECK(replies(2));
    CHECK(no_more_than(2));
    for (uint32_t i = 0; i < 2; i++) {
        inv_wire_reply reply = reply_at(i);
        inv_msgpack_token figure = {INV_MSGPACK_NIL, 0, NULL};
        CHECK_EQ(reply.code, INV_BUSY);
        CHECK_EQ(reply.correlation, 3 + i);
        CHECK(inv_msgpack_read(&reply.body, &figure));
        CHECK_EQ(figure.number, 77);
    }
    CHECK_EQ(inv_store_flush(r.shop.store), INV_OK);
    CHECK(replies(5));
    inv_serve_counts_of(r.loop, &counts);
    CHECK_EQ(counts.busy, 2);
    inv_metrics found;
    inv_store_metrics(r.shop.store, &found);
    CHECK_EQ(found.live_holds, 3);
    reserve('a', 9, "cart-9", 1); /* there is room again */
    CHECK(no_more_than(5));
    CHECK_EQ(inv_store_flush(r.shop.store), INV_OK);
    CHECK(replies(6));
    CHECK_EQ(reply_at(5).code, INV_OK);
    rig_stop(&r);
}

/* Codes of all replies that have left, counted. */
static uint32_t codes_seen(uint32_t counts[256]) {
    uint32_t total = 0;
    memset(counts, 0, 256 * sizeof counts[0]);
    for (uint32_t i = 0; i < outbox_count; i++) {
        inv_msgpack_reader reader = {outbox[i].body->bytes,
                                     outbox[i].body->bytes + outbox[i].body->size};
        inv_wire_reply reply;
        for (; inv_wire_next_reply(&reader, &reply); total++) counts[reply.code]++;
    }
    return total;
}

static void deliver_reserves(uint32_t first, uint32_t count) {
    uint8_t *room = malloc(64u * count), *end = room;
    for (uint32_t i = first; i < first + count; i++) {
        char id[16];
        snprintf(id, sizeof id, "cart-%u", i);
        end = put_reserve(end, i, id, 1, NULL);
    }
    deliver('a', room, (size_t)(end - room));
    free(room);
}

/* The log takes no more until it is synced: what found no place is BUSY and was not applied. */
INV_TEST(a_log_that_is_behind_makes_busy) {
    rig r;
    uint32_t counts[256];
    inv_metrics found;
    rig_open(&r, INV_DURABLE);
    receive_stock(&r, 1000000);
    rig_start(&r, NULL);
    for (uint32_t i = 0; i < 6; i++)
        deliver_reserves(i * INV_WIRE_REQUEST_COUNT_MAX, INV_WIRE_REQUEST_COUNT_MAX);
    CHECK(no_more_than(6));
    for (uint32_t i = 0; i < 50 && !replies(6); i++) shop_settle(&r.shop);
    shop_settle(&r.shop);
    CHECK(replies(6));
    CHECK_EQ(codes_seen(counts), 6 * INV_WIRE_REQUEST_COUNT_MAX);
    CHECK(counts[INV_OK] > 0 && counts[INV_BUSY] > 0);
    CHECK_EQ(counts[INV_OK] + counts[INV_BUSY], 6 * INV_WIRE_REQUEST_COUNT_MAX);
    inv_store_metrics(r.shop.store, &found);
    CHECK_EQ(found.live_holds, counts[INV_OK]);
    rig_stop(&r);
}

/* ... and in a batch marks the rest of the rows. */
INV_TEST(a_log_that_is_behind_marks_the_rest_of_a_batch) {
    rig r;
    const uint32_t count = INV_WIRE_ROW_COUNT_MAX;
    uint8_t *ids = calloc(count, 16), *codes = malloc(count);
    uint32_t *skus = malloc(4 * count), sku = 0;
    uint16_t *locations = calloc(count, 2);
    int64_t *qtys = malloc(8 * count);
    uint64_t lsn = 0;
    size_t bad = 0;
    inv_error error = {0};
    inv_metrics found;
    inv_text name = inv_text_of("TEE");
    rig_open(&r, INV_DURABLE);
    receive_stock(&r, 1000000);
    CHECK_EQ(inv_store_numbers(r.shop.store, INV_NAME_SKU, (inv_text){NULL, 0}, &name, 1, false,
                               &sku, &lsn, &bad),
             INV_OK);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(ids + 16 * i, &i, sizeof i);
        skus[i] = sku;
        qtys[i] = 1;
    }
    const inv_batch batch = {.kind = INV_CMD_RESERVE, .count = count, .skus = skus,
                             .locations = locations, .qtys = qtys, .ids = ids, .ttl_ms = 60000};
    uint32_t done = 0;
    CHECK_EQ(inv_store_try_execute_batch(r.shop.store, &batch, codes, &lsn, &error), INV_OK);
    while (done < count && codes[done] == INV_OK) done++;
    CHECK(done > 0 && done < count);
    for (uint32_t i = done; i < count; i++) CHECK_EQ(codes[i], INV_BUSY);
    inv_store_metrics(r.shop.store, &found);
    CHECK_EQ(found.live_holds, done);
    for (uint32_t k = 0; k < 50 && done < count; k++) { /* the same again, until all are through */
        shop_settle(&r.shop);
        CHECK_EQ(inv_store_try_execute_batch(r.shop.store, &batch, codes, &lsn, &error), INV_OK);
        for (done = 0; done < count && codes[done] <= INV_REPLAYED; done++) {}
    }
    CHECK_EQ(done, count);
    inv_store_metrics(r.shop.store, &found);
    CHECK_EQ(found.live_holds, count);
    free(ids);
    free(codes);
    free(skus);
    free(locations);
    free(qtys);
    shop_end(&r.shop);
}

INV_TEST(a_peer_without_room_holds_up_nobody) {
    rig r;
    inv_serve_counts counts;
    rig_open(&r, INV_MEMORY);
    receive_stock(&r, 100);
    rig_start(&r, NULL);
    pthread_mutex_lock(&mutex);
    peers_full = true;
    pthread_mutex_unlock(&mutex);
    reserve('F', 1, "cart-1", 1);
    reserve('a', 2, "cart-2", 1);
    ping('F', 3);
    ping('a', 4);
    CHECK(replies(2));
    CHECK(no_more_than(2));
    CHECK_EQ(outbox[0].peer, 'a');
    CHECK_EQ(outbox[1].peer, 'a');
    pthread_mutex_lock(&mutex);
    peers_full = false; /* it reads again: its replies were kept */
    pthread_mutex_unlock(&mutex);
    CHECK(replies(4));
    pthread_mutex_lock(&mutex);
    peers_full = true;
    pthread_mutex_unlock(&mutex);
    ping('F', 5);
    ping('G', 6);
    CHECK(no_more_than(4));
    inv_env_set_clock(r.shop.env, r.shop.clock_ms += 1001);
    CHECK(no_more_than(4));
    inv_serve_counts_of(r.loop, &counts);
    CHECK_EQ(counts.dropped_stuck, 1);
    CHECK_EQ(counts.dropped_gone, 1);
    CHECK_EQ(counts.replies, 4);
    CHECK_EQ(counts.requests_parked, 0);
    rig_stop(&r);
}

/* ---- deadlines, stopping ----------------------------------------------------------------------
 * */

static rig *ticking;

static void tick(void) { inv_env_set_clock(ticking->shop.env, ticking->shop.clock_ms += 5); }

INV_TEST(a_request_past_its_deadline_is_not_begun) {
    rig r;
    uint8_t room[4 * INV_WIRE_REQUEST_HEAD_BYTES], *end = room;
    const inv_wire_ask soon = {.deadline_ms = 2}, late = {.deadline_ms = 1000};
    rig_open(&r, INV_MEMORY);
    receive_stock(&r, 100);
    end = put_reserve(end, 1, "cart-1", 1, &late);
    end = put_reserve(end, 2, "cart-2", 1, &soon);
    end = put_reserve(end, 3, "cart-3", 1, NULL);
    ticking = &r;
    on_receive = tick; /* 5 ms pass between a message's taking from the socket and its judging */
    rig_start(&r, NULL);
    deliver('a', room, (size_t)(end - room));
    CHECK(replies(1));
    on_receive = NULL;
    frame *body = outbox[0].body;
    inv_msgpack_reader reader = {body->bytes, body->bytes + body->size};
    const uint8_t codes[] = {INV_OK, INV_BUSY, INV_OK};
    for (uint32_t i = 0; i < 3; i++) {
        inv_wire_reply reply = {.code = 255};
        CHECK(inv_wire_next_reply(&reader, &reply));
        CHECK_EQ(reply.code, codes[i]);
        CHECK_EQ(reply.correlation, 1 + i);
    }
    inv_metrics found;
    inv_store_metrics(r.shop.store, &found);
    CHECK_EQ(found.live_holds, 2);
    rig_stop(&r);
}

INV_TEST(stopping_answers_what_is_under_way) {
    rig r;
    rig_open(&r, INV_DURABLE);
    receive_stock(&r, 100);
    rig_start(&r, NULL);
    reserve('a', 1, "cart-1", 1);
    CHECK(no_more_than(0));
    inv_serve_stop(r.serve);
    for (uint32_t i = 0; i < 20; i++) nap();
    reserve('a', 2, "cart-2", 1);
    CHECK(replies(1));
    CHECK_EQ(reply_at(0).correlation, 2);
    CHECK_EQ(reply_at(0).code, INV_STORE_CLOSED);
    inv_env_set_clock(r.shop.env, r.shop.clock_ms += 300);
    CHECK(no_more_than(1)); /* quiet, but not done: one reply waits for the disk */
    CHECK_EQ(inv_store_flush(r.shop.store), INV_OK);
    CHECK(replies(2));
    CHECK_EQ(reply_at(1).correlation, 1);
    CHECK_EQ(reply_at(1).code, INV_OK);
    rig_stop(&r);
}

/* ---- anything ---------------------------------------------------------------------------------
 * */

INV_TEST(every_message_has_one_answer) {
    rig r;
    inv_test_rng rng = inv_test_rng_of(7);
    uint8_t bytes[256];
    const uint32_t count = (uint32_t)inv_test_scaled(2000);
    rig_open(&r, INV_MEMORY);
    receive_stock(&r, 1000000);
    rig_start(&r, NULL);
    for (uint32_t i = 0; i < count && i < 4000; i++) {
        char id[16];
        uint32_t changes = (uint32_t)inv_test_rng_below(&rng, 4);
        snprintf(id, sizeof id, "cart-%u", (uint32_t)inv_test_rng_below(&rng, 50));
        uint8_t *end = put_reserve(bytes, i, id, (int64_t)inv_test_rng_below(&rng, 5), NULL);
        size_t size = (size_t)(end - bytes);
        for (uint32_t k = 0; k < changes; k++)
            bytes[inv_test_rng_below(&rng, size)] = (uint8_t)inv_test_rng_u64(&rng);
        deliver('a', bytes, size);
        if (i % 64 == 63) CHECK(replies(i + 1));
    }
    uint32_t wanted = count < 4000 ? count : 4000;
    CHECK(replies(wanted));
    for (uint32_t i = 0; i < wanted; i++) CHECK(reply_at(i).code < 254);
    inv_check_report report;
    CHECK_EQ(inv_store_check(r.shop.store, &report), INV_OK);
    CHECK(report.ok);
    rig_stop(&r);
}

INV_TEST_MAIN()
