"""Every key has an effect: with another value of it a whole daemon on fakes does something else.

A facet is what can be seen of a daemon from outside. `EFFECTS` names for each key the facet that changes with it. Each
facet is looked at twice with the same files, and must be the same then: what differs comes from the key.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import pytest
from twisted.names import dns

from mpt.accel.choice import configured_datapath
from mpt.cli.settings import find_settings
from mpt.config import schema
from mpt.config.directory import load_directory
from mpt.control import auth
from mpt.errors import ConfigError
from mpt.host.udp import UDP_GRO
from mpt.local.protocol import encode_text_request
from tests.config.files import CLASS, CONNECTION, INTERFACE, OTHER, OTHER_PEER_KEY, PEER_KEY, changed, write
from tests.daemon.logged import logged
from tests.daemon.pair import KEY, Pair
from tests.daemon.stage import KEEPALIVE_IN, REPLY, Run, Stage
from tests.daemon.test_operations import write_create

KINDS = {
    "general": "general",
    "tun_0": "tun_n",
    "connection": "connection",
    "path_1": "path_n",
    "net_1": "net_n",
    "class voice": "class",
}
PLANE = {"MPT_DATA_PLANE": "python"}


@dataclass
class Trial:
    """Two files in a directory of their own, and the daemon that runs from them once it is asked for."""

    run: Run
    directory: Path
    interface: str
    connection: str

    def __post_init__(self) -> None:
        self.directory.mkdir()
        write(self.directory, self.interface, {"c.conf": self.connection})

    def stage(self) -> Stage:
        config = load_directory(self.directory).config
        return self.run(config=config, plane=configured_datapath(config.general, PLANE))


Facet = Callable[[Trial], Any]


def stage_facet(look: Callable[[Stage], Any]) -> Facet:
    return lambda trial: look(trial.stage())


# ---- what can be seen of a daemon -----------------------------------------------------------------------------------


def tunnel(stage: Stage) -> Any:
    """Its interface, as the kernel has it."""
    interfaces = stage.netlink.snapshot()
    return [(interfaces[name].mtu, interfaces[name].addresses, name) for name in stage.system.tuns]


def packets(stage: Stage) -> Any:
    """Return interface, address and sent datagrams of each data socket, after packets of several flows."""
    stage.clear()
    for number in range(4):
        stage.tun.inject(_packet("10.0.0.2", "10.0.0.3", 17, 5000 + number, 6000))
    for protocol, source, destination in ((6, 5000, 80), (6, 81, 6000), (17, 5000, 53), (17, 54, 6000)):
        for _ in range(3):
            stage.tun.inject(_packet("10.0.0.2", "10.0.0.3", protocol, source, destination))
    stage.tun.inject(_packet("12.1.1.5", "22.1.1.5", 17, 5000, 6000))
    stage.tun.inject(_packet("192.168.1.5", "22.1.1.5", 17, 5000, 6000))
    stage.reactor.read_all()
    return [(each.interface, each.bound, each.take_sent()) for each in stage.data_sockets]


def _packet(source: str, destination: str, protocol: int, source_port: int, destination_port: int) -> bytes:
    """Return an IPv4 packet with DSCP EF that knows ECN."""
    header = b"\x45\xb9\x00\x28" + bytes(4) + bytes([64, protocol]) + bytes(2)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    return header + addresses + source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big") + bytes(16)


def deliveries(stage: Stage) -> Any:
    """Return the packets that reach the tunnel interface, and their times, after a gap in the numbers."""
    seen = []
    for number in (0, 2):
        stage.receive(1, bytes.fromhex("10000800") + number.to_bytes(4, "big") + REPLY)
    for _ in range(40):
        seen.append(len(stage.tun.delivered()))
        stage.reactor.pass_time(0.01)
    return seen


def keepalives(stage: Stage) -> Any:
    """Return the datagrams that leave within six seconds of silence."""
    stage.clear()
    stage.reactor.pass_time(6.0, step=0.05)
    return [(each.interface, each.bound, each.take_sent()) for each in stage.data_sockets]


def silence(stage: Stage) -> Any:
    """Return how long the paths stay up when nothing is heard."""
    seen = []
    for _ in range(30):
        seen.append(stage.statuses(_name(stage)))
        stage.reactor.pass_time(0.5, step=0.05)
    return seen


def loss(stage: Stage) -> Any:
    """Return the status of a path that loses every fourth keepalive of the peer."""
    seen = set()
    for number in range(400):
        for path in (1, 2):
            if path == 1 or number % 4:
                stage.receive(path, KEEPALIVE_IN)
        stage.reactor.pass_time(0.1, step=0.05)
        seen.add(tuple(stage.statuses(_name(stage))))
    return seen


def probes(stage: Stage) -> Any:
    """Return the sizes of the messages that leave within a second after the peer was heard."""
    stage.receive(1, KEEPALIVE_IN)
    stage.clear()
    stage.reactor.pass_time(1.0, step=0.05)
    return {len(datagram) for each in stage.data_sockets for datagram, _, _ in each.take_sent()}


def report(stage: Stage) -> Any:
    """Return receiver, form and possible signers of the report that a path is taken down."""
    stage.clear()
    stage.ask("path down 10.1.1.2 10.1.1.3")
    stage.reactor.pass_time(0.1)
    return [
        (to[1], len(datagram), datagram[:4], [key for key in (KEY, auth.DEFAULT_KEY) if auth.verify(datagram, key)])
        for datagram, to, _ in stage.command_socket.take_sent()
    ]


def create(stage: Stage) -> Any:
    """Return the ancillary data of a create, which is its way."""
    stage.clear()
    stage.ask("create c.conf")
    return [ancillary for _, _, ancillary in stage.command_socket.take_sent()]


def description(stage: Stage) -> Any:
    """Return the text of a create."""
    (connection,) = stage.root.runs.connections()
    return connection.text_for_peer(60456)


def questions(stage: Stage) -> Any:
    """Return the resolver and the name that the daemon asks for its public address."""
    stage.reactor.pass_time(1.0, step=0.1)
    asked = []
    for each in stage.data_sockets:
        for datagram, to in each.sent if each.bound[1] != 23456 else ():
            query = dns.Message()
            query.fromStr(datagram)
            asked.append((to, str(query.queries[0].name)))
    return asked


def unconnected(stage: Stage) -> Any:
    """Return the answer to a client of root whose socket is not connected."""
    stage.uids[40001] = 0
    stage.unconnected.add(40001)
    request = encode_text_request(("path", "down", "10.1.1.2", "10.1.1.3"))
    stage.command_socket.deliver(request, ("::ffff:127.0.0.1", 40001, 0, 0))
    stage.reactor.read_all()
    stage.reactor.pass_time(1.0)
    return stage.statuses(_name(stage))


def log(trial: Trial) -> Any:
    """Return the lines of the log on ECN fields that no honest path makes."""
    with logged() as said:
        stage = trial.stage()
        stage.reactor.pass_time(1.0)
        mark = (socket.IPPROTO_IP, socket.IP_TOS, b"\x02")  # ECT(0) outside, while the packet inside knows no ECN
        stage.socket("eth1").deliver(bytes.fromhex("00000800") + REPLY, ("10.1.1.3", 23456), [mark])
        stage.reactor.read_all()
        stage.reactor.pass_time(120.0, step=1.0)
    return [text for text in map(str, said) if "ECN" in text]


def creation(trial: Trial) -> Any:
    """Return the answer to a peer that wants to create a connection here."""
    accept = load_directory(trial.directory).config.general.accept_remote
    directory = trial.directory / "pair"
    directory.mkdir()
    write_create(directory, accept_remote=str(int(accept)))
    pair = Pair(trial.run, directory)
    asked = pair.a.ask("create c.conf")
    pair.cables.pass_time(5.0)
    return asked.text


def waiting(trial: Trial) -> Any:
    """Return how long the client waits."""
    return find_settings(None, None, None, {"MPT_CONFIG_DIR": str(trial.directory)}, trial.directory)


def data_path(trial: Trial) -> Any:
    """Return name, reason and TUN flags of the chosen data path."""
    plane = configured_datapath(load_directory(trial.directory).config.general, {})
    return plane.name, plane.why, plane.tun_flags


def accepted(trial: Trial) -> Any:
    """Return whether the files agree with each other."""
    try:
        return len(load_directory(trial.directory).config.tunnels)
    except ConfigError as error:
        return str(error).partition(": ")[2]


def row(stage: Stage) -> Any:
    """Return what the data path is told about the order and the lengths of a connection's packets."""
    (connection,) = stage.root.runs.connections()
    found = connection.row(1400)
    return found.framing, found.mss_clamp


