"""Where the peer of a sealed path is: scripts of moves and attacks, and a dumb model of the rule."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.control.roaming import (
    ASKS,
    CREDIT,
    FIRST_PAUSE,
    PLACES,
    PROOF_TIME,
    SHOWN_TIME,
    SLOT,
    SMALLEST,
    TRIAL,
    TROUBLE,
    Action,
    Answer,
    Challenge,
    Place,
    Roaming,
    Use,
)
from mpt.wire import message, seal

SECRET = bytes(range(32))
PATH = 3
OLD, NEW, ELSEWHERE = (
    ("socket", ("192.0.2.1", 4754)),
    ("socket", ("198.51.100.7", 31007)),
    ("socket", ("203.0.113.9", 9)),
)
NOW = 1000.0


def roaming(place: Place | None = OLD) -> Roaming:
    fresh = Roaming(SECRET)
    fresh.set(PATH, place)
    return fresh


def sizes(actions: Sequence[Action]) -> dict[Place, int]:
    """The octets of the datagrams that `actions` send, by place."""
    return {each.place: len(each.message) + seal.OVERHEAD for each in actions if not isinstance(each, Use)}


def challenge(actions: Sequence[Action], place: Place) -> bytes:
    """The nonce that `actions` send to `place`."""
    (octets,) = (each.message for each in actions if isinstance(each, Challenge) and each.place == place)
    decoded = message.decode_message(octets)
    assert isinstance(decoded, message.Challenge)
    return decoded.nonce


def test_a_new_place_is_used_when_it_has_answered() -> None:
    """A move asks both places; the answer from the new one, with the newest number, moves the path there."""
    here = roaming()
    actions = here.moved(PATH, NEW, 1000, NOW)
    assert sizes(actions) == {NEW: 1000, OLD: SMALLEST}
    assert here.place(PATH) == OLD
    nonce = challenge(actions, NEW)
    assert here.moved(PATH, NEW, 1000, NOW + 0.04) == []
    assert here.responded(PATH, NEW, nonce, NOW + 0.04) == [Use(PATH, NEW)]
    assert here.place(PATH) == NEW
    assert here.next_deadline() is None


@pytest.mark.parametrize("moved_first", [True, False])
def test_the_answer_and_the_move_may_come_in_any_order(moved_first: bool) -> None:
    """The data path tells of both in one wake-up; their order there means nothing."""
    here = roaming()
    nonce = challenge(here.moved(PATH, NEW, 100, NOW), NEW)
    now = NOW + 0.05
    events: list[Callable[[], list[Action]]] = [
        lambda: here.moved(PATH, NEW, 100, now),
        lambda: here.responded(PATH, NEW, nonce, now),
    ]
    actions = [action for event in events[:: 1 if moved_first else -1] for action in event()]
    assert actions[-1] == Use(PATH, NEW)


def test_an_answer_without_the_newest_number_changes_nothing_yet() -> None:
    """A relay that is slower than the line brings answers whose numbers are not the newest any more."""
    here = roaming()
    nonce = challenge(here.moved(PATH, NEW, 100, NOW), NEW)
    assert sizes(here.responded(PATH, NEW, nonce, NOW + 0.05)) == {OLD: SMALLEST}
    assert here.place(PATH) == OLD
    assert here.moved(PATH, NEW, 100, NOW + 0.05 + TRIAL - 0.1) == [Use(PATH, NEW)]


@pytest.mark.parametrize("answers", [True, False])
def test_the_present_place_has_its_trial_when_another_one_is_proven(answers: bool) -> None:
    """It stays if it answers in time; if not, the proven place is used, whoever brings the newest numbers."""
    here = roaming()
    nonce = challenge(here.moved(PATH, NEW, 100, NOW), NEW)
    question = challenge(here.responded(PATH, NEW, nonce, NOW + 0.05), OLD)
    if answers:
        assert here.responded(PATH, ELSEWHERE, question, NOW + 0.1) == []
    asked, used = 0, []
    while (due := here.next_deadline()) is not None and due < NOW + 5.0:
        actions = here.deadline_reached(due)
        asked += OLD in sizes(actions)
        used += [(due - NOW, each.place) for each in actions if isinstance(each, Use)]
    assert asked == (0 if answers else 3)
    assert [place for _, place in used] == ([] if answers else [NEW])
    assert all(at == pytest.approx(0.05 + TRIAL) for at, _ in used)


def test_a_proof_is_forgotten() -> None:
    """A place that has answered long ago is asked again."""
    here = roaming()
    nonce = challenge(here.moved(PATH, NEW, 100, NOW), NEW)
    here.responded(PATH, NEW, nonce, NOW + 0.05)
    later = here.moved(PATH, NEW, 100, NOW + 0.1 + PROOF_TIME)
    assert NEW in sizes(later) and here.place(PATH) == OLD
    assert here.next_deadline() is not None


@pytest.mark.parametrize(
    ("nonce_of", "source", "proves"),
    [
        (OLD, NEW, False),
        (OLD, OLD, False),
        (None, NEW, False),
        (NEW, NEW, True),
        (NEW, OLD, True),
        (NEW, ELSEWHERE, True),
    ],
)
def test_only_the_answer_to_the_challenge_of_a_place_proves_it(
    nonce_of: Place | None, source: Place, proves: bool
) -> None:
    """Wherever it comes from: a copy of it may have been faster."""
    here = roaming()
    actions = here.moved(PATH, NEW, 100, NOW)
    nonce = bytes(8) if nonce_of is None else challenge(actions, nonce_of)
    here.responded(PATH, source, nonce, NOW + 0.05)
    assert any(isinstance(each, Use) for each in here.moved(PATH, NEW, 100, NOW + 0.05)) is proves
    assert here.place(PATH) == (NEW if proves else OLD)


def test_another_paths_answer_does_not_count() -> None:
    """A challenge belongs to one path."""
    here = roaming()
    here.set(4, OLD)
    nonce = challenge(here.moved(PATH, NEW, 100, NOW), NEW)
    here.moved(4, NEW, 100, NOW)
    assert here.responded(4, NEW, nonce, NOW) == []
    assert here.responded(5, NEW, nonce, NOW) == []


@pytest.mark.parametrize(("later", "counts"), [(SLOT, True), (2 * SLOT, False)])
def test_a_challenge_expires(later: float, counts: bool) -> None:
    """An answer counts in the slot of its challenge and in the next one."""
    here = roaming()
    nonce = challenge(here.moved(PATH, NEW, 100, NOW), NEW)
    here.moved(PATH, NEW, 100, NOW + later)
    assert (here.responded(PATH, NEW, nonce, NOW + later) == [Use(PATH, NEW)]) is counts


def test_a_peer_that_was_nowhere_is_found() -> None:
    """A responder that has no address of the peer asks the place of the first datagram, and nobody else."""
    here = roaming(None)
    actions = here.moved(PATH, NEW, 50, NOW)
    assert sizes(actions) == {NEW: 50}
    here.moved(PATH, NEW, 50, NOW + 0.01)
    assert here.responded(PATH, NEW, challenge(actions, NEW), NOW + 0.01) == [Use(PATH, NEW)]


def test_a_path_that_nobody_has_told_of_is_found_likewise() -> None:
    """The first move makes it known."""
    here = Roaming(SECRET)
    assert sizes(here.moved(9, NEW, 50, NOW)) == {NEW: 50}
    assert here.place(9) is None
    here.forget(9)
    here.forget(9)
    assert here.next_deadline() is None


def test_the_place_of_a_handshake_needs_no_challenge_for_the_first_datagram() -> None:
    """A handshake has shown that the peer receives there. That is not enough to leave another place."""
    here = roaming(None)
    here.shown(NEW, NOW)
    assert here.moved(PATH, NEW, 50, NOW + SHOWN_TIME - 1) == [Use(PATH, NEW)]
    here.shown(ELSEWHERE, NOW + 5)
    assert ELSEWHERE in sizes(here.moved(PATH, ELSEWHERE, 50, NOW + 5))
    here.set(PATH, None)
    assert NEW in sizes(here.moved(PATH, NEW, 50, NOW + SHOWN_TIME))


def test_few_shown_places_are_remembered() -> None:
    """The latest ones."""
    here = roaming(None)
    for port in range(PLACES + 1):
        here.shown(port, NOW)
    assert sizes(here.moved(PATH, 0, 50, NOW)) == {0: 50}
    assert here.moved(PATH, 1, 50, NOW) == [Use(PATH, 1)]


def test_lost_challenges_are_sent_again_within_the_credit() -> None:
    """One datagram of a move is worth three times its octets, so three small challenges at the most."""
    here = roaming()
    sent = [sizes(here.moved(PATH, NEW, SMALLEST, NOW))[NEW]]
    pauses, now = [], NOW
    while (due := here.next_deadline()) is not None:
        assert here.deadline_reached(due - 0.01) == []
        pauses.append(round(due - now, 6))
        now = due
        sent.append(sizes(here.deadline_reached(now))[NEW])
    assert sent == [SMALLEST] * 3
    assert pauses == [FIRST_PAUSE, 2 * FIRST_PAUSE]


def test_only_the_first_challenge_is_large() -> None:
    """The way to the new place may be narrower than the way from there: the next ones must pass all the same."""
    here = roaming()
    sent = [sizes(here.moved(PATH, NEW, 1400, NOW))[NEW]]
    for _ in range(2):
        due = here.next_deadline()
        assert due is not None
        sent.append(sizes(here.deadline_reached(due))[NEW])
    assert sent == [1400, SMALLEST, SMALLEST]
    assert here.next_deadline() is None


def test_datagrams_that_go_on_coming_ask_again_and_again_with_pauses() -> None:
    """A place that never answers costs little."""
    here = roaming()
    sent = 0
    for tick in range(10_000):  # 10 s of a full line
        sent += sum(place == NEW for place in sizes(here.moved(PATH, NEW, 1400, NOW + tick / 1000)))
    assert 5 <= sent <= 12


def test_the_answer_has_the_challenges_octets_and_size() -> None:
    """It goes to where the challenge came from: the peer may have moved, too."""
    answer = roaming().challenged(PATH, ELSEWHERE, b"12345678", 700)
    assert answer == Answer(PATH, ELSEWHERE, message.Response(b"12345678", 700).encode())
    assert sizes([answer]) == {ELSEWHERE: 700}


def test_a_place_that_is_set_ends_what_was_asked() -> None:
    """A new socket of ours, or a configured address."""
    here = roaming()
    here.moved(PATH, NEW, 100, NOW)
    here.set(PATH, OLD)
    assert here.next_deadline() is not None  # nothing new
    here.set(PATH, ELSEWHERE)
    assert here.place(PATH) == ELSEWHERE and here.next_deadline() is None
    assert here.moved(PATH, ELSEWHERE, 100, NOW) == []


def test_a_flood_of_places_does_not_keep_a_peer_from_moving() -> None:
    """The challenge is not kept, so the peer's place may have been forgotten when its answer comes."""
    here = roaming()
    nonce = challenge(here.moved(PATH, NEW, 100, NOW), NEW)
    for port in range(1000):
        assert here.place(PATH) == OLD
        here.moved(PATH, ("socket", ("203.0.113.9", port)), 100, NOW + 0.01)
    assert len(here._paths[PATH].candidates) == PLACES
    here.moved(PATH, NEW, 100, NOW + 0.05)
    assert Use(PATH, NEW) in here.responded(PATH, NEW, nonce, NOW + 0.05)
    assert len(here._paths[PATH].candidates) <= PLACES


