/* Lookup tables of ingress: socket -> listener, (socket, peer) -> paths. */
#ifndef MPT_LISTEN_H
#define MPT_LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "table.h"

struct listener { /* a socket; sorted by number */
    int fd;
    bool is_sealed;          /* plain paths have it not alone: bit 6 of a datagram's first octet decides */
    bool is_behind;          /* it has more than we have taken */
    uint32_t message_length; /* of the longest lately: gives how many to ask for */
    uint32_t done_in_wake;   /* the wake-up in which it had no more */
};
struct source { /* one outer address that may send to one socket; sorted by socket and address */
    int fd;
    struct mpt_address peer, loop;
    const struct path **paths;
    uint32_t path_count;
};
struct listening {
    struct listener *listeners, **of_path; /* by the path's index; NULL: it has no socket */
    struct source *sources;
    const struct path **paths; /* of the sources: the plain ones */
    uint32_t listener_count, source_count, behind_count; /* `behind_count` listeners are behind */
};
bool listening_init(struct listening *listening, const struct table *table); /* false: no memory, all is freed */
void listening_destroy(struct listening *listening);
struct listener *find_listener(const struct listening *listening, int fd); /* NULL: no path has this socket */
const struct source *find_source(const struct listening *listening, int fd, const struct mpt_address *peer);

#endif
