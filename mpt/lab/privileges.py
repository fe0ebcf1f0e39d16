"""The right to make namespaces: as root, or else in a new user namespace (user_namespaces(7))."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mpt.errors import HostError
from mpt.lab import namespaces
from mpt.lab.process import environment, python

INSIDE = "MPT_LAB_USER_NAMESPACE"  # set in the environment of the second start
UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
UNSHARE += ["--pid", "--fork", "--kill-child", "--mount-proc"]  # so that nothing inside outlives its program
TUN_DEVICE = Path("/dev/net/tun")


def obtain(module: str, arguments: Sequence[str]) -> None:
    """Return if this process may make namespaces and TUN devices.

    For an ordinary user it starts again as ``python -m module arguments`` in a user namespace and does not return. If
    that is not possible either, HostError says what is missing.
    """
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            raise HostError(f"the program {program} is missing: install iproute2 (apt-get install iproute2)")
    if not TUN_DEVICE.exists():
        raise HostError(f"there is no {TUN_DEVICE}: load the driver (modprobe tun), or give the container the device")
    if not os.access(TUN_DEVICE, os.R_OK | os.W_OK):
        raise HostError(f"no permission to open {TUN_DEVICE}: run this as root (sudo)")
    if os.environ.get(INSIDE):
        _private_run_directory()
    elif os.geteuid() != 0:
        _start_again(module, arguments)
    elif not _may_administer_networks():
        raise HostError("root here lacks CAP_NET_ADMIN or CAP_SYS_ADMIN: run it outside the container, or privileged")


def in_user_namespace() -> bool:
    """Return whether everything made here is private to this process and ends with it."""
    return bool(os.environ.get(INSIDE))


def _start_again(module: str, arguments: Sequence[str]) -> None:
    """Become the same program in a user namespace, where it is root over private networks."""
    try:
        refusal = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False).stderr.strip()
    except FileNotFoundError:
        refusal = "the program unshare is missing (apt-get install util-linux)"
    if refusal:
        raise HostError(
            f"this needs root, and this machine gives no user namespace instead ({refusal}):\n"
            "run it with sudo, or allow user namespaces (sysctl user.max_user_namespaces,\n"
            "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
        )
    program = [*UNSHARE, *python(module, *arguments)]
    os.execvpe(program[0], program, {**environment(), INSIDE: "1"})


def _private_run_directory() -> None:
    """Mount a private /run, where ``ip netns`` and the lab keep their names."""
    namespaces.run_program(["mount", "-t", "tmpfs", "tmpfs", "/run"])


def _may_administer_networks() -> bool:
    """Return whether we have the capabilities that a container may lack (capabilities(7), linux/capability.h)."""
    net_admin, sys_admin = 1 << 12, 1 << 21
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            return effective & net_admin != 0 and effective & sys_admin != 0
    return False