@pytest.mark.parametrize("trouble", ["none", "move", "asks", "few asks", "long ago"])
def test_late_copies_are_looked_at_in_trouble_alone(trouble: str) -> None:
    """Whoever sends recorded datagrams again gets no answer."""
    here = roaming()
    if trouble == "move":
        here.moved(PATH, ELSEWHERE, 100, NOW)
    asks = {"asks": ASKS, "few asks": ASKS - 1, "long ago": ASKS}.get(trouble, 0)
    for each in range(asks):
        here.asked(PATH, NOW - (TROUBLE + 1 if trouble == "long ago" else 0.1) + each / 100)
    actions = here.copied(PATH, NEW, 1400, NOW)
    assert sizes(actions).get(NEW) == (SMALLEST if trouble in ("move", "asks") else None)
    assert here.copied(PATH, OLD, 1400, NOW) == [] and here.copied(9, NEW, 1400, NOW) == []


# ---- two ends and somebody between them --------------------------------------------------------------------------


class World:
    """A server with the rule, and a client that answers challenges, joined by lines with a delay.

    `lines` are the places at which the client receives, with the seconds one way. The client sends from `source`.
    Whoever is told by `overhears` may bring a datagram of the client from another place, so much earlier or later.
    """

    def __init__(self, lines: dict[Place, float], source: Place, place: Place | None = None) -> None:
        self.here = roaming(source if place is None else place)
        self.lines, self.source = lines, source
        self.relays: dict[Place, float] = {}  # the way of challenges to the client by way of an attacker, s
        self.copies: Callable[[int, Place, float], Sequence[tuple[Place, float]]] = lambda number, source, arrives: ()
        self.used: list[tuple[float, Place]] = []
        self.received: dict[Place, int] = {}
        self.sent: dict[Place, int] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._number = 0
        self._newest = -1
        self._seen: set[int] = set()
        self.now = NOW

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = self.here.next_deadline()
            event = self._queue[0][0] if self._queue else end
            if due is not None and due < min(event, end):
                self.now = due
                self.act(self.here.deadline_reached(due))
                continue
            if event >= end:
                break
            self.now, _, work = heapq.heappop(self._queue)
            work()
        self.now = end

    def at(self, time: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (time, next(self._order), work))

    def client_asks(self, seconds: float) -> None:
        """Ask as long as nothing comes from the server, which uses another place."""

        def ask() -> None:
            if self.here.place(PATH) != self.source:
                self.client_sends(asks=True)

        for tick in range(int(seconds * 3)):
            self.at(self.now + tick / 3, ask)

    def client_sends(self, nonce: bytes | None = None, size: int = 1000, asks: bool = False) -> None:
        number, self._number, source = self._number, self._number + 1, self.source
        arrives = self.now + self.lines[source]
        for place, time in [(source, arrives), *self.copies(number, source, arrives)]:
            self.at(time, lambda place=place: self.arrives(number, place, nonce, size, asks))  # type: ignore[misc]

    def arrives(self, number: int, place: Place, nonce: bytes | None, size: int, asks: bool) -> None:
        self.received[place] = self.received.get(place, 0) + size
        if number in self._seen:
            if place != self.here.place(PATH):
                self.act(self.here.copied(PATH, place, size, self.now))
            return
        self._seen.add(number)
        if number > self._newest:
            self._newest = number
            if place != self.here.place(PATH):
                self.act(self.here.moved(PATH, place, size, self.now))
        if asks:
            self.here.asked(PATH, self.now)
        if nonce is not None:
            self.act(self.here.responded(PATH, place, nonce, self.now))

    def act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Use):
                self.used.append((self.now, action.place))
                continue
            size = len(action.message) + seal.OVERHEAD
            if action.place != self.here.place(PATH):
                self.sent[action.place] = self.sent.get(action.place, 0) + size
            decoded = message.decode_message(action.message)
            assert isinstance(decoded, message.Challenge)
            way = self.lines.get(action.place, self.relays.get(action.place))
            if way is not None:
                nonce = decoded.nonce
                self.at(self.now + way, lambda nonce=nonce, size=size: self.client_sends(nonce, size))  # type: ignore[misc]

    def traffic(self, seconds: float, interval: float = 0.01) -> None:
        for tick in range(int(seconds / interval)):
            self.at(self.now + tick * interval, self.client_sends)

    def assert_nobody_was_flooded(self) -> None:
        for place, octets in self.sent.items():
            assert octets <= CREDIT * self.received[place]


