"""What many events ask for is done once, after all of them: a peer may cause hundreds in one wake-up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

Event = TypeVar("Event")


class Gathering:
    """The calls that wait for the end of the events that are being told."""

    def __init__(self) -> None:
        self._depth = 0  # telling may cause more events, which are told at once
        self._calls: dict[Callable[[], None], None] = {}  # in the order in which they were asked for first

    def ask(self, call: Callable[[], None]) -> None:
        """Make `call` once after the events that are being told; now if there are none."""
        if self._depth:
            self._calls[call] = None
        else:
            call()

    def tell(self, events: Iterable[Event], happened: Callable[[Event], None]) -> None:
        """Tell `happened` of each event, then make the calls that were asked for meanwhile.

        An exception, which is one connection's bug, holds nothing else back; the first one is raised at the end.
        """
        self._depth += 1
        bugs = [bug for event in events if (bug := _bug_of(partial(happened, event))) is not None]
        self._depth -= 1
        if not self._depth:
            calls, self._calls = self._calls, {}
            bugs += [bug for call in calls if (bug := _bug_of(call)) is not None]
        if bugs:
            raise bugs[0]


def _bug_of(call: Callable[[], None]) -> Exception | None:
    try:
        call()
    except Exception as error:
        return error
    return None
