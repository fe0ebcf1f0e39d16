"""`mpt doctor`: it works without a daemon, a configuration and rights; its bundle has no secret."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from mpt.cli.main import main
from mpt.config.identity import load_identity, make_identity
from mpt.doctor.findings import SEVERITIES
from mpt.local.protocol import Reply, encode_reply
from mpt.model import key_text
from tests.cli.daemons import unix_daemon
from tests.config.files import changed, write
from tests.config.test_semantics import AUTO, CONNECTION, SEALED
from tests.local.test_status import DOCUMENT

AUTH_KEY = "C0FFEE" * 10 + "ABCD"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the configuration nor the daemon of this machine is found by a test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPT_CONFIG_DIR", str(tmp_path / "conf"))
    monkeypatch.setenv("MPT_CONTROL_SOCKET", str(tmp_path / "mpt.sock"))


def test_without_anything_it_says_what_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    """Kernel and tunnel device; that there is no configuration, and how to make one."""
    main(["doctor"])
    printed = capsys.readouterr().out
    assert " kernel " in printed and " tun " in printed
    assert "# mpt init --help" in printed and "no mptsrv answers here" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_running_daemon_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What its status complains of is at fault; the status of the program is 1."""
    (tmp_path / "conf").mkdir()
    write(tmp_path / "conf", AUTO, {"home.conf": SEALED})
    with unix_daemon(tmp_path / "mpt.sock", encode_reply(1, Reply(0, "", DOCUMENT.as_json()))):
        assert main(["doctor", "--json", "--offline"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "mpt.doctor/1"
    assert {each["severity"] for each in document["findings"]} <= set(SEVERITIES)
    told = [each["message"] for each in document["findings"] if each["topic"] == "daemon"]
    assert any("interface down" in each for each in told)


def test_the_bundle_has_everything_but_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No private key, no auth_key, no text to join with, in a file for its owner alone that replaces no other."""
    directory = tmp_path / "conf"
    directory.mkdir()
    old = f"; auth_key = {AUTH_KEY}\n# mpt join mpt1:NDAoIeyJjbGllbnQiOiJsYXB0b3AiLCJrZXki\n"
    plain = changed(CONNECTION, "connection", auth_type="2", auth_key=AUTH_KEY) + old
    write(directory, AUTO, {"home.conf": SEALED, "plain.conf": plain})
    (directory / "private.key").unlink()
    identity = make_identity(directory / "private.key")
    pem = (directory / "private.key").read_text()
    main(["doctor", "--offline", "--bundle", "bundle.tar.gz"])
    capsys.readouterr()
    assert (tmp_path / "bundle.tar.gz").stat().st_mode & 0o777 == 0o600
    with tarfile.open(tmp_path / "bundle.tar.gz") as archive:
        members = {each.name: archive.extractfile(each) for each in archive}
        texts = {name: member.read().decode() for name, member in members.items() if member is not None}
    assert {"configuration/connections/home.conf", "doctor.txt", "status.json", "host.json", "check.json"} <= {
        name.removeprefix("mpt-doctor/") for name in texts
    }
    whole = "\n".join(texts.values())
    secrets = [
        AUTH_KEY,
        *pem.splitlines(),
        identity.private_key.hex(),
        "mpt1:",
        load_identity(directory / "private.key").public_text,
    ]
    assert [each for each in secrets if each in whole] == []
    assert key_text(identity.private_key) not in whole
    assert "remote_ipaddr = 192.0.2.10" in texts["mpt-doctor/configuration/connections/home.conf"]
    assert main(["doctor", "--offline", "--bundle", "bundle.tar.gz"]) == 1
    assert "bundle.tar.gz: cannot be written: File exists" in capsys.readouterr().err
