"""The formats of the log, and what is left out."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from mpt.daemon import logoutput
from mpt.daemon.logoutput import LogOutput, is_journal


def event(level: Any = LogLevel.warn, text: str = "path_0 is down", **more: Any) -> dict[str, Any]:
    return {"log_level": level, "log_format": text, "log_namespace": "mpt.daemon.path", "log_time": 1.5, **more}


def written(format: str, *events: dict[str, Any], level: str = "info") -> str:
    output = LogOutput()
    output.stream = io.StringIO()
    output.choose(format, level)
    if format == "journal":
        output.format = format
    for each in events:
        output(each)
    text: str = output.stream.getvalue()
    return text


def test_the_text_has_time_source_and_level() -> None:
    """As Twisted writes its logs."""
    assert written("text", event()).endswith("[mpt.daemon.path#warn] path_0 is down\n")


def test_the_journal_gets_priorities_and_no_second_time() -> None:
    """Every line has its priority, also those of a traceback."""
    assert written("journal", event()) == "<4>path_0 is down\n"
    try:
        raise ValueError("a bug")
    except ValueError:
        text = written("journal", event(LogLevel.critical, "failed", log_failure=Failure()))
    assert text.startswith("<2>failed\n<2>Traceback") and "<2>builtins.ValueError: a bug\n" in text


def test_json_is_one_object_a_line() -> None:
    """Time in UTC, level, source and text."""
    assert json.loads(written("json", event())) == {
        "time": "1970-01-01T00:00:01.500000Z",
        "level": "warn",
        "source": "mpt.daemon.path",
        "text": "path_0 is down",
    }


def test_what_is_below_the_level_is_left_out() -> None:
    """The configured level and what is worse; an event without a level is information."""
    events = [
        event(LogLevel.debug),
        event(LogLevel.info),
        event(LogLevel.warn),
        {"log_format": "plain", "log_time": 0.0},
    ]
    assert written("json", *events).count("\n") == 3
    assert written("json", *events, level="debug").count("\n") == 4
    assert written("json", *events, level="warn").count("\n") == 1
    assert written("json", *events, level="error") == ""


def test_the_journal_is_known_by_its_stream(tmp_path: Path) -> None:
    """Not by the variable alone: the output may lead somewhere else."""
    with open(tmp_path / "out", "w", encoding="ascii") as stream:
        state = os.fstat(stream.fileno())
        assert is_journal(stream, {"JOURNAL_STREAM": f"{state.st_dev}:{state.st_ino}"})
        assert not is_journal(stream, {"JOURNAL_STREAM": "1:2"})
        assert not is_journal(stream, {})
    assert not is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


def test_the_output_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """twistd asks for the observer once; the file is opened then."""
    monkeypatch.setattr(logoutput, "output", LogOutput())
    logoutput.output.file = str(tmp_path / "mpt.log")
    observer = logoutput.observer()
    observer(event())
    observer.stream.close()
    assert "path_0 is down" in (tmp_path / "mpt.log").read_text()


def test_sigusr1_rotates_the_log(tmp_path: Path) -> None:
    """As twistd does for a log of its own; without a handler the signal would end the daemon."""
    code = f"""
import os, signal
from twisted.internet import reactor
from mpt.daemon.logoutput import LogOutput
output = LogOutput()
output.file = {str(tmp_path / "log")!r}
output.open()
output.stream.write("before")
reactor.callWhenRunning(os.kill, os.getpid(), signal.SIGUSR1)
reactor.callLater(0.2, reactor.stop)
reactor.run()
output.stream.write("after")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert [(tmp_path / name).read_text() for name in ("log.1", "log")] == ["before", "after"]
