"""The local channel: JSON lines and UDP text, good and hostile."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.errors import DecodeError
from mpt.local import protocol
from mpt.local.protocol import (
    BadRequest,
    Progress,
    Reply,
    Request,
    decode_answer,
    decode_request,
    decode_text_reply,
    decode_text_request,
    encode_progress,
    encode_reply,
    encode_request,
    encode_text_reply,
    encode_text_request,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "commands.md"
PATH_DOWN = ("path", "down", "10.1.1.2", "10.1.1.3")


def test_a_request_is_the_documented_line() -> None:
    """The line is byte for byte as in docs/commands.md, and decodes to the request."""
    line = b'{"mpt":1,"id":7,"command":["path","down","10.1.1.2","10.1.1.3"]}\n'
    assert encode_request(Request(7, PATH_DOWN)) == line
    assert decode_request(line) == Request(7, PATH_DOWN)


def test_answers_are_the_documented_lines() -> None:
    """Progress and reply are as documented; data is there only if it is not empty."""
    assert encode_progress(7, Progress("telling the peer")) == b'{"id":7,"progress":"telling the peer"}\n'
    assert encode_reply(7, Reply(0, "done")) == b'{"id":7,"ok":true,"code":0,"text":"done"}\n'
    with_data = encode_reply(7, Reply(1, "no", {"a": 1}))
    assert with_data == b'{"id":7,"ok":false,"code":1,"text":"no","data":{"a":1}}\n'


@pytest.mark.parametrize(
    ("line", "id", "text"),
    [
        (b"path down", 0, "not JSON"),
        (b"\xff\xfe", 0, "not JSON in UTF-8"),
        (b"[" * 60_000, 0, "not JSON"),
        (b"1" * 5000, 0, "not JSON"),
        (b"[1]", 0, "no JSON object"),
        (b"{}", 0, '"id" must be'),
        (b'{"mpt": 1, "id": true, "command": ["save"]}', 0, '"id" must be'),
        (b'{"mpt": 1, "id": 1.5, "command": ["save"]}', 0, '"id" must be'),
        (b'{"mpt": 1, "id": NaN, "command": ["save"]}', 0, '"id" must be'),
        (b'{"mpt": 1, "id": -1, "command": ["save"]}', 0, '"id" must be'),
        (b'{"mpt": 2, "id": 3, "command": ["save"]}', 3, '"mpt" must be 1'),
        (b'{"mpt": true, "id": 3, "command": ["save"]}', 3, '"mpt" must be 1'),
        (b'{"id": 3, "command": ["save"]}', 3, '"mpt" must be 1'),
        (b'{"mpt": 1, "id": 3}', 3, '"command" must be'),
        (b'{"mpt": 1, "id": 3, "command": "save"}', 3, '"command" must be'),
        (b'{"mpt": 1, "id": 3, "command": []}', 3, '"command" must be'),
        (b'{"mpt": 1, "id": 3, "command": ["save", 1]}', 3, '"command" must be'),
        (b'{"mpt": 1, "id": 3, "command": [["save"]]}', 3, '"command" must be'),
        (b'{"mpt": 1, "id": 3, "command": [' + b'"a",' * 16 + b'"a"]}', 3, '"command" must be'),
    ],
)
def test_a_bad_line_is_told(line: bytes, id: int, text: str) -> None:
    """The answer says what is wrong, with the request's id if it has one."""
    bad = decode_request(line)
    assert isinstance(bad, BadRequest)
    assert bad.id == id
    assert text in bad.text


def test_unknown_members_of_a_request_are_ignored() -> None:
    """A later minor version may add members."""
    line = b'{"mpt": 1, "id": 1, "command": ["save"], "more": {}}\n'
    assert decode_request(line) == Request(1, ("save",))


@given(st.binary(max_size=200))
def test_no_octets_make_the_daemon_raise(line: bytes) -> None:
    """A hostile line is a request or a complaint."""
    assert isinstance(decode_request(line), Request | BadRequest)


