/* One tunnel's data path: its parts, wired. The twin is mpt/data/datapath.py. */

#include <errno.h>
#include <stdlib.h>

#include "_native.h"
#include "deliver.h"
#include "egress.h"
#include "events.h"
#include "ingress.h"
#include "pool.h"
#include "pathstate.h"
#include "table.h"

struct mpt_datapath {
    struct table *table;
    struct path_states states;
    struct events events;
    struct pool pool;
    struct delivery *delivery;
    struct egress *egress;
    struct ingress *ingress;
    struct mpt_counters counters;
};

struct mpt_datapath *mpt_new(int tun, int offloads, uint64_t secret, const struct mpt_tuning *tuning) {
    struct mpt_datapath *dp = calloc(1, sizeof *dp);
    if (dp == NULL)
        return NULL;
    bool good = pool_init(&dp->pool);
    dp->delivery = delivery_new(tun, offloads, &dp->pool, &dp->counters);
    dp->egress = egress_new(tun, offloads, &dp->counters);
    dp->ingress = ingress_new(tuning, secret, &dp->pool, dp->delivery, &dp->events, &dp->counters);
    good = good && dp->delivery != NULL && dp->egress != NULL && dp->ingress != NULL;
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
    table_free(dp->table);
    path_states_destroy(&dp->states);
    events_destroy(&dp->events);
    free(dp);
}

int mpt_set_table(struct mpt_datapath *dp, const struct mpt_connection_row *rows, uint32_t count, double now) {
    struct table *table = table_new(&dp->states, rows, count);
    if (table == NULL || !egress_prepare(dp->egress, table) || !ingress_prepare(dp->ingress, table)) {
        egress_cancel(dp->egress);
        table_free(table);
        return -1;
    }
    egress_commit(dp->egress);
    ingress_commit(dp->ingress, now);
    if (dp->table != NULL)
        table_leave(dp->table);
    table_enter(table);
    table_free(dp->table);
    dp->table = table;
    return 0;
}

void mpt_tun_readable(struct mpt_datapath *dp) { egress_tun_readable(dp->egress); }

void mpt_socket_readable(struct mpt_datapath *dp, int fd, double now) { ingress_socket_readable(dp->ingress, fd, now); }

const struct mpt_event *mpt_take_events(struct mpt_datapath *dp, uint32_t *count, const uint8_t **octets) {
    return events_take(&dp->events, count, octets);
}

int mpt_send(struct mpt_datapath *dp, uint32_t path, const uint8_t *message, uint32_t length) {
    const struct path_state *state = path_state_of(&dp->states, path);
    if (state == NULL || state->path == NULL || state->path->row.fd < 0)
        return ENOENT;
    return egress_send(dp->egress, state->path, message, length);
}

void mpt_deadline_reached(struct mpt_datapath *dp, double now) { ingress_deadline_reached(dp->ingress, now); }

double mpt_next_deadline(const struct mpt_datapath *dp) { return ingress_next_deadline(dp->ingress); }

void mpt_counters(const struct mpt_datapath *dp, struct mpt_counters *counters) {
    *counters = dp->counters;
    ingress_count(dp->ingress, counters);
}

const struct mpt_path_counters *mpt_path_counters(const struct mpt_datapath *dp, uint32_t path) {
    const struct path_state *state = path_state_of(&dp->states, path);
    return state != NULL ? &state->counters : NULL;
}

int mpt_offloads(const struct mpt_datapath *dp) {
    return delivery_offloads(dp->delivery) | (egress_cuts(dp->egress) ? MPT_UDP_SEGMENT : 0);
}
