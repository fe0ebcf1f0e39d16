/* TUN to network: read, cut, find the connection, pick a path, put the frame before it, send.
 *
 * The twin is mpt/data/egress.py, and in both a packet meets the functions in the order in which they stand. The difference
 * is the batch (batch.h): packets are read until the TUN is empty or the batch is full, then every path sends its packets.
 */

#include "egress.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "batch.h"
#include "flowkey.h"
#include "fragment.h"
#include "frame.h"
#include "mss.h"
#include "schedule.h"
#include "split.h"
#include "toobig.h"

enum { GROUP = MPT_REASONS }; /* no reason to drop a packet */
enum { READS = 256, WAKE_WORK = 1 << 20, WORK_PACKET = 1024 }; /* octets, and the further cost of a packet: a wake-up of
                                                                 about 1 ms, for which keepalives and commands wait */
enum { READ_ROOM = MAX_PACKET + 64, HEADROOM = 16 };
enum { ARENA = 8 * (READ_ROOM + 2 * HEADROOM) }; /* the frames of a batch: small enough for the cache of a core */

struct egress_connection { /* beside a connection of the table */
    struct cycle_entry *cycle;
    uint32_t cycle_count;
    uint32_t narrowest, widest; /* of the paths in the cycle: octets of their largest packets; UINT32_MAX: any */
};
struct plane { /* of one table */
    const struct table *table;
    struct egress_connection *connections;
    struct cycle_entry *cycles;
};
struct egress {
    int tun;
    bool vnet; /* the TUN has IFF_VNET_HDR */
    struct mpt_counters *counters;
    struct adaptives *adaptives;
    struct batch *batch;
    struct plane now, next; /* `next`: prepared */
    struct flow_cache flows;
    double time; /* of the wake-up */
    struct mpt_tuning tuning;
    uint64_t secret; /* of the keys of flows */
    struct allowance answers;
    uint32_t used;
    uint8_t arena[ARENA];
    uint8_t segment[READ_ROOM]; /* of a super-packet, whole */
};

static uint32_t read_frame(struct egress *e, const struct virtio_net_hdr *vnet, uint8_t *packet, uint32_t length);
static const struct connection *classify(struct egress *e, const uint8_t *packet, uint32_t length, int *reason);
static void encapsulate(
    struct egress *e, const struct connection *c, uint8_t *packet, uint32_t length, const struct split *split, bool shared
);
static void offer(struct egress *e, const struct connection *c, struct adaptive *adaptive, const struct path *mapped,
                  const uint8_t *packet, uint32_t length, const struct split *split);
static int32_t number_space(const struct egress *e, const struct connection *c, const uint8_t *packet, uint32_t length, bool cut);
static struct outgoing *enqueue(struct egress *e, const struct connection *c, const struct path *path, int32_t space,
                                uint32_t size);
static bool fits_some(struct egress_connection *state, const struct connection *c, uint32_t *size);
static void refuse(
    struct egress *e, const struct connection *c, const uint8_t *packet, uint32_t length, const struct split *split, bool shared
);
static bool cut(struct egress *e, const struct connection *c, const uint8_t *packet, uint32_t length);
static void answer(struct egress *e, const struct connection *c, const uint8_t *packet, uint32_t length);
static void drop(struct egress *e, int reason, uint64_t packets);

/* --- life, and the table --- */

struct egress *egress_new(int tun, int offloads, const struct mpt_tuning *tuning, uint64_t secret, struct adaptives *adaptives,
                          struct mpt_counters *counters) {
    struct egress *e = calloc(1, sizeof *e);
    if (e == NULL)
        return NULL;
    e->tun = tun;
    e->vnet = offloads & MPT_VNET_HDR;
    e->counters = counters;
    e->adaptives = adaptives;
    e->tuning = *tuning;
    e->secret = secret;
    e->answers = (struct allowance){.left = tuning->answers_at_once};
    e->batch = batch_new(offloads & MPT_UDP_SEGMENT, counters);
    if (e->batch == NULL) {
        free(e);
        return NULL;
    }
    return e;
}

static void plane_free(struct plane *plane) {
    free(plane->connections);
    free(plane->cycles);
    *plane = (struct plane){0};
}

void egress_free(struct egress *e) {
    if (e == NULL)
        return;
    plane_free(&e->now);
    plane_free(&e->next);
    batch_free(e->batch);
    free(e);
}

static void measure(struct egress_connection *state, const struct connection *c) {
    state->narrowest = UINT32_MAX;
    state->widest = 0;
    for (uint32_t i = 0; i < state->cycle_count; i++) {
        uint32_t size = path_carries(&c->paths[state->cycle[i].index]);
        state->narrowest = size < state->narrowest ? size : state->narrowest;
        state->widest = size > state->widest ? size : state->widest;
    }
}

