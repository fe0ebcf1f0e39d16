"""What anybody may send costs little: the tunnel goes on while strangers flood the command port and the local socket.

The figures that are printed (how much later pings come back) are for people: they depend on what else the machine does.
"""

from __future__ import annotations

import re
import sys
import time
from ipaddress import ip_address

import pytest

from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.ping import ping
from mpt.lab.tunnel import COMMAND_PORT
from mpt.model import AuthType
from mpt.wire import command
from mpt.wire.command import Message
from tests.config.files import CREATE_TEMPLATE
from tests.netns.support import no_path_falls, wait_until
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support_control import NOBODY, PATH_0, SYSTEM_PYTHON, B, Site, guide_hosts

RATE = 5000  # creates a second
CLIENTS = 60
SECONDS = 3.0  # a flood lasts

FLOOD = """
import socket, sys, time
source, target, port, datagram, rate, seconds = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
    flood.bind((source, 0))
    datagram, rate = bytes.fromhex(datagram), float(rate)
    begin, sent = time.monotonic(), 0
    while (gone := time.monotonic() - begin) < float(seconds):
        while sent < gone * rate:
            flood.sendto(datagram, (target, int(port)))
            sent += 1
        time.sleep(0.001)
print(sent)
"""

# Clients that ask for the status as fast as they are let, and count the answers
LOOKERS = """
import selectors, socket, sys, time
path, count, seconds = sys.argv[1:]
request = b'{"mpt": 1, "id": 1, "command": ["show", "status"]}\\n' * 100
ready, answers = selectors.DefaultSelector(), 0
for _ in range(int(count)):
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    client.setblocking(False)
    ready.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
end = time.monotonic() + float(seconds)
while time.monotonic() < end:
    for key, events in ready.select(0.1):
        if events & selectors.EVENT_READ:
            answers += key.fileobj.recv(1 << 20).count(b"\\n")
        if events & selectors.EVENT_WRITE:
            try:
                key.fileobj.send(request)
            except BlockingIOError:
                pass
    time.sleep(0.001)
print(answers)
"""

# A client that comes and goes as fast as it is let in
COMERS = """
import socket, sys, time
path, _, seconds = sys.argv[1:]
end, came = time.monotonic() + float(seconds), 0
while time.monotonic() < end:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        came += 1
print(came)
"""

# A user who passes for root: it sends from a port that a socket of root's shares, and closes its own at once
PRETENDER = """
import socket, sys
for _ in range(200):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as pretender:
        pretender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        pretender.bind(("127.0.0.1", int(sys.argv[1])))
        pretender.sendto(bytes.fromhex(sys.argv[2]), ("127.0.0.1", int(sys.argv[3])))
print("sent")
"""

