"""Every combination of IP versions and of known and unknown addresses loads: one version for each path."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_ntop

import pytest

from mpt.config.directory import load_connection, load_directory
from mpt.config.writer import save
from mpt.model import Address, PathConfig
from tests.config.files import CONNECTION, CREATE_TEMPLATE, changed, write

ADDRESSES = {
    4: {
        "public_ipaddr": "10.2.2.2",
        "private_ipaddr": "10.2.2.9",
        "gw_ipaddr": "10.2.2.1",
        "remote_ipaddr": "10.2.2.3",
    },
    6: {
        "public_ipaddr": "2001:db8::2",
        "private_ipaddr": "2001:db8::9",
        "gw_ipaddr": "2001:db8::1",
        "remote_ipaddr": "2001:db8::3",
    },
}
UNKNOWN = ("0.0.0.0", "::")


def addresses(path: PathConfig) -> list[Address]:
    private = [path.private_ipaddr] if path.private_ipaddr is not None else []
    return [path.public_ipaddr, path.gateway_ipaddr, path.remote_ipaddr, *private]


@pytest.mark.parametrize(("inner", "outer"), [(4, 4), (4, 6), (6, 4), (6, 6)])
@pytest.mark.parametrize("unknown", UNKNOWN)
def test_all_addresses_of_a_path_are_of_its_version(inner: int, outer: int, unknown: str, tmp_path: Path) -> None:
    """Whichever of them are unknown, absent or named by a word; and they are saved and read back as they are."""
    head: dict[str, str | None] = {"remote_port": "0", "network_count": "0", "ip_ver": str(inner)}
    if inner == 6:
        head |= {"ip_local": "fec0::2", "ip_remote": "fec0::3"}
    text = changed(CONNECTION.partition("##### NETWORKS")[0], "connection", **head)
    known = ADDRESSES[outer]
    combinations = product(
        (known["public_ipaddr"], unknown, "private_ipaddr"),
        (known["private_ipaddr"], unknown),
        (known["gw_ipaddr"], unknown),
        (known["remote_ipaddr"], unknown, None),
    )
    for public, private, gateway, remote in combinations:
        keys = {"public_ipaddr": public, "private_ipaddr": private, "gw_ipaddr": gateway, "remote_ipaddr": remote}
        written = changed(text, "path_1", ip_ver=str(outer), **keys)
        (connection,) = load_directory(write(tmp_path, connections={"a.conf": written})).config.connections
        path = connection.paths[1]
        assert {address.version for address in addresses(path)} == {outer}
        for address in addresses(path):
            inet_ntop(AF_INET if outer == 4 else AF_INET6, address.packed)
        assert path.remote_ipaddr.is_unspecified is (remote in (unknown, None))
        assert connection.file is not None
        assert not save(connection.file, connection, [each.status for each in connection.paths], 60456)
        connection.file.unlink()
        save(connection.file, connection, [each.status for each in connection.paths], 60456)
        assert load_directory(tmp_path).config.connections == (connection,)


@pytest.mark.parametrize("version", [4, 6])
def test_a_template_has_a_peer_of_its_version(version: int, tmp_path: Path) -> None:
    """The peer that is not known yet, inside the tunnel and outside."""
    config = load_directory(write(tmp_path)).config
    own = "10.0.0.2" if version == 4 else "fec0::2"
    file = tmp_path / "connections" / "conf.template"
    text = changed(CREATE_TEMPLATE, "connection", ip_ver=str(version), ip_local=own)
    keys = {key: ADDRESSES[version][key] for key in ("public_ipaddr", "gw_ipaddr")}
    for section in ("path_0", "path_1"):
        text = changed(text, section, ip_ver=str(version), **keys)
    file.write_text(text)
    template, _ = load_connection(file, config.general, config.tunnels)
    assert template.ip_remote.is_unspecified and template.ip_remote.version == version
    assert {path.remote_ipaddr.version for path in template.paths} == {version}
