/* Network to TUN: receive, check the sender, take off the frame, find the connection, put in order.
 *
 * The twin is mpt/data/ingress.py, and in both a datagram meets the functions in the order in which they stand. One system
 * call receives many datagrams, with UDP_GRO many in one buffer. They stay there (pool.h), and the packets of a wake-up are
 * written at its end (deliver.h).
 */

#define _GNU_SOURCE /* recvmmsg() */

#include "ingress.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "frame.h"
#include "listen.h"
#include "mss.h"
#include "ordering.h"

#ifndef UDP_GRO
#define UDP_GRO 104 /* <linux/udp.h> */
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

enum { MESSAGES = 32, TURN_BYTES = 1 << 16 }; /* a turn is one system call, a wake-up some of them */
enum { WAKE_WORK = 1 << 20, WORK_DATAGRAM = 1024 }; /* octets, and the further cost of a datagram: a wake-up of about 1 ms,
                                                       for which keepalives and commands wait */

struct ingress_path { /* beside a path of the table */
    bool has_brought;       /* `last_sequence` holds */
    uint32_t last_sequence; /* of the last packet that came over it */
    uint32_t told_in_wake;  /* the wake-up in which control was last told of a keepalive */
};
struct plane { /* of one table */
    const struct table *table;
    struct ingress_path *paths;
    struct ordering **orders; /* by connection; NULL: no window. In a prepared plane also NULL: the old one stays */
    struct listening listening;
};
struct ingress {
    struct mpt_tuning tuning;
    uint64_t secret; /* of the hashes */
    struct pool *pool;
    struct delivery *delivery;
    struct events *events;
    struct mpt_counters *counters;
    struct plane now, next; /* `next`: prepared */
    struct flow_cache flows;
    const struct connection *waiting; /* of the last packet, if it or others wait for a gap */
    uint32_t wakes;
    struct mmsghdr messages[MESSAGES];
    struct iovec pieces[MESSAGES];
    struct sockaddr_in6 names[MESSAGES];
    union { struct cmsghdr aligned; uint8_t octets[2 * CMSG_SPACE(sizeof(int))]; } controls[MESSAGES];
};

static const struct path *laggard(const struct ingress *ingress, const struct connection *c);
static struct listener *unfinished(const struct ingress *ingress, const struct connection *c);
static uint32_t receive(struct ingress *ingress, struct listener *listener, double now);
static struct buffer *take_buffer(struct ingress *ingress);
static uint32_t read_controls(struct msghdr *message, unsigned *ecn);
static struct mpt_address sender_of(const struct msghdr *message);
static void decapsulate(struct ingress *ingress, const struct source *source, struct buffer *buffer, uint8_t *datagram,
                        uint32_t length, unsigned outer_ecn, double now);
static void not_ip(struct ingress *ingress, const struct source *source, const struct opened *opened, double now);
static void heard(struct ingress *ingress, const struct path *path, const struct opened *opened, double now);
static const struct path *identify(struct ingress *ingress, const struct source *source, const uint8_t *packet, uint32_t length,
                                   int *reason);
static void update_backlog(struct ingress *ingress);

/* --- life --- */

struct ingress *ingress_new(const struct mpt_tuning *tuning, uint64_t secret, struct pool *pool, struct delivery *delivery,
                            struct events *events, struct mpt_counters *counters) {
    struct ingress *ingress = calloc(1, sizeof *ingress);
    if (ingress != NULL) {
        ingress->tuning = *tuning;
        ingress->secret = secret;
        ingress->pool = pool;
        ingress->delivery = delivery;
        ingress->events = events;
        ingress->counters = counters;
    }
    return ingress;
}

static void plane_free(struct plane *plane) {
    for (uint32_t i = 0; plane->orders != NULL && i < plane->table->connection_count; i++)
        ordering_free(plane->orders[i]);
    free(plane->orders);
    free(plane->paths);
    listening_destroy(&plane->listening);
    *plane = (struct plane){0};
}

void ingress_free(struct ingress *ingress) {
    if (ingress == NULL)
        return;
    plane_free(&ingress->now);
    plane_free(&ingress->next);
    free(ingress);
}

/* --- the table --- */

static void deliver(void *context, struct packet packet) { delivery_add(((struct ingress *)context)->delivery, packet); }

