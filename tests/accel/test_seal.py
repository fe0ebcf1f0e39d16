"""The envelope and the replay window of the engine against their Python twins and the vectors of session 8."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.replay import WINDOW, ReplayWindow
from mpt.wire.seal import OVERHEAD, STAMP_LENGTH, Cipher, Opener, Sealer, envelope
from tests.accel.engine import ffi, lib, native
from tests.wire.test_seal import CONTENT, IV, KEY, SEALED

needs_openssl = pytest.mark.skipif(not lib.mpt_can_seal(), reason="built without OpenSSL")
ACCEL = Path(native.__file__).parent
needs_gcm = pytest.mark.skipif(lib.mpt_gcm_library() == ffi.NULL, reason="there is no libipsec-mb")
CIPHERS = {cipher: getattr(lib, f"MPT_{cipher.name}") for cipher in Cipher}


@pytest.fixture(autouse=True, scope="module", params=[False, pytest.param(True, marks=needs_gcm)])
def gcm(request: pytest.FixtureRequest) -> Iterator[bool]:
    """With libcrypto alone, and with AES-GCM of libipsec-mb."""
    lib.mpt_allow_gcm(request.param)
    yield request.param
    lib.mpt_allow_gcm(True)


def keys_of(cipher: Cipher, index: int) -> Any:
    """Both directions have the key and iv of the vectors."""
    given = ffi.new("struct mpt_session_keys *", {"index": index, "peer_index": index, "cipher": CIPHERS[cipher]})
    given.send_key = given.receive_key = KEY
    given.send_iv = given.receive_iv = IV
    return given


def sealed(cipher: Cipher, index: int, path_id: int, number: int, stamp: int, content: bytes) -> bytes:
    datagram = ffi.new("uint8_t[]", len(content) + OVERHEAD)
    assert lib.mpt_seal(keys_of(cipher, index), path_id, number, stamp, content, len(content), datagram) == 0
    return bytes(ffi.buffer(datagram))


def opened(cipher: Cipher, datagram: bytes) -> bytes | None:
    """The stamp and the content."""
    copy = ffi.new("uint8_t[]", datagram or b"\0")
    length = lib.mpt_open(keys_of(cipher, 0), copy, len(datagram))
    return bytes(ffi.buffer(copy))[12 : 14 + length] if length >= 0 else None


@needs_openssl
@pytest.mark.parametrize("cipher", SEALED)
def test_the_vectors(cipher: Cipher) -> None:
    """Octet for octet, and back."""
    vector = bytes.fromhex(SEALED[cipher])
    assert sealed(cipher, 0xA1B2C3D4, 1, 5, 0x1234, CONTENT) == vector
    assert opened(cipher, vector) == b"\x12\x34" + CONTENT


@needs_openssl
@given(
    st.sampled_from(Cipher),
    st.integers(0, 2**32 - 1),
    st.integers(0, 63),
    st.integers(0, 2**48 - 1),
    st.integers(0, 2**16 - 1),
    st.binary(max_size=300)
    | st.builds(lambda seed, length: (seed * 4096)[:length], st.binary(min_size=1), st.integers(0, 4096)),
)
def test_both_make_the_same(cipher: Cipher, index: int, path_id: int, number: int, stamp: int, content: bytes) -> None:
    """And each opens what the other has sealed."""
    datagram = sealed(cipher, index, path_id, number, stamp, content)
    assert datagram == Sealer(cipher, KEY, IV, index).seal(path_id, number, stamp, content)
    assert opened(cipher, datagram) == Opener(cipher, KEY, IV).open(envelope(datagram), datagram)
    assert opened(cipher, datagram) == stamp.to_bytes(STAMP_LENGTH, "big") + content


@needs_openssl
def test_what_is_said_of_the_libraries(gcm: bool) -> None:
    """Of those that are in use."""
    from mpt.accel.native import sealing_libraries

    form = r"libipsec-mb \d+\.\d+\.\d+ \(AES-GCM\) and OpenSSL 3\.\S+" if gcm else r"OpenSSL 3\.\S+"
    assert re.fullmatch(form, sealing_libraries(gcm))


@needs_openssl
@given(st.sampled_from(Cipher), st.binary(max_size=60), st.data())
def test_what_somebody_has_changed_does_not_open(cipher: Cipher, content: bytes, data: st.DataObject) -> None:
    """Not a bit of what the nonce and the tag cover; nor what was cut off."""
    datagram = bytearray(sealed(cipher, 1, 2, 3, 4, content))
    position = data.draw(st.integers(0, len(datagram) - 1))
    cut = bytes(datagram[:position])
    datagram[position] ^= 1 << data.draw(st.integers(0, 7))
    assert opened(cipher, bytes(datagram)) is None
    assert opened(cipher, cut) is None


@given(
    st.lists(
        st.one_of(
            st.integers(0, 300),
            st.integers(0, 4).map(lambda blocks: blocks * 64),
            st.integers(WINDOW - 70, WINDOW + 70),
            st.integers(2 * WINDOW - 70, 2 * WINDOW + 70),
            st.integers(0, 2**48 - 1),
        ),
        max_size=60,
    )
)
def test_the_replay_window(numbers: Sequence[int]) -> None:
    """It takes the same numbers as its twin, each once."""
    taken = ffi.new("uint8_t[]", len(numbers))
    lib.mpt_replay(numbers, len(numbers), taken)
    window, expected = ReplayWindow(), []
    for number in numbers:
        expected.append(window.is_new(number))
        if expected[-1]:
            window.accept(number)
    assert [bool(each) for each in taken] == expected


def test_only_one_file_needs_openssl() -> None:
    """It compiles without, too, and then calls nothing of it; the others do not know the difference."""
    texts = {file.name: file.read_text() for file in ACCEL.glob("*.[ch]") if not file.name.startswith("_native")}
    assert [name for name, text in texts.items() if "<openssl/" in text or "#ifdef MPT_SEAL" in text] == ["seal.c"]
    assert "EVP_" not in compiled("seal.c")


def test_only_one_file_needs_libipsec_mb() -> None:
    """It compiles without, too, and then looks for nothing."""
    texts = {file.name: file.read_text() for file in ACCEL.glob("*.[ch]") if not file.name.startswith("_native")}
    assert [name for name, text in texts.items() if "<intel-ipsec-mb" in text or "MPT_NO_GCM" in text] == ["gcm.c"]
    assert "dlopen" not in compiled("gcm.c", "-DMPT_NO_GCM")


def compiled(file: str, *flags: str) -> str:
    """Return a file's assembler text, without the macros of the build."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc")
    flags = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-S", "-o", "-", *flags)
    done = subprocess.run([compiler, *flags, str(ACCEL / file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
