/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_job.c: the form of a command, checked before any lock and before anything is taken. Every
 * refusal names the field, the figure and the limit. Nothing here changes the store.
 */
#include "inv_store.h"

bool inv_text_is_utf8(inv_text text) {
    const uint8_t *p = (const uint8_t *)text.bytes, *end = p + text.length;
    while (p < end) {
        uint32_t lead = *p++;
        if (INV_LIKELY(lead < 0x80)) continue;
        uint32_t more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
        uint32_t least = more == 3 ? 0x10000 : more == 2 ? 0x800 : 0x80;
        uint32_t point = lead & (0x3Fu >> more);
        if (lead < 0xC2 || lead > 0xF4 || (size_t)(end - p) < more) return false;
        for (; more > 0; more--) {
            if ((*p & 0xC0) != 0x80) return false;
            point = point << 6 | (*p++ & 0x3Fu);
        }
        if (point < least || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) return false;
    }
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* 8-4-4-4-12 hex digits, version 4 or 7, the RFC 9562 variant. */
static bool parse_uuid(inv_text text, uint8_t out[16]) {
    if (text.length != 36) return false;
    const char *p = text.bytes;
    if (p[8] != '-' || p[13] != '-' || p[18] != '-' || p[23] != '-') return false;
    uint32_t at = 0;
    for (uint32_t i = 0; i < 36;) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            i++;
            continue;
        }
        int high = hex_digit(p[i]), low = hex_digit(p[i + 1]);
        if (high < 0 || low < 0) return false;
        out[at++] = (uint8_t)(high << 4 | low);
        i += 2;
    }
    uint32_t version = out[6] >> 4;
    return (version == 4 || version == 7) && (out[8] & 0xC0) == 0x80;
}

bool inv_parse_id(inv_text text, bool is_uuid, inv_hold_key *out) {
    memset(out, 0, sizeof *out);
    if (is_uuid) {
        if (text.length != 16) return false;
        memcpy(out->uuid, text.bytes, 16);
        return true;
    }
    if (text.length < 1 || text.length > INV_ID_BYTES_MAX) return false;
    if (parse_uuid(text, out->uuid)) return true;
    if (!inv_text_is_utf8(text)) return false;
    out->text = text;
    return true;
}

static void refuse(inv_job *job, int code, const char *field, int64_t figure, int64_t limit) {
    job->reply->code = code;
    job->reply->field = field;
    job->reply->figure = figure;
    job->reply->limit = limit;
    job->done = true;
}

/* Text of 1..max bytes of UTF-8. */
static bool text_ok(inv_job *job, inv_text text, uint32_t max, const char *field) {
    if (INV_LIKELY(text.length >= 1 && text.length <= max && inv_text_is_utf8(text))) return true;
    refuse(job, INV_BAD_REQUEST, field, text.length, max);
    return false;
}

static bool in_range(inv_job *job, int64_t value, int64_t low, const char *field) {
    if (INV_LIKELY(value >= low && value <= INV_QTY_MAX)) return true;
    refuse(job, INV_BAD_REQUEST, field, value, value < low ? low : INV_QTY_MAX);
    return false;
}

/* Bytes a NAME entry for this text takes. */
static uint64_t name_bytes(inv_text text) {
    return INV_EFFECT_HEADER_BYTES + inv_align_u64(2 + (uint64_t)text.length, 4);
}

static bool prepare_names(inv_run *run, inv_job *job) {
    inv_store *store = run->store;
    const inv_command *command = job->command;
    job->seller_text = command->seller;
    job->account_text = command->account;
    if (command->seller.bytes == NULL) {
        job->seller = 0;
        job->seller_tweak = store->default_seller_tweak;
    } else {
        if (!text_ok(job, command->seller, INV_SELLER_BYTES_MAX, "seller")) return false;
        job->seller = inv_names_find(&store->sellers, command->seller);
        job->seller_tweak = inv_seller_tweak(store, command->seller);
        if (job->seller == INV_NUMBER_NONE) job->bytes += name_bytes(command->seller);
    }
    job->account = 0;
    if (command->account.length > 0) {
        if (!text_ok(job, command->account, INV_ACCOUNT_BYTES_MAX, "account")) return false;
        job->account = inv_names_find(&store->accounts, command->account);
        if (job->account == INV_NUMBER_NONE) job->bytes += name_bytes(command->account);
    }
    job->reason = INV_NUMBER_NONE;
    if (command->reason.length > 0) {
        if (!text_ok(job, command->reason, INV_REASON_BYTES_MAX, "reason")) return false;
        job->reason = inv_names_find(&store->reasons, command->reason);
        if (job->reason == INV_NUMBER_NONE) job->bytes += name_bytes(command->reason);
    }
    if (command->reference.length > 0) {
        if (!text_ok(job, command->reference, INV_REFERENCE_BYTES_MAX, "reference")) return false;
        job->bytes += name_bytes(command->reference);
    }
    return true;
}

