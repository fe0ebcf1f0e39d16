"""A scenario file: what is measured, over which paths, and what is varied (docs/lab.md).

    [scenario]
    title = Two equal paths, one later than the other
    repetitions = 3

    [paths]
    rate = 100
    delay = 0, 20

    [sweep]
    delay = 0, 0 | 0, 10 | 0, 50
    window = 0 | auto

A comma separates the values of the paths, one value holds for all. In [sweep] a bar separates what a key takes in turn;
of several keys every combination is measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as FormatError
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mpt.errors import ConfigError
from mpt.model import MAX_PATHS, SCHEDULERS

SHIPPED = Path(__file__).parent / "scenarios"
AUTO = None  # of a window, a hold, weights: made from the rates and delays


@dataclass(frozen=True)
class Point:
    """One combination of all settings. Rates are Mbit/s of Ethernet frames, delays ms one way, losses per cent.

    A `window` (packets) or `hold` (max_buffdelay_msec) of None follows from rates and delays, `weights` of None from
    the rates. `pull` is the number of a path that loses its carrier at `pull_at` and gets it back at `plug_at`, in
    seconds of the measured time. `udp_mbit` of None is what the paths carry.
    """

    protocol: str = "tcp"
    paths: int = 2
    rate: tuple[float, ...] = (100.0,)
    delay: tuple[float, ...] = (0.0,)
    jitter: tuple[float, ...] = (0.0,)
    loss: tuple[float, ...] = (0.0,)
    queue: tuple[float, ...] = (80.0,)
    trace: tuple[str, ...] = ("",)
    overtaking: bool = False
    seconds: float = 5.0
    warmup: float = 1.0
    streams: int = 1
    congestion: str = ""
    udp_mbit: float | None = AUTO
    udp_octets: int = 1300
    inner: int = 4
    outer: int = 4
    window: int | None = AUTO
    hold: int | None = AUTO
    weights: tuple[int, ...] | None = AUTO
    mtu: int = 1440
    sealed: bool = False
    scheduler: str = ""
    data_plane: str = "auto"
    pull: int | None = None
    pull_at: float = 1.0
    plug_at: float = 3.0

    def of_path(self, name: str, path: int) -> Any:
        """Return the value that a key with a list has for a path."""
        values = getattr(self, name)
        return values[path] if len(values) > 1 else values[0]

    @property
    def rates(self) -> list[float]:
        """Return the rate of each path."""
        return [self.of_path("rate", path) for path in range(self.paths)]

    @property
    def delay_difference(self) -> float:
        """Return by how much the delays of the paths differ, in ms."""
        delays: list[float] = [self.of_path("delay", path) for path in range(self.paths)]
        return max(delays) - min(delays)


@dataclass(frozen=True)
class Scenario:
    """A scenario file: `sweep` has the points' own settings, in the order of the measurement."""

    name: str
    title: str
    repetitions: int
    seed: int
    base: Point
    sweep: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def varied(self) -> list[str]:
        """Return the keys of the sweep."""
        return [name for name, _ in self.sweep]

    @property
    def points(self) -> list[Point]:
        """Return every combination of the sweep."""
        return [
            replace(self.base, **dict(zip(self.varied, values, strict=True)))
            for values in itertools.product(*(values for _, values in self.sweep))
        ]


@dataclass(frozen=True)
class Key:
    """How a key of a scenario is read, and the error's words for what is right."""

    section: str
    read: Callable[[str], Any]
    form: str


