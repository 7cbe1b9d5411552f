/* SPDX-License-Identifier: Apache-2.0
 *
 * test_wire.c: the codec of the wire against tests/wire/vectors.json, and against everything that
 * is near to a vector: each truncation of each one, and each byte of each one set to all 256
 * values, in memory of exactly their size, so that a sanitizer sees a read outside. Limits are
 * tried at the limit and one beyond, replies at their largest.
 */
#include "inv_test.h"
#include "wire_check.h"

#define VECTOR_COUNT_MAX 256
#define VECTOR_BYTES_MAX 1024
#define DOCUMENT_BYTES_MAX (1u << 18)

typedef struct vector {
    char name[64];
    uint8_t request[VECTOR_BYTES_MAX], reply[VECTOR_BYTES_MAX];
    size_t request_bytes, reply_bytes;
    bool refused;
} vector;

static vector vectors[VECTOR_COUNT_MAX];
static uint32_t vector_count;

/* ---- reading the vectors: one a line, as the file is written ----------------------------------
 * */

static bool field(const char *line, const char *key, char *out, size_t room) {
    char wanted[48];
    snprintf(wanted, sizeof wanted, "\"%s\": \"", key);
    const char *at = strstr(line, wanted), *end;
    if (at == NULL) return false;
    at += strlen(wanted);
    end = strchr(at, '"');
    if (end == NULL || (size_t)(end - at) >= room) return false;
    memcpy(out, at, (size_t)(end - at));
    out[end - at] = '\0';
    return true;
}

static size_t bytes_of(const char *hex, uint8_t *out) {
    size_t count = strlen(hex) / 2;
    for (size_t i = 0; i < count; i++) {
        unsigned byte = 0;
        (void)sscanf(hex + 2 * i, "%2x", &byte);
        out[i] = (uint8_t)byte;
    }
    return count;
}

static void read_vector(const char *line) {
    char hex[2 * VECTOR_BYTES_MAX + 1];
    vector *v = &vectors[vector_count];
    if (!field(line, "name", v->name, sizeof v->name)) return;
    if (!field(line, "request_hex", hex, sizeof hex)) return;
    v->request_bytes = bytes_of(hex, v->request);
    v->reply_bytes = field(line, "reply_hex", hex, sizeof hex) ? bytes_of(hex, v->reply) : 0;
    v->refused = strstr(line, "\"refused\": true") != NULL;
    vector_count++;
}

static bool read_vectors(void) {
    if (vector_count > 0) return true;
    FILE *file = fopen(INV_SOURCE_DIR "/tests/wire/vectors.json", "r");
    char *line = malloc(DOCUMENT_BYTES_MAX);
    while (file != NULL && vector_count < VECTOR_COUNT_MAX &&
           fgets(line, DOCUMENT_BYTES_MAX, file) != NULL)
        read_vector(line);
    if (file != NULL) fclose(file);
    free(line);
    return vector_count > 90;
}

static const vector *vector_of(const char *name) {
    for (uint32_t i = 0; i < vector_count; i++)
        if (strcmp(vectors[i].name, name) == 0) return &vectors[i];
    return NULL;
}

/* A copy in memory of exactly its size. */
static uint8_t *exact(const uint8_t *bytes, size_t count) {
    uint8_t *copy = malloc(count > 0 ? count : 1);
    if (count > 0) memcpy(copy, bytes, count);
    return copy;
}

static const char *check_exact(wire_bench *bench, const uint8_t *bytes, size_t count) {
    uint8_t *copy = exact(bytes, count);
    const char *wrong = wire_check_message(bench, copy, count);
    free(copy);
    return wrong;
}

#define CHECK_MESSAGE(bench, bytes, count, what)                                             \
    do {                                                                                     \
        const char *wrong_ = check_exact((bench), (bytes), (count));                         \
        if (wrong_ != NULL && inv_test_failed(__FILE__, __LINE__))                           \
            fprintf(stderr, "%s: %s\n", (what), wrong_);                                     \
    } while (0)

/* ---- vectors --------------------------------------------------------------------------------- */

/* The replies to a message that none of which the engine has to answer. */
static size_t put_refusals(const inv_wire_arena *arena, uint8_t *out) {
    uint8_t *at = out;
    for (uint32_t i = 0; i < arena->request_count; i++) {
        const inv_wire_request *request = &arena->requests[i];
        const inv_wire_answer answer = {0, 3};
        at = request->refusal.code == INV_OK
                 ? inv_wire_put_code(at, request, answer, INV_OK, 0)
                 : inv_wire_put_refusal(at, request, answer, &request->refusal);
    }
    return (size_t)(at - out);
}

