/* Two devices and a line in each direction between them: frames in batches, one wake-up for all that is due. */
#ifndef MPT_WIRE_H
#define MPT_WIRE_H

#include "line.h"

struct wire;

/* The packet sockets of the two devices, the seeds of the two directions; NULL without memory. */
struct wire *wire_new(int first, int second, size_t frame_size, uint64_t seed, uint64_t seed_back);
void wire_free(struct wire *wire);
/* The line from the first device to the second (0) or back (1). */
struct line *wire_line(struct wire *wire, int direction);
/* Carries frames until command_fd can be read; -1: without end. Returns 0, or an error number. */
int wire_run(struct wire *wire, int command_fd, double coalesce);

#endif
