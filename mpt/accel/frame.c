/* See frame.h. MPT-GRE in the clear, as the C program speaks it; the twins are mpt/data/framing.py, mpt/wire/gre.py and, for
 * the header of a keepalive, mpt/wire/command.py. */

#include "frame.h"

enum { PROTOCOL = 2, KEY = 4 }; /* offsets of the protocol type, and of the key where no checksum stands before it */
enum { PROTOCOL_IPV4 = 0x0800, PROTOCOL_IPV6 = 0x86DD };
enum { CHECKSUM_PRESENT = 0x8000, KEY_PRESENT = 0x2000, SEQUENCE_PRESENT = 0x1000, VERSION_MASK = 0x0007 };
enum { MUST_BE_ZERO = 0x4C00 }; /* bits 1, 4 and 5: RFC 2784 section 2.3, less the bits that RFC 2890 gave a meaning */
enum { COMMAND = 0xA0, KEEPALIVE = 0xA1 }; /* first octets of messages: any from COMMAND on, and a keepalive's */
/* Offsets in the header of a keepalive, and its length. */
enum { AUTH_TYPE = 2, ROUND = 4, TUNNEL_VERSION = 5, SENDER = 8, RECEIVER = 24, MESSAGE_HEADER = 40 };

/* --- to the network --- */

uint32_t frame_length(int32_t space) { return space == UNNUMBERED ? 4 : space == NO_KEY ? 8 : 12; }

void frame_put(uint8_t *head, unsigned version, int32_t space, uint32_t number) {
    put16(head, space == UNNUMBERED ? 0 : space == NO_KEY ? SEQUENCE_PRESENT : KEY_PRESENT | SEQUENCE_PRESENT);
    put16(head + PROTOCOL, version == 4 ? PROTOCOL_IPV4 : PROTOCOL_IPV6);
    if (space >= 0)
        put32(head + KEY, (uint32_t)space);
    if (space != UNNUMBERED)
        frame_renumber(head, space, number);
}

void frame_renumber(uint8_t *head, int32_t space, uint32_t number) { put32(head + frame_length(space) - 4, number); }

/* --- from the network --- */

int frame_open(uint8_t *datagram, uint32_t length, struct opened *opened) {
    int header = mpt_gre_decode(datagram, length, &opened->version, &opened->sequenced, &opened->sequence);
    if (header < 0)
        return -header;
    unsigned flags = get16(datagram);
    opened->has_key = flags & KEY_PRESENT;
    opened->key = opened->has_key ? get32(datagram + (flags & CHECKSUM_PRESENT ? KEY + 4 : KEY)) : 0;
    opened->payload = datagram + header;
    opened->length = length - (uint32_t)header;
    return 0;
}

int mpt_gre_decode(const uint8_t *datagram, uint32_t length, uint32_t *version, int *sequenced, uint32_t *sequence) {
    if (length < 4)
        return -MPT_GRE_TRUNCATED;
    unsigned flags = get16(datagram), protocol = get16(datagram + PROTOCOL);
    uint32_t offset = 4;
    *sequenced = (flags & SEQUENCE_PRESENT) != 0;
    *version = protocol == PROTOCOL_IPV4 ? 4 : 6;
    if (flags & VERSION_MASK)
        return -MPT_GRE_VERSION;
    if (flags & MUST_BE_ZERO)
        return -MPT_GRE_RESERVED_BITS;
    if (protocol != PROTOCOL_IPV4 && protocol != PROTOCOL_IPV6)
        return -MPT_GRE_PROTOCOL;
    if (flags & CHECKSUM_PRESENT)
        offset += 4;
    if (flags & KEY_PRESENT)
        offset += 4;
    if (*sequenced) {
        if (length < offset + 4)
            return -MPT_GRE_TRUNCATED;
        *sequence = get32(datagram + offset);
        offset += 4;
    }
    if (length < offset)
        return -MPT_GRE_TRUNCATED;
    if (flags & CHECKSUM_PRESENT && mpt_checksum(datagram, length) != 0)
        return -MPT_GRE_CHECKSUM;
    return (int)offset;
}

static bool tunnel_address(const uint8_t *octets, unsigned version, struct mpt_address *address) {
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF}; /* ::ffff:a.b.c.d */
    *address = (struct mpt_address){.version = (uint8_t)version};
    if (version == 4 && memcmp(octets, mapped, sizeof mapped) == 0)
        memcpy(address->octets, octets + sizeof mapped, 4);
    else if (version == 6)
        memcpy(address->octets, octets, 16);
    else
        return false;
    return true;
}

bool frame_is_keepalive(const struct opened *opened, struct mpt_address *sender, struct mpt_address *receiver) {
    const uint8_t *payload = opened->payload;
    if (opened->length < MESSAGE_HEADER || payload[0] != KEEPALIVE || payload[AUTH_TYPE] != 0 || payload[ROUND] != 0)
        return false;
    return tunnel_address(payload + SENDER, payload[TUNNEL_VERSION], sender)
        && tunnel_address(payload + RECEIVER, payload[TUNNEL_VERSION], receiver);
}

int frame_no_packet(const struct opened *opened) {
    if (opened->length == 0)
        return MPT_INNER_TRUNCATED;
    uint8_t first = opened->payload[0];
    if (first >= COMMAND)
        return first == KEEPALIVE ? MPT_KEEPALIVE_UNKNOWN : MPT_COMMAND_ON_DATA_PORT;
    return MPT_INNER_VERSION;
}
