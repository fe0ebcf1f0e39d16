/* TUN to network: read, cut, find the connection, pick a path, put the frame before it, send.
 *
 * The twin is mpt/data/egress.py, and in both a packet meets the functions in the order in which they stand. The difference
 * is the batch: packets are read until the TUN is empty or the batch is full, then every path sends its own in as few system
 * calls as it can. Payload is never copied: the kernel gathers headers and payload from where they lie.
 */

#define _GNU_SOURCE /* sendmmsg() */

#include "egress.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frame.h"
#include "schedule.h"
#include "split.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* <linux/udp.h> */
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

enum { GROUP = MPT_REASONS }; /* no reason to drop a packet */
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
    const struct path *path;
    uint8_t *head; /* the frame, and the headers of a segment or the whole of a packet */
    const uint8_t *payload; /* of a segment */
    uint32_t head_length, payload_length, frame_length, number;
    int32_t next; /* on the same path; -1: none */
    enum state state;
    uint8_t tos;
    bool sequenced;
    uint8_t room[FRAME_ROOM + HEADER_ROOM];
};

union control { /* room for the ancillary data of a message: the size of its segments, its TOS octet */
    struct cmsghdr aligned;
    uint8_t octets[CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(int))];
};
struct run { int32_t first; uint32_t count; }; /* packets that one message carries */

struct egress_path { /* beside a path of the table */
    bool segment;          /* UDP_SEGMENT works here as far as we know */
    bool refuses;          /* the last thing it was to send did not go */
    int32_t first, last;   /* its packets in the batch; -1: none */
};
struct egress_connection { /* beside a connection of the table */
    struct cycle_entry *cycle;
    uint32_t cycle_count;
    uint32_t sequence, batch_sequence; /* the next one, and the first one of the batch */
    uint32_t batch_limit; /* packets that may leave path by path: well within the peer's reorder window, if it is ours */
    bool batched;
};
struct plane { /* what goes with a table */
    const struct table *table;
    struct egress_path *paths;
    struct egress_connection *connections;
    struct cycle_entry *cycles;
};
struct egress {
    int tun;
    bool vnet, segments; /* the TUN has IFF_VNET_HDR; the kernel has UDP_SEGMENT */
    struct mpt_counters *counters;
    struct plane now, next; /* `next`: prepared */
    struct flow_cache flows;
    uint32_t count, used;
    uint32_t touched_count;
    const struct path *touched[PACKETS];
    struct outgoing packets[PACKETS];
    struct run runs[MESSAGES];
    struct mmsghdr messages[MESSAGES];
    struct iovec pieces[2 * PACKETS];
    union control controls[MESSAGES];
    uint8_t arena[ARENA];
};

static uint32_t read_frame(struct egress *e, const struct virtio_net_hdr *vnet, uint8_t *packet, uint32_t length);
static void encapsulate(
    struct egress *e, const struct connection *c, uint8_t *packet, uint32_t length, const struct split *split, bool shared
);
static void drop(struct egress *e, int reason, uint64_t packets);
static const struct connection *classify(struct egress *e, const uint8_t *packet, uint32_t length, int *reason);
static struct outgoing *enqueue(struct egress *e, const struct connection *c, const struct path *path);
static void send_batch(struct egress *e);
static void send_path(struct egress *e, const struct path *path);
static uint32_t gather(struct egress *e, const struct path *path, int32_t *next, bool cuts);
static void refused(struct egress *e, struct outgoing *o, const struct path *path, int error, bool again);
static int try_alone(struct outgoing *o, const struct path *path);
static int send_alone(const struct outgoing *o, const struct path *path);
static void add_tos(struct msghdr *message, union control *room, const struct path *path, uint8_t tos);
static void add_control(struct msghdr *message, union control *room, int level, int type, const void *value, size_t size);
static void count_sent(struct outgoing *o, const struct path *path);
static void number_anew(struct egress *e, const struct connection *c);

/* --- life, and the table --- */

struct egress *egress_new(int tun, int offloads, struct mpt_counters *counters) {
    struct egress *e = calloc(1, sizeof *e);
    if (e != NULL) {
        e->tun = tun;
        e->vnet = offloads & MPT_VNET_HDR;
        e->segments = offloads & MPT_UDP_SEGMENT;
        e->counters = counters;
    }
    return e;
}

static void plane_free(struct plane *plane) {
    free(plane->paths);
    free(plane->connections);
    free(plane->cycles);
    *plane = (struct plane){0};
}

