"""The program ``mptsrv`` with keys that are renewed every half second or so, for tests/netns/test_rekey.py."""

from __future__ import annotations

import sys

from mpt.control import session
from mpt.daemon.main import main

TIMES = {"RENEW_AFTER": 0.3, "RENEW_AFTER_PEER": 0.4, "OLD_OPENS": 3.0}  # s

if __name__ == "__main__":
    assert TIMES.keys() <= vars(session).keys()
    vars(session).update(TIMES)
    sys.exit(main())
