/* SPDX-License-Identifier: Apache-2.0
 *
 * test_recover.c: a store as it was at an lsn, and logs that are damaged below what was durable:
 * refused, as often as they are opened, until somebody accepts the loss at the very place.
 */
#include "snapshot_body.h"

#define MOMENTS 700u

/* What the store was at some ends of its log. */
static struct {
    uint64_t lsn;
    digest state;
} moments[MOMENTS];
static uint32_t moment_count;

static uint64_t tail_of(void) {
    return atomic_load_explicit(&s.store->wal.tail, memory_order_acquire);
}

/* A store that forgets nothing, its history, and its clean end. */
static void live_on(uint64_t seed, uint32_t count, uint64_t snapshot_log_bytes) {
    inv_test_rng rng = inv_test_rng_of(seed);
    begin(1, snapshot_log_bytes);
    inv_store_destroy(s.store);
    inv_memory_power_cut(s.memory, 0);
    s.options.ended_ids_max = 1u << 20;
    s.options.segment_bytes = 16u << 10;
    id_count = 4000;
    CHECK_EQ(shop_open(&s), INV_OK);
    moment_count = 0;
    for (uint32_t i = 0; i < count + 40; i++) {
        if (i == count) { /* what follows lies behind the last snapshot */
            while (is_copying()) settle_once();
            s.store->options.snapshot_log_bytes = 0;
        }
        live(&rng);
        if (moment_count > 0 && tail_of() == moments[moment_count - 1].lsn) continue;
        moments[moment_count].lsn = tail_of();
        moments[moment_count++].state = digest_of(s.store);
    }
    shop_shut(&s);
    inv_memory_settle(s.memory);
}

static inv_result open_at(uint64_t upto_lsn, inv_recovery *out, digest *state, inv_error *error) {
    s.options.read_only = true;
    s.options.upto_lsn = upto_lsn;
    inv_result result = open_copy(NULL, out, state, error);
    s.options.read_only = false;
    s.options.upto_lsn = 0;
    return result;
}

/* ---- the state at an lsn --------------------------------------------------------------------- */

INV_TEST(every_state_of_the_log_can_be_read) {
    for (uint64_t seed = 1; seed <= 4; seed++) {
        uint64_t over = 0, earliest = 0;
        live_on(seed, 400, seed % 2 == 0 ? 6000 : 0);
        for (uint32_t i = 0; i < moment_count; i += 3) {
            inv_recovery recovery;
            inv_error error;
            digest state;
            inv_result result = open_at(moments[i].lsn, &recovery, &state, &error);
            if (result == INV_BAD_REQUEST) { /* trimmed */
                CHECK(strstr(error.message, "no state before lsn") != NULL);
                CHECK(earliest == 0 && seed % 2 == 0);
                continue;
            }
            if (!CHECK_EQ(result, INV_OK)) fprintf(stderr, "%s\n", error.message);
            if (earliest == 0) earliest = moments[i].lsn;
            over += recovery.snapshot_lsn != 0;
            CHECK_EQ(recovery.lsn_end, moments[i].lsn);
            CHECK(recovery.snapshot_end_lsn <= moments[i].lsn);
            CHECK(same("then and now", &moments[i].state, &state));
        }
        CHECK((over > 0) == (seed % 2 == 0));
        shop_end(&s);
    }
}

/* Entry by entry within a record: those of a cart's new names come before the cart. */
INV_TEST(an_lsn_within_a_record_is_honoured) {
    shop_start(&s, true);
    uint64_t before = tail_of();
    CHECK_EQ(shop_receive(&s, "MUG", "LON", 5), INV_OK);
    uint64_t lsn = s.reply.lsn, seen = 0;
    shop_shut(&s);
    for (uint64_t upto = before; upto <= lsn; upto++) {
        inv_recovery recovery;
        inv_error error;
        digest state;
        CHECK_EQ(open_at(upto, &recovery, &state, &error), INV_OK);
        CHECK_EQ(recovery.lsn_end, upto);
        CHECK(state.rows == 0 || upto == lsn);
        seen |= 1ull << (state.names - 2); /* two are built in */
    }
    CHECK_EQ(seen, 3); /* none, LON (the SKU is no global name) */
    shop_end(&s);
}

