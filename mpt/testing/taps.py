"""Taps without interfaces: a test says what arrives, as IP packets."""

from __future__ import annotations

from mpt.errors import HostError


class FakeTap:
    """One open tap."""

    def __init__(self, taps: FakeTaps) -> None:
        self._taps = taps
        self.packets: list[bytes] = []

    def read(self) -> list[bytes]:
        taken, self.packets = self.packets, []
        return taken

    def close(self) -> None:
        self._taps.close(self)


class FakeTaps:
    """The taps of one machine. `opened` counts them, `open_now` holds the open ones by interface, port and IP version.
    With `refused` none can be opened, as without privilege."""

    def __init__(self) -> None:
        self.opened = 0
        self.open_now: dict[tuple[str, int, int], FakeTap] = {}
        self.refused = False

    def open(self, interface: str, port: int, version: int) -> FakeTap:
        """Open a tap, as `mpt.host.tap.Tap` does."""
        if self.refused:
            raise HostError(f"cannot look at what arrives at {interface}: Operation not permitted")
        assert (interface, port, version) not in self.open_now
        tap = self.open_now[interface, port, version] = FakeTap(self)
        self.opened += 1
        return tap

    def arrive(self, interface: str, packet: bytes) -> None:
        """Let an IP packet arrive at an interface with a tap."""
        for (name, _, version), tap in self.open_now.items():
            if (name, version) == (interface, packet[0] >> 4):
                tap.packets.append(packet)

    def close(self, tap: FakeTap) -> None:
        """Forget a tap that its owner has closed."""
        self.open_now = {place: each for place, each in self.open_now.items() if each is not tap}
