/* Whose packet it is, by its inner addresses. */
#ifndef MPT_IDENTIFY_H
#define MPT_IDENTIFY_H

#include "frame.h"
#include "listen.h"

/* Return the path of a plain packet. NULL: `*reason` is the reason to drop it. */
const struct path *identify(struct flow_cache *flows, const struct table *table, const struct source *source,
                            const struct opened *opened, int *reason);
/* Return 0 if a packet that came over a sealed path is from an address of its peer, or the reason to drop it. */
int check_sender(struct flow_cache *flows, const struct table *table, const struct path *path, const struct opened *opened);

#endif
