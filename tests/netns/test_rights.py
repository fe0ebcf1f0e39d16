"""A daemon that is not root any more (``--user``): what it cannot do, and that everything a daemon does later works."""

from __future__ import annotations

import os
import pwd
import signal
import sys
from pathlib import Path

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.process import Process, python
from tests.netns.support import LIVELY, answers, edit, figure_3, samples, start, udp_sockets, wait_until
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support_sealed import A as SEALED_A
from tests.netns.support_sealed import SealedHosts, wait_for_answer

B = "10.0.0.3"
USER = "nobody"
ONLY = f"{1 << 12 | 1 << 13:016x}"  # CAP_NET_ADMIN and CAP_NET_RAW, as /proc/PID/status writes them
WITH_LOW_PORT = f"{1 << 10 | 1 << 12 | 1 << 13:016x}"
FILE = "/mnt/conf/connections/mpt_b.conf"

# In the mount namespace of the daemon alone: empty /run and /var/log, a TUN device for everybody as udev makes it, the
# configuration for the user, and a Python that the user can reach.
STAGE = """
set -e
mount -t tmpfs -o mode=755 tmpfs /mnt
cp -r "$1" /mnt/conf
chmod 755 /mnt/conf
chown -R "$2" /mnt/conf/connections
[ ! -e /mnt/conf/private.key ] || chown "$2" /mnt/conf/private.key
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/log
mount -t tmpfs -o mode=755 tmpfs /dev/net
mknod -m 666 /dev/net/tun c 10 200
if [ -n "$3" ]; then
    mkdir /mnt/keep
    mount --bind "$4" /mnt/keep
    mount -t tmpfs -o mode=755 tmpfs "$3"
    mkdir -p "$4"
    mount --move /mnt/keep "$4"
fi
shift 4
exec "$@"
"""

SPY = """
import ctypes, os, sys
os.setgroups([]); os.setresgid(*[int(sys.argv[2])] * 3); os.setresuid(*[int(sys.argv[1])] * 3)
libc = ctypes.CDLL(None, use_errno=True)
attached = libc.ptrace(16, int(sys.argv[3]), None, None)
print("attached" if attached == 0 else os.strerror(ctypes.get_errno()))
try:
    open(f"/proc/{sys.argv[3]}/mem", "rb")
    print("opened")
except PermissionError as error:
    print(error.strerror)
"""


def closed_ancestor(path: Path) -> str:
    """Return the first directory on the way to `path` that only its owner may enter, "" if there is none."""
    closed = [each for each in (*reversed(path.parents), path) if not each.stat().st_mode & 0o001]
    return str(closed[0]) if closed else ""


