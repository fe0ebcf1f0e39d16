"""From the words of a command to its reply.

`answer` serves every request of the unix socket and of the UDP loopback:

    reply = await answer(words, operations, may_change, progress)

It is a coroutine without a framework: under Twisted ``ensureDeferred`` runs it. A failure has the C program's text
where there is one (over UDP it follows "CMD-ERROR:"), and our reason after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mpt.errors import MptError
from mpt.local.grammar import Command, GrammarError, parse
from mpt.local.operations import Operations, PeerRefusedError, ProgressReport, UnknownFileError
from mpt.local.pasttext import events_text, history_text
from mpt.local.protocol import BAD_USAGE, DONE, FAILED, NOT_PERMITTED, NOT_PERMITTED_TEXT, Reply
from mpt.local.status import StatusDocument
from mpt.local.statustext import status_text

ALREADY_EXISTS: Final = 5  # the peer's answer to `create`, by the C program's number

_WHO_MAY = "that is for root and for members of the control socket's group; `mpt show status` is for everybody"


async def answer(words: Sequence[str], operations: Operations, may_change: bool, progress: ProgressReport) -> Reply:
    """Carry out the request `words`; return its reply. Without `may_change` only looking is permitted."""
    try:
        command = parse(words)
    except GrammarError as error:
        return Reply(BAD_USAGE, str(error))
    if command.form.changes and not may_change:
        return Reply(NOT_PERMITTED, f"{NOT_PERMITTED_TEXT}: {command}: {_WHO_MAY}")
    try:
        happened = await command.perform(operations, progress)
    except MptError as error:
        return Reply(FAILED, _failure(command, error))
    if isinstance(happened, StatusDocument):
        return Reply(DONE, status_text(happened), happened.as_json())
    if not isinstance(happened, str):
        text_of = events_text if "events" in happened else history_text
        return Reply(DONE, text_of(happened), dict(happened))
    return Reply(DONE, happened or str(command))


def _failure(command: Command, error: MptError) -> str:
    """Return the text that tells why `command` ended in `error`."""
    because = f": {error}" if str(error) else ""
    match error:
        case UnknownFileError() if command.form.not_found:
            return f"{command.form.not_found}{command.values[0] or ''}{because}"
        case PeerRefusedError(code=code) if code == ALREADY_EXISTS:
            return f"ERROR: Connection already exists (error code:{code}){because}"
        case PeerRefusedError(code=code):
            return f"Connection creation failed (code: {code}; Remote server problem?){because}"
    return f"{command.form.name.capitalize()} unsuccessful.{because[1:] or ' No reason is known.'}"
