"""Tunnels that may not offload, as where a driver is broken: nothing is joined, and everything comes through."""

from __future__ import annotations

from typing import Any

import pytest

from mpt.lab.lab import Lab
from mpt.lab.transfer import Transfer
from mpt.lab.tunnel import Description, Tunnel
from tests.netns.support import answers, figure_3, ip_json, on_every_data_plane, wait_until
from tests.netns.support import no_traceback as no_traceback


@on_every_data_plane
@pytest.mark.parametrize(("line", "headers"), [("gso = off", True), ("tun_offload = off", False)])
def test_a_stream_without_offloads(lab: Lab, data_plane: str, line: str, headers: bool) -> None:
    """A TCP stream is whole both ways; without tun_offload, as for the Python data path, the TUN has no vnet_hdr."""
    a, b, links = figure_3(lab)
    Tunnel(Description(links, reorder_window=1000, extra={"general": [line]}), lab.directory)
    wait_until(lambda: answers(a, "10.0.0.2"), "an answer through the tunnel")
    for client, server, address in ((a, b, "10.0.0.2"), (b, a, "10.0.0.1")):
        result = Transfer(client, server, address, seconds=0.5, warmup=0.2).finish()
        print(f"\n{line}: {result.mbit:.0f} Mbit/s")
        assert result.verified
    (tun,) = ip_json(a, "link", "show", "dev", "tun0")
    details: Any = tun["linkinfo"]
    assert details["info_data"]["vnet_hdr"] == (headers and data_plane == "native")
