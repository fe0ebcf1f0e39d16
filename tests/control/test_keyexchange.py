"""One handshake: two ends in memory, with TLS of OpenSSL and with the fake, over a network that does its worst."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.control.keyexchange import GIVE_UP, STALLED, Established, Failure, Place
from mpt.control.keyexchanges import MakeEngine
from mpt.wire.seal import Cipher, HandshakeDatagram, decode_handshake, mac1_key
from tests.control.keypairs import HIGH, LOW, OTHER, TUNNEL, Host, Keys, Network, hosts, straight

Engines = Callable[[Keys], MakeEngine]


@pytest.fixture(params=[Keys.fake, Keys.real], ids=["fake", "real"])
def engines(request: pytest.FixtureRequest) -> Engines:
    found: Engines = request.param
    return found


def meet(one: Host, two: Host) -> None:
    """`one` asks `two` for a session, over a network without faults."""
    network = Network(one, two)
    network.send(one, one.begin(two, network.now))
    network.run(until=network.now + GIVE_UP + 1)
    assert len(one.exchanges) == len(two.exchanges) == 0


def assert_same_keys(one: Established, two: Established) -> None:
    ours, theirs = one.keys, two.keys
    assert (ours.index, ours.peer_index) == (theirs.peer_index, theirs.index)
    assert (ours.send_key, ours.send_iv) == (theirs.receive_key, theirs.receive_iv)
    assert (ours.receive_key, ours.receive_iv) == (theirs.send_key, theirs.send_iv)
    assert ours.cipher is theirs.cipher and ours.send_key != ours.receive_key


def test_both_ends_get_the_same_keys(engines: Engines) -> None:
    """In the mirror; each knows the other's key, hello, place, and who has begun."""
    one, two = hosts(engines)
    meet(one, two)
    ours, theirs = one.established(), two.established()
    assert_same_keys(ours, theirs)
    assert (ours.peer_key, theirs.peer_key) == (HIGH.public, LOW.public)
    assert (ours.hello, theirs.hello) == (two.hello, one.hello)
    assert (ours.is_initiator, theirs.is_initiator) == (True, False)
    assert (ours.place.address, theirs.place.address) == (two.address, one.address)
    assert ours.group == theirs.group == "X25519MLKEM768" and ours.connection == theirs.connection == "con"


def test_the_responder_chooses_the_cipher(engines: Engines) -> None:
    """The first of its list that the initiator has, too; none in common ends the handshake."""
    one, two = hosts(engines)
    two.hello = replace(two.hello, ciphers=(Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305, Cipher.AES_128_GCM))
    meet(one, two)
    assert one.established().keys.cipher is two.established().keys.cipher is Cipher.CHACHA20_POLY1305

    one, two = hosts(engines)
    two.hello = replace(two.hello, ciphers=(Cipher.AES_256_GCM,))
    meet(one, two)
    assert one.failure() is two.failure() is Failure.CIPHER


def test_only_configured_keys_are_taken(engines: Engines) -> None:
    """Each end refuses another key of its peer, and the other end learns it."""
    one, two = hosts(engines)
    stranger = Host(OTHER, one.address, engines(OTHER), one.peers, one.hello)
    meet(stranger, two)
    assert stranger.failure() is Failure.REFUSED and two.failure() is Failure.WRONG_KEY
    (outcome,) = two.outcomes
    assert outcome.peer_key == OTHER.public

    one, two = hosts(engines)
    liar = Host(OTHER, two.address, engines(OTHER), two.peers, two.hello)  # somebody else at the peer's address
    liar.keys = two.keys
    liar.exchanges._own_mac1_key = mac1_key(two.keys.public)  # who knows the peer's public key
    meet(one, liar)
    assert one.failure() is Failure.WRONG_KEY and liar.failure() is Failure.REFUSED


def test_tunnel_addresses_that_do_not_fit_end_it(engines: Engines) -> None:
    """Each end says what the other one has."""
    one, two = hosts(engines)
    two.hello = replace(two.hello, tunnel=(IPv4Address("10.0.0.9"), TUNNEL[0]))
    meet(one, two)
    assert one.failure() is two.failure() is Failure.TUNNEL
    assert "10.0.0.9" in getattr(one.outcomes[0], "detail", "")


def test_a_peer_without_a_connection_is_refused(engines: Engines) -> None:
    """The initiator learns that it is refused; a handshake that is dropped for another one ends silently."""
    one, two = hosts(engines)
    two.refuses = Failure.NOT_OURS
    meet(one, two)
    assert one.failure() is Failure.REFUSED and two.failure() is Failure.NOT_OURS

    one, two = hosts(engines)
    two.refuses = Failure.DROPPED
    meet(one, two)
    assert one.failure() is Failure.UNFINISHED and two.failure() is Failure.DROPPED


