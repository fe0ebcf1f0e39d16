/* Which path carries the next packet of an adaptive connection: the one over which it arrives first, of those with room. Pure. */
#ifndef MPT_ROOMS_H
#define MPT_ROOMS_H

#include <stdbool.h>
#include <stdint.h>

#include "flight.h"
#include "table.h"

struct room { /* one path: its limits, what is under way, and its turn in the pace. It outlives the tables */
    const struct mpt_tuning *tuning;
    struct mpt_path_limits limits;
    struct flight flight;
    double turn;          /* when the pace lets the next datagram go */
    double blocked_until; /* its socket was full */
    double limited_at;    /* when window or pace last held a packet back; 0: never, as below */
    double reported_at;   /* when the last record of it came */
    double told_at;       /* when control was last told of one */
    double progress_at;   /* when the peer was last told to have got further */
    double asked_at;      /* when its last packets were copied, or a probe went */
    uint32_t asked;       /* how often since the peer got further */
    uint64_t resent, copies; /* packets, since the beginning */
    uint32_t pending;     /* octets that are about to be sent: they count as under way */
    uint32_t pending_packets;
    bool cuts;            /* the kernel cuts runs here, as far as we know */
    const struct path *path; /* its row in the present table; NULL: it has none */
    int32_t first, last;  /* of the packets that are about to be sent; -1: none */
};
struct rooms { /* the open paths of one connection, in the order of its row */
    struct room *open[PATH_IDS], *live[PATH_IDS], *admitted[PATH_IDS];
    uint32_t open_count, live_count, admitted_count;
};
void room_init(struct room *room, const struct mpt_tuning *tuning); /* with the limits of a new path */
void rooms_changed(struct rooms *rooms); /* the limits, or `open` */
double room_arrival(const struct room *room); /* seconds, comparable between the paths of a connection */
bool room_has_window(const struct room *room, uint32_t size);
double room_opens_at(const struct room *room); /* when pace and socket let the next datagram go */
void room_went(struct room *room, uint32_t size, double now); /* a datagram goes: the turn of the next one comes later */

struct wanted { /* a datagram that wants a path */
    uint32_t size;       /* octets, as windows count */
    uint32_t length;     /* of its packet */
};
/* Return the path for bulk, an admitted one if one carries it; NULL: it waits, and the paths note that they held it back. */
struct room *rooms_for_bulk(const struct rooms *rooms, struct wanted wanted, double now);
/* Return the path of least arrival for what is sent again: not `besides`, in its pace, with the room of what bypasses the
 * window; NULL: it waits. And when the pace of one lets it go; -1: all wait for reports. */
struct room *rooms_for_repair(const struct rooms *rooms, struct wanted wanted, double now, const struct room *besides);
double rooms_repair_opens_at(const struct rooms *rooms, struct wanted wanted, const struct room *besides);
/* Return the live path of least arrival for what bypasses window and pace; NULL: none has room. */
struct room *rooms_at_once(const struct rooms *rooms, struct wanted wanted, double now);
/* Return the live path of least arrival on another line than `first`, for the copy of what went there, whatever its window
 * says; NULL: there is none. */
struct room *rooms_for_copy(const struct rooms *rooms, struct wanted wanted, double now, const struct room *first);
/* Return when a path lets bulk go, for which its window has room; -1: all wait for reports. */
double rooms_open_at(const struct rooms *rooms, struct wanted wanted);
double rooms_rate(const struct rooms *rooms); /* octets a second, of the live paths together */
double rooms_least_delay(const struct rooms *rooms); /* of the live ones, seconds */

enum { RECENT_PERIODS = 10 };
struct recent { int64_t period; uint64_t sums[RECENT_PERIODS], total; }; /* octets of the last second, to a tenth of it */
void recent_add(struct recent *recent, uint64_t octets, double now);
uint64_t recent_total(struct recent *recent, double now);

#endif
