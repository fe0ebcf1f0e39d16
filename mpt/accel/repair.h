/* Sending again: what a path has lost, what hangs on a path that has fallen silent, and the end of a burst. Pure. */
#ifndef MPT_REPAIR_H
#define MPT_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "rooms.h"

struct repair { /* of one connection */
    struct rooms *rooms;
    struct recent *sent; /* by all its paths */
    struct recent again;
    struct cell *first, *last; /* lost, and to be sent again */
    uint64_t resent, late, refused; /* packets */
    struct cells *cells;
    uint32_t widest;     /* octets of the largest packet that some path carries */
    /* Send a packet again over a path; the reference is taken over. */
    void (*send)(void *context, struct room *room, struct cell *cell, uint8_t tries);
    void *context;
};
void repair_clear(struct repair *repair); /* let go of what is to be sent again */
void repair_lost(struct repair *repair, const struct under_way *entry); /* a path has lost it */
void repair_go(struct repair *repair, double now); /* send what was lost, as far as sockets have room */
void repair_return(struct repair *repair, struct cell *cell); /* its socket was full: it is the first again */
/* Send everything that hangs on a path over others, once; `bounded`: as far as the share of repair allows. Return how many
 * packets that were. */
uint32_t repair_copy(struct repair *repair, struct room *hanging, double now, bool bounded);
/* Return when a path has brought no news for too long, so that its last packets may be lost; -1: none is under way. */
double repair_tail_due(const struct room *room);

#endif
