"""Whether a path is there: every event in every state, silence, return and its pauses."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from mpt.control.presence import (
    ANSWER,
    DOUBT,
    FIRST_PROBE,
    LONGEST_PAUSE,
    NO_REPORT,
    SILENCE,
    SLOWEST_PROBE,
    TRUSTED,
    Presence,
    State,
)

RTT = 0.040


def present() -> Presence:
    return Presence(0.0)


def suspect() -> Presence:
    presence = present()
    presence.suspect(1.0)
    return presence


def silent() -> Presence:
    presence = present()
    presence.silence(1.0)
    return presence


def away() -> Presence:
    presence = present()
    presence.leave(1.0)
    return presence


def returning() -> Presence:
    presence = silent()
    presence.moved(2.0)
    return presence


MAKE: dict[State, Callable[[], Presence]] = {
    State.PRESENT: present,
    State.SUSPECT: suspect,
    State.SILENT: silent,
    State.AWAY: away,
    State.RETURNING: returning,
}
EVENTS: dict[str, Callable[[Presence], None]] = {
    "suspect": lambda presence: presence.suspect(3.0),
    "moved": lambda presence: presence.moved(3.0),
    "silence": lambda presence: presence.silence(3.0),
    "leave": lambda presence: presence.leave(3.0),
    "come_back": lambda presence: presence.come_back(3.0),
    "prove": lambda presence: presence.prove(3.0),
}
P, Q, S, A, R = State.PRESENT, State.SUSPECT, State.SILENT, State.AWAY, State.RETURNING
TABLE = {  # event -> the state after it, from PRESENT, SUSPECT, SILENT, AWAY, RETURNING
    "suspect": (Q, Q, S, A, R),
    "moved": (P, P, R, A, R),
    "silence": (S, S, S, A, S),
    "leave": (A, A, A, A, A),
    "come_back": (P, Q, S, R, R),
    "prove": (P, Q, S, A, P),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(("index", "state"), list(enumerate(MAKE)))
def test_every_event_in_every_state(event: str, index: int, state: State) -> None:
    """The table, and whether packets may go."""
    presence = MAKE[state]()
    assert presence.state is state
    EVENTS[event](presence)
    assert presence.state is TABLE[event][index]
    assert presence.is_live is (presence.state in (P, R))
    assert presence.is_there is (presence.state in (P, Q, R))


def overdue_at(presence: Presence, sent: float, begin: float, end: float) -> float | None:
    """Return when reports without progress, one in 10 ms, and probes at once, show that the path is silent."""
    now = begin
    while now < end:
        if presence.is_overdue(now, sent, RTT, 0.0):
            return now
        presence.asks(now)
        now += 0.010
    return None


def test_a_loaded_path_is_silent_in_a_few_round_trips() -> None:
    """Less than 200 ms at 40 ms of round trip."""
    presence = present()
    presence.moved(10.0)
    at = overdue_at(presence, 10.0, 10.0, 11.0)
    assert at is not None and RTT + SILENCE <= at - 10.0 <= RTT + DOUBT + RTT + ANSWER + 0.025


def test_a_lost_tail_is_no_silence() -> None:
    """The probe of the doubtful path arrives, so the path has moved."""
    presence = present()
    presence.moved(10.0)
    now = 10.0
    while not presence.asks(now):
        assert not presence.is_overdue(now, 10.0, RTT, 0.0)
        now += 0.010
    presence.moved(now + RTT)
    assert overdue_at(presence, now + RTT, now + RTT, now + 2 * RTT + DOUBT) is None


def test_nothing_under_way_is_no_silence() -> None:
    """However long ago the last progress was."""
    assert not present().is_overdue(1000.0, None, RTT, 0.0)


def test_a_queue_is_waited_for_but_not_for_ever() -> None:
    """What waits in the line's queue is not overdue."""
    presence = present()
    presence.moved(10.0)
    presence.is_overdue(10.12, 10.0, 0.0, 0.0)
    assert presence.asks(10.12)
    assert not presence.is_overdue(10.15, 10.0, RTT, 0.080)
    assert presence.is_overdue(10.40, 10.0, RTT, 5.0)


def test_no_report_at_all_is_silence_a_little_later() -> None:
    """The reports may have been lost with the path."""
    presence = present()
    presence.moved(10.0)
    now = 10.0
    while not presence.is_unheard(now, 10.0, RTT, 0.0):
        presence.asks(now)
        now += 0.010
    assert RTT + SILENCE + NO_REPORT <= now - 10.0 <= 0.41


