/* The state of every path that ever was in a table, by its id. It outlives the tables: a used number must not be used again
 * because an operator took the path down and up. */
#ifndef MPT_PATHSTATE_H
#define MPT_PATHSTATE_H

#include <stdbool.h>
#include <stdint.h>

#include "_native.h"

struct path;
struct room;
struct path_state {
    struct mpt_path_counters counters;
    const struct path *path; /* its row in the present table; NULL: it has none */
    struct room *room; /* of an adaptive connection; NULL: it never was of one */
    uint32_t told_in_wake, messages; /* messages that control was told of in that wake-up, and below: that it moved */
    bool is_moved, is_copied;
};
struct path_states {
    struct path_state **by_id; /* NULL: never seen */
    uint32_t room;
};
struct path_state *path_state_of(const struct path_states *states, uint32_t id); /* NULL: never seen */
bool path_state_ensure(struct path_states *states, uint32_t id); /* make it, unless it is there; false: no memory */
void path_states_destroy(struct path_states *states);

#endif
