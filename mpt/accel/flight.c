/* See flight.h. The twin is mpt/data/flight.py.
 *
 * Entries lie in the order of sending. The numbers of a session follow each other, so an entry is found by counting. Numbers
 * that were used without a note leave empty entries. */

#include "flight.h"

#include <stdlib.h>

enum { FIRST_ROOM = 64, AHEAD = 8 };

static struct under_way *entry_at(const struct flight *f, uint64_t position) {
    return &f->ring[position & (f->room - 1)];
}

/* --- its ends --- */

static void forget_parts(struct flight *f) {
    uint32_t gone = 0;
    while (gone + 1 < f->part_count && f->parts[gone + 1].position <= f->base)
        gone++;
    if (gone == 0)
        return;
    for (uint32_t i = gone; i < f->part_count; i++)
        f->parts[i - gone] = f->parts[i];
    f->part_count -= gone;
}

static void trim(struct flight *f) {
    while (f->base < f->head && entry_at(f, f->base)->size == 0)
        f->base++;
}

/* Take out what is under way at `position`. */
static struct under_way take_out(struct flight *f, uint64_t position) {
    struct under_way *entry = entry_at(f, position), taken = *entry;
    f->octets -= taken.size;
    f->packets--;
    entry->size = 0;
    entry->cell = NULL;
    return taken;
}

static void lose(struct flight *f, const struct flight_sink *sink, uint64_t position) {
    struct under_way taken = take_out(f, position);
    sink->lost(sink->context, &taken);
    if (taken.cell != NULL)
        cell_release(sink->cells, taken.cell);
}

void flight_destroy(struct flight *f, struct cells *cells) {
    uint64_t position = f->base;
    for (struct under_way *entry; (entry = flight_next(f, &position)) != NULL;)
        if (entry->cell != NULL)
            cell_release(cells, entry->cell);
    free(f->ring);
    *f = (struct flight){0};
}

/* --- sent --- */

/* Make the ring larger. false: it has its largest size, or there is no memory. */
static bool grow(struct flight *f) {
    uint32_t room = f->room == 0 ? FIRST_ROOM : 2 * f->room;
    struct under_way *more = room <= FLIGHT_MOST ? malloc(room * sizeof *more) : NULL;
    if (more == NULL)
        return false;
    for (uint64_t position = f->base; position < f->head; position++)
        more[position & (room - 1)] = *entry_at(f, position);
    free(f->ring);
    f->ring = more;
    f->room = room;
    return true;
}

/* Append an entry. false: there is no memory for any. */
static bool append(struct flight *f, const struct flight_sink *sink, const struct under_way *entry) {
    if (f->head - f->base == f->room && !grow(f)) {
        if (f->room == 0)
            return false;
        if (entry_at(f, f->base)->size > 0)
            lose(f, sink, f->base);
        f->base++;
        trim(f);
    }
    *entry_at(f, f->head++) = *entry;
    return true;
}

/* Lose all before `position`. */
static void lose_before(struct flight *f, const struct flight_sink *sink, uint64_t position) {
    for (; f->base < position; f->base++)
        if (entry_at(f, f->base)->size > 0)
            lose(f, sink, f->base);
    trim(f);
}

/* Return the part to which `number` belongs. The numbers before it that are not noted are messages', and take places. */
static struct flight_part *part_for(struct flight *f, const struct flight_sink *sink, uint64_t space, uint64_t number) {
    struct flight_part *last = f->part_count > 0 ? &f->parts[f->part_count - 1] : NULL;
    if (last != NULL && last->space == space && !last->is_over && number >= last->end) {
        if (number - last->end > FLIGHT_MOST / 2)
            lose_before(f, sink, f->head); /* it is older than that many messages */
        if (f->packets == 0) {
            last->first = last->end = number;
            last->position = f->base = f->head;
        }
        while (last->end < number && append(f, sink, &(struct under_way){0}))
            last->end++;
        return last;
    }
    forget_parts(f);
    if (f->part_count == FLIGHT_PARTS) {
        lose_before(f, sink, f->parts[1].position);
        forget_parts(f);
    }
    f->parts[f->part_count] = (struct flight_part){.space = space, .first = number, .end = number, .position = f->head};
    return &f->parts[f->part_count++];
}

uint64_t flight_add(struct flight *f, const struct flight_sink *sink, uint64_t space, uint64_t number,
                    const struct under_way *entry) {
    struct flight_part *part = part_for(f, sink, space, number);
    if (part->end != number || !append(f, sink, entry)) {
        if (entry->cell != NULL)
            cell_release(sink->cells, entry->cell);
        return UINT64_MAX;
    }
    part->end++;
    f->octets += entry->size;
    f->packets++;
    return f->head - 1;
}

void flight_take_back(struct flight *f, struct cells *cells, uint64_t position) {
    if (position < f->base || position >= f->head || entry_at(f, position)->size == 0)
        return;
    struct under_way taken = take_out(f, position);
    if (taken.cell != NULL)
        cell_release(cells, taken.cell);
    trim(f);
}

/* --- known --- */

