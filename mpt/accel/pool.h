/* The buffers that receive calls fill. A kept packet stays in its buffer and holds a reference to it. */
#ifndef MPT_POOL_H
#define MPT_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "packet.h"

struct buffer {
    struct buffer *next; /* in the pool */
    uint32_t references;
    uint8_t data[MAX_PACKET + 1];
};
struct packet {
    uint8_t *data;
    uint32_t length;
    struct buffer *buffer; /* NULL: `data` is allocated for this packet alone */
};
struct sink { /* takes the packets that leave a queue */
    void (*deliver)(void *context, struct packet packet);
    void (*release)(void *context, struct packet packet);
    void *context;
};
struct pool {
    struct buffer *buffers, *free; /* all, and the first one without references */
};
bool pool_init(struct pool *pool); /* false: no memory */
void pool_destroy(struct pool *pool);
struct buffer *pool_take(struct pool *pool); /* with one reference; NULL: all are in use */
void pool_unreference(struct pool *pool, struct buffer *buffer);
void pool_release(struct pool *pool, struct packet packet);
void packet_copy_out(struct sink *sink, struct packet *packet); /* copy it out of its buffer, if there is memory */

#endif