def test_a_client_behind_a_nat_is_followed_within_a_round_trip() -> None:
    """The NAT gives it another address; the old one leads nowhere."""
    world = World({NEW: 0.02}, NEW, place=OLD)
    world.traffic(1.0)
    world.run(1.0)
    ((at, place),) = world.used
    assert place == NEW and at == pytest.approx(NOW + 0.02 + 0.04)
    world.assert_nobody_was_flooded()


def test_a_client_that_receives_at_both_places_is_followed_to_where_it_sends_from() -> None:
    """The NAT keeps the old entry for a while: the client gets both challenges, and answers from the new place."""
    world = World({NEW: 0.02, OLD: 0.02}, NEW, place=OLD)
    world.traffic(3.0)
    world.run(4.0)
    assert [place for _, place in world.used] == [NEW]


@pytest.mark.parametrize("share", [1, 2, 7])
@pytest.mark.parametrize("where", [ELSEWHERE, None], ids=["one place", "ever other places"])
def test_who_copies_datagrams_and_is_first_changes_nothing(share: int, where: Place | None) -> None:
    """However many of the datagrams it copies, answers of the client among them."""
    world = World({OLD: 0.02}, OLD)
    world.copies = lambda number, source, arrives: (
        [] if number % share else [(where or ("socket", ("203.0.113.9", number)), arrives - 0.005)]
    )
    world.traffic(5.0)
    world.run(6.0)
    assert world.used == []
    assert world.received
    world.assert_nobody_was_flooded()


