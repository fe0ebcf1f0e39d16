"""What the tests of the control plane share: the guide's two hosts, the `mpt` client on them, and what the wires
carry."""

from __future__ import annotations

import re
import select
import shutil
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import mpt
from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import Link, Shape
from mpt.lab.namespaces import NETNS_DIRECTORY
from mpt.lab.process import python
from mpt.lab.tunnel import DATA_PORT, Daemon, Description, Side, write_configuration
from mpt.local.sockets import control_sockets
from tests.netns.support import figure_3, start, status_of, wait_until

A, B = "10.0.0.2", "10.0.0.3"  # inside the tunnel, guide figure 3
A6, B6 = "fec0::2", "fec0::3"
PATH_0 = ("10.1.1.2", "10.1.1.3")  # as a calls it
PATH_1 = ("10.2.2.2", "10.2.2.3")
DEAD = 2.0  # s; the machine that runs the tests may be busy
CONNECTION = "connection.conf"  # the guide's name for the file
SYSTEM_PYTHON = "/usr/bin/python3"
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
ETH_P_IP = 0x0800


# ---- hosts ---------------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """One of the two hosts, its configuration directory and its daemon."""

    host: Host
    directory: Path
    daemon: Daemon

    @property
    def connections(self) -> Path:
        return self.directory / "connections"

    def mpt(self, *words: str) -> Said:
        """Run ``mpt`` with `words` here to its end."""
        return mpt_on(self.host, *words)

    def done(self, *words: str) -> str:
        """What ``mpt`` says of a command that must succeed."""
        said = self.mpt(*words)
        assert said.code == 0, f"mpt {' '.join(words)}: {said}"
        return said.output

    def refused(self, *words: str, code: int = 1) -> str:
        """What ``mpt`` says of a command that must fail with `code`: words without a traceback."""
        said = self.mpt(*words)
        assert said.code == code, f"mpt {' '.join(words)}: {said}"
        assert said.errors and "Traceback" not in said.errors
        return said.errors

    def status(self) -> Mapping[str, Any]:
        """The document of ``mpt --json show status``, asked for without starting the client."""
        return status_of(self.daemon)

    @property
    def control_socket(self) -> str:
        """The daemon's unix socket, by the number of the network namespace."""
        return control_sockets({}, NETNS_DIRECTORY / self.host.namespace)[0]

    def paths(self, connection: int = 0) -> list[str]:
        """The states of the paths of one connection, in the words of ``mpt show status``."""
        return [path["status"] for path in self.status()["connections"][connection]["paths"]]

    def restart_daemon(self) -> None:
        """Stop the daemon, if it runs, and start it again."""
        if self.daemon.process.running:
            self.daemon.stop()
        (self.daemon,) = start((self.host, self.directory))


@dataclass(frozen=True)
class Said:
    """How a program ended, and what it wrote."""

    code: int
    output: str
    errors: str


def mpt_on(host: Host, *words: str) -> Said:
    """Run ``mpt`` with `words` on `host` to its end."""
    return run(host, python("mpt.cli.main", *words))


def run(host: Host, argv: Sequence[str]) -> Said:
    """Run a program on `host` to its end."""
    process = host.start(argv)
    try:
        code = process.wait(40)
    finally:
        host.end(process)
    return Said(code, process.output(), process.errors())


def guide_hosts(
    lab: Lab,
    *shapes: Shape,
    keepalive: float = 0.15,
    dead: float = DEAD,
    window: int = 1000,
    ipv6: bool = False,
    outer: int = 4,
    networks: Sequence[tuple[str, str]] = (),
    extra: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Site, Site, list[Link]]:
    """Hosts a and b of the guide's figure 3, their daemons running, all paths up, and the links.

    The connection is in connection.conf on both; with `ipv6` there is another one, in ipv6.conf.
    """
    a, b, links = figure_3(lab, *shapes)
    description = Description(
        links,
        (f"{A}/24", f"{B}/24"),
        (f"{A6}/64", f"{B6}/64") if ipv6 else None,
        keepalive=keepalive,
        dead=dead,
        outer=outer,
        reorder_window=window,
        networks=networks,
        extra=extra or {},
    )
    sides: tuple[tuple[Host, Side], ...] = ((a, "a"), (b, "b"))
    directories = []
    for _, side in sides:
        directory = lab.directory / f"conf-{side}"
        write_configuration(description, side, directory)
        (directory / "connections" / "ipv4.conf").rename(directory / "connections" / CONNECTION)
        directories.append(directory)
    daemons = start((a, directories[0]), (b, directories[1]))
    site_a, site_b = (
        Site(host, directory, daemon) for host, directory, daemon in zip((a, b), directories, daemons, strict=True)
    )
    settle(site_a, site_b)
    return site_a, site_b, links


