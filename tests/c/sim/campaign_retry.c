/* SPDX-License-Identifier: Apache-2.0
 *
 * campaign_retry.c: campaign 15. Requests reach the store twice or more often, late, in another
 * order, after a restart, with another body under the same id, and after their id's window.
 *
 * Every request is one message on a network that copies, delays and reorders it. Ids are of all
 * kinds (UUID v4 and v7, text), of reservations and of calls (op_id). What is promised:
 *
 *     within the window   one effect; the same body again is REPLAYED, another one is refused
 *     beyond it           a UUID v7 is refused (STALE_ID) and never acts again; other ids are new
 *     a fresh v7          never STALE: neither before the window's edge nor behind it
 *
 * The oracle counts effects. One reservation has one line, so whatever happens to it is three
 * figures. What stands at the disk is known by lsn: after a crash the oracle goes back to its copy.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "campaign.h"
#include "world.h"

#define KEY_COUNT 40u  /* ids in play; each begins a new life with a new id when it is done */
#define SKU_COUNT 4u
#define MESSAGE_COUNT_MAX 256u
#define STEP_COUNT 2000u
#define COPY_COUNT_MAX 64u
#define RETENTION_MS 6000u
#define STOCK 1000000
#define HOUR_MS 3600000u

typedef enum id_form { ID_V4, ID_V7, ID_TEXT, ID_FORM_COUNT } id_form;

/* What the engine must know of one id. */
typedef struct key_fate {
    bool known;     /* it took effect and the engine must or may still remember it */
    bool is_op;     /* of a receipt: only the body matters */
    uint8_t state;  /* inv_state */
    int32_t held, allocated, shipped;
    uint64_t deadline_ms;
    uint64_t ended_ms; /* when it ended or (op) was done; 0: it lives */
    uint64_t lsn;
    int64_t qty;       /* of the accepted body */
    uint32_t effects;  /* times it took effect in this life */
} key_fate;

typedef struct fates { /* all that a crash can take back */
    uint64_t lsn;
    key_fate keys[KEY_COUNT];
    int64_t on_hand[SKU_COUNT];
} fates;

typedef struct key_name {
    uint8_t bytes[24];
    uint32_t length;
    id_form form;
    uint64_t born_ms; /* wall clock when its client made it up */
    uint32_t sku;
    uint64_t ttl_ms;
    uint64_t give_up_ms; /* nothing about it is sent any more */
} key_name;

typedef struct message {
    uint64_t due_ms;
    uint32_t key;
    uint32_t life; /* of the key: a message of an earlier life is dropped */
    uint8_t kind;  /* inv_command_kind */
    int64_t qty;
    bool by_batch;
} message;

typedef struct retry {
    campaign_report *report;
    world w; /* clock, disk and store only; its oracle is not used */
    uint64_t random;
    key_name names[KEY_COUNT];
    uint32_t lives[KEY_COUNT];
    fates now;
    fates copies[COPY_COUNT_MAX]; /* after each change that is not durable yet, oldest first */
    uint32_t copy_count;
    fates durable;
    message network[MESSAGE_COUNT_MAX];
    uint32_t message_count;
    uint64_t serial;
} retry;

static uint32_t below(retry *r, uint32_t bound) { return world_below(&r->random, bound); }
static bool chance(retry *r, uint32_t one_in) { return world_chance(&r->random, one_in); }

