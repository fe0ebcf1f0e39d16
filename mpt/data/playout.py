"""The order of the flows of an adaptive connection, as its sender wants it: how long a gap is waited for, and when a
TCP packet may go at the earliest (message 42 of the sender; docs/protocol.md).

Each GRE key is a *stream*, a number space of its own; UNORDERED is one whose packets wait for nothing, but for pure
acknowledgements of TCP if the sender wants them levelled: these go at their release, in the order of their numbers, and
whatever is missing. Numbers are unwrapped to *positions*, plain integers. Always true:

- No packet is delivered twice. No packet is delivered before one of its stream with a lower position, but for those
  whose gap was given up before they came: they go at once, and count as late.
- A packet that is held goes as soon as all before it have gone and its release is reached, and at its *latest* in any
  case: `hold` after it came, or at its release if that is later. Then the gaps before it are given up, and what is held
  before it goes with it. So no packet is held longer than `hold`, or PLAYOUT if its release asks for that.
- All streams together hold no more than `window` packets; when there are more, the packet goes whose latest is first.
- No more than STREAMS are known; the longest silent one is forgotten, and delivers what it holds.
- What is known of the numbers behind a stream is a bit for each of BEHIND; what is older is taken for a copy.
- A number more than FAR away begins its stream anew: a peer that was restarted takes any number.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush
from typing import Final

from mpt.data.counters import Reason
from mpt.data.replay import ReplayWindow
from mpt.wire import ip
from mpt.wire.seal import STAMPS_A_SECOND
from mpt.wire.serial import ahead

UNORDERED: Final = 4096  # the GRE key (docs/protocol.md)
NO_KEY: Final = -1  # the stream of the packets without one
LEVELLED: Final = -2  # the stream of the acknowledgements of UNORDERED that wait
STREAMS: Final = 4096
BEHIND: Final = 4096  # positions
FAR: Final = 1 << 16  # positions
LONGEST_HOLD: Final = 1.0  # s
PLAYOUT: Final = 0.200  # s; no release is later than this after the packet came
OCTAVES: Final = 11  # of the histogram of holds: < 1 ms, < 2 ms ... < 512 ms, and longer
_MODULUS: Final = 0x10000
_HALF: Final = 0x8000
_BITS: Final = (1 << BEHIND) - 1
_BASE: Final = 1 << 34  # of the positions of UNORDERED: they stay above 0

_Held = tuple[bytes, float, float]  # a packet, its release, and when it came


class _Stream:
    """One number space: `expected` is the position that comes next, bit k of `came` that of expected - 1 - k; `counts`:
    what is missing counts as skipped."""

    __slots__ = ("came", "counts", "expected", "held", "latest")

    def __init__(self, sequence: int, counts: bool = True) -> None:
        self.counts = counts
        self.begin(sequence)
        self.held: dict[int, _Held] = {}
        self.latest: list[tuple[float, int]] = []  # a heap of (latest, position), also of packets that have gone

    def begin(self, sequence: int) -> None:
        """Take `sequence` next. Those before it may be on their way: none has come."""
        self.expected = sequence
        self.came = 0

    def first_latest(self) -> tuple[float, int] | None:
        """Return the first latest, and the position of its packet; None: nothing is held."""
        while self.latest and self.latest[0][1] not in self.held:
            heappop(self.latest)
        return self.latest[0] if self.latest else None

    def due(self) -> float | None:
        """Return when the next packet goes; None: nothing is held."""
        first, head = self.first_latest(), self.held.get(self.expected)
        if first is None or head is None:
            return first[0] if first is not None else None
        return min(first[0], head[1])


class Playout:
    """The order of one connection. At most `window` packets are held; `longest` bounds every hold, in seconds."""

    __slots__ = (
        "_acks",
        "_hold",
        "_longest",
        "_newest_key",
        "_playout",
        "_streams",
        "_unordered",
        "_unordered_newest",
        "_waiting",
        "_window",
        "copies",
        "held",
        "holds",
        "late",
        "skipped",
    )

    def __init__(self, window: int, longest: float) -> None:
        self._window = window
        self._longest = min(longest, LONGEST_HOLD)
        self._hold = 0.0
        self._playout: int | None = None
        self._acks = False
        self.set(0.1, None)
        self._streams: OrderedDict[int, _Stream] = OrderedDict()
        self._newest_key = LEVELLED - 1
        self._waiting: dict[_Stream, None] = {}  # those that hold packets
        self._unordered = ReplayWindow()
        self._unordered_newest: int | None = None  # its position
        self.held = 0
        self.copies = self.late = self.skipped = 0
        self.holds = [0] * OCTAVES

    @property
    def dropped(self) -> dict[Reason, int]:
        """Return how many packets were not delivered, by reason."""
        return {Reason.COPY: self.copies}

    def set(self, hold: float, playout: int | None, acks: bool = False) -> None:
        """Take what the peer says: seconds that a gap is waited for, and the delay in ticks (our clock - stamp, modulo
        2^16) before which no TCP packet goes, and no pure acknowledgement if `acks`; None: there is none. Packets that
        are held keep their time."""
        self._hold = min(hold, self._longest)
        self._playout = playout
        self._acks = acks

    def arrive(self, sequence: int, packet: bytes, key: int | None, stamp: int, now: float) -> list[bytes]:
        """Take one packet; return the packets to deliver now. `sequence` is below 2^32; `stamp` is the peer's."""
        if key == UNORDERED:
            return self._arrive_unordered(sequence, packet, stamp, now)
        delivery: list[bytes] = []
        stream = self._stream(NO_KEY if key is None else key, sequence, delivery, now)
        distance = ahead(sequence, stream.expected)
        if not -FAR < distance < FAR:
            self._flush(stream, delivery, now)
            stream.begin(sequence)
            distance = 0
        if distance < 0:
            self._behind(stream, -distance, packet, delivery)
            return delivery
        position = stream.expected + distance
        if position in stream.held:
            self.copies += 1
            return delivery
        release = self._release(packet, stamp, now)
        if distance == 0 and release <= now:
            stream.expected += 1
            stream.came = (stream.came << 1 | 1) & _BITS
            delivery.append(packet)
            if stream.held:
                self._advance(stream, delivery, now)
            return delivery
        self._hold_back(stream, position, (packet, release, now), max(release, now + self._hold), delivery)
        return delivery

    def _stream(self, key: int, first: int, delivery: list[bytes], now: float) -> _Stream:
        """Return the stream of a key, the youngest from now on; a new one begins with the position `first`."""
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= STREAMS:
                self._flush(self._streams.popitem(last=False)[1], delivery, now)
            stream = self._streams[key] = _Stream(first, key != LEVELLED)
            self._newest_key = key
        elif key != self._newest_key:
            self._streams.move_to_end(key)
            self._newest_key = key
        return stream

    def _arrive_unordered(self, sequence: int, packet: bytes, stamp: int, now: float) -> list[bytes]:
        newest = self._unordered_newest
        position = _BASE + sequence if newest is None else newest + ahead(sequence, newest)
        if newest is not None and not -FAR < position - newest < FAR:
            self._unordered, newest, position = ReplayWindow(), None, _BASE + sequence
        if not self._unordered.is_new(position):
            self.copies += 1
            return []
        self._unordered.accept(position)
        self._unordered_newest = position if newest is None else max(newest, position)
        if not self._acks or not _is_tcp(packet):
            return [packet]
        return self._level(position, packet, stamp, now)

    def _level(self, position: int, packet: bytes, stamp: int, now: float) -> list[bytes]:
        """Take an acknowledgement that goes at its release, and behind those that wait before it."""
        delivery: list[bytes] = []
        stream = self._stream(LEVELLED, position, delivery, now)
        if not -FAR < position - stream.expected < FAR:
            self._flush(stream, delivery, now)
            stream.begin(position)
        release = self._release_at(stamp, now)
        if release <= now or position < stream.expected:
            delivery.append(packet)
        else:
            self._hold_back(stream, position, (packet, release, now), release, delivery)
        return delivery

    def _release(self, packet: bytes, stamp: int, now: float) -> float:
        """Return when an ordered packet may go at the earliest."""
        return self._release_at(stamp, now) if self._playout is not None and _has_playout(packet) else now

    def _release_at(self, stamp: int, now: float) -> float:
        if self._playout is None:
            return now
        delay = int(now * STAMPS_A_SECOND) - stamp
        wait = (self._playout - delay + _HALF) % _MODULUS - _HALF
        return now + min(max(wait / STAMPS_A_SECOND, 0.0), PLAYOUT)

    def _behind(self, stream: _Stream, distance: int, packet: bytes, delivery: list[bytes]) -> None:
        """Take a packet whose turn is over, `distance` positions ago: late, if its gap was given up, or a copy."""
        bit = 1 << (distance - 1)
        if distance > BEHIND or stream.came & bit:
            self.copies += 1
            return
        stream.came |= bit
        self.late += 1
        delivery.append(packet)

    def _hold_back(self, stream: _Stream, position: int, held: _Held, latest: float, delivery: list[bytes]) -> None:
        """Hold a packet that has just come, until `latest` at most, and deliver what goes now."""
        stream.held[position] = held
        heappush(stream.latest, (latest, position))
        self._waiting[stream] = None
        self.held += 1
        _, _, now = held
        self._advance(stream, delivery, now)
        if self.held > self._window:
            self._make_room(delivery, now)

    def _advance(self, stream: _Stream, delivery: list[bytes], now: float) -> None:
        """Deliver what goes: up to the last packet whose latest is over, then all that is in order and released."""
        while (first := stream.first_latest()) is not None and first[0] <= now:
            self._deliver_up_to(stream, first[1], delivery, now)
        while (held := stream.held.get(stream.expected)) is not None and held[1] <= now:
            self._deliver(stream, stream.expected, delivery, now)
        if not stream.held:
            self._waiting.pop(stream, None)
            stream.latest.clear()

    def _deliver_up_to(self, stream: _Stream, last: int, delivery: list[bytes], now: float) -> None:
        """Deliver what is held up to the position `last`, and give up the gaps before it."""
        for position in sorted(position for position in stream.held if position <= last):
            self._deliver(stream, position, delivery, now)

    def _deliver(self, stream: _Stream, position: int, delivery: list[bytes], now: float) -> None:
        """Deliver the held packet at `position`; a gap before it is given up."""
        packet, _, came = stream.held.pop(position)
        gap = position - stream.expected
        self.skipped += gap if stream.counts else 0
        stream.came = (stream.came << min(gap + 1, BEHIND + 1) | 1) & _BITS
        stream.expected = position + 1
        self.held -= 1
        self.holds[min(int((now - came) * 1000).bit_length(), OCTAVES - 1)] += 1
        delivery.append(packet)

    def _make_room(self, delivery: list[bytes], now: float) -> None:
        """Deliver the packet whose latest is first, and what is held before it."""
        latest = ((stream.first_latest(), stream) for stream in self._waiting)
        (_, position), stream = min(((first, each) for first, each in latest if first is not None), key=_by_latest)
        self._deliver_up_to(stream, position, delivery, now)
        self._advance(stream, delivery, now)

    def _flush(self, stream: _Stream, delivery: list[bytes], now: float) -> None:
        """Deliver everything that a stream holds, in order, without its gaps."""
        if stream.held:
            self._deliver_up_to(stream, max(stream.held), delivery, now)
            self._waiting.pop(stream, None)
            stream.latest.clear()

    def deadline_reached(self, now: float) -> list[bytes]:
        """Return the packets whose time has come; woken early, nothing."""
        delivery: list[bytes] = []
        for stream in tuple(self._waiting):
            self._advance(stream, delivery, now)
        return delivery

    def next_deadline(self) -> float | None:
        """Return when `deadline_reached` must be called next; None when nothing is held."""
        return min((due for stream in self._waiting if (due := stream.due()) is not None), default=None)

    def flush(self, now: float) -> list[bytes]:
        """Return everything that is held, in the order of each stream."""
        delivery: list[bytes] = []
        for stream in tuple(self._waiting):
            self._flush(stream, delivery, now)
        return delivery


def _by_latest(item: tuple[tuple[float, int], _Stream]) -> tuple[float, int]:
    return item[0]


def _is_tcp(packet: bytes) -> bool:
    found = ip.transport(packet)
    return found is not None and found[0] == ip.TCP


def _has_playout(packet: bytes) -> bool:
    """Return whether this is a TCP packet with payload or SYN."""
    found = ip.transport(packet)
    if found is None or found[0] != ip.TCP or len(packet) < found[1] + 14:
        return False
    offset = found[1]
    return bool(packet[offset + 13] & 0x02) or len(packet) > offset + (packet[offset + 12] >> 4) * 4