static struct flight_part *part_of(struct flight *f, uint64_t space) {
    for (uint32_t i = f->part_count; i-- > 0;)
        if (f->parts[i].space == space && !f->parts[i].is_over)
            return &f->parts[i];
    return NULL;
}

bool flight_is_news(struct flight *f, uint64_t space, uint32_t clock) {
    struct flight_part *part = part_of(f, space);
    if (part == NULL || (part->has_clock && (int32_t)(clock - part->clock) <= 0))
        return false;
    part->has_clock = true;
    part->clock = clock;
    return true;
}

/* Return one more than the number of which `low` is the low half, near the greatest that was sent; 0 or less: none. */
static int64_t behind(const struct flight_part *part, uint32_t low) {
    int64_t greatest = (int64_t)part->end - 1;
    return greatest + (int32_t)(low - (uint32_t)greatest) + 1;
}

struct span { int64_t first, end; }; /* of numbers */

/* Write the spans of `ranges` in the order of their beginnings, cut to the numbers from `from` to `end`. Return how many. */
static uint32_t sort_ranges(const struct flight_part *part, const struct mpt_range *ranges, uint32_t count, int64_t from,
                            int64_t end, struct span *spans) {
    uint32_t made = 0;
    for (uint32_t i = 0; i < count && i < MPT_RANGES; i++) {
        struct span span = {behind(part, ranges[i].first) - 1, 0};
        span.end = span.first + ranges[i].count;
        span.first = span.first > from ? span.first : from;
        span.end = span.end < end ? span.end : end;
        if (span.first >= span.end)
            continue;
        uint32_t k = made++;
        for (; k > 0 && spans[k - 1].first > span.first; k--)
            spans[k] = spans[k - 1];
        spans[k] = span;
    }
    return made;
}

/* Lose what was sent with sessions before the one of `part`, and before `time`: the peer will not tell of it. */
static void lose_replaced(struct flight *f, const struct flight_sink *sink, const struct flight_part *part, double time) {
    for (; f->base < part->position; f->base++) {
        const struct under_way *entry = entry_at(f, f->base);
        if (entry->size > 0 && entry->time >= time)
            return;
        if (entry->size > 0)
            lose(f, sink, f->base);
    }
}

struct settled flight_acknowledge(struct flight *f, const struct flight_sink *sink, uint64_t space, uint32_t settled,
                                  const struct mpt_range *ranges, uint32_t count, double old_session) {
    struct settled result = {0};
    struct flight_part *part = part_of(f, space);
    int64_t end = part != NULL ? behind(part, settled) : 0;
    if (part != NULL && end > (int64_t)part->end)
        end = (int64_t)part->end; /* messages take numbers, too */
    if (part == NULL || end <= (int64_t)part->unsettled)
        return result;
    struct span spans[MPT_RANGES];
    int64_t n = (int64_t)part->unsettled > (int64_t)part->first ? (int64_t)part->unsettled : (int64_t)part->first;
    int64_t base = (int64_t)part->first + ((int64_t)f->base - (int64_t)part->position);
    uint32_t spans_count = sort_ranges(part, ranges, count, n, end, spans), i = 0;
    double arrived = 0;
    for (n = n > base ? n : base; n < end; n++) { /* what lies before the base is not under way */
        uint64_t position = part->position + ((uint64_t)n - part->first);
        if (position + AHEAD < f->head)
            __builtin_prefetch(entry_at(f, position + AHEAD)->cell, 1); /* it has been away from the cache */
        if (entry_at(f, position)->size == 0)
            continue;
        while (i < spans_count && spans[i].end <= n)
            i++;
        if (i < spans_count && spans[i].first <= n) {
            lose(f, sink, position);
            result.lost++;
            continue;
        }
        struct under_way taken = take_out(f, position);
        result.octets += taken.size;
        arrived = taken.time;
        if (taken.cell != NULL)
            cell_release(sink->cells, taken.cell);
    }
    part->unsettled = (uint64_t)end;
    result.is_further = true;
    f->lost += result.lost;
    lose_replaced(f, sink, part, arrived - old_session);
    trim(f);
    return result;
}

void flight_end(struct flight *f, const struct flight_sink *sink, uint64_t space) {
    struct flight_part *part = part_of(f, space);
    if (part == NULL)
        return;
    uint64_t end = part->position + (part->end - part->first);
    for (uint64_t position = part->position > f->base ? part->position : f->base; position < end; position++)
        if (entry_at(f, position)->size > 0)
            lose(f, sink, position);
    part->is_over = true;
    trim(f);
}

void flight_end_all(struct flight *f, const struct flight_sink *sink) {
    lose_before(f, sink, f->head);
    f->part_count = 0;
}

struct under_way *flight_next(struct flight *f, uint64_t *position) {
    while (*position < f->head) {
        struct under_way *entry = entry_at(f, (*position)++);
        if (entry->size > 0)
            return entry;
    }
    return NULL;
}

const struct under_way *flight_oldest(const struct flight *f) {
    return f->packets > 0 ? entry_at(f, f->base) : NULL;
}
