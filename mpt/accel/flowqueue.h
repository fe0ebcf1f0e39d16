/* The queue of one tunnel: flows share it fairly, and none of their packets waits for long (RFC 8290, RFC 8289). Pure but for
 * the memory of the flows. */
#ifndef MPT_FLOWQUEUE_H
#define MPT_FLOWQUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "cell.h"
#include "flowkey.h"

struct flow_state { /* the queue of one flow, its CoDel, and what it had lately */
    struct flow_state *next; /* in its list */
    struct cell *first, *last;
    uint32_t octets;
    int32_t deficit;
    bool is_listed, is_dropping;
    uint32_t count, last_count;
    double first_above; /* when its packets will have waited for too long during an interval; 0: they do not */
    double next_drop;
    double period; /* when the measure of its octets began */
    double thick_until;      /* it is not thin before */
    uint32_t recent, before; /* in this period, and in the one just before */
};
struct flow_list { struct flow_state *first, *last; };
struct flow_queue {
    const struct mpt_tuning *tuning;
    double target, interval; /* seconds: the wait that is good, and how long a worse one may last */
    uint32_t limit;          /* packets */
    uint32_t packets, octets;
    struct flow_state urgent; /* goes before all others */
    struct flow_list fresh, old;
    struct flow_state **flows; /* by their keys, NULL: not seen; NULL: none was */
    uint64_t dropped, marked, overflowed;
    struct cells *cells;
};
void flow_queue_init(struct flow_queue *queue, const struct mpt_tuning *tuning, struct cells *cells);
struct cell *flow_queue_take(struct flow_queue *queue); /* a packet leaves; NULL: none waits */
void flow_queue_destroy(struct flow_queue *queue);
void flow_queue_set(struct flow_queue *queue, double target, double interval, uint32_t limit);
/* Note that a flow has a packet of `length` octets more. Return whether it is thin: it has been small for the thick
 * time, and none of its packets waits here. false also without memory. */
bool flow_queue_is_thin(struct flow_queue *queue, uint32_t flow, uint32_t length, uint32_t most, double now);
/* Return whether a flow had no more than `most` octets in this period, nor in the one just before. */
bool flow_queue_is_small(const struct flow_queue *queue, uint32_t flow, uint32_t most);
/* Let a packet of the flow cell->flow wait. Above the limit the longest queue loses its first one. false: no memory, and the
 * packet is the caller's. */
bool flow_queue_push(struct flow_queue *queue, struct cell *cell, bool is_urgent, double now);
/* Return the packet that goes next; NULL: there is none. What has waited for too long is marked, if its ends know marks, or
 * let go. */
struct cell *flow_queue_pop(struct flow_queue *queue, double now);

#endif
