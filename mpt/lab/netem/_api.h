struct frame { size_t size; uint8_t octets[]; ...; };
struct step { double end, rate, delay, loss; };
struct settings {
    double delay, jitter, loss, rate, began;
    bool reorder, open;
    size_t queue_octets, queue_frames;
    struct step *steps;
    size_t step_count;
};
struct pool { size_t frame_size; ...; };
struct line { uint64_t frames_lost; ...; };
struct wire;

struct frame *pool_take(struct pool *pool);
void pool_give(struct pool *pool, struct frame *frame);
struct line *line_new(struct pool *pool, uint64_t seed);
void line_free(struct line *line);
bool line_adjust(struct line *line, const struct settings *settings, double now);
void line_put(struct line *line, struct frame *frame, double now);
double line_next_deadline(const struct line *line);
struct frame *line_take(struct line *line, double now);

struct wire *wire_new(int first, int second, size_t frame_size, uint64_t seed, uint64_t seed_back);
void wire_free(struct wire *wire);
struct line *wire_line(struct wire *wire, int direction);
int wire_run(struct wire *wire, int command_fd, double coalesce);
