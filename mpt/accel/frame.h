/* The first octets of a datagram: the frame before an inner packet or a message. Only frame.c knows them. Pure. */
#ifndef MPT_FRAME_H
#define MPT_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "packet.h"

enum { FRAME_ROOM = 12 }; /* the longest frame that we send */
enum { UNNUMBERED = -2, NO_KEY = -1 }; /* number spaces: none, that of the connection, or from 0 on that of a key */

uint32_t frame_length(int32_t space);
/* Write the frame of a packet of `version`, or of a message, to the frame_length() octets at `head`. */
void frame_put(uint8_t *head, unsigned version, int32_t space, uint32_t number);
void frame_renumber(uint8_t *head, int32_t space, uint32_t number); /* change the number of a numbered frame */

struct opened { /* a datagram without its frame */
    uint8_t *payload; /* a packet, a message or anything else */
    uint32_t length;
    uint32_t version, sequence, key; /* `version` is the IP version that the frame names */
    int sequenced; /* `sequence` holds */
    bool has_key;
};
int frame_open(uint8_t *datagram, uint32_t length, struct opened *opened); /* 0, or the reason to drop it */
/* Return whether a payload is a keepalive, and its tunnel addresses. More octets may follow its header. */
bool frame_is_keepalive(const struct opened *opened, struct mpt_address *sender, struct mpt_address *receiver);
int frame_no_packet(const struct opened *opened); /* the reason why it is neither a packet nor a message for us */

#endif
