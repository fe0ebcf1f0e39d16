"""`mpt client` and `mpt join`: two hosts from nothing to their files, and nothing overwritten or half written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from mpt.cli.clients import client
from mpt.cli.interfaces import Line
from mpt.cli.join import join
from mpt.cli.main import main
from mpt.config.directory import load_directory
from mpt.config.identity import load_identity
from mpt.config.jointext import decode
from mpt.errors import ConfigError
from mpt.local.protocol import Reply, encode_reply
from mpt.model import Config
from mpt.values import text_of
from tests.cli.daemons import unix_daemon
from tests.config.files import OTHER_PEER_KEY, PEER_KEY
from tests.config.test_jointext import CONTENT
from tests.config.test_jointext import text_of as join_text_of

ETH0 = Line("eth0", (ip_interface("192.0.2.10/24"), ip_interface("2001:db8::10/64")), True)
WWAN0 = Line("wwan0", (ip_interface("100.64.1.2/30"),), True)
ETH1 = Line("eth1", (ip_interface("192.168.1.1/24"),), False)

Command = Callable[..., str]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the configuration nor the daemon of this machine is found by a test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MPT_CONFIG_DIR", raising=False)
    monkeypatch.setenv("MPT_CONTROL_SOCKET", str(tmp_path / "mpt.sock"))


@pytest.fixture
def server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `mpt client` on a server with one line; return what it prints."""

    def run(*words: str, here: tuple[Line, ...] = (ETH0,)) -> str:
        capsys.readouterr()
        assert client(["--config", str(tmp_path / "server"), *words], lambda: here) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def laptop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `mpt join` on a client with two lines; return what it prints."""

    def run(*words: str, here: tuple[Line, ...] = (WWAN0, ETH1)) -> str:
        capsys.readouterr()
        assert join(["--config", str(tmp_path / "laptop"), *words], lambda: here) == 0
        return capsys.readouterr().out

    return run


def loaded(directory: Path) -> Config:
    return load_directory(directory).config


def text_in(printed: str) -> str:
    """Return the join text that was printed."""
    (text,) = re.findall(r"mpt join (\S+)", printed)
    assert isinstance(text, str)
    return text


def everything(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and mode of every file below a directory."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mode & 0o777) for path in files}


# ---- from nothing ---------------------------------------------------------------------------------------------------


def test_three_commands_make_two_configurations_that_fit(server: Command, laptop: Command, tmp_path: Path) -> None:
    """Each end has the other's key, and the tunnel addresses are each other's."""
    text = text_in(server("add", "laptop"))
    said = laptop(text)
    (command,) = re.findall(r"    mpt (client add \S+ --key \S+)\n", said)
    assert server(*command.split()[1:]).startswith("laptop is 10.77.0.2\n")
    here, there = loaded(tmp_path / "server"), loaded(tmp_path / "laptop")
    (ours,), (theirs,) = here.connections, there.connections
    assert here.identity is not None and there.identity is not None
    assert ours.peer_keys == (there.identity.public_key,) and theirs.peer_keys == (here.identity.public_key,)
    assert (ours.ip_local, ours.ip_remote) == (theirs.ip_remote, theirs.ip_local)
    assert ours.name == "laptop" and ours.paths[0].remote_addresses == ()
    assert [path.interface_name for path in theirs.paths] == ["wwan0"]
    assert theirs.paths[0].remote_addresses == (ip_address("192.0.2.10"), ip_address("2001:db8::10"))
    assert all(tunnel.mtu_auto for config in (here, there) for tunnel in config.tunnels)
    for directory in ("server", "laptop"):
        modes = {name: mode for name, (_content, mode) in everything(tmp_path / directory).items()}
        assert modes.pop("private.key") == 0o600
        assert set(modes.values()) == {0o644}
        assert load_directory(tmp_path / directory).warnings == ()


def test_the_join_text_has_no_secret(server: Command, tmp_path: Path) -> None:
    """The public key of the server is all that it has of a key."""
    printed = server("add", "laptop")
    identity = load_identity(tmp_path / "server" / "private.key")
    text = decode(text_in(printed))
    assert text.server_key == identity.public_key
    assert identity.private_key not in repr(text).encode() and text_of(identity.private_key) not in printed


def test_the_next_client_gets_the_next_address(server: Command) -> None:
    """Also while a key is not there yet; an address that became free is given again."""
    for name, address in (("a", "10.77.0.2"), ("b", "10.77.0.3"), ("c", "10.77.0.4")):
        assert f"{name} is {address}\n" in server("add", name)
    assert server("remove", "b").startswith("b is removed\n")
    assert "d is 10.77.0.3\n" in server("add", "d")
    assert server("list").splitlines() == [f"{n}  10.77.0.{a}  (no key yet)" for n, a in (("a", 2), ("c", 4), ("d", 3))]


def test_a_tunnel_has_room_for_so_many(server: Command) -> None:
    """The next one is told."""
    assert "a is fd00:77::2\n" in server("add", "a", "--tunnel", "fd00:77::1/126")
    server("add", "b")
    with pytest.raises(ConfigError, match="no address of fd00:77::/126 is free"):
        server("add", "c")


def test_a_key_that_is_known_before_is_given_at_once(server: Command, tmp_path: Path) -> None:
    """And so are networks; another key is not taken for the same client."""
    printed = server("add", "branch", "--key", PEER_KEY, "--networks", "192.168.7.0/24,fd00:7::/64")
    networks = (ip_network("192.168.7.0/24"), ip_network("fd00:7::/64"))
    assert decode(text_in(printed)).networks == networks
    (connection,) = loaded(tmp_path / "server").connections
    assert {each.destination for each in connection.networks} >= set(networks)
    assert "nothing is new" in server("add", "branch", "--key", PEER_KEY)
    with pytest.raises(ConfigError, match=rf"has the key Kay64.*mpt client rekey branch {OTHER_PEER_KEY}"):
        server("add", "branch", "--key", OTHER_PEER_KEY)
    server("add", "Branch", "--networks", "192.168.8.0/24")
    (connection,) = loaded(tmp_path / "server").connections
    assert [str(each.destination) for each in connection.networks] == ["10.77.0.2/32", "192.168.8.0/24"]
    assert server("list") == f"branch  10.77.0.2  {PEER_KEY}  192.168.8.0/24\n"


def test_a_client_that_has_lost_its_key_gets_another(server: Command, tmp_path: Path) -> None:
    """Address and networks stay; only the new key is good. Who is not there gets none."""
    server("add", "branch", "--key", PEER_KEY, "--networks", "192.168.7.0/24")
    server("rekey", "Branch", OTHER_PEER_KEY)
    assert server("list") == f"branch  10.77.0.2  {OTHER_PEER_KEY}  192.168.7.0/24\n"
    assert [text_of(each.peer_keys) for each in loaded(tmp_path / "server").connections] == [OTHER_PEER_KEY]
    before = everything(tmp_path / "server")
    assert "nothing is new" in server("rekey", "branch", OTHER_PEER_KEY)
    with pytest.raises(ConfigError, match="no client nobody"):
        server("rekey", "nobody", PEER_KEY)
    own = load_identity(tmp_path / "server" / "private.key").public_text
    with pytest.raises(ConfigError, match="own"):
        server("rekey", "branch", own)
    assert everything(tmp_path / "server") == before


def test_a_server_may_have_several_lines_and_a_name(server: Command, tmp_path: Path) -> None:
    """The name stands for its addresses; private ones are not told if there are others."""
    printed = server("add", "a", "--server", "VPN.example,192.0.2.99", "--paths", "eth0,eth1", here=(ETH0, ETH1))
    assert decode(text_in(printed)).servers == (ip_address("192.0.2.99"), "vpn.example")
    (warning,) = load_directory(tmp_path / "server").warnings
    assert "has no peer_key yet" in warning
    template = (tmp_path / "server" / "connections" / "conf.template").read_text()
    assert re.findall(r"interface_name\s*= (\S+)", template) == ["eth0", "eth1"]
    public = Line("eth1", (ip_interface("8.8.8.8/24"),), False)
    assert decode(text_in(server("add", "a", here=(ETH0, public)))).servers == (ip_address("8.8.8.8"),)
    assert "name others by --server" in server("add", "a", here=(ETH1,))


@pytest.mark.parametrize("here", ["192.168.1.5/24", "100.64.1.2/30", "fd00::1/64"])
def test_a_server_without_a_public_address_is_told(here: str, server: Command) -> None:
    """Carrier-grade NAT has addresses of its own; a name may have any address."""
    line = Line("eth0", (ip_interface(here),), True)
    assert "This host has private addresses only" in server("add", "a", here=(line,))
    assert "private addresses" not in server("add", "a", "--server", "vpn.example", here=(line,))
    assert "private addresses" not in server("add", "a", "--server", f"{here.partition('/')[0]},8.8.8.8", here=(line,))


def test_the_first_tunnel_is_of_no_network_here(server: Command, tmp_path: Path) -> None:
    """Its prefix must not hide a line."""
    taken = Line("eth0", (ip_interface("10.77.3.4/16"),), True)
    assert "a is 10.78.0.2" in server("add", "a", here=(taken,))


# ---- what is there already ------------------------------------------------------------------------------------------


def test_files_that_are_there_are_used(server: Command, tmp_path: Path) -> None:
    """Comments stay, and what is to be new is refused."""
    server("add", "a")
    files = tmp_path / "server" / "connections"
    text = (files / "clients.conf").read_text()
    (files / "clients.conf").write_text(f"# ours\n{text}  # a comment\n\n# of b\n[client b]\nip_remote = 10.77.0.9\n")
    (files / "clients.conf").chmod(0o640)
    server("add", "a", "--key", PEER_KEY)
    server("add", "c")
    now = (files / "clients.conf").read_text()
    assert now.startswith("# ours\n[client a]") and "# a comment" in now and "# of b\n[client b]" in now
    assert (files / "clients.conf").stat().st_mode & 0o777 == 0o640
    server("remove", "A")
    assert (files / "clients.conf").read_text().startswith("# ours\n")
    assert "# of b\n[client b]" in (files / "clients.conf").read_text()
    for words in (("--tunnel", "10.9.0.1/24"), ("--paths", "eth0")):
        with pytest.raises(ConfigError, match="is for a new server"):
            server("add", "d", *words)


@pytest.mark.parametrize(
    ("words", "here", "message"),
    [
        (("add", "a", "--paths", "eth9"), (ETH0,), "there is no such interface that is up; there are eth0"),
        (("add", "a"), (ETH1, Line("eth2", (), False)), "name it with --paths; there are eth1, eth2"),
        (("add", "a"), (), "there is none that is up"),
        (("add", "a"), (Line("eth0", (), True),), "no address that a client could reach"),
        (("list",), (ETH0,), "there is no interface.conf|cannot be read"),
        (("remove", "a"), (ETH0,), "there is no interface.conf|cannot be read"),
    ],
)
def test_a_command_that_fails_has_made_nothing(
    words: tuple[str, ...], here: tuple[Line, ...], message: str, server: Command, tmp_path: Path
) -> None:
    """Not one file is left."""
    with pytest.raises(ConfigError, match=message):
        server(*words, here=here)
    assert everything(tmp_path / "server") == {}


def test_a_bad_clients_file_is_left_as_it_is(server: Command, tmp_path: Path) -> None:
    """Its errors are told; and so is a client that nobody knows."""
    server("add", "a", "--key", PEER_KEY)
    with pytest.raises(ConfigError, match="there is no client b"):
        server("remove", "b")
    path = tmp_path / "server" / "connections" / "clients.conf"
    path.write_text(path.read_text() + "[client b]\nip_remote = 10.77.0.1\n")
    before = everything(tmp_path / "server")
    for words in (("add", "c"), ("remove", "a"), ("list",)):
        with pytest.raises(ConfigError, match=r"clients.conf:\d+: \[client b\] ip_remote"):
            server(*words)
    assert everything(tmp_path / "server") == before


@pytest.mark.parametrize(
    "words",
    [
        ["add", "a;reboot"],
        ["add", "-a"],
        ["add", "a", "--key", "abc"],
        ["add", "a", "--networks", "10.0.0.1/24"],
        ["add", "a", "--server", "-"],
        ["add", "a", "--tunnel", "10.0.0.1/32"],
        ["add"],
        [],
        ["change", "a"],
    ],
)
def test_bad_words_are_told(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is looked at."""
    with pytest.raises(SystemExit) as ended:
        client(["--config", str(tmp_path / "server"), *words], lambda: [ETH0])
    assert ended.value.code == 2
    assert "usage: mpt client" in capsys.readouterr().err
    assert not (tmp_path / "server").exists()


