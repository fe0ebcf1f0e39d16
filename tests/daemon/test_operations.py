"""The commands of guide chapter 4 on a whole daemon: what they change, what they leave alone, what they say."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from mpt.config.directory import load_directory
from mpt.config.schema import GENERAL, TUNNEL, Key
from mpt.daemon.tunnel import RETRY_REFUSED
from mpt.model import ConnectionConfig
from tests.config import files
from tests.daemon.pair import KEY, Pair, mirrored, write_pair
from tests.daemon.stage import PACKET, Run, Stage

NAME = "MPT_connection_10.0.0.2"
OTHER_VALUES = {  # of keys that a reload cannot take
    "tunnel_num": "2",
    "cmdport_local": "65051",
    "public_address_resolver": "208.67.222.222",
    "public_address_name": "ip.example.com",
    "control_socket": "/nowhere/else.sock",
    "data_plane": "python",
    "gso": "off",
    "tun_offload": "off",
    "status_listen": "127.0.0.1:9400",
    "log_format": "json",
    "log_level": "debug",
    "private_key_file": "other.key",
    "key_log": "keys.log",
    "name": "tun7",
    "mtu": "1400",
    "ipv4_addr": "10.0.0.2/16",
    "ipv6_addr": "fec0::7/64",
    "queue_length": "100",
}
OTHER = files.changed(
    files.without(files.without(files.CONNECTION, "net_0"), "net_1"),
    "connection",
    name="other",
    ip_remote="10.0.0.9",
    network_count="0",
)


@pytest.fixture
def host_a(run: Run, tmp_path: Path) -> Callable[..., Stage]:
    """Host A running from `tmp_path`, which has the guide's files or those that are named."""

    def start(**connections: str) -> Stage:
        interface = files.changed(files.INTERFACE, "general", control_socket="/nowhere/a.sock")
        written = {f"{name}.conf": text for name, text in (connections or {"c": files.CONNECTION}).items()}
        files.write(tmp_path, interface, written)
        return run(config=load_directory(tmp_path).config)

    return start


def write(directory: Path, name: str, text: str) -> None:
    (directory / "connections" / name).write_text(text)


def names(stage: Stage) -> list[str]:
    return [each.config.name for each in stage.root.runs.connections()]


def configured(stage: Stage, name: str = NAME) -> ConnectionConfig:
    return next(each.config for each in stage.root.runs.connections() if each.config.name == name)


def sequence_of_next_packet(stage: Stage) -> int:
    stage.clear()
    stage.tun.inject(PACKET)
    stage.reactor.read_all()
    (datagram,) = stage.sent("eth1") + stage.sent("eth2")
    return int.from_bytes(datagram[4:8], "big")


# ---- reload (guide 4.3) ---------------------------------------------------------------------------------------------


def test_reload_starts_what_is_new_and_what_has_changed_and_leaves_the_rest_alone(
    host_a: Callable[..., Stage], tmp_path: Path
) -> None:
    """The unchanged connection is the very same object, its sequence numbers go on."""
    ordered = files.changed(files.CONNECTION, "connection", reorder_window="100")
    stage = host_a(c=ordered, o=OTHER)
    assert [sequence_of_next_packet(stage) for _ in range(3)] == [0, 1, 2]
    untouched = stage.root.runs.connections()[0]
    write(tmp_path, "o.conf", files.changed(OTHER, "connection", max_buffdelay_msec="50"))
    write(tmp_path, "n.conf", files.changed(OTHER, "connection", name="new", ip_remote="10.0.0.10"))
    assert stage.ask("reload").text == "new: new; changed: other; 1 unchanged"
    assert untouched in stage.root.runs.connections()
    assert configured(stage, "other").max_buffdelay_msec == 50
    assert sorted(names(stage)) == [NAME, "new", "other"]
    stage.reactor.advance(0)
    assert sequence_of_next_packet(stage) == 3
    assert stage.ask("reload").text == "3 unchanged"


