"""When a path may be used: every event in every state, and the clock."""

from __future__ import annotations

import pytest

from mpt.control.pathmonitor import SENDS_KEEPALIVES, Event, PathMonitor
from mpt.model import Status

OK, DOWN = Status.OK, Status.DOWN
INTERFACE, ADDRESS, MANUAL = Status.INTERFACE_DOWN, Status.ADDRESS_DOWN, Status.MANUAL_DOWN

HEARD, DEAD = Event.KEEPALIVE_HEARD, Event.DEAD_TIME_OVER
LINK_LOST, LINK_FOUND = Event.INTERFACE_LOST, Event.INTERFACE_FOUND
ADDRESS_LOST, ADDRESS_FOUND = Event.ADDRESS_LOST, Event.ADDRESS_FOUND
BY_HAND_DOWN, BY_HAND_UP = Event.OPERATOR_DOWN, Event.OPERATOR_UP
LOSSY, LOSSLESS = Event.LOSS_FOUND, Event.LOSS_GONE

# How a monitored path gets into each state, from a configured status of OK.
INTO: dict[Status, tuple[Event, ...]] = {
    OK: (),
    DOWN: (DEAD,),
    INTERFACE: (LINK_LOST,),
    ADDRESS: (ADDRESS_LOST,),
    MANUAL: (BY_HAND_DOWN,),
}

# What becomes of it by each event: with keepalives / without.
TABLE: dict[Status, dict[Event, tuple[Status, Status]]] = {
    OK: {
        HEARD: (OK, OK),
        DEAD: (DOWN, DOWN),
        LINK_LOST: (INTERFACE, INTERFACE),
        LINK_FOUND: (OK, OK),
        ADDRESS_LOST: (ADDRESS, ADDRESS),
        ADDRESS_FOUND: (OK, OK),
        BY_HAND_DOWN: (MANUAL, MANUAL),
        BY_HAND_UP: (OK, OK),
        LOSSY: (DOWN, DOWN),
        LOSSLESS: (OK, OK),
    },
    DOWN: {
        HEARD: (OK, OK),
        DEAD: (DOWN, DOWN),
        LINK_LOST: (INTERFACE, INTERFACE),
        LINK_FOUND: (DOWN, DOWN),
        ADDRESS_LOST: (ADDRESS, ADDRESS),
        ADDRESS_FOUND: (DOWN, DOWN),
        BY_HAND_DOWN: (MANUAL, MANUAL),
        BY_HAND_UP: (OK, OK),
        LOSSY: (DOWN, DOWN),
        LOSSLESS: (DOWN, DOWN),
    },
    INTERFACE: {
        HEARD: (INTERFACE, INTERFACE),
        DEAD: (INTERFACE, INTERFACE),
        LINK_LOST: (INTERFACE, INTERFACE),
        LINK_FOUND: (DOWN, OK),  # with keepalives, wait for the peer's
        ADDRESS_LOST: (INTERFACE, INTERFACE),
        ADDRESS_FOUND: (INTERFACE, INTERFACE),
        BY_HAND_DOWN: (MANUAL, MANUAL),
        BY_HAND_UP: (INTERFACE, INTERFACE),
        LOSSY: (INTERFACE, INTERFACE),
        LOSSLESS: (INTERFACE, INTERFACE),
    },
    ADDRESS: {
        HEARD: (ADDRESS, ADDRESS),
        DEAD: (ADDRESS, ADDRESS),
        LINK_LOST: (INTERFACE, INTERFACE),
        LINK_FOUND: (ADDRESS, ADDRESS),
        ADDRESS_LOST: (ADDRESS, ADDRESS),
        ADDRESS_FOUND: (DOWN, OK),
        BY_HAND_DOWN: (MANUAL, MANUAL),
        BY_HAND_UP: (ADDRESS, ADDRESS),
        LOSSY: (ADDRESS, ADDRESS),
        LOSSLESS: (ADDRESS, ADDRESS),
    },
    MANUAL: {
        HEARD: (MANUAL, MANUAL),
        DEAD: (MANUAL, MANUAL),
        LINK_LOST: (MANUAL, MANUAL),
        LINK_FOUND: (MANUAL, MANUAL),
        ADDRESS_LOST: (MANUAL, MANUAL),
        ADDRESS_FOUND: (MANUAL, MANUAL),
        BY_HAND_DOWN: (MANUAL, MANUAL),
        BY_HAND_UP: (OK, OK),
        LOSSY: (MANUAL, MANUAL),
        LOSSLESS: (MANUAL, MANUAL),
    },
}

NOW = 50.0


def monitor(*events: Event, initial: Status = OK, keepalive_time: float = 1.0, dead_time: float = 3.0) -> PathMonitor:
    """Return a path to which `events` have happened by NOW."""
    path = PathMonitor(initial, keepalive_time, dead_time, NOW)
    for event in events:
        path.event(event, NOW)
    return path


