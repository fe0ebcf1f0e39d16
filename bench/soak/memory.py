"""The memory of a daemon over time, and whether it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.variants import WINDOW

LIMIT_MB = 60.0  # what a daemon may need
STEADY_MB = WINDOW * 2e-3  # growth that is no leak in any run: a reorder window that is full for the first time
WARM_UP = 120.0  # seconds at most, and half of the run: one turn of all loads


@dataclass
class MemoryLog:
    """Resident memory of one daemon in MB, by seconds since the start; the first `warm_up` seconds do not count."""

    warm_up: float
    samples: list[tuple[float, float]] = field(default_factory=list)

    def counting(self) -> list[tuple[float, float]]:
        """Return the samples after the warm-up."""
        return [sample for sample in self.samples if sample[0] >= self.warm_up]

    @property
    def largest(self) -> float:
        """Return the largest sample, the warm-up included."""
        return max(size for _, size in self.samples)

    @property
    def slope(self) -> float:
        """Return MB a minute, by the line of least squares through the samples after the warm-up."""
        return slope(self.counting()) * 60

    @property
    def growth(self) -> float:
        """Return the MB that this line rises from the warm-up to the end."""
        counting = self.counting()
        return self.slope * (counting[-1][0] - counting[0][0]) / 60 if counting else 0.0

    @property
    def grows(self) -> bool:
        """Return whether the growth is more than that of memory which is used for the first time."""
        return self.growth >= STEADY_MB

    @property
    def is_right(self) -> bool:
        """Return whether the daemon stayed below the limit and did not grow."""
        return self.largest < LIMIT_MB and not self.grows

    def as_json(self) -> dict[str, object]:
        """Return the object under "daemons", in MB and kB of 1000 bytes."""
        counting = self.counting() or self.samples[-1:]  # a soak that broke off in the warm-up
        return {
            "start_mb": round(counting[0][1], 3),
            "end_mb": round(counting[-1][1], 3),
            "max_mb": round(self.largest, 3),
            "slope_kb_per_min": round(self.slope * 1000, 2),
            "growth_mb": round(self.growth, 3),
            "samples": [[round(at, 1), round(size, 3)] for at, size in self.samples],
        }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line of least squares through `points` (x, y); 0 for fewer than two."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
