"""The lab itself, with real namespaces, devices and frames."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mpt.errors import HostError
from mpt.lab import lab as labs
from mpt.lab import namespaces
from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.links import PLAIN, Link, Shape
from mpt.lab.ping import ping
from mpt.lab.process import environment
from mpt.lab.traces import Step, Trace
from tests.netns.support import wait_until

PAIRS = [("10.1.1.2/24", "10.1.1.3/24"), ("fd01::2/64", "fd01::3/64")]


def two_hosts(lab: Lab, shape: Shape = PLAIN) -> tuple[Host, Host, Link]:
    a, b = lab.host("a"), lab.host("b")
    return a, b, lab.link(a, b, PAIRS, shape)


def answers(host: Host, address: str = "10.1.1.3") -> bool:
    return ping(host, address, count=1, timeout=0.3) != [None]


def alive(pid: int) -> bool:
    """Whether process `pid` runs; one that only waits for its parent to notice its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def carrier(host: Host, interface: str = "eth1") -> str:
    return host.run(["cat", f"/sys/class/net/{interface}/carrier"]).strip()


def flood(a: Host, b: Host, count: int, size: int = 1000) -> int:
    """Send `count` UDP datagrams from `a` to `b` at a gentle pace; how many arrived."""
    inbox = b.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    outbox = a.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    with inbox, outbox:
        inbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        inbox.bind(("10.1.1.3", 7000))
        inbox.settimeout(0.3)
        for number in range(count):
            outbox.sendto(bytes(size), ("10.1.1.3", 7000))
            if number % 20 == 19:
                time.sleep(0.002)
        arrived = 0
        while arrived < count:
            try:
                inbox.recv(2000)
            except TimeoutError:
                break
            arrived += 1
        return arrived


def least(a: Host) -> float:
    """Return the least time of five pings, of which none is lost, in seconds: a busy machine makes some later."""
    times = [seconds for seconds in ping(a, "10.1.1.3", count=5, interval=0.002) if seconds is not None]
    assert len(times) == 5
    return min(times)


@pytest.mark.parametrize("address", ["10.1.1.3", "fd01::3"])
def test_a_plain_link_carries_both_families_at_once(lab: Lab, address: str) -> None:
    """Two hosts answer each other's first ping, over IPv4 and IPv6, right after the link is made."""
    a, _, _ = two_hosts(lab)
    (first,) = ping(a, address, count=1)
    assert first is not None and first < 0.1


def test_the_delay_counts_both_ways(lab: Lab) -> None:
    """A link of 15 ms each way answers after 30 ms and a little."""
    a, _, _ = two_hosts(lab, Shape(delay_ms=15))
    assert 0.030 <= least(a) < 0.036


def test_the_directions_can_differ(lab: Lab) -> None:
    """A delay given for one direction alone is met once on the way round."""
    a, b = lab.host("a"), lab.host("b")
    lab.link(a, b, PAIRS, Shape(delay_ms=20), back=Shape())
    assert 0.020 <= least(a) < 0.026


@pytest.mark.parametrize("shape", [Shape(rate_mbit=20), Shape(rate_mbit=20, delay_ms=5)], ids=["kernel", "process"])
def test_the_rate_is_kept(lab: Lab, shape: Shape) -> None:
    """A datagram flood of more than the rate arrives at the rate."""
    a, b, link = two_hosts(lab, shape)
    with a.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as outbox:
        end = time.monotonic() + 0.9
        started, before = time.monotonic(), link.carried_bytes()[0]
        while time.monotonic() < end:
            for _ in range(4):
                outbox.sendto(bytes(1400), ("10.1.1.3", 7000))
            time.sleep(0.001)
        mbit = (link.carried_bytes()[0] - before) * 8e-6 / (time.monotonic() - started)
    assert 15 < mbit < 22
    assert b.interfaces()["eth1"][0] > 0


def test_loss_takes_its_share_and_no_more(lab: Lab) -> None:
    """A tenth of 2000 datagrams is lost on a link with 10 % loss, none on one without."""
    a, b, link = two_hosts(lab, Shape(loss_percent=10))
    assert answers(a) or answers(a)  # neighbours known
    assert 1700 < flood(a, b, 2000) < 1890
    link.change(loss_percent=0)
    assert flood(a, b, 500) == 500


def test_a_trace_sets_the_rate_and_the_delay_from_moment_to_moment(lab: Lab) -> None:
    """Pings take the delay of the step; one that comes while nothing passes waits, and is not lost; then a line that is
    dead without an event loses all, and follows its trace again when it returns."""
    trace = Trace((Step(0.3, 20, 5), Step(0.4, 0, 5), Step(60, 20, 20)))
    a, _, link = two_hosts(lab, Shape(trace=trace))
    assert link.emulator in ("native", "python")
    wait_until(lambda: answers(a), "neighbours known")  # at the begin of the trace, or when it carries again
    began = link.begin_trace()
    assert 0.010 <= least(a) < 0.020
    time.sleep(max(began + 0.35 - time.monotonic(), 0))
    (held,) = ping(a, "10.1.1.3", count=1)
    assert held is not None and 0.2 < held < 0.45
    assert 0.040 <= least(a) < 0.050
    link.black_hole("ba")
    assert not answers(a) and carrier(a) == "1"
    link.restore()
    assert 0.040 <= least(a) < 0.050


def test_pulled_and_plugged_both_hosts_see_the_carrier(lab: Lab) -> None:
    """Pulling takes the carrier from both ends, plugging brings back carrier and traffic, IPv6 addresses included."""
    a, b, link = two_hosts(lab)
    assert (carrier(a), carrier(b)) == ("1", "1")
    link.pull()
    assert (carrier(a), carrier(b)) == ("0", "0")
    assert not answers(a)
    link.plug()
    assert (carrier(a), carrier(b)) == ("1", "1")
    assert answers(a, "fd01::3")
    link.pull("a")
    assert (carrier(a), carrier(b)) == ("0", "1")


