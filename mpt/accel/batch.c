/* See batch.h. Every path sends its packets in as few system calls as it can. Plain payload is not copied: the kernel gathers
 * headers and payload from their places. What is to be sealed is copied into one row of datagrams, and sealed there.
 *
 * A packet is sealed when its path is known and its turn has come. The number in its envelope is then used up: what goes again,
 * over whatever path and with whatever sequence number, is sealed anew. */

#define _GNU_SOURCE /* sendmmsg() */

#include "batch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "ancillary.h"
#include "flowkey.h"
#include "transmit.h"

enum { PACKETS = 256 };  /* a batch */
enum { MESSAGES = 64 };
enum { SEGMENTS = 63 }; /* of a run: UDP_MAX_SEGMENTS is 64 or more, but old kernels counted the headers, too */
enum { RUN_BYTES = 65535 - 14 - 40 - 8 }; /* with its headers a run is no longer than a link takes in one piece */
enum { SEALED_LONGEST = (1 << 16) + HEADER_ROOM }; /* octets: no run is longer, nor a packet of the TUN with all that is added */
enum { SEALED_ROOM = 3 * SEALED_LONGEST }; /* of what is sealed at once: the kernel takes it from the cache of a core */

struct run { int32_t first; uint32_t count; }; /* packets that one message carries */

struct batch_path { /* beside a path of the table */
    bool segment;          /* UDP_SEGMENT works here as far as we know */
    bool refuses;          /* it refused its last message */
    int32_t first, last;   /* its packets; -1: none */
};
struct batch_connection { /* beside a connection of the table */
    uint32_t sequence; /* the next number of packets without a key */
    uint32_t *numbers; /* the next ones by key; NULL: no packet has had a key */
    uint32_t numbered; /* packets of the batch that have a number */
    uint32_t limit; /* packets that may leave path by path: well within the peer's reorder window, if it equals ours */
    bool batched;
};
struct plane { /* of one table */
    const struct table *table;
    struct batch_path *paths;
    struct batch_connection *connections;
};
struct batch {
    bool segments; /* the kernel has UDP_SEGMENT */
    struct mpt_counters *counters;
    struct plane now, next; /* `next`: prepared */
    uint32_t count, touched_count;
    const struct path *touched[PACKETS];
    struct outgoing packets[PACKETS];
    struct run runs[MESSAGES];
    struct mmsghdr messages[MESSAGES];
    struct iovec pieces[2 * PACKETS];
    union ancillary ancillaries[MESSAGES];
    uint16_t stamp; /* of the wake-up */
    uint8_t sealed[SEALED_ROOM];
};

static void send_path(struct batch *b, const struct path *path);
static uint32_t gather(struct batch *b, const struct path *path, int32_t *next, bool cuts, uint32_t most);
static uint32_t seal(struct batch *b, const struct outgoing *o, const struct path *path, uint8_t *datagram);
static void refused(struct batch *b, struct outgoing *o, const struct path *path, int error, bool again);
static int try_alone(struct batch *b, struct outgoing *o, const struct path *path);
static void count_sent(struct outgoing *o, const struct path *path);
static void number_anew(struct batch *b, const struct connection *c);

/* --- life, and the table --- */

struct batch *batch_new(bool segments, struct mpt_counters *counters) {
    struct batch *b = calloc(1, sizeof *b);
    if (b != NULL) {
        b->segments = segments;
        b->counters = counters;
    }
    return b;
}

static void plane_free(struct plane *plane) {
    for (uint32_t i = 0; plane->connections != NULL && i < plane->table->connection_count; i++)
        free(plane->connections[i].numbers);
    free(plane->paths);
    free(plane->connections);
    *plane = (struct plane){0};
}

void batch_free(struct batch *b) {
    if (b == NULL)
        return;
    plane_free(&b->now);
    plane_free(&b->next);
    free(b);
}

static struct batch_path *state_of(struct batch *b, const struct path *path) { return &b->now.paths[path->index]; }

static const struct connection *connection_of(const struct batch *b, const struct path *path) {
    return &b->now.table->connections[path->connection];
}

