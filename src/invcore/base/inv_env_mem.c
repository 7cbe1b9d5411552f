/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_env_mem.c: a disk made of memory that can lose power between any two calls.
 *
 * Guarantees: after a cut the disk holds exactly one of the states the model of inv_env.h allows,
 * the one the caller chose; everything that was synced is in it. A clone is independent of its
 * original. Equal calls on equal disks give equal states, whatever the addresses.
 *
 *     volatile names ---> file ---> volatile image   what read, map and list see
 *     durable names  ---> file ---> durable image    what a cut that keeps nothing leaves
 *          + journal: the name changes in between, in order; a prefix of them survives a cut
 *
 * IMAGES are blocks of sectors with counted references. A clone shares them, a cut that chose one
 * side of a file shares that side, and a block is copied only when somebody writes to it while it
 * has another owner. Campaigns that clone, cut and recover 100,000 times therefore copy only the
 * few files that differ. Two kinds of volatile image are never shared, because their bytes change
 * behind our back: those of mapped files and those handed out by inv_memory_file ("exposed").
 * Bytes beyond a file's size are zero in both images, so sectors compare whole.
 *
 * SIZES belong to sectors: a cut that keeps the volatile version of a sector keeps how far the file
 * reached into it; the file then ends at its last byte, with zeros in what was not kept.
 *
 * SYNCED WRITES come in two steps, each a call of its own for the hook: "write" then "write-sync",
 * "prepare" then "prepare-sync". Between them a power cut finds torn bytes.
 *
 * A FAILED SYNC is a trap here as on Linux: the sectors it was about stay "lost". A later sync says
 * OK and does not make them durable unless they were written again; reading the file after it was
 * unmapped shows the durable bytes. A store that asks twice is found out.
 *
 * THREADS. One lock, `guard`, protects everything but the bytes of mapped files. The hook and the
 * visitor of list run without it and may call anything; keep_sector runs under it and must not call
 * back. During inv_memory_cut and inv_memory_destroy no other thread may be inside.
 *
 * Rejected: a log of versions per sector ("any version since the last sync"): the log never
 * overwrites a sector with different bytes but for appending, so older versions are prefixes of
 * newer ones, and cutting after every call already visits those.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "inv_env.h"
#include "inv_env_name.h"
#include "inv_hash.h"
#include "inv_lock.h"

/* ThreadSanitizer must not look into the few functions that read bytes of a mapped file: their
 * writers copy with plain stores by design, and no byte is believed before its record's CRC. */
#if defined(__clang__)
#define READS_MAPPED_BYTES __attribute__((noinline, disable_sanitizer_instrumentation))
#else
#define READS_MAPPED_BYTES __attribute__((noinline, no_sanitize("thread")))
#endif

#define SLOT_NONE UINT32_MAX
#define NAME_BYTES (INV_FILE_NAME_MAX + 1)

/* ---- images ---------------------------------------------------------------------------------- */

typedef struct mem_image {
    _Atomic uint32_t reference_count; /* clones in other threads share images */
    _Atomic uint64_t content_hash;    /* 0 = not known; forgotten by who is about to write */
    uint64_t capacity;                /* bytes allocated, whole sectors; constant */
    uint64_t used_bytes;              /* no byte at or above it differs from zero */
    _Alignas(16) uint8_t bytes[];     /* written only while reference_count is 1 */
} mem_image;

static const uint8_t zero_sector[INV_SECTOR_BYTES];

static uint64_t whole_sectors(uint64_t bytes) { return inv_align_u64(bytes, INV_SECTOR_BYTES); }

static mem_image *image_create(uint64_t capacity) {
    if (capacity > SIZE_MAX / 2) return NULL;
    mem_image *image = (mem_image *)calloc(1, sizeof(mem_image) + (size_t)whole_sectors(capacity));
    if (image == NULL) return NULL;
    atomic_store_explicit(&image->reference_count, 1, memory_order_relaxed);
    image->capacity = whole_sectors(capacity);
    return image;
}

static mem_image *image_share(mem_image *image) {
    /* relaxed: whoever shares has a reference already, so the image cannot go away meanwhile */
    if (image != NULL) atomic_fetch_add_explicit(&image->reference_count, 1, memory_order_relaxed);
    return image;
}

static void image_release(mem_image *image) {
    if (image == NULL) return;
    /* release: our accesses come before the end; acquire: the last owner sees those of all */
    if (atomic_fetch_sub_explicit(&image->reference_count, 1, memory_order_acq_rel) == 1)
        free(image);
}

/* acquire: pairs with the release of a former owner, whose reads come before our writes. */
static bool image_is_ours(const mem_image *image) {
    return atomic_load_explicit(&((mem_image *)(uintptr_t)image)->reference_count,
                                memory_order_acquire) == 1;
}

static void image_replace(mem_image **slot, mem_image *image) {
    mem_image *former = *slot;
    *slot = image;
    image_release(former);
}

/* Copies whole 8-byte words with relaxed loads. */
READS_MAPPED_BYTES static void copy_relaxed(uint8_t *target, const uint8_t *source,
                                            uint64_t bytes) {
    const uint64_t *from = (const uint64_t *)(const void *)source;
    for (uint64_t i = 0; i < bytes / 8; i++) {
        uint64_t word = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
        inv_put_u64(target + 8 * i, word);
    }
}

READS_MAPPED_BYTES static bool equal_relaxed(const uint8_t *mapped, const uint8_t *other,
                                             uint64_t bytes) {
    const uint64_t *from = (const uint64_t *)(const void *)mapped;
    for (uint64_t i = 0; i < bytes / 8; i++)
        if (__atomic_load_n(&from[i], __ATOMIC_RELAXED) != inv_load_u64(other + 8 * i))
            return false;
    return true;
}

/* A copy with at least `capacity` bytes; relaxed when the source is mapped. */
static mem_image *image_copy(const mem_image *source, uint64_t capacity, bool relaxed) {
    mem_image *copy = image_create(inv_max_u64(capacity, source->capacity));
    if (copy == NULL) return NULL;
    copy->used_bytes = source->used_bytes;
    if (relaxed) copy_relaxed(copy->bytes, source->bytes, whole_sectors(source->used_bytes));
    else memcpy(copy->bytes, source->bytes, (size_t)source->used_bytes);
    return copy;
}

