/* See events.h. */

#include "events.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_EVENTS = 1 << 14, MOST_OCTETS = 1 << 22 };

/* Make room for `needed` elements of `size`. Return the array, perhaps elsewhere; NULL: no memory, and the old one stays. */
static void *grow(void *array, uint32_t *room, uint32_t needed, size_t size) {
    if (needed <= *room)
        return array;
    void *more = realloc(array, 2 * needed * size);
    if (more != NULL)
        *room = 2 * needed;
    return more;
}

bool events_add(struct events *e, const struct mpt_event *event, const uint8_t *octets, uint32_t length) {
    if (e->count == MOST_EVENTS || length > MOST_OCTETS - e->used)
        return false;
    struct mpt_event *events = grow(e->events, &e->room, e->count + 1, sizeof *events);
    if (events != NULL)
        e->events = events;
    uint8_t *all = grow(e->octets, &e->octets_room, e->used + length + 1, 1);
    if (all != NULL)
        e->octets = all;
    if (events == NULL || all == NULL)
        return false;
    if (length > 0)
        memcpy(all + e->used, octets, length);
    events[e->count] = *event;
    events[e->count].offset = e->used;
    events[e->count++].length = length;
    e->used += length;
    return true;
}

const struct mpt_event *events_take(struct events *e, uint32_t *count, const uint8_t **octets) {
    *count = e->count;
    *octets = e->octets;
    e->count = e->used = 0;
    e->times_taken++;
    return e->events;
}

void events_destroy(struct events *e) {
    free(e->events);
    free(e->octets);
}
