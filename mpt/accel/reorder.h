/* The reorder window of one connection. Pure but for the memory of streams and held packets. */
#ifndef MPT_REORDER_H
#define MPT_REORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "equalize.h"
#include "pool.h"

struct reorder;
struct reorder *reorder_new(const struct mpt_tuning *tuning, uint32_t window, double max_delay, bool has_stamps,
                            uint64_t secret, struct sink sink, struct equalizer *equalizer); /* NULL: no memory */
void reorder_free(struct reorder *reorder);
/* `arrival->arrival_time` is when the packet came, `now` or before. */
void reorder_arrive(struct reorder *reorder, const struct arrival *arrival, double now);
void reorder_deadline(struct reorder *reorder, double now);
double reorder_next_deadline(const struct reorder *reorder); /* -1: none */
bool reorder_path_up(struct reorder *reorder, uint32_t path, double now); /* false: no memory */
bool reorder_is_minor(const struct reorder *reorder, uint32_t path); /* it has brought a small part of the packets */
void reorder_path_down(struct reorder *reorder, uint32_t path, double now);
void reorder_flush(struct reorder *reorder);
void reorder_copy_out(struct reorder *reorder); /* copy all held packets out of the pool */
uint32_t reorder_held(const struct reorder *reorder);
bool reorder_waits(const struct reorder *reorder); /* whether a packet waits for a gap; strays do not */
void reorder_drops(const struct reorder *reorder, uint64_t *dropped);
void reorder_set_longest_wait(struct reorder *reorder, double longest_wait);

#endif
