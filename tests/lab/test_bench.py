"""The benchmark's arithmetic and its report; and once, briefly, the benchmark itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mpt.errors import HostError
from mpt.lab.bench import main
from mpt.lab.bench_measure import Figures, climb, quantile
from mpt.lab.bench_report import SCHEMA, Report, machine, machine_text
from mpt.lab.bench_soak import MemoryLog, Soak, slope
from mpt.lab.bench_stage import Variant, native_is_built, variants
from mpt.lab.lab import leftovers
from mpt.lab.process import environment, python

PLAIN = Variant()
WINDOW_OFF = Variant("python", 0)
WINDOW_ON = Variant("python", 1000)
NATIVE = Variant("native", 1000)


def sample_report() -> Report:
    report = Report([PLAIN, WINDOW_OFF, WINDOW_ON, NATIVE])
    for mbit in (9000.0, 10000.0, 14000.0):
        report.add(PLAIN, {"tcp_mbit": mbit, "ping_ms": 0.05})
    for mbit in (450.0, 600.0, 560.0):
        report.add(WINDOW_ON, {"tcp_mbit": mbit, "tcp_cpu_s_per_gb": 20.0, "ping_ms": 0.5})
    for mbit in (225.0, 200.0, 280.0):
        report.add(WINDOW_OFF, {"tcp_mbit": mbit})
    report.add(WINDOW_OFF, {"rss_start_mb_a": 44.0, "rss_start_mb_b": 45.0})
    for mbit in (4500.0, 5400.0, 6720.0):
        report.add(NATIVE, {"tcp_mbit": mbit})
    return report


def test_the_median_of_the_rounds_counts() -> None:
    """A figure is the median of its samples, and None where a variant has none."""
    report = sample_report()
    assert report.median(WINDOW_ON, "tcp_mbit") == 560.0
    assert report.median(PLAIN, "tcp_cpu_s_per_gb") is None


def test_ratios_are_those_of_the_rounds() -> None:
    """Round by round, the tunnel is divided by the plain link, a window by no window, native by Python."""
    report = sample_report()
    assert report.ratio(WINDOW_ON, "plain", "tcp_mbit") == 0.05
    assert report.ratio(WINDOW_ON, "window 0", "tcp_mbit") == 2.0
    assert report.ratio(NATIVE, "python", "tcp_mbit") == 10.0
    assert report.ratio(WINDOW_ON, "python", "tcp_mbit") is None
    assert report.ratio(PLAIN, "window 0", "tcp_mbit") is None
    assert report.ratio(WINDOW_ON, "plain", "tcp_cpu_s_per_gb") is None


def test_the_table_shows_a_line_for_each_variant_in_80_columns() -> None:
    """Every block has a heading and a line for each variant that has figures, the ratios at the end."""
    lines = sample_report().as_text().splitlines()
    assert lines[:5] == [
        "TCP, one stream    Mbit/s CPU s/GB     of a     of b   /plain       /0  /python",
        "  plain           10000.0",
        "  python 0          225.0                                0.02",
        "  python 1000       560.0    20.00                       0.05        2",
        "  native 1000      5400.0                                 0.5                10",
    ]
    assert "  python 0           44.0     45.0" in lines
    assert max(map(len, lines)) <= 80


def test_the_object_holds_medians_samples_and_ratios() -> None:
    """A program finds the samples of every figure beside its median, and the ratios by the names of the variants."""
    values = json.loads(json.dumps(sample_report().as_json()))
    variant = values["variants"]["python 1000"]
    assert (variant["data_plane"], variant["reorder_window"]) == ("python", 1000)
    assert variant["figures"]["tcp_mbit"] == {"median": 560.0, "samples": [450.0, 600.0, 560.0]}
    assert variant["ratios"]["window 0"] == {"tcp_mbit": 2.0}
    assert values["variants"]["native 1000"]["ratios"]["python"] == {"tcp_mbit": 10.0}
    assert values["variants"]["plain"]["ratios"] == {}


def test_every_data_path_that_is_built_is_compared() -> None:
    """The bare link comes first; a data path can be singled out; the native one is left out where it is not built."""
    assert variants("python") == [PLAIN, WINDOW_OFF, WINDOW_ON]
    assert (NATIVE in variants()) is native_is_built()


def test_a_busy_machine_is_told_of() -> None:
    """The line about the machine warns when others were at work before the start."""
    facts = machine()
    assert "NOT IDLE" in machine_text({**facts, "load_before": 1.7})
    assert "NOT IDLE" not in machine_text({**facts, "load_before": 0.1})


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0), (0.0, 1.0)])
def test_quantiles_are_samples(share: float, expected: float) -> None:
    """A quantile is the smallest sample that the given share of all does not exceed."""
    assert quantile([3.0, 1.0, 4.0, 2.0], share) == expected


def test_no_answer_has_no_quantile() -> None:
    """A ping without an answer is an error, not a number."""
    with pytest.raises(HostError, match="answered"):
        quantile([], 0.5)


def test_the_climb_finds_what_most_arrives_at() -> None:
    """The rate goes up from what survived the flood, past one unlucky try, until the daemons are saturated."""
    offered: list[float] = []

    def offer(rate: float) -> Figures:
        offered.append(rate)
        if rate == 0:
            return {"udp64_pps": 30_000.0}
        unlucky = len(offered) == 4
        return {"udp64_pps": 10_000.0 if unlucky else min(rate, 50_000.0 - (rate > 60_000) * 20_000)}

    assert climb(offer)["udp64_pps"] == 50_000.0
    assert offered == pytest.approx([0, 36_000, 43_200, 51_840, 51_840, 60_000, 60_000])


def test_the_slope_is_that_of_the_line_of_least_squares() -> None:
    """A straight line gives its slope, noise around it cancels, and too few points give none."""
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope([(0, 1), (1, 0), (2, 1), (3, 0), (4, 1)]) == pytest.approx(0)
    assert slope([(3, 7)]) == slope([]) == slope([(1, 1), (1, 2)]) == 0


def log_of(sizes: list[float], warm_up: float = 60) -> MemoryLog:
    """A sample a minute."""
    return MemoryLog(warm_up, [(60.0 * index, size) for index, size in enumerate(sizes)])


@pytest.mark.parametrize(
    ("sizes", "is_right"),
    [
        ([40, 45, 45.1, 45, 45.1, 45], True),
        ([40, 45, 46, 47, 48, 49], False),  # a megabyte a minute
        ([61, 45, 45, 45, 45, 45], False),  # the limit holds from the start
        ([45, 45, 45, 45, 45, 61], False),
    ],
)
def test_a_soak_fails_by_growth_and_by_size(sizes: list[float], is_right: bool) -> None:
    """Growth in the warm-up is none; after it, more than a full window is, and so is a size above the limit, ever."""
    log = log_of(sizes)
    assert log.is_right is is_right
    assert Soak(300, [log], loads=30, failed=0).is_right is is_right
    assert not Soak(300, [log], loads=30, failed=1).is_right


def test_the_soak_reports_start_end_largest_and_slope() -> None:
    """The start is the first sample after the warm-up; sizes are in MB, the slope in kB a minute."""
    soak = Soak(240, [log_of([40, 45, 45.1, 45.2]), log_of([40, 44, 44, 44])], loads=24, failed=0)
    values = json.loads(json.dumps(soak.as_json()))
    assert values["daemons"]["a"]["start_mb"] == 45
    assert values["daemons"]["a"]["max_mb"] == 45.2
    assert values["daemons"]["a"]["slope_kb_per_min"] == pytest.approx(100)
    assert values["passed"] is True
    assert "stayed under 60 MB and did not grow" in soak.as_text()
    assert max(map(len, soak.as_text().splitlines())) <= 80


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--seconds", "0.1"], ["--soak", "1"]])
def test_too_short_a_run_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is set up for a run that could show nothing."""
    assert main(words) == 1
    assert "at least" in capsys.readouterr().err


@pytest.mark.netns
def test_a_quick_run_measures_every_variant(tmp_path: Path) -> None:
    """A quick run ends well, gives all figures of all variants, and leaves nothing behind."""
    file = tmp_path / "figures.json"
    argv = python("mpt.lab.bench", "--quick", "--data-plane", "python", "--json", str(file))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as bench:
        output, errors = bench.communicate(timeout=200)
    assert bench.returncode == 0, errors
    assert "Mbit/s" in output
    values = json.loads(file.read_text())
    assert values["schema"] == SCHEMA
    assert list(values["variants"]) == ["plain", "python 0", "python 1000"]
    for name in ("python 0", "python 1000"):
        figures = values["variants"][name]["figures"]
        for figure in ("tcp_mbit", "tcp_cpu_s_per_gb_b", "udp64_pps", "udp64_cpu_s_per_mpkt_a", "rss_peak_mb_a"):
            assert figures[figure]["median"] > 0
    assert 0 < values["variants"]["python 1000"]["ratios"]["plain"]["tcp_mbit"] < 1
    assert not [left for left in leftovers() if left.startswith(f"mpt-{bench.pid}.")]
