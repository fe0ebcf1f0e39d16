"""Configuration to text: a connection for the peer (a create) and for its file (`mpt save`, guide 4.6), and
interface.conf.

The text for the peer is the C program's to the octet: the same keys in the same order, and no key material. A file that
exists keeps its comments, its order and unknown keys: a line changes only if its value differs from the running one. A
missing key is added only if its default differs from the running value. Sections of paths and networks that are gone
become comments.

A file gets the operator's decisions about paths, not their states: a path that failed is not saved as down.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path
from typing import Any, Final, NamedTuple

from mpt.config.classes import class_values
from mpt.config.clients import client_name, client_section
from mpt.config.connection import build_connection
from mpt.config.disk import write_file
from mpt.config.parser import ConfigurationErrors, IniFile, Section, read_file
from mpt.config.schema import SECTIONS, Key, settings_of
from mpt.errors import ConfigError
from mpt.model import (
    AUTO_MTU,
    KEEPALIVES_MISSED,
    ConnectionConfig,
    GeneralConfig,
    InterfaceAddress,
    PathConfig,
    Status,
    TunnelConfig,
)
from mpt.values import PRIVATE

FIRST_LINE: Final = ";;;;;;;#################### Multipath Connection Information: ###############"
PATHS_LINE: Final = "########################## PATHS ############################"
NETWORKS_LINE: Final = "####################### NETWORKS #####################################"
COMPACT_FIRST_LINE: Final = ";;;;;;;"  # the C server skips 4 octets; the rest must still be a comment

_LINE_END = re.compile(r"(\r\n|\n|\r)")
_HEADER = re.compile(r"\s*\[([^\]\[]*)\]")


class Setting(NamedTuple):
    """A key and the text of its value, on a plain or a sealed connection; "" stands for a key that is left out.

    `derived`: the value follows from other keys.
    """

    key: Key
    text: str
    sealed: bool = False
    derived: bool = False

    @property
    def value(self) -> Any:
        """Return the typed value that a file with this setting has."""
        return self.key.reader(self.sealed)(self.text) if self.text else self.key.default_value(self.sealed)

    @property
    def follows(self) -> bool:
        """Return whether the value is the same without the key."""
        default = self.key.default_value(self.sealed)
        return self.derived or (not self.key.is_needed(self.sealed) and _same(self.value, default))


Block = tuple[str, list[Setting]]  # the name of a section and its keys


def connection_text(
    connection: ConnectionConfig, statuses: Sequence[Status], local_cmd_port: int, limit: int | None = None
) -> str:
    """Return `connection` as a create carries it, the paths in the states `statuses`; `local_cmd_port` is this host's.

    A text longer than `limit` octets loses blanks and headings, so that more paths fit. Public addresses must be known
    by now: the peer cannot use 0.0.0.0.
    """
    head, paths, networks, _classes = _blocks(connection, statuses, local_cmd_port, for_peer=True)
    lines = [FIRST_LINE, *_block_lines(head), "", PATHS_LINE]
    lines += [line for block in paths for line in _block_lines(block)] + [NETWORKS_LINE]
    lines += [line for block in networks for line in _block_lines(block)]
    text = "\n".join(lines) + "\n"
    if limit is None or len(text.encode()) <= limit:
        return text
    lines = [COMPACT_FIRST_LINE]
    for name, settings in [head, *paths, *networks]:
        lines += [f"[{name}]", *(f"{setting.key.written_name}={setting.text}" for setting in settings)]
    return "\n".join(lines) + "\n"


def file_text(connection: ConnectionConfig, statuses: Sequence[Status], local_cmd_port: int) -> str:
    """Return `connection` as a whole new file; `statuses` are the states of its paths now."""
    head, paths, networks, classes = _blocks(connection, _decided(connection, statuses), local_cmd_port)
    lines = [FIRST_LINE]
    for block in (head, *paths, *networks, *classes):
        if block is paths[0]:
            lines += ["", PATHS_LINE]
        if networks and block is networks[0]:
            lines += ["", NETWORKS_LINE]
        lines += _new_section(block)
    return "\n".join(lines) + "\n"


def interface_text(general: GeneralConfig, tunnels: Sequence[TunnelConfig]) -> str:
    """Return interface.conf with these tunnels, without the keys that have their defaults."""
    blocks = [_block("general", "general", {**settings_of(general), "tunnel_num": len(tunnels)})]
    blocks += [_block(f"tun_{number}", "tun_n", settings_of(tunnel)) for number, tunnel in enumerate(tunnels)]
    return "\n".join(line for block in blocks for line in _new_section(block, False)).lstrip() + "\n"


def new_interface_text(address: InterfaceAddress) -> str:
    """Return interface.conf of a host whose only tunnel is for sealed connections."""
    families: dict[str, Any] = {f"ipv{address.version}_addr": address}
    return interface_text(GeneralConfig(), [TunnelConfig("tun0", AUTO_MTU, mtu_auto=True, **families)])


def save(path: Path, connection: ConnectionConfig, statuses: Sequence[Status], local_cmd_port: int) -> bool:
    """Bring the file at `path` up to date with `connection`; return whether it was written.

    `statuses` are the states of the paths now; the file gets the operator's decisions. It is replaced as a whole or not
    at all, and keeps its owner and mode. Raises ConfigError if it cannot be written, or has errors now.
    """
    target = Path(os.path.realpath(path))
    try:
        if not target.exists():
            write_file(target, file_text(connection, statuses, local_cmd_port).encode(), None)
            return True
        old = target.read_bytes()
        ini = _read_again(target)
        new = updated(old.decode(), ini, connection, statuses, local_cmd_port).encode()
        if new == old:
            return False
        write_file(target, new, target.stat())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be saved: {error.strerror or error}") from error
    return True


def updated(
    text: str, ini: IniFile, connection: ConnectionConfig, statuses: Sequence[Status], local_cmd_port: int
) -> str:
    """Return `text`, from which `ini` was read without errors, with the values of `connection`."""
    parts = _LINE_END.split(text)
    lines, ends = parts[::2], parts[1::2]
    newline = ends[0] if ends else "\n"
    edits: dict[int, tuple[int, list[str]]] = {}  # by index of a first line: how many lines go, which lines come
    head, paths, networks, classes = _blocks(connection, _decided(connection, statuses), local_cmd_port)
    added: list[str] = []
    named = {f"class {name}": section for name, section in ini.named("class")}
    for block in (head, *paths, *networks, *classes):
        section = ini.sections.get(block[0]) or named.get(block[0])
        if section is None:
            added += _new_section(block)
        else:
            _edit_section(lines, section, block[1], edits)
    _comment_out(lines, {name.lower() for name, _settings in (*paths, *networks, *classes)}, edits)
    whole = _edited(lines, ends, edits)
    if added:
        whole += ("" if whole.endswith(("\n", "\r")) else newline) + newline.join(added) + newline
    return whole


def with_client(text: str, ini: IniFile, name: str, values: Mapping[str, Any]) -> str:
    """Return the text of clients.conf, from which `ini` was read, with these values of a client, which may be new."""
    settings = [Setting(key, key.text(values[key.name])) for key in SECTIONS["client"] if key.name in values]
    section = client_section(ini, name)
    if section is None:
        whole = text + ("" if text.endswith("\n") or not text else "\n")
        return (whole + "\n".join(_new_section((f"client {name}", settings))) + "\n").lstrip("\n")
    parts = _LINE_END.split(text)
    edits: dict[int, tuple[int, list[str]]] = {}
    _edit_section(parts[::2], section, settings, edits)
    return _edited(parts[::2], parts[1::2], edits)


def without_client(text: str, name: str) -> str:
    """Return the text of clients.conf without a client; comments above its section stay."""
    parts = [*_LINE_END.split(text), ""]
    kept: list[str] = []
    waiting: list[str] = []  # blanks and comments, until it is known where they belong
    gone = False
    for line, end in zip(parts[::2], parts[1::2], strict=True):
        if line.strip()[:1] in ("", "#", ";"):
            waiting.append(line + end)
            continue
        header = _HEADER.match(line)
        if header or not gone:
            kept += waiting
        waiting = []
        if header and (gone := client_name(header[1]).lower() == name.lower()):
            while kept and not kept[-1].strip():
                kept.pop()
        if not gone:
            kept.append(line + end)
    return "".join([*kept, *waiting])


def _edited(lines: Sequence[str], ends: Sequence[str], edits: Mapping[int, tuple[int, list[str]]]) -> str:
    """Return the text of `lines` and their `ends` with its `edits`."""
    newline = ends[0] if ends else "\n"
    result: list[str] = []
    index = 0
    while index < len(lines):
        count, instead = edits.get(index, (1, lines[index : index + 1]))
        inserted = newline.join(instead)
        index += count
        result.append(inserted + (ends[index - 1] if index <= len(ends) else ""))
    return "".join(result)


# ---- what is written --------------------------------------------------------------------------------------------


def _blocks(
    connection: ConnectionConfig, statuses: Sequence[Status], local_cmd_port: int, for_peer: bool = False
) -> tuple[Block, list[Block], list[Block], list[Block]]:
    """Return head, paths, networks and classes with every key; for a peer only the keys that a create has."""
    sealed = connection.is_sealed
    head = {
        **settings_of(connection),
        "peer_key": connection.peer_keys,
        "local_cmd_port": None if sealed else local_cmd_port,
        "path_count": len(connection.paths),
        "network_count": len(connection.networks),
    }
    paths = [
        {**settings_of(path), **settings_of(path.ports), "status": status, **(_sealed_only(path) if sealed else {})}
        for path, status in zip(connection.paths, statuses, strict=True)
    ]
    networks = [
        {"ip_ver": each.ip_ver, "src_addr": each.source, "dst_addr": each.destination} for each in connection.networks
    ]
    for path in paths if for_peer else ():  # without it the C program looks for the interface, which the peer lacks
        path[PRIVATE] = path["public_ipaddr"] if path[PRIVATE] is None else path[PRIVATE]
    return (
        _block("connection", "connection", head, for_peer, sealed),
        [_block(f"path_{number}", "path_n", path, for_peer, sealed) for number, path in enumerate(paths)],
        [_block(f"net_{number}", "net_n", network, for_peer, sealed) for number, network in enumerate(networks)],
        [_block(f"class {each.name}", "class", class_values(each)) for each in connection.classes],
    )


def _sealed_only(path: PathConfig) -> dict[str, Any]:
    """Return the values of a sealed connection's path that its file has in another form than its fields."""
    version = None if path.any_version else path.ip_ver
    return {"ip_ver": version, "remote_ipaddr": (*path.remote_addresses, *path.remote_names) or None}


