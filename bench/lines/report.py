"""From the figures of all runs to a table for people, verdicts, and an object for programs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import exp, log
from statistics import median

from bench.lines.runner import Measured
from bench.lines.stages import PAYLOAD, STAGES, WAYS, Stage
from bench.lines.ways import Run
from bench.measure import Figures

LEGEND = """\
plain, sealed   the better line without a tunnel, and through a sealed connection of
                that line alone; tunnel: all lines together; mptcp: the kernel's, on
                the same lines
/plain /sealed  the tunnel divided by these, and by the sum of the line rates (of a
/sum /payload   trace: in that time); /payload: by what TCP can have of that sum
failed          streams that broke, or stood still for a minute
gap             longest time without a byte; wire: octets on the lines for one of
                payload; ping: round trips inside under load, less the idle ones"""

HEADINGS = {  # of the figures that are shown beside the rates, in their order
    "failed": ("failed", 0),
    "gap_ms": ("gap ms", 0),
    "ping_ms": ("ping ms", 0),
    "ping_p95_ms": ("p95 ms", 0),
    "ping_base_ms": ("idle ms", 0),
    "jain": ("Jain", 3),
    "lost_percent": ("lost %", 3),
    "wire_share": ("wire", 3),
    "halved_s": ("halved s", 2),
    "doubled_s": ("doubled s", 2),
    "returned_s": ("back s", 2),
    "voice_lost": ("lost", 0),
    "voice_p999_late_ms": ("late ms", 1),
}
NAME, WIDTH = 20, 9  # columns of the table
Take = Callable[[Stage, str], float | None]  # a figure of a stage with a congestion control


class Results:
    """The medians of the rounds."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        self.measured = measured
        self._samples: dict[Run, list[Figures]] = {}
        for each in measured:
            self._samples.setdefault(each.run, []).append(each.figures)
        self.cells = list(dict.fromkeys((run.stage, run.control) for run in self._samples))

    def value(self, stage: Stage, control: str, way: str, name: str) -> float | None:
        """Return the median of a figure; None if it was not measured."""
        values = [figures[name] for figures in self._samples.get(Run(stage, control, way), []) if name in figures]
        return median(values) if values else None

    def ratio(self, stage: Stage, control: str, way: str, other: str) -> float | None:
        """Return the rate of one way divided by that of another in the same round; the median of the rounds."""
        pairs = zip(
            self._samples.get(Run(stage, control, way), []),
            self._samples.get(Run(stage, control, other), []),
            strict=False,
        )
        ratios = [one["mbit"] / two["mbit"] for one, two in pairs if two.get("mbit")]
        return median(ratios) if ratios else None

    def of_sum(self, stage: Stage, control: str) -> float | None:
        """Return the tunnel's rate divided by the sum of the line rates."""
        payload = self.value(stage, control, "tunnel", "of_payload")
        if payload is not None:
            return payload * PAYLOAD
        mbit = self.value(stage, control, "tunnel", "mbit")
        return None if mbit is None else mbit / stage.sum_mbit

    def shares(self, part: str, control: str, share: Take) -> list[float]:
        """Return a share of each stage of `part` that has it."""
        stages = [stage for stage, each in self.cells if stage.part == part and each == control]
        return [value for stage in stages if (value := share(stage, control)) is not None]

    def as_text(self) -> str:
        """Return the tables of the parts."""
        return "\n\n".join(self._part(part) for part in dict.fromkeys(stage.part for stage, _ in self.cells))

    def as_json(self) -> dict[str, object]:
        """Return every run, and the stages."""
        runs = [
            {
                "stage": each.run.stage.name,
                "control": each.run.control,
                "way": each.run.way,
                "round": each.round,
                "emulator": each.emulator,
                **{name: round(value, 4) for name, value in each.figures.items()},
            }
            for each in self.measured
        ]
        return {"stages": {stage.name: stage.title for stage, _ in self.cells}, "runs": runs}

    def _part(self, part: str) -> str:
        cells = [cell for cell in self.cells if cell[0].part == part]
        lead = "tunnel" if any(self.value(*cell, "tunnel", "mbit") is not None for cell in cells) else "sealed"
        columns: list[tuple[str, Take, int]] = [
            *((way, partial(self.value, way=way, name="mbit"), 1) for way in WAYS),
            *((f"/{way}", partial(self.ratio, way="tunnel", other=way), 2) for way in WAYS if way != "tunnel"),
            ("/sum", self.of_sum, 2),
            ("/payload", partial(self.value, way="tunnel", name="of_payload"), 2),
            *((text, partial(self.value, way=lead, name=name), digits) for name, (text, digits) in HEADINGS.items()),
        ]
        rows: list[list[str]] = [[part, *(heading for heading, _, _ in columns)]]
        for stage, control in cells:
            values = [(take(stage, control), digits) for _, take, digits in columns]
            rows.append([f"{stage.name} {control}", *("" if v is None else f"{v:.{digits}f}" for v, digits in values)])
        kept = [0, *(n for n in range(1, len(rows[0])) if any(row[n] for row in rows[1:]))]
        return "\n".join(_line([row[n] for n in kept]) for row in rows)


