/* The traffic classes of an adaptive connection: which packets wait behind others, and for others. Pure. */
#ifndef MPT_CLASSES_H
#define MPT_CLASSES_H

#include <stdbool.h>
#include <stdint.h>

#include "packet.h"

/* The last three are realtime: over two lines if the flow is small, over one, over two. */
enum trait { TRAIT_TCP, TRAIT_OTHER, TRAIT_ACKNOWLEDGEMENT, TRAIT_REALTIME, TRAIT_SINGLE, TRAIT_COPIED };
/* Return what a packet with an IP version is for its queue: by the first of `count` rules that has it, else by itself. */
enum trait trait_of(const uint8_t *packet, uint32_t length, const struct mpt_class_rule *rules, uint32_t count);
/* Whether it is a TCP packet with payload or SYN. */
bool has_playout(const uint8_t *packet, uint32_t length);
bool is_tcp(const uint8_t *packet, uint32_t length);

#endif
