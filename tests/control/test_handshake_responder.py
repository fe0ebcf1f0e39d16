"""The answering side of the handshake."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from itertools import product

import pytest

from mpt.control import responder
from mpt.control.admission import STRANGER as STRANGERS
from mpt.control.auth import DEFAULT_KEY, verify
from mpt.control.initiator import Endpoint, path_status_request
from mpt.control.responder import Input, Output, PathStatusChange, State, concerned_path
from mpt.model import Address, AuthType, ConnectionConfig, Permission, unspecified
from mpt.wire import command
from mpt.wire.command import NO_RANDOM, Result
from tests.control.peers import (
    A_END,
    B_END,
    KEY,
    TEXT,
    A,
    B,
    NotingHost,
    Side,
    begin,
    connection,
    create_3,
    octets,
    reply_to,
    round_1,
    round_3,
)

STRANGER = (ip_address("192.0.2.77"), 60456)


def host(auth_type: AuthType = AuthType.NONE, **change: object) -> Side:
    """Host B, with its connection to host A."""
    return Side(NotingHost([replace(connection(3, 2, auth_type), **change)]))  # type: ignore[arg-type]


def empty_host() -> Side:
    """Host B, before anybody has created a connection."""
    return Side(NotingHost())


def create_1() -> bytes:
    return octets(round_1(AuthType.SHA256, 0, command.CREATE))


def test_the_table_has_every_state_and_input() -> None:
    """Every pair has a row, and no request is executed without an offer."""
    assert responder.TABLE.keys() == set(product(State, Input))
    executing = {pair for pair, (_after, output) in responder.TABLE.items() if output is Output.EXECUTE}
    assert executing == {(State.OFFERED, Input.ROUND_3), (State.ANSWERED_AND_OFFERED, Input.ROUND_3)}


@pytest.mark.parametrize(("state", "event"), list(product(State, Input)))
def test_every_state_takes_every_input_as_the_table_says(state: State, event: Input) -> None:
    """A responder brought into each state by datagrams, given each input, does what stands in the table."""
    kind = AuthType.RANDOM
    target = host(kind)
    first, other_first = octets(round_1(kind)), octets(round_1(kind, 0x00))
    answered, offered = b"", b""
    if state in (State.ANSWERED, State.ANSWERED_AND_OFFERED):
        answered = octets(round_3(kind, target.answer(other_first).random, 0x00))
        target.ask(answered)
        target.now += 1
    if state in (State.OFFERED, State.ANSWERED_AND_OFFERED):
        offered = octets(round_3(kind, target.answer(first).random))
    _after, output = responder.TABLE[state, event]
    executed = len(target.host.changes)
    match event:
        case Input.ROUND_1:
            reply = target.answer(octets(round_1(kind, 0x01)))
        case Input.ROUND_1_AGAIN:
            reply = target.answer(first)
        case Input.ROUND_3:
            reply = target.answer(offered or octets(round_3(kind, b"\x63\0\0\0")))
        case Input.ROUND_3_AGAIN:
            reply = target.answer(answered or octets(round_3(kind, b"\x63\0\0\0")))
        case Input.ROUND_3_STRAY:
            reply = target.answer(octets(round_3(kind, b"\x63\0\0\0")))
        case _:
            target.now += 9.5 if event is Input.ANSWER_EXPIRED else 10.5
            reply = target.answer(offered or octets(round_3(kind, b"\x63\0\0\0")))
            fits = state in (State.OFFERED, State.ANSWERED_AND_OFFERED) and event is Input.ANSWER_EXPIRED
            assert reply.value == (Result.DONE if fits else Result.ROUND_MISMATCH)
            return
    assert len(target.host.changes) - executed == (output is Output.EXECUTE)
    assert (reply.value == Result.ROUND_MISMATCH) is (output is Output.REFUSE)
    assert reply.round == (2 if output in (Output.OFFER, Output.OFFER_AGAIN) else 4)


@pytest.mark.parametrize("auth_type", AuthType)
def test_four_rounds_change_a_path(auth_type: AuthType) -> None:
    """Round 2 is round 1 with a random number, round 4 only a header; the change arrives seen from this side."""
    target = host(auth_type)
    offer = target.answer(octets(round_1(auth_type)))
    random = NO_RANDOM if auth_type is AuthType.NONE else b"\1\0\0\0"
    expected = replace(round_1(auth_type), round=2, value=0, random=random)
    assert replace(offer, digest=command.NO_DIGEST) == expected
    (answer,) = target.ask(octets(round_3(auth_type, offer.random)))
    assert len(answer) == 40 + command.AUTH_LENGTH[auth_type]
    assert (answer[0], answer[1], command.decode(answer).round) == (command.PATH_STATUS, 0, 4)
    assert auth_type is not AuthType.SHA256 or verify(answer, KEY)
    (change,) = target.host.changes
    assert (change.own, change.peer, change.up) == (ip_address("10.1.1.3"), ip_address("10.1.1.2"), False)
    assert concerned_path(change, {}) == 0


@pytest.mark.parametrize("auth_type", AuthType)
def test_a_repeated_round_3_gets_the_same_answer_and_is_not_executed_again(auth_type: AuthType) -> None:
    """A request comes again when its answer was lost, or the network doubled it."""
    target = host(auth_type)
    third = octets(round_3(auth_type, target.answer(octets(round_1(auth_type))).random))
    assert target.ask(third) == target.ask(third) == target.ask(third)
    assert len(target.host.changes) == 1


@pytest.mark.parametrize("auth_type", [AuthType.RANDOM, AuthType.SHA256])
def test_a_replayed_round_3_is_refused(auth_type: AuthType) -> None:
    """Later, after a fresh round 1, and from elsewhere: its random number is not the one that was offered."""
    target = host(auth_type)
    first = octets(round_1(auth_type))
    third = octets(round_3(auth_type, target.answer(first).random))
    target.ask(third)
    target.now += 11
    assert target.answer(third).value == Result.ROUND_MISMATCH
    target.ask(first)
    assert target.answer(third).value == Result.ROUND_MISMATCH
    elsewhere = (A_END[0], 999)
    target.ask(first, elsewhere)
    assert target.answer(third, elsewhere).value == Result.ROUND_MISMATCH
    assert len(target.host.changes) == 1 and target.counters["request_round_mismatch"] == 3


def test_an_equal_report_after_a_new_round_1_is_a_new_one() -> None:
    """Without random numbers too: a path is down, was revived by a keepalive, and is down again."""
    target = host()
    for _ in range(2):
        target.ask(octets(round_1()))
        target.ask(octets(round_3(AuthType.NONE, NO_RANDOM)))
    assert len(target.host.changes) == 2


def test_round_3_must_say_what_round_1_said() -> None:
    """A late "down" does not use the offer for an "up"."""
    target = host()
    target.ask(octets(round_1(value=0x00)))
    assert target.answer(octets(round_3(AuthType.NONE, NO_RANDOM, 0x80))).value == Result.ROUND_MISMATCH
    assert target.answer(octets(round_3(AuthType.NONE, NO_RANDOM, 0x00))).value == Result.DONE
    assert [change.up for change in target.host.changes] == [True]


def test_crossing_handshakes_are_both_answered() -> None:
    """Being asked does not disturb asking."""
    target = Side(NotingHost([connection()]))
    asked = begin(target, path_status_request(connection(), ip_address("10.1.1.2"), ip_address("10.1.1.3"), False))
    theirs = replace(round_1(), sender=B, receiver=A)
    assert target.answer(octets(theirs), B_END).round == 2
    asked.reply(octets(reply_to(asked.last)))
    payload = command.encode_path(ip_address("10.2.2.3"), ip_address("10.2.2.2"))
    assert target.answer(octets(replace(theirs, round=3, payload=payload)), B_END).value == Result.DONE
    asked.reply(octets(reply_to(asked.last)))
    assert asked.outcomes[0].ok and len(target.host.changes) == 1


# ---- who may --------------------------------------------------------------------------------------------------------


def refused(target: Side, datagram: bytes, reason: str, source: Endpoint = A_END) -> int:
    """Return the result of a request that changes nothing and is counted; the reply is no longer than the request."""
    (reply,) = target.ask(datagram, source)
    assert len(reply) <= len(datagram)
    assert target.counters[reason] == 1 and not target.host.changes and not target.host.creates
    assert len(target.handshakes._responder) == 0
    return command.decode(reply).value


@pytest.mark.parametrize("permission", [Permission.NONE, Permission.SEND])
def test_without_permission_to_receive_nothing_changes(permission: Permission) -> None:
    """A report is refused without RECEIVE (guide table 2)."""
    assert refused(host(permission=permission), octets(round_1()), "request_permission") == Result.NOT_PERMITTED


def test_an_unknown_connection_is_refused() -> None:
    """A report on an unknown connection is refused: there is nothing to change."""
    assert refused(empty_host(), octets(round_1()), "request_no_connection") == Result.NO_CONNECTION


@pytest.mark.parametrize(("theirs", "ours"), [pair for pair in product(AuthType, repeat=2) if pair[0] is not pair[1]])
def test_the_authentication_type_of_the_connection_is_demanded(theirs: AuthType, ours: AuthType) -> None:
    """A request of any other type is refused, weaker or stronger."""
    assert refused(host(ours), octets(round_1(theirs)), "request_auth_type") == Result.AUTH_FAILED


def test_a_wrong_key_is_refused() -> None:
    """A wrong key is refused in round 1 and in round 3."""
    target = host(AuthType.SHA256)
    assert refused(target, octets(round_1(AuthType.SHA256), "wrong"), "request_digest") == Result.AUTH_FAILED
    offer = target.answer(octets(round_1(AuthType.SHA256)))
    assert target.answer(octets(round_3(AuthType.SHA256, offer.random), "wrong")).value == Result.AUTH_FAILED
    assert not target.host.changes


@pytest.mark.parametrize("auth_type", [AuthType.NONE, AuthType.RANDOM])
def test_without_a_key_only_the_addresses_of_the_paths_count(auth_type: AuthType) -> None:
    """A stranger is refused; a peer whose address is not known yet may come from anywhere."""
    assert refused(host(auth_type), octets(round_1(auth_type)), "request_source", STRANGER) == Result.AUTH_FAILED
    paths = tuple(replace(path, remote_ipaddr=unspecified(4)) for path in connection(3, 2).paths)
    assert host(auth_type, paths=paths).answer(octets(round_1(auth_type)), STRANGER).value == Result.DONE


def test_whoever_has_the_key_may_come_from_anywhere() -> None:
    """The digest proves the sender."""
    assert host(AuthType.SHA256).answer(octets(round_1(AuthType.SHA256)), STRANGER).value == Result.DONE


def test_a_short_path_is_refused() -> None:
    """A short path is answered and counted, and changes nothing."""
    target = host()
    target.ask(octets(round_1()))
    spoilt = replace(round_3(AuthType.NONE, NO_RANDOM), payload=b"1234")
    assert target.answer(octets(spoilt)).value == Result.NO_CONNECTION
    assert not target.host.changes and target.counters["path_status_short"] == 1


# ---- create ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("random", ["offered", "zero"])
def test_a_create_takes_the_offered_random_number_or_that_of_the_c_program(random: str) -> None:
    """The C program's number is 0; the created text goes back in round 4, signed."""
    target = empty_host()
    offer = target.answer(create_1())
    third = octets(create_3(offer.random if random == "offered" else NO_RANDOM))
    (answer,) = target.ask(third)
    assert command.decode(answer).payload == TEXT.encode() and verify(answer, KEY)
    (request,) = target.host.creates
    assert (request.text, request.peer, request.source, request.reply_limit) == (TEXT, A, A_END, len(TEXT))
    assert target.ask(third) == [answer] and len(target.host.creates) == 1


