"""Public addresses that the configuration leaves open."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.names import client, dns

from mpt.control.responder import PathStatusChange
from mpt.daemon.peerrequests import PeerRequests
from mpt.model import Permission, unspecified
from mpt.wire.command import Result
from tests.daemon.stage import GENERAL, Run, Stage, connection, path

OPEN = connection(path(1, public_ipaddr=unspecified(4), private_ipaddr=unspecified(4)), path(2))


class Resolver:
    """Instead of twisted.names': the test answers."""

    asked: list[tuple[Any, str, Deferred[Any]]]

    def __init__(self, servers: list[tuple[str, int]], reactor: Any) -> None:
        self.servers = servers

    def lookupAddress(self, name: str, timeout: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        Resolver.asked.append((self.servers, name, answer))
        return answer


@pytest.fixture
def stage(run: Run, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A daemon that was told to ask 192.0.2.53."""
    Resolver.asked = []
    monkeypatch.setattr(client, "Resolver", Resolver)
    general = replace(GENERAL, public_address_resolver=ip_address("192.0.2.53"))
    return run(OPEN, general=general)


def test_nobody_is_asked_unless_a_resolver_is_configured(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data path works all the same."""
    Resolver.asked = []
    monkeypatch.setattr(client, "Resolver", Resolver)
    stage = run(OPEN)
    assert Resolver.asked == []
    assert stage.statuses() == ["OK", "OK"]


def test_the_resolvers_answer_is_the_public_address_of_the_open_paths(stage: Stage) -> None:
    """The configured name is asked for, at the configured server."""
    servers, name, answer = Resolver.asked[0]
    assert (servers, name) == ([("192.0.2.53", 53)], "myip.opendns.com")
    answer.callback(([dns.RRHeader(name, dns.A, payload=dns.Record_A("198.51.100.9"))], [], []))
    assert stage.root.public_addresses.found == {("c", 0): ip_address("198.51.100.9")}


@pytest.mark.parametrize("how", ["empty", "error"])
def test_a_resolver_that_does_not_answer_is_reported_and_no_more(stage: Stage, how: str) -> None:
    """No address, no exception."""
    answer = Resolver.asked[0][2]
    answer.callback(([], [], [])) if how == "empty" else answer.errback(TimeoutError("no answer"))
    assert stage.root.public_addresses.found == {}
    assert stage.statuses() == ["OK", "OK"]


def test_stopping_ends_the_question(stage: Stage) -> None:
    """Nothing is left that could fire later."""
    answer = Resolver.asked[0][2]
    stage.stop()
    assert answer.called


def test_what_the_peer_calls_us_is_learned(run: Run) -> None:
    """A peer that reports a path names both of its ends."""
    stage = run(replace(OPEN, permission=Permission.RECEIVE))
    (running,) = stage.root.runs.connections()
    policy = PeerRequests(stage.root.runs, stage.root.public_addresses)
    change = PathStatusChange(running.config, ip_address("198.51.100.9"), ip_address("10.1.1.3"), True)
    assert policy.path_status(change) == Result.DONE
    assert str(running.public_address(running.paths[0])) == "198.51.100.9"
    assert str(running.public_address(running.paths[1])) == "10.2.2.2"
