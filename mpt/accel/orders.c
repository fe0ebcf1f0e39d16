/* See orders.h. A server has an order for each of a thousand clients, and few hold packets at a time: what is asked in every
 * wake-up is asked of these alone. */

#include "orders.h"

#include <stdlib.h>

enum { LEAST_WINDOW = 2048 }; /* packets that may be held of an adaptive connection */

/* --- one order --- */

static bool is_none(const struct order *o) { return o->ordering == NULL && o->playout == NULL; }

static uint32_t held_by(const struct order *o) {
    return o->playout != NULL ? playout_held(o->playout) : o->ordering != NULL ? ordering_held(o->ordering) : 0;
}

static void order_free(struct order *o) {
    ordering_free(o->ordering);
    playout_free(o->playout);
}

static void count_drops(const struct order *o, uint64_t *dropped) {
    struct mpt_adaptive_counters counters = {0};
    if (o->ordering != NULL)
        ordering_drops(o->ordering, dropped);
    if (o->playout != NULL)
        playout_count(o->playout, &counters);
    dropped[MPT_COPY] += counters.copies_dropped;
}

/* Make the order of `c`. false: no memory. */
static bool order_new(struct order *o, const struct connection *c, const struct mpt_tuning *tuning, uint64_t secret, struct sink sink) {
    uint32_t window = c->row.reorder_window;
    if (c->row.sends) {
        o->playout = playout_new(tuning, window > LEAST_WINDOW ? window : LEAST_WINDOW, window > 0 ? c->row.max_delay : 0, secret, sink);
        return o->playout != NULL;
    }
    if (window > 0)
        o->ordering = ordering_new(tuning, window, c->row.max_delay, c->row.sealed, secret, sink);
    return window == 0 || o->ordering != NULL;
}

/* --- the table --- */

/* Return the old order of a connection, if it can go on as the order of `c`. */
static struct order *order_before(const struct orders *before, const struct connection *c) {
    const struct connection *old = before->table != NULL ? table_find(before->table, c->row.id) : NULL;
    if (old == NULL || old->row.reorder_window != c->row.reorder_window || old->row.max_delay != c->row.max_delay
        || old->row.sealed != c->row.sealed || old->row.sends != c->row.sends)
        return NULL;
    return &before->all[old->index];
}

bool orders_prepare(struct orders *o, const struct orders *before, const struct table *table,
                    const struct mpt_tuning *tuning, uint64_t secret, struct sink sink) {
    uint32_t count = table->connection_count + 1;
    *o = (struct orders){
        .table = table,
        .all = calloc(count, sizeof *o->all),
        .is_listed = calloc(count, sizeof *o->is_listed),
        .holding = calloc(count, sizeof *o->holding),
    };
    if (o->all == NULL || o->is_listed == NULL || o->holding == NULL)
        return false;
    for (uint32_t i = 0; i < table->connection_count; i++) {
        const struct connection *c = &table->connections[i];
        if (order_before(before, c) == NULL && !order_new(&o->all[i], c, tuning, secret, sink))
            return false;
    }
    return true;
}

void orders_free(struct orders *o) {
    for (uint32_t i = 0; o->all != NULL && i < o->table->connection_count; i++)
        order_free(&o->all[i]);
    free(o->all);
    free(o->is_listed);
    free(o->holding);
    *o = (struct orders){0};
}

static bool has_path(const struct connection *c, uint32_t id) {
    for (uint32_t i = 0; i < c->row.path_count; i++)
        if (c->paths[i].row.id == id)
            return true;
    return false;
}

static void note_held(struct orders *o, uint32_t connection) {
    if (o->is_listed[connection] || held_by(&o->all[connection]) == 0)
        return;
    o->is_listed[connection] = true;
    o->holding[o->holding_count++] = connection;
}

