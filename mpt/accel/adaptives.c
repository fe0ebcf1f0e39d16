/* See adaptives.h. The twin is mpt/data/adaptives.py.
 *
 * A server has a thousand connections, and few of them have anything to do at a time: what is asked in every wake-up is asked of
 * the listed ones alone. */

#include "adaptives.h"

#include <stdlib.h>

enum { LONGEST_ROUND = 3 * 16000 }; /* ticks; more is a stamp that is a little ahead */

struct watched {
    uint32_t id;
    bool sends;              /* the sender is in use */
    bool is_listed;
    const struct connection *connection; /* its row in the present table; NULL: it is not adaptive there */
    struct receipts receipts;
    struct adaptive sender;
    struct room **rooms;     /* prepared, for the paths of its next row */
    double hold;             /* what control says of our order */
    int32_t playout;
    int acks;
};

/* --- life --- */

bool adaptives_init(struct adaptives *all, const struct mpt_tuning *tuning, uint64_t secret, bool cuts,
                    struct path_states *states, struct events *events, struct mpt_counters *counters) {
    *all = (struct adaptives){
        .yard = {.trains = trains_new(counters), .counters = counters, .tuning = tuning, .secret = secret},
        .tuning = tuning, .cuts = cuts, .states = states, .events = events, .counters = counters,
    };
    return all->yard.trains != NULL;
}

static void watched_free(struct watched *w) {
    receipts_destroy(&w->receipts);
    adaptive_destroy(&w->sender);
    free(w->rooms);
    free(w);
}

void adaptives_destroy(struct adaptives *all) {
    for (uint32_t i = 0; i < all->room; i++)
        if (all->by_id[i] != NULL)
            watched_free(all->by_id[i]);
    for (uint32_t i = 0; all->states != NULL && i < all->states->room; i++)
        if (all->states->by_id[i] != NULL && all->states->by_id[i]->room != NULL) {
            flight_destroy(&all->states->by_id[i]->room->flight, &all->yard.cells);
            free(all->states->by_id[i]->room);
            all->states->by_id[i]->room = NULL;
        }
    cells_destroy(&all->yard.cells);
    trains_free(all->yard.trains);
    free(all->by_id);
    free(all->listed);
    *all = (struct adaptives){0};
}

/* --- the table --- */

static struct watched *watched_of(const struct adaptives *all, uint32_t id) { return id < all->room ? all->by_id[id] : NULL; }

static void begin(const struct adaptives *all, struct watched *w) {
    w->hold = all->tuning->start_hold;
    w->playout = NOTHING;
    receipts_init(&w->receipts, all->tuning);
}

static struct watched *watched_new(struct adaptives *all, uint32_t id) {
    struct watched *w = calloc(1, sizeof *w);
    if (w == NULL || !adaptive_init(&w->sender, &all->yard, &w->receipts)) {
        free(w);
        return NULL;
    }
    w->id = id;
    begin(all, w);
    return w;
}

static bool make_place(struct adaptives *all, uint32_t id) {
    if (id < all->room)
        return true;
    uint32_t room = (id + 1) * 2;
    struct watched **more = realloc(all->by_id, room * sizeof *more);
    if (more == NULL)
        return false;
    memset(more + all->room, 0, (room - all->room) * sizeof *more);
    all->by_id = more;
    all->room = room;
    struct watched **listed = realloc(all->listed, room * sizeof *listed);
    if (listed == NULL)
        return false;
    all->listed = listed;
    all->listed_room = room;
    return true;
}

static bool ensure_room(const struct adaptives *all, struct path_state *state) {
    if (state->room != NULL)
        return true;
    state->room = malloc(sizeof *state->room);
    if (state->room != NULL)
        room_init(state->room, all->tuning);
    return state->room != NULL;
}

static bool prepare(struct adaptives *all, const struct connection *c) {
    uint32_t id = c->row.id;
    if (!make_place(all, id) || all->listed_room < all->room)
        return false;
    if (all->by_id[id] == NULL && (all->by_id[id] = watched_new(all, id)) == NULL)
        return false;
    struct watched *w = all->by_id[id];
    free(w->rooms);
    w->rooms = calloc(c->row.path_count + 1, sizeof(struct room *));
    for (uint32_t i = 0; w->rooms != NULL && i < c->row.path_count; i++) {
        if (!ensure_room(all, c->paths[i].state))
            return false;
        w->rooms[i] = c->paths[i].state->room;
    }
    return w->rooms != NULL;
}

