/* The largest segment that two TCP ends agree on, lowered to what the tunnel carries in one packet. Pure. */
#ifndef MPT_MSS_H
#define MPT_MSS_H

#include <stdbool.h>
#include <stdint.h>

#include "packet.h"

void mss_lower(uint8_t *packet, uint32_t length, uint32_t size, bool is_partial);

/* Lower the largest segment of a SYN, a packet with a version, to that of packets of `size` octets. `is_partial`: its checksum
 * is still to be made, so it does not follow the change. */
static inline void mss_clamp(uint8_t *packet, uint32_t length, uint32_t size, bool is_partial) {
    uint32_t at = packet[0] == 0x45 ? IP4_HEADER : IP6_HEADER;
    unsigned protocol = packet[packet[0] >> 4 == 4 ? IP4_PROTOCOL : IP6_NEXT_HEADER];
    bool usual = packet[0] == 0x45 || packet[0] >> 4 == 6;
    if (protocol == UDP || (usual && protocol == TCP && (length <= at + TCP_FLAGS || !(packet[at + TCP_FLAGS] & SYN))))
        return;
    mss_lower(packet, length, size, is_partial);
}

#endif
