/* See pool.h. The pool never grows: when held packets keep all buffers, these packets are copied out. */

#include "pool.h"

#include <stdlib.h>

enum { BUFFERS = 64 }; /* 4 MB, there from the start */

bool pool_init(struct pool *pool) {
    pool->free = NULL;
    pool->buffers = malloc(BUFFERS * sizeof *pool->buffers);
    if (pool->buffers == NULL)
        return false;
    /* Touch every page now, so that the first flood does not page-fault. Zeros would stay mapped to the zero page. */
    memset(pool->buffers, 0xFF, BUFFERS * sizeof *pool->buffers);
    for (uint32_t i = 0; i < BUFFERS; i++) {
        pool->buffers[i].next = pool->free;
        pool->free = &pool->buffers[i];
    }
    return true;
}

void pool_destroy(struct pool *pool) { free(pool->buffers); }

struct buffer *pool_take(struct pool *pool) {
    struct buffer *buffer = pool->free;
    if (buffer != NULL) {
        pool->free = buffer->next;
        buffer->references = 1;
    }
    return buffer;
}

void pool_unreference(struct pool *pool, struct buffer *buffer) {
    if (--buffer->references == 0) {
        buffer->next = pool->free;
        pool->free = buffer;
    }
}

void pool_release(struct pool *pool, struct packet packet) {
    if (packet.buffer != NULL)
        pool_unreference(pool, packet.buffer);
    else
        free(packet.data);
}

void packet_copy_out(struct sink *sink, struct packet *packet) {
    uint8_t *copy = packet->buffer != NULL ? malloc(packet->length) : NULL;
    if (copy == NULL)
        return;
    memcpy(copy, packet->data, packet->length);
    struct packet pooled = *packet;
    *packet = (struct packet){copy, packet->length, NULL};
    sink->release(sink->context, pooled);
}
