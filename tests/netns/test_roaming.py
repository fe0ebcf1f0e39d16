"""A client behind an address translator, a server that knows no address of it, and a man on the line between them.

client  eth1 192.168.1.2 ── 192.168.1.1  router  203.0.113.5 ── 20 ms ── 203.0.113.9 eth1  server  eth2 ── man
"""

from __future__ import annotations

import random
import time

from mpt.config.identity import make_identity
from mpt.lab.eavesdropper import Eavesdropper, Forger, Seen
from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.nat import Nat
from mpt.lab.ping import ping
from mpt.lab.transfer import Transfer
from mpt.model import key_text
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support import on_every_data_plane, start, wait_until
from tests.netns.support_control import Site
from tests.netns.support_sealed import PORT, A, B, wait_for_answer, write_connection, write_host

OUTER, SECOND, THIRD, SERVER = "203.0.113.5", "203.0.113.6", "203.0.113.7", "203.0.113.9"
DELAY = 0.02  # s one way
ROUND_TRIP = 2 * DELAY
PROMPT = 0.1  # s; issue 9
MESSAGES = 3  # that a place may get before it is used


class Stage:
    """The hosts, with daemons that have found each other; `a` is the client, `b` the server."""

    def __init__(self, lab: Lab, keepalive: float) -> None:
        client, router, server, man = (
            lab.host(name, forwarding=name == "router") for name in ("a", "router", "b", "man")
        )
        lab.link(client, router, [("192.168.1.2/24", "192.168.1.1/24")])
        self.outside = lab.link(router, server, [(f"{OUTER}/24", f"{SERVER}/24")], Shape(delay_ms=1000 * DELAY))
        lab.link(man, server, [("198.51.100.2/24", "198.51.100.1/24")])
        client.ip("route add default via 192.168.1.1")
        server.ip("route add default via 203.0.113.1 dev eth1")
        man.ip("route add default via 198.51.100.1")
        router.ip("address add 192.168.2.1/24 dev eth1")
        self.nat = Nat(router, "eth2", f"{OUTER}/24")
        self.man = man
        directories = [lab.directory / f"conf-{name}" for name in "ab"]
        for directory in directories:
            directory.mkdir()
        keys = [key_text(make_identity(directory / "private.key").public_key) for directory in directories]
        ways = [f"eth1\nremote_ipaddr = {SERVER}\nkeepalive_time = {keepalive}", "eth1\nbind_to_device = 0"]
        for directory, own, peer, key, way in zip(directories, (A, B), (B, A), keys[::-1], ways, strict=True):
            write_host(directory, own, directory / "private.key")
            write_connection(directory, "sealed", own, peer, key, [way])
        daemons = start((client, directories[0]), (server, directories[1]))
        self.a, self.b = (Site(d.host, c, d) for d, c in zip(daemons, directories, strict=True))
        wait_for_answer(client, B, 5.0)

    def dropped(self, reason: str) -> int:
        """How many datagrams the server has dropped for this reason."""
        return int(self.b.status()["tunnels"][0]["ingress_dropped"].get(reason, 0))


def since(seen: list[Seen], start: float, place: str, end: str = "source") -> list[float]:
    """When datagrams from, or to, the address `place` went since then."""
    return [each.at for each in seen if each.at >= start and getattr(each, end)[0] == place]


@on_every_data_plane
def test_a_client_whose_address_changes_is_followed(lab: Lab) -> None:
    """The address and the port at the translator change, then those of the client itself: the tunnel is back within a
    round trip and 100 ms, or a second, and a transfer goes on. A client that is idle for longer than the translator
    remembers is still reached by the server."""
    stage = Stage(lab, keepalive=1.0)
    a, b = stage.a.host, stage.b.host
    talk = a.start(["ping", "-q", "-i", "0.05", B])  # so that the client always has something to send
    transfer = Transfer(b, a, A, seconds=4.0)
    wait_until(lambda: transfer.poll() and transfer.progress[-1].bytes > 1 << 20, "a megabyte")
    took: list[float] = []
    for address in (SECOND, THIRD):
        with Eavesdropper(stage.outside, "ab") as out, Eavesdropper(stage.outside, "ba") as back:
            moved = time.monotonic()
            stage.nat.move(f"{address}/24")
            time.sleep(0.7)
        first = since(list(out.seen), moved, address)[0] + DELAY  # at the server
        used = since(list(back.seen), moved, address, "destination")[MESSAGES]
        took.append(used - first)
        assert len(since(list(back.seen), moved + 0.4, OUTER, "destination")) == 0
    assert min(took) < ROUND_TRIP + PROMPT and max(took) < 0.5  # the machine may be busy with other tests
    a.ip("address add 192.168.2.2/24 dev eth1", "address delete 192.168.1.2/24 dev eth1")
    a.ip("route replace default via 192.168.2.1")
    assert wait_for_answer(a, B, 2.0) < 1.0
    result = transfer.finish()
    assert result.verified and result.longest_gap < 1.5
    a.end(talk)
    stage.nat.set_timeout(2)
    assert None not in ping(b, A, count=1)
    time.sleep(3.5)
    assert None not in ping(b, A, count=3, interval=0.1)


def test_who_copies_datagrams_steals_nothing(lab: Lab) -> None:
    """He is first each time: from his own host, then from the client's old place when it has moved. No ping is lost, he
    gets challenges alone; and what he has recorded brings nothing when he sends it again."""
    stage = Stage(lab, keepalive=1.0)
    a, b, random_ = stage.a.host, stage.b.host, random.Random(7)
    source: tuple[str, int] | None = None
    with Forger(stage.man) as forger:

        def copy(seen: Seen) -> None:
            forger.send(seen.payload, seen.destination, source)

        with Eavesdropper(stage.outside, "ab", copy) as out, Eavesdropper(stage.outside, "ba") as back:
            assert None not in ping(a, B, count=50, interval=0.02)
            assert None not in ping(b, A, count=50, interval=0.02)
            assert stage.dropped("seal_replay") > 90  # the client's own datagrams came too late
            caught = forger.answers()
            assert 0 < len(caught) < 12 and sum(map(len, caught)) < 3 * sum(len(each.payload) for each in out.seen)
            old = out.seen[-1].source
            stage.nat.move(f"{SECOND}/24")  # while he goes on
            wait_for_answer(a, B, 2.0)
            source = old
            moved = time.monotonic()
            assert None not in ping(a, B, count=50, interval=0.02)
            assert len(since(list(back.seen), moved, old[0], "destination")) < 12
            assert len(since(list(back.seen), moved, SECOND, "destination")) >= 50
        recorded = [each.payload for each in out.seen]
        time.sleep(3.2)  # the time in which late copies are challenged
        forger.answers()
        before = stage.dropped("seal_replay")
        for payload in random_.sample(recorded, len(recorded)):
            forger.send(payload, (SERVER, PORT))
            time.sleep(0.0005)
        time.sleep(0.1)
        sealed = sum(payload[0] == 0x40 for payload in recorded)
        assert stage.dropped("seal_replay") - before == sealed
        assert forger.answers() == []
        assert None not in ping(a, B, count=10, interval=0.02)
