/* The native data path from the inside. Nothing here is global: everything hangs off one struct mpt_datapath.
 *
 *   packet.c    reading headers, checksums             pure: no system call, no allocation
 *   schedule.c  the weighted cycle                     pure
 *   split.c     a super-packet of the TUN, cut         pure
 *   join.c      segments in order, joined for the TUN  pure
 *   reorder.c   the reorder window                     pure but for the memory of what it holds
 *   equalize.c  the delay line before it               as above
 *   egress.c, ingress.c, deliver.c                     the system calls
 *   datapath.c  the table, the counters
 */
#ifndef MPT_NATIVE_H
#define MPT_NATIVE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include "_api.h"

enum { TCP = 6, UDP = 17 };
enum { GRE_ROOM = 8 };       /* the longest GRE header that we send */
enum { VNET = 10 };          /* struct virtio_net_hdr */
enum { MAX_PACKET = 65535 };
enum { HEADER_ROOM = 256 };  /* IP and transport header of a segment: 60 + 60 for IPv4, 40 + 60 and extensions for IPv6 */

/* struct virtio_net_hdr of <linux/virtio_net.h>, in host byte order, unless TUNSETVNETLE says otherwise. */
struct vnet_header {
    uint8_t flags, type;
    uint16_t header_length, size, checksum_start, checksum_offset;
};
enum { VNET_NEEDS_CHECKSUM = 1 };
enum { GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_UDP_L4 = 5, GSO_ECN = 0x80 };

/* --- packet.c --- */

static inline uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline void put16(uint8_t *p, uint32_t v) { p[0] = (uint8_t)(v >> 8); p[1] = (uint8_t)v; }
static inline void put32(uint8_t *p, uint32_t v) { put16(p, v >> 16); put16(p + 2, v); }

/* Sums are one's complement, of 16-bit words in memory order; fold() gives what memcpy can put into a packet. */
uint64_t sum_octets(const uint8_t *octets, size_t length, uint64_t sum);
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
    return packet[0] >> 4 == 4 ? packet[1] : (uint8_t)(packet[0] << 4 | packet[1] >> 4);
}
struct mpt_address ip_source(const uint8_t *packet);
struct mpt_address ip_destination(const uint8_t *packet);
static inline bool same_address(const struct mpt_address *a, const struct mpt_address *b) {
    return a->version == b->version && memcmp(a->octets, b->octets, a->version == 4 ? 4 : 16) == 0;
}
bool in_network(const struct mpt_address *address, const struct mpt_network *network);

/* --- schedule.c --- */

struct cycle_entry { uint32_t index, weight, picks; };
void cycle_start(struct cycle_entry *entries, uint32_t count);
uint32_t cycle_next(struct cycle_entry *entries, uint32_t count); /* count >= 1; the index that is next */

/* --- split.c --- */

struct split {
    const uint8_t *packet;
    uint32_t length, transport, headers, size, segments;
    unsigned version, protocol;
};
bool complete_checksum(const struct vnet_header *vnet, uint8_t *packet, uint32_t length);
bool split_start(struct split *split, const struct vnet_header *vnet, const uint8_t *packet, uint32_t length);
/* Write the headers of segment `i`, split->headers octets; its payload is `*payload` of the octets returned. */
uint32_t split_segment(const struct split *split, uint32_t i, uint8_t *headers, const uint8_t **payload);

/* --- join.c --- */

enum { JOIN_MAX = 256 }; /* segments a join; 46 of 1400 octets fill it */

struct segment { /* what join.c has read of a packet */
    const uint8_t *packet;
    uint32_t length, transport, headers;
    unsigned version, protocol;
    bool joinable, verified; /* `verified` its transport checksum was found right */
};
struct join {
    struct vnet_header vnet;
    uint8_t headers[128];
    struct segment first;
    uint32_t count, length, size; /* `length` of the joined packet, `size` of a segment's payload */
    bool closed, push; /* nothing may follow; the last has PSH */
    struct iovec pieces[JOIN_MAX + 2];
};
struct segment join_read(const uint8_t *packet, uint32_t length, int offloads);
void join_start(struct join *join, const struct segment *first);
bool join_add(struct join *join, struct segment *next);
int join_finish(struct join *join); /* makes `vnet` and `pieces`; returns how many pieces, the vnet header's the first */

/* --- reorder.c --- */

struct buffer { /* what one receive call has filled; packets in it that are kept hold a reference */
    struct buffer *next; /* in the pool */
    uint32_t references;
    uint8_t data[MAX_PACKET + 1];
};
struct packet {
    uint8_t *data;
    uint32_t length;
    struct buffer *buffer; /* NULL: `data` was allocated for it alone */
};
struct sink { /* where packets go */
    void (*deliver)(void *context, struct packet packet);
    void (*release)(void *context, struct packet packet);
    void *context;
};
void packet_own(struct sink *sink, struct packet *packet); /* copy it out of its buffer */

struct equalizer;
struct reorder;
struct reorder *reorder_new(uint32_t window, double max_delay, uint64_t secret, struct sink sink,
                            struct equalizer *equalizer);
