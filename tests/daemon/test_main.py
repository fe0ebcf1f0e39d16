"""The programs that start the daemon: what they refuse, and how they say so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mpt.daemon.main import _parser, main
from mpt.errors import ConfigError, HostError

CONF = Path(__file__).parents[2] / "conf"
DOCUMENT = CONF.parent / "docs" / "commands.md"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Return the guide's configuration with two mistakes."""
    directory = tmp_path / "conf"
    shutil.copytree(CONF, directory)
    file = directory / "interface.conf"
    file.write_text(file.read_text().replace("1440", "fourteen"))
    file = next((directory / "connections").glob("*.conf"))
    file.write_text(file.read_text().replace("weight_out", "wait_out"))
    return directory


def configuration(directory: Path, data_plane: str) -> Path:
    """Return the guide's configuration with such a data path, in a new directory below `directory`."""
    copy = directory / data_plane
    shutil.copytree(CONF, copy)
    file = copy / "interface.conf"
    file.write_text(file.read_text().replace("[general]", f"[general]\ndata_plane = {data_plane}"))
    return copy


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_check_accepts_the_samples(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lines on standard output, status 0."""
    monkeypatch.setenv("MPT_DATA_PLANE", "python")
    assert main(["--check", "--config", str(CONF)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{CONF}: 1 tunnel(s), 1 connection(s), no error", "the data path is python: asked for"]


def test_check_lists_every_error_at_once(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mistakes of both files go to standard error; the status is 1."""
    assert main(["--check", "--config", str(broken)]) == 1
    errors = capsys.readouterr().err
    assert "interface.conf" in errors and "fourteen" in errors
    assert "weight_out" in errors
    assert "warning: " in errors and "wait_out is unknown and ignored: is 'weight_out' meant?" in errors


def test_check_names_what_this_machine_does_not_have(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A missing interface is a warning, as it may come; the warning names the interfaces that are there."""
    directory = tmp_path / "conf"
    shutil.copytree(CONF, directory)
    file = next((directory / "connections").glob("*.conf"))
    file.write_text(file.read_text().replace("= eth1", "= noSuchLine"))
    assert main(["--check", "--config", str(directory)]) == 0
    expected = "[path_0] interface_name = 'noSuchLine': is no interface of this host now; there"
    assert expected in capsys.readouterr().err


def test_check_misses_the_native_data_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configured data path that was not built is an error; with `auto` the text says which one is used."""
    monkeypatch.delenv("MPT_DATA_PLANE", raising=False)
    monkeypatch.delitem(sys.modules, "mpt.accel.native", raising=False)
    monkeypatch.setitem(sys.modules, "mpt.accel._native", None)
    directory = configuration(tmp_path, "native")
    assert main(["--check", "--config", str(directory)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("mptsrv: data_plane = native: the native data path was not built. ")
    assert said.out == ""
    assert main(["--check", "--config", str(configuration(tmp_path, "auto"))]) == 0
    said = capsys.readouterr()
    assert "the data path is python: the native one was not built. " in said.out
    assert "data path" not in said.err


def test_the_start_logs_the_data_path_and_what_this_machine_does_not_have(tmp_path: Path) -> None:
    """Each stands in the log once. The variable in the environment wins over the configuration."""
    directory = configuration(tmp_path, "native")
    file = next((directory / "connections").glob("*.conf"))
    file.write_text(file.read_text().replace("= eth1", "= noSuchLine"))
    code = f"""
import os
from twisted.logger import formatEvent, globalLogPublisher
from mpt.daemon.tap import Options, makeService
os.environ["MPT_DATA_PLANE"] = "python"
globalLogPublisher.addObserver(lambda event: print(formatEvent(event)))
options = Options()
options.parseOptions(["--config", {str(directory)!r}])
makeService(options)
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "data path" in line] == ["the data path is python: asked for"]
    assert done.stdout.count("interface_name = 'noSuchLine': is no interface of this host now") == 1


def test_garbage_is_collected_once_a_minute() -> None:
    """The collector does not go through the objects of the start, in which it rests."""
    code = """
import gc
from twisted.internet import reactor
from mpt.daemon.lifetime import GarbageCollection
gc.disable()
timer = GarbageCollection()
timer.startService()
print(timer.step, timer.call[0] == timer.collect, gc.get_freeze_count() > 10_000, len(gc.get_objects()) < 1000)
print(gc.isenabled())
"""
    done = run("-c", code)
    assert done.stdout == "60.0 True True True\nTrue\n", done.stderr


def test_objects_that_stay_are_hidden_and_looked_through_at_last() -> None:
    """The clients of a server come after the start; those that are gone are collected, if later."""
    code = """
import gc, weakref
from twisted.internet import reactor
from mpt.daemon.lifetime import GarbageCollection
class Node:
    def __init__(self):
        self.me = self
timer = GarbageCollection()
timer.startService()
started = gc.get_freeze_count()
def nodes():
    return [Node() for _ in range(max(started // 3, 10_000))]
stay, go = nodes(), nodes()
gone = weakref.ref(go[0])
timer.collect()
print(gc.get_freeze_count() > 1.3 * started, len(gc.get_objects()) < 1000)
del go
timer.collect()
print(gone() is None)
more = nodes(), nodes(), nodes()
timer.collect()
print(gone() is None, len(gc.get_objects()) < 1000)
"""
    done = run("-c", code)
    assert done.stdout.split() == ["True", "True", "False", "True", "True"], done.stdout + done.stderr


@pytest.mark.parametrize(("words", "file"), [("", None), ("--logfile -", None), ("--logfile /x/log", "/x/log")])
def test_the_log_is_where_it_is_wanted(words: str, file: str | None) -> None:
    """Else, and for -, it is the standard output."""
    code = f"""
import twisted.scripts.twistd
from mpt.daemon import logoutput, main
twisted.scripts.twistd.run = lambda: print(repr(logoutput.output.file))
main.check_files = lambda *files: None
main.main({words.split()})
"""
    done = run("-c", code)
    assert done.stdout == f"{file!r}\n", done.stderr


def test_a_bad_variable_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon does not speak of data_plane when $MPT_DATA_PLANE is wrong."""
    monkeypatch.setenv("MPT_DATA_PLANE", "fast")
    done = run("-m", "mpt.daemon.main", "--config", str(CONF))
    assert done.returncode == ConfigError.exit_status
    assert done.stderr == "mpt: MPT_DATA_PLANE = fast: write auto, python or native\n"


def test_twistd_refuses_a_bad_configuration_without_a_traceback(broken: Path, tmp_path: Path) -> None:
    """`twistd -n mpt` says the same as mptsrv."""
    code = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
    done = run("-c", code, "-n", "--pidfile", str(tmp_path / "pid"), "mpt", "--config", str(broken))
    assert done.returncode == ConfigError.exit_status
    assert "fourteen" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_the_asyncio_reactor_is_refused_with_the_reason(tmp_path: Path) -> None:
    """Synchronous netlink calls do not work with the asyncio reactor."""
    code = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
    done = run("-c", code, "-n", "--pidfile", "", "--reactor", "asyncio", "mpt", "--config", str(CONF))
    assert done.returncode == 1
    assert "asyncio reactor" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_mptsrv_refuses_a_bad_configuration_without_a_traceback(broken: Path) -> None:
    """One screen of text, and the status with which the unit does not start it again."""
    done = run("-m", "mpt.daemon.main", "--config", str(broken))
    assert done.returncode == ConfigError.exit_status
    assert "fourteen" in done.stderr and "weight_out" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_the_unit_restarts_after_a_failure_but_not_with_a_broken_configuration() -> None:
    """systemd looks at the status of the main process only; a check before it would be tried for ever."""
    unit = (CONF / "mpt.service").read_text().splitlines()
    assert "Restart=on-failure" in unit
    assert f"RestartPreventExitStatus={ConfigError.exit_status}" in unit
    assert HostError.exit_status != ConfigError.exit_status
    assert not [line for line in unit if line.startswith(("ExecStartPre", "ConfigurationDirectory"))]


def test_the_unit_starts_a_user_with_few_rights() -> None:
    """By options that mptsrv has; systemd makes the same user, so nothing of it ever runs as root."""
    lines = [line.partition("=") for line in (CONF / "mpt.service").read_text().splitlines()]
    unit = {key: value for key, _, value in lines}
    program, *arguments = unit["ExecStart"].split()
    options = _parser().parse_args(arguments)
    assert (Path(program).name, options.user, options.config) == ("mptsrv", unit["User"], "/etc/mpt")


def test_the_document_has_the_help_of_mptsrv() -> None:
    """docs/commands.md, section "The daemon": every option with its words; the layout differs between Pythons."""
    text = " ".join(DOCUMENT.read_text().split())
    for action in _parser()._actions:
        assert all(option in text for option in action.option_strings)
        assert " ".join(str(action.help).split()) in text


def test_the_document_has_the_help_of_twistd_mpt_word_for_word() -> None:
    """The same for ``twistd mpt``."""
    code = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
    assert run("-c", code, "mpt", "--help").stdout.strip() in DOCUMENT.read_text()


START_OF_A_DAEMON = """
import sys
import twisted.scripts.twistd

def run():
    import twisted.internet.reactor, mpt.daemon.tap
    print("OpenSSL" in sys.modules)
    import OpenSSL.SSL

twisted.scripts.twistd.run = run
from mpt.daemon.main import main
sys.exit(main([]))
"""


def test_a_start_does_not_import_pyopenssl() -> None:
    """That takes a fifth of the time, and only a sealed connection needs it, which can import it later."""
    started = subprocess.run(
        [sys.executable, "-P", "-c", START_OF_A_DAEMON], capture_output=True, text=True, check=True
    )
    assert started.stdout == "False\n"
