/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_table.c: see the header. `place` is a SKU's position in this stripe's array.
 */
#include "inv_table.h"

#define LOAD(pointer) __atomic_load_n(&(pointer), __ATOMIC_ACQUIRE)
#define STORE(pointer, value) __atomic_store_n(&(pointer), (value), __ATOMIC_RELEASE)
#define PLACE_MASK ((1u << 20) - 1)

static inline uint32_t run_offset(uint64_t run) { return (uint32_t)(run >> 32); }
static inline uint32_t run_room(uint64_t run) { return (uint32_t)(run >> 16) & 0xFFFFu; }
static inline uint32_t run_count(uint64_t run) { return (uint32_t)run & 0xFFFFu; }
static inline uint64_t run_make(uint32_t offset, uint32_t room, uint32_t count) {
    return (uint64_t)offset << 32 | (uint64_t)room << 16 | count;
}

/* ---- finding --------------------------------------------------------------------------------- */

uint32_t inv_table_find(const inv_table *table, uint64_t hash, uint16_t seller, inv_text name) {
    const inv_table_index *index = table->index;
    if (index == NULL) return INV_NUMBER_NONE;
    uint32_t upper = (uint32_t)(hash >> 32);
    for (uint32_t slot = upper & index->mask;; slot = (slot + 1) & index->mask) {
        uint32_t word = index->slots[slot];
        if (word == 0) return INV_NUMBER_NONE;
        if ((word >> 20) != (upper >> 20)) continue;
        uint32_t place = (word & PLACE_MASK) - 1;
        const inv_sku *sku = &table->skus->at[place];
        if (sku->hash != upper || sku->seller != seller || sku->name_length != name.length)
            continue;
        /* It is the one, but for chance: its rows can come while the names are compared. */
        if (table->rows != NULL) INV_PREFETCH(&table->rows->at[run_offset(sku->run)]);
        if (memcmp(table->names->at + sku->name_offset, name.bytes, name.length) == 0)
            return place;
    }
}

inv_text inv_table_name(const inv_table *table, uint32_t place) {
    const inv_sku *sku = &table->skus->at[place];
    inv_text name = {table->names->at + sku->name_offset, sku->name_length};
    return name;
}

