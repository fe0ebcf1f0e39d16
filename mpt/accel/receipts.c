/* See receipts.h. The twin is mpt/data/receipts.py, which has the rules. As a gap is found before the next one, those that are
 * missing stand before the others. */

#include "receipts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GAPS = 256, FIRST_ROOM = 8, MOST_COUNT = 0xFFFF, LONGEST_HELD = 0xFFFE, SILENCES = 4 };
enum { OVERHEAD = 30, OUTER_OCTETS = 28, COST = OVERHEAD + OUTER_OCTETS, MOST_CREDIT = REPORT_LARGEST + COST }; /* octets */

/* --- life --- */

void receipts_init(struct receipts *r, const struct mpt_tuning *tuning) {
    *r = (struct receipts){.tuning = tuning, .credit = MOST_CREDIT, .shown = SILENCES};
}

static void forget_session(struct receipt_path *path, uint32_t i) {
    free(path->sessions[i].gaps);
    path->session_count--;
    memmove(&path->sessions[i], &path->sessions[i + 1], (path->session_count - i) * sizeof *path->sessions);
}

void receipts_end(struct receipts *r, uint32_t session) {
    for (uint32_t k = 0; k < r->path_count; k++)
        for (uint32_t i = r->paths[k]->session_count; i-- > 0;)
            if (r->paths[k]->sessions[i].session == session)
                forget_session(r->paths[k], i);
}

void receipts_destroy(struct receipts *r) {
    for (uint32_t k = 0; k < r->path_count; k++) {
        while (r->paths[k]->session_count > 0)
            forget_session(r->paths[k], 0);
        free(r->paths[k]);
    }
    r->path_count = 0;
}

static struct receipt_path *path_with(struct receipts *r, uint32_t id) {
    for (uint32_t k = 0; k < r->path_count; k++)
        if (r->paths[k]->id == id)
            return r->paths[k];
    struct receipt_path *path = r->path_count < RECEIPT_PATHS ? calloc(1, sizeof *path) : NULL;
    if (path == NULL)
        return NULL;
    path->id = id;
    path->least = NOTHING;
    return r->paths[r->path_count++] = path;
}

static struct numbers *numbers_with(struct receipt_path *path, uint32_t session) {
    for (uint32_t i = path->session_count; i-- > 0;)
        if (path->sessions[i].session == session)
            return &path->sessions[i];
    if (path->session_count == RECEIPT_SESSIONS)
        forget_session(path, 0);
    struct numbers *n = &path->sessions[path->session_count++];
    *n = (struct numbers){.session = session, .newest = -1};
    return n;
}

/* --- the gaps --- */

static void forget_gap(struct numbers *n, uint32_t i) {
    n->count--;
    n->missing -= i < n->missing;
    memmove(&n->gaps[i], &n->gaps[i + 1], (n->count - i) * sizeof *n->gaps);
}

/* Make room for one more gap. false: no memory. */
static bool make_room(struct numbers *n) {
    if (n->count < n->room)
        return true;
    uint32_t room = n->room == 0 ? FIRST_ROOM : 2 * n->room;
    struct gap *more = realloc(n->gaps, room * sizeof *more);
    if (more == NULL)
        return false;
    n->gaps = more;
    n->room = room;
    return true;
}

static void add_gap(struct numbers *n, int64_t end, double now) {
    if (n->count == GAPS)
        forget_gap(n, 0);
    if (make_room(n))
        n->gaps[n->count++] = (struct gap){.first = n->newest + 1, .end = end, .found = now, .reached = n->reached};
}

/* Take `number` out of its gap. */
static void fill(struct numbers *n, int64_t number) {
    uint32_t i = n->count;
    while (i > 0 && number < n->gaps[i - 1].first)
        i--;
    if (i == 0 || number >= n->gaps[i - 1].end)
        return;
    struct gap *gap = &n->gaps[--i], rest = *gap;
    rest.first = number + 1;
    gap->end = number;
    if (gap->first == gap->end && rest.first == rest.end)
        forget_gap(n, i);
    else if (gap->first == gap->end)
        *gap = rest;
    else if (rest.first < rest.end && n->count < GAPS && make_room(n)) {
        gap = &n->gaps[i + 1];
        memmove(gap + 1, gap, (n->count - i - 1) * sizeof *gap);
        *gap = rest;
        n->count++;
        n->missing += i < n->missing;
    }
}

static void note_number(struct numbers *n, int64_t number, double now) {
    n->last = now;
    n->came = true;
    if (number <= n->newest) {
        fill(n, number);
        return;
    }
    n->reached++;
    if (number > n->newest + 1)
        add_gap(n, number, now);
    n->newest = number;
}

static bool has_untold(const struct numbers *n) {
    for (uint32_t i = n->missing; i-- > 0;) /* the newest were told least */
        if (n->gaps[i].told == 0)
            return true;
    return false;
}