/* ---- ids ------------------------------------------------------------------------------------- */
static void begin_life(retry *r, uint32_t key) {
    key_name *name = &r->names[key];
    memset(name, 0, sizeof *name);
    r->lives[key]++;
    memset(&r->now.keys[key], 0, sizeof r->now.keys[key]);
    name->form = (id_form)below(r, ID_FORM_COUNT);
    name->born_ms = r->w.clock_ms;
    name->sku = below(r, SKU_COUNT);
    name->ttl_ms = chance(r, 2) ? HOUR_MS : 1 + below(r, 5000);
    name->give_up_ms = name->born_ms + 1000 + below(r, 20000);
    r->now.keys[key].is_op = chance(r, 3);
    r->serial++;
    if (name->form == ID_TEXT) {
        name->length = (uint32_t)snprintf((char *)name->bytes, sizeof name->bytes,
                                          "T%" PRIu64 "-%u", r->serial, key);
        return;
    }
    name->length = 16;
    for (uint32_t i = 0; i < 16; i++) name->bytes[i] = (uint8_t)below(r, 256);
    name->bytes[6] = (uint8_t)((name->bytes[6] & 0x0F) | (name->form == ID_V7 ? 0x70 : 0x40));
    name->bytes[8] = (uint8_t)((name->bytes[8] & 0x3F) | 0x80);
    for (uint32_t i = 0; name->form == ID_V7 && i < 6; i++)
        name->bytes[i] = (uint8_t)(name->born_ms >> (40 - 8 * i));
}

/* ---- the network ----------------------------------------------------------------------------- */
static void post(retry *r, uint32_t key, uint8_t kind, int64_t qty) {
    uint32_t copies = 1 + (chance(r, 2) ? below(r, 4) : 0);
    for (uint32_t i = 0; i < copies && r->message_count < MESSAGE_COUNT_MAX; i++) {
        static const uint32_t delays[] = {1, 200, 3000, RETENTION_MS + 2000, 3 * RETENTION_MS};
        uint64_t due_ms = r->w.clock_ms + below(r, delays[below(r, 5)]);
        r->network[r->message_count++] = (message){.due_ms = due_ms,
                                                   .key = key,
                                                   .life = r->lives[key],
                                                   .kind = kind,
                                                   .qty = qty,
                                                   .by_batch = chance(r, 4)};
    }
}

/* One of those that are due, any of them: that is the reordering. */
static bool pick(retry *r, message *out) {
    uint32_t due[MESSAGE_COUNT_MAX], count = 0;
    for (uint32_t i = 0; i < r->message_count; i++)
        if (r->network[i].due_ms <= r->w.clock_ms) due[count++] = i;
    if (count == 0) return false;
    uint32_t at = due[below(r, count)];
    *out = r->network[at];
    r->network[at] = r->network[--r->message_count];
    return true;
}

static bool flush(retry *r) {
    if (inv_store_flush(r->w.store) != INV_OK || !world_prepare_all(&r->w))
        return world_problem(&r->w, "flush or prepare");
    r->durable = r->now;
    r->copy_count = 0;
    return true;
}

/* A client is done with its id. How that life ended is durable before the next begins, so no crash
 * brings an earlier one back. */
static bool give_up(retry *r, uint32_t key) {
    for (uint32_t i = 0; i < r->message_count; i++)
        if (r->network[i].key == key && r->network[i].life == r->lives[key]) return true;
    if (r->now.keys[key].held + r->now.keys[key].allocated > 0) {
        post(r, key, INV_CMD_CANCEL, 0); /* nothing is left behind */
        return true;
    }
    if (!flush(r)) return false;
    begin_life(r, key);
    r->durable = r->now;
    return true;
}

static bool think(retry *r) {
    static const uint8_t later[] = {INV_CMD_COMMIT, INV_CMD_COMMIT, INV_CMD_SHIP,
                                    INV_CMD_RELEASE, INV_CMD_CANCEL};
    uint32_t key = below(r, KEY_COUNT);
    const key_name *name = &r->names[key];
    if (name->give_up_ms < r->w.clock_ms) return give_up(r, key);
    bool is_op = r->now.keys[key].is_op;
    uint8_t kind = is_op ? INV_CMD_RECEIVE : INV_CMD_RESERVE;
    if (!is_op && chance(r, 2)) kind = later[below(r, sizeof later)];
    int64_t qty = 1 + key % 7;
    if (chance(r, 6)) qty = 20 + below(r, 3); /* another body under the same id */
    post(r, key, kind, qty);
    return true;
}

