"""Types the commands of a document at the hosts of a lab, word for word (`tests.typed` has which)."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mpt.lab.hosts import Host
from mpt.lab.process import Process
from tests.netns.support import wait_until
from tests.typed import TYPED, Piece

PATIENCE: Final = 30  # s for a command
# a test has less time than a reader
HASTE: Final = (
    (re.compile(r"\bping "), "ping -i 0.1 -W 1 "),
    (re.compile(r"(iperf3 .*-t) \d+"), r"\1 1"),
    (re.compile(r"^tcpdump "), "tcpdump -l --immediate-mode "),
)


class Typist:
    """Types the pieces of `name` in TYPED, one after the other, at `hosts` by their names in the text; "" is where
    commands without a name are typed. `places`: what stands here for a place or a name of the text."""

    def __init__(self, name: str, hosts: Mapping[str, Host], directory: Path, places: Mapping[str, str] | None = None):
        self.pieces = list(TYPED[name])
        self.hosts, self.directory, self.places = hosts, directory, dict(places or {})
        self.printed = self.complaint = ""  # by the command before
        self.keys: dict[str, str] = {}  # what `mpt genkey` has printed, by host
        self.daemons: dict[str, Process] = {}
        self._watching: list[tuple[Host, Process]] = []
        directory.mkdir()

    def etc(self, name: str) -> Path:
        """Return what a host has for /etc/mpt."""
        return self.directory / f"etc-{self.hosts[name].name}"

    def type(self, *at: str, may_fail: Collection[str] = ()) -> Piece:
        """Type the next piece, commands without a host at those; return it. Commands of `may_fail` may end with 1."""
        piece = self.pieces.pop(0)
        assert piece.steps, piece
        for name, command in piece.steps:
            for each in (name,) if name else at:
                self.type_command(each, command, command in may_fail)
        return piece

    def type_command(self, name: str, command: str, may_fail: bool = False) -> None:
        """Type one command."""
        command = self._here(name, command)
        argv = ["bash", "-c", command if re.search(r"[;&|]", command) else f"exec {command}"]
        host, variables = self.hosts[name], self.variables(name)
        if re.match(r"mptsrv(?!.*--(check|version))", command):
            if name in self.daemons:
                host.end(self.daemons.pop(name))
            self.daemons[name] = host.start(argv, variables=variables)
            self.daemons[name].wait_for_output("Tunnel information", PATIENCE)
            return
        if command.startswith("tcpdump"):
            watching = host.start(argv, variables=variables)
            self._watching.append((host, watching))
            wait_until(lambda: "listening" in watching.errors(), command)
            return

        def end() -> bool:
            process = host.start(argv, variables=variables)
            code = process.wait(PATIENCE)
            self.printed, self.complaint = process.output(), process.complaint()
            return code == 0 or (may_fail and code == 1)

        if command.startswith("ping"):
            wait_until(end, command, PATIENCE)
        else:
            assert end(), f"{command}\n{self.printed}\n{self.complaint}"
        if command == "mpt genkey":
            self.keys[name] = self.printed.split()[-1]

    def serve(self, host: Host) -> None:
        """Let a host answer iperf3."""
        self._watching.append((host, host.start(["iperf3", "--server", "--forceflush"])))
        self._watching[-1][1].wait_for_output("listening", PATIENCE)

    def variables(self, name: str) -> dict[str, str]:
        """Return the environment of a host's programs."""
        scripts = sysconfig.get_path("scripts")
        return {"MPT_CONFIG_DIR": str(self.etc(name)), "PATH": f"{scripts}:/usr/sbin:/usr/bin:/sbin:/bin"}

    def network_sections(self, name: str, block: str) -> None:
        """Replace the [net_n] of the only connection of a host by those of a block."""
        [file] = (self.etc(name) / "connections").glob("*.conf")
        text = file.read_text()
        file.write_text(text[: text.index("[net_0]")] + block)

    def _here(self, name: str, command: str) -> str:
        for placeholder, pattern in (("TEXT", r"mpt join (\S+)"), ("KEY", r"--key (\S+)")):
            found = re.search(pattern, self.printed)
            command = re.sub(rf"\b{placeholder}\b", found[1] if found else placeholder, command)
        for key in re.findall(r"\b([A-Z]+)KEY\b", command):
            command = command.replace(f"{key}KEY", self.keys[key.lower()])
        for slow, hasty in HASTE:
            command = slow.sub(hasty, command)
        for place, here in {**self.places, "/etc/mpt": str(self.etc(name))}.items():
            command = command.replace(place, here)
        return command

    def watched(self) -> str:
        """Return what the programs that look meanwhile have printed, and end them."""
        printed = ""
        while self._watching:
            host, process = self._watching.pop()
            host.end(process)
            printed += process.output()
        return printed

    def end(self) -> None:
        """End all that was started."""
        self.watched()
        for name, process in self.daemons.items():
            self.hosts[name].end(process)


@contextmanager
def typist(
    name: str, hosts: Mapping[str, Host], directory: Path, places: Mapping[str, str] | None = None
) -> Iterator[Typist]:
    """Give a typist, who must have typed everything at the end of the block."""
    made = Typist(name, hosts, directory / re.sub(r"\W+", "-", name), places)
    try:
        yield made
        assert made.pieces == [], f"not typed: {made.pieces}"
    finally:
        made.end()
