/* Joining for the TUN: neighbours that the kernel would cut again into just these packets become one write.
 *
 * Two packets are joined only if, at the place where they would be cut, the cut gives back both octet for octet: one flow,
 * no IPv4 options, no IPv6 extension headers, no fragment, equal TTL, TOS, DF bit or traffic class, flow label and hop
 * limit, IPv4 ids that count up; for TCP a contiguous sequence number, equal acknowledgement, window and options, no flag
 * but ACK, and PSH on the last alone; equal payload sizes, but the last may be shorter; lengths and every checksum right,
 * and written as the kernel writes it: 0, not 0xFFFF, which is the same number, but for UDP.
 * Only neighbours are joined, so no packet overtakes another.
 */

#include "join.h"

enum { MORE_OR_OFFSET = 0x3FFF, UDP_SEGMENTS = 64 };

struct segment join_read(const uint8_t *packet, uint32_t length, int offloads) {
    struct segment s = {.packet = packet, .length = length, .version = ip_version(packet, length)};
    if (s.version == 4) {
        if (packet[0] != 0x45 || get16(packet + IP4_LENGTH) != length || get16(packet + IP4_FRAGMENT) & MORE_OR_OFFSET
            || get16(packet + IP4_CHECKSUM) == 0xFFFF)
            return s;
        s.transport = IP4_HEADER;
        s.protocol = packet[IP4_PROTOCOL];
    } else if (s.version == 6) {
        if (get16(packet + IP6_LENGTH) + 40u != length)
            return s;
        s.transport = IP6_HEADER;
        s.protocol = packet[IP6_NEXT_HEADER];
    } else
        return s;
    const uint8_t *transport = packet + s.transport;
    if (s.protocol == TCP && offloads & MPT_JOIN_TCP) {
        if (length < s.transport + TCP_HEADER || (transport[TCP_FLAGS] & ~PSH) != ACK || transport[TCP_OFFSET] & 0x0F
            || get16(transport + TCP_CHECKSUM) == 0xFFFF)
            return s;
        uint32_t header = (transport[TCP_OFFSET] >> 4) * 4u;
        s.headers = s.transport + header;
        s.joinable = header >= TCP_HEADER && s.headers < length;
    } else if (s.protocol == UDP && offloads & MPT_JOIN_UDP) {
        s.headers = s.transport + UDP_HEADER;
        s.joinable = s.headers < length && get16(transport + UDP_LENGTH) == length - s.transport
            && get16(transport + UDP_CHECKSUM) != 0;
    }
    return s;
}

static bool verify(struct segment *s) {
    if (!s->verified) {
        uint32_t length = s->length - s->transport;
        if (s->version == 4 && fold(sum_words(s->packet, IP4_HEADER / 4, 0)) != 0xFFFF)
            return false;
        s->verified =
            fold(sum_octets(s->packet + s->transport, length, sum_pseudo(s->packet, s->protocol, length))) == 0xFFFF;
    }
    return s->verified;
}

void join_start(struct join *join, const struct segment *first) {
    join->first = *first;
    join->count = 1;
    join->length = first->length;
    join->size = first->length - first->headers;
    join->push = false;
    join->closed = !first->joinable || (first->protocol == TCP && first->packet[first->transport + TCP_FLAGS] & PSH);
    join->pieces[2] = (struct iovec){(void *)(uintptr_t)(first->packet + first->headers), join->size};
}

static bool same_ip(const struct join *join, const uint8_t *a, const uint8_t *b) {
    if (join->first.version == 6)
        return memcmp(a, b, 4) == 0 && memcmp(a + IP6_NEXT_HEADER, b + IP6_NEXT_HEADER, 34) == 0;
    return a[IP4_TOS] == b[IP4_TOS] && memcmp(a + IP4_FRAGMENT, b + IP4_FRAGMENT, 4) == 0
        && memcmp(a + IP4_SOURCE, b + IP4_SOURCE, 8) == 0
        && (uint16_t)(get16(a + IP4_ID) + join->count) == get16(b + IP4_ID);
}

static bool same_tcp(const struct join *join, const uint8_t *a, const uint8_t *b) {
    uint32_t header = join->first.headers - join->first.transport;
    return memcmp(a, b, 4) == 0 /* ports */
        && get32(a + TCP_SEQUENCE) + join->count * join->size == get32(b + TCP_SEQUENCE)
        && memcmp(a + TCP_ACKNOWLEDGEMENT, b + TCP_ACKNOWLEDGEMENT, 5) == 0 /* and the header length */
        && memcmp(a + TCP_WINDOW, b + TCP_WINDOW, 2) == 0
        && memcmp(a + TCP_URGENT, b + TCP_URGENT, header - TCP_URGENT) == 0; /* and the options */
}

