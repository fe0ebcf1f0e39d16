"""The newcomer's path, typed as it is printed: README's five commands, then the status and the page."""

from __future__ import annotations

import re

from mpt.lab.lab import Lab
from mpt.lab.links import PLAIN
from tests.netns.browser import browser
from tests.netns.support import figure_3
from tests.netns.support import no_traceback as no_traceback
from tests.netns.typist import typist


def test_the_newcomers_path(lab: Lab) -> None:
    """A firewall that lets the port in, five commands, a ping, the status; the page where the text says; then `mpt
    check` finds nothing, and `mpt doctor` neither."""
    server, laptop, _ = figure_3(lab, PLAIN)
    server.run(["nft", "add table inet filter; add chain inet filter input { type filter hook input priority 0; }"])
    with typist("five commands", {"server": server, "laptop": laptop}, lab.directory) as typed:
        typed.type("server")
        typed.type()
        typed.type()
        assert "1 of 1 paths work" in typed.printed
        url = re.findall(r"http://[\d.:]+/", typed.type().text)[0]
        with browser(laptop, lab.directory) as page:
            page.open(url)
            page.wait_until("document.getElementById('health').textContent === 'All 1 paths work'")
            assert page.complaints == []
        typed.type("laptop")
        assert "nothing is wrong" in typed.printed
        typed.type_command("laptop", "mpt doctor")
        assert "paths work" in typed.printed
