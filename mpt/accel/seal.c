/* See seal.h. The twin is mpt/wire/seal.py.
 *
 * AES-GCM is that of gcm.c where it is there and makes what libcrypto makes; all else is libcrypto's.
 *
 * A cipher is looked up once, a key scheduled once; for a datagram only the nonce is set. Of the ways through EVP to the tag
 * these are the shortest: OpenSSL 3.0 spends 170 ns of a datagram's 480 on its calls. */

#include "seal.h"

#include <stdlib.h>

#include "gcm.h"
#include "packet.h"

enum { IV = GCM_IV };

struct envelope envelope_of(const uint8_t *datagram) {
    return (struct envelope){
        .path_id = datagram[1], .index = get32(datagram + 2),
        .number = (uint64_t)get16(datagram + 6) << 32 | get32(datagram + 8),
    };
}

uint16_t stamp_of(double now) { return (uint16_t)(uint64_t)(now * 16000); }

#ifdef MPT_SEAL

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

enum { CIPHERS = MPT_AES_256_GCM + 1 };

struct ciphers {
    EVP_CIPHER *ciphers[CIPHERS];
    bool has_looked, has_gcm;
    EVP_MAC *mac;
    EVP_MAC_CTX *mac_context;
};
struct seal {
    struct gcm *gcm;         /* NULL: the context does it */
    EVP_CIPHER_CTX *context; /* NULL: gcm does it */
    uint8_t iv[IV];
};

static bool has_gcm(struct ciphers *c);
static bool gcm_agrees(const struct ciphers *c);

int mpt_can_seal(void) { return 1; }

const char *mpt_seal_library(void) { return OpenSSL_version(OPENSSL_VERSION); }

const char *mpt_gcm_library(void) {
    struct ciphers *c = ciphers_new();
    const char *name = c != NULL && has_gcm(c) ? gcm_library() : NULL;
    ciphers_free(c);
    return name;
}

void mpt_allow_gcm(int allowed) { gcm_allow(allowed); }

struct ciphers *ciphers_new(void) {
    static const char *const names[CIPHERS] = {"AES-128-GCM", "ChaCha20-Poly1305", "AES-256-GCM"};
    struct ciphers *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    for (int i = 0; i < CIPHERS; i++)
        c->ciphers[i] = EVP_CIPHER_fetch(NULL, names[i], NULL); /* NULL: a provider may lack one, and seal_new() fails */
    c->mac = EVP_MAC_fetch(NULL, "BLAKE2SMAC", NULL);
    c->mac_context = c->mac != NULL ? EVP_MAC_CTX_new(c->mac) : NULL;
    if (c->mac_context == NULL) {
        ciphers_free(c);
        return NULL;
    }
    return c;
}

void ciphers_free(struct ciphers *c) {
    if (c == NULL)
        return;
    for (int i = 0; i < CIPHERS; i++)
        EVP_CIPHER_free(c->ciphers[i]);
    EVP_MAC_CTX_free(c->mac_context);
    EVP_MAC_free(c->mac);
    free(c);
}

static struct seal *make(const struct ciphers *c, int cipher, bool is_ours, const uint8_t *key, const uint8_t *iv, bool by_gcm) {
    struct seal *s = c != NULL && cipher >= 0 && cipher < CIPHERS && c->ciphers[cipher] ? calloc(1, sizeof *s) : NULL;
    if (s == NULL)
        return NULL;
    memcpy(s->iv, iv, IV);
    if (by_gcm && cipher != MPT_CHACHA20_POLY1305) {
        s->gcm = gcm_new(key, cipher == MPT_AES_256_GCM ? 32 : 16);
        if (s->gcm != NULL)
            return s;
    }
    s->context = EVP_CIPHER_CTX_new();
    if (s->context == NULL || EVP_CipherInit_ex2(s->context, c->ciphers[cipher], key, iv, is_ours, NULL) != 1) {
        seal_free(s);
        return NULL;
    }
    return s;
}

struct seal *seal_new(struct ciphers *c, int cipher, bool is_ours, const uint8_t *key, const uint8_t *iv) {
    return make(c, cipher, is_ours, key, iv, c != NULL && has_gcm(c));
}

/* Looked for with the first key: libipsec-mb takes 4 MB, which a tunnel without keys does not need. */
static bool has_gcm(struct ciphers *c) {
    if (!c->has_looked)
        c->has_gcm = gcm_library() != NULL && gcm_agrees(c);
    c->has_looked = true;
    return c->has_gcm;
}

