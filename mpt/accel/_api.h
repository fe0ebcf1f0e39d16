/* The native data path as Python sees it. cffi reads this file as it stands, so it has no preprocessor but #define. */

#define MPT_ERRNOS 134 /* counted by number; a greater one is counted under 0 */

enum mpt_reason { /* why a packet was dropped; the names without the prefix are the values of mpt.data.counters.Reason */
    MPT_NONE,
    MPT_NOT_IP,
    MPT_NO_CONNECTION,
    MPT_LOOP,
    MPT_NO_PATH,
    MPT_NO_SESSION,
    MPT_TOO_BIG,
    MPT_QUEUE_FULL,
    MPT_CODEL,
    MPT_OFFLOAD_MALFORMED,
    MPT_UNKNOWN_SOURCE,
    MPT_GRE_TRUNCATED,
    MPT_GRE_VERSION,
    MPT_GRE_RESERVED_BITS,
    MPT_GRE_PROTOCOL,
    MPT_GRE_CHECKSUM,
    MPT_INNER_TRUNCATED,
    MPT_INNER_VERSION,
    MPT_INNER_SOURCE,
    MPT_KEEPALIVE_UNKNOWN,
    MPT_COMMAND_ON_DATA_PORT,
    MPT_SEAL_UNKNOWN_KIND,
    MPT_SEAL_TRUNCATED,
    MPT_SEAL_SESSION,
    MPT_SEAL_PATH,
    MPT_SEAL_REPLAY,
    MPT_SEAL_TAG,
    MPT_HANDSHAKE_UNEXPECTED,
    MPT_HANDSHAKE_MAC,
    MPT_HANDSHAKE_FLOOD,
    MPT_HANDSHAKE_RETRY,
    MPT_MESSAGE_UNKNOWN,
    MPT_MESSAGE_FLOOD,
    MPT_FEEDBACK_MALFORMED,
    MPT_ECN_NOT_ECT,
    MPT_LATE,
    MPT_DUPLICATE,
    MPT_COPY,
    MPT_STRAY,
    MPT_TUN_FULL,
    MPT_REASONS
};

enum mpt_offload { /* offloads in use; each is given up on its own when the kernel or the link refuses it */
    MPT_VNET_HDR = 1,     /* the TUN has IFF_VNET_HDR: every packet has a struct virtio_net_hdr of 10 octets before it */
    MPT_JOIN_TCP = 2,     /* join TCP segments for the TUN */
    MPT_JOIN_UDP = 4,     /* join UDP datagrams for the TUN */
    MPT_UDP_SEGMENT = 8   /* let the kernel cut runs of datagrams for the paths */
};

struct mpt_address {
    uint8_t version; /* 4, 6; 0: none */
    uint8_t octets[16]; /* IPv4 in the first four */
};

struct mpt_network {
    struct mpt_address base;
    uint32_t length; /* of the prefix, in bits */
    int here; /* behind us, else behind the peer */
};

struct mpt_port_rule { /* TCP and UDP packets of a port that are mapped to a path; sorted by key */
    uint32_t key; /* (0: source, 1: destination) << 24 | protocol << 16 | port */
    uint32_t path; /* its index */
};

struct mpt_port_range { uint32_t first, last; };

struct mpt_class_rule { /* mpt.data.pathtable.ClassRule */
    uint64_t dscps; /* a bit for each; 0: any */
    int protocol; /* -1: any */
    struct mpt_port_range *ranges;
    uint32_t range_count;
    int is_realtime;
    uint32_t copies; /* 0: 2 of a small flow, else 1 */
};

