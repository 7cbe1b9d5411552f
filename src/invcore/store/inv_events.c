/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_events.c: the log of an open store as events, in order, complete, from any position on.
 *
 * A reader has one buffer, of a record at its largest. inv_events_fill finds the segment of the
 * next record, reads from there up to what is durable, and demands that a whole valid record is
 * there: below the durable lsn there is nothing else, so anything else is damage. inv_events_next
 * walks through the buffer. A position in the middle of a segment is found by reading the segment
 * from its beginning: records can be told from other bytes only in their order.
 *
 * Reads go through the page cache (read_cached): what is durable was written by this process, or
 * read from the device when the store was opened. Rejected: mapping the files (a truncated one is
 * SIGBUS), the device (it would flush the segment under its writer's hands), a copy of the tail
 * kept by appenders (work for them).
 */
#include "inv_events.h"

#define ROOM_BYTES inv_wal_record_bytes(INV_WAL_PAYLOAD_BYTES_MAX)

struct inv_events {
    inv_store *store;
    const inv_env *env; /* outlives the store */
    inv_consumer *consumer; /* asked before each read; NULL: nobody's */
    uint32_t consumer_resets;
    uint32_t seed;
    uint64_t lsn; /* where the next record begins */
    uint64_t after_lsn; /* events up to here are left out */
    uint32_t after_index;

    uint64_t number, base, capacity; /* the segment at hand; number 0: none yet */
    uint32_t epoch;
    uint8_t *bytes;
    uint64_t loaded_lsn, loaded_bytes; /* what is in the buffer */

    bool in_record;
    inv_wal_record record;
    uint64_t payload_at; /* of the next entry */
    uint64_t now_ms;
    uint32_t reference_number; /* named last in this record: used right behind */
    inv_text reference;

    inv_effect effect; /* the entry at hand, which ends at entry_lsn */
    uint64_t entry_lsn;
    uint32_t event_at, event_count; /* of it */
    inv_event_line lines[INV_EFFECT_LINE_COUNT_MAX];
};

/* ---- who may ask, and for what --------------------------------------------------------------- */

inv_result inv_events_enter(inv_store *store, inv_error *error) {
    if (store->consumers == NULL)
        return inv_fail(error, INV_BAD_REQUEST, 0,
                        "durability 'memory' keeps no log, so there are no events");
    atomic_fetch_add_explicit(&store->parked, 1, memory_order_seq_cst); /* see wait_durable */
    inv_result result = INV_OK;
    if (atomic_load_explicit(&store->closing, memory_order_seq_cst) != 0)
        result = INV_STORE_CLOSED;
    else if (inv_wal_failed(&store->wal))
        result = INV_STORE_FAILED;
    if (result != INV_OK) inv_events_leave(store);
    return result == INV_OK ? result : inv_fail(error, result, 0, "%s", inv_result_name(result));
}

void inv_events_leave(inv_store *store) {
    atomic_fetch_sub_explicit(&store->parked, 1, memory_order_release);
}

inv_result inv_events_trimmed(const char *who, uint64_t lsn, uint64_t oldest_lsn,
                              inv_error *error) {
    inv_result result =
        inv_fail(error, INV_EVENTS_TRIMMED, 0,
                 "%s: the log from lsn %llu to %llu is gone; the oldest position is %llu", who,
                 (unsigned long long)lsn, (unsigned long long)oldest_lsn,
                 (unsigned long long)oldest_lsn);
    error->lsn = lsn;
    error->lsn_end = oldest_lsn;
    return result;
}

inv_result inv_events_check_position(inv_store *store, uint64_t lsn, inv_error *error) {
    uint64_t tail = atomic_load_explicit(&store->wal.tail, memory_order_acquire);
    uint64_t oldest = inv_wal_find(&store->wal, lsn).oldest_lsn;
    if (lsn > tail)
        return inv_fail(error, INV_BAD_REQUEST, 0, "after_lsn is %llu: the log ends at %llu",
                        (unsigned long long)lsn, (unsigned long long)tail);
    if (lsn != 0 && lsn < oldest && oldest > INV_WAL_LSN_FIRST)
        return inv_events_trimmed("after_lsn", lsn, oldest, error);
    return INV_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Where to begin, so that nothing behind the position is missed. */
static inv_result find_start(inv_events *events, inv_error *error) {
    inv_store *store = events->store;
    uint64_t limit = inv_events_limit(store), after = events->after_lsn;
    if (events->after_index != INV_EVENT_INDEX_ALL) after--; /* of that entry there may be more */
    else if (after >= limit) {
        events->lsn = limit; /* a border of records, which `after` need not be */
        return INV_OK;
    }
    inv_wal_place place = inv_wal_find(&store->wal, after);
    events->lsn = place.number != 0 ? place.base : place.oldest_lsn;
    if (place.number != 0 || after == 0 || place.oldest_lsn <= INV_WAL_LSN_FIRST) return INV_OK;
    return inv_events_trimmed("after_lsn", after, place.oldest_lsn, error);
}

inv_result inv_events_make(inv_store *store, inv_consumer *consumer, uint64_t after_lsn,
                           uint32_t after_index, inv_events **out_events, inv_error *error) {
    inv_events *events = inv_env_alloc(store->env, sizeof *events);
    uint8_t *bytes = events == NULL ? NULL : inv_env_alloc(store->env, ROOM_BYTES);
    if (bytes == NULL) {
        inv_env_free(store->env, events, sizeof *events);
        return inv_fail(error, INV_NO_MEMORY, 0, "no memory for a reader of events");
    }
    events->store = store;
    events->env = store->env;
    events->consumer = consumer;
    if (consumer != NULL)
        events->consumer_resets = atomic_load_explicit(&consumer->resets, memory_order_acquire);
    events->seed = inv_wal_seed(store->identity.uuid);
    events->bytes = bytes;
    events->after_lsn = after_lsn;
    events->after_index = after_lsn == 0 ? INV_EVENT_INDEX_ALL : after_index;
    inv_result result = find_start(events, error);
    if (result == INV_OK) *out_events = events;
    else inv_events_close(events);
    return result;
}

inv_result inv_events_open(inv_store *store, uint64_t after_lsn, uint32_t after_index,
                           inv_events **out_events, inv_error *error) {
    inv_error ignored = {0};
    if (error == NULL) error = &ignored;
    memset(error, 0, sizeof *error);
    inv_result result = inv_events_enter(store, error);
    if (result != INV_OK) return result;
    result = inv_events_check_position(store, after_lsn, error);
    if (result == INV_OK)
        result = inv_events_make(store, NULL, after_lsn, after_index, out_events, error);
    inv_events_leave(store);
    return result;
}

void inv_events_close(inv_events *events) {
    if (events == NULL) return;
    const inv_env *env = events->env;
    inv_env_free(env, events->bytes, ROOM_BYTES);
    inv_env_free(env, events, sizeof *events);
}

uint64_t inv_events_lsn(const inv_events *events) {
    return events->in_record ? events->entry_lsn : inv_max_u64(events->lsn, events->after_lsn);
}

void inv_store_uuid(const inv_store *store, uint8_t out_uuid[16]) {
    memcpy(out_uuid, store->identity.uuid, 16);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static inv_result damaged(const inv_events *events, uint64_t lsn, const char *what,
                          inv_error *error) {
    error->segment = events->number;
    error->offset = INV_WAL_HEADER_BYTES + (lsn - events->base);
    error->lsn = lsn;
    error->lsn_end = inv_events_limit(events->store);
    return inv_fail(error, INV_LOG_CORRUPT, 0,
                    "segment %llu offset %llu: %s, but lsn %llu to %llu was durable",
                    (unsigned long long)error->segment, (unsigned long long)error->offset, what,
                    (unsigned long long)error->lsn, (unsigned long long)error->lsn_end);
}

static inv_result read_file(inv_events *events, uint64_t number, uint64_t offset, uint64_t bytes,
                            inv_error *error) {
    const inv_storage *storage = &events->env->storage;
    char name[INV_FILE_NAME_MAX + 1];
    uint64_t got = 0;
    inv_wal_segment_name(name, "wal-", number);
    inv_result result = storage->read_cached(storage->context, name, offset, events->bytes, bytes,
                                             &got, error);
    if (result != INV_OK || got == bytes) return result;
    error->segment = number;
    error->offset = offset + got;
    return inv_fail(error, INV_LOG_CORRUPT, 0, "%s ends at offset %llu", name,
                    (unsigned long long)error->offset);
}

static inv_result enter_segment(inv_events *events, const inv_wal_place *place,
                                inv_error *error) {
    inv_wal_segment_header header;
    if (events->number == place->number) return INV_OK;
    events->loaded_bytes = 0;
    inv_result result = read_file(events, place->number, 0, INV_WAL_HEADER_BYTES, error);
    if (result != INV_OK) return result;
    result = inv_wal_decode_segment_header(events->bytes, &header);
    if (result == INV_OK &&
        (memcmp(header.identity.uuid, events->store->identity.uuid, 16) != 0 ||
         header.number != place->number || header.base_lsn != place->base))
        result = INV_LOG_CORRUPT;
    if (result != INV_OK) {
        error->segment = place->number;
        return inv_fail(error, result, 0, "segment %llu: its header is not what was written",
                        (unsigned long long)place->number);
    }
    events->number = header.number;
    events->base = header.base_lsn;
    events->capacity = header.segment_bytes - INV_WAL_HEADER_BYTES;
    events->epoch = (uint32_t)header.epoch;
    return INV_OK;
}

/* The record at events->lsn, if it is in the buffer as a whole and valid. */
static bool find_record(inv_events *events) {
    uint64_t at = events->lsn - events->loaded_lsn;
    if (events->lsn < events->loaded_lsn || at >= events->loaded_bytes) return false;
    return inv_wal_decode_record(events->bytes + at, events->loaded_bytes - at, events->seed,
                                 events->lsn, events->epoch, &events->record);
}

/* Reads [events->lsn, limit) of its segment, as much as there is room for. */
static inv_result load(inv_events *events, uint64_t limit, inv_error *error) {
    inv_wal_place place = inv_wal_find(&events->store->wal, events->lsn);
    if (place.number == 0)
        return inv_events_trimmed("events", inv_events_lsn(events), place.oldest_lsn, error);
    inv_result result = enter_segment(events, &place, error);
    if (result != INV_OK) return result;
    uint64_t offset = events->lsn - events->base;
    if (offset >= events->capacity) /* the writer had no memory to remember the next one */
        return inv_fail(error, INV_NO_MEMORY, 0, "the segment behind %llu is not known",
                        (unsigned long long)events->number);
    uint64_t end = inv_min_u64(inv_min_u64(limit, place.end_lsn), events->base + events->capacity);
    uint64_t bytes = inv_min_u64(end - events->lsn, ROOM_BYTES);
    events->loaded_bytes = 0;
    result = read_file(events, events->number, INV_WAL_HEADER_BYTES + offset, bytes, error);
    if (result != INV_OK) return result;
    events->loaded_lsn = events->lsn;
    events->loaded_bytes = bytes;
    return find_record(events) ? INV_OK : damaged(events, events->lsn, "no valid record", error);
}

/* A file that is gone has been trimmed meanwhile. */
static inv_result load_or_say_why(inv_events *events, uint64_t limit, inv_error *error) {
    inv_result result = load(events, limit, error);
    if (result == INV_OK || result == INV_EVENTS_TRIMMED) return result;
    inv_wal_place place = inv_wal_find(&events->store->wal, events->lsn);
    if (place.number != 0) return result;
    memset(error, 0, sizeof *error);
    return inv_events_trimmed("events", inv_events_lsn(events), place.oldest_lsn, error);
}

static inv_result ask_consumer(const inv_events *events, inv_error *error) {
    const inv_consumer *consumer = events->consumer;
    if (consumer == NULL) return INV_OK;
    inv_result result = inv_consumer_ask(events->store, consumer, error);
    if (result == INV_OK &&
        atomic_load_explicit(&((inv_consumer *)consumer)->resets, memory_order_acquire) !=
            events->consumer_resets)
        result = inv_fail(error, INV_BAD_REQUEST, 0,
                          "consumer: it was reset or removed; read anew from its position");
    return result;
}

inv_result inv_events_fill(inv_events *events, uint32_t timeout_ms, bool *out_ready,
                           inv_error *error) {
    inv_store *store = events->store;
    inv_error ignored = {0};
    if (error == NULL) error = &ignored;
    memset(error, 0, sizeof *error);
    *out_ready = false;
    if (events->in_record || find_record(events)) {
        *out_ready = true;
        return INV_OK;
    }
    uint32_t seen = atomic_load_explicit(&store->wal.group, memory_order_acquire);
    inv_result result = inv_events_enter(store, error); /* behind `seen`: close() moves the group */
    if (result != INV_OK) return result;
    result = ask_consumer(events, error);
    if (result == INV_OK && inv_events_limit(store) <= events->lsn && timeout_ms > 0) {
        inv_wal_follow(&store->wal, seen, events->lsn, timeout_ms);
        result = ask_consumer(events, error);
    }
    uint64_t limit = inv_events_limit(store);
    if (result == INV_OK && events->lsn < limit) {
        result = load_or_say_why(events, limit, error);
        *out_ready = result == INV_OK;
    }
    inv_events_leave(store);
    return result;
}

/* ---- entries and events ---------------------------------------------------------------------- */

/* The first event of an entry of this kind, 0: it is no event. False: this release knows none. */
static bool type_of(uint8_t kind, uint8_t *out_type) {
    switch ((inv_entry_kind)kind) {
    case INV_ENTRY_RESERVE: *out_type = INV_EVENT_RESERVATION_HELD; return true;
    case INV_ENTRY_COMMIT: *out_type = INV_EVENT_RESERVATION_COMMITTED; return true;
    case INV_ENTRY_SHIP: *out_type = INV_EVENT_RESERVATION_SHIPPED; return true;
    case INV_ENTRY_RELEASE: *out_type = INV_EVENT_RESERVATION_RELEASED; return true;
    case INV_ENTRY_CANCEL: *out_type = INV_EVENT_RESERVATION_CANCELLED; return true;
    case INV_ENTRY_EXTEND: *out_type = INV_EVENT_RESERVATION_EXTENDED; return true;
    case INV_ENTRY_EXPIRE: *out_type = INV_EVENT_RESERVATION_EXPIRED; return true;
    case INV_ENTRY_TOMBSTONE: *out_type = INV_EVENT_RESERVATION_TOMBSTONED; return true;
    case INV_ENTRY_RECEIVE: *out_type = INV_EVENT_STOCK_RECEIVED; return true;
    case INV_ENTRY_ISSUE: *out_type = INV_EVENT_STOCK_ISSUED; return true;
    case INV_ENTRY_ADJUST: *out_type = INV_EVENT_STOCK_ADJUSTED; return true;
    case INV_ENTRY_COUNT: *out_type = INV_EVENT_STOCK_COUNTED; return true;
    case INV_ENTRY_POLICY: *out_type = INV_EVENT_POLICY_CHANGED; return true;
    case INV_ENTRY_NAME:
    case INV_ENTRY_CLOCK_TICK:
    case INV_ENTRY_DIGEST:
    case INV_ENTRY_SNAPSHOT_MARK:
    case INV_ENTRY_FORMAT_GATE:
    case INV_ENTRY_OPERATOR_ACT: *out_type = 0; return true;
    case INV_ENTRY_MOVE:
    case INV_ENTRY_REPLACE:
    case INV_ENTRY_PREEMPT:
    case INV_ENTRY_COUNT_OPEN:
    case INV_ENTRY_UNSELLABLE:
    case INV_ENTRY_TRANSFER:
    case INV_ENTRY_RECEIVE_TRANSFER:
    case INV_ENTRY_EXPECT:
    case INV_ENTRY_QUEUE:
    case INV_ENTRY_PROMOTE:
    case INV_ENTRY_SHORTAGE_CANCEL:
    case INV_ENTRY_CLOSE_LOCATION:
    case INV_ENTRY_OPEN_LOCATION: return false; /* not written by this release: never left out */
    }
    return false;
}

/* A commit may give back what it does not take. */
static bool is_given_back(const inv_effect *effect, const inv_change_line *line) {
    return effect->kind == INV_ENTRY_COMMIT && line->op == INV_OP_RELEASE;
}

static uint32_t count_events(const inv_effect *effect, uint8_t type) {
    if (type == 0) return 0;
    for (uint32_t i = 0; i < effect->line_count; i++)
        if (is_given_back(effect, &effect->lines[i])) return 2;
    return 1;
}

static bool is_stock(uint8_t type) { return type >= INV_EVENT_STOCK_RECEIVED; }

static inv_text id_text(const inv_effect_id *id) {
    inv_text text = id->text;
    if (id->present && text.bytes == NULL) text = (inv_text){(const char *)id->uuid, 16};
    return text;
}

/* An entry of a stock change has its op_id where others have their reservation. */
static void show_ids(const inv_effect *effect, inv_event *out) {
    const inv_effect_id *op_id = is_stock(out->type) ? &effect->id : &effect->op_id;
    if (!is_stock(out->type)) {
        out->id = id_text(&effect->id);
        out->id_is_uuid = effect->id.present && effect->id.text.bytes == NULL;
    }
    out->op_id = id_text(op_id);
    out->op_id_is_uuid = op_id->present && op_id->text.bytes == NULL;
}

static void show_lines(inv_events *events, bool given_back, inv_event *out) {
    const inv_effect *effect = &events->effect;
    out->lines = events->lines;
    for (uint32_t i = 0; i < effect->line_count; i++) {
        const inv_change_line *line = &effect->lines[i];
        if (is_given_back(effect, line) != given_back) continue;
        inv_stock_delta delta = inv_stock_deltas[line->op];
        int64_t qty = line->qty;
        events->lines[out->line_count++] =
            (inv_event_line){.sku = line->sku,
                             .qty = line->qty,
                             .location = line->location,
                             .op = line->op,
                             .on_hand_delta = delta.on_hand * qty,
                             .held_delta = delta.held * qty,
                             .allocated_delta = delta.allocated * qty};
    }
}

static void show_event(inv_events *events, inv_event *out) {
    const inv_effect *effect = &events->effect;
    bool given_back = events->event_at == 1;
    memset(out, 0, sizeof *out);
    (void)type_of(effect->kind, &out->type);
    if (given_back) out->type = INV_EVENT_RESERVATION_RELEASED;
    show_ids(effect, out);
    out->state = effect->state;
    out->whole = effect->whole;
    out->seller = effect->seller;
    out->account = effect->account;
    out->reason = effect->reason;
    if (effect->reference != INV_NUMBER_NONE) out->reference = events->reference;
    out->index = events->event_at;
    out->lsn = events->entry_lsn;
    out->now_unix_ms = events->now_ms;
    if (effect->deadline_ms != 0) out->expires_at_unix_ms = events->now_ms + effect->deadline_ms;
    show_lines(events, given_back, out);
}

/* The next entry of the record at hand. */
static inv_result take_entry(inv_events *events, inv_error *error) {
    const inv_wal_record *record = &events->record;
    inv_effect *effect = &events->effect;
    uint8_t type = 0;
    uint64_t bytes = inv_effect_decode(record->payload + events->payload_at,
                                       record->payload_bytes - events->payload_at, effect);
    if (bytes == 0) return damaged(events, record->lsn, "an entry is malformed", error);
    if (!type_of(effect->kind, &type))
        return inv_fail(error, INV_FORMAT_UNKNOWN, 0,
                        "record at lsn %llu: an entry of kind %u, which has no event here",
                        (unsigned long long)record->lsn, effect->kind);
    if (effect->kind == INV_ENTRY_NAME && effect->body_hash == INV_NAME_REFERENCE) {
        events->reference_number = effect->account;
        events->reference = effect->blob;
    }
    if (type != 0 && effect->reference != INV_NUMBER_NONE &&
        (events->reference.bytes == NULL || events->reference_number != effect->reference))
        return damaged(events, record->lsn, "an entry has a reference without a name", error);
    events->payload_at += bytes;
    events->entry_lsn = record->lsn + INV_WAL_RECORD_HEADER_BYTES + events->payload_at;
    events->event_at = 0;
    events->event_count = count_events(effect, type);
    if (events->entry_lsn == events->after_lsn && events->after_index != INV_EVENT_INDEX_ALL)
        events->event_at = events->after_index + 1;
    else if (events->entry_lsn <= events->after_lsn)
        events->event_count = 0;
    return INV_OK;
}

/* Goes into the record just found, or past one with nothing in it that is wanted. */
static inv_result begin_record(inv_events *events, inv_error *error) {
    const inv_wal_record *record = &events->record;
    uint64_t end = record->lsn + inv_wal_record_bytes(record->payload_bytes);
    bool wanted = end >= events->after_lsn; /* an entry may end where its record does */
    if (record->type == INV_WAL_CHANGES && wanted) {
        if (record->payload_bytes < INV_WAL_CHANGES_PREFIX_BYTES)
            return damaged(events, record->lsn, "payload too short", error);
        events->now_ms = inv_load_u64(record->payload);
        events->payload_at = INV_WAL_CHANGES_PREFIX_BYTES;
        events->entry_lsn = record->lsn;
        events->event_at = events->event_count = 0;
        events->reference = (inv_text){NULL, 0};
        events->in_record = true;
        return INV_OK;
    }
    if (record->type != INV_WAL_CHANGES && record->type != INV_WAL_PAD &&
        record->type != INV_WAL_SEAL && (record->flags & INV_WAL_MUST_UNDERSTAND) != 0)
        return inv_fail(error, INV_FORMAT_UNKNOWN, 0, "record type %u at lsn %llu is unknown",
                        record->type, (unsigned long long)record->lsn);
    events->lsn = end;
    return INV_OK;
}

inv_result inv_events_next(inv_events *events, inv_event *out, bool *out_more, inv_error *error) {
    inv_error ignored = {0};
    inv_result result = INV_OK;
    if (error == NULL) error = &ignored;
    memset(error, 0, sizeof *error);
    *out_more = false;
    while (result == INV_OK) { /* at most once for each entry and record in the buffer */
        if (!events->in_record) {
            if (!find_record(events)) return INV_OK;
            result = begin_record(events, error);
        } else if (events->event_at < events->event_count) {
            show_event(events, out);
            events->event_at++;
            *out_more = true;
            return INV_OK;
        } else if (events->payload_at < events->record.payload_bytes) {
            result = take_entry(events, error);
        } else {
            events->in_record = false;
            events->lsn += inv_wal_record_bytes(events->record.payload_bytes);
        }
    }
    return result;
}

const char *inv_event_type_name(uint8_t type) {
    switch ((inv_event_type)type) {
    case INV_EVENT_RESERVATION_HELD: return "reservation.held";
    case INV_EVENT_RESERVATION_COMMITTED: return "reservation.committed";
    case INV_EVENT_RESERVATION_SHIPPED: return "reservation.shipped";
    case INV_EVENT_RESERVATION_RELEASED: return "reservation.released";
    case INV_EVENT_RESERVATION_CANCELLED: return "reservation.cancelled";
    case INV_EVENT_RESERVATION_EXTENDED: return "reservation.extended";
    case INV_EVENT_RESERVATION_EXPIRED: return "reservation.expired";
    case INV_EVENT_RESERVATION_TOMBSTONED: return "reservation.tombstoned";
    case INV_EVENT_STOCK_RECEIVED: return "stock.received";
    case INV_EVENT_STOCK_ISSUED: return "stock.issued";
    case INV_EVENT_STOCK_ADJUSTED: return "stock.adjusted";
    case INV_EVENT_STOCK_COUNTED: return "stock.counted";
    case INV_EVENT_POLICY_CHANGED: return "policy.changed";
    }
    return "unknown";
}
