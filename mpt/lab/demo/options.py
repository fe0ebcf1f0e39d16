"""The options of ``mpt demo``: a shape for each path from lists on the command line, and the choices for the tunnel."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from mpt.errors import MptError
from mpt.lab.links import Shape
from mpt.model import DATA_PLANES, MAX_PATHS, MAX_REORDER_WINDOW, MAX_WEIGHT, SCHEDULERS

LONGEST = 3600.0  # s of a stream


@dataclass(frozen=True)
class Choices:
    """What the user chose for the tunnel; None: what fits the paths."""

    window: int | None = None  # packets
    buffdelay: int | None = None  # ms
    weights: Sequence[int] | None = None  # by path
    mtu: int | None = None
    data_plane: str = "auto"
    scheduler: str = "cycle"
    sealed: bool = False


def text_of(shape: Shape) -> str:
    """Return a shape in a few words: ``50 Mbit/s 10±2 ms 0.1 %``."""
    words = [f"{shape.rate_mbit:g} Mbit/s" if shape.rate_mbit else "no limit"]
    if shape.delay_ms or shape.jitter_ms:
        words.append(f"{shape.delay_ms:g}{f'±{shape.jitter_ms:g}' if shape.jitter_ms else ''} ms")
    if shape.loss_percent:
        words.append(f"{shape.loss_percent:g} % lost")
    return " ".join(words)


def parser() -> argparse.ArgumentParser:
    """Return the options of ``mpt demo``."""
    options = argparse.ArgumentParser(
        prog="mpt demo",
        description="Two hosts and several paths in namespaces of this machine, and a TCP stream through the tunnel:"
        " over each path alone, over all together, and while a path is pulled and plugged in again.",
        epilog="Lists are separated by commas, one value for each path; a single value holds for all.",
    )
    options.add_argument("--rate", type=numbers, default=[50.0], metavar="A,B", help="Mbit/s of each path [50]")
    options.add_argument("--delay", type=numbers, default=[0.0], metavar="A,B", help="one-way delay, ms [0]")
    options.add_argument("--jitter", type=numbers, default=[0.0], metavar="A,B", help="± ms around the delay [0]")
    options.add_argument("--loss", type=numbers, default=[0.0], metavar="A,B", help="lost frames, per cent [0]")
    options.add_argument("--paths", type=int, metavar="N", help=f"1 to {MAX_PATHS} paths [2, or as many as listed]")
    options.add_argument("--seconds", type=float, default=4.0, metavar="S", help="measuring time of each stream [4]")
    own = options.add_argument_group("the tunnel", "without them: what fits the paths")
    own.add_argument("--window", type=int, metavar="N", help="reorder_window, packets")
    own.add_argument("--buffdelay", type=int, metavar="MS", help="max_buffdelay_msec")
    own.add_argument("--weights", type=numbers, metavar="A,B", help="weight_out of each path")
    own.add_argument("--mtu", type=int, metavar="N", help="of the tunnel [1440, sealed 1400]")
    own.add_argument("--data-plane", choices=DATA_PLANES, default="auto", help="data_plane [auto]")
    own.add_argument("--scheduler", choices=SCHEDULERS, default="cycle", help="scheduler [cycle]; adaptive is sealed")
    own.add_argument("--sealed", action="store_true", help="with keys: encrypted and authenticated")
    options.add_argument(
        "--web", action="store_true", help="show the status page in a browser of this machine meanwhile"
    )
    options.add_argument("--json", action="store_true", help="print one JSON object; the rest goes to standard error")
    options.add_argument("--keep", action="store_true", help="leave the hosts and the daemons for a look around")
    options.add_argument("--clean", action="store_true", help="remove what --keep left, and do nothing else")
    return options


def numbers(text: str) -> list[float]:
    """Return a list of numbers that are not negative, separated by commas."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [-1.0]
    if not all(0 <= value < float("inf") for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, or several separated by commas, of 0 or more")
    return values


def shapes_of(options: argparse.Namespace) -> list[Shape]:
    """Return the shape of each path; MptError if the lists do not fit together."""
    lists: dict[str, list[float]] = {name: getattr(options, name) for name in ("rate", "delay", "jitter", "loss")}
    longest = max(len(values) for values in lists.values())
    count: int = options.paths if options.paths is not None else max(longest, 2)
    if not 1 <= count <= MAX_PATHS:
        raise MptError(f"--paths {count}: a connection has 1 to {MAX_PATHS} paths")
    for name, values in lists.items():
        if len(values) not in (1, count):
            raise MptError(f"--{name} lists {len(values)} values for {count} paths: give one, or one for each path")
    if min(lists["rate"]) < 0.1:
        raise MptError("--rate: a path needs at least 0.1 Mbit/s")
    if max(lists["loss"]) > 100:
        raise MptError("--loss: not more than 100 per cent can be lost")
    if not 1 <= options.seconds <= LONGEST:
        raise MptError(f"--seconds: 1 to {LONGEST:g}; a rate needs at least 1 second to show")
    columns = (values * count if len(values) == 1 else values for values in lists.values())
    return [Shape(*row) for row in zip(*columns, strict=True)]


def choices_of(options: argparse.Namespace, paths: int) -> Choices:
    """Return the choices for a tunnel of so many `paths`; MptError if one is impossible."""
    weights = options.weights
    for name, value, least, most in (
        ("window", options.window, 0, MAX_REORDER_WINDOW),
        ("buffdelay", options.buffdelay, 1, 60_000),
        ("mtu", options.mtu, 576, 9000),
    ):
        if value is not None and not least <= value <= most:
            raise MptError(f"--{name} {value}: {least} to {most}")
    if weights is not None:
        if len(weights) != paths:
            raise MptError(f"--weights lists {len(weights)} values for {paths} paths: give one for each path")
        if not all(each == int(each) and 1 <= each <= MAX_WEIGHT for each in weights):
            raise MptError(f"--weights: whole numbers from 1 to {MAX_WEIGHT}")
    return Choices(
        options.window,
        options.buffdelay,
        None if weights is None else [int(each) for each in weights],
        options.mtu,
        options.data_plane,
        options.scheduler,
        options.sealed or options.scheduler == "adaptive",
    )
