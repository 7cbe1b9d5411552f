/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wal_reader.c: a segment is read into one buffer (its size is bounded by the format), a piece
 * ahead of what is parsed; the buffer is reused from segment to segment.
 */
#include "inv_wal_reader.h"

#include <stdio.h>
#include <stdlib.h>

#include "../base/inv_crc32c.h"

#define READ_PIECE_BYTES (1u << 20)
#define READ_PAGE_BYTES 4096u /* ... where a piece cannot be read whole */
#define FILE_COUNT_MAX 1048576u /* segments of one store: 64 TiB at the default size */

/* ---- finding the chain ----------------------------------------------------------------------- */

typedef struct file_listing {
    uint64_t *wal, *spare;
    uint64_t wal_count, spare_count, wal_room, spare_room;
    bool overflow;
} file_listing;

static bool parse_number(const char *name, const char *prefix, uint64_t *out) {
    size_t length = strlen(prefix);
    if (strncmp(name, prefix, length) != 0 || strlen(name) != length + 16) return false;
    uint64_t number = 0;
    for (const char *p = name + length; *p != 0; p++) {
        uint32_t digit = *p >= '0' && *p <= '9'   ? (uint32_t)(*p - '0')
                         : *p >= 'a' && *p <= 'f' ? (uint32_t)(*p - 'a') + 10
                                                  : 16;
        if (digit == 16) return false;
        number = number * 16 + digit;
    }
    *out = number;
    return number != 0;
}

static bool visit_file(void *argument, const char *name, uint64_t size) {
    file_listing *listing = argument;
    uint64_t number;
    (void)size;
    if (parse_number(name, "wal-", &number)) {
        if (listing->wal_count < listing->wal_room) listing->wal[listing->wal_count] = number;
        listing->wal_count++;
    } else if (parse_number(name, "spare-", &number)) {
        if (listing->spare_count < listing->spare_room)
            listing->spare[listing->spare_count] = number;
        listing->spare_count++;
    }
    return true;
}

static int compare_u64(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

/* Lists once to count and once to fill; the directory is locked, so nothing changes in between. */
static inv_result list_files(inv_wal_chain *chain, uint64_t *out_wal_count, inv_error *error) {
    const inv_storage *storage = &chain->env->storage;
    file_listing listing = {0};
    inv_result result = storage->list(storage->context, visit_file, &listing, error);
    if (result != INV_OK) return result;
    uint64_t total = listing.wal_count + listing.spare_count;
    if (total > FILE_COUNT_MAX)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "more than %u segment files", FILE_COUNT_MAX);
    chain->files_bytes = (total + 1) * sizeof(uint64_t);
    chain->void_numbers = inv_env_alloc(chain->env, chain->files_bytes);
    if (chain->void_numbers == NULL)
        return inv_fail(error, INV_NO_MEMORY, 0, "no memory for the list of segments");
    listing.wal = chain->void_numbers;
    listing.wal_room = listing.wal_count;
    listing.spare = chain->spare_numbers = chain->void_numbers + listing.wal_count;
    listing.spare_room = listing.spare_count;
    listing.wal_count = listing.spare_count = 0;
    result = storage->list(storage->context, visit_file, &listing, error);
    if (result != INV_OK) return result;
    qsort(listing.wal, listing.wal_count, sizeof(uint64_t), compare_u64);
    *out_wal_count = listing.wal_count;
    chain->spare_count = listing.spare_count;
    for (uint64_t i = 0; i < listing.spare_count; i++)
        chain->number_highest = inv_max_u64(chain->number_highest, listing.spare[i]);
    if (listing.wal_count > 0)
        chain->number_highest =
            inv_max_u64(chain->number_highest, listing.wal[listing.wal_count - 1]);
    return INV_OK;
}

