/* See handshake.h. The twin is mpt/data/gate.py; the octets are in mpt/wire/seal.py and token.py. A stranger costs a look-up, or
 * a hash; three hashes if he is answered. */

#include "handshake.h"

#include <stdlib.h>

#include "packet.h"

/* Offsets of fields, and the lengths of what is always there. */
enum { FLAGS = 2, TOKEN_LENGTH = 3, SENDER = 4, RETRY_RECEIVER = 4, HANDSHAKE_RECEIVER = 8, RETRY_HEADER = 8,
       HANDSHAKE_HEADER = 20 };
enum { FROM_RESPONDER = 1 };
enum { LONGEST = HANDSHAKE_HEADER + 255 + 1100 + MAC1 }; /* with the longest token and data */

void gate_init(struct gate *gate, const struct mpt_tuning *tuning) {
    *gate = (struct gate){
        .tuning = *tuning, .firsts = {.left = tuning->firsts_at_once}, .retries = {.left = tuning->retries_at_once},
    };
    for (int i = 0; i < SOURCES; i++)
        gate->proven[i].left = tuning->proven_at_once;
}

void gate_set_identity(struct gate *gate, const uint8_t *key, const uint8_t *token_key) {
    gate->has_identity = key != NULL;
    memcpy(gate->token_key, token_key, MAC1_KEY);
    if (key != NULL)
        memcpy(gate->identity, key, MAC1_KEY);
}

static int by_index(const void *one, const void *two) {
    uint32_t a = ((const struct answer *)one)->index, b = ((const struct answer *)two)->index;
    return a < b ? -1 : a > b;
}

bool gate_expect(struct gate *gate, const uint32_t *indexes, const uint8_t *keys, uint32_t count) {
    struct answer *answers = calloc((size_t)count + 1, sizeof *answers);
    if (answers == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        answers[i].index = indexes[i];
        memcpy(answers[i].key, keys + (size_t)i * MAC1_KEY, MAC1_KEY);
    }
    qsort(answers, count, sizeof *answers, by_index);
    free(gate->answers);
    gate->answers = answers;
    gate->answer_count = count;
    return true;
}

/* The octets that a token binds: time, address (IPv4 is mapped) and port. */
enum { TIME = 8, ADDRESS = 16, BOUND = TIME + ADDRESS + 2 };

static void put_time(uint8_t *bound, uint64_t milliseconds) {
    put32(bound, (uint32_t)(milliseconds >> 32));
    put32(bound + 4, (uint32_t)milliseconds);
}

