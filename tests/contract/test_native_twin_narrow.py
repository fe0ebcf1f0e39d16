"""The native data path and the Python one, side by side, with paths that do not carry every packet."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.accel.model import ACK, SYN, TCP, UDP, Inner
from tests.contract.test_native_twin import table
from tests.contract.twins import twins

SYNS = st.builds(
    Inner,
    version=st.sampled_from([4, 6]),
    flags=st.sampled_from([SYN, SYN | ACK, ACK]),
    options=st.sampled_from([bytes.fromhex(each) for each in ("020405b4", "0101020405b40101", "01020405b4010101", "")]),
)
OTHERS = st.builds(
    Inner,
    version=st.sampled_from([4, 4, 4, 6]),
    protocol=st.sampled_from([TCP, UDP, UDP]),
    ports=st.sampled_from([(40000, 80), (53, 53), (40000, 5201)]),
    dont_fragment=st.booleans(),
    ident=st.integers(0, 65535),
    payload=st.sampled_from([0, 50, 530, 531, 600, 972, 1400, 1500]).map(bytes),
)
IPV6 = {"source": bytes.fromhex("fd0a").ljust(16, b"\0"), "destination": bytes.fromhex("fd0b").ljust(16, b"\0")}
PACKETS = st.one_of(SYNS, OTHERS).map(
    lambda inner: (inner if inner.version == 4 else replace(inner, **IPV6)).octets()  # type: ignore[arg-type]
)
MTUS = st.dictionaries(st.integers(0, 3), st.sampled_from([0, 576, 580, 1000, 1280, 1450]))


@given(
    st.lists(st.tuples(MTUS, st.lists(PACKETS, max_size=8)), max_size=8),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.integers(0, 7),
    st.sampled_from([0, 8]),
    st.sampled_from([0, 600, 1280]),
)
def test_the_same_paths(
    batches: list[tuple[dict[Hashable, int], list[bytes]]], weights: list[int], usable: int, window: int, clamp: int
) -> None:
    """Whatever the TUN gives leaves over the same paths, whole or cut, or is answered, or is dropped."""
    with twins() as pair:
        paths = [bool(usable >> bit & 1) for bit in range(3)]
        pair.set_table(table(window, paths, weights, 0.1, True, mss_clamp=clamp))
        for mtus, batch in batches:
            pair.set_path_mtus(mtus)
            pair.send(*batch)