INV_TEST(limits_of_upto) {
    inv_recovery recovery;
    inv_error error;
    digest state;
    shop_start(&s, true);
    CHECK_EQ(shop_receive(&s, "MUG", "LON", 5), INV_OK);
    shop_shut(&s);
    CHECK_EQ(open_at(0, &recovery, &state, &error), INV_OK);
    uint64_t end = recovery.lsn_end;
    CHECK_EQ(open_at(end, &recovery, &state, &error), INV_OK);
    CHECK_EQ(open_at(end + 1, &recovery, &state, &error), INV_BAD_REQUEST);
    CHECK(strstr(error.message, "upto_lsn: the log ends") != NULL && error.lsn == end);
    CHECK_EQ(open_at(1, &recovery, &state, &error), INV_OK); /* below the first: nothing yet */
    CHECK_EQ(state.rows, 0);
    s.options.upto_lsn = end;
    CHECK_EQ(shop_open(&s), INV_BAD_REQUEST); /* not to be written behind */
    s.options.upto_lsn = 0;
    s.options.accept_loss_lsn = end;
    s.options.read_only = true;
    CHECK_EQ(shop_open(&s), INV_BAD_REQUEST);
    s.options.read_only = false;
    s.options.accept_loss_lsn = 0;
    CHECK_EQ(shop_open(&s), INV_OK);
    shop_end(&s);
}

/* ---- losses ---------------------------------------------------------------------------------- */

static inv_result open_accepting(uint64_t lsn, inv_error *error) {
    memset(error, 0, sizeof *error);
    s.options.accept_loss_lsn = lsn;
    inv_result result = inv_store_open(s.env, &s.options, &s.store, error);
    s.options.accept_loss_lsn = 0;
    return result;
}

/* Damages the record that begins at moments[at].lsn, or zeroes all from there on. False: it lies in
 * none of the segments. */
static bool damage_from(uint32_t at, bool all) {
    uint64_t lsn = moments[at].lsn;
    for (uint64_t number = 64; number > 0; number--) { /* an older one may reach it, but is void */
        char name[INV_FILE_NAME_MAX + 1];
        uint64_t size = 0;
        inv_wal_segment_header header;
        inv_wal_segment_name(name, "wal-", number);
        uint8_t *bytes = inv_memory_file(s.memory, name, &size);
        if (bytes == NULL || inv_wal_decode_segment_header(bytes, &header) != INV_OK) continue;
        uint64_t offset = INV_WAL_HEADER_BYTES + (lsn - header.base_lsn);
        if (lsn < header.base_lsn || offset >= size) continue;
        bytes[offset + 17] ^= 4;
        if (all) memset(bytes + offset, 0, size - offset);
        inv_memory_settle(s.memory);
        return true;
    }
    return false;
}

static bool damage_record(uint32_t at) { return damage_from(at, false); }

static void refused_at(uint64_t lsn) {
    inv_error error = {0};
    CHECK_EQ(inv_store_open(s.env, &s.options, &s.store, &error), INV_LOG_CORRUPT);
    CHECK_EQ(error.lsn, lsn);
    s.store = NULL;
}

static void remove_hint(void) {
    inv_error ignored = {0};
    (void)!s.env->storage.remove(s.env->storage.context, "HINT", &ignored);
    CHECK_EQ(s.env->storage.sync_directory(s.env->storage.context, &ignored), INV_OK);
}

static uint32_t acts_in_log(uint64_t from, uint64_t to) {
    uint32_t count = 0;
    inv_log *log = NULL;
    inv_log_record record;
    inv_log_entry entry;
    inv_error error;
    bool more = true, more_entries = true;
    CHECK_EQ(inv_log_open(s.env, &log, &error), INV_OK);
    while (inv_log_next(log, &record, &more, &error) == INV_OK && more)
        while (inv_log_next_entry(log, &entry, &more_entries, &error) == INV_OK && more_entries)
            if (entry.kind == INV_ENTRY_OPERATOR_ACT) {
                count++;
                CHECK(from < to);
            }
    inv_log_close(log);
    return count;
}

