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
#include "ordering.h"

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
    struct ordering **orders; /* by connection; NULL: no window. In a prepared plane also NULL: the old one stays */
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
static void update_backlog(struct ingress *ingress);

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
    if (old == NULL || old->row.reorder_window != c->row.reorder_window || old->row.max_delay != c->row.max_delay
        || old->row.sealed != c->row.sealed)
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
        next->orders[i] = ordering_new(&ingress->tuning, c->row.reorder_window, c->row.max_delay, c->row.sealed,
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

static void order_path(struct ordering *order, const struct path *path, bool sealed, double now) {
    bool brings = path->is_wanted && (path->row.fd >= 0 || sealed); /* sealed datagrams may come to any socket */
    if (order != NULL && brings)
        ordering_path_up(order, path->row.id, now);
    else if (order != NULL)
        ordering_path_down(order, path->row.id, now);
}

void ingress_share_set(struct ingress *ingress, const struct path *path, double now) {
    order_path(ingress->now.orders[path->connection], path, ingress->now.table->connections[path->connection].row.sealed, now);
}

void ingress_remote_set(struct ingress *ingress, const struct path *path) {
    flow_cache_clear(&ingress->flows);
    struct listener *listener = find_listener(&ingress->now.listening, path->row.fd);
    if (listener != NULL) /* else it is in no table yet, and nobody reads it */
        ingress->now.listening.of_path[path->index] = listener;
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
            order_path(next->orders[i], &c->paths[k], c->row.sealed, now);
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
    struct listener unknown = {.fd = fd, .is_sealed = true}, *asked = find_listener(listening, fd);
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
    if (got > 0)
        ingress->counters->receives++;
    for (int i = 0; i < got; i++) {
        struct msghdr *message = &ingress->messages[i].msg_hdr;
        unsigned ecn;
        uint32_t length = ingress->messages[i].msg_len, size = ancillary_read(message, &ecn), at = 0;
        struct mpt_address sender = ancillary_address(message->msg_name, message->msg_namelen);
        const struct source *source = find_source(&ingress->now.listening, listener->fd, &sender);
        const struct origin origin = {&ingress->names[i], message->msg_namelen, listener->fd};
        do {
            uint32_t left = length - at, step = size && size < left ? size : left;
            struct datagram datagram = {buffers[i]->data + at, step, ecn, buffers[i]};
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
    for (uint32_t i = 0; i < ingress->now.table->connection_count; i++)
        if (ingress->now.orders[i] != NULL)
            ordering_copy_out(ingress->now.orders[i]);
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
    struct ordering *order = ingress->now.orders[path->connection];
    if (!opened->sequenced || order == NULL) {
        delivery_add(ingress->delivery, kept);
        return;
    }
    ordering_arrive(order, *mark, kept, path->row.id, now);
    ingress->now.paths[path->index].last = row->sealed ? (uint32_t)ordering_sent(order) : mark->sequence;
    ingress->now.paths[path->index].has_brought = true;
    ingress->waiting = ordering_waits(order) ? &ingress->now.table->connections[path->connection] : NULL;
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
