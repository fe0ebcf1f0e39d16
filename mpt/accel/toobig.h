/* The answer to a packet that no path carries in one piece. Pure. */
#ifndef MPT_TOOBIG_H
#define MPT_TOOBIG_H

#include <stdbool.h>
#include <stdint.h>

#include "packet.h"

enum { ANSWER_ROOM = 1280 }; /* octets of an answer */
/* Write the packet from `sender` that tells the sender of `packet` that packets may have `size` octets. Return its length; 0:
 * nobody may be told so. `packet` has the version of `sender`; more of it than is quoted need not be there. */
uint32_t too_big_answer(const uint8_t *packet, uint32_t length, uint32_t size, const struct mpt_address *sender, uint8_t *out);

struct allowance { double left, when; }; /* begins with {at_once, 0} */
/* Return whether one more may be given at `now`, monotonic seconds; then it counts. `rate` a second may, and `at_once`. */
static inline bool allowance_take(struct allowance *allowance, double rate, double at_once, double now) {
    double left = allowance->left + (now - allowance->when) * rate;
    left = left < at_once ? left : at_once;
    *allowance = (struct allowance){left < 1 ? left : left - 1, now};
    return left >= 1;
}

#endif
