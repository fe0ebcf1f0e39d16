"""The name servers of resolv.conf."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from mpt.host.resolvers import name_servers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"nameserver 192.0.2.53\n", ["192.0.2.53"]),
        (b"search example\nnameserver  2001:db8::53\nnameserver 127.0.0.53 # local\n", ["2001:db8::53", "127.0.0.53"]),
        (b"# nameserver 192.0.2.1\nnameserver nonsense\nnameserver\n\xff\n", []),
        (b"nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n", 3),
        (b"nameserver fe80::1%eth0\n", ["fe80::1%eth0"]),
        (b"", []),
    ],
)
def test_the_name_servers_are_read(tmp_path: Path, text: bytes, expected: list[str] | int) -> None:
    """In their order, three at most; whatever else the file has is ignored."""
    file = tmp_path / "resolv.conf"
    file.write_bytes(text)
    found = name_servers(file)
    if isinstance(expected, int):
        assert len(found) == expected
    else:
        assert list(found) == [ip_address(each) for each in expected]


def test_a_host_without_the_file_has_none(tmp_path: Path) -> None:
    """Nothing is raised."""
    assert name_servers(tmp_path / "none") == ()
    assert name_servers(tmp_path) == ()
