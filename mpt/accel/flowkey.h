/* The GRE keys of flows. Pure. */
#ifndef MPT_FLOWKEY_H
#define MPT_FLOWKEY_H

#include <stdbool.h>
#include <stdint.h>

#include "packet.h"

enum { FLOW_KEYS = 4096 };

/* Return the key of a packet with an IP version, 0 .. FLOW_KEYS - 1. `cut`: it will be cut into fragments, which have no ports. */
uint32_t flow_key(uint64_t secret, const uint8_t *packet, uint32_t length, bool cut);

#endif