static void share_out(struct egress_connection *state, const struct connection *c) {
    state->cycle_count = 0;
    for (uint32_t i = 0; i < c->row.path_count; i++)
        if (c->paths[i].row.usable)
            state->cycle[state->cycle_count++] = (struct cycle_entry){.index = i, .weight = c->paths[i].row.weight};
    measure(state, c);
}

bool egress_prepare(struct egress *e, const struct table *table) {
    struct plane *next = &e->next;
    plane_free(next);
    *next = (struct plane){
        .table = table,
        .connections = calloc(table->connection_count + 1, sizeof *next->connections),
        .cycles = calloc(table->path_count + 1, sizeof *next->cycles),
    };
    if (next->connections == NULL || next->cycles == NULL || !batch_prepare(e->batch, table)) {
        plane_free(next);
        return false;
    }
    for (uint32_t i = 0; i < table->connection_count; i++) {
        const struct connection *c = &table->connections[i];
        next->connections[i].cycle = next->cycles + (c->paths - table->paths);
        share_out(&next->connections[i], c);
    }
    return true;
}

void egress_cancel(struct egress *e) {
    batch_cancel(e->batch);
    plane_free(&e->next);
}

void egress_commit(struct egress *e) {
    batch_commit(e->batch);
    plane_free(&e->now);
    e->now = e->next;
    e->next = (struct plane){0};
    flow_cache_clear(&e->flows);
}

void egress_share_changed(struct egress *e, const struct path *path) {
    const struct connection *c = &e->now.table->connections[path->connection];
    share_out(&e->now.connections[c->index], c);
    batch_share_changed(e->batch, c);
    adaptives_path_changed(e->adaptives, path);
}

void egress_mtu_changed(struct egress *e, const struct path *path) {
    const struct connection *c = &e->now.table->connections[path->connection];
    measure(&e->now.connections[c->index], c);
    adaptives_path_changed(e->adaptives, path);
}

void egress_peers_changed(struct egress *e) { flow_cache_clear(&e->flows); }

bool egress_cuts(const struct egress *e) { return batch_cuts(e->batch); }

/* --- a packet's way into the batch --- */

