"""Why a path does not work, from what was seen at its interface."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from mpt.control.causes import Sightings, Situation, cause
from mpt.model import Address
from mpt.wire.command import encode_keepalive
from mpt.wire.sighting import Datagram, Failure, Unreachable

HERE, PEER = ip_address("10.1.1.2"), ip_address("10.1.1.3")
TUNNEL, PEER_TUNNEL = ip_address("10.0.0.2"), ip_address("10.0.0.3")
PATH = Situation(
    interface="eth1",
    local=HERE,
    local_port=23456,
    peer=PEER,
    peer_port=4754,
    tunnel=TUNNEL,
    peer_tunnel=PEER_TUNNEL,
    peers=frozenset((PEER, ip_address("10.2.2.3"))),
    tunnels=frozenset(((TUNNEL, PEER_TUNNEL), (TUNNEL, ip_address("10.0.0.4")))),
    is_heard=False,
    is_filtered=False,
)
HEARD = replace(PATH, is_heard=True)
KEEPALIVE = Datagram(PEER, 4754, HERE, encode_keepalive(4, PEER_TUNNEL, TUNNEL))


def keepalive(sender: str, receiver: str) -> Datagram:
    """Return a keepalive from the peer for a pair of tunnel addresses."""
    return replace(KEEPALIVE, payload=encode_keepalive(4, ip_address(sender), ip_address(receiver)))


def failure(why: Failure, sender: Address = PEER, mtu: int = 0) -> Unreachable:
    """Return an ICMP error about our datagrams."""
    return Unreachable(sender, PEER, 4754, why, mtu)


@pytest.mark.parametrize(
    ("path", "seen", "says"),
    [
        (replace(PATH, is_filtered=True), KEEPALIVE, "net.ipv4.conf.eth1.rp_filter to 2"),
        (PATH, KEEPALIVE, "a firewall of this host drops UDP port 23456"),
        (PATH, replace(KEEPALIVE, destination=ip_address("10.1.1.9")), "are for 10.1.1.9, but the path is at 10.1.1.2"),
        (PATH, keepalive("10.0.0.3", "10.0.0.9"), "address 10.0.0.3 to 10.0.0.9; here ip_remote = 10.0.0.3"),
        (PATH, replace(KEEPALIVE, source=ip_address("198.51.100.7")), "come from 198.51.100.7, not from remote_ipaddr"),
        (PATH, failure(Failure.PORT), "10.1.1.3 answers that nothing listens at UDP port 4754"),
        (PATH, failure(Failure.FORBIDDEN, ip_address("192.0.2.1")), "a firewall at 192.0.2.1 refuses our datagrams"),
        (PATH, failure(Failure.NO_WAY, ip_address("192.0.2.1")), "192.0.2.1 knows no way to 10.1.1.3"),
        (PATH, failure(Failure.TOO_LONG, ip_address("192.0.2.1"), 1400), "passes packets of 1400 octets at most"),
        (HEARD, replace(KEEPALIVE, source_port=61001), "come from port 61001, not remote_port = 4754"),
        (HEARD, failure(Failure.PORT), "UDP port 4754: remote_port is not its local_port"),
    ],
)  # fmt: skip
def test_the_cause_is_named_with_its_remedy(path: Situation, seen: Datagram | Unreachable, says: str) -> None:
    """The cause is found among datagrams of other paths."""
    others: list[Datagram | Unreachable] = [
        keepalive("10.0.0.4", "10.0.0.2"),  # of another connection with this peer
        replace(KEEPALIVE, source=ip_address("10.2.2.3")),  # of another path
        replace(KEEPALIVE, payload=b"\0\0\x08\0\xa1"),
        replace(failure(Failure.PORT), destination=ip_address("10.1.1.4")),
        replace(failure(Failure.PORT), port=53),
    ]
    assert says in (cause(path, Sightings([*others, seen, *others])) or "")
    assert cause(path, Sightings(others)) is None


def test_a_path_that_is_heard_as_it_should_be_has_no_cause() -> None:
    """Other datagrams are no cause."""
    assert cause(HEARD, Sightings([KEEPALIVE, keepalive("1.1.1.1", "2.2.2.2")])) is None


def test_a_good_keepalive_says_more_than_an_error() -> None:
    """A peer that was restarted has answered with errors before. But of a path that is heard they are the reason why
    the peer does not hear us, and why its port is not remote_port."""
    assert "firewall of this host" in (cause(PATH, Sightings([failure(Failure.PORT), KEEPALIVE])) or "")
    assert "nothing listens" in (
        cause(HEARD, Sightings([replace(KEEPALIVE, source_port=23456), failure(Failure.PORT)])) or ""
    )