def _block(name: str, kind: str, values: Mapping[str, Any], for_peer: bool = False, sealed: bool = False) -> Block:
    keys = [key for key in SECTIONS[kind] if key.in_create or not for_peer]
    derived = {key.name for key in keys if key.derived}
    if kind == "path_n" and values["dead_time"] == KEEPALIVES_MISSED * values["keepalive_time"]:
        derived.add("dead_time")
    return name, [
        Setting(key, key.text(values[key.name], sealed), sealed, sealed and key.name in derived) for key in keys
    ]


def _decided(connection: ConnectionConfig, statuses: Sequence[Status]) -> list[Status]:
    """Return the operator's decision about each path; `statuses` are the states of the paths now."""
    if connection.is_down:
        return [path.status for path in connection.paths]
    return [_decision(path, status) for path, status in zip(connection.paths, statuses, strict=True)]


def _decision(path: PathConfig, now: Status) -> Status:
    """Return the operator's decision: the configured state, unless he has taken the path up or down since."""
    if now.is_by_hand:
        return path.status if path.status.is_by_hand else Status.MANUAL_DOWN
    if path.status.is_by_hand or (now is Status.OK and not path.keepalive_time):  # no keepalive has brought it up
        return Status.OK
    return path.status


def _new_section(block: Block, keys_of_create: bool = True) -> list[str]:
    """Return the lines of a new section: the mandatory keys, values that are no defaults, and, of a plain connection,
    the `keys_of_create`."""
    name, settings = block
    needed = [
        each
        for each in settings
        if each.text and ((keys_of_create and each.key.in_create and not each.sealed) or not each.follows)
    ]
    return _block_lines((name, needed))