/* ---- sending --------------------------------------------------------------------------------- */
static inv_text sku_name(uint32_t sku) {
    static const char *const names[SKU_COUNT] = {"TEE", "MUG", "CAP", "BAG"};
    return (inv_text){names[sku], 3};
}

static inv_command command_of(const retry *r, const message *sent, inv_line *line) {
    const key_name *name = &r->names[sent->key];
    inv_text id = {(const char *)name->bytes, name->length};
    inv_command command;
    memset(&command, 0, sizeof command);
    memset(line, 0, sizeof *line);
    command.kind = sent->kind;
    *line = (inv_line){.sku = sku_name(name->sku), .location = {"LON", 3}, .qty = sent->qty};
    if (sent->kind == INV_CMD_RECEIVE) {
        command.op_id = id;
        command.op_id_is_uuid = name->form != ID_TEXT;
    } else {
        command.id = id;
        command.id_is_uuid = name->form != ID_TEXT;
    }
    if (sent->kind == INV_CMD_RECEIVE || sent->kind == INV_CMD_RESERVE) {
        command.lines = line;
        command.line_count = 1;
    }
    if (sent->kind == INV_CMD_RESERVE) command.ttl_ms = name->ttl_ms;
    return command;
}

static bool numbers_of(retry *r, uint32_t sku, uint32_t *out_sku, uint32_t *out_location) {
    inv_text name = sku_name(sku), place = {"LON", 3}, seller = {NULL, 0};
    uint64_t lsn = 0;
    size_t bad = 0;
    return inv_store_numbers(r->w.store, INV_NAME_SKU, seller, &name, 1, false, out_sku, &lsn,
                             &bad) == INV_OK &&
           inv_store_numbers(r->w.store, INV_NAME_LOCATION, seller, &place, 1, false, out_location,
                             &lsn, &bad) == INV_OK;
}

/* A row of a batch must be the same request as a single call. Its lsn is read back. */
static int send_by_batch(retry *r, const message *sent, uint64_t *out_lsn) {
    const key_name *name = &r->names[sent->key];
    uint32_t sku = INV_NUMBER_NONE, location = INV_NUMBER_NONE, ttl_ms = (uint32_t)name->ttl_ms;
    uint8_t code = 0;
    inv_error error = {0};
    if (!numbers_of(r, name->sku, &sku, &location)) return INV_STORE_FAILED;
    uint16_t place = (uint16_t)location;
    inv_batch batch = {.kind = sent->kind, .count = 1, .skus = &sku, .locations = &place,
                       .qtys = &sent->qty, .ids = name->bytes, .ttls_ms = &ttl_ms};
    inv_result result = inv_store_execute_batch(r->w.store, &batch, &code, out_lsn, &error);
    return result == INV_OK ? code : (int)result;
}

/* Makes room first, so that nothing is BUSY: what a busy store does is campaign 2's subject. */
static int deliver(retry *r, const message *sent, inv_reply *reply) {
    inv_line line;
    inv_reply_line lines[4];
    memset(reply, 0, sizeof *reply);
    reply->lines = lines;
    reply->lines_max = 4;
    bool by_batch = sent->by_batch && r->names[sent->key].form != ID_TEXT;
    if (by_batch) return send_by_batch(r, sent, &reply->lsn);
    inv_command command = command_of(r, sent, &line);
    inv_result result = inv_store_execute(r->w.store, &command, 1, reply);
    return result == INV_OK ? reply->code : (int)result;
}

/* ---- the oracle ------------------------------------------------------------------------------ */
static bool wrong(retry *r, const message *sent, int code, const char *why) {
    const key_fate *fate = &r->now.keys[sent->key];
    static const char *const forms[] = {"v4", "v7", "text"};
    return world_problem(&r->w,
                         "kind %u under a %s id%s answers %s: %s (known %d, state %u, ended at "
                         "%" PRIu64 ", born %" PRIu64 ", now %" PRIu64 ")",
                         sent->kind, forms[r->names[sent->key].form],
                         sent->by_batch ? " in a batch" : "", inv_result_name(code), why,
                         fate->known, fate->state, fate->ended_ms, r->names[sent->key].born_ms,
                         r->w.clock_ms);
}

