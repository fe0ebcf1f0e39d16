"""The Grafana dashboard that ships, as far as it can be checked without Grafana (its questions: tests/netns)."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

DASHBOARD: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "conf" / "monitoring" / "grafana-dashboard.json").read_text(encoding="utf-8")
)
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
COLUMNS = 24  # of Grafana's grid
UNITS = {"bps", "cps", "percentunit", "pps", "s", "short"}  # ids of Grafana's @grafana/data valueFormats
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def test_panels_have_what_grafana_wants() -> None:
    """A number, a title, a kind that Grafana brings along, a unit that it knows, and questions with letters."""
    assert isinstance(DASHBOARD["schemaVersion"], int) and DASHBOARD["title"] and DASHBOARD["uid"]
    assert len({panel["id"] for panel in PANELS}) == len(PANELS) > 10
    for panel in PANELS:
        assert panel["type"] in ("stat", "timeseries") and panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS and "overrides" in panel["fieldConfig"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters and len(set(letters)) == len(letters)


def test_panels_lie_beside_each_other() -> None:
    """Inside the grid, none over another one."""
    places = [panel["gridPos"] for panel in PANELS]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= COLUMNS and p["w"] > 0 and p["h"] > 0 for p in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)


def test_the_data_source_is_chosen_when_it_is_opened() -> None:
    """All that asks does so by the variable; each variable that a question has is there, before those that use it."""
    assert VARIABLES["datasource"]["type"] == "datasource" and VARIABLES["datasource"]["query"] == "prometheus"
    asking = [*PANELS, *(target for panel in PANELS for target in panel["targets"])]
    asking += [*DASHBOARD["annotations"]["list"], *(each for each in VARIABLES.values() if each["type"] == "query")]
    assert all(each["datasource"] == SOURCE for each in asking)
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS) + json.dumps(DASHBOARD["annotations"])))
    assert used - {"__rate_interval", "__range", "__all"} <= set(VARIABLES)
    known: set[str] = set()
    for name, each in VARIABLES.items():
        assert set(re.findall(r"\$\{?(\w+)", json.dumps(each["query"]))) <= known
        known.add(name)


def test_questions_of_counters_are_rates() -> None:
    """A counter alone only grows; `by` a label keeps what the legend names."""
    for panel in PANELS:
        for target in panel["targets"]:
            for counter in re.findall(r"\bmpt_\w+_total\b", target["expr"]):
                assert re.search(rf"(rate|increase|changes)\({counter}\{{", target["expr"]), target["expr"]
            for label in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")):
                asked = target["expr"]
                assert " by " not in asked or re.search(rf"by ?\([^)]*\b{label}\b", asked), (asked, label)
