/* See orders.h. A server has an order for each of a thousand clients, and few hold packets at a time: what is asked in every
 * wake-up is asked of these alone. */

#include "orders.h"

#include <stdlib.h>

/* --- the table --- */

/* Return the old order of a connection, if it can go on as the order of `c`. */
static struct ordering **order_before(const struct orders *before, const struct connection *c) {
    const struct connection *old = before->table != NULL ? table_find(before->table, c->row.id) : NULL;
    if (old == NULL || old->row.reorder_window != c->row.reorder_window || old->row.max_delay != c->row.max_delay
        || old->row.sealed != c->row.sealed)
        return NULL;
    return &before->all[old->index];
}

bool orders_prepare(struct orders *o, const struct orders *before, const struct table *table,
                    const struct mpt_tuning *tuning, uint64_t secret, struct sink sink) {
    uint32_t count = table->connection_count + 1;
    *o = (struct orders){
        .table = table,
        .all = calloc(count, sizeof(struct ordering *)),
        .is_listed = calloc(count, sizeof *o->is_listed),
        .holding = calloc(count, sizeof *o->holding),
    };
    if (o->all == NULL || o->is_listed == NULL || o->holding == NULL)
        return false;
    for (uint32_t i = 0; i < table->connection_count; i++) {
        const struct connection *c = &table->connections[i];
        if (c->row.reorder_window == 0 || order_before(before, c) != NULL)
            continue;
        o->all[i] = ordering_new(tuning, c->row.reorder_window, c->row.max_delay, c->row.sealed, secret, sink);
        if (o->all[i] == NULL)
            return false;
    }
    return true;
}

void orders_free(struct orders *o) {
    for (uint32_t i = 0; o->all != NULL && i < o->table->connection_count; i++)
        ordering_free(o->all[i]);
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
    if (o->is_listed[connection] || ordering_held(o->all[connection]) == 0)
        return;
    o->is_listed[connection] = true;
    o->holding[o->holding_count++] = connection;
}

void orders_commit(struct orders *o, struct orders *before, uint64_t *dropped, double now) {
    for (uint32_t i = 0; i < o->table->connection_count; i++) {
        const struct connection *c = &o->table->connections[i];
        struct ordering **old = order_before(before, c);
        if (old != NULL) {
            const struct connection *row = table_find(before->table, c->row.id);
            o->all[i] = *old;
            *old = NULL;
            for (uint32_t k = 0; o->all[i] != NULL && k < row->row.path_count; k++)
                if (!has_path(c, row->paths[k].row.id))
                    ordering_path_down(o->all[i], row->paths[k].row.id, now);
        }
        for (uint32_t k = 0; k < c->row.path_count; k++)
            orders_path_set(o, &c->paths[k], now);
        if (o->all[i] != NULL)
            note_held(o, i);
    }
    for (uint32_t i = 0; before->table != NULL && i < before->table->connection_count; i++)
        if (before->all[i] != NULL) {
            ordering_set_behind(before->all[i], before->is_behind);
            ordering_flush(before->all[i]);
            ordering_drops(before->all[i], dropped);
        }
}

void orders_path_set(struct orders *o, const struct path *path, double now) {
    struct ordering *order = o->all[path->connection];
    bool sealed = o->table->connections[path->connection].row.sealed;
    if (order != NULL && path->is_wanted && (path->row.fd >= 0 || sealed)) /* sealed datagrams may come to any socket */
        ordering_path_up(order, path->row.id, now);
    else if (order != NULL)
        ordering_path_down(order, path->row.id, now);
}

/* --- packets --- */

bool orders_has(const struct orders *o, const struct path *path) { return o->all[path->connection] != NULL; }

void orders_arrive(struct orders *o, const struct path *path, struct mark mark, struct packet packet, double now) {
    struct ordering *order = o->all[path->connection];
    ordering_set_behind(order, o->is_behind);
    ordering_arrive(order, mark, packet, path->row.id, now);
    note_held(o, path->connection);
}

void orders_keepalive(struct orders *o, const struct path *path, double now) {
    struct ordering *order = o->all[path->connection];
    if (order == NULL)
        return;
    ordering_set_behind(order, o->is_behind);
    ordering_keepalive(order, path->row.id, now);
}

bool orders_waits(const struct orders *o, uint32_t connection) {
    return o->all[connection] != NULL && ordering_waits(o->all[connection]);
}

int64_t orders_sent(const struct orders *o, const struct path *path) { return ordering_sent(o->all[path->connection]); }

/* --- those that hold packets --- */

void orders_deadline(struct orders *o, double now) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < o->holding_count; i++) {
        struct ordering *order = o->all[o->holding[i]];
        ordering_set_behind(order, o->is_behind);
        if (ordering_held(order) > 0)
            ordering_deadline(order, now);
        if (ordering_held(order) > 0)
            o->holding[kept++] = o->holding[i];
        else
            o->is_listed[o->holding[i]] = false;
    }
    o->holding_count = kept;
}

double orders_next_deadline(const struct orders *o) {
    double first = -1;
    for (uint32_t i = 0; i < o->holding_count; i++) {
        double deadline = ordering_next_deadline(o->all[o->holding[i]]);
        if (deadline >= 0 && (first < 0 || deadline < first))
            first = deadline;
    }
    return first;
}

void orders_copy_out(struct orders *o) {
    for (uint32_t i = 0; i < o->holding_count; i++)
        ordering_copy_out(o->all[o->holding[i]]);
}

void orders_count(const struct orders *o, uint64_t *dropped, uint64_t *held) {
    for (uint32_t i = 0; i < o->table->connection_count; i++)
        if (o->all[i] != NULL) {
            ordering_drops(o->all[i], dropped);
            *held += ordering_held(o->all[i]);
        }
}