bool adaptives_prepare(struct adaptives *all, const struct table *table) {
    for (uint32_t i = 0; i < table->connection_count; i++)
        if (table->connections[i].row.is_adaptive && !prepare(all, &table->connections[i]))
            return false;
    return true;
}

static void list(struct adaptives *all, struct watched *w) {
    if (w->is_listed)
        return;
    w->is_listed = true;
    all->listed[all->listed_count++] = w;
}

/* Lose what is under way over the paths of the old row that the new one does not have. */
static void lose_gone(const struct connection *old, const struct connection *c, struct watched *w) {
    for (uint32_t i = 0; i < old->row.path_count; i++) {
        bool stays = false;
        for (uint32_t k = 0; c != NULL && k < c->row.path_count; k++)
            stays = stays || c->paths[k].row.id == old->paths[i].row.id;
        struct room *room = old->paths[i].state->room;
        if (stays || room == NULL)
            continue;
        flight_end_all(&room->flight, &w->sender.sink);
        room->path = NULL;
    }
}

/* Let a connection send adaptively no more. */
static void retire(struct adaptives *all, struct watched *w) {
    w->sends = false;
    for (struct cell *cell; (cell = adaptive_take(&w->sender)) != NULL;)
        all->leave(all->leave_context, w->id, cell);
    repair_clear(&w->sender.repair);
    adaptive_configure(&w->sender, NULL, NULL);
}

static void commit(struct adaptives *all, struct watched *w, const struct connection *c) {
    struct room **rooms = w->rooms;
    w->connection = c;
    w->rooms = NULL;
    for (uint32_t k = 0; k < c->row.path_count; k++) {
        rooms[k]->path = &c->paths[k];
        rooms[k]->cuts = all->cuts; /* the link may have changed */
    }
    if (!c->row.sends && w->sends)
        retire(all, w);
    w->sends = c->row.sends;
    if (w->sends) {
        adaptive_configure(&w->sender, c, rooms);
        list(all, w);
    } else
        free(rooms);
}

void adaptives_commit(struct adaptives *all, const struct table *table) {
    for (uint32_t id = 0; id < all->room; id++) {
        struct watched *w = all->by_id[id];
        const struct connection *c = w != NULL ? table_find(table, id) : NULL, *old = w != NULL ? w->connection : NULL;
        bool stays = c != NULL && c->row.is_adaptive;
        if (w == NULL)
            continue;
        if (old != NULL)
            lose_gone(old, stays ? c : NULL, w);
        if (stays)
            commit(all, w, c);
        else if (old != NULL) {
            if (w->sends)
                retire(all, w);
            receipts_destroy(&w->receipts);
            begin(all, w);
            w->connection = NULL;
        }
    }
    all->table = table;
}

struct adaptive *adaptives_sender(const struct adaptives *all, const struct connection *c) {
    struct watched *w = c->row.sends ? watched_of(all, c->row.id) : NULL;
    return w != NULL && w->sends ? &w->sender : NULL;
}

void adaptives_will_act(struct adaptives *all, const struct connection *c) {
    struct watched *w = watched_of(all, c->row.id);
    if (w != NULL)
        list(all, w);
}

void adaptives_path_changed(struct adaptives *all, const struct path *path) {
    struct watched *w = watched_of(all, all->table->connections[path->connection].row.id);
    if (w == NULL || !w->sends)
        return;
    adaptive_paths_changed(&w->sender);
    list(all, w);
}

void adaptives_moved(struct adaptives *all, const struct path *path) {
    struct watched *w = watched_of(all, all->table->connections[path->connection].row.id);
    if (w == NULL || !w->sends || path->state->room == NULL)
        return;
    flight_end_all(&path->state->room->flight, &w->sender.sink);
    list(all, w);
}

/* --- what has come --- */

void adaptives_arrived(struct adaptives *all, const struct connection *c, const struct receipt *receipt, double now) {
    struct watched *w = watched_of(all, c->row.id);
    if (w == NULL || w->connection == NULL)
        return;
    receipts_arrived(&w->receipts, receipt, now);
    if (receipt->is_data && w->sends)
        list(all, w);
}

/* Return the round trip of the newest datagram of a path that has arrived, in seconds; -1: it is not known. */
static double round_trip(const struct adaptives *all, const struct mpt_record *record, double now) {
    uint16_t ticks = (uint16_t)(stamp_of(now) - record->echo - (uint32_t)record->held);
    return record->held >= 0 && ticks < LONGEST_ROUND ? ticks / all->tuning->stamps_a_second : -1;
}

