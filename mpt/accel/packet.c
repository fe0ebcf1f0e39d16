/* Reading the headers of packets and datagrams, and their checksums. The twins are mpt/wire/ip.py and tos.py. */

#include "packet.h"

/* Add up whole blocks of two vectors: the low and the high halves of 32-bit words, each in 32-bit lanes. A lane holds the
   sum of 65,537 halves, and no packet has as many blocks. */
#define SUM_BLOCKS(lanes)                                                                                                \
    lanes low = {0}, high = {0}, low_2 = {0}, high_2 = {0};                                                              \
    for (; *length >= 2 * sizeof(lanes); *length -= 2 * sizeof(lanes), *octets += 2 * sizeof(lanes)) {                   \
        lanes words, words_2;                                                                                            \
        memcpy(&words, *octets, sizeof words);                                                                           \
        memcpy(&words_2, *octets + sizeof words, sizeof words);                                                          \
        low += words & 0xFFFF;                                                                                           \
        high += words >> 16;                                                                                             \
        low_2 += words_2 & 0xFFFF;                                                                                       \
        high_2 += words_2 >> 16;                                                                                         \
    }                                                                                                                    \
    low += low_2;                                                                                                        \
    high += high_2;                                                                                                      \
    uint64_t sum = 0;                                                                                                    \
    for (unsigned i = 0; i < sizeof(lanes) / 4; i++)                                                                     \
        sum += low[i] + ((uint64_t)high[i] << 16);                                                                       \
    return sum

typedef uint32_t lanes_4 __attribute__((vector_size(16))); /* SSE2, NEON: every x86-64 and arm64 CPU has it */
static uint64_t sum_blocks(const uint8_t **octets, size_t *length) { SUM_BLOCKS(lanes_4); }

#ifdef __x86_64__
typedef uint32_t lanes_8 __attribute__((vector_size(32)));
__attribute__((target("avx2"))) static uint64_t sum_blocks_avx2(const uint8_t **octets, size_t *length) {
    SUM_BLOCKS(lanes_8);
}
#endif

uint64_t sum_octets(const uint8_t *octets, size_t length, uint64_t sum) {
    sum = (sum >> 32) + (sum & 0xFFFFFFFF);
#ifdef __x86_64__
    if (length >= 256 && __builtin_cpu_supports("avx2"))
        sum += sum_blocks_avx2(&octets, &length);
#endif
    if (length >= 64)
        sum += sum_blocks(&octets, &length);
    for (; length >= 4; length -= 4, octets += 4) { /* of 32-bit words the sum cannot overflow */
        uint32_t word;
        memcpy(&word, octets, 4);
        sum += word;
    }
    uint8_t rest[4] = {0}; /* a lone last octet is followed by a zero (RFC 1071) */
    uint32_t word;
    for (size_t i = 0; i < length; i++)
        rest[i] = octets[i];
    memcpy(&word, rest, 4);
    return fold(sum + word); /* small again, so that the caller may add to it freely */
}

uint16_t fold(uint64_t sum) {
    sum = (sum >> 32) + (sum & 0xFFFFFFFF);
    sum = (sum >> 32) + (sum & 0xFFFFFFFF);
    sum = (sum >> 16) + (sum & 0xFFFF);
    sum = (sum >> 16) + (sum & 0xFFFF);
    return (uint16_t)sum;
}

uint16_t mpt_checksum(const uint8_t *octets, uint32_t length) {
    uint16_t word = (uint16_t)~fold(sum_octets(octets, length, 0));
    uint8_t out[2];
    memcpy(out, &word, 2);
    return get16(out);
}

uint64_t sum_pseudo(const uint8_t *ip, uint32_t protocol, uint32_t length) {
    uint64_t sum = ip[0] >> 4 == 4 ? sum_words(ip + IP4_SOURCE, 2, 0) : sum_words(ip + IP6_SOURCE, 8, 0);
    return sum16(sum16(sum, protocol), length);
}

unsigned ip_version(const uint8_t *packet, uint32_t length) {
    if (length >= IP4_HEADER && packet[0] >> 4 == 4)
        return 4;
    return length >= IP6_HEADER && packet[0] >> 4 == 6 ? 6 : 0;
}

