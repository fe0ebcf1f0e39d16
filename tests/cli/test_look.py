"""`mpt status`, `top`, `monitor`, `logs`, `stop` and `version` against scripted daemons."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from mpt.cli import look, monitor, service
from mpt.cli.main import main
from mpt.cli.top import Past, screen, sparkline
from mpt.local.protocol import Reply, encode_reply
from mpt.local.statustext import PLAIN, Paint, brief_text, status_text
from tests.cli.daemons import unix_daemon
from tests.local.test_status import DOCUMENT, changed

SHOWN = encode_reply(1, Reply(0, status_text(DOCUMENT), DOCUMENT.as_json()))


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither the configuration nor the daemon of this machine is found; return where the daemon's socket may be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPT_CONFIG_DIR", str(tmp_path / "conf"))
    monkeypatch.setenv("MPT_CONTROL_SOCKET", str(tmp_path / "mpt.sock"))
    return tmp_path / "mpt.sock"


def test_status_is_the_document_in_words(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the daemon, into a pipe as they are, on a terminal with colours. Options stand anywhere."""
    for words in (["status"], ["--timeout", "5", "status"]):
        with unix_daemon(nowhere, SHOWN) as daemon:
            assert main(words) == 0
        assert capsys.readouterr().out == status_text(DOCUMENT)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with unix_daemon(nowhere, SHOWN):
        assert main(["status"]) == 0
    assert capsys.readouterr().out == status_text(DOCUMENT, Paint(True))
    assert json.loads(daemon.asked)["command"] == ["show", "status"]