/* First row at or after `location` in a sorted run. */
static uint32_t lower_bound(const inv_row *rows, uint32_t count, uint32_t location) {
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (inv_row_load(&rows[middle]).location < location)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

inv_row *inv_table_rows_of(const inv_table *table, uint32_t place, uint32_t *out_count) {
    uint64_t run = table->skus->at[place].run;
    *out_count = run_count(run);
    return *out_count == 0 ? NULL : table->rows->at + run_offset(run);
}

inv_row *inv_table_row(const inv_table *table, uint32_t place, uint32_t location) {
    uint32_t count;
    inv_row *rows = inv_table_rows_of(table, place, &count);
    /* A SKU kept at the first locations, or at all: the number is the index. */
    if (location < count && rows[location].location == location) return &rows[location];
    uint32_t at = lower_bound(rows, count, location);
    return at < count && rows[at].location == location ? &rows[at] : NULL;
}

inv_result inv_table_peek(const inv_table *table, uint64_t hash, uint16_t seller, inv_text name,
                          uint32_t place_known, uint32_t location, inv_row *out_row,
                          uint32_t *out_place) {
    const inv_table_index *index = LOAD(table->index);
    const inv_table_skus *skus = LOAD(table->skus);
    const inv_table_names *names = LOAD(table->names);
    const inv_table_rows *rows = LOAD(table->rows);
    if (index == NULL || skus == NULL) return INV_UNKNOWN_SKU;
    uint32_t upper = (uint32_t)(hash >> 32), place = place_known;
    if (place == INV_NUMBER_NONE) {
        for (uint32_t i = 0, slot = upper;; i++, slot++) {
            if (i > index->mask) return INV_BUSY;
            uint32_t word = LOAD(index->slots[slot & index->mask]);
            if (word == 0) return INV_UNKNOWN_SKU;
            if ((word >> 20) != (upper >> 20)) continue;
            place = (word & PLACE_MASK) - 1;
            if (place >= skus->room) return INV_BUSY;
            const inv_sku *sku = &skus->at[place];
            if (sku->hash != upper || sku->seller != seller || sku->name_length != name.length)
                continue;
            if ((uint64_t)sku->name_offset + name.length > names->room) return INV_BUSY;
            if (memcmp(names->at + sku->name_offset, name.bytes, name.length) == 0) break;
        }
    }
    if (place >= skus->room) return INV_BUSY;
    *out_place = place;
    uint64_t run = LOAD(skus->at[place].run);
    if (location == INV_NUMBER_NONE || run_count(run) == 0) return INV_UNKNOWN_LOCATION;
    if (rows == NULL || (uint64_t)run_offset(run) + run_count(run) > rows->room) return INV_BUSY;
    const inv_row *first = rows->at + run_offset(run);
    uint32_t at = lower_bound(first, run_count(run), location);
    if (at >= run_count(run)) return INV_UNKNOWN_LOCATION;
    *out_row = inv_row_load(&first[at]);
    return out_row->location == location ? INV_OK : INV_UNKNOWN_LOCATION;
}

/* ---- growing --------------------------------------------------------------------------------- */

static void index_insert(inv_table_index *index, uint32_t upper, uint32_t place) {
    uint32_t slot = upper & index->mask;
    while (index->slots[slot] != 0) slot = (slot + 1) & index->mask;
    STORE(index->slots[slot], (upper >> 20) << 20 | (place + 1));
}

/* Each of these four replaces an array by a copy with room for what is given. */
static inv_result rebuild_index(inv_table *table, inv_lanes *lanes, uint32_t wanted) {
    inv_table_index *index =
        inv_lanes_alloc(lanes, sizeof(inv_table_index) + wanted * sizeof(uint32_t));
    if (index == NULL) return INV_NO_MEMORY;
    index->mask = wanted - 1;
    for (uint32_t place = 0; place < table->sku_count; place++)
        index_insert(index, table->skus->at[place].hash, place);
    inv_table_index *old = table->index;
    STORE(table->index, index);
    inv_lanes_retire(lanes, old);
    return INV_OK;
}

static inv_result copy_skus(inv_table *table, inv_lanes *lanes, uint64_t wanted) {
    inv_table_skus *skus =
        inv_lanes_alloc(lanes, sizeof(inv_table_skus) + wanted * sizeof(inv_sku));
    if (skus == NULL) return INV_NO_MEMORY;
    skus->room = wanted;
    inv_table_skus *old = table->skus;
    if (old != NULL) memcpy(skus->at, old->at, table->sku_count * sizeof(inv_sku));
    STORE(table->skus, skus);
    inv_lanes_retire(lanes, old);
    return INV_OK;
}

static inv_result copy_names(inv_table *table, inv_lanes *lanes, uint64_t wanted) {
    inv_table_names *names = inv_lanes_alloc(lanes, sizeof(inv_table_names) + wanted);
    if (names == NULL) return INV_NO_MEMORY;
    names->room = wanted;
    inv_table_names *old = table->names;
    if (old != NULL) memcpy(names->at, old->at, table->names_used);
    STORE(table->names, names);
    inv_lanes_retire(lanes, old);
    return INV_OK;
}

/* Every run without room of its own, so that there are no holes. */
static inv_result rebuild_rows(inv_table *table, inv_lanes *lanes, uint64_t wanted) {
    if (wanted > UINT32_MAX) return INV_LIMIT_EXCEEDED;
    inv_table_rows *rows =
        inv_lanes_alloc(lanes, sizeof(inv_table_rows) + wanted * sizeof(inv_row));
    if (rows == NULL) return INV_NO_MEMORY;
    rows->room = wanted;
    uint32_t used = 0;
    inv_table_rows *old = table->rows;
    /* Complete before readers can see it. */
    for (uint32_t place = 0; place < table->sku_count; place++) {
        uint64_t run = table->skus->at[place].run;
        if (run_count(run) == 0) continue;
        memcpy(rows->at + used, old->at + run_offset(run), run_count(run) * sizeof(inv_row));
        used += run_count(run);
    }
    STORE(table->rows, rows);
    used = 0;
    for (uint32_t place = 0; place < table->sku_count; place++) {
        inv_sku *sku = &table->skus->at[place];
        uint32_t count = run_count(sku->run);
        if (count == 0) continue;
        STORE(sku->run, run_make(used, count, count));
        used += count;
    }
    INV_ASSERT(used == table->rows_live);
    table->rows_used = used;
    inv_lanes_retire(lanes, old);
    return INV_OK;
}

/* Rows a run of `count` gets when it outgrows its room: at most a quarter more. */
static uint32_t grown_room(uint32_t count) {
    uint32_t room = count + 1 + count / 8;
    return room > INV_LOCATION_COUNT_MAX ? INV_LOCATION_COUNT_MAX : room;
}

static inv_result reserve_index(inv_table *table, inv_lanes *lanes) {
    uint32_t slots = table->index == NULL ? 0 : table->index->mask + 1;
    if (table->sku_count + 1 <= slots / 4 * 3) return INV_OK;
    return rebuild_index(table, lanes, slots == 0 ? 8 : slots * 2);
}

static inv_result reserve_skus(inv_table *table, inv_lanes *lanes) {
    uint64_t room = table->skus == NULL ? 0 : table->skus->room;
    if (table->sku_count < room) return INV_OK;
    return copy_skus(table, lanes, room + room / 8 + 4);
}

static inv_result reserve_names(inv_table *table, inv_lanes *lanes, uint32_t length) {
    uint64_t room = table->names == NULL ? 0 : table->names->room;
    if ((uint64_t)table->names_used + length <= room) return INV_OK;
    return copy_names(table, lanes, room + room / 8 + length + 48);
}

inv_result inv_table_reserve_sku(inv_table *table, inv_lanes *lanes, uint32_t name_length) {
    if (table->sku_count >= INV_TABLE_SKU_COUNT_MAX) return INV_LIMIT_EXCEEDED;
    inv_result result = reserve_skus(table, lanes);
    if (result == INV_OK) result = reserve_names(table, lanes, name_length);
    if (result == INV_OK) result = reserve_index(table, lanes);
    return result;
}

/* What a packed array is given beyond what is in it: a quarter of what growing gives. */
static uint64_t packed_room(uint64_t used) { return used + used / 32 + 1; }

inv_result inv_table_pack(inv_table *table, inv_lanes *lanes) {
    inv_result result = INV_OK;
    if (inv_lanes_leaves(lanes, table->skus))
        result = copy_skus(table, lanes, packed_room(table->sku_count));
    if (result == INV_OK && inv_lanes_leaves(lanes, table->names))
        result = copy_names(table, lanes, packed_room(table->names_used));
    if (result == INV_OK && inv_lanes_leaves(lanes, table->index))
        result = rebuild_index(table, lanes, table->index->mask + 1);
    if (result == INV_OK && inv_lanes_leaves(lanes, table->rows))
        result = rebuild_rows(table, lanes, packed_room(table->rows_live));
    return result;
}

inv_result inv_table_reserve_row(inv_table *table, inv_lanes *lanes, uint32_t place) {
    uint64_t run = place == INV_NUMBER_NONE ? 0 : table->skus->at[place].run;
    if (run_count(run) >= INV_LOCATION_COUNT_MAX) return INV_LIMIT_EXCEEDED;
    uint32_t more = grown_room(run_count(run));
    uint64_t room = table->rows == NULL ? 0 : table->rows->room;
    if (run_count(run) < run_room(run) || (uint64_t)table->rows_used + more <= room) return INV_OK;
    return rebuild_rows(table, lanes, table->rows_live + table->rows_live / 8 + more + 4);
}

inv_result inv_table_make_room(inv_table *table, inv_lanes *lanes, uint32_t sku_count,
                               uint32_t name_bytes, uint32_t row_count) {
    INV_ASSERT(table->skus == NULL && table->rows == NULL);
    if (sku_count == 0) return INV_OK;
    if (sku_count > INV_TABLE_SKU_COUNT_MAX) return INV_LIMIT_EXCEEDED;
    uint32_t slots = 8;
    while (sku_count > slots / 4 * 3) slots *= 2;
    inv_result result = copy_skus(table, lanes, packed_room(sku_count));
    if (result == INV_OK) result = copy_names(table, lanes, packed_room(name_bytes));
    if (result == INV_OK) result = rebuild_index(table, lanes, slots);
    if (result == INV_OK && row_count > 0)
        result = rebuild_rows(table, lanes, packed_room(row_count));
    return result;
}

bool inv_table_load_sku(inv_table *table, const inv_sku *sku, uint32_t row_count) {
    uint64_t rows_room = table->rows == NULL ? 0 : table->rows->room;
    if (table->skus == NULL || table->sku_count >= table->skus->room || sku->name_length == 0 ||
        sku->name_length > table->names->room - table->names_used ||
        row_count > rows_room - table->rows_used || row_count > INV_LOCATION_COUNT_MAX)
        return false;
    inv_sku *target = &table->skus->at[table->sku_count];
    *target = *sku;
    target->name_offset = table->names_used;
    target->run = row_count == 0 ? 0 : run_make(table->rows_used, row_count, row_count);
    table->names_used += sku->name_length;
    table->rows_used += row_count;
    table->rows_live += row_count;
    index_insert(table->index, sku->hash, table->sku_count++);
    return true;
}

uint32_t inv_table_add_sku(inv_table *table, uint64_t hash, uint16_t seller, inv_text name) {
    uint32_t place = table->sku_count;
    INV_ASSERT(table->skus != NULL && place < table->skus->room);
    INV_ASSERT((uint64_t)table->names_used + name.length <= table->names->room);
    INV_ASSERT(name.length >= 1 && name.length <= INV_SKU_BYTES_MAX);
    inv_sku *sku = &table->skus->at[place];
    memcpy(table->names->at + table->names_used, name.bytes, name.length);
    sku->name_offset = table->names_used;
    sku->hash = (uint32_t)(hash >> 32);
    sku->seller = seller;
    sku->name_length = (uint8_t)name.length;
    table->names_used += name.length;
    table->sku_count = place + 1;
    index_insert(table->index, sku->hash, place); /* release: publishes all of the above */
    return place;
}

/* Gives a full run more room: in place at the end of the rows, else by moving there. */
static uint64_t grow_run(inv_table *table, inv_sku *sku) {
    uint64_t run = sku->run;
    uint32_t count = run_count(run), room = grown_room(count), offset = run_offset(run);
    if (count > 0 && offset + run_room(run) == table->rows_used &&
        (uint64_t)offset + room <= table->rows->room) {
        table->rows_used = offset + room;
        return run_make(offset, room, count);
    }
    INV_ASSERT((uint64_t)table->rows_used + room <= table->rows->room);
    uint32_t target = table->rows_used;
    for (uint32_t i = 0; i < count; i++)
        inv_row_store(&table->rows->at[target + i], table->rows->at[offset + i]);
    table->rows_used += room;
    return run_make(target, room, count);
}

inv_row *inv_table_add_row(inv_table *table, uint32_t place, uint16_t location) {
    inv_sku *sku = &table->skus->at[place];
    uint64_t run = sku->run;
    INV_ASSERT(location != INV_LOCATION_NONE);
    if (run_count(run) == run_room(run)) run = grow_run(table, sku);
    inv_row *rows = table->rows->at + run_offset(run);
    uint32_t count = run_count(run);
    uint32_t at = lower_bound(rows, count, location);
    INV_ASSERT(at == count || rows[at].location != location);
    for (uint32_t i = count; i > at; i--) inv_row_store(&rows[i], rows[i - 1]);
    inv_row row = {.location = location,
                   .flags = (sku->flags & INV_SKU_POLICY) ? INV_ROW_POLICY : 0};
    inv_row_store(&rows[at], row);
    STORE(sku->run, run_make(run_offset(run), run_room(run), count + 1));
    table->rows_live++;
    return &rows[at];
}

/* ---- policies -------------------------------------------------------------------------------- */

/* Slot of (place, location): the one that holds it, else the free one where it belongs. */
static inv_policy *policy_slot(inv_table_policies *policies, uint32_t place, uint16_t location) {
    uint32_t mask = policies->room - 1;
    uint32_t at = (uint32_t)inv_mix64((uint64_t)place << 16 | location) & mask;
    while (policies->at[at].sku != 0 &&
           (policies->at[at].sku != place + 1 || policies->at[at].location != location))
        at = (at + 1) & mask;
    return &policies->at[at];
}

static inline bool has_policy_room(const inv_table_policies *policies) {
    return policies != NULL && policies->count + 1 <= policies->room / 4 * 3;
}

uint32_t inv_table_safety_stock(const inv_table *table, uint32_t place, inv_row row) {
    if (INV_LIKELY((row.flags & INV_ROW_POLICY) == 0)) return 0;
    const inv_policy *own = policy_slot(table->policies, place, row.location);
    if (own->sku != 0) return own->safety_stock;
    return policy_slot(table->policies, place, INV_LOCATION_NONE)->safety_stock; /* 0: free slot */
}

inv_result inv_table_reserve_policy(inv_table *table, inv_lanes *lanes) {
    inv_table_policies *old = table->policies;
    if (has_policy_room(old)) return INV_OK;
    uint32_t room = old == NULL ? 8 : old->room * 2;
    inv_table_policies *larger =
        inv_lanes_alloc(lanes, sizeof *larger + room * sizeof(inv_policy));
    if (larger == NULL) return INV_NO_MEMORY;
    larger->room = room;
    for (uint32_t i = 0; old != NULL && i < old->room; i++)
        if (old->at[i].sku != 0)
            *policy_slot(larger, old->at[i].sku - 1, old->at[i].location) = old->at[i];
    larger->count = old == NULL ? 0 : old->count;
    table->policies = larger;
    inv_lanes_free(lanes, old); /* policies are only read under the lock */
    return INV_OK;
}

static void policy_put(inv_table *table, uint32_t place, uint16_t location, uint32_t safety_stock) {
    inv_policy *slot = policy_slot(table->policies, place, location);
    if (slot->sku == 0) table->policies->count++;
    slot->sku = place + 1;
    slot->location = location;
    slot->safety_stock = safety_stock;
}

inv_result inv_table_load_policy(inv_table *table, inv_lanes *lanes, uint32_t place,
                                 uint16_t location, uint32_t safety_stock) {
    if (place >= table->sku_count) return INV_LOG_CORRUPT;
    inv_result result = inv_table_reserve_policy(table, lanes);
    if (result == INV_OK) policy_put(table, place, location, safety_stock);
    return result;
}

void inv_table_set_safety_stock(inv_table *table, uint32_t place, uint16_t location,
                                uint32_t safety_stock) {
    INV_ASSERT(has_policy_room(table->policies));
    uint32_t count;
    inv_row *rows = inv_table_rows_of(table, place, &count);
    for (uint32_t i = 0; i < count; i++) {
        inv_row row = rows[i];
        if (location != INV_LOCATION_NONE && row.location != location) continue;
        if (location == INV_LOCATION_NONE && (row.flags & INV_ROW_POLICY) != 0 &&
            policy_slot(table->policies, place, row.location)->sku != 0)
            policy_put(table, place, row.location, safety_stock);
        row.flags |= INV_ROW_POLICY;
        inv_row_store(&rows[i], row);
    }
    if (location == INV_LOCATION_NONE) table->skus->at[place].flags |= INV_SKU_POLICY;
    policy_put(table, place, location, safety_stock);
}

static uint64_t digest_policy(uint32_t sku, uint16_t location, uint32_t safety_stock) {
    return inv_mix64(INV_DIGEST_POLICY + (sku | (uint64_t)location << 32) * INV_DIGEST_M0 +
                     safety_stock * INV_DIGEST_M1);
}

uint64_t inv_table_digest_policies(const inv_table *table, uint32_t place, uint32_t sku) {
    if (INV_LIKELY(table->policies == NULL)) return 0;
    uint32_t count;
    const inv_row *rows = inv_table_rows_of(table, place, &count);
    const inv_policy *slot = policy_slot(table->policies, place, INV_LOCATION_NONE);
    uint64_t sum = slot->sku == 0
                       ? 0
                       : digest_policy(sku, INV_LOCATION_NONE, slot->safety_stock);
    for (uint32_t i = 0; i < count; i++) {
        if ((rows[i].flags & INV_ROW_POLICY) == 0) continue;
        slot = policy_slot(table->policies, place, rows[i].location);
        if (slot->sku != 0) sum += digest_policy(sku, rows[i].location, slot->safety_stock);
    }
    return sum;
}

/* ---- proof ----------------------------------------------------------------------------------- */

const char *inv_table_check(const inv_table *table) {
    uint64_t rows_live = 0, names_used = 0, indexed = 0;
    for (uint32_t place = 0; place < table->sku_count; place++) {
        const inv_sku *sku = &table->skus->at[place];
        uint32_t count;
        const inv_row *rows = inv_table_rows_of(table, place, &count);
        if (sku->name_offset != names_used) return "names are not one after the other";
        names_used += sku->name_length;
        if (inv_table_find(table, (uint64_t)sku->hash << 32, sku->seller,
                           inv_table_name(table, place)) != place)
            return "a SKU is not found by its name";
        if (count > run_room(sku->run)) return "a run has more rows than room";
        if ((uint64_t)run_offset(sku->run) + run_room(sku->run) > table->rows_used)
            return "a run lies beyond the used rows";
        for (uint32_t i = 0; i < count; i++) {
            if (i > 0 && rows[i - 1].location >= rows[i].location) return "rows are not sorted";
            if (rows[i].on_hand > INV_QTY_MAX || rows[i].held > INV_QTY_MAX ||
                rows[i].allocated > INV_QTY_MAX)
                return "a counter of a row is out of range";
        }
        rows_live += count;
    }
    if (rows_live != table->rows_live) return "live rows are miscounted";
    if (names_used != table->names_used) return "name bytes are miscounted";
    for (uint32_t i = 0; table->index != NULL && i <= table->index->mask; i++)
        indexed += table->index->slots[i] != 0;
    return indexed == table->sku_count ? NULL : "the index does not hold every SKU once";
}

void inv_table_free(inv_table *table, const inv_lanes *lanes) {
    inv_lanes_free(lanes, table->index);
    inv_lanes_free(lanes, table->skus);
    inv_lanes_free(lanes, table->rows);
    inv_lanes_free(lanes, table->names);
    inv_lanes_free(lanes, table->policies);
    memset(table, 0, sizeof *table);
}
