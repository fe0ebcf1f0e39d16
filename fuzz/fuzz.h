#include <stdlib.h>

#include "../mpt/accel/_native.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
