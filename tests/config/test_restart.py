"""Keys that a reload cannot take: every key of interface.conf that needs a new start is found by its change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mpt.config import schema
from mpt.config.directory import load_directory
from mpt.model import Config
from tests.config.files import INTERFACE, OTHER, changed, write

SECOND_TUNNEL = "\n[tun_1]\nname = tun1\nipv4_addr = 10.9.0.2/24\n"

INTERFACE_KEYS = [place for place in OTHER if place[0] in ("general", "tun_0")]


def config(directory: Path, interface: str) -> Config:
    return load_directory(write(directory, interface)).config


def keys(kind: str, reload: bool) -> set[str]:
    return {key.name for key in schema.SECTIONS[kind] if key.reload is reload}


@pytest.mark.parametrize(
    ("place", "value"),
    [pytest.param(*each, id="-".join(each[0])) for each in OTHER.items() if each[0] in INTERFACE_KEYS],
)
def test_a_changed_key_needs_a_new_start_or_a_reload_takes_it(place: Any, value: str, tmp_path: Path) -> None:
    """As the schema says of the key; it is named with its section."""
    section, key = place
    old, new = config(tmp_path, INTERFACE), config(tmp_path, changed(INTERFACE, section, **{key: value}))
    assert old != new
    fixed = key in keys("general" if section == "general" else "tun_n", reload=False)
    assert schema.needs_restart(old, new) == ((f"[{section}] {key}",) if fixed else ())
    assert schema.needs_restart(new, new) == ()


def test_every_key_of_the_interface_file_is_tried() -> None:
    """tunnel_num is tried with its second tunnel."""
    every = {
        ("general" if kind == "general" else "tun_0", key.name)
        for kind in schema.INTERFACE_SECTIONS
        for key in schema.SECTIONS[kind]
    }
    assert every - OTHER.keys() == {("general", "tunnel_num")}


def test_a_tunnel_that_comes_or_goes_needs_a_new_start(tmp_path: Path) -> None:
    """It is named, and so is tunnel_num, which counts it."""
    one = config(tmp_path, INTERFACE)
    two = config(tmp_path, changed(INTERFACE, "general", tunnel_num="2") + SECOND_TUNNEL)
    assert schema.needs_restart(one, two) == schema.needs_restart(two, one) == ("[general] tunnel_num", "[tun_1]")


def test_a_reload_takes_every_key_of_a_connection() -> None:
    """A connection that has changed is started anew."""
    for kind in schema.CONNECTION_SECTIONS:
        assert keys(kind, reload=False) == set()
