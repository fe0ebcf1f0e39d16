/* Packets for the TUN: joined and cut again they must be the same. Input: for each packet its length in two octets. */
#include "fuzz.h"

static uint8_t out[1 << 20], again[1 << 20];
static uint32_t sizes[4096], cut[4096];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint32_t lengths[256], count = 0, total = 0;
    uint8_t *packets = malloc(size + 1);
    if (packets == NULL)
        abort();
    while (size >= 2 && count < 256) {
        uint32_t length = get16(data);
        data += 2;
        size -= 2;
        if (length > size)
            length = (uint32_t)size;
        if (length == 0)
            continue;
        memcpy(packets + total, data, length);
        lengths[count++] = length;
        total += length;
        data += length;
        size -= length;
    }
    int frames = mpt_join(packets, lengths, count, MPT_JOIN_TCP | MPT_JOIN_UDP, out, sizeof out, sizes, 4096);
    if (frames < 0)
        abort();
    uint32_t at = 0, got = 0;
    uint8_t *frame = out;
    for (int i = 0; i < frames; frame += sizes[i++]) {
        int made = mpt_split(frame, sizes[i], again + got, (uint32_t)sizeof again - got, cut, 4096);
        if (made < 0)
            abort();
        for (int k = 0; k < made; k++, at++) {
            if (at >= count || cut[k] != lengths[at])
                abort();
            got += cut[k];
        }
    }
    if (at != count || got != total)
        abort(); /* octets may differ where a checksum is 0xFFFF and could be 0, so that is left to the tests */
    free(packets);
    return 0;
}
