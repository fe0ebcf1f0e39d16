"""A restarted peer is followed; a stray or forged number is not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise
from random import Random

import pytest

from mpt.data.candidates import CANDIDATES
from mpt.data.stream import RESTART_SILENCE
from mpt.wire.serial import HALF, MASK, MODULUS
from tests import IS_FAST, some
from tests.data.line import Line

WINDOW = 64
MAX_DELAY = 0.1
SILENCE = MAX_DELAY + RESTART_SILENCE  # s after which what is behind may be a restarted peer
SLOWER = 0.02  # s that path b takes longer than path a


def stream(first: int, count: int, rate: float, paths: str, begin: float) -> list[tuple[float, int, str]]:
    """`count` packets at `rate` a second over `paths` by turns: (time of arrival, position, path)."""
    numbers = range(count)
    sent = [(begin + n / rate, first + n, paths[n % len(paths)]) for n in numbers]
    return sorted((time + SLOWER * (path == "b"), position, path) for time, position, path in sent)


def play(line: Line, *streams: list[tuple[float, int, str]]) -> None:
    """Let everything arrive in the order of time."""
    for time, position, path in sorted(chain(*streams)):
        line.arrive(position, path, at=time)
    line.wait(MAX_DELAY)


# --- a peer that starts again ---


@pytest.mark.parametrize(
    "previous", some([1, 5, 30, WINDOW - 1, WINDOW, 1000, HALF - 1, HALF, HALF + 1, MODULUS - 9, MODULUS - 1])
)
@pytest.mark.parametrize("rate", [5, 200, 5000])
@pytest.mark.parametrize("paths", ["a", "ab"])
@pytest.mark.parametrize("away", [0.0, 3.0], ids=["at once", "after 3 s"])
def test_a_restarted_peer_is_followed(previous: int, rate: int, paths: str, away: float) -> None:
    """Its numbers begin at 0 again, wherever they were: within a second all it sends is delivered again, in order."""
    line = Line(WINDOW, MAX_DELAY, paths)
    before = min(previous + 1, 100)
    old = stream(previous + 1 - before, before, rate, paths, line.now)
    begin = max(time for time, _, _ in old) + away + 1 / rate
    count = max(8, int(1.5 * rate))
    new = stream(MODULUS, count, rate, paths, begin)  # that is 0 on the wire
    labels = {position: position - MODULUS for _, position, _ in new}
    play(line, old, new)
    got = [labels[label] for time, label in line.out if time >= begin and label in labels]
    assert got == sorted(set(got))
    lost = set(range(count)) - set(got)
    assert max(lost, default=0) / rate < 1.0
    assert len(lost) <= (SILENCE + SLOWER) * rate + 2


def test_what_the_old_stream_left_is_delivered_first() -> None:
    """When the stream moves, packets that still wait for a gap of the old stream are delivered before the new ones."""
    line = Line(WINDOW, MAX_DELAY, "ab")
    for position in (1000, 1002, 1004):
        line.arrive(position)
    assert line.arrive(5000) == []
    assert line.arrive(5001) == [1002, 1004, 5000, 5001]
    assert line.arrive(5002) == [5002]


def test_two_packets_that_come_in_the_wrong_order_start_the_new_stream_in_order() -> None:
    """A restart over two paths may show the second packet first."""
    line = Line(WINDOW, MAX_DELAY, "ab")
    line.arrive(1000)
    line.wait(1.0)
    assert line.arrive(1, "a") == []
    assert line.arrive(0, "b") == [0, 1]
    line = Line(WINDOW, MAX_DELAY, "ab")
    line.arrive(1000)
    line.wait(1.0)
    line.arrive(6, "a")
    assert line.arrive(2, "b") == [2]
    assert line.arrive(3, "b") == [3]  # b has not brought 6: what b brings in order is not late
    assert [line.arrive(4, "b"), line.arrive(5, "b")] == [[4], [5, 6]]


def test_a_new_stream_starts_with_a_clean_slate() -> None:
    """The new stream forgets the progress of the paths and the given-up gaps of the old one."""
    line = Line(WINDOW, MAX_DELAY, "ab")
    for position, path in ((1000, "a"), (1001, "b"), (1010, "a"), (1011, "b")):
        line.arrive(position, path)
    line.wait(1.0)
    line.arrive(0, "a")
    assert line.arrive(1, "a") == [0, 1]
    assert line.arrive(3, "a") == []  # b may bring 2
    assert line.arrive(2, "b") == [2, 3]
    for position in range(4, 1010):
        line.arrive(position, "ab"[position % 2])
    line.arrive(1005, "a")
    assert line.dropped == {"duplicate": 1}


def test_a_burst_of_loss_beyond_the_window_costs_no_more_than_itself() -> None:
    """After a black-out of many windows the stream goes on with the first packet that comes."""
    line = Line(WINDOW, MAX_DELAY, "a")
    play(line, stream(0, 50, 1000, "a", line.now), stream(5000, 50, 1000, "a", line.now + 5))
    assert line.delivered == [*range(50), *range(5000, 5050)]
    assert line.dropped == {}


# --- strays ---


PAUSE = 60  # packets before it
STEP = 5 if IS_FAST else 1  # from one moment for a stray to the next


def genuine(paths: str, start: int) -> list[tuple[float, int, str]]:
    """A stream with some losses and a pause."""
    random = Random(1)
    first = stream(start, PAUSE, 500, paths, 1000.0)
    second = stream(start + PAUSE, 60, 500, paths, 1001.0)
    return first + [one for one in second if random.random() > 0.1]


def is_pause(arrivals: list[tuple[float, int, str]], moment: int) -> bool:
    """Return whether the stream pauses before the packet number `moment`."""
    return arrivals[moment][0] - arrivals[moment - 1][0] > SILENCE


DISTANCES = [WINDOW + 1, WINDOW + 50, 2**30, HALF - 1, -1, -7, -WINDOW, -1000, -(2**30), -HALF]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("paths", ["a", "ab"])
@pytest.mark.parametrize("start", [0, 100_000, MODULUS - 70])
def test_one_stray_changes_nothing(distance: int, paths: str, start: int) -> None:
    """One far-away number, before any packet but the first: the stream is delivered just as without it, to the moment.

    (A number less than a window behind may look like a late packet; then gaps are waited for, but nothing is lost. In a
    pause of the stream the packet itself is delivered, as the first of a restarted peer would be.)
    """
    arrivals = genuine(paths, start)
    undisturbed = Line(WINDOW, MAX_DELAY, paths)
    play(undisturbed, arrivals)
    for moment in sorted({PAUSE, *range(1, len(arrivals), STEP)}):
        line = Line(WINDOW, MAX_DELAY, paths)
        newest = 0
        for number, (time, position, path) in enumerate(arrivals):
            if number == moment:
                expected = line.buffer.expected
                assert expected is not None
                reference = newest if distance > 0 else expected  # beyond all that came, or before what is expected
                line.arrive(reference + distance, path, label="forged", at=(arrivals[number - 1][0] + time) / 2)
            newest = max(newest, position)
            line.arrive(position, path, at=time)
        line.wait(MAX_DELAY)
        genuine_out = [one for one in line.out if one[1] != "forged"]
        assert "forged" not in line.delivered or is_pause(arrivals, moment)
        if -WINDOW < distance < 0:
            assert [label for _, label in genuine_out] == undisturbed.delivered, moment
        else:
            assert genuine_out == undisturbed.out, moment


@pytest.mark.parametrize("paths", ["a", "ab"])
@pytest.mark.parametrize("step", [0, 1_000_003, 123_456_789])
def test_two_alternating_forgers_change_nothing(paths: str, step: int) -> None:
    """Forged numbers from two sides all the time, that never agree with each other, do not disturb the stream."""
    arrivals = genuine(paths, 5000)
    undisturbed = Line(WINDOW, MAX_DELAY, paths)
    play(undisturbed, arrivals)
    line = Line(WINDOW, MAX_DELAY, paths)
    for number, (time, position, path) in enumerate(arrivals):
        line.arrive(position, path, at=time)
        line.arrive(position + 2**30 + number * step if step else 2**30, path, label="forged")
        line.arrive(position - 2**30 - number * step if step else MODULUS - 2**30, path, label="forged")
    line.wait(MAX_DELAY)
    assert [one for one in line.out if one[1] != "forged"] == undisturbed.out
    in_pauses = [time for time, label in line.out if label == "forged" and time < arrivals[-1][0]]
    assert len(in_pauses) <= CANDIDATES
    assert all(
        any(before < time - MAX_DELAY * 0.9 and time < after for (before, _, _), (after, _, _) in pairwise(arrivals))
        for time in in_pauses
    )


@pytest.mark.parametrize("previous", [1000, HALF + 1000])
def test_forgers_do_not_hide_a_restart(previous: int) -> None:
    """While two forgers send ever new numbers a restarted peer is still followed within a second."""
    random = Random(2)
    line = Line(WINDOW, MAX_DELAY, "a")
    for position in range(previous, previous + 50):
        line.arrive(position, at=line.now + 0.005)
    restart = line.now
    for position in range(200):
        line.arrive(random.randrange(WINDOW * 10, MODULUS), label="forged", at=line.now + 0.002)
        line.arrive(random.randrange(WINDOW * 10, MODULUS), label="forged", at=line.now + 0.002)
        line.arrive(MODULUS + position, at=line.now + 0.001)
    got = [label - MODULUS for time, label in line.out if time > restart and isinstance(label, int)]
    assert got == list(range(got[0], 200))
    assert got[0] * 0.005 < 1.0


def test_a_forged_first_packet_costs_a_moment() -> None:
    """If the very first packet is forged, the stream is there after SILENCE at the latest."""
    for forged in (2**30, HALF + 5, MASK):
        line = Line(WINDOW, MAX_DELAY, "a")
        line.arrive(forged, label="forged")
        for position in range(MODULUS, MODULUS + 200):
            line.arrive(position, at=line.now + 0.005)
        got = [label for label in line.delivered if label != "forged"]
        assert got == list(range(MODULUS + 200 - len(got), MODULUS + 200))
        assert len(got) >= 200 - SILENCE / 0.005 - 2


def test_two_forged_numbers_that_agree_cost_a_moment() -> None:
    """Who can forge two that agree can move the stream; the genuine one moves it back, and then all of it is there."""

    def attack(at: int) -> Iterator[tuple[int, str | None]]:
        for position in range(200):
            yield position, None
            if position == 50:
                yield from ((at, "forged"), (at + 1, "forged"))

    for at in (1000, 2**30, HALF + 5):
        line = Line(WINDOW, MAX_DELAY, "a")
        for position, label in attack(at):
            line.arrive(position, label=label, at=line.now + 0.005)
        line.wait(MAX_DELAY)
        got = [label for label in line.delivered if label != "forged"]
        missing = sorted(set(range(200)) - set(got))
        assert len(got) == len(set(got))
        assert len(missing) <= SILENCE / 0.005 + 2
        assert max(missing, default=0) < 130


def test_strays_are_counted() -> None:
    """Strays are counted when newer ones push them out, when the stream goes on meanwhile, or when it moves."""
    line = Line(WINDOW, MAX_DELAY, "a")
    line.arrive(0)
    for number in range(1, 8):
        line.arrive(number * 20_000)
    assert line.dropped == {"stray": 3}
    line.arrive(140_000)
    assert line.dropped == {"stray": 3, "duplicate": 1}
    assert line.arrive(140_001) == []  # the one before it is dropped
    assert line.dropped == {"stray": 4, "duplicate": 1}
    line.wait(MAX_DELAY / 2)
    line.arrive(1)
    assert line.wait(MAX_DELAY) == []
    assert line.dropped == {"stray": 8, "duplicate": 1}
    line.arrive(20_000)
    line.wait(SILENCE)
    line.arrive(9_000)
    line.arrive(50_000)
    assert line.arrive(9_001) == [9_000, 9_001]
    assert line.dropped == {"stray": 9, "duplicate": 1}


# --- paths that come late or go silent ---


def test_a_slower_path_that_joins_loses_nothing() -> None:
    """A stream over one path goes on over two, the second of which is slower: nothing is lost."""
    line = Line(WINDOW, MAX_DELAY, "a")
    alone, both = stream(0, 100, 500, "a", line.now), stream(100, 200, 500, "ab", line.now + 0.2)
    for time, position, path in sorted(alone + both):
        if position == 100:
            line.path_up("b")
        line.arrive(position, path, at=time)
    line.wait(MAX_DELAY)
    assert line.delivered == list(range(300))
    assert line.waited <= SLOWER


@pytest.mark.parametrize("told", [True, False], ids=["control tells", "nobody tells"])
def test_a_path_that_falls_silent_costs_only_its_packets(told: bool) -> None:
    """Only packets that a black hole swallows are lost; once the path is down, no packet waits for it."""
    line = Line(WINDOW, MAX_DELAY, "ab")
    arrivals = [one for one in stream(0, 300, 500, "ab", line.now) if one[1] < 150 or one[2] == "a"]
    for time, position, path in arrivals:
        line.arrive(position, path, at=time)
        if told and position == 200:
            line.path_down("b")
            assert line.buffer.held == 0
    line.wait(MAX_DELAY)
    assert line.delivered == sorted(position for _, position, _ in arrivals)
    assert line.dropped == {}


def test_a_loss_costs_the_difference_of_the_delays() -> None:
    """With a long max_delay a lost packet holds the others up only until the slower path has caught up."""
    line = Line(900, 0.3, "ab")
    arrivals = [one for one in stream(0, 600, 500, "ab", line.now) if one[1] % 50 != 20]
    for time, position, path in arrivals:
        line.arrive(position, path, at=time)
    line.wait(0.3)
    assert line.delivered == sorted(position for _, position, _ in arrivals)
    assert line.waited <= SLOWER + 3 / 500
