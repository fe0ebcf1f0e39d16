/* The orders of all connections of a table, and which of them hold packets. Pure but for the memory of these. */
#ifndef MPT_ORDERS_H
#define MPT_ORDERS_H

#include <stdbool.h>
#include <stdint.h>

#include "ordering.h"
#include "playout.h"
#include "table.h"

struct order { struct ordering *ordering; struct playout *playout; }; /* the second if the peer sends adaptively */
struct orders { /* of one table */
    const struct table *table;
    struct order *all; /* by connection. In prepared orders one without either: the old one stays, or there is no window */
    bool *is_listed;
    uint32_t *holding, holding_count; /* the connections whose orders hold packets, and some whose orders just did */
    bool is_behind; /* packets are read later than they came */
};
/* Make the orders of `table` that do not stand in `before`; false: no memory. */
bool orders_prepare(struct orders *orders, const struct orders *before, const struct table *table,
                    const struct mpt_tuning *tuning, uint64_t secret, struct sink sink);
void orders_free(struct orders *orders);
/* Take over the other orders from `before`. What goes with its connection delivers its packets, and is counted in `dropped`. */
void orders_commit(struct orders *orders, struct orders *before, uint64_t *dropped, double now);
void orders_path_set(struct orders *orders, const struct path *path, double now); /* it may bring packets, or not */
bool orders_has(const struct orders *orders, const struct path *path); /* its connection has a window */
void orders_arrive(struct orders *orders, const struct path *path, struct mark mark, struct packet packet, double now);
void orders_keepalive(struct orders *orders, const struct path *path, double now);
bool orders_waits(const struct orders *orders, uint32_t connection); /* a packet waits for a gap or its time */
int64_t orders_sent(const struct orders *orders, const struct path *path); /* as ordering_sent() */
/* Take what the peer of an adaptive connection says of its data, as playout_set(). */
void orders_set(struct orders *orders, uint32_t connection, double hold, int32_t ticks, bool acks);
void orders_measure(const struct orders *orders, uint32_t id, struct mpt_adaptive_counters *counters); /* as playout_count() */
void orders_deadline(struct orders *orders, double now);
double orders_next_deadline(const struct orders *orders); /* -1: nothing is held */
void orders_copy_out(struct orders *orders); /* copy all held packets out of the pool */
void orders_count(const struct orders *orders, uint64_t *dropped, uint64_t *held); /* add their counts */

#endif
