"""The throughput of a sealed tunnel while somebody sends hostile datagrams to its data port.

The sender takes processor time of its own, and so does the kernel. So each attack is measured beside the same one to
another port of the same host, at which nobody reads.
"""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from bench.measure import Effort, Figures, ping_times, tcp
from bench.variants import PLAIN_ADDRESS, Stage
from mpt.config.identity import load_identity
from mpt.errors import HostError
from mpt.lab.eavesdropper import Endpoint, Forger, read_frame
from mpt.lab.tunnel import DATA_PORT
from mpt.model import GeneralConfig
from mpt.wire.seal import ENVELOPE, HandshakeDatagram, mac1_key

ETH_P_ALL: Final = 0x0003  # linux/if_ether.h
RATE: Final = 10_000  # datagrams a second
TICK: Final = 0.002  # s between two bursts of the sender
VARIETY: Final = 3000  # datagrams that are sent by turns
RECORDED: Final = 50  # pings whose datagrams are replayed
SIZE: Final = 1400  # octets of a forged envelope
DATA: Final = 1100  # octets in a forged handshake datagram
STRANGERS: Final = "203.0.113"  # the network of those who begin handshakes, behind a (RFC 5737)
NOBODY: Final = 9  # a port at which nobody reads
KINDS: Final = ("tag", "replay", "index", "mac1", "first")


def under_attack(stage: Stage, effort: Effort, kind: str) -> Figures:
    """Measure one TCP stream from a to b under an attack of this `kind`: Mbit/s, and its throughput and b's CPU time
    for an octet divided by the same during this attack on a port that is not ours.

    tag, replay: datagrams of the session, with a wrong tag, and again; index: of no session; mac1, first: the first
    ones of handshakes, with a wrong mac1, and with a right one, each from another address.
    """
    peer, target, recorded = _record(stage)
    makes = _forgeries(stage, kind, recorded)
    datagrams = [next(makes) for _ in range(VARIETY)]
    sources = [peer] * VARIETY
    if kind == "first":
        stage.b.ip(f"route replace {STRANGERS}.0/24 via {peer[0]}")
        sources = [(f"{STRANGERS}.{turn % 250 + 1}", 1024 + turn) for turn in range(VARIETY)]
    taken: list[Figures] = []
    for destination in ((target[0], NOBODY), target):
        with _sink(stage, target[0]), _attacker(stage, datagrams, sources, destination):
            taken.append(tcp(stage, effort))
    aside, attacked = taken
    return {
        f"{kind}_mbit": attacked["tcp1_mbit"],
        f"{kind}_aside_mbit": aside["tcp1_mbit"],
        f"{kind}_share": attacked["tcp1_mbit"] / aside["tcp1_mbit"],
        f"{kind}_cpu": attacked["tcp1_cpu_s_per_gb_b"] / aside["tcp1_cpu_s_per_gb_b"],
    }


def _record(stage: Stage) -> tuple[Endpoint, Endpoint, list[bytes]]:
    """Return a place of a, one of b, and datagrams that went from there to there."""
    interface = stage.links[0].a.interface
    with stage.a.call(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0) as line:
        line.bind((interface, ETH_P_ALL))
        ping_times(stage, RECORDED)
        frames = []
        while select.select([line], [], [], 0)[0]:
            frames.append(line.recv(65535))
    read = [read_frame(frame, 0.0) for frame in frames]
    target = (PLAIN_ADDRESS, DATA_PORT)
    seen = [each for each in read if each and each.destination == target and each.payload[:1] == bytes([ENVELOPE])]
    if not seen:
        raise HostError("no sealed datagram was seen on the line")
    return seen[-1].source, target, [each.payload for each in seen]


def _forgeries(stage: Stage, kind: str, recorded: list[bytes]) -> Iterator[bytes]:
    """Return datagrams of this kind, without end."""
    dice = random.Random(1)
    header = recorded[-1][:6]  # up to the session index
    identity = load_identity(stage.directory / "host-b" / GeneralConfig().private_key_file)
    key = mac1_key(identity.public_key if kind == "first" else dice.randbytes(32))

    def number() -> bytes:
        return (dice.getrandbits(20) + (1 << 24)).to_bytes(6, "big")

    makes: dict[str, Callable[[], bytes]] = {
        "tag": lambda: header + number() + dice.randbytes(SIZE - 12),
        "replay": lambda: dice.choice(recorded),
        "index": lambda: bytes([ENVELOPE, 0]) + dice.randbytes(SIZE - 2),
        "mac1": lambda: _first(dice, key),
        "first": lambda: _first(dice, key),
    }
    while True:
        yield makes[kind]()


def _first(dice: random.Random, key: bytes) -> bytes:
    return HandshakeDatagram(False, dice.randrange(1, 1 << 32), 0, 0, 0, b"", dice.randbytes(DATA)).encode(key)


@contextmanager
def _sink(stage: Stage, address: str) -> Iterator[None]:
    """Hold a socket that takes what is sent to the other port; the kernel would answer with an error otherwise."""
    sink = stage.b.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sink.bind((address, NOBODY))
        yield
    finally:
        sink.close()


@contextmanager
def _attacker(stage: Stage, datagrams: list[bytes], sources: list[Endpoint], destination: Endpoint) -> Iterator[None]:
    """Send `RATE` datagrams a second from a while the block runs, in a thread: the streams are other programs."""
    ends = threading.Event()

    def send() -> None:
        begin, sent = time.monotonic(), 0
        while not ends.wait(TICK):
            for _ in range(sent, int((time.monotonic() - begin) * RATE)):
                turn = sent % VARIETY
                forger.send(datagrams[turn], destination, sources[turn])
                sent += 1

    with Forger(stage.a) as forger:
        thread = threading.Thread(target=send, name="attacker", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()
