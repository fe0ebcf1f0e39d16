/* See gcm.h. */

#include "gcm.h"

#if !defined MPT_NO_GCM && __has_include(<intel-ipsec-mb.h>)

#include <dlfcn.h>
#include <intel-ipsec-mb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };
/* AES and carry-less products of the CPU, which take the same time for all keys, and registers without keys after a call. */
#define NEEDED (IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ | IMB_FEATURE_SAFE_DATA | IMB_FEATURE_SAFE_PARAM)

struct suite { /* the functions of a key length for this CPU */
    aes_gcm_pre_t schedule;
    aes_gcm_enc_dec_t encrypt, decrypt;
};
struct gcm {
    struct gcm_key_data key;
    const struct suite *suite;
};

static struct suite of_16, of_32;
static char library[40]; /* empty: not looked for yet, or not there */
static bool has_looked, is_allowed = true;

static void *function(void *handle, const char *name) { return handle != NULL ? dlsym(handle, name) : NULL; }

static void look(void) {
    char file[32];
    has_looked = true;
    snprintf(file, sizeof file, "libIPSec_MB.so.%d", IMB_VERSION_NUM >> 16);
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL); /* never closed: keys need it */
    unsigned (*version)(void) = (unsigned (*)(void))function(handle, "imb_get_version");
    const char *(*name)(void) = (const char *(*)(void))function(handle, "imb_get_version_str");
    IMB_MGR *(*allocate)(uint64_t) = (IMB_MGR *(*)(uint64_t))function(handle, "alloc_mb_mgr");
    void (*choose)(IMB_MGR *, IMB_ARCH *) = (void (*)(IMB_MGR *, IMB_ARCH *))function(handle, "init_mb_mgr_auto");
    void (*release)(IMB_MGR *) = (void (*)(IMB_MGR *))function(handle, "free_mb_mgr");
    if (!version || !name || !allocate || !choose || !release || version() < IMB_VERSION_NUM)
        return;
    IMB_MGR *manager = allocate(0); /* which functions suit this CPU */
    if (manager == NULL)
        return;
    choose(manager, NULL);
    of_16 = (struct suite){manager->gcm128_pre, manager->gcm128_enc, manager->gcm128_dec};
    of_32 = (struct suite){manager->gcm256_pre, manager->gcm256_enc, manager->gcm256_dec};
    if ((manager->features & NEEDED) == NEEDED)
        snprintf(library, sizeof library, "libipsec-mb %s", name());
    release(manager);
}

void gcm_allow(bool allowed) { is_allowed = allowed; }

const char *gcm_library(void) {
    if (is_allowed && !has_looked)
        look();
    return is_allowed && library[0] ? library : NULL;
}

struct gcm *gcm_new(const uint8_t *key, uint32_t key_length) {
    size_t size = (sizeof(struct gcm) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct gcm *gcm = gcm_library() != NULL ? aligned_alloc(ALIGNMENT, size) : NULL;
    if (gcm == NULL)
        return NULL;
    memset(gcm, 0, sizeof *gcm);
    gcm->suite = key_length == 32 ? &of_32 : &of_16;
    gcm->suite->schedule(key, &gcm->key);
    return gcm;
}

void gcm_free(struct gcm *gcm) {
    if (gcm == NULL)
        return;
    explicit_bzero(gcm, sizeof *gcm);
    free(gcm);
}

void gcm_close(const struct gcm *gcm, const uint8_t *iv, const uint8_t *head, uint32_t head_length, uint8_t *octets,
               uint32_t length, uint8_t *tag) {
    struct gcm_context_data context;
    gcm->suite->encrypt(&gcm->key, &context, octets, octets, length, iv, head, head_length, tag, GCM_TAG);
}

void gcm_open(const struct gcm *gcm, const uint8_t *iv, const uint8_t *head, uint32_t head_length, uint8_t *octets,
              uint32_t length, uint8_t *tag) {
    struct gcm_context_data context;
    gcm->suite->decrypt(&gcm->key, &context, octets, octets, length, iv, head, head_length, tag, GCM_TAG);
}

#else

void gcm_allow(bool allowed) { (void)allowed; }

const char *gcm_library(void) { return NULL; }

struct gcm *gcm_new(const uint8_t *key, uint32_t key_length) {
    (void)key, (void)key_length;
    return NULL;
}

void gcm_free(struct gcm *gcm) { (void)gcm; }

void gcm_close(const struct gcm *gcm, const uint8_t *iv, const uint8_t *head, uint32_t head_length, uint8_t *octets,
               uint32_t length, uint8_t *tag) {
    (void)gcm, (void)iv, (void)head, (void)head_length, (void)octets, (void)length, (void)tag;
}

void gcm_open(const struct gcm *gcm, const uint8_t *iv, const uint8_t *head, uint32_t head_length, uint8_t *octets,
              uint32_t length, uint8_t *tag) {
    (void)gcm, (void)iv, (void)head, (void)head_length, (void)octets, (void)length, (void)tag;
}

#endif