struct mpt_tuning { /* the constants of the rules; mpt.data.equalizer, knowledge, stream, toobig ... give their reasons */
    double gap_gain;
    double keepalive_gain;
    double nearer; /* part of an interval */
    double negligible; /* seconds */
    double share;
    double doubt; /* seconds */
    double longest_doubt; /* seconds */
    double restart_silence; /* seconds */
    double path_memory; /* seconds */
    double distrust; /* seconds */
    double good_part;
    double fair_part;
    double poor_part;
    double short_wait; /* seconds */
    double patience_gain;
    double patience_decay;
    double period; /* seconds */
    double majority;
    double age; /* seconds */
    double answers; /* a second */
    double answers_at_once;
    double firsts; /* a second */
    double firsts_at_once;
    double retries; /* a second */
    double retries_at_once;
    double proven; /* a second */
    double proven_at_once;
    double told; /* a second */
    double told_at_once;
    double token_life; /* seconds */
    double longest_wait; /* seconds; of mpt.host.udp */
    double forget; /* seconds */
    double stamps_a_second;
    double thin_period, thick_time; /* seconds; of mpt.data.flowqueue */
    double sure_after, told_for, soon, pause, short_pause, latest, silent, old_session; /* seconds; of mpt.data.receipts */
    double silences[4]; /* seconds */
    double idle_news; /* seconds; of mpt.data.adaptives */
    double report_share;
    double longest_hold, longest_playout; /* seconds; of mpt.data.playout */
    double excess, blocked; /* `blocked`: seconds; of mpt.data.rooms */
    double too_late, repair_share; /* seconds; of mpt.data.repair */
    double copy_share; /* of mpt.data.adaptive */
    double start_rate, start_rto, start_hold; /* octets a second, seconds; of mpt.limits */
    uint32_t near; /* packets */
    uint32_t many;
    uint32_t review; /* packets, >= 1 */
    uint32_t gaps_remembered; /* >= 1 */
    uint32_t candidates; /* >= 1 */
    uint32_t streams; /* >= 1 */
    uint32_t quantum, largest_packet, count_memory; /* octets, intervals; of mpt.data.flowqueue */
    uint32_t sure, reports_told, reports_many; /* of mpt.data.receipts */
    uint32_t far_ahead; /* positions; of mpt.data.playout */
    uint32_t excess_octets; /* of mpt.data.rooms */
    uint32_t tries, repair_burst, patience; /* `repair_burst`: octets; of mpt.data.repair */
    uint32_t usual; /* octets; of mpt.data.adaptive */
    uint32_t start_window; /* octets; of mpt.limits */
};

struct mpt_path_counters { /* outlives every table */
    uint64_t packets_sent;
    uint64_t bytes_sent;
    uint64_t packets_received;
    uint64_t bytes_received;
    double last_received; /* monotonic seconds */
    uint64_t send_errors[MPT_ERRNOS];
};

enum mpt_event_kind { MPT_MESSAGE, MPT_HANDSHAKE, MPT_MOVED, MPT_COPIED, MPT_CONFIRMED, MPT_REPORT };

struct mpt_event { /* for control; the classes of mpt.data.events have the same names */
    int kind;
    uint32_t subject; /* the id of the path, of MPT_CONFIRMED the connection's */
    uint32_t session; /* our index of it, where the datagram was sealed */
    int fd; /* where the datagram came to; -1: it was not sealed */
    uint8_t source[28]; /* struct sockaddr_in or sockaddr_in6 */
    uint32_t size; /* of the whole datagram */
    uint32_t offset; /* of its octets */
    uint32_t length;
    double at; /* the `now` of the wake-up that brought it */
};

enum mpt_cipher { MPT_AES_128_GCM, MPT_CHACHA20_POLY1305, MPT_AES_256_GCM };

struct mpt_session_keys { /* a key has 32 octets, of which AES-128 takes the first 16 */
    uint32_t index; /* ours, in the datagrams to us */
    uint32_t peer_index; /* in the datagrams from us */
    int cipher; /* enum mpt_cipher */
    uint8_t send_key[32];
    uint8_t send_iv[12];
    uint8_t receive_key[32];
    uint8_t receive_iv[12];
};

struct mpt_path_row {
    uint32_t id; /* of paths, from 0 on: the state of a path is kept under it for ever */
    int fd; /* -1: none */
    int usable;
    uint32_t weight; /* 1 .. 10000 */
    uint32_t mtu; /* octets of the largest packet that it carries, 0: unknown */
    uint32_t seal_id; /* in the envelope, 0 .. 63; of a sealed connection */
    int unplaced; /* no place to send to is known; of a sealed connection */
    uint8_t outer_remote[28]; /* struct sockaddr_in or sockaddr_in6 */
    uint32_t outer_remote_length; /* 0: the socket is connected */
    struct mpt_address peer; /* from which it takes datagrams */
    struct mpt_address loop; /* the inner destination that would come back */
};

struct mpt_share {
    uint32_t path; /* its id */
    uint32_t weight; /* 1 .. 10000; 0: not used */
};

struct mpt_path_mtu {
    uint32_t path; /* its id */
    uint32_t mtu; /* octets, 0: unknown */
};

