/* The connections and their paths, as control gives them; the look-up of a packet's addresses. */
#ifndef MPT_TABLE_H
#define MPT_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "packet.h"
#include "pathstate.h"
#include "session.h"

struct path {
    struct mpt_path_row row; /* usable only with a socket */
    struct path_state *state;
    uint32_t index, connection; /* its place in the table, and its connection's */
    bool is_wanted; /* control wants to use it, and will as soon as it has a socket and a place to send to */
};
struct connection {
    struct mpt_connection_row row; /* its pointers point into `storage` */
    void *storage;
    struct path *paths; /* row.path_count of them */
    uint32_t index;
    struct owner *owner; /* of its sessions; NULL: it is not sealed */
    uint8_t place_of_id[PATH_IDS]; /* of a sealed one: 1 + the place in `paths`; 0: no path has the id */
};
struct table {
    struct connection *connections;
    struct path *paths; /* of all connections, in their order */
    uint32_t connection_count, path_count;
};
/* Make a table, and the missing states of its paths and owners of its sessions. NULL: no memory. */
struct table *table_new(struct path_states *states, struct sessions *sessions, const struct mpt_connection_row *rows,
                        uint32_t count);
void table_free(struct table *table);
static inline uint32_t path_carries(const struct path *path) { /* octets of the largest packet */
    return path->row.mtu != 0 ? path->row.mtu : UINT32_MAX;
}
void table_enter(const struct table *table); /* from now on the states of its paths and the owners name its rows */
void table_leave(const struct table *table); /* from now on they name no rows */
bool path_find_out(struct path *path); /* whether it is usable; return whether that has changed */
const struct path *connection_path_of_id(const struct connection *connection, uint32_t path_id); /* in envelopes; or NULL */
const struct connection *table_find(const struct table *table, uint32_t id); /* NULL: there is none */
bool connection_is_here(const struct connection *connection, const struct mpt_address *address);
/* Return how precisely `address` is known to be at the peer: ADDRESS for its tunnel address, else 1 + the length of the
 * longest prefix behind it that has the address, else 0. */
enum { ADDRESS = 130 };
uint32_t connection_reach(const struct connection *connection, const struct mpt_address *address);
/* Return whether `destination` is many hosts: multicast, or broadcast in the tunnel's prefix. */
bool connection_is_group(const struct connection *connection, const struct mpt_address *destination);
/* Return whether a packet to the group `destination` goes to this peer, too. */
bool connection_takes_group(
    const struct connection *connection, const struct mpt_address *source, const struct mpt_address *destination
);
/* Return the path that the port rules name for `packet`, usable or not; NULL: none. */
const struct path *connection_mapped_path(const struct connection *connection, const uint8_t *packet, uint32_t length);

enum { FLOWS = 1024 }; /* entries of a cache; a pair replaces another pair in its place */

struct flow { /* one entry of a cache of inner address pairs */
    const void *owner; /* a source of datagrams, or the cache itself; NULL: empty */
    uint8_t version, reason;
    uint8_t addresses[32];
    const void *found;
};
struct flow_cache { struct flow flows[FLOWS]; };
/* Return the entry of the addresses of `packet`; if it was not `known`, the caller sets `found` and `reason`. */
struct flow *flow_of(struct flow_cache *cache, const void *owner, unsigned version, const uint8_t *packet, bool *known);
void flow_cache_clear(struct flow_cache *cache);

#endif
