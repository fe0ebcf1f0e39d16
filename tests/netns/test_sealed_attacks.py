"""Attackers on the line, beside it, and with a valid key, against a server that knows no address of its client.

client a  eth1 10.1.1.2 ── 10 ms ── 10.1.1.3 eth1  server b
          eth2 ── 198.51.101.2  man  198.51.100.2 ── eth2
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

from mpt.control.roaming import TROUBLE
from mpt.lab.eavesdropper import Eavesdropper, Forger, Seen, mutated
from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.ping import ping
from mpt.wire.seal import HandshakeDatagram, mac1_key
from tests.netns.support import ip_json
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support_control import Site
from tests.netns.support_sealed import PORT, A, B, SealedHosts, wait_for_answer

SERVER, CLIENT = ("10.1.1.3", PORT), ("10.1.1.2", PORT)
GROWTH = 4e6  # bytes


class Look:
    """How many datagrams a daemon has dropped until now, how many packets it has delivered, its memory in bytes."""

    def __init__(self, site: Site) -> None:
        self.dropped = sum(site.status()["tunnels"][0]["ingress_dropped"].values())
        (device,) = ip_json(site.host, "-statistics", "link", "show", "tun0")
        self.delivered = device["stats64"]["rx"]["packets"]  # type: ignore[index]
        self.memory = site.daemon.process.memory().resident


def is_beginning(datagram: bytes) -> bool:
    """Return whether it is of an initiator that does not know the responder's index yet (session 2)."""
    return datagram[:1] == b"\x41" and not datagram[2] & 1 and datagram[8:12] == bytes(4)


class Scene:
    """The hosts; nothing is started yet."""

    def __init__(self, lab: Lab) -> None:
        self.hosts = SealedHosts(lab, count=1)
        self.hosts.links[0].shape(Shape(delay_ms=10))
        self.line = self.hosts.links[0]
        self.man = lab.host("man")
        self.beside = lab.link(self.man, self.hosts.b, [("198.51.100.2/24", "198.51.100.1/24")], Shape(delay_ms=1))
        self.hosts.b.ip("route add 203.0.113.0/24 via 198.51.100.2")
        lab.link(self.man, self.hosts.a, [("198.51.101.2/24", "198.51.101.1/24")])
        self.man.ip("route add 10.1.1.3 via 198.51.100.1", "route add 10.1.1.2 via 198.51.101.1")
        self.hosts.write(b_knows_a=False)
        for directory in self.hosts.directories.values():  # so that datagrams of the man come to its socket
            path = directory / "connections" / "sealed.conf"
            path.write_text(path.read_text() + "bind_to_device = 0\n")


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


def test_strangers_get_nothing_in_and_nothing_out(lab: Lab) -> None:
    """Datagrams of a recorded session, thousands of them changed and all of them again, at both ends, from the man and
    from the peer's address; also when the server was started again. Each is counted, nothing is delivered, the memory
    stays. Only who repeats the beginning of a handshake gets an answer, of three times his octets at the most."""
    scene = Scene(lab)
    with Eavesdropper(scene.line, "ab") as out, Eavesdropper(scene.line, "ba") as back:
        a, b = scene.hosts.start()
        wait_for_answer(a.host, B, 5.0)
        assert None not in ping(a.host, B, count=20, interval=0.02)
        recorded = [*out.seen, *back.seen]
    time.sleep(TROUBLE)  # in which copies of the latest datagrams bring challenges
    with Forger(scene.man) as forger:
        count, dice = 1500, random.Random(1)
        changed = [(mutated(each.payload, dice), each.destination) for each in dice.choices(recorded, k=count)]
        changed += [(bytes((first,)) + dice.randbytes(dice.choice((0, 1, 40, 1400))), SERVER) for first in range(256)]
        before = [Look(site) for site in (a, b)]
        for number, (payload, destination) in enumerate(changed):
            source = (CLIENT if destination == SERVER else SERVER) if number % 2 else None
            forger.send(payload[:1400], destination, source)
            if number % 25 == 0:
                time.sleep(0.002)
        time.sleep(0.1)
        after = [Look(site) for site in (a, b)]
        assert forger.answers() == []
        assert sum(later.dropped - first.dropped for first, later in zip(before, after, strict=True)) == len(changed)
        assert [each.delivered for each in after] == [each.delivered for each in before]
        assert all(later.memory < first.memory + GROWTH for first, later in zip(before, after, strict=True))
        beginnings = answered = 0  # octets; an answer to the first round may be sent again before the second
        for is_new in (False, True):
            if is_new:
                b.restart_daemon()
                wait_for_answer(a.host, B, 8.0)
            before = [Look(site) for site in (a, b)]
            again = dice.sample(recorded, len(recorded))
            for each in again:
                forger.send(each.payload, each.destination)
                time.sleep(0.001)
            time.sleep(0.1)
            beginnings += sum(len(each.payload) for each in again if is_beginning(each.payload))
            answered += sum(map(len, forger.answers()))
            assert answered <= 3 * beginnings
            after = [Look(site) for site in (a, b)]
            for first, later in zip(before, after, strict=True):
                assert later.delivered == first.delivered and later.memory < first.memory + GROWTH


def test_a_flood_of_handshakes_keeps_no_client_out(lab: Lab) -> None:
    """10,000 a second with a right mac1, from a thousand forged addresses and from the client's own one: none of them
    gets more than three times its octets, the tunnel goes on, and a client that was killed is back."""
    scene = Scene(lab)
    a, _ = scene.hosts.start()
    wait_for_answer(a.host, B, 5.0)
    key = mac1_key(scene.hosts.identities["b"].public_key)
    ends, sent = threading.Event(), Counter[str]()

    def flood() -> None:
        dice = random.Random(2)
        begin, turn = time.monotonic(), 0
        firsts = [
            HandshakeDatagram(False, dice.randrange(1, 1 << 32), 0, 0, 0, b"", dice.randbytes(200)).encode(key)
            for _ in range(1000)
        ]
        while not ends.is_set():
            for _ in range(turn, int((time.monotonic() - begin) * 10_000)):
                source = (f"203.0.113.{turn % 250}", 1 + turn % 4) if turn % 10 else CLIENT
                forger.send(firsts[turn % 1000], SERVER, source)
                sent[source[0]] += len(firsts[turn % 1000])
                turn += 1
            time.sleep(0.002)

    with Forger(scene.man) as forger, Eavesdropper(scene.beside, "ba") as answers:
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            assert ping(a.host, B, count=20, interval=0.02).count(None) <= 1
            a.daemon.process.kill()
            a.restart_daemon()
            assert wait_for_answer(a.host, B, 10.0) < 5.0
        finally:
            ends.set()
            thread.join()
    got = Counter[str]()
    for each in answers.seen:
        got[each.destination[0]] += len(each.payload)
    assert got and all(octets <= 3 * sent[host] for host, octets in got.items())
