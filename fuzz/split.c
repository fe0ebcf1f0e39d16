/* A frame of the TUN: any header, any packet. The output is the packet, or its segments, and right.
 *
 * Input: an octet of bits; how much is appended to the packet, in units of 256 octets; the frame. */
#include "fuzz.h"

enum { PARTIAL_SUM = 1 /* the checksum field holds the sum of the pseudo-header, as a host leaves it */ };
enum { ROOM = VNET + MAX_PACKET + 41, SEGMENTS = 4096 };

static uint8_t frame[ROOM], out[1 << 20];
static uint32_t sizes[SEGMENTS];

static uint16_t sum_of(const uint8_t *ip, uint32_t transport, uint32_t protocol, uint32_t length) {
    return fold(sum_octets(ip + transport, length - transport, sum_pseudo(ip, protocol, length - transport)));
}

static uint32_t protocol_of(const struct virtio_net_hdr *vnet) {
    return (vnet->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_UDP_L4 ? UDP : TCP;
}

static bool put_partial_sum(const struct virtio_net_hdr *vnet, uint8_t *packet, uint32_t length) {
    uint32_t at = (uint32_t)vnet->csum_start + vnet->csum_offset;
    if (ip_version(packet, length) == 0 || at + 2 > length)
        return false;
    uint16_t word = fold(sum_pseudo(packet, protocol_of(vnet), length - vnet->csum_start));
    memcpy(packet + at, &word, 2);
    return true;
}

static void check_single(const struct virtio_net_hdr *vnet, const uint8_t *packet, uint32_t length) {
    uint32_t at = (uint32_t)vnet->csum_start + vnet->csum_offset;
    CHECK(sizes[0] == length);
    if (!(vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
        at = length;
    CHECK(memcmp(out, packet, at) == 0);
    CHECK(at + 2 >= length || memcmp(out + at + 2, packet + at + 2, length - at - 2) == 0);
}

static void check_segments(
    const struct virtio_net_hdr *vnet, const uint8_t *packet, uint32_t length, uint32_t count, bool sums
) {
    uint32_t transport = vnet->csum_start, protocol = protocol_of(vnet);
    uint32_t headers = transport + (protocol == UDP ? 8u : (packet[transport + 12] >> 4) * 4u), at = headers;
    const uint8_t *one = out;
    for (uint32_t i = 0; i < count; one += sizes[i++]) {
        uint32_t payload = sizes[i] - headers;
        CHECK(payload == vnet->gso_size || (i == count - 1 && payload > 0 && payload < vnet->gso_size));
        CHECK(payload <= length - at && memcmp(one + headers, packet + at, payload) == 0);
        if (packet[0] >> 4 == 4) {
            CHECK(get16(one + 2) == sizes[i] && get16(one + 4) == (uint16_t)(get16(packet + 4) + i));
            CHECK((one[0] & 0x0F) < 5 || fold(sum_octets(one, (one[0] & 0x0Fu) * 4, 0)) == 0xFFFF);
        } else
            CHECK(get16(one + 4) == sizes[i] - 40);
        if (protocol == TCP)
            CHECK(get32(one + transport + 4) == get32(packet + transport + 4) + (at - headers));
        CHECK(!sums || sum_of(one, transport, protocol, sizes[i]) == 0xFFFF);
        at += payload;
    }
    CHECK(at == length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    uint8_t bits = take_octet(&in);
    size_t more = take_octet(&in) * 256u, length = ROOM;
    const uint8_t *octets = take(&in, &length);
    if (more > ROOM - length)
        more = ROOM - length;
    memcpy(frame, octets, length);
    for (size_t i = 0; i < more; i++)
        frame[length + i] = (uint8_t)(i * 7 >> 3);
    length += more;
    struct virtio_net_hdr vnet = {0};
    bool sums = false;
    if (length > VNET) {
        memcpy(&vnet, frame, VNET);
        if (bits & PARTIAL_SUM)
            sums = put_partial_sum(&vnet, frame + VNET, (uint32_t)length - VNET);
    }
    uint8_t *alone = malloc(length + 1); /* so that reading behind it is seen */
    CHECK(alone != NULL);
    memcpy(alone, frame, length);
    int count = mpt_split(alone, (uint32_t)length, out, sizeof out, sizes, SEGMENTS);
    if (count >= 0 && vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE)
        check_single(&vnet, frame + VNET, (uint32_t)length - VNET);
    else if (count >= 0)
        check_segments(&vnet, frame + VNET, (uint32_t)length - VNET, (uint32_t)count, sums);
    free(alone);
    return 0;
}
