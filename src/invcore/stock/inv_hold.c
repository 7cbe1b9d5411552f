/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_hold.c: slab, index, lines and the queue of ended reservations. See the header for the locks.
 */
#include "inv_hold.h"

#define CHUNK_CLASS 6u /* 64 granules: the header and 63 holds */
#define CHUNK_FREE_ALL (~1ull)
#define FIRST_SLOTS 8u

inv_result inv_holds_init(inv_holds *holds, inv_pool *pool, inv_lanes *lanes,
                          uint32_t shard_bits) {
    memset(holds, 0, sizeof *holds);
    holds->env = pool->env;
    holds->pool = pool;
    holds->lanes = lanes;
    holds->shard_bits = shard_bits;
    holds->shards = inv_env_alloc(holds->env, sizeof(inv_hold_shard) << shard_bits);
    return holds->shards == NULL ? INV_NO_MEMORY : INV_OK;
}

void inv_holds_deinit(inv_holds *holds) {
    if (holds->shards == NULL) return;
    for (uint32_t i = 0; i < 1u << holds->shard_bits; i++)
        inv_lanes_free(holds->lanes, holds->shards[i].slots);
    inv_env_free(holds->env, holds->shards, sizeof(inv_hold_shard) << holds->shard_bits);
    holds->shards = NULL;
}

uint64_t inv_hold_hash(inv_hash_key key, uint64_t seller_tweak, bool op, inv_text text,
                       const uint8_t uuid[16]) {
    uint64_t tweak = seller_tweak ^ (op ? 0x9E3779B97F4A7C15ull : 0);
    return text.bytes != NULL ? inv_siphash13(key, tweak ^ 1, text.bytes, text.length)
                              : inv_siphash13(key, tweak, uuid, 16);
}

/* ---- id index -------------------------------------------------------------------------------- */

static inline uint64_t text_hash(const inv_hold *hold) { return inv_load_u64(hold->id); }
static inline inv_ref text_ref(const inv_hold *hold) { return inv_load_u32(hold->id + 8); }
static inline uint32_t text_length(const inv_hold *hold) { return inv_load_u32(hold->id + 12); }

static bool is_id(const inv_holds *holds, const inv_hold *hold, const inv_hold_key *key) {
    bool text = key->text.bytes != NULL;
    if (((hold->kind & INV_HOLD_TEXT) != 0) != text ||
        ((hold->kind & INV_HOLD_OP) != 0) != key->op || hold->seller != key->seller)
        return false;
    if (!text) return memcmp(hold->id, key->uuid, 16) == 0;
    return text_hash(hold) == key->hash && text_length(hold) == key->text.length &&
           memcmp(inv_pool_at(holds->pool, text_ref(hold)), key->text.bytes, key->text.length) == 0;
}

static inline uint32_t word_fingerprint(uint64_t word) { return (uint32_t)(word >> 32); }

static inline uint64_t slot_load(const inv_hold_slots *slots, uint32_t at) {
    return __atomic_load_n(&slots->at[at], __ATOMIC_RELAXED);
}
/* release: who guesses a reference must find its region in the pool's table and its chunk's header
 */
static inline void slot_store(inv_hold_slots *slots, uint32_t at, uint64_t word) {
    __atomic_store_n(&slots->at[at], word, __ATOMIC_RELEASE);
}

inv_ref inv_holds_find_locked(inv_holds *holds, const inv_hold_shard *shard,
                              const inv_hold_key *key) {
    const inv_hold_slots *slots = shard->slots;
    if (slots == NULL) return 0;
    uint32_t fingerprint = (uint32_t)key->hash, probes = 0;
    for (uint32_t at = fingerprint & slots->mask;; at = (at + 1) & slots->mask) {
        uint64_t word = slot_load(slots, at);
        if (word == 0) break;
        probes++;
        if (word_fingerprint(word) == fingerprint &&
            is_id(holds, inv_hold_at(holds, (inv_ref)word), key))
            return (inv_ref)word;
    }
    if (INV_UNLIKELY(probes > atomic_load_explicit(&holds->probe_max, memory_order_relaxed)))
        atomic_store_explicit(&holds->probe_max, probes, memory_order_relaxed);
    return 0;
}