void egress_free(struct egress *e) {
    if (e == NULL)
        return;
    plane_free(&e->now);
    plane_free(&e->next);
    free(e);
}

static struct egress_path *state_of(struct egress *e, const struct path *path) { return &e->now.paths[path->index]; }

static const struct connection *connection_of(const struct egress *e, const struct path *path) {
    return &e->now.table->connections[path->connection];
}

/* Packets that go path by path, at the most: a peer may have a smaller window than we. Many paths need more, or the run
 * of each is too short to be worth its system call. */
static uint32_t batch_limit(const struct connection *c, uint32_t usable) {
    enum { AT_LEAST = 128, PER_PATH = 32 };
    if (c->row.reorder_window == 0 || usable <= 1)
        return UINT32_MAX;
    uint32_t half = c->row.reorder_window / 2;
    uint32_t limit = usable * PER_PATH > AT_LEAST ? usable * PER_PATH : AT_LEAST;
    return half < limit ? half : limit;
}

static void share_out(struct egress_connection *state, const struct connection *c) {
    state->cycle_count = 0;
    for (uint32_t i = 0; i < c->row.path_count; i++)
        if (c->paths[i].row.usable)
            state->cycle[state->cycle_count++] = (struct cycle_entry){.index = i, .weight = c->paths[i].row.weight};
    state->batch_limit = batch_limit(c, state->cycle_count);
}

bool egress_prepare(struct egress *e, const struct table *table) {
    struct plane *next = &e->next;
    plane_free(next);
    *next = (struct plane){
        .table = table,
        .paths = calloc(table->path_count + 1, sizeof *next->paths),
        .connections = calloc(table->connection_count + 1, sizeof *next->connections),
        .cycles = calloc(table->path_count + 1, sizeof *next->cycles),
    };
    if (next->paths == NULL || next->connections == NULL || next->cycles == NULL) {
        plane_free(next);
        return false;
    }
    for (uint32_t i = 0; i < table->path_count; i++)
        next->paths[i] = (struct egress_path){.segment = e->segments, .first = -1, .last = -1};
    for (uint32_t i = 0; i < table->connection_count; i++) {
        const struct connection *c = &table->connections[i];
        const struct connection *old = e->now.table != NULL ? table_find(e->now.table, c->row.id) : NULL;
        next->connections[i].cycle = next->cycles + (c->paths - table->paths);
        if (old != NULL)
            next->connections[i].sequence = e->now.connections[old->index].sequence;
        share_out(&next->connections[i], c);
    }
    return true;
}

void egress_cancel(struct egress *e) { plane_free(&e->next); }

void egress_commit(struct egress *e) {
    plane_free(&e->now);
    e->now = e->next;
    e->next = (struct plane){0};
    flow_cache_clear(&e->flows);
}

void egress_share_changed(struct egress *e, const struct path *path) {
    share_out(&e->now.connections[path->connection], connection_of(e, path));
}

bool egress_cuts(const struct egress *e) {
    for (uint32_t i = 0; i < e->now.table->path_count; i++)
        if (e->now.table->paths[i].row.usable && !e->now.paths[i].segment)
            return false;
    return e->segments;
}

static bool local_trouble(int error) { return error == EAGAIN || error == ENOBUFS || error == EMSGSIZE; }

static uint32_t size_of(const struct outgoing *o) { return o->head_length + o->payload_length; }

/* --- a packet's way into the batch --- */

uint32_t egress_tun_readable(struct egress *e) {
    uint32_t before = e->vnet ? VNET : 0, work = 0;
    for (int reads = 0; reads < READS && work < WAKE_WORK; reads++) {
        if (e->used + HEADROOM + READ_ROOM > ARENA) {
            send_batch(e);
            e->used = 0;
        }
        uint8_t *packet = e->arena + e->used + HEADROOM;
        ssize_t got = read(e->tun, packet - before, before + (before ? READ_ROOM : MAX_PACKET));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            if (errno != EAGAIN) {
                e->counters->tun_read_errors[errno_index(errno)]++;
                e->counters->packets_read++;
            }
            break;
        }
        e->counters->tun_reads++;
        struct virtio_net_hdr vnet = {.gso_type = VIRTIO_NET_HDR_GSO_NONE};
        if ((size_t)got < before) {
            drop(e, MPT_OFFLOAD_MALFORMED, 1);
            continue;
        }
        if (before)
            memcpy(&vnet, packet - before, VNET);
        uint32_t length = (uint32_t)got - before;
        work += length + WORK_PACKET * read_frame(e, &vnet, packet, length);
        e->used += HEADROOM + (length + 15) / 16 * 16;
    }
    send_batch(e);
    e->used = 0;
    return work;
}

