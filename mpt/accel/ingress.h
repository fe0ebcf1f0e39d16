/* Network to TUN. */
#ifndef MPT_INGRESS_H
#define MPT_INGRESS_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "deliver.h"
#include "table.h"
#include "unseal.h"

struct ingress;
struct ingress *ingress_new(const struct mpt_tuning *tuning, uint64_t secret, struct pool *pool, struct delivery *delivery,
                            struct unsealer *unsealer, struct mpt_counters *counters); /* NULL: no memory */
void ingress_free(struct ingress *ingress);
bool ingress_prepare(struct ingress *ingress, const struct table *table); /* for ingress_commit(); false: no memory */
/* Use the prepared table. A connection that stays keeps its held packets; if it goes, they are delivered first. */
void ingress_commit(struct ingress *ingress, double now);
void ingress_share_set(struct ingress *ingress, const struct path *path, double now); /* it is usable, or not */
void ingress_remote_set(struct ingress *ingress, const struct path *path); /* a sealed path has another socket and peer */
uint32_t ingress_socket_readable(struct ingress *ingress, int fd, double now); /* returns the work, in octets */
uint32_t ingress_sockets(const struct ingress *ingress, struct pollfd *polled); /* list all; returns how many */
/* Take what the peer of an adaptive connection, a place in the table, says of the order of its data: playout_set(). */
void ingress_set_order(struct ingress *ingress, uint32_t connection, double hold, int32_t ticks, bool acks);
void ingress_measure(const struct ingress *ingress, uint32_t id, struct mpt_adaptive_counters *counters); /* its order's */
void ingress_deadline_reached(struct ingress *ingress, double now);
double ingress_next_deadline(const struct ingress *ingress); /* -1: nothing is held */
void ingress_count(const struct ingress *ingress, struct mpt_counters *counters); /* add the counts of its orderings */

#endif
