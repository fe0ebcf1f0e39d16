"""The program ``mptsrv`` that does not wait as long as it should, for tests: its keys are renewed every half second or
so, and a handshake without an answer is given up soon."""

from __future__ import annotations

import sys

from mpt.control import keyexchange, session
from mpt.daemon.main import main

SESSION = {"RENEW_AFTER": 0.3, "RENEW_AFTER_PEER": 0.4, "OLD_OPENS": 3.0}  # s
KEY_EXCHANGE = {"GIVE_UP": 2.0}  # s

if __name__ == "__main__":
    for module, times in ((session, SESSION), (keyexchange, KEY_EXCHANGE)):
        assert times.keys() <= vars(module).keys()
        vars(module).update(times)
    sys.exit(main())
