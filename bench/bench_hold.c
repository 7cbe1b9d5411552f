/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_hold.c: for how long is a stripe's lock held, by whom, and what does a caller feel of it?
 *
 * Row 20. A durable store of `skus` x `locations` rows and `reservations` live ones, with its own
 * three threads. Two kinds of lines:
 *
 *  - "held": from taking the first stripe's lock to giving the last one back, by table growth (new
 *    SKUs, received one at a time), packing, a snapshot, expiry, and a cart of one line in each
 *    stripe (4,096, the most there may be). The figure is the longest in processor time of the
 *    holder; wall_* is by the clock, so it has in it whatever else the machine did meanwhile, and
 *    what a cart waits for its second and later locks.
 *  - "felt": one call of one reserve by one other thread, by the clock, without the wait for the
 *    disk: while nothing else happens and during each of these. "at the copied stripe": it always
 *    asks for a SKU of the stripe that the snapshot copies now or next.
 *
 * The holds are seen from inside (inv_lock.h: INV_LOCK_WATCH), which costs two looks at two clocks,
 * about half a microsecond, where locks are held; calls are measured from outside.
 */
#include "../src/invcore/store/inv_snapshot.h"
#include "bench_common.h"

#define SAMPLES_MAX (1u << 22) /* of one kind; more are not kept */
#define CARTS 50u
#define SETTLE_EVERY 64u /* calls between two waits for the disk */
#define QUIET_NS 1500000000ull
#define PACK_WAIT_NS 120000000000ull

/* ---- samples --------------------------------------------------------------------------------- */

/* Written by one thread at a time; `count` is read by another to see whether it still grows. */
typedef struct samples {
    uint32_t *ns;
    uint32_t *cpu_ns; /* NULL: not measured */
    uint64_t count;
} samples;

static void samples_init(samples *of, bool with_cpu) {
    of->count = 0;
    of->ns = calloc(SAMPLES_MAX, sizeof *of->ns);
    of->cpu_ns = with_cpu ? calloc(SAMPLES_MAX, sizeof *of->cpu_ns) : NULL;
    if (of->ns == NULL || (with_cpu && of->cpu_ns == NULL)) die("memory", "none");
}

static void samples_deinit(samples *of) {
    free(of->ns);
    free(of->cpu_ns);
}

static uint32_t as_u32(uint64_t ns) { return ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX; }

static void samples_add(samples *to, uint64_t ns, uint64_t cpu_ns) {
    uint64_t at = to->count;
    if (at >= SAMPLES_MAX) return;
    to->ns[at] = as_u32(ns);
    if (to->cpu_ns != NULL) to->cpu_ns[at] = as_u32(cpu_ns);
    __atomic_store_n(&to->count, at + 1, __ATOMIC_RELEASE);
}