class Unprivileged:
    """A daemon on `host` with --user, in a mount namespace of its own."""

    def __init__(self, host: Host, directory: Path, *options: str) -> None:
        base = Path(sys.base_prefix).resolve()
        stage = ["sh", "-c", STAGE, "stage", str(directory), USER, closed_ancestor(base), str(base)]
        daemon = python("mpt.daemon.main", "--user", USER, "--config", "/mnt/conf", *options)
        self.host = host
        self.process: Process = host.start([*stage, *daemon])

    def file(self, path: str) -> Path:
        """Return how we see a file of the daemon's."""
        return Path(f"/proc/{self.process.pid}/root{path}")

    def mpt(self, *words: str) -> str:
        """Return what `mpt` says beside the daemon, as root."""
        beside = ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", *python("mpt.cli.main", *words)]
        client = self.host.start(beside)
        client.wait(20)
        self.host.end(client)
        return client.output() + client.errors()

    def facts(self) -> dict[str, str]:
        """Return the lines of /proc/PID/status."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def test_a_daemon_with_a_user_has_few_rights_and_goes_on_working(lab: Lab) -> None:
    """What it has, what nobody can do to it, and every later act that takes rights: sockets, routes, TUN, files."""
    a, b, _ = figure_3(lab)
    start((b, samples(lab, "b", *LIVELY)))
    log, pidfile = "/var/log/mpt/mpt.log", "/run/mpt/mpt.pid"
    daemon = Unprivileged(a, samples(lab, "a", *LIVELY), "--logfile", log, "--pidfile", pidfile)
    wait_until(lambda: answers(a, B), "the tunnel works", timeout=20)
    user = pwd.getpwnam(USER)
    facts = daemon.facts()
    assert [facts[f"Cap{each}"] for each in ("Prm", "Eff", "Bnd")] == [ONLY, ONLY, WITH_LOW_PORT]
    assert [facts[f"Cap{each}"] for each in ("Inh", "Amb")] == [f"{0:016x}"] * 2
    assert facts["Uid"].split() == [str(user.pw_uid)] * 4 and facts["Gid"].split() == [str(user.pw_gid)] * 4
    assert facts["Groups"] == "" and facts["NoNewPrivs"] == "1"
    assert {(each.stat().st_uid, each.name) for each in map(daemon.file, (log, pidfile))} == {
        (user.pw_uid, "mpt.log"),
        (user.pw_uid, "mpt.pid"),
    }

    # Its memory: no debugger, no core dump (what cannot be dumped belongs to root below /proc).
    spy = a.run([sys.executable, "-c", SPY, str(user.pw_uid), str(user.pw_gid), str(daemon.process.pid)])
    assert spy.splitlines() == ["Operation not permitted", "Permission denied"]
    assert Path(f"/proc/{daemon.process.pid}/environ").stat().st_uid == 0

    # A file of root alone is refused, and nothing has changed; a new port of ours is not.
    connection = daemon.file(FILE)
    secret = connection.with_name("secret.conf")
    secret.touch(0o600)
    assert "secret.conf: cannot be read: Permission denied" in daemon.mpt("reload")
    secret.unlink()
    connection.write_text(connection.read_text().replace("local_port     = 23456", "local_port     = 23457"))
    assert "changed: MPT_connection_10.0.0.2" in daemon.mpt("reload")
    assert "10.1.1.2%eth1:23457" in udp_sockets(a)
    connection.write_text(connection.read_text().replace("23457", "23456", 1))
    daemon.process.signal(signal.SIGHUP)
    wait_until(lambda: answers(a, B), "the tunnel works again")
    assert "rb8388608" in a.run(["ss", "-Huam", "sport = :23456"])  # SO_RCVBUFFORCE, beyond the system's limit
    connection.write_text(connection.read_text().replace("23456", "700", 1))
    assert "no privilege for UDP port 700" in daemon.mpt("reload")
    connection.write_text(connection.read_text().replace("700", "23456", 1))

    # save: a file of the user keeps its owner and mode; a file of root would lose its owner, and is refused.
    daemon.mpt("path", "down", "10.1.1.2", "10.1.1.3")
    os.chown(connection, 0, 0)
    os.chmod(connection, 0o644)
    assert f"cannot be saved: it has another owner or group than the daemon's user: chown {USER}" in daemon.mpt("save")
    os.chown(connection, user.pw_uid, user.pw_gid)
    assert daemon.mpt("save") == "saved: mpt_b.conf\n"
    assert (connection.stat().st_uid, connection.stat().st_mode & 0o777) == (user.pw_uid, 0o644)
    assert "128" in connection.read_text()
    daemon.mpt("path", "up", "10.1.1.2", "10.1.1.3")

    # The machine: a TUN that goes, a route that goes; the log is rotated.
    a.run(["ip", "link", "del", "tun0"])
    wait_until(lambda: answers(a, B), "the tunnel works over a new interface")
    a.run(["ip", "route", "del", "10.1.1.3"])
    wait_until(lambda: "10.1.1.3" in a.run(["ip", "route"]), "the route is back")
    daemon.process.signal(signal.SIGUSR1)
    wait_until(daemon.file(log + ".1").exists, "the log is rotated")

    run = os.open(daemon.file("/run/mpt"), os.O_RDONLY)
    daemon.process.stop()
    left = os.listdir(run)
    os.close(run)
    assert left == [], "the pidfile and the socket are removed"
    assert "10.1.1.3" not in a.run(["ip", "route"])


def test_a_daemon_with_a_user_has_keys(lab: Lab) -> None:
    """Its private key is the user's; whatever a handshake needs is still there, also when the peer has begun anew."""
    hosts = SealedHosts(lab)
    hosts.write()
    edit(hosts.directories["a"], (r"^private_key_file.*", "private_key_file = private.key"))
    (peer,) = start((hosts.b, hosts.directories["b"]))
    Unprivileged(hosts.a, hosts.directories["a"])
    wait_for_answer(hosts.b, SEALED_A, 20.0)
    peer.process.kill()
    start((hosts.b, hosts.directories["b"]))
    wait_for_answer(hosts.b, SEALED_A, 5.0)


def test_what_a_user_cannot_do_is_refused_at_the_start(lab: Lab) -> None:
    """In one line: an unknown user, root, a pidfile that could not be removed. A low port keeps one capability more."""
    a, _, _ = figure_3(lab)
    directory = samples(lab, "a")
    refusals = {
        "there is no user nobody2: make one with: useradd --system --no-create-home nobody2": ("--user", "nobody2"),
        "the user root has all rights: name another, or leave out --user": ("--user", "root"),
        "cannot write the pidfile /run/mpt.pid as the user nobody: Permission denied": ("--pidfile", "/run/mpt.pid"),
    }
    for text, refused in {text: Unprivileged(a, directory, *options) for text, options in refusals.items()}.items():
        assert refused.process.wait(20) == 1
        assert refused.process.errors().startswith(f"mpt: {text}") and refused.process.errors().count("\n") == 1
    edit(directory, (r"^local_port.*", "local_port = 700"))
    daemon = Unprivileged(a, directory)
    wait_until(lambda: "10.1.1.2%eth1:700" in udp_sockets(a), "the port is open", timeout=20)
    assert daemon.facts()["CapEff"] == WITH_LOW_PORT