uint32_t egress_tun_readable(struct egress *e, double now) {
    e->time = now;
    batch_set_stamp(e->batch, stamp_of(now));
    uint32_t before = e->vnet ? VNET : 0, work = 0;
    for (int reads = 0; reads < READS && work < WAKE_WORK; reads++) {
        if (e->used + HEADROOM + READ_ROOM > ARENA) {
            batch_send(e->batch);
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
    batch_send(e->batch);
    e->used = 0;
    return work;
}

/* Return how many packets it is, copies included. HEADROOM octets before `packet` may be overwritten. */
static uint32_t read_frame(struct egress *e, const struct virtio_net_hdr *vnet, uint8_t *packet, uint32_t length) {
    struct split split = {.segments = 1};
    uint32_t copies = 1;
    int reason;
    bool whole = vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE;
    if (whole ? !complete_checksum(vnet, packet, length) : !split_start(&split, vnet, packet, length)) {
        drop(e, MPT_OFFLOAD_MALFORMED, 1);
        return 1;
    }
    const struct connection *c = classify(e, packet, length, &reason);
    if (c != NULL)
        encapsulate(e, c, packet, length, &split, false);
    else if (reason == GROUP) {
        const struct mpt_address source = ip_source(packet), destination = ip_destination(packet);
        for (uint32_t i = copies = 0; i < e->now.table->connection_count; i++)
            if (connection_takes_group(&e->now.table->connections[i], &source, &destination)) {
                encapsulate(e, &e->now.table->connections[i], packet, length, &split, true);
                copies++;
            }
    } else
        drop(e, reason, split.segments);
    return copies * split.segments;
}

/* Return the connection that knows the destination best. NULL: `reason` is the reason to drop, or GROUP for several. */
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

/* Put `packet`, or its segments, into the batch of `c`; a `shared` packet is not changed, as other connections take it too. */
static void encapsulate(
    struct egress *e, const struct connection *c, uint8_t *packet, uint32_t length, const struct split *split, bool shared
) {
    if (c->owner != NULL && c->owner->sending == NULL) {
        drop(e, MPT_NO_SESSION, split->segments);
        return;
    }
    const struct path *path = connection_mapped_path(c, packet, length);
    uint32_t size = split->packet == NULL || length < split->headers + split->size ? length : split->headers + split->size;
    if (size > e->now.connections[c->index].narrowest && !fits_some(&e->now.connections[c->index], c, &size)) {
        refuse(e, c, packet, length, split, shared);
        return;
    }
    if (c->row.mss_clamp && !shared)
        mss_clamp(packet, length, c->row.mss_clamp, split->packet != NULL);
    struct adaptive *adaptive = adaptives_sender(e->adaptives, c);
    if (adaptive != NULL && e->now.connections[c->index].cycle_count > 0) {
        if (path != NULL && (!path->row.usable || size > path_carries(path)))
            path = NULL;
        offer(e, c, adaptive, path, packet, length, split);
        return;
    }
    uint8_t tos = c->row.sets_tos ? c->row.tos_by_inner[tos_octet(packet)] : 0;
    int32_t space = number_space(e, c, packet, length, false);
    for (uint32_t i = 0; i < split->segments; i++) {
        struct outgoing *o = enqueue(e, c, path, space, size);
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
        frame_put(o->head, packet[0] >> 4, o->space, o->number);
    }
}

/* Give `packet`, or its segments, to an adaptive connection, which sends them now or later: in cells of their own. */
static void offer(struct egress *e, const struct connection *c, struct adaptive *adaptive, const struct path *mapped,
                  const uint8_t *packet, uint32_t length, const struct split *split) {
    const struct offer all = adaptive_offer_of(adaptive, packet, length, mapped);
    adaptives_will_act(e->adaptives, c);
    e->counters->packets_read += split->segments;
    for (uint32_t i = 0; i < split->segments; i++) {
        const uint8_t *payload;
        uint32_t whole = split->packet != NULL ? split->headers + split->size : length;
        struct cell *cell = cell_take(&e->adaptives->yard.cells, whole);
        if (cell == NULL) {
            e->counters->egress_dropped[MPT_QUEUE_FULL]++;
            continue;
        }
        if (split->packet != NULL) {
            uint32_t size = split_segment(split, i, cell_packet(cell), &payload);
            memcpy(cell_packet(cell) + split->headers, payload, size);
            cell->length = split->headers + size;
        } else
            memcpy(cell_packet(cell), packet, length);
        adaptive_offer(adaptive, cell, &all, e->time);
    }
}

void egress_send(struct egress *e, uint32_t id, struct cell *cell) {
    const struct connection *c = table_find(e->now.table, id);
    const struct split whole = {.segments = 1};
    e->counters->packets_read--; /* it was counted when it came */
    if (c != NULL)
        encapsulate(e, c, cell_packet(cell), cell->length, &whole, true);
    else
        drop(e, MPT_NO_CONNECTION, 1);
    batch_send(e->batch);
    cell_release(&e->adaptives->yard.cells, cell);
}

/* Return the number space of a packet of `c`; `cut`: it will be cut into fragments. */
static int32_t number_space(const struct egress *e, const struct connection *c, const uint8_t *packet, uint32_t length, bool cut) {
    return !c->row.sequenced ? UNNUMBERED : !c->row.keyed ? NO_KEY : (int32_t)flow_key(e->secret, packet, length, cut);
}

/* Return a place in the batch for the next packet of `c`, of `size` octets at the most: over `path` if it is usable, without a
 * number, as a mapped flow keeps its order by itself and waits for no other path; else over the next of the cycle. NULL: no
 * path is usable. The caller has looked whether some path carries the packet. */
static struct outgoing *enqueue(struct egress *e, const struct connection *c, const struct path *path, int32_t space,
                                uint32_t size) {
    struct egress_connection *state = &e->now.connections[c->index];
    e->counters->packets_read++;
    if (path != NULL && path->row.usable && size <= path_carries(path))
        return batch_add(e->batch, c, path, UNNUMBERED);
    if (state->cycle_count == 0) {
        e->counters->egress_dropped[MPT_NO_PATH]++;
        return NULL;
    }
    uint32_t next = size <= state->narrowest ? cycle_next(state->cycle, state->cycle_count)
                                             : cycle_next_fitting(state->cycle, state->cycle_count);
    return batch_add(e->batch, c, &c->paths[next], space);
}

/* --- packets that do not fit every path --- */

/* Mark the paths of the cycle that carry a packet of `size` octets. Return whether there are some, or no path is usable. For
 * IPv6, every link carries 1280: if no path does, the widest has to, as if the packet were smaller. */
static bool fits_some(struct egress_connection *state, const struct connection *c, uint32_t *size) {
    bool some = state->cycle_count == 0;
    if (c->row.tunnel_local.version == 6 && *size <= LEAST_IPV6 && *size > state->widest)
        *size = state->widest;
    for (struct cycle_entry *entry = state->cycle; entry < state->cycle + state->cycle_count; entry++) {
        entry->fits = *size <= path_carries(&c->paths[entry->index]);
        some = some || entry->fits;
    }
    return some;
}

/* No path carries `packet`, or its segments: each is cut, or dropped and answered. */
static void refuse(
    struct egress *e, const struct connection *c, const uint8_t *packet, uint32_t length, const struct split *split, bool shared
) {
    for (uint32_t i = 0; i < split->segments; i++) {
        if (split->packet != NULL) {
            const uint8_t *payload;
            uint32_t size = split_segment(split, i, e->segment, &payload);
            memcpy(e->segment + split->headers, payload, size);
            packet = e->segment;
            length = split->headers + size;
        }
        bool is_cut = may_be_cut(packet) && cut(e, c, packet, length);
        if (is_cut && split->packet != NULL)
            batch_send(e->batch); /* the next segment takes its place */
        if (!is_cut) {
            drop(e, MPT_TOO_BIG, 1);
            if (i == 0 && !shared)
                answer(e, c, packet, length);
        }
    }
}

static void offer_fragment(struct egress *e, const struct connection *c, struct adaptive *adaptive, const struct path *mapped,
                           const struct fragments *fragments, uint32_t i) {
    const uint8_t *payload;
    struct cell *cell = cell_take(&e->adaptives->yard.cells, fragments->header + fragments->step);
    e->counters->packets_read++;
    if (cell == NULL) {
        e->counters->egress_dropped[MPT_QUEUE_FULL]++;
        return;
    }
    uint32_t size = fragments_head(fragments, i, cell_packet(cell), &payload);
    memcpy(cell_packet(cell) + fragments->header, payload, size);
    cell->length = fragments->header + size;
    if (mapped != NULL && (!mapped->row.usable || cell->length > path_carries(mapped)))
        mapped = NULL;
    const struct offer offer = adaptive_offer_of(adaptive, cell_packet(cell), cell->length, mapped);
    adaptives_will_act(e->adaptives, c);
    adaptive_offer(adaptive, cell, &offer, e->time);
}

/* Put `packet` into the batch in fragments. False: it cannot be cut. */
static bool cut(struct egress *e, const struct connection *c, const uint8_t *packet, uint32_t length) {
    struct egress_connection *state = &e->now.connections[c->index];
    const struct path *mapped = connection_mapped_path(c, packet, length);
    struct adaptive *adaptive = adaptives_sender(e->adaptives, c);
    struct fragments fragments;
    if (!fragments_start(&fragments, packet, length, state->widest))
        return false;
    int32_t space = number_space(e, c, packet, length, true);
    for (uint32_t i = 0; i < fragments.count; i++) {
        uint32_t left = fragments.total - fragments.header - i * fragments.step;
        uint32_t size = fragments.header + (left < fragments.step ? left : fragments.step);
        if (adaptive != NULL && state->cycle_count > 0) {
            offer_fragment(e, c, adaptive, i == 0 ? mapped : NULL, &fragments, i);
            continue;
        }
        fits_some(state, c, &size);
        struct outgoing *o = enqueue(e, c, i == 0 ? mapped : NULL, space, size); /* the others have no ports */
        if (o == NULL)
            continue;
        o->tos = c->row.sets_tos ? c->row.tos_by_inner[tos_octet(packet)] : 0;
        o->head = o->room;
        o->head_length = o->frame_length + fragments.header;
        o->payload_length = fragments_head(&fragments, i, o->room + o->frame_length, &o->payload);
        frame_put(o->head, 4, o->space, o->number);
    }
    return true;
}

/* Tell the sender of `packet` what would fit. The answer comes from the peer: Linux drops what arrives from its own address. */
static void answer(struct egress *e, const struct connection *c, const uint8_t *packet, uint32_t length) {
    struct virtio_net_hdr vnet = {.gso_type = VIRTIO_NET_HDR_GSO_NONE};
    uint8_t told[ANSWER_ROOM];
    const struct mpt_address *peer = &c->row.tunnel_peer, destination = ip_destination(packet);
    if (peer->version != packet[0] >> 4 || connection_is_group(c, &destination))
        return;
    uint32_t size = too_big_answer(packet, length, e->now.connections[c->index].widest, peer, told);
    struct iovec pieces[2] = {{&vnet, VNET}, {told, size}};
    if (size > 0 && allowance_take(&e->answers, e->tuning.answers, e->tuning.answers_at_once, e->time)) {
        ssize_t written = writev(e->tun, e->vnet ? pieces : pieces + 1, e->vnet ? 2 : 1);
        (void)written; /* the TUN is full: the next packet is answered */
    }
}

static void drop(struct egress *e, int reason, uint64_t packets) {
    e->counters->packets_read += packets;
    e->counters->egress_dropped[reason] += packets;
}