def test_a_silent_path_is_probed_with_growing_pauses() -> None:
    """At once, then 100 ms later, then half as long again each time, up to a second."""
    presence = silent()
    at = 1.0
    times: list[float] = []
    while len(times) < 12:
        if presence.wants_probe(at):
            times.append(at)
        at += 0.010
    pauses = [after - before for before, after in pairwise(times)]
    assert times[0] == 1.0
    assert pauses[0] == pytest.approx(FIRST_PROBE, abs=0.011)
    assert pauses[1] == pytest.approx(1.5 * FIRST_PROBE, abs=0.011)
    assert max(pauses) == pytest.approx(SLOWEST_PROBE, abs=0.011)
    assert not present().wants_probe(100.0)


def test_a_path_that_flaps_waits_longer_each_time() -> None:
    """0, 1, 2, 4 ... 60 s; the first death after a quiet time costs nothing again."""
    presence = present()
    now, pauses = 100.0, []
    for _ in range(9):
        presence.silence(now)
        pauses.append(presence.waits_until - now)
        presence.moved(presence.waits_until - 0.001)
        assert presence.state is State.SILENT or pauses[-1] == 0.0
        now = presence.waits_until
        presence.moved(now)
        assert presence.state is State.RETURNING
        presence.prove(now)
        now += 5.0
    assert pauses == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_PAUSE, LONGEST_PAUSE]
    now += TRUSTED + LONGEST_PAUSE
    presence.silence(now)
    assert presence.waits_until == now


def test_a_link_that_flaps_waits_too() -> None:
    """It is silent while it waits, and returns with the first progress after that."""
    presence = present()
    presence.leave(100.0)
    presence.come_back(101.0)
    presence.leave(102.0)
    presence.come_back(102.1)
    assert not presence.is_live
    states = []
    for now in (102.9, 103.1):
        presence.moved(now)
        states.append(presence.state)
    assert states == [State.SILENT, State.RETURNING]


def test_a_path_that_was_taken_down_by_hand_was_not_lost() -> None:
    """It is there as soon as it is up; the next death is the first."""
    path = present()
    for at in (10.0, 11.0, 12.0):
        path.leave(at, by_hand=True)
        path.come_back(at + 0.5)
        assert (path.state, path.deaths) == (State.PRESENT, 0)
    path.silence(13.0)
    assert path.waits_until == 13.0


def test_what_was_lost_before_a_path_was_away_is_no_silence_after() -> None:
    """It returns, and has its time."""
    path = present()
    path.moved(10.0)
    path.is_overdue(10.2, 10.0, RTT, 0.0)
    assert path.asks(10.2)
    path.leave(10.3)
    path.come_back(12.0)
    assert not path.is_overdue(12.01, 10.0, RTT, 0.0) and path.is_live


def test_a_path_that_the_peer_uses_again_is_probed_at_once() -> None:
    """However long the pauses between probes have become."""
    path = silent()
    path.wants_probe(1.0)
    assert not path.wants_probe(1.05)
    path.expect(1.06)
    assert path.wants_probe(1.06) and not path.wants_probe(1.1)
    doubtful = suspect()
    assert doubtful.asks(1.0) and not doubtful.asks(1.1)
    doubtful.expect(1.2)
    assert doubtful.asks(1.2)


def test_doubt_comes_before_silence() -> None:
    """Only of a path that is present; the one that returns is tried anyway."""
    path = present()
    path.moved(10.0)
    assert not path.is_doubtful(10.0 + RTT + DOUBT - 0.001, 10.0, RTT, 0.0)
    assert path.is_doubtful(10.0 + RTT + DOUBT + 0.001, 10.0, RTT, 0.0)
    assert not path.is_doubtful(20.0, None, RTT, 0.0)
    path.suspect(10.1)
    assert path.asks(10.1) and not path.is_doubtful(20.0, 10.0, RTT, 0.0)
    back = returning()
    assert not back.is_doubtful(20.0, 2.0, RTT, 0.0)


def test_a_path_that_begins_away_was_not_lost() -> None:
    """It is simply there when it may be used for the first time, and its first death is the first."""
    path = Presence(0.0, is_there=False)
    path.leave(0.1)
    assert (path.state, path.deaths) == (State.AWAY, 0)
    path.come_back(1.0)
    assert path.state is State.PRESENT
    path.leave(2.0)
    path.come_back(3.0)
    assert (path.state, path.deaths) == (State.RETURNING, 1)
