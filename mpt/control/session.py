"""The life of one connection's sessions: when to ask for new keys, and which keys seal (session 2 and 6).

A connection has the *current* session, which seals; an *offered* one, which the peer has begun and of which nothing has
opened yet; and *old* ones, which only open. Each row of TABLE says what every event does in one of seven states:

    STOPPED     nothing is to be done                     SENDING     the current session seals
    WAITING     no keys; the next try is to come          RENEWING    it seals; our handshake is under way
    BEGINNING   no keys; our handshake is under way       CHANGING    it seals; the peer has offered another one
    OFFERED     no keys seal; the peer has offered some

Times. The end that began a session begins the next one after RENEW_AFTER or when a path has used RENEW_NUMBERS numbers,
the other end after RENEW_AFTER_PEER. After a handshake that failed there is a pause, a longer one each time. Nothing
seals with keys older than LIFE. An old session opens for OLD_OPENS more, and until something of the new one has opened.
An offer that is not confirmed lapses after OFFER_LAPSES.

Both begin at once. The handshake of the lower public key goes on. So an end refuses the peer's handshake if its own key
is the lower one, and its own handshake was under way together with the peer's and has got an answer. In all other cases
the peer's handshake goes on, and its own one, if it is still under way, is dropped.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from mpt.control.keyexchange import Established, Failed
from mpt.wire.seal import SessionKeys

RENEW_AFTER: Final = 120.0  # s
RENEW_AFTER_PEER: Final = 150.0  # s
RENEW_NUMBERS: Final = 1 << 28
LIFE: Final = 180.0  # s
OLD_OPENS: Final = 10.0  # s
OFFER_LAPSES: Final = 10.0  # s
PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 15.0)  # s


class State(enum.Enum):
    """The states of a connection's sessions; the value is for status."""

    STOPPED = "stopped"
    WAITING = "waiting"
    BEGINNING = "beginning"
    OFFERED = "offered"
    SENDING = "sending"
    RENEWING = "renewing"
    CHANGING = "changing"


class Event(enum.Enum):
    """What happens to a connection's sessions."""

    START = enum.auto()
    STOP = enum.auto()
    DUE = enum.auto()  # it is time for a handshake of ours, and an address of the peer is known
    MADE = enum.auto()  # our handshake has brought keys
    FAILED = enum.auto()  # our handshake has failed
    ACCEPTED = enum.auto()  # a handshake of the peer has brought keys
    CONFIRMED = enum.auto()  # the first datagram of the offered session has opened
    LAPSED = enum.auto()  # nothing of the offered session has opened in time
    EXPIRED = enum.auto()  # the current session is too old to seal
    CLOSED = enum.auto()  # the peer has closed the current session
    LOST = enum.auto()  # the data path has lost all keys


class Do(enum.Enum):
    """The steps that a row of the table may ask for."""

    BEGIN = enum.auto()  # a handshake
    CANCEL = enum.auto()  # our handshake
    PAUSE = enum.auto()  # before the next try
    TAKE = enum.auto()  # the new session opens, and seals at once
    OFFER = enum.auto()  # the new session opens
    REFUSE = enum.auto()  # the new session: nobody needs it
    SWITCH = enum.auto()  # the offered session seals from now on
    DROP_OFFER = enum.auto()
    DROP_CURRENT = enum.auto()
    DROP_ALL = enum.auto()


_S, _E, _D = State, Event, Do
Row = tuple[State, tuple[Do, ...]]


