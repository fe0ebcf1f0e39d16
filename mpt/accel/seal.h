/* The seal of datagrams: the envelope and its AEAD, and the mac1 of handshakes (session 2 and 3). Only seal.c calls libcrypto;
 * built without it (no MPT_SEAL) nothing can be sealed or opened. */
#ifndef MPT_SEAL_H
#define MPT_SEAL_H

#include <stdbool.h>
#include <stdint.h>

#include "_native.h"

enum { SEALED_BIT = 0x40 }; /* of the first octet of a datagram or of the content of an envelope; not set in GRE */
enum { ENVELOPE = 0x40, HANDSHAKE = 0x41, RETRY = 0x42 }; /* first octets of datagrams */
enum { PATH_IDS = 64 }; /* of a session: 0 .. 63 */
/* Lengths: of the header, which is the associated data; of what stands before the content, the header and the stamp. */
enum { ENVELOPE_HEADER = 12, ENVELOPE_HEAD = 14, SEAL_TAG = 16, SEAL_OVERHEAD = ENVELOPE_HEAD + SEAL_TAG };
enum { MAC1 = 16, MAC1_KEY = 32 };

struct seal; /* the key and iv of one direction */
struct ciphers; /* those of libcrypto, looked up once */

struct envelope { /* of a datagram of at least SEAL_OVERHEAD octets */
    uint32_t path_id, index;
    uint64_t number;
};
struct envelope envelope_of(const uint8_t *datagram);
uint16_t stamp_of(double now); /* the sender's clock in 1/16 ms, modulo 2^16 */

struct ciphers *ciphers_new(void); /* NULL: no memory, or nothing to seal with */
void ciphers_free(struct ciphers *ciphers);
/* A seal for one direction; `is_ours`: it seals, else it opens. NULL: no memory, or an unknown `cipher` (enum mpt_cipher). */
struct seal *seal_new(struct ciphers *ciphers, int cipher, bool is_ours, const uint8_t *key, const uint8_t *iv);
void seal_free(struct seal *seal); /* its keys are overwritten */
/* Make a datagram of `length` octets around the content, which lies ENVELOPE_HEAD octets behind its start. */
void seal_close(struct seal *seal, uint8_t *datagram, uint32_t length, const struct envelope *envelope, uint16_t stamp);
/* Open a datagram in its place; the content lies as above. false: its tag is wrong, and its octets are lost. */
bool seal_open(struct seal *seal, uint8_t *datagram, uint32_t length, const struct envelope *envelope);
/* Make the MAC1 octets of the mac of `octets` for this key of MAC1_KEY octets. false: it cannot be made. */
bool mac1_make(const struct ciphers *ciphers, const uint8_t *key, const uint8_t *octets, uint32_t length, uint8_t *mac);
/* Whether a datagram of more than MAC1 octets ends with its mac1 for this key. */
bool mac1_is_right(const struct ciphers *ciphers, const uint8_t *key, const uint8_t *datagram, uint32_t length);
void forget(void *secret, uint32_t length); /* overwrite it; no compiler leaves that out */

#endif
