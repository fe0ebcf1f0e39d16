"""`mpt init`: two configurations that mirror each other, and that mptsrv takes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from mpt.cli.init import init
from mpt.cli.interfaces import Line
from mpt.cli.main import main
from mpt.config.directory import load_directory
from mpt.config.findings import ERROR, WARNING
from mpt.config.semantics import check_directory
from mpt.errors import ConfigError
from mpt.model import Config, ConnectionConfig
from tests.cli.test_clients import ETH0, WWAN0

CABLES = ["--path", "eth1=10.1.1.2/24,eth1=10.1.1.3/24", "--path", "eth2=10.2.2.2/24,eth2=10.2.2.3/24"]
LINES = [
    "--names",
    "home,vps",
    "--path",
    "eth1,eth0=192.0.2.10,10/50",
    "--path",
    "eth2,eth0=192.0.2.10+vps.example,20/30",
]
EVERYTHING = ["--networks", "192.168.1.0/24,fd00:1::/64", "--peer-networks", "0.0.0.0/0,::/0"]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directories are made in an empty one."""
    monkeypatch.chdir(tmp_path)


def here() -> list[Line]:
    """The lines of this host."""
    return [ETH0, WWAN0]


def both(names: tuple[str, str] = ("here", "there")) -> tuple[Config, Config]:
    """Return the two configurations, in which `mpt check` finds neither errors nor warnings."""
    found = []
    for name in names:
        config, findings = check_directory(Path("new") / name)
        assert [each.text() for each in findings if each.severity in (ERROR, WARNING)] == []
        assert load_directory(Path("new") / name).warnings == ()
        found.append(config)
    return found[0], found[1]


def assert_mirrored(ours: ConnectionConfig, theirs: ConnectionConfig) -> None:
    """Each end has what the other one expects."""
    assert (ours.ip_local, ours.ip_remote) == (theirs.ip_remote, theirs.ip_local)
    assert (ours.local_port, ours.remote_port) == (theirs.remote_port, theirs.local_port)
    assert len(ours.paths) == len(theirs.paths)
    assert [(each.source, each.destination) for each in ours.networks] == [
        (each.destination, each.source) for each in theirs.networks
    ]
    for one, other in zip(ours.paths, theirs.paths, strict=True):
        if not ours.is_sealed:
            assert (one.public_ipaddr, one.remote_ipaddr) == (other.remote_ipaddr, other.public_ipaddr)


def test_a_pair_is_sealed_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Each host has a key of its own and the other's; shares are by the rates that each sends at."""
    assert main(["init", "new", *LINES, *EVERYTHING]) == 0
    home, vps = both(("home", "vps"))
    (ours,), (theirs,) = home.connections, vps.connections
    assert_mirrored(ours, theirs)
    assert home.identity is not None and vps.identity is not None
    assert ours.peer_keys == (vps.identity.public_key,) and theirs.peer_keys == (home.identity.public_key,)
    assert [path.weight_out for path in ours.paths] == [10, 20]
    assert [path.weight_out for path in theirs.paths] == [50, 30]
    assert ours.paths[1].remote_addresses == (ip_address("192.0.2.10"),)
    assert ours.paths[1].remote_names == ("vps.example",)
    assert {each.destination for each in ours.networks} >= {ip_network("0.0.0.0/0"), ip_network("::/0")}
    assert (Path("new") / "home" / "private.key").stat().st_mode & 0o777 == 0o600
    said = capsys.readouterr().out
    assert "Let UDP 4754 through the firewall of vps." in said and "private key" in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_plain_pair_has_both_ports_in_the_firewall_text(capsys: pytest.CaptureFixture[str]) -> None:
    """On one cable the gateway is the own address; elsewhere it is found out. It works beside the C program."""
    assert init(["new", "--plain", *CABLES]) == 0
    (ours,), (theirs,) = (each.connections for each in both())
    assert_mirrored(ours, theirs)
    assert not ours.is_sealed and ours.reorder_window == 1000
    assert [path.gateway_ipaddr for path in ours.paths] == [path.public_ipaddr for path in ours.paths]
    assert all(path.keepalive_time and path.dead_time for path in ours.paths)
    assert not (Path("new") / "here" / "private.key").exists()
    assert "Let UDP 4754 and 65050 through the firewall of here and of there." in capsys.readouterr().out


