"""Every key survives: a loaded configuration is saved as new files and loaded again, and nothing has changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpt.config import schema
from mpt.config.directory import load_directory
from mpt.config.writer import interface_text, save
from mpt.errors import ConfigError
from mpt.model import Config, Status
from mpt.values import text_of
from tests.config.files import CLASS, CONNECTION, INTERFACE, OTHER, WITH, changed, connection_with, with_other, write

KINDS = {
    "general": "general",
    "tun_0": "tun_n",
    "connection": "connection",
    "path_1": "path_n",
    "net_1": "net_n",
    "class voice": "class",
}
EVERY = [(section, key) for section, kind in KINDS.items() for key in schema.SECTIONS[kind]]
OPTIONAL = [(section, key.name) for section, key in EVERY if (section, key.name) in OTHER and not key.mandatory]
SPELLINGS = {"gateway_ipaddr": "gw_ipaddr"}


def survivor(directory: Path) -> tuple[Config, Config]:
    """Return the configuration of `directory`, and the one loaded again after it was written anew."""
    first = load_directory(directory).config
    (directory / "interface.conf").write_text(interface_text(first.general, first.tunnels))
    for connection in first.connections:
        assert connection.file is not None
        connection.file.unlink()
        statuses = [path.status for path in connection.paths]
        assert save(connection.file, connection, statuses, first.general.cmdport_local)
    return first, load_directory(directory).config


@pytest.mark.parametrize(("section", "key"), OTHER)
def test_a_key_that_is_no_default_survives(section: str, key: str, tmp_path: Path) -> None:
    """One key at a time has a value that is no default."""
    plain = load_directory(write(tmp_path, connections={"host_b.conf": connection_with(section)})).config
    interface, connection = with_other(section, key)
    first, again = survivor(write(tmp_path, interface, {"host_b.conf": connection}))
    assert again == first != plain


def test_every_key_is_tried() -> None:
    """A new key needs another value in tests/config/files.py; the ports of commands are read from interface.conf."""
    every = {(section, key.name) for section, key in EVERY}
    assert every - OTHER.keys() == {("general", "tunnel_num"), ("connection", "local_cmd_port")}


@given(absent=st.sets(st.sampled_from(OPTIONAL)), other=st.sets(st.sampled_from(OPTIONAL)))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_keys_may_be_absent(tmp_path: Path, absent: set[tuple[str, str]], other: set[tuple[str, str]]) -> None:
    """Some keys are absent, some have a value of their own, the rest is the guide's."""
    texts = {"interface": INTERFACE, "connection": CONNECTION + CLASS}
    for section, key in sorted(absent | other):
        file = "interface" if section in ("general", "tun_0") else "connection"
        value = None if (section, key) in absent else OTHER[section, key]
        with_it = WITH["connection", "scheduler"] if key == "scheduler" and value is not None else {}
        texts[file] = changed(texts[file], section, **{SPELLINGS.get(key, key): value, **with_it})
    try:
        first, again = survivor(write(tmp_path, texts["interface"], {"host_b.conf": texts["connection"]}))
    except ConfigError:
        assert absent & {("tun_0", "ipv4_addr"), ("class voice", "dscp")}  # ip_local is nobody's, nothing is a voice
        return
    assert again == first


def test_a_connection_without_a_key_is_saved_without_one(tmp_path: Path) -> None:
    """The word None is no key."""
    directory = write(tmp_path, connections={"host_b.conf": changed(CONNECTION, "connection", auth_key=None)})
    first, again = survivor(directory)
    assert first == again
    assert again.connections[0].auth_key == ""
    assert "None" not in (directory / "connections" / "host_b.conf").read_text()


def test_the_word_none_is_no_key(tmp_path: Path) -> None:
    """An error where a key is needed; elsewhere a warning, as an earlier mpt wrote it into files that work."""
    text = changed(CONNECTION, "connection", auth_key="None")
    loaded = load_directory(write(tmp_path, connections={"a.conf": text}))
    assert loaded.config.connections[0].auth_key == ""
    assert "is the word None" in loaded.warnings[0] and "(hidden)" in loaded.warnings[0]
    with pytest.raises(ConfigError, match="is the word None"):
        load_directory(write(tmp_path, connections={"a.conf": changed(text, "connection", auth_type="2")}))


def test_nothing_is_written_as_a_word() -> None:
    """A value that is not there has no text, so no file gets one."""
    with pytest.raises(TypeError):
        text_of(None)


@pytest.mark.parametrize(
    ("configured", "now", "saved"),
    [
        ("0", Status.DOWN, Status.OK),
        ("0", Status.INTERFACE_DOWN, Status.OK),
        ("0", Status.ADDRESS_DOWN, Status.OK),
        ("0", Status.MANUAL_DOWN, Status.MANUAL_DOWN),
        ("128", Status.OK, Status.DOWN),
        ("128", Status.MANUAL_DOWN, Status.MANUAL_DOWN),
        ("131", Status.MANUAL_DOWN, Status.MANUAL_DOWN),
        ("131", Status.OK, Status.OK),
        ("131", Status.DOWN, Status.OK),
        ("255", Status.MANUAL_DOWN, Status.DISABLED),
        ("255", Status.OK, Status.OK),
    ],
)
def test_only_what_the_operator_decided_is_saved(configured: str, now: Status, saved: Status, tmp_path: Path) -> None:
    """A failed path is not saved as down; one taken down or up by hand is saved so; the file's own word stays."""
    directory = write(tmp_path, connections={"a.conf": changed(CONNECTION, "path_1", status=configured)})
    for new_file in (False, True):
        (connection,) = load_directory(directory).config.connections
        assert connection.file is not None
        if new_file:
            connection.file.unlink()
        save(connection.file, connection, [Status.OK, now], 60456)
        assert load_directory(directory).config.connections[0].paths[1].status is saved
        connection.file.write_text(changed(CONNECTION, "path_1", status=configured))


def test_without_keepalives_a_path_that_is_up_is_saved_as_up(tmp_path: Path) -> None:
    """Nothing but a person or the peer has brought it up; saved as 128 nothing else would."""
    text = changed(CONNECTION, "path_1", status="128", keepalive_time=None, dead_time=None)
    directory = write(tmp_path, connections={"a.conf": text})
    (connection,) = load_directory(directory).config.connections
    assert connection.file is not None
    save(connection.file, connection, [Status.OK, Status.OK], 60456)
    assert load_directory(directory).config.connections[0].paths[1].status is Status.OK


def test_the_paths_of_a_connection_that_is_down_are_saved_as_they_are_configured(tmp_path: Path) -> None:
    """All of them are down now, but by the connection's own status."""
    directory = write(tmp_path, connections={"a.conf": changed(CONNECTION, "connection", status="255")})
    (connection,) = load_directory(directory).config.connections
    assert connection.file is not None
    assert not save(connection.file, connection, [Status.MANUAL_DOWN] * 2, 60456)
