"""Which data path a daemon runs on, and what it has the kernel do: what the operator is told of it."""

from __future__ import annotations

import re

import pytest

from mpt.lab.lab import Lab
from mpt.lab.transfer import Transfer
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support_control import B, guide_hosts

JOINS = {"join_tcp", "join_udp"}  # which of them there are is the kernel's


@pytest.fixture(autouse=True)
def as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the configuration says counts, whatever the other namespace tests are run on."""
    monkeypatch.delenv("MPT_DATA_PLANE", raising=False)


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


def test_a_way_too_narrow_for_a_run_takes_its_packets(lab: Lab) -> None:
    """Datagrams that are longer than the way go one by one, in fragments, and none is lost; the offload stays."""
    a, b, _ = guide_hosts(lab, extra={"general": ["data_plane = native"]})
    for site in (a, b):
        site.host.ip("link set eth1 mtu 1300", "link set eth2 mtu 1300")
    result = Transfer(a.host, b.host, B, seconds=2, warmup=0.5).finish()
    assert result.verified
    assert result.mbit > 20
    for site in (a, b):
        status = site.status()
        assert "udp_segment" in status["tunnels"][0]["offloads"]
        assert status["tunnels"][0]["egress_dropped"] == {}
