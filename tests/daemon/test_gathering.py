"""What many events ask for is done once, after all of them."""

from __future__ import annotations

import pytest

from mpt.daemon.gathering import Gathering


def test_what_several_events_ask_for_is_done_once_after_them() -> None:
    """In the order in which it was asked for first; without events at once."""
    gathering, done = Gathering(), list[str]()

    def look() -> None:
        done.append("look")

    def tell_peer() -> None:
        done.append("tell")

    def happened(event: str) -> None:
        done.append(event)
        gathering.ask(look)
        if event == "b":
            gathering.ask(tell_peer)
            gathering.tell(["inner"], happened)  # it causes another event

    gathering.ask(look)
    assert done == ["look"]
    gathering.tell(["a", "b", "c"], happened)
    assert done == ["look", "a", "b", "inner", "c", "look", "tell"]
    gathering.tell([], happened)
    gathering.ask(look)
    assert done[7:] == ["look"]


def test_a_bug_holds_nothing_back() -> None:
    """The other events are told, the calls are made, and the first exception is raised then."""
    gathering, done = Gathering(), list[str]()

    def fail() -> None:
        raise ValueError("second")

    def happened(event: str) -> None:
        gathering.ask(fail)
        gathering.ask(lambda: done.append(f"after {event}"))
        if event == "bad":
            raise KeyError("first")
        done.append(event)

    with pytest.raises(KeyError, match="first"):
        gathering.tell(["bad", "good"], happened)
    assert done == ["good", "after bad", "after good"]
    with pytest.raises(ValueError, match="second"):
        gathering.ask(fail)