/* Take what a record says of one path, and tell control. What is not new, or about numbers that were not sent, changes nothing. */
static void settle(struct adaptives *all, struct watched *w, const struct mpt_record *record, uint32_t clock, double now) {
    const struct path *path = connection_path_of_id(w->connection, record->path);
    struct room *room = path != NULL ? path->state->room : NULL;
    uint64_t numbers = numbers_of(record->session, record->path);
    if (room == NULL || !flight_is_news(&room->flight, numbers, clock))
        return;
    struct settled settled = flight_acknowledge(&room->flight, &w->sender.sink, numbers, record->settled, record->ranges,
                                                record->range_count, all->tuning->old_session);
    room->reported_at = now;
    if (settled.is_further) {
        room->progress_at = now;
        room->asked = 0;
    }
    const struct under_way *oldest = flight_oldest(&room->flight);
    if (oldest == NULL && !settled.is_further && now < room->told_at + all->tuning->idle_news)
        return;
    room->told_at = now;
    const struct mpt_report report = {
        .clock = clock, .packets = record->packets, .octets = record->octets,
        .acked = settled.octets, .lost = settled.lost, .least = record->least, .median = record->median,
        .rtt = round_trip(all, record, now), .in_flight = room->flight.octets, .limited_at = room->limited_at,
        .oldest = oldest != NULL ? oldest->time : 0, .settled_moved = settled.is_further,
        .suspect = record->suspect,
    };
    const struct mpt_event event = {.kind = MPT_REPORT, .subject = path->row.id, .at = now};
    events_add(all->events, &event, (const uint8_t *)&report, sizeof report);
}

int adaptives_feedback(struct adaptives *all, const struct connection *c, const uint8_t *octets, uint32_t length, double now) {
    struct watched *w = watched_of(all, c->row.id);
    struct mpt_feedback feedback;
    if (!feedback_decode(octets, length, &feedback))
        return MPT_FEEDBACK_MALFORMED;
    if (w == NULL || w->connection == NULL)
        return 0;
    w->sender.now = now;
    all->set_order(all->order_context, w->connection->index, feedback.hold / all->tuning->stamps_a_second, feedback.playout,
                   feedback.acks != 0);
    for (uint32_t i = 0; i < feedback.record_count; i++)
        settle(all, w, &feedback.records[i], feedback.clock, now);
    if (w->sends)
        list(all, w);
    return 0;
}

void adaptives_session_ended(struct adaptives *all, uint32_t connection, uint32_t index, uint32_t peer_index) {
    struct watched *w = watched_of(all, connection);
    if (w == NULL || w->connection == NULL)
        return;
    receipts_end(&w->receipts, index);
    for (uint32_t i = 0; i < w->connection->row.path_count; i++) {
        const struct path *path = &w->connection->paths[i];
        if (path->state->room != NULL)
            flight_end(&path->state->room->flight, &w->sender.sink, numbers_of(peer_index, path->row.seal_id));
    }
    if (w->sends)
        list(all, w);
}

void adaptives_probe_sent(struct adaptives *all, const struct path *path, uint64_t number, uint32_t length, double now) {
    const struct connection *c = &all->table->connections[path->connection];
    struct watched *w = watched_of(all, c->row.id);
    if (w == NULL || !w->sends || c->owner->sending == NULL)
        return;
    const struct under_way entry = {.time = now, .size = datagram_size(length)};
    flight_add(&path->state->room->flight, &w->sender.sink, numbers_of(c->owner->sending->peer_index, path->row.seal_id),
               number, &entry);
    list(all, w);
}

/* --- what goes --- */

static void send_report(struct adaptives *all, struct watched *w, double now) {
    struct mpt_feedback feedback = {.hold = (uint32_t)(w->hold * all->tuning->stamps_a_second), .playout = w->playout, .acks = w->acks,
                                    .clock = (uint32_t)(uint64_t)(now * 1e6)};
    uint8_t message[REPORT_LARGEST];
    receipts_report(&w->receipts, &feedback, now);
    for (uint32_t i = 0; i < feedback.record_count; i++) {
        const struct path *path = connection_path_of_id(w->connection, feedback.records[i].path);
        feedback.records[i].suspect = path != NULL && path->state->room != NULL && path->state->room->limits.suspect;
    }
    uint32_t length = feedback_encode(&feedback, message);
    adaptive_send_report(&w->sender, message, length, now);
}

