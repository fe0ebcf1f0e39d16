"""Which data path a daemon runs on, and what it has the kernel do: what the operator is told of it."""

from __future__ import annotations

import re

import pytest

from mpt.lab.lab import Lab
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support_control import guide_hosts

JOINS = {"join_tcp", "join_udp"}  # which of them there are is the kernel's


@pytest.mark.parametrize(
    ("lines", "plane", "expected"),
    [
        (["data_plane = python"], "python", set()),
        (["data_plane = native", "gso = off", "tun_offload = off"], "native", set()),
        (["data_plane = native", "gso = off"], "native", {"vnet_hdr"}),
        (["data_plane = native"], "native", {"vnet_hdr", "udp_segment"}),
    ],
)
def test_the_data_path_and_its_offloads_are_told(lab: Lab, lines: list[str], plane: str, expected: set[str]) -> None:
    """The status, its text and one line of the log say the same; what is turned off is not in use."""
    a, _, _ = guide_hosts(lab, extra={"general": lines})
    (tunnel,) = a.status()["tunnels"]
    offloads = tunnel["offloads"]
    assert tunnel["data_plane"] == plane
    assert set(offloads) - JOINS == expected
    assert expected or not offloads
    named = ", ".join(offloads) or "none"
    assert f"\n  {plane} data path, offloads: {named}\n" in a.done("show", "status")
    assert re.findall(r"tun0: offloads in use: (.*)", a.daemon.process.output()) == [named]
