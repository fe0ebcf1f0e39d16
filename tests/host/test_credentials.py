"""The kernel's word on who is at the other end. As root the other end is another user; else it is ourselves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address

import pytest

from mpt.host import credentials
from mpt.host.credentials import (
    Caller,
    UdpSender,
    caller_may_change,
    caller_of,
    groups_of,
    udp_sender,
    user_may_change,
)

STRANGER = 65533 if os.geteuid() == 0 else os.geteuid()
STRANGERS_GROUPS = [65532, 65531] if os.geteuid() == 0 else os.getgroups()

# What another user runs: it opens a socket as argv says, sends or connects, and ends with its standard input.
# It becomes that user by itself, as that one may not be allowed to start our Python.
BECOME = f"""
import os, socket, sys
if os.geteuid() == 0:
    os.setgroups({STRANGERS_GROUPS})
    os.setgid({STRANGERS_GROUPS[:1] or [0]}[0])
    os.setuid({STRANGER})
"""
SENDER = """
family, bound, port, target, target_port, *connected = sys.argv[1:]
sender = socket.socket(getattr(socket, family), socket.SOCK_DGRAM)
if bound:
    sender.bind((bound, int(port)))
if connected:
    sender.connect((target, int(target_port)))
    sender.send(b"hello")
else:
    sender.sendto(b"hello", (target, int(target_port)))
