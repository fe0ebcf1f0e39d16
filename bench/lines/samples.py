"""What the sending daemon says of its paths while a stage runs: ``show status`` ten times a second.

    python -m bench.lines.samples /run/mpt/control --seconds 20

It writes ``ready``, and then a JSON object for each answer: ``at`` of the machine's monotonic clock, and the members of
each path of the first connection that are drawn.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench.load import COMMAND, PATIENCE

INTERVAL = 0.1  # seconds


@dataclass(frozen=True)
class PathSample:
    """A path at a moment: what it has sent so far, and what the daemon takes its rate, queue and share to be.

    Octets, Mbit/s, ms, 0 to 1; None: not known, as on a connection that does not adapt.
    """

    octets: float
    rate_mbit: float | None
    queue_ms: float | None
    share: float | None
    state: str


@dataclass(frozen=True)
class Sample:
    """All paths at a moment of the monotonic clock."""

    at: float
    paths: tuple[PathSample, ...]


def path_of(status: Mapping[str, Any]) -> PathSample:
    """Return what is drawn of a path of the status document (docs/commands.md)."""
    known = status.get("adaptive") or {}
    rate, queue = known.get("rate"), known.get("queue")
    return PathSample(
        known.get("octets_sent", status["bytes_sent"]),
        None if rate is None else rate * 8e-6,
        None if queue is None else queue * 1000,
        known.get("share", status.get("share")),
        known.get("state", status["status"]),
    )


def parse(said: str) -> list[Sample]:
    """Return the samples in the output of this program."""
    samples = []
    for line in said.splitlines():
        if line.startswith("{"):
            values = json.loads(line)
            samples.append(Sample(values["at"], tuple(PathSample(*path) for path in values["paths"])))
    return samples


def carried_mbit(samples: Sequence[Sample], path: int) -> list[float]:
    """Return the rate at which a path has sent between each sample and the one before; 0 for the first."""
    rates = [0.0]
    for earlier, later in pairwise(samples):
        octets = later.paths[path].octets - earlier.paths[path].octets
        rates.append(max(octets, 0.0) * 8e-6 / (later.at - earlier.at))
    return rates


def main() -> int:
    """Entry point of ``python -m bench.lines.samples``."""
    parser = argparse.ArgumentParser(prog="bench.lines.samples", description="show status, ten times a second")
    parser.add_argument("socket")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.settimeout(PATIENCE)
        daemon.connect(options.socket)
        answers = daemon.makefile("r")
        print("ready", flush=True)
        end = time.monotonic() + options.seconds
        while (now := time.monotonic()) < end:
            daemon.sendall(COMMAND)
            document = json.loads(answers.readline())["data"]
            paths = [path_of(status) for status in document["connections"][0]["paths"]]
            print(json.dumps({"at": now, "paths": [list(vars(path).values()) for path in paths]}), flush=True)
            time.sleep(max(now + INTERVAL - time.monotonic(), 0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
