/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wire.h: the wire protocol, version 1, as docs/wire.md has it: messages to commands and back.
 *
 * Pure functions over the caller's memory: no socket, no store, no lock, no allocation, no state.
 * It knows types, positions and what a message may hold; the values of fields (ranges, lengths,
 * UTF-8) are the engine's to check, once, as it does for every caller.
 *
 *     message -> inv_wire_decode -> requests + commands + lines in the caller's arena
 *     reply   -> inv_wire_put_*  -> bytes in the caller's buffer
 *
 * Texts and columns of what is decoded point into the message, which must outlive them. A message
 * whose framing is broken is refused as a whole: all its requests have a code then, and the arena
 * has no command of it.
 *
 * The client's side, for load generators and tests, is in inv_wire_client.h.
 */
#ifndef INV_WIRE_H
#define INV_WIRE_H

#include "../base/inv_base.h"

#define INV_WIRE_VERSION 1u

#define INV_WIRE_MESSAGE_BYTES_MIN 65536u
#define INV_WIRE_MESSAGE_BYTES_DEFAULT (1u << 20)
#define INV_WIRE_MESSAGE_BYTES_MAX (16u << 20)
#define INV_WIRE_REQUEST_COUNT_MAX 4096u /* of a message */
#define INV_WIRE_LINE_COUNT_MAX 16384u   /* of a message; of a request: INV_LINE_COUNT_MAX */
#define INV_WIRE_ROW_COUNT_MAX 16384u    /* of a batch */
#define INV_WIRE_NAME_COUNT_MAX 4096u    /* of a request */
#define INV_WIRE_REPLY_BYTES_MAX (16u << 20) /* of a message of replies */
#define INV_WIRE_DEADLINE_MS_MAX 86400000u
#define INV_WIRE_CLIENT_BYTES_MAX 64u

/* Operations. Gaps are reserved; docs/wire.md says for what. */
typedef enum inv_wire_op {
    INV_WIRE_NONE = 0,
    INV_WIRE_RESERVE = 1,
    INV_WIRE_RESERVE_LINES = 2,
    INV_WIRE_COMMIT = 3,
    INV_WIRE_SHIP = 4,
    INV_WIRE_RELEASE = 5,
    INV_WIRE_CANCEL = 6,
    INV_WIRE_EXTEND = 7,
    INV_WIRE_RECEIVE = 8,
    INV_WIRE_ISSUE = 9,
    INV_WIRE_ADJUST = 10,
    INV_WIRE_SET_ON_HAND = 11,
    INV_WIRE_SET_POLICY = 12,
    INV_WIRE_AVAILABILITY = 16,
    INV_WIRE_AVAILABILITY_SKU = 17,
    INV_WIRE_RESERVATION = 18,
    INV_WIRE_SKU_IDS = 24,
    INV_WIRE_LOCATION_IDS = 25,
    INV_WIRE_SKU_NAMES = 26,
    INV_WIRE_LOCATION_NAMES = 27,
    INV_WIRE_RESERVE_BATCH = 32,
    INV_WIRE_RECEIVE_BATCH = 33,
    INV_WIRE_ISSUE_BATCH = 34,
    INV_WIRE_ADJUST_BATCH = 35,
    INV_WIRE_COMMIT_BATCH = 36,
    INV_WIRE_SHIP_BATCH = 37,
    INV_WIRE_RELEASE_BATCH = 38,
    INV_WIRE_CANCEL_BATCH = 39,
    INV_WIRE_EXTEND_BATCH = 40,
    INV_WIRE_AVAILABILITY_BATCH = 41,
    INV_WIRE_HELLO = 48,
    INV_WIRE_PING = 49,
    INV_WIRE_BARRIER = 50
} inv_wire_op;

#define INV_WIRE_OP_MAX INV_WIRE_BARRIER

/* Bits of `flags`. */
#define INV_WIRE_USE_SAFETY_STOCK 1u
#define INV_WIRE_REHOLD 2u
#define INV_WIRE_KEEP_REST 4u
#define INV_WIRE_SHORTEN 8u
#define INV_WIRE_TOMBSTONE 16u
#define INV_WIRE_STRICT 32u
#define INV_WIRE_RELAXED 64u
#define INV_WIRE_CREATE 128u