void adaptives_go(struct adaptives *all, double now) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < all->listed_count; i++) {
        struct watched *w = all->listed[i];
        if (w->sends && receipts_is_due(&w->receipts, now))
            send_report(all, w, now);
        if (w->sends)
            adaptive_pump(&w->sender, now);
        w->is_listed = w->sends && (receipts_deadline(&w->receipts) >= 0 || !adaptive_is_idle(&w->sender));
        if (w->is_listed)
            all->listed[kept++] = w;
    }
    all->listed_count = kept;
}

static double earlier(double one, double other) { return one < 0 || (other >= 0 && other < one) ? other : one; }

double adaptives_deadline(const struct adaptives *all) {
    double first = -1;
    for (uint32_t i = 0; i < all->listed_count; i++)
        if (all->listed[i]->sends) {
            first = earlier(first, receipts_deadline(&all->listed[i]->receipts));
            first = earlier(first, adaptive_deadline(&all->listed[i]->sender));
        }
    return first;
}

/* --- control --- */

void adaptives_set_limits(struct adaptives *all, const struct mpt_path_limits *limits, uint32_t count,
                          const struct mpt_order_limits *orders, uint32_t order_count, double now) {
    for (uint32_t i = 0; i < count; i++) {
        const struct path_state *state = path_state_of(all->states, limits[i].path);
        if (state == NULL || state->room == NULL)
            continue;
        bool is_news = limits[i].suspect && !state->room->limits.suspect;
        state->room->limits = limits[i];
        if (state->path == NULL)
            continue;
        adaptives_path_changed(all, state->path);
        struct watched *w = watched_of(all, all->table->connections[state->path->connection].row.id);
        if (is_news && w != NULL && w->sends)
            receipts_hurry(&w->receipts, now);
    }
    for (uint32_t i = 0; i < order_count; i++) {
        struct watched *w = watched_of(all, orders[i].connection);
        if (w == NULL)
            continue;
        w->hold = orders[i].hold;
        w->playout = orders[i].playout;
        w->acks = orders[i].acks;
    }
}

uint32_t adaptives_rescue(struct adaptives *all, uint32_t path, double now, bool bounded) {
    const struct path_state *state = path_state_of(all->states, path);
    if (state == NULL || state->path == NULL || state->room == NULL)
        return 0;
    struct watched *w = watched_of(all, all->table->connections[state->path->connection].row.id);
    return w != NULL && w->sends ? adaptive_rescue(&w->sender, state->room, now, bounded) : 0;
}

void adaptives_flight(const struct adaptives *all, uint32_t path, struct mpt_flight *flight) {
    const struct path_state *state = path_state_of(all->states, path);
    *flight = (struct mpt_flight){0};
    if (state == NULL || state->room == NULL)
        return;
    const struct room *room = state->room;
    const struct under_way *oldest = flight_oldest(&room->flight);
    flight->octets = room->flight.octets;
    flight->packets = room->flight.packets;
    flight->oldest = oldest != NULL ? oldest->time : 0;
    flight->resent = room->resent;
    flight->copies = room->copies;
    flight->lost = room->flight.lost;
    flight->limited_at = room->limited_at;
    flight->reported_at = room->reported_at;
    if (state->path == NULL)
        return;
    const struct connection *c = &all->table->connections[state->path->connection];
    const struct watched *w = watched_of(all, c->row.id);
    if (c->owner != NULL) {
        flight->sent = c->owner->sent[state->path->row.seal_id];
        flight->received = c->owner->received[state->path->row.seal_id];
    }
    if (w != NULL && w->sends) {
        flight->queue_octets = w->sender.queue.octets + w->sender.pending_octets;
        flight->queue_packets = adaptive_waiting(&w->sender);
    }
}

void adaptives_count(const struct adaptives *all, uint32_t connection, struct mpt_adaptive_counters *counters) {
    const struct watched *w = watched_of(all, connection);
    if (w != NULL && w->sends)
        adaptive_count(&w->sender, counters);
}

void adaptives_add_counts(const struct adaptives *all, struct mpt_counters *counters) {
    for (uint32_t i = 0; i < all->room; i++) {
        const struct watched *w = all->by_id[i];
        if (w == NULL)
            continue;
        counters->packets_waiting += adaptive_waiting(&w->sender);
        counters->egress_dropped[MPT_CODEL] += w->sender.queue.dropped;
        counters->egress_dropped[MPT_QUEUE_FULL] += w->sender.queue.overflowed;
    }
}
