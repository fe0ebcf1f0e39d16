"""The pure functions of the C engine, on bytes; and the whole of it on a stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from mpt.testing.datapath import Stage, closing
from tests.accel.loopback import loopback_stage

native = pytest.importorskip("mpt.accel._native", exc_type=ImportError)
ffi, lib = native.ffi, native.lib

ROOM = 1 << 20
MAX = 4096


def pieces_of(out: bytes, sizes: Sequence[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(out[:size])
        out = out[size:]
    return pieces


def split(frame: bytes) -> list[bytes] | None:
    """The packets of a frame of the TUN, or None for one that is malformed."""
    out, sizes = ffi.new("uint8_t[]", ROOM), ffi.new("uint32_t[]", MAX)
    copy = ffi.new("uint8_t[]", frame or b"\0")
    count = lib.mpt_split(copy, len(frame), out, ROOM, sizes, MAX)
    if count < 0:
        return None
    lengths = ffi.unpack(sizes, count)
    return pieces_of(bytes(ffi.buffer(out, sum(lengths))), lengths)


def join(packets: Sequence[bytes], offloads: int = lib.MPT_JOIN_TCP | lib.MPT_JOIN_UDP) -> list[bytes]:
    """The frames for the TUN that `packets` are joined to."""
    out, sizes = ffi.new("uint8_t[]", ROOM), ffi.new("uint32_t[]", MAX)
    count = lib.mpt_join(
        b"".join(packets), [len(each) for each in packets], len(packets), offloads, out, ROOM, sizes, MAX
    )
    if count < 0:
        raise MemoryError
    lengths = ffi.unpack(sizes, count)
    return pieces_of(bytes(ffi.buffer(out, sum(lengths))), lengths)


def with_offload(tun: int, wanted: bool) -> int:
    """The answer of a TUN with vnet_hdr and every offload, for which a socketpair stands."""
    return int(lib.MPT_VNET_HDR | lib.MPT_JOIN_TCP | lib.MPT_JOIN_UDP)


@contextmanager
def native_stage(**options: Any) -> Iterator[Stage]:
    """A native data path with these options on UDP sockets, closed at the end."""
    from mpt.accel.native import NativeDataPath

    with closing(loopback_stage(lambda tun: NativeDataPath(tun, **options))) as made:
        yield made


def inside(stage: Stage) -> Any:
    """The NativeDataPath of a stage."""
    return stage.datapath.inner  # type: ignore[attr-defined]