/* Return how many packets may go path by path: a peer may have a smaller window than we. Each path gets whole runs, as a
 * message costs the kernel as much as some 50 packets in it. */
static uint32_t batch_limit(const struct connection *c) {
    enum { RUN = RUN_BYTES / 1472 }; /* packets of the longest datagrams over Ethernet */
    uint32_t usable = 0, half = c->row.reorder_window / 2;
    for (uint32_t i = 0; i < c->row.path_count; i++)
        usable += c->paths[i].row.usable != 0;
    if (c->row.reorder_window == 0 || usable <= 1)
        return UINT32_MAX;
    uint32_t limit = usable * RUN * (usable == 2 ? 2 : 1);
    return half < limit ? half : limit;
}

bool batch_prepare(struct batch *b, const struct table *table) {
    struct plane *next = &b->next;
    plane_free(next);
    *next = (struct plane){
        .table = table,
        .paths = calloc(table->path_count + 1, sizeof *next->paths),
        .connections = calloc(table->connection_count + 1, sizeof *next->connections),
    };
    if (next->paths == NULL || next->connections == NULL) {
        plane_free(next);
        return false;
    }
    for (uint32_t i = 0; i < table->path_count; i++)
        next->paths[i] = (struct batch_path){.segment = b->segments, .first = -1, .last = -1};
    for (uint32_t i = 0; i < table->connection_count; i++) {
        const struct connection *c = &table->connections[i];
        const struct connection *old = b->now.table != NULL ? table_find(b->now.table, c->row.id) : NULL;
        const struct batch_connection *before = old != NULL ? &b->now.connections[old->index] : NULL;
        struct batch_connection *state = &next->connections[i];
        if (before != NULL)
            state->sequence = before->sequence;
        state->limit = batch_limit(c);
        if (c->row.keyed && (before == NULL || before->numbers == NULL)
            && (state->numbers = calloc(FLOW_KEYS, sizeof *state->numbers)) == NULL) {
            plane_free(next);
            return false;
        }
    }
    return true;
}

void batch_cancel(struct batch *b) { plane_free(&b->next); }

/* The numbers by key move on to the new table. */
void batch_commit(struct batch *b) {
    for (uint32_t i = 0; i < b->next.table->connection_count; i++) {
        const struct connection *c = &b->next.table->connections[i];
        const struct connection *old = b->now.table != NULL ? table_find(b->now.table, c->row.id) : NULL;
        struct batch_connection *before = old != NULL ? &b->now.connections[old->index] : NULL;
        if (before != NULL && before->numbers != NULL) {
            b->next.connections[i].numbers = before->numbers;
            before->numbers = NULL;
        }
    }
    plane_free(&b->now);
    b->now = b->next;
    b->next = (struct plane){0};
}

void batch_share_changed(struct batch *b, const struct connection *c) {
    b->now.connections[c->index].limit = batch_limit(c);
}

bool batch_cuts(const struct batch *b) {
    for (uint32_t i = 0; i < b->now.table->path_count; i++)
        if (b->now.table->paths[i].row.usable && !b->now.paths[i].segment)
            return false;
    return b->segments;
}

static bool local_trouble(int error) { return error == EAGAIN || error == ENOBUFS || error == EMSGSIZE; }

static uint32_t size_of(const struct outgoing *o) { return o->head_length + o->payload_length; }

void batch_set_stamp(struct batch *b, uint16_t stamp) { b->stamp = stamp; }

/* --- into the batch --- */

/* Return the next number of a space, which is not UNNUMBERED. */
static uint32_t *number_of(struct batch_connection *state, int32_t space) {
    return space == NO_KEY ? &state->sequence : &state->numbers[space];
}

