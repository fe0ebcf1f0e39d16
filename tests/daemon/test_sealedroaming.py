"""Paths of sealed connections that change: ports, addresses, names, sizes; a machine that sleeps. Whole daemons."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any, cast

import pytest

from mpt.control.keyexchange import Place
from mpt.control.liveness import STUCK_TIME
from mpt.daemon.sealedpath import SealedPath
from mpt.model import unspecified
from mpt.wire.seal import OVERHEAD
from tests.daemon.logged import logged
from tests.daemon.sealedpair import B_TUNNEL, QUICK, UNKNOWN, SealedPair, a_side, b_side, paths, peer_path, sealed
from tests.daemon.stage import TUNNEL, Run, Stage, path

ONE_CABLE: dict[str, Any] = {"a": a_side(path(1, **QUICK)), "b": b_side(peer_path(1, **UNKNOWN))}


def connected(run: Run, **named: Any) -> SealedPair:
    """Return a pair whose paths all work."""
    pair = SealedPair(run, **named)
    pair.until(lambda: all(each["status"] == "up" for stage in (pair.a, pair.b) for each in paths(stage)), 5.0)
    assert pair.carries()
    return pair


def first_path(stage: Stage) -> SealedPath:
    (connection,) = stage.root.runs.connections()
    return cast("SealedPath", connection.paths[0])


def test_a_path_that_stays_silent_takes_another_source_port(run: Run) -> None:
    """After ten seconds, at the end that begins; the peer finds it at its new port."""
    pair = connected(run, **ONE_CABLE)
    assert first_path(pair.a).local_port == 23456
    pair.cables.cut = {1}
    pair.a.tun.inject(b"")
    first_path(pair.a).ask()
    pair.pass_time(STUCK_TIME - 1.0)
    assert first_path(pair.a).local_port == 23456
    pair.pass_time(2.0)
    port = first_path(pair.a).local_port
    assert port >= 49152 and first_path(pair.b).local_port == 23456
    assert [each.bound[1] for each in pair.a.data_sockets] == [port]
    pair.cables.cut = set()
    pair.until(pair.carries, 20.0)
    place = first_path(pair.b).peer_place
    assert place is not None and place.address == ("10.1.1.2", first_path(pair.a).local_port)


def test_a_peer_that_has_never_answered_is_asked_from_another_port(run: Run) -> None:
    """A stuck entry of a NAT may be older than the daemon."""
    pair = SealedPair(run, **ONE_CABLE)
    pair.cables.cut = {1}
    pair.kill("a")
    pair.pass_time(12.0)
    assert first_path(pair.a).local_port >= 49152
    pair.cables.cut = set()
    pair.until(pair.carries, 30.0)


def test_a_handshake_does_not_wait_for_an_address_that_is_gone(run: Run) -> None:
    """When the local address changes in the middle of it, it is begun again at once, from the new one."""
    anywhere = {"public_ipaddr": unspecified(4), "gateway_ipaddr": unspecified(4)}
    pair = SealedPair(run, a=a_side(path(1, **QUICK, **anywhere)), b=b_side(peer_path(1, **UNKNOWN)))
    pair.cables.cut = {1}
    pair.kill("a")
    pair.pass_time(0.1)
    pair.a.netlink.remove_interface("eth1")
    pair.a.netlink.add_interface("eth1", "10.1.1.77/24")
    pair.a.network_changed()
    pair.cables.cut = set()
    pair.until(pair.carries, 1.0)


def test_a_port_that_is_taken_is_left(run: Run) -> None:
    """Another one is drawn; if all are taken the old one stays."""
    pair = connected(run, **ONE_CABLE)
    pair.a.system.fail("bind", *[98] * 4)
    first_path(pair.a).take_new_source_port()
    assert first_path(pair.a).local_port == 23456
    pair.until(pair.carries, 1.0)


def test_the_names_of_a_peer_are_asked_for_and_tried(run: Run) -> None:
    """There is no handshake before the answer. A later answer, while the path is silent, leads to the new place."""
    named = replace(path(1, **QUICK), remote_ipaddr=unspecified(4), remote_names=("b.example",))
    any_address = {"public_ipaddr": unspecified(4), "private_ipaddr": unspecified(4)}
    pair = SealedPair(run, a=a_side(named), b=b_side(peer_path(1, **UNKNOWN, **any_address)))

    def answer(*addresses: str) -> None:
        """Answer the question under way."""
        asked = first_path(pair.a)._peer_addresses
        assert asked is not None
        (lookup,) = asked._lookups.values()
        lookup._found = {4: [ip_address(each) for each in addresses], 6: []}
        lookup._end()

    pair.a.name_servers = (ip_address("10.1.1.53"),)
    pair.pass_time(2.5)
    assert sealed(pair.a)["cipher"] is None and "no address" in sealed(pair.a)["reason"]
    answer("10.1.1.33", "10.1.1.3")  # nobody is at the first one
    pair.until(pair.carries, 3.0)
    pair.b.netlink.remove_interface("eth1")
    pair.b.netlink.add_interface("eth1", "10.1.1.77/24")
    pair.b.network_changed()
    pair.cables.cut = {1}
    first_path(pair.a).ask()
    pair.pass_time(2.0)
    pair.cables.cut = set()
    answer("10.1.1.77")
    pair.until(pair.carries, 15.0)


@pytest.mark.parametrize("good", [6, 4])
def test_a_peer_of_both_versions_is_reached_by_the_one_that_works(run: Run, good: int) -> None:
    """IPv6 is tried first; the other one after a quarter of a second without an answer."""
    anywhere = {"any_version": True, "public_ipaddr": unspecified(4), "gateway_ipaddr": unspecified(4)}
    both = (ip_address("10.1.1.3" if good == 4 else "10.1.1.99"), ip_address("fd01::3" if good == 6 else "fd01::99"))
    here = replace(path(1, **QUICK, **anywhere), remote_ipaddr=both[0], remote_addresses=both)
    there = {"ip_ver": good, "public_ipaddr": unspecified(good), "gateway_ipaddr": unspecified(good)}
    pair = SealedPair(run, a=a_side(here), b=b_side(peer_path(1, remote_ipaddr=unspecified(good), **there)))
    assert first_path(pair.a).config.ip_ver == 6
    pair.until(lambda: first_path(pair.a).config.ip_ver == good, 0.35)
    pair.until(pair.carries, 5.0)
    assert first_path(pair.a).config.ip_ver == good
    pair.pass_time(30.0)
    assert first_path(pair.a).config.ip_ver == good and pair.carries()


def test_the_size_of_a_path_limits_its_packets(run: Run) -> None:
    """The largest packet of each path is found; with mtu = auto the TUN has what all paths carry."""
    tunnels = (replace(TUNNEL, mtu=1280, mtu_auto=True), B_TUNNEL)
    pair = connected(run, tunnels=tunnels)
    pair.pass_time(1.0)
    frame = OVERHEAD + 4  # no reorder window: no sequence numbers
    expected = 1500 - 28 - frame
    assert [each.mtu for each in pair.a.root.runs.connections()[0].paths] == [expected] * 2
    assert pair.a.netlink.snapshot()["tun0"].mtu == expected
    assert pair.a.root.operations.status().tunnels[0].mtu == expected
    assert pair.b.netlink.snapshot()["tun0"].mtu == 1440  # as its file says
    pair.a.netlink.add_interface("eth2", "10.2.2.2/24", mtu=1400)
    pair.a.network_changed()
    pair.until(lambda: pair.a.netlink.snapshot()["tun0"].mtu == expected - 100, 5.0)


def test_a_link_that_becomes_narrower_is_followed_at_once(run: Run) -> None:
    """Its address and its carrier stay, and nobody sends anything: there is no hole for the next packet."""
    pair = connected(run, tunnels=(replace(TUNNEL, mtu=1280, mtu_auto=True), B_TUNNEL))
    pair.pass_time(30.0)
    before = pair.a.netlink.snapshot()["tun0"].mtu
    for number in (1, 2):
        pair.a.netlink.set_mtu(f"eth{number}", 1340)
    pair.until(lambda: pair.a.netlink.snapshot()["tun0"].mtu == before - 160, 1.0)


def test_a_machine_that_has_slept_asks_at_once_and_trusts_no_old_keys(run: Run) -> None:
    """Keys that are too old by the time of the sleep are renewed before anything is sent."""
    pair = connected(run, **ONE_CABLE)
    age = sealed(pair.a)["keys_age"]
    pair.a.slept = 3600.0
    pair.until(lambda: sealed(pair.a)["keys_age"] is not None and sealed(pair.a)["keys_age"] < age, 5.0)
    pair.until(pair.carries, 2.0)
    pair.a.slept += 10.0
    pair.pass_time(1.1)
    assert sealed(pair.a)["keys_age"] > 10.0
    assert pair.carries()


def test_a_daemon_that_stood_still_for_longer_than_keys_live(run: Run) -> None:
    """As under SIGSTOP: renewal and end of the keys are due at once, also at the end that knows no address."""
    pair = connected(run, **ONE_CABLE)
    pair.pass_time(200.0, step=200.0)
    pair.until(pair.carries, 5.0)


def test_a_peer_that_moves_without_end_fills_no_log(run: Run) -> None:
    """It has a key, and answers every challenge at once: a thousand moves are some ten lines."""
    pair = connected(run, **ONE_CABLE)
    one = first_path(pair.b)
    assert one.peer_place is not None
    with logged() as log:
        for port in range(10_000, 11_000):
            one.use(Place(one.peer_place.socket, (one.peer_place.address[0], port)))
            one.say("the peer is now elsewhere")
            one.heard()
    assert 5 <= len([text for text in log.of("info") if "the peer is" in text]) <= 25