def test_reload_with_a_bad_file_changes_nothing_and_says_what_is_wrong(
    host_a: Callable[..., Stage], tmp_path: Path
) -> None:
    """Good other files change nothing either."""
    stage = host_a(c=files.CONNECTION, o=OTHER)
    before = stage.root.runs.connections()
    write(tmp_path, "a.conf", files.changed(OTHER, "connection", name="new", ip_remote="10.0.0.10"))
    write(tmp_path, "o.conf", files.changed(OTHER, "connection", reorder_window="many"))
    said = stage.ask("reload").text
    assert said.startswith("1: Reload unsuccessful.") and "reorder_window" in said and "many" in said
    assert stage.root.runs.connections() == before


def test_reload_tells_the_warnings(host_a: Callable[..., Stage], tmp_path: Path) -> None:
    """A misspelt key or interface would otherwise be found out at the next start only."""
    stage = host_a()
    text = files.changed(OTHER, "connection", reorder_windw="100")
    write(tmp_path, "o.conf", text)
    answer, warning = stage.ask("reload o.conf").text.split("\n")
    assert answer == "new: other; 0 unchanged"
    assert (
        warning.startswith("warning: ")
        and "reorder_windw is unknown and ignored: is 'reorder_window' meant?" in warning
    )
    write(tmp_path, "o.conf", files.changed(text, "path_0", interface_name="eht2"))
    answer, *warnings = stage.ask("reload").text.split("\n")
    assert answer == "changed: other; 1 unchanged"
    assert len(warnings) == 2 and "interface_name = 'eht2'" in "".join(warnings)


def test_reload_of_one_file_loads_it_and_no_other(host_a: Callable[..., Stage], tmp_path: Path) -> None:
    """The named file is loaded, another new file is not."""
    stage = host_a()
    write(tmp_path, "o.conf", OTHER)
    write(tmp_path, "n.conf", files.changed(OTHER, "connection", name="new", ip_remote="10.0.0.10"))
    assert stage.ask("reload o.conf").text == "new: other; 0 unchanged"
    assert names(stage) == [NAME, "other"]


def test_reload_of_a_file_that_is_not_there_says_so_in_the_c_programs_words(host_a: Callable[..., Stage]) -> None:
    """Our reason follows the C program's words."""
    said = host_a().ask("reload missing.conf").text
    assert said.startswith("1: Reload unsuccessful. Config file not found in the connection: missing.conf")


def test_reload_does_not_take_what_only_a_new_start_can_change(host_a: Callable[..., Stage], tmp_path: Path) -> None:
    """A change of a tunnel or a port is refused."""
    stage = host_a()
    interface = tmp_path / "interface.conf"
    interface.write_text(interface.read_text().replace("1440", "1400"))
    assert "nothing was reloaded" in stage.ask("reload").text
    back = interface.read_text().replace("1400", "1440")
    interface.write_text(back.replace("cmd_timeout     = 25", "cmd_timeout = 9"))
    assert stage.ask("reload").text == "1 unchanged"
    assert stage.root.runs.settings.general.cmd_timeout == 9


def test_files_that_swap_their_connections_are_refused_and_nothing_is_lost(
    host_a: Callable[..., Stage], tmp_path: Path
) -> None:
    """Every connection runs on as it was."""
    stage = host_a(c=files.CONNECTION, o=OTHER)
    write(tmp_path, "c.conf", files.changed(files.CONNECTION, "connection", ip_remote="10.0.0.9"))
    write(tmp_path, "o.conf", files.changed(OTHER, "connection", ip_remote="10.0.0.3"))
    assert "runs already" in stage.ask("reload").text
    assert sorted(names(stage)) == [NAME, "other"]
    assert str(configured(stage).ip_remote) == "10.0.0.3"


def test_a_changed_connection_that_is_refused_leaves_the_old_one_running(
    host_a: Callable[..., Stage], tmp_path: Path
) -> None:
    """Another program has its new port. A path that was taken down by hand stays down."""
    stage = host_a()
    stage.ask("path down 10.1.1.2 10.1.1.3")
    write(tmp_path, "c.conf", files.changed(files.CONNECTION, "connection", local_port="4754"))
    stage.system.fail("bind", 98)
    said = stage.ask("reload").text
    assert said.startswith("1: Reload unsuccessful.") and "4754" in said
    assert configured(stage).local_port == 23456
    assert len(stage.data_sockets) == 2
    assert stage.statuses("MPT_connection_10.0.0.2") == ["MANUAL_DOWN", "OK"]


