/* Putting the packets of one number space in order: mpt/data/stream.py, which has the rules, reasons and numbers, function
 * by function in the same order; both must do the same with the same arrivals. */

#include "stream.h"

#include <math.h>
#include <stdlib.h>

static const int64_t NO_POSITION = INT64_MIN;

/* --- life, and the list of all streams --- */

static void enlist(struct stream *s) {
    s->older = s->shared->youngest;
    s->younger = NULL;
    *(s->older != NULL ? &s->older->younger : &s->shared->oldest) = s;
    s->shared->youngest = s;
}

static void delist(struct stream *s) {
    *(s->older != NULL ? &s->older->younger : &s->shared->oldest) = s->younger;
    *(s->younger != NULL ? &s->younger->older : &s->shared->youngest) = s->older;
}

void stream_seen(struct stream *s) {
    if (s->younger == NULL)
        return;
    delist(s);
    enlist(s);
}

struct stream *stream_new(struct shared *shared, uint32_t key, struct candidates *candidates) {
    struct stream *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->shared = shared;
    s->candidates = candidates;
    s->key = key;
    s->newest = -1;
    s->newest_sent = NOTHING_SENT;
    held_init(&s->held, (uint64_t)key << 32, candidates != NULL);
    s->positions = malloc((shared->known.room + PATHS_MORE) * sizeof *s->positions);
    if (s->positions == NULL) {
        free(s);
        return NULL;
    }
    for (uint32_t i = 0; i < shared->known.path_count; i++)
        s->positions[i] = -1;
    enlist(s);
    return s;
}

void stream_free(struct stream *s) {
    if (s == NULL)
        return;
    delist(s);
    held_destroy(&s->shared->window, &s->held);
    free(s->positions);
    free(s->skipped);
    free(s);
}

/* --- the rules --- */

static int32_t ahead(uint32_t sequence, uint32_t reference) { return (int32_t)(sequence - reference); }

static void start(struct stream *s, uint32_t sequence, double now) {
    s->started = true;
    s->expected = s->first = sequence;
    s->newest = s->expected - 1;
    s->last_good = now;
    for (uint32_t i = 0; i < s->shared->known.path_count; i++)
        s->positions[i] = s->newest;
}

/* Add a path that no stream knows yet. */
static bool add_path(struct shared *shared, uint32_t path, double now, uint64_t brought_by_all) {
    struct knowledge *k = &shared->known;
    if (k->path_count == k->room)
        for (struct stream *s = shared->oldest; s != NULL; s = s->younger) {
            int64_t *more = realloc(s->positions, (k->room + 2 * PATHS_MORE) * sizeof *more);
            if (more == NULL)
                return false; /* the others have more room than they need */
            s->positions = more;
        }
    if (!knowledge_grow(k))
        return false;
    for (struct stream *s = shared->oldest; s != NULL; s = s->younger)
        s->positions[k->path_count] = NO_POSITION;
    knowledge_add(k, path, now, brought_by_all);
    return true;
}

static void path_brought(struct stream *s, uint32_t path, int64_t position, int64_t sent, double now) {
    struct knowledge *k = &s->shared->known;
    int32_t place = knowledge_find(k, path);
    s->brought++;
    if (sent > s->newest_sent)
        s->newest_sent = sent;
    if (place < 0) {
        if (!add_path(s->shared, path, now, 0))
            return;
        place = (int32_t)k->path_count - 1;
    }
    if (position > s->positions[place])
        s->positions[place] = position;
    knowledge_brought(k, (uint32_t)place, now, sent);
}

static void begin_to_wait(struct stream *s) {
    struct shared *shared = s->shared;
    s->waiting_earlier = shared->last_waiting;
    s->waiting_later = NULL;
    *(s->waiting_earlier != NULL ? &s->waiting_earlier->waiting_later : &shared->first_waiting) = s;
    shared->last_waiting = s;
}

static void end_wait(struct stream *s) {
    struct shared *shared = s->shared;
    *(s->waiting_earlier != NULL ? &s->waiting_earlier->waiting_later : &shared->first_waiting) = s->waiting_later;
    *(s->waiting_later != NULL ? &s->waiting_later->waiting_earlier : &shared->last_waiting) = s->waiting_earlier;
}

/* Note that `position` has been delivered: deliver the run behind it, and expect the position after that. */
static void advance(struct stream *s, int64_t position) {
    position++;
    while (s->held.count > 0 && window_deliver(&s->shared->window, &s->held, position))
        position++;
    s->expected = position;
    if (s->held.count == 0)
        end_wait(s);
}

