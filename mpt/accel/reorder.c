/* Putting the packets of one connection back in order: the rules, their reasons and their numbers are those of
 * mpt/data/reorder.py, function by function and in the same order; both must do the same with the same arrivals.
 *
 * What is held lies in `slots`, one more than the window. A slot is found by its position through a hash table of chains,
 * the lowest position through a heap, the oldest arrival through a list. So each step costs no more than O(log window),
 * whatever numbers arrive: the hash has a secret of its own.
 */

#include "reorder.h"

#include <stdlib.h>

enum { NONE = -1 };

struct slot {
    int64_t position;
    double time, arrival_time; /* when it was put here, and when it came */
    uint32_t path;
    struct packet packet;
    int32_t chain;            /* the next of its hash chain, or of the free slots */
    int32_t earlier, later;   /* neighbours in the order of arrival */
};
struct progress { uint32_t path; int64_t position; double time; };
struct gap { int64_t first, end; };
struct stray { uint32_t sequence; struct packet packet; uint32_t path; };

struct reorder {
    const struct mpt_tuning *tuning;
    uint32_t window;
    double max_delay;
    struct sink sink;
    struct equalizer *equalizer;
    bool started;
    int64_t expected, newest;
    double last_good, suspended_until;
    uint32_t held;
    struct slot *slots;
    int32_t *chains, free, oldest, youngest;
    uint32_t pooled;          /* of those held: they lie in buffers of the pool */
    unsigned shift;           /* 64 less the bits of the hash */
    uint64_t secret;          /* of the hash, odd: a peer that knew it could make all its numbers fall on one chain */
    int64_t *heap;            /* positions held, and delivered ones that have not left it yet */
    uint32_t heap_count, heap_room;
    struct progress *paths;
    uint32_t path_count;
    struct gap *skipped;      /* a ring of tuning->gaps_remembered */
    uint32_t skipped_count, skipped_next;
    struct stray *strays;     /* at most tuning->strays_kept, oldest first */
    uint32_t stray_count;
    uint64_t late, duplicate, stray;
};

struct reorder *reorder_new(const struct mpt_tuning *tuning, uint32_t window, double max_delay, uint64_t secret,
                            struct sink sink, struct equalizer *equalizer) {
    struct reorder *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    unsigned bits = 4;
    while ((1u << bits) < window + 1)
        bits++;
    r->tuning = tuning;
    r->window = window;
    r->max_delay = max_delay;
    r->sink = sink;
    r->equalizer = equalizer;
    r->newest = -1;
    r->shift = 64 - bits;
    r->secret = secret | 1;
    r->heap_room = 2 * (window + 2);
    r->slots = calloc(window + 1, sizeof *r->slots);
    r->chains = malloc(sizeof *r->chains << bits);
    r->heap = malloc(r->heap_room * sizeof *r->heap);
    r->skipped = calloc(tuning->gaps_remembered, sizeof *r->skipped);
    r->strays = calloc(tuning->strays_kept, sizeof *r->strays);
    if (r->slots == NULL || r->chains == NULL || r->heap == NULL || r->skipped == NULL || r->strays == NULL) {
        reorder_free(r);
        return NULL;
    }
    memset(r->chains, 0xFF, sizeof *r->chains << bits); /* NONE */
    for (uint32_t i = 0; i <= window; i++)
        r->slots[i].chain = i < window ? (int32_t)i + 1 : NONE;
    r->oldest = r->youngest = NONE;
    return r;
}

void reorder_free(struct reorder *r) {
    if (r == NULL)
        return;
    for (int32_t i = r->held ? r->oldest : NONE; i != NONE; i = r->slots[i].later)
        r->sink.release(r->sink.context, r->slots[i].packet);
    for (uint32_t i = 0; i < r->stray_count; i++)
        r->sink.release(r->sink.context, r->strays[i].packet);
    free(r->slots);
    free(r->chains);
    free(r->heap);
    free(r->skipped);
    free(r->strays);
    free(r->paths);
    free(r);
}

/* --- what is held --- */

static int32_t *chain_of(const struct reorder *r, int64_t position) {
    return &r->chains[((uint64_t)position * r->secret) >> r->shift];
}

static int32_t find(const struct reorder *r, int64_t position) {
    int32_t i = *chain_of(r, position);
    while (i != NONE && r->slots[i].position != position)
        i = r->slots[i].chain;
    return i;
}

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

static void heap_push(struct reorder *r, int64_t position) {
    if (r->heap_count == r->heap_room) { /* half of it at least has been delivered: keep the rest */
        uint32_t kept = 0;
        for (int32_t i = r->oldest; i != NONE; i = r->slots[i].later)
            if (r->slots[i].position != position)
                r->heap[kept++] = r->slots[i].position;
        r->heap_count = kept;
        for (uint32_t i = kept / 2; i-- > 0;)
            sink_down(r->heap, kept, i);
    }
    uint32_t i = r->heap_count++;
    for (; i > 0 && r->heap[(i - 1) / 2] > position; i = (i - 1) / 2)
        r->heap[i] = r->heap[(i - 1) / 2];
    r->heap[i] = position;
}

