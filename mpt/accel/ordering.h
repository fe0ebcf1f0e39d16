/* The equalizer and the reorder window of one connection, one behind the other. */
#ifndef MPT_ORDERING_H
#define MPT_ORDERING_H

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"

struct mark { /* what a datagram says about the order of its packet */
    uint32_t sequence, key; /* `key`: the stream whose number it is */
    bool has_key;
    uint16_t stamp; /* of a sealed datagram */
};
struct ordering;
struct ordering *ordering_new(const struct mpt_tuning *tuning, uint32_t window, double max_delay, bool has_stamps,
                              uint64_t secret, struct sink sink); /* NULL: no memory */
void ordering_free(struct ordering *ordering);
void ordering_arrive(struct ordering *ordering, struct mark mark, struct packet packet, uint32_t path, double now);
int64_t ordering_sent(const struct ordering *ordering); /* when the last packet with a stamp was sent, in stamps */
void ordering_deadline(struct ordering *ordering, double now);
double ordering_next_deadline(const struct ordering *ordering); /* -1: none */
void ordering_set_behind(struct ordering *ordering, bool is_behind);
void ordering_keepalive(struct ordering *ordering, uint32_t path, double now);
void ordering_path_up(struct ordering *ordering, uint32_t path, double now);
void ordering_path_down(struct ordering *ordering, uint32_t path, double now);
void ordering_flush(struct ordering *ordering);
void ordering_copy_out(struct ordering *ordering); /* copy all held packets out of the pool */
uint32_t ordering_held(const struct ordering *ordering);
bool ordering_waits(const struct ordering *ordering); /* whether a packet waits for a gap or its time; strays do not */
void ordering_drops(const struct ordering *ordering, uint64_t *dropped);

#endif
