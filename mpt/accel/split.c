/* Frames of a TUN with IFF_VNET_HDR: packets whose checksum is still to be completed, and super-packets of up to 64 KB
 * that stand for many packets. Both are finished here, as the kernel would do it (virtio 1.2 section 5.1.6), but for
 * the urgent pointer: the kernel, which makes no super-packets in urgent mode, would leave it alone.
 *
 * Segments differ in: lengths; the IPv4 id, which counts up; the TCP sequence number; FIN and PSH, which belong to the
 * last; CWR, which belongs to the first (RFC 3168 section 6.1.2); the urgent pointer, which is relative to the sequence
 * number (RFC 9293 section 3.8.5).
 */

#include "split.h"

bool complete_checksum(const struct virtio_net_hdr *vnet, uint8_t *packet, uint32_t length) {
    if (!(vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
        return true;
    uint32_t start = vnet->csum_start, at = start + vnet->csum_offset;
    if (start > length || at + 2 > length)
        return false;
    uint16_t word = (uint16_t)~fold(sum_octets(packet + start, length - start, 0)); /* the field holds the pseudo-header */
    if (word == 0)
        word = 0xFFFF; /* the same number, and 0 would mean "none" in UDP (RFC 768) */
    memcpy(packet + at, &word, 2);
    return true;
}

bool split_start(struct split *split, const struct virtio_net_hdr *vnet, const uint8_t *packet, uint32_t length) {
    unsigned type = vnet->gso_type & ~(unsigned)VIRTIO_NET_HDR_GSO_ECN, version = ip_version(packet, length);
    uint32_t transport = vnet->csum_start, headers;
    bool tcp = (type == VIRTIO_NET_HDR_GSO_TCPV4 && version == 4) || (type == VIRTIO_NET_HDR_GSO_TCPV6 && version == 6);
    if (!tcp && !(type == VIRTIO_NET_HDR_GSO_UDP_L4 && version != 0))
        return false;
    if (!(vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || vnet->gso_size == 0
        || vnet->csum_offset != (tcp ? TCP_CHECKSUM : UDP_CHECKSUM))
        return false;
    if (transport < IP6_HEADER && (version == 6 || transport < IP4_HEADER))
        return false;
    if (version == 4 && ((packet[0] & 0x0Fu) < 5 || transport < (packet[0] & 0x0Fu) * 4))
        return false;
    if (transport + (tcp ? TCP_HEADER : UDP_HEADER) > length)
        return false;
    headers = transport + (tcp ? (packet[transport + TCP_OFFSET] >> 4) * 4u : UDP_HEADER);
    if (headers < transport + (tcp ? TCP_HEADER : UDP_HEADER) || headers > HEADER_ROOM || headers >= length
        || length > MAX_PACKET + IP6_HEADER)
        return false;
    if (headers + vnet->gso_size > MAX_PACKET)
        return false;
    *split = (struct split){.packet = packet, .length = length, .transport = transport, .headers = headers,
                            .size = vnet->gso_size, .version = version, .protocol = tcp ? TCP : UDP,
                            .segments = (length - headers + vnet->gso_size - 1) / vnet->gso_size};
    return true;
}

static void segment_ip(const struct split *split, uint32_t i, uint8_t *ip, uint32_t length) {
    if (split->version == 6) {
        put16(ip + IP6_LENGTH, length - IP6_HEADER);
        return;
    }
    uint32_t header = (ip[0] & 0x0Fu) * 4;
    put16(ip + IP4_LENGTH, length);
    put16(ip + IP4_ID, get16(ip + IP4_ID) + i);
    put16(ip + IP4_CHECKSUM, 0);
    uint16_t word = (uint16_t)~fold(sum_words(ip, header / 4, 0));
    memcpy(ip + IP4_CHECKSUM, &word, 2);
}

static void segment_tcp(const struct split *split, uint32_t i, uint8_t *tcp) {
    uint32_t offset = i * split->size, urgent = get16(tcp + TCP_URGENT);
    put32(tcp + TCP_SEQUENCE, get32(tcp + TCP_SEQUENCE) + offset);
    if (i > 0)
        tcp[TCP_FLAGS] &= (uint8_t)~CWR;
    if (i < split->segments - 1)
        tcp[TCP_FLAGS] &= (uint8_t) ~(FIN | PSH);
    if (tcp[TCP_FLAGS] & URG && offset > 0) {
        if (urgent > offset)
            put16(tcp + TCP_URGENT, urgent - offset);
        else {
            tcp[TCP_FLAGS] &= (uint8_t)~URG;
            put16(tcp + TCP_URGENT, 0);
        }
    }
}

uint32_t split_segment(const struct split *split, uint32_t i, uint8_t *headers, const uint8_t **payload) {
    uint32_t from = split->headers + i * split->size, left = split->length - from;
    uint32_t size = left < split->size ? left : split->size;
    uint32_t segment = split->headers - split->transport + size, whole = split->length - split->transport;
    uint8_t *transport = headers + split->transport;
    uint8_t *check = transport + (split->protocol == TCP ? TCP_CHECKSUM : UDP_CHECKSUM);
    memcpy(headers, split->packet, split->headers);
    segment_ip(split, i, headers, split->headers + size);
    if (split->protocol == TCP)
        segment_tcp(split, i, transport);
    else
        put16(transport + UDP_LENGTH, segment);
    /* The field holds the sum of the whole packet's pseudo-header; replace its length by the segment's. */
    uint64_t sum = sum16(sum16(0, 0xFFFF ^ whole), segment);
    sum = sum_words(transport, (split->headers - split->transport) / 4, sum);
    uint16_t word = (uint16_t)~fold(sum_octets(split->packet + from, size, sum));
    if (word == 0 && split->protocol == UDP)
        word = 0xFFFF;
    memcpy(check, &word, 2);
    *payload = split->packet + from;
    return size;
}

int mpt_split(uint8_t *frame, uint32_t length, uint8_t *out, uint32_t room, uint32_t *sizes, uint32_t max) {
    struct virtio_net_hdr vnet;
    struct split split;
    if (length < VNET)
        return -1;
    memcpy(&vnet, frame, VNET);
    uint8_t *packet = frame + VNET;
    length -= VNET;
    if (vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        if (!complete_checksum(&vnet, packet, length) || length > room || max < 1)
            return -1;
        memcpy(out, packet, length);
        sizes[0] = length;
        return 1;
    }
    if (!split_start(&split, &vnet, packet, length) || split.segments > max)
        return -1;
    for (uint32_t i = 0; i < split.segments; i++) {
        const uint8_t *payload;
        if (room < split.headers + split.size)
            return -1;
        uint32_t size = split_segment(&split, i, out, &payload);
        memcpy(out + split.headers, payload, size);
        sizes[i] = split.headers + size;
        out += sizes[i];
        room -= sizes[i];
    }
    return (int)split.segments;
}