struct mpt_connection_row {
    uint32_t id;
    struct mpt_address tunnel_local;
    struct mpt_address tunnel_peer;
    struct mpt_address broadcast; /* of the tunnel's IPv4 prefix */
    uint32_t reorder_window; /* packets, 0: none */
    double max_delay; /* seconds */
    uint8_t tos_by_inner[256]; /* the TOS octet of a datagram, by its packet's; 0: the socket's */
    int sets_tos; /* not all are 0 */
    uint32_t mss_clamp; /* octets of the largest packet of TCP, 0: as its ends agree */
    int sequenced; /* packets are sent with sequence numbers */
    int keyed; /* and with the keys of their flows, each with numbers of its own */
    int sealed; /* with the envelope of a session around every datagram */
    uint8_t message_tos; /* the TOS octet of messages */
    struct mpt_network *networks;
    uint32_t network_count;
    struct mpt_port_rule *rules;
    uint32_t rule_count;
    int is_adaptive; /* what comes is reported */
    int sends; /* and packets go adaptively, too: mpt.data.pathtable.Adaptive has the following */
    int ordered;
    uint32_t queue_packets, thin;
    double target, interval;
    struct mpt_class_rule *classes;
    uint32_t class_count;
    struct mpt_path_row *paths;
    uint32_t path_count;
};

#define MPT_RANGES 60 /* of a record */
#define MPT_RECORDS 39 /* of a report: more do not fit */

struct mpt_range { uint32_t first, count; }; /* numbers that are missing; the low half of the first */

struct mpt_record { /* mpt.wire.feedback.Record */
    uint32_t session, path, settled, packets;
    uint64_t octets;
    int32_t least, median; /* ticks; -1: nothing came */
    uint32_t echo;
    int32_t held; /* ticks; -1: nothing came, or too long ago */
    uint32_t range_count;
    struct mpt_range ranges[MPT_RANGES];
    int suspect;
};

struct mpt_feedback { /* mpt.wire.feedback.Feedback */
    uint32_t hold;
    int32_t playout; /* ticks; -1: at once */
    int acks;
    uint32_t clock, record_count;
    struct mpt_record records[MPT_RECORDS];
};

struct mpt_path_limits { /* mpt.limits.PathLimits */
    uint32_t path; /* its id */
    uint64_t window; /* octets */
    double pace, burst, delay, rate, slack, rto;
    int is_live, admits, shadow, suspect;
    int64_t line;
};

struct mpt_order_limits { /* mpt.limits.OrderLimits */
    uint32_t connection; /* its id */
    double hold; /* seconds */
    int32_t playout; /* ticks; -1: at once */
    int acks;
};

struct mpt_flight { /* mpt.limits.FlightMeasures; times of 0: never, none */
    uint64_t octets, packets, queue_octets, queue_packets, resent, copies, lost, sent, received;
    double oldest, limited_at, reported_at;
};

#define MPT_OCTAVES 11

struct mpt_adaptive_counters { /* mpt.limits.AdaptiveCounters */
    uint64_t codel_dropped, codel_marked, overflowed, thin, realtime, resent, resend_late, resend_refused, copies_sent;
    uint64_t copies_dropped, late, skipped, held;
    uint64_t holds[MPT_OCTAVES];
};

struct mpt_report { /* mpt.limits.Report, of MPT_REPORT */
    uint32_t clock, packets;
    uint64_t octets, acked;
    uint32_t lost;
    int32_t least, median; /* ticks; -1: nothing came */
    double rtt; /* seconds; -1: unknown */
    uint64_t in_flight;
    double limited_at;
    double oldest; /* 0: nothing is under way */
    int settled_moved, suspect;
};

struct mpt_counters {
    uint64_t packets_read;
    uint64_t packets_waiting; /* in the queues of adaptive connections */
    uint64_t datagrams_received;
    uint64_t keepalives_received;
    uint64_t messages_received; /* of sealed paths, less keepalives */
    uint64_t handshakes_received;
    uint64_t packets_delivered;
    uint64_t packets_held;
    uint64_t ecn_unexpected;
    uint64_t egress_dropped[MPT_REASONS];
    uint64_t ingress_dropped[MPT_REASONS];
    uint64_t tun_read_errors[MPT_ERRNOS];
    uint64_t tun_write_errors[MPT_ERRNOS];
    uint64_t send_drops[MPT_ERRNOS];
    uint64_t tun_reads; /* system calls that carried packets, which show the batching */
    uint64_t tun_writes;
    uint64_t sends;
    uint64_t receives;
};