/* Where the published window begins, in engine time. */
static uint64_t window_start(retry *r) {
    inv_metrics metrics;
    inv_store_metrics(r->w.store, &metrics);
    return r->w.clock_ms - inv_min_u64(r->w.clock_ms, metrics.id_window_ms);
}

static bool must_be_known(retry *r, const key_fate *fate) {
    return fate->known && (fate->ended_ms == 0 || fate->ended_ms >= window_start(r));
}

static void took_effect(retry *r, uint32_t key, uint64_t lsn) {
    r->now.lsn = lsn;
    r->now.keys[key].lsn = lsn;
    r->copies[r->copy_count++] = r->now;
}

static void first_effect(retry *r, const message *sent, uint64_t lsn) {
    key_fate *fate = &r->now.keys[sent->key];
    uint32_t effects = fate->effects + 1;
    bool is_op = fate->is_op;
    *fate = (key_fate){.known = true, .is_op = is_op, .qty = sent->qty, .effects = effects};
    if (is_op) {
        fate->ended_ms = r->w.clock_ms;
        r->now.on_hand[r->names[sent->key].sku] += sent->qty;
    } else {
        fate->state = INV_STATE_HELD;
        fate->held = (int32_t)sent->qty;
        fate->deadline_ms = r->w.clock_ms + r->names[sent->key].ttl_ms;
    }
    took_effect(r, sent->key, lsn);
}

static bool is_about_state(int code) {
    return code == INV_REPLAYED || code == INV_EXPIRED ||
           (code >= INV_ALREADY_COMMITTED && code <= INV_ALREADY_SHIPPED);
}

/* A reserve or a receipt: the first one acts, and no other does. */
static bool judge_first(retry *r, const message *sent, int code, uint64_t lsn) {
    key_fate *fate = &r->now.keys[sent->key];
    const key_name *name = &r->names[sent->key];
    bool same = fate->qty == sent->qty;
    bool known = must_be_known(r, fate);
    if (known && !same && code == INV_IDEMPOTENCY_MISMATCH) {
        r->report->mismatches++;
        return true;
    }
    if (known && same && (code == INV_REPLAYED || (sent->by_batch && is_about_state(code)))) {
        r->report->replayed++;
        return true;
    }
    if (known) return wrong(r, sent, code, "the id is known");
    bool stale = name->form == ID_V7 && name->born_ms < window_start(r);
    if (code == INV_STALE_ID) {
        r->report->stale++;
        return stale ? true : wrong(r, sent, code, "the id is not that old");
    }
    /* Remembered for longer than promised (while a snapshot is copied, for one) is no harm. */
    if (fate->known && code != INV_OK)
        return is_about_state(code) || code == INV_IDEMPOTENCY_MISMATCH
                   ? true
                   : wrong(r, sent, code, "neither known nor new");
    if (stale) return wrong(r, sent, code, "an old v7 id acts");
    if (code != INV_OK) return wrong(r, sent, code, "the first one is refused");
    r->report->forgotten += fate->known;
    if (fate->known && name->form == ID_V7) return wrong(r, sent, code, "a second effect");
    first_effect(r, sent, lsn);
    return true;
}

static void end_with(retry *r, key_fate *fate, uint8_t state, uint64_t lsn, uint32_t key) {
    fate->state = state;
    fate->ended_ms = r->w.clock_ms;
    took_effect(r, key, lsn);
}

