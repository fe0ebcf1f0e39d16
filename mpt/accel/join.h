/* Segments in order, joined for the TUN. Pure. */
#ifndef MPT_JOIN_H
#define MPT_JOIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "packet.h"

enum { JOIN_MAX = 256 }; /* segments a join; 46 of 1400 octets fill it */

struct segment { /* the headers of a packet, read */
    const uint8_t *packet;
    uint32_t length, transport, headers;
    unsigned version, protocol;
    bool joinable, verified; /* `verified`: its transport checksum is right */
};
struct join {
    struct virtio_net_hdr vnet;
    uint8_t headers[128];
    struct segment first;
    uint32_t count, length, size; /* `length` of the joined packet, `size` of a segment's payload */
    bool closed, push; /* no packet may follow; the last has PSH */
    struct iovec pieces[JOIN_MAX + 2];
};
struct segment join_read(const uint8_t *packet, uint32_t length, int offloads);
void join_start(struct join *join, const struct segment *first);
bool join_add(struct join *join, struct segment *next);
int join_finish(struct join *join); /* make `vnet` and `pieces`; return how many pieces, the vnet header's first */

#endif
