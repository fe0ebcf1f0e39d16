/* See playout.h. The twin is mpt/data/playout.py, which has the rules, function by function. */

#include "playout.h"

#include <math.h>
#include <stdlib.h>

#include "classes.h"
#include "player.h"
#include "replay.h"

enum { UNORDERED_KEY = 4096, STREAMS = 4096 };
#define NO_KEY_GIVEN (-1)
#define LEVELLED_KEY (-2)
#define BASE ((int64_t)1 << 34) /* of the positions of UNORDERED_KEY: they stay above 0 */

struct playout {
    const struct mpt_tuning *tuning;
    double longest, hold;
    int32_t ticks;
    bool acks;
    struct window window;
    struct sink sink;
    uint64_t secret;
    struct player *chains[STREAMS];
    uint32_t count;
    struct player *oldest, *youngest, *first_waiting, *last_waiting;
    struct replay unordered;
    int64_t unordered_newest; /* its position; -1: none */
    uint64_t copies, late, skipped, holds[MPT_OCTAVES];
};

/* --- life --- */

struct playout *playout_new(const struct mpt_tuning *tuning, uint32_t window, double longest, uint64_t secret, struct sink sink) {
    struct playout *p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    p->tuning = tuning;
    p->longest = fmin(longest, tuning->longest_hold);
    p->sink = sink;
    p->secret = secret | 1;
    p->unordered_newest = -1;
    playout_set(p, tuning->start_hold, -1, false);
    if (!window_init(&p->window, window, secret, sink)) {
        free(p);
        return NULL;
    }
    return p;
}

static void player_free(struct playout *p, struct player *s) {
    held_destroy(&p->window, &s->held);
    free(s->came);
    free(s->latest);
    free(s);
}

void playout_free(struct playout *p) {
    if (p == NULL)
        return;
    for (struct player *s = p->oldest, *next; s != NULL; s = next) {
        next = s->younger;
        player_free(p, s);
    }
    window_destroy(&p->window);
    free(p);
}

void playout_set(struct playout *p, double hold, int32_t ticks, bool acks) {
    p->hold = fmin(hold, p->longest);
    p->ticks = ticks;
    p->acks = acks;
}

/* --- the streams by their keys --- */

static struct player **chain_of(struct playout *p, int64_t key) { /* a peer chooses its keys, but does not know the secret */
    return &p->chains[((uint64_t)key * p->secret >> 32) % STREAMS];
}

static struct player *player_of(struct playout *p, int64_t key) {
    struct player *s = *chain_of(p, key);
    while (s != NULL && s->key != key)
        s = s->chain;
    return s;
}

static void leave_ages(struct playout *p, struct player *s) {
    *(s->older != NULL ? &s->older->younger : &p->oldest) = s->younger;
    *(s->younger != NULL ? &s->younger->older : &p->youngest) = s->older;
}

static void become_youngest(struct playout *p, struct player *s) {
    s->older = p->youngest;
    s->younger = NULL;
    *(p->youngest != NULL ? &p->youngest->younger : &p->oldest) = s;
    p->youngest = s;
}

static struct player *player_new(struct playout *p, int64_t key, int64_t first) {
    struct player *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->key = key;
    held_init(&s->held, (uint64_t)key * 0x9E3779B97F4A7C15u, false);
    player_begin(s, first);
    s->chain = *chain_of(p, key);
    *chain_of(p, key) = s;
    become_youngest(p, s);
    p->count++;
    return s;
}

static void forget_player(struct playout *p, struct player *s) { /* it holds nothing */
    struct player **link = chain_of(p, s->key);
    while (*link != s)
        link = &(*link)->chain;
    *link = s->chain;
    leave_ages(p, s);
    p->count--;
    player_free(p, s);
}

/* --- those that hold packets --- */

static void wait(struct playout *p, struct player *s) {
    if (s->is_waiting)
        return;
    s->is_waiting = true;
    s->before = p->last_waiting;
    s->after = NULL;
    *(p->last_waiting != NULL ? &p->last_waiting->after : &p->first_waiting) = s;
    p->last_waiting = s;
}

/* Note that a stream holds nothing any more. */
static void wait_no_more(struct playout *p, struct player *s) {
    s->latest_count = 0;
    if (s->latest_room > FIRST_ROOM) {
        free(s->latest);
        s->latest = NULL;
        s->latest_room = 0;
    }
    if (!s->is_waiting)
        return;
    s->is_waiting = false;
    *(s->before != NULL ? &s->before->after : &p->first_waiting) = s->after;
    *(s->after != NULL ? &s->after->before : &p->last_waiting) = s->before;
}