/* Commit, ship, release, cancel: what it must do now, or nothing. */
static bool judge_later(retry *r, const message *sent, int code, uint64_t lsn) {
    key_fate *fate = &r->now.keys[sent->key];
    bool held = fate->known && fate->state == INV_STATE_HELD;
    bool allocated = fate->known && fate->state == INV_STATE_ALLOCATED;
    bool acts = held || (allocated && (sent->kind == INV_CMD_SHIP || sent->kind == INV_CMD_CANCEL));
    if (acts != (code == INV_OK))
        return wrong(r, sent, code, acts ? "it must act" : "it must not act");
    if (!acts) {
        bool unknown = code == INV_UNKNOWN_RESERVATION;
        if (unknown && must_be_known(r, fate)) return wrong(r, sent, code, "the id is known");
        if (!unknown && !is_about_state(code)) return wrong(r, sent, code, "no answer to that");
        r->report->replayed += code == INV_REPLAYED;
        return true;
    }
    int32_t units = fate->held + fate->allocated;
    switch ((inv_command_kind)sent->kind) {
    case INV_CMD_COMMIT:
        fate->allocated = units;
        fate->held = 0;
        fate->state = INV_STATE_ALLOCATED;
        took_effect(r, sent->key, lsn);
        return true;
    case INV_CMD_SHIP:
        fate->shipped = units;
        r->now.on_hand[r->names[sent->key].sku] -= units;
        break;
    case INV_CMD_RESERVE:
    case INV_CMD_RELEASE:
    case INV_CMD_CANCEL:
    case INV_CMD_EXTEND:
    case INV_CMD_RECEIVE:
    case INV_CMD_ISSUE:
    case INV_CMD_ADJUST:
    case INV_CMD_SET_ON_HAND:
    case INV_CMD_SET_POLICY: break;
    }
    fate->held = fate->allocated = 0;
    end_with(r, fate, sent->kind == INV_CMD_SHIP      ? INV_STATE_SHIPPED
                      : sent->kind == INV_CMD_RELEASE ? INV_STATE_RELEASED
                                                      : INV_STATE_CANCELLED,
             lsn, sent->key);
    return true;
}

static bool deliver_one(retry *r) {
    message sent;
    inv_reply reply;
    if (!pick(r, &sent)) return true;
    if (sent.life != r->lives[sent.key]) return true;
    if (r->copy_count + 1 >= COPY_COUNT_MAX && !flush(r)) return false;
    int code = deliver(r, &sent, &reply);
    r->report->commands++;
    r->report->duplicates += r->now.keys[sent.key].known;
    bool first = sent.kind == INV_CMD_RESERVE || sent.kind == INV_CMD_RECEIVE;
    bool ok = first ? judge_first(r, &sent, code, reply.lsn)
                    : judge_later(r, &sent, code, reply.lsn);
    /* Nobody is told before it is safe; whoever was told knows it after every crash. */
    return ok && (chance(r, 3) ? flush(r) : true);
}

/* ---- time ------------------------------------------------------------------------------------ */
static bool read_key(retry *r, uint32_t key, inv_reply *out) {
    const key_name *name = &r->names[key];
    inv_reply_line lines[4];
    memset(out, 0, sizeof *out);
    out->lines = lines;
    out->lines_max = 4;
    inv_text id = {(const char *)name->bytes, name->length};
    inv_result result = inv_store_reservation(r->w.store, (inv_text){NULL, 0}, id,
                                              name->form != ID_TEXT, out);
    if (result != INV_OK && result != INV_UNKNOWN_RESERVATION)
        return world_problem(&r->w, "reservation answers %s", inv_result_name(result));
    out->code = (int)result;
    return true;
}

