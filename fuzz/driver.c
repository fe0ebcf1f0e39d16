/* Where there is no libFuzzer: every file given is run, then random mutations of them for some seconds; seeded.
 * Usage: TARGET SECONDS FILE... */
#include "fuzz.h"

#include <stdio.h>
#include <time.h>

enum { ROOM = 4096, FILES = 256 };

static uint8_t files[FILES][ROOM];
static size_t sizes[FILES];
static uint64_t state = 20260101;

static uint32_t next(uint32_t below) { /* xorshift* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1Du) >> 33) % below;
}

int main(int count, char **arguments) {
    int known = 0;
    if (count < 2)
        return 2;
    for (int i = 2; i < count && known < FILES; i++) {
        FILE *file = fopen(arguments[i], "rb");
        if (file == NULL)
            return 2;
        sizes[known] = fread(files[known], 1, ROOM, file);
        fclose(file);
        LLVMFuzzerTestOneInput(files[known], sizes[known]);
        known++;
    }
    time_t end = time(NULL) + atoi(arguments[1]);
    uint64_t runs = 0;
    for (; time(NULL) < end; runs++) {
        uint8_t octets[ROOM];
        size_t size = ROOM;
        if (known > 0) {
            int from = (int)next((uint32_t)known);
            size = sizes[from];
            memcpy(octets, files[from], size);
        }
        for (uint32_t i = 0, times = 1 + next(12); i < times && size > 0; i++)
            switch (next(4)) {
            case 0: octets[next((uint32_t)size)] = (uint8_t)next(256); break;
            case 1: octets[next((uint32_t)size)] ^= (uint8_t)(1u << next(8)); break;
            case 2: size = next((uint32_t)size + 1); break;
            case 3: { /* a piece of another one */
                uint32_t other = next((uint32_t)(known ? known : 1)), at = next((uint32_t)size);
                size_t length = sizes[other] < ROOM - at ? sizes[other] : ROOM - at;
                memcpy(octets + at, files[other], length);
                if (at + length > size)
                    size = at + length;
                break;
            }
            }
        LLVMFuzzerTestOneInput(octets, size);
    }
    printf("%llu runs\n", (unsigned long long)runs);
    return 0;
}
