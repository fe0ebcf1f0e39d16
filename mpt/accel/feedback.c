/* See feedback.h. The twin is mpt/wire/feedback.py. */

#include "feedback.h"

#include "packet.h"

enum { PLAYOUT_IS_VALID = 1, FOR_ACKS = 2, SUSPECT = 0x80 }; /* flags; the last beside the path */
enum { NONE = 0xFFFF, LONGEST_HELD = 0xFFFE };

static uint64_t get64(const uint8_t *p) { return (uint64_t)get32(p) << 32 | get32(p + 4); }

static int32_t unless_none(uint32_t value) { return value == NONE ? NOTHING : (int32_t)value; }

/* Read the record that begins at `octets`. Return its length; 0: it is cut, or has too many ranges. */
static uint32_t decode_record(const uint8_t *octets, uint32_t left, struct mpt_record *record) {
    if (left < RECORD_LENGTH)
        return 0;
    uint32_t ranges = octets[5], length = RECORD_LENGTH + ranges * RANGE_LENGTH;
    if (length > left || ranges > MPT_RANGES)
        return 0;
    record->session = get32(octets);
    record->path = octets[4] & ~(uint32_t)SUSPECT;
    record->suspect = (octets[4] & SUSPECT) != 0;
    record->settled = get32(octets + 6);
    record->packets = get32(octets + 10);
    record->octets = get64(octets + 14);
    record->least = get16(octets + 22);
    record->median = get16(octets + 24);
    if (record->least == NONE && record->median == NONE)
        record->least = record->median = NOTHING;
    record->echo = get16(octets + 26);
    record->held = unless_none(get16(octets + 28));
    record->range_count = ranges;
    for (uint32_t i = 0; i < ranges; i++) {
        const uint8_t *at = octets + RECORD_LENGTH + i * RANGE_LENGTH;
        record->ranges[i] = (struct mpt_range){get32(at), get16(at + 4)};
    }
    return length;
}

bool feedback_decode(const uint8_t *octets, uint32_t length, struct mpt_feedback *feedback) {
    if (length < REPORT_HEAD || length > REPORT_LARGEST || octets[0] != FEEDBACK)
        return false;
    feedback->record_count = octets[2];
    feedback->hold = get16(octets + 3);
    feedback->playout = octets[1] & PLAYOUT_IS_VALID ? get16(octets + 5) : NOTHING;
    feedback->acks = feedback->playout >= 0 && octets[1] & FOR_ACKS;
    feedback->clock = get32(octets + 7);
    uint32_t at = REPORT_HEAD;
    for (uint32_t i = 0; i < feedback->record_count; i++) {
        if (i == MPT_RECORDS)
            return false; /* so many are longer than the message */
        uint32_t step = decode_record(octets + at, length - at, &feedback->records[i]);
        if (step == 0)
            return false;
        at += step;
    }
    return true;
}

static uint32_t encode_record(const struct mpt_record *record, uint8_t *octets) {
    bool nothing = record->least < 0 || record->median < 0;
    uint32_t least = nothing ? NONE : (uint32_t)record->least, median = nothing ? NONE : (uint32_t)record->median;
    if (!nothing && least == NONE && median == NONE)
        least = NONE - 1; /* both are all ones: nothing came */
    put32(octets, record->session);
    octets[4] = (uint8_t)(record->path | (record->suspect ? SUSPECT : 0));
    octets[5] = (uint8_t)record->range_count;
    put32(octets + 6, record->settled);
    put32(octets + 10, record->packets);
    put32(octets + 14, (uint32_t)(record->octets >> 32));
    put32(octets + 18, (uint32_t)record->octets);
    put16(octets + 22, least);
    put16(octets + 24, median);
    put16(octets + 26, record->echo);
    put16(octets + 28, record->held < 0 || record->held > LONGEST_HELD ? NONE : (uint32_t)record->held);
    for (uint32_t i = 0; i < record->range_count; i++) {
        uint8_t *at = octets + RECORD_LENGTH + i * RANGE_LENGTH;
        put32(at, record->ranges[i].first);
        put16(at + 4, record->ranges[i].count);
    }
    return RECORD_LENGTH + record->range_count * RANGE_LENGTH;
}

uint32_t feedback_encode(const struct mpt_feedback *feedback, uint8_t *octets) {
    octets[0] = FEEDBACK;
    octets[1] = feedback->playout < 0 ? 0 : feedback->acks ? PLAYOUT_IS_VALID | FOR_ACKS : PLAYOUT_IS_VALID;
    octets[2] = (uint8_t)feedback->record_count;
    put16(octets + 3, feedback->hold < NONE ? feedback->hold : NONE);
    put16(octets + 5, feedback->playout >= 0 ? (uint32_t)feedback->playout : 0);
    put32(octets + 7, feedback->clock);
    uint32_t length = REPORT_HEAD;
    for (uint32_t i = 0; i < feedback->record_count; i++)
        length += encode_record(&feedback->records[i], octets + length);
    return length;
}

int mpt_feedback_decode(const uint8_t *octets, uint32_t length, struct mpt_feedback *feedback) {
    return feedback_decode(octets, length, feedback) ? 0 : -1;
}

uint32_t mpt_feedback_encode(const struct mpt_feedback *feedback, uint8_t *octets) {
    return feedback_encode(feedback, octets);
}