/* Find out which gaps are missing by now. Return whether one became so. */
static bool look(const struct receipts *r, struct numbers *n, double now) {
    uint32_t before = n->missing;
    for (; n->missing < n->count; n->missing++) {
        struct gap *gap = &n->gaps[n->missing];
        if (n->reached - gap->reached < r->tuning->sure - 1 && now < gap->found + r->tuning->sure_after)
            break;
        gap->missing_since = now;
    }
    return n->missing > before;
}

/* --- arrivals --- */

static uint16_t ticks(const struct receipts *r, double now) { return (uint16_t)(uint64_t)(now * r->tuning->stamps_a_second); }

static void sample(struct receipt_path *path, uint16_t delay) {
    if (path->least < 0 || (uint16_t)(delay - path->least + 0x8000) < 0x8000)
        path->least = delay;
    path->samples[path->sampled++ % RECEIPT_SAMPLES] = delay;
}

void receipts_earn(struct receipts *r, uint32_t octets) { r->credit = fmin(r->credit + r->tuning->report_share * octets, MOST_CREDIT); }

void receipts_arrived(struct receipts *r, const struct receipt *receipt, double now) {
    struct receipt_path *path = path_with(r, receipt->path);
    if (path == NULL)
        return;
    struct numbers *n = numbers_with(path, receipt->session);
    bool is_newest = (int64_t)receipt->number > n->newest;
    note_number(n, (int64_t)receipt->number, now);
    if (n->missing < n->count && look(r, n, now))
        r->untold = true;
    uint32_t size = receipt->size + OUTER_OCTETS;
    path->packets++;
    path->octets += size;
    sample(path, (uint16_t)(ticks(r, receipt->came) - receipt->stamp));
    if (is_newest || receipt->session != path->session) {
        path->session = receipt->session;
        path->stamp = receipt->stamp;
        path->stamp_came = receipt->came;
    }
    receipts_earn(r, size);
    if (!receipt->is_data)
        return;
    if (r->unreported == 0)
        r->first = now;
    r->unreported++;
    r->last_came = now;
    r->shown = 0;
}

void receipts_hurry(struct receipts *r, double now) {
    r->untold = true;
    r->last_came = now;
    r->shown = 0;
}

/* --- when a report is due --- */

double receipts_deadline(const struct receipts *r) {
    if (r->shown == SILENCES)
        return -1;
    double due = r->last_came + r->tuning->silences[r->shown];
    if (r->untold)
        due = fmin(due, r->reported_at + r->tuning->soon);
    if (r->unreported > 0) {
        due = fmin(due, r->first + r->tuning->latest);
        if (r->credit >= COST + REPORT_HEAD + RECORD_LENGTH * (double)r->path_count)
            due = fmin(due, r->reported_at + (r->unreported >= r->tuning->reports_many ? r->tuning->short_pause : r->tuning->pause));
    }
    for (uint32_t k = 0; k < r->path_count; k++)
        for (uint32_t i = 0; i < r->paths[k]->session_count; i++) {
            const struct numbers *n = &r->paths[k]->sessions[i];
            if (n->missing < n->count)
                due = fmin(due, n->gaps[n->missing].found + r->tuning->sure_after);
        }
    return due;
}

bool receipts_is_due(struct receipts *r, double now) {
    double deadline = receipts_deadline(r);
    if (deadline < 0 || deadline > now)
        return false;
    for (uint32_t k = 0; k < r->path_count; k++)
        for (uint32_t i = 0; i < r->paths[k]->session_count; i++)
            if (look(r, &r->paths[k]->sessions[i], now))
                r->untold = true;
    deadline = receipts_deadline(r);
    return deadline >= 0 && deadline <= now;
}

/* --- a report --- */

static uint32_t pieces_of(const struct gap *gap, uint32_t most) {
    uint64_t pieces = ((uint64_t)(gap->end - gap->first) + MOST_COUNT - 1) / MOST_COUNT;
    return pieces < most ? (uint32_t)pieces : most;
}

static void put_in_order(struct mpt_record *record, const struct gap *gap, uint32_t pieces, int64_t *firsts) {
    uint32_t i = record->range_count;
    for (; i > 0 && firsts[i - 1] > gap->first; i--) {
        firsts[i - 1 + pieces] = firsts[i - 1];
        record->ranges[i - 1 + pieces] = record->ranges[i - 1];
    }
    for (uint32_t k = 0; k < pieces; k++) {
        int64_t first = gap->first + (int64_t)k * MOST_COUNT, left = gap->end - first;
        firsts[i + k] = first;
        record->ranges[i + k] = (struct mpt_range){(uint32_t)first, (uint32_t)(left < MOST_COUNT ? left : MOST_COUNT)};
    }
    record->range_count += pieces;
}