def loaded(trial: Trial) -> Any:
    """Return what the daemon is told about its sealed connection, whose parts have tests of their own."""
    config = load_directory(trial.directory).config
    general = config.general
    return (
        config.key_log_path,
        general.log_format,
        general.status_listen,
        general.log_level,
        [replace(each, file=None) for each in config.connections],
    )


def _name(stage: Stage) -> str:
    return stage.root.runs.connections()[0].config.name


# ---- which of it changes with a key ---------------------------------------------------------------------------------


class Effect(NamedTuple):
    """The facet that `value` changes, with the keys `given` in both; `too` changes with it, so that the files agree."""

    facet: Facet
    value: str
    given: Mapping[str, Mapping[str, str | None]] = MappingProxyType({})
    too: Mapping[str, str | None] = MappingProxyType({})


sockets = stage_facet(lambda stage: [(each.interface, each.bound) for each in stage.data_sockets])
routes = stage_facet(lambda stage: list(stage.netlink.routes))
statuses = stage_facet(lambda stage: stage.statuses(_name(stage)))
names = stage_facet(lambda stage: [each.name for each in stage.root.operations.status().connections])
joined = stage_facet(lambda stage: [each.options.get((socket.IPPROTO_UDP, UDP_GRO)) for each in stage.data_sockets])
NUMBERED = {"connection": {"reorder_window": "100"}}
ALIVE = {"path_1": {"keepalive_time": "1", "dead_time": "3"}}
SIGNED = {"connection": {"auth_type": "2", "auth_key": KEY}}
BY_DEFAULT_KEY = {"connection": {"auth_type": "2", "auth_key": auth.DEFAULT_KEY}}
NATTED = {"path_1": {"private_ipaddr": "0.0.0.0"}}
OPEN: dict[str, str | None] = {"public_ipaddr": "0.0.0.0", "private_ipaddr": "0.0.0.0"}
ASKING: dict[str, dict[str, str | None]] = {"general": {"public_address_resolver": "192.0.2.53"}, "path_1": OPEN}
LOSSY = {"path_0": {"keepalive_time": "0.1", "dead_time": "2"}, "path_1": {"keepalive_time": "0.1", "dead_time": "2"}}
SIXTH: dict[str, str | None] = {"ip_ver": "6", "ip_local": "fec0::2", "ip_remote": "fec0::3"}
OUTSIDE: dict[str, str | None] = {"public_ipaddr": "fd02::2", "gw_ipaddr": "fd02::2", "remote_ipaddr": "fd02::3"}
NATIVE = {"general": {"data_plane": "native"}}
SEALED = {"connection": {"peer_key": PEER_KEY}}
CYCLE = {"connection": {"peer_key": PEER_KEY, "scheduler": "cycle"}}
ADAPTIVE = {"connection": {"peer_key": PEER_KEY, "scheduler": "adaptive"}}
IN_ORDER = {"connection": {"peer_key": PEER_KEY, "reorder_window": "100"}}