def test_who_sits_at_the_old_address_and_copies_brings_nothing_back() -> None:
    """The client has moved. Its copied datagrams come from its old place, first: it is not used again."""
    world = World({NEW: 0.02}, NEW, place=OLD)
    world.traffic(1.0)
    world.run(1.0)
    world.copies = lambda number, source, arrives: [(OLD, arrives - 0.005)]
    world.traffic(5.0)
    world.run(6.0)
    assert [place for _, place in world.used] == [NEW]
    world.assert_nobody_was_flooded()


@pytest.mark.parametrize("from_where", [OLD, ELSEWHERE])
def test_who_is_always_first_does_not_hide_a_client_that_moves(from_where: Place) -> None:
    """Nothing but copies seems to come, from elsewhere or from the client's old place. What comes late from the new
    place shows where to ask, and the old place does not answer."""
    world = World({NEW: 0.02}, NEW, place=OLD)
    world.copies = lambda number, source, arrives: [(from_where, arrives - 0.005)]
    world.traffic(10.0)
    world.client_asks(10.0)
    world.run(11.0)
    assert [place for _, place in world.used] == [NEW]
    assert world.used[0][0] - NOW < 2.0
    world.assert_nobody_was_flooded()


def test_who_is_always_first_does_not_hide_a_client_that_is_new() -> None:
    """The server knows no place of it yet."""
    world = World({NEW: 0.02}, NEW)
    world.here.set(PATH, None)
    world.copies = lambda number, source, arrives: [(ELSEWHERE, arrives - 0.005)]
    world.traffic(2.0)
    world.run(3.0)
    assert [place for _, place in world.used] == [NEW]


