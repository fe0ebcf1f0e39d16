/* The order of one connection, step by step, for tests: mpt_order() of _api.h. */
#ifndef MPT_TRIAL_H
#define MPT_TRIAL_H

#include "ordering.h"

#endif
