"""The join text: one line by which a server tells a new client everything that it needs, and no secret.

    mpt1:NDAoIeyJjbGllbnQiOiJsYXB0b3AiLCJrZXkiOiJLYXk2…

After the version: base64 (RFC 4648 section 5, without padding) of a check, 4 octets, and a JSON object. Whoever gets
such a text may have it from anybody: all of it is checked as if it stood in a configuration file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from mpt import values
from mpt.errors import ConfigError
from mpt.model import Address, InterfaceAddress, Network, key_text

PREFIX: Final = "mpt1:"
MAX_TEXT: Final = 4096  # characters; the longest that `encode` makes has some 2000
SHORTEST_PREFIX: Final = {4: 8, 6: 32}  # of a tunnel: a shorter one would take too much of the Internet with it

_VERSION = re.compile(r"mpt([0-9]{1,4}):")
_CHECK = 4  # octets
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class JoinText:
    """What a server tells its client: the names and addresses of the server, its UDP port and public key, the tunnel
    addresses of both, the name that the server has given to the client, and the client's networks."""

    client: str
    servers: tuple[Address | str, ...]
    port: int
    server_key: bytes
    own: InterfaceAddress  # the client's tunnel address, with the prefix of the tunnel
    peer: Address  # the server's tunnel address
    networks: tuple[Network, ...] = ()

    def encode(self) -> str:
        """Return the text."""
        content = {
            "client": self.client,
            "servers": [str(each) for each in self.servers],
            "port": self.port,
            "key": key_text(self.server_key),
            "own": str(self.own),
            "peer": str(self.peer),
            **({"networks": [str(each) for each in self.networks]} if self.networks else {}),
        }
        octets = json.dumps(content, separators=(",", ":")).encode()
        return _text(_check(octets) + octets)


def client_name(text: str) -> str:
    """Return the name of a client. It is short and plain, for people copy it into commands. Raises ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError("1 to 64 letters, digits and . _ -, and begin with a letter or digit")
    return text


def decode(text: str) -> JoinText:
    """Return what a join text says. Raises ConfigError, whose text is one line for people."""
    if len(text) > MAX_TEXT:
        raise ConfigError(f"the join text is too long: copy the one word that begins with {PREFIX}")
    version = _VERSION.match(text)
    if version is None:
        raise ConfigError(f"that is no join text: it begins with {PREFIX}, as `mpt client add` prints it on the server")
    if version[0] != PREFIX:
        raise ConfigError(f"the join text is of version {int(version[1])}, this mpt knows version 1: update mpt here")
    try:
        body = text[len(PREFIX) :].encode("ascii")
        octets = base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4))
    except (binascii.Error, ValueError):
        octets = b""
    if text != _text(octets):  # Python leaves out characters that do not belong there, and the last bits
        octets = b""
    content = octets[_CHECK:]
    if not content or octets[:_CHECK] != _check(content):
        raise ConfigError("the join text is damaged: copy the whole line, from mpt1: to its end")
    try:
        return _join_text(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the join text is wrong: {error}") from None


def _text(octets: bytes) -> str:
    return PREFIX + base64.urlsafe_b64encode(octets).decode().rstrip("=")


def _check(octets: bytes) -> bytes:
    return hashlib.blake2s(octets, digest_size=_CHECK, person=b"mptjoin1").digest()


def _join_text(content: Any) -> JoinText:
    """Return the content of a join text, every value of which is checked. Raises ValueError."""
    if not isinstance(content, dict):
        raise ValueError("it has no object")
    servers = _read(content, "servers", lambda text: values.remotes(text))
    if not servers:
        raise ValueError("servers must name the server")
    own = _read(content, "own", values.interface_address)
    peer = _read(content, "peer", values.address)
    if peer.version != own.version or peer not in own.network or peer == own.ip:
        raise ValueError(f"peer must be another address of {own.network}")
    if own.network.prefixlen < SHORTEST_PREFIX[own.version]:
        raise ValueError(f"own must have a prefix of at least /{SHORTEST_PREFIX[own.version]}")
    port = content.get("port")
    if type(port) is not int or not 1 <= port <= 65534:
        raise ValueError("port must be a number from 1 to 65534")
    return JoinText(
        client=_read(content, "client", client_name),
        servers=servers,
        port=port,
        server_key=_read(content, "key", values.public_key),
        own=own,
        peer=peer,
        networks=_read(content, "networks", values.networks) if "networks" in content else (),
    )


def _read(content: dict[str, Any], key: str, read: Any) -> Any:
    """Return a value as `read` reads its text; the words of a list are joined by blanks. Raises ValueError."""
    found = content.get(key)
    words: list[Any] = found if isinstance(found, list) else [found]
    if not all(isinstance(word, str) and word and not re.search(r"\s", word) for word in words):
        raise ValueError(f"{key} must be text without white space")
    try:
        return read(" ".join(words))
    except ValueError as error:
        raise ValueError(f"{key} must be {error}") from None
