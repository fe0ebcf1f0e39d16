"""Shares: weights and the paths in use change without a new table, in every data path."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mpt.testing.datapath import LOCAL, OTHER_PEER, REMOTE, Stage, connection_row, numbered, packet, path_row
from mpt.wire import gre


def two_paths(stage: Stage, **changes: Any) -> tuple[Any, Any]:
    """One connection over two paths of weight 1."""
    wans = stage.new_socket(), stage.new_socket()
    stage.set_table(connection_row(path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER), **changes))
    return wans


def sent(stage: Stage, wans: tuple[Any, Any], count: int) -> list[int]:
    """How many of `count` packets leave over each."""
    stage.send(*numbered(count))
    return [len(wan.sent()) for wan in wans]


def test_packets_go_by_the_new_weights(stage: Stage) -> None:
    """From the next one on; a path that is not named keeps its weight."""
    wans = two_paths(stage)
    assert sent(stage, wans, 8) == [4, 4]
    stage.datapath.set_shares({"a": 3}, stage.now)
    assert sent(stage, wans, 8) == [6, 2]
    stage.datapath.set_shares({"a": 1, "b": 7}, stage.now)
    assert sent(stage, wans, 16) == [2, 14]


def test_a_share_of_nothing_takes_a_path_out(stage: Stage) -> None:
    """Its packets go over the others; without any they are dropped; with a share it is back."""
    wans = two_paths(stage)
    stage.datapath.set_shares({"a": 0}, stage.now)
    assert sent(stage, wans, 4) == [0, 4]
    stage.datapath.set_shares({"b": 0}, stage.now)
    assert sent(stage, wans, 4) == [0, 0]
    assert stage.counters().egress_dropped == {"no_path": 4}
    stage.datapath.set_shares({"b": 1, "a": 1}, stage.now)
    assert sent(stage, wans, 4) == [2, 2]


def test_the_same_shares_again_change_nothing(stage: Stage) -> None:
    """The cycle goes on where it is: told again before every packet, the paths still take turns."""
    wans = two_paths(stage)
    counts: Counter[int] = Counter()
    for _ in range(6):
        stage.datapath.set_shares({"a": 1, "b": 1}, stage.now)
        counts.update(index for index, count in enumerate(sent(stage, wans, 1)) if count)
    assert counts == {0: 3, 1: 3}


def test_numbers_and_held_packets_go_on(stage: Stage) -> None:
    """No packet waits for a path that has lost its share; the numbers sent go on."""
    wans = two_paths(stage, window=16)
    stage.send(*numbered(2))
    packets = numbered(3, source=REMOTE, destination=LOCAL)
    stage.receive(wans[0], gre.encode(4, 0) + packets[0])
    stage.receive(wans[1], gre.encode(4, 1) + packets[1], host=OTHER_PEER)
    assert stage.receive(wans[0], gre.encode(4, 3) + packets[2]) == []
    stage.datapath.set_shares({"b": 0}, stage.now)
    assert stage.tun.delivered() == [packets[2]]
    for wan in wans:
        wan.sent()
    stage.send(packet())
    assert wans[0].sent()[0][0][:8] == gre.encode(4, 2)


def test_only_a_path_that_is_there_can_be_used(stage: Stage) -> None:
    """One without a socket stays unused; unknown keys, and those of an earlier table, say nothing."""
    wan = stage.new_socket()
    stage.set_table(connection_row(path_row("a", wan), path_row("b", None, OTHER_PEER), window=4))
    stage.datapath.set_shares({"b": 5, "c": 7}, stage.now)
    stage.send(*numbered(3))
    assert len(wan.sent()) == 3
    stage.set_table(connection_row(path_row("b", wan, OTHER_PEER)))
    stage.datapath.set_shares({"a": 9}, stage.now)
    stage.send(*numbered(3))
    assert len(wan.sent()) == 3


def test_a_new_table_has_shares_of_its_own(stage: Stage) -> None:
    """Shares that were set before it are forgotten."""
    wans = two_paths(stage)
    stage.datapath.set_shares({"a": 0, "b": 4}, stage.now)
    stage.set_table(connection_row(path_row("a", wans[0]), path_row("b", wans[1], OTHER_PEER)))
    assert sent(stage, wans, 8) == [4, 4]
