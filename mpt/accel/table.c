/* See table.h. The twin is mpt/data/pathtable.py. */

#include "table.h"

#include <stdlib.h>

/* Copy `size` octets to `*at`, and move it behind them, aligned for any type. */
static void *append(uint8_t **at, const void *from, size_t size) {
    void *to = *at;
    if (size)
        memcpy(to, from, size);
    *at += (size + 15) / 16 * 16;
    return to;
}

static bool connection_init(struct connection *c, const struct mpt_connection_row *row, struct path *paths) {
    size_t networks = row->network_count * sizeof *row->networks, rules = row->rule_count * sizeof *row->rules;
    size_t classes = row->class_count * sizeof *row->classes, ranges = 0;
    for (uint32_t i = 0; i < row->class_count; i++)
        ranges += row->classes[i].range_count * sizeof *row->classes[i].ranges + 16;
    c->row = *row;
    c->row.paths = NULL;
    c->paths = paths;
    c->storage = malloc(networks + rules + classes + ranges + 3 * 16);
    if (c->storage == NULL)
        return false;
    uint8_t *at = c->storage;
    c->row.networks = append(&at, row->networks, networks);
    c->row.rules = append(&at, row->rules, rules);
    c->row.classes = append(&at, row->classes, classes);
    for (uint32_t i = 0; i < row->class_count; i++) {
        struct mpt_class_rule *rule = &c->row.classes[i];
        rule->ranges = append(&at, rule->ranges, rule->range_count * sizeof *rule->ranges);
    }
    return true;
}

/* Note which path has which id; of two with the same the first. */
static bool sealed_init(struct connection *c, struct sessions *sessions) {
    for (uint32_t i = 0; i < c->row.path_count; i++) {
        uint32_t id = c->paths[i].row.seal_id;
        if (id < PATH_IDS && i < UINT8_MAX && c->place_of_id[id] == 0)
            c->place_of_id[id] = (uint8_t)(i + 1);
    }
    bool good = owner_ensure(sessions, c->row.id);
    c->owner = owner_of(sessions, c->row.id);
    return good;
}

bool path_find_out(struct path *path) {
    bool before = path->row.usable;
    path->row.usable = path->is_wanted && path->row.fd >= 0 && !path->row.unplaced;
    return path->row.usable != before;
}

struct table *table_new(struct path_states *states, struct sessions *sessions, const struct mpt_connection_row *rows,
                        uint32_t count) {
    struct table *table = calloc(1, sizeof *table);
    size_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += rows[i].path_count;
    if (table == NULL)
        return NULL;
    table->connections = calloc(count + 1, sizeof *table->connections);
    table->paths = calloc(total + 1, sizeof *table->paths);
    bool good = table->connections != NULL && table->paths != NULL;
    for (uint32_t i = 0; good && i < count; i++) {
        struct connection *c = &table->connections[table->connection_count++];
        good = connection_init(c, &rows[i], &table->paths[table->path_count]);
        c->index = i;
        for (uint32_t k = 0; good && k < rows[i].path_count; k++) {
            uint32_t index = table->path_count++;
            struct path *path = &table->paths[index];
            good = path_state_ensure(states, rows[i].paths[k].id);
            *path = (struct path){.row = rows[i].paths[k], .index = index, .connection = i,
                                  .state = path_state_of(states, rows[i].paths[k].id)};
            path->is_wanted = path->row.usable;
            path_find_out(path);
        }
        if (good && c->row.sealed)
            good = sealed_init(c, sessions);
    }
    if (!good) {
        table_free(table);
        return NULL;
    }
    return table;
}

void table_free(struct table *table) {
    if (table == NULL)
        return;
    for (uint32_t i = 0; i < table->connection_count; i++)
        free(table->connections[i].storage);
    free(table->connections);
    free(table->paths);
    free(table);
}

void table_enter(const struct table *table) {
    for (uint32_t i = 0; i < table->path_count; i++)
        table->paths[i].state->path = &table->paths[i];
    for (uint32_t i = 0; i < table->connection_count; i++)
        if (table->connections[i].owner != NULL)
            table->connections[i].owner->connection = &table->connections[i];
}

