"""Requests to the kernel as octets: what is sent, and what is made of answers, whole, broken and late."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque
from ipaddress import ip_address, ip_network

import pytest

from mpt.errors import HostError
from mpt.host import rtnetlink
from mpt.host.routetable import RouteTable
from mpt.host.rtnetlink import HEADER, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, RTM_NEWROUTE, RequestSocket, attribute
from mpt.model import Route


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    """Return a message whose sequence number is filled in when it is received."""
    return HEADER.pack(HEADER.size + len(body), kind, flags, 0, 0) + body


def error(number: int, *words: bytes) -> bytes:
    return message(NLMSG_ERROR, struct.pack("=i", -number) + bytes(16) + b"".join(attribute(1, each) for each in words))


DONE = message(NLMSG_DONE, bytes(4))


def route(family: int, length: int, *attributes: bytes, table: int = 254, kind: int = 1) -> bytes:
    head = rtnetlink.ROUTE.pack(family, length, 0, 0, table, 16, 0, kind, 0)
    return message(RTM_NEWROUTE, head + b"".join(attributes))


class Kernel(socket.socket):
    """Answers each request with the next parts of the script, up to one that ends an answer; an int is an errno."""

    def __init__(self, *script: bytes | int) -> None:
        super().__init__()
        self.script = deque(script)
        self.requests: list[bytes] = []

    def setsockopt(self, *_: object) -> None:
        raise OSError(errno.ENOPROTOOPT, "an old kernel")

    def sendto(self, request: bytes, *_: object) -> int:  # type: ignore[override]
        self.requests.append(request)
        return len(request)

    def recv(self, size: int, flags: int = 0) -> bytes:
        answer = self.script.popleft()
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        sequence = HEADER.unpack_from(self.requests[-1])[3]
        return answer if answer[8:12] != bytes(4) else answer[:8] + struct.pack("=I", sequence) + answer[12:]


def table_of(*script: bytes | int) -> RouteTable:
    return RouteTable(lambda: RequestSocket(Kernel(*script)))


def test_a_list_that_changed_under_way_is_asked_for_again() -> None:
    """The kernel marks such a list; after ten times the listing is given up."""
    broken = [message(RTM_NEWROUTE, bytes(12), NLM_F_DUMP_INTR), DONE]
    requests = RequestSocket(Kernel(*broken, *broken, message(RTM_NEWROUTE, bytes(12)) + DONE))
    assert len(requests.listing(26, b"")) == 1
    requests.close()
    endless = RequestSocket(Kernel(*broken * 10))
    with pytest.raises(HostError, match="changes faster than the kernel lists it"):
        endless.listing(26, b"")
    endless.close()


def test_the_rest_of_an_earlier_answer_is_passed_over() -> None:
    """A request whose answer was not read to its end does not answer the next one."""
    late = message(NLMSG_ERROR, struct.pack("=i", -errno.EPERM) + bytes(16))
    late = late[:8] + struct.pack("=I", 99) + late[12:]
    requests = RequestSocket(Kernel(late, error(0)))
    requests.change(24, b"")
    requests.close()


def test_a_refusal_has_the_words_of_the_kernel() -> None:
    """The kernel's words stand there, else the words for the number."""
    requests = RequestSocket(Kernel(error(errno.EINVAL, b"Invalid prefsrc address\0"), error(errno.EINVAL)))
    for words in ("Invalid prefsrc address", "Invalid argument"):
        with pytest.raises(OSError, match=words) as refused:
            requests.change(24, b"")
        assert refused.value.errno == errno.EINVAL
    requests.close()


@pytest.mark.parametrize("answer", [errno.ENOBUFS, error(errno.EBUSY)])
def test_a_kernel_that_does_not_list_its_routes_is_said(answer: bytes | int) -> None:
    """Any reason is a HostError."""
    table = table_of(answer)
    with pytest.raises(HostError, match="the kernel does not list its routes"):
        table.default_route("lo", 4)
    table.close()


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EOPNOTSUPP])
def test_a_kernel_without_ipv6_has_no_ipv6_routes(number: int) -> None:
    """Such a kernel refuses, or lists its IPv4 routes instead."""
    everywhere = route(socket.AF_INET, 0, attribute(4, socket.if_nametoindex("lo")))
    for script in ([error(number)], [everywhere, DONE]):
        for ask in (lambda table: table.default_route("lo", 6), lambda table: table.own_routes(6)):
            table = table_of(*script)
            assert not ask(table)
            table.close()


def test_what_an_old_kernel_lists_beside_is_passed_over() -> None:
    """An old kernel does not filter by interface, protocol or prefix length."""
    lo = socket.if_nametoindex("lo")
    gateway = attribute(5, ip_address("10.1.1.1").packed)
    listed = (
        route(socket.AF_INET, 24, attribute(1, bytes([10, 9, 9, 0])), attribute(4, lo)),
        route(socket.AF_INET, 0, attribute(4, lo + 1), gateway),
        route(socket.AF_INET, 0, attribute(4, lo), attribute(6, 200), kind=7),
        route(socket.AF_INET, 0, attribute(4, lo), attribute(6, 300), gateway),
    )
    table = table_of(b"".join(listed[:2]), *listed[2:], DONE)
    assert table.default_route("lo", 4) == Route(ip_network("0.0.0.0/0"), "lo", ip_address("10.1.1.1"), 300)
    table.close()
    table = table_of(*listed, DONE)
    assert table.own_routes(4) == []
    table.close()


def test_a_route_that_is_refused_because_ipv6_is_missing_names_it() -> None:
    """The error of a path with ip_ver = 6 names the missing IPv6."""
    table = table_of(error(errno.EAFNOSUPPORT))
    with pytest.raises(HostError, match="2001:db8::1/128 over lo"):
        table.add_route(Route(ip_network("2001:db8::1/128"), "lo"))
    table.close()
