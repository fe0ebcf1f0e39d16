/* TUN to network: read, cut, find the connection, pick a path, put the GRE header before it, send.
 *
 * The twin is mpt/data/egress.py, and a packet meets the functions in the same order. The difference is the batch: packets
 * are read until the TUN is empty or the batch is full, then every path sends its own in as few system calls as it can.
 * Payload is never copied: the kernel gathers headers and payload from where they lie.
 */

#include "_native.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* <linux/udp.h> */
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

enum { READS = 256, WAKE_WORK = 1 << 20, WORK_PACKET = 1024 }; /* octets, and what a packet costs besides: a wake-up of
                                                                 about 1 ms, for which keepalives and commands wait */
enum { PACKETS = 256 };  /* a batch */
enum { READ_ROOM = MAX_PACKET + 64, HEADROOM = 16 };
enum { ARENA = 8 * (READ_ROOM + 2 * HEADROOM) }; /* what a batch has read: small enough for the cache of a core */
enum { MESSAGES = 64 };
enum { SEGMENTS = 63 }; /* of a run: UDP_MAX_SEGMENTS is 64 or more, but old kernels counted the headers, too */
enum { RUN_BYTES = 65535 - 14 - 40 - 8 }; /* so that with its headers it is no longer than a link takes in one piece */

enum state { PENDING, SENT, FAILED };

struct outgoing {
    struct path *path;
    uint8_t *head; /* GRE header, and the headers of a segment or the whole of a packet */
    const uint8_t *payload; /* of a segment */
    uint32_t head_length, payload_length, gre_length, number;
    int32_t next; /* on the same path; -1: none */
    enum state state;
    uint8_t mark; /* the TOS octet */
    uint8_t room[GRE_ROOM + HEADER_ROOM];
};

union control { /* room for the ancillary data of a message: the size of its segments, its TOS octet */
    struct cmsghdr aligned;
    uint8_t octets[CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(int))];
};
struct run { int32_t first; uint32_t count; }; /* packets that one message carries */

struct egress {
    uint32_t count, used;
    uint32_t touched_count;
    struct path *touched[PACKETS];
    struct outgoing packets[PACKETS];
    struct run runs[MESSAGES];
    struct mmsghdr messages[MESSAGES];
    struct iovec pieces[2 * PACKETS];
    union control controls[MESSAGES];
    uint8_t arena[ARENA];
};

struct egress *egress_new(void) { return calloc(1, sizeof(struct egress)); }
void egress_free(struct egress *egress) { free(egress); }

/* --- what goes wrong --- */

static bool local_trouble(int error) { return error == EAGAIN || error == ENOBUFS || error == EMSGSIZE; }

static uint32_t size_of(const struct outgoing *o) { return o->head_length + o->payload_length; }

static void account(struct outgoing *o, struct path *path) {
    o->state = SENT;
    path->row.counters->packets_sent++;
    path->row.counters->bytes_sent += size_of(o) - o->gre_length;
}

/* Only what went uses up a sequence number: number the packets that have not gone yet anew, each between its neighbours. */
static void number_anew(struct egress *e, struct connection *c) {
    uint32_t next = c->batch_sequence;
    for (struct outgoing *o = e->packets; o < e->packets + e->count; o++) {
        if (o->path->connection != c || o->state == FAILED)
            continue;
        if (o->state == PENDING) {
            o->number = next;
            if (o->gre_length == 8)
                put32(o->head + 4, next);
        }
        next = o->number + 1;
    }
    c->sequence = next;
}

static void add_control(struct msghdr *message, union control *room, int level, int type, const void *value, size_t size) {
    struct cmsghdr *control = (struct cmsghdr *)(void *)(room->octets + message->msg_controllen);
    message->msg_control = room;
    message->msg_controllen += CMSG_SPACE(size);
    *control = (struct cmsghdr){.cmsg_len = CMSG_LEN(size), .cmsg_level = level, .cmsg_type = type};
    memcpy(CMSG_DATA(control), value, size);
}