/* Returns how many packets it is. `packet` has HEADROOM octets before it that may be overwritten. */
static uint32_t read_frame(struct egress *e, const struct virtio_net_hdr *vnet, uint8_t *packet, uint32_t length) {
    struct split split = {.segments = 1};
    int reason;
    bool whole = vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE;
    if (whole ? !complete_checksum(vnet, packet, length) : !split_start(&split, vnet, packet, length)) {
        drop(e, MPT_OFFLOAD_MALFORMED, 1);
        return 1;
    }
    const struct connection *c = classify(e, packet, length, &reason);
    if (c != NULL)
        encapsulate(e, c, packet, length, &split, false);
    else if (reason == GROUP)
        for (uint32_t i = 0; i < e->now.table->connection_count; i++) {
            const struct mpt_address source = ip_source(packet), destination = ip_destination(packet);
            if (connection_takes_group(&e->now.table->connections[i], &source, &destination))
                encapsulate(e, &e->now.table->connections[i], packet, length, &split, true);
        }
    else
        drop(e, reason, split.segments);
    return split.segments;
}

/* Put `packet`, or the segments of it, into the batch of `c`; a `shared` one is left as it is, others are to have it, too. */
static void encapsulate(
    struct egress *e, const struct connection *c, uint8_t *packet, uint32_t length, const struct split *split, bool shared
) {
    const struct path *path = connection_mapped_path(c, packet, length);
    uint8_t tos = c->row.sets_tos ? c->row.tos_by_inner[tos_octet(packet)] : 0;
    for (uint32_t i = 0; i < split->segments; i++) {
        struct outgoing *o = enqueue(e, c, path);
        if (o == NULL)
            continue;
        o->tos = tos;
        o->head = o->room;
        if (split->packet != NULL) {
            o->head_length = o->frame_length + split->headers;
            o->payload_length = split_segment(split, i, o->room + o->frame_length, &o->payload);
        } else if (shared) {
            o->head_length = o->frame_length;
            o->payload = packet;
            o->payload_length = length;
        } else {
            o->head = packet - o->frame_length;
            o->head_length = o->frame_length + length;
        }
        frame_put(o->head, packet[0] >> 4, o->sequenced, o->number);
    }
}

static void drop(struct egress *e, int reason, uint64_t packets) {
    e->counters->packets_read += packets;
    e->counters->egress_dropped[reason] += packets;
}

/* The connection that knows best where the packet is to go; NULL: the reason, or GROUP, which several connections take. */
static const struct connection *classify(struct egress *e, const uint8_t *packet, uint32_t length, int *reason) {
    unsigned version = ip_version(packet, length);
    bool known;
    *reason = MPT_NOT_IP;
    if (version == 0)
        return NULL;
    struct flow *flow = flow_of(&e->flows, &e->flows, version, packet, &known);
    if (!known) {
        struct mpt_address source = ip_source(packet), destination = ip_destination(packet);
        flow->found = NULL;
        flow->reason = MPT_NO_CONNECTION;
        const struct table *table = e->now.table;
        for (uint32_t i = 0; i < table->path_count; i++)
            if (same_address(&destination, &table->paths[i].row.loop))
                flow->reason = MPT_LOOP;
        uint32_t best = 0;
        for (uint32_t i = 0; flow->reason != MPT_LOOP && i < table->connection_count; i++) {
            const struct connection *c = &table->connections[i];
            uint32_t reach = connection_is_here(c, &source) ? connection_reach(c, &destination) : 0;
            if (connection_is_group(c, &destination)) {
                if (connection_takes_group(c, &source, &destination))
                    flow->reason = GROUP;
            } else if (reach > best) {
                best = reach;
                flow->found = c;
            }
        }
    }
    *reason = flow->reason;
    return flow->found;
}

/* A place in the batch for the next packet of `c`, its number given: over `path` if that is usable, and then without a
 * number, else over the next of the cycle; NULL when no path is usable. */