static struct mpt_address address_at(unsigned version, const uint8_t *octets) {
    struct mpt_address address = {.version = (uint8_t)version};
    memcpy(address.octets, octets, version == 4 ? 4 : 16);
    return address;
}

struct mpt_address ip_source(const uint8_t *packet) {
    return packet[0] >> 4 == 4 ? address_at(4, packet + IP4_SOURCE) : address_at(6, packet + IP6_SOURCE);
}

struct mpt_address ip_destination(const uint8_t *packet) {
    return packet[0] >> 4 == 4 ? address_at(4, packet + IP4_DESTINATION) : address_at(6, packet + IP6_DESTINATION);
}

bool in_network(const struct mpt_address *address, const struct mpt_network *network) {
    uint32_t whole = network->length / 8, bits = network->length % 8;
    if (address->version != network->base.version || memcmp(address->octets, network->base.octets, whole) != 0)
        return false;
    return bits == 0 || (address->octets[whole] ^ network->base.octets[whole]) >> (8 - bits) == 0;
}

enum { NOT_ECT = 0, ECT_1 = 1, ECT_0 = 2, CE = 3 };

int mpt_decapsulate_ecn(uint8_t *packet, uint32_t outer) {
    uint32_t before = tos_octet(packet), inner = before & 3, after = before;
    if (inner == NOT_ECT && outer == CE)
        return -1;
    if (outer == CE)
        after = before | CE;
    else if (inner == ECT_0 && outer == ECT_1)
        after = before ^ ECT_0 ^ ECT_1;
    if (after != before && packet[0] >> 4 == 4) { /* RFC 1624, equation 3; only this octet of the word differs */
        uint32_t sum = (~get16(packet + IP4_CHECKSUM) & 0xFFFFu) + (0xFFFF - before) + after;
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        packet[IP4_TOS] = (uint8_t)after;
        put16(packet + IP4_CHECKSUM, ~sum);
    } else if (after != before)
        packet[1] = (uint8_t)((packet[1] & 0x0F) | (after << 4 & 0xF0));
    return (inner == NOT_ECT && outer != NOT_ECT) || (inner == ECT_1 && outer == ECT_0) || (inner == CE && outer == ECT_1);
}

enum { HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, AUTHENTICATION = 51, DESTINATION = 60, MAX_EXTENSIONS = 8 };

static uint32_t transport_v6(const uint8_t *packet, uint32_t length, unsigned *protocol, bool *more) {
    uint32_t offset = IP6_HEADER;
    *protocol = packet[IP6_NEXT_HEADER];
    for (int i = 0; i <= MAX_EXTENSIONS; i++) {
        uint32_t skip;
        switch (*protocol) {
        case HOP_BY_HOP: case ROUTING: case FRAGMENT: case AUTHENTICATION: case DESTINATION: break;
        default: return offset;
        }
        if (length < offset + 8)
            return 0;
        if (*protocol == FRAGMENT) {
            if (get16(packet + offset + 2) & 0xFFF8)
                return 0;
            *more = packet[offset + 3] & 1;
            skip = 8;
        } else if (*protocol == AUTHENTICATION)
            skip = (packet[offset + 1] + 2u) * 4;
        else
            skip = (packet[offset + 1] + 1u) * 8;
        *protocol = packet[offset];
        offset += skip;
    }
    return 0;
}

uint32_t ip_transport(const uint8_t *packet, uint32_t length, unsigned *protocol, bool *more) {
    *more = false;
    if (packet[0] >> 4 == 6)
        return transport_v6(packet, length, protocol, more);
    uint32_t header = (packet[0] & 0x0Fu) * 4;
    *protocol = packet[IP4_PROTOCOL];
    *more = packet[IP4_FRAGMENT] & 0x20;
    return header < IP4_HEADER || get16(packet + IP4_FRAGMENT) & 0x1FFF ? 0 : header;
}

int64_t mpt_ports(const uint8_t *packet, uint32_t length) {
    unsigned protocol = 0;
    bool more;
    uint32_t offset = ip_version(packet, length) != 0 ? ip_transport(packet, length, &protocol, &more) : 0;
    if (offset == 0 || (protocol != TCP && protocol != UDP) || length < offset + 4)
        return -1;
    return (int64_t)protocol << 32 | get32(packet + offset);
}
