"""The lab's address translator and its eavesdropper, on which the tests of roaming stand."""

from __future__ import annotations

import select
import socket
import time

from mpt.lab.eavesdropper import Eavesdropper, Forger
from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import Link, Shape
from mpt.lab.nat import Nat

OUTER, OTHER, SERVER = "203.0.113.5", "203.0.113.77", "203.0.113.9"
PORT = 4754


def stage(lab: Lab) -> tuple[Host, Host, Host, Link, Nat]:
    """A client behind a translating router, and a server that it reaches through that."""
    client, router, server = lab.host("client"), lab.host("router", forwarding=True), lab.host("server")
    lab.link(client, router, [("10.9.0.2/24", "10.9.0.1/24")])
    outside = lab.link(router, server, [(f"{OUTER}/24", f"{SERVER}/24")], Shape(delay_ms=10))
    client.ip("route add default via 10.9.0.1")
    return client, router, server, outside, Nat(router, outside.a.interface, f"{OUTER}/24")


class Client:
    """A socket at the client that talks with one at the server."""

    def __init__(self, client: Host, server: Host) -> None:
        self.client = client.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        self.server = server.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        self.server.bind((SERVER, PORT))
        self.client.bind(("10.9.0.2", PORT))

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def source(self) -> tuple[str, int]:
        """Send a datagram to the server: from where it comes."""
        self.client.sendto(b"hello", (SERVER, PORT))
        assert select.select([self.server], [], [], 2.0)[0]
        host, port = self.server.recvfrom(100)[1]
        return host, port

    def is_reached(self, place: tuple[str, int]) -> bool:
        """Whether a datagram from the server to `place` comes to the client."""
        self.server.sendto(b"back", place)
        reached = bool(select.select([self.client], [], [], 0.2)[0])
        if reached:
            assert self.client.recvfrom(100) == (b"back", (SERVER, PORT))
        return reached


def test_a_translator_rewrites_moves_and_forgets(lab: Lab) -> None:
    """Another source port, answers from there alone; after a flush another port, after a move another address; a
    mapping that is idle too long is gone."""
    client, router, server, _, nat = stage(lab)
    ends = Client(client, server)
    first = ends.source()
    assert first[0] == OUTER and first[1] != PORT and 20000 <= first[1] <= 59999
    assert ends.source() == first and ends.is_reached(first)
    with server.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"strange", first)
        assert not select.select([ends.client], [], [], 0.1)[0]
    nat.flush()
    assert not ends.is_reached(first)
    second = ends.source()
    assert second[0] == OUTER and second[1] != first[1] and ends.is_reached(second)
    nat.move(f"{OTHER}/24")
    third = ends.source()
    assert third[0] == OTHER == nat.address and ends.is_reached(third) and not ends.is_reached(second)
    assert router.run(["ip", "-brief", "address", "show", "eth2"]).split()[2:3] == [f"{OTHER}/24"]
    nat.set_timeout(1)
    assert ends.source() == third and ends.is_reached(third)
    time.sleep(2.1)
    assert not ends.is_reached(third)
    ends.close()


def test_an_eavesdropper_is_first_and_anybody(lab: Lab) -> None:
    """He sees a datagram at the router, and his copies are at the server before it: from his own host, or from the
    client's place."""
    client, _, server, outside, _ = stage(lab)
    bystander = lab.host("bystander")
    lab.link(bystander, server, [("198.51.100.2/24", "198.51.100.1/24")])
    bystander.ip(f"route add {SERVER}/32 via 198.51.100.1")
    ends = Client(client, server)
    with Forger(bystander) as forger, Eavesdropper(outside, "ab", lambda seen: copies(seen)) as man:

        def copies(seen: object) -> None:
            datagram = man.seen[-1]
            forger.send(b"own " + datagram.payload, datagram.destination)
            forger.send(b"as " + datagram.payload, datagram.destination, datagram.source)

        sources = []
        ends.client.sendto(b"hello", (SERVER, PORT))
        for _ in range(3):
            assert select.select([ends.server], [], [], 2.0)[0]
            sources.append(ends.server.recvfrom(100))
        assert [payload for payload, _ in sources] == [b"own hello", b"as hello", b"hello"]
        assert sources[0][1][0] == "198.51.100.2" and sources[1][1] == sources[2][1]
        ends.server.sendto(b"caught", sources[0][1])
        time.sleep(0.1)
        assert forger.answers() == [b"caught"]
    ends.close()
