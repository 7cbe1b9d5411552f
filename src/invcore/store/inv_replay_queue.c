/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_replay_queue.c: windows of entries and who applies them.
 *
 *     windows    | part 0 | part 1 | ... | part 7 |   the opening thread fills one of four
 *     parts      next window of each; whoever has a part's lock applies it, in order
 *
 * The opening thread fills; when no window is free, or all must be done, it applies too. A second
 * thread applies all the time; it is started when the first window is full, so a short log starts
 * none, and ends before the store is open. Without it (the environment has no threads, or none is
 * to be had) the opening thread does all. A thread takes the part that is furthest behind.
 *
 * ORDER. Within a stripe: it is in one part. Within an id: `ids` remembers the part of every id
 * under way; an entry of the same id in another part waits until all is done. Names of all but
 * SKUs, ticks and forgetting happen while nothing is under way. So every entry finds what it would
 * find in log order, and each part's first failure is one that one thread would meet, had it not
 * stopped at an earlier one: the earliest of them is where it would stop.
 */
#include "inv_replay.h"

#define ID_SETS 4096u /* of 8 words; at most 4,096 ids are under way: hardly ever full */
#define ID_WAYS 8u
#define WINDOW_FIRST (1u << 20) /* a zero word is of no window under way */
#define WINDOW_MASK ((1u << 21) - 1)
#define CART_BITS (1u << 24) /* large enough for a mapping: untouched pages cost nothing */
#define HELPED_ENTRIES 256u /* a smaller window is not worth waking the second thread */
#define SLEEP_MS 50u

_Static_assert(INV_REPLAY_WINDOWS * INV_REPLAY_PARTS * INV_REPLAY_PART_ENTRIES <= ID_SETS,
               "one id to a set, on the average");

typedef struct part_entries {
    uint32_t count, pad;
    inv_replay_entry at[INV_REPLAY_PART_ENTRIES];
} part_entries;

typedef struct window { /* written by the opening thread until it is published */
    uint32_t text_bytes, entry_count;
    part_entries parts[INV_REPLAY_PARTS];
    char texts[INV_REPLAY_TEXT_BYTES];
} window;

typedef struct part {
    _Alignas(INV_CACHE_LINE) inv_lock lock;
    _Atomic uint32_t next;      /* window to apply; written under lock */
    inv_replay_failure failure; /* the first; under lock, read when all is done */
} part;

struct inv_replay_queue {
    inv_store *store;
    uint32_t part_entries_max;
    uint32_t oldest;          /* window that may still be under way, as last seen */
    void *thread;             /* the second one; NULL: none */
    bool thread_tried;
    _Atomic bool stop;
    _Atomic bool failed;      /* some part has a failure */
    _Atomic bool waiting;     /* the opening thread sleeps on `done` */
    _Alignas(INV_CACHE_LINE) _Atomic uint32_t filled; /* windows below are published */
    _Atomic uint32_t signal; /* futex of the second thread: something was published, or stop */
    _Alignas(INV_CACHE_LINE) _Atomic uint32_t done; /* futex of the opening thread */
    part parts[INV_REPLAY_PARTS];
    uint64_t carts[CART_BITS / 64];
    uint64_t ids[ID_SETS][ID_WAYS]; /* upper 40 bits of the hash, part (3), window (21) */
    window windows[INV_REPLAY_WINDOWS];
};

static window *window_at(inv_replay_queue *queue, uint32_t number) {
    return &queue->windows[number % INV_REPLAY_WINDOWS];
}
static uint32_t filled_of(const inv_replay_queue *queue) {
    /* acquire: pairs with publish; what is in the windows below is seen */
    return atomic_load_explicit(&((inv_replay_queue *)queue)->filled, memory_order_acquire);
}
static uint32_t next_of(const part *p) {
    /* acquire: what was applied is seen */
    return atomic_load_explicit(&((part *)p)->next, memory_order_acquire);
}

/* ---- applying: either thread ----------------------------------------------------------------- */

static void run_window(inv_replay_queue *queue, part *p, uint32_t index, uint32_t number) {
    window *w = window_at(queue, number);
    part_entries *entries = &w->parts[index];
    uint32_t failed = 0;
    if (entries->count == 0 || p->failure.result != INV_OK) return;
    inv_result result = inv_replay_apply_part(queue->store, entries->at, entries->count, w->texts,
                                              &failed);
    if (result == INV_OK) return;
    p->failure =
        (inv_replay_failure){result, entries->at[failed].kind, entries->at[failed].place};
    atomic_store_explicit(&queue->failed, true, memory_order_relaxed);
}

/* Published windows that a part has not applied. Its next window is read first: read the other way
 * round, both may have moved on in between, and it would seem to be ahead of what is published. */
static uint32_t behind_of(const inv_replay_queue *queue, const part *p) {
    uint32_t next = next_of(p);
    return filled_of(queue) - next;
}