# What does not concern a state leaves it as it is; a session that comes too late is refused.
TABLE: Final[dict[State, dict[Event, Row]]] = {
    _S.STOPPED: {
        _E.START: (_S.WAITING, ()),
        _E.STOP: (_S.STOPPED, ()),
        _E.DUE: (_S.STOPPED, ()),
        _E.MADE: (_S.STOPPED, (_D.REFUSE,)),
        _E.FAILED: (_S.STOPPED, ()),
        _E.ACCEPTED: (_S.STOPPED, (_D.REFUSE,)),
        _E.CONFIRMED: (_S.STOPPED, ()),
        _E.LAPSED: (_S.STOPPED, ()),
        _E.EXPIRED: (_S.STOPPED, ()),
        _E.CLOSED: (_S.STOPPED, ()),
        _E.LOST: (_S.STOPPED, ()),
    },
    _S.WAITING: {
        _E.START: (_S.WAITING, ()),
        _E.STOP: (_S.STOPPED, (_D.DROP_ALL,)),
        _E.DUE: (_S.BEGINNING, (_D.BEGIN,)),
        _E.MADE: (_S.WAITING, (_D.REFUSE,)),
        _E.FAILED: (_S.WAITING, ()),
        _E.ACCEPTED: (_S.OFFERED, (_D.OFFER,)),
        _E.CONFIRMED: (_S.WAITING, ()),
        _E.LAPSED: (_S.WAITING, ()),
        _E.EXPIRED: (_S.WAITING, ()),
        _E.CLOSED: (_S.WAITING, ()),
        _E.LOST: (_S.WAITING, (_D.DROP_ALL,)),
    },
    _S.BEGINNING: {
        _E.START: (_S.BEGINNING, ()),
        _E.STOP: (_S.STOPPED, (_D.CANCEL, _D.DROP_ALL)),
        _E.DUE: (_S.BEGINNING, ()),
        _E.MADE: (_S.SENDING, (_D.TAKE,)),
        _E.FAILED: (_S.WAITING, (_D.PAUSE,)),
        _E.ACCEPTED: (_S.OFFERED, (_D.CANCEL, _D.OFFER)),
        _E.CONFIRMED: (_S.BEGINNING, ()),
        _E.LAPSED: (_S.BEGINNING, ()),
        _E.EXPIRED: (_S.BEGINNING, ()),
        _E.CLOSED: (_S.BEGINNING, ()),
        _E.LOST: (_S.BEGINNING, (_D.DROP_ALL,)),
    },
    _S.OFFERED: {
        _E.START: (_S.OFFERED, ()),
        _E.STOP: (_S.STOPPED, (_D.DROP_ALL,)),
        _E.DUE: (_S.OFFERED, ()),
        _E.MADE: (_S.OFFERED, (_D.REFUSE,)),
        _E.FAILED: (_S.OFFERED, ()),
        _E.ACCEPTED: (_S.OFFERED, (_D.DROP_OFFER, _D.OFFER)),
        _E.CONFIRMED: (_S.SENDING, (_D.SWITCH,)),
        _E.LAPSED: (_S.WAITING, (_D.DROP_OFFER,)),
        _E.EXPIRED: (_S.OFFERED, ()),
        _E.CLOSED: (_S.OFFERED, ()),
        _E.LOST: (_S.WAITING, (_D.DROP_ALL,)),
    },
    _S.SENDING: {
        _E.START: (_S.SENDING, ()),
        _E.STOP: (_S.STOPPED, (_D.DROP_ALL,)),
        _E.DUE: (_S.RENEWING, (_D.BEGIN,)),
        _E.MADE: (_S.SENDING, (_D.REFUSE,)),
        _E.FAILED: (_S.SENDING, ()),
        _E.ACCEPTED: (_S.CHANGING, (_D.OFFER,)),
        _E.CONFIRMED: (_S.SENDING, ()),
        _E.LAPSED: (_S.SENDING, ()),
        _E.EXPIRED: (_S.WAITING, (_D.DROP_CURRENT,)),
        _E.CLOSED: (_S.WAITING, (_D.DROP_ALL, _D.PAUSE)),
        _E.LOST: (_S.WAITING, (_D.DROP_ALL,)),
    },
    _S.RENEWING: {
        _E.START: (_S.RENEWING, ()),
        _E.STOP: (_S.STOPPED, (_D.CANCEL, _D.DROP_ALL)),
        _E.DUE: (_S.RENEWING, ()),
        _E.MADE: (_S.SENDING, (_D.TAKE,)),
        _E.FAILED: (_S.SENDING, (_D.PAUSE,)),
        _E.ACCEPTED: (_S.CHANGING, (_D.CANCEL, _D.OFFER)),
        _E.CONFIRMED: (_S.RENEWING, ()),
        _E.LAPSED: (_S.RENEWING, ()),
        _E.EXPIRED: (_S.BEGINNING, (_D.DROP_CURRENT,)),
        _E.CLOSED: (_S.BEGINNING, (_D.DROP_ALL,)),
        _E.LOST: (_S.BEGINNING, (_D.DROP_ALL,)),
    },
    _S.CHANGING: {
        _E.START: (_S.CHANGING, ()),
        _E.STOP: (_S.STOPPED, (_D.DROP_ALL,)),
        _E.DUE: (_S.CHANGING, ()),
        _E.MADE: (_S.CHANGING, (_D.REFUSE,)),
        _E.FAILED: (_S.CHANGING, ()),
        _E.ACCEPTED: (_S.CHANGING, (_D.DROP_OFFER, _D.OFFER)),
        _E.CONFIRMED: (_S.SENDING, (_D.SWITCH,)),
        _E.LAPSED: (_S.SENDING, (_D.DROP_OFFER,)),
        _E.EXPIRED: (_S.OFFERED, (_D.DROP_CURRENT,)),
        _E.CLOSED: (_S.OFFERED, (_D.DROP_CURRENT,)),
        _E.LOST: (_S.WAITING, (_D.DROP_ALL,)),
    },
}


