"""One question to the daemon and its answer, over the unix socket or the guide's UDP loopback."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpt.cli.settings import Settings
from mpt.errors import DecodeError, MptError
from mpt.local.protocol import (
    FAILED,
    MAX_REPLY_LINE,
    NO_DAEMON,
    NOT_PERMITTED,
    TIMED_OUT,
    Progress,
    Reply,
    Request,
    decode_answer,
    decode_text_reply,
    encode_request,
    encode_text_request,
)

if TYPE_CHECKING:  # `mpt` starts without it
    from mpt.local.operations import ProgressReport

LAST_WORDS = 0.5  # seconds after a UDP answer; until then more of it, or its end, may come
AGAIN = 0.01  # seconds until a unix socket with too many callers is tried again
_ID = 1  # of the only request on the connection


class ChannelError(MptError):
    """The daemon was not reached, or did not answer; `code` is the exit status for it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def ask(
    words: Sequence[str], settings: Settings, report: ProgressReport, over_udp: bool = False, ipv6: bool = False
) -> Reply:
    """Ask for the command `words` over the first way that leads to the daemon; return its reply. Raises ChannelError.

    Lines on its progress go to `report`. `over_udp`: the unix socket is not tried. `ipv6`: UDP goes to ::1.
    """
    not_permitted: ChannelError | None = None
    for path in () if over_udp else settings.sockets:
        try:
            return ask_unix(path, words, settings.timeout, report)
        except ChannelError as error:
            if settings.named or error.code not in (NO_DAEMON, NOT_PERMITTED):
                raise
            if error.code == NOT_PERMITTED:
                not_permitted = error
    try:
        return ask_udp("::1" if ipv6 else "127.0.0.1", settings.port, words, settings.timeout, report)
    except ChannelError as error:
        if error.code != NO_DAEMON:
            raise
        tried = "" if over_udp else f", nor at {' or '.join(settings.sockets)}"
        raise not_permitted or ChannelError(NO_DAEMON, f"{error}{tried}: is mptsrv running?") from error


def _no_answer(timeout: float) -> ChannelError:
    return ChannelError(
        TIMED_OUT,
        f"no answer for {timeout:g} seconds: the command may still be carried out. "
        "Look with `mpt show status`; cmd_timeout or --timeout gives it more time",
    )


def ask_unix(path: str, words: Sequence[str], timeout: float, report: ProgressReport) -> Reply:
    """Ask for the command `words` at the unix socket `path`; return the reply. Lines on its progress go to `report`.

    The daemon may be silent for `timeout` seconds. Raises ChannelError.
    """
    with _connected(path, timeout) as channel, channel.makefile("rb") as lines:
        try:
            channel.sendall(encode_request(Request(_ID, tuple(words))))
            while (line := lines.readline(MAX_REPLY_LINE + 1)).endswith(b"\n") or len(line) > MAX_REPLY_LINE:
                answer = decode_answer(line, _ID)
                if isinstance(answer, Reply):
                    return answer
                if answer is not None:
                    report(answer.text)
        except TimeoutError:
            raise _no_answer(timeout) from None
        except DecodeError as error:
            raise ChannelError(NO_DAEMON, f"what answers at {path} is no mpt daemon: {error}") from error
        except OSError as error:
            raise ChannelError(FAILED, f"the daemon at {path} hung up: {error.strerror or error}") from error
    raise ChannelError(FAILED, f"the daemon at {path} hung up before it answered")


def _connected(path: str, timeout: float) -> socket.socket:
    """Return a socket that is connected to the unix socket `path`; while it has too many callers, try again."""
    deadline = time.monotonic() + timeout
    try:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise ChannelError(FAILED, f"cannot open a unix socket: {error.strerror}") from error
    try:
        channel.settimeout(timeout)
        while True:
            try:
                channel.connect(path)
                return channel
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError from None
                time.sleep(AGAIN)
    except OSError as error:
        channel.close()
        if isinstance(error, TimeoutError):
            raise _no_answer(timeout) from None
        if isinstance(error, PermissionError):
            raise ChannelError(NOT_PERMITTED, f"not permitted to use {path}: run as root, or join its group") from error
        raise ChannelError(NO_DAEMON, f"no daemon at {path}: {error.strerror or error}; does mptsrv run?") from error


def ask_udp(host: str, port: int, words: Sequence[str], timeout: float, report: ProgressReport) -> Reply:
    """Ask in the same way by the text protocol, of our daemon or the C program, at the loopback address `host`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as channel:
            # connected, so that it takes no others' datagrams, hears at once if no daemon is there, and shows who asks
            channel.connect((host, port))
            channel.send(encode_text_request(words))
            return _text_reply(channel, timeout, report)
    except ConnectionRefusedError as error:
        raise ChannelError(NO_DAEMON, f"no daemon at UDP port {port} of {host}") from error
    except OSError as error:
        raise ChannelError(NO_DAEMON, f"cannot reach UDP port {port} of {host}: {error.strerror}") from error


def _text_reply(channel: socket.socket, timeout: float, report: ProgressReport) -> Reply:
    """Collect answers until the end; return them as one reply. The C server sends some answers twice."""
    answers: list[Reply] = []
    deadline = time.monotonic() + timeout
    while True:
        try:
            answer = _receive(channel, deadline)
        except TimeoutError:
            if not answers:
                raise _no_answer(timeout) from None
            break
        if answer is None:
            break
        if isinstance(answer, Progress):
            report(answer.text)
            deadline = time.monotonic() + timeout
        else:
            if answer not in answers:
                answers.append(answer)
            deadline = time.monotonic() + LAST_WORDS
    if not answers:
        return Reply(FAILED, "the daemon ended the command without a word")
    return Reply(max(answer.code for answer in answers), "\n".join(answer.text.rstrip("\n") for answer in answers))


def _receive(channel: socket.socket, deadline: float) -> Reply | Progress | None:
    """Return the next answer of the protocol, None for the end; raises TimeoutError at `deadline`."""
    while (left := deadline - time.monotonic()) > 0:
        channel.settimeout(left)
        try:
            return decode_text_reply(channel.recv(65536))
        except DecodeError:
            continue
    raise TimeoutError