/* --- delivering --- */

static void deliver_held(struct playout *p, struct player *s, const struct slot *slot, double now) {
    double held = (now - slot->arrival_time) * 1000;
    uint32_t octave = 0;
    for (uint64_t rest = held > 0 ? (uint64_t)held : 0; rest > 0 && octave < MPT_OCTAVES - 1; rest >>= 1)
        octave++;
    p->holds[octave]++;
    int64_t position = slot->position;
    p->skipped += s->key == LEVELLED_KEY ? 0 : (uint64_t)(position - s->expected);
    player_pass(s, position);
    window_deliver(&p->window, &s->held, position);
}

static void deliver_up_to(struct playout *p, struct player *s, int64_t last, double now) {
    while (s->held.count > 0) {
        const struct slot *lowest = window_lowest(&p->window, &s->held);
        if (lowest->position > last)
            return;
        deliver_held(p, s, lowest, now);
    }
}

static void flush(struct playout *p, struct player *s, double now) {
    deliver_up_to(p, s, INT64_MAX, now);
    wait_no_more(p, s);
}

/* Deliver what goes: up to the last packet whose latest is over, then all that is in order and released. */
static void advance(struct playout *p, struct player *s, double now) {
    const struct latest *first;
    const struct slot *head;
    while ((first = player_first_latest(s, &p->window)) != NULL && first->time <= now)
        deliver_up_to(p, s, first->position, now);
    while ((head = window_find(&p->window, &s->held, s->expected)) != NULL && head->time <= now)
        deliver_held(p, s, head, now);
    if (s->held.count == 0)
        wait_no_more(p, s);
}

/* Deliver the packet whose latest is first, and what is held before it. */
static void make_room(struct playout *p, double now) {
    struct player *found = NULL;
    const struct latest *earliest = NULL;
    for (struct player *s = p->first_waiting; s != NULL; s = s->after) {
        const struct latest *first = player_first_latest(s, &p->window);
        if (first != NULL && (earliest == NULL || latest_is_earlier(first, earliest))) {
            earliest = first;
            found = s;
        }
    }
    if (found == NULL)
        return;
    deliver_up_to(p, found, earliest->position, now);
    advance(p, found, now);
}

/* --- arrivals --- */

static void deliver(struct playout *p, struct packet packet) { p->sink.deliver(p->sink.context, packet); }

/* Whether a number is so far from the one that comes next that its stream begins anew. */
static bool is_far(const struct playout *p, int64_t distance) {
    return distance <= -(int64_t)p->tuning->far_ahead || distance >= (int64_t)p->tuning->far_ahead;
}

static void drop_copy(struct playout *p, struct packet packet) {
    p->copies++;
    p->sink.release(p->sink.context, packet);
}

/* Take a packet whose turn is over, `distance` positions ago: late, if its gap was given up, or a copy. */
static void arrive_behind(struct playout *p, struct player *s, int64_t distance, struct packet packet) {
    int64_t position = s->expected - distance;
    if (distance > BEHIND || player_has_come(s, position) || !player_came_late(s, position)) {
        drop_copy(p, packet);
        return;
    }
    p->late++;
    deliver(p, packet);
}

static double release_at(const struct playout *p, uint16_t stamp, double now) {
    if (p->ticks < 0)
        return now;
    uint64_t clock = (uint64_t)(now * p->tuning->stamps_a_second);
    int16_t wait_for = (int16_t)(uint16_t)((uint64_t)p->ticks - (clock - stamp));
    return now + fmin(fmax(wait_for / p->tuning->stamps_a_second, 0), p->tuning->longest_playout);
}

/* Return when an ordered packet may go at the earliest. */
static double release_of(const struct playout *p, const struct packet *packet, uint16_t stamp, double now) {
    return p->ticks >= 0 && has_playout(packet->data, packet->length) ? release_at(p, stamp, now) : now;
}

/* Hold a packet until `latest` at most, and deliver what goes now. false: no memory. */
static bool hold(struct playout *p, struct player *s, int64_t position, struct packet packet, double release, double latest,
                 double now) {
    struct slot *slot = player_make_room(s, &p->window) ? window_hold(&p->window, &s->held, position, packet) : NULL;
    if (slot == NULL)
        return false;
    slot->time = release;
    slot->arrival_time = now;
    player_wait(s, (struct latest){latest, position});
    wait(p, s);
    advance(p, s, now);
    if (p->window.count > p->window.size)
        make_room(p, now);
    return true;
}

