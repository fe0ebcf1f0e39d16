/* What goes with a message of a socket besides its octets: its name, TOS octet and sizes. Pure. */
#ifndef MPT_ANCILLARY_H
#define MPT_ANCILLARY_H

#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "packet.h"

union ancillary { /* room for the size of the segments, the TOS octet, and a time */
    struct cmsghdr aligned;
    uint8_t octets[2 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct timespec))];
};
/* Add to a message to `name`, at first with no ancillary data: the size of the segments into which the kernel cuts it; its TOS
 * octet, of the family of `name`. */
void ancillary_add_segment_size(struct msghdr *message, union ancillary *room, uint32_t size);
void ancillary_add_tos(struct msghdr *message, union ancillary *room, const uint8_t *name, uint8_t tos);
struct received { /* what a received message says beside its octets */
    uint32_t size;        /* of the datagrams in it; 0: it is a single one */
    unsigned ecn;         /* their ECN field */
    struct timespec came; /* when the kernel got it, by the wall clock; 0: it does not say */
};
struct received ancillary_read(struct msghdr *message);
/* Return the seconds for which a message has waited in its socket until `now` (the wall clock); 0: longer than `longest`. */
double ancillary_waited(const struct received *received, const struct timespec *now, double longest);
struct mpt_address ancillary_address(const void *name, size_t length); /* of a name; version 0 for a connected socket's */

#endif