static void hold(
    struct reorder *r, int64_t position, struct packet packet, uint32_t path, double now, double arrival_time
) {
    int32_t i = r->free, *chain = chain_of(r, position);
    struct slot *slot = &r->slots[i];
    r->free = slot->chain;
    *slot = (struct slot){position, now, arrival_time, path, packet, *chain, r->youngest, NONE};
    *chain = i;
    if (r->youngest == NONE)
        r->oldest = i;
    else
        r->slots[r->youngest].later = i;
    r->youngest = i;
    r->held++;
    r->pooled += packet.buffer != NULL;
    heap_push(r, position);
}

/* Deliver `position` if it is held. */
static bool deliver_held(struct reorder *r, int64_t position) {
    int32_t *link = chain_of(r, position), i;
    while ((i = *link) != NONE && r->slots[i].position != position)
        link = &r->slots[i].chain;
    if (i == NONE)
        return false;
    struct slot *slot = &r->slots[i];
    *link = slot->chain;
    if (slot->earlier == NONE)
        r->oldest = slot->later;
    else
        r->slots[slot->earlier].later = slot->later;
    if (slot->later == NONE)
        r->youngest = slot->earlier;
    else
        r->slots[slot->later].earlier = slot->earlier;
    slot->chain = r->free;
    r->free = i;
    r->held--;
    r->pooled -= slot->packet.buffer != NULL;
    r->sink.deliver(r->sink.context, slot->packet);
    return true;
}

/* --- the rules --- */

static int32_t ahead(uint32_t sequence, uint32_t reference) { return (int32_t)(sequence - reference); }

static struct progress *progress_of(struct reorder *r, uint32_t path) {
    for (uint32_t i = 0; i < r->path_count; i++)
        if (r->paths[i].path == path)
            return &r->paths[i];
    return NULL;
}

static bool add_progress(struct reorder *r, uint32_t path, int64_t position, double now) {
    struct progress *more = realloc(r->paths, (r->path_count + 1) * sizeof *more);
    if (more == NULL)
        return false;
    r->paths = more;
    more[r->path_count++] = (struct progress){path, position, now};
    return true;
}

static void start(struct reorder *r, uint32_t sequence, double now) {
    r->started = true;
    r->expected = sequence;
    r->newest = r->expected - 1;
    r->last_good = now;
    for (uint32_t i = 0; i < r->path_count; i++)
        r->paths[i].position = r->newest;
}

static void path_brought(struct reorder *r, uint32_t path, int64_t position, double now) {
    struct progress *progress = progress_of(r, path);
    if (progress == NULL) {
        add_progress(r, path, position, now);
        return;
    }
    progress->time = now;
    if (position > progress->position)
        progress->position = position;
}

static void advance(struct reorder *r, int64_t position) {
    position++;
    while (r->held > 0 && deliver_held(r, position))
        position++;
    r->expected = position;
    if (r->held == 0)
        r->heap_count = 0;
}

static int64_t head(struct reorder *r) {
    while (find(r, r->heap[0]) == NONE) {
        r->heap[0] = r->heap[--r->heap_count];
        sink_down(r->heap, r->heap_count, 0);
    }
    return r->heap[0];
}

static void skip_gap(struct reorder *r) {
    int64_t first = head(r);
    r->skipped[r->skipped_next] = (struct gap){r->expected, first};
    r->skipped_next = (r->skipped_next + 1) % r->tuning->gaps_remembered;
    if (r->skipped_count < r->tuning->gaps_remembered)
        r->skipped_count++;
    deliver_held(r, first);
    advance(r, first);
}

static void skip_passed_gaps(struct reorder *r, double now) {
    if (r->held == 0 || now < r->suspended_until)
        return;
    int64_t passed = -1;
    bool any = false;
    for (uint32_t i = 0; i < r->path_count; i++)
        if ((now - r->paths[i].time < r->tuning->path_memory || r->newest - r->paths[i].position <= r->window)
            && (!any || r->paths[i].position < passed)) {
            passed = r->paths[i].position;
            any = true;
        }
    while (r->held > 0 && r->expected <= passed)
        skip_gap(r);
}

static void drop(struct reorder *r, uint64_t *counter, struct packet packet) {
    ++*counter;
    r->sink.release(r->sink.context, packet);
}

static void arrive_ahead(
    struct reorder *r, struct packet packet, uint32_t path, int64_t position, double now, double arrival_time
) {
    r->last_good = now;
    if (position > r->newest)
        r->newest = position;
    path_brought(r, path, position, now);
    if (position == r->expected) {
        int32_t following = find(r, position + 1);
        if (following != NONE && r->slots[following].path != path)
            equalizer_gap_filled(r->equalizer, path, r->slots[following].path, arrival_time - r->slots[following].arrival_time);
        r->sink.deliver(r->sink.context, packet);
        advance(r, position);
    } else {
        hold(r, position, packet, path, now, arrival_time);
        if (r->held > r->window)
            skip_gap(r);
    }
    skip_passed_gaps(r, now);
}