/* The newer valid slot. *out_found false when the file holds no valid slot. */
static inv_result read_state(inv_wal_chain *chain, bool *out_found, inv_error *error) {
    const inv_storage *storage = &chain->env->storage;
    uint8_t bytes[2 * INV_STATE_SLOT_BYTES];
    uint64_t got = 0;
    *out_found = false;
    memset(bytes, 0, sizeof bytes);
    inv_result result =
        storage->read(storage->context, "STATE", 0, bytes, sizeof bytes, &got, error);
    if (result == INV_IO_ERROR && error->os_errno == 2 /* ENOENT */) return INV_OK;
    if (result != INV_OK) return result;
    for (uint32_t i = 0; i < 2; i++) {
        inv_wal_state slot;
        result = inv_wal_decode_state(bytes + i * INV_STATE_SLOT_BYTES, &slot);
        if (result == INV_FORMAT_UNKNOWN)
            return inv_format_refuse(error, "STATE", slot.format);
        if (result != INV_OK) continue;
        if (!*out_found || slot.sequence > chain->state.sequence) chain->state = slot;
        *out_found = true;
    }
    return INV_OK;
}

static inv_result read_header(const inv_wal_chain *chain, uint64_t number,
                              inv_wal_segment_header *out, inv_error *error) {
    const inv_storage *storage = &chain->env->storage;
    char name[INV_FILE_NAME_MAX + 1];
    uint8_t bytes[INV_WAL_HEADER_BYTES];
    uint64_t got = 0;
    (void)snprintf(name, sizeof name, "wal-%016llx", (unsigned long long)number);
    memset(bytes, 0, sizeof bytes);
    inv_result result = storage->read(storage->context, name, 0, bytes, sizeof bytes, &got, error);
    if (result != INV_OK) return result;
    result = inv_wal_decode_segment_header(bytes, out);
    if (error != NULL) error->segment = number;
    if (result == INV_FORMAT_UNKNOWN)
        return inv_format_refuse(error, name, out->format);
    if (result != INV_OK)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "%s: both header copies are damaged", name);
    if (memcmp(out->identity.uuid, chain->state.identity.uuid, 16) != 0)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "%s: belongs to another store", name);
    if (out->number != number)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "%s: is segment %llu under another name", name,
                        (unsigned long long)out->number);
    return INV_OK;
}

/* The last segment of a chain: nobody says where it ends. */
static void end_open(inv_wal_link *link) {
    link->end_exact = false;
    link->end_lsn = link->header.base_lsn + link->header.segment_bytes - INV_WAL_HEADER_BYTES;
}

/* Two neighbours must agree on where the older one ends. */
static inv_result join(inv_wal_link *older, const inv_wal_segment_header *newer, inv_error *error) {
    uint64_t limit = older->header.base_lsn + older->header.segment_bytes - INV_WAL_HEADER_BYTES;
    older->end_lsn = newer->prev_end_lsn;
    older->end_exact = newer->prev_exact;
    bool agrees = newer->base_lsn == newer->prev_end_lsn && newer->epoch >= older->header.epoch &&
                  (newer->prev_exact ? newer->prev_end_lsn >= older->header.base_lsn &&
                                           newer->prev_end_lsn <= limit
                                     : newer->prev_end_lsn == limit);
    if (agrees) return INV_OK;
    error->segment = newer->number;
    return inv_fail(error, INV_LOG_CORRUPT, 0, "segments %llu and %llu do not join",
                    (unsigned long long)older->header.number, (unsigned long long)newer->number);
}

