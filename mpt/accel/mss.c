/* See mss.h. The twin is mpt/data/mss.py. */

#include "mss.h"

enum { END = 0, NOTHING = 1, MSS = 2, MSS_LENGTH = 4 }; /* kinds of options (RFC 9293 section 3.1) */

static uint32_t swapped(uint32_t word) { return (word & 0xFF) << 8 | word >> 8; }

static void put_value(uint8_t *tcp, uint32_t place, uint32_t most, bool is_partial) {
    uint32_t before = get16(tcp + place), after = most;
    if (before <= most)
        return;
    put16(tcp + place, most);
    if (is_partial)
        return;
    if (place % 2) { /* across two words of the sum */
        before = swapped(before);
        after = swapped(after);
    }
    uint32_t sum = (~get16(tcp + TCP_CHECKSUM) & 0xFFFFu) + (~before & 0xFFFF) + after; /* RFC 1624, equation 3 */
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    put16(tcp + TCP_CHECKSUM, ~sum);
}

void mss_lower(uint8_t *packet, uint32_t length, uint32_t size, bool is_partial) {
    uint32_t headers = (packet[0] >> 4 == 4 ? IP4_HEADER : IP6_HEADER) + TCP_HEADER;
    unsigned protocol;
    bool more;
    uint32_t at = ip_transport(packet, length, &protocol, &more);
    if (at == 0 || protocol != TCP || more || length < at + TCP_HEADER || size <= headers)
        return;
    uint8_t *tcp = packet + at;
    uint32_t end = (tcp[TCP_OFFSET] >> 4) * 4u, place = TCP_HEADER;
    if (!(tcp[TCP_FLAGS] & SYN) || end > length - at)
        return;
    while (place < end && tcp[place] != END) {
        if (tcp[place] == NOTHING) {
            place++;
            continue;
        }
        uint32_t step = place + 1 < end ? tcp[place + 1] : 0;
        if (step < 2 || step > end - place)
            return;
        if (tcp[place] == MSS && step == MSS_LENGTH)
            put_value(tcp, place + 2, size - headers, is_partial);
        place += step;
    }
}

void mpt_clamp_mss(uint8_t *packet, uint32_t length, uint32_t size, int is_partial) {
    if (ip_version(packet, length) != 0)
        mss_clamp(packet, length, size, is_partial != 0);
}
