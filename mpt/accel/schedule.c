/* Which path carries the next packet: the weighted cycle of the draft (section 5.1), as mpt/data/scheduler.py has it.
 *
 * The draft's sum of a path is picks * L / weight with L the least common multiple of the weights, a number of up to 266
 * bits. The next packet goes to the smallest (picks + 1) / weight, the lowest index first; these fractions are compared
 * crosswise. At the end of a cycle all sums are equal, which is the same as a fresh start, so picks stay <= weight.
 */

#include "schedule.h"

#include "_native.h"

void cycle_start(struct cycle_entry *entries, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        entries[i].picks = 0;
}

uint32_t cycle_next(struct cycle_entry *entries, uint32_t count) {
    struct cycle_entry *best = entries;
    for (struct cycle_entry *e = entries + 1; e < entries + count; e++)
        if ((uint64_t)(e->picks + 1) * best->weight < (uint64_t)(best->picks + 1) * e->weight)
            best = e;
    best->picks++;
    if (best->picks == best->weight) { /* at the end of the cycle all have picked `weight` times */
        for (struct cycle_entry *e = entries; e < entries + count; e++)
            if (e->picks != e->weight)
                return best->index;
        cycle_start(entries, count);
    }
    return best->index;
}

void mpt_cycle(const uint32_t *weights, uint32_t paths, uint32_t *picks, uint32_t count) {
    struct cycle_entry entries[256];
    if (paths == 0 || paths > 256)
        return;
    for (uint32_t i = 0; i < paths; i++)
        entries[i] = (struct cycle_entry){.index = i, .weight = weights[i]};
    for (uint32_t i = 0; i < count; i++)
        picks[i] = cycle_next(entries, paths);
}
