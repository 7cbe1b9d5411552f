/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_expiry.c: what do other callers feel when a million holds die at the same moment? Row 13,
 * durable, on a directory. Two JSON lines: all holds on 1 SKU, and spread over as many SKUs.
 *
 * --reservations holds get the same deadline. One caller reserves other SKUs in an open loop: a
 * request is due every 1 / --rate seconds, whatever became of those before it; requests that became
 * due meanwhile go together; each is answered when it is durable, and its latency counts from when
 * it was due. `normal` are the requests due in the --seconds before the deadline, `meanwhile` those
 * from the deadline until all holds are gone. The figure is p99 meanwhile / p99 normal.
 *
 * Holds are made over some seconds, each with the ttl that ends at the deadline by the engine time
 * of the answer before it: deadline_spread_ms says how far apart the deadlines came to lie. The lag
 * is that of the engine time in the callers' answers behind the clock, above its least value in the
 * normal phase. With one SKU of holds the callers leave out the SKUs of its stripe, and the lag is
 * that of everything else: it has a limit. With holds on every stripe there is nothing else: a
 * stripe's time waits until its own holds are gone, and the lag is shown without a limit.
 *
 * Usage: bench_expiry [--reservations N] [--skus N] [--locations N] [--rate N] [--seconds N]
 *                     [--dir PATH] [--smoke]        --skus: of the other callers
 */
#include "bench_common.h"

#define LEAD_HOLDS_PER_S 100000.0 /* filling slower than this is an error */
#define GONE_WAIT_S 60.0
#define SAMPLE_NS 2000000
#define RATE_MAX 1000000u

/* The open loop of the other callers; the sampler below reads `stop` only. */
typedef struct caller {
    bench *load;
    bench_commands commands;
    uint64_t start_ns;    /* when request 0 is due */
    uint64_t interval_ns; /* between two requests */
    uint32_t *latencies;  /* us, by request; lags: ms */
    int32_t *lags;
    uint64_t count, count_max;
    int stop; /* written by the main thread, atomically */
} caller;

static void sleep_until(uint64_t until_ns) {
    struct timespec until = {(time_t)(until_ns / 1000000000ull), (long)(until_ns % 1000000000ull)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) continue;
}

static void *run_caller(void *argument) {
    caller *c = argument;
    bench *b = c->load;
    while (!__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE) && c->count < c->count_max) {
        uint64_t next_ns = c->start_ns + c->count * c->interval_ns, sent_ns = now_ns();
        if (next_ns > sent_ns) {
            sleep_until(next_ns);
            sent_ns = now_ns();
        }
        uint64_t due = (sent_ns - c->start_ns) / c->interval_ns + 1 - c->count;
        if (due > BATCH_COUNT_MAX) due = BATCH_COUNT_MAX;
        if (due > c->count_max - c->count) due = c->count_max - c->count;
        int64_t sent_ms = (int64_t)(clock_ns(CLOCK_BOOTTIME) / 1000000);
        for (uint32_t i = 0; i < due; i++) bench_next_reserve(b, i);
        bench_send_commands(b, &c->commands, (uint32_t)due, INV_OK);
        bench_settle(b);
        uint64_t done_ns = now_ns();
        for (uint64_t i = 0; i < due; i++, c->count++) {
            uint64_t late_us = (done_ns - c->start_ns - c->count * c->interval_ns) / 1000;
            c->latencies[c->count] = late_us < UINT32_MAX ? (uint32_t)late_us : UINT32_MAX;
            c->lags[c->count] = (int32_t)(sent_ms - (int64_t)c->commands.replies[i].now_unix_ms);
        }
    }
    return NULL;
}

/* ---- the burst ------------------------------------------------------------------------------- */

static inv_metrics metrics_of(const bench *b) {
    inv_metrics metrics;
    inv_store_metrics(b->store, &metrics);
    return metrics;
}

