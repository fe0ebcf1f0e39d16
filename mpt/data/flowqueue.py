"""The queue of a tunnel: a fair share for each flow, and no packet that has waited for too long (RFC 8290, RFC 8289).

Packets leave only while a path has room, so they wait here and not in the modems. Always true:

- Each flow keeps its order, and has its own queue. The queues take turns of QUANTUM octets; one that has just begun
  goes before those that wait for long (RFC 8290 section 4.2).
- CoDel decides for each flow alone. While its packets wait for longer than `target`, at all times in an `interval`,
  packets at its head are dropped, more and more often; those that can be marked (ECN) are marked and go.
- No more than `limit` packets wait. The next one pushes out the first packet of the longest queue.
- *Urgent* packets are one queue that goes before all others.
"""

from __future__ import annotations

from collections import deque
from math import sqrt
from typing import Final, NamedTuple

from mpt.wire import tos

QUANTUM: Final = 1514  # octets of a turn
LARGEST_PACKET: Final = 1514  # octets; CoDel never drops the last packet of this size (RFC 8289 section 4.4)
COUNT_MEMORY: Final = 16  # intervals after which CoDel begins anew (RFC 8289 section 5.5)
THIN_PERIOD: Final = 0.1  # s
THICK_TIME: Final = 10.0  # s for which a flow that was not small is not thin


class Waiting(NamedTuple):
    """A packet of the flow number `flow` that waits `since` then; `kind` means something to its sender alone."""

    flow: int
    packet: bytes
    kind: int
    since: float


class _Flow:
    """The queue of one flow, the state of its CoDel, how many octets it had since `period`, and in the one before."""

    __slots__ = (
        "before",
        "count",
        "deficit",
        "drop_next",
        "first_above",
        "is_dropping",
        "is_listed",
        "last_count",
        "octets",
        "period",
        "recent",
        "thick_until",
        "waiting",
    )

    def __init__(self) -> None:
        self.waiting: deque[Waiting] = deque()
        self.octets = 0
        self.deficit = 0
        self.is_listed = False
        self.first_above = 0.0  # when its packets will have waited for too long during an interval; 0.0: they do not
        self.is_dropping = False
        self.drop_next = 0.0
        self.count = self.last_count = 0
        self.period = 0.0
        self.recent = self.before = 0
        self.thick_until = 0.0  # it is not thin before


