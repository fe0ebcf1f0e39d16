"""The hello object: the JSON object that each end sends inside TLS before a session begins (session 2).

    {"mpt": 1, "tunnel": [own, peer's], "ciphers": [...], "paths": [{"id", "name", "weight_in", "cost"}], "mtu",
     "features": [...], "version"}

Unknown members are ignored, and so are ciphers that we do not have. Whatever the octets are, decoding raises nothing
but DecodeError.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from mpt.errors import DecodeError
from mpt.model import MAX_WEIGHT, Address
from mpt.wire.seal import PATH_IDS, Cipher

LARGEST: Final = 4096  # octets
VERSION: Final = 1
LONGEST_NAME: Final = 64  # characters of a path's name, a feature, the version
MOST_FEATURES: Final = 32
LARGEST_COST: Final = 1_000_000
LARGEST_MTU: Final = 65_535
ADAPTIVE: Final = "adaptive"  # a feature: reports are made and understood


@dataclass(frozen=True, slots=True)
class HelloPath:
    """One path: `weight_in` is the weight that the sender wishes in its direction, `cost` an index of model.COSTS,
    or more."""

    id: int
    name: str = ""
    weight_in: int = 1
    cost: int = 0


@dataclass(frozen=True, slots=True)
class Hello:
    """What one end tells the other; `tunnel` is the sender's own tunnel address and its peer's; `mtu` 0: not told."""

    tunnel: tuple[Address, Address]
    ciphers: tuple[Cipher, ...]
    paths: tuple[HelloPath, ...] = ()
    mtu: int = 0
    features: tuple[str, ...] = ()
    version: str = ""

    def encode(self) -> bytes:
        """Return the JSON text. Raises ValueError if it is longer than LARGEST."""
        value = {
            "mpt": VERSION,
            "tunnel": [str(address) for address in self.tunnel],
            "ciphers": [cipher.value for cipher in self.ciphers],
            "paths": [
                {"id": path.id, "name": path.name, "weight_in": path.weight_in, "cost": path.cost}
                for path in self.paths
            ],
            "mtu": self.mtu,
            "features": list(self.features),
            "version": self.version,
        }
        octets = json.dumps(value, separators=(",", ":")).encode()
        if len(octets) > LARGEST:
            raise ValueError(f"a hello object of {len(octets)} octets")
        return octets


def decode_hello(octets: bytes) -> Hello:
    """Return the object in `octets`. Raises DecodeError with one of the reasons hello_long, hello_json, hello_version,
    hello_tunnel, hello_ciphers, hello_paths, hello_member."""
    if len(octets) > LARGEST:
        raise DecodeError("hello_long", f"{len(octets)} octets")
    try:
        value = json.loads(octets)
    except (ValueError, RecursionError):
        raise DecodeError("hello_json") from None
    if not isinstance(value, dict):
        raise DecodeError("hello_json", "no object")
    if value.get("mpt") != VERSION:
        raise DecodeError("hello_version")
    ciphers = _texts(value.get("ciphers"), "hello_ciphers")
    return Hello(
        tunnel=_tunnel(value.get("tunnel")),
        ciphers=tuple(Cipher(name) for name in dict.fromkeys(ciphers) if name in Cipher.__members__.values()),
        paths=_paths(value.get("paths", [])),
        mtu=_number(value.get("mtu", 0), 0, LARGEST_MTU, "hello_member"),
        features=_texts(value.get("features", []), "hello_member"),
        version=_text(value.get("version", ""), "hello_member"),
    )


def _tunnel(value: Any) -> tuple[Address, Address]:
    texts = _texts(value, "hello_tunnel")
    try:
        own, peer = (ip_address(text) for text in texts)
    except ValueError:
        raise DecodeError("hello_tunnel") from None
    if own.version != peer.version or own == peer:
        raise DecodeError("hello_tunnel", "no pair")
    return own, peer


def _paths(value: Any) -> tuple[HelloPath, ...]:
    reason = "hello_paths"
    if not isinstance(value, list) or len(value) > PATH_IDS or not all(isinstance(path, dict) for path in value):
        raise DecodeError(reason)
    paths = tuple(
        HelloPath(
            id=_number(path.get("id"), 0, PATH_IDS - 1, reason),
            name=_text(path.get("name", ""), reason),
            weight_in=_number(path.get("weight_in", 1), 1, MAX_WEIGHT, reason),
            cost=_number(path.get("cost", 0), 0, LARGEST_COST, reason),
        )
        for path in value
    )
    if len({path.id for path in paths}) < len(paths):
        raise DecodeError(reason, "an id twice")
    return paths


def _texts(value: Any, reason: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST_FEATURES:
        raise DecodeError(reason)
    return tuple(_text(each, reason) for each in value)


def _text(value: Any, reason: str) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_NAME or not value.isprintable():
        raise DecodeError(reason)
    return value


def _number(value: Any, least: int, most: int, reason: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise DecodeError(reason)
    return value
