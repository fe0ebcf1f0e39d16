/* What is known about the paths of one connection. Pure. */
#ifndef MPT_KNOWLEDGE_H
#define MPT_KNOWLEDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "equalize.h"

#define NOTHING_SENT (-((int64_t)1 << 62)) /* before every stamp */
enum { PATHS_MORE = 4 }; /* `room` grows by it */

struct progress { /* of one path */
    uint32_t path;
    double time;             /* of its last packet */
    int64_t sent;            /* when its last packet was sent */
    uint64_t brought_by_all; /* how many packets all paths had brought by then */
    uint64_t count;          /* of the recent packets */
    double filled_in;        /* seconds for which the gaps that it filled had waited; < 0: not known */
    bool is_minor;           /* it brings a small part of the packets */
};
struct knowledge {
    const struct mpt_tuning *tuning;
    struct equalizer *equalizer; /* is told which paths bring little */
    uint32_t window;
    double longest_wait;
    struct progress *paths;
    uint32_t path_count, room;
    uint64_t brought, review_at; /* packets, of all paths; when the parts of the paths are looked at again */
    double reorders_until, reordered_by;
    double learned_at;           /* before this time the parts are not known; < 0: no packet since a path came up */
    uint64_t memory, total, lost; /* `total` of the counts of the paths, `lost` positions given up in the same memory */
};
void knowledge_init(struct knowledge *knowledge, const struct mpt_tuning *tuning, uint32_t window, double max_delay,
                    struct equalizer *equalizer);
void knowledge_destroy(struct knowledge *knowledge);
bool knowledge_grow(struct knowledge *knowledge);                         /* room for one more path; false: no memory */
void knowledge_add(struct knowledge *knowledge, uint32_t path, double now, uint64_t brought_by_all); /* there is room */
void knowledge_path_came(struct knowledge *knowledge);                    /* a path was added that came up */
void knowledge_remove(struct knowledge *knowledge, uint32_t place);       /* the last path takes its place */
void knowledge_review(struct knowledge *knowledge); /* of knowledge_brought() */
void knowledge_filled(struct knowledge *knowledge, uint32_t place, double waited);
void knowledge_came_late(struct knowledge *knowledge, int32_t place);
void knowledge_reordered(struct knowledge *knowledge, double waited, double now);
double knowledge_patience_with_reordering(const struct knowledge *knowledge, double seen);
bool knowledge_is_silent(const struct knowledge *knowledge, const struct progress *progress); /* for a window of packets */
double knowledge_good_count(const struct knowledge *knowledge);
double knowledge_patience(const struct knowledge *knowledge, const struct progress *progress);

/* The place of a path; -1: not known. */
static inline int32_t knowledge_find(const struct knowledge *k, uint32_t path) {
    for (uint32_t i = 0; i < k->path_count; i++)
        if (k->paths[i].path == path)
            return (int32_t)i;
    return -1;
}

static inline void knowledge_brought(struct knowledge *k, uint32_t place, double now, int64_t sent) {
    struct progress *progress = &k->paths[place];
    progress->time = now;
    progress->sent = sent;
    progress->brought_by_all = ++k->brought;
    progress->count++;
    k->total++;
    if (k->learned_at < 0)
        k->learned_at = now + k->longest_wait;
    if (k->brought == k->review_at)
        knowledge_review(k);
}

#endif
