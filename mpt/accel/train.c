/* See train.h. Packets are sealed from their cells into one row of datagrams; a run of equal sizes is one message, which the
 * kernel cuts. */

#define _GNU_SOURCE /* sendmmsg() */

#include "train.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "ancillary.h"
#include "transmit.h"

enum { MESSAGES = 64 };
enum { SEGMENTS = 63 }; /* of a run, as in batch.c */
enum { RUN_BYTES = 65535 - 14 - 40 - 8 };
enum { SEALED_LONGEST = 1 << 17, SEALED_ROOM = 3 << 16 }; /* octets; the second fits into the cache of a core */

struct run { int32_t first; uint32_t count, bytes, size; uint8_t *octets; };
struct trains {
    struct mpt_counters *counters;
    struct mmsghdr messages[MESSAGES];
    struct iovec pieces[MESSAGES];
    struct run runs[MESSAGES];
    union ancillary ancillaries[MESSAGES];
    uint8_t sealed[SEALED_ROOM + SEALED_LONGEST];
};

struct trains *trains_new(struct mpt_counters *counters) {
    struct trains *t = calloc(1, sizeof *t);
    if (t != NULL)
        t->counters = counters;
    return t;
}

void trains_free(struct trains *t) { free(t); }

/* Seal a departure, which is under way from now on. Return the length of the datagram. */
static uint32_t seal(const struct track *track, struct departure *d, uint8_t *datagram, double now) {
    uint32_t length = cell_length(d->cell), path_id = track->path->row.seal_id;
    const struct under_way entry = {.cell = d->is_repaired ? cell_keep(d->cell) : NULL, .time = now,
                                    .size = datagram_size(length), .tries = d->tries, .is_pair = d->is_pair};
    d->position = flight_add(track->flight, track->sink, numbers_of(track->session->peer_index, path_id),
                             track->session->next_number[path_id], &entry);
    memcpy(datagram + ENVELOPE_HEAD, cell_content(d->cell), length);
    session_close(track->session, path_id, datagram, length + SEAL_OVERHEAD, stamp_of(now));
    return length + SEAL_OVERHEAD;
}

/* Seal runs from `*next` on. Return how many. */
static uint32_t gather(struct trains *t, const struct track *track, struct departure *all, int32_t *next, double now) {
    uint32_t count = 0, used = 0;
    for (; count < MESSAGES && *next >= 0 && used < SEALED_ROOM; count++) {
        struct run *run = &t->runs[count];
        uint32_t size = cell_length(all[*next].cell) + SEAL_OVERHEAD, last;
        uint8_t tos = all[*next].cell->tos;
        *run = (struct run){.first = *next, .size = size, .octets = t->sealed + used};
        do {
            struct departure *d = &all[*next];
            last = seal(track, d, t->sealed + used, now);
            used += last;
            run->bytes += last;
            run->count++;
            *next = d->next;
        } while (*track->cuts && *next >= 0 && last == size && run->count < SEGMENTS && all[*next].cell->tos == tos
                 && cell_length(all[*next].cell) + SEAL_OVERHEAD <= size
                 && run->bytes + cell_length(all[*next].cell) + SEAL_OVERHEAD <= RUN_BYTES);
    }
    return count;
}

/* Make the message of a run. */
static void compose(struct trains *t, uint32_t i, const struct place *place, const struct run *run, uint8_t tos) {
    struct msghdr *message = &t->messages[i].msg_hdr;
    t->pieces[i] = (struct iovec){run->octets, run->bytes};
    *message = (struct msghdr){.msg_name = place_name(place), .msg_namelen = place->name_length,
                               .msg_iov = &t->pieces[i], .msg_iovlen = 1};
    if (run->count > 1)
        ancillary_add_segment_size(message, &t->ancillaries[i], run->size);
    if (tos)
        ancillary_add_tos(message, &t->ancillaries[i], place->name, tos);
}

void train_count_sent(const struct path *path, const struct cell *cell) {
    path->state->counters.packets_sent++;
    path->state->counters.bytes_sent += cell->length;
}

/* Note that the departures of a run, from `i` on, were sent. */
static void note_sent(const struct track *track, struct departure *all, int32_t i, uint32_t count) {
    for (; count > 0; count--, i = all[i].next) {
        if (all[i].is_first)
            train_count_sent(track->path, all[i].cell);
        cell_release(track->sink->cells, all[i].cell);
    }
}

/* Send the datagrams of a run one by one. Return the first that was refused, with `error`; -1: none was. */
static int32_t send_singly(const struct run *run, const struct track *track, struct departure *all, int *error) {
    const struct place place = place_of(track->path);
    uint8_t *octets = run->octets;
    int32_t i = run->first;
    for (uint32_t k = 0; k < run->count; k++) {
        struct iovec piece = {octets, cell_length(all[i].cell) + SEAL_OVERHEAD};
        int32_t next = all[i].next;
        *error = transmit(&place, &piece, 1, all[i].cell->tos);
        if (*error != 0)
            return i;
        octets += piece.iov_len;
        note_sent(track, all, i, 1);
        i = next;
    }
    return -1;
}

/* Send the first `count` runs. Return the first departure that was refused, with `error`; -1: none was. */
static int32_t send_runs(struct trains *t, const struct track *track, struct departure *all, uint32_t count, int *error) {
    const struct place place = place_of(track->path);
    for (uint32_t i = 0; i < count; i++)
        compose(t, i, &place, &t->runs[i], all[t->runs[i].first].cell->tos);
    for (uint32_t done = 0; done < count;) {
        const struct run *run = &t->runs[done];
        int sent = sendmmsg(place.fd, &t->messages[done], count - done, MSG_DONTWAIT);
        *error = errno;
        if (sent > 0) {
            t->counters->sends++;
            for (; sent > 0; sent--, done++)
                note_sent(track, all, t->runs[done].first, t->runs[done].count);
        } else if (run->count > 1 && (*error == EIO || *error == EINVAL || *error == EMSGSIZE)) {
            *track->cuts = *error == EMSGSIZE; /* too long for the way, or else the link or the kernel never cuts */
            int32_t refused = send_singly(run, track, all, error);
            if (refused >= 0)
                return refused;
            done++;
        } else if (*error != EINTR)
            return run->first;
    }
    return -1;
}

int32_t train_send(struct trains *t, const struct track *track, struct departure *all, int32_t first, double now, int *error) {
    while (first >= 0) {
        int32_t next = first;
        uint32_t count = gather(t, track, all, &next, now);
        int32_t refused = send_runs(t, track, all, count, error);
        for (int32_t i = refused; i >= 0 && i != next; i = all[i].next)
            flight_take_back(track->flight, track->sink->cells, all[i].position);
        if (refused >= 0)
            return refused;
        first = next;
    }
    return -1;
}
