/* Without libFuzzer: runs every given file, then random mutations of them for some seconds; seeded, by the number in the
 * environment's FUZZ_SEED if it is there. An input that breaks
 * something is written to TARGET.crash, which can be given as FILE with 0 seconds.
 * Usage: TARGET SECONDS FILE... */
#include "fuzz.h"

#include <signal.h>
#include <time.h>

enum { ROOM = 70000, FILES = 256 };

void __sanitizer_set_death_callback(void (*callback)(void)); /* <sanitizer/common_interface_defs.h> */

static uint8_t files[FILES][ROOM], octets[ROOM];
static size_t sizes[FILES], size;
static uint64_t state = 20260101;
static char crash[4096];

static uint32_t next(uint32_t below) { /* xorshift* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1Du) >> 33) % below;
}

static void save(void) {
    FILE *file = fopen(crash, "wb");
    if (file != NULL) {
        fwrite(octets, 1, size, file);
        fclose(file);
        fprintf(stderr, "the input is in %s\n", crash);
    }
}

static void aborted(int number) {
    save();
    signal(number, SIG_DFL);
    raise(number);
}

/* Put `length` octets of a file at `at`, over the octets there or before them. */
static void put(const uint8_t *file, size_t length, size_t at, int before) {
    if (length > ROOM - at)
        length = ROOM - at;
    if (before) {
        size_t rest = size - at < ROOM - at - length ? size - at : ROOM - at - length;
        memmove(octets + at + length, octets + at, rest);
        size = at + length + rest;
    } else if (at + length > size)
        size = at + length;
    memcpy(octets + at, file, length);
}

static void mutate(int known) {
    uint32_t at = next((uint32_t)size), other = next((uint32_t)(known ? known : 1)), from;
    switch (next(5)) {
    case 0: octets[at] = (uint8_t)next(256); break;
    case 1: octets[at] ^= (uint8_t)(1u << next(8)); break;
    case 2: size = next((uint32_t)size + 1); break;
    case 3: put(files[other], sizes[other], at, 0); break;
    case 4:
        from = next((uint32_t)sizes[other] + 1);
        put(files[other] + from, next((uint32_t)sizes[other] - from + 1), at, 1);
        break;
    }
}

int main(int count, char **arguments) {
    int known = 0;
    const char *seed = getenv("FUZZ_SEED");
    if (count < 2)
        return 2;
    if (seed != NULL)
        state += strtoull(seed, NULL, 10);
    snprintf(crash, sizeof crash, "%s.crash", arguments[0]);
    signal(SIGABRT, aborted);
    __sanitizer_set_death_callback(save);
    for (int i = 2; i < count && known < FILES; i++) {
        FILE *file = fopen(arguments[i], "rb");
        if (file == NULL)
            return 2;
        sizes[known] = size = fread(files[known], 1, ROOM, file);
        fclose(file);
        memcpy(octets, files[known], size);
        LLVMFuzzerTestOneInput(files[known++], size);
    }
    time_t end = time(NULL) + atoi(arguments[1]);
    uint64_t runs = 0;
    for (; time(NULL) < end; runs++) {
        size = ROOM;
        if (known > 0) {
            int from = (int)next((uint32_t)known);
            size = sizes[from];
            memcpy(octets, files[from], size);
        }
        for (uint32_t times = 1 + next(12); times > 0 && size > 0; times--)
            mutate(known);
        LLVMFuzzerTestOneInput(octets, size);
    }
    printf("%llu runs\n", (unsigned long long)runs);
    return 0;
}