def test_a_create_needs_a_round_1() -> None:
    """The C server executes a create without one."""
    target = empty_host()
    assert target.answer(octets(create_3(NO_RANDOM))).value == Result.ROUND_MISMATCH
    target.ask(create_1())
    assert target.answer(octets(create_3(b"\x63\0\0\0"))).value == Result.ROUND_MISMATCH
    assert not target.host.creates


def test_a_late_round_1_does_not_spoil_the_answer_to_a_create() -> None:
    """Round 1 arrives once more, then round 3 once more: the answer is still that of the first time."""
    target = empty_host()
    target.ask(create_1())
    third = octets(create_3(NO_RANDOM))
    answer = target.ask(third)
    target.host.connections.append(connection(3, 2))
    target.ask(create_1())
    assert target.ask(third) == answer and len(target.host.creates) == 1


def test_a_replayed_create_meets_the_connection() -> None:
    """After a new round 1, or when the answer is forgotten, the reply is code 5 and one octet."""
    target = empty_host()
    target.ask(create_1())
    third = octets(create_3(NO_RANDOM))
    target.ask(third)
    target.host.connections.append(connection(3, 2))
    target.now += 11
    target.ask(create_1())
    answer = target.answer(third)
    assert (answer.value, answer.payload) == (Result.ALREADY_EXISTS, b"\x01") and len(target.host.creates) == 1


