"""What the operator reads when a tunnel interface cannot be made."""

from __future__ import annotations

import errno
import struct
from ipaddress import IPv4Interface

import pytest

from mpt.errors import HostError
from mpt.host.tun import IFF_BACKPRESSURE, IFF_NO_PI, IFF_TUN, IFF_VNET_HDR, open_tun
from mpt.model import TunnelConfig
from mpt.testing.system import FakeSystem

CONFIG = TunnelConfig(name="tun0", ipv4_addr=IPv4Interface("10.0.0.2/24"), queue_length=700)


class AskedSystem(FakeSystem):
    """Refuses the first flags that it is asked for, `refusals` times."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self._refusals = refusals
        self.asked: list[int] = []

    def ioctl(self, fd: int, request: int, argument: bytes) -> bytes:  # type: ignore[override]
        self.asked.append(struct.unpack("16sH22x", argument)[1])
        if len(self.asked) <= self._refusals:
            raise OSError(errno.EINVAL, "Invalid argument")
        return super().ioctl(fd, request, argument)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        ("open", errno.ENOENT, "there is no /dev/net/tun: load the driver with: modprobe tun .*--device /dev/net/tun"),
        ("open", errno.ENODEV, "there is no /dev/net/tun"),
        ("open", errno.EACCES, "no privilege to open /dev/net/tun: run as root, or .*: chmod 666 /dev/net/tun"),
        ("open", errno.EMFILE, "cannot open /dev/net/tun: Too many open files"),
        ("ioctl", errno.EPERM, "no privilege to create the interface tun0: run as root or with CAP_NET_ADMIN"),
        ("ioctl", errno.EBUSY, "tun0 is in use by another program"),
        ("ioctl", errno.EINVAL, "the kernel refuses to create the interface tun0: Invalid argument"),
    ],
)
def test_the_reason_is_said(call: str, error: int, text: str) -> None:
    """Each refusal of the kernel becomes a sentence that says what to do, and nothing stays open."""
    system = FakeSystem()
    system.fail(call, error)
    with pytest.raises(HostError, match=text):
        open_tun(CONFIG, system, system.netlink)
    assert system.open_devices == 0


def test_the_queue_length_is_set() -> None:
    """The queue of the interface has the configured length."""
    system = FakeSystem()
    tun = open_tun(CONFIG, system, system.netlink)
    assert system.netlink.queue_lengths == {"tun0": 700}
    tun.close()
    assert (system.tuns, system.open_devices) == ({}, 0)


@pytest.mark.parametrize(
    ("refusals", "left"),
    [(0, IFF_BACKPRESSURE | IFF_VNET_HDR), (1, IFF_VNET_HDR), (2, 0)],
)
def test_a_machine_goes_without_what_it_does_not_know(refusals: int, left: int) -> None:
    """Without backpressure first, then without the offload header; everything else is the same."""
    system = AskedSystem(refusals)
    tun = open_tun(CONFIG, system, system.netlink, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_BACKPRESSURE)
    assert list(system.tuns) == ["tun0"] and system.asked[-1] == IFF_TUN | IFF_NO_PI | left
    tun.close()
    assert system.open_devices == 0
