"""A number of a session, path and direction is never used twice, whatever is done to two daemons."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import pytest

from mpt.testing.system import FakeSystem
from mpt.wire.seal import ENVELOPE, Envelope, envelope
from tests.daemon.logged import logged
from tests.daemon.sealedpair import UNKNOWN, SealedPair, b_side, peer_path
from tests.daemon.stage import PACKET, REPLY, Run, Stage
from tests.daemon.test_tunnel import take_tun_away

STEPS = 120


class Overheard:
    """Everything that leaves two hosts, also what no cable carries."""

    def __init__(self, pair: SealedPair) -> None:
        self._pair = pair
        self.numbers: dict[str, set[Envelope]] = {"a": set(), "b": set()}
        self.twice: list[tuple[str, Envelope]] = []
        self.listen()

    def listen(self) -> None:
        """Hear the hosts, which may be new ones."""
        for name in "ab":
            system: FakeSystem = getattr(self._pair, name).system
            system.on_sent = partial(self._hear, name)

    def _hear(self, name: str, datagram: bytes) -> None:
        if datagram[0] == ENVELOPE:
            header = envelope(datagram)
            if header in self.numbers[name]:
                self.twice.append((name, header))
            self.numbers[name].add(header)


def operations(pair: SealedPair, overheard: Overheard, learns: bool) -> dict[str, Any]:
    """Everything that an operator, the machine, the network or the peer may do, by its name."""

    def stages() -> dict[str, Stage]:
        return {"a": pair.a, "b": pair.b}

    def command(name: str, text: str) -> None:
        asked = stages()[name].ask(text)  # what the peer is told of it may take longer
        pair.pass_time(0.1)
        assert asked.reply is None or asked.reply.ok, asked.text

    def interface_goes(name: str, number: int) -> None:
        stage = stages()[name]
        stage.netlink.remove_interface(f"eth{number}")
        stage.network_changed()
        pair.pass_time(0.1)
        host = 2 if name == "a" else 3
        stage.netlink.add_interface(f"eth{number}", f"10.{number}.{number}.{host}/24", f"fd0{number}::{host}/64")
        stage.network_changed()

    def carrier_goes(name: str, number: int) -> None:
        stage = stages()[name]
        for carrier in (False, True):
            stage.netlink.set_carrier(f"eth{number}", carrier)
            stage.network_changed()
            pair.pass_time(0.1)

    def cable_is_cut(number: int) -> None:
        pair.cables.cut = {number}
        pair.pass_time(3.0, step=0.25)
        pair.cables.cut = set()

    def tunnel_goes(name: str) -> None:
        take_tun_away(stages()[name])

    def killed(name: str) -> None:
        pair.kill(name)
        overheard.listen()

    found: dict[str, Any] = {
        "time goes by": partial(pair.pass_time, 1.0),
        "new keys are due": partial(pair.pass_time, 125.0, 0.5),
        "path 1 is cut": partial(cable_is_cut, 1),
        "path 2 is cut": partial(cable_is_cut, 2),
    }
    for name, (own, other) in {"a": (2, 3), "b": (3, 2)}.items():
        found[f"{name} restarts its connections"] = partial(command, name, "restart")
        found[f"{name} is killed"] = partial(killed, name)
        found[f"the tunnel interface of {name} is removed"] = partial(tunnel_goes, name)
        for number in (1, 2):
            for state in ("down", "up"):
                text = f"path {state} 10.{number}.{number}.{own} 10.{number}.{number}.{other}"
                if not (learns and name == "b"):  # which cannot name the path
                    found[f"{name}: {text}"] = partial(command, name, text)
            for what, happens in (("goes and returns", interface_goes), ("has no carrier", carrier_goes)):
                found[f"{name}: eth{number} {what}"] = partial(happens, name, number)
    return found


@pytest.mark.parametrize("learns", [False, True], ids=["both know an address", "one learns it"])
def test_whatever_is_done_no_number_is_used_twice(run: Run, learns: bool) -> None:
    """Commands, interfaces that go, cables that are cut, tunnels made again, daemons that are killed, and new keys:
    each at any time, with traffic between. At the end packets flow."""
    random = Random(1)
    pair = SealedPair(run, b=b_side(*(peer_path(number, **UNKNOWN if learns else {}) for number in (1, 2))))
    overheard = Overheard(pair)
    named = operations(pair, overheard, learns)
    order = [*named, *random.choices(list(named), k=STEPS - len(named))]
    random.shuffle(order)
    with logged() as log:
        for what in order:
            for _ in range(random.randrange(4)):
                pair.a.tun.inject(PACKET)
                pair.b.tun.inject(REPLY)
                pair.pass_time(0.1)
            named[what]()
        for what in named:
            if "path up" in what:
                named[what]()
    pair.until(pair.carries, 60.0)
    assert overheard.twice == [] and log.of("critical") == []
    assert all(len({header.session for header in numbers}) > 5 for numbers in overheard.numbers.values())
