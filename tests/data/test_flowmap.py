"""Flow mapping: which path a packet is bound to by its ports (draft section 5.2)."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack

import pytest

from mpt.data.flowmap import FlowMap
from mpt.model import PortMap
from mpt.testing.datapath import LOCAL_V6, REMOTE_V6, Stage, connection_row, packet, path_row

TCP, UDP = 6, 17


def flow(protocol: int, source: int, destination: int) -> bytes:
    """A packet from port `source` to port `destination`."""
    return packet(body=pack("!HH", source, destination) + bytes(16), protocol=protocol)


def flow_v6(protocol: int, source: int, destination: int) -> bytes:
    return packet(LOCAL_V6, REMOTE_V6, pack("!HH", source, destination) + bytes(16), protocol)


def ports(**lists: tuple[int, ...]) -> PortMap:
    return PortMap(**{key: frozenset(listed) for key, listed in lists.items()})


@pytest.mark.parametrize("make", [flow, flow_v6])
def test_the_drafts_example(make: Callable[[int, int, int], bytes]) -> None:
    """path_1: tcp_dst = 80 443 8080, udp_dst = 5901; path_2: tcp_src = 7880 56000; all else is free."""
    flows = FlowMap([ports(tcp_dst=(80, 443, 8080), udp_dst=(5901,)), ports(tcp_src=(7880, 56000))])
    expected = {
        (TCP, 1000, 80): 0,
        (TCP, 1000, 443): 0,
        (TCP, 1000, 8080): 0,
        (UDP, 1000, 5901): 0,
        (TCP, 7880, 1000): 1,
        (TCP, 56000, 1000): 1,
        (TCP, 80, 1000): None,
        (TCP, 1000, 7880): None,
        (TCP, 1000, 5901): None,
        (UDP, 1000, 80): None,
        (UDP, 7880, 1000): None,
    }
    assert {key: flows.path(make(*key)) for key in expected} == expected


def test_the_source_port_goes_first() -> None:
    """A packet that one path lists by source and another by destination takes the path of its source."""
    flows = FlowMap([ports(tcp_dst=(80,), udp_dst=(53,)), ports(tcp_src=(22,), udp_src=(54,))])
    assert flows.path(flow(TCP, 22, 80)) == 1
    assert flows.path(flow(UDP, 54, 53)) == 1


def test_the_first_path_that_lists_a_port_has_it() -> None:
    """A port listed by two paths belongs to the first."""
    assert FlowMap([ports(), ports(tcp_dst=(80,)), ports(tcp_dst=(80,))]).path(flow(TCP, 1, 80)) == 1


def test_what_has_no_ports_is_free() -> None:
    """Fragments, other protocols and packets cut off before their ports are bound to no path."""
    flows = FlowMap([ports(tcp_dst=(0, 80), udp_dst=(0, 80), tcp_src=(0,), udp_src=(0,))])
    fragment = bytearray(flow(UDP, 80, 80))
    fragment[7] = 1
    assert flows.path(bytes(fragment)) is None
    assert flows.path(flow(1, 80, 80)) is None
    assert flows.path(packet(body=b"\0\x50", protocol=TCP)) is None


def test_a_map_without_ports_is_false() -> None:
    """Egress looks at packets only where a path lists a port."""
    assert not FlowMap([])
    assert not FlowMap([PortMap(), PortMap()])
    assert FlowMap([PortMap(), ports(udp_src=(1,))])


def sent_over(mapped_usable: bool, *packets: bytes, mapped_socket: bool = True) -> list[int]:
    """How many of `packets` each of three paths carried, the second of which has UDP port 53."""
    stage = Stage.in_memory()
    sockets = [stage.new_socket() for _ in range(3)]
    rows = [path_row(number, each) for number, each in enumerate(sockets)]
    rows[1] = path_row(1, sockets[1] if mapped_socket else None, usable=mapped_usable, ports=ports(udp_dst=(53,)))
    stage.set_table(connection_row(*rows))
    stage.send(*packets)
    assert sum(path.packets_sent for path in stage.counters().paths.values()) == len(packets)
    return [len(each.sent()) for each in sockets]


def test_a_mapped_flow_takes_its_path() -> None:
    """Packets of a listed port all take their path; they use up no turn of the cycle."""
    mapped, free = flow(UDP, 1000, 53), flow(UDP, 1000, 54)
    assert sent_over(True, *[mapped] * 6) == [0, 6, 0]
    assert sent_over(True, free, mapped, free, mapped, free, mapped) == [1, 4, 1]


def test_a_flow_whose_path_is_down_falls_back_to_the_cycle() -> None:
    """While its path is down, or has no socket, a mapped flow is shared out among the others."""
    assert sent_over(False, *[flow(UDP, 1000, 53)] * 6) == [3, 0, 3]
    assert sent_over(True, *[flow(UDP, 1000, 53)] * 6, mapped_socket=False) == [3, 0, 3]
