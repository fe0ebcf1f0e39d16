"""Sizes that follow from headers, lines, rates and delays, and the network of a new tunnel."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.config.freetunnel import TUNNELS, free_tunnel
from mpt.config.sizes import ETHERNET, largest_packet, packets_in, rate_of
from mpt.model import MAX_REORDER_WINDOW


@pytest.mark.parametrize(
    ("versions", "is_sealed", "octets"),
    [([4], False, 1464), ([6], False, 1444), ([], False, 1464), ([4, 6], True, 1410), ([4], True, 1430)],
)
def test_a_packet_fits_all_paths(versions: list[int], is_sealed: bool, octets: int) -> None:
    """The longest headers of them count; guide 2.6.2 names 1464."""
    assert largest_packet(ETHERNET, versions, is_sealed) == octets


@given(st.integers(1, 10_000), st.integers(1, 60_000))
def test_a_window_holds_its_rate(rate: int, delay: int) -> None:
    """It is the smallest that does, or the largest that there is."""
    window = packets_in(rate, delay)
    assert rate_of(window, delay) >= rate or window == MAX_REORDER_WINDOW
    assert rate_of(window - 1, delay) < rate


def test_without_a_delay_a_window_holds_nothing() -> None:
    """No rate is divided by zero."""
    assert rate_of(1000, 0) == packets_in(100, 0) == 0


def test_a_new_tunnel_has_a_network_that_no_line_has() -> None:
    """The first that is free; a wider or a narrower network takes it, too. None is proposed if all are taken."""
    assert str(free_tunnel([])) == "10.77.0.0/24"
    taken = [ip_interface(text) for text in ("10.77.0.9/30", "10.78.5.5/16", "fd00::1/64")]
    assert str(free_tunnel(taken)) == "10.79.0.0/24"
    assert free_tunnel(map(ip_interface, TUNNELS)) is None
