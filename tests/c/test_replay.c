/* SPDX-License-Identifier: Apache-2.0
 *
 * test_replay.c: what opening rebuilds, with one thread and with two, with small windows and large
 * ones, is what was there; and a log that makes no sense is refused at its first bad entry.
 */
#include "../../src/invcore/base/inv_crc32c.h"
#include "../../src/invcore/store/inv_store.h"
#include "shop.h"

#define SKU_COUNT 60u
#define ID_COUNT 400u
#define COMMANDS 12000u

static shop s;

/* ---- a digest of everything a store holds ---------------------------------------------------- */

static uint64_t mix(uint64_t digest, uint64_t value) { return inv_mix64(digest ^ value) + value; }

static uint64_t mix_bytes(uint64_t digest, const void *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) digest = mix(digest, ((const uint8_t *)bytes)[i]);
    return mix(digest, size);
}

static uint64_t hold_digest(const inv_store *store, const inv_hold *hold) {
    inv_hold_line inline_line, *lines = inv_hold_lines(&store->holds, hold, &inline_line);
    inv_text text = inv_hold_text(&store->holds, hold);
    uint64_t digest = text.bytes != NULL ? mix_bytes(1, text.bytes, text.length)
                                         : mix_bytes(2, hold->id, sizeof hold->id);
    const uint64_t values[] = {hold->lsn,       hold->deadline_ms, hold->account,
                               hold->body_hash, hold->seller,      hold->kind,
                               hold->state,     hold->ended_by,    hold->gone,
                               hold->units,     inv_hold_units(&store->holds, hold)};
    digest = mix_bytes(digest, values, sizeof values);
    if (hold->kind & INV_HOLD_OP) return mix(digest, hold->location);
    for (uint32_t i = 0; lines != NULL && i < hold->line_count; i++)
        digest = mix_bytes(digest, &lines[i], sizeof lines[i]);
    return digest;
}

typedef struct hold_sum {
    const inv_store *store;
    uint64_t sum; /* in any order: slots may differ */
} hold_sum;

static bool add_hold(void *argument, inv_ref ref, inv_hold *hold) {
    hold_sum *sum = argument;
    (void)ref;
    sum->sum += hold_digest(sum->store, hold);
    return true;
}

static uint64_t names_digest(const inv_names *names) {
    uint64_t digest = inv_names_count(names);
    for (uint32_t i = 0; i < inv_names_count(names); i++) {
        inv_text text;
        if (inv_names_text(names, i, &text)) digest = mix_bytes(digest, text.bytes, text.length);
    }
    return digest;
}

static uint64_t store_digest(inv_store *store) {
    uint64_t digest = mix(names_digest(&store->locations), names_digest(&store->sellers));
    digest = mix(digest, names_digest(&store->accounts));
    digest = mix(digest, names_digest(&store->reasons));
    digest = mix(digest, store->reference_next);
    digest = mix(digest, atomic_load(&store->holds.ended_total));
    for (uint32_t i = 0; i < store->stripe_count; i++) {
        inv_stripe *stripe = &store->stripes[i];
        hold_sum sum = {store, 0};
        digest = mix(digest, stripe->table.sku_count);
        for (uint32_t place = 0; place < stripe->table.sku_count; place++) {
            uint32_t count;
            const inv_row *rows = inv_table_rows_of(&stripe->table, place, &count);
            inv_text name = inv_table_name(&stripe->table, place);
            digest = mix_bytes(digest, name.bytes, name.length);
            for (uint32_t k = 0; k < count; k++) {
                digest = mix_bytes(digest, &rows[k], sizeof rows[k]);
                digest = mix(digest, inv_table_safety_stock(&stripe->table, place, rows[k]));
            }
        }
        inv_hold_walk(&store->holds, &stripe->home, add_hold, &sum);
        digest = mix(digest, sum.sum);
        digest = mix(digest, stripe->home.live_count);
        digest = mix(digest, stripe->home.held_count);
        digest = mix(digest, stripe->home.ended_count);
        for (inv_ref ref = stripe->home.ended_first; ref != 0;) { /* in order */
            const inv_hold *hold = inv_hold_at(&store->holds, ref);
            digest = mix(digest, hold_digest(store, hold));
            ref = hold->next;
        }
    }
    return digest;
}

