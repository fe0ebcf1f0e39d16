"""The stages: lines, what passes over them, and what happens to them meanwhile. A table of data.

The sixteen profiles are those of the report of 2026-06-18 in docs/report of mp0rta/mqvpn (§3.3); delay, jitter, loss
and rate hold in both directions. Data flow from b to a.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from mpt.lab import traces
from mpt.lab.links import Shape
from mpt.lab.traces import Step, Trace, lte

WAYS = ("plain", "sealed", "tunnel", "mptcp")
CONTROLS = ("cubic", "bbr")
MODEM = 150  # packets, the queue of the lines that are like LTE
SEEDS = range(1, 11)
MIB = 1 << 20
PAYLOAD = 1378 / 1514  # of a full frame: what TCP has of it in a sealed tunnel with an MTU of 1430


@dataclass(frozen=True)
class Load:
    """What passes: `streams` TCP streams from b to a, each of `octets` at most, for `seconds` at most after `warmup`.

    `pings`: round trips meanwhile. `voice`: 50 packets a second from b to a. `udp_mbit`: that instead of TCP, to count
    what is lost.
    """

    seconds: float
    warmup: float = 0.0
    octets: int | None = None
    streams: int = 1
    pings: bool = False
    voice: bool = False
    udp_mbit: float | None = None


@dataclass(frozen=True)
class Event:
    """What happens to a line so many seconds after the begin: "dead" is silent, "unplugged" has a's link event."""

    at: float
    line: int
    what: Literal["dead", "alive", "unplugged", "plugged"]


@dataclass(frozen=True)
class Stage:
    """Two lines and a load; `better` is the number of the line that is better alone, with CUBIC and with BBR.

    `towards_b` are the lines in the direction of the acknowledgements, if they differ. `marks` are times, in seconds
    after the begin, from which on the time until the rate is there again is measured, under that name.
    """

    name: str
    title: str
    part: str
    lines: tuple[Shape, ...]
    load: Load
    ways: tuple[str, ...] = ("plain", "sealed", "tunnel")
    better: tuple[int, int] = (0, 0)
    controls: tuple[str, ...] = CONTROLS
    towards_b: tuple[Shape, ...] | None = None
    events: tuple[Event, ...] = ()
    marks: tuple[tuple[float, str], ...] = ()
    is_quick: bool = False

    def better_with(self, control: str) -> int:
        """Return the number of the better line."""
        return self.better[CONTROLS.index(control)]

    @property
    def sum_mbit(self) -> float:
        """Return the sum of the lines' rates; of a trace its mean."""
        return sum(rate_of(shape) for shape in self.lines)

    def capacity_mbit(self, start: float, end: float) -> float:
        """Return the mean of all lines' rates from `start` to `end`, in seconds after the traces began."""
        return sum(
            shape.trace.capacity_mbit(start, end) if shape.trace else shape.rate_mbit or 0.0 for shape in self.lines
        )

    def shortened(self) -> Stage:
        """Return the same for --quick, with less of everything; events keep their times."""
        seconds = self.load.seconds if self.events else min(self.load.seconds, 6.0)
        return replace(self, load=replace(self.load, seconds=seconds), controls=self.controls[:1])


def rate_of(shape: Shape) -> float:
    """Return the rate of a line in Mbit/s, or the mean of its trace."""
    return shape.trace.mean_mbit if shape.trace else shape.rate_mbit or 0.0


DOWNLOAD = Load(seconds=12, octets=20 * MIB)
MINUTE = Load(seconds=58, warmup=2)
BASE = Shape(50, 20)
LTE_40, LTE_30 = Shape(40, 30, 5, 0.5), Shape(30, 40, 8, 0.5)

