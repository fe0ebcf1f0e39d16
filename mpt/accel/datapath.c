/* The table of connections and paths, and what is counted. */

#include "_native.h"

#include <stdlib.h>

struct mpt_datapath *mpt_new(int tun, int offloads, uint64_t secret) {
    struct mpt_datapath *dp = calloc(1, sizeof *dp);
    if (dp == NULL)
        return NULL;
    dp->tun = tun;
    dp->offloads = offloads;
    dp->secret = secret;
    dp->egress = egress_new();
    dp->ingress = ingress_new();
    dp->delivery = delivery_new();
    dp->connections = calloc(1, sizeof *dp->connections);
    if (dp->egress == NULL || dp->ingress == NULL || dp->delivery == NULL || dp->connections == NULL) {
        mpt_free(dp);
        return NULL;
    }
    return dp;
}

static void free_connections(struct connection *connections, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        ordering_free(connections[i].order);
        free(connections[i].storage);
    }
    free(connections);
}

static void free_listening(struct listening *listening) {
    free(listening->sources);
    free(listening->paths);
    free(listening->listeners);
}

void mpt_free(struct mpt_datapath *dp) {
    if (dp == NULL)
        return;
    free_connections(dp->connections, dp->connection_count);
    free_listening(&dp->listening);
    egress_free(dp->egress);
    ingress_free(dp->ingress);
    delivery_free(dp->delivery);
    free(dp);
}

/* --- the table --- */

static void *place(uint8_t **at, const void *from, size_t size) {
    void *to = *at;
    if (size && from != NULL)
        memcpy(to, from, size);
    *at += (size + 15) / 16 * 16;
    return to;
}

/* Packets that go path by path, at the most: a peer may have a smaller window than we. Many paths need more, or the run
 * of each is too short to be worth its system call. */
static uint32_t batch_limit(const struct connection *c) {
    enum { AT_LEAST = 128, PER_PATH = 32 };
    if (c->row.reorder_window == 0 || c->cycle_count <= 1)
        return UINT32_MAX;
    uint32_t half = c->row.reorder_window / 2;
    uint32_t limit = c->cycle_count * PER_PATH > AT_LEAST ? c->cycle_count * PER_PATH : AT_LEAST;
    return half < limit ? half : limit;
}

static bool fill(struct connection *c, const struct mpt_connection_row *row, bool segment) {
    size_t networks = row->network_count * sizeof *row->networks, rules = row->rule_count * sizeof *row->rules;
    size_t rows = row->path_count * sizeof *row->paths, paths = row->path_count * sizeof *c->paths;
    size_t cycle = row->path_count * sizeof *c->cycle;
    c->row = *row;
    c->storage = calloc(1, networks + rules + rows + paths + cycle + 5 * 16);
    if (c->storage == NULL)
        return false;
    uint8_t *at = c->storage;
    c->row.networks = place(&at, row->networks, networks);
    c->row.rules = place(&at, row->rules, rules);
    c->row.paths = place(&at, row->paths, rows);
    c->paths = place(&at, NULL, paths);
    c->cycle = place(&at, NULL, cycle);
    for (uint32_t i = 0; i < row->path_count; i++) {
        struct path *path = &c->paths[i];
        *path = (struct path){.row = row->paths[i], .connection = c, .segment = segment, .first = -1, .last = -1};
        path->row.usable = path->row.usable && path->row.fd >= 0;
        if (path->row.usable)
            c->cycle[c->cycle_count++] = (struct cycle_entry){.index = i, .weight = path->row.weight};
    }
    c->batch_limit = batch_limit(c);
    return true;
}

static struct connection *find_connection(struct mpt_datapath *dp, uint32_t id) {
    for (struct connection *c = dp->connections; c < dp->connections + dp->connection_count; c++)
        if (c->row.id == id)
            return c;
    return NULL;
}

static bool has_path(const struct connection *c, uint32_t id) {
    for (uint32_t i = 0; i < c->row.path_count; i++)
        if (c->row.paths[i].id == id)
            return true;
    return false;
}