EFFECTS: dict[tuple[str, str], Effect] = {
    ("general", "tunnel_num"): Effect(accepted, "2"),
    ("general", "accept_remote"): Effect(creation, "0"),
    ("general", "cmdport_local"): Effect(stage_facet(lambda stage: stage.command_socket.bound), "60457"),
    ("general", "cmd_timeout"): Effect(waiting, "3"),
    ("general", "udp_commands"): Effect(stage_facet(unconnected), "unconnected"),
    ("general", "public_address_resolver"): Effect(stage_facet(questions), "192.0.2.54", ASKING),
    ("general", "public_address_name"): Effect(stage_facet(questions), "ip.example", ASKING),
    ("general", "control_socket"): Effect(stage_facet(lambda stage: list(stage.reactor.unix_ports)), "/nowhere/b.sock"),
    ("general", "data_plane"): Effect(data_path, "python"),
    ("general", "gso"): Effect(joined, "off"),
    ("general", "tun_offload"): Effect(data_path, "off", NATIVE),
    ("general", "log_ecn"): Effect(log, "0"),
    ("general", "allow_default_key"): Effect(stage_facet(report), "1", BY_DEFAULT_KEY),
    ("general", "private_key_file"): Effect(accepted, "missing.key", SEALED),
    ("general", "status_listen"): Effect(loaded, "127.0.0.1:9400", SEALED),
    ("general", "log_format"): Effect(loaded, "json", SEALED),
    ("general", "log_level"): Effect(loaded, "debug", SEALED),
    ("general", "key_log"): Effect(loaded, "keys.log", SEALED),
    ("tun_0", "name"): Effect(stage_facet(tunnel), "mpt0"),
    ("tun_0", "mtu"): Effect(stage_facet(tunnel), "1400"),
    ("tun_0", "ipv4_addr"): Effect(stage_facet(tunnel), "10.0.0.2/25"),
    ("tun_0", "ipv6_addr"): Effect(stage_facet(tunnel), "fec0::2/60"),
    ("tun_0", "queue_length"): Effect(stage_facet(lambda stage: stage.netlink.queue_lengths), "900"),
    ("connection", "name"): Effect(names, "other"),
    ("connection", "peer_key"): Effect(loaded, OTHER_PEER_KEY, SEALED),
    ("connection", "require_pq"): Effect(loaded, "1", SEALED),
    ("connection", "ciphers"): Effect(loaded, "aes-256-gcm", SEALED),
    ("connection", "order"): Effect(stage_facet(row), "connection", IN_ORDER),
    ("connection", "mss_clamp"): Effect(stage_facet(row), "off", SEALED),
    ("connection", "scheduler"): Effect(loaded, "adaptive", CYCLE),
    ("connection", "delay_budget"): Effect(loaded, "50", ADAPTIVE),
    ("connection", "permission"): Effect(stage_facet(report), "2"),
    ("connection", "ip_ver"): Effect(stage_facet(keepalives), "6", too=SIXTH),
    ("connection", "ip_local"): Effect(stage_facet(keepalives), "fec0::2", too=SIXTH),
    ("connection", "local_port"): Effect(sockets, "4754"),
    ("connection", "ip_remote"): Effect(routes, "10.0.0.4"),
    ("connection", "remote_port"): Effect(stage_facet(keepalives), "4755"),
    ("connection", "remote_cmd_port"): Effect(stage_facet(report), "60457"),
    ("connection", "path_count"): Effect(accepted, "1"),
    ("connection", "network_count"): Effect(accepted, "1"),
    ("connection", "status"): Effect(statuses, "255"),
    ("connection", "reorder_window"): Effect(stage_facet(packets), "100"),
    ("connection", "max_buffdelay_msec"): Effect(stage_facet(deliveries), "100", NUMBERED),
    ("connection", "max_loss"): Effect(stage_facet(loss), "10", LOSSY),
    ("connection", "size_probe"): Effect(stage_facet(probes), "1", {"path_0": {"keepalive_time": "0.2"}}),
    ("connection", "dscp"): Effect(stage_facet(packets), "copy"),
    ("connection", "ecn"): Effect(stage_facet(packets), "normal"),
    ("connection", "auth_type"): Effect(stage_facet(report), "1"),
    ("connection", "auth_key"): Effect(stage_facet(report), "0" * 64, SIGNED),
    ("path_1", "interface_name"): Effect(sockets, "wlan0"),
    ("path_1", "ip_ver"): Effect(sockets, "6", too=OUTSIDE),
    ("path_1", "private_ipaddr"): Effect(sockets, "192.168.1.2"),
    ("path_1", "public_ipaddr"): Effect(
        stage_facet(description), "203.0.113.2", {"path_1": {"private_ipaddr": "0.0.0.0"}}
    ),
    ("path_1", "gateway_ipaddr"): Effect(routes, "10.2.2.1", too={"gw_ipaddr": None}),
    ("path_1", "remote_ipaddr"): Effect(routes, "10.2.2.4"),
    ("path_1", "keepalive_time"): Effect(stage_facet(keepalives), "0.5", ALIVE),
    ("path_1", "dead_time"): Effect(stage_facet(silence), "6", ALIVE),
    ("path_1", "weight_in"): Effect(stage_facet(description), "7"),
    ("path_1", "weight_out"): Effect(stage_facet(packets), "8"),
    ("path_1", "status"): Effect(statuses, "131"),
    ("path_1", "cmd_default"): Effect(stage_facet(create), "1", {"path_0": {"cmd_default": None}}),
    ("path_1", "bind_to_device"): Effect(sockets, "0"),
    ("path_1", "cost"): Effect(loaded, "backup", ADAPTIVE),
    ("path_1", "quota"): Effect(loaded, "20 GB/month", ADAPTIVE),
    ("path_1", "tcp_dst"): Effect(stage_facet(packets), "80"),
    ("path_1", "tcp_src"): Effect(stage_facet(packets), "81"),
    ("path_1", "udp_dst"): Effect(stage_facet(packets), "53"),
    ("path_1", "udp_src"): Effect(stage_facet(packets), "54"),
    ("net_1", "ip_ver"): Effect(routes, "6", too={"src_addr": "fd00:1::/64", "dst_addr": "fd00:2::/64"}),
    ("net_1", "src_addr"): Effect(stage_facet(packets), "192.168.1.0/24"),
    ("net_1", "dst_addr"): Effect(routes, "192.168.2.0/24"),
    **{
        ("class voice", key): Effect(loaded, OTHER["class voice", key], ADAPTIVE)
        for key in ("class", "dscp", "protocol", "ports", "copies")
    },
}
WITHOUT_EFFECT = {("connection", "local_cmd_port")}  # as its documentation says


