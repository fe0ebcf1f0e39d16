"""Debian's wireguard-go beside mpt, over one path, set up through its own control socket."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bench.variants import PLAIN_ADDRESS, Stage, WireGuard
from mpt.errors import HostError
from mpt.lab.lab import Lab
from mpt.lab.links import PLAIN
from mpt.lab.process import Process
from mpt.lab.tunnel import wait_for_answer

CONTROL = Path("/var/run/wireguard")  # the directory of the control sockets, fixed in the program
PORT = 51820
MTU = 1420  # bytes, its default
ADDRESSES = ("10.0.0.2", "10.0.0.3")
OUTER = ("10.1.1.2", PLAIN_ADDRESS)
START_TIME = 5.0  # seconds until the control socket is there


def has_wireguard() -> bool:
    """Return whether the program is installed."""
    return shutil.which("wireguard-go") is not None


def build_wireguard(lab: Lab, variant: WireGuard) -> Stage:
    """Set up hosts, one unshaped link and both programs; b answers a ping then."""
    hosts = (lab.host("wireguard-a"), lab.host("wireguard-b"))
    lab.cables(*hosts, [PLAIN])
    keys = [X25519PrivateKey.generate() for _ in hosts]
    names = [f"{hosts[0].namespace[-8:]}{side}" for side in "ab"]  # the sockets of all namespaces are in one directory
    programs = []
    for here, there in ((0, 1), (1, 0)):
        host, name = hosts[here], names[here]
        programs.append(host.start(["wireguard-go", "-f", name]))
        _configure(name, keys[here], keys[there], OUTER[there], programs[-1])
        host.ip(f"address add {ADDRESSES[here]}/24 dev {name}", f"link set {name} mtu {MTU} up")
    wait_for_answer(hosts[0], ADDRESSES[1], programs)
    return Stage(variant, *hosts, ADDRESSES[1], programs)


def _configure(name: str, own: X25519PrivateKey, peer: X25519PrivateKey, address: str, program: Process) -> None:
    """Give the program its keys and its peer (the "set" of WireGuard's cross-platform interface)."""
    lines = [
        "set=1",
        f"private_key={own.private_bytes_raw().hex()}",
        f"listen_port={PORT}",
        f"public_key={peer.public_key().public_bytes_raw().hex()}",
        f"endpoint={address}:{PORT}",
        "allowed_ip=0.0.0.0/0",
    ]
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(START_TIME)
        _connect(control, CONTROL / f"{name}.sock", program)
        control.sendall("\n".join([*lines, "", ""]).encode())
        answer = control.recv(100).decode()
    if "errno=0" not in answer:
        raise HostError(f"wireguard-go refused its configuration: {answer.strip()}")


def _connect(control: socket.socket, path: Path, program: Process) -> None:
    end = time.monotonic() + START_TIME
    while True:
        try:
            return control.connect(str(path))
        except OSError as error:
            if time.monotonic() > end:
                raise HostError(f"wireguard-go did not start ({error}):\n{program.complaint()}") from error
            time.sleep(0.02)