def _line(cells: Sequence[str]) -> str:
    return (f"{cells[0]:<{NAME}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells[1:])).rstrip()


def geometric_mean(values: Sequence[float]) -> float | None:
    """Return it; None of nothing."""
    return exp(sum(map(log, values)) / len(values)) if values and min(values) > 0 else None


def listing() -> str:
    """Return the names of the stages with what they are."""
    return "\n".join(f"{stage.name:<14}{stage.part:<10}{stage.title}" for stage in STAGES)


RELATIONS: dict[str, Callable[[float, float], bool]] = {"≥": operator.ge, "≤": operator.le}


@dataclass(frozen=True)
class Verdict:
    """A target of the adaptive scheduler, and what was measured."""

    target: str
    measured: float
    relation: str
    bound: float
    met: bool


def verdicts(results: Results) -> list[Verdict]:
    """Return the verdicts for which there are figures."""
    found: list[Verdict] = []

    def judge(target: str, measured: float | None, relation: str, bound: float) -> None:
        if measured is not None:
            found.append(Verdict(target, measured, relation, bound, RELATIONS[relation](measured, bound)))

    for control, of_sum in (("cubic", 0.63), ("bbr", 0.66)):
        sealed = results.shares("profiles", control, partial(results.ratio, way="tunnel", other="sealed"))
        plain = results.shares("profiles", control, partial(results.ratio, way="tunnel", other="plain"))
        sums = results.shares("profiles", control, results.of_sum)
        if len(sums) == 16:
            judge(f"profiles at 0.97 of the sealed line, {control}", sum(each >= 0.97 for each in sealed), "≥", 16)
            judge(f"profiles at 1.10 of the plain line, {control}", sum(each >= 1.10 for each in plain), "≥", 12)
            judge(f"profiles, mean of the sum of rates, {control}", geometric_mean(sums), "≥", of_sum)
        for part, title in (("minutes", "60 s, of the sum"), ("hostile", "60 s")):
            for stage in dict.fromkeys(stage for stage, _ in results.cells if stage.part == part):
                if part == "minutes":
                    judge(f"{stage.name}, {title}, {control}", results.of_sum(stage, control), "≥", 0.85)
                else:
                    ratio = results.ratio(stage, control, "tunnel", "sealed")
                    judge(f"{stage.name}, of the sealed line, {control}", ratio, "≥", 0.97)
        mptcp = results.shares("lte", control, partial(results.ratio, way="tunnel", other="mptcp"))
        payload = results.shares("lte", control, partial(results.value, way="tunnel", name="of_payload"))
        judge(f"LTE pairs, mean of kernel MPTCP, {control}", geometric_mean(mptcp), "≥", 0.88)
        judge(f"LTE pairs, mean of the payload, {control}", geometric_mean(payload), "≥", 0.85)
        late = results.shares("lte", control, partial(_queued, results))
        judge(f"LTE pairs, ping p95 over idle, ms, {control}", max(late, default=None), "≤", 30)
        for stage, each in results.cells:
            if each == control:
                for name, title, relation, bound in BOUNDS.get(stage.name, ()):
                    own = name == "queued_ms"
                    value = _queued(results, stage, control) if own else results.value(stage, control, "tunnel", name)
                    judge(f"{stage.name}, {title}, {control}", value, relation, bound)
    return found


def _queued(results: Results, stage: Stage, control: str) -> float | None:
    """Return how much later the 95th percentile of the pings is than an idle one, in ms."""
    under = results.value(stage, control, "tunnel", "ping_p95_ms")
    idle = results.value(stage, control, "tunnel", "ping_base_ms")
    return None if under is None or idle is None else under - idle


# stage: (figure of the tunnel, title, relation, bound)
BOUNDS: dict[str, tuple[tuple[str, str, str, float], ...]] = {
    "lossy": (("mbit", "Mbit/s", "≥", 88.0),),
    "loss_1": (("wire_share", "octets on the wire for one", "≤", 1.10 / PAYLOAD),),
    "inside_1": (("lost_percent", "lost inside, %", "≤", 0.01),),
    "steps": (("halved_s", "s until there, halved", "≤", 1.0), ("doubled_s", "s until there, doubled", "≤", 3.0)),
    "modem": (("queued_ms", "ping p95 over idle, ms", "≤", 30.0),),
    "modem_uneven": (("queued_ms", "ping p95 over idle, ms", "≤", 30.0),),
    "modem_four": (("jain", "Jain", "≥", 0.9), ("queued_ms", "ping p95 over idle, ms", "≤", 30.0)),
    "silent": (
        ("voice_lost", "voice lost", "≤", 0.0),
        ("voice_p999_late_ms", "voice p99.9 late, ms", "≤", 26.0),
        ("gap_ms", "longest gap, ms", "≤", 300.0),
        ("returned_s", "s until full after the return", "≤", 3.0),
    ),
    "unplugged": (
        ("voice_lost", "voice lost", "≤", 0.0),
        ("voice_p999_late_ms", "voice p99.9 late, ms", "≤", 26.0),
        ("gap_ms", "longest gap, ms", "≤", 100.0),
        ("returned_s", "s until full after the return", "≤", 1.0),
    ),
}


def verdicts_text(given: Sequence[Verdict]) -> str:
    """Return a line for each verdict; nothing if there are none."""
    if not given:
        return ""
    lines = ["Targets of scheduler = adaptive"]
    for each in given:
        met = "met" if each.met else "NOT met"
        lines.append(f"  {each.target:<48}{each.measured:>9.3g}   {each.relation} {each.bound:<6.4g} {met}")
    return "\n".join(lines)


def verdicts_json(given: Sequence[Verdict]) -> list[dict[str, object]]:
    """Return an object for each verdict."""
    return [{**asdict(each), "measured": round(each.measured, 4), "bound": round(each.bound, 4)} for each in given]
