"""Sealed connections between two whole daemons in memory."""

from __future__ import annotations

import base64
from ipaddress import ip_address, ip_interface
from itertools import pairwise
from typing import Any, cast

import pytest

from mpt.control import session
from mpt.control.admission import LOG_LINES
from mpt.control.keyexchange import Established, Place
from mpt.control.pathmtu import CONFIRM_TIME
from mpt.daemon.peerrequests import PeerRequests
from mpt.daemon.roundtrips import EVERY
from mpt.daemon.sealedlink import SealedLink
from mpt.daemon.sealedpath import SealedPath
from mpt.data.counters import Reason
from mpt.data.events import Moved
from mpt.wire.command import encode_keepalive
from mpt.wire.seal import PATH_IDS
from tests.daemon.logged import logged
from tests.daemon.sealedpair import (
    A_KEYS,
    B_KEYS,
    OTHER_KEYS,
    QUICK,
    UNKNOWN,
    SealedPair,
    a_side,
    b_side,
    paths,
    peer_path,
    report_failure,
    sealed,
)
from tests.daemon.stage import PACKET, REPLY, Run, connection, path


def test_two_hosts_that_know_each_other(run: Run) -> None:
    """Keys, both paths, packets both ways, and what the status says; nothing of it in the clear."""
    pair = SealedPair(run)
    took = pair.until(lambda: sealed(pair.a)["cipher"] is not None and sealed(pair.b)["cipher"] is not None, 2.0)
    assert took <= 0.3
    pair.until(lambda: [each["status"] for stage in (pair.a, pair.b) for each in paths(stage)] == ["up"] * 4, 1.0)
    assert pair.carries()
    found = sealed(pair.a)
    assert found["peer_key"] != sealed(pair.b)["peer_key"] and found["key_exchange"] == "X25519MLKEM768"
    assert found["keys_age"] < 1 and found["reason"] is None


def connected(run: Run, **named: Any) -> SealedPair:
    """Return a pair whose paths all work."""
    pair = SealedPair(run, **named)
    pair.until(lambda: all(each["status"] == "up" for stage in (pair.a, pair.b) for each in paths(stage)), 3.0)
    assert pair.carries()
    return pair


def test_a_responder_without_an_address_learns_everything(run: Run) -> None:
    """Also the number of paths: those beyond its sections have the settings of its last one."""
    pair = SealedPair(run, a=a_side(path(1, **QUICK), path(1, **QUICK)), b=b_side(peer_path(1, **UNKNOWN)))
    pair.pass_time(1.0)
    assert [each["status"] for each in paths(pair.a)] == ["up", "up"]
    assert [(each["name"], each["status"]) for each in paths(pair.b)] == [("path_0", "up"), ("path_1", "up")]
    assert pair.carries()
    pair.b.root.runs.tunnels[0].connections["c"].switch(1, False)
    pair.until(lambda: paths(pair.a)[1]["peer_says_down"], 1.0)
    pair.a_changes(a_side(path(1, **QUICK)))
    pair.until(pair.carries, 3.0)
    assert [(each["name"], each["status"]) for each in paths(pair.b)] == [("path_0", "up")]


def test_a_change_of_the_ways_lets_the_sizes_be_looked_at(run: Run) -> None:
    """They may now lead over a narrower line: the next probe does not wait for its minute."""
    pair = SealedPair(run)
    pair.pass_time(10.0)

    def wait() -> float:
        link = pair.a.root.runs.tunnels[0].connections["c"].link
        assert link is not None
        return (link._sizes._sizes._next_deadline() or 0.0) - pair.a.reactor.seconds()

    assert 30.0 < wait() < CONFIRM_TIME - 9.0
    pair.a.netlink.add_address("eth1", ip_interface("10.77.7.7/24"))
    pair.pass_time(0.2)
    assert wait() > CONFIRM_TIME - 1.0  # since the probe that has just passed