def test_a_slow_relay_of_a_busy_path_gets_nothing() -> None:
    """It was first once, and relays the challenge; the client's later datagrams have newer numbers."""
    world = World({OLD: 0.02}, OLD)
    world.relays = {ELSEWHERE: 0.04}
    world.copies = lambda number, source, arrives: [(ELSEWHERE, arrives - 0.005 if number == 50 else arrives + 0.03)]
    world.traffic(2.0)
    world.run(3.0)
    assert world.used == []


def test_a_slow_relay_of_a_quiet_path_gets_it_for_a_round_trip() -> None:
    """The place that was left is asked once more, and the answer brings the path back."""
    world = World({OLD: 0.02}, OLD)
    world.relays = {ELSEWHERE: 0.04}

    def copies(number: int, source: Place, arrives: float) -> Sequence[tuple[Place, float]]:
        return [(ELSEWHERE, arrives - 0.005)] if number in (0, 2) else []  # 2: the answer to its challenge

    world.copies = copies
    world.client_sends()
    world.run(5.0)
    assert [place for _, place in world.used] == [ELSEWHERE, OLD]
    (left, _), (back, _) = world.used
    assert back - left <= 0.041


def test_a_relay_that_is_always_first_is_a_router_until_it_is_late() -> None:
    """Nobody can tell it from a NAT. One datagram that comes before its copy brings the path back in a round trip."""
    world = World({OLD: 0.02}, OLD)
    world.relays = {ELSEWHERE: 0.01}
    world.copies = lambda number, source, arrives: [(ELSEWHERE, arrives - 0.005)] if number < 300 else []
    world.traffic(5.0)
    world.run(6.0)
    places = [place for _, place in world.used]
    assert places[0] == ELSEWHERE and places[-1] == OLD
    assert world.used[-1][0] <= NOW + 3.0 + 0.2


