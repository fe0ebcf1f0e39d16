"""``mpt metrics``: the status as Prometheus takes it, for its textfile collector or for a look."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mpt.cli.look import document_of, question
from mpt.cli.options import parse_options, wants_help
from mpt.local.grammar import GrammarError
from mpt.local.protocol import DONE, FAILED

HELP = """\
mpt metrics [FILE]

The metrics of the daemon in Prometheus's text format. FILE is written whole,
under another name first: the textfile collector of node_exporter reads no half.
It needs prometheus_client: pip install '.[metrics]'"""


def metrics(arguments: Sequence[str]) -> int:
    """Run ``mpt metrics``. Return the exit status."""
    if wants_help(arguments):
        print(HELP)
        return DONE
    options = parse_options(arguments, json=False)
    if len(options.words) > 1:
        raise GrammarError(f"metrics: {options.words[1]!r} is too much: it takes one FILE")
    try:
        from mpt.local.metrics import exposition
    except ImportError:
        print("mpt: metrics need prometheus_client: pip install '.[metrics]'", file=sys.stderr)
        return FAILED
    octets = exposition(document_of(question(options, "status")))
    if not options.words:
        sys.stdout.write(octets.decode())
        return DONE
    file = Path(options.words[0])
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_bytes(octets)
        beside.replace(file)
    except OSError as error:
        print(f"mpt: cannot write {file}: {error.strerror}", file=sys.stderr)
        beside.unlink(missing_ok=True)
        return FAILED
    return DONE
