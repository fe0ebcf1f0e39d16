/* A super-packet of the TUN, cut. Pure. */
#ifndef MPT_SPLIT_H
#define MPT_SPLIT_H

#include <stdbool.h>
#include <stdint.h>

#include "packet.h"

enum { HEADER_ROOM = 256 }; /* IP and transport header of a segment: 60 + 60 for IPv4, 40 + 60 and extensions for IPv6 */

struct split {
    const uint8_t *packet;
    uint32_t length, transport, headers, size, segments;
    unsigned version, protocol;
};
bool complete_checksum(const struct virtio_net_hdr *vnet, uint8_t *packet, uint32_t length);
bool split_start(struct split *split, const struct virtio_net_hdr *vnet, const uint8_t *packet, uint32_t length);
/* Write the headers of segment `i`, split->headers octets. Return the length of its payload, which is at `*payload`. */
uint32_t split_segment(const struct split *split, uint32_t i, uint8_t *headers, const uint8_t **payload);

#endif
