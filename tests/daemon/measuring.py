"""A data path whose measures the test sets, and which notes what control decides."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from mpt.accel.choice import DataPathChoice
from mpt.data.datapath import PythonDataPath
from mpt.host.tun import IFF_NO_PI, IFF_TUN
from mpt.limits import AdaptiveCounters, FlightMeasures, OrderLimits, PathLimits


class MeasuringDataPath(PythonDataPath):
    """The reference, with `flights` for its measures."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.flights: dict[Hashable, FlightMeasures] = {}
        self.limits: dict[Hashable, PathLimits] = {}
        self.orders: dict[Hashable, OrderLimits] = {}
        self.given: list[Mapping[Hashable, PathLimits]] = []
        self.rescued: list[Hashable] = []
        self.counted: AdaptiveCounters | None = None  # instead of its own

    def set_limits(
        self, limits: Mapping[Hashable, PathLimits], orders: Mapping[Hashable, OrderLimits], now: float
    ) -> None:
        super().set_limits(limits, orders, now)
        self.given.append(limits)
        self.limits |= limits
        self.orders |= orders

    def rescue(self, path: Hashable, now: float, bounded: bool = False) -> int:
        self.rescued.append(path)
        return super().rescue(path, now, bounded)

    def flight(self, path: Hashable) -> FlightMeasures:
        return self.flights.get(path, FlightMeasures())

    def adaptive_counters(self, connection: Hashable) -> AdaptiveCounters:
        return self.counted or super().adaptive_counters(connection)


MEASURING = DataPathChoice("python", "of the test", IFF_TUN | IFF_NO_PI, lambda tun: MeasuringDataPath(tun))
