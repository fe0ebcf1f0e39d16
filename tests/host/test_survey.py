"""What is known about this host, from files as the kernel writes them."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from mpt.facts import UdpSocket
from mpt.host.survey import kernel_version, sysctls, tun_fault, udp_sockets

UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
    1: 00000000:1292 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 12
    2: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0
"""


@pytest.mark.parametrize(
    ("release", "version"), [("6.12.3-amd64", (6, 12)), ("5.0", (5, 0)), ("4.4.0+", (4, 4)), ("strange", (0, 0))]
)
def test_a_release_has_two_numbers(release: str, version: tuple[int, int]) -> None:
    """What follows is the distributor's; without numbers nothing is known."""
    assert kernel_version(release) == version


def test_settings_are_read_as_far_as_there_are_any(tmp_path: Path) -> None:
    """The name of an interface may have dots of its own."""
    for name in ("net/ipv4/ip_forward", "net/ipv4/conf/eth0.5/rp_filter"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("1\n")
    assert sysctls(["eth0.5", "eth1"], tmp_path) == {"net.ipv4.ip_forward": "1", "net.ipv4.conf.eth0.5.rp_filter": "1"}


def test_a_tunnel_device_may_be_missing_or_closed_to_us(tmp_path: Path) -> None:
    """`mpt doctor` knows the first by its words."""
    assert tun_fault(tmp_path / "tun").startswith("No such")
    (tmp_path / "tun").write_bytes(b"")
    assert tun_fault(tmp_path / "tun") == ""
    assert tun_fault(tmp_path) == "Is a directory"


def test_sockets_have_their_processes_as_far_as_we_may_see(tmp_path: Path) -> None:
    """A process that has ended meanwhile is left out; so is a kernel without IPv6."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "udp").write_text(UDP)
    (tmp_path / "42" / "fd").mkdir(parents=True)
    (tmp_path / "42" / "comm").write_text("mptsrv\n")
    (tmp_path / "42" / "fd" / "3").symlink_to("socket:[4711]")
    (tmp_path / "42" / "fd" / "4").symlink_to("/dev/null")
    (tmp_path / "43").mkdir()
    any_address = ip_address("0.0.0.0")
    assert udp_sockets(tmp_path) == (UdpSocket(any_address, 4754, 42, "mptsrv", 12), UdpSocket(any_address, 53))


def test_a_socket_of_ours_is_found() -> None:
    """With its process, in the real /proc, although a descriptor is gone when it is looked at: that of the listing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
        place = ip_address("127.0.0.1"), ours.getsockname()[1]
        assert [each.pid for each in udp_sockets() if (each.address, each.port) == place] == [os.getpid()]