inv_ref inv_holds_guess(const inv_holds *holds, uint64_t hash) {
    const inv_hold_shard *shard = inv_holds_shard(holds, hash);
    const inv_hold_slots *slots = __atomic_load_n(&shard->slots, __ATOMIC_ACQUIRE);
    uint32_t fingerprint = (uint32_t)hash;
    if (slots == NULL) return 0;
    for (uint32_t i = 0; i <= slots->mask; i++) {
        /* acquire: pairs with slot_store */
        uint64_t word =
            __atomic_load_n(&slots->at[(fingerprint + i) & slots->mask], __ATOMIC_ACQUIRE);
        if (word == 0) return 0;
        if (word_fingerprint(word) == fingerprint) return (inv_ref)word;
    }
    return 0;
}

static void slot_put(inv_hold_slots *slots, uint64_t word) {
    uint32_t at = word_fingerprint(word) & slots->mask;
    while (slot_load(slots, at) != 0) at = (at + 1) & slots->mask;
    slot_store(slots, at, word);
}

inv_result inv_holds_reserve_locked(inv_holds *holds, inv_hold_shard *shard) {
    inv_hold_slots *old = shard->slots;
    uint32_t room = old == NULL ? 0 : old->mask + 1;
    if (INV_LIKELY(shard->count + 1 <= room / 4 * 3)) return INV_OK;
    if (room >= 1u << 30) return INV_LIMIT_EXCEEDED;
    uint32_t wanted = room == 0 ? FIRST_SLOTS : room * 2;
    inv_hold_slots *slots =
        inv_lanes_alloc(holds->lanes, sizeof(inv_hold_slots) + wanted * sizeof(uint64_t));
    if (slots == NULL) return INV_NO_MEMORY;
    slots->mask = wanted - 1;
    /* The position comes from the fingerprint, so growing touches no hold. */
    for (uint32_t i = 0; i < room; i++)
        if (old->at[i] != 0) slot_put(slots, old->at[i]);
    /* release: pairs with inv_holds_guess and inv_holds_prefetch */
    __atomic_store_n(&shard->slots, slots, __ATOMIC_RELEASE);
    inv_lanes_retire(holds->lanes, old);
    return INV_OK;
}

void inv_holds_insert_locked(inv_holds *holds, inv_hold_shard *shard, uint64_t hash, inv_ref ref) {
    (void)holds;
    INV_ASSERT(shard->slots != NULL && shard->count < shard->slots->mask);
    slot_put(shard->slots, hash << 32 | ref);
    shard->count++;
}

/* Linear probing without markers: entries behind the hole move up if they may. */
void inv_holds_remove_locked(inv_holds *holds, inv_hold_shard *shard, uint64_t hash, inv_ref ref) {
    (void)holds;
    inv_hold_slots *slots = shard->slots;
    uint32_t mask = slots->mask, at = (uint32_t)hash & mask;
    uint64_t word;
    while ((inv_ref)(word = slot_load(slots, at)) != ref) {
        INV_ASSERT(word != 0);
        at = (at + 1) & mask;
    }
    for (uint32_t next = (at + 1) & mask; (word = slot_load(slots, next)) != 0;
         next = (next + 1) & mask) {
        uint32_t wanted = word_fingerprint(word) & mask;
        if (((next - wanted) & mask) < ((next - at) & mask)) continue;
        slot_store(slots, at, word);
        at = next;
    }
    slot_store(slots, at, 0);
    shard->count--;
}

inv_ref inv_holds_find(inv_holds *holds, const inv_hold_key *key) {
    inv_hold_shard *shard = inv_holds_shard(holds, key->hash);
    inv_lock_take(&shard->lock);
    inv_ref ref = inv_holds_find_locked(holds, shard, key);
    inv_lock_give(&shard->lock);
    return ref;
}

/* ---- slab ------------------------------------------------------------------------------------ */

static inv_hold_chunk *chunk_at(const inv_holds *holds, inv_ref ref) {
    return (inv_hold_chunk *)inv_pool_at(holds->pool, ref & ~63u);
}

static void room_push(const inv_holds *holds, inv_hold_home *home, inv_ref ref) {
    inv_hold_chunk *chunk = chunk_at(holds, ref);
    chunk->room_next = home->room_chunks;
    chunk->room_prev = 0;
    chunk->in_room_list = 1;
    if (home->room_chunks != 0) chunk_at(holds, home->room_chunks)->room_prev = ref;
    home->room_chunks = ref;
}