@pytest.mark.parametrize("strict", ["initiator", "responder", "nobody"])
def test_require_pq_refuses_x25519_alone(strict: str) -> None:
    """At either end; the other end is told. Without it X25519 is taken."""
    one, two = hosts(lambda keys: keys.fake("x25519"))
    one.require_pq, two.require_pq = strict == "initiator", strict == "responder"
    meet(one, two)
    if strict == "nobody":
        assert one.established().group == "x25519"
    else:
        failures = [one.failure(), two.failure()]
        assert failures == (
            [Failure.GROUP, Failure.REFUSED] if strict == "initiator" else [Failure.REFUSED, Failure.GROUP]
        )


def test_no_other_group_is_taken() -> None:
    one, two = hosts(lambda keys: keys.fake("secp256r1"))
    meet(one, two)
    assert Failure.GROUP in (one.failure(), two.failure())


def test_lost_datagrams_are_sent_again(engines: Engines) -> None:
    """With a third of all datagrams lost most handshakes succeed, none wrongly."""
    made = 0
    for seed in range(20):
        one, two = hosts(engines)
        network = Network(one, two, fate=worst(["pass", "drop", "pass"] * 40, seed))
        network.send(one, one.begin(two, network.now))
        network.run()
        assert len(one.exchanges) == len(two.exchanges) == 0
        if isinstance(one.outcomes[0], Established):
            assert_same_keys(one.established(), two.established())
            made += 1
    assert made >= 16


def test_an_answer_is_waited_for_in_growing_steps() -> None:
    """After 250 ms, doubled up to 2 s; never more than four datagrams under way; given up after 10 s."""
    one, two = hosts()
    network = Network(one)
    network.send(one, one.begin(two, network.now))
    network.run()
    times = sorted({round(at - 100.0, 3) for at, _, _ in network.sent})
    assert times == [0.0, 0.25, 0.75, 1.75, 3.75, 5.75, 7.75, 9.75]
    assert all(sum(at == other for other, _, _ in network.sent) <= 4 for at, _, _ in network.sent)
    assert one.failure() is Failure.NO_ANSWER and network.now >= 110


def test_a_handshake_that_stops_half_way_is_given_up_soon() -> None:
    """As when a NAT has given its initiator another port: the responder goes on answering to the old one."""
    one, two = hosts()
    network = Network(one, two)

    answers: list[bytes] = []

    def until_the_first_answer(datagram: bytes) -> list[tuple[float, bytes]]:
        if answers:
            return []
        decoded = decode_handshake(datagram)
        if isinstance(decoded, HandshakeDatagram) and decoded.from_responder:
            answers.append(datagram)
        return straight(datagram)

    network.fate = until_the_first_answer
    network.send(one, one.begin(two, network.now))
    network.run(until=100.0 + STALLED + 0.5)
    assert one.failure() is Failure.UNFINISHED


def test_places_are_tried_in_turn_until_one_answers(engines: Engines) -> None:
    """The same datagrams go another way; the rest stays with the place of the first answer."""
    one, two = hosts(engines)
    network = Network(one, two)
    turns = [Place("dead", ("198.51.100.1", 1)), Place("dead, too", ("198.51.100.2", 1)), Place("good", two.address)]
    network.send(one, one.exchanges.begin(one.terms, [HIGH.public], 0, turns, network.now))
    network.run()
    assert one.established().place == Place("good", two.address)
    assert 100.75 <= min(at for at, _, each in network.sent if each.place.socket == "good") < 101
    assert [each.place.socket for _, host, each in network.sent if host is one][-1] == "good"


def test_an_unvalidated_address_gets_no_more_than_three_times_its_octets(engines: Engines) -> None:
    """However often the responder sends again, and whatever it has to say."""
    one, two = hosts(engines)
    network = Network(two)
    first = one.begin(two, network.now)
    nobody = Place(0, ("203.0.113.7", 77))
    for each in first:
        network.send(two, two.exchanges.receive(each.datagram, nobody, network.now))
    network.run()
    octets = sum(len(each.datagram) for _, _, each in network.sent)
    assert 0 < octets <= 3 * sum(len(each.datagram) for each in first)
    assert two.failure() is Failure.UNFINISHED


def test_copies_that_come_first_change_no_place(engines: Engines) -> None:
    """Of all datagrams of both ends, from elsewhere: both have the keys, and each answers where the other one is."""
    one, two = hosts(engines)
    thief = ("203.0.113.66", 66)
    network = Network(one, two)

    def fate(datagram: bytes) -> list[tuple[float, bytes]]:
        decoded = decode_handshake(datagram)
        assert isinstance(decoded, HandshakeDatagram)
        target = one if decoded.from_responder else two
        network.send(target, target.exchanges.receive(datagram, Place(0, thief), network.now))
        return straight(datagram)

    network.fate = fate
    network.send(one, one.begin(two, network.now))
    network.run(until=101.0)
    outcomes = [each.take_outcomes() for each in (one.exchanges, two.exchanges)]
    ours, theirs = (*one.outcomes, *outcomes[0]), (*two.outcomes, *outcomes[1])
    assert [each.place.address for each in ours if isinstance(each, Established)] == [two.address]
    assert [each.place.address for each in theirs if isinstance(each, Established)] == [one.address]
    to_thief = sum(len(each.datagram) for _, _, each in network.sent if each.place.address == thief)
    assert to_thief <= 3 * sum(len(octets) for _, _, octets in network.log)