def _one(read: Callable[[str], Any], low: float, high: float) -> Callable[[str], Any]:
    """Return a reader of a number from `low` to `high`."""

    def number(text: str) -> Any:
        value = read(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return number


def _list(read: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    return lambda text: tuple(read(word.strip()) for word in text.split(","))


def _or_auto(read: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: AUTO if text == "auto" else read(text)


def _word(*known: str) -> Callable[[str], str]:
    def word(text: str) -> str:
        if text not in known:
            raise ValueError(text)
        return text

    return word


def _ip_version(text: str) -> int:
    return {"4": 4, "6": 6}[text]


def _yes(text: str) -> bool:
    return {"yes": True, "no": False}[text]


def _text(text: str) -> str:
    return text


EVER = 86400.0
KEYS: dict[str, Key] = {
    "protocol": Key("scenario", _word("tcp", "udp"), "tcp or udp"),
    "seconds": Key("scenario", _one(float, 0.5, EVER), "seconds, from 0.5"),
    "warmup": Key("scenario", _one(float, 0, EVER), "seconds, from 0"),
    "streams": Key("scenario", _one(int, 1, 100), "a number from 1 to 100"),
    "congestion": Key("scenario", _text, "the name of a congestion control, such as cubic"),
    "udp_mbit": Key("scenario", _or_auto(_one(float, 0.001, 100_000)), "Mbit/s, or auto"),
    "udp_octets": Key("scenario", _one(int, 16, 9000), "octets of UDP payload, from 16 to 9000"),
    "inner": Key("scenario", _ip_version, "4 or 6"),
    "outer": Key("scenario", _ip_version, "4 or 6"),
    "window": Key("scenario", _or_auto(_one(int, 0, 65535)), "packets, 0 for none, or auto"),
    "hold": Key("scenario", _or_auto(_one(int, 0, 65535)), "ms, or auto"),
    "weights": Key("scenario", _or_auto(_list(_one(int, 1, 10_000))), "whole numbers, or auto: by the rates"),
    "mtu": Key("scenario", _one(int, 576, 9000), "octets, from 576 to 9000"),
    "sealed": Key("scenario", _yes, "yes or no"),
    "scheduler": Key("scenario", _word(*SCHEDULERS), " or ".join(SCHEDULERS)),
    "data_plane": Key("scenario", _word("auto", "native", "python"), "auto, native or python"),
    "pull": Key("scenario", _one(int, 0, MAX_PATHS - 1), "the number of a path, from 0"),
    "pull_at": Key("scenario", _one(float, 0, EVER), "seconds"),
    "plug_at": Key("scenario", _one(float, 0, EVER), "seconds"),
    "paths": Key("paths", _one(int, 1, MAX_PATHS), f"a number from 1 to {MAX_PATHS}"),
    "rate": Key("paths", _list(_one(float, 0.01, 100_000)), "Mbit/s, one or one for each path"),
    "delay": Key("paths", _list(_one(float, 0, 10_000)), "ms one way, one or one for each path"),
    "jitter": Key("paths", _list(_one(float, 0, 10_000)), "± ms, one or one for each path"),
    "loss": Key("paths", _list(_one(float, 0, 100)), "per cent, one or one for each path"),
    "queue": Key("paths", _list(_one(float, 1, 100_000)), "ms, one or one for each path"),
    "trace": Key("paths", _list(_text), "lte, starlink, dsl or a file, one or one for each path"),
    "overtaking": Key("paths", _yes, "yes or no: whether jitter lets frames overtake"),
}
OWN: dict[str, Key] = {  # of the scenario itself: they cannot be varied
    "title": Key("scenario", _text, "a line of text"),
    "repetitions": Key("scenario", _one(int, 1, 1000), "a number from 1 to 1000"),
    "seed": Key("scenario", _one(int, 0, 2**31), "a number from 0"),
}


def load(name: str) -> Scenario:
    """Return the scenario in the file `name`, or the shipped one of that name. Raises ConfigError."""
    path = Path(name)
    if not path.exists() and (SHIPPED / f"{name}.ini").exists():
        path = SHIPPED / f"{name}.ini"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}; the shipped scenarios are: {', '.join(shipped())}") from error
    return parse(text, path)


def shipped() -> list[str]:
    """Return the names of the scenarios that come with mpt."""
    return sorted(path.stem for path in SHIPPED.glob("*.ini"))


def parse(text: str, path: Path) -> Scenario:
    """Return the scenario of a file's `text`. Raises ConfigError with file, section, key and what to write instead."""
    parser = ConfigParser(
        interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"), inline_comment_prefixes=("#",)
    )
    try:
        parser.read_string(text, str(path))
    except FormatError as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error
    own: dict[str, Any] = {}
    base: dict[str, Any] = {}
    sweep: list[tuple[str, tuple[Any, ...]]] = []
    for section in parser.sections():
        if section not in ("scenario", "paths", "sweep"):
            raise ConfigError(f"{path}: there is no section [{section}]: write [scenario], [paths] or [sweep]")
        for name, words in parser[section].items():
            key = _key_named(name, section, path)
            if section == "sweep":
                sweep.append((name, tuple(_read(key, name, word.strip(), path) for word in words.split("|"))))
            else:
                (own if name in OWN else base)[name] = _read(key, name, words, path)
    scenario = Scenario(
        path.stem,
        own.get("title", path.stem),
        own.get("repetitions", 3),
        own.get("seed", 1),
        Point(**base),
        tuple(sweep),
    )
    for point in scenario.points:
        _require_consistent(point, path)
    return scenario


def _key_named(name: str, section: str, path: Path) -> Key:
    known: Mapping[str, Key] = KEYS if section == "sweep" else {**KEYS, **OWN}
    key = known.get(name)
    if key is None:
        if section == "sweep" and name in OWN:
            raise ConfigError(f"{path}: [sweep] {name} cannot be varied: write it in [scenario]")
        near = get_close_matches(name, known, 1)
        hint = f": do you mean {near[0]}?" if near else f": the keys are {', '.join(sorted(known))}"
        raise ConfigError(f"{path}: [{section}] has no key {name}{hint}")
    if section not in ("sweep", key.section):
        raise ConfigError(f"{path}: {name} belongs into [{key.section}], not into [{section}]")
    return key


def _read(key: Key, name: str, words: str, path: Path) -> Any:
    try:
        return key.read(words)
    except (ValueError, KeyError):
        raise ConfigError(f"{path}: {name} = {words!r}: must be {key.form}") from None


def _require_consistent(point: Point, path: Path) -> None:
    """Raise ConfigError if two settings contradict each other."""
    for name in ("rate", "delay", "jitter", "loss", "queue", "trace", "weights"):
        values: Sequence[Any] = getattr(point, name) or ()
        if len(values) > 1 and len(values) != point.paths:
            raise ConfigError(
                f"{path}: {name} has {len(values)} values for {point.paths} paths: write 1 or {point.paths}"
            )
    if point.pull is not None:
        if point.pull >= point.paths:
            raise ConfigError(f"{path}: pull = {point.pull}: there are {point.paths} paths, counted from 0")
        if not point.pull_at < point.plug_at <= point.seconds:
            raise ConfigError(f"{path}: pull_at < plug_at <= seconds must hold")
    if point.scheduler == "adaptive" and not point.sealed:
        raise ConfigError(f"{path}: scheduler = adaptive needs sealed = yes")


def as_words(value: Any) -> str:
    """Return a setting as a scenario file has it."""
    if value is AUTO:
        return "auto"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(as_words(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings_of(point: Point) -> dict[str, str]:
    """Return all settings of a point as words."""
    return {each.name: as_words(getattr(point, each.name)) for each in fields(point)}
