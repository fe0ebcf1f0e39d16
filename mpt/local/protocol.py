"""How programs of this host talk to the daemon: JSON lines on the unix socket, and the UDP text of the C program.

Unix socket, version 1 (docs/commands.md): every line is one JSON object, UTF-8, ended by a newline.

    request   {"mpt": 1, "id": 7, "command": ["path", "down", "10.1.1.2", "10.1.1.3"]}
    progress  {"id": 7, "progress": "telling the peer"}                             none, or several
    reply     {"id": 7, "ok": true, "code": 0, "text": "...", "data": {...}}        "data" only where there is some

UDP loopback, the C program's (guide 4): the first octet of a datagram is its kind, three zeros follow.

    request   A4 00 00 00 "path down 10.1.1.2 10.1.1.3" 00
    reply     A4 00 00 00 "CMD_OK:" text   or   A4 00 00 00 "CMD-ERROR:" text
    end       A5 00 00 00

Bad input raises DecodeError and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mpt.errors import DecodeError

VERSION: Final = 1
MAX_REQUEST_LINE: Final = 64 << 10  # octets; the daemon hangs up on a longer line
MAX_REPLY_LINE: Final = 16 << 20  # octets; the status of ten thousand paths fits
MAX_WORDS: Final = 16
MAX_ID: Final = 2**53  # beyond it not every program's JSON numbers are exact

# Codes of a reply: the exit status of `mpt`
DONE: Final = 0
FAILED: Final = 1
BAD_USAGE: Final = 2
NO_DAEMON: Final = 3
TIMED_OUT: Final = 4
NOT_PERMITTED: Final = 5

LOCAL_COMMAND: Final = 0xA4
LOCAL_END: Final = 0xA5
MAX_UDP_TEXT: Final = 60_000  # octets of a reply; UDP carries 65,507 at most
END: Final = bytes([LOCAL_END, 0, 0, 0])

NOT_PERMITTED_TEXT: Final = "not permitted"
"""How the text of a refusal begins: the UDP text has no other place for that code."""

_HEAD = bytes([LOCAL_COMMAND, 0, 0, 0])
_GOOD, _BAD = "CMD_OK:", "CMD-ERROR:"
# The C program may say this after CMD_OK: although it failed
_FAILURE = re.compile(r"\s*(\w+ unsuccessful\b|ERROR\b|Connection creation failed\b)")


@dataclass(frozen=True, slots=True)
class Request:
    """A command, as words; `id` comes back with every answer."""

    id: int
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A line that is no request: `text` says why; `id` is 0 where it could not be read."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """One line on the progress of a long command."""

    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of a command: `code` is one of the codes above, `data` says the same as `text` for programs."""

    code: int
    text: str
    data: Mapping[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Return whether the command was carried out."""
        return self.code == DONE


# ---- JSON lines -----------------------------------------------------------------------------------------------------


def decode_request(line: bytes) -> Request | BadRequest:
    """Return the request in a line without its end, or a BadRequest that says what is wrong with it."""
    found = _object(line)
    if isinstance(found, str):
        return BadRequest(0, f"{found}; a request is a JSON object of at most {MAX_REQUEST_LINE} octets")
    id, words = found.get("id"), found.get("command")
    if type(id) is not int or not 0 < id <= MAX_ID:  # not isinstance: true is an int, too
        return BadRequest(0, f'"id" must be a whole number from 1 to {MAX_ID}')
    if type(found.get("mpt")) is not int or found["mpt"] != VERSION:
        return BadRequest(id, f'"mpt" must be {VERSION}, the version of this protocol')
    if not isinstance(words, list) or not 0 < len(words) <= MAX_WORDS or {*map(type, words)} != {str}:
        return BadRequest(id, f'"command" must be a list of 1 to {MAX_WORDS} words')
    return Request(id, tuple(words))


def decode_answer(line: bytes, id: int) -> Progress | Reply | None:
    """Return what a line of the daemon says of request `id`, None if it is on another request.

    Raises DecodeError for a line that no daemon sends.
    """
    found = _object(line) if len(line) <= MAX_REPLY_LINE else "the line is too long"
    if isinstance(found, str):
        raise DecodeError("local_reply", found)
    if found.get("id") not in (id, 0):  # 0: the daemon could not read the request, not even its id
        return None
    if isinstance(found.get("progress"), str):
        return Progress(found["progress"])
    code, text, data = found.get("code"), found.get("text"), found.get("data")
    if type(code) is not int or not isinstance(text, str) or not isinstance(data, dict | None):
        raise DecodeError("local_reply", "an answer without code and text")
    return Reply(code, text, data)


def encode_request(request: Request) -> bytes:
    """Return the line of a request."""
    return _line({"mpt": VERSION, "id": request.id, "command": list(request.command)})


def encode_progress(id: int, progress: Progress) -> bytes:
    """Return the line of a progress report on request `id`."""
    return _line({"id": id, "progress": progress.text})


def encode_reply(id: int, reply: Reply) -> bytes:
    """Return the line that ends request `id`."""
    found: dict[str, Any] = {"id": id, "ok": reply.ok, "code": reply.code, "text": reply.text}
    if reply.data is not None:
        found["data"] = reply.data
    return _line(found)


def _line(found: Mapping[str, Any]) -> bytes:
    return json.dumps(found, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any] | str:
    """Return the JSON object of a line, or what is wrong with the line."""
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError):  # ValueError: also bad UTF-8, and a number of thousands of digits
        return "the line is not JSON in UTF-8"
    return found if isinstance(found, dict) else "the line is no JSON object"


# ---- UDP text -------------------------------------------------------------------------------------------------------


def is_local_command(datagram: bytes) -> bool:
    """Return whether a datagram at the command port claims to be from a program of this host."""
    return datagram[:1] == _HEAD[:1]


def encode_text_request(words: Sequence[str]) -> bytes:
    """Return the datagram that asks for a command."""
    return _HEAD + " ".join(words).encode() + b"\0"


def decode_text_request(datagram: bytes) -> tuple[str, ...]:
    """Return the words of a request. Octets 1 to 3 may be anything, as at the C program. Raises DecodeError."""
    if not is_local_command(datagram):
        raise DecodeError("local_request", "not a local command")
    try:
        words = datagram[4:].partition(b"\0")[0].decode().split()
    except UnicodeDecodeError:
        raise DecodeError("local_request", "not UTF-8") from None
    if not 0 < len(words) <= MAX_WORDS:
        raise DecodeError("local_request", f"1 to {MAX_WORDS} words expected")
    return tuple(words)


def encode_text_reply(reply: Reply) -> tuple[bytes, bytes]:
    """Return the two datagrams of a reply; a text too long for UDP is cut at the end of a line."""
    octets = ((_GOOD if reply.ok else _BAD) + reply.text).encode(errors="replace")
    if len(octets) > MAX_UDP_TEXT:
        start = octets[:MAX_UDP_TEXT]
        octets = (start[: start.rfind(b"\n") + 1] or start) + b"... cut here: the unix socket gives it all\n"
    return _HEAD + octets, END


def decode_text_reply(datagram: bytes) -> Reply | Progress | None:
    """Return what a datagram of the server says: an answer, another text, or None for the end. Raises DecodeError."""
    if datagram[:1] == END[:1]:
        return None
    if not is_local_command(datagram):
        raise DecodeError("local_reply", "not the answer to a local command")
    text = datagram[4:].partition(b"\0")[0].decode(errors="replace")
    if text.startswith(_GOOD):
        text = text.removeprefix(_GOOD)
        return Reply(FAILED if _FAILURE.match(text) else DONE, text)
    if text.startswith(_BAD):
        text = text.removeprefix(_BAD)
        return Reply(NOT_PERMITTED if text.startswith(NOT_PERMITTED_TEXT) else FAILED, text)
    return Progress(text)
