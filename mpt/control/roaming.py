"""Decides where the peer of a sealed path is, when its datagrams begin to come from elsewhere (session 5).

A *place* is one of our sockets and an address behind it, as one hashable value; nothing here looks inside. The data
path tells when the newest number of a path came from another place than the present one (`moved`). A place is *proven*
by the answer to a challenge that was sent there: the peer receives at it. What must hold:

- A place is used only when it is proven, and the newest number came from it then or later, or else the present place
  does not answer its own challenges. So nobody takes a path by sending, and among places at which the peer receives,
  the newest genuine datagram decides.
- Before it is used, a place gets at most three times the octets that came from it.
- An answer counts wherever it comes from: whoever is first with a copy of it only brings it sooner.
- A copy that comes too late (`copied`) may be the genuine datagram. So its place is challenged, too, but only while
  there is trouble: when the path has just moved, or when the peer asks again and again for signs of life that it gets.
  At all other times copies are met with silence, as everything that may have been recorded.
- A challenge is a keyed hash of path, place and time, so nothing has to be kept for it. A flood of places may push a
  genuine one out of the few that are remembered; its answer counts all the same.

What this prevents, and what it cannot:

- *Somebody copies datagrams and forwards them from elsewhere, first each time.* He cannot read the challenge, and the
  peer does not get it. Nothing changes, however often he does it, and wherever the peer goes meanwhile.
- *The same from the peer's old address, or with it as a forged source, after the peer has moved.* Likewise. If he began
  before it moved, the peer notices that it gets no answer, and the path follows within seconds.
- *Somebody relays in both directions, but is slower than the line.* He may get the path for one round trip each time
  that he is first once: the place that was left is challenged again at once if it had answered, and the peer's answer
  to that brings the path back.
- *Somebody relays in both directions and is always faster than the line.* Nobody can tell him from a new NAT. He has
  become a router on the way: he may delay and drop, as every router may. He reads nothing and forges nothing. One
  genuine datagram that comes before its copy begins the way back, of one round trip.
- *Somebody on the line itself* may drop everything, whatever the endpoints do.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from hashlib import blake2s
from hmac import compare_digest
from typing import Final

from mpt.wire import message, seal

Place = Hashable  # a socket of ours, and an address behind it

PROOF_TIME: Final = 1.0  # s for which an answer proves a place
SHOWN_TIME: Final = 10.0  # s for which a handshake proves one, for a path whose peer was nowhere yet
SLOT: Final = 10.0  # s; a challenge may be answered in its slot and in the next one
FIRST_PAUSE: Final = 0.1  # s until a challenge is sent again; doubled each time
LONGEST_PAUSE: Final = 2.0  # s
TRIES: Final = 3  # challenges without another datagram from the place
TRIAL: Final = 0.5  # s in which the present place may answer, when another one has
TRIAL_PAUSE: Final = 0.15  # s between its challenges
TROUBLE: Final = 3.0  # s in which late copies are looked at
ASKS: Final = 3  # by the peer, within `TROUBLE`, that mean that it does not hear us
CREDIT: Final = 3  # octets sent to a place for each that came from there (RFC 9000 section 8.1)
PLACES: Final = 8  # that are remembered for a path
SMALLEST: Final = seal.OVERHEAD + 1 + message.NONCE_LENGTH  # octets of a datagram with a challenge


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send the `message` of `path` to `place`."""

    path: Hashable
    place: Place
    message: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """Send the `message` of `path` to `place`: the response to a challenge that came from there."""

    path: Hashable
    place: Place
    message: bytes


@dataclass(frozen=True, slots=True)
class Use:
    """From now on the peer of `path` is at `place`; its measures begin anew."""

    path: Hashable
    place: Place


Action = Challenge | Answer | Use


@dataclass(slots=True)
class _Candidate:
    """A place that is not used: what it may still get in octets, and when it did what."""

    credit: int = 0
    tries: int = 0
    pause: float = FIRST_PAUSE  # after the next challenge
    due: float = 0.0  # of the next challenge
    heard: float | None = None  # when anything came from there
    moved: float | None = None  # when the newest number came from there
    proven: float | None = None  # when a challenge was answered from there

    @property
    def wins(self) -> bool:
        """Return whether the place was proven, and then, or together with that, the newest number came from it."""
        if self.proven is None or self.moved is None:
            return False
        return 0.0 <= self.moved - self.proven <= PROOF_TIME

    @property
    def is_open(self) -> bool:
        """Return whether the place is still asked without another datagram from there."""
        return 0 < self.tries < TRIES and self.credit >= SMALLEST and self.proven is None

    def note(self, size: int, now: float) -> None:
        """Note a datagram of `size` octets from there, which has the newest number."""
        self.note_copy(size, now)
        self.moved = now

    def note_copy(self, size: int, now: float) -> None:
        """Note a datagram of `size` octets from there."""
        if self.heard is not None and now - self.heard > SLOT:
            self.pause = FIRST_PAUSE
        if self.proven is not None and now - self.proven > PROOF_TIME:
            self.proven = None
        self.heard = now
        self.credit += CREDIT * size
        self.tries = min(self.tries, 1)


