/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_commands.c: sequences of commands, batches and reads with fields of any kind, on a store in
 * memory. An input is read as a list of commands; whatever they ask for, the store must be in order
 * afterwards, and every answer must be a code there is.
 */
#include <string.h>

#include "../../../src/invcore/invcore.h"
#include "fuzz.h"

#define COMMAND_COUNT_MAX 48u
#define LINE_COUNT_MAX 6u
#define ROW_COUNT_MAX 40u

const char *const fuzz_name = "commands";
const uint64_t fuzz_inputs_default = 12000;

typedef struct reader {
    const uint8_t *at, *end;
} reader;

static uint8_t take_u8(reader *in) { return in->at < in->end ? *in->at++ : 0; }

static uint64_t take_bytes(reader *in, uint32_t count) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < count; i++) value |= (uint64_t)take_u8(in) << (8 * i);
    return value;
}

/* Mostly small, sometimes any 64 bits. */
static int64_t take_qty(reader *in) {
    uint8_t form = take_u8(in);
    if (form < 200) return form % 16;
    return (int64_t)take_bytes(in, form < 220 ? 4 : 8);
}

/* One of a few names, or bytes of the input as they are (they may be no UTF-8). */
static inv_text take_text(reader *in, const char *const *names, uint32_t count) {
    uint8_t form = take_u8(in);
    if (form < 160) return (inv_text){names[form % count], (uint32_t)strlen(names[form % count])};
    if (form < 190) return (inv_text){NULL, 0};
    uint32_t length = form < 250 ? form % 20 : (uint32_t)(in->end - in->at);
    if (length > in->end - in->at) length = (uint32_t)(in->end - in->at);
    inv_text text = {(const char *)in->at, length};
    in->at += length;
    return text;
}

static const char *const skus[] = {"TEE", "MUG", "CAP", "BAG"};
static const char *const places[] = {"LON", "PAR"};
static const char *const ids[] = {"a", "b", "c", "d", "e", "f",
                                  "0b1c2d3e-4f50-4a6b-8c7d-8e9fa0b1c2d3"};
static const char *const others[] = {"", "x", "default"};

static void take_line(reader *in, inv_line *out) {
    uint8_t form = take_u8(in);
    memset(out, 0, sizeof *out);
    out->sku_number = form % 8 == 7 ? (uint32_t)take_bytes(in, 4) : INV_NUMBER_NONE;
    out->location_number = form % 16 == 15 ? (uint16_t)take_bytes(in, 2) : INV_LOCATION_NONE;
    if (out->sku_number == INV_NUMBER_NONE) out->sku = take_text(in, skus, 4);
    if (form % 3 != 0) out->location = take_text(in, places, 2);
    out->qty = take_qty(in);
}

static void check_code(int code) {
    if (strcmp(inv_result_name(code), inv_result_name(99)) == 0)
        fuzz_fail("code %d is none that there is", code);
    if (code >= INV_STORE_CLOSED) fuzz_fail("a command answers %s", inv_result_name(code));
}

static void run_command(inv_store *store, reader *in) {
    inv_line lines[LINE_COUNT_MAX];
    inv_reply_line reply_lines[LINE_COUNT_MAX];
    inv_command command;
    inv_reply reply;
    memset(&command, 0, sizeof command);
    memset(&reply, 0, sizeof reply);
    uint32_t line_count = take_u8(in) % (LINE_COUNT_MAX + 1);
    for (uint32_t i = 0; i < line_count; i++) take_line(in, &lines[i]);
    uint8_t flags = take_u8(in), more = take_u8(in), kind = take_u8(in);
    command.kind = kind < 240 ? (uint8_t)(1 + kind % 11) : kind;
    command.partial = flags & 1;
    command.keep_rest = flags & 2;
    command.rehold = flags & 4;
    command.shorten = flags & 8;
    command.tombstone = flags & 16;
    command.strict = flags & 32;
    command.use_safety_stock = flags & 64;
    command.id = take_text(in, ids, 7);
    if (more & 1) command.op_id = take_text(in, ids, 7);
    if ((more & 30) == 30) command.seller = take_text(in, others, 3);
    if ((more & 14) == 14) command.account = take_text(in, others, 3);
    if ((more & 24) == 24) command.reason = take_text(in, others, 3);
    if ((more & 40) == 40) command.reference = take_text(in, others, 3);
    command.id_is_uuid = (more & 64) && command.id.length == 16;
    command.op_id_is_uuid = (more & 64) && command.op_id.length == 16;
    command.lines = lines;
    command.line_count = line_count;
    command.ttl_ms = (uint64_t)take_qty(in) * (flags & 128 ? 1 : 1000);
    command.if_on_hand = take_qty(in);
    command.safety_stock = take_qty(in);
    reply.lines = reply_lines;
    reply.lines_max = LINE_COUNT_MAX;
    if (inv_store_execute(store, &command, 1, &reply) != INV_OK) fuzz_fail("execute");
    check_code(reply.code);
}

