"""Local commands over UDP loopback, the guide's channel: a datagram for the words, one for the reply, one for the end.

The sender of a datagram can only be looked up afterwards, and the look-up costs more than most replies. So every
request waits for a turn among the callers without rights, and its sender is looked up only if the command changes
something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mpt.control.initiator import Endpoint
from mpt.daemon.localcommands import LocalCommands
from mpt.daemon.machine import Machine
from mpt.daemon.settings import Settings
from mpt.errors import DecodeError
from mpt.host.credentials import user_may_change
from mpt.local import protocol

log = Logger()

END_AFTER: Final = 0.005  # s between a text reply and its end, as the C program does
AT_ONCE: Final = 16  # more are refused: a local user must not fill the memory
UNCONNECTED: Final = "unconnected"  # udp_commands in [general]

_NOT_CONNECTED = (
    "; over UDP only a socket that is connected to this port may change things: use `mpt`, which has one, or "
    "write 'udp_commands = unconnected' in [general] of interface.conf"
)


class UdpCommands:
    """Carries out, with `commands`, the requests of this host's programs to the command port."""

    def __init__(self, machine: Machine, settings: Settings, commands: LocalCommands) -> None:
        self._machine = machine
        self._settings = settings
        self._commands = commands
        self._answering: set[Deferred[None]] = set()
        self.counters: Counter[str] = Counter()

    def warn_of_risk(self) -> None:
        """Log a warning if the configuration lets more programs change things than is safe."""
        if self._settings.general.udp_commands == UNCONNECTED:
            log.warn(
                "udp_commands = unconnected: a local user can pass for root where a UDP socket of root shares its port "
                "(SO_REUSEADDR). It is needed only for the client of the C program: use mpt, and remove it"
            )

    def stop(self) -> None:
        """Cancel all requests."""
        for answering in list(self._answering):
            answering.cancel()

    def received(self, datagram: bytes, sender: Endpoint, reply: Callable[[bytes], None]) -> None:
        """Take in a request from `sender`; its answers go to `reply`."""
        if len(self._answering) >= AT_ONCE:
            self.counters["local_busy"] += 1
            return
        try:
            words = protocol.decode_text_request(datagram)
        except DecodeError as error:
            self.counters[error.reason] += 1
            return
        answering = ensureDeferred(self._answer(words, sender, reply))
        self._answering.add(answering)
        answering.addErrback(_report)
        answering.addBoth(lambda _: self._answering.discard(answering))

    async def _answer(self, words: Sequence[str], sender: Endpoint, reply: Callable[[bytes], None]) -> None:
        await self._commands.next_turn()
        answer = await self._commands.change_or_look(words, lambda: self._refusal(sender))
        text, end = protocol.encode_text_reply(answer)
        reply(text)
        await deferLater(self._machine.reactor, END_AFTER)
        reply(end)

    def _refusal(self, sender: Endpoint) -> str | None:
        """Return None if `sender` may change things, else a text that follows "not permitted", perhaps ""."""
        general = self._settings.general
        found = self._machine.udp_sender(*sender, general.cmdport_local)
        if found is None or not user_may_change(found.uid, self._commands.group):
            return ""
        return None if found.is_connected or general.udp_commands == UNCONNECTED else _NOT_CONNECTED


def _report(failure: Failure) -> None:
    if not failure.check(CancelledError):
        log.failure("a local command failed", failure)
