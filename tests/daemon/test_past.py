"""The past that a daemon keeps: rates, histories, events."""

from __future__ import annotations

from math import isnan

import pytest

from mpt.daemon import histories, recentevents
from mpt.daemon.inside import Within
from mpt.limits import AdaptiveCounters, FlightMeasures
from mpt.local.history import History, Inside, Sample
from mpt.wire import gre
from tests.daemon.measuring import MEASURING, MeasuringDataPath
from tests.daemon.sealedpair import SealedPair, a_side, b_side
from tests.daemon.stage import KEEPALIVE_IN, PACKET, REPLY, Run, connection, path


def test_the_status_has_the_rates_of_the_last_second_and_the_shares(run: Run) -> None:
    """A path is too new at first; shares are of what the connection sent."""
    stage = run(connection(path(1, weight_out=1), path(2, weight_out=1)))
    first, _ = stage.root.operations.status().connections[0].paths
    assert (first.out_rate, first.share) == (0.0, None)
    stage.receive(1, KEEPALIVE_IN)
    stage.receive(2, KEEPALIVE_IN)
    for _ in range(4):
        stage.tun.inject(PACKET)
    stage.reactor.read_all()
    stage.reactor.pass_time(1.0)
    first, second = stage.root.operations.status().connections[0].paths
    assert first.out_rate == second.out_rate == 2 * len(PACKET)
    assert (first.share, second.share, first.in_rate) == (0.5, 0.5, 0.0)


def test_a_state_has_its_age(run: Run) -> None:
    """It begins with the first sign of life, and anew when the operator or the peer changes it."""
    stage = run(connection(path(1), path(2)))
    stage.reactor.pass_time(2.0)
    stage.receive(1, KEEPALIVE_IN)
    stage.receive(2, KEEPALIVE_IN)
    stage.reactor.pass_time(0.5)
    stage.ask("path down eth2")
    stage.root.runs.connections()[0].peer_says(0, False)
    stage.root.runs.connections()[0].peer_says(0, False)
    stage.reactor.pass_time(0.25)
    ages = [each.since for each in stage.root.operations.status().connections[0].paths]
    assert ages == [0.25, 0.25]


def test_the_history_of_a_connection(run: Run) -> None:
    """Every path has its levels; a name that nobody has is an error that names those there are."""
    stage = run(connection(path(1), path(2)))
    stage.reactor.pass_time(12.0)
    data = stage.ask("show history c").reply
    assert data is not None and data.data is not None
    assert [each["name"] for each in data.data["paths"]] == ["path_0", "path_1"]
    assert len(data.data["paths"][0]["levels"][0]["out_rate"]) == 12
    assert "there is no connection d; did you mean c?" not in stage.ask("show history c").text
    assert "there is no connection nobody: it must be one of c" in stage.ask("show history nobody").text


def test_the_inside_of_a_plain_connection_is_what_waits(run: Run) -> None:
    """A packet that waits for the one before it; round trip and holds are not known."""
    stage = run(connection(path(1), path(2), reorder_window=100, max_buffdelay_msec=5000))
    stage.receive(1, KEEPALIVE_IN)
    stage.receive(1, gre.encode(4, 1) + REPLY)
    stage.receive(1, gre.encode(4, 3) + REPLY)
    stage.reactor.pass_time(1.0)
    nothing = {"round_trip": None, "hold_p50": None, "hold_p99": None}
    assert stage.root.operations.status().connections[0].inside == {"waiting": 1.0, **nothing}
    assert stage.root.operations.history("c")["inside"][0]["waiting"][-1] == 1.0


