/* A whole data path: datagrams on UDP sockets of the loopback and on a socketpair, frames of the TUN, time, tables. At
 * every step all sums must agree, what left must be right, and what was delivered must have been written.
 *
 * Input: the offloads, and a bit for wake-ups that serve whatever is ready; then steps: a kind, a length in two octets, the
 * octets. */
#include "sockets.h"

#include <poll.h>

enum { NUMBERS = 1 << 14, KEY_NUMBERS = 8, KNOWN = 1 << 12 };
enum { PATIENCE = 50 }; /* milliseconds for a datagram that was sent; it takes none unless the machine is busy */
enum { READ_NOW = 8 /* a bit of the kind of a step: and let it be read */ };

static struct mpt_datapath *dp;
static int offloads; /* at the beginning */
static double budget; /* of a wake-up; 0: it serves one descriptor */
static struct mpt_counters counted;
static uint8_t tos_by_inner[256];
static double now;
static uint64_t written, received[PATHS]; /* packets that came out of the TUN, and datagrams at the peers */
static uint64_t sent_before[2], refused; /* by the connections before they began; packets that no path took */
static bool number_used[2][NUMBERS], key_number_used[2][4096][KEY_NUMBERS];
static struct known { uint64_t hash; uint32_t count; } known[KNOWN]; /* the packets that peers sent and nobody wrote */
static uint32_t known_count;

/* --- what goes in must come out --- */

