"""What the two ends agree on when links fail in one direction or altogether, when both speak at once, and under
attack."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.ping import ping
from mpt.lab.process import python
from mpt.lab.transfer import Transfer
from mpt.lab.tunnel import COMMAND_PORT
from mpt.model import AuthType
from mpt.wire import command
from mpt.wire.command import Message
from tests.netns.support import answers, no_path_falls, status_count, wait_until
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support_control import (
    NOBODY,
    PATH_0,
    PATH_1,
    SYSTEM_PYTHON,
    A,
    B,
    Site,
    change,
    guide_hosts,
    run,
    settle,
)

MUTATED, HALF_OPEN = 20_000, 10_000
SHORT = 0.6  # s, the dead time of paths that are meant to die
TIMEOUT = 25  # s, cmd_timeout of the guide
NO_PATH = "lab_ipv4: no path works; packets are dropped"
MEMORY = 70e6  # octets


# ---- one-way loss, no path -----------------------------------------------------------------------------------------


def test_loss_in_one_direction_stops_both(lab: Lab) -> None:
    """When frames from a to b are lost on one path, both ends stop using it within the dead time and a second, a stream
    goes on over the other one, and when they pass again both use it again."""
    extra = {"path_0": [f"dead_time = {SHORT}"]}
    a, b, links = guide_hosts(lab, Shape(rate_mbit=20), Shape(rate_mbit=20), extra=extra)
    transfer = Transfer(a.host, b.host, B, seconds=4, warmup=0.3, pace=8)  # so that no queue is full, and drops a ping
    time.sleep(0.5)
    links[0].black_hole("ab")

    def both_know() -> bool:
        return "the peer says it is down" in a.daemon.process.output() and status_count(b.daemon, 0, "down") > 0

    both = wait_until(both_know, "down at both ends", SHORT + 1)
    settle(a, b, paths=["down", "up"])
    assert a.status()["connections"][0]["paths"][0]["peer_says_down"] is True  # a itself still hears b
    assert b.status()["connections"][0]["paths"][0]["keepalive_age"] > SHORT
    before = [site.status()["connections"][0]["paths"][0]["packets_sent"] for site in (a, b)]
    assert None not in ping(a.host, B, count=20, interval=0.01)
    assert [site.status()["connections"][0]["paths"][0]["packets_sent"] for site in (a, b)] == before
    started = time.monotonic()
    links[0].restore("ab")
    settle(a, b, timeout=2)
    back = time.monotonic() - started
    result = transfer.finish()
    print(f"\none way: both down after {both:.2f} s, up after {back:.2f} s; longest gap {result.longest_gap:.2f} s")
    assert result.verified
    assert result.longest_gap < SHORT + 1


def test_a_firewall_before_the_command_port_is_shown(lab: Lab) -> None:
    """When a's firewall lets only the data port through, b cannot tell a that a path is dead one way: b's status says
    so, why, and which port it is. It says no more of it when the firewall is open."""
    a, b, links = guide_hosts(lab, Shape(rate_mbit=20), Shape(rate_mbit=20))
    a.host.run(["nft", "add table inet t; add chain inet t i { type filter hook input priority 0; }"])
    a.host.run(["nft", f"add rule inet t i udp dport {COMMAND_PORT} drop"])
    links[0].black_hole("ab")
    settle(b, paths=["down", "up"])
    failure = "path_0 is down: the peer did not answer"
    wait_until(lambda: b.status()["connections"][0]["report_failure"] == failure, "the failure", 8)
    shown = " ".join(b.done("show", "status").split())
    assert f"the peer was not told that {failure}" in shown and f"UDP {COMMAND_PORT}" in shown
    a.host.run(["nft", "flush ruleset"])
    settle(a, paths=["down", "up"], timeout=15)
    wait_until(lambda: b.status()["connections"][0]["report_failure"] is None, "no failure", 5)


def test_no_path_is_left(lab: Lab) -> None:
    """When the last path dies both ends say so once and clearly; when the links carry again, all paths come back
    without anybody's help."""
    a, b, links = guide_hosts(lab, dead=SHORT)
    said = [site.daemon.process.output().count(NO_PATH) for site in (a, b)]
    for link in links:
        link.black_hole()
    settle(a, b, paths=["down", "down"], timeout=SHORT + 1)
    for site, before in zip((a, b), said, strict=True):
        assert site.daemon.process.output().count(NO_PATH) == before + 1
        assert "0 of 2 paths work" in site.done("show", "status")
    assert not answers(a.host, B, timeout=0.2)
    for link in links:
        link.restore()
    answered = wait_until(lambda: answers(a.host, B, timeout=0.1), "an answer", 2)
    back = settle(a, b, timeout=12)
    for site in (a, b):
        assert "lab_ipv4: there is a working path again" in site.daemon.process.output()
    print(f"\nno path: an answer {answered:.2f} s after the links were back, all paths up after {back:.2f} s more")


