"""What passes over the lines of a run, and the figures of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import ceil

from bench.asking import control_socket
from bench.lines.samples import Sample, parse
from bench.lines.stages import PAYLOAD, Event
from bench.lines.ways import Ground
from bench.measure import STREAM_END, Figures, quantile, times_in
from mpt.errors import HostError
from mpt.lab.iperf import iperf3, result
from mpt.lab.numbered import Numbered, Received
from mpt.lab.ping import ping
from mpt.lab.process import Process, python
from mpt.lab.transfer import Progress, Result, Transfer, rate_between

PING_INTERVAL = 0.05  # seconds
BASE_PINGS = 10
VOICE_EARLIER = 1.0  # seconds that the voice goes on beside the stream's begin and end
VOICE_PACKETS = 50  # a second
VOICE_OCTETS = 172  # of UDP payload: G.711 for 20 ms and RTP's header
EXPEDITED = 46 << 2  # TOS of DSCP EF (RFC 3246), what telephones set
WINDOW = 0.5  # seconds over which a rate is told
THERE = 0.9  # of the rate that the lines give: it is there again
STEP = 0.05  # seconds between two times at which a rate is looked for
UDP_OCTETS = 1350


Wanted = Callable[[float], float]


class Passing:
    """The load of one run, from `start` until `finish`."""

    def __init__(self, ground: Ground, sampled: bool = False) -> None:
        self.ground = ground
        self.samples: list[Sample] = []
        self._sampler: Process | None = None
        self._is_sampled = sampled and ground.run.way == "tunnel"
        self.load = ground.run.stage.load
        self._streams: list[Transfer] = []
        self._pings: Process | None = None
        self._voice: Numbered | None = None
        self._udp: Process | None = None
        self._stack = ExitStack()
        self._base: list[float] = []

    def prepare(self) -> None:
        """Measure what needs an idle line, and let the receivers listen."""
        ground, load = self.ground, self.load
        if load.pings:
            times = ping(ground.a, ground.peer, count=BASE_PINGS, interval=0.02, timeout=2)
            self._base = [seconds * 1000 for seconds in times if seconds is not None]
        if load.voice:
            self._voice = Numbered(
                ground.b,
                ground.a,
                ground.address,
                seconds=self._seconds + 2 * VOICE_EARLIER,
                mbit=VOICE_OCTETS * 8e-6 * VOICE_PACKETS,
                octets=VOICE_OCTETS,
                tos=EXPEDITED,
            )

        if self._is_sampled:
            asked = control_socket(ground.daemons[1])
            self._sampler = ground.b.start(python("bench.lines.samples", asked, "--seconds", f"{self._seconds}"))
            self._sampler.wait_for_output("ready", 20)

    def start(self) -> None:
        """Let it begin; the events and the traces count from now on."""
        ground, load, run = self.ground, self.load, self.ground.run
        self._carried = self._octets()
        if load.udp_mbit is not None:
            words = (
                "-u",
                "-b",
                f"{load.udp_mbit:g}M",
                "-w",
                "4M",
                "-l",
                str(UDP_OCTETS),
                "--json",
                "--time",
                f"{load.seconds:.0f}",
            )
            [self._udp] = self._stack.enter_context(iperf3(ground.b, ground.a, [ground.address], *words))
        else:
            self._streams = [
                Transfer(
                    ground.b,
                    ground.a,
                    ground.address,
                    seconds=load.seconds,
                    warmup=load.warmup,
                    port=5300 + number,
                    congestion=run.control,
                    limit=load.octets,
                    multipath=run.way == "mptcp",
                )
                for number in range(load.streams)
            ]
        self.began = time.monotonic()
        for link in ground.links.values():
            link.begin_trace()
        if load.pings and run.way != "mptcp":
            argv = ("ping", "-n", "-i", f"{PING_INTERVAL:g}", "-w", str(ceil(self._seconds)), ground.peer)
            self._pings = ground.a.start(argv)

    def happen(self, event: Event) -> None:
        """Do what happens to a line, if this way uses it."""
        link = self.ground.links.get(event.line)
        if link is None:
            return
        {
            "dead": link.black_hole,
            "alive": link.restore,
            "unplugged": lambda: link.pull("a"),
            "plugged": lambda: link.plug("a"),
        }[event.what]()

    def finish(self) -> Figures:
        """Wait for the end and return the figures; HostError if a byte was lost or wrong."""
        with self._stack:
            if self._udp is not None:
                return self._finish_udp(self._udp)
            figures = self._finish_streams()
        if self._pings is not None:
            self._pings.wait(self._seconds + 10)
            figures |= self._of_pings(self._pings.output())
        if self._voice is not None:
            figures |= self._of_voice(self._voice.finish())
        if self._sampler is not None:
            self.samples = parse(self._sampler.output())
        return figures

    @property
    def _seconds(self) -> float:
        return self.load.warmup + self.load.seconds

    def _finish_streams(self) -> Figures:
        load, stage = self.load, self.ground.run.stage
        ended = [end_of(stream) for stream in self._streams]
        results = [each for each in ended if each is not None]
        if len(results) < len(ended):
            return {"mbit": self._mbit_so_far(), "failed": float(len(ended) - len(results))}
        carried = self._octets() - self._carried
        first = self._streams[0]
        figures: Figures = {"wire_share": carried / max(sum(each.bytes for each in results), 1)}
        if load.octets:
            seconds = results[0].ended - first.began
            done = float(results[0].bytes >= load.octets)
            return {"mbit": results[0].bytes * 8e-6 / seconds, "seconds": seconds, "done": done, **figures}
        start, end = first.began + load.warmup, first.began + self._seconds
        rates = [rate_between(stream.progress, start, end) for stream in self._streams]
        capacity = stage.capacity_mbit(start - self.began, end - self.began)
        figures |= {"mbit": sum(rates), "gap_ms": max(each.longest_gap for each in results) * 1000}
        figures["of_payload"] = sum(rates) / (capacity * PAYLOAD)
        if load.streams > 1:
            figures["jain"] = jain(rates)
        for at, name in stage.marks:
            figures[name] = time_until_there(first.progress, self.began, at, self._seconds, self._wanted)
        return figures

    def _mbit_so_far(self) -> float:
        """Return the rate of streams that did not come to their end."""
        start = self.began + self.load.warmup
        return sum(rate_between(stream.progress, start, start + self.load.seconds) for stream in self._streams)

    def _wanted(self, at: float) -> float:
        """Return the rate that counts as there, at that time after the begin."""
        return THERE * PAYLOAD * self.ground.run.stage.capacity_mbit(at, at + WINDOW)

    def _finish_udp(self, client: Process) -> Figures:
        end = result(client, self.load.seconds + STREAM_END)["end"]["sum"]
        received = (end["packets"] - end["lost_packets"]) * UDP_OCTETS
        carried = self._octets() - self._carried
        return {
            "mbit": received * 8e-6 / end["seconds"],
            "lost_percent": end["lost_percent"],
            "wire_share": carried / max(received, 1),
        }

    def _of_pings(self, said: str) -> Figures:
        times = times_in(said)[int(self.load.warmup / PING_INTERVAL) :]
        base = min(self._base, default=0.0)
        return {"ping_base_ms": base, "ping_ms": quantile(times, 0.5), "ping_p95_ms": quantile(times, 0.95)}

    def _of_voice(self, heard: Received) -> Figures:
        base = min(self.ground.run.stage.lines[line].delay_ms for line in self.ground.run.lines)
        return {
            "voice_lost": float(heard.sent - heard.received),
            "voice_twice": float(heard.twice),
            "voice_median_ms": heard.delays[50] if heard.delays else heard.late,
            "voice_p999_late_ms": heard.late - base,
        }

    def _octets(self) -> int:
        """Return what the lines have carried towards a."""
        return sum(link.carried_bytes()[1] for link in self.ground.links.values())


def end_of(stream: Transfer) -> Result | None:
    """Return the result of a stream; None if it broke or stood still for a minute. HostError if a byte was wrong."""
    try:
        return stream.finish()
    except HostError:
        if stream.is_wrong:
            raise
        return None


def jain(rates: Sequence[float]) -> float:
    """Return how fairly the rates are shared, from 1/n to 1 (Jain, Chiu and Hawe, 1984)."""
    squares = sum(rate * rate for rate in rates)
    return sum(rates) ** 2 / (len(rates) * squares) if squares else 0.0


def time_until_there(progress: list[Progress], began: float, mark: float, end: float, wanted: Wanted) -> float:
    """Return the seconds from `mark` until the rate over the next half second is as `wanted`; the rest, if it never is.

    `mark` and `end` are seconds after `began`, and so is the time that `wanted` takes.
    """
    at = mark
    while at + WINDOW <= end:
        if rate_between(progress, began + at, began + at + WINDOW) >= wanted(at):
            return at - mark
        at += STEP
    return end - mark