static void release(void *context, struct packet packet) { pool_release(((struct ingress *)context)->pool, packet); }

/* Return the old order of a connection, if it can go on as the order of `c`. */
static struct ordering **order_before(const struct ingress *ingress, const struct connection *c) {
    const struct connection *old = ingress->now.table != NULL ? table_find(ingress->now.table, c->row.id) : NULL;
    if (old == NULL || old->row.reorder_window != c->row.reorder_window || old->row.max_delay != c->row.max_delay)
        return NULL;
    return &ingress->now.orders[old->index];
}

bool ingress_prepare(struct ingress *ingress, const struct table *table) {
    struct plane *next = &ingress->next;
    plane_free(next);
    *next = (struct plane){
        .table = table,
        .paths = calloc(table->path_count + 1, sizeof *next->paths),
        .orders = calloc(table->connection_count + 1, sizeof(struct ordering *)),
    };
    bool good = next->paths != NULL && next->orders != NULL && listening_init(&next->listening, table);
    for (uint32_t i = 0; good && i < table->connection_count; i++) {
        const struct connection *c = &table->connections[i];
        if (c->row.reorder_window == 0 || order_before(ingress, c) != NULL)
            continue;
        struct sink sink = {deliver, release, ingress};
        next->orders[i] = ordering_new(&ingress->tuning, c->row.reorder_window, c->row.max_delay, false,
                                       ingress->secret, sink);
        good = next->orders[i] != NULL;
    }
    if (!good)
        plane_free(next);
    return good;
}

static bool has_path(const struct connection *c, uint32_t id) {
    for (uint32_t i = 0; i < c->row.path_count; i++)
        if (c->paths[i].row.id == id)
            return true;
    return false;
}

static void order_path(struct ordering *order, const struct path *path, double now) {
    if (order != NULL && path->row.usable)
        ordering_path_up(order, path->row.id, now);
    else if (order != NULL)
        ordering_path_down(order, path->row.id, now);
}

void ingress_share_set(struct ingress *ingress, const struct path *path, double now) {
    order_path(ingress->now.orders[path->connection], path, now);
}

void ingress_commit(struct ingress *ingress, double now) {
    struct plane *next = &ingress->next;
    for (uint32_t i = 0; i < next->table->connection_count; i++) {
        const struct connection *c = &next->table->connections[i];
        struct ordering **before = order_before(ingress, c), *order;
        if (before != NULL) {
            const struct connection *old = table_find(ingress->now.table, c->row.id);
            next->orders[i] = order = *before;
            *before = NULL;
            for (uint32_t k = 0; order != NULL && k < old->row.path_count; k++)
                if (!has_path(c, old->paths[k].row.id))
                    ordering_path_down(order, old->paths[k].row.id, now);
        }
        for (uint32_t k = 0; k < c->row.path_count; k++)
            order_path(next->orders[i], &c->paths[k], now);
    }
    for (uint32_t i = 0; ingress->now.table != NULL && i < ingress->now.table->connection_count; i++) {
        struct ordering *old = ingress->now.orders[i]; /* its connection goes: deliver its packets, keep its counts */
        if (old == NULL)
            continue;
        ordering_flush(old);
        ordering_drops(old, ingress->counters->ingress_dropped);
    }
    delivery_write(ingress->delivery);
    plane_free(&ingress->now);
    ingress->now = *next;
    *next = (struct plane){0};
    ingress->waiting = NULL;
    flow_cache_clear(&ingress->flows);
    update_backlog(ingress);
}

uint32_t ingress_sockets(const struct ingress *ingress, struct pollfd *polled) {
    for (uint32_t i = 0; i < ingress->now.listening.listener_count; i++)
        polled[i].fd = ingress->now.listening.listeners[i].fd;
    return ingress->now.listening.listener_count;
}

/* --- receiving --- */

/* The packets that fill a gap lie in the sockets of the other paths. While a gap waits, read the path that is the furthest
 * behind. Paths that are read to their end one after the other, or in turns with messages of any size, would run so far
 * ahead of each other that the reorder window could not hold it. */