static int compare_ns(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static double us_at(const uint32_t *sorted, uint64_t count, uint64_t per_mille) {
    uint64_t at = count * per_mille / 1000;
    return (double)sorted[at < count ? at : count - 1] / 1e3;
}

/* The longest in us; `out` gets the fields p50, p99, p99.9 and max of this name. */
static double spread_of(uint32_t *ns, uint64_t count, const char *name, char out[static 256]) {
    qsort(ns, count, sizeof *ns, compare_ns);
    double most = us_at(ns, count, 1000);
    snprintf(out, 256,
             ", \"%s_p50_us\": %.1f, \"%s_p99_us\": %.1f, \"%s_p999_us\": %.1f, "
             "\"%s_max_us\": %.1f",
             name, us_at(ns, count, 500), name, us_at(ns, count, 990), name, us_at(ns, count, 999),
             name, most);
    return most;
}

static void print_samples(samples *of, const char *variant, const char *what, double must,
                          double aim, double seconds) {
    bench_line line = {.row = 20,
                       .variant = variant,
                       .what = what,
                       .unit = "us",
                       .durability = "durable",
                       .must = must,
                       .aim = aim,
                       .commands = of->count,
                       .seconds = seconds};
    char wall[256], cpu[256] = "", more[512];
    if (of->count == 0) {
        fprintf(stderr, "%s: %s: there were none\n", bench_program, variant);
        return;
    }
    line.figure = spread_of(of->ns, of->count, "wall", wall);
    if (of->cpu_ns != NULL) line.figure = spread_of(of->cpu_ns, of->count, "cpu", cpu);
    snprintf(more, sizeof more, "%s%s", cpu, wall);
    print_line(&line, more);
}

/* ---- locks that are held --------------------------------------------------------------------- */

typedef struct watch {
    uintptr_t first, end; /* the stripes; 0: nothing is looked at */
    samples *of_main, *of_housekeeper, *of_timekeeper; /* whose holds are kept, where; or NULL */
    pthread_t main, housekeeper, timekeeper;
} watch;

static watch watching;

static _Thread_local struct held {
    uint32_t depth;
    uint64_t start_ns, start_cpu_ns;
} held;

static samples *kept_for_this_thread(void) {
    pthread_t self = pthread_self();
    samples *const *kept = pthread_equal(self, watching.housekeeper)  ? &watching.of_housekeeper
                           : pthread_equal(self, watching.timekeeper) ? &watching.of_timekeeper
                           : pthread_equal(self, watching.main)       ? &watching.of_main
                                                                      : NULL;
    return kept == NULL ? NULL : __atomic_load_n(kept, __ATOMIC_ACQUIRE);
}

static bool is_stripe(const inv_lock *lock) {
    return (uintptr_t)lock >= __atomic_load_n(&watching.first, __ATOMIC_ACQUIRE) &&
           (uintptr_t)lock < watching.end;
}

void inv_lock_watch_taken(const inv_lock *lock) {
    if (!is_stripe(lock) || held.depth++ > 0) return;
    held.start_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    held.start_ns = now_ns();
}

void inv_lock_watch_given(const inv_lock *lock) {
    if (!is_stripe(lock) || held.depth == 0 || --held.depth > 0) return;
    uint64_t ns = now_ns() - held.start_ns;
    uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - held.start_cpu_ns;
    samples *to = kept_for_this_thread();
    if (to != NULL) samples_add(to, ns, cpu_ns);
}

static void watch_stripes(const bench *owner) {
    inv_stripe *stripes = owner->store->stripes;
    watching.main = pthread_self();
    watching.timekeeper = owner->loops[1];
    watching.housekeeper = owner->loops[2];
    watching.end = (uintptr_t)(stripes + owner->store->stripe_count);
    __atomic_store_n(&watching.first, (uintptr_t)stripes, __ATOMIC_RELEASE);
}

/* Between two phases, so that nothing is written to samples that are printed. A hold under way is
 * at most some milliseconds from its end. */
static void keep_holds(samples *own, samples *housekeeper, samples *timekeeper) {
    __atomic_store_n(&watching.of_main, own, __ATOMIC_RELEASE);
    __atomic_store_n(&watching.of_housekeeper, housekeeper, __ATOMIC_RELEASE);
    __atomic_store_n(&watching.of_timekeeper, timekeeper, __ATOMIC_RELEASE);
    usleep(100000);
}

/* ---- another caller -------------------------------------------------------------------------- */

typedef struct caller {
    bench *load;
    const uint32_t *sku_of_stripe; /* INV_NUMBER_NONE: it has none; NULL: random SKUs */
    samples felt;
    bench_commands commands;
    pthread_t thread;
    uint64_t start_ns;
    bool stop;
} caller;

/* The SKU to ask for next: of the stripe that is copied now, or of the one after it, in turns. */
static uint32_t aimed_sku(const caller *c, uint64_t call) {
    const inv_store *store = c->load->store;
    uint32_t next = __atomic_load_n(&store->snapshot->stripe, __ATOMIC_RELAXED);
    uint32_t stripe = (next + (uint32_t)(call & 1)) % store->stripe_count;
    return c->sku_of_stripe[stripe];
}

static void *run_caller(void *argument) {
    caller *c = argument;
    bench *b = c->load;
    for (uint64_t call = 0; !__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE); call++) {
        bench_next_reserve(b, 0);
        if (c->sku_of_stripe != NULL) {
            uint32_t sku = aimed_sku(c, call);
            if (sku != INV_NUMBER_NONE) b->batch_skus[0] = sku;
        }
        uint64_t start_ns = now_ns();
        bench_send_commands(b, &c->commands, 1, INV_OK);
        samples_add(&c->felt, now_ns() - start_ns, 0);
        if (call % SETTLE_EVERY == 0) bench_settle(b);
    }
    bench_settle(b);
    return NULL;
}

static caller *start_caller(const bench *owner, const bench_flags *flags, uint64_t load_number,
                            const uint32_t *sku_of_stripe) {
    caller *c = calloc(1, sizeof *c);
    if (c == NULL) die("memory", "none");
    c->load = bench_join(owner, flags, load_number, 0);
    c->sku_of_stripe = sku_of_stripe;
    samples_init(&c->felt, false);
    c->start_ns = now_ns();
    if (pthread_create(&c->thread, NULL, run_caller, c) != 0) die("threads", "none");
    return c;
}