/* ---- a log of everything --------------------------------------------------------------------- */

static uint64_t random_state;

static uint32_t below(uint32_t bound) {
    random_state += 0x9E3779B97F4A7C15ull;
    return (uint32_t)(inv_mix64(random_state) % bound);
}

static inv_command command_of(uint32_t number, inv_line *lines, char *id, char *op_id) {
    static const uint8_t kinds[] = {INV_CMD_RESERVE, INV_CMD_RESERVE, INV_CMD_RESERVE,
                                    INV_CMD_RESERVE, INV_CMD_COMMIT,  INV_CMD_SHIP,
                                    INV_CMD_RELEASE, INV_CMD_CANCEL,  INV_CMD_EXTEND,
                                    INV_CMD_RECEIVE, INV_CMD_ADJUST,  INV_CMD_SET_POLICY};
    static char skus[SKU_COUNT][8];
    static uint32_t carts[ID_COUNT][2]; /* SKUs of the last reservation that asked for several */
    static const char *const places[] = {"LON", "NYC", "PAR"};
    uint8_t kind = kinds[below(sizeof kinds)];
    uint32_t count = kind == INV_CMD_RESERVE && below(3) == 0 ? 2 + below(3) : 1;
    uint32_t id_number = below(ID_COUNT);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t sku = below(1 + number * (SKU_COUNT - 1) / (COMMANDS + 32)); /* more and more */
        snprintf(skus[sku], sizeof skus[sku], "S%u", sku);
        if (count > 1 && i < 2) carts[id_number][i] = sku;
        lines[i] = shop_line(skus[sku], below(3) == 0 ? NULL : places[below(3)], 1 + below(3));
        if (kind >= INV_CMD_RECEIVE) lines[i].location = shop_text(places[below(3)]);
    }
    /* Ids come again: many are forgotten soon, and then used for other SKUs. Half are UUIDs. */
    snprintf(id, 37, id_number % 2 ? "%08x-0000-4000-8000-000000000000" : "order-%u", id_number);
    bool ends = kind == INV_CMD_COMMIT || kind == INV_CMD_SHIP || kind == INV_CMD_RELEASE;
    inv_command command = shop_command(
        kind, id, lines, kind == INV_CMD_EXTEND || (ends && below(4) != 0) ? 0 : count);
    snprintf(op_id, 16, "op-%u", number);
    if (kind <= INV_CMD_EXTEND) {
        if (ends && command.line_count > 0) {
            /* One SKU of a cart: what is left may be one line, away from where the cart lives. */
            lines[0] = shop_line(skus[carts[id_number][below(2)]], NULL, 1 + below(3));
            command.partial = command.keep_rest = true;
            command.op_id = shop_text(op_id);
        }
        command.ttl_ms = kind == INV_CMD_RESERVE || kind == INV_CMD_EXTEND ? 1 + below(40000) : 0;
        command.shorten = true;
        if (kind == INV_CMD_RESERVE && below(16) == 0) command.account = shop_text("web");
    } else {
        command.op_id = shop_text(below(3) == 0 ? op_id : NULL);
        if (kind == INV_CMD_RECEIVE) lines[0].qty = 50;
        if (kind == INV_CMD_SET_POLICY) command.safety_stock = below(4);
        if (below(64) == 0) command.reason = shop_text("count");
        if (below(64) == 0) command.seller = shop_text("other");
    }
    if (kind == INV_CMD_RELEASE && command.line_count == 0) command.tombstone = below(2) == 0;
    return command;
}

/* Runs of up to 32 random commands, time passing between them. */
static void make_log(uint64_t seed) {
    static inv_line lines[32][8];
    static char ids[32][40], op_ids[32][16];
    random_state = seed;
    shop_init(&s, true);
    s.options.ended_ids_max = 150;
    s.options.stripe_bits = 5;
    CHECK_EQ(shop_open(&s), INV_OK);
    for (uint32_t number = 0; number < COMMANDS;) {
        inv_command commands[32];
        inv_reply replies[32];
        uint32_t count = 1 + below(32);
        memset(replies, 0, sizeof replies);
        for (uint32_t i = 0; i < count; i++)
            commands[i] = command_of(number++, lines[i], ids[i], op_ids[i]);
        if (!CHECK_EQ(inv_store_execute(s.store, commands, count, replies), INV_OK)) return;
        shop_settle(&s);
        if (below(4) == 0) shop_advance(&s, below(3000));
    }
    shop_advance(&s, 1000); /* ends with a tick, so that live has forgotten what replay will */
}

