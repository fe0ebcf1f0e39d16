"""The options and the arithmetic of the demo."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from mpt.errors import MptError
from mpt.lab.demo.main import Outcome, main
from mpt.lab.demo.options import parser, shapes_of, text_of
from mpt.lab.links import Shape


def shapes(*arguments: str) -> list[Shape]:
    return shapes_of(parser().parse_args(arguments))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [Shape(50), Shape(50)]),
        (["--rate", "100,20"], [Shape(100), Shape(20)]),
        (["--paths", "3", "--delay", "5"], [Shape(50, 5)] * 3),
        (["--paths", "1"], [Shape(50)]),
        (["--jitter", "1,2", "--loss", "0.5"], [Shape(50, 0, 1, 0.5), Shape(50, 0, 2, 0.5)]),
        (["--rate", "10,20,30", "--delay", "1,2,3"], [Shape(10, 1), Shape(20, 2), Shape(30, 3)]),
    ],
)
def test_lists_make_shapes(arguments: Sequence[str], expected: list[Shape]) -> None:
    """One value holds for all paths, several are one for each; the longest list says how many paths there are."""
    assert shapes(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate", "1,2,3", "--paths", "2"], "--rate lists 3 values for 2 paths"),
        (["--rate", "1,2", "--delay", "1,2,3"], "--rate lists 2 values for 3 paths"),
        (["--paths", "0"], "1 to 20 paths"),
        (["--paths", "21"], "1 to 20 paths"),
        (["--rate", "0"], "at least 0.1 Mbit/s"),
        (["--loss", "101"], "100 per cent"),
        (["--seconds", "0.5"], "at least 1 second"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: Sequence[str], words: str) -> None:
    """Lists that do not fit together and impossible values are refused with a reason."""
    with pytest.raises(MptError, match=words):
        shapes(*arguments)


@pytest.mark.parametrize("text", ["", "x", "1,,2", "-1", "nan", "inf"])
def test_what_is_no_number_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A list that is not numbers of 0 or more ends the program with one line about it."""
    with pytest.raises(SystemExit):
        shapes(f"--rate={text}")
    assert "is not a number" in capsys.readouterr().err


def test_a_refusal_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json even an error prints exactly one object, and the exit code is 1."""
    assert main(["--json", "--paths", "99"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"].startswith("--paths 99")
    assert captured.err.startswith("mpt demo: --paths 99")


def test_the_ratio_is_of_the_sum() -> None:
    """The ratio compares the bonded rate with the sum of the singles, and nine tenths of it afterwards is recovered."""
    outcome = Outcome([46.0, 44.0], 81.0, 0.2, 73.0)
    assert outcome.as_json() == {
        "schema": "mpt.demo/1",
        "single_mbit": [46.0, 44.0],
        "bonded_mbit": 81.0,
        "ratio": 0.9,
        "failover_gap_s": 0.2,
        "recovered": True,
        "recovered_mbit": 73.0,
    }
    assert "90.0% of the sum" in outcome.as_text()
    assert not Outcome([46.0], 81.0, 0.2, 72.8).recovered
    assert Outcome([0.0], 0.0, 0.0, 0.0).ratio == 0.0


def test_a_shape_in_words() -> None:
    """A shape reads as a person would write it."""
    assert text_of(Shape(50)) == "50 Mbit/s"
    assert text_of(Shape(None, 10, 2, 0.1)) == "no limit 10±2 ms 0.1 % lost"