@pytest.mark.parametrize("monitored", [True, False])
@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", INTO, ids=lambda state: state.name)
def test_every_event_in_every_state(state: Status, event: Event, monitored: bool) -> None:
    """The table above says where each event leads, and an event tells whether the status has changed."""
    path = monitor(*INTO[state], keepalive_time=1.0 if monitored else 0.0)
    assert path.status is state
    expected = TABLE[state][event][0 if monitored else 1]
    assert path.event(event, NOW) is (expected is not state)
    assert path.status is expected


def test_the_table_is_whole() -> None:
    """No state and no event is forgotten; DISABLED is no state of its own."""
    assert TABLE.keys() == set(Status) - {Status.DISABLED}
    assert all(events.keys() == set(Event) for events in TABLE.values())


@pytest.mark.parametrize(
    ("configured", "status"),
    [(OK, OK), (DOWN, DOWN), (MANUAL, MANUAL), (Status.DISABLED, MANUAL), (INTERFACE, OK), (ADDRESS, OK)],
)
def test_the_configured_status(configured: Status, status: Status) -> None:
    """A path starts as configured; events tell the state of its interface."""
    assert monitor(initial=configured).status is status


def test_a_path_that_starts_down_waits_for_its_first_keepalive() -> None:
    """status = 128 in a configuration means down until the peer is heard; waiting alone changes nothing."""
    path = monitor(initial=DOWN)
    assert path.next_deadline() is None
    assert not path.check(NOW + 100, last_received=NOW + 99)
    assert path.event(HEARD, NOW + 100)
    assert path.status is OK


@pytest.mark.parametrize("lost", [(LINK_LOST, ADDRESS_LOST), (ADDRESS_LOST, LINK_LOST)])
@pytest.mark.parametrize("found", [(LINK_FOUND, ADDRESS_FOUND), (ADDRESS_FOUND, LINK_FOUND)])
def test_interface_and_address_go_and_come_in_any_order(lost: tuple[Event, ...], found: tuple[Event, ...]) -> None:
    """The path works again when both are back, and, with keepalives, the peer was heard."""
    path = monitor(*lost, found[0])
    assert path.status in (INTERFACE, ADDRESS)
    path.event(found[1], NOW)
    assert path.status is DOWN
    path.event(HEARD, NOW)
    assert path.status is OK


def test_what_the_operator_took_down_only_the_operator_revives() -> None:
    """A path down by hand stays so through a pulled cable and keepalives, and comes up as what it is then."""
    assert monitor(LINK_LOST, BY_HAND_DOWN, LINK_FOUND, HEARD).status is MANUAL
    assert monitor(LINK_LOST, BY_HAND_DOWN, LINK_FOUND, BY_HAND_UP).status is OK
    assert monitor(BY_HAND_DOWN, LINK_LOST, BY_HAND_UP).status is INTERFACE
    assert monitor(DEAD, BY_HAND_DOWN, BY_HAND_UP).status is OK


def test_a_silent_path_dies_when_the_dead_time_is_over() -> None:
    """The dead time counts from the start; the deadline is exact; woken early, nothing happens."""
    path = monitor()
    assert path.next_deadline() == NOW + 3
    assert not path.check(NOW + 2.999, last_received=0.0)
    assert path.check(NOW + 3, last_received=0.0)
    assert path.status is DOWN
    assert path.next_deadline() is None
    assert not path.check(NOW + 4, last_received=0.0)


def test_keepalives_put_the_dead_time_off() -> None:
    """Each keepalive begins the dead time anew."""
    path = monitor()
    for second in range(1, 20):
        assert not path.event(HEARD, NOW + second)
        assert path.next_deadline() == NOW + second + 3
        assert not path.check(NOW + second + 2.5, last_received=0.0)
    assert path.check(NOW + 22, last_received=0.0)


def test_data_keeps_a_living_path_alive() -> None:
    """Data counts as a life sign: a queue so full that keepalives are lost does not kill the path."""
    path = monitor()
    assert not path.check(NOW + 3, last_received=NOW + 2.5)
    assert path.next_deadline() == NOW + 5.5
    assert not path.check(NOW + 5, last_received=NOW + 1)  # older news do not shorten it
    assert path.next_deadline() == NOW + 5.5
    assert path.check(NOW + 5.5, last_received=NOW + 2.5)


def test_data_does_not_revive_a_dead_path() -> None:
    """Only a keepalive does, as it shows that the peer means this path."""
    path = monitor(DEAD)
    assert not path.check(NOW + 1, last_received=NOW + 1)
    assert path.status is DOWN
    assert path.event(HEARD, NOW + 2)
    assert path.next_deadline() == NOW + 5


