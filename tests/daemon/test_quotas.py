"""Paths with a quota: what is counted and stored, and that a path rests when its quota is used up."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from mpt.control.quota import Used
from mpt.daemon.quotafile import PathPlace, quota_file, read_used, state_directory, write_used
from mpt.daemon.sealedpath import SealedPath
from mpt.limits import FlightMeasures
from mpt.model import ConnectionConfig, Quota
from tests.daemon.logged import logged
from tests.daemon.measuring import MEASURING, MeasuringDataPath
from tests.daemon.sealedpair import QUICK, SealedPair, a_side, b_side, paths
from tests.daemon.stage import Run, Stage, path

MB = 10**6
LIMITED = {"quota": Quota(100 * MB, "month"), **QUICK}


def limited_side(**changes: Any) -> ConnectionConfig:
    return a_side(path(1, **QUICK), path(2, **LIMITED), scheduler="adaptive", **changes)


@pytest.fixture
def pair(run: Run, tmp_path: Path) -> SealedPair:
    pair = SealedPair(run, limited_side(), b_side(scheduler="adaptive"), plane=MEASURING, state=tmp_path / "state")
    pair.until(pair.carries, 5.0)
    return pair


def carry(pair: SealedPair, octets: int) -> None:
    """Let the limited path have carried so much in all."""
    assert isinstance(pair.a.datapath, MeasuringDataPath)
    pair.a.datapath.flights["c", 1] = FlightMeasures(sent=octets // 4, received=octets - octets // 4)


def limited(stage: Stage) -> SealedPath:
    found = stage.root.runs.tunnels[0].connections["c"].paths[1]
    assert isinstance(found, SealedPath)
    return found


def of_file(pair: SealedPair) -> int:
    (file,) = (pair.a.machine.state_directory or Path()).glob("quota-*.json")
    return int(json.loads(file.read_text())["paths"][0]["octets"])


def test_a_path_that_has_used_up_its_quota_rests_at_both_ends(pair: SealedPair) -> None:
    """It is warned of before, and carries packets again in the next month."""
    with logged() as said:
        carry(pair, 85 * MB)
        pair.pass_time(6.0)
        assert paths(pair.a)[1]["status"] == "up"
        carry(pair, 100 * MB)
        pair.pass_time(6.0)
        pair.pass_time(12.0, step=1.0)
    warned, rests = (each for each in map(str, said) if "quota" in each)
    assert "85% of its quota of 100 MB/month is used; when all is, it rests until 2026-12-01 (UTC)" in warned
    assert "is down: its quota of 100 MB/month is used up: it rests until 2026-12-01 (UTC)" in rests
    assert paths(pair.a)[1]["status"] == "down" and "its quota" in paths(pair.a)[1]["reason"]
    assert paths(pair.b)[1]["peer_says_down"]
    assert pair.carries(), "the other path works"
    pair.a.wall_began += 14 * 86400
    pair.pass_time(6.0)
    assert paths(pair.a)[1]["status"] == paths(pair.b)[1]["status"] == "up"
    assert limited(pair.a).quota is not None and not paths(pair.b)[1]["peer_says_down"]


def test_what_was_used_survives_a_daemon_that_is_killed(pair: SealedPair) -> None:
    """But for the traffic of less than a minute; one that ends properly forgets nothing."""
    carry(pair, 30 * MB)
    pair.pass_time(40.0, step=1.0)
    assert of_file(pair) == 30 * MB
    carry(pair, 40 * MB)
    pair.kill("a")
    assert of_file(pair) == 40 * MB
    carry(pair, 65 * MB)
    pair.until(pair.carries, 5.0)
    pair.pass_time(40.0, step=1.0)
    assert paths(pair.a)[1]["status"] == "down", "it goes on from what was stored"


def test_another_quota_goes_on_from_what_was_used(pair: SealedPair) -> None:
    """So a reload with a larger one lets the path carry packets again."""
    carry(pair, 100 * MB)
    pair.pass_time(6.0)
    assert paths(pair.a)[1]["status"] == "down"
    larger = limited_side()
    runs = pair.a.root.runs
    bigger = a_side(path(1, **QUICK), path(2, quota=Quota(200 * MB, "month"), **QUICK), scheduler="adaptive")
    assert larger != bigger
    runs.replace(runs.connections()[0], bigger)
    pair.pass_time(12.0, step=0.5)
    meter = limited(pair.a).quota
    assert meter is not None and meter.used.octets == 100 * MB and paths(pair.a)[1]["status"] == "up"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": "mpt.quota/2", "paths": []}',
        '{"schema": "mpt.quota/1", "paths": [{"connection": "c"}]}',
        '{"schema": "mpt.quota/1", "paths": [{"connection": "c", "interface": "e", "number": 0, "begun": "x", '
        '"octets": 1}]}',
        '{"schema": "mpt.quota/1", "paths": [{"connection": "c", "interface": "e", "number": 0, "begun": "2026-11-01", '
        '"octets": -1}]}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_told_and_counts_for_nothing(text: str, run: Run, tmp_path: Path) -> None:
    """The daemon starts all the same, and writes a good one."""
    file = quota_file(tmp_path, Path("conf"))
    file.write_text(text)
    with pytest.raises(ValueError, match=r"."):
        read_used(file)
    with logged() as said:
        pair = SealedPair(run, limited_side(), b_side(scheduler="adaptive"), plane=MEASURING, state=tmp_path)
    assert any("cannot be read" in each and "quotas count from nothing" in each for each in map(str, said))
    assert read_used(file) == {PathPlace("c", "eth2", 0): Used(date(2026, 11, 1), 0)}
    assert pair.a.ready


def test_a_directory_that_cannot_be_written_is_told_once(run: Run, tmp_path: Path) -> None:
    """With the remedy; the quota holds all the same, and everything is well when the directory is there."""
    state = tmp_path / "file"
    state.write_text("")
    with logged() as said:
        pair = SealedPair(run, limited_side(), b_side(scheduler="adaptive"), plane=MEASURING, state=state)
        pair.until(pair.carries, 5.0)
        for octets in (50, 60, 100):
            carry(pair, octets * MB)
            pair.pass_time(40.0, step=1.0)
        assert paths(pair.a)[1]["status"] == "down"
        (told,) = (each for each in map(str, said) if "cannot be written" in each)
        assert str(state) in told and "$STATE_DIRECTORY" in told
        state.unlink()
        pair.pass_time(40.0, step=1.0)
    assert any("is written again" in each for each in map(str, said)) and of_file(pair) == 100 * MB


def test_without_quotas_nothing_is_written(run: Run, tmp_path: Path) -> None:
    """Neither while it runs nor at the end."""
    side = a_side(scheduler="adaptive")
    pair = SealedPair(run, side, b_side(scheduler="adaptive"), plane=MEASURING, state=tmp_path / "state")
    pair.pass_time(40.0, step=1.0)
    pair.kill("a")
    assert not (tmp_path / "state").exists()


def test_the_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the old one, and nothing beside it."""
    file = quota_file(tmp_path, Path("/etc/mpt"))
    assert file == tmp_path / "quota-etc-mpt.json"
    used = {PathPlace("c", "eth2", 1): Used(date(2026, 11, 1), 7)}
    write_used(file, used)
    before = file.read_text()

    def refuse(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="full"):
        write_used(file, {})
    assert (file.read_text(), read_used(file), list(tmp_path.iterdir())) == (before, used, [file])


def test_the_state_directory_is_that_of_systemd() -> None:
    """Or else the usual one; the name of a deep configuration directory stays short enough."""
    assert state_directory({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}) == Path("/var/lib/a")
    assert state_directory({}) == state_directory({"STATE_DIRECTORY": ""}) == Path("/var/lib/mpt")
    assert len(quota_file(Path("/s"), Path("/" + "x/" * 300)).name) < 255