/* Makes *slot an image that only we own, of at least `capacity` bytes, to be written by us. Every
 * write to an image comes after this. false: no memory. */
static bool image_own(mem_image **slot, uint64_t capacity) {
    if (image_is_ours(*slot) && (*slot)->capacity >= capacity) {
        /* relaxed, like all of it: a hash is only looked at by those who may read the bytes */
        atomic_store_explicit(&(*slot)->content_hash, 0, memory_order_relaxed);
        return true;
    }
    uint64_t grown = capacity;
    /* Files are prepared piece by piece: doubling keeps the copying linear. */
    if (capacity > (*slot)->capacity) grown = inv_max_u64(capacity, 2 * (*slot)->capacity);
    mem_image *copy = image_copy(*slot, grown, false);
    if (copy == NULL) return false;
    image_replace(slot, copy);
    return true;
}

static const uint8_t *image_sector(const mem_image *image, uint64_t sector) {
    uint64_t start = sector * INV_SECTOR_BYTES;
    return start < image->capacity ? image->bytes + start : zero_sector;
}

/* ---- the disk -------------------------------------------------------------------------------- */

typedef struct mem_file {
    uint64_t id;             /* never used twice; 0 = free slot */
    mem_image *image;        /* the volatile one; NULL only in a free slot */
    mem_image *durable;      /* may be the same as image */
    mem_image *lost;         /* volatile bytes when a sync failed, else NULL */
    uint64_t image_bytes;    /* size of the file as seen */
    uint64_t durable_bytes;  /* size as synced */
    uint64_t unsynced_count; /* scratch of inv_memory_cut */
    uint32_t map_count;
    bool exposed;            /* inv_memory_file handed its bytes out */
    char name[NAME_BYTES];   /* the latest one: orders sectors, and for messages */
} mem_file;

typedef struct mem_name {
    char name[NAME_BYTES];
    uint32_t slot;
} mem_name;

typedef struct mem_names { /* sorted by name */
    mem_name *items;
    uint32_t count, max;
} mem_names;

typedef enum mem_change_kind { CHANGE_CREATE, CHANGE_RENAME, CHANGE_REMOVE } mem_change_kind;

typedef struct mem_change {
    mem_change_kind kind;
    uint32_t slot;
    char name[NAME_BYTES];
    char target[NAME_BYTES]; /* of a rename */
} mem_change;

struct inv_memory {
    inv_lock guard;            /* protects all below */
    mem_file *files;
    uint32_t file_count, file_max;
    mem_names names;           /* volatile */
    mem_names durable_names;
    mem_change *journal;       /* durable_names plus these, in order, is names */
    uint32_t journal_count, journal_max;
    uint64_t last_file_id;
    uint64_t capacity;         /* bytes of all files; 0 = no limit */
    bool locked;               /* by a store */
    inv_memory_hook hook;
    void *hook_argument;
    uint64_t call_count;       /* calls the present hook has seen */
};

/* Room for one more item; false: no memory. */
static bool grow_array(void **items, uint32_t count, uint32_t *max, size_t item_bytes) {
    if (count < *max) return true;
    uint32_t grown_max = *max == 0 ? 8 : 2 * *max;
    void *grown = realloc(*items, (size_t)grown_max * item_bytes);
    if (grown == NULL) return false;
    *items = grown;
    *max = grown_max;
    return true;
}

static bool names_grow(mem_names *names) {
    return grow_array((void **)&names->items, names->count, &names->max, sizeof(mem_name));
}

static uint32_t names_find(const mem_names *names, const char *name) {
    for (uint32_t i = 0; i < names->count; i++)
        if (strcmp(names->items[i].name, name) == 0) return i;
    return SLOT_NONE;
}

static void names_put(mem_names *names, const char *name, uint32_t slot) {
    uint32_t found = names_find(names, name);
    if (found != SLOT_NONE) {
        names->items[found].slot = slot;
        return;
    }
    INV_ASSERT(names->count < names->max);
    uint32_t at = names->count++;
    for (; at > 0 && strcmp(names->items[at - 1].name, name) > 0; at--)
        names->items[at] = names->items[at - 1];
    memset(&names->items[at], 0, sizeof names->items[at]);
    memcpy(names->items[at].name, name, strlen(name));
    names->items[at].slot = slot;
}

static void names_take(mem_names *names, const char *name) {
    uint32_t found = names_find(names, name);
    INV_ASSERT(found != SLOT_NONE);
    names->count--;
    memmove(&names->items[found], &names->items[found + 1],
            (names->count - found) * sizeof(mem_name));
}

static bool names_copy(mem_names *target, const mem_names *source) {
    if (target->max < source->count) {
        void *grown = realloc(target->items, source->count * sizeof(mem_name));
        if (grown == NULL) return false;
        target->items = (mem_name *)grown;
        target->max = source->count;
    }
    if (source->count > 0)
        memcpy(target->items, source->items, source->count * sizeof(mem_name));
    target->count = source->count;
    return true;
}

/* Applies one name change; the list has room for one more. */
static void names_apply(mem_names *names, const mem_change *change) {
    switch (change->kind) {
    case CHANGE_CREATE: names_put(names, change->name, change->slot); break;
    case CHANGE_REMOVE: names_take(names, change->name); break;
    case CHANGE_RENAME:
        names_take(names, change->name);
        names_put(names, change->target, change->slot);
        break;
    }
}

static mem_file *find_file(inv_memory *memory, const char *name) {
    uint32_t found = names_find(&memory->names, name);
    return found == SLOT_NONE ? NULL : &memory->files[memory->names.items[found].slot];
}

static mem_file *find_file_by_id(inv_memory *memory, uint64_t id) {
    for (uint32_t i = 0; i < memory->file_count; i++)
        if (memory->files[i].id == id) return &memory->files[i];
    return NULL;
}

static void file_free(mem_file *file) {
    image_release(file->image);
    image_release(file->durable);
    image_release(file->lost);
    memset(file, 0, sizeof *file);
}

/* Whether some crash state contains the file: its name is durable, or its creation is under way. */
static bool file_can_survive(const inv_memory *memory, uint32_t slot) {
    for (uint32_t i = 0; i < memory->durable_names.count; i++)
        if (memory->durable_names.items[i].slot == slot) return true;
    for (uint32_t i = 0; i < memory->journal_count; i++)
        if (memory->journal[i].kind == CHANGE_CREATE && memory->journal[i].slot == slot)
            return true;
    return false;
}

