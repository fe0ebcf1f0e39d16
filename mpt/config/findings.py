"""What a check finds in a configuration: errors, warnings and notes, each with its place and what to write instead."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mpt.config.parser import Problem, Section

ERROR: Final = "error"  # mptsrv does not start with it
WARNING: Final = "warning"  # it will probably not do what is meant
NOTE: Final = "note"  # good to know
SEVERITIES: Final = (ERROR, WARNING, NOTE)

SCHEMA: Final = "mpt.check/1"
WIDTH: Final = 80
_INDENT: Final = "    "


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. `remedy` is what to write, or to do; "": the problem's own message says it."""

    severity: str
    problem: Problem
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        at = self.problem
        place = {"file": str(at.file), "line": at.line, "section": at.section, "key": at.key, "value": at.value}
        return {"severity": self.severity, **place, "message": at.message, "remedy": self.remedy}

    def text(self) -> str:
        """Return the finding for people, in lines of 80 columns where its words are short enough."""
        at = self.problem
        file = os.path.relpath(at.file) if at.file.is_relative_to(Path.cwd()) else at.file
        place = f"{file}:{at.line}" if at.line else str(file)
        key = f" {at.key}" + (f" = {at.value}" if at.value else "") if at.key else ""
        section = f" [{at.section}]" if at.section else ""
        lines = [f"{place}: {self.severity}:{section}{key}", *_wrapped(at.message)]
        return "\n".join([*lines, *(_wrapped(f"-> {self.remedy}") if self.remedy else [])])


def _wrapped(text: str) -> list[str]:
    return [
        each
        for line in text.split("\n")
        for each in textwrap.wrap(
            line,
            WIDTH,
            initial_indent=_INDENT,
            subsequent_indent=_INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def found(severity: str, section: Section, key: str, message: str, remedy: str = "") -> Finding:
    """Return a finding about a key of a section, or about the section if `key` is ""."""
    return Finding(severity, section.complaint(key, message), remedy)


def counts(findings: Iterable[Finding]) -> Mapping[str, int]:
    """Return how many findings there are of each severity."""
    severities = [each.severity for each in findings]
    return {severity: severities.count(severity) for severity in SEVERITIES}