INV_TEST(vectors_that_are_refused) {
    wire_bench bench;
    uint32_t seen = 0;
    REQUIRE(read_vectors());
    wire_create(&bench);
    for (uint32_t i = 0; i < vector_count; i++) {
        const vector *v = &vectors[i];
        if (!v->refused) continue;
        CHECK_MESSAGE(&bench, v->request, v->request_bytes, v->name);
        size_t bytes = put_refusals(&bench.arena, bench.room);
        bool same = bytes == v->reply_bytes && memcmp(bench.room, v->reply, bytes) == 0;
        if (!inv_test_check(same, v->name, __FILE__, __LINE__)) {
            for (size_t k = 0; k < bytes; k++) fprintf(stderr, "%02x", bench.room[k]);
            fprintf(stderr, "\n");
        }
        CHECK_EQ(bench.arena.command_count, 0);
        seen++;
    }
    CHECK(seen > 40);
    wire_destroy(&bench);
}

static uint8_t *put_again(uint8_t *out, const wire_bench *bench, const inv_wire_request *request) {
    static uint64_t columns[1024];
    const inv_wire_ask ask = {request->asks_durability, request->durability, request->deadline_ms,
                              request->min_lsn};
    uint64_t correlation = request->correlation;
    if (inv_wire_is_command(request->op))
        return inv_wire_put_command(out, correlation, request->op, &ask,
                                    &bench->arena.commands[request->command]);
    if (inv_wire_is_batch(request->op)) {
        inv_batch batch;
        inv_wire_align_batch(request, columns, &batch);
        return inv_wire_put_batch(out, correlation, request->op, &ask, &batch);
    }
    if (request->op == INV_WIRE_AVAILABILITY || request->op == INV_WIRE_AVAILABILITY_SKU)
        return inv_wire_put_availability(out, correlation, &ask, &request->row.line,
                                         request->row.seller,
                                         (request->flags & INV_WIRE_RELAXED) != 0);
    return NULL;
}

/* The client's side writes what was read: byte for byte, where the vector leaves out what is not
 * given; else once more read, the same again. */
INV_TEST(vectors_come_back) {
    wire_bench bench;
    uint32_t seen = 0, same = 0;
    uint8_t again[2 * VECTOR_BYTES_MAX], twice[2 * VECTOR_BYTES_MAX];
    REQUIRE(read_vectors());
    wire_create(&bench);
    for (uint32_t i = 0; i < vector_count; i++) {
        const vector *v = &vectors[i];
        if (v->refused) continue;
        uint8_t *copy = exact(v->request, v->request_bytes);
        wire_reset(&bench);
        uint32_t count = inv_wire_decode(copy, v->request_bytes, &bench.arena);
        for (uint32_t k = 0; k < count; k++)
            inv_test_check(bench.arena.requests[k].refusal.code == INV_OK, v->name, __FILE__,
                           __LINE__);
        uint8_t *end = count == 1 ? put_again(again, &bench, &bench.arena.requests[0]) : NULL;
        free(copy);
        if (end == NULL) continue;
        size_t bytes = (size_t)(end - again);
        seen++;
        same += bytes == v->request_bytes && memcmp(again, v->request, bytes) == 0;
        wire_reset(&bench);
        (void)inv_wire_decode(again, bytes, &bench.arena);
        end = put_again(twice, &bench, &bench.arena.requests[0]);
        inv_test_check(end == twice + bytes && memcmp(again, twice, bytes) == 0, v->name, __FILE__,
                       __LINE__);
    }
    CHECK(seen > 35);
    CHECK(same == seen); /* no vector of these spells out a nil at its end */
    wire_destroy(&bench);
}

INV_TEST(replies_of_vectors_are_read) {
    REQUIRE(read_vectors());
    for (uint32_t i = 0; i < vector_count; i++) {
        const vector *v = &vectors[i];
        uint8_t *copy = exact(v->reply, v->reply_bytes);
        for (size_t size = 0; size <= v->reply_bytes; size++) {
            inv_msgpack_reader reader = {copy, copy + size};
            inv_wire_reply reply;
            bool found = false;
            while (inv_wire_next_reply(&reader, &reply)) found = true;
            if (size == v->reply_bytes && size > 0) {
                inv_test_check(found && reader.at == reader.end, v->name, __FILE__, __LINE__);
                CHECK(reply.code == INV_OK || reply.value_count < 8);
            }
        }
        free(copy);
    }
}

