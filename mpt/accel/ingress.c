/* Network to TUN: receive, check the sender, take off the GRE header, find the connection, put in order.
 *
 * The twin is mpt/data/ingress.py, and a datagram meets the functions in the same order. One system call receives many
 * datagrams, with UDP_GRO many of them in one buffer; they stay where they are, whoever keeps one holds a reference to its
 * buffer, and what was delivered in one wake-up is written at its end (deliver.c).
 */

#include "_native.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/socket.h>

#ifndef UDP_GRO
#define UDP_GRO 104 /* <linux/udp.h> */
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

enum { MESSAGES = 32, TURN_BYTES = 1 << 16 }; /* a turn is one system call, a wake-up some of them */
enum { WAKE_WORK = 1 << 20, WORK_DATAGRAM = 1024 }; /* octets, and what a datagram costs besides: a wake-up of about 1 ms,
                                                       for which keepalives and commands wait */
enum { BUFFERS = 64 }; /* 4 MB, there from the start; when held packets keep them all, these are copied out */

struct ingress {
    struct buffer *buffers, *pool; /* all, and those that nobody refers to */
    uint32_t *heard;
    uint32_t heard_count, heard_room;
    struct connection *waiting; /* of the last packet, if it or others have to wait for a gap to be filled */
    uint32_t wakes;
    struct mmsghdr messages[MESSAGES];
    struct iovec pieces[MESSAGES];
    struct sockaddr_in6 names[MESSAGES];
    union { struct cmsghdr aligned; uint8_t octets[2 * CMSG_SPACE(sizeof(int))]; } controls[MESSAGES];
};

struct ingress *ingress_new(void) {
    struct ingress *in = calloc(1, sizeof *in);
    if (in == NULL)
        return NULL;
    in->buffers = malloc(BUFFERS * sizeof *in->buffers);
    if (in->buffers == NULL) {
        free(in);
        return NULL;
    }
    memset(in->buffers, 0xFF, BUFFERS * sizeof *in->buffers); /* a flood that is the first to need them finds them in
                                                                 memory; zeros would not do, malloc knows such pages */
    for (uint32_t i = 0; i < BUFFERS; i++) {
        in->buffers[i].next = in->pool;
        in->pool = &in->buffers[i];
    }
    return in;
}

void ingress_free(struct ingress *in) {
    if (in == NULL)
        return;
    free(in->buffers);
    free(in->heard);
    free(in);
}

/* --- buffers --- */

static void unreference(struct ingress *in, struct buffer *buffer) {
    if (--buffer->references == 0) {
        buffer->next = in->pool;
        in->pool = buffer;
    }
}

void packet_release(void *context, struct packet packet) {
    struct mpt_datapath *dp = context;
    if (packet.buffer != NULL)
        unreference(dp->ingress, packet.buffer);
    else
        free(packet.data);
}

static struct buffer *take_buffer(struct mpt_datapath *dp) {
    struct ingress *in = dp->ingress;
    if (in->pool == NULL)
        delivery_write(dp);
    if (in->pool == NULL)
        for (struct connection *c = dp->connections; c < dp->connections + dp->connection_count; c++)
            if (c->order != NULL)
                ordering_own(c->order);
    struct buffer *buffer = in->pool;
    if (buffer != NULL) {
        in->pool = buffer->next;
        buffer->references = 1;
    }
    return buffer;
}

struct sink ingress_sink(struct mpt_datapath *dp) { return (struct sink){delivery_add, packet_release, dp}; }

/* --- a datagram's way to the reorder window --- */

static struct path *identify(struct mpt_datapath *dp, const struct source *source, const uint8_t *packet,
                             uint32_t length, int *reason) {
    unsigned version = ip_version(packet, length);
    bool known;
    *reason = MPT_INNER_TRUNCATED;
    if (version == 0)
        return NULL;
    struct flow *flow = flow_of(dp->ingress_flows, source, version, packet, &known);
    if (!known) {
        struct mpt_address sender = ip_source(packet), destination = ip_destination(packet);
        flow->found = NULL;
        flow->reason = MPT_INNER_SOURCE;
        if (same_address(&destination, &source->loop))
            flow->reason = MPT_LOOP; /* RFC 2784 section 2.4.1: the packet would come back to its encapsulator */
        else
            for (uint32_t i = 0; i < source->path_count; i++) {
                const struct connection *c = source->paths[i]->connection;
                if (!connection_reaches(c, &sender))
                    continue;
                bool ours = connection_is_here(c, &destination);
                if (flow->found == NULL || ours)
                    flow->found = source->paths[i]; /* unless another connection of this peer has the destination, too */
                if (ours)
                    break;
            }
    }
    *reason = flow->reason;
    return flow->found;
}

/* However many keepalives of a path come in a wake-up, control is told once. */
static void heard(struct mpt_datapath *dp, struct path *path, double now) {
    struct ingress *in = dp->ingress;
    dp->counters.keepalives_received++;
    if (path->connection->order != NULL)
        ordering_keepalive(path->connection->order, path->row.id, now);
    if (path->heard_at == in->wakes)
        return;
    path->heard_at = in->wakes;
    if (in->heard_count == in->heard_room) {
        uint32_t *more = realloc(in->heard, (in->heard_room + 64) * sizeof *more);
        if (more == NULL)
            return;
        in->heard = more;
        in->heard_room += 64;
    }
    in->heard[in->heard_count++] = path->row.id;
}

