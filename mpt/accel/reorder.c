/* Putting the packets of one connection back in order: mpt/data/reorder.py, which has the rules, reasons and numbers,
 * function by function in the same order; both must do the same with the same arrivals.
 *
 * Held packets lie in `slots`, one more than the window. A slot is found by its position through a hash table of chains,
 * the lowest position through a heap, the oldest arrival through a list. So each step costs no more than O(log window)
 * for any numbers: the hash has a secret.
 */

#include "reorder.h"

#include <math.h>
#include <stdlib.h>

#include "candidates.h"
#include "equalize.h"

enum { NONE = -1 };

struct slot {
    int64_t position;
    double time, arrival_time; /* when it was put here, and when it came */
    uint32_t path;
    struct packet packet;
    int32_t chain;            /* the next of its hash chain, or of the free slots */
    int32_t earlier, later;   /* neighbours in the order of arrival */
};
struct progress { /* of one path */
    uint32_t path;
    int64_t position;  /* the furthest */
    double time;       /* of its last packet */
    uint64_t count;    /* of the recent packets */
    double filled_in;  /* seconds for which the gaps that it filled had waited; < 0: not known */
    bool is_minor;
};
struct gap { int64_t first, end; };

struct reorder {
    const struct mpt_tuning *tuning;
    uint32_t window;
    double longest_wait, silence;
    struct sink sink;
    struct equalizer *equalizer;
    struct candidates candidates;
    bool started;
    int64_t expected, newest;
    double last_good, suspended_until;
    uint32_t held;
    struct slot *slots;
    int32_t *chains, free, oldest, youngest;
    uint32_t pooled;          /* held packets that lie in buffers of the pool */
    unsigned shift;           /* 64 less the bits of the hash */
    uint64_t secret;          /* of the hash, odd: a peer that knew it could make all its numbers fall on one chain */
    int64_t *heap;            /* positions held, and delivered ones that have not left it yet */
    uint32_t heap_count, heap_room;
    struct progress *paths;
    uint32_t path_count;
    struct gap *skipped;      /* a ring of tuning->gaps_remembered */
    uint32_t skipped_count, skipped_next;
    uint64_t brought;         /* packets of this stream */
    double learned_at;        /* before this time the parts are not known; < 0: no packet since a path came up */
    uint64_t memory, total, lost; /* `total` of the counts of the paths, `lost` positions given up in the same memory */
    struct order_drops drops;
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
    r->longest_wait = max_delay;
    r->silence = max_delay + tuning->restart_silence;
    r->memory = 8 * (uint64_t)window + 16 * (uint64_t)tuning->review;
    r->sink = sink;
    r->equalizer = equalizer;
    r->newest = -1;
    r->learned_at = -1;
    r->shift = 64 - bits;
    r->secret = secret | 1;
    r->heap_room = 2 * (window + 2);
    r->slots = calloc(window + 1, sizeof *r->slots);
    r->chains = malloc(sizeof *r->chains << bits);
    r->heap = malloc(r->heap_room * sizeof *r->heap);
    r->skipped = calloc(tuning->gaps_remembered, sizeof *r->skipped);
    bool good = candidates_init(&r->candidates, tuning, window, max_delay, sink, &r->drops);
    if (!good || r->slots == NULL || r->chains == NULL || r->heap == NULL || r->skipped == NULL) {
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
    candidates_destroy(&r->candidates);
    free(r->slots);
    free(r->chains);
    free(r->heap);
    free(r->skipped);
    free(r->paths);
    free(r);
}

/* --- held packets --- */

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

static struct progress *progress_of(const struct reorder *r, uint32_t path) {
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
    more[r->path_count++] = (struct progress){path, position, now, 0, -1, false};
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

/* Return how many packets a path must have brought lately to carry a good part. */
static double good_count(const struct reorder *r) {
    return (double)r->total * fmin(r->tuning->good_part, r->tuning->fair_part / r->path_count);
}

/* Let old packets count for less, and tell the equalizer which paths bring little. */
static void review(struct reorder *r) {
    if (r->total > r->memory) {
        r->total = 0;
        for (uint32_t i = 0; i < r->path_count; i++)
            r->total += r->paths[i].count /= 2;
        r->lost /= 2;
    }
    double good = good_count(r);
    bool changed = false;
    for (uint32_t i = 0; i < r->path_count; i++) {
        struct progress *progress = &r->paths[i];
        bool is_minor = (double)progress->count < (progress->is_minor ? good : good / 2);
        if (is_minor == progress->is_minor)
            continue;
        changed = true;
        progress->is_minor = is_minor;
        equalizer_set_minor(r->equalizer, progress->path, is_minor);
    }
    if (changed)
        equalizer_update(r->equalizer);
}

static void path_brought(struct reorder *r, uint32_t path, int64_t position, double now) {
    struct progress *progress = progress_of(r, path);
    if (progress == NULL) {
        if (!add_progress(r, path, position, now))
            return;
        progress = &r->paths[r->path_count - 1];
    }
    progress->time = now;
    progress->count++;
    if (position > progress->position)
        progress->position = position;
    r->total++;
    if (r->learned_at < 0)
        r->learned_at = now + r->longest_wait;
    if (++r->brought % r->tuning->review == 0)
        review(r);
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
    if (r->expected < first) {
        r->skipped[r->skipped_next] = (struct gap){r->expected, first};
        r->skipped_next = (r->skipped_next + 1) % r->tuning->gaps_remembered;
        if (r->skipped_count < r->tuning->gaps_remembered)
            r->skipped_count++;
        r->lost += (uint64_t)(first - r->expected);
    }
    deliver_held(r, first);
    advance(r, first);
}

/* Return how many seconds a gap waits for a path that has not passed it, after the parts are known. */
static double patience_for(const struct reorder *r, const struct progress *progress) {
    const struct mpt_tuning *tuning = r->tuning;
    double count = (double)progress->count, total = (double)r->total;
    if (count >= good_count(r) || r->learned_at < 0)
        return r->longest_wait;
    if (progress->count == 0)
        return 0;
    if (count < total * tuning->poor_part || progress->count < (uint64_t)tuning->many * (r->lost + 1))
        return tuning->short_wait;
    if (progress->filled_in < 0)
        return r->longest_wait;
    return tuning->patience_gain * progress->filled_in + tuning->short_wait;
}

/* Return when the first gap is given up; something must be held. A past time: no path could fill it. */
static double gap_deadline(const struct reorder *r) {
    double seen = r->slots[r->oldest].time, end = seen + r->longest_wait;
    double patience = 0, learned_at = 0;
    if (r->path_count == 0)
        return end;
    for (uint32_t i = 0; i < r->path_count; i++) {
        const struct progress *progress = &r->paths[i];
        if (progress->position < r->expected
            && (r->last_good - progress->time < r->tuning->path_memory || r->newest - progress->position <= r->window)) {
            patience = fmax(patience, patience_for(r, progress));
            learned_at = r->learned_at;
        }
    }
    return fmin(end, fmax(seen + patience, fmax(learned_at, r->suspended_until)));
}

static void give_up_gaps(struct reorder *r, double now) {
    while (r->held > 0 && gap_deadline(r) <= now)
        skip_gap(r);
}

static void drop(struct reorder *r, uint64_t *counter, struct packet packet) {
    ++*counter;
    r->sink.release(r->sink.context, packet);
}

/* Note how long the gap at `position` had waited, and how much later its packet came than its successor. */
static void note_filled(struct reorder *r, uint32_t path, int64_t position, double now, double arrival_time) {
    struct progress *progress = progress_of(r, path);
    if (progress != NULL)
        progress->filled_in = fmax(now - r->slots[r->oldest].time,
                                   r->tuning->patience_decay * fmax(progress->filled_in, 0));
    int32_t following = find(r, position + 1);
    if (following != NONE && r->slots[following].path != path)
        equalizer_gap_filled(r->equalizer, path, r->slots[following].path, arrival_time - r->slots[following].arrival_time);
}

static void arrive_ahead(
    struct reorder *r, struct packet packet, uint32_t path, int64_t position, double now, double arrival_time
) {
    r->last_good = now;
    if (position > r->newest)
        r->newest = position;
    path_brought(r, path, position, now);
    if (position == r->expected) {
        note_filled(r, path, position, now, arrival_time);
        r->sink.deliver(r->sink.context, packet);
        advance(r, position);
    } else {
        hold(r, position, packet, path, now, arrival_time);
        if (r->held > r->window)
            skip_gap(r);
    }
    give_up_gaps(r, now);
}

static bool is_silent(const struct reorder *r, double now) { return now - r->last_good > r->silence; }

/* Take a number that does not fit; `is_loss`: it lies as far ahead as a burst of loss leads. */
static void arrive_stray(struct reorder *r, const struct stray *stray, bool is_loss, double now) {
    struct stray first[2];
    uint32_t count = candidates_arrive(&r->candidates, *stray, is_loss || is_silent(r, now), first);
    if (count == 0)
        return;
    reorder_flush(r);
    r->skipped_count = r->skipped_next = 0;
    r->lost = 0;
    r->started = false;
    for (uint32_t i = 0; i < count; i++)
        reorder_arrive(r, first[i].sequence, first[i].packet, first[i].path, now, first[i].arrival_time);
}

/* Return whether the gap of `position` was given up; for old gaps, whether its path never brought it. */
static bool was_given_up(const struct reorder *r, int64_t position, bool is_next) {
    for (uint32_t i = 0; i < r->skipped_count; i++)
        if (r->skipped[i].first <= position && position < r->skipped[i].end)
            return true;
    return is_next && r->skipped_count == r->tuning->gaps_remembered && position < r->skipped[r->skipped_next].first;
}

static void arrive_behind(struct reorder *r, const struct stray *stray, int64_t position, double now) {
    struct progress *progress = progress_of(r, stray->path);
    bool is_next = progress != NULL && position > progress->position;
    if (is_silent(r, now) || (r->expected - position > (int64_t)r->window + r->tuning->near && !is_next)) {
        arrive_stray(r, stray, false, now);
        return;
    }
    if (!was_given_up(r, position, is_next)) {
        drop(r, &r->drops.duplicate, stray->packet);
        return;
    }
    equalizer_came_late(r->equalizer, stray->path, now);
    if (r->lost > 0)
        r->lost--;
    if (progress != NULL) {
        progress->filled_in = -1;
        if (!is_next)
            r->suspended_until = now + r->tuning->distrust;
    }
    path_brought(r, stray->path, position, now);
    drop(r, &r->drops.late, stray->packet);
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
        return;
    }
    struct stray stray = {sequence, packet, path, arrival_time, r->brought};
    if (position < r->expected)
        arrive_behind(r, &stray, position, now);
    else if (position - r->newest > r->window)
        arrive_stray(r, &stray, position - r->newest <= (int64_t)r->window + r->tuning->near, now);
    else if (find(r, position) != NONE)
        drop(r, &r->drops.duplicate, packet);
    else
        arrive_ahead(r, packet, path, position, now, arrival_time);
}

void reorder_set_longest_wait(struct reorder *r, double longest_wait) { r->longest_wait = longest_wait; }

double reorder_next_deadline(const struct reorder *r) {
    double stray = candidates_next_deadline(&r->candidates), gap = r->held > 0 ? gap_deadline(r) : -1;
    return gap < 0 ? stray : stray < 0 || gap < stray ? gap : stray;
}

void reorder_deadline(struct reorder *r, double now) {
    give_up_gaps(r, now);
    candidates_deadline(&r->candidates, now, r->brought);
}

bool reorder_path_up(struct reorder *r, uint32_t path, double now) {
    if (progress_of(r, path) != NULL)
        return true;
    if (!add_progress(r, path, r->started ? r->expected - 1 : -1, now))
        return false;
    for (uint32_t i = 0; i < r->path_count; i++)
        r->paths[i].count = 1;
    r->total = r->path_count;
    r->lost = 0;
    r->learned_at = -1;
    return true;
}

bool reorder_is_minor(const struct reorder *r, uint32_t path) {
    const struct progress *progress = progress_of(r, path);
    return progress != NULL && progress->is_minor;
}

void reorder_path_down(struct reorder *r, uint32_t path, double now) {
    struct progress *progress = progress_of(r, path);
    if (progress != NULL) {
        r->total -= progress->count;
        *progress = r->paths[--r->path_count];
    }
    give_up_gaps(r, now);
}

void reorder_flush(struct reorder *r) {
    candidates_clear(&r->candidates);
    while (r->held > 0)
        skip_gap(r);
}

void reorder_copy_out(struct reorder *r) {
    for (int32_t i = r->youngest; r->pooled > 0 && i != NONE; i = r->slots[i].earlier)
        if (r->slots[i].packet.buffer != NULL) {
            packet_copy_out(&r->sink, &r->slots[i].packet);
            r->pooled -= r->slots[i].packet.buffer == NULL;
        }
    candidates_copy_out(&r->candidates);
}

uint32_t reorder_held(const struct reorder *r) { return r->held + r->candidates.kept; }

bool reorder_waits(const struct reorder *r) { return r->held > 0; }

void reorder_drops(const struct reorder *r, uint64_t *dropped) {
    dropped[MPT_LATE] += r->drops.late;
    dropped[MPT_DUPLICATE] += r->drops.duplicate;
    dropped[MPT_STRAY] += r->drops.stray;
}
