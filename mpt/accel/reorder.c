/* The reorder window of one connection, its streams by their keys: mpt/data/reorder.py, which has the rules, function by
 * function. */

#include "reorder.h"

#include <stdlib.h>

#include "stream.h"

struct reorder {
    struct shared shared;
    struct candidates candidates;
    bool has_stamps;
    struct stream *only;   /* of packets without a key */
    struct stream **keyed; /* chains, `mask` + 1 of them; NULL: no packet had a key yet */
    uint32_t keyed_count, mask;
    uint64_t secret;
};

struct reorder *reorder_new(const struct mpt_tuning *tuning, uint32_t window, double max_delay, bool has_stamps,
                            uint64_t secret, struct sink sink, struct equalizer *equalizer) {
    struct reorder *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    struct shared *shared = &r->shared;
    r->has_stamps = has_stamps;
    r->secret = secret | 1;
    shared->tuning = tuning;
    shared->equalizer = equalizer;
    shared->sink = sink;
    shared->silence = max_delay + tuning->restart_silence;
    knowledge_init(&shared->known, tuning, window, max_delay, equalizer);
    bool good = window_init(&shared->window, window, secret, sink)
        && candidates_init(&r->candidates, tuning, window, max_delay, sink, &shared->drops)
        && (r->only = stream_new(shared, 0, has_stamps ? NULL : &r->candidates)) != NULL;
    if (!good) {
        reorder_free(r);
        return NULL;
    }
    return r;
}

void reorder_free(struct reorder *r) {
    if (r == NULL)
        return;
    while (r->shared.oldest != NULL)
        stream_free(r->shared.oldest);
    candidates_destroy(&r->candidates);
    knowledge_destroy(&r->shared.known);
    window_destroy(&r->shared.window);
    free(r->keyed);
    free(r);
}

uint32_t reorder_held(const struct reorder *r) { return r->shared.window.count + r->candidates.kept; }

bool reorder_waits(const struct reorder *r) { return r->shared.window.count > 0; }

void reorder_drops(const struct reorder *r, uint64_t *dropped) {
    dropped[MPT_LATE] += r->shared.drops.late;
    dropped[MPT_DUPLICATE] += r->shared.drops.duplicate;
    dropped[MPT_STRAY] += r->shared.drops.stray;
}

/* --- the streams by their keys --- */

static struct stream **chain_of(const struct reorder *r, uint32_t key) {
    return &r->keyed[(key * r->secret >> 32) & r->mask]; /* a peer chooses its keys, but does not know the secret */
}

static struct stream *stream_of(const struct reorder *r, uint32_t key) {
    struct stream *s = r->keyed != NULL ? *chain_of(r, key) : NULL;
    while (s != NULL && s->key != key)
        s = s->chain;
    return s;
}

/* Forget the longest silent stream; it delivers what it holds. */
static void remove_oldest(struct reorder *r) {
    struct stream *oldest = r->shared.oldest != r->only ? r->shared.oldest : r->only->younger;
    struct stream **link = chain_of(r, oldest->key);
    while (*link != oldest)
        link = &(*link)->chain;
    *link = oldest->chain;
    stream_flush(oldest);
    stream_free(oldest);
    r->keyed_count--;
}

static struct stream *begin(struct reorder *r, uint32_t key) {
    const uint32_t streams = r->shared.tuning->streams;
    if (r->keyed == NULL) {
        for (r->mask = 1; r->mask + 1 < streams;)
            r->mask = 2 * r->mask + 1;
        if ((r->keyed = calloc(r->mask + 1, sizeof(struct stream *))) == NULL)
            return NULL;
    }
    if (r->keyed_count == streams)
        remove_oldest(r);
    struct stream *s = stream_new(&r->shared, key, NULL);
    if (s == NULL)
        return NULL;
    s->chain = *chain_of(r, key);
    *chain_of(r, key) = s;
    r->keyed_count++;
    return s;
}

void reorder_arrive(struct reorder *r, const struct arrival *arrival, double now) {
    if (!arrival->has_key) {
        stream_arrive(r->only, arrival, now);
        return;
    }
    struct stream *s = stream_of(r, arrival->key);
    if (s == NULL && (s = begin(r, arrival->key)) == NULL) { /* no memory for an order */
        r->shared.sink.deliver(r->shared.sink.context, arrival->packet);
        return;
    }
    stream_seen(s);
    if (now - s->last_good > r->shared.tuning->forget && s->held.count == 0)
        stream_forget(s);
    stream_arrive(s, arrival, now);
}

/* --- time and paths --- */

static void give_up_gaps(struct reorder *r, double now) {
    for (struct stream *s = r->shared.first_waiting, *next; s != NULL; s = next) {
        next = s->waiting_later;
        stream_give_up_gaps(s, now);
    }
}

void reorder_set_longest_wait(struct reorder *r, double longest_wait) { r->shared.known.longest_wait = longest_wait; }

void reorder_deadline(struct reorder *r, double now) {
    give_up_gaps(r, now);
    candidates_deadline(&r->candidates, now, r->only->brought);
}

double reorder_next_deadline(const struct reorder *r) {
    double first = candidates_next_deadline(&r->candidates);
    for (struct stream *s = r->shared.first_waiting; s != NULL; s = s->waiting_later) {
        double gap = stream_gap_deadline(s);
        first = first < 0 || gap < first ? gap : first;
    }
    return first;
}

bool reorder_path_up(struct reorder *r, uint32_t path, double now) { return streams_path_up(&r->shared, path, now); }

bool reorder_is_minor(const struct reorder *r, uint32_t path) {
    int32_t place = knowledge_find(&r->shared.known, path);
    return place >= 0 && r->shared.known.paths[place].is_minor;
}

void reorder_path_down(struct reorder *r, uint32_t path, double now) {
    streams_path_down(&r->shared, path);
    give_up_gaps(r, now);
}

void reorder_flush(struct reorder *r) {
    stream_flush(r->only);
    while (r->shared.first_waiting != NULL)
        stream_flush(r->shared.first_waiting);
}

void reorder_copy_out(struct reorder *r) {
    for (struct stream *s = r->shared.last_waiting; s != NULL; s = s->waiting_earlier)
        window_copy_out(&r->shared.window, &s->held);
    candidates_copy_out(&r->candidates);
}
