"""Whatever `mptsrv --check` accepts can be started, changed, saved, restarted and stopped."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import cycle, product
from pathlib import Path

import pytest

from mpt.accel.choice import choose_datapath, native_is_built
from mpt.config.directory import load_directory
from mpt.errors import ConfigError
from tests import IS_FAST
from tests.config import files
from tests.daemon.logged import logged
from tests.daemon.stage import Run, Stage

INNER = {4: ("10.0.0.2", "10.0.0.3"), 6: ("fec0::2", "fec0::3")}
UNKNOWN = {4: "0.0.0.0", 6: "::"}
OWN = {4: "10.1.1.2", 6: "fd01::2"}
NAT = {4: "198.51.100.9", 6: "2001:db8::9"}
GATEWAY = {4: "10.1.1.1", 6: "fd01::1"}
PEER = {4: "10.1.1.3", 6: "fd01::3"}
DIMENSIONS = {
    "inner": (4, 6),
    "outer": (4, 6),
    "public": ("known", "unknown", "0.0.0.0"),
    "private": ("absent", "known", "unknown"),
    "gateway": ("own", "known", "unknown"),
    "remote": ("known", "unknown", "absent"),
    "remote_port": ("23456", "0"),
    "window": ("0", "100"),
}
# taken in turn; the periods have no common divisor with each other, so that in time everything meets everything
IN_TURN = {
    "status": cycle(["0", "128", "129", "130", "131", "255", "0"]),
    "connection": cycle(["0", "131", "255", "0", "0"]),
    "keepalive_time": cycle(["0", "1", "0.1"]),
    "bind_to_device": cycle(["1", "0"]),
    "dscp": cycle(["0", "46", "copy", "0", "0", "0", "0", "0", "0", "0", "0"]),
}
PLANES = ["python", "native"] if native_is_built() else ["python"]


def file_of(choice: dict[str, object]) -> str:
    """Return a connection file; `choice` has one value of each dimension."""
    inner, outer = int(str(choice["inner"])), int(str(choice["outer"]))
    turn = {key: next(values) for key, values in IN_TURN.items()}
    local, remote = INNER[inner]
    public = {"known": NAT[outer] if choice["private"] != "absent" else OWN[outer], "unknown": UNKNOWN[outer]}
    optional = [
        ("private_ipaddr", {"known": OWN[outer], "unknown": UNKNOWN[outer]}.get(str(choice["private"]))),
        ("remote_ipaddr", {"known": PEER[outer], "unknown": UNKNOWN[outer]}.get(str(choice["remote"]))),
    ]
    lines = [
        "[connection]",
        "name = c",
        "permission = 3",
        f"ip_ver = {inner}",
        f"ip_local = {local}",
        "local_port = 23456",
        f"ip_remote = {remote}",
        f"remote_port = {choice['remote_port']}",
        "remote_cmd_port = 60456",
        "path_count = 1",
        "network_count = 0",
        f"status = {turn['connection']}",
        f"reorder_window = {choice['window']}",
        "max_buffdelay_msec = 50",
        f"dscp = {turn['dscp']}",
        "auth_type = 0",
        "[path_0]",
        "interface_name = eth1",
        f"ip_ver = {outer}",
        f"public_ipaddr = {public.get(str(choice['public']), '0.0.0.0')}",
        f"gw_ipaddr = {({'own': OWN, 'known': GATEWAY, 'unknown': UNKNOWN}[str(choice['gateway'])])[outer]}",
        *(f"{key} = {value}" for key, value in optional if value is not None),
        f"keepalive_time = {turn['keepalive_time']}",
        f"dead_time = {3 * float(turn['keepalive_time']):g}",
        "weight_out = 1",
        f"bind_to_device = {turn['bind_to_device']}",
        f"status = {turn['status']}",
    ]
    return "\n".join(lines) + "\n"


def try_everything(stage: Stage) -> None:
    """Let things happen that happen to every connection, and let every command be given."""
    source, destination = OWN[4], PEER[4]
    for size in (28, 1000):
        stage.tun.inject(bytes([0x45, 0]) + size.to_bytes(2, "big") + bytes(8) + _pair(4) + bytes(size - 20))
        stage.tun.inject(
            bytes([0x60])
            + bytes(3)
            + (size - 40 if size > 40 else 0).to_bytes(2, "big")
            + bytes(2)
            + _pair(6)
            + bytes(max(0, size - 40))
        )
    stage.reactor.read_all()
    for working in (False, True):
        stage.netlink.set_carrier("eth1", working)
        stage.network_changed()
    stage.reactor.pass_time(0.5, step=0.1)
    for command in (
        f"path down {source} {destination}",
        f"path up {source} {destination}",
        "save",
        "restart",
        "reload",
        "show status",
    ):
        stage.ask(command)
        stage.reactor.advance(0)
    (connection,) = stage.root.runs.connections()
    connection.text_for_peer(60456)
    connection.peer_says(0, False)
    connection.peer_says(0, True)
    stage.reactor.pass_time(0.5, step=0.1)


def _pair(version: int) -> bytes:
    return b"".join(ip_address(address).packed for address in INNER[version])


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("outer", DIMENSIONS["outer"])
@pytest.mark.parametrize("inner", DIMENSIONS["inner"])
def test_what_the_check_accepts_runs(run: Run, tmp_path: Path, inner: int, outer: int, plane: str) -> None:
    """Address families, known and unknown addresses, windows, states: no refusal, no bug in the log."""
    interface = files.changed(files.INTERFACE, "general", control_socket="/nowhere/a.sock")
    is_sampled = IS_FAST or plane == "native"  # there only the table differs
    accepted = refused = 0
    names = [name for name in DIMENSIONS if name not in ("inner", "outer")]
    for number, values in enumerate(product(*(DIMENSIONS[name] for name in names))):
        if is_sampled and number % 5:
            continue
        text = file_of({"inner": inner, "outer": outer, **dict(zip(names, values, strict=True))})
        files.write(tmp_path, interface, {"c.conf": text})
        try:
            config = load_directory(tmp_path).config
        except ConfigError:
            refused += 1
            continue
        accepted += 1
        with logged() as log:
            stage = run(config=config, plane=choose_datapath(plane))
            try_everything(stage)
            stage.stop()
        assert stage.refused == [] and log.of("critical") == [], text
    least = 20 if is_sampled else 100
    assert accepted >= least and refused >= least / 5, (accepted, refused)
