/* See wire.h. A frame's buffer is the one it was received into until it is sent: nothing is copied here. */
#define _GNU_SOURCE
#include "wire.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 64
#define TURN 256 /* frames taken from one device before the other has its turn */

struct direction {
    int source, sink;
    struct line *line;
};

struct wire {
    struct pool pool;
    struct direction directions[2];
    struct frame *empty[BATCH]; /* buffers for the next frames to come */
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

struct wire *wire_new(int first, int second, size_t frame_size, uint64_t seed, uint64_t seed_back) {
    struct wire *wire = calloc(1, sizeof(struct wire));
    if (wire == NULL)
        return NULL;
    wire->pool.frame_size = frame_size;
    wire->directions[0] = (struct direction){first, second, line_new(&wire->pool, seed)};
    wire->directions[1] = (struct direction){second, first, line_new(&wire->pool, seed_back)};
    for (size_t i = 0; i < BATCH; i++) {
        wire->messages[i].msg_hdr.msg_iov = &wire->vectors[i];
        wire->messages[i].msg_hdr.msg_iovlen = 1;
    }
    if (wire->directions[0].line == NULL || wire->directions[1].line == NULL) {
        wire_free(wire);
        return NULL;
    }
    return wire;
}

void wire_free(struct wire *wire) {
    for (int i = 0; i < 2; i++)
        if (wire->directions[i].line != NULL)
            line_free(wire->directions[i].line);
    for (int i = 0; i < BATCH; i++)
        free(wire->empty[i]);
    while (wire->pool.free != NULL)
        free(pool_take(&wire->pool));
    free(wire);
}

struct line *wire_line(struct wire *wire, int direction) {
    return wire->directions[direction].line;
}

/* Takes in the waiting frames; returns how many, or -1 without memory. */
static int take_in(struct wire *wire, struct direction *direction) {
    int total = 0;
    while (total < TURN) {
        for (size_t i = 0; i < BATCH; i++) {
            if (wire->empty[i] == NULL && (wire->empty[i] = pool_take(&wire->pool)) == NULL)
                return -1;
            wire->vectors[i] = (struct iovec){wire->empty[i]->octets, wire->pool.frame_size};
        }
        int received = recvmmsg(direction->source, wire->messages, BATCH, MSG_DONTWAIT, NULL);
        if (received <= 0) /* ENETDOWN comes once, when the device goes down */
            break;
        double arrived = now();
        for (int i = 0; i < received; i++) {
            wire->empty[i]->size = wire->messages[i].msg_len;
            line_put(direction->line, wire->empty[i], arrived);
            wire->empty[i] = NULL;
        }
        total += received;
        if (received < BATCH)
            break;
    }
    return total;
}

/* Sends the frames that have left the line. A frame that the device does not take dies: it is down. */
static void send_due(struct wire *wire, struct direction *direction, double until) {
    struct frame *frames[BATCH];
    int count;
    do {
        for (count = 0; count < BATCH; count++) {
            if ((frames[count] = line_take(direction->line, until)) == NULL)
                break;
            wire->vectors[count] = (struct iovec){frames[count]->octets, frames[count]->size};
        }
        for (int sent = 0; sent < count;) {
            int passed = sendmmsg(direction->sink, wire->messages + sent, (unsigned)(count - sent), MSG_DONTWAIT);
            sent += passed > 0 ? passed : 1;
        }
        for (int i = 0; i < count; i++)
            pool_give(&wire->pool, frames[i]);
    } while (count == BATCH);
}

int wire_run(struct wire *wire, int command_fd, double coalesce) {
    struct pollfd ready[3] = {
        {command_fd, POLLIN, 0},
        {wire->directions[0].source, POLLIN, 0},
        {wire->directions[1].source, POLLIN, 0},
    };
    for (;;) {
        int received = 0;
        for (int i = 0; i < 2; i++) {
            int more = take_in(wire, &wire->directions[i]);
            if (more < 0)
                return ENOMEM;
            received += more;
        }
        double at = now(), wait = INFINITY;
        for (int i = 0; i < 2; i++) {
            send_due(wire, &wire->directions[i], at);
            double due = line_next_deadline(wire->directions[i].line) - at;
            wait = due < wait ? due : wait;
        }
        wait = wait > coalesce ? wait : coalesce;
        if (received > 0)
            wait = coalesce; /* more will come at once: let it gather */
        struct timespec timeout = {(time_t)fmin(wait, 3600), (long)(fmod(fmin(wait, 3600), 1) * 1e9)};
        int found = ppoll(ready, received > 0 ? 1 : 3, &timeout, NULL);
        if (found < 0 && errno != EINTR)
            return errno;
        if (found < 0 || (found > 0 && ready[0].revents != 0))
            return 0;
    }
}
