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

double room_opens_at(const struct room *r) { return fmax(r->turn - r->tuning->burst, r->blocked_until); }

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

struct room *rooms_for_bulk(const struct rooms *rooms, struct wanted wanted, double now) {
    struct room *best = NULL;
    double earliest = 0;
    for (uint32_t i = 0; i < rooms->admitted_count; i++) {
        struct room *r = rooms->admitted[i];
        if (!carries(r, wanted))
            continue;
        if (!room_has_window(r, wanted.size) || room_opens_at(r) > now) {
            r->limited_at = now;
            continue;
        }
        double arrival = room_arrival(r);
        if (best == NULL || arrival < earliest) {
            best = r;
            earliest = arrival;
        }
    }
    return best;
}

struct choice { struct room *const *rooms; uint32_t count; };

/* Return the paths among which those are that may carry what is sent again: the admitted ones, if there is another one than
 * `besides` that carries it. */
static struct choice for_repair(const struct rooms *rooms, struct wanted wanted, const struct room *besides) {
    for (uint32_t i = 0; i < rooms->admitted_count; i++)
        if (rooms->admitted[i] != besides && carries(rooms->admitted[i], wanted))
            return (struct choice){rooms->admitted, rooms->admitted_count};
    return (struct choice){rooms->live, rooms->live_count};
}

struct room *rooms_for_repair(const struct rooms *rooms, struct wanted wanted, double now, const struct room *besides) {
    const struct choice choice = for_repair(rooms, wanted, besides);
    struct room *best = NULL;
    double earliest = 0;
    for (uint32_t i = 0; i < choice.count; i++) {
        struct room *r = choice.rooms[i];
        if (r == besides || !carries(r, wanted) || !has_excess(r, wanted.size) || room_opens_at(r) > now)
            continue;
        double arrival = room_arrival(r);
        if (best == NULL || arrival < earliest) {
            best = r;
            earliest = arrival;
        }
    }
    return best;
}

double rooms_repair_opens_at(const struct rooms *rooms, struct wanted wanted, const struct room *besides) {
    const struct choice choice = for_repair(rooms, wanted, besides);
    double first = -1;
    for (uint32_t i = 0; i < choice.count; i++) {
        const struct room *r = choice.rooms[i];
        if (r != besides && carries(r, wanted) && has_excess(r, wanted.size) && (first < 0 || room_opens_at(r) < first))
            first = fmax(room_opens_at(r), 0);
    }
    return first;
}

struct room *rooms_at_once(const struct rooms *rooms, struct wanted wanted, double now, const struct room *besides,
                           bool other_line) {
    struct room *best = NULL;
    double earliest = 0;
    for (uint32_t i = 0; i < rooms->live_count; i++) {
        struct room *r = rooms->live[i];
        if (r == besides || (other_line && r->limits.line == besides->limits.line) || !carries(r, wanted))
            continue;
        if (r->blocked_until > now || !has_excess(r, wanted.size))
            continue;
        double arrival = room_arrival(r);
        if (best == NULL || arrival < earliest) {
            best = r;
            earliest = arrival;
        }
    }
    return best;
}

double rooms_open_at(const struct rooms *rooms, struct wanted wanted) {
    double first = -1;
    for (uint32_t i = 0; i < rooms->admitted_count; i++) {
        const struct room *r = rooms->admitted[i];
        if (carries(r, wanted) && room_has_window(r, wanted.size) && (first < 0 || room_opens_at(r) < first))
            first = fmax(room_opens_at(r), 0);
    }
    return first;
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
