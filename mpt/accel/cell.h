/* Packets that stay for a while: in the queue, under way until they are known to have arrived, or both in turns. */
#ifndef MPT_CELL_H
#define MPT_CELL_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"

struct cell {
    struct cell *next;     /* in a queue */
    double since;          /* when it began to wait */
    double first;          /* when it was first sent */
    uint32_t length;       /* of the packet */
    uint32_t references;
    uint16_t flow;         /* its key, which names its queue */
    uint8_t frame;         /* octets of its frame, which stands before it */
    uint8_t size;          /* of the cell: a place in cell.c */
    uint8_t tos;           /* of its datagrams */
    uint8_t kind;          /* for those who use it */
    uint8_t tries;         /* how often it was sent again, while it waits for that */
    uint8_t pair;          /* 2: it is under way twice, as it was sent over two paths at once; 1: it was */
    uint8_t room[];        /* FRAME_ROOM octets, at the end of which the frame stands; the packet */
};
static inline uint8_t *cell_packet(struct cell *cell) { return cell->room + FRAME_ROOM; }
static inline uint8_t *cell_content(struct cell *cell) { return cell->room + FRAME_ROOM - cell->frame; }
static inline uint32_t cell_length(const struct cell *cell) { return cell->frame + cell->length; } /* of its content */

enum { CELL_SIZES = 4 };
struct cells { /* all of one data path */
    struct chunk *open[CELL_SIZES]; /* those with free cells */
    uint32_t chunks, idle;
};
void cells_destroy(struct cells *cells); /* after every cell was let go */
/* Return a cell for a packet of `length` octets, with one reference. NULL: no memory, or the bound on it is reached. */
struct cell *cell_take(struct cells *cells, uint32_t length);
static inline struct cell *cell_keep(struct cell *cell) {
    cell->references++;
    return cell;
}
void cell_release(struct cells *cells, struct cell *cell); /* let one reference go */

#endif
