/* See rooms.h. The twin is mpt/data/rooms.py, which has the rules. */

#include "rooms.h"

#include <math.h>

#define PERIOD 0.1 /* seconds, of which RECENT_PERIODS make a second */

void room_init(struct room *r, const struct mpt_tuning *tuning) {
    *r = (struct room){
        .tuning = tuning,
        .limits = {.window = tuning->start_window, .rate = tuning->start_rate, .rto = tuning->start_rto, .is_live = 1, .admits = 1},
        .cuts = true, .first = -1, .last = -1,
    };
}

/* --- one path --- */

static uint64_t octets_of(const struct room *r) { return (uint64_t)r->flight.octets + r->pending; }

static uint32_t packets_of(const struct room *r) { return r->flight.packets + r->pending_packets; }

double room_arrival(const struct room *r) {
    return r->limits.delay + fmax(0, (double)octets_of(r) / fmax(r->limits.rate, 1) - r->limits.slack);
}

bool room_has_window(const struct room *r, uint32_t size) {
    return (octets_of(r) + size <= r->limits.window || packets_of(r) == 0) && packets_of(r) < FLIGHT_MOST;
}

static bool has_excess(const struct room *r, uint32_t size) {
    double most = (double)r->limits.window * (1 + r->tuning->excess) + r->tuning->excess_octets;
    return ((double)(octets_of(r) + size) <= most || packets_of(r) == 0) && packets_of(r) < FLIGHT_MOST;
}

double room_opens_at(const struct room *r) { return fmax(r->turn - r->limits.burst, r->blocked_until); }

void room_went(struct room *r, uint32_t size, double now) {
    if (r->limits.pace > 0)
        r->turn = fmax(r->turn, now) + size / r->limits.pace;
}

static bool carries(const struct room *r, struct wanted wanted) { return wanted.length <= path_carries(r->path); }

/* --- all paths --- */

void rooms_changed(struct rooms *rooms) {
    rooms->live_count = rooms->admitted_count = 0;
    for (uint32_t i = 0; i < rooms->open_count; i++)
        if (rooms->open[i]->limits.is_live)
            rooms->live[rooms->live_count++] = rooms->open[i];
    if (rooms->live_count == 0) {
        memcpy(rooms->live, rooms->open, sizeof rooms->live);
        rooms->live_count = rooms->open_count;
    }
    for (uint32_t i = 0; i < rooms->live_count; i++)
        if (rooms->live[i]->limits.admits)
            rooms->admitted[rooms->admitted_count++] = rooms->live[i];
    if (rooms->admitted_count == 0) {
        memcpy(rooms->admitted, rooms->live, sizeof rooms->admitted);
        rooms->admitted_count = rooms->live_count;
    }
}

struct choice { struct room *const *rooms; uint32_t count; };

/* Return the paths among which those are that may carry bulk: the admitted ones, if there is another one than `besides` that
 * carries it. */
static struct choice choose(const struct rooms *rooms, struct wanted wanted, const struct room *besides) {
    for (uint32_t i = 0; i < rooms->admitted_count; i++)
        if (rooms->admitted[i] != besides && carries(rooms->admitted[i], wanted))
            return (struct choice){rooms->admitted, rooms->admitted_count};
    return (struct choice){rooms->live, rooms->live_count};
}

struct search { struct wanted wanted; double now; const struct room *besides; };
typedef bool has_room(struct room *r, const struct search *search);

/* Return the path of least arrival, of those that have room. */
static inline struct room *earliest(struct choice choice, const struct search *search, has_room *has_room) {
    struct room *best = NULL;
    double least = 0;
    for (uint32_t i = 0; i < choice.count; i++) {
        struct room *r = choice.rooms[i];
        if (r == search->besides || !carries(r, search->wanted) || !has_room(r, search))
            continue;
        double arrival = room_arrival(r);
        if (best == NULL || arrival < least) {
            best = r;
            least = arrival;
        }
    }
    return best;
}