void reorder_free(struct reorder *reorder);
/* `arrived` is when the packet came, `now` or before. */
void reorder_arrive(
    struct reorder *reorder, uint32_t sequence, struct packet packet, uint32_t path, double now, double arrived
);
void reorder_deadline(struct reorder *reorder, double now);
double reorder_next_deadline(const struct reorder *reorder); /* -1: none */
bool reorder_path_up(struct reorder *reorder, uint32_t path, double now); /* false: no memory */
void reorder_path_down(struct reorder *reorder, uint32_t path);
void reorder_flush(struct reorder *reorder);
void reorder_own(struct reorder *reorder); /* copy what is held out of its buffers */
uint32_t reorder_held(const struct reorder *reorder);
void reorder_drops(const struct reorder *reorder, uint64_t *dropped);
void reorder_set_max_delay(struct reorder *reorder, double max_delay);

/* --- equalize.c --- */

void equalizer_came_late(struct equalizer *equalizer, uint32_t path);
void equalizer_gap_filled(struct equalizer *equalizer, uint32_t path, uint32_t waiting_path, double later);

struct ordering; /* the equalizer and the reorder window of one connection, one behind the other */
struct ordering *ordering_new(uint32_t window, double max_delay, uint64_t secret, struct sink sink);
void ordering_free(struct ordering *ordering);
void ordering_arrive(struct ordering *ordering, uint32_t sequence, struct packet packet, uint32_t path, double now);
void ordering_deadline(struct ordering *ordering, double now);
double ordering_next_deadline(const struct ordering *ordering); /* -1: none */
void ordering_set_behind(struct ordering *ordering, bool is_behind);
void ordering_keepalive(struct ordering *ordering, uint32_t path, double now);
void ordering_path_up(struct ordering *ordering, uint32_t path, double now);
void ordering_path_down(struct ordering *ordering, uint32_t path);
void ordering_flush(struct ordering *ordering);
void ordering_own(struct ordering *ordering);
uint32_t ordering_held(const struct ordering *ordering);
bool ordering_waits(const struct ordering *ordering); /* for a gap or for its time; strays wait for nothing */
void ordering_drops(const struct ordering *ordering, uint64_t *dropped);

/* --- datapath.c --- */

struct connection;
struct listener { /* a socket; sorted by number */
    int fd;
    bool is_behind;          /* it has more than we have taken */
    uint32_t message_length; /* of the longest of late: tells how many to ask for */
    uint32_t done_at;        /* the wake-up in which nothing more was to be had from it */
};
struct path {
    struct mpt_path_row row;
    struct connection *connection;
    struct listener *listener; /* NULL: no socket */
    bool segment;          /* UDP_SEGMENT works here as far as we know */
    bool refuses;          /* the last thing it was to send did not go */
    bool heard_of;         /* `arrived` holds */
    uint32_t arrived;      /* the sequence number of the last packet that came over it */
    uint32_t heard_at;     /* the wake-up in which control was last told of a keepalive */
    int32_t first, last;   /* its packets in the egress batch; -1: none */
};
struct connection {
    struct mpt_connection_row row; /* its pointers point into `storage` */
    void *storage;
    struct path *paths;
    struct cycle_entry *cycle;
    uint32_t cycle_count;
    uint32_t sequence, batch_sequence; /* the next one, and the first one of the batch */
    uint32_t batch_limit; /* packets that may leave path by path: well within the peer's reorder window, if that is ours */
    bool batched;
    struct ordering *order; /* NULL: no window */
};
struct source { /* one outer address that may send to one socket; sorted by socket and address */
    int fd;
    struct mpt_address peer, loop;
    struct path **paths;
    uint32_t path_count;
};
struct listening { /* what the sockets are listened to for */
    struct source *sources;
    struct path **paths; /* of the sources */
    struct listener *listeners;
    uint32_t source_count, listener_count, behind_count;
};
struct flow { /* one entry of the caches of inner address pairs */
    const void *owner; /* the source, or the data path for egress; NULL: empty */
    uint8_t version, reason;
    uint8_t addresses[32];
    void *found;
};
enum { FLOWS = 1024 }; /* entries of a cache; a pair that falls on another's place takes it */

struct egress;
struct ingress;
struct delivery;
struct mpt_datapath {
    int tun, offloads;
    uint64_t secret; /* of the hashes */
    struct connection *connections;
    uint32_t connection_count;
    struct listening listening;
    struct flow egress_flows[FLOWS], ingress_flows[FLOWS];
    struct egress *egress;
    struct ingress *ingress;
    struct delivery *delivery;
    struct mpt_counters counters;
};
struct flow *flow_of(struct flow *cache, const void *owner, unsigned version, const uint8_t *packet, bool *known);
struct listener *find_listener(struct listener *listeners, uint32_t count, int fd);
void tell_whether_behind(struct mpt_datapath *datapath);
bool connection_is_here(const struct connection *connection, const struct mpt_address *address);
bool connection_reaches(const struct connection *connection, const struct mpt_address *address);
static inline unsigned errno_index(int number) { return number > 0 && number < MPT_ERRNOS ? (unsigned)number : 0; }

struct egress *egress_new(void);
void egress_free(struct egress *egress);
struct ingress *ingress_new(void);
void ingress_free(struct ingress *ingress);
struct sink ingress_sink(struct mpt_datapath *datapath);
void packet_release(void *datapath, struct packet packet);
void ingress_forget(struct ingress *ingress); /* the connections go */

struct delivery *delivery_new(void);
void delivery_free(struct delivery *delivery);
void delivery_add(void *datapath, struct packet packet);
void delivery_write(struct mpt_datapath *datapath); /* write what was added since the last call */

#endif
