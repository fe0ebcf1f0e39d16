/* See trial.h. */

#include "trial.h"

#include <stdlib.h>

struct trial { uint32_t *delivered, count; };

static void release(void *context, struct packet packet) {
    (void)context;
    free(packet.data);
}

static void deliver(void *context, struct packet packet) {
    struct trial *trial = context;
    trial->delivered[trial->count++] = get32(packet.data);
    free(packet.data);
}

static bool do_step(struct ordering *order, const struct mpt_order_step *step, uint32_t label) {
    struct packet packet = {.length = 4};
    switch (step->kind) {
    case 0:
        if ((packet.data = malloc(packet.length)) == NULL)
            return false;
        put32(packet.data, label);
        struct mark mark = {step->sequence, step->key, step->has_key != 0, step->stamp};
        ordering_arrive(order, mark, packet, step->path, step->now);
        break;
    case 1: ordering_deadline(order, step->now); break;
    case 2: ordering_keepalive(order, step->path, step->now); break;
    case 3: ordering_path_up(order, step->path, step->now); break;
    case 4: ordering_path_down(order, step->path, step->now); break;
    default: ordering_flush(order);
    }
    return true;
}

int64_t mpt_order(const struct mpt_tuning *tuning, uint32_t window, double max_delay, int has_stamps,
                  const struct mpt_order_step *steps, uint32_t count, uint32_t *delivered, uint32_t *ends,
                  double *deadlines, uint64_t *dropped) {
    struct trial trial = {delivered, 0};
    struct sink sink = {deliver, release, &trial};
    struct ordering *order = ordering_new(tuning, window, max_delay, has_stamps, 0x9E3779B97F4A7C15u, sink);
    if (order == NULL)
        return -1;
    bool good = true;
    for (uint32_t i = 0; good && i < count; i++) {
        good = do_step(order, &steps[i], i);
        ends[i] = trial.count;
        deadlines[i] = ordering_next_deadline(order);
    }
    ordering_drops(order, dropped);
    uint32_t held = ordering_held(order);
    ordering_free(order);
    return good ? (int64_t)held : -1;
}
