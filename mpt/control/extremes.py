"""The least or the greatest value of the last seconds."""

from __future__ import annotations

from collections import deque


class Least:
    """The least value of the last `window` seconds; for the greatest, add the negative ones."""

    __slots__ = ("_values", "window")

    def __init__(self, window: float) -> None:
        self.window = window
        self._values: deque[tuple[float, float]] = deque()  # (time, value), both growing

    def add(self, now: float, value: float) -> None:
        """Take a value; times never go back."""
        values = self._values
        while values and values[-1][1] >= value:
            values.pop()
        values.append((now, value))
        self._forget(now)

    def get(self, now: float) -> float | None:
        """Return the least value; the newest one does not grow old. None: there is none."""
        self._forget(now)
        return self._values[0][1] if self._values else None

    def clear(self) -> None:
        """Forget all values."""
        self._values.clear()

    def _forget(self, now: float) -> None:
        values = self._values
        while len(values) > 1 and values[0][0] <= now - self.window:
            values.popleft()
