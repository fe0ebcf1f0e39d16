/* See toobig.h. The twin is mpt/data/toobig.py, which names the rules. */

#include "toobig.h"

enum { LONGEST_IPV4 = 576, LONGEST_IPV6 = 1280, ICMP_HEADER = 8, CONTROL_TOS = 0xC0, TTL = 64 };
enum { UNREACHABLE = 3, FRAGMENTATION_NEEDED = 4, PACKET_TOO_BIG = 2, FIRST_QUERY = 128, REDIRECT = 137 };

static bool is_group(const struct mpt_address *destination) {
    return destination->version == 4 ? destination->octets[0] >= 224 : destination->octets[0] == 0xFF;
}

static bool is_host(const struct mpt_address *source) {
    static const uint8_t none[15];
    if (source->version == 4)
        return source->octets[0] != 0 && source->octets[0] != 127 && source->octets[0] < 224;
    return !is_group(source) && memcmp(source->octets, none, sizeof none) != 0; /* neither unspecified nor loopback */
}

static bool is_error(unsigned protocol, unsigned kind) {
    if (protocol == ICMPV6)
        return kind < FIRST_QUERY || kind == REDIRECT;
    return kind == 3 || kind == 4 || kind == 5 || kind == 11 || kind == 12;
}

/* Return whether `packet` is neither an error nor a later fragment; what cannot be read may be either. */
static bool may_be_answered(const uint8_t *packet, uint32_t length) {
    unsigned protocol;
    bool more;
    uint32_t offset = ip_transport(packet, length, &protocol, &more);
    if (offset == 0)
        return false;
    return (protocol != ICMP && protocol != ICMPV6) || (length > offset && !is_error(protocol, packet[offset]));
}

static void put_sum(uint8_t *at, uint64_t sum) {
    uint16_t word = (uint16_t)~fold(sum);
    memcpy(at, &word, 2);
}

uint32_t too_big_answer(const uint8_t *packet, uint32_t length, uint32_t size, const struct mpt_address *sender, uint8_t *out) {
    const struct mpt_address source = ip_source(packet), destination = ip_destination(packet);
    if (!is_host(&source) || is_group(&destination) || !may_be_answered(packet, length))
        return 0;
    bool four = sender->version == 4;
    uint32_t header = four ? IP4_HEADER : IP6_HEADER, room = (four ? LONGEST_IPV4 : LONGEST_IPV6) - header - ICMP_HEADER;
    uint32_t quoted = length < room ? length : room, message = ICMP_HEADER + quoted;
    uint8_t *icmp = out + header;
    memset(out, 0, header + ICMP_HEADER);
    memcpy(icmp + ICMP_HEADER, packet, quoted);
    if (four) {
        icmp[0] = UNREACHABLE;
        icmp[1] = FRAGMENTATION_NEEDED;
        put16(icmp + 6, size);
        put_sum(icmp + 2, sum_octets(icmp, message, 0));
        out[0] = 0x45;
        out[IP4_TOS] = CONTROL_TOS;
        put16(out + IP4_LENGTH, header + message);
        put16(out + IP4_FRAGMENT, 0x4000); /* not to be cut */
        out[8] = TTL;
        out[IP4_PROTOCOL] = ICMP;
        memcpy(out + IP4_SOURCE, sender->octets, 4);
        memcpy(out + IP4_DESTINATION, source.octets, 4);
        put_sum(out + IP4_CHECKSUM, sum_words(out, IP4_HEADER / 4, 0));
    } else {
        icmp[0] = PACKET_TOO_BIG;
        put32(icmp + 4, size < LEAST_IPV6 ? (uint32_t)LEAST_IPV6 : size);
        out[0] = 0x60;
        put16(out + IP6_LENGTH, message);
        out[IP6_NEXT_HEADER] = ICMPV6;
        out[7] = TTL;
        memcpy(out + IP6_SOURCE, sender->octets, 16);
        memcpy(out + IP6_DESTINATION, source.octets, 16);
        put_sum(icmp + 2, sum_octets(icmp, message, sum_pseudo(out, ICMPV6, message)));
    }
    return header + message;
}

uint32_t mpt_too_big_answer(
    const uint8_t *packet, uint32_t length, uint32_t size, const struct mpt_address *sender, uint8_t *out
) {
    return ip_version(packet, length) == sender->version ? too_big_answer(packet, length, size, sender, out) : 0;
}
