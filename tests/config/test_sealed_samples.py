"""The samples of a sealed server and its client: with real keys they fit together, without any they do nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from mpt.config.directory import load_directory
from mpt.config.identity import make_identity
from mpt.config.parser import ConfigurationErrors
from mpt.model import Config

SAMPLES = Path(__file__).parents[2] / "conf" / "samples" / "sealed"
KEYS = {"SERVER": "server", "LAPTOP": "client", "BRANCH": "branch"}


def with_keys(directory: Path) -> tuple[Config, Config]:
    """Return the samples of server and client after a person has made keys, and pasted the public ones."""
    shutil.copytree(SAMPLES, directory, dirs_exist_ok=True)
    (directory / "branch").mkdir()
    public = {who: make_identity(directory / host / "private.key").public_text for who, host in KEYS.items()}
    for file in directory.rglob("*.conf"):
        text = file.read_text()
        file.write_text(re.sub(r"PUBLIC-KEY-OF-THE-(\w+)", lambda found: public[found[1]], text))
    loaded = [load_directory(directory / host) for host in ("server", "client")]
    assert [each.warnings for each in loaded] == [(), ()]
    return loaded[0].config, loaded[1].config


def test_the_samples_fit_together(tmp_path: Path) -> None:
    """Keys, tunnel addresses and ports of one are the peer's at the other."""
    server, client = with_keys(tmp_path)
    (there,) = client.connections
    here = server.connections[0]
    assert server.identity is not None and client.identity is not None
    assert there.peer_keys == (server.identity.public_key,) and here.peer_keys == (client.identity.public_key,)
    assert (here.ip_local, here.ip_remote) == (there.ip_remote, there.ip_local)
    assert here.local_port == there.remote_port
    assert here.paths[0].remote_addresses == () and len(there.paths) == 2
    assert [each.name for each in server.connections] == ["laptop", "branch"]


def test_what_the_samples_have_in_comments_is_the_default(tmp_path: Path) -> None:
    """It can be used, and changes nothing as it is."""
    before = with_keys(tmp_path)
    for file in [*tmp_path.rglob("*.conf"), *tmp_path.rglob("*.template")]:
        text = file.read_text()
        used = re.sub(r"^;(?=(order|reorder_w|require|mss|keep|weight)\w* *=)", "", text, flags=re.MULTILINE)
        assert used != text or file.name in ("interface.conf", "clients.conf")
        file.write_text(used)
    assert tuple(load_directory(tmp_path / host).config for host in ("server", "client")) == before
    file = tmp_path / "client" / "connections" / "server.conf"
    file.write_text(re.sub(r"^;(?=\[net_0|src_|dst_)", "", file.read_text(), flags=re.MULTILINE))
    assert len(load_directory(tmp_path / "client").config.connections[0].networks) == 1


def test_a_sample_without_keys_is_told_what_is_missing(tmp_path: Path) -> None:
    """Whoever copies it and starts is not open to anybody."""
    shutil.copytree(SAMPLES, tmp_path, dirs_exist_ok=True)
    for host, count in (("server", 2), ("client", 1)):
        make_identity(tmp_path / host / "private.key")
        with pytest.raises(ConfigurationErrors) as caught:
            load_directory(tmp_path / host)
        assert [problem.key for problem in caught.value.problems] == ["peer_key"] * count
