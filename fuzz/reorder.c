/* The equalizer and the reorder window: arrivals, time, paths. Every packet must be delivered, dropped or held, once
 * and whole; nothing is held for longer than allowed; buffers are given back.
 *
 * Input: the window and, from SEALED on, that packets have stamps and keys; the longest delay in milliseconds; then five
 * octets a step. */
#include "fuzz.h"

enum { SEALED = 200, PER_BUFFER = 16, LENGTH = 40, PACKETS = 1 << 15 }; /* packets of a buffer, their length, and how many there may be */

static uint64_t delivered, released;
static uint32_t arrived, referred; /* `referred`: buffers with a reference */
static bool finished[PACKETS], copying;

static void give_back(struct packet packet) {
    if (packet.buffer == NULL)
        free(packet.data);
    else if (--packet.buffer->references == 0) {
        referred--;
        free(packet.buffer);
    }
}

static void check(struct packet packet) { /* it is its number, over and over */
    uint32_t number = get32(packet.data);
    CHECK(packet.length == LENGTH && number < arrived && !finished[number]);
    for (uint32_t i = 4; i < LENGTH; i += 4)
        CHECK(get32(packet.data + i) == number);
    finished[number] = !copying;
}

static void deliver(void *context, struct packet packet) {
    (void)context;
    CHECK(!copying);
    delivered++;
    check(packet);
    give_back(packet);
}

static void release(void *context, struct packet packet) {
    (void)context;
    released += !copying; /* a copied packet goes on without its buffer */
    check(packet);
    give_back(packet);
}

/* A packet in the buffer of the previous packets, as one receive call brings many. */
static struct packet arrive(struct buffer **buffer) {
    if (arrived % PER_BUFFER == 0 || *buffer == NULL) {
        if (*buffer != NULL)
            give_back((struct packet){.buffer = *buffer});
        *buffer = malloc(sizeof **buffer);
        CHECK(*buffer != NULL);
        (*buffer)->references = 1;
        referred++;
    }
    uint8_t *data = (*buffer)->data + arrived % PER_BUFFER * LENGTH;
    for (uint32_t i = 0; i < LENGTH; i += 4)
        put32(data + i, arrived);
    (*buffer)->references++;
    finished[arrived++] = false;
    return (struct packet){data, LENGTH, *buffer};
}

static struct mark mark_of(bool is_sealed, uint32_t sequence, const uint8_t *data, double now) {
    struct mark mark = {.sequence = sequence};
    if (is_sealed) {
        mark.has_key = data[2] & 0x10;
        mark.key = data[2] & 0x0F;
        mark.stamp = (uint16_t)((uint64_t)(now * 16000) - data[3] + (data[4] == 255 ? 30000 : 0));
    }
    return mark;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    delivered = released = arrived = 0;
    struct sink sink = {deliver, release, NULL};
    double max_delay = data[1] / 1000.0, now = 1000;
    bool is_sealed = data[0] >= SEALED;
    struct ordering *ordering = ordering_new(&tuning, 1 + data[0] % 40, max_delay, is_sealed, 0x9E3779B97F4A7C15u, sink);
    CHECK(ordering != NULL);
    struct buffer *buffer = NULL;
    uint32_t near = 0;
    for (data += 2, size -= 2; size >= 5 && arrived < PACKETS; data += 5, size -= 5) {
        uint32_t path = data[0] >> 4 & 3;
        switch (data[0] & 7) {
        case 0: now += data[1] / 1000.0; break;
        case 1:
            ordering_deadline(ordering, now);
            CHECK(ordering_next_deadline(ordering) < 0 || ordering_next_deadline(ordering) > now);
            break;
        case 2: ordering_path_up(ordering, path, now); break;
        case 3: ordering_path_down(ordering, path, now); break;
        case 4: ordering_keepalive(ordering, path, now); break;
        case 5:
            if (data[1] & 3) {
                ordering_set_behind(ordering, data[1] & 1);
                break;
            }
            copying = true;
            ordering_copy_out(ordering);
            copying = false;
            CHECK(referred == (buffer != NULL)); /* the buffer that is being filled */
            break;
        default:
            near = data[0] & 1 ? near + (uint32_t)(int8_t)data[1] : get32(data + 1);
            ordering_arrive(ordering, mark_of(is_sealed, near, data, now), arrive(&buffer), path, now);
        }
        CHECK(arrived == delivered + released + ordering_held(ordering));
        CHECK(ordering_next_deadline(ordering) <= now + max_delay + 1e-6);
    }
    uint64_t drops[MPT_REASONS] = {0};
    ordering_drops(ordering, drops);
    CHECK(released == drops[MPT_LATE] + drops[MPT_DUPLICATE] + drops[MPT_STRAY]);
    ordering_flush(ordering);
    ordering_free(ordering);
    CHECK(arrived == delivered + released);
    if (buffer != NULL)
        give_back((struct packet){.buffer = buffer});
    CHECK(referred == 0);
    return 0;
}
