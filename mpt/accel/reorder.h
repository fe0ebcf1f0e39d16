/* The reorder window of one connection. Pure but for the memory of what it holds. */
#ifndef MPT_REORDER_H
#define MPT_REORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "equalize.h"
#include "pool.h"

struct reorder;
struct reorder *reorder_new(const struct mpt_tuning *tuning, uint32_t window, double max_delay, uint64_t secret,
                            struct sink sink, struct equalizer *equalizer); /* NULL: no memory */
void reorder_free(struct reorder *reorder);
/* `arrival_time` is when the packet came, `now` or before. */
void reorder_arrive(struct reorder *reorder, uint32_t sequence, struct packet packet, uint32_t path, double now,
                    double arrival_time);
void reorder_deadline(struct reorder *reorder, double now);
double reorder_next_deadline(const struct reorder *reorder); /* -1: none */
bool reorder_path_up(struct reorder *reorder, uint32_t path, double now); /* false: no memory */
void reorder_path_down(struct reorder *reorder, uint32_t path, double now);
void reorder_flush(struct reorder *reorder);
void reorder_copy_out(struct reorder *reorder); /* of the pool, all that is held */
uint32_t reorder_held(const struct reorder *reorder);
bool reorder_waits(const struct reorder *reorder); /* for a gap to be filled; a stray waits for nothing */
void reorder_drops(const struct reorder *reorder, uint64_t *dropped);
void reorder_set_longest_wait(struct reorder *reorder, double longest_wait);

#endif