static void end_caller(caller *c, const char *variant) {
    __atomic_store_n(&c->stop, true, __ATOMIC_RELEASE);
    pthread_join(c->thread, NULL);
    print_samples(&c->felt, variant, "felt by a caller of one reserve: the longest call", 0, 0,
                  (double)(now_ns() - c->start_ns) / 1e9);
    samples_deinit(&c->felt);
    bench_destroy(c->load);
    free(c);
}

/* ---- what holds locks ------------------------------------------------------------------------ */

/* One at a time, so that a hold is that of one row's growth and not of a batch of 32. */
static void grow(bench *b, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        char name[32];
        int length = snprintf(name, sizeof name, "G%011u", i);
        inv_line line = {.sku = {name, (uint32_t)length},
                         .location_number = b->locations[i % b->flags->locations],
                         .qty = 1};
        inv_command command = {.kind = INV_CMD_RECEIVE, .lines = &line, .line_count = 1};
        inv_reply_line shown;
        inv_reply reply = {.lines = &shown, .lines_max = 1};
        inv_result result = inv_store_execute(b->store, &command, 1, &reply);
        if (result != INV_OK || reply.code != INV_OK) die("receive", "refused");
        b->lsn = reply.observed_lsn;
        if (i % SETTLE_EVERY == 0) bench_settle(b);
    }
    bench_settle(b);
}

/* Packing begins when nothing has been taken for a while, and is over when it locks no more. */
static void wait_for_packing(const samples *packing, bool smoke) {
    uint64_t give_up_ns = now_ns() + PACK_WAIT_NS, seen = 0, changed_ns = now_ns();
    while (now_ns() < give_up_ns && now_ns() < changed_ns + (smoke ? 1 : 3) * QUIET_NS) {
        uint64_t count = __atomic_load_n(&packing->count, __ATOMIC_ACQUIRE);
        if (count != seen) changed_ns = now_ns();
        seen = count;
        usleep(10000);
    }
}

static void take_snapshot(const bench *b) {
    inv_error error;
    memset(&error, 0, sizeof error);
    inv_result result = INV_BUSY;
    while (result == INV_BUSY) result = inv_store_snapshot(b->store, 10000, &error);
    if (result != INV_OK) die("snapshot", error.message);
}

static inv_metrics metrics_of(const bench *b) {
    inv_metrics metrics;
    inv_store_metrics(b->store, &metrics);
    return metrics;
}

/* `count` holds that die at one moment, and waits until they are gone. */
static void expire(bench *b, uint64_t count) {
    uint64_t before = metrics_of(b).expired, start_ns = now_ns(), lead_ms = 1000 + count / 200;
    for (uint64_t made = 0; made < count; made += b->flags->batch) {
        uint64_t gone_ms = (now_ns() - start_ns) / 1000000;
        if (gone_ms + 1 >= lead_ms) die("holds", "made too slowly; take fewer");
        for (uint32_t i = 0; i < b->flags->batch; i++) {
            bench_next_reserve(b, i);
            b->batch_ttls_ms[i] = (uint32_t)(lead_ms - gone_ms);
        }
        bench_send_reserves(b, b->flags->batch, INV_OK);
    }
    bench_settle(b);
    for (uint64_t until_ns = now_ns() + 60000000000ull; metrics_of(b).expired < before + count;) {
        if (now_ns() > until_ns) die("holds", "still there a minute after their deadline");
        usleep(1000);
    }
}

/* Reserved and released, again and again. */
static void sell_carts(bench *b, const uint32_t *sku_of_stripe, samples *reserves,
                       samples *releases) {
    static inv_line lines[INV_LINE_COUNT_MAX];
    inv_reply_line shown;
    uint32_t count = 0;
    for (uint32_t i = 0; i < b->store->stripe_count && count < INV_LINE_COUNT_MAX; i++)
        if (sku_of_stripe[i] != INV_NUMBER_NONE)
            lines[count++] = (inv_line){.sku_number = sku_of_stripe[i],
                                        .location_number = b->locations[0],
                                        .qty = 1};
    for (uint32_t i = count - 1; i > 0; i--) { /* nobody puts a cart in the order of stripes */
        uint32_t other = bench_below(b, i + 1);
        inv_line moved = lines[i];
        lines[i] = lines[other];
        lines[other] = moved;
    }
    for (uint32_t i = 0; i < 2 * CARTS; i++) {
        bool release = i % 2 == 1;
        if (!release) bench_id(b->made++, b->ids[0]);
        inv_command command = {.kind = release ? INV_CMD_RELEASE : INV_CMD_RESERVE,
                               .id = {b->ids[0], sizeof b->ids[0]},
                               .id_is_uuid = true,
                               .ttl_ms = release ? 0 : TTL_LONG_MS};
        if (!release) {
            command.lines = lines;
            command.line_count = count;
        }
        inv_reply reply = {.lines = &shown, .lines_max = 1};
        __atomic_store_n(&watching.of_main, release ? releases : reserves, __ATOMIC_RELEASE);
        inv_result result = inv_store_execute(b->store, &command, 1, &reply);
        if (result != INV_OK || reply.code != INV_OK) die("a cart", "refused");
        b->lsn = reply.observed_lsn;
        bench_settle(b);
    }
}