/* Frees files no name can lead to any more. */
static void collect_files(inv_memory *memory) {
    for (uint32_t i = 0; i < memory->file_count; i++) {
        mem_file *file = &memory->files[i];
        if (file->id != 0 && file->map_count == 0 && !file_can_survive(memory, i)) file_free(file);
    }
    while (memory->file_count > 0 && memory->files[memory->file_count - 1].id == 0)
        memory->file_count--;
}

static uint64_t used_bytes(const inv_memory *memory) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < memory->names.count; i++)
        sum += memory->files[memory->names.items[i].slot].image_bytes;
    return sum;
}

/* May the file grow to `bytes`? */
static bool has_room(const inv_memory *memory, uint64_t present_bytes, uint64_t bytes) {
    if (memory->capacity == 0 || bytes <= present_bytes) return true;
    uint64_t used = used_bytes(memory);
    return used <= memory->capacity && bytes - present_bytes <= memory->capacity - used;
}

/* A new, empty file with an unsynced name. NULL: no memory. */
static mem_file *create_file(inv_memory *memory, const char *name) {
    uint32_t slot = 0;
    while (slot < memory->file_count && memory->files[slot].id != 0) slot++;
    if (!grow_array((void **)&memory->files, slot, &memory->file_max, sizeof(mem_file)) ||
        !grow_array((void **)&memory->journal, memory->journal_count, &memory->journal_max,
                    sizeof(mem_change)) ||
        !names_grow(&memory->names))
        return NULL;
    mem_image *empty = image_create(0);
    if (empty == NULL) return NULL;
    if (slot == memory->file_count) memory->file_count++;
    mem_file *file = &memory->files[slot];
    *file = (mem_file){.id = ++memory->last_file_id, .image = empty, .durable = image_share(empty)};
    memcpy(file->name, name, strlen(name));
    mem_change change = {.kind = CHANGE_CREATE, .slot = slot};
    memcpy(change.name, name, strlen(name));
    memory->journal[memory->journal_count++] = change;
    names_apply(&memory->names, &change);
    return file;
}

/* ---- sectors of a file ----------------------------------------------------------------------- */

/* How far a file of `bytes` bytes reaches into a sector. */
static uint32_t present_bytes(uint64_t bytes, uint64_t sector) {
    uint64_t start = sector * INV_SECTOR_BYTES;
    return bytes <= start ? 0 : (uint32_t)inv_min_u64(bytes - start, INV_SECTOR_BYTES);
}

static uint64_t file_sector_count(const mem_file *file) {
    return whole_sectors(inv_max_u64(file->image_bytes, file->durable_bytes)) / INV_SECTOR_BYTES;
}

static bool sector_equals(const mem_file *file, const mem_image *other, uint64_t sector) {
    uint64_t used = inv_max_u64(file->image->used_bytes, other->used_bytes);
    if (sector * INV_SECTOR_BYTES >= used) return true;
    const uint8_t *ours = image_sector(file->image, sector);
    const uint8_t *theirs = image_sector(other, sector);
    return file->map_count > 0 ? equal_relaxed(ours, theirs, INV_SECTOR_BYTES)
                               : memcmp(ours, theirs, INV_SECTOR_BYTES) == 0;
}

static bool sector_differs(const mem_file *file, uint64_t sector) {
    return present_bytes(file->image_bytes, sector) != present_bytes(file->durable_bytes, sector) ||
           !sector_equals(file, file->durable, sector);
}

static uint64_t count_unsynced(const mem_file *file) {
    if (file->image == file->durable && file->image_bytes == file->durable_bytes) return 0;
    uint64_t count = 0;
    for (uint64_t i = 0; i < file_sector_count(file); i++) count += sector_differs(file, i);
    return count;
}

/* Is anybody able to change the volatile bytes without our knowing? */
static bool is_pinned(const mem_file *file) { return file->map_count > 0 || file->exposed; }

/* Gives the file `bytes` bytes and an image only it owns, so that it may be written. */
static inv_result file_open_for_write(inv_memory *memory, mem_file *file, uint64_t bytes) {
    if (!has_room(memory, file->image_bytes, bytes)) return INV_DISK_FULL;
    /* A mapped image cannot move: the engine never grows a segment it has mapped. */
    INV_ASSERT(file->map_count == 0 || bytes <= file->image->capacity);
    if (!image_own(&file->image, bytes)) return INV_NO_MEMORY;
    file->image_bytes = inv_max_u64(file->image_bytes, bytes);
    return INV_OK;
}

/* Copies sectors [first, end) of the volatile image to the durable one, but for lost ones. */
static bool sync_sectors(mem_file *file, uint64_t first, uint64_t end) {
    if (!image_own(&file->durable, file->image_bytes)) return false;
    uint64_t used_end = whole_sectors(file->image->used_bytes) / INV_SECTOR_BYTES;
    for (uint64_t i = first; i < end; i++) {
        if (file->lost != NULL && sector_equals(file, file->lost, i)) continue;
        uint64_t start = i * INV_SECTOR_BYTES;
        if (start >= file->durable->capacity) break; /* beyond the file as it is now */
        if (i < used_end) copy_relaxed(file->durable->bytes + start, file->image->bytes + start,
                                       INV_SECTOR_BYTES);
        else memset(file->durable->bytes + start, 0, INV_SECTOR_BYTES);
    }
    uint64_t reached = inv_min_u64(end * INV_SECTOR_BYTES, file->image->used_bytes);
    file->durable->used_bytes = inv_max_u64(file->durable->used_bytes, reached);
    file->durable_bytes = file->image_bytes;
    return true;
}

/* fdatasync. Makes at least [offset, offset + bytes) durable, and the size. false: no memory. */
static bool sync_file(mem_file *file, uint64_t offset, uint64_t bytes) {
    if (!is_pinned(file) && file->lost == NULL) {
        image_replace(&file->durable, image_share(file->image));
        file->durable_bytes = file->image_bytes;
        return true;
    }
    /* The size is synced with the data, so sectors cut off by a truncation are synced too. */
    uint64_t end = file->image_bytes < file->durable_bytes ? file->durable_bytes : offset + bytes;
    return sync_sectors(file, offset / INV_SECTOR_BYTES, whole_sectors(end) / INV_SECTOR_BYTES);
}

