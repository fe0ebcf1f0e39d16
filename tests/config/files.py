"""The user guide's configuration files, letter by letter, and the means to change and write them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

# A private key (RFC 8410 section 7), its public key, and those of two peers
PRIVATE_KEY = f"""\
-----BEGIN PRIVATE KEY-----
{base64.b64encode(bytes.fromhex("302e020100300506032b657004220420") + bytes(range(32))).decode()}
-----END PRIVATE KEY-----
"""
PUBLIC_KEY = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
PEER_KEY = "Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc="
OTHER_PEER_KEY = "JUO5L/EJVRFHatyDadtt3JM2ZaEZeN2hQE7hBmypVZ0="

# Configuration 1 of the guide (2.6.2)
INTERFACE = """\
[general]
tunnel_num      = 1
; Accept remote new connection request
accept_remote   = 1
cmdport_local   = 60456
cmd_timeout     = 25

[tun_0]
name            = tun0
mtu             = 1440
ipv4_addr       = 10.0.0.2/24
ipv6_addr       = fec0::2/64
"""

# Configuration 2 of the guide (2.6.3)
CONNECTION = """\
##### GENERAL INFORMATION #####
[connection]
name           = MPT_connection_10.0.0.2
permission     = 3
ip_ver         = 4
ip_local       = 10.0.0.2
local_port     = 23456
ip_remote      = 10.0.0.3
remote_port    = 23456
remote_cmd_port = 60456
path_count     = 2
network_count  = 2
status         = 0
reorder_window = 0
max_buffdelay_msec = 200
auth_type      = 0
auth_key       = 0

##### PATHS #####

[path_0]
interface_name = eth1
ip_ver         = 4
public_ipaddr  = 10.1.1.2
gw_ipaddr      = 10.1.1.2
remote_ipaddr  = 10.1.1.3
keepalive_time = 5
dead_time      = 11
weight_out     = 1
weight_in      = 1
cmd_default    = 1
status         = 0

[path_1]
interface_name = eth2
ip_ver         = 4
public_ipaddr  = 10.2.2.2
gw_ipaddr      = 10.2.2.2
remote_ipaddr  = 10.2.2.3
keepalive_time = 5
dead_time      = 11
weight_out     = 1
status         = 0

##### NETWORKS #####
[net_0]
ip_ver   = 4
src_addr = 11.1.1.0/24
dst_addr = 21.1.1.0/24

[net_1]
ip_ver   = 4
src_addr = 12.1.1.0/24
dst_addr = 22.1.1.0/24
"""

# The client's example of guide 4.7
CREATE_CLIENT = """\

##### MPT CREATE Client Example #####
[connection]
name                = MPT_connection_10.0.0.2
permission          = 3
ip_ver              = 4
ip_local            = 10.0.0.2
local_port          = 65060
ip_remote           = 10.0.0.3
remote_port         =
remote_cmd_port     = 60456
path_count          = 2
network_count       = 0
reorder_window      = 2500
max_buffdelay_msec = 300
status              = 0
auth_type           = 0
auth_key            = A0A1A2A3A4A5A6A7A8A9B0B1B2B3B4B5B6B7B8B9C0C1C2C3C4C5C6C7C8C9D1D2

##### PATHS #####

[path_0]
interface_name      = eth1
ip_ver              = 4
private_ipaddr      = 0.0.0.0
public_ipaddr       = 10.1.1.2
gw_ipaddr           = 10.1.1.1
remote_ipaddr       = 10.1.1.3
keepalive_time      = 3
dead_time           = 11
default_cmd         = 1
weight_in           = 70
weight_out          = 100
status              = 128

[path_1]
interface_name      = eth2
ip_ver              = 4
private_ipaddr      = 0.0.0.0
public_ipaddr       = 10.2.2.2
gw_ipaddr           = 10.2.2.1
remote_ipaddr       = 10.2.2.3
keepalive_time      = 3
dead_time           = 11
weight_in           = 50
weight_out          = 80
status              = 128

"""

# The server's template of guide 4.7
CREATE_TEMPLATE = """\

##### MPT CREATE Service Template Example #####