/* --- the data path (datapath.c, egress.c, ingress.c) --- */

struct mpt_datapath *mpt_new(int tun, int offloads, uint64_t secret, const struct mpt_tuning *tuning);
void mpt_free(struct mpt_datapath *datapath);
/* Returns 0, or -1 without memory, and then the old table stands. */
int mpt_set_table(struct mpt_datapath *datapath, const struct mpt_connection_row *rows, uint32_t count, double now);
/* Change weights in the table, and which paths are used; a path without a socket stays unused. Costs no allocation. */
void mpt_set_shares(struct mpt_datapath *datapath, const struct mpt_share *shares, uint32_t count, double now);
/* Change how large the packets of paths may be. Costs no allocation. */
void mpt_set_path_mtus(struct mpt_datapath *datapath, const struct mpt_path_mtu *mtus, uint32_t count);
/* Serve the TUN or the socket `fd`, which is readable, and everything else ready and due, again and again, until nothing is
 * or `budget` seconds are over; after much work wait a moment for more. 0: `fd` alone.
 *
 * In the `turn` seconds after a wake-up that ended with its budget nothing is done for another descriptor: it was served, too,
 * or will be soon, as one other at least is served in every wake-up, by turns. The reactor, which calls once in a turn for each
 * that was ready, has others to serve. */
void mpt_serve(struct mpt_datapath *datapath, int fd, double now, double budget, double turn);
/* Return the `count` messages since the last call, and their octets; they hold until the next call of any function. */
const struct mpt_event *mpt_take_events(struct mpt_datapath *datapath, uint32_t *count, const uint8_t **octets);
/* Send a message over a path. Return 0, or the errno; ENOENT: the path is in no table, has no socket, or is sealed and has
   no session or no place to send to. */
int mpt_send(struct mpt_datapath *datapath, uint32_t path, const uint8_t *message, uint32_t length, double now);
/* The same over the socket `fd` to another address, on a sealed path. `name` has `name_length` octets, 0 for a connected socket. */
int mpt_send_to(struct mpt_datapath *datapath, uint32_t path, int fd, const uint8_t *name, uint32_t name_length,
                const uint8_t *message, uint32_t length, double now);
void mpt_deadline_reached(struct mpt_datapath *datapath, double now);
double mpt_next_deadline(const struct mpt_datapath *datapath); /* -1: nothing is held */
void mpt_counters(const struct mpt_datapath *datapath, struct mpt_counters *counters);
/* Of a path that was in a table; NULL: there was none with this id. */
const struct mpt_path_counters *mpt_path_counters(const struct mpt_datapath *datapath, uint32_t path);
int mpt_offloads(const struct mpt_datapath *datapath);

/* --- sealed connections (session.c, handshake.c); a connection is named by its id --- */

int mpt_can_seal(void); /* it was built with libcrypto */
const char *mpt_seal_library(void); /* its version; NULL: there is none */
/* The library that makes AES-GCM instead for data paths that are made now; NULL: none. */
const char *mpt_gcm_library(void);
void mpt_allow_gcm(int allowed); /* from the start it is allowed */
/* Both keys have 32 octets. NULL: take no first datagrams. */
void mpt_set_identity(struct mpt_datapath *datapath, const uint8_t *mac1_key, const uint8_t *token_key);
/* Take datagrams that name these sessions of ours alone; `keys` has 32 octets for each. Return 0, or -1 without
   memory, and then the old ones stand. */
int mpt_expect(struct mpt_datapath *datapath, const uint32_t *indexes, const uint8_t *keys, uint32_t count);
/* Return 0; ENOENT: the table has no such sealed connection; EEXIST: the index is in use; ENOMEM. `keys` are overwritten. */
int mpt_add_session(struct mpt_datapath *datapath, uint32_t connection, struct mpt_session_keys *keys);
int mpt_send_with(struct mpt_datapath *datapath, uint32_t connection, uint32_t index, double now); /* 0, or ENOENT */
void mpt_send_with_none(struct mpt_datapath *datapath, uint32_t connection);
void mpt_end_session(struct mpt_datapath *datapath, uint32_t connection, uint32_t index);
uint64_t mpt_sent_numbers(const struct mpt_datapath *datapath, uint32_t connection);
/* Send the datagrams of a sealed path over `fd` to this address; another path is left as it is. */
void mpt_set_remote(struct mpt_datapath *datapath, uint32_t path, int fd, const uint8_t *name, uint32_t name_length);