/* Applies one window of the part that is furthest behind. False: nothing is free to be done. */
static bool run_part(inv_replay_queue *queue) {
    uint32_t best = INV_REPLAY_PARTS, best_behind = 0;
    for (uint32_t i = 0; i < INV_REPLAY_PARTS; i++) {
        uint32_t behind = behind_of(queue, &queue->parts[i]);
        if (behind <= best_behind || inv_lock_is_held(&queue->parts[i].lock)) continue;
        best = i;
        best_behind = behind;
    }
    if (best == INV_REPLAY_PARTS) return false;
    part *p = &queue->parts[best];
    if (!inv_lock_try(&p->lock)) return true; /* the other was quicker: look again */
    uint32_t next = next_of(p), behind = behind_of(queue, p);
    INV_ASSERT(behind <= INV_REPLAY_WINDOWS);
    if (behind > 0) {
        run_window(queue, p, best, next);
        /* release: pairs with next_of */
        atomic_store_explicit(&p->next, next + 1, memory_order_release);
    }
    inv_lock_give(&p->lock);
    return true;
}

static void run_second_thread(void *argument) {
    inv_replay_queue *queue = argument;
    while (!atomic_load_explicit(&queue->stop, memory_order_acquire)) {
        uint32_t seen = atomic_load_explicit(&queue->signal, memory_order_acquire);
        if (!run_part(queue)) {
            inv_futex_wait(&queue->signal, seen, SLEEP_MS);
            continue;
        }
        atomic_fetch_add_explicit(&queue->done, 1, memory_order_seq_cst);
        /* seq_cst: either this sees the other waiting, or its futex sees `done` moved */
        if (atomic_load_explicit(&queue->waiting, memory_order_seq_cst))
            inv_futex_wake_all(&queue->done);
    }
}

/* ---- filling: the opening thread ------------------------------------------------------------- */

static uint32_t look_for_oldest(inv_replay_queue *queue) {
    uint32_t behind = 0;
    for (uint32_t i = 0; i < INV_REPLAY_PARTS; i++) {
        uint32_t own = behind_of(queue, &queue->parts[i]);
        if (own > behind) behind = own;
    }
    queue->oldest = filled_of(queue) - behind; /* nobody else publishes */
    return behind;
}

/* Applies until at most `behind_max` published windows are under way. */
static void work_until(inv_replay_queue *queue, uint32_t behind_max) {
    while (look_for_oldest(queue) > behind_max) {
        if (run_part(queue)) continue;
        /* What is left is in the other thread's hands. */
        uint32_t seen = atomic_load_explicit(&queue->done, memory_order_seq_cst);
        atomic_store_explicit(&queue->waiting, true, memory_order_seq_cst);
        if (look_for_oldest(queue) > behind_max) inv_futex_wait(&queue->done, seen, 1);
        atomic_store_explicit(&queue->waiting, false, memory_order_seq_cst);
    }
}

static void start_thread(inv_replay_queue *queue) {
    const inv_threads *threads = &queue->store->env->threads;
    if (queue->thread_tried || threads->start == NULL) return;
    queue->thread_tried = true;
    queue->thread = threads->start(threads->context, run_second_thread, queue);
}

/* Hands the window over and begins the next one. */
static void publish(inv_replay_queue *queue, bool full) {
    uint32_t filled = filled_of(queue);
    uint32_t entry_count = window_at(queue, filled)->entry_count;
    if (entry_count == 0) return;
    if (full) start_thread(queue);
    /* release: pairs with filled_of in the other thread */
    atomic_store_explicit(&queue->filled, filled + 1, memory_order_release);
    if (queue->thread != NULL && (full || entry_count >= HELPED_ENTRIES)) {
        atomic_fetch_add_explicit(&queue->signal, 1, memory_order_release);
        inv_futex_wake_all(&queue->signal);
    }
    work_until(queue, queue->thread == NULL ? 0 : INV_REPLAY_WINDOWS - 1);
    window *w = window_at(queue, filled + 1);
    w->text_bytes = w->entry_count = 0;
    for (uint32_t i = 0; i < INV_REPLAY_PARTS; i++) w->parts[i].count = 0;
}

static void finish_all(inv_replay_queue *queue) {
    publish(queue, false);
    work_until(queue, 0);
}

/* Notes the part of an id under way. False: it is under way in another one, or there is no room. */
static bool note_id(inv_replay_queue *queue, uint64_t hash, uint32_t part_index) {
    uint64_t *set = queue->ids[hash % ID_SETS];
    uint32_t filled = filled_of(queue), under_way = filled - queue->oldest, free_way = ID_WAYS;
    uint64_t upper = hash >> 24;
    uint64_t word = upper << 24 | (uint64_t)part_index << 21 | (filled & WINDOW_MASK);
    for (uint32_t i = 0; i < ID_WAYS; i++) {
        if (((filled - (uint32_t)set[i]) & WINDOW_MASK) > under_way) {
            free_way = i;
        } else if (set[i] >> 24 == upper) {
            if ((set[i] >> 21 & (INV_REPLAY_PARTS - 1)) != part_index) return false;
            set[i] = word;
            return true;
        }
    }
    if (free_way == ID_WAYS) return false;
    set[free_way] = word;
    return true;
}

