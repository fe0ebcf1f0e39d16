/* Shared by the targets: an input taken piece by piece, right packets, and the check. */
#include <stdio.h>
#include <stdlib.h>

#include "../mpt/accel/join.h"
#include "../mpt/accel/ordering.h"
#include "../mpt/accel/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(holds) \
    do { \
        if (!(holds)) { \
            fprintf(stderr, "%s:%d: error: does not hold: %s\n", __FILE__, __LINE__, #holds); \
            abort(); \
        } \
    } while (0)

/* The engine must be right with any constants; these are much like ours. */
static const struct mpt_tuning tuning = {
    .gap_gain = 0.125, .keepalive_gain = 0.5, .negligible = 0.003, .share = 0.75, .doubt = 0.2, .longest_doubt = 2,
    .restart_silence = 0.25, .path_memory = 10, .distrust = 1, .good_part = 0.0625, .fair_part = 0.25, .poor_part = 0.02, .short_wait = 0.005,
    .patience_gain = 1.5, .patience_decay = 0.875, .period = 0.3, .majority = 1.25, .age = 1,
    .answers = 100, .answers_at_once = 50, .near = 300, .many = 3, .review = 16, .gaps_remembered = 64, .candidates = 4,
    .firsts = 1, .firsts_at_once = 6, .retries = 1, .retries_at_once = 3, .proven = 1, .proven_at_once = 4, .token_life = 10, .told = 20, .told_at_once = 40,
    .streams = 5, .forget = 1, .stamps_a_second = 16000,
    .thin_period = 0.1, .quantum = 1514, .largest_packet = 100, .count_memory = 16,
    .sure = 3, .sure_after = 0.002, .reports_told = 4, .told_for = 0.15, .soon = 0.002, .pause = 0.01, .short_pause = 0.005,
    .reports_many = 64, .latest = 0.2, .silences = {0.025, 0.05, 0.1, 0.2}, .silent = 2, .old_session = 0.25, .report_share = 0.02, .idle_news = 0.1, .longest_wait = 1,
    .longest_hold = 1, .longest_playout = 0.2, .far_ahead = 1 << 16, .excess = 0.1, .excess_octets = 3028,
    .blocked = 0.002, .tries = 3, .too_late = 0.3, .repair_share = 0.15, .repair_burst = 45420, .patience = 4, .copy_share = 0.1,
    .usual = 1500, .start_window = 45000, .start_rate = 625000, .start_rto = 1, .start_hold = 0.1,
};

struct input { const uint8_t *at; size_t left; };

/* Return the next `*length` octets, or as many as there are. */
static inline const uint8_t *take(struct input *in, size_t *length) {
    const uint8_t *taken = in->at;
    if (*length > in->left)
        *length = in->left;
    in->at += *length;
    in->left -= *length;
    return taken;
}

static inline uint8_t take_octet(struct input *in) { /* 0 behind the end */
    size_t one = 1;
    const uint8_t *at = take(in, &one);
    return one ? *at : 0;
}

static inline uint32_t take_number(struct input *in) { /* of two octets */
    uint32_t high = take_octet(in);
    return high << 8 | take_octet(in);
}

static inline uint32_t transport_of(const uint8_t *packet, unsigned version) {
    return version == 4 ? (packet[0] & 0x0Fu) * 4 : 40;
}

/* Put the right lengths and checksums into a packet, so that it is not refused for these alone. */
static inline void make_right(uint8_t *packet, uint32_t length) {
    unsigned version = ip_version(packet, length);
    if (version == 0)
        return;
    if (version == 4 && (packet[0] & 0x0F) < 5)
        packet[0] = 0x45;
    uint32_t transport = transport_of(packet, version), protocol = version == 4 ? packet[9] : packet[6];
    uint32_t at = transport + (protocol == TCP ? TCP_CHECKSUM : UDP_CHECKSUM);
    if (transport > length)
        return;
    uint16_t word;
    if (version == 4) {
        put16(packet + 2, length);
        put16(packet + 10, 0);
        word = (uint16_t)~fold(sum_octets(packet, transport, 0));
        memcpy(packet + 10, &word, 2);
    } else
        put16(packet + 4, length - 40);
    if ((protocol != TCP && protocol != UDP) || at + 2 > length)
        return;
    if (protocol == UDP)
        put16(packet + transport + 4, length - transport);
    put16(packet + at, 0);
    word = (uint16_t)~fold(sum_octets(packet + transport, length - transport,
                                      sum_pseudo(packet, protocol, length - transport)));
    if (word == 0 && protocol == UDP)
        word = 0xFFFF;
    memcpy(packet + at, &word, 2);
}

/* Turn a packet into the next one of its flow; its checksums are wrong after that. */
static inline void make_next(uint8_t *packet, uint32_t length) {
    struct segment s = join_read(packet, length, MPT_JOIN_TCP | MPT_JOIN_UDP);
    if (s.version == 4)
        put16(packet + 4, get16(packet + 4) + 1);
    if (s.joinable && s.protocol == TCP)
        put32(packet + s.transport + 4, get32(packet + s.transport + 4) + length - s.headers);
}
