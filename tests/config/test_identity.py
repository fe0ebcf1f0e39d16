"""The private key of this host: who may read it, what is a key, and that it is in no text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpt.config.directory import load_directory
from mpt.config.disk import create_file, write_file
from mpt.config.identity import load_identity, make_identity
from mpt.config.parser import ConfigurationErrors
from mpt.errors import ConfigError
from mpt.values import public_key
from tests.config.files import PRIVATE_KEY, PUBLIC_KEY, line_of, write
from tests.config.test_sealed import CLIENT, INTERFACE

SEED = bytes(range(32))
WITH_PASSWORD = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjQ
-----END ENCRYPTED PRIVATE KEY-----
"""


def key_file(directory: Path, text: str = PRIVATE_KEY, mode: int = 0o600) -> Path:
    path = directory / "private.key"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_key_is_loaded(tmp_path: Path) -> None:
    """Both halves, as octets and as people write the public one."""
    identity = load_identity(key_file(tmp_path))
    assert identity.private_key == SEED
    assert identity.public_text == PUBLIC_KEY
    assert identity.public_key == public_key(PUBLIC_KEY)


def test_a_made_key_is_loaded_again(tmp_path: Path) -> None:
    """Its file is for its owner only, whatever the umask is; no two are the same."""
    before = os.umask(0)
    try:
        made = make_identity(tmp_path / "a.key")
    finally:
        os.umask(before)
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    assert load_identity(tmp_path / "a.key") == made != make_identity(tmp_path / "b.key")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_roots_files_belong_to_the_owner_of_their_folder(tmp_path: Path) -> None:
    """A daemon that is not root reads the files that root makes in the daemon's folder: keys, connections."""
    os.chown(tmp_path, 65534, 65533)
    make_identity(tmp_path / "private.key")
    create_file(tmp_path / "connections" / "a.conf", "")
    write_file(tmp_path / "connections" / "b.conf", b"", None)
    for name in ("private.key", "connections", "connections/a.conf", "connections/b.conf"):
        found = (tmp_path / name).stat()
        assert (found.st_uid, found.st_gid) == (65534, 65533), name


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    """Nor the file that a link leads to."""
    key_file(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    for name in ("private.key", "link"):
        with pytest.raises(ConfigError, match="exists and is not overwritten"):
            make_identity(tmp_path / name)
    with pytest.raises(ConfigError, match="cannot be made: No such file"):
        make_identity(tmp_path / "nowhere" / "private.key")
    assert load_identity(tmp_path / "private.key").private_key == SEED
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o601])
def test_a_file_that_is_open_to_others_is_refused(mode: int, tmp_path: Path) -> None:
    """To read it, to write it, and any other way."""
    with pytest.raises(ConfigError, match=rf"is open to others \(mode 0{mode:o}\).*chmod 600"):
        load_identity(key_file(tmp_path, mode=mode))


@pytest.mark.parametrize(
    "text",
    ["", "hello", PUBLIC_KEY, PRIVATE_KEY.replace("MC4C", "MC5C"), PRIVATE_KEY[:60], WITH_PASSWORD, "x" * 5000],
    ids=["empty", "words", "public", "damaged", "cut", "with a password", "long"],
)
def test_what_is_no_key_is_refused(text: str, tmp_path: Path) -> None:
    """In one line, which has nothing of the content."""
    with pytest.raises(ConfigError, match="is not an Ed25519 private key") as caught:
        load_identity(key_file(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert PRIVATE_KEY.split("\n")[1][10:] not in str(caught.value)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Such as one for X25519, whose file looks much the same."""
    other = PRIVATE_KEY.replace("MC4CAQAwBQYDK2VwBCIEI", "MC4CAQAwBQYDK2VuBCIEI")
    assert other != PRIVATE_KEY
    with pytest.raises(ConfigError, match="is not an Ed25519 private key"):
        load_identity(key_file(tmp_path, other))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A FIFO would be waited for."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(ConfigError, match="is not a regular file"):
            load_identity(path)
    with pytest.raises(ConfigError, match=r"there is no private key .*: make it with `mpt genkey "):
        load_identity(tmp_path / "missing")


def test_the_private_key_is_in_no_text(tmp_path: Path) -> None:
    """Not in that of the identity, nor of the configuration that has it."""
    write(tmp_path, INTERFACE, {"home.conf": CLIENT})
    config = load_directory(tmp_path).config
    assert config.identity is not None and config.identity.private_key == SEED
    for text in (repr(config), str(config), repr(config.identity)):
        assert repr(SEED)[5:20] not in text and SEED.hex() not in text
        assert repr(config.identity.public_key) in text


@pytest.mark.parametrize("fault", ["missing", "open", "no key"])
def test_a_sealed_connection_needs_the_key(fault: str, tmp_path: Path) -> None:
    """One error in one line names the key of interface.conf, the file that needs it, and what to do."""
    write(tmp_path, INTERFACE, {"home.conf": CLIENT})
    path = tmp_path / "private.key"
    {"missing": path.unlink, "open": lambda: path.chmod(0o644), "no key": lambda: path.write_text("x")}[fault]()
    with pytest.raises(ConfigurationErrors) as caught:
        load_directory(tmp_path)
    (problem,) = caught.value.problems
    assert (problem.file.name, problem.section, problem.key) == ("interface.conf", "general", "private_key_file")
    assert "home.conf" in str(problem) and str(path) in str(problem) and "\n" not in str(problem)


def test_the_own_key_is_no_peers(tmp_path: Path) -> None:
    """It is an easy mistake to copy the wrong one."""
    text = CLIENT.replace("peer_key = ", f"peer_key = {PUBLIC_KEY} ")
    with pytest.raises(ConfigurationErrors) as caught:
        load_directory(write(tmp_path, INTERFACE, {"home.conf": text}))
    (problem,) = caught.value.problems
    assert problem.line == line_of(text, "connection", "peer_key")
    assert problem.message.startswith("is this host's own public key")


def test_no_key_is_read_without_need(tmp_path: Path) -> None:
    """Without a sealed connection a bad key file is nobody's business, and cryptography is not even imported."""
    write(tmp_path)
    (tmp_path / "private.key").chmod(0o644)
    assert load_directory(tmp_path).config.identity is None
    code = (
        "import sys; from pathlib import Path; from mpt.config.directory import load_directory;"
        "load_directory(Path(sys.argv[1])); sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0