static inv_result follow(inv_wal_chain *chain, uint64_t wal_count, inv_error *error) {
    uint64_t *numbers = chain->void_numbers;
    uint64_t wanted = numbers[wal_count - 1], at = wal_count;
    if (wanted < chain->state.segment_highest) {
        error->segment = chain->state.segment_highest;
        return inv_fail(error, INV_LOG_CORRUPT, 0,
                        "segment %llu is missing: STATE says it was promoted",
                        (unsigned long long)chain->state.segment_highest);
    }
    chain->links_bytes = wal_count * sizeof(inv_wal_link);
    chain->links = inv_env_alloc(chain->env, chain->links_bytes);
    if (chain->links == NULL)
        return inv_fail(error, INV_NO_MEMORY, 0, "no memory for the chain of segments");
    uint64_t first = wal_count; /* links fill from the back */
    while (wanted != 0) {
        while (at > 0 && numbers[at - 1] > wanted) at--;
        if (at == 0 || numbers[at - 1] != wanted) {
            if (first < wal_count &&
                chain->links[first].header.base_lsn <= chain->state.snapshot_lsn)
                break; /* trimmed: a snapshot stands for all before */
            error->segment = wanted;
            return inv_fail(error, INV_LOG_CORRUPT, 0, "segment %llu is missing",
                            (unsigned long long)wanted);
        }
        inv_wal_link *link = &chain->links[first - 1];
        inv_result result = read_header(chain, wanted, &link->header, error);
        if (result != INV_OK) return result;
        if (first == wal_count) end_open(link);
        else if ((result = join(link, &chain->links[first].header, error)) != INV_OK)
            return result;
        first--;
        wanted = link->header.prev_number;
        numbers[--at] = 0; /* in the chain: not void */
    }
    chain->link_count = wal_count - first;
    memmove(chain->links, chain->links + first, chain->link_count * sizeof(inv_wal_link));
    for (uint64_t i = 0; i < wal_count; i++)
        if (numbers[i] != 0) numbers[chain->void_count++] = numbers[i];
    if (chain->links[0].header.base_lsn != INV_WAL_LSN_FIRST &&
        chain->links[0].header.base_lsn > chain->state.snapshot_lsn)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "the log does not begin at its first lsn");
    return INV_OK;
}

/* Of `count` segments in order of their numbers: the one that continues links[at]; 0: none. After a
 * crash two may say so; the younger one was begun because the other held nothing. */
static uint64_t successor_of(inv_wal_link *links, uint64_t count, uint64_t at) {
    inv_error ignored = {0};
    for (uint64_t i = count - 1; i > at; i--)
        if (links[i].header.prev_number == links[at].header.number &&
            join(&links[at], &links[i].header, &ignored) == INV_OK)
            return i;
    return 0;
}

/* From the oldest segment on, as far as one follows upon the other. */
static inv_result follow_front(inv_wal_chain *chain, uint64_t wal_count, inv_error *error) {
    uint64_t *numbers = chain->void_numbers, valid = 0, kept = 0;
    chain->links_bytes = wal_count * sizeof(inv_wal_link);
    chain->links = inv_env_alloc(chain->env, chain->links_bytes);
    if (chain->links == NULL)
        return inv_fail(error, INV_NO_MEMORY, 0, "no memory for the chain of segments");
    inv_wal_link *links = chain->links;
    for (uint64_t i = 0; i < wal_count; i++) {
        inv_result result = read_header(chain, numbers[i], &links[valid].header, error);
        if (result == INV_FORMAT_UNKNOWN) return result;
        if (result == INV_OK) valid++;
    }
    uint64_t first = 0;
    while (first < valid && links[first].header.base_lsn != INV_WAL_LSN_FIRST &&
           links[first].header.base_lsn > chain->state.snapshot_lsn)
        first++;
    if (first == valid)
        return inv_fail(error, INV_LOG_CORRUPT, 0, "no segment holds the beginning of the log");
    memset(error, 0, sizeof *error);
    for (uint64_t at = first; at != 0 || kept == 0; at = successor_of(links, valid, at)) {
        if (kept > 0) (void)join(&links[kept - 1], &links[at].header, error);
        links[kept++] = links[at];
    }
    end_open(&links[kept - 1]);
    chain->link_count = kept;
    for (uint64_t i = 0, k = 0; i < wal_count; i++) {
        while (k < kept && links[k].header.number < numbers[i]) k++;
        if (k == kept || links[k].header.number != numbers[i])
            numbers[chain->void_count++] = numbers[i];
    }
    return INV_OK;
}