/* The kernel has told us once that it lost the bytes, and from now on calls them clean. */
static void lose_unsynced(mem_file *file) {
    mem_image *copy = image_copy(file->image, 0, file->map_count > 0);
    INV_ASSERT(copy != NULL); /* only fault campaigns come here; half a fault would mislead them */
    image_replace(&file->lost, copy);
}

/* A reader who bypasses the page cache: lost sectors show what is on the device. */
static bool drop_lost(mem_file *file) {
    if (file->lost == NULL || is_pinned(file)) return true;
    if (!image_own(&file->image, file->image_bytes)) return false;
    for (uint64_t i = 0; i < whole_sectors(file->image_bytes) / INV_SECTOR_BYTES; i++) {
        if (!sector_equals(file, file->lost, i)) continue;
        uint32_t present = present_bytes(file->image_bytes, i);
        memcpy(file->image->bytes + i * INV_SECTOR_BYTES, image_sector(file->durable, i), present);
    }
    file->image->used_bytes = file->image_bytes;
    image_replace(&file->lost, NULL);
    return true;
}

/* ---- calls ----------------------------------------------------------------------------------- */

typedef struct mem_call {
    inv_memory_hook hook; /* the one in force when the call began, NULL if none */
    void *argument;
    uint64_t number;
    const char *what;
    char name[NAME_BYTES];
} mem_call;

static inv_result fail_call(inv_error *error, inv_result code, int os_errno, const char *doing,
                            const char *name) {
    return inv_fail(error, code, os_errno, "cannot %s '%s' in memory storage (errno %d)", doing,
                    name, os_errno);
}

static inv_result fail_code(inv_error *error, inv_result code, const char *doing,
                            const char *name) {
    int os_errno = code == INV_DISK_FULL ? ENOSPC : code == INV_NO_MEMORY ? ENOMEM : EIO;
    return code == INV_OK ? INV_OK : fail_call(error, code, os_errno, doing, name);
}

/* Takes a number and asks the hook. Unless INV_OK, the call must do nothing and not end. */
static inv_result call_begin(inv_memory *memory, mem_call *call, const char *what,
                             const char *name, inv_error *error) {
    memset(call, 0, sizeof *call);
    inv_lock_take(&memory->guard);
    call->hook = memory->hook;
    call->argument = memory->hook_argument;
    if (call->hook != NULL) call->number = ++memory->call_count;
    inv_lock_give(&memory->guard);
    if (call->hook == NULL) return INV_OK;
    call->what = what;
    memcpy(call->name, name, strlen(name));
    return fail_code(error, call->hook(call->argument, call->number, what, call->name, false), what,
                     call->name);
}

static void call_end(const mem_call *call) {
    if (call->hook != NULL)
        (void)call->hook(call->argument, call->number, call->what, call->name, true);
}

static inv_result mem_lock(void *context, inv_error *error) {
    inv_memory *memory = (inv_memory *)context;
    inv_lock_take(&memory->guard);
    bool refused = memory->locked;
    memory->locked = true;
    inv_lock_give(&memory->guard);
    if (!refused) return INV_OK;
    return inv_fail(error, INV_STORE_LOCKED, EWOULDBLOCK, "memory storage is in use by another "
                                                          "store");
}

static void mem_unlock(void *context) {
    inv_memory *memory = (inv_memory *)context;
    inv_lock_take(&memory->guard);
    memory->locked = false;
    inv_lock_give(&memory->guard);
}

static inv_result mem_list(void *context,
                           bool (*visit)(void *argument, const char *name, uint64_t size),
                           void *argument, inv_error *error) {
    inv_memory *memory = (inv_memory *)context;
    mem_names seen = {NULL, 0, 0};
    uint64_t *sizes = NULL;
    inv_lock_take(&memory->guard);
    bool copied = names_copy(&seen, &memory->names);
    sizes = copied ? (uint64_t *)calloc((size_t)seen.count + 1, sizeof *sizes) : NULL;
    for (uint32_t i = 0; sizes != NULL && i < seen.count; i++)
        sizes[i] = memory->files[seen.items[i].slot].image_bytes;
    inv_lock_give(&memory->guard);
    for (uint32_t i = 0; sizes != NULL && i < seen.count; i++)
        if (!visit(argument, seen.items[i].name, sizes[i])) break;
    free(seen.items);
    if (sizes == NULL) return fail_call(error, INV_NO_MEMORY, ENOMEM, "list", ".");
    free(sizes);
    return INV_OK;
}

/* The second step of prepare and of a synced write, and all of sync. */
static inv_result sync_by_id(inv_memory *memory, uint64_t id, const char *what, const char *name,
                             uint64_t offset, uint64_t bytes, inv_error *error) {
    mem_call call;
    inv_result result = call_begin(memory, &call, what, name, error);
    inv_lock_take(&memory->guard);
    mem_file *file = find_file_by_id(memory, id);
    if (result != INV_OK) {
        if (file != NULL) lose_unsynced(file);
        inv_lock_give(&memory->guard);
        return result;
    }
    if (file == NULL) result = fail_call(error, INV_IO_ERROR, EBADF, what, name);
    else if (!sync_file(file, offset, bytes))
        result = fail_call(error, INV_IO_ERROR, ENOMEM, what, name);
    inv_lock_give(&memory->guard);
    call_end(&call);
    return result;
}

/* Finds the file to write `bytes` bytes at `offset` of, or creates it. */
static inv_result file_to_write(inv_memory *memory, const char *name, uint64_t offset,
                                uint64_t bytes, bool create, bool truncate, mem_file **out_file) {
    mem_file *file = find_file(memory, name);
    if (file == NULL && !create) return INV_IO_ERROR;
    uint64_t present = file == NULL ? 0 : file->image_bytes;
    if (bytes > UINT64_MAX / 4 || offset > UINT64_MAX / 4) return INV_DISK_FULL;
    /* Before creating: a call that fails leaves nothing behind. */
    if (!has_room(memory, present, offset + bytes)) return INV_DISK_FULL;
    if (file == NULL) file = create_file(memory, name);
    if (file == NULL) return INV_NO_MEMORY;
    if (truncate) {
        INV_ASSERT(!is_pinned(file));
        mem_image *empty = image_create(bytes);
        if (empty == NULL) return INV_NO_MEMORY;
        image_replace(&file->image, empty);
        file->image_bytes = 0;
    }
    inv_result result = file_open_for_write(memory, file, offset + bytes);
    if (result == INV_OK) *out_file = file;
    return result;
}

