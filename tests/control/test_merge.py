"""What a create makes of two descriptions of one connection."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network
from pathlib import Path

import pytest

from mpt.config.directory import load_connection
from mpt.config.writer import connection_text, save
from mpt.control.merge import (
    MergeError,
    created_connection,
    file_name,
    joined_connection,
    needed_networks,
    read_peer_side,
)
from mpt.model import (
    AuthType,
    ConnectionConfig,
    GeneralConfig,
    Interface,
    Network,
    NetworkConfig,
    Status,
    TunnelConfig,
    unspecified,
)
from mpt.wire.command import Result
from tests.config.files import CREATE_CLIENT, CREATE_TEMPLATE

PORT = 60456
A, B = ip_address("10.0.0.2"), ip_address("10.0.0.3")
TUNNEL = TunnelConfig("tun0", ipv4_addr=IPv4Interface("10.0.0.3/24"), ipv6_addr=IPv6Interface("fec0::3/64"))
EVERYTHING = NetworkConfig(4, ip_network("10.0.0.2/32"), ip_network("0.0.0.0/0"))


def load(directory: Path, name: str, text: str, own: str) -> ConnectionConfig:
    """One of the two files of guide 4.7, as the daemon at `own` reads it."""
    path = directory / name
    path.write_text(text)
    tunnel = TunnelConfig("tun0", ipv4_addr=IPv4Interface(own))
    return load_connection(path, GeneralConfig(cmdport_local=PORT), (tunnel,))[0]


@pytest.fixture
def client(tmp_path: Path) -> ConnectionConfig:
    return load(tmp_path, "config_file.conf", CREATE_CLIENT, "10.0.0.2/24")


@pytest.fixture
def template(tmp_path: Path) -> ConnectionConfig:
    return load(tmp_path, "conf.template", CREATE_TEMPLATE, "10.0.0.3/24")


def text_of(connection: ConnectionConfig) -> str:
    return connection_text(connection, [path.status for path in connection.paths], PORT)


def created(client: ConnectionConfig, template: ConnectionConfig) -> ConnectionConfig:
    return created_connection(template, read_peer_side(text_of(client)), A, Path("conf/connections"), TUNNEL)


def test_the_example_of_the_guide_makes_the_other_side(client: ConnectionConfig, template: ConnectionConfig) -> None:
    """Guide 4.7: the server knows no address of its peer before, and has it all afterwards."""
    ours = created(client, template)
    assert (ours.name, ours.ip_local, ours.ip_remote) == ("MPT_connection_10.0.0.2", B, A)
    assert (ours.local_port, ours.remote_port, ours.remote_cmd_port) == (65060, 65060, PORT)
    assert (ours.reorder_window, ours.auth_key, ours.networks) == (2500, template.auth_key, ())
    assert ours.file == Path("conf/connections/peer_10_0_0_2.conf")
    first, second = ours.paths
    assert (first.public_ipaddr, first.remote_ipaddr) == (ip_address("10.1.1.3"), ip_address("10.1.1.2"))
    assert (first.weight_out, first.weight_in, second.weight_out, second.weight_in) == (70, 100, 50, 80)
    assert (first.keepalive_time, first.dead_time, first.status) == (3.0, 11.0, Status.DOWN)
    assert (first.cmd_default, first.gateway_ipaddr) == (True, ip_address("10.1.1.1"))


def test_the_client_joins_what_the_server_made(client: ConnectionConfig, template: ConnectionConfig) -> None:
    """It learns the peer's port, and with a smaller file also the other addresses; what is its own stays."""
    bare = replace(
        client, paths=(client.paths[0], replace(client.paths[1], remote_ipaddr=unspecified(4))), networks=(EVERYTHING,)
    )
    joined = joined_connection(bare, read_peer_side(text_of(created(bare, template))))
    assert joined == replace(client, remote_port=65060, networks=(EVERYTHING,))


def test_both_sides_can_be_saved_and_loaded(
    client: ConnectionConfig, template: ConnectionConfig, tmp_path: Path
) -> None:
    """After `mpt save` on both sides the connections are there after a restart."""
    server = created_connection(template, read_peer_side(text_of(client)), A, tmp_path, TUNNEL)
    joined = joined_connection(client, read_peer_side(text_of(server)))
    for side, own in ((server, "10.0.0.3/24"), (joined, "10.0.0.2/24")):
        assert side.file is not None
        save(side.file, side, [path.status for path in side.paths], PORT)
        assert load(tmp_path, side.file.name, side.file.read_text(), own) == side
    assert "##### MPT CREATE Client Example #####" in (tmp_path / "config_file.conf").read_text()


