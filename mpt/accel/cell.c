/* See cell.h. Cells of four sizes are cut from chunks. A chunk that has none in use is given back, but for a few: a burst does
 * not keep the memory that it took. */

#include "cell.h"

#include <stdlib.h>

enum { CHUNK = 1 << 18, HEAD = 64 }; /* octets */
enum { MOST_CHUNKS = 256, IDLE_CHUNKS = 32 }; /* 64 MB in all, and 8 MB that stay without use */

/* Octets of cells: for a small packet, a usual one, a large one, any. Odd counts of cache lines: with even ones their first
 * octets would share few places of the cache. */
static const uint32_t SIZES[CELL_SIZES] = {320, 1600, 10304, 65728};

struct chunk { /* begins at a multiple of its size, so that a cell knows it */
    struct chunk *previous, *next; /* of those with free cells */
    struct cell *free;
    uint32_t used;      /* cells in use */
    uint32_t cut;       /* cells that were ever used */
};

static uint32_t most_cells(uint32_t size) { return (CHUNK - HEAD) / SIZES[size]; }

static void link_open(struct cells *cells, struct chunk *chunk, uint32_t size) {
    chunk->previous = NULL;
    chunk->next = cells->open[size];
    if (chunk->next != NULL)
        chunk->next->previous = chunk;
    cells->open[size] = chunk;
}

static void unlink_open(struct cells *cells, struct chunk *chunk, uint32_t size) {
    if (chunk->previous != NULL)
        chunk->previous->next = chunk->next;
    else
        cells->open[size] = chunk->next;
    if (chunk->next != NULL)
        chunk->next->previous = chunk->previous;
}

static struct chunk *chunk_new(struct cells *cells, uint32_t size) {
    struct chunk *chunk = cells->chunks < MOST_CHUNKS ? aligned_alloc(CHUNK, CHUNK) : NULL;
    if (chunk == NULL)
        return NULL;
    *chunk = (struct chunk){0};
    cells->chunks++;
    cells->idle++;
    link_open(cells, chunk, size);
    return chunk;
}

void cells_destroy(struct cells *cells) {
    for (uint32_t size = 0; size < CELL_SIZES; size++)
        for (struct chunk *chunk = cells->open[size], *next; chunk != NULL; chunk = next) {
            next = chunk->next;
            free(chunk);
        }
    *cells = (struct cells){0};
}

struct cell *cell_take(struct cells *cells, uint32_t length) {
    uint32_t size = 0, needed = (uint32_t)sizeof(struct cell) + FRAME_ROOM + length;
    while (size < CELL_SIZES && SIZES[size] < needed)
        size++;
    if (size == CELL_SIZES)
        return NULL;
    struct chunk *chunk = cells->open[size] != NULL ? cells->open[size] : chunk_new(cells, size);
    if (chunk == NULL)
        return NULL;
    struct cell *cell = chunk->free;
    if (cell != NULL) {
        chunk->free = cell->next;
        __builtin_prefetch(chunk->free, 1); /* the next one has been away from the cache */
    } else
        cell = (struct cell *)(void *)((uint8_t *)chunk + HEAD + chunk->cut++ * SIZES[size]);
    cells->idle -= chunk->used == 0;
    chunk->used++;
    if (chunk->used == most_cells(size))
        unlink_open(cells, chunk, size);
    *cell = (struct cell){.length = length, .references = 1, .size = (uint8_t)size};
    return cell;
}

void cell_release(struct cells *cells, struct cell *cell) {
    if (--cell->references > 0)
        return;
    uint32_t size = cell->size;
    struct chunk *chunk = (struct chunk *)((uintptr_t)cell & ~(uintptr_t)(CHUNK - 1));
    cell->next = chunk->free;
    chunk->free = cell;
    if (chunk->used-- == most_cells(size))
        link_open(cells, chunk, size);
    if (chunk->used > 0)
        return;
    if (cells->idle < IDLE_CHUNKS) {
        cells->idle++;
        return;
    }
    unlink_open(cells, chunk, size);
    cells->chunks--;
    free(chunk);
}
