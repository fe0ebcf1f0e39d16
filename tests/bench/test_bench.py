"""The benchmark's arithmetic and its report; and once, briefly, the benchmark itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bench.clients import ManyConnections
from bench.load import COMMAND, ask_for_status, command_times, lateness, times_of
from bench.main import SCHEMA, main
from bench.measure import LOST_MS, Figures, climb, quantile, times_in
from bench.parts import LEGEND, NAMES, parts
from bench.report import Report, machine, machine_text
from bench.targets import TARGETS, as_json, as_text, verdicts
from bench.variants import ManyPaths, Variant
from mpt.accel.choice import native_is_built
from mpt.errors import HostError
from mpt.lab.lab import leftovers
from mpt.lab.process import environment, python
from mpt.local.protocol import Reply, Request, decode_request, encode_reply
from tests.cli.daemons import unix_daemon

PLAIN = Variant()
WINDOW_OFF = Variant("python", 0)
WINDOW_ON = Variant("python", 1000)
NATIVE = Variant("native", 1000)


def sample_report() -> Report:
    variants = [PLAIN, WINDOW_OFF, WINDOW_ON, NATIVE]
    blocks = [block for part in parts(["python", "native"]) for block in part.blocks if part.name in ("tcp", "udp")]
    report = Report(variants, blocks)
    for mbit in (9000.0, 10000.0, 14000.0):
        report.add(PLAIN, {"tcp1_mbit": mbit, "ping_ms": 0.05})
    for mbit in (450.0, 600.0, 560.0):
        report.add(WINDOW_ON, {"tcp1_mbit": mbit, "tcp1_cpu_s_per_gb": 20.0, "ping_ms": 0.5})
    for mbit in (225.0, 200.0, 280.0):
        report.add(WINDOW_OFF, {"tcp1_mbit": mbit})
    report.add(WINDOW_OFF, {"rss_start_mb_a": 44.0, "rss_start_mb_b": 45.0})
    for mbit in (4500.0, 5400.0, 6720.0):
        report.add(NATIVE, {"tcp1_mbit": mbit})
    return report


def test_the_median_of_the_rounds_counts() -> None:
    """A figure is the median of its samples, and None where a variant has none."""
    report = sample_report()
    assert report.value(WINDOW_ON, "tcp1_mbit") == 560.0
    assert report.value(PLAIN, "tcp1_cpu_s_per_gb") is None


def test_ratios_are_those_of_the_rounds() -> None:
    """Round by round, the tunnel is divided by the plain link, a window by no window, native by Python."""
    report = sample_report()
    assert report.ratio(WINDOW_ON, "plain", "tcp1_mbit") == 0.05
    assert report.ratio(WINDOW_ON, "window 0", "tcp1_mbit") == 2.0
    assert report.ratio(NATIVE, "python", "tcp1_mbit") == 10.0
    assert report.ratio(WINDOW_ON, "python", "tcp1_mbit") is None
    assert report.ratio(PLAIN, "window 0", "tcp1_mbit") is None
    assert report.ratio(WINDOW_ON, "plain", "tcp1_cpu_s_per_gb") is None


def test_the_table_shows_a_line_for_each_variant_in_80_columns() -> None:
    """Every block has a heading and a line for each variant that has figures, the ratios at the end."""
    lines = sample_report().as_text().splitlines()
    assert lines[:5] == [
        "TCP 1, a to b      Mbit/s CPU s/GB     of a     of b   /plain       /0  /python",
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
    assert variant["figures"]["tcp1_mbit"] == {"median": 560.0, "samples": [450.0, 600.0, 560.0]}
    assert variant["ratios"]["window 0"] == {"tcp1_mbit": 2.0}
    assert values["variants"]["native 1000"]["ratios"]["python"] == {"tcp1_mbit": 10.0}
    assert values["variants"]["plain"]["ratios"] == {}


def test_the_number_of_paths_and_of_connections_is_compared_with_few() -> None:
    """Where variants differ in paths or connections, they are divided by that with two paths, and with one."""
    report = Report([ManyPaths("native", 1000, paths=n) for n in (2, 8)], parts(["native"])[4].blocks)
    report.add(report.variants[0], {"tcp1_mbit": 8000.0})
    report.add(report.variants[1], {"tcp1_mbit": 7000.0})
    assert report.ratio(report.variants[1], "2 paths", "tcp1_mbit") == 0.875
    assert report.as_text().splitlines() == [
        "Paths, TCP 1       Mbit/s CPU s/GB     of a     of b       /2",
        "  native, 2        8000.0",
        "  native, 8        7000.0                               0.875",
    ]
    many = ManyConnections("python", 1000, connections=100)
    assert many.baselines == {"1 connection": ManyConnections("python", 1000, connections=1)}
    assert many.as_json()["connections"] == 100


def test_the_worst_round_counts_for_what_must_never_happen() -> None:
    """The table shows the median of most figures, but the latest keepalive and the longest ping of all rounds."""
    load = next(part for part in parts(["native"]) if part.name == "load")
    report = Report(load.variants, load.blocks)
    for late in (1.0, 60.0, 2.0):
        report.add(load.variants[1], {"load_ping_ms": late, "load_ping_max_ms": late, "load_keepalive_late_ms_a": late})
    assert report.as_text().splitlines()[1].split() == ["native", "1000", "2.00", "60.00", "60.0"]
    assert [(verdict.measured, verdict.is_met) for verdict in verdicts({"load": report})] == [(60.0, False)]


def test_the_delay_of_commands_has_a_table_of_its_own() -> None:
    """Of both daemons the median, the 99 % and the worst of all rounds; no line for the plain link, which has none."""
    load = next(part for part in parts(["native"]) if part.name == "load")
    report = Report(load.variants, load.blocks)
    report.add(load.variants[0], {"load_ping_ms": 0.1})
    for worst in (4.0, 70.0, 5.0):
        delays = {"load_command_ms": 1.0, "load_command_p99_ms": worst, "load_command_max_ms": worst}
        report.add(load.variants[1], {f"{name}_{side}": delay for name, delay in delays.items() for side in "ab"})
    assert report.as_text().splitlines()[-2:] == [
        "Commands, ms         of a     99 %      max     of b     99 %      max",
        "  native 1000        1.00     5.00    70.00     1.00     5.00    70.00",
    ]
    assert [(verdict.measured, verdict.is_met) for verdict in verdicts({"load": report})] == [(70.0, False)] * 2


def test_the_parts_have_the_names_by_which_they_are_chosen() -> None:
    """Every part can be singled out; a part that compares the tunnel with the link begins with the link."""
    for planes, quick in ((["python"], False), (["python", "native"], True)):
        found = parts(planes, quick=quick)
        assert tuple(part.name for part in found) == NAMES
        assert all(part.variants[0].data_plane is None for part in found[:4])
        for part in found:
            assert len({variant.title for variant in part.variants}) == len(part.variants)


def test_the_legend_and_the_targets_fit_80_columns() -> None:
    """Nothing around the tables is wider than they are."""
    part_of = {part.name: part for part in parts(["python", "native"])}
    reports = {name: Report(part.variants, part.blocks) for name, part in part_of.items()}
    for name, part in part_of.items():
        for variant in part.variants:
            figures = {target.name for target in TARGETS if target.part == name}
            reports[name].add(variant, dict.fromkeys(figures, 12345.678))
    given = verdicts(reports)
    assert len(given) == len(TARGETS)
    assert max(map(len, [*as_text(given).splitlines(), *LEGEND.splitlines()])) <= 80


def test_a_target_is_met_or_not() -> None:
    """Each target with figures in the run is listed with the measured value; the others are left out."""
    given = verdicts({"tcp": sample_report()})
    assert [(each.target.title, each.measured, each.is_met) for each in given] == [
        ("TCP 1, of the Python data path's", 10.0, True),
        ("TCP 1, of the plain link's", 0.5, True),
    ]
    assert "  TCP 1, of the plain link's                    0.5   ≥ 0.25   met" in as_text(given).splitlines()
    assert as_json(given)[0] == {
        "target": "TCP 1, of the Python data path's",
        "measured": 10.0,
        "relation": "≥",
        "bound": 10,
        "met": True,
    }
    assert as_text(verdicts({})) == ""


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
    """The rate goes up from the rate that survived the flood, past one unlucky try, until the daemons are saturated."""
    offered: list[float] = []

    def offer(rate: float) -> Figures:
        offered.append(rate)
        if rate == 0:
            return {"udp64_pps": 30_000.0}
        unlucky = len(offered) == 4
        return {"udp64_pps": 10_000.0 if unlucky else min(rate, 50_000.0 - (rate > 60_000) * 20_000)}

    assert climb(offer, "udp64_pps", 10)["udp64_pps"] == 50_000.0
    assert offered == pytest.approx([0, 36_000, 43_200, 51_840, 51_840, 60_000, 60_000])


def test_a_ping_without_an_answer_counts() -> None:
    """A lost ping is a very late one, so that losses do not make the delay look better."""
    said = "64 bytes from 10.0.0.3: icmp_seq=2 ttl=64 time=0.25 ms\n\n2 packets transmitted, 1 received, 50% loss"
    assert times_in(said) == [0.25, LOST_MS]
    with pytest.raises(HostError, match="unreachable"):
        times_in("connect: Network is unreachable")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([10.1, 10.2, 10.3, 10.4], 0.0),
        ([10.1, 10.23, 10.3, 10.4], 0.03),  # the next one is early then
        ([10.1, 10.2, 10.4], 0.1),  # one is missing
        ([10.3, 10.4], 0.2),
        ([10.1, 10.2], 0.15),
        ([], 0.35),
    ],
)
def test_the_lateness_of_keepalives(times: list[float], expected: float) -> None:
    """Each one is due an interval after the one before; one that is missing at either end is late too."""
    assert lateness(10.0, times, 10.45, 0.1) == pytest.approx(expected)


def test_the_times_of_keepalives_are_those_that_tcpdump_writes() -> None:
    """The time stands first in the line; the rest of tcpdump's words is passed over."""
    assert times_of("17.100001 IP 10.1.1.2.4754 >\n\t0x0000:  4500\n\n17.200002 IP 10.1.1.2.4754 >\n") == [
        17.100001,
        17.200002,
    ]


