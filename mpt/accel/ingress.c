/* Network to TUN: receive, check the sender, take off the frame, find the connection, put in order.
 *
 * The twin is mpt/data/ingress.py, and in both a datagram meets the functions in the order in which they stand. One system
 * call receives many datagrams, with UDP_GRO many in one buffer. They stay there (pool.h), and the packets of a wake-up are
 * written at its end (deliver.h).
 */

#define _GNU_SOURCE /* recvmmsg() */

#include "ingress.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "ancillary.h"
#include "frame.h"
#include "identify.h"
#include "listen.h"
#include "mss.h"
#include "orders.h"

enum { MESSAGES = 32, TURN_BYTES = 1 << 16 }; /* a turn is one system call, a wake-up some of them */
enum { WAKE_WORK = 1 << 20, WORK_DATAGRAM = 1024 }; /* octets, and the further cost of a datagram: a wake-up of about 1 ms,
                                                       for which keepalives and commands wait */

struct datagram { /* in a buffer of the pool */
    uint8_t *octets;
    uint32_t length;
    unsigned ecn; /* of its IP header */
    struct buffer *buffer;
};
struct ingress_path { /* beside a path of the table */
    bool has_brought;       /* `last` holds */
    uint32_t last;          /* how far the last packet was that came over it: its number; its time of sending if it was sealed */
    uint32_t told_in_wake;  /* the wake-up in which control was last told of a keepalive */
};
struct plane { /* of one table */
    const struct table *table;
    struct ingress_path *paths;
    struct orders orders;
    struct listening listening;
};
struct ingress {
    struct mpt_tuning tuning;
    uint64_t secret; /* of the hashes */
    struct pool *pool;
    struct delivery *delivery;
    struct unsealer *unsealer;
    struct mpt_counters *counters;
    struct plane now, next; /* `next`: prepared */
    struct flow_cache flows;
    const struct connection *waiting; /* of the last packet, if it or others wait for a gap */
    uint32_t wakes;
    struct mmsghdr messages[MESSAGES];
    struct iovec pieces[MESSAGES];
    struct sockaddr_in6 names[MESSAGES];
    union ancillary ancillaries[MESSAGES];
};

static const struct path *laggard(const struct ingress *ingress, const struct connection *c);
static struct listener *unfinished(const struct ingress *ingress, const struct connection *c);
static uint32_t receive(struct ingress *ingress, struct listener *listener, double now);
static struct buffer *take_buffer(struct ingress *ingress);
static void open_plain(struct ingress *ingress, const struct source *source, const struct datagram *datagram, double now);
static void open_sealed(struct ingress *ingress, const struct datagram *datagram, const struct origin *origin, double now);
static void not_ip(struct ingress *ingress, const struct source *source, const struct opened *opened, double now);
static void heard(struct ingress *ingress, const struct path *path, const struct opened *opened, double now);
static void arrive(struct ingress *ingress, const struct path *path, const struct opened *opened,
                   const struct datagram *datagram, const struct mark *mark, double now);

/* --- life --- */

struct ingress *ingress_new(const struct mpt_tuning *tuning, uint64_t secret, struct pool *pool, struct delivery *delivery,
                            struct unsealer *unsealer, struct mpt_counters *counters) {
    struct ingress *ingress = calloc(1, sizeof *ingress);
    if (ingress != NULL) {
        ingress->tuning = *tuning;
        ingress->secret = secret;
        ingress->pool = pool;
        ingress->delivery = delivery;
        ingress->unsealer = unsealer;
        ingress->counters = counters;
    }
    return ingress;
}

