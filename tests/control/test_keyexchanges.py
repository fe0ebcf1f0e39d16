"""All handshakes of a host: the bounds of what strangers may begin, tokens, indexes, the memory."""

from __future__ import annotations

import gc
import random

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from mpt.control.doorkeeper import MOST, MOST_FROM_ONE, Doorkeeper, Verdict
from mpt.control.keyexchange import GIVE_UP, Established, Place, Send
from mpt.wire.seal import RETRY, HandshakeDatagram, Retry, decode_handshake, mac1_key
from mpt.wire.token import LIFE, token
from tests.control.keypairs import HIGH, LOW, Host, Keys, Network, hosts

ADDRESS = ("192.0.2.7", 4000)


def address(number: int) -> tuple[str, int]:
    """Return one of many addresses."""
    return f"198.51.{number // 250}.{number % 250 + 1}", 4000


# The beginning of a client hello, of TLS and of the fake: more is to come.
TLS = bytes.fromhex("16030105ab010005a70303").ljust(1100, b"r")
FAKE = bytes.fromhex("68000005ab").ljust(1100, b"r")


def first_datagram(index: int, shown: bytes = b"", data: bytes = FAKE) -> bytes:
    return HandshakeDatagram(False, index, 0, 0, 0, shown, data).encode(mac1_key(HIGH.public))


def knock(host: Host, count: int, now: float, data: bytes = FAKE) -> list[list[Send]]:
    """Begin `count` handshakes that nobody goes on with, each from its own address."""
    return [
        host.exchanges.receive(first_datagram(number + 1, data=data), Place(0, address(number)), now)
        for number in range(count)
    ]


def test_an_address_has_a_few_half_open_handshakes() -> None:
    """An IPv4 address, or an IPv6 /64, whatever the ports; above half of them it must show tokens. Others are not
    hindered by it."""
    door = Doorkeeper()
    for port in range(MOST_FROM_ONE):
        is_many = port > MOST_FROM_ONE // 2
        assert door.verdict(("192.0.2.1", port), b"", 0.0) is (Verdict.RETRY if is_many else Verdict.OPEN)
        shown = token(door.token_key, ("192.0.2.1", port), 0.0)
        assert door.verdict(("192.0.2.1", port), shown, 0.0) is Verdict.OPEN_VALIDATED
        door.opened(("192.0.2.1", port))
        door.opened((f"2001:db8::{port}", port, 0, 0))
    assert door.verdict(("192.0.2.1", 99), b"", 0.0) is Verdict.FULL
    assert door.verdict(("2001:db8::ffff", 99, 0, 0), b"", 0.0) is Verdict.FULL
    assert door.verdict(("192.0.2.2", 99), b"", 0.0) is Verdict.OPEN
    assert door.verdict(("2001:db8:0:1::1", 99, 0, 0), b"", 0.0) is Verdict.OPEN
    assert door.verdict(("fe80::1%eth0", 99, 0, 3), b"", 0.0) is Verdict.OPEN
    door.closed(("192.0.2.1", 0))
    assert door.verdict(("192.0.2.1", 99), b"", 0.0) is Verdict.RETRY


