/* Sealed datagrams of two sessions: nothing goes through that a peer has not sealed, and everything once.
 *
 * Input: the ciphers of the sessions, and whose AES-GCM may be that of gcm.c; then steps: a kind, a length in two octets, the octets. */
#include "fuzz.h"

#include <errno.h>

#include "../mpt/accel/gcm.h"
#include "../mpt/accel/unseal.h"

enum { SESSIONS = 2, FIRST_INDEX = 7, PEER_INDEX = 70, CONNECTION = 3, ROOM = 2048, REMEMBERED = 64, IDS = 3, HIGHEST = 1 << 15 };
enum { RAW, SEALED, REPLAYED, DAMAGED, MOVED, RENEWED, WOKEN, ENDED }; /* kinds of steps */

static struct sessions sessions;
static struct path_states states;
static struct events events;
static struct mpt_counters counters;
static struct unsealer unsealer;
static struct table *table;
static struct session *peers[SESSIONS]; /* those of the peer: they seal for us */
static struct sessions peer_sessions;
static uint8_t remembered[REMEMBERED][ROOM];
static uint32_t lengths[REMEMBERED], count, used;
static uint8_t arrived[SESSIONS][IDS][HIGHEST / 8]; /* the numbers that have gone through */
static struct sockaddr_in name = {.sin_family = AF_INET};

static struct mpt_session_keys keys_of(int session, uint32_t cipher, bool ours) {
    struct mpt_session_keys keys = {.index = (uint32_t)(ours ? FIRST_INDEX : PEER_INDEX) + (uint32_t)session,
                                    .peer_index = (uint32_t)(ours ? PEER_INDEX : FIRST_INDEX) + (uint32_t)session,
                                    .cipher = (int)(cipher % 3)};
    memset(ours ? keys.receive_key : keys.send_key, 1 + session, sizeof keys.send_key);
    memset(ours ? keys.receive_iv : keys.send_iv, 3 + session, sizeof keys.send_iv);
    return keys;
}

/* A connection with the path ids 0, 1, and 2, of which some are there; the last is not placed. */
static void set_table(uint8_t which) {
    struct mpt_path_row paths[IDS];
    struct mpt_connection_row row = {.id = CONNECTION, .sealed = true, .paths = paths};
    for (uint32_t i = 0; i < IDS; i++)
        if (which >> i & 1) {
            struct mpt_path_row *path = &paths[row.path_count++];
            *path = (struct mpt_path_row){.id = i, .fd = (int)i, .seal_id = i, .unplaced = i == 2, .weight = 1,
                                          .outer_remote_length = sizeof name};
            memcpy(path->outer_remote, &name, sizeof name);
        }
    struct table *next = table_new(&states, &sessions, &row, 1), *old = table;
    CHECK(next != NULL);
    if (old != NULL)
        table_leave(old);
    table_enter(next);
    sessions_sweep(&sessions);
    table = next;
    table_free(old);
}

static void begin(uint8_t ciphers) {
    gcm_allow(ciphers & 0x40);
    CHECK(sessions_init(&sessions));
    gcm_allow(ciphers & 0x80);
    CHECK(sessions_init(&peer_sessions));
    unsealer = (struct unsealer){.sessions = &sessions, .events = &events, .counters = &counters};
    gate_init(&unsealer.gate, &tuning);
    set_table(0xFF);
    CHECK(owner_ensure(&peer_sessions, CONNECTION));
    owner_of(&peer_sessions, CONNECTION)->connection = table->connections;
    for (int i = 0; i < SESSIONS; i++) {
        struct mpt_session_keys ours = keys_of(i, ciphers >> 2 * i, true), theirs = keys_of(i, ciphers >> 2 * i, false);
        CHECK(session_add(&sessions, CONNECTION, &ours) == 0);
        CHECK(session_add(&sessions, CONNECTION, &ours) == EEXIST);
        CHECK(session_add(&peer_sessions, CONNECTION, &theirs) == 0);
        peers[i] = session_find(&peer_sessions, theirs.index);
    }
    memset(arrived, 0, sizeof arrived);
    memset(&counters, 0, sizeof counters);
    count = used = 0;
}

static const uint8_t *find(const uint8_t *datagram, uint32_t length) { /* NULL: the peer has not sealed it */
    for (uint32_t i = 0; i < used; i++)
        if (lengths[i] == length && memcmp(remembered[i], datagram, length) == 0)
            return remembered[i];
    return NULL;
}

