"""The process of the daemon: its clock, its signals, its exit status. What it prints when it refuses to start."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mpt.daemon.main import main
from tests.daemon.test_main import CONF, run

SCRIPT = """
import sys, time
from twisted.internet import reactor
from twisted.internet.task import LoopingCall
from mpt.daemon.lifetime import fail, prepare
prepare(reactor)
"""


@pytest.fixture(scope="session")
def clock_shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a library for LD_PRELOAD: the wall clock of a process is ahead by the seconds in the file $WALL_CLOCK."""
    return build_shim(tmp_path_factory.mktemp("shim"))


def build_shim(directory: Path) -> Path:
    """Compile the library."""
    source, library = Path(__file__).parent / "wallclock.c", directory / "wallclock.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library


@pytest.mark.parametrize("step", [-3600, 3600])
def test_a_step_of_the_wall_clock_is_not_noticed(clock_shim: Path, tmp_path: Path, step: int) -> None:
    """A LoopingCall goes on, a timer comes when it is due."""
    code = f"""{SCRIPT}
beats, started, wall = [], time.monotonic(), time.time()
LoopingCall(lambda: beats.append(time.monotonic() - started)).start(0.05)
reactor.callLater(0.2, lambda: open({str(tmp_path / "clock")!r}, "w").write("{step}"))
reactor.callLater(0.6, reactor.stop)
reactor.run()
gaps = [after - before for before, after in zip(beats, beats[1:])]
print(round((time.time() - wall) / 3600), len(beats) >= 8, max(gaps) < 0.5, time.monotonic() - started < 3)
"""
    environment = {**os.environ, "LD_PRELOAD": str(clock_shim), "WALL_CLOCK": str(tmp_path / "clock")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False, env=environment
    )
    assert done.stdout == f"{step // 3600} True True True\n", done.stderr


def test_a_second_request_to_stop_is_no_error() -> None:
    """A second SIGTERM after 20 ms is no error."""
    code = f"""{SCRIPT}
reactor.callLater(0, reactor.sigTerm, 15)
reactor.callLater(0, reactor.sigTerm, 15)
reactor.addSystemEventTrigger("before", "shutdown", reactor.stop)
from twisted.python import log
log.startLogging(sys.stdout)
reactor.run()
"""
    done = run("-c", code)
    assert done.returncode == 0
    assert "Received SIGTERM" in done.stdout and "Traceback" not in done.stdout + done.stderr


def test_an_end_that_nobody_asked_for_has_an_exit_status() -> None:
    """The status is 1 whatever runs the reactor; the printed text is not lost."""
    code = f"{SCRIPT}reactor.callWhenRunning(fail, reactor)\nprint('said', end='')\nreactor.run()\nsys.exit(0)"
    done = run("-c", code)
    assert (done.returncode, done.stdout) == (1, "said")


# ---- what mptsrv refuses in one line ---------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [[], ["-d"]], ids=["foreground", "background"])
@pytest.mark.parametrize(
    ("option", "file", "reason"),
    [
        ("--logfile", "missing/log", "cannot write the log {}: there is no directory "),
        ("--logfile", "directory", "cannot write the log {}: Is a directory: name another with --logfile"),
        ("--pidfile", "missing/pid", "cannot write the pidfile {}: there is no directory "),
        ("--pidfile", "file/pid", "cannot write the pidfile {}: there is no directory "),
        ("--logfile", "/proc/no-log", "cannot write the log {}: "),  # root may write there, says access(2)
        ("--pidfile", "/proc/no-pid", "cannot write the pidfile {}: "),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line(
    background: list[str], option: str, file: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is checked before anything starts."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    path = tmp_path / file
    logfile = [] if option == "--logfile" else ["--logfile", str(tmp_path / "log")]
    assert main([*background, option, str(path), *logfile, "--config", str(CONF)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"mptsrv: {reason.format(path)}") and said.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_an_ordinary_user_is_told_in_one_line(tmp_path: Path) -> None:
    """`mptsrv -d` without a right to the default log."""
    code = f"""
import os, sys
from mpt.daemon import main
os.setgroups([]); os.setgid(65534); os.setuid(65534)
main.LOGFILE = {str(tmp_path / "log")!r}
sys.exit(main.main(["-d", "--config", {str(CONF)!r}]))
"""
    for directory in (tmp_path, *tmp_path.parents):
        if not directory.stat().st_mode & stat.S_IXOTH:
            directory.chmod(0o755)
    done = run("-c", code)
    assert done.returncode == 1
    assert done.stderr == (
        f"mptsrv: cannot write the log {tmp_path / 'log'}: Permission denied: name another with --logfile\n"
    )


@pytest.mark.parametrize("number", ["77", "-1", "99999999999999999999"])
def test_a_descriptor_that_is_not_open_is_one_line(number: str) -> None:
    """An option --ready-fd without a descriptor is refused."""
    done = run("-m", "mpt.daemon.main", "--config", str(CONF), f"--ready-fd={number}")
    assert done.returncode == 1
    assert done.stderr == f"mpt: --ready-fd {number}: there is no open file descriptor of that number\n"


DECOYS = ["argparse.py", "json.py", "twisted.py", "mpt.py", "socket.py"]


def test_files_of_the_working_directory_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mptsrv -d` in a directory with a file argparse.py: it does not run, as root."""
    for name in DECOYS:
        (tmp_path / name).write_text("raise SystemExit('a decoy was imported')\n")
    broken = tmp_path / "conf"
    broken.mkdir()
    (broken / "interface.conf").write_text("[general]\n")
    code = (
        "import sys; from mpt.daemon.main import main; "
        f"sys.exit(main(['-d', '--logfile', {str(tmp_path / 'log')!r}, '--config', {str(broken)!r}]))"
    )
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", root)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 78  # EX_CONFIG
    assert "decoy" not in done.stderr and "interface.conf" in done.stderr


def test_programs_of_the_demo_do_not_import_files_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mpt demo` starts its programs in the same way."""
    from mpt.lab.process import environment, python

    for name in DECOYS:
        (tmp_path / name).write_text("raise SystemExit('a decoy was imported')\n")
    done = subprocess.run(
        python("mpt.daemon.main", "--version"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env=environment(),
    )
    assert done.returncode == 0 and done.stdout.startswith("mpt "), done.stderr