def test_a_reload_of_several_files_changes_all_or_none(host_a: Callable[..., Stage], tmp_path: Path) -> None:
    """The host refuses the last: the new connection is gone again, the changed one is as before, paths by hand too."""
    stage = host_a(c=files.CONNECTION, o=OTHER)
    stage.ask("path down 10.1.1.2 10.1.1.3")
    before = {each.config: [path.status for path in each.paths] for each in stage.root.runs.connections()}
    general = stage.root.runs.settings.general
    write(tmp_path, "a.conf", files.changed(OTHER, "connection", name="new", ip_remote="10.0.0.10"))
    write(tmp_path, "c.conf", files.changed(files.CONNECTION, "path_0", weight_out="3"))
    write(tmp_path, "o.conf", files.changed(OTHER, "connection", local_port="4754"))
    interface = tmp_path / "interface.conf"
    interface.write_text(files.changed(interface.read_text(), "general", cmd_timeout="9"))
    stage.system.fail("bind", errno.EADDRINUSE)  # the others share sockets that are open
    said = stage.ask("reload").text
    assert said.startswith("1: Reload unsuccessful.") and "4754" in said
    after = {each.config: [path.status for path in each.paths] for each in stage.root.runs.connections()}
    assert after == before
    assert stage.root.runs.settings.general == general
    assert stage.ask("reload").text == "new: new; changed: MPT_connection_10.0.0.2, other; 0 unchanged"
    assert stage.statuses(NAME) == ["MANUAL_DOWN", "OK"]


RESTART_KEYS = [("general", key) for key in GENERAL if not key.reload] + [("tun_0", key) for key in TUNNEL]


@pytest.mark.parametrize(("section", "key"), RESTART_KEYS, ids=[f"{s}-{k.name}" for s, k in RESTART_KEYS])
def test_a_reload_says_which_keys_it_cannot_take(
    host_a: Callable[..., Stage], tmp_path: Path, section: str, key: Key
) -> None:
    """It changes nothing at all."""
    stage = host_a()
    general, before = stage.root.runs.settings.general, stage.root.runs.connections()
    interface = tmp_path / "interface.conf"
    text = interface.read_text()
    value = OTHER_VALUES[key.name]
    if key.name == "tunnel_num":
        text += "[tun_1]\nname = tun1\nipv4_addr = 10.77.0.1/24\n"
    interface.write_text(
        files.changed(text, section, **{key.name: value, "log_ecn": "0"} if section == "general" else {key.name: value})
    )
    write(tmp_path, "n.conf", files.changed(OTHER, "connection", name="new", ip_remote="10.0.0.10"))
    said = stage.ask("reload").text
    named = "[tun_1]" if key.name == "tunnel_num" else f"[{section}] {key.name}"
    assert said.startswith("1: Reload unsuccessful.") and named in said and "nothing was reloaded" in said
    assert stage.root.runs.settings.general == general and stage.root.runs.connections() == before


def test_what_was_taken_down_by_hand_stays_down_when_its_file_changes(
    host_a: Callable[..., Stage], tmp_path: Path
) -> None:
    """A path that was taken up stays up, unless the file gives it another status."""
    text = files.changed(files.CONNECTION, "path_1", status="131")
    stage = host_a(c=text)
    stage.ask("path down 10.1.1.2 10.1.1.3")
    stage.ask("path up 10.2.2.2 10.2.2.3")
    write(tmp_path, "c.conf", files.changed(text, "path_0", weight_out="3"))
    stage.ask("reload")
    assert stage.statuses(NAME) == ["MANUAL_DOWN", "OK"]
    text = files.changed(text, "path_0", status="131")
    write(tmp_path, "c.conf", files.changed(text, "path_1", status="0"))
    stage.ask("reload")
    assert stage.statuses(NAME) == ["MANUAL_DOWN", "OK"]
    write(tmp_path, "c.conf", files.changed(files.CONNECTION, "path_0", status="0"))
    stage.ask("reload")
    assert stage.statuses(NAME) == ["OK", "OK"]


