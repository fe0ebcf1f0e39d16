/* A frame of the TUN: any header, any packet. What comes out are packets that fit. */
#include "fuzz.h"

static uint8_t out[1 << 20];
static uint32_t sizes[4096];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *frame = malloc(size + 1);
    if (frame == NULL || size > 70000)
        abort();
    memcpy(frame, data, size);
    int count = mpt_split(frame, (uint32_t)size, out, sizeof out, sizes, 4096);
    for (int i = 0; i < count; i++)
        if (sizes[i] > size)
            abort();
    free(frame);
    return 0;
}
