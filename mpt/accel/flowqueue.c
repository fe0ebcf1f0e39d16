/* See flowqueue.h. The twin is mpt/data/flowqueue.py, which has the rules. */

#include "flowqueue.h"

#include <math.h>
#include <stdlib.h>

enum { CONGESTED = 3 }; /* of the ECN field */

/* --- life --- */

void flow_queue_init(struct flow_queue *q, const struct mpt_tuning *tuning, struct cells *cells) {
    *q = (struct flow_queue){.tuning = tuning, .cells = cells};
}

void flow_queue_set(struct flow_queue *q, double target, double interval, uint32_t limit) {
    q->target = target;
    q->interval = interval;
    q->limit = limit;
}

static struct cell *take_first(struct flow_queue *q, struct flow_state *f) {
    struct cell *cell = f->first;
    f->first = cell->next;
    f->octets -= cell->length;
    q->octets -= cell->length;
    q->packets--;
    return cell;
}

struct cell *flow_queue_take(struct flow_queue *q) {
    if (q->urgent.first != NULL)
        return take_first(q, &q->urgent);
    for (int list = 0; list < 2; list++)
        for (struct flow_state *f = list == 0 ? q->fresh.first : q->old.first; f != NULL; f = f->next)
            if (f->first != NULL)
                return take_first(q, f);
    return NULL;
}

void flow_queue_destroy(struct flow_queue *q) {
    for (struct cell *cell; (cell = flow_queue_take(q)) != NULL;)
        cell_release(q->cells, cell);
    for (uint32_t key = 0; q->flows != NULL && key < FLOW_KEYS; key++)
        free(q->flows[key]);
    free(q->flows);
    *q = (struct flow_queue){0};
}

static struct flow_state *flow_with(struct flow_queue *q, uint32_t key) {
    if (q->flows == NULL && (q->flows = calloc(FLOW_KEYS, sizeof(struct flow_state *))) == NULL)
        return NULL;
    if (q->flows[key] == NULL)
        q->flows[key] = calloc(1, sizeof *q->flows[key]);
    return q->flows[key];
}

/* --- in --- */

bool flow_queue_is_thin(struct flow_queue *q, uint32_t key, uint32_t length, uint32_t most, double now) {
    struct flow_state *f = flow_with(q, key);
    if (f == NULL)
        return false;
    if (now - f->period > q->tuning->thin_period) {
        f->before = now - f->period <= 2 * q->tuning->thin_period ? f->recent : 0;
        f->period = now;
        f->recent = 0;
    }
    f->recent += length;
    if (f->recent > most || f->before > most)
        f->thick_until = now + q->tuning->thick_time;
    return now >= f->thick_until && f->first == NULL;
}

bool flow_queue_is_small(const struct flow_queue *q, uint32_t key, uint32_t most) {
    const struct flow_state *f = q->flows != NULL ? q->flows[key] : NULL;
    return f != NULL && f->recent <= most && f->before <= most;
}

static void append(struct flow_list *list, struct flow_state *f) {
    f->next = NULL;
    if (list->first == NULL)
        list->first = f;
    else
        list->last->next = f;
    list->last = f;
}

static void drop_of_longest(struct flow_queue *q) {
    struct flow_state *longest = &q->urgent;
    for (int list = 0; list < 2; list++)
        for (struct flow_state *f = list == 0 ? q->fresh.first : q->old.first; f != NULL; f = f->next)
            if (f->octets > longest->octets)
                longest = f;
    cell_release(q->cells, take_first(q, longest));
    q->overflowed++;
}

bool flow_queue_push(struct flow_queue *q, struct cell *cell, bool is_urgent, double now) {
    struct flow_state *f = is_urgent ? &q->urgent : flow_with(q, cell->flow);
    if (f == NULL)
        return false;
    cell->since = now;
    cell->next = NULL;
    if (f->first == NULL)
        f->first = cell;
    else
        f->last->next = cell;
    f->last = cell;
    f->octets += cell->length;
    q->octets += cell->length;
    q->packets++;
    if (!f->is_listed && !is_urgent) {
        f->is_listed = true;
        f->deficit = (int32_t)q->tuning->quantum;
        append(&q->fresh, f);
    }
    if (q->packets > q->limit)
        drop_of_longest(q);
    return true;
}

/* --- CoDel (RFC 8289 section 5) --- */

struct dequeued { struct cell *cell; bool may_drop; };

/* Return the first packet, and whether packets waited for too long during a whole interval. */
static struct dequeued dequeue(struct flow_queue *q, struct flow_state *f, double now) {
    if (f->first == NULL) {
        f->first_above = 0;
        return (struct dequeued){NULL, false};
    }
    struct cell *cell = take_first(q, f);
    if (now - cell->since < q->target || f->octets <= q->tuning->largest_packet) {
        f->first_above = 0;
        return (struct dequeued){cell, false};
    }
    if (f->first_above == 0) {
        f->first_above = now + q->interval;
        return (struct dequeued){cell, false};
    }
    return (struct dequeued){cell, now >= f->first_above};
}

/* Mark a packet. false: its ends know no marks, and it is dropped. */
static bool mark(struct flow_queue *q, struct cell *cell) {
    if (mpt_decapsulate_ecn(cell_packet(cell), CONGESTED) >= 0) {
        q->marked++;
        return true;
    }
    cell_release(q->cells, cell);
    q->dropped++;
    return false;
}

static double drop_after(const struct flow_queue *q, const struct flow_state *f, double time) {
    return time + q->interval / sqrt(f->count);
}

/* Return the next packet of a flow that CoDel lets go. */
static struct cell *controlled(struct flow_queue *q, struct flow_state *f, double now) {
    struct dequeued found = dequeue(q, f, now);
    if (f->is_dropping) {
        f->is_dropping = found.may_drop;
        while (found.cell != NULL && f->is_dropping && now >= f->next_drop) {
            f->count++;
            if (mark(q, found.cell)) {
                f->next_drop = drop_after(q, f, f->next_drop);
                return found.cell;
            }
            found = dequeue(q, f, now);
            if (found.may_drop)
                f->next_drop = drop_after(q, f, f->next_drop);
            else
                f->is_dropping = false;
        }
    } else if (found.cell != NULL && found.may_drop) {
        if (!mark(q, found.cell))
            found = dequeue(q, f, now);
        f->is_dropping = true;
        uint32_t since = f->count - f->last_count;
        f->count = f->last_count = since > 1 && now - f->next_drop < q->tuning->count_memory * q->interval ? since : 1;
        f->next_drop = drop_after(q, f, now);
    }
    return found.cell;
}

/* --- out --- */

struct cell *flow_queue_pop(struct flow_queue *q, double now) {
    struct cell *cell = q->urgent.first != NULL ? controlled(q, &q->urgent, now) : NULL;
    while (cell == NULL) {
        bool is_fresh = q->fresh.first != NULL;
        struct flow_list *list = is_fresh ? &q->fresh : &q->old;
        struct flow_state *f = list->first;
        if (f == NULL)
            return NULL;
        if (f->deficit <= 0) {
            f->deficit += (int32_t)q->tuning->quantum;
            list->first = f->next;
            append(&q->old, f);
            continue;
        }
        if ((cell = controlled(q, f, now)) != NULL) {
            f->deficit -= (int32_t)cell->length;
            continue;
        }
        list->first = f->next;
        f->is_listed = is_fresh && q->old.first != NULL; /* or a flow of single packets would go before all others */
        if (f->is_listed)
            append(&q->old, f);
    }
    return cell;
}
