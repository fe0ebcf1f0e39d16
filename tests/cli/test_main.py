"""The program `mpt` against scripted daemons: what it asks, what it prints, and its exit status."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mpt.cli import channel
from mpt.cli.main import PROGRAMS, main, usage
from mpt.cli.options import parse_options
from mpt.local.grammar import FORMS
from mpt.local.protocol import END, Progress, Reply, encode_progress, encode_reply
from mpt.local.sockets import control_sockets
from tests.cli.daemons import udp_daemon, unix_daemon

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "commands.md"


def text(answer: str) -> bytes:
    return b"\xa4\0\0\0" + answer.encode()


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the configuration nor the daemon of this machine is found by a test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPT_CONFIG_DIR", str(tmp_path / "conf"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("MPT_CONTROL_SOCKET", raising=False)
    monkeypatch.setattr("mpt.local.sockets.RUNTIME_DIRECTORY", str(tmp_path / "system"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the unix socket of a scripted daemon may be."""
    return tmp_path / "mpt.sock"


def interface_conf(tmp_path: Path, *lines: str) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "interface.conf").write_text("\n".join(["[general]", *lines, ""]))


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((host, 0))
        port: int = taken.getsockname()[1]
        return port


# ---- without a daemon ------------------------------------------------------------------------------------------------


def test_without_arguments_the_usage_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Guide 4: a brief syntax description with the available commands; status 2."""
    assert main([]) == 2
    printed = capsys.readouterr().out
    assert printed.startswith("Usage: mpt [-6] [-port_number] mpt_command mpt_args\n    -6 : Use IPv6 to communicate")
    for form in FORMS.values():
        assert f"mpt {form.syntax}\n" in printed
    assert max(map(len, printed.splitlines())) <= 120


@pytest.mark.parametrize("name", ["address", "addr", "interface", "int", "path", "delete", "create", "show"])
def test_a_command_without_arguments_prints_its_usage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The usage is printed as by the guide's client; the status is 2, and no daemon is asked."""
    assert main([name]) == 2
    assert re.match(rf"mpt {name[:3]}.*\n\n", capsys.readouterr().out)


@pytest.mark.parametrize("name", [*FORMS, "addr", "int"])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """After the command, or before it; status 0."""
    helps = []
    for words in ([name, "--help"], ["--help", name], ["help", name], [name, "-h"]):
        assert main(words) == 0
        helps.append(capsys.readouterr().out)
    assert len(set(helps)) == 1 and helps[0].startswith("mpt ")


def test_help_is_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """`mpt --help` and `mpt help`; status 0."""
    for words in (["--help"], ["-h"], ["help"]):
        assert main(words) == 0
        assert capsys.readouterr().out == usage() + "\n"
    assert main(["--version"]) == 0