@pytest.mark.parametrize(("keepalive_time", "dead_time"), [(0.0, 0.0), (0.0, 3.0), (1.0, 0.0)])
def test_without_keepalives_no_path_dies(keepalive_time: float, dead_time: float) -> None:
    """The dead time holds only while the keepalive mechanism is active (guide 2.6.3.2)."""
    path = monitor(keepalive_time=keepalive_time, dead_time=dead_time)
    assert path.next_deadline() is None
    assert not path.check(NOW + 1e6, last_received=0.0)
    assert path.status is OK


@pytest.mark.parametrize("state", [INTERFACE, ADDRESS, MANUAL, DOWN], ids=lambda state: state.name)
def test_only_a_working_path_has_a_deadline(state: Status) -> None:
    """In every other state waiting changes nothing."""
    path = monitor(*INTO[state])
    assert path.next_deadline() is None
    assert not path.check(NOW + 100, last_received=0.0)
    assert path.status is state


def test_the_dead_time_begins_anew_when_a_path_comes_up() -> None:
    """After a long outage the path has its whole dead time again, however it came up."""
    by_hand = monitor(BY_HAND_DOWN)
    by_hand.event(BY_HAND_UP, NOW + 100)
    assert by_hand.next_deadline() == NOW + 103
    by_keepalive = monitor(LINK_LOST)
    by_keepalive.event(LINK_FOUND, NOW + 100)
    by_keepalive.event(HEARD, NOW + 101)
    assert by_keepalive.next_deadline() == NOW + 104


def test_a_lossy_path_comes_back_as_what_it_is_then() -> None:
    """Loss is a fact of its own: it hides neither silence nor a cable that is out, and keepalives do not end it."""
    path = monitor(HEARD, LOSSY)
    assert (path.status, path.is_lossy) == (DOWN, True)
    assert not path.event(HEARD, NOW + 1)
    assert path.event(LOSSLESS, NOW + 2) and path.status is OK
    silent = monitor(HEARD, LOSSY)
    assert not silent.check(NOW + 3, last_received=0.0)
    assert not silent.is_lossy
    assert not silent.event(LOSSLESS, NOW + 4) and silent.status is DOWN
    unplugged = monitor(HEARD, LOSSY, LINK_LOST)
    assert unplugged.status is INTERFACE and not unplugged.is_lossy


@pytest.mark.parametrize("again", [(LINK_LOST, LINK_FOUND, HEARD), (BY_HAND_DOWN, BY_HAND_UP), (BY_HAND_UP,)])
def test_a_path_that_begins_anew_has_no_loss_yet(again: tuple[Event, ...]) -> None:
    """Another cable, or the operator, makes a new beginning."""
    assert monitor(LOSSY, *again).status is OK


@pytest.mark.parametrize("monitored", [True, False])
def test_a_path_waits_until_its_peer_was_heard(monitored: bool) -> None:
    """A keepalive or data ends the waiting, unless it came before the path began."""
    keepalive_time = 1.0 if monitored else 0.0
    path = monitor(keepalive_time=keepalive_time)
    assert path.status is OK
    assert path.is_waiting(0.0) and path.is_waiting(NOW)
    assert not path.is_waiting(NOW + 0.1)
    path.event(HEARD, NOW)
    assert not path.is_waiting(0.0)


@pytest.mark.parametrize("again", [(BY_HAND_DOWN, BY_HAND_UP), (LINK_LOST, LINK_FOUND), (ADDRESS_LOST, ADDRESS_FOUND)])
def test_a_path_that_comes_up_without_a_life_sign_waits_again(again: tuple[Event, ...]) -> None:
    """An earlier keepalive does not count."""
    path = monitor(HEARD, keepalive_time=0.0)
    for event in again:
        path.event(event, NOW + 3)
    assert path.status is OK
    assert path.is_waiting(NOW + 3)


def test_a_path_that_the_operator_switches_off_and_on_was_heard() -> None:
    """While its dead time is not over, it need not wait again."""
    assert not monitor(HEARD, BY_HAND_DOWN, BY_HAND_UP).is_waiting(0.0)


@pytest.mark.parametrize("state", [DOWN, INTERFACE, ADDRESS, MANUAL], ids=lambda state: state.name)
def test_only_a_path_that_is_ok_waits(state: Status) -> None:
    """Every other status says more than waiting."""
    assert not monitor(*INTO[state]).is_waiting(0.0)


def test_to_take_up_what_is_up_changes_nothing() -> None:
    """The path was heard already."""
    assert not monitor(HEARD, BY_HAND_UP).is_waiting(0.0)


def test_when_keepalives_are_sent() -> None:
    """They are sent while the path works and while it is dead, so that it can be revived: as the C program does."""
    assert {OK, DOWN} == SENDS_KEEPALIVES
