/* The answer to a packet that no path carries in one piece. Pure. */
#ifndef MPT_TOOBIG_H
#define MPT_TOOBIG_H

#include <stdint.h>

#include "packet.h"

enum { LEAST_IPV6 = 1280 }; /* octets that every way carries (RFC 8200 section 5) */
enum { ANSWER_ROOM = 1280 }; /* octets of an answer */
/* Write the packet from `sender` that tells the sender of `packet` that packets may have `size` octets. Return its length; 0:
 * nobody may be told so. `packet` has the version of `sender`; more of it than is quoted need not be there. */
uint32_t too_big_answer(const uint8_t *packet, uint32_t length, uint32_t size, const struct mpt_address *sender, uint8_t *out);

#endif
