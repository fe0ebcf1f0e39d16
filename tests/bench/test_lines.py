"""The benchmark of lines: its table of stages, how runs are put together, and how figures become verdicts."""

from __future__ import annotations

import json
import os

import pytest

from bench.lines.loads import end_of, jain, time_until_there
from bench.lines.main import chosen
from bench.lines.report import BOUNDS, Results, listing, verdicts, verdicts_text
from bench.lines.runner import Measured, batches, expected, measure, plan, until_interrupted
from bench.lines.samples import PathSample, Sample, carried_mbit, path_of
from bench.lines.samples import parse as parse_samples
from bench.lines.stages import CONTROLS, PROFILES, STAGES, WAYS, Event, Load, Stage, rate_of
from bench.lines.ways import Choice, Run, has_mptcp
from bench.main import main, parser
from mpt.errors import HostError
from mpt.lab.lab import leftovers
from mpt.lab.links import Shape
from mpt.lab.transfer import Progress, Result, Transfer

BY_NAME = {stage.name: stage for stage in STAGES}


def test_every_stage_has_a_name_of_its_own_and_two_lines_with_rates() -> None:
    """There are the sixteen profiles, ten pairs like LTE, and no bound is for a stage that is not there."""
    assert len(BY_NAME) == len(STAGES)
    assert len(PROFILES) == 16 and sum(stage.part == "lte" for stage in STAGES) == 10
    assert all(len(stage.lines) == 2 and all(rate_of(line) > 0 for line in stage.lines) for stage in STAGES)
    assert BOUNDS.keys() <= BY_NAME.keys()
    assert {stage.part for stage in STAGES}.isdisjoint(BY_NAME)
    assert all(name in listing() for name in BY_NAME)


@pytest.mark.parametrize("name", ["profiles", "lossy"])
def test_a_stage_is_chosen_by_its_name_or_its_part(name: str) -> None:
    """And nothing else with it."""
    assert {name} & {word for stage in chosen([name]) for word in (stage.name, stage.part)}
    assert all(name in (stage.name, stage.part) for stage in chosen([name]))
    assert parser().parse_args(["--lines", "--stage", name]).stage == (name,)