void inv_replay_queue_put(inv_replay_queue *queue, const inv_effect *effect, uint64_t hash,
                          const inv_replay_place *place) {
    bool name = effect->kind == INV_ENTRY_NAME;
    inv_text text = name ? effect->blob : effect->id.text;
    uint32_t text_length = text.bytes == NULL ? 0 : text.length;
    uint32_t index = place->stripe % INV_REPLAY_PARTS;
    window *w = window_at(queue, filled_of(queue));
    if (w->parts[index].count == queue->part_entries_max ||
        w->text_bytes + text_length > INV_REPLAY_TEXT_BYTES)
        publish(queue, true);
    if (effect->id.present && !note_id(queue, hash, index)) {
        finish_all(queue);
        bool noted = note_id(queue, hash, index);
        INV_ASSERT(noted); /* nothing is under way */
    }
    w = window_at(queue, filled_of(queue));
    inv_replay_entry *entry = &w->parts[index].at[w->parts[index].count++];
    /* The other thread had these lines last. Beyond the last entry are more of the queue. */
    INV_PREFETCH((const char *)entry + 4 * sizeof *entry);
    INV_PREFETCH((const char *)entry + 4 * sizeof *entry + INV_CACHE_LINE);
    w->entry_count++;
    *entry = (inv_replay_entry){.place = *place,
                                .hash = hash,
                                .account = effect->account,
                                .body_hash = effect->body_hash,
                                .deadline_ms = effect->deadline_ms,
                                .text_at = w->text_bytes,
                                .text_length = (uint16_t)text_length,
                                .seller = effect->seller,
                                .kind = effect->kind,
                                .state = effect->state,
                                .whole = effect->whole,
                                .has_id = effect->id.present};
    if (!name) entry->line = effect->lines[0];
    memcpy(entry->uuid, effect->id.uuid, 16);
    if (text_length > 0) memcpy(w->texts + w->text_bytes, text.bytes, text_length);
    w->text_bytes += text_length;
}

inv_replay_failure inv_replay_queue_drain(inv_replay_queue *queue) {
    inv_replay_failure first = {.result = INV_OK};
    finish_all(queue);
    if (!inv_replay_queue_has_failed(queue)) return first;
    for (uint32_t i = 0; i < INV_REPLAY_PARTS; i++) {
        const inv_replay_failure *own = &queue->parts[i].failure;
        if (own->result == INV_OK) continue;
        if (first.result == INV_OK || own->place.lsn < first.place.lsn) first = *own;
    }
    return first;
}

bool inv_replay_queue_has_failed(const inv_replay_queue *queue) {
    return atomic_load_explicit(&((inv_replay_queue *)queue)->failed, memory_order_relaxed);
}

/* ---- carts ----------------------------------------------------------------------------------- */

void inv_replay_queue_note_cart(inv_replay_queue *queue, uint64_t hash) {
    queue->carts[hash % CART_BITS / 64] |= 1ull << (hash % 64);
}

bool inv_replay_queue_may_be_cart(const inv_replay_queue *queue, uint64_t hash) {
    return (queue->carts[hash % CART_BITS / 64] >> (hash % 64) & 1) != 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

inv_replay_queue *inv_replay_queue_create(inv_store *store) {
    inv_replay_queue *queue = inv_env_alloc(store->env, sizeof *queue);
    if (queue == NULL) return NULL;
    uint32_t wanted = store->env->replay_part_entries;
    queue->store = store;
    queue->part_entries_max =
        wanted == 0 || wanted > INV_REPLAY_PART_ENTRIES ? INV_REPLAY_PART_ENTRIES : wanted;
    queue->oldest = WINDOW_FIRST;
    atomic_store_explicit(&queue->filled, WINDOW_FIRST, memory_order_relaxed);
    for (uint32_t i = 0; i < INV_REPLAY_PARTS; i++)
        atomic_store_explicit(&queue->parts[i].next, WINDOW_FIRST, memory_order_relaxed);
    return queue;
}

void inv_replay_queue_destroy(inv_replay_queue *queue) {
    if (queue == NULL) return;
    const inv_env *env = queue->store->env;
    if (queue->thread != NULL) {
        atomic_store_explicit(&queue->stop, true, memory_order_release);
        atomic_fetch_add_explicit(&queue->signal, 1, memory_order_release);
        inv_futex_wake_all(&queue->signal);
        env->threads.join(env->threads.context, queue->thread);
    }
    inv_env_free(env, queue, sizeof *queue);
}
