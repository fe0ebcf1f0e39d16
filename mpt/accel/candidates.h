/* Streams that may take the place of the present one. Pure but for the memory of kept packets. */
#ifndef MPT_CANDIDATES_H
#define MPT_CANDIDATES_H

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"

struct stray { /* a packet whose number does not fit */
    uint32_t sequence;
    struct packet packet;
    uint32_t path;
    double arrival_time;
    uint64_t brought; /* packets that the present stream had brought by then */
};
struct order_drops { uint64_t late, duplicate, stray; };
struct candidate;
struct candidates {
    const struct mpt_tuning *tuning;
    uint32_t window;
    double max_delay;
    struct sink sink;
    struct order_drops *drops;
    struct candidate *all; /* the longest silent one first */
    uint32_t count, kept;  /* at most tuning->candidates; `kept` of their packets are kept */
};
bool candidates_init(struct candidates *candidates, const struct mpt_tuning *tuning, uint32_t window, double max_delay,
                     struct sink sink, struct order_drops *drops); /* false: no memory */
void candidates_destroy(struct candidates *candidates);
/* Take a stray. Returns how many packets are in `first`, in order, with which the stream goes on: 0 unless a candidate
 * takes over. `gives_way`: the present stream is silent, or the stray lies as far ahead as a burst of loss leads. */
uint32_t candidates_arrive(struct candidates *candidates, struct stray stray, bool gives_way, struct stray first[2]);
double candidates_next_deadline(const struct candidates *candidates); /* -1: none */
void candidates_deadline(struct candidates *candidates, double now, uint64_t brought);
void candidates_clear(struct candidates *candidates);
void candidates_copy_out(struct candidates *candidates); /* copy all kept packets out of the pool */

#endif
