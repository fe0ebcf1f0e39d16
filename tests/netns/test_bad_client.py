"""A client with a valid key that keeps no rule, beside one that keeps them all, at one server."""

from __future__ import annotations

import json
import random
import select
import socket
import threading
import time
from collections import Counter
from ipaddress import ip_address
from pathlib import Path

from mpt.config.identity import make_identity
from mpt.control.keyexchange import Established, Failure, Place, Send, Terms
from mpt.control.keyexchanges import KeyExchanges
from mpt.daemon.keyexchanges import BEGUN
from mpt.daemon.tls import TlsKey
from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from mpt.model import key_text
from mpt.testing.datapath import packet
from mpt.values import public_key
from mpt.wire import gre
from mpt.wire.hello import LARGEST, Hello, HelloPath
from mpt.wire.message import Challenge, Close, Keepalive, PathStatus, PathStatusSeen, Response, SizeProbe, SizeSeen
from mpt.wire.seal import ENVELOPE, PATH_IDS, Cipher, Sealer, stamp
from tests.netns.support import answers
from tests.netns.support import no_traceback as no_traceback
from tests.netns.test_clients import ADDRESSES, mpt, served

SERVER, FIRST, SECOND = "10.77.0.1", "10.77.0.2", "10.77.0.3"
GROWTH = 8e6  # octets
FLOOD = 1000  # datagrams of a kind


class LargestHello(Hello):
    """It names all paths that there can be, and is as long as it may be."""

    def encode(self) -> bytes:
        value = json.loads(super().encode())
        value["more"] = "x" * (LARGEST - len(json.dumps(value)) - len(', "more": ""'))
        octets = json.dumps(value).encode()
        assert len(octets) == LARGEST
        return octets


class Rogue:
    """The client with the key in `file`, which sends what it likes to the server at `address`."""

    def __init__(self, host: Host, file: Path, server_key: bytes, address: str) -> None:
        self.established: list[Established] = []
        self._socket = host.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        self._place = Place(0, (address, 4754))
        identity = make_identity(file)
        self.key = key_text(identity.public_key)
        self._server_key = server_key
        self._exchanges = KeyExchanges(
            identity.public_key, TlsKey(identity.private_key).engine, server_key.__eq__, lambda *_: Failure.NOT_OURS
        )
        paths = tuple(HelloPath(path) for path in range(PATH_IDS))
        hello = LargestHello((ip_address(SECOND), ip_address(SERVER)), (Cipher.AES_128_GCM,), paths)
        self._terms = Terms("rogue", hello, require_pq=False)
        self._sealer: Sealer | None = None
        self._numbers: Counter[int] = Counter()

    def shake_hands(self, seconds: float) -> int:
        """Begin handshakes, one when the last has ended or stays unanswered; return how many have brought keys."""
        before, end, again = len(self.established), time.monotonic() + seconds, 0.0
        while (now := time.monotonic()) < end:
            if now >= again:
                again = now + 0.1
                self._send(self._exchanges.begin(self._terms, (self._server_key,), 0, [self._place], now))
            self._send(self._exchanges.deadline_reached(now))
            if select.select([self._socket], [], [], 0.005)[0]:
                datagram = self._socket.recv(65535)
                if datagram[0] != ENVELOPE:
                    self._send(self._exchanges.receive(datagram, self._place, now))
            for outcome in self._exchanges.take_outcomes():
                if isinstance(outcome, Established):
                    self.established.append(outcome)
                    again = 0.0
        keys = self.established[-1].keys
        self._sealer = Sealer(keys.cipher, keys.send_key, keys.send_iv, keys.peer_index)
        self._numbers.clear()
        return len(self.established) - before

    def say(self, content: bytes, path: int = 0) -> None:
        """Seal and send `content` over `path`."""
        assert self._sealer is not None
        datagram = self._sealer.seal(path, self._numbers[path], stamp(time.monotonic()), content)
        self._numbers[path] += 1
        self._socket.sendto(datagram, self._place.address)

    def _send(self, sent: list[Send]) -> None:
        for each in sent:
            self._socket.sendto(each.datagram, self._place.address)

    def close(self) -> None:
        self._exchanges.close()
        self._socket.close()


def test_a_client_that_keeps_no_rule_hinders_nobody(lab: Lab) -> None:
    """Handshakes without end, a hello of the largest size with all paths, floods of messages of every kind over paths
    that there are and are not, probes of any size, packets of others: the other client loses no ping, the server's
    memory stays, nothing is delivered, and hardly a handshake more than it needs is made."""
    site, first, second = served(lab)
    server = site.host
    server_key = public_key(mpt(lab, server, "pubkey").split()[-1])
    rogue = Rogue(second, lab.directory / "rogue.key", server_key, ADDRESSES[1])
    mpt(lab, server, "client", "add", "second", "--key", rogue.key, "--server", ADDRESSES[1])

    memory = site.daemon.process.memory().resident
    times: list[float | None] = []
    pinging = threading.Thread(target=lambda: times.extend(ping(first, SERVER, count=200, interval=0.02)))
    pinging.start()
    made = rogue.shake_hands(1.5)
    assert BEGUN.burst <= made <= BEGUN.burst + 10
    dice = random.Random(1)
    for number in range(FLOOD):
        path = number % (PATH_IDS + 4) if number % 2 else dice.choice((0, 255))
        nonce = dice.randbytes(8)
        for content in (
            Keepalive(asks=True).encode(),
            Challenge(nonce).encode() + bytes(dice.choice((0, 1300))),
            Response(nonce).encode(),
            PathStatus(number % 256, up=bool(number & 1), reason=number % 256).encode(),
            PathStatusSeen(number % 256, up=bool(number & 1)).encode(),
            b"\x47" + dice.randbytes(2),
            SizeSeen(dice.randrange(65536)).encode(),
            bytes([0x40 + number % 64]) + dice.randbytes(number % 40),
            gre.encode(4, number, number % 4096) + packet(FIRST, SERVER, b"from the first"),
            gre.encode(4, number, number % 4096) + packet(SECOND, "192.0.2.1", b"to anywhere"),
        ):
            if content[:1] != b"\x4f":
                rogue.say(content, path)
        if number % 20 == 0:
            time.sleep(0.005)
    rogue.say(SizeProbe(1472).encode())
    rogue.say(Close(0).encode())
    rogue.close()
    pinging.join()
    assert times.count(None) == 0
    status = site.status()
    dropped = status["tunnels"][0]["ingress_dropped"]
    assert dropped["inner_source"] > 0 and dropped["message_unknown"] > 0 and dropped["seal_path"] > 0
    assert site.daemon.process.memory().resident < memory + GROWTH
    paths = {each["name"]: each["paths"] for each in status["connections"]}
    assert len(paths["second"]) <= PATH_IDS and paths["first"][0]["status"] == "up"
    assert answers(first, SERVER)
