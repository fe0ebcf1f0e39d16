"""Which data path a daemon runs on, and what it has the kernel do: what the operator is told of it."""

from __future__ import annotations

import re

import pytest

from mpt.accel.choice import native_is_built
from mpt.lab.lab import Lab
from tests.netns.support import at_least, on_every_data_plane, stream
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support_control import B, guide_hosts

JOINS = {"join_tcp", "join_udp"}  # which of them there are is the kernel's


CASES: list[tuple[str, list[str], set[str]]] = [
    ("python", [], set()),
    ("native", ["gso = off", "tun_offload = off"], set()),
    ("native", ["gso = off"], {"vnet_hdr"}),
    ("native", [], {"vnet_hdr", "udp_segment"}),
]


@pytest.mark.parametrize(
    ("plane", "lines", "expected"), [case for case in CASES if case[0] == "python" or native_is_built()]
)
def test_the_data_path_and_its_offloads_are_told(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, plane: str, lines: list[str], expected: set[str]
) -> None:
    """The status, its text and one line of the log say the same; what is turned off is not in use."""
    monkeypatch.delenv("MPT_DATA_PLANE", raising=False)  # what the configuration says counts here
    lines = [f"data_plane = {plane}", *lines]
    a, _, _ = guide_hosts(lab, extra={"general": lines})
    (tunnel,) = a.status()["tunnels"]
    offloads = tunnel["offloads"]
    assert tunnel["data_plane"] == plane
    assert set(offloads) - JOINS == expected
    assert expected or not offloads
    named = ", ".join(offloads) or "none"
    assert f"\n  {plane} data path, offloads: {named}\n" in a.done("show", "status")
    assert re.findall(r"tun0: offloads in use: (.*)", a.daemon.process.output()) == [named]


@on_every_data_plane
def test_a_way_too_narrow_for_a_run_takes_its_packets(lab: Lab, data_plane: str) -> None:
    """Datagrams that are longer than the way go one by one, in fragments, and none is lost; the offload stays."""
    a, b, _ = guide_hosts(lab)
    for site in (a, b):
        site.host.ip("link set eth1 mtu 1300", "link set eth2 mtu 1300")
    at_least(20, lambda: stream(a.host, b.host, B, seconds=2, warmup=0.5))
    for site in (a, b):
        status = site.status()
        assert ("udp_segment" in status["tunnels"][0]["offloads"]) == (data_plane == "native")
        assert not any(status["tunnels"][0]["egress_dropped"].values())
