/* See listen.h. */

#include "listen.h"

#include <stdlib.h>

static int compare(int fd, const struct mpt_address *peer, int other_fd, const struct mpt_address *other_peer) {
    return fd != other_fd ? (fd < other_fd ? -1 : 1) : memcmp(peer, other_peer, sizeof *peer);
}

static int path_by_source(const void *a, const void *b) {
    const struct path *one = *(const struct path *const *)a, *two = *(const struct path *const *)b;
    int order = compare(one->row.fd, &one->row.peer, two->row.fd, &two->row.peer);
    return order != 0 ? order : one->index < two->index ? -1 : one->index > two->index; /* in the order of the table */
}

static int source_by_name(const void *a, const void *b) {
    const struct source *one = a, *two = b;
    return compare(one->fd, &one->peer, two->fd, &two->peer);
}

static int listener_by_fd(const void *a, const void *b) {
    int one = ((const struct listener *)a)->fd, two = ((const struct listener *)b)->fd;
    return one < two ? -1 : one > two;
}

bool listening_init(struct listening *l, const struct table *table) {
    *l = (struct listening){
        .listeners = calloc(table->path_count + 1, sizeof *l->listeners),
        .of_path = calloc(table->path_count + 1, sizeof(struct listener *)),
        .sources = calloc(table->path_count + 1, sizeof *l->sources),
        .paths = calloc(table->path_count + 1, sizeof(struct path *)),
    };
    if (l->listeners == NULL || l->of_path == NULL || l->sources == NULL || l->paths == NULL) {
        listening_destroy(l);
        return false;
    }
    size_t total = 0;
    for (uint32_t i = 0; i < table->path_count; i++)
        if (table->paths[i].row.fd >= 0)
            l->paths[total++] = &table->paths[i];
    qsort(l->paths, total, sizeof *l->paths, path_by_source);
    for (size_t i = 0; i < total; i++) {
        const struct mpt_path_row *row = &l->paths[i]->row, *last = i > 0 ? &l->paths[i - 1]->row : NULL;
        if (last == NULL || last->fd != row->fd)
            l->listeners[l->listener_count++] = (struct listener){.fd = row->fd};
        l->of_path[l->paths[i]->index] = &l->listeners[l->listener_count - 1];
        if (last == NULL || compare(last->fd, &last->peer, row->fd, &row->peer) != 0)
            l->sources[l->source_count++] =
                (struct source){.fd = row->fd, .peer = row->peer, .loop = row->loop, .paths = &l->paths[i]};
        l->sources[l->source_count - 1].path_count++;
    }
    return true;
}

void listening_destroy(struct listening *l) {
    free(l->listeners);
    free(l->of_path);
    free(l->sources);
    free(l->paths);
    *l = (struct listening){0};
}

struct listener *find_listener(const struct listening *l, int fd) {
    struct listener wanted = {.fd = fd};
    return bsearch(&wanted, l->listeners, l->listener_count, sizeof wanted, listener_by_fd);
}

const struct source *find_source(const struct listening *l, int fd, const struct mpt_address *peer) {
    struct source wanted = {.fd = fd, .peer = *peer};
    return bsearch(&wanted, l->sources, l->source_count, sizeof wanted, source_by_name);
}
