"""The events of the paths and of the configuration during a soak, in a seeded order.

Every event undoes itself, also when it is cancelled.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

from bench.soak.stage import DEAD, KEEPALIVE, SIDES, SoakStage, settings, sleeping_paths, wanted_settings
from bench.variants import PATHS, WINDOW
from mpt.errors import HostError
from mpt.lab.tunnel import Description, Side

SHARE = 10  # a short soak has an event in each tenth of it
HOLD = 1.0, 4.0  # seconds that a path is down
LONG_HOLE = DEAD + 1, DEAD + 2  # seconds of silence after which both ends have given a path up
BOTH = 1.0  # second without any path, which TCP survives
LOOK = 0.5  # seconds between two checks of an expected effect
RECOVERY = 40.0  # seconds until all paths work again; the peer's report that a path is down may hold for 30
EFFECT = 10.0  # seconds until a SIGHUP shows

Say = Callable[[str], None]


class Deck:
    """Draws `kinds` in random order: each once, then `more` of them, and again from the beginning."""

    def __init__(self, rng: random.Random, kinds: Sequence[str], more: Sequence[str] = ()) -> None:
        self._rng, self._kinds, self._more = rng, kinds, more
        self._left: list[str] = []

    def draw(self) -> str:
        """Return the next kind."""
        if not self._left:
            self._left = self._rng.sample(self._more, len(self._more))
            self._left += self._rng.sample(self._kinds, len(self._kinds))
        return self._left.pop()


async def happened(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, no longer than `seconds`; return whether it has happened."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
    return event.is_set()


class Events:
    """One event after the other; `done` counts them by kind, `is_quiet` says whether none is under way."""

    word = "event"
    between = (0.0, 0.0)  # seconds, at random, in a long soak

    def __init__(self, stage: SoakStage, seconds: float, seed: int, say: Say, fail: Say) -> None:
        self.done: Counter[str] = Counter()
        self.is_quiet = True
        self._stage, self._say, self._fail = stage, say, fail
        self._rng = random.Random(f"{self.word} {seed}")
        self._longest = seconds / SHARE

    async def run(self, over: asyncio.Event) -> None:
        """Let events happen until the soak is `over`; the last one comes to its end."""
        deck = Deck(self._rng, *self.kinds())
        while not await happened(over, min(self._rng.uniform(*self.between), self._longest)):
            kind = deck.draw()
            self.is_quiet = False
            try:
                await self.happen(kind)
                self.done[kind] += 1
            except HostError as error:
                self._fail(f"{self.word} {kind}: {error}")
            self.is_quiet = True

    def kinds(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return the kinds of a deck: all of them, and those that come more often."""
        raise NotImplementedError

    async def happen(self, kind: str) -> None:
        """Let an event of this kind happen and pass; HostError if its effect is not the expected one."""
        raise NotImplementedError


