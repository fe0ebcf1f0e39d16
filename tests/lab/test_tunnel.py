"""The configuration that the lab writes, read by the daemon's reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import cast

import pytest

from mpt.config.directory import load_directory
from mpt.errors import HostError
from mpt.lab.hosts import Host
from mpt.lab.links import End, Link, Shape
from mpt.lab.tunnel import Description, Side, fit_of, reorder_window_of, weights_of, write_configuration


@dataclass
class Named:
    """Stands for a host, of which the configuration needs no more than its name."""

    name: str


@dataclass
class Cable:
    """Stands for a link, of which the configuration needs the ends."""

    number: int
    a: End = field(init=False)
    b: End = field(init=False)

    def __post_init__(self) -> None:
        n = self.number
        self.a = End(cast(Host, Named("a")), f"eth{n}", (f"10.{n}.{n}.2/24", f"fd0{n}::2/64"), "", 0)
        self.b = End(cast(Host, Named("b")), f"wan{n}", (f"10.{n}.{n}.3/24", f"fd0{n}::3/64"), "", 0)


LINKS = cast(list[Link], [Cable(1), Cable(2)])


@pytest.mark.parametrize("outer", [4, 6])
def test_both_ends_are_written_as_each_other_s_mirror(tmp_path: Path, outer: int) -> None:
    """The daemon's reader accepts both directories without a warning; local addresses here are remote there."""
    description = Description(
        LINKS,
        tunnel_ipv6=("fec0::1/64", "fec0::2/64"),
        outer=outer,
        weights=(5, 1),
        reorder_window=700,
        networks=[("11.1.1.0/24", "21.1.1.0/24"), ("fd11::/64", "fd21::/64")],
        extra={"path_1": ["tcp_dst = 80 443"]},
    )
    loaded = {}
    sides: tuple[Side, Side] = ("a", "b")
    for side in sides:
        write_configuration(description, side, tmp_path / side)
        result = load_directory(tmp_path / side)
        assert not result.warnings
        loaded[side] = {connection.ip_ver: connection for connection in result.config.connections}
    for version in (4, 6):
        here, there = loaded["a"][version], loaded["b"][version]
        assert (here.ip_local, here.ip_remote) == (there.ip_remote, there.ip_local)
        assert here.local_port == there.remote_port
        assert [(path.public_ipaddr, path.remote_ipaddr) for path in here.paths] == [
            (path.remote_ipaddr, path.public_ipaddr) for path in there.paths
        ]
        assert [network.source for network in here.networks] == [network.destination for network in there.networks]
        assert {network.ip_ver for network in here.networks} == {version}
    paths = loaded["a"][4].paths
    assert [path.weight_out for path in paths] == [5, 1]
    assert [path.interface_name for path in paths] == ["eth1", "eth2"]
    assert paths[0].remote_ipaddr == ip_address("10.1.1.3" if outer == 4 else "fd01::3")
    assert (paths[0].keepalive_time, paths[0].dead_time) == (0.1, 2.0)
    assert paths[1].ports.tcp_dst == {80, 443}
    assert loaded["a"][4].reorder_window == 700
    assert loaded["a"][4].local_port != loaded["a"][6].local_port


def test_a_link_without_the_right_address_is_an_error(tmp_path: Path) -> None:
    """Paths of a version that the link has no address of are refused by name."""
    cable = Cable(1)
    cable.a = End(cable.a.host, "eth1", ("10.1.1.2/24",), "", 0)
    with pytest.raises(HostError, match="eth1 of a has no IPv6 address"):
        write_configuration(Description(cast(list[Link], [cable]), outer=6), "a", tmp_path / "a")


@pytest.mark.parametrize(
    ("rates", "weights"),
    [([50, 50], [1, 1]), ([100, 20], [5, 1]), ([12.5, 7.5], [5, 3]), ([10_000, 0.1], [10_000, 1]), ([33.3], [1])],
)
def test_weights_are_the_rates_in_lowest_terms(rates: list[float], weights: list[int]) -> None:
    """Weights are in proportion to the rates, as small as possible, and within what a weight may be."""
    assert weights_of(rates) == weights


def test_the_reorder_window_holds_what_arrives_meanwhile() -> None:
    """The window is one and a half times the packets of all paths in the time, at least 50 and at most 10,000."""
    assert reorder_window_of([50, 50], 40) == 521
    assert reorder_window_of([1], 1) == 50
    assert reorder_window_of([1000, 1000], 500) == 10_000


def test_what_fits_lines() -> None:
    """The keepalives are so far apart that they show which line is the later one."""
    fit = fit_of([Shape(rate_mbit=100), Shape(rate_mbit=50, delay_ms=80)])
    assert (fit.weights, fit.max_buffdelay_msec) == ([2, 1], 100)
    assert fit.keepalive > 2 * 0.1 and fit.dead > 2 * fit.keepalive
    assert fit_of([Shape(rate_mbit=10)]).keepalive == 0.1