/* Hash the octets that the tunnel does not change: not the ECN field, nor whether a checksum is 0 or 0xFFFF. */
static uint64_t hash_of(const uint8_t *packet, uint32_t length) {
    static uint8_t copy[FRAME + 8];
    uint64_t hash = length;
    memcpy(copy, packet, length);
    memset(copy + length, 0, 8);
    if (packet[0] >> 4 == 4) {
        copy[1] = 0;
        put16(copy + 10, 0);
        put16(copy + 36, 0);
    } else {
        put16(copy, 0);
        put16(copy + 56, 0);
    }
    for (uint32_t i = 0; i < length; i += 8) {
        uint64_t word;
        memcpy(&word, copy + i, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    return hash | 1;
}

static struct known *find(uint64_t hash) {
    struct known *place = &known[hash % KNOWN];
    while (place->hash != 0 && place->hash != hash)
        place = place < known + KNOWN - 1 ? place + 1 : known;
    return place;
}

static void remember(const uint8_t *datagram, size_t length) {
    uint32_t version, sequence;
    int sequenced, header = mpt_gre_decode(datagram, (uint32_t)length, &version, &sequenced, &sequence);
    if (header < 0 || length < (size_t)header + 20 || known_count > KNOWN / 2)
        return;
    uint64_t hash = hash_of(datagram + header, (uint32_t)length - (uint32_t)header);
    struct known *place = find(hash);
    known_count += place->hash == 0;
    *place = (struct known){hash, place->count + 1};
}

static void check_packet(const uint8_t *packet, uint32_t length) {
    if (known_count > KNOWN / 2)
        return;
    struct known *place = find(hash_of(packet, length));
    CHECK(place->count > 0);
    place->count--;
}

static uint64_t sum(const uint64_t *counts, int count) {
    uint64_t total = 0;
    for (int i = 0; i < count; i++)
        total += counts[i];
    return total;
}

static uint64_t sent_over(int path) { return mpt_path_counters(dp, (uint32_t)path)->packets_sent; }

static uint64_t sent_by(int connection) {
    uint64_t sent = 0;
    for (int i = connection ? OTHER_V4 : 0; i < (connection ? PATHS : OTHER_V4); i++)
        sent += sent_over(i);
    return sent;
}

/* A GRE header, a packet of its version, the TOS octet of that packet; no number twice, and no number out of range: a
 * packet that a path refuses leaves a hole if the other paths of its batch have sent already. */
static void check_datagram(int peer, const uint8_t *datagram, uint32_t length, uint8_t tos) {
    uint32_t version, sequence;
    int sequenced, header = mpt_gre_decode(datagram, length, &version, &sequenced, &sequence);
    bool keyed = datagram[0] & 0x20;
    CHECK(header == (keyed ? 12 : sequenced ? 8 : 4) && (sequenced || !keyed) && length > (uint32_t)header);
    CHECK(ip_version(datagram + header, length - (uint32_t)header) == version);
    CHECK(peer == PAIR || tos == tos_by_inner[tos_octet(datagram + header)]);
    int connection = peer > PAIR;
    CHECK(!sequenced || sequence < sent_by(connection) - sent_before[connection] + refused);
    if (sequenced && sequence < (keyed ? KEY_NUMBERS : NUMBERS)) {
        uint32_t key = keyed ? get32(datagram + 4) : 0;
        CHECK(key < 4096);
        bool *used = keyed ? &key_number_used[connection][key][sequence] : &number_used[connection][sequence];
        CHECK(!*used);
        *used = true;
    }
}

static void drain_peer(int peer) {
    static uint8_t octets[FRAME];
    union { struct cmsghdr aligned; uint8_t octets[CMSG_SPACE(sizeof(int))]; } control;
    uint64_t sent = sent_over(peer);
    if (peer == PAIR && offloads & MPT_UDP_SEGMENT) { /* a socketpair cuts nothing */
        empty(peers[PAIR]);
        return;
    }
    for (bool waited = false;;) {
        struct iovec piece = {octets, sizeof octets};
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1,
                                 .msg_control = &control, .msg_controllen = sizeof control};
        ssize_t got = recvmsg(peers[peer], &message, 0);
        if (got == 44 && octets[4] == 0xA1)
            continue; /* a message */
        if (got >= 0) {
            received[peer]++;
            check_datagram(peer, octets, (uint32_t)got, mark_of(&message));
        } else if (received[peer] < sent && !waited) {
            poll(&(struct pollfd){peers[peer], POLLIN, 0}, 1, PATIENCE);
            waited = true;
        } else
            break;
    }
    CHECK(received[peer] <= sent);
    received[peer] = sent; /* the others found no room */
}

/* Return whether it is the answer to a packet too big: the data path itself has made it. */
static bool is_answer(const uint8_t *packet, uint32_t length) {
    bool looks = packet[0] >> 4 == 4 ? length > 48 && packet[9] == ICMP && get16(packet + 20) == 0x0304
                                     : length > 88 && packet[6] == ICMPV6 && get16(packet + 40) == 0x0200;
    return looks && find(hash_of(packet, length))->count == 0;
}

static void take_written(const uint8_t *packet, uint32_t length) {
    if (is_answer(packet, length))
        return;
    written++;
    check_packet(packet, length);
}

static void drain_tun(void) {
    static uint8_t frame[FRAME], packets[1 << 17];
    static uint32_t sizes[1024];
    for (ssize_t got; (got = recv(tun[1], frame, sizeof frame, 0)) >= 0;) {
        if (!(offloads & MPT_VNET_HDR)) {
            take_written(frame, (uint32_t)got);
            continue;
        }
        int made = mpt_split(frame, (uint32_t)got, packets, sizeof packets, sizes, 1024);
        CHECK(made >= 1);
        const uint8_t *packet = packets;
        for (int i = 0; i < made; packet += sizes[i++])
            take_written(packet, sizes[i]);
    }
}

static void drain(void) {
    for (int i = 0; i < PATHS; i++)
        if (peers[i] >= 0)
            drain_peer(i);
    drain_tun();
}

static void check_counters(void) {
    CHECK(counted.datagrams_received == counted.keepalives_received + counted.packets_delivered + counted.packets_held
          + sum(counted.ingress_dropped, MPT_REASONS) + sum(counted.tun_write_errors, MPT_ERRNOS));
    CHECK(counted.packets_delivered == written);
    CHECK((mpt_offloads(dp) & ~offloads) == 0);
    CHECK(counted.packets_read == sent_by(0) + sent_by(1) + sum(counted.egress_dropped, MPT_REASONS)
          + sum(counted.tun_read_errors, MPT_ERRNOS) + sum(counted.send_drops, MPT_ERRNOS));
}

/* --- steps --- */

static void fill_path(struct mpt_path_row *row, int peer, uint8_t weight, bool broken) {
    int version = peer == V6 || peer == OTHER_V6 ? 6 : 4;
    *row = (struct mpt_path_row){.id = (uint32_t)peer, .fd = data_sockets[data_socket_of(peer)], .weight = weight};
    if (peer == PAIR || row->fd < 0)
        return;
    struct sockaddr_storage remote = peer_names[peer];
    if (version == 4) {
        memcpy(row->peer.octets, &((struct sockaddr_in *)&remote)->sin_addr, 4);
        if (broken)
            ((struct sockaddr_in *)&remote)->sin_addr.s_addr = INADDR_BROADCAST; /* EACCES */
    } else {
        memcpy(row->peer.octets, &in6addr_loopback, 16);
        if (broken)
            ((struct sockaddr_in6 *)&remote)->sin6_port = 0; /* EINVAL */
    }
    row->loop = row->peer;
    row->peer.version = row->loop.version = (uint8_t)version;
    row->outer_remote_length = name_length[version == 6];
    memcpy(row->outer_remote, &remote, row->outer_remote_length);
}

/* FIRST.0.0.LAST, or twelve octets of 0xFD and then that, as in the packets of the corpus. */
static struct mpt_address address(uint8_t version, uint8_t first, uint8_t last) {
    struct mpt_address made = {.version = version};
    uint8_t *end = made.octets + (version == 4 ? 0 : 12);
    memset(made.octets, 0xFD, version == 4 ? 0 : 12);
    end[0] = first;
    end[3] = last;
    return made;
}

static struct mpt_network network(uint8_t version, uint8_t first, uint32_t bits, int here) {
    return (struct mpt_network){address(version, first, 0), version == 4 ? bits : 96 + bits, here};
}

/* Octets: usable paths; broken paths, keys; window, longest delay, TOS octets, connections; weights; how large packets may be. */
static void set_table(struct input *in) {
    static const uint32_t windows[] = {0, 8, 40, 1000};
    struct mpt_network networks[2][4] = {
        {network(4, 11, 8, 1), network(4, 12, 9, 0), network(6, 10, 8, 1), network(6, 10, 7, 0)},
        {network(4, 13, 8, 1), network(4, 14, 7, 0), network(6, 15, 8, 1), network(6, 15, 24, 0)},
    };
    struct mpt_port_rule rules[2] = {{17 << 16 | 53, 0}, {1 << 24 | 6 << 16 | 80, 1}};
    struct mpt_path_row paths[PATHS];
    struct mpt_connection_row rows[2];
    uint8_t usable = take_octet(in), broken = take_octet(in), how = take_octet(in), weights = take_octet(in);
    uint8_t fit = take_octet(in);
    static const uint32_t mtus[] = {0, 68, 600, 1400};
    for (int i = 0; i < PATHS; i++) {
        fill_path(&paths[i], i, 1 + (weights >> i & 3), broken >> i & 1);
        paths[i].usable = usable >> i & 1;
        paths[i].mtu = mtus[fit >> 2 * (i % 3) & 3];
    }
    for (int octet = 0; octet < 256; octet++)
        tos_by_inner[octet] = (uint8_t[]){0, (uint8_t)octet, octet & 3, 46 << 2}[how >> 3 & 3];
    for (int i = 0; i < 2; i++) {
        rows[i] = (struct mpt_connection_row){
            .id = (uint32_t)i,
            .tunnel_local = address(i ? 6 : 4, i ? 13 : 10, 2), .tunnel_peer = address(i ? 6 : 4, i ? 14 : 10, 3),
            .reorder_window = windows[how & 3], .max_delay = how & 4 ? 0.01 : 0.1, .sets_tos = (how >> 3 & 3) != 0,
            .sequenced = windows[how & 3] != 0, .keyed = broken >> 7,
            .networks = networks[i], .network_count = 4, .rules = rules, .rule_count = 2,
            .paths = i == 0 ? paths : paths + OTHER_V4, .path_count = i == 0 ? OTHER_V4 : PATHS - OTHER_V4,
        };
        memcpy(rows[i].tos_by_inner, tos_by_inner, sizeof tos_by_inner);
    }
    uint32_t count = how & 0x80 ? 2 : how >> 5 & 3;
    if (count > 2)
        count = 2;
    for (uint32_t i = count; i < 2; i++) { /* a connection that is gone begins anew */
        memset(number_used[i], 0, sizeof number_used[i]);
        memset(key_number_used[i], 0, sizeof key_number_used[i]);
        sent_before[i] = sent_by((int)i);
    }
    CHECK(mpt_set_table(dp, rows, count, now) == 0);
}

/* Two octets each: a path, perhaps one that is in no table; its weight. */
static void set_shares(struct input *in) {
    struct mpt_share shares[PATHS + 1];
    uint32_t count = 0;
    for (; in->left >= 2 && count <= PATHS; count++)
        shares[count] = (struct mpt_share){.path = take_octet(in) % (PATHS + 1), .weight = take_octet(in) % 8};
    mpt_set_shares(dp, shares, count, now);
}

static void read_socket(int peer) {
    uint32_t count;
    const uint8_t *octets;
    mpt_serve(dp, data_sockets[data_socket_of(peer)], now, budget, 0);
    const struct mpt_event *events = mpt_take_events(dp, &count, &octets);
    CHECK(count <= PATHS || budget > 0);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(events[i].subject < PATHS && events[i].length >= 40 && octets[events[i].offset] == 0xA1);
        mpt_send(dp, events[i].subject, octets + events[i].offset, 40, now);
    }
}