struct outgoing *batch_add(struct batch *b, const struct connection *c, const struct path *path, int32_t space) {
    struct batch_connection *state = &b->now.connections[c->index];
    /* While a path refuses, send each packet at once, so that its fallback keeps the order and wastes no number. */
    struct batch_path *chosen = state_of(b, path);
    bool alone = chosen->refuses || (b->count > 0 && state_of(b, b->packets[0].path)->refuses);
    if (b->count == PACKETS || alone || (state->batched && state->numbered >= state->limit))
        batch_send(b);
    if (!state->batched) {
        state->batched = true;
        state->numbered = 0;
    }
    int32_t i = (int32_t)b->count++;
    struct outgoing *o = &b->packets[i];
    o->path = path;
    o->state = PENDING;
    o->next = -1;
    o->space = space;
    if (space != UNNUMBERED) {
        o->number = (*number_of(state, space))++;
        state->numbered++;
    }
    o->frame_length = frame_length(space);
    o->payload = NULL;
    o->payload_length = 0;
    if (chosen->first < 0) {
        chosen->first = i;
        b->touched[b->touched_count++] = path;
    } else
        b->packets[chosen->last].next = i;
    chosen->last = i;
    return o;
}

/* --- sending the batch --- */

void batch_send(struct batch *b) {
    for (uint32_t i = 0; i < b->touched_count; i++) {
        struct batch_path *path = state_of(b, b->touched[i]);
        send_path(b, b->touched[i]);
        path->first = path->last = -1;
    }
    for (uint32_t i = 0; i < b->touched_count; i++)
        b->now.connections[b->touched[i]->connection].batched = false;
    b->count = b->touched_count = 0;
}

/* A path that refuses a message carries no more of the batch: the peer would take the numbers that now come over other
 * paths for lost. What was sealed behind a refused message is sealed anew, message by message, as its numbers change. */
