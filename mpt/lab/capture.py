"""``scripts/open-capture``: the inner packets of a captured sealed connection, for tshark and the like.

It reads a pcap file and the keys that a daemon with ``key_log`` wrote, and writes a pcap file of the inner packets. It
is an independent reader: it knows the envelope from its description (docs/protocol.md), not from the daemon's code.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from mpt.errors import MptError

KEY_LINE: Final = "MPT_SESSION"  # the first word of a line of a key log
AEADS: Final[dict[str, tuple[type[AESGCM | ChaCha20Poly1305], int]]] = {
    "aes-128-gcm": (AESGCM, 16),  # and the octets of a key
    "aes-256-gcm": (AESGCM, 32),
    "chacha20-poly1305": (ChaCha20Poly1305, 32),
}
MAGICS: Final = {  # pcap(5): byte order, fractions of a second in each unit of the time
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
    b"\xa1\xb2\x3c\x4d": (">", 10**9),
}
ETHERNET, RAW, RAW_OLD, COOKED, COOKED_2 = 1, 101, 12, 113, 276  # link types
LINK_HEADERS: Final = {ETHERNET: (12, 14), COOKED: (14, 16), COOKED_2: (0, 20)}  # offset of the protocol, length
VLAN_TAGS: Final = (0x8100, 0x88A8)
ENVELOPE, HEADER, TAG, STAMP = 0x40, 12, 16, 2
UDP: Final = 17


class Keys(NamedTuple):
    """The keys of one direction of a session."""

    aead: AESGCM | ChaCha20Poly1305
    iv: int


class Frame(NamedTuple):
    """One record of a capture: its time in seconds and nanoseconds, and an IP packet."""

    seconds: int
    nanoseconds: int
    packet: bytes


def read_keys(path: Path) -> dict[int, Keys]:
    """Return the keys by the session index in the datagrams. Raises MptError with the line."""
    keys: dict[int, Keys] = {}
    for number, line in enumerate(_read(path).decode("ascii", "replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            word, index, cipher, key, iv = words
            aead, length = AEADS[cipher]
            if word != KEY_LINE or len(key) != 2 * length or len(iv) != 24:
                raise ValueError
            keys[int(index, 16)] = Keys(aead(bytes.fromhex(key)), int(iv, 16))
        except (ValueError, KeyError):
            form = f"{KEY_LINE} INDEX CIPHER KEY IV"
            raise MptError(f"{path}, line {number}: not a line of a key log; its form is {form}") from None
    return keys


def read_capture(path: Path) -> Iterator[Frame]:
    """Return the IP packets of a pcap file. Raises MptError for another format or link type."""
    octets = _read(path)
    order, units = MAGICS.get(octets[:4], ("", 0))
    if not units or len(octets) < 24:
        raise MptError(f"{path} is no pcap file; tcpdump -w writes one, editcap -F pcap makes one of a pcapng file")
    link = struct.unpack_from(f"{order}I", octets, 20)[0] & 0x0FFFFFFF
    if link not in (RAW, RAW_OLD, *LINK_HEADERS):
        raise MptError(f"{path} has the link type {link}; Ethernet, raw IP and Linux cooked captures can be read")
    at = 24
    while at + 16 <= len(octets):
        seconds, part, kept, _ = struct.unpack_from(f"{order}IIII", octets, at)
        frame = octets[at + 16 : at + 16 + kept]
        at += 16 + kept
        packet = _without_link_header(frame, link)
        if packet:
            yield Frame(seconds, part * (10**9 // units), packet)


def _without_link_header(frame: bytes, link: int) -> bytes:
    """Return the IP packet of a frame, or nothing."""
    if link in (RAW, RAW_OLD):
        return frame
    protocol_at, start = LINK_HEADERS[link]
    protocol = frame[protocol_at : protocol_at + 2]
    while link == ETHERNET and int.from_bytes(protocol, "big") in VLAN_TAGS:
        protocol, start = frame[start + 2 : start + 4], start + 4
    return frame[start:] if protocol in (b"\x08\x00", b"\x86\xdd") else b""


def udp_payload(packet: bytes) -> bytes:
    """Return the payload of a UDP datagram in one piece, or nothing."""
    version = packet[0] >> 4
    if version == 4 and len(packet) >= 20:
        start, protocol = (packet[0] & 15) * 4, packet[9]
        whole = not int.from_bytes(packet[6:8], "big") & 0x3FFF  # no fragment
    elif version == 6 and len(packet) >= 40:
        start, protocol, whole = 40, packet[6], True
    else:
        return b""
    length = int.from_bytes(packet[start + 4 : start + 6], "big")
    return packet[start + 8 : start + length] if whole and protocol == UDP else b""


def open_datagram(datagram: bytes, keys: Keys) -> bytes | None:
    """Return the content of a sealed datagram; None: these are not its keys."""
    nonce = keys.iv ^ (datagram[1] << 64 | int.from_bytes(datagram[6:HEADER], "big"))
    try:
        return keys.aead.decrypt(nonce.to_bytes(12, "big"), datagram[HEADER:], datagram[:HEADER])[STAMP:]
    except InvalidTag:
        return None


def inner_packet(content: bytes) -> bytes:
    """Return the packet behind the GRE header of `content`, or nothing: it is a message, or broken."""
    if len(content) < 4 or content[0] & 0x40:
        return b""
    fields = sum(4 for bit in (0x80, 0x20, 0x10) if content[0] & bit)  # checksum, key, sequence number
    return content[4 + fields :]


def convert(capture: Path, key_log: Path, output: Path) -> Counter[str]:
    """Write the inner packets of `capture` to `output`; return how many datagrams were opened, or why not."""
    keys, counts = read_keys(key_log), Counter[str]()
    with output.open("xb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, RAW))
        for frame in read_capture(capture):
            datagram = udp_payload(frame.packet)
            if len(datagram) < HEADER + STAMP + TAG or datagram[0] != ENVELOPE:
                continue
            session = keys.get(int.from_bytes(datagram[2:6], "big"))
            content = open_datagram(datagram, session) if session is not None else None
            if content is None:
                counts["without a key" if session is None else "with a wrong key or tag"] += 1
                continue
            packet = inner_packet(content)
            counts["packets" if packet else "messages"] += 1
            if packet:
                out.write(struct.pack("<IIII", frame.seconds, frame.nanoseconds, len(packet), len(packet)) + packet)
    return counts


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MptError(f"{path} cannot be read: {error.strerror}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with `arguments` (default: the command line); return 0, or 1 after an error in one line."""
    options = argparse.ArgumentParser(
        prog="scripts/open-capture",
        description="Opens a captured sealed connection with the keys that the daemon wrote (key_log in [general]) and"
        " writes a pcap file of the packets inside the tunnel.",
    )
    options.add_argument("capture", type=Path, help="a pcap file, of either end or of the line between them")
    options.add_argument("key_log", type=Path, help="the key log of either end")
    options.add_argument("output", type=Path, nargs="?", help="the file to write; it must be new [CAPTURE.inner.pcap]")
    given = options.parse_args(arguments)
    output = given.output or given.capture.with_suffix(".inner.pcap")
    try:
        counts = convert(given.capture, given.key_log, output)
    except FileExistsError:
        print(f"open-capture: {output} is there already", file=sys.stderr)
        return 1
    except (MptError, OSError) as error:
        print(f"open-capture: {error}", file=sys.stderr)
        return 1
    print(f"{output}: {counts['packets']} packets")
    for what, count in counts.items():
        if what != "packets":
            print(f"{count} datagrams {what}" if what.startswith("with") else f"{count} {what} left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