static void remember_gap(struct stream *s, int64_t end) {
    uint32_t room = s->shared->tuning->gaps_remembered;
    s->shared->known.lost += (uint64_t)(end - s->expected);
    if (s->skipped == NULL && (s->skipped = calloc(room, sizeof *s->skipped)) == NULL)
        return;
    double since = window_oldest(&s->shared->window, &s->held)->time;
    s->skipped[s->skipped_next] = (struct gap){s->expected, end, since};
    s->skipped_next = (s->skipped_next + 1) % room;
    if (s->skipped_count < room)
        s->skipped_count++;
}

static void skip_gap(struct stream *s) {
    int64_t first = window_lowest(&s->shared->window, &s->held)->position;
    if (s->expected < first)
        remember_gap(s, first);
    window_deliver(&s->shared->window, &s->held, first);
    advance(s, first);
}

double stream_gap_deadline(struct stream *s) {
    const struct shared *shared = s->shared;
    const struct knowledge *k = &shared->known;
    double seen = window_oldest(&shared->window, &s->held)->time, end = seen + k->longest_wait;
    double patience = knowledge_patience_with_reordering(k, seen), learned_at = 0, good = knowledge_good_count(k);
    if (k->path_count == 0)
        return end;
    int64_t sent = s->candidates == NULL ? window_lowest(&shared->window, &s->held)->sent : 0;
    for (uint32_t i = 0; i < k->path_count; i++) {
        const struct progress *progress = &k->paths[i];
        bool has_passed = s->positions[i] >= s->expected || progress->sent > sent;
        if (has_passed || (s->last_good - progress->time >= shared->tuning->path_memory && knowledge_is_silent(k, progress)))
            continue;
        if ((double)progress->count >= good || k->learned_at < 0)
            return end;
        learned_at = k->learned_at;
        patience = fmax(patience, knowledge_patience(k, progress));
    }
    return fmin(end, fmax(seen + patience, learned_at));
}

void stream_give_up_gaps(struct stream *s, double now) {
    while (s->held.count > 0 && stream_gap_deadline(s) <= now)
        skip_gap(s);
}

static void drop(struct stream *s, uint64_t *counter, struct packet packet) {
    ++*counter;
    s->shared->sink.release(s->shared->sink.context, packet);
}

/* Note how long the gap at `position` had waited, and how much later its packet came than its successor. */
static void note_filled(struct stream *s, const struct arrival *a, int64_t position, double now) {
    struct shared *shared = s->shared;
    int32_t place = knowledge_find(&shared->known, a->path);
    if (place >= 0)
        knowledge_filled(&shared->known, (uint32_t)place, now - window_oldest(&shared->window, &s->held)->time);
    const struct slot *following = window_find(&shared->window, &s->held, position + 1);
    if (following != NULL && following->path != a->path)
        equalizer_gap_filled(shared->equalizer, a->path, following->path, a->arrival_time - following->arrival_time);
}

static void hold(struct stream *s, const struct arrival *a, int64_t position, double now) {
    struct window *window = &s->shared->window;
    struct slot *slot = window_hold(window, &s->held, position, a->packet);
    if (slot == NULL) { /* no memory: all goes, in order */
        while (s->held.count > 0)
            skip_gap(s);
        s->expected = position + 1;
        s->shared->sink.deliver(s->shared->sink.context, a->packet);
        return;
    }
    slot->time = now;
    slot->arrival_time = a->arrival_time;
    slot->sent = a->sent;
    slot->path = a->path;
    if (s->held.count == 1)
        begin_to_wait(s);
    if (window->count > window->size)
        skip_gap(s->shared->first_waiting);
}

static void arrive_ahead(struct stream *s, const struct arrival *a, int64_t position, double now) {
    s->last_good = now;
    if (position > s->newest)
        s->newest = position;
    path_brought(s, a->path, position, a->sent, now);
    if (position == s->expected) {
        note_filled(s, a, position, now);
        s->shared->sink.deliver(s->shared->sink.context, a->packet);
        advance(s, position);
    } else
        hold(s, a, position, now);
    stream_give_up_gaps(s, now);
}

static bool is_silent(const struct stream *s, double now) { return now - s->last_good > s->shared->silence; }

void stream_forget(struct stream *s) {
    s->started = false;
    s->skipped_count = s->skipped_next = 0;
}

static void begin_anew(struct stream *s) {
    stream_flush(s);
    stream_forget(s);
    s->shared->known.lost = 0;
}

