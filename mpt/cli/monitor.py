"""``mpt monitor``: one line for each thing that happens in the daemon, as it happens."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Final

from mpt.cli.look import data_of, question
from mpt.cli.options import parse_options, wants_help
from mpt.local.grammar import GrammarError
from mpt.local.pasttext import event_line
from mpt.local.protocol import DONE

EVERY: Final = 0.5  # s between two questions; the daemon keeps what happens between them

HELP: Final = """\
mpt monitor [--json]

One line for each thing that happens, until ^C: paths that come and go, keys,
addresses, reloads.
--json: Each line is one JSON object, as docs/commands.md describes it"""


def monitor(arguments: Sequence[str]) -> int:
    """Run ``mpt monitor``, until it is interrupted or the daemon is gone. Return the exit status."""
    if wants_help(arguments):
        print(HELP)
        return DONE
    options = parse_options(arguments)
    if options.words:
        raise GrammarError(f"monitor: {options.words[0]!r} is too much: it takes no words")
    last = data_of(question(options, "events"))["last"]
    while True:
        found = data_of(question(options, "events", str(last)))
        last = found["last"]
        for event in found["events"]:
            if options.json:
                print(json.dumps(event), flush=True)
            else:
                print(event_line(event), flush=True)
        time.sleep(EVERY)
