"""docs/commands.md has each member of the JSON documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from mpt.config.findings import SCHEMA as CHECK
from mpt.config.findings import SEVERITIES as CHECK_SEVERITIES
from mpt.config.findings import Finding as CheckFinding
from mpt.config.parser import Problem
from mpt.doctor.findings import SCHEMA as DOCTOR
from mpt.doctor.findings import SEVERITIES, Finding
from mpt.local.history import Inside
from mpt.local.status import ConnectionStatus, PathStatus, SealedStatus, StatusDocument, TunnelStatus
from mpt.model import Quota
from tests.daemon.measuring import MEASURING
from tests.daemon.sealedpair import QUICK, SealedPair, a_side, b_side
from tests.daemon.stage import Run, path

TEXT = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")


def table(head: str) -> set[str]:
    """Return the names in the first column of the table with this head."""
    (_, _, rest) = TEXT.partition(f"\n| {head} | |\n|---|---|\n")
    rows = rest.partition("\n\n")[0].splitlines()
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def words(heading: str) -> set[str]:
    """Return the words in backticks in the text below a heading."""
    (_, _, rest) = TEXT.partition(f"\n{heading}\n")
    return set(re.findall(r"`([\w./]+)`", re.split(r"\n##", rest)[0]))


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        (StatusDocument, "Member"),
        (TunnelStatus, "Tunnel"),
        (ConnectionStatus, "Connection"),
        (SealedStatus, "Keys of a sealed connection"),
        (PathStatus, "Path"),
    ],
)
def test_the_status_is_documented(kind: type[Any], head: str) -> None:
    """Each member has its place in a table."""
    documented = table(head) - {"handshake_retry", "handshake_full", "handshake_unknown"}
    assert documented == {each.name for each in fields(kind)}


def test_the_inside_is_documented() -> None:
    """Each member has its row."""
    assert table("The inside of a connection") == set(Inside._fields)


def test_what_adaptive_connections_know_is_documented(run: Run, tmp_path: Path) -> None:
    """Of the connection, of a path, and of a path with a quota."""
    limited = path(2, quota=Quota(10**8, "month"), **QUICK)
    pair = SealedPair(
        run,
        a_side(path(1, **QUICK), limited, scheduler="adaptive"),
        b_side(scheduler="adaptive"),
        plane=MEASURING,
        state=tmp_path,
    )
    pair.until(pair.carries, 5.0)
    (connection,) = pair.a.root.operations.status().as_json()["connections"]
    assert set(connection["adaptive"]) == table("An adaptive connection")
    for each in connection["paths"]:
        assert set(each["adaptive"]) == table("A path of it")
    quota = connection["paths"][1]["adaptive"]["quota"]
    (row,) = re.findall(r"\| `quota` \| (.*) \|", TEXT[TEXT.index("| A path of it |") :])
    assert set(quota) == set(re.findall(r"`(\w+)`", row))


def test_the_past_is_documented(run: Run) -> None:
    """The history of a path, and the events."""
    stage = run()
    stage.reactor.pass_time(3.0)
    documented = words("## History and events")
    for question, some in (("show history c", "out_rate"), ("show events 0", "number")):
        reply = stage.ask(question).reply
        assert reply is not None and reply.data is not None
        found = members(reply.data)
        assert some in found and found - documented == {"schema"}
        assert reply.data["schema"] in documented


def test_what_check_and_doctor_find_is_documented() -> None:
    """Each member of a finding, and each severity."""
    problem = Problem(Path("home.conf"), 1, "path_0", "gw_ipaddr", "10.0.0.1", "is not on the link")
    of_check = {CHECK, "directory", "findings", *CheckFinding(CHECK_SEVERITIES[0], problem).as_json()}
    assert of_check <= words("### mpt check")
    assert all(f"*{each}*" in TEXT for each in CHECK_SEVERITIES)
    of_doctor = {DOCTOR, "findings", *Finding(SEVERITIES[0], "tun", "it is not there").as_json(), *SEVERITIES}
    assert of_doctor <= words("### mpt doctor")


def members(value: Any) -> set[str]:
    """Return the names of all members in a document, however deep."""
    if isinstance(value, Mapping):
        return set(value) | {name for each in value.values() for name in members(each)}
    return {name for each in value for name in members(each)} if isinstance(value, list) else set()