/* Take a number that does not fit; `is_loss`: it lies as far ahead as a burst of loss leads. */
static void arrive_stray(struct stream *s, const struct arrival *a, bool is_loss, double now) {
    if (s->candidates == NULL) {
        if (a->sent < s->newest_sent) {
            drop(s, &s->shared->drops.stray, a->packet);
            return;
        }
        begin_anew(s);
        stream_arrive(s, a, now);
        return;
    }
    struct stray first[2], stray = {a->sequence, a->packet, a->path, a->arrival_time, s->brought};
    uint32_t count = candidates_arrive(s->candidates, stray, is_loss || is_silent(s, now), first);
    if (count == 0)
        return;
    begin_anew(s);
    for (uint32_t i = 0; i < count; i++) {
        struct arrival again = {.sequence = first[i].sequence, .packet = first[i].packet, .path = first[i].path,
                                .arrival_time = first[i].arrival_time};
        stream_arrive(s, &again, now);
    }
}

/* Return the gap of `position` if it was given up; if it is old and new to its path, the oldest gap known. */
static const struct gap *gap_given_up(const struct stream *s, int64_t position, bool is_next) {
    for (uint32_t i = 0; i < s->skipped_count; i++)
        if (s->skipped[i].first <= position && position < s->skipped[i].end)
            return &s->skipped[i];
    if (!is_next || s->skipped_count < s->shared->tuning->gaps_remembered)
        return NULL;
    const struct gap *oldest = &s->skipped[s->skipped_next];
    return position < oldest->first ? oldest : NULL;
}

static void arrive_behind(struct stream *s, const struct arrival *a, int64_t position, double now) {
    struct shared *shared = s->shared;
    int32_t place = knowledge_find(&shared->known, a->path);
    int64_t furthest = place >= 0 ? s->positions[place] : NO_POSITION;
    bool is_next = furthest != NO_POSITION && position > furthest;
    if (s->candidates == NULL) {
        if (a->sent > s->newest_sent) {
            begin_anew(s);
            stream_arrive(s, a, now);
            return;
        }
        if (position < s->first) {
            path_brought(s, a->path, position, a->sent, now);
            shared->sink.deliver(shared->sink.context, a->packet);
            return;
        }
    } else if (is_silent(s, now)
               || (s->expected - position > (int64_t)shared->window.size + shared->tuning->near && !is_next)) {
        arrive_stray(s, a, false, now);
        return;
    }
    const struct gap *gap = gap_given_up(s, position, is_next);
    if (gap == NULL) {
        drop(s, &shared->drops.duplicate, a->packet);
        return;
    }
    equalizer_came_late(shared->equalizer, a->path, now);
    knowledge_came_late(&shared->known, place);
    if (furthest != NO_POSITION && !is_next)
        knowledge_reordered(&shared->known, now - gap->since, now);
    path_brought(s, a->path, position, a->sent, now);
    drop(s, &shared->drops.late, a->packet);
    stream_give_up_gaps(s, now);
}

void stream_arrive(struct stream *s, const struct arrival *a, double now) {
    const struct shared *shared = s->shared;
    if (!s->started)
        start(s, a->sequence, now);
    int64_t position = s->expected + ahead(a->sequence, (uint32_t)s->expected);
    if (position == s->expected && s->held.count == 0) {
        s->expected = position + 1;
        s->newest = position;
        s->last_good = now;
        path_brought(s, a->path, position, a->sent, now);
        shared->sink.deliver(shared->sink.context, a->packet);
    } else if (position < s->expected)
        arrive_behind(s, a, position, now);
    else if (position - s->newest > shared->window.size)
        arrive_stray(s, a, position - s->newest <= (int64_t)shared->window.size + shared->tuning->near, now);
    else if (window_find(&shared->window, &s->held, position) != NULL)
        drop(s, &s->shared->drops.duplicate, a->packet);
    else
        arrive_ahead(s, a, position, now);
}

void stream_flush(struct stream *s) {
    if (s->candidates != NULL)
        candidates_clear(s->candidates);
    while (s->held.count > 0)
        skip_gap(s);
}

/* --- the paths of all streams --- */

bool streams_path_up(struct shared *shared, uint32_t path, double now) {
    struct knowledge *k = &shared->known;
    if (knowledge_find(k, path) >= 0)
        return true;
    if (!add_path(shared, path, now, k->brought))
        return false;
    for (struct stream *s = shared->oldest; s != NULL; s = s->younger)
        s->positions[k->path_count - 1] = s->started ? s->expected - 1 : -1;
    knowledge_path_came(k);
    return true;
}

void streams_path_down(struct shared *shared, uint32_t path) {
    int32_t place = knowledge_find(&shared->known, path);
    if (place < 0)
        return;
    for (struct stream *s = shared->oldest; s != NULL; s = s->younger)
        s->positions[place] = s->positions[shared->known.path_count - 1];
    knowledge_remove(&shared->known, (uint32_t)place);
}