static bool has_room_for_bulk(struct room *r, const struct search *search) {
    bool has_room = room_has_window(r, search->wanted.size) && room_opens_at(r) <= search->now;
    if (!has_room)
        r->limited_at = search->now;
    return has_room;
}

struct room *rooms_for_bulk(const struct rooms *rooms, struct wanted wanted, double now) {
    return earliest(choose(rooms, wanted, NULL), &(struct search){.wanted = wanted, .now = now}, has_room_for_bulk);
}

static bool has_room_for_repair(struct room *r, const struct search *search) {
    return has_excess(r, search->wanted.size) && room_opens_at(r) <= search->now;
}

struct room *rooms_for_repair(const struct rooms *rooms, struct wanted wanted, double now, const struct room *besides) {
    const struct search search = {.wanted = wanted, .now = now, .besides = besides};
    return earliest(choose(rooms, wanted, besides), &search, has_room_for_repair);
}

static bool has_room_at_once(struct room *r, const struct search *search) {
    return r->blocked_until <= search->now && has_excess(r, search->wanted.size);
}

struct room *rooms_at_once(const struct rooms *rooms, struct wanted wanted, double now) {
    const struct search search = {.wanted = wanted, .now = now};
    return earliest((struct choice){rooms->live, rooms->live_count}, &search, has_room_at_once);
}

static bool has_room_for_copy(struct room *r, const struct search *search) {
    return r->limits.line != search->besides->limits.line && r->blocked_until <= search->now && packets_of(r) < FLIGHT_MOST;
}

struct room *rooms_for_copy(const struct rooms *rooms, struct wanted wanted, double now, const struct room *first) {
    const struct search search = {.wanted = wanted, .now = now, .besides = first};
    return earliest((struct choice){rooms->live, rooms->live_count}, &search, has_room_for_copy);
}

/* Return when the pace of a path lets go what has room in its window; -1: all wait for reports. */
static double opens_at(struct choice choice, struct wanted wanted, const struct room *besides,
                       bool (*has_octets)(const struct room *r, uint32_t size)) {
    double first = -1;
    for (uint32_t i = 0; i < choice.count; i++) {
        const struct room *r = choice.rooms[i];
        if (r != besides && carries(r, wanted) && has_octets(r, wanted.size) && (first < 0 || room_opens_at(r) < first))
            first = fmax(room_opens_at(r), 0);
    }
    return first;
}

double rooms_open_at(const struct rooms *rooms, struct wanted wanted) {
    return opens_at(choose(rooms, wanted, NULL), wanted, NULL, room_has_window);
}

double rooms_repair_opens_at(const struct rooms *rooms, struct wanted wanted, const struct room *besides) {
    return opens_at(choose(rooms, wanted, besides), wanted, besides, has_excess);
}

double rooms_rate(const struct rooms *rooms) {
    double rate = 0;
    for (uint32_t i = 0; i < rooms->live_count; i++)
        rate += rooms->live[i]->limits.rate;
    return rate;
}

double rooms_least_delay(const struct rooms *rooms) {
    double least = INFINITY;
    for (uint32_t i = 0; i < rooms->live_count; i++)
        least = fmin(least, rooms->live[i]->limits.delay);
    return least;
}

/* --- the last second --- */

static uint64_t *sum_of(struct recent *r, int64_t period) { return &r->sums[(uint64_t)period % RECENT_PERIODS]; }

static void advance(struct recent *r, double now) {
    int64_t period = (int64_t)(now / PERIOD), oldest = period - RECENT_PERIODS + 1;
    for (int64_t each = r->period + 1 > oldest ? r->period + 1 : oldest; each <= period; each++) {
        r->total -= *sum_of(r, each);
        *sum_of(r, each) = 0;
    }
    r->period = period > r->period ? period : r->period;
}

void recent_add(struct recent *r, uint64_t octets, double now) {
    advance(r, now);
    *sum_of(r, r->period) += octets;
    r->total += octets;
}

uint64_t recent_total(struct recent *r, double now) {
    advance(r, now);
    return r->total;
}
