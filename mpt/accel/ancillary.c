/* See ancillary.h. */

#include "ancillary.h"

#include <netinet/in.h>
#include <netinet/udp.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* <linux/udp.h> */
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SCM_TIMESTAMPNS
#define SCM_TIMESTAMPNS 35 /* <asm-generic/socket.h> */
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

static void add(struct msghdr *message, union ancillary *room, int level, int type, const void *value, size_t size) {
    struct cmsghdr *control = (struct cmsghdr *)(void *)(room->octets + message->msg_controllen);
    message->msg_control = room;
    message->msg_controllen += CMSG_SPACE(size);
    *control = (struct cmsghdr){.cmsg_len = CMSG_LEN(size), .cmsg_level = level, .cmsg_type = type};
    memcpy(CMSG_DATA(control), value, size);
}

void ancillary_add_segment_size(struct msghdr *message, union ancillary *room, uint32_t size) {
    uint16_t value = (uint16_t)size;
    add(message, room, SOL_UDP, UDP_SEGMENT, &value, sizeof value);
}

void ancillary_add_tos(struct msghdr *message, union ancillary *room, const uint8_t *name, uint8_t tos) {
    int value = tos;
    sa_family_t family;
    memcpy(&family, name, sizeof family);
    if (family == AF_INET6)
        add(message, room, IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof value);
    else
        add(message, room, IPPROTO_IP, IP_TOS, &value, sizeof value);
}

struct received ancillary_read(struct msghdr *message) {
    struct received received = {0};
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL; control = CMSG_NXTHDR(message, control)) {
        int value = 0;
        if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_TOS)
            received.ecn = *CMSG_DATA(control) & 3; /* one octet */
        else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_TCLASS) {
            memcpy(&value, CMSG_DATA(control), sizeof value);
            received.ecn = value & 3;
        } else if (control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_GRO) {
            memcpy(&value, CMSG_DATA(control), sizeof value);
            received.size = value > 0 ? (uint32_t)value : 0;
        } else if (control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_TIMESTAMPNS
                   && control->cmsg_len == CMSG_LEN(sizeof received.came))
            memcpy(&received.came, CMSG_DATA(control), sizeof received.came);
    }
    return received;
}

double ancillary_waited(const struct received *received, const struct timespec *now, double longest) {
    if (received->came.tv_sec == 0)
        return 0;
    double waited = (double)(now->tv_sec - received->came.tv_sec) + (double)(now->tv_nsec - received->came.tv_nsec) / 1e9;
    return waited > 0 && waited < longest ? waited : 0; /* or the clock was set */
}

struct mpt_address ancillary_address(const void *name, size_t length) {
    struct mpt_address address;
    struct sockaddr_in6 v6 = {0};
    memset(&address, 0, sizeof address); /* octets that IPv4 does not use are compared, too */
    memcpy(&v6, name, length < sizeof v6 ? length : sizeof v6);
    if (v6.sin6_family == AF_INET) {
        address.version = 4;
        memcpy(address.octets, &((const struct sockaddr_in *)(const void *)&v6)->sin_addr, 4);
    } else if (v6.sin6_family == AF_INET6) {
        address.version = 6;
        memcpy(address.octets, &v6.sin6_addr, 16);
    }
    return address;
}
