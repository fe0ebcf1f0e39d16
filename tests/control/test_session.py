"""The life of sessions: every state with every event, the times, and two ends that always come to agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from ipaddress import IPv4Address
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.control.keyexchange import Established, Failed, Failure, Place
from mpt.control.session import (
    LIFE,
    OFFER_LAPSES,
    OLD_OPENS,
    PAUSES,
    RENEW_AFTER,
    RENEW_AFTER_PEER,
    RENEW_NUMBERS,
    TABLE,
    Action,
    Add,
    Begin,
    Cancel,
    Do,
    End,
    Event,
    SendWith,
    Sessions,
    State,
)
from mpt.wire.hello import Hello
from mpt.wire.seal import Cipher, SessionKeys

LOW, HIGH = b"\1" * 32, b"\2" * 32
TUNNEL = (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))
PLACE = Place(0, ("192.0.2.1", 1))
HAS_CURRENT = {State.SENDING, State.RENEWING, State.CHANGING}
HAS_OFFER = {State.OFFERED, State.CHANGING}
HAS_BEGUN = {State.BEGINNING, State.RENEWING}


def keys(index: int) -> SessionKeys:
    return SessionKeys(
        index, index + 1000, Cipher.AES_128_GCM, bytearray(32), bytearray(12), bytearray(32), bytearray(12)
    )


def made(index: int, is_ours: bool, began: float = 0.0) -> Established:
    hello = Hello(TUNNEL, (Cipher.AES_128_GCM,))
    return Established("con", keys(index), hello, HIGH, "x25519", PLACE, is_ours, began, Cipher.AES_128_GCM)


def failed() -> Failed:
    return Failed("con", Failure.NO_ANSWER, None, PLACE, True)


def started(now: float = 0.0) -> Sessions:
    sessions = Sessions(LOW, now)
    sessions.start(now)
    return sessions


def sending(is_ours: bool = True) -> Sessions:
    """Sessions at 0 s, whose session 1 seals."""
    sessions = started()
    if is_ours:
        sessions.deadline_reached(0.0, True)
    sessions.established(made(1, is_ours), 0.0)
    sessions.opened(1, 0.0)
    assert sessions.state is State.SENDING
    return sessions


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_the_table_is_total_and_consistent(state: State, event: Event) -> None:
    """Every event in every state: what the steps do is what the next state says."""
    after, steps = TABLE[state][event]
    assert TABLE[state].keys() == set(Event) and TABLE.keys() == set(State)
    current, offer, begun = state in HAS_CURRENT, state in HAS_OFFER, state in HAS_BEGUN
    for step in steps:
        match step:
            case Do.BEGIN:
                assert not begun and not offer, "one handshake at a time, and none beside an offer"
                begun = True
            case Do.CANCEL:
                assert begun
                begun = False
            case Do.TAKE:
                assert begun and event is Event.MADE
                begun, current = False, True
            case Do.OFFER:
                assert not offer and not begun and event is Event.ACCEPTED
                offer = True
            case Do.SWITCH:
                assert offer and event is Event.CONFIRMED
                offer, current = False, True
            case Do.DROP_OFFER:
                assert offer
                offer = False
            case Do.DROP_CURRENT:
                assert current
                current = False
            case Do.DROP_ALL:
                current = offer = False
            case Do.REFUSE:
                assert event in (Event.MADE, Event.ACCEPTED)
            case Do.PAUSE:
                assert event in (Event.FAILED, Event.CLOSED)
    if event is Event.FAILED:
        begun = False
    assert (current, offer, begun) == (after in HAS_CURRENT, after in HAS_OFFER, after in HAS_BEGUN)
    assert event not in (Event.MADE, Event.ACCEPTED) or {Do.TAKE, Do.OFFER, Do.REFUSE} & set(steps), "keys go somewhere"


def test_the_initiator_uses_new_keys_at_once() -> None:
    sessions = started(5.0)
    assert sessions.deadline_reached(5.0, False) == [] and sessions.next_deadline(False) is None
    assert sessions.deadline_reached(5.0, True) == [Begin(0)]
    established = made(1, True)
    assert sessions.established(established, 5.1) == [Add(established.keys), SendWith(1)]
    assert sessions.state is State.SENDING


def test_the_responder_uses_new_keys_when_a_datagram_has_opened() -> None:
    """It drops what it had begun itself; an offer of which nothing opens lapses."""
    sessions = started()
    assert sessions.deadline_reached(0.0, True) == [Begin(0)]
    established = made(1, False)
    assert sessions.established(established, 0.1) == [Cancel(), Add(established.keys)]
    assert sessions.opened(1, 0.2) == [SendWith(1)]
    renewed = made(2, False)
    assert sessions.established(renewed, 130.0) == [Add(renewed.keys)] and sessions.current is not None
    assert sessions.deadline_reached(130.0 + OFFER_LAPSES, False) == [End(2)]
    assert sessions.state is State.SENDING and sessions.current.index == 1


@pytest.mark.parametrize(("is_ours", "at"), [(True, RENEW_AFTER), (False, RENEW_AFTER_PEER)])
def test_new_keys_are_asked_for_in_time(is_ours: bool, at: float) -> None:
    """By the initiator, 30 s later by the responder, if it knows an address."""
    sessions = sending(is_ours)
    assert sessions.next_deadline(True) == at and sessions.deadline_reached(at - 0.1, True) == []
    assert sessions.deadline_reached(at, False) == []
    assert sessions.deadline_reached(at, True) == [Begin(0)]


def test_new_keys_are_asked_for_before_the_numbers_run_out() -> None:
    sessions = sending()
    sessions.numbers_used(RENEW_NUMBERS - 1, 10.0)
    assert sessions.deadline_reached(10.0, True) == []
    sessions.numbers_used(RENEW_NUMBERS, 10.0)
    assert sessions.next_deadline(True) == 10.0 and sessions.deadline_reached(10.0, True) == [Begin(0)]


def test_old_keys_open_for_a_while_and_until_something_new_has_opened() -> None:
    sessions = sending()
    sessions.deadline_reached(RENEW_AFTER, True)
    established = made(2, True)
    assert sessions.established(established, 121.0) == [Add(established.keys), SendWith(2)]
    assert sessions.deadline_reached(121.0 + OLD_OPENS, False) == []
    assert sessions.opened(2, 140.0) == [End(1)]

    sessions = sending()
    sessions.deadline_reached(RENEW_AFTER, True)
    sessions.established(made(2, True), 121.0)
    assert sessions.opened(2, 121.1) == []
    assert sessions.next_deadline(False) == 121.0 + OLD_OPENS
    assert sessions.deadline_reached(121.0 + OLD_OPENS, False) == [End(1)]


def test_old_keys_end_in_any_case() -> None:
    """If nothing of the new session ever opens, at the latest when the peer may no longer send with the old one."""
    sessions = sending()
    sessions.deadline_reached(RENEW_AFTER, True)
    sessions.established(made(2, True), 121.0)
    assert sessions.deadline_reached(LIFE + OLD_OPENS, False) == [End(1)]


def test_nothing_is_sent_with_keys_that_are_too_old() -> None:
    """The handshake that is under way goes on; tries go on with growing pauses."""
    sessions = sending()
    assert sessions.deadline_reached(RENEW_AFTER, True) == [Begin(0)]
    assert sessions.deadline_reached(LIFE, True) == [SendWith(None), End(1)]
    assert sessions.state is State.BEGINNING and sessions.has_expired
    now, pauses = LIFE, []
    for turn in range(1, 8):
        assert sessions.failed(failed(), now) == [] and sessions.failure is not None
        again = sessions.next_deadline(True)
        assert again is not None
        pauses.append(again - now)
        now = again
        assert sessions.deadline_reached(now, True) == [Begin(turn)]
    assert pauses == [*PAUSES, PAUSES[-1], PAUSES[-1]]
    sessions.established(made(9, True), now)
    assert not sessions.has_expired and sessions.failure is None


def test_a_late_look_asks_nobody_where_the_expired_keys_have_led() -> None:
    """A process that was stopped finds renewal and end due at once: the end comes first, then it is looked anew whether
    an address of the peer is known."""
    sessions = sending()
    assert sessions.deadline_reached(LIFE + 20.0, True) == [SendWith(None), End(1)]
    assert sessions.next_deadline(False) is None and sessions.deadline_reached(LIFE + 20.0, False) == []
    assert sessions.deadline_reached(LIFE + 20.0, True) == [Begin(0)]


def test_a_silent_peer_is_asked_for_new_keys_at_once() -> None:
    """It may have been started again; after a try without success the pauses decide."""
    sessions = sending()
    sessions.silent(20.0)
    assert sessions.deadline_reached(20.0, True) == [Begin(0)]
    sessions.failed(failed(), 30.0)
    sessions.silent(30.1)
    assert sessions.deadline_reached(30.1, True) == []
    assert sessions.deadline_reached(31.0, True) == [Begin(1)]


def test_a_peer_that_was_started_again_is_believed_at_once() -> None:
    """Its new session replaces the current one as soon as it is confirmed, and nothing before."""
    sessions = sending()
    assert sessions.accepts(HIGH, began=0.5, is_answered=False)
    established = made(2, False, began=0.5)
    assert sessions.established(established, 0.6) == [Add(established.keys)]
    assert sessions.opened(2, 0.7) == [SendWith(2)]


def test_the_peer_closes_a_session() -> None:
    """All is forgotten, and asked for anew after a pause; an offer or an old session ends alone."""
    sessions = sending()
    assert sessions.closed(1, 5.0) == [SendWith(None), End(1)]
    assert sessions.deadline_reached(5.5, True) == [] and sessions.deadline_reached(6.0, True) == [Begin(0)]

    sessions = sending()
    sessions.established(made(2, False, 3.0), 3.1)
    assert sessions.closed(2, 4.0) == [End(2)] and sessions.state is State.SENDING
    assert sessions.closed(77, 4.0) == []


def test_stop_and_a_lost_data_path_end_everything() -> None:
    sessions = sending()
    sessions.deadline_reached(RENEW_AFTER, True)
    assert sessions.stop(121.0) == [Cancel(), SendWith(None), End(1)]
    assert sessions.next_deadline(True) is None and not sessions.accepts(HIGH, 130.0, False)
    late = made(3, True)
    assert sessions.established(late, 122.0) == [End(3)] and late.keys.is_wiped

    sessions = sending()
    assert sessions.lost(10.0) == [SendWith(None), End(1)]
    assert sessions.deadline_reached(10.0, True) == [Begin(0)]


@pytest.mark.parametrize(("own", "peer", "goes_on"), [(LOW, HIGH, False), (HIGH, LOW, True)])
def test_of_two_handshakes_at_once_the_lower_key_goes_on(own: bytes, peer: bytes, goes_on: bool) -> None:
    """While ours is under way and answered, and when ours has just brought keys; without an answer theirs goes on."""
    sessions = Sessions(own, 0.0)
    sessions.start(0.0)
    sessions.deadline_reached(0.0, True)
    assert sessions.accepts(peer, 0.1, is_answered=True) is goes_on
    assert sessions.accepts(peer, 0.1, is_answered=False)
    sessions.established(made(1, True), 0.2)
    assert sessions.accepts(peer, 0.1, is_answered=False) is goes_on
    assert sessions.accepts(peer, 0.3, is_answered=False)


# ---- two ends ---------------------------------------------------------------------------------------------------


@dataclass
class Side:
    """One end as the daemon drives it: what it opens, with what it seals, and its handshake (0: none)."""

    own: bytes
    peer: bytes
    sessions: Sessions = field(init=False)
    opens: set[int] = field(default_factory=set)
    seals: int | None = None
    asking: int = 0
    answered: bool = False

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.own, 0.0)


class Two:
    """Two ends and the way between them, of `way` seconds; a fault is a method. Time goes from event to event."""

    def __init__(self, way: float) -> None:
        self.ends = [Side(LOW, HIGH), Side(HIGH, LOW)]
        self.way = way
        self.now = 0.0
        self.agreed_from = math.inf  # from when on nothing may be sealed in vain
        self._order = count()
        self._numbers = count(1)
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def later(self, seconds: float, event: Callable[[], None]) -> None:
        heappush(self._events, (self.now + seconds, next(self._order), event))

    def start(self, which: int) -> None:
        """An end begins, or begins anew."""
        self.ends[which] = Side(*((LOW, HIGH) if which == 0 else (HIGH, LOW)))
        self.act(which, self.ends[which].sessions.start(self.now))

    def silent(self) -> None:
        for end in self.ends:
            end.sessions.silent(self.now)

    def lost(self) -> None:
        for which, end in enumerate(self.ends):
            self.act(which, end.sessions.lost(self.now))

    def keep_alive(self, which: int) -> None:
        """Seal a keepalive, every two seconds."""
        index = self.ends[which].seals
        if index is not None:
            self.later(self.way, partial(self._arrive, 1 - which, index))
        self.later(2.0, partial(self.keep_alive, which))

    def run(self, until: float) -> None:
        while self.now < until:
            for which in (0, 1):
                self.act(which, self.ends[which].sessions.deadline_reached(self.now, True))
            due = [end.sessions.next_deadline(True) or until for end in self.ends]
            upcoming = self._events[0][0] if self._events else until
            self.now = max(self.now, min(*due, upcoming, until))
            if self._events and self._events[0][0] <= self.now:
                heappop(self._events)[2]()

    def act(self, which: int, actions: list[Action]) -> None:
        end = self.ends[which]
        for action in actions:
            match action:
                case Begin():
                    self._ask(which, next(self._numbers))
                case Cancel():
                    end.asking = 0
                case Add(given):
                    end.opens.add(given.index)
                case SendWith(index):
                    end.seals = index
                    if index is not None:
                        self.later(self.way, partial(self._arrive, 1 - which, index))
                case End(index):
                    end.opens.discard(index)
        assert end.seals is None or end.seals in end.opens

    def _arrive(self, which: int, index: int) -> None:
        end = self.ends[which]
        if index in end.opens:
            self.act(which, end.sessions.opened(index, self.now))
        assert index in end.opens or self.now < self.agreed_from, f"{self.now}: sealed in vain"

    def _ask(self, which: int, number: int) -> None:
        """The four flights of a handshake; both ends call its session by the number."""
        end, way = self.ends[which], self.way
        end.asking, end.answered = number, False
        began = self.now + way

        def answered() -> None:
            end.answered = end.answered or end.asking == number

        def proven() -> None:
            peer = self.ends[1 - which]
            if end.asking == number and peer.sessions.accepts(end.own, began, peer.asking > 0 and peer.answered):
                self.act(1 - which, peer.sessions.established(made(number, False, began), self.now))
                self.later(way, done)

        def done() -> None:
            if end.asking == number and self.ends[which] is end:
                end.asking = 0
                self.act(which, end.sessions.established(made(number, True, began), self.now))

        def given_up() -> None:
            if end.asking == number and self.ends[which] is end:
                end.asking = 0
                self.act(which, end.sessions.failed(failed(), self.now))

        self.later(2 * way, answered)
        self.later(3 * way, proven)
        self.later(10.0, given_up)


@given(
    st.floats(0.001, 2.0),
    st.floats(0.0, 8.0),
    st.lists(st.tuples(st.sampled_from(["lost", "silent", "start one", "start two"]), st.floats(0, 90)), max_size=6),
)
def test_two_ends_agree_whatever_happens(way: float, offset: float, faults: list[tuple[str, float]]) -> None:
    """A minute after the last fault each end opens what the other one seals, and it stays so over renewals."""
    two = Two(way)
    events = {
        "lost": two.lost,
        "silent": two.silent,
        "start one": lambda: two.start(0),
        "start two": lambda: two.start(1),
    }
    two.start(0)
    two.later(offset, lambda: two.start(1))
    two.later(0.0, lambda: two.keep_alive(0))
    two.later(0.0, lambda: two.keep_alive(1))
    two.run(until=offset + 0.001)
    for fault, pause in faults:
        two.run(until=two.now + pause)
        events[fault]()
    two.agreed_from = two.now + 60.0
    two.run(until=two.now + 60.0)
    for _ in range(7):
        assert all(end.seals is not None for end in two.ends)
        two.run(until=two.now + 45.0)
