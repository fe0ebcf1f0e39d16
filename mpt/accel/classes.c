/* See classes.h. The twin is mpt/data/classes.py, which has the rules; the last function is of mpt/data/playout.py. */

#include "classes.h"

enum { REALTIME_DSCPS = 5, PURE = 7 }; /* FIN, SYN, RST */
static const uint8_t REALTIME[REALTIME_DSCPS] = {34, 36, 38, 46, 48};

struct transport { uint32_t at; unsigned protocol; bool more; }; /* `at` is 0: there is none */

/* Return the trait of a packet without a class: a pure acknowledgement of TCP, other TCP, or neither. */
static enum trait of_transport(const uint8_t *packet, uint32_t length, const struct transport *t) {
    if (t->at == 0 || t->protocol != TCP || t->more || length < t->at + TCP_HEADER)
        return TRAIT_OTHER;
    const uint8_t *tcp = packet + t->at;
    bool has_payload = length > t->at + (tcp[TCP_OFFSET] >> 4) * 4u;
    return has_payload || tcp[TCP_FLAGS] & PURE ? TRAIT_TCP : TRAIT_ACKNOWLEDGEMENT;
}

static bool in_ports(const struct mpt_class_rule *rule, uint32_t port) {
    for (uint32_t i = 0; i < rule->range_count; i++)
        if (rule->ranges[i].first <= port && port <= rule->ranges[i].last)
            return true;
    return false;
}

static bool has(const struct mpt_class_rule *rule, const uint8_t *packet, uint32_t length, const struct transport *t) {
    unsigned code_point = tos_octet(packet) >> 2;
    if (rule->dscps != 0 && !(rule->dscps >> code_point & 1))
        return false;
    if (rule->protocol >= 0 && (t->at == 0 || (int)t->protocol != rule->protocol))
        return false;
    if (rule->range_count == 0)
        return true;
    if (t->at == 0 || (t->protocol != TCP && t->protocol != UDP) || length < t->at + 4)
        return false;
    return in_ports(rule, get16(packet + t->at)) || in_ports(rule, get16(packet + t->at + 2));
}

static struct transport transport_of(const uint8_t *packet, uint32_t length) {
    struct transport t = {0};
    t.at = ip_transport(packet, length, &t.protocol, &t.more);
    return t;
}

enum trait trait_of(const uint8_t *packet, uint32_t length, const struct mpt_class_rule *rules, uint32_t count) {
    const struct transport t = transport_of(packet, length);
    for (uint32_t i = 0; i < count; i++)
        if (has(&rules[i], packet, length, &t)) {
            if (!rules[i].is_realtime)
                return of_transport(packet, length, &t);
            return TRAIT_REALTIME + rules[i].copies; /* 0, 1 or 2 */
        }
    unsigned code_point = tos_octet(packet) >> 2;
    for (int i = 0; i < REALTIME_DSCPS; i++)
        if (code_point == REALTIME[i])
            return TRAIT_REALTIME;
    return of_transport(packet, length, &t);
}

bool is_tcp(const uint8_t *packet, uint32_t length) {
    const struct transport t = transport_of(packet, length);
    return t.at != 0 && t.protocol == TCP;
}

bool has_playout(const uint8_t *packet, uint32_t length) {
    const struct transport t = transport_of(packet, length);
    if (t.at == 0 || t.protocol != TCP || length < t.at + TCP_WINDOW)
        return false;
    const uint8_t *tcp = packet + t.at;
    return tcp[TCP_FLAGS] & SYN || length > t.at + (tcp[TCP_OFFSET] >> 4) * 4u;
}