static void room_remove(const inv_holds *holds, inv_hold_home *home, inv_ref ref) {
    inv_hold_chunk *chunk = chunk_at(holds, ref);
    if (chunk->room_next != 0) chunk_at(holds, chunk->room_next)->room_prev = chunk->room_prev;
    if (chunk->room_prev != 0)
        chunk_at(holds, chunk->room_prev)->room_next = chunk->room_next;
    else
        home->room_chunks = chunk->room_next;
    chunk->in_room_list = 0;
}

static bool add_chunk(inv_holds *holds, inv_hold_home *home, uint32_t stripe) {
    inv_ref ref = inv_pool_alloc(holds->pool, CHUNK_CLASS);
    if (ref == 0) return false;
    inv_hold_chunk *chunk = chunk_at(holds, ref);
    chunk->free_slots = CHUNK_FREE_ALL;
    chunk->number = 1 + atomic_fetch_add_explicit(&holds->chunk_total, 1, memory_order_relaxed);
    chunk->all_prev = 0;
    __atomic_store_n(&chunk->stripe, (uint16_t)stripe, __ATOMIC_RELAXED);
    chunk->all_next = home->all_chunks;
    if (home->all_chunks != 0) chunk_at(holds, home->all_chunks)->all_prev = ref;
    home->all_chunks = ref;
    room_push(holds, home, ref);
    return true;
}

static void drop_chunk(inv_holds *holds, inv_hold_home *home, inv_ref ref) {
    inv_hold_chunk *chunk = chunk_at(holds, ref);
    room_remove(holds, home, ref);
    if (chunk->all_next != 0) chunk_at(holds, chunk->all_next)->all_prev = chunk->all_prev;
    if (chunk->all_prev != 0)
        chunk_at(holds, chunk->all_prev)->all_next = chunk->all_next;
    else
        home->all_chunks = chunk->all_next;
    home->chunk_drops++;
    inv_pool_free(holds->pool, ref, CHUNK_CLASS);
}

static void note_next_slot(const inv_holds *holds, inv_hold_home *home) {
    inv_ref next = home->room_chunks;
    if (next != 0) next += (uint32_t)__builtin_ctzll(chunk_at(holds, next)->free_slots);
    /* release: pairs with inv_hold_prefetch_room */
    __atomic_store_n(&home->next_slot, next, __ATOMIC_RELEASE);
}

inv_ref inv_hold_create(inv_holds *holds, inv_hold_home *home, uint32_t stripe,
                        const inv_hold_key *key) {
    inv_ref text = 0;
    if (key->text.bytes != NULL && (text = inv_pool_alloc(holds->pool, 0)) == 0) return 0;
    if (home->room_chunks == 0 && !add_chunk(holds, home, stripe)) {
        if (text != 0) inv_pool_free(holds->pool, text, 0);
        return 0;
    }
    inv_ref chunk_ref = home->room_chunks;
    inv_hold_chunk *chunk = chunk_at(holds, chunk_ref);
    uint32_t slot = (uint32_t)__builtin_ctzll(chunk->free_slots);
    chunk->free_slots &= chunk->free_slots - 1;
    if (chunk->free_slots == 0) room_remove(holds, home, chunk_ref);
    note_next_slot(holds, home);
    inv_hold *hold = inv_hold_at(holds, chunk_ref + slot);
    memset(hold, 0, sizeof *hold);
    hold->seller = (uint16_t)key->seller;
    if (key->op) hold->kind |= INV_HOLD_OP;
    if (key->no_body) hold->kind |= INV_HOLD_NO_BODY;
    if (text == 0) {
        memcpy(hold->id, key->uuid, 16);
    } else {
        INV_ASSERT(key->text.length <= INV_GRANULE_BYTES);
        memcpy(inv_pool_at(holds->pool, text), key->text.bytes, key->text.length);
        hold->kind |= INV_HOLD_TEXT;
        inv_put_u64(hold->id, key->hash);
        inv_put_u32(hold->id + 8, text);
        inv_put_u32(hold->id + 12, key->text.length);
    }
    return chunk_ref + slot;
}

