/* The order of the flows of an adaptive connection, as its sender wants it. Pure but for its memory. */
#ifndef MPT_PLAYOUT_H
#define MPT_PLAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "ordering.h"

struct playout;
/* At most `window` packets are held; `longest` bounds every hold, in seconds. NULL: no memory. */
struct playout *playout_new(const struct mpt_tuning *tuning, uint32_t window, double longest, uint64_t secret, struct sink sink);
void playout_free(struct playout *playout);
/* Take what the peer says: seconds that a gap is waited for, and the delay in ticks before which no TCP packet goes, and no pure
 * acknowledgement if `acks`; -1: there is none. Packets that are held keep their time. */
void playout_set(struct playout *playout, double hold, int32_t ticks, bool acks);
void playout_arrive(struct playout *playout, struct mark mark, struct packet packet, double now);
void playout_deadline(struct playout *playout, double now); /* deliver the packets whose time has come */
double playout_next_deadline(struct playout *playout); /* -1: nothing is held */
void playout_flush(struct playout *playout, double now); /* deliver everything */
void playout_copy_out(struct playout *playout); /* copy all held packets out of the pool */
uint32_t playout_held(const struct playout *playout);
void playout_count(const struct playout *playout, struct mpt_adaptive_counters *counters); /* set those of this side */

#endif
