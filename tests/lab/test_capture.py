"""The reader of sealed captures, by the vectors of the description: it shares no code with the daemon."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpt.daemon.keylog import KeyLog
from mpt.errors import HostError
from mpt.lab.capture import inner_packet, main, udp_payload
from mpt.wire.seal import Cipher, SessionKeys

KEY, IV = bytes(range(32)), bytes(range(0x60, 0x6C))
INDEX = 0xA1B2C3D4
INNER = bytes.fromhex("4500001c00010000400166dd0a0000020a0000030800f7ff00000000")
SEALED = {
    Cipher.AES_128_GCM: bytes.fromhex(
        "4001a1b2c3d40000000000053e36506f513359e09706eb7763a55a142f52888b2b9777428fd7ad8be51a77da0540b3442e0ab17fe5fa7d"
        "541c5e6e333b67959cbf2fe727a806"
    ),
    Cipher.CHACHA20_POLY1305: bytes.fromhex(
        "4001a1b2c3d4000000000005871aab1081a5f1e7dfbe8d892207345c93da360504f8c6aab3ad7d3f3e1f522b257881fe7640b70fd9b07a"
        "64b319c1ff25eb35f2cadc1a293a2a"
    ),
}


def udp(payload: bytes) -> bytes:
    return struct.pack("!HHHH", 4754, 4754, 8 + len(payload), 0) + payload


def ipv4(payload: bytes, flags: int = 0) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, flags, 64, 17, 0)
    return head + bytes(8) + payload


def ipv6(payload: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), 17, 64) + bytes(32) + payload


def pcap(frames: list[bytes], link: int, order: str = "<", magic: int = 0xA1B2C3D4) -> bytes:
    head = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    return head + b"".join(struct.pack(f"{order}IIII", 7, 9, len(f), len(f)) + f for f in frames)


def packets_of(octets: bytes) -> list[bytes]:
    """The records of a file that was written: little-endian, raw IP."""
    assert struct.unpack_from("<IHHiIII", octets)[0::6] == (0xA1B23C4D, 101)
    found, at = [], 24
    while at < len(octets):
        length = struct.unpack_from("<IIII", octets, at)[2]
        found.append(octets[at + 16 : at + 16 + length])
        at += 16 + length
    return found


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """A key log as the daemon writes it, of a session that receives with the key of the vectors."""
    return key_log(tmp_path, Cipher.AES_128_GCM)


def key_log(directory: Path, cipher: Cipher) -> Path:
    path = directory / f"{cipher.value}.keys"
    log = KeyLog(path)
    log.session(SessionKeys(INDEX, 1, cipher, bytearray(32), bytearray(12), bytearray(KEY), bytearray(IV)))
    log.close()
    return path


@pytest.mark.parametrize("cipher", SEALED)
@pytest.mark.parametrize(
    ("link", "before"),
    [
        (1, bytes(12) + b"\x08\x00"),
        (1, bytes(12) + b"\x81\x00\x00\x05\x08\x00"),
        (101, b""),
        (113, bytes(14) + b"\x08\x00"),
        (276, b"\x08\x00" + bytes(18)),
    ],
)
def test_a_vector_is_opened(tmp_path: Path, cipher: Cipher, link: int, before: bytes) -> None:
    """Over every link type, and with both byte orders."""
    for order in "<>":
        capture, output = tmp_path / f"{order}.pcap", tmp_path / f"{order}.out"
        capture.write_bytes(pcap([before + ipv4(udp(SEALED[cipher]))], link, order))
        assert main([str(capture), str(key_log(tmp_path, cipher)), str(output)]) == 0
        assert packets_of(output.read_bytes()) == [INNER]


def test_the_time_is_kept_and_what_cannot_be_opened_is_told(
    tmp_path: Path, logged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sealed = SEALED[Cipher.AES_128_GCM]
    strange = sealed[:2] + b"\0\0\0\x09" + sealed[6:]
    broken = sealed[:-1] + bytes([sealed[-1] ^ 1])
    plain = b"\0\0\x08\0" + INNER
    frames = [ipv6(udp(each)) for each in (sealed, strange, broken, plain)] + [ipv4(udp(sealed), 0x2000)]
    (tmp_path / "x.pcap").write_bytes(pcap(frames, 101, magic=0xA1B23C4D))
    assert main([str(tmp_path / "x.pcap"), str(logged)]) == 0
    octets = (tmp_path / "x.inner.pcap").read_bytes()
    assert packets_of(octets) == [INNER]
    assert struct.unpack_from("<II", octets, 24) == (7, 9)
    said = capsys.readouterr().out
    assert "1 packets" in said
    assert "1 datagrams without a key" in said
    assert "1 datagrams with a wrong key or tag" in said


@pytest.mark.parametrize(
    ("capture", "keys", "words"),
    [
        (b"\x0a\x0d\x0d\x0a" + bytes(40), None, "is no pcap file"),
        (pcap([], 105), None, "link type 105"),
        (pcap([], 1), "nonsense\n", "line 1: not a line of a key log"),
        (pcap([], 1), f"\nMPT_SESSION 1 aes-128-gcm {KEY.hex()} {IV.hex()}\n", "line 2"),
    ],
)
def test_bad_input_is_told_in_one_line(
    tmp_path: Path, logged: Path, capsys: pytest.CaptureFixture[str], capture: bytes, keys: str | None, words: str
) -> None:
    (tmp_path / "x.pcap").write_bytes(capture)
    if keys is not None:
        logged.write_text(keys)
    assert main([str(tmp_path / "x.pcap"), str(logged)]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_an_output_that_is_there_is_not_overwritten(
    tmp_path: Path, logged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.pcap").write_bytes(pcap([], 1))
    (tmp_path / "x.inner.pcap").write_text("mine")
    assert main([str(tmp_path / "x.pcap"), str(logged)]) == 1
    assert (tmp_path / "x.inner.pcap").read_text() == "mine"
    assert "is there already" in capsys.readouterr().err


@given(st.binary(max_size=80))
def test_any_packet_and_content_is_read(octets: bytes) -> None:
    """A frame or a content that is no packet gives nothing."""
    assert isinstance(udp_payload(octets) if octets else b"", bytes)
    assert isinstance(inner_packet(octets), bytes)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=120), st.sampled_from([1, 101, 113, 276]))
def test_any_capture_is_read(tmp_path: Path, logged: Path, octets: bytes, link: int) -> None:
    """A file that is cut off, or has any records, ends without an exception."""
    (tmp_path / "x.pcap").write_bytes(pcap([], link) + octets)
    (tmp_path / "x.inner.pcap").unlink(missing_ok=True)
    assert main([str(tmp_path / "x.pcap"), str(logged)]) == 0


def test_the_key_log_is_for_its_owner_and_names_its_danger(
    tmp_path: Path,
) -> None:
    path = key_log(tmp_path, Cipher.AES_256_GCM)
    assert path.stat().st_mode & 0o777 == 0o600
    lines = path.read_text().split("\n")
    assert lines[0] == f"MPT_SESSION a1b2c3d4 aes-256-gcm {KEY.hex()} {IV.hex()}"
    assert lines[1] == f"MPT_SESSION 00000001 aes-256-gcm {'00' * 32} {'00' * 12}"
    (tmp_path / "link").symlink_to(path)
    for place in (tmp_path / "link", tmp_path / "none" / "x"):
        with pytest.raises(HostError, match="cannot be written"):
            KeyLog(place)