# ---- restart, delete, save (guide 4.4, 4.5, 4.6) --------------------------------------------------------------------


def test_restart_starts_the_connection_anew_and_keeps_what_was_taken_down_by_hand(
    host_a: Callable[..., Stage],
) -> None:
    """The sockets are new, the states are the same."""
    stage = host_a()
    old = stage.root.runs.connections()[0]
    stage.ask("path down 10.1.1.2 10.1.1.3")
    assert stage.ask("restart").text == f"restarted: {NAME}"
    assert old not in stage.root.runs.connections() and not old.running
    assert stage.statuses(NAME) == ["MANUAL_DOWN", "OK"]
    assert stage.ask("restart c.conf").text == f"restarted: {NAME}"
    assert stage.ask("restart o.conf").text.startswith("1: Restart unsuccessful. Config file not found")


def test_a_restart_that_is_refused_leaves_the_connection_running(host_a: Callable[..., Stage]) -> None:
    """It runs with the usable path; the other is tried again."""
    stage = host_a()
    stage.system.fail("bind", *[errno.EADDRINUSE] * 2)
    said = stage.ask("restart").text
    assert said.startswith("1: Restart unsuccessful.") and "runs on" in said and "in use" in said
    assert stage.statuses(NAME) == ["ADDRESS_DOWN", "OK"]
    stage.reactor.pass_time(RETRY_REFUSED + 1, step=0.1)
    assert "ADDRESS_DOWN" not in stage.statuses(NAME)
    assert len(stage.data_sockets) == 2


def test_a_restart_of_all_goes_on_after_one_that_is_refused(host_a: Callable[..., Stage]) -> None:
    """The answer names the refused connection."""
    stage = host_a(c=files.CONNECTION, o=files.changed(OTHER, "connection", local_port="4754"))
    old = stage.root.runs.connections()
    stage.system.fail("bind", errno.EADDRINUSE)
    said = stage.ask("restart").text
    assert NAME in said and "other runs on" not in said
    assert not set(old) & set(stage.root.runs.connections()) and len(stage.root.runs.connections()) == 2


def test_a_second_delete_keeps_the_file_of_the_first(host_a: Callable[..., Stage], tmp_path: Path) -> None:
    """No file that was put aside is ever replaced."""
    stage = host_a()
    directory = tmp_path / "connections"
    stage.ask("delete c.conf")
    for number in (1, 2):
        write(tmp_path, "c.conf", files.changed(files.CONNECTION, "path_0", weight_out=str(number)))
        stage.ask("reload c.conf")
        assert stage.ask("delete c.conf").text == f"deleted: {NAME}; the file is now c.conf.disabled.{number}"
    assert (directory / "c.conf.disabled").read_text() == files.CONNECTION
    assert len(list(directory.iterdir())) == 3


def test_delete_stops_the_connection_and_renames_its_file(host_a: Callable[..., Stage], tmp_path: Path) -> None:
    """It is not loaded again: not by reload, not by a new start."""
    stage = host_a()
    assert stage.ask("delete c.conf").text == f"deleted: {NAME}; the file is now c.conf.disabled"
    assert stage.root.runs.connections() == [] and stage.data_sockets == []
    assert [each.name for each in (tmp_path / "connections").iterdir()] == ["c.conf.disabled"]
    assert stage.ask("reload").text.splitlines()[0] == "0 unchanged"
    assert stage.ask("delete c.conf").text == "1: Delete unsuccessful. Config file not found: c.conf"


