"""A daemon that cannot start says why on one screen, without a traceback, ends with 1, and leaves nothing behind."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mpt.errors import ConfigError
from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.process import python
from tests.netns.support import edit, figure_3, samples, start
from tests.netns.support import no_traceback as no_traceback

TWISTD = str(Path(sys.executable).parent / "twistd")
NO_CAPABILITY = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
SCREEN = 24  # lines


def refusal(host: Host, argv: Sequence[str], lines: int = 1, status: int = 1) -> str:
    """Return the complaint of a daemon on `host` that ends with `status` and says no more than so many `lines`."""
    process = host.start(argv)
    code = process.wait(15)
    complaint = process.errors().strip()
    assert code == status, f"{code}: {process.complaint()}"
    assert "Traceback" not in process.output() + complaint
    assert "Tunnel information" not in process.output()
    assert 1 <= len(complaint.splitlines()) <= lines, complaint
    return complaint


def mptsrv(directory: Path, *options: str) -> list[str]:
    return python("mpt.daemon.main", "--config", str(directory), *options)


def test_a_port_in_use(lab: Lab) -> None:
    """A data port that another program has is named, with its address; the tunnel interface is gone again."""
    a, _, _ = figure_3(lab)
    with a.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as squatter:
        squatter.bind(("10.1.1.2", 23456))
        complaint = refusal(a, mptsrv(samples(lab, "a")))
    assert "UDP port 23456 at 10.1.1.2 is in use by another program" in complaint
    assert "local_port" in complaint
    assert "tun0" not in a.interfaces()


def test_a_tunnel_name_in_use(lab: Lab) -> None:
    """An interface name that another daemon has, or another kind of interface, is named with what to do."""
    a, _, _ = figure_3(lab)
    directory = samples(lab, "a")
    (daemon,) = start((a, directory))
    edit(directory, (r"^local_port.*", "local_port = 23457"), (r"^cmdport_local.*", "cmdport_local = 60457"))
    complaint = refusal(a, mptsrv(directory))
    assert "the interface tun0 is in use by another program" in complaint
    daemon.stop()
    a.ip("link add tun0 type veth peer name tun0_peer")
    assert "there is an interface tun0 already, of another kind" in refusal(a, mptsrv(directory))


def test_no_privilege(lab: Lab) -> None:
    """Without capabilities the daemon says which it needs."""
    a, _, _ = figure_3(lab)
    complaint = refusal(a, [*NO_CAPABILITY, *mptsrv(samples(lab, "a"))])
    assert "no privilege" in complaint
    assert "CAP_NET_ADMIN" in complaint


def test_no_such_directory(lab: Lab) -> None:
    """A configuration directory that is not there is named."""
    a, _, _ = figure_3(lab)
    assert "/no/such/place" in refusal(a, mptsrv(Path("/no/such/place")), SCREEN, ConfigError.exit_status)


@pytest.mark.parametrize("way", ["mptsrv", "mptsrv --check", "mptsrv -d", "twistd -n mpt"])
def test_a_bad_configuration(lab: Lab, way: str) -> None:
    """Every error of a directory stands there at once, with file, line, section and key, whichever way it is
    started."""
    a, _, _ = figure_3(lab)
    directory = samples(
        lab, "a", (r"^mtu.*", "mtu = 9999999"), (r"^weight_out.*", "weight_out = 0"), (r"^auth_type.*", "auth_type = 7")
    )
    log = ["--logfile", str(lab.directory / "log"), "--pidfile", str(lab.directory / "pid")]
    argv = {
        "mptsrv": mptsrv(directory),
        "mptsrv --check": mptsrv(directory, "--check"),
        "mptsrv -d": mptsrv(directory, "-d", *log),
        "twistd -n mpt": [TWISTD, "--pidfile=", "-n", "mpt", "--config", str(directory)],
    }[way]
    complaint = refusal(a, argv, SCREEN, 1 if way == "mptsrv --check" else ConfigError.exit_status)
    for part in ("interface.conf:", "[tun_0] mtu", "9999999", "mpt_b.conf:", "[connection] auth_type"):
        assert part in complaint
    assert "[path_0] weight_out" in complaint
    assert "[path_1] weight_out" in complaint
    assert a.interfaces().keys() == {"lo", "eth1", "eth2"}


def test_a_background_start_that_fails_says_so(lab: Lab) -> None:
    """``mptsrv -d`` that cannot have its port ends with 1 and the reason, though it has forked."""
    a, _, _ = figure_3(lab)
    log = ["--logfile", str(lab.directory / "log"), "--pidfile", str(lab.directory / "pid")]
    with a.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as squatter:
        squatter.bind(("10.1.1.2", 23456))
        complaint = refusal(a, mptsrv(samples(lab, "a"), "-d", *log), SCREEN)
    assert "UDP port 23456 at 10.1.1.2 is in use" in complaint


def test_check_of_a_good_configuration(lab: Lab) -> None:
    """``mptsrv --check`` of the samples ends with 0, needs no privilege and touches nothing."""
    a, _, _ = figure_3(lab)
    said = a.run([*NO_CAPABILITY, *mptsrv(samples(lab, "a"), "--check")])
    assert "no error" in said
    assert a.interfaces().keys() == {"lo", "eth1", "eth2"}
