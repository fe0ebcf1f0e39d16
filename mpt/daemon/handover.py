"""The facts that one run of a connection leaves to the next, when its file is read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpt.daemon.path import Path
from mpt.daemon.peerreports import Reporter
from mpt.model import Address, ConnectionConfig, Status

PathPlace = tuple[str, int]
"""A path as the operator knows it, whatever else its file says: its interface, and its number among the paths there."""


@dataclass(frozen=True, slots=True)
class Handover:
    """The facts that one run of a connection leaves to the next.

    `by_hand`: whether the operator has taken a path down, by its place. `thought_down`: the outer addresses of the
    paths that the peer may think down.
    """

    by_hand: Mapping[PathPlace, bool]
    thought_down: frozenset[tuple[Address, Address]]


def hand_over(config: ConnectionConfig, paths: Sequence[Path], reporter: Reporter) -> Handover:
    """Return the facts for the next run of a connection: none, if its file has kept this one down."""
    if config.is_down:
        return Handover({}, frozenset())
    taken_down = [path.status is Status.MANUAL_DOWN for path in paths[: len(config.paths)]]
    by_hand = dict(zip(_places(config), taken_down, strict=True))
    thought_down = [_outer_pair(paths[index]) for index in reporter.peer_may_think_down()]
    return Handover(by_hand, frozenset(thought_down))


def take_over(
    earlier: Handover,
    file_before: ConnectionConfig,
    config: ConnectionConfig,
    paths: Sequence[Path],
    reporter: Reporter,
) -> None:
    """Go on from an `earlier` run. The peer is told of the paths that it may think down.

    Paths stay as the operator has left them, unless the file, `config`, now gives them another status than
    `file_before`.
    """
    if config.is_down:
        return
    before = {place: path.status for place, path in zip(_places(file_before), file_before.paths, strict=True)}
    for place, path in zip(_places(config), paths[: len(config.paths)], strict=True):
        is_down = earlier.by_hand.get(place)
        if is_down is None or before.get(place) is not path.config.status:
            continue
        if is_down is not (path.status is Status.MANUAL_DOWN):
            path.switch(not is_down)
    for index, path in enumerate(paths):
        if _outer_pair(path) in earlier.thought_down:
            reporter.report(index)


def _places(config: ConnectionConfig) -> list[PathPlace]:
    names = [path.interface_name for path in config.paths]
    return [(name, names[:index].count(name)) for index, name in enumerate(names)]


def _outer_pair(path: Path) -> tuple[Address, Address]:
    """Return the outer addresses of `path`, by which both daemons know it, ours first."""
    return path.config.public_ipaddr, path.config.remote_ipaddr