/* Return the stream of a key, the youngest from now on. NULL: no memory. */
static struct player *stream_with(struct playout *p, int64_t key, int64_t first, double now) {
    struct player *s = player_of(p, key);
    if (s == NULL) {
        if (p->count >= STREAMS) {
            flush(p, p->oldest, now);
            forget_player(p, p->oldest);
        }
        return player_new(p, key, first);
    }
    if (s != p->youngest) {
        leave_ages(p, s);
        become_youngest(p, s);
    }
    return s;
}

/* Take an acknowledgement that goes at its release, and behind those that wait before it. */
static void level(struct playout *p, int64_t position, struct packet packet, uint16_t stamp, double now) {
    struct player *s = stream_with(p, LEVELLED_KEY, position, now);
    if (s == NULL) {
        deliver(p, packet);
        return;
    }
    if (is_far(p, position - s->expected)) {
        flush(p, s, now);
        player_begin(s, position);
    }
    double release = release_at(p, stamp, now);
    if (release <= now || position < s->expected || !hold(p, s, position, packet, release, release, now))
        deliver(p, packet);
}

static void arrive_unordered(struct playout *p, struct mark mark, struct packet packet, double now) {
    uint32_t sequence = mark.sequence;
    int64_t newest = p->unordered_newest, ahead = newest < 0 ? 0 : (int32_t)(sequence - (uint32_t)newest);
    int64_t position = newest < 0 ? BASE + sequence : newest + ahead;
    if (is_far(p, ahead)) {
        p->unordered = (struct replay){0};
        newest = -1;
        position = BASE + sequence;
    }
    if (!replay_is_new(&p->unordered, (uint64_t)position)) {
        drop_copy(p, packet);
        return;
    }
    replay_accept(&p->unordered, (uint64_t)position);
    p->unordered_newest = position > newest ? position : newest;
    if (p->acks && is_tcp(packet.data, packet.length))
        level(p, position, packet, mark.stamp, now);
    else
        deliver(p, packet);
}

void playout_arrive(struct playout *p, struct mark mark, struct packet packet, double now) {
    if (mark.has_key && mark.key == UNORDERED_KEY) {
        arrive_unordered(p, mark, packet, now);
        return;
    }
    struct player *s = stream_with(p, mark.has_key ? (int64_t)mark.key : NO_KEY_GIVEN, mark.sequence, now);
    if (s == NULL) {
        deliver(p, packet);
        return;
    }
    int64_t distance = (int32_t)(mark.sequence - (uint32_t)s->expected);
    if (is_far(p, distance)) {
        flush(p, s, now);
        player_begin(s, mark.sequence);
        distance = 0;
    }
    if (distance < 0) {
        arrive_behind(p, s, -distance, packet);
        return;
    }
    int64_t position = s->expected + distance;
    if (s->held.count > 0 && window_find(&p->window, &s->held, position) != NULL) {
        drop_copy(p, packet);
        return;
    }
    double release = release_of(p, &packet, mark.stamp, now);
    if (distance == 0 && release <= now) {
        player_pass(s, position);
        deliver(p, packet);
        if (s->held.count > 0)
            advance(p, s, now);
        return;
    }
    if (hold(p, s, position, packet, release, fmax(release, now + p->hold), now))
        return;
    flush(p, s, now);
    if (position >= s->expected)
        player_pass(s, position);
    deliver(p, packet);
}

/* --- time --- */

void playout_deadline(struct playout *p, double now) {
    for (struct player *s = p->first_waiting, *next; s != NULL; s = next) {
        next = s->after;
        advance(p, s, now);
    }
}

double playout_next_deadline(struct playout *p) {
    double earliest = -1;
    for (struct player *s = p->first_waiting; s != NULL; s = s->after) {
        const struct latest *first = player_first_latest(s, &p->window);
        const struct slot *head = window_find(&p->window, &s->held, s->expected);
        double due = head != NULL && head->time < first->time ? head->time : first->time;
        if (earliest < 0 || due < earliest)
            earliest = due;
    }
    return earliest;
}

void playout_flush(struct playout *p, double now) {
    while (p->first_waiting != NULL)
        flush(p, p->first_waiting, now);
}

void playout_copy_out(struct playout *p) {
    for (struct player *s = p->first_waiting; s != NULL; s = s->after)
        window_copy_out(&p->window, &s->held);
}

uint32_t playout_held(const struct playout *p) { return p->window.count; }

void playout_count(const struct playout *p, struct mpt_adaptive_counters *counters) {
    counters->copies_dropped = p->copies;
    counters->late = p->late;
    counters->skipped = p->skipped;
    counters->held = p->window.count;
    memcpy(counters->holds, p->holds, sizeof counters->holds);
}