/* The datagram, and the next ones of its flow: numbers, ids, sequence numbers go on. Octets: the TOS octet; how many
 * datagrams; the step of the numbers, with a bit for one call each; the datagram. */
static void send_flow(int peer, struct input *in) {
    static uint8_t all[MAX_PACKET];
    int tos = take_octet(in);
    size_t count = take_octet(in), steps = take_octet(in), length = in->left, used = 0;
    bool alone = steps & 0x80 || peer == PAIR;
    const uint8_t *octets = take(in, &length);
    uint32_t version, sequence = 0;
    int sequenced = 0, header = mpt_gre_decode(octets, (uint32_t)length, &version, &sequenced, &sequence);
    for (size_t i = 0; header > 0 && i <= count % 64 && used + length <= sizeof all; i++, used += length) {
        uint8_t *datagram = all + used, *packet = datagram + header;
        memcpy(datagram, i > 0 ? datagram - length : octets, length);
        if (i > 0)
            make_next(packet, (uint32_t)length - (uint32_t)header);
        if (sequenced)
            put32(packet - 4, sequence + (uint32_t)(i * (1 + steps % 4)));
        make_right(packet, (uint32_t)length - (uint32_t)header);
    }
    bool went = !alone && used > 0 && send_datagrams(peer, all, used, (uint16_t)length, tos);
    for (size_t at = 0; at < used; at += length)
        if (went || (alone && send_datagrams(peer, all + at, length, 0, tos)))
            remember(all + at, length);
}

