/* See line.py; the two draw the same numbers and reckon in the same order, so that they agree to the bit. */
#include "line.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Frames that nobody uses. */

struct frame *pool_take(struct pool *pool) {
    struct frame *frame = pool->free;
    if (frame == NULL)
        return malloc(sizeof(struct frame) + pool->frame_size);
    pool->free = frame->next;
    return frame;
}

void pool_give(struct pool *pool, struct frame *frame) {
    frame->next = pool->free;
    pool->free = frame;
}

/* Random numbers as dice.py draws them. */

static double roll(uint64_t *state) {
    uint64_t mixed = *state += 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    return (double)((mixed ^ (mixed >> 31)) >> 11) * 0x1p-53;
}

/* The steps of a trace. */

static double position_at(const struct settings *settings, double now) {
    double since = now - settings->began;
    return fmod(since > 0 ? since : 0, settings->steps[settings->step_count - 1].end);
}

static size_t index_at(const struct settings *settings, double position) {
    size_t low = 0, high = settings->step_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (position < settings->steps[middle].end)
            high = middle;
        else
            low = middle + 1;
    }
    return low < settings->step_count ? low : settings->step_count - 1;
}

static double finish(const struct line *line, double start, const struct frame *frame) {
    const struct settings *settings = &line->settings;
    double bits = (double)frame->size * 8.0;
    if (settings->step_count == 0)
        return settings->rate > 0 ? start + bits / settings->rate : start;
    double position = position_at(settings, start), now = start;
    size_t index = index_at(settings, position);
    for (;;) {
        const struct step *step = &settings->steps[index];
        double left = step->end - position;
        if (step->rate * left >= bits)
            return now + bits / step->rate;
        bits -= step->rate * left;
        now += left;
        position = step->end;
        if (++index == settings->step_count) {
            index = 0;
            position = 0;
        }
    }
}

/* The delay: a heap of frames, the earliest first. */

static bool is_earlier(const struct frame *one, const struct frame *other) {
    return one->deadline < other->deadline || (one->deadline == other->deadline && one->count < other->count);
}

static void push(struct line *line, struct frame *frame) {
    size_t at = line->held++;
    while (at > 0 && is_earlier(frame, line->heap[(at - 1) / 2])) {
        line->heap[at] = line->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    line->heap[at] = frame;
}

static struct frame *pop(struct line *line) {
    struct frame *earliest = line->heap[0], *moved = line->heap[--line->held];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= line->held)
            break;
        if (child + 1 < line->held && is_earlier(line->heap[child + 1], line->heap[child]))
            child++;
        if (!is_earlier(line->heap[child], moved))
            break;
        line->heap[at] = line->heap[child];
        at = child;
    }
    line->heap[at] = moved;
    return earliest;
}

/* The bottleneck. */

static void enqueue(struct line *line, struct frame *frame, double at) {
    size_t octets = line->settings.queue_octets, frames = line->settings.queue_frames;
    if ((octets > 0 && line->queued_octets + frame->size > octets) || (frames > 0 && line->queued_frames >= frames)) {
        line->frames_lost++;
        pool_give(line->pool, frame);
        return;
    }
    frame->next = NULL;
    if (line->queued_frames++ == 0) {
        line->first = frame;
        line->leaves = finish(line, at, frame);
    } else {
        line->last->next = frame;
    }
    line->last = frame;
    line->queued_octets += frame->size;
}

static struct frame *dequeue(struct line *line, double at) {
    struct frame *frame = line->first;
    line->first = frame->next;
    line->queued_octets -= frame->size;
    line->leaves = --line->queued_frames > 0 ? finish(line, at, line->first) : INFINITY;
    return frame;
}

static void lose_all(struct line *line) {
    while (line->held > 0)
        pool_give(line->pool, line->heap[--line->held]);
    while (line->queued_frames > 0)
        pool_give(line->pool, dequeue(line, 0));
}

/* The line, in the order in which a frame passes it. */

struct line *line_new(struct pool *pool, uint64_t seed) {
    struct line *line = calloc(1, sizeof(struct line));
    if (line == NULL)
        return NULL;
    line->pool = pool;
    line->dice = seed;
    line->last_deadline = -INFINITY;
    line->leaves = INFINITY;
    line->settings.open = true;
    return line;
}

void line_free(struct line *line) {
    lose_all(line);
    free(line->settings.steps);
    free(line);
}

bool line_adjust(struct line *line, const struct settings *settings, double now) {
    struct step *steps = NULL;
    if (settings->step_count > 0) {
        steps = malloc(settings->step_count * sizeof(struct step));
        if (steps == NULL)
            return false;
        memcpy(steps, settings->steps, settings->step_count * sizeof(struct step));
    }
    if (!settings->open)
        lose_all(line);
    free(line->settings.steps);
    line->settings = *settings;
    line->settings.steps = steps;
    line->leaves = line->queued_frames > 0 ? finish(line, now, line->first) : INFINITY;
    return true;
}

void line_put(struct line *line, struct frame *frame, double now) {
    const struct settings *settings = &line->settings;
    if (!settings->open) {
        pool_give(line->pool, frame);
        return;
    }
    double delay = settings->delay, loss = settings->loss;
    if (settings->step_count > 0) {
        const struct step *step = &settings->steps[index_at(settings, position_at(settings, now))];
        delay = step->delay >= 0 ? step->delay : delay;
        loss = step->loss >= 0 ? step->loss : loss;
    }
    if ((loss > 0 && roll(&line->dice) < loss) || line->held >= MAX_HELD) {
        line->frames_lost++;
        pool_give(line->pool, frame);
        return;
    }
    double deadline = now + delay;
    if (settings->jitter > 0) {
        deadline += settings->jitter * (2.0 * roll(&line->dice) - 1.0);
        deadline = deadline > now ? deadline : now;
    }
    if (!settings->reorder) {
        deadline = deadline > line->last_deadline ? deadline : line->last_deadline;
        line->last_deadline = deadline;
    }
    frame->deadline = deadline;
    frame->count = line->count++;
    push(line, frame);
}

double line_next_deadline(const struct line *line) {
    double enters = line->held > 0 ? line->heap[0]->deadline : INFINITY;
    return enters < line->leaves ? enters : line->leaves;
}

struct frame *line_take(struct line *line, double now) {
    double due;
    while ((due = line_next_deadline(line)) <= now) {
        if (line->leaves <= due)
            return dequeue(line, due);
        struct frame *frame = pop(line);
        if (line->queued_frames == 0 && line->settings.rate <= 0 && line->settings.step_count == 0)
            return frame;
        enqueue(line, frame, due);
    }
    return NULL;
}