uint32_t ingress_socket_readable(struct ingress *ingress, int fd, double now) {
    struct listening *listening = &ingress->now.listening;
    struct listener unknown = {.fd = fd}, *asked = find_listener(listening, fd);
    bool was_behind = listening->behind_count > 0;
    uint32_t wake = ++ingress->wakes, work = 0;
    if (ingress->waiting != NULL && !ordering_waits(ingress->now.orders[ingress->waiting->index]))
        ingress->waiting = NULL; /* its time is over */
    const struct connection *waiting = ingress->waiting; /* the last one that waited */
    if (asked == NULL)
        asked = &unknown;
    while (work < WAKE_WORK) {
        const struct path *late = ingress->waiting != NULL ? laggard(ingress, ingress->waiting) : NULL;
        struct listener *next = late != NULL ? listening->of_path[late->index]
            : asked->done_in_wake != wake ? asked : unfinished(ingress, waiting);
        if (next == NULL)
            break;
        uint64_t before = late != NULL ? late->state->counters.packets_received : 0;
        work += receive(ingress, next, now);
        if (late != NULL && late->state->counters.packets_received == before)
            next->done_in_wake = wake; /* it has other packets than the missing ones */
        if (ingress->waiting != NULL)
            waiting = ingress->waiting;
    }
    if (asked == &unknown && unknown.is_behind)
        listening->behind_count--; /* its place in the table is still to come */
    if (was_behind != (listening->behind_count > 0))
        update_backlog(ingress);
    delivery_write(ingress->delivery);
    return work;
}

/* Return the path that is the furthest behind of the paths of `c` for which gaps wait and that may have more. */
static const struct path *laggard(const struct ingress *ingress, const struct connection *c) {
    const struct path *found = NULL;
    const struct ingress_path *behind = NULL;
    for (const struct path *path = c->paths; path < c->paths + c->row.path_count; path++) {
        const struct ingress_path *state = &ingress->now.paths[path->index];
        if (!path->row.usable || ingress->now.listening.of_path[path->index]->done_in_wake == ingress->wakes)
            continue;
        if (found == NULL || (behind->has_brought
            && (!state->has_brought || (int32_t)(state->last_sequence - behind->last_sequence) < 0))) {
            found = path;
            behind = state;
        }
    }
    return found;
}

/* Return the socket of a path of `c` that was read, but not to its end. */
static struct listener *unfinished(const struct ingress *ingress, const struct connection *c) {
    for (uint32_t i = 0; c != NULL && i < c->row.path_count; i++) {
        struct listener *listener = ingress->now.listening.of_path[c->paths[i].index];
        if (listener != NULL && listener->is_behind && listener->done_in_wake != ingress->wakes)
            return listener;
    }
    return NULL;
}

/* A turn: one system call. Return the work that it brought, 0 also for an error, which names no datagram.
 *
 * A message may be one datagram or, joined by the kernel, forty. If we ask for many single ones and get joined ones, we take
 * more from this path than the reorder window can hold. So the expected length shrinks slowly and grows at once. */
static uint32_t receive(struct ingress *ingress, struct listener *listener, double now) {
    struct buffer *buffers[MESSAGES];
    unsigned room = 0, wanted = 1 + TURN_BYTES / (listener->message_length + 1);
    uint32_t work = 0, longest = listener->message_length / 2;
    for (; room < wanted && room < MESSAGES && (buffers[room] = take_buffer(ingress)) != NULL; room++) {
        ingress->pieces[room] = (struct iovec){buffers[room]->data, MAX_PACKET};
        ingress->messages[room].msg_hdr = (struct msghdr){
            .msg_name = &ingress->names[room], .msg_namelen = sizeof ingress->names[room],
            .msg_iov = &ingress->pieces[room], .msg_iovlen = 1,
            .msg_control = &ingress->controls[room], .msg_controllen = sizeof ingress->controls[room],
        };
    }
    listener->done_in_wake = ingress->wakes;
    if (room == 0)
        return 0; /* no memory, which says nothing about the socket */
    int got = recvmmsg(listener->fd, ingress->messages, room, MSG_DONTWAIT, NULL);
    if (got > 0)
        ingress->counters->receives++;
    for (int i = 0; i < got; i++) {
        struct msghdr *message = &ingress->messages[i].msg_hdr;
        unsigned ecn;
        uint32_t length = ingress->messages[i].msg_len, size = read_controls(message, &ecn), at = 0;
        struct mpt_address sender = sender_of(message);
        const struct source *source = find_source(&ingress->now.listening, listener->fd, &sender);
        do {
            uint32_t left = length - at, step = size && size < left ? size : left;
            decapsulate(ingress, source, buffers[i], buffers[i]->data + at, step, ecn, now);
            at += step;
            work += WORK_DATAGRAM + step;
        } while (at < length);
        longest = length > longest ? length : longest;
    }
    if (got > 0)
        listener->message_length = longest;
    bool is_behind = got > 0 && (unsigned)got == room;
    if (is_behind)
        listener->done_in_wake = ingress->wakes - 1;
    if (listener->is_behind != is_behind) {
        listener->is_behind = is_behind;
        ingress->now.listening.behind_count += is_behind ? 1 : -1u;
    }
    while (room > 0)
        pool_unreference(ingress->pool, buffers[--room]);
    return work;
}