def _block_lines(block: Block) -> list[str]:
    name, settings = block
    return ["", f"[{name}]", *(_line(setting) for setting in settings)]


def _line(setting: Setting) -> str:
    return f"{setting.key.written_name:<16} = {_quoted(setting.text)}"


def _quoted(text: str) -> str:
    """Return `text` as it is written: in quotes if something in it would end the value or join lines."""
    if not re.search(r"[#;]|^['\"]|\\$|^\s|\s$", text):
        return text
    for quote in "\"'":
        if quote not in text:
            return f"{quote}{text}{quote}"
    raise ConfigError("a value has both kinds of quotes and a # or ;: that cannot be written in a configuration file")


# ---- changing a file --------------------------------------------------------------------------------------------


def _read_again(path: Path) -> IniFile:
    """Return the file as the program reads it now; raises ConfigurationErrors."""
    ini = read_file(path)
    if not ini.problems:
        build_connection(ini, None, None)  # fills in what one key says about another
    if ini.problems:
        raise ConfigurationErrors(ini.sorted_problems())
    return ini


def _edit_section(
    lines: Sequence[str], section: Section, settings: Sequence[Setting], edits: dict[int, tuple[int, list[str]]]
) -> None:
    """Note what must change in the lines of `section`."""
    last = max([section.line, *(entry.line for entry in section.entries.values())]) - 1
    missing: list[str] = []
    for setting in settings:
        if setting.key.name == "local_cmd_port" or _same(section.values[setting.key.name], setting.value):
            continue  # the port is read from interface.conf alone
        entry = section.entries.get(setting.key.name)
        if entry is None and not setting.derived:
            missing.append(_line(setting))
        elif entry is not None:
            count = _length(lines, entry.line - 1)
            edits[entry.line - 1] = count, [_changed(lines[entry.line - 1 : entry.line - 1 + count], setting)]
    if missing:
        count = _length(lines, last)
        kept = edits.get(last, (count, list(lines[last : last + count])))[1]
        edits[last] = count, [*kept, *missing]


