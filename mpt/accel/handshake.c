/* See handshake.h. The twin is mpt/data/opening.py; the octets are in mpt/wire/seal.py. A stranger costs a look-up and
 * one hash. */

#include "handshake.h"

#include <stdlib.h>

#include "packet.h"

/* Offsets of fields, and the lengths of what is always there. */
enum { FLAGS = 2, RETRY_RECEIVER = 4, HANDSHAKE_RECEIVER = 8, RETRY_HEADER = 8, HANDSHAKE_HEADER = 20 };
enum { FROM_RESPONDER = 1 };
enum { LONGEST = HANDSHAKE_HEADER + 255 + 1100 + MAC1 }; /* with the longest token and data */

void gate_set_identity(struct gate *gate, const uint8_t *key) {
    gate->has_identity = key != NULL;
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

int gate_check(const struct gate *gate, const struct ciphers *ciphers, const uint8_t *datagram, uint32_t length) {
    bool is_retry = datagram[0] == RETRY;
    const uint8_t *key = gate->has_identity ? gate->identity : NULL;
    if (length < (uint32_t)(is_retry ? RETRY_HEADER : HANDSHAKE_HEADER) + MAC1)
        return MPT_SEAL_TRUNCATED;
    if (is_retry || datagram[FLAGS] & FROM_RESPONDER) {
        struct answer wanted = {.index = get32(datagram + (is_retry ? RETRY_RECEIVER : HANDSHAKE_RECEIVER))};
        const struct answer *found =
            gate->answer_count ? bsearch(&wanted, gate->answers, gate->answer_count, sizeof wanted, by_index) : NULL;
        key = found != NULL ? found->key : NULL;
    }
    if (key == NULL)
        return MPT_HANDSHAKE_UNEXPECTED;
    if (length > LONGEST)
        return MPT_HANDSHAKE_MAC; /* it is not hashed */
    return mac1_is_right(ciphers, key, datagram, length) ? 0 : MPT_HANDSHAKE_MAC;
}

void gate_destroy(struct gate *gate) {
    free(gate->answers);
    *gate = (struct gate){0};
}
