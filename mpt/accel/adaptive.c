/* See adaptive.h. The twin is mpt/data/adaptive.py, which has the rules. Packets that a wake-up sends are put into trains, one a
 * path, and leave together (train.h); what a socket refuses comes back here. */

#include "adaptive.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "transmit.h"

enum { UNORDERED_KEY = FLOW_KEYS, REFUSALS = 8 };
enum { ORDERED, UNORDERED, ACKNOWLEDGEMENT, COPIED, MAPPED, ASKING }; /* the kinds of cells; the last is a probe */

static void put(struct adaptive *a, struct room *room, struct cell *cell, const struct departure *departure);
static void depart(struct adaptive *a, struct room *room, struct cell *cell);
static void flush(struct yard *yard);

/* --- life, and the table --- */

static void was_lost(void *context, const struct under_way *entry) {
    struct adaptive *a = context;
    repair_lost(&a->repair, entry, a->now);
}

static void send_again(void *context, struct room *room, struct cell *cell, struct room *hanging) {
    put(context, room, cell, &(struct departure){.tries = (uint8_t)(cell->tries + 1), .is_repaired = true, .hanging = hanging});
}

bool adaptive_init(struct adaptive *a, struct yard *yard, struct receipts *receipts) {
    *a = (struct adaptive){.yard = yard, .receipts = receipts, .largest = yard->tuning->usual, .widest = UINT32_MAX};
    a->numbers = malloc((FLOW_KEYS + 1) * sizeof *a->numbers);
    if (a->numbers == NULL)
        return false;
    uint64_t mixed = yard->secret ^ (uint64_t)(uintptr_t)a;
    for (uint32_t key = 0; key <= FLOW_KEYS; key++) { /* a peer takes a number far away for that of a restarted process */
        mixed = mixed * 6364136223846793005u + 1442695040888963407u;
        a->numbers[key] = (uint32_t)(mixed >> 32);
    }
    a->sink = (struct flight_sink){was_lost, &yard->cells, a};
    a->repair = (struct repair){.tuning = yard->tuning, .rooms = &a->rooms, .sent = &a->sent, .cells = &yard->cells, .widest = UINT32_MAX,
                                .send = send_again, .context = a};
    flow_queue_init(&a->queue, yard->tuning, &yard->cells);
    return true;
}

void adaptive_destroy(struct adaptive *a) {
    for (struct cell *cell; (cell = adaptive_take(a)) != NULL;)
        cell_release(&a->yard->cells, cell);
    flow_queue_destroy(&a->queue);
    repair_clear(&a->repair);
    free(a->numbers);
    free(a->all);
}

void adaptive_configure(struct adaptive *a, const struct connection *c, struct room **all) {
    free(a->all);
    a->all = all;
    a->connection = c;
    if (c != NULL)
        flow_queue_set(&a->queue, c->row.target, c->row.interval, c->row.queue_packets);
    adaptive_paths_changed(a);
}

void adaptive_paths_changed(struct adaptive *a) {
    const struct connection *c = a->connection;
    uint32_t widest = 0, count = 0;
    for (uint32_t i = 0; c != NULL && i < c->row.path_count && count < PATH_IDS; i++)
        if (c->paths[i].row.usable) {
            a->rooms.open[count++] = a->all[i];
            widest = path_carries(&c->paths[i]) > widest ? path_carries(&c->paths[i]) : widest;
        }
    a->rooms.open_count = count;
    a->widest = a->repair.widest = c != NULL && c->row.tunnel_local.version == 6 && count > 0 ? widest : UINT32_MAX;
    rooms_changed(&a->rooms);
}

static double earlier(double one, double other) { return one < 0 || (other >= 0 && other < one) ? other : one; }

static struct session *session_of(const struct adaptive *a) {
    return a->connection != NULL && a->connection->owner != NULL ? a->connection->owner->sending : NULL;
}

/* --- a packet comes --- */

