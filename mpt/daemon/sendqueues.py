"""Sets the limits of the data sockets' send buffers while packets are sent (`mpt.control.sendqueue`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary

from twisted.logger import Logger

from mpt.control.sendqueue import PERIOD, SendQueue
from mpt.daemon.pathport import PathPort
from mpt.data.pathstate import PathMeasures
from mpt.host import sockets
from mpt.host.system import System

log = Logger()

LARGEST = 2 * sockets.BUFFER_SIZE  # the kernel doubles the value that it is given
MOST_PATHS = 20  # a socket of more paths is a server's, whose line is no bottleneck for one of them
OVERHEAD = 20 + 8 + 8  # octets of IPv4, UDP and GRE before a packet


class SendQueues:
    """The send buffers of one tunnel.

    There is no timer: `sent` is called after packets were sent, and looks at most once in `PERIOD`. `ports()` returns
    the open sockets, `measured(path)` the measures of a path.
    """

    def __init__(
        self,
        system: System,
        ports: Callable[[], Iterable[PathPort]],
        measured: Callable[[tuple[str, int]], PathMeasures],
    ) -> None:
        self._system = system
        self._ports = ports
        self._measured = measured
        self._queues: WeakKeyDictionary[PathPort, SendQueue] = WeakKeyDictionary()
        self._next_look = 0.0

    def sent(self, now: float) -> None:
        """Note that packets were sent; look at all sockets if it is time. `now` is monotonic seconds."""
        if now < self._next_look:
            return
        self._next_look = now + PERIOD
        for port in self._ports():
            if len(port.users) <= MOST_PATHS:
                self._look(port, now)

    def _look(self, port: PathPort, now: float) -> None:
        queue = self._queues.get(port)
        if queue is None:
            queue = self._queues[port] = SendQueue(LARGEST)
        measures = [self._measured(user) for user in port.users]
        octets = sum(each.bytes_sent + OVERHEAD * each.packets_sent for each in measures)
        try:
            limit = queue.look(now, octets, sockets.waiting(port.socket, self._system))
            if limit is not None:
                sockets.limit_waiting(port.socket, limit)
        except OSError as error:
            log.debug("the send buffer of {endpoint}: {error}", endpoint=port.endpoint, error=error)
