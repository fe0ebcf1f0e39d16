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

/* Add `*path`, which lies behind the paths of the last source, to that or to a new one. */
static void add_source(struct listening *l, const struct path **path) {
    const struct mpt_path_row *row = &(*path)->row;
    struct source *last = &l->sources[l->source_count];
    if (l->source_count == 0 || compare(last[-1].fd, &last[-1].peer, row->fd, &row->peer) != 0)
        l->sources[l->source_count++] = (struct source){.fd = row->fd, .peer = row->peer, .loop = row->loop, .paths = path};
    l->sources[l->source_count - 1].path_count++;
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
    size_t plain = 0;
    for (size_t i = 0; i < total; i++) {
        const struct path *path = l->paths[i];
        if (l->listener_count == 0 || l->listeners[l->listener_count - 1].fd != path->row.fd)
            l->listeners[l->listener_count++] = (struct listener){.fd = path->row.fd};
        struct listener *listener = l->of_path[path->index] = &l->listeners[l->listener_count - 1];
        if (table->connections[path->connection].row.sealed)
            listener->is_sealed = true;
        else {
            l->paths[plain++] = path;
            add_source(l, &l->paths[plain - 1]);
        }
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