# name, line A, line B, which of them is better with CUBIC and with BBR
PROFILES: tuple[tuple[str, Shape, Shape, tuple[int, int]], ...] = (
    ("baseline", BASE, BASE, (0, 0)),
    ("loss_05", Shape(50, 20, 0, 0.5), Shape(50, 20, 0, 0.5), (0, 0)),
    ("loss_2", Shape(50, 20, 0, 2), Shape(50, 20, 0, 2), (0, 0)),
    ("jit_5", Shape(50, 20, 5), Shape(50, 20, 5), (0, 0)),
    ("jit_20", Shape(50, 20, 20), Shape(50, 20, 20), (0, 0)),
    ("rtt_40", BASE, Shape(50, 40), (0, 0)),
    ("rtt_70", BASE, Shape(50, 70), (0, 0)),
    ("rtt_120", BASE, Shape(50, 120), (0, 0)),
    ("rtt_320", BASE, Shape(50, 320), (0, 0)),
    ("bw_4to1", BASE, Shape(12, 20), (0, 0)),
    ("bw_10to1", Shape(100, 20), Shape(10, 20), (0, 0)),
    ("dual_lte", LTE_40, Shape(25, 45, 8, 0.5), (0, 0)),
    ("fiber_lte", Shape(300, 8), LTE_30, (0, 0)),
    ("lte_starlink", Shape(40, 35, 8), Shape(100, 50, 25, 1), (0, 1)),
    ("lte_geo", Shape(40, 35), Shape(20, 320, 20, 0.5), (0, 0)),
    ("congested", Shape(20, 50, 20, 2), Shape(15, 60, 25, 2), (0, 0)),
)
MINUTES = ("jit_20", "loss_2")  # the profiles that are also measured for a minute
QUICK_PROFILES = ("baseline", "rtt_70", "fiber_lte", "dual_lte")


def _profiles() -> Iterator[Stage]:
    for name, a, b, better in PROFILES:
        title = f"{_text(a)} + {_text(b)}"
        yield Stage(name, title, "profiles", (a, b), DOWNLOAD, better=better, is_quick=name in QUICK_PROFILES)
    for name, a, b, better in PROFILES:
        if name in MINUTES:
            yield Stage(f"{name}_60", f"the same for 60 s: {name}", "minutes", (a, b), MINUTE, ("tunnel",), better)


def _text(shape: Shape) -> str:
    jitter = f"±{shape.jitter_ms:g}" if shape.jitter_ms else ""
    loss = f" {shape.loss_percent:g}%" if shape.loss_percent else ""
    return f"{rate_of(shape):g}M {shape.delay_ms:g}{jitter} ms{loss}"


def _loss() -> Iterator[Stage]:
    clean, lossy, each = Shape(50, 10), Shape(50, 10, 0, 2), Shape(50, 10, 0, 1)
    stream = Load(seconds=8, warmup=1)
    yield Stage("lossy", "50 + 50 Mbit/s, 10 ms, 2 % loss on one", "loss", (clean, lossy), stream, is_quick=True)
    yield Stage("loss_1", "50 + 50 Mbit/s, 10 ms, 1 % loss on both", "loss", (each, each), stream)
    counted = Load(seconds=8, udp_mbit=40)
    yield Stage(
        "inside_1",
        "40 Mbit/s of UDP over the same",
        "loss",
        (each, each),
        counted,
        ("plain", "tunnel"),
        (0, 0),
        CONTROLS[:1],
    )


def _changing() -> Iterator[Stage]:
    for seed in SEEDS:
        second = 5.2 if seed % 2 else 12.0
        lines = (_lte(2 * seed, 17.5), _lte(2 * seed + 1, second))
        title = f"two lines like LTE, seeds {2 * seed} and {2 * seed + 1}, 17.5 + {second:g} Mbit/s"
        load = Load(seconds=14, warmup=1, pings=True)
        yield Stage(f"lte_{seed}", title, "lte", lines, load, ("sealed", "tunnel", "mptcp"), is_quick=seed == 1)
    halves = Trace((Step(7, 50), Step(7, 25), Step(60, 50)))
    steps = Shape(50, 15, trace=halves)
    load = Load(seconds=20, warmup=1, pings=True)
    yield Stage(
        "steps",
        "50 + 50 Mbit/s, 15 ms; one halves at 7 s, doubles at 14 s",
        "change",
        (steps, Shape(50, 15)),
        load,
        ("tunnel",),
        marks=((7, "halved_s"), (14, "doubled_s")),
    )
    for kind, name, seed, mean, other in (("starlink", "Starlink", 7, 100.0, 30.0), ("dsl", "DSL", 8, 50.0, 25.0)):
        lines = (Shape(delay_ms=15, trace=traces.MAKERS[kind](seed, 90, mean)), _lte(40 + seed, other))
        title = f"a line like {name}, {mean:g} Mbit/s, beside one like LTE, {other:g}"
        yield Stage(kind, title, "change", lines, Load(seconds=30, warmup=1, pings=True), ("sealed", "tunnel"))


