/* What is known about the paths of one connection: mpt/data/knowledge.py, which has the reasons, function by function. */

#include "knowledge.h"

#include <math.h>
#include <stdlib.h>

void knowledge_init(struct knowledge *k, const struct mpt_tuning *tuning, uint32_t window, double max_delay,
                    struct equalizer *equalizer) {
    *k = (struct knowledge){.tuning = tuning, .equalizer = equalizer, .window = window, .longest_wait = max_delay,
                            .learned_at = -1, .review_at = tuning->review};
    k->memory = 8 * (uint64_t)window + 16 * (uint64_t)tuning->review;
}

void knowledge_destroy(struct knowledge *k) { free(k->paths); }

bool knowledge_grow(struct knowledge *k) {
    if (k->path_count < k->room)
        return true;
    struct progress *more = realloc(k->paths, (k->room + PATHS_MORE) * sizeof *more);
    if (more == NULL)
        return false;
    k->paths = more;
    k->room += PATHS_MORE;
    return true;
}

void knowledge_add(struct knowledge *k, uint32_t path, double now, uint64_t brought_by_all) {
    k->paths[k->path_count++] = (struct progress){path, now, NOTHING_SENT, brought_by_all, 0, -1, false};
}

void knowledge_path_came(struct knowledge *k) {
    for (uint32_t i = 0; i < k->path_count; i++)
        k->paths[i].count = 1;
    k->total = k->path_count;
    k->lost = 0;
    k->learned_at = -1;
}

void knowledge_remove(struct knowledge *k, uint32_t place) {
    k->total -= k->paths[place].count;
    k->paths[place] = k->paths[--k->path_count];
}

/* Let old packets count for less, and tell the equalizer which paths bring little. */
void knowledge_review(struct knowledge *k) {
    k->review_at += k->tuning->review;
    if (k->total > k->memory) {
        k->total = 0;
        for (uint32_t i = 0; i < k->path_count; i++)
            k->total += k->paths[i].count /= 2;
        k->lost /= 2;
    }
    double good = knowledge_good_count(k);
    bool changed = false;
    for (uint32_t i = 0; i < k->path_count; i++) {
        struct progress *progress = &k->paths[i];
        bool is_minor = (double)progress->count < (progress->is_minor ? good : good / 2);
        if (is_minor == progress->is_minor)
            continue;
        changed = true;
        progress->is_minor = is_minor;
        equalizer_set_minor(k->equalizer, progress->path, is_minor);
    }
    if (changed)
        equalizer_update(k->equalizer);
}

void knowledge_filled(struct knowledge *k, uint32_t place, double waited) {
    double *filled_in = &k->paths[place].filled_in;
    *filled_in = fmax(waited, k->tuning->patience_decay * fmax(*filled_in, 0));
}

void knowledge_came_late(struct knowledge *k, int32_t place) {
    if (k->lost > 0)
        k->lost--;
    if (place >= 0)
        k->paths[place].filled_in = -1;
}

void knowledge_reordered(struct knowledge *k, double waited, double now) {
    k->reordered_by = fmax(waited, now < k->reorders_until ? k->reordered_by : 0);
    k->reorders_until = now + k->tuning->distrust;
}

double knowledge_patience_with_reordering(const struct knowledge *k, double seen) {
    return seen < k->reorders_until ? k->tuning->patience_gain * k->reordered_by + k->tuning->short_wait : 0;
}

bool knowledge_is_silent(const struct knowledge *k, const struct progress *progress) {
    return k->brought - progress->brought_by_all > k->window;
}

double knowledge_good_count(const struct knowledge *k) {
    return (double)k->total * fmin(k->tuning->good_part, k->tuning->fair_part / k->path_count);
}

double knowledge_patience(const struct knowledge *k, const struct progress *progress) {
    const struct mpt_tuning *tuning = k->tuning;
    if (progress->count == 0)
        return 0;
    if ((double)progress->count < (double)k->total * tuning->poor_part
        || progress->count < (uint64_t)tuning->many * (k->lost + 1))
        return tuning->short_wait;
    if (progress->filled_in < 0)
        return k->longest_wait;
    return tuning->patience_gain * progress->filled_in + tuning->short_wait;
}