static struct outgoing *enqueue(struct egress *e, const struct connection *c, const struct path *path) {
    struct egress_connection *state = &e->now.connections[c->index];
    bool is_mapped = path != NULL && path->row.usable;
    e->counters->packets_read++;
    if (!is_mapped) {
        if (state->cycle_count == 0) {
            e->counters->egress_dropped[MPT_NO_PATH]++;
            return NULL;
        }
        path = &c->paths[cycle_next(state->cycle, state->cycle_count)];
    }
    /* While a path refuses, send each packet at once, so that its fallback keeps the order and wastes no number. */
    struct egress_path *chosen = state_of(e, path);
    bool alone = chosen->refuses || (e->count > 0 && state_of(e, e->packets[0].path)->refuses);
    if (e->count == PACKETS || alone || (state->batched && state->sequence - state->batch_sequence >= state->batch_limit))
        send_batch(e);
    if (!state->batched) {
        state->batched = true;
        state->batch_sequence = state->sequence;
    }
    int32_t i = (int32_t)e->count++;
    struct outgoing *o = &e->packets[i];
    o->path = path;
    o->state = PENDING;
    o->next = -1;
    o->sequenced = c->row.sequenced && !is_mapped; /* a mapped flow keeps its order by itself, and waits for no other path */
    o->number = state->sequence;
    state->sequence += o->sequenced;
    o->frame_length = frame_length(o->sequenced);
    o->payload = NULL;
    o->payload_length = 0;
    if (chosen->first < 0) {
        chosen->first = i;
        e->touched[e->touched_count++] = path;
    } else
        e->packets[chosen->last].next = i;
    chosen->last = i;
    return o;
}

/* --- sending the batch --- */

static void send_batch(struct egress *e) {
    for (uint32_t i = 0; i < e->touched_count; i++) {
        struct egress_path *path = state_of(e, e->touched[i]);
        send_path(e, e->touched[i]);
        path->first = path->last = -1;
    }
    for (uint32_t i = 0; i < e->touched_count; i++)
        e->now.connections[e->touched[i]->connection].batched = false;
    e->count = e->touched_count = 0;
}

/* Where a path refuses a message it is not to carry the next ones of the batch: the peer would take the numbers that now
 * come over other paths for lost. */
static void send_path(struct egress *e, const struct path *path) {
    struct egress_path *state = state_of(e, path);
    int32_t next = state->first;
    int refusal = 0;
    bool cuts = state->segment;
    while (next >= 0) {
        uint32_t count = gather(e, path, &next, cuts), done = 0;
        while (done < count) {
            struct run *run = &e->runs[done];
            int sent = refusal ? -1 : sendmmsg(path->row.fd, &e->messages[done], count - done, MSG_DONTWAIT);
            int error = refusal ? refusal : errno;
            if (sent > 0) {
                e->counters->sends++;
                state->refuses = false;
                for (; sent > 0; sent--, done++) {
                    int32_t i = e->runs[done].first;
                    for (uint32_t k = 0; k < e->runs[done].count; k++, i = e->packets[i].next)
                        count_sent(&e->packets[i], path);
                }
                continue;
            }
            if (error == EINTR)
                continue;
            if (!refusal && run->count > 1 && (error == EIO || error == EINVAL || error == EMSGSIZE)) {
                state->segment = error == EMSGSIZE; /* too long for the way, or else the link or the kernel never cuts */
                cuts = false;
                next = run->first;
                break;
            }
            state->refuses = true;
            int32_t i = run->first;
            for (uint32_t k = 0; k < run->count; k++, i = e->packets[i].next)
                refused(e, &e->packets[i], path, error, refusal != 0);
            if (!local_trouble(error))
                refusal = error;
            number_anew(e, connection_of(e, path));
            done++;
        }
    }
}

static void *name_of(const struct path *path) { /* of the peer; NULL where the socket is connected */
    return path->row.outer_remote_length ? (void *)(uintptr_t)path->row.outer_remote : NULL;
}

/* Make messages of the packets from `next` on: single ones, or if the link cuts them runs of equal size and TOS, of which
 * only the last packet may be shorter. */
