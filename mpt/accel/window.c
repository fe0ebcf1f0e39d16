/* The packets that all streams of a connection hold; in Python a dictionary, a heap and a list of each stream do this.
 *
 * Held packets lie in `slots`, at the most one more than the window, and no more than were ever held at once. A slot is found by its stream and position through a hash table
 * of chains, the lowest position of a stream through a heap, its oldest packet through a list. So each step costs no more
 * than O(log window) for any numbers: the hash has a secret.
 */

#include "window.h"

#include <stdlib.h>

enum { NONE = -1, HEAP_ROOM = 16, FIRST_SLOTS = 16 };

bool window_init(struct window *w, uint32_t size, uint64_t secret, struct sink sink) {
    unsigned bits = 4;
    while ((1u << bits) < size + 1)
        bits++;
    *w = (struct window){.size = size, .shift = 64 - bits, .secret = secret | 1, .sink = sink, .free = NONE};
    w->chains = malloc(sizeof *w->chains << bits);
    if (w->chains == NULL)
        return false;
    memset(w->chains, 0xFF, sizeof *w->chains << bits); /* NONE */
    return true;
}

void window_destroy(struct window *w) {
    free(w->slots);
    free(w->chains);
}

void held_init(struct held *h, uint64_t salt, bool keeps_heap) {
    *h = (struct held){.oldest = NONE, .youngest = NONE, .salt = salt, .keeps_heap = keeps_heap};
}

void held_destroy(struct window *w, struct held *h) {
    for (int32_t i = h->oldest; i != NONE; i = w->slots[i].later)
        w->sink.release(w->sink.context, w->slots[i].packet);
    free(h->heap);
}

static int32_t *chain_of(const struct window *w, const struct held *h, int64_t position) {
    return &w->chains[((uint64_t)position + h->salt) * w->secret >> w->shift];
}

const struct slot *window_find(const struct window *w, const struct held *h, int64_t position) {
    int32_t i = *chain_of(w, h, position);
    while (i != NONE && (w->slots[i].position != position || w->slots[i].owner != h))
        i = w->slots[i].chain;
    return i == NONE ? NULL : &w->slots[i];
}

const struct slot *window_oldest(const struct window *w, const struct held *h) { return &w->slots[h->oldest]; }

/* --- the heap of a stream --- */

static void sink_down(int64_t *heap, uint32_t count, uint32_t i) {
    int64_t moving = heap[i];
    for (uint32_t child; (child = 2 * i + 1) < count; i = child) {
        if (child + 1 < count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= moving)
            break;
        heap[i] = heap[child];
    }
    heap[i] = moving;
}

/* Make room for one more position. */
static bool heap_make_room(const struct window *w, struct held *h) {
    if (h->heap_count < h->heap_room)
        return true;
    if (h->heap_room == 0 || h->count > h->heap_room / 2) {
        uint32_t room = h->heap_room == 0 ? HEAP_ROOM : 2 * h->heap_room;
        int64_t *more = realloc(h->heap, room * sizeof *more);
        if (more == NULL)
            return false;
        h->heap = more;
        h->heap_room = room;
        return true;
    }
    uint32_t kept = 0; /* half of it at least has been delivered: keep the rest */
    for (int32_t i = h->oldest; i != NONE; i = w->slots[i].later)
        h->heap[kept++] = w->slots[i].position;
    h->heap_count = kept;
    for (uint32_t i = kept / 2; i-- > 0;)
        sink_down(h->heap, kept, i);
    return true;
}

static void heap_push(struct held *h, int64_t position) {
    uint32_t i = h->heap_count++;
    for (; i > 0 && h->heap[(i - 1) / 2] > position; i = (i - 1) / 2)
        h->heap[i] = h->heap[(i - 1) / 2];
    h->heap[i] = position;
}

/* Forget all positions. The heap of a stream that held much for once is given back: many streams share the window. */
static void heap_clear(struct held *h) {
    h->heap_count = 0;
    if (h->heap_room <= HEAP_ROOM || h->keeps_heap)
        return;
    free(h->heap);
    h->heap = NULL;
    h->heap_room = 0;
}

const struct slot *window_lowest(const struct window *w, struct held *h) {
    const struct slot *lowest;
    while ((lowest = window_find(w, h, h->heap[0])) == NULL) {
        h->heap[0] = h->heap[--h->heap_count];
        sink_down(h->heap, h->heap_count, 0);
    }
    return lowest;
}

/* --- in and out --- */

/* Return a free slot; NONE: no memory. */
static int32_t take_free(struct window *w) {
    int32_t i = w->free;
    if (i != NONE) {
        w->free = w->slots[i].chain;
        return i;
    }
    if (w->used == w->room) {
        uint32_t room = w->room == 0 ? FIRST_SLOTS : 2 * w->room;
        struct slot *more = realloc(w->slots, room * sizeof *more);
        if (more == NULL)
            return NONE;
        w->slots = more;
        w->room = room;
    }
    return (int32_t)w->used++;
}

struct slot *window_hold(struct window *w, struct held *h, int64_t position, struct packet packet) {
    int32_t i = heap_make_room(w, h) ? take_free(w) : NONE, *chain = chain_of(w, h, position);
    if (i == NONE)
        return NULL;
    struct slot *slot = &w->slots[i];
    slot->owner = h;
    slot->position = position;
    slot->packet = packet;
    slot->chain = *chain;
    slot->earlier = h->youngest;
    slot->later = NONE;
    *chain = i;
    if (h->youngest == NONE)
        h->oldest = i;
    else
        w->slots[h->youngest].later = i;
    h->youngest = i;
    h->count++;
    w->count++;
    h->pooled += packet.buffer != NULL;
    heap_push(h, position);
    return slot;
}

/* Take the packet of a slot out. */
static struct packet take(struct window *w, struct held *h, int32_t *link) {
    int32_t i = *link;
    struct slot *slot = &w->slots[i];
    *link = slot->chain;
    if (slot->earlier == NONE)
        h->oldest = slot->later;
    else
        w->slots[slot->earlier].later = slot->later;
    if (slot->later == NONE)
        h->youngest = slot->earlier;
    else
        w->slots[slot->later].earlier = slot->earlier;
    slot->chain = w->free;
    w->free = i;
    h->pooled -= slot->packet.buffer != NULL;
    w->count--;
    if (--h->count == 0)
        heap_clear(h);
    return slot->packet;
}

bool window_deliver(struct window *w, struct held *h, int64_t position) {
    int32_t *link = chain_of(w, h, position);
    while (*link != NONE && (w->slots[*link].position != position || w->slots[*link].owner != h))
        link = &w->slots[*link].chain;
    if (*link == NONE)
        return false;
    w->sink.deliver(w->sink.context, take(w, h, link));
    return true;
}

void window_copy_out(struct window *w, struct held *h) {
    for (int32_t i = h->youngest; h->pooled > 0 && i != NONE; i = w->slots[i].earlier)
        if (w->slots[i].packet.buffer != NULL) {
            packet_copy_out(&w->sink, &w->slots[i].packet);
            h->pooled -= w->slots[i].packet.buffer == NULL;
        }
}
