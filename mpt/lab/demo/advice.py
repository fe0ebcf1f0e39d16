"""What the demo says about its result: why all paths together are slower than their sum, and what to try next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from mpt.lab.demo.options import Choices
from mpt.lab.links import Shape
from mpt.lab.tunnel import delay_difference, rates_of, reorder_window_of

GOOD: Final = 0.9  # of the sum: nothing to explain
PACKET_BITS: Final = 8 * 1440


def why(ratio: float, shapes: Sequence[Shape], choices: Choices, singles: Sequence[float]) -> list[str]:
    """Return the likely reasons for a `ratio` of the sum of the `singles` (Mbit/s); none if it is good."""
    return list(_reasons(shapes, choices, singles)) if ratio < GOOD else []


def why_not_recovered(choices: Choices) -> str:
    """Return the likely reason for a stream that is slow after the path is back."""
    if choices.scheduler == "adaptive":
        return (
            "a path that was lost more than once in a minute rests for some seconds, and is measured before it is used"
        )
    if choices.sealed:
        return "a sealed path that was lost more than once rests for some seconds before it is used"
    return "TCP has not grown back yet, or the machine is busy: --seconds 8 gives it longer"


def _reasons(shapes: Sequence[Shape], choices: Choices, singles: Sequence[float]) -> Iterator[str]:
    adaptive = choices.scheduler == "adaptive"
    if choices.weights is not None and not adaptive:
        possible = weights_allow(choices.weights, singles)
        if possible < GOOD * sum(singles):
            yield (
                f"the weights allow {possible:.0f} Mbit/s: a path with too large a share is full while the others wait "
                "(without --weights they follow the rates)"
            )
    difference = delay_difference(shapes)
    rates = rates_of(shapes)
    needed = reorder_window_of(rates, difference)
    if choices.window is not None and choices.window < needed and difference and not adaptive:
        yield (
            f"the paths differ by up to {difference:g} ms, in which {round(needed / 1.5)} packets come over the "
            f"faster ones; a window of {choices.window} gives them out of order, a loss for TCP: --window {needed}"
        )
    if choices.buffdelay is not None and choices.buffdelay < difference and not adaptive:
        yield (
            f"a packet waits {choices.buffdelay} ms at most for one that comes up to {difference:g} ms later: "
            f"--buffdelay {round(difference) + 20}"
        )
    lossy = [index for index, shape in enumerate(shapes) if shape.loss_percent]
    if lossy:
        yield (
            f"path_{lossy[0]} loses packets: one TCP stream slows down for each of them, on every path"
            + ("" if adaptive else " (--scheduler adaptive sends them again)")
        )
    if any(shape.jitter_ms for shape in shapes):
        yield "with jitter packets wait for the slowest: the round trips are longer, and TCP is slower"
    if any(shape.rate_mbit is None for shape in shapes) or sum(rates) > 1000:
        yield "at this rate the machine itself is the limit: both hosts, both daemons and the stream share its cores"
    if difference >= 50:
        yield "a long round trip makes a TCP stream slow to start: --seconds 15 measures it later"


def weights_allow(weights: Sequence[int], rates: Sequence[float]) -> float:
    """Return the rate at which the first path is full, if each gets its weight's share."""
    total = sum(weights)
    return min(rate * total / weight for weight, rate in zip(weights, rates, strict=True))


def next_step(shapes: Sequence[Shape], choices: Choices, web: bool) -> str:
    """Return what to try next: paths that differ, then the scheduler that measures them, then a look while it runs."""
    if len({(shape.rate_mbit, shape.delay_ms) for shape in shapes}) == 1:
        return "mpt demo --rate 50,20 --delay 5,30     paths that differ"
    if choices.scheduler != "adaptive":
        arguments = " ".join(
            f"--{name} {','.join(f'{each:g}' for each in values)}"
            for name, values in (
                ("rate", [shape.rate_mbit or 1000.0 for shape in shapes]),
                ("delay", [shape.delay_ms for shape in shapes]),
                ("loss", [shape.loss_percent for shape in shapes]),
            )
            if any(values)
        )
        return f"mpt demo {arguments} --scheduler adaptive     the same, and nobody tells the rates"
    if not web:
        return "mpt demo --web     the status page in a browser meanwhile"
    return "mpt demo --keep     both hosts stay for a look around"
