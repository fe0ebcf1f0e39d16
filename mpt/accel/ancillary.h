/* What goes with a message of a socket besides its octets: its name, TOS octet and sizes. Pure. */
#ifndef MPT_ANCILLARY_H
#define MPT_ANCILLARY_H

#include <stdint.h>
#include <sys/socket.h>

#include "packet.h"

union ancillary { /* room for the size of the segments and the TOS octet */
    struct cmsghdr aligned;
    uint8_t octets[2 * CMSG_SPACE(sizeof(int))];
};
/* Add to a message to `name`, at first with no ancillary data: the size of the segments into which the kernel cuts it; its TOS
 * octet, of the family of `name`. */
void ancillary_add_segment_size(struct msghdr *message, union ancillary *room, uint32_t size);
void ancillary_add_tos(struct msghdr *message, union ancillary *room, const uint8_t *name, uint8_t tos);
/* Read a received one: return the size of the datagrams in it, 0 for a single one, and their ECN field. */
uint32_t ancillary_read(struct msghdr *message, unsigned *ecn);
struct mpt_address ancillary_address(const void *name, size_t length); /* of a name; version 0 for a connected socket's */

#endif