static void run_batch(inv_store *store, reader *in) {
    uint32_t numbers[ROW_COUNT_MAX], ttls_ms[ROW_COUNT_MAX];
    uint16_t locations[ROW_COUNT_MAX];
    int64_t qtys[ROW_COUNT_MAX];
    uint8_t row_ids[ROW_COUNT_MAX][16], codes[ROW_COUNT_MAX], kind = take_u8(in);
    uint32_t count = take_u8(in) % (ROW_COUNT_MAX + 1);
    uint64_t lsn = 0;
    inv_error error = {0};
    memset(row_ids, 0x40, sizeof row_ids);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t form = take_u8(in);
        numbers[i] = (uint32_t)(form % 3) << 12 | form % 4;
        if (form >= 250) numbers[i] = (uint32_t)take_bytes(in, 4);
        locations[i] = form % 5 == 0 ? INV_LOCATION_NONE : form % 7;
        qtys[i] = take_qty(in);
        ttls_ms[i] = (uint32_t)take_qty(in) * 100;
        row_ids[i][3] = take_u8(in) % 8;
    }
    inv_batch batch = {.kind = kind < 240 ? (uint8_t)(1 + kind % 11) : kind,
                       .count = count, .skus = numbers, .locations = locations, .qtys = qtys,
                       .ids = row_ids[0], .ttls_ms = ttls_ms};
    memset(codes, 0, sizeof codes);
    inv_result result = inv_store_execute_batch(store, &batch, codes, &lsn, &error);
    if (result != INV_OK && result != INV_BAD_REQUEST)
        fuzz_fail("execute_batch answers %s", inv_result_name(result));
    for (uint32_t i = 0; result == INV_OK && i < count; i++) check_code(codes[i]);
}

static void run_read(inv_store *store, reader *in) {
    inv_line line;
    inv_stock_level level, levels[4], total;
    inv_reply_line reply_lines[2];
    inv_reply reply;
    uint32_t count = 4;
    memset(&reply, 0, sizeof reply);
    memset(&level, 0, sizeof level);
    memset(&total, 0, sizeof total);
    take_line(in, &line);
    inv_text seller = take_text(in, others, 3), id = take_text(in, ids, 7);
    check_code((int)inv_store_availability(store, seller, &line, &level));
    if (level.on_hand < 0 || level.held < 0 || level.allocated < 0)
        fuzz_fail("a figure below 0");
    check_code((int)inv_store_availability_sku(store, seller, &line, levels, 4, &count, &total));
    reply.lines = reply_lines;
    reply.lines_max = 2;
    check_code((int)inv_store_reservation(store, seller, id, false, &reply));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    reader in = {data, data + size};
    inv_env *env = fuzz_env(NULL);
    inv_options options;
    inv_store *store;
    inv_error error = {0};
    uint64_t now_ms = FUZZ_START_MS;
    inv_options_init(&options);
    options.stripe_bits = 2;
    options.durability = INV_MEMORY;
    if (inv_store_open(env, &options, &store, &error) != INV_OK) fuzz_fail("open");
    for (uint32_t i = 0; i < COMMAND_COUNT_MAX && in.at < in.end; i++) {
        uint8_t what = take_u8(&in) % 16;
        if (what < 10) run_command(store, &in);
        else if (what < 13) run_batch(store, &in);
        else if (what < 15) run_read(store, &in);
        else inv_env_set_clock(env, now_ms += 1 + take_bytes(&in, 2));
        bool more = true;
        for (uint32_t k = 0; more && k < 4096; k++)
            if (inv_store_advance(store, 64, &more) != INV_OK) fuzz_fail("advance");
        if (more) fuzz_fail("advance never ends");
    }
    inv_check_report report;
    memset(&report, 0, sizeof report);
    if (inv_store_check(store, &report) != INV_OK || !report.ok)
        fuzz_fail("not in order: %s", report.problem);
    inv_store_destroy(store);
    inv_env_destroy(env);
    return 0;
}

/* Any bytes are commands; receipts come first, so that there is something to promise. */
size_t fuzz_make_input(uint64_t *random, uint8_t *out, size_t room) {
    size_t used = 0, wanted = 200 + fuzz_below(random, 1800);
    for (uint32_t i = 0; i < 4; i++) {
        static const uint8_t receipt[] = {0, 1, 1, 0, 0, 15, 0, 0, 6, 165, 1, 0, 0};
        memcpy(out + used, receipt, sizeof receipt);
        out[used + 3] = (uint8_t)i;
        used += sizeof receipt;
    }
    for (; used < wanted && used < room; used++) {
        uint64_t draw = fuzz_random(random);
        out[used] = (uint8_t)(draw >> 8);
        if (draw % 3 != 0) out[used] %= 160; /* names and small figures rather than any bytes */
    }
    return used;
}
