/* One number space of an adaptive connection: what is held of it until when, and what has come. Pure but for its memory. */
#ifndef MPT_PLAYER_H
#define MPT_PLAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "window.h"

enum { BEHIND = 4096, FIRST_ROOM = 16 }; /* positions of which it is known whether they came; latest ones */

struct latest { double time; int64_t position; }; /* of a packet that is held, or was */
struct player { /* one number space */
    int64_t key;
    int64_t expected;          /* the position that comes next */
    int64_t begin;             /* where it began; while there are no bits, all from there on has come, and nothing before */
    uint64_t *came;            /* a ring of bits, for the BEHIND positions before `expected`; NULL: none was skipped */
    struct held held;
    struct latest *latest;     /* a heap */
    uint32_t latest_count, latest_room;
    struct player *chain;      /* of its hash */
    struct player *older, *younger; /* by their last packets */
    struct player *before, *after;  /* of those that hold packets, in the order in which they began to */
    bool is_waiting;
};
bool latest_is_earlier(const struct latest *a, const struct latest *b);
void player_begin(struct player *player, int64_t position); /* take it next; those before it may be on their way */
void player_wait(struct player *player, struct latest latest); /* of a packet that is held; there is room for it */
bool player_make_room(struct player *player, const struct window *window); /* for one more; false: no memory */
const struct latest *player_first_latest(struct player *player, const struct window *window); /* NULL: nothing is held */
bool player_has_come(const struct player *player, int64_t position); /* one of the BEHIND before `expected` */
bool player_came_late(struct player *player, int64_t position); /* the same one has come now; false: no memory */
void player_pass(struct player *player, int64_t position); /* it is delivered, those before it are given up */

#endif
