/* The egress side of an adaptive connection: packets wait in one queue, and each leaves over the path on which it will arrive
 * first, as soon as that one has room. */
#ifndef MPT_ADAPTIVE_H
#define MPT_ADAPTIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "classes.h"
#include "flowqueue.h"
#include "receipts.h"
#include "repair.h"
#include "train.h"

enum { DEPARTURES = 256 };

struct adaptive;
struct yard { /* where trains are made up, one for all connections */
    struct cells cells;
    struct trains *trains;
    struct departure departures[DEPARTURES];
    uint32_t count;
    struct adaptive *touched[DEPARTURES]; /* the connections whose trains these are */
    uint32_t touched_count;
    struct mpt_counters *counters;
    const struct mpt_tuning *tuning;
    uint64_t secret; /* of the keys of flows */
};
struct adaptive { /* one connection; it outlives the tables */
    struct yard *yard;
    struct receipts *receipts;
    const struct connection *connection; /* its row; NULL: it does not send adaptively */
    struct room **all;       /* of the paths of its row */
    struct rooms rooms;
    uint32_t widest;         /* octets of the largest packet that an open path carries; UINT32_MAX if that does not matter */
    struct flow_queue queue;
    struct cell *first, *last; /* of the queue, but no path took them: they go before it */
    uint32_t pending, pending_octets; /* that is how many */
    uint32_t largest;        /* size of the largest datagram so far */
    struct repair repair;
    struct flight_sink sink;
    struct recent sent, copied;
    uint32_t *numbers;       /* the next ones, by key */
    uint64_t thin, realtime, copies, reports;
    double now;              /* of the wake-up */
    uint64_t refusals;       /* trains that sockets did not take whole */
    bool is_touched;         /* it has departures */
};
/* `receipts` of the connection: what goes earns reports. false: no memory. */
bool adaptive_init(struct adaptive *adaptive, struct yard *yard, struct receipts *receipts);
void adaptive_destroy(struct adaptive *adaptive);
/* Send as `connection` says from now on; `all` has the rooms of its paths. */
void adaptive_configure(struct adaptive *adaptive, const struct connection *connection, struct room **all);
void adaptive_paths_changed(struct adaptive *adaptive); /* which are open, how much they carry, or their limits */

struct offer { uint32_t flow; enum trait trait; const struct room *mapped; }; /* what the packets of a super-packet have in common */
struct offer adaptive_offer_of(const struct adaptive *adaptive, const uint8_t *packet, uint32_t length, const struct path *mapped);
/* Send a packet now, or let it wait: at least one open path carries it. The cell is taken over. */
void adaptive_offer(struct adaptive *adaptive, struct cell *cell, const struct offer *offer, double now);
void adaptive_pump(struct adaptive *adaptive, double now); /* send again what is due, then what waits, while paths have room */
double adaptive_deadline(const struct adaptive *adaptive); /* of the next adaptive_pump(); -1: nothing is due */
void adaptive_send_report(struct adaptive *adaptive, const uint8_t *message, uint32_t length, double now);
/* `bounded`: as far as the share of repair allows. Returns how many packets. */
uint32_t adaptive_rescue(struct adaptive *adaptive, struct room *room, double now, bool bounded);
struct cell *adaptive_take(struct adaptive *adaptive); /* a packet that waits leaves the connection; NULL: none waits */
static inline uint32_t adaptive_waiting(const struct adaptive *a) { return a->queue.packets + a->pending; }
bool adaptive_is_idle(const struct adaptive *adaptive);
void adaptive_count(const struct adaptive *adaptive, struct mpt_adaptive_counters *counters);

#endif
