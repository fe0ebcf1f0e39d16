/* One number space of a connection, put in order. Pure but for the memory of held packets. */
#ifndef MPT_STREAM_H
#define MPT_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "candidates.h"
#include "knowledge.h"
#include "window.h"

struct stream;
struct shared { /* what the streams of a connection share */
    const struct mpt_tuning *tuning;
    struct equalizer *equalizer;
    struct sink sink;
    struct knowledge known;
    struct window window;
    struct order_drops drops;
    double silence; /* seconds without a packet after which a lower number may be a restarted peer's */
    struct stream *oldest, *youngest; /* all streams, the longest silent one first */
    struct stream *first_waiting, *last_waiting; /* the streams that hold packets, by when they began to wait */
};
struct gap { int64_t first, end; double since; }; /* `since`: when its wait began */
struct stream {
    struct shared *shared;
    struct candidates *candidates; /* NULL: packets have stamps */
    uint32_t key;
    struct stream *chain; /* the next in the table of keys */
    struct stream *older, *younger; /* neighbours among all streams */
    struct stream *waiting_earlier, *waiting_later; /* neighbours among the waiting ones */
    bool started;
    int64_t expected, first, newest, newest_sent; /* `first`: the position of the first packet */
    double last_good;
    uint64_t brought; /* packets of this stream */
    int64_t *positions; /* the furthest of each path, by its place in `known`; NO_POSITION: it brought none */
    struct held held;
    struct gap *skipped; /* a ring of tuning->gaps_remembered; NULL: none was given up yet */
    uint32_t skipped_count, skipped_next;
};
struct stream *stream_new(struct shared *shared, uint32_t key, struct candidates *candidates); /* NULL: no memory */
void stream_free(struct stream *stream);
void stream_arrive(struct stream *stream, const struct arrival *arrival, double now);
double stream_gap_deadline(struct stream *stream); /* something must be held */
void stream_give_up_gaps(struct stream *stream, double now);
void stream_flush(struct stream *stream);
void stream_forget(struct stream *stream); /* take the next number as it comes; nothing may be held */
void stream_seen(struct stream *stream); /* it is the youngest now */
bool streams_path_up(struct shared *shared, uint32_t path, double now); /* false: no memory */
void streams_path_down(struct shared *shared, uint32_t path);

#endif
