"""The samples in conf/ join two hosts with two cables, as docs/getting-started.md is typed, and route nothing else."""

from __future__ import annotations

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from tests.netns.support import CONF, answers, figure_3, wait_until
from tests.netns.support import no_traceback as no_traceback
from tests.netns.typist import typist


def test_the_samples_join_two_hosts_and_route_nothing_else(lab: Lab) -> None:
    """Host A's files are those of conf/ itself, host B's are in samples/host_b."""
    a, b, _ = figure_3(lab)
    with typist("two cables", {"a": a, "b": b}, lab.directory, {"/opt/mpt/share/mpt": str(CONF)}) as typed:
        typed.type("a")
        typed.type("b")
        typed.type("a", "b", may_fail=["mpt check /etc/mpt"])
        typed.serve(b)
        typed.type("a")
        wait_until(lambda: answers(b, "10.0.0.2"), "b reaches a through the tunnel")
        assert_nothing_else_is_routed(a, b)


def assert_nothing_else_is_routed(*hosts: Host) -> None:
    """The tunnel has the routes to its own addresses alone."""
    for host in hosts:
        routes = host.run(["ip", "-4", "route", "show", "dev", "tun0"]).splitlines()
        assert routes and all(route.startswith("10.0.0.") for route in routes), routes