static bool prepare_id(inv_run *run, inv_job *job, inv_text text, bool is_uuid, bool op,
                       const char *field) {
    inv_hold_key *key = op ? &job->op : &job->id;
    if (!inv_parse_id(text, is_uuid, key)) {
        refuse(job, INV_BAD_REQUEST, field, text.length, INV_ID_BYTES_MAX);
        return false;
    }
    key->seller = job->seller;
    key->op = op;
    key->hash = inv_hold_hash(run->store->key, job->seller_tweak, op, key->text, key->uuid);
    if (key->text.bytes != NULL) job->bytes += 68;
    return true;
}

/* Name to stripe and hash, location to number. */
static bool prepare_line(inv_run *run, inv_job *job, const inv_line *line, uint32_t line_index,
                         bool location_required) {
    inv_store *store = run->store;
    inv_job_line *out = &job->lines[line_index];
    out->line_index = line_index;
    out->sku = line->sku;
    out->number = INV_NUMBER_NONE;
    if (line->sku.bytes != NULL) {
        if (!text_ok(job, line->sku, INV_SKU_BYTES_MAX, "lines[].sku")) goto refused;
        out->hash = inv_siphash13(store->key, job->seller_tweak, line->sku.bytes, line->sku.length);
        out->stripe = (uint32_t)out->hash & (store->stripe_count - 1);
    } else {
        out->number = line->sku_number;
        out->hash = 0;
        out->stripe = inv_sku_stripe(store, line->sku_number);
    }
    out->location = INV_LOCATION_NONE;
    if (line->location.bytes != NULL) {
        if (!text_ok(job, line->location, INV_LOCATION_BYTES_MAX, "lines[].location")) goto refused;
        uint32_t number = inv_names_find(&store->locations, line->location);
        out->location = number == INV_NUMBER_NONE ? INV_LOCATION_UNKNOWN : number;
    } else if (line->location_number != INV_LOCATION_NONE) {
        out->location = line->location_number < inv_names_count(&store->locations)
                            ? line->location_number
                            : INV_LOCATION_UNKNOWN;
    } else if (location_required) {
        refuse(job, INV_BAD_REQUEST, "lines[].location", 0, 1);
        goto refused;
    }
    return true;
refused:
    job->reply->line_index = line_index;
    return false;
}

/* Lines of reserve and of partial calls; sets change_max to the lines the entry may have. */
static bool prepare_lines(inv_run *run, inv_job *job) {
    const inv_command *command = job->command;
    bool reserve = command->kind == INV_CMD_RESERVE;
    if (command->line_count < 1) {
        refuse(job, INV_BAD_REQUEST, "lines", command->line_count, 1);
        return false;
    }
    if (command->line_count > INV_LINE_COUNT_MAX) {
        refuse(job, INV_LIMIT_EXCEEDED, "lines", command->line_count, INV_LINE_COUNT_MAX);
        return false;
    }
    uint64_t locations = inv_names_count(&run->store->locations), places = 0;
    for (uint32_t i = 0; i < command->line_count; i++) {
        const inv_line *line = &command->lines[i];
        if (!in_range(job, line->qty, 1, "lines[].qty")) {
            job->reply->line_index = i;
            return false;
        }
        if (!prepare_line(run, job, line, i, false)) return false;
        job->lines[i].qty = (uint32_t)line->qty;
        places += job->lines[i].location == INV_LOCATION_NONE ? locations : 1;
    }
    job->line_count = command->line_count;
    if (reserve) job->change_max = (uint32_t)inv_min_u64(places, INV_LINE_COUNT_MAX);
    return true;
}

/* The one line of a stock change. */
static bool prepare_stock(inv_run *run, inv_job *job) {
    const inv_command *command = job->command;
    if (command->line_count != 1) {
        refuse(job, INV_BAD_REQUEST, "lines", command->line_count, 1);
        return false;
    }
    const inv_line *line = command->lines;
    bool policy = command->kind == INV_CMD_SET_POLICY;
    if (!prepare_line(run, job, line, 0, !policy && command->kind != INV_CMD_NAME)) return false;
    job->line_count = 1;
    job->change_max = 1;
    int64_t qty = line->qty;
    bool ok = true;
    switch (command->kind) {
    case INV_CMD_RECEIVE:
    case INV_CMD_ISSUE:
        ok = in_range(job, qty, 1, "qty");
        break;
    case INV_CMD_ADJUST:
        if (qty == 0 || qty < -(int64_t)INV_QTY_MAX) {
            refuse(job, INV_BAD_REQUEST, "delta", qty, qty == 0 ? 1 : -(int64_t)INV_QTY_MAX);
            return false;
        }
        ok = in_range(job, qty, -(int64_t)INV_QTY_MAX, "delta");
        break;
    case INV_CMD_SET_ON_HAND:
        ok = in_range(job, qty, 0, "qty") && in_range(job, command->if_on_hand, 0, "if_on_hand");
        break;
    case INV_CMD_SET_POLICY:
        ok = in_range(job, command->safety_stock, 0, "safety_stock");
        break;
    default:
        break;
    }
    if (!ok) return false;
    job->lines[0].qty = (uint32_t)(qty < 0 ? -qty : qty);
    if (job->lines[0].sku.bytes != NULL) job->bytes += name_bytes(job->lines[0].sku);
    if (line->location.bytes != NULL) job->bytes += name_bytes(line->location);
    return true;
}