static void follow(struct reorder *r, struct stray one, struct stray two, double now) {
    if (ahead(two.sequence, one.sequence) < 0) {
        struct stray swapped = one;
        one = two;
        two = swapped;
    }
    reorder_flush(r);
    for (uint32_t i = 0; i < r->stray_count; i++)
        drop(r, &r->stray, r->strays[i].packet);
    r->stray_count = 0;
    r->skipped_count = r->skipped_next = 0;
    r->started = false;
    reorder_arrive(r, one.sequence, one.packet, one.path, now, now);
    reorder_arrive(r, two.sequence, two.packet, two.path, now, now);
}

static void remove_stray(struct reorder *r, uint32_t i) {
    r->stray_count--;
    memmove(&r->strays[i], &r->strays[i + 1], (r->stray_count - i) * sizeof r->strays[0]);
}

static void arrive_stray(struct reorder *r, uint32_t sequence, struct packet packet, uint32_t path, double now) {
    struct stray stray = {sequence, packet, path};
    for (uint32_t i = 0; i < r->stray_count; i++) {
        struct stray known = r->strays[i];
        if (known.sequence == sequence) {
            drop(r, &r->duplicate, packet);
            return;
        }
        if (llabs((long long)ahead(sequence, known.sequence)) <= r->window) {
            remove_stray(r, i);
            follow(r, known, stray, now);
            return;
        }
    }
    if (r->stray_count == r->tuning->strays_kept) {
        drop(r, &r->stray, r->strays[0].packet);
        remove_stray(r, 0);
    }
    r->strays[r->stray_count++] = stray;
}

static void arrive_behind(
    struct reorder *r, uint32_t sequence, struct packet packet, uint32_t path, int64_t position, double now
) {
    if (now - r->last_good > r->max_delay + r->tuning->restart_silence) {
        arrive_stray(r, sequence, packet, path, now);
        return;
    }
    uint32_t i = 0;
    while (i < r->skipped_count && !(r->skipped[i].first <= position && position < r->skipped[i].end))
        i++;
    if (i == r->skipped_count) {
        drop(r, &r->duplicate, packet);
        return;
    }
    equalizer_came_late(r->equalizer, path);
    struct progress *progress = progress_of(r, path);
    if (progress != NULL && position < progress->position)
        r->suspended_until = now + r->tuning->distrust;
    path_brought(r, path, position, now);
    drop(r, &r->late, packet);
}

void reorder_arrive(
    struct reorder *r, uint32_t sequence, struct packet packet, uint32_t path, double now, double arrival_time
) {
    if (!r->started)
        start(r, sequence, now);
    int64_t position = r->expected + ahead(sequence, (uint32_t)r->expected);
    if (position == r->expected && r->held == 0) {
        r->expected = position + 1;
        r->newest = position;
        r->last_good = now;
        path_brought(r, path, position, now);
        r->sink.deliver(r->sink.context, packet);
    } else if (position < r->expected)
        arrive_behind(r, sequence, packet, path, position, now);
    else if (position - r->newest > r->window)
        arrive_stray(r, sequence, packet, path, now);
    else if (find(r, position) != NONE)
        drop(r, &r->duplicate, packet);
    else
        arrive_ahead(r, packet, path, position, now, arrival_time);
}

void reorder_set_max_delay(struct reorder *r, double max_delay) { r->max_delay = max_delay; }

double reorder_next_deadline(const struct reorder *r) {
    return r->held == 0 ? -1 : r->slots[r->oldest].time + r->max_delay;
}

void reorder_deadline(struct reorder *r, double now) {
    while (r->held > 0 && reorder_next_deadline(r) <= now) {
        int64_t overdue = r->slots[r->oldest].position;
        while (find(r, overdue) != NONE)
            skip_gap(r);
    }
}

bool reorder_path_up(struct reorder *r, uint32_t path, double now) {
    return progress_of(r, path) != NULL || add_progress(r, path, r->started ? r->expected - 1 : -1, now);
}

void reorder_path_down(struct reorder *r, uint32_t path) {
    struct progress *progress = progress_of(r, path);
    if (progress != NULL)
        *progress = r->paths[--r->path_count];
    skip_passed_gaps(r, r->last_good);
}

void reorder_flush(struct reorder *r) {
    while (r->held > 0)
        skip_gap(r);
}

void reorder_copy_out(struct reorder *r) {
    for (int32_t i = r->youngest; r->pooled > 0 && i != NONE; i = r->slots[i].earlier)
        if (r->slots[i].packet.buffer != NULL) {
            packet_copy_out(&r->sink, &r->slots[i].packet);
            r->pooled -= r->slots[i].packet.buffer == NULL;
        }
    for (uint32_t i = 0; i < r->stray_count; i++)
        packet_copy_out(&r->sink, &r->strays[i].packet);
}

uint32_t reorder_held(const struct reorder *r) { return r->held + r->stray_count; }

void reorder_drops(const struct reorder *r, uint64_t *dropped) {
    dropped[MPT_LATE] += r->late;
    dropped[MPT_DUPLICATE] += r->duplicate;
    dropped[MPT_STRAY] += r->stray;
}
