"""`mpt completion`: what follows which words, and that the shells take the scripts."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from functools import partial
from pathlib import Path

import pytest

from mpt.cli.completion import FILES, SCRIPTS, Names, candidates, parse
from mpt.cli.examples import EXAMPLES, lines
from mpt.cli.main import PROGRAMS, completion_rows, main
from mpt.local.grammar import FORMS
from mpt.local.grammar import parse as parse_command
from mpt.model import COSTS
from tests.config.files import PEER_KEY, write
from tests.config.test_semantics import AUTO, SEALED

ROOT = Path(__file__).parents[2]
CLIENTS = f"[client laptop]\npeer_key = {PEER_KEY}\nip_remote = 10.0.0.9\n"


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with a connection, vps in home.conf, and a client."""
    write(tmp_path, AUTO, {"home.conf": SEALED, "clients.conf": CLIENTS})
    monkeypatch.setenv("MPT_CONFIG_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def proposed(configured: Path) -> partial[list[str]]:
    return partial(_proposed, configured)


def _proposed(directory: Path, line: str) -> list[str]:
    """What is proposed for the last word of a line; a blank at its end begins a new one."""
    names = Names(directory, {"MPT_CONFIG_DIR": str(directory)})
    return [each.partition("\t")[0] for each in candidates(line.split(" "), completion_rows(), names)]


INTERFACES = sorted(name for _index, name in socket.if_nameindex() if name != "lo")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sto", ["stop"]),
        ("path ", ["up", "down", "cost"]),
        ("path up ", [*INTERFACES, "path_0"]),
        ("path cost eth0 ", list(COSTS)),
        ("path cost eth0 b", ["backup"]),
        ("show ", ["status", "history", "events"]),
        ("show status ", ["laptop", "vps"]),
        ("up ", ["laptop", "vps"]),
        ("status v", ["vps"]),
        ("reload ", ["clients.conf", "home.conf"]),
        ("addr ", ["add", "del"]),
        ("address add 10.0.0.1 ", ["dev"]),
        ("address add 10.0.0.1 dev ", INTERFACES),
        ("int eth0 ", ["up", "down"]),
        ("int eth0 up ", []),
        ("client ", ["add", "rekey", "remove", "list"]),
        ("client add x --ne", ["--networks"]),
        ("client remove x --ne", []),
        ("status --w", ["--watch"]),
        ("status --watch 2 ", ["laptop", "vps"]),
        ("--json status v", ["vps"]),
        ("check ", [FILES]),
        ("doctor --bundle ", [FILES]),
        ("completion z", ["zsh"]),
        ("init --pl", ["--plain"]),
        ("nonsense ", []),
    ],
)
def test_what_may_follow_is_proposed(line: str, expected: list[str], proposed: partial[list[str]]) -> None:
    """Commands, words, names of this host, options and their values."""
    assert proposed(line) == expected


def test_every_command_is_proposed_with_its_meaning(configured: Path) -> None:
    """Those of the daemon and the programs; each syntax of the table can be read."""
    found = dict(each.split("\t") for each in candidates([""], completion_rows(), Names(configured, {})))
    assert set(found) == {name for name in FORMS if " " not in name} | {program.name for program in PROGRAMS}
    assert found["check"] == next(program.help for program in PROGRAMS if program.name == "check")
    assert all(parse(row.syntax) for row in completion_rows())


def test_every_command_has_its_options(proposed: partial[list[str]]) -> None:
    """At least --help; those in its syntax too."""
    for program in PROGRAMS:
        found = proposed(f"{program.name} -")
        assert "--help" in found, program.name
        assert set(re.findall(r"--[a-z-]+", program.words)) <= set(found)


