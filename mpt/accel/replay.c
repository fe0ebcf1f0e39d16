/* See replay.h. The twin is mpt/data/replay.py. */

#include "replay.h"

#include "_native.h"

static uint64_t bit_of(uint64_t number) { return (uint64_t)1 << number % 64; }

bool replay_is_new(const struct replay *r, uint64_t number) {
    if (number >= r->next)
        return true;
    return r->next - number <= REPLAY_WINDOW && !(r->seen[number / 64 % REPLAY_WORDS] & bit_of(number));
}

bool replay_is_recent(const struct replay *r, uint64_t number) { return number < r->next && r->next - number <= REPLAY_RECENT; }

void replay_accept(struct replay *r, uint64_t number) {
    if (number >= r->next) {
        /* The words of new numbers begin empty. The word of the highest number so far, if there is one, is in use. */
        uint64_t word = (r->next + 63) / 64, last = number / 64;
        if (last - word >= REPLAY_WORDS && last >= word)
            word = last - REPLAY_WORDS + 1;
        for (; word <= last; word++)
            r->seen[word % REPLAY_WORDS] = 0;
        r->next = number + 1;
    }
    r->seen[number / 64 % REPLAY_WORDS] |= bit_of(number);
}

void mpt_replay(const uint64_t *numbers, uint32_t count, uint8_t *taken) {
    struct replay replay = {0};
    for (uint32_t i = 0; i < count; i++) {
        taken[i] = replay_is_new(&replay, numbers[i]);
        if (taken[i])
            replay_accept(&replay, numbers[i]);
    }
}
