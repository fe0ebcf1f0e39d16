"""The addresses of a path's peer, asked for by name."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from twisted.names import dns

from mpt.control.names import FIRST_REST, RETRY
from mpt.daemon.machine import Machine
from mpt.daemon.names import OTHER_FAMILY, ROUNDS, PeerAddresses
from mpt.model import Address
from mpt.testing.netlink import FakeNetlink
from mpt.testing.reactor import FakeReactor
from mpt.testing.system import FakeSocket, FakeSystem

SERVER, OTHER, HERE = (ip_address(each) for each in ("192.0.2.53", "2001:db8::53", "127.0.0.53"))
LISTED, FOUR, SIX, NEWER = (ip_address(each) for each in ("192.0.2.1", "192.0.2.2", "2001:db8::2", "192.0.2.3"))
NAME = "vps.example"


class Asking:
    """The addresses of one path's peer, on fakes; `changes` counts what was told."""

    def __init__(self, *servers: Address, listed: tuple[Address, ...] = (LISTED,), names: tuple[str, ...] = (NAME,)):
        self.netlink = FakeNetlink()
        self.netlink.add_interface("eth1", "10.1.1.2/24")
        self.system = FakeSystem(self.netlink)
        self.reactor = FakeReactor()
        self.servers = servers
        self.changes = 0
        machine = Machine(
            self.reactor, self.reactor.seconds, self.system, self.netlink, name_servers=lambda: self.servers
        )
        self.peer = PeerAddresses(machine, "path_0 of c", listed, names, "eth1", self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def pass_time(self, seconds: float) -> None:
        self.reactor.pass_time(seconds)

    def questions(self) -> list[tuple[FakeSocket, dns.Message, Any]]:
        """What was asked since the last call: from which socket, what, and whom."""
        found = []
        for each in list(self.system.sockets):
            for octets, server, _ in each.take_sent():
                message = dns.Message()
                message.fromStr(octets)
                found.append((each, message, server))
        return found

    def answer(
        self,
        *addresses: Address,
        version: int = 4,
        code: int = dns.OK,
        change: Callable[[dns.Message], None] = lambda message: None,
        source: tuple[str, int] | None = None,
    ) -> None:
        """Answer the questions of one IP version that were asked since the last call."""
        kind = dns.A if version == 4 else dns.AAAA
        for socket, query, server in self.questions():
            (question,) = query.queries
            if question.type != kind:
                socket.sent.append((query.toStr(), server))  # for the next call
                socket.ancillary.append([])
                continue
            reply = dns.Message(query.id, answer=1, rCode=code)
            reply.queries = query.queries
            record = dns.Record_A if version == 4 else dns.Record_AAAA
            reply.answers = [dns.RRHeader(b"x", kind, payload=record(str(each))) for each in addresses]
            change(reply)
            socket.deliver(reply.toStr(), source or server)
        self.reactor.read_all()


@pytest.fixture
def asking() -> Iterator[Callable[..., Asking]]:
    made: list[Asking] = []

    def make(*servers: Address, **options: Any) -> Asking:
        made.append(Asking(*servers, **options))
        made[-1].pass_time(0.01)
        return made[-1]

    yield make
    for each in made:
        each.peer.stop()
        assert each.system.sockets == []
        assert each.reactor.getDelayedCalls() == []


def test_a_name_is_asked_for_over_the_line_of_its_path(asking: Callable[..., Asking]) -> None:
    """Both IP versions, from ports that nobody can guess; the answer is added to the listed addresses, IPv6 first."""
    stage = asking(SERVER)
    questions = stage.questions()
    assert {query.queries[0].type for _, query, _ in questions} == {dns.A, dns.AAAA}
    assert {str(query.queries[0].name) for _, query, _ in questions} == {NAME}
    assert {(each.interface, each.bound[1], server) for each, _, server in questions} == {
        ("eth1", questions[0][0].bound[1], (str(SERVER), 53))
    }
    stage.pass_time(ROUNDS[0])
    stage.answer(FOUR)
    stage.answer(SIX, version=6)
    assert stage.peer.addresses == (SIX, LISTED, FOUR) and stage.changes == 1
    assert stage.system.sockets == []


def test_the_other_family_is_not_waited_for_long(asking: Callable[..., Asking]) -> None:
    """A server that drops questions for IPv6 costs a moment."""
    stage = asking(SERVER)
    stage.answer(FOUR)
    assert stage.changes == 0
    stage.pass_time(OTHER_FAMILY + 0.05)
    assert stage.peer.addresses == (LISTED, FOUR) and stage.changes == 1


def test_every_server_is_asked_each_in_its_way(asking: Callable[..., Asking]) -> None:
    """One on this host cannot be asked over a line. In the last round the routing table chooses for all."""
    stage = asking(SERVER, OTHER, HERE)
    assert {(each.interface, server[0]) for each, _, server in stage.questions()} == {
        ("eth1", str(SERVER)),
        ("eth1", str(OTHER)),
        (None, str(HERE)),
    }
    stage.pass_time(ROUNDS[0] + 0.05)
    assert len(stage.questions()) == 6
    stage.pass_time(ROUNDS[1] + 0.05)
    assert {each.interface for each, _, _ in stage.questions()} == {None}


def wrong_id(message: dns.Message) -> None:
    message.id ^= 1


def no_answer(message: dns.Message) -> None:
    message.answer = 0


def other_question(message: dns.Message) -> None:
    message.queries = [dns.Query(b"other.example", dns.A)]


@pytest.mark.parametrize(
    "options",
    [
        {"change": wrong_id},
        {"change": no_answer},
        {"change": other_question},
        {"source": ("192.0.2.99", 53)},
        {"source": (str(SERVER), 54)},
        {"code": dns.ESERVER},
        {"code": dns.EREFUSED},
    ],
    ids=["wrong id", "no answer", "other question", "other server", "other port", "broken", "refused"],
)
def test_what_is_no_answer_of_a_server_is_ignored(asking: Callable[..., Asking], options: dict[str, Any]) -> None:
    """The next round may bring one."""
    stage = asking(SERVER)
    stage.answer(NEWER, **options)
    stage.pass_time(ROUNDS[0])
    stage.answer(FOUR)
    stage.pass_time(OTHER_FAMILY + 0.05)
    assert stage.peer.addresses == (LISTED, FOUR)


@pytest.mark.parametrize("octets", [b"", b"\0" * 12, b"\xff" * 600, bytes(range(64))])
def test_any_octets_are_taken(asking: Callable[..., Asking], octets: bytes) -> None:
    """Nothing is raised, nothing is logged."""
    stage = asking(SERVER)
    stage.system.sockets[0].deliver(octets, (str(SERVER), 53))
    stage.reactor.read_all()
    assert stage.peer.addresses == (LISTED,) and len(stage.system.sockets) == 1


def test_a_name_without_an_answer_is_told_once_and_asked_for_again(
    asking: Callable[..., Asking], logged: list[str]
) -> None:
    """In a bounded time, with pauses; the path goes on with its listed addresses."""
    stage = asking(SERVER)
    asked: set[int] = set()
    for _ in range(60):
        stage.pass_time(0.5)
        asked |= {query.id for _, query, _ in stage.questions()}
    assert sum("no name server answers" in text for text in logged) == 1
    assert 3 * 2 <= len(asked) <= 5 * 2


@pytest.mark.parametrize("code", [dns.OK, dns.ENAME])
def test_a_name_that_has_no_address_is_told(asking: Callable[..., Asking], logged: list[str], code: int) -> None:
    """At once, when both IP versions were answered."""
    stage = asking(SERVER)
    stage.answer(code=code)
    stage.answer(version=6, code=code)
    assert any("cannot find vps.example, the peer of path_0 of c: it has no address" in text for text in logged)
    assert stage.system.sockets == []


def test_a_host_without_name_servers_says_so(asking: Callable[..., Asking], logged: list[str]) -> None:
    """The file is read again at the next try."""
    stage = asking()
    assert any("this host has no name server" in text for text in logged)
    stage.servers = (SERVER,)
    stage.pass_time(RETRY + 0.1)
    assert stage.questions()


def test_a_refused_socket_is_told(logged: list[str]) -> None:
    """It is an interface that is gone, or a right that is missing."""
    stage = Asking(SERVER)
    stage.system.fail("bind", *[errno.EACCES] * 100)
    stage.pass_time(sum(ROUNDS) + 0.1)
    assert any("cannot find vps.example" in text and "no privilege" in text for text in logged)
    stage.peer.stop()


def test_a_silent_path_asks_again_and_follows_the_new_address(asking: Callable[..., Asking]) -> None:
    """The peer has another address now. While the path works nothing is asked."""
    stage = asking(SERVER)
    stage.answer(FOUR)
    stage.answer(version=6)
    stage.peer.works()
    stage.pass_time(20 * FIRST_REST)
    assert stage.questions() == [] and stage.system.sockets == []
    stage.peer.silent()
    stage.pass_time(0.05)
    stage.answer(NEWER)
    stage.answer(version=6)
    assert stage.peer.addresses == (LISTED, NEWER) and stage.changes == 2
    stage.pass_time(FIRST_REST * 2 + 0.1)
    stage.answer(NEWER)
    stage.answer(version=6)
    assert stage.changes == 2


def test_the_same_addresses_in_another_order_are_no_change(asking: Callable[..., Asking]) -> None:
    """Name servers turn their answers round."""
    stage = asking(SERVER)
    stage.answer(FOUR, NEWER)
    stage.answer(version=6)
    stage.peer.silent()
    stage.pass_time(FIRST_REST + 0.1)
    stage.answer(NEWER, FOUR)
    stage.answer(version=6)
    assert stage.peer.addresses == (LISTED, FOUR, NEWER) and stage.changes == 1


def test_an_end_in_the_midst_of_a_question_leaves_nothing(asking: Callable[..., Asking]) -> None:
    """The fixture looks: no socket, no timer."""
    stage = asking(SERVER, names=(NAME, "other.example"))
    assert len(stage.system.sockets) == 2