def test_a_peer_with_networks_becomes_one_network(client: ConnectionConfig, template: ConnectionConfig) -> None:
    """Everything goes to the peer's own address: a peer must not draw other traffic of the server to itself."""
    ours = created(replace(client, networks=(EVERYTHING,)), template)
    assert ours.networks == (NetworkConfig(4, ip_network("0.0.0.0/0"), ip_network("10.0.0.2/32")),)


def test_the_answer_of_the_c_program_may_end_within_a_network(
    client: ConnectionConfig, template: ConnectionConfig
) -> None:
    """36 octets are missing, of a network or of a comment: neither matters to the client."""
    for networks in ((), (EVERYTHING,)):
        answer = text_of(created(replace(client, networks=networks), template))
        whole, cut = read_peer_side(answer), read_peer_side(answer[:-36])
        assert joined_connection(client, whole) == joined_connection(client, cut)


def test_the_shorter_list_of_paths_counts(client: ConnectionConfig, template: ConnectionConfig) -> None:
    """A path that only one side has leads nowhere."""
    one = replace(template, paths=template.paths[:1])
    server = created(client, one)
    assert len(server.paths) == 1
    assert len(joined_connection(client, read_peer_side(text_of(server))).paths) == 1


def test_the_larger_window_and_the_stronger_authentication_hold(
    client: ConnectionConfig, template: ConnectionConfig
) -> None:
    """A peer cannot talk the other out of authentication."""
    strong = replace(template, auth_type=AuthType.SHA256, reorder_window=10)
    server = created(client, strong)
    joined = joined_connection(client, read_peer_side(text_of(server)))
    assert {server.auth_type, joined.auth_type} == {AuthType.SHA256}
    assert {server.reorder_window, joined.reorder_window} == {2500}


def test_a_name_that_is_taken_gets_an_address(client: ConnectionConfig, template: ConnectionConfig) -> None:
    """Names are the peer's, and two peers may have the same idea."""
    peer = read_peer_side(text_of(client))
    taken = created_connection(template, peer, A, Path("x"), TUNNEL, taken={peer.name})
    assert taken.name == "MPT_connection_10.0.0.2_10.0.0.2"
    longest = created_connection(template, replace(peer, name="n" * 64), A, Path("x"), TUNNEL, taken={"n" * 64})
    assert len(longest.name) == 64 and longest.name.endswith("_10.0.0.2")


def test_the_file_of_a_created_connection_is_named_after_the_peer() -> None:
    """The file name has the address without its separators."""
    assert file_name(ip_address("fec0::2")) == "peer_fec0__2.conf"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("[connection]", "[connectio]", r"no \[connection\]"),
        ("ip_local         = 10.0.0.2", "ip_local = 10.0.0", "ip_local"),
        ("ip_local         = 10.0.0.2", "", "ip_local"),
        ("path_count       = 2", "path_count = 0", "no paths"),
        ("path_count       = 2", "path_count = 21", "no paths"),
        ("path_count       = 2", "path_count = 3", r"no \[path_2\]"),
        ("local_cmd_port   = 60456", "local_cmd_port = 99999", "local_cmd_port"),
        ("local_port       = 65060", "local_port = 0", "local_port"),
        ("public_ipaddr    = 10.2.2.2", "public_ipaddr = 10.2.2", "public_ipaddr in .path_1"),
    ],
)
def test_a_wrong_description_says_what_is_wrong(client: ConnectionConfig, old: str, new: str, what: str) -> None:
    """The peer gets code 4, the log gets the key."""
    text = text_of(client)
    assert old in text
    with pytest.raises(MergeError, match=what) as caught:
        read_peer_side(text.replace(old, new))
    assert caught.value.result is Result.NO_CONNECTION


