"""A connection to text: for the peer, as a create carries it, and for its file, as `mpt save` writes it (guide 4.6).

The text for the peer is the C program's to the octet: the same keys in the same order, and no key material. A file that
exists is not written anew: its comments, its order and the keys we do not know stay, and only lines whose value differs
from what runs are changed. A key that is not in the file is added only if its default is not what runs. The sections of
paths and networks that are no more become comments.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any, Final, NamedTuple

from mpt.config.connection import build_connection
from mpt.config.parser import ConfigurationErrors, IniFile, Section, read_file
from mpt.config.schema import PORT_KEYS, SPELLINGS
from mpt.errors import ConfigError
from mpt.model import ConnectionConfig, PathConfig, Status

FIRST_LINE: Final = ";;;;;;;#################### Multipath Connection Information: ###############"
PATHS_LINE: Final = "########################## PATHS ############################"
NETWORKS_LINE: Final = "####################### NETWORKS #####################################"
COMPACT_FIRST_LINE: Final = ";;;;;;;"  # the C server skips 4 octets; what it reads must still be a comment

_NEW_FILE_MODE = 0o600  # it may hold a key
_LINE_END = re.compile(r"(\r\n|\n|\r)")
_HEADER = re.compile(r"\s*\[([^\]\[]*)\]")


class Setting(NamedTuple):
    """A key as it is written, and the text of its value; "" stands for a key that is not there."""

    key: str
    text: str


Block = tuple[str, list[Setting]]  # the name of a section and its keys


def connection_text(
    connection: ConnectionConfig, statuses: Sequence[Status], local_cmd_port: int, limit: int | None = None
) -> str:
    """`connection` as a create carries it, the paths in the states `statuses`; `local_cmd_port` is this host's.

    If that is longer than `limit` octets, the same keys without blanks and headings, so that more paths fit.
    Public addresses must be found out before: the peer cannot use 0.0.0.0.
    """
    head, paths, networks = _blocks(connection, statuses, local_cmd_port, for_peer=True)
    lines = [FIRST_LINE, *_block_lines(head), "", PATHS_LINE]
    lines += [line for block in paths for line in _block_lines(block)] + [NETWORKS_LINE]
    lines += [line for block in networks for line in _block_lines(block)]
    text = "\n".join(lines) + "\n"
    if limit is None or len(text.encode()) <= limit:
        return text
    lines = [COMPACT_FIRST_LINE]
    for name, settings in [head, *paths, *networks]:
        lines += [f"[{name}]", *(f"{key}={value}" for key, value in settings)]
    return "\n".join(lines) + "\n"


def file_text(connection: ConnectionConfig, statuses: Sequence[Status], local_cmd_port: int) -> str:
    """`connection` as a whole new file."""
    head, paths, networks = _blocks(connection, statuses, local_cmd_port, for_peer=False)
    lines = [FIRST_LINE]
    for block in (head, *paths, *networks):
        if block is paths[0]:
            lines += ["", PATHS_LINE]
        if networks and block is networks[0]:
            lines += ["", NETWORKS_LINE]
        lines += _block_lines((block[0], [setting for setting in block[1] if setting.text]))
    return "\n".join(lines) + "\n"


def save(path: Path, connection: ConnectionConfig, statuses: Sequence[Status], local_cmd_port: int) -> bool:
    """Bring the file at `path` up to date with `connection` and `statuses`; whether it was written.

    The file is replaced as a whole or not at all, and keeps its owner and mode. Raises ConfigError if it cannot be
    written, or has errors of its own, which are for its owner to mend first.
    """
    target = Path(os.path.realpath(path))
    try:
        if not target.exists():
            _replace(target, file_text(connection, statuses, local_cmd_port).encode(), None)
            return True
        old = target.read_bytes()
        ini = _read_again(target)
        new = updated(old.decode(), ini, connection, statuses, local_cmd_port).encode()
        if new == old:
            return False
        _replace(target, new, target.stat())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be saved: {error.strerror or error}") from error
    return True


def updated(
    text: str, ini: IniFile, connection: ConnectionConfig, statuses: Sequence[Status], local_cmd_port: int
) -> str:
    """`text`, which `ini` was read from and has no errors, with the values of `connection`."""
    parts = _LINE_END.split(text)
    lines, ends = parts[::2], parts[1::2]
    newline = ends[0] if ends else "\n"
    edits: dict[int, tuple[int, list[str]]] = {}  # by index of a first line: how many lines go, and what comes instead
    head, paths, networks = _blocks(connection, statuses, local_cmd_port, for_peer=False)
    added: list[str] = []
    for name, settings in (head, *paths, *networks):
        section = ini.sections.get(name)
        if section is None:
            added += _block_lines((name, [setting for setting in settings if setting.text]))
        else:
            _edit_section(lines, section, settings, edits)
    _comment_out(lines, {name for name, _settings in (*paths, *networks)}, edits)
    result: list[str] = []
    index = 0
    while index < len(lines):
        count, instead = edits.get(index, (1, lines[index : index + 1]))
        inserted = newline.join(instead)
        index += count
        result.append(inserted + (ends[index - 1] if index <= len(ends) else ""))
    whole = "".join(result)
    if added:
        whole += ("" if whole.endswith(("\n", "\r")) else newline) + newline.join(added) + newline
    return whole


# ---- what is written --------------------------------------------------------------------------------------------


def _blocks(
    connection: ConnectionConfig, statuses: Sequence[Status], local_cmd_port: int, for_peer: bool
) -> tuple[Block, list[Block], list[Block]]:
    """Head, paths and networks, in the order of the C program; what it does not know comes last, and not for peers."""
    head = _settings(
        name=connection.name,
        permission=int(connection.permission),
        ip_ver=connection.ip_ver,
        ip_local=connection.ip_local,
        local_port=connection.local_port,
        local_cmd_port=local_cmd_port,
        ip_remote=connection.ip_remote,
        remote_port=connection.remote_port,
        remote_cmd_port=connection.remote_cmd_port,
        path_count=len(connection.paths),
        network_count=len(connection.networks),
        status=int(connection.status),
        reorder_window=connection.reorder_window,
        max_buffdelay_msec=connection.max_buffdelay_msec,
        auth_type=int(connection.auth_type),
    )
    if not for_peer:
        head += _settings(auth_key=connection.auth_key)
    paths = [
        (f"path_{number}", _path_settings(path, status, for_peer))
        for number, (path, status) in enumerate(zip(connection.paths, statuses, strict=True))
    ]
    networks = [
        (f"net_{number}", _settings(ip_ver=each.ip_ver, src_addr=each.source, dst_addr=each.destination))
        for number, each in enumerate(connection.networks)
    ]
    return ("connection", head), paths, networks


def _path_settings(path: PathConfig, status: Status, for_peer: bool) -> list[Setting]:
    private = path.private_ipaddr
    if for_peer and private is None:
        private = path.public_ipaddr  # absent, the C program would look for the interface, which it does not have
    settings = _settings(
        interface_name=path.interface_name,
        ip_ver=path.ip_ver,
        private_ipaddr="" if private is None else private,
        public_ipaddr=path.public_ipaddr,
        gw_ipaddr=path.gateway_ipaddr,
        remote_ipaddr=path.remote_ipaddr,
        keepalive_time=_seconds(path.keepalive_time),
        dead_time=_seconds(path.dead_time),
        weight_in=path.weight_in,
        weight_out=path.weight_out,
        status=int(status),
    )
    if for_peer:
        return settings
    settings += _settings(
        cmd_default="1" if path.cmd_default else "",
        bind_to_device="" if path.bind_to_device else "0",
        **{key: _ports(getattr(path.ports, key)) for key in PORT_KEYS},
    )
    return settings


def _settings(**values: object) -> list[Setting]:
    return [Setting(key, str(value)) for key, value in values.items()]


def _seconds(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _ports(ports: Iterable[int]) -> str:
    """Ports as the schema reads them, runs of three and more as ranges."""
    runs: list[list[int]] = []
    for port in sorted(ports):
        if runs and port == runs[-1][-1] + 1:
            runs[-1].append(port)
        else:
            runs.append([port])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else " ".join(map(str, run)) for run in runs)


def _block_lines(block: Block) -> list[str]:
    name, settings = block
    return ["", f"[{name}]", *(_line(setting) for setting in settings)]


def _line(setting: Setting) -> str:
    return f"{setting.key:<16} = {_quoted(setting.text)}"


def _quoted(text: str) -> str:
    """`text` as a value that is read back as it is: in quotes if something in it would end it or join lines."""
    if not re.search(r"[#;]|^['\"]|\\$|^\s|\s$", text):
        return text
    for quote in "\"'":
        if quote not in text:
            return f"{quote}{text}{quote}"
    raise ConfigError("a value has both kinds of quotes and a # or ;: that cannot be written in a configuration file")


# ---- changing a file --------------------------------------------------------------------------------------------


def _read_again(path: Path) -> IniFile:
    """The file as the program reads it now; raises ConfigurationErrors."""
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
        key = SPELLINGS[section.kind][setting.key]
        wanted = key.read(setting.text) if setting.text else key.default_value
        if key.name == "local_cmd_port" or _same(section.values[key.name], wanted):
            continue  # the port is read from interface.conf alone: nobody misses it in a file
        entry = section.entries.get(key.name)
        if entry is None:
            missing.append(_line(setting))
        else:
            count = _length(lines, entry.line - 1)
            edits[entry.line - 1] = count, [_changed(lines[entry.line - 1 : entry.line - 1 + count], setting)]
    if missing:
        count = _length(lines, last)
        kept = edits.get(last, (count, list(lines[last : last + count])))[1]
        edits[last] = count, [*kept, *missing]


def _same(old: Any, new: Any) -> bool:
    """Whether two values read from a file mean the same."""
    if isinstance(old, IPv4Interface | IPv6Interface):
        return bool(old.network == new.network)
    return bool(old == new)


def _length(lines: Sequence[str], index: int) -> int:
    """How many lines are joined by a backslash from `index` on."""
    count = 1
    while lines[index + count - 1].rstrip().endswith("\\") and index + count < len(lines):
        count += 1
    return count


def _changed(lines: Sequence[str], setting: Setting) -> str:
    """The lines of one entry with a new value; its spelling, its blanks and its comment stay."""
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
    """Turn the [path_n] and [net_n] that are not `kept` into comments."""
    gone = False
    for index, line in enumerate(lines):
        if header := _HEADER.match(line):
            name = header[1].strip().lower()
            gone = name not in kept and re.fullmatch(r"(path|net)_(0|[1-9][0-9]*)", name) is not None
        if gone and line.strip()[:1] not in ("", "#", ";"):
            edits[index] = 1, [f"; {line}"]


def _replace(path: Path, data: bytes, like: os.stat_result | None) -> None:
    """Write `data` beside `path` and put it in its place, so that a crash leaves the old file or the new one."""
    mode = _NEW_FILE_MODE if like is None else stat.S_IMODE(like.st_mode)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            if like is not None and (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, like.st_uid, like.st_gid)
            os.fchmod(descriptor, mode)
            stream.flush()
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
