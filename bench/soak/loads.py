"""The traffic of a soak: iperf3 and files of random octets, alone and beside each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from bench.soak.files import FileTransfer
from bench.soak.stage import VERSIONS, SoakStage
from mpt.errors import HostError
from mpt.lab.iperf import iperf3
from mpt.lab.process import Process

FILE_PORT = 5400  # and one more for each transfer that runs beside another
OVERTIME = 30.0  # seconds after its time in which iperf3 must have come to its end
LOOK = 0.2  # seconds between two checks whether all has ended
LONGEST = 300.0  # seconds for files that crawl but never stall

SMALL = (1, 2, 99, 1387, 1388, 1389, 4096, 65_535, 65_536, 65_537, 1_000_000)  # octets; 1388: a segment
MIDDLE = (20_000_000,)
LARGE = (200_000_000,)


@dataclass(frozen=True)
class Files:
    """Files of `sizes` octets, one after the other over IP `version`; `upward` is from a to b."""

    version: int
    upward: bool
    sizes: tuple[int, ...]


def everywhere(sizes: tuple[int, ...]) -> tuple[Files, ...]:
    """Return both IP versions, both directions, at the same time."""
    return tuple(Files(version, upward, sizes) for version in VERSIONS for upward in (True, False))


@dataclass(frozen=True)
class Load:
    """iperf3 from a to b with the arguments `iperf`, and `files` meanwhile; either may be missing."""

    title: str
    iperf: tuple[str, ...] | None = None
    files: tuple[Files, ...] = ()

    @property
    def is_udp(self) -> bool:
        """Return whether iperf3 begins with a datagram that must not be lost, as it does not repeat it."""
        return self.iperf is not None and "--udp" in self.iperf


_FLOOD = ("--udp", "--length", "1400", "--bitrate", "0")
_SMALL_UDP = ("--udp", "--length", "64", "--bitrate", "10M")
_LARGE_UDP = ("--udp", "--length", "1400", "--bitrate", "200M")

LOADS = (
    Load("a flood", _FLOOD),  # most of it is dropped, and the number of held packets reaches its maximum
    Load("small files everywhere", files=everywhere(SMALL)),
    Load("a large file to b, small UDP packets", _SMALL_UDP, (Files(4, True, LARGE),)),
    Load("one TCP stream", ()),
    Load("files everywhere", files=everywhere(MIDDLE)),
    Load("one TCP stream to a, small files", ("--reverse",), everywhere(SMALL)),
    Load("a large IPv6 file to a, a slow stream", ("--bitrate", "1M"), (Files(6, False, LARGE),)),
    Load("four TCP streams", ("--parallel", "4")),
    Load("large files both ways", files=(Files(4, False, LARGE), Files(6, True, LARGE))),
    Load("TCP both ways, a file", ("--bidir",), (Files(6, True, MIDDLE),)),
    Load("UDP, 200 Mbit/s, files", _LARGE_UDP, everywhere(MIDDLE)),
    Load("small UDP packets", _SMALL_UDP),
)


@dataclass(frozen=True)
class Carried:
    """The outcome of a load: the files and octets that were right, and the failures."""

    files: int
    octets: int
    failures: Sequence[str]


async def carry(stage: SoakStage, load: Load, seconds: float) -> Carried:
    """Carry `load`, iperf3 for `seconds`, until all has ended, or until it is clear that it will not."""
    started = time.monotonic()
    longest = seconds + OVERTIME + (LONGEST if load.files else 0)
    with ExitStack() as stack:
        clients: list[Process] = []
        if load.iperf is not None:
            address = stage.description.address_of("b")
            words = ["--time", f"{seconds:.0f}", *load.iperf]
            clients = stack.enter_context(iperf3(stage.a, stage.b, [address], *words))
        if load.is_udp:  # no flap before its first datagram has been answered; its exit code tells if it is not
            with suppress(HostError):
                clients[0].wait_for_output("connected to", 10)
        transfers = [_start(stage, files, FILE_PORT + index) for index, files in enumerate(load.files)]
        running: list[Process | FileTransfer] = [*clients, *transfers]
        while any(each.running for each in running) and time.monotonic() - started < longest:
            await asyncio.sleep(LOOK)
        failures = [
            f"iperf3 {' '.join(client.argv[6:])}: {client.complaint() or 'it did not end'}"
            for client in clients
            if client.returncode != 0
        ]
        counts = []
        for transfer in transfers:
            try:
                counts.append(transfer.finish())
            except HostError as error:
                failures.append(str(error))
    return Carried(sum(files for files, _ in counts), sum(octets for _, octets in counts), failures)


def _start(stage: SoakStage, files: Files, port: int) -> FileTransfer:
    sender, receiver = (stage.a, stage.b) if files.upward else (stage.b, stage.a)
    address = stage.description.address_of("b" if files.upward else "a", files.version)
    return FileTransfer(sender, receiver, address, port, files.sizes)