static inv_result load_chain(inv_wal_chain *chain, const inv_env *env, bool broken,
                             inv_error *error) {
    uint64_t wal_count = 0;
    bool has_state = false;
    memset(chain, 0, sizeof *chain);
    chain->env = env;
    chain->broken = broken;
    inv_result result = read_state(chain, &has_state, error);
    if (result == INV_OK) result = list_files(chain, &wal_count, error);
    if (result != INV_OK) return result;
    memset(error, 0, sizeof *error);
    if (!has_state && wal_count > 0)
        return inv_fail(error, INV_LOG_CORRUPT, 0,
                        "STATE is missing or both its slots are damaged, but there are segments");
    chain->exists = has_state;
    if (!has_state) return INV_OK;
    chain->seed = inv_wal_seed(chain->state.identity.uuid);
    uint8_t hint[INV_HINT_BYTES];
    uint64_t got = 0, hint_epoch = 0;
    inv_error ignored = {0};
    if (env->storage.read(env->storage.context, "HINT", 0, hint, sizeof hint, &got, &ignored) ==
            INV_OK &&
        got == sizeof hint)
        (void)inv_wal_decode_hint(hint, chain->seed, &chain->hint_durable, &hint_epoch);
    if (wal_count == 0) { /* created, but not one segment promoted: nothing was ever acknowledged */
        if (chain->state.segment_highest == 0) return INV_OK;
        return inv_fail(error, INV_LOG_CORRUPT, 0, "every segment is missing");
    }
    return broken ? follow_front(chain, wal_count, error) : follow(chain, wal_count, error);
}

inv_result inv_wal_chain_load(inv_wal_chain *chain, const inv_env *env, inv_error *error) {
    return load_chain(chain, env, false, error);
}

inv_result inv_wal_chain_load_front(inv_wal_chain *chain, const inv_env *env, inv_error *error) {
    return load_chain(chain, env, true, error);
}

void inv_wal_chain_free(inv_wal_chain *chain) {
    inv_env_free(chain->env, chain->void_numbers, chain->files_bytes);
    inv_env_free(chain->env, chain->links, chain->links_bytes);
    chain->void_numbers = chain->spare_numbers = NULL;
    chain->links = NULL;
    chain->link_count = 0;
}

/* ---- scanning -------------------------------------------------------------------------------- */

/* Reads bytes [from, from + bytes) of a segment into their place in the buffer. */
static inv_result read_piece(const inv_wal_chain *chain, const inv_wal_link *link,
                             const inv_wal_buffer *buffer, uint64_t from, uint64_t bytes,
                             inv_error *error) {
    const inv_storage *storage = &chain->env->storage;
    uint64_t got = 0;
    char name[INV_FILE_NAME_MAX + 1];
    (void)snprintf(name, sizeof name, "wal-%016llx", (unsigned long long)link->header.number);
    inv_result result = storage->read(storage->context, name, from, buffer->bytes + from, bytes,
                                      &got, error);
    if (result != INV_OK || got == bytes) return result;
    error->segment = link->header.number;
    error->offset = from + got;
    /* Segments are written full and synced before they get their name: a short one is damage. */
    return inv_fail(error, INV_LOG_CORRUPT, 0, "%s: %llu bytes, should be %llu", name,
                    (unsigned long long)(from + got),
                    (unsigned long long)link->header.segment_bytes);
}

/* Has the first `wanted` bytes of the segment in the buffer (or all there are), piece by piece: the
 * disk reads while others replay what is here. */
static inv_result load_up_to(const inv_wal_chain *chain, const inv_wal_link *link,
                             inv_wal_buffer *buffer, uint64_t wanted, inv_error *error) {
    uint64_t size = link->header.segment_bytes, step = READ_PIECE_BYTES;
    uint64_t last = size - inv_min_u64(size, READ_PIECE_BYTES); /* where the last piece begins */
    while (buffer->loaded < wanted && buffer->loaded < size) {
        uint64_t end = buffer->tail_loaded ? last : size;
        uint64_t piece = inv_min_u64(step, end - buffer->loaded);
        inv_result result = INV_OK;
        if (piece > 0) result = read_piece(chain, link, buffer, buffer->loaded, piece, error);
        if (result != INV_OK && step <= READ_PAGE_BYTES) return result;
        if (result != INV_OK) {
            step = READ_PAGE_BYTES; /* what lies before the place that cannot be read is kept */
            continue;
        }
        buffer->loaded += piece;
        if (buffer->tail_loaded && buffer->loaded == last) buffer->loaded = size;
    }
    return INV_OK;
}

