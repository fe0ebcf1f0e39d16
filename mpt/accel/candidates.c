/* Streams that may take the place of the present one: mpt/data/candidates.py, which has the rules, function by function. */

#include "candidates.h"

#include <stdlib.h>

struct candidate {
    struct stray last;
    bool is_kept; /* the packet of `last` */
    uint64_t votes, brought_before;
    double began; /* the count of its votes */
};

bool candidates_init(struct candidates *c, const struct mpt_tuning *tuning, uint32_t window, double max_delay,
                     struct sink sink, struct order_drops *drops) {
    *c = (struct candidates){.tuning = tuning, .window = window, .max_delay = max_delay, .sink = sink, .drops = drops};
    c->all = calloc(tuning->candidates, sizeof *c->all);
    return c->all != NULL;
}

void candidates_destroy(struct candidates *c) {
    for (uint32_t i = 0; i < c->count; i++)
        if (c->all[i].is_kept)
            c->sink.release(c->sink.context, c->all[i].last.packet);
    free(c->all);
}

static void start_count(struct candidate *candidate, const struct stray *stray) {
    candidate->votes = 1;
    candidate->began = stray->arrival_time;
    candidate->brought_before = stray->brought;
}

/* Drop the kept packet of a candidate. */
static void drop_packet(struct candidates *c, struct candidate *candidate) {
    if (!candidate->is_kept)
        return;
    candidate->is_kept = false;
    c->kept--;
    c->drops->stray++;
    c->sink.release(c->sink.context, candidate->last.packet);
}

static void remove_candidate(struct candidates *c, uint32_t i) {
    drop_packet(c, &c->all[i]);
    c->count--;
    memmove(&c->all[i], &c->all[i + 1], (c->count - i) * sizeof *c->all);
}

static int32_t ahead(uint32_t sequence, uint32_t reference) { return (int32_t)(sequence - reference); }

static uint32_t candidate_of(const struct candidates *c, uint32_t sequence) {
    uint32_t i = 0;
    while (i < c->count && llabs((long long)ahead(sequence, c->all[i].last.sequence)) > c->window)
        i++;
    return i;
}

static void make_room(struct candidates *c) {
    uint32_t fewest = 0;
    if (c->count < c->tuning->candidates)
        return;
    for (uint32_t i = 1; i < c->count; i++)
        if (c->all[i].votes < c->all[fewest].votes)
            fewest = i;
    remove_candidate(c, fewest);
}

static bool takes_over(const struct candidates *c, struct candidate *candidate, const struct stray *stray, bool gives_way) {
    uint64_t rival = stray->brought - candidate->brought_before;
    if (gives_way && candidate->votes > rival)
        return true;
    if (stray->arrival_time - candidate->began < c->tuning->period)
        return false;
    if ((double)candidate->votes > c->tuning->majority * (double)rival)
        return true;
    start_count(candidate, stray);
    return false;
}

uint32_t candidates_arrive(struct candidates *c, struct stray stray, bool gives_way, struct stray first[2]) {
    while (c->count > 0 && stray.arrival_time - c->all[0].last.arrival_time > c->max_delay + c->tuning->age)
        remove_candidate(c, 0);
    uint32_t i = candidate_of(c, stray.sequence);
    struct candidate voted = {.last = stray, .is_kept = true};
    if (i == c->count) {
        make_room(c);
        start_count(&voted, &stray);
    } else {
        int32_t distance = ahead(stray.sequence, c->all[i].last.sequence);
        if (distance == 0 || (distance < 0 && !c->all[i].is_kept)) { /* what follows it has been delivered */
            ++*(distance ? &c->drops->late : &c->drops->duplicate);
            c->sink.release(c->sink.context, stray.packet);
            return 0;
        }
        c->all[i].votes++;
        if (takes_over(c, &c->all[i], &stray, gives_way)) {
            uint32_t count = 0;
            struct candidate winner = c->all[i];
            c->kept -= winner.is_kept;
            c->all[i].is_kept = false;
            candidates_clear(c);
            if (winner.is_kept && distance > 0)
                first[count++] = winner.last;
            first[count++] = stray;
            if (winner.is_kept && distance < 0)
                first[count++] = winner.last;
            return count;
        }
        voted.votes = c->all[i].votes;
        voted.began = c->all[i].began;
        voted.brought_before = c->all[i].brought_before;
        remove_candidate(c, i);
    }
    c->all[c->count++] = voted;
    c->kept++;
    return 0;
}

double candidates_next_deadline(const struct candidates *c) {
    double first = -1;
    for (uint32_t i = 0; i < c->count; i++)
        if (c->all[i].is_kept && (first < 0 || c->all[i].last.arrival_time < first))
            first = c->all[i].last.arrival_time;
    return first < 0 ? -1 : first + c->max_delay;
}

void candidates_deadline(struct candidates *c, double now, uint64_t brought) {
    for (uint32_t i = 0; i < c->count; i++) {
        struct candidate *candidate = &c->all[i];
        if (!candidate->is_kept || candidate->last.arrival_time + c->max_delay > now)
            continue;
        if (candidate->last.brought != brought) {
            drop_packet(c, candidate);
            continue;
        }
        candidate->is_kept = false;
        c->kept--;
        c->sink.deliver(c->sink.context, candidate->last.packet);
    }
}

void candidates_clear(struct candidates *c) {
    while (c->count > 0)
        remove_candidate(c, c->count - 1);
}

void candidates_copy_out(struct candidates *c) {
    for (uint32_t i = 0; i < c->count; i++)
        if (c->all[i].is_kept)
            packet_copy_out(&c->sink, &c->all[i].last.packet);
}
