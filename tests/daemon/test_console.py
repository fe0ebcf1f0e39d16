"""The keys of the foreground daemon."""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest

from mpt.daemon.console import Console, has_terminal, show
from mpt.testing.reactor import FakeReactor


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """(the keyboard, the program's side) of a pseudo terminal."""
    keyboard, program = os.openpty()
    yield keyboard, program
    os.close(keyboard)
    os.close(program)


def test_each_key_does_what_it_stands_for(terminal: tuple[int, int]) -> None:
    """A key acts at once, without the enter key; other keys do nothing."""
    keyboard, program = terminal
    pressed: list[str] = []
    keys = {key: partial(pressed.append, key) for key in "qpr"}
    reactor = FakeReactor()
    console = Console(reactor, keys, program)
    console.startService()
    os.write(keyboard, b"p?rq")
    reactor.read_all()
    console.stopService()
    assert pressed == ["p", "r", "q"]
    assert reactor.readers == []


def test_the_terminal_is_left_as_it_was(terminal: tuple[int, int]) -> None:
    """Line editing and echo are back when the daemon has stopped."""
    _, program = terminal
    before = termios.tcgetattr(program)
    console = Console(FakeReactor(), {}, program)
    console.startService()
    assert termios.tcgetattr(program) != before
    console.stopService()
    assert termios.tcgetattr(program) == before


def test_a_pipe_is_no_terminal() -> None:
    """Standard input from a file or a service manager is left alone."""
    reading, writing = os.pipe()
    assert not has_terminal(reading)
    os.close(reading)
    os.close(writing)


def test_nobody_who_reads_the_output_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mptsrv | head -1`: the daemon goes on."""
    reading, writing = os.pipe()
    os.close(reading)
    output = os.fdopen(writing, "w", buffering=1)
    monkeypatch.setattr(sys, "__stdout__", output)
    show("Tunnel information:\n")
    with suppress(BrokenPipeError):
        output.close()
    show("closed by now")