def test_status_can_be_brief_json_or_of_one_connection(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The name goes to the daemon, which knows it or not."""
    with unix_daemon(nowhere, SHOWN) as daemon:
        assert main(["status", "home", "--brief"]) == 0
    assert capsys.readouterr().out == "MPT_connection_10.0.0.2  1/2 up  out 12.0M  in 320k  path_1 interface down\n"
    assert json.loads(daemon.asked)["command"] == ["show", "status", "home"]
    with unix_daemon(nowhere, SHOWN):
        assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == DOCUMENT.as_json()
    with unix_daemon(nowhere, encode_reply(1, Reply(1, "there is no connection home"))):
        assert main(["status", "home"]) == 1
    assert capsys.readouterr().err == "mpt: there is no connection home\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("status a b", "'b' is too much"),
        ("status --json --watch", "choose one"),
        ("status --json --brief", "choose one"),
        ("status --frob", "there is no option '--frob' here: it must be one of"),
        ("status --brei", "did you mean --brief?"),
        ("status --watch home", "--watch 'home' must be seconds from 0.5 to 86400; the NAME"),
        ("status --watch 0", "must be seconds from 0.5 to 86400"),
        ("status --watch=nan", "must be seconds from 0.5 to 86400"),
        ("status --watch 86401", "must be seconds from 0.5 to 86400"),
        ("status --timeout 0", "must be seconds from 0.001 to 86400"),
        ("status --timeout --json", "--timeout needs a value after it"),
        ("status --socket", "--socket needs a value after it"),
        ("status -0", "from 1 to 65535, as in -65050"),
        ("top a b", "'b' is too much"),
        ("top --json", "there is no option '--json' here"),
        ("metrics --json", "there is no option '--json' here"),
        ("version --json", "there is no option '--json' here"),
        ("version x", "'x' is too much"),
        ("monitor x", "'x' is too much"),
        ("stop x", "'x' is too much"),
        ("logs --frob", "there is no '--frob': it must be one of"),
        ("logs -n", "-n needs a number from 1"),
        ("logs -n 0", "-n needs a number from 1"),
        ("logs -n ²", "-n needs a number from 1"),
    ],
)
def test_bad_words_are_told(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No daemon is asked; the status is 2, and the first line says what is allowed."""
    assert main(words.split()) == 2
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("mpt: ") and told in first


def test_watch_shows_it_again(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After so many seconds, until it is interrupted."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr("mpt.cli.look.time.sleep", sleep)
    with unix_daemon(nowhere, SHOWN):
        assert main(["status", "--watch", "0.5"]) == 130
    assert slept == [0.5]
    assert capsys.readouterr().out == status_text(DOCUMENT) + "\n"  # a pipe: one after another, no escape codes
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    with unix_daemon(nowhere, SHOWN):
        assert main(["status", "--watch=3", "--brief"]) == 130
    assert slept == [0.5, 3.0]
    assert capsys.readouterr().out == look.CLEAR + brief_text(DOCUMENT)


def test_over_udp_there_is_no_brief_status(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The daemon's text is shown, once or again and again; what needs the document is told to use the socket."""
    monkeypatch.setattr(look, "question", lambda options, *words: Reply(0, status_text(DOCUMENT)))
    assert main(["status"]) == 0
    assert capsys.readouterr().out == status_text(DOCUMENT)
    assert main(["status", "--brief"]) == 1
    assert "use its unix socket" in capsys.readouterr().err


def test_a_document_of_another_kind_is_told(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A much newer daemon may have another schema."""
    with unix_daemon(nowhere, encode_reply(1, Reply(0, "text", {"schema": "mpt.status/9"}))):
        assert main(["status", "--brief"]) == 1
    assert "mpt.status/9" in capsys.readouterr().err


def test_monitor_shows_what_is_new(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It begins at the present, and asks with the last number; a warning is marked."""
    event = {"number": 8, "time": 0.0, "level": "warning", "source": "path", "text": "path_0 is down"}
    monkeypatch.setattr("mpt.cli.monitor.time.sleep", lambda seconds: None)
    answers = [
        Reply(0, "", {"last": 7, "events": []}),
        Reply(0, "", {"last": 8, "events": [event]}),
        Reply(1, "enough"),
    ]
    asked: list[tuple[str, ...]] = []

    def question(options: object, *words: str) -> Reply:
        asked.append(words)
        return answers[(len(asked) - 1) % 3]

    monkeypatch.setattr(monitor, "question", question)
    assert main(["monitor"]) == 1
    assert capsys.readouterr().out.endswith(":00 ! path_0 is down\n")
    assert asked == [("events",), ("events", "7"), ("events", "8")]
    assert main(["monitor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == event


def test_stop_waits_for_the_end_of_the_daemon(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The daemon is the process whose number is in its status."""
    with subprocess.Popen(["sleep", "60"]) as victim:
        plain = replace(DOCUMENT, pid=victim.pid).as_json()
        with unix_daemon(nowhere, encode_reply(1, Reply(0, "", plain))):
            assert main(["stop"]) == 0
        assert victim.wait(5) == -15
    assert capsys.readouterr().out == f"mptsrv (process {victim.pid}) has stopped\n"


def test_version_tells_of_both_programs(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a daemon it says so, and that is no failure."""
    with unix_daemon(nowhere, SHOWN):
        assert main(["version"]) == 0
    assert capsys.readouterr().out.endswith(
        "mptsrv 0.1.0, pid 42; data paths: tun0 native, seals with OpenSSL 3.0.19\n"
    )
    assert main(["version"]) == 0
    assert "mptsrv: no daemon at" in capsys.readouterr().out


def test_logs_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The program that reads them takes over; without a log the reason is told."""
    became: list[list[str]] = []

    def become(argv: list[str]) -> int:
        became.append(argv)
        return 0

    monkeypatch.setattr(service, "_become", become)
    monkeypatch.setattr("mpt.cli.service.shutil.which", lambda name: None)
    file = tmp_path / "mpt.log"
    monkeypatch.setattr(service, "LOG_FILES", (str(file),))
    assert main(["logs"]) == 1
    assert "there is no log" in capsys.readouterr().err
    file.write_text("line\n")
    assert main(["logs", "-f", "-n", "3"]) == main(["logs"]) == 0
    assert became == [["tail", "-n", "3", "-F", str(file)], ["tail", "-n", "+1", str(file)]]
    assert main(["logs", "-n", "many"]) == main(["logs", "--frob"]) == 2


@pytest.mark.parametrize("name", ["status", "top", "monitor", "logs", "stop", "version"])
def test_each_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before or after the word; nobody is asked."""
    assert main([name, "--help"]) == main(["help", name]) == 0
    first, second = capsys.readouterr().out.split(f"mpt {name}")[1:3]
    assert first.strip() == second.strip()


# ---- mpt top ---------------------------------------------------------------------------------------------------------


def test_a_screen_fits_its_terminal() -> None:
    """At 80 x 24 and at widths around it; each path has its state, share and rates."""
    past: Past = {("MPT_connection_10.0.0.2", f"path_{n}"): deque((1e5 * i, 1e4) for i in range(100)) for n in (0, 1)}
    for columns, rows in ((80, 24), (60, 10), (200, 50), (80, 3)):
        lines = screen(DOCUMENT, past, columns, rows, PLAIN)
        assert len(lines) <= rows and max(map(len, lines)) <= columns, (columns, rows)
    text = "\n".join(screen(DOCUMENT, past, 80, 24, PLAIN))
    assert "MPT_connection_10.0.0.2: 1 of 2 paths work, out 12.0M, in 320k bit/s" in text
    assert "interface down" in text and "100% ██" in text and "█" in text
    assert "\x1b[" in "\n".join(screen(DOCUMENT, past, 80, 24, Paint(True)))
    assert "no connection" in screen(replace(changed(), connections=()), {}, 80, 24, PLAIN)


def test_a_sparkline_is_as_high_as_its_part() -> None:
    """A value above zero is always seen."""
    assert sparkline([0, 1, 50, 100], 100) == " ▁▄█"
    assert sparkline([0, 0], 0) == "  "


def test_top_needs_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Into a pipe it says what to use instead."""
    assert main(["top"]) == 1
    assert "mpt status --json" in capsys.readouterr().err


def test_top_gives_the_terminal_back(nowhere: Path) -> None:
    """On a pseudo-terminal: it draws, q ends it, the cursor is shown again."""
    controller, terminal = os.openpty()
    root = str(Path(__file__).parent.parent.parent)
    with unix_daemon(nowhere, SHOWN):
        top = subprocess.Popen(
            [sys.executable, "-m", "mpt.cli.main", "top"],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "PYTHONPATH": root, "TERM": "xterm"},
        )
        os.close(terminal)
        drawn = b""
        while b"\x1b[J" not in drawn:
            drawn += os.read(controller, 65536)
        os.write(controller, b"q")
        assert top.wait(10) == 0
    drawn += os.read(controller, 65536)
    os.close(controller)
    assert b"MPT_connection_10.0.0.2" in drawn and drawn.rstrip().endswith(b"\x1b[?25h\x1b[?1049l")
