/* See rehearsal.h. Packets are known by labels. */

#include "rehearsal.h"

#include <stdlib.h>

#include "classes.h"
#include "flight.h"
#include "flowqueue.h"
#include "playout.h"
#include "receipts.h"

enum { LABEL = IP4_HEADER + TCP_HEADER, PACKET = LABEL + 4 }; /* offset of a label in a packet, and the octets of one */

struct mpt_rehearsal { /* one of each */
    struct cells cells;
    struct flow_queue queue;
    struct flight flight;
    struct flight_sink sink;
    struct receipts receipts;
    struct playout *playout;
    uint32_t *labels, count; /* of what was lost or delivered */
};

static void note(struct mpt_rehearsal *r, uint32_t label) { r->labels[r->count++] = label; }

static void lost(void *context, const struct under_way *entry) { note(context, entry->cell->length); }

static void release(void *context, struct packet packet) {
    (void)context;
    free(packet.data);
}

static void deliver(void *context, struct packet packet) {
    note(context, get32(packet.data + LABEL));
    free(packet.data);
}

struct mpt_rehearsal *mpt_rehearse(const struct mpt_tuning *tuning, uint32_t limit, double target, double interval,
                                   uint32_t window, double longest, uint32_t *labels) {
    struct mpt_rehearsal *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->labels = labels;
    r->sink = (struct flight_sink){lost, &r->cells, r};
    flow_queue_init(&r->queue, tuning, &r->cells);
    flow_queue_set(&r->queue, target, interval, limit);
    receipts_init(&r->receipts, tuning);
    r->playout = playout_new(tuning, window, longest, 0x9E3779B97F4A7C15u, (struct sink){deliver, release, r});
    if (r->playout == NULL) {
        mpt_rehearse_end(r);
        return NULL;
    }
    return r;
}

void mpt_rehearse_end(struct mpt_rehearsal *r) {
    flow_queue_destroy(&r->queue);
    flight_destroy(&r->flight, &r->cells);
    receipts_destroy(&r->receipts);
    playout_free(r->playout);
    cells_destroy(&r->cells);
    free(r);
}

uint32_t mpt_rehearse_labels(struct mpt_rehearsal *r) {
    uint32_t count = r->count;
    r->count = 0;
    return count;
}

/* --- the queue --- */

int mpt_rehearse_push(struct mpt_rehearsal *r, uint32_t flow, const uint8_t *packet, uint32_t length, int urgent, double now) {
    struct cell *cell = cell_take(&r->cells, length);
    if (cell == NULL)
        return -1;
    memcpy(cell_packet(cell), packet, length);
    cell->flow = (uint16_t)flow;
    if (flow_queue_push(&r->queue, cell, urgent != 0, now))
        return 0;
    cell_release(&r->cells, cell);
    return -1;
}

uint32_t mpt_rehearse_pop(struct mpt_rehearsal *r, uint8_t *packet, double now) {
    struct cell *cell = flow_queue_pop(&r->queue, now);
    if (cell == NULL)
        return 0;
    uint32_t length = cell->length;
    memcpy(packet, cell_packet(cell), length);
    cell_release(&r->cells, cell);
    return length;
}

int mpt_rehearse_thin(struct mpt_rehearsal *r, uint32_t flow, uint32_t length, uint32_t most, double now) {
    int is_thin = flow_queue_is_thin(&r->queue, flow, length, most, now);
    return is_thin + 2 * flow_queue_is_small(&r->queue, flow, most);
}

void mpt_rehearse_queue_counts(const struct mpt_rehearsal *r, uint64_t *counts) {
    const struct flow_queue *q = &r->queue;
    const uint64_t all[] = {q->packets, q->octets, q->dropped, q->marked, q->overflowed};
    memcpy(counts, all, sizeof all);
}

/* --- the flight --- */

void mpt_rehearse_sent(struct mpt_rehearsal *r, uint64_t space, uint64_t number, uint32_t size, uint32_t label, double now) {
    struct cell *cell = cell_take(&r->cells, 0);
    if (cell == NULL)
        return;
    cell->length = label;
    flight_add(&r->flight, &r->sink, space, number, &(struct under_way){.cell = cell, .time = now, .size = size});
}

int64_t mpt_rehearse_record(struct mpt_rehearsal *r, uint64_t space, uint32_t clock, uint32_t settled,
                            const struct mpt_range *ranges, uint32_t count) {
    if (!flight_is_news(&r->flight, space, clock))
        return -2;
    struct settled news = flight_acknowledge(&r->flight, &r->sink, space, settled, ranges, count, r->receipts.tuning->old_session);
    return news.is_further ? (int64_t)news.octets : -1;
}

void mpt_rehearse_session_end(struct mpt_rehearsal *r, uint64_t space) { flight_end(&r->flight, &r->sink, space); }

void mpt_rehearse_flight(const struct mpt_rehearsal *r, struct mpt_flight *flight) {
    const struct under_way *oldest = flight_oldest(&r->flight);
    *flight = (struct mpt_flight){.octets = r->flight.octets, .packets = r->flight.packets, .lost = r->flight.lost,
                                  .oldest = oldest != NULL ? oldest->time : 0};
}

/* --- the receipts --- */

void mpt_rehearse_arrived(struct mpt_rehearsal *r, uint32_t session, uint32_t path, uint64_t number, uint32_t size,
                          uint32_t stamp, double waited, int is_data, double now) {
    const struct receipt receipt = {session, path, number, size, (uint16_t)stamp, now - waited, is_data != 0};
    receipts_arrived(&r->receipts, &receipt, now);
}

double mpt_rehearse_report_deadline(const struct mpt_rehearsal *r) { return receipts_deadline(&r->receipts); }

int mpt_rehearse_report(struct mpt_rehearsal *r, struct mpt_feedback *feedback, double now) {
    if (!receipts_is_due(&r->receipts, now))
        return 0;
    receipts_report(&r->receipts, feedback, now);
    return 1;
}

void mpt_rehearse_forget(struct mpt_rehearsal *r, uint32_t session) { receipts_end(&r->receipts, session); }

/* --- the playout --- */

void mpt_rehearse_order(struct mpt_rehearsal *r, double hold, int32_t ticks, int acks) {
    playout_set(r->playout, hold, ticks, acks != 0);
}

int mpt_rehearse_arrive(struct mpt_rehearsal *r, int64_t key, uint32_t sequence, uint32_t stamp, const uint8_t *packet, double now) {
    struct packet held = {.data = malloc(PACKET), .length = PACKET};
    if (held.data == NULL)
        return -1;
    memcpy(held.data, packet, PACKET);
    playout_arrive(r->playout, (struct mark){sequence, (uint32_t)key, key >= 0, (uint16_t)stamp}, held, now);
    return 0;
}

void mpt_rehearse_wake(struct mpt_rehearsal *r, double now) { playout_deadline(r->playout, now); }

double mpt_rehearse_playout_deadline(struct mpt_rehearsal *r) { return playout_next_deadline(r->playout); }

void mpt_rehearse_flush(struct mpt_rehearsal *r, double now) { playout_flush(r->playout, now); }

uint32_t mpt_rehearse_playout_counts(const struct mpt_rehearsal *r, struct mpt_adaptive_counters *counters) {
    playout_count(r->playout, counters);
    return playout_held(r->playout);
}

/* --- the classes --- */

int mpt_rehearse_trait(const uint8_t *packet, uint32_t length, const struct mpt_class_rule *rules, uint32_t count) {
    return (int)trait_of(packet, length, rules, count);
}