static struct buffer *take_buffer(struct ingress *ingress) {
    struct buffer *buffer = pool_take(ingress->pool);
    if (buffer != NULL)
        return buffer;
    delivery_write(ingress->delivery);
    if ((buffer = pool_take(ingress->pool)) != NULL)
        return buffer;
    for (uint32_t i = 0; i < ingress->now.table->connection_count; i++)
        if (ingress->now.orders[i] != NULL)
            ordering_copy_out(ingress->now.orders[i]);
    return pool_take(ingress->pool);
}

/* Read the ancillary data: the size of the datagrams in the buffer, 0 for a single one, and their ECN field. */
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

static struct mpt_address sender_of(const struct msghdr *message) { /* version 0: the socket is connected */
    struct mpt_address sender;
    memset(&sender, 0, sizeof sender); /* octets that IPv4 does not use are compared, too */
    const struct sockaddr_in6 *name = message->msg_name;
    if (message->msg_namelen >= sizeof(struct sockaddr_in) && name->sin6_family == AF_INET) {
        sender.version = 4;
        memcpy(sender.octets, &((const struct sockaddr_in *)message->msg_name)->sin_addr, 4);
    } else if (message->msg_namelen >= sizeof(struct sockaddr_in6) && name->sin6_family == AF_INET6) {
        sender.version = 6;
        memcpy(sender.octets, &name->sin6_addr, 16);
    }
    return sender;
}

/* --- a datagram's way to the reorder window --- */

static void decapsulate(struct ingress *ingress, const struct source *source, struct buffer *buffer, uint8_t *datagram,
                        uint32_t length, unsigned outer_ecn, double now) {
    struct opened opened;
    int reason;
    ingress->counters->datagrams_received++;
    if (source == NULL) {
        ingress->counters->ingress_dropped[MPT_UNKNOWN_SOURCE]++;
        return;
    }
    if ((reason = frame_open(datagram, length, &opened)) != 0) {
        ingress->counters->ingress_dropped[reason]++;
        return;
    }
    uint8_t *packet = opened.payload;
    length = opened.length;
    if (length == 0 || packet[0] >> 4 != opened.version) {
        not_ip(ingress, source, &opened, now);
        return;
    }
    const struct path *path = identify(ingress, source, packet, length, &reason);
    if (path == NULL) {
        ingress->counters->ingress_dropped[reason]++;
        return;
    }
    struct mpt_path_counters *counters = &path->state->counters;
    counters->packets_received++;
    counters->bytes_received += length;
    counters->last_received = now;
    if (outer_ecn) {
        int result = mpt_decapsulate_ecn(packet, outer_ecn);
        ingress->counters->ecn_unexpected += result != 0;
        if (result < 0) {
            ingress->counters->ingress_dropped[MPT_ECN_NOT_ECT]++;
            return;
        }
    }
    const struct mpt_connection_row *row = &ingress->now.table->connections[path->connection].row;
    if (row->mss_clamp)
        mss_clamp(packet, length, row->mss_clamp, false);
    buffer->references++;
    struct packet kept = {packet, length, buffer};
    struct ordering *order = ingress->now.orders[path->connection];
    if (!opened.sequenced || order == NULL) {
        delivery_add(ingress->delivery, kept);
        return;
    }
    ingress->now.paths[path->index].last_sequence = opened.sequence;
    ingress->now.paths[path->index].has_brought = true;
    ordering_arrive(order, (struct mark){.sequence = opened.sequence}, kept, path->row.id, now);
    ingress->waiting = ordering_waits(order) ? &ingress->now.table->connections[path->connection] : NULL;
}

