/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_wal_space.h: space for the log: segments ahead of need, the reserve, a full disk. Private to
 * inv_wal_writer.c, inv_wal_space.c and recovery.
 *
 * FILES. Whatever is prepared is first a spare-N: zeros, written and synced piece by piece.
 * Complete, it becomes segment wal-N, or a reserve-K by a rename and a sync of the directory. So a
 * file under the name reserve-K (K is 1 or 2) is whole, all its blocks are there, and it holds
 * nothing that counts: zeros, but for the header (on opening: and records) of a promotion that a
 * crash undid, whose epoch no later segment has. It is promoted like a spare: header, sync, rename
 * to wal-N, directory, STATE.
 *
 * A FULL DISK (no blocks, no inodes, a quota) is met only when a file is made, never on the path of
 * an append. States, moved by the housekeeper alone:
 *
 *   OK         -> REFUSING    no segment is ready behind the current one, and none can be prepared
 *   REFUSING   -> READ_ONLY   ... nor is there a reserve left; the current segment is nearly full
 *   READ_ONLY  -> REFUSING    a segment is ready again
 *   REFUSING   -> OK          two segments are ready (segments_ahead_max 1: one) and the reserve is
 *                             complete: four files' worth of room. Less would soon be full again.
 *
 *   state       ordinary claims   settling and freeing claims        reads
 *   OK          yes               yes                                yes
 *   REFUSING    DISK_FULL         yes, on what is left and reserves  yes
 *   READ_ONLY   DISK_FULL         DISK_FULL; time waits              yes
 *
 * A reserve is promoted when less than about half a segment is left: a short shortage takes none.
 * What becomes ready while REFUSING is offered to ordinary claims on leaving only, so that none
 * ever gets space of a reserve: ordinary_end is 0 until then.
 *
 * Whether a file will fit is asked first (inv_storage.room): nobody fills a disk to the brim to
 * find that out, or does so again and again. Where the system does not know (a quota), attempts
 * that fail become rarer, up to one in 30 s.
 */
#ifndef INV_WAL_SPACE_H
#define INV_WAL_SPACE_H

#include "inv_wal_writer.h"

/* Makes and promotes the first segment of a log that is opened; *out_map: mapped. */
INV_MUST_USE inv_result inv_wal_first_segment(inv_wal *wal, const inv_wal_segment_header *header,
                                              const uint8_t *relog, uint64_t relog_bytes,
                                              inv_segment_map *out_map, inv_error *error);

/* Tells appenders how far they may go, by what is ready and the state of the disk. */
void inv_wal_offer_space(inv_wal *wal);

/* The reserve files there are, as bits; those that are not of segment_bytes are removed. */
INV_MUST_USE inv_result inv_wal_keep_reserves(const inv_env *env, uint64_t segment_bytes,
                                              uint32_t *out_reserves, inv_error *error);

/* ---- of inv_wal_writer.c --------------------------------------------------------------------- */
/* Offers a promoted segment to the appenders. */
void inv_wal_publish_segment(inv_wal *wal, uint64_t number, uint64_t base,
                             const inv_segment_map *map);
/* Unmaps the segments of sequences below it. */
void inv_wal_unmap_below(inv_wal *wal, uint64_t below);

#endif