def settle(*sites: Site, paths: Sequence[str] = ("up", "up"), timeout: float = 6.0) -> float:
    """Wait until ``mpt show status`` shows `paths` at every site; how many seconds it took."""

    def as_wanted() -> bool:
        return all(site.paths() == list(paths) for site in sites)

    try:
        return wait_until(as_wanted, f"paths {paths}", timeout)
    except AssertionError as error:
        shown = "\n".join(site.done("show", "status") for site in sites)
        raise AssertionError(f"{error}\n{shown}") from None


def change(file: Path, pattern: str, replacement: str, count: int = 0) -> None:
    """Change the lines of `file` that match `pattern`, or the first `count` of them; one must."""
    text, found = re.subn(pattern, replacement, file.read_text(), count=count, flags=re.MULTILINE)
    assert found, f"{pattern} is not in {file}"
    file.write_text(text)


def value_of(file: Path, section: str, key: str) -> str:
    """What a configuration file says, as it stands there."""
    text = file.read_text().partition(f"[{section}]")[2].partition("\n[")[0]
    found = re.search(rf"^{key}\s*=[ \t]*([^#;\n]*?)\s*$", text, re.MULTILINE)
    assert found, f"no {key} in [{section}] of {file}"
    return found[1]


# ---- somebody who is not root --------------------------------------------------------------------------------------


def client_of_nobody(lab: Lab, host: Host) -> Callable[..., Said]:
    """``mpt`` run by the user nobody: `client(*words)`. It runs a copy that everybody may read, by the system's
    Python."""
    lab.directory.chmod(0o755)
    readable = lab.directory / "readable"
    source = Path(mpt.__file__).parent
    for part in ("__init__.py", "errors.py", "model.py", "values.py", "cli", "config", "local"):
        target = readable / "mpt" / part
        if (source / part).is_dir():
            shutil.copytree(source / part, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / part, target)
    for path in (readable, *readable.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)

    def client(*words: str) -> Said:
        clean = ["env", "-i", "PATH=/usr/bin:/bin", "HOME=/", f"PYTHONPATH={readable}", "PYTHONDONTWRITEBYTECODE=1"]
        return run(host, [*clean, *NOBODY, SYSTEM_PYTHON, "-P", "-m", "mpt.cli.main", *words])

    return client


# ---- what the wires carry ------------------------------------------------------------------------------------------


class Sniffer:
    """A context manager that reads the GRE headers of the datagrams for UDP `port` arriving at `host`.

    `sequences` is a list of the sequence numbers for each interface, in the order of arrival, `datagrams` how many came
    with and without one. Frames must be of one datagram each, so the links have to be shaped (a plain one carries whole
    batches).
    """

    def __init__(self, host: Host, *interfaces: str, port: int = DATA_PORT) -> None:
        self.sequences: dict[str, list[int]] = {name: [] for name in interfaces}
        self.datagrams = dict.fromkeys(interfaces, 0)
        self._port = port
        self._sockets = {host.call(_packet_socket, name): name for name in interfaces}
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Sniffer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.close()
        self._thread.join()
        for each in (*self._sockets, self._stopped):
            each.close()

    def assert_untouched(self, least: int) -> None:
        """On every interface at least so many numbers have come, each larger than the one before."""
        for name, numbers in self.sequences.items():
            assert len(numbers) >= least, f"{len(numbers)} at {name}"
            backwards = [(x, y) for x, y in pairwise(numbers) if y <= x]
            assert not backwards, f"{name}: {backwards[:5]} of {len(numbers)}"

    def _read(self) -> None:
        while self._stopped not in (ready := select.select([*self._sockets, self._stopped], [], [])[0]):
            for each in ready:
                packet = each.recv(2048)
                ports_at = (packet[0] & 15) * 4
                if packet[9] != socket.IPPROTO_UDP or struct.unpack_from("!H", packet, ports_at + 2)[0] != self._port:
                    continue
                self.datagrams[self._sockets[each]] += 1
                flags, _, number = struct.unpack_from("!HHI", packet, ports_at + 8)
                if flags & 0x1000:
                    self.sequences[self._sockets[each]].append(number)


def _packet_socket(interface: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    opened.bind((interface, ETH_P_IP))
    return opened