def test_a_bad_command_is_told_before_anybody_is_asked(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text has the bad word, the allowed ones and the command's usage; the status is 2."""
    assert main(["--socket", str(path), "int", "eth1", "on"]) == 2
    assert capsys.readouterr().err.startswith("mpt: interface: 'on' must be up or down\nmpt int[erface] INTERFACE")
    assert main(["reboot"]) == 2
    assert "there is no command 'reboot'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "--frob",
        "-x",
        "--socket",
        "--timeout",
        "--timeout soon",
        "--timeout 0",
        "--timeout nan",
        "-0",
        "-65536",
        "-99999999999",
        "--socket s -6",
        "--socket s -65010",
    ],
)
def test_a_bad_option_is_told(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The text names the option and its need; the status is 2."""
    assert main(["save", *words.split()]) == 2
    assert re.match(r"mpt: (there is no option|--(socket|timeout) |the port in )", capsys.readouterr().err)


def test_options_stand_anywhere() -> None:
    """Before the command as in the guide, or after it."""
    options = parse_options(["-6", "show", "-65010", "status", "--json", "--timeout", "2.5"])
    assert (options.words, options.ipv6, options.port, options.json) == (["show", "status"], True, 65010, True)
    assert options.timeout == 2.5


def test_no_daemon_is_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every way that was tried is named."""
    interface_conf(tmp_path, f"cmdport_local = {free_port()}")
    assert main(["show", "status"]) == 3
    error = capsys.readouterr().err
    assert "system/net-" in error and "UDP port" in error and "is mptsrv running?" in error
    assert main(["--socket", str(tmp_path / "none"), "save"]) == 3
    assert "no daemon at" in capsys.readouterr().err
    assert main([f"-{free_port()}", "save"]) == 3
    assert main(["--socket", "x" * 200, "save"]) == 3


# ---- the unix socket -------------------------------------------------------------------------------------------------


def test_a_command_is_asked_and_its_answer_printed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command in full, progress on standard error, the answer on standard output; status 0."""
    answers = encode_progress(1, Progress("telling the peer")), encode_reply(1, Reply(0, "path_0 is down"))
    with unix_daemon(path, *answers) as daemon:
        assert main(["--socket", str(path), "addr", "add", "10.0.0.5", "dev", "eth1"]) == 0
    assert json.loads(daemon.asked) == {"mpt": 1, "id": 1, "command": ["address", "add", "10.0.0.5", "dev", "eth1"]}
    assert capsys.readouterr() == ("path_0 is down\n", "telling the peer\n")


@pytest.mark.parametrize("code", [1, 2, 5])
def test_a_refusal_is_an_error(path: Path, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The daemon's text on standard error, the daemon's code as status."""
    with unix_daemon(path, encode_reply(1, Reply(code, "Save unsuccessful. Disk full\n"))):
        assert main(["--socket", str(path), "save"]) == code
    assert capsys.readouterr() == ("", "mpt: Save unsuccessful. Disk full\n")


def test_json_prints_the_data(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The document where there is one, else the reply itself."""
    with unix_daemon(path, encode_reply(1, Reply(0, "a table", {"schema": "mpt.status/1"}))):
        assert main(["--socket", str(path), "show", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": "mpt.status/1"}
    with unix_daemon(path, encode_reply(1, Reply(1, "no"))):
        assert main(["--socket", str(path), "--json", "save"]) == 1
    assert json.loads(capsys.readouterr().out) == {"ok": False, "code": 1, "text": "no"}


def test_a_silent_daemon_is_status_4(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No answer within the time, progress or not; the operator learns that the command may still be carried out."""
    with unix_daemon(path, encode_progress(1, Progress("working")), hold=True):
        assert main(["--socket", str(path), "--timeout", "0.05", "reload"]) == 4
    assert "may still be carried out" in capsys.readouterr().err


def test_a_daemon_that_hangs_up_is_status_1(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The daemon was there, but did not carry the command out."""
    with unix_daemon(path):
        assert main(["--socket", str(path), "reload"]) == 1
    assert "hung up" in capsys.readouterr().err


def test_something_else_at_the_socket_is_no_daemon(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The status is 3, and the text says so."""
    with unix_daemon(path, b"220 mail.example ESMTP\n"):
        assert main(["--socket", str(path), "reload"]) == 3
    assert "is no mpt daemon" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["environment", "configured", "system", "user"])
def test_the_socket_is_found(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$MPT_CONTROL_SOCKET, interface.conf, /run/mpt, or the user's runtime directory."""
    system, user = map(Path, control_sockets(os.environ))
    path = {"system": system, "user": user}.get(place, tmp_path / "elsewhere.sock")
    path.parent.mkdir(parents=True, exist_ok=True)
    if place == "environment":
        monkeypatch.setenv("MPT_CONTROL_SOCKET", str(path))
    if place == "configured":
        interface_conf(tmp_path, f"control_socket = {path}")
    with unix_daemon(path, encode_reply(1, Reply(0, "here"))):
        assert main(["save"]) == 0


def test_a_named_socket_is_the_one_that_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other socket is tried in its place."""
    monkeypatch.setenv("MPT_CONTROL_SOCKET", str(tmp_path / "none"))
    interface_conf(tmp_path, f"cmdport_local = {free_port()}")
    with socket.socket(socket.AF_UNIX) as other:
        (tmp_path / "system").mkdir()
        other.bind(control_sockets(os.environ)[0])
        other.listen()
        assert main(["save"]) == 3
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


# ---- UDP, as the C server speaks it ----------------------------------------------------------------------------------


def test_without_ipv6_in_the_kernel_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not shown as a traceback: no socket of IPv6 can be made at all."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr("mpt.cli.channel.socket.socket", refuse)
    assert main(["-6", "show", "status"]) == 3
    assert "cannot reach UDP port 65050 of ::1: Address family not supported" in capsys.readouterr().err


def test_a_crowd_at_the_socket_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel refuses callers while too many are waiting to be let in."""
    with socket.socket(socket.AF_UNIX) as listening, ExitStack() as crowd:
        listening.bind(str(path))
        listening.listen(0)

        def crowd_in() -> None:
            while True:
                client = crowd.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(path))

        with pytest.raises(BlockingIOError):
            crowd_in()

        def leave(seconds: float) -> None:
            assert seconds == channel.AGAIN
            crowd.enter_context(listening.accept()[0])

        monkeypatch.setattr("mpt.cli.channel.time.sleep", leave)
        with channel._connected(str(path), 5.0) as connected:
            assert connected.getpeername() == str(path)


def test_the_c_servers_answer_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`mpt -PORT`: the words and a NUL; answer and end; status 0."""
    with udp_daemon("127.0.0.1", text("CMD_OK:path down 10.1.1.2 10.1.1.3"), END) as server:
        assert main([f"-{server.port}", "path", "down", "10.1.1.2", "10.1.1.3"]) == 0
    assert server.asked == b"\xa4\0\0\0path down 10.1.1.2 10.1.1.3\0"
    assert capsys.readouterr().out == "path down 10.1.1.2 10.1.1.3\n"


def test_ipv6_is_used_when_asked_for(tmp_path: Path) -> None:
    """`mpt -6`: ::1, at the port of interface.conf."""
    with udp_daemon("::1", text("CMD_OK:save"), END) as server:
        interface_conf(tmp_path, f"cmdport_local = {server.port}")
        assert main(["-6", "save"]) == 0


def test_without_a_socket_the_guides_port_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The fall-back, with the port that the daemon has from the same file."""
    with udp_daemon("127.0.0.1", text("CMD_OK:save"), END) as server:
        interface_conf(tmp_path, f"cmdport_local = {server.port}")
        assert main(["save"]) == 0
    assert capsys.readouterr() == ("save\n", "")


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([text("CMD_OK:Reload unsuccessful. Config file not found in the connection: F.conf\n"), END], 1),
        ([text("CMD-ERROR:Delete unsuccessful. Config file not found: F.conf\n"), END], 1),
        ([text("CMD-ERROR:not permitted: save"), END], 5),
        ([text("CMD_OK:x" * 20), text("CMD_OK:x" * 20), END], 0),  # sent twice
        ([b"rubbish", b"", text("CMD_OK:x"), END], 0),
        ([END], 1),
    ],
)
def test_the_c_servers_verdicts(answers: list[bytes], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The C server's texts decide on success."""
    with udp_daemon("127.0.0.1", *answers) as server:
        assert main([f"-{server.port}", "save"]) == code
    out, err = capsys.readouterr()
    assert (out == "") == (code != 0) and (err == "") == (code == 0)
    assert out.count("\n") <= 1


def test_the_end_may_get_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is an answer, even when the last datagram does not come."""
    monkeypatch.setattr(channel, "LAST_WORDS", 0.01)
    with udp_daemon("127.0.0.1", text("working"), text("CMD_OK:x"), hold=True) as server:
        assert main([f"-{server.port}", "save"]) == 0


def test_a_silent_server_is_status_4() -> None:
    """The socket is there, but nobody answers."""
    with udp_daemon("127.0.0.1", b"rubbish", hold=True) as server:
        assert main([f"-{server.port}", "--timeout", "0.05", "save"]) == 4


# ---- the process -----------------------------------------------------------------------------------------------------


def test_mpt_needs_only_the_standard_library(path: Path) -> None:
    """A whole `mpt show status` imports neither Twisted nor pyroute2 nor what is as slow: it starts in under 150 ms."""
    program = "import sys; from mpt.cli.main import main; code = main(); print(sorted(sys.modules)); sys.exit(code)"
    with unix_daemon(path, encode_reply(1, Reply(0, "the status"))):
        command = [sys.executable, "-c", program, "--socket", str(path), "show", "status"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={**os.environ, "PYTHONPATH": str(DOCUMENT.parent.parent)},
        )
    assert (done.returncode, done.stderr) == (0, "")
    answer, modules = done.stdout.splitlines()
    assert answer == "the status"
    slow = {"twisted", "zope", "pyroute2", "asyncio", "argparse", "ssl", "multiprocessing", "subprocess", "mpt.lab"}
    slow |= {"difflib", "mpt.local.status"}
    assert not slow & set(re.findall(r"'([\w.]+)'", modules))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_a_socket_that_one_may_not_use_is_status_5(path: Path) -> None:
    """A user who may not connect is told so, if no other way leads to the daemon."""
    path.parent.chmod(0o700)
    program = "import os, sys; from mpt.cli.main import main; os.setuid(65533); sys.exit(main())"
    command = [sys.executable, "-c", program, "--socket", str(path), "show", "status"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={"PYTHONPATH": str(DOCUMENT.parent.parent)},
    )
    assert done.returncode == 5
    assert "not permitted to use" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(path: Path) -> None:
    """`mpt show status | head -1` ends without a traceback."""
    with unix_daemon(path, encode_reply(1, Reply(0, "line\n" * 100_000))):
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-m", "mpt.cli.main", "--socket", str(path), "show", "status"]
        done = subprocess.run(
            command,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
            check=False,
            env={**os.environ, "PYTHONPATH": str(DOCUMENT.parent.parent)},
        )
        os.close(writing)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_the_document_has_every_usage() -> None:
    """docs/commands.md and `mpt CMD --help` agree, word for word."""
    document = DOCUMENT.read_text()
    assert usage() in document
    for form in FORMS.values():
        assert form.usage() in document, form.name


@pytest.mark.parametrize("name", ["", *FORMS, *(program.name for program in PROGRAMS)])
def test_the_help_fits_a_terminal(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    with suppress(SystemExit):  # argparse's
        main([*name.split(), "--help"])
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []
