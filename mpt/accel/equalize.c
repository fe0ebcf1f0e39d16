/* Making the paths of one connection equally late, then in order: mpt/data/equalizer.py and ordering.py, function by function;
 * why and how much is told there.
 */

#include "_native.h"

#include <math.h>
#include <stdlib.h>

#define GAP_GAIN (1.0 / 8)
#define KEEPALIVE_GAIN (1.0 / 2)
#define NEGLIGIBLE 0.003
#define SHARE 0.75

struct lag { /* of one path that is up */
    uint32_t path;
    double lag, keepalive, shift;
    bool heard, shifted; /* `keepalive`, `shift` hold */
};
struct waiting { /* a packet that is held back */
    struct waiting *next;
    double due, arrived;
    uint32_t sequence;
    struct packet packet;
};
struct line { uint32_t path; struct waiting *first, *last, *lent; }; /* `lent`: it and those after it lie in buffers */

struct equalizer {
    double limit;
    uint32_t capacity, count;
    struct lag *lags;
    uint32_t lag_count;
    struct line *lines; /* in the order of their first use, as equal due times are served */
    uint32_t line_count;
    struct waiting *spare; /* of those that have gone, to be used again; no more than `capacity` */
    bool believes_keepalives, is_dense;
    bool is_behind; /* packets are read later than they came: their times tell nothing about the paths */
};

struct ordering {
    double max_delay;
    struct equalizer equalizer;
    struct reorder *reorder;
    struct sink sink;
};

static struct lag *lag_of(const struct equalizer *e, uint32_t path) {
    for (uint32_t i = 0; i < e->lag_count; i++)
        if (e->lags[i].path == path)
            return &e->lags[i];
    return NULL;
}

static struct line *line_of(struct equalizer *e, uint32_t path) {
    for (uint32_t i = 0; i < e->line_count; i++)
        if (e->lines[i].path == path)
            return &e->lines[i];
    struct line *more = realloc(e->lines, (e->line_count + 1) * sizeof *more);
    if (more == NULL)
        return NULL;
    e->lines = more;
    more[e->line_count] = (struct line){.path = path};
    return &more[e->line_count++];
}

/* Count from the fastest path again, and see who has to wait for how long. */
static void update(struct equalizer *e) {
    double fastest = INFINITY, slowest = 0;
    for (uint32_t i = 0; i < e->lag_count; i++)
        fastest = fmin(fastest, e->lags[i].lag);
    for (uint32_t i = 0; i < e->lag_count; i++) {
        e->lags[i].lag = fmin(e->lags[i].lag - fastest, e->limit);
        slowest = fmax(slowest, e->lags[i].lag);
    }
    for (uint32_t i = 0; i < e->lag_count; i++) {
        struct lag *lag = &e->lags[i];
        lag->shift = slowest - lag->lag;
        struct line *line = line_of(e, lag->path);
        lag->shifted = lag->shift > NEGLIGIBLE;
        if (!lag->shifted) { /* what waits must run out, also while more and more comes */
            lag->shift = 0;
            lag->shifted = line != NULL && line->first != NULL;
        }
    }
}

/* Let a packet of a path that is shifted wait; false when there is no memory for it. */
static bool delay(
    struct equalizer *e, uint32_t sequence, struct packet packet, const struct lag *lag, double now
) {
    struct line *line = line_of(e, lag->path);
    struct waiting *one = e->spare;
    if (line == NULL || (one == NULL && (one = malloc(sizeof *one)) == NULL))
        return false;
    if (one == e->spare)
        e->spare = one->next;
    *one = (struct waiting){NULL, now + lag->shift, now, sequence, packet};
    if (line->lent == NULL)
        line->lent = one;
    if (line->first == NULL)
        line->first = one;
    else {
        one->due = fmax(one->due, line->last->due);
        line->last->next = one;
    }
    line->last = one;
    e->count++;
    return true;
}

static struct line *first_line(const struct equalizer *e) {
    struct line *first = NULL;
    for (uint32_t i = 0; i < e->line_count; i++) {
        struct line *line = &e->lines[i];
        if (line->first != NULL && (first == NULL || line->first->due < first->first->due))
            first = line;
    }
    return first;
}

/* Give the next packet that is due at `until` to the reorder window at `now`, or if that is negative at the time when it
 * came; false when there is none. */
static bool pass_due(struct ordering *o, double until, double now) {
    struct line *line = o->equalizer.count > 0 ? first_line(&o->equalizer) : NULL;
    if (line == NULL || line->first->due > until)
        return false;
    struct waiting one = *line->first;
    line->first->next = o->equalizer.spare;
    o->equalizer.spare = line->first;
    if (line->lent == line->first)
        line->lent = one.next;
    line->first = one.next;
    o->equalizer.count--;
    struct lag *lag = line->first == NULL ? lag_of(&o->equalizer, line->path) : NULL;
    if (lag != NULL && lag->shift == 0)
        lag->shifted = false; /* it has run empty */
    reorder_arrive(o->reorder, one.sequence, one.packet, line->path, now < 0 ? one.arrived : now, one.arrived);
    return true;
}

void equalizer_gap_filled(struct equalizer *e, uint32_t path, uint32_t waiting_path, double later) {
    struct lag *lag = lag_of(e, path), *waiting = lag_of(e, waiting_path);
    if (e->is_behind || lag == NULL || waiting == NULL)
        return;
    e->is_dense = true;
    lag->lag += GAP_GAIN * (waiting->lag + later - lag->lag);
    bool any = fabs(lag->lag) > NEGLIGIBLE / 2;
    for (uint32_t i = 0; i < e->lag_count && !any; i++)
        any = e->lags[i].shifted;
    if (any) /* else nobody has to wait, whatever the others are */
        update(e);
}