[connection]
name                = Template
permission          = 3
ip_ver              = 4
ip_local            = 10.0.0.3
local_port          = 65060
path_count          = 2
network_count       = 0
reorder_window      = 2500
max_buffdelay_msec = 300
status              = 0
auth_type           = 0
auth_key = A0A1A2A3A4A5A6A7A8A9B0B1B2B3B4B5B6B7B8B9C0C1C2C3C4C5C6C7C8C9D1D2

##### PATHS #####

[path_0]
interface_name     = eth1
ip_ver              = 4
public_ipaddr      = 10.1.1.3
gw_ipaddr          = 10.1.1.1
cmd_default        = 1
status              = 128

[path_1]
interface_name     = eth2
ip_ver              = 4
public_ipaddr      = 10.2.2.3
gw_ipaddr          = 10.2.2.1
status              = 128

"""

# No file of the guide has it; in a plain connection it is ignored
CLASS = """
[class voice]
class = realtime
dscp  = EF
"""

# Of each key of each kind of section a value that is neither its default nor the guide's.
OTHER = {
    ("general", "accept_remote"): "0",
    ("general", "cmdport_local"): "60457",
    ("general", "cmd_timeout"): "3",
    ("general", "udp_commands"): "unconnected",
    ("general", "status_listen"): "[::1]:9400",
    ("general", "log_format"): "json",
    ("general", "log_level"): "debug",
    ("general", "public_address_resolver"): "208.67.222.222",
    ("general", "control_socket"): "/run/other.sock",
    ("general", "data_plane"): "python",
    ("general", "gso"): "off",
    ("general", "tun_offload"): "off",
    ("general", "log_ecn"): "0",
    ("general", "allow_default_key"): "1",
    ("general", "public_address_name"): "ip.example",
    ("general", "private_key_file"): "connections/../private.key",
    ("general", "key_log"): "keys.log",
    ("tun_0", "name"): "mpt0",
    ("tun_0", "mtu"): "1400",
    ("tun_0", "ipv4_addr"): "10.0.0.2/25",
    ("tun_0", "ipv6_addr"): "fec0::2/60",
    ("tun_0", "queue_length"): "900",
    ("connection", "name"): "other",
    ("connection", "peer_key"): f"{PEER_KEY} {OTHER_PEER_KEY}",
    ("connection", "permission"): "1",
    ("connection", "ip_ver"): "6",
    ("connection", "ip_local"): "fec0::2",
    ("connection", "local_port"): "4754",
    ("connection", "ip_remote"): "fec0::3",
    ("connection", "remote_port"): "4755",
    ("connection", "remote_cmd_port"): "60457",
    ("connection", "path_count"): "1",
    ("connection", "network_count"): "1",
    ("connection", "status"): "255",
    ("connection", "reorder_window"): "1000",
    ("connection", "max_buffdelay_msec"): "150",
    ("connection", "max_loss"): "20",
    ("connection", "size_probe"): "1",
    ("connection", "dscp"): "copy",
    ("connection", "ecn"): "normal",
    ("connection", "require_pq"): "1",
    ("connection", "ciphers"): "chacha20-poly1305 aes-256-gcm",
    ("connection", "order"): "flow",
    ("connection", "mss_clamp"): "auto",
    ("connection", "scheduler"): "adaptive",
    ("connection", "delay_budget"): "80",
    ("connection", "auth_type"): "1",
    ("connection", "auth_key"): "'k # \"'",
    ("path_1", "interface_name"): "wlan0",
    ("path_1", "ip_ver"): "6",
    ("path_1", "private_ipaddr"): "192.168.1.2",
    ("path_1", "public_ipaddr"): "0.0.0.0",
    ("path_1", "gateway_ipaddr"): "10.2.2.1",
    ("path_1", "remote_ipaddr"): "10.2.2.4",
    ("path_1", "keepalive_time"): "0.1",
    ("path_1", "dead_time"): "0.35",
    ("path_1", "weight_in"): "7",
    ("path_1", "weight_out"): "8",
    ("path_1", "status"): "131",
    ("path_1", "cmd_default"): "1",
    ("path_1", "bind_to_device"): "0",
    ("path_1", "cost"): "backup",
    ("path_1", "quota"): "1.5 GB/week",
    ("path_1", "tcp_dst"): "80 8000-8010",
    ("path_1", "tcp_src"): "81",
    ("path_1", "udp_dst"): "53",
    ("path_1", "udp_src"): "54",
    ("net_1", "ip_ver"): "6",
    ("net_1", "src_addr"): "192.168.1.0/24",
    ("net_1", "dst_addr"): "224.0.0.0/4",
    ("class voice", "class"): "bulk",
    ("class voice", "dscp"): "CS6 34",
    ("class voice", "protocol"): "udp",
    ("class voice", "ports"): "5060 10000-20000",
    ("class voice", "copies"): "2",
}
# What else must change with a key, so that the files agree.
WITH: dict[tuple[str, str], dict[str, str | None]] = {
    ("connection", "scheduler"): {"peer_key": PEER_KEY},
    ("connection", "ip_ver"): {"ip_local": "fec0::2", "ip_remote": "fec0::3"},
    ("connection", "ip_local"): {"ip_ver": "6", "ip_remote": "fec0::3"},
    ("connection", "ip_remote"): {"ip_ver": "6", "ip_local": "fec0::2"},
    ("path_1", "ip_ver"): {
        "public_ipaddr": "2001:db8::2",
        "gw_ipaddr": "2001:db8::1",
        "remote_ipaddr": "2001:db8::3",
    },
    ("path_1", "gateway_ipaddr"): {"gw_ipaddr": None},
    ("net_1", "ip_ver"): {"src_addr": "fd00:1::/64", "dst_addr": "ff00::/8"},
}


def connection_with(section: str) -> str:
    """Return the guide's connection file, which has this section."""
    return CONNECTION + (CLASS if section == "class voice" else "")


