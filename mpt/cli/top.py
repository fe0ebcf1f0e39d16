"""``mpt top``: the paths as they change, one screen, once a second."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import tty
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from mpt.cli.look import document_of, question, wants_colour
from mpt.cli.options import Options, parse_options, wants_help
from mpt.local.grammar import GrammarError
from mpt.local.protocol import DONE, FAILED
from mpt.local.status import ConnectionStatus, PathStatus, StatusDocument
from mpt.local.statustext import Paint, age, milliseconds, problem_lines, rate, state, works

EVERY: Final = 1.0  # s
PER_CONNECTION: Final = 0.01  # s: a look costs the daemon 50 µs for each connection, so half a hundredth of its time
KEPT: Final = 600  # s of rates on the screen, if it is that wide
BARS: Final = " ▁▂▃▄▅▆▇█"
PARTS: Final = " ▏▎▍▌▋▊▉█"
ENTER: Final = "\x1b[?1049h\x1b[?25l"  # another screen, without a cursor
LEAVE: Final = "\x1b[?25h\x1b[?1049l"

HELP: Final = """\
mpt top [NAME]

NAME: Only this connection, by its name or its file; all of hundreds are
      looked at less often than once a second
For each path its share of what goes out, and its rates out and in, now and
before. The height of a bar is its part of the highest rate on the screen.
q quits."""

Past = dict[tuple[str, str], deque[tuple[float, float]]]
"""The rates out and in, by connection and path."""


def top(arguments: Sequence[str]) -> int:
    """Run ``mpt top``, until q or ^C. Return the exit status."""
    if wants_help(arguments):
        print(HELP)
        return DONE
    options = parse_options(arguments, json=False)
    if len(options.words) > 1:
        raise GrammarError(f"top: {options.words[1]!r} is too much: it takes one NAME")
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        print("mpt: top needs a terminal; mpt status, or mpt status --json, does not", file=sys.stderr)
        return FAILED
    past: Past = {}
    document = _look(options, past)
    with _screen():
        while True:
            size = shutil.get_terminal_size()
            lines = screen(document, past, size.columns, size.lines, Paint(wants_colour()))
            sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines[:-1]) + lines[-1] + "\x1b[K\x1b[J")
            sys.stdout.flush()
            if _quits(max(EVERY, PER_CONNECTION * len(document.connections))):
                return DONE
            document = _look(options, past)


def _look(options: Options, past: Past) -> StatusDocument:
    document = document_of(question(options, "status", *options.words))
    for connection in document.connections:
        for path in connection.paths:
            rates = past.setdefault((connection.name, path.name), deque(maxlen=KEPT))
            rates.append((path.out_rate or 0.0, path.in_rate or 0.0))
    return document


@contextmanager
def _screen() -> Iterator[None]:
    """Take the whole terminal, key by key, and give it back whatever happens."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        sys.stdout.write(ENTER)
        yield
    finally:
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _quits(seconds: float) -> bool:
    """Wait for a key; return whether it is q. A signal, as of a changed size, ends the wait, too."""
    try:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
    except InterruptedError:
        return False
    return bool(ready) and os.read(sys.stdin.fileno(), 16)[:1] in (b"q", b"Q", b"")


# ---- one screen -----------------------------------------------------------------------------------------------------


def screen(document: StatusDocument, past: Past, columns: int, rows: int, paint: Paint) -> list[str]:
    """Return the lines of a screen, at most `rows` of at most `columns` columns."""
    lines = [paint("head", _cut(f"mpt {document.version}  up for {age(document.uptime)}  q quits", columns))]
    for connection in document.connections:
        lines += ["", *_connection_lines(connection, past, columns, paint)]
    if not document.connections:
        lines += ["", "no connection"]
    lines += [_cut(line, columns) for line in problem_lines(document)]
    return lines[:rows] or [""]


def _connection_lines(connection: ConnectionStatus, past: Past, columns: int, paint: Paint) -> Iterator[str]:
    good = sum(map(works, connection.paths))
    rates_now = [(path.out_rate or 0.0, path.in_rate or 0.0) for path in connection.paths]
    out, into = (sum(column) for column in zip(*rates_now, strict=True))
    head = f"{connection.name}: {good} of {len(connection.paths)} paths work, out {rate(out)}, in {rate(into)} bit/s"
    yield paint("good" if good == len(connection.paths) else "doubt" if good else "bad", _cut(head, columns))
    names = max(len(path.name) for path in connection.paths)
    width = max(8, columns - names - 4)
    histories = [past.get((connection.name, path.name), ()) for path in connection.paths]
    highest = max((max(sample) for rates in histories for sample in list(rates)[-width:]), default=0.0)
    for path, rates in zip(connection.paths, histories, strict=True):
        yield _path_line(path, names, columns, paint)
        recent = list(rates)[-(width // 2 - 3) :]
        outs, ins = (sparkline([sample[way] for sample in recent], highest) for way in (0, 1))
        half = width // 2 - 3
        yield " " * (names + 4) + paint("dim", f"out {outs.rjust(half - 2)}  in {ins.rjust(half - 2)}"[:width])


def _path_line(path: PathStatus, names: int, columns: int, paint: Paint) -> str:
    numbers = (
        f"{rate(path.out_rate or 0):>6} out {rate(path.in_rate or 0):>6} in  "
        f"{milliseconds(path.round_trip) if path.round_trip is not None else '-':>6}"
    )
    room = columns - names - 2 - 15 - len(numbers) - 4 - 6
    bar = _bar(path.share or 0.0, max(4, min(30, room)))
    share = f"{path.share:4.0%}" if path.share is not None else "   -"
    kind = "good" if works(path) else "doubt" if path.status == "waiting" else "bad"
    line = f"  {path.name:<{names}}  {state(path):<14} {share} {bar} {numbers}"
    return paint(kind, _cut(line, columns)) if kind != "good" else _cut(line, columns)


def _bar(share: float, width: int) -> str:
    eighths = round(8 * width * min(1.0, max(0.0, share)))
    full, part = divmod(eighths, 8)
    return ("█" * full + (PARTS[part] if part else "")).ljust(width)


def sparkline(values: Sequence[float], highest: float) -> str:
    """Return a character for each value, as high as its part of `highest`; a value above zero is always seen."""
    if highest <= 0:
        return " " * len(values)
    return "".join(BARS[min(8, max(1, round(8 * value / highest)))] if value > 0 else " " for value in values)


def _cut(line: str, columns: int) -> str:
    return line if len(line) <= columns else line[: columns - 1] + "…"
