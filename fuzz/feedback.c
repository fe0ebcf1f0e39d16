/* Reports of what has come: of any octets either none, or one whose encoding is read as the same.
 *
 * Input: the message. */
#include "fuzz.h"

#include "../mpt/accel/feedback.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct mpt_feedback first, second;
    static uint8_t exact[1 << 17], encoded[REPORT_LARGEST];
    if (size > sizeof exact)
        return 0;
    uint8_t *octets = exact + sizeof exact - size; /* reading behind the end is seen */
    memcpy(octets, data, size);
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    if (!feedback_decode(octets, (uint32_t)size, &first))
        return 0;
    CHECK(first.record_count <= MPT_RECORDS && size <= REPORT_LARGEST);
    uint32_t length = feedback_encode(&first, encoded);
    CHECK(length <= size && feedback_decode(encoded, length, &second));
    CHECK(second.hold == first.hold && second.playout == first.playout && second.clock == first.clock);
    CHECK(second.record_count == first.record_count);
    for (uint32_t i = 0; i < first.record_count; i++) {
        const struct mpt_record *one = &first.records[i], *two = &second.records[i];
        CHECK(one->range_count <= MPT_RANGES && two->range_count == one->range_count);
        CHECK(two->session == one->session && two->path == one->path && two->settled == one->settled);
        CHECK(two->packets == one->packets && two->octets == one->octets && two->echo == one->echo);
        CHECK(two->least == one->least && two->median == one->median && two->held == one->held);
        CHECK(memcmp(two->ranges, one->ranges, one->range_count * sizeof *one->ranges) == 0);
    }
    return 0;
}
