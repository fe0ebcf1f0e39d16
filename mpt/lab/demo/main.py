"""``mpt demo``: two hosts, several paths and two daemons on this machine, and a TCP stream through them.

It measures the stream through the tunnel over each path alone (the cables of the others are pulled), then over all
paths together, then while one path is pulled and plugged in again. So a single and the bonded rate pass through the
same daemons with the same headers, and their ratio shows the cost of bonding itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from socket import socket

from mpt.errors import MptError
from mpt.lab import privileges
from mpt.lab.demo import advice, web
from mpt.lab.demo.options import Choices, choices_of, parser, shapes_of, text_of
from mpt.lab.demo.screen import Row, Screen, screen_for
from mpt.lab.hosts import Host
from mpt.lab.lab import Lab, sweep
from mpt.lab.links import Link, Shape
from mpt.lab.transfer import Progress, Result, Transfer, rate_between
from mpt.lab.tunnel import PACKET, Description, Tunnel, fit_of

SCHEMA = "mpt.demo/1"
WARMUP = 1.0  # seconds of a stream that are not measured, beside
WARMUP_ROUND_TRIPS = 50  # if paths differ, CUBIC is slow: it leaves slow start at the first longer round trip
BEFORE_PULL, AFTER_PLUG, TO_RECOVER = 1.0, 4.0, 2.0  # seconds of the failover, from the end of the warm-up
REFRESH = 0.2  # seconds
RECOVERED = 0.9  # share of the bonded rate
SEALED_PAUSE = 4.0  # seconds; a sealed path that is lost again and again rests 1, 2, 4 … seconds before it is used
SET_UP = 3.0  # seconds, about
SEALED_MTU = 1400  # octets; the envelope takes 30
BAD_USAGE = 2


@dataclass(frozen=True)
class Outcome:
    """The demo's result; rates in Mbit/s of TCP payload, times in seconds."""

    singles: list[float]
    bonded: float
    failover_gap: float
    recovered_mbit: float

    @property
    def ratio(self) -> float:
        """Return the bonded rate as a share of the sum of the single rates."""
        return self.bonded / sum(self.singles) if sum(self.singles) else 0.0

    @property
    def recovered(self) -> bool:
        """Return whether the stream had nine tenths of the bonded rate two seconds after the path was plugged in."""
        return self.recovered_mbit >= RECOVERED * self.bonded

    def as_json(self) -> dict[str, object]:
        """Return the object that ``--json`` prints."""
        return {
            "schema": SCHEMA,
            "single_mbit": [round(single, 2) for single in self.singles],
            "bonded_mbit": round(self.bonded, 2),
            "ratio": round(self.ratio, 4),
            "failover_gap_s": round(self.failover_gap, 4),
            "recovered": self.recovered,
            "recovered_mbit": round(self.recovered_mbit, 2),
        }

    def as_text(self) -> str:
        """Return the result for people."""
        lines = [f"path_{index} alone".ljust(18) + f"{single:8.1f} Mbit/s" for index, single in enumerate(self.singles)]
        lines += [
            f"sum               {sum(self.singles):8.1f} Mbit/s",
            f"all together      {self.bonded:8.1f} Mbit/s   {self.ratio:.1%} of the sum",
            f"path_0 pulled     {self.failover_gap:8.3f} s        the longest gap in the stream",
            f"after its return  {self.recovered_mbit:8.1f} Mbit/s   {'' if self.recovered else 'NOT '}recovered",
        ]
        return "\n".join(lines)