struct offer adaptive_offer_of(const struct adaptive *a, const uint8_t *packet, uint32_t length, const struct path *mapped) {
    const struct connection *c = a->connection;
    return (struct offer){
        .flow = flow_key(a->yard->secret, packet, length, false),
        .trait = trait_of(packet, length, c->row.classes, c->row.class_count),
        .mapped = mapped != NULL ? a->all[mapped - c->paths] : NULL,
    };
}

static struct wanted wanted_of(const struct adaptive *a, const struct cell *cell) {
    return (struct wanted){datagram_size(FRAME_ROOM + cell->length),
                           cell->length <= LEAST_IPV6 && cell->length > a->widest ? a->widest : cell->length};
}

static void drop(struct adaptive *a, struct cell *cell, int reason) {
    a->yard->counters->egress_dropped[reason]++;
    cell_release(&a->yard->cells, cell);
}

static bool has_pending_of(const struct adaptive *a, uint32_t flow) {
    for (const struct cell *cell = a->first; cell != NULL; cell = cell->next)
        if (cell->flow == flow)
            return true;
    return false;
}

/* Return the path for a packet before which none waits, neither new nor again; NULL: it has to wait. */
static struct room *room_without_queue(const struct adaptive *a, uint32_t length) {
    bool waits = a->queue.packets > 0 || a->first != NULL || a->repair.queue_count > 0 || session_of(a) == NULL;
    return waits ? NULL : rooms_for_bulk(&a->rooms, (struct wanted){a->largest, length}, a->now);
}

void adaptive_offer(struct adaptive *a, struct cell *cell, const struct offer *offer, double now) {
    const struct mpt_connection_row *row = &a->connection->row;
    bool is_urgent = offer->trait >= TRAIT_REALTIME, bypasses = true;
    a->now = now;
    cell->flow = (uint16_t)offer->flow;
    if (offer->mapped != NULL) {
        cell->kind = MAPPED;
        depart(a, a->all[offer->mapped->path - a->connection->paths], cell);
        return;
    }
    if (offer->trait == TRAIT_ACKNOWLEDGEMENT)
        cell->kind = ACKNOWLEDGEMENT;
    else {
        bool is_thin = flow_queue_is_thin(&a->queue, offer->flow, cell->length, row->thin, now);
        bool is_small = flow_queue_is_small(&a->queue, offer->flow, row->thin);
        if (is_urgent) {
            cell->kind = offer->trait == TRAIT_COPIED || (offer->trait == TRAIT_REALTIME && is_small) ? COPIED : UNORDERED;
            a->realtime++;
        } else {
            bypasses = is_thin && !has_pending_of(a, offer->flow);
            a->thin += bypasses;
            if (bypasses && offer->trait == TRAIT_OTHER)
                cell->kind = COPIED;
            else
                cell->kind = row->ordered ? ORDERED : UNORDERED;
        }
    }
    struct wanted wanted = wanted_of(a, cell);
    if (bypasses) {
        struct room *room = session_of(a) != NULL ? rooms_at_once(&a->rooms, wanted, now) : NULL;
        if (room != NULL) {
            depart(a, room, cell);
            return;
        }
        if (offer->trait == TRAIT_OTHER && row->ordered)
            cell->kind = ORDERED; /* it waits with its flow */
    }
    a->largest = wanted.size > a->largest ? wanted.size : a->largest;
    struct room *open = is_urgent ? NULL : room_without_queue(a, wanted.length);
    if (open != NULL)
        depart(a, open, cell);
    else if (!flow_queue_push(&a->queue, cell, is_urgent, now))
        drop(a, cell, MPT_QUEUE_FULL);
}

/* --- packets go --- */

