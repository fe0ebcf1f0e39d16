"""Two peers with one network behind them: an error that names both files, unless it is clear who is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpt.config.directory import load_connection, load_directory
from mpt.config.parser import ConfigurationErrors
from tests.config.files import CONNECTION, INTERFACE, changed, without, write


def peer(number: int, *networks: tuple[str, str], status: str = "0", local: str = "10.0.0.2", port: str = "1") -> str:
    """Return the file of a connection to 10.0.0.`number` with these pairs of networks."""
    text = without(without(CONNECTION, "net_0"), "net_1")
    remote = f"{local.rpartition('.')[0]}.{number}"
    keys = {"name": f"peer{number}", "ip_local": local, "ip_remote": remote, "status": status, "local_port": port}
    text = changed(text, "connection", network_count=str(len(networks)), **keys)
    for index, (source, destination) in enumerate(networks):
        text += f"\n[net_{index}]\nip_ver = 4\nsrc_addr = {source}\ndst_addr = {destination}\n"
    return text


def errors(directory: Path, interface: str, *texts: str) -> list[str]:
    write(directory, interface, {f"{name}.conf": text for name, text in zip("abc", texts, strict=False)})
    try:
        load_directory(directory)
    except ConfigurationErrors as error:
        return [str(problem) for problem in error.problems]
    return []


EVERYTHING = ("192.168.1.0/24", "0.0.0.0/0")
BRANCH = ("192.168.1.0/24", "192.168.2.0/24")


def test_equal_destinations_are_an_error_that_names_both_files(tmp_path: Path) -> None:
    """The error has line, section, key and value of one file, and says what to do."""
    (only,) = errors(tmp_path, INTERFACE, peer(3, EVERYTHING), peer(4, BRANCH, EVERYTHING))
    assert only.startswith(f"{tmp_path}/connections/b.conf:")
    assert "[net_1] dst_addr = '0.0.0.0/0': is behind the peer of" in only
    assert f"{tmp_path}/connections/a.conf" in only and "longer prefix" in only


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (peer(3, EVERYTHING), peer(4, BRANCH)),
        (peer(3, EVERYTHING), peer(4, ("192.168.9.0/24", "0.0.0.0/0"))),
        (peer(3, EVERYTHING), peer(4, EVERYTHING, status="255")),
        (peer(3, EVERYTHING, EVERYTHING), peer(4, ("192.168.1.0/24", "0.0.0.0/1"))),
        (peer(3, ("192.168.1.0/24", "224.0.0.0/4")), peer(4, ("192.168.1.0/24", "224.0.0.0/4"))),
        (peer(3, ("192.168.1.0/24", "10.0.0.4/32")), peer(4, EVERYTHING)),
    ],
    ids=["longer prefix", "other source", "one is down", "halves", "multicast", "the peer's own address"],
)
def test_what_is_clear_is_no_error(one: str, other: str, tmp_path: Path) -> None:
    """The more specific wins, a source can tell them apart, and multicast goes to all."""
    assert errors(tmp_path, INTERFACE, one, other) == []


def test_sources_tell_peers_apart_with_a_warning(tmp_path: Path) -> None:
    """They do not for what this host itself sends."""
    other = peer(4, ("192.168.9.0/24", "0.0.0.0/0"))
    write(tmp_path, INTERFACE, {"a.conf": peer(3, EVERYTHING), "b.conf": other})
    (warning,) = load_directory(tmp_path).warnings
    assert "b.conf:" in warning and "a.conf too: only src_addr tells them apart" in warning


def test_sources_that_overlap_do_not_tell_peers_apart(tmp_path: Path) -> None:
    """A packet from the smaller one could go to either."""
    smaller = ("192.168.1.0/25", "0.0.0.0/0")
    assert len(errors(tmp_path, INTERFACE, peer(3, EVERYTHING), peer(4, smaller))) == 1


def test_each_tunnel_is_by_itself(tmp_path: Path) -> None:
    """The routing table decides between them."""
    two = changed(INTERFACE, "general", tunnel_num="2") + "[tun_1]\nname = tun1\nipv4_addr = 10.9.0.2/24\n"
    assert errors(tmp_path, two, peer(3, EVERYTHING), peer(4, EVERYTHING, local="10.9.0.2", port="2")) == []


def test_one_file_is_checked_against_what_runs(tmp_path: Path) -> None:
    """A reload of one file finds it, too."""
    write(tmp_path, INTERFACE, {"a.conf": peer(3, EVERYTHING)})
    config = load_directory(tmp_path).config
    new = tmp_path / "connections" / "b.conf"
    new.write_text(peer(4, EVERYTHING))
    with pytest.raises(ConfigurationErrors, match=r"is behind the peer of .*a\.conf"):
        load_connection(new, config.general, config.tunnels, config.connections)