static inv_result fail_write(inv_error *error, inv_result code, const char *doing,
                             const char *name) {
    return code == INV_IO_ERROR ? fail_call(error, code, ENOENT, doing, name)
                                : fail_code(error, code, doing, name);
}

static inv_result mem_prepare(void *context, const char *name, uint64_t offset, uint64_t bytes,
                              inv_error *error) {
    inv_memory *memory = (inv_memory *)context;
    INV_ASSERT(inv_env_name_is_valid(name));
    mem_call call;
    inv_result result = call_begin(memory, &call, "prepare", name, error);
    if (result != INV_OK) return result;
    inv_lock_take(&memory->guard);
    mem_file *file = NULL;
    uint64_t id = 0;
    result = file_to_write(memory, name, offset, bytes, offset == 0, offset == 0, &file);
    if (result == INV_OK) {
        id = file->id;
        /* Untouched bytes are zero already, so preparing a fresh file costs no memory traffic. */
        if (offset < file->image->used_bytes)
            memset(file->image->bytes + offset, 0,
                   (size_t)inv_min_u64(bytes, file->image->used_bytes - offset));
    }
    inv_lock_give(&memory->guard);
    call_end(&call);
    if (result != INV_OK) return fail_write(error, result, "prepare", name);
    return sync_by_id(memory, id, "prepare-sync", name, offset, bytes, error);
}

static inv_result mem_write(void *context, const char *name, uint64_t offset, const void *bytes,
                            uint64_t size, bool synced, inv_error *error) {
    inv_memory *memory = (inv_memory *)context;
    INV_ASSERT(inv_env_name_is_valid(name));
    mem_call call;
    inv_result result = call_begin(memory, &call, "write", name, error);
    if (result != INV_OK) return result;
    inv_lock_take(&memory->guard);
    mem_file *file = NULL;
    uint64_t id = 0;
    result = file_to_write(memory, name, offset, size, true, false, &file);
    if (result == INV_OK) {
        id = file->id;
        if (size > 0) memcpy(file->image->bytes + offset, bytes, (size_t)size);
        file->image->used_bytes = inv_max_u64(file->image->used_bytes, offset + size);
    }
    inv_lock_give(&memory->guard);
    call_end(&call);
    if (result != INV_OK) return fail_write(error, result, "write", name);
    return synced ? sync_by_id(memory, id, "write-sync", name, offset, size, error) : INV_OK;
}

static inv_result mem_map(void *context, const char *name, bool staged, inv_segment_map *out_map,
                          inv_error *error) {
    (void)staged; /* the durable image changes by sync only, either way */
    inv_memory *memory = (inv_memory *)context;
    INV_ASSERT(inv_env_name_is_valid(name));
    mem_call call;
    inv_result result = call_begin(memory, &call, "map", name, error);
    if (result != INV_OK) return result;
    inv_lock_take(&memory->guard);
    mem_file *file = find_file(memory, name);
    int os_errno = file == NULL ? ENOENT : file->image_bytes == 0 ? EINVAL : 0;
    if (os_errno == 0 && !image_own(&file->image, file->image_bytes)) os_errno = ENOMEM;
    if (os_errno == 0) {
        file->map_count++;
        file->image->used_bytes = file->image_bytes; /* any byte may be written from now on */
        *out_map = (inv_segment_map){file->image->bytes, file->image_bytes,
                                     (void *)(uintptr_t)file->id};
    }
    inv_lock_give(&memory->guard);
    call_end(&call);
    if (os_errno == 0) return INV_OK;
    return fail_call(error, os_errno == ENOMEM ? INV_NO_MEMORY : INV_IO_ERROR, os_errno, "map",
                     name);
}

/* A map that a power cut took away is no longer there to be undone. */
static void mem_unmap(void *context, inv_segment_map *map) {
    inv_memory *memory = (inv_memory *)context;
    inv_lock_take(&memory->guard);
    mem_file *file =
        map->handle == NULL ? NULL : find_file_by_id(memory, (uint64_t)(uintptr_t)map->handle);
    if (file != NULL && file->map_count > 0 && file->image->bytes == map->bytes) {
        file->map_count--;
        collect_files(memory);
    }
    inv_lock_give(&memory->guard);
    *map = (inv_segment_map){NULL, 0, NULL};
}

static inv_result mem_sync(void *context, const inv_segment_map *map, uint64_t offset,
                           uint64_t bytes, inv_error *error) {
    inv_memory *memory = (inv_memory *)context;
    INV_ASSERT(map->handle != NULL);
    INV_ASSERT(offset <= map->size && bytes <= map->size - offset);
    uint64_t id = (uint64_t)(uintptr_t)map->handle;
    char name[NAME_BYTES] = "";
    inv_lock_take(&memory->guard);
    const mem_file *file = find_file_by_id(memory, id);
    if (file != NULL) memcpy(name, file->name, sizeof name);
    inv_lock_give(&memory->guard);
    return sync_by_id(memory, id, "sync", name, offset, bytes, error);
}

static inv_result mem_read(void *context, const char *name, uint64_t offset, void *buffer,
                           uint64_t bytes, uint64_t *out_read, inv_error *error) {
    inv_memory *memory = (inv_memory *)context;
    INV_ASSERT(inv_env_name_is_valid(name));
    inv_lock_take(&memory->guard);
    mem_file *file = find_file(memory, name);
    int os_errno = file == NULL ? ENOENT : drop_lost(file) ? 0 : ENOMEM;
    uint64_t count = 0;
    if (os_errno == 0 && offset < file->image_bytes) {
        count = inv_min_u64(bytes, file->image_bytes - offset);
        memcpy(buffer, file->image->bytes + offset, (size_t)count);
    }
    inv_lock_give(&memory->guard);
    if (os_errno != 0)
        return fail_call(error, os_errno == ENOMEM ? INV_NO_MEMORY : INV_IO_ERROR, os_errno,
                         "read", name);
    *out_read = count;
    return INV_OK;
}

