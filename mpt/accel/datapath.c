/* One tunnel's data path: its parts, wired. The twin is mpt/data/datapath.py. */

#define _GNU_SOURCE /* ppoll() */

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "_native.h"
#include "adaptives.h"
#include "ancillary.h"
#include "deliver.h"
#include "egress.h"
#include "events.h"
#include "ingress.h"
#include "pool.h"
#include "pathstate.h"
#include "table.h"
#include "transmit.h"
#include "unseal.h"

enum { BUSY = 1 << 15 }; /* work, in octets, as the planes count it: after so much it is worth waiting for more */
#define LINGER 10e-3     /* seconds after such a wake-up in which the others, as those for acknowledgements, wait as well */
#define PATIENCE 50e-6   /* seconds; a packet's time at some 250 Mbit/s, and less than a turn of the interpreter */

struct mpt_datapath {
    int tun;
    struct pollfd *polled; /* the TUN and every socket */
    uint32_t polled_count, next; /* `next`: with which a round begins */
    double busy_until;
    int served_fd; /* of the last wake-up; if that ended with its budget, the others of its turn end at `served_until` */
    double served_until;
    struct table *table;
    struct path_states states;
    struct sessions sessions;
    struct events events;
    struct unsealer unsealer;
    struct mpt_tuning tuning;
    struct adaptives adaptives;
    struct pool pool;
    struct delivery *delivery;
    struct egress *egress;
    struct ingress *ingress;
    struct mpt_counters counters;
};

/* --- what the adaptive connections have others do --- */

static void session_ended(void *context, const struct session *session) {
    struct mpt_datapath *dp = context;
    adaptives_session_ended(&dp->adaptives, session->owner->id, session->index, session->peer_index);
}

static void set_order(void *context, uint32_t index, double hold, int32_t playout, bool acks) {
    ingress_set_order(((struct mpt_datapath *)context)->ingress, index, hold, playout, acks);
}

static void leave(void *context, uint32_t connection, struct cell *cell) {
    egress_send(((struct mpt_datapath *)context)->egress, connection, cell);
}

/* --- life, and the table --- */

struct mpt_datapath *mpt_new(int tun, int offloads, uint64_t secret, const struct mpt_tuning *tuning) {
    struct mpt_datapath *dp = calloc(1, sizeof *dp);
    if (dp == NULL)
        return NULL;
    dp->tun = tun;
    dp->tuning = *tuning;
    dp->unsealer = (struct unsealer){.sessions = &dp->sessions, .events = &dp->events, .counters = &dp->counters,
                                     .adaptives = &dp->adaptives};
    gate_init(&dp->unsealer.gate, tuning);
    bool good = sessions_init(&dp->sessions) && pool_init(&dp->pool)
        && adaptives_init(&dp->adaptives, &dp->tuning, secret, offloads & MPT_UDP_SEGMENT, &dp->states, &dp->events,
                          &dp->counters);
    dp->delivery = delivery_new(tun, offloads, &dp->pool, &dp->counters);
    dp->egress = egress_new(tun, offloads, tuning, secret, &dp->adaptives, &dp->counters);
    dp->ingress = ingress_new(tuning, secret, &dp->pool, dp->delivery, &dp->unsealer, &dp->counters);
    good = good && dp->delivery != NULL && dp->egress != NULL && dp->ingress != NULL;
    dp->sessions.ended = session_ended;
    dp->adaptives.set_order = set_order;
    dp->adaptives.leave = leave;
    dp->sessions.context = dp->adaptives.order_context = dp->adaptives.leave_context = dp;
    if (!good || mpt_set_table(dp, NULL, 0, 0) != 0) {
        mpt_free(dp);
        return NULL;
    }
    return dp;
}

void mpt_free(struct mpt_datapath *dp) {
    if (dp == NULL)
        return;
    ingress_free(dp->ingress);
    egress_free(dp->egress);
    delivery_free(dp->delivery);
    pool_destroy(&dp->pool);
    adaptives_destroy(&dp->adaptives);
    table_free(dp->table);
    path_states_destroy(&dp->states);
    sessions_destroy(&dp->sessions);
    gate_destroy(&dp->unsealer.gate);
    events_destroy(&dp->events);
    free(dp->polled);
    free(dp);
}

int mpt_set_table(struct mpt_datapath *dp, const struct mpt_connection_row *rows, uint32_t count, double now) {
    struct table *table = table_new(&dp->states, &dp->sessions, rows, count);
    struct pollfd *polled = table != NULL ? calloc(table->path_count + 1, sizeof *polled) : NULL;
    if (polled == NULL || !egress_prepare(dp->egress, table) || !ingress_prepare(dp->ingress, table)
        || !adaptives_prepare(&dp->adaptives, table)) {
        egress_cancel(dp->egress);
        table_free(table);
        free(polled);
        return -1;
    }
    egress_commit(dp->egress);
    ingress_commit(dp->ingress, now);
    if (dp->table != NULL)
        table_leave(dp->table);
    table_enter(table);
    adaptives_commit(&dp->adaptives, table);
    sessions_sweep(&dp->sessions);
    table_free(dp->table);
    free(dp->polled);
    dp->table = table;
    dp->polled = polled;
    polled[0].fd = dp->tun;
    dp->polled_count = 1 + ingress_sockets(dp->ingress, polled + 1);
    for (uint32_t i = 0; i < dp->polled_count; i++)
        polled[i].events = POLLIN;
    return 0;
}

