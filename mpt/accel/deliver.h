/* Network to TUN, the last step: the packets that a wake-up delivers are joined, if they may be, and written. */
#ifndef MPT_DELIVER_H
#define MPT_DELIVER_H

#include "join.h"
#include "pool.h"

struct delivery;
struct delivery *delivery_new(int tun, int offloads, struct pool *pool, struct mpt_counters *counters); /* NULL: no memory */
void delivery_free(struct delivery *delivery);
void delivery_add(struct delivery *delivery, struct packet packet);
void delivery_write(struct delivery *delivery); /* write the packets added since the last call */
int delivery_offloads(const struct delivery *delivery); /* bits of enum mpt_offload that the TUN has not refused */

#endif
