/* An IPv4 packet cut into fragments. Pure. */
#ifndef MPT_FRAGMENT_H
#define MPT_FRAGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "packet.h"

struct fragments {
    const uint8_t *packet;
    uint32_t header, total, step, count;
};
static inline bool may_be_cut(const uint8_t *packet) { return packet[0] >> 4 == 4 && !(packet[IP4_FRAGMENT] & 0x40); }
/* False: the header of the IPv4 packet does not fit it, or `size`, the most octets of a fragment. */
bool fragments_start(struct fragments *fragments, const uint8_t *packet, uint32_t length, uint32_t size);
/* Write the header of fragment `i`, fragments->header octets. Return the length of its payload, which is at `*payload`. */
uint32_t fragments_head(const struct fragments *fragments, uint32_t i, uint8_t *header, const uint8_t **payload);

#endif
