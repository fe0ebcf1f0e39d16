"""The tests of mpt."""

import os

IS_FAST = os.environ.get("MPT_HYPOTHESIS") == "fast"  # scripts/test --fast, and under the sanitizers
