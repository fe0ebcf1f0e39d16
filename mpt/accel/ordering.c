/* In order and steadily: mpt/data/ordering.py, function by function. */

#include "ordering.h"

#include <math.h>
#include <stdlib.h>

#include "equalize.h"
#include "reorder.h"

struct ordering {
    double max_delay;
    struct sink sink;
    struct equalizer equalizer;
    struct reorder *reorder;
};

struct ordering *ordering_new(const struct mpt_tuning *tuning, uint32_t window, double max_delay, uint64_t secret,
                              struct sink sink) {
    struct ordering *o = calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    o->max_delay = max_delay;
    o->sink = sink;
    equalizer_init(&o->equalizer, tuning, tuning->share * max_delay, window);
    o->reorder = reorder_new(tuning, window, max_delay, secret, sink, &o->equalizer);
    if (o->reorder == NULL) {
        free(o);
        return NULL;
    }
    return o;
}

void ordering_free(struct ordering *o) {
    if (o == NULL)
        return;
    equalizer_destroy(&o->equalizer, &o->sink);
    reorder_free(o->reorder);
    free(o);
}

uint32_t ordering_held(const struct ordering *o) { return o->equalizer.count + reorder_held(o->reorder); }

bool ordering_waits(const struct ordering *o) {
    return o->equalizer.count > 0 || reorder_waits(o->reorder);
}

void ordering_drops(const struct ordering *o, uint64_t *dropped) { reorder_drops(o->reorder, dropped); }

void ordering_arrive(struct ordering *o, uint32_t sequence, struct packet packet, uint32_t path, double now) {
    struct equalizer *e = &o->equalizer;
    const struct lag *lag = equalizer_lag_of(e, path);
    struct delayed first;
    if (lag != NULL && lag->shifted && e->count >= e->capacity && equalizer_due(e, INFINITY, &first))
        /* Let the oldest go: the new one would overtake its path. Then the new one may not have to wait. */
        reorder_arrive(o->reorder, first.sequence, first.packet, first.path, now, first.arrival_time);
    if (lag == NULL || !lag->shifted || !equalizer_delay(e, sequence, packet, lag, now))
        reorder_arrive(o->reorder, sequence, packet, path, now, now);
}

void ordering_deadline(struct ordering *o, double now) {
    struct equalizer *e = &o->equalizer;
    struct delayed due;
    double longest = 0;
    for (uint32_t i = 0; i < e->lag_count; i++)
        if (e->lags[i].shifted)
            longest = fmax(longest, e->lags[i].shift);
    reorder_set_longest_wait(o->reorder, o->max_delay - longest);
    while (equalizer_due(e, now, &due))
        reorder_arrive(o->reorder, due.sequence, due.packet, due.path, now, due.arrival_time);
    reorder_deadline(o->reorder, now);
}

double ordering_next_deadline(const struct ordering *o) {
    double line = equalizer_next_deadline(&o->equalizer), gap = reorder_next_deadline(o->reorder);
    return line < 0 ? gap : gap < 0 || line < gap ? line : gap;
}

void ordering_set_behind(struct ordering *o, bool is_behind) { o->equalizer.is_behind = is_behind; }

void ordering_keepalive(struct ordering *o, uint32_t path, double now) { equalizer_keepalive(&o->equalizer, path, now); }

void ordering_path_up(struct ordering *o, uint32_t path, double now) {
    reorder_path_up(o->reorder, path, now);
    equalizer_path_up(&o->equalizer, path, reorder_is_minor(o->reorder, path));
}

void ordering_path_down(struct ordering *o, uint32_t path, double now) {
    equalizer_path_down(&o->equalizer, path);
    reorder_path_down(o->reorder, path, now);
}

void ordering_flush(struct ordering *o) {
    struct delayed next;
    while (equalizer_due(&o->equalizer, INFINITY, &next)) /* as if it had never waited */
        reorder_arrive(o->reorder, next.sequence, next.packet, next.path, next.arrival_time, next.arrival_time);
    reorder_flush(o->reorder);
}

void ordering_copy_out(struct ordering *o) {
    equalizer_copy_out(&o->equalizer, &o->sink);
    reorder_copy_out(o->reorder);
}