/* Begins to read a segment; `whole`: with its last piece, which says that the file is whole. */
static inv_result begin_load(const inv_wal_chain *chain, const inv_wal_link *link,
                             inv_wal_buffer *buffer, bool whole, inv_error *error) {
    const inv_env *env = chain->env;
    uint64_t size = link->header.segment_bytes;
    if (buffer->room < size) {
        inv_env_free(env, buffer->bytes, buffer->room);
        buffer->room = size;
        buffer->bytes = inv_env_alloc(env, size);
        if (buffer->bytes == NULL) {
            buffer->room = 0;
            return inv_fail(error, INV_NO_MEMORY, 0, "no memory for a segment of %llu bytes",
                            (unsigned long long)size);
        }
    }
    buffer->link = link;
    buffer->loaded = 0;
    buffer->tail_loaded = false;
    if (!whole) return INV_OK;
    uint64_t piece = inv_min_u64(READ_PIECE_BYTES, size);
    if (read_piece(chain, link, buffer, size - piece, piece, error) != INV_OK)
        return read_piece(chain, link, buffer, 0, size, error); /* where it ends, if that is it */
    buffer->loaded = piece == size ? size : 0;
    buffer->tail_loaded = true;
    return INV_OK;
}

static inv_result load_segment(const inv_wal_chain *chain, const inv_wal_link *link,
                               inv_wal_buffer *buffer, inv_error *error) {
    inv_result result = INV_OK;
    if (buffer->link != link || !buffer->tail_loaded)
        result = begin_load(chain, link, buffer, true, error);
    if (result == INV_OK)
        result = load_up_to(chain, link, buffer, link->header.segment_bytes, error);
    return result;
}

/* A valid record at lsn of the segment in the buffer, as far as that has been read? */
static bool record_in(const inv_wal_chain *chain, const inv_wal_buffer *buffer, uint64_t lsn,
                      inv_wal_record *out) {
    const inv_wal_segment_header *header = &buffer->link->header;
    uint64_t offset = INV_WAL_HEADER_BYTES + (lsn - header->base_lsn);
    if (offset + INV_WAL_RECORD_HEADER_BYTES > buffer->loaded) return false;
    return inv_wal_decode_record(buffer->bytes + offset, buffer->loaded - offset, chain->seed, lsn,
                                 (uint32_t)header->epoch, out);
}

/* Looks at everything after p: valid records there are void, but their hints are proofs. */
static void look_beyond(inv_wal_scanner *scanner, uint64_t lsn) {
    const inv_wal_segment_header *header = &scanner->buffer.link->header;
    inv_wal_verdict *verdict = &scanner->verdict;
    uint64_t limit = header->base_lsn + header->segment_bytes - INV_WAL_HEADER_BYTES;
    const uint8_t *base = scanner->buffer.bytes + INV_WAL_HEADER_BYTES;
    uint64_t last = lsn;
    for (uint64_t at = lsn; at + 8 <= limit; at += INV_WAL_RECORD_ALIGN) {
        const uint8_t *word = base + (at - header->base_lsn);
        if (INV_LIKELY(inv_load_u64(word) == 0)) continue;
        inv_wal_record record;
        last = at + 8;
        if (record_in(scanner->chain, &scanner->buffer, at, &record)) {
            verdict->void_records++;
            verdict->durable = inv_max_u64(verdict->durable, record.hint);
        }
    }
    verdict->torn_bytes += last - lsn;
}

static inv_result corrupt_at(const inv_wal_link *link, const inv_wal_verdict *verdict,
                             inv_error *error) {
    error->segment = link->header.number;
    error->offset = INV_WAL_HEADER_BYTES + (verdict->end_lsn - link->header.base_lsn);
    error->lsn = verdict->end_lsn;
    error->lsn_end = verdict->durable;
    return inv_fail(error, INV_LOG_CORRUPT, 0,
                    "segment %llu offset %llu: no valid record, but lsn %llu to %llu was durable",
                    (unsigned long long)link->header.number, (unsigned long long)error->offset,
                    (unsigned long long)verdict->end_lsn, (unsigned long long)verdict->durable);
}

