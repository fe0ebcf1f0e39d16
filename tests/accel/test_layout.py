"""The C engine has layers: every file includes and calls only those below it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ACCEL = Path(__file__).parents[2] / "mpt" / "accel"

# From the bottom up, as docs/architecture.md draws it. Files of one row know nothing of each other.
LAYERS = (
    {"_native"},
    {"packet", "schedule", "pathstate", "events", "replay", "gcm"},
    {
        "split",
        "join",
        "mss",
        "toobig",
        "fragment",
        "flowkey",
        "pool",
        "frame",
        "ancillary",
        "seal",
        "feedback",
        "classes",
    },
    {"session", "handshake", "cell", "receipts"},
    {"equalize", "candidates", "window", "flowqueue", "flight"},
    {"knowledge", "player"},
    {"stream"},
    {"reorder"},
    {"ordering"},
    {"table", "trial", "playout"},
    {"deliver", "listen", "transmit", "orders", "rooms", "rehearsal"},
    {"repair", "train"},
    {"adaptive"},
    {"adaptives"},
    {"unseal"},
    {"identify", "batch"},
    {"egress", "ingress"},
    {"datapath"},
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
SOURCES = sorted(file for file in ACCEL.glob("*.[ch]") if file.stem not in ("_api", "_native"))
INCLUDE = re.compile(r'^#include "(\w+)\.h"$', re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
DEFINITION = re.compile(r"^(?!static)[a-z][\w ]*[ *](\w+)\([^;{}]*\)\s*\{", re.MULTILINE)


def code_of(file: Path) -> str:
    """The text without its comments."""
    return COMMENT.sub("", file.read_text())


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.name)
def test_a_file_includes_only_what_is_below_it(file: Path) -> None:
    """And a source its own header, before anything else of ours that has one."""
    included = INCLUDE.findall(code_of(file))
    if file.suffix == ".c" and file.with_suffix(".h").exists():
        assert included.pop(0) == file.stem
    assert [name for name in included if LAYER[name] >= LAYER[file.stem]] == []


def test_every_source_has_a_header_and_a_layer() -> None:
    """But the top, whose interface is _api.h."""
    stems = {file.stem for file in SOURCES if file.suffix == ".c"}
    assert stems == set(LAYER) - {"_native"}
    assert stems - {file.stem for file in SOURCES if file.suffix == ".h"} == {"datapath"}


def calls() -> dict[str, set[str]]:
    """Which files each source calls functions of, by the names of all functions that are not static."""
    texts = {file.stem: code_of(file) for file in SOURCES if file.suffix == ".c"}
    home = {function: stem for stem, text in texts.items() for function in DEFINITION.findall(text)}
    return {
        stem: {home[word] for word in set(re.findall(r"\b(\w+)\(", text)) if word in home} - {stem}
        for stem, text in texts.items()
    }


def test_no_file_calls_one_above_it() -> None:
    """So no two files call each other, by whatever way round."""
    found = calls()
    assert {"egress", "ingress", "deliver", "pool", "table"} <= found["datapath"]  # the calls are seen
    assert found["ordering"] >= {"equalize", "reorder"}
    assert found["stream"] >= {"candidates", "knowledge", "window"}
    wrong = [(stem, other) for stem, others in found.items() for other in others if LAYER[other] >= LAYER[stem]]
    assert wrong == []
