/* AES-GCM of libipsec-mb (BSD licence), which makes a tag in one call and uses the widest instructions of the CPU: a third of the
 * time of OpenSSL 3.0. Only gcm.c knows it. The header is looked for when this is built, the library when it runs; where one is
 * missing, seal.c does all with libcrypto. */
#ifndef MPT_GCM_H
#define MPT_GCM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GCM_IV = 12, GCM_TAG = 16 };

struct gcm; /* a key; it both seals and opens */

void gcm_allow(bool allowed); /* the library; it is from the start */
const char *gcm_library(void); /* its name and version; NULL: it is not there, not allowed, or does not suit this CPU */
/* A key of 16 or 32 octets. NULL: no library, or no memory. */
struct gcm *gcm_new(const uint8_t *key, uint32_t key_length);
void gcm_free(struct gcm *gcm); /* it is overwritten */
/* Encrypt `length` octets in their place and make the tag of them and of the head. */
void gcm_close(const struct gcm *gcm, const uint8_t *iv, const uint8_t *head, uint32_t head_length, uint8_t *octets,
               uint32_t length, uint8_t *tag);
/* Decrypt them and make the tag that they should have; whoever calls compares it. */
void gcm_open(const struct gcm *gcm, const uint8_t *iv, const uint8_t *head, uint32_t head_length, uint8_t *octets,
              uint32_t length, uint8_t *tag);

#endif
