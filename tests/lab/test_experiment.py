"""Experiments: the scenario file and its errors, the order of packets, the tables and the pictures."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.errors import ConfigError
from mpt.lab.experiment import plots
from mpt.lab.experiment.measure import Measured, Run, bytes_at, describe, shape_of
from mpt.lab.experiment.report import Results, as_csv, as_json, as_text, label, remaining, write
from mpt.lab.experiment.scenario import KEYS, OWN, Point, Scenario, load, parse, settings_of, shipped
from mpt.lab.reordering import order_of, percentiles
from mpt.lab.transfer import Progress

FILE = Path("my.ini")
SWEPT = """
[scenario]
title = Two lines
repetitions = 2
[paths]
rate = 100, 50     # Mbit/s
[sweep]
delay = 0, 0 | 0, 20
window = 0 | auto
"""


def test_a_sweep_is_every_combination() -> None:
    """The last key varies first; what is not varied is the same in all."""
    scenario = parse(SWEPT, FILE)
    assert (scenario.title, scenario.repetitions, scenario.varied) == ("Two lines", 2, ["delay", "window"])
    varied = [(point.delay, point.window) for point in scenario.points]
    assert varied == [((0, 0), 0), ((0, 0), None), ((0, 20), 0), ((0, 20), None)]
    assert {point.rate for point in scenario.points} == {(100, 50)}
    assert label(scenario, scenario.points[3]) == "delay=0,20 window=auto"


def test_the_shipped_scenarios_are_right() -> None:
    """Each is read, has a title, and few enough points to be waited for."""
    assert len(shipped()) >= 8
    for name in shipped():
        scenario = load(name)
        assert scenario.title != name
        assert 1 <= len(scenario.points) <= 20
        for point in scenario.points:
            shapes = [shape_of(point, path, 1, Path()) for path in range(point.paths)]
            assert len(describe(point, shapes, []).weights) == point.paths


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[scenario]\nprotcol = tcp\n", r"my.ini: \[scenario\] has no key protcol: do you mean protocol\?"),
        ("[scenario]\nprotocol = sctp\n", "protocol = 'sctp': must be tcp or udp"),
        ("[scenario]\nrate = 5\n", r"rate belongs into \[paths\], not into \[scenario\]"),
        ("[paths]\nrate = 5, x\n", "rate = '5, x': must be Mbit/s, one or one for each path"),
        ("[paths]\npaths = 3\nrate = 5, 6\n", "rate has 2 values for 3 paths: write 1 or 3"),
        ("[sweep]\nrepetitions = 1 | 2\n", r"\[sweep\] repetitions cannot be varied: write it in \[scenario\]"),
        ("[stage]\n", r"there is no section \[stage\]: write \[scenario\], \[paths\] or \[sweep\]"),
        ("rate = 5\n", "my.ini: File contains no section headers"),
        ("[scenario]\npull = 2\n", "pull = 2: there are 2 paths, counted from 0"),
        ("[scenario]\npull = 0\nplug_at = 9\n", "pull_at < plug_at <= seconds must hold"),
        ("[scenario]\nscheduler = adaptive\n", "scheduler = adaptive needs sealed = yes"),
        ("[scenario]\ninner = 5\n", "inner = '5': must be 4 or 6"),
        ("[scenario]\nseconds = nan\n", "seconds = 'nan': must be seconds, from 0.5"),
    ],
)
def test_a_wrong_scenario_is_named(text: str, words: str) -> None:
    """With its file, its key, and what to write instead."""
    with pytest.raises(ConfigError, match=words):
        parse(text, FILE)


def test_a_missing_scenario_names_those_that_there_are(tmp_path: Path) -> None:
    """So does a trace that is no file."""
    with pytest.raises(ConfigError, match=r"none\.ini: No such file.*aggregate"):
        load(str(tmp_path / "none.ini"))
    with pytest.raises(ConfigError, match=r"trace = gone: No such file.*lte"):
        shape_of(Point(trace=("gone",)), 0, 1, tmp_path)


def test_every_key_is_a_setting_and_is_documented() -> None:
    """The keys of a file are the fields of a point; docs/lab.md has a row for each."""
    assert set(KEYS) == set(settings_of(Point()))
    page = (Path(__file__).parents[2] / "docs" / "lab.md").read_text()
    assert [name for name in (*KEYS, *OWN) if f"| `{name}` |" not in page] == []


def test_a_made_trace_follows_the_seed() -> None:
    """The same seed, the same line; another path or repetition, another one."""
    point = Point(trace=("lte",))
    assert shape_of(point, 0, 1, Path()) == shape_of(point, 0, 1, Path())
    assert len({shape_of(point, path, seed, Path()).trace for path in (0, 1) for seed in (1, 2)}) == 4


@given(st.lists(st.integers(0, 30), unique=True))
def test_the_extent_is_that_of_the_rfc(numbers: list[int]) -> None:
    """RFC 4737, sections 3.3 and 4.2, word by word."""
    extents = []
    next_expected = -1
    for place, number in enumerate(numbers):
        if number >= next_expected:
            next_expected = number + 1
        else:
            extents.append(place - min(j for j in range(place) if numbers[j] > number))
    order = order_of(numbers)
    assert order.reordered == len(extents)
    assert order.max_extent == max(extents, default=0)
    assert order.mean_extent * max(len(extents), 1) == pytest.approx(sum(extents))


def test_percentiles() -> None:
    """101 numbers from the least to the greatest."""
    assert percentiles([]) == []
    assert percentiles([7.0]) == [7.0] * 101
    assert percentiles(list(range(1, 101)))[::50] == [1, 50, 100]


def test_a_stream_between_two_reports() -> None:
    """What had come is drawn by a line between them; nothing comes before the first."""
    stream = [Progress(1.0, 100), Progress(2.0, 300)]
    assert [bytes_at(stream, at) for at in (0.5, 1.0, 1.5, 2.0, 9.0)] == [0, 100, 200, 300, 300]
    assert bytes_at([], 1.0) == 0


def some_results() -> Results:
    """Figures as two repetitions of a sweep have them, over TCP and UDP."""
    scenario = parse("[paths]\nrate = 10\n[sweep]\ndelay = 0, 0 | 0, 9\nprotocol = tcp | udp\n", FILE)
    return Results(scenario, [measured(scenario, number) for number in range(2 * len(scenario.points))])


def measured(scenario: Scenario, number: int) -> Measured:
    point = scenario.points[number % len(scenario.points)]
    figures = {"mbit": 10.0 + number, "ratio": 0.5}
    series = [[0.1, 5.0, 5.0, 9.0], [0.2, 5.0, 6.0, 10.0]]
    if point.protocol == "tcp":
        return Measured(
            Run(point, number // 4), figures | {"longest_gap_ms": 20.0}, series, [], ["kernel", "native"], "native"
        )
    udp = {"lost_percent": 1.0, "reordered_percent": 2.0, "max_extent": 3.0}
    return Measured(
        Run(point, number // 4), figures | udp, series, list(map(float, range(101))), ["kernel"] * 2, "native"
    )


def test_the_table_has_a_row_for_each_run() -> None:
    """With every setting, and who made the delays; a figure that a run has not is empty."""
    rows = list(csv.DictReader(io.StringIO(as_csv(some_results()))))
    assert len(rows) == 8
    assert set(settings_of(Point())) <= set(rows[0])
    assert rows[0]["emulators"] == "kernel+native"
    assert rows[0]["data_path_used"] == "native"
    assert (rows[0]["longest_gap_ms"], rows[0]["lost_percent"]) == ("20", "")
    assert [row["mbit"] for row in rows] == [str(10 + number) for number in range(8)]


def test_the_document_has_everything() -> None:
    """The machine, the versions, each run; it can be read again."""
    document = json.loads(json.dumps(as_json(some_results())))
    assert document["schema"] == "mpt.lab/1"
    assert {"mpt", "kernel", "architecture", "processor", "cores", "python"} == set(document["machine"])
    assert [run["repetition"] for run in document["runs"]] == [0] * 4 + [1] * 4
    assert len(document["runs"][1]["delay_percentiles_ms"]) == 101
    page = (Path(__file__).parents[2] / "docs" / "lab.md").read_text()
    members = {*document, *document["scenario"], *document["machine"], *document["runs"][0]}
    assert [name for name in sorted(members - {"schema"}) if f"`{name}`" not in page] == []


def test_people_read_medians() -> None:
    """A line for each point, of the figures that there are."""
    lines = as_text(some_results()).splitlines()
    assert lines[0].split() == ["mbit", "ratio", "lost_percent", "reordered_percent", "max_extent", "longest_gap_ms"]
    assert lines[1].split() == ["delay=0,0", "protocol=tcp", "12", "0.5", "20"]


def test_the_time_that_is_left() -> None:
    """What a run takes beyond its plan is learned from the runs so far."""
    assert remaining(0, 10, planned=60, spent=0, planned_so_far=0) == "90 s left"
    assert remaining(5, 10, planned=60, spent=35, planned_so_far=30) == "35 s left"
    assert remaining(1, 100, planned=600, spent=8, planned_so_far=6) == "14 min left"


def test_the_files(tmp_path: Path) -> None:
    """Two tables, and each picture twice."""
    results = some_results()
    assert [file.name for file in write(results, tmp_path)] == ["results.csv", "results.json"]
    drawn = list(plots.draw(results, tmp_path))
    assert {file.stem for file in drawn} == {"throughput", "delay", *plots.FIGURES}
    assert {file.suffix for file in drawn} == {".png", ".svg"}
    assert all(file.stat().st_size > 5000 for file in drawn)