/* Records and applies a name change of an existing file. Returns 0 or an errno. */
static int change_name(inv_memory *memory, mem_change_kind kind, const char *name,
                       const char *target) {
    inv_lock_take(&memory->guard);
    int os_errno = 0;
    uint32_t found = names_find(&memory->names, name);
    if (found == SLOT_NONE) os_errno = ENOENT;
    else if (!grow_array((void **)&memory->journal, memory->journal_count, &memory->journal_max,
                         sizeof(mem_change)))
        os_errno = ENOMEM;
    else if (kind != CHANGE_RENAME || strcmp(name, target) != 0) {
        mem_change change = {.kind = kind, .slot = memory->names.items[found].slot};
        memcpy(change.name, name, strlen(name));
        memcpy(change.target, target, strlen(target));
        memory->journal[memory->journal_count++] = change;
        names_apply(&memory->names, &change);
        if (kind == CHANGE_RENAME)
            memcpy(memory->files[change.slot].name, change.target, sizeof change.target);
    }
    inv_lock_give(&memory->guard);
    return os_errno;
}

static inv_result mem_rename(void *context, const char *source, const char *target,
                             inv_error *error) {
    inv_memory *memory = (inv_memory *)context;
    INV_ASSERT(inv_env_name_is_valid(source));
    INV_ASSERT(inv_env_name_is_valid(target));
    mem_call call;
    inv_result result = call_begin(memory, &call, "rename", source, error);
    if (result != INV_OK) return result;
    int os_errno = change_name(memory, CHANGE_RENAME, source, target);
    call_end(&call);
    return os_errno == 0 ? INV_OK : fail_call(error, INV_IO_ERROR, os_errno, "rename", source);
}

static inv_result mem_remove(void *context, const char *name, inv_error *error) {
    inv_memory *memory = (inv_memory *)context;
    INV_ASSERT(inv_env_name_is_valid(name));
    mem_call call;
    inv_result result = call_begin(memory, &call, "remove", name, error);
    if (result != INV_OK) return result;
    int os_errno = change_name(memory, CHANGE_REMOVE, name, "");
    call_end(&call);
    return os_errno == 0 ? INV_OK : fail_call(error, INV_IO_ERROR, os_errno, "remove", name);
}

/* In both images: what is cut off is nobody's any more. */
static inv_result mem_shrink(void *context, const char *name, uint64_t bytes, inv_error *error) {
    inv_memory *memory = (inv_memory *)context;
    mem_call call;
    inv_result result = call_begin(memory, &call, "shrink", name, error);
    if (result != INV_OK) return result;
    uint64_t size = 0;
    bool shorter = inv_memory_file(memory, name, &size) != NULL && size <= bytes;
    bool done = shorter || inv_memory_truncate(memory, name, bytes);
    call_end(&call);
    return done ? INV_OK : fail_call(error, INV_IO_ERROR, ENOENT, "shrink", name);
}

static inv_result mem_room(void *context, uint64_t *out_bytes, uint64_t *out_files,
                           inv_error *error) {
    inv_memory *memory = (inv_memory *)context;
    (void)error;
    inv_lock_take(&memory->guard);
    uint64_t used = used_bytes(memory);
    *out_bytes = memory->capacity == 0
                     ? UINT64_MAX
                     : memory->capacity - inv_min_u64(memory->capacity, used);
    inv_lock_give(&memory->guard);
    *out_files = UINT64_MAX;
    return INV_OK;
}

static bool settle_names(inv_memory *memory) {
    if (!names_copy(&memory->durable_names, &memory->names)) return false;
    memory->journal_count = 0;
    collect_files(memory);
    return true;
}

static inv_result mem_sync_directory(void *context, inv_error *error) {
    inv_memory *memory = (inv_memory *)context;
    mem_call call;
    inv_result result = call_begin(memory, &call, "sync_directory", "", error);
    if (result != INV_OK) return result;
    inv_lock_take(&memory->guard);
    bool settled = settle_names(memory);
    inv_lock_give(&memory->guard);
    call_end(&call);
    return settled ? INV_OK : fail_call(error, INV_IO_ERROR, ENOMEM, "sync", ".");
}

/* ---- life ------------------------------------------------------------------------------------ */

inv_memory *inv_memory_create(void) { return (inv_memory *)calloc(1, sizeof(inv_memory)); }

void inv_memory_destroy(inv_memory *memory) {
    if (memory == NULL) return;
    for (uint32_t i = 0; i < memory->file_count; i++) file_free(&memory->files[i]);
    free(memory->files);
    free(memory->names.items);
    free(memory->durable_names.items);
    free(memory->journal);
    free(memory);
}

void inv_env_use_memory(inv_env *env, inv_memory *memory) {
    INV_ASSERT(memory != NULL);
    env->storage = (inv_storage){memory,    mem_lock,  mem_unlock, mem_list,   mem_prepare,
                                 mem_map,   mem_unmap, mem_sync,   mem_read,   mem_read,
                                 mem_write, mem_rename, mem_remove, mem_sync_directory, mem_shrink,
                                 mem_room};
}

void inv_memory_set_capacity(inv_memory *memory, uint64_t bytes) {
    inv_lock_take(&memory->guard);
    memory->capacity = bytes;
    inv_lock_give(&memory->guard);
}

/* Counting starts again at 1 with every hook that is set. */
void inv_memory_set_hook(inv_memory *memory, inv_memory_hook hook, void *argument) {
    inv_lock_take(&memory->guard);
    memory->hook = hook;
    memory->hook_argument = argument;
    memory->call_count = 0;
    inv_lock_give(&memory->guard);
}

/* Shares what cannot change, copies what can; a pinned image equal to the durable one is shared in
 * its stead. The copy is neither mapped nor exposed. */
static bool file_clone(mem_file *copy, const mem_file *file) {
    *copy = *file;
    copy->map_count = 0;
    copy->exposed = false;
    copy->durable = image_share(file->durable);
    copy->lost = image_share(file->lost);
    if (is_pinned(file)) {
        copy->image = count_unsynced(file) == 0
                          ? image_share(file->durable)
                          : image_copy(file->image, 0, file->map_count > 0);
    } else {
        copy->image = image_share(file->image);
    }
    return file->id == 0 || copy->image != NULL;
}

