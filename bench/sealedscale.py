"""A server of many sealed clients on one port: they all begin at once; then what they cost, and whom they disturb.

    a  tun0 172.16.0.1/12                      b  one program that speaks for all clients, and beside it
       10.1.1.2 eth1 ────────────────────── eth1  the daemon of one more client, tun0 172.31.0.1/12, over 10.1.1.3;
                                                  a router to 10.101.0.0/16 and 10.102.0.0/16, an address a path

The server knows keys alone: a section a client in clients.conf, and one path in conf.template. So each client begins.
The clients have two paths, and are one small program (`bench.sealedclients`); the daemon's client pings and streams.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2s
from ipaddress import IPv4Address
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.asking import TIMEOUT, ask
from mpt.errors import HostError
from mpt.lab.iperf import iperf3, result
from mpt.lab.lab import Lab
from mpt.lab.links import PLAIN
from mpt.lab.ping import ping
from mpt.lab.tunnel import Daemon, wait_for_answer
from mpt.model import Identity, key_text

PATHS = 2  # of a client
KEEPALIVE = 15.0  # s, the default of sealed paths
SERVER, SERVER_OUTER = IPv4Address("172.16.0.1"), IPv4Address("10.1.1.2")
CLIENTS = IPv4Address("172.17.0.0")  # the first
DAEMON, SERVER_KEY = -1, -2  # numbers of identities
DAEMON_ADDRESS = IPv4Address("172.31.0.1")
UP_TIME = 120.0  # s until all clients must be up
PINGS, PING_INTERVAL = 100, 0.03  # s
REPEATS = 5  # of a command
NAMES = (
    "start_s",
    "up_s",
    "up_cpu_s",
    "handshakes_a_s",
    "kb_per_client_before",
    "kb_per_client",
    "idle_cpu_percent",
    "renew_cpu_ms_each",
    "kb_per_client_after",
    "status_s",
    "add_s",
    "add_cpu_s",
    "remove_s",
    "remove_cpu_s",
    "lost_pings",
    "longest_ping_ms",
    "lost_asks",
    "tcp1_mbit_one",
    "tcp1_mbit",
)


@dataclass(frozen=True)
class Effort:
    """How long to measure: seconds of idleness, over which all sessions are renewed, and until what was done is over;
    and the rounds and seconds of the streams."""

    idle: float = 10.0
    renew: float = 30.0
    settle: float = 6.0
    rounds: int = 3
    stream: int = 3


def outer(path: int, number: int) -> IPv4Address:
    """Return the address of a path of client `number`."""
    return IPv4Address(f"10.{101 + path}.0.1") + number


@cache
def identity(number: int) -> Identity:
    """Return the key pair of a client, which is no secret at all."""
    private = blake2s(f"client {number} of a benchmark".encode()).digest()
    return Identity(private, Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw())


def clients_text(count: int) -> str:
    """Return clients.conf with the daemon's client and so many others."""
    named = [("daemon", DAEMON_ADDRESS, DAEMON), *((f"client{n}", CLIENTS + n, n) for n in range(count))]
    return "\n".join(
        f"[client {name}]\npeer_key = {key_text(identity(number).public_key)}\nip_remote = {address}\n"
        for name, address, number in named
    )


def write_server(directory: Path, data_plane: str, clients: int) -> None:
    """Write the configuration of the server."""
    _write_host(directory, SERVER_KEY, SERVER, f"data_plane = {data_plane}\ncontrol_socket = {directory / 'control'}")
    template = f"[connection]\nip_local = {SERVER}\n[path_0]\ninterface_name = eth1\n"
    (directory / "connections" / "conf.template").write_text(template)
    (directory / "connections" / "clients.conf").write_text(clients_text(clients))


