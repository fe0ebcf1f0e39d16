/* See unseal.h. The twin is mpt/data/opening.py.
 *
 * Sessions and paths are found by the words of the datagram, never by its origin. A stranger costs a look-up and a hash, or a
 * look-up and a wrong tag; his datagrams are counted and change nothing. */

#include "unseal.h"

#include "transmit.h"

enum { MESSAGES = 64 }; /* to control in a wake-up: of one path, and handshake datagrams */
enum { KEEPALIVE = 0x41, LAST_IN_A_ROW = 0x48, CLOSE = 0x4F }; /* first octets of messages */

static int take_handshake(struct unsealer *u, const uint8_t *datagram, uint32_t length, const struct origin *origin,
                          struct mpt_event *event);
static int open_envelope(struct unsealer *u, uint8_t *datagram, uint32_t length, const struct origin *origin,
                         struct mpt_event *event, struct content *content);
static int take_measure(struct unsealer *u, const struct connection *c, const struct content *message, double now);
static bool is_elsewhere(const struct path *path, const struct origin *origin);
static void tell_moved(struct unsealer *u, struct owner *owner, struct path_state *state, struct mpt_event *event);
static void tell_copied(struct unsealer *u, struct owner *owner, struct path_state *state, struct mpt_event *event);
static int take_message(struct unsealer *u, struct owner *owner, struct path_state *state, const struct content *message,
                        struct mpt_event *event);

int unseal(struct unsealer *u, uint8_t *datagram, uint32_t length, const struct origin *origin, double now,
           struct content *content) {
    struct mpt_event event = {.fd = origin->fd, .size = length, .at = now};
    if (origin->name_length <= sizeof event.source)
        memcpy(event.source, origin->name, origin->name_length);
    content->path = NULL;
    switch (datagram[0]) {
    case ENVELOPE: return open_envelope(u, datagram, length, origin, &event, content);
    case HANDSHAKE:
    case RETRY: return take_handshake(u, datagram, length, origin, &event);
    default: return MPT_SEAL_UNKNOWN_KIND;
    }
}

/* Pass a handshake datagram to control, or answer it, if its mac1 is right. */
static int take_handshake(struct unsealer *u, const uint8_t *datagram, uint32_t length, const struct origin *origin,
                          struct mpt_event *event) {
    uint8_t retry[RETRY_LENGTH];
    const struct sockaddr_in6 *from = origin->name_length >= sizeof(struct sockaddr_in) ? origin->name : NULL;
    int reason = gate_check(&u->gate, u->sessions->ciphers, datagram, length, from, event->at, retry);
    if (reason == MPT_HANDSHAKE_RETRY) {
        const struct place place = {origin->fd, (const uint8_t *)origin->name, origin->name_length};
        transmit(&place, &(struct iovec){retry, sizeof retry}, 1, 0);
    }
    if (reason != 0)
        return reason;
    if (u->told_in_wake != u->events->times_taken)
        u->handshakes = 0;
    u->told_in_wake = u->events->times_taken;
    event->kind = MPT_HANDSHAKE;
    if (u->handshakes == MESSAGES || !events_add(u->events, event, datagram, length))
        return MPT_HANDSHAKE_FLOOD;
    u->handshakes++;
    u->counters->handshakes_received++;
    return 0;
}

/* Open an envelope; the content comes from the peer, and for the first time. */
static int open_envelope(struct unsealer *u, uint8_t *datagram, uint32_t length, const struct origin *origin,
                         struct mpt_event *event, struct content *content) {
    if (length < SEAL_OVERHEAD)
        return MPT_SEAL_TRUNCATED;
    struct envelope envelope = envelope_of(datagram);
    struct session *session = session_find(u->sessions, envelope.index);
    if (session == NULL)
        return MPT_SEAL_SESSION;
    const struct path *path = connection_path_of_id(session->owner->connection, envelope.path_id);
    if (path == NULL)
        return MPT_SEAL_PATH;
    event->subject = path->row.id;
    if (!session_is_new(session, &envelope)) {
        if (session_is_recent(session, &envelope) && is_elsewhere(path, origin))
            tell_copied(u, session->owner, path->state, event);
        return MPT_SEAL_REPLAY;
    }
    if (!seal_open(session->receive, datagram, length, &envelope))
        return MPT_SEAL_TAG;
    int newest = session_arrived(session, &envelope, length);
    if (newest < 0)
        return MPT_SEAL_REPLAY; /* without memory nobody could tell it from its copies */
    event->session = session->index;
    if (!session->is_confirmed) {
        event->kind = MPT_CONFIRMED;
        event->subject = session->owner->connection->row.id;
        session->is_confirmed = events_add(u->events, event, NULL, 0);
    }
    event->subject = path->row.id;
    if (newest && is_elsewhere(path, origin))
        tell_moved(u, session->owner, path->state, event);
    struct content opened = {path, datagram + ENVELOPE_HEAD, length - SEAL_OVERHEAD, get16(datagram + ENVELOPE_HEAD - 2)};
    bool is_message = is_sealed(opened.octets, opened.length);
    uint8_t kind = is_message ? opened.octets[0] : 0;
    const struct connection *c = session->owner->connection;
    if (c->row.is_adaptive && u->adaptives != NULL) {
        const struct receipt receipt = {session->index, envelope.path_id, envelope.number, length, opened.stamp,
                                        event->at - origin->waited, !is_message || kind == PROBE};
        adaptives_arrived(u->adaptives, c, &receipt, event->at);
        if (kind == FEEDBACK || kind == PROBE)
            return take_measure(u, c, &opened, event->at);
    }
    if (is_message)
        return take_message(u, session->owner, path->state, &opened, event);
    *content = opened;
    return 0;
}

