"""The rights of this process: its user, its capabilities, its dumps (capabilities(7), prctl(2), setresuid(2)).

The standard library has no call for capabilities and none for prctl, so the C library is asked. A capability belongs to
a thread: narrow them before the process has a second one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from mpt.errors import HostError

ROOT: Final = 0

# <linux/capability.h>
CAP_NET_BIND_SERVICE: Final = 10
CAP_NET_ADMIN: Final = 12
CAP_NET_RAW: Final = 13
_VERSION_3: Final = 0x20080522  # of capget and capset: 64 bits, in two halves

# <linux/prctl.h>
PR_SET_DUMPABLE: Final = 4
PR_SET_KEEPCAPS: Final = 8
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Half(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_Halves = _Half * 2


def find_user(name: str) -> pwd.struct_passwd:
    """Return the user `name` of this system. Raises HostError: there is none, or it is root."""
    try:
        user = pwd.getpwnam(name)
    except (KeyError, ValueError):
        advice = f"make one with: useradd --system --no-create-home {name}"
        raise HostError(f"there is no user {name}: {advice}") from None
    if user.pw_uid == ROOT:
        raise HostError(f"the user {name} has all rights: name another, or leave out --user")
    return user


def become(user: pwd.struct_passwd, capabilities: Iterable[int]) -> None:
    """Be `user` from now on, with his own group alone and at most `capabilities`, and nothing that is run gets more.

    Nothing of it can be taken back. Raises HostError if this process is neither root nor this user already.
    """
    if os.geteuid() not in (ROOT, user.pw_uid):
        raise HostError(f"only root can become the user {user.pw_name}: start as root, or leave out --user")
    try:
        if os.geteuid() == ROOT:
            _bound(set(capabilities))
            _prctl(PR_SET_KEEPCAPS, 1)
            os.setgroups([])
            os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
            os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
        keep_only(capabilities)
        _prctl(PR_SET_NO_NEW_PRIVS, 1)
        forbid_dumps()
    except OSError as error:
        advice = "root needs CAP_SETUID and CAP_SETGID for that"
        raise HostError(f"cannot become the user {user.pw_name}: {error.strerror}: {advice}") from error


def keep_only(capabilities: Iterable[int]) -> None:
    """Give up all capabilities of this thread but those of `capabilities` that it has. Raises OSError."""
    header, halves = _Header(_VERSION_3, 0), _Halves()
    _check(_libc.capget(ctypes.byref(header), ctypes.byref(halves)))
    wanted = sum(1 << each for each in set(capabilities))
    for index, half in enumerate(halves):
        half.permitted &= wanted >> 32 * index & 0xFFFFFFFF
        half.effective, half.inheritable = half.permitted, 0
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(halves)))


def forbid_dumps() -> None:
    """Let nobody read the memory of this process: no core dump, no debugger of its own user. Raises OSError."""
    _prctl(PR_SET_DUMPABLE, 0)


def give_directory(path: str, owner: pwd.struct_passwd | None = None) -> None:
    """Make the directory `path` unless it is there, and give it to `owner`, or else to root; for root to call.

    Its parent must be root's. Raises OSError: it cannot be made, or is a link or a file.
    """
    with suppress(FileExistsError):
        os.mkdir(path, 0o755)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    uid, gid = (owner.pw_uid, owner.pw_gid) if owner is not None else (ROOT, ROOT)
    if status.st_uid != uid:
        os.chown(path, uid, gid, follow_symlinks=False)


def _bound(capabilities: set[int]) -> None:
    """Let no program that this process runs have more than `capabilities`; without CAP_SETPCAP they stay bounded by
    PR_SET_NO_NEW_PRIVS alone."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for each in set(range(last + 1)) - capabilities:
        with suppress(PermissionError):
            _prctl(PR_CAPBSET_DROP, each)


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, *(ctypes.c_ulong(each) for each in (value, 0, 0, 0))))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