/* ---- row 20 ---------------------------------------------------------------------------------- */

#define HELD "a stripe's lock held: the longest, in processor time"
#define MUST_US 1000 /* no caller is stopped for longer */
#define COPY_US 100  /* what a snapshot may take */

static uint32_t *find_sku_of_stripe(const bench *b) {
    uint32_t stripe_count = b->store->stripe_count;
    uint32_t *found = calloc(stripe_count, sizeof *found);
    if (found == NULL) die("memory", "none");
    for (uint32_t i = 0; i < stripe_count; i++) found[i] = INV_NUMBER_NONE;
    for (uint32_t i = 0; i < b->flags->skus; i++)
        found[b->skus[i] & (stripe_count - 1)] = b->skus[i]; /* a number's low bits name it */
    return found;
}

static void print_holds(samples *of, const char *variant, double aim, uint64_t start_ns) {
    keep_holds(NULL, NULL, NULL);
    print_samples(of, variant, HELD, MUST_US, aim, (double)(now_ns() - start_ns) / 1e9);
    of->count = 0;
}

static void hold_row(const bench_flags *flags, bool smoke) {
    samples holds, releases;
    uint64_t start_ns;
    make_dir(flags);
    bench *owner = bench_create(flags);
    bench_open(owner, INV_DURABLE, work_dir);
    bench_fill(owner);
    while (owner->made < flags->reservations) bench_reserve_batch(owner, flags->batch, false);
    bench_settle(owner);
    samples_init(&holds, true);
    samples_init(&releases, true);
    watch_stripes(owner);
    uint32_t *sku_of_stripe = find_sku_of_stripe(owner);

    start_ns = now_ns();
    keep_holds(&holds, NULL, NULL);
    grow(owner, flags->skus / 4);
    print_holds(&holds, "held by table growth", 0, start_ns);

    start_ns = now_ns();
    keep_holds(NULL, &holds, NULL);
    wait_for_packing(&holds, smoke);
    print_holds(&holds, "held by packing", 0, start_ns);

    caller *c = start_caller(owner, flags, 1, NULL);
    usleep((useconds_t)(flags->seconds * 1e6));
    end_caller(c, "felt while nothing else happens");

    start_ns = now_ns();
    keep_holds(NULL, &holds, NULL);
    c = start_caller(owner, flags, 2, NULL);
    take_snapshot(owner);
    end_caller(c, "felt during a snapshot");
    c = start_caller(owner, flags, 3, sku_of_stripe);
    take_snapshot(owner);
    end_caller(c, "felt during a snapshot, at the copied stripe");
    print_holds(&holds, "held by a snapshot", COPY_US, start_ns);

    start_ns = now_ns();
    keep_holds(NULL, NULL, &holds);
    c = start_caller(owner, flags, 4, NULL);
    expire(owner, flags->reservations / 2 / flags->batch * flags->batch);
    end_caller(c, "felt during expiry");
    print_holds(&holds, "held by expiry", 0, start_ns);

    start_ns = now_ns();
    c = start_caller(owner, flags, 5, NULL);
    sell_carts(owner, sku_of_stripe, &holds, &releases);
    end_caller(c, "felt during carts of a line in each stripe");
    print_holds(&holds, "held by the reserve of such a cart", 0, start_ns);
    print_holds(&releases, "held by the release of such a cart", 0, start_ns);

    samples_deinit(&holds);
    samples_deinit(&releases);
    free(sku_of_stripe);
    __atomic_store_n(&watching.first, UINTPTR_MAX, __ATOMIC_RELEASE); /* the stripes go */
    bench_destroy(owner);
    drop_dir();
}

int main(int argc, char **argv) {
    static bench_flags flags = {.skus = 1000000,
                                .locations = 10,
                                .reservations = 1000000,
                                .ended = 4000000,
                                .seconds = 10,
                                .batch = 256,
                                .rows = {[20] = true}};
    static const bench_flags smoke = {.skus = 5000,
                                      .locations = 3,
                                      .reservations = 10240,
                                      .ended = 100000,
                                      .seconds = 0.2,
                                      .batch = 256};
    bench_read_flags(argc, argv, &smoke, &flags);
    hold_row(&flags, flags.skus <= smoke.skus);
    return 0;
}
