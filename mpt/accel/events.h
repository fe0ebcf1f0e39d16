/* What control is told, kept until it takes it. */
#ifndef MPT_EVENTS_H
#define MPT_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "_native.h"

struct events {
    struct mpt_event *events;
    uint8_t *octets; /* of all messages, one behind the other */
    uint32_t count, room, used, octets_room;
    uint32_t times_taken; /* a wake-up, as control sees it */
};
/* Add an event with `length` octets. Return whether there was room: without memory, or while too many wait, it is lost.
 * Control takes them after every call. */
bool events_add(struct events *events, const struct mpt_event *event, const uint8_t *octets, uint32_t length);
/* Return all events since the last call; they hold until the next is added. */
const struct mpt_event *events_take(struct events *events, uint32_t *count, const uint8_t **octets);
void events_destroy(struct events *events);

#endif