inv_text inv_hold_text(const inv_holds *holds, const inv_hold *hold) {
    inv_text text = {NULL, 0};
    if (hold->kind & INV_HOLD_TEXT) {
        text.bytes = inv_pool_at(holds->pool, text_ref(hold));
        text.length = text_length(hold);
    }
    return text;
}

/* Chunks have their class for themselves, so that a stale reference to a hold (inv_holds_guess)
 * still leads to the header of a chunk. */
static uint32_t block_class(uint32_t line_count) {
    uint32_t class_index = inv_pool_class_for(line_count * sizeof(inv_hold_line));
    return class_index == CHUNK_CLASS ? CHUNK_CLASS + 1 : class_index;
}

void inv_hold_destroy(inv_holds *holds, inv_hold_home *home, inv_ref ref) {
    inv_hold *hold = inv_hold_at(holds, ref);
    inv_hold_chunk *chunk = chunk_at(holds, ref);
    uint64_t bit = 1ull << (ref & 63u);
    INV_ASSERT((chunk->free_slots & bit) == 0);
    if (hold->kind & INV_HOLD_TEXT) inv_pool_free(holds->pool, text_ref(hold), 0);
    if (hold->block) inv_pool_free(holds->pool, hold->sku, block_class(hold->line_count));
    hold->kind = 0;
    chunk->free_slots |= bit;
    if (!chunk->in_room_list) room_push(holds, home, ref & ~63u);
    /* An empty chunk goes back unless it is the stripe's only one with room. */
    if (chunk->free_slots == CHUNK_FREE_ALL && (chunk->room_next != 0 || chunk->room_prev != 0))
        drop_chunk(holds, home, ref & ~63u);
    note_next_slot(holds, home);
}

/* ---- lines ----------------------------------------------------------------------------------- */

inv_hold_line *inv_hold_lines(const inv_holds *holds, const inv_hold *hold,
                              inv_hold_line *inline_line) {
    if (hold->block) return inv_pool_at(holds->pool, hold->sku);
    if (hold->line_count != 1 || hold->units || (hold->kind & (INV_HOLD_OP | INV_HOLD_NO_BODY)))
        return NULL;
    inv_hold_line line = {.sku = hold->sku,
                          .qty = hold->qty,
                          .location = hold->location,
                          .flags = hold->free_line ? INV_LINE_FREE : 0};
    line.held = hold->state == INV_STATE_HELD ? hold->qty : 0;
    line.allocated = hold->state == INV_STATE_ALLOCATED ? hold->qty : 0;
    line.shipped = hold->state == INV_STATE_SHIPPED ? hold->qty : 0;
    *inline_line = line;
    return inline_line;
}

inv_result inv_hold_make_block(inv_holds *holds, inv_hold *hold, uint32_t count) {
    if (hold->block) return INV_OK;
    inv_ref ref = inv_pool_alloc(holds->pool, block_class(count));
    if (ref == 0) return INV_NO_MEMORY;
    inv_hold_line *lines = inv_pool_at(holds->pool, ref), inline_line;
    memset(lines, 0, count * sizeof(inv_hold_line));
    if (inv_hold_lines(holds, hold, &inline_line) != NULL) lines[0] = inline_line;
    hold->free_line = 0;
    hold->block = 1;
    hold->sku = ref;
    hold->line_count = count & 0x1FFFu;
    return INV_OK;
}

uint64_t inv_hold_units(const inv_holds *holds, const inv_hold *hold) {
    if (hold->units) return hold->sku | (uint64_t)hold->qty << 32;
    inv_hold_line inline_line, *lines = inv_hold_lines(holds, hold, &inline_line);
    uint64_t units = 0;
    for (uint32_t i = 0; lines != NULL && i < hold->line_count; i++) units += lines[i].qty;
    return units;
}

void inv_hold_drop_lines(inv_holds *holds, inv_hold *hold) {
    if (!hold->block) return; /* an inline line costs nothing */
    uint64_t units = inv_hold_units(holds, hold);
    inv_pool_free(holds->pool, hold->sku, block_class(hold->line_count));
    hold->block = 0;
    hold->units = 1;
    hold->sku = (uint32_t)units;
    hold->qty = (uint32_t)(units >> 32);
}

/* Adds delta * qty to a figure; false when it would leave 0..INV_QTY_MAX. */
static bool move(uint32_t *figure, int delta, uint32_t qty) {
    int64_t value = (int64_t)*figure + delta * (int64_t)qty;
    if (value < 0 || value > INV_QTY_MAX) return false;
    *figure = (uint32_t)value;
    return true;
}

