"""Who forges the peer's outer address and sends fewer packets a second than the peer changes nothing of its stream.

The forger is blind: he sees no number of the stream. So he sends some number and the next one, and both once more from
the other half of the numbers, one half of which lies ahead of the stream, whatever that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from mpt.data.candidates import PERIOD
from mpt.data.stream import RESTART_SILENCE
from mpt.testing.datapath import LOCAL, OTHER_PEER, PEER, REMOTE, Stage, connection_row, packet, path_row
from mpt.wire import gre
from mpt.wire.serial import HALF, MASK
from tests import some

RATE = 1000  # packets a second of the peer, over both paths by turns
SLOWER = 0.01  # s that the second path takes longer
FORGED = b"forged"
Arrival = tuple[float, int, int, bytes]  # time, path, number, content


def genuine(begin: float, end: float, first: int = 0) -> list[Arrival]:
    """The peer's packets of some seconds."""
    count = round((end - begin) * RATE)
    return [
        (begin + n / RATE + SLOWER * (n % 2), n % 2, (first + n) & MASK, (first + n).to_bytes(8, "big"))
        for n in range(count)
    ]


def forged(begin: float, end: float, rate: float, at_once: bool, seed: int = 1) -> Iterator[Arrival]:
    """The forger's: `rate` packets a second over the first path, four `at_once` or one after the other."""
    random = Random(seed)
    base, time = random.randrange(HALF), begin + random.random() / 10
    while time < end:
        for n, offset in enumerate((0, 1, HALF, HALF + 1)):
            yield time + (0 if at_once else n / rate), 0, (base + offset) & MASK, FORGED
        base, time = base + 2, time + 4 / rate


def prepared(stage: Stage, window: int, max_delay: float) -> list[Any]:
    """The sockets of a connection over two paths."""
    sockets = [stage.new_socket(), stage.new_socket()]
    rows = [path_row("a", sockets[0], PEER), path_row("b", sockets[1], OTHER_PEER)]
    stage.set_table(connection_row(*rows, window=window, max_delay=max_delay))
    return sockets


def play(stage: Stage, sockets: list[Any], arrivals: list[Arrival], rest: float) -> list[tuple[float, bytes]]:
    """Let everything arrive, and `rest` seconds go by: when what was delivered, as (time, content)."""
    out: list[tuple[float, bytes]] = []
    start = stage.now

    def wait_until(time: float) -> None:
        while (deadline := stage.datapath.next_deadline()) is not None and deadline <= time:
            stage.now = max(stage.now, deadline)
            stage.datapath.deadline_reached(stage.now)
            take()
        stage.now = max(stage.now, time)

    def take() -> None:
        out.extend((stage.now - start, inner[20:]) for inner in stage.tun.delivered())

    for time, path, number, content in sorted(arrivals):
        wait_until(start + time)
        datagram = gre.encode(4, number) + packet(REMOTE, LOCAL, content)
        sockets[path].deliver(datagram, (PEER, OTHER_PEER)[path])
        stage.datapath.socket_readable(sockets[path], stage.now)
        take()
    wait_until(stage.now + rest)
    return out


@pytest.mark.parametrize("forged_rate", [1, 6, 100, RATE // 2])
@pytest.mark.parametrize(
    ("window", "max_delay", "at_once"),
    some([(1000, 0.1, True), (1000, 0.1, False), (64, 0.5, True), (1000, 0.02, False)]),
)
def test_a_slow_forger_changes_nothing(
    fast_stage: Stage, forged_rate: int, window: int, max_delay: float, at_once: bool
) -> None:
    """Every packet of the running stream is delivered, once, in order, at the time at which it would be without him."""
    seconds = 5 if forged_rate < 100 else 3
    first = Random(2).randrange(MASK)
    arrivals = genuine(0, seconds, first)
    sockets = prepared(fast_stage, window, max_delay)
    mixed = arrivals + list(forged(0.5, seconds - 1, forged_rate, at_once))
    out = [one for one in play(fast_stage, sockets, mixed, 1.0) if one[1] != FORGED]
    assert [content for _, content in out] == sorted(content for *_, content in arrivals)
    times = dict.fromkeys((content for *_, content in arrivals), 0.0) | {content: time for time, content in out}
    arrived = {content: time for time, _, _, content in arrivals}
    assert max(times[content] - arrived[content] for content in times) <= SLOWER + 2 / RATE


@pytest.mark.parametrize("forged_rate", [6, 100])
def test_what_a_forger_takes_in_a_pause_comes_back(fast_stage: Stage, forged_rate: int) -> None:
    """He can move a stream that pauses; when it goes on, it is back after PERIOD, though he goes on, too."""
    first = Random(3).randrange(MASK)
    before, after = genuine(0, 1, first), genuine(4, 8, first + RATE)
    sockets = prepared(fast_stage, 1000, 0.1)
    mixed = before + after + list(forged(0.5, 7.9, forged_rate, True))
    out = play(fast_stage, sockets, mixed, 1.0)
    delivered = {content for _, content in out}
    assert {content for *_, content in before} <= delivered
    missing = {content for time, _, _, content in after if time > 4 + PERIOD + SLOWER + 4 / RATE} - delivered
    assert not missing


@pytest.mark.parametrize("previous", [1, 500, 20_000, HALF - 5, HALF + 5])
@pytest.mark.parametrize("max_delay", [0.1, 2.0])
def test_a_restarted_peer_is_followed_at_its_second_packet(fast_stage: Stage, previous: int, max_delay: float) -> None:
    """After a silence the first one waits for the second; then both are delivered, and all that follows at once."""
    sockets = prepared(fast_stage, 1000, max_delay)
    old = [(n / RATE, 0, (previous - 1 + n) & MASK, b"old") for n in range(2)]
    begin = max_delay + RESTART_SILENCE + 0.1
    new = [(begin + n * 0.01, n % 2, n, n.to_bytes(8, "big")) for n in range(20)]
    out = play(fast_stage, sockets, old + new, 1.0)
    assert [round(time - begin, 6) for time, content in out if content != b"old"] == [
        0.01,
        *(n / 100 for n in range(1, 20)),
    ]
    assert [content for _, content in out if content != b"old"] == [content for *_, content in new]


@pytest.mark.parametrize("pause", [0.05, 0.5, 60.0])
def test_the_lone_first_packet_of_a_restarted_peer_is_delivered(fast_stage: Stage, pause: float) -> None:
    """The SYN that nothing follows before it is answered: it waits for max_delay, no longer."""
    sockets = prepared(fast_stage, 1000, 0.1)
    old = [(n / RATE, 0, 100_000 + n, b"old") for n in range(20)]
    new = [(0.02 + pause, 1, 0, b"SYN"), (0.02 + pause + 0.4, 1, 1, b"ACK"), (0.02 + pause + 0.401, 1, 2, b"GET")]
    out = play(fast_stage, sockets, old + new, 1.0)
    assert [(round(time - pause - 0.02, 6), content) for time, content in out if content != b"old"] == [
        (0.1, b"SYN"),
        (0.4, b"ACK"),
        (0.401, b"GET"),
    ]
