"""The options and the arithmetic of the demo."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from mpt.errors import MptError
from mpt.lab.demo import web
from mpt.lab.demo.advice import next_step, why, why_not_recovered
from mpt.lab.demo.main import Outcome, describe, main
from mpt.lab.demo.options import Choices, choices_of, parser, shapes_of, text_of
from mpt.lab.links import Link, Shape


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
        (["--seconds", "nan"], "at least 1 second"),
        (["--seconds", "inf"], "at least 1 second"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: Sequence[str], words: str) -> None:
    """Lists that do not fit together and impossible values are refused with a reason."""
    with pytest.raises(MptError, match=words):
        shapes(*arguments)


def choices(*arguments: str) -> Choices:
    return choices_of(parser().parse_args(arguments), 2)


def test_choices_change_the_tunnel() -> None:
    """What is not chosen fits the paths; adaptive is sealed, whose packets are smaller."""
    links: list[Link] = []
    shapes = [Shape(50, 0), Shape(10, 30)]
    fitting = describe(links, shapes, choices())
    assert (fitting.weights, fitting.max_buffdelay_msec, fitting.mtu, fitting.sealed) == ([5, 1], 50, 1440, False)
    chosen = choices("--window", "7", "--buffdelay", "9", "--weights", "2,3", "--mtu", "1000", "--data-plane", "python")
    found = describe(links, shapes, chosen, page=True)
    assert (found.reorder_window, found.max_buffdelay_msec, found.weights, found.mtu) == (7, 9, [2, 3], 1000)
    assert found.extra["general"] == ["data_plane = python", "status_listen = 127.0.0.1:9400"]
    adaptive = describe(links, shapes, choices("--scheduler", "adaptive"))
    assert (adaptive.sealed, adaptive.mtu, adaptive.extra["connection"]) == (True, 1400, ["scheduler = adaptive"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--window", "-1"], "--window -1: 0 to 10000"),
        (["--buffdelay", "0"], "--buffdelay 0: 1 to 60000"),
        (["--mtu", "500"], "--mtu 500: 576 to 9000"),
        (["--weights", "1"], "--weights lists 1 values for 2 paths"),
        (["--weights", "1,1.5"], "whole numbers from 1 to 10000"),
        (["--weights", "0,1"], "whole numbers from 1 to 10000"),
    ],
)
def test_impossible_choices_are_refused(arguments: Sequence[str], words: str) -> None:
    """With what would be possible."""
    with pytest.raises(MptError, match=words):
        choices(*arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--weights", "1,1"], "the weights allow 20 Mbit/s"),
        (["--window", "3"], "--window 313"),
        (["--buffdelay", "5"], "--buffdelay 60"),
        (["--scheduler", "adaptive", "--loss", "0,1"], "path_1 loses packets"),
        (["--jitter", "1"], "jitter"),
    ],
)
def test_a_low_ratio_has_its_reason(arguments: Sequence[str], words: str) -> None:
    """Of what was chosen, and of the paths; a good ratio needs none."""
    rated = [*arguments, "--rate", "50,10", "--delay", "0,40"]
    paths, chosen = shapes(*rated), choices(*rated)
    assert any(words in reason for reason in why(0.5, paths, chosen, [50.0, 10.0])), why(0.5, paths, chosen, [50.0, 10])
    assert why(0.95, paths, chosen, [50.0, 10.0]) == []


def test_a_stream_that_is_slow_afterwards_has_its_reason() -> None:
    """Paths of sealed connections rest."""
    assert "measured" in why_not_recovered(choices("--scheduler", "adaptive"))
    assert "rests" in why_not_recovered(choices("--sealed"))
    assert "TCP" in why_not_recovered(choices())


def test_the_window_carries_a_browser_into_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways, until either end closes; a second start of the program has the socket of the first."""
    monkeypatch.setattr(web, "PORT", 0)  # any free port
    monkeypatch.setattr(os, "environ", environ := dict(os.environ))
    near, far = socket.socketpair()

    class Stage:
        def call(self, *work: object) -> socket.socket:
            return near

    channel = web.listening()
    again = web.listening()
    assert again.fileno() == channel.fileno() == int(environ[web.VARIABLE]) and again.get_inheritable()
    again.detach()
    window = web.Window(channel, Stage())  # type: ignore[arg-type]
    browser = socket.create_connection(channel.getsockname())
    assert window.url == f"http://127.0.0.1:{channel.getsockname()[1]}/"
    with browser, far:
        browser.sendall(b"GET /")
        assert far.recv(100) == b"GET /"
        far.sendall(b"page")
        assert browser.recv(100) == b"page"
        far.close()
        assert browser.recv(100) == b""
    window.close()


def test_each_demo_leads_to_another() -> None:
    """Paths that differ, then the scheduler that measures, then a look."""
    assert "--rate 50,20" in next_step(shapes(), choices(), False)
    differ = ["--rate", "50,10", "--loss", "0,1"]
    assert next_step(shapes(*differ), choices(), False).startswith(
        "mpt demo --rate 50,10 --loss 0,1 --scheduler adaptive"
    )
    adaptive = choices("--scheduler", "adaptive")
    assert "--web" in next_step(shapes(*differ), adaptive, False)
    assert "--keep" in next_step(shapes(*differ), adaptive, True)


@pytest.mark.parametrize("text", ["", "x", "1,,2", "-1", "nan", "inf"])
def test_what_is_no_number_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A list that is not numbers of 0 or more ends the program with one line about it."""
    with pytest.raises(SystemExit):
        shapes(f"--rate={text}")
    assert "is not a number" in capsys.readouterr().err


def test_a_refusal_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json even an error prints exactly one object, and the exit code is that of bad usage."""
    assert main(["--json", "--paths", "99"]) == 2
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
    document = (Path(__file__).parents[2] / "docs" / "commands.md").read_text().partition("\n### mpt demo\n")[2]
    documented = set(re.findall(r"`([\w./]+)`", document.partition("\n## ")[0]))
    assert {*outcome.as_json(), "error", "mpt.demo/1"} - documented == {"schema"}
    assert not Outcome([46.0], 81.0, 0.2, 72.8).recovered
    assert Outcome([0.0], 0.0, 0.0, 0.0).ratio == 0.0


def test_a_shape_in_words() -> None:
    """A shape reads as a person would write it."""
    assert text_of(Shape(50)) == "50 Mbit/s"
    assert text_of(Shape(None, 10, 2, 0.1)) == "no limit 10±2 ms 0.1 % lost"
