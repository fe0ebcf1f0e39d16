"""The past in words."""

from __future__ import annotations

import time

import pytest

from mpt.local.history import History, Sample
from mpt.local.pasttext import events_text, history_text


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local time is UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_events_are_lines_with_the_time() -> None:
    """What is more than information is marked."""
    events = [
        {"number": 1, "time": 3661.5, "level": "info", "source": "path", "text": "path_0 of home is OK"},
        {"number": 2, "time": 3662.0, "level": "warning", "source": "path", "text": "path_0 of home is DOWN"},
    ]
    assert (
        events_text({"last": 2, "events": events})
        == "01:01:01 path_0 of home is OK\n01:01:02 ! path_0 of home is DOWN\n"
    )


def test_a_history_is_a_table_of_means_and_highest_rates() -> None:
    """A line for each path and level that has samples; a path without a history says so; it fits 80 columns."""
    history = History(Sample)
    for second in range(20):
        history.add(Sample(1e6 if second < 10 else 0.0, 125.0, 0.02 if second else float("nan")))
    paths = [{"name": "path_0", "levels": history.as_json()}, {"name": "path_1", "levels": []}]
    text = history_text({"connection": "home", "paths": paths})
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["PATH", "LAST", "OUT/s", "MOST", "IN/s", "MOST", "RTT", "LOSS"],
        ["path_0", "20", "s", "4.0M", "8.0M", "1k", "1k", "20ms", "-"],
        ["20", "s", "4.0M", "8.0M", "1k", "1k", "20ms", "-"],
        ["path_1", "not", "kept", "-", "-", "-", "-", "-", "-"],
    ]
    assert max(map(len, text.splitlines())) <= 80