/* --- adaptive connections (adaptives.c): DataPath.set_limits() and what follows it; paths and connections are named by ids --- */

void mpt_set_limits(struct mpt_datapath *datapath, const struct mpt_path_limits *limits, uint32_t count,
                    const struct mpt_order_limits *orders, uint32_t order_count, double now);
uint32_t mpt_rescue(struct mpt_datapath *datapath, uint32_t path, double now, int bounded);
void mpt_flight(const struct mpt_datapath *datapath, uint32_t path, struct mpt_flight *flight);
void mpt_adaptive_counters(const struct mpt_datapath *datapath, uint32_t connection, struct mpt_adaptive_counters *counters);

/* --- the pure parts, for tests and fuzzers --- */

/* Seal `content` with the sending half of `keys`, into `datagram` with room for 30 octets more. Return 0, or -1. */
int mpt_seal(const struct mpt_session_keys *keys, uint32_t path_id, uint64_t number, uint32_t stamp, const uint8_t *content,
             uint32_t length, uint8_t *datagram);
/* Open a datagram with the receiving half, in place: the content begins at octet 14. Return its length, or -1. */
int64_t mpt_open(const struct mpt_session_keys *keys, uint8_t *datagram, uint32_t length);
/* Let a replay window take `numbers` in turn; `taken` tells which were new. */
void mpt_replay(const uint64_t *numbers, uint32_t count, uint8_t *taken);

/* Read and write message 42. Decoding returns 0, or -1; encoding the length, of at most 1200 octets. */
int mpt_feedback_decode(const uint8_t *octets, uint32_t length, struct mpt_feedback *feedback);
uint32_t mpt_feedback_encode(const struct mpt_feedback *feedback, uint8_t *octets);

/* The parts of adaptive connections alone (rehearsal.c), with a queue, a flight, receipts and a playout of their own. NULL: no
   memory. `labels` gets those of packets that were lost or delivered; mpt_rehearse_labels() returns how many, and begins anew. */
struct mpt_rehearsal *mpt_rehearse(const struct mpt_tuning *tuning, uint32_t limit, double target, double interval,
                                   uint32_t window, double longest, uint32_t *labels);
void mpt_rehearse_end(struct mpt_rehearsal *rehearsal);
uint32_t mpt_rehearse_labels(struct mpt_rehearsal *rehearsal);
int mpt_rehearse_push(struct mpt_rehearsal *rehearsal, uint32_t flow, const uint8_t *packet, uint32_t length, int urgent, double now);
uint32_t mpt_rehearse_pop(struct mpt_rehearsal *rehearsal, uint8_t *packet, double now); /* its length, 0: none */
int mpt_rehearse_thin(struct mpt_rehearsal *rehearsal, uint32_t flow, uint32_t length, uint32_t most, double now); /* 2 more: small */
void mpt_rehearse_queue_counts(const struct mpt_rehearsal *rehearsal, uint64_t *counts); /* packets, octets, dropped, marked, overflowed */
void mpt_rehearse_sent(struct mpt_rehearsal *rehearsal, uint64_t space, uint64_t number, uint32_t size, uint32_t label, double now);
/* Octets that are newly acknowledged; -1: the record says nothing new; -2: it is not new. */
int64_t mpt_rehearse_record(struct mpt_rehearsal *rehearsal, uint64_t space, uint32_t clock, uint32_t settled,
                            const struct mpt_range *ranges, uint32_t count);
void mpt_rehearse_session_end(struct mpt_rehearsal *rehearsal, uint64_t space);
void mpt_rehearse_flight(const struct mpt_rehearsal *rehearsal, struct mpt_flight *flight);
void mpt_rehearse_arrived(struct mpt_rehearsal *rehearsal, uint32_t session, uint32_t path, uint64_t number, uint32_t size,
                          uint32_t stamp, double waited, int is_data, double now);
double mpt_rehearse_report_deadline(const struct mpt_rehearsal *rehearsal); /* -1: none */
int mpt_rehearse_report(struct mpt_rehearsal *rehearsal, struct mpt_feedback *feedback, double now); /* 0: none is due */
void mpt_rehearse_forget(struct mpt_rehearsal *rehearsal, uint32_t session);
void mpt_rehearse_order(struct mpt_rehearsal *rehearsal, double hold, int32_t ticks, int acks);
/* A packet of 44 octets with its label at the end; a key of -1 is none. */
int mpt_rehearse_arrive(struct mpt_rehearsal *rehearsal, int64_t key, uint32_t sequence, uint32_t stamp, const uint8_t *packet,
                        double now);