/* May this record be read? One of a type nobody here knows is skipped, and counted, if it says that
 * it may be. */
static inv_result check_known(const inv_wal_link *link, const inv_wal_record *record,
                              inv_wal_verdict *verdict, inv_error *error) {
    char what[64] = "";
    uint32_t flags = record->flags & INV_WAL_FLAGS_STRICT & ~INV_WAL_FLAGS_KNOWN;
    bool known = record->type >= INV_WAL_CHANGES && record->type <= INV_WAL_SEAL;
    if (flags != 0)
        (void)snprintf(what, sizeof what, "flag bits 0x%x", flags);
    else if (!known && (record->flags & INV_WAL_MUST_UNDERSTAND) != 0)
        (void)snprintf(what, sizeof what, "type %u", record->type);
    else if (record->type == INV_WAL_CHANGES && (record->flags & INV_WAL_BATCH_END) == 0)
        (void)snprintf(what, sizeof what, "a batch of several records");
    if (what[0] == 0) {
        verdict->skipped += !known;
        return INV_OK;
    }
    inv_format newest = inv_format_newest();
    error->segment = link->header.number;
    error->offset = INV_WAL_HEADER_BYTES + (record->lsn - link->header.base_lsn);
    error->lsn = record->lsn;
    return inv_fail(error, INV_FORMAT_UNKNOWN, 0,
                    "segment %llu offset %llu: record at lsn %llu: %s, which this release (format "
                    "%u.%u) does not know",
                    (unsigned long long)error->segment, (unsigned long long)error->offset,
                    (unsigned long long)record->lsn, what, newest.major, newest.minor);
}

/* The record at verdict->end_lsn, if a valid one begins there. */
static inv_result take_record(inv_wal_scanner *scanner, inv_wal_record *out, bool *out_more,
                              inv_error *error) {
    const inv_wal_link *link = inv_wal_scan_link(scanner);
    inv_wal_verdict *verdict = &scanner->verdict;
    *out_more = false;
    if (verdict->end_lsn >= link->end_lsn) return INV_OK;
    uint64_t reach = INV_WAL_HEADER_BYTES + (verdict->end_lsn - link->header.base_lsn) +
                     inv_wal_record_bytes(INV_WAL_PAYLOAD_BYTES_MAX);
    inv_result result = load_up_to(scanner->chain, link, &scanner->buffer, reach, error);
    if (!record_in(scanner->chain, &scanner->buffer, verdict->end_lsn, out)) return result;
    memset(error, 0, sizeof *error); /* what cannot be read lies behind it */
    uint64_t end = out->lsn + inv_wal_record_bytes(out->payload_bytes);
    if (end > link->end_lsn) /* void: the recovered successor begins before it ends */
        return INV_OK;
    verdict->durable = inv_max_u64(verdict->durable, out->hint);
    result = check_known(link, out, verdict, error);
    if (result != INV_OK) return result;
    verdict->records++;
    verdict->end_lsn = end;
    *out_more = true;
    return INV_OK;
}

/* What lies from lsn on goes into the segment that follows. */
static void relog_from(inv_wal_scanner *scanner, const inv_wal_link *link, uint64_t lsn) {
    inv_wal_verdict *verdict = &scanner->verdict;
    uint64_t bytes = lsn - link->header.base_lsn;
    verdict->relog_lsn = lsn;
    verdict->relog_number = link->header.number;
    verdict->end_crc =
        bytes == 0 ? 0 : inv_crc32c(0, scanner->buffer.bytes + INV_WAL_HEADER_BYTES, bytes);
}

