"""What `mpt doctor` has found, and how it says so."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

FAULT: Final = "fault"  # something does not work
WARNING: Final = "warning"  # it will probably not work, or not well
NOTE: Final = "note"  # good to know
GOOD: Final = "good"
SEVERITIES: Final = (FAULT, WARNING, NOTE, GOOD)

SCHEMA: Final = "mpt.doctor/1"
WIDTH: Final = 80
_TOPIC: Final = 13
_KINDS: Final = {FAULT: "bad", WARNING: "doubt", NOTE: "dim", GOOD: "good"}  # of mpt.local.statustext.Paint
_LABELS: Final = {FAULT: "!!", WARNING: "! ", NOTE: "- ", GOOD: "ok"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding about a `topic`. `command` mends it, typed by root; "": the message says all that can be said."""

    severity: str
    topic: str
    message: str
    command: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        return {name: getattr(self, name) for name in ("severity", "topic", "message", "command")}


def text(findings: Iterable[Finding], paint: Callable[[str, str], str]) -> str:
    """Return the findings for people, in lines of at most 80 columns; a command stands on one line, to be copied."""
    lines: list[str] = []
    for finding in findings:
        first, *rest = textwrap.wrap(finding.message, WIDTH - _TOPIC - 4, break_long_words=False)
        label = paint(_KINDS[finding.severity], _LABELS[finding.severity])
        lines.append(f"{label} {finding.topic:<{_TOPIC}} {first}")
        lines += [" " * (_TOPIC + 4) + line for line in rest]
        lines += [" " * (_TOPIC + 4) + f"# {line}" for line in finding.command.splitlines()]
    return "\n".join(lines)
