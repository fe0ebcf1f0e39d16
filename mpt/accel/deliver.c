/* Network to TUN, the end of the way: what a wake-up has delivered is joined, where it may be, and written. */

#include "_native.h"

#include <errno.h>
#include <stdlib.h>

enum { WRITES = 1024 }; /* delivered packets that wait for the end of the wake-up */

struct delivery {
    uint32_t count;
    struct packet packets[WRITES];
    struct join join;
};

struct delivery *delivery_new(void) { return calloc(1, sizeof(struct delivery)); }
void delivery_free(struct delivery *delivery) { free(delivery); }

void delivery_add(void *context, struct packet packet) {
    struct mpt_datapath *dp = context;
    if (dp->delivery->count == WRITES)
        delivery_write(dp);
    dp->delivery->packets[dp->delivery->count++] = packet;
}

static void written(struct mpt_datapath *dp, ssize_t result, uint32_t packets) {
    if (result >= 0) {
        dp->counters.tun_writes++;
        dp->counters.packets_delivered += packets;
    } else if (errno == EAGAIN || errno == ENOBUFS)
        dp->counters.ingress_dropped[MPT_TUN_FULL] += packets;
    else
        dp->counters.tun_write_errors[errno_index(errno)] += packets;
}

static ssize_t write_pieces(struct mpt_datapath *dp, struct iovec *pieces, int count) {
    if (!(dp->offloads & MPT_VNET_HDR)) {
        pieces++;
        count--;
    }
    ssize_t result;
    do
        result = writev(dp->tun, pieces, count);
    while (result < 0 && errno == EINTR);
    return result;
}

static void write_alone(struct mpt_datapath *dp, const struct packet *packet) {
    struct vnet_header vnet = {.type = GSO_NONE};
    struct iovec pieces[2] = {{&vnet, VNET}, {packet->data, packet->length}};
    written(dp, write_pieces(dp, pieces, 2), 1);
}

/* Write `join`, which is of `packets` on, or when it is refused its packets one by one. What the kernel does not know at
 * all is never made again. */
static void write_join(struct mpt_datapath *dp, struct join *join, const struct packet *packets) {
    int pieces = join_finish(join);
    ssize_t result = write_pieces(dp, join->pieces, pieces);
    if (result < 0 && join->count > 1 && (errno == EINVAL || errno == EMSGSIZE || errno == ENOBUFS)) {
        if (errno == EINVAL)
            dp->offloads &= ~(join->first.protocol == TCP ? MPT_JOIN_TCP : MPT_JOIN_UDP);
        for (uint32_t i = 0; i < join->count; i++)
            write_alone(dp, &packets[i]);
    } else
        written(dp, result, join->count);
}

void delivery_write(struct mpt_datapath *dp) {
    struct delivery *d = dp->delivery;
    struct join *join = &d->join;
    for (uint32_t i = 0; i < d->count; i++) {
        struct segment next = join_read(d->packets[i].data, d->packets[i].length, dp->offloads);
        if (i > 0 && join_add(join, &next))
            continue;
        if (i > 0)
            write_join(dp, join, &d->packets[i - join->count]);
        join_start(join, &next);
    }
    if (d->count > 0)
        write_join(dp, join, &d->packets[d->count - join->count]);
    for (uint32_t i = 0; i < d->count; i++)
        packet_release(dp, d->packets[i]);
    d->count = 0;
}