/* Take a report of the peer, or a probe, which says no more than that it came. */
static int take_measure(struct unsealer *u, const struct connection *c, const struct content *message, double now) {
    int reason = message->octets[0] == FEEDBACK ? adaptives_feedback(u->adaptives, c, message->octets, message->length, now) : 0;
    u->counters->messages_received += reason == 0;
    return reason;
}

/* Return whether a datagram came from another address or to another socket than those of its path. */
static bool is_elsewhere(const struct path *path, const struct origin *origin) {
    const struct mpt_path_row *row = &path->row;
    struct sockaddr_in6 place;
    memcpy(&place, row->outer_remote, sizeof place);
    if (row->unplaced || row->fd != origin->fd || row->outer_remote_length != origin->name_length)
        return true;
    if (origin->name_length < sizeof(struct sockaddr_in))
        return false; /* a connected socket */
    if (place.sin6_family != origin->name->sin6_family || place.sin6_port != origin->name->sin6_port)
        return true;
    if (place.sin6_family == AF_INET6)
        return memcmp(&place.sin6_addr, &origin->name->sin6_addr, sizeof place.sin6_addr) != 0;
    return memcmp(&((struct sockaddr_in *)(void *)&place)->sin_addr,
                  &((const struct sockaddr_in *)(const void *)origin->name)->sin_addr, sizeof(struct in_addr)) != 0;
}

static void wake(struct unsealer *u, struct path_state *state) {
    if (state->told_in_wake == u->events->times_taken)
        return;
    state->told_in_wake = u->events->times_taken;
    state->messages = 0;
    state->is_moved = state->is_copied = false;
}

static bool may_tell(const struct unsealer *u, struct allowance *allowance, const struct mpt_event *event) {
    return allowance_take(allowance, u->gate.tuning.told, u->gate.tuning.told_at_once, event->at);
}

static void tell_moved(struct unsealer *u, struct owner *owner, struct path_state *state, struct mpt_event *event) {
    wake(u, state);
    event->kind = MPT_MOVED;
    if (!state->is_moved && may_tell(u, &owner->moves, event))
        state->is_moved = events_add(u->events, event, NULL, 0);
}

static void tell_copied(struct unsealer *u, struct owner *owner, struct path_state *state, struct mpt_event *event) {
    wake(u, state);
    event->kind = MPT_COPIED;
    if (!state->is_copied && may_tell(u, &owner->moves, event))
        state->is_copied = events_add(u->events, event, NULL, 0);
}

/* Pass a message to control. Its keepalives tell the equalizer nothing: unlike those of plain paths they do not leave at one
 * moment. */
static int take_message(struct unsealer *u, struct owner *owner, struct path_state *state, const struct content *message,
                        struct mpt_event *event) {
    uint8_t kind = message->octets[0];
    if (kind < KEEPALIVE || (kind > LAST_IN_A_ROW && kind != CLOSE) || kind == FEEDBACK)
        return MPT_MESSAGE_UNKNOWN;
    wake(u, state);
    event->kind = MPT_MESSAGE;
    if (state->messages == MESSAGES || !may_tell(u, &owner->messages, event)
        || !events_add(u->events, event, message->octets, message->length))
        return MPT_MESSAGE_FLOOD;
    state->messages++;
    if (kind == KEEPALIVE)
        u->counters->keepalives_received++;
    else
        u->counters->messages_received++;
    return 0;
}