bool join_add(struct join *join, struct segment *next) {
    struct segment *first = &join->first;
    uint32_t payload = next->length - next->headers;
    if (join->closed || !next->joinable || next->version != first->version || next->protocol != first->protocol
        || next->headers != first->headers || payload > join->size || join->length + payload > MAX_PACKET
        || join->count == (first->protocol == UDP ? UDP_SEGMENTS : JOIN_MAX))
        return false;
    const uint8_t *a = first->packet + first->transport, *b = next->packet + next->transport;
    if (!same_ip(join, first->packet, next->packet)
        || !(first->protocol == TCP ? same_tcp(join, a, b) : memcmp(a, b, 4) == 0))
        return false;
    if (!verify(first)) {
        join->closed = true;
        return false;
    }
    if (!verify(next))
        return false;
    join->count++;
    join->length += payload;
    join->pieces[join->count + 1] = (struct iovec){(void *)(uintptr_t)(next->packet + next->headers), payload};
    join->push = first->protocol == TCP && b[TCP_FLAGS] & PSH;
    join->closed = payload < join->size || join->push;
    return true;
}

int join_finish(struct join *join) {
    const struct segment *first = &join->first;
    join->vnet = (struct virtio_net_hdr){.gso_type = VIRTIO_NET_HDR_GSO_NONE};
    join->pieces[0] = (struct iovec){&join->vnet, VNET};
    if (join->count == 1) {
        join->pieces[1] = (struct iovec){(void *)(uintptr_t)first->packet, first->length};
        return 2;
    }
    bool tcp = first->protocol == TCP;
    uint8_t *ip = join->headers, *transport = ip + first->transport;
    uint32_t length = join->length - first->transport;
    memcpy(ip, first->packet, first->headers);
    if (first->version == 4) {
        put16(ip + IP4_LENGTH, join->length);
        put16(ip + IP4_CHECKSUM, 0);
        uint16_t word = (uint16_t)~fold(sum_words(ip, IP4_HEADER / 4, 0));
        memcpy(ip + IP4_CHECKSUM, &word, 2);
    } else
        put16(ip + IP6_LENGTH, join->length - IP6_HEADER);
    if (join->push)
        transport[TCP_FLAGS] |= PSH;
    if (!tcp)
        put16(transport + UDP_LENGTH, length);
    uint16_t pseudo = fold(sum_pseudo(ip, first->protocol, length)); /* not inverted: the kernel completes it */
    memcpy(transport + (tcp ? TCP_CHECKSUM : UDP_CHECKSUM), &pseudo, 2);
    join->vnet = (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = !tcp ? VIRTIO_NET_HDR_GSO_UDP_L4
            : first->version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6,
        .hdr_len = (uint16_t)first->headers,
        .gso_size = (uint16_t)join->size,
        .csum_start = (uint16_t)first->transport,
        .csum_offset = tcp ? TCP_CHECKSUM : UDP_CHECKSUM,
    };
    join->pieces[1] = (struct iovec){ip, first->headers};
    return (int)join->count + 2;
}

static bool emit(struct join *join, uint8_t **out, uint32_t *room, uint32_t *size) {
    int pieces = join_finish(join);
    *size = 0;
    for (int i = 0; i < pieces; i++) {
        size_t length = join->pieces[i].iov_len;
        if (length > *room)
            return false;
        memcpy(*out, join->pieces[i].iov_base, length);
        *out += length;
        *room -= (uint32_t)length;
        *size += (uint32_t)length;
    }
    return true;
}

int mpt_join(const uint8_t *packets, const uint32_t *lengths, uint32_t count, int offloads,
             uint8_t *out, uint32_t room, uint32_t *sizes, uint32_t max) {
    struct join join;
    uint32_t made = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct segment next = join_read(packets, lengths[i], offloads);
        packets += lengths[i];
        if (i > 0 && join_add(&join, &next))
            continue;
        if (i > 0 && (made == max || !emit(&join, &out, &room, &sizes[made++])))
            return -1;
        join_start(&join, &next);
    }
    if (count > 0 && (made == max || !emit(&join, &out, &room, &sizes[made++])))
        return -1;
    return (int)made;
}