/* Put a packet into the train of a path; its cell is taken over. */
static void put(struct adaptive *a, struct room *room, struct cell *cell, const struct departure *departure) {
    struct yard *yard = a->yard;
    if (yard->count == DEPARTURES)
        flush(yard);
    if (!a->is_touched)
        yard->touched[yard->touched_count++] = a;
    a->is_touched = true;
    int32_t i = (int32_t)yard->count++;
    yard->departures[i] = *departure;
    yard->departures[i].cell = cell;
    yard->departures[i].next = -1;
    if (room->first < 0)
        room->first = i;
    else
        yard->departures[room->last].next = i;
    room->last = i;
    uint32_t size = datagram_size(cell_length(cell));
    room->pending += size;
    room->pending_packets++;
    room_went(room, size, a->now);
    recent_add(&a->sent, size, a->now);
    receipts_earn(a->receipts, size);
}

/* Put the frame before a packet that goes for the first time. */
static void number(struct adaptive *a, struct cell *cell) {
    const struct mpt_connection_row *row = &a->connection->row;
    if (cell->frame > 0)
        return; /* it was refused by a socket, and keeps its number */
    uint32_t key = cell->kind != ORDERED ? UNORDERED_KEY : row->keyed ? cell->flow : 0;
    int32_t space = cell->kind == MAPPED ? UNNUMBERED : (int32_t)key;
    cell->frame = (uint8_t)frame_length(space);
    frame_put(cell_content(cell), cell_packet(cell)[0] >> 4, space, cell->kind == MAPPED ? 0 : a->numbers[key]++);
}

/* Send a realtime packet over a second line, too, while copies are few. */
static void copy_realtime(struct adaptive *a, const struct room *first, struct cell *cell) {
    uint32_t size = datagram_size(cell_length(cell));
    double allowed = a->yard->tuning->copy_share * fmax((double)recent_total(&a->sent, a->now), rooms_rate(&a->rooms));
    if ((double)(recent_total(&a->copied, a->now) + size) > allowed)
        return;
    struct room *room = rooms_for_copy(&a->rooms, wanted_of(a, cell), a->now, first);
    if (room == NULL)
        return;
    a->yard->departures[first->last].is_pair = true;
    cell->pair = 2;
    put(a, room, cell_keep(cell), &(struct departure){.is_repaired = true, .is_pair = true});
    recent_add(&a->copied, size, a->now);
    a->copies++;
    room->copies++;
}

/* Send a copy over each path that is to be measured so, while it has room. */
static void shadow(struct adaptive *a, const struct room *first, struct cell *cell) {
    struct wanted wanted = wanted_of(a, cell);
    for (uint32_t i = 0; i < a->rooms.live_count; i++) {
        struct room *room = a->rooms.live[i];
        if (!room->limits.shadow || room == first || wanted.length > path_carries(room->path))
            continue;
        if (!room_has_window(room, wanted.size) || room_opens_at(room) > a->now) {
            room->limited_at = a->now;
            continue;
        }
        put(a, room, cell_keep(cell), &(struct departure){0});
        a->copies++;
        room->copies++;
    }
}

/* Send a packet over a path for the first time. */
static void depart(struct adaptive *a, struct room *room, struct cell *cell) {
    const struct mpt_connection_row *row = &a->connection->row;
    if (a->yard->count + 2 > DEPARTURES)
        flush(a->yard); /* so that its copy finds it */
    cell->first = a->now;
    cell->tos = row->sets_tos ? row->tos_by_inner[tos_octet(cell_packet(cell))] : 0;
    number(a, cell);
    bool is_repaired = cell->kind <= UNORDERED || cell->kind == COPIED;
    put(a, room, cell, &(struct departure){.is_first = true, .is_repaired = is_repaired});
    if (cell->kind == COPIED)
        copy_realtime(a, room, cell);
    else if (cell->kind == ORDERED)
        shadow(a, room, cell);
}

/* Let a packet wait before all others of the queue, behind those that do so already; `in_front`: before these, too. */
static void wait_in_front(struct adaptive *a, struct cell *cell, bool in_front) {
    cell->next = in_front ? a->first : NULL;
    if (a->first == NULL)
        a->first = a->last = cell;
    else if (in_front)
        a->first = cell;
    else
        a->last = a->last->next = cell;
    a->pending++;
    a->pending_octets += cell->length;
}

