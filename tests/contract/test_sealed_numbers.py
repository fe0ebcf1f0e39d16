"""A number of a session, path and direction is never used twice: a machine that tries everything the interface has.

AES-GCM and ChaCha20-Poly1305 lose all secrecy of a key with which two datagrams have one nonce.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import ExitStack
from typing import Any, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from mpt.data.framing import Plain
from mpt.data.pathtable import ConnectionRow
from mpt.testing.datapath import Stage, closing, connection_row, numbered, path_row
from mpt.testing.session import PeerSession
from mpt.wire.seal import Envelope, SessionKeys, envelope, is_sealed
from tests.contract.conftest import DATA_PATHS, SEALING
from tests.contract.sealed import KEEPALIVE, OTHER_PLACE, content, place, sealed_row

TUNNELS = {"a": ("10.0.0.2", "10.0.0.3"), "b": ("10.0.1.2", "10.0.1.3")}
connections = st.sampled_from(sorted(TUNNELS))
# Of a path: its key's number, its id, whether it has a socket and an address. Ids are given to other keys, even twice.
paths = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans(), st.booleans()), max_size=3, unique_by=lambda p: p[0]
)


class Numbers(RuleBasedStateMachine):
    """Two connections and their sessions; every datagram that leaves is opened by a peer that knows all keys."""

    make: Callable[[], Stage]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.sessions: dict[int, PeerSession] = {}  # by the index in datagrams from us
        self.taken: list[tuple[str, SessionKeys]] = []  # the keys that were given away
        self.used: set[Envelope] = set()
        self.start()

    def start(self) -> None:
        self.stage = self.stack.enter_context(closing(type(self).make()))
        self.wans = [self.stage.new_socket() for _ in range(2)]
        self.row_of: dict[str, ConnectionRow] = {}
        self.set_connection("a", [(0, 0, True, True)], 1, "sealed")
        self.session_begins("a", True)

    def teardown(self) -> None:
        self.look()
        self.stack.close()

    def look(self) -> None:
        """Every number that was sent is new."""
        for wan in self.wans:
            for datagram, _ in wan.sent():
                if is_sealed(datagram):
                    header = envelope(datagram)
                    self.sessions[header.session].open(datagram)
                    assert header not in self.used, "a nonce was used twice"
                    self.used.add(header)

    @rule(name=connections, ways=paths, weight=st.integers(1, 3), how=st.sampled_from(("sealed", "plain", "gone")))
    def set_connection(self, name: str, ways: list[tuple[int, int, bool, bool]], weight: int, how: str) -> None:
        local, remote = TUNNELS[name]
        rows = [
            path_row(
                (name, key),
                self.wans[key % 2] if has_socket else None,
                id=path_id,
                weight=weight,
                **{} if has_address else {"remote": ()},  # type: ignore[arg-type]
            )
            for key, path_id, has_socket, has_address in ways
        ]
        self.row_of.pop(name, None)
        if how == "sealed":
            order: Literal["flow", "connection"] = "flow" if name == "b" else "connection"
            self.row_of[name] = sealed_row(*rows, key=name, local=local, remote=remote, order=order, window=4)
        elif how == "plain":
            usable = [row for row in rows if row.remote]
            self.row_of[name] = connection_row(*usable, key=name, local=local, remote=remote, framing=Plain())
        self.stage.set_table(*self.row_of.values())

    @rule()
    def same_table(self) -> None:
        self.stage.set_table(*self.row_of.values())

    @rule(name=connections, seals=st.booleans())
    def session_begins(self, name: str, seals: bool) -> None:
        session = PeerSession()
        keys = session.keys()
        self.sessions[session.peer_index] = session
        try:
            self.stage.datapath.add_session(name, keys, self.stage.now)
        except KeyError:
            return
        self.taken.append((name, keys))
        if seals:
            self.stage.datapath.send_with(name, session.index, self.stage.now)

    @rule(data=st.data(), name=connections)
    def keys_again(self, data: st.DataObject, name: str) -> None:
        if self.taken:
            _, keys = data.draw(st.sampled_from(self.taken))
            with pytest.raises((ValueError, KeyError)):
                self.stage.datapath.add_session(name, keys, self.stage.now)

    @rule(data=st.data(), name=connections, none=st.booleans())
    def session_switched(self, data: st.DataObject, name: str, none: bool) -> None:
        if none or not self.taken:
            self.stage.datapath.send_with(name, None, self.stage.now)
            return
        _, keys = data.draw(st.sampled_from(self.taken))
        try:
            self.stage.datapath.send_with(name, keys.index, self.stage.now)
        except KeyError:
            pass

    @rule(data=st.data())
    def session_ends(self, data: st.DataObject) -> None:
        if self.taken:
            name, keys = data.draw(st.sampled_from(self.taken))
            self.stage.datapath.end_session(name, keys.index)

    @rule(name=connections, key=st.integers(0, 2), wan=st.integers(0, 1))
    def remote_moves(self, name: str, key: int, wan: int) -> None:
        self.stage.datapath.set_remote((name, key), self.wans[wan], place(OTHER_PLACE), self.stage.now)

    @rule(name=connections, key=st.integers(0, 2), weight=st.integers(0, 3))
    def shares_change(self, name: str, key: int, weight: int) -> None:
        self.stage.datapath.set_shares({(name, key): weight}, self.stage.now)

    @rule(name=connections, count=st.integers(1, 5))
    def packets_go(self, name: str, count: int) -> None:
        self.stage.send(*numbered(count, 0, *TUNNELS[name]))
        self.look()

    @rule(name=connections, key=st.integers(0, 2), elsewhere=st.booleans())
    def message_goes(self, name: str, key: int, elsewhere: bool) -> None:
        path: Hashable = (name, key)
        to = (self.wans[1], place(OTHER_PLACE)) if elsewhere else None
        self.stage.datapath.send(path, KEEPALIVE, self.stage.now, to)
        self.look()

    @rule(data=st.data())
    def datagram_comes(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(list(self.sessions.values())))
        self.stage.receive(self.wans[0], session.seal(content(0), data.draw(st.integers(0, 2))))

    @rule()
    def start_again(self) -> None:
        """The data path is closed, and another made: the tunnel interface was removed."""
        self.look()
        self.stage.datapath.close()
        for name in TUNNELS:
            with pytest.raises(KeyError):
                self.stage.datapath.add_session(name, PeerSession().keys(), self.stage.now)
        self.start()


@pytest.mark.parametrize("name", [name for name in SEALING if name in ("python in memory", "native on loopback")])
def test_no_number_is_used_twice(name: str) -> None:
    """Tables, shares, addresses, sessions that begin, end and are switched, keys that are offered again, new data
    paths: whatever is done, no datagram has a number that another one of its session and path had."""
    machine: Any = type("Numbers", (Numbers,), {"make": staticmethod(DATA_PATHS[name])})
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40))