def _same(old: Any, new: Any) -> bool:
    """Return whether two values read from a file mean the same."""
    if isinstance(old, IPv4Interface | IPv6Interface) and isinstance(new, IPv4Interface | IPv6Interface):
        return bool(old.network == new.network)
    if isinstance(old, IPv4Address | IPv6Address) and isinstance(new, IPv4Address | IPv6Address):
        return old == new or (old.is_unspecified and new.is_unspecified)
    return bool(old == new)


def _length(lines: Sequence[str], index: int) -> int:
    """Return how many lines from `index` on are joined by backslashes."""
    count = 1
    while lines[index + count - 1].rstrip().endswith("\\") and index + count < len(lines):
        count += 1
    return count


def _changed(lines: Sequence[str], setting: Setting) -> str:
    """Return the lines of one entry with a new value; its spelling, its blanks and its comment stay."""
    logical = "".join(line.rstrip().removesuffix("\\") for line in lines[:-1]) + lines[-1]
    before, equals, rest = logical.partition("=")
    value = rest.strip()
    start = rest[: len(rest) - len(rest.lstrip())] or " "
    if value[:1] in ("'", '"'):
        comment = value[value.find(value[0], 1) + 1 :]
    else:
        comment = value[len(re.split(r"\s*[#;]", value, maxsplit=1)[0]) :]
    if not value or value[0] in "#;":
        comment = f" {value}".rstrip()
    return before + equals + start + _quoted(setting.text) + comment


def _comment_out(lines: Sequence[str], kept: set[str], edits: dict[int, tuple[int, list[str]]]) -> None:
    """Turn the [path_n], [net_n] and [class NAME] that are not `kept` into comments."""
    gone = False
    for index, line in enumerate(lines):
        if header := _HEADER.match(line):
            name = " ".join(header[1].lower().split())
            gone = name not in kept and re.fullmatch(r"(path|net)_(0|[1-9][0-9]*)|class\s+\S.*", name) is not None
        if gone and line.strip()[:1] not in ("", "#", ";"):
            edits[index] = 1, [f"; {line}"]
