/* What is under way on one path: every datagram with a packet or a probe, until the peer has said what became of it. Pure but
 * for its memory. */
#ifndef MPT_FLIGHT_H
#define MPT_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "cell.h"
#include "session.h"

enum { FLIGHT_MOST = 16384, FLIGHT_PARTS = 4 }; /* datagrams; sessions that they may be of */

/* Return the octets with which windows count the datagram of a content. */
static inline uint32_t datagram_size(uint32_t content) { return content + SEAL_OVERHEAD + OUTER; }

struct under_way {
    struct cell *cell;   /* the packet, with a reference; NULL: it is not sent again */
    double time;         /* of sending */
    uint32_t size;       /* octets, as windows count; 0: it is not under way any more */
    uint8_t tries;       /* how often the packet had been sent before */
    bool is_copied;      /* it is under way over another path, too */
    bool is_pair;        /* the same, as both went at once: see cell->pair */
};
struct flight_part { /* the numbers of one session in a row */
    uint64_t space;      /* whose numbers they are: see numbers_of() */
    bool is_over;        /* it has ended */
    bool has_clock;      /* of the last record: `clock` */
    uint32_t clock;
    uint64_t first, end; /* its numbers */
    uint64_t unsettled;  /* from this number on no record has told of them */
    uint64_t position;   /* of the first */
};
struct flight { /* zeros at first */
    struct under_way *ring; /* by position; `room` of them, a power of two */
    uint32_t room;
    uint64_t base, head; /* positions: of the oldest under way, and of the next */
    uint32_t octets, packets; /* under way */
    uint64_t lost;       /* datagrams, since the beginning */
    struct flight_part parts[FLIGHT_PARTS]; /* the oldest first */
    uint32_t part_count;
};
struct flight_sink { /* is told of what was lost; the reference to its cell is let go after that */
    void (*lost)(void *context, const struct under_way *entry);
    struct cells *cells;
    void *context;
};
/* Return the space of the numbers of a path id in a session, which has the index `peer_index` in the datagrams. */
static inline uint64_t numbers_of(uint32_t peer_index, uint32_t path_id) { return (uint64_t)peer_index << 8 | path_id; }
struct settled { uint64_t octets; uint32_t lost; bool is_further; }; /* by one record */

void flight_destroy(struct flight *flight, struct cells *cells);
/* Note a datagram with a number of a space that is greater than all before; the reference to its cell is taken over. Return
 * its position. When there is no room, or no memory for more, the oldest is lost. */
uint64_t flight_add(struct flight *flight, const struct flight_sink *sink, uint64_t space, uint64_t number,
                    const struct under_way *entry);
void flight_take_back(struct flight *flight, struct cells *cells, uint64_t position); /* it was not sent */
/* Whether a record of `space` that the peer made at `clock` is newer than all before; then it is the newest. */
bool flight_is_news(struct flight *flight, uint64_t space, uint32_t clock);
/* Note what a record says: every number up to `settled`, the low half, has arrived or is in `ranges`. What was sent with a
 * session before this one, and `old_session` seconds before what has arrived, is lost, too. */
struct settled flight_acknowledge(struct flight *flight, const struct flight_sink *sink, uint64_t space, uint32_t settled,
                                  const struct mpt_range *ranges, uint32_t count, double old_session);
void flight_end(struct flight *flight, const struct flight_sink *sink, uint64_t space); /* it has ended: all is lost */
void flight_end_all(struct flight *flight, const struct flight_sink *sink); /* its path is gone: all is lost */
/* Return the next entry under way from `*position` on, and step behind it; begin with `flight->base`. NULL: no more. */
struct under_way *flight_next(struct flight *flight, uint64_t *position);
const struct under_way *flight_oldest(const struct flight *flight); /* NULL: nothing is under way */

#endif
