/* The pure parts of adaptive connections alone, for tests: the functions of _api.h that begin with mpt_rehearse. */
#ifndef MPT_REHEARSAL_H
#define MPT_REHEARSAL_H

#include "_native.h"

#endif
