/* The weighted cycle. Pure. */
#ifndef MPT_SCHEDULE_H
#define MPT_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

struct cycle_entry {
    uint32_t index, weight, picks;
    bool fits; /* for cycle_next_fitting() */
};
void cycle_start(struct cycle_entry *entries, uint32_t count);
uint32_t cycle_next(struct cycle_entry *entries, uint32_t count); /* count >= 1; return the next index */
/* Return the first of the next indices that fits; those before it have had their turns. UINT32_MAX: none fits. */
uint32_t cycle_next_fitting(struct cycle_entry *entries, uint32_t count);

#endif