/* Whether the store goes on from moments[at] for good. */
static void goes_on_from(uint32_t at) {
    digest state = digest_of(s.store);
    CHECK(same("before the damage and after", &moments[at].state, &state));
    shop_settle(&s);
    CHECK_EQ(shop_receive(&s, "AFTER", "LON", 5), INV_OK);
    for (uint32_t i = 0; i < 3; i++) {
        shop_reopen(&s, i % 2 == 0);
        inv_recovery recovery;
        inv_store_recovery(s.store, &recovery);
        CHECK_EQ(recovery.loss_lsn_end, 0);
        CHECK_EQ(shop_level(&s, "AFTER", "LON").on_hand, 5);
    }
}

INV_TEST(a_loss_is_accepted_where_it_is) {
    for (uint64_t seed = 1; seed <= 6; seed++) {
        inv_error error;
        live_on(seed, 300, seed % 2 == 0 ? 6000 : 0);
        uint32_t at = moment_count - 5 - (uint32_t)seed;
        uint64_t lsn = moments[at].lsn, lost = moments[moment_count - 1].lsn;
        inv_recovery recovery;
        digest state;
        CHECK_EQ(open_accepting(lsn, &error), INV_BAD_REQUEST);
        CHECK(strstr(error.message, "nothing is damaged") != NULL);
        if (!CHECK(damage_record(at))) continue;
        if (seed % 3 == 0) remove_hint(); /* later records are proof enough */
        for (uint32_t i = 0; i < 3; i++) refused_at(lsn);
        CHECK_EQ(open_at(lsn, &recovery, &state, &error), INV_OK);
        CHECK(same("read up to the damage", &moments[at].state, &state));
        CHECK_EQ(open_at(lsn + 1, &recovery, &state, &error), INV_LOG_CORRUPT);
        CHECK_EQ(open_accepting(lsn + 8, &error), INV_LOG_CORRUPT);
        CHECK_EQ(open_accepting(moments[at - 1].lsn, &error), INV_BAD_REQUEST);
        CHECK_EQ(open_accepting(lsn, &error), INV_OK);
        inv_store_recovery(s.store, &recovery);
        CHECK_EQ(recovery.lsn_end, lsn);
        CHECK(recovery.loss_lsn_end >= lost && recovery.loss_lsn_end <= lost + 4096);
        goes_on_from(at);
        shop_shut(&s);
        CHECK_EQ(acts_in_log(lsn, lost), 1);
        shop_end(&s);
    }
}

/* With nothing else left, the mark of the clean end proves the last record, and goes on to. */
INV_TEST(a_clean_end_is_proof_each_time) {
    live_on(3, 100, 0);
    uint64_t lsn = moments[moment_count - 2].lsn;
    CHECK(damage_from(moment_count - 2, true));
    remove_hint();
    for (uint32_t i = 0; i < 3; i++) refused_at(lsn);
    inv_env_destroy(s.env);
    inv_memory_destroy(s.memory);
}

/* Damage in what a snapshot was copied from: it is of the lost part, and must not come back. */
INV_TEST(a_snapshot_of_the_lost_part_goes) {
    uint64_t tried = 0;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        inv_recovery recovery;
        inv_error error;
        digest state;
        live_on(seed, 300, 6000);
        CHECK_EQ(open_at(0, &recovery, &state, &error), INV_OK);
        uint32_t at = 0, count = snapshots_on(s.env).count;
        while (moments[at].lsn <= recovery.snapshot_lsn) at++;
        if (moments[at].lsn >= recovery.snapshot_end_lsn || !CHECK(damage_record(at))) {
            shop_end(&s);
            continue;
        }
        tried++;
        refused_at(moments[at].lsn);
        CHECK_EQ(open_accepting(moments[at].lsn, &error), INV_OK);
        CHECK_EQ(snapshots_on(s.env).count, count - 1);
        goes_on_from(at);
        shop_end(&s);
    }
    CHECK(tried > 1);
}

