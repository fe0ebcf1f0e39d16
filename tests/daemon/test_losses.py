"""A line that loses much is left at both ends, and used again when it is good or nothing else works."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config import files
from tests.daemon.pair import Pair, write_pair
from tests.daemon.stage import REPLY, Run, Stage

FOUND = 150.0  # s in which loss of one half is found, with keepalives of 1 s
TOLD = 30.0  # s until the peer knows, if the path that carries the report is dead
GONE = 100.0  # s in which it is forgotten
LEFT = [["down", "up"], ["down", "up"]]
UP = [["up", "up"], ["up", "up"]]


def connect(run: Run, directory: Path, max_loss: int = 30, permission: int = 3) -> Pair:
    """Return the guide's two hosts, with keepalives every second and a long dead time."""
    text = files.CONNECTION
    for section in ("path_0", "path_1"):
        text = files.changed(text, section, keepalive_time="1", dead_time="20")
    write_pair(directory, text, max_loss=str(max_loss), permission=str(permission))
    pair = Pair(run, directory)
    pair.cables.pass_time(60.0, step=0.5)
    assert pair.statuses() == UP
    return pair


@pytest.fixture
def pair(run: Run, tmp_path: Path) -> Pair:
    return connect(run, tmp_path)


def reasons(stage: Stage) -> list[str | None]:
    """Return why each path is not up."""
    return [path.reason for path in stage.root.operations.status().connections[0].paths]


def carried(stage: Stage) -> list[int]:
    """Return the packets that each path has sent."""
    return [path.packets_sent for path in stage.root.operations.status().connections[0].paths]


def send(stage: Stage, count: int) -> None:
    """Let packets for host A leave host B."""
    for _ in range(count):
        stage.tun.inject(REPLY)
    stage.reactor.read_all()


def test_loss_in_one_direction_is_seen_at_one_end_and_both_leave_the_path(pair: Pair) -> None:
    """The receiver of the loss tells its sender; the reason is shown, and nothing is sent over the path any more."""
    pair.cables.lossy[pair.b, 1] = 0.5
    pair.cables.pass_time(FOUND, step=0.5)
    assert pair.statuses() == LEFT
    reason, other = reasons(pair.a)
    assert other is None
    assert reason is not None and "of the peer's keepalives are lost on the way (max_loss = 30)" in reason
    assert reasons(pair.b) == ["the peer says that it does not work", None]
    before = carried(pair.b)
    send(pair.b, 10)
    assert [now - then for now, then in zip(carried(pair.b), before, strict=True)] == [0, 10]


def test_a_path_that_is_good_again_is_used_again(pair: Pair) -> None:
    """The path comes back at both ends."""
    pair.cables.lossy[pair.b, 1] = 0.5
    pair.cables.pass_time(FOUND, step=0.5)
    pair.cables.lossy.clear()
    pair.cables.pass_time(GONE, step=0.5)
    assert pair.statuses() == UP
    assert reasons(pair.a) == [None, None]


def test_the_bad_path_is_better_than_none(pair: Pair) -> None:
    """When the other path goes, the path that was left carries everything at once."""
    pair.cables.lossy[pair.b, 1] = 0.5
    pair.cables.pass_time(FOUND, step=0.5)
    pair.b.netlink.set_carrier("eth2", False)
    pair.b.network_changed()
    pair.cables.pass_time(1.0)
    assert pair.statuses()[0] == ["up", "down"]
    pair.cables.pass_time(TOLD, step=0.5)
    assert pair.statuses() == [["up", "down"], ["up", "interface down"]]


def test_both_ends_may_lose_what_the_other_sends_over_one_path(pair: Pair) -> None:
    """Loss both ways: each end leaves the path by itself, and neither keeps the other down."""
    pair.cables.lossy.update({(pair.a, 1): 0.5, (pair.b, 1): 0.5})
    pair.cables.pass_time(FOUND, step=0.5)
    assert pair.statuses() == LEFT
    pair.a.netlink.set_carrier("eth2", False)
    pair.a.network_changed()
    pair.cables.pass_time(TOLD, step=0.5)
    assert [row[0] for row in pair.statuses()] == ["up", "up"]
    pair.a.netlink.set_carrier("eth2", True)
    pair.a.network_changed()
    pair.cables.lossy.clear()
    pair.cables.pass_time(GONE, step=0.5)
    assert pair.statuses() == UP


@pytest.mark.parametrize("cables", [(1, 2), ()])
def test_what_befalls_all_paths_leaves_them_all_up(pair: Pair, cables: tuple[int, ...]) -> None:
    """Without loss nothing changes either."""
    pair.cables.lossy.update({(pair.b, cable): 0.5 for cable in cables})
    for _ in range(int(FOUND)):
        pair.cables.pass_time(1.0, step=0.5)
        assert pair.statuses() == UP


def test_max_loss_0_keeps_a_lossy_path(run: Run, tmp_path: Path) -> None:
    """max_loss = 0 switches the rule off."""
    pair = connect(run, tmp_path, max_loss=0)
    pair.cables.lossy[pair.b, 1] = 0.5
    pair.cables.pass_time(FOUND, step=0.5)
    assert pair.statuses() == UP


def test_the_operator_may_take_up_what_was_left(pair: Pair) -> None:
    """The path is measured anew, and left again if it is bad."""
    pair.cables.lossy[pair.b, 1] = 0.5
    pair.cables.pass_time(FOUND, step=0.5)
    pair.a.ask("path up 10.1.1.2 10.1.1.3")
    pair.cables.pass_time(1.0, step=0.5)
    assert [row[0] for row in pair.statuses()] == ["up", "up"]
    pair.cables.pass_time(FOUND, step=0.5)
    assert pair.statuses() == LEFT


def test_a_peer_that_still_sends_gets_no_keepalives_over_the_path(run: Run, tmp_path: Path) -> None:
    """It cannot be told, or takes the path up again with each keepalive of ours, as the C program does. Its own
    keepalives go on, so that the path comes back."""
    pair = connect(run, tmp_path, permission=0)
    pair.cables.lossy[pair.b, 1] = 0.5
    for _ in range(int(FOUND)):
        send(pair.b, 4)
        pair.cables.pass_time(1.0, step=0.5)
    assert pair.statuses() == LEFT
    assert reasons(pair.b) == ["no keepalive from the peer", None]
    pair.cables.lossy.clear()
    pair.cables.pass_time(GONE, step=0.5)
    assert pair.statuses() == UP