static struct cell *take_pending(struct adaptive *a) {
    struct cell *cell = a->first;
    a->first = cell->next;
    a->pending--;
    a->pending_octets -= cell->length;
    return cell;
}

static bool fits_some(const struct adaptive *a, struct wanted wanted) {
    for (uint32_t i = 0; i < a->rooms.open_count; i++)
        if (wanted.length <= path_carries(a->rooms.open[i]->path))
            return true;
    return false;
}

/* Send the packets that no path could take. Return whether all went. */
static bool send_pending(struct adaptive *a) {
    while (a->first != NULL) {
        struct wanted wanted = wanted_of(a, a->first);
        struct room *room = rooms_for_bulk(&a->rooms, wanted, a->now);
        if (room != NULL)
            depart(a, room, take_pending(a));
        else if (fits_some(a, wanted))
            return false;
        else
            drop(a, take_pending(a), MPT_TOO_BIG);
    }
    return true;
}

static void send_queue(struct adaptive *a) {
    struct room *room;
    while (send_pending(a) && a->queue.packets > 0
           && (room = rooms_for_bulk(&a->rooms, (struct wanted){.size = a->largest}, a->now)) != NULL) {
        struct cell *cell = flow_queue_pop(&a->queue, a->now);
        if (cell == NULL)
            return;
        if (wanted_of(a, cell).length <= path_carries(room->path))
            depart(a, room, cell);
        else
            wait_in_front(a, cell, true);
    }
}

/* Copy what hangs on a path that has been silent for too long; if nothing can be copied, ask about it: a probe shows the peer
 * what is missing. */
static void copy_tails(struct adaptive *a) {
    for (uint32_t i = 0; i < a->rooms.live_count; i++) {
        struct room *room = a->rooms.live[i];
        double due = repair_tail_due(room);
        if (due < 0 || due > a->now)
            continue;
        room->asked_at = a->now;
        room->asked++;
        if (repair_copy(&a->repair, room, a->now, true) > 0)
            continue;
        struct cell *cell = cell_take(&a->yard->cells, PROBE_LENGTH);
        if (cell == NULL)
            continue;
        memset(cell_packet(cell), 0, PROBE_LENGTH);
        cell_packet(cell)[0] = PROBE;
        cell->kind = ASKING;
        cell->tos = a->connection->row.message_tos;
        put(a, room, cell, &(struct departure){0});
    }
}

void adaptive_pump(struct adaptive *a, double now) {
    a->now = now;
    if (a->rooms.live_count == 0 || session_of(a) == NULL)
        return;
    for (int round = 0; round < REFUSALS; round++) {
        uint64_t before = a->refusals;
        if (round == 0)
            copy_tails(a);
        repair_go(&a->repair, now);
        send_queue(a);
        flush(a->yard);
        if (a->refusals == before)
            return;
    }
}

/* --- trains leave --- */

/* A socket has refused a packet with `error`: it goes later, or over another path, or is dropped. */
static void refused(struct adaptive *a, struct room *room, struct departure *d, int error) {
    struct cell *cell = d->cell;
    bool goes_later = error == EAGAIN || error == ENOBUFS || (a->rooms.live_count > 1 && error != EMSGSIZE);
    if (d->is_pair && cell->pair == 2) {
        cell->pair = 1; /* the other has gone, or comes back alone */
        if (d->is_first)
            train_count_sent(room->path, cell);
        cell_release(&a->yard->cells, cell);
    } else if (d->tries > 0) {
        cell->tries = (uint8_t)(d->tries - 1);
        a->repair.resent--;
        room->resent--;
        repair_return(&a->repair, cell, d->hanging);
    } else if (d->is_first && goes_later && cell->kind != MAPPED)
        wait_in_front(a, cell, false);
    else {
        if (d->is_first)
            a->yard->counters->send_drops[errno_index(error)]++;
        cell_release(&a->yard->cells, cell);
    }
}

