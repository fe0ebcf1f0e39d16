#!/usr/bin/env python3
"""Fuzzes the Python that reads what a peer sends: seeded mutations of sound inputs, and of JSON values.

    .venv/bin/python fuzz/decoders.py [SECONDS [TARGET...]]     10 seconds of each target by default

Whatever the octets are, a decoder gives DecodeError or a value that is written and read as the same. The target `peer`
is a whole daemon, whose peer has the keys and says anything: nothing raises, and the tunnel goes on. $FUZZ_SEED gives
other inputs; what breaks is printed with its seed and the number of its run, which is the same again then.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from mpt.errors import DecodeError  # noqa: E402
from mpt.testing.strategies import mutated  # noqa: E402
from mpt.wire import feedback  # noqa: E402
from mpt.wire.hello import Hello, HelloPath, decode_hello  # noqa: E402
from mpt.wire.message import (  # noqa: E402
    Challenge,
    Close,
    Keepalive,
    PathStatus,
    PathStatusSeen,
    Response,
    SizeProbe,
    SizeSeen,
    decode_message,
)
from mpt.wire.seal import Cipher, HandshakeDatagram, Retry, decode_handshake  # noqa: E402
from tests.daemon.logged import logged  # noqa: E402
from tests.daemon.sealedpair import SealedPair  # noqa: E402
from tests.daemon.stage import Stage  # noqa: E402

NONCE, KEY = bytes(range(8)), bytes(range(32))
MESSAGES = [
    each.encode()
    for each in (
        Keepalive(),
        Keepalive(asks=True),
        Challenge(NONCE, 60),
        Response(NONCE, 60),
        PathStatus(1, up=False, reason=0x83),
        PathStatus(0, up=True, reason=2),
        PathStatus(63, up=True),
        PathStatusSeen(1, up=False),
        SizeProbe(1400),
        SizeSeen(1400),
        Close(1),
    )
]
RECORD = feedback.Record(7, 1, 900, 800, 10**6, 3, 5, 0x1234, 9, ((4, 2), (800, 60)))
REPORTS = [
    feedback.encode(each)
    for each in (
        feedback.Feedback(1600, None, 5, ()),
        feedback.Feedback(1600, 320, 2**32 - 1, (RECORD, RECORD._replace(path=0, least=None, median=None, ranges=()))),
    )
]
HELLO = Hello(
    (ip_address("10.0.0.2"), ip_address("10.0.0.3")), tuple(Cipher), (HelloPath(0, "dsl", 10, 2), HelloPath(63)), 1430
)
HANDSHAKES = [
    HandshakeDatagram(False, 1, 0, 0, 0, b"t" * 24, b"hello" * 100).encode(KEY),
    HandshakeDatagram(True, 2**32 - 1, 1, 900, 700).encode(KEY),
    Retry(1, b"t" * 24).encode(KEY),
]
ATOMS = [
    None,
    True,
    False,
    0,
    1,
    -1,
    63,
    64,
    2**63,
    1e308,
    0.5,
    "",
    "aes-128-gcm",
    "10.0.0.2",
    "::",
    "\0",
    "\ud800",
    "x" * 65,
]
PEER_TURNS = 2000  # messages until a new pair of daemons begins


def message(random: Random) -> None:
    """Read a message of a session."""
    octets = mutated(random.choice(MESSAGES), random)
    read(octets, decode_message, lambda value: value.encode())


def report(random: Random) -> None:
    """Read a report of an adaptive peer."""
    octets = mutated(random.choice(REPORTS), random)
    read(octets, feedback.decode, feedback.encode)


def handshake(random: Random) -> None:
    """Read a handshake datagram with a right mac1."""
    octets = mutated(random.choice(HANDSHAKES), random)
    read(octets, decode_handshake, lambda value: value.encode(KEY))


def hello(random: Random) -> None:
    """Read the JSON object of a handshake."""
    value = json.loads(HELLO.encode())
    for _ in range(random.randrange(4)):
        value = changed(value, random)
    octets = json.dumps(value).encode()
    if random.randrange(2):
        octets = mutated(octets, random)
    read(octets, decode_hello, lambda value: value.encode())


def read(octets: bytes, decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]) -> None:
    """Decode `octets`; a value must come back as it was written."""
    try:
        value = decode(octets)
    except DecodeError:
        return
    try:
        written = encode(value)
    except ValueError:  # longer than what we send: JSON has shorter spellings than ours
        return
    assert decode(written) == value, value


def changed(value: Any, random: Random) -> Any:
    """Return a JSON value with one place changed."""
    if isinstance(value, dict) and value and random.randrange(8):
        key = random.choice(list(value))
        match random.randrange(5):
            case 0:
                return {each: value[each] for each in value if each != key}
            case 1:
                return value | {str(atom(random))[:8]: value[key]}
        return value | {key: changed(value[key], random)}
    if isinstance(value, list) and value and random.randrange(8):
        place = random.randrange(len(value))
        match random.randrange(5):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return value * random.choice((2, 40))
        return [*value[:place], changed(value[place], random), *value[place + 1 :]]
    return atom(random)


def atom(random: Random) -> Any:
    """Return a value of any kind."""
    return random.choice([*ATOMS, [], {}, [random.choice(ATOMS)], {"id": random.choice(ATOMS)}, random.getrandbits(40)])


class Peer:
    """Two daemons in memory, of which host B has been taken over by somebody who says anything in its session."""

    def __init__(self) -> None:
        self.turns = PEER_TURNS
        self.pair: SealedPair | None = None
        self.stages: list[Stage] = []

    def __call__(self, random: Random) -> None:
        """Let host B say something."""
        if self.pair is None or self.turns == PEER_TURNS:
            self._begin()
        assert self.pair is not None
        self.turns += 1
        octets = b"".join(
            mutated(random.choice(MESSAGES + REPORTS), random) for _ in range(random.choice((1, 1, 1, 2)))
        )
        with logged() as log:
            self.pair.b.datapath.send(("c", random.randrange(2)), octets, self.pair.b.reactor.seconds())
            self.pair.cables.exchange()
            if random.randrange(20) == 0:
                self.pair.pass_time(random.choice((0.05, 0.3, 2.0)))
            if self.turns == PEER_TURNS:
                self.pair.until(self.pair.carries, 60.0)
        failures = [line for line in log if line.startswith("critical")]
        assert not failures, failures

    def _begin(self) -> None:
        for stage in self.stages:
            stage.stop()
        self.stages.clear()
        self.pair, self.turns = SealedPair(self._run), 0
        self.pair.until(self.pair.carries, 5.0)

    def _run(self, *connections: Any, **more: Any) -> Stage:
        self.stages.append(Stage(*connections, **more))
        return self.stages[-1].start()


TARGETS: dict[str, Callable[[Random], None]] = {
    "message": message,
    "report": report,
    "handshake": handshake,
    "hello": hello,
    "peer": Peer(),
}


def main(seconds: float, names: list[str]) -> int:
    """Run the targets; return the exit status."""
    seed = int(os.environ.get("FUZZ_SEED", "20260101"))
    for name in names:
        random, runs, end = Random(seed), 0, time.monotonic() + seconds
        print(f"== {name}", flush=True)
        while time.monotonic() < end:
            before = random.getstate()
            try:
                TARGETS[name](random)
            except Exception:
                traceback.print_exc()
                random.setstate(before)
                print(f"seed {seed}, run {runs} of {name}", file=sys.stderr)
                return 1
            runs += 1
        print(f"{runs} runs", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0, sys.argv[2:] or list(TARGETS)))