def test_a_token_is_good_for_its_address_and_a_while() -> None:
    """Not for another port, not later than its life, not changed; not before it was made."""
    door = Doorkeeper()
    for number in range(MOST // 2 + 1):
        door.opened(address(number))
    for now in (1000.0, 1e7):
        shown = token(door.token_key, ADDRESS, now)
        assert door.verdict(ADDRESS, b"", now) is Verdict.RETRY
        assert door.verdict(ADDRESS, shown, now) is Verdict.OPEN_VALIDATED
        assert door.verdict(ADDRESS, shown, now + LIFE - 0.01) is Verdict.OPEN_VALIDATED
        assert door.verdict(ADDRESS, shown, now + LIFE + 0.01) is Verdict.RETRY
        assert door.verdict((ADDRESS[0], 4001), shown, now) is Verdict.RETRY
    assert door.verdict(ADDRESS, shown, now - 0.01) is Verdict.RETRY
    later = token(door.token_key, ADDRESS, 5000.0)
    for place in range(len(later)):
        forged = later[:place] + bytes([later[place] ^ 1]) + later[place + 1 :]
        assert door.verdict(ADDRESS, forged, 5000.0) is Verdict.RETRY
    other = Doorkeeper()
    for number in range(MOST // 2 + 1):
        other.opened(address(number))
    assert other.verdict(ADDRESS, later, 5000.0) is Verdict.RETRY


@given(st.binary(max_size=40))
def test_strange_tokens_are_no_tokens(shown: bytes) -> None:
    door = Doorkeeper()
    assert door.verdict(ADDRESS, shown, 100.0) is Verdict.OPEN


def test_above_half_a_token_is_asked_for_and_nothing_is_kept() -> None:
    """A peer shows it and gets its session, though the flood goes on. The flood is over 10 s later."""
    one, two = hosts(Keys.real)
    answers = knock(two, 2 * MOST, 100.0, TLS)
    assert len(two.exchanges) == MOST // 2 + 1
    retries = [sent for sent in answers if sent and sent[0].datagram[0] == RETRY]
    assert len(retries) == 2 * MOST - len(two.exchanges)
    network = Network(one, two)
    network.send(one, one.begin(two, network.now))
    network.run(until=109.0)
    assert isinstance(one.outcomes[0], Established)
    assert any(each.datagram[0] == RETRY for _, host, each in network.sent if host is two)
    network.run(until=100.0 + GIVE_UP + 11)
    assert len(two.exchanges) == 0
    assert two.exchanges.counters["handshake_retry"] >= len(retries)


def test_a_flood_that_goes_on_keeps_nobody_out() -> None:
    """Forged addresses show no token, whatever their number: half of the places are left for those that do."""
    one, two = hosts()
    network = Network(one, two)
    for tick in range(240):  # 12 s, so that places are given up and taken anew
        network.run(until=100.0 + tick / 20)
        for number in range(50):  # 1,000 a second
            place = Place(0, (f"203.{tick}.113.{number}", 4000))
            two.exchanges.receive(first_datagram(tick * 50 + number + 1), place, network.now)
        if tick % 40 == 30:
            network.send(one, one.begin(two, network.now))
    assert [type(each) for each in one.outcomes] == [Established] * 6
    assert len(two.exchanges) <= MOST // 2 + 2  # those of the flood, and the last one of the peer


def test_who_forges_the_address_of_a_peer_does_not_shut_it_out() -> None:
    """However often he begins from there: the peer shows the token that only it gets."""
    one, two = hosts(Keys.real)
    network = Network(one, two)
    for index in range(1, 100):
        network.send(two, two.exchanges.receive(first_datagram(index, data=TLS), Place(0, one.address), network.now))
    assert len(two.exchanges) == MOST_FROM_ONE // 2 + 1
    network.send(one, one.begin(two, network.now))
    network.run(until=100.5)
    assert isinstance(one.outcomes[0], Established)


def test_no_flood_opens_more_than_the_bound() -> None:
    """Even one that shows its tokens; beyond the bound nothing is answered."""
    _, two = hosts()
    for number, sent in enumerate(knock(two, 2 * MOST, 100.0)):
        if sent and sent[0].datagram[0] == RETRY:
            retry = decode_handshake(sent[0].datagram)
            assert isinstance(retry, Retry)
            two.exchanges.receive(first_datagram(number + 1, retry.token), Place(0, address(number)), 100.1)
    assert len(two.exchanges) == MOST
    assert two.exchanges.receive(first_datagram(9), Place(0, address(9000)), 100.2) == []
    assert two.exchanges.counters["handshake_full"] > 0
    two.exchanges.deadline_reached(100.0 + GIVE_UP + 1)
    assert len(two.exchanges) == 0


def test_who_fails_keeps_the_place_for_the_whole_time() -> None:
    """So nobody makes us begin more than some 25 handshakes a second."""
    _, two = hosts(Keys.real)
    place = Place(0, address(1))
    for index in range(1, 100):
        two.exchanges.receive(first_datagram(index, data=b"no TLS"), place, 100.0)
    assert len(two.exchanges) == len(two.exchanges.take_outcomes()) == MOST_FROM_ONE // 2 + 1
    two.exchanges.deadline_reached(100.0 + GIVE_UP)
    assert len(two.exchanges) == 0


def test_an_authenticated_peer_fills_no_table() -> None:
    """Of many handshakes of one connection the latest is remembered, none when its session is confirmed."""
    one, two = hosts()
    network = Network(one, two)
    for _ in range(30):
        network.send(one, one.begin(two, network.now))
        network.run(until=network.now + 0.1)
    assert len(one.exchanges) <= 2 and len(two.exchanges) <= 2
    latest = two.outcomes[-1]
    assert isinstance(latest, Established)
    two.exchanges.confirmed(latest.keys.index)
    assert len(two.exchanges) == 0


def test_a_peer_that_begins_too_often_keeps_its_places() -> None:
    """As a stranger would: some eight handshakes in ten seconds are all that its address gets. Others are not hindered,
    and it is served as before when it was quiet."""
    one, two = hosts()
    two.is_often = True
    network = Network(one, two)

    def begin(times: int) -> int:
        before = len(two.outcomes)
        for _ in range(times):
            network.send(one, one.begin(two, network.now))
            network.run(until=network.now + 0.1)
        return len(two.outcomes) - before

    assert begin(30) == MOST_FROM_ONE
    assert two.exchanges.receive(first_datagram(9), Place(0, address(1)), network.now)
    network.run(until=network.now + GIVE_UP + 1)
    two.is_often = False
    assert begin(30) == 30
    assert two.exchanges.counters["handshake_full"] > 0
    network.run(until=network.now + GIVE_UP + 1)
    assert two.exchanges.next_deadline() is None and len(two.exchanges) == 0


def test_tls_is_freed_with_the_keys() -> None:
    """At both ends, at once, and not by the garbage collector: a server has thousands of sessions."""
    one, two = hosts(Keys.real)
    network = Network(one, two)
    gc.collect()
    gc.disable()
    try:
        network.send(one, one.begin(two, network.now))
        assert [each for each in gc.get_objects() if isinstance(each, SSL.Connection)]
        network.run(until=101.0)
        assert all(isinstance(host.outcomes[0], Established) for host in (one, two))
        assert len(one.exchanges) == 1, "it answers what is repeated"
        assert not [each for each in gc.get_objects() if isinstance(each, SSL.Connection)]
    finally:
        gc.enable()


def test_only_the_answers_to_our_own_handshakes_are_expected() -> None:
    """With the mac1 key of the peer; no more when it is cancelled. A second begin drops the first."""
    one, two = hosts()
    one.begin(two, 100.0)
    ((index, key),) = one.exchanges.expected().items()
    assert key == mac1_key(HIGH.public)
    one.begin(two, 100.1)
    assert len(one.exchanges.expected()) == 1 and index not in one.exchanges.expected()
    one.exchanges.cancel("con")
    assert not one.exchanges.expected() and one.exchanges.next_deadline() is None
    assert one.exchanges.take_outcomes() == []


def test_an_index_in_use_is_not_drawn_again() -> None:
    """Not while its session lives, though its handshake is long forgotten; 0 never."""
    drawn = iter([0, 5, 5, 6, 5])
    one, two = hosts()
    one.exchanges._random = lambda size: next(drawn).to_bytes(size, "big")
    network = Network(one, two)
    network.send(one, one.begin(two, network.now))
    network.run(until=150.0)
    assert one.established().keys.index == 5
    one.begin(two, 150.0)
    assert list(one.exchanges.expected()) == [6]
    one.exchanges.cancel("con")
    one.exchanges.release(5)
    one.begin(two, 150.0)
    assert list(one.exchanges.expected()) == [5]


def test_a_retry_is_heeded_before_an_answer_only_and_not_for_ever() -> None:
    """A forger of retries makes us send three flights more at the most."""
    one, two = hosts()
    first = one.begin(two, 100.0)
    (index,) = one.exchanges.expected()
    retry = b"\x42\x01\x00\x04" + index.to_bytes(4, "big") + b"abcd" + bytes(16)
    sent = [len(one.exchanges.receive(retry, Place(0, two.address), 100.0)) for _ in range(10)]
    assert sum(sent) == 3 * len(first)
    assert one.exchanges.receive(first[0].datagram, Place(0, two.address), 100.0) != []  # its own words: a new door


def test_datagrams_for_nobody_are_counted() -> None:
    """A responder's answer to nobody, an initiator's with an index that is not known, from an index 0."""
    one, _ = hosts()
    place = Place(0, ADDRESS)
    for datagram in (
        HandshakeDatagram(True, 5, 6, 0, 0, b"", b"x"),
        HandshakeDatagram(False, 5, 6, 0, 0, b"", b"x"),
        HandshakeDatagram(False, 0, 0, 0, 0, b"", b"x"),
    ):
        assert one.exchanges.receive(datagram.encode(mac1_key(LOW.public)), place, 100.0) == []
    assert one.exchanges.counters["handshake_unknown"] == 3 and len(one.exchanges) == 0


def test_all_datagrams_of_a_recorded_handshake_do_nothing_when_they_are_replayed() -> None:
    """In any order, from elsewhere: no second session, and the memory goes back to nothing."""
    one, two = hosts(Keys.real)
    network = Network(one, two)
    network.send(one, one.begin(two, network.now))
    network.run(until=101.0)
    assert len(one.outcomes) == len(two.outcomes) == 1
    recorded = [(target, octets) for _, target, octets in network.log]
    chance = random.Random(1)
    for turn in range(300):
        target, octets = chance.choice(recorded)
        host = one if target == one.address else two
        for place in (Place(0, ("203.0.113.5", 5)), Place(0, two.address if host is one else one.address)):
            host.exchanges.receive(octets, place, 101.0 + turn / 100)
    for host in (one, two):
        host.exchanges.deadline_reached(101.0 + 3 + GIVE_UP)
        made = [each for each in [*host.outcomes, *host.exchanges.take_outcomes()] if isinstance(each, Established)]
        assert len(made) == 1 and len(host.exchanges) == 0
