"""The demo's display: a live table in a terminal, or plain lines anywhere else."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

BAR = 30  # columns
NAME = 8  # columns; path_19 is the longest name
SHAPE = 24


@dataclass(frozen=True)
class Row:
    """One line of the table: a path, or the tunnel. `full` is the rate at which its bar is full."""

    name: str
    shape: str
    mbit: float
    full: float
    state: str = ""


class Screen(Protocol):
    """Where the demo reports; the screen takes all times itself."""

    def phase(self, title: str) -> None:
        """Tell that a step of the demo begins."""

    def done(self, outcome: str) -> None:
        """Tell the outcome of the step, which is over."""

    def event(self, text: str) -> None:
        """Tell what happened within the step."""

    def rows(self, rows: Sequence[Row]) -> None:
        """Tell the rates of the paths and the tunnel now."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def screen_for(stream: TextIO) -> Screen:
    """Return the live table if `stream` is a terminal that can show it, else plain lines."""
    if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return LiveScreen(stream)
    return PlainScreen(stream)


class PlainScreen:
    """A line for each thing that happens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._title = ""

    def phase(self, title: str) -> None:
        """Show that a step begins."""
        self._title = title

    def done(self, outcome: str) -> None:
        """Show the outcome of the step."""
        print(f"{self._title}: {outcome}", file=self._stream, flush=True)

    def event(self, text: str) -> None:
        """Show what happened within the step."""
        print(f"{self._title}: {text}", file=self._stream, flush=True)

    def rows(self, rows: Sequence[Row]) -> None:
        """Show nothing: these are for a table."""

    def close(self) -> None:
        """Do nothing: plain lines leave the terminal as it was."""


class LiveScreen:
    """The finished steps, the running step, and below them a table with bars, drawn again in place."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._glyphs = "█·✓▸" if "utf" in (stream.encoding or "").lower() else "#.+>"
        self._title = ""
        self._started = 0.0
        self._rows: Sequence[Row] = ()
        self._height = 0  # lines of the part that is drawn again
        stream.write("\x1b[?25l")  # no cursor

    def phase(self, title: str) -> None:
        """Show that a step begins."""
        self._title, self._started = title, time.monotonic()
        self._draw()

    def done(self, outcome: str) -> None:
        """Show the outcome of the step."""
        self._lasting(f"  {self._glyphs[2]} {self._title:<28} {outcome}")
        self._title = ""
        self._draw()

    def event(self, text: str) -> None:
        """Show what happened within the step."""
        self._lasting(f"      {time.monotonic() - self._started:4.1f} s  {text}")
        self._draw()

    def rows(self, rows: Sequence[Row]) -> None:
        """Show the rates of the paths and the tunnel now."""
        self._rows = rows
        self._draw()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._erase()
        self._stream.write("\x1b[?25h")
        self._stream.flush()

    def _lasting(self, line: str) -> None:
        """Write a line above the table, where it stays."""
        self._erase()
        self._stream.write(self._clip(line) + "\n")

    def _draw(self) -> None:
        self._erase()
        lines = []
        if self._title:
            lines = [f"  {self._glyphs[3]} {self._title:<28} {time.monotonic() - self._started:4.1f} s"]
        if self._rows:
            lines += ["", *(self._row(row) for row in self._rows)]
        self._stream.write("".join(self._clip(line) + "\n" for line in lines))
        self._stream.flush()
        self._height = len(lines)

    def _row(self, row: Row) -> str:
        share = min(max(row.mbit / row.full, 0.0), 1.0) if row.full else 0.0
        full = round(share * BAR)
        bar = self._glyphs[0] * full + self._glyphs[1] * (BAR - full)
        return f"    {row.name:<{NAME}} {row.shape:<{SHAPE}} {bar} {row.mbit:7.1f} Mbit/s  {row.state}"

    def _clip(self, line: str) -> str:
        return line[: shutil.get_terminal_size().columns - 1]

    def _erase(self) -> None:
        """Remove the last drawing; the cursor stands where it began."""
        if self._height:
            self._stream.write(f"\x1b[{self._height}A\x1b[J")
            self._height = 0
