"""Who is listened to at the command port, and how often."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

from mpt.control.admission import ALL_STRANGERS, MAX_STRANGERS, PEER, STRANGER, Admission

A_PEER = ip_address("10.1.1.2")
A_STRANGER = ip_address("192.0.2.77")


def admission() -> Admission:
    return Admission(lambda address: address == A_PEER)


def admitted(admission: Admission, source: object, count: int, now: float) -> int:
    """Return how many of `count` datagrams from `source` at one moment are looked at."""
    return sum(admission.admits(source, now) for _ in range(count))  # type: ignore[arg-type]


def test_an_address_has_a_burst_and_then_a_rate() -> None:
    """5,000 datagrams a second for ten seconds from one address: the burst, and the rate for ten seconds."""
    under_flood = admission()
    looked_at = sum(under_flood.admits(A_STRANGER, number / 5000) for number in range(50_000))
    assert STRANGER.burst + 10 * STRANGER.rate - 2 <= looked_at <= STRANGER.burst + 10 * STRANGER.rate


def test_a_peer_has_an_allowance_of_its_own() -> None:
    """A peer may be a host of many connections whose cable was pulled."""
    assert admitted(admission(), A_PEER, 2 * int(PEER.burst), 0.0) == PEER.burst


def test_a_flood_from_one_address_leaves_the_others_alone() -> None:
    """Its own bucket is empty before the one that it shares with all strangers."""
    under_flood = admission()
    for number in range(5000):
        under_flood.admits(A_STRANGER, number / 5000)
    assert admitted(under_flood, ip_address("192.0.2.78"), 10, 1.0) == 10


def test_a_flood_from_many_addresses_leaves_the_peers_alone() -> None:
    """Strangers share one allowance; the oldest address is forgotten when the room ends."""
    under_flood = admission()
    strangers = [IPv4Address(0xC6336400 + number) for number in range(3 * MAX_STRANGERS)]
    assert sum(under_flood.admits(each, 0.0) for each in strangers) == ALL_STRANGERS.burst
    assert len(under_flood._strangers) == MAX_STRANGERS
    assert admitted(under_flood, A_PEER, 100, 0.0) == 100


def test_who_has_been_silent_is_listened_to_again() -> None:
    """A token comes back in 1 / rate seconds, no earlier."""
    empty = admission()
    admitted(empty, A_STRANGER, 5000, 0.0)
    assert not empty.admits(A_STRANGER, 0.9 / STRANGER.rate)
    assert empty.admits(A_STRANGER, 1.1 / STRANGER.rate)


def test_a_flood_from_many_addresses_does_not_fill_the_bucket_of_a_peer_anew() -> None:
    """Else somebody who can forge a peer's address could have it forgotten, and be listened to without end."""
    under_flood = admission()
    admitted(under_flood, A_PEER, 2 * int(PEER.burst), 0.0)
    for number in range(3 * MAX_STRANGERS):
        under_flood.admits(IPv4Address(0xC6336400 + number), 0.0)
    assert admitted(under_flood, A_PEER, 100, 0.0) == 0
