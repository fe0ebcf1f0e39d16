"""The C program at the other end: its exchanges, octet by octet, with its quirks (guide 4.7; docs/protocol.md)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from ipaddress import IPv4Interface, ip_address
from pathlib import Path

import pytest

from mpt.config.writer import connection_text
from mpt.control.initiator import create_request, path_status_request
from mpt.control.merge import created_connection, joined_connection, read_peer_side
from mpt.control.responder import ConnectionCreate
from mpt.model import Address, AuthType, TunnelConfig
from mpt.wire.command import TEXT_FOR_C, Result
from tests.control.peers import A_END, KEY, TEXT, NotingHost, Side, begin, connection

TUNNEL_ADDRESSES = "00000000000000000000ffff0a000002" + "00000000000000000000ffff0a000003"
ADDRESSES: tuple[Address, Address] = (ip_address("10.1.1.2"), ip_address("10.1.1.3"))  # ours, the peer's
PATH = "00000000000000000000ffff0a010102" + "00000000000000000000ffff0a010103"


TUNNEL = TunnelConfig("tun0", ipv4_addr=IPv4Interface("10.0.0.3/24"))


def c_digest(datagram: bytes) -> bytes:
    """Return a datagram as the C program signs it: 32 characters of the key behind it."""
    digest = hashlib.sha256(datagram[:8] + bytes(32) + datagram[40:] + KEY[:32].encode()).digest()
    return datagram[:8] + digest + datagram[40:]


def c_replies(reply: bytes) -> list[bytes]:
    """Return the datagrams of the C server: a reply whose length has bit 7 set goes out twice."""
    return [reply, reply] if len(reply) & 0x80 else [reply]


def c_server_round_4(request: bytes, text: str) -> bytes:
    """Return the C server's answer to a create: its text, 36 octets short, and the digest of what is left."""
    head = bytearray(request[:76])
    head[1], head[40] = 0, 4
    return c_digest((bytes(head) + text.encode())[:-36])


def test_our_path_status_change_at_a_c_server() -> None:
    """Type 0: what we send is what the C client sends, and a server that answers each round twice is no trouble."""
    asked = begin(Side(NotingHost()), path_status_request(connection(), *ADDRESSES, up=False))
    assert asked.sent == [bytes.fromhex("a2800000 01040000" + TUNNEL_ADDRESSES + "20000000")]
    round_2 = bytes.fromhex("a2000000 02040000" + TUNNEL_ADDRESSES + "20000000")
    for reply in (round_2, round_2):
        asked.reply(reply)
    assert asked.sent[1:] == [bytes.fromhex("a2800000 03040000" + TUNNEL_ADDRESSES + PATH)]
    for reply in [bytes.fromhex("a2000000 04040000" + TUNNEL_ADDRESSES)] * 2:
        asked.reply(reply)
    assert [outcome.result for outcome in asked.outcomes] == [Result.DONE]


def test_our_path_status_change_at_a_c_server_with_a_random_number() -> None:
    """Type 1, with the random number of a live C server."""
    asked = begin(Side(NotingHost()), path_status_request(connection(auth_type=AuthType.RANDOM), *ADDRESSES, up=True))
    assert asked.sent == [bytes.fromhex("a2000104 00000000 01040000" + TUNNEL_ADDRESSES + "20000000")]
    asked.reply(bytes.fromhex("a2000104 a57a514b 02040000" + TUNNEL_ADDRESSES + "20000000"))
    assert asked.sent[1:] == [bytes.fromhex("a2000104 a57a514b 03040000" + TUNNEL_ADDRESSES + PATH)]
    asked.reply(bytes.fromhex("a2000104 a57a514b 04040000" + TUNNEL_ADDRESSES))
    assert asked.outcomes[0].ok


