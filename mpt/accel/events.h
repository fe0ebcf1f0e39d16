/* Messages for control, kept until it takes them. */
#ifndef MPT_EVENTS_H
#define MPT_EVENTS_H

#include <stdint.h>

#include "_native.h"

struct events {
    struct mpt_event *events;
    uint8_t *octets; /* of all messages, one behind the other */
    uint32_t count, room, used, octets_room;
};
/* Add a message of `path`. Without memory, or while too many wait, it is lost: control takes them after every call. */
void events_add(struct events *events, uint32_t path, const uint8_t *octets, uint32_t length, double at);
/* Return all messages since the last call; they hold until the next is added. */
const struct mpt_event *events_take(struct events *events, uint32_t *count, const uint8_t **octets);
void events_destroy(struct events *events);

#endif
