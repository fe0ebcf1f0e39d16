"""Answers the commands of this host's programs, over any channel (`mpt.local.commands`).

A caller who may change things is answered at once. All others, and callers who must be looked up first, wait for a
turn. Within `FRESH` they share one reply to the same question.
"""

from __future__ import annotations

import grp
import os
from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.defer import Deferred

from mpt.daemon.machine import Machine
from mpt.daemon.turns import Turns
from mpt.local.commands import answer
from mpt.local.grammar import GrammarError, parse
from mpt.local.operations import Operations, ProgressReport
from mpt.local.protocol import NOT_PERMITTED, Reply

GROUP: Final = "mpt"  # if there is such a group, its members may change things
FRESH: Final = 0.2  # s for which a reply serves all who ask the same


class LocalCommands:
    """Carries out commands with `operations`. Root and the members of `group` may change things."""

    def __init__(self, machine: Machine, operations: Operations) -> None:
        self._machine = machine
        self.operations = operations
        self.group = _group()
        self._turns = Turns(machine)
        self._seen: tuple[tuple[str, ...], float, Reply] | None = None  # words, good until, reply

    def stop(self) -> None:
        """Answer none of the waiting callers any more."""
        self._turns.stop()

    def next_turn(self) -> Deferred[None]:
        """Return a Deferred that fires when it is the turn of a caller who may not change things."""
        return self._turns.take()

    async def change(self, words: Sequence[str], progress: ProgressReport) -> Reply:
        """Carry out a command of a caller who may change things; return its reply."""
        return await answer(words, self.operations, True, progress)

    async def look(self, words: Sequence[str]) -> Reply:
        """Return the reply to a caller who may not change things, and whose turn it is."""
        now, asked = self._machine.now(), tuple(words)
        if self._seen is not None and self._seen[0] == asked and now < self._seen[1]:
            return self._seen[2]
        reply = await answer(words, self.operations, False, lambda text: None)
        self._seen = (asked, now + FRESH, reply) if reply.ok else None
        return reply

    async def change_or_look(self, words: Sequence[str], refusal: Callable[[], str | None]) -> Reply:
        """Return the reply to a caller whose turn it is.

        `refusal()` is called only if the command changes something. It returns why the caller may not do so, None if he
        may.
        """
        try:
            changes = parse(words).form.changes
        except GrammarError:
            changes = False
        if not changes:
            return await self.look(words)
        reason = refusal()
        if reason is None:
            return await self.change(words, lambda text: None)
        reply = await answer(words, self.operations, False, lambda text: None)
        return Reply(reply.code, reply.text + reason) if reply.code == NOT_PERMITTED else reply


def _group() -> int:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return os.getgid()