class Begin(NamedTuple):
    """Ask the peer for a session; `turn` counts the tries since the last one that brought keys."""

    turn: int


class Cancel(NamedTuple):
    """Drop our handshake."""


class Add(NamedTuple):
    """Open datagrams with these keys from now on."""

    keys: SessionKeys


@dataclass(frozen=True, slots=True)
class SendWith:
    """Seal with the session of this index of ours from now on; None: with none."""

    index: int | None


@dataclass(frozen=True, slots=True)
class End:
    """Forget the session of this index of ours, and its keys."""

    index: int


Action = Begin | Cancel | Add | SendWith | End


@dataclass(frozen=True, slots=True)
class Session:
    """A session: `index` is ours, `made` when its keys were made here, `is_ours` whether we have begun it."""

    index: int
    made: float
    is_ours: bool
    established: Established

    @property
    def renews(self) -> float:
        """Return when its renewal is due here."""
        return self.made + (RENEW_AFTER if self.is_ours else RENEW_AFTER_PEER)

    @property
    def expires(self) -> float:
        """Return when it must not seal any more."""
        return self.made + LIFE


@dataclass(frozen=True, slots=True)
class _Old:
    """A session that only opens: until `ends`, and until a datagram of the session `after` has opened."""

    index: int
    ends: float
    last: float  # whatever happens
    after: int