/* Makes the holds; one a SKU of the load, or all on its only one. Returns the spread in ms. */
static uint64_t make_holds(bench *b, bench_commands *c, uint64_t deadline_ms) {
    uint64_t earliest_ms = UINT64_MAX, latest_ms = 0, made = 0;
    uint64_t now_ms = metrics_of(b).now_unix_ms, wanted = b->flags->reservations;
    while (made < wanted) {
        uint64_t left = wanted - made;
        uint32_t batch = left < b->flags->batch ? (uint32_t)left : b->flags->batch;
        if (now_ms + 1000 > deadline_ms) die("holds", "made too slowly; take fewer");
        for (uint32_t i = 0; i < batch; i++, made++) {
            bench_next_reserve(b, i);
            b->batch_skus[i] = b->skus[made % b->flags->skus];
            b->batch_ttls_ms[i] = (uint32_t)(deadline_ms - now_ms);
        }
        bench_send_commands(b, c, batch, INV_OK);
        for (uint32_t i = 0; i < batch; i++) {
            uint64_t expires_ms = c->replies[i].expires_at_unix_ms;
            if (expires_ms < earliest_ms) earliest_ms = expires_ms;
            if (expires_ms > latest_ms) latest_ms = expires_ms;
        }
        now_ms = c->replies[batch - 1].now_unix_ms;
    }
    bench_settle(b);
    return latest_ms - earliest_ms;
}

/* ---- figures --------------------------------------------------------------------------------- */

