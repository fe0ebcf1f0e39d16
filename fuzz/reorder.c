/* The reorder window: arrivals, time, paths. Every packet must be delivered, dropped or held, once. Five octets a step. */
#include "fuzz.h"

static uint64_t delivered, released;

static void deliver(void *context, struct packet packet) {
    (void)context;
    delivered++;
    free(packet.data);
}

static void release(void *context, struct packet packet) {
    (void)context;
    released++;
    free(packet.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    delivered = released = 0;
    struct sink sink = {deliver, release, NULL};
    struct ordering *ordering = ordering_new(1 + data[0] % 40, data[1] / 1000.0, sink);
    double now = 1000;
    uint64_t arrived = 0;
    uint32_t near = 0;
    for (data += 2, size -= 2; size >= 5; data += 5, size -= 5) {
        uint32_t path = data[0] >> 4 & 3;
        switch (data[0] & 7) {
        case 0: now += data[1] / 1000.0; break;
        case 1: ordering_deadline(ordering, now); break;
        case 2: ordering_path_up(ordering, path, now); break;
        case 3: ordering_path_down(ordering, path); break;
        case 4: ordering_keepalive(ordering, path, now); break;
        case 5: ordering_own(ordering); break;
        default: {
            near = data[0] & 1 ? near + (int8_t)data[1] : get32(data + 1);
            struct packet packet = {malloc(1), 1, NULL};
            arrived++;
            ordering_arrive(ordering, near, packet, path, now);
        }
        }
        if (arrived != delivered + released + ordering_held(ordering))
            abort();
        double deadline = ordering_next_deadline(ordering);
        if (deadline >= 0 && deadline > now + 0.256)
            abort();
    }
    ordering_flush(ordering);
    ordering_free(ordering);
    if (arrived != delivered + released)
        abort();
    return 0;
}
