/* The sockets of the datapath target, made once: a pair for the TUN, and at the loopback data sockets and the peers. */
#include "fuzz.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* <linux/udp.h> */
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* The peers, and the paths to them: 0 to 2 are of the first connection, the others of the second. Paths 0 and 3 share a
 * data socket, so do 1 and 4, whose peers have one address as well. The stranger is nobody's peer. */
enum { V4, V6, PAIR, OTHER_V4, OTHER_V6, STRANGER, PEERS, PATHS = STRANGER };
enum { FRAME = VNET + MAX_PACKET + 1 };

static int tun[2], device, refusing; /* `device` is what the data path has: tun[0], or `refusing` */
static int data_sockets[3], peers[PEERS];
static struct sockaddr_storage data_names[3], peer_names[PEERS];
static socklen_t name_length[2] = {sizeof(struct sockaddr_in), sizeof(struct sockaddr_in6)};

static int data_socket_of(int peer) { return peer == STRANGER ? V4 : peer % 3; }

static void set(int fd, int level, int option, int value) {
    (void)!setsockopt(fd, level, option, &value, sizeof value);
}

/* Return a UDP socket at the loopback address that ends with `host`, or -1 without IPv6. */
static int bind_udp(int version, uint8_t host, struct sockaddr_storage *name) {
    socklen_t length = name_length[version == 6];
    int fd = socket(version == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    memset(name, 0, sizeof *name);
    if (version == 4) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)name;
        v4->sin_family = AF_INET;
        v4->sin_addr.s_addr = htonl(0x7F000000u | host);
        set(fd, IPPROTO_IP, IP_RECVTOS, 1);
    } else {
        ((struct sockaddr_in6 *)name)->sin6_family = AF_INET6;
        ((struct sockaddr_in6 *)name)->sin6_addr = in6addr_loopback;
        set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    }
    if (fd >= 0 && bind(fd, (struct sockaddr *)name, length) == 0) {
        set(fd, SOL_SOCKET, SO_RCVBUF, 1 << 22);
        set(fd, SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22);
        CHECK(getsockname(fd, (struct sockaddr *)name, &length) == 0);
        return fd;
    }
    CHECK(version == 6);
    if (fd >= 0)
        close(fd);
    return -1;
}

static void open_all(void) {
    int pair[2];
    refusing = epoll_create1(0); /* EINVAL for reads and writes, as from a TUN that does not know such a frame */
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, tun) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) == 0);
    set(tun[1], SOL_SOCKET, SO_SNDBUF, 1 << 20);
    set(tun[1], SOL_SOCKET, SO_SNDBUFFORCE, 1 << 20); /* some frames of 64 KB */
    CHECK(refusing >= 0 && (device = dup(tun[0])) >= 0);
    data_sockets[PAIR] = pair[0];
    peers[PAIR] = pair[1];
    data_sockets[V4] = bind_udp(4, 1, &data_names[V4]);
    data_sockets[V6] = bind_udp(6, 1, &data_names[V6]);
    for (int i = 0; i < 2; i++)
        set(data_sockets[i], SOL_UDP, UDP_GRO, 1);
    peers[V4] = bind_udp(4, 2, &peer_names[V4]);
    peers[OTHER_V4] = bind_udp(4, 3, &peer_names[OTHER_V4]);
    peers[STRANGER] = bind_udp(4, 4, &peer_names[STRANGER]);
    peers[V6] = bind_udp(6, 1, &peer_names[V6]);
    peers[OTHER_V6] = bind_udp(6, 1, &peer_names[OTHER_V6]);
}

static void empty(int fd) {
    static uint8_t octets[FRAME];
    while (fd >= 0 && recv(fd, octets, sizeof octets, 0) >= 0)
        ;
}

/* A link that does not cut: EIO. A device that takes nothing that is long: EMSGSIZE. One that takes nothing: EINVAL. */
static void make_trouble(bool link, bool short_only, bool nothing) {
    set(data_sockets[V4], SOL_SOCKET, SO_NO_CHECK, link);
    set(tun[0], SOL_SOCKET, SO_SNDBUF, short_only ? 1 : 1 << 17);
    CHECK(dup2(nothing ? refusing : tun[0], device) == device);
}

/* An octet of TOS that came with a datagram. */
static uint8_t mark_of(struct msghdr *message) {
    int value = 0;
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL; control = CMSG_NXTHDR(message, control))
        if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_TOS)
            return *CMSG_DATA(control);
        else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_TCLASS)
            memcpy(&value, CMSG_DATA(control), sizeof value);
    return (uint8_t)value;
}

/* Let `peer` send datagrams of `size` octets each, one behind the other, or a single one, with this TOS octet. Return
 * whether they were sent. */
static bool send_datagrams(int peer, const uint8_t *octets, size_t length, uint16_t size, int tos) {
    union { struct cmsghdr aligned; uint8_t octets[CMSG_SPACE(sizeof tos) + CMSG_SPACE(sizeof size)]; } room;
    struct iovec piece = {(void *)(uintptr_t)octets, length};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (peers[peer] < 0)
        return false;
    if (peer != PAIR) {
        int at = data_socket_of(peer);
        bool v6 = at == V6;
        memset(&room, 0, sizeof room);
        message.msg_name = &data_names[at];
        message.msg_namelen = name_length[v6];
        message.msg_control = &room;
        message.msg_controllen = size ? sizeof room : CMSG_SPACE(sizeof tos);
        struct cmsghdr *control = CMSG_FIRSTHDR(&message);
        *control = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof tos), .cmsg_level = v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                                    .cmsg_type = v6 ? IPV6_TCLASS : IP_TOS};
        memcpy(CMSG_DATA(control), &tos, sizeof tos);
        if (size) {
            control = CMSG_NXTHDR(&message, control);
            *control = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof size), .cmsg_level = SOL_UDP,
                                        .cmsg_type = UDP_SEGMENT};
            memcpy(CMSG_DATA(control), &size, sizeof size);
        }
    }
    return sendmsg(peers[peer], &message, 0) >= 0;
}