/* Pass a keepalive to control; drop any other payload that is no packet of the announced version. */
static void not_ip(struct ingress *ingress, const struct source *source, const struct opened *opened, double now) {
    struct mpt_address sender, receiver;
    if (frame_is_keepalive(opened, &sender, &receiver))
        for (uint32_t i = 0; i < source->path_count; i++) {
            const struct mpt_connection_row *row = &ingress->now.table->connections[source->paths[i]->connection].row;
            if (same_address(&sender, &row->inner_remote) && same_address(&receiver, &row->inner_local)) {
                heard(ingress, source->paths[i], opened, now);
                return;
            }
        }
    ingress->counters->ingress_dropped[frame_no_packet(opened)]++;
}

/* Pass the first keepalive of a path in a wake-up to control, and count all. */
static void heard(struct ingress *ingress, const struct path *path, const struct opened *opened, double now) {
    struct ordering *order = ingress->now.orders[path->connection];
    ingress->counters->keepalives_received++;
    if (order != NULL)
        ordering_keepalive(order, path->row.id, now);
    if (ingress->now.paths[path->index].told_in_wake != ingress->wakes)
        events_add(ingress->events, path->row.id, opened->payload, opened->length, now);
    ingress->now.paths[path->index].told_in_wake = ingress->wakes;
}

static const struct path *identify(struct ingress *ingress, const struct source *source, const uint8_t *packet, uint32_t length,
                                   int *reason) {
    unsigned version = ip_version(packet, length);
    bool known;
    *reason = MPT_INNER_TRUNCATED;
    if (version == 0)
        return NULL;
    struct flow *flow = flow_of(&ingress->flows, source, version, packet, &known);
    if (!known) {
        struct mpt_address sender = ip_source(packet), destination = ip_destination(packet);
        flow->found = NULL;
        flow->reason = MPT_INNER_SOURCE;
        if (same_address(&destination, &source->loop))
            flow->reason = MPT_LOOP; /* RFC 2784 section 2.4.1: the packet would come back to its encapsulator */
        else {
            uint32_t best = 0; /* a connection that has the destination goes before one that knows the sender better */
            for (uint32_t i = 0; i < source->path_count; i++) {
                const struct connection *c = &ingress->now.table->connections[source->paths[i]->connection];
                uint32_t reach = connection_reach(c, &sender);
                uint32_t fit = reach && connection_is_here(c, &destination) ? reach + ADDRESS : reach;
                if (fit > best) {
                    best = fit;
                    flow->found = source->paths[i];
                }
            }
        }
    }
    *reason = flow->reason;
    return flow->found;
}

/* --- time and counters --- */

/* Tell every order whether datagrams wait in a socket: then they are read later than they came. */
static void update_backlog(struct ingress *ingress) {
    for (uint32_t i = 0; i < ingress->now.table->connection_count; i++)
        if (ingress->now.orders[i] != NULL)
            ordering_set_behind(ingress->now.orders[i], ingress->now.listening.behind_count > 0);
}

void ingress_deadline_reached(struct ingress *ingress, double now) {
    for (uint32_t i = 0; i < ingress->now.table->connection_count; i++)
        if (ingress->now.orders[i] != NULL && ordering_held(ingress->now.orders[i]) > 0)
            ordering_deadline(ingress->now.orders[i], now);
    delivery_write(ingress->delivery);
}

double ingress_next_deadline(const struct ingress *ingress) {
    double first = -1;
    for (uint32_t i = 0; i < ingress->now.table->connection_count; i++) {
        double deadline = ingress->now.orders[i] != NULL ? ordering_next_deadline(ingress->now.orders[i]) : -1;
        if (deadline >= 0 && (first < 0 || deadline < first))
            first = deadline;
    }
    return first;
}

void ingress_count(const struct ingress *ingress, struct mpt_counters *counters) {
    for (uint32_t i = 0; i < ingress->now.table->connection_count; i++)
        if (ingress->now.orders[i] != NULL) {
            ordering_drops(ingress->now.orders[i], counters->ingress_dropped);
            counters->packets_held += ordering_held(ingress->now.orders[i]);
        }
}