@dataclass(slots=True)
class _Path:
    place: Place | None = None
    due: float = 0.0  # of the next challenge to `place`
    answered: float | None = None  # when `place` has answered last
    checked: Place | None = None  # the place that was left although it answers
    trouble: float = -TROUBLE  # when it was noticed last
    asks: list[float] = field(default_factory=list)  # when the peer has asked for a sign of life, lately
    rival: Place | None = None  # the place that is proven and will be used, unless the present one answers
    verdict: float = 0.0  # when
    candidates: OrderedDict[Place, _Candidate] = field(default_factory=OrderedDict)  # the latest at the end


class Roaming:
    """The places of all paths of one connection. `secret`: random octets, 16 or more; `now`: monotonic seconds."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._paths: dict[Hashable, _Path] = {}
        self._shown: OrderedDict[Place, float] = OrderedDict()

    def place(self, path: Hashable) -> Place | None:
        """Return where the peer of `path` is; None while nobody knows."""
        state = self._paths.get(path)
        return state.place if state is not None else None

    def answered(self, path: Hashable) -> float | None:
        """Return when the peer has last answered a challenge to the present place of `path`."""
        state = self._paths.get(path)
        return state.answered if state is not None else None

    def set(self, path: Hashable, place: Place | None) -> None:
        """Note that the peer of `path` is at `place` without a question: by configuration, or a socket of ours is new.

        None: it may be anywhere.
        """
        state = self._paths.setdefault(path, _Path())
        if state.place != place:
            self._paths[path] = _Path(place)

    def forget(self, path: Hashable) -> None:
        """Note that `path` is gone."""
        self._paths.pop(path, None)

    def shown(self, place: Place, now: float) -> None:
        """Note that a handshake has shown that the peer receives at `place`: its first path needs no challenge."""
        self._shown[place] = now
        self._shown.move_to_end(place)
        if len(self._shown) > PLACES:
            self._shown.popitem(last=False)

    def moved(self, path: Hashable, place: Place, size: int, now: float) -> list[Action]:
        """Note that the newest number of `path` came from `place`, in a datagram of `size` octets."""
        state = self._paths.setdefault(path, _Path())
        if place == state.place:
            return []
        state.trouble = now
        if state.place is None and now - self._shown.get(place, -SHOWN_TIME) < SHOWN_TIME:
            return self._use(path, state, place, now)
        candidate = _candidate(state, place)
        candidate.note(size, now)
        if candidate.wins:
            return self._use(path, state, place, now)
        return self._ask_both(path, state, place, candidate, size, now)

    def asked(self, path: Hashable, now: float) -> None:
        """Note that the peer has asked for a sign of life over `path`. If it goes on, it does not hear the answers."""
        state = self._paths.setdefault(path, _Path())
        state.asks = [*(at for at in state.asks[1 - ASKS :] if now - at < TROUBLE), now]
        if len(state.asks) == ASKS:
            state.trouble = now

    def copied(self, path: Hashable, place: Place, size: int, now: float) -> list[Action]:
        """Note that a copy of a datagram of `path` came late from `place`, in `size` octets; it may be the original."""
        state = self._paths.get(path)
        if state is None or now - state.trouble >= TROUBLE or place == state.place:
            return []
        candidate = _candidate(state, place)
        candidate.note_copy(size, now)
        return self._ask_both(path, state, place, candidate, SMALLEST, now)

    def challenged(self, path: Hashable, place: Place, octets: bytes, size: int) -> Answer:
        """Return the answer to a challenge with these 8 `octets`, which came from `place` in a datagram of `size`."""
        return Answer(path, place, message.Response(octets, size).encode())

    def responded(self, path: Hashable, place: Place, octets: bytes, now: float) -> list[Action]:
        """Note that a response with these 8 `octets` came from `place`. One that answers no challenge is ignored."""
        state = self._paths.get(path)
        if state is None:
            return []
        places = [place, *state.candidates] if state.place is None else [state.place, place, *state.candidates]
        proven = next((each for each in places if self._is_ours(path, each, octets, now)), None)
        if proven is None:
            return []
        if proven == state.place:
            state.answered, state.rival = now, None
            return []
        candidate = _candidate(state, proven)
        candidate.proven = now
        if candidate.wins or state.place is None:
            return self._use(path, state, proven, now)
        if state.rival is None:
            state.rival, state.verdict, state.due = proven, now + TRIAL, now + TRIAL_PAUSE
            return [self._question(path, state.place, SMALLEST, now)]
        return []

    def deadline_reached(self, now: float) -> list[Action]:
        """Return the challenges that are sent again: they, or their answers, may have been lost."""
        actions: list[Action] = []
        for path, state in list(self._paths.items()):
            if state.rival is not None and state.place is not None:
                if now >= state.verdict:
                    actions += self._use(path, state, state.rival, now)
                    state = self._paths[path]
                elif now >= state.due:
                    state.due = now + TRIAL_PAUSE
                    actions.append(self._question(path, state.place, SMALLEST, now))
            for place, candidate in state.candidates.items():
                if candidate.is_open and now >= candidate.due:
                    actions += self._challenge(path, place, candidate, SMALLEST, now)
        return actions

    def next_deadline(self) -> float | None:
        """Return when to call `deadline_reached` next; None while nothing is to be sent again."""
        states = self._paths.values()
        challenges = [each.due for state in states for each in state.candidates.values() if each.is_open]
        trials = [min(state.due, state.verdict) for state in states if state.rival is not None]
        return min(challenges + trials, default=None)

    def _ask_both(
        self, path: Hashable, state: _Path, place: Place, candidate: _Candidate, size: int, now: float
    ) -> list[Action]:
        """Challenge a candidate, and the present place."""
        actions: list[Action] = []
        if now >= candidate.due:
            actions += self._challenge(path, place, candidate, size, now)
        if state.place is not None and now >= state.due:
            state.due = now + FIRST_PAUSE
            actions.append(self._question(path, state.place, SMALLEST, now))
        return actions

    def _challenge(self, path: Hashable, place: Place, candidate: _Candidate, size: int, now: float) -> list[Action]:
        """Challenge a candidate. Only the first time in the size of what caused it: the way there may be narrower."""
        size = max(SMALLEST, size if candidate.pause == FIRST_PAUSE else 0)
        candidate.tries += 1
        if candidate.credit < size:
            return []
        candidate.credit -= size
        candidate.due = now + candidate.pause
        candidate.pause = min(2 * candidate.pause, LONGEST_PAUSE)
        return [self._question(path, place, size, now)]

    def _use(self, path: Hashable, state: _Path, place: Place, now: float) -> list[Action]:
        """Leave the present place. If it has just answered, ask it once more, unless the path has come back by that."""
        left = state.place
        still_answers = state.answered is not None and now - state.answered <= PROOF_TIME and state.checked != place
        fresh = self._paths[path] = _Path(place, candidates=state.candidates, trouble=state.trouble)
        fresh.candidates.pop(place, None)
        actions: list[Action] = [Use(path, place)]
        if left is not None and still_answers:
            fresh.checked = left
            actions.append(self._question(path, left, SMALLEST, now))
        return actions

    def _question(self, path: Hashable, place: Place, size: int, now: float) -> Challenge:
        octets = self._octets(path, place, int(now // SLOT))
        return Challenge(path, place, message.Challenge(octets, size).encode())

    def _is_ours(self, path: Hashable, place: Place, octets: bytes, now: float) -> bool:
        slot = int(now // SLOT)
        return any(compare_digest(octets, self._octets(path, place, each)) for each in (slot, slot - 1))

    def _octets(self, path: Hashable, place: Place, slot: int) -> bytes:
        text = f"{hash((path, place))} {slot}".encode()
        return blake2s(text, key=self._secret[:32], digest_size=message.NONCE_LENGTH).digest()


def _candidate(state: _Path, place: Place) -> _Candidate:
    """Return what is remembered of `place`; beyond `PLACES`, the place that was silent longest is forgotten."""
    candidate = state.candidates.setdefault(place, _Candidate())
    state.candidates.move_to_end(place)
    if len(state.candidates) > PLACES:
        state.candidates.popitem(last=False)
    return candidate
