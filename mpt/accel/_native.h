/* The interface of _api.h for C. That file has no guard, because cffi reads it without a preprocessor. */
#ifndef MPT_NATIVE_H
#define MPT_NATIVE_H

#include <stdint.h>

#include "_api.h"

static inline unsigned errno_index(int number) { return number > 0 && number < MPT_ERRNOS ? (unsigned)number : 0; }

#endif
