"""A program that runs in a namespace: started, watched, ended by its pid, its output in files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, ClassVar, NamedTuple, Protocol

import mpt
from mpt.errors import HostError

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")  # per second, the unit of /proc/PID/stat
STOP_TIME = 5.0  # seconds that a program has to obey SIGTERM


def environment() -> dict[str, str]:
    """Return our environment for our children, with this copy of mpt first in the path, installed or not."""
    found_at = str(Path(mpt.__file__).resolve().parent.parent)
    earlier = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{found_at}:{earlier}" if earlier else found_at}


def python(module: str, *arguments: str) -> list[str]:
    """Return the argv that runs our `module` with our interpreter; without -P a file in the working directory could
    take the place of a module."""
    return [sys.executable, "-P", "-m", module, *arguments]


class Memory(NamedTuple):
    """Resident memory of a program in bytes: now, and at its peak."""

    resident: int
    peak: int


class Running(Protocol):
    """Of `subprocess.Popen`, what a `Process` needs."""

    @property
    def pid(self) -> int:
        """Return the process number."""

    @property
    def stdin(self) -> IO[str] | None:
        """Return the program's input, if it is a pipe."""

    @property
    def stdout(self) -> IO[str] | None:
        """Return the program's output, if it is a pipe."""

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code at the end; subprocess.TimeoutExpired after `timeout` seconds."""

    def send_signal(self, sig: int, /) -> None:
        """Send it, unless the program has ended."""


def launch(
    namespace: str, argv: Sequence[str], streams: Sequence[int], pass_fds: Sequence[int], env: Mapping[str, str]
) -> Running:
    """Start a program in `namespace` by ``ip netns exec`` (which becomes the program: same pid) and in a new session.

    `streams` are its three standard streams, descriptors or subprocess.PIPE; `pass_fds` keep their numbers.
    """
    stdin, stdout, stderr = streams
    return subprocess.Popen(
        ["ip", "netns", "exec", namespace, *argv],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        env=env,
        start_new_session=True,
        text=True,
    )


class Process:
    """A running program in namespace `namespace`, started by `launch`.

    Its output goes to files beside `log` (``.out`` and ``.err``), so that nobody has to drain a pipe; with
    `interactive` its input and output are the pipes `stdin` and `stdout` instead. Variables of `variables` take
    precedence over the environment. It runs in a new session: the ^C of a terminal reaches its owner alone, who then
    ends it in good order.
    """

    launch: ClassVar[Callable[..., Running]] = staticmethod(launch)

    def __init__(
        self,
        namespace: str,
        argv: Sequence[str],
        log: Path,
        *,
        interactive: bool = False,
        pass_fds: Sequence[int] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.argv = list(argv)
        self._output, self._errors = log.with_name(f"{log.name}.out"), log.with_name(f"{log.name}.err")
        env = {**environment(), **(variables or {})}
        with open(os.devnull, "rb") as nothing, self._output.open("wb") as output, self._errors.open("wb") as errors:
            pipe = subprocess.PIPE
            streams = [pipe, pipe] if interactive else [nothing.fileno(), output.fileno()]
            self._program = self.launch(namespace, argv, [*streams, errors.fileno()], pass_fds, env)

    @property
    def pid(self) -> int:
        """Return its process number."""
        return self._program.pid

    @property
    def stdin(self) -> IO[str]:
        """Return its input; only an `interactive` program has it."""
        assert self._program.stdin is not None
        return self._program.stdin

    @property
    def stdout(self) -> IO[str]:
        """Return its output; only an `interactive` program has it."""
        assert self._program.stdout is not None
        return self._program.stdout

    @property
    def running(self) -> bool:
        """Return whether it still runs."""
        return self._program.poll() is None

    @property
    def returncode(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._program.poll()

    def output(self) -> str:
        """Return its standard output so far."""
        return self._output.read_text(errors="replace")

    def errors(self) -> str:
        """Return its standard error so far."""
        return self._errors.read_text(errors="replace")

    def wait(self, timeout: float) -> int:
        """Wait for its end and return the exit code; HostError after `timeout` seconds."""
        try:
            return self._program.wait(timeout)
        except subprocess.TimeoutExpired:
            raise HostError(f"{self.argv[0]} did not end within {timeout:g} s:\n{self.complaint()}") from None

    def signal(self, number: int) -> None:
        """Send signal `number`; nothing happens when it has ended."""
        self._program.send_signal(number)

    def stop(self) -> int:
        """End it by SIGTERM, after `STOP_TIME` by SIGKILL; return the exit code."""
        self._program.send_signal(signal.SIGTERM)
        try:
            code = self._program.wait(STOP_TIME)
        except subprocess.TimeoutExpired:
            code = self.kill()
        self._close()
        return code

    def kill(self) -> int:
        """End it by SIGKILL, as a crash would; return the exit code."""
        self._program.send_signal(signal.SIGKILL)
        code = self._program.wait()
        self._close()
        return code

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far, user and system (proc(5), /proc/PID/stat fields 14 and 15)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def memory(self) -> Memory:
        """Return the resident memory (proc(5), /proc/PID/status, VmRSS and VmHWM, which are in KiB)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        values = dict(line.split(":", 1) for line in lines)
        return Memory(*(int(values[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")))

    def complaint(self) -> str:
        """Return the last lines of its output, for an error message."""
        return "\n".join((self.output() + self.errors()).strip().splitlines()[-15:])

    def wait_for_output(self, text: str, timeout: float) -> None:
        """Wait until it has written `text`; HostError when it ends first or after `timeout` seconds."""
        end = time.monotonic() + timeout
        while text not in self.output() and text not in self.errors():
            if not self.running or time.monotonic() > end:
                raise HostError(f"{' '.join(self.argv)} did not say {text!r}:\n{self.complaint()}")
            time.sleep(0.02)

    def _close(self) -> None:
        for pipe in (self._program.stdin, self._program.stdout):
            if pipe is not None:
                pipe.close()
