/* Packets that may not fit: a SYN is clamped, a packet is cut, an answer is made. Any octets; what comes out is right.
 *
 * Input: the size that fits, in two octets; the packet. */
#include "fuzz.h"

enum { ROOM = 1 << 18, FRAGMENTS = 4096 };

static uint8_t copy[MAX_PACKET], out[ROOM];
static uint32_t sizes[FRAGMENTS];

static uint16_t tcp_sum(const uint8_t *packet, uint32_t at, uint32_t length) {
    return fold(sum_octets(packet + at, length - at, sum_pseudo(packet, TCP, length - at)));
}

/* At most options of the largest segment and the checksum differ; it is as right or wrong as before. */
static void check_clamped(const uint8_t *packet, uint32_t length, uint32_t size) {
    memcpy(copy, packet, length);
    mpt_clamp_mss(copy, length, size, 0);
    if (memcmp(copy, packet, length) == 0)
        return;
    unsigned protocol;
    bool more;
    uint32_t at = ip_transport(packet, length, &protocol, &more), end = at + (packet[at + TCP_OFFSET] >> 4) * 4u;
    CHECK(at > 0 && protocol == TCP && !more && packet[at + TCP_FLAGS] & SYN && end <= length);
    for (uint32_t i = 0; i < length; i++)
        CHECK(copy[i] == packet[i] || i - at - TCP_CHECKSUM < 2 || (i >= at + TCP_HEADER + 2 && i < end));
    CHECK(tcp_sum(copy, at, length) == tcp_sum(packet, at, length) || tcp_sum(packet, at, length) == 0);
    static uint8_t again[MAX_PACKET];
    memcpy(again, copy, length);
    mpt_clamp_mss(again, length, size, 0);
    CHECK(memcmp(again, copy, length) == 0);
}

static void check_fragments(const uint8_t *packet, uint32_t length, uint32_t size) {
    int count = mpt_fragments(packet, length, size, out, sizeof out, sizes, FRAGMENTS);
    if (count < 0)
        return;
    uint32_t header = (packet[0] & 0x0Fu) * 4, total = get16(packet + IP4_LENGTH), at = header;
    const uint8_t *one = out;
    for (int i = 0; i < count; one += sizes[i++]) {
        CHECK(sizes[i] <= size && sizes[i] > header && get16(one + IP4_LENGTH) == sizes[i]);
        CHECK(fold(sum_octets(one, header, 0)) == 0xFFFF && memcmp(one + header, packet + at, sizes[i] - header) == 0);
        CHECK((get16(one + IP4_FRAGMENT) & 0x1FFF) == (get16(packet + IP4_FRAGMENT) & 0x1FFF) + (at - header) / 8);
        at += sizes[i] - header;
    }
    CHECK(at == total);
}

static void check_answer(const uint8_t *packet, uint32_t length, uint32_t size) {
    struct mpt_address sender = {.version = packet[0] >> 4 == 6 ? 6 : 4, .octets = {10, 0, 0, 3}};
    uint32_t told = mpt_too_big_answer(packet, length, size, &sender, out), header = sender.version == 4 ? 20 : 40;
    if (told == 0)
        return;
    CHECK(told <= (sender.version == 4 ? 576u : 1280u) && told >= header + 8 + 20);
    CHECK(memcmp(out + header + 8, packet, told - header - 8) == 0);
    CHECK(sender.version == 6 || fold(sum_octets(out, 20, 0)) == 0xFFFF);
    uint64_t pseudo = sender.version == 6 ? sum_pseudo(out, ICMPV6, told - header) : 0;
    CHECK(fold(sum_octets(out + header, told - header, pseudo)) == 0xFFFF);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    uint32_t fits = take_number(&in);
    size_t length = in.left < MAX_PACKET ? in.left : MAX_PACKET;
    uint8_t *packet = malloc(length + 1); /* so that reading behind it is seen */
    CHECK(packet != NULL);
    memcpy(packet, take(&in, &length), length);
    if (ip_version(packet, (uint32_t)length) != 0) {
        check_clamped(packet, (uint32_t)length, fits);
        check_fragments(packet, (uint32_t)length, fits);
        check_answer(packet, (uint32_t)length, fits);
    }
    free(packet);
    return 0;
}
