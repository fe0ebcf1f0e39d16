"""Starts daemons and clients for the namespace tests by forking a process that has imported them already.

Most of the CPU time of a namespace test would go into the imports of its daemons: 0.4 s each. A forked process runs the
module as ``python -m`` does, in its namespace, with its own arguments, environment and descriptors, and ends as a
program does. It is the whole program that tests/daemon, tests/cli, tests/test_packaging.py and the benchmark start.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import runpy
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from mpt.lab.namespaces import NETNS_DIRECTORY, enter
from mpt.lab.process import Running, environment, launch, python

MODULES = ("mpt.daemon.main", "mpt.cli.main", "tests.netns.hasty")
IMPORTED = (
    "twisted.internet.posixbase",
    "twisted.scripts.twistd",
    "twisted.trial.itrial",
    "pyroute2.iproute.linux",
    "mpt.daemon.tap",
    "mpt.cli.main",
)
OF_THE_INTERPRETER = ("PYTHON", "LD_")  # variables with these beginnings count before a program's first line
LONGEST = 1 << 20  # octets of a request
FDS = 16  # at most


class Nursery:
    """A context manager; `launch` may stand for `mpt.lab.process.launch`."""

    def __enter__(self) -> Nursery:
        self._environment = environment()
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = python("tests.netns.nursery", str(theirs.fileno()))
            self._process = subprocess.Popen(
                argv, env=self._environment, pass_fds=[theirs.fileno()], start_new_session=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._requests.close()
        self._process.wait()

    def launch(
        self,
        namespace: str,
        argv: Sequence[str],
        streams: Sequence[int],
        pass_fds: Sequence[int],
        env: Mapping[str, str],
    ) -> Running:
        """Start a program as `mpt.lab.process.launch` does."""
        if subprocess.PIPE in streams or not self._is_ours(namespace, argv, env):
            return launch(namespace, argv, streams, pass_fds, env)
        request = {"namespace": namespace, "argv": argv[3:], "pass_fds": pass_fds, "env": env}
        ended, end = os.pipe()
        socket.send_fds(self._requests, [json.dumps(request).encode()], [end, *streams, *pass_fds])
        os.close(end)
        return Child(int(self._requests.recv(100)), argv, ended)

    def _is_ours(self, namespace: str, argv: Sequence[str], env: Mapping[str, str]) -> bool:
        if list(argv[:3]) != python("")[:3] or argv[3] not in MODULES or (Path("/etc/netns") / namespace).exists():
            return False
        here = self._environment
        changed = {name for name in here.keys() | env.keys() if here.get(name) != env.get(name)}
        return not any(name.startswith(OF_THE_INTERPRETER) for name in changed)


class Child:
    """A forked program, as `subprocess.Popen` would show it."""

    stdin = stdout = None

    def __init__(self, pid: int, argv: Sequence[str], ended: int) -> None:
        self.pid = pid
        self._argv, self._ended = argv, ended
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code at the end; subprocess.TimeoutExpired after `timeout` seconds."""
        if self._code is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self._argv, timeout or 0)
            self._code = int(os.read(self._ended, 100))
            os.close(self._ended)
        return self._code

    def send_signal(self, number: int) -> None:
        """Send it, unless the program has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has, and its code is on the way here
                os.kill(self.pid, number)


# ---- the process that has imported them ----------------------------------------------------------------------------


def main() -> None:
    """Import all that a daemon and a client do, then fork for each request on the descriptor given as argument."""
    from mpt.daemon.main import _hidden

    with _hidden("OpenSSL"):
        for module in IMPORTED:
            import_module(module)
    gc.freeze()  # so that a child's collector does not touch, and copy, the memory of all that
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        _run(*request)


def _serve(requests: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Tell the ends of all children; return a request and its descriptors in the child, None when nobody asks."""
    ends: dict[int, tuple[int, int]] = {}
    with requests:
        while True:
            ready = select.select([requests.fileno(), *ends], [], [])[0]
            for pidfd in ends.keys() & ready:
                _tell(*ends.pop(pidfd))
                os.close(pidfd)
            if requests.fileno() not in ready:
                continue
            text, fds, _, _ = socket.recv_fds(requests, LONGEST, FDS)
            if not text:
                return None
            pid = os.fork()
            if pid == 0:
                for fd in (*ends, *(end for _, end in ends.values()), fds[0]):
                    os.close(fd)
                return json.loads(text), fds[1:]
            ends[os.pidfd_open(pid)] = pid, fds[0]
            for fd in fds[1:]:
                os.close(fd)
            requests.send(str(pid).encode())


def _tell(pid: int, end: int) -> None:
    """Write the exit code of a child that has ended."""
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):  # nobody wants to know
        os.write(end, str(os.waitstatus_to_exitcode(status)).encode())
    os.close(end)


def _run(request: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Give this process what a program gets at its start, and run the module."""
    os.setsid()
    numbers = [*range(3), *request["pass_fds"]]
    apart = [fcntl.fcntl(fd, fcntl.F_DUPFD, max(numbers) + 1) for fd in fds]
    os.closerange(0, min(apart))
    for fd, number in zip(apart, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)
    enter(NETNS_DIRECTORY / request["namespace"])
    os.environ.clear()
    os.environ.update(request["env"])
    module, *words = request["argv"]
    sys.argv = [module, *words]
    sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
