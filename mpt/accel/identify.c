/* See identify.h. The twin is _identify() of mpt/data/ingress.py. */

#include "identify.h"

const struct path *identify(struct flow_cache *flows, const struct table *table, const struct source *source,
                            const struct opened *opened, int *reason) {
    const uint8_t *packet = opened->payload;
    unsigned version = ip_version(packet, opened->length);
    bool known;
    *reason = MPT_INNER_TRUNCATED;
    if (version == 0)
        return NULL;
    struct flow *flow = flow_of(flows, source, version, packet, &known);
    if (!known) {
        struct mpt_address sender = ip_source(packet), destination = ip_destination(packet);
        flow->found = NULL;
        flow->reason = MPT_INNER_SOURCE;
        if (same_address(&destination, &source->loop))
            flow->reason = MPT_LOOP; /* RFC 2784 section 2.4.1: the packet would come back to its encapsulator */
        else {
            uint32_t best = 0; /* a connection that has the destination goes before one that knows the sender better */
            for (uint32_t i = 0; i < source->path_count; i++) {
                const struct connection *c = &table->connections[source->paths[i]->connection];
                uint32_t reach = connection_reach(c, &sender);
                uint32_t fit = reach && connection_is_here(c, &destination) ? reach + ADDRESS : reach;
                if (fit > best) {
                    best = fit;
                    flow->found = source->paths[i];
                }
            }
        }
    }
    *reason = flow->reason;
    return flow->found;
}

int check_sender(struct flow_cache *flows, const struct table *table, const struct path *path, const struct opened *opened) {
    unsigned version = ip_version(opened->payload, opened->length);
    bool known;
    if (version == 0)
        return MPT_INNER_TRUNCATED;
    struct flow *flow = flow_of(flows, path, version, opened->payload, &known);
    if (!known) {
        struct mpt_address sender = ip_source(opened->payload), destination = ip_destination(opened->payload);
        flow->reason = MPT_NONE;
        if (same_address(&destination, &path->row.loop))
            flow->reason = MPT_LOOP;
        else if (connection_reach(&table->connections[path->connection], &sender) == 0)
            flow->reason = MPT_INNER_SOURCE;
    }
    return flow->reason;
}