sys.stdin.read()
"""
REUSING = SENDER.replace("if bound:", "sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\nif bound:")
CALLER = """
caller = socket.socket(socket.AF_UNIX)
caller.connect("\\0" + sys.argv[1])
sys.stdin.read()
"""


@contextmanager
def stranger(program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`program` in a process of another user, if we are root."""
    command = [sys.executable, "-I", "-c", BECOME + program, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd="/") as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(params=["sock_diag", "proc"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return where the owner is looked up: the second is what a kernel without udp_diag leaves."""
    if request.param == "proc":
        monkeypatch.setattr(credentials, "NETLINK_SOCK_DIAG", 31)  # no such netlink family
    return str(request.param)


def receiver(family: int, address: str) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    opened.bind((address, 0))
    opened.settimeout(5)
    return opened


@pytest.mark.parametrize("connected", [False, True], ids=["unconnected", "connected"])
@pytest.mark.parametrize(
    ("server", "client", "bound", "target"),
    [
        ("127.0.0.1", "AF_INET", "", "127.0.0.1"),
        ("127.0.0.1", "AF_INET", "127.0.0.1", "127.0.0.1"),
        ("::", "AF_INET", "", "127.0.0.1"),
        ("::", "AF_INET6", "", "::ffff:127.0.0.1"),
        ("::1", "AF_INET6", "", "::1"),
        ("::", "AF_INET6", "::1", "::1"),
    ],
)
def test_the_owner_of_a_sending_socket_is_found(
    source: str, server: str, client: str, bound: str, target: str, connected: bool
) -> None:
    """IPv4, IPv6 and IPv4 in IPv6 clothes, bound and not: the user is found, and whether the socket is connected."""
    family = socket.AF_INET if "." in server else socket.AF_INET6
    with receiver(family, server) as listening:
        port = listening.getsockname()[1]
        with stranger(SENDER, client, bound, "0", target, str(port), *["connected"] * connected):
            _, (address, sending_port, *_) = listening.recvfrom(100)
            assert udp_sender(ip_address(address), sending_port, port) == UdpSender(STRANGER, connected)


def test_a_socket_that_is_connected_elsewhere_is_not_connected_to_us(source: str) -> None:
    """It does not talk to our port, whoever owns it: not our client's socket, but one whose port was taken over."""
    with receiver(socket.AF_INET, "127.0.0.1") as own:
        own.connect(("127.0.0.1", 9))
        assert udp_sender(ip_address("127.0.0.1"), own.getsockname()[1], 60456) == UdpSender(os.geteuid(), False)


def test_a_user_who_sends_from_a_port_of_root_and_closes_is_not_taken_for_root(source: str) -> None:
    """The socket that is left at the port belongs to root, but it is not connected to us."""
    with ExitStack() as stack:
        listening = stack.enter_context(receiver(socket.AF_INET, "127.0.0.1"))
        own = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind(("0.0.0.0", 0))
        port, target = own.getsockname()[1], listening.getsockname()[1]
        with stranger(REUSING, "AF_INET", "127.0.0.1", str(port), "127.0.0.1", str(target), "connected"):
            _, (address, sending_port) = listening.recvfrom(100)
        assert udp_sender(ip_address(address), sending_port, target) == UdpSender(os.geteuid(), False)


def test_a_socket_for_ipv6_only_has_not_sent_ipv4() -> None:
    """Another user may have the same port of IPv4. Only sock_diag tells; /proc does not."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as own:
        own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        own.bind(("::", 0))
        port = own.getsockname()[1]
        assert udp_sender(ip_address("127.0.0.1"), port, 60456) is None
        assert udp_sender(ip_address("::1"), port, 60456) == UdpSender(os.geteuid(), False)


def test_our_own_socket_is_ours(source: str) -> None:
    """The owner of our socket is found."""
    with receiver(socket.AF_INET, "127.0.0.1") as own:
        found = udp_sender(ip_address("127.0.0.1"), own.getsockname()[1], 60456)
        assert found == UdpSender(os.geteuid(), False)


def test_a_closed_socket_has_no_owner(source: str) -> None:
    """A closed socket has no owner."""
    with receiver(socket.AF_INET, "127.0.0.1") as own:
        port = own.getsockname()[1]
    assert udp_sender(ip_address("127.0.0.1"), port, 60456) is None
    assert not user_may_change(None, 0)


def test_a_socket_at_another_address_is_not_the_sender(source: str) -> None:
    """The port alone does not say who sent."""
    with receiver(socket.AF_INET, "127.0.0.2") as own:
        assert udp_sender(ip_address("127.0.0.1"), own.getsockname()[1], 60456) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be two users")
def test_several_possible_owners_are_none(source: str) -> None:
    """When sockets of two users could have sent it, nobody is believed."""
    with ExitStack() as stack:
        listening = stack.enter_context(receiver(socket.AF_INET, "127.0.0.1"))
        own = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind(("0.0.0.0", 0))
        port = own.getsockname()[1]
        target = str(listening.getsockname()[1])
        stack.enter_context(stranger(REUSING, "AF_INET", "127.0.0.1", str(port), "127.0.0.1", target))
        _, (address, sending_port) = listening.recvfrom(100)
        assert sending_port == port
        assert udp_sender(ip_address(address), port, int(target)) is None


def test_the_caller_of_a_unix_socket_is_known() -> None:
    """The kernel tells process, user and groups of the caller."""
    name = f"mpt-test-credentials-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("\0" + name)  # an abstract name: no directory is in the stranger's way
        listening.listen()
        listening.settimeout(5)
        with stranger(CALLER, name) as process:
            accepted, _ = listening.accept()
            with accepted:
                peer = caller_of(accepted)
        assert (peer.pid, peer.uid) == (process.pid, STRANGER)
        assert peer.groups == frozenset(STRANGERS_GROUPS)


def test_root_and_the_group_may_change_things() -> None:
    """Root, the socket's group as main or supplementary group; nobody else."""
    nobody = Caller(1, 4711, 4711, frozenset({4712}))
    assert caller_may_change(Caller(1, 0, 4711, frozenset()), 50)
    assert caller_may_change(nobody, 4711)
    assert caller_may_change(nobody, 4712)
    assert not caller_may_change(nobody, 50)
    assert not caller_may_change(nobody, 0)


def test_the_groups_of_a_user_come_from_the_database() -> None:
    """Root is in its group; an unknown user is in none and may change nothing."""
    assert 0 in groups_of(0)
    assert groups_of(4_000_000_000) == frozenset()
    assert user_may_change(0, 12345)
    assert not user_may_change(4_000_000_000, 0)
