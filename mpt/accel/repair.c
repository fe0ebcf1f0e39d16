/* See repair.h. The twin is mpt/data/repair.py, which has the rules. */

#include "repair.h"

enum { TRIES = 3, BURST_OCTETS = 45420, PATIENCE = 4 };
#define TOO_LATE 0.3 /* seconds */
#define SHARE 0.15

void repair_clear(struct repair *r) {
    while (r->first != NULL) {
        struct cell *cell = r->first;
        r->first = cell->next;
        cell_release(r->cells, cell);
    }
}

static bool is_copied(const struct under_way *entry) {
    return entry->is_copied || (entry->is_pair && entry->cell->pair == 2);
}

void repair_lost(struct repair *r, const struct under_way *entry) {
    if (entry->cell == NULL)
        return;
    if (entry->is_pair && entry->cell->pair == 2) {
        entry->cell->pair = 1; /* now the other is the only one */
        return;
    }
    if (entry->is_copied || entry->tries >= TRIES)
        return;
    struct cell *cell = cell_keep(entry->cell);
    cell->tries = entry->tries;
    cell->next = NULL;
    if (r->first == NULL)
        r->first = cell;
    else
        r->last->next = cell;
    r->last = cell;
}

void repair_return(struct repair *r, struct cell *cell) {
    cell->next = r->first;
    if (r->first == NULL)
        r->last = cell;
    r->first = cell;
}

/* --- may it go? --- */

static struct wanted wanted_of(const struct repair *r, const struct cell *cell) {
    return (struct wanted){datagram_size(cell_length(cell)),
                           cell->length <= LEAST_IPV6 && cell->length > r->widest ? r->widest : cell->length};
}

static bool is_young(const struct cell *cell, double lag, double now) { return now - cell->first + lag <= TOO_LATE; }

/* Return how much later than over the fastest path something arrives that goes over this one now. */
static double lag_of(const struct repair *r, const struct room *room) {
    return room_arrival(room) - rooms_least_delay(r->rooms);
}

static bool may_go(struct repair *r, uint32_t size, double now) {
    return (double)(recent_total(&r->again, now) + size) <= SHARE * (double)recent_total(r->sent, now) + BURST_OCTETS;
}

static void go_over(struct repair *r, struct room *room, struct cell *cell, uint8_t tries, uint32_t size, double now) {
    recent_add(&r->again, size, now);
    r->resent++;
    room->resent++;
    r->send(r->context, room, cell, tries);
}

/* --- what was lost, and what hangs --- */

void repair_go(struct repair *r, double now) {
    while (r->first != NULL) {
        struct cell *cell = r->first;
        struct wanted wanted = wanted_of(r, cell);
        struct room *room = rooms_for_bulk(r->rooms, wanted, now);
        if (room == NULL)
            room = rooms_at_once(r->rooms, wanted, now, NULL, false, false);
        if (room == NULL && is_young(cell, 0, now))
            return;
        r->first = cell->next;
        if (room == NULL || !is_young(cell, lag_of(r, room), now)) {
            r->late++;
            cell_release(r->cells, cell);
        } else if (!may_go(r, wanted.size, now)) {
            r->refused++;
            cell_release(r->cells, cell);
        } else
            go_over(r, room, cell, (uint8_t)(cell->tries + 1), wanted.size, now);
    }
}

uint32_t repair_copy(struct repair *r, struct room *hanging, double now, bool bounded) {
    uint32_t count = 0;
    uint64_t position = hanging->flight.base;
    for (struct under_way *entry; (entry = flight_next(&hanging->flight, &position)) != NULL;) {
        if (entry->cell == NULL || is_copied(entry))
            continue;
        struct wanted wanted = wanted_of(r, entry->cell);
        struct room *room = rooms_at_once(r->rooms, wanted, now, hanging, false, false);
        if (room == NULL)
            break;
        if (entry->tries >= TRIES || !is_young(entry->cell, lag_of(r, room), now)) {
            r->late++;
            cell_release(r->cells, entry->cell);
            entry->cell = NULL;
        } else if (bounded && !may_go(r, wanted.size, now)) {
            r->refused++;
            break;
        } else {
            entry->is_copied = true;
            go_over(r, room, cell_keep(entry->cell), (uint8_t)(entry->tries + 1), wanted.size, now);
            count++;
        }
    }
    return count;
}

double repair_tail_due(const struct room *room) {
    const struct under_way *oldest = flight_oldest(&room->flight);
    if (oldest == NULL)
        return -1;
    double since = oldest->time > room->progress_at ? oldest->time : room->progress_at;
    since = since > room->asked_at ? since : room->asked_at;
    return since + room->limits.rto * (1 << (room->asked < PATIENCE ? room->asked : PATIENCE));
}
