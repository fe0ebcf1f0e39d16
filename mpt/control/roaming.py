"""Decides where the peer of a sealed path is, when its datagrams begin to come from elsewhere (session 5).

A *place* is one of our sockets and an address behind it, as one hashable value; nothing here looks inside. The data
path tells when the newest number of a path came from another place than the present one (`moved`). What must hold:

- A place is used only after a challenge that was sent to it was answered from it, and the newest number came from it
  together with the answer or after it. So the newest genuine datagram decides among places at which the peer receives.
- Before that, a place gets at most three times the octets that came from it.
- The present place is challenged, too. Its answer is a new datagram with a new number. It changes nothing by itself.
- A challenge is a keyed hash of path, place and time, so nothing has to be kept for it. A flood of places may push a
  genuine one out of the few that are remembered; its answer counts all the same.
- Only challenges and answers are sent to a place that is not used.

What this prevents, and what it cannot:

- *Somebody copies datagrams and forwards them from elsewhere, first each time.* He cannot read the challenge, and the
  peer does not get it. Nothing changes, however often he does it.
- *The same at the peer's old address, or with it as a forged source, after the peer has moved.* Likewise.
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
        if self.moved is not None and now - self.moved > SLOT:
            self.pause = FIRST_PAUSE
        if self.proven is not None and now - self.proven > PROOF_TIME:
            self.proven = None
        self.credit += CREDIT * size
        self.moved = now
        self.tries = min(self.tries, 1)


@dataclass(slots=True)
class _Path:
    place: Place | None = None
    due: float = 0.0  # of the next challenge to `place`
    answered: float | None = None  # when `place` has answered last
    checked: Place | None = None  # the place that was left although it answers
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
        if state.place is None and now - self._shown.get(place, -SHOWN_TIME) < SHOWN_TIME:
            return self._use(path, state, place, now)
        candidate = _candidate(state, place)
        candidate.note(size, now)
        if candidate.wins:
            return self._use(path, state, place, now)
        actions: list[Action] = []
        if now >= candidate.due:
            actions += self._challenge(path, place, candidate, size, now)
        if state.place is not None and now >= state.due:
            state.due = now + FIRST_PAUSE
            actions.append(self._question(path, state.place, SMALLEST, now))
        return actions

    def challenged(self, path: Hashable, place: Place, octets: bytes, size: int) -> Answer:
        """Return the answer to a challenge with these 8 `octets`, which came from `place` in a datagram of `size`."""
        return Answer(path, place, message.Response(octets, size).encode())

    def responded(self, path: Hashable, place: Place, octets: bytes, now: float) -> list[Action]:
        """Note that a response with these 8 `octets` came from `place`. All but the answer to ours is ignored."""
        state = self._paths.get(path)
        if state is None or not self._is_ours(path, place, octets, now):
            return []
        if place == state.place:
            state.answered = now
            return []
        candidate = _candidate(state, place)
        candidate.proven = now
        return self._use(path, state, place, now) if candidate.wins else []

    def deadline_reached(self, now: float) -> list[Action]:
        """Return the challenges that are sent again: they, or their answers, may have been lost."""
        actions: list[Action] = []
        for path, state in self._paths.items():
            for place, candidate in state.candidates.items():
                if candidate.is_open and now >= candidate.due:
                    actions += self._challenge(path, place, candidate, SMALLEST, now)
        return actions

    def next_deadline(self) -> float | None:
        """Return when to call `deadline_reached` next; None while nothing is to be sent again."""
        candidates = (each for state in self._paths.values() for each in state.candidates.values())
        return min((each.due for each in candidates if each.is_open), default=None)

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
        fresh = self._paths[path] = _Path(place, candidates=state.candidates)
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
