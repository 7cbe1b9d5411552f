/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wal_reader.h: finds the log of a store, iterates its valid records and gives the verdict on
 * its end. Never trusts a length, a name or an order it has not checked. Reads only.
 *
 * VERDICT at p, the first position without a valid record. D is the greatest lsn proven durable by:
 * the durable hints of all valid records, also of those found beyond p; the HINT file; a recovered
 * segment's word about the one before it; the clean-shutdown mark; a snapshot.
 *
 *     D <= p  the log ends at p: cleanly (zeros follow), or torn (garbage, partial or void records)
 *     D >  p  corruption: INV_LOG_CORRUPT with segment, offset, lsn range and the proof
 *
 * A SEAL proves nothing by itself: it is written before it is synced.
 */
#ifndef INV_WAL_READER_H
#define INV_WAL_READER_H

#include "../base/inv_env.h"
#include "inv_wal_format.h"

typedef struct inv_wal_link {
    inv_wal_segment_header header;
    uint64_t end_lsn; /* records end here: exactly (end_exact) or at most */
    bool end_exact;
} inv_wal_link;

typedef struct inv_wal_chain {
    const inv_env *env;
    bool exists; /* there is a store: a STATE file or segments */
    inv_wal_state state;
    uint32_t seed;
    uint64_t hint_durable; /* 0 = no usable HINT */
    inv_wal_link *links;   /* first segment first; the log before it may have been trimmed */
    uint64_t link_count;
    uint64_t number_highest; /* of all wal- and spare- files, void ones included */
    uint64_t *void_numbers;  /* wal- files outside the chain */
    uint64_t void_count;
    uint64_t *spare_numbers; /* spare- files: leftovers of preparation */
    uint64_t spare_count;
    bool broken; /* only the part before a break: see inv_wal_chain_load_front */
    size_t files_bytes, links_bytes; /* sizes of the two allocations */
} inv_wal_chain;

typedef struct inv_wal_verdict {
    uint64_t end_lsn;   /* p */
    uint64_t durable;   /* D */
    uint64_t relog_lsn; /* start of the first record whose end is above D; p if none */
    uint64_t records;
    uint64_t skipped; /* of them of an unknown type that need not be understood */
    uint64_t torn_bytes;   /* non-zero bytes after p, up to the last of them */
    uint64_t void_records; /* valid records beyond p */
    uint64_t end_number;   /* segment that holds p */
    uint32_t end_crc;      /* running CRC of relog_number's bytes of records below relog_lsn */
    uint64_t relog_number; /* segment that holds relog_lsn (or ends there) */
} inv_wal_verdict;

/* INV_OK (chain->exists tells whether there is a store), INV_LOG_CORRUPT, INV_FORMAT_UNKNOWN,
 * INV_IO_ERROR, INV_NO_MEMORY. */
INV_MUST_USE inv_result inv_wal_chain_load(inv_wal_chain *chain, const inv_env *env,
                                           inv_error *error);
/* Of a log that inv_wal_chain_load refuses: the segments from its beginning up to the first that is
 * missing or whose header is damaged. For who looks at what is left, or accepts the loss. Fails as
 * inv_wal_chain_load, with INV_LOG_CORRUPT when not even the beginning is there. */
INV_MUST_USE inv_result inv_wal_chain_load_front(inv_wal_chain *chain, const inv_env *env,
                                                 inv_error *error);
void inv_wal_chain_free(inv_wal_chain *chain);

typedef struct inv_wal_buffer { /* one segment file */
    uint8_t *bytes;
    uint64_t room;
    const inv_wal_link *link; /* whose bytes they are; NULL: nobody's */
    uint64_t loaded;          /* bytes there, from its beginning */
    bool tail_loaded;         /* ... and its last piece */
} inv_wal_buffer;

typedef struct inv_wal_range { /* what is scanned */
    uint64_t from_lsn;   /* start of the first record; 0: the first there is */
    uint64_t proven_lsn; /* a snapshot's word that all below was durable; 0: none */
    uint64_t upto_lsn;   /* the scan ends before the record that begins here or later, without a
                            look at it or a verdict; 0: it goes to the end */
} inv_wal_range;

/* A scan, record by record. Between two calls the record's payload lies in the scanner's buffer. */
typedef struct inv_wal_scanner {
    const inv_wal_chain *chain;
    inv_wal_buffer buffer;
    uint64_t from_lsn;   /* where it began: nothing below was looked at */
    uint64_t upto_lsn;   /* UINT64_MAX: to the end */
    uint64_t link_index; /* the segment the scan is in */
    bool loaded;         /* it is in the buffer, or on its way there */
    inv_wal_verdict verdict; /* complete when the scan has ended */
} inv_wal_scanner;

/* The chain must have a link that reaches back to from_lsn, or inv_wal_scan_next must not be
 * called. */
void inv_wal_scan_begin(inv_wal_scanner *scanner, const inv_wal_chain *chain,
                        const inv_wal_range *range);
void inv_wal_scan_end(inv_wal_scanner *scanner); /* also of a zeroed one */

/* The next valid record in lsn order, PAD and SEAL too; *out_more false: the log ends, cleanly or
 * torn, as the verdict says. INV_LOG_CORRUPT: it does not end here; INV_FORMAT_UNKNOWN,
 * INV_IO_ERROR (of both, error->lsn is where the log is whole to), INV_NO_MEMORY. Not to be called
 * again after an end or a failure. */
INV_MUST_USE inv_result inv_wal_scan_next(inv_wal_scanner *scanner, inv_wal_record *out,
                                          bool *out_more, inv_error *error);

/* The segment of the record given last. */
static inline const inv_wal_link *inv_wal_scan_link(const inv_wal_scanner *scanner) {
    return &scanner->chain->links[scanner->link_index];
}

/* Called for every record of a scan; anything but INV_OK stops it. */
typedef inv_result (*inv_wal_visit)(void *argument, const inv_wal_record *record, inv_error *error);

INV_MUST_USE inv_result inv_wal_scan(const inv_wal_chain *chain, const inv_wal_range *range,
                                     inv_wal_visit visit, void *argument, inv_wal_verdict *out,
                                     inv_error *error);

/* Copies the records [from, to) into `out`, re-headed for `epoch`: same lsns, SEAL becomes PAD. */
INV_MUST_USE inv_result inv_wal_relog(const inv_wal_chain *chain, uint64_t from, uint64_t to,
                                      uint64_t epoch, uint8_t *out, inv_error *error);

#endif