bool inv_hold_apply(inv_hold_line *lines, uint32_t line_count, uint32_t *next,
                    const inv_change_line *change, int held, int allocated, int shipped) {
    uint32_t at = *next;
    for (uint32_t i = 0; i < line_count; i++, at++) {
        if (at >= line_count) at = 0;
        inv_hold_line *line = &lines[at];
        if (line->sku != change->sku || line->location != change->location ||
            (line->flags & INV_LINE_FREE) != (change->flags & INV_LINE_FREE))
            continue;
        inv_hold_line moved = *line;
        if (!move(&moved.held, held, change->qty) ||
            !move(&moved.allocated, allocated, change->qty) ||
            !move(&moved.shipped, shipped, change->qty) ||
            (uint64_t)moved.held + moved.allocated + moved.shipped > moved.qty)
            return false;
        *line = moved;
        *next = at; /* a line may be named twice: its held part, its allocated part */
        return true;
    }
    return false;
}

/* ---- queue of ended ones --------------------------------------------------------------------- */

void inv_hold_enqueue_ended(inv_holds *holds, inv_hold_home *home, inv_ref ref) {
    inv_hold *hold = inv_hold_at(holds, ref);
    hold->next = 0;
    hold->prev = home->ended_last;
    if (home->ended_last == 0)
        home->ended_first = ref;
    else
        inv_hold_at(holds, home->ended_last)->next = ref;
    home->ended_last = ref;
    home->ended_count++;
    atomic_fetch_add_explicit(&holds->ended_total, 1, memory_order_relaxed);
}

void inv_hold_unqueue_ended(inv_holds *holds, inv_hold_home *home, inv_ref ref) {
    inv_hold *hold = inv_hold_at(holds, ref);
    INV_ASSERT(home->ended_count > 0);
    if (hold->prev == 0)
        home->ended_first = hold->next;
    else
        inv_hold_at(holds, hold->prev)->next = hold->next;
    if (hold->next == 0)
        home->ended_last = hold->prev;
    else
        inv_hold_at(holds, hold->next)->prev = hold->prev;
    hold->next = hold->prev = 0;
    home->ended_count--;
    atomic_fetch_sub_explicit(&holds->ended_total, 1, memory_order_relaxed);
}

inv_ref inv_hold_dequeue_ended(inv_holds *holds, inv_hold_home *home) {
    inv_ref ref = home->ended_first;
    if (ref != 0) inv_hold_unqueue_ended(holds, home, ref);
    return ref;
}

void inv_hold_walk(const inv_holds *holds, const inv_hold_home *home,
                   bool (*visit)(void *argument, inv_ref ref, inv_hold *hold), void *argument) {
    for (inv_ref ref = home->all_chunks; ref != 0;) {
        const inv_hold_chunk *chunk = chunk_at(holds, ref);
        inv_ref next = chunk->all_next;
        for (uint64_t used = ~chunk->free_slots & CHUNK_FREE_ALL; used != 0; used &= used - 1) {
            inv_ref slot = ref + (uint32_t)__builtin_ctzll(used);
            if (!visit(argument, slot, inv_hold_at(holds, slot))) return;
        }
        ref = next;
    }
}

inv_ref inv_hold_walk_next(const inv_holds *holds, const inv_hold_home *home,
                           inv_hold_place *place) {
    inv_ref ref = home->all_chunks;
    if (place->chunk_number != 0 && place->chunk_drops == home->chunk_drops)
        ref = place->slot & ~63u;
    for (; ref != 0; ref = chunk_at(holds, ref)->all_next) {
        const inv_hold_chunk *chunk = chunk_at(holds, ref);
        uint64_t used = ~chunk->free_slots & CHUNK_FREE_ALL;
        if (place->chunk_number != 0 && chunk->number > place->chunk_number) continue;
        if (chunk->number == place->chunk_number)
            used &= ~1ull << (place->slot & 63u); /* after the last one given */
        if (used == 0) continue;
        place->chunk_number = chunk->number;
        place->slot = ref + (uint32_t)__builtin_ctzll(used);
        place->chunk_drops = home->chunk_drops;
        return place->slot;
    }
    return 0;
}