/* ---- near vectors ---------------------------------------------------------------------------- */

INV_TEST(every_truncation) {
    wire_bench bench;
    REQUIRE(read_vectors());
    wire_create(&bench);
    for (uint32_t i = 0; i < vector_count; i++) {
        const vector *v = &vectors[i];
        for (size_t size = 0; size < v->request_bytes; size++) {
            CHECK_MESSAGE(&bench, v->request, size, v->name);
            if (v->refused || strcmp(v->name, "pipelined") == 0) continue;
            CHECK_EQ(bench.arena.request_count, 1); /* less than one request is none */
            CHECK_EQ(bench.arena.requests[0].refusal.code, INV_BAD_REQUEST);
            CHECK_TEXT(bench.arena.requests[0].refusal.path, "message");
            CHECK_EQ(bench.arena.command_count, 0);
        }
    }
    wire_destroy(&bench);
}

INV_TEST(every_byte_set_to_every_value) {
    wire_bench bench;
    uint8_t bytes[VECTOR_BYTES_MAX];
    REQUIRE(read_vectors());
    wire_create(&bench);
    for (uint32_t i = 0; i < vector_count; i++) {
        const vector *v = &vectors[i];
        for (size_t at = 0; at < v->request_bytes; at++)
            for (uint32_t value = 0; value < 256; value++) {
                memcpy(bytes, v->request, v->request_bytes);
                bytes[at] = (uint8_t)value;
                CHECK_MESSAGE(&bench, bytes, v->request_bytes, v->name);
            }
    }
    wire_destroy(&bench);
}

INV_TEST(random_bytes) {
    wire_bench bench;
    uint8_t bytes[96];
    inv_test_rng rng = inv_test_rng_of(1);
    wire_create(&bench);
    for (uint64_t i = 0; i < inv_test_scaled(200000); i++) {
        size_t size = inv_test_rng_below(&rng, sizeof bytes);
        inv_test_rng_fill(&rng, bytes, size);
        if (size > 4 && i % 2 == 0) memcpy(bytes, "\x98\x01\x07\x01\xC0", 5);
        CHECK_MESSAGE(&bench, bytes, size, "random");
    }
    wire_destroy(&bench);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static uint8_t *put_pings(uint8_t *out, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) out = inv_wire_put_plain(out, i, INV_WIRE_PING);
    return out;
}

static uint8_t *put_cart(uint8_t *out, uint64_t correlation, uint32_t count) {
    static inv_line lines[INV_LINE_COUNT_MAX + 1];
    for (uint32_t i = 0; i < count; i++)
        lines[i] = (inv_line){.sku_number = i, .location_number = INV_LOCATION_NONE, .qty = 1};
    const inv_command command = {
        .kind = INV_CMD_RESERVE, .id = {"cart", 4}, .lines = lines, .line_count = count};
    return inv_wire_put_command(out, correlation, INV_WIRE_RESERVE_LINES, NULL, &command);
}

static uint32_t decode_room(wire_bench *bench, const uint8_t *end) {
    static uint8_t *copy;
    size_t size = (size_t)(end - bench->room);
    free(copy);
    copy = exact(bench->room, size);
    wire_reset(bench);
    return inv_wire_decode(copy, size, &bench->arena);
}

static void check_all_refused(const wire_bench *bench, uint32_t count, uint8_t code,
                              const char *path) {
    CHECK_EQ(bench->arena.request_count, count);
    CHECK_EQ(bench->arena.command_count, 0);
    CHECK_EQ(bench->arena.line_count, 0);
    for (uint32_t i = 0; i < bench->arena.request_count; i++) {
        CHECK_EQ(bench->arena.requests[i].refusal.code, code);
        CHECK_TEXT(bench->arena.requests[i].refusal.path, path);
    }
}

INV_TEST(requests_of_a_message) {
    wire_bench bench;
    wire_create(&bench);
    CHECK_EQ(decode_room(&bench, put_pings(bench.room, INV_WIRE_REQUEST_COUNT_MAX)),
             INV_WIRE_REQUEST_COUNT_MAX);
    CHECK_EQ(bench.arena.requests[INV_WIRE_REQUEST_COUNT_MAX - 1].refusal.code, INV_OK);
    (void)decode_room(&bench, put_pings(bench.room, INV_WIRE_REQUEST_COUNT_MAX + 1));
    check_all_refused(&bench, INV_WIRE_REQUEST_COUNT_MAX, INV_LIMIT_EXCEEDED, "requests");
    CHECK(bench.arena.requests[5].has_correlation);
    CHECK_EQ(bench.arena.requests[5].correlation, 5);
    wire_destroy(&bench);
}

