"""The text of a value to the typed value and back, for the configuration files and the commands.

A reading function takes text and returns the typed value. It raises ``ValueError``, whose text completes "must be ...",
so error messages and documentation say the same. A value is read back from its `text_of` as the same value.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from mpt.model import (
    CIPHERS,
    MAX_NAME,
    MAX_NETWORKS,
    MAX_PEER_KEYS,
    MAX_REMOTES,
    PERIODS,
    Address,
    AuthType,
    Network,
    Permission,
    Quota,
    Status,
    StatusPlace,
    key_text,
)

DEFAULT_PREFIX: Final = {4: 24, 6: 64}  # guide 4.1
PRIVATE: Final = "private_ipaddr"  # public_ipaddr may name this key instead of an address
AUTO: Final = "auto"  # mtu may be this word instead of a number

T = TypeVar("T")

_WHOLE_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}")
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20}")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")

_NUMBER_AT_END = re.compile(r"(?:.*\.)?[0-9]+\.?")  # of a host name: an address that is none
_WEAK_KEYS = {  # points of small order: anybody can sign for them (RFC 8032 section 5.1, y without the sign of x)
    0,
    1,
    2**255 - 20,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
}

_DSCP_NAMES = {  # RFC 4594; VOICE-ADMIT: RFC 5865; LE: RFC 8622
    **{f"cs{number}": number << 3 for number in range(8)},
    **{f"af{major}{minor}": major << 3 | minor << 1 for major in range(1, 5) for minor in range(1, 4)},
    "ef": 46, "va": 44, "le": 1,
}  # fmt: skip
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
_UNITS = {"tb": 10**12, "gb": 10**9, "mb": 10**6}  # octets, the largest first
_QUOTA = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,6})?)\s*([kmgt]b)\s*/\s*([a-z]+)")
_MOST = 1000 * 10**12  # octets of a quota
_STATUS_WORDS = {"up": Status.OK, "down": Status.DOWN}
_FLAG_WORDS = {"1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False}


def text_of(value: object) -> str:
    """Return `value` as the files have it: a flag as 0 or 1, a state as its number, seconds without needless digits.

    Ports are separated by blanks, runs of three and more are ranges. Raises TypeError for None, which has no text.
    """
    match value:
        case None:
            raise TypeError("a value that is not there has no text")
        case bool() | enum.IntEnum() | enum.IntFlag():
            return str(int(value))
        case float():
            return str(int(value)) if value == int(value) else repr(value)
        case frozenset():
            return _ports_text(value)
        case tuple():
            return " ".join(map(text_of, value))
        case bytes():
            return key_text(value)
    return str(value)


def listed(words: Iterable[str]) -> str:
    """Return `words` as a sentence has them: "auto, python or native"."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


# ---- numbers and words ----------------------------------------------------------------------------------------------


def whole_number(text: str) -> int:
    """Return a number, decimal or hexadecimal after 0x; a leading 0 does not make it octal, unlike in the C program."""
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError("a whole number")
    return int(text, 16) if text[:2] in ("0x", "0X") else int(text)


