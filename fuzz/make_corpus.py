"""Writes fuzz/corpus anew: a few valid inputs of each target for the fuzzers to start from."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from mpt.wire import gre  # noqa: E402
from tests.accel.model import ACK, PSH, TCP, UDP, Inner  # noqa: E402


def flow(version: int, protocol: int, size: int = 60, count: int = 4) -> list[bytes]:
    whole = Inner(version=version, protocol=protocol, flags=ACK | PSH, payload=bytes(range(size)) * count)
    return [each.octets() for each in whole.cut(size)]


def step(kind: int, octets: bytes) -> bytes:
    return bytes([kind]) + len(octets).to_bytes(2, "big") + octets


def seeds() -> dict[str, list[bytes]]:
    kinds = [(version, protocol) for version in (4, 6) for protocol in (TCP, UDP)]
    reply = {"source": b"\x0a\0\0\3", "destination": b"\x0a\0\0\2"}
    peer = [Inner(payload=bytes(40), ident=n, sequence=1000 + 40 * n, **reply).octets() for n in range(6)]
    datagrams = [gre.encode(4, n) + each for n, each in enumerate(peer)]
    frame = Inner(payload=bytes(300)).frame(100)
    ports = Inner(payload=bytes(30), ports=(1, 80)).frame()
    return {
        "gre": [
            gre.encode(4) + flow(4, TCP)[0],
            gre.encode(6, 7) + flow(6, UDP)[0],
            b"\xb0\0\x08\0" + bytes(12) + flow(4, UDP)[0],
        ],
        "split": [Inner(version=v, protocol=p, payload=bytes(300)).frame(size) for v, p in kinds for size in (0, 100)],
        "join": [b"".join(len(each).to_bytes(2, "big") + each for each in flow(*kind)) for kind in kinds],
        "reorder": [
            bytes([8, 100])
            + b"".join(bytes([7 | (n % 2) << 4, d, 0, 0, 0]) for n, d in enumerate((1, 2, 255, 2, 1, 3, 254, 1))),
            bytes([20, 50, 2, 0, 0, 0, 0, 18, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 9, 0, 0, 0, 20, 0, 0, 0, 0])
            + bytes([7, 2, 0, 0, 0]) * 9,
        ],
        "datapath": [
            bytes([7]) + b"".join(step(10, each) for each in datagrams) + step(5, frame) + step(13, ports),
            bytes([0])
            + b"".join(step(11 - 8 * (n % 2), datagrams[5 - n]) for n in range(6))
            + step(0, bytes(200))
            + step(1, b"\x0f"),
        ],
    }


if __name__ == "__main__":
    for target, inputs in seeds().items():
        for number, octets in enumerate(inputs):
            path = HERE / "corpus" / target / f"{number:02}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(octets)