void orders_commit(struct orders *o, struct orders *before, uint64_t *dropped, double now) {
    for (uint32_t i = 0; i < o->table->connection_count; i++) {
        const struct connection *c = &o->table->connections[i];
        struct order *old = order_before(before, c);
        if (old != NULL) {
            const struct connection *row = table_find(before->table, c->row.id);
            o->all[i] = *old;
            *old = (struct order){0};
            for (uint32_t k = 0; o->all[i].ordering != NULL && k < row->row.path_count; k++)
                if (!has_path(c, row->paths[k].row.id))
                    ordering_path_down(o->all[i].ordering, row->paths[k].row.id, now);
        }
        for (uint32_t k = 0; k < c->row.path_count; k++)
            orders_path_set(o, &c->paths[k], now);
        note_held(o, i);
    }
    for (uint32_t i = 0; before->table != NULL && i < before->table->connection_count; i++) {
        struct order *order = &before->all[i];
        if (order->ordering != NULL) {
            ordering_set_behind(order->ordering, before->is_behind);
            ordering_flush(order->ordering);
        }
        if (order->playout != NULL)
            playout_flush(order->playout, now);
        count_drops(order, dropped);
    }
}

void orders_path_set(struct orders *o, const struct path *path, double now) {
    struct ordering *order = o->all[path->connection].ordering;
    bool sealed = o->table->connections[path->connection].row.sealed;
    if (order != NULL && path->is_wanted && (path->row.fd >= 0 || sealed)) /* sealed datagrams may come to any socket */
        ordering_path_up(order, path->row.id, now);
    else if (order != NULL)
        ordering_path_down(order, path->row.id, now);
}

/* --- packets --- */

bool orders_has(const struct orders *o, const struct path *path) { return !is_none(&o->all[path->connection]); }

void orders_arrive(struct orders *o, const struct path *path, struct mark mark, struct packet packet, double now) {
    struct order *order = &o->all[path->connection];
    if (order->playout != NULL)
        playout_arrive(order->playout, mark, packet, now);
    else {
        ordering_set_behind(order->ordering, o->is_behind);
        ordering_arrive(order->ordering, mark, packet, path->row.id, now);
    }
    note_held(o, path->connection);
}

void orders_keepalive(struct orders *o, const struct path *path, double now) {
    struct ordering *order = o->all[path->connection].ordering;
    if (order == NULL)
        return;
    ordering_set_behind(order, o->is_behind);
    ordering_keepalive(order, path->row.id, now);
}

bool orders_waits(const struct orders *o, uint32_t connection) {
    return o->all[connection].ordering != NULL && ordering_waits(o->all[connection].ordering);
}

int64_t orders_sent(const struct orders *o, const struct path *path) {
    const struct ordering *order = o->all[path->connection].ordering;
    return order != NULL ? ordering_sent(order) : 0;
}

void orders_set(struct orders *o, uint32_t connection, double hold, int32_t ticks, bool acks) {
    if (o->all[connection].playout != NULL)
        playout_set(o->all[connection].playout, hold, ticks, acks);
}

void orders_measure(const struct orders *o, uint32_t id, struct mpt_adaptive_counters *counters) {
    const struct connection *c = o->table != NULL ? table_find(o->table, id) : NULL;
    if (c != NULL && o->all[c->index].playout != NULL)
        playout_count(o->all[c->index].playout, counters);
}

/* --- those that hold packets --- */

void orders_deadline(struct orders *o, double now) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < o->holding_count; i++) {
        struct order *order = &o->all[o->holding[i]];
        if (order->playout != NULL)
            playout_deadline(order->playout, now);
        else if (ordering_held(order->ordering) > 0) {
            ordering_set_behind(order->ordering, o->is_behind);
            ordering_deadline(order->ordering, now);
        }
        if (held_by(order) > 0)
            o->holding[kept++] = o->holding[i];
        else
            o->is_listed[o->holding[i]] = false;
    }
    o->holding_count = kept;
}

double orders_next_deadline(const struct orders *o) {
    double first = -1;
    for (uint32_t i = 0; i < o->holding_count; i++) {
        const struct order *order = &o->all[o->holding[i]];
        double deadline = order->playout != NULL ? playout_next_deadline(order->playout) : ordering_next_deadline(order->ordering);
        if (deadline >= 0 && (first < 0 || deadline < first))
            first = deadline;
    }
    return first;
}

void orders_copy_out(struct orders *o) {
    for (uint32_t i = 0; i < o->holding_count; i++) {
        const struct order *order = &o->all[o->holding[i]];
        if (order->playout != NULL)
            playout_copy_out(order->playout);
        else
            ordering_copy_out(order->ordering);
    }
}

void orders_count(const struct orders *o, uint64_t *dropped, uint64_t *held) {
    for (uint32_t i = 0; i < o->table->connection_count; i++) {
        count_drops(&o->all[i], dropped);
        *held += held_by(&o->all[i]);
    }
}
