/* The GRE header, the ports and the ECN field of a packet: any octets. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint32_t version, sequence = 0;
    int sequenced;
    int header = mpt_gre_decode(data, (uint32_t)size, &version, &sequenced, &sequence);
    if (header > (int)size)
        abort();
    if (header > 0)
        mpt_ports(data + header, (uint32_t)size - (uint32_t)header);
    mpt_ports(data, (uint32_t)size);
    if (size > 0 && ip_version(data + 1, (uint32_t)size - 1)) {
        uint8_t packet[40];
        memcpy(packet, data + 1, size - 1 < sizeof packet ? size - 1 : sizeof packet);
        mpt_decapsulate_ecn(packet, data[0] & 3);
    }
    return 0;
}