def _write_client(directory: Path, data_plane: str) -> None:
    _write_host(directory, DAEMON, DAEMON_ADDRESS, f"data_plane = {data_plane}")
    (directory / "connections" / "server.conf").write_text(
        f"[connection]\nname = server\nip_local = {DAEMON_ADDRESS}\nip_remote = {SERVER}\n"
        f"peer_key = {key_text(identity(SERVER_KEY).public_key)}\n"
        f"[path_0]\ninterface_name = eth1\nremote_ipaddr = {SERVER_OUTER}\n"
    )


def _write_host(directory: Path, number: int, own: IPv4Address, lines: str) -> None:
    (directory / "connections").mkdir(parents=True)
    key = directory / "private.key"
    key.touch(0o600)
    key.write_bytes(_pem(identity(number)))
    (directory / "interface.conf").write_text(
        f"[general]\nprivate_key_file = {key}\n{lines}\n[tun_0]\nname = tun0\nmtu = auto\nipv4_addr = {own}/12\n"
    )


def _pem(key: Identity) -> bytes:
    private = Ed25519PrivateKey.from_private_bytes(key.private_key)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class SealedServer:
    """A server of `clients` and the daemon's client in `lab`; once made, the daemon's client is up, the others have not
    begun."""

    def __init__(self, lab: Lab, data_plane: str, clients: int, name: str) -> None:
        self.clients = clients
        self.host, self.peer = lab.host(f"{name}-a"), lab.host(f"{name}-b")
        lab.cables(self.host, self.peer, [PLAIN])
        for path in range(PATHS):
            self.host.ip(f"route add 10.{101 + path}.0.0/16 via 10.1.1.3")
            self.peer.ip(f"route add local 10.{101 + path}.0.0/16 dev lo")
        self.directory = lab.directory / name / "server"
        write_server(self.directory, data_plane, clients)
        _write_client(lab.directory / name / "client", data_plane)
        started = time.monotonic()
        self.daemon = Daemon(self.host, self.directory)
        self.daemon.wait_until_ready()
        self.start_seconds = time.monotonic() - started
        self.process = self.daemon.process
        self.client = Daemon(self.peer, lab.directory / name / "client")
        self.client.wait_until_ready()
        wait_for_answer(self.host, str(DAEMON_ADDRESS), [self.process, self.client.process], UP_TIME)
        self.driver = self.peer.start_python("bench.sealedclients", interactive=True)

    def tell(self, *words: object) -> dict[str, float]:
        """Give the clients a command; return their answer."""
        self.driver.stdin.write(" ".join(map(str, words)) + "\n")
        self.driver.stdin.flush()
        line = self.driver.stdout.readline()
        if not line:
            raise HostError(f"the clients have ended:\n{self.driver.errors()}")
        facts: dict[str, float] = json.loads(line)
        return facts

    def begin(self) -> dict[str, float]:
        """Let all clients begin at once; return their state when all are up."""
        self.tell("begin", self.clients, identity(SERVER_KEY).public_key.hex())
        end = time.monotonic() + UP_TIME
        while (state := self.tell("state"))["up"] < self.clients:
            if time.monotonic() > end:
                raise HostError(f"not all clients are up in {UP_TIME:g} s: {state}")
            time.sleep(0.2)
        return state

    def ask(self, *words: str) -> str:
        """Give the server a command; return its text."""
        return ask(self.directory / "control", *words).text

    def reload(self, clients: int) -> str:
        """Let the server have so many clients, beside the daemon's; return its answer."""
        (self.directory / "connections" / "clients.conf").write_text(clients_text(clients))
        return self.ask("reload", "clients.conf")

    def stream(self, seconds: int) -> float:
        """Return the Mbit/s of a TCP stream from the server to the daemon's client."""
        words = ("--json", "--time", str(seconds))
        with iperf3(self.host, self.peer, [str(DAEMON_ADDRESS)], *words) as (running,):
            received = result(running, seconds + TIMEOUT)["end"]["sum_received"]
        return float(received["bits_per_second"]) / 1e6

    def memory(self) -> int:
        """Return the resident memory of the server in octets."""
        return self.process.memory().resident