void mpt_rehearse_wake(struct mpt_rehearsal *rehearsal, double now);
double mpt_rehearse_playout_deadline(struct mpt_rehearsal *rehearsal); /* -1: none */
void mpt_rehearse_flush(struct mpt_rehearsal *rehearsal, double now);
uint32_t mpt_rehearse_playout_counts(const struct mpt_rehearsal *rehearsal, struct mpt_adaptive_counters *counters); /* held */
int mpt_rehearse_trait(const uint8_t *packet, uint32_t length, const struct mpt_class_rule *rules, uint32_t count);

/* The Internet checksum of RFC 1071, as a number. */
uint16_t mpt_checksum(const uint8_t *octets, uint32_t length);
/* The length of the GRE header, or minus the reason to drop the datagram. */
int mpt_gre_decode(const uint8_t *datagram, uint32_t length, uint32_t *ip_version, int *sequenced, uint32_t *sequence);
/* Put the outer ECN field of a datagram into its packet, at least an IP header, by RFC 6040 section 4.2.
   Return 0; 1 if no honest path makes such a pair of fields; -1 if the packet is to be dropped. */
int mpt_decapsulate_ecn(uint8_t *packet, uint32_t outer);
/* Protocol << 32 | source << 16 | destination, or -1. */
int64_t mpt_ports(const uint8_t *packet, uint32_t length);
/* Lower the largest segment of a SYN to that of packets of `size` octets; `is_partial`: its checksum does not follow. */
void mpt_clamp_mss(uint8_t *packet, uint32_t length, uint32_t size, int is_partial);
/* The answer that packets may have `size` octets, at most 1280 octets; 0: nobody may be told. */
uint32_t mpt_too_big_answer(const uint8_t *packet, uint32_t length, uint32_t size, const struct mpt_address *sender,
                            uint8_t *out);
/* Cut an IPv4 packet: `out` gets the fragments one after the other, `sizes` their lengths. Return how many, or -1. */
int mpt_fragments(const uint8_t *packet, uint32_t length, uint32_t size, uint8_t *out, uint32_t room, uint32_t *sizes,
                  uint32_t max);
/* The first `count` picks of the cycle. */
void mpt_cycle(const uint32_t *weights, uint32_t paths, uint32_t *picks, uint32_t count);
/* The same of packets that do not fit every path: `fitting` has a bit for each path. A pick of UINT32_MAX is none. */
void mpt_fitting_cycle(const uint32_t *weights, uint32_t paths, const uint32_t *fitting, uint32_t *picks, uint32_t count);
/* Complete and cut a frame of the TUN: `frame` is a virtio_net_hdr and a packet, `out` gets the packets one after the other,
   `sizes` their lengths. Return how many, or -1 when the frame is malformed or there is no room. */
int mpt_split(uint8_t *frame, uint32_t length, uint8_t *out, uint32_t room, uint32_t *sizes, uint32_t max);
/* Join the neighbours that may be joined among `count` packets that lie one after the other: frames for the TUN, as above. */
int mpt_join(const uint8_t *packets, const uint32_t *lengths, uint32_t count, int offloads,
             uint8_t *out, uint32_t room, uint32_t *sizes, uint32_t max);

struct mpt_order_step { /* what happens to an order */
    int kind; /* 0: a packet arrives; 1: a deadline is reached; 2: a keepalive; 3: a path comes up; 4: goes down; 5: flush */
    double now;
    uint32_t path;
    uint32_t sequence, key; /* of a packet; its label is the number of its step */
    int has_key;
    uint16_t stamp;
};
/* Do `count` steps to the order of a connection, sealed if it `has_stamps`: `delivered` gets the labels of the packets, one
   for each that arrives at the most, `ends` how many there are after each step, `deadlines` the next deadline then, -1: none.
   `dropped` counts by reason. Return how many packets are still held, or -1 without memory. */
int64_t mpt_order(const struct mpt_tuning *tuning, uint32_t window, double max_delay, int has_stamps,
                  const struct mpt_order_step *steps, uint32_t count, uint32_t *delivered, uint32_t *ends,
                  double *deadlines, uint64_t *dropped);