/* A segment that is gone or has lost its header: the log is whole up to it. */
INV_TEST(a_missing_segment_can_be_accepted) {
    for (uint32_t way = 0; way < 2; way++) {
        inv_error error = {0};
        live_on(5, 600, 0);
        char name[INV_FILE_NAME_MAX + 1];
        uint64_t size = 0;
        inv_wal_segment_header header = {0};
        uint8_t *bytes = NULL;
        uint64_t end = moments[moment_count - 1].lsn;
        for (uint64_t number = 1; header.base_lsn < 16000 || header.base_lsn > end; number++) {
            inv_wal_segment_name(name, "wal-", number);
            bytes = inv_memory_file(s.memory, name, &size);
            if (!CHECK(number < 64)) return;
            if (bytes != NULL) CHECK_EQ(inv_wal_decode_segment_header(bytes, &header), INV_OK);
        }
        if (way == 0) {
            CHECK_EQ(s.env->storage.remove(s.env->storage.context, name, &error), INV_OK);
        } else {
            bytes[20] ^= 1;
            bytes[2048 + 20] ^= 1;
        }
        inv_memory_settle(s.memory);
        CHECK_EQ(inv_store_open(s.env, &s.options, &s.store, &error), INV_LOG_CORRUPT);
        uint32_t at = moment_count;
        while (at > 1 && moments[at - 1].lsn > header.base_lsn) at--;
        inv_recovery recovery;
        digest state;
        CHECK_EQ(open_at(header.base_lsn, &recovery, &state, &error), INV_OK);
        CHECK(same("up to the gap", &moments[at - 1].state, &state));
        CHECK_EQ(open_accepting(header.base_lsn - 8, &error), INV_BAD_REQUEST);
        CHECK_EQ(open_accepting(header.base_lsn, &error), INV_OK);
        goes_on_from(at - 1);
        shop_end(&s);
    }
}

/* The power fails before or after any change that accepting makes: it is repeated, or is done. */
typedef struct cut {
    uint64_t call;
    bool after;
} cut;

static inv_result cut_here(void *argument, uint64_t call, const char *what, const char *name,
                           bool after) {
    const cut *at = argument;
    (void)what;
    (void)name;
    return call > at->call || (call == at->call && after == at->after) ? INV_IO_ERROR : INV_OK;
}

INV_TEST(accepting_survives_a_power_cut_anywhere) {
    uint64_t repeated = 0, done = 0;
    live_on(2, 300, 6000);
    uint32_t at = moment_count - 9;
    uint64_t lsn = moments[at].lsn;
    CHECK(damage_record(at));
    inv_memory *damaged = inv_memory_clone(s.memory);
    for (uint64_t k = 0; k < 400; k++) {
        inv_error error;
        cut where = {1 + k / 2, k % 2 == 1};
        inv_memory *memory = inv_memory_clone(damaged);
        inv_env *env = inv_env_create();
        inv_env_use_memory(env, memory);
        inv_env_use_manual_clock(env, s.clock_ms);
        s.options.accept_loss_lsn = lsn;
        inv_store *store = NULL;
        inv_memory_set_hook(memory, cut_here, &where);
        inv_result result = inv_store_open(env, &s.options, &store, &error);
        inv_memory_set_hook(memory, NULL, NULL);
        if (result == INV_OK) inv_store_destroy(store);
        inv_memory_power_cut(memory, k);
        s.options.accept_loss_lsn = 0;
        inv_result again = inv_store_open(env, &s.options, &store, &error);
        if (again == INV_LOG_CORRUPT) {
            CHECK(result != INV_OK && error.lsn == lsn);
            s.options.accept_loss_lsn = lsn;
            again = inv_store_open(env, &s.options, &store, &error);
            s.options.accept_loss_lsn = 0;
            repeated++;
        } else {
            done++;
        }
        if (!CHECK_EQ(again, INV_OK)) fprintf(stderr, "cut %" PRIu64 ": %s\n", k, error.message);
        if (again == INV_OK) {
            digest state = digest_of(store);
            if (!CHECK(same("after the cut", &moments[at].state, &state)))
                fprintf(stderr, "cut %" PRIu64 "\n", k);
            inv_store_destroy(store);
        }
        inv_env_destroy(env);
        inv_memory_destroy(memory);
        if (result == INV_OK) break; /* no call was left to be cut */
    }
    CHECK(repeated > 10 && done > 0);
    inv_memory_destroy(damaged);
    shop_end(&s);
}

INV_TEST_MAIN()
