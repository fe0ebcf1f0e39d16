"""Sealed connections between two hosts of the lab."""

from __future__ import annotations

import pytest

from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from tests.netns.support import iperf3
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support_control import settle
from tests.netns.support_sealed import A, B, SealedHosts, keys_of, wait_for_answer


@pytest.mark.parametrize("data_plane", ["python"], indirect=True)
def test_two_hosts_with_keys(lab: Lab) -> None:
    """Packets and a bulk transfer pass, nothing of them in the clear. A daemon that was killed is back within 2 s where
    both know each other."""
    hosts = SealedHosts(lab)
    hosts.write()
    a, b = hosts.start()
    settle(a, b)
    assert keys_of(a)["cipher"] == keys_of(b)["cipher"] is not None
    assert None not in ping(a.host, B, count=20, interval=0.02)
    assert iperf3(a.host, b.host, B, seconds=1) > 20
    assert keys_of(a)["reason"] is None
    dropped = b.status()["tunnels"][0]["ingress_dropped"]
    assert not any(count for reason, count in dropped.items() if reason.startswith("seal")), dropped
    for site, other, address in ((a, b, A), (b, a, B)):
        site.daemon.process.kill()
        site.restart_daemon()
        assert wait_for_answer(other.host, address, 5.0) < 2.0