class Flaps(Events):
    """Paths go down one after the other, and come back."""

    word = "flap"
    between = 15.0, 30.0

    def kinds(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return every way to lose a path, and the common ones."""
        return list(self._kinds), ["carrier", "hole", "mpt path", "mpt interface"]

    async def happen(self, kind: str) -> None:
        """Take a path down for a while and wait until it works again."""
        with self._kinds[kind](self) as what:
            self._say(f"flap     {kind}: {what}")
            await asyncio.sleep(self._hold(kind))
        await self.recover()

    async def recover(self) -> None:
        """Wait until all paths work again; HostError if that takes too long."""
        waited = 0.0
        while sleeping := [
            f"{path} (says {side})" for side in SIDES for path in sleeping_paths(self._stage.status(side))
        ]:
            if waited > RECOVERY:
                raise HostError(f"after {waited:.0f} s still down: {'; '.join(sleeping)}")
            await asyncio.sleep(LOOK)
            waited += LOOK

    def _hold(self, kind: str) -> float:
        if kind == "both":
            return BOTH
        return self._rng.uniform(*(LONG_HOLE if kind == "long hole" else HOLD))

    @contextmanager
    def _carrier(self) -> Iterator[str]:
        index = self._rng.randrange(PATHS)
        ends = self._rng.choice(["ab", "a", "b"])
        self._stage.links[index].pull(ends)
        try:
            yield f"path {index}, {' and '.join(ends)} sees it"
        finally:
            self._stage.links[index].plug(ends)

    @contextmanager
    def _hole(self) -> Iterator[str]:
        index = self._rng.randrange(PATHS)
        self._stage.links[index].black_hole()
        try:
            yield f"path {index} silent"
        finally:
            self._stage.links[index].restore()

    @contextmanager
    def _path_command(self) -> Iterator[str]:
        index, side = self._rng.randrange(PATHS), self._rng.choice(SIDES)
        _, local, remote = self._stage.ends(index, side)
        self._stage.mpt(side, "path", "down", local, remote)
        try:
            yield f"{side}: {local} {remote} down"
        finally:
            self._stage.mpt(side, "path", "up", local, remote)

    @contextmanager
    def _interface_command(self) -> Iterator[str]:
        index, side = self._rng.randrange(PATHS), self._rng.choice(SIDES)
        end, _, _ = self._stage.ends(index, side)
        self._stage.mpt(side, "interface", end.interface, "down")
        try:
            yield f"{side}: {end.interface} down"
        finally:
            self._stage.mpt(side, "interface", end.interface, "up")

    @contextmanager
    def _both(self) -> Iterator[str]:
        for link in self._stage.links:
            link.pull()
        try:
            yield "no path at all"
        finally:
            for link in self._stage.links:
                link.plug()

    _kinds: ClassVar[dict[str, Callable[[Flaps], AbstractContextManager[str]]]] = {
        "carrier": _carrier,
        "hole": _hole,
        "long hole": _hole,
        "mpt path": _path_command,
        "mpt interface": _interface_command,
        "both": _both,
    }


class Reloads(Events):
    """The files of one side change and are read again."""

    word = "reload"
    between = 45.0, 75.0

    def kinds(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return every way to change files, and the common ones."""
        return list(self._kinds), ["weights", "keepalive", "SIGHUP"]

    async def happen(self, kind: str) -> None:
        """Change the files of one side, have them read, and check that the daemon runs them."""
        side = self._rng.choice(SIDES)
        self._say(f"reload   {kind} at {side}")
        if kind in ("weights", "keepalive", "window", "SIGHUP"):
            self._running[side] = self._vary(kind)
        await self._kinds[kind](self, side)
        self._check(side)

    @cached_property
    def _running(self) -> dict[Side, Description]:
        """Return the content of each side's files."""
        return dict.fromkeys(SIDES, self._stage.description)

    def _vary(self, kind: str) -> Description:
        """Return the description of the beginning with one thing changed."""
        plain, rng = self._stage.description, self._rng
        if kind == "keepalive":
            return replace(plain, keepalive=rng.choice([KEEPALIVE / 2, KEEPALIVE * 1.5]))
        if kind == "window":
            return replace(plain, reorder_window=rng.choice([0, WINDOW // 10, WINDOW // 2]))
        return replace(plain, weights=tuple(rng.randint(1, 10) for _ in range(PATHS)))

    async def _changed(self, side: Side) -> None:
        self._stage.write(side, self._running[side])
        self._stage.mpt(side, "reload")

    async def _signalled(self, side: Side) -> None:
        self._stage.write(side, self._running[side])
        self._stage.daemons[SIDES.index(side)].signal(signal.SIGHUP)
        waited = 0.0
        while waited < EFFECT and settings(self._stage.status(side)) != wanted_settings(self._running[side]):
            await asyncio.sleep(LOOK)
            waited += LOOK

    async def _refused(self, side: Side) -> None:
        """Check that a file with an error is named, and changes nothing."""
        file = self._stage.file(side, self._rng.choice([4, 6]))
        good = file.read_text()
        file.write_text(re.sub(r"(weight_out *=).*", r"\1 many", good))
        try:
            self._stage.mpt(side, "reload")
        except HostError as error:
            if file.name not in str(error):
                raise
        else:
            raise HostError(f"{file.name} has an error and was read all the same")
        finally:
            file.write_text(good)

    async def _connection(self, side: Side) -> None:
        """Remove the IPv6 connection, and load it again while its packets are still being sent."""
        file = self._stage.file(side, 6)
        disabled = file.with_name(f"{file.name}.disabled")
        self._stage.mpt(side, "delete", file.name)
        try:
            if len(self._stage.status(side)["connections"]) != 1:
                raise HostError(f"{file.name} was deleted, and its connection is still there")
            await asyncio.sleep(self._rng.uniform(1, 2))
        finally:
            disabled.rename(file)
            self._stage.mpt(side, "reload")

    def _check(self, side: Side) -> None:
        """Raise HostError unless `side` runs its files."""
        shown, wanted = settings(self._stage.status(side)), wanted_settings(self._running[side])
        if shown != wanted:
            raise HostError(f"the daemon runs {shown}, its files say {wanted}")

    _kinds: ClassVar[dict[str, Callable[[Reloads, Side], Awaitable[None]]]] = {
        "weights": _changed,
        "keepalive": _changed,
        "window": _changed,
        "SIGHUP": _signalled,
        "bad file": _refused,
        "connection": _connection,
    }
