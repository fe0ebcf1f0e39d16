/* Making the paths of one connection equally late: mpt/data/equalizer.py, which has the reasons, function by function. */

#include "equalize.h"

#include <math.h>
#include <stdlib.h>

struct waiting { /* a packet that is held back */
    struct waiting *next;
    double due;
    struct arrival arrival;
};
struct line { uint32_t path; struct waiting *first, *last, *pooled; }; /* from `pooled` on they lie in buffers */

void equalizer_init(struct equalizer *e, const struct mpt_tuning *tuning, double limit, uint32_t capacity) {
    *e = (struct equalizer){.tuning = tuning, .limit = limit, .capacity = capacity,
                            .doubt = tuning->doubt};
}

void equalizer_destroy(struct equalizer *e, struct sink *sink) {
    for (uint32_t i = 0; i < e->line_count; i++)
        for (struct waiting *one; (one = e->lines[i].first) != NULL;) {
            e->lines[i].first = one->next;
            sink->release(sink->context, one->arrival.packet);
            free(one);
        }
    for (struct waiting *one; (one = e->spare) != NULL;) {
        e->spare = one->next;
        free(one);
    }
    free(e->lines);
    free(e->lags);
}

struct lag *equalizer_lag_of(const struct equalizer *e, uint32_t path) {
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

/* Count from the fastest path again, and set how long each path waits. */
void equalizer_update(struct equalizer *e) {
    double fastest = INFINITY, slowest = 0;
    for (uint32_t i = 0; i < e->lag_count; i++)
        fastest = fmin(fastest, e->lags[i].lag);
    for (uint32_t i = 0; i < e->lag_count; i++) {
        e->lags[i].lag = fmin(e->lags[i].lag - fastest, e->limit);
        if (!e->lags[i].is_minor)
            slowest = fmax(slowest, e->lags[i].lag);
    }
    for (uint32_t i = 0; i < e->lag_count; i++) {
        struct lag *lag = &e->lags[i];
        lag->shift = slowest - lag->lag;
        struct line *line = line_of(e, lag->path);
        lag->shifted = lag->shift > e->tuning->negligible;
        if (!lag->shifted) { /* the line must run empty, also while more and more comes */
            lag->shift = 0;
            lag->shifted = line != NULL && line->first != NULL;
        }
    }
}

bool equalizer_delay(struct equalizer *e, const struct arrival *arrival, const struct lag *lag) {
    struct line *line = line_of(e, lag->path);
    struct waiting *one = e->spare;
    if (line == NULL || (one == NULL && (one = malloc(sizeof *one)) == NULL))
        return false;
    if (one == e->spare)
        e->spare = one->next;
    *one = (struct waiting){NULL, arrival->arrival_time + lag->shift, *arrival};
    if (line->pooled == NULL)
        line->pooled = one;
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

bool equalizer_due(struct equalizer *e, double now, struct arrival *arrival) {
    struct line *line = e->count > 0 ? first_line(e) : NULL;
    if (line == NULL || line->first->due > now)
        return false;
    struct waiting *first = line->first;
    *arrival = first->arrival;
    if (line->pooled == first)
        line->pooled = first->next;
    line->first = first->next;
    first->next = e->spare;
    e->spare = first;
    e->count--;
    struct lag *lag = line->first == NULL ? equalizer_lag_of(e, line->path) : NULL;
    if (lag != NULL && lag->shift == 0)
        lag->shifted = false; /* it has run empty */
    return true;
}

double equalizer_next_deadline(const struct equalizer *e) {
    const struct line *line = e->count > 0 ? first_line(e) : NULL;
    return line == NULL ? -1 : line->first->due;
}

void equalizer_path_up(struct equalizer *e, uint32_t path, bool is_minor) {
    if (equalizer_lag_of(e, path) != NULL)
        return;
    struct lag *more = realloc(e->lags, (e->lag_count + 1) * sizeof *more);
    if (more != NULL) {
        e->lags = more;
        more[e->lag_count++] = (struct lag){.path = path, .is_minor = is_minor};
    }
}

void equalizer_path_down(struct equalizer *e, uint32_t path) {
    struct lag *lag = equalizer_lag_of(e, path);
    if (lag == NULL)
        return;
    e->lag_count--;
    memmove(lag, lag + 1, (size_t)(e->lags + e->lag_count - lag) * sizeof *lag);
    equalizer_update(e);
}

void equalizer_gap_filled(struct equalizer *e, uint32_t path, uint32_t waiting_path, double later) {
    struct lag *lag = equalizer_lag_of(e, path), *waiting = equalizer_lag_of(e, waiting_path);
    if (e->is_behind || lag == NULL || waiting == NULL)
        return;
    e->is_dense = true;
    lag->lag += e->tuning->gap_gain * (waiting->lag + later - lag->lag);
    bool any = fabs(lag->lag) > e->tuning->negligible / 2;
    for (uint32_t i = 0; i < e->lag_count && !any; i++)
        any = e->lags[i].shifted;
    if (any) /* else no path has to wait */
        equalizer_update(e);
}

void equalizer_came_late(struct equalizer *e, uint32_t path, double now) {
    const struct lag *late = equalizer_lag_of(e, path);
    if (late == NULL || !late->shifted)
        return;
    if (now - e->believes_from > e->tuning->longest_doubt) /* keepalives were right for long */
        e->doubt = e->tuning->doubt;
    e->believes_from = now + e->doubt;
    e->doubt = fmin(2 * e->doubt, e->tuning->longest_doubt);
    for (uint32_t i = 0; i < e->lag_count; i++)
        e->lags[i].lag = 0;
    equalizer_update(e);
}

void equalizer_set_minor(struct equalizer *e, uint32_t path, bool is_minor) {
    struct lag *lag = equalizer_lag_of(e, path);
    if (lag != NULL)
        lag->is_minor = is_minor;
}

static bool were_together(const struct equalizer *e, double spread, double change, double interval) {
    double near = e->tuning->nearer * interval;
    bool is_only_reading = spread < near && interval - spread > e->limit;
    return spread < e->limit && (change < near || is_only_reading);
}

void equalizer_keepalive(struct equalizer *e, uint32_t path, double now) {
    struct lag *lag = equalizer_lag_of(e, path);
    if (e->is_behind || lag == NULL)
        return;
    lag->interval = lag->heard ? now - lag->keepalive : 0;
    lag->heard = true;
    lag->keepalive = now;
    double interval = INFINITY, first = INFINITY, least = INFINITY, most = -INFINITY;
    for (uint32_t i = 0; i < e->lag_count; i++) {
        interval = fmin(interval, e->lags[i].interval);
        first = fmin(first, e->lags[i].heard ? e->lags[i].keepalive : 0);
    }
    for (uint32_t i = 0; i < e->lag_count; i++) {
        struct lag *each = &e->lags[i];
        double change = (each->heard ? each->keepalive : 0) - first - each->lag;
        least = fmin(least, change);
        most = fmax(most, change);
    }
    if (e->lag_count < 2 || !were_together(e, now - first, most - least, interval))
        return;
    if (!e->is_dense && now >= e->believes_from) {
        for (uint32_t i = 0; i < e->lag_count; i++) {
            struct lag *each = &e->lags[i];
            double gain = each->lag != 0 ? e->tuning->keepalive_gain : 1;
            each->lag += (each->keepalive - first - each->lag) * gain;
        }
        equalizer_update(e);
    }
    e->is_dense = false;
}

void equalizer_copy_out(struct equalizer *e, struct sink *sink) {
    for (uint32_t i = 0; i < e->line_count; i++)
        for (struct line *line = &e->lines[i]; line->pooled != NULL; line->pooled = line->pooled->next)
            packet_copy_out(sink, &line->pooled->arrival.packet);
}
