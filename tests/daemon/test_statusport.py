"""The status port: what it answers, over a transport in memory, and what it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from mpt.daemon.statusport import ASSETS, MOST_CALLERS, StatusPort
from mpt.errors import HostError
from mpt.local.metrics import AT_ONCE, exposition, exposition_pieces
from mpt.model import StatusPlace
from tests.daemon.stage import GENERAL, Run, connection, path
from tests.local.test_status import DOCUMENT

PLACE = StatusPlace(ip_address("127.0.0.1"), 9400)


class Answer(NamedTuple):
    code: int
    headers: Mapping[str, str]
    content: bytes


def history(name: str) -> Mapping[str, Any]:
    if name != "home":
        raise HostError(f"there is no connection {name}")
    return {"schema": "mpt.history/1", "connection": name}


async def metrics() -> bytes:
    return exposition(DOCUMENT)


def ask(target: str, host: str = "127.0.0.1:9400", method: str = "GET", place: StatusPlace = PLACE) -> Answer:
    """Return the answer to one request."""
    reactor = MemoryReactorClock()
    port = StatusPort(reactor, place, lambda: DOCUMENT, history, lambda after: {"last": after}, metrics)
    transport = StringTransport()
    protocol = port._callers.buildProtocol(None)
    protocol.makeConnection(transport)
    protocol.dataReceived(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    head, _, content = transport.value().partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return Answer(int(status.split()[1]), dict(field.split(": ", 1) for field in fields), content)


def test_the_page_and_its_files_come_from_here_alone() -> None:
    """Every file is there, has its type, and may load nothing from anybody else."""
    for name, (file, kind) in ASSETS.items():
        answer = ask("/" + name.decode())
        assert answer.code == 200 and answer.headers["Content-Type"] == kind, file
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "http" not in policy and "unsafe-eval" not in policy
    page = ask("/").content.decode()
    assert "//" not in page.replace("<!doctype html>", "") and "onclick" not in page


def test_the_documents_are_those_of_the_commands() -> None:
    """The page has its numbers from the document that `mpt status --json` prints."""
    assert json.loads(ask("/status.json").content) == DOCUMENT.as_json()
    assert json.loads(ask("/history.json?name=home").content)["connection"] == "home"
    assert json.loads(ask("/events.json?after=17").content) == {"last": 17}
    assert json.loads(ask("/events.json").content) == {"last": 0}
    missing = ask("/history.json?name=%ff%00")
    assert missing.code == 404 and missing.content.startswith(b"there is no connection")


@pytest.mark.parametrize("target", ["/events.json?after=x", "/events.json?after=", "/events.json?after=-1"])
def test_a_bad_number_is_told(target: str) -> None:
    """As a sentence that says what to write, not as everything there is."""
    answer = ask(target)
    assert answer.code == 400 and b"is no number of an event: /events.json?after=NUMBER" in answer.content


@pytest.mark.parametrize("target", ["/history.json", "/history.json?name=", "/history.json?nmae=home"])
def test_a_history_needs_a_name(target: str) -> None:
    """What is missing is told, with the form of the question."""
    answer = ask(target)
    assert answer.code == 400 and b"is missing: /history.json?name=NAME" in answer.content


def test_the_metrics_are_prometheus_text() -> None:
    """Each family has one type; the values are those of the document, in base units."""
    answer = ask("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(answer.content.decode())}
    sent = {sample.labels["path"]: sample.value for sample in families["mpt_path_sent_bytes"].samples}
    assert sent == {"path_0": 1_234_567, "path_1": 1_234_567}
    (trip,) = families["mpt_path_round_trip_seconds"].samples
    assert trip.value == 0.0234 and trip.labels["interface"] == "eth1"
    (loss,) = families["mpt_path_loss_ratio"].samples
    assert loss.value == 0.005
    assert [sample.value for sample in families["mpt_path_up"].samples] == [1, 0]
    drops = {(s.labels["direction"], s.labels["reason"]): s.value for s in families["mpt_tunnel_drops"].samples}
    assert drops == {("out", "send_error"): 0, ("out", "no_connection"): 66, ("in", "tun_error"): 0, ("in", "late"): 0}
    enabled = [sample.value for sample in families["mpt_path_enabled"].samples]
    assert enabled == [1, 1]
    assert answer.headers["Content-Type"].startswith("text/plain; version=")


def test_callers_that_stay_leave_descriptors_for_the_tunnels() -> None:
    """Beyond MOST_CALLERS a connection is closed at once; when one has gone there is room again."""
    port = StatusPort(MemoryReactorClock(), PLACE, lambda: DOCUMENT, history, lambda after: {"last": after}, metrics)
    callers = [port._callers.buildProtocol(None) for _ in range(MOST_CALLERS)]
    for each in callers:
        each.makeConnection(StringTransport())
    assert port._callers.buildProtocol(None) is None
    callers[0].connectionLost(Failure(ConnectionDone()))
    assert port._callers.buildProtocol(None) is not None


def test_it_is_to_look_at_only() -> None:
    """Whatever changes something is refused; HEAD has no content; what is not there is 404."""
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        refused = ask("/status.json", method=method)
        assert (refused.code, refused.headers["Allow"]) == (405, "GET, HEAD")
    head = ask("/status.json", method="HEAD")
    assert head.code == 200 and head.content == b"" and int(head.headers["Content-Length"]) > 100
    for target in ("/../../etc/passwd", "/page.js/x", "/nothing", "/%2e%2e/model.py"):
        assert ask(target).code == 404, target


@pytest.mark.parametrize("host", ["localhost", "localhost:9400", "127.0.0.1", "[::1]:9400", "10.1.1.2:9400"])
def test_a_request_that_names_this_host_is_answered(host: str) -> None:
    """By a name of the loopback, or by an address, which no foreign name can be."""
    assert ask("/status.json", host).code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9400", "localhost.evil.example", "", "127.0.0.1.nip.io"]
)
def test_a_request_that_names_another_host_is_refused(host: str) -> None:
    """A name that somebody else controls may lead to the loopback; a browser would let its page read the answer."""
    answer = ask("/status.json", host)
    assert answer.code == 421 and b"path" not in answer.content


def test_on_a_unix_socket_any_name_will_do() -> None:
    """No browser reaches it."""
    assert ask("/status.json", "anything", place=StatusPlace(ip_address("0.0.0.0"), 0, "/run/x.sock")).code == 200


def test_without_the_library_the_metrics_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page works all the same."""

    async def missing() -> bytes:
        raise ImportError("prometheus_client")

    monkeypatch.setattr(sys.modules[__name__], "metrics", missing)
    answer = ask("/metrics")
    assert answer.code == 503 and b"pip install '.[metrics]'" in answer.content
    assert ask("/status.json").code == 200