class Demo:
    """The lab, its tunnel, and the steps of the demo in order; each step reports to `screen`."""

    def __init__(
        self, lab: Lab, shapes: Sequence[Shape], seconds: float, screen: Screen, choices: Choices, page: bool = False
    ) -> None:
        self.lab, self.screen = lab, screen
        self._shapes, self._seconds = shapes, seconds
        self._choices, self._page = choices, page
        self._pause = SEALED_PAUSE if choices.sealed else 0.0
        self._warmup = WARMUP + WARMUP_ROUND_TRIPS * 2 * max(shape.delay_ms for shape in shapes) / 1000
        self._settle = 2 * fit_of(shapes).dead  # s; a change of paths is known
        self._pulled: set[int] = set()

    @property
    def duration(self) -> float:
        """Return about how many seconds all the steps take."""
        alone = len(self._shapes) * (self._warmup + self._seconds + 2 * self._settle)
        together = self._warmup + self._seconds
        failover = self._warmup + BEFORE_PULL + self._seconds / 2 + self._pause + AFTER_PLUG
        return SET_UP + alone + together + failover

    def run(self) -> Outcome:
        """Do all the steps after `set_up`; HostError if something does not work at all."""
        singles = [self.measure_alone(index) for index in range(len(self._shapes))]
        bonded = self.measure("all paths together").mbit
        gap, recovered_mbit = self.fail_over(0)
        return Outcome(singles, bonded, gap, recovered_mbit)

    def set_up(self) -> None:
        """Make hosts, links, configuration and daemons, and wait until the tunnel answers a ping."""
        self.screen.phase("two hosts, two daemons")
        started = time.monotonic()
        self.a: Host = self.lab.host("a")
        self.b: Host = self.lab.host("b")
        self.links: list[Link] = self.lab.cables(self.a, self.b, self._shapes)
        self.description = describe(self.links, self._shapes, self._choices, self._page)
        self.address = self.description.address_of("b")
        self.tunnel = Tunnel(self.description, self.lab.directory)
        self.tunnel.wait_for_answer()
        self.screen.done(f"ready after {time.monotonic() - started:.1f} s")

    def measure_alone(self, index: int) -> float:
        """Return the rate over one path, in Mbit/s: the cables of all others are pulled meanwhile."""
        others = [other for other in range(len(self.links)) if other != index]
        for other in others:
            self.pull(other)
        time.sleep(self._settle)
        result = self.measure(f"path_{index} alone")
        for other in others:
            self.plug(other)
        time.sleep(self._settle)
        return result.mbit

    def measure(self, title: str) -> Result:
        """Measure one stream over every path that is plugged in."""
        self.screen.phase(title)
        result = self.watch(Transfer(self.a, self.b, self.address, seconds=self._seconds, warmup=self._warmup))
        self.screen.done(f"{result.mbit:.1f} Mbit/s")
        return result

    def fail_over(self, index: int) -> tuple[float, float]:
        """Pull a path and plug it back during a stream; return the longest gap in seconds, and the rate afterwards."""
        self.screen.phase(f"path_{index} pulled and back")
        away = self._seconds / 2
        length = BEFORE_PULL + away + self._pause + AFTER_PLUG
        transfer = Transfer(self.a, self.b, self.address, seconds=length, warmup=self._warmup)
        pull_at = transfer.started + self._warmup + BEFORE_PULL
        plug_at = pull_at + away
        steps: list[tuple[float, Callable[[], None]]] = []
        if len(self.links) > 1:
            steps = [(pull_at, lambda: self.pull(index, aloud=True)), (plug_at, lambda: self.plug(index, aloud=True))]
        result = self.watch(transfer, steps)
        recovered_mbit = rate_between(
            transfer.progress, plug_at + self._pause + TO_RECOVER, plug_at + self._pause + AFTER_PLUG
        )
        self.screen.done(f"longest gap {result.longest_gap:.3f} s, then {recovered_mbit:.1f} Mbit/s")
        return result.longest_gap, recovered_mbit

    def watch(self, transfer: Transfer, steps: Sequence[tuple[float, Callable[[], None]]] = ()) -> Result:
        """Show a transfer until its end, and take each of `steps` at its time (monotonic clock)."""
        waiting = list(steps)
        before = self.counters([])
        while transfer.running:
            time.sleep(REFRESH)
            while waiting and time.monotonic() >= waiting[0][0]:
                waiting.pop(0)[1]()
            now = self.counters(transfer.poll())
            self.screen.rows(self.rows(before, now))
            before = now
        return transfer.finish()

    def counters(self, progress: list[Progress]) -> list[Progress]:
        """Return the bytes so far on each path towards b, and last in the stream."""
        now = time.monotonic()
        paths = [Progress(now, link.carried_bytes()[0]) for link in self.links]
        return [*paths, progress[-1] if progress else Progress(now, 0)]

    def rows(self, before: list[Progress], now: list[Progress]) -> list[Row]:
        """Return the table between two readings of the counters."""
        rates = [
            max((last.bytes - first.bytes) * 8e-6 / (last.at - first.at), 0.0) if last.at > first.at else 0.0
            for first, last in zip(before, now, strict=True)
        ]
        full = [shape.rate_mbit or 1000.0 for shape in self._shapes]
        rows = [
            Row(f"path_{index}", text_of(shape), rates[index], full[index], "pulled" if index in self._pulled else "")
            for index, shape in enumerate(self._shapes)
        ]
        return [*rows, Row("stream", "through the tunnel", rates[-1], sum(full))]

    def pull(self, index: int, aloud: bool = False) -> None:
        """Pull the cable of a path."""
        self.links[index].pull()
        self._pulled.add(index)
        if aloud:
            self.screen.event(f"path_{index} pulled")

    def plug(self, index: int, aloud: bool = False) -> None:
        """Plug the cable of a path in again."""
        self.links[index].plug()
        self._pulled.discard(index)
        if aloud:
            self.screen.event(f"path_{index} plugged in again")