/* A frame of the TUN; `stretched`: its first octet tells how many times 256 octets are appended. */
static void send_frame(struct input *in, bool stretched) {
    static uint8_t frame[FRAME];
    size_t more = stretched ? take_octet(in) * 256u : 0, length = in->left;
    const uint8_t *octets = take(in, &length);
    if (length > FRAME)
        length = FRAME;
    memcpy(frame, octets, length);
    if (more > FRAME - length)
        more = FRAME - length;
    memset(frame + length, 0x55, more);
    (void)!send(tun[1], frame, length + more, 0);
}

/* Return whether the data path had anything to do. */
static bool take_step(struct input *in) {
    uint8_t kind = take_octet(in);
    int peer = (kind >> 4) % PEERS;
    size_t length = take_number(in);
    struct input step = {take(in, &length), length};
    switch (kind & 7) {
    case 0:
        now += take_number(&step) / 1000.0;
        mpt_deadline_reached(dp, now);
        CHECK(mpt_next_deadline(dp) < 0 || mpt_next_deadline(dp) > now);
        break;
    case 1: set_table(&step); break;
    case 2: {
        int tos = take_octet(&step);
        if (send_datagrams(peer, step.at, step.left, 0, tos))
            remember(step.at, step.left);
        break;
    }
    case 3: send_flow(peer, &step); break;
    case 4: send_frame(&step, false); break;
    case 5: send_frame(&step, true); break;
    case 6: make_trouble(kind & 0x10, kind & 0x20, kind & 0x40); break;
    case 7: set_shares(&step); break;
    }
    if (kind & READ_NOW && (kind & 7) < 4 && data_sockets[data_socket_of(peer)] >= 0)
        read_socket(peer);
    else if (kind & READ_NOW)
        mpt_serve(dp, device, now, budget, 0);
    return kind & READ_NOW || (kind & 7) < 2 || (kind & 7) == 7;
}

static void check_all(void) {
    mpt_counters(dp, &counted);
    refused = sum(counted.send_drops, MPT_ERRNOS);
    drain();
    check_counters();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool opened;
    struct input in = {data, size};
    if (!opened)
        open_all();
    opened = true;
    offloads = take_octet(&in);
    budget = offloads & 0x80 ? 0.0005 : 0;
    offloads &= MPT_VNET_HDR | MPT_JOIN_TCP | MPT_JOIN_UDP | MPT_UDP_SEGMENT;
    if (!(offloads & MPT_VNET_HDR))
        offloads &= MPT_UDP_SEGMENT;
    dp = mpt_new(device, offloads, 0x9E3779B97F4A7C15u, &tuning);
    CHECK(dp != NULL);
    now = 1000;
    written = 0;
    memset(received, 0, sizeof received);
    memset(number_used, 0, sizeof number_used);
    memset(key_number_used, 0, sizeof key_number_used);
    memset(sent_before, 0, sizeof sent_before);
    memset(known, 0, sizeof known);
    known_count = 0;
    make_trouble(false, false, false);
    struct input first = {(const uint8_t *)"\x1F\0\x89\x1B", 4};
    set_table(&first);
    while (in.left > 0) {
        if (take_step(&in))
            check_all();
    }
    mpt_serve(dp, device, now, budget, 0);
    check_all();
    CHECK(mpt_set_table(dp, NULL, 0, now) == 0);
    check_all();
    mpt_free(dp);
    for (int i = 0; i < 3; i++)
        empty(data_sockets[i]); /* nothing is left for the next input */
    empty(tun[0]);
    return 0;
}