def with_other(section: str, key: str) -> tuple[str, str]:
    """Return the guide's interface.conf and connection file with the `OTHER` value of one key."""
    values: dict[str, str | None] = {key: OTHER[section, key], **WITH.get((section, key), {})}
    interface, connection = INTERFACE, connection_with(section)
    if section in ("general", "tun_0"):
        interface = changed(interface, section, **values)
    else:
        connection = changed(connection, section, **values)
    if key == "cmd_default":
        connection = changed(connection, "path_0", cmd_default=None)  # only one path has it
    for gone in {"path_count": ["path_1"], "network_count": ["net_1"]}.get(key, []):
        connection = without(connection, gone)
    return interface, connection


def changed(text: str, section: str, **values: str | None) -> str:
    """`text` with these keys of `section` set, in its first lines, or left out if None."""
    head, found, body = f"\n{text}".partition(f"\n[{section}]\n")
    assert found, f"there is no [{section}]"
    lines = body.split("\n")
    end = next((number for number, line in enumerate(lines) if line.startswith("[")), len(lines))
    kept = [line for line in lines[:end] if line.partition("=")[0].strip() not in values]
    added = [f"{key} = {value}" for key, value in values.items() if value is not None]
    return (head + found).removeprefix("\n") + "\n".join([*added, *kept, *lines[end:]])


def without(text: str, section: str) -> str:
    """`text` without a section."""
    head, found, body = f"\n{text}".partition(f"\n[{section}]\n")
    _own, bracket, rest = body.partition("\n[")
    assert found, f"there is no [{section}]"
    return (head + "\n" + bracket + rest).removeprefix("\n")


def line_of(text: str, section: str, key: str = "") -> int:
    """The number of the line of a section's header, or of a key of that section."""
    lines = text.split("\n")
    header = lines.index(f"[{section}]")
    if not key:
        return header + 1
    keys = [line.partition("=")[0].strip() for line in lines]
    return keys.index(key, header) + 1


def write(directory: Path, interface: str = INTERFACE, connections: Mapping[str, str] | None = None) -> Path:
    """Write a configuration directory, with the guide's connection unless told otherwise, and a private key."""
    folder = directory / "connections"
    folder.mkdir(exist_ok=True)
    (directory / "interface.conf").write_text(interface)
    (directory / "private.key").write_text(PRIVATE_KEY)
    (directory / "private.key").chmod(0o600)
    for name, text in ({"host_b.conf": CONNECTION} if connections is None else connections).items():
        (folder / name).write_text(text)
    return directory
