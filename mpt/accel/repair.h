/* Sending again: what a path has lost, what hangs on a path that has fallen silent, and the end of a burst. Pure. */
#ifndef MPT_REPAIR_H
#define MPT_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "rooms.h"

struct repair_queue { /* packets that wait for room, over another path than `hanging` */
    struct room *hanging; /* NULL: over any */
    struct cell *first, *last;
};
struct repair { /* of one connection */
    const struct mpt_tuning *tuning;
    struct rooms *rooms;
    struct recent *sent; /* by all its paths */
    struct recent again;
    struct repair_queue queues[PATH_IDS + 1]; /* none is empty */
    uint32_t queue_count;
    uint64_t resent, late, refused; /* packets */
    struct cells *cells;
    uint32_t widest;     /* octets of the largest packet that some path carries, as in struct adaptive */
    /* Send a packet again over a path; the reference is taken over. */
    void (*send)(void *context, struct room *room, struct cell *cell, struct room *hanging);
    void *context;
};
void repair_clear(struct repair *repair); /* let go of what waits */
void repair_lost(struct repair *repair, const struct under_way *entry, double now); /* let it go again, if it is repaired */
/* Let everything that hangs on a path go over others, too, once; `bounded`: as far as the share of repair allows. Return how
 * many packets these are. */
uint32_t repair_copy(struct repair *repair, struct room *hanging, double now, bool bounded);
void repair_go(struct repair *repair, double now); /* send what waits, as far as there is room */
void repair_return(struct repair *repair, struct cell *cell, struct room *hanging); /* its socket was full: it is the first again */
double repair_deadline(const struct repair *repair); /* of the next repair_go(); -1: nothing waits */
/* Return when a path has brought no news for too long, so that its last packets may be lost; -1: none is under way. */
double repair_tail_due(const struct room *room);

#endif