def test_save_writes_the_states_and_keeps_everything_else(host_a: Callable[..., Stage], tmp_path: Path) -> None:
    """Comments, order, the key: only the line that has changed differs, and reload sees no change."""
    text = files.CONNECTION.replace("[path_0]", "; the fast one\n[path_0]")
    stage = host_a(c=text)
    assert stage.ask("save").text == "nothing has changed since the files were written"
    stage.ask("path down 10.1.1.2 10.1.1.3")
    assert stage.ask("save c.conf").text == "saved: c.conf"
    saved = (tmp_path / "connections" / "c.conf").read_text()
    different = [(old, new) for old, new in zip(text.split("\n"), saved.split("\n"), strict=True) if old != new]
    assert [(old.split(), new.split()) for old, new in different] == [(["status", "=", "0"], ["status", "=", "131"])]
    assert stage.ask("reload").text == "1 unchanged"


def test_save_into_a_file_that_somebody_has_broken_meanwhile_does_not_touch_it(
    host_a: Callable[..., Stage], tmp_path: Path
) -> None:
    """A bad file is not overwritten: its owner mends it first."""
    stage = host_a()
    write(tmp_path, "c.conf", "[connection\n")
    stage.ask("path down 10.1.1.2 10.1.1.3")
    assert stage.ask("save").text.startswith("1: Save unsuccessful.")
    assert (tmp_path / "connections" / "c.conf").read_text() == "[connection\n"


# ---- address, interface, path ---------------------------------------------------------------------------------------


def test_address_and_interface_change_the_machine_and_its_paths_at_once(host_a: Callable[..., Stage]) -> None:
    """Guide 4.1 and 4.2; nobody waits for the kernel's event."""
    stage = host_a()
    assert stage.ask("addr add 10.1.1.7/24 dev eth1").text == "10.1.1.7/24 added to eth1"
    assert stage.ask("addr add 10.1.1.7/24 dev eth1").text == "10.1.1.7/24 was already on eth1"
    assert stage.ask("addr del 10.1.1.2/24 dev eth1").text == "10.1.1.2/24 deleted from eth1"
    assert stage.statuses(NAME) == ["ADDRESS_DOWN", "OK"]
    assert stage.ask("int eth2 down").text == f"eth2 is down; path_1 of {NAME} is interface down"
    assert stage.ask("int eth2 up").text == f"eth2 is up; path_1 of {NAME} is down"
    assert stage.ask("int lo up").text == "lo is up; no path uses it"
    assert "eth9" in stage.ask("int eth9 up").text


def test_a_path_that_does_not_exist_is_answered_with_those_that_do(host_a: Callable[..., Stage]) -> None:
    """The answer saves the operator a look."""
    said = host_a().ask("path down 10.1.1.2 10.1.1.9").text
    assert said.startswith("1: Path unsuccessful. there is no path from 10.1.1.2 to 10.1.1.9; ")
    assert said.endswith("there are: 10.1.1.2 10.1.1.3, 10.2.2.2 10.2.2.3")


def test_a_path_command_that_concerns_several_connections_switches_all_at_once(host_a: Callable[..., Stage]) -> None:
    """All paths are switched before any peer's answer is waited for."""
    stage = host_a(c=files.CONNECTION, o=OTHER)
    asked = stage.ask("path down 10.1.1.2 10.1.1.3")
    assert asked.reply is None, "the peer is still being told"
    assert [stage.statuses(name) for name in (NAME, "other")] == [["MANUAL_DOWN", "OK"]] * 2


# ---- create (guide 4.7) ---------------------------------------------------------------------------------------------


def write_create(directory: Path, accept_remote: str = "1", key: str | None = None) -> None:
    """The two files that the guide prints."""
    client = files.changed(files.CREATE_CLIENT, "connection", **({"auth_key": key} if key else {}))
    write_pair(directory, client)
    interface = directory / "b" / "interface.conf"
    interface.write_text(files.changed(interface.read_text(), "general", accept_remote=accept_remote))
    (directory / "b" / "connections" / "c.conf").unlink()
    (directory / "b" / "connections" / "conf.template").write_text(files.CREATE_TEMPLATE)