def _lte(seed: int, mean_mbit: float) -> Shape:
    return Shape(delay_ms=25, queue_packets=MODEM, trace=lte(seed, 90, mean_mbit))


def _full() -> Iterator[Stage]:
    equal = (Shape(50, 15, queue_ms=500), Shape(50, 15, queue_ms=500))
    uneven = (Shape(40, 10, queue_ms=500), Shape(10, 30, queue_ms=500))
    load = Load(seconds=12, warmup=2, pings=True)
    yield Stage("modem", "50 + 50 Mbit/s, 15 ms, queues of 500 ms", "full", equal, load, is_quick=True)
    yield Stage("modem_uneven", "40 + 10 Mbit/s, 10 and 30 ms, queues of 500 ms", "full", uneven, load)
    four = replace(load, streams=4)
    yield Stage(
        "modem_four",
        "four streams, 50 + 50 Mbit/s, queues of 500 ms",
        "full",
        equal,
        four,
        ("tunnel",),
        controls=CONTROLS[:1],
    )


def _death() -> Iterator[Stage]:
    lines = (Shape(50, 15), Shape(40, 25))
    load = Load(seconds=17, warmup=1, voice=True)
    for name, down, up, title in (
        ("silent", "dead", "alive", "the better of 50 + 40 Mbit/s dies silently at 6 s, returns at 11 s"),
        ("unplugged", "unplugged", "plugged", "the same with a link event at a alone"),
    ):
        events = (Event(6, 0, down), Event(11, 0, up))  # type: ignore[arg-type]
        marks = ((11, "returned_s"),)
        quick = name == "silent"
        yield Stage(name, title, "death", lines, load, ("tunnel",), (1, 1), events=events, marks=marks, is_quick=quick)


def _hostile() -> Iterator[Stage]:
    ways = ("sealed", "tunnel")
    load = replace(MINUTE, pings=True)
    lossy = Shape(50, 20, 0, 71)
    yield Stage(
        "one_way",
        "71 % loss towards a on one of 50 + 50 Mbit/s",
        "hostile",
        (BASE, lossy),
        load,
        ways,
        towards_b=(BASE, BASE),
    )
    flaps = tuple(Event(at + off, 1, what) for at in range(5, 60, 5) for off, what in _FLAP)
    yield Stage(
        "flap",
        "one of 50 + 50 Mbit/s is silently dead 2 of every 5 s",
        "hostile",
        (BASE, BASE),
        load,
        ways,
        events=flaps,
    )
    delays = Shape(50, 20, trace=Trace(tuple(Step(15, 50, delay) for delay in (20, 60, 35, 75))))
    yield Stage(
        "delay_steps", "the delay of one of 50 + 50 Mbit/s steps every 15 s", "hostile", (BASE, delays), load, ways
    )
    yield Stage("far", "50 + 50 Mbit/s, 10 and 600 ms", "hostile", (Shape(50, 10), Shape(50, 600)), load, ways)


_FLAP: tuple[tuple[float, Literal["dead", "alive"]], ...] = ((0.0, "dead"), (2.0, "alive"))

STAGES: tuple[Stage, ...] = (*_profiles(), *_loss(), *_changing(), *_full(), *_death(), *_hostile())
