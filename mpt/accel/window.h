/* The packets that all streams of a connection hold. Pure but for their memory. */
#ifndef MPT_WINDOW_H
#define MPT_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"

struct held { /* the packets that one stream holds */
    uint32_t count;
    int32_t oldest, youngest; /* slots, in the order in which they were put here */
    uint32_t pooled;          /* packets that lie in buffers of the pool */
    int64_t *heap;            /* positions held, and delivered ones that have not left it yet */
    uint32_t heap_count, heap_room;
    bool keeps_heap;          /* it is the only stream */
    uint64_t salt;            /* of the hash: other streams hold the same positions */
};
struct slot {
    const struct held *owner;
    int64_t position;
    double time, arrival_time; /* when it was put here, and when it came */
    int64_t sent;
    uint32_t path;
    struct packet packet;
    int32_t chain;            /* the next of its hash chain, or of the free slots */
    int32_t earlier, later;   /* neighbours among the packets of its stream */
};
struct window {
    uint32_t size, count;     /* at most `size` are held, but for one that has just come */
    struct slot *slots;       /* `room` of them; those from `used` on were never used */
    uint32_t room, used;
    int32_t *chains, free;
    unsigned shift;           /* 64 less the bits of the hash */
    uint64_t secret;          /* of the hash, odd: a peer that knew it could make all its numbers fall on one chain */
    struct sink sink;
};
bool window_init(struct window *window, uint32_t size, uint64_t secret, struct sink sink); /* false: no memory */
void window_destroy(struct window *window);
void held_init(struct held *held, uint64_t salt, bool keeps_heap);
void held_destroy(struct window *window, struct held *held); /* releases the packets; only held_init() may follow */
const struct slot *window_find(const struct window *window, const struct held *held, int64_t position); /* NULL: none */
const struct slot *window_oldest(const struct window *window, const struct held *held); /* something must be held */
const struct slot *window_lowest(const struct window *window, struct held *held);       /* something must be held */
/* Hold a packet. The caller sets its path and times. NULL: no memory. */
struct slot *window_hold(struct window *window, struct held *held, int64_t position, struct packet packet);
bool window_deliver(struct window *window, struct held *held, int64_t position); /* false: it is not held */
void window_copy_out(struct window *window, struct held *held); /* copy its packets out of the pool */

#endif