# ---- joining --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [((), ["wwan0"]), (("--all",), ["wwan0", "eth1"]), (("--paths", "eth1,wwan0"), ["eth1", "wwan0"])],
)
def test_the_paths_are_chosen(words: tuple[str, ...], expected: list[str], laptop: Command, tmp_path: Path) -> None:
    """Those with a default route, all, or those that are named."""
    laptop(join_text_of(CONTENT), *words)
    (connection,) = loaded(tmp_path / "laptop").connections
    assert [path.interface_name for path in connection.paths] == expected


def test_a_dozen_lines_are_written(laptop: Command, tmp_path: Path) -> None:
    """What has one sensible value is left out; another port is not."""
    said = laptop(join_text_of({**CONTENT, "port": 5000, "networks": ["192.168.7.0/24", "fd00:7::/64"]}), "--all")
    assert re.findall(r"(\S+) has no \[net_n\]", said) == ["fd00:7::/64"], "of the other IP version"
    text = (tmp_path / "laptop" / "connections" / "192.0.2.10.conf").read_text()
    assert len([line for line in text.splitlines() if " = " in line]) == 5 + 2 * 2 + 2 * 2
    (connection,) = loaded(tmp_path / "laptop").connections
    assert connection.remote_port == 5000
    assert [(str(each.source), str(each.destination)) for each in connection.networks] == [
        ("10.77.0.2/32", "10.77.0.0/24"),
        ("192.168.7.0/24", "10.77.0.0/24"),
    ]


