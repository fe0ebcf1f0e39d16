"""The status as a document and as a table."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mpt.local.status import (
    DOWN_AT_PEER,
    WAITING,
    WORDS,
    ConnectionStatus,
    PathStatus,
    SealedStatus,
    StatusDocument,
    TunnelStatus,
    state_word,
)
from mpt.local.statustext import UP, Paint, age, brief_text, milliseconds, named, octets, rate, state, status_text
from mpt.model import Status

COMMANDS = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
STATES = COMMANDS[COMMANDS.index("## The states of a path") : COMMANDS.index("## History and events")]

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
    loss=0.5,
    since=180.0,
    out_rate=1_500_000.0,
    in_rate=40_000.0,
    share=1.0,
    round_trip=0.0234,
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
    loss=None,
    since=None,
    out_rate=None,
    in_rate=None,
    share=None,
    round_trip=None,
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
            sealing="OpenSSL 3.0.19",
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

! path_1 of MPT_connection_10.0.0.2 is interface down; plug it in, or: mpt
  interface wwan0-long-name up
  refused commands: digest 2

MPT_connection_10.0.0.2 (mpt_b.conf): 1 of 2 paths work
  10.0.0.2 to 10.0.0.3 on tun0, plain
  PATH    INTERFACE    STATE           SINCE  SHARE  OUT/s  IN/s   RTT  LOSS
  path_0  eth1         up              3 min   100%  12.0M  320k  23ms  0.5%
    10.1.1.2 to 10.1.1.3  weight 1:1  heard 0.4 s ago  1.2 MB out, 0 B in
  path_1  wwan0-long…  interface down      -      -      -     -     -     -
    2001:db8::2 to 2001:db8::3  weight 10:1  not heard  1.2 MB out, 0 B in
    wwan0-long-name  peer: down  dropped enetdown 3

tun0: 10.0.0.2/24, fec0::2/64, mtu 1440
  packets out 1300, in 900, held 0
  native data path, offloads: join_tcp, udp_segment, vnet_hdr
  seals with OpenSSL 3.0.19
  dropped out: no_connection 66
"""


def changed(*paths: PathStatus, **connection: Any) -> StatusDocument:
    """Return the document with these paths, or with other facts about its connection."""
    only = replace(DOCUMENT.connections[0], **connection)
    return replace(DOCUMENT, connections=[replace(only, paths=list(paths) or only.paths)])


def test_the_text_is_aligned_and_fits_80_columns() -> None:
    """First what is wrong, then each connection with its paths; drops stand there only if they are not zero."""
    assert status_text(DOCUMENT) == TEXT
    assert max(map(len, TEXT.splitlines())) <= 80


def test_it_says_why_a_path_does_not_work_and_what_to_do() -> None:
    """The reason and the remedy stand at the top; a cause that was seen is the better remedy."""
    path = replace(OTHER, reason="the interface is down or gone", since=180.0)
    assert "is interface down for 3 min: the" in status_text(changed(PATH, path))
    path = replace(PATH, status="down", reason="no keepalive from the peer", cause="a firewall drops UDP 4711")
    text = " ".join(status_text(changed(path)).split())
    assert "! path_0 of MPT_connection_10.0.0.2 is down for 3 min: no keepalive from the peer; a firewall drops" in text
    assert "ping -I eth1 10.1.1.3" in status_text(changed(replace(path, cause=None)))
    assert "look at the status of the peer" in " ".join(
        status_text(changed(replace(PATH, peer_says_down=True))).split()
    )
    by_hand = " ".join(
        status_text(changed(replace(PATH, status="manual down", remote_address="10.1.1.3:4754"))).split()
    )
    assert "mpt path up MPT_connection_10.0.0.2/path_0" in by_hand
    assert "path_0 has no route to 10.1.1.3: why" in status_text(changed(replace(PATH, no_route="why")))


def test_a_daemon_without_trouble_names_none() -> None:
    """No line begins with the mark of a problem."""
    text = status_text(replace(changed(PATH), control_dropped={}))
    assert "!" not in text and "1 of 1 paths work" in text


def test_a_sealed_connection_tells_of_its_keys() -> None:
    """The peer's key, then cipher, key exchange and age, or why there are none; no port that nobody has is named."""
    keys = SealedStatus("sending", "A" * 43 + "=", "aes-128-gcm", "X25519MLKEM768", 3.2)
    text = status_text(changed(sealed=keys, remote_cmd_port=0, report_failure="path_1 is down: why"))
    assert text == status_text(changed(sealed=keys, remote_cmd_port=65050, report_failure="path_1 is down: why"))
    assert f"\n  sealed with {keys.peer_key}\n  aes-128-gcm, X25519MLKEM768, keys 3.2 s old\n  PATH" in text
    assert "! MPT_connection_10.0.0.2: the peer was not told that path_1 is down: why\n" in text
    none = SealedStatus("offered", keys.peer_key, reason="no answer")
    assert "! MPT_connection_10.0.0.2: there are no keys yet: no answer\n" in status_text(changed(sealed=none))


def test_a_daemon_without_connections_says_so() -> None:
    """The text says that there is no connection, instead of an empty table."""
    empty = replace(DOCUMENT, connections=())
    assert "\n\nno connection\n\ntun0" in status_text(empty)
    assert brief_text(empty) == "no connection\n"


