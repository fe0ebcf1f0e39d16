"""Before a soak both daemons hold as many packets as all windows take, so that no later moment can be the first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bench.asking import status
from bench.soak.stage import SIDES, VERSIONS, SoakStage
from bench.variants import WINDOW
from mpt.errors import HostError
from mpt.lab.iperf import iperf3
from mpt.lab.process import Process
from mpt.lab.tunnel import Description

STREAM = ("--udp", "--bidir", "--length", "1380", "--bitrate", "50M", "--time", "30")  # every data path carries it
PATIENT_MS = 2000  # how long a packet may wait meanwhile; such streams do not fill a window in less
FULL = 0.9 * WINDOW * len(VERSIONS)  # packets; in the next moment a window may give up its head, and all that follows
TIME = 15.0  # seconds until all windows have been full
LOOK = 0.02  # seconds between two looks; a window is full for a second only, as a silent path is not waited for


def fill_windows(stage: SoakStage) -> None:
    """Send over both connections both ways while one path swallows everything; HostError if a window does not get
    full."""
    addresses = [stage.description.address_of("b", version) for version in VERSIONS]
    with _waiting(stage), iperf3(stage.a, stage.b, addresses, *STREAM) as streams:
        for stream in streams:
            stream.wait_for_output("connected to", TIME)
        stage.links[0].black_hole()
        try:
            _wait_until_full(stage)
        finally:
            stage.links[0].restore()


def _wait_until_full(stage: SoakStage) -> None:
    most = dict.fromkeys(SIDES, 0)
    end = time.monotonic() + TIME
    while min(most.values()) < FULL:
        if time.monotonic() > end:
            raise HostError(f"the windows did not get full: at most {most} packets were held")
        for side, daemon in zip(SIDES, stage.daemons, strict=True):
            most[side] = max(most[side], _held(daemon))
        time.sleep(LOOK)


def _held(daemon: Process) -> int:
    (tunnel,) = status(daemon)["tunnels"]
    return int(tunnel["packets_held"])


@contextmanager
def _waiting(stage: SoakStage) -> Iterator[None]:
    """Let packets wait for long while the block runs."""
    _configure(stage, replace(stage.description, max_buffdelay_msec=PATIENT_MS))
    try:
        yield
    finally:
        _configure(stage, stage.description)


def _configure(stage: SoakStage, description: Description) -> None:
    for side in SIDES:
        stage.write(side, description)
        stage.mpt(side, "reload")
