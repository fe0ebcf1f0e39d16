"""The status port: what it answers, over a transport in memory, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from mpt.daemon import statusport
from mpt.daemon.statusport import ASSETS, MOST_CALLERS, StatusPort
from mpt.errors import HostError
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


def ask(target: str, host: str = "127.0.0.1:9400", method: str = "GET", place: StatusPlace = PLACE) -> Answer:
    """Return the answer to one request."""
    reactor = MemoryReactorClock()
    port = StatusPort(reactor, place, lambda: DOCUMENT, history, lambda after: {"last": after})
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
    port = StatusPort(MemoryReactorClock(), PLACE, lambda: DOCUMENT, history, lambda after: {"last": after})
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

    def missing(document: object) -> tuple[bytes, str]:
        raise ImportError("prometheus_client")

    monkeypatch.setattr(statusport, "_metrics", missing)
    answer = ask("/metrics")
    assert answer.code == 503 and b"pip install '.[metrics]'" in answer.content
    assert ask("/status.json").code == 200


def test_it_listens_where_the_configuration_says(run: Run, tmp_path: Path) -> None:
    """Nowhere without the key; a refused socket is one line with the key's name."""
    reactor = MemoryReactorClock()
    port = StatusPort(reactor, PLACE, lambda: DOCUMENT, history, lambda after: {})
    port.startService()
    assert [(each[0], each[3]) for each in reactor.tcpServers] == [(9400, "127.0.0.1")]
    port.stopService()
    place = StatusPlace(ip_address("0.0.0.0"), 0, str(tmp_path / "s"))
    unix = StatusPort(reactor, place, lambda: DOCUMENT, history, lambda after: {})
    unix.startService()
    assert reactor.unixServers[0][0] == str(tmp_path / "s")
    assert GENERAL.status_listen is None
    stage = run(connection(path(1)))
    assert not any(isinstance(service, StatusPort) for service in stage.root)