/* Tell what is missing in at most `room` ranges, first what was not told yet, and what is settled. */
static void tell(const struct receipts *r, struct numbers *n, struct mpt_record *record, uint32_t room, double now) {
    int64_t firsts[MPT_RANGES], settled = n->newest;
    for (uint32_t i = n->missing; i-- > 0;)
        if (n->gaps[i].told >= r->tuning->reports_told && now - n->gaps[i].missing_since >= r->tuning->told_for)
            forget_gap(n, i);
    for (int old = 0; old < 2; old++)
        for (uint32_t i = 0; i < n->missing; i++) {
            struct gap *gap = &n->gaps[i];
            if ((gap->told > 0) != old || gap->is_listed)
                continue;
            uint32_t pieces = pieces_of(gap, room);
            if (record->range_count + pieces <= room) {
                put_in_order(record, gap, pieces, firsts);
                gap->is_listed = true;
                gap->told++;
            } else if (gap->told == 0 && gap->first - 1 < settled)
                settled = gap->first - 1;
        }
    if (n->missing < n->count && n->gaps[n->missing].first - 1 < settled)
        settled = n->gaps[n->missing].first - 1;
    for (uint32_t i = 0; i < n->missing; i++)
        n->gaps[i].is_listed = false;
    record->settled = (uint32_t)settled;
    n->came = false;
}

/* Return the middle one of the samples, none of them more than half of 2^16 above the least; -1: nothing came. */
static int32_t median(const struct receipt_path *path) {
    uint16_t above[RECEIPT_SAMPLES];
    uint32_t count = path->sampled < RECEIPT_SAMPLES ? path->sampled : RECEIPT_SAMPLES;
    if (path->least < 0 || count == 0)
        return NOTHING;
    for (uint32_t i = 0; i < count; i++) {
        uint16_t value = (uint16_t)(path->samples[i] - path->least);
        uint32_t k = i;
        for (; k > 0 && above[k - 1] > value; k--)
            above[k] = above[k - 1];
        above[k] = value;
    }
    return (uint16_t)(path->least + above[(count - 1) / 2]);
}

static void put_record(const struct receipts *r, struct receipt_path *path, struct numbers *n, struct mpt_record *record,
                       uint32_t room, double now) {
    bool is_newest = n->session == path->session;
    *record = (struct mpt_record){.session = n->session, .path = path->id, .packets = path->packets, .octets = path->octets,
                                  .least = NOTHING, .median = NOTHING, .echo = path->stamp, .held = NOTHING};
    tell(r, n, record, room, now);
    if (!is_newest)
        return;
    double held = (now - path->stamp_came) * r->tuning->stamps_a_second;
    record->least = path->least;
    record->median = median(path);
    record->held = held <= LONGEST_HELD + 1 ? (int32_t)held : NOTHING;
    if (record->held > LONGEST_HELD)
        record->held = NOTHING;
    path->least = NOTHING;
    path->sampled = 0;
}

/* Note that a report of `length` octets was made. */
static void made(struct receipts *r, uint32_t length, double now) {
    while (r->shown < SILENCES && r->last_came + r->tuning->silences[r->shown] <= now)
        r->shown++;
    r->credit = fmax(r->credit - (COST + length), 0);
    r->reported_at = now;
    r->unreported = 0;
    r->untold = false;
    for (uint32_t k = 0; k < r->path_count; k++)
        for (uint32_t i = 0; i < r->paths[k]->session_count; i++)
            r->untold = r->untold || has_untold(&r->paths[k]->sessions[i]);
}

/* Write the paths, those over which something came last first. */
static void sort_paths(const struct receipts *r, struct receipt_path **sorted) {
    for (uint32_t i = 0; i < r->path_count; i++) {
        uint32_t k = i;
        for (; k > 0 && sorted[k - 1]->stamp_came < r->paths[i]->stamp_came; k--)
            sorted[k] = sorted[k - 1];
        sorted[k] = r->paths[i];
    }
}

void receipts_report(struct receipts *r, struct mpt_feedback *feedback, double now) {
    struct receipt_path *paths[RECEIPT_PATHS];
    uint32_t length = REPORT_HEAD;
    feedback->record_count = 0;
    sort_paths(r, paths);
    for (uint32_t k = 0; k < r->path_count; k++)
        for (uint32_t i = 0; i < paths[k]->session_count; i++) {
            struct numbers *n = &paths[k]->sessions[i];
            bool is_silent = now - n->last > (n->session == paths[k]->session ? r->tuning->silent : r->tuning->old_session);
            if (REPORT_LARGEST - length < RECORD_LENGTH || (is_silent && !n->came && n->count == 0))
                continue;
            uint32_t room = (REPORT_LARGEST - length - RECORD_LENGTH) / RANGE_LENGTH;
            struct mpt_record *record = &feedback->records[feedback->record_count++];
            put_record(r, paths[k], n, record, room < MPT_RANGES ? room : MPT_RANGES, now);
            length += RECORD_LENGTH + RANGE_LENGTH * record->range_count;
        }
    made(r, length, now);
}