def test_a_peer_that_is_gone_cannot_be_told(lab: Lab) -> None:
    """``mpt path down`` with a dead peer takes the path down all the same, says within cmd_timeout that the peer was
    not told, and the peer learns it when it is back."""
    a, b, _ = guide_hosts(lab, dead=11)
    b.daemon.stop()
    started = time.monotonic()
    said = a.done("path", "down", *PATH_0)
    took = time.monotonic() - started
    assert "manual down; the peer was not told" in said
    assert took < 6
    b.restart_daemon()
    settle(b, paths=["down", "up"], timeout=11)
    assert a.paths()[0] == "manual down"
    a.done("path", "up", *PATH_0)
    settle(a, b)


# ---- both speak at once --------------------------------------------------------------------------------------------


def at_once(*commands: tuple[Site, list[str]]) -> list[str]:
    """What ``mpt`` says to commands that are given at the same time; all must succeed."""
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda each: each[0].done(*each[1]), commands))


def test_crossing_reports(lab: Lab) -> None:
    """Both operators take the same path down, and up, and down and up against each other at the same moment: the peer
    always knows, and in the end both ends show what both operators said."""
    a, b, _ = guide_hosts(lab)
    mine, yours = list(PATH_0), list(reversed(PATH_0))
    for _ in range(3):
        said = at_once((a, ["path", "down", *mine]), (b, ["path", "down", *yours]))
        assert all("manual down; the peer knows" in each for each in said), said
        settle(a, b, paths=["manual down", "up"], timeout=2)
        said = at_once((a, ["path", "up", *mine]), (b, ["path", "up", *yours]))
        settle(a, b, timeout=3)
    a.done("path", "down", *mine)
    at_once((a, ["path", "up", *mine]), (b, ["path", "down", *yours]))
    settle(b, paths=["manual down", "up"], timeout=3)
    settle(a, paths=["down", "up"], timeout=3)
    at_once((a, ["path", "down", *PATH_1]), (b, ["path", "up", *yours]))
    settle(a, paths=["up", "manual down"], timeout=3)
    settle(b, paths=["up", "down"], timeout=3)
    a.done("path", "up", *PATH_1)
    settle(a, b)


def test_a_path_goes_down_and_up_again_at_once(lab: Lab) -> None:
    """An operator who changes his mind ten times in a row leaves both ends as he said last."""
    a, b, _ = guide_hosts(lab)
    for _ in range(5):
        a.done("path", "down", *PATH_0)
        a.done("path", "up", *PATH_0)
    settle(a, b)
    time.sleep(2.5)  # the reports are confirmed after two seconds
    assert a.paths() == b.paths() == ["up", "up"]
    assert None not in ping(a.host, B, count=10, interval=0.01)


# ---- a second daemon -----------------------------------------------------------------------------------------------


def test_a_second_daemon(lab: Lab) -> None:
    """One that wants the command port, the tunnel or the data port of the first ends with 1 and one line that names it;
    the first does not notice."""
    a, _, _ = guide_hosts(lab)
    second = python("mpt.daemon.main", "--config", str(a.directory))
    wanted = [
        (f"UDP port {COMMAND_PORT} is in use", r"^cmdport_local.*", "cmdport_local = 60457"),
        ("tun0 is in use", r"^name .*", "name = tun1"),
        ("UDP port 4754 at 10.1.1.2 is in use", "", ""),
    ]
    for text, pattern, replacement in wanted:
        ended = run(a.host, second)
        assert ended.code == 1, ended
        assert text in ended.errors
        assert len(ended.errors.strip().splitlines()) == 1
        if pattern:
            change(a.directory / "interface.conf", pattern, replacement)
    assert a.paths() == ["up", "up"]
    assert answers(a.host, B)


# ---- hostile -------------------------------------------------------------------------------------------------------


def round_1(dice: random.Random, auth_type: AuthType = AuthType.NONE) -> bytes:
    """The first datagram of a handshake that is never gone on with, as host a would send it."""
    return command.encode(
        Message(
            command.PATH_STATUS,
            dice.choice([0, 0x80]),
            1,
            4,
            ip_address(A),
            ip_address(B),
            command.encode_size(dice.randrange(1 << 16)),
            auth_type,
            dice.randbytes(4),
            dice.randbytes(32),
        )
    )