void seal_free(struct seal *s) {
    if (s == NULL)
        return;
    gcm_free(s->gcm);
    EVP_CIPHER_CTX_free(s->context); /* overwrites the scheduled key */
    forget(s, sizeof *s);
    free(s);
}

static void nonce_of(const struct seal *s, const struct envelope *e, uint8_t *nonce) { /* iv XOR (id in 4 octets || number in 8) */
    put32(nonce, e->path_id);
    put32(nonce + 4, (uint32_t)(e->number >> 32));
    put32(nonce + 8, (uint32_t)e->number);
    for (int i = 0; i < IV; i++)
        nonce[i] ^= s->iv[i];
}

void seal_close(struct seal *s, uint8_t *datagram, uint32_t length, const struct envelope *e, uint16_t stamp) {
    uint8_t nonce[IV], *tag = datagram + length - SEAL_TAG;
    int done;
    datagram[0] = ENVELOPE;
    datagram[1] = (uint8_t)e->path_id;
    put32(datagram + 2, e->index);
    put16(datagram + 6, (uint32_t)(e->number >> 32));
    put32(datagram + 8, (uint32_t)e->number);
    put16(datagram + ENVELOPE_HEADER, stamp);
    nonce_of(s, e, nonce);
    uint8_t *sealed = datagram + ENVELOPE_HEADER;
    if (s->gcm != NULL) {
        gcm_close(s->gcm, nonce, datagram, ENVELOPE_HEADER, sealed, length - ENVELOPE_HEADER - SEAL_TAG, tag);
        return;
    }
    OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, SEAL_TAG),
                           OSSL_PARAM_construct_end()};
    bool good = EVP_EncryptInit_ex2(s->context, NULL, NULL, nonce, NULL) == 1
        && EVP_EncryptUpdate(s->context, NULL, &done, datagram, ENVELOPE_HEADER) == 1
        && EVP_EncryptUpdate(s->context, sealed, &done, sealed, (int)(length - ENVELOPE_HEADER - SEAL_TAG)) == 1
        && EVP_EncryptFinal_ex(s->context, tag, &done) == 1 && EVP_CIPHER_CTX_get_params(s->context, params) == 1;
    if (!good)
        memset(datagram + 1, 0, length - 1); /* what cannot be sealed never leaves in the clear */
}

bool seal_open(struct seal *s, uint8_t *datagram, uint32_t length, const struct envelope *e) {
    uint8_t nonce[IV], *sealed = datagram + ENVELOPE_HEADER, *tag = datagram + length - SEAL_TAG;
    int done;
    nonce_of(s, e, nonce);
    if (s->gcm != NULL) {
        uint8_t made[SEAL_TAG];
        gcm_open(s->gcm, nonce, datagram, ENVELOPE_HEADER, sealed, length - ENVELOPE_HEADER - SEAL_TAG, made);
        return CRYPTO_memcmp(made, tag, SEAL_TAG) == 0;
    }
    OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, SEAL_TAG),
                           OSSL_PARAM_construct_end()};
    return EVP_DecryptInit_ex2(s->context, NULL, NULL, nonce, params) == 1
        && EVP_DecryptUpdate(s->context, NULL, &done, datagram, ENVELOPE_HEADER) == 1
        && EVP_DecryptUpdate(s->context, sealed, &done, sealed, (int)(length - ENVELOPE_HEADER - SEAL_TAG)) == 1
        && EVP_DecryptFinal_ex(s->context, tag, &done) == 1;
}

/* Whether gcm.c makes the datagram that libcrypto makes, and opens it: else a fault of it, or a change of its interface, would
 * make datagrams that no peer can open. */
static bool gcm_agrees(const struct ciphers *c) {
    enum { LENGTH = 1472 };
    static const uint8_t key[32] = "the key of two datagrams alike.", iv[IV] = "and their iv";
    const struct envelope envelope = {1, 2, 3};
    bool agrees = true;
    for (int cipher = 0; cipher < CIPHERS; cipher++) {
        uint8_t theirs[LENGTH] = {0}, ours[LENGTH] = {0};
        struct seal *evp = make(c, cipher, true, key, iv, false), *gcm = make(c, cipher, true, key, iv, true);
        if (evp != NULL && gcm != NULL && gcm->gcm != NULL) {
            seal_close(evp, theirs, LENGTH, &envelope, 4);
            seal_close(gcm, ours, LENGTH, &envelope, 4);
            agrees = agrees && memcmp(theirs, ours, LENGTH) == 0 && seal_open(gcm, ours, LENGTH, &envelope);
        }
        seal_free(evp);
        seal_free(gcm);
    }
    return agrees;
}