static void send_path(struct batch *b, const struct path *path) {
    struct batch_path *state = state_of(b, path);
    int32_t next = state->first;
    int refusal = 0;
    bool cuts = state->segment, sealed = connection_of(b, path)->row.sealed;
    while (next >= 0) {
        uint32_t count = gather(b, path, &next, cuts, sealed && state->refuses ? 1 : MESSAGES), done = 0;
        while (done < count) {
            struct run *run = &b->runs[done];
            int sent = refusal ? -1 : sendmmsg(path->row.fd, &b->messages[done], count - done, MSG_DONTWAIT);
            int error = refusal ? refusal : errno;
            if (sent > 0) {
                b->counters->sends++;
                state->refuses = false;
                for (; sent > 0; sent--, done++) {
                    int32_t i = b->runs[done].first;
                    for (uint32_t k = 0; k < b->runs[done].count; k++, i = b->packets[i].next)
                        count_sent(&b->packets[i], path);
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
            for (uint32_t k = 0; k < run->count; k++, i = b->packets[i].next)
                refused(b, &b->packets[i], path, error, refusal != 0);
            if (!local_trouble(error))
                refusal = error;
            number_anew(b, connection_of(b, path));
            done++;
            if (sealed && i >= 0) {
                next = i;
                break;
            }
        }
    }
}

/* Make messages of the packets from `next` on: single ones, or, if the link cuts them, runs of equal size and TOS octet,
 * whose last packet may be shorter. */
static uint32_t gather(struct batch *b, const struct path *path, int32_t *next, bool cuts, uint32_t most) {
    const struct place place = place_of(path);
    uint32_t count = 0, used = 0, overhead = connection_of(b, path)->row.sealed ? SEAL_OVERHEAD : 0;
    struct iovec *piece = b->pieces;
    for (; count < most && *next >= 0 && used + SEALED_LONGEST <= SEALED_ROOM; count++) {
        uint32_t size = size_of(&b->packets[*next]), bytes = 0, last;
        uint8_t tos = b->packets[*next].tos;
        struct run *run = &b->runs[count];
        struct iovec *first_piece = piece;
        *run = (struct run){*next, 0};
        do {
            struct outgoing *o = &b->packets[*next];
            last = size_of(o);
            if (overhead)
                used += seal(b, o, path, b->sealed + used);
            else {
                *piece++ = (struct iovec){o->head, o->head_length};
                if (o->payload_length)
                    *piece++ = (struct iovec){(void *)(uintptr_t)o->payload, o->payload_length};
            }
            bytes += last + overhead;
            run->count++;
            *next = o->next;
        } while (cuts && *next >= 0 && last == size && run->count < SEGMENTS
                 && b->packets[*next].tos == tos && size_of(&b->packets[*next]) <= size
                 && bytes + size_of(&b->packets[*next]) + overhead <= RUN_BYTES);
        if (overhead)
            *piece++ = (struct iovec){b->sealed + used - bytes, bytes};
        struct msghdr *message = &b->messages[count].msg_hdr;
        *message = (struct msghdr){
            .msg_name = place_name(&place), .msg_namelen = place.name_length,
            .msg_iov = first_piece, .msg_iovlen = (size_t)(piece - first_piece),
        };
        if (run->count > 1)
            ancillary_add_segment_size(message, &b->ancillaries[count], size + overhead);
        if (tos)
            ancillary_add_tos(message, &b->ancillaries[count], place.name, tos);
    }
    return count;
}

/* Put a packet into a sealed datagram with the next number of `path`. Return the length of the datagram. */
static uint32_t seal(struct batch *b, const struct outgoing *o, const struct path *path, uint8_t *datagram) {
    uint32_t length = size_of(o) + SEAL_OVERHEAD;
    memcpy(datagram + ENVELOPE_HEAD, o->head, o->head_length);
    if (o->payload_length > 0) /* a copy costs less than a seal of two pieces: see docs/performance.md */
        memcpy(datagram + ENVELOPE_HEAD + o->head_length, o->payload, o->payload_length);
    session_close(connection_of(b, path)->owner->sending, path->row.seal_id, datagram, length, b->stamp);
    return length;
}

/* --- refusals --- */

/* `path` has refused this packet, or an earlier one of the batch, with `error`: try the other paths, unless the trouble is
 * this host's; `again`: and then the path itself. */
static void refused(struct batch *b, struct outgoing *o, const struct path *path, int error, bool again) {
    const struct connection *c = connection_of(b, path);
    path->state->counters.send_errors[errno_index(error)]++;
    for (const struct path *other = c->paths; other < c->paths + c->row.path_count && !local_trouble(error); other++)
        if (other != path && other->row.usable && size_of(o) - o->frame_length <= path_carries(other)
            && (error = try_alone(b, o, other)) == 0)
            return;
    if (again && !local_trouble(error) && (error = try_alone(b, o, path)) == 0)
        return;
    o->state = FAILED;
    b->counters->send_drops[errno_index(error)]++;
}

static int try_alone(struct batch *b, struct outgoing *o, const struct path *path) {
    const struct place place = place_of(path);
    struct iovec pieces[2] = {{o->head, o->head_length}, {(void *)(uintptr_t)o->payload, o->payload_length}};
    size_t count = o->payload_length ? 2 : 1;
    if (connection_of(b, path)->row.sealed) {
        pieces[0] = (struct iovec){b->sealed, seal(b, o, path, b->sealed)};
        count = 1;
    }
    int error = transmit(&place, pieces, count, o->tos);
    if (error == 0)
        count_sent(o, path);
    else
        path->state->counters.send_errors[errno_index(error)]++;
    return error;
}

static void count_sent(struct outgoing *o, const struct path *path) {
    o->state = SENT;
    path->state->counters.packets_sent++;
    path->state->counters.bytes_sent += size_of(o) - o->frame_length;
}

/* Only a packet that was sent uses up a sequence number: number the pending packets anew, each between its neighbours. The
 * first of a number space has kept its number, if it was sent or not. */
static void number_anew(struct batch *b, const struct connection *c) {
    struct batch_connection *state = &b->now.connections[c->index];
    state->numbered = 0;
    for (struct outgoing *o = b->packets + b->count; o-- > b->packets;)
        if (o->path->connection == c->index && o->space != UNNUMBERED)
            *number_of(state, o->space) = o->number;
    for (struct outgoing *o = b->packets; o < b->packets + b->count; o++) {
        if (o->path->connection != c->index || o->state == FAILED || o->space == UNNUMBERED)
            continue;
        uint32_t *next = number_of(state, o->space);
        if (o->state == PENDING) {
            o->number = *next;
            frame_renumber(o->head, o->space, *next);
        }
        *next = o->number + 1;
        state->numbered++;
    }
}