class FlowQueue:
    """At most `limit` packets; `target` and `interval` in seconds."""

    __slots__ = ("_flows", "_interval", "_limit", "_new", "_old", "_target", "_urgent", "dropped", "marked", "octets",
                 "overflowed", "packets")  # fmt: skip

    def __init__(self, limit: int, target: float, interval: float) -> None:
        self.set(limit, target, interval)
        self._flows: dict[int, _Flow] = {}
        self._new: deque[_Flow] = deque()
        self._old: deque[_Flow] = deque()
        self._urgent = _Flow()
        self.packets = self.octets = 0  # that wait
        self.dropped = self.marked = self.overflowed = 0  # packets: by CoDel, by CoDel, as the queue was full

    def set(self, limit: int, target: float, interval: float) -> None:
        """Use these from the next packet on."""
        self._limit, self._target, self._interval = limit, target, interval

    def is_thin(self, flow: int, size: int, now: float, most: int) -> bool:
        """Note that `flow` has a packet of `size` octets more. Return whether it is thin: it has been
        small for THICK_TIME, and none of its packets waits here. Packets of thin flows have no order, so a large flow
        must not begin to be thin after each pause: some would overtake others."""
        found = self._flow(flow)
        if now - found.period > THIN_PERIOD:
            found.before = found.recent if now - found.period <= 2 * THIN_PERIOD else 0
            found.period, found.recent = now, 0
        found.recent += size
        if max(found.recent, found.before) > most:
            found.thick_until = now + THICK_TIME
        return now >= found.thick_until and not found.waiting

    def is_small(self, flow: int, most: int) -> bool:
        """Return whether `flow` had no more than `most` octets in this THIN_PERIOD, nor in the one just before."""
        found = self._flow(flow)
        return max(found.recent, found.before) <= most

    def _flow(self, key: int) -> _Flow:
        found = self._flows.get(key)
        if found is None:
            found = self._flows[key] = _Flow()
        return found

    def push(self, flow: int, packet: bytes, kind: int, now: float, urgent: bool = False) -> None:
        """Let a packet of the flow number `flow` wait."""
        queue = self._urgent if urgent else self._flow(flow)
        queue.waiting.append(Waiting(flow, packet, kind, now))
        queue.octets += len(packet)
        self.packets += 1
        self.octets += len(packet)
        if not queue.is_listed and not urgent:
            queue.is_listed, queue.deficit = True, QUANTUM
            self._new.append(queue)
        if self.packets > self._limit:
            longest = max((self._urgent, *self._new, *self._old), key=_octets)
            self._take(longest)
            self.overflowed += 1

    def _take(self, queue: _Flow) -> Waiting:
        """Take the first packet out of a queue that has one."""
        first = queue.waiting.popleft()
        queue.octets -= len(first.packet)
        self.packets -= 1
        self.octets -= len(first.packet)
        return first

    def pop(self, now: float) -> Waiting | None:
        """Return the packet that goes next, None if there is none. What CoDel drops before it is counted."""
        if self._urgent.waiting and (urgent := self._controlled(self._urgent, now)) is not None:
            return urgent
        while queues := self._new or self._old:
            queue = queues[0]
            if queue.deficit <= 0:
                queue.deficit += QUANTUM
                self._old.append(queues.popleft())
                continue
            found = self._controlled(queue, now)
            if found is None:
                queues.popleft()
                if queues is self._new and self._old:
                    self._old.append(queue)  # or a flow of single packets would go before all others
                else:
                    queue.is_listed = False
                continue
            queue.deficit -= len(found.packet)
            return found
        return None

    def clear(self) -> list[Waiting]:
        """Return all packets, each flow in its order; none waits then."""
        queues = (self._urgent, *self._new, *self._old)
        taken = [self._take(queue) for queue in queues for _ in range(len(queue.waiting))]
        for queue in queues:
            queue.is_listed = False
        self._new.clear()
        self._old.clear()
        return taken

    # --- CoDel (RFC 8289 section 5) ---

    def _controlled(self, queue: _Flow, now: float) -> Waiting | None:
        """Return the next packet of a queue that CoDel lets go."""
        found, may_drop = self._dequeue(queue, now)
        if queue.is_dropping:
            if not may_drop:
                queue.is_dropping = False
            while found is not None and queue.is_dropping and now >= queue.drop_next:
                queue.count += 1
                marked = self._marked(found)
                if marked is not None:
                    queue.drop_next = self._next_drop(queue, queue.drop_next)
                    return marked
                found, may_drop = self._dequeue(queue, now)
                if may_drop:
                    queue.drop_next = self._next_drop(queue, queue.drop_next)
                else:
                    queue.is_dropping = False
        elif found is not None and may_drop:
            marked = self._marked(found)
            found = marked if marked is not None else self._dequeue(queue, now)[0]
            queue.is_dropping = True
            since = queue.count - queue.last_count
            is_recent = now - queue.drop_next < COUNT_MEMORY * self._interval
            queue.count = queue.last_count = since if since > 1 and is_recent else 1
            queue.drop_next = self._next_drop(queue, now)
        return found

    def _dequeue(self, queue: _Flow, now: float) -> tuple[Waiting | None, bool]:
        """Return the first packet, and whether packets waited for too long during a whole interval."""
        if not queue.waiting:
            queue.first_above = 0.0
            return None, False
        first = self._take(queue)
        if now - first.since < self._target or queue.octets <= LARGEST_PACKET:
            queue.first_above = 0.0
            return first, False
        if not queue.first_above:
            queue.first_above = now + self._interval
            return first, False
        return first, now >= queue.first_above

    def _marked(self, found: Waiting) -> Waiting | None:
        """Return the packet with a mark, or None: it has no ECN, and is dropped."""
        packet = tos.decapsulated(found.packet, tos.CE)
        if packet is None:
            self.dropped += 1
            return None
        self.marked += 1
        return found._replace(packet=packet)

    def _next_drop(self, queue: _Flow, after: float) -> float:
        return after + self._interval / sqrt(queue.count)


def _octets(queue: _Flow) -> int:
    return queue.octets
