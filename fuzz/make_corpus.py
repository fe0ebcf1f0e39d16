"""Writes fuzz/corpus anew: a few valid inputs of each target for the fuzzers to start from."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from mpt.wire import gre  # noqa: E402
from mpt.wire.command import encode_keepalive  # noqa: E402
from mpt.wire.feedback import Feedback, Record, encode  # noqa: E402
from mpt.wire.seal import HandshakeDatagram, Retry  # noqa: E402
from tests.accel.model import ACK, CWR, PSH, SYN, TCP, UDP, URG, Inner  # noqa: E402

RIGHT, PAYLOAD, AGAIN = 1, 2, 4  # of join.c
WAIT, TABLE, DATAGRAM, FLOW, FRAME, STRETCHED, TROUBLE, SHARES = range(8)  # of datapath.c, as what follows
RAW, SEALED, REPLAYED, DAMAGED, MOVED, RENEWED, WOKEN, ENDED = range(8)  # of seal.c
NOW = 8
V4, V6, PAIR, OTHER_V4, OTHER_V6, STRANGER = (peer << 4 for peer in range(6))
LINK, SHORT_ONLY, REFUSING = 0x10, 0x20, 0x40  # of TROUBLE
NOTHING_AT_ALL, HEADER, UNCUT, EVERYTHING, EVERYTHING_READY = b"\0", b"\1", b"\x08", b"\x0f", b"\x8f"  # the offloads
KINDS = [(version, protocol) for version in (4, 6) for protocol in (TCP, UDP)]


def run(version: int, protocol: int, size: int = 60, count: int = 4, last: bytes = b"") -> list[Inner]:
    """Return `count` packets of `size` octets that can be joined, and one of `last`."""
    whole = Inner(version=version, protocol=protocol, flags=ACK | PSH, payload=bytes(range(size)) * count + last)
    return whole.cut(size)


def step(kind: int, octets: bytes = b"", length: int | None = None) -> bytes:
    """Return a step of the targets join and datapath: a kind, a length, octets."""
    return bytes([kind]) + (len(octets) if length is None else length).to_bytes(2, "big") + octets


def each_step(kind: int, inputs: Iterable[bytes]) -> bytes:
    """Return a step of one kind for each of `inputs`."""
    return b"".join(step(kind, octets) for octets in inputs)


def join_inputs() -> list[bytes]:
    """Return runs that end with a short packet; more than fit into 64 KB, of little input; two flows in turn; checksums
    of 0, and of 0xFFFF, as some senders write it."""
    runs = [each_step(RIGHT, (inner.octets() for inner in run(*kind, last=b"short"))) for kind in KINDS]
    for kind in KINDS:
        (first,) = run(*kind, size=250, count=1)
        first = replace(first, flags=ACK)
        runs.append(step(RIGHT, first.octets()) + step(AGAIN, length=70) + step(PAYLOAD, b"end"))
        runs.append(step(RIGHT, first.octets()) + step(AGAIN, length=299))
    mixed = zip(run(4, TCP), run(6, UDP), strict=True)
    runs.append(each_step(RIGHT, (inner.octets() for pair in mixed for inner in pair)))
    for version in (4, 6):
        one, two = (inner.with_zero_sum().octets() for inner in run(version, TCP, count=2))
        at = 36 if version == 4 else 56
        runs.append(each_step(0, [one, two[:at] + b"\xff\xff" + two[at + 2 :]]))
    return [b"\x06" + each for each in runs]


def split_inputs() -> list[bytes]:
    """Return frames of all kinds, to be cut or not, of 400 octets and of 64 KB; one is in urgent mode."""
    frames = [Inner(version=v, protocol=p, payload=bytes(300)).frame(size) for v, p in KINDS for size in (0, 100)]
    long = [Inner(version=v, protocol=p, ident=0xFFF0, payload=bytes(50)).frame(1000) for v, p in KINDS]
    urgent = Inner(flags=ACK | PSH | URG | CWR, urgent=150, payload=bytes(300)).frame(100)
    return [*(b"\1\0" + each for each in (*frames, urgent)), *(b"\1\xfe" + each for each in long)]


def fit_inputs() -> list[bytes]:
    """Return SYNs, behind extension headers, too; packets that may be cut, with options, and of ICMP."""
    syns = [Inner(version=v, flags=SYN, options=bytes.fromhex("01020405b4010101")).octets() for v in (4, 6)]
    extended = syns[1][:6] + b"\x3c" + syns[1][7:40] + b"\x06\0\x01\x04\0\0\0\0" + syns[1][40:]
    large = Inner(protocol=UDP, dont_fragment=False, payload=bytes(200)).octets()
    options = b"\x48\0\0\xf0" + large[4:20] + bytes.fromhex("940400000107070400000000") + large[20:]
    ping = large[:9] + b"\1" + large[10:20] + b"\x08" + large[21:]
    return [b"\0\x50" + each for each in (*syns, extended, large, options, ping)]


def reorder_inputs() -> list[bytes]:
    """Return gaps over two paths; keepalives that differ; a full window, copied out of its buffers; a backlog; flows
    with gaps and restarts."""
    gaps = b"".join(bytes([7 | (n % 2) << 4, d, 0, 0, 0]) for n, d in enumerate((1, 2, 255, 2, 1, 3, 254, 1)))
    ahead = bytes([7, 2, 0, 0, 0]) * 9
    up = bytes([2, 0, 0, 0, 0, 18, 0, 0, 0, 0])
    keepalives = bytes([4, 0, 0, 0, 0, 0, 9, 0, 0, 0, 20, 0, 0, 0, 0])
    own, behind, not_behind = (bytes([5, what, 0, 0, 0]) for what in (0, 1, 2))
    late = bytes([0, 255, 0, 0, 0, 1, 0, 0, 0, 0])
    flows = b"".join(bytes([7 | (n % 2) << 4, d, 16 + n % 7, n % 3, 0]) for n, d in enumerate((1, 2, 255, 3, 1) * 8))
    again = bytes([6, 0, 16, 0, 0, 6, 0, 17, 0, 255])
    return [
        bytes([8, 100]) + gaps,
        bytes([20, 50]) + up + keepalives + ahead,
        bytes([39, 200]) + up + gaps * 2 + own + ahead * 3 + own + late,
        bytes([20, 50]) + up + behind + keepalives + gaps + not_behind + keepalives + gaps + ahead + own,
        bytes([208, 100]) + up + flows + own + again + flows + late + again,
    ]


def table(usable: int = 31, broken: int = 0, how: int = 0x89, weights: int = 0x1B) -> bytes:
    """Return the step that sets a table, as fuzz/datapath.c reads it."""
    return step(TABLE, bytes([usable, broken, how, weights]))


def wait(milliseconds: int) -> bytes:
    """Return the step that waits, then reads the first socket."""
    return step(WAIT | NOW | V4, milliseconds.to_bytes(2, "big"))


def following(inner: Inner, count: int, number: int, tos: int = 0, steps: int = 1, alone: bool = False) -> bytes:
    """Return the octets of `count` datagrams from `inner` on, `steps` numbers apart, as fuzz/datapath.c reads them."""
    return bytes([tos, count - 1, alone << 7 | steps - 1]) + gre.encode(inner.version, number) + inner.octets()


def inner_v6(first: int, last: int) -> IPv6Address:
    """Return an address of the datapath target: twelve octets of 0xFD, then FIRST.0.0.LAST."""
    return IPv6Address(b"\xfd" * 12 + bytes([first, 0, 0, last]))


def datapath_inputs() -> list[bytes]:
    """Return inputs for both connections, both ways: alone and in runs, in order and not, with TOS octets, stretched;
    all kinds of trouble."""
    there = [Inner(version=v, protocol=p, payload=bytes(300), tos=1) for v, p in KINDS]
    there += [replace(each, source=b"\x0d\0\0\2", destination=b"\x0e\0\0\3") for each in there]
    back = [replace(each, source=each.destination, destination=each.source, tos=2) for each in there]
    small, small_udp = (replace(each, payload=bytes(40)) for each in back[:2])
    peers = [V4, V6, PAIR, V4, OTHER_V4, OTHER_V6, OTHER_V4, OTHER_V6]
    runs = [step(FLOW | NOW | peer, following(each, 40, 0, 3)) for peer, each in zip(peers, back, strict=True)]
    numbered = [gre.encode(4, n) + replace(small, ident=n, sequence=1000 + 40 * n).octets() for n in range(6)]
    tunnels = [(IPv4Address("10.0.0.3"), IPv4Address("10.0.0.2")), (inner_v6(14, 3), inner_v6(13, 2))]
    keepalives = [b"\0" + encode_keepalive(pair[0].version, *pair) for pair in tunnels]
    frames = each_step(FRAME, (each.frame(100) for each in there)) + step(SHARES | NOW)
    long = [step(STRETCHED, b"\xf0" + replace(each, payload=bytes(50)).frame(1300)) for each in there[:2]]
    singles = [there[0], replace(there[0], ports=(1, 80)), replace(there[0], destination=bytes([127, 0, 0, 2]))]
    inputs = [
        [EVERYTHING, runs[0], runs[3], runs[4], frames, long[0]],
        [EVERYTHING, runs[1], runs[5], runs[6], long[1], frames],
        [EVERYTHING_READY, table(how=0x83), *(each_step(FLOW | V4, [following(small, 60, 0, steps=2)]), frames, *long)],
        [UNCUT, runs[2], each_step(DATAGRAM | V4, (b"\2" + each for each in numbered))],
        [HEADER, each_step(FRAME | NOW, (each.frame() for each in singles)), frames],
        [NOTHING_AT_ALL, each_step(DATAGRAM | NOW | V4, (b"\0" + each for each in reversed(numbered))), wait(256)],
        [  # strangers and keepalives
            EVERYTHING,
            *(step(DATAGRAM | NOW | peer, b"\0" + numbered[0]) for peer in (STRANGER, OTHER_V4)),
            *(step(DATAGRAM | NOW | peer, keepalives[peer in (OTHER_V4, OTHER_V6)]) for peer in peers),
        ],
        [  # paths that refuse, a link that does not cut, paths that are down, a connection less
            *(EVERYTHING, table(broken=0x12, how=0x92), frames, step(TROUBLE | LINK), frames, table(usable=9), frames),
            *(table(usable=9), each_step(FRAME, (replace(there[0], tos=n).frame() for n in (0, 0, 1, 1, 2))), frames),
            *(step(SHARES | NOW, b"\0\0\3\5\4\0"), frames, step(SHARES, b"\0\7\1\1\3\0\4\1"), frames),
            *(table(usable=0), frames, table(how=0x20), table(broken=31), frames, *long * 6, step(SHARES | NOW)),
        ],
        [  # a gap, and a path that is slower
            *(EVERYTHING, table(how=0x83), step(FLOW | NOW | V4, following(small, 60, 0, steps=2))),
            *(step(FLOW | V6, following(small, 50, 1, steps=2)), step(FLOW | V4, following(small, 60, 120)) * 3),
            *(step(DATAGRAM | NOW | V6, keepalives[0]) * 2, step(SHARES, b"\x01\0\x07\1"), wait(96), table()),
        ],
        [  # more is held than there are buffers; the TUN is full, and takes only what is short
            *(EVERYTHING, table(how=0x83)),
            *(step(FLOW | V4, following(small_udp, 64, 7, tos=1, alone=True)), wait(0) * 3),
            *(step(FLOW | V4, following(small_udp, 64, 99, steps=2, alone=True)), wait(0) * 3, wait(256)),
            *(step(TROUBLE | SHORT_ONLY), table(how=0x80), runs[0], step(TROUBLE | REFUSING), runs[0], wait(0)),
        ],
    ]
    return [b"".join(each) for each in inputs]


def sealed(content: bytes, session: int = 0, path_id: int = 0, by: int = 1) -> bytes:
    """Return a step that seals `content`; an odd step `by` of the number lets it arrive at once."""
    return step(SEALED, bytes((session, path_id)) + by.to_bytes(2, "big") + content)


def seal_inputs() -> list[bytes]:
    """Return inputs of the seal target."""
    packet = gre.encode(4, 7) + run(*KINDS[0])[0].octets()
    messages = [bytes((first,)) + bytes(40) for first in (0x41, 0x43, 0x45, 0x4F, 0x42, 0x50)]
    later = [sealed(packet, by=by) for by in (0, 0, 2, 0, 100, 8190)]
    inputs = [
        [sealed(packet), *map(sealed, messages), sealed(b""), step(WOKEN), step(REPLAYED, b"\0")],
        [*later, *(step(REPLAYED, bytes((n,))) for n in (5, 0, 1, 2, 3, 4, 4)), step(WOKEN)],
        [*(sealed(packet, n % 2, n % 4) for n in range(8)), step(MOVED, b"\1"), sealed(packet), step(WOKEN)],
        [sealed(packet), step(DAMAGED, b"\0\0\x0c\1\0"), step(DAMAGED, b"\0\0\x20\1\1"), sealed(packet)],
        [sealed(packet), step(RENEWED, b"\2"), sealed(packet), step(RENEWED, b"\7"), step(ENDED, b"\0")],
        [step(RAW, bytes((0x40, 1, 0, 0, 0, 7)) + bytes(30)), step(RAW, b"\x45" + bytes(40)), sealed(packet)],
        [sealed(messages[0])] * 70 + [step(WOKEN), sealed(messages[0])],
    ]
    return [bytes((ciphers,)) + b"".join(each) for each in inputs for ciphers in (0b0100, 0b1010)]


def handshake_inputs() -> list[bytes]:
    """Return inputs of the handshake target: datagrams whose mac1 is made right for a key, or is not."""
    first = HandshakeDatagram(False, 9, 0, 0, 0, data=b"hello").encode(bytes(32))
    answers = [HandshakeDatagram(True, 9, n, 0, 5, b"token", bytes(1100)).encode(bytes(32)) for n in (1, 2, 3, 4)]
    retries = [Retry(n, b"token" * 51).encode(bytes(32)) for n in (1, 3)]

    def given(datagrams: Iterable[bytes], key: int | None) -> list[bytes]:
        return [step(1 | key << 1 if key is not None else 0, each) for each in datagrams]

    shown = HandshakeDatagram(False, 9, 0, 0, 0, bytes(24), b"hello").encode(bytes(32))
    inputs = [
        [b"\3", *given([first] * 12, 0), *[step(9, shown)] * 6, *given([shown], 0)],
        [b"\7", *given([first, *answers, *retries], 0), *given([first], None)],
        [b"\6", *given(answers, 1), *given([*answers, *retries], 3), *given([first], 0)],
        [b"\3", *given([first, first[:30], b"\x40" + bytes(40), b"\x4c"], 0), *given(answers[:1] + retries[:1], 1)],
        [b"\1", *given([first] * 70, 0), *given([first + bytes(2000)], 0)],
    ]
    return [b"".join(each) for each in inputs]


def adaptive_inputs() -> list[bytes]:
    """Return inputs of the target adaptive: each kind of step many times, and all of them in turn."""
    rows = [bytes((kind, number & 3, 1 + number % 7, number, number % 5)) for number in range(60) for kind in range(16)]
    each = [
        b"".join(row for row in rows if row[0] in kinds) for kinds in ((0, 1, 2), (3, 4, 5, 6), (7, 8, 9), (11, 12, 14))
    ]
    return [*each, b"".join(rows)]


def feedback_inputs() -> list[bytes]:
    """Return reports without a record, of two paths with gaps, and of a path from which nothing came."""
    records = (
        Record(0x01020304, 0, 99, 95, 140_000, 0xFFF0, 3, 0xABCD, 16, ((7, 2), (50, 3))),
        Record(0x01020304, 63, 0xFFFFFFFF, 0, 0, None, None, 0, None),
    )
    return [encode(Feedback(1600, playout, 0x89ABCDEF, records[:count])) for playout, count in ((None, 0), (7, 2))]


def seeds() -> dict[str, list[bytes]]:
    """Return the inputs of each target."""
    headers = (gre.encode(4), KINDS[0]), (gre.encode(6, 7), KINDS[3]), (b"\xb0\0\x08\0" + bytes(12), KINDS[1])
    return {
        "gre": [header + run(*kind)[0].octets() for header, kind in headers],
        "split": split_inputs(),
        "fit": fit_inputs(),
        "join": join_inputs(),
        "reorder": reorder_inputs(),
        "seal": seal_inputs(),
        "handshake": handshake_inputs(),
        "feedback": feedback_inputs(),
        "adaptive": adaptive_inputs(),
        "datapath": datapath_inputs(),
    }


if __name__ == "__main__":
    for target, inputs in seeds().items():
        for number, octets in enumerate(inputs):
            path = HERE / "corpus" / target / f"{number:02}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(octets)
