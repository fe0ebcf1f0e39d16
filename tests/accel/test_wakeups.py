"""A wake-up serves everything that is ready: the TUN, every readable socket and due deadlines, in one crossing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from mpt.testing.datapath import LOCAL, OTHER_PEER, PEER, REMOTE, Stage, connection_row, numbered, packet, path_row
from mpt.wire import gre
from tests.accel.engine import native_stage, with_offload
from tests.accel.model import VNET, Inner

AMPLE = 2.0  # s of budget, so that a slow machine ends no round early
SOCKETS, EACH = 40, 60  # datagrams, as many as a socket of the test has room for
MUCH = [numbered(120, source=REMOTE, destination=LOCAL), numbered(120)]  # more than a round must bring to be busy


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A native data path with time enough for all that is ready."""
    with native_stage(ask_tun=with_offload, budget=AMPLE) as made:
        yield made


def fill(stage: Stage) -> tuple[Any, Any]:
    """Let datagrams wait in two sockets of two paths, and packets in the TUN."""
    wans = stage.new_socket(), stage.new_socket()
    stage.set_table(connection_row(path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER)))
    for wan, host in zip(wans, (PEER, OTHER_PEER), strict=True):
        for each in MUCH[0]:
            wan.deliver(gre.encode(4) + each, host)
    for each in MUCH[1]:
        stage.tun.inject(bytes(VNET) + each)
    return wans


@pytest.mark.parametrize("asked", ["tun", "a", "b"])
def test_one_call_serves_all_that_is_ready(stage: Stage, asked: str) -> None:
    """Whatever woke it."""
    wans = fill(stage)
    if asked == "tun":
        stage.datapath.tun_readable(stage.now)
    else:
        stage.datapath.socket_readable(wans["ab".index(asked)], stage.now)
    counters = stage.counters()
    assert (counters.packets_read, counters.packets_delivered) == (120, 240)


def test_little_work_is_no_reason_to_wait(stage: Stage) -> None:
    """A wake-up for a ping takes what is ready besides, and ends: the reactor may have something else to do."""
    wans = fill(stage)
    stage.datapath.tun_readable(stage.now)
    stage.datapath.socket_readable(wans[0], stage.now)
    for wan, host in zip(wans, (PEER, OTHER_PEER), strict=True):
        wan.deliver(gre.encode(4) + MUCH[0][0], host)
    stage.datapath.socket_readable(wans[0], stage.now)
    assert stage.counters().packets_delivered == 242


def test_without_a_budget_it_serves_one_descriptor() -> None:
    """What was asked for, to its end or to the bound of a round."""
    with native_stage(ask_tun=with_offload, budget=0.0) as stage:
        fill(stage)
        stage.datapath.tun_readable(stage.now)
        counters = stage.counters()
        assert (counters.packets_read, counters.packets_delivered) == (120, 0)


