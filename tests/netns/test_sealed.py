"""Sealed connections between two hosts of the lab."""

from __future__ import annotations

from mpt.config.identity import make_identity
from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from tests.netns.support import at_least, iperf3, on_every_data_plane, wait_until
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support_control import change, settle
from tests.netns.support_sealed import A6, B6, HASTY, A, B, SealedHosts, keys_of, wait_for_answer, write_plain


@on_every_data_plane
def test_two_hosts_with_keys(lab: Lab) -> None:
    """Packets and a bulk transfer pass, nothing of them in the clear. A daemon that was killed is back within 2 s where
    both know each other."""
    hosts = SealedHosts(lab)
    hosts.write()
    a, b = hosts.start()
    settle(a, b)
    assert keys_of(a)["cipher"] == keys_of(b)["cipher"] is not None
    assert None not in ping(a.host, B, count=20, interval=0.02)
    at_least(20, lambda: iperf3(a.host, b.host, B, seconds=1))
    assert keys_of(a)["reason"] is None
    dropped = b.status()["tunnels"][0]["ingress_dropped"]
    assert not any(count for reason, count in dropped.items() if reason.startswith("seal")), dropped
    for site, other, address in ((a, b, A), (b, a, B)):
        site.daemon.process.kill()
        site.restart_daemon()
        assert wait_for_answer(other.host, address, 5.0) < 2.0


@on_every_data_plane
def test_a_server_that_knows_no_address(lab: Lab) -> None:
    """One section, no address of the client, which has two lines; killed, it is back within 5 s while there is
    traffic, the client within 2 s. A plain connection on the same port goes on as before."""
    hosts = SealedHosts(lab)
    hosts.write(b_knows_a=False)
    for name, own, peer, host in (("a", A6, B6, 3), ("b", B6, A6, 2)):
        directory = hosts.directories[name]
        interface = directory / "interface.conf"
        interface.write_text(interface.read_text() + f"ipv6_addr = {own}/64\n")
        write_plain(directory, own, peer, [f"10.{n}.{n}.{host}" for n in (1, 2)])
    a, b = hosts.start()
    settle(a, b)
    assert None not in ping(b.host, A, count=20, interval=0.02)
    assert None not in ping(a.host, B6, count=20, interval=0.02)
    for site, limit in ((b, 5.0), (a, 2.0)):
        site.daemon.process.kill()
        site.restart_daemon()
        assert wait_for_answer(a.host, B, 10.0) < limit
        assert wait_for_answer(a.host, B6, 3.0) < 3.0


def test_the_wrong_key_and_no_answer_are_named(lab: Lab) -> None:
    """Not one octet of an answer to who does not know the key; both daemons say what is wrong, once."""
    hosts = SealedHosts(lab, count=1)
    hosts.write()
    stranger = make_identity(lab.directory / "other.key")
    change(hosts.directories["a"] / "connections" / "sealed.conf", "^peer_key.*", f"peer_key = {stranger.public_text}")
    a, b = hosts.start(program=HASTY)
    wait_until(lambda: "does not answer" in (keys_of(a)["reason"] or ""), "the reason", 15.0)
    assert "refuses" in (keys_of(b)["reason"] or "")
    assert a.paths() == b.paths() == ["waiting"]
    dropped = b.status()["tunnels"][0]["ingress_dropped"]
    assert dropped["handshake_mac"] > 0
    assert ping(a.host, B, count=3, interval=0.02) == [None] * 3
