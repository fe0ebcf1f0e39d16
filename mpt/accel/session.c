/* See session.h. The twin is mpt/data/sessions.py. */

#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BUCKETS = 16 };

/* --- life --- */

bool sessions_init(struct sessions *all) {
    *all = (struct sessions){.bucket_count = FIRST_BUCKETS, .ciphers = ciphers_new()};
    all->buckets = calloc(FIRST_BUCKETS, sizeof *all->buckets);
    return all->buckets != NULL;
}

static void session_free(struct session *s) {
    seal_free(s->send);
    seal_free(s->receive);
    for (int i = 0; i < PATH_IDS; i++)
        free(s->arrived[i]);
    free(s);
}

void sessions_destroy(struct sessions *all) {
    for (uint32_t i = 0; all->buckets != NULL && i < all->bucket_count; i++)
        for (struct session *s = all->buckets[i], *next; s != NULL; s = next) {
            next = s->next_in_bucket;
            session_free(s);
        }
    for (uint32_t i = 0; i < all->room; i++)
        free(all->owners[i]);
    free(all->owners);
    free(all->buckets);
    ciphers_free(all->ciphers);
    *all = (struct sessions){0};
}

struct owner *owner_of(const struct sessions *all, uint32_t connection) {
    return connection < all->room ? all->owners[connection] : NULL;
}

bool owner_ensure(struct sessions *all, uint32_t connection) {
    if (connection >= all->room) {
        uint32_t room = (connection + 1) * 2;
        struct owner **more = realloc(all->owners, room * sizeof *more);
        if (more == NULL)
            return false;
        memset(more + all->room, 0, (room - all->room) * sizeof *more);
        all->owners = more;
        all->room = room;
    }
    if (all->owners[connection] == NULL)
        all->owners[connection] = calloc(1, sizeof **all->owners);
    if (all->owners[connection] != NULL)
        all->owners[connection]->id = connection;
    return all->owners[connection] != NULL;
}

/* --- the sessions --- */

static struct session **bucket_of(const struct sessions *all, uint32_t index) {
    return &all->buckets[index * 0x9E3779B1u & (all->bucket_count - 1)];
}

static void grow(struct sessions *all) { /* without memory the chains grow instead */
    uint32_t before = all->bucket_count;
    struct session **old = all->buckets, **more = calloc(2 * (size_t)before, sizeof *more);
    if (more == NULL)
        return;
    all->buckets = more;
    all->bucket_count = 2 * before;
    for (uint32_t i = 0; i < before; i++)
        for (struct session *s = old[i], *next; s != NULL; s = next) {
            next = s->next_in_bucket;
            s->next_in_bucket = *bucket_of(all, s->index);
            *bucket_of(all, s->index) = s;
        }
    free(old);
}

int session_add(struct sessions *all, uint32_t connection, const struct mpt_session_keys *keys) {
    struct owner *owner = owner_of(all, connection);
    if (owner == NULL || owner->connection == NULL)
        return ENOENT;
    if (session_find(all, keys->index) != NULL)
        return EEXIST;
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return ENOMEM;
    s->index = keys->index;
    s->peer_index = keys->peer_index;
    s->owner = owner;
    s->send = seal_new(all->ciphers, keys->cipher, true, keys->send_key, keys->send_iv);
    s->receive = seal_new(all->ciphers, keys->cipher, false, keys->receive_key, keys->receive_iv);
    if (s->send == NULL || s->receive == NULL) {
        session_free(s);
        return ENOMEM;
    }
    if (all->count >= all->bucket_count)
        grow(all);
    all->count++;
    s->next_in_bucket = *bucket_of(all, s->index);
    *bucket_of(all, s->index) = s;
    s->next_of_owner = owner->sessions;
    owner->sessions = s;
    return 0;
}

struct session *session_find(const struct sessions *all, uint32_t index) {
    struct session *s = *bucket_of(all, index);
    while (s != NULL && s->index != index)
        s = s->next_in_bucket;
    return s;
}

int session_send_with(struct sessions *all, uint32_t connection, uint32_t index) {
    struct session *s = session_find(all, index);
    if (s == NULL || s->owner != owner_of(all, connection))
        return ENOENT;
    s->owner->sending = s;
    return 0;
}

static void end(struct sessions *all, struct session *s) {
    struct session **at = bucket_of(all, s->index);
    while (*at != s)
        at = &(*at)->next_in_bucket;
    *at = s->next_in_bucket;
    for (at = &s->owner->sessions; *at != s;)
        at = &(*at)->next_of_owner;
    *at = s->next_of_owner;
    if (s->owner->sending == s)
        s->owner->sending = NULL;
    all->count--;
    if (all->ended != NULL)
        all->ended(all->context, s);
    session_free(s);
}

void session_end(struct sessions *all, uint32_t connection, uint32_t index) {
    struct session *s = session_find(all, index);
    if (s != NULL && s->owner == owner_of(all, connection))
        end(all, s);
}

void sessions_sweep(struct sessions *all) {
    for (uint32_t i = 0; i < all->room; i++)
        while (all->owners[i] != NULL && all->owners[i]->connection == NULL && all->owners[i]->sessions != NULL)
            end(all, all->owners[i]->sessions);
}

/* --- numbers --- */

bool session_is_new(const struct session *s, const struct envelope *e) {
    return s->arrived[e->path_id] == NULL || replay_is_new(s->arrived[e->path_id], e->number);
}

bool session_is_recent(const struct session *s, const struct envelope *e) {
    return s->arrived[e->path_id] != NULL && replay_is_recent(s->arrived[e->path_id], e->number);
}

int session_arrived(struct session *s, const struct envelope *e, uint32_t length) {
    struct replay **arrived = &s->arrived[e->path_id];
    if (*arrived == NULL && (*arrived = calloc(1, sizeof **arrived)) == NULL)
        return -1;
    bool is_newest = e->number >= (*arrived)->next;
    replay_accept(*arrived, e->number);
    s->owner->received[e->path_id] += length + OUTER;
    return is_newest;
}

uint64_t session_sent(const struct session *s) {
    uint64_t most = 0;
    for (int i = 0; i < PATH_IDS; i++)
        most = s->next_number[i] > most ? s->next_number[i] : most;
    return most > 0 ? most - 1 : 0;
}

void session_close(struct session *s, uint32_t path_id, uint8_t *datagram, uint32_t length, uint16_t stamp) {
    path_id %= PATH_IDS;
    struct envelope envelope = {path_id, s->peer_index, s->next_number[path_id]++};
    s->owner->sent[path_id] += length + OUTER;
    seal_close(s->send, datagram, length, &envelope, stamp);
}