def test_the_round_trip_inside_has_the_waits_of_this_end(run: Run) -> None:
    """Our queue at the rate of the lines, the round trips by what each carried, and the mean hold of this second."""
    pair = SealedPair(run, a_side(scheduler="adaptive"), b_side(scheduler="adaptive"), plane=MEASURING)
    pair.until(pair.carries, 5.0)
    stage = pair.a
    (one,) = stage.root.runs.connections()
    tunnel = stage.root.runs.tunnels[0]
    datapath, adaptation = tunnel.datapath, one.adaptation
    assert isinstance(datapath, MeasuringDataPath) and adaptation is not None
    one.paths[0].round_trip, one.paths[1].round_trip = 0.020, 0.060
    within, before = Within(History(Inside)), (5, 0, 0)
    datapath.counted = AdaptiveCounters(held=2, holds=before)
    within.look(tunnel, one, 100, [Sample(0, 0), Sample(0, 0)], 7, 1.0)
    assert within.sample is None  # nobody knows what was before
    within.look(tunnel, one, 100, [Sample(0, 0), Sample(0, 0)], 7, 2.0)
    assert within.sample is not None
    assert (within.sample.round_trip, within.sample.waiting, isnan(within.sample.hold_p50)) == (0.020, 2, True)
    datapath.counted = AdaptiveCounters(holds=(5, 0, 10))
    within.look(tunnel, one, 120, [Sample(3e6, 0), Sample(1e6, 5)], 7, 3.0)
    assert within.sample.round_trip == pytest.approx((0.030 + 0.060) / 2 + 10 * 0.003 / 20)
    assert (within.sample.hold_p50, within.sample.hold_p99) == (0.004, 0.004)
    datapath.flights[one.paths[0].key] = FlightMeasures(queue_octets=50_000)
    views = adaptation.views(4.0)
    active = {key: view._replace(state="active", rate=1e6) for key, view in views.items()}
    adaptation.views = lambda now: active
    within.look(tunnel, one, 120, [Sample(0, 0), Sample(0, 0)], 7, 4.0)
    assert within.sample.round_trip == pytest.approx(0.020 + 0.025)
    one.paths[0].round_trip = one.paths[1].round_trip = None
    datapath.counted = AdaptiveCounters(holds=(1, 0, 0))  # a new data path
    within.look(tunnel, one, 121, [Sample(0, 0), Sample(0, 0)], 7, 5.0)
    assert isnan(within.sample.round_trip) and within.sample.hold_p99 == 0.001


def test_only_so_many_paths_have_a_history(run: Run, monkeypatch: object) -> None:
    """Further paths have rates alone, so memory is bounded."""
    before = histories.MOST
    histories.MOST = 1  # type: ignore[misc]
    try:
        stage = run(connection(path(1), path(2)))
        stage.reactor.pass_time(2.0)
        kept = [stage.root.histories.history(("c", index)) for index in (0, 1)]
        assert kept[0] is not None and kept[1] is None
        assert stage.root.histories.sample(("c", 1)) is not None
    finally:
        histories.MOST = before  # type: ignore[misc]


def test_events_have_numbers_and_none_is_missed(run: Run) -> None:
    """Whoever asks with the last number gets what is new."""
    stage = run(connection(path(1), path(2)))
    data = stage.root.operations.events(0)
    assert data["schema"] == recentevents.SCHEMA and data["events"]
    last = data["last"]
    assert stage.root.operations.events(last)["events"] == []
    stage.ask("down c")
    texts = [event["text"] for event in stage.root.operations.events(last)["events"]]
    assert any("path_0 of c" in text and "manual down" in text for text in texts)
    assert stage.root.operations.events(last)["events"][0]["level"] == "warning"


def test_the_document_says_what_is_wrong(run: Run) -> None:
    """In the sentences of `mpt status`, for those who have the document alone; a document of one has its own."""
    stage = run(connection(path(1), path(2)))
    assert stage.root.operations.status().problems
    for number in (1, 2):
        stage.receive(number, KEEPALIVE_IN)
    assert stage.root.operations.status().problems == []
    stage.ask("path down eth2")
    (problem,) = stage.root.operations.status().problems
    assert problem.startswith("path_1 of c is manual down") and problem.endswith("mpt path up c/path_1")
    assert stage.root.operations.status_of("c").problems == [problem]


def test_paths_and_connections_have_names(run: Run) -> None:
    """A path is named by its interface, or by its name where only one connection has it."""
    one = connection(path(1), path(2))
    stage = run(one)
    assert "path_1 of c is manual down" in stage.ask("path down path_1").text
    assert "path_1 of c is waiting" in stage.ask("path up c/path_1").text
    assert "path_0 of c is manual down" in stage.ask("path down eth1").text
    assert "there is no path eth7; there are: c/path_0 over eth1, c/path_1 over eth2" in stage.ask("path up eth7").text
    assert "path_0 of c is waiting" in stage.ask("up c").text
    said = stage.ask("down c").text
    assert "path_0 of c is manual down" in said and "path_1 of c is manual down" in said
    assert "there is no connection x: it must be one of c" in stage.ask("up x").text