MEMBERS = st.sampled_from(["mpt", "id", "command", "progress", "code", "text", "data", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(MEMBERS, inner, max_size=6),
)


@given(JSON)
def test_no_json_makes_anybody_raise(value: object) -> None:
    """Any JSON value, from either side; only the client complains, by DecodeError."""
    line = json.dumps(value).encode() + b"\n"
    assert isinstance(decode_request(line), Request | BadRequest)
    try:
        decode_answer(line, 1)
    except DecodeError:
        pass


def test_the_client_reads_its_own_answers() -> None:
    """Answers to others' requests are passed over, those to an unreadable one (id 0) are taken."""
    assert decode_answer(encode_reply(8, Reply(0, "not ours")), 7) is None
    assert decode_answer(encode_progress(7, Progress("a")), 7) == Progress("a")
    assert decode_answer(encode_reply(7, Reply(0, "b", {"c": [1]})), 7) == Reply(0, "b", {"c": [1]})
    assert decode_answer(encode_reply(0, Reply(2, "what?")), 7) == Reply(2, "what?")


TOO_LONG = b" " * protocol.MAX_REPLY_LINE + b"{}"


@pytest.mark.parametrize(
    "line",
    [b"220 mail.example ESMTP", b"[]", b'{"id":7,"ok":true}', b'{"id":7,"code":0,"text":"","data":[]}', TOO_LONG],
)
def test_the_client_refuses_what_no_daemon_says(line: bytes) -> None:
    """Such a line raises DecodeError: another program listens there."""
    with pytest.raises(DecodeError):
        decode_answer(line, 7)


def test_a_text_request_is_the_c_programs() -> None:
    """A4, three zeros, the words, NUL; octets 1 to 3 mean nothing, and the NUL may be missing."""
    datagram = b"\xa4\0\0\0path down 10.1.1.2 10.1.1.3\0"
    assert encode_text_request(PATH_DOWN) == datagram
    assert decode_text_request(datagram) == PATH_DOWN
    assert decode_text_request(b"\xa4abcpath down 10.1.1.2 10.1.1.3") == PATH_DOWN


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\xa4",
        b"\xa4\0\0\0",
        b"\xa4\0\0\0\0save",
        b"\xa3\0\0\0save\0",
        b"\xa4\0\0\0\xff\xff\0",
        b"\xa4\0\0\0" + b"a " * 17,
    ],
)
def test_a_bad_text_request_is_refused(datagram: bytes) -> None:
    """A bad request raises DecodeError and nothing else."""
    with pytest.raises(DecodeError):
        decode_text_request(datagram)


@given(st.binary(max_size=100))
def test_no_datagram_raises_anything_else(datagram: bytes) -> None:
    """Any datagram, in either direction, raises only DecodeError."""
    for head in (b"", b"\xa4\0\0\0"):
        for decode in (decode_text_request, decode_text_reply):
            try:
                decode(head + datagram)
            except DecodeError:
                pass


def test_a_text_reply_is_what_the_c_client_prints() -> None:
    """The text begins with CMD_OK: or CMD-ERROR:, and the end follows."""
    assert encode_text_reply(Reply(0, "interface eth1 up")) == (b"\xa4\0\0\0CMD_OK:interface eth1 up", b"\xa5\0\0\0")
    assert encode_text_reply(Reply(1, "no"))[0] == b"\xa4\0\0\0CMD-ERROR:no"
    assert encode_text_reply(Reply(0, "\udcff"))[0] == b"\xa4\0\0\0CMD_OK:?"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("CMD_OK:int eth1 up", 0),
        ("CMD_OK:Connection: failed_once, ERROR count 3", 0),  # a status, not a failure
        ("CMD_OK:Reload unsuccessful. Config file not found in the connection: F\n", 1),
        ("CMD_OK:Restart unsuccessful. Config file not found in the connection: F\n", 1),
        ("CMD-ERROR:Delete unsuccessful. Config file not found: F\n", 1),
        ("CMD_OK:Save unsuccessful. Config file not found in connection: F\n", 1),
        ("CMD_OK:ERROR: Connection already exists (error code:5)\n", 1),
        ("CMD_OK:Connection creation failed (code: 1; Remote server problem?)\n", 1),
        ("CMD-ERROR:create nosuch.conf", 1),
        ("CMD-ERROR:not permitted: save", 5),
    ],
)
def test_the_verdict_of_a_c_server_is_in_its_text(text: str, code: int) -> None:
    """A C server says CMD_OK: to some failures, too."""
    reply = decode_text_reply(b"\xa4\0\0\0" + text.encode())
    assert reply == Reply(code, text.partition(":")[2])


def test_other_datagrams_of_a_server() -> None:
    """Other datagrams are the end, a text in between, or an error."""
    assert decode_text_reply(protocol.END) is None
    assert decode_text_reply(b"\xa4\0\0\0working") == Progress("working")
    with pytest.raises(DecodeError):
        decode_text_reply(b"CMD_OK:")


def test_a_text_too_long_for_udp_is_cut_at_a_line() -> None:
    """The text says that it is cut, and has no half line."""
    datagram, _ = encode_text_reply(Reply(0, "\n".join(f"line {number}" for number in range(20_000))))
    assert len(datagram) < 65_507
    *lines, last, empty = datagram[4:].decode().split("\n")
    assert lines[-1] == f"line {len(lines) - 1}"
    assert last.startswith("... cut here") and empty == ""
    assert len(encode_text_reply(Reply(0, "x" * 100_000))[0]) < 65_507


def test_the_example_of_the_document_is_the_protocol() -> None:
    """docs/commands.md shows a question and its answers octet for octet, spaces apart."""
    lines = re.findall(r"^    [<>] (\{.*\})$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    request, progress, reply = (json.dumps(json.loads(line), separators=(",", ":")).encode() + b"\n" for line in lines)
    asked = decode_request(request)
    assert isinstance(asked, Request) and encode_request(asked) == request
    told, ended = decode_answer(progress, 7), decode_answer(reply, 7)
    assert isinstance(told, Progress) and encode_progress(7, told) == progress
    assert isinstance(ended, Reply) and encode_reply(7, ended) == reply
