/* In order and steadily: mpt/data/ordering.py, function by function. */

#include "ordering.h"

#include <math.h>
#include <stdlib.h>

#include "equalize.h"
#include "reorder.h"

struct ordering {
    double max_delay;
    bool has_stamps;
    int64_t sent; /* when the last packet was sent, and when it came */
    double came, stamps_a_second;
    double shift, shift_until; /* for how long packets that may still wait were held back */
    struct sink sink;
    struct equalizer equalizer;
    struct reorder *reorder;
};

struct ordering *ordering_new(const struct mpt_tuning *tuning, uint32_t window, double max_delay, bool has_stamps,
                              uint64_t secret, struct sink sink) {
    struct ordering *o = calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    o->max_delay = max_delay;
    o->has_stamps = has_stamps;
    o->stamps_a_second = tuning->stamps_a_second;
    o->sink = sink;
    equalizer_init(&o->equalizer, tuning, tuning->share * max_delay, window);
    o->reorder = reorder_new(tuning, window, max_delay, has_stamps, secret, sink, &o->equalizer);
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

int64_t ordering_sent(const struct ordering *o) { return o->sent; }

static int64_t unwrapped(struct ordering *o, uint16_t stamp, double now) {
    int64_t due = o->sent + (int64_t)((now - o->came) * o->stamps_a_second);
    o->came = now;
    o->sent = due + (int16_t)(uint16_t)(stamp - (uint64_t)due);
    return o->sent;
}

void ordering_arrive(struct ordering *o, struct mark mark, struct packet packet, uint32_t path, double now) {
    struct equalizer *e = &o->equalizer;
    struct arrival first, arrival = {packet, mark.sequence, mark.key, mark.has_key, path, now, 0};
    const struct lag *lag = equalizer_lag_of(e, path);
    if (o->has_stamps)
        arrival.sent = unwrapped(o, mark.stamp, now);
    if (lag != NULL && lag->shifted && e->count >= e->capacity && equalizer_due(e, INFINITY, &first))
        /* Let the oldest go: the new one would overtake its path. Then the new one may not have to wait. */
        reorder_arrive(o->reorder, &first, now);
    if (lag == NULL || !lag->shifted || !equalizer_delay(e, &arrival, lag))
        reorder_arrive(o->reorder, &arrival, now);
}

void ordering_deadline(struct ordering *o, double now) {
    struct equalizer *e = &o->equalizer;
    struct arrival due;
    double longest = 0;
    for (uint32_t i = 0; i < e->lag_count; i++)
        if (e->lags[i].shifted)
            longest = fmax(longest, e->lags[i].shift);
    if (longest >= o->shift || now > o->shift_until) {
        o->shift = longest;
        o->shift_until = now + o->max_delay;
    }
    reorder_set_longest_wait(o->reorder, o->max_delay - o->shift);
    while (equalizer_due(e, now, &due))
        reorder_arrive(o->reorder, &due, now);
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
    struct arrival next;
    while (equalizer_due(&o->equalizer, INFINITY, &next)) /* as if it had never waited */
        reorder_arrive(o->reorder, &next, next.arrival_time);
    reorder_flush(o->reorder);
}

void ordering_copy_out(struct ordering *o) {
    equalizer_copy_out(&o->equalizer, &o->sink);
    reorder_copy_out(o->reorder);
}
