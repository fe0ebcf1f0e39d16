"""The status as a document and as a table."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from dataclasses import replace

import pytest

from mpt.local.status import (
    WORDS,
    ConnectionStatus,
    PathStatus,
    SealedStatus,
    StatusDocument,
    TunnelStatus,
    _age,
    _octets,
    status_text,
)
from mpt.model import Status

PATH = PathStatus(
    name="path_0",
    status="up",
    interface="eth1",
    local_address="10.1.1.2",
    public_address="10.1.1.2",
    remote_address="10.1.1.3",
    weight_out=1,
    weight_in=1,
    keepalive_time=5,
    dead_time=11,
    keepalive_age=0.42,
    packets_sent=1234,
    bytes_sent=1_234_567,
    packets_received=0,
    bytes_received=0,
)
OTHER = replace(
    PATH,
    name="path_1",
    status="interface down",
    interface="wwan0-long-name",
    local_address="2001:db8::2",
    remote_address="2001:db8::3",
    weight_out=10,
    keepalive_age=None,
    peer_says_down=True,
    drops=Counter(enetdown=3),
)
DOCUMENT = StatusDocument(
    version="0.1.0",
    pid=42,
    uptime=7300,
    cmdport=60456,
    accept_remote=True,
    control_dropped={"digest": 2},
    tunnels=(
        TunnelStatus(
            name="tun0",
            mtu=1440,
            ipv4_addr="10.0.0.2/24",
            ipv6_addr="fec0::2/64",
            data_plane="native",
            offloads=["join_tcp", "udp_segment", "vnet_hdr"],
            packets_read=1300,
            packets_delivered=900,
            packets_held=0,
            datagrams_received=1000,
            keepalives_received=90,
            ecn_unexpected=0,
            egress_dropped={"no_connection": 66},
            ingress_dropped={"late": 0},
        ),
    ),
    connections=(
        ConnectionStatus(
            name="MPT_connection_10.0.0.2",
            file="mpt_b.conf",
            tunnel="tun0",
            local_address="10.0.0.2",
            remote_address="10.0.0.3",
            local_port=23456,
            remote_port=23456,
            remote_cmd_port=60456,
            permission=3,
            auth_type=0,
            reorder_window=0,
            max_buffdelay_msec=200,
            dscp=0,
            ecn="compatibility",
            paths=[PATH, OTHER],
        ),
    ),
)

TEXT = """\
mpt 0.1.0, pid 42, up for 2 h, command port 60456, remote creation on
  refused commands: digest 2

tun0: 10.0.0.2/24, fec0::2/64, mtu 1440; packets out 1300, in 900, held 0
  native data path, offloads: join_tcp, udp_segment, vnet_hdr
  dropped out: no_connection 66

MPT_connection_10.0.0.2 (mpt_b.conf): 10.0.0.2 to 10.0.0.3 on tun0, 1 of 2 paths work
  PATH    STATUS                       INTERFACE        LOCAL        REMOTE       OUT:IN  HEARD      SENT           RECEIVED  DROPPED
  path_0  up                           eth1             10.1.1.2     10.1.1.3     1:1     0.4 s ago  1234 / 1.2 MB  0 / 0 B   -
  path_1  interface down (peer: down)  wwan0-long-name  2001:db8::2  2001:db8::3  10:1    -          1234 / 1.2 MB  0 / 0 B   enetdown 3
"""  # noqa: E501


def test_the_table_is_aligned() -> None:
    """A path has one row; drops stand there only if they are not zero."""
    assert status_text(DOCUMENT) == TEXT


def test_it_says_why_a_path_does_not_work() -> None:
    """The reasons stand below the table, for each path that has one."""
    path = replace(OTHER, reason="the interface is down or gone")
    connection = replace(DOCUMENT.connections[0], paths=[PATH, path])
    text = status_text(replace(DOCUMENT, connections=[connection]))
    assert text == TEXT + "  path_1: the interface is down or gone\n"


def test_a_sealed_connection_tells_of_its_keys() -> None:
    """The peer's key, then cipher, key exchange and age, or why there are none; no port that nobody has is named."""
    keys = SealedStatus("sending", "A" * 43 + "=", "aes-128-gcm", "X25519MLKEM768", 3.2)
    connection = replace(DOCUMENT.connections[0], sealed=keys, remote_cmd_port=0, report_failure="path_1 is down: why")
    text = status_text(replace(DOCUMENT, connections=[connection]))
    assert text == status_text(replace(DOCUMENT, connections=[replace(connection, remote_cmd_port=65050)]))
    assert f"\n  sealed with {keys.peer_key}\n  aes-128-gcm, X25519MLKEM768, keys 3.2 s old\n  PATH" in text
    assert text.endswith("\n  the peer was not told that path_1 is down: why\n")
    none = replace(connection, sealed=SealedStatus("offered", keys.peer_key, reason="no answer"))
    assert "=\n  there are no keys yet: no answer\n" in status_text(replace(DOCUMENT, connections=[none]))


def test_a_daemon_without_connections_says_so() -> None:
    """The text says that there is no connection, instead of an empty table."""
    assert status_text(replace(DOCUMENT, connections=())).endswith("\nno connection\n")


def test_the_document_is_plain_json() -> None:
    """Every number survives, also in a Counter; the document has its schema."""
    plain = json.loads(json.dumps(DOCUMENT.as_json()))
    assert plain["schema"] == "mpt.status/1"
    assert plain["connections"][0]["paths"][1]["drops"] == {"enetdown": 3}
    assert plain["connections"][0]["paths"][0]["keepalive_age"] == 0.42
    assert plain["tunnels"][0]["egress_dropped"] == {"no_connection": 66}
    assert plain["tunnels"][0]["offloads"] == ["join_tcp", "udp_segment", "vnet_hdr"]


def test_looking_often_takes_no_memory() -> None:
    """No part of a document stays in memory, not even in the interpreter's free lists."""
    DOCUMENT.as_json()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(200):
            DOCUMENT.as_json()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000


def test_a_data_path_without_offloads_says_so() -> None:
    """The text says "none": an empty list would look like a mistake."""
    tunnel = replace(DOCUMENT.tunnels[0], data_plane="python", offloads=[])
    assert "\n  python data path, offloads: none\n" in status_text(replace(DOCUMENT, tunnels=[tunnel]))


def test_every_status_has_a_word() -> None:
    """No two have the same."""
    assert WORDS.keys() == set(Status)
    assert len(set(WORDS.values())) == len(WORDS)


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (23 * 10**9, "23.0 GB"), (10**15, "1000.0 TB")],
)
def test_octets_are_readable(octets: int, text: str) -> None:
    """A size has some three digits and a unit."""
    assert _octets(octets) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (119, "119 s"), (120, "2 min"), (1e6, "12 d")]
)
def test_ages_are_readable(seconds: float, text: str) -> None:
    """An age has one number and one unit."""
    assert _age(seconds) == text