def test_a_second_time_changes_nothing(laptop: Command, tmp_path: Path) -> None:
    """The file is there; the key and the tunnel of another server would be used."""
    laptop(join_text_of(CONTENT))
    before = everything(tmp_path / "laptop")
    with pytest.raises(ConfigError, match=r"192.0.2.10.conf exists and is not overwritten"):
        laptop(join_text_of(CONTENT))
    with pytest.raises(ConfigError, match=r"nothing is written.*ip_local"):
        laptop(join_text_of({**CONTENT, "servers": ["vpn.example"], "own": "10.99.0.2/24", "peer": "10.99.0.1"}))
    assert everything(tmp_path / "laptop") == before


def test_a_key_that_is_there_is_used(laptop: Command, tmp_path: Path) -> None:
    """One that others can read is not."""
    main(["genkey", str(tmp_path / "laptop.key")])
    (tmp_path / "laptop").mkdir()
    os.rename(tmp_path / "laptop.key", tmp_path / "laptop" / "private.key")
    (tmp_path / "laptop" / "private.key").chmod(0o640)
    before = everything(tmp_path / "laptop")
    with pytest.raises(ConfigError, match="is open to others"):
        laptop(join_text_of(CONTENT))
    assert everything(tmp_path / "laptop") == before
    (tmp_path / "laptop" / "private.key").chmod(0o600)
    assert load_identity(tmp_path / "laptop" / "private.key").public_text in laptop(join_text_of(CONTENT))
    assert (tmp_path / "laptop" / "private.key").read_bytes() == before["private.key"][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"own": "192.168.1.5/24", "peer": "192.168.1.9"}, "is that of eth1"),
        ({"own": "192.168.0.5/16", "peer": "192.168.0.9"}, "is that of eth1"),
        ({"servers": ["192.0.2.10/../x"]}, "the join text is wrong"),
        ({"key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}, "the join text is wrong"),
    ],
)
def test_a_hostile_text_makes_nothing(
    changes: dict[str, object], message: str, laptop: Command, tmp_path: Path
) -> None:
    """It cannot take a network of this host into the tunnel, nor write another file."""
    with pytest.raises(ConfigError, match=message) as caught:
        laptop(join_text_of({**CONTENT, **changes}))
    assert "\n" not in str(caught.value)
    assert everything(tmp_path) == {}