@pytest.mark.parametrize("shell", list(SCRIPTS))
def test_the_shells_take_the_scripts(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their own check of the syntax finds nothing."""
    assert main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([program, "-n", str(script)], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["path", "c"], ["cost"]),
        (["show", "status", ""], ["laptop", "vps"]),
        (["status", "--b"], ["--brief"]),
        (["reload", "ho"], ["home.conf"]),
        (["check", ""], []),
    ],
)
def test_bash_completes(words: list[str], expected: list[str], configured: Path) -> None:
    """In a real bash, which asks a real mpt."""
    mpt = f'mpt() {{ {shlex.quote(sys.executable)} -P -m mpt.cli.main "$@"; }}'
    typed = " ".join(shlex.quote(word) for word in words)
    script = f"""
{mpt}
eval "$(mpt completion bash)"
COMP_WORDS=(mpt {typed}); COMP_CWORD={len(words)}
compopt() {{ echo "default" >&2; }}
_mpt
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPT_CONFIG_DIR": str(configured)}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, timeout=60)
    assert [line for line in done.stdout.splitlines() if line] == expected
    assert done.stderr == ("" if expected else "default\n")


def in_shell(shell: str, lines: str, directory: Path) -> list[str]:
    """Return what a shell prints that has loaded the script and asks a real mpt."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    folder = directory / "bin"
    folder.mkdir()
    (folder / "mpt").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m mpt.cli.main "$@"\n')
    (folder / "mpt").chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPT_CONFIG_DIR": str(directory), "PATH": path}
    environment["HOME"] = str(directory)
    done = subprocess.run([program, "-c", lines], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash_knows_for_which_programs(configured: Path) -> None:
    """They are registered, with the options of mptsrv."""
    said = in_shell("bash", 'eval "$(mpt completion bash)"; complete -p mpt mptsrv', configured)
    assert said == ["complete -F _mpt mpt", "complete -F _mptsrv mptsrv"]


def test_fish_completes(configured: Path) -> None:
    """Words, those of the first place with their meanings."""
    lines = "; ".join(
        ["mpt completion fish | source", *(f'complete -C "mpt {each}"' for each in ("path c", "up ", "sto"))]
    )
    stop = next(program.help for program in PROGRAMS if program.name == "stop")
    assert in_shell("fish", lines, configured) == ["cost", "laptop", "vps", f"stop\t{stop}"]


def test_zsh_completes(configured: Path) -> None:
    """The function is registered, and describes the words."""
    lines = """
compdef() { print -- "$@" }
_describe() { print -l -- "${(@P)2}" }
eval "$(mpt completion zsh)"
service=mpt; CURRENT=3
words=(mpt path c); _mpt
words=(mpt up v); _mpt
"""
    assert in_shell("zsh", lines, configured) == ["_mpt mpt mptsrv", "cost:cost", "vps:vps"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_the_tab_key_completes_in_zsh(configured: Path) -> None:
    """In a terminal, with zsh's own completion: a command, and the name of a connection."""
    scripts = sysconfig.get_path("scripts")
    variables = {"PATH": f"{scripts}:/usr/bin:/bin", "TERM": "vt100", "MPT_CONFIG_DIR": str(configured)}
    terminal, inside = pty.openpty()
    with subprocess.Popen(["zsh", "-f", "-i"], stdin=inside, stdout=inside, stderr=inside, env=variables) as shell:
        os.close(inside)
        begin = 'autoload -Uz compinit && compinit -u -D; eval "$(mpt completion zsh)"; print begin\r'
        press(terminal, begin, "\nbegin")
        press(terminal, "mpt stat\t", "mpt status")
        press(terminal, "\x15mpt up v\t", "mpt up vps")
        shell.kill()
    os.close(terminal)


def press(terminal: int, keys: str, expected: str) -> None:
    """Press keys; wait until the terminal has got a text, which may have codes in it."""
    os.write(terminal, keys.encode())
    shown, end = "", time.monotonic() + 20
    while expected not in re.sub(r"\x1b\[[?\d;]*[a-zA-Z]|\0|\r", "", shown):
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 0.5)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")


def test_without_a_shell_it_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, or 0 if it was asked."""
    assert main(["completion"]) == 2
    said = capsys.readouterr().out
    assert main(["completion", "--help"]) == 0
    assert capsys.readouterr().out == said
    assert 'eval "$(mpt completion bash)"' in said


# ---- mpt examples ---------------------------------------------------------------------------------------------------


def commands() -> list[list[str]]:
    """Every command of the examples, as words after mpt."""
    typed = [line.rpartition("# ")[2] for group in EXAMPLES.values() for each in group for line in each.lines]
    found = [shlex.split(re.sub(r'^eval "\$\((.*)\)"$', r"\1", line)) for line in typed]
    assert all(words[0] in ("mpt", "mptsrv") for words in found)
    return [words[1:] for words in found if words[0] == "mpt"]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_example_is_a_command(words: list[str], proposed: partial[list[str]]) -> None:
    """A command of the daemon that can be read, or a program with options that it has."""
    if words[0] in FORMS:
        assert parse_command(words).words == tuple(words)
        return
    assert words[0] in {program.name for program in PROGRAMS}
    for word in words:
        if word.startswith("--"):
            sub = f"{words[1]} " if words[0] == "client" else ""
            assert word in proposed(f"{words[0]} {sub}{word}")


def test_examples_are_found_by_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    """All of them fit a terminal."""
    assert main(["examples"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines() == list(lines())
    assert max(len(line) for line in printed.splitlines()) <= 80
    assert main(["examples", "rekey"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Clients of a server:",
        "  a key is lost, or a laptop",
        "      mpt client rekey laptop KEY",
        "      mpt client remove laptop",
    ]
    assert main(["examples", "kangaroo"]) == 1