/* A keepalive is told to control; anything else that is no packet of the announced version is dropped. */
static void not_ip(
    struct mpt_datapath *dp, const struct source *source, const uint8_t *payload, uint32_t length, double now
) {
    if (length == 40)
        for (uint32_t i = 0; i < source->path_count; i++) {
            const uint8_t *keepalives = source->paths[i]->connection->row.keepalives;
            if (memcmp(payload, keepalives, 40) == 0 || memcmp(payload, keepalives + 40, 40) == 0) {
                heard(dp, source->paths[i], now);
                return;
            }
        }
    int reason = length == 0 ? MPT_INNER_TRUNCATED
        : payload[0] == 0xA1 ? MPT_KEEPALIVE_UNKNOWN
        : payload[0] >= 0xA0 ? MPT_COMMAND_ON_DATA_PORT : MPT_INNER_VERSION;
    dp->counters.ingress_dropped[reason]++;
}

static void decapsulate(struct mpt_datapath *dp, const struct source *source, struct buffer *buffer,
                        uint8_t *datagram, uint32_t length, unsigned outer_ecn, double now) {
    uint32_t version = 0, sequence = 0, offset;
    int sequenced = 0, reason;
    dp->counters.datagrams_received++;
    if (source == NULL) {
        dp->counters.ingress_dropped[MPT_UNKNOWN_SOURCE]++;
        return;
    }
    int header = mpt_gre_decode(datagram, length, &version, &sequenced, &sequence);
    if (header < 0) {
        dp->counters.ingress_dropped[-header]++;
        return;
    }
    offset = (uint32_t)header;
    uint8_t *packet = datagram + offset;
    length -= offset;
    if (length == 0 || packet[0] >> 4 != version) {
        not_ip(dp, source, packet, length, now);
        return;
    }
    struct path *path = identify(dp, source, packet, length, &reason);
    if (path == NULL) {
        dp->counters.ingress_dropped[reason]++;
        return;
    }
    struct mpt_path_counters *counters = path->row.counters;
    counters->packets_received++;
    counters->bytes_received += length;
    counters->last_received = now;
    if (outer_ecn) {
        int result = mpt_decapsulate_ecn(packet, outer_ecn);
        dp->counters.ecn_unexpected += result != 0;
        if (result < 0) {
            dp->counters.ingress_dropped[MPT_ECN_NOT_ECT]++;
            return;
        }
    }
    buffer->references++;
    struct packet kept = {packet, length, buffer};
    if (!sequenced || path->connection->order == NULL)
        delivery_add(dp, kept);
    else {
        path->arrived = sequence;
        path->heard_of = true;
        ordering_arrive(path->connection->order, sequence, kept, path->row.id, now);
        dp->ingress->waiting = ordering_waits(path->connection->order) ? path->connection : NULL;
    }
}

/* --- receiving --- */

static int compare(const struct source *source, int fd, const struct mpt_address *peer) {
    if (source->fd != fd)
        return source->fd < fd ? -1 : 1;
    return memcmp(&source->peer, peer, sizeof *peer);
}

static const struct source *source_of(const struct mpt_datapath *dp, int fd, const struct msghdr *message) {
    struct mpt_address peer;
    memset(&peer, 0, sizeof peer); /* the octets that IPv4 does not use are compared, too */
    const struct sockaddr_in6 *name = message->msg_name;
    if (message->msg_namelen >= sizeof(struct sockaddr_in) && name->sin6_family == AF_INET) {
        peer.version = 4;
        memcpy(peer.octets, &((const struct sockaddr_in *)message->msg_name)->sin_addr, 4);
    } else if (message->msg_namelen >= sizeof(struct sockaddr_in6) && name->sin6_family == AF_INET6) {
        peer.version = 6;
        memcpy(peer.octets, &name->sin6_addr, 16);
    }
    uint32_t low = 0, high = dp->listening.source_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int order = compare(&dp->listening.sources[middle], fd, &peer);
        if (order == 0)
            return &dp->listening.sources[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* What the kernel tells besides: the size of the datagrams in the buffer, 0 for a single one, and their ECN field. */
static uint32_t read_controls(struct msghdr *message, unsigned *ecn) {
    uint32_t size = 0;
    *ecn = 0;
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL; control = CMSG_NXTHDR(message, control)) {
        int value = 0;
        if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_TOS)
            *ecn = *CMSG_DATA(control) & 3; /* one octet */
        else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_TCLASS) {
            memcpy(&value, CMSG_DATA(control), sizeof value);
            *ecn = value & 3;
        } else if (control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_GRO) {
            memcpy(&value, CMSG_DATA(control), sizeof value);
            size = value > 0 ? (uint32_t)value : 0;
        }
    }
    return size;
}