/* Holds that are due have expired, each with a record of its own in some order. */
static bool take_expired(retry *r) {
    for (uint32_t round = 0; round < KEY_COUNT; round++) {
        uint32_t lowest = KEY_COUNT;
        uint64_t lsn = UINT64_MAX, ended_ms = 0;
        for (uint32_t key = 0; key < KEY_COUNT; key++) {
            const key_fate *fate = &r->now.keys[key];
            inv_reply reply;
            if (!fate->known || fate->state != INV_STATE_HELD) continue;
            if (fate->deadline_ms > r->w.clock_ms) continue;
            if (!read_key(r, key, &reply)) return false;
            if (reply.state != INV_STATE_EXPIRED)
                return world_problem(&r->w, "a hold outlives its deadline");
            if (reply.lsn >= lsn) continue;
            lowest = key;
            lsn = reply.lsn;
            ended_ms = reply.ended_at_unix_ms;
        }
        if (lowest == KEY_COUNT) return true;
        key_fate *fate = &r->now.keys[lowest];
        if (r->copy_count + 2 >= COPY_COUNT_MAX && !flush(r)) return false;
        fate->held = 0;
        end_with(r, fate, INV_STATE_EXPIRED, lsn, lowest);
        fate->ended_ms = ended_ms;
        r->copies[r->copy_count - 1] = r->now;
        r->report->expired++;
    }
    return true;
}

static bool advance(retry *r, uint64_t ms) {
    world *w = &r->w;
    w->clock_ms += ms;
    inv_env_set_clock(w->env, w->clock_ms);
    bool more = true;
    for (uint32_t i = 0; more && i < 256; i++) {
        if (inv_store_advance(w->store, 1 + below(r, 16), &more) != INV_OK)
            return world_problem(w, "advance");
        if (more && !world_prepare_all(w)) return false;
        if (more && inv_store_flush(w->store) != INV_OK) return world_problem(w, "flush");
    }
    return more ? world_problem(w, "advance never ends") : take_expired(r);
}

/* ---- crashes --------------------------------------------------------------------------------- */
static bool same_figures(retry *r, const char *when) {
    world *w = &r->w;
    int64_t held[SKU_COUNT] = {0}, allocated[SKU_COUNT] = {0};
    for (uint32_t key = 0; key < KEY_COUNT; key++) {
        const key_fate *fate = &r->now.keys[key];
        uint32_t sku = r->names[key].sku;
        held[sku] += fate->held;
        allocated[sku] += fate->allocated;
        inv_reply reply;
        if (fate->is_op || !must_be_known(r, fate)) continue;
        if (!read_key(r, key, &reply)) return false;
        if (reply.state != fate->state)
            return world_problem(w, "%s: a reservation is in state %u, not %u", when, reply.state,
                                 fate->state);
    }
    for (uint32_t sku = 0; sku < SKU_COUNT; sku++) {
        inv_line line = {.sku = sku_name(sku), .location = {"LON", 3}};
        inv_stock_level level;
        memset(&level, 0, sizeof level);
        if (inv_store_availability(w->store, (inv_text){NULL, 0}, &line, &level) != INV_OK)
            return world_problem(w, "%s: a row is not there", when);
        if (level.on_hand != r->now.on_hand[sku] || level.held != held[sku] ||
            level.allocated != allocated[sku])
            return world_problem(w,
                                 "%s: on_hand %" PRId64 ", held %" PRId64 ", allocated %" PRId64
                                 "; effects say %" PRId64 ", %" PRId64 ", %" PRId64,
                                 when, level.on_hand, level.held, level.allocated,
                                 r->now.on_hand[sku], held[sku], allocated[sku]);
    }
    inv_check_report report;
    memset(&report, 0, sizeof report);
    if (inv_store_check(w->store, &report) != INV_OK || !report.ok)
        return world_problem(w, "%s: check: %s", when, report.problem);
    return true;
}