/* ---- opening it in every way ----------------------------------------------------------------- */

static inv_threads real_threads;
static uint32_t started, joined;

static void *counted_start(void *context, void (*run)(void *), void *argument) {
    started++;
    return real_threads.start(context, run, argument);
}
static void counted_join(void *context, void *thread) {
    joined++;
    real_threads.join(context, thread);
}
static void *refused_start(void *context, void (*run)(void *), void *argument) {
    (void)context, (void)run, (void)argument;
    started++;
    return NULL;
}

typedef enum help { HELP_NONE, HELP_REFUSED, HELP_REAL } help_kind;

/* Opens the disk read-only, and leaves the store in *out_store. */
static inv_result look(inv_memory *memory, uint32_t part_entries, help_kind help, inv_env **out_env,
                       inv_store **out_store, inv_error *error) {
    inv_options options = s.options;
    inv_env *env = inv_env_create();
    inv_env_use_memory(env, memory);
    inv_env_use_manual_clock(env, s.clock_ms);
    real_threads = env->threads;
    started = joined = 0;
    env->threads.start = help == HELP_NONE      ? NULL
                         : help == HELP_REFUSED ? refused_start
                                                : counted_start;
    env->threads.join = counted_join;
    env->replay_part_entries = part_entries;
    options.read_only = true;
    *out_env = env;
    *out_store = NULL;
    memset(error, 0, sizeof *error);
    return inv_store_open(env, &options, out_store, error);
}

static const uint32_t windows[] = {0, 1, 2, 7, 64};

INV_TEST(every_way_of_opening_rebuilds_what_was_there) {
    for (uint64_t seed = inv_test_all.seed; seed < inv_test_all.seed + 3; seed++) {
        make_log(seed);
        uint64_t there = store_digest(s.store);
        inv_store_destroy(s.store);
        s.store = NULL;
        for (uint32_t i = 0; i < sizeof windows / sizeof *windows; i++)
            for (help_kind help = HELP_NONE; help <= HELP_REAL; help++) {
                inv_env *env;
                inv_store *store;
                inv_error error;
                inv_check_report report;
                if (!CHECK_EQ(look(s.memory, windows[i], help, &env, &store, &error), INV_OK)) {
                    fprintf(stderr, "seed %" PRIu64 ": %s\n", seed, error.message);
                    inv_env_destroy(env);
                    continue;
                }
                if (!CHECK_EQ(store_digest(store), there))
                    fprintf(stderr, "seed %" PRIu64 ", window %u, help %d\n", seed, windows[i],
                            (int)help);
                CHECK_EQ(inv_store_check(store, &report), INV_OK);
                CHECK(report.ok);
                CHECK_EQ(joined, help == HELP_REAL ? started : 0);
                CHECK(help == HELP_NONE || windows[i] == 0 || started > 0);
                inv_store_destroy(store);
                inv_env_destroy(env);
            }
        shop_end(&s);
    }
}

INV_TEST(a_short_log_starts_no_thread) {
    inv_env *env;
    inv_store *store;
    inv_error error;
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "A", "W", 100), INV_OK);
    for (uint32_t i = 0; i < 100; i++) {
        char id[16];
        snprintf(id, sizeof id, "r%u", i);
        CHECK_EQ(shop_reserve(&s, id, "A", "W", 1, 60000), INV_OK);
    }
    inv_store_destroy(s.store);
    s.store = NULL;
    CHECK_EQ(look(s.memory, 0, HELP_REAL, &env, &store, &error), INV_OK);
    CHECK_EQ(started, 0);
    inv_store_destroy(store);
    inv_env_destroy(env);
    shop_end(&s);
}

/* ---- logs that make no sense ----------------------------------------------------------------- */

typedef struct found_entry {
    uint8_t *record, *bytes; /* where it stands on the disk */
    uint64_t record_lsn;
    uint32_t offset; /* in the payload */
} found_entry;

