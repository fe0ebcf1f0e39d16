/* Reading and writing the headers of packets, and their checksums. Pure: no system call, no allocation. */
#ifndef MPT_PACKET_H
#define MPT_PACKET_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "_native.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* <linux/virtio_net.h> since Linux 6.2 */
#endif

enum { ICMP = 1, TCP = 6, UDP = 17, ICMPV6 = 58 };
enum { MAX_PACKET = 65535 };
enum { LEAST_IPV6 = 1280 }; /* octets that every link carries (RFC 8200 section 5) */
enum { VNET = sizeof(struct virtio_net_hdr) }; /* 10; its fields are in host byte order */

/* Offsets of header fields, in octets. */
enum { IP4_TOS = 1, IP4_LENGTH = 2, IP4_ID = 4, IP4_FRAGMENT = 6, IP4_PROTOCOL = 9, IP4_CHECKSUM = 10, IP4_SOURCE = 12,
       IP4_DESTINATION = 16, IP4_HEADER = 20 };
enum { IP6_LENGTH = 4, IP6_NEXT_HEADER = 6, IP6_SOURCE = 8, IP6_DESTINATION = 24, IP6_HEADER = 40 };
enum { TCP_SEQUENCE = 4, TCP_ACKNOWLEDGEMENT = 8, TCP_OFFSET = 12, TCP_FLAGS = 13, TCP_WINDOW = 14, TCP_CHECKSUM = 16,
       TCP_URGENT = 18, TCP_HEADER = 20 };
enum { UDP_LENGTH = 4, UDP_CHECKSUM = 6, UDP_HEADER = 8 };
enum { FIN = 0x01, SYN = 0x02, PSH = 0x08, ACK = 0x10, URG = 0x20, CWR = 0x80 }; /* of TCP_FLAGS */

static inline uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline void put16(uint8_t *p, uint32_t v) { p[0] = (uint8_t)(v >> 8); p[1] = (uint8_t)v; }
static inline void put32(uint8_t *p, uint32_t v) { put16(p, v >> 16); put16(p + 2, v); }

/* Sums are one's complement, of 16-bit words in memory order; fold() gives a number that memcpy can put into a packet. */
uint64_t sum_octets(const uint8_t *octets, size_t length, uint64_t sum);
static inline uint64_t sum_words(const uint8_t *octets, uint32_t count, uint64_t sum) { /* of 32 bits: a header's few */
    for (uint32_t i = 0; i < count; i++) {
        uint32_t word;
        memcpy(&word, octets + 4 * i, 4);
        sum += word;
    }
    return sum;
}
uint16_t fold(uint64_t sum);
static inline uint64_t sum16(uint64_t sum, uint32_t host) { /* add a number as it would lie in a packet */
    uint8_t octets[2] = {(uint8_t)(host >> 8), (uint8_t)host};
    uint16_t word;
    memcpy(&word, octets, 2);
    return sum + word;
}
uint64_t sum_pseudo(const uint8_t *ip, uint32_t protocol, uint32_t length);
unsigned ip_version(const uint8_t *packet, uint32_t length); /* 4, 6; 0 for anything else, a truncated packet included */
static inline uint8_t tos_octet(const uint8_t *packet) { /* of IPv4; of IPv6 the traffic class */
    return packet[0] >> 4 == 4 ? packet[IP4_TOS] : (uint8_t)(packet[0] << 4 | packet[1] >> 4);
}
/* Return the offset of the header above IP of a packet with a version, its protocol, and whether more fragments follow; 0: it
 * is a later fragment, or the extension headers are cut off. */
uint32_t ip_transport(const uint8_t *packet, uint32_t length, unsigned *protocol, bool *more);
struct mpt_address ip_source(const uint8_t *packet);
struct mpt_address ip_destination(const uint8_t *packet);
static inline bool same_address(const struct mpt_address *a, const struct mpt_address *b) {
    return a->version == b->version && memcmp(a->octets, b->octets, a->version == 4 ? 4 : 16) == 0;
}
bool in_network(const struct mpt_address *address, const struct mpt_network *network);

#endif
