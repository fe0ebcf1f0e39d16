"""SYNs that hosts behind the tunnel send are clamped by one end, in both directions, and the kernel takes them."""

from __future__ import annotations

import select
import socket

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from tests.accel.model import SYN, Inner
from tests.netns.support import answers, figure_3, on_every_data_plane, samples, start, wait_until
from tests.netns.support import no_traceback as no_traceback

A, B = "10.0.0.2", "10.0.0.3"
PORT = 5201


def received_syn(sender: Host, receiver: Host, source: str, destination: str) -> bytes:
    """Let `sender` forward a SYN for segments of 1460 octets; return it as it comes out of the tunnel."""
    ends = {"source": socket.inet_aton(source), "destination": socket.inet_aton(destination)}
    syn = Inner(flags=SYN, acknowledgement=0, ports=(40000, PORT), options=b"\x02\x04\x05\xb4", **ends)  # type: ignore[arg-type]
    with (
        receiver.call(socket.socket, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as tap,
        sender.call(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw,
    ):
        tap.bind(("tun0", 0x0800))
        raw.sendto(syn.octets(), (destination, 0))
        while select.select([tap], [], [], 5)[0]:
            octets, (_, _, direction, *_) = tap.recvfrom(2048)
            if direction == socket.PACKET_HOST and octets[9] == socket.IPPROTO_TCP:
                return octets
    raise AssertionError("no SYN within 5 s")


@on_every_data_plane
def test_syns_fit_the_tunnel(lab: Lab, data_plane: str) -> None:
    """The MTU is 1440; no kernel finds a wrong checksum."""
    a, b, _ = figure_3(lab)
    clamping = samples(lab, "a", (r"^\[connection\]$", "[connection]\nmss_clamp = auto"))
    start((a, clamping), (b, samples(lab, "b")))
    wait_until(lambda: answers(a, B), "the tunnel works")
    for sender, receiver, source, destination in ((a, b, A, B), (b, a, B, A)):
        with receiver.call(socket.create_server, (destination, PORT)):
            assert received_syn(sender, receiver, source, destination)[42:44] == (1400).to_bytes(2, "big")
            assert receiver.run(["nstat", "-asz", "TcpInCsumErrors"]).split()[-2] == "0"