static uint32_t gather(struct egress *e, const struct path *path, int32_t *next, bool cuts) {
    uint32_t count = 0;
    struct iovec *piece = e->pieces;
    for (; count < MESSAGES && *next >= 0; count++) {
        uint32_t size = size_of(&e->packets[*next]), bytes = 0, last;
        uint8_t tos = e->packets[*next].tos;
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
                 && e->packets[*next].tos == tos && size_of(&e->packets[*next]) <= size
                 && bytes + size_of(&e->packets[*next]) <= RUN_BYTES);
        struct msghdr *message = &e->messages[count].msg_hdr;
        *message = (struct msghdr){
            .msg_name = name_of(path), .msg_namelen = path->row.outer_remote_length,
            .msg_iov = first_piece, .msg_iovlen = (size_t)(piece - first_piece),
        };
        if (run->count > 1) {
            uint16_t value = (uint16_t)size;
            add_control(message, &e->controls[count], SOL_UDP, UDP_SEGMENT, &value, sizeof value);
        }
        if (tos)
            add_tos(message, &e->controls[count], path, tos);
    }
    return count;
}

int egress_send(struct egress *e, const struct path *path, const uint8_t *message, uint32_t length) {
    const struct mpt_connection_row *row = &connection_of(e, path)->row;
    struct outgoing o = {.payload = message, .payload_length = length, .head_length = frame_length(false),
                         .tos = row->message_tos};
    o.head = o.room;
    frame_put(o.head, row->inner_local.version, false, 0);
    return send_alone(&o, path);
}

/* --- what goes wrong --- */

/* `path` has refused a packet, or one before it in the batch, with `error`: try the others, unless the trouble is of this
 * host; `again`: and then the path itself. */
static void refused(struct egress *e, struct outgoing *o, const struct path *path, int error, bool again) {
    const struct connection *c = connection_of(e, path);
    path->state->counters.send_errors[errno_index(error)]++;
    for (const struct path *other = c->paths; other < c->paths + c->row.path_count && !local_trouble(error); other++)
        if (other != path && other->row.usable && (error = try_alone(o, other)) == 0)
            return;
    if (again && !local_trouble(error) && (error = try_alone(o, path)) == 0)
        return;
    o->state = FAILED;
    e->counters->send_drops[errno_index(error)]++;
}

static int try_alone(struct outgoing *o, const struct path *path) {
    int error = send_alone(o, path);
    if (error == 0)
        count_sent(o, path);
    else
        path->state->counters.send_errors[errno_index(error)]++;
    return error;
}

static int send_alone(const struct outgoing *o, const struct path *path) {
    struct iovec pieces[2] = {{o->head, o->head_length}, {(void *)(uintptr_t)o->payload, o->payload_length}};
    struct msghdr message = {
        .msg_name = name_of(path), .msg_namelen = path->row.outer_remote_length,
        .msg_iov = pieces, .msg_iovlen = o->payload_length ? 2 : 1,
    };
    union control control;
    if (o->tos)
        add_tos(&message, &control, path, o->tos);
    while (sendmsg(path->row.fd, &message, MSG_DONTWAIT) < 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

static void add_tos(struct msghdr *message, union control *room, const struct path *path, uint8_t tos) {
    int value = tos;
    sa_family_t family;
    memcpy(&family, path->row.outer_remote, sizeof family);
    if (family == AF_INET6)
        add_control(message, room, IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof value);
    else
        add_control(message, room, IPPROTO_IP, IP_TOS, &value, sizeof value);
}

static void add_control(struct msghdr *message, union control *room, int level, int type, const void *value, size_t size) {
    struct cmsghdr *control = (struct cmsghdr *)(void *)(room->octets + message->msg_controllen);
    message->msg_control = room;
    message->msg_controllen += CMSG_SPACE(size);
    *control = (struct cmsghdr){.cmsg_len = CMSG_LEN(size), .cmsg_level = level, .cmsg_type = type};
    memcpy(CMSG_DATA(control), value, size);
}

static void count_sent(struct outgoing *o, const struct path *path) {
    o->state = SENT;
    path->state->counters.packets_sent++;
    path->state->counters.bytes_sent += size_of(o) - o->frame_length;
}

/* Only a packet that went uses up a sequence number: number the packets that have not gone yet anew, each between its
 * neighbours. */
static void number_anew(struct egress *e, const struct connection *c) {
    struct egress_connection *state = &e->now.connections[c->index];
    uint32_t next = state->batch_sequence;
    for (struct outgoing *o = e->packets; o < e->packets + e->count; o++) {
        if (o->path->connection != c->index || o->state == FAILED || !o->sequenced)
            continue;
        if (o->state == PENDING) {
            o->number = next;
            frame_renumber(o->head, next);
        }
        next = o->number + 1;
    }
    state->sequence = next;
}