def test_a_deleted_connection_can_be_created_again_at_once() -> None:
    """The answer about the old connection is forgotten with it."""
    target = empty_host()
    for _ in range(2):
        target.ask(create_1())
        assert target.answer(octets(create_3(NO_RANDOM))).value == Result.DONE
        target.handshakes.forget(B, A)
    assert len(target.host.creates) == 2


def test_a_create_that_fails_says_why_and_has_no_text() -> None:
    """The code of the host goes to the peer."""
    target = empty_host()
    for code, payload in ((Result.NO_PATH, b""), (Result.ALREADY_EXISTS, b"\x01")):
        target.host.create_answer = (code, "")
        target.now += 11
        target.ask(create_1())
        answer = target.answer(octets(create_3(NO_RANDOM)))
        assert (answer.value, answer.payload) == (code, payload)


@pytest.mark.parametrize("text", [";;;;", "[connection]", ";" * 40_000, "\0"])
def test_a_text_that_is_none_is_refused(text: str) -> None:
    """A text that is too short, too long or without the comment is refused."""
    target = empty_host()
    target.ask(create_1())
    assert target.answer(octets(create_3(NO_RANDOM, text))).value == Result.NO_CONNECTION
    assert not target.host.creates


def test_who_may_create() -> None:
    """accept_remote, a template, SHA-256, its key; and the published key only if that is allowed."""
    target = empty_host()
    target.host.accept_remote = False
    assert refused(target, create_1(), "request_accept_remote") == Result.NOT_PERMITTED
    target = empty_host()
    target.host.template_key = None
    assert refused(target, create_1(), "request_no_template") == Result.NOT_PERMITTED
    for auth_type in (AuthType.NONE, AuthType.RANDOM):
        create = octets(round_1(auth_type, 0, command.CREATE))
        assert refused(empty_host(), create, "request_auth_type") == Result.AUTH_FAILED
    wrong = octets(round_1(AuthType.SHA256, 0, command.CREATE), "wrong")
    assert refused(empty_host(), wrong, "request_digest") == Result.AUTH_FAILED
    for key in ("", DEFAULT_KEY):
        default = octets(round_1(AuthType.SHA256, 0, command.CREATE), DEFAULT_KEY)
        target = empty_host()
        target.host.template_key = key
        assert refused(target, default, "request_default_key") == Result.AUTH_FAILED
        target.host.allow_default_key = True
        assert target.answer(default).value == Result.DONE


