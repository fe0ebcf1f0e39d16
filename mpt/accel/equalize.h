/* The delay line before the reorder window of one connection. Pure but for the memory of held packets. */
#ifndef MPT_EQUALIZE_H
#define MPT_EQUALIZE_H

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"

struct lag { /* of one path that is up */
    uint32_t path;
    double lag, keepalive, interval, shift; /* `interval`: between the last two keepalives, 0 before the second */
    bool heard, shifted; /* `keepalive`, `shift` hold */
    bool is_minor; /* it brings a small part of the packets: no path waits for it */
};
struct arrival { /* a packet with a sequence number */
    struct packet packet;
    uint32_t sequence, key; /* `key`: the stream whose number it is */
    bool has_key;
    uint32_t path;
    double arrival_time;
    int64_t sent; /* the peer's clock, unwrapped; 0 on plain connections */
};
struct line;
struct equalizer {
    const struct mpt_tuning *tuning;
    double limit;
    uint32_t capacity, count; /* `count` packets wait, at most `capacity` */
    struct lag *lags;
    uint32_t lag_count;
    struct line *lines; /* in the order of their first use, as equal due times are served */
    uint32_t line_count;
    struct waiting *spare; /* free ones, to be used again; no more than `capacity` */
    double believes_from, doubt; /* when keepalives are believed again, and how long the next doubt lasts */
    bool is_dense;
    bool is_behind; /* packets are read later than they came: their times tell nothing about the paths */
};
void equalizer_init(struct equalizer *equalizer, const struct mpt_tuning *tuning, double limit, uint32_t capacity);
void equalizer_destroy(struct equalizer *equalizer, struct sink *sink);
struct lag *equalizer_lag_of(const struct equalizer *equalizer, uint32_t path); /* NULL: the path is not up */
/* Let a packet of the path of `lag`, which is shifted, wait; false: no memory for it. */
bool equalizer_delay(struct equalizer *equalizer, const struct arrival *arrival, const struct lag *lag);
bool equalizer_due(struct equalizer *equalizer, double now, struct arrival *arrival); /* false: nothing is due */
double equalizer_next_deadline(const struct equalizer *equalizer); /* -1: none */
void equalizer_path_up(struct equalizer *equalizer, uint32_t path, bool is_minor);
void equalizer_path_down(struct equalizer *equalizer, uint32_t path);
void equalizer_gap_filled(struct equalizer *equalizer, uint32_t path, uint32_t waiting_path, double later);
void equalizer_came_late(struct equalizer *equalizer, uint32_t path, double now);
void equalizer_set_minor(struct equalizer *equalizer, uint32_t path, bool is_minor); /* equalizer_update must follow */
void equalizer_update(struct equalizer *equalizer);
void equalizer_keepalive(struct equalizer *equalizer, uint32_t path, double now);
void equalizer_copy_out(struct equalizer *equalizer, struct sink *sink); /* copy all waiting packets out of the pool */

#endif