static void plane_free(struct plane *plane) {
    orders_free(&plane->orders);
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

bool ingress_prepare(struct ingress *ingress, const struct table *table) {
    struct plane *next = &ingress->next;
    struct sink sink = {deliver, release, ingress};
    plane_free(next);
    *next = (struct plane){.table = table, .paths = calloc(table->path_count + 1, sizeof *next->paths)};
    bool good = next->paths != NULL && listening_init(&next->listening, table)
        && orders_prepare(&next->orders, &ingress->now.orders, table, &ingress->tuning, ingress->secret, sink);
    if (!good)
        plane_free(next);
    return good;
}

void ingress_share_set(struct ingress *ingress, const struct path *path, double now) {
    orders_path_set(&ingress->now.orders, path, now);
}

void ingress_remote_set(struct ingress *ingress, const struct path *path) {
    flow_cache_clear(&ingress->flows);
    struct listener *listener = find_listener(&ingress->now.listening, path->row.fd);
    if (listener != NULL) /* else it is in no table yet, and nobody reads it */
        ingress->now.listening.of_path[path->index] = listener;
}

void ingress_commit(struct ingress *ingress, double now) {
    struct plane *next = &ingress->next;
    orders_commit(&next->orders, &ingress->now.orders, ingress->counters->ingress_dropped, now);
    delivery_write(ingress->delivery);
    plane_free(&ingress->now);
    ingress->now = *next;
    *next = (struct plane){0};
    ingress->waiting = NULL;
    flow_cache_clear(&ingress->flows);
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
    struct listener unknown = {.fd = fd, .is_sealed = true}, *asked = find_listener(listening, fd);
    uint32_t wake = ++ingress->wakes, work = 0;
    if (ingress->waiting != NULL && !orders_waits(&ingress->now.orders, ingress->waiting->index))
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
    ingress->now.orders.is_behind = listening->behind_count > 0;
    delivery_write(ingress->delivery);
    return work;
}

/* Return the path that is the furthest behind of the paths of `c` for which gaps wait and that may have more. */
static const struct path *laggard(const struct ingress *ingress, const struct connection *c) {
    const struct path *found = NULL;
    const struct ingress_path *behind = NULL;
    for (const struct path *path = c->paths; path < c->paths + c->row.path_count; path++) {
        const struct ingress_path *state = &ingress->now.paths[path->index];
        const struct listener *listener = ingress->now.listening.of_path[path->index];
        if (!path->is_wanted || listener == NULL || listener->done_in_wake == ingress->wakes)
            continue;
        if (found == NULL || (behind->has_brought
            && (!state->has_brought || (int32_t)(state->last - behind->last) < 0))) {
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
            .msg_control = &ingress->ancillaries[room], .msg_controllen = sizeof ingress->ancillaries[room],
        };
    }
    listener->done_in_wake = ingress->wakes;
    if (room == 0)
        return 0; /* no memory, which says nothing about the socket */
    int got = recvmmsg(listener->fd, ingress->messages, room, MSG_DONTWAIT, NULL);
    struct timespec wall = {0};
    if (got > 0) {
        clock_gettime(CLOCK_REALTIME, &wall);
        ingress->counters->receives++;
    }
    for (int i = 0; i < got; i++) {
        struct msghdr *message = &ingress->messages[i].msg_hdr;
        const struct received received = ancillary_read(message);
        uint32_t length = ingress->messages[i].msg_len, at = 0;
        struct mpt_address sender = ancillary_address(message->msg_name, message->msg_namelen);
        const struct source *source = find_source(&ingress->now.listening, listener->fd, &sender);
        const struct origin origin = {&ingress->names[i], message->msg_namelen, listener->fd,
                                      ancillary_waited(&received, &wall, ingress->tuning.longest_wait)};
        do {
            uint32_t left = length - at, step = received.size && received.size < left ? received.size : left;
            struct datagram datagram = {buffers[i]->data + at, step, received.ecn, buffers[i]};
            ingress->counters->datagrams_received++;
            if (listener->is_sealed && is_sealed(datagram.octets, step))
                open_sealed(ingress, &datagram, &origin, now);
            else
                open_plain(ingress, source, &datagram, now);
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
    orders_copy_out(&ingress->now.orders);
    return pool_take(ingress->pool);
}

/* --- a datagram's way to the reorder window --- */

static void drop(struct ingress *ingress, int reason) { ingress->counters->ingress_dropped[reason]++; }

static bool is_packet(const struct opened *opened) {
    return opened->length > 0 && opened->payload[0] >> 4 == opened->version;
}

static void open_plain(struct ingress *ingress, const struct source *source, const struct datagram *datagram, double now) {
    struct opened opened;
    const struct path *path = NULL;
    int reason = source != NULL ? frame_open(datagram->octets, datagram->length, &opened) : MPT_UNKNOWN_SOURCE;
    if (reason == 0 && !is_packet(&opened))
        not_ip(ingress, source, &opened, now);
    else if (reason != 0 || (path = identify(&ingress->flows, ingress->now.table, source, &opened, &reason)) == NULL)
        drop(ingress, reason);
    else
        arrive(ingress, path, &opened, datagram, &(struct mark){.sequence = opened.sequence}, now);
}

static void open_sealed(struct ingress *ingress, const struct datagram *datagram, const struct origin *origin, double now) {
    struct content content;
    struct opened opened;
    int reason = unseal(ingress->unsealer, datagram->octets, datagram->length, origin, now, &content);
    if (reason == 0 && content.path == NULL)
        return; /* control was told */
    if (reason == 0 && (reason = frame_open(content.octets, content.length, &opened)) == 0)
        reason = is_packet(&opened) ? check_sender(&ingress->flows, ingress->now.table, content.path, &opened)
                                    : frame_no_packet(&opened);
    if (reason != 0)
        drop(ingress, reason);
    else
        arrive(ingress, content.path, &opened, datagram,
               &(struct mark){opened.sequence, opened.key, opened.has_key, content.stamp}, now);
}

/* Pass a keepalive to control; drop any other payload that is no packet of the announced version. */
static void not_ip(struct ingress *ingress, const struct source *source, const struct opened *opened, double now) {
    struct mpt_address sender, receiver;
    if (frame_is_keepalive(opened, &sender, &receiver))
        for (uint32_t i = 0; i < source->path_count; i++) {
            const struct mpt_connection_row *row = &ingress->now.table->connections[source->paths[i]->connection].row;
            if (same_address(&sender, &row->tunnel_peer) && same_address(&receiver, &row->tunnel_local)) {
                heard(ingress, source->paths[i], opened, now);
                return;
            }
        }
    ingress->counters->ingress_dropped[frame_no_packet(opened)]++;
}

/* Pass the first keepalive of a path in a wake-up to control, and count all. */
static void heard(struct ingress *ingress, const struct path *path, const struct opened *opened, double now) {
    ingress->counters->keepalives_received++;
    orders_keepalive(&ingress->now.orders, path, now);
    if (ingress->now.paths[path->index].told_in_wake != ingress->wakes)
        events_add(ingress->unsealer->events, &(struct mpt_event){.subject = path->row.id, .fd = -1, .at = now},
                   opened->payload, opened->length);
    ingress->now.paths[path->index].told_in_wake = ingress->wakes;
}

static void arrive(struct ingress *ingress, const struct path *path, const struct opened *opened,
                   const struct datagram *datagram, const struct mark *mark, double now) {
    struct mpt_path_counters *counters = &path->state->counters;
    counters->packets_received++;
    counters->bytes_received += opened->length;
    counters->last_received = now;
    if (datagram->ecn) {
        int result = mpt_decapsulate_ecn(opened->payload, datagram->ecn);
        ingress->counters->ecn_unexpected += result != 0;
        if (result < 0) {
            drop(ingress, MPT_ECN_NOT_ECT);
            return;
        }
    }
    const struct mpt_connection_row *row = &ingress->now.table->connections[path->connection].row;
    if (row->mss_clamp)
        mss_clamp(opened->payload, opened->length, row->mss_clamp, false);
    datagram->buffer->references++;
    struct packet kept = {opened->payload, opened->length, datagram->buffer};
    if (!opened->sequenced || !orders_has(&ingress->now.orders, path)) {
        delivery_add(ingress->delivery, kept);
        return;
    }
    orders_arrive(&ingress->now.orders, path, *mark, kept, now);
    ingress->now.paths[path->index].last = row->sealed ? (uint32_t)orders_sent(&ingress->now.orders, path) : mark->sequence;
    ingress->now.paths[path->index].has_brought = true;
    ingress->waiting = orders_waits(&ingress->now.orders, path->connection) ? &ingress->now.table->connections[path->connection] : NULL;
}

/* --- time and counters --- */

void ingress_set_order(struct ingress *ingress, uint32_t connection, double hold, int32_t ticks, bool acks) {
    orders_set(&ingress->now.orders, connection, hold, ticks, acks);
}

void ingress_measure(const struct ingress *ingress, uint32_t id, struct mpt_adaptive_counters *counters) {
    orders_measure(&ingress->now.orders, id, counters);
}

void ingress_deadline_reached(struct ingress *ingress, double now) {
    orders_deadline(&ingress->now.orders, now);
    delivery_write(ingress->delivery);
}

double ingress_next_deadline(const struct ingress *ingress) { return orders_next_deadline(&ingress->now.orders); }

void ingress_count(const struct ingress *ingress, struct mpt_counters *counters) {
    orders_count(&ingress->now.orders, counters->ingress_dropped, &counters->packets_held);
}