/* A refusal that the wire itself makes, or one of the engine's with a path. */
typedef struct inv_wire_refusal {
    uint8_t code;    /* inv_result; INV_OK: none */
    bool has_figure; /* figure and limit mean something */
    uint32_t index;  /* for the "[]" in path */
    const char *path; /* static */
    int64_t figure, limit;
} inv_wire_refusal;

/* Columns of a batch as they stand in the message: any alignment. */
typedef struct inv_wire_batch {
    uint32_t count;
    const uint8_t *ids, *skus, *locations, *qtys, *ttls; /* NULL: not given */
    uint64_t ttl_ms;                                     /* for all rows, if ttls is NULL */
    inv_text account, seller, reason;
} inv_wire_batch;

typedef struct inv_wire_request {
    uint64_t correlation;
    bool has_correlation;
    bool asks_durability; /* `durability` was given */
    uint8_t op;           /* inv_wire_op; INV_WIRE_NONE: not known, refused */
    uint8_t durability;   /* inv_durability */
    uint8_t flags;        /* INV_WIRE_* bits */
    uint32_t deadline_ms; /* 0: none */
    uint64_t min_lsn;
    inv_wire_refusal refusal; /* code not OK: nothing of what follows is set */
    union {
        uint32_t command;  /* changes of one: index into the arena's commands */
        struct {           /* AVAILABILITY, AVAILABILITY_SKU */
            inv_line line;
            inv_text seller;
        } row;
        struct { /* RESERVATION */
            inv_text id, seller;
            bool id_is_uuid;
        } reservation;
        struct { /* names: msgpack texts, each known to be one; numbers: a column */
            const uint8_t *at;
            uint32_t bytes, count;
            inv_text seller;
        } names;
        inv_wire_batch batch;
        struct { /* BARRIER */
            uint64_t lsn;
            bool given;
        } barrier;
        inv_text client; /* HELLO; bytes NULL: not given */
    };
} inv_wire_request;

/* Where requests are decoded to. Before each message there must be room for the largest one: for
 * INV_WIRE_REQUEST_COUNT_MAX requests and commands and INV_WIRE_LINE_COUNT_MAX lines. The commands
 * of consecutive requests are consecutive. */
typedef struct inv_wire_arena {
    inv_wire_request *requests;
    inv_command *commands;
    inv_line *lines;
    uint32_t request_count, request_max;
    uint32_t command_count, command_max;
    uint32_t line_count, line_max;
} inv_wire_arena;

/* Is there room for one more message, whatever is in it? */
bool inv_wire_has_room(const inv_wire_arena *arena);

/* Appends the requests of a message to the arena; returns how many, at least 1. */
uint32_t inv_wire_decode(const uint8_t *message, size_t bytes, inv_wire_arena *arena);

/* One request to answer a message that is not even one frame, or is too long. */
void inv_wire_refuse_message(inv_wire_request *out);

/* The next `count` names of a request for numbers; at: where the last call ended (at first
 * request->names.at). */
const uint8_t *inv_wire_names(const inv_wire_request *request, const uint8_t *at, uint32_t count,
                              inv_text *out);

/* Makes an inv_batch of columns, copied into `room` where they are to be aligned: 8-aligned, at
 * least INV_WIRE_BATCH_ROOM(count) bytes. kind of AVAILABILITY_BATCH: 0. */
#define INV_WIRE_BATCH_ROOM(rows) ((size_t)(rows) * 18 + 32)
void inv_wire_align_batch(const inv_wire_request *request, void *room, inv_batch *out);

/* The inv_command_kind of an operation of one command or of a batch; 0: it is none. */
uint8_t inv_wire_command_kind(uint8_t op);
static inline bool inv_wire_is_command(uint8_t op) {
    return op >= INV_WIRE_RESERVE && op <= INV_WIRE_SET_POLICY;
}
static inline bool inv_wire_is_batch(uint8_t op) {
    return op >= INV_WIRE_RESERVE_BATCH && op <= INV_WIRE_EXTEND_BATCH;
}

