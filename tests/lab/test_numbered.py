"""The stream of numbered packets, over the loopback in one process: what a receiver tells of what came."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from mpt.lab import numbered

HERE = "127.0.0.1"
SHORT = 0.05  # s that a receiver waits


def heard(numbers: Sequence[int], late: float = 0.0) -> dict[str, Any]:
    """Return what a receiver tells of packets with these numbers, each sent `late` seconds ago."""
    told: dict[str, Any] = {}
    receiver = threading.Thread(target=lambda: told.update(numbered.receive(HERE, 0.0, SHORT)))
    receiver.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outbox:
        outbox.connect((HERE, numbered.PORT))
        while not told and receiver.is_alive():
            for number in numbers:
                try:
                    outbox.send(numbered.HEADER.pack(number, time.monotonic() - late))
                except ConnectionRefusedError:  # it does not listen yet
                    break
            else:
                break
    receiver.join()
    return told


def test_what_came_is_counted_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A second copy is told beside; the order is that of the first ones."""
    told = heard([0, 2, 1, 1, 3], late=0.25)
    assert (told["received"], told["twice"]) == (4, 1)
    assert told["order"] == {"reordered": 1, "mean_extent": 1.0, "max_extent": 1}
    assert len(told["delays"]) == 101
    assert 250 <= told["delays"][0] <= told["late"]
    assert capsys.readouterr().out.startswith('{"ready"')


def test_nothing_came() -> None:
    """There are no delays then, and the late ones are later than any bound."""
    told = numbered.receive(HERE, 0.0, SHORT, SHORT)
    assert (told["received"], told["delays"], told["late"]) == (0, [], float("inf"))