/* ttl of reserve (0 = default) and extend; rehold's commit carries none. */
static bool prepare_ttl(inv_run *run, inv_job *job) {
    const inv_command *command = job->command;
    bool extend = command->kind == INV_CMD_EXTEND;
    job->ttl_ms = command->ttl_ms;
    if (job->ttl_ms == 0 && !extend) job->ttl_ms = run->store->options.default_ttl_ms;
    if (job->ttl_ms >= 1 && job->ttl_ms <= INV_TTL_MS_MAX) return true;
    refuse(job, INV_BAD_REQUEST, "ttl_ms", (int64_t)inv_min_u64(job->ttl_ms, INT64_MAX),
           job->ttl_ms < 1 ? 1 : (int64_t)INV_TTL_MS_MAX);
    return false;
}

static bool prepare_kind(inv_run *run, inv_job *job) {
    const inv_command *command = job->command;
    switch (command->kind) {
    case INV_CMD_RESERVE:
        job->has_id = true;
        return prepare_id(run, job, command->id, command->id_is_uuid, false, "reservation_id") &&
               prepare_ttl(run, job) && prepare_lines(run, job);
    case INV_CMD_EXTEND:
        job->has_id = true;
        return prepare_id(run, job, command->id, command->id_is_uuid, false, "reservation_id") &&
               prepare_ttl(run, job);
    case INV_CMD_COMMIT:
    case INV_CMD_SHIP:
    case INV_CMD_RELEASE:
    case INV_CMD_CANCEL:
        job->has_id = true;
        job->change_max = inv_max_u64(job->change_max, 2) & UINT32_MAX;
        if (!prepare_id(run, job, command->id, command->id_is_uuid, false, "reservation_id"))
            return false;
        if (!command->partial) return true;
        job->has_op = command->op_id.bytes != NULL;
        if (job->has_op &&
            !prepare_id(run, job, command->op_id, command->op_id_is_uuid, true, "op_id"))
            return false;
        return prepare_lines(run, job);
    case INV_CMD_RECEIVE:
    case INV_CMD_ISSUE:
    case INV_CMD_ADJUST:
    case INV_CMD_SET_ON_HAND:
    case INV_CMD_SET_POLICY:
        job->has_op = command->op_id.bytes != NULL;
        if (job->has_op &&
            !prepare_id(run, job, command->op_id, command->op_id_is_uuid, true, "op_id"))
            return false;
        return prepare_stock(run, job);
    case INV_CMD_NAME:
        return prepare_stock(run, job);
    default:
        refuse(job, INV_BAD_REQUEST, "kind", command->kind, INV_CMD_SET_POLICY);
        return false;
    }
}

/* Fields the engine fills; the caller's lines and lines_max stay. */
static void reset_reply(inv_reply *reply) {
    inv_reply_line *lines = reply->lines;
    uint32_t lines_max = reply->lines_max;
    memset(reply, 0, sizeof *reply);
    reply->lines = lines;
    reply->lines_max = lines_max;
}

void inv_job_prepare(inv_run *run, inv_job *job, const inv_command *command, inv_reply *reply) {
    uint32_t need = run->need_change_max;
    memset(job, 0, sizeof *job);
    reset_reply(reply);
    job->command = command;
    job->reply = reply;
    job->lines = run->lines + run->line_used;
    job->bytes = INV_EFFECT_HEADER_BYTES + 8 + 72;
    if (!prepare_names(run, job) || !prepare_kind(run, job)) return;
    job->change_max = (uint32_t)inv_max_u64(job->change_max, need);
    if (command->kind == INV_CMD_RESERVE && job->change_max > INV_LINE_COUNT_MAX)
        job->change_max = INV_LINE_COUNT_MAX;
    job->bytes += 12ull * job->change_max;
    run->line_used += job->line_count;
    if (INV_UNLIKELY(job->bytes > run->store->record_bytes_max))
        refuse(job, INV_LIMIT_EXCEEDED, "lines", job->change_max,
               (int64_t)run->store->record_bytes_max / 12);
}