def test_a_c_client_changes_a_path_here() -> None:
    """Types 0 and 2, and what it gets is what the C server would send."""
    host = Side(NotingHost([connection(3, 2)]))
    assert host.ask(bytes.fromhex("a2800000 01040000" + TUNNEL_ADDRESSES + "20000000")) == [
        bytes.fromhex("a2000000 02040000" + TUNNEL_ADDRESSES + "20000000")
    ]
    assert host.ask(bytes.fromhex("a2800000 03040000" + TUNNEL_ADDRESSES + PATH)) == [
        bytes.fromhex("a2000000 04040000" + TUNNEL_ADDRESSES)
    ]
    assert [change.up for change in host.host.changes] == [False]
    host = Side(NotingHost([connection(3, 2, AuthType.SHA256)]))
    head = "a2800224 00000000" + "00" * 32
    (offer,) = host.ask(c_digest(bytes.fromhex(head + "01040000" + TUNNEL_ADDRESSES + "20000000")))
    assert offer == c_digest(offer) and offer[4:8] != bytes(4)
    third = bytearray(bytes.fromhex(head + "03040000" + TUNNEL_ADDRESSES + PATH))
    third[4:8] = offer[4:8]
    (answer,) = host.ask(c_digest(bytes(third)))
    assert answer == c_digest(answer) and len(answer) == 76 and answer[1] == 0
    assert len(host.host.changes) == 1


@pytest.mark.parametrize("networks", [0, 1])
def test_our_create_at_a_c_server(networks: int) -> None:
    """No random number, long replies twice, 36 octets missing, and a text that is read from its 5th octet."""
    own = connection()
    text = connection_text(own, [path.status for path in own.paths], 60456, TEXT_FOR_C)
    asked = begin(Side(NotingHost()), create_request(own, text))
    round_2 = bytearray(asked.sent[0])
    round_2[1], round_2[40] = 0, 2
    for reply in c_replies(c_digest(bytes(round_2))):
        asked.reply(reply)
    request = asked.sent[1]
    assert len(asked.sent) == 2 and request[4:8] == bytes(4) and len(request) <= 1600
    read_by_c = request[76 + 4 :].decode()
    assert read_peer_side(read_by_c) == read_peer_side(text)
    theirs = connection(3, 2)
    answer = connection_text(theirs, [path.status for path in theirs.paths], 60456)
    if networks:
        answer += "\n[net_0]\nip_ver           = 4\nsrc_addr         = 0.0.0.0/0\ndst_addr         = 10.0.0.2/32\n"
    for reply in c_replies(c_server_round_4(request, answer)) * 2:
        asked.reply(reply)
    assert [outcome.ok for outcome in asked.outcomes] == [True]
    joined = joined_connection(own, read_peer_side(asked.outcomes[0].text))
    assert joined == replace(own, paths=joined.paths) and joined.remote_port == 23456


@pytest.mark.parametrize("echoes_random", [True, False])
def test_a_c_client_creates_a_connection_here(echoes_random: bool) -> None:
    """Its buffer for replies is no larger than its request, and its text has headings; ours is never cut."""
    client = connection()
    text = connection_text(client, [path.status for path in client.paths], 60456)
    template = replace(connection(3, 2), name="Template", max_buffdelay_msec=60_000)

    class Creating(NotingHost):
        def create(self, request: ConnectionCreate) -> tuple[int, str]:
            peer = read_peer_side(request.text)
            made = created_connection(template, peer, request.peer, Path("x"), TUNNEL)
            statuses = [path.status for path in made.paths]
            super().create(request)
            return Result.DONE, connection_text(made, statuses, 60456, request.reply_limit)

    host = Side(Creating())
    head = "a3000224 00000000" + "00" * 32
    size = len(text).to_bytes(4, "little").hex()
    (offer,) = host.ask(c_digest(bytes.fromhex(head + "01040000" + TUNNEL_ADDRESSES + size)))
    third = bytearray(bytes.fromhex(head + "03040000" + TUNNEL_ADDRESSES) + text.encode())
    if echoes_random:
        third[4:8] = offer[4:8]
    request = c_digest(bytes(third))
    (answer,) = host.ask(request)
    received = answer[: len(request)]
    assert received == c_digest(received), "the C client would see a wrong digest"
    peer = read_peer_side(received[76:].decode())
    assert peer.ip_remote == client.ip_local and len(peer.paths) == 2
    assert host.ask(request) == [answer] and len(host.host.creates) == 1


def test_a_c_client_without_round_1_is_refused() -> None:
    """The C server would create the connection, also from a recording."""
    host = Side(NotingHost())
    request = c_digest(bytes.fromhex("a3000224 00000000" + "00" * 32 + "03040000" + TUNNEL_ADDRESSES) + TEXT.encode())
    (answer,) = host.ask(request, A_END)
    assert answer[1] == Result.ROUND_MISMATCH and not host.host.creates
