"""The join text: what a server says is what its client reads; whatever else comes is one line of error."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.config.jointext import MAX_TEXT, PREFIX, JoinText, client_name, decode
from mpt.errors import ConfigError
from mpt.values import public_key
from tests.config.files import PEER_KEY

TEXT = JoinText(
    client="laptop",
    servers=(ip_address("192.0.2.10"), ip_address("2001:db8::10"), "vpn.example"),
    port=4754,
    server_key=public_key(PEER_KEY),
    own=ip_interface("10.77.0.2/24"),
    peer=ip_address("10.77.0.1"),
    networks=(ip_network("192.168.7.0/24"), ip_network("fd00:7::/64")),
)
CONTENT = {
    "client": "laptop",
    "servers": ["192.0.2.10"],
    "port": 4754,
    "key": PEER_KEY,
    "own": "10.77.0.2/24",
    "peer": "10.77.0.1",
}


def text_of(content: Any, prefix: str = PREFIX) -> str:
    """Return a join text with a right check, whatever its content is."""
    octets = content if isinstance(content, bytes) else json.dumps(content).encode()
    check = hashlib.blake2s(octets, digest_size=4, person=b"mptjoin1").digest()
    return prefix + base64.urlsafe_b64encode(check + octets).decode().rstrip("=")


def error(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        decode(text)
    said = str(caught.value)
    assert said and "\n" not in said and said.isprintable() and len(said) < 300
    return said


def test_what_is_said_is_what_is_read() -> None:
    """In one word, which a shell takes as it is."""
    text = TEXT.encode()
    assert decode(text) == TEXT
    assert text.startswith("mpt1:") and set(text[5:]) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    )
    assert decode(replace(TEXT, networks=()).encode()).networks == ()


def test_the_format_stays() -> None:
    """A text of today is read by every later version."""
    text = (
        "mpt1:P4HCEHsiY2xpZW50IjoibGFwdG9wIiwic2VydmVycyI6WyIxOTIuMC4yLjEwIl0sInBvcnQiOjQ3NTQsImtleSI6IktheTY0VUc4eXZD"
        "eUxocVUwMDBMeHpZZVVtMEwvaExJbDVTOGt5S1diZGM9Iiwib3duIjoiMTAuNzcuMC4yLzI0IiwicGVlciI6IjEwLjc3LjAuMSJ9"
    )
    assert decode(text) == replace(TEXT, servers=TEXT.servers[:1], networks=())


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: text[:40], lambda text: text + "A"])
def test_a_damaged_text_is_told(change: Any) -> None:
    """Cut, or too long."""
    assert "damaged: copy the whole line" in error(change(TEXT.encode()))


@given(place=st.integers(5, len(TEXT.encode()) - 1), character=st.characters())
def test_no_changed_character_is_taken(place: int, character: str) -> None:
    """The check sees it."""
    text = TEXT.encode()
    changed = text[:place] + character + text[place + 1 :]
    if changed != text:
        error(changed)


def test_one_content_has_one_text() -> None:
    """The last bits of a text say nothing, and + would be read as -: neither may be changed."""
    text = next(text for n in range(1000) if "-" in (text := replace(TEXT, client=f"laptop-{n:03}").encode()))
    assert "damaged" in error(text.replace("-", "+"))
    assert "damaged" in error(text[:-1] + chr(ord(text[-1]) + 1))


def test_other_texts_are_told() -> None:
    """Another version, another thing, too much of it."""
    assert "is of version 2" in error(TEXT.encode().replace("mpt1", "mpt2"))
    assert "that is no join text" in error(PEER_KEY)
    assert "that is no join text" in error("")
    assert "too long" in error(PREFIX + "A" * MAX_TEXT)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("client", "a;reboot"),
        ("client", "-x"),
        ("client", ""),
        ("client", "a b"),
        ("client", "x" * 65),
        ("client", ["a", "b"]),
        ("client", None),
        ("servers", []),
        ("servers", ["0.0.0.0"]),
        ("servers", ["192.0.2.1 192.0.2.2"]),
        ("servers", ["a/../../b"]),
        ("servers", ["vpn.example\nremote_port=1"]),
        ("servers", "$(reboot)"),
        ("servers", [f"192.0.2.{number}" for number in range(9)]),
        ("servers", {"a": 1}),
        ("servers", [None]),
        ("port", 0),
        ("port", 65535),
        ("port", "4754"),
        ("port", True),
        ("port", 4754.0),
        ("key", PEER_KEY[:-1]),
        ("key", "A" * 43 + "="),
        ("key", [PEER_KEY, PEER_KEY]),
        ("own", "10.77.0.2/0"),
        ("own", "10.77.0.2/7"),
        ("own", "224.0.0.2/24"),
        ("own", "10.77.0.1/24"),
        ("own", "10.78.0.2/24"),
        ("own", 5),
        ("peer", "10.77.1.1"),
        ("peer", "fd00::1"),
        ("peer", "0.0.0.0"),
        ("networks", ["192.168.7.1/24"]),
        ("networks", []),
        ("networks", "0"),
    ],
)
def test_a_bad_value_is_one_line_that_names_it(key: str, value: Any) -> None:
    """Nothing of it gets into a file or a command."""
    assert decode(text_of(CONTENT)).client == "laptop"
    assert "the join text is wrong: " in error(text_of({**CONTENT, key: value}))


@pytest.mark.parametrize("key", CONTENT)
def test_a_missing_value_is_one_line(key: str) -> None:
    """Each of them is needed; what is unknown is not."""
    assert key in error(text_of({name: value for name, value in CONTENT.items() if name != key}))
    assert decode(text_of({**CONTENT, "later": {"a": [1]}})) == decode(text_of(CONTENT))


@pytest.mark.parametrize("content", [[], 1, None, "x", b"", b"{", b"\xff", b"[" * 2900, b"1e999", b"1" * 2900])
def test_no_object_is_one_line(content: Any) -> None:
    """Nor is one that is too deep, or a number that is too long."""
    error(text_of(content))


@given(st.text(max_size=200) | st.binary(max_size=200).map(text_of))
def test_any_text_is_read_or_told(text: str) -> None:
    """No other exception gets out."""
    try:
        decode(text)
    except ConfigError as caught:
        assert "\n" not in str(caught)


NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", fullmatch=True)
HOSTS = st.from_regex(r"[a-z][a-z0-9]{0,10}(\.[a-z][a-z0-9]{0,10}){0,3}", fullmatch=True)
ADDRESSES = st.ip_addresses().filter(
    lambda each: not (each.is_multicast or each.is_unspecified or getattr(each, "ipv4_mapped", None))
)


@given(
    client=NAMES,
    addresses=st.lists(ADDRESSES, max_size=4, unique=True),
    names=st.lists(HOSTS, min_size=1, max_size=4, unique=True),
    port=st.integers(1, 65534),
    own=st.integers(2, 250),
)
def test_any_join_text_is_read_back(client: str, addresses: list[Any], names: list[str], port: int, own: int) -> None:
    """And a name of a client is one."""
    text = replace(TEXT, client=client, servers=(*addresses, *names), port=port, own=ip_interface(f"10.77.0.{own}/24"))
    assert decode(text.encode()) == text
    assert client_name(client) == client