INV_TEST(lines_of_a_request) {
    wire_bench bench;
    wire_create(&bench);
    CHECK_EQ(decode_room(&bench, put_cart(bench.room, 1, INV_LINE_COUNT_MAX)), 1);
    CHECK_EQ(bench.arena.requests[0].refusal.code, INV_OK);
    CHECK_EQ(bench.arena.commands[0].line_count, INV_LINE_COUNT_MAX);
    uint8_t *end = put_cart(bench.room, 1, INV_LINE_COUNT_MAX + 1);
    end = inv_wire_put_plain(end, 2, INV_WIRE_PING);
    CHECK_EQ(decode_room(&bench, end), 2);
    CHECK_EQ(bench.arena.requests[0].refusal.code, INV_LIMIT_EXCEEDED);
    CHECK_TEXT(bench.arena.requests[0].refusal.path, "lines");
    CHECK_EQ(bench.arena.requests[0].refusal.figure, INV_LINE_COUNT_MAX + 1);
    CHECK_EQ(bench.arena.requests[1].refusal.code, INV_OK);
    CHECK_EQ(bench.arena.line_count, 0);
    wire_destroy(&bench);
}

INV_TEST(lines_of_a_message) {
    wire_bench bench;
    wire_create(&bench);
    uint8_t *end = bench.room;
    for (uint32_t i = 0; i < 4; i++) end = put_cart(end, i, INV_WIRE_LINE_COUNT_MAX / 4);
    CHECK_EQ(decode_room(&bench, end), 4);
    CHECK_EQ(bench.arena.line_count, INV_WIRE_LINE_COUNT_MAX);
    CHECK_EQ(bench.arena.command_count, 4);
    end = put_cart(end, 4, 1);
    end = inv_wire_put_plain(end, 5, INV_WIRE_PING);
    (void)decode_room(&bench, end);
    check_all_refused(&bench, 5, INV_LIMIT_EXCEEDED, "message.lines");
    wire_destroy(&bench);
}

/* Lines of a request that is refused behind them are none. */
INV_TEST(lines_of_refused_requests) {
    wire_bench bench;
    wire_create(&bench);
    uint8_t *end = bench.room;
    for (uint32_t i = 0; i < 5; i++) {
        uint8_t *head = end;
        end = put_cart(end, i, INV_LINE_COUNT_MAX);
        CHECK_EQ(*head, 0x96);
        *head = 0x97; /* a ttl_ms of 0 behind the lines */
        *end++ = 0;
    }
    CHECK_EQ(decode_room(&bench, end), 5);
    for (uint32_t i = 0; i < 5; i++) CHECK_TEXT(bench.arena.requests[i].refusal.path, "ttl_ms");
    CHECK_EQ(bench.arena.line_count, 0);
    CHECK_EQ(bench.arena.command_count, 0);
    wire_destroy(&bench);
}

/* A request of op with one bin of `bytes` zeros, and one more if `second` is not 0. */
static uint8_t *put_bins(uint8_t *out, uint8_t op, uint32_t bytes, uint32_t second) {
    static const uint8_t zeros[16 * (INV_WIRE_ROW_COUNT_MAX + 1)];
    out = inv_msgpack_put_array(out, second > 0 ? 6 : 5);
    out = inv_msgpack_put_uint(out, 1);
    out = inv_msgpack_put_uint(out, 9);
    out = inv_msgpack_put_uint(out, op);
    out = inv_msgpack_put_nil(out);
    out = inv_msgpack_put_bin(out, zeros, bytes);
    return second > 0 ? inv_msgpack_put_bin(out, zeros, second) : out;
}