def describe(links: Sequence[Link], shapes: Sequence[Shape], choices: Choices, page: bool = False) -> Description:
    """Return the tunnel over `links`: what was chosen, else weights in proportion to the rates, and a reorder window
    that fits the delays. `page`: with the status page."""
    fit = fit_of(shapes)
    general = [f"data_plane = {choices.data_plane}"] + ([f"status_listen = 127.0.0.1:{web.PORT}"] if page else [])
    connection = [f"scheduler = {choices.scheduler}"] if choices.sealed else []
    mtu = SEALED_MTU if choices.sealed else PACKET
    return Description(
        links,
        tunnel_ipv4=("10.0.0.2/24", "10.0.0.3/24"),
        weights=fit.weights if choices.weights is None else choices.weights,
        keepalive=fit.keepalive,
        dead=fit.dead,
        reorder_window=fit.reorder_window if choices.window is None else choices.window,
        max_buffdelay_msec=fit.max_buffdelay_msec if choices.buffdelay is None else choices.buffdelay,
        mtu=mtu if choices.mtu is None else choices.mtu,
        sealed=choices.sealed,
        extra={"general": general, "connection": connection},
    )


def main(arguments: Sequence[str]) -> int:
    """Run ``mpt demo`` with `arguments`; the exit code is 0 only if everything worked and the stream recovered."""
    options = parser().parse_args(arguments)
    try:
        shapes = shapes_of(options)
        choices = choices_of(options, len(shapes))
    except MptError as error:
        return _tell(error, options.json, BAD_USAGE)
    try:
        listening = web.listening() if options.web else None
        privileges.obtain("mpt.cli.main", ["demo", *arguments])
        if options.clean:
            removed = sweep(kept=True)
            print(f"removed: {', '.join(removed)}" if removed else "there was nothing to remove")
            return 0
        if options.keep and privileges.in_user_namespace():
            raise MptError("--keep needs root: what a user namespace holds ends with its program")
        outcome = _run(options, shapes, choices, listening)
    except MptError as error:
        return _tell(error, options.json, 1)
    except KeyboardInterrupt:
        print("mpt demo: interrupted; everything is removed", file=sys.stderr)
        return 130
    return 0 if outcome.recovered else 1


def _tell(error: MptError, as_json: bool, code: int) -> int:
    if as_json:
        print(json.dumps({"schema": SCHEMA, "error": str(error)}))
    print(f"mpt demo: {error}", file=sys.stderr)
    return code


def _run(options: argparse.Namespace, shapes: Sequence[Shape], choices: Choices, listening: socket | None) -> Outcome:
    """Run the demo in a new lab; print the result while the lab is there, so that --keep can name it."""
    reports = sys.stderr if options.json else sys.stdout
    with Lab() as lab:
        screen = screen_for(reports)
        window = None
        try:
            demo = Demo(lab, shapes, options.seconds, screen, choices, listening is not None)
            print(f"this takes about {demo.duration:.0f} s", file=reports, flush=True)
            demo.set_up()
            if listening is not None:
                window = web.Window(listening, demo.a)
                print(f"the status page is at {window.url}", file=reports, flush=True)
            outcome = demo.run()
        finally:
            screen.close()
        reasons = advice.why(outcome.ratio, shapes, choices, outcome.singles)
        if not outcome.recovered:
            reasons.append(advice.why_not_recovered(choices))
        if options.json:
            print(json.dumps({**outcome.as_json(), "why": reasons}), flush=True)
        else:
            print(f"\n{outcome.as_text()}", flush=True)
            for reason in reasons:
                print(f"why less: {reason}", flush=True)
            print(f"\ntry next: {advice.next_step(shapes, choices, options.web)}", flush=True)
        if window is not None:
            if sys.stdin.isatty() and not options.json:
                input(f"\nthe status page stays at {window.url} until Enter is pressed")
            window.close()
        if options.keep:
            lab.keep = True
            print(_how_to_look_around(demo), file=reports, flush=True)
    return outcome


def _how_to_look_around(demo: Demo) -> str:
    return (
        "\nboth hosts and their daemons are left running\n"
        f"  enter    ip netns exec {demo.a.namespace} bash      (the other: {demo.b.namespace})\n"
        f"  try      ip netns exec {demo.a.namespace} ping {demo.address}\n"
        f"  read     {demo.lab.directory}/host-a/connections/ipv4.conf\n"
        "  remove   mpt demo --clean"
    )
