/* The gate of handshake datagrams: only those that name a public key go to control (session 2). */
#ifndef MPT_HANDSHAKE_H
#define MPT_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "seal.h"

struct answer { /* a handshake that we began */
    uint32_t index; /* our session */
    uint8_t key[MAC1_KEY]; /* of the peer's public key */
};
struct gate {
    bool has_identity;
    uint8_t identity[MAC1_KEY]; /* of our own public key */
    struct answer *answers; /* sorted by index */
    uint32_t answer_count;
};
void gate_set_identity(struct gate *gate, const uint8_t *key); /* NULL: initiators are not let through */
/* Let only datagrams of responders through that answer one of these; `keys` has MAC1_KEY octets each. false: no memory. */
bool gate_expect(struct gate *gate, const uint32_t *indexes, const uint8_t *keys, uint32_t count);
/* Return 0, or the reason to drop a datagram whose first octet is HANDSHAKE or RETRY. */
int gate_check(const struct gate *gate, const struct ciphers *ciphers, const uint8_t *datagram, uint32_t length);
void gate_destroy(struct gate *gate);

#endif