@pytest.mark.parametrize(("loss", "duplication"), [(0.0, 0.0), (0.3, 0.3)])
def test_create_makes_both_sides_saves_them_and_survives_a_restart(
    run: Run, tmp_path: Path, loss: float, duplication: float
) -> None:
    """The guide's example, end to end: from nothing at the peer to paths that are up, also over a bad network."""
    write_create(tmp_path)
    pair = Pair(run, tmp_path)
    assert names(pair.b) == []
    pair.cables.loss, pair.cables.duplication = loss, duplication
    asked = pair.a.ask("create c.conf")
    assert asked.progress == [f"asking 10.1.1.3 to create {NAME}"]
    pair.cables.pass_time(6.0)
    pair.cables.loss = pair.cables.duplication = 0.0
    assert asked.text == f"{NAME} is created at 10.1.1.3; mpt save on both sides keeps it"
    pair.cables.pass_time(4.0)
    assert pair.statuses() == [["up", "up"]] * 2
    ours, theirs = configured(pair.a), pair.b.root.runs.connections()[0].config
    assert (ours.remote_port, theirs.remote_port) == (theirs.local_port, ours.local_port) == (65060, 65060)
    assert [(each.weight_in, each.weight_out) for each in theirs.paths] == [(100, 70), (80, 50)]
    assert theirs.file == tmp_path / "b" / "connections" / "peer_10_0_0_2.conf"
    assert pair.a.ask("save").text == "saved: c.conf"
    assert pair.b.ask("save").text == "saved: peer_10_0_0_2.conf"
    assert [stage.ask("reload").text for stage in pair] == ["1 unchanged"] * 2
    for stage in pair:
        stage.ask("restart")
    pair.cables.pass_time(4.0)
    assert pair.statuses() == [["up", "up"]] * 2
    for name, config in (("a", ours), ("b", theirs)):
        (again,) = load_directory(tmp_path / name).config.connections
        assert [path.remote_ipaddr for path in again.paths] == [path.remote_ipaddr for path in config.paths]
        assert again.auth_key == config.auth_key


def test_a_create_that_fails_leaves_nothing(run: Run, tmp_path: Path) -> None:
    """No connection, no route, no socket: the file was not loaded before, and is not now."""
    write_create(tmp_path)
    pair = Pair(run, tmp_path)
    pair.a.ask("delete c.conf")
    (tmp_path / "a" / "connections" / "c.conf.disabled").rename(tmp_path / "a" / "connections" / "c.conf")
    before = list(pair.a.netlink.routes)
    pair.cables.loss = 1.0
    asked = pair.a.ask("create c.conf")
    assert names(pair.a) == [NAME], "it runs while the peer is asked"
    pair.cables.pass_time(8.0)
    assert asked.text.startswith("1: Connection creation failed (code: 1;")
    assert names(pair.a) == [] and pair.a.data_sockets == [] and pair.a.netlink.routes == before
    pair.cables.loss = 0.0
    asked = pair.a.ask("create c.conf")
    pair.cables.pass_time(4.0)
    assert asked.text.startswith(f"{NAME} is created") and names(pair.a) == [NAME]
    assert pair.a.ask("reload").text == "1 unchanged"


def test_a_path_that_is_down_by_hand_stays_down_when_the_peer_has_created_its_side(run: Run, tmp_path: Path) -> None:
    """The path stays down although the connection starts anew."""
    write_create(tmp_path)
    pair = Pair(run, tmp_path)
    assert "path_1" in pair.a.ask("path down 10.2.2.2 10.2.2.3").text
    pair.a.ask("create c.conf")
    pair.cables.pass_time(4.0)
    assert pair.a.statuses(NAME)[1] == "MANUAL_DOWN"


@pytest.mark.parametrize(
    ("accept_remote", "key", "code"), [("0", None, 7), ("1", KEY, 3)], ids=["not accepted", "wrong key"]
)
def test_create_that_the_peer_refuses_changes_nothing_there(
    run: Run, tmp_path: Path, accept_remote: str, key: str | None, code: int
) -> None:
    """accept_remote = 0, or another auth_key than that of the template."""
    write_create(tmp_path, accept_remote, key)
    pair = Pair(run, tmp_path)
    asked = pair.a.ask("create c.conf")
    pair.cables.pass_time(8.0)
    assert asked.text.startswith(f"1: Connection creation failed (code: {code};")
    assert names(pair.b) == [] and names(pair.a) == [NAME]
    assert sum(pair.b.root.peer_control.counters.values()) > 0