INV_TEST(rows_of_a_batch) {
    wire_bench bench;
    const uint32_t most = INV_WIRE_ROW_COUNT_MAX;
    wire_create(&bench);
    (void)decode_room(&bench, put_bins(bench.room, INV_WIRE_COMMIT_BATCH, 16 * most, 0));
    CHECK_EQ(bench.arena.requests[0].refusal.code, INV_OK);
    CHECK_EQ(bench.arena.requests[0].batch.count, most);
    (void)decode_room(&bench, put_bins(bench.room, INV_WIRE_COMMIT_BATCH, 16 * (most + 1), 0));
    CHECK_EQ(bench.arena.requests[0].refusal.code, INV_LIMIT_EXCEEDED);
    CHECK_TEXT(bench.arena.requests[0].refusal.path, "reservation_ids");
    uint8_t *end = put_bins(bench.room, INV_WIRE_AVAILABILITY_BATCH, 4 * most, 2 * most);
    (void)decode_room(&bench, end);
    CHECK_EQ(bench.arena.requests[0].refusal.code, INV_OK);
    (void)decode_room(&bench, put_bins(bench.room, INV_WIRE_AVAILABILITY_BATCH, 4 * most + 4, 2));
    CHECK_TEXT(bench.arena.requests[0].refusal.path, "sku_ids");
    wire_destroy(&bench);
}

INV_TEST(names_of_a_request) {
    wire_bench bench;
    wire_create(&bench);
    for (uint32_t more = 0; more <= 1; more++) {
        uint8_t *out = inv_msgpack_put_array(bench.room, 5);
        out = inv_msgpack_put_uint(out, 1);
        out = inv_msgpack_put_uint(out, 9);
        out = inv_msgpack_put_uint(out, INV_WIRE_LOCATION_IDS);
        out = inv_msgpack_put_nil(out);
        out = inv_msgpack_put_array(out, INV_WIRE_NAME_COUNT_MAX + more);
        for (uint32_t i = 0; i < INV_WIRE_NAME_COUNT_MAX + more; i++)
            out = inv_msgpack_put_str(out, "LON", 3);
        (void)decode_room(&bench, out);
        CHECK_EQ(bench.arena.requests[0].refusal.code, more ? INV_LIMIT_EXCEEDED : INV_OK);
        uint32_t numbers = 4 * (INV_WIRE_NAME_COUNT_MAX + more);
        (void)decode_room(&bench, put_bins(bench.room, INV_WIRE_SKU_NAMES, numbers, 0));
        CHECK_EQ(bench.arena.requests[0].refusal.code, more ? INV_LIMIT_EXCEEDED : INV_OK);
    }
    wire_destroy(&bench);
}

INV_TEST(depth_of_a_message) {
    const uint8_t four[] = {0x93, 1, 60, 0x91, 0x91, 0x91, 0x90};
    const uint8_t maps[] = {0x94, 1, 60, 49, 0x81, 0x81, 1, 0x81, 1, 2, 1};
    wire_bench bench;
    wire_create(&bench);
    CHECK_MESSAGE(&bench, four, sizeof four, "five deep");
    CHECK_TEXT(bench.arena.requests[0].refusal.path, "message");
    CHECK_EQ(bench.arena.requests[0].refusal.figure, 6);
    CHECK_MESSAGE(&bench, four, sizeof four - 1, "cut off in the fourth");
    CHECK_MESSAGE(&bench, maps, sizeof maps, "maps, four deep");
    CHECK_TEXT(bench.arena.requests[0].refusal.path, "ask");
    wire_destroy(&bench);
}

/* ---- numbers and texts ----------------------------------------------------------------------- */

INV_TEST(numbers_come_back_in_their_shortest_form) {
    const int64_t edges[] = {0,          1,           127,       128,       255,      256,
                             65535,      65536,       UINT32_MAX, INT64_MAX, -1,       -32,
                             -33,        -128,        -129,      -32768,    -32769,   INT32_MIN,
                             (int64_t)INT32_MIN - 1,  INT64_MIN, (int64_t)UINT32_MAX + 1};
    const uint8_t bytes[] = {1, 1, 1, 2, 2, 3, 3, 5, 5, 9, 1, 1, 2, 2, 3, 3, 5, 5, 9, 9, 9};
    for (uint32_t i = 0; i < sizeof bytes; i++) {
        uint8_t out[INV_MSGPACK_HEAD_BYTES_MAX];
        uint8_t *end = inv_msgpack_put_int(out, edges[i]);
        uint8_t *copy = exact(out, (size_t)(end - out));
        inv_msgpack_reader reader = {copy, copy + (end - out)};
        inv_msgpack_token found = {INV_MSGPACK_NIL, 0, NULL};
        CHECK_EQ(end - out, bytes[i]);
        CHECK(inv_msgpack_read(&reader, &found));
        CHECK_EQ(found.number, edges[i]);
        CHECK_EQ(found.type, edges[i] < 0 ? INV_MSGPACK_INT : INV_MSGPACK_UINT);
        CHECK(reader.at == reader.end);
        reader.at = copy;
        reader.end--;
        CHECK(!inv_msgpack_read(&reader, &found));
        CHECK(reader.at == copy);
        free(copy);
    }
}

