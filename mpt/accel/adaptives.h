/* The adaptive connections of a tunnel: their senders and receipts, and the reports that go between two ends. */
#ifndef MPT_ADAPTIVES_H
#define MPT_ADAPTIVES_H

#include <stdbool.h>
#include <stdint.h>

#include "adaptive.h"
#include "events.h"
#include "receipts.h"

struct watched; /* one adaptive connection; it outlives the tables in which it is adaptive */
struct adaptives {
    struct yard yard;
    const struct mpt_tuning *tuning;
    bool cuts;
    struct path_states *states;
    struct events *events;
    struct watched **by_id;  /* by the id of the connection; NULL: it was not adaptive */
    uint32_t room;
    struct watched **listed; /* those that may have to do something */
    uint32_t listed_count, listed_room;
    const struct table *table;
    struct mpt_counters *counters;
    void (*set_order)(void *context, uint32_t index, double hold, int32_t playout, bool acks); /* what a peer says of its data */
    void (*leave)(void *context, uint32_t connection, struct cell *cell); /* what waited where nothing adapts any more */
    void *order_context, *leave_context;
};
/* `cuts`: the kernel cuts runs of datagrams. false: no memory. */
bool adaptives_init(struct adaptives *all, const struct mpt_tuning *tuning, uint64_t secret, bool cuts,
                    struct path_states *states, struct events *events, struct mpt_counters *counters);
void adaptives_destroy(struct adaptives *all); /* while the states of the paths still stand */
/* Make what the connections of a table need that are adaptive. false: no memory. Nothing that is used changes. */
bool adaptives_prepare(struct adaptives *all, const struct table *table);
void adaptives_commit(struct adaptives *all, const struct table *table); /* use it; it is the present one */
/* Return the sender of a connection; NULL: it goes by the cycle. */
struct adaptive *adaptives_sender(const struct adaptives *all, const struct connection *connection);
void adaptives_will_act(struct adaptives *all, const struct connection *connection); /* something was offered to its sender */
/* The peer of a path is elsewhere now: what is under way to where it was is lost. */
void adaptives_moved(struct adaptives *all, const struct path *path);
void adaptives_path_changed(struct adaptives *all, const struct path *path); /* whether it is usable, or how much it carries */
void adaptives_go(struct adaptives *all, double now); /* send the reports and the packets that may go now */
double adaptives_deadline(const struct adaptives *all); /* of the next adaptives_go(); -1: nothing is due */

/* --- what has come --- */
void adaptives_arrived(struct adaptives *all, const struct connection *connection, const struct receipt *receipt, double now);
/* Take a report of the peer. Return 0, or the reason to drop it. */
int adaptives_feedback(struct adaptives *all, const struct connection *connection, const uint8_t *octets, uint32_t length, double now);
void adaptives_session_ended(struct adaptives *all, uint32_t connection, uint32_t index, uint32_t peer_index);
/* Note that a probe was sent as a message over `path`, with this number. */
void adaptives_probe_sent(struct adaptives *all, const struct path *path, uint64_t number, uint32_t length, double now);

/* --- control --- */
void adaptives_set_limits(struct adaptives *all, const struct mpt_path_limits *limits, uint32_t count,
                          const struct mpt_order_limits *orders, uint32_t order_count, double now);
uint32_t adaptives_rescue(struct adaptives *all, uint32_t path, double now, bool bounded);
void adaptives_flight(const struct adaptives *all, uint32_t path, struct mpt_flight *flight);
void adaptives_count(const struct adaptives *all, uint32_t connection, struct mpt_adaptive_counters *counters);
void adaptives_add_counts(const struct adaptives *all, struct mpt_counters *counters); /* of all queues */

#endif