def test_due_deadlines_are_met_between_the_rounds(stage: Stage) -> None:
    """A packet that has waited for its time is delivered while others keep the wake-up busy."""
    wans = stage.new_socket(), stage.new_socket()
    paths = path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER)
    stage.set_table(connection_row(*paths, window=1000, max_delay=0.01))
    packets = numbered(2, source=REMOTE, destination=LOCAL)
    stage.receive(wans[0], *(gre.encode(4, number) + packets[number // 2] for number in (0, 2)))
    assert stage.counters().packets_held == 1
    stage.now += 1
    for each in MUCH[1]:
        stage.tun.inject(bytes(VNET) + each)
    stage.datapath.tun_readable(stage.now)
    assert stage.counters().packets_held == 0


def test_a_wake_up_ends_with_its_budget() -> None:
    """However much comes, the reactor gets its turn; the next call goes on."""
    with native_stage(ask_tun=with_offload, budget=1e-9) as stage:
        stage.set_table(connection_row(path_row("a", stage.new_socket())))
        frame = Inner(payload=bytes(36_000)).frame(36)  # a thousand packets, as much as a round may be
        for _ in range(3):
            stage.tun.inject(frame)
        stage.datapath.tun_readable(stage.now)
        assert stage.counters().packets_read == 1000


def test_a_round_over_many_sockets_ends_with_the_budget() -> None:
    """However many sockets have much: what is left waits for their own wake-ups, and the timers do not wait for it."""
    with native_stage(ask_tun=with_offload, budget=0.0002) as stage:
        wans = [stage.new_socket() for _ in range(SOCKETS)]
        stage.set_table(connection_row(*(path_row(index, wan) for index, wan in enumerate(wans))))
        bulk = gre.encode(4) + packet(REMOTE, LOCAL, bytes(1400))
        for wan in wans:
            for _ in range(EACH):
                wan.deliver(bulk)
        stage.datapath.socket_readable(wans[0], stage.now)
        assert EACH <= stage.counters().datagrams_received < EACH * SOCKETS / 2
        for wan in wans:
            stage.datapath.socket_readable(wan, stage.now)
        assert stage.counters().datagrams_received == EACH * SOCKETS


def test_each_copy_for_a_group_is_work() -> None:
    """A packet to a group costs as much as there are peers: a round of a thousand packets is a thousand copies."""
    with native_stage(ask_tun=with_offload, budget=0.0) as stage:
        wan = stage.new_socket()
        stage.set_table(
            *(connection_row(path_row(n, wan), key=n, remote=f"10.0.{n}.3") for n in range(100)),
        )
        for _ in range(50):
            stage.tun.inject(bytes(VNET) + packet(LOCAL, "224.0.0.5"))
        stage.datapath.tun_readable(stage.now)
        assert 1000 <= stage.counters().packets_read <= 1100


def test_a_wake_up_waits_for_nothing_for_long(stage: Stage) -> None:
    """When nothing more comes it ends, long before its budget."""
    fill(stage)
    begin = time.monotonic()
    stage.datapath.tun_readable(stage.now)
    assert time.monotonic() - begin < AMPLE / 2


def test_in_one_turn_of_the_reactor_a_full_wake_up_stands_for_the_others() -> None:
    """The calls for the other descriptors that were ready do nothing, and the next turn goes on where it was."""
    with native_stage(ask_tun=with_offload, budget=1e-9, turn=60.0) as stage:
        wans = fill(stage)
        stage.datapath.socket_readable(wans[0], stage.now)
        before = stage.counters()
        assert (before.packets_read, before.packets_delivered) == (120, 120)  # the TUN's turn came first
        stage.tun.inject(bytes(VNET) + MUCH[1][0])
        stage.datapath.tun_readable(stage.now)
        stage.datapath.socket_readable(wans[1], stage.now)
        assert stage.counters() == before
        wans[0].deliver(gre.encode(4) + MUCH[0][0], PEER)
        stage.datapath.socket_readable(wans[0], stage.now)
        assert (stage.counters().packets_read, stage.counters().packets_delivered) == (120, 241)


def test_a_flood_of_one_descriptor_keeps_no_other_waiting() -> None:
    """Though it takes the whole of every wake-up: each of the others has its turn."""
    with native_stage(ask_tun=with_offload, budget=1e-9, turn=60.0) as stage:
        wans = [stage.new_socket() for _ in range(5)]
        stage.set_table(connection_row(*(path_row(index, wan) for index, wan in enumerate(wans))))
        for wan in wans[1:]:
            wan.deliver(gre.encode(4) + MUCH[0][0])
        stage.tun.inject(bytes(VNET) + MUCH[1][0])
        for turn in range(5):
            wans[0].deliver(gre.encode(4) + MUCH[0][0])
            stage.datapath.socket_readable(wans[0], stage.now)
            assert stage.counters().packets_read + stage.counters().packets_delivered == 2 * (turn + 1)


def test_a_wake_up_that_found_no_more_stands_for_nobody() -> None:
    """Packets that have come since are served at once."""
    with native_stage(ask_tun=with_offload, budget=AMPLE, turn=60.0) as stage:
        wans = fill(stage)
        stage.datapath.socket_readable(wans[0], stage.now)
        stage.tun.inject(bytes(VNET) + MUCH[1][0])
        stage.datapath.tun_readable(stage.now)
        assert stage.counters().packets_read == 121