void mpt_set_shares(struct mpt_datapath *dp, const struct mpt_share *shares, uint32_t count, double now) {
    for (uint32_t i = 0; i < count; i++) {
        const struct path_state *state = path_state_of(&dp->states, shares[i].path);
        if (state == NULL || state->path == NULL)
            continue;
        struct path *path = &dp->table->paths[state->path->index];
        bool reweighed = shares[i].weight > 0 && shares[i].weight != path->row.weight;
        path->is_wanted = shares[i].weight > 0;
        path->row.weight = reweighed ? shares[i].weight : path->row.weight;
        if (path_find_out(path) || reweighed)
            egress_share_changed(dp->egress, path);
        ingress_share_set(dp->ingress, path, now);
    }
    delivery_write(dp->delivery);
    adaptives_go(&dp->adaptives, now);
}

void mpt_set_path_mtus(struct mpt_datapath *dp, const struct mpt_path_mtu *mtus, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const struct path_state *state = path_state_of(&dp->states, mtus[i].path);
        if (state == NULL || state->path == NULL)
            continue;
        struct path *path = &dp->table->paths[state->path->index];
        path->row.mtu = mtus[i].mtu;
        egress_mtu_changed(dp->egress, path);
    }
}

void mpt_set_remote(struct mpt_datapath *dp, uint32_t id, int fd, const uint8_t *name, uint32_t name_length) {
    const struct path_state *state = path_state_of(&dp->states, id);
    if (state == NULL || state->path == NULL || !dp->table->connections[state->path->connection].row.sealed)
        return;
    struct path *path = &dp->table->paths[state->path->index];
    path->row.fd = fd;
    path->row.unplaced = false;
    path->row.outer_remote_length = name_length;
    memset(path->row.outer_remote, 0, sizeof path->row.outer_remote);
    memcpy(path->row.outer_remote, name, name_length);
    path->row.loop = ancillary_address(name, name_length);
    ingress_remote_set(dp->ingress, path);
    adaptives_moved(&dp->adaptives, path);
    if (path_find_out(path))
        egress_share_changed(dp->egress, path);
    egress_peers_changed(dp->egress);
}

/* --- a wake-up --- */

static double seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static uint32_t serve_one(struct mpt_datapath *dp, int fd, double now) {
    uint32_t work = fd == dp->tun ? egress_tun_readable(dp->egress, now) : ingress_socket_readable(dp->ingress, fd, now);
    adaptives_go(&dp->adaptives, now);
    return work;
}

/* Wait for the TUN and all sockets, `patience` at the most, and serve the ready ones until `end`. After `end` serve one that
 * is not `fd`. A round begins after the descriptor that was served last, so a flood of one keeps no other waiting. Return the
 * work. */
static uint32_t serve_ready(struct mpt_datapath *dp, int fd, double now, double patience, double end) {
    struct timespec timeout = {.tv_nsec = (long)(patience * 1e9)};
    uint32_t work = 0, first = dp->next;
    if (ppoll(dp->polled, dp->polled_count, &timeout, NULL) <= 0)
        return 0;
    for (uint32_t k = 0; k < dp->polled_count; k++) {
        uint32_t i = (first + k) % dp->polled_count;
        const struct pollfd *polled = &dp->polled[i];
        if (!(polled->revents & POLLIN) || (seconds() >= end && (work > 0 || polled->fd == fd)))
            continue;
        work += serve_one(dp, polled->fd, now);
        dp->next = i + 1;
    }
    return work;
}

void mpt_serve(struct mpt_datapath *dp, int fd, double now, double budget, double turn) {
    double begin = seconds(), spent = 0;
    if (begin < dp->served_until && fd != dp->served_fd)
        return;
    uint32_t work = serve_one(dp, fd, now), total = work;
    for (uint32_t rounds = 0; work > 0 && ((spent = seconds() - begin) < budget || (rounds == 0 && budget > 0)); rounds++) {
        double deadline = mpt_next_deadline(dp), left = fmax(budget - spent, 0);
        if (deadline >= 0 && deadline <= now + spent)
            mpt_deadline_reached(dp, now + spent);
        if (total >= BUSY)
            dp->busy_until = now + spent + LINGER;
        work = serve_ready(dp, fd, now + spent, now + spent < dp->busy_until ? fmin(PATIENCE, left) : 0, begin + budget);
        total += work;
    }
    dp->served_fd = fd;
    dp->served_until = spent >= budget ? seconds() + turn : 0;
}

const struct mpt_event *mpt_take_events(struct mpt_datapath *dp, uint32_t *count, const uint8_t **octets) {
    return events_take(&dp->events, count, octets);
}

