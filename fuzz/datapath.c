/* A whole data path between socketpairs: datagrams, frames of the TUN, time, tables. A step: kind, length in two octets. */
#include "fuzz.h"

#include <sys/socket.h>
#include <unistd.h>

static void empty(int fd) {
    static uint8_t octets[70000];
    while (recv(fd, octets, sizeof octets, MSG_DONTWAIT) >= 0)
        ;
}

static void set_table(struct mpt_datapath *dp, const int *sockets, uint8_t how, double now) {
    static struct mpt_path_counters counters[2];
    struct mpt_network networks[2] = {{{4, {11, 1}}, 16, 1}, {{4, {12, 1}}, 16, 0}};
    struct mpt_port_rule rule = {1 << 24 | 6 << 16 | 80, 1};
    struct mpt_path_row paths[2];
    struct mpt_connection_row row = {
        .id = how >> 6, .local = {4, {10, 0, 0, 2}}, .remote = {4, {10, 0, 0, 3}},
        .reorder_window = how & 1 ? 8 : 0, .max_delay = 0.1, .networks = networks, .network_count = 2,
        .rules = &rule, .rule_count = 1, .paths = paths, .path_count = 2,
    };
    memset(paths, 0, sizeof paths);
    for (int i = 0; i < 2; i++) {
        paths[i] = (struct mpt_path_row){.id = (uint32_t)i, .fd = sockets[i], .usable = how >> (1 + i) & 1,
                                         .weight = 1 + (uint32_t)i, .counters = &counters[i]};
    }
    memset(row.keepalives, 0xA1, sizeof row.keepalives);
    if (mpt_set_table(dp, &row, how >> 3 & 1, now) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int tun[2], one[2], two[2];
    if (size < 1 || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, tun) || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, one)
        || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, two))
        return 0;
    int sockets[2] = {one[0], two[0]};
    double now = 1000;
    struct mpt_datapath *dp = mpt_new(tun[0], data[0] & (MPT_VNET_HDR | MPT_JOIN_TCP | MPT_JOIN_UDP));
    set_table(dp, sockets, 0x0F, now);
    for (data++, size--; size >= 3;) {
        uint8_t kind = data[0];
        size_t length = get16(data + 1);
        data += 3;
        size -= 3;
        if (length > size)
            length = size;
        switch (kind & 7) {
        case 0: now += (double)length / 1000; mpt_deadline_reached(dp, now); break;
        case 1: set_table(dp, sockets, length ? data[0] : 0, now); break;
        case 2: case 3: case 4:
            (void)!send(kind & 1 ? one[1] : two[1], data, length, 0);
            if (kind & 8)
                mpt_socket_readable(dp, kind & 1 ? one[0] : two[0], now);
            break;
        default:
            (void)!send(tun[1], data, length, 0);
            if (kind & 8)
                mpt_tun_readable(dp);
        }
        data += length;
        size -= length;
        empty(tun[1]);
        empty(one[1]);
        empty(two[1]);
    }
    mpt_tun_readable(dp);
    struct mpt_counters c;
    mpt_counters(dp, &c);
    uint64_t accounted = c.keepalives_received + c.packets_delivered + c.packets_held;
    for (int i = 0; i < MPT_REASONS; i++)
        accounted += c.ingress_dropped[i];
    for (int i = 0; i < MPT_ERRNOS; i++)
        accounted += c.tun_write_errors[i];
    if (accounted != c.datagrams_received)
        abort();
    mpt_free(dp);
    for (int i = 0; i < 2; i++) {
        close(tun[i]);
        close(one[i]);
        close(two[i]);
    }
    return 0;
}