static bool clone_files(inv_memory *clone, const inv_memory *memory) {
    clone->files = (mem_file *)calloc((size_t)memory->file_count + 1, sizeof(mem_file));
    if (clone->files == NULL) return false;
    clone->file_count = memory->file_count;
    clone->file_max = memory->file_count + 1;
    for (uint32_t i = 0; i < memory->file_count; i++)
        if (!file_clone(&clone->files[i], &memory->files[i])) return false;
    return true;
}

static bool clone_journal(inv_memory *clone, const inv_memory *memory) {
    if (memory->journal_count == 0) return true;
    size_t bytes = memory->journal_count * sizeof(mem_change);
    clone->journal = (mem_change *)malloc(bytes);
    if (clone->journal == NULL) return false;
    memcpy(clone->journal, memory->journal, bytes);
    clone->journal_count = memory->journal_count;
    clone->journal_max = memory->journal_count;
    return true;
}

/* The clone has no hook, is not locked and keeps the capacity. */
inv_memory *inv_memory_clone(const inv_memory *memory) {
    inv_memory *clone = inv_memory_create();
    if (clone == NULL) return NULL;
    inv_lock *guard = (inv_lock *)(uintptr_t)&memory->guard; /* logically constant */
    inv_lock_take(guard);
    clone->last_file_id = memory->last_file_id;
    clone->capacity = memory->capacity;
    bool complete = clone_files(clone, memory) && clone_journal(clone, memory) &&
                    names_copy(&clone->names, &memory->names) &&
                    names_copy(&clone->durable_names, &memory->durable_names);
    inv_lock_give(guard);
    if (complete) return clone;
    inv_memory_destroy(clone);
    return NULL;
}

/* ---- power cuts ------------------------------------------------------------------------------ */

uint64_t inv_memory_unsynced_sectors(const inv_memory *memory) {
    inv_lock *guard = (inv_lock *)(uintptr_t)&memory->guard;
    uint64_t sum = 0;
    inv_lock_take(guard);
    for (uint32_t i = 0; i < memory->file_count; i++) {
        const mem_file *file = &memory->files[i];
        if (file->id == 0) continue;
        uint64_t count = count_unsynced(file);
        if (count > 0 && file_can_survive(memory, i)) sum += count;
    }
    inv_lock_give(guard);
    return sum;
}

uint64_t inv_memory_unsynced_names(const inv_memory *memory) {
    inv_lock *guard = (inv_lock *)(uintptr_t)&memory->guard;
    inv_lock_take(guard);
    uint64_t count = memory->journal_count;
    inv_lock_give(guard);
    return count;
}

/* The file with unsynced sectors that comes next by (name, id), NULL after the last. */
static mem_file *next_unsynced(inv_memory *memory) {
    mem_file *next = NULL;
    for (uint32_t i = 0; i < memory->file_count; i++) {
        mem_file *file = &memory->files[i];
        if (file->unsynced_count == 0) continue;
        int order = next == NULL ? -1 : strcmp(file->name, next->name);
        if (order < 0 || (order == 0 && file->id < next->id)) next = file;
    }
    return next;
}

static void fill_garbage(uint8_t *target, uint32_t bytes, uint64_t number) {
    for (uint32_t i = 0; i < bytes; i++)
        target[i] = (uint8_t)inv_mix64((number + 1) * 0x9e3779b97f4a7c15ull + i);
}

/* Writes the chosen version of one unsynced sector; returns how far the file reaches into it. */
static uint32_t cut_sector(const mem_file *file, mem_image *result, uint64_t sector, int keep,
                           uint64_t number) {
    uint32_t present = present_bytes(file->image_bytes, sector);
    uint32_t durable_present = present_bytes(file->durable_bytes, sector);
    uint8_t *target = result->bytes + sector * INV_SECTOR_BYTES;
    if (keep == 0) return durable_present;
    if (keep == 1) {
        memcpy(target, image_sector(file->image, sector), INV_SECTOR_BYTES);
        return present;
    }
    if (durable_present > present) present = durable_present;
    fill_garbage(target, present, number);
    return present;
}

/* Decides every unsynced sector of a file. The result starts as the durable image and is copied
 * before the first change. Afterwards both images are the same object. */
static uint64_t cut_file(mem_file *file, int (*keep_sector)(void *argument, uint64_t i),
                         void *argument, uint64_t number) {
    uint64_t sector_count = file_sector_count(file), end = 0;
    mem_image *result = image_share(file->durable);
    for (uint64_t i = 0; i < sector_count; i++) {
        uint32_t present = present_bytes(file->durable_bytes, i);
        if (sector_differs(file, i)) {
            int keep = keep_sector(argument, number);
            /* Half a cut would be a wrong answer of a campaign: no memory ends it here. */
            bool ours = keep == 0 || image_own(&result, sector_count * INV_SECTOR_BYTES);
            INV_ASSERT(ours);
            present = cut_sector(file, result, i, keep, number);
            number++;
        }
        if (present > 0) end = i * INV_SECTOR_BYTES + present;
    }
    if (result != file->durable) result->used_bytes = sector_count * INV_SECTOR_BYTES;
    image_replace(&file->image, image_share(result));
    image_replace(&file->durable, result);
    file->image_bytes = end;
    file->durable_bytes = end;
    return number;
}

/* Makes the durable names those after the first `kept` changes. */
static void cut_names(inv_memory *memory, uint64_t kept) {
    for (uint32_t i = 0; i < memory->journal_count && i < kept; i++) {
        const mem_change *change = &memory->journal[i];
        bool grown = names_grow(&memory->durable_names);
        INV_ASSERT(grown);
        names_apply(&memory->durable_names, change);
    }
    memory->journal_count = 0;
    bool copied = names_copy(&memory->names, &memory->durable_names);
    INV_ASSERT(copied);
    for (uint32_t i = 0; i < memory->names.count; i++) {
        const mem_name *item = &memory->names.items[i];
        memcpy(memory->files[item->slot].name, item->name, sizeof item->name);
    }
}

