"""The look at what arrives, on the real kernel."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from mpt.errors import HostError
from mpt.host.tap import MOST, Tap, drops_what_returns_elsewhere
from mpt.wire import sighting
from mpt.wire.command import encode_keepalive
from mpt.wire.sighting import Datagram, Failure, Unreachable
from tests.host.machines import PATIENCE, real_machine

KEEPALIVE = encode_keepalive(4, ip_address("10.0.0.2"), ip_address("10.0.0.3"))


def udp(address: str) -> socket.socket:
    """Return a socket at a free port."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, 0))
    made.settimeout(PATIENCE)
    return made


@pytest.mark.netns
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_it_shows_keepalives_and_errors_about_what_we_send_and_nothing_else(address: str) -> None:
    """The tap shows only these of all packets at the interface."""
    own = ip_address(address)
    with real_machine(), udp(address) as ours, udp(address) as peer, udp(address) as other:
        with udp(address) as soon_closed:
            closed = soon_closed.getsockname()[1]
        port = ours.getsockname()[1]
        tap = Tap("lo", port, own.version)
        peer.sendto(bytes(44), (address, port))  # no keepalive
        peer.sendto(KEEPALIVE, other.getsockname()[:2])  # to another port
        other.sendto(KEEPALIVE, (address, closed))  # an error that is not about us
        peer.sendto(KEEPALIVE, (address, port))
        ours.sendto(KEEPALIVE, (address, closed))
        peer.sendto(b"the last", (address, port))
        while ours.recv(100) != b"the last":
            pass
        seen = [sighting.decode(packet) for packet in tap.read()]
        tap.close()
        assert seen == [
            Datagram(own, peer.getsockname()[1], own, KEEPALIVE),
            Unreachable(own, own, closed, Failure.PORT),
        ]


@pytest.mark.netns
def test_a_flood_fills_a_small_buffer_and_no_more() -> None:
    """Of thousands of keepalives some hundred are seen."""
    with real_machine(), udp("127.0.0.1") as ours, udp("127.0.0.1") as peer:
        tap = Tap("lo", ours.getsockname()[1], 4)
        for _ in range(5000):
            peer.sendto(KEEPALIVE, ours.getsockname())
        assert 10 < len(tap.read()) <= MOST
        tap.close()


@pytest.mark.netns
def test_an_interface_that_is_not_there_is_refused() -> None:
    """The error is in the operator's words."""
    with real_machine(), pytest.raises(HostError, match="cannot look at what arrives at eth9: No such device"):
        Tap("eth9", 4754, 4)


@pytest.mark.parametrize(
    ("for_all", "own", "drops"),
    [("0", "0", False), ("1", "0", True), ("0", "1", True), ("2", "1", False), ("1", "2", False)],
)
def test_the_larger_value_of_rp_filter_counts(tmp_path: Path, for_all: str, own: str, drops: bool) -> None:
    """The larger value counts, as the kernel documents; 1 is strict."""
    for name, value in (("all", for_all), ("eth1", own)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rp_filter").write_text(f"{value}\n")
    assert drops_what_returns_elsewhere("eth1", tmp_path) is drops
    assert not drops_what_returns_elsewhere("eth1", tmp_path / "nowhere")
