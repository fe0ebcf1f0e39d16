/* The GRE header and the ports of a packet: any octets. */
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
    return 0;
}
