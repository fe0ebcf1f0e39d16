/* A batch of packets on their way to the network: numbered, gathered path by path, sent in few system calls. */
#ifndef MPT_BATCH_H
#define MPT_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "split.h"
#include "table.h"

enum state { PENDING, SENT, FAILED };

struct outgoing {
    const struct path *path;
    uint8_t *head; /* the frame, and the headers of a segment or a whole packet */
    const uint8_t *payload; /* of a segment */
    uint32_t head_length, payload_length, frame_length, number;
    int32_t next; /* on the same path; -1: none */
    enum state state;
    uint8_t tos;
    int32_t space; /* of the number: see frame.h */
    uint8_t room[FRAME_ROOM + HEADER_ROOM];
};
struct batch;
struct batch *batch_new(bool segments, struct mpt_counters *counters); /* `segments`: the kernel cuts; NULL: no memory */
void batch_free(struct batch *batch);
bool batch_prepare(struct batch *batch, const struct table *table); /* for batch_commit(); false: no memory */
void batch_cancel(struct batch *batch); /* forget the prepared table */
void batch_commit(struct batch *batch);
void batch_share_changed(struct batch *batch, const struct connection *connection);
/* Return a place for the next packet of `connection` over `path`, with its number in `space`. Fill it at once. */
struct outgoing *batch_add(struct batch *batch, const struct connection *connection, const struct path *path, int32_t space);
void batch_send(struct batch *batch); /* after it the batch refers to no packets */
void batch_set_stamp(struct batch *batch, uint16_t stamp); /* of the datagrams that are sealed from now on */
bool batch_cuts(const struct batch *batch); /* whether the kernel and every usable link cut runs of datagrams */

#endif
