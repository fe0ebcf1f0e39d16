"""The paths of an adaptive connection for people: their states and the reasons, in words."""

from __future__ import annotations

from typing import NamedTuple

from mpt.control.adaptivepath import AdaptivePath
from mpt.control.presence import State


class PathView(NamedTuple):
    """A path for people. Seconds; octets a second; shares 0 .. 1. `delay`: how much later than the earliest path;
    `share`: of what arrived within about a second."""

    state: str  # probing | active | gated | dead
    reason: str
    since: float
    rate: float | None
    delay: float | None
    base: float | None  # one way, comparable within the connection
    queue: float
    rtt: float | None
    loss_load: float
    loss_radio: float
    share: float


def view(path: AdaptivePath, words: tuple[str, str], least: float, total: float, now: float) -> PathView:
    """Return a path whose state and reason are `words` now; `least`: the base of the earliest one; `total`: what
    arrived of all within about a second."""
    if words != path.shown[:2]:
        path.shown = (*words, now)
    estimator, delays = path.estimator, path.estimator.delays
    return PathView(
        *path.shown,
        estimator.shown_rate or None,
        delays.base - least if delays.base is not None else None,
        delays.base,
        delays.queue,
        delays.rtt,
        estimator.losses.load,
        estimator.losses.radio,
        path.recent / total if total else 0.0,
    )


def words(path: AdaptivePath, is_guarded: bool, latest: float, now: float) -> tuple[str, str]:
    """Return the state of a path and its reason; `is_guarded`: the guard has taken it out; `latest`: the base of which
    more is beyond the delay budget."""
    presence, estimator = path.presence, path.estimator
    if presence.state is State.AWAY:
        return "dead", path.facts.why or "it may not be used"
    if presence.state is State.SILENT:
        if now < presence.waits_until:
            return "dead", "it was lost again and waits before it may return"
        return "dead", "what was sent over it did not arrive"
    if path.closed:
        return "gated", "cheaper lines have room"
    if path.gated:
        return "gated", "it loses far more than another line"
    if is_guarded:
        return "gated", "all lines together carried less than the best one alone"
    if not estimator.is_known:
        return "probing", "nothing was sent yet"
    is_found = not estimator.is_starting or estimator.rate
    if path.admits:
        return ("active", "it carries bulk") if is_found else ("probing", "its rate is being found")
    if (estimator.delays.base or 0.0) > latest:
        return "gated", "it is later than the delay budget allows"
    if not is_found:
        return "probing", "it has not shown a fair share of the rate yet"
    return "gated", "its rate is too small beside the others"