/* A turn: one system call. Returns the work that it brought; nothing for an error, too, which names no datagram.
 *
 * A message may be one datagram or, joined by the kernel, forty; asking for many of the one and getting the other would
 * take more from this path than the reorder window can hold. So what is expected shrinks slowly and grows at once. */
static uint32_t receive(struct mpt_datapath *dp, struct listener *listener, double now) {
    struct ingress *in = dp->ingress;
    struct buffer *buffers[MESSAGES];
    unsigned room = 0, wanted = 1 + TURN_BYTES / (listener->message_length + 1);
    uint32_t work = 0, longest = listener->message_length / 2;
    for (; room < wanted && room < MESSAGES && (buffers[room] = take_buffer(dp)) != NULL; room++) {
        in->pieces[room] = (struct iovec){buffers[room]->data, MAX_PACKET};
        in->messages[room].msg_hdr = (struct msghdr){
            .msg_name = &in->names[room], .msg_namelen = sizeof in->names[room],
            .msg_iov = &in->pieces[room], .msg_iovlen = 1,
            .msg_control = &in->controls[room], .msg_controllen = sizeof in->controls[room],
        };
    }
    listener->done_at = in->wakes;
    if (room == 0)
        return 0; /* no memory, which says nothing about the socket */
    int got = recvmmsg(listener->fd, in->messages, room, MSG_DONTWAIT, NULL);
    if (got > 0)
        dp->counters.receives++;
    for (int i = 0; i < got; i++) {
        struct msghdr *message = &in->messages[i].msg_hdr;
        unsigned ecn;
        uint32_t length = in->messages[i].msg_len, size = read_controls(message, &ecn), at = 0;
        const struct source *source = source_of(dp, listener->fd, message);
        do {
            uint32_t left = length - at, step = size && size < left ? size : left;
            decapsulate(dp, source, buffers[i], buffers[i]->data + at, step, ecn, now);
            at += step;
            work += WORK_DATAGRAM + step;
        } while (at < length);
        longest = length > longest ? length : longest;
    }
    if (got > 0)
        listener->message_length = longest;
    bool is_behind = got > 0 && (unsigned)got == room;
    if (is_behind)
        listener->done_at = in->wakes - 1;
    if (listener->is_behind != is_behind) {
        listener->is_behind = is_behind;
        dp->listening.behind_count += is_behind ? 1 : -1u;
    }
    while (room > 0)
        unreference(in, buffers[--room]);
    return work;
}

/* Of the paths of `c` that gaps wait for and that may have more, the one that is the furthest behind. */
static struct path *laggard(const struct connection *c, uint32_t wake) {
    struct path *found = NULL;
    for (struct path *path = c->paths; path < c->paths + c->row.path_count; path++)
        if (path->row.usable && path->listener->done_at != wake
            && (found == NULL || (found->heard_of && (!path->heard_of || (int32_t)(path->arrived - found->arrived) < 0))))
            found = path;
    return found;
}

/* The socket of a path of `c` that was read, and not to its end. */
static struct listener *unfinished(const struct connection *c, uint32_t wake) {
    for (uint32_t i = 0; c != NULL && i < c->row.path_count; i++) {
        struct listener *listener = c->paths[i].listener;
        if (listener != NULL && listener->is_behind && listener->done_at != wake)
            return listener;
    }
    return NULL;
}

/* What fills a gap lies in the sockets of the other paths. While something waits for it, read the path that is the furthest
 * behind: paths that are read to their end one after the other, or in turns, whose messages are of any size, would run so
 * far ahead of each other that the reorder window could not hold it. */
uint32_t mpt_socket_readable(struct mpt_datapath *dp, int fd, double now) {
    struct ingress *in = dp->ingress;
    struct listener unknown = {.fd = fd}, *asked = find_listener(dp->listening.listeners, dp->listening.listener_count, fd);
    bool was_behind = dp->listening.behind_count > 0;
    uint32_t wake = ++in->wakes, work = 0;
    if (in->waiting != NULL && !ordering_waits(in->waiting->order))
        in->waiting = NULL; /* its time was over meanwhile */
    struct connection *waiting = in->waiting; /* the last that had to */
    in->heard_count = 0;
    if (asked == NULL)
        asked = &unknown;
    while (work < WAKE_WORK) {
        struct path *late = in->waiting != NULL ? laggard(in->waiting, wake) : NULL;
        struct listener *next = late != NULL ? late->listener : asked->done_at != wake ? asked : unfinished(waiting, wake);
        if (next == NULL)
            break;
        uint64_t before = late != NULL ? late->row.counters->packets_received : 0;
        work += receive(dp, next, now);
        if (late != NULL && late->row.counters->packets_received == before)
            next->done_at = wake; /* what it has is not what is waited for */
        if (in->waiting != NULL)
            waiting = in->waiting;
    }
    if (asked == &unknown && unknown.is_behind)
        dp->listening.behind_count--; /* its place in the table is still to come */
    if (was_behind != (dp->listening.behind_count > 0))
        tell_whether_behind(dp);
    delivery_write(dp);
    return in->heard_count;
}

void ingress_forget(struct ingress *in) { in->waiting = NULL; }

const uint32_t *mpt_heard(const struct mpt_datapath *dp) { return dp->ingress->heard; }
