/* A train: packets that leave together over one path, sealed as they go, in few system calls. */
#ifndef MPT_TRAIN_H
#define MPT_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "flight.h"
#include "table.h"

struct room;
struct departure { /* a packet in a train, with a reference to its cell */
    struct cell *cell;
    uint64_t position;   /* in the flight, once it is sealed */
    int32_t next;        /* of its train; -1: none */
    uint8_t tries;       /* how often the packet was sent before */
    struct room *hanging; /* it does not go over this path, if it is sent again */
    bool is_first;       /* the packet is counted as sent by it */
    bool is_pair;        /* it goes over two paths at once */
    bool is_repaired;    /* it is sent again if it is lost */
};
struct track { /* the way of a train: one path */
    const struct path *path;
    struct session *session;
    struct flight *flight;
    const struct flight_sink *sink;
    bool *cuts;          /* the kernel cuts runs here, as far as we know */
};
struct trains; /* the room in which they are sealed, one for all */
struct trains *trains_new(struct mpt_counters *counters); /* NULL: no memory */
void trains_free(struct trains *trains);
/* Send the departures from `first` on over `track`, in their order, each under way from then on: the references to their cells
 * are taken over. Return the first that was not sent, with the `error` for which it was refused; it and those behind it keep
 * their references, and their numbers may be used up. -1: all were sent. */
int32_t train_send(struct trains *trains, const struct track *track, struct departure *all, int32_t first, double now, int *error);
void train_count_sent(const struct path *path, const struct cell *cell); /* a packet that goes for the first time */

#endif
