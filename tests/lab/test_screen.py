"""The demo's display, on a terminal and on another stream."""

from __future__ import annotations

import io

import pytest

from mpt.lab.demo.screen import LiveScreen, PlainScreen, Row, screen_for


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_plain_lines() -> None:
    """Without a terminal each outcome and event is a line, and there is not one escape sequence."""
    stream = io.StringIO()
    screen = screen_for(stream)
    assert isinstance(screen, PlainScreen)
    screen.phase("path_0 alone")
    screen.rows([Row("path_0", "50 Mbit/s", 49.0, 50.0)])
    screen.event("pulled")
    screen.done("46.5 Mbit/s")
    screen.close()
    assert stream.getvalue() == "path_0 alone: pulled\npath_0 alone: 46.5 Mbit/s\n"


def test_a_terminal_gets_a_table_that_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal the table is erased by the lines it had, and the cursor comes back at the end."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    screen = screen_for(stream)
    assert isinstance(screen, LiveScreen)
    screen.phase("all paths together")
    screen.rows([Row("path_0", "50 Mbit/s", 25.0, 50.0), Row("path_1", "50 Mbit/s", 0.0, 50.0, "pulled")])
    before = len(stream.getvalue())
    screen.done("93 Mbit/s")
    again = stream.getvalue()[before:]
    assert again.startswith("\x1b[4A\x1b[J")  # the phase, an empty line, two rows
    assert "█" * 15 + "·" * 15 + "    25.0 Mbit/s" in again
    assert "0.0 Mbit/s  pulled" in again
    screen.close()
    assert stream.getvalue().endswith("\x1b[?25h")


def test_a_narrow_or_simple_terminal_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are cut at the terminal's width, and a dumb terminal gets plain lines."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    screen = screen_for(stream)
    screen.rows([Row("path_0", "50 Mbit/s", 25.0, 50.0)])
    assert all(len(line) < 40 + len("\x1b[?25l") for line in stream.getvalue().splitlines())
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(screen_for(stream), PlainScreen)