static int compare_numbers(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

/* p99 in us of requests [first, end); sorts them. */
static double p99_of(uint32_t *latencies, uint64_t first, uint64_t end) {
    if (end <= first) die("requests", "none in a phase; raise --rate or --reservations");
    qsort(latencies + first, end - first, sizeof *latencies, compare_numbers);
    return (double)latencies[first + (end - first) * 99 / 100];
}

static uint64_t request_at(const caller *c, uint64_t at_ns) {
    uint64_t request = at_ns <= c->start_ns ? 0 : (at_ns - c->start_ns) / c->interval_ns;
    return request < c->count ? request : c->count;
}

static int32_t lag_limit(const caller *c, uint64_t first, uint64_t end, bool least) {
    int32_t found = c->lags[first];
    for (uint64_t i = first; i < end; i++)
        if (least ? c->lags[i] < found : c->lags[i] > found) found = c->lags[i];
    return found;
}

static void print_burst(const caller *c, const bench_flags *flags, bool everywhere,
                        uint64_t deadline_ns, uint64_t gone_ns, uint64_t spread_ms) {
    uint64_t normal = request_at(c, deadline_ns - (uint64_t)(flags->seconds * 1e9));
    uint64_t due = request_at(c, deadline_ns), gone = request_at(c, gone_ns);
    if (gone < due + 1 && due < c->count) gone = due + 1; /* gone before the next one was due */
    double p99_normal = p99_of(c->latencies, normal, due);
    double p99_meanwhile = p99_of(c->latencies, due, gone);
    int32_t least = lag_limit(c, normal, due, true);
    bench_line line = {.row = 13,
                       .variant = everywhere ? "on as many SKUs" : "on 1 SKU",
                       .what = "holds that die together: p99 of other callers meanwhile",
                       .figure = p99_meanwhile / p99_normal,
                       .unit = "x normal",
                       .durability = "durable",
                       .must = 3,
                       .aim = 1.5,
                       .commands = flags->reservations + c->count,
                       .seconds = flags->seconds};
    char more[640], lag[64];
    snprintf(lag, sizeof lag, everywhere ? "}, \"lag_ms\": %d" : ", \"lag_ms\": [%d, 50]}",
             lag_limit(c, due, gone, false) - least);
    snprintf(more, sizeof more,
             ", \"limits\": {\"gone_s\": [%.3f, 2]%s, "
             "\"p99_normal_ms\": %.3f, \"p99_meanwhile_ms\": %.3f, \"max_meanwhile_ms\": %.3f, "
             "\"lag_normal_ms\": %d, \"holds\": %" PRIu64 ", \"deadline_spread_ms\": %" PRIu64
             ", \"rate_offered\": %u, \"requests_normal\": %" PRIu64
             ", \"requests_meanwhile\": %" PRIu64,
             (double)(gone_ns - deadline_ns) / 1e9, lag, p99_normal / 1e3, p99_meanwhile / 1e3,
             (double)c->latencies[gone - 1] / 1e3,
             lag_limit(c, normal, due, false) - least, flags->reservations, spread_ms, flags->rate,
             due - normal, gone - due);
    print_line(&line, more);
}

/* Takes the SKUs behind the lock of `sku_number` out of a load's; a number's low bits name it. */
static uint32_t leave_out_stripe(uint32_t *skus, uint32_t count, uint32_t sku_number) {
    inv_options options;
    inv_options_init(&options);
    uint32_t kept = 0, mask = (1u << options.stripe_bits) - 1;
    for (uint32_t i = 0; i < count; i++)
        if ((skus[i] & mask) != (sku_number & mask)) skus[kept++] = skus[i];
    return kept;
}

static void expiry_row(const bench_flags *flags, uint32_t burst_skus) {
    double lead_s = (double)flags->reservations / LEAD_HOLDS_PER_S + flags->seconds + 1;
    bench_flags all = *flags, burst_flags = *flags, caller_flags = *flags;
    all.skus = burst_skus + flags->skus;
    burst_flags.skus = burst_skus;
    make_dir(flags);
    bench *owner = bench_create(&all);
    bench_open(owner, INV_DURABLE, work_dir);
    bench_fill(owner);
    bench_settle(owner);
    static caller c; /* too large for the stack */
    memset(&c, 0, sizeof c);
    c.load = bench_join(owner, &caller_flags, 1, burst_skus);
    c.interval_ns = 1000000000ull / flags->rate;
    c.count_max = (uint64_t)((lead_s + GONE_WAIT_S) * flags->rate);
    bench *burst = bench_join(owner, &burst_flags, 2, 0);
    if (burst_skus == 1)
        caller_flags.skus = leave_out_stripe(c.load->skus, flags->skus, burst->skus[0]);
    c.latencies = calloc(c.count_max, sizeof *c.latencies);
    c.lags = calloc(c.count_max, sizeof *c.lags);
    if (c.latencies == NULL || c.lags == NULL) die("memory", "none");

    inv_metrics start = metrics_of(owner); /* engine time + its lag is the clock's now */
    uint64_t deadline_ms = start.now_unix_ms + start.lag_ms + (uint64_t)(lead_s * 1000);
    uint64_t deadline_ns = now_ns() + (uint64_t)(lead_s * 1e9);
    uint64_t spread_ms = make_holds(burst, &c.commands, deadline_ms);
    if (now_ns() + (uint64_t)(flags->seconds * 1e9) > deadline_ns)
        die("holds", "made too slowly; take fewer");
    pthread_t thread;
    c.start_ns = now_ns();
    if (pthread_create(&thread, NULL, run_caller, &c) != 0) die("threads", "none");
    sleep_until(deadline_ns);
    uint64_t gone_ns = 0, give_up_ns = deadline_ns + (uint64_t)(GONE_WAIT_S * 1e9);
    for (uint64_t at_ns = deadline_ns; gone_ns == 0 && at_ns < give_up_ns; at_ns += SAMPLE_NS) {
        sleep_until(at_ns);
        if (metrics_of(owner).expired >= flags->reservations) gone_ns = now_ns();
    }
    sleep_until((gone_ns != 0 ? gone_ns : give_up_ns) + 100000000); /* the last ones answered */
    __atomic_store_n(&c.stop, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    if (gone_ns == 0) die("holds", "still there a minute after their deadline");
    print_burst(&c, flags, burst_skus > 1, deadline_ns, gone_ns, spread_ms);
    free(c.latencies);
    free(c.lags);
    bench_destroy(burst);
    bench_destroy(c.load);
    bench_destroy(owner);
    drop_dir();
}

int main(int argc, char **argv) {
    static bench_flags flags = {.skus = 100000,
                                .locations = 10,
                                .reservations = 1000000,
                                .ended = 4000000,
                                .seconds = 10,
                                .batch = 256,
                                .rate = 20000,
                                .rows = {[13] = true}};
    static const bench_flags smoke = {.skus = 1000,
                                      .locations = 3,
                                      .reservations = 20000,
                                      .ended = 100000,
                                      .seconds = 0.4,
                                      .batch = 256,
                                      .rate = 2000};
    bench_read_flags(argc, argv, &smoke, &flags);
    if (flags.rate == 0 || flags.rate > RATE_MAX || flags.reservations == 0 ||
        flags.reservations > SKUS_MAX)
        die("flags", "out of range");
    expiry_row(&flags, 1);
    expiry_row(&flags, (uint32_t)flags.reservations);
    return 0;
}