def integer(low: int, high: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `low` to `high`, both included."""

    def read(text: str) -> int:
        try:
            number = whole_number(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return read


def seconds(low: float, high: float, zero: str = "") -> Callable[[str], float]:
    """Return a reader of seconds from `low` to `high`; `zero`, if not empty, allows 0 too and says what it means."""

    def read(text: str) -> float:
        number = float(text) if _DECIMAL.fullmatch(text) else -1.0
        if not low <= number <= high and not (zero and number == 0):
            raise ValueError(f"seconds from {low:g} to {high:g}" + (f", or 0 for {zero}" if zero else ""))
        return number

    return read


def delay(default: int) -> Callable[[str], int]:
    """Return a reader of milliseconds; 0 stands for the `default`, as it does for the C program."""

    def read(text: str) -> int:
        try:
            return integer(0, 60_000)(text) or default
        except ValueError:
            raise ValueError(f"milliseconds from 1 to 60000, or 0 for the default of {default}") from None

    return read


def delay_budget(text: str) -> int:
    """Return milliseconds by which one path may be slower than another."""
    try:
        return integer(1, 1000)(text)
    except ValueError:
        raise ValueError("milliseconds from 1 to 1000") from None


def per_cent(text: str) -> int:
    """Return a share in per cent; 0 stands for no limit."""
    try:
        return integer(0, 100)(text)
    except ValueError:
        raise ValueError("per cent, a whole number from 1 to 100, or 0 for never") from None


class Words(Generic[T]):
    """A reader of one word of a few, in any case; `text` gives the word of a value."""

    def __init__(self, meanings: dict[str, T]) -> None:
        self._meanings = meanings

    def __call__(self, text: str) -> T:
        """Return the meaning of a word. Raises ValueError."""
        if text.lower() not in self._meanings:
            raise ValueError(listed(self._meanings))
        return self._meanings[text.lower()]

    def text(self, value: T) -> str:
        """Return the word that means `value`."""
        return next(word for word, meaning in self._meanings.items() if meaning == value)


def flag(text: str) -> bool:
    """Return whether `text` is 1 or a word for it; 0 has its words, too."""
    try:
        return _FLAG_WORDS[text.lower()]
    except KeyError:
        raise ValueError("0 or 1 (also no or yes, false or true, off or on)") from None


def ip_version(text: str) -> int:
    """Return the number of an IP version."""
    if text not in ("4", "6"):
        raise ValueError("4 or 6")
    return int(text)


def permission(text: str) -> Permission:
    """Return a permission: the sum of SEND and RECEIVE (guide table 2)."""
    try:
        return Permission(integer(0, 3)(text))
    except ValueError:
        raise ValueError("0 (none), 1 (SEND), 2 (RECEIVE) or 3 (both)") from None


def auth_type(text: str) -> AuthType:
    """Return a type of authentication (guide table 3)."""
    try:
        return AuthType(whole_number(text))
    except ValueError:
        raise ValueError("0 (none), 1 (random number) or 2 (SHA-256)") from None


def status(text: str) -> Status:
    """Return a state from its number in the guide or the C program, or its word in the draft."""
    try:
        return _STATUS_WORDS[text.lower()] if text.lower() in _STATUS_WORDS else Status(whole_number(text))
    except ValueError:
        raise ValueError(
            "0 or up, 128 or down, 129 (interface down), 130 (address down), 131 (manual down) or 255 (disabled)"
        ) from None


def mtu(text: str) -> int | str:
    """Return a packet size in octets, or the word auto."""
    if text.lower() == AUTO:
        return AUTO
    try:
        return integer(576, 65535)(text)
    except ValueError as error:
        raise ValueError(f"{error}, or the word {AUTO}") from None


def dscp(text: str) -> int | None:
    """Return a differentiated services code point, from its number or name; None: the packet's."""
    word = text.lower()
    if word == "copy":
        return None
    try:
        return _DSCP_NAMES[word] if word in _DSCP_NAMES else integer(0, 63)(text)
    except ValueError:
        raise ValueError("copy, a number from 0 to 63, or its name such as EF, AF41 or CS1") from None


def dscp_text(value: int | None) -> str:
    """Return a differentiated services code point as `dscp` reads it."""
    return "copy" if value is None else str(value)


def dscps(text: str) -> frozenset[int]:
    """Return the differentiated services code points of a list."""
    try:
        found = frozenset(map(dscp, text.split()))
    except ValueError:
        found = frozenset({None})
    if not found or None in found:
        raise ValueError("numbers from 0 to 63, or names such as EF, AF41 or CS1, with blanks between")
    return frozenset(each for each in found if each is not None)


def dscps_text(found: Iterable[int]) -> str:
    """Return differentiated services code points as `dscps` reads them."""
    return " ".join(map(str, sorted(found)))


def protocol(text: str) -> int:
    """Return the number of an IP protocol, from its number or name."""
    word = text.lower()
    try:
        return _PROTOCOLS[word] if word in _PROTOCOLS else integer(0, 255)(text)
    except ValueError:
        raise ValueError(f"{', '.join(_PROTOCOLS)} or a number from 0 to 255") from None


def protocol_text(number: int) -> str:
    """Return an IP protocol as `protocol` reads it."""
    return next((word for word, known in _PROTOCOLS.items() if known == number), str(number))


def quota(text: str) -> Quota:
    """Return an amount of data for each day, week or month, a whole number of octets."""
    match = _QUOTA.fullmatch(text.lower())
    octets = Decimal(match[1]) * _UNITS.get(match[2], 0) if match else Decimal(0)
    if match is None or match[3] not in PERIODS or not 10**6 <= octets <= _MOST or octets != int(octets):
        raise ValueError(f"1 MB to 1000 TB in a {listed(PERIODS)}, such as 20 GB/month or 1.5 GB/day")
    return Quota(int(octets), match[3])


def quota_text(value: Quota) -> str:
    """Return a quota as `quota` reads it."""
    unit = next(name for name, size in _UNITS.items() if value.octets >= size)
    amount = (Decimal(value.octets) / _UNITS[unit]).normalize()
    return f"{amount:f} {unit.upper()}/{value.period}"


def ciphers(text: str) -> tuple[str, ...]:
    """Return the ciphers of a list, each once, the best first."""
    words = tuple(text.lower().split())
    if not set(words) <= set(CIPHERS) or len(set(words)) != len(words):
        raise ValueError(f"some of {' '.join(CIPHERS)}, each once, with blanks between, the best first")
    return words


def secret(text: str) -> str:
    """Return key material; the section's check compares it with the authentication type."""
    if not text.isascii() or not text.isprintable():
        raise ValueError("printable ASCII characters: 64 hexadecimal digits for auth_type = 2")
    return text


# ---- public keys ----------------------------------------------------------------------------------------------------


def public_key(text: str) -> bytes:
    """Return the 32 octets of a public key (session 1)."""
    allowed = "a public key as `mpt pubkey` prints it: 44 characters of base64"
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != 32 or key_text(found) != text:
        raise ValueError(allowed)
    if int.from_bytes(found, "little") % 2**255 % (2**255 - 19) in _WEAK_KEYS:
        raise ValueError(f"{allowed}; this one is a key for which anybody can sign")
    return found


def public_keys(text: str) -> tuple[bytes, ...]:
    """Return the public keys of a list, each once."""
    words = text.split()
    try:
        keys = tuple(dict.fromkeys(map(public_key, words)))
    except ValueError as error:
        raise ValueError(f"{error}; two, with a blank between, while one is being replaced") from None
    if not 1 <= len(keys) <= MAX_PEER_KEYS:
        raise ValueError(f"one public key, or {MAX_PEER_KEYS} while one is being replaced")
    return keys


# ---- names ----------------------------------------------------------------------------------------------------------


def word(text: str) -> str:
    """Return a name for commands and tables: it has no white space."""
    if not 1 <= len(text) <= MAX_NAME or not text.isprintable() or any(map(str.isspace, text)):
        raise ValueError(f"one word of at most {MAX_NAME} characters, without white space")
    return text


def interface_name(text: str) -> str:
    """Return a name that Linux takes for a network interface, and takes literally: it has no %."""
    if not 1 <= len(text.encode()) <= 15 or text in (".", "..") or re.search(r"[\s/:%\0]", text):
        raise ValueError("an interface name of 1 to 15 bytes, without white space, '/', ':' and '%'")
    return text


def host_name(text: str) -> str:
    """Return a DNS name."""
    if not _HOST_NAME.fullmatch(text):
        raise ValueError("a DNS name such as myip.opendns.com")
    return text


def file_path(text: str) -> Path:
    """Return the path of a file."""
    if not text.isprintable() or len(text.encode()) > 4095:
        raise ValueError("the path of a file; one that is not absolute begins at the configuration directory")
    return Path(text)


def socket_path(text: str) -> str:
    """Return the path of a unix socket; the kernel takes 107 octets at most."""
    if not text.startswith("/") or len(text.encode()) > 107:
        raise ValueError("an absolute path of at most 107 octets such as /run/mpt/mpt.sock")
    return text


def status_place(text: str) -> StatusPlace:
    """Return where the status port listens: an address with a port, or a unix socket."""
    allowed = "an address and a port such as 127.0.0.1:9400 or [::1]:9400, or unix:/run/mpt/status.sock"
    if text.startswith("unix:"):
        try:
            return StatusPlace(IPv4Address(0), 0, socket_path(text.removeprefix("unix:")))
        except ValueError:
            raise ValueError(allowed) from None
    host, _, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    try:
        found = ip_address(host[1:-1] if is_bracketed else host)
    except ValueError:
        raise ValueError(allowed) from None
    is_port = port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536
    if not is_port or (found.version == 6) is not is_bracketed or found.is_multicast:
        raise ValueError(allowed)
    return StatusPlace(found, int(port))


# ---- addresses ------------------------------------------------------------------------------------------------------


def _plain_address(text: str, allowed: str) -> Address:
    """Return an address without a zone: no multicast, no IPv4 address mapped into IPv6."""
    try:
        found = ip_address(text)
    except ValueError:
        found = None
    if found is None or found.is_multicast:
        raise ValueError(allowed)
    if isinstance(found, IPv6Address) and (found.scope_id or found.ipv4_mapped):
        raise ValueError(allowed)
    return found


def address(text: str) -> Address:
    """Return the address of one host."""
    allowed = "an IPv4 or IPv6 address such as 10.1.1.3 or 2001:db8::3"
    found = _plain_address(text, allowed)
    if found.is_unspecified:
        raise ValueError(allowed)
    return found


def address_or_any(text: str) -> Address:
    """Return an address; 0.0.0.0 and :: both mean "find it out"."""
    return _plain_address(text, "an IPv4 or IPv6 address such as 10.1.1.2 or 2001:db8::2, or 0.0.0.0 for: find it out")


def remote_address(text: str) -> Address:
    """Return the peer's address; 0.0.0.0 is for a peer that is not known yet."""
    try:
        return address_or_any(text)
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address such as 10.1.1.3 or 2001:db8::3") from None


def remotes(text: str) -> tuple[Address | str, ...]:
    """Return the peer's addresses and DNS names, each once, addresses first; none for 0.0.0.0."""
    allowed = (
        f"1 to {MAX_REMOTES} addresses or DNS names such as 192.0.2.1 2001:db8::3 vpn.example, with blanks between"
    )
    addresses: list[Address | str] = []
    names: list[Address | str] = []
    words = text.split()
    for word in words:
        try:
            addresses.append(address_or_any(word))
        except ValueError:
            if not _HOST_NAME.fullmatch(word) or _NUMBER_AT_END.fullmatch(word):
                raise ValueError(allowed) from None
            names.append(word.lower())
    found = tuple(dict.fromkeys([*addresses, *names]))
    known = tuple(each for each in found if isinstance(each, str) or not each.is_unspecified)
    if not 1 <= len(found) <= MAX_REMOTES or (known != found and known):
        raise ValueError(allowed)
    return known


def public_address(text: str) -> Address | str:
    """Return an address, 0.0.0.0, or the name of the key private_ipaddr."""
    if text.lower() == PRIVATE:
        return PRIVATE
    try:
        return address_or_any(text)
    except ValueError as error:
        raise ValueError(f"{error}, or the word {PRIVATE}") from None


def interface_address(text: str) -> IPv4Interface | IPv6Interface:
    """Return the address of an interface with the length of its prefix; the default length is the guide's (4.1)."""
    plain, slash, length = text.partition("/")
    host = address(plain)
    found = ip_interface(f"{host}/{length if slash else DEFAULT_PREFIX[host.version]}")
    if found.network.prefixlen == 0:
        raise ValueError("an address with the length of its prefix, which is at least 1")
    return found


def ipv4_interface(text: str) -> IPv4Interface:
    """Return an IPv4 address with its prefix length."""
    return _interface_of(IPv4Interface, text, "an IPv4 address with its prefix length, such as 10.0.0.2/24")


def ipv6_interface(text: str) -> IPv6Interface:
    """Return an IPv6 address with its prefix length."""
    return _interface_of(IPv6Interface, text, "an IPv6 address with its prefix length, such as fd00::2/64")


def _interface_of(family: type[T], text: str, allowed: str) -> T:
    try:
        found = interface_address(text)
    except ValueError:
        found = None
    if not isinstance(found, family):
        raise ValueError(allowed)
    return found


def network(text: str) -> IPv4Interface | IPv6Interface:
    """Return a network, multicast too; it keeps its host bits, so that a warning can name them."""
    allowed = "a network with its prefix length, such as 192.168.1.0/24, fd00:1::/64 or 0.0.0.0/0"
    try:
        found = ip_interface(text) if "/" in text and "%" not in text else None
    except ValueError:
        found = None
    if found is None:
        raise ValueError(allowed)
    return found


def networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a list, each once."""
    allowed = f"1 to {MAX_NETWORKS} networks such as 192.168.7.0/24 fd00:7::/64, with blanks between, without host bits"
    words = text.split()
    try:
        found = tuple(dict.fromkeys(map(ip_network, words)))
    except ValueError:
        found = ()
    if not 1 <= len(found) <= MAX_NETWORKS or any("/" not in word or "%" in word for word in words):
        raise ValueError(allowed)
    if any(each.is_multicast for each in found):
        raise ValueError(allowed)
    return found


# ---- ports ----------------------------------------------------------------------------------------------------------


def ports(text: str) -> frozenset[int]:
    """Return the ports of a list, separated by spaces, commas or colons (draft section 5.2); ranges are ours."""
    found: set[int] = set()
    size = 0  # bounds the time for a list that names the same ports again and again
    for item in re.split(r"[\s,:]+", text.strip(" \t,:")):
        match = _PORTS.fullmatch(item)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        size += last - first + 1
        if not 1 <= first <= last <= 65535 or size > 65535:
            raise ValueError("ports from 1 to 65535, such as 80 443 or 8000-8010")
        found.update(range(first, last + 1))
    return frozenset(found)


def port_ranges(found: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return ports as ranges (first, last), in their order; neighbours are one range."""
    runs: list[tuple[int, int]] = []
    for port in sorted(found):
        if runs and port == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], port
        else:
            runs.append((port, port))
    return tuple(runs)


def _ports_text(found: Iterable[Any]) -> str:
    parts = (
        f"{first}-{last}" if last - first > 1 else f"{first}" if first == last else f"{first} {last}"
        for first, last in port_ranges(found)
    )
    return " ".join(parts)
