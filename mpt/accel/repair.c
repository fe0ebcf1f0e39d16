/* See repair.h. The twin is mpt/data/repair.py, which has the rules. */

#include "repair.h"

/* --- the queues --- */

static void forget_queue(struct repair *r, uint32_t i) {
    r->queue_count--;
    memmove(&r->queues[i], &r->queues[i + 1], (r->queue_count - i) * sizeof *r->queues);
}

static struct cell *take_first(struct repair_queue *q) {
    struct cell *cell = q->first;
    q->first = cell->next;
    return cell;
}

void repair_clear(struct repair *r) {
    for (; r->queue_count > 0; r->queue_count--)
        while (r->queues[r->queue_count - 1].first != NULL)
            cell_release(r->cells, take_first(&r->queues[r->queue_count - 1]));
}

/* Return the queue of a hanging path. There are as many as a connection has paths. */
static struct repair_queue *queue_for(struct repair *r, struct room *hanging) {
    for (uint32_t i = 0; i < r->queue_count; i++)
        if (r->queues[i].hanging == hanging)
            return &r->queues[i];
    if (r->queue_count > PATH_IDS)
        return &r->queues[0];
    r->queues[r->queue_count] = (struct repair_queue){.hanging = hanging};
    return &r->queues[r->queue_count++];
}

void repair_return(struct repair *r, struct cell *cell, struct room *hanging) {
    struct repair_queue *q = queue_for(r, hanging);
    cell->next = q->first;
    if (q->first == NULL)
        q->last = cell;
    q->first = cell;
}

/* --- what may go again --- */

static struct wanted wanted_of(const struct repair *r, const struct cell *cell) {
    return (struct wanted){datagram_size(cell_length(cell)),
                           cell->length <= LEAST_IPV6 && cell->length > r->widest ? r->widest : cell->length};
}

/* Let a packet wait for room, unless it is too old, or was sent again too often, or too much is. */
static bool keep(struct repair *r, const struct under_way *entry, struct room *hanging, double now, bool bounded) {
    uint32_t size = entry->size;
    if (entry->tries >= r->tuning->tries || now - entry->cell->first > r->tuning->too_late) {
        r->late++;
        return false;
    }
    if (bounded && (double)(recent_total(&r->again, now) + size) > r->tuning->repair_share * (double)recent_total(r->sent, now) + r->tuning->repair_burst) {
        r->refused++;
        return false;
    }
    recent_add(&r->again, size, now);
    struct repair_queue *q = queue_for(r, hanging);
    struct cell *cell = cell_keep(entry->cell);
    cell->tries = entry->tries;
    cell->next = NULL;
    if (q->first == NULL)
        q->first = cell;
    else
        q->last->next = cell;
    q->last = cell;
    return true;
}

void repair_lost(struct repair *r, const struct under_way *entry, double now) {
    if (entry->cell == NULL)
        return;
    if (entry->is_pair && entry->cell->pair == 2)
        entry->cell->pair = 1; /* now the other is the only one */
    else if (!entry->is_copied)
        keep(r, entry, NULL, now, true);
}

uint32_t repair_copy(struct repair *r, struct room *hanging, double now, bool bounded) {
    uint32_t count = 0;
    uint64_t position = hanging->flight.base;
    if (r->rooms->live_count == 0 || (r->rooms->live_count == 1 && r->rooms->live[0] == hanging))
        return 0;
    for (struct under_way *entry; (entry = flight_next(&hanging->flight, &position)) != NULL;) {
        if (entry->cell == NULL || entry->is_copied || (entry->is_pair && entry->cell->pair == 2))
            continue;
        uint64_t late = r->late;
        entry->is_copied = keep(r, entry, hanging, now, bounded);
        count += entry->is_copied;
        if (r->late > late) {
            cell_release(r->cells, entry->cell);
            entry->cell = NULL;
        }
    }
    return count;
}

/* --- it goes --- */

/* Return how much later than over the fastest path something arrives that goes over this one now. */
static double lag_of(const struct repair *r, const struct room *room) {
    return room_arrival(room) - rooms_least_delay(r->rooms);
}

/* Send what waits in a queue, as far as there is room. */
static void go(struct repair *r, struct repair_queue *q, double now) {
    while (q->first != NULL) {
        struct room *room = rooms_for_repair(r->rooms, wanted_of(r, q->first), now, q->hanging);
        double lag = room != NULL ? lag_of(r, room) : 0;
        if (now - q->first->first + lag > r->tuning->too_late) {
            r->late++;
            cell_release(r->cells, take_first(q));
        } else if (room == NULL)
            return;
        else {
            r->resent++;
            room->resent++;
            r->send(r->context, room, take_first(q), q->hanging);
        }
    }
}

void repair_go(struct repair *r, double now) {
    for (uint32_t i = 0; i < r->queue_count; i++)
        go(r, &r->queues[i], now);
    for (uint32_t i = r->queue_count; i-- > 0;)
        if (r->queues[i].first == NULL)
            forget_queue(r, i);
}

/* --- time --- */

double repair_deadline(const struct repair *r) {
    double first = -1;
    for (uint32_t i = 0; i < r->queue_count; i++) {
        const struct repair_queue *q = &r->queues[i];
        double due = rooms_repair_opens_at(r->rooms, wanted_of(r, q->first), q->hanging);
        due = due >= 0 ? due : q->first->first + 2 * r->tuning->too_late; /* then it is dropped */
        first = first < 0 || due < first ? due : first;
    }
    return first;
}

double repair_tail_due(const struct room *room) {
    const struct under_way *oldest = flight_oldest(&room->flight);
    if (oldest == NULL)
        return -1;
    double since = oldest->time > room->progress_at ? oldest->time : room->progress_at;
    since = since > room->asked_at ? since : room->asked_at;
    return since + room->limits.rto * (1 << (room->asked < room->tuning->patience ? room->asked : room->tuning->patience));
}
