"""What keeps a path from working is named where it can be seen, with the remedy."""

from __future__ import annotations

from mpt.lab.lab import Lab
from mpt.lab.tunnel import Daemon
from tests.netns.support import LIVELY, edit, figure_3, keys, samples, start, wait_until
from tests.netns.support import no_traceback as no_traceback
from tests.netns.test_paths import configure_for_providers, two_providers

LOOK = 12.0  # s: the dead time, a look, and a busy machine
NAT_PORT = 61001


def says(daemon: Daemon, path: int, text: str) -> None:
    """Wait until the log has said `text` of path_`path`."""

    def found() -> bool:
        return any(f"path_{path} of " in line and text in line for line in daemon.process.output().splitlines())

    wait_until(found, f"path_{path}: {text}", LOOK)


def test_other_tunnel_addresses_and_a_wrong_remote_port(lab: Lab) -> None:
    """The first is seen in the peer's keepalives, at both ends; the second in what the peer's kernel answers."""
    a, b, _ = figure_3(lab)
    directories = [samples(lab, side, *LIVELY) for side in ("a", "b")]
    edit(directories[0], *keys({"ip_remote": "10.0.0.9"}))
    one, other = start((a, directories[0]), (b, directories[1]))
    says(one, 0, "from the tunnel address 10.0.0.3 to 10.0.0.2; here ip_remote = 10.0.0.9 and ip_local = 10.0.0.2")
    says(other, 1, "from the tunnel address 10.0.0.2 to 10.0.0.9; here ip_remote = 10.0.0.2 and ip_local = 10.0.0.3")
    one.stop()
    edit(directories[0], *keys({"ip_remote": "10.0.0.3", "remote_port": 23457}))
    (one,) = start((a, directories[0]))
    says(one, 0, "10.1.1.3 answers that nothing listens at UDP port 23457: remote_port is not its local_port")


def test_the_reverse_path_filter(lab: Lab) -> None:
    """Two lines to one address, rp_filter = 1: what comes over the second line is dropped by the kernel."""
    a, b, _ = two_providers(lab)
    a.run(["sysctl", "-q", "-w", "net.ipv4.conf.eth2.rp_filter=1"])
    one, _ = start(*zip((a, b), configure_for_providers(lab), strict=True))
    says(one, 1, "net.ipv4.conf.eth2.rp_filter to 2")


def test_a_nat_that_changes_the_port(lab: Lab) -> None:
    """The end behind it hears nothing; the other end sees why."""
    a, b, _ = two_providers(lab)
    router = next(host for host in lab.hosts if host.name == "internet")
    router.run(["nft", "add", "table", "ip", "nat"])
    router.run(["nft", "add chain ip nat out { type nat hook postrouting priority 100; }"])
    for number in (1, 2):
        rule = f"ip saddr 10.{number}.{number}.2 udp dport 23456 snat to 10.{number}.{number}.2:{NAT_PORT}"
        router.run(["nft", f"add rule ip nat out {rule}"])
    conf_a, conf_b = configure_for_providers(lab)
    start((a, conf_a))  # first: the NAT knows the flow of whoever begins
    (other,) = start((b, conf_b))
    says(other, 0, f"come from port {NAT_PORT}, not remote_port = 23456: a NAT on the way has changed it")