static found_entry found[20000];
static uint32_t found_count;
static uint32_t log_seed;

/* All reserves of one line, of all segments, in log order. */
static void find_reserves(inv_memory *memory) {
    uint64_t lsn, state_bytes;
    uint8_t *state = inv_memory_file(memory, "STATE", &state_bytes);
    inv_wal_state decoded;
    found_count = 0;
    if (!CHECK(state != NULL)) return;
    if (inv_wal_decode_state(state, &decoded) != INV_OK)
        CHECK_EQ(inv_wal_decode_state(state + INV_STATE_SLOT_BYTES, &decoded), INV_OK);
    log_seed = inv_wal_seed(decoded.identity.uuid);
    for (uint64_t number = 1;; number++) {
        char name[32];
        uint64_t size = 0;
        inv_wal_segment_header header;
        inv_wal_record record;
        snprintf(name, sizeof name, "wal-%016" PRIx64, number);
        uint8_t *bytes = inv_memory_file(memory, name, &size);
        if (bytes == NULL) return;
        CHECK_EQ(inv_wal_decode_segment_header(bytes, &header), INV_OK);
        for (lsn = header.base_lsn;;) {
            uint64_t at = INV_WAL_HEADER_BYTES + (lsn - header.base_lsn);
            if (at >= size || !inv_wal_decode_record(bytes + at, size - at, log_seed, lsn,
                                                     (uint32_t)header.epoch, &record))
                break;
            lsn += inv_wal_record_bytes(record.payload_bytes);
            uint64_t offset = INV_WAL_CHANGES_PREFIX_BYTES;
            while (record.type == INV_WAL_CHANGES && offset < record.payload_bytes) {
                inv_effect effect;
                uint64_t taken = inv_effect_decode(record.payload + offset,
                                                   record.payload_bytes - offset, &effect);
                if (!CHECK(taken > 0)) return;
                if (effect.kind == INV_ENTRY_RESERVE && effect.line_count == 1 &&
                    effect.id.text.bytes == NULL)
                    found[found_count++] =
                        (found_entry){bytes + at,
                                      bytes + at + INV_WAL_RECORD_HEADER_BYTES + offset,
                                      record.lsn, (uint32_t)offset};
                offset += taken;
            }
        }
    }
}

/* Changes bytes of an entry and makes its record valid again. */
static void forge(const found_entry *entry, uint32_t at, const void *bytes, size_t size) {
    uint8_t *header = entry->record;
    uint64_t padded = inv_align_u64(inv_load_u32(header + 4), INV_WAL_RECORD_ALIGN);
    memcpy(entry->bytes + at, bytes, size);
    inv_put_u32(header + 28, inv_crc32c(0, header + INV_WAL_RECORD_HEADER_BYTES, padded));
    inv_put_u32(header + 36, inv_crc32c(log_seed, header, 36));
}

static void refused_at(inv_memory *memory, const found_entry *entry) {
    char expected[128];
    snprintf(expected, sizeof expected,
             "record at lsn %" PRIu64 ": entry of kind 1 at offset %u does not apply",
             entry->record_lsn, entry->offset);
    inv_memory_settle(memory);
    for (uint32_t i = 0; i < sizeof windows / sizeof *windows; i++)
        for (help_kind help = HELP_NONE; help <= HELP_REAL; help++) {
            inv_env *env;
            inv_store *store;
            inv_error error;
            CHECK_EQ(look(memory, windows[i], help, &env, &store, &error), INV_LOG_CORRUPT);
            CHECK(strcmp(error.message, expected) == 0);
            if (strcmp(error.message, expected) != 0)
                fprintf(stderr, "expected: %s\nfound:    %s\n", expected, error.message);
            CHECK_EQ(error.lsn, entry->record_lsn);
            CHECK(error.segment > 0);
            CHECK_EQ(joined, help == HELP_REAL ? started : 0);
            inv_env_destroy(env);
        }
}