WITHOUT_IPV6 = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>
int socket(int domain, int type, int protocol)
{
    int (*real)(int, int, int) = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
    if (domain == AF_INET6) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    return real(domain, type, protocol);
}
"""


def hosts(lab: Lab) -> tuple[Site, Site]:
    """Two daemons that notice within a second when one of them does not run for a while."""
    a, b, _ = guide_hosts(lab, Shape(rate_mbit=100), Shape(rate_mbit=100), keepalive=0.1, dead=1.0)
    return a, b


def late(site: Site) -> float:
    """The 99th percentile of 200 round-trip times through the tunnel, in milliseconds; all must come back."""
    times = ping(site.host, B, count=200, interval=0.012, timeout=1.0)
    found = sorted(each for each in times if each is not None)
    assert len(found) == len(times), f"{times.count(None)} pings were lost"
    return found[round(0.99 * len(found)) - 1] * 1000


def run_beside(a: Site, b: Site, argv: list[str]) -> tuple[str, float, float]:
    """Run a flood on host a and ping through the tunnel meanwhile, which no path may notice: what the flood has
    printed, and the milliseconds without and with it."""
    without = late(a)
    with no_path_falls(a.daemon, b.daemon):
        flood = a.host.start(argv)
        time.sleep(0.3)
        beside = late(a)
        assert flood.wait(30) == 0, flood.complaint()
    return flood.output(), without, beside


def script(lab: Lab, text: str) -> str:
    """A file with this program that every user may read."""
    lab.directory.chmod(0o755)
    path = lab.directory / f"script{len(list(lab.directory.glob('script*')))}.py"
    path.write_text(text)
    path.chmod(0o644)
    return str(path)


def test_a_flood_of_creates_from_a_stranger(lab: Lab) -> None:
    """5,000 a second, not signed: hardly any is looked at, nothing is logged, no path is down and no ping is lost,
    though there is a template of many paths."""
    a, b = hosts(lab)
    head, _, paths = CREATE_TEMPLATE.partition("[path_0]")
    path = paths.partition("[path_1]")[0]
    ports = [f"udp_dst = {first}-{first + 2000}\n" for first in range(1000, 61000, 3000)]
    template = head + "".join(f"[path_{number}]{path}{each}" for number, each in enumerate(ports))
    (b.connections / "conf.template").write_text(re.sub(r"path_count.*", "path_count = 20", template))
    a.host.ip("address add 10.1.1.99/24 dev eth1")
    forged = command.encode(
        Message(command.CREATE, 0, 1, 4, ip_address("10.0.0.77"), ip_address(B), bytes(4), AuthType.SHA256)
    )
    logged = b.daemon.process.output().count("\n")
    argv = ["10.1.1.99", "10.1.1.3", str(COMMAND_PORT), forged.hex(), str(RATE), str(SECONDS)]
    cpu = b.daemon.process.cpu_seconds()
    said, without, beside = run_beside(a, b, [sys.executable, script(lab, FLOOD), *argv])
    cpu = b.daemon.process.cpu_seconds() - cpu
    sent = int(said)
    dropped = b.status()["control_dropped"]
    print(f"\n{sent} creates: ping p99 {without:.1f} -> {beside:.1f} ms, {cpu:.2f} s of CPU; {dropped}")
    assert sent > 0.5 * RATE * SECONDS
    assert 0.3 * sent < dropped["too_many"] < sent  # the kernel drops what a busy daemon does not fetch
    assert 0 < dropped["request_digest"] < 0.05 * sent
    assert b.daemon.process.output().count("\n") == logged


@pytest.mark.parametrize("program", [LOOKERS, COMERS], ids=["sixty that ask", "one that comes and goes"])
def test_clients_of_a_user_who_may_only_look(lab: Lab, program: str) -> None:
    """They do so as fast as they can: no path is down, no ping is lost, root is served at once."""
    a, b = hosts(lab)
    argv = [*NOBODY, SYSTEM_PYTHON, script(lab, program), a.control_socket, str(CLIENTS), str(SECONDS)]
    cpu = a.daemon.process.cpu_seconds()
    said, without, beside = run_beside(a, b, argv)
    cpu = a.daemon.process.cpu_seconds() - cpu
    print(f"\n{said.strip()} times: ping p99 {without:.1f} -> {beside:.1f} ms, {cpu:.2f} s of CPU")
    assert CLIENTS < int(said) < 3000 * SECONDS
    flood = a.host.start(argv)
    time.sleep(0.5)
    asked = time.monotonic()
    a.done("path", "down", *PATH_0)
    assert a.paths() == ["manual down", "up"]
    print(f"root: {time.monotonic() - asked:.2f} s for two commands meanwhile")
    assert flood.wait(30) == 0


def test_a_flood_of_local_datagrams(lab: Lab) -> None:
    """The same over UDP: 5,000 requests a second from a local user, for a change, so that it has to be looked up."""
    a, b = hosts(lab)
    request = b"\xa4\0\0\0path down 10.1.1.2 10.1.1.3\0".hex()
    argv = ["127.0.0.1", "127.0.0.1", str(COMMAND_PORT), request, str(RATE), str(SECONDS)]
    cpu = a.daemon.process.cpu_seconds()
    said, without, beside = run_beside(a, b, [*NOBODY, SYSTEM_PYTHON, script(lab, FLOOD), *argv])
    cpu = a.daemon.process.cpu_seconds() - cpu
    dropped = a.status()["control_dropped"]
    print(f"\n{said.strip()} requests: ping p99 {without:.1f} -> {beside:.1f} ms, {cpu:.2f} s of CPU; {dropped}")
    assert dropped["local_busy"] > 0.8 * int(said)
    assert a.paths() == ["up", "up"]


def test_a_user_does_not_pass_for_root_over_udp(lab: Lab) -> None:
    """It sends from the port of a root's socket (SO_REUSEADDR) and closes its own before it can be looked up. Root's
    own program is believed if its socket is connected; else the reply says what there is to do."""
    a, _ = hosts(lab)
    down = b"\xa4\0\0\0path down 10.1.1.2 10.1.1.3\0".hex()
    holder = "import socket, sys, time\n" + (
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        's.bind(("0.0.0.0", 1900))\nprint("holds", flush=True)\ntime.sleep(100)\n'
    )
    held = a.host.start([sys.executable, script(lab, holder)])
    held.wait_for_output("holds", 5)
    pretender = [*NOBODY, SYSTEM_PYTHON, script(lab, PRETENDER), "1900", down, str(COMMAND_PORT)]
    assert a.host.run(pretender) == "sent\n"
    time.sleep(0.5)
    assert a.paths() == ["up", "up"]
    assert "manual down" not in a.daemon.process.output()
    unconnected = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.settimeout(5)\n"
        's.sendto(bytes.fromhex(sys.argv[1]), ("127.0.0.1", int(sys.argv[2])))\n'
        "print(s.recv(2000)[4:].decode())\n"
    )
    refused = a.host.run([sys.executable, script(lab, unconnected), down, str(COMMAND_PORT)])
    assert refused.startswith("CMD-ERROR:not permitted") and "udp_commands = unconnected" in refused
    assert a.paths() == ["up", "up"]
    a.done(f"-{COMMAND_PORT}", "path", "down", *PATH_0)
    assert a.paths() == ["manual down", "up"]


def test_a_kernel_without_ipv6(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every IPv6 socket is refused to both daemons: the tunnel works, peers tell each other, and so does `mpt`."""
    source, library = lab.directory / "no6.c", lab.directory / "no6.so"
    source.write_text(WITHOUT_IPV6)
    compiler = lab.host("compiler")
    compiler.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"])
    monkeypatch.setenv("LD_PRELOAD", str(library))
    a, b = hosts(lab)
    assert [line for line in a.host.run(["ss", "-Hnua", "-6"]).splitlines() if str(COMMAND_PORT) in line] == []
    assert None not in ping(a.host, B, count=20, interval=0.01)
    said = a.done("path", "down", *PATH_0)
    assert "the peer knows" in said
    wait_until(lambda: b.paths() == ["down", "up"], "the peer's word")
    a.done(f"-{COMMAND_PORT}", "path", "up", *PATH_0)
    wait_until(lambda: a.paths() == b.paths() == ["up", "up"], "both up")
