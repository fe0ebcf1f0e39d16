/* Handshake datagrams: only one whose mac1 is right goes to control, whole, only if it was asked for, and within the
 * allowances.
 *
 * Input: bits: there is an identity, how many answers are expected; then datagrams: a kind, a length in two octets, the
 * octets. Bits of the kind: its mac1 is made right, for one of the keys; before that, its token. */
#include "fuzz.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "../mpt/accel/unseal.h"

enum { TIME = 2, KEYS = 4, LONGEST = 20 + 255 + 1100 + MAC1 };
static uint8_t keys[KEYS][MAC1_KEY]; /* the first is ours */
static EVP_MAC *mac;

static void mac1_of(const uint8_t *key, const uint8_t *octets, size_t length, uint8_t *made) {
    size_t size = MAC1, got = 0;
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(mac);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size), OSSL_PARAM_construct_end()};
    CHECK(EVP_MAC_init(context, key, MAC1_KEY, params) && EVP_MAC_update(context, octets, length));
    CHECK(EVP_MAC_final(context, made, &got, size) && got == size);
    EVP_MAC_CTX_free(context);
}

/* Put a token of the address :: and port 0 into a first datagram. */
static void put_token(uint8_t *datagram, size_t length) {
    uint8_t bound[26] = {[6] = 1000 * TIME >> 8, [7] = 1000 * TIME & 0xFF};
    if (length < 20 + TOKEN + MAC1)
        return;
    datagram[3] = TOKEN;
    memcpy(datagram + 20, bound, 8);
    mac1_of(keys[KEYS - 1], bound, sizeof bound, datagram + 28);
}

static bool is_first(const uint8_t *datagram) {
    return datagram[0] == HANDSHAKE && !(datagram[2] & 1) && get32(datagram + 8) == 0;
}

static bool has_token(const uint8_t *datagram, size_t length) {
    uint8_t right[20 + TOKEN + MAC1] = {0};
    put_token(right, sizeof right);
    return length >= sizeof right && datagram[3] == TOKEN && memcmp(datagram + 20, right + 20, TOKEN) == 0;
}

/* The key that the datagram must know; NULL: it is not asked for. */
static const uint8_t *key_of(const uint8_t *datagram, bool has_identity, uint32_t expected) {
    uint32_t index = get32(datagram + (datagram[0] == RETRY ? 4 : 8));
    if (is_first(datagram))
        return has_identity ? keys[0] : NULL;
    return index >= 1 && index <= expected ? keys[index] : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t exact[1 << 17];
    struct input in = {data, size};
    struct sessions sessions;
    struct events events = {0};
    struct mpt_counters counters = {0};
    uint8_t bits = take_octet(&in);
    bool has_identity = bits & 1;
    uint32_t expected = bits >> 1 & 3, indexes[] = {3, 1, 2}, told = 0;
    uint32_t firsts = 0, retries = 0, proven = 0;
    if (mac == NULL)
        CHECK((mac = EVP_MAC_fetch(NULL, "BLAKE2SMAC", NULL)) != NULL);
    for (int i = 0; i < KEYS; i++)
        memset(keys[i], i, MAC1_KEY);
    uint8_t in_order[3 * MAC1_KEY];
    for (int i = 0; i < 3; i++)
        memcpy(in_order + i * MAC1_KEY, keys[indexes[i]], MAC1_KEY);
    CHECK(sessions_init(&sessions));
    struct unsealer unsealer = {.sessions = &sessions, .events = &events, .counters = &counters};
    gate_init(&unsealer.gate, &tuning);
    gate_set_identity(&unsealer.gate, has_identity ? keys[0] : NULL, keys[KEYS - 1]);
    if (expected == 3)
        CHECK(gate_expect(&unsealer.gate, indexes, in_order, 3));
    else
        CHECK(gate_expect(&unsealer.gate, (uint32_t[]){1, 2}, keys[1], expected));
    while (in.left > 0) {
        uint8_t kind = take_octet(&in);
        size_t length = take_number(&in);
        const uint8_t *octets = take(&in, &length);
        uint8_t *datagram = exact + sizeof exact - length;
        if (length == 0)
            continue;
        memcpy(datagram, octets, length);
        if (kind & 8)
            put_token(datagram, length);
        if (kind & 1 && length > MAC1)
            mac1_of(keys[kind >> 1 & 3], datagram, length - MAC1, datagram + length - MAC1);
        struct sockaddr_in6 name = {.sin6_family = AF_INET6};
        struct origin origin = {&name, sizeof name, 5};
        struct content content = {.path = NULL};
        uint64_t before = counters.handshakes_received;
        int reason = unseal(&unsealer, datagram, (uint32_t)length, &origin, TIME, &content);
        CHECK(reason >= 0 && reason < MPT_REASONS && content.path == NULL);
        CHECK(counters.handshakes_received - before == (reason == 0));
        if (datagram[0] != HANDSHAKE && datagram[0] != RETRY) {
            CHECK(reason == (datagram[0] == ENVELOPE ? (length < SEAL_OVERHEAD ? MPT_SEAL_TRUNCATED : MPT_SEAL_SESSION)
                                                     : MPT_SEAL_UNKNOWN_KIND));
            continue;
        }
        if (length < (size_t)(datagram[0] == RETRY ? 8 : 20) + MAC1) {
            CHECK(reason == MPT_SEAL_TRUNCATED);
            continue;
        }
        const uint8_t *key = key_of(datagram, has_identity, expected);
        uint8_t right[MAC1];
        if (key != NULL)
            mac1_of(key, datagram, length - MAC1, right);
        bool is_right = key != NULL && length <= LONGEST && memcmp(right, datagram + length - MAC1, MAC1) == 0;
        CHECK((reason == MPT_HANDSHAKE_UNEXPECTED) == (key == NULL));
        CHECK(is_right == (reason == 0 || reason == MPT_HANDSHAKE_FLOOD || reason == MPT_HANDSHAKE_RETRY));
        told += reason == 0;
        bool is_stranger = is_first(datagram) && !has_token(datagram, length);
        CHECK(is_stranger || reason != MPT_HANDSHAKE_RETRY);
        retries += reason == MPT_HANDSHAKE_RETRY;
        *(is_stranger ? &firsts : &proven) += reason == 0;
        CHECK(firsts <= tuning.firsts_at_once && retries <= tuning.retries_at_once && proven <= tuning.proven_at_once);
        CHECK(reason != MPT_HANDSHAKE_RETRY || firsts == tuning.firsts_at_once);
        CHECK(reason != MPT_HANDSHAKE_FLOOD || (is_stranger ? retries == tuning.retries_at_once : proven == tuning.proven_at_once));
        CHECK(told == events.count);
        if (reason == 0) {
            const struct mpt_event *event = &events.events[told - 1];
            CHECK(event->kind == MPT_HANDSHAKE && event->length == length && event->fd == 5);
            CHECK(memcmp(events.octets + event->offset, datagram, length) == 0);
        }
    }
    gate_destroy(&unsealer.gate);
    sessions_destroy(&sessions);
    events_destroy(&events);
    return 0;
}
