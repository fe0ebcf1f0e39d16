"""`mpt genkey` and `mpt pubkey`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpt.cli.main import main
from mpt.config.identity import load_identity
from tests.config.files import PRIVATE_KEY, PUBLIC_KEY


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration of this machine is not found by a test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPT_CONFIG_DIR", str(tmp_path / "conf"))


def test_a_key_is_made_and_its_public_half_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the file says that is named, or the configuration, or its default; the same again by `mpt pubkey`."""
    for words, file in ((["a.key"], "a.key"), ([], "conf/private.key")):
        assert main(["genkey", *words]) == 0
        printed = capsys.readouterr().out
        assert printed == load_identity(tmp_path / file).public_text + "\n"
        assert main(["pubkey", *words]) == 0
        assert capsys.readouterr().out == printed
    (tmp_path / "conf" / "interface.conf").write_text("[general]\nprivate_key_file = other.key\n")
    assert main(["genkey"]) == 0
    assert (tmp_path / "conf" / "other.key").stat().st_mode & 0o777 == 0o600


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The key stays, and the private half is never printed."""
    (tmp_path / "a.key").write_text(PRIVATE_KEY)
    (tmp_path / "a.key").chmod(0o600)
    assert main(["genkey", "a.key"]) == 1
    assert main(["pubkey", "a.key"]) == 0
    captured = capsys.readouterr()
    assert captured.out == PUBLIC_KEY + "\n"
    assert captured.err == "mpt: a.key exists and is not overwritten: name another file, or remove it\n"


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No key, no directory."""
    assert main(["pubkey"]) == 1
    assert main(["genkey", "nowhere/a.key"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"mpt: there is no private key {tmp_path}/conf/private.key: make it with `mpt genkey ")


@pytest.mark.parametrize("name", ["genkey", "pubkey", "client", "join"])
def test_each_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for before or after its name."""
    for words in ([name, "--help"], ["help", name]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: mpt {name} ")