static bool reopen(retry *r) {
    world *w = &r->w;
    inv_error error;
    memset(&error, 0, sizeof error);
    uint32_t how = below(r, 3);
    if (how == 0 && (!flush(r) || inv_store_close(w->store, &error) != INV_OK))
        return world_problem(w, "close");
    world_abandon(w);
    if (how == 2) inv_memory_power_cut(w->memory, chance(r, 2) ? 0 : world_random(&r->random));
    w->clock_ms += below(r, 3) == 0 ? below(r, 3000) : 0; /* downtime */
    if (world_open(w, &error) != INV_OK) return world_problem(w, "open: %s", error.message);
    inv_recovery recovery;
    inv_store_recovery(w->store, &recovery);
    r->report->restarts++;
    if (recovery.lsn_end < r->durable.lsn)
        return world_problem(w, "what was acknowledged is not there");
    r->now = r->durable;
    for (uint32_t i = 0; i < r->copy_count; i++)
        if (r->copies[i].lsn <= recovery.lsn_end) r->now = r->copies[i];
    if (!flush(r)) return false;
    /* The grace is 1 ms: engine time is the clock's again before anything is asked. */
    return advance(r, 1) && advance(r, 1) && same_figures(r, "after opening");
}

/* ---- one seed -------------------------------------------------------------------------------- */
static bool begin(retry *r) {
    world *w = &r->w;
    inv_error error;
    if (world_open(w, &error) != INV_OK) return world_problem(w, "open: %s", error.message);
    if (!world_prepare_all(w)) return false;
    for (uint32_t sku = 0; sku < SKU_COUNT; sku++) {
        inv_line line = {.sku = sku_name(sku), .location = {"LON", 3}, .qty = STOCK};
        inv_command command = {.kind = INV_CMD_RECEIVE, .lines = &line, .line_count = 1};
        inv_reply reply;
        memset(&reply, 0, sizeof reply);
        if (inv_store_execute(w->store, &command, 1, &reply) != INV_OK || reply.code != INV_OK)
            return world_problem(w, "receive");
        r->now.on_hand[sku] = STOCK;
        r->now.lsn = reply.lsn;
    }
    for (uint32_t key = 0; key < KEY_COUNT; key++) begin_life(r, key);
    return flush(r);
}

static bool step(retry *r) {
    static const uint32_t spans[] = {1, 30, 400, 1500};
    uint32_t pick = below(r, 1000);
    if (pick < 360) return think(r);
    if (pick < 880) return deliver_one(r);
    if (pick < 993) return advance(r, 1 + below(r, spans[below(r, 4)]));
    return reopen(r);
}

static bool run_seed(retry *r, campaign_report *report, uint64_t seed) {
    world *w = &r->w;
    memset(r, 0, sizeof *r);
    r->report = report;
    r->random = seed * 0xBF58476D1CE4E5B9ull + 9;
    world_init(w, seed);
    w->options.segment_bytes = 65536;
    w->options.id_retention_ms = RETENTION_MS;
    w->options.restart_grace_ms = 1;
    w->options.snapshot_log_bytes = chance(r, 2) ? 8u << 10 : 0;
    if (chance(r, 3)) w->options.ended_ids_max = 4 + below(r, 20);
    bool ok = begin(r);
    for (uint32_t i = 0; ok && i < STEP_COUNT; i++) {
        ok = step(r);
        if (ok && i % 50 == 49) ok = same_figures(r, "while running");
    }
    ok = ok && flush(r) && reopen(r);
    world_abandon(w);
    if (!ok) snprintf(report->problem, sizeof report->problem, "%s", w->problem);
    world_deinit(w);
    return ok;
}

void campaign_retry(const campaign_options *options, campaign_report *report) {
    double began = campaign_now_seconds();
    retry *r = calloc(1, sizeof *r);
    if (r == NULL) abort();
    memset(report, 0, sizeof *report);
    for (uint64_t i = 0; report->commands < options->states; i++) {
        if (options->seconds > 0 && campaign_now_seconds() - began >= options->seconds) break;
        report->seed_next = options->seed + i + 1;
        report->scenarios++;
        if (run_seed(r, report, options->seed + i)) continue;
        report->seed_failed = options->seed + i;
        break;
    }
    free(r);
    report->seconds = campaign_now_seconds() - began;
}