def test_a_lost_last_acknowledgement_is_given_again(engines: Engines) -> None:
    """The responder repeats its last flight; the initiator, which is done, acknowledges it and gets no second keys."""
    one, two = hosts(engines)
    network = Network(one, two)
    dropped = 0

    def fate(datagram: bytes) -> list[tuple[float, bytes]]:
        nonlocal dropped
        decoded = decode_handshake(datagram)
        assert isinstance(decoded, HandshakeDatagram)
        if two.outcomes and not decoded.from_responder and not dropped:
            dropped += 1
            return []
        return straight(datagram)

    network.fate = fate
    network.send(one, one.begin(two, network.now))
    network.run()
    assert dropped == 1
    assert_same_keys(one.established(), two.established())


fates = st.lists(
    st.sampled_from(["pass", "drop", "twice", "late", "mutate", "cut", "foreign"]), min_size=1, max_size=30
)


def worst(kinds: list[str], seed: int) -> Callable[[bytes], list[tuple[float, bytes]]]:
    """Return a fate that goes through `kinds` in any order, then carries everything."""
    chance = random.Random(seed)
    left = chance.sample(kinds, len(kinds))
    seen: list[bytes] = []

    def fate(datagram: bytes) -> list[tuple[float, bytes]]:
        seen.append(datagram)
        kind = left.pop(0) if left else "pass"
        changed = bytearray(datagram)
        if kind == "mutate":
            for _ in range(chance.randint(1, 3)):
                changed[chance.randrange(1, len(changed))] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            changed = changed[: chance.randrange(len(changed))]
        elif kind == "foreign":
            changed = bytearray(chance.choice(seen))
        copies = {"drop": 0, "twice": 3}.get(kind, 1)
        return [(0.01 + (chance.random() if kind in ("late", "twice") else 0), bytes(changed)) for _ in range(copies)]

    return fate


@given(fates, fates, st.integers(0, 1 << 32), st.booleans())
def test_a_hostile_network_completes_nothing_wrongly(
    first: list[str], second: list[str], seed: int, both: bool
) -> None:
    """Nothing raises; who gets keys has the keys of its peer, or its peer has none of that session; all ends."""
    run_hostile(hosts(), [*first, *second], seed, both)


@pytest.mark.parametrize("seed", range(60))
def test_a_hostile_network_does_not_deceive_tls(seed: int) -> None:
    """The same with OpenSSL."""
    chance = random.Random(seed)
    kinds = chance.choices(["pass", "drop", "twice", "late", "mutate", "cut", "foreign"], [8, 1, 1, 1, 1, 1, 1], k=20)
    run_hostile(hosts(Keys.real), kinds, seed, seed % 2 == 0)


def run_hostile(pair: tuple[Host, Host], kinds: list[str], seed: int, both: bool) -> None:
    one, two = pair
    network = Network(one, two, fate=worst(kinds, seed))
    network.send(one, one.begin(two, network.now))
    if both:
        network.send(two, two.begin(one, network.now))
    network.run(until=network.now + 3 * GIVE_UP)
    assert len(one.exchanges) == len(two.exchanges) == 0
    theirs = {each.keys.index: each for each in two.outcomes if isinstance(each, Established)}
    for ours in one.outcomes:
        if isinstance(ours, Established) and ours.is_initiator:
            peer = theirs[ours.keys.peer_index]  # the responder had them first
            if peer.keys.peer_index == ours.keys.index:
                assert_same_keys(ours, peer)


@given(st.binary(max_size=1300), st.integers(0, 255))
def test_octets_of_strangers_do_nothing(octets: bytes, first: int) -> None:
    """Whatever a datagram is, it raises nothing and answers at most three times its length."""
    _, two = hosts()
    for datagram in (octets, bytes((0x41, 1, first & 1, 0)) + octets, bytes((first,)) + octets):
        sent = two.exchanges.receive(datagram, Place(0, ("203.0.113.1", 9)), 100.0)
        assert sum(len(each.datagram) for each in sent) <= 3 * len(datagram)
    assert len(two.exchanges) <= 3


def test_a_handshake_costs_little() -> None:
    """At most 5 ms of CPU for both ends together (median of 15)."""
    one, two = hosts(Keys.real)
    costs = []
    for _ in range(15):
        network = Network(one, two)
        began = time.process_time()
        network.send(one, one.begin(two, network.now))
        network.run(until=101.0)
        costs.append(time.process_time() - began)
        assert isinstance(one.outcomes.pop(), Established) and isinstance(two.outcomes.pop(), Established)
    print(f"{sorted(costs)[7] * 1000:.2f} ms")
    assert sorted(costs)[7] <= 0.005
