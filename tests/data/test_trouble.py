"""When TUN and sockets refuse: everything is counted under its reason, nothing is raised, and no number is wasted.

These errors are planned, and so only for the Python data path; what real descriptors can be made to refuse is in
tests/contract/test_datapath_trouble.py, for every data path.
"""

from __future__ import annotations

from errno import (
    EAGAIN,
    EBADFD,
    ECONNREFUSED,
    EINVAL,
    EIO,
    EMSGSIZE,
    ENETDOWN,
    ENETUNREACH,
    ENOBUFS,
    EPERM,
    errorcode,
)
from typing import Any

import pytest

from mpt.data.egress import BATCH
from mpt.testing.datapath import LOCAL, REMOTE, Stage, connection_row, numbered, path_row
from mpt.wire import gre

LOCAL_TROUBLE = [EAGAIN, ENOBUFS, EMSGSIZE]
PATH_TROUBLE = [ENETUNREACH, ENETDOWN, ECONNREFUSED, EPERM, EINVAL]


def reason(error: int) -> str:
    return "send_" + errorcode[error].lower()


def staged(paths: int = 2) -> tuple[Stage, list[Any]]:
    """A connection that numbers its packets, over `paths` of equal weight."""
    stage = Stage.in_memory()
    sockets = [stage.new_socket() for _ in range(paths)]
    stage.set_table(connection_row(*(path_row(number, each) for number, each in enumerate(sockets)), window=64))
    return stage, sockets


def sequence_numbers(*sockets: Any) -> list[int]:
    return sorted(int.from_bytes(datagram[4:8], "big") for each in sockets for datagram, _ in each.sent())


# --- egress ---


@pytest.mark.parametrize("error", LOCAL_TROUBLE, ids=errorcode.get)
def test_what_another_path_would_not_mend_is_dropped(error: int) -> None:
    """A full buffer or an oversized packet costs this packet; no other path is tried and no number used up."""
    stage, (first, second) = staged()
    before = stage.counters()
    first.fail(error)
    stage.send(*numbered(4))
    assert sequence_numbers(first, second) == [0, 1, 2]
    counters = stage.counters()
    assert counters.egress_dropped == {reason(error): 1}
    assert counters.paths[0].send_errors == {reason(error): 1}
    assert counters.paths[1].send_errors == before.paths[0].send_errors == {}


@pytest.mark.parametrize("error", PATH_TROUBLE, ids=errorcode.get)
def test_a_path_that_refuses_is_passed_over(error: int) -> None:
    """When a path cannot send at all the packet goes over another, under the same number; nothing is lost."""
    stage, (first, second) = staged()
    first.fail(error, error)
    stage.send(*numbered(4))
    assert [datagram[8:] for datagram, _ in second.sent()] == numbered(4)
    assert first.sent() == []
    stage.send(*numbered(2))
    assert sequence_numbers(first, second) == [4, 5]
    counters = stage.counters()
    assert counters.egress_dropped == {}
    assert counters.paths[0].send_errors == {reason(error): 2}


@pytest.mark.parametrize("error", PATH_TROUBLE, ids=errorcode.get)
def test_when_every_path_refuses_the_packet_is_dropped(error: int) -> None:
    """Each path is tried once; the packet counts as one drop, and its number goes to the next packet."""
    stage, sockets = staged(3)
    for each in sockets:
        each.fail(error)
    stage.send(*numbered(2))
    assert sequence_numbers(*sockets) == [0]
    counters = stage.counters()
    assert counters.egress_dropped == {reason(error): 1}
    assert all(path.send_errors == {reason(error): 1} for path in counters.paths.values())


def test_a_full_path_ends_the_search() -> None:
    """A path that refuses, then one that is full: the packet is dropped for the second reason."""
    stage, (first, second) = staged()
    first.fail(ENETUNREACH)
    second.fail(ENOBUFS)
    stage.send(*numbered(1))
    assert stage.counters().egress_dropped == {reason(ENOBUFS): 1}


def test_the_paths_keep_their_turns() -> None:
    """A packet that went another way does not disturb the cycle."""
    stage, (first, second) = staged()
    stage.send(*numbered(1))
    first.fail(None, ENETDOWN)
    stage.send(*numbered(4))
    assert (len(first.sent()), len(second.sent())) == (2, 3)


@pytest.mark.parametrize("error", [EIO, EBADFD, EINVAL], ids=errorcode.get)
def test_a_tun_that_cannot_be_read(error: int) -> None:
    """An error of the TUN is counted and ends the batch."""
    stage, (first, second) = staged()
    stage.tun.fail_to_read(error)  # type: ignore[union-attr]
    stage.send(*numbered(1))
    assert sequence_numbers(first, second) == []
    stage.send(*numbered(1, 1))
    assert sequence_numbers(first, second) == [0, 1]
    assert stage.counters().egress_dropped == {"tun_" + errorcode[error].lower(): 1}


# --- ingress ---


def reply(number: int) -> bytes:
    return gre.encode(4, number) + numbered(1, number, REMOTE, LOCAL)[0]


@pytest.mark.parametrize("error", [ECONNREFUSED, ENETDOWN, ENETUNREACH, EIO], ids=errorcode.get)
def test_errors_of_a_socket_are_not_datagrams(error: int) -> None:
    """An ICMP error or a link event that a receive reports is passed over; the datagrams behind it are read."""
    stage, (first, _) = staged()
    first.deliver(reply(0))
    first.fail_to_receive(error)
    first.deliver(reply(1))
    stage.datapath.socket_readable(first, stage.now)
    assert len(stage.tun.delivered()) == 2
    assert stage.counters().datagrams_received == 2


def test_a_socket_with_nothing_but_errors_does_not_hold_us_up() -> None:
    """A wake-up ends although the socket goes on to fail."""
    stage, (first, _) = staged()
    for _ in range(10 * BATCH):
        first.fail_to_receive(ENETDOWN)
    stage.datapath.socket_readable(first, stage.now)
    assert stage.counters().datagrams_received == 0


def test_a_wake_up_receives_a_bounded_batch() -> None:
    """However much waits at a socket, a wake-up takes BATCH datagrams."""
    stage, (first, _) = staged()
    for number in range(BATCH + 5):
        first.deliver(reply(number))
    for total in (BATCH, BATCH + 5):
        stage.datapath.socket_readable(first, stage.now)
        assert stage.counters().packets_delivered == total


@pytest.mark.parametrize(
    ("error", "counted"),
    [(EAGAIN, "tun_full"), (ENOBUFS, "tun_full"), (EIO, "tun_eio"), (EINVAL, "tun_einval"), (EBADFD, "tun_ebadfd")],
)
def test_what_the_tun_does_not_take_is_counted(error: int, counted: str) -> None:
    """A full queue, an interface that is down: the packet counts as dropped, the next ones are written."""
    stage, (first, _) = staged()
    stage.tun.fail_to_write(None, error)  # type: ignore[union-attr]
    assert len(stage.receive(first, reply(0), reply(1), reply(2))) == 2
    counters = stage.counters()
    assert counters.ingress_dropped == {counted: 1}
    assert counters.packets_delivered == 2


def test_a_full_tun_while_held_packets_are_delivered() -> None:
    """The same holds for packets of the reorder buffer, at its deadline too."""
    stage, (first, _) = staged()
    stage.receive(first, reply(0), reply(2), reply(3))
    stage.tun.fail_to_write(EAGAIN)  # type: ignore[union-attr]
    assert len(stage.wait(1)) == 1
    assert stage.counters().ingress_dropped == {"tun_full": 1}
