/* See fragment.h. The twin is mpt/data/fragment.py. */

#include "fragment.h"

enum { RESERVED = 0x8000, MORE = 0x2000, OFFSET = 0x1FFF, COPIED = 0x80, END = 0, NOTHING = 1 };

bool fragments_start(struct fragments *f, const uint8_t *packet, uint32_t length, uint32_t size) {
    uint32_t header = (packet[0] & 0x0Fu) * 4, total = get16(packet + IP4_LENGTH);
    if (header < IP4_HEADER || total > length || total <= header || size < header + 8)
        return false;
    if ((get16(packet + IP4_FRAGMENT) & OFFSET) * 8u + total - header > 0xFFFF)
        return false; /* it would end beyond any packet */
    uint32_t step = (size - header) & ~7u;
    *f = (struct fragments){.packet = packet, .header = header, .total = total, .step = step,
                            .count = (total - header + step - 1) / step};
    return true;
}

/* Replace the options that only the first fragment has by nothing. */
static void drop_first_options(uint8_t *header, uint32_t end) {
    uint32_t place = IP4_HEADER;
    while (place < end && header[place] != END) {
        uint32_t step = header[place] == NOTHING ? 1 : place + 1 < end ? header[place + 1] : 0;
        if (step < 1 || step > end - place || (header[place] != NOTHING && step < 2))
            return;
        if (!(header[place] & COPIED))
            memset(header + place, NOTHING, step);
        place += step;
    }
}

uint32_t fragments_head(const struct fragments *f, uint32_t i, uint8_t *header, const uint8_t **payload) {
    uint32_t field = get16(f->packet + IP4_FRAGMENT), start = i * f->step, left = f->total - f->header - start;
    uint32_t size = left < f->step ? left : f->step;
    memcpy(header, f->packet, f->header);
    if (i > 0)
        drop_first_options(header, f->header);
    put16(header + IP4_LENGTH, f->header + size);
    put16(header + IP4_FRAGMENT,
          (field & RESERVED) | (i + 1 < f->count ? (uint32_t)MORE : field & MORE) | ((field & OFFSET) + start / 8));
    put16(header + IP4_CHECKSUM, 0);
    uint16_t word = (uint16_t)~fold(sum_words(header, f->header / 4, 0));
    memcpy(header + IP4_CHECKSUM, &word, 2);
    *payload = f->packet + f->header + start;
    return size;
}

int mpt_fragments(const uint8_t *packet, uint32_t length, uint32_t size, uint8_t *out, uint32_t room, uint32_t *sizes,
                  uint32_t max) {
    struct fragments f;
    if (ip_version(packet, length) != 4 || !fragments_start(&f, packet, length, size) || f.count > max)
        return -1;
    for (uint32_t i = 0; i < f.count; i++) {
        const uint8_t *payload;
        if (room < f.header + f.step)
            return -1;
        uint32_t octets = fragments_head(&f, i, out, &payload);
        memcpy(out + f.header, payload, octets);
        sizes[i] = f.header + octets;
        out += sizes[i];
        room -= sizes[i];
    }
    return (int)f.count;
}
