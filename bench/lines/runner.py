"""The runs of the stages, several at a time as long as the machine carries them, with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TypeVar

from bench.lines.loads import Passing
from bench.lines.samples import Sample
from bench.lines.stages import Event, Stage
from bench.lines.ways import Choice, Run, build
from bench.measure import Figures
from mpt.lab.lab import Lab

Task = TypeVar("Task")
Taken = TypeVar("Taken")

TOGETHER = 400.0  # Mbit/s of lines that one batch has; two cores carry more, but with delays of their own
SET_UP = 4.0  # seconds of a batch besides its longest run


@dataclass(frozen=True)
class Measured:
    """The figures of a run in one of the rounds, and who made its delays; what its sender said meanwhile, if asked."""

    run: Run
    round: int
    figures: Figures
    emulator: str
    began: float = 0.0
    samples: Sequence[Sample] = ()


def plan(stages: Sequence[Stage], controls: Sequence[str], ways: Sequence[str]) -> list[Run]:
    """Return the runs in their order, those that are compared with each other side by side."""
    return [
        Run(stage, control, way)
        for stage in stages
        for control in controls
        if control in stage.controls
        for way in stage.ways
        if way in ways
    ]


def batches(runs: Sequence[Run], together: float) -> Iterator[list[Run]]:
    """Yield the runs in batches: of one part, and with lines of `together` Mbit/s at most, or one run alone.

    The ways of a stage with one congestion control, which are compared, share a batch if they fit into one.
    """
    batch: list[Run] = []
    groups = (list(group) for _, group in groupby(runs, lambda run: (run.stage, run.control)))
    for group in groups:
        whole = [group] if _mbit(group) <= together else [[run] for run in group]
        for some in whole:
            if batch and (_mbit([*batch, *some]) > together or batch[0].stage.part != some[0].stage.part):
                yield batch
                batch = []
            batch += some
    if batch:
        yield batch


def _mbit(runs: Sequence[Run]) -> float:
    return sum(run.mbit for run in runs)


def expected(batch: Sequence[Run]) -> float:
    """Return the seconds that a batch takes, more or less."""
    return SET_UP + max(run.stage.load.warmup + run.stage.load.seconds for run in batch)


def measure(
    runs: Sequence[Run],
    rounds: int,
    together: float,
    choice: Choice,
    say: Callable[[str], None],
    sampled: bool = False,
) -> list[Measured]:
    """Take all runs in each round; `say` is told of each, with the time that is left; `sampled`: ask for the status."""
    todo = [(number, batch) for number in range(1, rounds + 1) for batch in batches(runs, together)]
    left = sum(expected(batch) for _, batch in todo)
    began, planned, measured = time.monotonic(), 0.0, list[Measured]()
    for (number, batch), done in until_interrupted(todo, partial(_measure_batch, choice, sampled), say):
        measured += done
        planned += expected(batch)
        pace = (time.monotonic() - began) / planned
        rest = (left - planned) * pace
        for each in done:
            run, mbit = each.run, each.figures.get("mbit", 0.0)
            of = f"{run.stage.name:<14}{run.control:<6}{run.way:<7}"
            say(f"round {number} of {rounds}  {_clock(rest)} left   {of}{mbit:8.1f} Mbit/s")
    return measured


def until_interrupted(
    todo: Iterable[Task], take: Callable[[Task], Taken], say: Callable[[str], None]
) -> Iterator[tuple[Task, Taken]]:
    """Yield each task with what `take` made of it; an interrupt ends that, unless there was nothing yet."""
    taken = False
    for task in todo:
        try:
            done = take(task)
        except KeyboardInterrupt:
            if not taken:
                raise
            say("interrupted; the report is of what was measured until now")
            return
        taken = True
        yield task, done


def _measure_batch(choice: Choice, sampled: bool, task: tuple[int, Sequence[Run]]) -> list[Measured]:
    number, batch = task
    with Lab() as lab:
        grounds = [build(lab, run, f"r{position}", choice) for position, run in enumerate(batch)]
        passing = [Passing(ground, sampled) for ground in grounds]
        for each in passing:
            each.prepare()
        for each in passing:
            each.start()
        for at, each, event in _events(passing):
            time.sleep(max(at - time.monotonic(), 0))
            each.happen(event)
        figures = [each.finish() for each in passing]
        return [
            Measured(run, number, own, next(iter(each.ground.links.values())).emulator, each.began, each.samples)
            for run, own, each in zip(batch, figures, passing, strict=True)
        ]


def _events(passing: Sequence[Passing]) -> list[tuple[float, Passing, Event]]:
    """Return the events of all runs with their times (monotonic clock), in their order."""
    events = [(each.began + event.at, each, event) for each in passing for event in each.ground.run.stage.events]
    return sorted(events, key=lambda entry: entry[0])


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
