/* See pathstate.h. The twin is mpt/data/pathstate.py. */

#include "pathstate.h"

#include <stdlib.h>
#include <string.h>

struct path_state *path_state_of(const struct path_states *states, uint32_t id) {
    return id < states->room ? states->by_id[id] : NULL;
}

bool path_state_ensure(struct path_states *states, uint32_t id) {
    if (id >= states->room) {
        uint32_t room = (id + 1) * 2;
        struct path_state **more = realloc(states->by_id, room * sizeof *more);
        if (more == NULL)
            return false;
        memset(more + states->room, 0, (room - states->room) * sizeof *more);
        states->by_id = more;
        states->room = room;
    }
    if (states->by_id[id] == NULL)
        states->by_id[id] = calloc(1, sizeof **states->by_id);
    return states->by_id[id] != NULL;
}

void path_states_destroy(struct path_states *states) {
    for (uint32_t i = 0; i < states->room; i++)
        free(states->by_id[i]);
    free(states->by_id);
}