/* ---- replies --------------------------------------------------------------------------------- */

/* What every reply says. */
typedef struct inv_wire_answer {
    uint64_t lsn;
    uint64_t mark; /* epoch * 2 + durable */
} inv_wire_answer;

/* Texts of numbers. The text must stay until the next call. Length 0: there is no such number. */
typedef struct inv_wire_namer {
    void *context;
    inv_text (*name)(void *context, inv_name_kind kind, uint32_t number);
} inv_wire_namer;

/* Bytes that one line, short line or row takes at most, and a reply without any of them. */
#define INV_WIRE_REPLY_HEAD_BYTES 160u
#define INV_WIRE_REPLY_LINE_BYTES 256u
#define INV_WIRE_SHORT_LINE_BYTES 768u
#define INV_WIRE_LEVEL_BYTES 192u

/* All of these write one reply to `out`, which has room for as much as is said, and return where it
 * ends. */

/* A refusal with a path, or a code without fields. At most INV_WIRE_REPLY_HEAD_BYTES. */
uint8_t *inv_wire_put_refusal(uint8_t *out, const inv_wire_request *request, inv_wire_answer answer,
                              const inv_wire_refusal *refusal);

/* INV_BUSY and INV_RATE_LIMITED (figure: retry_after_ms, 0: nil), INV_LAGGING (figure: bytes), or a
 * code without fields. INV_OK too: a reply that says nothing more (PING, BARRIER). At most
 * INV_WIRE_REPLY_HEAD_BYTES. */
uint8_t *inv_wire_put_code(uint8_t *out, const inv_wire_request *request, inv_wire_answer answer,
                           int code, uint64_t figure);

/* The reply of a command, or of RESERVATION. Room: inv_wire_reply_room(reply). with_lines false:
 * INV_WIRE_REPLY_HEAD_BYTES + INV_WIRE_LEVEL_BYTES do. */
size_t inv_wire_reply_room(const inv_reply *reply);
uint8_t *inv_wire_put_reply(uint8_t *out, const inv_wire_request *request, inv_wire_answer answer,
                            const inv_reply *reply, const inv_wire_namer *namer, bool with_lines);

/* AVAILABILITY: rows NULL. AVAILABILITY_SKU: level has the totals. Room: INV_WIRE_REPLY_HEAD_BYTES
 * and INV_WIRE_LEVEL_BYTES for each of 1 + count levels. */
uint8_t *inv_wire_put_level(uint8_t *out, const inv_wire_request *request, inv_wire_answer answer,
                            const inv_stock_level *level, const inv_stock_level *rows,
                            uint32_t count, const inv_wire_namer *namer);

/* Head of a reply whose last value is a bin of `bytes` bytes, which the caller writes where it
 * ends: codes, numbers, levels of batches. At most INV_WIRE_REPLY_HEAD_BYTES. */
uint8_t *inv_wire_put_bin_head(uint8_t *out, const inv_wire_request *request,
                               inv_wire_answer answer, uint32_t bytes);

/* SKU_NAMES, LOCATION_NAMES: an array of `count` texts follows, by inv_msgpack_put_str. */
uint8_t *inv_wire_put_names_head(uint8_t *out, const inv_wire_request *request,
                                 inv_wire_answer answer, uint32_t count);

typedef struct inv_wire_hello {
    inv_text server; /* at most 64 bytes */
    uint8_t store_uuid[16];
    uint8_t durability; /* inv_durability */
    uint32_t interval_ms;
    uint64_t now_unix_ms;
    uint64_t message_bytes_max;
    uint64_t silence_ms_max;
} inv_wire_hello;

/* At most 2 * INV_WIRE_REPLY_HEAD_BYTES. */
uint8_t *inv_wire_put_hello(uint8_t *out, const inv_wire_request *request, inv_wire_answer answer,
                            const inv_wire_hello *hello);

#endif