static void put_address(uint8_t *bound, const struct sockaddr_in6 *from) {
    uint8_t *address = bound + TIME;
    if (from->sin6_family == AF_INET6) {
        memcpy(address, &from->sin6_addr, ADDRESS);
    } else {
        memset(address, 0, 10);
        memset(address + 10, 0xFF, 2);
        memcpy(address + 12, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
    }
    memcpy(address + ADDRESS, &from->sin6_port, 2); /* at the same place in both */
}

/* Whether a first datagram shows a token of ours for `bound`, whose time is set to that of the token. */
static bool shows_token(const struct gate *gate, const struct ciphers *ciphers, const uint8_t *datagram, uint32_t length,
                        uint64_t now, uint8_t *bound) {
    const uint8_t *token = datagram + HANDSHAKE_HEADER;
    uint8_t made[MAC1];
    if (datagram[TOKEN_LENGTH] != TOKEN || length < HANDSHAKE_HEADER + TOKEN)
        return false;
    uint64_t time = (uint64_t)get32(token) << 32 | get32(token + 4);
    if (time > now || (double)(now - time) > gate->tuning.token_life * 1000)
        return false;
    put_time(bound, time);
    return mac1_make(ciphers, gate->token_key, bound, BOUND, made) && memcmp(made, token + TIME, MAC1) == 0;
}

/* The allowance of an IPv4 address, or the first 64 bits of an IPv6 address. */
static struct allowance *proven_of(struct gate *gate, const uint8_t *bound) {
    const uint8_t *address = bound + TIME;
    uint32_t folded = get32(address) ^ get32(address + 4);
    if (folded == 0)
        folded = get32(address + 12);
    return &gate->proven[(folded ^ get32(gate->token_key)) * (get32(gate->token_key + 4) | 1) >> 24];
}

static bool put_retry(const struct gate *gate, const struct ciphers *ciphers, const uint8_t *datagram, uint64_t now,
                      uint8_t *bound, uint8_t *retry) {
    const uint8_t head[RETRY_RECEIVER] = {RETRY, 1, 0, TOKEN};
    memcpy(retry, head, sizeof head);
    memcpy(retry + RETRY_RECEIVER, datagram + SENDER, 4);
    put_time(bound, now);
    memcpy(retry + RETRY_HEADER, bound, TIME);
    return mac1_make(ciphers, gate->token_key, bound, BOUND, retry + RETRY_HEADER + TIME)
        && mac1_make(ciphers, gate->identity, retry, RETRY_HEADER + TOKEN, retry + RETRY_HEADER + TOKEN);
}

/* Whether a datagram with a right mac1 passes; see mpt/data/gate.py. */
static int admit(struct gate *gate, const struct ciphers *ciphers, const uint8_t *datagram, uint32_t length, bool is_first,
                 const struct sockaddr_in6 *from, double now, uint8_t *retry) {
    const struct mpt_tuning *t = &gate->tuning;
    uint8_t bound[BOUND];
    uint64_t milliseconds = (uint64_t)(now * 1000);
    if (from != NULL)
        put_address(bound, from);
    if (!is_first && from == NULL)
        return 0;
    if (!is_first || (from != NULL && shows_token(gate, ciphers, datagram, length, milliseconds, bound)))
        return allowance_take(proven_of(gate, bound), t->proven, t->proven_at_once, now) ? 0 : MPT_HANDSHAKE_FLOOD;
    if (allowance_take(&gate->firsts, t->firsts, t->firsts_at_once, now))
        return 0;
    bool is_answered = from != NULL && allowance_take(&gate->retries, t->retries, t->retries_at_once, now)
        && put_retry(gate, ciphers, datagram, milliseconds, bound, retry);
    return is_answered ? MPT_HANDSHAKE_RETRY : MPT_HANDSHAKE_FLOOD;
}

int gate_check(struct gate *gate, const struct ciphers *ciphers, const uint8_t *datagram, uint32_t length,
               const struct sockaddr_in6 *from, double now, uint8_t *retry) {
    bool is_retry = datagram[0] == RETRY;
    const uint8_t *key = gate->has_identity ? gate->identity : NULL;
    if (length < (uint32_t)(is_retry ? RETRY_HEADER : HANDSHAKE_HEADER) + MAC1)
        return MPT_SEAL_TRUNCATED;
    struct answer wanted = {.index = get32(datagram + (is_retry ? RETRY_RECEIVER : HANDSHAKE_RECEIVER))};
    bool is_first = !is_retry && !(datagram[FLAGS] & FROM_RESPONDER) && wanted.index == 0;
    if (!is_first) {
        const struct answer *found =
            gate->answer_count ? bsearch(&wanted, gate->answers, gate->answer_count, sizeof wanted, by_index) : NULL;
        key = found != NULL ? found->key : NULL;
    }
    if (key == NULL)
        return MPT_HANDSHAKE_UNEXPECTED;
    if (length > LONGEST || !mac1_is_right(ciphers, key, datagram, length)) /* what is too long is not hashed */
        return MPT_HANDSHAKE_MAC;
    return admit(gate, ciphers, datagram, length, is_first, from, now, retry);
}

void gate_destroy(struct gate *gate) {
    free(gate->answers);
    *gate = (struct gate){0};
}