def measure(data_plane: str, clients: int, effort: Effort | None = None) -> dict[str, float]:
    """Return the figures of a server of so many sealed clients, by name."""
    effort = effort or Effort()
    with Lab() as lab:
        one = SealedServer(lab, data_plane, 0, "one")
        server = SealedServer(lab, data_plane, clients, "many")
        process = server.process
        least = one.memory()

        def each() -> float:
            return (server.memory() - least) / clients / 1000

        figures = {"start_s": server.start_seconds, "kb_per_client_before": each()}
        cpu = process.cpu_seconds()
        state = server.begin()
        figures |= {"up_s": state["seconds"], "up_cpu_s": process.cpu_seconds() - cpu}
        figures |= {"handshakes_a_s": clients / state["seconds"]}
        time.sleep(effort.settle)
        figures["kb_per_client"] = each()
        idle_cpu = _cpu_in(server, effort.idle) / effort.idle
        figures["idle_cpu_percent"] = 100 * idle_cpu

        server.tell("renew", effort.renew)
        seconds = effort.renew + effort.settle
        renew_cpu = _cpu_in(server, seconds) - idle_cpu * seconds
        renewed = server.tell("state")["established"] - state["established"]
        if renewed < clients:
            raise HostError(f"only {renewed} of {clients} sessions were renewed")
        figures |= {"renew_cpu_ms_each": 1000 * renew_cpu / renewed, "kb_per_client_after": each()}
        figures["status_s"] = min(_timed(lambda: server.ask("show", "status")) for _ in range(REPEATS))
        figures |= _changes(server)
        figures |= _streams(one, server, effort)
        return {name: figures[name] for name in NAMES}


def _cpu_in(server: SealedServer, seconds: float) -> float:
    """Return the CPU seconds that the server takes in the next `seconds`."""
    before = server.process.cpu_seconds()
    time.sleep(seconds)
    return server.process.cpu_seconds() - before


def _timed(command: Callable[[], object]) -> float:
    begun = time.monotonic()
    command()
    return time.monotonic() - begun


def _changes(server: SealedServer) -> dict[str, float]:
    """Add and remove a client, several times, while the daemon's client pings and all the others ask."""
    times: list[float | None] = []
    took: dict[str, list[float]] = {name: [] for name in ("add_s", "add_cpu_s", "remove_s", "remove_cpu_s")}
    asked: list[float] = []

    def pings() -> None:
        times.extend(ping(server.peer, str(SERVER), count=PINGS, interval=PING_INTERVAL))

    watches = [threading.Thread(target=pings), threading.Thread(target=lambda: asked.append(_unanswered(server)))]
    for each in watches:
        each.start()
    for _ in range(REPEATS):
        for name, clients, said in (("add", server.clients + 1, "new: "), ("remove", server.clients, "gone: ")):
            cpu = server.process.cpu_seconds()
            begun = time.monotonic()
            answer = server.reload(clients)
            took[f"{name}_s"].append(time.monotonic() - begun)
            time.sleep(0.1)
            took[f"{name}_cpu_s"].append(server.process.cpu_seconds() - cpu)
            if f"{said}client{server.clients}" not in answer:
                raise HostError(answer)
    for each in watches:
        each.join()
    answered = [each for each in times if each is not None]
    return {
        **{name: statistics.median(each) for name, each in took.items()},
        "lost_pings": times.count(None),
        "longest_ping_ms": 1000 * max(answered, default=0.0),
        "lost_asks": asked[0],
    }


def _unanswered(server: SealedServer) -> float:
    return server.tell("ask")["unanswered"]


def _streams(one: SealedServer, many: SealedServer, effort: Effort) -> dict[str, float]:
    """Return the medians of a stream beside no other client, and beside all of them, taken in turn."""
    rounds = [(one.stream(effort.stream), many.stream(effort.stream)) for _ in range(effort.rounds)]
    return {
        "tcp1_mbit_one": statistics.median(each[0] for each in rounds),
        "tcp1_mbit": statistics.median(each[1] for each in rounds),
    }