def test_a_command_is_timed_until_its_answer(tmp_path: Path) -> None:
    """It is the one that `mpt show status` asks; the time is that of the whole answer."""
    path = tmp_path / "control"
    with unix_daemon(path, b'{"id":1,', encode_reply(1, Reply(0, "fine"))[1:]) as daemon:
        assert 0 < ask_for_status(str(path)) < 5
    assert daemon.asked == COMMAND
    assert decode_request(COMMAND) == Request(1, ("show", "status"))


@pytest.mark.parametrize(("answers", "why"), [((), "hung up"), ((encode_reply(1, Reply(1, "no")),), "refused.*no")])
def test_a_command_without_a_good_answer_has_no_time(tmp_path: Path, answers: tuple[bytes, ...], why: str) -> None:
    """A daemon that hangs up or says no is an error, not a fast one."""
    path = tmp_path / "control"
    with unix_daemon(path, *answers), pytest.raises(HostError, match=why):
        ask_for_status(str(path))


def test_commands_need_a_daemon(tmp_path: Path) -> None:
    """Where nobody listens there is an error; where there is no daemon to ask nothing is waited for."""
    with pytest.raises(HostError, match=r"no answer to show status at .*control"):
        ask_for_status(str(tmp_path / "control"))
    assert command_times([], 10.0) == []


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--seconds", "0"], ["--soak", "1"]])
def test_too_short_a_run_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is set up for a run that could show nothing."""
    assert main(words) == 1
    assert "at least" in capsys.readouterr().err


@pytest.mark.netns
def test_a_quick_run_measures_every_variant(tmp_path: Path) -> None:
    """A quick run ends well, gives all figures of all variants, and leaves nothing behind."""
    file = tmp_path / "figures.json"
    argv = python("bench.main", "--quick", "--json", str(file))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as bench:
        output, errors = bench.communicate(timeout=200)
    assert bench.returncode == 0, errors
    assert "Mbit/s" in output
    values = json.loads(file.read_text())
    assert values["schema"] == SCHEMA
    assert tuple(values["parts"]) == NAMES
    planes = ["python", "native"] if native_is_built() else ["python"]
    assert bool(values["targets"]) == native_is_built()
    variants = values["parts"]["tcp"]["variants"]
    assert list(variants) == ["plain", *(f"{plane} 1000" for plane in planes)]
    assert 0 < variants["python 1000"]["ratios"]["plain"]["tcp1_mbit"] < 1
    expected = [
        ("paths", f"{planes[-1]}, 8", ["tcp1_mbit"]),
        ("connections", f"{planes[-1]}, 100", ["tcp1_mbit", "spread_mbit", "spread_cpu_s_per_gb_b"]),
        ("events", f"{planes[-1]} 1000", ["events_cable_late_ms", "events_address_late_ms", "events_default_late_ms"]),
    ]
    for plane in planes:
        expected += [
            ("ping", f"{plane} 1000", ["ping_ms"]),
            ("tcp", f"{plane} 1000", ["tcp1_mbit", "tcp1_cpu_s_per_gb_b", "tcp4_back_mbit"]),
            ("udp", f"{plane} 1000", ["udp64_pps", "udp1400_pps", "udp64_cpu_s_per_mpkt_a", "rss_peak_mb_a"]),
            ("load", f"{plane} 1000", ["load_ping_p99_ms", "load_keepalive_late_ms_a", "load_command_max_ms_b"]),
        ]
    for part, variant, names in expected:
        figures = values["parts"][part]["variants"][variant]["figures"]
        for name in names:
            assert figures[name]["median"] > 0
    assert not [left for left in leftovers() if left.startswith(f"mpt-{bench.pid}.")]
