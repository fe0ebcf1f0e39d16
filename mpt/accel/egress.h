/* TUN to network. */
#ifndef MPT_EGRESS_H
#define MPT_EGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "adaptives.h"
#include "table.h"

struct egress;
struct egress *egress_new(int tun, int offloads, const struct mpt_tuning *tuning, uint64_t secret, struct adaptives *adaptives,
                          struct mpt_counters *counters); /* NULL: no memory */
void egress_free(struct egress *egress);
bool egress_prepare(struct egress *egress, const struct table *table); /* for egress_commit(); false: no memory */
void egress_cancel(struct egress *egress); /* forget the prepared table */
void egress_commit(struct egress *egress); /* use the prepared table; a connection that stays keeps its numbers */
void egress_share_changed(struct egress *egress, const struct path *path); /* its weight, or whether it is usable */
void egress_mtu_changed(struct egress *egress, const struct path *path);
void egress_peers_changed(struct egress *egress); /* packets to other addresses than before would come back */
uint32_t egress_tun_readable(struct egress *egress, double now); /* return the work, in octets */
/* Send a packet by the cycle that waited with a connection, named by its id, which adapts no more. The cell is taken over. */
void egress_send(struct egress *egress, uint32_t id, struct cell *cell);
bool egress_cuts(const struct egress *egress); /* whether the kernel and every usable link cut runs of datagrams */

#endif