void equalizer_came_late(struct equalizer *e, uint32_t path) {
    const struct lag *late = lag_of(e, path);
    if (late == NULL || !late->shifted)
        return;
    e->believes_keepalives = false;
    for (uint32_t i = 0; i < e->lag_count; i++)
        e->lags[i].lag = 0;
    update(e);
}

void ordering_keepalive(struct ordering *o, uint32_t path, double now) {
    struct equalizer *e = &o->equalizer;
    struct lag *lag = lag_of(e, path);
    if (e->is_behind || lag == NULL || !e->believes_keepalives)
        return;
    double interval = lag->heard ? now - lag->keepalive : 0, first = INFINITY;
    double earliest = now - fmin(e->limit, interval / 2);
    lag->heard = true;
    lag->keepalive = now;
    for (uint32_t i = 0; i < e->lag_count; i++)
        first = fmin(first, e->lags[i].heard ? e->lags[i].keepalive : 0);
    if (e->lag_count < 2 || first <= earliest)
        return;
    if (!e->is_dense) {
        for (uint32_t i = 0; i < e->lag_count; i++) {
            struct lag *each = &e->lags[i];
            double gain = each->lag != 0 ? KEEPALIVE_GAIN : 1;
            each->lag += (each->keepalive - first - each->lag) * gain;
        }
        update(e);
    }
    e->is_dense = false;
}

/* --- both together --- */

void ordering_set_behind(struct ordering *o, bool is_behind) { o->equalizer.is_behind = is_behind; }

struct ordering *ordering_new(uint32_t window, double max_delay, uint64_t secret, struct sink sink) {
    struct ordering *o = calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    o->max_delay = max_delay;
    o->sink = sink;
    o->equalizer = (struct equalizer){.limit = SHARE * max_delay, .capacity = window, .believes_keepalives = true};
    o->reorder = reorder_new(window, max_delay, secret, sink, &o->equalizer);
    if (o->reorder == NULL) {
        free(o);
        return NULL;
    }
    return o;
}

void ordering_free(struct ordering *o) {
    if (o == NULL)
        return;
    for (uint32_t i = 0; i < o->equalizer.line_count; i++)
        for (struct waiting *one; (one = o->equalizer.lines[i].first) != NULL;) {
            o->equalizer.lines[i].first = one->next;
            o->sink.release(o->sink.context, one->packet);
            free(one);
        }
    for (struct waiting *one; (one = o->equalizer.spare) != NULL;) {
        o->equalizer.spare = one->next;
        free(one);
    }
    reorder_free(o->reorder);
    free(o->equalizer.lines);
    free(o->equalizer.lags);
    free(o);
}

void ordering_arrive(struct ordering *o, uint32_t sequence, struct packet packet, uint32_t path, double now) {
    const struct lag *lag = lag_of(&o->equalizer, path);
    if (lag != NULL && lag->shifted && o->equalizer.count >= o->equalizer.capacity)
        pass_due(o, INFINITY, now); /* not the one just come, which would overtake its path; it may not have to wait now */
    if (lag == NULL || !lag->shifted || !delay(&o->equalizer, sequence, packet, lag, now))
        reorder_arrive(o->reorder, sequence, packet, path, now, now);
}

void ordering_deadline(struct ordering *o, double now) {
    double longest = 0;
    for (uint32_t i = 0; i < o->equalizer.lag_count; i++)
        if (o->equalizer.lags[i].shifted)
            longest = fmax(longest, o->equalizer.lags[i].shift);
    reorder_set_max_delay(o->reorder, o->max_delay - longest);
    while (pass_due(o, now, now))
        ;
    reorder_deadline(o->reorder, now);
}

double ordering_next_deadline(const struct ordering *o) {
    const struct line *line = o->equalizer.count > 0 ? first_line(&o->equalizer) : NULL;
    double gap = reorder_next_deadline(o->reorder);
    if (line == NULL)
        return gap;
    return gap < 0 || line->first->due < gap ? line->first->due : gap;
}

void ordering_path_up(struct ordering *o, uint32_t path, double now) {
    struct equalizer *e = &o->equalizer;
    if (lag_of(e, path) == NULL) {
        struct lag *more = realloc(e->lags, (e->lag_count + 1) * sizeof *more);
        if (more != NULL) {
            e->lags = more;
            more[e->lag_count++] = (struct lag){.path = path};
        }
    }
    reorder_path_up(o->reorder, path, now);
}

void ordering_path_down(struct ordering *o, uint32_t path) {
    struct equalizer *e = &o->equalizer;
    struct lag *lag = lag_of(e, path);
    if (lag != NULL) {
        e->lag_count--;
        memmove(lag, lag + 1, (size_t)(e->lags + e->lag_count - lag) * sizeof *lag);
        update(e);
    }
    reorder_path_down(o->reorder, path);
}

void ordering_flush(struct ordering *o) {
    while (pass_due(o, INFINITY, -1))
        ;
    reorder_flush(o->reorder);
}

void ordering_own(struct ordering *o) {
    for (uint32_t i = 0; i < o->equalizer.line_count; i++)
        for (struct line *line = &o->equalizer.lines[i]; line->lent != NULL; line->lent = line->lent->next)
            packet_own(&o->sink, &line->lent->packet);
    reorder_own(o->reorder);
}

uint32_t ordering_held(const struct ordering *o) { return o->equalizer.count + reorder_held(o->reorder); }

bool ordering_waits(const struct ordering *o) {
    return o->equalizer.count > 0 || reorder_next_deadline(o->reorder) >= 0;
}

void ordering_drops(const struct ordering *o, uint64_t *dropped) { reorder_drops(o->reorder, dropped); }
