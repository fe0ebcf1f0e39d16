"""What goes into one end comes out of the other: in order, once, over whatever network, with every data path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

from mpt.data.framing import Sealed
from mpt.testing.datapath import Stage
from mpt.testing.network import Link
from mpt.wire.seal import Cipher
from tests import IS_FAST, some
from tests.accel.loopback import loopback_stage
from tests.contract.conftest import SEALING
from tests.pair.pair import Pair

try:
    from mpt.accel.native import NativeDataPath
except ImportError:
    NativeDataPath = None  # type: ignore[assignment, misc]  # not built

SEEDS = range(2 if IS_FAST else 5)
MAKERS = {"python": Stage.in_memory}
if NativeDataPath is not None:
    MAKERS["native"] = lambda: loopback_stage(NativeDataPath)

PairOf = Callable[..., Pair]


@pytest.fixture(params=MAKERS)
def pair_of(request: pytest.FixtureRequest) -> Iterator[PairOf]:
    """Makes the pair of a test, of one data path or the other, from what Pair takes."""
    made: list[Pair] = []

    def make(*links: tuple[Link, Link], **options: Any) -> Pair:
        made.append(Pair(MAKERS[request.param], *links, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def both(**properties: float | bool) -> tuple[Link, Link]:
    """Return a path with the same properties in both directions."""
    return Link(**properties), Link(**properties)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("delays", some([(0.01,), (0.0, 0.04), (0.03, 0.001, 0.015, 0.0), (0.01, 0.01)]))
def test_all_comes_out_in_order(pair_of: PairOf, delays: tuple[float, ...], version: int) -> None:
    """Over one to four paths of different delays everything arrives, in both directions."""
    pair = pair_of(*(both(delay=delay) for delay in delays), version=version)
    pair.talk(1.0, 1000)
    pair.settle()
    # Only what the very first packet overtook is lost: before it there is nothing to be in order with.
    assert all(number < 50 for number in pair.missing("a") + pair.missing("b"))
    assert pair.a.counters().packets_held == pair.b.counters().packets_held == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_loss_and_duplication_cost_only_what_was_lost(pair_of: PairOf, seed: int) -> None:
    """On paths that keep their order exactly the packets that the network lost are missing."""
    pair = pair_of(
        both(delay=0.01, jitter=0.005, loss=0.05, duplication=0.05),
        both(delay=0.03, jitter=0.01, loss=0.02, duplication=0.1),
        seed=seed,
    )
    pair.talk(0.1, 20, "a")  # first of all, one after the other
    pair.talk(2.0, 800)
    pair.settle()
    overtaken = [number for each in "ab" for number in pair.missing(each) if number < 30]
    assert 0 <= len(pair.missing("a") + pair.missing("b")) - pair.network.lost <= len(overtaken)
    for stage in (pair.a, pair.b):
        assert stage.counters().ingress_dropped.keys() <= {"duplicate", "late"}


@pytest.mark.parametrize("seed", SEEDS)
def test_paths_that_reorder_cost_order_nothing(pair_of: PairOf, seed: int) -> None:
    """If the paths themselves change the order, what comes out is still in order and once, and nearly all of it."""
    pair = pair_of(*(both(delay=0.01, jitter=0.02, fifo=False, duplication=0.02) for _ in range(3)), seed=seed)
    pair.talk(2.0, 800)
    pair.settle()
    assert len(pair.missing("a")) + len(pair.missing("b")) < 0.03 * 3200


def test_without_a_window_nothing_waits(pair_of: PairOf) -> None:
    """With reorder_window = 0 everything comes out as it arrives, in no order, and nothing is held."""
    pair = pair_of(both(delay=0.0), both(delay=0.04), window=0)
    pair.talk(0.5, 1000)
    assert pair.a.counters().packets_held == 0
    pair.settle()
    assert sorted(pair.got["b"]) == pair.sent["a"] != pair.got["b"]


def test_a_path_is_pulled_and_plugged_in_again(pair_of: PairOf) -> None:
    """A black hole swallows what it is sent; from the moment that both hosts know, nothing more is lost."""
    pair = pair_of(both(delay=0.01), both(delay=0.02))
    pair.talk(1.0, 500)
    pair.settle()
    at_the_start = len(pair.missing("a") + pair.missing("b"))  # what the very first packet overtook
    for _ in range(3):
        before = set(pair.missing("b"))
        silent = len(pair.sent["a"])
        for link in pair.links[1]:
            link.up = False
        pair.talk(0.3, 500)
        known = len(pair.sent["a"])
        pair.set_paths(0)
        pair.talk(1.0, 500)
        for link in pair.links[1]:
            link.up = True
        pair.set_paths(0, 1)
        pair.talk(1.0, 500)
        pair.settle()
        swallowed = set(pair.missing("b")) - before
        assert swallowed and silent <= min(swallowed) and max(swallowed) < known
    assert len(pair.missing("a") + pair.missing("b")) == at_the_start + pair.network.lost


def test_packets_are_shared_out_by_weight(pair_of: PairOf) -> None:
    """Paths of weights 3:1 carry three quarters and one quarter, counted at both ends."""
    pair = pair_of(both(), both())
    pair.set_paths(0, 1, weights=(3, 1))
    pair.talk(1.0, 400, "a")
    pair.settle()
    assert [path.packets_sent for path in pair.a.counters().paths.values()] == [300, 100]
    assert [path.packets_received for path in pair.b.counters().paths.values()] == [300, 100]


@pytest.mark.parametrize("rate", [5, 1000])
def test_a_host_restarts(pair_of: PairOf, rate: int) -> None:
    """A daemon that starts anew is followed within a second, without a word to the other."""
    pair = pair_of(both(delay=0.01), both(delay=0.03))
    pair.talk(4.0, rate)
    pair.settle()
    pair.restart("a")
    restarted = len(pair.sent["a"])
    pair.talk(3.0, rate)
    pair.settle()
    lost = [number for number in pair.missing("b") if number >= restarted]
    assert max(lost, default=0) < restarted + rate
    assert not [number for number in pair.missing("a") if number > 50]


# --- sealed ---

CIPHERS = list(Cipher)


@pytest.fixture(params=[name for name in MAKERS if f"{name} on loopback" in SEALING or name == "python"])
def sealed_pair_of(request: pytest.FixtureRequest) -> Iterator[PairOf]:
    """The same with a session."""
    made: list[Pair] = []

    def make(*links: tuple[Link, Link], order: Literal["flow", "connection"], **options: Any) -> Pair:
        made.append(Pair(MAKERS[request.param], *links, framing=Sealed(order), **options))
        made[-1].rekey()
        made[-1].settle()
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("order", ["flow", "connection"])
@pytest.mark.parametrize("delays", some([(0.0, 0.04), (0.02, 0.03)]))
def test_new_keys_under_load_cost_nothing(
    sealed_pair_of: PairOf, delays: tuple[float, ...], order: Literal["flow", "connection"]
) -> None:
    """20 sessions one after the other, in both directions, over paths of different delay: nothing is lost, repeated or
    put out of order, and every datagram opens."""
    pair = sealed_pair_of(*(both(delay=delay, jitter=0.01) for delay in delays), order=order)
    pair.talk(0.1, 20, "a")
    pair.talk(0.1, 20, "b")
    for turn in range(20):
        pair.talk(0.1, 1000)
        pair.rekey(CIPHERS[turn % 3])
    pair.talk(0.1, 1000)
    pair.settle()
    assert pair.missing("a") == pair.missing("b") == []
    assert pair.a.counters().ingress_dropped == pair.b.counters().ingress_dropped == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sealed_network_may_lose_and_repeat(sealed_pair_of: PairOf, seed: int) -> None:
    """What was lost is missing; what comes twice is a replay, and known before it is opened."""
    links = both(delay=0.01, loss=0.05, duplication=0.05), both(delay=0.03, loss=0.02, duplication=0.1)
    pair = sealed_pair_of(*links, order="connection", seed=seed)
    pair.talk(0.5, 20)
    pair.talk(1.0, 800)
    pair.settle()
    assert len(pair.missing("a") + pair.missing("b")) <= pair.network.lost
    for stage in (pair.a, pair.b):
        assert stage.counters().ingress_dropped.keys() <= {"seal_replay", "late"}