def test_create_that_nobody_answers_ends_after_the_attempts(run: Run, tmp_path: Path) -> None:
    """A create may be tried again, but not while it is under way."""
    write_create(tmp_path)
    pair = Pair(run, tmp_path)
    pair.cables.loss = 1.0
    asked = pair.a.ask("create c.conf")
    assert "still being asked" in pair.a.ask("create c.conf").text
    pair.cables.pass_time(3.2)
    assert asked.text.startswith("1: Connection creation failed (code: 1;")
    pair.cables.loss = 0.0
    asked = pair.a.ask("create c.conf")
    pair.cables.exchange()
    assert asked.text.startswith(f"{NAME} is created")


def test_create_of_what_exists_already_says_so(run: Run, tmp_path: Path) -> None:
    """The answer has the C program's words and code."""
    write_create(tmp_path)
    pair = Pair(run, tmp_path)
    pair.a.ask("create c.conf")
    pair.cables.exchange()
    pair.cables.pass_time(11.0)
    again = pair.a.ask("create c.conf")
    pair.cables.pass_time(1.0)
    assert again.text.startswith("1: ERROR: Connection already exists (error code:5)")


def test_a_connection_that_is_deleted_while_it_is_being_created_does_not_come_back(run: Run, tmp_path: Path) -> None:
    """The answer says what to do about the other side."""
    write_create(tmp_path)
    pair = Pair(run, tmp_path)
    asked = pair.a.ask("create c.conf")
    pair.a.ask("delete c.conf")
    pair.cables.exchange()
    assert names(pair.a) == []
    assert asked.text.startswith("1: Create unsuccessful.") and "deleted or started anew" in asked.text


def test_create_without_a_template_at_the_peer_is_refused(run: Run, tmp_path: Path) -> None:
    """A missing template refuses a create even with accept_remote = 1."""
    write_create(tmp_path)
    (tmp_path / "b" / "connections" / "conf.template").unlink()
    pair = Pair(run, tmp_path)
    asked = pair.a.ask("create c.conf")
    pair.cables.pass_time(8.0)
    assert asked.text.startswith("1: Connection creation failed")
    assert names(pair.b) == []


def test_a_broken_template_creates_nothing_and_does_not_stop_the_daemon(run: Run, tmp_path: Path) -> None:
    """The log has the error of the template."""
    write_create(tmp_path)
    (tmp_path / "b" / "connections" / "conf.template").write_text(mirrored(files.CREATE_TEMPLATE).replace("65060", "x"))
    pair = Pair(run, tmp_path)
    asked = pair.a.ask("create c.conf")
    pair.cables.pass_time(8.0)
    assert asked.text.startswith("1: Connection creation failed")
    assert names(pair.b) == []


def test_create_needs_a_path_that_leads_anywhere(run: Run, tmp_path: Path) -> None:
    """A create is refused while both interfaces are down."""
    write_create(tmp_path)
    pair = Pair(run, tmp_path)
    for name in ("eth1", "eth2"):
        pair.a.netlink.set_link(name, False)
    pair.cables.pass_time(0.1)
    assert "no path of" in pair.a.ask("create c.conf").text


def test_create_of_a_file_that_is_not_there(host_a: Callable[..., Stage]) -> None:
    """The answer is one line."""
    assert host_a().ask("create x.conf").text.startswith("1: Create unsuccessful. Config file not found: x.conf")


def test_what_a_peer_has_created_can_be_deleted_unsaved_and_created_again(run: Run, tmp_path: Path) -> None:
    """The same request creates it again at once: the first answer is not repeated."""
    write_create(tmp_path)
    pair = Pair(run, tmp_path)
    for _ in range(2):
        asked = pair.a.ask("create c.conf")
        pair.cables.exchange()
        assert asked.text.startswith(f"{NAME} is created")
        (created,) = names(pair.b)
        assert pair.b.ask("delete peer_10_0_0_2.conf").text == f"deleted: {created}; it was in no file"
        assert names(pair.b) == []