def test_the_metrics_are_made_once_for_all_who_ask_meanwhile() -> None:
    """Who goes before they are there gets nothing, and HEAD their length alone; the next one asks for new ones."""
    making: list[Deferred[bytes]] = []

    async def slowly() -> bytes:
        making.append(Deferred())
        return await making[-1]

    port = StatusPort(MemoryReactorClock(), PLACE, lambda: DOCUMENT, history, lambda after: {}, slowly)
    callers = []
    for method in ("GET", "GET", "HEAD"):
        protocol, transport = port._callers.buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(f"{method} /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        callers.append((protocol, transport))
    assert [transport.value() for _, transport in callers] == [b"", b"", b""] and len(making) == 1
    callers[1][0].connectionLost(Failure(ConnectionDone()))
    making[0].callback(b"mpt_up 1\n")
    answers = [transport.value() for _, transport in callers]
    assert answers[0].endswith(b"\r\n\r\nmpt_up 1\n") and answers[1] == b""
    assert answers[2].endswith(b"\r\n\r\n") and b"Content-Length: 9\r\n" in answers[2]
    callers[0][0].dataReceived(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert len(making) == 2
    making[1].errback(ValueError("a bug"))
    assert b" 500 " in callers[0][1].value()[len(answers[0]) :]


def test_the_metrics_of_a_server_are_made_in_slices(run: Run) -> None:
    """Each sample is there once, with the text of its family before it, and the daemon does other work meanwhile."""
    peers = [replace(connection(), name=f"c{n}", ip_remote=ip_address(f"10.0.0.{n}")) for n in range(3, 250)]
    stage = run(*peers)
    pieces = list(exposition_pieces(stage.root.operations.status()))
    assert len(pieces) > 30 and max(piece.count(b"\n") for piece in pieces) <= AT_ONCE + 2

    class Slow:
        """A machine on which each step takes a millisecond."""

        reactor = stage.reactor

        def now(self) -> float:
            self.reactor.rightNow += 0.001
            return self.reactor.rightNow

    stage.root._machine = Slow()  # type: ignore[assignment]
    results: list[bytes] = []
    ensureDeferred(stage.root._metrics()).addCallback(results.append)
    assert results == []
    for _ in range(1000):
        stage.reactor.advance(0.01)
    (text,) = results
    families = list(text_string_to_metric_families(text.decode()))
    assert len({family.name for family in families}) == len(families)
    (paths,) = (family for family in families if family.name == "mpt_path_up")
    assert {sample.labels["connection"] for sample in paths.samples} == {each.name for each in peers}


def test_it_listens_where_the_configuration_says(run: Run, tmp_path: Path) -> None:
    """Nowhere without the key; a refused socket is one line with the key's name."""
    reactor = MemoryReactorClock()
    port = StatusPort(reactor, PLACE, lambda: DOCUMENT, history, lambda after: {}, metrics)
    port.startService()
    assert [(each[0], each[3]) for each in reactor.tcpServers] == [(9400, "127.0.0.1")]
    port.stopService()
    place = StatusPlace(ip_address("0.0.0.0"), 0, str(tmp_path / "s"))
    unix = StatusPort(reactor, place, lambda: DOCUMENT, history, lambda after: {}, metrics)
    unix.startService()
    assert reactor.unixServers[0][0] == str(tmp_path / "s")
    assert GENERAL.status_listen is None
    stage = run(connection(path(1)))
    assert not any(isinstance(service, StatusPort) for service in stage.root)