def test_a_description_cut_anywhere_is_read_or_refused(client: ConnectionConfig) -> None:
    """A text that is cut anywhere is read or refused."""
    text = text_of(client)
    for length in range(len(text)):
        try:
            assert len(read_peer_side(text[:length]).paths) == 2
        except MergeError:
            pass


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("public_ipaddr    = 10.1.1.2", "public_ipaddr = 2001:db8::2"),
        ("ip_remote        = 10.0.0.3", "ip_remote = fec0::3"),
    ],
)
def test_an_address_that_is_not_of_its_ip_version_is_refused(
    client: ConnectionConfig, written: str, instead: str
) -> None:
    """A path that had it could not be used."""
    text = text_of(client)
    assert written in text
    with pytest.raises(MergeError, match="not of its ip_ver"):
        read_peer_side(text.replace(written, instead))


def test_what_does_not_fit_is_refused(client: ConnectionConfig, template: ConnectionConfig) -> None:
    """Somebody else's address, another IP version, a public address that the peer does not know."""
    peer = read_peer_side(text_of(client))
    unknown = replace(peer, paths=(replace(peer.paths[0], public_ipaddr=unspecified(4)),))
    sixth = replace(peer, paths=(replace(peer.paths[0], ip_ver=6),))
    for side, sender, result in (
        (peer, ip_address("10.0.0.9"), Result.NO_CONNECTION),
        (replace(peer, ip_local=B), B, Result.NO_CONNECTION),
        (replace(peer, ip_ver=6), A, Result.NO_PATH),
        (unknown, A, Result.NO_PATH),
        (sixth, A, Result.NO_PATH),
    ):
        with pytest.raises(MergeError) as caught:
            created_connection(template, side, sender, Path("x"), TUNNEL)
        assert caught.value.result is result
    server = read_peer_side(text_of(created(client, template)))
    for side in (replace(server, ip_remote=B), replace(server, ip_ver=6)):
        with pytest.raises(MergeError):
            joined_connection(client, side)


# ---- which address a peer may have ----------------------------------------------------------------------------------


def claim(template: ConnectionConfig, client: ConnectionConfig, address: str, *needed: Network) -> ConnectionConfig:
    """Return the connection that a create makes when the peer claims `address`."""
    claimed = ip_address(address)
    side = replace(read_peer_side(text_of(client)), ip_local=claimed)
    return created_connection(template, side, claimed, Path("x"), TUNNEL, needed)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "169.254.169.254", "10.1.1.2", "10.0.1.2", "127.0.0.1", "10.0.0.0", "10.0.0.255", "224.0.0.5"],
)
def test_a_peer_can_claim_no_address_outside_of_the_tunnel(
    client: ConnectionConfig, template: ConnectionConfig, address: str
) -> None:
    """We would route to it: a create must not draw the traffic of a name server, or of another peer, to itself."""
    with pytest.raises(MergeError, match=address.replace(".", r"\.")) as caught:
        claim(template, client, address)
    assert caught.value.result is Result.NO_CONNECTION


def test_a_peer_can_claim_no_address_that_something_of_ours_needs(
    client: ConnectionConfig, template: ConnectionConfig
) -> None:
    """Another peer, an interface, a gateway, the outer address of a path, a network behind another peer."""
    router = replace(template.paths[0], gateway_ipaddr=ip_address("10.0.0.40"), remote_ipaddr=ip_address("10.0.0.41"))
    other = replace(
        template,
        ip_remote=ip_address("10.0.0.7"),
        paths=(router,),
        networks=(NetworkConfig(4, ip_network("0.0.0.0/0"), ip_network("10.0.0.64/28")), EVERYTHING),
    )
    lan = Interface("eth9", 9, True, True, 1500, (IPv4Interface("10.0.0.129/25"),))
    tun = Interface("tun0", 3, True, True, 1440, (IPv4Interface("10.0.0.3/24"),))
    needed = needed_networks([other], [lan, tun])
    for address in ("10.0.0.7", "10.0.0.40", "10.0.0.41", "10.0.0.70", "10.0.0.200"):
        with pytest.raises(MergeError, match="needed here"):
            claim(template, client, address, *needed)
    assert claim(template, client, "10.0.0.99", *needed).ip_remote == ip_address("10.0.0.99")


def test_without_a_prefix_there_is_nothing_to_claim(client: ConnectionConfig, template: ConnectionConfig) -> None:
    """A tunnel of IPv6 only has no IPv4 peers."""
    side = read_peer_side(text_of(client))
    with pytest.raises(MergeError, match="no addresses of that version"):
        created_connection(template, side, A, Path("x"), replace(TUNNEL, ipv4_addr=None))
