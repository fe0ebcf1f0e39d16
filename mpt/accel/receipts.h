/* What has arrived, for the reports to the peer: the receiving half of an adaptive connection. Pure but for its memory. */
#ifndef MPT_RECEIPTS_H
#define MPT_RECEIPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "feedback.h"

enum { RECEIPT_SAMPLES = 64, RECEIPT_PATHS = 64, RECEIPT_SESSIONS = 8 };

struct gap { /* numbers [first, end) that have not come */
    int64_t first, end;
    double found;      /* when it was seen, by the arrival number `reached` of the path */
    uint64_t reached;
    double missing_since; /* when it was taken for missing, if it is */
    uint32_t told;     /* reports that named it */
    bool is_listed;    /* in the report that is being made */
};
struct numbers { /* of one session and path */
    uint32_t session;
    int64_t newest;
    uint64_t reached;  /* how many datagrams came in the order of their numbers */
    struct gap *gaps;  /* in the order of their numbers: those that are missing, then those that are too new to be called so */
    uint32_t count, missing, room;
    double last;       /* when the last datagram came */
    bool came;         /* since the last report */
};
struct receipt_path { /* what has come over one path, with whatever session */
    uint32_t id;
    struct numbers sessions[RECEIPT_SESSIONS];
    uint32_t session_count;
    uint32_t session;  /* of the datagram that came last */
    uint32_t packets;
    uint64_t octets;
    uint16_t stamp;    /* of the datagram with the greatest number of the newest session */
    double stamp_came;
    int32_t least;     /* ticks modulo 2^16, since the last report; -1: nothing came */
    uint16_t samples[RECEIPT_SAMPLES];
    uint32_t sampled;
};
struct receipts { /* of one connection; receipts_init() */
    struct receipt_path *paths[RECEIPT_PATHS]; /* in the order of their first datagrams */
    uint32_t path_count;
    const struct mpt_tuning *tuning;
    double credit, reported_at, first, last_came;
    uint32_t unreported; /* packets and probes since the last report */
    uint32_t shown;      /* how many of the reports after the last arrival were made */
    bool untold;         /* a number is missing that was not told */
};
void receipts_init(struct receipts *receipts, const struct mpt_tuning *tuning);
void receipts_destroy(struct receipts *receipts);
struct receipt { /* a datagram that has opened */
    uint32_t session, path; /* our index, and the id of the path */
    uint64_t number;
    uint32_t size;       /* UDP payload */
    uint16_t stamp;
    double came;         /* when the kernel got it: the time until it is read is the processor's, not the line's */
    bool is_data;        /* it brought a packet or a probe; messages alone cause no report */
};
void receipts_arrived(struct receipts *receipts, const struct receipt *receipt, double now);
/* Note the octets of a datagram that comes, or goes with a packet: reports may cost a share of them. */
void receipts_earn(struct receipts *receipts, uint32_t octets);
void receipts_hurry(struct receipts *receipts, double now); /* the peer has to know something at once, even if a report is lost */
double receipts_deadline(const struct receipts *receipts); /* of a report; -1: nothing is to be told */
bool receipts_is_due(struct receipts *receipts, double now);
void receipts_report(struct receipts *receipts, struct mpt_feedback *feedback, double now); /* write the records */
void receipts_end(struct receipts *receipts, uint32_t session); /* it has ended */

#endif