static void send_train(struct adaptive *a, struct room *room) {
    struct departure *all = a->yard->departures;
    const struct track track = {room->path, session_of(a), &room->flight, &a->sink, &room->cuts};
    int error = 0;
    int32_t i = room->first;
    room->first = room->last = -1;
    room->pending = room->pending_packets = 0;
    i = track.session != NULL ? train_send(a->yard->trains, &track, all, i, a->now, &error) : i;
    if (i < 0)
        return;
    room->path->state->counters.send_errors[errno_index(error)] += error != 0;
    room->blocked_until = a->now + a->yard->tuning->blocked;
    a->refusals++;
    for (int32_t next; i >= 0; i = next) {
        next = all[i].next;
        refused(a, room, &all[i], error != 0 ? error : EAGAIN);
    }
}

/* Send all trains, of all connections. */
static void flush(struct yard *yard) {
    for (uint32_t k = 0; k < yard->touched_count; k++) {
        struct adaptive *a = yard->touched[k];
        a->is_touched = false;
        for (uint32_t i = 0; i < a->rooms.open_count; i++)
            if (a->rooms.open[i]->first >= 0)
                send_train(a, a->rooms.open[i]);
    }
    yard->count = yard->touched_count = 0;
}

/* --- when it goes on --- */

double adaptive_deadline(const struct adaptive *a) {
    double first = -1;
    if (a->rooms.live_count == 0 || session_of(a) == NULL)
        return -1;
    for (uint32_t i = 0; i < a->rooms.live_count; i++)
        first = earlier(first, repair_tail_due(a->rooms.live[i]));
    first = earlier(first, repair_deadline(&a->repair));
    if (a->first != NULL)
        first = earlier(first, rooms_open_at(&a->rooms, wanted_of(a, a->first)));
    else if (a->queue.packets > 0)
        first = earlier(first, rooms_open_at(&a->rooms, (struct wanted){.size = a->largest}));
    return first;
}

bool adaptive_is_idle(const struct adaptive *a) {
    if (adaptive_waiting(a) > 0 || a->repair.queue_count > 0)
        return false;
    for (uint32_t i = 0; i < a->rooms.open_count; i++)
        if (a->rooms.open[i]->flight.packets > 0)
            return false;
    return true;
}

/* --- what is told --- */

void adaptive_send_report(struct adaptive *a, const uint8_t *message, uint32_t length, double now) {
    const struct room *first = NULL;
    if (session_of(a) == NULL || a->rooms.live_count == 0)
        return;
    for (uint32_t i = 0; i < a->rooms.live_count; i++)
        if (first == NULL || room_arrival(a->rooms.live[i]) < room_arrival(first))
            first = a->rooms.live[i];
    bool over_all = ++a->reports % 2 == 0;
    for (uint32_t i = 0; i < a->rooms.live_count; i++) {
        const struct path *path = a->rooms.live[i]->path;
        const struct place place = place_of(path);
        if (over_all || a->rooms.live[i] == first)
            transmit_message(a->connection, path, &place, message, length, stamp_of(now));
    }
}

uint32_t adaptive_rescue(struct adaptive *a, struct room *room, double now, bool bounded) {
    a->now = now;
    uint32_t count = repair_copy(&a->repair, room, now, bounded);
    if (session_of(a) != NULL)
        repair_go(&a->repair, now);
    flush(a->yard);
    return count;
}

struct cell *adaptive_take(struct adaptive *a) {
    return a->first != NULL ? take_pending(a) : flow_queue_take(&a->queue);
}

void adaptive_count(const struct adaptive *a, struct mpt_adaptive_counters *counters) {
    counters->codel_dropped = a->queue.dropped;
    counters->codel_marked = a->queue.marked;
    counters->overflowed = a->queue.overflowed;
    counters->thin = a->thin;
    counters->realtime = a->realtime;
    counters->resent = a->repair.resent;
    counters->resend_late = a->repair.late;
    counters->resend_refused = a->repair.refused;
    counters->copies_sent = a->copies;
}