void table_leave(const struct table *table) {
    for (uint32_t i = 0; i < table->path_count; i++)
        table->paths[i].state->path = NULL;
    for (uint32_t i = 0; i < table->connection_count; i++)
        if (table->connections[i].owner != NULL)
            table->connections[i].owner->connection = NULL;
}

const struct connection *table_find(const struct table *table, uint32_t id) {
    for (uint32_t i = 0; i < table->connection_count; i++)
        if (table->connections[i].row.id == id)
            return &table->connections[i];
    return NULL;
}

const struct path *connection_path_of_id(const struct connection *c, uint32_t path_id) {
    uint32_t place = path_id < PATH_IDS ? c->place_of_id[path_id] : 0;
    return place > 0 ? &c->paths[place - 1] : NULL;
}

bool connection_is_here(const struct connection *c, const struct mpt_address *address) {
    if (same_address(address, &c->row.tunnel_local))
        return true;
    for (uint32_t i = 0; i < c->row.network_count; i++)
        if (c->row.networks[i].here && in_network(address, &c->row.networks[i]))
            return true;
    return false;
}

uint32_t connection_reach(const struct connection *c, const struct mpt_address *address) {
    uint32_t longest = 0;
    if (same_address(address, &c->row.tunnel_peer))
        return ADDRESS;
    for (uint32_t i = 0; i < c->row.network_count; i++) {
        const struct mpt_network *network = &c->row.networks[i];
        if (!network->here && network->length >= longest && in_network(address, network))
            longest = network->length + 1;
    }
    return longest;
}

bool connection_is_group(const struct connection *c, const struct mpt_address *destination) {
    static const struct mpt_address everybody = {.version = 4, .octets = {255, 255, 255, 255}};
    bool multicast = destination->version == 4 ? destination->octets[0] >> 4 == 14 : destination->octets[0] == 0xFF;
    return multicast || same_address(destination, &everybody) || same_address(destination, &c->row.broadcast);
}

bool connection_takes_group(
    const struct connection *c, const struct mpt_address *source, const struct mpt_address *destination
) {
    return same_address(source, &c->row.tunnel_local)
        || (connection_is_here(c, source) && connection_reach(c, destination) > 0);
}

static int by_key(const void *one, const void *two) {
    uint32_t a = ((const struct mpt_port_rule *)one)->key, b = ((const struct mpt_port_rule *)two)->key;
    return a < b ? -1 : a > b;
}

const struct path *connection_mapped_path(const struct connection *c, const uint8_t *packet, uint32_t length) {
    int64_t ports = c->row.rule_count ? mpt_ports(packet, length) : -1;
    if (ports < 0)
        return NULL;
    uint32_t protocol = (uint32_t)(ports >> 32) << 16;
    struct mpt_port_rule source = {.key = protocol | (ports >> 16 & 0xFFFF)};
    struct mpt_port_rule destination = {.key = 1u << 24 | protocol | (ports & 0xFFFF)};
    const struct mpt_port_rule *found = bsearch(&source, c->row.rules, c->row.rule_count, sizeof source, by_key);
    if (found == NULL)
        found = bsearch(&destination, c->row.rules, c->row.rule_count, sizeof destination, by_key);
    return found != NULL ? &c->paths[found->path] : NULL;
}

struct flow *flow_of(struct flow_cache *cache, const void *owner, unsigned version, const uint8_t *packet, bool *known) {
    size_t length = version == 4 ? 8 : 32;
    const uint8_t *addresses = packet + (version == 4 ? IP4_SOURCE : IP6_SOURCE);
    uint64_t hash = (uint64_t)(uintptr_t)owner;
    for (size_t i = 0; i < length; i += 8) {
        uint64_t word;
        memcpy(&word, addresses + i, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    }
    struct flow *flow = &cache->flows[hash >> 54]; /* FLOWS is 2^10 */
    *known = flow->owner == owner && flow->version == version && memcmp(flow->addresses, addresses, length) == 0;
    if (!*known) {
        flow->owner = owner;
        flow->version = (uint8_t)version;
        memcpy(flow->addresses, addresses, length);
    }
    return flow;
}

void flow_cache_clear(struct flow_cache *cache) { memset(cache, 0, sizeof *cache); }