static int send_to(struct mpt_datapath *dp, uint32_t id, const struct place *to, const uint8_t *message, uint32_t length,
                   double now) {
    const struct path_state *state = path_state_of(&dp->states, id);
    if (state == NULL || state->path == NULL)
        return ENOENT;
    const struct path *path = state->path;
    const struct connection *c = &dp->table->connections[path->connection];
    bool elsewhere = to != NULL && c->row.sealed;
    const struct place place = elsewhere ? *to : place_of(path);
    if (place.fd < 0 || (!elsewhere && path->row.unplaced))
        return ENOENT;
    uint64_t number = c->row.sealed && c->owner->sending != NULL ? c->owner->sending->next_number[path->row.seal_id % PATH_IDS] : 0;
    int error = transmit_message(c, path, &place, message, length, stamp_of(now));
    if (error == 0 && c->row.sends && length > 0 && message[0] == PROBE)
        adaptives_probe_sent(&dp->adaptives, path, number, length, now);
    return error;
}

int mpt_send(struct mpt_datapath *dp, uint32_t path, const uint8_t *message, uint32_t length, double now) {
    return send_to(dp, path, NULL, message, length, now);
}

int mpt_send_to(struct mpt_datapath *dp, uint32_t path, int fd, const uint8_t *name, uint32_t name_length,
                const uint8_t *message, uint32_t length, double now) {
    return send_to(dp, path, &(struct place){fd, name, name_length}, message, length, now);
}

/* --- sealed connections --- */

void mpt_set_identity(struct mpt_datapath *dp, const uint8_t *mac1_key, const uint8_t *token_key) {
    gate_set_identity(&dp->unsealer.gate, mac1_key, token_key);
}

int mpt_expect(struct mpt_datapath *dp, const uint32_t *indexes, const uint8_t *keys, uint32_t count) {
    return gate_expect(&dp->unsealer.gate, indexes, keys, count) ? 0 : -1;
}

int mpt_add_session(struct mpt_datapath *dp, uint32_t connection, struct mpt_session_keys *keys) {
    int error = session_add(&dp->sessions, connection, keys);
    forget(keys, sizeof *keys);
    return error;
}

int mpt_send_with(struct mpt_datapath *dp, uint32_t connection, uint32_t index, double now) {
    int error = session_send_with(&dp->sessions, connection, index);
    if (error == 0)
        adaptives_go(&dp->adaptives, now);
    return error;
}

void mpt_send_with_none(struct mpt_datapath *dp, uint32_t connection) {
    struct owner *owner = owner_of(&dp->sessions, connection);
    if (owner != NULL)
        owner->sending = NULL;
}

void mpt_end_session(struct mpt_datapath *dp, uint32_t connection, uint32_t index) {
    session_end(&dp->sessions, connection, index);
}

uint64_t mpt_sent_numbers(const struct mpt_datapath *dp, uint32_t connection) {
    const struct owner *owner = owner_of(&dp->sessions, connection);
    return owner != NULL && owner->sending != NULL ? session_sent(owner->sending) : 0;
}

/* --- adaptive connections --- */

void mpt_set_limits(struct mpt_datapath *dp, const struct mpt_path_limits *limits, uint32_t count,
                    const struct mpt_order_limits *orders, uint32_t order_count, double now) {
    adaptives_set_limits(&dp->adaptives, limits, count, orders, order_count, now);
    adaptives_go(&dp->adaptives, now);
}

uint32_t mpt_rescue(struct mpt_datapath *dp, uint32_t path, double now, int bounded) {
    return adaptives_rescue(&dp->adaptives, path, now, bounded != 0);
}

void mpt_flight(const struct mpt_datapath *dp, uint32_t path, struct mpt_flight *flight) {
    adaptives_flight(&dp->adaptives, path, flight);
}

void mpt_adaptive_counters(const struct mpt_datapath *dp, uint32_t connection, struct mpt_adaptive_counters *counters) {
    *counters = (struct mpt_adaptive_counters){0};
    adaptives_count(&dp->adaptives, connection, counters);
    ingress_measure(dp->ingress, connection, counters);
}

/* --- what happened --- */

void mpt_deadline_reached(struct mpt_datapath *dp, double now) {
    ingress_deadline_reached(dp->ingress, now);
    adaptives_go(&dp->adaptives, now);
}

double mpt_next_deadline(const struct mpt_datapath *dp) {
    double held = ingress_next_deadline(dp->ingress), due = adaptives_deadline(&dp->adaptives);
    return held < 0 ? due : due < 0 ? held : fmin(held, due);
}

void mpt_counters(const struct mpt_datapath *dp, struct mpt_counters *counters) {
    *counters = dp->counters;
    ingress_count(dp->ingress, counters);
    adaptives_add_counts(&dp->adaptives, counters);
}

const struct mpt_path_counters *mpt_path_counters(const struct mpt_datapath *dp, uint32_t path) {
    const struct path_state *state = path_state_of(&dp->states, path);
    return state != NULL ? &state->counters : NULL;
}

int mpt_offloads(const struct mpt_datapath *dp) {
    return delivery_offloads(dp->delivery) | (egress_cuts(dp->egress) ? MPT_UDP_SEGMENT : 0);
}
