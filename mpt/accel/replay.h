/* The replay window of one session, path id and direction (session 3; RFC 6479 for the ring of words). Pure. */
#ifndef MPT_REPLAY_H
#define MPT_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

enum { REPLAY_WINDOW = 8192, REPLAY_RECENT = 64, REPLAY_WORDS = REPLAY_WINDOW / 64 + 1 }; /* numbers; a word more than they fill at the least */

struct replay { /* zeros at first */
    uint64_t next; /* one more than the highest number that was accepted */
    uint64_t seen[REPLAY_WORDS]; /* a ring of bits */
};
bool replay_is_new(const struct replay *replay, uint64_t number); /* it was not accepted, and is not behind the window */
bool replay_is_recent(const struct replay *replay, uint64_t number); /* it is one of the newest, accepted or not */
void replay_accept(struct replay *replay, uint64_t number); /* a new number, below 2^48 */

#endif
