/* Which packets wait for each other: mpt/data/flowkeys.py, which has the reasons. The hash is SipHash-1-3 of 64 bits; that of
 * Python is another, as nobody compares them. */

#include "flowkey.h"

static uint64_t rotated(uint64_t word, unsigned bits) { return word << bits | word >> (64 - bits); }

static void mix(uint64_t v[4]) {
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotated(v[1], 13) ^ v[0];
    v[3] = rotated(v[3], 16) ^ v[2];
    v[0] = rotated(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotated(v[1], 17) ^ v[2];
    v[3] = rotated(v[3], 21) ^ v[0];
    v[2] = rotated(v[2], 32);
}

static uint64_t hash(uint64_t secret, const uint64_t *words, unsigned count) {
    uint64_t other = rotated(secret, 29) * 0x9E3779B97F4A7C15u; /* the second half of the key */
    uint64_t v[4] = {secret ^ 0x736F6D6570736575u, other ^ 0x646F72616E646F6Du, secret ^ 0x6C7967656E657261u,
                     other ^ 0x7465646279746573u};
    for (unsigned i = 0; i < count; i++) {
        v[3] ^= words[i];
        mix(v);
        v[0] ^= words[i];
    }
    v[2] ^= 0xFF;
    for (int i = 0; i < 3; i++)
        mix(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint32_t flow_key(uint64_t secret, const uint8_t *packet, uint32_t length, bool cut) {
    uint64_t words[5] = {0};
    bool is_v4 = packet[0] >> 4 == 4, more;
    unsigned protocol, count = is_v4 ? 1 : 4;
    uint32_t offset = ip_transport(packet, length, &protocol, &more);
    memcpy(words, packet + (is_v4 ? IP4_SOURCE : IP6_SOURCE), 8 * count);
    words[count] = (uint64_t)packet[is_v4 ? IP4_PROTOCOL : IP6_NEXT_HEADER] << 32;
    if (!cut && !more && offset != 0 && (protocol == TCP || protocol == UDP) && length >= offset + 4)
        words[count] |= (uint64_t)1 << 40 | get32(packet + offset);
    return (uint32_t)(hash(secret, words, count + 1) % FLOW_KEYS);
}