/* A stock of many SKUs, then single reserves under new ids. */
static void make_reserves(void) {
    static char ids[32][40], skus[32][8];
    shop_init(&s, true);
    s.options.stripe_bits = 5;
    CHECK_EQ(shop_open(&s), INV_OK);
    for (uint32_t n = 0; n < 200; n++) {
        inv_command commands[32];
        inv_reply replies[32];
        inv_line lines[32];
        memset(replies, 0, sizeof replies);
        for (uint32_t i = 0; i < 32; i++) {
            snprintf(skus[i], sizeof skus[i], "S%u", n == 0 ? i : below(32));
            snprintf(ids[i], sizeof ids[i], "%08x-0000-4000-8000-000000000000", n * 32 + i);
            lines[i] = shop_line(skus[i], "W", n == 0 ? 100000 : 1);
            commands[i] = n == 0 ? shop_command(INV_CMD_RECEIVE, NULL, &lines[i], 1)
                                 : shop_command(INV_CMD_RESERVE, ids[i], &lines[i], 1);
        }
        CHECK_EQ(inv_store_execute(s.store, commands, 32, replies), INV_OK);
        shop_settle(&s);
    }
    inv_store_destroy(s.store);
    s.store = NULL;
}

INV_TEST(the_first_bad_entry_is_named) {
    random_state = inv_test_all.seed;
    make_reserves();
    for (uint32_t trial = 0; trial < 12; trial++) {
        inv_memory *disk = inv_memory_clone(s.memory);
        const uint8_t wrong_state = INV_STATE_SHIPPED;
        find_reserves(disk);
        if (!CHECK(found_count > 6000)) return;
        uint32_t first = below(found_count - 2000), last = first + 1 + below(1999);
        forge(&found[last], 6, &wrong_state, 1);
        if (trial % 2 == 0) forge(&found[first + (last - first) / 2], 6, &wrong_state, 1);
        forge(&found[first], 6, &wrong_state, 1);
        refused_at(disk, &found[first]);
        inv_memory_destroy(disk);
    }
    shop_end(&s);
}

INV_TEST(an_id_is_not_reserved_twice) { /* whatever part of a window its second entry is in */
    random_state = inv_test_all.seed;
    make_reserves();
    for (uint32_t trial = 0; trial < 12; trial++) {
        inv_memory *disk = inv_memory_clone(s.memory);
        find_reserves(disk);
        if (!CHECK(found_count > 6000)) return;
        uint32_t first = below(found_count - 100), second = first + 1 + below(99);
        forge(&found[second], 20, found[first].bytes + 20, 16);
        refused_at(disk, &found[second]);
        inv_memory_destroy(disk);
    }
    shop_end(&s);
}

/* ---- opening that refuses takes no proof away ------------------------------------------------ */

/* Only the mark of a clean shutdown says that the last records were durable: they are damaged, and
 * HINT is old. Refusing must leave the mark, else the next opening cuts what was acknowledged. */
INV_TEST(what_was_refused_is_refused_again) {
    inv_error error;
    uint64_t size;
    inv_wal_state slot, newest = {.sequence = 0};
    shop_start(&s, true);
    for (uint32_t i = 0; i < 5; i++) CHECK_EQ(shop_receive(&s, "A", "W", 5), INV_OK);
    shop_settle(&s);
    shop_shut(&s);
    uint8_t *state = inv_memory_file(s.memory, "STATE", &size);
    for (uint32_t i = 0; i < 2; i++)
        if (inv_wal_decode_state(state + i * INV_STATE_SLOT_BYTES, &slot) == INV_OK &&
            slot.sequence > newest.sequence)
            newest = slot;
    uint64_t end = newest.clean_lsn;
    if (!CHECK(end > INV_WAL_LSN_FIRST + 300)) exit(1);
    uint8_t *segment = inv_memory_file(s.memory, "wal-0000000000000001", &size);
    memset(segment + INV_WAL_HEADER_BYTES + (end - 300 - INV_WAL_LSN_FIRST), 0, 300);
    uint8_t *hint = inv_memory_file(s.memory, "HINT", &size);
    memset(hint, 0, size);
    inv_memory_settle(s.memory);
    for (uint32_t i = 0; i < 3; i++) {
        memset(&error, 0, sizeof error);
        CHECK_EQ(inv_store_open(s.env, &s.options, &s.store, &error), INV_LOG_CORRUPT);
        CHECK_EQ(error.lsn_end, end);
    }
    s.store = NULL;
    shop_end(&s);
}

INV_TEST_MAIN()
