/* Sealed datagrams as they arrive: control is told, or the content of the envelope goes on. */
#ifndef MPT_UNSEAL_H
#define MPT_UNSEAL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "adaptives.h"
#include "events.h"
#include "handshake.h"
#include "table.h"

struct unsealer {
    struct sessions *sessions;
    struct events *events;
    struct mpt_counters *counters;
    struct adaptives *adaptives; /* NULL: no connection adapts */
    struct gate gate;
    uint32_t told_in_wake, handshakes; /* handshake datagrams that control was told of in that wake-up */
};
struct origin { /* where a datagram came from, and to, and when */
    const struct sockaddr_in6 *name; /* or a struct sockaddr_in */
    socklen_t name_length;
    int fd;
    double waited;       /* seconds for which it waited in the socket */
};
struct content { /* a GRE datagram out of an envelope, and its path; NULL: there is none, as control was told */
    const struct path *path;
    uint8_t *octets;
    uint32_t length;
    uint16_t stamp;
};
static inline bool is_sealed(const uint8_t *datagram, uint32_t length) { return length > 0 && datagram[0] & SEALED_BIT; }
/* Return 0, or the reason to drop it. It is opened in its place. */
int unseal(struct unsealer *unsealer, uint8_t *datagram, uint32_t length, const struct origin *origin, double now,
           struct content *content);

#endif