class Sessions:
    """The sessions of one connection; `own_key` is our public key, `now` monotonic seconds.

    Each method that tells something returns the actions that follow, in order.
    """

    def __init__(self, own_key: bytes, now: float) -> None:
        self.state = State.STOPPED
        self.since = now  # of the state
        self.current: Session | None = None
        self.offered: Session | None = None
        self.failure: Failed | None = None  # of the last try; None: it has brought keys, or there was none
        self.has_expired = False  # a session could not be renewed in time, and there was none since
        self._own_key = own_key
        self._old: list[_Old] = []
        self._opened: set[int] = set()  # sessions of which something has opened
        self._turn = 0
        self._begin_at = now
        self._new: Established | None = None  # what MADE or ACCEPTED is about

    # ---- events -------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """Begin as soon as there is an address of the peer; accept what the peer begins."""
        self._begin_at = now
        return self._event(Event.START, now)

    def stop(self, now: float) -> list[Action]:
        """End everything."""
        return self._event(Event.STOP, now)

    def accepts(self, peer_key: bytes, began: float, is_answered: bool) -> bool:
        """Return whether a handshake of the peer, of which we have heard first at `began`, may bring keys now.

        `is_answered`: our own handshake, if there is one, has got an answer.
        """
        if self.state is State.STOPPED:
            return False
        under_way = self.state in (State.BEGINNING, State.RENEWING) and is_answered
        current = self.current
        just_made = current is not None and current.is_ours and began < current.made
        return not (self._own_key < peer_key and (under_way or just_made))

    def established(self, established: Established, now: float) -> list[Action]:
        """Tell that a handshake has brought keys."""
        self._new = established
        actions = self._event(Event.MADE if established.is_initiator else Event.ACCEPTED, now)
        self._new = None
        return actions

    def failed(self, failed: Failed, now: float) -> list[Action]:
        """Tell that our handshake has failed."""
        if self.state in (State.BEGINNING, State.RENEWING):
            self.failure = failed
        return self._event(Event.FAILED, now)

    def opened(self, index: int, now: float) -> list[Action]:
        """Tell that the first datagram of a session has opened."""
        is_offered = self.offered is not None and index == self.offered.index
        if is_offered or (self.current is not None and index == self.current.index):
            self._opened.add(index)
        return (self._event(Event.CONFIRMED, now) if is_offered else []) + self._end_old(now)

    def closed(self, index: int, now: float) -> list[Action]:
        """Tell that the peer has closed a session."""
        if self.current is not None and index == self.current.index:
            return self._event(Event.CLOSED, now)
        if self.offered is not None and index == self.offered.index:
            return self._event(Event.LAPSED, now)
        return self._drop_old(index)

    def lost(self, now: float) -> list[Action]:
        """Tell that the data path was made anew, without any keys."""
        self._begin_at = now
        return self._event(Event.LOST, now)

    def numbers_used(self, largest: int, now: float) -> list[Action]:
        """Tell the largest number that a path has used with the current session."""
        if largest >= RENEW_NUMBERS and self.current is not None and self._begin_at > now and not self._turn:
            self._begin_at = now
        return []

    def silent(self, now: float) -> list[Action]:
        """Tell that the peer does not answer over any path: it may have lost its keys."""
        if self.state is State.SENDING and not self._turn:
            self._begin_at = min(self._begin_at, now)
        return []

    def slept(self, seconds: float) -> None:
        """Tell that the machine has slept, so that `now` has not moved for so long: keys are older than they seem."""
        self.current, self.offered = (
            replace(each, made=each.made - seconds) if each is not None else None
            for each in (self.current, self.offered)
        )
        self._old = [replace(each, ends=each.ends - seconds, last=each.last - seconds) for each in self._old]
        self._begin_at -= seconds

    def deadline_reached(self, now: float, may_begin: bool) -> list[Action]:
        """Do what is due; `may_begin`: an address of the peer is known."""
        actions = self._end_old(now)
        if self.offered is not None and now >= self.offered.made + OFFER_LAPSES:
            actions += self._event(Event.LAPSED, now)
        if self.current is not None and now >= self.current.expires:
            self.has_expired = True
            return actions + self._event(Event.EXPIRED, now)  # where the peer was found does not count any more
        if may_begin and now >= self._begin_at:
            actions += self._event(Event.DUE, now)
        return actions

    def next_deadline(self, may_begin: bool) -> float | None:
        """Return when `deadline_reached` has something to do; None: nothing changes by waiting."""
        times = [old.last if old.after not in self._opened else old.ends for old in self._old]
        if self.offered is not None:
            times.append(self.offered.made + OFFER_LAPSES)
        if self.current is not None:
            times.append(self.current.expires)
        if may_begin and self.state in (State.WAITING, State.SENDING):
            times.append(self._begin_at)
        return min(times, default=None)

    # ---- the table ----------------------------------------------------------------------------------------------

    def _event(self, event: Event, now: float) -> list[Action]:
        before = self.state
        self.state, steps = TABLE[before][event]
        if self.state is not before:
            self.since = now
        return [action for step in steps for action in self._do(step, now)]

    def _do(self, step: Do, now: float) -> list[Action]:
        match step:
            case Do.BEGIN:
                self._turn += 1
                return [Begin(self._turn - 1)]
            case Do.CANCEL:
                return [Cancel()]
            case Do.PAUSE:
                self._begin_at = now + PAUSES[min(max(self._turn - 1, 0), len(PAUSES) - 1)]
                return []
            case Do.TAKE:
                session, add = self._enter(now)
                return [*add, *self._seal_with(session, now)]
            case Do.OFFER:
                self.offered, add = self._enter(now)
                return add
            case Do.REFUSE:
                if self._new is None:
                    return []
                self._new.keys.wipe()
                return [End(self._new.keys.index)]
            case Do.SWITCH:
                offered, self.offered = self.offered, None
                return self._seal_with(offered, now) if offered is not None else []
            case Do.DROP_OFFER:
                offered, self.offered = self.offered, None
                return self._end(offered)
            case Do.DROP_CURRENT:
                current, self.current = self.current, None
                return [SendWith(None), *self._end(current)] if current is not None else []
            case Do.DROP_ALL:
                return self._drop_all()

    def _enter(self, now: float) -> tuple[Session, list[Action]]:
        """Return the session that a handshake has brought, and what makes it open datagrams."""
        new = self._new
        assert new is not None, "MADE and ACCEPTED come from established()"
        return Session(new.keys.index, now, new.is_initiator, new), [Add(new.keys)]

    def _seal_with(self, session: Session, now: float) -> list[Action]:
        """Make `session` the current one; the one before only opens."""
        before, self.current = self.current, session
        if before is not None:
            self._old.append(_Old(before.index, now + OLD_OPENS, before.expires + OLD_OPENS, session.index))
        self._turn = 0
        self._begin_at = session.renews
        self.failure = None
        self.has_expired = False
        return [SendWith(session.index), *self._end_old(now)]

    def _end(self, session: Session | None) -> list[Action]:
        if session is None:
            return []
        self._opened.discard(session.index)
        return [End(session.index)]

    def _end_old(self, now: float) -> list[Action]:
        """End the old sessions that are over."""
        over = [old.index for old in self._old if now >= old.last or (now >= old.ends and old.after in self._opened)]
        return [action for index in over for action in self._drop_old(index)]

    def _drop_old(self, index: int) -> list[Action]:
        kept = [old for old in self._old if old.index != index]
        if len(kept) == len(self._old):
            return []
        self._old = kept
        self._opened.discard(index)
        return [End(index)]

    def _drop_all(self) -> list[Action]:
        actions: list[Action] = [SendWith(None)] if self.current is not None else []
        sessions, self.current, self.offered = (self.current, self.offered), None, None
        actions += [action for session in sessions for action in self._end(session)]
        return actions + [action for old in list(self._old) for action in self._drop_old(old.index)]
