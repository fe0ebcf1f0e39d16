/* Which path carries the next packet: the weighted cycle of the draft (section 5.1), as mpt/data/scheduler.py has it.
 *
 * The draft's sum of a path is picks * L / weight with L the least common multiple of the weights, a number of up to 266
 * bits. The next packet goes to the smallest (picks + 1) / weight, the lowest index first; these fractions are compared
 * crosswise. At the end of a cycle all sums are equal, which is the same as a fresh start, so picks stay <= weight.
 */

#include "schedule.h"

#include <stddef.h>

#include "_native.h"

void cycle_start(struct cycle_entry *entries, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        entries[i].picks = 0;
}

static uint32_t pick(struct cycle_entry *entries, uint32_t count, struct cycle_entry *best) {
    best->picks++;
    if (best->picks == best->weight) { /* at the end of the cycle all have picked `weight` times */
        for (struct cycle_entry *e = entries; e < entries + count; e++)
            if (e->picks != e->weight)
                return best->index;
        cycle_start(entries, count);
    }
    return best->index;
}

static bool is_before(const struct cycle_entry *e, const struct cycle_entry *other) { /* of two in their order */
    return (uint64_t)(e->picks + 1) * other->weight < (uint64_t)(other->picks + 1) * e->weight;
}

uint32_t cycle_next(struct cycle_entry *entries, uint32_t count) {
    struct cycle_entry *best = entries;
    for (struct cycle_entry *e = entries + 1; e < entries + count; e++)
        if (is_before(e, best))
            best = e;
    return pick(entries, count, best);
}

static struct cycle_entry *first_fitting(struct cycle_entry *entries, uint32_t count) {
    struct cycle_entry *best = NULL;
    for (struct cycle_entry *e = entries; e < entries + count; e++)
        if (e->fits && (best == NULL || is_before(e, best)))
            best = e;
    return best;
}

uint32_t cycle_next_fitting(struct cycle_entry *entries, uint32_t count) {
    struct cycle_entry *best = first_fitting(entries, count);
    if (best == NULL)
        return UINT32_MAX;
    if (best->picks == best->weight) { /* the others end the cycle before it */
        cycle_start(entries, count);
        best = first_fitting(entries, count);
    }
    for (struct cycle_entry *e = entries; e < entries + count; e++) { /* the turns of those before it are over */
        uint64_t turns = (uint64_t)(best->picks + 1) * e->weight;
        uint32_t over = (uint32_t)((turns - (e > best)) / best->weight);
        if (!e->fits && over > e->picks)
            e->picks = over;
    }
    return pick(entries, count, best);
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

void mpt_fitting_cycle(const uint32_t *weights, uint32_t paths, const uint32_t *fitting, uint32_t *picks, uint32_t count) {
    struct cycle_entry entries[32];
    if (paths == 0 || paths > 32)
        return;
    for (uint32_t i = 0; i < paths; i++)
        entries[i] = (struct cycle_entry){.index = i, .weight = weights[i]};
    for (uint32_t k = 0; k < count; k++) {
        for (uint32_t i = 0; i < paths; i++)
            entries[i].fits = fitting[k] >> i & 1;
        picks[k] = cycle_next_fitting(entries, paths);
    }
}