/* Let a datagram arrive. It goes through only if the peer has sealed it and its number comes for the first time. */
static void arrive(const uint8_t *datagram, uint32_t length, int fd) {
    static uint8_t exact[1 << 17];
    uint8_t *octets = exact + sizeof exact - length; /* so that a read behind the end is found */
    struct content content = {.path = NULL};
    const struct origin origin = {(const struct sockaddr_in6 *)&name, sizeof name, fd};
    uint64_t messages = counters.keepalives_received + counters.messages_received;
    uint32_t events_before = events.count;
    memcpy(octets, datagram, length);
    int reason = unseal(&unsealer, octets, length, &origin, 1, &content);
    CHECK(reason >= 0 && reason < MPT_REASONS);
    messages = counters.keepalives_received + counters.messages_received - messages;
    bool went = reason == 0 || reason == MPT_MESSAGE_UNKNOWN || reason == MPT_MESSAGE_FLOOD;
    CHECK(counters.handshakes_received == 0); /* nobody has an identity here */
    CHECK(!went || (datagram[0] == ENVELOPE && find(datagram, length) != NULL));
    CHECK(events.count >= events_before && events.count <= events_before + 3);
    if (!went) { /* a copy from elsewhere may be told */
        CHECK(events.count <= events_before + (reason == MPT_SEAL_REPLAY) && content.path == NULL && messages == 0);
        return;
    }
    struct envelope envelope = envelope_of(datagram);
    CHECK(envelope.index >= FIRST_INDEX && envelope.index < FIRST_INDEX + SESSIONS && envelope.path_id < IDS);
    uint8_t *at = &arrived[envelope.index - FIRST_INDEX][envelope.path_id][envelope.number / 8], bit = (uint8_t)(1u << envelope.number % 8);
    CHECK(envelope.number < HIGHEST && !(*at & bit));
    *at |= bit;
    if (content.path != NULL) {
        CHECK(content.path->row.seal_id == envelope.path_id && content.length == length - SEAL_OVERHEAD);
        CHECK(content.octets == octets + ENVELOPE_HEAD && !is_sealed(content.octets, content.length) && messages == 0);
        CHECK(content.length == 0 || content.octets[content.length - 1] == (uint8_t)envelope.number);
    } else
        CHECK(reason != 0 || messages == 1);
}

/* Octets: which session, the path id, how far the number is from the last, the content. */
static void seal_one(struct input *in, int fd) {
    uint8_t *datagram = remembered[count++ % REMEMBERED];
    struct session *peer = peers[take_octet(in) % SESSIONS];
    uint32_t path_id = take_octet(in) % (IDS + 1), step = take_number(in);
    size_t length = ROOM - SEAL_OVERHEAD;
    const uint8_t *content = take(in, &length);
    memcpy(datagram + ENVELOPE_HEAD, content, length);
    if (length > 0) /* marked with its number */
        datagram[ENVELOPE_HEAD + length - 1] = (uint8_t)(peer->next_number[path_id] + step);
    peer->next_number[path_id] += step;
    if (peer->next_number[path_id] >= HIGHEST) {
        count--;
        return;
    }
    if (used < count)
        used = count < REMEMBERED ? count : REMEMBERED;
    uint32_t total = (uint32_t)length + SEAL_OVERHEAD;
    session_close(peer, path_id, datagram, total, 0x1234);
    lengths[(count - 1) % REMEMBERED] = total;
    if (step & 1)
        arrive(datagram, total, fd); /* else later, if at all */
}

static void step(struct input *in) {
    uint8_t kind = take_octet(in);
    size_t length = take_number(in);
    struct input octets = {.left = length};
    octets.at = take(in, &octets.left);
    int fd = kind >> 3 & 3;
    switch (kind & 7) {
    case RAW:
        if (octets.left > 0)
            arrive(octets.at, (uint32_t)octets.left, fd);
        break;
    case SEALED: seal_one(&octets, fd); break;
    case REPLAYED:
    case DAMAGED: {
        static uint8_t copy[ROOM];
        uint32_t which = used ? take_octet(&octets) % used : 0, at, size = lengths[which];
        if (used == 0)
            break;
        memcpy(copy, remembered[which], size);
        if ((kind & 7) == DAMAGED) {
            at = take_number(&octets) % size;
            copy[at] ^= (uint8_t)(take_octet(&octets) | 1);
            if (take_octet(&octets) & 1)
                size = at + 1;
        }
        arrive(copy, size, fd);
        break;
    }
    case MOVED: name.sin_port = (in_port_t)take_octet(&octets); break;
    case RENEWED: set_table(take_octet(&octets)); break;
    case WOKEN: {
        uint32_t told;
        const uint8_t *all;
        const struct mpt_event *taken = events_take(&events, &told, &all);
        for (uint32_t i = 0; i < told; i++)
            CHECK(taken[i].offset + taken[i].length <= events.octets_room);
        break;
    }
    case ENDED: session_end(&sessions, CONNECTION, FIRST_INDEX + take_octet(&octets) % (SESSIONS + 1)); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    begin(take_octet(&in));
    while (in.left > 0)
        step(&in);
    table_leave(table);
    table_free(table);
    table = NULL;
    sessions_sweep(&sessions);
    CHECK(sessions.count == 0);
    sessions_destroy(&sessions);
    sessions_destroy(&peer_sessions);
    path_states_destroy(&states);
    states = (struct path_states){0};
    events_destroy(&events);
    events = (struct events){0};
    return 0;
}