static void find_relog_start(inv_wal_scanner *scanner, const inv_wal_link *link) {
    const inv_wal_verdict *verdict = &scanner->verdict;
    inv_wal_record record;
    uint64_t lsn = inv_max_u64(link->header.base_lsn, scanner->from_lsn);
    while (lsn < verdict->end_lsn && lsn < link->end_lsn &&
           record_in(scanner->chain, &scanner->buffer, lsn, &record)) {
        uint64_t bytes_taken = inv_wal_record_bytes(record.payload_bytes);
        if (lsn + bytes_taken > verdict->durable) break;
        lsn += bytes_taken;
    }
    relog_from(scanner, link, lsn);
}

/* The scan was to end here, whatever follows. */
static inv_result end_at_limit(inv_wal_scanner *scanner, inv_error *error) {
    const inv_wal_link *link = inv_wal_scan_link(scanner);
    uint64_t lsn = scanner->verdict.end_lsn, bytes = lsn - link->header.base_lsn;
    scanner->verdict.end_number = link->header.number;
    inv_result result = INV_OK;
    if (bytes > 0 && scanner->buffer.link != link)
        result = begin_load(scanner->chain, link, &scanner->buffer, false, error);
    if (result == INV_OK && bytes > 0)
        result = load_up_to(scanner->chain, link, &scanner->buffer, INV_WAL_HEADER_BYTES + bytes,
                            error);
    if (result == INV_OK) relog_from(scanner, link, lsn);
    return result;
}

/* No valid record follows: is this the end, or damage? */
static inv_result judge_end(inv_wal_scanner *scanner, inv_error *error) {
    const inv_wal_chain *chain = scanner->chain;
    const inv_wal_link *last = inv_wal_scan_link(scanner);
    inv_wal_verdict *verdict = &scanner->verdict;
    verdict->end_number = last->header.number;
    inv_result result = load_segment(chain, last, &scanner->buffer, error);
    if (result != INV_OK) return result;
    look_beyond(scanner, verdict->end_lsn);
    for (uint64_t k = scanner->link_index + 1; k < chain->link_count; k++) {
        result = load_segment(chain, &chain->links[k], &scanner->buffer, error);
        if (result != INV_OK) return result;
        look_beyond(scanner, chain->links[k].header.base_lsn);
    }
    if (verdict->durable > verdict->end_lsn) return corrupt_at(last, verdict, error);
    /* The re-log begins at most one window back, so in this segment or one of the few before it. */
    uint64_t k = scanner->link_index;
    while (k > 0 && chain->links[k].header.base_lsn > verdict->durable &&
           chain->links[k].header.base_lsn > scanner->from_lsn)
        k--;
    result = load_segment(chain, &chain->links[k], &scanner->buffer, error);
    if (result == INV_OK) find_relog_start(scanner, &chain->links[k]);
    return result;
}

void inv_wal_scan_begin(inv_wal_scanner *scanner, const inv_wal_chain *chain,
                        const inv_wal_range *range) {
    inv_wal_verdict *verdict = &scanner->verdict;
    memset(scanner, 0, sizeof *scanner);
    scanner->chain = chain;
    scanner->upto_lsn = range->upto_lsn == 0 ? UINT64_MAX : range->upto_lsn;
    verdict->durable = inv_max_u64(chain->hint_durable, chain->state.clean_lsn);
    verdict->durable = inv_max_u64(verdict->durable, range->proven_lsn);
    if (chain->link_count > 0)
        verdict->end_lsn = inv_max_u64(chain->links[0].header.base_lsn, range->from_lsn);
    scanner->from_lsn = verdict->end_lsn;
    /* A position at the end of one segment is the beginning of the next. */
    while (scanner->link_index + 1 < chain->link_count &&
           chain->links[scanner->link_index].end_lsn <= verdict->end_lsn)
        scanner->link_index++;
    for (uint64_t k = 0; k < chain->link_count; k++) /* a recovered segment's word about another */
        if (chain->links[k].end_exact)
            verdict->durable = inv_max_u64(verdict->durable, chain->links[k].end_lsn);
}

