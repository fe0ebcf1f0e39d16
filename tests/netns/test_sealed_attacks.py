"""Attackers on the line, beside it, and with a valid key, against a server that knows no address of its client.

client a  eth1 10.1.1.2 ── 10 ms ── 10.1.1.3 eth1  server b
          eth2 ── 198.51.101.2  man  198.51.100.2 ── eth2
"""

from __future__ import annotations

from mpt.lab.eavesdropper import Eavesdropper, Forger, Seen
from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.ping import ping
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support import on_every_data_plane
from tests.netns.support_sealed import PORT, A, B, SealedHosts, wait_for_answer

SERVER = ("10.1.1.3", PORT)


class Scene:
    """The hosts; nothing is started yet."""

    def __init__(self, lab: Lab) -> None:
        self.hosts = SealedHosts(lab, count=1)
        self.hosts.links[0].shape(Shape(delay_ms=10))
        self.line = self.hosts.links[0]
        self.man = lab.host("man")
        lab.link(self.man, self.hosts.b, [("198.51.100.2/24", "198.51.100.1/24")])
        lab.link(self.man, self.hosts.a, [("198.51.101.2/24", "198.51.101.1/24")])
        self.man.ip("route add 10.1.1.3 via 198.51.100.1", "route add 10.1.1.2 via 198.51.101.1")
        self.hosts.write(b_knows_a=False)
        for directory in self.hosts.directories.values():  # so that datagrams of the man come to its socket
            path = directory / "connections" / "sealed.conf"
            path.write_text(path.read_text() + "bind_to_device = 0\n")


@on_every_data_plane
def test_who_copies_from_the_first_datagram_on_stops_nothing(lab: Lab) -> None:
    """His copies of all datagrams of both, handshakes included, are there before the originals."""
    scene = Scene(lab)
    with Forger(scene.man) as forger:

        def copy(seen: Seen) -> None:
            forger.send(seen.payload, seen.destination)

        with Eavesdropper(scene.line, "ab", copy) as out, Eavesdropper(scene.line, "ba", copy) as back:
            a, b = scene.hosts.start()
            wait_for_answer(a.host, B, 5.0)
            assert None not in ping(a.host, B, count=30, interval=0.02)
            assert None not in ping(b.host, A, count=30, interval=0.02)
        caught = forger.answers()
        assert sum(map(len, caught)) <= 3 * sum(len(each.payload) for each in [*out.seen, *back.seen])