def test_a_c_peer_may_go_on_with_the_published_key_if_that_is_allowed() -> None:
    """After a create a C peer knows no other key; the reply is signed with the key of the request."""
    target = host(AuthType.SHA256)
    first = octets(round_1(AuthType.SHA256), DEFAULT_KEY)
    assert target.answer(first).value == Result.AUTH_FAILED
    target.host.allow_default_key = True
    (reply,) = target.ask(first)
    assert verify(reply, DEFAULT_KEY)


# ---- memory ---------------------------------------------------------------------------------------------------------


def test_ten_thousand_half_open_handshakes_stay_bounded() -> None:
    """From as many ports and addresses; a legitimate one in the midst of them is answered, and all are forgotten."""
    target = host(AuthType.SHA256)
    size = target.handshakes._responder.__len__
    first = octets(round_1(AuthType.SHA256))
    for number in range(10_000):
        source = (IPv4Address(0x0A010000 + number % 50), 1024 + number // 50)
        assert target.ask(first, source)
        assert size() <= responder.MAX_INITIATORS
        target.now += 0.0001
    assert size() == responder.MAX_INITIATORS
    offer = target.answer(first)
    assert target.answer(octets(round_3(AuthType.SHA256, offer.random))).value == Result.DONE
    target.now += 11
    target.ask(first)
    assert size() == 1


def test_one_address_cannot_crowd_out_the_others() -> None:
    """Ten thousand ports of one address take the places of that address only."""
    target = host(AuthType.SHA256)
    first = octets(round_1(AuthType.SHA256))
    offer = target.answer(first)
    for port in range(10_000):
        target.ask(first, (STRANGER[0], port + 1))
    assert len(target.handshakes._responder) == responder.MAX_PER_ADDRESS + 1
    assert target.answer(octets(round_3(AuthType.SHA256, offer.random))).value == Result.DONE


# ---- which path -----------------------------------------------------------------------------------------------------


def test_a_path_is_named_by_both_its_addresses() -> None:
    """A path is named by the peer's address and ours; turned round they name nothing."""
    config = connection(3, 2)
    own, peer = ip_address("10.2.2.3"), ip_address("10.2.2.2")
    assert concerned_path(PathStatusChange(config, own, peer, True), {}) == 1
    assert concerned_path(PathStatusChange(config, peer, own, True), {}) is None


UNSPECIFIED = unspecified(4)
ROUTER, OTHER_ROUTER = ip_address("198.51.100.1"), ip_address("203.0.113.1")


def to_one_peer(*public: Address) -> ConnectionConfig:
    """Return a home with a line for each of its public addresses, all of them to one address of the peer."""
    config = connection(3, 2)
    peer = ip_address("192.0.2.10")
    return replace(
        config, paths=tuple(replace(config.paths[0], public_ipaddr=own, remote_ipaddr=peer) for own in public)
    )


@pytest.mark.parametrize(
    ("public", "found", "own", "meant"),
    [
        ((UNSPECIFIED,), {}, ROUTER, 0),
        ((UNSPECIFIED,), {0: OTHER_ROUTER}, ROUTER, 0),  # its address has changed
        ((OTHER_ROUTER, UNSPECIFIED), {}, ROUTER, 1),
        ((UNSPECIFIED, UNSPECIFIED), {}, ROUTER, None),  # either of them
        ((UNSPECIFIED, UNSPECIFIED), {1: ROUTER}, ROUTER, 1),
        ((UNSPECIFIED, UNSPECIFIED), {0: OTHER_ROUTER}, ROUTER, None),  # or has the address of the first changed?
        ((UNSPECIFIED, UNSPECIFIED), {0: ROUTER, 1: ROUTER}, ROUTER, None),  # both behind one router
        ((ROUTER, UNSPECIFIED), {1: ROUTER}, ROUTER, None),
        ((ROUTER, ROUTER), {}, ROUTER, None),
        ((OTHER_ROUTER,), {}, ROUTER, None),
    ],
)
def test_an_ambiguous_name_means_no_path(
    public: tuple[Address, ...], found: dict[int, Address], own: Address, meant: int | None
) -> None:
    """NAT can hide our address from us. A report that could mean either of two lines must not take both down."""
    change = PathStatusChange(to_one_peer(*public), own, ip_address("192.0.2.10"), False)
    assert concerned_path(change, found) == meant


# ---- how much work --------------------------------------------------------------------------------------------------


class Expensive(NotingHost):
    """A host whose template costs something to look at; `looks` counts how often that was done."""

    looks = 0

    def is_peer(self, address: Address) -> bool:
        return address == A_END[0]

    def create_key(self) -> str | None:
        self.looks += 1
        return super().create_key()


def test_a_flood_of_creates_costs_no_more_than_its_allowance() -> None:
    """5,000 a second for two seconds, nobody has signed them; a stranger's true create is heard all the while."""
    costly = Expensive()
    target = Side(costly)
    forged = octets(round_1(AuthType.SHA256, 0, command.CREATE), key="guessed")
    answered = 0
    for number in range(10_000):
        target.now += 1 / 5000
        answered += len(target.ask(forged, STRANGER))
        if number % 2000 == 1000:
            offer = target.answer(octets(round_1(AuthType.SHA256, 0, command.CREATE)), B_END)
            assert offer.value == Result.DONE
    assert answered <= STRANGERS.burst + 2 * STRANGERS.rate
    assert costly.looks == answered + 5
    assert target.counters == {"request_digest": answered, "too_many": 10_000 - answered}