void inv_wal_scan_end(inv_wal_scanner *scanner) {
    if (scanner->chain != NULL)
        inv_env_free(scanner->chain->env, scanner->buffer.bytes, scanner->buffer.room);
    memset(&scanner->buffer, 0, sizeof scanner->buffer);
}

static inv_result scan_next(inv_wal_scanner *scanner, inv_wal_record *out, bool *out_more,
                            inv_error *error) {
    const inv_wal_chain *chain = scanner->chain;
    for (;;) { /* at most once a segment */
        const inv_wal_link *link = inv_wal_scan_link(scanner);
        *out_more = false;
        if (scanner->verdict.end_lsn >= scanner->upto_lsn) return end_at_limit(scanner, error);
        inv_result result = INV_OK;
        bool whole = scanner->upto_lsn >= link->end_lsn;
        if (!scanner->loaded) result = begin_load(chain, link, &scanner->buffer, whole, error);
        scanner->loaded = result == INV_OK;
        if (result == INV_OK) result = take_record(scanner, out, out_more, error);
        if (result != INV_OK || *out_more) return result;
        if (scanner->verdict.end_lsn < link->end_lsn ||
            scanner->link_index + 1 == chain->link_count)
            return judge_end(scanner, error);
        scanner->link_index++;
        scanner->loaded = false;
    }
}

inv_result inv_wal_scan_next(inv_wal_scanner *scanner, inv_wal_record *out, bool *out_more,
                             inv_error *error) {
    inv_result result = scan_next(scanner, out, out_more, error);
    if (result == INV_LOG_CORRUPT || result == INV_IO_ERROR) error->lsn = scanner->verdict.end_lsn;
    return result;
}

inv_result inv_wal_scan(const inv_wal_chain *chain, const inv_wal_range *range,
                        inv_wal_visit visit, void *argument, inv_wal_verdict *out,
                        inv_error *error) {
    inv_wal_scanner scanner;
    inv_wal_record record;
    bool more = true;
    inv_wal_scan_begin(&scanner, chain, range);
    inv_result result = inv_wal_scan_next(&scanner, &record, &more, error);
    while (result == INV_OK && more) {
        result = visit(argument, &record, error);
        if (result != INV_OK) {
            error->segment = inv_wal_scan_link(&scanner)->header.number;
            error->lsn = record.lsn;
            break;
        }
        result = inv_wal_scan_next(&scanner, &record, &more, error);
    }
    *out = scanner.verdict;
    inv_wal_scan_end(&scanner);
    return result;
}

inv_result inv_wal_relog(const inv_wal_chain *chain, uint64_t from, uint64_t to, uint64_t epoch,
                         uint8_t *out, inv_error *error) {
    inv_wal_buffer buffer = {0};
    inv_result result = INV_OK;
    uint64_t lsn = from;
    for (uint64_t i = 0; i < chain->link_count && lsn < to && result == INV_OK; i++) {
        const inv_wal_link *link = &chain->links[i];
        if (link->end_lsn <= lsn) continue;
        result = load_segment(chain, link, &buffer, error);
        inv_wal_record record;
        while (result == INV_OK && lsn < to && lsn < link->end_lsn) {
            if (!record_in(chain, &buffer, lsn, &record)) {
                result = inv_fail(error, INV_IO_ERROR, 0, "lsn %llu was readable a moment ago",
                                  (unsigned long long)lsn);
                break;
            }
            uint8_t *target = out + (lsn - from);
            uint64_t padded = inv_align_u64(record.payload_bytes, INV_WAL_RECORD_ALIGN);
            memcpy(target + INV_WAL_RECORD_HEADER_BYTES, record.payload, padded);
            if (record.type == INV_WAL_SEAL) record.type = INV_WAL_PAD;
            record.epoch = (uint32_t)epoch;
            record.hint = inv_min_u64(record.hint, from);
            inv_wal_encode_record_header(target, chain->seed, &record,
                                         inv_crc32c(0, record.payload, padded));
            lsn += INV_WAL_RECORD_HEADER_BYTES + padded;
        }
    }
    inv_env_free(chain->env, buffer.bytes, buffer.room);
    return result;
}
