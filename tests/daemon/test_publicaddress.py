"""Public addresses that the configuration leaves open."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from twisted.names import dns

from mpt.daemon.publicaddress import LATER, TIMEOUTS
from mpt.model import ConnectionConfig, unspecified
from mpt.testing.system import FakeSocket
from tests.daemon.stage import GENERAL, Run, Stage, connection, path

RESOLVER = "192.0.2.53"
ASKING = replace(GENERAL, public_address_resolver=ip_address(RESOLVER))
ROUTER_1, ROUTER_2 = ip_address("198.51.100.1"), ip_address("203.0.113.2")


def open_path(number: int, **changes: Any) -> Any:
    """Return a path whose public address nobody has written down."""
    return path(number, public_ipaddr=unspecified(4), private_ipaddr=unspecified(4), **changes)


OPEN = connection(open_path(1), open_path(2))


def asking(stage: Stage, number: int) -> FakeSocket:
    """Return the socket that asks the resolver over eth<number>: it is not at the data port."""
    (found,) = [each for each in stage.data_sockets if each.interface == f"eth{number}" and each.bound[1] != 23456]
    return found


def is_asking(stage: Stage) -> int:
    """Return how many sockets ask."""
    return sum(each.bound[1] != 23456 for each in stage.data_sockets)


def answer(stage: Stage, number: int, *addresses: str, source: str = RESOLVER, id: int | None = None) -> None:
    """Let the resolver answer over line `number`."""
    socket = asking(stage, number)
    query = dns.Message()
    query.fromStr(socket.sent[-1][0])
    reply = dns.Message(query.id if id is None else id, answer=1)
    reply.answers = [dns.RRHeader(b"x", dns.A, payload=dns.Record_A(address)) for address in addresses]
    socket.deliver(reply.toStr(), (source, 53))
    stage.reactor.read_all()


def addresses(stage: Stage) -> dict[int, Any]:
    """Return the addresses found out for the paths of the only connection."""
    (running,) = stage.root.runs.connections()
    return running.found_addresses()


def test_nobody_is_asked_unless_a_resolver_is_configured(run: Run, logged: list[str]) -> None:
    """The data path works all the same; the log says what to do."""
    stage = run(OPEN)
    assert is_asking(stage) == 0
    assert stage.statuses() == ["OK", "OK"]
    assert sum("public_address_resolver" in text for text in logged) == 2


def test_each_path_asks_over_its_own_line_and_has_its_own_answer(run: Run) -> None:
    """The configured name at the configured server; the answer for one line says nothing of the other."""
    stage = run(OPEN, general=ASKING)
    (running,) = stage.root.runs.connections()
    for number in (1, 2):
        socket = asking(stage, number)
        query = dns.Message()
        query.fromStr(socket.sent[0][0])
        assert socket.bound[0] == f"10.{number}.{number}.2" and socket.sent[0][1] == (RESOLVER, 53)
        assert str(query.queries[0].name) == "myip.opendns.com"
    answer(stage, 1, str(ROUTER_1))
    assert addresses(stage) == {0: ROUTER_1}
    assert [str(running.public_address(each)) for each in running.paths] == [str(ROUTER_1), "10.2.2.2"]
    answer(stage, 2, str(ROUTER_2))
    assert addresses(stage) == {0: ROUTER_1, 1: ROUTER_2}
    assert is_asking(stage) == 0


def test_a_connection_that_comes_later_asks_too(run: Run) -> None:
    """A connection from reload or create asks, too; a deleted one takes its addresses and its question along."""
    stage = run(connection(), general=ASKING)
    assert is_asking(stage) == 0
    later: ConnectionConfig = replace(
        OPEN, name="later", ip_remote=ip_address("10.0.0.4"), local_port=23457, paths=(open_path(1),)
    )
    added = stage.root.runs.add(later)
    (socket,) = [each for each in stage.data_sockets if each.bound[1] not in (23456, 23457)]
    query = dns.Message()
    query.fromStr(socket.sent[0][0])
    reply = dns.Message(query.id, answer=1)
    reply.answers = [dns.RRHeader(b"x", dns.A, payload=dns.Record_A(str(ROUTER_1)))]
    socket.deliver(reply.toStr(), (RESOLVER, 53))
    stage.reactor.read_all()
    assert added.found_addresses() == {0: ROUTER_1}
    stage.root.runs.remove(added)
    again = stage.root.runs.add(later)
    assert again.found_addresses() == {}
    stage.root.runs.remove(again)
    assert [each for each in stage.data_sockets if each.bound[1] != 23456] == []


def test_an_address_holds_until_there_is_another_socket(run: Run) -> None:
    """That the line is gone is reported by its address. With another local address the line may have another public
    one: it is asked anew."""
    stage = run(connection(open_path(1), open_path(2)), general=ASKING)
    answer(stage, 1, str(ROUTER_1))
    stage.netlink.remove_interface("eth1")
    stage.network_changed()
    assert addresses(stage) == {0: ROUTER_1}
    stage.netlink.add_interface("eth1", "10.1.1.77/24")
    stage.network_changed()
    assert addresses(stage) == {}
    assert asking(stage, 1).bound[0] == "10.1.1.77"
    answer(stage, 1, str(ROUTER_2))
    assert addresses(stage) == {0: ROUTER_2}


def test_nobody_else_can_answer(run: Run) -> None:
    """Another server, another number, no DNS at all: the question goes on."""
    stage = run(OPEN, general=ASKING)
    answer(stage, 1, str(ROUTER_1), source="192.0.2.66")
    asked = dns.Message()
    asked.fromStr(asking(stage, 1).sent[0][0])
    answer(stage, 1, str(ROUTER_1), id=asked.id ^ 1)
    for octets in (b"", b"\0" * 11, asking(stage, 1).sent[0][0], b"\xff" * 600):
        asking(stage, 1).deliver(octets, (RESOLVER, 53))
        stage.reactor.read_all()
    assert addresses(stage) == {}
    answer(stage, 1, str(ROUTER_1))
    assert addresses(stage) == {0: ROUTER_1}


@pytest.mark.parametrize("how", ["silent", "empty"])
def test_a_resolver_that_does_not_answer_is_reported_once_and_asked_again_later(
    run: Run, logged: list[str], how: str
) -> None:
    """The line may come to life; no exception, and the paths work."""
    stage = run(connection(open_path(1)), general=ASKING)
    if how == "empty":
        answer(stage, 1)
    stage.reactor.pass_time(sum(TIMEOUTS) + 2.5 * LATER, step=0.5)
    assert len(asking(stage, 1).sent) == len(TIMEOUTS) + 3
    why = "it does not answer" if how == "silent" else "its answer has no address"
    assert [why in text for text in logged if "cannot learn the public address" in text] == [True]
    answer(stage, 1, str(ROUTER_1))
    assert addresses(stage) == {0: ROUTER_1}


def test_a_resolver_of_the_other_ip_version_cannot_be_asked(run: Run, logged: list[str]) -> None:
    """A resolver of another IP version is not asked: the path is of IPv4."""
    stage = run(OPEN, general=replace(GENERAL, public_address_resolver=ip_address("2001:db8::53")))
    assert is_asking(stage) == 0
    assert sum("it is of IPv6, the path of IPv4" in text for text in logged) == 2


def test_a_socket_that_is_refused_is_a_warning(run: Run, logged: list[str]) -> None:
    """A refused socket is logged; the path works without."""
    stage = run(connection(), general=ASKING)
    stage.system.fail("bind", None, errno.EMFILE)  # the data socket, and the one that asks
    stage.root.runs.add(
        replace(OPEN, name="later", ip_remote=ip_address("10.0.0.4"), local_port=23457, paths=(open_path(1),))
    )
    assert is_asking(stage) == 1  # the data socket of the later one
    assert sum("cannot learn the public address of path_0 of later" in text for text in logged) == 1


def test_stopping_ends_the_question(run: Run) -> None:
    """No timer and no socket is left: the fixture looks."""
    stage = run(OPEN, general=ASKING)
    stage.stop()
    assert stage.reactor.getDelayedCalls() == []
