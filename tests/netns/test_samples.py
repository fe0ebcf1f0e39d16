"""The samples in conf/ join two hosts with two cables, and route nothing else into the tunnel."""

from __future__ import annotations

import shutil

from mpt.lab.lab import Lab
from tests.netns.support import CONF, answers, figure_3, start, wait_until
from tests.netns.support import no_traceback as no_traceback


def test_the_samples_join_two_hosts_and_route_nothing_else(lab: Lab) -> None:
    """Host A's files are those of conf/ itself, host B's are in samples/host_b."""
    a, b, _ = figure_3(lab)
    shutil.copytree(CONF, lab.directory / "a", ignore=shutil.ignore_patterns("samples"))
    shutil.copytree(CONF / "samples" / "host_b", lab.directory / "b")
    start((a, lab.directory / "a"), (b, lab.directory / "b"))
    wait_until(lambda: answers(a, "10.0.0.3"), "a reaches b through the tunnel")
    wait_until(lambda: answers(b, "10.0.0.2"), "b reaches a through the tunnel")
    for host in (a, b):
        routes = host.run(["ip", "-4", "route", "show", "dev", "tun0"]).splitlines()
        assert routes and all(route.startswith("10.0.0.") for route in routes), routes
