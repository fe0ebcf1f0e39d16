/* The parts of adaptive connections: a queue, a flight, receipts, a playout, whatever is done to them in whatever order. No packet
 * is lost or comes twice, every sum agrees, and reports can be read.
 *
 * Input: steps of five octets: a kind, then what it takes. */
#include "fuzz.h"

#include "../mpt/accel/feedback.h"

enum { LIMIT = 20, WINDOW = 8, LABELS = 1 << 16, STEPS = 4096, PACKET = 44 };

static uint32_t labels[LABELS];
static uint8_t seen[STEPS];
static double now;

static const double spans[] = {0, 0, 0, 0.0001, 0.001, 0.003, 0.012, 0.3};

static uint32_t queued(const struct mpt_rehearsal *r, uint64_t pushed, uint64_t popped) {
    uint64_t counts[5];
    mpt_rehearse_queue_counts(r, counts);
    CHECK(counts[0] <= LIMIT && counts[0] + counts[2] + counts[4] + popped == pushed);
    return (uint32_t)counts[0];
}

/* Take the labels of what was delivered: each once. */
static uint64_t delivered(struct mpt_rehearsal *r) {
    uint32_t count = mpt_rehearse_labels(r);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(labels[i] < STEPS && !seen[labels[i]]);
        seen[labels[i]] = 1;
    }
    return count;
}

static void make_packet(uint8_t *packet, uint32_t label, uint8_t bits) {
    memset(packet, 0, PACKET);
    packet[0] = 0x45;
    packet[1] = bits & 3;
    packet[9] = bits & 4 ? TCP : UDP;
    packet[32] = 0x50;
    make_right(packet, PACKET);
    put32(packet + 40, label);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct mpt_feedback report, again;
    struct input in = {data, size};
    uint8_t packet[PACKET], popped[2048], encoded[REPORT_LARGEST];
    uint64_t pushed = 0, gone = 0, sent = 0, out = 0, arrived = 0, next[4] = {0}, came[4] = {0};
    uint32_t clock = 0;
    struct mpt_rehearsal *r = mpt_rehearse(&tuning, LIMIT, 0.04, 0.3, WINDOW, 0.2, labels);
    CHECK(r != NULL);
    memset(seen, 0, sizeof seen);
    now = 1000;
    for (uint32_t label = 0; in.left > 0 && label < STEPS; label++) {
        uint8_t kind = take_octet(&in), a = take_octet(&in), b = take_octet(&in), c = take_octet(&in);
        now += spans[take_octet(&in) & 7];
        uint32_t path = a & 3;
        switch (kind & 15) {
        case 0: case 1:
            make_packet(packet, label, b);
            CHECK(mpt_rehearse_push(r, a, packet, PACKET, c & 1, now) == 0);
            pushed++;
            queued(r, pushed, gone);
            break;
        case 2:
            gone += mpt_rehearse_pop(r, popped, now) > 0;
            queued(r, pushed, gone);
            break;
        case 3: case 4:
            next[path] += 1 + (b & 7 ? 0 : c * 64u);
            mpt_rehearse_sent(r, path, next[path], 1 + b, label, now);
            sent++;
            out += mpt_rehearse_labels(r);
            break;
        case 5: {
            struct mpt_range ranges[2] = {{(uint32_t)next[path] - b, c & 31}, {(uint32_t)next[path] - c, b}};
            mpt_rehearse_record(r, path, ++clock, (uint32_t)next[path] - (a >> 2), ranges, a >> 6);
            out += mpt_rehearse_labels(r);
            break;
        }
        case 6:
            mpt_rehearse_session_end(r, path);
            out += mpt_rehearse_labels(r);
            break;
        case 7: case 8:
            came[path] += b & 15 ? 1 : 1 + (uint64_t)c << (b >> 3);
            mpt_rehearse_arrived(r, a >> 7, path, came[path], 100, (uint32_t)(now * 16000), c * 1e-4, c & 1, now);
            break;
        case 9:
            if (mpt_rehearse_report(r, &report, now)) {
                uint32_t length = feedback_encode(&report, encoded);
                CHECK(length <= REPORT_LARGEST && feedback_decode(encoded, length, &again));
                CHECK(again.record_count == report.record_count);
            }
            break;
        case 10:
            mpt_rehearse_forget(r, a >> 7);
            break;
        case 11: case 12: case 13:
            make_packet(packet, label, b);
            out = mpt_rehearse_labels(r) + out;
            CHECK(mpt_rehearse_arrive(r, path == 3 ? 4096 : (int64_t)path - 1, (uint32_t)label - (b & 7) + (c == 0 ? 1u << 20 : 0),
                                      (uint32_t)(now * 16000) - c, packet, now) == 0);
            arrived++;
            delivered(r);
            break;
        case 14:
            mpt_rehearse_wake(r, now);
            delivered(r);
            CHECK(mpt_rehearse_playout_deadline(r) < 0 || mpt_rehearse_playout_deadline(r) > now);
            break;
        default: mpt_rehearse_order(r, a / 100.0, b & 1 ? (int32_t)((uint32_t)(now * 16000) + c) & 0xFFFF : -1, c & 1);
        }
        struct mpt_flight flight;
        mpt_rehearse_flight(r, &flight);
        CHECK(flight.packets + out <= sent && (flight.packets == 0) == (flight.octets == 0));
    }
    mpt_rehearse_flush(r, now);
    delivered(r);
    struct mpt_adaptive_counters counters;
    CHECK(mpt_rehearse_playout_counts(r, &counters) == 0);
    uint64_t all = 0;
    for (uint32_t i = 0; i < STEPS; i++)
        all += seen[i];
    CHECK(all + counters.copies_dropped == arrived);
    mpt_rehearse_end(r);
    return 0;
}
