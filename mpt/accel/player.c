/* See player.h. The twin is _Stream of mpt/data/playout.py. */

#include "player.h"

#include <stdlib.h>

enum { WORDS = BEHIND / 64 };

void player_begin(struct player *s, int64_t position) {
    s->expected = s->begin = position;
    free(s->came);
    s->came = NULL;
}

/* --- until when packets are held --- */

bool latest_is_earlier(const struct latest *a, const struct latest *b) {
    return a->time < b->time || (a->time == b->time && a->position < b->position);
}

void player_wait(struct player *s, struct latest latest) { /* there is room */
    uint32_t i = s->latest_count++;
    for (; i > 0 && latest_is_earlier(&latest, &s->latest[(i - 1) / 2]); i = (i - 1) / 2)
        s->latest[i] = s->latest[(i - 1) / 2];
    s->latest[i] = latest;
}

static void latest_pop(struct player *s) {
    struct latest moving = s->latest[--s->latest_count];
    uint32_t i = 0;
    for (uint32_t child; (child = 2 * i + 1) < s->latest_count; i = child) {
        if (child + 1 < s->latest_count && latest_is_earlier(&s->latest[child + 1], &s->latest[child]))
            child++;
        if (!latest_is_earlier(&s->latest[child], &moving))
            break;
        s->latest[i] = s->latest[child];
    }
    s->latest[i] = moving;
}

const struct latest *player_first_latest(struct player *s, const struct window *w) {
    while (s->latest_count > 0 && window_find(w, &s->held, s->latest[0].position) == NULL)
        latest_pop(s);
    return s->latest_count > 0 ? s->latest : NULL;
}

/* Most of a full heap may be of packets that have gone. */
bool player_make_room(struct player *s, const struct window *w) {
    if (s->latest_count < s->latest_room)
        return true;
    struct latest *old = s->latest;
    uint32_t count = s->latest_count, room = s->held.count < s->latest_room / 2 ? s->latest_room : 2 * s->latest_room;
    room = room < FIRST_ROOM ? FIRST_ROOM : room;
    struct latest *more = malloc(room * sizeof *more);
    if (more == NULL)
        return false;
    s->latest = more;
    s->latest_room = room;
    s->latest_count = 0;
    for (uint32_t i = 0; i < count; i++)
        if (window_find(w, &s->held, old[i].position) != NULL)
            player_wait(s, old[i]);
    free(old);
    return true;
}

/* --- what has come --- */

static void set_came(struct player *s, int64_t position, bool came) {
    uint64_t bit = (uint64_t)1 << ((uint64_t)position % 64), *word = &s->came[(uint64_t)position / 64 % WORDS];
    *word = came ? *word | bit : *word & ~bit;
}

bool player_has_come(const struct player *s, int64_t position) {
    if (s->came == NULL)
        return position >= s->begin;
    return s->came[(uint64_t)position / 64 % WORDS] >> ((uint64_t)position % 64) & 1;
}

/* Keep a bit for each position from now on. false: no memory. */
static bool keep_bits(struct player *s) {
    if (s->came != NULL)
        return true;
    uint64_t *came = calloc(WORDS, sizeof *came);
    if (came == NULL)
        return false;
    s->came = came;
    for (int64_t position = s->begin > s->expected - BEHIND ? s->begin : s->expected - BEHIND; position < s->expected; position++)
        set_came(s, position, true);
    return true;
}

void player_pass(struct player *s, int64_t position) {
    if (position > s->expected)
        (void)keep_bits(s);
    if (s->came != NULL) {
        int64_t from = s->expected > position - BEHIND ? s->expected : position - BEHIND;
        for (; from < position; from++)
            set_came(s, from, false);
        set_came(s, position, true);
    }
    s->expected = position + 1;
}

bool player_came_late(struct player *s, int64_t position) {
    if (!keep_bits(s))
        return false;
    set_came(s, position, true);
    return true;
}
