"""The guard: never worse than the best line alone."""

from __future__ import annotations

from collections.abc import Hashable

from mpt.control.guard import FIRST_BAN, FORGET, LONGEST_BAN, SPAN, Carried, Guard

RATE = 5_000_000.0  # octets a second


class Run:
    """Two paths, "good" and "bad", that carry shares of RATE while time goes by in looks of 10 ms."""

    def __init__(self) -> None:
        self.guard = Guard()
        self.now = 100.0
        self.octets = {"good": 0.0, "bad": 0.0}

    def go(self, good: float, bad: float, seconds: float, waits: float = 1.0, repeated: float = 0.0) -> list[object]:
        """Let the paths carry these shares; return which ones were taken out."""
        taken: list[object] = []
        for step in range(round(seconds / 0.010)):
            self.now += 0.010
            self.octets["good"] += good * RATE * 0.010
            self.octets["bad"] += bad * RATE * 0.010
            paths: dict[Hashable, Carried] = {
                "good": Carried(self.octets["good"], 0.0, RATE, 0.010, True),
                "bad": Carried(
                    self.octets["bad"],
                    repeated * self.octets["bad"],
                    RATE / 2,
                    0.050,
                    not self.guard.is_out("bad", self.now),
                ),
            }
            out = self.guard.look(paths, step % 10 < 10 * waits, self.now)
            if out is not None:
                taken.append(out)
        return taken


def test_less_than_the_best_alone_takes_the_worst_out() -> None:
    """After a span with waiting packets, for ten seconds."""
    run = Run()
    assert run.go(0.6, 0.2, SPAN + 0.050) == ["bad"]
    assert run.guard.is_out("bad", run.now) and not run.guard.is_out("good", run.now)
    assert run.guard.out_until("bad") - run.now > FIRST_BAN - 0.1


def test_more_than_the_best_alone_is_well() -> None:
    """The sum counts."""
    assert Run().go(0.8, 0.3, 20.0) == []


def test_without_waiting_packets_it_says_nothing() -> None:
    """The sender did not want more."""
    assert Run().go(0.1, 0.1, 20.0, waits=0.5) == []


def test_what_was_repeated_does_not_count() -> None:
    """Copies and resends are no goodput."""
    assert Run().go(0.8, 0.3, SPAN + 0.050, repeated=0.9) == ["bad"]


def test_a_path_that_does_it_again_is_out_for_longer() -> None:
    """10, 20, 40, 60 s; after a long good time it is trusted anew."""
    run = Run()
    lengths = []
    for _ in range(5):
        while not run.go(0.6, 0.2, 0.5):
            pass
        lengths.append(round(run.guard.out_until("bad") - run.now))
        run.go(1.0, 0.0, run.guard.out_until("bad") - run.now + 0.5)
    assert lengths == [10, 20, 40, LONGEST_BAN, LONGEST_BAN]
    run.go(1.0, 0.5, FORGET + 1.0)
    while not run.go(0.6, 0.2, 0.5):
        pass
    assert round(run.guard.out_until("bad") - run.now) == FIRST_BAN


def test_one_path_alone_is_never_taken_out() -> None:
    """There is nothing better."""
    guard = Guard()
    for step in range(1000):
        assert guard.look({"only": Carried(step, 0.0, RATE, 0.0, True)}, True, step * 0.010) is None