INV_TEST(long_forms_of_short_numbers) {
    const uint8_t forms[][9] = {{0xCC, 1}, {0xCD, 0, 1}, {0xCE, 0, 0, 0, 1},
                                {0xCF, 0, 0, 0, 0, 0, 0, 0, 1}, {0xD0, 1}, {0xD1, 0, 1},
                                {0xD2, 0, 0, 0, 1}, {0xD3, 0, 0, 0, 0, 0, 0, 0, 1}};
    const uint8_t bytes[] = {2, 3, 5, 9, 2, 3, 5, 9};
    for (uint32_t i = 0; i < sizeof bytes; i++) {
        inv_msgpack_reader reader = {forms[i], forms[i] + bytes[i]};
        inv_msgpack_token found = {INV_MSGPACK_NIL, 0, NULL};
        CHECK(inv_msgpack_read(&reader, &found));
        CHECK_EQ(found.type, INV_MSGPACK_UINT);
        CHECK_EQ(found.number, 1);
    }
}

INV_TEST(texts_of_all_lengths) {
    uint8_t out[70000 + INV_MSGPACK_HEAD_BYTES_MAX];
    char text[70000];
    const uint32_t lengths[] = {0, 1, 31, 32, 255, 256, 65535, 65536, 70000};
    memset(text, 'x', sizeof text);
    for (uint32_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        for (uint32_t bin = 0; bin <= 1; bin++) {
            uint8_t *end = bin ? inv_msgpack_put_bin(out, text, lengths[i])
                               : inv_msgpack_put_str(out, text, lengths[i]);
            inv_msgpack_reader reader = {out, end};
            inv_msgpack_token found = {INV_MSGPACK_NIL, 0, NULL};
            CHECK(inv_msgpack_read(&reader, &found));
            CHECK_EQ(found.type, bin ? INV_MSGPACK_BIN : INV_MSGPACK_STR);
            CHECK_EQ(found.number, lengths[i]);
            CHECK(found.bytes == end - lengths[i] && reader.at == end);
        }
}

/* ---- replies --------------------------------------------------------------------------------- */

static inv_text long_name(void *context, inv_name_kind kind, uint32_t number) {
    static char text[INV_SKU_BYTES_MAX];
    (void)context;
    memset(text, 'N', sizeof text);
    if (kind == INV_NAME_LOCATION && number < 2)
        return number == 0 ? inv_text_of("LON") : inv_text_of("PAR");
    if (kind == INV_NAME_SKU && number == 0) return inv_text_of("TEE");
    return (inv_text){text, kind == INV_NAME_SKU ? INV_SKU_BYTES_MAX : INV_LOCATION_BYTES_MAX};
}

static const inv_wire_namer namer = {NULL, long_name};

#define NOW_MS 1765986617408u

/* The reply of a vector as the engine would give it. */
static void check_reply(const char *name, const inv_reply *reply) {
    const vector *v = vector_of(name);
    wire_bench bench;
    REQUIRE(v != NULL);
    wire_create(&bench);
    (void)inv_wire_decode(v->request, v->request_bytes, &bench.arena);
    const inv_wire_request *request = &bench.arena.requests[0];
    inv_wire_answer answer = {reply->code <= INV_REPLAYED ? reply->lsn : reply->observed_lsn, 3};
    uint8_t *end = inv_wire_put_reply(bench.room, request, answer, reply, &namer, true);
    size_t bytes = (size_t)(end - bench.room);
    CHECK(bytes <= inv_wire_reply_room(reply));
    bool same = bytes == v->reply_bytes && memcmp(bench.room, v->reply, bytes) == 0;
    inv_test_check(same, name, __FILE__, __LINE__);
    wire_destroy(&bench);
}

INV_TEST(replies_of_vectors_are_written) {
    REQUIRE(read_vectors());
    inv_reply_line line = {.sku = 0, .location = 0, .qty = 2, .held = 2};
    inv_reply held = {.state = INV_STATE_HELD, .lsn = 8720, .observed_lsn = 8720,
                      .now_unix_ms = NOW_MS, .expires_at_unix_ms = NOW_MS + 600000, .units = 2,
                      .line_count = 1, .lines_max = 1, .lines = &line};
    check_reply("reserve", &held);
    held.code = INV_REPLAYED;
    check_reply("reserve_replayed", &held);
    held.code = INV_OK;
    check_reply("reservation", &held);
    inv_reply_line short_line = {.sku = 0, .location = 0, .qty = 500, .available_to_promise = 98,
                                 .alternative_count = 1, .alternatives = {1}};
    inv_reply reply = {.code = INV_INSUFFICIENT, .observed_lsn = 8720, .line_count = 1,
                       .lines_max = 1, .lines = &short_line};
    check_reply("reserve_insufficient", &reply);
    reply = (inv_reply){.code = INV_BAD_REQUEST, .field = "lines[].qty", .line_index = 1,
                        .limit = 1};
    check_reply("reserve_lines_bad_line", &reply);
    reply = (inv_reply){.code = INV_BAD_REQUEST, .field = "lines[].qty", .figure = 2147483648,
                        .limit = INV_QTY_MAX};
    check_reply("reserve_qty_too_large", &reply);
    reply = (inv_reply){.code = INV_IDEMPOTENCY_MISMATCH, .observed_lsn = 8720, .mismatch = 5};
    check_reply("reserve_mismatch", &reply);
    reply = (inv_reply){.code = INV_EXPIRED, .observed_lsn = 8720, .state = INV_STATE_EXPIRED,
                        .units = 2, .ended_at_unix_ms = NOW_MS - 1000, .lsn = 8000,
                        .now_unix_ms = NOW_MS};
    check_reply("commit_expired", &reply);
    inv_reply_line remaining = {.sku = 0, .location = 0, .qty = 9, .available_to_promise = 1};
    reply = (inv_reply){.code = INV_OVER_COMMIT, .observed_lsn = 8720, .line_count = 1,
                        .lines_max = 1, .lines = &remaining};
    check_reply("commit_over", &reply);
    reply = (inv_reply){.lsn = 8720, .now_unix_ms = NOW_MS,
                        .level = {.on_hand = 100, .held = 2, .reserved = 2, .available = 98,
                                  .available_to_promise = 98}};
    check_reply("receive", &reply);
    check_reply("set_policy", &reply);
    reply = (inv_reply){.code = INV_CAS_FAILED, .observed_lsn = 8720, .figure = 98};
    check_reply("set_on_hand_cas", &reply);
    reply = (inv_reply){.code = INV_UNKNOWN_RESERVATION, .observed_lsn = 8720};
    check_reply("reservation_unknown", &reply);
}

INV_TEST(other_replies_of_vectors_are_written) {
    REQUIRE(read_vectors());
    wire_bench bench;
    wire_create(&bench);
    const vector *v = vector_of("hello");
    REQUIRE(v != NULL);
    (void)inv_wire_decode(v->request, v->request_bytes, &bench.arena);
    inv_wire_hello hello = {.server = inv_text_of("0.1.0"), .now_unix_ms = NOW_MS,
                            .message_bytes_max = 1048576, .silence_ms_max = 30000};
    const uint8_t uuid[] = {0x01, 0x90, 0xa5, 0xb2, 0xc3, 0xd4, 0x71, 0x23,
                            0x8a, 0x4b, 0x5c, 0x6d, 0x7e, 0x8f, 0x90, 0x01};
    memcpy(hello.store_uuid, uuid, 16);
    const inv_wire_answer answer = {8720, 3};
    uint8_t *end = inv_wire_put_hello(bench.room, &bench.arena.requests[0], answer, &hello);
    CHECK_EQ(end - bench.room, v->reply_bytes);
    CHECK(memcmp(bench.room, v->reply, v->reply_bytes) == 0);

    v = vector_of("availability_sku");
    REQUIRE(v != NULL);
    wire_reset(&bench);
    (void)inv_wire_decode(v->request, v->request_bytes, &bench.arena);
    inv_stock_level total = {.on_hand = 103, .held = 2, .reserved = 2, .available = 101,
                             .available_to_promise = 101, .now_unix_ms = NOW_MS};
    inv_stock_level rows[2] = {{.location = 0, .on_hand = 100, .held = 2, .reserved = 2,
                                .available = 98, .available_to_promise = 98},
                               {.location = 1, .on_hand = 3, .available = 3,
                                .available_to_promise = 3}};
    end = inv_wire_put_level(bench.room, &bench.arena.requests[0], answer, &total, rows, 2, &namer);
    CHECK_EQ(end - bench.room, v->reply_bytes);
    CHECK(memcmp(bench.room, v->reply, v->reply_bytes) == 0);
    wire_destroy(&bench);
}

/* The room that is asked for does for the largest values. */
INV_TEST(largest_replies_fit) {
    static inv_reply_line lines[64];
    uint8_t *room;
    for (uint32_t i = 0; i < 64; i++) {
        lines[i] = (inv_reply_line){.sku = 77, .location = 77, .line_index = UINT32_MAX,
                                    .qty = UINT32_MAX, .held = UINT32_MAX,
                                    .allocated = UINT32_MAX, .shipped = UINT32_MAX,
                                    .backordered = UINT32_MAX,
                                    .available_to_promise = INT64_MIN,
                                    .alternative_count = 8};
        for (uint32_t k = 0; k < 8; k++) lines[i].alternatives[k] = 77;
    }
    const inv_wire_answer answer = {UINT64_MAX, UINT64_MAX};
    const uint8_t codes[] = {INV_OK, INV_REPLAYED, INV_INSUFFICIENT, INV_CLOSED, INV_EXPIRED,
                             INV_OVER_COMMIT, INV_BAD_REQUEST, INV_LAGGING, INV_BUSY};
    for (uint32_t i = 0; i < sizeof codes; i++)
        for (uint8_t op = INV_WIRE_RESERVE; op <= INV_WIRE_SET_POLICY; op++)
            for (uint32_t with = 0; with <= 1; with++) {
                inv_wire_request request = {.correlation = UINT64_MAX, .has_correlation = true,
                                            .op = op};
                inv_reply reply = {.code = codes[i], .state = 9, .lsn = UINT64_MAX,
                                   .now_unix_ms = UINT64_MAX, .expires_at_unix_ms = UINT64_MAX,
                                   .ended_at_unix_ms = UINT64_MAX, .units = UINT64_MAX,
                                   .retry_after_ms = UINT64_MAX, .figure = INT64_MIN,
                                   .limit = INT64_MAX, .line_index = UINT32_MAX,
                                   .field = "lines[].and_a_name_that_is_longer_than_any_field_of_"
                                            "the_engine_will_ever_be",
                                   .line_count = 64, .lines_max = 64, .lines = lines};
                reply.level = (inv_stock_level){
                    .on_hand = INT64_MIN, .held = INT64_MIN, .allocated = INT64_MIN,
                    .reserved = INT64_MIN, .unsellable = INT64_MIN, .available = INT64_MIN,
                    .available_to_promise = INT64_MIN, .safety_stock = INT64_MIN,
                    .short_qty = INT64_MIN, .backordered = INT64_MIN, .incoming = INT64_MIN};
                size_t size = with ? inv_wire_reply_room(&reply)
                                   : INV_WIRE_REPLY_HEAD_BYTES + INV_WIRE_LEVEL_BYTES;
                room = malloc(size);
                uint8_t *end =
                    inv_wire_put_reply(room, &request, answer, &reply, &namer, with != 0);
                CHECK((size_t)(end - room) <= size);
                inv_msgpack_reader reader = {room, end};
                inv_wire_reply found;
                CHECK(inv_wire_next_reply(&reader, &found) && reader.at == end);
                CHECK_EQ(found.correlation, UINT64_MAX);
                CHECK_EQ(found.lsn, UINT64_MAX);
                free(room);
            }
}

INV_TEST(batches_are_aligned) {
    REQUIRE(read_vectors());
    wire_bench bench;
    const vector *v = vector_of("reserve_batch_ttls");
    static uint64_t room[64];
    inv_batch batch;
    REQUIRE(v != NULL);
    wire_create(&bench);
    for (uint32_t shift = 0; shift < 8; shift++) {
        uint8_t *copy = malloc(v->request_bytes + shift);
        memcpy(copy + shift, v->request, v->request_bytes);
        wire_reset(&bench);
        (void)inv_wire_decode(copy + shift, v->request_bytes, &bench.arena);
        inv_wire_align_batch(&bench.arena.requests[0], room, &batch);
        CHECK(sizeof room >= INV_WIRE_BATCH_ROOM(batch.count));
        CHECK_EQ(batch.kind, INV_CMD_RESERVE);
        CHECK_EQ(batch.count, 2);
        CHECK_EQ(batch.skus[1], 4096);
        CHECK_EQ(batch.locations[1], 0);
        CHECK_EQ(batch.qtys[0], 2);
        CHECK_EQ(batch.qtys[1], 6);
        CHECK_EQ(batch.ttls_ms[1], 90000);
        CHECK(memcmp(batch.ids + 16, "\x01\x90\xa5\xb2", 4) == 0);
        free(copy);
    }
    wire_destroy(&bench);
}

INV_TEST_MAIN()
