"""The user guide's configuration files, letter by letter, and the means to change and write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
    """Write a configuration directory, with the guide's connection unless told otherwise."""
    folder = directory / "connections"
    folder.mkdir(exist_ok=True)
    (directory / "interface.conf").write_text(interface)
    for name, text in ({"host_b.conf": CONNECTION} if connections is None else connections).items():
        (folder / name).write_text(text)
    return directory