def mutated(dice: random.Random) -> bytes:
    """Noise, or a command datagram with octets changed, cut off or added."""
    if dice.random() < 0.1:
        return dice.randbytes(dice.choice([0, 1, 4, 40, 44, 76, 500, 1400]))
    kind, auth_type = dice.choice([command.PATH_STATUS, command.CREATE, 0xA4, 0xA5]), dice.choice(list(AuthType))
    if kind == 0xA4:
        datagram = bytearray(b"\xa4\0\0\0path down 10.1.1.3 10.1.1.2\0")
    elif kind == 0xA5:
        datagram = bytearray(b"\xa5\0\0\0")
    else:
        payload = dice.choice(
            [
                command.encode_size(32),
                command.encode_path(ip_address("10.1.1.9"), ip_address("10.1.1.3")),
                b";;;;;;;\n[connection]\nname = x\nip_ver = 4\nip_local = 10.0.0.9\npath_count = 1\n[path_0]\n",
            ]
        )
        sender, receiver = dice.choice([(A, B), (B, A), ("10.0.0.9", B)])
        datagram = bytearray(
            command.encode(
                Message(
                    kind,
                    0x80,
                    dice.randrange(5),
                    4,
                    ip_address(sender),
                    ip_address(receiver),
                    payload,
                    auth_type,
                    dice.randbytes(4),
                    dice.randbytes(32),
                )
            )
        )
    for _ in range(dice.choice([0, 1, 2, 8])):
        datagram[dice.randrange(len(datagram))] = dice.randrange(256)
    return bytes(datagram[: dice.randrange(len(datagram))] if dice.random() < 0.2 else datagram)


def attack(host: Host, source: str) -> None:
    """Send the mutated datagrams and the half-open handshakes from `source`, and from 200 ports of it, to b's command
    port."""
    dice = random.Random(4754)
    with contextlib.ExitStack() as closing:
        sockets = host.call(lambda: [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(200)])
        for each in sockets:
            closing.enter_context(each)
            each.bind((source, 0))
            each.setblocking(False)
        for number in range(MUTATED + HALF_OPEN):
            datagram = round_1(dice, dice.choice(list(AuthType))) if number % 3 == 2 else mutated(dice)
            with contextlib.suppress(OSError):  # an ICMP error, or a full buffer
                sockets[number % 200].sendto(datagram, ("10.1.1.3", COMMAND_PORT))
            if number % 50 == 49:
                time.sleep(0.006)


@pytest.mark.parametrize(("source", "auth_type"), [("10.1.1.99", 2), ("10.1.1.2", 0)])
def test_commands_under_attack(lab: Lab, source: str, auth_type: int) -> None:
    """While 20,000 mutated command datagrams and 10,000 half-open handshakes come from a stranger or from the peer's
    own address, ``mpt show status`` and ``mpt path`` of both hosts are answered within cmd_timeout and the peer is
    told; nothing has changed afterwards but what was asked, every datagram is counted, and the daemon has not grown."""
    key = "00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF"
    extra = {"connection": [f"auth_type = {auth_type}", f"auth_key = {key}"]}
    a, b, _ = guide_hosts(lab, extra=extra)
    a.host.ip("address add 10.1.1.99/24 dev eth1")
    times: list[float] = []
    at_start = b.daemon.process.memory().resident
    with ThreadPoolExecutor(1) as pool, no_path_falls(b.daemon, paths=(0,)):
        attacking = pool.submit(attack, a.host, source)
        while not attacking.done():
            for site, words in (
                (b, ["show", "status"]),
                (b, ["path", "down", *reversed(PATH_1)]),
                (a, ["path", "down", *PATH_1]),
                (a, ["path", "up", *PATH_1]),
                (b, ["path", "up", *reversed(PATH_1)]),
            ):
                started = time.monotonic()
                said = site.done(*words)
                times.append(time.monotonic() - started)
                assert "was not told" not in said
    settle(a, b, timeout=5)
    assert None not in ping(a.host, B, count=20, interval=0.01, timeout=0.5)
    resident = b.daemon.process.memory().resident
    refused = sum(b.status()["control_dropped"].values())
    print(
        f"\n{MUTATED + HALF_OPEN} from {source}, auth_type {auth_type}: {len(times)} commands, slowest "
        f"{max(times):.2f} s; {refused} refused; {at_start / 1e6:.0f} to {resident / 1e6:.0f} MB"
    )
    assert max(times) < TIMEOUT
    assert len(b.status()["connections"]) == 1
    assert status_count(b.daemon, 0, "manual down") == 0
    assert resident < MEMORY
    assert refused > MUTATED / 4


CROWD = """
import socket, sys, time
clients = [socket.socket(socket.AF_UNIX) for _ in range(100)]
for number, client in enumerate(clients):
    client.connect(sys.argv[1])
    try:
        client.sendall([b"x" * 100_000, bytes(range(256)) * 8 + b"\\n", b""][number % 3])
    except OSError:
        pass
print("ready", flush=True)
time.sleep(60)
"""


def test_a_crowd_at_the_unix_socket(lab: Lab) -> None:
    """A user who may not change anything and opens 100 connections, silent or full of noise, does not lock root out."""
    a, _, _ = guide_hosts(lab)
    crowd = a.host.start([*NOBODY, SYSTEM_PYTHON, "-c", CROWD, a.control_socket])
    crowd.wait_for_output("ready", 10)
    assert "2 of 2 paths work" in a.done("show", "status")
    assert "the peer knows" in a.done("path", "down", *PATH_0)
    assert a.daemon.process.memory().resident < MEMORY
    crowd.stop()
    a.done("path", "up", *PATH_0)
