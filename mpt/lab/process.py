"""A program that runs in a namespace: started, watched, ended by its pid, its output in files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

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


class Process:
    """A running program, in namespace `namespace` by ``ip netns exec`` (which becomes the program: same pid).

    Its output goes to files beside `log` (``.out`` and ``.err``), so that nobody has to drain a pipe; with
    `interactive` its input and output are the pipes `stdin` and `stdout` instead. Variables of `variables` take
    precedence over the environment. It runs in a new session: the ^C of a terminal reaches its owner alone, who then
    ends it in good order.
    """

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
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self._popen: subprocess.Popen[str] = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *argv],
                stdin=subprocess.PIPE if interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE if interactive else output,
                stderr=errors,
                pass_fds=pass_fds,
                env={**environment(), **(variables or {})},
                start_new_session=True,
                text=True,
            )

    @property
    def pid(self) -> int:
        """Return its process number."""
        return self._popen.pid

    @property
    def stdin(self) -> IO[str]:
        """Return its input; only an `interactive` program has it."""
        assert self._popen.stdin is not None
        return self._popen.stdin

    @property
    def stdout(self) -> IO[str]:
        """Return its output; only an `interactive` program has it."""
        assert self._popen.stdout is not None
        return self._popen.stdout

    @property
    def running(self) -> bool:
        """Return whether it still runs."""
        return self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    def output(self) -> str:
        """Return its standard output so far."""
        return self._output.read_text(errors="replace")

    def errors(self) -> str:
        """Return its standard error so far."""
        return self._errors.read_text(errors="replace")

    def wait(self, timeout: float) -> int:
        """Wait for its end and return the exit code; HostError after `timeout` seconds."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise HostError(f"{self.argv[0]} did not end within {timeout:g} s:\n{self.complaint()}") from None

    def signal(self, number: int) -> None:
        """Send signal `number`; nothing happens when it has ended."""
        self._popen.send_signal(number)

    def stop(self) -> int:
        """End it by SIGTERM, after `STOP_TIME` by SIGKILL; return the exit code."""
        self._popen.terminate()
        try:
            code = self._popen.wait(STOP_TIME)
        except subprocess.TimeoutExpired:
            code = self.kill()
        self._close()
        return code

    def kill(self) -> int:
        """End it by SIGKILL, as a crash would; return the exit code."""
        self._popen.kill()
        code = self._popen.wait()
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
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()