def test_brief_is_a_line_for_each_connection() -> None:
    """The line has the number of good paths, the rates, and what is wrong."""
    assert brief_text(DOCUMENT) == ("MPT_connection_10.0.0.2  1/2 up  out 12.0M  in 320k  path_1 interface down\n")


def test_colours_change_nothing_but_colours() -> None:
    """Without the codes it is the same text, column by column."""
    coloured = status_text(DOCUMENT, Paint(True))
    assert coloured != TEXT
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == TEXT


def test_one_connection_can_be_named() -> None:
    """By its name or its file; tunnels that it does not use are left out."""
    other = replace(DOCUMENT.connections[0], name="other", file="other.conf", tunnel="tun1")
    document = replace(DOCUMENT, connections=[*DOCUMENT.connections, other])
    for name in ("MPT_connection_10.0.0.2", "mpt_b.conf"):
        assert named(document, name).connections == list(DOCUMENT.connections)
        assert [tunnel.name for tunnel in named(document, name).tunnels] == ["tun0"]
    assert named(document, "other").tunnels == []


def test_every_state_has_one_word() -> None:
    """The peer has a say in what works, or might, at this end; and an older daemon gives no word for the state."""
    words = [
        state_word(word, peer_says_down) for word in (*WORDS.values(), WAITING) for peer_says_down in (False, True)
    ]
    assert set(words) == {*WORDS.values(), WAITING, DOWN_AT_PEER}
    assert state_word("manual down", True) == "manual down" and state_word("up", True) == DOWN_AT_PEER
    assert state(replace(PATH, state="waiting")) == "waiting" and state(PATH) == "up"
    for word in words:
        assert f"`{word}`" in STATES, word


def test_the_document_comes_back_from_json() -> None:
    """Members that are not known here, of a newer daemon, are left out; anything else is an error."""
    plain = json.loads(json.dumps(changed(sealed=SealedStatus("sending", "key")).as_json()))
    plain["new"] = plain["connections"][0]["paths"][0]["new"] = 1
    assert StatusDocument.from_json(plain).as_json() == changed(sealed=SealedStatus("sending", "key")).as_json()
    for bad in ({}, {"schema": "mpt.status/2"}, {**plain, "connections": [1]}, {**plain, "tunnels": [{}]}):
        with pytest.raises(ValueError, match=r"schema|whole"):
            StatusDocument.from_json(bad)


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
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (23 * 10**9, "23.0 GB"), (10**15, "1000.0 TB")],
)
def test_octets_are_readable(count: int, text: str) -> None:
    """A size has some three digits and a unit."""
    assert octets(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (119, "119 s"), (120, "2 min"), (1e6, "12 d")]
)
def test_ages_are_readable(seconds: float, text: str) -> None:
    """An age has one number and one unit."""
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("octets_a_second", "text"),
    [(0, "0"), (40, "320"), (1250, "10k"), (124_990, "1.0M"), (12.5e6, "100M"), (2e9, "16.0G")],
)
def test_rates_are_readable(octets_a_second: float, text: str) -> None:
    """A rate is in bits, with some three digits and a unit."""
    assert rate(octets_a_second) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.0004, "0.4ms"), (0.00996, "10ms"), (0.0234, "23ms"), (1.23, "1.2s")])
def test_round_trips_are_readable(seconds: float, text: str) -> None:
    """A round trip has two digits or more."""
    assert milliseconds(seconds) == text


def test_an_adaptive_path_says_what_is_not_as_usual() -> None:
    """Its state and why, its cost, and how much of its quota is used."""
    quota = {"octets": 20 * 10**9, "period": "month", "used": 5 * 10**9, "begun": "2026-11-01", "ends": "2026-12-01"}
    first = DOCUMENT.connections[0].paths[0]
    usual = replace(first, adaptive={"state": "active", "reason": "it carries bulk", "cost": "free", "quota": None})
    other = replace(
        first, adaptive={"state": "gated", "reason": "it loses too much", "cost": "metered", "quota": quota}
    )
    assert status_text(changed(usual)) == status_text(changed(first))
    known = replace(first, adaptive={"state": "active", "capacity": 1_250_000.0})
    assert "carries 10.0M" in status_text(changed(known)) and "carries" not in status_text(changed(first))
    text = status_text(changed(other))
    for part in ("gated: it loses too much", "metered", "25% of its quota is used"):
        assert part in text


@pytest.mark.parametrize("status", [UP, "waiting", "interface down"])
@pytest.mark.parametrize("interface", ["eth0", "a-very-long-name"])
def test_colours_mark_what_is_said(status: str, interface: str) -> None:
    """A state by its word, wherever its column is; heads and details; without the marks the text is the same."""
    paths = [replace(each, status=status, state=None, interface=interface) for each in DOCUMENT.connections[0].paths]
    document = replace(DOCUMENT, connections=[replace(DOCUMENT.connections[0], name="my (own)", paths=paths)])
    text = status_text(document, Paint(True))
    assert re.sub(r"\x1b\[[\d;]*m", "", text) == status_text(document)
    colour = {UP: "32", "waiting": "33", "interface down": "1;31"}[status]
    assert len(re.findall(rf"^  path_\d  \S+ +\x1b\[{colour}m{status} *\x1b\[0m", text, re.MULTILINE)) >= 1
    assert "\x1b[1mmy (own)\x1b[0m (mpt_b.conf): \x1b[" in text
    assert "\x1b[2m  PATH " in text and "\x1b[2m    10.1.1.2 to 10.1.1.3  weight" in text