def test_a_host_does_not_join_itself(server: Command, tmp_path: Path) -> None:
    """Its own key is no peer's."""
    text = text_in(server("add", "a"))
    before = everything(tmp_path / "server")
    with pytest.raises(ConfigError, match=r"tunnel's prefix|ip_remote|own public key"):
        join(["--config", str(tmp_path / "server"), text], lambda: [ETH0])
    assert everything(tmp_path / "server") == before


# ---- a daemon that runs ---------------------------------------------------------------------------------------------


def test_a_daemon_that_runs_is_told(server: Command, laptop: Command, tmp_path: Path) -> None:
    """It takes in the one file; what it says is printed."""
    answer = encode_reply(1, Reply(0, "new: laptop; 0 unchanged"))
    with unix_daemon(tmp_path / "mpt.sock", answer) as daemon:
        assert "\nmptsrv: new: laptop; 0 unchanged\n" in server("add", "laptop", "--key", PEER_KEY)
    assert json.loads(daemon.asked)["command"] == ["reload", "clients.conf"]
    with unix_daemon(tmp_path / "mpt.sock", answer) as daemon:
        assert laptop(join_text_of(CONTENT)).endswith("\nmptsrv: new: laptop; 0 unchanged\n")
    assert json.loads(daemon.asked)["command"] == ["reload", "192.0.2.10.conf"]