def test_every_key_is_named() -> None:
    """A new key needs its effect in `EFFECTS`; the one that is read and ignored says so."""
    every = {(section, key.name): key for section, kind in KINDS.items() for key in schema.SECTIONS[kind]}
    assert every.keys() - EFFECTS.keys() == WITHOUT_EFFECT
    assert all("ignored" in every[place].doc for place in WITHOUT_EFFECT)


@pytest.mark.parametrize(("section", "key"), EFFECTS)
def test_a_key_has_its_effect(
    section: str, key: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The facet is the same with the same files, and another with another value of the key."""
    native = ModuleType("mpt.accel.native")
    monkeypatch.setattr(native, "can_seal", lambda: True, raising=False)
    monkeypatch.setattr(native, "NativeDataPath", object, raising=False)
    monkeypatch.setattr(native, "TURN", 0.0, raising=False)
    monkeypatch.setattr(native, "allow_gcm", lambda allowed: None, raising=False)
    monkeypatch.setattr(native, "sealing_libraries", lambda gcm: "", raising=False)
    monkeypatch.setitem(sys.modules, "mpt.accel.native", native)  # the choice alone, also where there is no compiler
    monkeypatch.delenv("MPT_DATA_PLANE", raising=False)
    effect = EFFECTS[section, key]
    given = {"general": {"control_socket": "/nowhere/a.sock"}, "connection": {"permission": "3"}}
    plain = _texts(given, effect.given)
    other = _texts(given, effect.given, {section: {**effect.too, key: effect.value}})
    seen = [
        effect.facet(Trial(run, tmp_path / str(number), *texts)) for number, texts in enumerate((plain, plain, other))
    ]
    assert seen[0] == seen[1] != seen[2]


def _texts(*changes: Mapping[str, Mapping[str, str | None]]) -> tuple[str, str]:
    """Return the guide's files with these changes, section by section."""
    interface, connection = INTERFACE, CONNECTION + CLASS
    for sections in changes:
        for section, values in sections.items():
            if section in ("general", "tun_0"):
                interface = changed(interface, section, **values)
            else:
                connection = changed(connection, section, **values)
    return interface, connection


# ---- reload ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [key.name for key in schema.GENERAL if key.reload])
def test_a_reload_takes_every_other_key_of_general(key: str, run: Run, tmp_path: Path) -> None:
    """The new value holds from then on, and the connections run on."""
    interface = changed(INTERFACE, "general", control_socket="/nowhere/a.sock")
    trial = Trial(run, tmp_path / "conf", interface, CONNECTION)
    stage = trial.stage()
    before = stage.root.runs.config
    write(trial.directory, changed(interface, "general", **{key: OTHER["general", key]}), {"c.conf": CONNECTION})
    assert stage.ask("reload").text == "1 unchanged"
    assert stage.root.runs.settings.general == load_directory(trial.directory).config.general != before.general
