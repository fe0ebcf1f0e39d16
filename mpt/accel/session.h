/* Sessions of sealed connections, found by our index; they outlive the tables. A number of a session and path id is used once,
 * whatever tables come: the numbers belong to the session. */
#ifndef MPT_SESSION_H
#define MPT_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "replay.h"
#include "seal.h"
#include "toobig.h"

enum { OUTER = 28 }; /* octets of IPv4 and UDP */

struct connection;
struct owner { /* a connection that was sealed in a table; there is one for each id for ever */
    struct session *sessions;          /* all of them */
    struct session *sending;           /* with which we seal; NULL: none */
    const struct connection *connection; /* its row in the present table; NULL: it has none, or is not sealed there */
    uint32_t id;
    uint64_t sent[PATH_IDS], received[PATH_IDS]; /* octets of datagrams and their IPv4 and UDP headers, by path id */
    struct allowance messages, moves; /* of what control is told */
};
struct session {
    uint32_t index, peer_index; /* in the datagrams to us, and from us */
    struct owner *owner;
    struct seal *send, *receive;
    bool is_confirmed;                /* a datagram of it has opened */
    uint64_t next_number[PATH_IDS];   /* to send, by path id */
    struct replay *arrived[PATH_IDS]; /* by path id; NULL: none has arrived */
    struct session *next_in_bucket, *next_of_owner;
};
struct sessions {
    struct ciphers *ciphers; /* NULL: nothing can be sealed */
    struct session **buckets; /* by index; a power of two of them, at least as many as sessions */
    uint32_t bucket_count, count;
    struct owner **owners; /* by the id of the connection; NULL: never seen */
    uint32_t room;
    void (*ended)(void *context, const struct session *session); /* is told of each that ends; NULL: nobody is */
    void *context;
};
bool sessions_init(struct sessions *sessions); /* false: no memory */
void sessions_destroy(struct sessions *sessions);
struct owner *owner_of(const struct sessions *sessions, uint32_t connection); /* NULL: it never was sealed in a table */
bool owner_ensure(struct sessions *sessions, uint32_t connection); /* make it, unless it is there; false: no memory */
/* Return 0; ENOENT: the present table has no such sealed connection; EEXIST: the index is in use; ENOMEM. */
int session_add(struct sessions *sessions, uint32_t connection, const struct mpt_session_keys *keys);
int session_send_with(struct sessions *sessions, uint32_t connection, uint32_t index); /* 0; ENOENT: it has none such */
void session_end(struct sessions *sessions, uint32_t connection, uint32_t index); /* unknown: nothing happens */
void sessions_sweep(struct sessions *sessions); /* end those of connections that are not in the present table */
struct session *session_find(const struct sessions *sessions, uint32_t index); /* NULL: there is none */
/* Whether a datagram of this path id and number may be opened: it has not arrived before. Changes nothing. */
bool session_is_new(const struct session *session, const struct envelope *envelope);
bool session_is_recent(const struct session *session, const struct envelope *envelope); /* its number is one of the newest */
/* Note that it has opened, with `length` octets. Return whether its number is the highest of the path id; -1: no memory, and it
 * must be dropped. */
int session_arrived(struct session *session, const struct envelope *envelope, uint32_t length);
uint64_t session_sent(const struct session *session); /* the largest number that was used; 0 if none was */
/* Seal a datagram of `length` octets with the next number, as seal_close() does. */
void session_close(struct session *session, uint32_t path_id, uint8_t *datagram, uint32_t length, uint16_t stamp);

#endif