static bool same_window(const struct connection *a, const struct connection *b) {
    return a->row.reorder_window == b->row.reorder_window && a->row.max_delay == b->row.max_delay;
}

static int by_source(const void *a, const void *b) {
    const struct path *one = *(struct path *const *)a, *two = *(struct path *const *)b;
    int order;
    if (one->row.fd != two->row.fd)
        return one->row.fd < two->row.fd ? -1 : 1;
    if ((order = memcmp(&one->row.peer, &two->row.peer, sizeof one->row.peer)) != 0)
        return order;
    if (one->connection != two->connection)
        return one->connection < two->connection ? -1 : 1; /* in the order of the table */
    return one < two ? -1 : one > two;
}

static bool listen_to(struct connection *connections, uint32_t count, struct listening *l) {
    size_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += connections[i].row.path_count;
    l->paths = calloc(total + 1, sizeof *l->paths);
    l->sources = calloc(total + 1, sizeof *l->sources);
    l->listeners = calloc(total + 1, sizeof *l->listeners);
    if (l->paths == NULL || l->sources == NULL || l->listeners == NULL)
        return false;
    total = 0;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < connections[i].row.path_count; k++)
            if (connections[i].paths[k].row.fd >= 0)
                l->paths[total++] = &connections[i].paths[k];
    qsort(l->paths, total, sizeof *l->paths, by_source);
    for (size_t i = 0; i < total; i++) {
        const struct mpt_path_row *row = &l->paths[i]->row;
        const struct mpt_path_row *last = i > 0 ? &l->paths[i - 1]->row : NULL;
        if (last == NULL || last->fd != row->fd)
            l->listeners[l->listener_count++] = (struct listener){.fd = row->fd};
        l->paths[i]->listener = &l->listeners[l->listener_count - 1];
        if (last == NULL || last->fd != row->fd || memcmp(&last->peer, &row->peer, sizeof row->peer) != 0)
            l->sources[l->source_count++] =
                (struct source){.fd = row->fd, .peer = row->peer, .loop = row->loop, .paths = &l->paths[i]};
        l->sources[l->source_count - 1].path_count++;
    }
    return true;
}

struct listener *find_listener(struct listener *listeners, uint32_t count, int fd) {
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (listeners[middle].fd < fd)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && listeners[low].fd == fd ? &listeners[low] : NULL;
}

/* While datagrams wait in a socket, the times of those that we read are not the times when they came. */
void tell_whether_behind(struct mpt_datapath *dp) {
    for (struct connection *c = dp->connections; c < dp->connections + dp->connection_count; c++)
        if (c->order != NULL)
            ordering_set_behind(c->order, dp->listening.behind_count > 0);
}

int mpt_set_table(struct mpt_datapath *dp, const struct mpt_connection_row *rows, uint32_t count, double now) {
    struct connection *connections = calloc(count + 1, sizeof *connections);
    struct listening listening = {0};
    uint32_t made = 0;
    bool good = connections != NULL;
    for (; good && made < count; made++) {
        struct connection *c = &connections[made], *old = find_connection(dp, rows[made].id);
        good = fill(c, &rows[made], (dp->offloads & MPT_UDP_SEGMENT) != 0);
        if (old != NULL)
            c->sequence = old->sequence;
        if (good && rows[made].reorder_window && (old == NULL || old->order == NULL || !same_window(old, c))) {
            c->order = ordering_new(rows[made].reorder_window, rows[made].max_delay, dp->secret, ingress_sink(dp));
            good = c->order != NULL;
        }
    }
    if (!good || !listen_to(connections, count, &listening)) {
        if (connections != NULL)
            free_connections(connections, made);
        free_listening(&listening);
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) { /* nothing can fail from here on */
        struct connection *c = &connections[i], *old = find_connection(dp, c->row.id);
        if (old != NULL && c->order == NULL && c->row.reorder_window) {
            c->order = old->order;
            old->order = NULL;
        }
        for (uint32_t k = 0; old != NULL && c->order != NULL && k < old->row.path_count; k++)
            if (!has_path(c, old->row.paths[k].id))
                ordering_path_down(c->order, old->row.paths[k].id);
        for (uint32_t k = 0; c->order != NULL && k < c->row.path_count; k++)
            if (c->row.paths[k].usable)
                ordering_path_up(c->order, c->row.paths[k].id, now);
            else
                ordering_path_down(c->order, c->row.paths[k].id);
    }
    for (uint32_t i = 0; i < dp->connection_count; i++) { /* those that go: deliver what they hold, keep what they counted */
        struct ordering *old = dp->connections[i].order;
        if (old == NULL)
            continue;
        ordering_flush(old);
        ordering_drops(old, dp->counters.ingress_dropped);
        dp->counters.ingress_dropped[MPT_STRAY] += ordering_held(old);
    }
    delivery_write(dp);
    ingress_forget(dp->ingress);
    free_connections(dp->connections, dp->connection_count);
    free_listening(&dp->listening);
    dp->connections = connections;
    dp->connection_count = count;
    dp->listening = listening;
    tell_whether_behind(dp);
    memset(dp->egress_flows, 0, sizeof dp->egress_flows);
    memset(dp->ingress_flows, 0, sizeof dp->ingress_flows);
    return 0;
}

