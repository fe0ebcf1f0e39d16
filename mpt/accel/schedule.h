/* The weighted cycle. Pure. */
#ifndef MPT_SCHEDULE_H
#define MPT_SCHEDULE_H

#include <stdint.h>

struct cycle_entry { uint32_t index, weight, picks; };
void cycle_start(struct cycle_entry *entries, uint32_t count);
uint32_t cycle_next(struct cycle_entry *entries, uint32_t count); /* count >= 1; return the next index */

#endif