bool mac1_make(const struct ciphers *c, const uint8_t *key, const uint8_t *octets, uint32_t length, uint8_t *mac) {
    size_t made_length = 0, mac_length = MAC1;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &mac_length), OSSL_PARAM_construct_end()};
    return c != NULL && EVP_MAC_init(c->mac_context, key, MAC1_KEY, params) == 1
        && EVP_MAC_update(c->mac_context, octets, length) == 1
        && EVP_MAC_final(c->mac_context, mac, &made_length, MAC1) == 1 && made_length == MAC1;
}

bool mac1_is_right(const struct ciphers *c, const uint8_t *key, const uint8_t *datagram, uint32_t length) {
    uint8_t made[MAC1];
    return mac1_make(c, key, datagram, length - MAC1, made) && CRYPTO_memcmp(made, datagram + length - MAC1, MAC1) == 0;
}

void forget(void *secret, uint32_t length) { OPENSSL_cleanse(secret, length); }

#else

int mpt_can_seal(void) { return 0; }

const char *mpt_seal_library(void) { return NULL; }

const char *mpt_gcm_library(void) { return NULL; }

void mpt_allow_gcm(int allowed) { (void)allowed; }

struct ciphers *ciphers_new(void) { return NULL; }

void ciphers_free(struct ciphers *ciphers) { (void)ciphers; }

struct seal *seal_new(struct ciphers *ciphers, int cipher, bool is_ours, const uint8_t *key, const uint8_t *iv) {
    (void)ciphers, (void)cipher, (void)is_ours, (void)key, (void)iv;
    return NULL;
}

void seal_free(struct seal *seal) { (void)seal; }

void seal_close(struct seal *seal, uint8_t *datagram, uint32_t length, const struct envelope *envelope, uint16_t stamp) {
    (void)seal, (void)envelope, (void)stamp;
    memset(datagram, 0, length);
}

bool seal_open(struct seal *seal, uint8_t *datagram, uint32_t length, const struct envelope *envelope) {
    (void)seal, (void)datagram, (void)length, (void)envelope;
    return false;
}

bool mac1_make(const struct ciphers *ciphers, const uint8_t *key, const uint8_t *octets, uint32_t length, uint8_t *mac) {
    (void)ciphers, (void)key, (void)octets, (void)length, (void)mac;
    return false;
}

bool mac1_is_right(const struct ciphers *ciphers, const uint8_t *key, const uint8_t *datagram, uint32_t length) {
    (void)ciphers, (void)key, (void)datagram, (void)length;
    return false;
}

void forget(void *secret, uint32_t length) {
    volatile uint8_t *octets = secret;
    while (length > 0)
        octets[--length] = 0;
}

#endif

int mpt_seal(const struct mpt_session_keys *keys, uint32_t path_id, uint64_t number, uint32_t stamp, const uint8_t *content,
             uint32_t length, uint8_t *datagram) {
    struct ciphers *ciphers = ciphers_new();
    struct seal *seal = seal_new(ciphers, keys->cipher, true, keys->send_key, keys->send_iv);
    const struct envelope envelope = {path_id, keys->peer_index, number};
    if (seal != NULL) {
        memcpy(datagram + ENVELOPE_HEAD, content, length);
        seal_close(seal, datagram, length + SEAL_OVERHEAD, &envelope, (uint16_t)stamp);
    }
    int result = seal != NULL ? 0 : -1;
    seal_free(seal);
    ciphers_free(ciphers);
    return result;
}

int64_t mpt_open(const struct mpt_session_keys *keys, uint8_t *datagram, uint32_t length) {
    if (length < SEAL_OVERHEAD)
        return -1;
    struct ciphers *ciphers = ciphers_new();
    struct seal *seal = seal_new(ciphers, keys->cipher, false, keys->receive_key, keys->receive_iv);
    const struct envelope envelope = envelope_of(datagram);
    bool good = seal != NULL && seal_open(seal, datagram, length, &envelope);
    seal_free(seal);
    ciphers_free(ciphers);
    return good ? (int64_t)(length - SEAL_OVERHEAD) : -1;
}