static bool in_networks(const struct connection *c, const struct mpt_address *address, bool here) {
    for (uint32_t i = 0; i < c->row.network_count; i++)
        if (c->row.networks[i].here == here && in_network(address, &c->row.networks[i]))
            return true;
    return false;
}

bool connection_is_here(const struct connection *c, const struct mpt_address *address) {
    return same_address(address, &c->row.local) || in_networks(c, address, true);
}

bool connection_reaches(const struct connection *c, const struct mpt_address *address) {
    return same_address(address, &c->row.remote) || in_networks(c, address, false);
}

/* The entry of the addresses of `packet`; where it was not known, `found` and `reason` are to be set. */
struct flow *flow_of(struct flow *cache, const void *owner, unsigned version, const uint8_t *packet, bool *known) {
    size_t length = version == 4 ? 8 : 32;
    const uint8_t *addresses = packet + (version == 4 ? 12 : 8);
    uint64_t hash = (uint64_t)(uintptr_t)owner;
    for (size_t i = 0; i < length; i += 8) {
        uint64_t word;
        memcpy(&word, addresses + i, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    }
    struct flow *flow = &cache[hash >> 54];
    *known = flow->owner == owner && flow->version == version && memcmp(flow->addresses, addresses, length) == 0;
    if (!*known) {
        flow->owner = owner;
        flow->version = (uint8_t)version;
        memcpy(flow->addresses, addresses, length);
    }
    return flow;
}

/* --- time and counters --- */

void mpt_deadline_reached(struct mpt_datapath *dp, double now) {
    for (struct connection *c = dp->connections; c < dp->connections + dp->connection_count; c++)
        if (c->order != NULL && ordering_held(c->order) > 0)
            ordering_deadline(c->order, now);
    delivery_write(dp);
}

double mpt_next_deadline(const struct mpt_datapath *dp) {
    double first = -1;
    for (struct connection *c = dp->connections; c < dp->connections + dp->connection_count; c++) {
        double deadline = c->order != NULL ? ordering_next_deadline(c->order) : -1;
        if (deadline >= 0 && (first < 0 || deadline < first))
            first = deadline;
    }
    return first;
}

void mpt_counters(const struct mpt_datapath *dp, struct mpt_counters *counters) {
    *counters = dp->counters;
    for (struct connection *c = dp->connections; c < dp->connections + dp->connection_count; c++)
        if (c->order != NULL) {
            ordering_drops(c->order, counters->ingress_dropped);
            counters->packets_held += ordering_held(c->order);
        }
}

int mpt_offloads(const struct mpt_datapath *dp) {
    int offloads = dp->offloads;
    for (struct connection *c = dp->connections; c < dp->connections + dp->connection_count; c++)
        for (uint32_t i = 0; i < c->row.path_count; i++)
            if (c->paths[i].row.usable && !c->paths[i].segment)
                offloads &= ~MPT_UDP_SEGMENT;
    return offloads;
}