static void add_mark(struct msghdr *message, union control *room, const struct path *path, uint8_t mark) {
    int value = mark;
    sa_family_t family;
    memcpy(&family, path->row.remote, sizeof family);
    if (family == AF_INET6)
        add_control(message, room, IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof value);
    else
        add_control(message, room, IPPROTO_IP, IP_TOS, &value, sizeof value);
}

static int send_alone(struct outgoing *o, struct path *path) {
    struct iovec pieces[2] = {{o->head, o->head_length}, {(void *)(uintptr_t)o->payload, o->payload_length}};
    struct msghdr message = {
        .msg_name = path->row.remote_length ? path->row.remote : NULL, .msg_namelen = path->row.remote_length,
        .msg_iov = pieces, .msg_iovlen = o->payload_length ? 2 : 1,
    };
    union control control;
    if (o->mark)
        add_mark(&message, &control, path, o->mark);
    while (sendmsg(path->row.fd, &message, MSG_DONTWAIT) < 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

static int try_alone(struct outgoing *o, struct path *path) {
    int error = send_alone(o, path);
    if (error == 0)
        account(o, path);
    else
        path->row.counters->send_errors[errno_index(error)]++;
    return error;
}

/* `path` has refused a packet, or one before it in the batch, with `error`: try the others, unless they could not mend
 * it; `again`: and then the path itself. */
static void refused(struct mpt_datapath *dp, struct outgoing *o, struct path *path, int error, bool again) {
    struct connection *c = path->connection;
    path->row.counters->send_errors[errno_index(error)]++;
    for (struct path *other = c->paths; other < c->paths + c->row.path_count && !local_trouble(error); other++)
        if (other != path && other->row.usable && (error = try_alone(o, other)) == 0)
            return;
    if (again && !local_trouble(error) && (error = try_alone(o, path)) == 0)
        return;
    o->state = FAILED;
    dp->counters.send_drops[errno_index(error)]++;
}

/* --- sending the batch --- */

/* Make messages of the packets from `next` on: single ones, or if the link cuts them runs of equal size and TOS, of which
 * only the last packet may be shorter. */
static uint32_t gather(struct egress *e, struct path *path, int32_t *next, bool cuts) {
    uint32_t count = 0;
    struct iovec *piece = e->pieces;
    for (; count < MESSAGES && *next >= 0; count++) {
        uint32_t size = size_of(&e->packets[*next]), bytes = 0, last;
        uint8_t mark = e->packets[*next].mark;
        struct run *run = &e->runs[count];
        struct iovec *first_piece = piece;
        *run = (struct run){*next, 0};
        do {
            struct outgoing *o = &e->packets[*next];
            last = size_of(o);
            *piece++ = (struct iovec){o->head, o->head_length};
            if (o->payload_length)
                *piece++ = (struct iovec){(void *)(uintptr_t)o->payload, o->payload_length};
            bytes += last;
            run->count++;
            *next = o->next;
        } while (cuts && *next >= 0 && last == size && run->count < SEGMENTS
                 && e->packets[*next].mark == mark && size_of(&e->packets[*next]) <= size
                 && bytes + size_of(&e->packets[*next]) <= RUN_BYTES);
        struct msghdr *message = &e->messages[count].msg_hdr;
        *message = (struct msghdr){
            .msg_name = path->row.remote_length ? path->row.remote : NULL, .msg_namelen = path->row.remote_length,
            .msg_iov = first_piece, .msg_iovlen = (size_t)(piece - first_piece),
        };
        if (run->count > 1) {
            uint16_t value = (uint16_t)size;
            add_control(message, &e->controls[count], SOL_UDP, UDP_SEGMENT, &value, sizeof value);
        }
        if (mark)
            add_mark(message, &e->controls[count], path, mark);
    }
    return count;
}

/* Where a path refuses a message it is not to carry the next ones of the batch: the peer would take the numbers that now
 * come over other paths for lost. */
static void send_path(struct mpt_datapath *dp, struct path *path) {
    struct egress *e = dp->egress;
    int32_t next = path->first;
    int refusal = 0;
    bool cuts = path->segment;
    while (next >= 0) {
        uint32_t count = gather(e, path, &next, cuts), done = 0;
        while (done < count) {
            struct run *run = &e->runs[done];
            int sent = refusal ? -1 : sendmmsg(path->row.fd, &e->messages[done], count - done, MSG_DONTWAIT);
            int error = refusal ? refusal : errno;
            if (sent > 0) {
                dp->counters.sends++;
                path->refuses = false;
                for (; sent > 0; sent--, done++) {
                    int32_t i = e->runs[done].first;
                    for (uint32_t k = 0; k < e->runs[done].count; k++, i = e->packets[i].next)
                        account(&e->packets[i], path);
                }
                continue;
            }
            if (error == EINTR)
                continue;
            if (!refusal && run->count > 1 && (error == EIO || error == EINVAL || error == EMSGSIZE)) {
                path->segment = error == EMSGSIZE; /* too long for the way, or else the link or the kernel never cuts */
                cuts = false;
                next = run->first;
                break;
            }
            path->refuses = true;
            int32_t i = run->first;
            for (uint32_t k = 0; k < run->count; k++, i = e->packets[i].next)
                refused(dp, &e->packets[i], path, error, refusal != 0);
            if (!local_trouble(error))
                refusal = error;
            number_anew(e, path->connection);
            done++;
        }
    }
}

static void send_batch(struct mpt_datapath *dp) {
    struct egress *e = dp->egress;
    for (uint32_t i = 0; i < e->touched_count; i++) {
        send_path(dp, e->touched[i]);
        e->touched[i]->first = e->touched[i]->last = -1;
    }
    for (uint32_t i = 0; i < e->touched_count; i++)
        e->touched[i]->connection->batched = false;
    e->count = e->touched_count = 0;
}

/* --- a packet's way into the batch --- */

static struct connection *classify(struct mpt_datapath *dp, const uint8_t *packet, uint32_t length, int *reason) {
    unsigned version = ip_version(packet, length);
    bool known;
    *reason = MPT_NOT_IP;
    if (version == 0)
        return NULL;
    struct flow *flow = flow_of(dp->egress_flows, dp, version, packet, &known);
    if (!known) {
        struct mpt_address source = ip_source(packet), destination = ip_destination(packet);
        flow->found = NULL;
        flow->reason = MPT_NO_CONNECTION;
        for (struct connection *c = dp->connections; c < dp->connections + dp->connection_count; c++) {
            for (uint32_t i = 0; i < c->row.path_count; i++)
                if (same_address(&destination, &c->row.paths[i].loop)) {
                    flow->found = NULL;
                    flow->reason = MPT_LOOP;
                    goto found;
                }
            if (flow->found != NULL)
                continue;
            if (connection_is_here(c, &source) && connection_reaches(c, &destination))
                flow->found = c;
        }
    }
found:
    *reason = flow->reason;
    return flow->found;
}

/* The path that the port rules name for `packet`, if it can be used. */
static struct path *mapped(const struct connection *c, const uint8_t *packet, uint32_t length) {
    int64_t ports = c->row.rule_count ? mpt_ports(packet, length) : -1;
    if (ports < 0)
        return NULL;
    uint32_t protocol = (uint32_t)(ports >> 32) << 16;
    uint32_t keys[2] = {protocol | (ports >> 16 & 0xFFFF), 1u << 24 | protocol | (ports & 0xFFFF)};
    for (int k = 0; k < 2; k++) {
        uint32_t low = 0, high = c->row.rule_count;
        while (low < high) {
            uint32_t middle = (low + high) / 2;
            if (c->row.rules[middle].key < keys[k])
                low = middle + 1;
            else
                high = middle;
        }
        if (low < c->row.rule_count && c->row.rules[low].key == keys[k]) {
            struct path *path = &c->paths[c->row.rules[low].path];
            return path->row.usable ? path : NULL;
        }
    }
    return NULL;
}

/* A place in the batch for the next packet of `c`, its path picked and its number given; NULL when no path is usable. */
static struct outgoing *enqueue(struct mpt_datapath *dp, struct connection *c, struct path *path) {
    struct egress *e = dp->egress;
    dp->counters.packets_read++;
    if (path == NULL) {
        if (c->cycle_count == 0) {
            dp->counters.egress_dropped[MPT_NO_PATH]++;
            return NULL;
        }
        path = &c->paths[cycle_next(c->cycle, c->cycle_count)];
    }
    bool alone = path->refuses || (e->count > 0 && e->packets[0].path->refuses); /* one by one, the packets of a path that
        refuses go in their order over the others, and take no numbers in vain */
    if (e->count == PACKETS || alone || (c->batched && c->sequence - c->batch_sequence >= c->batch_limit))
        send_batch(dp);
    if (!c->batched) {
        c->batched = true;
        c->batch_sequence = c->sequence;
    }
    int32_t i = (int32_t)e->count++;
    struct outgoing *o = &e->packets[i];
    o->path = path;
    o->state = PENDING;
    o->next = -1;
    o->number = c->sequence++;
    o->gre_length = c->row.reorder_window ? 8 : 4;
    o->payload = NULL;
    o->payload_length = 0;
    if (path->first < 0) {
        path->first = i;
        e->touched[e->touched_count++] = path;
    } else
        e->packets[path->last].next = i;
    path->last = i;
    return o;
}

static void put_gre(struct outgoing *o, unsigned version) {
    put16(o->head, o->gre_length == 8 ? 0x1000 : 0);
    put16(o->head + 2, version == 4 ? 0x0800 : 0x86DD);
    if (o->gre_length == 8)
        put32(o->head + 4, o->number);
}

static void drop(struct mpt_datapath *dp, int reason, uint64_t packets) {
    dp->counters.packets_read += packets;
    dp->counters.egress_dropped[reason] += packets;
}

/* Returns how many packets it is. `packet` has HEADROOM octets before it that may be overwritten. */
static uint32_t take(struct mpt_datapath *dp, const struct vnet_header *vnet, uint8_t *packet, uint32_t length) {
    struct split split = {.segments = 1};
    int reason;
    if (vnet->type != GSO_NONE ? !split_start(&split, vnet, packet, length) : !complete_checksum(vnet, packet, length)) {
        drop(dp, MPT_OFFLOAD_MALFORMED, 1);
        return 1;
    }
    struct connection *c = classify(dp, packet, length, &reason);
    if (c == NULL) {
        drop(dp, reason, split.segments);
        return split.segments;
    }
    struct path *path = mapped(c, packet, length);
    uint8_t mark = c->row.marked ? c->row.marks[tos_octet(packet)] : 0;
    for (uint32_t i = 0; i < split.segments; i++) {
        struct outgoing *o = enqueue(dp, c, path);
        if (o == NULL)
            continue;
        o->mark = mark;
        if (vnet->type == GSO_NONE) {
            o->head = packet - o->gre_length;
            o->head_length = o->gre_length + length;
        } else {
            o->head = o->room;
            o->head_length = o->gre_length + split.headers;
            o->payload_length = split_segment(&split, i, o->room + o->gre_length, &o->payload);
        }
        put_gre(o, packet[0] >> 4);
    }
    return split.segments;
}

void mpt_tun_readable(struct mpt_datapath *dp) {
    struct egress *e = dp->egress;
    uint32_t before = dp->offloads & MPT_VNET_HDR ? VNET : 0, work = 0;
    for (int reads = 0; reads < READS && work < WAKE_WORK; reads++) {
        if (e->used + HEADROOM + READ_ROOM > ARENA) {
            send_batch(dp);
            e->used = 0;
        }
        uint8_t *packet = e->arena + e->used + HEADROOM;
        ssize_t got = read(dp->tun, packet - before, before + (before ? READ_ROOM : MAX_PACKET));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            if (errno != EAGAIN) {
                dp->counters.tun_read_errors[errno_index(errno)]++;
                dp->counters.packets_read++;
            }
            break;
        }
        dp->counters.tun_reads++;
        struct vnet_header vnet = {.type = GSO_NONE};
        if ((size_t)got < before) {
            drop(dp, MPT_OFFLOAD_MALFORMED, 1);
            continue;
        }
        if (before)
            memcpy(&vnet, packet - before, VNET);
        uint32_t length = (uint32_t)got - before;
        work += length + WORK_PACKET * take(dp, &vnet, packet, length);
        e->used += HEADROOM + (length + 15) / 16 * 16;
    }
    send_batch(dp);
    e->used = 0;
}