def test_a_wrong_stage_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The message says how to see their names; --list shows them without measuring."""
    with pytest.raises(SystemExit):
        parser().parse_args(["--lines", "--stage", "sixteen"])
    assert "--lines --list" in capsys.readouterr().err
    assert main(["--lines", "--list"]) == 0
    assert "lte_starlink" in capsys.readouterr().out


def test_all_stages_take_less_than_twenty_minutes_and_quick_two() -> None:
    """By the seconds that are planned, 90 of 100 of the time at most; the batches hold each run once."""
    for quick, limit in ((False, 20 * 60), (True, 2 * 60)):
        stages = [stage.shortened() for stage in STAGES if stage.is_quick] if quick else STAGES
        runs = plan(stages, CONTROLS, WAYS)
        packed = list(batches(runs, 400))
        assert [run for batch in packed for run in batch] == runs
        assert sum(map(expected, packed)) < 0.9 * limit


def test_runs_share_a_batch_as_long_as_their_lines_fit() -> None:
    """A run whose lines alone are more is a batch of its own; 0: one run at a time."""
    runs = plan([BY_NAME["baseline"], BY_NAME["fiber_lte"]], ["cubic"], WAYS)
    assert [[run.way for run in batch] for batch in batches(runs, 200)] == [
        ["plain", "sealed", "tunnel"],
        ["plain"],
        ["sealed"],
        ["tunnel"],
    ]
    assert [len(batch) for batch in batches(runs, 0)] == [1] * 6


def test_an_interrupt_ends_with_what_was_measured() -> None:
    """The batch that it met is lost, the earlier ones are not; before the first there is nothing to tell."""

    def take(batch: str) -> str:
        if batch == "c":
            raise KeyboardInterrupt
        return batch.upper()

    said: list[str] = []
    assert list(until_interrupted("abcd", take, said.append)) == [("a", "A"), ("b", "B")]
    assert len(said) == 1
    with pytest.raises(KeyboardInterrupt):
        list(until_interrupted("cd", take, said.append))


def test_a_single_line_is_the_better_one() -> None:
    """Which one that is may depend on the congestion control."""
    stage = BY_NAME["lte_starlink"]
    assert [list(Run(stage, control, "sealed").lines) for control in CONTROLS] == [[0], [1]]
    assert list(Run(stage, "bbr", "tunnel").lines) == [0, 1]


def test_what_the_lines_can_carry() -> None:
    """A constant rate and the mean of a trace add up, from moment to moment."""
    assert BY_NAME["steps"].capacity_mbit(5, 9) == pytest.approx(50 + 37.5)
    assert BY_NAME["fiber_lte"].sum_mbit == 330


def test_the_time_until_a_rate_is_there() -> None:
    """From the mark until the next half second brings as much as is wanted; all the time that is left if none does."""
    slow = [Progress(100 + n / 10, n * 12_500) for n in range(51)]  # 1 Mbit/s
    fast = [Progress(105 + n / 10, 625_000 + n * 125_000) for n in range(1, 51)]  # 10 Mbit/s
    assert time_until_there(slow + fast, 100.0, 3.0, 10.0, lambda at: 9.0) == pytest.approx(2.0, abs=0.11)
    assert time_until_there(slow + fast, 100.0, 6.0, 10.0, lambda at: 9.0) == 0
    assert time_until_there(slow + fast, 100.0, 3.0, 10.0, lambda at: 11.0) == 7


class Broken(Transfer):
    """A stream that does not come to its end."""

    def __init__(self, is_wrong: bool) -> None:
        self._wrong = is_wrong

    @property
    def is_wrong(self) -> bool:
        return self._wrong

    def finish(self) -> Result:
        raise HostError("it stood still")


def test_a_stream_that_breaks_is_a_figure_and_one_with_wrong_bytes_is_an_error() -> None:
    """A tunnel that is too bad for a stream is measured as such; one that changes bytes ends the benchmark."""
    assert end_of(Broken(False)) is None
    with pytest.raises(HostError):
        end_of(Broken(True))


def test_shares_are_fair_or_not() -> None:
    """Equal ones give 1, a single one of four a quarter, none nothing."""
    assert jain([5, 5, 5]) == pytest.approx(1)
    assert jain([8, 0, 0, 0]) == pytest.approx(0.25)
    assert jain([0, 0]) == 0


def measured(stage: Stage, way: str, mbit: float, number: int = 1, **figures: float) -> Measured:
    return Measured(Run(stage, "cubic", way), number, {"mbit": mbit, **figures}, "native")


def test_ratios_are_taken_round_by_round() -> None:
    """A round on a slow machine is slow for all ways; the median of the ratios counts."""
    stage = BY_NAME["baseline"]
    runs = [(40, 80), (20, 40), (40, 60)]
    samples = [measured(stage, "sealed", sealed, n) for n, (sealed, _) in enumerate(runs)]
    samples += [measured(stage, "tunnel", tunnel, n) for n, (_, tunnel) in enumerate(runs)]
    results = Results(samples)
    assert results.ratio(stage, "cubic", "tunnel", "sealed") == pytest.approx(2.0)
    assert results.of_sum(stage, "cubic") == pytest.approx(0.6)
    assert results.ratio(stage, "cubic", "tunnel", "plain") is None
    table = results.as_text()
    assert "baseline cubic" in table and "/sealed" in table and "mptcp" not in table


def test_verdicts_need_their_figures() -> None:
    """All sixteen profiles, or no verdict about them; a delay is what the load adds to the idle one."""
    profiles = [stage for stage in STAGES if stage.part == "profiles"]
    samples = [measured(stage, way, 45.0) for stage in profiles for way in ("plain", "sealed", "tunnel")]
    modem = measured(BY_NAME["modem"], "tunnel", 90.0, ping_p95_ms=75.0, ping_base_ms=31.0)
    found = {each.target: each for each in verdicts(Results([*samples, modem]))}
    assert found["profiles at 0.97 of the sealed line, cubic"].met
    assert not found["profiles at 1.10 of the plain line, cubic"].met
    assert found["modem, ping p95 over idle, ms, cubic"].measured == pytest.approx(44)
    assert not any(each.startswith("profiles") for each in {v.target for v in verdicts(Results(samples[3:]))})
    assert "NOT met" in verdicts_text(list(found.values()))


@pytest.mark.netns
def test_a_stage_is_measured_every_way() -> None:
    """Rates, pings, voice and what a dead line does to them, beside a line without a tunnel; nothing is left behind."""
    load = Load(seconds=2, warmup=0.5, pings=True, voice=True)
    lines = (Shape(20, 5), Shape(10, 10))
    events = (Event(1.2, 0, "dead"), Event(1.6, 0, "alive"))
    marks = ((1.6, "returned_s"),)
    stage = Stage("short", "two lines", "test", lines, load, WAYS, (1, 1), ("cubic",), events=events, marks=marks)
    said: list[str] = []
    ways = [way for way in WAYS if way != "mptcp" or has_mptcp()]
    runs = plan([stage], CONTROLS, ways)
    measured_runs = measure(runs, 1, 200, Choice(), said.append, sampled=True)
    found = {each.run.way: each.figures for each in measured_runs}
    assert list(found) == ways and len(said) == len(ways)
    for way in ("plain", "sealed"):
        assert 7 < found[way]["mbit"] < 10
        # the stream fills the queue, which may drop a packet of the voice
        assert found[way]["voice_lost"] < 10 and found[way]["ping_base_ms"] > 20
    for way in set(ways) - {"plain", "sealed"}:
        assert 0 < found[way]["mbit"] < 30 and found[way]["gap_ms"] > 0
    assert found["tunnel"]["returned_s"] <= 0.9 and found["tunnel"]["ping_p95_ms"] > 10
    assert [len(each.samples) > 10 for each in measured_runs] == [way == "tunnel" for way in ways]
    assert not [name for name in leftovers() if name.startswith(f"mpt-{os.getpid()}.")]


def test_a_path_of_the_status_as_it_is_drawn() -> None:
    """Octets a second become Mbit/s, seconds ms; a connection that does not adapt only tells what it has sent."""
    adaptive = {"rate": 1_250_000.0, "queue": 0.0125, "share": 0.4, "state": "active", "octets_sent": 77}
    assert path_of({"bytes_sent": 5, "status": "up", "adaptive": adaptive}) == PathSample(77, 10.0, 12.5, 0.4, "active")
    plain = {"bytes_sent": 5, "status": "up", "adaptive": None, "share": 0.5}
    assert path_of(plain) == PathSample(5, None, None, 0.5, "up")


def test_samples_are_what_the_program_wrote_and_tell_what_was_carried() -> None:
    """The rate of a path is that of its octets from one sample to the next."""
    lines = [json.dumps({"at": at, "paths": [[octets, None, 3.0, 1.0, "active"]]}) for at, octets in ((1, 0), (2, 5e6))]
    samples = parse_samples("\n".join(["ready", *lines, ""]))
    assert samples[1] == Sample(2, (PathSample(5e6, None, 3.0, 1.0, "active"),))
    assert carried_mbit(samples, 0) == [0, 40]