# ---- a dumb model ------------------------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, int, float]]:
    kinds = st.sampled_from(["moved", "moved", "answer", "junk", "deadline", "copied"])
    steps = st.tuples(kinds, st.integers(0, PLACES - 1), st.sampled_from([0.0, 0.0, 0.05, 0.4, 0.7, 1.1, 8.0, 25.0]))
    return draw(st.lists(steps, max_size=60))


@given(histories())
def test_the_rule_agrees_with_a_model_that_remembers_everything(history: list[tuple[str, int, float]]) -> None:
    """Used is what was proven and has sent the newest number then or within a second, or what was proven while the
    present place did not answer."""
    here = roaming(0)
    place, now = 0, NOW
    trial: tuple[int, float] | None = None
    moves: dict[int, float] = {}
    proofs: dict[int, float] = {}
    asked: dict[int, tuple[float, bytes]] = {}
    received: dict[int, int] = {}
    sent: dict[int, int] = {}
    for kind, where, later in history:
        now += later
        actions: list[Action] = []
        expected = None
        if kind in ("moved", "copied"):
            actions = (here.moved if kind == "moved" else here.copied)(PATH, where, 50, now)
            received[where] = received.get(where, 0) + 50
        if kind == "moved" and where != place:
            moves[where] = now
            expected = where if 0.0 <= now - proofs.get(where, -9.9) <= PROOF_TIME else None
        elif kind == "deadline":
            actions = here.deadline_reached(now)
            expected = trial[0] if trial is not None and now >= trial[1] else None
        elif kind == "answer" and where in asked:
            at, nonce = asked[where]
            actions = here.responded(PATH, (where + 1) % PLACES, nonce, now)
            if now // SLOT - at // SLOT > 1:
                pass
            elif where == place:
                trial = None
            else:
                proofs[where] = now
                expected = where if moves.get(where) == now else None
                if expected is None and trial is None:
                    trial = where, now + TRIAL
        elif kind == "junk":
            actions = here.responded(PATH, where, bytes(8), now)
        assert [each.place for each in actions if isinstance(each, Use)] == ([] if expected is None else [expected])
        if expected is not None:
            place, trial = expected, None
            moves.pop(place, None)
            proofs.pop(place, None)
        assert here.place(PATH) == place
        for action in actions:
            if isinstance(action, Challenge):
                target = int(str(action.place))
                asked[target] = now, challenge([action], target)
                if target != place:
                    sent[target] = sent.get(target, 0) + len(action.message) + seal.OVERHEAD
        if kind == "deadline":
            due = here.next_deadline()
            assert due is None or due > now
    for target, octets in sent.items():
        # a place that is used is asked as often as needed, also when it is left
        assert target == 0 or octets <= CREDIT * received[target] + SMALLEST
