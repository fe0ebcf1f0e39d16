/* See deliver.h. */

#include "deliver.h"

#include <errno.h>
#include <stdlib.h>

enum { WRITES = 1024 }; /* delivered packets that wait for the end of the wake-up */

struct delivery {
    int tun, offloads;
    struct pool *pool;
    struct mpt_counters *counters;
    uint32_t count;
    struct packet packets[WRITES];
    struct join join;
};

static void write_join(struct delivery *d, struct join *join, const struct packet *packets);
static void write_alone(struct delivery *d, const struct packet *packet);
static ssize_t write_pieces(const struct delivery *d, struct iovec *pieces, int count);
static void count_written(struct delivery *d, ssize_t result, uint32_t packets);

struct delivery *delivery_new(int tun, int offloads, struct pool *pool, struct mpt_counters *counters) {
    struct delivery *d = calloc(1, sizeof *d);
    if (d != NULL) {
        d->tun = tun;
        d->offloads = offloads & (MPT_VNET_HDR | MPT_JOIN_TCP | MPT_JOIN_UDP);
        d->pool = pool;
        d->counters = counters;
    }
    return d;
}

void delivery_free(struct delivery *d) { free(d); }

int delivery_offloads(const struct delivery *d) { return d->offloads; }

void delivery_add(struct delivery *d, struct packet packet) {
    if (d->count == WRITES)
        delivery_write(d);
    d->packets[d->count++] = packet;
}

void delivery_write(struct delivery *d) {
    struct join *join = &d->join;
    for (uint32_t i = 0; i < d->count; i++) {
        struct segment next = join_read(d->packets[i].data, d->packets[i].length, d->offloads);
        if (i > 0 && join_add(join, &next))
            continue;
        if (i > 0)
            write_join(d, join, &d->packets[i - join->count]);
        join_start(join, &next);
    }
    if (d->count > 0)
        write_join(d, join, &d->packets[d->count - join->count]);
    for (uint32_t i = 0; i < d->count; i++)
        pool_release(d->pool, d->packets[i]);
    d->count = 0;
}

/* Write `join`, whose packets begin at `packets`; if it is refused, write its packets one by one. A kind of join that the
 * kernel does not know is never made again. */
static void write_join(struct delivery *d, struct join *join, const struct packet *packets) {
    int pieces = join_finish(join);
    ssize_t result = write_pieces(d, join->pieces, pieces);
    if (result < 0 && join->count > 1 && (errno == EINVAL || errno == EMSGSIZE || errno == ENOBUFS)) {
        if (errno == EINVAL)
            d->offloads &= ~(join->first.protocol == TCP ? MPT_JOIN_TCP : MPT_JOIN_UDP);
        for (uint32_t i = 0; i < join->count; i++)
            write_alone(d, &packets[i]);
    } else
        count_written(d, result, join->count);
}

static void write_alone(struct delivery *d, const struct packet *packet) {
    struct virtio_net_hdr vnet = {.gso_type = VIRTIO_NET_HDR_GSO_NONE};
    struct iovec pieces[2] = {{&vnet, VNET}, {packet->data, packet->length}};
    count_written(d, write_pieces(d, pieces, 2), 1);
}

static ssize_t write_pieces(const struct delivery *d, struct iovec *pieces, int count) {
    if (!(d->offloads & MPT_VNET_HDR)) {
        pieces++;
        count--;
    }
    ssize_t result;
    do
        result = writev(d->tun, pieces, count);
    while (result < 0 && errno == EINTR);
    return result;
}

static void count_written(struct delivery *d, ssize_t result, uint32_t packets) {
    if (result >= 0) {
        d->counters->tun_writes++;
        d->counters->packets_delivered += packets;
    } else if (errno == EAGAIN || errno == ENOBUFS)
        d->counters->ingress_dropped[MPT_TUN_FULL] += packets;
    else
        d->counters->tun_write_errors[errno_index(errno)] += packets;
}
