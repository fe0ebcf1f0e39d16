/* Packets for the TUN: joined and cut again they must be the same, octet for octet.
 *
 * Input: the offloads, then for each packet an octet of bits, its length in two octets, its octets. */
#include "fuzz.h"

enum { PACKETS = 1024, ROOM = 1 << 20 };
enum {
    MADE_RIGHT = 1, /* with right lengths and checksums */
    PAYLOAD = 2,    /* the octets are the payload of the next packet in the flow of the one before */
    AGAIN = 4,      /* no octets: the flow goes on with the last payload, `length` % 300 times */
};

static uint8_t packets[ROOM], out[ROOM + PACKETS * VNET], again[ROOM];
static uint32_t lengths[PACKETS], sizes[PACKETS], cut[PACKETS], count, total;

static void add(const uint8_t *octets, uint32_t length, bool right) {
    if (length == 0 || count == PACKETS || length > ROOM - total)
        return;
    memmove(packets + total, octets, length);
    if (right)
        make_right(packets + total, length);
    lengths[count++] = length;
    total += length;
}

/* The next packet of the flow of the last one, with its payload or another. */
static void add_next(const uint8_t *payload, uint32_t length, uint8_t push) {
    static uint8_t packet[2 * MAX_PACKET];
    if (count == 0)
        return;
    uint32_t whole = lengths[count - 1];
    memcpy(packet, packets + total - whole, whole);
    struct segment s = join_read(packet, whole, MPT_JOIN_TCP | MPT_JOIN_UDP);
    if (!s.joinable)
        return;
    make_next(packet, whole);
    if (payload != NULL) {
        whole = s.headers + length > MAX_PACKET ? MAX_PACKET : s.headers + length;
        memcpy(packet + s.headers, payload, whole - s.headers);
    }
    if (s.protocol == TCP)
        packet[s.transport + 13] ^= push;
    add(packet, whole, true);
}

static void read_packets(struct input *in) {
    count = total = 0;
    while (in->left > 0) {
        uint8_t bits = take_octet(in);
        size_t length = take_number(in);
        if (bits & AGAIN) {
            for (size_t i = 0; i < length % 300; i++)
                add_next(NULL, 0, 0);
            continue;
        }
        const uint8_t *octets = take(in, &length);
        if (bits & PAYLOAD)
            add_next(octets, (uint32_t)length, bits & 8); /* 8 is PSH */
        else
            add(octets, (uint32_t)length, bits & MADE_RIGHT);
    }
}

/* A checksum of 0xFFFF is the same number as 0, which a cut writes into TCP and IPv4 headers. */
static void write_zeros(uint8_t *packet) {
    unsigned version = packet[0] >> 4;
    uint8_t *ip_check = packet + 10, *tcp_check = packet + transport_of(packet, version) + 16;
    if (version == 4 && get16(ip_check) == 0xFFFF)
        put16(ip_check, 0);
    if ((version == 4 ? packet[9] : packet[6]) == TCP && get16(tcp_check) == 0xFFFF)
        put16(tcp_check, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    int offloads = take_octet(&in) & (MPT_JOIN_TCP | MPT_JOIN_UDP);
    read_packets(&in);
    int frames = mpt_join(packets, lengths, count, offloads, out, sizeof out, sizes, PACKETS);
    CHECK(frames >= 0);
    uint8_t *frame = out, *packet = packets;
    uint32_t at = 0;
    for (int i = 0; i < frames; frame += sizes[i++]) {
        struct virtio_net_hdr vnet;
        memcpy(&vnet, frame, VNET);
        bool joined = vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE;
        CHECK(sizes[i] <= VNET + MAX_PACKET);
        CHECK(!joined || offloads & (vnet.gso_type == VIRTIO_NET_HDR_GSO_UDP_L4 ? MPT_JOIN_UDP : MPT_JOIN_TCP));
        int made = mpt_split(frame, sizes[i], again, sizeof again, cut, PACKETS);
        bool udp = vnet.gso_type == VIRTIO_NET_HDR_GSO_UDP_L4; /* of which Linux takes 64 */
        CHECK(joined ? made >= 2 && (!udp || made <= 64) : made == 1);
        uint8_t *one = again;
        for (int k = 0; k < made; k++, at++) {
            CHECK(at < count && cut[k] == lengths[at]);
            if (joined && memcmp(one, packet, cut[k]) != 0)
                write_zeros(packet);
            CHECK(memcmp(one, packet, cut[k]) == 0);
            one += cut[k];
            packet += cut[k];
        }
    }
    CHECK(at == count);
    return 0;
}
