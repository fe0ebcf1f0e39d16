"""The traffic of a soak: iperf3 and files of random octets, alone and beside each other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from bench.measure import PORT
from bench.soak.files import FileTransfer
from bench.soak.stage import VERSIONS, SoakStage
from mpt.errors import HostError
from mpt.lab.process import Process

FILE_PORT = 5400  # and one more for each transfer that runs beside another
OVERTIME = 30.0  # seconds after its time in which iperf3 must have come to its end
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
    """Both IP versions, both directions, at the same time."""
    return tuple(Files(version, upward, sizes) for version in VERSIONS for upward in (True, False))


@dataclass(frozen=True)
class Load:
    """iperf3 from a to b with the arguments `iperf`, and `files` meanwhile; either may be missing."""

    title: str
    iperf: tuple[str, ...] | None = None
    files: tuple[Files, ...] = ()

    @property
    def is_udp(self) -> bool:
        """Whether iperf3 begins with a datagram that must not be lost: it does not repeat it."""
        return self.iperf is not None and "--udp" in self.iperf


_FLOOD = ("--udp", "--length", "1400", "--bitrate", "0")
_SMALL_UDP = ("--udp", "--length", "64", "--bitrate", "10M")
_LARGE_UDP = ("--udp", "--length", "1400", "--bitrate", "200M")

LOADS = (
    Load("a flood", _FLOOD),  # most of it is dropped, what is held reaches its maximum
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


class Running:
    """`load`, running from the moment this is made; `files` and `octets` are known when it is finished."""

    def __init__(self, stage: SoakStage, load: Load, seconds: float) -> None:
        self.load = load
        self.files = self.octets = 0
        self._stage = stage
        self._started = time.monotonic()
        self._iperf: list[Process] = []
        self._transfers: list[FileTransfer] = []
        self._give_up = seconds + OVERTIME
        if load.files:
            self._give_up += LONGEST
        if load.iperf is not None:
            self._start_iperf(["--time", f"{seconds:.0f}", *load.iperf])
        for index, files in enumerate(load.files):
            self._start_files(files, FILE_PORT + index)

    def wait(self) -> Iterator[float]:
        """Seconds to wait until all has come to its end, or for as long as one can believe that it will."""
        while self._is_running and time.monotonic() - self._started < self._give_up:
            yield 0.2

    def finish(self) -> list[str]:
        """Take down what still runs; what failed."""
        failures = []
        if self._iperf:
            server, client = self._iperf
            if client.returncode != 0:
                failures.append(f"iperf3 {' '.join(client.argv[5:])}: {client.complaint() or 'it did not end'}")
            for host, process in ((self._stage.a, client), (self._stage.b, server)):
                process.stop()
                host.processes.remove(process)
        for transfer in self._transfers:
            try:
                files, octets = transfer.finish()
            except HostError as error:
                failures.append(str(error))
            else:
                self.files += files
                self.octets += octets
        return failures

    @property
    def _is_running(self) -> bool:
        return any(process.running for process in self._iperf[1:]) or any(each.running for each in self._transfers)

    def _start_iperf(self, arguments: list[str]) -> None:
        address = self._stage.description.address_of("b")
        common = ["--port", str(PORT), "--forceflush"]
        server = self._stage.b.start(["iperf3", "--server", "--one-off", "--bind", address, *common])
        server.wait_for_output("listening", 10)
        client = self._stage.a.start(["iperf3", "--client", address, *common, *arguments])
        self._iperf = [server, client]
        if self.load.is_udp:  # no flap before its first datagram has been answered; finish() tells if it is not
            with suppress(HostError):
                client.wait_for_output("connected to", 10)

    def _start_files(self, files: Files, port: int) -> None:
        a, b = self._stage.a, self._stage.b
        sender, receiver = (a, b) if files.upward else (b, a)
        address = self._stage.description.address_of("b" if files.upward else "a", files.version)
        self._transfers.append(FileTransfer(sender, receiver, address, port, files.sizes))