@pytest.mark.parametrize("shape", [Shape(), Shape(delay_ms=1)], ids=["kernel", "process"])
def test_a_black_hole_is_silent(lab: Lab, shape: Shape) -> None:
    """In a black hole nothing arrives and no interface says why; restored, the link carries again."""
    a, b, link = two_hosts(lab, shape)
    assert answers(a)
    time.sleep(1.2)  # the kernel tells of a new link's state within a second
    monitor = a.start(["ip", "monitor", "link"])
    time.sleep(0.1)
    link.black_hole()
    assert not answers(a)
    assert (carrier(a), carrier(b)) == ("1", "1")
    link.restore()
    assert answers(a)
    assert monitor.output() == ""


@pytest.mark.parametrize("shape", [Shape(), Shape(delay_ms=1)], ids=["kernel", "process"])
def test_a_black_hole_in_one_direction(lab: Lab, shape: Shape) -> None:
    """With a to b swallowed, datagrams still pass from b to a."""
    a, b, link = two_hosts(lab, shape)
    assert answers(a)
    link.black_hole("ab")
    assert not answers(a)
    with (
        a.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as inbox,
        b.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as outbox,
    ):
        inbox.bind(("10.1.1.2", 7000))
        inbox.settimeout(1)
        outbox.sendto(b"still here", ("10.1.1.2", 7000))
        assert inbox.recv(100) == b"still here"


def test_an_interface_disappears_and_returns(lab: Lab) -> None:
    """A removed interface is gone from its host; returned, it has its name, its addresses and its traffic again."""
    a, b, link = two_hosts(lab)
    link.remove_interface("a")
    assert "eth1" not in a.interfaces()
    link.return_interface("a")
    assert answers(a)
    assert answers(b, "fd01::2")


def test_a_shape_changes_while_the_link_is_up(lab: Lab) -> None:
    """A plain link gets a delay, another rate, and is plain again, without losing its neighbours."""
    a, _, link = two_hosts(lab)
    link.change(delay_ms=10)
    assert (ping(a, "10.1.1.3", count=1)[0] or 0) >= 0.020
    link.change(rate_mbit=10)
    link.change(rate_mbit=30)
    assert answers(a)
    link.shape(Shape())
    assert least(a) < 0.015


def test_a_site_behind_a_host_is_forwarded(lab: Lab) -> None:
    """A host with forwarding carries the traffic of a site network behind it."""
    a, b = lab.host("a", forwarding=True), lab.host("b")
    site = lab.host("site")
    lab.link(a, b, PAIRS)
    lab.link(site, a, [("11.1.1.2/24", "11.1.1.1/24")])
    site.ip("route add default via 11.1.1.1")
    b.ip("route add 11.1.1.0/24 via 10.1.1.2")
    assert answers(site)


def test_a_failing_program_is_an_error_with_its_words(lab: Lab) -> None:
    """A program that fails on a host raises HostError with what it complained about."""
    with pytest.raises(HostError, match="No such file"):
        lab.host("a").run(["ls", "/no/such/place"])


def test_leaving_ends_what_runs_inside() -> None:
    """After the block no namespace, no directory and no process of the lab is left, not even a stubborn orphan."""
    with Lab() as lab:
        a, _, _ = two_hosts(lab, Shape(delay_ms=1))
        orphan = "import os,signal,time; signal.signal(15, signal.SIG_IGN); os.fork() and os._exit(0); time.sleep(60)"
        a.start([sys.executable, "-c", orphan])
        while len(inside := namespaces.pids(a.namespace)) != 1:  # until the parent is gone
            time.sleep(0.01)
        names = lab.namespaces()
        assert len(names) == 3
    assert not any(alive(pid) for pid in inside)
    assert not set(names) & set(labs.leftovers())
    assert not lab.directory.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_an_owner_that_is_killed_leaves_nothing_for_long(number: signal.Signals) -> None:
    """SIGTERM and SIGINT clean up at once; after SIGKILL the next lab's sweep does."""
    program = (
        "import time\n"
        "from mpt.lab.lab import Lab\n"
        "from mpt.lab.links import Shape\n"
        "with Lab() as lab:\n"
        "    a, b = lab.host('a'), lab.host('b')\n"
        "    lab.link(a, b, [], Shape(delay_ms=1))\n"
        "    a.start(['sleep', '60'])\n"
        "    print(lab.name, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    ) as owner:
        assert owner.stdout is not None
        name = owner.stdout.readline().strip()
        assert f"{name}-a" in labs.leftovers()
        assert name not in labs.sweep()  # its owner lives
        while not (inside := namespaces.pids(f"{name}-a")):  # sleep is still on its way in
            time.sleep(0.01)
        os.kill(owner.pid, number)
        owner.wait(10)
    if number == signal.SIGKILL:
        labs.sweep()  # or another test's lab has done it already
    assert not [left for left in labs.leftovers() if left.startswith(name)]
    assert inside and not any(alive(pid) for pid in inside)


def test_a_kept_lab_stays_until_it_is_asked_away() -> None:
    """A lab left on purpose survives the ordinary sweep and goes with the thorough one."""
    with Lab() as lab:
        lab.host("a")
        lab.keep = True
    assert lab.name in labs.kept()
    assert lab.name not in labs.sweep()
    assert lab.namespaces() == [f"{lab.name}-a"]
    lab.keep = False
    assert lab.name in labs.sweep(kept=True)
    assert lab.namespaces() == []
