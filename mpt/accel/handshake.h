/* The gate of handshake datagrams: which of them go to control (session 2). */
#ifndef MPT_HANDSHAKE_H
#define MPT_HANDSHAKE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "seal.h"
#include "toobig.h"

enum { TOKEN = 8 + MAC1, RETRY_LENGTH = 8 + TOKEN + MAC1 };
enum { SOURCES = 256 };

struct answer { /* a handshake that is under way */
    uint32_t index; /* our session */
    uint8_t key[MAC1_KEY]; /* of the responder's public key */
};
struct gate {
    struct mpt_tuning tuning;
    bool has_identity;
    uint8_t identity[MAC1_KEY]; /* of our own public key */
    uint8_t token_key[MAC1_KEY];
    struct answer *answers; /* sorted by index */
    uint32_t answer_count;
    struct allowance firsts, retries; /* of those without a token, and of our answers to the others */
    struct allowance proven[SOURCES]; /* of addresses that are the sender's, by a hash */
};
void gate_init(struct gate *gate, const struct mpt_tuning *tuning);
/* NULL: no first datagrams are let through. */
void gate_set_identity(struct gate *gate, const uint8_t *key, const uint8_t *token_key);
/* Let only datagrams to these indexes through; `keys` has MAC1_KEY octets each. false: no memory. */
bool gate_expect(struct gate *gate, const uint32_t *indexes, const uint8_t *keys, uint32_t count);
/* Return 0, or the reason to drop a datagram whose first octet is HANDSHAKE or RETRY. With MPT_HANDSHAKE_RETRY it is to be
 * answered with the RETRY_LENGTH octets of `retry`. `from` is a struct sockaddr_in or sockaddr_in6, NULL if it is unknown. */
int gate_check(struct gate *gate, const struct ciphers *ciphers, const uint8_t *datagram, uint32_t length,
               const struct sockaddr_in6 *from, double now, uint8_t *retry);
void gate_destroy(struct gate *gate);

#endif
