/* A line: the delay, then the bottleneck with its queue; line.py tells of it, and is the same in Python. */
#ifndef MPT_LINE_H
#define MPT_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_HELD 50000 /* frames in the delay */

struct frame {
    struct frame *next;
    double deadline;
    uint64_t count; /* keeps equal deadlines in order */
    size_t size;
    uint8_t octets[];
};

struct step {
    double end, rate, delay, loss;
};

struct settings {
    double delay, jitter, loss, rate, began;
    bool reorder, open;
    size_t queue_octets, queue_frames;
    struct step *steps;
    size_t step_count;
};

/* Frames of one size that nobody uses now. */
struct pool {
    struct frame *free;
    size_t frame_size;
};

struct line {
    struct settings settings;
    struct pool *pool;
    uint64_t dice;
    struct frame *heap[MAX_HELD];
    size_t held;
    uint64_t count;
    double last_deadline;
    struct frame *first, *last; /* the queue of the bottleneck */
    size_t queued_octets, queued_frames;
    double leaves; /* when the first of the queue has left */
    uint64_t frames_lost;
};

struct frame *pool_take(struct pool *pool); /* NULL without memory */
void pool_give(struct pool *pool, struct frame *frame);

struct line *line_new(struct pool *pool, uint64_t seed);
void line_free(struct line *line);
/* Copies the steps; returns false without memory, and has changed nothing then. */
bool line_adjust(struct line *line, const struct settings *settings, double now);
/* Owns the frame from now on. */
void line_put(struct line *line, struct frame *frame, double now);
double line_next_deadline(const struct line *line);
/* Returns the next frame that has left until now, NULL for none; the caller owns it. */
struct frame *line_take(struct line *line, double now);

#endif
