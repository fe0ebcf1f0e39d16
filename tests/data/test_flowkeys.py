"""Which packets are one flow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpt.data.flowkeys import CACHED, KEYS, FlowKeys, flow_of
from mpt.testing.datapath import packet
from mpt.wire.ip import MIN_LENGTH, TCP, UDP

SECRET = bytes(range(16))


def test_one_flow_has_one_key() -> None:
    """Whatever the rest of the packet is; another host's keys are others."""
    keys, other = FlowKeys(SECRET), FlowKeys(bytes(16))
    flows = [packet(body=port.to_bytes(4, "big") + b"one", protocol=UDP) for port in range(50)]
    same = [packet(body=port.to_bytes(4, "big") + b"other", protocol=UDP, tos=8) for port in range(50)]
    assert [keys.of(each) for each in flows] == [keys.of(each) for each in same]
    assert [keys.of(each) for each in flows] != [other.of(each) for each in flows]
    assert len({keys.of(each) for each in flows}) > 45


def test_the_keys_are_spread_and_do_not_change_with_the_cache() -> None:
    """All KEYS are used, about equally."""
    keys = FlowKeys(SECRET)
    packets = [packet(body=port.to_bytes(4, "big"), protocol=TCP) for port in range(3 * CACHED)]
    found = [keys.of(each) for each in packets]
    assert found == [keys.of(each) for each in packets]
    assert set(found) <= set(range(KEYS))
    assert len(set(found)) > 0.9 * KEYS
    assert max(found.count(key) for key in set(found[:100])) < 20


@given(st.binary(min_size=40, max_size=90), st.sampled_from((0x45, 0x46, 0x4F, 0x60)))
def test_every_packet_has_a_key(octets: bytes, first: int) -> None:
    """However its headers are broken; it depends on addresses, protocol and ports alone."""
    each = bytes([first]) + octets[1:]
    if len(each) >= MIN_LENGTH[first >> 4]:
        assert 0 <= FlowKeys(SECRET).of(each) < KEYS
        assert len(flow_of(each)) in (9, 13, 33, 37)