@pytest.mark.parametrize(
    "more",
    [
        ["--adaptive"],
        ["--port", "5000"],
        ["--tunnel", "fd00:77::/64"],
        ["--plain", "--tunnel", "fd00:77::/64"],
        EVERYTHING,
    ],
    ids=" ".join,
)
def test_every_choice_makes_two_that_fit(more: list[str]) -> None:
    """mptsrv takes both, and they mirror each other."""
    assert init(["new", *CABLES, *more]) == 0
    (ours,), (theirs,) = (each.connections for each in both())
    assert_mirrored(ours, theirs)
    assert ours.is_adaptive is theirs.is_adaptive is ("--plain" not in more)


@pytest.mark.parametrize(
    ("rates", "more", "expected"),
    [
        (("10/50", "20/30"), [], False),
        (("10/50", "20/50"), [], False),
        (("10/50", "10/50"), [], True),
        (("10/50", "20/50"), ["--adaptive"], True),
    ],
)
def test_both_ends_go_by_the_rates_or_neither(rates: tuple[str, str], more: list[str], expected: bool) -> None:
    """They do if the rates differ at one end, and nobody asks for adaptive paths."""
    paths = [f"--path=eth{number},eth0=192.0.2.10,{each}" for number, each in enumerate(rates)]
    assert init(["new", *paths, *more]) == 0
    (ours,), (theirs,) = (each.connections for each in both())
    assert ours.is_adaptive is theirs.is_adaptive is expected


def answers(*given: str) -> Iterator[str]:
    yield from given


def test_it_asks_for_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty answer takes what the question proposes; a wrong one is asked again."""
    questions = []
    given = answers("home", "vps", "", "300.0.0.1", "vpn.example", "")

    def ask(question: str) -> str:
        questions.append(question)
        return next(given)

    assert init(["new"], ask, here) == 0
    home, vps = both(("home", "vps"))
    assert [path.interface_name for path in home.connections[0].paths] == ["eth0", "wwan0"]
    assert [path.remote_names for path in home.connections[0].paths] == [("vpn.example",)] * 2
    assert [path.interface_name for path in vps.connections[0].paths] == ["eth0", "eth0"]
    assert questions[2] == "Lines of home, with commas between [eth0,wwan0]: "
    assert "It must be " in capsys.readouterr().err


def test_for_a_plain_pair_it_asks_for_addresses() -> None:
    """The addresses of this host are proposed."""
    given = answers("", "", "eth0", "192.0.2.99", "eth7", "")
    assert init(["new", "--plain"], lambda question: next(given), here) == 0
    (ours,), _ = (each.connections for each in both())
    assert (ours.paths[0].public_ipaddr, ours.paths[0].remote_ipaddr) == (
        ip_address("192.0.2.10"),
        ip_address("192.0.2.99"),
    )


def test_without_options_and_answers_nothing_is_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 2 without a terminal; an error when the answers end."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["init", "new"]) == 2
    assert "at least one --path" in capsys.readouterr().err

    def ended(question: str) -> str:
        raise EOFError

    with pytest.raises(ConfigError, match="the answers ended"):
        init(["new"], ended, here)
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--path", "eth1,eth0"], "path 0 needs the address, or the DNS name, of one of its ends"),
        (["--plain", "--path", "eth1,eth0=192.0.2.10"], "path 0 needs the addresses of both ends"),
        (["--names", "home,home", *CABLES], "need different names"),
        (["--tunnel", "10.0.0.0/31", *CABLES], "has no room for two hosts"),
        (["--networks", ",".join(f"10.{n}.0.0/16" for n in range(100, 121)), *CABLES], "1 to 20 networks"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit_is_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing is written."""
    try:
        assert main(["init", "new", *words]) == 1
    except SystemExit as end:  # argparse's
        assert end.code == 2
    assert told in capsys.readouterr().err
    assert not [each for each in Path("new").rglob("*") if each.is_file()]


def test_no_file_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    """A second run for the same directory changes nothing, and leaves nothing of its own."""
    assert main(["init", "new", *CABLES]) == 0
    before = {path: path.read_bytes() for path in Path("new").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["init", "new", "--plain", *CABLES]) == 1
    assert "exists" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path("new").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "text", ["eth1", "eth1,eth0=1.2.3", "eth1,eth0=192.0.2.1,10", "eth1,eth0=192.0.2.1,0/5", "e/1,eth0"]
)
def test_a_bad_path_is_told(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With an example; status 2."""
    with pytest.raises(SystemExit):
        main(["init", "new", "--path", text])
    assert "must be" in capsys.readouterr().err
