/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base.c: the ground floor: checksums, hashes, the lock, result names, assertions.
 *
 * Expected values come from outside (RFC 3720) or from second, plain implementations in this file,
 * written from the definitions and sharing no code with what they judge.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../src/invcore/base/inv_base.h"
#include "../../src/invcore/base/inv_crc32c.h"
#include "../../src/invcore/base/inv_hash.h"
#include "../../src/invcore/base/inv_lock.h"
#include "inv_test.h"

/* ---- CRC-32C --------------------------------------------------------------------------------- */

/* By the definition: one bit at a time. */
static uint32_t crc32c_by_bits(uint32_t seed, const uint8_t *bytes, size_t size) {
    uint32_t crc = ~seed;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

INV_TEST(crc_knows_the_published_values) {
    uint8_t zeros[32], ones[32], up[32], down[32];
    for (int i = 0; i < 32; i++) {
        zeros[i] = 0;
        ones[i] = 0xff;
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    /* An iSCSI SCSI Read (10) command PDU. */
    const uint8_t pdu[48] = {0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                             0x14, 0,    0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18,
                             0x28, 0,    0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0};
    /* RFC 3720 appendix B.4, whose bytes are written least significant first. */
    CHECK_EQ(inv_crc32c(0, zeros, 32), 0x8a9136aau);
    CHECK_EQ(inv_crc32c(0, ones, 32), 0x62a8ab43u);
    CHECK_EQ(inv_crc32c(0, up, 32), 0x46dd794eu);
    CHECK_EQ(inv_crc32c(0, down, 32), 0x113fdb5cu);
    CHECK_EQ(inv_crc32c(0, pdu, 48), 0xd9963a56u);
    CHECK_EQ(inv_crc32c(0, "123456789", 9), 0xe3069283u);
    CHECK_EQ(inv_crc32c_portable(0, zeros, 32), 0x8a9136aau);
    CHECK_EQ(inv_crc32c_portable(0, ones, 32), 0x62a8ab43u);
    CHECK_EQ(inv_crc32c_portable(0, up, 32), 0x46dd794eu);
    CHECK_EQ(inv_crc32c_portable(0, down, 32), 0x113fdb5cu);
    CHECK_EQ(inv_crc32c_portable(0, pdu, 48), 0xd9963a56u);
    CHECK_EQ(inv_crc32c_portable(0, "123456789", 9), 0xe3069283u);
    CHECK_EQ(inv_crc32c(0, "", 0), 0);
    CHECK_EQ(inv_crc32c(0x12345678u, "", 0), 0x12345678u);
}

INV_TEST(crc_is_the_same_in_all_implementations) {
    enum { BYTES = 4096 };
    inv_test_rng rng = inv_test_rng_of(1);
    uint8_t *buffer = (uint8_t *)malloc(BYTES);
    REQUIRE(buffer != NULL);
    inv_test_rng_fill(&rng, buffer, BYTES);
    /* Every size up to two strides and a bit, at every alignment in turn. */
    for (size_t size = 0; size <= 1600; size++) {
        const uint8_t *bytes = buffer + size % 9;
        uint32_t seed = (uint32_t)inv_test_rng_u64(&rng);
        uint32_t expected = crc32c_by_bits(seed, bytes, size);
        CHECK_EQ(inv_crc32c(seed, bytes, size), expected);
        CHECK_EQ(inv_crc32c_portable(seed, bytes, size), expected);
    }
    for (uint64_t round = 0; round < inv_test_scaled(3000); round++) {
        size_t start = (size_t)inv_test_rng_below(&rng, BYTES);
        size_t size = (size_t)inv_test_rng_below(&rng, BYTES - start + 1);
        uint32_t seed = (uint32_t)inv_test_rng_u64(&rng);
        CHECK_EQ(inv_crc32c(seed, buffer + start, size),
                 inv_crc32c_portable(seed, buffer + start, size));
    }
    free(buffer);
}

INV_TEST(crc_chains) {
    uint8_t buffer[2000];
    inv_test_rng rng = inv_test_rng_of(2);
    inv_test_rng_fill(&rng, buffer, sizeof buffer);
    uint32_t whole = inv_crc32c(77, buffer, sizeof buffer);
    for (size_t cut = 0; cut <= sizeof buffer; cut += 13) {
        uint32_t first = inv_crc32c(77, buffer, cut);
        CHECK_EQ(inv_crc32c(first, buffer + cut, sizeof buffer - cut), whole);
        first = inv_crc32c_portable(77, buffer, cut);
        CHECK_EQ(inv_crc32c_portable(first, buffer + cut, sizeof buffer - cut), whole);
    }
}

INV_TEST(crc_reads_nothing_outside_the_buffer) {
    /* Exact heap blocks, so that the address sanitizer sees one byte too many. */
    for (size_t size = 1; size <= 800; size += 7) {
        uint8_t *bytes = (uint8_t *)malloc(size);
        REQUIRE(bytes != NULL);
        memset(bytes, 0xa5, size);
        CHECK_EQ(inv_crc32c(0, bytes, size), inv_crc32c_portable(0, bytes, size));
        free(bytes);
    }
}

/* ---- SipHash-1-3 ----------------------------------------------------------------------------- */

static uint64_t rotate_left(uint64_t x, unsigned bits) { return (x << bits) | (x >> (64 - bits)); }

static void sip_rounds(uint64_t v[4], int count) {
    for (int i = 0; i < count; i++) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotate_left(v[1], 13) ^ v[0];
        v[3] = rotate_left(v[3], 16) ^ v[2];
        v[0] = rotate_left(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = rotate_left(v[1], 17) ^ v[2];
        v[3] = rotate_left(v[3], 21) ^ v[0];
        v[2] = rotate_left(v[2], 32);
    }
}

/* SipHash-c-d from the paper: pads the message into words first, then hashes words. The last byte
 * of the padding is the length, except that inv_siphash13 counts it without the tweak. */
static uint64_t siphash_by_the_paper(int c, int d, inv_hash_key key, const uint8_t *message,
                                     size_t size, size_t counted_size) {
    uint64_t v[4] = {key.k0 ^ 0x736f6d6570736575ull, key.k1 ^ 0x646f72616e646f6dull,
                     key.k0 ^ 0x6c7967656e657261ull, key.k1 ^ 0x7465646279746573ull};
    uint8_t padded[256] = {0};
    size_t word_count = size / 8 + 1;
    memcpy(padded, message, size);
    padded[8 * word_count - 1] = (uint8_t)counted_size;
    for (size_t i = 0; i < word_count; i++) {
        uint64_t word = 0;
        for (size_t byte = 8; byte-- > 0;) word = word << 8 | padded[8 * i + byte];
        v[3] ^= word;
        sip_rounds(v, c);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    sip_rounds(v, d);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

INV_TEST(siphash_is_the_one_of_the_paper) {
    inv_hash_key key = {0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull};
    uint8_t message[200];
    for (size_t i = 0; i < sizeof message; i++) message[i] = (uint8_t)i;
    /* The authors' own vectors (SipHash-2-4, 15 and 0 bytes) prove our plain version. */
    CHECK_EQ(siphash_by_the_paper(2, 4, key, message, 15, 15), 0xa129ca6149be45e5ull);
    CHECK_EQ(siphash_by_the_paper(2, 4, key, message, 0, 0), 0x726fdb47dd0e0e31ull);
    /* The tweak goes in as a first word of the message. */
    inv_test_rng rng = inv_test_rng_of(3);
    for (size_t size = 0; size <= 160; size++) {
        uint64_t tweak = inv_test_rng_u64(&rng);
        inv_hash_key random_key = {inv_test_rng_u64(&rng), inv_test_rng_u64(&rng)};
        uint8_t joined[208];
        memcpy(joined, &tweak, 8);
        memcpy(joined + 8, message, size);
        CHECK_EQ(inv_siphash13(random_key, tweak, message, size),
                 siphash_by_the_paper(1, 3, random_key, joined, 8 + size, size));
    }
}

INV_TEST(siphash_separates_keys_tweaks_and_lengths) {
    inv_hash_key a = {1, 2}, b = {1, 3};
    uint8_t zeros[16] = {0};
    CHECK(inv_siphash13(a, 0, "x", 1) != inv_siphash13(b, 0, "x", 1));
    CHECK(inv_siphash13(a, 0, "x", 1) != inv_siphash13(a, 1, "x", 1));
    for (size_t size = 0; size < 16; size++)
        CHECK(inv_siphash13(a, 0, zeros, size) != inv_siphash13(a, 0, zeros, size + 1));
}

INV_TEST(mix64_is_invertible) {
    /* The inverse of each step, in reverse: multiplication by the inverse modulo 2^64 and the
     * doubled-up xor shift. */
    inv_test_rng rng = inv_test_rng_of(4);
    for (int i = 0; i < 1000; i++) {
        uint64_t x = inv_test_rng_u64(&rng), y = inv_mix64(x);
        y ^= (y >> 31) ^ (y >> 62);
        y *= 0x319642b2d24d8ec3ull;
        y ^= (y >> 27) ^ (y >> 54);
        y *= 0x96de1b173f119089ull;
        y ^= (y >> 30) ^ (y >> 60);
        CHECK_EQ(y, x);
    }
}

/* ---- lock ------------------------------------------------------------------------------------ */

enum { LOCK_THREADS = 4 };

typedef struct lock_arena {
    inv_lock lock;
    uint64_t rounds;
    uint64_t sum;     /* plain, so that a lock that does not exclude loses counts and alarms TSan */
    uint64_t pair[2]; /* equal whenever the lock is free */
    _Atomic uint32_t word; /* futex word of the waiting test */
    _Atomic uint32_t woken;
} lock_arena;

static void *add_under_lock(void *argument) {
    lock_arena *arena = (lock_arena *)argument;
    for (uint64_t i = 0; i < arena->rounds; i++) {
        inv_lock_take(&arena->lock);
        CHECK_EQ(arena->pair[0], arena->pair[1]);
        arena->pair[0]++;
        arena->sum++;
        if (i % 64 == 0) inv_cpu_yield(); /* makes others run into the held lock and sleep */
        arena->pair[1]++;
        inv_lock_give(&arena->lock);
    }
    return NULL;
}

static void run_threads(void *(*body)(void *), lock_arena *arena) {
    pthread_t threads[LOCK_THREADS];
    for (int i = 0; i < LOCK_THREADS; i++)
        REQUIRE_EQ(pthread_create(&threads[i], NULL, body, arena), 0);
    for (int i = 0; i < LOCK_THREADS; i++) REQUIRE_EQ(pthread_join(threads[i], NULL), 0);
}

INV_TEST(lock_excludes_under_four_threads) {
    lock_arena arena = {.rounds = inv_test_scaled(20000)};
    run_threads(add_under_lock, &arena);
    CHECK_EQ(arena.sum, LOCK_THREADS * arena.rounds);
    CHECK(!inv_lock_is_held(&arena.lock));
}

INV_TEST(lock_says_what_state_it_is_in) {
    inv_lock lock = {0};
    CHECK(!inv_lock_is_held(&lock));
    CHECK(inv_lock_try(&lock));
    CHECK(inv_lock_is_held(&lock));
    CHECK(!inv_lock_has_sleeper(&lock));
    CHECK(!inv_lock_try(&lock));
    inv_lock_give(&lock);
    CHECK(!inv_lock_is_held(&lock));
}

static void *take_once(void *argument) {
    lock_arena *arena = (lock_arena *)argument;
    inv_lock_take(&arena->lock);
    arena->sum++;
    inv_lock_give(&arena->lock);
    return NULL;
}

INV_TEST(sleepers_show_and_are_all_woken) {
    lock_arena arena = {.rounds = 0};
    pthread_t threads[LOCK_THREADS];
    inv_lock_take(&arena.lock);
    for (int i = 0; i < LOCK_THREADS; i++)
        REQUIRE_EQ(pthread_create(&threads[i], NULL, take_once, &arena), 0);
    while (!inv_lock_has_sleeper(&arena.lock)) inv_cpu_yield();
    CHECK_EQ(arena.sum, 0);
    inv_lock_give(&arena.lock);
    for (int i = 0; i < LOCK_THREADS; i++) REQUIRE_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(arena.sum, LOCK_THREADS);
}

static void *wait_for_word(void *argument) {
    lock_arena *arena = (lock_arena *)argument;
    while (atomic_load_explicit(&arena->word, memory_order_acquire) == 0)
        inv_futex_wait(&arena->word, 0, 10000);
    atomic_fetch_add_explicit(&arena->woken, 1, memory_order_relaxed);
    return NULL;
}

INV_TEST(futex_wakes_all_and_times_out) {
    lock_arena arena = {.rounds = 0};
    pthread_t threads[LOCK_THREADS];
    for (int i = 0; i < LOCK_THREADS; i++)
        REQUIRE_EQ(pthread_create(&threads[i], NULL, wait_for_word, &arena), 0);
    struct timespec before, after;
    REQUIRE_EQ(clock_gettime(CLOCK_MONOTONIC, &before), 0);
    inv_futex_wait(&arena.word, 1, 10000); /* the word is 0, not 1: returns at once */
    inv_futex_wait(&arena.word, 0, 0);     /* no time at all: returns at once */
    _Atomic uint32_t lonely = 0;
    inv_futex_wait(&lonely, 0, 20); /* nobody wakes it: the time-out does */
    REQUIRE_EQ(clock_gettime(CLOCK_MONOTONIC, &after), 0);
    int64_t waited_ms =
        (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    CHECK(waited_ms >= 19);
    CHECK(waited_ms < 9000);
    atomic_store_explicit(&arena.word, 1, memory_order_release);
    inv_futex_wake_all(&arena.word);
    for (int i = 0; i < LOCK_THREADS; i++) REQUIRE_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(atomic_load_explicit(&arena.woken, memory_order_relaxed), LOCK_THREADS);
}

/* ---- results and assertions ------------------------------------------------------------------ */

INV_TEST(every_result_has_a_name) {
    const struct {
        int code;
        const char *name;
    } table[] = {
        {INV_OK, "OK"},
        {INV_REPLAYED, "REPLAYED"},
        {INV_INSUFFICIENT, "INSUFFICIENT"},
        {INV_EXPIRED, "EXPIRED"},
        {INV_ALREADY_COMMITTED, "ALREADY_COMMITTED"},
        {INV_ALREADY_RELEASED, "ALREADY_RELEASED"},
        {INV_ALREADY_CANCELLED, "ALREADY_CANCELLED"},
        {INV_ALREADY_SHIPPED, "ALREADY_SHIPPED"},
        {INV_CLOSED, "CLOSED"},
        {INV_CAS_FAILED, "CAS_FAILED"},
        {INV_AS_OF_UNKNOWN, "AS_OF_UNKNOWN"},
        {INV_PREEMPTED, "PREEMPTED"},
        {INV_UNKNOWN_RESERVATION, "UNKNOWN_RESERVATION"},
        {INV_UNKNOWN_SKU, "UNKNOWN_SKU"},
        {INV_UNKNOWN_LOCATION, "UNKNOWN_LOCATION"},
        {INV_EVENTS_TRIMMED, "EVENTS_TRIMMED"},
        {INV_BAD_REQUEST, "BAD_REQUEST"},
        {INV_IDEMPOTENCY_MISMATCH, "IDEMPOTENCY_MISMATCH"},
        {INV_OVER_COMMIT, "OVER_COMMIT"},
        {INV_QTY_OUT_OF_RANGE, "QTY_OUT_OF_RANGE"},
        {INV_LIMIT_EXCEEDED, "LIMIT_EXCEEDED"},
        {INV_STALE_ID, "STALE_ID"},
        {INV_UNAUTHENTICATED, "UNAUTHENTICATED"},
        {INV_FORBIDDEN, "FORBIDDEN"},
        {INV_RATE_LIMITED, "RATE_LIMITED"},
        {INV_BUSY, "BUSY"},
        {INV_LAGGING, "LAGGING"},
        {INV_NOT_LEADER, "NOT_LEADER"},
        {INV_DISK_FULL, "DISK_FULL"},
        {INV_NO_MEMORY, "NO_MEMORY"},
        {INV_STORE_CLOSED, "STORE_CLOSED"},
        {INV_STORE_FAILED, "STORE_FAILED"},
        {INV_LOG_CORRUPT, "LOG_CORRUPT"},
        {INV_STORE_LOCKED, "STORE_LOCKED"},
        {INV_FORMAT_UNKNOWN, "FORMAT_UNKNOWN"},
        {INV_IO_ERROR, "IO_ERROR"},
    };
    size_t named = 0;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        CHECK_TEXT(inv_result_name(table[i].code), table[i].name);
    for (int code = -1; code <= 300; code++)
        named += strcmp(inv_result_name(code), "UNKNOWN_CODE") != 0;
    CHECK_EQ(named, sizeof table / sizeof table[0]);
    CHECK_TEXT(inv_result_name(2), "UNKNOWN_CODE");
    CHECK_TEXT(inv_result_name(INT32_MIN), "UNKNOWN_CODE");
}

INV_TEST(fail_fills_what_it_knows_and_nothing_else) {
    inv_error error = {.lsn = 7, .segment = 8, .offset = 9};
    CHECK_EQ(inv_fail(&error, INV_DISK_FULL, 28, "no room for %d of %s", 12, "wal-1"),
             INV_DISK_FULL);
    CHECK_EQ(error.code, INV_DISK_FULL);
    CHECK_EQ(error.os_errno, 28);
    CHECK_EQ(error.lsn, 7);
    CHECK_EQ(error.segment, 8);
    CHECK_EQ(error.offset, 9);
    CHECK_TEXT(error.message, "no room for 12 of wal-1");
    CHECK_EQ(inv_fail(NULL, INV_IO_ERROR, 5, "nobody listens"), INV_IO_ERROR);
    char wide[600];
    memset(wide, 'x', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    CHECK_EQ(inv_fail(&error, INV_IO_ERROR, 5, "%s", wide), INV_IO_ERROR);
    CHECK_EQ(strlen(error.message), sizeof error.message - 1);
}

INV_TEST(a_failed_assertion_prints_one_line_and_aborts) {
    int pipe_fds[2];
    REQUIRE_EQ(pipe(pipe_fds), 0);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(pipe_fds[1], STDERR_FILENO);
        INV_ASSERT(1 + 1 == 3);
        _exit(0);
    }
    (void)close(pipe_fds[1]);
    char text[256] = "";
    ssize_t got = read(pipe_fds[0], text, sizeof text - 1);
    (void)close(pipe_fds[0]);
    int status = 0;
    REQUIRE_EQ(waitpid(child, &status, 0), child);
    CHECK(got > 0);
    CHECK(strstr(text, "inventory: assertion failed: 1 + 1 == 3 (") == text);
    CHECK(strstr(text, "test_base.c:") != NULL);
    CHECK(strchr(text, '\n') == text + strlen(text) - 1);
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGABRT);
}

INV_TEST(small_helpers) {
    CHECK_EQ(inv_align_u64(0, 8), 0);
    CHECK_EQ(inv_align_u64(1, 8), 8);
    CHECK_EQ(inv_align_u64(8, 8), 8);
    CHECK_EQ(inv_min_u64(3, 4), 3);
    CHECK_EQ(inv_max_u64(3, 4), 4);
    uint8_t bytes[8];
    inv_put_u64(bytes, 0x1122334455667788ull);
    CHECK_EQ(bytes[0], 0x88);
    CHECK_EQ(inv_load_u16(bytes), 0x7788);
    CHECK_EQ(inv_load_u32(bytes), 0x55667788u);
    CHECK_EQ(inv_load_u64(bytes), 0x1122334455667788ull);
    CHECK(inv_text_equal(inv_text_of("abc"), inv_text_of("abc")));
    CHECK(!inv_text_equal(inv_text_of("abc"), inv_text_of("abd")));
    CHECK(!inv_text_equal(inv_text_of("abc"), inv_text_of("ab")));
    CHECK_EQ(inv_text_of(NULL).length, 0);
}

INV_TEST_MAIN()