def test_a_peer_that_shows_64_paths_at_once_costs_little(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data path gets their shares in one go; the log has no line for each of them."""
    pair = SealedPair(run, a=a_side(path(1, **QUICK)), b=b_side(peer_path(1, **UNKNOWN)))
    pair.until(pair.carries, 5.0)
    tunnel = pair.b.root.runs.tunnels[0]
    connection, datapath, now = tunnel.connections["c"], tunnel.datapath, pair.b.reactor.seconds()
    connection._want_paths(PATH_IDS)
    pair.pass_time(0.5)
    place, given = cast("SealedPath", connection.paths[0]).peer_place, list[int]()
    assert isinstance(place, Place) and datapath is not None and connection.link is not None
    connection.link._roaming.shown(place, now)
    moves = [Moved(each.key, place.socket, place.address, 100, now) for each in connection.paths[1:]]
    monkeypatch.setattr(datapath, "take_events", lambda: [moves.pop(0) for _ in range(len(moves))])
    monkeypatch.setattr(datapath, "set_shares", lambda shares, _now: given.append(sum(map(bool, shares.values()))))
    with logged() as log:
        tunnel._worked(datapath)
        pair.pass_time(0.05)
    assert given == [PATH_IDS]
    assert sum("the peer is" in line for line in log.of("info")) <= LOG_LINES.burst


def test_more_paths_wait_for_a_table_that_may_not_take_all_the_time(run: Run) -> None:
    """The keys need none, so a path that is there works at once, however many clients begin."""
    pair = SealedPair(run, a=a_side(path(1, **QUICK), path(1, **QUICK)), b=b_side(peer_path(1, **UNKNOWN)))
    pair.b.root.runs.tunnels[0]._tables._seconds = 0.1
    pair.pass_time(0.9)
    assert [each["status"] for each in paths(pair.b)] == ["up", "waiting"] and pair.carries()
    pair.until(lambda: [each["status"] for each in paths(pair.a)] == ["up", "up"], 2.0)
    assert [each["status"] for each in paths(pair.b)] == ["up", "up"]


def test_the_age_of_a_state_follows_the_peer_and_the_keys(run: Run) -> None:
    """A path that the peer takes down has another state from then on, and again when it may be used."""
    pair = connected(run)
    pair.pass_time(5.0)
    for up, state in ((False, "down (peer)"), (True, "up")):
        pair.b.root.runs.tunnels[0].connections["c"].switch(1, up)
        pair.pass_time(2.0)
        one, two = paths(pair.a)
        assert (one["state"], two["state"]) == ("up", state)
        assert one["since"] > 5.0 and two["since"] == pytest.approx(2.0, abs=0.2)
    pair.b.root.runs.tunnels[0].connections["c"].switch(1, False)
    pair.pass_time(2.0)
    pair.a.ask("path down path_1")
    pair.pass_time(1.0)
    assert paths(pair.a)[1]["state"] == "manual down"
    assert paths(pair.a)[1]["since"] == pytest.approx(1.0, abs=0.2)


def test_a_packet_is_a_sign_of_life(run: Run) -> None:
    """While packets come no keepalives do, and the peer is heard all the same."""
    pair = connected(run)
    pair.pass_time(13.0)
    assert min(each["heard_age"] for each in paths(pair.a)) > 10.0
    for _ in range(2):  # over each path
        assert pair.carries()
    assert max(each["heard_age"] for each in paths(pair.a)) < 0.5
    assert [each["keepalive_age"] for each in paths(pair.a)] == [each["heard_age"] for each in paths(pair.a)]


@pytest.mark.parametrize("who", ["a", "b"])
def test_a_daemon_that_was_killed_is_back_soon(run: Run, who: str) -> None:
    """Both begin by themselves where both know an address."""
    pair = connected(run)
    pair.pass_time(30.0)
    pair.kill(who)
    assert pair.until(pair.carries, 2.0) < 2.0


def test_a_killed_server_is_asked_by_the_client(run: Run) -> None:
    """It knows no address; the client, which has traffic, doubts all paths at once, and begins anew in some 3 s."""
    pair = connected(run, b=b_side(peer_path(1, **UNKNOWN), peer_path(2, **UNKNOWN)))
    pair.pass_time(30.0)
    assert all(pair.carries() for _ in range(30))
    pair.kill("b")
    died = pair.a.reactor.seconds()
    pair.until(pair.carries, 5.0)
    assert pair.a.reactor.seconds() - died < 3.5
    pair.kill("a")
    assert pair.until(pair.carries, 2.0) < 2.0


def test_keys_are_renewed_under_traffic(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty times: no packet is lost by it, none comes twice, all are in order."""
    monkeypatch.setattr(session, "RENEW_AFTER", 5.0)
    pair = connected(run, a=a_side(reorder_window=100), b=b_side(reorder_window=100))
    pair.b.tun.delivered()
    ages = [sealed(pair.a)["keys_age"]]
    sent: list[bytes] = []
    arrived: list[bytes] = []
    while sum(later < earlier for earlier, later in pairwise(ages)) < 20:
        for _ in range(5):
            sent.append(PACKET[:20] + len(sent).to_bytes(8, "big"))
            pair.a.tun.inject(sent[-1])
            pair.a.reactor.read_all()
            pair.cables.exchange()
        pair.pass_time(0.05)
        arrived += pair.b.tun.delivered()
        ages.append(sealed(pair.a)["keys_age"])
    assert arrived == sent and len(sent) > 5000


def test_the_wrong_key_is_named(run: Run) -> None:
    """Once, at both ends; the paths wait."""
    with logged() as log:
        pair = SealedPair(run, keys=(OTHER_KEYS, B_KEYS))
        pair.pass_time(60.0, step=0.25)
    assert [each["status"] for each in paths(pair.a)] == ["waiting", "waiting"]
    assert "refuses" in sealed(pair.a)["reason"] and not pair.carries()
    assert len([text for text in log.of("warn") if "no new keys" in text]) <= 3
    assert any("no connection has this key" in text for text in log.of("info"))


def test_a_peer_that_does_not_answer_is_named(run: Run) -> None:
    """And found as soon as it is there."""
    pair = SealedPair(run)
    pair.cables.cut = {1, 2}
    pair.kill("a")
    pair.pass_time(2.0)
    assert sealed(pair.a)["reason"] == "the handshake is under way"
    pair.pass_time(1.5)
    assert "does not answer" in sealed(pair.a)["reason"] and "mpt client add" in sealed(pair.a)["reason"]
    pair.pass_time(30.0, step=0.25)
    assert "does not answer" in sealed(pair.a)["reason"]
    pair.cables.cut = set()
    pair.until(pair.carries, 18.0)


def test_a_clean_stop_is_told(run: Run) -> None:
    """The peer forgets the keys at once, and says why it waits."""
    pair = connected(run)
    link = pair.a.root.runs.tunnels[0].connections["c"].link
    assert link is not None
    link.stop()
    pair.pass_time(0.1)
    assert sealed(pair.b)["cipher"] is None and paths(pair.b)[0]["status"] == "waiting"


def test_a_reload_of_one_side_makes_new_keys(run: Run) -> None:
    """The restart of a connection closes its session; the other side follows."""
    pair = connected(run)
    before = sealed(pair.b)["keys_age"]
    pair.a.ask("restart")
    pair.until(pair.carries, 2.0)
    assert sealed(pair.b)["keys_age"] < before + 1


def test_a_path_that_is_cut_is_silent_soon_and_returns(run: Run) -> None:
    """Asked three times in a second when nothing comes; the other one carries on, without new keys."""
    pair = connected(run)
    pair.cables.cut = {1}
    assert pair.until(lambda: pair.carries() and paths(pair.a)[0]["status"] == "down", 5.0) < 5.0
    assert paths(pair.a)[1]["status"] == "up" and sealed(pair.a)["keys_age"] > 1
    pair.cables.cut = set()
    pair.until(lambda: paths(pair.a)[0]["status"] == "up" and paths(pair.b)[0]["status"] == "up", 20.0)


def test_a_path_that_is_taken_down_here_is_down_there(run: Run) -> None:
    """And up again: the reports travel in the session."""
    pair = connected(run)
    pair.a.ask("path down 10.1.1.2 10.1.1.3")
    pair.until(lambda: paths(pair.b)[0]["peer_says_down"], 1.0)
    assert pair.carries()
    pair.a.ask("path up 10.1.1.2 10.1.1.3")
    pair.until(lambda: not paths(pair.b)[0]["peer_says_down"], 3.0)


def test_a_path_that_the_peer_has_not_is_reported_once(run: Run) -> None:
    """A server has a line more than its client: the client has seen the report, though it concerns no path there."""
    pair = SealedPair(run, a_side(path(1, **QUICK)), b_side(peer_path(1, **UNKNOWN), peer_path(2, **UNKNOWN)))
    pair.until(lambda: sealed(pair.b)["cipher"] is not None, 2.0)
    with logged() as log:
        pair.b.netlink.set_carrier("eth2", False)
        pair.pass_time(40.0, step=0.25)
    assert "interface" in paths(pair.b)[1]["reason"] and pair.carries()
    assert report_failure(pair.b) is None and not any("not told" in text for text in log.of("warn"))


def test_reports_that_no_path_can_carry_are_no_news(run: Run) -> None:
    """The paths themselves say why they do not work; with a path that works, the peer's silence is told."""
    pair = connected(run)
    with logged() as log:
        pair.cables.cut = {1, 2}
        pair.pass_time(100.0, step=0.25)
        assert [each["status"] for each in paths(pair.a)] == ["down", "down"]
        assert report_failure(pair.a) is report_failure(pair.b) is None
        pair.cables.cut = set()
        pair.until(pair.carries, 70.0)
    assert not any("not told" in text for text in log.of("warn"))


def test_a_path_is_named_by_where_its_peer_was_found(run: Run) -> None:
    """The server has no address of the peer in its files; the paths there stay as they are after a new command."""
    pair = connected(run, b=b_side(peer_path(1, **UNKNOWN), peer_path(2, **UNKNOWN)))
    said = pair.b.ask("path down 10.1.1.3 10.1.1.9").text
    assert said.endswith("there are: 10.1.1.3 10.1.1.2, 10.2.2.3 10.2.2.2")
    pair.b.ask("path down 10.1.1.3 10.1.1.2")
    pair.until(lambda: paths(pair.a)[0]["peer_says_down"], 1.0)
    pair.b.ask("path up 10.1.1.3 10.1.1.2")
    pair.until(lambda: all(each["status"] == "up" for each in (*paths(pair.a), *paths(pair.b))), 3.0)


def test_plain_and_sealed_connections_share_a_port(run: Run) -> None:
    """The first octet tells them apart; the plain one stays as it is."""
    plain = connection(name="plain", ip_local=ip_address("fec0::2"), ip_remote=ip_address("fec0::3"), ip_ver=6)
    pair = SealedPair(run, more=(plain,))
    pair.until(pair.carries, 2.0)
    keepalive = encode_keepalive(6, plain.ip_remote, plain.ip_local)
    pair.a.receive(1, keepalive)
    assert pair.a.statuses("plain")[0] == "OK" and pair.a.datapath.counters().keepalives_received > 0
    dropped = pair.a.datapath.counters().ingress_dropped
    assert set(dropped) <= {Reason.HANDSHAKE_UNEXPECTED}  # the rest of the handshake that was dropped for the other


def test_a_plain_peer_changes_nothing_of_a_sealed_connection(run: Run) -> None:
    """No command of the guide that comes in the clear is about it."""
    pair = connected(run)
    host = PeerRequests(pair.a.machine, pair.a.root.runs)
    assert host.connection(*a_side().tunnel_pair) is None
    assert paths(pair.a)[0]["status"] == "up"


def test_nothing_secret_is_shown(run: Run) -> None:
    """Not the private key, nor a key of the session, in status or log."""
    with logged() as log:
        pair = connected(run)
        shown = str(pair.a.root.operations.status().as_json()) + "".join(log)
    assert A_KEYS.octets.hex() not in shown and base64.b64encode(A_KEYS.octets).decode() not in shown
    assert base64.b64encode(B_KEYS.public).decode() in shown


def test_a_packet_to_where_the_peer_was_found_is_a_loop(run: Run) -> None:
    """Also after a new table: it would come back out of the tunnel."""
    pair = connected(run, b=b_side(peer_path(1, **UNKNOWN), peer_path(2, **UNKNOWN)))
    pair.b.netlink.remove_interface("eth2")
    pair.b.network_changed()
    pair.pass_time(0.1)
    pair.b.tun.inject(REPLY[:16] + ip_address("10.1.1.2").packed + REPLY[20:])
    pair.pass_time(0.1)
    assert pair.b.datapath.counters().egress_dropped == {"loop": 1}


def test_a_server_hears_a_client_at_each_of_its_addresses(run: Run) -> None:
    """Also at one that none of its paths uses: the client comes by its second address, then by its first."""
    pair = SealedPair(run, a=a_side(path(2, **QUICK)), b=b_side(peer_path(1, **UNKNOWN), peer_path(2, **UNKNOWN)))
    pair.until(pair.carries, 2.0)
    pair.b.root.runs.tunnels[0]._tables.give()  # as for any other change
    pair.a_changes(a_side(path(1, **QUICK)))
    pair.until(pair.carries, 3.0)


def test_a_client_that_comes_or_goes_disturbs_no_other(run: Run) -> None:
    """No packet of the others is lost, and their keys stay."""
    other = b_side(
        peer_path(1, **UNKNOWN), name="other", ip_remote=ip_address("10.0.0.9"), peer_keys=(OTHER_KEYS.public,)
    )
    pair = connected(run, a=a_side(path(1, **QUICK)), b=b_side(peer_path(1, **UNKNOWN)))
    age = sealed(pair.b)["keys_age"]
    for _ in range(5):
        added = pair.b.root.runs.add(other)
        assert pair.carries()
        pair.b.root.runs.remove(added)
        assert pair.carries()
    assert sealed(pair.b)["keys_age"] > age


def test_a_tunnel_that_is_made_again_has_new_keys(run: Run) -> None:
    """The new data path knows none; the peer follows at once."""
    pair = connected(run)
    pair.pass_time(5.0)
    pair.a.root.runs.tunnels[0]._tun_lost()
    pair.until(pair.carries, 2.0)
    assert sealed(pair.a)["keys_age"] < 2 and sealed(pair.b)["keys_age"] < 2


def test_the_operator_names_a_path_by_where_its_peer_is(run: Run) -> None:
    """Also at the end that has no address of the peer in its file."""
    pair = connected(run, b=b_side(peer_path(1, **UNKNOWN), peer_path(2, **UNKNOWN)))
    asked = pair.b.ask("path down 10.2.2.3 10.2.2.2")
    pair.until(lambda: asked.reply is not None, 1.0)
    assert "the peer knows" in asked.text and paths(pair.a)[1]["peer_says_down"]
    assert pair.carries()


def test_a_bug_in_one_connection_keeps_no_others_handshake_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged, and the next handshake is served."""
    pair = SealedPair(run)
    good, calls = SealedLink.established, []

    def established(self: SealedLink, outcome: Established) -> None:
        calls.append(self)
        if len(calls) <= 2:
            raise ValueError("a bug")
        good(self, outcome)

    monkeypatch.setattr(SealedLink, "established", established)
    with logged() as log:
        pair.pass_time(3.0)
        for stage in (pair.a, pair.b):
            stage.ask("restart")
        pair.until(pair.carries, 5.0)
    assert log.of("critical") == ["a bug at the end of a handshake"] * 2


@pytest.mark.parametrize("scheduler", ["cycle", "adaptive"])
def test_the_round_trip_is_asked_for_where_nothing_measures_it(run: Run, scheduler: str) -> None:
    """Adaptive connections have it from their reports."""
    pair = connected(
        run, a=a_side(path(1, **QUICK), scheduler=scheduler), b=b_side(peer_path(1, **QUICK), scheduler=scheduler)
    )
    pair.pass_time(EVERY + 1)
    known = [each["round_trip"] for stage in (pair.a, pair.b) for each in paths(stage)]
    assert all(0 <= trip < 0.2 for trip in known if trip is not None)
    assert scheduler == "adaptive" or None not in known