void inv_memory_cut(inv_memory *memory, int (*keep_sector)(void *argument, uint64_t i),
                    void *argument, uint64_t names_kept) {
    inv_lock_take(&memory->guard);
    for (uint32_t i = 0; i < memory->file_count; i++) {
        mem_file *file = &memory->files[i];
        file->map_count = 0;
        file->exposed = false;
        if (file->id == 0) continue;
        image_replace(&file->lost, NULL);
        file->unsynced_count = count_unsynced(file);
        if (file->unsynced_count > 0 && !file_can_survive(memory, i)) file->unsynced_count = 0;
        if (file->unsynced_count == 0 && file->image != file->durable) {
            image_replace(&file->image, image_share(file->durable));
            file->image_bytes = file->durable_bytes;
        }
    }
    uint64_t number = 0;
    for (mem_file *file = next_unsynced(memory); file != NULL; file = next_unsynced(memory)) {
        number = cut_file(file, keep_sector, argument, number);
        file->unsynced_count = 0;
    }
    cut_names(memory, names_kept);
    collect_files(memory);
    memory->locked = false;
    inv_lock_give(&memory->guard);
}

static int keep_by_seed(void *argument, uint64_t i) {
    uint64_t seed = *(const uint64_t *)argument;
    return seed != 0 && (inv_mix64(seed + (i + 1) * 0x9e3779b97f4a7c15ull) & 1) != 0;
}

void inv_memory_power_cut(inv_memory *memory, uint64_t seed) {
    uint64_t name_count = inv_memory_unsynced_names(memory);
    /* Name changes survive as a prefix, so the seed draws its length and not each one. */
    uint64_t names_kept = seed == 0 ? 0 : inv_mix64(seed) % (name_count + 1);
    inv_memory_cut(memory, keep_by_seed, &seed, names_kept);
}

/* ---- direct access --------------------------------------------------------------------------- */

/* Four independent lanes of multiply and rotate: fast, and good enough to tell states apart that
 * nobody builds to collide. */
static uint64_t hash_bytes(uint64_t hash, const uint8_t *bytes, uint64_t size) {
    uint64_t lanes[4] = {hash, hash + 0x9e3779b97f4a7c15ull, hash ^ 0xc2b2ae3d27d4eb4full, ~hash};
    for (uint64_t i = 0; i + 32 <= size; i += 32) {
        for (uint32_t lane = 0; lane < 4; lane++) {
            uint64_t mixed = (lanes[lane] ^ inv_load_u64(bytes + i + 8 * lane)) *
                             0x9fb21c651e98df25ull;
            lanes[lane] = (mixed << 29) | (mixed >> 35);
        }
    }
    for (uint32_t lane = 0; lane < 4; lane++) hash = inv_mix64(hash ^ lanes[lane]) + lane;
    return hash;
}

/* Hash of an image that is not pinned, kept with it: most images of a crash state are shared with
 * the states before, and hashing those again would cost more than the whole cut. */
static uint64_t hash_image(mem_image *image) {
    uint64_t hash = atomic_load_explicit(&image->content_hash, memory_order_relaxed);
    if (hash != 0) return hash;
    hash = 1;
    for (uint64_t start = 0; start < whole_sectors(image->used_bytes); start += INV_SECTOR_BYTES) {
        /* Zero sectors are left out: used_bytes is only a bound and no part of the state. */
        const uint8_t *sector = image->bytes + start;
        if (memcmp(sector, zero_sector, INV_SECTOR_BYTES) != 0)
            hash = hash_bytes(inv_mix64(hash ^ start), sector, INV_SECTOR_BYTES);
    }
    atomic_store_explicit(&image->content_hash, hash, memory_order_relaxed);
    return hash;
}

uint64_t inv_memory_hash(const inv_memory *memory) {
    inv_lock *guard = (inv_lock *)(uintptr_t)&memory->guard;
    inv_lock_take(guard);
    uint64_t hash = memory->durable_names.count;
    for (uint32_t i = 0; i < memory->durable_names.count; i++) {
        const mem_name *item = &memory->durable_names.items[i];
        uint8_t padded[64] = {0};
        memcpy(padded, item->name, sizeof item->name);
        const mem_file *file = &memory->files[item->slot];
        hash = inv_mix64(hash_bytes(hash, padded, sizeof padded) ^ file->durable_bytes);
        hash = inv_mix64(hash + hash_image(file->durable));
    }
    inv_lock_give(guard);
    return hash;
}

/* The pointer is good until the file is removed, grows, or the power is cut. */
uint8_t *inv_memory_file(inv_memory *memory, const char *name, uint64_t *out_size) {
    inv_lock_take(&memory->guard);
    mem_file *file = find_file(memory, name);
    bool ours = file != NULL && image_own(&file->image, file->image_bytes);
    uint8_t *bytes = NULL;
    if (ours) {
        file->exposed = true;
        file->image->used_bytes = file->image_bytes;
        bytes = file->image->bytes;
        *out_size = file->image_bytes;
    }
    inv_lock_give(&memory->guard);
    return bytes;
}

/* As if everything, names included, had been synced. */
void inv_memory_settle(inv_memory *memory) {
    inv_lock_take(&memory->guard);
    for (uint32_t i = 0; i < memory->file_count; i++) {
        mem_file *file = &memory->files[i];
        if (file->id == 0) continue;
        image_replace(&file->lost, NULL);
        bool synced = count_unsynced(file) == 0 || sync_file(file, 0, file->image_bytes);
        INV_ASSERT(synced);
    }
    bool settled = settle_names(memory);
    INV_ASSERT(settled);
    inv_lock_give(&memory->guard);
}

/* Fails on a mapped file: its image cannot move, and no file system truncates for a crash test. */
bool inv_memory_truncate(inv_memory *memory, const char *name, uint64_t bytes) {
    inv_lock_take(&memory->guard);
    mem_file *file = find_file(memory, name);
    bool done = file != NULL && file->map_count == 0 && image_own(&file->image, bytes) &&
                image_own(&file->durable, bytes);
    mem_image *images[2] = {done ? file->image : NULL, done ? file->durable : NULL};
    for (uint32_t i = 0; done && i < 2; i++) {
        if (images[i]->used_bytes <= bytes) continue;
        memset(images[i]->bytes + bytes, 0, (size_t)(images[i]->used_bytes - bytes));
        images[i]->used_bytes = bytes;
    }
    if (done) {
        file->image_bytes = bytes;
        file->durable_bytes = bytes;
    }
    inv_lock_give(&memory->guard);
    return done;
}
