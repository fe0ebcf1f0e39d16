/* A single datagram to the network: a message of control, or a packet that goes alone. */
#ifndef MPT_TRANSMIT_H
#define MPT_TRANSMIT_H

#include <stdint.h>
#include <sys/uio.h>

#include "table.h"

struct place { /* where datagrams go: over this socket to this address */
    int fd;
    const uint8_t *name; /* struct sockaddr_in or sockaddr_in6 */
    uint32_t name_length; /* 0: the socket is connected */
};
static inline struct place place_of(const struct path *path) {
    return (struct place){path->row.fd, path->row.outer_remote, path->row.outer_remote_length};
}
static inline void *place_name(const struct place *place) { /* NULL if the socket is connected */
    return place->name_length ? (void *)(uintptr_t)place->name : NULL;
}
int transmit(const struct place *place, const struct iovec *pieces, size_t count, uint8_t tos); /* 0, or the errno */
/* Send a message of control as one of `path`. Return 0, or the errno; ENOENT: it is sealed, and has no session. */
int transmit_message(const struct connection *connection, const struct path *path, const struct place *place,
                     const uint8_t *message, uint32_t length, uint16_t stamp);

#endif
