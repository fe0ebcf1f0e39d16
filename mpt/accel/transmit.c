/* See transmit.h. The twin is PathSockets of mpt/data/egress.py. */

#include "transmit.h"

#include <errno.h>
#include <sys/socket.h>

#include "ancillary.h"
#include "frame.h"

enum { MESSAGE_ROOM = 1 << 18 }; /* octets: more than the run that has filled a socket beyond its limit */

int transmit(const struct place *place, const struct iovec *pieces, size_t count, uint8_t tos) {
    struct msghdr message = {
        .msg_name = place_name(place), .msg_namelen = place->name_length,
        .msg_iov = (struct iovec *)(uintptr_t)pieces, .msg_iovlen = count,
    };
    union ancillary ancillary;
    if (tos)
        ancillary_add_tos(&message, &ancillary, place->name, tos);
    while (sendmsg(place->fd, &message, MSG_DONTWAIT) < 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

/* The kernel doubles the value, for its headers. */
static void limit_waiting(int fd, int octets) {
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &octets, sizeof octets) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &octets, sizeof octets);
}

/* The socket may be full of packets; a message may be one more, or a full line would look like a lossy one. */
static int transmit_beyond(const struct place *place, const struct iovec *pieces, size_t count, uint8_t tos) {
    int error = transmit(place, pieces, count, tos), limit;
    socklen_t length = sizeof limit;
    if (error != EAGAIN || getsockopt(place->fd, SOL_SOCKET, SO_SNDBUF, &limit, &length) < 0)
        return error;
    limit_waiting(place->fd, limit / 2 + MESSAGE_ROOM);
    error = transmit(place, pieces, count, tos);
    limit_waiting(place->fd, limit / 2);
    return error;
}

int transmit_message(const struct connection *c, const struct path *path, const struct place *place, const uint8_t *message,
                     uint32_t length, uint16_t stamp) {
    if (!c->row.sealed) {
        uint8_t head[FRAME_ROOM];
        frame_put(head, c->row.tunnel_local.version, UNNUMBERED, 0);
        struct iovec pieces[2] = {{head, frame_length(UNNUMBERED)}, {(void *)(uintptr_t)message, length}};
        return transmit_beyond(place, pieces, 2, c->row.message_tos);
    }
    uint8_t datagram[MAX_PACKET];
    if (c->owner->sending == NULL)
        return ENOENT;
    if (length > sizeof datagram - SEAL_OVERHEAD)
        return EMSGSIZE;
    memcpy(datagram + ENVELOPE_HEAD, message, length);
    session_close(c->owner->sending, path->row.seal_id, datagram, length + SEAL_OVERHEAD, stamp);
    struct iovec piece = {datagram, length + SEAL_OVERHEAD};
    return transmit_beyond(place, &piece, 1, c->row.message_tos);
}
